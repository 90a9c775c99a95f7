//! Statements without tables in files: PostgreSQL's answer is right, or DuckDB's where PostgreSQL has none.
//!
//! Both engines run each statement. If they differ, or if Windlass agrees with neither, the statement must be listed in `tests/data/oracle/statements.tsv` with
//! the reason.

use super::known::Known;
use super::outside::Outside;
use super::postgres::Postgres;
use super::values::{Row, compare, rows};
use crate::Engine;
use crate::cluster::root;

/// The statements of `tests/data/oracle/statements.sql`, each with its section of the file.
fn statements() -> Vec<(String, String)> {
    let path = root().join("tests/data/oracle/statements.sql");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut part = String::new();
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        match line.strip_prefix("-- ") {
            Some(title) => title.clone_into(&mut part),
            None => found.push((part.clone(), line.trim_end_matches(';').to_owned())),
        }
    }
    found
}

async fn answer(engine: &dyn Engine, sql: &str) -> Result<Vec<Row>, String> {
    engine.sql(sql).await.and_then(|(_, batches)| rows(&batches))
}

fn agree(a: &Result<Vec<Row>, String>, b: &Result<Vec<Row>, String>, ordered: bool) -> bool {
    match (a, b) {
        (Ok(a), Ok(b)) => compare(a, b, ordered).is_ok(),
        (Err(_), Err(_)) => true,
        _ => false,
    }
}

/// Runs all statements on `engine` and compares the answers.
///
/// # Panics
/// When an answer is wrong; the message lists all wrong ones.
pub(crate) async fn run(engine: &dyn Engine) {
    let known = Known::read("statements.tsv");
    let server = Postgres::start();
    let (postgres, duckdb) = (server.connect(), Outside::duckdb());
    let (mut wrong, mut asked) = (Vec::new(), 0);
    for (part, sql) in statements() {
        let (theirs, other, ours) =
            (answer(&postgres, &sql).await, answer(&duckdb, &sql).await, answer(engine, &sql).await);
        asked += 1;
        let ordered = sql.contains(" order by ");
        let right = agree(&ours, &theirs, ordered) || (theirs.is_err() && agree(&ours, &other, ordered));
        if !right && !known.explains(&part, &sql) {
            wrong.push(format!("{sql}\n  {ours:?}\n  postgres: {theirs:?}\n  duckdb: {other:?}"));
        }
    }
    assert!(asked > 100, "only {asked} statements");
    assert!(wrong.is_empty(), "{} of {asked} answers are wrong\n{}", wrong.len(), wrong.join("\n"));
}

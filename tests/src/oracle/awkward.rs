//! Random queries over the same rows in awkward files (`tests/data/right/awkward.py`): DuckDB has the rows in memory, Windlass reads the files.

use super::known::Known;
use super::outside::Outside;
use super::values::{compare, rows};
use crate::Engine;
use crate::queries::{Author, options};

const COLUMNS: &str = "k int, n bigint, s varchar, d date, m decimal(12, 2), f double, b boolean";

/// Tables: the name, the clause that creates it, and the rows that it has.
const TABLES: [(&str, &str, &str); 8] = [
    ("bare", "stored as parquet", ""),
    ("bounds", "stored as parquet", ""),
    ("pages", "stored as parquet", ""),
    ("drifted", "stored as parquet", ""),
    ("lines", "stored as csv", "options (has_header true)"),
    ("folders", "stored as parquet partitioned by (k)", ""),
    ("named", "stored as parquet partitioned by (s)", ""),
    ("objects", "stored as json", ""),
];
/// A table that the engine itself has written.
const OWN: &str = "own";

fn names() -> Vec<&'static str> {
    TABLES.iter().map(|(name, _, _)| *name).chain([OWN]).collect()
}

async fn tell(duckdb: &Outside) {
    let truth = crate::data().join("right/awkward/truth.parquet");
    for name in names() {
        let only = match name {
            "named" => "where s is distinct from ''",
            "objects" => "where f is distinct from 'NaN'::double",
            _ => "",
        };
        let create = format!("create table {name} as select * from (select * from '{}') {only}", truth.display());
        duckdb.sql(&create).await.expect("DuckDB reads its rows");
    }
}

async fn create(engine: &dyn Engine) {
    for (name, stored, options) in TABLES {
        let location = crate::data().join("right/awkward").join(name);
        let create =
            format!("create external table {name} ({COLUMNS}) {stored} location '{}/' {options}", location.display());
        engine.sql(&create).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    engine.sql(&format!("create table {OWN} as select * from bare")).await.expect("a table can be written");
}

/// Translates a query for DuckDB.
fn for_duckdb(query: &str) -> String {
    query.replace("select value as c0 from generate_series", "select generate_series as c0 from generate_series")
}

/// Runs queries on `engine` and compares the answers.
///
/// # Panics
/// When an answer is wrong; the message lists all wrong ones. When DuckDB refuses so many queries that little is compared.
pub(crate) async fn run(engine: &dyn Engine) {
    let known = Known::read("duckdb.tsv");
    let oracles = [Outside::duckdb(), Outside::newer_duckdb()];
    for duckdb in &oracles {
        tell(duckdb).await;
    }
    create(engine).await;
    let (from, count) = super::seeds(0, 120);
    let (mut wrong, mut compared, mut excused) = (Vec::new(), 0, 0);
    for seed in from..from + count {
        let query = Author::of_tables(seed, &names()).statement();
        let mut expected = Vec::new();
        for duckdb in &oracles {
            let answer = duckdb.sql(&for_duckdb(&query)).await;
            expected.extend(answer.and_then(|(_, batches)| rows(&batches)));
        }
        let [one, other] = &expected[..] else { continue };
        let ordered = query.rsplit(')').next().is_some_and(|end| end.contains(" order by "));
        if let Err(why) = compare(one, other, ordered) {
            match known.explains("versions", &query) {
                true => excused += 1,
                false => wrong.push(format!("seed {seed}: two versions of DuckDB differ: {why}\n{query};")),
            }
            continue;
        }
        let options = options(seed);
        for option in &options {
            engine.sql(option).await.expect("the option can be set");
        }
        let answered = engine.sql(&query).await.and_then(|(_, batches)| compare(&rows(&batches)?, one, ordered));
        compared += 1;
        if let Err(why) = answered {
            match known.explains("awkward", &query) {
                true => excused += 1,
                false => wrong.push(format!("seed {seed}: {why}\n{};\n{query};", options.join("; "))),
            }
        }
    }
    for (name, ..) in TABLES {
        engine.sql(&format!("drop table {name}")).await.expect("a table can be dropped");
    }
    engine.sql(&format!("drop table {OWN}")).await.expect("a table can be dropped");
    println!("{compared} of {count} queries were compared, {excused} differ for known reasons");
    assert!(wrong.is_empty(), "{} of {compared} answers are wrong\n{}", wrong.len(), wrong.join("\n\n"));
    // DuckDB lacks semi joins of the right side, first_value with an order, and others.
    assert!(compared * 2 >= count, "DuckDB refuses {} of {count} queries", count - compared);
}

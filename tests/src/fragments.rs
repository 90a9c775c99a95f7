//! Statements that a database may compute: joins, groups and first rows, for the tests of all databases.

use crate::asking::{rows, sql};
use fastrand::Rng;
use windlass_client::Session;

/// The columns of a generated table: their names and types, and conditions over them. Beside them it has `n`, a key of whole numbers.
pub struct Columns<'a> {
    pub all: &'a [(&'a str, &'a str, &'a [&'a str])],
    /// The number says how deep a condition is.
    pub condition: &'a dyn Fn(&mut Rng, u32) -> String,
}

/// What a statement does, and the words in the server's SQL that show it.
fn statement(random: &mut Rng, columns: &Columns<'_>, table: &str) -> (String, &'static str) {
    let (key, ..) = columns.all[random.usize(..columns.all.len())];
    let (second, ..) = columns.all[random.usize(..columns.all.len())];
    let filter = if random.bool() { format!(" WHERE {}", (columns.condition)(random, 1)) } else { String::new() };
    let mut aggregate = || {
        let (name, kind, _) = columns.all[random.usize(..columns.all.len())];
        let is_number =
            ["int", "numeric", "smallint", "tinyint", "bigint", "decimal"].iter().any(|word| kind.starts_with(word));
        match random.u32(..5) {
            0 => "count(*)".to_string(),
            4 if is_number => format!("avg({name})"),
            1 => format!("count({name})"),
            2 if is_number => format!("sum({name})"),
            2 if kind.starts_with("bool") => format!("count({name})"),
            2 => format!("max({name})"),
            _ if kind.starts_with("bool") => "count(*)".to_string(),
            _ => format!("min({name})"),
        }
    };
    let (one, two) = (aggregate(), aggregate());
    let order = if random.bool() { "ASC" } else { "DESC" };
    let nulls = if random.bool() { "FIRST" } else { "LAST" };
    match random.u32(..8) {
        0 => (format!("SELECT {one} AS x, {two} AS y FROM {table}{filter}"), "pg_catalog."),
        1 => (format!("SELECT {key}, {one} AS x, {two} AS y FROM {table}{filter} GROUP BY {key}"), "GROUP BY 1"),
        2 => {
            (format!("SELECT {key}, {second}, {one} AS x FROM {table}{filter} GROUP BY {key}, {second}"), "GROUP BY 1")
        }
        3 => {
            let limit = random.u32(1..30);
            let order = format!("ORDER BY {key} {order} NULLS {nulls}, n");
            (format!("SELECT n, {key}, {second} FROM {table}{filter} {order} LIMIT {limit}"), "NULLS")
        }
        4 => {
            let join = ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"][random.usize(..4)];
            let on = format!("a.n = b.n AND a.{key} = b.{key}");
            (
                format!(
                    "SELECT a.n AS x, b.n AS y, b.{second} AS z FROM (SELECT * FROM {table}{filter}) a {join} {table} b ON {on}"
                ),
                "JOIN",
            )
        }
        5 => {
            let join = ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"][random.usize(..4)];
            let on = format!("a.{key} = b.{key}");
            (
                format!(
                    "SELECT a.{second}, count(*) AS x, count(b.n) AS y FROM (SELECT * FROM {table}{filter}) a {join} {table} b ON {on} GROUP BY a.{second}"
                ),
                "JOIN",
            )
        }
        6 => {
            let not = if random.bool() { "NOT " } else { "" };
            let exists = format!(
                "{not}EXISTS (SELECT 1 FROM (SELECT * FROM {table}{filter}) b WHERE a.{key} = b.{key} AND b.n < 50)"
            );
            (format!("SELECT a.n, a.{second} FROM {table} a WHERE {exists}"), "EXISTS")
        }
        _ => {
            let on = format!("a.{key} = b.{key}");
            let order = format!("ORDER BY a.{second} {order} NULLS {nulls}, a.n, b.n");
            (
                format!("SELECT a.n AS x, b.n AS y, a.{second} FROM {table} a JOIN {table} b ON {on} {order} LIMIT 9"),
                "NULLS",
            )
        }
    }
}

/// Rows in some order.
fn sorted(rows: &str) -> Vec<&str> {
    let mut rows: Vec<&str> = rows.lines().collect();
    rows.sort_unstable();
    rows
}

/// The first seed, `QUERIES_FROM`, and the number of statements, `QUERIES`.
pub fn seeds() -> (u64, u64) {
    let number =
        |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    (number("QUERIES_FROM", 0), number("QUERIES", 150))
}

/// Asserts that random statements over the table `pushed` have the rows that they have over `kept`, whose connector computes nothing. Returns for each the words that
/// show that it is sent, and its plan.
pub async fn same_rows(session: &Session, columns: &Columns<'_>) -> Vec<(&'static str, String)> {
    let (from, count) = seeds();
    let mut plans = Vec::new();
    for seed in from..from + count {
        let (here, _) = statement(&mut Rng::with_seed(seed), columns, "kept");
        let (there, words) = statement(&mut Rng::with_seed(seed), columns, "pushed");
        match (rows(session, &here).await, rows(session, &there).await) {
            (Ok(ours), Ok(theirs)) => assert_eq!(sorted(&theirs), sorted(&ours), "seed {seed}: {there}"),
            (Err(_), Err(_)) => {}
            (ours, theirs) => panic!("seed {seed}: {there}: {ours:?} and {theirs:?}"),
        }
        plans.push((words, sql(session, &format!("EXPLAIN {there}")).await.unwrap_or_default()));
    }
    plans
}

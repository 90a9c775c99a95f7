//! Joins, groups and first rows that the server computes are those that Windlass computes.

use super::pushdown::{COLUMNS, condition, in_database, table};
use super::*;
use fastrand::Rng;

/// What a statement does, and the words in the server's SQL that show it.
fn statement(random: &mut Rng, table: &str) -> (String, &'static str) {
    let (key, ..) = COLUMNS[random.usize(..COLUMNS.len())];
    let (second, ..) = COLUMNS[random.usize(..COLUMNS.len())];
    let filter = if random.bool() { format!(" WHERE {}", condition(random, 1)) } else { String::new() };
    let mut aggregate = || {
        let (name, kind, _) = COLUMNS[random.usize(..COLUMNS.len())];
        let is_number = kind.starts_with("int") || kind.starts_with("numeric");
        match random.u32(..4) {
            0 => "count(*)".to_string(),
            1 => format!("count({name})"),
            2 if is_number => format!("sum({name})"),
            2 if kind == "bool" => format!("count({name})"),
            2 => format!("max({name})"),
            _ if kind == "bool" => "count(*)".to_string(),
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

fn sorted(rows: &str) -> Vec<&str> {
    let mut rows: Vec<&str> = rows.lines().collect();
    rows.sort_unstable();
    rows
}

/// `QUERIES` of them, from the seed `QUERIES_FROM` on.
#[tokio::test(flavor = "multi_thread")]
async fn random_queries_have_the_same_rows_computed_there_or_here() {
    let number =
        |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (from, count) = (number("QUERIES_FROM", 0), number("QUERIES", 150));
    let server = &Postgres::start();
    scripted(server, "CREATE DATABASE shop TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'");
    let random_table = table(&mut Rng::with_seed(from), "UTF8");
    let prepare = format!(
        "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
         CREATE TYPE mood AS ENUM ('sad', 'ok', 'Happy'); {random_table}; ANALYZE"
    );
    in_database(server, "shop", &prepare);
    let session = embedded().await;
    let location = format!("postgresql://postgres@127.0.0.1:{}/shop", server.port());
    for (name, pushdown) in [("pushed", "on"), ("kept", "off")] {
        // A split for every few blocks, so that groups and first rows are put together.
        let options = format!("table 'random', pushdown '{pushdown}', split_bytes '8192'");
        let create =
            format!("CREATE EXTERNAL TABLE {name} STORED AS POSTGRES LOCATION '{location}' OPTIONS ({options})");
        done(&session, &[&create]).await;
    }
    let mut sent: std::collections::BTreeMap<&str, u64> = Default::default();
    for seed in from..from + count {
        let (here, _) = statement(&mut Rng::with_seed(seed), "kept");
        let (there, words) = statement(&mut Rng::with_seed(seed), "pushed");
        match (rows(&session, &here).await, rows(&session, &there).await) {
            (Ok(ours), Ok(theirs)) => assert_eq!(sorted(&theirs), sorted(&ours), "seed {seed}: {there}"),
            (Err(_), Err(_)) => {}
            (ours, theirs) => panic!("seed {seed}: {there}: {ours:?} and {theirs:?}"),
        }
        let plan = sql(&session, &format!("EXPLAIN {there}")).await.unwrap_or_default();
        *sent.entry(words).or_default() += u64::from(plan.contains("AS t0") && plan.contains(words));
    }
    for words in ["pg_catalog.", "GROUP BY 1", "NULLS", "JOIN", "EXISTS"] {
        let sent = sent.get(words).copied().unwrap_or_default();
        assert!(sent >= count / 50, "{words} is sent {sent} times of {count}");
    }
}

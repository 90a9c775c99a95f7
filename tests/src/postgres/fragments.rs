//! Joins, groups and first rows that the server computes are those that Windlass computes.

use super::pushdown::{COLUMNS, condition, in_database, table};
use super::*;
use crate::fragments::{Columns, sorted, statement};
use fastrand::Rng;

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
    let columns = Columns { all: &COLUMNS, condition: &condition };
    let mut sent: std::collections::BTreeMap<&str, u64> = Default::default();
    for seed in from..from + count {
        let (here, _) = statement(&mut Rng::with_seed(seed), &columns, "kept");
        let (there, words) = statement(&mut Rng::with_seed(seed), &columns, "pushed");
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

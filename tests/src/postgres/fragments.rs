//! Joins, groups and first rows that the server computes are those that Windlass computes.

use super::pushdown::{COLUMNS, condition, in_database, table};
use super::*;
use crate::fragments::{Columns, same_rows, seeds};
use fastrand::Rng;

/// `QUERIES` of them, from the seed `QUERIES_FROM` on.
#[tokio::test(flavor = "multi_thread")]
async fn random_queries_have_the_same_rows_computed_there_or_here() {
    let (from, count) = seeds();
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
    for (words, plan) in same_rows(&session, &columns).await {
        *sent.entry(words).or_default() += u64::from(plan.contains("AS t0") && plan.contains(words));
    }
    for words in ["pg_catalog.", "GROUP BY 1", "NULLS", "JOIN", "EXISTS"] {
        let sent = sent.get(words).copied().unwrap_or_default();
        assert!(sent >= count / 50, "{words} is sent {sent} times of {count}");
    }
}

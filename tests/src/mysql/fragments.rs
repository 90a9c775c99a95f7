//! Joins, groups and first rows that the server computes are those that Windlass computes.

use super::pushdown::{COLUMNS, condition, table};
use super::*;
use crate::fragments::{Columns, same_rows, seeds};
use fastrand::Rng;

/// `QUERIES` of them, from the seed `QUERIES_FROM` on.
#[tokio::test(flavor = "multi_thread")]
async fn random_queries_have_the_same_rows_computed_there_or_here() {
    let (from, count) = seeds();
    let server = &MariaDb::start();
    scripted(server, &format!("{}; ANALYZE TABLE random", table(&mut Rng::with_seed(from))));
    let session = embedded().await;
    for (name, pushdown) in [("pushed", "on"), ("kept", "off")] {
        done(&session, &[&create(server, name, "random", &format!(", pushdown '{pushdown}'"))]).await;
    }
    let columns = Columns { all: &COLUMNS, condition: &condition };
    let mut sent: std::collections::BTreeMap<&str, u64> = Default::default();
    for (_, plan) in same_rows(&session, &columns).await {
        let is_sent = plan.contains("AS t0");
        for word in ["COUNT(", "GROUP BY `c", "IS NULL, `c", "JOIN"] {
            *sent.entry(word).or_default() += u64::from(is_sent && plan.contains(word));
        }
    }
    for word in ["COUNT(", "GROUP BY `c", "IS NULL, `c", "JOIN"] {
        let sent = sent.get(word).copied().unwrap_or_default();
        assert!(sent >= count / 50, "{word} is sent {sent} times of {count}");
    }
}

/// MariaDB compares each row with each where no index serves.
#[tokio::test(flavor = "multi_thread")]
async fn joins_are_sent_where_an_index_serves() {
    let server = &MariaDb::start();
    let rows = "SELECT seq, seq, seq FROM seq_1_to_40000";
    scripted(
        server,
        &format!(
            "CREATE TABLE a (n int PRIMARY KEY, k int, t varchar(20), KEY (t)); INSERT INTO a {rows}; \
             CREATE TABLE b (n int, k int, t varchar(20), KEY (k, n)); INSERT INTO b {rows}; ANALYZE TABLE a, b"
        ),
    );
    let session = embedded().await;
    for table in ["a", "b"] {
        done(&session, &[&create(server, table, table, ", snapshot 'none'")]).await;
    }
    for (sent, join) in [
        (true, "a JOIN b ON a.n = b.n"),
        (true, "b LEFT JOIN a ON a.n = b.n"),
        (true, "a LEFT JOIN b ON a.n = b.k"),
        (true, "a LEFT SEMI JOIN b ON a.k = b.k"),
        // There is no index, or one of the other side, of another first column, or of texts.
        (false, "a JOIN b ON a.k = b.n"),
        (false, "a LEFT JOIN b ON a.n = b.n"),
        (false, "a RIGHT JOIN b ON a.k = b.k"),
        (false, "a LEFT ANTI JOIN b ON a.k = b.n"),
        (false, "a JOIN b ON a.t = b.t"),
    ] {
        let query = format!("SELECT count(*) FROM {join}");
        let plan = answers(&session, &format!("EXPLAIN {query}")).await;
        assert_eq!(plan.contains("AS t1"), sent, "{join}: {plan}");
        let expected = if join.contains("ANTI") { "0" } else { "40000" };
        assert_eq!(answers(&session, &query).await, expected, "{join}");
    }
}

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

//! Statements that are cancelled while they compute: their slots come back at once, whatever the operators do.

use crate::cluster::{Processes, root};
use std::time::{Duration, Instant};

/// Each would compute for minutes, in another way.
const ENDLESS: [(&str, &str); 4] = [
    (
        "an aggregate above a join that multiplies rows",
        "select count(*), sum(a.dep_delay + b.dep_delay) from f a cross join f b",
    ),
    (
        "a join in nested loops that finds nothing",
        "select count(*) from f a where exists (select 1 from f b where a.dep_delay + b.arr_delay < -100000)",
    ),
    (
        "a hash join of one key whose filter finds nothing",
        "select count(*) from f a join f b on a.year = b.year and a.dep_delay + b.arr_delay < -100000",
    ),
    (
        "a sort above a join that multiplies rows",
        "select a.dest, b.dest from f a cross join f b order by a.dep_delay * b.arr_delay limit 5",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn slots_come_back() {
    let cluster = Processes::start();
    let session = cluster.session().await;
    let folder = root().join("data/nycflights13/flights").display().to_string();
    let create = format!("create external table f stored as parquet location '{folder}/'");
    session.sql(create).update().await.expect("the table can be made");
    for small_query_bytes in ["0", "1000000000"] {
        session.set("windlass.small_query_bytes", small_query_bytes).await.expect("the option can be set");
        for (name, sql) in ENDLESS {
            let statement = session.sql(sql);
            let handle = statement.handle();
            let cancel = async {
                while session.status().await.is_ok_and(|status| status.executors.iter().all(|e| e.running_tasks == 0)) {
                    tokio::task::yield_now().await;
                }
                // Into the midst of it.
                tokio::time::sleep(Duration::from_millis(500)).await;
                handle.cancel().await.expect("the statement can be cancelled");
                Instant::now()
            };
            let (outcome, cancelled) = tokio::join!(statement.execute(), cancel);
            let error = outcome.err().unwrap_or_else(|| panic!("{name} came to an end")).to_string();
            assert!(error.contains("cancel"), "{name}: {error}");
            cluster.at_rest().await;
            let took = cancelled.elapsed();
            println!("{name}: slots were free after {} ms", took.as_millis());
            assert!(took < Duration::from_secs(10), "{name}: slots were held for {took:?}");
        }
    }
}

//! Excess load: joins larger than memory, and more clients than may wait.

use crate::cluster::Processes;
use futures::StreamExt;
use std::time::Duration;
use tokio::task::JoinSet;
use windlass_client::{Client, JobState, Session};

/// Two sides of wide rows, whose hash table takes several times the memory of the executors.
fn sides(rows: u64) -> [String; 2] {
    ["a", "b"].map(|name| {
        format!("(select value as k, repeat(md5(value::text), 3) as text from generate_series(1, {rows})) {name}")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_whose_hash_table_does_not_fit_sorts_and_spills() {
    // With one slot there is one partition, and with four there are four.
    for (shape, rows) in [(["1", "1", "64MiB"], 1_500_000), (["2", "2", "64MiB"], 3_500_000)] {
        let cluster = Processes::of(shape);
        let [a, b] = sides(rows);
        let stages = "set windlass.small_query_bytes = 0";
        let query =
            format!("select count(*) as n, sum(length(a.text) + length(b.text)) as l from {a} join {b} on a.k = b.k");
        assert_eq!(cluster.sql(&[stages, &query]).unwrap(), format!("n,l\n{rows},{}\n", rows * 192));
        let create = format!(
            "create table t as select a.k, length(b.text) as l, b.text < a.text as s from {a} left join {b} on a.k = b.k + 1"
        );
        let count = "select count(*) as n, count(l) as l, count(distinct k) as k from t";
        assert_eq!(cluster.sql(&[stages, &create, count]).unwrap(), format!("n,l,k\n{rows},{},{rows}\n", rows - 1));
        // NOT IN with NULLs: 7 is NULL on the left, so it is not known to differ from the others.
        let not_in = format!(
            "select count(*) as n, sum(length(a.text)) as l from {a} where nullif(a.k, 7) not in (select nullif(b.k, 0) + {} from {b})",
            rows / 2
        );
        let left = rows / 2 - 1;
        assert_eq!(cluster.sql(&[stages, &not_in]).unwrap(), format!("n,l\n{left},{}\n", left * 96));
        let cross = format!("select count(*) as n, sum(length(a.text)) as l from {a} cross join generate_series(1, 3)");
        assert_eq!(cluster.sql(&[stages, &cross]).unwrap(), format!("n,l\n{},{}\n", 3 * rows, 3 * rows * 96));
        let session = cluster.session().await;
        let jobs = session.jobs(100).await.expect("jobs are listed");
        let failed: Vec<_> = jobs.iter().filter(|job| job.state == JobState::Failed).collect();
        assert_eq!(failed.len(), 4, "these were to run out of memory, or the test shows nothing: {jobs:?}");
        let of_join = |error: &str| error.contains("HashJoinInput") || error.contains("CrossJoinExec");
        assert!(failed.iter().all(|job| of_join(&job.error)), "{failed:?}");
        // The staged files of the first try are gone.
        let files = |under: &str| files(&cluster.dir.path().join(under));
        cluster.at_rest().await;
        assert_eq!((files("executor-1/data/exchange"), files("executor-1/data/spill")), (0, 0));
    }
}

/// Two sorts in one task, each larger than memory, whose rows are merged and written in the same task.
#[tokio::test(flavor = "multi_thread")]
async fn sorts_of_one_task_spill_and_leave_room_for_who_merges_and_writes() {
    let cluster = Processes::of(["1", "2", "128MiB"]);
    let create = "create table t as select value as id, md5(value::text) as s, md5((value + 1)::text) as r \
        from generate_series(1, 2000000)";
    let sorted = "create table sorted as select * from t order by s";
    let one_task = "set windlass.small_query_bytes = 100000000000";
    let check = "select count(*) as n, sum(id) as ids, bool_and(s = md5(id::text)) as s from sorted";
    assert_eq!(cluster.sql(&[create, one_task, sorted, check]).unwrap(), "n,ids,s\n2000000,2000001000000,true\n");
    let jobs = cluster.session().await.jobs(100).await.expect("jobs are listed");
    let sorting = jobs.iter().find(|job| job.name.starts_with("create table sorted")).expect("it is a job");
    assert_eq!(sorting.tasks, 1, "the test is of one task: {sorting:?}");
}

/// Rows of 64 KB: a batch of the usual number of rows would not fit into memory.
#[tokio::test(flavor = "multi_thread")]
async fn wide_rows_are_sorted_and_joined_in_batches_of_few() {
    let cluster = Processes::of(["1", "2", "128MiB"]);
    let narrow = "set datafusion.execution.batch_size = 100";
    let create =
        "create table wide as select value as id, repeat(md5(value::text), 2000) as s from generate_series(1, 4000)";
    let usual = "reset datafusion.execution.batch_size";
    let sorted = "create table sorted as select * from wide order by s";
    let joined = "create table joined as select a.id, b.s from wide a join wide b on a.id = b.id + 1 order by a.s";
    let check = |table: &str, shift: i32| {
        format!("select count(*) as n, bool_and(s = repeat(md5((id - {shift})::text), 2000)) as s from {table}")
    };
    let said = cluster.sql(&[narrow, create, usual, sorted, joined, &check("sorted", 0), &check("joined", 1)]);
    assert_eq!(said.unwrap(), "n,s\n4000,true\nn,s\n3999,true\n");
    // The same for a constant, and for a list.
    let constant =
        "select count(distinct s) as n from (select repeat('x', 50000) || value as s from generate_series(1, 8000))";
    let listed = "select count(*) as n from (select unnest(range(0, 1000000)) from generate_series(1, 20))";
    assert_eq!(cluster.sql(&[constant, listed]).unwrap(), "n\n8000\nn\n20000000\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_rows_of_a_sort_may_be_more_than_fit() {
    let cluster = Processes::of(["2", "2", "64MiB"]);
    let top = "create table top as select value as id, md5(value::text) as s from generate_series(1, 3000000) order by s limit 1000000";
    let check = "select count(*) as n, count(distinct id) as d, max(s) < 'e' as s from top";
    let said = cluster.sql(&["set windlass.small_query_bytes = 0", top, check]).unwrap();
    assert_eq!(said, "n,d,s\n1000000,1000000,true\n");
}

fn files(dir: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(dir).expect("the folder is there").map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

/// Resident bytes of a process.
fn resident(pid: u64) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it tells its memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_are_served_or_asked_to_try_again() {
    const CLIENTS: u64 = 1_000;
    const QUEUED: u64 = 100;
    let dir = tempfile::tempdir().expect("a folder can be made");
    let config = dir.path().join("windlass.toml");
    std::fs::write(&config, format!("[primary]\nqueued_jobs = {QUEUED}\n")).expect("a file can be written");
    let config = config.display().to_string();
    let cluster = Processes::with("512MiB", &[("WINDLASS_CONFIG", &config)]);
    let primary = u64::from(cluster.session().await.status().await.expect("the cluster has a state").pid);
    let mut sizes = Vec::new();
    for wave in 0..5 {
        // Clients connect a few at a time, because a client waits 5 s for its connection, and the machine may be busy; they submit at once.
        let connect = async |_| Client::connect(&cluster.url).await.expect("every client is let in");
        let sessions: Vec<Session> = futures::stream::iter(0..CLIENTS).map(connect).buffered(50).collect().await;
        let mut clients = JoinSet::new();
        for (client, session) in (0..).zip(sessions) {
            clients.spawn(async move {
                // Some milliseconds of work, so that they do wait for each other.
                let sql = format!("select count(*) + {client} as n from generate_series(1, 100000)");
                let answer =
                    tokio::time::timeout(Duration::from_secs(120), async { session.sql(&sql).await?.collect().await });
                let answer = match answer.await.expect("no client waits for ever") {
                    Ok(batches) => {
                        let column = batches[0].column(0).as_any().downcast_ref::<arrow::array::Int64Array>();
                        Ok(column.expect("a count").value(0) as u64 - 100_000 == client)
                    }
                    Err(error) => Err(error.to_string()),
                };
                session.close().await.expect("a session can be closed");
                answer
            });
        }
        let (mut served, mut refused) = (0, 0);
        while let Some(answer) = clients.join_next().await {
            match answer.expect("no client panics") {
                Ok(right) => {
                    assert!(right, "an answer is wrong");
                    served += 1;
                }
                Err(error) => {
                    assert!(error.contains("too many jobs wait to start") && error.contains("try again"), "{error}");
                    refused += 1;
                }
            }
        }
        assert_eq!(served + refused, CLIENTS);
        assert!(served >= QUEUED, "{served} were served");
        cluster.at_rest().await;
        sizes.push(resident(primary));
        println!("wave {wave}: {served} served, {refused} asked to try again, primary {} MiB", sizes[wave] >> 20);
    }
    // The first wave fills what is kept for all that come: the history, and the allocator's own memory, which varies from wave to wave. A leak grows
    // with each wave.
    let growth = sizes[3].min(sizes[4]).saturating_sub(sizes[1].min(sizes[2]));
    assert!(growth < 64 << 20, "the primary grows by {growth} bytes: {sizes:?}");
}

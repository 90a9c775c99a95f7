//! Several primaries over a real etcd: one leads, and when it ends, the next one does.

use crate::cluster::{Restarted, run, succeed, windlass};
use crate::etcd::Etcd;
use arrow::array::ArrayRef;
use arrow::record_batch::RecordBatch;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use windlass_client::jobs::JobDetail;
use windlass_client::{Client, ClientError, JobId, JobState, Session, StageState};

pub(crate) struct Primaries {
    etcd: Etcd,
    pub dir: tempfile::TempDir,
    pub url: String,
    /// Process ids; the first primary leads at the start.
    primaries: Vec<u64>,
    /// Their addresses of REST.
    pub rest: Vec<String>,
}

impl Primaries {
    pub async fn start(count: &str) -> Self {
        let etcd = Etcd::start().await;
        let dir = tempfile::tempdir().expect("a folder can be made");
        let config = dir.path().join("windlass.toml");
        std::fs::write(&config, "[primary]\nsave_stages_after = \"0s\"\n").expect("a file can be written");
        let at = dir.path().display().to_string();
        let up = ["cluster", "up", "--primaries", count, "--etcd", &etcd.url, "--executors", "2", "--slots", "1"];
        let up = [&up[..], &["--memory", "1GiB", "--dir", &at, "--json"]].concat();
        let mut command = windlass(&up);
        command.env("WINDLASS_CONFIG", config);
        let described: serde_json::Value = serde_json::from_str(&succeed(command)).expect("the cluster is described");
        let url = described["url"].as_str().expect("it has an address").to_owned();
        let listed = described["primaries"].as_array().expect("there are primaries");
        let primaries = listed.iter().map(|primary| primary["pid"].as_u64().expect("each has a pid")).collect();
        let rest = listed.iter().map(|primary| primary["rest"].as_str().expect("each serves REST").to_owned());
        Self { etcd, dir, url, primaries, rest: rest.collect() }
    }

    pub fn signal(&self, primary: usize, signal: &str) {
        let mut kill = Command::new("kill");
        kill.args([signal, &self.primaries[primary].to_string()]);
        succeed(kill);
    }

    async fn session(&self) -> Session {
        Client::connect(&self.url).await.expect("the cluster answers")
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name).join("log")).unwrap_or_default()
    }
}

impl Drop for Primaries {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["primary", "primary-2", "primary-3", "executor-1"] {
                println!("log of {name}:\n{}", self.log(name));
            }
        }
        for primary in 0..self.primaries.len() {
            // A stopped process cannot end. It may also be gone already.
            let _ = Command::new("kill").args(["-CONT", &self.primaries[primary].to_string()]).output();
        }
        let down = run(windlass(&["cluster", "down", "--dir", &self.dir.path().display().to_string()]));
        if let Err(error) = down
            && !std::thread::panicking()
        {
            panic!("the cluster does not go down: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_outlive_their_leader_and_their_writers_go_on() {
    use crate::files::faults::{options, text, verify, write};
    use windlass_client::wfs::{FileWriter, WriteOptions};
    let cluster = Primaries::start("3").await;
    let session = cluster.session().await;
    let files = session.files();
    write(&files, "/before", 1, 2_500_000, options(2)).await;
    let blocks = WriteOptions { block_bytes: Some(1 << 20), ..options(2) };
    let mut writer = FileWriter::create(&files, "/during", blocks).await.expect("a file begins");
    let mut at = 0;
    for kill in [0, 1] {
        for _ in 0..4 {
            writer.write(text(2, at, 500_000)).await.expect("bytes are taken");
            at += 500_000;
        }
        cluster.signal(kill, "-9");
    }
    writer.write(text(2, at, 500_000)).await.expect("bytes are taken");
    writer.finish().await.expect("the file is complete");
    verify(&files, "/before", 1, 2_500_000).await;
    verify(&files, "/during", 2, at + 500_000).await;
    let listed = files.list("/", true, None, 10).await.expect("it is listed");
    assert_eq!(listed.len(), 2);
}

async fn count(session: &Session, table: &str) -> Result<u64, ClientError> {
    let batches = session.sql(format!("select count(*) as n from {table}")).await?.collect().await?;
    let text = first_value(&batches);
    Ok(text.parse().expect("a count is a number"))
}

fn first_value(batches: &[arrow::record_batch::RecordBatch]) -> String {
    let value = arrow::util::display::array_value_to_string(batches[0].column(0), 0);
    value.expect("a value can be shown")
}

async fn executors(session: &Session, wanted: usize) {
    let patience = Instant::now() + Duration::from_secs(20);
    while session.status().await.expect("the cluster has a state").executors.len() < wanted {
        assert!(Instant::now() < patience, "the executors do not attach again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn leads(cluster: &Primaries, number: usize, dead: &[usize]) -> bool {
    let name = if number == 0 { "primary".to_owned() } else { format!("primary-{}", number + 1) };
    !dead.contains(&number) && cluster.log(&name).contains("leads the cluster")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_primary_leads_when_the_leader_is_killed() {
    let cluster = Primaries::start("3").await;
    let session = cluster.session().await;
    session.sql("create table t as select value from generate_series(1, 1000)").await.expect("a table can be written");
    session.sql("create view v as select * from t where value <= 10").await.expect("a view can be made");
    let mut dead = Vec::new();
    for round in 0..2 {
        let leads = (0..3).find(|number| leads(&cluster, *number, &dead)).expect("one of them leads");
        dead.push(leads);
        let killed = Instant::now();
        cluster.signal(leads, "-KILL");
        let rows = count(&session, "t").await.expect("the same session goes on");
        let gap = killed.elapsed();
        assert_eq!(rows, 1000 + round);
        println!(
            "after kill -9 of the leader, a client that was there before had its next answer in {} ms",
            gap.as_millis()
        );
        assert!(gap < Duration::from_secs(8), "{gap:?}");
        executors(&session, 2).await;
        assert_eq!(count(&session, "v").await.expect("views are there"), 10);
        session.sql("insert into t values (11)").await.expect("the new leader writes");
    }
    assert_eq!(count(&cluster.session().await, "t").await.expect("a new session is served"), 1002);
    let listed = succeed(windlass(&["cluster", "status", "--dir", &cluster.dir.path().display().to_string()]));
    assert!(listed.contains("executor-1") && listed.contains("executor-2"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_wakes_up_late_changes_nothing_and_stands_by() {
    let cluster = Primaries::start("2").await;
    let session = cluster.session().await;
    session.sql("create table t as select 1 as a").await.expect("a table can be written");
    cluster.signal(0, "-STOP");
    let stopped = Instant::now();
    let fresh = cluster.session().await;
    println!("a new client found the new leader {} ms after the old one stopped", stopped.elapsed().as_millis());
    executors(&fresh, 2).await;
    println!("executors were attached to it after {} ms", stopped.elapsed().as_millis());
    fresh.sql("create table u as select 2 as a").await.expect("the new leader writes");
    cluster.signal(0, "-CONT");
    let patience = Instant::now() + Duration::from_secs(10);
    while !cluster.log("primary").contains("stands by") {
        assert!(Instant::now() < patience, "the old leader does not step down: {}", cluster.log("primary"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The session of the old leader finds the new one, and both see everything.
    for session in [&session, &fresh, &cluster.session().await] {
        assert_eq!(count(session, "t").await.expect("t is there"), 1);
        assert_eq!(count(session, "u").await.expect("u is there"), 1);
    }
    // A standby can lead again after it has led before.
    cluster.signal(1, "-KILL");
    assert_eq!(count(&fresh, "u").await.expect("the first one leads again"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_keeps_its_options_and_says_what_it_lost() {
    let cluster = Primaries::start("2").await;
    let (session, other) = (cluster.session().await, cluster.session().await);
    session.set("datafusion.execution.time_zone", "+05:00").await.expect("an option can be set");
    other.sql("create temporary table mine as select 1 as a").await.expect("a temporary table can be made");
    cluster.signal(0, "-TERM");
    let patience = Instant::now() + Duration::from_secs(20);
    while !cluster.log("primary-2").contains("leads the cluster") {
        assert!(Instant::now() < patience, "nobody follows a leader that leaves");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let zone = session.sql("show datafusion.execution.time_zone").await.expect("the session goes on");
    let zone = zone.collect().await.expect("it has an answer");
    let value = arrow::util::display::array_value_to_string(zone[0].column(1), 0).expect("a value can be shown");
    assert_eq!(value, "+05:00");
    let error = count(&other, "mine").await.expect_err("the table is gone");
    assert!(
        matches!(error, ClientError::SessionLost { .. }) && error.to_string().contains("make them again"),
        "{error}"
    );
    let error = count(&other, "mine").await.expect_err("the table is gone").to_string();
    assert!(error.contains("'mine' not found"), "said once, it goes on: {error}");
}

const SECONDS_LONG: &str = "select count(*) as n from generate_series(1, 40000) a cross join generate_series(1, 10000) b where a.value <> b.value";

async fn running(session: &Session) {
    while session.status().await.expect("the cluster has a state").jobs_running == 0 {
        tokio::task::yield_now().await;
    }
}

/// Statements that run when the leader is asked to leave finish, and later ones run on the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_asked_to_leave_ends_what_it_runs() {
    let cluster = Primaries::start("2").await;
    let (session, other) = (cluster.session().await, cluster.session().await);
    session.sql("create table t as select 1 as a").await.expect("a table can be written");
    let under_way = session.sql(format!("create table u as {SECONDS_LONG}"));
    let then = async {
        running(&other).await;
        cluster.signal(0, "-TERM");
        other.sql("insert into t values (2)").await.map(|_| Instant::now())
    };
    let (ended, next) = tokio::join!(async { under_way.await.map(|_| Instant::now()) }, then);
    let (ended, next) = (ended.expect("what ran is ended"), next.expect("what came later is run by the next leader"));
    println!(
        "the next leader's first answer came {} ms after the old one's last",
        next.duration_since(ended).as_millis()
    );
    assert_eq!(count(&session, "u").await.expect("u is there"), 1);
    assert_eq!(count(&session, "t").await.expect("t has both rows"), 2);
}

/// The same holds for a single primary that is restarted: new clients wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_single_primary_that_is_restarted_ends_what_it_runs() {
    let cluster = crate::cluster::Processes::start();
    let (session, other) = (cluster.session().await, cluster.session().await);
    let mut primary = Restarted::new(cluster.primary(), &cluster.url);
    let under_way = session.sql(SECONDS_LONG);
    let then = async {
        running(&other).await;
        tokio::task::block_in_place(|| primary.restart("-TERM"));
        other.sql("select 42 as a").await?.collect().await
    };
    let (ended, next) = tokio::join!(async { under_way.await?.collect().await }, then);
    assert_eq!(first_value(&ended.expect("what ran is ended")), "399990000");
    assert_eq!(first_value(&next.expect("what came later is answered after the start")), "42");
}

/// The leader dies at any moment of many small writes: the client sends unanswered ones again, and each happens once.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_sent_again_happens_once() {
    let cluster = Primaries::start("3").await;
    let session = cluster.session().await;
    session.sql("create table t (n bigint)").await.expect("a table can be made");
    let mut dead = Vec::new();
    for round in 0..2 {
        let leader = (0..3).find(|number| leads(&cluster, *number, &dead)).expect("one of them leads");
        dead.push(leader);
        let kill = async {
            tokio::time::sleep(Duration::from_millis(150)).await;
            cluster.signal(leader, "-KILL");
        };
        let writes = (0..8).map(|at| {
            let session = &session;
            async move {
                for number in 0..10 {
                    let sql = format!("insert into t values ({})", round * 1000 + at * 100 + number);
                    session.sql(sql).await.expect("a write happens").collect().await.expect("it has an answer");
                    let sql = format!("create view v_{round}_{at}_{number} as select 1 as a");
                    session.sql(sql).await.expect("a view is made");
                }
            }
        });
        tokio::join!(kill, futures::future::join_all(writes));
        assert_eq!(count(&session, "t").await.expect("t is there"), 80 * (round + 1));
        assert_eq!(count(&session, "(select distinct n from t)").await.expect("t is there"), 80 * (round + 1));
    }
}

/// A submission of several statements outlives two leaders under its id, and each statement happens once.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_leader_goes_on_with_what_was_submitted() {
    let cluster = Primaries::start("3").await;
    let session = cluster.session().await;
    session.sql("create table t (n bigint)").await.expect("a table can be made");
    let script = format!(
        "set datafusion.execution.time_zone = '+05:00'; insert into t values (1); insert into t {SECONDS_LONG};
         insert into t values (3); create table zone as select value from information_schema.df_settings
             where name = 'datafusion.execution.time_zone'"
    );
    let job = session.submit(&script, "nightly", &[]).await.expect("it is accepted");
    let mut dead = Vec::new();
    for _ in 0..2 {
        let patience = Instant::now() + Duration::from_secs(30);
        // Waits until the long statement runs.
        while session
            .jobs(10)
            .await
            .expect("jobs are listed")
            .iter()
            .all(|job| job.state != JobState::Running || job.tasks > 10)
        {
            assert!(Instant::now() < patience, "nothing runs: {:?}", session.jobs(10).await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let leader = (0..3).find(|number| leads(&cluster, *number, &dead)).expect("one of them leads");
        dead.push(leader);
        cluster.signal(leader, "-KILL");
    }
    let detail = until_ended(&session, job).await;
    assert_eq!((detail.summary.state, detail.summary.error.as_str()), (JobState::Finished, ""));
    let mut statements: Vec<u32> =
        detail.submission.expect("it is a submission").jobs.iter().map(|job| job.statement).collect();
    statements.dedup();
    assert_eq!(statements, [2, 3, 4, 5], "each statement but SET has jobs, those under earlier leaders among them");
    assert_eq!(count(&session, "t").await.expect("t is there"), 3);
    assert_eq!(count(&session, "zone where value = '+05:00'").await.expect("zone is there"), 1);
}

async fn until_ended(session: &Session, job: JobId) -> JobDetail {
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        let detail = session.job(job).await.expect("every leader knows it");
        if detail.summary.has_ended() {
            return detail;
        }
        assert!(Instant::now() < patience, "the submission does not end: {detail:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The only primary is killed at any moment of submissions of small statements, and started again.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_primary_goes_on_with_what_was_submitted() {
    let cluster = crate::cluster::Processes::start();
    let session = cluster.session().await;
    let mut primary = Restarted::new(cluster.primary(), &cluster.url);
    session.sql("create table t (n bigint)").await.expect("a table can be made");
    for round in 0..4_u64 {
        let script: Vec<String> = (0..8).map(|n| format!("insert into t values ({})", round * 8 + n)).collect();
        let job = session.submit(&script.join("; "), "nightly", &[]).await.expect("it is accepted");
        tokio::time::sleep(Duration::from_millis(40 * round)).await;
        tokio::task::block_in_place(|| primary.restart("-KILL"));
        let detail = until_ended(&session, job).await;
        assert_eq!((detail.summary.state, detail.summary.error.as_str()), (JobState::Finished, ""));
        for from in ["t", "(select distinct n from t)"] {
            assert_eq!(count(&session, from).await.expect("it is there"), 8 * (round + 1), "{from}");
        }
    }
}

/// A submission is cancelled while the primary is killed and started again: the answer stays true, whichever primary gives it.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_submission_is_not_gone_on_with() {
    let cluster = crate::cluster::Processes::start();
    let (session, other) = (cluster.session().await, cluster.session().await);
    let mut primary = Restarted::new(cluster.primary(), &cluster.url);
    for round in 0..4_u64 {
        let script = format!("create table a{round} as {SECONDS_LONG}; create table b{round} as select 1 as a");
        let job = session.submit(&script, "nightly", &[]).await.expect("it is accepted");
        let cancelling = tokio::spawn({
            let other = other.clone();
            async move { other.cancel_job(job).await }
        });
        tokio::time::sleep(Duration::from_millis(round)).await;
        tokio::task::block_in_place(|| primary.restart("-KILL"));
        let state = cancelling.await.expect("it does not panic").expect("it is cancelled");
        assert_eq!(state, JobState::Cancelled);
        // The state after another restart.
        tokio::task::block_in_place(|| primary.restart("-KILL"));
        assert_eq!(until_ended(&session, job).await.summary.state, JobState::Cancelled);
        for table in ["a", "b"] {
            let error = count(&session, &format!("{table}{round}")).await.expect_err("it is not made").to_string();
            assert!(error.contains("not found"), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stands_by_says_who_leads() {
    let cluster = Primaries::start("2").await;
    let urls: Vec<&str> = cluster.url.split(',').collect();
    // With only the other primary's address, the client still finds the leader.
    let session = Client::connect(urls[1]).await.expect("the other primary names the leader");
    assert_eq!(count(&session, "information_schema.tables where table_name = 'none'").await.expect("it answers"), 0);
    let text = succeed(windlass(&["sql", "--url", urls[1], "--format", "csv", "-e", "select 42 as a"]));
    assert_eq!(text, "a\n42\n");
    // A stock client gets an error that names the leader.
    let said = run(crate::cluster::python("ask.py", &[urls[1], "select 1"])).expect_err("it does not answer queries");
    assert!(said.contains("stands by; the leader is ") && said.contains(urls[0]), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_etcd_nobody_leads_and_with_it_all_is_there_again() {
    let mut cluster = Primaries::start("2").await;
    let session = cluster.session().await;
    session.sql("create table t as select 1 as a").await.expect("a table can be written");
    cluster.etcd.kill();
    let patience = Instant::now() + Duration::from_secs(15);
    while !cluster.log("primary").contains("stands by") {
        assert!(Instant::now() < patience, "a leader without a lease goes on: {}", cluster.log("primary"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.etcd.start_again().await;
    assert_eq!(count(&session, "t").await.expect("somebody leads again"), 1);
    session.sql("insert into t values (2)").await.expect("the leader writes");
    assert_eq!(count(&session, "t").await.expect("it is there"), 2);
}

#[test]
fn several_primaries_need_an_etcd() {
    let dir = tempfile::tempdir().expect("a folder can be made");
    let at = dir.path().display().to_string();
    let error = run(windlass(&["cluster", "up", "--primaries", "2", "--dir", &at])).expect_err("it is refused");
    assert!(error.contains("--etcd"), "{error}");
    let nobody = ["cluster", "up", "--primaries", "2", "--etcd", "http://127.0.0.1:1", "--dir", &at];
    let error = run(windlass(&nobody)).expect_err("there is no etcd");
    assert!(error.contains("etcd at http://127.0.0.1:1 cannot be reached"), "{error}");
    assert!(!Path::new(&at).join("cluster.json").exists());
    let error = run(windlass(&["primary", "--etcd", "http://127.0.0.1:1", "--dir", &at])).expect_err("it is refused");
    assert!(error.contains("primary.warehouse"), "{error}");
}

/// A statement whose first stage takes a moment, and the next one many seconds.
const TWO_PARTS: &str = "select count(*) as n, sum(c) as c from
    (select k, count(*) as c from source group by k) a cross join generate_series(1, 4000000) b where a.k <> -b.value % 7";

async fn source(session: &Session) {
    session.sql("set windlass.small_query_bytes = 0").await.expect("the option can be set");
    session.sql("create table source (value bigint, k bigint)").await.expect("a table can be made");
    for file in 0..4 {
        let rows = format!("generate_series({}, {})", file * 50_000 + 1, (file + 1) * 50_000);
        let insert = format!("insert into source select value, value % 100 from {rows}");
        session.sql(&insert).await.expect("rows can be written");
    }
}

/// The running job that has finished stages, with the number and the tasks of each.
async fn with_stages_behind(session: &Session) -> (JobId, Vec<(u32, u32)>) {
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        let jobs = session.jobs(10).await.expect("jobs are listed");
        for job in jobs.iter().filter(|job| job.state == JobState::Running) {
            let stages = session.job(job.job).await.expect("the job is there").stage_details;
            let finished = stages.iter().filter(|stage| stage.state == StageState::Finished);
            let finished: Vec<_> = finished.map(|stage| (stage.index, stage.tasks)).collect();
            if !finished.is_empty() {
                return (job.job, finished);
            }
        }
        assert!(Instant::now() < patience, "no stage ends: {jobs:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Kills the leader when the statement has finished stages; the next one goes on with the rest. Returns the answer and the job.
async fn outlives_its_leader(
    session: &Session,
    other: &Session,
    sql: &str,
    kill: impl FnOnce(),
) -> (Vec<RecordBatch>, JobId) {
    let run = async { session.sql(sql).await?.collect().await };
    let meanwhile = async {
        let (job, finished) = with_stages_behind(other).await;
        // The store is written meanwhile, and nothing waits for it.
        tokio::time::sleep(Duration::from_millis(200)).await;
        kill();
        let killed = Instant::now();
        while !other.job(job).await.is_ok_and(|job| job.summary.state == JobState::Finished) {
            assert!(
                killed.elapsed() < Duration::from_secs(60),
                "nobody goes on with {job}: {:?}",
                other.jobs(10).await
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let log = other.job_logs(job).await.expect("the next leader knows the job").join("\n");
        for (stage, tasks) in finished {
            assert!(log.contains(&format!("stage {stage} had left {tasks} of {tasks} outputs")), "{log}");
            assert!(!log.contains(&format!("stage {stage} started")), "{log}");
        }
        job
    };
    let (answer, job) = tokio::join!(run, meanwhile);
    (answer.expect("the statement outlives its leader"), job)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_leader_does_not_run_finished_stages_again() {
    let cluster = Primaries::start("3").await;
    let (session, other) = (cluster.session().await, cluster.session().await);
    source(&session).await;
    let expected = session.sql(TWO_PARTS).await.expect("it runs").collect().await.expect("it has an answer");
    let (answer, job) = outlives_its_leader(&session, &other, TWO_PARTS, || cluster.signal(0, "-KILL")).await;
    assert_eq!(answer, expected);
    executors(&session, 2).await;
    let leader = (1..3).find(|number| leads(&cluster, *number, &[0])).expect("one of them leads");
    let write = format!("create table target as {TWO_PARTS}");
    outlives_its_leader(&session, &other, &write, || cluster.signal(leader, "-KILL")).await;
    // Its list begins with the stages that ran under earlier leaders.
    let listed = other.job(job).await.expect("it is still listed");
    assert_eq!((listed.summary.state, listed.stage_details.len()), (JobState::Finished, 3));
    let written = session.sql("select * from target").await.expect("it is there").collect().await;
    assert_eq!(columns(&written.expect("it can be read")), columns(&expected));
}

/// The columns without the schema: in a table they may hold NULL.
fn columns(batches: &[RecordBatch]) -> Vec<&[ArrayRef]> {
    batches.iter().map(RecordBatch::columns).collect()
}

/// The only primary dies and is started again: connected clients go on, and so do running statements.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_primary_goes_on_with_what_ran() {
    let dir = tempfile::tempdir().expect("a folder can be made");
    let config = dir.path().join("windlass.toml");
    std::fs::write(&config, "[primary]\nsave_stages_after = \"0s\"\n").expect("a file can be written");
    let config = config.display().to_string();
    let cluster = crate::cluster::Processes::start_in(dir, "1GiB", &[("WINDLASS_CONFIG", &config)]);
    let (session, other) = (cluster.session().await, cluster.session().await);
    source(&session).await;
    let expected = session.sql(TWO_PARTS).await.expect("it runs").collect().await.expect("it has an answer");
    let mut primary = Restarted::new(cluster.primary(), &cluster.url);
    let (answer, job) = outlives_its_leader(&session, &other, TWO_PARTS, || primary.restart("-KILL")).await;
    assert_eq!(answer, expected);
    executors(&session, 2).await;
    let write = format!("create table target as {TWO_PARTS}");
    outlives_its_leader(&session, &other, &write, || primary.restart("-KILL")).await;
    assert_eq!(other.job(job).await.expect("it is still listed").summary.state, JobState::Finished);
    let written = session.sql("select * from target").await.expect("it is there").collect().await;
    assert_eq!(columns(&written.expect("it can be read")), columns(&expected));
}

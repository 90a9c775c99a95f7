//! Submissions over a store whose primary is lost, refused or left without an answer at any commit.

use super::*;
use crate::driver::DriverConfig;
use crate::driver::history::JobRecord;
use crate::driver::saved::SavedJobs;
use crate::meta::{Entry, Leader, MemoryIds, MemoryStore, MetaError, Term, Transaction};
use crate::services::jobs::{JobState, Jobs};
use crate::services::runs::RunsConfig;
use crate::statements::tests::Bench;
use async_trait::async_trait;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use windlass_core::submissions::{HESITATION, Position};
use windlass_proto::pass::KeyRing;

/// Longer than any test takes, so that a hang is a failure.
const SOON: Duration = Duration::from_secs(60);
const JOB: JobId = JobId(1);

fn by() -> Principal {
    Principal::user("ann")
}

/// A store as one primary sees it.
#[derive(Debug)]
struct Seen {
    store: Arc<MemoryStore>,
    /// Commits until this primary is lost.
    left: AtomicUsize,
    /// Whether the commit at which the primary is lost is made, without an answer.
    last_is_made: bool,
    /// Whether to refuse commits that record a job as ended.
    refuses_records: AtomicBool,
    /// Stored positions.
    positions: Mutex<Vec<String>>,
}

impl Seen {
    fn new(store: &Arc<MemoryStore>, last_is_made: bool) -> Arc<Self> {
        let (left, refuses_records) = (AtomicUsize::new(usize::MAX), AtomicBool::new(false));
        Arc::new(Seen { store: Arc::clone(store), left, last_is_made, refuses_records, positions: Mutex::default() })
    }
}

#[async_trait]
impl MetaStore for Seen {
    async fn lead(&self, leader: &Leader) -> Result<Term, MetaError> {
        self.store.lead(leader).await
    }

    async fn leader(&self) -> Result<Option<Leader>, MetaError> {
        self.store.leader().await
    }

    async fn resign(&self) {
        self.store.resign().await;
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, MetaError> {
        self.store.get(key).await
    }

    async fn range(&self, prefix: &str) -> Result<Vec<(String, Entry)>, MetaError> {
        self.store.range(prefix).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<(), MetaError> {
        let writes = |prefix: &str| transaction.writes.iter().any(|(key, _)| key.starts_with(prefix));
        if self.refuses_records.load(Ordering::SeqCst) && writes("job/") {
            return Err(MetaError::Store { store: "of this test".into(), action: "written", reason: "full".into() });
        }
        let positions = transaction.writes.iter().filter(|(key, _)| key.ends_with("/next"));
        let positions: Vec<String> = positions
            .filter_map(|(_, value)| value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned()))
            .collect();
        let lost = || MetaError::NotLeading { successor: "another one leads".into() };
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.map_err(|_| lost())? == 1 {
            if self.last_is_made {
                self.store.commit(transaction).await?;
                return Err(MetaError::Unknown { store: "of this test".into(), reason: "the answer was lost".into() });
            }
            return Err(lost());
        }
        self.store.commit(transaction).await?;
        self.positions.lock().extend(positions);
        Ok(())
    }
}

/// A primary that leads.
struct Primary {
    bench: Bench,
    submissions: Submissions,
    jobs: Jobs,
    stop: CancellationToken,
}

impl Primary {
    async fn lead(store: Arc<dyn MetaStore>) -> Self {
        Self::of(Bench::over(Arc::clone(&store)).await, store).await
    }

    /// Leads with a primary on which no job ends.
    async fn lead_and_hold(store: Arc<dyn MetaStore>) -> Self {
        let bench = Bench::over(Arc::clone(&store)).await;
        bench.runner.hold();
        Self::of(bench, store).await
    }

    async fn of(bench: Bench, store: Arc<dyn MetaStore>) -> Self {
        let (saved, ended) = SavedJobs::open(Arc::clone(&store)).await.unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let config = DriverConfig::default();
        let driver =
            Driver::start(config, Arc::new(MemoryIds::default()), Some(saved), None, CancellationToken::new(), &tasks);
        driver.history().restore(&ended);
        let (jobs, statements) = (Jobs::new(driver.clone()), bench.statements.clone());
        let runs = Runs::new(RunsConfig::default(), statements.clone(), jobs.clone(), KeyRing::default());
        let config = SubmissionsConfig::default();
        let submissions = Submissions::new(config, runs, statements, driver, store, Vec::new(), stop.clone());
        submissions.resume().await.unwrap();
        Primary { bench, submissions, jobs, stop }
    }

    async fn submit(&self, sql: &str) -> Result<JobId, QueryError> {
        self.submissions.submit(&by(), Script { sql: sql.into(), ..Script::default() }).await
    }

    async fn sql(&self, sql: &str) -> String {
        self.bench.in_session(&self.bench.session, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Waits until no submission runs here.
    async fn settled(&self) {
        let settled = async {
            while !self.submissions.shared.under_way.lock().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(SOON, settled).await.expect("submissions end");
    }

    async fn cancel(&self) -> Result<Option<JobState>, QueryError> {
        tokio::time::timeout(SOON, self.jobs.cancel(&by(), JOB)).await.expect("it is answered")
    }

    /// Returns the state in which the submission is listed.
    fn listed(&self) -> (JobState, String) {
        let show = |record: &JobRecord| (record.state, record.error.clone().unwrap_or_default());
        self.submissions.shared.driver.history().job(JOB, show).expect("it is listed")
    }

    /// Waits for a line in the submission's log.
    async fn logged(&self, wanted: &str) {
        let logged = async {
            while !self.jobs.log(&by(), JOB).unwrap_or_default().iter().any(|line| line.contains(wanted)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(SOON, logged)
            .await
            .unwrap_or_else(|_| panic!("{wanted}: {:?}", self.jobs.log(&by(), JOB)));
    }
}

async fn keys(store: &MemoryStore, prefix: &str) -> usize {
    store.range(prefix).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_statement_happens_once_wherever_its_primary_is_lost() {
    let script = "insert into t values (1); set datafusion.execution.time_zone = '+05:00'; insert into t values (2); \
        create table u as select value from information_schema.df_settings where name = 'datafusion.execution.time_zone'; \
        create view v as select * from t; insert into t select 3 from u where value = '+05:00'";
    for last_is_made in [false, true] {
        for commits in 1.. {
            let store = Arc::new(MemoryStore::default());
            let seen = Seen::new(&store, last_is_made);
            let first = Primary::lead(Arc::clone(&seen) as _).await;
            first.sql("create table t (n bigint)").await;
            seen.left.store(commits, Ordering::SeqCst);
            let accepted = first.submit(script).await;
            first.settled().await;
            let is_whole = seen.left.load(Ordering::SeqCst) > 0;
            let next = Primary::lead(Arc::clone(&store) as _).await;
            next.settled().await;
            let at = format!("{commits} commits, the last one made: {last_is_made}: {accepted:?}");
            assert_eq!((keys(&store, "submission/").await, keys(&store, "tries/").await), (0, 0), "{at}");
            if commits == 1 && !last_is_made {
                assert!(accepted.is_err(), "{at}");
                assert_eq!(next.sql("select count(*) from t").await, "0", "{at}");
                continue;
            }
            let rows = next.sql("select count(*), sum(n), (select count(*) from v) from t").await;
            assert_eq!(rows, "3 6 3", "{at}");
            assert_eq!(next.listed(), (JobState::Finished, String::new()), "{at}");
            if is_whole {
                assert!(commits > 10, "so few commits are no test: {at}");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_is_cancelled_while_it_hesitates() {
    let store = Arc::new(MemoryStore::default());
    let record = r#"{"texts":["create table t as select 1 as a"],"name":"n","options":{},"user":"ann","job":1}"#;
    let tries = r#"{"begun":2,"unplanned":2,"at_ms":1}"#;
    store.commit(Transaction::default().put("submission/x", record).put("tries/x.0", tries)).await.unwrap();
    let (started, primary) = (Instant::now(), Primary::lead(Arc::clone(&store) as _).await);
    primary.logged("waits").await;
    assert_eq!(primary.cancel().await, Ok(Some(JobState::Cancelled)));
    assert!(started.elapsed() < HESITATION, "it is not waited for");
    primary.settled().await;
    assert_eq!(primary.listed(), (JobState::Cancelled, "cancelled: by request of ann".to_string()));
    assert_eq!(primary.bench.runner.jobs.load(Ordering::SeqCst), 0);
    assert_eq!((keys(&store, "submission/").await, keys(&store, "tries/").await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_submission_is_cancelled_is_durable_before_it_is_answered() {
    let store = Arc::new(MemoryStore::default());
    let seen = Seen::new(&store, false);
    let primary = Primary::lead_and_hold(Arc::clone(&seen) as _).await;
    assert_eq!(primary.submit("create table t as select 1 as a; create table u as select 1 as a").await, Ok(JOB));
    assert_eq!(primary.cancel().await, Ok(Some(JobState::Cancelled)));
    let cancelled = serde_json::to_string(&Position { next: 0, cancelled: true }).unwrap();
    assert_eq!(*seen.positions.lock(), [cancelled]);
    primary.settled().await;
    assert_eq!(primary.bench.runner.jobs.load(Ordering::SeqCst), 1, "no other statement begins");
    assert_eq!(keys(&store, "submission/").await, 0);
    // A late cancellation is not an error.
    assert_eq!(primary.cancel().await, Ok(Some(JobState::Cancelled)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_submission_is_not_gone_on_with_and_another_one_is() {
    for is_durable in [true, false] {
        let store = Arc::new(MemoryStore::default());
        let seen = Seen::new(&store, false);
        let first = Primary::lead_and_hold(Arc::clone(&seen) as _).await;
        first.submit("create table t as select 1 as a; create table u as select 1 as a").await.unwrap();
        seen.left.store(if is_durable { 2 } else { 1 }, Ordering::SeqCst);
        // The submission has not ended here, and the caller is sent to the next leader.
        assert!(matches!(first.cancel().await, Err(QueryError::NotLeading(_))));
        first.settled().await;
        assert!(matches!(first.cancel().await, Err(QueryError::NotLeading(_))));
        let next = Primary::lead(Arc::clone(&store) as _).await;
        next.settled().await;
        let (state, error) = next.listed();
        let jobs = next.bench.runner.jobs.load(Ordering::SeqCst);
        match is_durable {
            true => assert_eq!((state, jobs), (JobState::Cancelled, 0), "{error}"),
            false => assert_eq!((state, jobs), (JobState::Finished, 2), "{error}"),
        }
        assert_eq!(next.cancel().await, Ok(Some(state)), "the next one knows how it ended");
        assert_eq!(keys(&store, "submission/").await, 0);
    }
}

/// A primary that stops has survived a statement, however often that happens. It does not wait for a hesitating one.
#[tokio::test(flavor = "multi_thread")]
async fn primaries_that_stop_do_not_die_of_a_statement() {
    let store = Arc::new(MemoryStore::default());
    let mut primary = Primary::lead_and_hold(Arc::clone(&store) as _).await;
    primary.submit("create table t as select 1 as a").await.unwrap();
    for _ in 0..5 {
        primary.stop.cancel();
        primary.settled().await;
        primary = Primary::lead_and_hold(Arc::clone(&store) as _).await;
        primary.logged("statement 1 of 1").await;
    }
    primary.stop.cancel();
    primary.settled().await;
    let next = Primary::lead(Arc::clone(&store) as _).await;
    next.settled().await;
    assert_eq!(next.listed(), (JobState::Finished, String::new()));
    assert_eq!(next.sql("select count(*) from t").await, "1");

    let record = r#"{"texts":["select 1"],"name":"n","options":{},"job":1}"#;
    let tries = r#"{"begun":2,"unplanned":2,"at_ms":1}"#;
    store.commit(Transaction::default().put("submission/x", record).put("tries/x.0", tries)).await.unwrap();
    let (started, hesitates) = (Instant::now(), Primary::lead(Arc::clone(&store) as _).await);
    hesitates.logged("waits").await;
    hesitates.stop.cancel();
    hesitates.settled().await;
    assert!(started.elapsed() < HESITATION);
    assert_eq!(keys(&store, "submission/").await, 1, "the next one goes on with it");
}

/// Covers a submission to an earlier release, and its progress.
#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_releases_submissions_are_gone_on_with() {
    let store = Arc::new(MemoryStore::default());
    let texts =
        r#"["create table t as select 0 as a", "create table t as select 1 as a", "create view v as select * from t"]"#;
    let record =
        format!(r#"{{"texts":{texts},"name":"n","options":{{}},"user":"ann","next":0,"job":1,"submitted_ms":5}}"#);
    let tries = r#"{"begun":2,"unplanned":0,"at_ms":1}"#;
    let written = Transaction::default().put("submission/x", record).put("submission/x/next", "1");
    store.commit(written.put("tries/x.1", tries)).await.unwrap();
    let primary = Primary::lead(Arc::clone(&store) as _).await;
    primary.settled().await;
    assert_eq!(primary.listed(), (JobState::Finished, String::new()));
    assert_eq!(primary.sql("select a from v").await, "1", "the first statement has ended before");
    assert_eq!((keys(&store, "submission/").await, keys(&store, "tries/").await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_the_store_refuses_to_note_is_noted_later() {
    let store = Arc::new(MemoryStore::default());
    let seen = Seen::new(&store, false);
    let primary = Primary::lead(Arc::clone(&seen) as _).await;
    seen.refuses_records.store(true, Ordering::SeqCst);
    assert_eq!(primary.submit("create view v as select 1 as a").await, Ok(JOB));
    assert_eq!((primary.listed().0, keys(&store, "submission/").await), (JobState::Running, 1));
    assert!(matches!(primary.cancel().await, Err(QueryError::NotLeading(_))), "it may be gone on with");
    seen.refuses_records.store(false, Ordering::SeqCst);
    assert_eq!(primary.cancel().await, Ok(Some(JobState::Finished)), "too late");
    assert_eq!((keys(&store, "submission/").await, keys(&store, "job/").await), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn submissions_have_a_bound_and_each_user_has_one() {
    let primary = Primary::lead(Arc::new(MemoryStore::default())).await;
    let SubmissionsConfig { max, max_per_user } = SubmissionsConfig::default();
    for number in 0..max_per_user {
        primary.submissions.shared.under_way.lock().insert(number.to_string(), by());
    }
    let refused = primary.submit("select 1").await.unwrap_err();
    assert!(matches!(&refused, QueryError::Exhausted(why) if why.contains("submissions_per_user")), "{refused}");
    for number in max_per_user..max {
        primary.submissions.shared.under_way.lock().insert(number.to_string(), Principal::anonymous());
    }
    let script = Script { sql: "select 1".into(), ..Script::default() };
    let refused = primary.submissions.submit(&Principal::user("bob"), script).await.unwrap_err();
    assert!(matches!(&refused, QueryError::Exhausted(why) if why.contains("primary.submissions ")), "{refused}");
}

/// A client that has heard no answer sends its request again, to the same primary or to the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_again_is_accepted_once() {
    let store = Arc::new(MemoryStore::default());
    let primary = Primary::lead(store.clone()).await;
    let script =
        || Script { sql: "select 1; create table once as select 1".into(), request: "r".into(), ..Script::default() };
    let submit = async |primary: &Primary| primary.submissions.submit(&by(), script()).await.unwrap();
    let (one, other) = tokio::join!(submit(&primary), submit(&primary));
    assert_eq!(one, other);
    primary.settled().await;
    assert_eq!(submit(&primary).await, one);
    primary.stop.cancel();
    let next = Primary::lead(store.clone()).await;
    assert_eq!(submit(&next).await, one);
    // A request without a name is a new one each time.
    next.submit("select 1").await.unwrap();
    next.settled().await;
    assert_eq!(keys(&store, "request/").await, 1);
}

/// The submitter does not wait for statements that need no job.
#[tokio::test(flavor = "multi_thread")]
async fn a_submitter_waits_for_one_statement() {
    let primary = Primary::lead_and_hold(Arc::new(MemoryStore::default())).await;
    let script = format!("{} create table late as select value from generate_series(1, 3)", "select 1; ".repeat(2_000));
    let job = primary.submit(&script).await.unwrap();
    assert!(primary.submissions.shared.under_way.lock().len() == 1, "it goes on: {job}");
    primary.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_no_part_of_a_submission() {
    let primary = Primary::lead(Arc::new(MemoryStore::default())).await;
    for sql in [
        "create secret s options (password 'hunter2')",
        "select 1; -- create secret s options (password 'hunter2')",
        "execute immediate 'create secret s options (password ''hunter2'')'",
        "create external table t stored as postgres location 'postgresql://app:hunter2@db/shop' options (table 't')",
        "copy (select 1) to 'mysql://db/shop?password=hunter2' stored as mysql",
        "create external table t stored as parquet location 's3://b/t/' options (aws.secret_access_key 'hunter2')",
        "set aws.secret_access_key = 'hunter2'",
    ] {
        let refused = primary.submit(sql).await.expect_err(sql).to_string();
        assert!(refused.contains("credentials cannot be part of a submission"), "{sql}: {refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }
}

/// The text of a script is long before its statements are many.
#[tokio::test(flavor = "multi_thread")]
async fn errors_of_long_scripts_have_their_place() {
    let primary = Primary::lead(Arc::new(MemoryStore::default())).await;
    let refused = primary.submit("select 1;\n  select 'a\nb'; select 2; selec 3").await.unwrap_err().to_string();
    assert!(refused.contains("line 3, column 15"), "{refused}");
}

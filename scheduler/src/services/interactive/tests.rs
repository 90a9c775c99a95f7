//! Interactive sessions over a store that one primary after the other leads with.

use super::*;
use crate::driver::{Driver, DriverConfig};
use crate::meta::{Entry, Leader, MemoryIds, MemoryStore, MetaError, Term, Transaction};
use crate::services::jobs::Jobs;
use crate::services::runs::RunsConfig;
use crate::statements::tests::Bench;
use async_trait::async_trait;
use datafusion::arrow::util::pretty::pretty_format_batches;
use std::sync::atomic::AtomicBool;
use windlass_proto::pass::KeyRing;

/// Longer than any test takes, so that a hang is a failure.
const SOON: Duration = Duration::from_secs(60);

fn by() -> Principal {
    Principal::user("ann")
}

/// A store that refuses commits while it is told to.
#[derive(Debug, Default)]
struct Refusing {
    store: MemoryStore,
    refuses: AtomicBool,
}

#[async_trait]
impl MetaStore for Refusing {
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
        if self.refuses.load(Ordering::SeqCst) {
            return Err(MetaError::Store { store: "of this test".into(), action: "written", reason: "full".into() });
        }
        self.store.commit(transaction).await
    }
}

/// A primary that leads.
struct Primary {
    bench: Bench,
    interactive: Interactive,
    stop: CancellationToken,
}

impl Primary {
    async fn lead(store: &Arc<Refusing>) -> Self {
        Self::with(store, InteractiveConfig::default()).await
    }

    async fn with(store: &Arc<Refusing>, config: InteractiveConfig) -> Self {
        let bench = Bench::over(Arc::clone(store) as _).await;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let ids = Arc::new(MemoryIds::default());
        let driver = Driver::start(DriverConfig::default(), ids, None, None, CancellationToken::new(), &tasks);
        let (jobs, statements) = (Jobs::new(driver), bench.statements.clone());
        let runs = Runs::new(RunsConfig::default(), statements.clone(), jobs, KeyRing::default());
        let sessions = Sessions::new(Arc::clone(&bench.sessions), statements.clone());
        let interactive = Interactive::new(config, runs, sessions, &statements, String::new(), stop.clone());
        interactive.resume().await.unwrap();
        Primary { bench, interactive, stop }
    }

    async fn open(&self, asked: Asked) -> Key {
        let new = NewSession { asked, ..NewSession::default() };
        Key::Id(self.interactive.create(&by(), new).await.unwrap().id)
    }

    async fn post(&self, key: &Key, code: &str) -> Result<u32, InteractiveError> {
        let work = Work::Sql { text: None, rows: None, shape: Shape::Table };
        let new = NewStatement { code: code.to_string(), kind: Kind::Sql, work };
        self.interactive.run(&by(), key, new).await.map(|view| view.id)
    }

    async fn ended(&self, key: &Key, number: u32) -> StatementView {
        let view = self.interactive.statement(&by(), key, number, SOON).await.unwrap();
        assert!(view.state.has_ended(), "{view:?}");
        view
    }

    async fn sql(&self, key: &Key, code: &str) -> String {
        let number = self.post(key, code).await.unwrap();
        shown(&self.ended(key, number).await)
    }
}

/// Returns the output of a statement.
fn shown(view: &StatementView) -> String {
    match view.output.as_ref().unwrap() {
        OutputView::Rows { rows, .. } => pretty_format_batches(&rows.batches).unwrap().to_string(),
        OutputView::Wrote { rows } => format!("wrote {rows:?}"),
        OutputView::Text(text) | OutputView::Forms(text) => text.clone(),
        OutputView::Failed { name, message, .. } => format!("{name}: {message}"),
    }
}

#[tokio::test]
async fn sessions_and_outputs_are_found_by_the_next_primary() {
    let store = Arc::new(Refusing::default());
    let first = Primary::lead(&store).await;
    let conf = [("windlass.priority".to_string(), "3".to_string())].into();
    let key = first.open(Asked { name: Some("kept".into()), conf, ..Asked::default() }).await;
    first.sql(&key, "set datafusion.execution.time_zone = '+05:00'").await;
    first.sql(&key, "set datafusion.execution.time_zone = '+06:00'").await;
    first.sql(&key, "create temporary view v as select 1 as a").await;
    let output = first.sql(&key, "select 42 as answer").await;
    first.stop.cancel();

    let second = Primary::lead(&store).await;
    let named = Key::Name("kept".into());
    assert_eq!(shown(&second.ended(&named, 3).await), output);
    let options = "select value from information_schema.df_settings
                   where name in ('datafusion.execution.time_zone', 'windlass.priority') order by 1";
    let set = second.sql(&named, options).await;
    assert!(set.contains("| +06:00 |") && set.contains("| 3 "), "{set}");
    let (_, log) = second.interactive.log(&by(), &named).unwrap();
    assert!(log.iter().any(|line| line.contains("temporary tables, views")), "{log:?}");
    assert!(second.sql(&named, "select * from v").await.starts_with("Error: "));
    assert_eq!(second.open(Asked::default()).await, Key::Id(1));
    second.interactive.delete(&by(), &named).await.unwrap();
    second.stop.cancel();

    let third = Primary::lead(&store).await;
    assert_eq!(third.interactive.list(&by(), 0, 10).0, 1);
    let left: Vec<String> = store.range("interactive/").await.unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(left, ["interactive/next", "interactive/session/0000000001"]);
}

#[tokio::test]
async fn a_statement_under_way_is_lost_unless_it_took_effect() {
    let store = Arc::new(Refusing::default());
    let first = Primary::lead(&store).await;
    first.bench.in_session(&first.bench.session, "create table t (a bigint)").await.unwrap();
    let key = first.open(Asked::default()).await;
    first.bench.runner.hold();
    let running = first.post(&key, "select a from t").await.unwrap();
    let behind = first.post(&key, "select 7").await.unwrap();
    // The first primary is gone without a word.
    let second = Primary::lead(&store).await;
    let lost = second.ended(&key, running).await;
    assert_eq!(lost.state, StatementState::Error);
    assert!(shown(&lost).starts_with("Lost: "), "{lost:?}");
    assert!(shown(&second.ended(&key, behind).await).contains("| 7 "));

    // A write whose effect is in the store has not been lost.
    second.bench.runner.hold();
    let write = second.post(&key, "insert into t values (1)").await.unwrap();
    let view = second.interactive.find(&by(), &key).unwrap();
    let outcome = outcomes::Outcome { affected: Some(1), counted: true, at_ms: 0 };
    let effect = outcomes::put(&query_of(&view.uid, write), &outcome);
    store.commit(Transaction::default().with(effect)).await.unwrap();
    let third = Primary::lead(&store).await;
    let done = third.ended(&key, write).await;
    assert_eq!((done.state, shown(&done).as_str()), (StatementState::Available, "wrote Some(1)"));
}

#[tokio::test]
async fn what_the_store_does_not_take_is_not_said_to_be_done() {
    let store = Arc::new(Refusing::default());
    let primary = Primary::lead(&store).await;
    let key = primary.open(Asked::default()).await;
    store.refuses.store(true, Ordering::SeqCst);
    let refused = primary.post(&key, "select 1").await.unwrap_err();
    assert!(matches!(refused, InteractiveError::Unavailable(_)), "{refused:?}");
    let refused = primary.interactive.create(&by(), NewSession::default()).await.unwrap_err();
    assert!(matches!(refused, InteractiveError::Unavailable(_)), "{refused:?}");
    assert!(primary.interactive.delete(&by(), &key).await.is_err());
    assert_eq!(primary.interactive.list(&by(), 0, 10).0, 1);
    store.refuses.store(false, Ordering::SeqCst);
    let sessions = primary.bench.sessions.len();
    assert_eq!(primary.open(Asked::default()).await, Key::Id(1));
    assert_eq!(primary.bench.sessions.len(), sessions + 1, "the session that was refused left one behind");
}

#[tokio::test]
async fn limits_are_kept() {
    let store = Arc::new(Refusing::default());
    let limits = Limits { kept: 2, waiting: 2, bytes: 1 << 20 };
    let config = InteractiveConfig { max_sessions: 2, limits, text_bytes: 50, rows: 3, ..InteractiveConfig::default() };
    let primary = Primary::with(&store, config).await;
    let key = primary.open(Asked::default()).await;
    for number in 0..4 {
        primary.sql(&key, &format!("select {number}")).await;
    }
    let (total, views) = primary.interactive.statements(&by(), &key, 0, None, true).await.unwrap();
    assert_eq!((total, views.iter().map(|view| view.id).collect::<Vec<_>>()), (2, vec![3, 2]));
    let gone = primary.interactive.statement(&by(), &key, 0, SOON).await.unwrap_err();
    assert_eq!(gone, InteractiveError::NoStatement);
    assert_eq!(store.range("interactive/rows/").await.unwrap().len(), 2);

    let long = primary.post(&key, &"x".repeat(51)).await.unwrap_err();
    assert_eq!(long, InteractiveError::TooLarge { bytes: 51, limit: 50 });
    let number = primary.post(&key, "select value from generate_series(1, 9)").await.unwrap();
    let cut = primary.ended(&key, number).await;
    assert!(matches!(cut.output, Some(OutputView::Rows { cut: Some(Cut::Rows(3)), .. })), "{cut:?}");
    primary.open(Asked::default()).await;
    let many = primary.interactive.create(&by(), NewSession::default()).await.unwrap_err();
    assert!(matches!(many, InteractiveError::TooMany(_)), "{many:?}");

    primary.bench.in_session(&primary.bench.session, "create table t (a bigint)").await.unwrap();
    primary.bench.runner.hold();
    primary.post(&key, "select a from t").await.unwrap();
    primary.post(&key, "select 1").await.unwrap();
    let many = primary.post(&key, "select 1").await.unwrap_err();
    assert!(matches!(many, InteractiveError::TooMany(_)), "{many:?}");
    primary.interactive.interrupt(&by(), &key).await.unwrap();
    for number in [5, 6] {
        assert_eq!(primary.ended(&key, number).await.state, StatementState::Cancelled);
    }
}

#[tokio::test]
async fn a_wrong_option_opens_no_session() {
    let store = Arc::new(Refusing::default());
    let primary = Primary::lead(&store).await;
    let sessions = primary.bench.sessions.len();
    for (name, value) in [("windlass.nothing", "1"), ("spark.sql.session.timeZone", "Mars/Base")] {
        let asked = Asked { conf: [(name.to_string(), value.to_string())].into(), ..Asked::default() };
        let refused =
            primary.interactive.create(&by(), NewSession { asked, ..NewSession::default() }).await.unwrap_err();
        assert!(matches!(&refused, InteractiveError::Invalid(_)), "{refused:?}");
    }
    assert_eq!((primary.interactive.list(&by(), 0, 10).0, primary.bench.sessions.len()), (0, sessions));
}

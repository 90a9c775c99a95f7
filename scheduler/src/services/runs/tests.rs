use super::*;
use crate::statements::tests::Bench;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;

const CONNECTION: u64 = 7;

fn by() -> Principal {
    Principal::user("ann")
}

fn runs(bench: &Bench, config: RunsConfig) -> Runs {
    let services = bench.services();
    Runs::new(config, bench.statements.clone(), services.jobs, KeyRing::default())
}

/// Returns a kept result of `parts` parts.
async fn kept(runs: &Runs, bench: &Bench, parts: usize) -> RunId {
    let run = runs.attach(&by(), &bench.session, Ask::sql("select 1"), Info::default(), Some(CONNECTION));
    run.ended().await.unwrap();
    run.keep(parts).unwrap()
}

/// Only the test holds the session.
async fn bench() -> (Runs, Bench) {
    let bench = Bench::new().await;
    (runs(&bench, RunsConfig::default()), bench)
}

#[tokio::test]
async fn a_result_goes_when_all_of_it_was_read() {
    let (runs, bench) = bench().await;
    let id = kept(&runs, &bench, 2).await;
    let (_, mut first) = runs.begin_reading(&id, Some(0)).unwrap();
    first.done();
    drop(first);
    let (_, broken_off) = runs.begin_reading(&id, Some(1)).unwrap();
    drop(broken_off);
    assert_eq!(runs.results(), 1);
    let (_, mut second) = runs.begin_reading(&id, Some(1)).unwrap();
    second.done();
    drop(second);
    assert_eq!(runs.results(), 0);
    assert!(runs.begin_reading(&id, Some(0)).is_err() && runs.view(&by(), &id).is_none());
}

#[tokio::test]
async fn an_unread_result_goes_after_its_time_but_not_while_it_is_read() {
    let bench = Bench::new().await;
    let runs = runs(&bench, RunsConfig { max_results: 1, ..RunsConfig::default() });
    let id = kept(&runs, &bench, 1).await;
    let another = runs.attach(&by(), &bench.session, Ask::sql("select 1"), Info::default(), None);
    another.ended().await.unwrap();
    assert!(matches!(another.keep(1), Err(QueryError::Exhausted(_))));
    let started = runs.start(&by(), &bench.session, Ask::sql("select 1"), Info::default());
    assert!(matches!(started, Err(QueryError::Exhausted(_))));
    let after = |seconds| {
        bench.clock().advance(Duration::from_secs(seconds));
        runs.expire_at(runs.clock().now(), |_| true)
    };
    let (_, mut reading) = runs.begin_reading(&id, Some(1)).unwrap();
    assert_eq!(after(301), 0);
    reading.done();
    drop(reading);
    assert_eq!(after(299), 0);
    assert_eq!(after(2), 1);
}

#[tokio::test]
async fn who_breaks_off_may_try_again_for_a_while() {
    let (runs, bench) = bench().await;
    let id = kept(&runs, &bench, 1).await;
    drop(runs.begin_reading(&id, Some(0)).unwrap());
    let after = |seconds| {
        bench.clock().advance(Duration::from_secs(seconds));
        runs.expire_at(runs.clock().now(), |_| true)
    };
    assert_eq!(after(9), 0);
    assert_eq!(after(2), 1);
}

#[tokio::test]
async fn a_result_goes_soon_after_its_connection_unless_its_client_renewed_it() {
    let (runs, bench) = bench().await;
    let ids = [kept(&runs, &bench, 1).await, kept(&runs, &bench, 1).await];
    runs.renew(&by(), &ids[0]).unwrap();
    let now = runs.clock().now();
    let has = |connection| connection != CONNECTION;
    assert_eq!(runs.expire_at(now, has), 0);
    assert_eq!(runs.expire_at(now + Duration::from_secs(5), has), 0);
    assert_eq!(runs.expire_at(now + Duration::from_secs(10), has), 1);
    assert!(runs.begin_reading(&ids[0], Some(0)).is_ok());
}

#[tokio::test]
async fn a_result_goes_with_its_session() {
    let (runs, bench) = bench().await;
    let session = bench.services().sessions.open(&by(), &[]).await.unwrap();
    let run = runs.attach(&by(), &session, Ask::sql("select 1"), Info::default(), None);
    run.ended().await.unwrap();
    run.keep(1).unwrap();
    kept(&runs, &bench, 1).await;
    let id = session.id.clone();
    drop(session);
    assert_eq!(runs.expire_at(runs.clock().now(), |_| true), 0);
    assert!(bench.services().sessions.close(&by(), &id).await);
    assert_eq!(runs.expire_at(runs.clock().now(), |_| true), 1);
    assert_eq!(runs.results(), 1);
}

#[tokio::test]
async fn a_run_goes_on_without_its_caller_and_is_read_page_by_page() {
    let (runs, bench) = bench().await;
    let ask = Ask::sql("select value from generate_series(1, 10) order by value");
    let id = runs.start(&by(), &bench.session, ask, Info::default()).unwrap();
    let view = runs.wait(&by(), &id).await.unwrap();
    assert_eq!(
        (view.state, view.user.as_str(), view.session.as_str()),
        (RunState::Finished, "ann", &*bench.session.id)
    );
    let result = view.result.unwrap();
    assert_eq!((result.rows, result.schema.field(0).name().as_str()), (10, "value"));
    let page = async |from, limit| {
        let page = runs.page(&by(), &id, from, limit).await.unwrap();
        let values =
            page.batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
        (values.collect::<Vec<i64>>(), page.more)
    };
    assert_eq!(page(0, 4).await, (vec![1, 2, 3, 4], true));
    assert_eq!(page(4, 6).await, (vec![5, 6, 7, 8, 9, 10], false));
    assert_eq!(page(9, 5).await, (vec![10], false));
    assert_eq!(page(3, 0).await, (vec![], true));
    assert_eq!(page(99, 5).await, (vec![], false));
    assert_eq!(runs.list(&by(), &bench.session.id).len(), 1);
    assert!(runs.list(&by(), "another").is_empty());
    assert!(runs.release(&by(), &id) && !runs.release(&by(), &id));
    assert!(runs.page(&by(), &id, 0, 1).await.is_err());
}

#[tokio::test]
async fn a_run_that_fails_says_why_for_as_long_as_it_is_kept() {
    let (runs, bench) = bench().await;
    let id = runs.start(&by(), &bench.session, Ask::sql("select 1 / 0"), Info::default()).unwrap();
    let view = runs.wait(&by(), &id).await.unwrap();
    assert_eq!(view.state, RunState::Failed);
    assert!(matches!(view.error, Some(QueryError::Invalid(_))), "{:?}", view.error);
    assert!(matches!(runs.page(&by(), &id, 0, 1).await, Err(QueryError::Invalid(_))));
    let after = |seconds| {
        bench.clock().advance(Duration::from_secs(seconds));
        runs.expire_at(runs.clock().now(), |_| true)
    };
    assert_eq!(after(299), 0);
    assert_eq!(after(2), 1);
}

#[tokio::test]
async fn a_run_is_cancelled_by_whoever_knows_it_or_when_its_caller_leaves() {
    let (runs, bench) = bench().await;
    bench.runner.hold();
    let id = runs.start(&by(), &bench.session, Ask::sql("select 1 from t0"), Info::default());
    // The statement fails, even while jobs are held, because the table is missing.
    let failed = runs.wait(&by(), &id.unwrap()).await.unwrap();
    assert_eq!(failed.state, RunState::Failed);
    let slow = || Ask::sql("select count(*) from generate_series(1, 1000)");
    let id = runs.start(&by(), &bench.session, slow(), Info::default()).unwrap();
    let cancelled = runs.cancel(&by(), &id).await.unwrap();
    assert_eq!(cancelled.state, RunState::Cancelled);
    let attached = runs.attach(&by(), &bench.session, slow(), Info::default(), None);
    let id = attached.id().clone();
    assert_eq!(runs.view(&by(), &id).unwrap().state, RunState::Running);
    drop(attached);
    assert!(runs.view(&by(), &id).is_none());
}

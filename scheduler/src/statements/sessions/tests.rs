use super::*;
use crate::clock::{Clock, Ids};
use crate::meta::MemoryStore;
use crate::statements::catalog::{CatalogConfig, DEFAULT_CATALOG, DEFAULT_SCHEMA, OnExists, Record};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::Constraints;
use datafusion::execution::runtime_env::RuntimeEnv;
use std::time::{Duration, Instant};
use windlass_connectors::StoreRegistry;
use windlass_proto::v1::ErrorKind;

async fn sessions(folder: &std::path::Path) -> (Arc<Registry>, Arc<Catalog>) {
    let catalog = Catalog::open(CatalogConfig {
        sealer: crate::meta::Sealer::ephemeral().unwrap(),
        store: Arc::new(MemoryStore::default()),
        stores: StoreRegistry::new(),
        runtime: Arc::new(RuntimeEnv::default()),
        warehouse: folder.display().to_string(),
        grace: Duration::ZERO,
        limits: Default::default(),
        connectors: Default::default(),
        clock: Clock::system(),
        ids: Ids::random(),
        tasks: Default::default(),
    })
    .await
    .unwrap();
    (Registry::new(SessionConfig::default(), Arc::clone(&catalog)), catalog)
}

fn table(catalog: &Catalog, column: &str) -> Record {
    let name = TableName::new(DEFAULT_CATALOG, DEFAULT_SCHEMA, "t");
    let schema = Arc::new(Schema::new(vec![Field::new(column, DataType::Int64, true)]));
    Record::Table(
        Record::managed(catalog.warehouse(), &name, schema, &Constraints::default(), &[], None, catalog.ids()).unwrap(),
    )
}

fn over(connection: u64) -> Caller {
    Caller { connection: Some(connection), ..Caller::default() }
}

async fn column_of_t(session: &Session) -> String {
    let plan = session.state().create_logical_plan("select * from t").await.unwrap();
    plan.schema().field(0).name().clone()
}

#[tokio::test]
async fn a_request_finds_its_session_by_cookie_token_or_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (sessions, _) = sessions(folder.path()).await;
    let (first, new) = sessions.find_or_begin(&Principal::anonymous(), &over(1)).unwrap();
    assert!(new);
    let (again, new) = sessions.find_or_begin(&Principal::anonymous(), &over(1)).unwrap();
    assert!(Arc::ptr_eq(&first, &again) && !new);
    let (other, _) = sessions.find_or_begin(&Principal::anonymous(), &over(2)).unwrap();
    assert!(!Arc::ptr_eq(&first, &other));

    let with_cookie = Caller { cookie: Some(first.id.clone()), ..over(2) };
    assert!(Arc::ptr_eq(&first, &sessions.find_or_begin(&Principal::anonymous(), &with_cookie).unwrap().0));

    let with_token = |connection| Caller { token: Some("secret".into()), ..over(connection) };
    let (by_token, _) = sessions.find_or_begin(&Principal::anonymous(), &with_token(1)).unwrap();
    assert!(!Arc::ptr_eq(&first, &by_token));
    assert!(Arc::ptr_eq(&by_token, &sessions.find_or_begin(&Principal::anonymous(), &with_token(9)).unwrap().0));

    let forgotten = Caller { cookie: Some("of an earlier primary".into()), ..over(7) };
    let (fresh, new) = sessions.find_or_begin(&Principal::anonymous(), &forgotten).unwrap();
    assert!(new && fresh.id != "of an earlier primary");
}

#[tokio::test]
async fn sessions_end_when_idle_or_when_only_their_connection_knew_them() {
    let folder = tempfile::tempdir().unwrap();
    let (sessions, _) = sessions(folder.path()).await;
    let start = Instant::now();
    let cookie = {
        let (_, _) = sessions.find_or_begin_for_test(&over(1), start);
        let (second, _) = sessions.find_or_begin_for_test(&over(2), start);
        second.id.clone()
    };
    let back = Caller { cookie: Some(cookie), ..Caller::default() };
    sessions.find_or_begin_for_test(&back, start);
    sessions.connection_ended(1);
    sessions.connection_ended(2);
    assert_eq!(sessions.expire_for_test(Instant::now()).await, 0);
    assert_eq!(sessions.expire_for_test(Instant::now() + Duration::from_secs(11)).await, 1);
    // The other session was named by its cookie: its client may come back over another connection.
    let (running, new) = sessions.find_or_begin_for_test(&back, start + Duration::from_secs(60));
    assert!(!new);
    let late = start + Duration::from_secs(60 + 31 * 60);
    assert_eq!(sessions.expire_for_test(late).await, 0, "a statement of the session runs");
    drop(running);
    assert_eq!(sessions.expire_for_test(late).await, 1);
    assert!(sessions.is_empty());
}

#[tokio::test]
async fn options_and_temporary_tables_are_the_sessions_own() {
    let folder = tempfile::tempdir().unwrap();
    let (sessions, catalog) = sessions(folder.path()).await;
    let name = TableName::new(DEFAULT_CATALOG, DEFAULT_SCHEMA, "t");
    catalog.create(None, &name, table(&catalog, "durable"), OnExists::Fail).await.unwrap();
    let (mine, _) = sessions.find_or_begin(&Principal::anonymous(), &over(1)).unwrap();
    let (yours, _) = sessions.find_or_begin(&Principal::anonymous(), &over(2)).unwrap();
    mine.temporary().put(name, table(&catalog, "temporary"));
    assert_eq!(column_of_t(&mine).await, "temporary");
    assert_eq!(column_of_t(&yours).await, "durable");

    mine.set_option("datafusion.execution.batch_size", "17").unwrap();
    assert_eq!(mine.state().config().batch_size(), 17);
    assert_ne!(yours.state().config().batch_size(), 17);
    let refused = mine.set_option("datafusion.runtime.memory_limit", "1G").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn files_of_temporary_tables_go_with_their_session() {
    let folder = tempfile::tempdir().unwrap();
    let (sessions, catalog) = sessions(folder.path()).await;
    let record = table(&catalog, "a");
    let Record::Table(of) = &record else { unreachable!() };
    let root = of.managed().unwrap().root.place().local_path().unwrap();
    std::fs::create_dir_all(&root).unwrap();
    let (session, _) = sessions.find_or_begin(&Principal::anonymous(), &over(1)).unwrap();
    session.temporary().put(session.resolve("t"), record);
    assert!(sessions.close(&session.id.clone()).await);
    catalog.collect_garbage().await.unwrap();
    assert!(!root.exists());
    assert!(!sessions.close("unknown").await);
}

/// Covers options from a configuration or a submission, and those that a client gives its new session after a failover.
#[tokio::test]
async fn functions_follow_an_option_that_no_statement_has_set() {
    let folder = tempfile::tempdir().unwrap();
    let (sessions, _) = sessions(folder.path()).await;
    let (session, _) = sessions.find_or_begin(&Principal::anonymous(), &over(1)).unwrap();
    session.set_option("datafusion.execution.time_zone", "America/New_York").unwrap();
    let plan = session.state().create_logical_plan("select to_timestamp('2024-01-15')").await.unwrap();
    let zone = |data_type: &DataType| match data_type {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    assert_eq!(zone(plan.schema().field(0).data_type()).as_deref(), Some("America/New_York"));
}

use super::in_process::InProcess;
use super::*;
use crate::clock::{Clock, Ids};
use crate::driver::{Driver, DriverConfig};
use crate::files::Tickets;
use crate::meta::{Entry, Leader, MemoryIds, MemoryStore, MetaError, MetaStore, Term, Transaction};
use crate::services::batches::Batches;
use crate::services::cluster::ClusterView;
use crate::services::interactive::{Interactive, InteractiveConfig};
use crate::services::jobs::Jobs;
use crate::services::loads::Loads;
use crate::services::runs::{Runs, RunsConfig};
use crate::services::sessions::Sessions;
use crate::services::submissions::{Submissions, SubmissionsConfig};
use crate::services::{self, Services};
use crate::statements::catalog::{CatalogConfig, Record};
use crate::statements::sessions::{Caller, Registry, SessionConfig};
use async_trait::async_trait;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::common::ScalarValue;
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use windlass_connectors::StoreRegistry;
use windlass_connectors::wfs::Wfs;
use windlass_core::access::Principal;
use windlass_proto::pass::KeyRing;

/// A cluster without `wfs://`.
#[derive(Debug)]
struct NoFiles;

#[async_trait]
impl windlass_connectors::wfs::Primary for NoFiles {
    async fn ask(&self, _: windlass_proto::v1::FileRequest) -> Result<windlass_proto::v1::FileReply, tonic::Status> {
        Err(tonic::Status::unimplemented("there are no files"))
    }
}

/// A primary without a cluster.
pub(crate) struct Bench {
    pub folder: tempfile::TempDir,
    pub statements: Statements,
    pub sessions: Arc<Registry>,
    pub runner: Arc<InProcess>,
    pub session: Arc<Session>,
}

impl Bench {
    pub async fn new() -> Self {
        Self::over(Arc::new(MemoryStore::default())).await
    }

    pub async fn over(store: Arc<dyn MetaStore>) -> Self {
        Self::with(store, StatementConfig::default()).await
    }

    async fn with(store: Arc<dyn MetaStore>, config: StatementConfig) -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::system());
        let stores = StoreRegistry::new();
        let runtime: RuntimeEnv = RuntimeEnvBuilder::new()
            .with_object_store_registry(Arc::clone(&stores) as _)
            .with_object_list_cache_limit(0)
            .build()
            .unwrap();
        let runtime = Arc::new(runtime);
        let catalog = Catalog::open(CatalogConfig {
            sealer: crate::meta::Sealer::ephemeral().unwrap(),
            store: Arc::clone(&store),
            stores: Arc::clone(&stores),
            runtime: Arc::clone(&runtime),
            warehouse: folder.path().join("warehouse").display().to_string(),
            grace: Duration::ZERO,
            limits: Default::default(),
            connectors: Default::default(),
            clock: clock.clone(),
            ids: Ids::random(),
            tasks: Default::default(),
        })
        .await
        .unwrap();
        let sessions = Registry::new(SessionConfig::default(), Arc::clone(&catalog));
        let runner = Arc::new(InProcess::default());
        let journal = Journal::new(store, runtime, stores, clock, Ids::random());
        journal.recover().await.unwrap();
        let statements = Statements::new(config, catalog, Arc::clone(&runner) as _, journal, TaskTracker::new());
        let session = sessions
            .find_or_begin(&Principal::anonymous(), &Caller { connection: Some(1), ..Caller::default() })
            .unwrap()
            .0;
        Self { folder, statements, sessions, runner, session }
    }

    /// Returns the services of the faces, except files.
    pub fn services(&self) -> Services {
        let (statements, tasks, stop) = (self.statements.clone(), TaskTracker::new(), CancellationToken::new());
        let (ids, store) = (Arc::new(MemoryIds::default()), Arc::clone(statements.catalog().store()));
        let driver = Driver::start(DriverConfig::default(), ids, None, None, stop.clone(), &tasks);
        let jobs = Jobs::new(driver.clone());
        let runs = Runs::new(RunsConfig::default(), statements.clone(), jobs.clone(), KeyRing::default());
        let cluster = ClusterView::new(driver.clone(), String::new());
        let tickets = Tickets::new(KeyRing::default(), Tickets::VALID);
        let wfs = Wfs::new(Arc::new(NoFiles), tokio::runtime::Handle::current(), None);
        let (config, of_runs) = (SubmissionsConfig::default(), runs.clone());
        let sessions = Sessions::new(Arc::clone(&self.sessions), statements.clone());
        let interactive = InteractiveConfig::default();
        let submissions =
            Submissions::new(config, of_runs, statements.clone(), driver, store, Vec::new(), stop.clone());
        Services {
            batches: Batches::new(submissions.clone(), jobs.clone(), statements.clone(), stop.clone()),
            submissions,
            interactive: Interactive::new(
                interactive,
                runs.clone(),
                sessions.clone(),
                &statements,
                String::new(),
                stop.clone(),
            ),
            sessions,
            loads: Loads::new(statements.clone(), runs.clone()),
            catalog: services::catalog::Catalog::new(statements),
            files: services::files::Files::new(wfs, cluster.clone(), tickets, Ids::random()),
            runs,
            jobs,
            cluster,
        }
    }

    pub fn clock(&self) -> &Clock {
        self.statements.catalog().clock()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    pub async fn in_session(&self, session: &Arc<Session>, sql: &str) -> Result<String, QueryError> {
        let execution = self.statements.execute(session, sql, None, &Info::default()).await?;
        let stream = self.statements.read(&execution)?;
        let batches: Vec<_> = stream.try_collect().await?;
        let text = pretty_format_batches(&batches).unwrap().to_string();
        let rows: Vec<_> = text.lines().filter(|line| line.starts_with('|')).skip(1).map(cells).collect();
        Ok(rows.join("\n"))
    }

    async fn sql(&self, sql: &str) -> String {
        self.in_session(&self.session, sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    async fn error(&self, sql: &str) -> QueryError {
        self.in_session(&self.session, sql).await.expect_err(sql)
    }
}

fn cells(line: &str) -> String {
    line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(" ")
}

/// A bucket that records what it is asked to list.
#[derive(Debug, Default)]
struct Bucket {
    files: InMemory,
    listed: Mutex<Vec<String>>,
}

impl std::fmt::Display for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bucket")
    }
}

impl Bucket {
    fn note(&self, prefix: Option<&Path>) {
        self.listed.lock().push(prefix.map(Path::to_string).unwrap_or_default());
    }

    /// Returns what was listed since the last call.
    fn listed(&self) -> Vec<String> {
        std::mem::take(&mut self.listed.lock())
    }
}

#[async_trait::async_trait]
impl ObjectStore for Bucket {
    async fn put_opts(&self, at: &Path, file: PutPayload, opts: PutOptions) -> object_store::Result<PutResult> {
        self.files.put_opts(at, file, opts).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.files.put_multipart_opts(at, opts).await
    }

    async fn get_opts(&self, at: &Path, opts: GetOptions) -> object_store::Result<GetResult> {
        self.files.get_opts(at, opts).await
    }

    fn delete_stream(
        &self,
        files: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.files.delete_stream(files)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.note(prefix);
        self.files.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.note(prefix);
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, opts: CopyOptions) -> object_store::Result<()> {
        self.files.copy_opts(from, to, opts).await
    }
}

impl Bench {
    /// Returns a new bucket that the cluster knows.
    fn bucket(&self, url: &str) -> Arc<Bucket> {
        let bucket = Arc::new(Bucket::default());
        let stores = self.statements.catalog().stores();
        stores.register_store(&url::Url::parse(url).unwrap(), Arc::clone(&bucket) as _);
        bucket
    }
}

#[tokio::test]
async fn a_statement_lists_a_folder_once_and_the_next_one_sees_what_was_added() {
    let bench = Bench::new().await;
    let bucket = bench.bucket("s3://one");
    bench.sql("copy (select 1 as a) to 's3://one/t/1.parquet'").await;
    bench.sql("create external table t stored as parquet location 's3://one/t/'").await;
    bench.sql("create view v as select a from t").await;
    let query = "select count(*) from t join t as u on t.a < u.a + 10 where t.a in (select a from v)";
    for (rows, add) in [("1", "copy (select 2 as a) to 's3://one/t/2.parquet'"), ("4", "select 1")] {
        bucket.listed();
        assert_eq!(bench.sql(query).await, rows);
        assert_eq!(bucket.listed(), ["t"]);
        bench.sql(add).await;
    }
}

#[tokio::test]
async fn a_scan_of_a_partitioned_folder_lists_what_its_filter_leaves() {
    let bench = Bench::new().await;
    let bucket = bench.bucket("s3://one");
    for year in [2012, 2013] {
        bench.sql(&format!("copy (select {year} as a) to 's3://one/t/y={year}/1.parquet'")).await;
    }
    bench.sql("create external table t stored as parquet partitioned by (y) location 's3://one/t/'").await;
    bucket.listed();
    assert_eq!(bench.sql("select a from t where y = '2013'").await, "2013");
    // The names of the folders are listed first, then the files of the folders that pass the filter.
    assert_eq!(bucket.listed(), ["t", "t/y=2013"]);
    assert_eq!(bench.sql("select count(*) from t").await, "2");
}

#[tokio::test]
async fn stores_may_have_the_same_paths() {
    let bench = Bench::new().await;
    for (name, rows) in [("one", "(1), (2)"), ("two", "(3)")] {
        bench.bucket(&format!("s3://{name}"));
        bench.sql(&format!("copy (values {rows}) to 's3://{name}/t/1.parquet'")).await;
        bench.sql(&format!("create external table {name} stored as parquet location 's3://{name}/t/'")).await;
    }
    assert_eq!(bench.sql("select * from one union all select * from two order by 1").await, "1\n2\n3");
    assert_eq!(bench.sql("select max(column1) from two union all select count(*) from one order by 1").await, "2\n3");
}

#[tokio::test]
async fn a_table_made_from_a_query_can_be_read_added_to_and_replaced() {
    let bench = Bench::new().await;
    assert_eq!(bench.sql("create table t as select 1 as a, 'x' as b union all select 2, 'y'").await, "");
    assert_eq!(bench.sql("select * from t order by a").await, "1 x\n2 y");
    assert_eq!(bench.sql("insert into t values (3, 'z'), (4, 'w')").await, "2");
    assert_eq!(bench.sql("select count(*), sum(a) from t").await, "4 10");
    assert_eq!(bench.sql("insert into t (b, a) values ('only', 5)").await, "1");
    assert_eq!(bench.sql("insert overwrite t select a + 10, b from t where a > 2").await, "3");
    assert_eq!(bench.sql("select a from t order by a").await, "13\n14\n15");
    assert_eq!(bench.sql("insert overwrite t select a, b from t where false").await, "0");
    assert_eq!(bench.sql("select count(*) from t").await, "0");
    assert!(matches!(bench.error("delete from t where a = 13").await, QueryError::Unsupported(_)));
    assert_eq!(bench.sql("drop table t").await, "");
    let error = bench.error("select * from t").await;
    assert!(matches!(error, QueryError::NotFound(_)), "{error:?}");
}

/// A store that can be told to lose its answers to commits that name a table.
#[derive(Debug, Default)]
struct LosesAnswers {
    store: MemoryStore,
    armed: AtomicBool,
    applies: AtomicBool,
}

#[async_trait::async_trait]
impl MetaStore for LosesAnswers {
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
        if !crate::meta::keys::catalog::names_table(&transaction) || !self.armed.swap(false, Ordering::SeqCst) {
            return self.store.commit(transaction).await;
        }
        if self.applies.load(Ordering::SeqCst) {
            self.store.commit(transaction).await?;
        }
        Err(MetaError::Unknown { store: "of this test".into(), reason: "the answer was lost".into() })
    }
}

#[tokio::test]
async fn what_may_have_been_published_keeps_its_files() {
    for applies in [true, false] {
        let store = Arc::new(LosesAnswers::default());
        store.applies.store(applies, Ordering::SeqCst);
        let bench = Bench::over(store.clone()).await;
        let (query, sql) = (Some("q1".to_string()), "create table t as select 1 as a union all select 2");
        store.armed.store(true, Ordering::SeqCst);
        let first = Info { query: query.clone(), delivery: Delivery::First, ..Info::default() };
        let error = bench.statements.execute(&bench.session, sql, None, &first).await.unwrap_err();
        assert!(matches!(error, QueryError::OutcomeUnknown(_)), "{error:?}");
        if applies {
            assert_eq!(bench.sql("select sum(a) from t").await, "3");
        }
        // The statement happens once, whether or not its first try did. Under another name it is another statement.
        let again = Info { delivery: Delivery::Again, ..first.clone() };
        let done = bench.statements.execute(&bench.session, sql, None, &again).await.unwrap();
        assert_eq!(done.affected, Some(2));
        assert_eq!(bench.sql("select sum(a) from t").await, "3");
        let other = Info { query: Some("q2".to_string()), ..first };
        let error = bench.statements.execute(&bench.session, sql, None, &other).await.unwrap_err();
        assert!(matches!(error, QueryError::AlreadyExists(_)), "{error:?}");
        // The catalog continues to work.
        assert_eq!(bench.sql("insert into t values (4)").await, "1");
        assert_eq!(bench.sql("select sum(a) from t").await, "7");
    }
}

#[tokio::test]
async fn an_empty_table_has_its_columns_defaults_and_constraints() {
    let bench = Bench::new().await;
    bench.sql("create table t (a int not null, b varchar default 'none', primary key (a) not enforced)").await;
    assert_eq!(bench.sql("select * from t").await, "");
    bench.sql("insert into t (a) values (7)").await;
    assert_eq!(bench.sql("select a, b from t").await, "7 none");
    assert_eq!(
        bench.error("create table t (x int)").await,
        QueryError::AlreadyExists("table 't' already exists".into())
    );
    bench.sql("create table if not exists t (x int)").await;
    bench.sql("create or replace table t as values (1), (2)").await;
    assert_eq!(bench.sql("select sum(column1) from t").await, "3");
    let twice = bench.error("create table u as select 1 as a, 2 as a").await.to_string();
    assert!(twice.contains("there twice"), "{twice}");
    assert!(matches!(
        bench.error("create table u as select interval '1 month' as i").await,
        QueryError::Unsupported(_)
    ));
}

#[tokio::test]
async fn planning_has_so_much_memory_and_others_have_theirs() {
    let config = StatementConfig { planning_memory: 8 << 20, ..StatementConfig::default() };
    let bench = Bench::with(Arc::new(MemoryStore::default()), config).await;
    // Each layer has a copy of the layers below it.
    let layers: String =
        (1..400).map(|n| format!(", c{n} as (select v + 1 as v from c{} where v > 0)", n - 1)).collect();
    let error = bench.error(&format!("with c0 as (select 1 as v){layers} select * from c399")).await;
    assert!(
        matches!(&error, QueryError::Exhausted(_)) && error.to_string().contains("primary.planning_memory"),
        "{error}"
    );
    assert_eq!(bench.sql("select 1 + 1").await, "2");
}

#[tokio::test]
async fn a_failed_write_leaves_nothing() {
    let bench = Bench::new().await;
    bench.sql("create table t as select 1 as a").await;
    bench.error("insert into t select 1 / (column1 - 2) from (values (1), (2))").await;
    bench.error("create table u as select 1 / (column1 - 2) as a from (values (1), (2))").await;
    assert_eq!(bench.sql("select * from t").await, "1");
    assert!(matches!(bench.error("select * from u").await, QueryError::NotFound(_)));
    bench.statements.catalog().collect_garbage().await.unwrap();
    let files = walk(&bench.path("warehouse"));
    assert_eq!(files.len(), 1, "{files:?}");
}

/// A statement that reads the table which it replaces keeps what others add to the table meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_table_replaced_by_its_own_rows_loses_none_that_others_add() {
    const ROWS: usize = 40;
    let bench = Arc::new(Bench::new().await);
    let files = bench.path("files");
    std::fs::create_dir_all(&files).unwrap();
    bench.sql("create table shared (a bigint)").await;
    bench.sql("create view seen as select a from shared where a >= 0").await;
    bench.sql("create temporary table mine (a bigint)").await;
    bench
        .sql(&format!("create external table outside (a bigint) stored as parquet location '{}/'", files.display()))
        .await;
    let replacing = [
        ("shared", "insert overwrite shared select a from shared"),
        ("shared", "create or replace table shared as select a from shared"),
        (
            "shared",
            "insert overwrite shared select column1 from (values (1)) where false union all select a from (select * from shared)",
        ),
        ("shared", "insert overwrite shared select a from seen"),
        ("mine", "insert overwrite mine select a from mine"),
        ("mine", "create or replace temporary table mine as select a from mine"),
        ("outside", "insert overwrite outside select a from outside"),
    ];
    for (table, replace) in replacing {
        bench.sql(&format!("insert overwrite {table} select 1 where false")).await;
        let adding: Vec<_> = (0..2)
            .map(|part| {
                let bench = Arc::clone(&bench);
                tokio::spawn(async move {
                    for row in 0..ROWS {
                        // A replaced table is another one: what was on its way to the old one is refused.
                        let add = format!("insert into {table} values ({})", part * ROWS + row);
                        while let Err(error) = bench.in_session(&bench.session, &add).await {
                            assert!(error.to_string().contains("was dropped or replaced while"), "{replace}: {error}");
                        }
                    }
                })
            })
            .collect();
        while adding.iter().any(|added| !added.is_finished()) {
            if let Err(error) = bench.in_session(&bench.session, replace).await {
                // Files may be added to a table outside of Windlass, so nobody waits with that.
                assert!(matches!(error, QueryError::Changed { .. }) && table != "mine", "{replace}: {error}");
            }
        }
        for added in adding {
            added.await.unwrap();
        }
        let (rows, sum) = (2 * ROWS, 2 * ROWS * (2 * ROWS - 1) / 2);
        let there = bench.sql(&format!("select count(*), count(distinct a), sum(a) from {table}")).await;
        assert_eq!(there, format!("{rows} {rows} {sum}"), "{replace}");
    }
}

/// The files of a first job are removed while a second one, which needs less memory, writes the statement's rows.
#[tokio::test]
async fn a_second_job_of_a_write_fills_a_folder_of_its_own() {
    let bench = Bench::new().await;
    bench.runner.tight.store(true, Ordering::Relaxed);
    bench.sql("create table t as select 1 as a").await;
    let catalog = bench.statements.catalog();
    let going = crate::meta::keys::garbage::all(catalog.store().as_ref()).await.unwrap();
    let going: Vec<String> = going.into_iter().map(|going| going.url).collect();
    let snapshot = catalog.snapshot();
    let held = snapshot.table(&bench.session.resolve("t")).unwrap();
    let Record::Table(table) = &held.record else { panic!("t is a table") };
    let folders = &table.managed().unwrap().folders;
    assert!(!going.is_empty() && !folders.is_empty());
    assert!(folders.iter().all(|folder| !going.contains(&folder.url())), "{folders:?} of {going:?}");
    assert_eq!(bench.sql("select * from t").await, "1");
}

fn walk(folder: &std::path::Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}

#[tokio::test]
async fn external_tables_read_files_globs_and_hive_folders() {
    let bench = Bench::new().await;
    let one = bench.file("csv/one.csv", "a,b\n1,x\n2,y\n");
    bench.file("csv/two.csv", "a,b\n3,z\n");
    bench.file("csv/ignored.txt", "nothing\n");
    bench
        .sql(&format!("create external table one stored as csv location '{one}' options ('format.has_header' 'true')"))
        .await;
    assert_eq!(bench.sql("select * from one").await, "1 x\n2 y");
    let folder = bench.path("csv").display().to_string();
    bench
        .sql(&format!(
            "create external table glob stored as csv location '{folder}/t*.csv' options ('format.has_header' 'true')"
        ))
        .await;
    assert_eq!(bench.sql("select * from glob").await, "3 z");

    bench.file("hive/month=1/a.csv", "1\n2\n");
    bench.file("hive/month=2/b.csv", "3\n");
    let hive = bench.path("hive").display().to_string();
    bench.sql(&format!("create external table hive (v int, month int) stored as csv partitioned by (month) location '{hive}/' options ('format.has_header' 'false')")).await;
    assert_eq!(bench.sql("select sum(v), month from hive group by month order by month").await, "3 1\n3 2");
    bench.file("hive/month=2/c.csv", "4\n");
    assert_eq!(bench.sql("select sum(v) from hive where month = 2").await, "7", "new files are seen at once");
    assert_eq!(bench.sql("insert into hive values (5, 3)").await, "1");
    assert_eq!(bench.sql("select sum(v) from hive").await, "15");
    assert_eq!(bench.sql("insert overwrite hive values (6, 1)").await, "1");
    assert_eq!(bench.sql("select * from hive").await, "6 1");
    assert_eq!(walk(&bench.path("hive")).len(), 1);
    assert!(bench.sql("describe hive").await.contains("month Int32"));
    assert!(bench.sql("show create table hive").await.contains("create external table hive"));

    let missing = bench.error("create external table m stored as parquet location '/nowhere/at/all.parquet'").await;
    assert!(missing.to_string().contains("/nowhere/at/all.parquet"), "{missing}");
    let format = bench.error(&format!("create external table m stored as orc location '{one}'")).await;
    assert!(format.to_string().contains("PARQUET, CSV, JSON"), "{format}");
}

#[tokio::test]
async fn copy_writes_files_and_says_how_many_rows() {
    let bench = Bench::new().await;
    let out = bench.path("out").display().to_string();
    assert_eq!(bench.sql(&format!("copy (values (1, 'a'), (2, 'b')) to '{out}/x.parquet'")).await, "2");
    bench.sql(&format!("create external table x stored as parquet location '{out}/x.parquet'")).await;
    assert_eq!(bench.sql("select count(*) from x").await, "2");
    assert_eq!(bench.sql(&format!("copy x to '{out}/parts/' stored as csv partitioned by (column2)")).await, "2");
    assert!(bench.path("out/parts/column2=a").is_dir());
}

#[tokio::test]
async fn temporary_tables_and_views_belong_to_their_session() {
    let bench = Bench::new().await;
    let other = bench
        .sessions
        .find_or_begin(&Principal::anonymous(), &Caller { connection: Some(2), ..Caller::default() })
        .unwrap()
        .0;
    bench.sql("create table t as select 'durable' as v").await;
    bench.sql("create temporary table t as select 'mine' as v").await;
    bench.sql("create temporary view w as select v || '!' as v from t").await;
    assert_eq!(bench.sql("select * from w").await, "mine!");
    assert_eq!(bench.in_session(&other, "select * from t").await.unwrap(), "durable");
    assert!(bench.in_session(&other, "select * from w").await.is_err());
    bench.sql("insert into t values ('more')").await;
    assert_eq!(bench.sql("select count(*) from w").await, "2");
    let refused = bench.error("create view bad as select * from t").await;
    assert!(refused.to_string().contains("TEMPORARY VIEW"), "{refused}");
    assert!(bench.error("create temporary view t2 as select * from t2").await.to_string().contains("not found"));
    bench.sql("drop table t").await;
    assert_eq!(bench.sql("select * from w").await, "durable!");
}

#[tokio::test]
async fn views_are_shared_and_follow_their_tables() {
    let bench = Bench::new().await;
    let other = bench
        .sessions
        .find_or_begin(&Principal::anonymous(), &Caller { connection: Some(2), ..Caller::default() })
        .unwrap()
        .0;
    bench.sql("create table t as select 1 as a").await;
    bench.sql("create view v as select a * 2 as d from t").await;
    bench.sql("insert into t values (21)").await;
    assert_eq!(bench.in_session(&other, "select max(d) from v").await.unwrap(), "42");
    bench.sql("create or replace view v as select a + 1 as e from t").await;
    assert_eq!(bench.in_session(&other, "select max(e) from v").await.unwrap(), "22");
    let error = bench.error("create view broken as select nosuch from t").await;
    assert!(matches!(error, QueryError::NotFound(_)), "{error:?}");
    assert!(bench.error("insert into v values (1)").await.to_string().contains("view"));
    bench.sql("alter table t rename to u").await;
    assert_eq!(bench.sql("select count(*) from u").await, "2");
}

#[tokio::test]
async fn schemas_hold_tables_of_their_own() {
    let bench = Bench::new().await;
    bench.sql("create schema s").await;
    bench.sql("create table s.t as select 1 as a").await;
    bench.sql("create table t as select 2 as a").await;
    assert_eq!(bench.sql("select s.t.a, p.a from s.t, t p").await, "1 2");
    bench.sql("set datafusion.catalog.default_schema = 's'").await;
    assert_eq!(bench.sql("select a from t").await, "1");
    assert!(bench.error("drop schema s").await.to_string().contains("CASCADE"));
    bench.sql("drop schema s cascade").await;
    assert!(matches!(bench.error("create table nosuch.t (a int)").await, QueryError::NotFound(_)));
    bench.sql("create database d").await;
    bench.sql("create schema d.s").await;
    bench.sql("create table d.s.t as select 3 as a").await;
    assert_eq!(bench.sql("select a from d.s.t").await, "3");
}

#[tokio::test]
async fn the_catalog_answers_without_a_cluster() {
    let bench = Bench::new().await;
    bench.sql("create table t (a int, b varchar)").await;
    bench.sql("create temporary view v as select 1 as one").await;
    let jobs = bench.runner.jobs.load(std::sync::atomic::Ordering::Relaxed);
    let tables = bench.sql("select table_catalog, table_schema, table_name, table_type from information_schema.tables where table_schema = 'public' order by table_name").await;
    assert_eq!(tables, "windlass public t BASE TABLE\nwindlass public v VIEW");
    assert!(bench.sql("show tables").await.contains("windlass public t BASE TABLE"));
    assert_eq!(bench.sql("describe t").await, "a Int32 YES\nb Utf8View YES");
    assert!(bench.sql("show datafusion.execution.batch_size").await.contains("8192"));
    assert!(bench.sql("show columns from t").await.contains("a Int32"));
    assert_eq!(bench.runner.jobs.load(std::sync::atomic::Ordering::Relaxed), jobs);
    let joined = bench
        .sql("select count(*) from information_schema.columns c join (select 'a' as n) t on c.column_name = t.n")
        .await;
    assert_eq!(joined, "1");
}

#[tokio::test]
async fn options_hold_for_the_session() {
    let bench = Bench::new().await;
    bench.sql("set datafusion.execution.batch_size = 99").await;
    assert!(bench.sql("show datafusion.execution.batch_size").await.contains("99"));
    bench.sql("reset datafusion.execution.batch_size").await;
    assert!(bench.sql("show datafusion.execution.batch_size").await.contains("8192"));
    let unknown = bench.error("set datafusion.execution.bach_size = 1").await;
    assert_eq!(
        unknown.to_string(),
        "unknown option 'datafusion.execution.bach_size'; did you mean datafusion.execution.batch_size?"
    );
    bench.sql("set windlass.small_query_bytes = 0").await;
    bench.sql("reset windlass.small_query_bytes").await;
    assert!(bench.sql("show windlass.small_query_bytes").await.contains("8388608"));
    let unknown = bench.error("reset windlass.smal_query_bytes").await;
    assert!(unknown.to_string().contains("did you mean windlass.small_query_bytes?"), "{unknown}");
    assert!(matches!(bench.error("set datafusion.runtime.memory_limit = '1G'").await, QueryError::Unsupported(_)));
    assert!(matches!(bench.error("begin").await, QueryError::Unsupported(_)));
}

#[tokio::test]
async fn prepared_statements_see_what_changed_since() {
    let bench = Bench::new().await;
    bench.sql("create table t as values (1), (2), (3)").await;
    bench.sql("prepare p(int) as select count(*) from t where column1 > $1").await;
    assert_eq!(bench.sql("execute p(1)").await, "2");
    bench.sql("insert into t values (9)").await;
    assert_eq!(bench.sql("execute p(1)").await, "3");
    assert_eq!(bench.sql("execute p(1 + 1)").await, "2");
    assert!(bench.error("execute p(1, 2)").await.to_string().contains("1 parameters"));
    bench.sql("deallocate p").await;
    assert!(matches!(bench.error("execute p(1)").await, QueryError::NotFound(_)));
}

#[tokio::test]
async fn columns_that_are_named_twice_keep_their_name() {
    let bench = Bench::new().await;
    bench.sql("CREATE TABLE t AS SELECT 1 AS id, 2 AS x").await;
    bench.sql("PREPARE again AS SELECT id, id FROM t WHERE id = $1").await;
    for (sql, expected) in [
        ("SELECT id, id FROM t", ["id", "id"].as_slice()),
        ("SELECT a.id, b.id, a.id FROM t a, t b", &["id", "id", "id"]),
        ("SELECT x AS id, t.id FROM t", &["id", "id"]),
        ("SELECT *, id FROM t", &["id", "x", "id"]),
        ("SELECT * FROM (SELECT id, id FROM t) s", &["id", "id"]),
        ("SELECT id, id FROM t UNION ALL SELECT x, x FROM t ORDER BY 1", &["id", "id"]),
        ("EXECUTE again(1)", &["id", "id"]),
    ] {
        let execution = bench.statements.execute(&bench.session, sql, None, &Info::default()).await.unwrap();
        let names: Vec<_> = execution.schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, expected, "{sql}");
    }
    let deep = format!("SELECT CAST(NULL AS {}INT{})", "ARRAY<".repeat(3_000), ">".repeat(3_000));
    assert!(matches!(bench.error(&deep).await, QueryError::Unsupported(_)));
    let twice = bench.error("CREATE TABLE twice AS SELECT id, id FROM t").await.to_string();
    assert!(twice.contains("column 'id' is there twice"), "{twice}");
}

#[tokio::test]
async fn parameters_are_bound_by_position_and_by_name() {
    let bench = Bench::new().await;
    let run = async |sql: &str, parameters: Parameters| {
        let execution = bench.statements.execute(&bench.session, sql, Some(parameters), &Info::default()).await?;
        let batches: Vec<_> = bench.statements.read(&execution)?.try_collect().await?;
        Ok::<_, QueryError>(cells(
            pretty_format_batches(&batches).unwrap().to_string().lines().nth(3).unwrap_or_default(),
        ))
    };
    let int = |value| ScalarValue::Int64(Some(value));
    assert_eq!(run("select ? - ?", Parameters::Positional(vec![int(5), int(3)])).await.unwrap(), "2");
    assert_eq!(run("select $2 - $1", Parameters::Positional(vec![int(5), int(3)])).await.unwrap(), "-2");
    let named = Parameters::Named([("a".to_string(), int(5)), ("b".to_string(), int(3))].into());
    assert_eq!(run("select $b - $a", named).await.unwrap(), "-2");
    let few = run("select ? + ?", Parameters::Positional(vec![int(1)])).await.unwrap_err();
    assert!(few.to_string().contains("2 parameters"), "{few}");
    assert!(bench.error("select $1").await.to_string().contains("no values were given"));

    bench.sql("create table t (a int, b varchar)").await;
    let row = |a, b: &str| Parameters::Positional(vec![int(a), ScalarValue::from(b)]);
    let jobs = bench.runner.jobs.load(std::sync::atomic::Ordering::Relaxed);
    let many = (0..50).map(|n| row(n, "x")).collect();
    let rows =
        bench.statements.execute_many(&bench.session, "insert into t values (?, ?)", many, &Info::default()).await;
    assert_eq!(rows.unwrap(), Some(50));
    assert_eq!(bench.runner.jobs.load(std::sync::atomic::Ordering::Relaxed), jobs + 1, "one job for all rows");
    assert_eq!(bench.sql("select count(*), sum(a), min(b) from t").await, "50 1225 x");
    let described = bench.statements.describe(&bench.session, "insert into t values (?, ?)").await.unwrap();
    assert!(described.is_update);
    let types: Vec<_> = described.parameters.iter().map(|field| field.data_type().clone()).collect();
    assert_eq!(types, [DataType::Int32, DataType::Utf8View]);
    let described = bench.statements.describe(&bench.session, "select a from t where a > ?").await.unwrap();
    assert_eq!(described.schema.field(0).name(), "a");
    assert_eq!(described.parameters[0].data_type(), &DataType::Int32);
}

#[tokio::test]
async fn explain_shows_the_stages_and_analyze_what_they_took() {
    let bench = Bench::new().await;
    let plain = bench.sql("explain select 1 + 1").await;
    assert!(
        plain.contains("logical_plan") && plain.contains("physical_plan") && plain.contains("Stage 0: 1 task"),
        "{plain}"
    );
    let analyzed = bench.sql("explain analyze select 1 + 1").await;
    assert!(analyzed.contains("Plan with Metrics Stage 0: 1 task, 1 row"), "{analyzed}");
    bench.sql("create table t (a int)").await;
    let inserted = bench.sql("explain analyze insert into t values (1)").await;
    assert!(inserted.contains("Stage 0"), "{inserted}");
    assert_eq!(bench.sql("select * from t").await, "1");
}

#[tokio::test]
async fn errors_point_at_their_place_and_know_temporary_names() {
    let bench = Bench::new().await;
    bench.sql("create temporary table flights (origin varchar)").await;
    let error = bench.error("select *\nfrom fligths").await.to_string();
    assert!(error.starts_with("table 'fligths' not found; did you mean flights? (line 2, column 6)"), "{error}");
    let error = bench.error("select * from '/data/a.b/c.parquet'").await;
    assert!(matches!(error, QueryError::NotFound(_)));
    let advice = "table '/data/a.b/c.parquet' not found; files become a table with CREATE EXTERNAL TABLE";
    assert!(error.to_string().starts_with(advice), "{error}");
    let error = bench.error("select * from zzz, flights\njoin aaa using (origin)").await.to_string();
    assert!(error.starts_with("table 'zzz' not found (line 1, column 15)"), "{error}");
    bench.sql("create table brief as select 1 as a").await;
    bench.sql("prepare later as select * from brief").await;
    bench.sql("drop table brief").await;
    assert!(matches!(bench.error("execute later").await, QueryError::NotFound(_)));
    let error = bench.error("select * from generate_series(1, 'x', flor(2))").await;
    assert!(matches!(error, QueryError::Invalid(_)), "{error:?}");
    let error = bench.error("select origin,\n  orign from flights").await.to_string();
    assert!(error.starts_with("column 'orign' not found; did you mean origin? (line 2, column 3)"), "{error}");
    assert!(matches!(bench.error("selec 1").await, QueryError::Syntax(_)));
    assert!(matches!(bench.error("").await, QueryError::Invalid(_)));
    assert!(matches!(bench.error("select 1; select 2").await, QueryError::Unsupported(_)));
    let long = format!("select '{}'", "x".repeat(17 << 20));
    assert!(bench.error(&long).await.to_string().contains("16777216"));
}

#[tokio::test]
async fn a_large_result_streams_from_where_it_is_kept() {
    let bench = Bench::new().await;
    *bench.runner.inline.lock() = Some(100);
    assert_eq!(bench.sql("select count(*), sum(value) from generate_series(1, 10000)").await, "10000 50005000");
    let all = bench.sql("select value from generate_series(1, 10000)").await;
    assert_eq!(all.lines().count(), 10000);
}

#[test]
fn of_a_local_file_that_is_not_there_the_primary_says_whether_it_sees_it() {
    let said = |path: &str| {
        let message = format!("cannot read it: Object Store error: Object at location {path} not found: No such file");
        about_files(QueryError::FileMissing { path: path.to_string(), message }).to_string()
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    let seen = said(&file.path().display().to_string());
    assert!(seen.contains("\nthe primary sees this file, but an executor does not"), "{seen}");
    let gone = said("/no/such/file");
    assert!(gone.ends_with("\nit was there when the statement was planned, and is gone: run it again"), "{gone}");
    assert!(said("bucket/key").ends_with("not found: No such file"), "it is not a local one");
}

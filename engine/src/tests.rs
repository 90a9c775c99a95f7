//! Tests that plan and run whole jobs in one process: every stage goes through its encoded form, every exchange through a store.

mod functions;
mod round_trip;
mod written_plans;

use crate::config::WindlassOptions;
use crate::connector::tests::connectors;
use crate::exchange::{BucketSel, ExchangeStore, StoreConfig};
use crate::exchange_source::ExchangeSource;
use crate::plan::plan_job;
use crate::session::{session_config, session_state};
use crate::stage::{ClusterShape, PlannedJob};
use crate::task::{InputLocations, TaskInputs};
use crate::{Handover, StagePlan, decode_batches};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::display::array_value_to_string;
use arrow::util::pretty::pretty_format_batches;
use bytes::Bytes;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::{StreamExt, TryStreamExt};
use std::ops::Range;
use std::sync::Arc;
use windlass_core::ids::{AttemptId, ExecutorId, JobId};
use windlass_core::job::MapLocation;

pub(crate) const SHAPE: ClusterShape = ClusterShape { executors: 2, slots: 4, max_slots: 2 };

#[derive(Debug)]
struct StoreSource(Arc<ExchangeStore>);

impl ExchangeSource for StoreSource {
    fn read(
        &self,
        schema: SchemaRef,
        outputs: Vec<(AttemptId, ExecutorId)>,
        buckets: Option<Range<u32>>,
    ) -> SendableRecordBatchStream {
        let select: Vec<BucketSel> =
            buckets.map_or(vec![BucketSel::All], |buckets| buckets.map(BucketSel::One).collect());
        let requests = outputs
            .into_iter()
            .flat_map(move |(output, _)| select.clone().into_iter().map(move |select| (output, select)));
        let store = Arc::clone(&self.0);
        let batches = futures::stream::iter(requests)
            .map(move |(output, select)| store.read(output, select).map(|stream| stream.map_err(DataFusionError::from)))
            .map_err(DataFusionError::from)
            .try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(schema, batches.boxed()))
    }
}

/// Runs a job with `together` tasks of a stage in one instance, as if one executor had launched them together.
async fn run_job(
    job: &PlannedJob,
    store: &Arc<ExchangeStore>,
    runtime: &Arc<RuntimeEnv>,
    together: usize,
) -> Vec<RecordBatch> {
    run_writing(job, store, runtime, together).await.0
}

/// The results of a job that reads no files: rows, and the files that its tasks staged, in the order of the tasks.
pub(crate) async fn run_stages(job: &PlannedJob, together: usize) -> (Vec<RecordBatch>, Vec<Bytes>) {
    let fixture = Fixture::empty();
    run_writing(job, &fixture.store, &Arc::default(), together).await
}

/// Rows as text, one line per value, sorted.
pub(crate) fn sorted(batches: &[RecordBatch]) -> Vec<String> {
    let row = |batch: &RecordBatch, at: usize| {
        let values = batch.columns().iter().map(|column| array_value_to_string(column, at).unwrap());
        values.collect::<Vec<_>>().join("|")
    };
    let of_batch = |batch: &RecordBatch| (0..batch.num_rows()).map(|at| row(batch, at)).collect::<Vec<_>>();
    let mut rows: Vec<String> = batches.iter().flat_map(of_batch).collect();
    rows.sort();
    rows
}

async fn run_writing(
    job: &PlannedJob,
    store: &Arc<ExchangeStore>,
    runtime: &Arc<RuntimeEnv>,
    together: usize,
) -> (Vec<RecordBatch>, Vec<Bytes>) {
    let id = JobId(1);
    let (mut result, mut staged) = (Vec::new(), Vec::new());
    for (index, stage) in job.stages.iter().enumerate() {
        let plan = StagePlan::decode(&stage.bytes, Arc::clone(runtime), &connectors()).unwrap();
        let stages = stage
            .inputs
            .iter()
            .map(|input| InputLocations {
                stage: input.stage,
                maps: (0..job.stages[input.stage as usize].tasks)
                    .map(|partition| MapLocation { partition, attempt: 0, executor: ExecutorId(1) })
                    .collect(),
            })
            .collect();
        let inputs = TaskInputs { job: id, stages, source: Arc::new(StoreSource(Arc::clone(store))) };
        let attempts: Vec<(u32, u32)> = (0..stage.tasks).map(|partition| (partition, 0)).collect();
        for group in attempts.chunks(together) {
            let instance = plan.instantiate(id.stage(index as u32), group, inputs.clone()).unwrap();
            let tasks = (0..group.len()).map(|task| Arc::clone(&instance).run(task, store));
            for summary in futures::future::join_all(tasks).await {
                let summary = summary.unwrap_or_else(|e| panic!("stage {index}: {e}\n{}", stage.display));
                if let Some(bytes) = summary.inline_result {
                    result.extend(decode_batches(&bytes).unwrap());
                }
                staged.extend(summary.staged);
            }
        }
    }
    (result, staged)
}

fn context(small_query_bytes: usize) -> SessionContext {
    let mut config = session_config();
    let mut options = WindlassOptions::default();
    options.small_query_bytes = small_query_bytes;
    options.inline_result_bytes = usize::MAX;
    config = config.with_option_extension(options);
    SessionContext::new_with_state(session_state(config, Arc::default(), None))
}

/// Rows as text, sorted: results may come in any order.
fn rows(batches: &[RecordBatch]) -> Vec<String> {
    let text = pretty_format_batches(batches).unwrap().to_string();
    let mut rows: Vec<String> = text.lines().map(String::from).collect();
    rows.sort();
    rows
}

struct Fixture {
    folder: tempfile::TempDir,
    store: Arc<ExchangeStore>,
}

impl Fixture {
    /// A fixture with tables in several files, so that scans have several partitions.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let maker = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        for part in 0..4 {
            let (from, to) = (part * 1000, part * 1000 + 999);
            let path = folder.path().join(format!("fact/{part}.parquet"));
            let sql = format!(
                "copy (select value as id, value % 97 as k, case when value % 11 = 0 then null else value % 7 end as n,
                 cast(value as double) / 4 as x, 'name-' || (value % 13) as s from generate_series({from}, {to}))
                 to '{}' stored as parquet",
                path.display()
            );
            maker.sql(&sql).await.unwrap().collect().await.unwrap();
            let path = folder.path().join(format!("dim/{part}.parquet"));
            let (from, to) = (part * 30, part * 30 + 29);
            let sql = format!(
                "copy (select value as k, 'd' || (value % 5) as label, case when value % 10 = 3 then null else value end as v
                 from generate_series({from}, {to})) to '{}' stored as parquet",
                path.display()
            );
            maker.sql(&sql).await.unwrap().collect().await.unwrap();
        }
        Self::in_folder(folder)
    }

    /// A fixture without tables.
    fn empty() -> Self {
        Self::in_folder(tempfile::tempdir().unwrap())
    }

    fn in_folder(folder: tempfile::TempDir) -> Self {
        let pool = Arc::clone(&RuntimeEnv::default().memory_pool);
        let store = ExchangeStore::open(StoreConfig::new(folder.path().join("exchange")), pool).unwrap();
        Self { folder, store }
    }

    async fn register(&self, context: &SessionContext) {
        for table in ["fact", "dim"] {
            let sql = format!(
                "create external table {table} stored as parquet location '{}/'",
                self.folder.path().join(table).display()
            );
            context.sql(&sql).await.unwrap().collect().await.unwrap();
        }
    }

    /// Checks that the answer of the stages equals DataFusion's own, however many of their tasks run together. Returns the stages.
    async fn check(&self, sql: &str, set: impl Fn(&mut WindlassOptions)) -> String {
        let mut shown = String::new();
        for together in [1, 3] {
            let (actual, expected, stages) = self.answers_of(sql, together, &set).await;
            assert_eq!(rows(&actual), rows(&expected), "{together} tasks together: {sql}\n{stages}");
            shown = stages;
        }
        shown
    }

    /// The answer of the stages, DataFusion's answer, and the stages.
    async fn answers(
        &self,
        sql: &str,
        set: impl FnOnce(&mut WindlassOptions),
    ) -> (Vec<RecordBatch>, Vec<RecordBatch>, String) {
        self.answers_of(sql, 1, set).await
    }

    async fn answers_of(
        &self,
        sql: &str,
        together: usize,
        set: impl FnOnce(&mut WindlassOptions),
    ) -> (Vec<RecordBatch>, Vec<RecordBatch>, String) {
        let plain = SessionContext::new_with_config(
            SessionConfig::new().with_target_partitions(3).with_information_schema(true),
        );
        self.register(&plain).await;
        let expected = plain.sql(sql).await.unwrap().collect().await.unwrap();
        let windlass = context(0);
        self.register(&windlass).await;
        let mut state = windlass.state();
        set(state.config_mut().options_mut().extensions.get_mut::<WindlassOptions>().unwrap());
        let logical = state.create_logical_plan(sql).await.unwrap();
        let job = plan_job(&state, &logical, SHAPE).await.unwrap();
        let runtime = Arc::clone(state.runtime_env());
        let stages: Vec<_> = job.stages.iter().map(|stage| stage.display.as_str()).collect();
        let actual = run_job(&job, &self.store, &runtime, together).await;
        self.store.remove_job(JobId(1));
        (actual, expected, stages.join("\n---\n"))
    }
}

/// Rows of a scan that match nothing of a small build side are dropped before the shuffle, and one stage provides the build side of both joins. Joins that
/// show such rows keep them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_build_sides_go_to_the_scans_of_the_other_side() {
    let fixture = Fixture::new().await;
    let reducing = |options: &mut WindlassOptions| {
        // Joins of tables this small would otherwise collect a side.
        (options.broadcast_bytes, options.broadcast_rows, options.broadcast_max_bytes) = (0, 0, 0);
        options.semi_join_from_bytes = 0;
    };
    for (sql, reduces) in [
        ("select f.id, d.label from dim d join fact f on d.v = f.id where d.k < 12", true),
        (
            "select d.k, d.label from dim d where d.k < 12 and exists (select 1 from fact f where f.id = d.k and f.n > 1)",
            // The derived condition on `id` also filters the fact table.
            false,
        ),
        ("select d.k from dim d where d.k < 12 and not exists (select 1 from fact f where f.id = d.v)", true),
        ("select d.k, f.id from dim d left join fact f on f.id = d.v where d.k < 12", true),
        (
            "select a.id from fact a join (select id from fact where id < 50 and x > 3) b on a.id = b.id and a.x < b.id",
            true,
        ),
        // Rows of the scan that match nothing belong to the answer.
        ("select d.k, f.id from (select * from dim where k < 12) d full join fact f on f.id = d.v", false),
        ("select d.k, f.id from (select * from dim where k < 12) d right join fact f on f.id = d.v", false),
        ("select f.id from fact f where f.id not in (select k from dim where k < 12)", false),
        // Recomputed after a loss, it might have other rows.
        ("select f.id, d.k from (select * from dim where k < 12 and random() < 2) d join fact f on d.v = f.id", false),
        (
            "select d.k from (select max(k) k from dim where k < 12 group by label having sum(cast(v as double)) > 1) d join fact f on d.k = f.id",
            false,
        ),
        (
            "select d.k from (select max(k) k from dim where k < 12 group by label having sum(v) > 1) d join fact f on d.k = f.id",
            true,
        ),
        // It is not known to leave any row out.
        ("select f.id, d.label from dim d join fact f on d.k = f.id", false),
        // An aggregate leaves few rows.
        (
            "select d.label, f.n from dim d join (select k, count(*) n from fact group by k) f on d.k = f.k where d.k < 12",
            false,
        ),
    ] {
        let (actual, expected, stages) = fixture.answers(sql, reducing).await;
        assert_eq!(rows(&actual), rows(&expected), "{sql}\n{stages}");
        let semi_joins = stages.lines().filter(|line| line.contains("mode=CollectLeft, join_type=RightSemi")).count();
        assert_eq!(semi_joins, usize::from(reduces), "{sql}\n{stages}");
        let (_, _, plain) = fixture
            .answers(sql, |options| {
                reducing(options);
                options.semi_join_max_bytes = 0;
            })
            .await;
        assert_eq!(stages.split("---").count(), plain.split("---").count(), "no stage runs twice: {stages}");
    }
}

/// Sorts by keys that allow only one order, which is compared too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sorts_end_in_ranges() {
    let fixture = Fixture::new().await;
    let text = |batches: &[RecordBatch]| pretty_format_batches(batches).unwrap().to_string();
    for sql in [
        "select * from fact order by k, id",
        "select id, s from fact order by s desc, n nulls first, id",
        "select n, x * 2 from fact order by x desc, id",
        "select id, f.k, label from fact f join dim d on f.k = d.k order by label, id desc",
        "select k, sum(n), count(*) from fact group by k order by 2 desc nulls last, k",
        "select s from fact order by s",
        "select n, id from fact where n is null order by n, id desc",
        "select id, k from fact where id < 0 order by k",
    ] {
        let (actual, expected, stages) = fixture.answers(sql, |options| options.range_sort_rows = 0).await;
        assert_eq!(text(&actual), text(&expected), "{sql}\n{stages}");
        assert!(stages.contains("ranges="), "{sql}\n{stages}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_are_for_large_sorts_by_certain_keys() {
    let fixture = Fixture::new().await;
    for sql in [
        "select id from fact order by id limit 10",
        "select id, random() as r from fact order by r",
        "select s, sum(x) from fact group by s order by 2",
        "select id, row_number() over (partition by s order by n) as r from fact order by r, id",
        "select * from (select id from fact limit 100) order by id",
        "select s, first_value(id) as f from fact group by s order by f",
    ] {
        let (_, _, stages) = fixture.answers(sql, |options| options.range_sort_rows = 0).await;
        assert!(!stages.contains("ranges="), "{sql}\n{stages}");
    }
    let (_, _, stages) = fixture.answers("select id from fact order by k, id", |_| {}).await;
    assert!(!stages.contains("ranges="), "{stages}");
}

/// Statements over the tables of the [`Fixture`].
const STATEMENTS: &[&str] = &[
    "select count(*), sum(x), min(s), max(n) from fact",
    "select k, count(*), sum(n) from fact group by k",
    "select s, count(distinct k), sum(x) filter (where n > 2) from fact group by s",
    "select n, s, grouping(n), count(*) from fact group by grouping sets ((n), (s), (n, s), ())",
    "select * from fact order by x desc, id limit 17 offset 5",
    "select id, s from fact where k = 5 order by s, id",
    "select f.id, d.label from fact f join dim d on f.k = d.k where d.v > 20",
    "select d.k, f.id from dim d left join fact f on f.k = d.k and f.id < 50",
    "select d.k, f.id from dim d full join fact f on f.k = d.v and f.id < 200",
    "select k from dim where k not in (select v from dim where v is not null)",
    "select k from dim where k not in (select v from dim)",
    "select d.k from dim d where exists (select 1 from fact f where f.k = d.k and f.id > 3990)",
    "select d.k from dim d where not exists (select 1 from fact f where f.k = d.k)",
    "select a.k, b.k from dim a left join dim b on a.k < b.v - 110",
    "select a.k, b.k from dim a full join dim b on a.k > b.v + 110",
    "select a.k, b.label from dim a cross join (select distinct label from dim) b where a.k < 3",
    "select id, rank() over (partition by s order by x desc) r, sum(n) over (partition by k order by id) t from fact",
    "select id, row_number() over (order by id) from fact where id < 1500",
    "select k from fact where id < 40 union all select k from dim union select 1000",
    "select k from fact intersect select k from dim where k > 50",
    "select k from dim except select k from fact",
    "with recursive t(n) as (select 1 union all select n + 1 from t where n < 50) select sum(n) from t",
    "with recursive t(a, b) as (select k, 1 from dim where k < 3 union all select a + 1, b * 2 from t where b < 100)
     select t.b, d.label from t join dim d on d.k = t.a",
    "select count(*) from fact where x > (select avg(x) from fact)",
    "select k, (select max(v) from dim) - k from dim where k < (select count(*) from dim where label = 'd1')",
    "select label, (select count(*) from fact f where f.k = d.k) from dim d",
    "select unnest([1, 2, 3]), k from dim where k < 4",
    "values (1, 'a'), (2, null)",
    "select sum(value) from generate_series(1, 100000)",
    "select count(*) from generate_series(1, 5000)",
    "select id, lag(n) ignore nulls over (order by id) a, last_value(n) ignore nulls over (order by id) b,
     first_value(id) over (partition by k order by id desc) c, lead(id, 2, -1) over (order by id desc) d,
     nth_value(id, 3) over (partition by s order by id desc rows between unbounded preceding and unbounded following) e
     from fact where id between 5 and 400",
    "select id, count(*) filter (where n > 2) over (partition by k order by id) a,
     sum(x) filter (where s <> 'name-3' and k % 2 = 0) over (order by id rows between 3 preceding and 2 following) b,
     array_agg(n) filter (where n is null or n > 3) over (partition by s order by id) c,
     max(x) filter (where k > 90) over (partition by s) d, sum(n) over (order by id) e from fact where id < 300",
    "select id, count(*) filter (where x > (select avg(x) from fact)) over (order by id desc) a,
     array_agg(id) filter (where n > 2) over (partition by k order by id rows between current row and unbounded following) b,
     sum(distinct n) filter (where id % 2 = 0) over (partition by k) c from fact where id % 20 < 3",
    "select d.k, sum(f.x) filter (where f.k = d.v) over (partition by d.label order by f.id) a
     from fact f join dim d on f.k = d.k where f.id < 100 and d.k in
     (select c from (select count(*) filter (where n = 1) over (partition by k order by id) c from fact))",
    "select id, array_agg(id) over (order by id rows between current row and unbounded following) a, sum(n) over (order by id) b,
     array_agg(n) ignore nulls over (partition by k order by id desc rows between unbounded preceding and current row) c
     from fact where id < 40",
    "select table_name from information_schema.tables where table_name in ('fact', 'dim')",
    "select s, array_agg(id order by id desc) from fact where id < 60 group by s",
    "select a.s, count(*) from fact a join fact b on a.id = b.id + 1 join dim d on d.k = b.k group by a.s having count(*) > 3",
    "select * from (select id from fact order by id limit 5) union all (select k from dim order by k desc limit 3)",
    "select date_trunc('month', to_timestamp(id * 86400)) m, count(*) from fact where id < 400 group by m",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stages_answer_as_one_process_does() {
    let fixture = Fixture::new().await;
    for sql in STATEMENTS {
        fixture.check(sql, |_| {}).await;
    }
}

/// DataFusion filters the probe side of a join by the build side, and distinguishes parts of the build side by the number of partitions that it sees.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_keep_their_rows_whichever_tasks_run_together() {
    let fixture = Fixture::new().await;
    let shuffled = |options: &mut WindlassOptions| {
        (options.broadcast_bytes, options.broadcast_rows, options.broadcast_from_bytes) = (0, 0, 0);
    };
    let joined = "(select value as c from generate_series(1, 400)) as g left join fact f on g.c = cast(f.id as int)";
    for sql in [
        format!("select f.id, rank() over (order by f.x) from {joined} where f.s is not null"),
        format!("select f.s, count(*), rank() over (order by f.s) from {joined} where f.n is not null group by f.s"),
    ] {
        let stages = fixture.check(&sql, shuffled).await;
        assert!(stages.contains("mode=Partitioned"), "{sql}\n{stages}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_statement_is_one_stage_of_one_task() {
    let fixture = Fixture::new().await;
    let windlass = context(1 << 30);
    fixture.register(&windlass).await;
    let state = windlass.state();
    let logical =
        state.create_logical_plan("select k, count(*) from fact group by k order by 2 desc limit 3").await.unwrap();
    let job = plan_job(&state, &logical, SHAPE).await.unwrap();
    assert_eq!(job.stages.len(), 1);
    assert_eq!(job.stages[0].tasks, 1);
    assert!(job.stages[0].display.contains("RepartitionExec"), "{}", job.stages[0].display);
}

/// One of the attempts launched together may fail while the others are committed: each outputs the rows of its own files and takes none of another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_leaves_the_same_rows_whatever_becomes_of_the_others() {
    let fixture = Fixture::new().await;
    let windlass = context(0);
    // Files without an order: files of a known order are never shared.
    for part in 0..4 {
        let path = fixture.folder.path().join(format!("wild/{part}.parquet"));
        let sql = format!(
            "copy (select (value * 7919) % 1000 + {part} * 1000 as id from generate_series(0, 999)) to '{}' stored as parquet",
            path.display()
        );
        windlass.sql(&sql).await.unwrap().collect().await.unwrap();
    }
    let wild = fixture.folder.path().join("wild");
    let sql = format!("create external table wild stored as parquet location '{}/'", wild.display());
    windlass.sql(&sql).await.unwrap().collect().await.unwrap();
    let state = windlass.state();
    let logical = state.create_logical_plan("select id, count(*) from wild group by id").await.unwrap();
    let job = plan_job(&state, &logical, SHAPE).await.unwrap();
    let scan = &job.stages[0];
    assert_eq!((scan.tasks, scan.inputs.len()), (4, 0), "{}", scan.display);
    let plan = StagePlan::decode(&scan.bytes, Arc::clone(state.runtime_env()), &connectors()).unwrap();
    let inputs =
        || TaskInputs { job: JobId(1), stages: Vec::new(), source: Arc::new(StoreSource(Arc::clone(&fixture.store))) };
    let rows = async |attempts: &[(u32, u32)]| {
        // Only the first attempt runs.
        let instance = plan.instantiate(JobId(1).stage(0), attempts, inputs()).unwrap();
        instance.run(0, &fixture.store).await.unwrap().rows
    };
    let alone = rows(&[(0, 0)]).await;
    let together = rows(&[(0, 1), (1, 1), (2, 1), (3, 1)]).await;
    assert_eq!((together, alone), (1_000, 1_000), "a partial count for each of the ids in one of four files");
}

/// A plan that has run keeps its build sides and filters. A stage that runs again must get a plan without them.
#[tokio::test]
async fn a_plan_is_handed_over_once() {
    let fixture = Fixture::new().await;
    let windlass = context(usize::MAX);
    fixture.register(&windlass).await;
    let (state, stage) = (windlass.state(), JobId(1).stage(0));
    let sql = "select f.id, d.label from dim d join fact f on d.v = f.id where d.k < 12 order by f.id limit 5";
    let logical = state.create_logical_plan(sql).await.unwrap();
    let mut job = plan_job(&state, &logical, ClusterShape::ONE).await.unwrap();
    let handover = Handover::default();
    handover.offer(JobId(1), &mut job);
    let planned = handover.take(stage).unwrap();
    assert!(handover.take(stage).is_none());
    let inputs =
        TaskInputs { job: JobId(1), stages: Vec::new(), source: Arc::new(StoreSource(Arc::clone(&fixture.store))) };
    let runtime = Arc::clone(state.runtime_env());
    let instance = planned.instantiate(Arc::clone(&runtime), None, None, stage, &[(0, 0)], inputs).unwrap();
    let first = instance.run(0, &fixture.store).await.unwrap().inline_result.unwrap();
    let again = run_job(&job, &fixture.store, &runtime, 1).await;
    let expected = windlass.sql(sql).await.unwrap().collect().await.unwrap();
    assert_eq!(rows(&decode_batches(&first).unwrap()), rows(&expected));
    assert_eq!(rows(&again), rows(&expected));

    // Two stages may share the result of a subquery.
    let mut several = plan_job(&state, &logical, ClusterShape::ONE).await.unwrap();
    several.stages.push(several.stages[0].clone());
    handover.offer(JobId(2), &mut several);
    assert!(handover.take(JobId(2).stage(0)).is_none() && handover.take(JobId(2).stage(1)).is_none());
}

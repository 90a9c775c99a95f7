//! Tests of plans with a connector in memory.

use super::*;
use crate::session::{session_config, session_state};
use crate::tests::{SHAPE, run_stages, sorted};
use crate::{ClusterShape, PlannedJob, plan_job};
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::stats::Precision;
use datafusion::execution::SessionState;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionContext;
use futures::{TryStreamExt, stream};
use std::collections::BTreeMap;
use std::ops::Range;

pub(crate) const SECRET: &str = "marked-secret-of-the-table";

/// The connectors with which the tests of this crate decode plans.
pub(crate) fn connectors() -> Registry {
    Registry::default().with(Arc::new(Numbers)).unwrap()
}

/// The numbers below its option `rows` and their squares, in splits of ten.
#[derive(Debug)]
struct Numbers;

#[derive(Debug)]
struct NumbersTable(Arc<TableSpec>);

#[derive(Debug)]
struct NumbersScan {
    rows: i64,
    projection: Vec<usize>,
    schema: SchemaRef,
}

#[derive(Debug)]
struct NumbersSink;

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false), Field::new("square", DataType::Int64, true)]))
}

/// Checks that the secret came along with the table.
fn check(table: &TableSpec) -> Result<i64> {
    assert_eq!(table.options.text("token"), Some(SECRET), "the secret did not come along");
    Ok(table.options.integer("rows").unwrap())
}

#[async_trait]
impl Connector for Numbers {
    fn name(&self) -> &'static str {
        "NUMBERS"
    }

    fn options(&self) -> &'static [OptionSpec] {
        const OPTIONS: &[OptionSpec] = &[
            OptionSpec::new("rows", OptionKind::Integer, "How many rows there are.").required(),
            OptionSpec::new("token", OptionKind::Text, "Opens the table.").secret(),
        ];
        OPTIONS
    }

    async fn table(&self, request: TableRequest) -> Result<Arc<dyn ConnectorTable>> {
        Ok(Arc::new(NumbersTable(request.table)))
    }

    fn decode_scan(&self, encoded: Encoded<'_>) -> Result<Arc<dyn Scan>> {
        let projection = encoded.bytes.iter().map(|&at| at.into()).collect();
        Ok(Arc::new(NumbersScan { rows: check(encoded.table)?, projection, schema: Arc::clone(encoded.schema) }))
    }

    fn decode_sink(&self, encoded: Encoded<'_>) -> Result<Arc<dyn Sink>> {
        check(encoded.table)?;
        Ok(Arc::new(NumbersSink))
    }
}

#[async_trait]
impl ConnectorTable for NumbersTable {
    fn schema(&self) -> SchemaRef {
        columns()
    }

    async fn scan(&self, request: ScanRequest<'_>) -> Result<Arc<dyn Scan>> {
        let (rows, projection, schema) = (check(&self.0)?, request.projection, request.schema);
        Ok(Arc::new(NumbersScan { rows, projection, schema }))
    }

    async fn sink(&self, _: SinkRequest) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(NumbersSink))
    }
}

impl NumbersScan {
    fn batch(&self, numbers: Range<i64>) -> Result<RecordBatch> {
        let all: [ArrayRef; 2] = [
            Arc::new(Int64Array::from_iter_values(numbers.clone())),
            Arc::new(Int64Array::from_iter_values(numbers.clone().map(|n| n * n))),
        ];
        let columns = self.projection.iter().map(|&at| Arc::clone(&all[at])).collect();
        let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(numbers.count()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

impl Scan for NumbersScan {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn splits(&self) -> Vec<Split> {
        let starts = (0..self.rows).step_by(10);
        let split = |start: i64| Split {
            rows: Some((self.rows - start).min(10) as u64),
            hosts: vec![format!("host-{}", start % 3)],
            payload: start.to_le_bytes().to_vec().into(),
            ..Split::default()
        };
        starts.map(split).collect()
    }

    fn statistics(&self) -> Option<Statistics> {
        let unknown = Statistics::new_unknown(&self.schema);
        Some(unknown.with_num_rows(Precision::Exact(self.rows as usize)))
    }

    fn ordering(&self) -> Option<LexOrdering> {
        let at = self.projection.iter().position(|&at| at == 0)?;
        let options = SortOptions { descending: false, nulls_first: false };
        LexOrdering::new([PhysicalSortExpr::new(Arc::new(Column::new("n", at)), options)])
    }

    fn guard(&self) -> Option<ScanGuard> {
        Some(Arc::new(self.rows))
    }

    fn describe(&self) -> String {
        format!("rows={}", self.rows)
    }

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(self.projection.iter().map(|&at| at as u8).collect())
    }

    fn open(&self, split: &Split, _: &TaskOfScan) -> Result<SendableRecordBatchStream> {
        let start = i64::from_le_bytes(split.payload.as_ref().try_into().unwrap());
        let batch = self.batch(start..self.rows.min(start + 10));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream::iter([batch]))))
    }
}

#[async_trait]
impl Sink for NumbersSink {
    fn describe(&self) -> String {
        String::new()
    }

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    async fn write(&self, attempt: Attempt, rows: SendableRecordBatchStream, _: &Arc<TaskContext>) -> Result<Written> {
        let batches: Vec<RecordBatch> = rows.try_collect().await?;
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        Ok(Written { rows, token: attempt.to_string().into_bytes() })
    }

    async fn publish(&self, _: &[Vec<u8>], _: &Arc<RuntimeEnv>) -> Result<()> {
        Ok(())
    }

    async fn abandon(&self, _: &Arc<RuntimeEnv>) -> Result<()> {
        Ok(())
    }
}

/// A session with the table `numbers` of 95 rows.
async fn session() -> SessionState {
    let registry = connectors();
    let options = [("rows", "95"), ("token", SECRET)].map(|(key, value)| (key.to_string(), value.to_string()));
    let table = Arc::new(registry.spec("numbers", "7".into(), "somewhere".into(), options, BTreeMap::new()).unwrap());
    let made = registry.require("NUMBERS").unwrap();
    let made =
        made.table(TableRequest { table: Arc::clone(&table), columns: None, target: Target::Present }).await.unwrap();
    let mut config = registry.within(session_config());
    config.options_mut().set("windlass.small_query_bytes", "0").unwrap();
    config.options_mut().set("windlass.inline_result_bytes", "100000000").unwrap();
    let context = SessionContext::new_with_state(session_state(config, Arc::default(), None));
    context.register_table("numbers", Arc::new(ConnectedTable::new(table, made))).unwrap();
    context.state()
}

async fn planned(sql: &str, shape: ClusterShape) -> PlannedJob {
    let state = session().await;
    let logical = state.create_logical_plan(sql).await.unwrap();
    plan_job(&state, &logical, shape).await.unwrap()
}

#[tokio::test]
async fn a_scan_is_cut_narrowed_and_run() {
    for (sql, expected) in [
        ("select count(*), sum(square) from numbers where n >= 20", vec!["75|278825"]),
        ("select square from numbers where n in (3, 94)", vec!["8836", "9"]),
        ("select a.n from numbers a join numbers b on a.n = b.square where b.n > 7", vec!["64", "81"]),
        ("select n from numbers order by n desc limit 2", vec!["93", "94"]),
    ] {
        for shape in [SHAPE, ClusterShape::ONE] {
            let job = planned(sql, shape).await;
            for together in [1, 3] {
                assert_eq!(sorted(&run_stages(&job, together).await.0), expected, "{sql}");
            }
        }
    }
    let job = planned("select n % 2, sum(square) from numbers group by n % 2", SHAPE).await;
    assert!(job.stages[0].tasks > 1 && job.stages.len() > 1, "{}", job.stages[0].display);
    let hosts = job.stages[0].preferences.iter().map(|wish| wish.hosts.len());
    assert!(hosts.clone().all(|count| count > 0) && hosts.len() == job.stages[0].tasks as usize);
}

#[tokio::test]
async fn guards_of_scans_live_with_the_job() {
    for shape in [SHAPE, ClusterShape::ONE] {
        let job = planned("select a.n from numbers a join numbers b on a.n = b.square", shape).await;
        let held: Vec<Option<&i64>> = job.guards.iter().map(|guard| guard.downcast_ref()).collect();
        assert_eq!(held, [Some(&95), Some(&95)]);
    }
}

#[tokio::test]
async fn a_write_leaves_a_token_for_each_task() {
    let job = planned("insert into numbers select n, square from numbers where n % 2 = 0", SHAPE).await;
    assert!(job.sink.as_ref().is_some_and(|planned| planned.sink.files().is_none()));
    let (_, staged) = run_stages(&job, 2).await;
    let tokens: Vec<SinkToken> = staged.iter().map(|bytes| SinkToken::of_report(bytes).unwrap()).collect();
    assert_eq!(tokens.iter().map(|token| token.rows).sum::<u64>(), 48);
    assert_eq!(tokens.len(), job.stages.last().unwrap().tasks as usize);
    assert!(tokens.len() > 1, "{}", job.stages.last().unwrap().display);
    assert_eq!(tokens[1].token, b"1-0");
}

#[tokio::test]
async fn secrets_travel_beside_the_plan() {
    let job = planned("insert into numbers select n, square from numbers", SHAPE).await;
    let has = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
    for stage in &job.stages {
        let envelope = crate::envelope::Envelope::decode(&stage.bytes).unwrap();
        assert!(!has(&prost::Message::encode_to_vec(&envelope.plan)));
        assert!(has(&stage.bytes), "executors need it");
        assert!(!format!("{envelope:?} {stage:?} {:?}", job.sink).contains(SECRET));
    }
}

#[test]
fn names_are_those_that_can_be_written_and_are_free() {
    let registry = connectors();
    assert!(registry.clone().with(Arc::new(Numbers)).is_err(), "it is taken");
    let error = registry.require("mongo").unwrap_err().to_string();
    assert!(error.contains("unknown kind of table 'mongo': use PARQUET, CSV, JSON, ARROW, AVRO or NUMBERS"), "{error}");
    assert!(registry.get("numbers").is_some());
}

/// Cutting, narrowing, measuring and encoding of plans know leaves, not what they read.
#[test]
fn nobody_but_the_seam_knows_a_source() {
    let of_the_engine = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in ["codec.rs", "restrict.rs", "stores.rs", "plan/cut.rs", "plan/size.rs"] {
        let text = std::fs::read_to_string(of_the_engine.join(file)).unwrap();
        for name in [
            "DataSource",
            "FileScan",
            "PartitionedFile",
            "CopyFiles",
            "Parquet",
            "Csv",
            "Json",
            "MemorySource",
            "NUMBERS",
        ] {
            assert!(!text.contains(name), "{file} speaks of {name}: see connector/leaves.rs");
        }
    }
}

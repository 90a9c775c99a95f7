//! Tests that an executor decodes what the primary planned: every operator that can reach an executor, with all its options.
//!
//! Every stage of every statement here and in TPC-H and TPC-DS is decoded and compared with the plan that it was made of. An operator of DataFusion that none
//! of them uses is in [`BUILT`], where a test makes one by hand, or in [`ELSEWHERE`], with the reason.

use super::{Fixture, SHAPE, STATEMENTS, context};
use crate::codec::WindlassCodec;
use crate::connector::copy_files::{CopyFiles, CopyFilesScan, CopyItem, CopyPart};
use crate::connector::tests::connectors;
use crate::envelope::{Envelope, OutputSpec};
use crate::folded::Folder;
use crate::ops::ExchangeReadExec;
use crate::plan_job;
use crate::session::task_context;
use crate::text_files::csv::CsvScan;
use crate::text_files::json::JsonScan;
use crate::{Planned, PlannedStage, StagePlan};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::physical_plan::{FileScanConfig, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal, col};
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::limit::LocalLimitExec;
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::sorts::partial_sort::PartialSortExec;
use datafusion::physical_plan::sorts::partitioned_topk::{PartitionedTopKExec, WindowFnKind};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, collect, displayable};
use datafusion::prelude::SessionContext;
use datafusion_proto::physical_plan::PhysicalPlanDecodeContext;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Operators that no statement plans; `operators_made_by_hand` makes them.
const BUILT: [&str; 5] = ["CooperativeExec", "EmptyExec", "LocalLimitExec", "PartialSortExec", "PartitionedTopKExec"];

/// Operators that no executor receives, and why.
const ELSEWHERE: &[(&str, &str)] = &[
    ("AnalyzeExec", "EXPLAIN ANALYZE is answered by the primary, from the metrics of tasks"),
    ("AsyncFuncExec", "no asynchronous function is registered"),
    ("CoalesceBatchesExec", "no rule of DataFusion makes one any more"),
    ("DataSinkExec", "Windlass's SinkExec takes its place"),
    ("DmlResultExec", "of DELETE and UPDATE in DataFusion's tables in memory"),
    ("ExplainExec", "EXPLAIN is answered by the primary"),
    ("OutputRequirementExec", "a mark between rules of the optimizer, whose last rule removes it"),
    ("PiecewiseMergeJoinExec", "switched off in planning"),
    ("StreamingTableExec", "a table of the primary's, read by it before the plan is cut"),
    ("SymmetricHashJoinExec", "of unbounded tables, which are refused"),
];

/// Statements for operators and options that [`STATEMENTS`] does not use, with the options that they need.
const MORE: &[(&[(&str, &str)], &str)] = &[
    (&[], "select k, count(*) c from fact group by k union all select k, sum(v) from dim group by k"),
    (&[], "select array_agg(distinct n order by n desc) filter (where k > 3), count(distinct k), first_value(x order by id) from fact"),
    (&[], "select string_agg(s, ',' order by id desc), nth_value(id, 3 order by id desc), last_value(n) ignore nulls from fact"),
    (&[], "select a.k from dim a join dim b on (a.v is not distinct from b.v) and a.k < b.k + 100"),
    (&[], "select * from (select k from dim order by v desc limit 7) t, (select x from fact limit 3 offset 2) u"),
    (&[], "select try_cast(s as int), s like 'n%', s ilike '%1', -k, k in (1, 2, 3), k between 4 and 5, case k when 1 then 2 else 3 end, n is null,
           x is not null, not (k = 2), k::decimal(12, 3), interval '1 day', [k, n], {'a': k}, s ~ 'a.*' from fact where id < 10"),
    (&[("datafusion.sql_parser.dialect", "duckdb")], "select array_transform([k, 2], x -> x + k) from dim"),
    (&[], "select unnest(a), unnest(b), k from (select [k, 1] a, [v] b, k from dim) t"),
    (&[("datafusion.optimizer.prefer_hash_join", "false")], "select f.id, d.label from fact f left join dim d on f.k = d.k and f.id > d.v"),
    (&[("datafusion.optimizer.enable_window_topn", "true")],
     "select * from (select id, k, row_number() over (partition by k order by x desc) r from fact) t where r <= 3"),
    (&[("datafusion.optimizer.enable_window_topn", "true")],
     "select * from (select id, k, rank() over (partition by k order by n desc) r from fact) t where r <= 2"),
    (&[("datafusion.optimizer.enable_piecewise_merge_join", "true")], "select a.k from dim a join dim b on a.k < b.v"),
    (&[("datafusion.execution.hash_join_buffering_capacity", "1000000")], "select f.id, d.label from fact f join dim d on f.k = d.k"),
    (&[], "select value, row_number() over (partition by value order by value), sum(value) over (order by value) from generate_series(1, 9000)"),
    (&[], "select k, v from dim except all select k, id from fact"),
    (&[], "select k, count(*), sum(x), -sum(x) from fact group by rollup (k)"),
    (&[], "select k, k in (select v from dim d where d.k < dim.k) from dim"),
    (&[], "select part, a, count(*) from csv where part > '1' group by part, a"),
    (&[], "select * from csv limit 3"),
    (&[], "select part, a from json where a > 3"),
    (&[], "select part, a from arrow limit 5"),
    (&[], "select * from sorted where a > 10 order by a limit 3"),
    (&[], "copy (select * from fact) to '@/out/csv/' stored as csv partitioned by (s) options (has_header false, delimiter ';', quote '''', compression gzip)"),
    (&[], "copy fact to '@/out/json/' stored as json options (compression zstd, compression_level 5)"),
    (&[], "copy fact to '@/out/parquet/' stored as parquet partitioned by (k) options (compression 'zstd(4)', 'max_row_group_size' 1000,
           'bloom_filter_enabled::s' true, 'metadata::by' 'windlass')"),
    (&[], "copy (select * from fact order by id) to '@/out/one.arrow' stored as arrow"),
    (&[], "insert into sorted select id, 'x', s from fact"),
    (&[], "select count(*), sum(v) from dim group by grouping sets (())"),
    (&[], "select count(*) from fact group by grouping sets ((), ())"),
    (&[], "select k, count(*) from fact group by grouping sets ((k), (), ())"),
    (&[], "select * from fact order by id desc nulls last, s limit 3"),
    (&[], "select s, id from fact where k > 2 order by s, id desc limit 3"),
];

pub(super) fn planned(stage: &PlannedStage) -> &Planned {
    stage.planned.as_ref().unwrap()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Arc<dyn ExecutionPlan>> {
    let runtime = Arc::<RuntimeEnv>::default();
    let stage = StagePlan::decode(bytes, Arc::clone(&runtime), &connectors()).unwrap();
    let context = task_context("task".into(), "session".into(), stage.config().clone(), runtime);
    stage.plan(&PhysicalPlanDecodeContext::new(&context, &WindlassCodec))
}

pub(super) fn round_trip(plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    decode(&Envelope::new(plan, &OutputSpec::Single, &BTreeMap::new(), None)?.encode_to_vec())
}

/// A copy of the plan in which no operator or expression is shared.
fn apart(plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let options = BTreeMap::new();
    decode(&Envelope::folding(plan, &OutputSpec::Single, &options, None, Folder::with_levels(0))?.encode_to_vec())
}

/// The first difference between the plans.
pub(super) fn difference(planned: &Arc<dyn ExecutionPlan>, decoded: &Arc<dyn ExecutionPlan>) -> Option<String> {
    let (planned, decoded) = (renumbered(describe(planned)), renumbered(describe(decoded)));
    if planned.len() != decoded.len() {
        return Some(format!("planned: {planned:#?}\ndecoded: {decoded:#?}"));
    }
    let (planned, decoded) = planned.iter().zip(&decoded).find(|(planned, decoded)| planned != decoded)?;
    let same = planned.bytes().zip(decoded.bytes()).take_while(|(a, b)| a == b).count().saturating_sub(150);
    let from_there =
        |text: &str| String::from_utf8_lossy(&text.as_bytes()[same..]).chars().take(500).collect::<String>();
    Some(format!("planned: …{}\ndecoded: …{}", from_there(planned), from_there(decoded)))
}

/// Renumbers expressions that operators share. The numbers do not matter; which expressions are equal does.
fn renumbered(texts: Vec<String>) -> Vec<String> {
    const NUMBER: &str = "expression_id: ";
    let mut numbers = BTreeMap::new();
    let renumber = |text: String| {
        let mut parts = text.split(NUMBER);
        let mut all = parts.next().unwrap_or_default().to_string();
        for part in parts {
            let (number, rest) = part.split_at(part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len()));
            let next = numbers.len();
            all.push_str(&format!("{NUMBER}{}{rest}", numbers.entry(number.to_string()).or_insert(next)));
        }
        all
    };
    texts.into_iter().map(renumber).map(with_sorted_maps).collect()
}

/// Sorts the entries of hash maps, which are shown in any order.
fn with_sorted_maps(text: String) -> String {
    const MAP: &str = " map: {";
    let mut parts = text.split(MAP);
    let mut all = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (entries, rest) = part.split_at(part.find('}').unwrap_or(part.len()));
        let mut entries: Vec<&str> = entries.split(", ").collect();
        entries.sort_unstable();
        all.push_str(&format!("{MAP}{}{rest}", entries.join(", ")));
    }
    all
}

/// The text and the properties of each operator, in pre-order.
fn describe(plan: &Arc<dyn ExecutionPlan>) -> Vec<String> {
    let plan = without_casts(plan);
    let mut debug = format!("{plan:?}");
    for child in plan.children() {
        debug = debug.replace(&format!("{child:?}"), "…");
    }
    let properties = plan.properties();
    let equivalence = plan.equivalence_properties();
    let mut classes: Vec<_> = equivalence.eq_group().iter().map(ToString::to_string).collect();
    classes.sort();
    let mut all = vec![
        known_differences_removed(&displayable(plan.as_ref()).one_line().to_string()),
        columns(&plan.schema()),
        format!("{:?}", plan.output_partitioning()),
        format!("{classes:?} {} {:?}", equivalence.oeq_class(), equivalence.constraints()),
        format!("{:?} {:?} {:?}", properties.emission_type, properties.boundedness, properties.scheduling_type),
        format!("{:?}", plan.fetch()),
        // For an exchange's reader these are its properties, which are compared apart.
        if plan.is::<ExchangeReadExec>() {
            without_value(&debug, "properties: ", "properties: ")
        } else {
            known_differences_removed(&debug)
        },
    ];
    if let Some(scan) = plan.downcast_ref::<DataSourceExec>()
        && let Some(config) = scan.data_source().downcast_ref::<FileScanConfig>()
    {
        all.push(describe_scan(config));
    }
    all.extend(plan.children().into_iter().flat_map(describe));
    all
}

/// The plan without such casts. A decoded cast no longer says that its result may be null; operators that want equal columns from all inputs then cast once
/// more, to the types that the columns already have.
fn without_casts(plan: &Arc<dyn ExecutionPlan>) -> &Arc<dyn ExecutionPlan> {
    let Some(projection) = plan.downcast_ref::<ProjectionExec>() else { return plan };
    let schema = projection.input().schema();
    let useless = projection.expr().iter().enumerate().all(|(index, expr)| {
        let cast = expr.expr.downcast_ref::<CastExpr>();
        let column = cast.map_or(&expr.expr, CastExpr::expr).downcast_ref::<Column>();
        let before = schema.fields().get(index).map(|field| field.data_type());
        let same_type = cast.is_none_or(|cast| Some(cast.cast_type()) == before);
        same_type && column.is_some_and(|column| column.index() == index && column.name() == expr.alias)
    });
    if useless { without_casts(projection.input()) } else { plan }
}

/// Names and types: what a cast says of nulls is lost.
fn columns(schema: &Schema) -> String {
    schema.fields().iter().map(|field| format!("{} {}, ", field.name(), field.data_type())).collect()
}

fn describe_scan(config: &FileScanConfig) -> String {
    let source = &config.file_source;
    let source = if let Some(parquet) = source.downcast_ref::<ParquetSource>() {
        format!("{parquet:?}")
    } else if let Some(csv) = source.downcast_ref::<CsvScan>() {
        csv.describe()
    } else if let Some(json) = source.downcast_ref::<JsonScan>() {
        json.describe()
    } else {
        // Other files have no options, or show them.
        source.file_type().to_string()
    };
    let files: Vec<_> = config
        .file_groups
        .iter()
        .map(|group| {
            group
                .iter()
                .map(|file| (&file.object_meta.location, file.object_meta.size, &file.range, &file.partition_values))
        })
        .map(|group| format!("{:?}", group.collect::<Vec<_>>()))
        .collect();
    known_differences_removed(&format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {source} {:?}",
        config.object_store_url,
        config.limit,
        config.table_partition_cols(),
        config.output_ordering,
        config.file_compression_type,
        config.batch_size,
        config.constraints,
        config.output_partitioning,
        files,
    ))
}

/// Removes what DataFusion's encoding may lose because no row depends on it, and what says the same in another way.
fn known_differences_removed(debug: &str) -> String {
    let mut text = debug.to_string();
    for key in [
        // Compared elsewhere.
        "cache: PlanProperties ",
        // Has no fixed order.
        "leading_map: ",
        // The same columns, named twice.
        "remapped_children: ",
        // Whether a cast's result is called nullable; its type is displayed.
        "target_field: ",
        "explicit_target: ",
        // For a generated series: none is UTC.
        "parsed_tz: ",
        // Used while a plan is made, or spares a sort that is then done.
        "is_input_pre_ordered: ",
        "can_repartition: ",
        // How a scan reads: with this process's caches, and how much of a file's end it reads first.
        "parquet_file_reader_factory: ",
        "batch_size: None, metadata_size_hint: ",
    ] {
        text = without_value(&text, key, key);
    }
    // Whether a cast, and everything computed from it, may be null.
    text = text.replace(", nullable: true", "");
    // The planner gives window aggregates the window's columns beside those of its input; no argument refers to them.
    without_value(&text, "WindowExpr { aggregate: AggregateFunctionExpr ", ", schema: Schema ")
}

/// `text` without the value behind the first `key` after each `start`.
fn without_value(text: &str, start: &str, key: &str) -> String {
    let (mut kept, mut rest) = (String::new(), text);
    while let Some(found) = rest.find(start).and_then(|at| Some(at + rest[at..].find(key)? + key.len())) {
        kept.push_str(&rest[..found]);
        let mut depth = 0;
        let end = rest[found..].find(|c| {
            match c {
                '{' | '[' | '(' => depth += 1,
                '}' | ']' | ')' => depth -= 1,
                _ => {}
            }
            depth < 0 || (depth == 0 && c == ',')
        });
        rest = &rest[end.map_or(rest.len(), |end| found + end)..];
    }
    kept + rest
}

/// Comparison of every stage of every statement with its decoded form.
#[derive(Default)]
struct Comparison {
    operators: BTreeSet<String>,
    differences: Vec<String>,
}

impl Comparison {
    async fn add(&mut self, windlass: &SessionContext, sql: &str) {
        let state = windlass.state();
        let logical = state.create_logical_plan(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        let job = match plan_job(&state, &logical, SHAPE).await {
            Ok(job) => job,
            Err(error) => return self.differences.push(format!("{sql}\n{error}")),
        };
        // The next leader plans a statement again and continues after the stages that are the same. Each write has a new place.
        let again = plan_job(&windlass.state(), &state.create_logical_plan(sql).await.unwrap(), SHAPE).await.unwrap();
        if again.lineages() != job.lineages() && job.sink.is_none() {
            self.differences.push(format!("{sql}\nplanned twice, it is not the same"));
        }
        for stage in &job.stages {
            for decoded in [decode(&stage.bytes), apart(&planned(stage).plan)] {
                let difference = match decoded {
                    Ok(decoded) => difference(&planned(stage).plan, &decoded),
                    Err(error) => Some(error.to_string()),
                };
                self.differences.extend(difference.map(|difference| format!("{sql}\n{}{difference}", stage.display)));
            }
            let walked = planned(stage).plan.apply(|node| {
                self.operators.insert(node.name().to_string());
                Ok(TreeNodeRecursion::Continue)
            });
            walked.unwrap();
        }
    }

    fn check(&self) {
        let count = self.differences.len();
        assert!(count == 0, "{count} stages are not decoded as they were planned\n{}", self.differences.join("\n\n"));
    }
}

/// Tables of other formats: partitioned, compressed, with a custom delimiter, sorted.
async fn more_tables(fixture: &Fixture, windlass: &SessionContext) {
    let at = fixture.folder.path().display();
    let rows = "select value as a, 'x' || value as b, value % 3 as part from generate_series(1, 60)";
    let maker = SessionContext::new();
    for sql in [
        format!(
            "copy ({rows}) to '{at}/csv/' stored as csv partitioned by (part) options (has_header true, delimiter '|', compression gzip)"
        ),
        format!("copy ({rows}) to '{at}/json/' stored as json partitioned by (part) options (compression bzip2)"),
        format!("copy ({rows}) to '{at}/arrow/' stored as arrow partitioned by (part)"),
        format!("copy (select a, b, 'y' c from ({rows})) to '{at}/sorted/' stored as parquet"),
    ] {
        maker.sql(&sql).await.unwrap().collect().await.unwrap();
    }
    for sql in [
        format!("create external table csv (a bigint, b varchar, part varchar) stored as csv partitioned by (part) location '{at}/csv/'
                 options (has_header true, delimiter '|', compression gzip, comment '#', escape '\\', terminator '~', newlines_in_values true,
                 null_value 'NULL', null_regex 'nil', 'windlass.header_names' '[\"x\", \"y\"]')"),
        format!("create external table json (a bigint, b varchar, part varchar) stored as json partitioned by (part) location '{at}/json/'
                 options (compression bzip2)"),
        format!("create external table arrow (a bigint, b varchar, part varchar) stored as arrow partitioned by (part) location '{at}/arrow/'"),
        format!("create external table sorted (a bigint, b varchar, c varchar) stored as parquet with order (a) location '{at}/sorted/'
                 options ('pushdown_filters' true, 'reorder_filters' true, 'pruning' false, 'metadata_size_hint' 4096)"),
    ] {
        windlass.sql(&sql).await.unwrap().collect().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operator_is_decoded_as_it_was_planned() {
    let fixture = Fixture::new().await;
    let mut comparison = Comparison::default();
    for small in [0, 1 << 30] {
        let windlass = context(small);
        fixture.register(&windlass).await;
        for sql in STATEMENTS {
            comparison.add(&windlass, sql).await;
        }
        for (options, sql) in MORE {
            let windlass = context(small);
            for (option, value) in *options {
                windlass.sql(&format!("set {option} = '{value}'")).await.unwrap();
            }
            fixture.register(&windlass).await;
            more_tables(&fixture, &windlass).await;
            comparison.add(&windlass, &sql.replace('@', &fixture.folder.path().display().to_string())).await;
        }
    }
    comparison.check();
    let seen = comparison.operators;
    let exists: BTreeSet<String> = implementors("ExecutionPlan").into_iter().collect();
    let elsewhere: BTreeSet<String> = ELSEWHERE.iter().map(|(name, _)| name.to_string()).collect();
    let built = BUILT.map(str::to_string).into_iter().collect();
    assert!(seen.is_disjoint(&elsewhere), "{:?} are planned after all", &seen & &elsewhere);
    let accounted = &(&seen | &elsewhere) | &built;
    let missing: Vec<_> = exists.difference(&accounted).collect();
    assert!(
        missing.is_empty(),
        "no statement here plans {missing:?}, and no table says why: add a statement or the reason"
    );
    let gone: Vec<_> = (&elsewhere | &built).difference(&exists).cloned().collect();
    assert!(gone.is_empty(), "DataFusion has no {gone:?} any more");
}

#[tokio::test]
async fn operators_made_by_hand() {
    let schema = context(0).sql("select 1 as a, 2 as b").await.unwrap().schema().inner().clone();
    let key = |name: &str, descending: bool| {
        PhysicalSortExpr::new(col(name, &schema).unwrap(), SortOptions { descending, nulls_first: !descending })
    };
    let ordering = LexOrdering::new([key("a", false), key("b", true)]).unwrap();
    let empty = Arc::new(EmptyExec::new(Arc::clone(&schema)).with_partitions(3));
    let sort = PartialSortExec::new(ordering.clone(), empty.clone(), 1);
    let top = |kind| PartitionedTopKExec::try_new(empty.clone(), ordering.clone(), 1, 4, kind).unwrap();
    let item = CopyItem { from: Some("a/b".into()), to: "c".into(), bytes: 5, e_tag: Some("1".into()), modified_ms: 7 };
    let part = CopyPart { items: vec![item], skipped: 1, skipped_bytes: 2 };
    let (from, to) = ("wfs:///".into(), "s3://lake/".into());
    let copy = CopyFiles {
        from,
        to,
        overwrite: true,
        verify: true,
        parts: vec![part, CopyPart::default()],
        ..CopyFiles::default()
    };
    let plans: [Arc<dyn ExecutionPlan>; 7] = [
        Arc::new(CopyFilesScan::planned(copy)),
        Arc::new(sort.with_preserve_partitioning(true).with_fetch(Some(7))),
        Arc::new(top(WindowFnKind::RowNumber)),
        Arc::new(top(WindowFnKind::Rank)),
        Arc::new(LocalLimitExec::new(empty.clone(), 5)),
        Arc::new(CooperativeExec::new(empty.clone())),
        empty.clone(),
    ];
    for plan in plans {
        assert_eq!(difference(&plan, &round_trip(&plan).unwrap()), None);
    }
}

/// A literal of every type, as a projection of one row.
#[tokio::test]
async fn literals_keep_their_values_and_types() {
    let time_zone = || Some(Arc::from("Europe/Berlin"));
    let of_one = |value: ScalarValue| ScalarValue::List(ScalarValue::new_list_nullable(&[value], &DataType::Float16));
    let half = ScalarValue::from("1.5").cast_to(&DataType::Float16).unwrap();
    let values = [
        half.clone(),
        ScalarValue::try_new_null(&DataType::Float16).unwrap(),
        of_one(half),
        ScalarValue::Float32(Some(f32::NAN)),
        ScalarValue::Float64(Some(-0.0)),
        ScalarValue::Int8(Some(-1)),
        ScalarValue::UInt64(Some(u64::MAX)),
        ScalarValue::Decimal32(Some(-1), 9, 2),
        ScalarValue::Decimal64(Some(-1), 18, -2),
        ScalarValue::Decimal128(Some(i128::MIN), 38, 38),
        ScalarValue::Decimal256(Some(arrow::datatypes::i256::MINUS_ONE), 76, 0),
        ScalarValue::Boolean(None),
        ScalarValue::Utf8View(Some(String::new())),
        ScalarValue::LargeUtf8(None),
        ScalarValue::BinaryView(Some(vec![0, 255])),
        ScalarValue::FixedSizeBinary(2, Some(vec![0, 255])),
        ScalarValue::Date64(Some(-1)),
        ScalarValue::Time64Nanosecond(Some(1)),
        ScalarValue::TimestampSecond(Some(-1), None),
        ScalarValue::TimestampMicrosecond(Some(1), time_zone()),
        ScalarValue::TimestampNanosecond(None, time_zone()),
        ScalarValue::DurationMillisecond(Some(-1)),
        ScalarValue::IntervalYearMonth(Some(-1)),
        ScalarValue::Dictionary(Box::new(DataType::Int8), Box::new(ScalarValue::from("x"))),
        ScalarValue::Null,
    ];
    for value in values {
        let one_row = Arc::new(PlaceholderRowExec::new(Arc::new(Schema::empty())));
        let expr: Arc<dyn PhysicalExpr> = Arc::new(Literal::new(value.clone()));
        let plan: Arc<dyn ExecutionPlan> =
            Arc::new(ProjectionExec::try_new([ProjectionExpr::new(expr, "a")], one_row).unwrap());
        let decoded = round_trip(&plan).unwrap();
        assert_eq!(decoded.schema().field(0).data_type(), &value.data_type());
        let rows = collect(decoded, context(0).task_ctx()).await.unwrap();
        assert_eq!(ScalarValue::try_from_array(rows[0].column(0), 0).unwrap(), value);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tpc_plans_are_decoded_as_they_were_planned() {
    let mut comparison = Comparison::default();
    for suite in ["tpch-sf0.05", "tpcds-sf0.1"] {
        let folder = data().join(suite);
        let windlass = context(0);
        for table in entries(&folder.join("tables")) {
            let name = table.file_stem().unwrap().to_string_lossy().into_owned();
            let sql = format!("create external table {name} stored as parquet location '{}/'", table.display());
            windlass.sql(&sql).await.unwrap().collect().await.unwrap();
        }
        let queries = entries(&folder.join("queries"));
        assert!(queries.len() > 20, "{} queries in {}", queries.len(), folder.display());
        for query in queries {
            comparison.add(&windlass, &std::fs::read_to_string(&query).unwrap()).await;
        }
    }
    comparison.check();
    let made: BTreeSet<_> = implementors("ExecutionPlan").into_iter().collect();
    let (elsewhere, seen) = (ELSEWHERE.iter().map(|(name, _)| name.to_string()).collect(), comparison.operators);
    assert!(seen.is_disjoint(&elsewhere), "{:?} are planned after all", &seen & &elsewhere);
    assert!(!(&seen & &made).is_empty(), "no operator of DataFusion was planned");
}

/// The folder in which `make data` puts the suites.
pub(super) fn data() -> PathBuf {
    let cache = std::env::var_os("WINDLASS_CACHE_DIR").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/windlass"));
    cache.join("data")
}

pub(super) fn entries(folder: &Path) -> Vec<PathBuf> {
    let read = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}: run `make data`", folder.display()));
    let mut entries: Vec<PathBuf> = read.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

/// The types of DataFusion's crates that implement a trait, from their sources. Those of tests are indented or in folders of their own.
fn implementors(of: &str) -> Vec<String> {
    let version = std::process::Command::new("rustc").arg("-vV").output().unwrap().stdout;
    let version = String::from_utf8(version).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    // A machine that has built for one platform has no crates of other platforms.
    let metadata = std::process::Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--offline",
            "--locked",
            "--format-version",
            "1",
            "--filter-platform",
            host,
            "--manifest-path",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        if package["name"].as_str().unwrap().starts_with("datafusion") {
            let manifest = Path::new(package["manifest_path"].as_str().unwrap());
            search(&manifest.with_file_name("src"), &format!("impl {of} for "), &mut found);
        }
    }
    assert!(found.len() > 30, "the sources of DataFusion were not found: {found:?}");
    found
}

fn search(folder: &Path, line_start: &str, found: &mut Vec<String>) {
    for path in entries(folder) {
        if path.file_stem().is_some_and(|name| name == "test") {
            continue;
        }
        if path.is_dir() {
            search(&path, line_start, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            let types = source.lines().filter_map(|line| line.strip_prefix(line_start));
            found.extend(types.map(|rest| rest.split([' ', '<']).next().unwrap().to_string()));
        }
    }
}

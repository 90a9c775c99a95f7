//! What DataFusion's encoding of plans leaves out. Any of it lost would be a wrong answer or an error, so such an operator travels
//! inside a wrapper that restores it.

use crate::ops::of_one_input;
use crate::text_files::csv::{CsvReading, CsvScan};
use crate::text_files::json::JsonScan;
use crate::versions::Told;
use crate::window::{WindowFlags, restore_window, window_flags};
use arrow::compute::SortOptions;
use arrow::datatypes::DataType;
use datafusion::common::parsers::CompressionTypeVariant;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    CsvSource, FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, JsonSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::aggregates::{AggregateExec, PhysicalGroupBy};
use datafusion::physical_plan::memory::LazyMemoryExec;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties, SortOrderPushdownResult,
};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(crate) enum Lost {
    /// For each expression of a window.
    Window(Vec<WindowFlags>),
    Scan(ScanOptions),
    /// How the rows of a generated series are sorted.
    Orderings(Vec<LexOrdering>),
    /// How many grouping sets without a column an aggregate has, whose groups have no columns at all.
    EmptySets(u32),
    /// In which order a top-k wants row groups of Parquet files to be read.
    RowGroupOrder(LexOrdering),
}

/// Of files.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ScanOptions {
    /// As it is named in SQL, empty for none.
    #[prost(string, tag = "1")]
    compression: String,
    /// A CSV file is read in our own way, with these options.
    #[prost(message, optional, tag = "2")]
    csv: Option<CsvReading>,
    /// A JSON file is read in our own way.
    #[prost(message, optional, tag = "3")]
    json: Option<JsonReading>,
    /// Of all files of all groups, in their order, where their store can be asked for just those versions. Empty: none had one.
    #[prost(string, repeated, tag = "4")]
    e_tags: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct JsonReading {
    /// Each file is one array of rows.
    #[prost(bool, tag = "1")]
    array: bool,
}

/// Exists only while a plan is encoded: decoding gives the restored operator.
#[derive(Debug)]
pub(crate) struct LostExec {
    input: Arc<dyn ExecutionPlan>,
    pub lost: Lost,
}

/// `plan` as it is to be encoded.
pub(crate) fn wrap(plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    Arc::clone(plan)
        .transform_up(|node| {
            let lost = Lost::of(&node)?;
            if lost.is_empty() {
                return Ok(Transformed::no(node));
            }
            let wrapped = |input, lost| Arc::new(LostExec { input, lost }) as Arc<dyn ExecutionPlan>;
            Ok(Transformed::yes(lost.into_iter().fold(encodable(node)?, wrapped)))
        })
        .data()
}

/// DataFusion's operator in the place of one of ours that [`Lost`] restores.
fn encodable(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(config) = scan_config(&plan) else { return Ok(plan) };
    let source = match (csv(config), json(config)) {
        (Some(csv), _) => csv.plain()?.0,
        (_, Some(json)) => json.plain()?,
        _ => return Ok(plan),
    };
    Ok(DataSourceExec::from_data_source(FileScanConfigBuilder::from(config.clone()).with_source(source).build()))
}

/// `expr` as it is to be encoded: a number of 16 bits would become one of 32.
pub(crate) fn as_encoded(expr: &Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    match expr.downcast_ref::<Literal>().map(Literal::value) {
        Some(ScalarValue::Float16(value)) => {
            let wide = Literal::new(ScalarValue::Float32(value.map(f32::from)));
            Arc::new(CastExpr::new(Arc::new(wide), DataType::Float16, None))
        }
        _ => Arc::clone(expr),
    }
}

impl Lost {
    /// All that is lost of an operator, in the order in which it is restored.
    fn of(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<Self>> {
        if plan.is::<LazyMemoryExec>() {
            let orderings: Vec<_> = plan.equivalence_properties().oeq_class().iter().cloned().collect();
            return Ok(if orderings.is_empty() { vec![] } else { vec![Self::Orderings(orderings)] });
        }
        if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
            let by = aggregate.group_expr();
            let sets = u32::try_from(by.groups().len()).unwrap_or(u32::MAX);
            let empty = by.has_grouping_set() && by.expr().is_empty();
            return Ok(if empty { vec![Self::EmptySets(sets)] } else { vec![] });
        }
        if let Some(config) = scan_config(plan) {
            let options = Some(ScanOptions::of(config)?).filter(|options| *options != ScanOptions::default());
            let order = row_group_order(config);
            return Ok(options.map(Self::Scan).into_iter().chain(order.map(Self::RowGroupOrder)).collect());
        }
        Ok(window_flags(plan)?.map(Self::Window).into_iter().collect())
    }

    /// `plan`, which was encoded without it.
    pub(crate) fn restore(self, plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        match self {
            Self::Window(flags) => restore_window(plan, &flags),
            Self::Scan(options) => match scan_config(plan) {
                Some(config) => options.restore(config),
                None => internal_err!("{} is not a scan of files", plan.name()),
            },
            Self::Orderings(orderings) => {
                let Some(series) = plan.downcast_ref::<LazyMemoryExec>() else {
                    return internal_err!("{} is not a generated series", plan.name());
                };
                let mut series = LazyMemoryExec::try_new(plan.schema(), series.generators().clone())?;
                for ordering in orderings {
                    series.add_ordering(ordering);
                }
                Ok(Arc::new(series))
            }
            Self::EmptySets(sets) => match plan.downcast_ref::<AggregateExec>() {
                Some(aggregate) => with_empty_sets(aggregate, sets),
                None => internal_err!("{} is not an aggregate", plan.name()),
            },
            Self::RowGroupOrder(order) => match scan_config(plan) {
                Some(config) => with_row_group_order(config, &order),
                None => internal_err!("{} is not a scan of files", plan.name()),
            },
        }
    }
}

impl ScanOptions {
    fn of(config: &FileScanConfig) -> Result<Self> {
        let compression = config.file_compression_type.get_variant();
        Ok(Self {
            compression: match compression {
                CompressionTypeVariant::UNCOMPRESSED => String::new(),
                compression => compression.to_string(),
            },
            csv: csv(config).map(|csv| Ok::<_, DataFusionError>(csv.plain()?.1)).transpose()?,
            json: json(config).map(|json| JsonReading { array: json.is_array() }),
            e_tags: e_tags(config),
        })
    }

    fn restore(self, config: &FileScanConfig) -> Result<Arc<dyn ExecutionPlan>> {
        let compression = FileCompressionType::from_str(&self.compression)?;
        let mut builder = FileScanConfigBuilder::from(config.clone()).with_file_compression_type(compression);
        if let (Some(csv), Some(reading)) = (config.file_source.downcast_ref::<CsvSource>(), self.csv) {
            builder = builder.with_source(Arc::new(CsvScan::of_plain(csv, reading)));
        }
        if let (Some(json), Some(reading)) = (config.file_source.downcast_ref::<JsonSource>(), self.json) {
            builder = builder.with_source(Arc::new(JsonScan::of_plain(json, reading.array)));
        }
        if !self.e_tags.is_empty() {
            builder = builder.with_file_groups(tagged(config.file_groups.clone(), self.e_tags)?);
        }
        Ok(DataSourceExec::from_data_source(builder.build()))
    }
}

fn e_tags(config: &FileScanConfig) -> Vec<String> {
    if Told::of(config.object_store_url.as_str()).is_none() {
        return Vec::new();
    }
    let tag = |file: &PartitionedFile| file.object_meta.e_tag.clone().unwrap_or_default();
    let tags: Vec<String> = config.file_groups.iter().flat_map(FileGroup::iter).map(tag).collect();
    if tags.iter().all(String::is_empty) { Vec::new() } else { tags }
}

fn tagged(mut groups: Vec<FileGroup>, e_tags: Vec<String>) -> Result<Vec<FileGroup>> {
    if groups.iter().map(FileGroup::len).sum::<usize>() != e_tags.len() {
        return internal_err!("a scan has not as many files as versions of them");
    }
    let mut e_tags = e_tags.into_iter().map(|tag| Some(tag).filter(|tag| !tag.is_empty()));
    for group in &mut groups {
        for at in 0..group.len() {
            group[at].object_meta.e_tag = e_tags.next().flatten();
        }
    }
    Ok(groups)
}

fn with_empty_sets(aggregate: &AggregateExec, sets: u32) -> Result<Arc<dyn ExecutionPlan>> {
    let by = PhysicalGroupBy::new(vec![], vec![], vec![vec![]; sets as usize], true);
    let restored = AggregateExec::try_new(
        *aggregate.mode(),
        by,
        aggregate.aggr_expr().to_vec(),
        aggregate.filter_expr().to_vec(),
        Arc::clone(aggregate.input()),
        aggregate.input_schema(),
    )?;
    Ok(Arc::new(restored.with_limit_options(aggregate.limit_options())))
}

/// The source shows it nowhere but in what it displays. A key that is no column ends it: what is left out costs time and no row.
fn row_group_order(config: &FileScanConfig) -> Option<LexOrdering> {
    let parquet = config.file_source.downcast_ref::<ParquetSource>()?;
    let shown = Shown(parquet).to_string();
    let mut rest = shown.rsplit_once(", sort_order_for_reorder=[")?.1;
    let schema = parquet.table_schema().table_schema();
    let mut keys = Vec::new();
    while let Some((key, behind)) = schema.fields().iter().find_map(|field| shown_key(field.name(), rest)) {
        keys.push(key);
        match behind.strip_prefix(", ") {
            Some(next) => rest = next,
            None => break,
        }
    }
    LexOrdering::new(keys)
}

/// The key by the column `name` that `text` begins with, and what is behind it.
fn shown_key<'a>(name: &str, text: &'a str) -> Option<(PhysicalSortExpr, &'a str)> {
    let text = text.strip_prefix(name)?.strip_prefix('@')?;
    let (index, text) = text.split_once(' ')?;
    let column = Arc::new(Column::new(name, index.parse().ok()?));
    // Longer words first.
    let orders = [
        ("DESC NULLS LAST", true, false),
        ("DESC", true, true),
        ("ASC NULLS LAST", false, false),
        ("ASC", false, true),
    ];
    let (behind, descending, nulls_first) =
        orders.into_iter().find_map(|(words, desc, first)| Some((text.strip_prefix(words)?, desc, first)))?;
    Some((PhysicalSortExpr::new(column, SortOptions { descending, nulls_first }), behind))
}

struct Shown<'a>(&'a ParquetSource);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_extra(DisplayFormatType::Default, f)
    }
}

fn with_row_group_order(config: &FileScanConfig, order: &LexOrdering) -> Result<Arc<dyn ExecutionPlan>> {
    // Nothing is known of the order of its rows here: a source that knows asks for nothing.
    let unsorted = EquivalenceProperties::new(Arc::clone(config.file_source.table_schema().table_schema()));
    let source = match config.file_source.try_pushdown_sort(order, &unsorted)? {
        SortOrderPushdownResult::Inexact { inner } => inner,
        _ => Arc::clone(&config.file_source),
    };
    Ok(DataSourceExec::from_data_source(FileScanConfigBuilder::from(config.clone()).with_source(source).build()))
}

fn csv(config: &FileScanConfig) -> Option<&CsvScan> {
    config.file_source.downcast_ref()
}

fn json(config: &FileScanConfig) -> Option<&JsonScan> {
    config.file_source.downcast_ref()
}

fn scan_config(plan: &Arc<dyn ExecutionPlan>) -> Option<&FileScanConfig> {
    plan.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<FileScanConfig>()
}

impl DisplayAs for LostExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LostExec")
    }
}

impl ExecutionPlan for LostExec {
    fn name(&self) -> &str {
        "LostExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    of_one_input!(|this, input| Self { input, lost: this.lost.clone() });

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        internal_err!("a plan that was prepared for encoding was run")
    }
}

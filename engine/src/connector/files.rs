//! Scans of files as leaves of plans. DataFusion reads and encodes them, wrapped in our readers ([`crate::scan`]). This module answers the questions of
//! planning, and restores what that encoding loses.

use super::Registry;
use super::leaves::{Leaf, LostOfLeaf};
use crate::task;
use crate::text_files::csv::{CsvReading, CsvScan};
use crate::text_files::json::JsonScan;
use crate::text_files::lines::LineScan;
use crate::versions::Told;
use arrow::compute::SortOptions;
use datafusion::common::parsers::CompressionTypeVariant;
use datafusion::common::{DataFusionError, Result, internal_datafusion_err, internal_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    CsvSource, FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, JsonSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::{DisplayFormatType, ExecutionPlan, Partitioning, SortOrderPushdownResult};
use datafusion::prelude::SessionConfig;
use prost::Message;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;
use windlass_core::job::Preference;

/// The kind under which the lost options travel.
pub(super) const KIND: &str = "files";

/// The options that the encoding of a scan of files loses.
#[derive(Clone, PartialEq, prost::Message)]
struct ScanOptions {
    /// The compression, as SQL names it; empty for none.
    #[prost(string, tag = "1")]
    compression: String,
    /// Options of our own CSV reader, if that reads the files.
    #[prost(message, optional, tag = "2")]
    csv: Option<CsvReading>,
    /// Options of our own JSON reader, if that reads the files.
    #[prost(message, optional, tag = "3")]
    json: Option<JsonReading>,
    /// E-tags of all files of all groups, in their order, if their store can be asked for exactly those versions. Empty: no file has one.
    #[prost(string, repeated, tag = "4")]
    e_tags: Vec<String>,
    /// The order in which a top-k reads row groups of Parquet files.
    #[prost(message, repeated, tag = "5")]
    order: Vec<SortColumn>,
    /// The kind of lines, if the files are of a kind that a connector knows.
    #[prost(string, optional, tag = "6")]
    lines: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SortColumn {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    index: u64,
    #[prost(bool, tag = "3")]
    descending: bool,
    #[prost(bool, tag = "4")]
    nulls_first: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct JsonReading {
    /// Whether each file is one array of rows.
    #[prost(bool, tag = "1")]
    array: bool,
}

impl Leaf for FileScanConfig {
    fn narrowed(&self, keep: &[usize]) -> Result<Arc<dyn ExecutionPlan>> {
        let groups = keep.iter().map(|&i| self.file_groups[i].clone()).collect();
        let partitioning = match &self.output_partitioning {
            Some(Partitioning::Hash(exprs, _)) => Some(Partitioning::Hash(exprs.clone(), keep.len())),
            _ => None,
        };
        let narrowed = FileScanConfigBuilder::from(self.clone())
            .with_file_groups(groups)
            .with_output_partitioning(partitioning)
            .build();
        Ok(DataSourceExec::from_data_source(narrowed))
    }

    fn bytes(&self) -> u64 {
        let of_file = |file: &PartitionedFile| match &file.range {
            Some(range) => (range.end - range.start).max(0) as u64,
            None => file.object_meta.size,
        };
        self.file_groups.iter().flat_map(|group| group.iter()).map(of_file).sum()
    }

    fn stores(&self) -> Vec<String> {
        vec![self.object_store_url.as_str().to_string()]
    }

    /// Splits of an object store prefer the same executor each time, whose caches hold their data. Local files have no preference.
    fn preferences(&self) -> Vec<Preference> {
        if self.object_store_url.as_str().starts_with("file:") {
            return Vec::new();
        }
        let of_group = |group: &FileGroup| {
            let mut hasher = DefaultHasher::new();
            if let Some(file) = group.iter().next() {
                file.object_meta.location.as_ref().hash(&mut hasher);
                file.range.as_ref().map(|range| range.start).hash(&mut hasher);
            }
            Preference { affinity: hasher.finish().max(1), ..Preference::default() }
        };
        self.file_groups.iter().map(of_group).collect()
    }

    fn pieces(&self) -> Vec<Vec<task::Split>> {
        if !self.object_store_url.as_str().starts_with("wfs:") {
            return Vec::new();
        }
        let of_file = |file: &PartitionedFile| {
            let range = file.range.as_ref().map_or(0..file.object_meta.size, |r| r.start as u64..r.end as u64);
            task::Split { path: format!("/{}", file.object_meta.location), range }
        };
        self.file_groups.iter().map(|group| group.iter().map(of_file).collect()).collect()
    }

    fn lost(&self) -> Result<Option<LostOfLeaf>> {
        let options = ScanOptions::of(self)?;
        if options == ScanOptions::default() {
            return Ok(None);
        }
        Ok(Some(LostOfLeaf { encodable: encodable(self)?, kind: KIND.to_string(), bytes: options.encode_to_vec() }))
    }
}

/// Restores the lost options of `plan` from these bytes. `config`: of the task, with the connectors of this process.
pub(super) fn restored(
    bytes: &[u8],
    plan: &Arc<dyn ExecutionPlan>,
    config: &SessionConfig,
) -> Result<Arc<dyn ExecutionPlan>> {
    let options =
        ScanOptions::decode(bytes).map_err(|e| internal_datafusion_err!("options of a scan cannot be decoded: {e}"))?;
    match plan.downcast_ref::<DataSourceExec>().and_then(|scan| scan.data_source().downcast_ref()) {
        Some(scan) => options.restore(scan, &Registry::of(config)),
        None => internal_err!("{} is not a scan of files", plan.name()),
    }
}

/// DataFusion's scan in place of one of ours, which [`ScanOptions`] restores.
fn encodable(config: &FileScanConfig) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let source = match (csv(config), json(config), lines(config)) {
        (Some(csv), _, _) => csv.plain()?.0,
        (_, Some(json), _) => json.plain()?,
        (_, _, Some(lines)) => lines.plain()?,
        _ => return Ok(None),
    };
    Ok(Some(DataSourceExec::from_data_source(FileScanConfigBuilder::from(config.clone()).with_source(source).build())))
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
            lines: lines(config).map(|lines| lines.format().name().to_string()),
            e_tags: e_tags(config),
            order: row_group_order(config).map(|order| order.iter().map(SortColumn::of).collect()).unwrap_or_default(),
        })
    }

    fn restore(self, config: &FileScanConfig, connectors: &Registry) -> Result<Arc<dyn ExecutionPlan>> {
        let compression = FileCompressionType::from_str(&self.compression)?;
        let mut builder = FileScanConfigBuilder::from(config.clone()).with_file_compression_type(compression);
        if let (Some(csv), Some(reading)) = (config.file_source.downcast_ref::<CsvSource>(), self.csv) {
            builder = builder.with_source(Arc::new(CsvScan::of_plain(csv, reading)));
        }
        if let (Some(json), Some(reading)) = (config.file_source.downcast_ref::<JsonSource>(), self.json) {
            builder = builder.with_source(Arc::new(JsonScan::of_plain(json, reading.array)));
        }
        if let (Some(json), Some(format)) = (config.file_source.downcast_ref::<JsonSource>(), self.lines) {
            let format = connectors.require_format(&format)?;
            builder = builder.with_source(Arc::new(LineScan::of_plain(json, format)));
        }
        if !self.e_tags.is_empty() {
            builder = builder.with_file_groups(tagged(config.file_groups.clone(), self.e_tags)?);
        }
        let config = builder.build();
        match LexOrdering::new(self.order.into_iter().map(SortColumn::key)) {
            Some(order) => with_row_group_order(&config, &order),
            None => Ok(DataSourceExec::from_data_source(config)),
        }
    }
}

impl SortColumn {
    fn of(key: &PhysicalSortExpr) -> Self {
        // The keys are columns; see [`row_group_order`].
        let (name, index) = match key.expr.downcast_ref::<Column>() {
            Some(column) => (column.name().to_string(), column.index() as u64),
            None => (String::new(), u64::MAX),
        };
        let SortOptions { descending, nulls_first } = key.options;
        Self { name, index, descending, nulls_first }
    }

    fn key(self) -> PhysicalSortExpr {
        let options = SortOptions { descending: self.descending, nulls_first: self.nulls_first };
        PhysicalSortExpr::new(Arc::new(Column::new(&self.name, self.index as usize)), options)
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

/// The order is only visible in the source's display text. A key that is no column ends it: a shorter order costs time, but no rows.
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

/// The key by the column `name` at the start of `text`, and the rest.
fn shown_key<'a>(name: &str, text: &'a str) -> Option<(PhysicalSortExpr, &'a str)> {
    let text = text.strip_prefix(name)?.strip_prefix('@')?;
    let (index, text) = text.split_once(' ')?;
    let column = Arc::new(Column::new(name, index.parse().ok()?));
    // Longer words come first.
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
    // The order of the rows must be unknown here: a source that knows it would ask for nothing.
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

fn lines(config: &FileScanConfig) -> Option<&LineScan> {
    config.file_source.downcast_ref()
}

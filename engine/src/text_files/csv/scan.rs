//! The scan of CSV files.

use super::dialect::Dialect;
use super::edges::{LOOKED_AT, first_record};
use super::header::{fields_of, names};
use super::infer::{has_header, header_of, may_be_shorter, texts};
use super::records::{RecordReader, Shape};
use super::values::{Nulls, column};
use crate::text_files::bytes::{ByteStream, bytes_of, decompressed, without_mark};
use crate::text_files::place::{Place, WrongLine};
use crate::text_files::range_of;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::common::config::CsvOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{CsvSource, FileOpenFuture, FileOpener, FileScanConfig, FileSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::DisplayFormatType;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_datasource::projection::{ProjectionOpener, SplitProjection};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The read options that DataFusion's encoding of its own CSV scan lacks.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CsvReading {
    #[prost(string, optional, tag = "1")]
    null_value: Option<String>,
    #[prost(string, optional, tag = "2")]
    null_regex: Option<String>,
    #[prost(uint32, optional, tag = "3")]
    terminator: Option<u32>,
    /// The files' names of the table's columns, if they differ from the table's.
    #[prost(string, repeated, tag = "4")]
    header_names: Vec<String>,
}

/// A source of rows from CSV files.
#[derive(Clone, Debug)]
pub(crate) struct CsvScan {
    options: CsvOptions,
    header_names: Vec<String>,
    table_schema: TableSchema,
    projection: SplitProjection,
    batch_size: Option<usize>,
    metrics: ExecutionPlanMetricsSet,
}

impl CsvScan {
    pub(super) fn new(table_schema: TableSchema, options: CsvOptions, header_names: Vec<String>) -> Self {
        Self {
            options,
            header_names,
            projection: SplitProjection::unprojected(&table_schema),
            table_schema,
            batch_size: None,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    pub(super) fn with_options(&self, options: CsvOptions) -> Self {
        Self { options, ..self.clone() }
    }

    /// DataFusion's scan of the same rows, and the options that it lacks.
    pub(crate) fn plain(&self) -> Result<(Arc<dyn FileSource>, CsvReading)> {
        let plain = CsvSource::new(self.table_schema.clone()).with_csv_options(self.options.clone());
        let projected = plain.try_pushdown_projection(&self.projection.source)?;
        let reading = CsvReading {
            null_value: self.options.null_value.clone(),
            null_regex: self.options.null_regex.clone(),
            terminator: self.options.terminator.map(u32::from),
            header_names: self.header_names.clone(),
        };
        Ok((projected.ok_or_else(|| internal_datafusion_err!("a scan of CSV files takes no projection"))?, reading))
    }

    pub(crate) fn of_plain(plain: &CsvSource, reading: CsvReading) -> Self {
        let options = CsvOptions {
            has_header: Some(plain.has_header()),
            delimiter: plain.delimiter(),
            quote: plain.quote(),
            escape: plain.escape(),
            comment: plain.comment(),
            terminator: reading.terminator.and_then(|byte| u8::try_from(byte).ok()).or(plain.terminator()),
            truncated_rows: Some(plain.truncate_rows()),
            newlines_in_values: Some(plain.newlines_in_values()),
            null_value: reading.null_value,
            null_regex: reading.null_regex,
            ..CsvOptions::default()
        };
        let scan = Self::new(plain.table_schema().clone(), options, reading.header_names);
        match plain.projection() {
            Some(projection) => scan.projected(projection),
            None => scan,
        }
    }

    fn projected(&self, projection: &ProjectionExprs) -> Self {
        Self { projection: SplitProjection::new(self.table_schema.file_schema(), projection), ..self.clone() }
    }

    fn newlines_in_values(&self) -> bool {
        self.options.newlines_in_values.unwrap_or(false)
    }

    /// Everything that decides which rows there are and what they hold.
    #[cfg(test)]
    pub(crate) fn describe(&self) -> String {
        let options = &self.options;
        format!(
            "{:?} {:?} {:?} {:?} {:?}",
            (has_header(options), Dialect::of(options)),
            (may_be_shorter(options), self.newlines_in_values()),
            (&options.null_value, &options.null_regex),
            self.header_names,
            self.projection.source,
        )
    }
}

impl FileSource for CsvScan {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        _: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        let schema = self.table_schema.file_schema();
        let opener = CsvOpener {
            reading: Arc::new(Reading {
                dialect: Dialect::of(&self.options),
                nulls: Nulls::new(self.options.null_value.as_deref(), self.options.null_regex.as_deref())?,
                columns: schema.fields().iter().map(|field| field.name().clone()).collect(),
                header_names: self.header_names.clone(),
                wanted: self.projection.file_indices.clone(),
                schema: Arc::new(schema.project(&self.projection.file_indices)?),
                compression: config.file_compression_type,
                batch_size: self.batch_size.unwrap_or(8192),
                options: CsvOptions { compression: config.file_compression_type.into(), ..self.options.clone() },
            }),
            store,
            url: config.object_store_url.as_str().to_string(),
        };
        ProjectionOpener::try_new(self.projection.clone(), Arc::new(opener), schema)
    }

    fn table_schema(&self) -> &TableSchema {
        &self.table_schema
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(Self { batch_size: Some(batch_size), ..self.clone() })
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        Some(&self.projection.source)
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    fn file_type(&self) -> &str {
        "csv"
    }

    fn fmt_extra(&self, format: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        match format {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, ", has_header={}", has_header(&self.options))
            }
            DisplayFormatType::TreeRender => Ok(()),
        }
    }

    /// Files declared to have line ends in values are read whole, so that nothing has to guess where a record begins.
    fn supports_repartitioning(&self) -> bool {
        !self.newlines_in_values()
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        Ok(Some(Arc::new(self.projected(&self.projection.source.try_merge(projection)?))))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for projected in self.projection.source.iter() {
            if f(&projected.expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }
}

/// The columns to read of each file, and how.
struct Reading {
    dialect: Dialect,
    nulls: Nulls,
    /// The table's columns, without those of partition folders.
    columns: Vec<String>,
    header_names: Vec<String>,
    /// The columns to read, and their positions.
    wanted: Vec<usize>,
    schema: SchemaRef,
    compression: FileCompressionType,
    batch_size: usize,
    options: CsvOptions,
}

struct CsvOpener {
    reading: Arc<Reading>,
    store: Arc<dyn ObjectStore>,
    url: String,
}

impl FileOpener for CsvOpener {
    fn open(&self, file: PartitionedFile) -> Result<FileOpenFuture> {
        let reading = Arc::clone(&self.reading);
        let place = Place::new(&self.store, &self.url, &file.object_meta);
        let (range, size) = (range_of(&file)?, file.object_meta.size);
        Ok(Box::pin(async move {
            let rows = match range {
                None => Some(Rows::of_file(reading, place, None).await?),
                Some((0, end)) => {
                    let end = reading.first_record(&place, size, end).await?;
                    Some(Rows::of_file(reading, place, Some(end).filter(|end| *end < size)).await?)
                }
                Some((start, end)) => Rows::of_part(reading, place, start..end, size).await?,
            };
            let rows = futures::stream::try_unfold(rows, |rows| async move {
                let Some(mut rows) = rows else { return Ok(None) };
                Ok(rows.next().await?.map(|batch| (batch, Some(rows))))
            });
            Ok(rows.boxed())
        }))
    }
}

/// The fields of a file that hold the table's columns, and the number of fields.
struct Fields {
    of_columns: Vec<Option<usize>>,
    count: usize,
}

impl Reading {
    /// The fields of a file with this header.
    fn fields(&self, header: Vec<String>, place: &Place) -> Result<Fields> {
        let header = names(header);
        let found = match fields_of(&self.columns, &header) {
            Err(_) if !self.header_names.is_empty() => fields_of(&self.header_names, &header),
            found => found,
        };
        let of_columns = found.map_err(|reason| place.wrong(&reason))?;
        Ok(Fields { of_columns, count: header.len() })
    }

    /// The fields of a file without header.
    fn fields_by_position(&self) -> Fields {
        let count = self.columns.len();
        Fields { of_columns: (0..count).map(Some).collect(), count }
    }

    /// The shape of the records, and the position of each column to read among the kept fields.
    fn shape(&self, fields: &Fields) -> (Shape, Vec<Option<usize>>) {
        let mut kept = vec![false; fields.count];
        let of_wanted: Vec<Option<usize>> = self.wanted.iter().map(|&column| fields.of_columns[column]).collect();
        for field in of_wanted.iter().flatten() {
            kept[*field] = true;
        }
        let place = |field: usize| kept[..field].iter().filter(|kept| **kept).count();
        let places = of_wanted.into_iter().map(|field| field.map(place)).collect();
        (Shape { fields: Some(fields.count), may_be_shorter: may_be_shorter(&self.options), kept }, places)
    }

    async fn first_record(&self, place: &Place, size: u64, at: u64) -> Result<u64> {
        let first = first_record(place.store.as_ref(), &place.location, size, at, self.dialect).await;
        first.map_err(|error| place.failed(error))
    }
}

/// The rows of a file or of a part of it.
struct Rows {
    reading: Arc<Reading>,
    place: Place,
    bytes: ByteStream,
    /// Bytes not yet looked at.
    rest: Bytes,
    records: RecordReader,
    /// The position of each wanted column among the kept fields.
    kept: Vec<Option<usize>>,
    /// End of the part to read; `None`: the end of the file.
    end: Option<u64>,
    ended: bool,
}

impl Rows {
    /// The rows of a file from its start.
    async fn of_file(reading: Arc<Reading>, place: Place, end: Option<u64>) -> Result<Self> {
        let bytes = bytes_of(place.store.as_ref(), &place.location, end.map(|end| 0..end)).await;
        let bytes = bytes.map_err(|error| place.failed(error))?;
        let bytes = without_mark(decompressed(bytes, reading.compression));
        if !has_header(&reading.options) {
            let (shape, kept) = reading.shape(&reading.fields_by_position());
            let records = RecordReader::new(reading.dialect, shape);
            return Ok(Self { reading, place, bytes, rest: Bytes::new(), records, kept, end, ended: false });
        }
        let any = Shape { may_be_shorter: true, ..Shape::default() };
        let records = RecordReader::new(reading.dialect, any);
        let mut rows = Self { reading, place, bytes, rest: Bytes::new(), records, kept: vec![], end, ended: false };
        rows.fill(1).await?;
        let header = rows.records.take();
        // A file without a record has neither header nor rows.
        if header.len() > 0 {
            let fields = rows.reading.fields(texts(header.record(0)), &rows.place)?;
            let (shape, kept) = rows.reading.shape(&fields);
            rows.records.expect(shape);
            rows.kept = kept;
        }
        Ok(rows)
    }

    /// The rows of a part that does not begin with the file; `None` when no record begins in it.
    async fn of_part(reading: Arc<Reading>, place: Place, range: Range<u64>, size: u64) -> Result<Option<Self>> {
        let fields = async {
            match has_header(&reading.options) {
                true => reading.fields(header_of(&reading.options, &place).await?, &place),
                false => Ok(reading.fields_by_position()),
            }
        };
        let start = reading.first_record(&place, size, range.start);
        let end = reading.first_record(&place, size, range.end);
        let (fields, start, end) = futures::try_join!(fields, start, end)?;
        if start > end {
            return Err(place.wrong(&cannot_be_cut(range.end)));
        }
        if start == end {
            return Ok(None);
        }
        let place = place.at(start);
        let bytes = bytes_of(place.store.as_ref(), &place.location, Some(start..end)).await;
        let bytes = bytes.map_err(|error| place.failed(error))?;
        let (shape, kept) = reading.shape(&fields);
        let records = RecordReader::new(reading.dialect, shape);
        let end = Some(end).filter(|end| *end < size);
        Ok(Some(Self { reading, place, bytes, rest: Bytes::new(), records, kept, end, ended: false }))
    }

    /// Reads until `most` records are held or the file has no more.
    async fn fill(&mut self, most: usize) -> Result<()> {
        while !self.ended && self.records.held().len() < most {
            if self.rest.is_empty() {
                match self.bytes.try_next().await.map_err(|error| self.place.failed(error))? {
                    Some(bytes) => self.rest = bytes,
                    None => self.finish().await?,
                }
            }
            let read = self.records.read(&self.rest, most);
            let used = at(&self.place, read).await?;
            self.rest = self.rest.slice(used..);
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        self.ended = true;
        match self.end {
            None => at(&self.place, self.records.finish()).await,
            Some(_) if self.records.state().is_between_records() => Ok(()),
            Some(end) => Err(self.place.wrong(&cannot_be_cut(end))),
        }
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        self.fill(self.reading.batch_size).await?;
        let read = self.records.take();
        if read.len() == 0 {
            return Ok(None);
        }
        let schema = &self.reading.schema;
        let mut columns = Vec::with_capacity(self.kept.len());
        for (field, kept) in schema.fields().iter().zip(&self.kept) {
            columns.push(at(&self.place, column(&read, *kept, field, &self.reading.nulls)).await?);
        }
        let rows = RecordBatchOptions::new().with_row_count(Some(read.len()));
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &rows)?))
    }
}

/// The value, or the error with its file and line.
async fn at<T>(place: &Place, read: Result<T, WrongLine>) -> Result<T> {
    match read {
        Ok(value) => Ok(value),
        Err(wrong) => Err(place.wrong_at(&wrong).await),
    }
}

fn cannot_be_cut(byte: u64) -> String {
    format!(
        "the file cannot be read in parts: about byte {byte} lies a value in quotes that are not closed, or one with line ends and no \
         quote for more than {} KiB; create the table with OPTIONS (newlines_in_values true), which reads the file in one part",
        LOOKED_AT >> 10
    )
}

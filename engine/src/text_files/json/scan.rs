//! The scan of JSON files.

use super::array::rows_of_array;
use super::numbers::{NoInteger, exactly, read_as};
use crate::text_files::bytes::{ByteStream, bytes_of, decompressed, without_mark};
use crate::text_files::place::{Place, WrongLine};
use crate::text_files::{not_in_parts, range_of};
use arrow::array::{RecordBatch, StructArray};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::Decoder;
use bytes::Bytes;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileOpenFuture, FileOpener, FileScanConfig, FileSource, JsonSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_datasource::projection::{ProjectionOpener, SplitProjection};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use std::ops::Range;
use std::sync::Arc;

/// A source of rows from JSON files.
#[derive(Clone, Debug)]
pub(crate) struct JsonScan {
    /// Whether each file is one array of records.
    is_array: bool,
    table_schema: TableSchema,
    projection: SplitProjection,
    batch_size: Option<usize>,
    metrics: ExecutionPlanMetricsSet,
}

impl JsonScan {
    pub(super) fn new(table_schema: TableSchema, is_array: bool) -> Self {
        Self {
            is_array,
            projection: SplitProjection::unprojected(&table_schema),
            table_schema,
            batch_size: None,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    pub(crate) fn is_array(&self) -> bool {
        self.is_array
    }

    /// DataFusion's scan of the same columns.
    pub(crate) fn plain(&self) -> Result<Arc<dyn FileSource>> {
        let plain = JsonSource::new(self.table_schema.clone()).with_newline_delimited(!self.is_array);
        let projected = plain.try_pushdown_projection(&self.projection.source)?;
        projected.ok_or_else(|| internal_datafusion_err!("a scan of JSON files takes no projection"))
    }

    pub(crate) fn of_plain(plain: &JsonSource, is_array: bool) -> Self {
        let scan = Self::new(plain.table_schema().clone(), is_array);
        match plain.projection() {
            Some(projection) => scan.projected(projection),
            None => scan,
        }
    }

    fn projected(&self, projection: &ProjectionExprs) -> Self {
        Self { projection: SplitProjection::new(self.table_schema.file_schema(), projection), ..self.clone() }
    }

    /// Everything that decides which rows there are and what they hold.
    #[cfg(test)]
    pub(crate) fn describe(&self) -> String {
        format!("{} {:?}", self.is_array, self.projection.source)
    }
}

impl FileSource for JsonScan {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        _: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        let file_schema = self.table_schema.file_schema();
        let schema = Arc::new(file_schema.project(&self.projection.file_indices)?);
        let opener = JsonOpener {
            reading: Arc::new(Reading {
                read_as: Arc::new(Schema::new(read_as(schema.fields()))),
                schema,
                is_array: self.is_array,
                compression: config.file_compression_type,
                batch_size: self.batch_size.unwrap_or(8192),
            }),
            store,
            url: config.object_store_url.as_str().to_string(),
        };
        ProjectionOpener::try_new(self.projection.clone(), Arc::new(opener), file_schema)
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
        "json"
    }

    fn supports_repartitioning(&self) -> bool {
        !self.is_array
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
    schema: SchemaRef,
    /// The same schema with text in place of integers.
    read_as: SchemaRef,
    is_array: bool,
    compression: FileCompressionType,
    batch_size: usize,
}

impl Reading {
    /// The rows with exactly the numbers in their text.
    fn exactly(&self, read: &RecordBatch) -> Result<StructArray, NoInteger> {
        let columns = read.columns().iter().zip(self.schema.fields()).map(|(column, field)| exactly(column, field));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        if columns.is_empty() {
            return Ok(StructArray::new_empty_fields(read.num_rows(), None));
        }
        Ok(StructArray::new(self.schema.fields().clone(), columns, None))
    }
}

struct JsonOpener {
    reading: Arc<Reading>,
    store: Arc<dyn ObjectStore>,
    url: String,
}

impl FileOpener for JsonOpener {
    fn open(&self, file: PartitionedFile) -> Result<FileOpenFuture> {
        let reading = Arc::clone(&self.reading);
        let place = Place::new(&self.store, &self.url, &file.object_meta);
        let range = range_of(&file)?;
        if range.is_some() && (reading.is_array || reading.compression.is_compressed()) {
            return Err(place.failed(not_in_parts("a compressed file, or one that is an array,")));
        }
        Ok(Box::pin(async move {
            let range = match range {
                None => None,
                Some((start, end)) => {
                    let (start, end) = futures::try_join!(place.line_at(start), place.line_at(end))?;
                    if start >= end {
                        return Ok(futures::stream::empty().boxed());
                    }
                    Some(start..end)
                }
            };
            let batch_size = reading.batch_size;
            let rows = Part::new(reading, &place, range).rows(batch_size).await?;
            let rows = futures::stream::try_unfold(rows, |mut rows| async move {
                Ok(rows.next().await?.map(|batch| (batch, rows)))
            });
            Ok(rows.boxed())
        }))
    }
}

/// A file or a part of one.
#[derive(Clone)]
struct Part {
    reading: Arc<Reading>,
    place: Place,
    range: Option<Range<u64>>,
}

impl Part {
    fn new(reading: Arc<Reading>, place: &Place, range: Option<Range<u64>>) -> Self {
        let place = place.at(range.as_ref().map_or(0, |range| range.start));
        Self { reading, place, range }
    }

    async fn rows(self, batch_size: usize) -> Result<Rows> {
        let bytes = bytes_of(self.place.store.as_ref(), &self.place.location, self.range.clone()).await;
        let mut bytes = decompressed(bytes.map_err(|error| self.place.failed(error))?, self.reading.compression);
        if self.place.start == 0 {
            bytes = without_mark(bytes);
        }
        if self.reading.is_array {
            bytes = rows_of_array(bytes);
        }
        let decoder = ReaderBuilder::new(Arc::clone(&self.reading.read_as))
            .with_batch_size(batch_size)
            .with_coerce_primitive(true)
            .build_decoder()?;
        Ok(Rows { part: self, bytes, rest: Bytes::new(), decoder, given: 0, ended: false })
    }

    /// An error in the `nth` row, or in the first row that cannot be read. The decoder reports neither line nor row, so the rows are read again, one at a
    /// time.
    async fn wrong(self, nth: Option<usize>, text: String) -> DataFusionError {
        let place = self.place.clone();
        let line = match self.rows(1).await {
            Ok(rows) => rows.line_of(nth).await,
            Err(_) => None,
        };
        match line {
            Some(line) => place.wrong_at(&WrongLine { line, text }).await,
            None => place.wrong(&text),
        }
    }
}

/// The rows of a part.
struct Rows {
    part: Part,
    bytes: ByteStream,
    /// Bytes not yet looked at.
    rest: Bytes,
    decoder: Decoder,
    /// Number of rows returned.
    given: usize,
    ended: bool,
}

impl Rows {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let read = match self.decode().await? {
            Ok(None) => return Ok(None),
            Ok(Some(read)) => self.part.reading.exactly(&read),
            Err(ArrowError::JsonError(text)) => return Err(self.part.clone().wrong(None, text).await),
            Err(error) => return Err(self.part.clone().wrong(None, error.to_string()).await),
        };
        match read {
            Ok(columns) => {
                let batch = RecordBatch::from(columns);
                self.given += batch.num_rows();
                Ok(Some(batch))
            }
            Err(wrong) => Err(self.part.clone().wrong(Some(self.given + wrong.row), wrong.text).await),
        }
    }

    /// The next batch as it was read, or the decoder's error.
    async fn decode(&mut self) -> Result<Result<Option<RecordBatch>, ArrowError>> {
        loop {
            if self.rest.is_empty() && !self.ended {
                match self.bytes.try_next().await.map_err(|error| self.part.place.failed(error))? {
                    Some(bytes) => self.rest = bytes,
                    None => self.ended = true,
                }
            }
            match self.decoder.decode(&self.rest) {
                Ok(used) => self.rest = self.rest.slice(used..),
                Err(error) => return Ok(Err(error)),
            }
            if !self.rest.is_empty() || self.ended {
                return Ok(self.decoder.flush());
            }
        }
    }

    /// The line in which a row begins, counted from 0 at the start of the part: the `nth` row, or the first that cannot be read. The batch size must be 1.
    async fn line_of(mut self, nth: Option<usize>) -> Option<u64> {
        let (mut line, mut begins, mut rows) = (0, 0, 0);
        loop {
            if self.rest.is_empty() {
                match self.bytes.try_next().await {
                    Ok(Some(bytes)) => self.rest = bytes,
                    _ => return self.decoder.has_partial_record().then_some(begins),
                }
            }
            if !self.decoder.has_partial_record() {
                let space = self.rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                line += line_ends(&self.rest[..space]);
                self.rest = self.rest.slice(space..);
                begins = line;
                if self.rest.is_empty() {
                    continue;
                }
                if nth == Some(rows) {
                    return Some(begins);
                }
            }
            let Ok(used) = self.decoder.decode(&self.rest) else { return Some(begins) };
            line += line_ends(&self.rest[..used]);
            self.rest = self.rest.slice(used..);
            if !self.decoder.has_partial_record() && !self.decoder.is_empty() {
                if self.decoder.flush().is_err() {
                    return Some(begins);
                }
                rows += 1;
            }
        }
    }
}

fn line_ends(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|&&byte| byte == b'\n').count() as u64
}

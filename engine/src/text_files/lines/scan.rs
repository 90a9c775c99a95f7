//! The scan of files of lines.

use super::{LONGEST_LINE, LineFormat, is_blank, too_long};
use crate::text_files::bytes::{ByteStream, bytes_of, decompressed, without_mark};
use crate::text_files::place::{Place, WrongLine};
use crate::text_files::{not_in_parts, range_of};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileOpenFuture, FileOpener, FileScanConfig, FileSource, JsonSource};
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

/// Bytes of lines above which a batch is full.
const BATCH_BYTES: usize = 8 << 20;

/// A source of rows from files of lines.
#[derive(Clone, Debug)]
pub(crate) struct LineScan {
    format: Arc<dyn LineFormat>,
    table_schema: TableSchema,
    projection: SplitProjection,
    batch_size: Option<usize>,
    metrics: ExecutionPlanMetricsSet,
}

impl LineScan {
    pub(super) fn new(format: Arc<dyn LineFormat>, table_schema: TableSchema) -> Self {
        Self {
            format,
            projection: SplitProjection::unprojected(&table_schema),
            table_schema,
            batch_size: None,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    pub(crate) fn format(&self) -> &dyn LineFormat {
        self.format.as_ref()
    }

    /// DataFusion's scan of the same columns of JSON files, which can be encoded.
    pub(crate) fn plain(&self) -> Result<Arc<dyn FileSource>> {
        let projected = JsonSource::new(self.table_schema.clone()).try_pushdown_projection(&self.projection.source)?;
        projected.ok_or_else(|| internal_datafusion_err!("a scan of JSON files takes no projection"))
    }

    pub(crate) fn of_plain(plain: &JsonSource, format: Arc<dyn LineFormat>) -> Self {
        let scan = Self::new(format, plain.table_schema().clone());
        match plain.projection() {
            Some(projection) => scan.projected(projection),
            None => scan,
        }
    }

    fn projected(&self, projection: &ProjectionExprs) -> Self {
        Self { projection: SplitProjection::new(self.table_schema.file_schema(), projection), ..self.clone() }
    }
}

impl FileSource for LineScan {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        _: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        let file_schema = self.table_schema.file_schema();
        let reading = Reading {
            format: Arc::clone(&self.format),
            columns: Arc::new(file_schema.project(&self.projection.file_indices)?),
            batch_size: self.batch_size.unwrap_or(8192),
        };
        let url = config.object_store_url.as_str().to_string();
        let opener = LineOpener { reading, store, url, compression: config.file_compression_type };
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
        "lines"
    }

    fn fmt_extra(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ", format={}", self.format.name())
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
#[derive(Clone)]
struct Reading {
    format: Arc<dyn LineFormat>,
    columns: SchemaRef,
    batch_size: usize,
}

struct LineOpener {
    reading: Reading,
    store: Arc<dyn ObjectStore>,
    url: String,
    compression: FileCompressionType,
}

impl FileOpener for LineOpener {
    fn open(&self, file: PartitionedFile) -> Result<FileOpenFuture> {
        let (reading, compression) = (self.reading.clone(), self.compression);
        let place = Place::new(&self.store, &self.url, &file.object_meta);
        let range = range_of(&file)?;
        if range.is_some() && compression.is_compressed() {
            return Err(place.failed(not_in_parts("a compressed file")));
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
            let rows = Rows::open(reading, &place, range, compression).await?;
            let rows = futures::stream::try_unfold(rows, |mut rows| async move {
                Ok(rows.next().await?.map(|batch| (batch, rows)))
            });
            Ok(rows.boxed())
        }))
    }
}

/// The rows of a file or of a part of one.
struct Rows {
    reading: Reading,
    place: Place,
    bytes: ByteStream,
    /// Bytes that were read. Those up to `given` are of lines that were given.
    text: Vec<u8>,
    given: usize,
    /// Lines that were given, blank ones too.
    lines: u64,
    /// All bytes were read.
    is_over: bool,
}

/// A line: its number, and where it lies in the text.
struct Line {
    number: u64,
    range: Range<usize>,
}

impl Rows {
    async fn open(
        reading: Reading,
        place: &Place,
        range: Option<Range<u64>>,
        compression: FileCompressionType,
    ) -> Result<Self> {
        let place = place.at(range.as_ref().map_or(0, |range| range.start));
        let bytes = bytes_of(place.store.as_ref(), &place.location, range).await;
        let mut bytes = decompressed(bytes.map_err(|error| place.failed(error))?, compression);
        if place.start == 0 {
            bytes = without_mark(bytes);
        }
        Ok(Self { reading, place, bytes, text: Vec::new(), given: 0, lines: 0, is_over: false })
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let lines = self.some_lines().await?;
        if lines.is_empty() {
            return Ok(None);
        }
        let texts: Vec<&[u8]> = lines.iter().map(|line| &self.text[line.range.clone()]).collect();
        match self.reading.format.read(&self.reading.columns, &texts) {
            Ok(batch) => Ok(Some(batch)),
            Err(wrong) => {
                let line = lines.get(wrong.row).map_or(0, |line| line.number);
                Err(self.place.wrong_at(&WrongLine { line, text: wrong.text }).await)
            }
        }
    }

    /// The lines of the next batch. None: the end.
    async fn some_lines(&mut self) -> Result<Vec<Line>> {
        self.text.drain(..self.given);
        self.given = 0;
        let (mut lines, mut looked_at) = (Vec::new(), 0);
        loop {
            while let Some(length) = self.text[looked_at..].iter().position(|&byte| byte == b'\n') {
                let end = looked_at + length;
                lines.extend(self.line(end));
                (self.given, looked_at) = (end + 1, end + 1);
                if lines.len() >= self.reading.batch_size || self.given >= BATCH_BYTES {
                    return Ok(lines);
                }
            }
            looked_at = self.text.len();
            if looked_at - self.given > LONGEST_LINE {
                let wrong = WrongLine { line: self.lines, text: too_long() };
                return Err(self.place.wrong_at(&wrong).await);
            }
            if self.is_over {
                // The last line may have no end.
                lines.extend(self.line(looked_at));
                self.given = looked_at;
                return Ok(lines);
            }
            match self.bytes.try_next().await.map_err(|error| self.place.failed(error))? {
                Some(bytes) => self.text.extend_from_slice(&bytes),
                None => self.is_over = true,
            }
        }
    }

    /// Counts the line up to `end`. None: it is blank.
    fn line(&mut self, end: usize) -> Option<Line> {
        let line = Line { number: self.lines, range: self.given..end };
        self.lines += 1;
        (!is_blank(&self.text[line.range.clone()])).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::super::LineFormat;
    use super::super::tests::Numbers;
    use super::*;
    use arrow::array::cast::AsArray;
    use arrow::datatypes::Int64Type;
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use object_store::{ObjectMeta, ObjectStoreExt};

    async fn stored(text: &str) -> (Arc<dyn ObjectStore>, ObjectMeta) {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let path = Path::from("a.txt");
        store.put(&path, text.to_owned().into()).await.unwrap();
        let meta = store.head(&path).await.unwrap();
        (store, meta)
    }

    /// The numbers of a file that is read in parts which end at these bytes.
    async fn read(text: &str, ends: &[u64], batch_size: usize) -> Result<Vec<i64>> {
        let (store, meta) = stored(text).await;
        let reading = Reading { format: Arc::new(Numbers), columns: Numbers.sample().columns(), batch_size };
        let opener =
            LineOpener { reading, store, url: "memory:///".into(), compression: FileCompressionType::UNCOMPRESSED };
        let (mut numbers, mut start) = (Vec::new(), 0);
        for end in ends.iter().copied().chain([meta.size]) {
            let file = PartitionedFile::from(meta.clone()).with_range(start as i64, end as i64);
            let rows: Vec<RecordBatch> = opener.open(file)?.await?.try_collect().await?;
            numbers.extend(rows.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()));
            start = end;
        }
        Ok(numbers)
    }

    #[tokio::test]
    async fn each_line_is_in_one_part() {
        for text in ["1\n22\n\n333\n4\n", "\u{feff}1\r\n22\r\n \r\n333\r\n4"] {
            for first in 0..text.len() as u64 {
                for second in first..text.len() as u64 {
                    for batch_size in [1, 2, 9] {
                        let numbers = read(text, &[first, second], batch_size).await.unwrap();
                        assert_eq!(numbers, [1, 22, 333, 4], "{text:?} {first} {second}");
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn an_error_names_the_line_of_the_file() {
        for (ends, batch_size) in [(&[][..], 9), (&[3][..], 1), (&[6][..], 9)] {
            let error = read("1\n2\n\nthree\n5\n", ends, batch_size).await.unwrap_err().to_string();
            assert!(error.contains("a.txt: line 4: 'three' is no number"), "{error}");
        }
        let error = read(&format!("1\n{}", "1".repeat(LONGEST_LINE + 9)), &[], 9).await.unwrap_err().to_string();
        assert!(error.contains("line 2: the line has more than"), "{error}");
    }
}

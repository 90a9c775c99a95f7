//! Copies files from one place to another unchanged; each task copies some of them. [`crate::copy_files`] plans its scans.
//!
//! Retries do not copy a file twice: a file appears at its place only when it is complete, and an attempt skips those that an earlier one has copied.

use super::{
    Connector, ConnectorTable, Encoded, OptionSpec, Options, Scan, ScanExec, Split, TableRequest, TableSpec, TaskOfScan,
};
use crate::checksum::crc32c_append;
use crate::failure::{FileError, file_name, message};
use crate::task;
use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::common::{DataFusionError, Result, internal_datafusion_err, plan_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_plan::metrics::MetricBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt};
use prost::Message;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;

/// The function that copies files.
pub const COPY_FILES: &str = "copy_files";
/// Files that one task copies at a time.
const AT_A_TIME: usize = 2;
/// Bytes per part of an upload.
const PART_BYTES: usize = 8 << 20;
/// Maximum copies of a file whose copy turns out to have other bytes.
const TRIES: u32 = 3;

/// The files to copy and their targets.
#[derive(Clone, PartialEq, Message)]
pub struct CopyFiles {
    /// URL of the source's object store.
    #[prost(string, tag = "1")]
    pub from: String,
    #[prost(string, tag = "2")]
    pub to: String,
    /// Whether files that already exist are copied too.
    #[prost(bool, tag = "3")]
    pub overwrite: bool,
    /// Whether each copy is read back and compared.
    #[prost(bool, tag = "4")]
    pub verify: bool,
    /// Whether to report the actions without doing them.
    #[prost(bool, tag = "5")]
    pub dry: bool,
    /// The files, one entry per partition.
    #[prost(message, repeated, tag = "6")]
    pub parts: Vec<CopyPart>,
    /// Number of files of all parts.
    #[prost(uint64, tag = "7")]
    pub files: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct CopyPart {
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<CopyItem>,
    /// Number of files that already exist; they are only counted.
    #[prost(uint64, tag = "2")]
    pub skipped: u64,
    #[prost(uint64, tag = "3")]
    pub skipped_bytes: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct CopyItem {
    /// Location in the source's store. Without it the target is removed.
    #[prost(string, optional, tag = "1")]
    pub from: Option<String>,
    #[prost(string, tag = "2")]
    pub to: String,
    #[prost(uint64, tag = "3")]
    pub bytes: u64,
    #[prost(string, optional, tag = "4")]
    pub e_tag: Option<String>,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[prost(int64, tag = "5")]
    pub modified_ms: i64,
}

/// Copies as tables of the engine's own; no statement can name this connector.
#[derive(Debug)]
pub(super) struct CopyFilesConnector;

/// A scan that copies the files of its splits.
#[derive(Debug)]
pub struct CopyFilesScan {
    /// The copy without its parts, which are the splits.
    copy: CopyFiles,
}

/// The columns of a copy's rows: one row for each file that was copied or removed, and one that counts skipped files.
pub fn copy_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("action", DataType::Utf8, false),
        Field::new("path", DataType::Utf8, true),
        Field::new("files", DataType::UInt64, false),
        Field::new("bytes", DataType::UInt64, false),
        Field::new("crc32c", DataType::Utf8, true),
    ]))
}

struct Row {
    action: &'static str,
    path: Option<String>,
    files: u64,
    bytes: u64,
    crc32c: Option<String>,
}

const NAME: &str = "COPY_FILES";

impl CopyFilesScan {
    /// The leaf that carries out `copy`, with one task per part.
    pub fn planned(copy: CopyFiles) -> ScanExec {
        let options = Options::default();
        let table = TableSpec { connector: NAME.into(), id: String::new(), location: copy.from.clone(), options };
        let files = copy.parts.iter().map(|part| part.items.len() as u64).sum();
        let split = |part: &CopyPart| Split {
            bytes: Some(part.items.iter().map(|item| item.bytes).sum()),
            payload: part.encode_to_vec().into(),
            ..Split::default()
        };
        let partitions = copy.parts.iter().map(|part| vec![split(part)]).collect();
        let scan = Self { copy: CopyFiles { files, parts: Vec::new(), ..copy } };
        ScanExec::of(Arc::new(table), Arc::new(scan), partitions)
    }
}

#[async_trait]
impl Connector for CopyFilesConnector {
    fn name(&self) -> &'static str {
        NAME
    }

    fn options(&self) -> &'static [OptionSpec] {
        &[]
    }

    async fn table(&self, _: TableRequest) -> Result<Arc<dyn ConnectorTable>> {
        plan_err!("a copy of files is no table: use {}('from', 'to')", COPY_FILES)
    }

    fn decode_scan(&self, encoded: Encoded<'_>) -> Result<Arc<dyn Scan>> {
        let copy = CopyFiles::decode(encoded.bytes);
        let copy = copy.map_err(|e| internal_datafusion_err!("a copy of files cannot be decoded: {e}"))?;
        Ok(Arc::new(CopyFilesScan { copy }))
    }
}

impl Scan for CopyFilesScan {
    fn schema(&self) -> SchemaRef {
        copy_schema()
    }

    /// The splits are created where the copy is planned.
    fn splits(&self) -> Vec<Split> {
        Vec::new()
    }

    fn pieces(&self, split: &Split) -> Vec<task::Split> {
        let of_item = |item: CopyItem| Some(task::Split { path: format!("/{}", item.from?), range: 0..item.bytes });
        match CopyPart::decode(split.payload.clone()) {
            Ok(part) if self.copy.from.starts_with("wfs:") => part.items.into_iter().filter_map(of_item).collect(),
            _ => Vec::new(),
        }
    }

    fn stores(&self) -> Vec<String> {
        vec![self.copy.from.clone(), self.copy.to.clone()]
    }

    fn describe(&self) -> String {
        format!("files={}, from={}, to={}", self.copy.files, self.copy.from, self.copy.to)
    }

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(self.copy.encode_to_vec())
    }

    fn open(&self, split: &Split, task: &TaskOfScan) -> Result<SendableRecordBatchStream> {
        let part = CopyPart::decode(split.payload.clone());
        let part = part.map_err(|e| internal_datafusion_err!("a part of a copy cannot be decoded: {e}"))?;
        let store = |url: &str| task.context.runtime_env().object_store(ObjectStoreUrl::parse(url)?);
        let copier =
            Arc::new(Copier { from: store(&self.copy.from)?, to: store(&self.copy.to)?, copy: self.copy.clone() });
        let bytes = MetricBuilder::new(&task.metrics).counter("bytes_copied", task.partition);
        let skipped =
            Row { action: "skipped", path: None, files: part.skipped, bytes: part.skipped_bytes, crc32c: None };
        let skipped = (part.skipped > 0).then_some(Ok(skipped));
        let done = stream::iter(part.items).map(move |item| {
            let copier = copier.clone();
            async move { copier.handle(&item).await }
        });
        let output = stream::iter(skipped).chain(done.buffered(AT_A_TIME)).map(move |row| {
            let row = row?;
            if row.action == "copied" {
                bytes.add(row.bytes as usize);
            }
            row.batch()
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(copy_schema(), output)))
    }
}

impl Row {
    fn batch(self) -> Result<RecordBatch> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![self.action])),
            Arc::new(StringArray::from(vec![self.path])),
            Arc::new(UInt64Array::from(vec![self.files])),
            Arc::new(UInt64Array::from(vec![self.bytes])),
            Arc::new(StringArray::from(vec![self.crc32c])),
        ];
        Ok(RecordBatch::try_new(copy_schema(), columns)?)
    }
}

struct Copier {
    from: Arc<dyn ObjectStore>,
    to: Arc<dyn ObjectStore>,
    copy: CopyFiles,
}

impl Copier {
    async fn handle(&self, item: &CopyItem) -> Result<Row> {
        let to = location(&item.to)?;
        let name = file_name(&self.copy.to, &to);
        let row = |action, crc32c| Row { action, path: Some(name.clone()), files: 1, bytes: item.bytes, crc32c };
        let Some(source) = &item.from else {
            if !self.copy.dry {
                match self.to.delete(&to).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(failed(format!("cannot remove {name}"), error.into())),
                }
            }
            return Ok(row(if self.copy.dry { "would remove" } else { "removed" }, None));
        };
        if self.copy.dry {
            return Ok(row("would copy", None));
        }
        if !self.copy.overwrite && self.is_there(item, &to).await {
            return Ok(row("skipped", None));
        }
        let from = location(source)?;
        let what = format!("cannot copy {} to {name}", file_name(&self.copy.from, &from));
        let mut tries = 1;
        loop {
            let sum = self.transfer(item, &from, &to).await.map_err(|error| failed(what.clone(), error))?;
            let read = match self.copy.verify {
                true => checksum(&*self.to, &to).await.map_err(|error| failed(what.clone(), error))?,
                false => (sum, item.bytes),
            };
            if read == (sum, item.bytes) {
                return Ok(row("copied", Some(format!("{sum:08x}"))));
            }
            if tries == TRIES {
                let reason = format!(
                    "{} bytes with CRC32C {sum:08x} were written, and {} with {:08x} are read there",
                    item.bytes, read.1, read.0
                );
                return Err(failed(what, DataFusionError::Execution(reason)));
            }
            tries += 1;
        }
    }

    /// Whether an earlier attempt has copied the file.
    async fn is_there(&self, item: &CopyItem, to: &Path) -> bool {
        self.to
            .head(to)
            .await
            .is_ok_and(|there| there.size == item.bytes && there.last_modified.timestamp_millis() >= item.modified_ms)
    }

    /// Copies the bytes; returns the CRC32C of what was read.
    async fn transfer(&self, item: &CopyItem, from: &Path, to: &Path) -> Result<u32> {
        let options = GetOptions { if_match: item.e_tag.clone(), ..GetOptions::default() };
        let mut bytes = match self.from.get_opts(from, options).await {
            Err(object_store::Error::Precondition { .. }) => {
                let reason = "it was written again since the copy began: copy once more".to_string();
                return Err(DataFusionError::Execution(reason));
            }
            found => found?.into_stream(),
        };
        let mut writer = BufWriter::with_capacity(self.to.clone(), to.clone(), PART_BYTES);
        let (mut sum, mut read) = (0, 0);
        let written = async {
            while let Some(part) = bytes.try_next().await? {
                sum = crc32c_append(sum, &part);
                read += part.len() as u64;
                writer.put(part).await?;
            }
            Ok::<_, object_store::Error>(())
        };
        if let Err(error) = written.await {
            // Uploaded parts are discarded. The first error is the one that counts.
            let _ = writer.abort().await;
            return Err(error.into());
        }
        writer.shutdown().await.map_err(DataFusionError::IoError)?;
        match read == item.bytes {
            true => Ok(sum),
            false => Err(DataFusionError::Execution(format!(
                "it has {read} bytes, and had {} when the copy began",
                item.bytes
            ))),
        }
    }
}

/// CRC32C and length of the file at a location.
async fn checksum(store: &dyn ObjectStore, location: &Path) -> Result<(u32, u64)> {
    let bytes = store.get(location).await?.into_stream();
    let sum = |(sum, length), part: Bytes| async move { Ok((crc32c_append(sum, &part), length + part.len() as u64)) };
    Ok(bytes.try_fold((0, 0), sum).await?)
}

fn location(text: &str) -> Result<Path> {
    Ok(Path::parse(text).map_err(object_store::Error::from)?)
}

fn failed(what: String, source: DataFusionError) -> DataFusionError {
    FileError::described(format!("{what}: {}", message(&source)), source)
}

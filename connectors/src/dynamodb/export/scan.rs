//! Reading files of DynamoDB JSON. Compressed files cannot be cut, so a file is read by one task.

use super::super::decode::Decoder;
use super::super::value::Item;
use super::{Files, json};
use bytes::{Bytes, BytesMut};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, internal_datafusion_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use windlass_engine::connector::{Scan, Split, TableSpec, TaskOfScan};
use windlass_engine::failure::file_name;
use windlass_engine::stores::without_settings;

/// Bytes of the files of a split, about.
const SPLIT_BYTES: u64 = 64 << 20;
/// Longest line that is read. Items have up to 400 KB, and text of JSON may be six times as long.
const LONGEST_LINE: usize = 16 << 20;
/// Items that are decoded together.
const ITEMS: usize = 1024;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct File {
    path: String,
    bytes: u64,
    e_tag: Option<String>,
}

impl File {
    pub fn of(meta: &ObjectMeta) -> Self {
        Self { path: meta.location.to_string(), bytes: meta.size, e_tag: meta.e_tag.clone() }
    }

    fn compression(&self) -> FileCompressionType {
        match self.path.rsplit_once('.') {
            Some((_, "gz")) => FileCompressionType::GZIP,
            Some((_, "zst")) => FileCompressionType::ZSTD,
            _ => FileCompressionType::UNCOMPRESSED,
        }
    }
}

/// Deals the files out, neighbours together.
pub(super) fn splits(files: &[ObjectMeta], tasks: usize) -> Vec<Split> {
    let all: u64 = files.iter().map(|file| file.size).sum();
    let most = (all / tasks.max(1) as u64).clamp(1, SPLIT_BYTES);
    let (mut splits, mut some, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (at, file) in files.iter().enumerate() {
        some.push(File::of(file));
        bytes += file.size;
        if bytes >= most || at + 1 == files.len() {
            // Names and numbers can be written as JSON.
            let payload = serde_json::to_vec(&std::mem::take(&mut some)).unwrap_or_default().into();
            splits.push(Split { bytes: Some(std::mem::take(&mut bytes)), payload, ..Split::default() });
        }
    }
    splits
}

#[derive(Debug)]
pub(super) struct JsonScan {
    files: Files,
    schema: SchemaRef,
    splits: Vec<Split>,
    misfits_are_null: bool,
}

impl JsonScan {
    pub fn of(spec: &TableSpec, files: Files, schema: SchemaRef, splits: Vec<Split>) -> Self {
        let misfits_are_null = spec.options.text("mismatch").is_some_and(|what| what.eq_ignore_ascii_case("null"));
        Self { files, schema, splits, misfits_are_null }
    }
}

impl Scan for JsonScan {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn splits(&self) -> Vec<Split> {
        self.splits.clone()
    }

    fn describe(&self) -> String {
        format!("files of {}", self.files.place)
    }

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn open(&self, split: &Split, task: &TaskOfScan) -> Result<SendableRecordBatchStream> {
        let files: Vec<File> = serde_json::from_slice(&split.payload)
            .map_err(|error| internal_datafusion_err!("a split cannot be decoded: {error}"))?;
        let store = self.files.store(Some(task.context.runtime_env().as_ref()))?;
        let url = self.files.place.store().as_str().to_string();
        let (schema, misfits_are_null) = (self.schema(), self.misfits_are_null);
        let batches = stream::iter(files).flat_map(move |file| {
            let server = file_name(&url, &Path::from(file.path.as_str()));
            let decoder = Decoder { schema: Arc::clone(&schema), keys: Vec::new(), misfits_are_null, server };
            items(Arc::clone(&store), url.clone(), file).and_then(move |items| {
                let batch = decoder.batch(&items);
                futures::future::ready(batch)
            })
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}

/// The items of a file, some at a time.
pub(super) fn items(store: Arc<dyn ObjectStore>, url: String, file: File) -> BoxStream<'static, Result<Vec<Item>>> {
    let name = format!("{}/{}", without_settings(url.trim_end_matches('/')), file.path);
    let named = name.clone();
    let opened = async move {
        let path = Path::parse(&file.path).map_err(|error| exec_datafusion_err!("{named}: {error}"))?;
        let found = store.get(&path).await.map_err(DataFusionError::from)?;
        if file.e_tag.is_some() && found.meta.e_tag != file.e_tag {
            return Err(exec_datafusion_err!("{named} was replaced while it was read: run the statement again"));
        }
        let bytes = found.into_stream().map_err(DataFusionError::from).boxed();
        file.compression().convert_stream(bytes)
    };
    let bytes = stream::once(opened).try_flatten().boxed();
    let lines = Lines { bytes, left: BytesMut::new(), line: 0, name, is_over: false };
    stream::try_unfold(lines, |mut lines| async move {
        let items = lines.next().await?;
        Ok((!items.is_empty()).then_some((items, lines)))
    })
    .boxed()
}

struct Lines {
    bytes: BoxStream<'static, Result<Bytes>>,
    left: BytesMut,
    /// Lines that were read.
    line: u64,
    name: String,
    is_over: bool,
}

impl Lines {
    /// Returns the next items. Empty: there are none.
    async fn next(&mut self) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        let mut looked_at = 0;
        while items.len() < ITEMS {
            let end = self.left[looked_at..].iter().position(|byte| *byte == b'\n').map(|end| looked_at + end);
            let line = match end {
                Some(end) => self.left.split_to(end + 1),
                None if self.is_over && self.left.is_empty() => break,
                None if self.is_over => self.left.split(),
                None => {
                    looked_at = self.left.len();
                    if looked_at > LONGEST_LINE {
                        return Err(self.wrong(&format!("it has more than {LONGEST_LINE} bytes")));
                    }
                    match self.bytes.next().await {
                        Some(bytes) => {
                            let bytes =
                                bytes.map_err(|error| exec_datafusion_err!("cannot read {}: {error}", self.name))?;
                            self.left.extend_from_slice(&bytes);
                        }
                        None => self.is_over = true,
                    }
                    continue;
                }
            };
            looked_at = 0;
            self.line += 1;
            items.extend(json::item(&line).map_err(|why| self.wrong_at(self.line, &why))?);
        }
        Ok(items)
    }

    fn wrong(&self, why: &str) -> DataFusionError {
        self.wrong_at(self.line + 1, why)
    }

    fn wrong_at(&self, line: u64, why: &str) -> DataFusionError {
        exec_datafusion_err!("cannot read {}, line {line}: {why}", self.name)
    }
}

//! Writing an export, as DynamoDB's ExportTableToPointInTime lays it out below the location:
//!
//! ```text
//! AWSDynamoDB/ID/data/NAME.json.gz     the items, a line for each
//! AWSDynamoDB/ID/manifest-files.json   a line for each of these files: its items, its MD5 and its key
//! AWSDynamoDB/ID/manifest-summary.json the whole, last of all: an export without it is not complete
//! ```
//!
//! Attempts write into a staging folder. Publishing renames the files of those that count, and then writes the manifests.
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport.Output.html>

use super::super::encode::Rows;
use super::super::value::Item;
use super::{Files, json};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{SecondsFormat, Utc};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err, internal_datafusion_err};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{StreamExt, TryStreamExt, stream};
use md5::{Digest, Md5};
use object_store::{Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::Write;
use std::sync::Arc;
use windlass_engine::connector::{Attempt, Encoded, Sink, SinkRequest, TableSpec, Written};
use windlass_engine::{OwnFolder, Place};

/// Bytes of a part of an upload.
const PART_BYTES: usize = 8 << 20;
/// Files that are renamed at a time.
const AT_A_TIME: usize = 16;

/// The write of one export.
#[derive(Debug)]
pub(super) struct JsonSink {
    files: Files,
    names: Vec<String>,
    is_compressed: bool,
    export: Export,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Export {
    id: String,
    /// When it began, as the manifest says it.
    begun: String,
    /// URL of the folder in which attempts write.
    staging: String,
}

/// The file of one attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Staged {
    /// Its name, there and later. Absent: the attempt had no rows.
    file: Option<String>,
    attempt: String,
    items: u64,
    md5: String,
}

impl JsonSink {
    pub fn new(files: Files, spec: &TableSpec, request: SinkRequest) -> Result<Self> {
        let begun = Utc::now();
        let words: String = request.write.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        let id = format!("{:014}-{words}", begun.timestamp_millis());
        let target = files.place.as_folder().folder(&format!("AWSDynamoDB/{id}/data"))?;
        let staging = OwnFolder::staging(&target)?.url();
        let begun = begun.to_rfc3339_opts(SecondsFormat::Millis, true);
        Self::of(
            files,
            spec,
            request.schema.fields().iter().map(|field| field.name().clone()).collect(),
            Export { id, begun, staging },
        )
    }

    pub fn decode(files: Files, encoded: Encoded<'_>) -> Result<Self> {
        let export = serde_json::from_slice(encoded.bytes);
        let export = export.map_err(|error| internal_datafusion_err!("an export cannot be decoded: {error}"))?;
        let names = encoded.schema.fields().iter().map(|field| field.name().clone()).collect();
        Self::of(files, encoded.table, names, export)
    }

    fn of(files: Files, spec: &TableSpec, names: Vec<String>, export: Export) -> Result<Self> {
        let is_compressed = spec.options.text("compression").is_none_or(|kind| kind.eq_ignore_ascii_case("gzip"));
        Ok(Self { files, names, is_compressed, export })
    }

    /// The folder of the export.
    fn folder(&self) -> Result<Place> {
        self.files.place.as_folder().folder(&format!("AWSDynamoDB/{}", self.export.id))
    }

    fn staging(&self) -> Result<OwnFolder> {
        OwnFolder::from_url(&self.export.staging)
    }

    async fn publish_file(&self, store: &dyn ObjectStore, staged: &Staged, name: &str) -> Result<()> {
        let from = self.staging()?.place().folder(&staged.attempt)?.file(name)?;
        let to = self.folder()?.folder("data")?.file(name)?;
        match store.rename(from.path(), to.path()).await {
            Ok(()) => Ok(()),
            // An earlier try has moved it.
            Err(missing @ Error::NotFound { .. }) => match store.head(to.path()).await {
                Ok(_) => Ok(()),
                Err(_) => exec_err!("{to} was written and is gone: {missing}"),
            },
            Err(error) => Err(error.into()),
        }
    }

    async fn put_manifest(&self, store: &dyn ObjectStore, name: &str, text: String) -> Result<()> {
        let sum = STANDARD.encode(Md5::digest(&text));
        store.put(self.folder()?.file(&format!("{name}.json"))?.path(), text.into()).await?;
        store.put(self.folder()?.file(&format!("{name}.md5"))?.path(), sum.into()).await?;
        Ok(())
    }

    async fn remove_staged(&self, store: &dyn ObjectStore) -> Result<()> {
        let staging = self.staging()?;
        if let Some(path) = staging.place().local_path() {
            return match tokio::fs::remove_dir_all(&path).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            };
        }
        let found = store.list(Some(staging.place().path())).map_ok(|meta| meta.location).boxed();
        store.delete_stream(found).try_collect::<Vec<_>>().await?;
        Ok(())
    }
}

#[async_trait]
impl Sink for JsonSink {
    fn describe(&self) -> String {
        format!("export to {}", self.files.place)
    }

    fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(&self.export).map_err(|error| DataFusionError::External(Box::new(error)))
    }

    async fn write(
        &self,
        attempt: Attempt,
        mut rows: SendableRecordBatchStream,
        context: &Arc<TaskContext>,
    ) -> Result<Written> {
        let store = self.files.store(Some(context.runtime_env().as_ref()))?;
        let ending = if self.is_compressed { "json.gz" } else { "json" };
        let name = format!("{}.{ending}", uuid::Uuid::new_v4().simple());
        let place = self.staging()?.place().folder(&attempt.to_string())?.file(&name)?;
        let mut file: Option<Writer> = None;
        while let Some(batch) = rows.try_next().await? {
            let rows = Rows::of(&batch, &self.names)?;
            for row in 0..rows.count() {
                let item = rows.item(row).map_err(|why| exec_datafusion_err!("a row cannot be exported: {why}"))?;
                let writer = match &mut file {
                    Some(writer) => writer,
                    None => {
                        let upload = store.put_multipart(place.path()).await?;
                        file.insert(Writer::new(upload, self.is_compressed))
                    }
                };
                writer.write(&item).await?;
            }
        }
        let staged = match file {
            Some(writer) => writer.end(name, attempt).await?,
            None => Staged { file: None, attempt: attempt.to_string(), items: 0, md5: String::new() },
        };
        let token = serde_json::to_vec(&staged).map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(Written { rows: staged.items, token })
    }

    async fn publish(&self, tokens: &[Vec<u8>], runtime: &Arc<RuntimeEnv>) -> Result<()> {
        let store = self.files.store(Some(runtime.as_ref()))?;
        let staged = tokens.iter().map(|token| serde_json::from_slice::<Staged>(token));
        let staged: Vec<Staged> = staged
            .collect::<Result<_, _>>()
            .map_err(|error| internal_datafusion_err!("the files of an export cannot be decoded: {error}"))?;
        let files: Vec<(&Staged, &String)> = staged.iter().filter_map(|one| Some((one, one.file.as_ref()?))).collect();
        let mut moves = Vec::with_capacity(files.len());
        for (one, name) in &files {
            moves.push(self.publish_file(store.as_ref(), one, name));
        }
        stream::iter(moves).buffer_unordered(AT_A_TIME).try_collect::<Vec<()>>().await?;
        let (mut lines, mut items) = (String::new(), 0);
        for (one, name) in &files {
            let key = self.folder()?.folder("data")?.file(name)?;
            let line = json!({"itemCount": one.items, "md5Checksum": one.md5, "dataFileS3Key": key.path().as_ref()});
            lines.push_str(&format!("{line}\n"));
            items += one.items;
        }
        self.put_manifest(store.as_ref(), "manifest-files", lines).await?;
        let folder = self.folder()?;
        let url: &url::Url = folder.store().as_ref();
        let bucket = url.host_str();
        let summary = json!({
            "version": "2020-06-30",
            "exportArn": format!("windlass:export/{}", self.export.id),
            "startTime": self.export.begun,
            "endTime": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            "exportTime": self.export.begun,
            "s3Bucket": bucket,
            "s3Prefix": self.files.place.path().as_ref(),
            "manifestFilesS3Key": folder.file("manifest-files.json")?.path().as_ref(),
            "itemCount": items,
            "outputFormat": "DYNAMODB_JSON",
            "exportType": "FULL_EXPORT",
        });
        self.put_manifest(store.as_ref(), "manifest-summary", summary.to_string()).await?;
        self.remove_staged(store.as_ref()).await
    }

    async fn abandon(&self, runtime: &Arc<RuntimeEnv>) -> Result<()> {
        let store = self.files.store(Some(runtime.as_ref()))?;
        self.remove_staged(store.as_ref()).await
    }
}

/// A file in the making.
struct Writer {
    upload: Box<dyn MultipartUpload>,
    /// Compressed or plain bytes that are not uploaded yet.
    bytes: Bytes,
    md5: Md5,
    line: Vec<u8>,
    items: u64,
}

enum Bytes {
    Gzip(GzEncoder<Vec<u8>>),
    Plain(Vec<u8>),
}

impl Writer {
    fn new(upload: Box<dyn MultipartUpload>, is_compressed: bool) -> Self {
        let bytes = match is_compressed {
            true => Bytes::Gzip(GzEncoder::new(Vec::new(), Compression::default())),
            false => Bytes::Plain(Vec::new()),
        };
        Self { upload, bytes, md5: Md5::new(), line: Vec::new(), items: 0 }
    }

    async fn write(&mut self, item: &Item) -> Result<()> {
        self.line.clear();
        json::write_line(item, &mut self.line)
            .map_err(|why| exec_datafusion_err!("an item cannot be exported: {why}"))?;
        self.items += 1;
        let ready = match &mut self.bytes {
            Bytes::Gzip(encoder) => {
                encoder.write_all(&self.line)?;
                encoder.get_mut()
            }
            Bytes::Plain(bytes) => {
                bytes.extend_from_slice(&self.line);
                bytes
            }
        };
        if ready.len() < PART_BYTES {
            return Ok(());
        }
        let part = std::mem::take(ready);
        self.put(part).await
    }

    async fn put(&mut self, part: Vec<u8>) -> Result<()> {
        self.md5.update(&part);
        Ok(self.upload.put_part(PutPayload::from(part)).await?)
    }

    async fn end(mut self, file: String, attempt: Attempt) -> Result<Staged> {
        let last = match std::mem::replace(&mut self.bytes, Bytes::Plain(Vec::new())) {
            Bytes::Gzip(encoder) => encoder.finish()?,
            Bytes::Plain(bytes) => bytes,
        };
        self.put(last).await?;
        self.upload.complete().await?;
        let md5 = STANDARD.encode(self.md5.finalize());
        Ok(Staged { file: Some(file), attempt: attempt.to_string(), items: self.items, md5 })
    }
}

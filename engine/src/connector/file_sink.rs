//! The sink of files: attempts write part files into folders of their own. Nothing is visible until the primary has moved the files of the attempts that
//! count.

use super::file_writer::FileWriter;
use super::written::Watch;
use super::{
    Attempt, Connector, ConnectorTable, Encoded, OptionSpec, Options, PlannedSink, Scan, Sink, SinkExec, TableRequest,
    TableSpec, Written,
};
use crate::place::{OwnFolder, Place};
use async_trait::async_trait;
use datafusion::common::{Result, internal_datafusion_err, internal_err, plan_err};
use datafusion::datasource::sink::DataSinkExec;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use futures::TryStreamExt;
use prost::Message;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const NAME: &str = "FILES";

/// The files that one attempt staged: the token of its write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFiles {
    /// The attempt's folder.
    pub folder: Place,
    pub files: Vec<StagedFile>,
}

/// One part file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFile {
    /// Path below the attempt's folder, and below the target once published.
    pub path: String,
    pub bytes: u64,
}

/// The place to which the files of a write go when its job has ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteTarget {
    /// The target: a folder or a single file.
    pub target: Place,
    /// The staging folder, in which each attempt has a folder of its own. It is removed in any case.
    pub staging: OwnFolder,
}

impl StagedFiles {
    pub fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| internal_datafusion_err!("staged files cannot be encoded: {e}"))
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|e| internal_datafusion_err!("staged files cannot be decoded: {e}"))
    }
}

/// Writes as tables of the engine's own; no statement can name this connector.
#[derive(Debug)]
pub(super) struct FilesConnector;

#[derive(Debug)]
struct FileSink {
    writer: FileWriter,
    target: Place,
    staging: OwnFolder,
}

#[derive(Clone, PartialEq, Message)]
struct FileSinkNode {
    #[prost(message, required, tag = "1")]
    writer: FileWriter,
    /// URL of the folder.
    #[prost(string, tag = "2")]
    staging: String,
}

/// The write that stages files in place of DataFusion's sink, if `plan` is one.
pub fn staged_write(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<SinkExec>> {
    let Some(sink) = plan.downcast_ref::<DataSinkExec>() else { return Ok(None) };
    let writer = FileWriter::of(sink)?;
    let target = writer.target()?;
    let staging = OwnFolder::staging(&target)?;
    let (connector, location) = (NAME.to_string(), target.url());
    let table = TableSpec { connector, id: String::new(), location, options: Options::default() };
    let write = PlannedSink {
        table: Arc::new(table),
        sink: Arc::new(FileSink { writer, target, staging }),
        schema: sink.input().schema(),
        write: String::new(),
    };
    Ok(Some(SinkExec::new(Arc::clone(sink.input()), write)))
}

#[async_trait]
impl Connector for FilesConnector {
    fn name(&self) -> &'static str {
        NAME
    }

    fn options(&self) -> &'static [OptionSpec] {
        &[]
    }

    async fn table(&self, _: TableRequest) -> Result<Arc<dyn ConnectorTable>> {
        plan_err!("FILES is no kind of table: name the format of the files")
    }

    fn decode_scan(&self, _: Encoded<'_>) -> Result<Arc<dyn Scan>> {
        internal_err!("scans of files have an encoding of their own")
    }

    fn decode_sink(&self, encoded: Encoded<'_>) -> Result<Arc<dyn Sink>> {
        let node = FileSinkNode::decode(encoded.bytes);
        let FileSinkNode { writer, staging } =
            node.map_err(|e| internal_datafusion_err!("a writer of files cannot be decoded: {e}"))?;
        let (target, staging) = (writer.target()?, OwnFolder::from_url(&staging)?);
        Ok(Arc::new(FileSink { writer, target, staging }))
    }
}

#[async_trait]
impl Sink for FileSink {
    fn describe(&self) -> String {
        let format = self.writer.clone().config().map(|config| config.file_extension.clone()).unwrap_or_default();
        format!("format={format}, target={}", self.target)
    }

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(FileSinkNode { writer: self.writer.clone(), staging: self.staging.url() }.encode_to_vec())
    }

    fn stores(&self) -> Vec<String> {
        vec![self.target.url()]
    }

    /// The rows of a single file have one writer, and keep their order.
    fn is_parallel(&self) -> bool {
        self.target.is_folder()
    }

    fn files(&self) -> Option<WriteTarget> {
        Some(WriteTarget { target: self.target.clone(), staging: self.staging.clone() })
    }

    async fn write(
        &self,
        attempt: Attempt,
        rows: SendableRecordBatchStream,
        context: &Arc<TaskContext>,
    ) -> Result<Written> {
        let folder = self.staging.place().folder(&attempt.to_string())?;
        let watch = Watch::default();
        let rows = self.writer.clone().at(&folder)?.write_all(rows, context, &watch).await?;
        Ok(Written { rows, token: staged_files(folder, context, &watch).await?.encode()? })
    }

    async fn publish(&self, _: &[Vec<u8>], _: &Arc<RuntimeEnv>) -> Result<()> {
        internal_err!("staged files are moved by the primary's journal")
    }

    async fn abandon(&self, _: &Arc<RuntimeEnv>) -> Result<()> {
        internal_err!("staged files are removed by the primary's journal")
    }
}

/// The files below `folder`.
async fn staged_files(folder: Place, context: &TaskContext, watch: &Watch) -> Result<StagedFiles> {
    let store = context.runtime_env().object_store(folder.store())?;
    let found: Vec<_> = store.list(Some(folder.path())).try_collect().await?;
    let staged = found.iter().map(|meta| match folder.relative(&meta.location) {
        Some(path) => {
            let bytes = watch.bytes(&meta.location).unwrap_or(meta.size);
            Ok(StagedFile { path: path.to_string(), bytes })
        }
        None => internal_err!("{} was listed in {folder}", meta.location),
    });
    let mut files: Vec<StagedFile> = staged.collect::<Result<_>>()?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(StagedFiles { folder, files })
}

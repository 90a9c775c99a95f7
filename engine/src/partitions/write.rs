//! Writes rows into folders named by the values of some of their columns.

use super::value::{folder, texts};
use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, stream};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc::{Sender, channel};
use tokio::task::JoinSet;

/// Batches that wait for the writer of a folder.
const WAITING: usize = 2;

/// The distribution of rows over folders.
pub(crate) struct Folders {
    /// The columns, in the order in which folders are nested.
    pub columns: Vec<String>,
    /// Whether the columns are in the files too.
    pub kept: bool,
}

impl Folders {
    /// The part of `schema` that is in the files.
    pub fn in_files(&self, schema: &Schema) -> SchemaRef {
        let in_files = schema.fields().iter().filter(|field| self.kept || !self.columns.contains(field.name()));
        let fields: Vec<_> = in_files.cloned().collect();
        Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
    }

    /// Writes `rows` and counts them. `write` receives the folder below the target, encoded for a URL, and its rows.
    pub async fn write<W, F>(&self, mut rows: SendableRecordBatchStream, write: W) -> Result<u64>
    where
        W: Fn(String, SendableRecordBatchStream) -> F,
        F: Future<Output = Result<u64>> + Send + 'static,
    {
        let schema = self.in_files(&rows.schema());
        let mut open: HashMap<Vec<Option<String>>, Sender<RecordBatch>> = HashMap::new();
        let mut writers = JoinSet::new();
        'reading: while let Some(batch) = rows.next().await {
            for (values, part) in self.parts(&batch?)? {
                let folder = match open.get(&values) {
                    Some(folder) => folder,
                    None => {
                        let (send, receive) = channel(WAITING);
                        let batches = stream::unfold(receive, async |mut receive| {
                            let batch = receive.recv().await?;
                            Some((Ok(batch), receive))
                        });
                        let batches = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), batches));
                        writers.spawn(write(self.path(&values), batches));
                        open.entry(values).or_insert(send)
                    }
                };
                // A writer that ended before its rows did has failed; it reports why below.
                if folder.send(part).await.is_err() {
                    break 'reading;
                }
            }
        }
        drop(open);
        let mut written = 0;
        while let Some(ended) = writers.join_next().await {
            written += ended.map_err(|error| exec_datafusion_err!("writing a folder ended early: {error}"))??;
        }
        Ok(written)
    }

    /// The rows of `batch`, grouped by their values, with the columns of the files.
    fn parts(&self, batch: &RecordBatch) -> Result<Vec<(Vec<Option<String>>, RecordBatch)>> {
        let column = |name: &String| {
            let values = batch.column_by_name(name);
            texts(name, values.ok_or_else(|| exec_datafusion_err!("there is no column '{name}' to name folders by"))?)
        };
        let columns = self.columns.iter().map(column).collect::<Result<Vec<_>>>()?;
        let mut rows: HashMap<Vec<Option<&str>>, Vec<u32>> = HashMap::new();
        for row in 0..batch.num_rows() {
            let values = columns.iter().map(|texts| texts.is_valid(row).then(|| texts.value(row))).collect();
            rows.entry(values).or_default().push(row as u32);
        }
        let schema = self.in_files(&batch.schema());
        let in_files = schema.fields().iter().map(|field| batch.schema().index_of(field.name()));
        let in_files = batch.project(&in_files.collect::<Result<Vec<_>, _>>()?)?;
        let part = |(values, rows): (Vec<Option<&str>>, Vec<u32>)| {
            let values = values.into_iter().map(|value| value.map(str::to_string)).collect();
            Ok((values, take_record_batch(&in_files, &UInt32Array::from(rows))?))
        };
        rows.into_iter().map(part).collect()
    }

    fn path(&self, values: &[Option<String>]) -> String {
        let folders = self.columns.iter().zip(values).map(|(column, value)| folder(column, value.as_deref()));
        folders.map(|folder| format!("{}/", in_url(folder.as_ref()))).collect()
    }
}

/// A part of a path, encoded for a URL.
fn in_url(part: &str) -> String {
    let encoded = part.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'=' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    });
    encoded.collect()
}

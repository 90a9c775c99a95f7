//! Loads: rows of this process that become rows of a table, as bulk ingest of Flight SQL.

use super::flight::{self, Encoder, SqlMessage};
use super::link::Link;
use crate::backend::{IfThere, Rows, Target};
use crate::error::{ClientError, Result};
use arrow::array::RecordBatch;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use prost::Message;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::oneshot;
use tonic::Status;
use windlass_proto::flight::{
    CommandStatementIngest, DoPutUpdateResult, FlightData, TableDefinitionOptions, TableExistsOption,
    TableNotExistOption,
};

const LOADING: &str = "loading rows";
/// Most bytes of rows in a message. A batch with more is sent in slices.
const MESSAGE: usize = 4 << 20;

/// Sends the rows, and returns how many were written.
pub(super) async fn load(link: Arc<Link>, target: Target, rows: Rows) -> Result<u64> {
    let (failed, failure) = oneshot::channel();
    let messages = Messages(messages(target, rows, failed));
    tokio::select! {
        biased;
        // The call ends here without the end of its messages, so the cluster takes nothing of them.
        Ok(error) = failure => Err(error),
        loaded = send(&link, messages) => loaded,
    }
}

/// The messages of a load, as a type with a name: the compiler cannot prove that futures over the boxed stream itself can be sent.
struct Messages(BoxStream<'static, FlightData>);

impl Stream for Messages {
    type Item = FlightData;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<FlightData>> {
        self.0.poll_next_unpin(context)
    }
}

async fn send(link: &Link, messages: Messages) -> Result<u64> {
    let failed = |status: Status| ClientError::from_status(&status, &link.url, LOADING);
    let answer = link.flight().do_put(link.identity.request(messages, None)).await.map_err(failed)?;
    link.identity.learn(&answer);
    let (mut results, mut count) = (answer.into_inner(), None);
    while let Some(result) = results.message().await.map_err(failed)? {
        if let Ok(written) = DoPutUpdateResult::decode(result.app_metadata) {
            count = u64::try_from(written.record_count).ok();
        }
    }
    count.ok_or_else(|| ClientError::garbled("the cluster loaded the rows and did not say how many"))
}

/// Returns the messages of a load. They end only when all rows were sent: an error goes to `failed`.
fn messages(target: Target, rows: Rows, failed: oneshot::Sender<ClientError>) -> BoxStream<'static, FlightData> {
    let Rows { schema, batches } = rows;
    let mut encoder = Encoder::default();
    let first = encoder.schema(&schema, flight::descriptor(&command(target).packed()));
    let encoded = batches.flat_map(move |batch| stream::iter(encoded(&mut encoder, batch)));
    let mut failed = Some(failed);
    let sent = encoded.then(move |message| {
        let failed = message.as_ref().is_err().then(|| failed.take()).flatten();
        async move {
            match message {
                Ok(message) => message,
                Err(error) => {
                    if let Some(failed) = failed {
                        // The load may have ended already.
                        let _ = failed.send(error);
                    }
                    std::future::pending().await
                }
            }
        }
    });
    stream::once(async move { first }).chain(sent).boxed()
}

fn encoded(encoder: &mut Encoder, batch: Result<RecordBatch>) -> Vec<Result<FlightData>> {
    let slices = match batch {
        Ok(batch) => slices(batch),
        Err(error) => return vec![Err(error)],
    };
    let mut messages = Vec::new();
    for slice in slices {
        match encoder.rows(&slice) {
            Ok(encoded) => messages.extend(encoded.into_iter().map(Ok)),
            Err(error) => return vec![Err(error.into())],
        }
    }
    messages
}

fn slices(batch: RecordBatch) -> Vec<RecordBatch> {
    let parts = batch.get_array_memory_size().div_ceil(MESSAGE).clamp(1, batch.num_rows().max(1));
    let rows = batch.num_rows().div_ceil(parts).max(1);
    (0..batch.num_rows()).step_by(rows).map(|at| batch.slice(at, rows.min(batch.num_rows() - at))).collect()
}

fn command(target: Target) -> CommandStatementIngest {
    use {TableExistsOption as Exists, TableNotExistOption as Missing};
    let (exists, missing) = match target.if_there {
        IfThere::Fail => (Exists::Fail, Missing::Create),
        IfThere::Append => (Exists::Append, Missing::Create),
        IfThere::AppendOnly => (Exists::Append, Missing::Fail),
        IfThere::Replace => (Exists::Replace, Missing::Create),
    };
    let options = TableDefinitionOptions { if_not_exist: missing.into(), if_exists: exists.into() };
    CommandStatementIngest {
        table_definition_options: Some(options),
        table: target.table,
        schema: target.schema,
        catalog: target.catalog,
        temporary: target.temporary,
    }
}

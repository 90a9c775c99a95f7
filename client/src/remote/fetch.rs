//! Reading a result: endpoint after endpoint, in order; the next one is requested while the present one streams.
//!
//! Rows of a small result come with the answer: an endpoint without a ticket contains them. Any other endpoint names the location of its rows. An executor that
//! cannot be reached from here (another network, a firewall) does no harm: the primary answers the same ticket. Once rows of an endpoint have been handed out,
//! a broken connection ends the result with an error.

use super::connection::{self, EXECUTOR_CONNECT_TIMEOUT, Identity};
use super::flight::Decoder;
use super::wire::Wire;
use crate::error::{ClientError, Result};
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamDecoder;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use futures::future::ready;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::task::JoinSet;
use windlass_proto::flight::flight_service_client::FlightServiceClient;
use windlass_proto::flight::{Action, CancelFlightInfoRequest, FlightEndpoint, FlightInfo, Ticket};

/// Flight's name for the connection that the answer came over.
const REUSE_CONNECTION: &str = "arrow-flight-reuse-connection://";

/// Connections to the holders of results.
#[derive(Debug)]
pub(super) struct Fetcher {
    primary: Wire,
    primary_url: String,
    identity: Arc<Identity>,
    executors: Mutex<BTreeMap<String, Wire>>,
    /// Executors that are not tried again in this session: each try costs the connection timeout.
    out_of_reach: Mutex<BTreeSet<String>>,
    /// Messages that tell the primary that results are not read any more.
    farewells: Mutex<JoinSet<()>>,
}

type Batches = BoxStream<'static, Result<RecordBatch>>;

impl Fetcher {
    pub(super) fn new(primary: Wire, primary_url: String, identity: Arc<Identity>) -> Fetcher {
        Fetcher {
            primary,
            primary_url,
            identity,
            executors: Mutex::default(),
            out_of_reach: Mutex::default(),
            farewells: Mutex::default(),
        }
    }

    /// Reads the rows of all endpoints, in order.
    pub(super) fn read(self: &Arc<Self>, endpoints: Vec<FlightEndpoint>, schema: SchemaRef) -> Batches {
        if endpoints.iter().all(|endpoint| endpoint.ticket.is_none()) {
            let batches = endpoints.into_iter().flat_map(|endpoint| rows_along(endpoint.app_metadata));
            return stream::iter(batches.filter_map(move |batch| with_rows(batch, &schema))).boxed();
        }
        let reading = Reading {
            fetcher: Arc::clone(self),
            kept: endpoints.clone(),
            waiting: endpoints.into_iter(),
            next: JoinSet::new(),
            current: None,
            schema,
        };
        stream::unfold(reading, |mut reading| async move {
            let item = reading.next_batch().await?;
            if item.is_err() {
                // Nothing follows an error.
                reading.waiting = Vec::new().into_iter();
                reading.next.abort_all();
                reading.next = JoinSet::new();
                reading.current = None;
            }
            Some((item, reading))
        })
        .boxed()
    }

    /// Requests the rows of one endpoint, and waits until the first message arrives or the endpoint refuses.
    async fn open(self: Arc<Self>, endpoint: FlightEndpoint) -> Result<Batches> {
        let Some(ticket) = endpoint.ticket else {
            return Ok(stream::iter(rows_along(endpoint.app_metadata)).boxed());
        };
        let mut complaint = None;
        for location in &endpoint.location {
            let url = location.uri.as_str();
            if url.is_empty() || url.starts_with(REUSE_CONNECTION) {
                return self.get(self.primary.clone(), &self.primary_url, ticket).await;
            }
            if self.out_of_reach.lock().contains(url) {
                continue;
            }
            let answer = match self.executor(url).await {
                Ok(wire) => self.get(wire, url, ticket.clone()).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(batches) => return Ok(batches),
                Err(error @ (ClientError::Unreachable { .. } | ClientError::Disconnected { .. })) => {
                    tracing::debug!(executor = url, %error, "reading the result through the primary instead");
                    self.executors.lock().remove(url);
                    self.out_of_reach.lock().insert(url.to_owned());
                    complaint = Some(error);
                }
                // The output may have moved to another executor, which the primary knows.
                Err(error @ ClientError::ResultLost { .. }) => complaint = Some(error),
                Err(error) => return Err(error),
            }
        }
        let through_primary = self.get(self.primary.clone(), &self.primary_url, ticket).await;
        match (through_primary, complaint) {
            (Err(error @ ClientError::ResultLost { .. }), _) => Err(error),
            // The executor's failure is the main error; that the primary cannot stand in is a detail.
            (Err(error), Some(complaint)) => {
                let message = format!("{complaint}; and through the primary: {error}");
                Err(ClientError::Statement { kind: error.kind(), message })
            }
            (answer, _) => answer,
        }
    }

    /// Tells the primary that these are not read any more. If that fails, the primary finds out later by itself.
    fn release(&self, endpoints: Vec<FlightEndpoint>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let info = Some(FlightInfo { endpoint: endpoints, ..FlightInfo::default() });
        let body = CancelFlightInfoRequest { info }.encode_to_vec();
        let request = self.identity.request(Action { r#type: "CancelFlightInfo".to_owned(), body: body.into() }, None);
        let mut client = FlightServiceClient::new(self.primary.clone());
        let farewell = async move {
            if let Err(error) = client.do_action(request).await {
                tracing::debug!(%error, "the result is kept until its time is over");
            }
        };
        let mut farewells = self.farewells.lock();
        while farewells.try_join_next().is_some() {}
        farewells.spawn_on(farewell, &runtime);
    }

    async fn executor(&self, url: &str) -> Result<Wire> {
        if let Some(wire) = self.executors.lock().get(url) {
            return Ok(wire.clone());
        }
        let wire = connection::connect(url, EXECUTOR_CONNECT_TIMEOUT).await?;
        self.executors.lock().insert(url.to_owned(), wire.clone());
        Ok(wire)
    }

    async fn get(&self, wire: Wire, url: &str, ticket: Ticket) -> Result<Batches> {
        let mut client = FlightServiceClient::new(wire).max_decoding_message_size(usize::MAX);
        let doing = "reading the result";
        let response = client
            .do_get(self.identity.request(ticket, None))
            .await
            .map_err(|status| ClientError::from_status(&status, url, doing))?;
        self.identity.learn(&response);
        let mut messages = response.into_inner();
        // A stream that breaks before its first message may still be read from elsewhere.
        let first = messages.message().await.map_err(|status| ClientError::from_status(&status, url, doing))?;
        let messages = stream::iter(first.map(Ok)).chain(messages);
        let (url, from_executor) = (url.to_owned(), url != self.primary_url);
        let mut decoder = Decoder::default();
        let batches = messages.map(move |message| match message {
            Ok(message) => Ok(decoder.decode(message)?),
            Err(status) => Err(lost_midway(ClientError::from_status(&status, &url, doing), &url, from_executor)),
        });
        Ok(batches.try_filter_map(|batch| ready(Ok(batch))).boxed())
    }
}

/// A result that is being read.
struct Reading {
    fetcher: Arc<Fetcher>,
    /// Endpoints that the primary keeps until it hears that all of them were read, which executors do not report.
    kept: Vec<FlightEndpoint>,
    waiting: std::vec::IntoIter<FlightEndpoint>,
    /// Request for the next endpoint, at most one ahead.
    next: JoinSet<Result<Batches>>,
    current: Option<Batches>,
    schema: SchemaRef,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.fetcher.release(std::mem::take(&mut self.kept));
    }
}

impl Reading {
    async fn next_batch(&mut self) -> Option<Result<RecordBatch>> {
        loop {
            if let Some(current) = &mut self.current {
                match current.next().await {
                    Some(batch) => match with_rows(batch, &self.schema) {
                        None => continue,
                        batch => return batch,
                    },
                    None => self.current = None,
                }
            }
            self.prefetch();
            match self.next.join_next().await? {
                Ok(Ok(batches)) => self.current = Some(batches),
                Ok(Err(error)) => return Some(Err(error)),
                Err(panicked) => {
                    return Some(Err(ClientError::garbled(format!("cannot read the result: {panicked}"))));
                }
            }
            self.prefetch();
        }
    }

    fn prefetch(&mut self) {
        if self.next.is_empty()
            && let Some(endpoint) = self.waiting.next()
        {
            self.next.spawn(Arc::clone(&self.fetcher).open(endpoint));
        }
    }
}

/// Reads the rows inside an endpoint, an Arrow IPC stream.
fn rows_along(rows: Bytes) -> impl Iterator<Item = Result<RecordBatch>> {
    let mut rest = Buffer::from(rows);
    let mut decoder = StreamDecoder::new();
    std::iter::from_fn(move || match decoder.decode(&mut rest) {
        Ok(batch) => batch.map(Ok),
        Err(error) => {
            rest = Buffer::default();
            Some(Err(ClientError::Decode(error)))
        }
    })
}

/// Prepares a batch for the reader. `None`: it is empty.
fn with_rows(batch: Result<RecordBatch>, schema: &SchemaRef) -> Option<Result<RecordBatch>> {
    match batch {
        Ok(batch) if batch.num_rows() == 0 => None,
        Ok(batch) => Some(adopt(batch, schema)),
        error => Some(error),
    }
}

/// Gives a batch the schema that the answer announced, so that readers see one schema throughout.
fn adopt(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let same = batch.num_columns() == schema.fields().len()
        && batch.columns().iter().zip(schema.fields()).all(|(column, field)| column.data_type() == field.data_type());
    if !same || batch.schema_ref() == schema {
        return Ok(batch);
    }
    // Fails only if a column that was announced without NULLs has some: then the batch keeps its own schema.
    Ok(batch.clone().with_schema(Arc::clone(schema)).unwrap_or(batch))
}

/// Builds the error of a stream that broke: rows that were handed out cannot be taken back, so an executor's stream cannot be continued elsewhere.
fn lost_midway(error: ClientError, url: &str, from_executor: bool) -> ClientError {
    match error {
        ClientError::Disconnected { reason, .. } if from_executor => ClientError::ResultLost {
            message: format!(
                "the result is lost: the connection to the executor at {url} broke while its rows were read ({reason}); run the statement \
                 again"
            ),
        },
        error => error,
    }
}

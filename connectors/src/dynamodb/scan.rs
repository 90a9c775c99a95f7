//! Reading: pages of segments or queries, one after the other, at the rate that the table's capacity allows.
//!
//! A page is asked for while the one before is decoded. All of it ends when the stream is dropped.

use super::decode::Decoder;
use super::pace::Pace;
use super::plan::{Ask, Of, Piece};
use super::settings::{Clients, Dynamo, Settings};
use super::value::{Item, shown_key};
use crate::aws::{Patience, Trouble};
use aws_sdk_dynamodb::types::{AttributeValue, ConsumedCapacity, ReturnConsumedCapacity, Select};
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::{DataFusionError, Result, Statistics, exec_datafusion_err, internal_datafusion_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::metrics::{Count, MetricBuilder};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use prost::Message;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use windlass_engine::connector::{Encoded, Scan, Split, TableSpec, TaskOfScan};

/// Items of the first page where there is a rate: nobody knows yet what they cost.
const FIRST_PAGE: u32 = 100;

/// One statement's scan of a table.
#[derive(Debug)]
pub(super) struct DynamoScan {
    pub table: Arc<TableSpec>,
    pub schema: SchemaRef,
    pub ask: Ask,
    pub clients: Clients,
    /// On the primary.
    pub planned: Option<Planned>,
}

/// The part of a scan that only the primary knows.
#[derive(Debug)]
pub(super) struct Planned {
    pub splits: Vec<Split>,
    /// About.
    pub rows: Option<u64>,
}

impl DynamoScan {
    pub fn decode(encoded: Encoded<'_>, clients: Clients) -> Result<Self> {
        let ask = Ask::decode(encoded.bytes);
        let ask = ask.map_err(|error| internal_datafusion_err!("a scan cannot be decoded: {error}"))?;
        let (table, schema) = (Arc::clone(encoded.table), Arc::clone(encoded.schema));
        Ok(Self { table, schema, ask, clients, planned: None })
    }
}

impl Scan for DynamoScan {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn splits(&self) -> Vec<Split> {
        self.planned.as_ref().map(|planned| planned.splits.clone()).unwrap_or_default()
    }

    fn statistics(&self) -> Option<Statistics> {
        let rows = usize::try_from(self.planned.as_ref()?.rows?).ok()?;
        Some(Statistics::new_unknown(&self.schema).with_num_rows(Precision::Inexact(rows)))
    }

    fn describe(&self) -> String {
        self.ask.shown.clone()
    }

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(self.ask.encode_to_vec())
    }

    fn open(&self, split: &Split, task: &TaskOfScan) -> Result<SendableRecordBatchStream> {
        let piece = Piece::decode(split.payload.clone());
        let piece = piece.map_err(|error| internal_datafusion_err!("a split cannot be decoded: {error}"))?;
        let settings = Arc::new(Settings::of(&self.table)?);
        let batches = Batches {
            decoder: Decoder { schema: self.schema(), misfits_are_null: settings.misfits_are_null },
            keys: self.ask.keys.clone(),
            server: settings.server(),
            most: task.context.session_config().batch_size().max(1),
        };
        let requests = MetricBuilder::new(&task.metrics).counter("requests", task.partition);
        let (ask, clients) = (self.ask.clone(), self.clients.clone());
        let opened = async move {
            let dynamo = clients.of(&settings).await?;
            Ok::<_, DataFusionError>(Reader::new(dynamo, ask, piece, requests).pages())
        };
        let rows = stream::once(opened).try_flatten().flat_map(move |page| {
            stream::iter(match page {
                Ok(page) => batches.of(&page),
                Err(error) => vec![Err(error)],
            })
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

/// Makes batches of pages.
struct Batches {
    decoder: Decoder,
    /// Key attributes, which errors name.
    keys: Vec<String>,
    /// Where the items are from.
    server: String,
    /// Rows of a batch, at most.
    most: usize,
}

impl Batches {
    fn of(&self, page: &Page) -> Vec<Result<RecordBatch>> {
        let counted = |rows: usize| {
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            Ok(RecordBatch::try_new_with_options(Arc::clone(&self.decoder.schema), vec![], &options)?)
        };
        let of_counts = (0..page.count).step_by(self.most).map(|start| counted(self.most.min(page.count - start)));
        of_counts.chain(page.items.chunks(self.most).map(|items| self.of_items(items))).collect()
    }

    fn of_items(&self, items: &[Item]) -> Result<RecordBatch> {
        self.decoder.batch(items).map_err(|misfit| {
            let or = if misfit.may_be_null { ", or set mismatch 'null'" } else { "" };
            exec_datafusion_err!("{}, item {}: {misfit}{or}", self.server, shown_key(&self.keys, &items[misfit.row]))
        })
    }
}

/// What one request brought.
pub(super) struct Page {
    pub items: Vec<Item>,
    /// Rows, where only these are asked for.
    count: usize,
    next: Option<HashMap<String, AttributeValue>>,
    /// Items that DynamoDB looked at.
    looked_at: u32,
    /// Capacity units.
    units: f64,
}

/// A split that is being read.
pub(super) struct Reader {
    dynamo: Dynamo,
    ask: Ask,
    piece: Piece,
    patience: Patience,
    pace: Pace,
    /// Metric of the requests.
    requests: Count,
    /// The key after which the next page begins.
    from: Option<Item>,
    /// Rows that are still wanted.
    left: Option<u64>,
    /// Items of the next page, at most, where there is a rate.
    page: u32,
    is_over: bool,
}

impl Reader {
    pub fn new(dynamo: Dynamo, ask: Ask, piece: Piece, requests: Count) -> Self {
        let (patience, pace, left) = (dynamo.patience(), Pace::new(ask.units), ask.limit);
        Self { dynamo, ask, piece, patience, pace, requests, from: None, left, page: FIRST_PAGE, is_over: false }
    }

    /// A task of its own asks for the next page while one waits to be taken.
    fn pages(mut self) -> impl Stream<Item = Result<Page>> {
        let (sender, receiver) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Some(page) = self.next().await.transpose() {
                let is_last = page.is_err();
                if sender.send(page).await.is_err() || is_last {
                    return;
                }
            }
        });
        // The task is ended with the stream.
        stream::unfold((receiver, tasks), |(mut receiver, tasks)| async move {
            let page = receiver.recv().await?;
            Some((page, (receiver, tasks)))
        })
    }

    /// The next page that has rows. `None`: there is none.
    pub async fn next(&mut self) -> Result<Option<Page>> {
        while !self.is_over && self.left != Some(0) {
            self.pace.ready().await;
            self.requests.add(1);
            let mut page = match self.ask().await {
                Ok(page) => page,
                Err(trouble) => {
                    if matches!(trouble, Trouble::Throttled(_)) {
                        self.pace.throttled();
                        self.page = (self.page / 2).max(1);
                    }
                    if matches!(trouble, Trouble::Refused { .. }) || !self.patience.pause().await {
                        return Err(self.dynamo.error(trouble).into());
                    }
                    continue;
                }
            };
            self.patience.reset();
            self.pace.spent(page.units);
            self.resize(&page);
            self.from = page.next.take();
            self.is_over = self.from.is_none();
            let here = &self.ask.here;
            page.items.retain(|item| here.iter().all(|condition| condition.holds(item)));
            if let Some(left) = &mut self.left {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                page.items.truncate(most);
                page.count = page.count.min(most);
                *left -= page.items.len().max(page.count) as u64;
            }
            if !page.items.is_empty() || page.count > 0 {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    /// The next page is to cost about a second of the rate.
    fn resize(&mut self, page: &Page) {
        if self.pace.is_bounded() && page.units > 0.0 && page.looked_at > 0 {
            let items = self.pace.rate() * f64::from(page.looked_at) / page.units;
            // By steps: what comes next may be of another size.
            self.page = (items.min(1e6) as u32).clamp(1, self.page.saturating_mul(4));
        }
    }

    /// Items that a request looks at, at most. `None`: as many as fit a page of DynamoDB's, 1 MB.
    fn limit(&self) -> Option<i32> {
        // DynamoDB's limit is of items before filters.
        let is_filtered = !self.ask.filter.text.is_empty() || !self.ask.here.is_empty();
        let of_rate = self.pace.is_bounded().then_some(self.page);
        let of_statement = self.left.filter(|_| !is_filtered).map(|left| u32::try_from(left).unwrap_or(u32::MAX));
        let least = of_rate.into_iter().chain(of_statement).min()?;
        Some(i32::try_from(least.max(1)).unwrap_or(i32::MAX))
    }

    async fn ask(&self) -> Result<Page, Trouble> {
        let (ask, client, table) = (&self.ask, &self.dynamo.client, self.dynamo.table());
        let text = |text: &str| Some(text.to_string()).filter(|text| !text.is_empty());
        let (filter, projection) = (text(&ask.filter.text), text(&ask.projection));
        let select = match (ask.counts, &projection) {
            (true, _) => Some(Select::Count),
            (false, Some(_)) => Some(Select::SpecificAttributes),
            (false, None) => None,
        };
        let names = ask.filter.names.iter().enumerate().map(|(at, name)| (format!("#{at}"), name.clone()));
        let mut names: HashMap<String, String> = names.collect();
        let values = ask.filter.values.iter().enumerate().map(|(at, value)| (format!(":{at}"), value.attribute()));
        let mut values: HashMap<String, AttributeValue> = values.collect();
        let page =
            |items: Option<Vec<Item>>, rows: i32, looked_at: i32, next, consumed: Option<ConsumedCapacity>| Page {
                items: items.unwrap_or_default(),
                count: if ask.counts { usize::try_from(rows).unwrap_or(0) } else { 0 },
                next,
                looked_at: u32::try_from(looked_at).unwrap_or(0),
                units: consumed.and_then(|of| of.capacity_units).unwrap_or(0.0),
            };
        match &self.piece.of {
            Some(Of::Query(key)) => {
                // Their placeholders have a letter before the number.
                names.extend(key.names.iter().enumerate().map(|(at, name)| (format!("#k{at}"), name.clone())));
                values.extend(key.values.iter().enumerate().map(|(at, value)| (format!(":k{at}"), value.attribute())));
                let condition = key.text.replace('#', "#k").replace(':', ":k");
                let asked = client
                    .query()
                    .table_name(table)
                    .set_index_name(ask.index.clone())
                    .key_condition_expression(condition)
                    .set_filter_expression(filter)
                    .set_projection_expression(projection)
                    .set_expression_attribute_names(Some(names))
                    .set_expression_attribute_values(Some(values))
                    .set_select(select)
                    .consistent_read(ask.consistent)
                    .set_limit(self.limit())
                    .set_exclusive_start_key(self.from.clone())
                    .return_consumed_capacity(ReturnConsumedCapacity::Total);
                let got = asked.send().await.map_err(|error| Trouble::of(&error))?;
                Ok(page(got.items, got.count, got.scanned_count, got.last_evaluated_key, got.consumed_capacity))
            }
            Some(Of::Segment(segment)) => {
                let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
                let asked = client
                    .scan()
                    .table_name(table)
                    .segment(number(segment.number))
                    .total_segments(number(segment.of))
                    .set_filter_expression(filter)
                    .set_projection_expression(projection)
                    .set_expression_attribute_names(Some(names).filter(|names| !names.is_empty()))
                    .set_expression_attribute_values(Some(values).filter(|values| !values.is_empty()))
                    .set_select(select)
                    .consistent_read(ask.consistent)
                    .set_limit(self.limit())
                    .set_exclusive_start_key(self.from.clone())
                    .return_consumed_capacity(ReturnConsumedCapacity::Total);
                let got = asked.send().await.map_err(|error| Trouble::of(&error))?;
                Ok(page(got.items, got.count, got.scanned_count, got.last_evaluated_key, got.consumed_capacity))
            }
            None => Err(Trouble::Refused { code: String::new(), message: "a split of nothing".to_string() }),
        }
    }
}

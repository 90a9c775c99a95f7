//! Writing: each task puts its rows by key while it runs, because DynamoDB has no transaction over many items.
//!
//! ```text
//!   begin      CreateTable, where the statement creates it
//!   attempt    up to 100 rows and 4 MB: one TransactWriteItems at the end; more: BatchWriteItem of 25 rows, side by side
//!   publish    nothing: the rows are there
//!   abandon    DeleteTable, where this write has created it; rows of a table that was there before stay
//! ```
//!
//! A row is put once for each key, however often its task is tried: an attempt puts what another one has put before. With `write_mode 'insert'` a key that is
//! taken by the very same item counts as written, for another attempt may have put it.

use super::described::{Described, Key, KeyKind, Keys};
use super::encode::Rows;
use super::error::{DynamoError, Result as Answer};
use super::number::Number;
use super::pace::Pace;
use super::settings::{Clients, Dynamo, Settings};
use super::value::{Item, item_bytes, same_items, shown_key};
use crate::aws::{Patience, Trouble};
use async_trait::async_trait;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, CancellationReason, ConsumedCapacity, KeySchemaElement, KeyType,
    Put, PutRequest, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure, ScalarAttributeType, Tag,
    TransactWriteItem, WriteRequest,
};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{Result, exec_datafusion_err, internal_datafusion_err, plan_datafusion_err, plan_err};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use futures::TryStreamExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use prost::Message;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use windlass_engine::connector::{Attempt, Encoded, Sink, SinkRequest, TableSpec, Target, Written};

/// Limits of DynamoDB.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html>
const ITEM_BYTES: usize = 400 << 10;
const BATCH_ITEMS: usize = 25;
const TRANSACTION_ITEMS: usize = 100;
const TRANSACTION_BYTES: usize = 4 << 20;
const PARTITION_KEY_BYTES: usize = 2048;
const SORT_KEY_BYTES: usize = 1024;
/// Requests of one task that are under way, at most: batches, or single rows.
const BATCHES: usize = 4;
const SINGLES: usize = 32;
/// The tag of a table that a statement has created: the id of its write.
const TAG: &str = "windlass:write";
/// How often a table that is being created is asked for.
const CREATION_PAUSE: Duration = Duration::from_millis(200);
/// How long a table may take until it can be used.
const CREATION_PATIENCE: Duration = Duration::from_secs(300);

/// A sink as every node knows it.
#[derive(Clone, PartialEq, Message)]
struct Plan {
    /// Given to no other write.
    #[prost(string, tag = "1")]
    write: String,
    #[prost(message, required, tag = "2")]
    partition: PlannedKey,
    #[prost(message, optional, tag = "3")]
    sort: Option<PlannedKey>,
    #[prost(string, repeated, tag = "4")]
    columns: Vec<String>,
    /// Capacity units a second of all tasks together; 0: any number.
    #[prost(double, tag = "5")]
    units: f64,
    /// The table is missing.
    #[prost(bool, tag = "6")]
    creates: bool,
    /// It must be missing.
    #[prost(bool, tag = "7")]
    is_new: bool,
}

#[derive(Clone, PartialEq, Message)]
struct PlannedKey {
    #[prost(string, tag = "1")]
    name: String,
    /// As DynamoDB names it.
    #[prost(string, tag = "2")]
    kind: String,
}

impl PlannedKey {
    fn of(key: &Key) -> Self {
        Self { name: key.name.clone(), kind: key.kind.name().to_string() }
    }

    fn key(&self) -> Key {
        Key { name: self.name.clone(), kind: KeyKind::parse(&self.kind).unwrap_or(KeyKind::Text) }
    }
}

impl Plan {
    fn keys(&self) -> Keys {
        Keys { partition: self.partition.key(), sort: self.sort.as_ref().map(PlannedKey::key) }
    }
}

/// One write.
#[derive(Debug)]
pub(super) struct DynamoSink {
    settings: Arc<Settings>,
    plan: Plan,
    clients: Clients,
}

impl DynamoSink {
    /// `described`: the table, unless the statement is to create it.
    ///
    /// # Errors
    /// The rows do not have the table's keys.
    pub fn new(
        table: Arc<TableSpec>,
        request: SinkRequest,
        described: Option<Described>,
        target: Target,
        clients: Clients,
    ) -> Result<Self> {
        let settings = Arc::new(Settings::of(&table)?);
        let keys = match &described {
            Some(described) => described.keys.clone(),
            None => chosen_keys(&table, &request.schema)?,
        };
        for key in keys.all() {
            let kind = request.schema.field_with_name(&key.name).ok().and_then(|field| key_kind(field.data_type()));
            match kind {
                Some(kind) if kind == key.kind => {}
                Some(kind) => {
                    return plan_err!(
                        "the column {} is written as {}, and the key of {} is {}: declare the column of another type",
                        key.name,
                        kind.name(),
                        settings.server(),
                        key.kind.name()
                    );
                }
                None => {
                    return plan_err!(
                        "{} has the key {}: a column of that name is wanted, VARCHAR, a number or BINARY",
                        settings.server(),
                        key.name
                    );
                }
            }
        }
        let units = described.as_ref().map_or(0.0, |table| settings.write_share.of(table.write_units, 1));
        let plan = Plan {
            write: request.write,
            partition: PlannedKey::of(&keys.partition),
            sort: keys.sort.as_ref().map(PlannedKey::of),
            columns: request.schema.fields().iter().map(|field| field.name().clone()).collect(),
            units,
            creates: described.is_none(),
            is_new: target == Target::New,
        };
        Ok(Self { settings, plan, clients })
    }

    pub fn decode(encoded: Encoded<'_>, clients: Clients) -> Result<Self> {
        let plan = Plan::decode(encoded.bytes);
        let plan = plan.map_err(|error| internal_datafusion_err!("a write cannot be decoded: {error}"))?;
        Ok(Self { settings: Arc::new(Settings::of(encoded.table)?), plan, clients })
    }

    async fn dynamo(&self) -> Answer<Dynamo> {
        self.clients.of(&self.settings).await
    }

    async fn create(&self, dynamo: &Dynamo) -> Answer<()> {
        let keys = self.plan.keys();
        let definition = |key: &Key| {
            let kind = match key.kind {
                KeyKind::Text => ScalarAttributeType::S,
                KeyKind::Number => ScalarAttributeType::N,
                KeyKind::Bytes => ScalarAttributeType::B,
            };
            AttributeDefinition::builder().attribute_name(&key.name).attribute_type(kind).build()
        };
        let element =
            |(key, kind): (&Key, KeyType)| KeySchemaElement::builder().attribute_name(&key.name).key_type(kind).build();
        let unbuilt = |error| DynamoError::Value(format!("the table cannot be described: {error}"));
        let definitions = keys.all().map(definition).collect::<std::result::Result<Vec<_>, _>>().map_err(unbuilt)?;
        let kinds = [KeyType::Hash, KeyType::Range];
        let schema = keys.all().zip(kinds).map(element).collect::<std::result::Result<Vec<_>, _>>().map_err(unbuilt)?;
        let tag = Tag::builder().key(TAG).value(&self.plan.write).build().map_err(unbuilt)?;
        let send = || async {
            let asked = dynamo
                .client
                .create_table()
                .table_name(dynamo.table())
                .set_attribute_definitions(Some(definitions.clone()))
                .set_key_schema(Some(schema.clone()))
                .billing_mode(BillingMode::PayPerRequest)
                .tags(tag.clone());
            asked.send().await.map(|_| ()).map_err(|error| Trouble::of(&error))
        };
        match dynamo.until_answered(send).await {
            // Somebody else has created it since.
            Err(error) if error.code() == Some("ResourceInUseException") && !self.plan.is_new => {}
            created => created?,
        }
        let since = std::time::Instant::now();
        loop {
            match Described::find(dynamo).await {
                Ok(table) if table.is_active => return Ok(()),
                Ok(_) => {}
                // It is not yet known everywhere.
                Err(error) if error.code() == Some("ResourceNotFoundException") => {}
                Err(error) => return Err(error),
            }
            if since.elapsed() > CREATION_PATIENCE {
                let seconds = CREATION_PATIENCE.as_secs();
                let server = dynamo.settings.server();
                return Err(DynamoError::Value(format!(
                    "{server} was created, and cannot be used after {seconds} seconds"
                )));
            }
            tokio::time::sleep(CREATION_PAUSE).await;
        }
    }

    /// Whether the table has the tag of this write.
    async fn has_created(&self, dynamo: &Dynamo) -> Answer<bool> {
        let described = || async {
            let asked = dynamo.client.describe_table().table_name(dynamo.table()).send().await;
            asked.map_err(|error| Trouble::of(&error))
        };
        let arn = match dynamo.until_answered(described).await {
            Err(error) if error.code() == Some("ResourceNotFoundException") => return Ok(false),
            answer => answer?.table.and_then(|table| table.table_arn),
        };
        let Some(arn) = arn else { return Ok(false) };
        let tags = || async {
            let asked = dynamo.client.list_tags_of_resource().resource_arn(&arn).send().await;
            asked.map_err(|error| Trouble::of(&error))
        };
        let tags = dynamo.until_answered(tags).await?.tags.unwrap_or_default();
        Ok(tags.iter().any(|tag| tag.key == TAG && tag.value == self.plan.write))
    }
}

/// The keys of a table that is to be created.
fn chosen_keys(table: &TableSpec, schema: &SchemaRef) -> Result<Keys> {
    let Some(partition) = table.options.text("partition_key") else {
        return plan_err!("a table of DynamoDB that is created wants the option partition_key: a column of the rows");
    };
    let key = |name: &str| {
        let known = schema.field_with_name(name).ok();
        let known =
            known.ok_or_else(|| plan_datafusion_err!("the rows have no column {name}, which is to be a key"))?;
        let kind = key_kind(known.data_type());
        let kind = kind.ok_or_else(|| {
            plan_datafusion_err!("the column {name} is {}: a key is VARCHAR, a number or BINARY", known.data_type())
        })?;
        Ok::<_, datafusion::common::DataFusionError>(Key { name: name.to_string(), kind })
    };
    Ok(Keys { partition: key(partition)?, sort: table.options.text("sort_key").map(key).transpose()? })
}

/// The type of a key that a column of this type is written as.
fn key_kind(kind: &DataType) -> Option<KeyKind> {
    Some(match kind {
        kind if super::decode::is_text(kind) || super::decode::is_written_out(kind) => KeyKind::Text,
        kind if kind.is_numeric() => KeyKind::Number,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            KeyKind::Bytes
        }
        DataType::Dictionary(_, value) => key_kind(value)?,
        _ => return None,
    })
}

#[async_trait]
impl Sink for DynamoSink {
    fn describe(&self) -> String {
        let keys = self.plan.keys().names().join(", ");
        let mode = if self.settings.inserts { "insert" } else { "put" };
        let creates = if self.plan.creates { ", creates" } else { "" };
        format!("table={}, key=({keys}), mode={mode}{creates}", self.settings.location.table)
    }

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(self.plan.encode_to_vec())
    }

    async fn begin(&self, _: &Arc<RuntimeEnv>) -> Result<()> {
        if self.plan.creates {
            self.create(&self.dynamo().await?).await?;
        }
        Ok(())
    }

    async fn write(
        &self,
        _: Attempt,
        mut rows: SendableRecordBatchStream,
        context: &Arc<TaskContext>,
    ) -> Result<Written> {
        let dynamo = self.dynamo().await?;
        let tasks = context.session_config().target_partitions().max(1);
        let keys = self.plan.keys();
        let mut writer = Writer::new(dynamo, keys.clone(), self.plan.units / tasks as f64);
        let positions: Vec<usize> =
            keys.all().filter_map(|key| self.plan.columns.iter().position(|column| *column == key.name)).collect();
        let mut written = 0;
        while let Some(batch) = rows.try_next().await? {
            let encoded = Rows::of(&batch, &self.plan.columns)?;
            for row in 0..encoded.count() {
                let item = encoded.item(row).map_err(|why| {
                    let of_keys =
                        batch.project(&positions).ok().and_then(|keys_of| Rows::of(&keys_of, &keys.names()).ok());
                    let key = of_keys.and_then(|of_keys| of_keys.item(row).ok()).unwrap_or_default();
                    exec_datafusion_err!("{}, row {}: {why}", self.settings.server(), shown_key(&keys.names(), &key))
                })?;
                writer.take(item).await?;
                written += 1;
            }
        }
        writer.finish().await?;
        Ok(Written { rows: written, token: Vec::new() })
    }

    async fn publish(&self, _: &[Vec<u8>], _: &Arc<RuntimeEnv>) -> Result<()> {
        Ok(())
    }

    async fn abandon(&self, _: &Arc<RuntimeEnv>) -> Result<()> {
        if !(self.plan.creates && self.plan.is_new) {
            return Ok(());
        }
        let dynamo = self.dynamo().await?;
        if self.has_created(&dynamo).await? {
            let send = || async {
                let asked = dynamo.client.delete_table().table_name(dynamo.table()).send().await;
                asked.map(|_| ()).map_err(|error| Trouble::of(&error))
            };
            dynamo.until_answered(send).await?;
        }
        Ok(())
    }
}

/// Where one task's rows go.
struct Writer {
    to: Arc<To>,
    /// Rows that may be one transaction, as long as there are no more.
    first: Option<Vec<Item>>,
    first_bytes: usize,
    /// The next batch, with the names of its keys.
    batch: Vec<(String, Item)>,
    /// Requests under way; they return the names of the keys that they have put.
    under_way: FuturesUnordered<BoxFuture<'static, Answer<Vec<String>>>>,
    /// Keys of these requests.
    keys_under_way: HashSet<String>,
}

/// A table that is written to.
struct To {
    dynamo: Dynamo,
    keys: Keys,
    pace: Mutex<Pace>,
    /// Of several requests none may overtake another where there is a rate.
    most_under_way: usize,
}

impl Writer {
    fn new(dynamo: Dynamo, keys: Keys, units: f64) -> Self {
        let (pace, inserts) = (Pace::new(units), dynamo.settings.inserts);
        let most_under_way = match (pace.is_bounded(), inserts) {
            (true, _) => 1,
            (false, false) => BATCHES,
            (false, true) => SINGLES,
        };
        let to = Arc::new(To { dynamo, keys, pace: Mutex::new(pace), most_under_way });
        let first = to.dynamo.settings.transacts.then(Vec::new);
        let (under_way, keys_under_way) = Default::default();
        Self { to, first, first_bytes: 0, batch: Vec::new(), under_way, keys_under_way }
    }

    async fn take(&mut self, item: Item) -> Answer<()> {
        let bytes = self.to.checked(&item)?;
        if let Some(first) = &mut self.first {
            first.push(item);
            self.first_bytes += bytes;
            if first.len() > TRANSACTION_ITEMS || self.first_bytes > TRANSACTION_BYTES {
                for item in self.first.take().unwrap_or_default() {
                    self.put(item).await?;
                }
            }
            return Ok(());
        }
        self.put(item).await
    }

    async fn put(&mut self, item: Item) -> Answer<()> {
        let key = self.to.key_text(&item);
        // Of rows with one key the last one of a task counts: it waits for those before.
        while self.keys_under_way.contains(&key) {
            self.wait().await?;
        }
        if let Some(known) = self.batch.iter_mut().find(|(known, _)| *known == key) {
            if self.to.dynamo.settings.inserts && !same_items(&known.1, &item) {
                return Err(self.to.taken(&item));
            }
            known.1 = item;
            return Ok(());
        }
        self.batch.push((key, item));
        if self.to.dynamo.settings.inserts || self.batch.len() == BATCH_ITEMS {
            self.send().await?;
        }
        Ok(())
    }

    async fn send(&mut self) -> Answer<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        while self.under_way.len() >= self.to.most_under_way {
            self.wait().await?;
        }
        let (keys, items): (Vec<String>, Vec<Item>) = std::mem::take(&mut self.batch).into_iter().unzip();
        self.keys_under_way.extend(keys.iter().cloned());
        let to = Arc::clone(&self.to);
        self.under_way.push(Box::pin(async move {
            match to.dynamo.settings.inserts {
                true => to.insert(items).await?,
                false => to.put(items).await?,
            }
            Ok(keys)
        }));
        Ok(())
    }

    /// For one request under way.
    async fn wait(&mut self) -> Answer<()> {
        if let Some(keys) = self.under_way.next().await {
            for key in keys? {
                self.keys_under_way.remove(&key);
            }
        }
        Ok(())
    }

    async fn finish(mut self) -> Answer<()> {
        if let Some(first) = self.first.take() {
            return self.to.transact(first).await;
        }
        self.send().await?;
        while !self.under_way.is_empty() {
            self.wait().await?;
        }
        Ok(())
    }
}

impl To {
    /// Returns the bytes of an item.
    ///
    /// # Errors
    /// It has no key, or is too large.
    fn checked(&self, item: &Item) -> Answer<usize> {
        let named = |why: String| {
            let key = shown_key(&self.keys.names(), item);
            Err(DynamoError::Value(format!("{}, item {key}: {why}", self.dynamo.settings.server())))
        };
        for (key, most) in self.keys.all().zip([PARTITION_KEY_BYTES, SORT_KEY_BYTES]) {
            let bytes = match item.get(&key.name) {
                None => return named(format!("the key {} is NULL, and every item has one", key.name)),
                Some(AttributeValue::S(text)) => text.len(),
                Some(AttributeValue::B(bytes)) => bytes.as_ref().len(),
                Some(_) => 1,
            };
            if bytes == 0 {
                return named(format!("the key {} is empty, which DynamoDB refuses", key.name));
            }
            if bytes > most {
                return named(format!("the key {} has {bytes} bytes, and DynamoDB takes {most}", key.name));
            }
        }
        let bytes = item_bytes(item);
        if bytes > ITEM_BYTES {
            return named(format!(
                "it has {bytes} bytes, and DynamoDB takes {ITEM_BYTES}: keep large values elsewhere, and their place here"
            ));
        }
        Ok(bytes)
    }

    /// Equal keys have equal texts.
    fn key_text(&self, item: &Item) -> String {
        let part = |key: &Key| match item.get(&key.name) {
            Some(AttributeValue::N(text)) => format!("{:?}", Number::parse(text)),
            Some(value) => format!("{value:?}"),
            None => String::new(),
        };
        self.keys.all().map(part).collect::<Vec<_>>().join("|")
    }

    fn taken(&self, item: &Item) -> DynamoError {
        let key = shown_key(&self.keys.names(), item);
        DynamoError::Value(format!(
            "{}, item {key}: the key is taken by another item; with write_mode 'put' rows replace items of their keys",
            self.dynamo.settings.server()
        ))
    }

    async fn ready(&self) {
        self.pace.lock().await.ready().await;
    }

    async fn spent<'a>(&self, consumed: impl IntoIterator<Item = &'a ConsumedCapacity>) {
        let units = consumed.into_iter().filter_map(|of| of.capacity_units).sum();
        self.pace.lock().await.spent(units);
    }

    /// Waits before a request is sent again that had this trouble.
    async fn again(&self, trouble: Trouble, patience: &mut Patience) -> Answer<()> {
        if matches!(trouble, Trouble::Throttled(_)) {
            self.pace.lock().await.throttled();
        }
        if matches!(trouble, Trouble::Refused { .. }) || !patience.pause().await {
            return Err(self.dynamo.error(trouble));
        }
        Ok(())
    }

    /// Puts up to 25 items of different keys.
    async fn put(&self, items: Vec<Item>) -> Answer<()> {
        let request = |item| {
            let put = PutRequest::builder()
                .set_item(Some(item))
                .build()
                .map_err(|error| DynamoError::Value(error.to_string()))?;
            Ok(WriteRequest::builder().put_request(put).build())
        };
        let mut left: Vec<WriteRequest> = items.into_iter().map(request).collect::<Answer<_>>()?;
        let mut patience = self.dynamo.patience();
        loop {
            self.ready().await;
            let asked = self
                .dynamo
                .client
                .batch_write_item()
                .request_items(self.dynamo.table(), left.clone())
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            let trouble = match asked.send().await {
                Ok(answer) => {
                    self.spent(answer.consumed_capacity()).await;
                    let unprocessed = answer.unprocessed_items.unwrap_or_default().remove(self.dynamo.table());
                    let unprocessed = unprocessed.unwrap_or_default();
                    if unprocessed.is_empty() {
                        return Ok(());
                    }
                    if unprocessed.len() < left.len() {
                        patience.reset();
                    }
                    left = unprocessed;
                    Trouble::Throttled(format!("{} items were not processed", left.len()))
                }
                Err(error) => Trouble::of(&error),
            };
            self.again(trouble, &mut patience).await?;
        }
    }

    /// Puts items whose keys are free, one by one.
    async fn insert(&self, items: Vec<Item>) -> Answer<()> {
        for item in items {
            self.put_one(item).await?;
        }
        Ok(())
    }

    async fn put_one(&self, item: Item) -> Answer<()> {
        let mut patience = self.dynamo.patience();
        loop {
            self.ready().await;
            let mut asked = self
                .dynamo
                .client
                .put_item()
                .table_name(self.dynamo.table())
                .set_item(Some(item.clone()))
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            if self.dynamo.settings.inserts {
                asked = asked
                    .condition_expression("attribute_not_exists(#0)")
                    .expression_attribute_names("#0", &self.keys.partition.name)
                    .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
            }
            let error = match asked.send().await {
                Ok(answer) => {
                    self.spent(answer.consumed_capacity()).await;
                    return Ok(());
                }
                Err(error) => error,
            };
            if let Some(PutItemError::ConditionalCheckFailedException(failed)) = error.as_service_error() {
                return match self.is_there(&item, failed.item()).await? {
                    true => Ok(()),
                    false => Err(self.taken(&item)),
                };
            }
            self.again(Trouble::of(&error), &mut patience).await?;
        }
    }

    /// Whether the item that has the key is the very same. `found`: what the service says that it is.
    async fn is_there(&self, item: &Item, found: Option<&Item>) -> Answer<bool> {
        if let Some(found) = found.filter(|found| !found.is_empty()) {
            return Ok(same_items(found, item));
        }
        let key: Item =
            self.keys.all().filter_map(|key| Some((key.name.clone(), item.get(&key.name)?.clone()))).collect();
        let send = || async {
            let asked = self.dynamo.client.get_item().table_name(self.dynamo.table()).set_key(Some(key.clone()));
            asked.consistent_read(true).send().await.map_err(|error| Trouble::of(&error))
        };
        let found = self.dynamo.within(self.dynamo.settings.patience, send).await?.item.unwrap_or_default();
        Ok(same_items(&found, item))
    }

    /// Writes all of these items or none.
    async fn transact(&self, items: Vec<Item>) -> Answer<()> {
        let mut of_keys: HashMap<String, usize> = HashMap::new();
        let mut left: Vec<Item> = Vec::with_capacity(items.len());
        for item in items {
            match of_keys.get(&self.key_text(&item)) {
                // The last of its key, as everywhere.
                Some(at) if !self.dynamo.settings.inserts || same_items(&left[*at], &item) => left[*at] = item,
                Some(_) => return Err(self.taken(&item)),
                None => {
                    of_keys.insert(self.key_text(&item), left.len());
                    left.push(item);
                }
            }
        }
        let mut patience = self.dynamo.patience();
        loop {
            match left.len() {
                0 => return Ok(()),
                1 => return self.put_one(left.remove(0)).await,
                _ => {}
            }
            self.ready().await;
            let parts = left.iter().map(|item| self.part(item)).collect::<Answer<Vec<_>>>()?;
            let asked = self
                .dynamo
                .client
                .transact_write_items()
                .set_transact_items(Some(parts))
                .return_consumed_capacity(ReturnConsumedCapacity::Total);
            let error = match asked.send().await {
                Ok(answer) => {
                    self.spent(answer.consumed_capacity()).await;
                    return Ok(());
                }
                Err(error) => error,
            };
            let trouble = match canceled(&error) {
                Some(reasons) => {
                    let there = self.those_there(&left, reasons).await?;
                    if !there.is_empty() {
                        let mut at = 0;
                        left.retain(|_| {
                            at += 1;
                            !there.contains(&(at - 1))
                        });
                        continue;
                    }
                    of_reasons(reasons)
                }
                None => Trouble::of(&error),
            };
            match trouble {
                Trouble::Refused { code, .. } if code == "UnknownOperationException" => {
                    return Err(DynamoError::Value(format!(
                        "{} has no transactions: set transactions 'false', and rows are written in batches, of which some may be there if others are refused",
                        self.dynamo.settings.server()
                    )));
                }
                trouble => self.again(trouble, &mut patience).await?,
            }
        }
    }

    fn part(&self, item: &Item) -> Answer<TransactWriteItem> {
        let mut put = Put::builder().table_name(self.dynamo.table()).set_item(Some(item.clone()));
        if self.dynamo.settings.inserts {
            put = put
                .condition_expression("attribute_not_exists(#0)")
                .expression_attribute_names("#0", &self.keys.partition.name)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        }
        let put = put.build().map_err(|error| DynamoError::Value(error.to_string()))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// Positions of items that are there already.
    ///
    /// # Errors
    /// A key is taken by another item.
    async fn those_there(&self, items: &[Item], reasons: &[CancellationReason]) -> Answer<HashSet<usize>> {
        let mut there = HashSet::new();
        for (at, (item, reason)) in items.iter().zip(reasons).enumerate() {
            if reason.code() != Some("ConditionalCheckFailed") {
                continue;
            }
            if !self.is_there(item, reason.item()).await? {
                return Err(self.taken(item));
            }
            there.insert(at);
        }
        Ok(there)
    }
}

/// Why a transaction was given up, for each of its items.
fn canceled<R>(error: &SdkError<TransactWriteItemsError, R>) -> Option<&[CancellationReason]> {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(canceled)) => Some(canceled.cancellation_reasons()),
        _ => None,
    }
}

/// The worst of the reasons.
fn of_reasons(reasons: &[CancellationReason]) -> Trouble {
    let troubles = reasons.iter().filter(|reason| !matches!(reason.code(), None | Some("None")));
    let troubles: Vec<Trouble> = troubles
        .map(|reason| Trouble::of_code(reason.code().unwrap_or_default(), reason.message().unwrap_or_default()))
        .collect();
    let refused = troubles.iter().find(|trouble| matches!(trouble, Trouble::Refused { .. }));
    let first = refused.or(troubles.first()).cloned();
    first.unwrap_or_else(|| Trouble::Passing("the transaction was given up".to_string()))
}

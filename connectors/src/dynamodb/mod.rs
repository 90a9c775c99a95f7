//! Tables of DynamoDB: scanned in segments or queried by their keys and indexes, and written by key. `docs/connectors.md` says it to users.
//!
//! ```sql
//! CREATE EXTERNAL TABLE o STORED AS DYNAMODB LOCATION 'dynamodb://eu-central-1/orders'
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | `settings` | which table, as whom, and the client |
//! | `described` | what the service says of a table |
//! | `value`, `number`, `decode`, `sample` | values, columns of them, and which columns a table has |
//! | `condition`, `filter`, `plan` | conditions, and the keys and indexes that they lead to |
//! | `scan`, `pace` | reading, at a share of the table's capacity |
//! | `sink`, `encode` | writing |
//! | `json`, `files` | items as text, and files of them |

mod condition;
mod decode;
mod described;
mod encode;
mod error;
mod files;
mod filter;
mod json;
mod number;
mod pace;
mod plan;
mod sample;
mod scan;
mod settings;
mod sink;
mod value;

use crate::aws;
use async_trait::async_trait;
use condition::Condition;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::metrics::Count;
use described::Described;
pub use files::DynamoDbJson;
use filter::{Columns, taken};
use plan::{Ask, Of, Piece, Segment, Wanted};
use prost::Message;
use sample::Sample;
use scan::{DynamoScan, Planned, Reader};
use settings::{Clients, Dynamo, Settings};
use sink::DynamoSink;
use std::sync::Arc;
use windlass_engine::connector::{
    Connector, ConnectorTable, Encoded, OptionKind, OptionSpec, Scan, ScanRequest, Sink, SinkRequest, Split,
    TableRequest, TableSpec, Target,
};

/// Bytes of a segment, about.
const SEGMENT_BYTES: u64 = 64 << 20;
/// Pages of a sample, each of up to 1 MB.
const SAMPLE_PAGES: usize = 16;
/// Rows of a LIMIT that one segment gives.
const FEW_ROWS: usize = 1_000;

/// Tables STORED AS DYNAMODB.
#[derive(Debug, Default)]
pub struct DynamoDb {
    clients: Clients,
}

const OPTIONS: &[OptionSpec] = &[
    aws::ENDPOINT,
    aws::ACCESS_KEY_ID,
    aws::SECRET_ACCESS_KEY,
    aws::SESSION_TOKEN,
    aws::PROFILE,
    aws::ROLE_ARN,
    aws::EXTERNAL_ID,
    OptionSpec::new(
        "consistent",
        OptionKind::Boolean,
        "Whether reads see all writes that ended before; twice as dear.",
    )
    .or("false"),
    OptionSpec::new("segments", OptionKind::Integer, "Most segments of a scan.").or("1000"),
    OptionSpec::new("sample_rows", OptionKind::Integer, "Items that columns are found by, where none are declared.")
        .or("1000"),
    OptionSpec::new(
        "read_share",
        OptionKind::Text,
        "Share of the provisioned read capacity that a scan takes, up to 1.",
    )
    .or("0.5"),
    OptionSpec::new(
        "write_share",
        OptionKind::Text,
        "Share of the provisioned write capacity that a write takes, up to 1.",
    )
    .or("0.5"),
    OptionSpec::new(
        "retry_seconds",
        OptionKind::Integer,
        "Seconds for which requests are sent again that fail or are throttled.",
    )
    .or("120"),
    OptionSpec::new(
        "mismatch",
        OptionKind::Choice(&["error", "null"]),
        "What an attribute is that does not fit its column: an error, or NULL.",
    )
    .or("error"),
    OptionSpec::new(
        "pushdown",
        OptionKind::Choice(&["on", "off"]),
        "Whether DynamoDB filters, and keys become queries.",
    )
    .or("on"),
    OptionSpec::new(
        "write_mode",
        OptionKind::Choice(&["put", "insert"]),
        "Whether a row replaces the item of its key, or a taken key is an error.",
    )
    .or("put"),
    OptionSpec::new(
        "transactions",
        OptionKind::Boolean,
        "Whether up to 100 rows of a task are written in one transaction; twice as dear.",
    )
    .or("true"),
    OptionSpec::new("partition_key", OptionKind::Text, "Column that is the partition key of a table that is created."),
    OptionSpec::new("sort_key", OptionKind::Text, "Column that is the sort key of a table that is created."),
];

#[async_trait]
impl Connector for DynamoDb {
    fn name(&self) -> &'static str {
        "DYNAMODB"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn creates(&self) -> bool {
        true
    }

    async fn table(&self, request: TableRequest) -> Result<Arc<dyn ConnectorTable>> {
        let spec = request.table;
        let settings = Arc::new(Settings::of(&spec)?);
        let schema = match request.columns {
            Some(columns) if request.target == Target::Present => columns,
            Some(columns) => {
                Arc::new(Schema::new(columns.fields().iter().map(|field| read_again(field)).collect::<Vec<_>>()))
            }
            None => found(&self.clients.of(&settings).await?).await?,
        };
        decode::check_known(&schema)?;
        let clients = self.clients.clone();
        Ok(Arc::new(DynamoTable { spec, settings, schema, clients, target: request.target }))
    }

    fn decode_scan(&self, encoded: Encoded<'_>) -> Result<Arc<dyn Scan>> {
        Ok(Arc::new(DynamoScan::decode(encoded, self.clients.clone())?))
    }

    fn decode_sink(&self, encoded: Encoded<'_>) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(DynamoSink::decode(encoded, self.clients.clone())?))
    }
}

/// A column as a later read gives it.
fn read_again(field: &Field) -> Field {
    fn of(kind: &DataType) -> DataType {
        let inner = |field: &Arc<Field>| Arc::new(read_again(field));
        match kind {
            kind if decode::is_text(kind) => DataType::Utf8,
            DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
            DataType::Dictionary(_, value) => of(value),
            DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
            DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
                DataType::List(inner(field))
            }
            kind => kind.clone(),
        }
    }
    Field::new(field.name(), of(field.data_type()), field.is_nullable())
}

/// The columns of a table that declares none.
async fn found(dynamo: &Dynamo) -> Result<SchemaRef> {
    let table = Described::find(dynamo).await?;
    let settings = &dynamo.settings;
    let ask = Ask { limit: Some(settings.sample_rows as u64), keys: table.keys.names(), ..Ask::default() };
    let piece = Piece { of: Some(Of::Segment(Segment { number: 0, of: 1 })) };
    let mut reader = Reader::new(dynamo.clone(), ask, piece, Count::new());
    let mut sample = Sample::default();
    // Somebody waits: so there is no rate, and large items are fewer.
    for _ in 0..SAMPLE_PAGES {
        let Some(page) = reader.next().await? else { break };
        page.items.iter().for_each(|item| sample.take(item));
    }
    Ok(sample.schema(&table))
}

#[derive(Debug)]
struct DynamoTable {
    spec: Arc<TableSpec>,
    settings: Arc<Settings>,
    schema: SchemaRef,
    clients: Clients,
    target: Target,
}

impl DynamoTable {
    fn taken(&self, filter: &Expr) -> Option<Condition> {
        let columns = Columns { schema: &self.schema, misfits_are_null: self.settings.misfits_are_null };
        if self.settings.pushes_down { taken(filter, &columns) } else { None }
    }

    fn segments(&self, table: &Described, request: &ScanRequest<'_>) -> Vec<Split> {
        let is_short = request.filters.is_empty() && request.limit.is_some_and(|limit| limit <= FEW_ROWS);
        // The size may be six hours old: a table that seems small has work for all tasks too.
        let by_bytes = usize::try_from(table.bytes.div_ceil(SEGMENT_BYTES)).unwrap_or(usize::MAX);
        let count = if is_short { 1 } else { by_bytes.max(request.tasks).clamp(1, self.settings.segments) };
        let share = |all: u64| Some(all / count as u64).filter(|_| all > 0);
        let split = |number: usize| {
            let segment = Segment { number: number as u32, of: count as u32 };
            Split {
                bytes: share(table.bytes),
                rows: share(table.items),
                payload: Piece { of: Some(Of::Segment(segment)) }.encode_to_vec().into(),
                ..Split::default()
            }
        };
        (0..count).map(split).collect()
    }
}

#[async_trait]
impl ConnectorTable for DynamoTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let of = |filter: &&Expr| match self.taken(filter) {
            // What DynamoDB cannot decide is decided by the scan.
            Some(_) => TableProviderFilterPushDown::Exact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(of).collect())
    }

    async fn scan(&self, request: ScanRequest<'_>) -> Result<Arc<dyn Scan>> {
        let dynamo = self.clients.of(&self.settings).await?;
        let table = Described::find(&dynamo).await?;
        let conditions = request.filters.iter().filter_map(|filter| self.taken(filter)).flat_map(Condition::conjuncts);
        let wanted = Wanted {
            columns: request.schema.fields().iter().map(|field| field.name().clone()).collect(),
            conditions: conditions.collect(),
            limit: request.limit.filter(|_| self.settings.pushes_down).map(|limit| limit as u64),
            consistent: self.settings.consistent,
            table: &table,
        };
        let way = wanted.way();
        let (splits, rows) = match way.queries {
            Some(queries) => {
                let split = |key| Split {
                    bytes: Some(1 << 20),
                    payload: Piece { of: Some(Of::Query(key)) }.encode_to_vec().into(),
                    ..Split::default()
                };
                (queries.into_iter().map(split).collect::<Vec<_>>(), None)
            }
            None => {
                let rows = Some(table.items).filter(|_| table.items > 0 && request.filters.is_empty());
                (self.segments(&table, &request), rows)
            }
        };
        let readers = splits.len().clamp(1, request.tasks);
        let ask = Ask { units: self.settings.read_share.of(way.read_units, readers), ..way.ask };
        let planned = Some(Planned { splits, rows });
        let (spec, clients) = (Arc::clone(&self.spec), self.clients.clone());
        Ok(Arc::new(DynamoScan { table: spec, schema: request.schema, ask, clients, planned }))
    }

    async fn sink(&self, request: SinkRequest) -> Result<Arc<dyn Sink>> {
        if request.overwrite {
            return plan_err!(
                "items of a table of DynamoDB are not replaced as a whole: use INSERT INTO, which replaces by key"
            );
        }
        let dynamo = self.clients.of(&self.settings).await?;
        let described = match (Described::find(&dynamo).await, self.target) {
            (Ok(_), Target::New) => {
                return plan_err!("{} exists: drop it, or write to it with INSERT INTO", self.settings.server());
            }
            (Ok(table), _) => Some(table),
            (Err(error), Target::New | Target::Any) if error.code() == Some("ResourceNotFoundException") => None,
            (Err(error), _) => return Err(error.into()),
        };
        let sink = DynamoSink::new(Arc::clone(&self.spec), request, described, self.target, self.clients.clone())?;
        Ok(Arc::new(sink))
    }
}

//! Tables of PostgreSQL: read in parallel in one snapshot, and written all or nothing. `docs/connectors.md` says it to users.
//!
//! ```sql
//! CREATE EXTERNAL TABLE o STORED AS POSTGRES LOCATION 'postgresql://app@host:5432/shop' OPTIONS (table 'public.orders', password '…')
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | `settings` | who connects where: locations, options, service and password files |
//! | `wire`, `socket`, `tls` | a connection |
//! | `catalog` | all tables of a database |
//! | `relation`, `types` | what the server's catalogs say of a table, and what its columns are here |
//! | `query` | tables whose rows are those of a query |
//! | `snapshot`, `bounds`, `scan`, `decode`, `numeric` | reading |
//! | `filter`, `fragment` | conditions, joins, groups and first rows that the server computes |
//! | `sink`, `load`, `encode`, `create` | writing, also of tables that are created |

mod aside;
mod bounds;
mod catalog;
mod create;
mod decode;
mod encode;
pub(crate) mod error;
mod filter;
mod fragment;
mod load;
mod numeric;
mod query;
mod relation;
mod scan;
pub(crate) mod settings;
mod sink;
mod snapshot;
mod socket;
mod tls;
mod types;
pub(crate) mod wire;

use crate::{load as load_options, rejects, server};
use async_trait::async_trait;
use bounds::Bounds;
use catalog::PostgresCatalog;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{
    Constraints, DataFusionError, Result, internal_datafusion_err, internal_err, plan_datafusion_err, plan_err,
};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use filter::{Columns, Known};
use relation::Relation;
use scan::{Planned, PostgresScan, Query, by_column, by_places, split_count};
use settings::{Location, Settings};
use sink::{PostgresSink, Writes};
use snapshot::{Held, Snapshots};
use std::sync::Arc;
use types::{Choices, Wire};
use windlass_engine::connector::{
    Connector, ConnectorCatalog, ConnectorTable, Encoded, FragmentRequest, OptionKind, OptionSpec, Scan, ScanRequest,
    Sink, SinkRequest, Split, TableRequest, TableSpec, Target,
};
use wire::{Canceller, Connection, quoted};

/// Tables STORED AS POSTGRES.
#[derive(Debug, Default)]
pub struct Postgres {
    canceller: Canceller,
    snapshots: Snapshots,
    bounds: Bounds,
}

const QUERY: &str = server::QUERY.name;
/// PostgreSQL has no more.
const MOST_CONNECTIONS: u32 = 0x3ffff;

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("table", OptionKind::Text, "The table or view, as SQL writes its name: schema.table.")
        .names_table(),
    server::QUERY,
    OptionSpec::new("password", OptionKind::Text, "Of the user; else that of the service or of the password file.")
        .secret(),
    server::AUTH,
    server::REGION,
    OptionSpec::new("service", OptionKind::Text, "A section of the service file; else that of PGSERVICE."),
    server::SSLMODE,
    server::SSLROOTCERT,
    OptionSpec::new(
        "channel_binding",
        OptionKind::Choice(&["prefer", "require"]),
        "Whether a login without SCRAM over TLS, bound to the server's certificate, is given up.",
    ),
    server::CONNECT_TIMEOUT,
    server::STATEMENT_TIMEOUT,
    server::CONNECTIONS,
    OptionSpec::new(
        "max_connections",
        OptionKind::Integer,
        "Most connections to the server of all statements that read together; 0: any. Further statements wait.",
    )
    .or("0"),
    OptionSpec::new("split_bytes", OptionKind::Integer, "Bytes of a split, at least.").or("8388608"),
    OptionSpec::new("split_column", OptionKind::Text, "A column of whole numbers by whose ranges the table is split.")
        .names_table(),
    OptionSpec::new(
        "numeric",
        OptionKind::Choice(&["decimal", "text"]),
        "What NUMERIC is read as: DECIMAL(38, 10) where it has no precision, or text, also NaN and infinity.",
    )
    .or("decimal"),
    OptionSpec::new(
        "infinity",
        OptionKind::Choice(&["error", "null"]),
        "What infinite dates and timestamps are: an error, or NULL.",
    )
    .or("error"),
    load_options::MODE,
    load_options::KEY,
    load_options::LOAD,
    rejects::REJECTS,
    rejects::MAX_REJECTS,
    server::PUSHDOWN,
];

#[async_trait]
impl Connector for Postgres {
    fn name(&self) -> &'static str {
        "POSTGRES"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    async fn table(&self, request: TableRequest) -> Result<Arc<dyn ConnectorTable>> {
        let spec = request.table;
        let location = Location::parse(&spec.location)?;
        check_numbers(&spec)?;
        load_options::check_name(&spec.options, request.target)?;
        rejects::check_target(&spec.options, request.target)?;
        match (spec.options.text("table"), spec.options.text(QUERY)) {
            (None, None) => {
                return plan_err!(
                    "tables stored as POSTGRES want the option 'table', the name of one as SQL writes it, or 'query'"
                );
            }
            (Some(_), Some(_)) => {
                return plan_err!("a table has the rows of a table or of a query: leave out 'table' or 'query'");
            }
            (None, Some(_)) if request.target != Target::Present => {
                return plan_err!("a query of PostgreSQL is only read: name a table with the option 'table'");
            }
            _ => {}
        }
        let (canceller, snapshots, bounds) = (self.canceller.clone(), self.snapshots.clone(), self.bounds.clone());
        let connected = async || {
            let settings = Arc::new(location.settings(&spec).await?);
            Ok::<_, DataFusionError>(Connection::open(&settings, &canceller).await?)
        };
        let (schema, writes) = match (request.target, request.columns) {
            (Target::Present, Some(columns)) => (columns, Writes::Into),
            (Target::Present, None) => {
                let mut connection = connected().await?;
                let relation = match spec.options.text(QUERY) {
                    Some(query) => query::described(&mut connection, query).await?,
                    None => Relation::find(&mut connection, name(&spec)).await?,
                };
                (relation.schema(choices(&spec)), Writes::Into)
            }
            (Target::New, Some(columns)) => (create::columns(&columns)?, Writes::New),
            (Target::Any, Some(columns)) => {
                let mut connection = connected().await?;
                match relation::is_there(&mut connection, name(&spec)).await? {
                    false => (create::columns(&columns)?, Writes::New),
                    true => {
                        let relation = Relation::find(&mut connection, name(&spec)).await?;
                        (added(&spec, &relation, &columns)?, Writes::Added)
                    }
                }
            }
            (Target::New | Target::Any, None) => return internal_err!("a table is to be created without columns"),
        };
        Ok(Arc::new(PostgresTable { spec, location, schema, writes, canceller, snapshots, bounds }))
    }

    fn creates(&self) -> bool {
        true
    }

    fn query_option(&self) -> Option<&'static str> {
        Some(QUERY)
    }

    fn has_catalogs(&self) -> bool {
        true
    }

    fn catalog(&self, spec: Arc<TableSpec>) -> Result<Arc<dyn ConnectorCatalog>> {
        check_numbers(&spec)?;
        Ok(Arc::new(PostgresCatalog::new(spec, self.canceller.clone())?))
    }

    fn decode_scan(&self, encoded: Encoded<'_>) -> Result<Arc<dyn Scan>> {
        Ok(Arc::new(PostgresScan::decode(encoded, self.canceller.clone())?))
    }

    fn decode_sink(&self, encoded: Encoded<'_>) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(PostgresSink::decode(encoded, self.canceller.clone())?))
    }

    async fn settle(&self) {
        self.canceller.settle().await;
    }
}

fn check_numbers(spec: &TableSpec) -> Result<()> {
    let least = [("max_connections", 0), ("split_bytes", 0), ("statement_timeout", 0), ("connect_timeout", 0)];
    server::check_numbers(spec, &[("connections", 1)])?;
    server::check_numbers(spec, &least)
}

/// The columns of a table for rows of the columns `given`, which have their names.
fn added(spec: &TableSpec, relation: &Relation, given: &Schema) -> Result<SchemaRef> {
    let is_lenient = spec.options.text(rejects::REJECTS.name).is_some();
    let column = |field: &Arc<Field>| {
        let known = relation.column(field.name()).ok_or_else(|| no_column(spec, field.name()))?;
        Ok(Field::new(field.name(), create::added(&known.kind, field.data_type(), is_lenient), true))
    };
    Ok(Arc::new(Schema::new(given.fields().iter().map(column).collect::<Result<Vec<_>>>()?)))
}

fn no_column(spec: &TableSpec, column: &str) -> DataFusionError {
    plan_datafusion_err!("{} of PostgreSQL has no column {column}", name(spec))
}

fn name(spec: &TableSpec) -> &str {
    spec.options.text("table").unwrap_or("the query")
}

fn choices(spec: &TableSpec) -> Choices {
    let is = |option: &str, value: &str| spec.options.text(option).is_some_and(|text| text.eq_ignore_ascii_case(value));
    Choices { numeric_as_text: is("numeric", "text"), infinity_as_null: is("infinity", "null") }
}

#[derive(Debug)]
struct PostgresTable {
    spec: Arc<TableSpec>,
    location: Location,
    schema: SchemaRef,
    writes: Writes,
    canceller: Canceller,
    snapshots: Snapshots,
    bounds: Bounds,
}

impl PostgresTable {
    fn number(&self, option: &str) -> u64 {
        u64::try_from(self.spec.options.integer(option).unwrap_or(0)).unwrap_or(0)
    }

    /// Connections that a scan may have, that of the snapshot among them. Waits until the server has some to spare.
    async fn connections(&self, settings: &Settings, held: &Held) -> Result<usize> {
        let (wanted, most) = (self.number("connections"), self.number("max_connections"));
        if most == 0 {
            return Ok(usize::try_from(wanted).unwrap_or(usize::MAX));
        }
        let bounded = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).min(MOST_CONNECTIONS);
        held.connections(&self.bounds, settings, &self.spec.id, bounded(most), bounded(wanted)).await
    }

    async fn settings(&self) -> Result<Arc<Settings>> {
        Ok(Arc::new(self.location.settings(&self.spec).await?))
    }

    async fn relation(&self, connection: &mut Connection) -> Result<Relation> {
        Ok(match self.spec.options.text(QUERY) {
            Some(query) => {
                let names: Vec<String> = self.schema.fields().iter().map(|field| field.name().clone()).collect();
                query::found(connection, query, &names).await?
            }
            None => Relation::find(connection, name(&self.spec)).await?,
        })
    }

    /// Whether the server enforces these keys, on which a plan relies.
    async fn check_keys(&self, connection: &mut Connection, keys: Option<&Constraints>) -> Result<()> {
        match keys {
            Some(keys) if !catalog::enforces(connection, name(&self.spec), &self.schema, keys).await? => {
                plan_err!("the keys of {} have changed: run the statement again in a few seconds", name(&self.spec))
            }
            _ => Ok(()),
        }
    }

    /// A column of the schema that a condition may be about.
    fn field(&self, name: &str) -> Option<&Field> {
        let field = self.schema.field_with_name(name).ok()?;
        let is_infinite = matches!(field.data_type(), DataType::Date32 | DataType::Timestamp(..));
        let is_list = matches!(field.data_type(), DataType::List(_));
        // What is NULL here is not NULL there.
        let changes = choices(&self.spec).infinity_as_null && (is_infinite || is_list);
        (!changes).then_some(field)
    }

    async fn splits(
        &self,
        relation: &Relation,
        connection: &mut Connection,
        tasks: usize,
        connections: usize,
    ) -> Result<Vec<Split>> {
        let least = self.number("split_bytes");
        let bytes = relation.blocks.as_ref().map(|_| relation.bytes);
        let count = split_count(bytes, least, tasks, connections);
        let Some(column) = self.spec.options.text("split_column") else {
            let count = if relation.blocks.is_some() { count } else { 1 };
            return Ok(by_places(relation, count));
        };
        let known = relation.column(column);
        let known = known.ok_or_else(|| no_column(&self.spec, column))?;
        if !matches!(known.kind.natural(Choices::default()), DataType::Int16 | DataType::Int32 | DataType::Int64) {
            return plan_err!("the split_column {column} is {}: expected a column of whole numbers", known.kind.name);
        }
        let column = quoted(&known.name);
        let bounds = format!("SELECT min({column})::int8, max({column})::int8 FROM {}", relation.quoted());
        let row = connection.look(&bounds).await?.into_iter().next().unwrap_or_default();
        let bound = |at: usize| row.get(at)?.as_ref()?.parse::<i64>().ok();
        Ok(match (bound(0), bound(1)) {
            (Some(least), Some(greatest)) => by_column(relation, &known.name, least, greatest, count),
            _ => by_places(relation, 1),
        })
    }
}

/// Before the server is asked.
struct Declared<'a>(&'a PostgresTable);

impl Columns for Declared<'_> {
    fn column(&self, name: &str) -> Option<Known> {
        let kind = self.0.field(name)?.data_type().clone();
        Some(Known { name: name.to_string(), kind, wire: Wire::Text, is_deterministic: true, is_utf8: true })
    }
}

struct Found<'a> {
    table: &'a PostgresTable,
    relation: &'a Relation,
    is_utf8: bool,
}

impl Columns for Found<'_> {
    fn column(&self, name: &str) -> Option<Known> {
        let kind = self.table.field(name)?.data_type().clone();
        let column = self.relation.column(name)?;
        let wire = column.kind.read_as(&kind, choices(&self.table.spec)).ok()?;
        let is_deterministic = column.is_deterministic;
        Some(Known { name: name.to_string(), kind, wire, is_deterministic, is_utf8: self.is_utf8 })
    }
}

#[async_trait]
impl ConnectorTable for PostgresTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(server::pushdown(&self.spec, filters, |filter| filter::sent(filter, &Declared(self)).is_some()))
    }

    async fn scan(&self, request: ScanRequest<'_>) -> Result<Arc<dyn Scan>> {
        let settings = self.settings().await?;
        let held = self.snapshots.of(&settings, request.session);
        let connections = self.connections(&settings, &held).await?;
        let snapshot = held.snapshot(&settings, &self.canceller).await?;
        let mut connection = snapshot.connection().await;
        let relation = self.relation(&mut connection).await?;
        let column = |field: &Arc<Field>| {
            let known = relation.column(field.name()).ok_or_else(|| no_column(&self.spec, field.name()))?;
            let wire = known.kind.read_as(field.data_type(), choices(&self.spec));
            let wire = wire.map_err(|why| plan_datafusion_err!("the column {} {why}", field.name()))?;
            Ok((wire.read(&quoted(field.name())), wire.to_string()))
        };
        let columns = request.schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
        let (select, wires): (Vec<String>, Vec<String>) = columns.into_iter().unzip();
        let found = Found { table: self, relation: &relation, is_utf8: connection.is_utf8 };
        let condition = |filter: &Expr| {
            let sent = filter::sent(filter, &found);
            // All of it is known before: a column that is gone, or is of another type.
            sent.ok_or_else(|| {
                plan_datafusion_err!(
                    "the columns of {} have changed: create the table again, or run the statement again if it is one of a catalog",
                    name(&self.spec)
                )
            })
        };
        let query = Query {
            select: if wires.is_empty() { "pg_catalog.count(*)".to_string() } else { select.join(", ") },
            from: relation.quoted(),
            conditions: request.filters.iter().map(condition).collect::<Result<_>>()?,
            limit: request.limit.filter(|_| server::pushes_down(&self.spec)).map(|limit| limit as u64),
            wires,
            snapshot: snapshot.id().to_string(),
            ..Query::default()
        };
        let splits = self.splits(&relation, &mut connection, request.tasks, connections).await?;
        let rows = match query.conditions.is_empty() && relation.query.is_none() {
            true => relation.rows,
            false => estimated(&mut connection, &query).await?.or(relation.rows),
        };
        let counted = match relation.query {
            None => relation::counted(&mut connection, &relation).await?,
            Some(_) => Default::default(),
        };
        self.check_keys(&mut connection, request.keys).await?;
        drop(connection);
        let planned = Some(Planned { splits, rows, counted, held: held.clone() });
        let (table, canceller) = (Arc::clone(&self.spec), self.canceller.clone());
        Ok(Arc::new(PostgresScan { table, schema: request.schema, query, canceller, planned }))
    }

    fn computes(&self) -> bool {
        server::pushes_down(&self.spec)
    }

    async fn scan_fragment(&self, request: FragmentRequest<'_>) -> Result<Option<Arc<dyn Scan>>> {
        self.computed(request).await
    }

    fn has_defaults(&self) -> bool {
        true
    }

    async fn sink(&self, request: SinkRequest) -> Result<Arc<dyn Sink>> {
        if self.spec.options.text(QUERY).is_some() {
            return plan_err!("the rows of a query of PostgreSQL are only read: make a table of the one that is meant");
        }
        let settings = self.settings().await?;
        let kept = (self.writes, self.schema.as_ref());
        let sink = PostgresSink::new(Arc::clone(&self.spec), request, kept, &settings, self.canceller.clone()).await?;
        Ok(Arc::new(sink))
    }
}

/// Rows that the server expects of a query.
async fn estimated(connection: &mut Connection, query: &Query) -> Result<Option<u64>> {
    let all = Query { select: "1".to_string(), limit: None, ..query.clone() };
    Ok(expected(connection, &all.sql("")).await?.map(|(rows, _)| rows))
}

/// How many rows the server expects of a query, of how many bytes each.
async fn expected(connection: &mut Connection, sql: &str) -> Result<Option<(u64, u64)>> {
    let rows = connection.look(&format!("EXPLAIN {sql}")).await?;
    let first = rows.into_iter().flatten().flatten().next();
    let first = first.ok_or_else(|| internal_datafusion_err!("PostgreSQL explains nothing"))?;
    let number = |name: &str| {
        let rest = first.split(name).nth(1)?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
    };
    Ok(number("rows=").zip(number("width=")))
}

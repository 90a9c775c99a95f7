//! Tables of MySQL and MariaDB: read in one snapshot, and written all or nothing. `docs/connectors.md` says it to users.
//!
//! ```sql
//! CREATE EXTERNAL TABLE o STORED AS MYSQL LOCATION 'mysql://app@host:3306/shop' OPTIONS (table 'orders', password '…')
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | `settings` | who connects where: locations, options, `~/.my.cnf` |
//! | `wire` | a connection |
//! | `catalog` | all tables of a server, or of one of its databases |
//! | `relation`, `types` | what the server's information schema says of a table, and what its columns are here |
//! | `query` | tables whose rows are those of a query |
//! | `snapshot`, `scan`, `decode` | reading, and who sees which state |
//! | `filter`, `fragment` | conditions, joins, groups and first rows that the server computes |
//! | `keys` | keys that the server enforces |
//! | `sink`, `target`, `stage`, `encode`, `publish`, `load` | writing |

mod aside;
mod catalog;
mod decode;
mod encode;
mod error;
mod filter;
mod fragment;
mod keys;
mod load;
mod publish;
mod query;
mod relation;
mod scan;
mod settings;
mod sink;
mod snapshot;
mod stage;
mod target;
mod types;
mod wire;

use crate::{load as load_options, rejects, server};
use async_trait::async_trait;
use catalog::MysqlCatalog;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Constraints, DataFusionError, Result, plan_datafusion_err, plan_err};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use filter::{Columns, Known};
use keys::Relied;
use relation::{Relation, ServerColumn};
use scan::{Bounds, Cut, Key, MysqlScan, Planned, Query};
use settings::{Location, Settings};
use sink::MysqlSink;
use snapshot::{Guard, Mode, Statements};
use std::sync::Arc;
use types::{Choices, Wire, is_text};
use windlass_engine::connector::{
    Connector, ConnectorCatalog, ConnectorTable, Encoded, FragmentRequest, OptionKind, OptionSpec, Scan, ScanRequest,
    Sink, SinkRequest, TableRequest, TableSpec, Target,
};
use wire::{Connection, Killer, quoted};

/// Tables STORED AS MYSQL.
#[derive(Debug, Default)]
pub struct Mysql {
    killer: Killer,
    statements: Statements,
}

const QUERY: &str = server::QUERY.name;

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("table", OptionKind::Text, "The table or view, as SQL writes its name: table or database.table.")
        .names_table(),
    server::QUERY,
    OptionSpec::new("password", OptionKind::Text, "Of the user; else that of ~/.my.cnf or MYSQL_PWD.").secret(),
    server::AUTH,
    server::REGION,
    server::SSLMODE,
    server::SSLROOTCERT,
    server::CONNECT_TIMEOUT,
    server::STATEMENT_TIMEOUT,
    server::CONNECTIONS,
    OptionSpec::new("split_rows", OptionKind::Integer, "Rows of a range that is read at a time, at least.").or("50000"),
    OptionSpec::new(
        "split_column",
        OptionKind::Text,
        "A column of whole numbers by whose ranges the table is read; else the first one of the primary key.",
    )
    .names_table(),
    OptionSpec::new(
        "snapshot",
        OptionKind::Choice(&["table", "locked", "none"]),
        "table: one task reads, of one state; locked: all tasks read, of one state of all tables, and writers wait; none: all tasks read, each \
         of its own state.",
    )
    .or("table"),
    OptionSpec::new(
        "tinyint1",
        OptionKind::Choice(&["boolean", "integer"]),
        "What TINYINT(1) is read as; a BOOLEAN other than 0 and 1 is an error.",
    )
    .or("boolean"),
    OptionSpec::new(
        "zero_dates",
        OptionKind::Choice(&["error", "null"]),
        "What dates without a day, a month or a year are: an error, or NULL.",
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
impl Connector for Mysql {
    fn name(&self) -> &'static str {
        "MYSQL"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    async fn table(&self, request: TableRequest) -> Result<Arc<dyn ConnectorTable>> {
        let (spec, target) = (request.table, request.target);
        let location = Location::parse(&spec.location)?;
        check_numbers(&spec)?;
        load_options::check_name(&spec.options, target)?;
        rejects::check_target(&spec.options, target)?;
        match (spec.options.text("table"), spec.options.text(QUERY)) {
            (None, None) => {
                return plan_err!(
                    "tables stored as MYSQL want the option 'table', the name of one as SQL writes it, or 'query'"
                );
            }
            (Some(_), Some(_)) => {
                return plan_err!("a table has the rows of a table or of a query: leave out 'table' or 'query'");
            }
            (None, Some(_)) if target != Target::Present => {
                return plan_err!("a query of MySQL is only read: name a table with the option 'table'");
            }
            (None, Some(_)) if mode(&spec) == Mode::Locked => {
                return plan_err!(
                    "snapshot 'locked' locks tables, and a query names none that could be locked: use snapshot 'table' or 'none'"
                );
            }
            (None, Some(_)) => {}
            (Some(table), None) => drop(relation::qualified(table, location.database.as_deref())?),
        }
        let present = || async {
            let settings = Arc::new(location.settings(&spec).await?);
            let mut connection = Connection::open(&settings, &self.killer).await?;
            match spec.options.text(QUERY) {
                Some(query) => Ok(Some(query::described(&mut connection, query).await?)),
                None => Ok::<_, DataFusionError>(
                    Relation::look(&mut connection, name(&spec), location.database.as_deref()).await?,
                ),
            }
        };
        let missing = || plan_datafusion_err!("MySQL has no table {}, or does not show it to this user", name(&spec));
        let schema = match (request.columns, target) {
            (Some(columns), Target::Present) => columns,
            (Some(columns), Target::New) => created(&columns)?,
            (Some(columns), Target::Any) => match present().await? {
                None => created(&columns)?,
                Some(relation) => {
                    let column = |field: &Arc<Field>| {
                        let known = relation.column(field.name()).ok_or_else(|| unknown(&spec, field.name()))?;
                        match spec.options.text(rejects::REJECTS.name) {
                            Some(_) => Ok(Field::new(&known.name, known.kind.lenient(field.data_type()), true)),
                            None => {
                                let known = field_of(known, choices(&spec));
                                let kind = types::with_nanoseconds(known.data_type().clone(), field.data_type());
                                Ok(known.with_data_type(kind))
                            }
                        }
                    };
                    Arc::new(Schema::new(columns.fields().iter().map(column).collect::<Result<Vec<_>>>()?))
                }
            },
            (None, _) => {
                let relation = present().await?.ok_or_else(missing)?;
                schema_of(&relation.columns, choices(&spec))
            }
        };
        let (killer, statements) = (self.killer.clone(), self.statements.clone());
        Ok(Arc::new(MysqlTable { spec, location, schema, killer, statements, target }))
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
        Ok(Arc::new(MysqlCatalog::new(spec, self.killer.clone())?))
    }

    fn decode_scan(&self, encoded: Encoded<'_>) -> Result<Arc<dyn Scan>> {
        Ok(Arc::new(MysqlScan::decode(encoded, self.killer.clone())?))
    }

    fn decode_sink(&self, encoded: Encoded<'_>) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(MysqlSink::decode(encoded, self.killer.clone())?))
    }

    async fn settle(&self) {
        self.killer.settle().await;
    }
}

fn check_numbers(spec: &TableSpec) -> Result<()> {
    let least = [("connections", 1), ("split_rows", 1), ("statement_timeout", 0), ("connect_timeout", 0)];
    server::check_numbers(spec, &least)
}

fn name(spec: &TableSpec) -> &str {
    spec.options.text("table").unwrap_or("the query")
}

fn mode(spec: &TableSpec) -> Mode {
    Mode::parse(spec.options.text("snapshot").unwrap_or_default())
}

fn choices(spec: &TableSpec) -> Choices {
    let is = |option: &str, value: &str| spec.options.text(option).is_some_and(|text| text.eq_ignore_ascii_case(value));
    Choices { tinyint1_as_integer: is("tinyint1", "integer"), zero_dates_as_null: is("zero_dates", "null") }
}

fn unknown(spec: &TableSpec, column: &str) -> DataFusionError {
    plan_datafusion_err!("{} of MySQL has no column {column}", name(spec))
}

/// A column that nobody declares.
fn field_of(column: &ServerColumn, choices: Choices) -> Field {
    let becomes_null = choices.zero_dates_as_null && column.kind.wire(choices).is_temporal();
    Field::new(&column.name, column.kind.natural(choices), !column.not_null || becomes_null)
}

/// The columns that nobody declares, without those that `SELECT *` does not have.
fn schema_of(columns: &[ServerColumn], choices: Choices) -> SchemaRef {
    let shown = columns.iter().filter(|column| !column.is_hidden);
    Arc::new(Schema::new(shown.map(|column| field_of(column, choices)).collect::<Vec<_>>()))
}

/// The columns of a table that is created for such rows, as they will be read.
fn created(columns: &Schema) -> Result<SchemaRef> {
    let field = |field: &Arc<Field>| {
        let made = types::created(field.data_type());
        let made = made.map_err(|why| plan_datafusion_err!("the column {} cannot be created: {why}", field.name()))?;
        Ok(Field::new(field.name(), types::with_nanoseconds(made.natural(Choices::default()), field.data_type()), true))
    };
    Ok(Arc::new(Schema::new(columns.fields().iter().map(field).collect::<Result<Vec<_>>>()?)))
}

#[derive(Debug)]
struct MysqlTable {
    spec: Arc<TableSpec>,
    location: Location,
    schema: SchemaRef,
    killer: Killer,
    statements: Statements,
    target: Target,
}

impl MysqlTable {
    async fn settings(&self) -> Result<Arc<Settings>> {
        Ok(Arc::new(self.location.settings(&self.spec).await?))
    }

    async fn relation(&self, connection: &mut Connection) -> Result<Relation> {
        Ok(match self.spec.options.text(QUERY) {
            Some(query) => query::described(connection, query).await?,
            None => Relation::find(connection, name(&self.spec), self.database()).await?,
        })
    }

    /// What must hold of the state that is read, if a plan relies on these keys.
    fn relied(&self, relation: &Relation, keys: Option<&Constraints>) -> Option<Relied> {
        let keys = keys.filter(|_| relation.query.is_none())?;
        Some(Relied::new((&relation.database, &relation.name), &self.schema, keys))
    }

    fn database(&self) -> Option<&str> {
        self.location.database.as_deref()
    }

    /// Whether the server may find zero dates where it is asked for those that are NULL: it does in columns that are NOT NULL, and a query's may be.
    fn finds_zero_dates(&self, field: &Field) -> bool {
        !field.is_nullable() || self.spec.options.text(QUERY).is_some()
    }

    /// A column of the schema that a condition may be about.
    fn field(&self, name: &str) -> Option<&Field> {
        let field = self.schema.field_with_name(name).ok()?;
        let is_temporal = matches!(field.data_type(), DataType::Date32 | DataType::Timestamp(..));
        // What is NULL here is not NULL there.
        (!(is_temporal && choices(&self.spec).zero_dates_as_null)).then_some(field)
    }

    /// The column by whose ranges the table is read, with its bounds.
    async fn key(&self, relation: &Relation, connection: &mut Connection) -> Result<Option<Key>> {
        let chosen = self.spec.options.text("split_column");
        let Some(column) = chosen.or(relation.key.as_deref()) else { return Ok(None) };
        let known = relation.column(column).ok_or_else(|| unknown(&self.spec, column))?;
        let is_number = known.kind.natural(Choices { tinyint1_as_integer: true, ..Choices::default() }).is_integer()
            && !matches!(known.kind.wire(Choices::default()), Wire::Bit | Wire::Year);
        match (is_number, chosen) {
            (true, _) => {}
            (false, None) => return Ok(None),
            (false, Some(_)) => {
                return plan_err!(
                    "the split_column {column} is {}: expected a column of whole numbers",
                    known.kind.full
                );
            }
        }
        let name = quoted(&known.name);
        let bounds = format!("SELECT MIN({name}), MAX({name}) FROM {}", relation.quoted());
        let row = connection.rows(&bounds).await?.into_iter().next().unwrap_or_default();
        let bound = |at: usize| row.get(at)?.as_ref()?.parse::<i128>().ok();
        let (Some(least), Some(greatest)) = (bound(0), bound(1)) else { return Ok(None) };
        Ok(Some(Key { column: known.name.clone(), least, greatest, is_nullable: !known.not_null }))
    }

    async fn cut(
        &self,
        relation: &Relation,
        connection: &mut Connection,
        bounds: Bounds,
        limited: bool,
    ) -> Result<Cut> {
        let mode = mode(&self.spec);
        // Tables without versions have one state for one query, and what a query reads cannot be locked until several connections see one.
        let is_shared = relation.query.is_none() && (relation.is_transactional || relation.is_view);
        if limited || (mode == Mode::Table && !is_shared) || bounds.side_by_side(mode, relation.rows) == 1 {
            return Ok(Cut::whole());
        }
        let key = self.key(relation, connection).await?;
        Ok(key.map_or_else(Cut::whole, |key| Cut::by(&key, mode, relation.rows, bounds)))
    }
}

/// Before the server is asked.
struct Declared<'a>(&'a MysqlTable);

impl Columns for Declared<'_> {
    fn column(&self, name: &str) -> Option<Known> {
        let field = self.0.field(name)?;
        let (kind, not_null) = (field.data_type().clone(), self.0.finds_zero_dates(field));
        Some(Known { name: name.to_string(), kind, not_null, expression: quoted(name), is_stored: true })
    }
}

struct Found<'a> {
    table: &'a MysqlTable,
    relation: &'a Relation,
}

impl Columns for Found<'_> {
    fn column(&self, name: &str) -> Option<Known> {
        let field = self.table.field(name)?;
        let (kind, not_null) = (field.data_type().clone(), self.table.finds_zero_dates(field));
        let column = self.relation.column(name)?;
        let quoted = quoted(&column.name);
        let (wire, expression) = column.kind.read_as(&kind, choices(&self.table.spec), &quoted).ok()?;
        let is_stored = is_text(&kind) && wire == Wire::Text;
        Some(Known { name: name.to_string(), not_null, expression: column.kind.compared(&expression), is_stored, kind })
    }
}

#[async_trait]
impl ConnectorTable for MysqlTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(server::pushdown(&self.spec, filters, |filter| filter::sent(filter, &Declared(self)).is_some()))
    }

    async fn scan(&self, request: ScanRequest<'_>) -> Result<Arc<dyn Scan>> {
        let settings = self.settings().await?;
        let mut connection = Connection::open(&settings, &self.killer).await?;
        let relation = self.relation(&mut connection).await?;
        let column = |field: &Arc<Field>| {
            let known = relation.column(field.name()).ok_or_else(|| unknown(&self.spec, field.name()))?;
            let read = known.kind.read_as(field.data_type(), choices(&self.spec), &quoted(&known.name));
            let (wire, expression) =
                read.map_err(|why| plan_datafusion_err!("the column {} of MySQL {why}", field.name()))?;
            Ok((expression, wire.to_string()))
        };
        let columns = request.schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
        let (select, wires): (Vec<String>, Vec<String>) = columns.into_iter().unzip();
        let found = Found { table: self, relation: &relation };
        let condition = |filter: &Expr| {
            // All of it is known before: a column that is gone, or is of another type.
            filter::sent(filter, &found).ok_or_else(|| {
                plan_datafusion_err!(
                    "the columns of {} have changed: create the table again, or run the statement again if it is one of a catalog",
                    name(&self.spec)
                )
            })
        };
        let conditions = request.filters.iter().map(condition).collect::<Result<_>>()?;
        let limit = request.limit.filter(|_| server::pushes_down(&self.spec)).map(|limit| limit as u64);
        let number = |option: &str| u64::try_from(self.spec.options.integer(option).unwrap_or(1)).unwrap_or(1);
        let bounds = Bounds {
            split_rows: number("split_rows"),
            connections: number("connections") as usize,
            tasks: request.tasks,
        };
        let cut = self.cut(&relation, &mut connection, bounds, limit.is_some()).await?;
        let guard = match mode(&self.spec) {
            Mode::None => None,
            Mode::Table => Some(Arc::new(Guard::marked(connection).await?)),
            Mode::Locked => {
                let locked = self.statements.of(&settings, request.session);
                locked.add(connection, relation.quoted()).await?;
                Some(Arc::new(Guard::Locked(locked)))
            }
        };
        let query = Query {
            relied: self.relied(&relation, request.keys).into_iter().collect(),
            select: if wires.is_empty() { "COUNT(*)".to_string() } else { select.join(", ") },
            from: relation.quoted(),
            conditions,
            limit,
            wires,
            mark: guard.as_ref().map(|guard| guard.name().to_string()).unwrap_or_default(),
            ..Query::default()
        };
        let planned =
            Some(Planned { cut, rows: relation.rows, bytes: relation.bytes, distinct: relation.distinct, guard });
        let (table, killer) = (Arc::clone(&self.spec), self.killer.clone());
        Ok(Arc::new(MysqlScan { table, schema: request.schema, query, killer, planned }))
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
            return plan_err!("the rows of a query of MySQL are only read: make a table of the one that is meant");
        }
        let settings = self.settings().await?;
        let (table, database) = (Arc::clone(&self.spec), self.database());
        Ok(Arc::new(MysqlSink::new(table, database, self.target, request, &settings, self.killer.clone()).await?))
    }
}

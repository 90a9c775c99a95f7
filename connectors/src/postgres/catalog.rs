//! All tables of a database.

use super::error::{PostgresError, Result};
use super::relation::{self, ServerColumn};
use super::settings::Location;
use super::types::{Choices, Wire};
use super::wire::{Canceller, Connection, literal, quoted};
use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::{Constraint, Constraints, Result as DataFusionResult};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use windlass_engine::connector::{CatalogSchema, CatalogTable, ConnectorCatalog, TablePlace, TableSpec};

/// Kinds of relations that have rows.
const KINDS: &str = "('r', 'p', 'v', 'm', 'f')";
/// What a relation `c` of a schema `n` must be, to be read by this user.
const READABLE: &str = "pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
     AND (pg_catalog.has_table_privilege(c.oid, 'SELECT') OR pg_catalog.has_any_column_privilege(c.oid, 'SELECT'))";
/// Schemas of users: the server keeps the others' names for itself.
const OF_USERS: &str =
    "NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_') AND n.nspname <> 'information_schema'";

/// The tables of a database that a user may read.
#[derive(Debug)]
pub(super) struct PostgresCatalog {
    spec: Arc<TableSpec>,
    location: Location,
    canceller: Canceller,
}

impl PostgresCatalog {
    pub fn new(spec: Arc<TableSpec>, canceller: Canceller) -> DataFusionResult<Self> {
        let location = Location::parse(&spec.location)?;
        Ok(Self { spec, location, canceller })
    }

    async fn connection(&self) -> DataFusionResult<Connection> {
        let settings = Arc::new(self.location.settings(&self.spec).await?);
        Ok(Connection::open(&settings, &self.canceller).await?)
    }

    fn table(&self, name: &str, kind: &str, columns: Option<&[ServerColumn]>, keys: &[Key]) -> CatalogTable {
        let choices = super::choices(&self.spec);
        CatalogTable {
            name: name.to_string(),
            is_view: matches!(kind, "v" | "m"),
            columns: columns.map(|columns| relation::schema(columns, choices)),
            keys: columns.map(|columns| constraints(columns, keys, choices)).unwrap_or_default(),
        }
    }
}

#[async_trait]
impl ConnectorCatalog for PostgresCatalog {
    async fn schemas(&self, columns: bool) -> DataFusionResult<Vec<CatalogSchema>> {
        let mut connection = self.connection().await?;
        let relations = format!("c.relkind IN {KINDS} AND {READABLE}");
        let names = format!(
            "SELECT n.nspname, c.relname, c.relkind, c.oid FROM pg_catalog.pg_namespace n \
             LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND {relations} \
             WHERE {OF_USERS} AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')"
        );
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let rows = connection.execute(&names).await?;
        let (mut of_columns, mut of_keys) = (HashMap::new(), HashMap::new());
        if columns {
            let all = format!(
                "IN (SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                 WHERE {relations} AND {OF_USERS})"
            );
            of_columns = relation::columns_of(&mut connection, &all).await?;
            of_keys = keys(&mut connection, &all).await?;
        }
        let mut schemas: BTreeMap<String, Vec<CatalogTable>> = BTreeMap::new();
        for row in rows {
            let [Some(schema), table, kind, oid] = row.as_slice() else { continue };
            let tables = schemas.entry(schema.clone()).or_default();
            let (Some(table), Some(kind), Some(oid)) = (table, kind, oid) else { continue };
            let known = columns.then(|| of_columns.get(oid).map(Vec::as_slice).unwrap_or_default());
            tables.push(self.table(table, kind, known, of_keys.get(oid).map(Vec::as_slice).unwrap_or_default()));
        }
        Ok(schemas.into_iter().map(|(name, tables)| CatalogSchema { name, tables }).collect())
    }

    async fn table(&self, schema: &str, table: &str) -> DataFusionResult<Option<CatalogTable>> {
        let mut connection = self.connection().await?;
        let sql = format!(
            "SELECT c.oid, c.relkind FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = {} AND c.relname = {} AND c.relkind IN {KINDS} AND {READABLE}",
            literal(schema),
            literal(table)
        );
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let found = connection.execute(&sql).await?;
        let Some([Some(oid), Some(kind)]) = found.first().map(Vec::as_slice) else { return Ok(None) };
        let one = format!("= {oid}");
        let columns = relation::columns_of(&mut connection, &one).await?.remove(oid).unwrap_or_default();
        let keys = keys(&mut connection, &one).await?.remove(oid).unwrap_or_default();
        Ok(Some(self.table(table, kind, Some(&columns), &keys)))
    }

    fn place(&self, schema: &str, table: &str) -> TablePlace {
        let name = format!("{}.{}", quoted(schema), quoted(table));
        TablePlace { location: self.spec.location.clone(), options: vec![("table".to_string(), name)] }
    }
}

/// A key that the server enforces: names of columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub columns: Vec<String>,
    pub is_primary: bool,
}

/// The keys of the relations whose oid fulfils a condition, by that oid.
///
/// A unique index is a key if it is valid, checked at once rather than at the end of a transaction, about all rows, and about columns rather than
/// expressions. That of a table that others inherit from says nothing of their rows, which are read as its own.
pub(super) async fn keys(connection: &mut Connection, condition: &str) -> Result<HashMap<String, Vec<Key>>> {
    let sql = format!(
        "SELECT i.indrelid, i.indexrelid, i.indisprimary, a.attname \
         FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid \
         CROSS JOIN LATERAL pg_catalog.generate_series(0, i.indnkeyatts - 1) AS k(n) \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.n] \
         WHERE i.indrelid {condition} AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indisready AND i.indislive \
         AND i.indpred IS NULL AND i.indexprs IS NULL AND (c.relkind = 'p' OR (c.relkind = 'r' AND NOT c.relhassubclass)) \
         ORDER BY i.indrelid, i.indisprimary DESC, i.indexrelid, k.n"
    );
    let mut found: HashMap<String, Vec<Key>> = HashMap::new();
    let mut last = None;
    for row in connection.execute(&sql).await? {
        let [Some(relation), Some(index), Some(is_primary), Some(column)] = row.as_slice() else {
            return Err(PostgresError::Value("what the catalogs say of a table's keys is not understood".to_string()));
        };
        let of_relation = found.entry(relation.clone()).or_default();
        if last.as_ref() != Some(index) {
            of_relation.push(Key { columns: Vec::new(), is_primary: is_primary == "t" });
            last = Some(index.clone());
        }
        if let Some(key) = of_relation.last_mut() {
            key.columns.push(column.clone());
        }
    }
    Ok(found)
}

/// Whether the server still enforces the keys `wanted` of the columns `columns`. `table`: its name, as SQL writes it.
pub(super) async fn enforces(
    connection: &mut Connection,
    table: &str,
    columns: &Schema,
    wanted: &Constraints,
) -> Result<bool> {
    let one = format!("= pg_catalog.to_regclass({})", literal(table));
    let found: Vec<Key> = keys(connection, &one).await?.into_values().flatten().collect();
    let is_there = |constraint: &Constraint| {
        let (at, is_primary) = match constraint {
            Constraint::PrimaryKey(at) => (at, true),
            Constraint::Unique(at) => (at, false),
        };
        let name = |at: &usize| columns.fields().get(*at).map(|field| field.name().clone());
        let names: Option<Vec<String>> = at.iter().map(name).collect();
        found.iter().any(|key| Some(&key.columns) == names.as_ref() && (key.is_primary || !is_primary))
    };
    Ok(wanted.iter().all(is_there))
}

/// The keys that hold of what is read: values that differ on the server differ here. What is equal there may differ here.
fn constraints(columns: &[ServerColumn], keys: &[Key], choices: Choices) -> Constraints {
    let at = |name: &String| {
        let at = columns.iter().position(|column| column.name == *name)?;
        let kind = columns[at].kind.natural(choices);
        let wire = columns[at].kind.read_as(&kind, choices).ok()?;
        let is_kept = match wire {
            Wire::Bool
            | Wire::Int2
            | Wire::Int4
            | Wire::Int8
            | Wire::Oid
            | Wire::Numeric
            | Wire::Bytea
            | Wire::Time => true,
            Wire::Uuid | Wire::Text | Wire::Char => true,
            Wire::Date | Wire::Timestamp | Wire::TimestampTz => !choices.infinity_as_null,
            Wire::Float4 | Wire::Float8 | Wire::Interval | Wire::Jsonb | Wire::AsText | Wire::Array(_) => false,
        };
        (is_kept && !matches!(kind, DataType::List(_))).then_some(at)
    };
    let constraint = |key: &Key| {
        let at: Vec<usize> = key.columns.iter().map(at).collect::<Option<_>>()?;
        let never_null = at.iter().all(|at| columns[*at].not_null);
        Some(if key.is_primary && never_null { Constraint::PrimaryKey(at) } else { Constraint::Unique(at) })
    };
    Constraints::new_unverified(keys.iter().filter_map(constraint).collect())
}

#[cfg(test)]
mod tests {
    use super::super::types::ServerType;
    use super::*;

    #[test]
    fn keys_hold_of_what_is_read() {
        let column = |name: &str, oid: u32, not_null: bool| ServerColumn {
            name: name.to_string(),
            kind: ServerType { oid, modifier: -1, element: None, name: String::new() },
            not_null,
            is_deterministic: true,
            is_generated: false,
        };
        let columns =
            [column("id", 20, true), column("at", 1184, true), column("x", 701, true), column("u", 25, false)];
        let key = |names: &[&str], is_primary: bool| Key {
            columns: names.iter().map(ToString::to_string).collect(),
            is_primary,
        };
        let of = |keys: &[Key], infinity_as_null: bool| {
            let choices = Choices { infinity_as_null, ..Choices::default() };
            constraints(&columns, keys, choices).iter().cloned().collect::<Vec<_>>()
        };
        assert_eq!(of(&[key(&["at", "id"], true)], false), [Constraint::PrimaryKey(vec![1, 0])]);
        assert_eq!(of(&[key(&["at", "id"], true)], true), []);
        assert_eq!(of(&[key(&["x"], false), key(&["u"], false)], false), [Constraint::Unique(vec![3])]);
        assert_eq!(of(&[key(&["gone"], false)], false), []);
    }
}

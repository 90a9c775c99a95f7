//! All tables of a server, or of one of its databases.

use super::error::{MysqlError, Result};
use super::keys::{self, Key};
use super::relation::{self, ServerColumn};
use super::settings::Location;
use super::wire::{Connection, Killer, literal, quoted};
use async_trait::async_trait;
use datafusion::common::Result as DataFusionResult;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use windlass_engine::connector::{CatalogSchema, CatalogTable, ConnectorCatalog, TablePlace, TableSpec};

/// Databases of the server itself. They are not listed, and can be named.
const OF_SERVER: &str = "('information_schema', 'mysql', 'performance_schema', 'sys')";

/// The tables that a server shows to a user. Its databases are the schemas.
#[derive(Debug)]
pub(super) struct MysqlCatalog {
    spec: Arc<TableSpec>,
    location: Location,
    killer: Killer,
}

/// A table or view, without its columns.
struct Named {
    database: String,
    name: String,
    is_view: bool,
    /// It has versions of its rows, so that its keys hold of the state that is read.
    is_transactional: bool,
}

impl MysqlCatalog {
    pub fn new(spec: Arc<TableSpec>, killer: Killer) -> DataFusionResult<Self> {
        let location = Location::parse(&spec.location)?;
        Ok(Self { spec, location, killer })
    }

    async fn connection(&self) -> DataFusionResult<Connection> {
        let settings = Arc::new(self.location.settings(&self.spec).await?);
        Ok(Connection::open(&settings, &self.killer).await?)
    }

    /// Whether a schema is one of this catalog. The information schema compares names without their case, whatever the server does.
    fn shows(&self, schema: &str, has_case: bool) -> bool {
        let same = |only: &str| only == schema || !has_case && only.to_lowercase() == schema.to_lowercase();
        self.location.database.as_deref().is_none_or(same)
    }

    /// A condition on the rows of the information schema: those of the schemas that lists show.
    fn listed(&self, database: &str) -> String {
        match &self.location.database {
            Some(only) => format!("{database} = {}", literal(only)),
            None => format!("{database} NOT IN {OF_SERVER}"),
        }
    }

    fn table(&self, named: &Named, columns: Option<&[ServerColumn]>, keys: &[Key]) -> CatalogTable {
        let choices = super::choices(&self.spec);
        let hold = named.is_transactional && super::mode(&self.spec).sees_one_state();
        CatalogTable {
            name: named.name.clone(),
            is_view: named.is_view,
            columns: columns.map(|columns| super::schema_of(columns, choices)),
            keys: columns.filter(|_| hold).map(|columns| keys::constraints(columns, keys, choices)).unwrap_or_default(),
        }
    }
}

async fn named(connection: &mut Connection, condition: &str) -> Result<Vec<Named>> {
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE FROM information_schema.TABLES WHERE TABLE_TYPE <> 'SEQUENCE' AND {condition}"
    );
    let table = |row: Vec<Option<String>>| {
        let [Some(database), Some(name), Some(kind), engine] = <[_; 4]>::try_from(row).ok()? else { return None };
        let is_transactional = relation::is_transactional(&engine.unwrap_or_default());
        Some(Named { database, name, is_view: kind.contains("VIEW"), is_transactional })
    };
    Ok(connection.rows(&sql).await?.into_iter().filter_map(table).collect())
}

#[async_trait]
impl ConnectorCatalog for MysqlCatalog {
    async fn schemas(&self, columns: bool) -> DataFusionResult<Vec<CatalogSchema>> {
        let mut connection = self.connection().await?;
        let databases =
            format!("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE {}", self.listed("SCHEMA_NAME"));
        let has_case = connection.has_case;
        let databases = connection.rows(&databases).await?.into_iter().flatten().flatten();
        let mut schemas: BTreeMap<String, Vec<CatalogTable>> =
            databases.filter(|name| self.shows(name, has_case)).map(|name| (name, Vec::new())).collect();
        let listed = self.listed("TABLE_SCHEMA");
        let all = named(&mut connection, &listed).await?;
        let (mut of_columns, mut of_keys) = (HashMap::new(), keys::Keys::new());
        if columns {
            of_columns = relation::columns_of(&mut connection, &listed).await?;
            of_keys = keys::keys(&mut connection, &listed).await?;
        }
        for table in all {
            let Some(tables) = schemas.get_mut(&table.database) else { continue };
            let place = (table.database.clone(), table.name.clone());
            let known = columns.then(|| of_columns.get(&place).map(Vec::as_slice).unwrap_or_default());
            let keys = of_keys.get(&place).map(Vec::as_slice).unwrap_or_default();
            tables.push(self.table(&table, known, keys));
        }
        Ok(schemas.into_iter().map(|(name, tables)| CatalogSchema { name, tables }).collect())
    }

    async fn table(&self, schema: &str, table: &str) -> DataFusionResult<Option<CatalogTable>> {
        let mut connection = self.connection().await?;
        if !self.shows(schema, connection.has_case) {
            return Ok(None);
        }
        let one = format!("TABLE_SCHEMA = {} AND TABLE_NAME = {}", literal(schema), literal(table));
        // The information schema compares names without their case, whatever the server does.
        let found = named(&mut connection, &one).await?;
        let Some(named) = found.into_iter().find(|of| of.database == schema && of.name == table) else {
            return Ok(None);
        };
        let place = (schema.to_string(), table.to_string());
        let columns = relation::columns_of(&mut connection, &one).await?.remove(&place);
        let columns = columns.ok_or_else(|| {
            MysqlError::Value(format!(
                "the columns of {}.{} of MySQL are not shown to this user, or it is a view of what is gone",
                quoted(schema),
                quoted(table)
            ))
        })?;
        let keys = keys::keys_of(&mut connection, schema, table).await?;
        Ok(Some(self.table(&named, Some(&columns), &keys)))
    }

    fn place(&self, schema: &str, table: &str) -> TablePlace {
        let name = format!("{}.{}", quoted(schema), quoted(table));
        TablePlace { location: self.spec.location.clone(), options: vec![("table".to_string(), name)] }
    }
}

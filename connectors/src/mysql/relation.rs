//! What a server's information schema says of a table.

use super::error::{MysqlError, Result};
use super::query;
use super::types::ServerType;
use super::wire::{Connection, literal, quoted};
use std::collections::{HashMap, HashSet};

/// A table or view of a server.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    pub database: String,
    pub name: String,
    pub columns: Vec<ServerColumn>,
    /// About; absent: nobody counted them.
    pub rows: Option<u64>,
    pub bytes: Option<u64>,
    /// Has versions of its rows, so that a transaction sees one state of it, and what is not committed is undone.
    pub is_transactional: bool,
    pub is_view: bool,
    /// The first column of the primary key.
    pub key: Option<String>,
    /// The columns that begin an index.
    pub indexed: HashSet<String>,
    /// About how many values differ in such a column.
    pub distinct: HashMap<String, u64>,
    /// The query whose rows it is, in place of a name.
    pub query: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct ServerColumn {
    pub name: String,
    pub kind: ServerType,
    pub not_null: bool,
    /// The server computes it.
    pub is_generated: bool,
    /// The server counts it up (AUTO_INCREMENT).
    pub is_numbered: bool,
    /// `SELECT *` does not have it.
    pub is_hidden: bool,
}

/// A table's name as SQL writes it, in its parts: the quotes of MySQL, or those of the standard.
fn parts(table: &str) -> Option<Vec<String>> {
    let mut parts = vec![String::new()];
    let mut characters = table.trim().chars().peekable();
    let mut quote = None;
    while let Some(character) = characters.next() {
        let last = parts.last_mut()?;
        match (character, quote) {
            (character, Some(open)) if character == open => {
                if characters.next_if_eq(&open).is_some() {
                    last.push(open);
                } else {
                    quote = None;
                }
            }
            ('`' | '"', None) => quote = Some(character),
            ('.', None) => parts.push(String::new()),
            (character, _) => last.push(character),
        }
    }
    (quote.is_none() && parts.iter().all(|part| !part.is_empty()) && parts.len() <= 2).then_some(parts)
}

/// Database and name of a table that is named as in SQL, in `database` unless it says another one.
pub(super) fn qualified(table: &str, database: Option<&str>) -> Result<(String, String)> {
    let wrong = || MysqlError::Value(format!("{table} is no name of a table: expected table or database.table"));
    match (parts(table).ok_or_else(wrong)?.as_slice(), database) {
        ([name], Some(database)) => Ok((database.to_string(), name.clone())),
        ([name], None) => Err(MysqlError::Value(format!(
            "the location names no database, and the table {name} neither: write database.table, or mysql://user@host/database"
        ))),
        ([database, name], _) => Ok((database.clone(), name.clone())),
        _ => Err(wrong()),
    }
}

/// Whether tables of this engine have versions of their rows, so that a transaction sees one state, and what is not committed is undone.
pub(super) fn is_transactional(engine: &str) -> bool {
    ["innodb", "rocksdb", "tokudb", "ndbcluster", "ndb"].iter().any(|known| engine.eq_ignore_ascii_case(known))
}

impl Relation {
    /// Asks for a table by its name, which is written as in SQL.
    ///
    /// # Errors
    /// There is none of this name, or it has no columns.
    pub async fn find(connection: &mut Connection, table: &str, database: Option<&str>) -> Result<Self> {
        let found = Self::look(connection, table, database).await?;
        found.ok_or_else(|| MysqlError::Value(format!("MySQL has no table {table}, or does not show it to this user")))
    }

    /// Like [`Relation::find`]; `None`: there is none.
    pub async fn look(connection: &mut Connection, table: &str, database: Option<&str>) -> Result<Option<Self>> {
        let (database, name) = qualified(table, database)?;
        let found = connection
            .rows(&format!(
                "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE, TABLE_ROWS, DATA_LENGTH FROM information_schema.TABLES \
                 WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
                literal(&database),
                literal(&name)
            ))
            .await?;
        // The information schema compares names without their case, whatever the server does.
        let is_it = |row: &&Vec<Option<String>>| {
            let same = |at: usize, name: &str| row.get(at).is_some_and(|found| found.as_deref() == Some(name));
            !connection.has_case || (same(0, &database) && same(1, &name))
        };
        let Some(row) = found.iter().find(is_it) else { return Ok(None) };
        let text = |at: usize| row.get(at).and_then(Option::as_deref);
        let (database, name) = (text(0).unwrap_or(&database).to_string(), text(1).unwrap_or(&name).to_string());
        let is_view = text(2).is_some_and(|kind| kind.contains("VIEW"));
        let is_transactional = is_transactional(text(3).unwrap_or_default());
        let number = |at: usize| text(at).and_then(|number| number.parse::<u64>().ok());
        let one = format!("TABLE_SCHEMA = {} AND TABLE_NAME = {}", literal(&database), literal(&name));
        let place = (database.clone(), name.clone());
        let Some(columns) = columns_of(connection, &one).await?.remove(&place) else {
            return Err(MysqlError::Value(format!("the columns of {table} of MySQL are not shown to this user")));
        };
        let Indexes { key, indexed, distinct } = Indexes::of(connection, &database, &name).await?;
        Ok(Some(Self {
            database,
            name,
            columns,
            rows: number(4).filter(|_| !is_view),
            bytes: number(5).filter(|_| !is_view),
            is_transactional,
            is_view,
            key,
            indexed,
            distinct,
            query: None,
        }))
    }

    /// Its name for SQL.
    pub fn quoted(&self) -> String {
        match &self.query {
            Some(query) => query::as_table(query),
            None => format!("{}.{}", quoted(&self.database), quoted(&self.name)),
        }
    }

    /// Names of columns have no case on the server.
    pub fn column(&self, name: &str) -> Option<&ServerColumn> {
        let exact = self.columns.iter().find(|column| column.name == name);
        exact.or_else(|| self.columns.iter().find(|column| column.name.to_lowercase() == name.to_lowercase()))
    }
}

/// What a table's indexes say of the columns that they begin with.
#[derive(Default)]
struct Indexes {
    key: Option<String>,
    indexed: HashSet<String>,
    distinct: HashMap<String, u64>,
}

impl Indexes {
    async fn of(connection: &mut Connection, database: &str, name: &str) -> Result<Self> {
        let rows = connection
            .rows(&format!(
                "SELECT COLUMN_NAME, INDEX_NAME, CARDINALITY, SUB_PART FROM information_schema.STATISTICS \
                 WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} AND SEQ_IN_INDEX = 1",
                literal(database),
                literal(name)
            ))
            .await?;
        let mut found = Self::default();
        for row in rows {
            let [Some(column), index, counted, part] = <[_; 4]>::try_from(row).unwrap_or_default() else { continue };
            if index.as_deref() == Some("PRIMARY") {
                found.key = Some(column.clone());
            }
            // The beginnings of texts differ less than the texts.
            if part.is_some() {
                continue;
            }
            found.indexed.insert(column.clone());
            if let Some(counted) = counted.and_then(|counted| counted.parse::<u64>().ok()) {
                found.distinct.insert(column, counted);
            }
        }
        Ok(found)
    }
}

/// The columns of tables, in their order, by database and table.
pub(super) type ColumnsOf = HashMap<(String, String), Vec<ServerColumn>>;

/// The columns of the tables whose rows of `information_schema.COLUMNS` fulfil a condition.
pub(super) async fn columns_of(connection: &mut Connection, condition: &str) -> Result<ColumnsOf> {
    let rows = connection
        .rows(&format!(
            "SELECT TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, IS_NULLABLE, NUMERIC_PRECISION, NUMERIC_SCALE, \
             DATETIME_PRECISION, CHARACTER_SET_NAME, COLLATION_NAME, EXTRA, TABLE_SCHEMA FROM information_schema.COLUMNS \
             WHERE {condition} ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"
        ))
        .await?;
    let column = |row: &Vec<Option<String>>| {
        let text = |at: usize| row.get(at).and_then(Option::as_deref);
        let number = |at: usize| text(at).and_then(|number| number.parse::<u32>().ok());
        let extra = text(10).unwrap_or_default().to_ascii_uppercase();
        // DEFAULT_GENERATED is a default.
        let is_generated = ["VIRTUAL", "STORED", "PERSISTENT"].iter().any(|word| extra.contains(word));
        let column = ServerColumn {
            name: text(1)?.to_string(),
            kind: ServerType {
                data: text(2)?.to_ascii_lowercase(),
                full: text(3)?.to_string(),
                precision: number(5),
                scale: number(6),
                fraction: number(7),
                charset: text(8).map(str::to_string),
                collation: text(9).map(str::to_string),
            },
            not_null: text(4)? == "NO",
            is_generated,
            is_numbered: extra.contains("AUTO_INCREMENT"),
            is_hidden: extra.contains("INVISIBLE"),
        };
        Some(((text(11)?.to_string(), text(0)?.to_string()), column))
    };
    let mut found = ColumnsOf::new();
    for row in &rows {
        let not_understood =
            || MysqlError::Value("what the information schema says of a table's columns is not understood".to_string());
        let (table, column) = column(row).ok_or_else(not_understood)?;
        found.entry(table).or_default().push(column);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_sql_writes_them() {
        let pair = |(database, name): (&str, &str)| (database.to_string(), name.to_string());
        assert_eq!(qualified("orders", Some("shop")).unwrap(), pair(("shop", "orders")));
        assert_eq!(qualified("old.orders", None).unwrap(), pair(("old", "orders")));
        assert_eq!(qualified("`a.b`.`c``d`", Some("shop")).unwrap(), pair(("a.b", "c`d")));
        assert_eq!(qualified("\"a`b\".\"c\"\"d\"", None).unwrap(), pair(("a`b", "c\"d")));
        assert!(qualified("orders", None).unwrap_err().to_string().contains("names no database"));
        for wrong in ["", "a.", "`a", "`a\"", "a.b.c"] {
            assert!(qualified(wrong, Some("shop")).is_err(), "{wrong}");
        }
    }
}

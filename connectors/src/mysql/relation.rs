//! What a server's information schema says of a table.

use super::error::{MysqlError, Result};
use super::types::ServerType;
use super::wire::{Connection, literal, quoted};

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

/// A table's name as SQL writes it, in its parts.
fn parts(table: &str) -> Option<Vec<String>> {
    let mut parts = vec![String::new()];
    let mut characters = table.trim().chars().peekable();
    let mut is_quoted = false;
    while let Some(character) = characters.next() {
        let last = parts.last_mut()?;
        match character {
            '`' if is_quoted && characters.peek() == Some(&'`') => {
                characters.next();
                last.push('`');
            }
            '`' => is_quoted = !is_quoted,
            '.' if !is_quoted => parts.push(String::new()),
            character => last.push(character),
        }
    }
    (!is_quoted && parts.iter().all(|part| !part.is_empty()) && parts.len() <= 2).then_some(parts)
}

/// Database and name of a table that is named as in SQL, in `database` unless it says another one.
pub(super) fn qualified(table: &str, database: &str) -> Result<(String, String)> {
    let wrong = || MysqlError::Value(format!("{table} is no name of a table: expected table or database.table"));
    match parts(table).ok_or_else(wrong)?.as_slice() {
        [name] => Ok((database.to_string(), name.clone())),
        [database, name] => Ok((database.clone(), name.clone())),
        _ => Err(wrong()),
    }
}

impl Relation {
    /// Asks for a table by its name, which is written as in SQL.
    ///
    /// # Errors
    /// There is none of this name, or it has no columns.
    pub async fn find(connection: &mut Connection, table: &str, database: &str) -> Result<Self> {
        let found = Self::look(connection, table, database).await?;
        found.ok_or_else(|| MysqlError::Value(format!("MySQL has no table {table}, or does not show it to this user")))
    }

    /// Like [`Relation::find`]; `None`: there is none.
    pub async fn look(connection: &mut Connection, table: &str, database: &str) -> Result<Option<Self>> {
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
        let engine = text(3).unwrap_or_default().to_ascii_lowercase();
        let number = |at: usize| text(at).and_then(|number| number.parse::<u64>().ok());
        let columns = columns(connection, &database, &name).await?;
        if columns.is_empty() {
            return Err(MysqlError::Value(format!("the columns of {table} of MySQL are not shown to this user")));
        }
        let key = connection
            .value(&format!(
                "SELECT COLUMN_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} \
                 AND INDEX_NAME = 'PRIMARY' AND SEQ_IN_INDEX = 1",
                literal(&database),
                literal(&name)
            ))
            .await?;
        Ok(Some(Self {
            database,
            name,
            columns,
            rows: number(4).filter(|_| !is_view),
            bytes: number(5).filter(|_| !is_view),
            is_transactional: ["innodb", "rocksdb", "tokudb", "ndbcluster", "ndb"].contains(&engine.as_str()),
            is_view,
            key,
        }))
    }

    /// Its name for SQL.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.database), quoted(&self.name))
    }

    /// Names of columns have no case on the server.
    pub fn column(&self, name: &str) -> Option<&ServerColumn> {
        let exact = self.columns.iter().find(|column| column.name == name);
        exact.or_else(|| self.columns.iter().find(|column| column.name.to_lowercase() == name.to_lowercase()))
    }
}

async fn columns(connection: &mut Connection, database: &str, name: &str) -> Result<Vec<ServerColumn>> {
    let rows = connection
        .rows(&format!(
            "SELECT TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, IS_NULLABLE, NUMERIC_PRECISION, NUMERIC_SCALE, \
             DATETIME_PRECISION, CHARACTER_SET_NAME, COLLATION_NAME, EXTRA FROM information_schema.COLUMNS \
             WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} ORDER BY ORDINAL_POSITION",
            literal(database),
            literal(name)
        ))
        .await?;
    let column = |row: &Vec<Option<String>>| {
        let text = |at: usize| row.get(at).and_then(Option::as_deref);
        let number = |at: usize| text(at).and_then(|number| number.parse::<u32>().ok());
        let extra = text(10).unwrap_or_default().to_ascii_uppercase();
        // DEFAULT_GENERATED is a default.
        let is_generated = ["VIRTUAL", "STORED", "PERSISTENT"].iter().any(|word| extra.contains(word));
        Some(ServerColumn {
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
        })
    };
    let of_it = |row: &&Vec<Option<String>>| row.first().is_some_and(|found| found.as_deref() == Some(name));
    let found: Option<Vec<ServerColumn>> = rows.iter().filter(of_it).map(column).collect();
    found.ok_or_else(|| {
        MysqlError::Value("what the information schema says of the table's columns is not understood".to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_sql_writes_them() {
        let pair = |(database, name): (&str, &str)| (database.to_string(), name.to_string());
        assert_eq!(qualified("orders", "shop").unwrap(), pair(("shop", "orders")));
        assert_eq!(qualified("old.orders", "shop").unwrap(), pair(("old", "orders")));
        assert_eq!(qualified("`a.b`.`c``d`", "shop").unwrap(), pair(("a.b", "c`d")));
        for wrong in ["", "a.", "`a", "a.b.c"] {
            assert!(qualified(wrong, "shop").is_err(), "{wrong}");
        }
    }
}

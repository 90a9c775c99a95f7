//! Keys that a server enforces.

use super::error::Result;
use super::wire::{Connection, literal};
use std::collections::BTreeMap;

/// A unique index of whole columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub columns: Vec<String>,
    pub is_primary: bool,
}

/// The keys of tables, by database and table.
pub(super) type Keys = BTreeMap<(String, String), Vec<Key>>;

/// The keys of the tables whose rows of `information_schema.STATISTICS` fulfil a condition. The primary key of each comes first.
pub(super) async fn keys(connection: &mut Connection, condition: &str) -> Result<Keys> {
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, COLUMN_NAME, SUB_PART FROM information_schema.STATISTICS \
         WHERE NON_UNIQUE = 0 AND {condition} ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX"
    );
    // An index of expressions, or of the beginnings of columns, has a column that is none.
    let mut found: BTreeMap<(String, String), Vec<(String, Vec<Option<String>>)>> = BTreeMap::new();
    for row in connection.rows(&sql).await? {
        let [Some(database), Some(table), Some(index), column, part] = <[_; 5]>::try_from(row).unwrap_or_default()
        else {
            continue;
        };
        let of_table = found.entry((database, table)).or_default();
        let column = column.filter(|_| part.is_none());
        match of_table.last_mut().filter(|(last, _)| *last == index) {
            Some((_, columns)) => columns.push(column),
            None => of_table.push((index, vec![column])),
        }
    }
    let key = |(index, columns): (String, Vec<Option<String>>)| {
        let columns = columns.into_iter().collect::<Option<Vec<String>>>()?;
        Some(Key { columns, is_primary: index == "PRIMARY" })
    };
    let of_table = |(place, keys): (_, Vec<_>)| (place, keys.into_iter().filter_map(key).collect());
    Ok(found.into_iter().map(of_table).collect())
}

/// The keys of one table, whose names are the server's.
pub(super) async fn keys_of(connection: &mut Connection, database: &str, table: &str) -> Result<Vec<Key>> {
    let one = format!("TABLE_SCHEMA = {} AND TABLE_NAME = {}", literal(database), literal(table));
    // The information schema compares names without their case, whatever the server does.
    Ok(keys(connection, &one).await?.remove(&(database.to_string(), table.to_string())).unwrap_or_default())
}

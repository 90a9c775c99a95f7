//! Keys that a server enforces.

use super::error::{MysqlError, Result};
use super::relation::ServerColumn;
use super::types::{Choices, Wire};
use super::wire::{Connection, literal};
use datafusion::arrow::datatypes::Schema;
use datafusion::common::{Constraint, Constraints};
use prost::Message;
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

/// Character sets whose different texts are different ones of Unicode.
const ONE_TO_ONE: [&str; 9] = ["utf8mb4", "utf8mb3", "utf8", "ascii", "latin1", "ucs2", "utf16", "utf16le", "utf32"];

/// Whether values that differ on the server differ here. Those that are equal there may differ here.
fn is_kept(column: &ServerColumn, choices: Choices) -> bool {
    let kind = &column.kind;
    match kind.wire(choices) {
        Wire::Bool | Wire::Int | Wire::Year | Wire::Bit | Wire::Decimal | Wire::Bytes => true,
        Wire::Date | Wire::DateTime | Wire::Timestamp => !choices.zero_dates_as_null,
        Wire::Text => {
            let is_plain = !matches!(kind.data.as_str(), "enum" | "set");
            is_plain && kind.charset.as_deref().is_some_and(|charset| ONE_TO_ONE.contains(&charset))
        }
        Wire::AsText => kind.data == "uuid",
        Wire::Float | Wire::Double | Wire::Time | Wire::Json | Wire::Geometry => false,
    }
}

/// The keys that hold of what is read, as positions of the columns that lists show.
pub(super) fn constraints(columns: &[ServerColumn], keys: &[Key], choices: Choices) -> Constraints {
    let shown: Vec<&ServerColumn> = columns.iter().filter(|column| !column.is_hidden).collect();
    let at = |name: &String| {
        let at = shown.iter().position(|column| column.name == *name)?;
        is_kept(shown[at], choices).then_some(at)
    };
    let constraint = |key: &Key| {
        let at: Vec<usize> = key.columns.iter().map(at).collect::<Option<_>>()?;
        let never_null = at.iter().all(|at| shown[*at].not_null);
        Some(if key.is_primary && never_null { Constraint::PrimaryKey(at) } else { Constraint::Unique(at) })
    };
    Constraints::new_unverified(keys.iter().filter_map(constraint).collect())
}

/// The keys on which a plan relies.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Relied {
    #[prost(string, tag = "1")]
    database: String,
    #[prost(string, tag = "2")]
    table: String,
    #[prost(message, repeated, tag = "3")]
    keys: Vec<ReliedKey>,
}

#[derive(Clone, PartialEq, Message)]
struct ReliedKey {
    #[prost(string, repeated, tag = "1")]
    columns: Vec<String>,
}

impl Relied {
    pub fn new((database, table): (&str, &str), columns: &Schema, keys: &Constraints) -> Self {
        let name = |at: &usize| columns.fields().get(*at).map(|field| field.name().clone());
        let key = |constraint: &Constraint| {
            let (Constraint::PrimaryKey(at) | Constraint::Unique(at)) = constraint;
            ReliedKey { columns: at.iter().filter_map(name).collect() }
        };
        let keys = keys.iter().map(key).collect();
        Self { database: database.to_string(), table: table.to_string(), keys }
    }

    /// Asks whether the server enforces the keys. Whoever has begun to read one state, and then finds them there, has read no row that breaks them: only a table
    /// without the key takes one, and later states are not seen.
    ///
    /// # Errors
    /// One of them is gone.
    pub async fn check(&self, connection: &mut Connection) -> Result<()> {
        let known = keys_of(connection, &self.database, &self.table).await?;
        match self.keys.iter().all(|key| known.iter().any(|known| known.columns == key.columns)) {
            true => Ok(()),
            false => Err(MysqlError::Value(format!(
                "the keys of {}.{} have changed: run the statement again in a few seconds",
                self.database, self.table
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::ServerType;
    use super::*;

    #[test]
    fn keys_hold_of_what_is_read() {
        let column = |name: &str, data: &str, charset: Option<&str>, not_null: bool| ServerColumn {
            name: name.to_string(),
            kind: ServerType {
                data: data.to_string(),
                full: data.to_string(),
                charset: charset.map(str::to_string),
                ..ServerType::default()
            },
            not_null,
            is_generated: false,
            is_numbered: false,
            is_hidden: name == "hidden",
        };
        let columns = [
            column("hidden", "int", None, true),
            column("id", "bigint", None, true),
            column("at", "datetime", None, true),
            column("x", "double", None, true),
            column("u", "varchar", Some("utf8mb4"), false),
            column("j", "varchar", Some("cp932"), true),
            column("e", "enum", Some("utf8mb4"), true),
        ];
        let key = |names: &[&str], is_primary: bool| Key {
            columns: names.iter().map(ToString::to_string).collect(),
            is_primary,
        };
        let of = |keys: &[Key], zero_dates_as_null: bool| {
            let choices = Choices { zero_dates_as_null, ..Choices::default() };
            constraints(&columns, keys, choices).iter().cloned().collect::<Vec<_>>()
        };
        assert_eq!(of(&[key(&["at", "id"], true)], false), [Constraint::PrimaryKey(vec![1, 0])]);
        assert_eq!(of(&[key(&["at", "id"], true)], true), []);
        assert_eq!(of(&[key(&["x"], false), key(&["u"], false)], false), [Constraint::Unique(vec![3])]);
        assert_eq!(
            of(&[key(&["j"], false), key(&["e"], true), key(&["hidden"], false), key(&["gone"], true)], false),
            []
        );
    }
}

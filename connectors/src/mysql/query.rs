//! Tables whose rows are those of a query.
//!
//! The text stands in parentheses inside the statements that are sent, and may not break out of them. The server itself says first that it is one statement that
//! stands alone, by preparing it, which runs nothing: what its parser takes for one has no parenthesis, quote or comment that ends outside of it. Then it prepares it in
//! parentheses, where only a query can stand, and says which columns that has.

use super::error::{MysqlError, Result};
use super::relation::{Relation, ServerColumn};
use super::types::ServerType;
use super::wire::Connection;
use mysql_async::Column;
use mysql_async::consts::{ColumnFlags, ColumnType};
use std::collections::{HashMap, HashSet};

/// The collation of bytes.
const BINARY: u16 = 63;

/// The query as a table after FROM. A comment at its end ends with the line.
pub(super) fn as_table(query: &str) -> String {
    format!("({query}\n) AS `query`")
}

/// Without a semicolon at its end.
fn trimmed(query: &str) -> &str {
    query.trim_end_matches(|c: char| c.is_whitespace() || c == ';')
}

/// Finds out the columns of a query, without running it.
///
/// # Errors
/// It is no query that reads, or two columns have one name.
pub(super) async fn described(connection: &mut Connection, query: &str) -> Result<Relation> {
    let query = trimmed(query);
    if connection.prepared(query).await?.is_empty() {
        return Err(MysqlError::Value("the statement has no rows: expected a query that reads".to_string()));
    }
    let columns = connection.prepared(&format!("SELECT * FROM {}", as_table(query))).await?;
    let column = |column: &Column| ServerColumn {
        name: column.name_str().into_owned(),
        kind: kind(column),
        // NOT NULL of the columns below is not always that of a query's.
        not_null: false,
        is_generated: false,
        is_numbered: false,
        is_hidden: false,
    };
    Ok(Relation {
        database: String::new(),
        name: "the query".to_string(),
        columns: columns.iter().map(column).collect(),
        rows: None,
        bytes: None,
        is_transactional: true,
        is_view: true,
        key: None,
        indexed: HashSet::new(),
        distinct: HashMap::new(),
        query: Some(query.to_string()),
    })
}

/// The type of a column as the protocol describes it.
/// <https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query_response_text_resultset_column_definition.html>
fn kind(column: &Column) -> ServerType {
    let (length, flags) = (column.column_length(), column.flags());
    let is_unsigned = flags.contains(ColumnFlags::UNSIGNED_FLAG);
    let (is_binary, places) = (column.character_set() == BINARY, u32::from(column.decimals()));
    let plain = |data: &str| {
        let unsigned = if is_unsigned { " unsigned" } else { "" };
        ServerType { data: data.into(), full: format!("{data}{unsigned}"), ..ServerType::default() }
    };
    let text = |text: &str, binary: &str| if is_binary { plain(binary) } else { plain(text) };
    match column.column_type() {
        ColumnType::MYSQL_TYPE_TINY if length == 1 && !is_unsigned => {
            ServerType { full: "tinyint(1)".into(), ..plain("tinyint") }
        }
        ColumnType::MYSQL_TYPE_TINY => plain("tinyint"),
        ColumnType::MYSQL_TYPE_SHORT => plain("smallint"),
        ColumnType::MYSQL_TYPE_INT24 => plain("mediumint"),
        ColumnType::MYSQL_TYPE_LONG => plain("int"),
        ColumnType::MYSQL_TYPE_LONGLONG => plain("bigint"),
        ColumnType::MYSQL_TYPE_YEAR => plain("year"),
        ColumnType::MYSQL_TYPE_BIT => ServerType { precision: Some(length), ..plain("bit") },
        ColumnType::MYSQL_TYPE_FLOAT => plain("float"),
        ColumnType::MYSQL_TYPE_DOUBLE => plain("double"),
        ColumnType::MYSQL_TYPE_DECIMAL | ColumnType::MYSQL_TYPE_NEWDECIMAL => {
            // The length has a point and a sign.
            let digits = length.saturating_sub(u32::from(places > 0) + u32::from(!is_unsigned));
            let full = format!("decimal({digits},{places})");
            ServerType { precision: Some(digits), scale: Some(places), full, ..plain("decimal") }
        }
        ColumnType::MYSQL_TYPE_DATE | ColumnType::MYSQL_TYPE_NEWDATE => plain("date"),
        ColumnType::MYSQL_TYPE_DATETIME | ColumnType::MYSQL_TYPE_DATETIME2 => plain("datetime"),
        ColumnType::MYSQL_TYPE_TIMESTAMP | ColumnType::MYSQL_TYPE_TIMESTAMP2 => plain("timestamp"),
        ColumnType::MYSQL_TYPE_TIME | ColumnType::MYSQL_TYPE_TIME2 => plain("time"),
        ColumnType::MYSQL_TYPE_JSON => plain("json"),
        ColumnType::MYSQL_TYPE_GEOMETRY => plain("geometry"),
        ColumnType::MYSQL_TYPE_TINY_BLOB
        | ColumnType::MYSQL_TYPE_MEDIUM_BLOB
        | ColumnType::MYSQL_TYPE_LONG_BLOB
        | ColumnType::MYSQL_TYPE_BLOB => text("longtext", "longblob"),
        ColumnType::MYSQL_TYPE_VECTOR => plain("vector"),
        // A column of nothing but NULL.
        ColumnType::MYSQL_TYPE_NULL => plain("varchar"),
        _ => text("varchar", "varbinary"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::Choices;
    use super::*;
    use datafusion::arrow::datatypes::DataType;

    #[test]
    fn types_are_those_of_the_protocol() {
        let column = |kind, length, decimals, flags, charset| {
            let column = Column::new(kind).with_column_length(length).with_decimals(decimals);
            super::kind(&column.with_flags(flags).with_character_set(charset)).natural(Choices::default())
        };
        let (none, unsigned) = (ColumnFlags::empty(), ColumnFlags::UNSIGNED_FLAG);
        use ColumnType::*;
        assert_eq!(column(MYSQL_TYPE_TINY, 1, 0, none, BINARY), DataType::Boolean);
        assert_eq!(column(MYSQL_TYPE_TINY, 4, 0, none, BINARY), DataType::Int8);
        assert_eq!(column(MYSQL_TYPE_LONGLONG, 20, 0, unsigned, BINARY), DataType::UInt64);
        assert_eq!(column(MYSQL_TYPE_NEWDECIMAL, 12, 2, none, BINARY), DataType::Decimal128(10, 2));
        assert_eq!(column(MYSQL_TYPE_NEWDECIMAL, 10, 0, unsigned, BINARY), DataType::Decimal128(10, 0));
        assert_eq!(column(MYSQL_TYPE_VAR_STRING, 20, 0, none, 45), DataType::Utf8);
        assert_eq!(column(MYSQL_TYPE_BLOB, 20, 0, none, BINARY), DataType::Binary);
        assert_eq!(column(MYSQL_TYPE_BIT, 1, 0, unsigned, BINARY), DataType::Boolean);
        assert_eq!(trimmed("SELECT 1 ;\n; "), "SELECT 1");
    }
}

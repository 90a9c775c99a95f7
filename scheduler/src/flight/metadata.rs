//! Metadata of the database: catalogs, schemas, tables, types, SqlInfo.

use super::internal;
use crate::services::catalog::{TableKind, TableView};
use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{
    Command, CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables, Nullable, Searchable,
    SqlInfo, SqlNullOrdering, SqlSupportedCaseSensitivity, SqlSupportedTransaction, XdbcDataType, XdbcDatetimeSubcode,
};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::sync::{Arc, OnceLock};
use tonic::Status;

const TABLE: &str = "TABLE";
const VIEW: &str = "VIEW";
const TEMPORARY: &str = "LOCAL TEMPORARY";

/// Returns the columns of the answer to a metadata command.
pub(super) fn schema(command: &Command) -> Option<SchemaRef> {
    match command {
        Command::CommandGetCatalogs(query) => Some(query.into_builder().schema()),
        Command::CommandGetDbSchemas(query) => Some(query.clone().into_builder().schema()),
        Command::CommandGetTables(query) => Some(query.clone().into_builder().schema()),
        Command::CommandGetTableTypes(query) => Some(query.into_builder().schema()),
        Command::CommandGetSqlInfo(query) => Some(query.clone().into_builder(sql_info()).schema()),
        Command::CommandGetXdbcTypeInfo(query) => Some(query.into_builder(xdbc_types()).schema()),
        Command::CommandGetPrimaryKeys(_) => Some(Arc::new(primary_keys())),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => Some(Arc::new(foreign_keys())),
        _ => None,
    }
}

pub(super) fn catalogs(all: Vec<String>, query: CommandGetCatalogs) -> Result<RecordBatch, Status> {
    let mut builder = query.into_builder();
    all.into_iter().for_each(|name| builder.append(name));
    builder.build().map_err(internal)
}

pub(super) fn schemas(all: Vec<(String, String)>, query: CommandGetDbSchemas) -> Result<RecordBatch, Status> {
    let mut builder = query.into_builder();
    all.into_iter().for_each(|(catalog, schema)| builder.append(catalog, schema));
    builder.build().map_err(internal)
}

pub(super) fn tables(all: Vec<TableView>, query: CommandGetTables) -> Result<RecordBatch, Status> {
    let mut builder = query.into_builder();
    for TableView { catalog, schema, name, kind, columns } in all {
        let kind = match kind {
            TableKind::Table => TABLE,
            TableKind::View => VIEW,
            TableKind::Temporary => TEMPORARY,
        };
        let columns = columns.unwrap_or_else(|| Arc::new(Schema::empty()));
        builder.append(&catalog, &schema, &name, kind, &columns).map_err(internal)?;
    }
    builder.build().map_err(internal)
}

pub(super) fn table_types(query: CommandGetTableTypes) -> Result<RecordBatch, Status> {
    let mut builder = query.into_builder();
    [TABLE, VIEW, TEMPORARY].into_iter().for_each(|kind| builder.append(kind));
    builder.build().map_err(internal)
}

pub(super) fn sql_info() -> &'static SqlInfoData {
    static INFO: OnceLock<SqlInfoData> = OnceLock::new();
    INFO.get_or_init(|| {
        let mut info = SqlInfoDataBuilder::new();
        info.append(SqlInfo::FlightSqlServerName, "Windlass");
        info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
        info.append(SqlInfo::FlightSqlServerArrowVersion, "1.3");
        info.append(SqlInfo::FlightSqlServerReadOnly, false);
        info.append(SqlInfo::FlightSqlServerSql, true);
        info.append(SqlInfo::FlightSqlServerSubstrait, false);
        info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
        info.append(SqlInfo::FlightSqlServerCancel, true);
        info.append(SqlInfo::FlightSqlServerBulkIngestion, true);
        info.append(SqlInfo::FlightSqlServerStatementTimeout, 0i32);
        info.append(SqlInfo::FlightSqlServerTransactionTimeout, 0i32);
        info.append(SqlInfo::SqlDdlCatalog, true);
        info.append(SqlInfo::SqlDdlSchema, true);
        info.append(SqlInfo::SqlDdlTable, true);
        info.append(SqlInfo::SqlIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32);
        info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
        info.append(
            SqlInfo::SqlQuotedIdentifierCase,
            SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32,
        );
        info.append(SqlInfo::SqlAllTablesAreSelectable, true);
        info.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32);
        info.append(SqlInfo::SqlTransactionsSupported, false);
        // The list is fixed and its types are those of the union, so it cannot fail.
        info.build().expect("the description of this server is well-formed")
    })
}

/// Returns the SQL types under their names in ODBC and JDBC.
pub(super) fn xdbc_types() -> &'static XdbcTypeInfoData {
    static TYPES: OnceLock<XdbcTypeInfoData> = OnceLock::new();
    TYPES.get_or_init(|| {
        use XdbcDataType::*;
        let mut types = XdbcTypeInfoDataBuilder::new();
        let numbers = [
            ("TINYINT", XdbcTinyint, 3),
            ("SMALLINT", XdbcSmallint, 5),
            ("INT", XdbcInteger, 10),
            ("BIGINT", XdbcBigint, 19),
            ("REAL", XdbcReal, 24),
            ("DOUBLE", XdbcDouble, 53),
            ("DECIMAL", XdbcDecimal, 76),
        ];
        for (name, data_type, size) in numbers {
            types.append(XdbcTypeInfo {
                num_prec_radix: Some(10),
                unsigned_attribute: Some(false),
                ..plain(name, data_type, size)
            });
        }
        for (name, data_type) in [("VARCHAR", XdbcVarchar), ("BYTEA", XdbcVarbinary)] {
            let quote = Some("'".to_string());
            let literals = XdbcTypeInfo {
                literal_prefix: quote.clone(),
                literal_suffix: quote,
                ..plain(name, data_type, i32::MAX)
            };
            types.append(XdbcTypeInfo { case_sensitive: true, ..literals });
        }
        types.append(plain("BOOLEAN", XdbcBit, 1));
        let dates = [
            ("DATE", XdbcDate, 10, XdbcDatetimeSubcode::XdbcSubcodeYear),
            ("TIME", XdbcTime, 18, XdbcDatetimeSubcode::XdbcSubcodeTime),
            ("TIMESTAMP", XdbcTimestamp, 29, XdbcDatetimeSubcode::XdbcSubcodeTimestamp),
        ];
        for (name, data_type, size, subcode) in dates {
            types.append(XdbcTypeInfo { datetime_subcode: Some(subcode), ..plain(name, data_type, size) });
        }
        types.build().expect("the list of types is well-formed")
    })
}

fn plain(name: &str, data_type: XdbcDataType, size: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.to_string(),
        data_type,
        column_size: Some(size),
        literal_prefix: None,
        literal_suffix: None,
        create_params: None,
        nullable: Nullable::NullabilityNullable,
        case_sensitive: false,
        searchable: Searchable::Full,
        unsigned_attribute: None,
        fixed_prec_scale: false,
        auto_increment: None,
        local_type_name: Some(name.to_string()),
        minimum_scale: None,
        maximum_scale: None,
        sql_data_type: data_type,
        datetime_subcode: None,
        num_prec_radix: None,
        interval_precision: None,
    }
}

/// Returns the schema of FlightSql.proto. The answer is empty: constraints are notes of the author and are not checked.
pub(super) fn primary_keys() -> Schema {
    Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ])
}

pub(super) fn foreign_keys() -> Schema {
    Schema::new(vec![
        Field::new("pk_catalog_name", DataType::Utf8, true),
        Field::new("pk_db_schema_name", DataType::Utf8, true),
        Field::new("pk_table_name", DataType::Utf8, false),
        Field::new("pk_column_name", DataType::Utf8, false),
        Field::new("fk_catalog_name", DataType::Utf8, true),
        Field::new("fk_db_schema_name", DataType::Utf8, true),
        Field::new("fk_table_name", DataType::Utf8, false),
        Field::new("fk_column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("fk_key_name", DataType::Utf8, true),
        Field::new("pk_key_name", DataType::Utf8, true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ])
}

//! Bulk ingest of Flight SQL: what is loaded, into which table, and what happens to an existing table.

use crate::services::loads::{IfExists, IfMissing, Target};
use arrow_flight::sql::{CommandStatementIngest, TableDefinitionOptions, TableExistsOption, TableNotExistOption};

pub(super) fn target(command: CommandStatementIngest) -> Target {
    let options = command.table_definition_options;
    Target {
        catalog: command.catalog,
        schema: command.schema,
        table: command.table,
        temporary: command.temporary,
        if_exists: options.as_ref().and_then(if_exists),
        if_missing: options.as_ref().and_then(if_missing),
    }
}

fn if_exists(options: &TableDefinitionOptions) -> Option<IfExists> {
    match options.if_exists() {
        TableExistsOption::Unspecified => None,
        TableExistsOption::Fail => Some(IfExists::Fail),
        TableExistsOption::Append => Some(IfExists::Append),
        TableExistsOption::Replace => Some(IfExists::Replace),
    }
}

fn if_missing(options: &TableDefinitionOptions) -> Option<IfMissing> {
    match options.if_not_exist() {
        TableNotExistOption::Unspecified => None,
        TableNotExistOption::Create => Some(IfMissing::Create),
        TableNotExistOption::Fail => Some(IfMissing::Fail),
    }
}

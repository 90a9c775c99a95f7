//! Converts the places in a statement from the user's text to DataFusion's form. After this, only [`Place`] interprets the text.

use crate::errors::QueryError;
use crate::statements::catalog::{COMPRESSION, compression_named, is_compressible, read_only_data};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::{CopyToStatement, Statement};
use datafusion::sql::sqlparser::ast::Value;
use windlass_engine::connector::Registry;
use windlass_engine::{Place, Source};

/// Converts the places of a parsed statement. Call it once.
pub(super) fn put_in(connectors: &Registry, statement: &mut Statement) -> Result<(), QueryError> {
    match statement {
        Statement::CopyTo(copy) => {
            compress_as_named(connectors, copy);
            copy.target = Place::parse(&copy.target)?.url();
        }
        // Only the connector interprets the location of its table.
        Statement::CreateExternalTable(create) if connectors.get(&create.file_type).is_some() => {}
        Statement::CreateExternalTable(create) => {
            for location in &mut create.locations {
                *location = Source::parse(location)?.planned();
            }
        }
        Statement::Explain(explain) => put_in(connectors, &mut explain.statement)?,
        Statement::Statement(_) | Statement::Reset(_) => {}
    }
    Ok(())
}

/// Sets the format and compression of a file from its name, such as `x.csv.gz`, so that it is written as it will be read.
fn compress_as_named(connectors: &Registry, copy: &mut CopyToStatement) {
    let Some((name, ending)) = copy.target.rsplit_once('.') else { return };
    let Some(compression) = compression_named(ending) else { return };
    if copy.stored_as.is_none() {
        let inner = name.rsplit_once('.').map(|(_, format)| format);
        let inner = inner.filter(|format| is_compressible(connectors, format));
        copy.stored_as = inner.map(str::to_uppercase);
    }
    let is_told = copy.options.iter().any(|(key, _)| {
        let key = key.to_lowercase();
        key == COMPRESSION || COMPRESSION.strip_prefix("format.").is_some_and(|short| key == short)
    });
    if !is_told && copy.stored_as.as_deref().is_some_and(|format| is_compressible(connectors, format)) {
        copy.options.push((COMPRESSION.to_string(), Value::SingleQuotedString(compression.to_string())));
    }
}

/// Converts the places of a client's plan. Call it once.
pub(super) fn put_in_plan(plan: LogicalPlan) -> Result<LogicalPlan, QueryError> {
    let mut plan = read_only_data(plan)?;
    if let LogicalPlan::Copy(copy) = &mut plan {
        copy.output_url = Place::parse(&copy.output_url)?.url();
    }
    Ok(plan)
}

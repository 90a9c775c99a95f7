//! The places that a statement names: what people wrote, put as DataFusion reads it. After this nothing but [`Place`] knows what text means.

use crate::catalog::read_only_data;
use crate::errors::QueryError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use windlass_engine::{Place, Source};

/// To be called once for a statement that was parsed.
pub(super) fn put_in(statement: &mut Statement) -> Result<(), QueryError> {
    match statement {
        Statement::CopyTo(copy) => copy.target = Place::parse(&copy.target)?.url(),
        Statement::CreateExternalTable(create) => {
            for location in &mut create.locations {
                *location = Source::parse(location)?.planned();
            }
        }
        Statement::Explain(explain) => put_in(&mut explain.statement)?,
        Statement::Statement(_) | Statement::Reset(_) => {}
    }
    Ok(())
}

/// To be called once for a plan that a client made.
pub(super) fn put_in_plan(plan: LogicalPlan) -> Result<LogicalPlan, QueryError> {
    let mut plan = read_only_data(plan)?;
    if let LogicalPlan::Copy(copy) = &mut plan {
        copy.output_url = Place::parse(&copy.output_url)?.url();
    }
    Ok(plan)
}

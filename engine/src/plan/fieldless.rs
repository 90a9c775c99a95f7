//! Structs without fields, which JSON files have where an object is empty.
//!
//! DataFusion 55 distinguishes groups by the bytes of their rows, and panics when it decodes such a struct from them (apache/datafusion#25281). So grouping
//! by them is refused.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, not_impl_err};
use datafusion::logical_expr::{Distinct, ExprSchemable, LogicalPlan};

/// Refuses plans that group by such structs.
///
/// # Errors
/// Names the expression that rows cannot be grouped by.
pub(super) fn refuse_groups(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Aggregate(aggregate) = node {
            for expr in &aggregate.group_expr {
                let types = expr.get_type(aggregate.input.schema())?;
                refuse(&expr.schema_name().to_string(), &types)?;
            }
        }
        if let LogicalPlan::Distinct(Distinct::All(input)) = node {
            input.schema().fields().iter().try_for_each(|field| refuse(field.name(), field.data_type()))?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

fn refuse(name: &str, data_type: &DataType) -> Result<()> {
    match has_fieldless(data_type) {
        true => not_impl_err!(
            "rows cannot be grouped by {name}, which is or holds a struct without fields: leave it out, or group by {name} IS NULL"
        ),
        false => Ok(()),
    }
}

/// Whether the type is a struct without fields or contains one.
pub fn has_fieldless(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.is_empty() || fields.iter().any(|field| has_fieldless(field.data_type())),
        DataType::List(of)
        | DataType::LargeList(of)
        | DataType::ListView(of)
        | DataType::LargeListView(of)
        | DataType::FixedSizeList(of, _)
        | DataType::Map(of, _) => has_fieldless(of.data_type()),
        DataType::Dictionary(_, of) => has_fieldless(of),
        DataType::RunEndEncoded(_, of) => has_fieldless(of.data_type()),
        DataType::Union(fields, _) => fields.iter().any(|(_, field)| has_fieldless(field.data_type())),
        _ => false,
    }
}

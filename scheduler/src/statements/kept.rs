//! Converts and checks rows for a table: its types, its maximum lengths and its NOT NULL columns.
//!
//! DataFusion's writers put the arbitrary value below a NULL into a column that is NOT NULL.

use crate::errors::QueryError;
use crate::statements::catalog::TableRecord;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, Union, Values};
use std::sync::Arc;
use windlass_engine::{at_most, in_json, may_lack_json, not_null, within_nanoseconds};

/// Returns `input` with its dictionaries unpacked, and with a check for each limited column.
pub(super) fn as_kept(
    record: &TableRecord,
    table: &str,
    input: Arc<LogicalPlan>,
) -> Result<Arc<LogicalPlan>, QueryError> {
    checked(&record.schema.0, &record.lengths, table, input)
}

/// Returns [`as_kept`] of the columns `names`; those that are left out get defaults of another system. No names: all columns.
pub(super) fn as_kept_in(
    record: &TableRecord,
    table: &str,
    names: &[String],
    input: Arc<LogicalPlan>,
) -> Result<Arc<LogicalPlan>, QueryError> {
    let all = record.schema.0.fields();
    if names.is_empty() || input.schema().fields().len() != all.len() {
        return as_kept(record, table, input);
    }
    let is_written = |field: &Field| {
        names.contains(field.name()) || record.defaults.iter().any(|(column, _)| column == field.name())
    };
    let kept: Vec<_> = all.iter().filter(|field| is_written(field)).cloned().collect();
    let columns = input.schema().iter().zip(all).filter(|(_, field)| is_written(field));
    let columns = columns.map(|((relation, field), _)| Expr::Column(Column::new(relation.cloned(), field.name())));
    let columns = columns.collect();
    let input = LogicalPlan::Projection(Projection::try_new(columns, input).map_err(QueryError::from)?);
    checked(&Arc::new(Schema::new(kept)), &record.lengths, table, Arc::new(input))
}

/// Returns `input` as rows of a table that is being created: with its names and types, and with the checks of [`as_kept`].
pub(super) fn as_created(
    target: &SchemaRef,
    table: &str,
    input: Arc<LogicalPlan>,
) -> Result<Arc<LogicalPlan>, QueryError> {
    let columns = input.schema().iter().zip(target.fields()).map(|((relation, from), to)| {
        let column = Expr::Column(Column::new(relation.cloned(), from.name()));
        match from.data_type() == to.data_type() {
            true => column,
            false => Expr::Cast(Cast::new(Box::new(column), to.data_type().clone())).alias(to.name()),
        }
    });
    let columns = columns.collect();
    let cast = LogicalPlan::Projection(Projection::try_new(columns, input).map_err(QueryError::from)?);
    checked(target, &[], table, Arc::new(cast))
}

fn checked(
    target: &SchemaRef,
    lengths: &[(String, u32)],
    table: &str,
    input: Arc<LogicalPlan>,
) -> Result<Arc<LogicalPlan>, QueryError> {
    if input.schema().fields().len() != target.fields().len() {
        // It is refused where names are known.
        return Ok(input);
    }
    let unpacked = unpacked(within_nanoseconds(with_nulls(input)?)?, target)?;
    let pairs = || unpacked.schema().fields().iter().zip(target.fields());
    let may_be_null = |from: &Field, to: &Field| from.is_nullable() && !to.is_nullable();
    if lengths.is_empty() && !pairs().any(|(from, to)| may_be_null(from, to)) {
        return Ok(unpacked);
    }
    let columns = unpacked.schema().iter().zip(target.fields()).map(|((relation, field), kept)| {
        let column = Expr::Column(Column::new(relation.cloned(), field.name()));
        let of_length = match lengths.iter().find(|(name, _)| name == kept.name()) {
            Some((name, length)) => at_most(column, *length, name),
            None => column,
        };
        let checked = if may_be_null(field, kept) { not_null(of_length, kept.name(), table) } else { of_length };
        match checked {
            Expr::Column(_) => checked,
            checked => checked.alias(field.name()),
        }
    });
    let columns = columns.collect();
    Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(columns, unpacked).map_err(QueryError::from)?)))
}

/// Returns `input` with nullable columns where the planner assumed the table's NOT NULL. They are checked where the column has its
/// name.
fn with_nulls(input: Arc<LogicalPlan>) -> Result<Arc<LogicalPlan>> {
    let is_strict = |values: &Values| values.schema.fields().iter().any(|field| !field.is_nullable());
    let mut any = false;
    input.apply(|node| {
        any |= matches!(node, LogicalPlan::Values(values) if is_strict(values));
        Ok(TreeNodeRecursion::Continue)
    })?;
    if !any {
        return Ok(input);
    }
    let nullable = Arc::unwrap_or_clone(input).transform_up(|node| match node {
        LogicalPlan::Values(values) if is_strict(&values) => {
            let fields = values
                .schema
                .iter()
                .map(|(relation, field)| (relation.cloned(), Arc::new(field.as_ref().clone().with_nullable(true))));
            let schema = DFSchema::new_with_metadata(fields.collect(), values.schema.metadata().clone())?;
            Ok(Transformed::yes(LogicalPlan::Values(Values { schema: Arc::new(schema), ..values })))
        }
        node => Ok(Transformed::yes(node.recompute_schema()?)),
    });
    Ok(Arc::new(nullable.data()?))
}

/// Returns `input` with an error for values that JSON cannot represent.
pub(super) fn for_json(input: Arc<LogicalPlan>) -> Result<Arc<LogicalPlan>, QueryError> {
    if !input.schema().fields().iter().any(|field| may_lack_json(field.data_type())) {
        return Ok(input);
    }
    let columns = input.schema().iter().map(|(relation, field)| {
        let column = Expr::Column(Column::new(relation.cloned(), field.name()));
        match may_lack_json(field.data_type()) {
            true => in_json(column, field.name()).alias_qualified(relation.cloned(), field.name()),
            false => column,
        }
    });
    let columns = columns.collect();
    Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(columns, input).map_err(QueryError::from)?)))
}

/// Unpacks dictionaries below a union, whose inputs have different dictionaries: together they may have more values than keys.
fn unpacked(input: Arc<LogicalPlan>, target: &SchemaRef) -> Result<Arc<LogicalPlan>> {
    let is_packed = |data_type: &DataType| matches!(data_type, DataType::Dictionary(..)) || data_type.is_nested();
    let pairs = || input.schema().fields().iter().zip(target.fields());
    let differs = pairs().any(|(from, to)| from.data_type() != to.data_type() && is_packed(from.data_type()));
    if !differs {
        return Ok(input);
    }
    if let LogicalPlan::Union(union) = input.as_ref() {
        let inputs = union.inputs.iter().map(|input| unpacked(Arc::clone(input), target)).collect::<Result<_>>()?;
        return Ok(Arc::new(LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?)));
    }
    let columns = input.schema().iter().zip(target.fields()).map(|((relation, from), to)| {
        let column = Expr::Column(Column::new(relation.cloned(), from.name()));
        match from.data_type() != to.data_type() && is_packed(from.data_type()) {
            true => Expr::Cast(Cast::new(Box::new(column), to.data_type().clone())).alias(from.name()),
            false => column,
        }
    });
    let columns = columns.collect();
    Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(columns, input)?)))
}

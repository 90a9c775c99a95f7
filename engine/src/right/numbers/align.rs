//! Types of columns that are combined in a set operation, a join or a list of rows.

use super::super::sets;
use super::{as_type, digits, literals};
use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::binary::type_union_coercion;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Projection, Union, Values, lit};
use std::sync::Arc;

/// `node` with inputs whose columns have the common types of PostgreSQL. `rewrite` first rewrites rows of VALUES.
pub(super) fn inputs(node: LogicalPlan, rewrite: &dyn Fn(Expr) -> Result<Expr>) -> Result<Transformed<LogicalPlan>> {
    match node {
        LogicalPlan::Union(union) => union_inputs(union),
        LogicalPlan::Values(rows) => values(rows, rewrite),
        LogicalPlan::Join(mut join) => {
            let mut changed = false;
            // This is INTERSECT or EXCEPT.
            if sets::is_set_operation(&join) {
                let mut sides = [join.left, join.right];
                changed = literals::in_columns(&mut sides);
                [join.left, join.right] = sides;
            }
            let pairs = std::mem::take(&mut join.on);
            for (left, right) in pairs {
                let (ours, theirs) = (join.left.schema(), join.right.schema());
                let (left_type, right_type) = (left.get_type(ours), right.get_type(theirs));
                // A constant on the left of IN (subquery) is a key too.
                let (mut pair, mut types) = ([left, right], [left_type?, right_type?]);
                changed |= literals::beside_decimals(&mut pair, &mut types);
                let [left, right] = pair;
                join.on.push(match digits::meet(&types).or_else(|| crate::time::time_of_day(&types)) {
                    Some(meets) => {
                        changed = true;
                        (as_type(left, &meets, ours)?, as_type(right, &meets, theirs)?)
                    }
                    None => (left, right),
                });
            }
            Ok(Transformed::new_transformed(LogicalPlan::Join(join), changed))
        }
        node => Ok(Transformed::no(node)),
    }
}

fn union_inputs(mut union: Union) -> Result<Transformed<LogicalPlan>> {
    let written = literals::in_columns(&mut union.inputs);
    let width = union.schema.fields().len();
    let of_column = |at: usize| {
        let types = union.inputs.iter().filter_map(|input| input.schema().fields().get(at));
        types.map(|field| field.data_type().clone()).collect::<Vec<_>>()
    };
    // Operators above must know the type that DataFusion's coercion will choose.
    let meets: Vec<Option<DataType>> = (0..width)
        .map(|at| {
            let types = of_column(at);
            // A text took the type of the others, or an input below got another type.
            let is_known = |of: &DataType| !written && union.schema.field(at).data_type() == of;
            let alike = || types.first().filter(|of| !is_known(of) && types.iter().all(|other| other == *of)).cloned();
            let numbers = digits::meet_in_column(&types).or_else(|| common(&types));
            numbers.or_else(|| crate::time::meet(&types)).or_else(alike)
        })
        .collect();
    if meets.iter().all(Option::is_none) {
        return Ok(Transformed::no(LogicalPlan::Union(union)));
    }
    let inputs = union.inputs.into_iter().map(|input| cast_columns(Arc::unwrap_or_clone(input), &meets).map(Arc::new));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    let fields = union.schema.iter().zip(&meets).map(|((relation, field), meets)| {
        let field = match meets {
            Some(meets) => Arc::new(field.as_ref().clone().with_data_type(meets.clone())),
            None => Arc::clone(field),
        };
        (relation.cloned(), field)
    });
    let schema = DFSchema::new_with_metadata(fields.collect(), union.schema.metadata().clone())?;
    Ok(Transformed::yes(LogicalPlan::Union(Union { inputs, schema: Arc::new(schema) })))
}

/// The type that DataFusion gives to a column of numbers of different types.
pub(super) fn common(types: &[DataType]) -> Option<DataType> {
    let mut numbers = types.iter().filter(|of| **of != DataType::Null);
    let first = numbers.next()?;
    if types.iter().all(|of| of == first) || !types.iter().all(|of| of.is_numeric() || *of == DataType::Null) {
        return None;
    }
    numbers.try_fold(first.clone(), |common, of| type_union_coercion(&common, of))
}

/// `plan` with a cast of each column for which `to` has a type.
pub(super) fn cast_columns(plan: LogicalPlan, to: &[Option<DataType>]) -> Result<LogicalPlan> {
    let differs = |field: &Field, to: &Option<DataType>| {
        field.data_type() != &DataType::Null && to.as_ref().is_some_and(|to| to != field.data_type())
    };
    let schema = Arc::clone(plan.schema());
    if !schema.fields().iter().zip(to).any(|(field, to)| differs(field, to)) {
        return Ok(plan);
    }
    let columns = schema.iter().zip(to).map(|((relation, field), to)| {
        let column = Expr::Column(Column::new(relation.cloned(), field.name()));
        match to {
            Some(to) if differs(field, &Some(to.clone())) => {
                crate::time::as_time(column, field.data_type(), to).alias_qualified(relation.cloned(), field.name())
            }
            _ => column,
        }
    });
    let columns: Vec<Expr> = columns.collect();
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?))
}

/// Rewrites the rows of VALUES, which DataFusion's planner has cast to types of its own choice. Rows of an INSERT have the types of its table, and stay.
fn values(rows: Values, rewrite: &dyn Fn(Expr) -> Result<Expr>) -> Result<Transformed<LogicalPlan>> {
    let Values { schema, mut values } = rows;
    let nothing = DFSchema::empty();
    let mut fields: Vec<_> = schema.iter().map(|(relation, field)| (relation.cloned(), Arc::clone(field))).collect();
    let mut changed = false;
    let types_of = |column: &[Expr]| {
        let known = column.iter().filter(|expr| !matches!(expr, Expr::Literal(value, _) if value.is_null()));
        known.map(|expr| expr.get_type(&nothing)).collect::<Result<Vec<_>>>()
    };
    for (at, (_, field)) in fields.iter_mut().enumerate() {
        let planned = field.data_type().clone();
        if !planned.is_decimal() && !matches!(planned, DataType::Timestamp(..)) {
            continue;
        }
        // The original literal.
        let written = |expr: &Expr| match expr {
            Expr::Cast(Cast { expr, field }) if *field.data_type() == planned => expr.as_ref().clone(),
            expr => expr.clone(),
        };
        let column: Vec<Expr> = values.iter().map(|row| written(&row[at])).collect();
        if !planned.is_decimal() {
            let Some(meets) = crate::time::meet(&types_of(&column)?).filter(|meets| *meets != planned) else {
                continue;
            };
            for (row, expr) in values.iter_mut().zip(column) {
                let of = expr.get_type(&nothing)?;
                row[at] = match &expr {
                    Expr::Literal(value, _) if value.is_null() => lit(ScalarValue::try_from(&meets)?),
                    _ if of == meets => expr,
                    _ => crate::time::as_time(expr, &of, &meets),
                };
            }
            *field = Arc::new(field.as_ref().clone().with_data_type(meets));
            changed = true;
            continue;
        }
        let numbers: Vec<Expr> = column.iter().filter(|expr| literals::decimal(expr).is_none()).cloned().collect();
        let types = types_of(&numbers)?;
        let chosen = types.iter().skip(1).try_fold(types.first().cloned(), |chosen, of| {
            Some(chosen.and_then(|chosen| type_union_coercion(&chosen, of)))
        });
        if chosen.flatten().as_ref() != Some(&planned) {
            continue;
        }
        let mut column = column.into_iter().map(rewrite).collect::<Result<Vec<_>>>()?;
        let mut types = column.iter().map(|expr| expr.get_type(&nothing)).collect::<Result<Vec<_>>>()?;
        literals::beside_decimals(&mut column, &mut types);
        let types = types_of(&column)?;
        let meets = digits::meet_in_column(&types).or_else(|| common(&types)).or_else(|| types.first().cloned());
        let Some(meets) = meets.filter(|meets| *meets != planned) else { continue };
        for (row, expr) in values.iter_mut().zip(column) {
            row[at] = match &expr {
                Expr::Literal(value, _) if value.is_null() => lit(ScalarValue::try_from(&meets)?),
                _ => as_type(expr, &meets, &nothing)?,
            };
        }
        *field = Arc::new(field.as_ref().clone().with_data_type(meets));
        changed = true;
    }
    if !changed {
        return Ok(Transformed::no(LogicalPlan::Values(Values { schema, values })));
    }
    let schema = Arc::new(DFSchema::new_with_metadata(fields, schema.metadata().clone())?);
    Ok(Transformed::yes(LogicalPlan::Values(Values { schema, values })))
}

//! INTERSECT ALL and EXCEPT ALL.
//!
//! DataFusion plans INTERSECT ALL as a semi join and EXCEPT ALL as an anti join. A join keeps or drops a row of the left side, whatever its number of copies
//! on the right. The standard counts: a row that occurs m times on the left and n times on the right occurs min(m, n) times in the intersection and max(m -
//! n, 0) times in the difference, and NULLs are not distinct.
//!
//! Here one aggregate over all columns counts the rows of both sides, and each row is repeated as its counts say. An aggregate spills, supports every type
//! that GROUP BY supports, and treats NULLs as equal in any plan.

use super::repeat::Repeat;
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{Column, ExprSchema, JoinType, NullEquality, Result, ScalarValue, plan_err};
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::{
    Distinct, Expr, Extension, Join, LogicalPlan, LogicalPlanBuilder, cast, col, lit, when,
};
use datafusion::optimizer::AnalyzerRule;
use std::sync::Arc;

const LEFT: &str = "__left_copies";
const RIGHT: &str = "__right_copies";
const COPIES: &str = "__copies";

/// Plans the set operations that count rows.
#[derive(Debug)]
pub(super) struct CountedSets;

impl AnalyzerRule for CountedSets {
    fn name(&self) -> &str {
        "counted_sets"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Join(join) if is_counted(&join) => counted(&join).map(Transformed::yes),
            node => Ok(Transformed::no(node)),
        })
        .data()
    }
}

/// Before the optimizer has run, only set operations compare all columns in order with NULLs as equal. Without ALL the left side is distinct, and then both
/// ways give the same result.
fn is_counted(join: &Join) -> bool {
    let pairs = join.left.schema().columns().into_iter().zip(join.right.schema().columns());
    is_set_operation(join)
        && !matches!(join.left.as_ref(), LogicalPlan::Distinct(Distinct::All(_)))
        && join.on.len() == join.left.schema().fields().len()
        && join.on.len() == join.right.schema().fields().len()
        && join.on.iter().zip(pairs).all(|((left, right), (l, r))| is_column(left, &l) && is_column(right, &r))
}

/// Sides of other types are cast for the comparison.
fn is_column(key: &Expr, column: &Column) -> bool {
    match key {
        Expr::Column(of) => of == column,
        Expr::Cast(cast) => is_column(&cast.expr, column),
        _ => false,
    }
}

/// Whether a join in a plan that no optimizer has seen stands for INTERSECT or EXCEPT.
pub(super) fn is_set_operation(join: &Join) -> bool {
    matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && join.filter.is_none()
}

fn counted(join: &Join) -> Result<LogicalPlan> {
    let names: Vec<String> = (0..join.on.len()).map(|at| format!("__c{at}")).collect();
    let mut left = Vec::new();
    let mut right = Vec::new();
    let mut given = Vec::new();
    for (name, (l, r)) in names.iter().zip(join.left.schema().columns().into_iter().zip(join.right.schema().columns()))
    {
        let types = [join.left.schema().data_type(&l)?, join.right.schema().data_type(&r)?];
        let Some(common) = comparison_coercion(types[0], types[1]) else {
            return plan_err!(
                "column {} of INTERSECT or EXCEPT is {} on the left and {} on the right, which cannot be compared: cast one of them",
                l.name,
                types[0],
                types[1]
            );
        };
        let as_common = |column: Column, from: &DataType| match common == *from {
            true => Expr::Column(column),
            false => cast(Expr::Column(column), common.clone()),
        };
        let back = match common == *types[0] {
            true => col(name.as_str()),
            false if types[0].is_null() => lit(ScalarValue::Null),
            // Every remaining row was a row of the left side, so it fits.
            false => cast(col(name.as_str()), types[0].clone()),
        };
        given.push(back.alias_qualified(l.relation.clone(), l.name.clone()));
        left.push(as_common(l, types[0]).alias(name));
        right.push(as_common(r, types[1]).alias(name));
    }
    left.extend([lit(1_i64).alias(LEFT), lit(0_i64).alias(RIGHT)]);
    right.extend([lit(0_i64).alias(LEFT), lit(1_i64).alias(RIGHT)]);
    let right = LogicalPlanBuilder::from(join.right.as_ref().clone()).project(right)?.build()?;
    let (m, n) = (col(LEFT), col(RIGHT));
    let copies = match join.join_type {
        JoinType::LeftSemi => when(m.clone().lt(n.clone()), m).otherwise(n)?,
        _ => m - n,
    };
    let columns = || names.iter().map(|name| col(name.as_str()));
    let sums = [super::sum::sum(col(LEFT)).alias(LEFT), super::sum::sum(col(RIGHT)).alias(RIGHT)];
    let rows = LogicalPlanBuilder::from(join.left.as_ref().clone())
        .project(left)?
        .union(right)?
        .aggregate(columns(), sums)?
        .project(columns().chain([copies.alias(COPIES)]))?
        .filter(col(COPIES).gt(lit(0_i64)))?
        .build()?;
    let repeated = LogicalPlan::Extension(Extension { node: Arc::new(Repeat::try_new(rows)?) });
    LogicalPlanBuilder::from(repeated).project(given)?.build()
}

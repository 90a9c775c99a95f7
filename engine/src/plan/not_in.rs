//! NOT IN over nullable values without a hash table, for subqueries that do not fit into memory.
//!
//! DataFusion joins `l NOT IN (select r …)` with a null-aware hash join, and with no other join. An anti join and two counts of the subquery's rows give the
//! same result: the count of all rows, and that of rows that are not NULL.
//!
//! ```text
//!   no rows                        every row stays
//!   as many as are not NULL        rows whose l is not NULL and is not among them stay: the anti join, less NULLs
//!   fewer are not NULL             no row stays: it might be among the NULLs
//! ```

use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, Result};
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, Join, LogicalPlan, LogicalPlanBuilder, lit};

const ROWS: &str = "__not_in_rows";
const KNOWN: &str = "__not_in_known";

/// `plan` with an anti join in place of each NOT IN whose subquery may be run twice; its rows and columns stay the same.
pub(super) fn not_in_as_counts(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) if is_not_in(&join) && gives_the_same_again(&join.right)? => {
            rewrite(join).map(Transformed::yes)
        }
        node => Ok(Transformed::no(node)),
    });
    Ok(rewritten?.data)
}

fn is_not_in(join: &Join) -> bool {
    join.null_aware && join.join_type == JoinType::LeftAnti && join.on.len() == 1 && join.filter.is_none()
}

/// Whether a second run gives the same rows: a LIMIT may let other rows through, and so may volatile functions.
fn gives_the_same_again(plan: &LogicalPlan) -> Result<bool> {
    let mut same = true;
    plan.apply_with_subqueries(|node| {
        same &= match node {
            LogicalPlan::Limit(_) => false,
            LogicalPlan::Sort(sort) => sort.fetch.is_none(),
            LogicalPlan::TableScan(scan) => scan.fetch.is_none(),
            _ => true,
        };
        same &= !node.expressions().iter().any(Expr::is_volatile);
        Ok(if same { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(same)
}

fn rewrite(join: Join) -> Result<LogicalPlan> {
    let columns: Vec<Expr> = join.schema.columns().into_iter().map(Expr::Column).collect();
    let (left, right) = join.on[0].clone();
    let counts = [count(lit(1)).alias(ROWS), count(right).alias(KNOWN)];
    // One row, so this side is collected.
    let counted = LogicalPlanBuilder::from(join.right.as_ref().clone()).aggregate(Vec::<Expr>::new(), counts)?;
    let [rows, known] = [ROWS, KNOWN].map(|name| Expr::Column(Column::new_unqualified(name)));
    let stays = rows.clone().eq(lit(0_i64)).or(rows.eq(known).and(left.is_not_null()));
    let anti = LogicalPlan::Join(Join { null_aware: false, ..join });
    counted.cross_join(anti)?.filter(stays)?.project(columns)?.build()
}

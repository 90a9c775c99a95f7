//! Filters that find their columns by name, where two columns have the same name.
//!
//! DataFusion's physical `FilterPushdown` maps a column's position from a node to its child by the column's name. Above a join of tables that both have an
//! `id`, a filter on one is evaluated on the other: rows are lost, or files that hold the answer are pruned. In a semi join a filter on a key goes to the
//! other side's column with the key's name, which need not be its key; below UNION ALL it goes to the column of that name instead of that position.
//!
//! Here the rule sees such nodes below a guard that lets through only filters whose columns are unambiguous.

use crate::ops::of_one_input;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{JoinType, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::filter_pushdown::{
    ChildFilterDescription, ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// A rule that pushes filters, prevented from confusing columns.
#[derive(Debug)]
pub(super) struct ByName(pub Arc<dyn PhysicalOptimizerRule + Send + Sync>);

impl PhysicalOptimizerRule for ByName {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let guarded = plan.transform_up(|node| {
            let clear = clear_columns(&node);
            Ok(match clear.len() == node.schema().fields().len() {
                true => Transformed::no(node),
                false => Transformed::yes(Arc::new(Guard { input: node, clear }) as Arc<dyn ExecutionPlan>),
            })
        });
        let pushed = self.0.optimize(guarded.data()?, config)?;
        let bared = pushed.transform_up(|node| {
            Ok(match node.downcast_ref::<Guard>() {
                Some(guard) => Transformed::yes(Arc::clone(&guard.input)),
                None => Transformed::no(node),
            })
        });
        bared.data()
    }
}

/// The positions of a node's columns whose names are unique in it and in each of its children.
fn clear_columns(node: &Arc<dyn ExecutionPlan>) -> HashSet<usize> {
    let schema = node.schema();
    let mut all = vec![Arc::clone(&schema)];
    all.extend(node.children().into_iter().map(|child| child.schema()));
    let mistaken: HashSet<&str> = all
        .iter()
        .flat_map(|schema| {
            let mut seen = HashSet::new();
            schema.fields().iter().map(|field| field.name().as_str()).filter(move |name| !seen.insert(*name))
        })
        .collect();
    let of_other_key = of_other_key(node);
    let of_inputs = node.downcast_ref::<UnionExec>().map(|union| union.inputs().iter().map(|input| input.schema()));
    let of_inputs: Vec<_> = of_inputs.into_iter().flatten().collect();
    let is_clear = |position: &usize| {
        let name = schema.field(*position).name().as_str();
        let in_place = |input: &arrow::datatypes::SchemaRef| input.field(*position).name() == name;
        !mistaken.contains(name) && !of_other_key.contains(name) && of_inputs.iter().all(in_place)
    };
    (0..schema.fields().len()).filter(is_clear).collect()
}

/// Names of keys of a semi join that belong to another column than the key on the other side.
fn of_other_key(node: &Arc<dyn ExecutionPlan>) -> HashSet<String> {
    let Some(join) = node.downcast_ref::<HashJoinExec>() else { return HashSet::new() };
    let (key, other) = match join.join_type() {
        JoinType::LeftSemi => (0, join.right().schema()),
        JoinType::RightSemi => (1, join.left().schema()),
        _ => return HashSet::new(),
    };
    let column = |expr: &Arc<dyn PhysicalExpr>| expr.downcast_ref::<Column>().map(|column| column.name().to_owned());
    let sides = join.on().iter().map(|(left, right)| if key == 0 { (left, right) } else { (right, left) });
    let others = sides.filter_map(|(kept, lost)| Some((column(kept)?, column(lost))));
    let mistaken = others.filter(|(kept, lost)| lost.as_ref() != Some(kept) && other.index_of(kept).is_ok());
    mistaken.map(|(kept, _)| kept).collect()
}

/// Stands above a node while filters are pushed; it is never part of a plan that runs.
#[derive(Debug)]
struct Guard {
    input: Arc<dyn ExecutionPlan>,
    clear: HashSet<usize>,
}

impl DisplayAs for Guard {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guard")
    }
}

impl ExecutionPlan for Guard {
    fn name(&self) -> &str {
        "Guard"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    of_one_input!(|this, input| Self { input, clear: this.clear.clone() });

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        let child =
            ChildFilterDescription::from_child_with_allowed_indices(&parent_filters, self.clear.clone(), &self.input)?;
        Ok(FilterDescription::new().with_child(child))
    }

    fn handle_child_pushdown_result(
        &self,
        _: FilterPushdownPhase,
        result: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::if_all(result))
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        internal_err!("a plan of the optimizer is run")
    }
}

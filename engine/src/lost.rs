//! The parts of plans that DataFusion's encoding loses. Losing any of them would give a wrong answer or an error, so such an operator travels inside a
//! wrapper that restores it.

use crate::connector::{LostOfLeaf, leaf, restored};
use crate::ops::of_one_input;
use crate::window::{WindowFlags, restore_window, window_flags};
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::{CastExpr, Literal};
use datafusion::physical_expr::{LexOrdering, PhysicalExpr};
use datafusion::physical_plan::aggregates::{AggregateExec, PhysicalGroupBy};
use datafusion::physical_plan::memory::LazyMemoryExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use datafusion::prelude::SessionConfig;
use std::fmt;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(crate) enum Lost {
    /// Flags of each expression of a window.
    Window(Vec<WindowFlags>),
    Leaf(LostOfLeaf),
    /// Sort orders of a generated series.
    Orderings(Vec<LexOrdering>),
    /// Number of empty grouping sets of an aggregate whose groups have no columns at all.
    EmptySets(u32),
}

/// Exists only while a plan is encoded: decoding returns the restored operator.
#[derive(Debug)]
pub(crate) struct LostExec {
    input: Arc<dyn ExecutionPlan>,
    pub lost: Lost,
}

/// `plan` in the form in which it is encoded.
pub(crate) fn wrap(plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    Arc::clone(plan)
        .transform_up(|node| {
            let lost = Lost::of(&node)?;
            if lost.is_empty() {
                return Ok(Transformed::no(node));
            }
            let wrapped = |input, lost| Arc::new(LostExec { input, lost }) as Arc<dyn ExecutionPlan>;
            let encodable = lost.iter().find_map(|lost| match lost {
                Lost::Leaf(lost) => lost.encodable.clone(),
                _ => None,
            });
            Ok(Transformed::yes(lost.into_iter().fold(encodable.unwrap_or(node), wrapped)))
        })
        .data()
}

/// `expr` in the form in which it is encoded: a 16-bit number would become a 32-bit one.
pub(crate) fn as_encoded(expr: &Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    match expr.downcast_ref::<Literal>().map(Literal::value) {
        Some(ScalarValue::Float16(value)) => {
            let wide = Literal::new(ScalarValue::Float32(value.map(f32::from)));
            Arc::new(CastExpr::new(Arc::new(wide), DataType::Float16, None))
        }
        _ => Arc::clone(expr),
    }
}

impl Lost {
    /// The lost parts of an operator, in the order in which they are restored.
    fn of(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<Self>> {
        if plan.is::<LazyMemoryExec>() {
            let orderings: Vec<_> = plan.equivalence_properties().oeq_class().iter().cloned().collect();
            return Ok(if orderings.is_empty() { vec![] } else { vec![Self::Orderings(orderings)] });
        }
        if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
            let by = aggregate.group_expr();
            let sets = u32::try_from(by.groups().len()).unwrap_or(u32::MAX);
            let empty = by.has_grouping_set() && by.expr().is_empty();
            return Ok(if empty { vec![Self::EmptySets(sets)] } else { vec![] });
        }
        if let Some(leaf) = leaf(plan) {
            return Ok(leaf.lost()?.map(Self::Leaf).into_iter().collect());
        }
        Ok(window_flags(plan)?.map(Self::Window).into_iter().collect())
    }

    /// Restores this part in `plan`, which was encoded without it. `config`: of the task.
    pub(crate) fn restore(
        self,
        plan: &Arc<dyn ExecutionPlan>,
        config: &SessionConfig,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match self {
            Self::Window(flags) => restore_window(plan, &flags),
            Self::Leaf(LostOfLeaf { kind, bytes, .. }) => restored(&kind, &bytes, plan, config),
            Self::Orderings(orderings) => {
                let Some(series) = plan.downcast_ref::<LazyMemoryExec>() else {
                    return internal_err!("{} is not a generated series", plan.name());
                };
                let mut series = LazyMemoryExec::try_new(plan.schema(), series.generators().clone())?;
                for ordering in orderings {
                    series.add_ordering(ordering);
                }
                Ok(Arc::new(series))
            }
            Self::EmptySets(sets) => match plan.downcast_ref::<AggregateExec>() {
                Some(aggregate) => with_empty_sets(aggregate, sets),
                None => internal_err!("{} is not an aggregate", plan.name()),
            },
        }
    }
}

fn with_empty_sets(aggregate: &AggregateExec, sets: u32) -> Result<Arc<dyn ExecutionPlan>> {
    let by = PhysicalGroupBy::new(vec![], vec![], vec![vec![]; sets as usize], true);
    let restored = AggregateExec::try_new(
        *aggregate.mode(),
        by,
        aggregate.aggr_expr().to_vec(),
        aggregate.filter_expr().to_vec(),
        Arc::clone(aggregate.input()),
        aggregate.input_schema(),
    )?;
    Ok(Arc::new(restored.with_limit_options(aggregate.limit_options())))
}

impl DisplayAs for LostExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LostExec")
    }
}

impl ExecutionPlan for LostExec {
    fn name(&self) -> &str {
        "LostExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    of_one_input!(|this, input| Self { input, lost: this.lost.clone() });

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        internal_err!("a plan that was prepared for encoding was run")
    }
}

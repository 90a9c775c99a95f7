//! The logical operator that is planned as [`RepeatExec`].

use crate::ops::RepeatExec;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, DFSchemaRef, Result, internal_datafusion_err};
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Repeats each row of its input as often as the last column says, and drops that column.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Repeat {
    input: LogicalPlan,
    schema: DFSchemaRef,
}

impl Repeat {
    pub fn try_new(input: LogicalPlan) -> Result<Self> {
        let schema = input.schema();
        let kept: Vec<_> = schema.iter().map(|(of, field)| (of.cloned(), Arc::clone(field))).collect();
        let (_, kept) =
            kept.split_last().ok_or_else(|| internal_datafusion_err!("rows without a count are repeated"))?;
        let schema = DFSchema::new_with_metadata(kept.to_vec(), schema.metadata().clone())?;
        Ok(Self { schema: Arc::new(schema), input })
    }
}

impl PartialOrd for Repeat {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.input.partial_cmp(&other.input)
    }
}

impl UserDefinedLogicalNodeCore for Repeat {
    fn name(&self) -> &str {
        "Repeat"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repeat")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        Self::try_new(inputs.swap_remove(0))
    }

    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        let count = self.schema.fields().len();
        Some(vec![output.iter().copied().chain([count]).collect()])
    }
}

/// Plans everything that DataFusion plans, and the operators of this module.
#[derive(Debug)]
pub(super) struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(Planner)])
            .create_physical_plan(plan, session)
            .await
    }
}

#[async_trait]
impl ExtensionPlanner for Planner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        match (node.as_any().is::<Repeat>(), inputs) {
            (true, [input]) => Ok(Some(Arc::new(RepeatExec::try_new(Arc::clone(input))?))),
            _ => Ok(None),
        }
    }
}

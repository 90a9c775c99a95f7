//! A shallow encoding of logical plans. A plan is sent in parts of a few operators each, which refer to their inputs by number. Decoders refuse messages that
//! are nested more than a hundred times, and a DataFrame may be deeper than that.

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchemaRef, DataFusionError, Result, internal_err};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Maximum nesting of operators in one part: most of the allowed nesting is left to their expressions.
const LEVELS: usize = 6;

/// A part of a plan, in place of the operators in it.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub number: usize,
    schema: DFSchemaRef,
    /// The plan that it stands for, if known.
    plan: Option<Arc<LogicalPlan>>,
}

impl Part {
    pub fn of(number: usize, plan: Arc<LogicalPlan>) -> Self {
        Self { number, schema: Arc::clone(plan.schema()), plan: Some(plan) }
    }

    pub fn extension(self) -> Extension {
        Extension { node: Arc::new(self) }
    }
}

/// The parts of `plan`, each with the numbers of earlier parts. The last one is the whole plan.
pub(super) fn parts(plan: &LogicalPlan) -> Result<Vec<LogicalPlan>> {
    let mut parts = Vec::new();
    let (last, _) = fold(plan.clone(), &mut parts)?;
    parts.push(last);
    Ok(parts)
}

/// `plan` with parts in place of operators that are too far below, and the nesting that remains.
fn fold(plan: LogicalPlan, parts: &mut Vec<LogicalPlan>) -> Result<(LogicalPlan, usize)> {
    let mut below = 0;
    let folded = plan.map_children(|child| {
        let (child, levels) = fold(child, parts)?;
        below = below.max(levels);
        Ok(Transformed::yes(child))
    });
    let folded = folded.data()?;
    if below + 1 < LEVELS {
        return Ok((folded, below + 1));
    }
    let part = Part { number: parts.len(), schema: Arc::clone(folded.schema()), plan: None };
    parts.push(folded);
    Ok((LogicalPlan::Extension(part.extension()), 1))
}

/// `plan` with the parts replaced by the plans that they stand for.
pub(super) fn whole(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Extension(Extension { node: part }) = &node else { return Ok(Transformed::no(node)) };
        let Some(part) = part.as_any().downcast_ref::<Part>() else { return Ok(Transformed::no(node)) };
        match &part.plan {
            Some(plan) => Ok(Transformed::yes(LogicalPlan::clone(plan))),
            None => internal_err!("part {} of a plan is missing", part.number),
        }
    })
    .data()
}

impl PartialEq for Part {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Part {}

impl PartialOrd for Part {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.number.partial_cmp(&other.number)
    }
}

impl Hash for Part {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl UserDefinedLogicalNodeCore for Part {
    fn name(&self) -> &str {
        "Part"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        Vec::new()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Part {}", self.number)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, _: Vec<LogicalPlan>) -> Result<Self, DataFusionError> {
        Ok(self.clone())
    }
}

//! A shallow encoding of plans.
//!
//! When lengths are computed, a message nested in others costs its size once for each level, and decoders refuse more than a hundred levels. So what lies
//! more than [`LEVELS`] below an operator or an expression is folded: it goes into a list beside the plan, and its number takes its place.

use crate::codec::{folded, number_of_folded};
use crate::lost::as_encoded;
use arrow::datatypes::Schema;
use datafusion::common::{Result, internal_err};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::from_proto::parse_physical_expr_with_converter;
use datafusion_proto::physical_plan::to_proto::serialize_physical_expr_with_converter;
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalPlanNodeExt, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::physical_plan_node::PhysicalPlanType;
use datafusion_proto::protobuf::{PhysicalExprNode, PhysicalExtensionNode, PhysicalPlanNode};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Maximum nesting of operators and expressions in one message; each takes up to five messages.
const LEVELS: u32 = 16;

/// Far from the numbers that the counter of an executor's process hands out.
const FIRST_NUMBER: u64 = 1 << 63;

/// Encodes plans and expressions.
///
/// It also numbers expressions that have an identity and are shared among operators, in the order in which they occur. DataFusion's own numbers come from a
/// counter of the process, but equal stages must have equal bytes.
pub(crate) struct Folder {
    levels: u32,
    numbers: RefCell<BTreeMap<u64, u64>>,
    /// Levels of the deepest part encoded so far inside the current one.
    below: Cell<u32>,
    folds: RefCell<Folds>,
}

/// The folded parts. Each refers only to numbers smaller than its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Folds {
    pub plans: Vec<PhysicalPlanNode>,
    pub exprs: Vec<PhysicalExprNode>,
}

impl Default for Folder {
    fn default() -> Self {
        Self::with_levels(LEVELS)
    }
}

impl Folder {
    pub fn with_levels(levels: u32) -> Self {
        Self { levels, numbers: RefCell::default(), below: Cell::default(), folds: RefCell::default() }
    }

    pub fn into_folds(self) -> Folds {
        self.folds.into_inner()
    }

    /// The result of `encode`, or, where that is too deep to be nested, the number that `fold` gives it.
    fn fold<T>(&self, encode: impl FnOnce() -> Result<T>, fold: impl FnOnce(T) -> T) -> Result<T> {
        let beside = self.below.replace(0);
        let node = encode()?;
        let levels = self.below.get() + 1;
        let (node, levels) = if levels > self.levels { (fold(node), 1) } else { (node, levels) };
        self.below.set(beside.max(levels));
        Ok(node)
    }
}

impl PhysicalProtoConverterExtension for Folder {
    fn proto_to_execution_plan(
        &self,
        _: &PhysicalPlanNode,
        _: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        internal_err!("plans are not decoded with what folds them")
    }

    fn execution_plan_to_proto(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        codec: &dyn PhysicalExtensionCodec,
    ) -> Result<PhysicalPlanNode> {
        let encode = || PhysicalPlanNode::try_from_physical_plan_with_converter(Arc::clone(plan), codec, self);
        self.fold(encode, |node| {
            let plans = &mut self.folds.borrow_mut().plans;
            plans.push(node);
            reference(plans.len() as u64 - 1)
        })
    }

    fn proto_to_physical_expr(
        &self,
        _: &PhysicalExprNode,
        _: &Schema,
        _: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        internal_err!("expressions are not decoded with what folds them")
    }

    fn physical_expr_to_proto(
        &self,
        expr: &Arc<dyn PhysicalExpr>,
        codec: &dyn PhysicalExtensionCodec,
    ) -> Result<PhysicalExprNode> {
        let encode = || {
            let mut node = serialize_physical_expr_with_converter(&as_encoded(expr), codec, self)?;
            if let Some(identity) = &mut node.expr_id {
                let mut numbers = self.numbers.borrow_mut();
                let next = FIRST_NUMBER + numbers.len() as u64;
                *identity = *numbers.entry(*identity).or_insert(next);
            }
            Ok(node)
        };
        self.fold(encode, |node| {
            let exprs = &mut self.folds.borrow_mut().exprs;
            exprs.push(node);
            // An expression without a type.
            PhysicalExprNode { expr_id: Some(exprs.len() as u64 - 1), expr_type: None }
        })
    }
}

fn reference(number: u64) -> PhysicalPlanNode {
    let extension = PhysicalExtensionNode { node: folded(number), inputs: Vec::new() };
    PhysicalPlanNode { physical_plan_type: Some(PhysicalPlanType::Extension(extension)) }
}

/// Decodes what a [`Folder`] has encoded, with one expression for each identity.
pub(crate) struct Unfolder<'a> {
    plans: &'a [PhysicalPlanNode],
    exprs: &'a [PhysicalExprNode],
    /// Expressions by their identity: those that shared state, such as dynamic filters, must share it again.
    known: RefCell<HashMap<u64, Arc<dyn PhysicalExpr>>>,
}

impl<'a> Unfolder<'a> {
    pub fn new(plans: &'a [PhysicalPlanNode], exprs: &'a [PhysicalExprNode]) -> Self {
        Self { plans, exprs, known: RefCell::default() }
    }
}

fn missing<T>() -> Result<T> {
    internal_err!("a part of the plan is missing")
}

impl PhysicalProtoConverterExtension for Unfolder<'_> {
    fn proto_to_execution_plan(
        &self,
        node: &PhysicalPlanNode,
        context: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let node = match &node.physical_plan_type {
            Some(PhysicalPlanType::Extension(extension)) if extension.inputs.is_empty() => {
                match number_of_folded(&extension.node)? {
                    Some(number) => match self.plans.get(number as usize) {
                        Some(folded) => folded,
                        None => return missing(),
                    },
                    None => node,
                }
            }
            _ => node,
        };
        node.try_into_physical_plan_with_context(context, self)
    }

    fn execution_plan_to_proto(
        &self,
        _: &Arc<dyn ExecutionPlan>,
        _: &dyn PhysicalExtensionCodec,
    ) -> Result<PhysicalPlanNode> {
        internal_err!("plans are not encoded with what unfolds them")
    }

    fn proto_to_physical_expr(
        &self,
        node: &PhysicalExprNode,
        schema: &Schema,
        context: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let node = match (node.expr_id, &node.expr_type) {
            (Some(number), None) => match self.exprs.get(number as usize) {
                Some(folded) => folded,
                None => return missing(),
            },
            _ => node,
        };
        let parsed = parse_physical_expr_with_converter(node, schema, context, self)?;
        let Some(identity) = node.expr_id else { return Ok(parsed) };
        if let Some(known) = self.known.borrow().get(&identity) {
            // The columns come from this place, the state from the other.
            let children = parsed.children().into_iter().cloned().collect();
            return Arc::clone(known).with_new_children(children);
        }
        self.known.borrow_mut().insert(identity, Arc::clone(&parsed));
        Ok(parsed)
    }

    fn physical_expr_to_proto(
        &self,
        _: &Arc<dyn PhysicalExpr>,
        _: &dyn PhysicalExtensionCodec,
    ) -> Result<PhysicalExprNode> {
        internal_err!("expressions are not encoded with what unfolds them")
    }
}

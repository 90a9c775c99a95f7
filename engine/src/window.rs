//! What DataFusion's encoding of window functions leaves out: IGNORE NULLS, and that a function runs over reversed rows. Either one
//! lost would be a wrong answer, so such a window travels inside a wrapper that restores them.

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_datafusion_err, internal_err, not_impl_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::window::{StandardWindowExpr, WindowExpr};
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec, WindowUDFExpr, create_udwf_window_expr};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use std::fmt;
use std::sync::Arc;

/// For each window expression of the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WindowFlags {
    pub ignore_nulls: bool,
    pub is_reversed: bool,
}

/// Exists only while a plan is encoded: decoding gives the restored window.
#[derive(Debug)]
pub(crate) struct WindowFlagsExec {
    input: Arc<dyn ExecutionPlan>,
    pub flags: Vec<WindowFlags>,
}

/// `plan` as it is to be encoded.
pub(crate) fn wrap_windows(plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    Arc::clone(plan)
        .transform_up(|node| {
            let exprs = window_exprs(&node);
            refuse_filters(&exprs)?;
            let flags = exprs.iter().map(flags_of).collect::<Result<Vec<_>>>()?;
            Ok(match flags.iter().all(|flags| *flags == WindowFlags::default()) {
                true => Transformed::no(node),
                false => Transformed::yes(Arc::new(WindowFlagsExec { input: node, flags }) as Arc<dyn ExecutionPlan>),
            })
        })
        .data()
}

/// The encoding drops the FILTER of an aggregate over a window: an error is better than the answer without it.
fn refuse_filters(exprs: &[Arc<dyn WindowExpr>]) -> Result<()> {
    match exprs.iter().find(|expr| function(expr).is_none() && format!("{expr:?}").contains("filter: Some(")) {
        Some(expr) => not_impl_err!(
            "FILTER of the window aggregate {} cannot be sent to executors yet: write CASE WHEN inside the aggregate",
            expr.name()
        ),
        None => Ok(()),
    }
}

/// The window that was encoded with these flags.
pub(crate) fn restore_window(plan: &Arc<dyn ExecutionPlan>, flags: &[WindowFlags]) -> Result<Arc<dyn ExecutionPlan>> {
    let exprs = window_exprs(plan);
    if exprs.len() != flags.len() {
        return internal_err!("an encoded window has {} expressions and {} flags", exprs.len(), flags.len());
    }
    let restored =
        exprs.iter().zip(flags).map(|(expr, flags)| restore(expr, *flags, plan)).collect::<Result<Vec<_>>>()?;
    if let Some(window) = plan.downcast_ref::<BoundedWindowAggExec>() {
        let partitioned = !window.partition_keys().is_empty();
        let mode = window.input_order_mode.clone();
        return Ok(Arc::new(BoundedWindowAggExec::try_new(restored, Arc::clone(window.input()), mode, partitioned)?));
    }
    if let Some(window) = plan.downcast_ref::<WindowAggExec>() {
        let partitioned = !window.partition_keys().is_empty();
        return Ok(Arc::new(WindowAggExec::try_new(restored, Arc::clone(window.input()), partitioned)?));
    }
    internal_err!("{} is not a window", plan.name())
}

fn window_exprs(plan: &Arc<dyn ExecutionPlan>) -> Vec<Arc<dyn WindowExpr>> {
    if let Some(window) = plan.downcast_ref::<BoundedWindowAggExec>() {
        return window.window_expr().to_vec();
    }
    match plan.downcast_ref::<WindowAggExec>() {
        Some(window) => window.window_expr().to_vec(),
        None => Vec::new(),
    }
}

fn function(expr: &Arc<dyn WindowExpr>) -> Option<(&StandardWindowExpr, &WindowUDFExpr)> {
    let standard = expr.as_any().downcast_ref::<StandardWindowExpr>()?;
    Some((standard, standard.get_standard_func_expr().as_any().downcast_ref::<WindowUDFExpr>()?))
}

/// The flags show nowhere but in the debug form.
fn flags_of(expr: &Arc<dyn WindowExpr>) -> Result<WindowFlags> {
    let Some((_, function)) = function(expr) else {
        return Ok(WindowFlags::default());
    };
    let debug = format!("{function:?}");
    let flag = |name: &str| match debug.rsplit_once(&format!("{name}: ")) {
        Some((_, value)) if value.starts_with("true") => Ok(true),
        Some((_, value)) if value.starts_with("false") => Ok(false),
        _ => Err(internal_datafusion_err!("{name} of the window function {} cannot be told", expr.name())),
    };
    Ok(WindowFlags { ignore_nulls: flag("ignore_nulls")?, is_reversed: flag("is_reversed")? })
}

fn restore(
    expr: &Arc<dyn WindowExpr>,
    flags: WindowFlags,
    window: &Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn WindowExpr>> {
    let Some((standard, function)) = function(expr).filter(|_| flags != WindowFlags::default()) else {
        return Ok(Arc::clone(expr));
    };
    let schema = window.children()[0].schema();
    let create =
        |fun: &_| create_udwf_window_expr(fun, function.args(), &schema, expr.name().to_string(), flags.ignore_nulls);
    let restored = if flags.is_reversed {
        // Reversing what it was made from marks it as reversed.
        use datafusion::logical_expr::ReversedUDWF;
        let forward = match function.fun().reverse_expr() {
            ReversedUDWF::Reversed(fun) => create(&fun)?,
            ReversedUDWF::Identical | ReversedUDWF::NotSupported => {
                return internal_err!("the window function {} cannot be reversed", expr.name());
            }
        };
        forward
            .reverse_expr()
            .ok_or_else(|| internal_datafusion_err!("the window function {} cannot be reversed", expr.name()))?
    } else {
        create(function.fun())?
    };
    let frame = Arc::clone(standard.get_window_frame());
    Ok(Arc::new(StandardWindowExpr::new(restored, standard.partition_by(), standard.order_by(), frame)))
}

impl DisplayAs for WindowFlagsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WindowFlagsExec")
    }
}

impl ExecutionPlan for WindowFlagsExec {
    fn name(&self) -> &str {
        "WindowFlagsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self { input: children.swap_remove(0), flags: self.flags.clone() }))
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self { input: children.swap_remove(0), flags: self.flags.clone() }))
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        internal_err!("a plan that was prepared for encoding was run")
    }
}

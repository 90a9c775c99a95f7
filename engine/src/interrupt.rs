//! Planning that can be given up: a thread that plans knows of its statement whether anybody still waits for it.

use crate::planning::Rules;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DataFusionError, Result};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::{PhysicalOptimizerContext, PhysicalOptimizerRule};
use datafusion::physical_plan::ExecutionPlan;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use windlass_core::failure::TaskFailure;

thread_local! {
    static GIVEN_UP: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// Plans in `work`, which ends with an error soon after `given_up` is set.
pub fn planning<T>(given_up: &Arc<AtomicBool>, work: impl FnOnce() -> T) -> T {
    struct Restore(Option<Arc<AtomicBool>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let before = self.0.take();
            GIVEN_UP.with(|current| *current.borrow_mut() = before);
        }
    }
    let before = GIVEN_UP.with(|current| current.borrow_mut().replace(Arc::clone(given_up)));
    let _restore = Restore(before);
    work()
}

/// Whether this thread plans a statement.
pub(crate) fn is_planning() -> bool {
    GIVEN_UP.with(|current| current.borrow().is_some())
}

/// An error when nobody waits for what this thread plans.
pub(crate) fn check() -> Result<()> {
    let given_up =
        GIVEN_UP.with(|current| current.borrow().as_ref().is_some_and(|given_up| given_up.load(Ordering::Relaxed)));
    match given_up {
        true => Err(DataFusionError::External(Box::new(TaskFailure::Cancelled))),
        false => Ok(()),
    }
}

/// A rule of an optimizer that looks first.
#[derive(Debug)]
struct Interruptible<R: ?Sized>(Arc<R>);

/// `rules`, each of which is given up when nobody waits for the plan.
pub(crate) fn logical_rules(
    rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    rules.into_iter().map(|rule| Arc::new(Interruptible(rule)) as _).collect()
}

/// As [`logical_rules`].
pub(crate) fn physical_rules(rules: Rules) -> Rules {
    rules.into_iter().map(|rule| Arc::new(Interruptible(rule)) as _).collect()
}

impl OptimizerRule for Interruptible<dyn OptimizerRule + Send + Sync> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        check()?;
        self.0.rewrite(plan, config)
    }
}

impl PhysicalOptimizerRule for Interruptible<dyn PhysicalOptimizerRule + Send + Sync> {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        check()?;
        self.0.optimize(plan, config)
    }

    fn optimize_with_context(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        context: &dyn PhysicalOptimizerContext,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        check()?;
        self.0.optimize_with_context(plan, context)
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_waits_for_is_given_up_where_it_is_planned() {
        let given_up = Arc::new(AtomicBool::new(false));
        planning(&given_up, || {
            assert!(is_planning() && check().is_ok());
            given_up.store(true, Ordering::Relaxed);
            assert!(check().is_err());
            planning(&Arc::default(), || assert!(check().is_ok()));
            assert!(check().is_err());
        });
        assert!(!is_planning() && check().is_ok());
    }
}

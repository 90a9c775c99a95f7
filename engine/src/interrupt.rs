//! Cancellation of planning: a thread that plans a statement knows whether anybody still waits for it, and how much memory it may take.

use crate::planning::Rules;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DataFusionError, Result};
use datafusion::config::ConfigOptions;
use datafusion::execution::memory_pool::human_readable_size;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::planner::{RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::{PhysicalOptimizerContext, PhysicalOptimizerRule};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::sqlparser::ast::TableFactor;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use tikv_jemalloc_ctl::thread::{ThreadLocal, allocatedp, deallocatedp};
use windlass_core::failure::TaskFailure;

/// Cancellation and memory limit of one statement's planning.
#[derive(Debug)]
pub struct Work {
    given_up: AtomicBool,
    /// Bytes allocated and not freed on the threads that planned it before.
    held: AtomicI64,
    /// Maximum bytes.
    limit: i64,
}

impl Work {
    /// Planning may hold `limit` bytes. Only jemalloc's allocations are counted; those of other allocators are not visible.
    pub fn new(limit: u64) -> Self {
        Self {
            given_up: AtomicBool::new(false),
            held: AtomicI64::new(0),
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
        }
    }

    /// Cancels the planning, because nobody waits for it.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    pub fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }
}

struct Current {
    work: Arc<Work>,
    /// The value of [`allocated`] when planning began on this thread.
    before: i64,
}

impl Current {
    fn held(&self) -> i64 {
        self.work.held.load(Ordering::Relaxed) + allocated() - self.before
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
    static COUNTERS: Option<(ThreadLocal<u64>, ThreadLocal<u64>)> = allocatedp::read().ok().zip(deallocatedp::read().ok());
}

/// Bytes that this thread has allocated, minus those that it has freed.
fn allocated() -> i64 {
    COUNTERS.with(|counters| {
        let held = |(allocated, freed): &(ThreadLocal<u64>, ThreadLocal<u64>)| {
            // Both counters wrap.
            allocated.get().wrapping_sub(freed.get()).cast_signed()
        };
        counters.as_ref().map_or(0, held)
    })
}

/// Plans in `doing`. It fails soon after `work` is given up, or when it holds more than its limit.
pub fn planning<T>(work: &Arc<Work>, doing: impl FnOnce() -> T) -> T {
    struct Restore(Option<Current>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let before = self.0.take();
            if let Some(ended) = CURRENT.with(|current| std::mem::replace(&mut *current.borrow_mut(), before)) {
                ended.work.held.store(ended.held(), Ordering::Relaxed);
            }
        }
    }
    let current = Current { work: Arc::clone(work), before: allocated() };
    let _restore = Restore(CURRENT.with(|place| place.borrow_mut().replace(current)));
    doing()
}

/// Whether this thread plans a statement.
pub(crate) fn is_planning() -> bool {
    CURRENT.with(|current| current.borrow().is_some())
}

/// Checks the planning of this thread.
///
/// # Errors
/// Nobody waits for it, or it holds more memory than its limit.
pub(crate) fn check() -> Result<()> {
    CURRENT.with(|current| match current.borrow().as_ref() {
        Some(current) if current.work.is_given_up() => {
            Err(DataFusionError::External(Box::new(TaskFailure::Cancelled)))
        }
        Some(current) if current.held() > current.work.limit => Err(DataFusionError::ResourcesExhausted(format!(
            "planning the statement took more than {} of memory, and primary.planning_memory allows no more: load literal rows and long \
             lists from a file, and keep what is built of many layers in a table",
            human_readable_size(current.work.limit as usize)
        ))),
        _ => Ok(()),
    })
}

/// Checks before each table, subquery or common table expression that a FROM names.
#[derive(Debug)]
pub(crate) struct Relations;

impl RelationPlanner for Relations {
    fn plan_relation(&self, relation: TableFactor, _: &mut dyn RelationPlannerContext) -> Result<RelationPlanning> {
        check()?;
        Ok(RelationPlanning::Original(Box::new(relation)))
    }
}

/// An optimizer rule that checks first.
#[derive(Debug)]
struct Interruptible<R: ?Sized>(Arc<R>);

/// `rules`, each of which stops when nobody waits for the plan.
pub(crate) fn logical_rules(
    rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    rules.into_iter().map(|rule| Arc::new(Interruptible(rule)) as _).collect()
}

/// Like [`logical_rules`], for physical plans.
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
        let work = Arc::new(Work::new(u64::MAX));
        planning(&work, || {
            assert!(is_planning() && check().is_ok());
            work.give_up();
            assert!(check().is_err());
            planning(&Arc::new(Work::new(u64::MAX)), || assert!(check().is_ok()));
            assert!(check().is_err());
        });
        assert!(!is_planning() && check().is_ok());
    }

    #[test]
    fn what_takes_too_much_memory_is_given_up_also_when_it_goes_on_elsewhere() {
        let work = Arc::new(Work::new(1 << 20));
        let some = || vec![1_u8; 700 << 10];
        let first = planning(&work, || {
            let first = some();
            assert!(check().is_ok());
            drop(some());
            assert!(check().is_ok(), "what is freed does not count");
            first
        });
        let elsewhere = std::thread::scope(|threads| {
            let second = threads.spawn(|| {
                planning(&work, || {
                    assert!(check().is_ok());
                    let second = some();
                    (check().map_err(|error| error.to_string()), second.len())
                })
            });
            second.join().unwrap().0
        });
        assert!(elsewhere.unwrap_err().contains("primary.planning_memory"));
        drop(first);
    }
}

//! Plans of statements that a session repeats.

use super::Session;
use crate::statements::catalog::Catalog;
use crate::statements::erased::Erased;
use datafusion::logical_expr::LogicalPlan;
use std::collections::HashMap;

/// Statements kept; past that, all are forgotten.
const MAX_STATEMENTS: usize = 64;
/// Longer statements are not kept.
const MAX_LENGTH: usize = 16 << 10;

/// What a plan of a text depends on, besides the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    pub catalog: u64,
    pub options: u64,
    pub temporary: u64,
}

impl Versions {
    /// What plans of `session` depend on, as of now.
    pub fn of(session: &Session, catalog: &Catalog) -> Self {
        Self {
            catalog: catalog.version(),
            options: session.options_version(),
            temporary: session.temporary().version(),
        }
    }
}

/// Logical plans before optimisation, by the text of their statement: names are resolved and types are known, but which files a
/// table has and what `now()` is are found out for each execution.
#[derive(Debug, Default)]
pub(crate) struct PlanCache {
    plans: HashMap<String, (Versions, Erased<LogicalPlan>)>,
}

impl PlanCache {
    pub fn get(&self, sql: &str, versions: Versions) -> Option<LogicalPlan> {
        self.plans.get(sql).filter(|(made_in, _)| *made_in == versions).map(|(_, plan)| LogicalPlan::clone(plan))
    }

    pub fn put(&mut self, sql: &str, versions: Versions, plan: &LogicalPlan) {
        if sql.len() > MAX_LENGTH {
            return;
        }
        if self.plans.len() >= MAX_STATEMENTS {
            self.plans.clear();
        }
        self.plans.insert(sql.to_string(), (versions, Erased::new(plan.clone())));
    }
}

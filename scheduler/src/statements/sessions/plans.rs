//! Plans of statements that a session repeats.

use super::Session;
use crate::statements::catalog::Catalog;
use crate::statements::erased::Erased;
use datafusion::logical_expr::LogicalPlan;
use std::collections::HashMap;

/// Maximum kept statements. When it is exceeded, all are removed.
const MAX_STATEMENTS: usize = 64;
/// Maximum bytes of a kept statement.
const MAX_LENGTH: usize = 16 << 10;

/// Versions on which the plan of a text depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    pub catalog: u64,
    pub options: u64,
    pub temporary: u64,
}

impl Versions {
    /// Returns the present versions for `session`.
    pub fn of(session: &Session, catalog: &Catalog) -> Self {
        Self {
            catalog: catalog.version(),
            options: session.options_version(),
            temporary: session.temporary().version(),
        }
    }
}

/// Logical plans before optimisation, by the text of their statement. Names are resolved and types are known, but the files of a table
/// and the value of `now()` are determined at each execution.
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

//! The DataFusion DataFrame API over a cluster.
//!
//! [`context`] is an ordinary `SessionContext` with two parts replaced: its catalog asks the cluster for the columns of a table, and its
//! planner turns a whole logical plan into one operator that runs the plan on the cluster and streams the rows. So `collect`, `show`,
//! `execute_stream`, `count`, `write_parquet` and the rest work as they are, and none of them computes here.

mod catalog;
mod operator;

use crate::session::Session;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use std::sync::Arc;

/// Where a name without catalog and schema is looked up, as in the cluster's own sessions.
const DEFAULT_CATALOG: &str = "windlass";
const DEFAULT_SCHEMA: &str = "public";

pub(crate) fn context(session: &Session) -> SessionContext {
    let config = SessionConfig::new()
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(DEFAULT_CATALOG, DEFAULT_SCHEMA)
        // The planner makes one operator; there is nothing to be parallel about.
        .with_target_partitions(1);
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_catalog_list(Arc::new(catalog::Catalogs::new(session.clone())))
        // The cluster optimises, with statistics that nobody has here. Type coercion (an analyzer rule) stays: it fixes the columns' types.
        .with_optimizer_rules(Vec::new())
        .with_physical_optimizer_rules(Vec::new())
        .with_query_planner(Arc::new(operator::ClusterPlanner::new(session.clone())))
        .build();
    SessionContext::new_with_state(state)
}

//! The DataFusion DataFrame API over a cluster.
//!
//! [`Session::context`] is an ordinary `SessionContext` with two parts replaced: its catalog asks the cluster for the columns of a table, and its planner turns
//! a whole logical plan into one operator that runs the plan on the cluster and streams the rows. So `collect`, `show`, `execute_stream`, `count`,
//! `write_parquet` and the rest work unchanged, and none of them computes here.

mod catalog;
mod errors;
mod operator;

use crate::error::Result;
use crate::session::Session;
use crate::statement::Statement;
use datafusion::dataframe::DataFrame;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use std::sync::Arc;

/// Catalog for names without catalog and schema, as in the cluster's own sessions.
const DEFAULT_CATALOG: &str = "windlass";
const DEFAULT_SCHEMA: &str = "public";

impl Session {
    /// Returns a DataFusion context over the cluster: its DataFrames read the cluster's tables and run on the cluster.
    pub fn context(&self) -> SessionContext {
        context(self)
    }

    /// Returns a table or view of the cluster as a DataFrame.
    pub async fn table(&self, name: &str) -> Result<DataFrame> {
        Ok(self.context().table(name).await?)
    }

    /// Turns a DataFrame into a statement, for its [`QueryHandle`]; `DataFrame::collect` and its like need only the DataFrame.
    pub fn dataframe(&self, dataframe: DataFrame) -> Result<Statement> {
        let (state, plan) = dataframe.into_parts();
        let plan = state.optimize(&plan)?;
        Ok(self.encoded_plan(windlass_engine::logical::encode(&plan)?))
    }
}

fn context(session: &Session) -> SessionContext {
    let config = SessionConfig::new()
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(DEFAULT_CATALOG, DEFAULT_SCHEMA)
        // The planner makes one operator, so parallelism has no use here.
        .with_target_partitions(1);
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_catalog_list(Arc::new(catalog::Catalogs::new(session.clone())))
        // The cluster optimises, with statistics that are missing here. Type coercion (an analyzer rule) stays: it fixes the columns' types.
        .with_optimizer_rules(Vec::new())
        .with_physical_optimizer_rules(Vec::new())
        .with_query_planner(Arc::new(operator::ClusterPlanner::new(session.clone())))
        .build();
    SessionContext::new_with_state(state)
}

//! Calls of DataFusion's file formats that create writers, and the sinks that they create.

use datafusion::catalog::Session;
use datafusion::common::{Result, internal_err};
use datafusion::datasource::sink::DataSinkExec;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::physical_plan::ExecutionPlan;
use std::sync::{Arc, OnceLock};

/// A session for planning a write: formats require one but do not use it.
pub(crate) fn unused_session() -> &'static dyn Session {
    static SESSION: OnceLock<SessionState> = OnceLock::new();
    SESSION.get_or_init(|| SessionStateBuilder::new().build())
}

/// The sink of `plan`, which a format made to write files.
pub(crate) fn planned_sink(plan: &Arc<dyn ExecutionPlan>) -> Result<&DataSinkExec> {
    match plan.downcast_ref::<DataSinkExec>() {
        Some(sink) => Ok(sink),
        None => internal_err!("files are written by {}, which is not a sink", plan.name()),
    }
}

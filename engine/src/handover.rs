//! Plans that an executor in the planner's own process takes without decoding.
//!
//! They are encoded all the same, before any of them runs: a plan that has run keeps state, such as build sides and dynamic filters. So each can be taken
//! once, and a second instance of it is decoded.

use crate::stage::{Planned, PlannedJob};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use windlass_core::ids::{JobId, StageId};

/// Plans on their way to an executor of this process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Handover {
    plans: Arc<Mutex<HashMap<StageId, Planned>>>,
}

impl Handover {
    /// Offers the plan of `job`, which will have the id `id`. Stages of one job may share state that only one of them may use, so a job of several stages is
    /// left to be decoded.
    pub fn offer(&self, id: JobId, job: &mut PlannedJob) {
        let [stage] = job.stages.as_mut_slice() else { return };
        if let Some(planned) = stage.planned.take() {
            self.plans.lock().insert(id.stage(0), planned);
        }
    }

    /// The plan of a stage, for the first caller only.
    pub fn take(&self, stage: StageId) -> Option<Planned> {
        self.plans.lock().remove(&stage)
    }

    /// Withdraws a job that has ended, perhaps before it began.
    pub fn withdraw(&self, job: JobId) {
        self.take(job.stage(0));
    }
}

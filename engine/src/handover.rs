//! Plans that an executor of the planner's own process takes as they are.
//!
//! They are encoded all the same, before any of them runs: a plan that has run keeps what it found, such as build sides and dynamic
//! filters, so each can be taken once, and a second instance of it is decoded.

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
    /// Offers what `job`, which is to be called `id`, was planned as. Stages of one job may share state that only one of them may use,
    /// so a job of several is left to be decoded.
    pub fn offer(&self, id: JobId, job: &mut PlannedJob) {
        let [stage] = job.stages.as_mut_slice() else { return };
        if let Some(planned) = stage.planned.take() {
            self.plans.lock().insert(id.stage(0), planned);
        }
    }

    /// The plan of a stage, for whoever asks first.
    pub fn take(&self, stage: StageId) -> Option<Planned> {
        self.plans.lock().remove(&stage)
    }

    /// The job has ended, perhaps before it began.
    pub fn withdraw(&self, job: JobId) {
        self.take(job.stage(0));
    }
}

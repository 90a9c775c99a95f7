//! Programs while they run: cancelled like the jobs that they consist of, and recorded beside them.

use super::{Driver, Ended};
use crate::driver::history::{JobInfo, JobState, Moment};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;
use windlass_core::ids::JobId;
use windlass_core::time::Instant;

#[derive(Default)]
pub(super) struct Programs {
    running: Mutex<BTreeMap<JobId, Signals>>,
}

#[derive(Clone, Default)]
struct Signals {
    cancelled: Ended,
    over: CancellationToken,
}

/// Held by who runs the program; the program is over when it is dropped.
pub(crate) struct RunningProgram {
    driver: Driver,
    pub(crate) id: JobId,
    signals: Signals,
}

impl Driver {
    /// `submitted_ms`: when it was accepted, perhaps by an earlier leader.
    pub(crate) fn begin_program(&self, id: JobId, info: JobInfo, statements: u32, submitted_ms: u64) -> RunningProgram {
        let signals = Signals::default();
        self.shared.programs.running.lock().insert(id, signals.clone());
        self.shared.history.program_started(self.now(), id, info, statements, submitted_ms);
        RunningProgram { driver: self.clone(), id, signals }
    }

    /// A program has no stages, whose times would be told by the machine's clock.
    fn now(&self) -> Moment {
        Moment { at: Instant::default(), wall_ms: self.shared.config.clock.wall_ms() }
    }

    /// Waits until the program is over. False: there is none that runs.
    pub(super) async fn cancel_program(&self, id: JobId, reason: &str) -> bool {
        let Some(signals) = self.shared.programs.running.lock().get(&id).cloned() else { return false };
        signals.cancelled.end(reason);
        signals.over.cancelled().await;
        true
    }
}

impl RunningProgram {
    /// Comes back with the reason when somebody cancels it.
    pub async fn cancelled(&self) -> String {
        let Ended { token, reason } = &self.signals.cancelled;
        token.cancelled().await;
        reason.get().cloned().unwrap_or_default()
    }

    pub fn at(&self, statement: u32, text: &str) {
        self.driver.shared.history.program_at(self.driver.now(), self.id, statement, text);
    }

    pub fn ended(&self, state: JobState, error: Option<String>) {
        let ended = self.driver.shared.history.program_ended(self.driver.now(), self.id, state, error);
        if let (Some(saved), Some((record, forgotten))) = (&self.driver.shared.saved, ended) {
            saved.record(self.id, record);
            forgotten.into_iter().for_each(|job| saved.forget(job));
        }
    }
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        self.driver.shared.programs.running.lock().remove(&self.id);
        self.signals.over.cancel();
    }
}

//! Running submissions, which are cancelled and recorded like their jobs.

use super::Driver;
use crate::driver::history::{JobInfo, JobState, Moment};
use crate::meta::Update;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use windlass_core::ids::JobId;
use windlass_core::submissions::Reply;
use windlass_core::time::Instant;

/// Maximum waiting cancellations of one submission. Further callers wait.
const CANCELS: usize = 16;

/// The submission was not cancelled for good. It may continue, here or under the next leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("that the submission is cancelled could not be noted in the metadata store, so it may go on: cancel it again")]
pub struct NotCancelled;

#[derive(Default)]
pub(super) struct Submissions {
    running: Mutex<BTreeMap<JobId, Signals>>,
}

#[derive(Clone)]
struct Signals {
    cancels: mpsc::Sender<Cancel>,
    over: CancellationToken,
}

/// A request to end a submission.
#[derive(Debug)]
pub(crate) struct Cancel {
    pub reason: String,
    /// Receives the answer of the submission's machine.
    pub answer: oneshot::Sender<Reply>,
}

/// Held by the runner of the submission. When it is dropped, nothing of the submission runs here.
pub(crate) struct RunningSubmission {
    driver: Driver,
    pub(crate) id: JobId,
    cancels: mpsc::Receiver<Cancel>,
    over: CancellationToken,
}

impl Driver {
    /// Registers a submission, which can be cancelled from here on.
    pub(crate) fn begin_submission(&self, id: JobId) -> RunningSubmission {
        let (sender, cancels) = mpsc::channel(CANCELS);
        let over = CancellationToken::new();
        let signals = Signals { cancels: sender, over: over.clone() };
        self.shared.submissions.running.lock().insert(id, signals);
        RunningSubmission { driver: self.clone(), id, cancels, over }
    }

    /// Returns the wall clock alone: a submission has no stages, which need the machine's clock.
    fn now(&self) -> Moment {
        Moment { at: Instant::default(), wall_ms: self.shared.config.clock.wall_ms() }
    }

    /// Asks a submission to end, and waits until nothing of it runs here. Does nothing if there is none.
    pub(super) async fn cancel_submission(&self, id: JobId, reason: &str) -> Result<(), NotCancelled> {
        let Some(signals) = self.shared.submissions.running.lock().get(&id).cloned() else { return Ok(()) };
        let (answer, answered) = oneshot::channel();
        // A submission that has just ended does not receive it.
        let heard = signals.cancels.send(Cancel { reason: reason.to_string(), answer }).await.is_ok();
        if heard && let Ok(Reply::NotCancelled) = answered.await {
            return Err(NotCancelled);
        }
        signals.over.cancelled().await;
        Ok(())
    }

    /// Returns the submission that ends when `job` is cancelled: the job itself, or the submission to which it belongs, if it has not
    /// ended.
    pub(super) fn submission_of(&self, job: JobId) -> Option<JobId> {
        let of = |submission: bool, part_of: Option<(JobId, u32)>| {
            if submission { Some(job) } else { part_of.map(|of| of.0) }
        };
        let live = self.shared.history.job(job, |record| {
            (!record.state.has_ended()).then(|| of(record.submission.is_some(), record.info.part_of)).flatten()
        });
        live.flatten()
    }
}

impl RunningSubmission {
    /// Waits for a cancellation.
    pub async fn cancelled(&mut self) -> Cancel {
        match self.cancels.recv().await {
            Some(cancel) => cancel,
            // The driver holds the sender while this lives.
            None => std::future::pending().await,
        }
    }

    /// Lists the submission. `submitted_ms`: when it was accepted, perhaps by an earlier leader.
    pub fn listed(&self, info: JobInfo, statements: u32, submitted_ms: u64) {
        self.driver.shared.history.submission_started(self.driver.now(), self.id, info, statements, submitted_ms);
    }

    pub fn at(&self, statement: u32, text: &str) {
        self.driver.shared.history.submission_at(self.driver.now(), self.id, statement, text);
    }

    pub fn waits(&self, statement: u32, long: Duration) {
        self.driver.shared.history.submission_waits(self.driver.now(), self.id, statement, long);
    }

    /// Returns the record for the metadata store of a submission that ends in this state. `None`: no records are kept.
    pub fn record(&self, state: JobState, error: Option<String>) -> Option<Update> {
        let shared = &self.driver.shared;
        let record = shared.history.submission_ending(self.driver.now(), self.id, state, error)?;
        Some(shared.saved.as_ref()?.update(self.id, record))
    }

    /// Ends the submission in the history. Its record is in the store already.
    pub fn ended(&self, state: JobState, error: Option<String>) {
        let forgotten = self.driver.shared.history.submission_ended(self.driver.now(), self.id, state, error);
        if let Some(saved) = &self.driver.shared.saved {
            forgotten.into_iter().for_each(|job| saved.forget(job));
        }
    }
}

impl Drop for RunningSubmission {
    fn drop(&mut self) {
        self.driver.shared.submissions.running.lock().remove(&self.id);
        self.over.cancel();
    }
}

//! Submissions while they run: cancelled like the jobs that they consist of, and recorded beside them.

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

/// Cancellations that may wait for one submission before those who ask for more wait too.
const CANCELS: usize = 16;

/// The submission was not cancelled for good: it may go on, here or under the next leader.
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

/// Somebody asks that a submission ends.
#[derive(Debug)]
pub(crate) struct Cancel {
    pub reason: String,
    /// Told what the submission's machine answers.
    pub answer: oneshot::Sender<Reply>,
}

/// Held by whoever runs the submission; nothing of it runs here any more when it is dropped.
pub(crate) struct RunningSubmission {
    driver: Driver,
    pub(crate) id: JobId,
    cancels: mpsc::Receiver<Cancel>,
    over: CancellationToken,
}

impl Driver {
    /// A submission that can be cancelled from here on.
    pub(crate) fn begin_submission(&self, id: JobId) -> RunningSubmission {
        let (sender, cancels) = mpsc::channel(CANCELS);
        let over = CancellationToken::new();
        let signals = Signals { cancels: sender, over: over.clone() };
        self.shared.submissions.running.lock().insert(id, signals);
        RunningSubmission { driver: self.clone(), id, cancels, over }
    }

    /// A submission has no stages, whose times would be told by the machine's clock.
    fn now(&self) -> Moment {
        Moment { at: Instant::default(), wall_ms: self.shared.config.clock.wall_ms() }
    }

    /// Asks a submission to end, and waits until nothing of it runs here. Nothing happens where there is none.
    pub(super) async fn cancel_submission(&self, id: JobId, reason: &str) -> Result<(), NotCancelled> {
        let Some(signals) = self.shared.submissions.running.lock().get(&id).cloned() else { return Ok(()) };
        let (answer, answered) = oneshot::channel();
        // One that has ended meanwhile does not hear it.
        let heard = signals.cancels.send(Cancel { reason: reason.to_string(), answer }).await.is_ok();
        if heard && let Ok(Reply::NotCancelled) = answered.await {
            return Err(NotCancelled);
        }
        signals.over.cancelled().await;
        Ok(())
    }

    /// The submission that ends when `job` is cancelled: the job itself, or the one that it is part of and has not ended.
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
    /// Comes back when somebody cancels it.
    pub async fn cancelled(&mut self) -> Cancel {
        match self.cancels.recv().await {
            Some(cancel) => cancel,
            // The other end lies in the driver for as long as this lives.
            None => std::future::pending().await,
        }
    }

    /// It is listed from here on. `submitted_ms`: when it was accepted, perhaps by an earlier leader.
    pub fn listed(&self, info: JobInfo, statements: u32, submitted_ms: u64) {
        self.driver.shared.history.submission_started(self.driver.now(), self.id, info, statements, submitted_ms);
    }

    pub fn at(&self, statement: u32, text: &str) {
        self.driver.shared.history.submission_at(self.driver.now(), self.id, statement, text);
    }

    pub fn waits(&self, statement: u32, long: Duration) {
        self.driver.shared.history.submission_waits(self.driver.now(), self.id, statement, long);
    }

    /// What the metadata store has to keep when it has ended so. `None`: no records are kept.
    pub fn record(&self, state: JobState, error: Option<String>) -> Option<Update> {
        let shared = &self.driver.shared;
        let record = shared.history.submission_ending(self.driver.now(), self.id, state, error)?;
        Some(shared.saved.as_ref()?.update(self.id, record))
    }

    /// It has ended, and its record is in the store.
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

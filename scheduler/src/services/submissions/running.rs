//! A submission while it runs. This carries out the requests of its machine and reports the results to the machine. It decides nothing,
//! and sends the store one request at a time.

use super::{Shared, UnderWay, query_of};
use crate::driver::history::JobInfo;
use crate::driver::{Cancel, RunningSubmission};
use crate::errors::QueryError;
use crate::meta::keys::requests::{self, Request};
use crate::meta::keys::submissions::{self as keys, Submission};
use crate::meta::keys::tries::{self as keys_of_tries, Noted};
use crate::meta::{MetaError, Transaction};
use crate::services::jobs::JobState;
use crate::services::runs::Ask;
use crate::statements::sessions::Session;
use crate::statements::tries::exhausted;
use crate::statements::{Delivery, Info, Parameters, SessionEffect, session_effect};
use datafusion::common::ScalarValue;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use windlass_core::access::Principal;
use windlass_core::ids::JobId;
use windlass_core::job::{Retention, Terms};
use windlass_core::submissions::{
    Change, Effect, Ended, Event, Fact, HESITATION, Outcome, Output, Reply, Restored, Said, Submission as Machine, Why,
};
use windlass_core::time;

type Submitter = oneshot::Sender<Result<(), QueryError>>;

pub(super) struct Running {
    shared: Arc<Shared>,
    under_way: UnderWay,
    submission: Submission,
    /// Lists and cancels go through this.
    shown: RunningSubmission,
    machine: Machine,
    /// Zero of the machine's clock.
    began: Instant,
    /// Absent until the session is restored.
    session: Option<Arc<Session>>,
    /// The last effect that was begun and has not ended.
    work: Option<BoxFuture<'static, Done>>,
    /// Notified when the statement's job runs.
    planned: Arc<Notify>,
    submitter: Option<Submitter>,
    /// In the order in which they asked.
    cancels: VecDeque<oneshot::Sender<Reply>>,
    /// The reason that the last cancel gave.
    reason: Option<String>,
    /// Why the statement failed, or the session could not be restored.
    error: Option<QueryError>,
    /// Why the last request to the store failed.
    trouble: Option<QueryError>,
}

/// The result of an effect.
enum Done {
    Restored(Result<Arc<Session>, QueryError>),
    Ran(Result<(), QueryError>),
}

impl Running {
    pub fn new(shared: &Arc<Shared>, under_way: UnderWay, submission: Submission, machine: Machine) -> Self {
        Running {
            shared: Arc::clone(shared),
            under_way,
            shown: shared.driver.begin_submission(JobId(submission.job)),
            submission,
            machine,
            began: Instant::now(),
            session: None,
            work: None,
            planned: Arc::default(),
            submitter: None,
            cancels: VecDeque::new(),
            reason: None,
            error: None,
            trouble: None,
        }
    }

    /// Returns the submission for a submitter who waits until it is accepted.
    pub fn submitted(self, session: Arc<Session>, submitter: Submitter) -> Self {
        Running { session: Some(session), submitter: Some(submitter), ..self }
    }

    /// Runs it to its end, or until this primary stops.
    pub fn start(mut self) {
        let first = self.step(Event::Begun);
        self.shared.statements.tasks().clone().spawn(self.run(first));
    }

    async fn run(mut self, mut output: Output) {
        while let Some(event) = self.carry_out(output).await {
            output = self.step(event);
        }
        self.drop_things().await;
    }

    fn step(&mut self, event: Event) -> Output {
        let output = self.machine.step(self.now(), event);
        output.facts.iter().for_each(|fact| self.publish(*fact));
        output
    }

    fn now(&self) -> time::Instant {
        time::Instant(self.began.elapsed().as_micros() as u64)
    }

    /// Carries out the output of a step, and waits for the next event. `None`: there is none.
    async fn carry_out(&mut self, output: Output) -> Option<Event> {
        let persisted = match output.persist {
            Some(changes) => Some(Event::Persisted(self.persist(&changes).await)),
            None => None,
        };
        if let Some(effect) = output.send {
            self.send(effect);
        }
        output.reply.into_iter().for_each(|reply| self.answer(reply));
        match persisted {
            Some(event) => Some(event),
            None if self.machine.is_over() => None,
            None => Some(self.hear().await),
        }
    }

    async fn hear(&mut self) -> Event {
        let deadline = self.machine.next_deadline().map(|at| self.began + Duration::from_micros(at.0));
        let due = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let work = async {
            match &mut self.work {
                Some(work) => work.await,
                None => std::future::pending().await,
            }
        };
        let done = tokio::select! {
            biased;
            Cancel { reason, answer } = self.shown.cancelled() => {
                self.reason = Some(reason);
                self.cancels.push_back(answer);
                return Event::Cancel;
            }
            // This comes before the statement's end.
            () = self.planned.notified() => return Event::Planned,
            done = work => done,
            () = self.shared.stop.cancelled() => return Event::Leave,
            () = due => return Event::Tick,
        };
        self.work = None;
        self.ended(done)
    }

    fn ended(&mut self, done: Done) -> Event {
        match done {
            Done::Restored(Ok(session)) => {
                self.session = Some(session);
                Event::Restored(Restored::Done)
            }
            Done::Restored(Err(error)) => {
                let is_left = is_left(&error);
                self.error = Some(error);
                Event::Restored(if is_left { Restored::LeftToNext } else { Restored::Lost })
            }
            Done::Ran(Ok(())) => Event::Ended(Ended::Done),
            Done::Ran(Err(error)) => {
                let ended = match &error {
                    QueryError::Cancelled(_) => Ended::Stopped,
                    error if is_left(error) => Ended::LeftToNext,
                    _ => Ended::Failed,
                };
                self.error = Some(error);
                Event::Ended(ended)
            }
        }
    }

    // ---- the store

    async fn persist(&mut self, changes: &[Change]) -> Said {
        let transaction = changes.iter().fold(Transaction::default(), |all, change| self.write(all, *change));
        let Err(error) = self.shared.store.commit(transaction).await else { return Said::Done };
        let said = match error {
            MetaError::NotLeading { .. } | MetaError::Unknown { .. } => Said::LeftToNext,
            MetaError::Conflict { .. } | MetaError::Store { .. } | MetaError::Corrupt { .. } => Said::Refused,
        };
        tracing::info!(job = %self.shown.id, %error, "a step of a submission could not be stored");
        self.trouble = Some(error.into());
        said
    }

    fn write(&self, transaction: Transaction, change: Change) -> Transaction {
        let id = &self.under_way.id;
        match change {
            Change::Put => {
                let transaction = keys::put(transaction, id, &self.submission);
                let Submission { request, job, submitted_ms: at_ms, .. } = &self.submission;
                match request.is_empty() {
                    true => transaction,
                    false => requests::put(transaction, request, &Request { job: *job, at_ms: *at_ms }),
                }
            }
            Change::Position(position) => keys::put_position(transaction, id, position),
            Change::Tries { statement, tries } => {
                let noted = Noted { tries, at_ms: self.shared.statements.catalog().clock().wall_ms() };
                keys_of_tries::put(transaction, &query_of(id, statement), &noted)
            }
            Change::ForgetTries { statement } => keys_of_tries::delete(transaction, &query_of(id, statement)),
            Change::Record(outcome) => {
                let (state, error) = self.told(outcome);
                match self.shown.record(state, error) {
                    Some(record) => transaction.with(record),
                    None => transaction,
                }
            }
            Change::Forget => keys::delete(transaction, id),
        }
    }

    // ---- statements

    fn send(&mut self, effect: Effect) {
        self.work = Some(match effect {
            Effect::Restore { before } => {
                let (shared, id) = (Arc::clone(&self.shared), self.under_way.id.clone());
                let submission = self.submission.clone();
                async move { Done::Restored(restore(&shared, &id, &submission, before).await) }.boxed()
            }
            Effect::Begin { statement, again } => self.begin(statement, again),
            Effect::Stop { .. } => {
                let stopped = QueryError::Cancelled("the statement was cancelled".to_string());
                std::future::ready(Done::Ran(Err(stopped))).boxed()
            }
        });
    }

    fn begin(&mut self, statement: u32, again: bool) -> BoxFuture<'static, Done> {
        self.planned = Arc::default();
        let Submission { texts, name, parameters, .. } = &self.submission;
        let (Some(session), Some(text)) = (&self.session, texts.get(statement as usize)) else {
            let error =
                QueryError::Internal(format!("statement {statement} of a submission has no text or no session"));
            return std::future::ready(Done::Ran(Err(error))).boxed();
        };
        let planned = Arc::clone(&self.planned);
        let info = Info {
            name: match name.as_str() {
                "" => String::new(),
                name => format!("{name} ({} of {})", statement + 1, texts.len()),
            },
            query: Some(query_of(&self.under_way.id, statement)),
            delivery: if again { Delivery::Again } else { Delivery::First },
            part_of: Some((self.shown.id, statement)),
            started: Some(Arc::new(move |_| planned.notify_one())),
            retention: Retention::User,
            is_counted: true,
            first_rows: None,
        };
        let numbered = parameters.iter().enumerate();
        let numbered = numbered.map(|(index, value)| ((index + 1).to_string(), ScalarValue::from(value.as_str())));
        let parameters = (!parameters.is_empty()).then(|| Parameters::Named(numbered.collect()));
        let ask = Ask::Sql { text: text.clone(), parameters };
        let run = self.shared.runs.attach(&session.user, session, ask, info, None);
        async move { Done::Ran(run.ended().await.map(drop)) }.boxed()
    }

    /// Drops the temporary tables with the session.
    async fn drop_things(self) {
        let Some(session) = &self.session else { return };
        let catalog = self.shared.statements.catalog();
        let held = session.temporary().drain();
        let edits: Vec<_> = held.iter().flat_map(|held| catalog.discard_temporary(&held.record)).collect();
        if let Err(error) = catalog.change(None, |_| Ok(edits)).await {
            tracing::warn!(%error, "temporary tables of a submission stay until the primary starts again");
        }
    }

    // ---- people

    fn publish(&self, fact: Fact) {
        let Submission { texts, name, user, submitted_ms, .. } = &self.submission;
        let job = self.shown.id;
        match fact {
            Fact::Stored => {
                let terms = Terms { user: user.clone(), ..Terms::default() };
                let (name, statement) = (name.clone(), texts.join(";\n"));
                let info = JobInfo { name, statement, terms, ..JobInfo::default() };
                self.shown.listed(info, texts.len() as u32, *submitted_ms);
            }
            Fact::At { statement } => {
                let text = texts.get(statement as usize).map(String::as_str).unwrap_or_default();
                self.shown.at(statement, text);
            }
            Fact::Hesitates { statement } => {
                tracing::warn!(%job, statement, "a submission that primaries have not lived to run waits");
                self.shown.waits(statement, HESITATION);
            }
            Fact::Left => tracing::info!(%job, "a submission waits for the next leader"),
            Fact::Ended(outcome) => {
                let (state, error) = self.told(outcome);
                if let Some(error) = &error {
                    tracing::info!(%job, error, "a submission has failed");
                }
                self.shown.ended(state, error);
            }
            Fact::NotRecorded(outcome) => {
                let error = self.told(outcome).1;
                tracing::warn!(%job, error, "the end of a submission could not be stored; it will be tried again");
            }
        }
    }

    fn answer(&mut self, reply: Reply) {
        match reply {
            Reply::Accepted => self.tell_submitter(Ok(())),
            Reply::Refused(outcome) => {
                let unknown = || QueryError::NotLeading("the submission was not stored: submit it again".to_string());
                let error = match outcome {
                    Some(outcome) => self.error_of(outcome),
                    None => self.trouble.clone(),
                };
                self.tell_submitter(Err(error.unwrap_or_else(unknown)));
            }
            Reply::Cancelling | Reply::HasEnded | Reply::NotCancelled => {
                if let Some(cancel) = self.cancels.pop_front() {
                    // The caller may have left.
                    let _ = cancel.send(reply);
                }
            }
        }
    }

    fn tell_submitter(&mut self, accepted: Result<(), QueryError>) {
        if let Some(submitter) = self.submitter.take() {
            // The caller may have left.
            let _ = submitter.send(accepted);
        }
    }

    /// Returns the state and error that lists show for a submission with this outcome.
    fn told(&self, outcome: Outcome) -> (JobState, Option<String>) {
        let error = self.error_of(outcome).map(|error| error.to_string());
        match outcome {
            Outcome::Finished => (JobState::Finished, None),
            Outcome::Cancelled => (JobState::Cancelled, error),
            Outcome::Failed { statement, .. } => match self.submission.texts.len() {
                1 => (JobState::Failed, error),
                all => {
                    let of = |error| format!("statement {} of {all}: {error}", statement + 1);
                    (JobState::Failed, error.map(of))
                }
            },
        }
    }

    fn error_of(&self, outcome: Outcome) -> Option<QueryError> {
        match outcome {
            Outcome::Finished => None,
            Outcome::Cancelled => Some(match (&self.reason, &self.error) {
                (Some(reason), _) => QueryError::Cancelled(format!("cancelled: {reason}")),
                (None, Some(error @ QueryError::Cancelled(_))) => error.clone(),
                (None, _) => QueryError::Cancelled("cancelled: an earlier primary was asked to".to_string()),
            }),
            Outcome::Failed { why, .. } => match why {
                Why::Statement | Why::SessionLost => self.error.clone(),
                Why::Exhausted(tries) => Some(exhausted(tries)),
                Why::NotNoted => self.trouble.clone(),
            },
        }
    }
}

/// Whether the submission is left to another primary: another one leads, this one stops, or the outcome cannot be determined.
fn is_left(error: &QueryError) -> bool {
    matches!(error, QueryError::NotLeading(_) | QueryError::OutcomeUnknown(_))
}

/// Restores the session as the first `before` statements left it.
async fn restore(shared: &Shared, id: &str, submission: &Submission, before: u32) -> Result<Arc<Session>, QueryError> {
    let by = Principal::user(&submission.user);
    let session = shared.session(id, &by, &submission.options)?;
    for text in submission.texts.iter().take(before as usize) {
        match session_effect(text) {
            SessionEffect::Nothing => {}
            SessionEffect::Option => {
                let run = shared.runs.attach(&by, &session, Ask::sql(text), Info::default(), None);
                run.ended().await?;
            }
            SessionEffect::Things => {
                let gone = "its temporary tables and prepared statements went with the primary that it ran on";
                return Err(QueryError::Lost(gone.to_string()));
            }
        }
    }
    Ok(session)
}

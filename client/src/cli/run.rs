//! Runs one statement for a person or a script: shows progress while it runs, cancels it on the cluster at Ctrl-C, and writes rows as they come.

use super::Failure;
use super::leaving::{self, Running};
use super::output::{self, Sink};
use super::progress::Display;
use super::stages;
use crate::config::units::Span;
use crate::error::ClientError;
use crate::jobs::{JobId, JobState, Progress};
use crate::params::Params;
use crate::result::ResultStream;
use crate::{QueryHandle, Session, Statement};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use std::io::IsTerminal;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Time for the cluster to confirm a cancellation.
const CANCEL_WAIT: Duration = Duration::from_secs(3);

/// Time for the end of a statement that has no job.
const NOTICE: Duration = Duration::from_secs(1);

/// Output besides results.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// Print the stages that ran after each statement.
    pub stats: bool,
    /// Print the time of each statement after it.
    pub timing: bool,
    /// Show a progress bar on a terminal.
    pub progress: bool,
    /// Print the number of rows, as people expect at a prompt.
    pub footer: bool,
}

/// Runs statements one after the other in one session.
pub struct Runner {
    pub session: Session,
    pub sink: Sink,
    pub manner: Manner,
    interrupt: Signal,
}

/// Outcome of a statement.
struct Done {
    rows: u64,
    columns: usize,
    job: Option<JobId>,
    elapsed: Duration,
}

impl Runner {
    /// Creates a runner. To be called inside the runtime.
    pub fn new(session: Session, sink: Sink, manner: Manner) -> Result<Runner, Failure> {
        let interrupt =
            signal(SignalKind::interrupt()).map_err(|e| Failure::Failed(format!("cannot listen for Ctrl-C: {e}")))?;
        Ok(Runner { session, sink, manner, interrupt })
    }

    pub async fn statement(&mut self, sql: &str, params: Params) -> Result<(), Failure> {
        let _running = Running::begin();
        let started = Instant::now();
        let statement = self.session.sql(sql).params(params);
        let handle = statement.handle();
        let show = self.manner.progress && std::io::stderr().is_terminal();
        let mut watch = Watch::new(&handle, show || self.manner.stats, show);
        let rows = {
            let running = statement.execute();
            tokio::pin!(running);
            loop {
                tokio::select! {
                    biased;
                    answer = &mut running => break answer,
                    () = stopped(&mut self.interrupt) => {
                        watch.display.clear();
                        let state = cancel(&handle, &mut self.interrupt).await;
                        let ended = outcome(running, state, &mut self.interrupt).await;
                        let Some(rows) = ended.transpose()? else { return Err(Failure::Interrupted) };
                        eprintln!("it was too late to cancel the statement: it is done");
                        self.write(rows, &handle).await?;
                        return Err(Failure::Interrupted);
                    }
                    () = watch.next() => {}
                }
            }
        };
        watch.display.clear();
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => return Err(error.into()),
        };
        let mut done = self.write(rows, &handle).await?;
        done.elapsed = started.elapsed();
        if done.job.is_none() {
            done.job = watch.job;
        }
        self.epilogue(&done).await
    }

    async fn write(&mut self, mut rows: ResultStream, handle: &QueryHandle) -> Result<Done, Failure> {
        let schema = rows.schema().clone();
        let mut done = Done { rows: 0, columns: schema.fields().len(), job: rows.job(), elapsed: Duration::ZERO };
        if done.columns == 0 {
            // A CREATE TABLE has no rows to show, but it has ended only when its stream has.
            while let Some(batch) = rows.next().await {
                batch?;
            }
            return Ok(done);
        }
        let format = self.sink.format();
        let mut writer = output::writer(format, &schema, self.sink.next_result()?)?;
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut self.interrupt) => {
                    cancel(handle, &mut self.interrupt).await;
                    return Err(Failure::Interrupted);
                }
                batch = rows.next() => match batch {
                    Some(batch) => {
                        let batch = batch?;
                        done.rows += batch.num_rows() as u64;
                        writer.batch(&batch)?;
                    }
                    None => break,
                },
            }
        }
        writer.finish()?;
        drop(writer);
        self.sink.end_result()?;
        Ok(done)
    }

    async fn epilogue(&mut self, done: &Done) -> Result<(), Failure> {
        let time = Span::human(done.elapsed);
        if self.manner.footer {
            let rows = if done.rows == 1 { "row" } else { "rows" };
            let timing = if self.manner.timing { format!(", {time}") } else { String::new() };
            match done.columns {
                0 => self.remark(&format!("(ok{timing})\n"))?,
                _ => self.remark(&format!("({} {rows}{timing})\n", done.rows))?,
            }
        } else if self.manner.timing {
            self.remark(&format!("time: {time}\n"))?;
        }
        if self.manner.stats {
            let text = match done.job {
                Some(job) => stages::table(&self.session.job(job).await?),
                // Its text may have a secret.
                None => "no stages, on the primary alone\n".to_owned(),
            };
            self.remark(&text)?;
        }
        Ok(())
    }

    /// Writes a remark: beside the result at a prompt, on standard error in scripts, whose output is data.
    fn remark(&mut self, text: &str) -> Result<(), Failure> {
        if self.manner.footer {
            super::print(text)
        } else {
            eprint!("{text}");
            Ok(())
        }
    }
}

/// Runs a statement until it has an answer, with a progress bar if `show` is set.
pub async fn with_progress(statement: Statement, show: bool) -> Result<ResultStream, Failure> {
    let mut watch = Watch::new(&statement.handle(), show, show);
    let running = statement.execute();
    tokio::pin!(running);
    let answer = loop {
        tokio::select! {
            biased;
            answer = &mut running => break answer,
            () = watch.next() => {}
        }
    };
    watch.display.clear();
    Ok(answer?)
}

/// The progress of a statement, as long as the cluster reports it.
struct Watch {
    progress: BoxStream<'static, Result<Progress, ClientError>>,
    display: Display,
    job: Option<JobId>,
}

impl Watch {
    fn new(handle: &QueryHandle, watch: bool, show: bool) -> Watch {
        let progress = if watch { handle.progress() } else { stream::empty().boxed() };
        Watch { progress, display: Display::new(show), job: None }
    }

    /// Waits for the next message; forever when there is none to come.
    async fn next(&mut self) {
        tokio::select! {
            message = self.progress.next() => match message {
                Some(Ok(progress)) => {
                    self.job = progress.job.or(self.job);
                    self.display.update(progress);
                }
                // A statement that cannot be watched must still run.
                Some(Err(_)) | None => self.progress = stream::pending().boxed(),
            },
            () = self.display.tick() => {}
        }
    }
}

/// Waits for Ctrl-C, or until the process is asked to end. Cancel safe.
async fn stopped(interrupt: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        () = leaving::asked() => {}
    }
}

/// Asks the cluster to cancel a statement. Returns the state of its job, if it has one and the cluster has answered.
async fn cancel(handle: &QueryHandle, interrupt: &mut Signal) -> Option<JobState> {
    eprintln!("cancelling …");
    tokio::select! {
        outcome = tokio::time::timeout(CANCEL_WAIT, handle.cancel_job()) => match outcome {
            Ok(Ok(state)) => return state,
            Ok(Err(error)) => eprintln!("warning: the cluster did not confirm: {error}"),
            Err(_) => eprintln!("warning: the cluster did not confirm within {} s", CANCEL_WAIT.as_secs()),
        },
        _ = interrupt.recv() => eprintln!("warning: left without the cluster's confirmation"),
    }
    None
}

/// Waits for the end of a statement that was cancelled: it may have been too late. `None`: it was not.
async fn outcome<T>(
    running: impl Future<Output = Result<T, ClientError>>,
    state: Option<JobState>,
    interrupt: &mut Signal,
) -> Option<Result<T, ClientError>> {
    let is_late = state == Some(JobState::Finished);
    if is_late {
        eprintln!("its rows are being published, which cannot be cancelled: waiting for the end");
    }
    // Without a job, it ends where it is given up.
    let patience = if state.is_some() { CANCEL_WAIT } else { NOTICE };
    tokio::select! {
        ended = running => match ended {
            Err(ClientError::Cancelled) => None,
            ended => Some(ended),
        },
        () = tokio::time::sleep(patience), if !is_late => None,
        _ = interrupt.recv() => {
            eprintln!("warning: left without the statement's end: look at 'windlass jobs list', and into its target");
            None
        }
    }
}

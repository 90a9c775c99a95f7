//! Rows of finished runs: all together, part by part, or page by page.

use super::{RunId, Runs, Stage};
use crate::errors::QueryError;
use crate::statements::{Execution, Finished, Rows};
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;
use std::sync::Arc;
use std::time::Duration;
use windlass_core::access::Principal;
use windlass_core::ids::{AttemptId, JobId};

/// How long a pass is valid. It is longer than reading a result takes.
const PASS: Duration = Duration::from_secs(24 * 3_600);

/// Rows of a result, beginning with a given row.
#[derive(Clone, Debug)]
pub struct Page {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    /// Number of the first row, from 0.
    pub from: u64,
    /// Whether more rows follow.
    pub more: bool,
}

/// A part of a result that is being read. After [`Reading::done`], dropping the last part removes the result.
pub struct Reading {
    runs: Runs,
    id: RunId,
    /// `None`: a page, which does not count as reading.
    part: Option<usize>,
    done: bool,
}

impl Runs {
    /// Begins to read a part of a result. Returns rows, and a guard to keep until they are read. `part`: its position among the kept
    /// parts, and its index among those of the job. `None`: all of it.
    pub fn read(
        &self,
        _: &Principal,
        id: &RunId,
        part: Option<(usize, usize)>,
    ) -> Result<(SendableRecordBatchStream, Reading), QueryError> {
        let (execution, reading) = self.begin_reading(id, Some(part.map_or(0, |(position, _)| position)))?;
        let statements = &self.shared.statements;
        let rows = match (&execution.rows, part) {
            (Rows::Job(finished), Some((_, index))) => {
                statements.read_parts(&execution.schema, finished, vec![index])?
            }
            _ => statements.read(&execution)?,
        };
        Ok((rows, reading))
    }

    pub(super) fn begin_reading(
        &self,
        id: &RunId,
        part: Option<usize>,
    ) -> Result<(Arc<Execution>, Reading), QueryError> {
        let mut runs = self.shared.runs.lock();
        let Some(Stage::Finished(held)) = runs.get_mut(id).map(|run| &mut run.stage) else { return Err(gone()) };
        held.reading += 1;
        let reading = Reading { runs: self.clone(), id: id.clone(), part, done: false };
        Ok((Arc::clone(&held.execution), reading))
    }

    /// Returns rows `from` to `from + limit` of a result. Its expiry does not change. A failed run returns its own error.
    pub async fn page(&self, by: &Principal, id: &RunId, from: u64, limit: usize) -> Result<Page, QueryError> {
        if let Some(error) = self.view(by, id).and_then(|view| view.error) {
            return Err(error);
        }
        let (execution, _reading) = self.begin_reading(id, None)?;
        let statements = &self.shared.statements;
        let (mut rows, mut skip) = match &execution.rows {
            Rows::Here(_) => (statements.read(&execution)?, from),
            Rows::Job(finished) => {
                let mut skip = from;
                let first = finished.parts.iter().take_while(|part| {
                    let before = part.rows <= skip;
                    skip -= if before { part.rows } else { 0 };
                    before
                });
                let first = first.count();
                let parts = (first..finished.parts.len()).collect();
                (statements.read_parts(&execution.schema, finished, parts)?, skip)
            }
        };
        let (mut batches, mut wanted, mut more) = (Vec::new(), limit, false);
        while let Some(batch) = rows.try_next().await? {
            let rows = batch.num_rows();
            if skip >= rows as u64 {
                skip -= rows as u64;
                continue;
            }
            let start = skip as usize;
            skip = 0;
            let taken = wanted.min(rows - start);
            if taken > 0 {
                batches.push(batch.slice(start, taken));
            }
            wanted -= taken;
            if start + taken < rows {
                more = true;
                break;
            }
        }
        self.renew(by, id);
        Ok(Page { schema: Arc::clone(&execution.schema), batches, from, more })
    }

    /// Signs a pass with which a client reads the outputs of `job` from executors.
    pub fn pass(&self, by: &Principal, job: JobId) -> Bytes {
        self.shared.keys.sign(job, by, PASS)
    }

    /// Reads map outputs of a kept result of `job`, for a client that cannot reach the executors that hold them.
    ///
    /// # Errors
    /// `pass` is not valid for that job, or the result is gone.
    pub fn read_outputs(
        &self,
        _: &Principal,
        pass: &[u8],
        job: JobId,
        outputs: &[AttemptId],
        schema: &SchemaRef,
    ) -> Result<SendableRecordBatchStream, QueryError> {
        self.shared.keys.check(pass, job).map_err(|error| QueryError::Denied(error.to_string()))?;
        let finished = self.of_job(job).ok_or_else(gone)?;
        let parts = outputs.iter().filter_map(|output| finished.parts.iter().position(|part| part.output == *output));
        self.shared.statements.read_parts(schema, &finished, parts.collect())
    }

    fn of_job(&self, job: JobId) -> Option<Arc<Finished>> {
        self.shared.runs.lock().values().find_map(|run| match &run.stage {
            Stage::Finished(held) => match &held.execution.rows {
                Rows::Job(finished) if finished.job == job => Some(Arc::clone(finished)),
                _ => None,
            },
            _ => None,
        })
    }
}

fn gone() -> QueryError {
    QueryError::NotFound("the result was read already, or its time is over: run the statement again".to_string())
}

impl Reading {
    /// Marks all of it as handed to the client.
    pub fn done(&mut self) {
        self.done = true;
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let shared = &self.runs.shared;
        let mut runs = shared.runs.lock();
        let Some(run) = runs.get_mut(&self.id) else { return };
        let Stage::Finished(held) = &mut run.stage else { return };
        held.reading -= 1;
        let config = &shared.config;
        let broken_off = self.part.is_some() && !self.done;
        run.expires = self.runs.clock().now() + if broken_off { config.broken_off } else { config.unread };
        if let Some(part) = self.part.filter(|_| self.done) {
            held.unread.remove(&part);
        }
        if held.unread.is_empty() && held.reading == 0 {
            runs.remove(&self.id);
            shared.gone.notify_waiters();
        }
    }
}

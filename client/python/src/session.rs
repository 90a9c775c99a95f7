//! A session with a cluster.

use crate::errors::raised;
use crate::rows::Rows;
use crate::waiting::{wait, wait_looking};
use arrow::array::ArrayData;
use arrow::array::{RecordBatchReader, make_array};
use arrow::ffi_stream::ArrowArrayStreamReader;
use arrow_pyarrow::{FromPyArrow, PyArrowType, ToPyArrow};
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::watch;
use windlass_client::{Client, ClientError, ErrorKind, IfThere, JobId, Param, Params, TableFilter, Target};

/// Opens a session with the cluster at `url`, or joins one that is open.
#[pyfunction]
#[pyo3(signature = (url, token, joins=None))]
pub fn connect(py: Python<'_>, url: String, token: Option<String>, joins: Option<String>) -> PyResult<Session> {
    let session = wait(py, async {
        match joins {
            Some(id) => Client::join(&url, token, &id).await,
            None => Client::connect_with_token(&url, token).await,
        }
    })?;
    Ok(Session { session, closed: watch::Sender::new(false) })
}

#[pyclass(frozen)]
pub struct Session {
    session: windlass_client::Session,
    closed: watch::Sender<bool>,
}

impl Session {
    /// Returns what `work` returns, or drops it when another thread closes the session.
    async fn while_open<T>(&self, work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        let mut closed = self.closed.subscribe();
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => Err(ClientError::Statement {
                kind: ErrorKind::Cancelled,
                message: "the statement was cancelled: another thread closed its session".to_owned(),
            }),
            done = work => done,
        }
    }
}

/// A table of the catalog: catalog, schema, name, kind, and its columns if they were asked for.
type Listed<'py> = (String, String, String, String, Option<Bound<'py, PyAny>>);

#[pymethods]
impl Session {
    #[getter]
    fn url(&self) -> &str {
        self.session.url()
    }

    /// Runs a statement. `params`: names and arrays of one value. `progress`: called ten times a second while the statement runs, with JSON if there is news
    /// and with None otherwise. If it raises an error, the statement is cancelled.
    fn execute(
        &self,
        py: Python<'_>,
        sql: String,
        params: Vec<(String, PyArrowType<ArrayData>)>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Rows> {
        let mut all = Params::default();
        for (name, PyArrowType(value)) in params {
            all.set(name, Param::Typed(make_array(value)));
        }
        let statement = self.session.sql(sql).params(all);
        let latest = Arc::new(Mutex::new(None));
        let (watched, told) = (statement.handle(), Arc::clone(&latest));
        let wanted = progress.is_some();
        let watching = async move {
            let mut messages = if wanted { watched.progress() } else { stream::empty().boxed() };
            // The statement's own error says what is wrong.
            while let Some(Ok(message)) = messages.next().await {
                *told.lock() = Some(message);
            }
            std::future::pending::<()>().await
        };
        let running = async move {
            tokio::select! {
                rows = statement.execute() => rows,
                () = watching => Err(ClientError::Cancelled),
            }
        };
        // News may end before the statement does, as with a job that is planned once more: the caller is asked all the same.
        let rows = wait_looking(py, self.while_open(running), |py| match &progress {
            Some(progress) => {
                let news = latest.lock().take().map(|message| json(&message)).transpose()?;
                progress.call1(py, (news,)).map(|_| ())
            }
            None => Ok(()),
        })?;
        Ok(Rows::new(rows))
    }

    /// Loads the rows of `data`, which has Arrow's stream interface, into a table. `to`: its name, schema and catalog, and whether it is temporary.
    fn load(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        to: (String, Option<String>, Option<String>, bool),
        if_there: &str,
    ) -> PyResult<u64> {
        let (table, schema, catalog, temporary) = to;
        let if_there = match if_there {
            "fail" => IfThere::Fail,
            "append" => IfThere::Append,
            "append_only" => IfThere::AppendOnly,
            "replace" => IfThere::Replace,
            other => return Err(PyValueError::new_err(format!("'{other}' says nothing about a table that is there"))),
        };
        let reader = ArrowArrayStreamReader::from_pyarrow_bound(data)?;
        let columns = reader.schema();
        // Python may compute the batches: it is waited for outside the runtime's threads.
        let batches = stream::unfold(Some(reader), async |reader| {
            let mut reader = reader?;
            let next = tokio::task::spawn_blocking(move || reader.next().map(|batch| (batch, reader))).await;
            match next {
                Ok(next) => next.map(|(batch, reader)| (batch.map_err(|error| unreadable(&error)), Some(reader))),
                Err(error) => Some((Err(unreadable(&error)), None)),
            }
        });
        let target = Target { catalog, schema, table, temporary, if_there };
        wait(py, self.while_open(self.session.load(target, columns, batches)))
    }

    fn tables<'py>(
        &self,
        py: Python<'py>,
        catalog: Option<String>,
        schema: Option<String>,
        name: Option<String>,
        with_columns: bool,
    ) -> PyResult<Vec<Listed<'py>>> {
        let filter = TableFilter { catalog, schema, name, with_columns };
        let tables = wait(py, self.session.tables(filter))?;
        let listed = tables.into_iter().map(|table| {
            let columns = table.columns.map(|columns| columns.to_pyarrow(py)).transpose()?;
            Ok((table.catalog, table.schema, table.name, table.kind, columns))
        });
        listed.collect()
    }

    fn submit(&self, py: Python<'_>, sql: String, name: String, options: Vec<(String, String)>) -> PyResult<String> {
        wait(py, async { self.session.submit(&sql, &name, &options).await }).map(|job| job.to_string())
    }

    fn jobs(&self, py: Python<'_>, limit: u32, internal: bool) -> PyResult<String> {
        let jobs = wait(py, async {
            match internal {
                true => self.session.all_jobs(limit).await,
                false => self.session.jobs(limit).await,
            }
        })?;
        json(&jobs)
    }

    fn job(&self, py: Python<'_>, job: &str) -> PyResult<String> {
        let job = parsed(py, job)?;
        json(&wait(py, self.session.job(job))?)
    }

    fn cancel_job(&self, py: Python<'_>, job: &str) -> PyResult<String> {
        let job = parsed(py, job)?;
        wait(py, self.session.cancel_job(job)).map(|state| state.to_string())
    }

    fn job_logs(&self, py: Python<'_>, job: &str) -> PyResult<Vec<String>> {
        let job = parsed(py, job)?;
        wait(py, self.session.job_logs(job))
    }

    fn status(&self, py: Python<'_>) -> PyResult<String> {
        json(&wait(py, self.session.status())?)
    }

    /// Ends the session, and cancels what other threads run in it.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.closed.send_replace(true);
        wait(py, self.session.clone().close())
    }
}

fn unreadable(error: &dyn std::error::Error) -> ClientError {
    ClientError::Invalid(format!("the rows of this process cannot be read: {error}"))
}

fn parsed(py: Python<'_>, job: &str) -> PyResult<JobId> {
    job.parse().map_err(|error| raised(py, &error))
}

fn json(value: &impl Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| PyValueError::new_err(error.to_string()))
}

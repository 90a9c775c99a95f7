//! Waiting for the client's futures in the interpreter.

use crate::errors::raised;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use std::pin::pin;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use windlass_client::ClientError;

/// Time between two looks for signals.
const LOOK: Duration = Duration::from_millis(100);

/// Returns the runtime of all sessions.
pub fn runtime() -> PyResult<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let made = Builder::new_multi_thread().worker_threads(2).thread_name("windlass").enable_all().build();
    let made = made.map_err(|error| PyOSError::new_err(format!("cannot start threads: {error}")))?;
    Ok(RUNTIME.get_or_init(|| made))
}

/// Waits for `future` without the interpreter's lock. `look`: called ten times a second with the lock. A signal or an error of `look` drops the
/// future, which cancels what it does.
pub fn wait_looking<T: Send>(
    py: Python<'_>,
    future: impl Future<Output = Result<T, ClientError>> + Send,
    mut look: impl FnMut(Python<'_>) -> PyResult<()>,
) -> PyResult<T> {
    let runtime = runtime()?;
    let mut future = pin!(future);
    loop {
        let waited = py.detach(|| runtime.block_on(async { tokio::time::timeout(LOOK, future.as_mut()).await }));
        match waited {
            Ok(outcome) => return outcome.map_err(|error| raised(py, &error)),
            Err(_) => {
                py.check_signals()?;
                look(py)?;
            }
        }
    }
}

pub fn wait<T: Send>(py: Python<'_>, future: impl Future<Output = Result<T, ClientError>> + Send) -> PyResult<T> {
    wait_looking(py, future, |_| Ok(()))
}

//! Orderly end of this process on request.
//!
//! ```text
//!   SIGTERM ──no statement runs──────────────────────────> the temporary folder goes, the process ends
//!           ──one runs──> it is cancelled, as by Ctrl-C ──> main returns, and the process ends
//!                              └──`PATIENCE`──> the process ends; what is left of it goes with the next embedded cluster
//! ```

use super::Outcome;
use crate::cli::Failure;
use crate::embedded::temporary;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Time for a cancelled statement to end, with its staged files.
const PATIENCE: Duration = Duration::from_secs(15);

static ASKED: LazyLock<CancellationToken> = LazyLock::new(CancellationToken::new);
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Marks a running statement while it lives.
pub struct Running(());

impl Running {
    pub fn begin() -> Running {
        RUNNING.fetch_add(1, Ordering::SeqCst);
        Running(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Returns when the process was asked to end. Cancel safe.
pub async fn asked() {
    ASKED.cancelled().await;
}

pub fn is_asked() -> bool {
    ASKED.is_cancelled()
}

/// Exit status of a process that was asked to end.
pub fn code() -> i32 {
    128 + SignalKind::terminate().as_raw_value()
}

/// Makes this process end on request, and leave nothing.
pub fn listen(runtime: &Runtime) -> Outcome {
    let _in_runtime = runtime.enter();
    let terminate = signal(SignalKind::terminate());
    let mut terminate = terminate.map_err(|e| Failure::Failed(format!("cannot listen for signals: {e}")))?;
    // The task ends with the process.
    runtime.spawn(async move {
        let _ = terminate.recv().await;
        ASKED.cancel();
        if RUNNING.load(Ordering::SeqCst) > 0 {
            // The folder stays, because the next process needs its record of files elsewhere.
            tokio::time::sleep(PATIENCE).await;
        } else {
            temporary::remove_all();
        }
        std::process::exit(code());
    });
    Ok(())
}

//! What becomes of this process when it is asked to end.
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

/// How long a statement may take to end when it is cancelled, with what it has staged.
const PATIENCE: Duration = Duration::from_secs(15);

static ASKED: LazyLock<CancellationToken> = LazyLock::new(CancellationToken::new);
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// A statement that runs, for as long as this lives.
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

/// Returns when the process has been asked to end. Cancel safe.
pub async fn asked() {
    ASKED.cancelled().await;
}

pub fn is_asked() -> bool {
    ASKED.is_cancelled()
}

/// What a process that was asked to end says by its exit status.
pub fn code() -> i32 {
    128 + SignalKind::terminate().as_raw_value()
}

/// Has this process end when it is asked to, and leave nothing.
pub fn listen(runtime: &Runtime) -> Outcome {
    let _in_runtime = runtime.enter();
    let terminate = signal(SignalKind::terminate());
    let mut terminate = terminate.map_err(|e| Failure::Failed(format!("cannot listen for signals: {e}")))?;
    // It ends with the process.
    runtime.spawn(async move {
        let _ = terminate.recv().await;
        ASKED.cancel();
        if RUNNING.load(Ordering::SeqCst) > 0 {
            // The folder has what the next process has to know of files elsewhere: it stays.
            tokio::time::sleep(PATIENCE).await;
        } else {
            temporary::remove_all();
        }
        std::process::exit(code());
    });
    Ok(())
}

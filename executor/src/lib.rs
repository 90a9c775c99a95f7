//! Core and task executors: the task runtime, the executor's memory, and the services that give out map outputs and results.
//!
//! ```text
//!   I/O runtime (the caller's): attach loop, heartbeats, Exchange and Flight services
//!        │ launches              ▲ reports
//!        ▼                       │
//!   CPU runtimes (one thread for each slot, two for light tasks beside full slots, spare ones for cancelled tasks that compute on): tasks
//! ```
//!
//! A busy CPU never delays a heartbeat: tasks have threads of their own, and disks and compression have the exchange store's.
//!
//! The modules, lowest first. Each imports from those before it and from none behind it:
//!
//! | layer | modules |
//! | --- | --- |
//! | what it has | `error`, `container`, `memory`, `leader`, `blocks`, `config`, `stages`, `node` |
//! | what it gives out | `exchange`, `flight`, `webhdfs`, `server` |
//! | what it does | `runner`, `watchdog`, `transport` |

mod blocks;
pub mod config;
mod container;
mod error;
mod exchange;
mod flight;
mod leader;
mod memory;
mod node;
mod runner;
mod server;
mod stages;
mod transport;
mod watchdog;
mod webhdfs;

pub use config::{ExecutorConfig, default_memory};
pub use container::total_memory;
pub use error::ExecutorError;
pub use node::Executor;
pub use transport::LocalLink;

use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Runs an executor process: serves its outputs, joins the primary, runs tasks, and leaves when `shutdown` is cancelled.
///
/// Returns when the primary said farewell or the configured time to leave has passed. Call it on the runtime that is to carry the
/// network.
///
/// # Errors
/// What keeps the executor from starting or from joining, with what to do about it. The later loss of the primary is no error: the
/// executor waits for it to come back.
pub async fn run(config: ExecutorConfig, shutdown: CancellationToken) -> Result<(), ExecutorError> {
    let executor = Executor::open(config)?;
    let server = server::Server::bind(&executor).await?;
    let address = server.address().to_string();
    let stop = CancellationToken::new();
    let _stop_on_return = stop.clone().drop_guard();
    let mut serving = std::pin::pin!(server.run(&executor, stop.clone()));
    let left = tokio::select! {
        served = &mut serving => return served,
        left = transport::attach(&executor, &address, &shutdown) => left,
    };
    stop.cancel();
    // Nobody is sent here any more, but who is reading a result goes on to its end.
    let served = tokio::time::timeout(LAST_READERS, serving).await;
    left.and(served.unwrap_or(Ok(())))
}

/// How long an executor that was let go serves those who are reading from it.
const LAST_READERS: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;

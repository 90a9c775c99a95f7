//! Core and task executors: the task runtime, the executor's memory, and the services that serve map outputs and results.
//!
//! ```text
//!   I/O runtime (the caller's): attach loop, heartbeats, Exchange and Flight services
//!        │ launches              ▲ reports
//!        ▼                       │
//!   CPU runtimes (one thread for each slot, two for light tasks beside full slots, spare ones for cancelled tasks that compute on): tasks
//! ```
//!
//! A busy CPU never delays a heartbeat: tasks have their own threads, and disks and compression use those of the exchange store.
//!
//! The modules, lowest first. Each imports only from those before it:
//!
//! | layer | modules |
//! | --- | --- |
//! | resources | `error`, `container`, `memory`, `leader`, `blocks`, `config`, `programs`, `stages`, `node` |
//! | services | `exchange`, `flight`, `webhdfs`, `server` |
//! | work | `runner`, `watchdog`, `transport` |

mod blocks;
pub mod config;
mod container;
mod error;
mod exchange;
mod flight;
mod leader;
mod memory;
mod node;
pub mod programs;
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
/// Returns when the primary said farewell or the configured time to leave has passed. Call it on the runtime that carries the network.
///
/// # Errors
/// The reason why the executor cannot start or join, with a remedy. A later loss of the primary is no error: the executor waits for it to come back.
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
    // No new readers come, but present ones read to the end.
    let served = tokio::time::timeout(LAST_READERS, serving).await;
    executor.settle().await;
    left.and(served.unwrap_or(Ok(())))
}

/// Time that an executor which was let go still serves present readers.
const LAST_READERS: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;

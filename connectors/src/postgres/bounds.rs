//! A bound on connections to a server, over all statements of a primary.
//!
//! The primary plans every scan of a cluster, so it counts for the executors too. A statement takes its share when it plans its first table of a server, and waits
//! for it. For further tables it does not wait, since others may wait for it: these take what is free, and at least one connection.

use super::settings::Settings;
use datafusion::common::{Result, exec_datafusion_err};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a statement waits for others.
const PATIENCE: Duration = Duration::from_secs(600);

/// Free connections by server and bound.
#[derive(Clone, Debug, Default)]
pub(super) struct Bounds(Arc<Mutex<HashMap<(String, u32), Arc<Semaphore>>>>);

/// Connections that the scans of a table may have in one statement. They are free again when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    pub connections: usize,
    _taken: Option<OwnedSemaphorePermit>,
}

impl Bounds {
    /// Returns up to `wanted` of `most` connections. `is_first`: the statement has none of this server.
    ///
    /// # Errors
    /// Other statements have all of them for too long.
    pub async fn share(&self, settings: &Settings, most: u32, wanted: u32, is_first: bool) -> Result<Share> {
        let server = format!("{}:{}", settings.host, settings.port);
        let free = {
            let mut servers = self.0.lock();
            let of_server = servers.entry((server.clone(), most));
            Arc::clone(of_server.or_insert_with(|| Arc::new(Semaphore::new(most as usize))))
        };
        let wanted = wanted.min(most);
        if !is_first {
            let taken = (1..=wanted).rev().find_map(|some| Arc::clone(&free).try_acquire_many_owned(some).ok());
            let connections = taken.as_ref().map_or(1, |taken| taken.num_permits());
            return Ok(Share { connections, _taken: taken });
        }
        let waited = tokio::time::timeout(PATIENCE, free.acquire_many_owned(wanted)).await;
        let taken = waited.ok().and_then(Result::ok).ok_or_else(|| {
            exec_datafusion_err!(
                "{server}: other statements have had all of its {most} connections (max_connections) for {} s: run the statement again later",
                PATIENCE.as_secs()
            )
        })?;
        Ok(Share { connections: wanted as usize, _taken: Some(taken) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::SslMode;
    use super::*;
    use futures::future::poll_immediate;
    use std::pin::pin;

    fn settings(host: &str) -> Settings {
        Settings {
            dialect: crate::postgres::settings::Dialect::Postgres,
            host: host.to_string(),
            port: 5432,
            user: "u".to_string(),
            database: "d".to_string(),
            password: None,
            sslmode: SslMode::Prefer,
            sslrootcert: None,
            requires_binding: false,
            connect_timeout: Duration::from_secs(1),
            statement_timeout: Duration::ZERO,
        }
    }

    #[tokio::test]
    async fn first_tables_wait_and_later_ones_take_what_is_left() {
        let (bounds, here) = (Bounds::default(), settings("a"));
        let first = bounds.share(&here, 10, 8, true).await.unwrap();
        let later = bounds.share(&here, 10, 8, false).await.unwrap();
        let last = bounds.share(&here, 10, 8, false).await.unwrap();
        assert_eq!((first.connections, later.connections, last.connections), (8, 2, 1));
        // Another server, and another bound, are others'.
        assert_eq!(bounds.share(&settings("b"), 10, 20, true).await.unwrap().connections, 10);
        let mut waiting = pin!(bounds.share(&here, 10, 8, true));
        assert!(poll_immediate(&mut waiting).await.is_none());
        drop(later);
        assert!(poll_immediate(&mut waiting).await.is_none());
        drop(first);
        assert_eq!(waiting.await.unwrap().connections, 8);
    }
}

//! Publications go on when nobody waits for them: moving many rows takes longer than a new primary waits for the end of one write.

use datafusion::common::{DataFusionError, Result};
use futures::future::{BoxFuture, Shared};
use futures::{FutureExt, TryFutureExt};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use tokio::task::JoinSet;

type Running = Shared<BoxFuture<'static, Result<(), Arc<DataFusionError>>>>;

/// The publications of a process that are under way.
#[derive(Clone, Default)]
pub(super) struct Publications {
    running: Arc<Mutex<HashMap<String, Running>>>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl fmt::Debug for Publications {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publications").field("count", &self.running.lock().len()).finish()
    }
}

impl Publications {
    /// Waits for the publication of a write, which `publish` begins if it is not under way.
    pub async fn of(&self, write: &str, publish: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
        let running = {
            let mut running = self.running.lock();
            match running.get(write) {
                Some(running) => running.clone(),
                None => {
                    let begun = publish.map_err(Arc::new).boxed().shared();
                    running.insert(write.to_string(), begun.clone());
                    let (driven, all, write) = (begun.clone(), Arc::clone(&self.running), write.to_string());
                    let mut tasks = self.tasks.lock();
                    while tasks.try_join_next().is_some() {}
                    tasks.spawn(async move {
                        // Whoever waits for it is told.
                        _ = driven.await;
                        all.lock().remove(&write);
                    });
                    begun
                }
            }
        };
        running.await.map_err(DataFusionError::Shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::common::exec_err;
    use futures::future::poll_immediate;
    use std::pin::pin;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn a_publication_that_nobody_waits_for_goes_on() {
        let (publications, begun) = (Publications::default(), Arc::new(AtomicU32::new(0)));
        let (go_on, goes_on) = oneshot::channel::<()>();
        let once = |goes_on: Option<oneshot::Receiver<()>>| {
            let begun = Arc::clone(&begun);
            async move {
                begun.fetch_add(1, Ordering::SeqCst);
                match goes_on {
                    Some(goes_on) => goes_on.await.map_err(|error| DataFusionError::External(error.into())),
                    None => exec_err!("the second one"),
                }
            }
        };
        assert!(poll_immediate(pin!(publications.of("w", once(Some(goes_on))))).await.is_none());
        // Another one joins it.
        let joined = publications.of("w", once(None));
        go_on.send(()).unwrap();
        joined.await.unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        while !publications.running.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        let failed = publications.of("w", once(None)).await.unwrap_err().to_string();
        assert!(failed.contains("the second one"), "{failed}");
    }
}

//! Work that goes on when nobody waits for it any more: telling another system to end a query, or the end of a process.

use parking_lot::Mutex;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// Such work of one owner. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct AfterWork(Arc<Mutex<JoinSet<()>>>);

impl AfterWork {
    /// Begins `work`, from where something is dropped. Outside of a runtime it is left out.
    pub fn begin(&self, work: impl Future<Output = ()> + Send + 'static) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut begun = self.0.lock();
        while begun.try_join_next().is_some() {}
        begun.spawn_on(work, &runtime);
    }

    /// Waits for the end of all that has begun.
    pub async fn settle(&self) {
        let mut begun = std::mem::take(&mut *self.0.lock());
        while begun.join_next().await.is_some() {}
    }
}

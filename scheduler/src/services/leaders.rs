//! The leading primary, for standbys.

use crate::meta::MetaStore;
use std::sync::Arc;

/// Finds the leading primary. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leaders {
    store: Arc<dyn MetaStore>,
}

impl Leaders {
    pub(crate) fn new(store: Arc<dyn MetaStore>) -> Self {
        Leaders { store }
    }

    /// Returns `grpc://host:port` of the leading primary. `None`: no primary leads at this time.
    pub async fn grpc(&self) -> Option<String> {
        // A store that cannot be read also has no known leader.
        self.store.leader().await.ok().flatten().map(|leader| leader.url)
    }

    /// Returns `http://host:port` of the leading primary. `None`: no primary leads at this time, or it serves no HTTP.
    pub async fn rest(&self) -> Option<String> {
        self.store.leader().await.ok().flatten().map(|leader| leader.rest).filter(|rest| !rest.is_empty())
    }
}

/// Returns a message that names the leader.
pub fn standby_message(leader: Option<&str>) -> String {
    match leader {
        Some(leader) => format!("this primary stands by; the leader is {leader}"),
        None => "this primary stands by, and nobody leads at the moment; try again in a few seconds".to_string(),
    }
}

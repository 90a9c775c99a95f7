//! Which primary leads, for those that stand by.

use crate::meta::MetaStore;
use std::sync::Arc;

/// Knows who leads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Leaders {
    store: Arc<dyn MetaStore>,
}

impl Leaders {
    pub(crate) fn new(store: Arc<dyn MetaStore>) -> Self {
        Leaders { store }
    }

    /// Returns `grpc://host:port` of the primary that leads. `None`: nobody does at the moment.
    pub async fn grpc(&self) -> Option<String> {
        // A store that cannot be read knows no leader either.
        self.store.leader().await.ok().flatten().map(|leader| leader.url)
    }

    /// Returns `http://host:port` of the primary that leads. `None`: nobody does at the moment, or it serves no HTTP.
    pub async fn rest(&self) -> Option<String> {
        self.store.leader().await.ok().flatten().map(|leader| leader.rest).filter(|rest| !rest.is_empty())
    }
}

/// Says who leads, in words.
pub fn standby_message(leader: Option<&str>) -> String {
    match leader {
        Some(leader) => format!("this primary stands by; the leader is {leader}"),
        None => "this primary stands by, and nobody leads at the moment; try again in a few seconds".to_string(),
    }
}

//! A store that ends with its process, for tests and for embedded mode without a folder.

use super::keys::counters::next_epoch;
use super::{Entry, Leader, MetaError, MetaStore, Term, Transaction};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    revision: u64,
    entries: BTreeMap<String, Entry>,
    leader: Option<Leader>,
}

#[async_trait]
impl MetaStore for MemoryStore {
    async fn lead(&self, leader: &Leader) -> Result<Term, MetaError> {
        let epoch = next_epoch(self).await?;
        self.0.lock().leader = Some(leader.clone());
        Ok(Term { epoch, lost: CancellationToken::new() })
    }

    async fn leader(&self) -> Result<Option<Leader>, MetaError> {
        Ok(self.0.lock().leader.clone())
    }

    async fn resign(&self) {
        self.0.lock().leader = None;
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, MetaError> {
        Ok(self.0.lock().entries.get(key).cloned())
    }

    async fn range(&self, prefix: &str) -> Result<Vec<(String, Entry)>, MetaError> {
        let state = self.0.lock();
        let from = state.entries.range(prefix.to_string()..);
        Ok(from.take_while(|(key, _)| key.starts_with(prefix)).map(|(k, e)| (k.clone(), e.clone())).collect())
    }

    async fn commit(&self, transaction: Transaction) -> Result<(), MetaError> {
        let mut state = self.0.lock();
        for (key, expectation) in &transaction.expectations {
            if !expectation.holds(state.entries.get(key).map(|entry| entry.revision)) {
                return Err(MetaError::Conflict { key: key.clone() });
            }
        }
        state.revision += 1;
        let revision = state.revision;
        for (key, value) in transaction.writes {
            match value {
                Some(value) => state.entries.insert(key, Entry { revision, value }),
                None => state.entries.remove(&key),
            };
        }
        Ok(())
    }
}

//! `cluster/key`: the secret with which processes of the cluster sign passes.

use crate::clock::Ids;
use crate::meta::{Expectation, MetaError, MetaStore, Transaction};
use windlass_proto::pass::ClusterKey;

const KEY: &str = "cluster/key";

/// Returns the key of the cluster. Creates it if there is none.
pub(crate) async fn key(store: &dyn MetaStore, ids: &Ids) -> Result<ClusterKey, MetaError> {
    if let Some(entry) = store.get(KEY).await? {
        let corrupt = || MetaError::Corrupt { key: KEY.to_string(), reason: "it is not 32 bytes long".to_string() };
        return ClusterKey::from_bytes(&entry.value).ok_or_else(corrupt);
    }
    let key = ClusterKey::new(ids.secret());
    let transaction = Transaction::default().expect(KEY, Expectation::Absent).put(KEY, key.as_bytes().to_vec());
    store.commit(transaction).await?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::MemoryStore;

    #[tokio::test]
    async fn a_cluster_has_one_key() {
        let (store, another) = (MemoryStore::default(), MemoryStore::default());
        let ids = Ids::counted();
        let first = key(&store, &ids).await.unwrap();
        assert_eq!(key(&store, &ids).await.unwrap(), first);
        assert_ne!(key(&another, &ids).await.unwrap(), first);
    }
}

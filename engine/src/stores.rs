//! Options of object stores that tables state; they travel with the plans that read or write there.

use crate::versions::Versions;
use datafusion::physical_plan::metrics::Count;
use object_store::ObjectStore;
use prost::Message;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Bytes that a scan has read of the cluster's own files: from replicas on its executor, and from others.
#[derive(Clone, Debug)]
pub struct ReadBytes {
    pub local: Count,
    pub remote: Count,
}

/// Provides, for one scan, a store of the cluster's own files that counts the bytes read.
pub trait CountedFiles: fmt::Debug + Send + Sync {
    /// Files with expected versions are read in exactly those versions. `None`: there are no such files here.
    fn counted(&self, bytes: ReadBytes, versions: Arc<Versions>) -> Option<Arc<dyn ObjectStore>>;
}

/// Knows the options of object stores.
pub trait StoreOptions: fmt::Debug + Send + Sync {
    /// The options set for the store of `url`. `None`: the environment says how it is reached.
    fn options(&self, url: &str) -> Option<BTreeMap<String, String>>;
}

/// Must be an extension of a session's configuration rather than an option: options are shown, and these hold secrets.
#[derive(Debug)]
pub struct Stores(pub Arc<dyn StoreOptions>);

/// A store with its options, as it travels. Its debug form has no secrets.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct StoreConfig {
    /// URL of the store or of anything in it.
    #[prost(string, tag = "1")]
    pub url: String,
    #[prost(btree_map = "string, string", tag = "2")]
    pub options: BTreeMap<String, String>,
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.options.keys().collect();
        f.debug_struct("StoreConfig").field("url", &self.url).field("options", &names).finish()
    }
}

//! How object stores are reached, where the options of a table say so: it travels with the plans that read or write there.

use crate::connector::leaf;
use crate::ops::WriteExec;
use crate::versions::Versions;
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_plan::ExecutionPlan;
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

/// Gives a store of the cluster's own files that counts what is read, for one scan.
pub trait CountedFiles: fmt::Debug + Send + Sync {
    /// Of files with expected versions just those are read. `None`: there are no such files here.
    fn counted(&self, bytes: ReadBytes, versions: Arc<Versions>) -> Option<Arc<dyn ObjectStore>>;
}

/// Knows the options of object stores.
pub trait StoreOptions: fmt::Debug + Send + Sync {
    /// What was set for the store that `url` lies in. `None`: its environment says how it is reached.
    fn options(&self, url: &str) -> Option<BTreeMap<String, String>>;
}

/// To be an extension of a session's configuration rather than an option, because options are shown and these hold secrets.
#[derive(Debug)]
pub struct Stores(pub Arc<dyn StoreOptions>);

/// A store with options, as it travels. Its debug form has no secrets.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct StoreConfig {
    /// Of the store, or of anything in it.
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

/// The stores with options that `plan` reads or writes, sorted, so that equal plans have equal bytes.
pub(crate) fn stores_of(plan: &Arc<dyn ExecutionPlan>, known: Option<&Stores>) -> Result<Vec<StoreConfig>> {
    let Some(Stores(known)) = known else { return Ok(Vec::new()) };
    let mut found = BTreeMap::new();
    let mut add = |url: String| {
        if let Some(options) = known.options(&url) {
            found.insert(url, options);
        }
    };
    plan.apply(|node| {
        if let Some(write) = node.downcast_ref::<WriteExec>() {
            add(write.target()?.url());
        }
        leaf(node).map(|leaf| leaf.stores()).into_iter().flatten().for_each(&mut add);
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found.into_iter().map(|(url, options)| StoreConfig { url, options }).collect())
}

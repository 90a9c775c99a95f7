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

/// The URL of the same place in the store that has the settings of this name. Tables of one bucket whose settings differ have different stores; to everything
/// that works on URLs they are different ones. The name is no secret, and is not shown either.
pub fn with_settings(url: &str, name: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{name}@{}", without_name(rest)),
        None => url.to_string(),
    }
}

/// The URL for people.
pub fn without_settings(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme @ ("s3" | "s3a"), rest)) => format!("{scheme}://{}", without_name(rest)),
        _ => url.to_string(),
    }
}

/// The name of the settings in a URL.
pub fn settings_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "s3" | "s3a"))?;
    let authority = rest.split('/').next()?;
    authority.split_once('@').map(|(name, _)| name)
}

fn without_name(rest: &str) -> &str {
    let end = rest.find('/').unwrap_or(rest.len());
    rest[..end].find('@').map_or(rest, |at| &rest[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_settings_is_in_the_url_and_not_shown() {
        let named = with_settings("s3://lake/a@b/c", "seven");
        assert_eq!((named.as_str(), settings_of(&named)), ("s3://seven@lake/a@b/c", Some("seven")));
        assert_eq!(with_settings(&named, "eight"), "s3://eight@lake/a@b/c");
        assert_eq!(without_settings(&named), "s3://lake/a@b/c");
        assert_eq!((settings_of("s3://lake/a@b"), settings_of("wfs:///a@b"), settings_of("/a")), (None, None, None));
        assert_eq!(without_settings("http://user@host/a"), "http://user@host/a");
    }
}

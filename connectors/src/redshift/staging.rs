//! The folder of S3 in which the files of one write wait for COPY.
//!
//! ```text
//!   STAGING/WRITE/begun              from `begin` until the write has ended, and the first to go
//!   STAGING/WRITE/ATTEMPT/n.parquet  the files of an attempt, each of which one request puts
//!   STAGING/WRITE/manifest           the files of the attempts that count
//! ```
//!
//! An attempt that nobody waits for may still put a file after the folder was emptied. It looks for `begun` after each file: if that is gone, so goes the file.
//! As each file is one request, no part of one is left by an executor that dies.

use crate::store::StoreRegistry;
use datafusion::common::{Result, exec_err, internal_datafusion_err, internal_err};
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::{StreamExt, TryStreamExt};
use object_store::{Error, ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use url::Url;
use windlass_engine::Place;
use windlass_engine::connector::{OptionKind, OptionSpec};

/// Options of the staging bucket: those that tables over files have as `aws.…`.
pub(super) const STORE_OPTIONS: [OptionSpec; 9] = [
    OptionSpec::new("aws_access_key_id", OptionKind::Text, "Access key of the staging bucket; else AWS's usual ones."),
    OptionSpec::new("aws_secret_access_key", OptionKind::Text, "Secret that belongs to that key.").secret(),
    OptionSpec::new("aws_session_token", OptionKind::Text, "Token of temporary credentials.").secret(),
    OptionSpec::new("aws_region", OptionKind::Text, "Region of the staging bucket."),
    OptionSpec::new("aws_endpoint", OptionKind::Text, "URL of another server that speaks S3."),
    OptionSpec::new("aws_allow_http", OptionKind::Boolean, "Whether that URL may be http."),
    OptionSpec::new(
        "aws_virtual_hosted_style_request",
        OptionKind::Boolean,
        "Whether the bucket is in the host's name.",
    ),
    OptionSpec::new("aws_skip_signature", OptionKind::Boolean, "Whether requests are not signed."),
    OptionSpec::new("aws_timeout", OptionKind::Text, "Time that a request to S3 may take, such as 60s."),
];

/// Stores that tables configure, which a process keeps: each has connections and credentials.
const MOST_STORES: usize = 64;

/// A bucket, and the options by which it is reached.
type Bucket = (String, BTreeMap<String, String>);

/// The stores of staging buckets whose tables say how they are reached.
#[derive(Clone, Default)]
pub(super) struct Stores(Arc<Mutex<HashMap<Bucket, Arc<dyn ObjectStore>>>>);

/// Shows no options: they have secrets.
impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores").field("count", &self.0.lock().len()).finish()
    }
}

impl Stores {
    /// The store of a place. Without options it is the engine's.
    ///
    /// # Errors
    /// The options contradict each other.
    pub fn of(
        &self,
        place: &Place,
        options: BTreeMap<String, String>,
        runtime: &RuntimeEnv,
    ) -> Result<Arc<dyn ObjectStore>> {
        if options.is_empty() {
            return runtime.object_store(place.store());
        }
        let key = (place.store().as_str().to_string(), options);
        if let Some(store) = self.0.lock().get(&key) {
            return Ok(Arc::clone(store));
        }
        let url = Url::parse(&place.url()).map_err(|error| internal_datafusion_err!("{place}: {error}"))?;
        let registry = StoreRegistry::new();
        registry.configure(&url, &key.1)?;
        let store = registry.get_store(&url)?;
        let mut stores = self.0.lock();
        if stores.len() >= MOST_STORES {
            stores.clear();
        }
        Ok(Arc::clone(stores.entry(key).or_insert(store)))
    }
}

/// The folder of one write.
pub(super) struct Staging {
    store: Arc<dyn ObjectStore>,
    folder: Place,
}

/// A file of a manifest.
/// <https://docs.aws.amazon.com/redshift/latest/dg/loading-data-files-using-manifest.html>
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    pub url: String,
    pub mandatory: bool,
    pub meta: Meta,
}

/// Redshift wants it of Parquet files.
#[derive(Debug, Serialize)]
pub(super) struct Meta {
    pub content_length: u64,
}

#[derive(Serialize)]
struct Manifest {
    entries: Vec<Entry>,
}

impl Staging {
    /// `folder`: of the write.
    pub fn new(store: Arc<dyn ObjectStore>, folder: Place) -> Self {
        Self { store, folder }
    }

    /// # Errors
    /// The bucket cannot be written to.
    pub async fn begin(&self) -> Result<()> {
        self.store.put(self.begun()?.path(), Vec::new().into()).await?;
        Ok(())
    }

    fn begun(&self) -> Result<Place> {
        self.folder.file("begun")
    }

    /// Puts a file of an attempt.
    ///
    /// # Errors
    /// The write has ended. The file is then not there.
    pub async fn put(&self, attempt: &str, number: usize, file: Vec<u8>) -> Result<()> {
        let at = self.folder.folder(attempt)?.file(&format!("{number:05}.parquet"))?;
        self.store.put(at.path(), file.into()).await?;
        match self.store.head(self.begun()?.path()).await {
            Ok(_) => Ok(()),
            Err(Error::NotFound { .. }) => {
                self.store.delete(at.path()).await?;
                exec_err!("the load has ended without this attempt")
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The files of an attempt, with their bytes.
    pub async fn files(&self, attempt: &str) -> Result<Vec<Entry>> {
        let folder = self.folder.folder(attempt)?;
        let found: Vec<_> = self.store.list(Some(folder.path())).try_collect().await?;
        let entry = |meta: &object_store::ObjectMeta| match folder.relative(&meta.location) {
            Some(name) => Ok(Entry {
                url: folder.file(name)?.to_string(),
                mandatory: true,
                meta: Meta { content_length: meta.size },
            }),
            None => internal_err!("{} was listed in {folder}", meta.location),
        };
        let mut files: Vec<Entry> = found.iter().map(entry).collect::<Result<_>>()?;
        files.sort_by(|a, b| a.url.cmp(&b.url));
        Ok(files)
    }

    /// Writes the manifest of these files. Returns its URL.
    pub async fn put_manifest(&self, entries: Vec<Entry>) -> Result<String> {
        let at = self.folder.file("manifest")?;
        let text = serde_json::to_vec(&Manifest { entries });
        let text = text.map_err(|error| internal_datafusion_err!("a manifest cannot be written: {error}"))?;
        self.store.put(at.path(), text.into()).await?;
        Ok(at.to_string())
    }

    /// Removes the folder. May be repeated.
    pub async fn remove(&self) -> Result<()> {
        let begun = self.begun()?;
        match self.store.delete(begun.path()).await {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let found = self.store.list(Some(self.folder.path())).map_ok(|meta| meta.location).boxed();
        let mut gone = self.store.delete_stream(found);
        while let Some(gone) = gone.next().await {
            match gone {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    fn staging(store: &Arc<InMemory>) -> Staging {
        Staging::new(Arc::clone(store) as Arc<dyn ObjectStore>, Place::parse("s3://b/a b/w/").unwrap())
    }

    async fn names(store: &InMemory) -> Vec<String> {
        let names = store.list(None).map(|meta| meta.unwrap().location.to_string());
        let mut names: Vec<String> = names.collect().await;
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_manifest_has_the_bytes_of_each_file() {
        let store = Arc::new(InMemory::new());
        let staging = staging(&store);
        staging.begin().await.unwrap();
        staging.put("0-0", 1, b"bc".to_vec()).await.unwrap();
        staging.put("0-0", 0, b"a".to_vec()).await.unwrap();
        staging.put("0-1", 0, b"another".to_vec()).await.unwrap();
        let at = staging.put_manifest(staging.files("0-0").await.unwrap()).await.unwrap();
        assert_eq!(at, "s3://b/a b/w/manifest");
        let text = store.get(&"a b/w/manifest".into()).await.unwrap().bytes().await.unwrap();
        let entry = |name: &str, bytes: u64| {
            format!(r#"{{"url":"s3://b/a b/w/0-0/{name}","mandatory":true,"meta":{{"content_length":{bytes}}}}}"#)
        };
        let expected = format!(r#"{{"entries":[{},{}]}}"#, entry("00000.parquet", 1), entry("00001.parquet", 2));
        assert_eq!(std::str::from_utf8(&text).unwrap(), expected);
    }

    #[tokio::test]
    async fn nothing_is_put_after_the_end() {
        let store = Arc::new(InMemory::new());
        store.put(&"a b/w2/other".into(), "x".into()).await.unwrap();
        let staging = staging(&store);
        staging.begin().await.unwrap();
        staging.put("0-0", 0, b"a".to_vec()).await.unwrap();
        staging.remove().await.unwrap();
        let late = staging.put("0-0", 1, b"b".to_vec()).await.unwrap_err().to_string();
        assert!(late.contains("has ended"), "{late}");
        staging.remove().await.unwrap();
        assert_eq!(names(&store).await, ["a b/w2/other"]);
    }
}

//! Object stores by URL, built when a URL first names them, so that no list of stores has to reach the primary and the executors.
//!
//! | scheme | store | configured by |
//! | --- | --- | --- |
//! | `file` | the local file system | - |
//! | `s3`, `s3a` | Amazon S3 and stores with its protocol | `AWS_*` in the process's environment, or `OPTIONS ('aws.…' '…')` |
//! | `wfs` | the files of the cluster itself: `wfs:///path` | - |
//! | `http`, `https` | files of a web server, read only | `WINDLASS_HTTP_TIMEOUT_S` |
//!
//! `AWS_ENDPOINT_URL` with `AWS_ALLOW_HTTP=true` reaches a private S3 server. Without credentials in the environment the machine's own role is used;
//! `AWS_SKIP_SIGNATURE=true` reads public buckets.

use crate::archive::{Archive, StorageClasses};
use crate::uploads::{UploadStore, Uploads};
use crate::web::WebStore;
use crate::wfs::{Wfs, WfsStore};
use datafusion::common::{DataFusionError, Result, plan_datafusion_err, plan_err};
use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::{ClientOptions, ObjectStore};
use parking_lot::RwLock;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use url::{Position, Url};
use windlass_engine::stores::{CountedFiles, ReadBytes, StoreOptions};
use windlass_engine::versions::Versions;

/// The prefix of table options that configure an S3 store.
const AWS_PREFIX: &str = "aws.";
/// The prefix of options by which storage classes travel. What follows is the beginning of keys.
const CLASS_PREFIX: &str = "storage_class:";

/// The registry of a process. Give it to the `RuntimeEnv` of the primary and of every executor.
pub struct StoreRegistry {
    /// Stores by scheme, host and port.
    stores: RwLock<HashMap<String, Arc<dyn ObjectStore>>>,
    /// How files are written, by the same.
    classes: RwLock<HashMap<String, Arc<StorageClasses>>>,
    /// Buckets whose objects may be archived, by the same.
    archives: RwLock<HashMap<String, Arc<dyn Archive>>>,
    /// The `aws.` options of stores that a table configured.
    configured: RwLock<HashMap<String, BTreeMap<String, String>>>,
    wfs: RwLock<Option<Wfs>>,
}

/// Shows no options: they hold secrets.
impl fmt::Debug for StoreRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreRegistry").field("stores", &self.stores.read().keys()).finish_non_exhaustive()
    }
}

impl Default for StoreRegistry {
    fn default() -> Self {
        let local: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new());
        Self {
            stores: RwLock::new(HashMap::from([("file://".to_string(), local)])),
            archives: RwLock::default(),
            classes: RwLock::default(),
            configured: RwLock::default(),
            wfs: RwLock::default(),
        }
    }
}

impl StoreRegistry {
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Sets the files that `wfs://` reaches.
    pub fn set_wfs(&self, wfs: Wfs) {
        self.stores.write().insert("wfs://".to_string(), Arc::new(WfsStore::new(wfs.clone())));
        *self.wfs.write() = Some(wfs);
    }

    pub fn wfs(&self) -> Option<Wfs> {
        self.wfs.read().clone()
    }

    /// The bucket of `url` as one whose objects may be archived.
    ///
    /// # Errors
    /// It is no URL of S3, or its settings are wrong.
    pub fn archive(&self, url: &Url) -> Result<Arc<dyn Archive>> {
        if !matches!(url.scheme(), "s3" | "s3a") {
            return plan_err!("only S3 has archived objects, and {url} is elsewhere");
        }
        self.get_store(url)?;
        let found = self.archives.read().get(&store_key(url)).map(Arc::clone);
        found.ok_or_else(|| plan_datafusion_err!("this program was built without S3's archives"))
    }

    /// The storage classes of files in the bucket of `url`, which travel with the plans that write there.
    pub fn classes(&self, url: &Url) -> Arc<StorageClasses> {
        Arc::clone(self.classes.write().entry(store_key(url)).or_default())
    }

    /// Builds the store of `url` with the `aws.` options of a table and keeps it for every later use of the same bucket, in place of the environment's
    /// settings. Does nothing when `options` holds none.
    ///
    /// The primary calls this when a table is made or loaded; an executor calls it before a stage runs, with the options in the stage's plan.
    pub fn configure(&self, url: &Url, options: &BTreeMap<String, String>) -> Result<()> {
        for (key, class) in options {
            if let Some(prefix) = key.strip_prefix(CLASS_PREFIX) {
                self.classes(url).set(prefix, class);
            }
        }
        let aws: BTreeMap<_, _> = options.clone().into_iter().filter(|(key, _)| key.starts_with(AWS_PREFIX)).collect();
        let Some((first, _)) = aws.first_key_value() else { return Ok(()) };
        if self.configured.read().get(&store_key(url)) == Some(&aws) {
            // The present store keeps its connections.
            return Ok(());
        }
        if !matches!(url.scheme(), "s3" | "s3a") {
            return plan_err!("the option '{}' is for locations like s3://bucket/…, not for {url}", first);
        }
        let mut builder = s3_from_environment(url);
        for (key, value) in &aws {
            builder = builder.with_config(aws_key(key)?, value);
        }
        let built = s3(url, builder, self.classes(url))?;
        self.stores.write().insert(store_key(url), built.store);
        self.archives.write().extend(built.archive.map(|archive| (store_key(url), archive)));
        self.configured.write().insert(store_key(url), aws);
        Ok(())
    }
}

impl CountedFiles for StoreRegistry {
    fn counted(&self, bytes: ReadBytes, versions: Arc<Versions>) -> Option<Arc<dyn ObjectStore>> {
        Some(Arc::new(WfsStore::of_scan(self.wfs()?.counting(bytes), versions)))
    }
}

impl StoreOptions for StoreRegistry {
    fn options(&self, url: &str) -> Option<BTreeMap<String, String>> {
        let url = Url::parse(url).ok()?;
        let configured = self.configured.read().get(&store_key(&url)).cloned();
        let classes = self.classes.read().get(&store_key(&url)).filter(|classes| !classes.is_empty()).cloned();
        let Some(classes) = classes else { return configured };
        let mut options = configured.unwrap_or_default();
        options.extend(classes.all().into_iter().map(|(prefix, class)| (format!("{CLASS_PREFIX}{prefix}"), class)));
        Some(options)
    }
}

impl ObjectStoreRegistry for StoreRegistry {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.stores.write().insert(store_key(url), store)
    }

    fn deregister_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        self.stores
            .write()
            .remove(&store_key(url))
            .ok_or_else(|| plan_datafusion_err!("no object store was used for {url}"))
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let key = store_key(url);
        if let Some(store) = self.stores.read().get(&key) {
            return Ok(Arc::clone(store));
        }
        let built = build(url, self.classes(url))?;
        // Another thread may have built it meanwhile. There is one store for each key, so that connections are shared.
        let mut stores = self.stores.write();
        if let Some(archive) = built.archive {
            self.archives.write().entry(key.clone()).or_insert(archive);
        }
        Ok(Arc::clone(stores.entry(key).or_insert(built.store)))
    }
}

/// A store, and its archive if it has one.
struct Built {
    store: Arc<dyn ObjectStore>,
    archive: Option<Arc<dyn Archive>>,
}

fn build(url: &Url, classes: Arc<StorageClasses>) -> Result<Built> {
    match url.scheme() {
        "s3" | "s3a" => s3(url, s3_from_environment(url), classes),
        "http" | "https" => {
            let timeout = std::env::var("WINDLASS_HTTP_TIMEOUT_S").ok().and_then(|s| s.parse().ok()).unwrap_or(30);
            let options = ClientOptions::new().with_allow_http(true).with_timeout(Duration::from_secs(timeout));
            let server = &url[..Position::BeforePath];
            let builder = HttpBuilder::new().with_url(server).with_client_options(options);
            let store = WebStore::new(builder.build().map_err(|e| unusable(url, e))?, server);
            Ok(Built { store: Arc::new(store), archive: None })
        }
        "wfs" if !url.authority().is_empty() => plan_err!(
            "wfs:// has the files of the cluster that runs the statement, so it names no host: write wfs:///{}{}",
            url.authority(),
            url.path()
        ),
        scheme => plan_err!(
            "locations that begin with {scheme}:// are not supported ({url}): use a path, file://, wfs:///, s3://, http:// or https://"
        ),
    }
}

/// Builds an S3 store from the environment. `s3a` is Hadoop's name for `s3`, with the same bucket names.
fn s3_from_environment(url: &Url) -> AmazonS3Builder {
    AmazonS3Builder::from_env().with_bucket_name(url.host_str().unwrap_or_default())
}

/// Checks the endpoint and builds the store. The crate accepts any text as an endpoint, and panics at the first request when it is no URL.
fn s3(url: &Url, builder: AmazonS3Builder, classes: Arc<StorageClasses>) -> Result<Built> {
    if let Some(endpoint) = builder.get_config_value(&AmazonS3ConfigKey::Endpoint) {
        let parsed = Url::parse(&endpoint).ok().filter(|parsed| matches!(parsed.scheme(), "http" | "https"));
        if parsed.is_none_or(|parsed| !parsed.has_host()) {
            return plan_err!(
                "the endpoint '{endpoint}' for {url} is not a URL such as https://s3.example.com or http://127.0.0.1:9000: see \
                 AWS_ENDPOINT_URL and the option aws.endpoint"
            );
        }
    }
    let root = format!("{}/", &url[..Position::BeforePath]);
    let (store, uploads, archive) = with_archive(&builder, root, classes).map_err(|e| unusable(url, e))?;
    Ok(Built { store: Arc::new(UploadStore::new(store, uploads)), archive })
}

type WithArchive = (Arc<dyn ObjectStore>, Arc<dyn Uploads>, Option<Arc<dyn Archive>>);

#[cfg(feature = "s3")]
fn with_archive(
    builder: &AmazonS3Builder,
    root: String,
    classes: Arc<StorageClasses>,
) -> object_store::Result<WithArchive> {
    let bucket = Arc::new(crate::s3::Bucket::of(builder, classes));
    let store = Arc::new(crate::s3::Explaining::new(builder.clone().build()?, Arc::clone(&bucket), root));
    Ok((Arc::clone(&store) as Arc<dyn ObjectStore>, store, Some(bucket)))
}

#[cfg(not(feature = "s3"))]
fn with_archive(builder: &AmazonS3Builder, _: String, _: Arc<StorageClasses>) -> object_store::Result<WithArchive> {
    let store = Arc::new(builder.clone().build()?);
    Ok((Arc::clone(&store) as Arc<dyn ObjectStore>, store, None))
}

/// Parses a table option. `aws.access_key_id` and `aws.aws_access_key_id` are the same option.
fn aws_key(option: &str) -> Result<AmazonS3ConfigKey> {
    let name = option.strip_prefix(AWS_PREFIX).unwrap_or(option).to_ascii_lowercase();
    let parsed = name.parse().or_else(|_| format!("aws_{name}").parse());
    parsed.map_err(|_| {
        plan_datafusion_err!(
            "unknown option '{option}': options of S3 are aws.access_key_id, aws.secret_access_key, aws.session_token, aws.region, \
             aws.endpoint, aws.allow_http, aws.skip_signature and the others of the object_store crate"
        )
    })
}

fn unusable(url: &Url, error: object_store::Error) -> DataFusionError {
    plan_datafusion_err!("the object store of {url} cannot be used: {error}")
}

/// Key of a store: scheme, host and port, without the user before an @.
fn store_key(url: &Url) -> String {
    format!("{}://{}", url.scheme(), &url[Position::BeforeHost..Position::AfterPort])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_url_finds_its_store_without_registration() {
        let registry = StoreRegistry::new();
        assert!(registry.get_store(&url("file:///tmp/x.parquet")).unwrap().to_string().contains("Local"));
        let first = registry.get_store(&url("s3://one/a")).unwrap();
        let again = registry.get_store(&url("s3://one/b/c")).unwrap();
        let other = registry.get_store(&url("s3://two/a")).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        assert!(!Arc::ptr_eq(&first, &other));
        assert!(registry.get_store(&url("http://localhost:1/a.csv")).unwrap().to_string().contains("Http"));
    }

    #[test]
    fn an_unknown_scheme_says_what_is_known() {
        let error = StoreRegistry::new().get_store(&url("ftp://host/a")).unwrap_err().to_string();
        assert!(error.contains("ftp://") && error.contains("s3://"), "{error}");
    }

    #[test]
    fn options_of_a_table_configure_its_bucket() {
        let registry = StoreRegistry::new();
        let options = |key: &str, value: &str| BTreeMap::from([(key.to_string(), value.to_string())]);
        registry.configure(&url("s3://b/x"), &options("aws.endpoint", "http://localhost:9000")).unwrap();
        let store = registry.get_store(&url("s3://b/y")).unwrap();
        registry.configure(&url("s3://b/x"), &options("format.delimiter", ";")).unwrap();
        assert!(Arc::ptr_eq(&store, &registry.get_store(&url("s3://b/z")).unwrap()));

        let unknown = registry.configure(&url("s3://b/x"), &options("aws.acess_key_id", "k")).unwrap_err().to_string();
        assert!(unknown.contains("aws.acess_key_id") && unknown.contains("aws.access_key_id"), "{unknown}");
        let nowhere =
            registry.configure(&url("s3://b/x"), &options("aws.endpoint", "localhost:9000")).unwrap_err().to_string();
        assert!(nowhere.contains("'localhost:9000'") && nowhere.contains("http://127.0.0.1:9000"), "{nowhere}");
        let local = registry.configure(&url("file:///x"), &options("aws.region", "eu")).unwrap_err().to_string();
        assert!(local.contains("aws.region"), "{local}");
    }
}

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

use crate::archive::Archive;
use crate::s3::{AWS_PREFIX, Pace, Paced, Settings, shown};
use crate::uploads::{UploadStore, Uploads};
use crate::web::WebStore;
use crate::wfs::{Wfs, WfsStore};
use datafusion::common::{DataFusionError, Result, plan_datafusion_err, plan_err};
use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::{ClientOptions, ObjectStore};
use parking_lot::RwLock;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;
use url::{Position, Url};
use windlass_engine::stores::{CountedFiles, ReadBytes, StoreOptions, settings_of};
use windlass_engine::versions::Versions;

type Options = BTreeMap<String, String>;

/// The registry of a process. Give it to the `RuntimeEnv` of the primary and of every executor.
///
/// Tables with settings of their own have a store of their own: the URL of such a store has a name before an @ (see
/// [`windlass_engine::stores::with_settings`]). Equal settings of one bucket share what is below, with its connections.
pub struct StoreRegistry {
    /// Stores by scheme, name of settings, host and port.
    stores: RwLock<HashMap<String, Arc<Built>>>,
    /// The `aws.` options of stores, by the same.
    configured: RwLock<HashMap<String, Options>>,
    /// What was built, by scheme, host and port, and options.
    built: RwLock<HashMap<(String, Options), Weak<Built>>>,
    /// The requests to each bucket of each server.
    paces: RwLock<HashMap<(String, String), Arc<Pace>>>,
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
        let local = Built { store: Arc::new(LocalFileSystem::new()), archive: None };
        Self {
            stores: RwLock::new(HashMap::from([("file://".to_string(), Arc::new(local))])),
            configured: RwLock::default(),
            built: RwLock::default(),
            paces: RwLock::default(),
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
        let built = Built { store: Arc::new(WfsStore::new(wfs.clone())), archive: None };
        self.stores.write().insert("wfs://".to_string(), Arc::new(built));
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
        let found = self.found(url)?.archive.clone();
        found.ok_or_else(|| plan_datafusion_err!("this program was built without S3's archives"))
    }

    /// Builds the store of `url` with the `aws.` options of a table and keeps it under the name of the settings in the URL. Without such a name it serves all
    /// others of the bucket, in place of the environment's settings. Does nothing when `options` holds none.
    ///
    /// The primary calls this when a table is made or loaded; an executor calls it before a stage runs, with the options in the stage's plan.
    ///
    /// # Errors
    /// An option is wrong, or the URL is none of S3.
    pub fn configure(&self, url: &Url, options: &Options) -> Result<()> {
        let aws: Options = options.clone().into_iter().filter(|(key, _)| key.starts_with(AWS_PREFIX)).collect();
        let Some((first, _)) = aws.first_key_value() else { return Ok(()) };
        if self.configured.read().get(&store_key(url)) == Some(&aws) {
            // The present store keeps its connections.
            return Ok(());
        }
        if !matches!(url.scheme(), "s3" | "s3a") {
            return plan_err!("the option '{first}' is for locations like s3://bucket/…, not for {}", shown(url));
        }
        let built = self.shared(url, &aws)?;
        self.stores.write().insert(store_key(url), built);
        self.configured.write().insert(store_key(url), aws);
        Ok(())
    }

    /// Returns the name of settings under which `options` are configured for the bucket of `url`. `None`: there are no options of stores.
    ///
    /// # Errors
    /// See [`StoreRegistry::configure`].
    pub fn named(&self, url: &Url, options: &Options, name: impl FnOnce() -> String) -> Result<Option<String>> {
        let aws: Options = options.clone().into_iter().filter(|(key, _)| key.starts_with(AWS_PREFIX)).collect();
        if aws.is_empty() {
            return Ok(None);
        }
        let known = self.configured.read().iter().find_map(|(key, known)| {
            let key = Url::parse(key).ok().filter(|key| *known == aws && bucket_key(key) == bucket_key(url))?;
            settings_of(key.as_str()).map(str::to_string)
        });
        if known.is_some() {
            return Ok(known);
        }
        let name = name();
        let mut named = url.clone();
        if named.set_username(&name).is_err() {
            return plan_err!(
                "the option '{}' is for locations like s3://bucket/…, not for {}",
                aws.keys().next().map_or("", String::as_str),
                shown(url)
            );
        }
        self.configure(&named, &aws)?;
        Ok(Some(name))
    }

    /// Returns a store with these settings, which all have that want the same.
    fn shared(&self, url: &Url, aws: &Options) -> Result<Arc<Built>> {
        let key = (bucket_key(url), aws.clone());
        if let Some(known) = self.built.read().get(&key).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let built = Arc::new(self.s3(url, Settings::of(url, aws)?)?);
        let mut all = self.built.write();
        all.retain(|_, built| built.strong_count() > 0);
        all.insert(key, Arc::downgrade(&built));
        Ok(built)
    }

    fn found(&self, url: &Url) -> Result<Arc<Built>> {
        let key = store_key(url);
        if let Some(found) = self.stores.read().get(&key) {
            return Ok(Arc::clone(found));
        }
        if matches!(url.scheme(), "s3" | "s3a") && settings_of(url.as_str()).is_some() {
            return plan_err!("the settings of {} are not known here: its table or its secret is gone", shown(url));
        }
        let built = Arc::new(self.build(url)?);
        // Another thread may have built it meanwhile. There is one store for each key, so that connections are shared.
        Ok(Arc::clone(self.stores.write().entry(key).or_insert(built)))
    }
}

impl StoreRegistry {
    fn build(&self, url: &Url) -> Result<Built> {
        match url.scheme() {
            "s3" | "s3a" => self.s3(url, Settings::of(url, &Options::new())?),
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

    /// Builds an S3 store. `s3a` is Hadoop's name for `s3`, with the same bucket names.
    fn s3(&self, url: &Url, mut settings: Settings) -> Result<Built> {
        settings.require_endpoint(url)?;
        let place = (settings.endpoint().unwrap_or_default(), bucket_key(url));
        let pace = Arc::clone(self.paces.write().entry(place).or_default());
        settings.builder = settings.builder.with_http_connector(Paced(pace));
        let (store, uploads, archive) = with_archive(url, settings).map_err(|e| unusable(url, e))?;
        Ok(Built { store: Arc::new(UploadStore::new(store, uploads)), archive })
    }
}

impl CountedFiles for StoreRegistry {
    fn counted(&self, bytes: ReadBytes, versions: Arc<Versions>) -> Option<Arc<dyn ObjectStore>> {
        Some(Arc::new(WfsStore::of_scan(self.wfs()?.counting(bytes), versions)))
    }
}

impl StoreOptions for StoreRegistry {
    fn options(&self, url: &str) -> Option<Options> {
        self.configured.read().get(&store_key(&Url::parse(url).ok()?)).cloned()
    }
}

impl ObjectStoreRegistry for StoreRegistry {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        let built = Built { store, archive: None };
        let before = self.stores.write().insert(store_key(url), Arc::new(built));
        before.map(|before| Arc::clone(&before.store))
    }

    fn deregister_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let gone = self.stores.write().remove(&store_key(url));
        let gone = gone.ok_or_else(|| plan_datafusion_err!("no object store was used for {}", shown(url)))?;
        Ok(Arc::clone(&gone.store))
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        Ok(Arc::clone(&self.found(url)?.store))
    }
}

/// A store, and its archive if it has one.
struct Built {
    store: Arc<dyn ObjectStore>,
    archive: Option<Arc<dyn Archive>>,
}

type WithArchive = (Arc<dyn ObjectStore>, Arc<dyn Uploads>, Option<Arc<dyn Archive>>);

#[cfg(feature = "s3")]
fn with_archive(url: &Url, settings: Settings) -> object_store::Result<WithArchive> {
    let bucket = Arc::new(crate::s3::Bucket::of(&settings));
    let mut builder = settings.builder;
    if bucket.access().role.is_some() {
        builder = builder.with_credentials(Arc::new(crate::s3::Assumed::new(bucket.access().clone())));
    }
    let root = format!("{}/", bucket_key(url));
    let store = Arc::new(crate::s3::Explaining::new(builder.build()?, Arc::clone(&bucket), root));
    Ok((Arc::clone(&store) as Arc<dyn ObjectStore>, store, Some(bucket)))
}

#[cfg(not(feature = "s3"))]
fn with_archive(_: &Url, settings: Settings) -> object_store::Result<WithArchive> {
    if settings.has_role() || settings.class.is_some() {
        let source = "this program was built without the feature s3, and so without roles and storage classes";
        return Err(object_store::Error::Generic { store: "S3", source: source.into() });
    }
    let store = Arc::new(settings.builder.build()?);
    Ok((Arc::clone(&store) as Arc<dyn ObjectStore>, store, None))
}

fn unusable(url: &Url, error: object_store::Error) -> DataFusionError {
    plan_datafusion_err!("the object store of {} cannot be used: {error}", shown(url))
}

/// Key of a store: scheme, name of its settings, host and port.
fn store_key(url: &Url) -> String {
    match settings_of(url.as_str()) {
        Some(name) => format!("{}://{name}@{}", url.scheme(), &url[Position::BeforeHost..Position::AfterPort]),
        None => bucket_key(url),
    }
}

/// Scheme, host and port.
fn bucket_key(url: &Url) -> String {
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
        // Settings of their own have a store of their own, and equal ones share it.
        let own = options("aws.endpoint", "http://localhost:9001");
        let name = registry.named(&url("s3://b/x"), &own, || "one".to_string()).unwrap().unwrap();
        assert_eq!(registry.named(&url("s3://b/y"), &own, || "two".to_string()).unwrap().unwrap(), name);
        registry.configure(&url("s3://three@b/y"), &own).unwrap();
        let [one, three, other] =
            ["one@", "three@", ""].map(|name| registry.get_store(&url(&format!("s3://{name}b/"))).unwrap());
        assert!(Arc::ptr_eq(&one, &three) && !Arc::ptr_eq(&one, &other));
        let gone = registry.get_store(&url("s3://nobody@b/x")).unwrap_err().to_string();
        assert!(gone.contains("the settings of s3://b/x are not known"), "{gone}");
        let local = registry.configure(&url("file:///x"), &options("aws.region", "eu")).unwrap_err().to_string();
        assert!(local.contains("aws.region"), "{local}");
    }
}

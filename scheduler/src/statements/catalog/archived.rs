//! Files of a table that lie in S3's archives: the table's option `archived` says what becomes of them, and `storage_class` which files are made.
//!
//! Without the option nobody asks: a file that cannot be read fails the statement, with an error that explains it. With it, each scan asks which objects
//! are archived, which object_store's lists do not tell.

use crate::errors::QueryError;
use datafusion::catalog::Session;
use datafusion::common::{Result, plan_datafusion_err, plan_err};
use datafusion::datasource::listing::ListingTableUrl;
use object_store::path::Path;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use url::{Position, Url};
use windlass_connectors::StoreRegistry;
use windlass_connectors::archive::{ArchivedObject, Bytes, DAYS, Policy, Tier, refusal, restore_all};
use windlass_engine::stores::without_settings;

/// The options, as DataFusion's planner names them.
pub(super) const ARCHIVED: &str = "format.archived";
pub(super) const STORAGE_CLASS: &str = "format.storage_class";
/// The same as an option of the store.
pub(crate) const CLASS_OF_STORE: &str = "aws.storage_class";

/// The archives of a session's stores, and what a statement has left out of them. An extension of the session's configuration.
#[derive(Default)]
pub(crate) struct Archives {
    stores: Option<Arc<StoreRegistry>>,
    left_out: Mutex<BTreeSet<String>>,
}

impl fmt::Debug for Archives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archives").finish_non_exhaustive()
    }
}

impl Archives {
    pub fn new(stores: Arc<StoreRegistry>) -> Self {
        Self { stores: Some(stores), left_out: Mutex::default() }
    }

    /// For another statement.
    pub fn fresh(&self) -> Self {
        Self { stores: self.stores.clone(), left_out: Mutex::default() }
    }

    /// Returns what was left out of the tables of the statement: a line for each.
    pub fn left_out(&self) -> Vec<String> {
        self.left_out.lock().iter().cloned().collect()
    }
}

/// Reads the option of a table.
///
/// # Errors
/// It has another value, or the table is not on S3.
pub(super) fn policy<'a>(
    options: &BTreeMap<String, String>,
    mut locations: impl Iterator<Item = &'a Url>,
) -> Result<Option<Policy>, QueryError> {
    let Some(text) = options.get(ARCHIVED) else { return Ok(None) };
    let policy = Policy::parse(text).ok_or_else(|| {
        QueryError::Invalid(format!("the option 'archived' is '{text}': expected error, skip or restore"))
    })?;
    match locations.find(|url| !is_s3(url)) {
        None => Ok(Some(policy)),
        Some(url) => Err(QueryError::Invalid(format!(
            "the option 'archived' is for locations like s3://bucket/…, not for {url}: only S3 has archives"
        ))),
    }
}

/// The options of a table's store, with the storage class that the table's option says.
///
/// # Errors
/// There is no such class, or the table is not on S3.
pub(super) fn with_storage_class(
    options: &BTreeMap<String, String>,
    location: &Url,
) -> Result<BTreeMap<String, String>, QueryError> {
    let mut options = options.clone();
    let Some(class) = options.remove(STORAGE_CLASS) else { return Ok(options) };
    if !is_s3(location) {
        return Err(QueryError::Invalid(format!(
            "the option 'storage_class' is for locations like s3://bucket/…, not for {location}"
        )));
    }
    options.insert(CLASS_OF_STORE.to_string(), class);
    Ok(options)
}

pub(super) fn is_s3(url: &Url) -> bool {
    matches!(url.scheme(), "s3" | "s3a")
}

/// The objects of a table that cannot be read.
#[derive(Clone, Debug, Default)]
pub(super) struct Unreadable {
    objects: Vec<ArchivedObject>,
    /// Paths by scheme and host.
    paths: HashMap<String, Arc<HashSet<Path>>>,
    /// The first location.
    place: String,
}

impl Unreadable {
    /// Asks the stores of `locations`.
    pub async fn of(session: &dyn Session, locations: &[ListingTableUrl]) -> Result<Self> {
        let archives = session.config().get_extension::<Archives>().and_then(|archives| archives.stores.clone());
        let stores = archives.ok_or_else(|| plan_datafusion_err!("archived files are not known here"))?;
        Self::listed(&stores, locations).await
    }

    pub async fn listed(stores: &StoreRegistry, locations: &[ListingTableUrl]) -> Result<Self> {
        let mut found =
            Self { place: locations.first().map(ToString::to_string).unwrap_or_default(), ..Self::default() };
        let mut paths: HashMap<String, HashSet<Path>> = HashMap::new();
        for location in locations {
            let mut prefix = location.prefix().to_string();
            if location.is_collection() && !prefix.is_empty() {
                prefix.push('/');
            }
            let mut objects = stores.archive(location.get_url())?.archived(&prefix).await?;
            objects.retain(|object| !object.state.is_readable());
            let of_store = paths.entry(store_of(location.get_url())).or_default();
            // A key that is no path is not listed as a file.
            of_store.extend(objects.iter().filter_map(|object| Path::parse(&object.key).ok()));
            found.objects.extend(objects);
        }
        found.paths = paths.into_iter().map(|(store, paths)| (store, Arc::new(paths))).collect();
        Ok(found)
    }

    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Those of the store of `url`.
    pub fn in_store(&self, url: &Url) -> Arc<HashSet<Path>> {
        self.paths.get(&store_of(url)).cloned().unwrap_or_default()
    }

    /// Notes, for EXPLAIN and the log, that the statement does without them.
    pub fn note(&self, session: &dyn Session) {
        let bytes = Bytes(self.objects.iter().map(|object| object.bytes).sum());
        let place = without_settings(&self.place);
        let note = format!("{place}: {} archived objects of {bytes} are left out", self.objects.len());
        tracing::warn!("{note}");
        if let Some(archives) = session.config().get_extension::<Archives>() {
            archives.left_out.lock().insert(note);
        }
    }

    /// Refuses a statement that reads some of them, and asks for these if the table says so. `read`: the files that it reads; absent: nobody knows.
    pub async fn refuse(mut self, session: &dyn Session, policy: Policy, read: Option<&HashSet<String>>) -> Result<()> {
        self.objects.retain(|object| read.is_none_or(|read| read.contains(&object.key)));
        if self.is_empty() {
            return Ok(());
        }
        let said = refusal(&self.objects, &without_settings(&self.place));
        if policy != Policy::Restore {
            return plan_err!("{said}");
        }
        let stores = session.config().get_extension::<Archives>().and_then(|archives| archives.stores.clone());
        let stores = stores.ok_or_else(|| plan_datafusion_err!("archived files are not known here"))?;
        let url = Url::parse(&self.place).map_err(|error| plan_datafusion_err!("{}: {error}", self.place))?;
        let asked = restore_all(stores.archive(&url)?.as_ref(), &self.objects, Tier::Standard, DAYS).await?;
        plan_err!(
            "{} archived objects of {} are being restored for {DAYS} days, of which {asked} were asked for by this statement: run it again in {}, or see \
             windlass s3 restore {} --wait",
            self.objects.len(),
            Bytes(self.objects.iter().map(|object| object.bytes).sum()),
            Tier::Standard.patience(&self.objects).unwrap_or("some hours"),
            without_settings(&self.place)
        )
    }
}

fn store_of(url: &Url) -> String {
    url[..Position::BeforePath].to_string()
}

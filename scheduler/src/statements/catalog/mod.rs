//! The cluster's catalog: schemas, tables and views, durable in the metadata store and readable by DataFusion.
//!
//! All of it is in memory as one immutable [`Snapshot`], so looking a name up touches no disk. A change is computed from a snapshot and
//! committed as one transaction, which also increases the catalog's version. Then it replaces the snapshot. A statement always sees
//! some committed version, and the next connection sees the change at once.

mod archived;
mod build;
mod connected;
mod credentials;
mod data_files;
mod foreign;
mod listings;
mod names;
mod present;
mod provider;
mod queries;
mod record;
mod snapshot;
mod suspect;
mod temporary;
#[cfg(test)]
mod tests;
mod types;

pub(crate) use archived::{Archives, CLASS_OF_STORE};
pub(crate) use build::{
    COMPRESSION, check_storable, compression_named, existing_files, is_compressible, require_format, unread_additions,
    view_provider,
};
pub use build::{FilesTable, external_record, parse_view};
pub(crate) use build::{STORE_OPTIONS, is_secret as is_store_secret};
pub(in crate::statements) use connected::at_place;
pub(crate) use connected::record as connected_record;
pub(crate) use credentials::{SECRET, open as open_options, seal as seal_options};
pub(crate) use data_files::read_only_data;
pub use foreign::Foreign;
pub(crate) use listings::Listings;
pub use names::{DEFAULT_CATALOG, DEFAULT_SCHEMA, TableName};
pub(crate) use present::make as make_folder;
pub(crate) use provider::BrokenView;
pub use provider::SessionCatalogs;
pub(crate) use queries::within as with_queries;
pub use record::{CatalogRecord, Connected, External, Record, Storage, TableRecord};
use snapshot::Commit;
pub(in crate::statements) use snapshot::refuse_cycle;
pub use snapshot::{Edit, Held, Snapshot};
pub use temporary::TempTables;
pub(crate) use types::written;

use crate::clock::{Clock, Ids};
use crate::errors::{QueryError, with_suggestion};
use crate::meta::keys::temporary as keys;
use crate::meta::{MetaError, MetaStore, Sealer};
use crate::nearest::nearest;
use crate::statements::erased::Erased;
use crate::statements::garbage::{self, Remover};
use crate::statements::outcome::Effect;
use crate::statements::sinks::{self, Writes};
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionStateBuilder;
use futures::future::BoxFuture;
use parking_lot::RwLock;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_util::task::TaskTracker;
use windlass_connectors::StoreRegistry;
use windlass_engine::connector::Registry;
use windlass_engine::extent::Limits;
use windlass_engine::session::{session_config, session_state, set_time_zone};
use windlass_engine::{OwnFolder, Place};

pub struct Catalog {
    store: Arc<dyn MetaStore>,
    sealer: Sealer,
    stores: Arc<StoreRegistry>,
    connectors: Registry,
    writes: Writes,
    remover: Remover,
    /// The folder for managed tables.
    warehouse: Place,
    /// How long files of dropped and overwritten tables stay for statements that still read them.
    grace: Duration,
    limits: Limits,
    current: RwLock<Arc<Snapshot>>,
    /// Held while a change is computed and committed.
    changing: Arc<tokio::sync::Mutex<()>>,
    planner: OnceLock<Erased<SessionState>>,
    clock: Clock,
    ids: Ids,
    tasks: TaskTracker,
}

/// The parts of a cluster's catalog.
pub struct CatalogConfig {
    pub store: Arc<dyn MetaStore>,
    /// Seals the credentials in the store.
    pub sealer: Sealer,
    pub stores: Arc<StoreRegistry>,
    /// Kinds of tables besides files: the same as every executor's.
    pub connectors: Registry,
    pub runtime: Arc<RuntimeEnv>,
    /// Path or URL of the folder for tables that Windlass writes. Every executor must reach it.
    pub warehouse: String,
    /// How long files of dropped and overwritten tables stay for statements that still read them.
    pub grace: Duration,
    /// Limits on the plans of views.
    pub limits: Limits,
    pub clock: Clock,
    pub ids: Ids,
    /// Runs changes. A stopping primary waits for them.
    pub tasks: TaskTracker,
}

/// The action when the name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExists {
    Fail,
    Keep,
    Replace,
}

impl OnExists {
    pub fn of(if_not_exists: bool, or_replace: bool) -> Result<Self, QueryError> {
        match (if_not_exists, or_replace) {
            (true, true) => Err(QueryError::Invalid("'IF NOT EXISTS' and 'OR REPLACE' exclude each other".to_string())),
            (true, false) => Ok(Self::Keep),
            (false, true) => Ok(Self::Replace),
            (false, false) => Ok(Self::Fail),
        }
    }
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").field("version", &self.version()).field("warehouse", &self.warehouse).finish()
    }
}

impl Catalog {
    /// Loads the catalog from the store. A new store gets the default catalog and schema.
    pub async fn open(config: CatalogConfig) -> Result<Arc<Self>, QueryError> {
        let warehouse = Place::parse(&config.warehouse)?.as_folder();
        let snapshot = Snapshot::load(config.store.as_ref(), &config.sealer).await?;
        let catalog = Arc::new(Self {
            store: config.store,
            sealer: config.sealer,
            remover: Remover::new(config.runtime, Arc::clone(&config.stores)),
            stores: config.stores,
            connectors: config.connectors,
            writes: Writes::default(),
            warehouse,
            grace: config.grace,
            limits: config.limits,
            current: RwLock::new(Arc::new(snapshot)),
            changing: Arc::default(),
            planner: OnceLock::new(),
            clock: config.clock,
            ids: config.ids,
            tasks: config.tasks,
        });
        let snapshot = catalog.snapshot();
        if snapshot.catalogs().next().is_none() {
            let defaults = vec![
                Edit::PutCatalog(DEFAULT_CATALOG.to_string()),
                Edit::PutSchema(DEFAULT_CATALOG.to_string(), DEFAULT_SCHEMA.to_string()),
            ];
            catalog.change(None, |_| Ok(defaults)).await?;
        }
        catalog.discard_orphans().await?;
        sinks::recover(&catalog).await?;
        catalog.configure_stores(&snapshot, |_| true);
        Ok(catalog)
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read())
    }

    /// Returns the version, which grows with every change.
    pub fn version(&self) -> u64 {
        self.snapshot().version
    }

    pub fn runtime(&self) -> &Arc<RuntimeEnv> {
        self.remover.runtime()
    }

    /// Returns the limits on the plans of views.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub fn stores(&self) -> &Arc<StoreRegistry> {
        &self.stores
    }

    pub(super) fn writes(&self) -> &Writes {
        &self.writes
    }

    pub fn connectors(&self) -> &Registry {
        &self.connectors
    }

    pub(crate) fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Configures the object stores of tables that use the secret `name` again. Call it after the secret's options change.
    pub(crate) fn secret_changed(&self, name: &str) {
        let names = |external: &External| external.options.get(SECRET).is_some_and(|secret| secret == name);
        self.configure_stores(&self.snapshot(), names);
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    pub fn ids(&self) -> &Ids {
        &self.ids
    }

    pub fn store(&self) -> &Arc<dyn MetaStore> {
        &self.store
    }

    pub fn warehouse(&self) -> &Place {
        &self.warehouse
    }

    /// Computes edits from the current snapshot and makes them durable and visible, all or none. A change that has begun is carried out
    /// even if its caller leaves, because the snapshot must not fall behind the store.
    ///
    /// `effect`: the statement whose effect is recorded with the change, if any.
    pub async fn change(
        self: &Arc<Self>,
        effect: Option<Effect>,
        edits: impl FnOnce(&Snapshot) -> Result<Vec<Edit>, QueryError>,
    ) -> Result<Arc<Snapshot>, QueryError> {
        let changing = Arc::clone(&self.changing).lock_owned().await;
        let snapshot = self.snapshot();
        let edits = edits(&snapshot)?;
        if edits.is_empty() {
            return Ok(snapshot);
        }
        let commit = Commit { edits, effect, fence: snapshot.fence() };
        let catalog = Arc::clone(self);
        let changed = self.tasks.spawn(async move {
            let _changing = changing;
            let now_ms = catalog.clock.wall_ms();
            let (transaction, mut next) = snapshot.apply(commit, now_ms, &catalog.sealer, &catalog.connectors)?;
            let committed = catalog.store.commit(transaction).await;
            if let Err(MetaError::Conflict { .. } | MetaError::Unknown { .. }) = committed {
                // A change whose answer was lost may have happened. The store decides.
                let there = Snapshot::load(catalog.store.as_ref(), &catalog.sealer).await?;
                *catalog.current.write() = Arc::new(there);
            }
            committed?;
            next.stamp(catalog.store.as_ref()).await?;
            let next = Arc::new(next);
            *catalog.current.write() = Arc::clone(&next);
            Ok(next)
        });
        changed.await.map_err(|error| QueryError::Internal(format!("a change of the catalog ended early: {error}")))?
    }

    /// Puts a table or view under `name`. Returns false if one exists and `exists` says to keep it.
    pub async fn create(
        self: &Arc<Self>,
        effect: Option<Effect>,
        name: &TableName,
        record: Record,
        exists: OnExists,
    ) -> Result<bool, QueryError> {
        self.create_with(effect, name, record, exists, Vec::new(), |_| Ok(())).await
    }

    /// Does the same as [`Catalog::create`], with further edits in the same transaction.
    pub async fn create_with(
        self: &Arc<Self>,
        effect: Option<Effect>,
        name: &TableName,
        record: Record,
        exists: OnExists,
        further: Vec<Edit>,
        may_replace: impl Fn(&Record) -> Result<(), QueryError>,
    ) -> Result<bool, QueryError> {
        let mut created = true;
        self.change(effect, |snapshot| {
            snapshot.require_schema(&name.catalog, &name.schema)?;
            let mut edits = further;
            match (snapshot.table(name), exists) {
                (Some(_), OnExists::Keep) => {
                    created = false;
                    return Ok(Vec::new());
                }
                (Some(held), OnExists::Fail) => return Err(already_exists(&held.record, name)),
                (Some(held), OnExists::Replace) => {
                    if held.record.kind() != record.kind() {
                        return Err(QueryError::Invalid(format!(
                            "'{}' is a {}, which a {} cannot replace; drop it first",
                            name.table,
                            held.record.kind(),
                            record.kind()
                        )));
                    }
                    may_replace(&held.record)?;
                    edits.extend(self.discard(&held.record));
                }
                (None, _) => {}
            }
            if let Record::View(view) = &record {
                refuse_cycle(name, view, |name| snapshot.table(name).cloned())?;
            }
            edits.push(Edit::PutTable(name.clone(), record));
            Ok(edits)
        })
        .await?;
        Ok(created)
    }

    /// Removes a table (or, with `view`, a view). Returns false if it does not exist and `if_exists` is set.
    pub async fn drop_table(
        self: &Arc<Self>,
        effect: Option<Effect>,
        name: &TableName,
        view: bool,
        if_exists: bool,
    ) -> Result<bool, QueryError> {
        let mut dropped = true;
        self.change(effect, |snapshot| {
            let kind = if view { "view" } else { "table" };
            snapshot.refuse_foreign(&name.catalog, if view { "DROP VIEW" } else { "DROP TABLE" })?;
            match snapshot.table(name) {
                Some(held) if held.record.kind() == kind => {
                    let mut edits = self.discard(&held.record);
                    edits.push(Edit::DropTable(name.clone()));
                    Ok(edits)
                }
                Some(held) => Err(QueryError::Invalid(format!(
                    "'{}' is a {}: use DROP {}",
                    name.table,
                    held.record.kind(),
                    held.record.kind().to_uppercase()
                ))),
                None if if_exists => {
                    dropped = false;
                    Ok(Vec::new())
                }
                None => {
                    let known = snapshot.names_in(&name.catalog, &name.schema);
                    let suggestion = nearest(&name.table, known.iter().map(String::as_str));
                    Err(QueryError::NotFound(with_suggestion(format!("{kind} '{}' not found", name.table), suggestion)))
                }
            }
        })
        .await?;
        Ok(dropped)
    }

    pub async fn rename_table(
        self: &Arc<Self>,
        effect: Option<Effect>,
        from: &TableName,
        to: &TableName,
    ) -> Result<(), QueryError> {
        self.change(effect, |snapshot| {
            snapshot.refuse_foreign(&from.catalog, "ALTER TABLE")?;
            let held = snapshot
                .table(from)
                .ok_or_else(|| QueryError::NotFound(format!("table '{}' not found", from.table)))?;
            snapshot.require_schema(&to.catalog, &to.schema)?;
            if let Some(taken) = snapshot.table(to) {
                return Err(already_exists(&taken.record, to));
            }
            if let Record::View(view) = &held.record {
                refuse_cycle(to, view, |name| snapshot.table(name).cloned())?;
            }
            Ok(vec![Edit::DropTable(from.clone()), Edit::PutTable(to.clone(), held.record.clone())])
        })
        .await?;
        Ok(())
    }

    pub async fn create_schema(
        self: &Arc<Self>,
        effect: Option<Effect>,
        catalog: &str,
        schema: &str,
        if_not_exists: bool,
    ) -> Result<(), QueryError> {
        self.change(effect, |snapshot| {
            snapshot.require_catalog(catalog)?;
            snapshot.refuse_foreign(catalog, "CREATE SCHEMA")?;
            match snapshot.has_schema(catalog, schema) {
                true if if_not_exists => Ok(Vec::new()),
                true => Err(QueryError::AlreadyExists(format!("schema '{schema}' already exists"))),
                false => Ok(vec![Edit::PutSchema(catalog.to_string(), schema.to_string())]),
            }
        })
        .await?;
        Ok(())
    }

    pub async fn create_catalog(
        self: &Arc<Self>,
        effect: Option<Effect>,
        catalog: &str,
        if_not_exists: bool,
    ) -> Result<(), QueryError> {
        self.change(effect, |snapshot| match snapshot.has_catalog(catalog) {
            true if if_not_exists => Ok(Vec::new()),
            true => Err(QueryError::AlreadyExists(format!("catalog '{catalog}' already exists"))),
            false => Ok(vec![Edit::PutCatalog(catalog.to_string())]),
        })
        .await?;
        Ok(())
    }

    pub async fn drop_schema(
        self: &Arc<Self>,
        effect: Option<Effect>,
        catalog: &str,
        schema: &str,
        if_exists: bool,
        cascade: bool,
    ) -> Result<(), QueryError> {
        self.change(effect, |snapshot| {
            snapshot.refuse_foreign(catalog, "DROP SCHEMA")?;
            if !snapshot.has_schema(catalog, schema) {
                return match if_exists {
                    true => Ok(Vec::new()),
                    false => Err(QueryError::NotFound(format!("schema '{schema}' not found"))),
                };
            }
            let tables: Vec<_> = snapshot.tables_in(catalog, schema).collect();
            if !tables.is_empty() && !cascade {
                return Err(QueryError::Invalid(format!(
                    "schema '{schema}' still holds {} tables and views; drop them, or use DROP SCHEMA {schema} CASCADE",
                    tables.len()
                )));
            }
            let mut edits = Vec::new();
            for held in tables {
                edits.extend(self.discard(&held.record));
                edits.push(Edit::DropTable(held.name.clone()));
            }
            edits.push(Edit::DropSchema(catalog.to_string(), schema.to_string()));
            Ok(edits)
        })
        .await?;
        Ok(())
    }

    /// Returns the table that a statement reads under `name`.
    pub fn provider<'a>(
        self: &'a Arc<Self>,
        name: &'a TableName,
    ) -> BoxFuture<'a, Result<Option<Arc<dyn TableProvider>>, QueryError>> {
        self.provider_in(name, None)
    }

    /// Returns the table that a statement reads under `name` in a session with this time zone.
    pub(super) fn provider_in<'a>(
        self: &'a Arc<Self>,
        name: &'a TableName,
        zone: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Option<Arc<dyn TableProvider>>, QueryError>> {
        Box::pin(async move {
            let snapshot = self.snapshot();
            let held = match snapshot.foreign(&name.catalog) {
                Some(_) => self.find(name).await?,
                None => snapshot.table(name).cloned(),
            };
            match held {
                Some(held) => Ok(Some(self.provider_of(&snapshot, &held, zone).await?)),
                None => Ok(None),
            }
        })
    }

    async fn provider_of(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        held: &Arc<Held>,
        zone: Option<&str>,
    ) -> Result<Arc<dyn TableProvider>, QueryError> {
        match &held.record {
            Record::Table(table) => self.table_provider(held, table).await,
            // Days and hours in a view follow the time zone of the session that reads it.
            Record::View(view) if zone.is_some() => {
                build::view_provider(&self.view_planner(zone)?, view, &self.limits).await
            }
            // Other systems change their tables without a change of the catalog.
            Record::View(view) if !snapshot.is_settled(view) => {
                build::view_provider(&self.view_planner(None)?, view, &self.limits).await
            }
            // A view depends on the tables and views that it names. It is planned again after each change of the catalog.
            Record::View(view) => {
                if let Some(built) = snapshot.cached_view(&held.name) {
                    return Ok(built);
                }
                let built = build::view_provider(&self.view_planner(None)?, view, &self.limits).await?;
                snapshot.cache_view(&held.name, &built);
                Ok(built)
            }
        }
    }

    /// Returns a session that knows functions and file formats, but no table.
    pub fn planner(&self) -> &SessionState {
        let config = || self.connectors.within(session_config());
        self.planner.get_or_init(|| Erased::new(session_state(config(), Arc::clone(self.runtime()), None)))
    }

    /// Returns a session over the durable catalog alone. It plans views, in a time zone.
    pub fn view_planner(self: &Arc<Self>, zone: Option<&str>) -> Result<SessionState, QueryError> {
        let zone = zone.map(str::to_string);
        let catalogs = Arc::new(SessionCatalogs::in_zone(Arc::clone(self), zone.clone()));
        let planner = SessionStateBuilder::new_from_existing(self.planner().clone()).with_catalog_list(catalogs);
        let mut planner = planner.build();
        if zone.is_some() {
            set_time_zone(&mut planner, zone)?;
        }
        Ok(planner)
    }

    /// Returns edits that remove the files of a record after the grace period.
    pub fn discard(&self, record: &Record) -> Vec<Edit> {
        match record {
            Record::Table(TableRecord { storage: Storage::Managed(managed), .. }) => {
                vec![self.discard_folder(&managed.root, self.grace)]
            }
            _ => Vec::new(),
        }
    }

    /// Returns edits that make the files of a temporary table go with its session, or with the primary.
    pub fn note_temporary(&self, record: &Record) -> Vec<Edit> {
        match record {
            Record::Table(TableRecord { id, storage: Storage::Managed(managed), .. }) => {
                vec![Edit::Meta(keys::put(id, managed.root.url()))]
            }
            _ => Vec::new(),
        }
    }

    /// Returns edits that remove the files of a temporary table.
    pub fn discard_temporary(&self, record: &Record) -> Vec<Edit> {
        match record {
            Record::Table(TableRecord { id, storage: Storage::Managed(managed), .. }) => {
                vec![Edit::Meta(keys::delete(id)), self.discard_folder(&managed.root, Duration::ZERO)]
            }
            _ => Vec::new(),
        }
    }

    /// Discards temporary tables of a primary that is gone.
    async fn discard_orphans(self: &Arc<Self>) -> Result<(), QueryError> {
        let mut edits = Vec::new();
        for (table, url) in keys::all(self.store.as_ref()).await? {
            match OwnFolder::from_url(&url) {
                Ok(folder) => edits.push(self.discard_folder(&folder, Duration::ZERO)),
                Err(error) => tracing::error!(%table, %error, "the files of a temporary table stay"),
            }
            edits.push(Edit::Meta(keys::delete(&table)));
        }
        self.change(None, |_| Ok(edits)).await?;
        Ok(())
    }

    /// Returns an edit that removes `folder` after `delay`.
    pub fn discard_folder(&self, folder: &OwnFolder, delay: Duration) -> Edit {
        Edit::Meta(garbage::entry(folder, delay, &self.clock, &self.ids))
    }

    /// Returns how long files of dropped and overwritten tables stay.
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// Removes the folders that are due and returns their number. Ends writes to other systems that could not be ended before.
    pub async fn collect_garbage(&self) -> Result<usize, QueryError> {
        sinks::recover(self).await?;
        garbage::collect_until(self.store.as_ref(), &self.remover, self.clock.wall_ms()).await
    }

    /// Removes a folder at once.
    pub async fn remove_folder(&self, folder: &OwnFolder) -> Result<(), QueryError> {
        self.remover.folder(folder).await
    }
}

fn already_exists(record: &Record, name: &TableName) -> QueryError {
    QueryError::AlreadyExists(format!("{} '{}' already exists", record.kind(), name.table))
}

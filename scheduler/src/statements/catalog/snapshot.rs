//! One committed version of the catalog.

use super::foreign::Foreign;
use super::names::TableName;
use super::record::{CatalogRecord, Record, ViewRecord};
use super::{credentials, queries};
use crate::errors::{QueryError, with_suggestion};
use crate::meta::keys::secrets::Secret;
use crate::meta::keys::{catalog as keys, secrets};
use crate::meta::{MetaError, MetaStore, SealError, Sealer, Transaction, Update};
use crate::nearest::nearest;
use crate::statements::outcome::Effect;
use datafusion::catalog::TableProvider;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::OnceCell;
use windlass_engine::connector::Registry;
use windlass_engine::room::Roomy;

type Schemas = BTreeMap<String, BTreeMap<String, Arc<Held>>>;

#[derive(Debug)]
pub struct Snapshot {
    pub version: u64,
    /// Revision of the entry that holds the version. `None` before the first change.
    revision: Option<u64>,
    /// All catalogs. Those of connectors have no schemas here.
    catalogs: BTreeMap<String, Schemas>,
    foreign: BTreeMap<String, Arc<Foreign>>,
    secrets: BTreeMap<String, Secret>,
    /// Views that were planned in this version.
    views: Roomy<Mutex<HashMap<TableName, Arc<dyn TableProvider>>>>,
}

/// A record, and the provider that was built from it.
#[derive(Debug)]
pub struct Held {
    pub name: TableName,
    pub record: Record,
    pub(super) provider: OnceCell<Arc<dyn TableProvider>>,
}

impl Held {
    pub fn new(name: TableName, record: Record) -> Arc<Self> {
        Arc::new(Self { name, record, provider: OnceCell::new() })
    }
}

#[derive(Clone, Debug)]
pub enum Edit {
    PutCatalog(String),
    /// A catalog of a connector.
    PutForeign(String, CatalogRecord),
    /// Of a catalog without schemas.
    DropCatalog(String),
    PutSchema(String, String),
    DropSchema(String, String),
    PutTable(TableName, Record),
    PutSecret(String, Secret),
    DropSecret(String),
    DropTable(TableName),
    /// Another entry of the metadata store, written in the same transaction.
    Meta(Update),
}

/// A change of the catalog: one transaction of the metadata store.
#[derive(Clone, Debug)]
pub(super) struct Commit {
    pub edits: Vec<Edit>,
    /// The statement whose effect it is. The transaction records it.
    pub effect: Option<Effect>,
    /// The revision of the catalog for which the edits were made. If the catalog has another, nothing is changed.
    pub fence: Option<u64>,
}

impl Snapshot {
    pub(super) async fn load(store: &dyn MetaStore, sealer: &Sealer) -> Result<Self, MetaError> {
        let mut snapshot = Self {
            version: 0,
            revision: None,
            catalogs: BTreeMap::new(),
            foreign: BTreeMap::new(),
            secrets: secrets::all(store).await?.into_iter().collect(),
            views: Roomy::new(Mutex::new(HashMap::new())),
        };
        snapshot.stamp(store).await?;
        for (catalog, record) in keys::catalogs(store).await? {
            if let Some(record) = record {
                let record = credentials::opened_catalog(record, sealer);
                snapshot.foreign.insert(catalog.clone(), Foreign::new(catalog.clone(), record));
            }
            snapshot.catalogs.entry(catalog).or_default();
        }
        for (catalog, schema) in keys::schemas(store).await? {
            snapshot.catalogs.entry(catalog).or_default().entry(schema).or_default();
        }
        for ([catalog, schema, table], record) in keys::tables(store).await? {
            snapshot.insert(TableName { catalog, schema, table }, credentials::opened(record, sealer));
        }
        Ok(snapshot)
    }

    /// Adopts the version that the store holds.
    pub(super) async fn stamp(&mut self, store: &dyn MetaStore) -> Result<(), MetaError> {
        let keys::Version { number, revision } = keys::version(store).await?;
        (self.version, self.revision) = (number, revision);
        Ok(())
    }

    /// Returns a fence that holds until another process changes the catalog.
    pub(super) fn fence(&self) -> Option<u64> {
        self.revision
    }

    /// Returns the transaction that makes the edits durable, and the next snapshot. `now_ms`: milliseconds since 1970.
    ///
    /// # Errors
    /// A table has credentials, and there is no key to seal them with.
    pub(super) fn apply(
        &self,
        commit: Commit,
        now_ms: u64,
        sealer: &Sealer,
        connectors: &Registry,
    ) -> Result<(Transaction, Self), SealError> {
        let mut next = Self {
            version: self.version + 1,
            revision: None,
            catalogs: self.catalogs.clone(),
            foreign: self.foreign.clone(),
            secrets: self.secrets.clone(),
            views: Roomy::new(Mutex::new(HashMap::new())),
        };
        let Commit { edits, effect, fence } = commit;
        let mut transaction = keys::change(fence, next.version);
        if let Some(effect) = effect {
            transaction = transaction.with(effect.update(now_ms));
        }
        for edit in edits {
            transaction = transaction.with(match edit {
                Edit::PutCatalog(catalog) => {
                    let update = keys::put_catalog(&catalog);
                    next.catalogs.entry(catalog).or_default();
                    update
                }
                Edit::PutForeign(catalog, record) => {
                    let sealed = credentials::sealed_catalog(&record, sealer, connectors)?;
                    let update = keys::put_foreign_catalog(&catalog, &sealed);
                    next.catalogs.entry(catalog.clone()).or_default();
                    next.foreign.insert(catalog.clone(), Foreign::new(catalog, record));
                    update
                }
                Edit::DropCatalog(catalog) => {
                    next.catalogs.remove(&catalog);
                    next.foreign.remove(&catalog);
                    keys::delete_catalog(&catalog)
                }
                Edit::PutSchema(catalog, schema) => {
                    let update = keys::put_schema(&catalog, &schema);
                    next.catalogs.entry(catalog).or_default().entry(schema).or_default();
                    update
                }
                Edit::DropSchema(catalog, schema) => {
                    let update = keys::delete_schema(&catalog, &schema);
                    next.catalogs.entry(catalog).or_default().remove(&schema);
                    update
                }
                Edit::PutTable(name, record) => {
                    let update = keys::put_table(name.parts(), &credentials::sealed(&record, sealer, connectors)?);
                    next.insert(name, record);
                    update
                }
                Edit::DropTable(name) => {
                    if let Some(tables) = next.catalogs.get_mut(&name.catalog).and_then(|c| c.get_mut(&name.schema)) {
                        tables.remove(&name.table);
                    }
                    keys::delete_table(name.parts())
                }
                Edit::PutSecret(name, secret) => {
                    let update = secrets::put(&name, &secret);
                    next.secrets.insert(name.clone(), secret);
                    // Providers that were built with the secret's earlier options are discarded.
                    let tables: Vec<_> = next.tables_with(&name).cloned().collect();
                    tables.into_iter().for_each(|held| next.insert(held.name.clone(), held.record.clone()));
                    for foreign in next.foreign.values_mut().filter(|foreign| foreign.record.secret() == Some(&name)) {
                        *foreign = Foreign::new(foreign.name.clone(), foreign.record.clone());
                    }
                    update
                }
                Edit::DropSecret(name) => {
                    next.secrets.remove(&name);
                    secrets::delete(&name)
                }
                Edit::Meta(update) => update,
            });
        }
        Ok((transaction, next))
    }

    fn insert(&mut self, name: TableName, record: Record) {
        let tables = self.catalogs.entry(name.catalog.clone()).or_default().entry(name.schema.clone()).or_default();
        tables.insert(name.table.clone(), Held::new(name, record));
    }

    /// Returns the secrets, by name.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = (&String, &Secret)> {
        self.secrets.iter()
    }

    pub(crate) fn secret(&self, name: &str) -> Result<&Secret, QueryError> {
        let missing = || {
            let names = self.secrets.keys().map(String::as_str);
            QueryError::NotFound(with_suggestion(format!("secret '{name}' not found"), nearest(name, names)))
        };
        self.secrets.get(name).ok_or_else(missing)
    }

    /// Returns the tables that name a secret.
    pub fn tables_with<'a>(&'a self, secret: &'a str) -> impl Iterator<Item = &'a Arc<Held>> {
        self.tables().filter(move |held| held.record.secret() == Some(secret))
    }

    /// Returns the connectors' catalogs that name a secret.
    pub fn catalogs_with<'a>(&'a self, secret: &'a str) -> impl Iterator<Item = &'a Arc<Foreign>> {
        self.foreign.values().filter(move |foreign| foreign.record.secret() == Some(secret))
    }

    /// Returns the catalog of a connector.
    pub fn foreign(&self, catalog: &str) -> Option<&Arc<Foreign>> {
        self.foreign.get(catalog)
    }

    pub fn foreign_catalogs(&self) -> impl Iterator<Item = &Arc<Foreign>> {
        self.foreign.values()
    }

    /// Refuses a change of what is in a catalog of a connector. `what`: the statement's words.
    pub fn refuse_foreign(&self, catalog: &str, what: &str) -> Result<(), QueryError> {
        let Some(foreign) = self.foreign(catalog) else { return Ok(()) };
        let connector = &foreign.record.source.connector;
        Err(QueryError::Unsupported(format!(
            "{what} is not supported in catalog '{catalog}', which shows what is in {connector}: do that there, or name a catalog of Windlass's own, \
             where CREATE EXTERNAL TABLE … STORED AS {connector} makes a table of one of its tables"
        )))
    }

    /// Whether a view depends on nothing but this version of the catalog: neither it nor a view that it reads names a table of a connector's catalog, or runs
    /// a query there.
    pub(super) fn is_settled(&self, view: &ViewRecord) -> bool {
        let mut waiting: Vec<&TableName> = view.references.iter().collect();
        let mut seen = std::collections::BTreeSet::new();
        while let Some(reference) = waiting.pop() {
            if self.foreign.contains_key(&reference.catalog) || queries::may_be_query(&reference.table) {
                return false;
            }
            if seen.insert(reference)
                && let Some(Record::View(inner)) = self.table(reference).map(|held| &held.record)
            {
                waiting.extend(&inner.references);
            }
        }
        true
    }

    pub fn catalogs(&self) -> impl Iterator<Item = &str> {
        self.catalogs.keys().map(String::as_str)
    }

    pub fn has_catalog(&self, catalog: &str) -> bool {
        self.catalogs.contains_key(catalog)
    }

    pub fn schemas(&self, catalog: &str) -> impl Iterator<Item = &str> {
        self.catalogs.get(catalog).into_iter().flat_map(|schemas| schemas.keys().map(String::as_str))
    }

    pub fn has_schema(&self, catalog: &str, schema: &str) -> bool {
        self.catalogs.get(catalog).is_some_and(|schemas| schemas.contains_key(schema))
    }

    pub fn tables(&self) -> impl Iterator<Item = &Arc<Held>> {
        self.catalogs.values().flat_map(|schemas| schemas.values()).flat_map(|tables| tables.values())
    }

    pub fn tables_in(&self, catalog: &str, schema: &str) -> impl Iterator<Item = &Arc<Held>> {
        self.catalogs.get(catalog).and_then(|schemas| schemas.get(schema)).into_iter().flat_map(|t| t.values())
    }

    pub fn names_in(&self, catalog: &str, schema: &str) -> Vec<String> {
        self.tables_in(catalog, schema).map(|held| held.name.table.clone()).collect()
    }

    pub fn table(&self, name: &TableName) -> Option<&Arc<Held>> {
        self.catalogs.get(&name.catalog)?.get(&name.schema)?.get(&name.table)
    }

    pub fn require_catalog(&self, catalog: &str) -> Result<(), QueryError> {
        if self.has_catalog(catalog) {
            return Ok(());
        }
        let message = format!("catalog '{catalog}' not found");
        Err(QueryError::NotFound(with_suggestion(message, nearest(catalog, self.catalogs()))))
    }

    pub fn require_schema(&self, catalog: &str, schema: &str) -> Result<(), QueryError> {
        self.require_catalog(catalog)?;
        self.refuse_foreign(catalog, "CREATE")?;
        if self.has_schema(catalog, schema) {
            return Ok(());
        }
        let message = format!("schema '{schema}' not found");
        Err(QueryError::NotFound(with_suggestion(message, nearest(schema, self.schemas(catalog)))))
    }

    pub(super) fn cached_view(&self, name: &TableName) -> Option<Arc<dyn TableProvider>> {
        self.views.lock().get(name).cloned()
    }

    pub(super) fn cache_view(&self, name: &TableName, provider: &Arc<dyn TableProvider>) {
        self.views.lock().insert(name.clone(), Arc::clone(provider));
    }
}

/// Refuses a view that reads itself, directly or through other views. `held`: finds tables and views by name.
pub(in crate::statements) fn refuse_cycle(
    name: &TableName,
    view: &ViewRecord,
    held: impl Fn(&TableName) -> Option<Arc<Held>>,
) -> Result<(), QueryError> {
    // Each name with the views on the way to it.
    let mut waiting: Vec<(TableName, Vec<String>)> =
        view.references.iter().map(|of| (of.clone(), Vec::new())).collect();
    let mut seen = BTreeSet::new();
    while let Some((reference, way)) = waiting.pop() {
        if reference == *name {
            let through = if way.is_empty() { String::new() } else { format!(" through {}", way.join(" and ")) };
            return Err(QueryError::Invalid(format!(
                "view '{of}' would read itself{through}: a view keeps no rows, and its query runs whenever it is read. Give the new view another \
                 name, or keep the present rows with CREATE TABLE kept AS SELECT * FROM {of} and read those",
                of = name.table
            )));
        }
        if seen.insert(reference.clone())
            && let Some(held) = held(&reference)
            && let Record::View(inner) = &held.record
        {
            let way = [way, vec![format!("'{}'", reference.table)]].concat();
            waiting.extend(inner.references.iter().map(|of| (of.clone(), way.clone())));
        }
    }
    Ok(())
}

//! Catalogs of connectors: the tables of other systems, as they are there.
//!
//! No table of theirs has a record. The other system is asked for a table when a statement names it, and for all of them when they are listed. An answer
//! serves for a few seconds: then a table that was dropped or altered there is seen to be so, and a new one is seen at once, because a name that is not known
//! is always asked for. A system that is away fails the statements that name its tables, and lists show nothing of it; neither waits for long.

use super::record::{CatalogRecord, Connected, Record, Storage, StoredConstraint, StoredSchema, TableRecord};
use super::snapshot::{Edit, Snapshot};
use super::{Catalog, Held, OnExists, TableName};
use crate::errors::{QueryError, with_suggestion};
use crate::meta::segment;
use crate::nearest::nearest;
use crate::statements::outcome::Effect;
use crate::statements::parse::target::PlaceOfTable;
use datafusion::catalog::information_schema::INFORMATION_SCHEMA;
use datafusion::common::DataFusionError;
use datafusion::common::Result as PlanResult;
use futures::future::join_all;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use windlass_engine::connector::{CatalogSchema, CatalogTable, ConnectorCatalog, redacted};

/// How long an answer serves.
const FRESH: Duration = Duration::from_secs(3);
/// How long the other system is not asked for lists after it did not answer.
const SPARED: Duration = Duration::from_secs(10);
/// How long an error serves as the answer to further questions.
const REMEMBERED: Duration = Duration::from_secs(1);
/// How long a statement waits for a table.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a list waits for a catalog.
const LIST_PATIENCE: Duration = Duration::from_secs(5);
/// Questions to one catalog that are under way together.
const AT_A_TIME: usize = 4;

/// A catalog of a connector, and what is known of it.
#[derive(Debug)]
pub struct Foreign {
    pub name: String,
    pub record: CatalogRecord,
    opened: OnceLock<Arc<dyn ConnectorCatalog>>,
    known: Mutex<Known>,
    asking: Semaphore,
}

#[derive(Debug, Default)]
struct Known {
    /// The tables of each schema, and whether they are views.
    names: BTreeMap<String, BTreeMap<String, bool>>,
    listed: Option<Listed>,
    /// When a list got no answer.
    away: Option<Instant>,
    /// When a statement got none, and why.
    failed: Option<(Instant, QueryError)>,
    tables: HashMap<(String, String), (Instant, Arc<Held>)>,
    /// The lists that are being made.
    lists: Weak<Listing>,
}

#[derive(Clone, Copy, Debug)]
struct Listed {
    at: Instant,
    columns: bool,
}

/// While it lives, everything that lists have found counts as fresh: a list of thousands of tables takes its time.
#[derive(Debug)]
pub(crate) struct Listing;

impl Known {
    fn listing(&mut self) -> Arc<Listing> {
        self.lists.upgrade().unwrap_or_else(|| {
            let listing = Arc::new(Listing);
            self.lists = Arc::downgrade(&listing);
            listing
        })
    }
}

impl Foreign {
    pub(super) fn new(name: String, record: CatalogRecord) -> Arc<Self> {
        let (opened, known) = Default::default();
        Arc::new(Self { name, record, opened, known, asking: Semaphore::new(AT_A_TIME) })
    }

    /// Returns the schemas that were listed last.
    pub fn schemas(&self) -> Vec<String> {
        self.known.lock().names.keys().cloned().collect()
    }

    /// Returns the tables that were listed last.
    pub fn tables(&self, schema: &str) -> Vec<String> {
        self.known.lock().names.get(schema).map(|tables| tables.keys().cloned().collect()).unwrap_or_default()
    }

    /// Whether a table is a view. `None`: it was not listed.
    pub fn is_view(&self, schema: &str, table: &str) -> Option<bool> {
        self.known.lock().names.get(schema)?.get(table).copied()
    }

    fn fresh(&self, key: &(String, String), now: Instant) -> Option<Arc<Held>> {
        let known = self.known.lock();
        let (asked, held) = known.tables.get(key)?;
        let is_fresh = now.saturating_duration_since(*asked) < FRESH || known.lists.strong_count() > 0;
        is_fresh.then(|| Arc::clone(held))
    }

    /// Returns a table, as the same value as before if it is the same.
    fn learned(&self, schema: &str, table: CatalogTable, catalog: &dyn ConnectorCatalog, now: Instant) -> Arc<Held> {
        let key = (schema.to_string(), table.name.clone());
        let record = Record::Table(self.table_record(schema, table, catalog));
        let mut known = self.known.lock();
        let before = known.tables.get(&key).filter(|(_, held)| held.record == record);
        let held = match before {
            Some((_, held)) => Arc::clone(held),
            None => Held::new(TableName::new(&self.name, &key.0, &key.1), record),
        };
        known.tables.insert(key, (now, Arc::clone(&held)));
        held
    }

    /// Returns a record of a table that is not kept. Its id is the same each time.
    fn table_record(&self, schema: &str, table: CatalogTable, catalog: &dyn ConnectorCatalog) -> TableRecord {
        let Connected { connector, options, sealed, .. } = self.record.source.clone();
        let place = catalog.place(schema, &table.name);
        TableRecord {
            id: format!("{}/{}/{}", self.record.id, segment(schema), segment(&table.name)),
            definition: None,
            schema: StoredSchema(table.columns.unwrap_or_else(|| Arc::new(arrow::datatypes::Schema::empty()))),
            constraints: StoredConstraint::of(&table.keys),
            defaults: Vec::new(),
            lengths: Vec::new(),
            storage: Storage::Connected(Connected {
                connector,
                location: place.location,
                options: options.into_iter().chain(place.options).collect(),
                sealed,
                is_changing: true,
            }),
        }
    }

    /// Replaces all that lists show.
    fn listed(&self, schemas: Vec<CatalogSchema>, columns: bool, catalog: &dyn ConnectorCatalog, now: Instant) {
        let mut names: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
        for schema in schemas {
            let of_schema = names.entry(schema.name.clone()).or_default();
            for table in schema.tables {
                of_schema.insert(table.name.clone(), table.is_view);
                if table.columns.is_some() {
                    self.learned(&schema.name, table, catalog, now);
                }
            }
        }
        let mut known = self.known.lock();
        known.tables.retain(|(schema, table), (asked, _)| {
            names.get(schema).is_some_and(|tables| tables.contains_key(table))
                // Schemas that lists do not show.
                || now.saturating_duration_since(*asked) < FRESH
        });
        known.names = names;
        known.listed = Some(Listed { at: now, columns });
        known.away = None;
    }

    /// Asks the other system, which has `patience` to answer.
    async fn ask<T>(&self, patience: Duration, question: impl Future<Output = PlanResult<T>>) -> Result<T, QueryError> {
        let asked = async {
            let _turn = self.asking.acquire().await;
            question.await
        };
        match tokio::time::timeout(patience, asked).await {
            Ok(answer) => answer.map_err(|error| self.unreadable(error)),
            Err(_) => Err(QueryError::Invalid(format!(
                "the catalog '{}' cannot be read: {} did not answer within {} s",
                self.name,
                self.record.source.location,
                patience.as_secs()
            ))),
        }
    }

    fn unreadable(&self, error: DataFusionError) -> QueryError {
        QueryError::Invalid(format!("the catalog '{}' cannot be read: {}", self.name, QueryError::from(error)))
    }
}

impl Catalog {
    /// Returns a catalog of a connector as its connector knows it. Its options are checked.
    fn opened<'a>(&self, foreign: &'a Foreign) -> Result<&'a Arc<dyn ConnectorCatalog>, QueryError> {
        if let Some(opened) = foreign.opened.get() {
            return Ok(opened);
        }
        let CatalogRecord { id, source, .. } = &foreign.record;
        self.require_opened_source(id, source)
            .map_err(|error| QueryError::Internal(format!("the catalog '{}' cannot be read: {error}", foreign.name)))?;
        let Connected { connector, location, options, .. } = source;
        let open = || {
            let lent = self.lent(options)?;
            let spec =
                self.connectors().catalog_spec(connector, id.clone(), location.clone(), options.clone(), lent)?;
            Ok::<_, QueryError>(self.connectors().require(connector)?.catalog(Arc::new(spec))?)
        };
        let opened = open()
            .map_err(|error| QueryError::Invalid(format!("the catalog '{}' cannot be read: {error}", foreign.name)))?;
        Ok(foreign.opened.get_or_init(|| opened))
    }

    /// Returns the table or view of a name, also one of a connector's catalog.
    ///
    /// # Errors
    /// The name is in a connector's catalog, and the other system does not answer.
    pub(crate) async fn find(&self, name: &TableName) -> Result<Option<Arc<Held>>, QueryError> {
        let snapshot = self.snapshot();
        let Some(foreign) = snapshot.foreign(&name.catalog) else { return Ok(snapshot.table(name).cloned()) };
        let key = (name.schema.clone(), name.table.clone());
        if let Some(held) = foreign.fresh(&key, self.clock().now()) {
            return Ok(Some(held));
        }
        let opened = self.opened(foreign)?;
        // Planning asks more than once, also to explain an error.
        let failed = foreign.known.lock().failed.clone();
        if let Some((at, error)) = failed
            && self.clock().now().saturating_duration_since(at) < REMEMBERED
        {
            return Err(error);
        }
        let asked = foreign.ask(PATIENCE, opened.table(&name.schema, &name.table)).await;
        let asked = asked.inspect_err(|error| {
            foreign.known.lock().failed = Some((self.clock().now(), error.clone()));
        })?;
        match asked {
            Some(table) => Ok(Some(foreign.learned(&name.schema, table, opened.as_ref(), self.clock().now()))),
            None => {
                foreign.known.lock().tables.remove(&key);
                Ok(None)
            }
        }
    }

    /// Returns the place of a table of another system, for a load into it. `in_session`: the session's temporary table of this name. A
    /// table that is missing in a connector's catalog has a place too, at which the load creates it.
    pub(in crate::statements) async fn place_of(
        &self,
        name: &TableName,
        in_session: Option<Arc<Held>>,
    ) -> Result<PlaceOfTable, QueryError> {
        let found = match in_session {
            Some(held) => Some(held),
            None => self.find(name).await?,
        };
        let Some(held) = found else {
            let snapshot = self.snapshot();
            let Some(foreign) = snapshot.foreign(&name.catalog) else {
                return Err(QueryError::NotFound(format!(
                    "table '{}' not found: COPY … INTO creates tables only in catalogs of other systems",
                    name.table
                )));
            };
            let place = self.opened(foreign)?.place(&name.schema, &name.table);
            let Connected { connector, options, .. } = foreign.record.source.clone();
            let options = options.into_iter().chain(place.options).collect();
            return Ok(PlaceOfTable { connector, location: place.location, options });
        };
        match &held.record {
            Record::Table(record @ TableRecord { storage: Storage::Connected(of), .. }) => {
                self.require_opened(record)?;
                let Connected { connector, location, options, .. } = of.clone();
                Ok(PlaceOfTable { connector, location, options })
            }
            Record::Table(_) => Err(QueryError::Unsupported(format!(
                "COPY … INTO is for tables of other systems, and '{0}' is made of files: use INSERT INTO {0} SELECT …",
                name.table
            ))),
            Record::View(_) => {
                Err(QueryError::Invalid(format!("'{}' is a view, which cannot be written to", name.table)))
            }
        }
    }

    /// Asks for the tables of all connectors' catalogs whose names `wanted` allows, before they are listed. They stay fresh while the result lives. A catalog
    /// that does not answer is shown without schemas.
    pub(crate) async fn list_foreign(&self, columns: bool, wanted: impl Fn(&str) -> bool) -> Vec<Arc<Listing>> {
        let snapshot = self.snapshot();
        let wanted = snapshot.foreign_catalogs().filter(|foreign| wanted(&foreign.name));
        join_all(wanted.map(|foreign| self.list(foreign, columns))).await
    }

    async fn list(&self, foreign: &Foreign, columns: bool) -> Arc<Listing> {
        let now = self.clock().now();
        let since = |then: Instant| now.saturating_duration_since(then);
        let (listing, is_fresh) = {
            let mut known = foreign.known.lock();
            let is_fresh = known.listed.is_some_and(|of| since(of.at) < FRESH && (of.columns || !columns));
            let is_spared = known.away.is_some_and(|away| since(away) < SPARED);
            (known.listing(), is_fresh || is_spared)
        };
        if is_fresh {
            return listing;
        }
        let listed = async {
            let opened = self.opened(foreign)?;
            let schemas = foreign.ask(LIST_PATIENCE, opened.schemas(columns)).await?;
            foreign.listed(schemas, columns, opened.as_ref(), self.clock().now());
            Ok::<_, QueryError>(())
        };
        if let Err(error) = listed.await {
            tracing::warn!(catalog = %foreign.name, %error, "a catalog is listed without its tables");
            let mut known = foreign.known.lock();
            (known.names, known.listed, known.away) = (BTreeMap::new(), None, Some(self.clock().now()));
        }
        listing
    }

    /// Refuses to list the tables of a schema that does not exist. A catalog that does not answer is shown without tables.
    pub(crate) async fn require_listed(&self, catalog: &str, schema: &str) -> Result<(), QueryError> {
        let snapshot = self.snapshot();
        if schema == INFORMATION_SCHEMA {
            return snapshot.require_catalog(catalog);
        }
        let Some(foreign) = snapshot.foreign(catalog) else { return snapshot.require_schema(catalog, schema) };
        let _listing = self.list(foreign, false).await;
        let schemas = foreign.schemas();
        if schemas.is_empty() || schemas.iter().any(|known| known == schema) {
            return Ok(());
        }
        let message = format!("schema '{schema}' not found");
        Err(QueryError::NotFound(with_suggestion(message, nearest(schema, schemas.iter().map(String::as_str)))))
    }

    /// Returns the names of tables that `name` may have meant.
    pub(crate) async fn names_beside(&self, name: &TableName) -> Vec<String> {
        let snapshot = self.snapshot();
        let Some(foreign) = snapshot.foreign(&name.catalog) else {
            return snapshot.names_in(&name.catalog, &name.schema);
        };
        let _listing = self.list(foreign, false).await;
        foreign.tables(&name.schema)
    }

    /// Creates a catalog of a connector, after its tables could be listed. `sql`: the statement.
    pub(crate) async fn create_foreign(
        self: &Arc<Self>,
        effect: Option<Effect>,
        name: &str,
        source: Connected,
        exists: OnExists,
        sql: &str,
    ) -> Result<(), QueryError> {
        let taken = |snapshot: &Snapshot| match (snapshot.foreign(name).is_some(), snapshot.has_catalog(name), exists) {
            (_, true, OnExists::Keep) => Ok(true),
            (true, _, OnExists::Replace) | (_, false, _) => Ok(false),
            (_, true, OnExists::Replace) => Err(QueryError::Invalid(format!(
                "catalog '{name}' is one of Windlass's own, which that of another system cannot replace; drop it first"
            ))),
            (_, true, OnExists::Fail) => Err(QueryError::AlreadyExists(format!("catalog '{name}' already exists"))),
        };
        if taken(&self.snapshot())? {
            return Ok(());
        }
        let secrets = self.connectors().secrets(&source.connector, &source.options);
        let definition = redacted(sql.trim().trim_end_matches(';').trim_end(), secrets);
        let record = CatalogRecord { id: self.ids().name(), source, definition };
        let foreign = Foreign::new(name.to_string(), record.clone());
        let opened = self.opened(&foreign)?;
        foreign.ask(PATIENCE, opened.schemas(false)).await?;
        let edits = |snapshot: &Snapshot| match taken(snapshot)? {
            true => Ok(Vec::new()),
            false => Ok(vec![Edit::PutForeign(name.to_string(), record)]),
        };
        self.change(effect, edits).await.map(|_| ())
    }

    /// Drops a catalog. One of Windlass's own must be empty, or `cascade` be set.
    pub(crate) async fn drop_catalog(
        self: &Arc<Self>,
        effect: Option<Effect>,
        name: &str,
        if_exists: bool,
        cascade: bool,
    ) -> Result<(), QueryError> {
        self.change(effect, |snapshot| {
            if snapshot.foreign(name).is_some() {
                return Ok(vec![Edit::DropCatalog(name.to_string())]);
            }
            if !snapshot.has_catalog(name) {
                if if_exists {
                    return Ok(Vec::new());
                }
                let suggestion = nearest(name, snapshot.catalogs());
                return Err(QueryError::NotFound(with_suggestion(format!("catalog '{name}' not found"), suggestion)));
            }
            if name == super::DEFAULT_CATALOG {
                return Err(QueryError::Invalid(format!("catalog '{name}' is the cluster's own, and stays")));
            }
            let schemas: Vec<String> = snapshot.schemas(name).map(str::to_string).collect();
            let tables: Vec<&Arc<Held>> = schemas.iter().flat_map(|schema| snapshot.tables_in(name, schema)).collect();
            if !tables.is_empty() && !cascade {
                return Err(QueryError::Invalid(format!(
                    "catalog '{name}' still holds {} tables and views; drop them, or use DROP CATALOG {name} CASCADE",
                    tables.len()
                )));
            }
            let mut edits = Vec::new();
            for held in tables {
                edits.extend(self.discard(&held.record));
                edits.push(Edit::DropTable(held.name.clone()));
            }
            edits.extend(schemas.into_iter().map(|schema| Edit::DropSchema(name.to_string(), schema)));
            edits.push(Edit::DropCatalog(name.to_string()));
            Ok(edits)
        })
        .await
        .map(|_| ())
    }
}

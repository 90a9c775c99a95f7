//! Temporary tables and views of a session. They shadow the cluster's tables and views of the same names.

use super::record::Record;
use super::snapshot::Held;
use super::{Catalog, TableName, build};
use crate::errors::QueryError;
use crate::statements::erased::Erased;
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use futures::future::BoxFuture;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};

/// The temporary tables of a session. They shadow the schema that its unqualified names mean.
#[derive(Debug, Default)]
pub struct TempTables {
    home: RwLock<(String, String)>,
    tables: RwLock<Tables>,
    /// Held from the look at a table to the change that depends on it.
    changing: tokio::sync::Mutex<()>,
    /// The session's state, with which temporary views are planned. Empty until the session is complete.
    session: OnceLock<Erased<Weak<RwLock<SessionState>>>>,
}

#[derive(Debug, Default)]
struct Tables {
    version: u64,
    by_name: BTreeMap<String, Arc<Held>>,
}

impl TempTables {
    pub fn attach(&self, session: Weak<RwLock<SessionState>>) {
        // A second call would need a second session, and there is none.
        let _ = self.session.set(Erased::new(session));
    }

    /// Returns the session's time zone.
    pub(super) fn time_zone(&self) -> Option<String> {
        let session = self.session.get()?.upgrade()?;
        let session = session.read();
        session.config_options().execution.time_zone.clone().filter(|zone| !zone.is_empty())
    }

    /// Sets the schema that unqualified names mean.
    pub fn move_to(&self, catalog: &str, schema: &str) {
        *self.home.write() = (catalog.to_string(), schema.to_string());
    }

    pub fn are_in(&self, catalog: &str, schema: &str) -> bool {
        let home = self.home.read();
        home.0 == catalog && home.1 == schema
    }

    /// Waits until nobody else is about to change a table.
    pub async fn changing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// Returns a version that grows with every change.
    pub fn version(&self) -> u64 {
        self.tables.read().version
    }

    pub fn names(&self) -> Vec<String> {
        self.tables.read().by_name.keys().cloned().collect()
    }

    pub fn get(&self, table: &str) -> Option<Arc<Held>> {
        self.tables.read().by_name.get(table).cloned()
    }

    /// Returns the table or view `name`, if its schema is the one that they shadow.
    pub fn find(&self, name: &TableName) -> Option<Arc<Held>> {
        if self.are_in(&name.catalog, &name.schema) { self.get(&name.table) } else { None }
    }

    /// Returns the table or view that it replaces.
    pub fn put(&self, name: TableName, record: Record) -> Option<Arc<Held>> {
        let mut tables = self.tables.write();
        tables.version += 1;
        tables.by_name.insert(name.table.clone(), Held::new(name, record))
    }

    pub fn remove(&self, table: &str) -> Option<Arc<Held>> {
        let mut tables = self.tables.write();
        tables.version += 1;
        tables.by_name.remove(table)
    }

    /// Removes and returns all of them, for a session that ends.
    pub fn drain(&self) -> Vec<Arc<Held>> {
        let mut tables = self.tables.write();
        tables.version += 1;
        std::mem::take(&mut tables.by_name).into_values().collect()
    }

    pub(super) fn provider<'a>(
        &'a self,
        table: &'a str,
        catalog: &'a Arc<Catalog>,
    ) -> BoxFuture<'a, Result<Option<Arc<dyn TableProvider>>, QueryError>> {
        Box::pin(async move {
            let Some(held) = self.get(table) else { return Ok(None) };
            let provider = match &held.record {
                Record::Table(table) => catalog.table_provider(&held, table).await?,
                Record::View(view) => {
                    let session = self.session.get().and_then(|session| session.upgrade());
                    let session = session.ok_or_else(|| QueryError::NotFound("the session has ended".to_string()))?;
                    let state = session.read().clone();
                    build::view_provider(&state, view, catalog.limits()).await?
                }
            };
            Ok(Some(provider))
        })
    }
}

//! A catalog that asks the cluster. Tables that a program registers here (for example over files) come first and stay here.

use crate::backend::TableFilter;
use crate::session::Session;
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::{Result, TableReference, plan_err};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use windlass_engine::logical::ClusterTable;

/// All catalogs of the cluster. A lookup of a table shows whether its catalog exists.
#[derive(Debug)]
pub(super) struct Catalogs {
    session: Session,
    used: Mutex<BTreeMap<String, Arc<dyn CatalogProvider>>>,
}

impl Catalogs {
    pub(super) fn new(session: Session) -> Catalogs {
        Catalogs { session, used: Mutex::default() }
    }
}

impl CatalogProviderList for Catalogs {
    fn register_catalog(&self, name: String, catalog: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        self.used.lock().insert(name, catalog)
    }

    fn catalog_names(&self) -> Vec<String> {
        self.used.lock().keys().cloned().collect()
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        let mut used = self.used.lock();
        let catalog = used.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(Catalog { session: self.session.clone(), name: name.to_owned(), used: Mutex::default() })
        });
        Some(Arc::clone(catalog))
    }
}

#[derive(Debug)]
struct Catalog {
    session: Session,
    name: String,
    used: Mutex<BTreeMap<String, Arc<dyn SchemaProvider>>>,
}

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        self.used.lock().keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let mut used = self.used.lock();
        let schema = used.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(Schema {
                session: self.session.clone(),
                catalog: self.name.clone(),
                name: name.to_owned(),
                registered: Mutex::default(),
            })
        });
        Some(Arc::clone(schema))
    }
}

#[derive(Debug)]
struct Schema {
    session: Session,
    catalog: String,
    name: String,
    registered: Mutex<BTreeMap<String, Arc<dyn TableProvider>>>,
}

#[async_trait]
impl SchemaProvider for Schema {
    fn table_names(&self) -> Vec<String> {
        self.registered.lock().keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(table) = self.registered.lock().get(name) {
            return Ok(Some(Arc::clone(table)));
        }
        let filter = TableFilter {
            catalog: Some(self.catalog.clone()),
            schema: Some(self.name.clone()),
            name: Some(name.to_owned()),
            with_columns: true,
        };
        let found = self.session.tables(filter).await?.into_iter().next();
        Ok(found.and_then(|table| {
            let reference = TableReference::full(table.catalog, table.schema, table.name);
            Some(Arc::new(ClusterTable { reference, schema: table.columns? }) as Arc<dyn TableProvider>)
        }))
    }

    fn register_table(&self, name: String, table: Arc<dyn TableProvider>) -> Result<Option<Arc<dyn TableProvider>>> {
        let mut registered = self.registered.lock();
        if registered.contains_key(&name) {
            return plan_err!("a table {name} is registered in this context already");
        }
        Ok(registered.insert(name, table))
    }

    fn deregister_table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.registered.lock().remove(name))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.registered.lock().contains_key(name)
    }
}

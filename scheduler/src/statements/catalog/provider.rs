//! The catalog in DataFusion's form: the cluster's, shadowed by a session's temporary tables.

use super::names::TableName;
use super::record::Record;
use super::{Catalog, Foreign, TempTables};
use crate::errors::QueryError;
use async_trait::async_trait;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, SchemaProvider, Session as DataFusionSession, TableProvider,
};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use std::collections::BTreeSet;
use std::sync::Arc;

/// All catalogs, as one session sees them.
#[derive(Debug)]
pub struct SessionCatalogs {
    catalog: Arc<Catalog>,
    temporary: Option<Arc<TempTables>>,
    /// The time zone of views that are read through another view. `None`: the session's.
    zone: Option<String>,
    /// Whether a view that cannot be planned is shown without columns.
    shows_broken: bool,
}

impl SessionCatalogs {
    pub fn new(catalog: Arc<Catalog>, temporary: Option<Arc<TempTables>>) -> Self {
        Self { catalog, temporary, zone: None, shows_broken: true }
    }

    pub(super) fn cluster(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Returns the durable catalog, with views in a time zone.
    pub(super) fn in_zone(catalog: Arc<Catalog>, zone: Option<String>) -> Self {
        Self { catalog, temporary: None, zone, shows_broken: false }
    }
}

impl CatalogProviderList for SessionCatalogs {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        self.catalog.snapshot().catalogs().map(str::to_string).collect()
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        let known = self.catalog.snapshot().has_catalog(name);
        known.then(|| -> Arc<dyn CatalogProvider> {
            Arc::new(OneCatalog {
                catalog: Arc::clone(&self.catalog),
                temporary: self.temporary.clone(),
                zone: self.zone.clone().or_else(|| self.temporary.as_ref()?.time_zone()),
                shows_broken: self.shows_broken,
                name: name.to_string(),
            })
        })
    }
}

#[derive(Debug)]
struct OneCatalog {
    catalog: Arc<Catalog>,
    temporary: Option<Arc<TempTables>>,
    zone: Option<String>,
    shows_broken: bool,
    name: String,
}

impl CatalogProvider for OneCatalog {
    fn schema_names(&self) -> Vec<String> {
        let snapshot = self.catalog.snapshot();
        match snapshot.foreign(&self.name) {
            Some(foreign) => foreign.schemas(),
            None => snapshot.schemas(&self.name).map(str::to_string).collect(),
        }
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let snapshot = self.catalog.snapshot();
        let foreign = snapshot.foreign(&self.name).cloned();
        // The schemas of another system are known when a table is asked for.
        if foreign.is_none() && !snapshot.has_schema(&self.name, name) {
            return None;
        }
        let temporary = self.temporary.clone().filter(|temporary| temporary.are_in(&self.name, name));
        Some(Arc::new(OneSchema {
            catalog: Arc::clone(&self.catalog),
            foreign,
            temporary,
            zone: self.zone.clone(),
            shows_broken: self.shows_broken,
            in_catalog: self.name.clone(),
            name: name.to_string(),
        }))
    }
}

#[derive(Debug)]
struct OneSchema {
    catalog: Arc<Catalog>,
    foreign: Option<Arc<Foreign>>,
    temporary: Option<Arc<TempTables>>,
    zone: Option<String>,
    shows_broken: bool,
    in_catalog: String,
    name: String,
}

impl OneSchema {
    fn full(&self, table: &str) -> TableName {
        TableName::new(&self.in_catalog, &self.name, table)
    }
}

#[async_trait]
impl SchemaProvider for OneSchema {
    fn table_names(&self) -> Vec<String> {
        let names = match &self.foreign {
            Some(foreign) => foreign.tables(&self.name),
            None => self.catalog.snapshot().names_in(&self.in_catalog, &self.name),
        };
        let mut names: BTreeSet<String> = names.into_iter().collect();
        if let Some(temporary) = &self.temporary {
            names.extend(temporary.names());
        }
        names.into_iter().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(temporary) = &self.temporary
            && let Some(provider) = temporary.provider(name, &self.catalog).await.map_err(external)?
        {
            return Ok(Some(provider));
        }
        let name = self.full(name);
        match self.catalog.provider_in(&name, self.zone.as_deref()).await {
            // Lists of tables and columns must still show the other tables.
            Err(error) => match self.catalog.snapshot().table(&name).map(|held| &held.record) {
                Some(Record::View(view)) if self.shows_broken => {
                    Ok(Some(Arc::new(BrokenView { definition: view.definition.clone(), error: error.to_string() })))
                }
                _ => Err(external(error)),
            },
            found => found.map_err(external),
        }
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>> {
        if let Some(held) = self.temporary.as_ref().and_then(|temporary| temporary.get(name)) {
            return Ok(Some(match held.record {
                Record::Table(_) => TableType::Temporary,
                Record::View(_) => TableType::View,
            }));
        }
        if let Some(foreign) = &self.foreign {
            let is_view = foreign.is_view(&self.name, name);
            return Ok(is_view.map(|is_view| if is_view { TableType::View } else { TableType::Base }));
        }
        let snapshot = self.catalog.snapshot();
        Ok(snapshot.table(&self.full(name)).map(|held| match held.record {
            Record::Table(_) => TableType::Base,
            Record::View(_) => TableType::View,
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.temporary.as_ref().is_some_and(|temporary| temporary.get(name).is_some())
            || self.catalog.snapshot().table(&self.full(name)).is_some()
            || self.foreign.as_ref().is_some_and(|foreign| foreign.is_view(&self.name, name).is_some())
    }
}

/// A view whose definition cannot be planned, for example after a table that it reads was dropped.
#[derive(Debug)]
pub(crate) struct BrokenView {
    definition: String,
    error: String,
}

impl BrokenView {
    /// Returns why it cannot be planned.
    pub fn error(&self) -> QueryError {
        QueryError::Invalid(self.error.clone())
    }
}

#[async_trait]
impl TableProvider for BrokenView {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::empty())
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn get_table_definition(&self) -> Option<&str> {
        Some(&self.definition)
    }

    async fn scan(
        &self,
        _: &dyn DataFusionSession,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Err(external(self.error()))
    }
}

/// Wraps our error, with its kind, in the planner's error type.
fn external(error: QueryError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

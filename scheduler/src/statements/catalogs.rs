//! CREATE, DROP and SHOW of catalogs: Windlass's own, and those of other systems.

use super::Execution;
use super::catalog::{Connected, OnExists};
use super::parse::catalogs::{CatalogSource, CatalogStatement};
use super::run::StatementRun;
use crate::errors::QueryError;
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use std::sync::Arc;

impl StatementRun<'_> {
    pub(super) async fn catalog(self, statement: CatalogStatement) -> Result<Execution, QueryError> {
        let catalog = &self.statements.inner.catalog;
        match statement {
            CatalogStatement::Create { name, exists, source: Some(source) } => {
                let CatalogSource { connector, location, options } = source;
                let connector = catalog.connectors().require(&connector)?.name().to_string();
                // The options are checked, and written in lower case, before anything is kept of them.
                let lent = catalog.lent(&options.0)?;
                let spec = catalog.connectors().catalog_spec(
                    &connector,
                    String::new(),
                    location.clone(),
                    options.0.clone(),
                    lent,
                )?;
                let options = spec.options.given().clone();
                let source = Connected { connector, location, options, sealed: None, is_changing: false };
                catalog.create_foreign(self.effect(), &name, source, exists, self.sql).await?;
            }
            CatalogStatement::Create { exists: OnExists::Replace, .. } => {
                return Err(QueryError::Unsupported(
                    "OR REPLACE of a catalog of Windlass's own is not supported: leave it out".to_string(),
                ));
            }
            CatalogStatement::Create { name, exists, source: None } => {
                catalog.create_catalog(self.effect(), &name, exists == OnExists::Keep).await?;
            }
            CatalogStatement::Drop { name, if_exists, cascade } => {
                catalog.drop_catalog(self.effect(), &name, if_exists, cascade).await?;
            }
            CatalogStatement::Show => return self.show_catalogs(),
        }
        Ok(Execution::empty())
    }

    fn show_catalogs(self) -> Result<Execution, QueryError> {
        let snapshot = self.statements.inner.catalog.snapshot();
        let sources = snapshot.catalogs().map(|name| (name, snapshot.foreign(name).map(|foreign| &foreign.record)));
        let sources: Vec<_> = sources.collect();
        let names: ArrayRef = Arc::new(StringArray::from_iter_values(sources.iter().map(|(name, _)| name)));
        let text = |of: fn(&super::catalog::CatalogRecord) -> &str| -> ArrayRef {
            Arc::new(sources.iter().map(|(_, record)| record.map(of)).collect::<StringArray>())
        };
        let columns = vec![
            names,
            text(|record| &record.source.connector),
            text(|record| &record.source.location),
            text(|record| &record.definition),
        ];
        let schema = Arc::new(Schema::new(vec![
            Field::new("catalog", DataType::Utf8, false),
            Field::new("stored_as", DataType::Utf8, true),
            Field::new("location", DataType::Utf8, true),
            Field::new("definition", DataType::Utf8, true),
        ]));
        let rows = RecordBatch::try_new(Arc::clone(&schema), columns);
        let rows = rows.map_err(|error| QueryError::Internal(error.to_string()))?;
        Ok(Execution::here(schema, vec![rows]))
    }
}

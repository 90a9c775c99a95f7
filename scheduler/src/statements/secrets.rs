//! CREATE, DROP and SHOW of secrets: credentials that tables refer to by name, so that statements about tables do not contain them.

use super::Execution;
use super::catalog::{Edit, OnExists, SECRET};
use super::parse::secrets::{Credentials, SecretStatement};
use super::run::StatementRun;
use crate::errors::QueryError;
use crate::meta::keys::secrets::Secret;
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use std::sync::Arc;

impl StatementRun<'_> {
    pub(super) async fn secret(self, statement: SecretStatement) -> Result<Execution, QueryError> {
        match statement {
            SecretStatement::Create { name, exists, options } => self.create_secret(name, exists, options).await?,
            SecretStatement::Drop { name, if_exists } => self.drop_secret(name, if_exists).await?,
            SecretStatement::Show => return self.show_secrets(),
        }
        Ok(Execution::empty())
    }

    async fn create_secret(
        self,
        name: String,
        exists: OnExists,
        Credentials(options): Credentials,
    ) -> Result<(), QueryError> {
        let catalog = &self.statements.inner.catalog;
        if options.contains_key(SECRET) {
            return Err(QueryError::Invalid(format!(
                "a secret cannot name another one: leave the option '{SECRET}' out"
            )));
        }
        let secret = Secret::of(catalog.sealer(), &name, &options, catalog.clock().wall_ms())?;
        let put = |snapshot: &super::catalog::Snapshot| match (snapshot.secret(&name).is_ok(), exists) {
            (true, OnExists::Keep) => Ok(Vec::new()),
            (true, OnExists::Fail) => Err(QueryError::AlreadyExists(format!(
                "secret '{name}' already exists: CREATE OR REPLACE SECRET gives it other options"
            ))),
            (false, _) | (true, OnExists::Replace) => Ok(vec![Edit::PutSecret(name.clone(), secret)]),
        };
        catalog.change(self.effect(), put).await?;
        catalog.secret_changed(&name);
        Ok(())
    }

    async fn drop_secret(self, name: String, if_exists: bool) -> Result<(), QueryError> {
        let drop = |snapshot: &super::catalog::Snapshot| {
            if let Err(error) = snapshot.secret(&name) {
                return if if_exists { Ok(Vec::new()) } else { Err(error) };
            }
            let table = snapshot.tables_with(&name).next().map(|held| format!("table '{}'", held.name.table));
            let by = table.or_else(|| Some(format!("catalog '{}'", snapshot.catalogs_with(&name).next()?.name)));
            match by {
                Some(by) => Err(QueryError::Invalid(format!(
                    "secret '{name}' is named by {by}: drop that first, or give the secret other options with CREATE OR REPLACE SECRET"
                ))),
                None => Ok(vec![Edit::DropSecret(name.clone())]),
            }
        };
        self.statements.inner.catalog.change(self.effect(), drop).await.map(|_| ())
    }

    fn show_secrets(self) -> Result<Execution, QueryError> {
        let snapshot = self.statements.inner.catalog.snapshot();
        let secrets: Vec<_> = snapshot.secrets().collect();
        let names: ArrayRef = Arc::new(StringArray::from_iter_values(secrets.iter().map(|(name, _)| name)));
        let options = secrets.iter().map(|(_, secret)| secret.options.join(", "));
        let options: ArrayRef = Arc::new(StringArray::from_iter_values(options));
        let made = secrets.iter().map(|(_, secret)| secret.made_ms as i64);
        let made: ArrayRef = Arc::new(TimestampMillisecondArray::from_iter_values(made).with_timezone("UTC"));
        let schema = Arc::new(Schema::new(vec![
            Field::new("name", DataType::Utf8, false),
            Field::new("options", DataType::Utf8, false),
            Field::new("made", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
        ]));
        let rows = RecordBatch::try_new(Arc::clone(&schema), vec![names, options, made]);
        let rows = rows.map_err(|error| QueryError::Internal(error.to_string()))?;
        Ok(Execution::here(schema, vec![rows]))
    }
}

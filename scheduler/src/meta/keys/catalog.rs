//! `catalog/catalog/{catalog}`, `catalog/schema/{catalog}/{schema}`, `catalog/table/{catalog}/{schema}/{table}`: the catalogs and
//! schemas, and the record of each table or view, and of each catalog of a connector; that of Windlass's own catalogs is empty. `catalog/version`: the number of changes so far.

use super::{decode, encode};
use crate::meta::{Entry, Expectation, MetaError, MetaStore, Transaction, Update, segment, unsegment};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

const CATALOGS: &str = "catalog/catalog/";
const SCHEMAS: &str = "catalog/schema/";
const TABLES: &str = "catalog/table/";
/// Every change of the catalog writes it, so that concurrent changes conflict.
const VERSION: &str = "catalog/version";

/// The number of changes so far, and the revision of its entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Version {
    pub number: u64,
    /// `None` before the first change.
    pub revision: Option<u64>,
}

/// A record, with its catalog, schema and table.
pub(crate) type Named<T> = ([String; 3], T);

/// Returns a transaction that succeeds only if the catalog has not changed since `seen`, and that sets its version to `next`.
pub(crate) fn change(seen: Option<u64>, next: u64) -> Transaction {
    let expectation = seen.map_or(Expectation::Absent, Expectation::Revision);
    Transaction::default().expect(VERSION, expectation).put(VERSION, next.to_string().into_bytes())
}

pub(crate) async fn version(store: &dyn MetaStore) -> Result<Version, MetaError> {
    let Some(Entry { revision, value }) = store.get(VERSION).await? else { return Ok(Version::default()) };
    let number = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
    let corrupt = || MetaError::Corrupt { key: VERSION.to_string(), reason: "not a number".to_string() };
    Ok(Version { number: number.ok_or_else(corrupt)?, revision: Some(revision) })
}

pub(crate) fn put_catalog(catalog: &str) -> Update {
    Update::put(format!("{CATALOGS}{}", segment(catalog)), Bytes::new())
}

pub(crate) fn put_foreign_catalog(catalog: &str, record: &impl Serialize) -> Update {
    Update::put(format!("{CATALOGS}{}", segment(catalog)), encode(record))
}

pub(crate) fn delete_catalog(catalog: &str) -> Update {
    Update::delete(format!("{CATALOGS}{}", segment(catalog)))
}

pub(crate) fn put_schema(catalog: &str, schema: &str) -> Update {
    Update::put(schema_key(catalog, schema), Bytes::new())
}

pub(crate) fn delete_schema(catalog: &str, schema: &str) -> Update {
    Update::delete(schema_key(catalog, schema))
}

pub(crate) fn put_table(name: [&str; 3], record: &impl Serialize) -> Update {
    Update::put(table_key(name), encode(record))
}

pub(crate) fn delete_table(name: [&str; 3]) -> Update {
    Update::delete(table_key(name))
}

/// Returns each catalog, with its record if it is one of a connector.
pub(crate) async fn catalogs<T: DeserializeOwned>(
    store: &dyn MetaStore,
) -> Result<Vec<(String, Option<T>)>, MetaError> {
    let entries = store.range(CATALOGS).await?;
    let read = |(key, entry): (String, Entry)| {
        let record = match entry.value.is_empty() {
            true => None,
            false => Some(decode(&key, &entry.value)?),
        };
        Ok((unsegment(&key[CATALOGS.len()..]), record))
    };
    entries.into_iter().map(read).collect()
}

/// Returns each schema as (catalog, schema).
pub(crate) async fn schemas(store: &dyn MetaStore) -> Result<Vec<(String, String)>, MetaError> {
    let entries = store.range(SCHEMAS).await?;
    let names = entries.iter().filter_map(|(key, _)| key[SCHEMAS.len()..].split_once('/'));
    Ok(names.map(|(catalog, schema)| (unsegment(catalog), unsegment(schema))).collect())
}

/// Returns all tables and views.
pub(crate) async fn tables<T: DeserializeOwned>(store: &dyn MetaStore) -> Result<Vec<Named<T>>, MetaError> {
    let mut tables = Vec::new();
    for (key, entry) in store.range(TABLES).await? {
        let parts: Vec<String> = key[TABLES.len()..].split('/').map(unsegment).collect();
        let corrupt = |_| MetaError::Corrupt { key: key.clone(), reason: "not the name of a table".to_string() };
        tables.push((parts.try_into().map_err(corrupt)?, decode(&key, &entry.value)?));
    }
    Ok(tables)
}

/// Whether a transaction changes a table or view.
#[cfg(test)]
pub(crate) fn names_table(transaction: &Transaction) -> bool {
    transaction.writes.iter().any(|(key, _)| key.starts_with(TABLES))
}

fn schema_key(catalog: &str, schema: &str) -> String {
    format!("{SCHEMAS}{}/{}", segment(catalog), segment(schema))
}

fn table_key([catalog, schema, table]: [&str; 3]) -> String {
    format!("{TABLES}{}/{}/{}", segment(catalog), segment(schema), segment(table))
}

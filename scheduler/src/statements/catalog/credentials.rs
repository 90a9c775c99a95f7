//! Credentials of tables: sealed in the metadata store, in the clear for statements, and provided by a secret that several tables can
//! name.

use super::record::{CatalogRecord, Connected, External, Record, Storage, TableRecord};
use super::{Catalog, Snapshot, build};
use crate::errors::QueryError;
use crate::meta::keys::secrets::Secret;
use crate::meta::{SealError, Sealer};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::collections::BTreeMap;
use windlass_engine::connector::Registry;

/// The option by which a table names a secret.
pub(crate) const SECRET: &str = "secret";

type Options = BTreeMap<String, String>;

/// Seals `options`, which belong to `owner`.
pub(crate) fn seal(sealer: &Sealer, owner: &str, options: &Options) -> Result<String, SealError> {
    // The options are a map of texts.
    let plain = serde_json::to_vec(options).expect("options can be written as JSON");
    Ok(BASE64_STANDARD.encode(sealer.seal(owner, &plain)?))
}

/// Opens what [`seal`] has sealed for `owner`.
pub(crate) fn open(sealer: &Sealer, owner: &str, sealed: &str) -> Result<Options, SealError> {
    let sealed = BASE64_STANDARD.decode(sealed).map_err(|_| SealError::Damaged)?;
    let plain = sealer.open_sealed(owner, &sealed)?;
    serde_json::from_slice(&plain).map_err(|_| SealError::Damaged)
}

/// Whether an option of a table is sealed.
fn is_secret(storage: &Storage, connectors: &Registry, name: &str) -> bool {
    match storage {
        Storage::External(_) => build::is_secret(name),
        // The options of an unknown connector cannot be classified here.
        Storage::Connected(of) => name != SECRET && connectors.is_secret(&of.connector, name),
        Storage::Managed(_) => false,
    }
}

/// Returns the options of a table, and its sealed options.
fn parts(storage: &mut Storage) -> Option<(&mut Options, &mut Option<String>)> {
    match storage {
        Storage::External(External { options, sealed, .. }) | Storage::Connected(Connected { options, sealed, .. }) => {
            Some((options, sealed))
        }
        Storage::Managed(_) => None,
    }
}

/// Returns the record in the form of the metadata store.
///
/// # Errors
/// It has credentials, and there is no key to seal them with.
pub(super) fn sealed(record: &Record, sealer: &Sealer, connectors: &Registry) -> Result<Record, SealError> {
    let mut record = record.clone();
    if let Record::Table(TableRecord { id, storage, .. }) = &mut record {
        let known = storage.clone();
        if let Some((options, sealed @ None)) = parts(storage) {
            let secret = options.extract_if(.., |name, _| is_secret(&known, connectors, name)).collect::<Options>();
            if !secret.is_empty() {
                *sealed = Some(seal(sealer, id, &secret)?);
            }
        }
    }
    Ok(record)
}

/// Returns the record in the form for statements. Options that cannot be opened stay sealed: the table exists and can be dropped, but
/// not read.
pub(super) fn opened(mut record: Record, sealer: &Sealer) -> Record {
    if let Record::Table(TableRecord { id, storage, .. }) = &mut record
        && let Some((options, sealed)) = parts(storage)
        && let Some(text) = sealed.as_deref()
        && let Ok(secret) = open(sealer, id, text)
    {
        options.extend(secret);
        *sealed = None;
    }
    record
}

/// Returns the record of a catalog in the form of the metadata store. See [`sealed`].
pub(super) fn sealed_catalog(
    record: &CatalogRecord,
    sealer: &Sealer,
    connectors: &Registry,
) -> Result<CatalogRecord, SealError> {
    let mut record = record.clone();
    let Connected { connector, options, sealed, .. } = &mut record.source;
    if sealed.is_none() {
        let is_secret = |name: &str| name != SECRET && connectors.is_secret(connector, name);
        let secret = options.extract_if(.., |name, _| is_secret(name)).collect::<Options>();
        if !secret.is_empty() {
            *sealed = Some(seal(sealer, &record.id, &secret)?);
        }
    }
    Ok(record)
}

/// Returns the record of a catalog in the form for statements. See [`opened`].
pub(super) fn opened_catalog(mut record: CatalogRecord, sealer: &Sealer) -> CatalogRecord {
    let Connected { options, sealed, .. } = &mut record.source;
    if let Some(text) = sealed.as_deref()
        && let Ok(secret) = open(sealer, &record.id, text)
    {
        options.extend(secret);
        *sealed = None;
    }
    record
}

impl Catalog {
    /// Returns the options of the secret that a table names in its `options`. Those of the table itself count before them.
    ///
    /// # Errors
    /// No such secret, or its options cannot be opened.
    pub(crate) fn lent(&self, options: &Options) -> Result<Options, QueryError> {
        options.get(SECRET).map_or(Ok(Options::new()), |name| self.secret(name))
    }

    /// Returns the options of a secret.
    fn secret(&self, name: &str) -> Result<Options, QueryError> {
        let snapshot = self.snapshot();
        let secret = snapshot.secret(name)?;
        open(self.sealer(), name, &secret.sealed)
            .map_err(|error| QueryError::Internal(format!("secret '{name}' cannot be read: {error}")))
    }

    /// Checks that a table's credentials are open.
    ///
    /// # Errors
    /// The credentials of the table are sealed, and this primary cannot open them.
    pub(super) fn require_opened(&self, record: &TableRecord) -> Result<(), QueryError> {
        let (Storage::External(External { sealed, .. }) | Storage::Connected(Connected { sealed, .. })) =
            &record.storage
        else {
            return Ok(());
        };
        match sealed {
            Some(sealed) => self.sealed_still(&record.id, sealed),
            None => Ok(()),
        }
    }

    /// Checks that the credentials of a catalog are open.
    pub(super) fn require_opened_source(&self, id: &str, source: &Connected) -> Result<(), QueryError> {
        source.sealed.as_deref().map_or(Ok(()), |sealed| self.sealed_still(id, sealed))
    }

    fn sealed_still(&self, id: &str, sealed: &str) -> Result<(), QueryError> {
        let error = open(self.sealer(), id, sealed).err().unwrap_or(SealError::Damaged);
        Err(QueryError::Internal(format!("the credentials of the table cannot be read: {error}")))
    }

    /// Configures the object stores of file tables from the tables' options. Errors are reported when a table is read.
    pub(super) fn configure_stores(&self, snapshot: &Snapshot, is_meant: impl Fn(&External) -> bool) {
        for held in snapshot.tables() {
            let Record::Table(record) = &held.record else { continue };
            let Storage::External(external) = &record.storage else { continue };
            if !is_meant(external) {
                continue;
            }
            let configured = self.require_opened(record).and_then(|()| self.stores_of(&record.id, external));
            if let Err(error) = configured {
                tracing::warn!(table = %held.name.table, %error, "a table cannot be reached");
            }
        }
    }

    fn stores_of(&self, id: &str, external: &External) -> Result<(), QueryError> {
        let mut options = self.lent(&external.options)?;
        options.extend(external.options.clone());
        build::configure_stores(self.stores(), id, external, &options)
    }
}

impl Secret {
    /// Seals the options of a secret.
    pub(crate) fn of(sealer: &Sealer, name: &str, options: &Options, made_ms: u64) -> Result<Self, SealError> {
        Ok(Self { options: options.keys().cloned().collect(), sealed: seal(sealer, name, options)?, made_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statements::catalog::record::StoredSchema;
    use datafusion::arrow::datatypes::Schema;
    use std::sync::Arc;

    fn table(options: &[(&str, &str)]) -> Record {
        Record::Table(TableRecord {
            id: "7".to_string(),
            definition: None,
            schema: StoredSchema(Arc::new(Schema::empty())),
            constraints: Vec::new(),
            defaults: Vec::new(),
            lengths: Vec::new(),
            storage: Storage::External(External {
                locations: Vec::new(),
                format: "CSV".to_string(),
                options: options.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
                sealed: None,
                extension: String::new(),
                partitions: 0,
                order: Vec::new(),
            }),
        })
    }

    #[test]
    fn the_store_has_credentials_sealed_and_nothing_else() {
        let (sealer, connectors) = (Sealer::ephemeral().unwrap(), Registry::default());
        let record = table(&[("aws.region", "here"), ("aws.secret_access_key", "hunter2"), ("format.delimiter", ";")]);
        let stored = sealed(&record, &sealer, &connectors).unwrap();
        let text = serde_json::to_string(&stored).unwrap();
        assert!(!text.contains("hunter2") && text.contains("here"), "{text}");
        let read: Record = serde_json::from_str(&text).unwrap();
        assert_eq!(opened(read.clone(), &sealer), record);
        // With another key the record stays sealed, and is written again unchanged.
        let other = Sealer::ephemeral().unwrap();
        let unread = opened(read.clone(), &other);
        assert_eq!(unread, read);
        assert_eq!(sealed(&unread, &other, &connectors).unwrap(), read);
    }

    #[test]
    fn a_record_of_an_earlier_release_is_in_the_clear() {
        let record = table(&[("aws.secret_access_key", "hunter2")]);
        let text = serde_json::to_string(&record).unwrap();
        let read: Record = serde_json::from_str(&text).unwrap();
        assert_eq!(opened(read, &Sealer::ephemeral().unwrap()), record);
    }
}

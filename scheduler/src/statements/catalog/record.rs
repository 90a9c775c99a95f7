//! Records of tables and views in the metadata store. They are JSON, so that other tools and later versions can read them.

use super::build::has_settings;
use super::names::TableName;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::common::{Constraint, Constraints};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use windlass_engine::OwnFolder;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    Table(TableRecord),
    View(ViewRecord),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableRecord {
    /// A unique id. Another table never gets it, not even a later one of the same name.
    pub id: String,
    /// The statement that created the table.
    pub definition: Option<String>,
    /// All columns. Those from the folders' names come last.
    pub schema: StoredSchema,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<StoredConstraint>,
    /// Columns, and the SQL of their defaults.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub defaults: Vec<(String, String)>,
    /// Columns of text, and their maximum length in characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lengths: Vec<(String, u32)>,
    pub storage: Storage,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    External(External),
    Managed(Managed),
    Connected(Connected),
}

/// Files that Windlass does not own: all files at the locations are the table.
///
/// Its debug form omits the options, because some are secret.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct External {
    pub locations: Vec<Location>,
    /// The format after STORED AS, in upper case.
    pub format: String,
    pub options: BTreeMap<String, String>,
    /// Credentials among the options, sealed as they are in the metadata store. Absent: there are none, or they are unsealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
    /// Required ending of the names of files.
    pub extension: String,
    /// Number of trailing columns that come from the folders' names.
    pub partitions: usize,
    /// Equivalent orders of the rows of each file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<Vec<SortKey>>,
}

/// A table of a connector. Its debug form omits the options, because some are secret.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Connected {
    /// The name after STORED AS, in upper case.
    pub connector: String,
    /// The location, in the connector's own form.
    pub location: String,
    /// The options of the statement, secrets included.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// See [`External::sealed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
    /// Whether it is a table of a connector's catalog, whose columns others may change. Such a record is never stored.
    #[serde(skip)]
    pub is_changing: bool,
}

/// A catalog of a connector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CatalogRecord {
    /// A unique id. Another catalog never gets it, not even a later one of the same name.
    pub id: String,
    /// The connector, and the location and options that all tables have.
    pub source: Connected,
    /// The statement that created it, without secrets.
    pub definition: String,
}

impl External {
    /// Whether its object store has settings of its own, under the id of its table.
    pub fn has_settings(&self) -> bool {
        self.sealed.is_some() || has_settings(self.options.keys())
    }
}

impl fmt::Debug for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { locations, format, .. } = self;
        f.debug_struct("External").field("locations", locations).field("format", format).finish_non_exhaustive()
    }
}

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connector, location, .. } = self;
        f.debug_struct("Connected").field("connector", connector).field("location", location).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Location {
    /// A URL in the form of `Place::url`. It is text because earlier versions stored URLs that name no place, and such a table must
    /// still be droppable.
    pub url: String,
    pub glob: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SortKey {
    /// SQL of the expression.
    pub expression: String,
    pub ascending: bool,
    pub nulls_first: bool,
}

/// Files that Windlass wrote. Only the files in the listed folders are the table, so one metadata transaction publishes a write on any
/// object store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Managed {
    /// The table's folder.
    pub root: OwnFolder,
    /// PARQUET, or ARROW for columns of types that Parquet lacks.
    pub format: String,
    /// The folders of committed files, oldest first.
    pub folders: Vec<OwnFolder>,
    /// Rows committed.
    pub rows: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewRecord {
    pub id: String,
    /// The whole CREATE VIEW statement, as it was written.
    pub definition: String,
    /// The options `datafusion.sql_parser` with which its creator's session read it, where they are not the defaults.
    #[serde(default)]
    pub reading: BTreeMap<String, String>,
    /// The catalog that unqualified names meant when the view was created.
    pub default_catalog: String,
    pub default_schema: String,
    /// The tables and views that it names.
    pub references: Vec<TableName>,
}

impl Record {
    pub fn id(&self) -> &str {
        match self {
            Record::Table(table) => &table.id,
            Record::View(view) => &view.id,
        }
    }

    /// Returns the word for error messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Record::Table(_) => "table",
            Record::View(_) => "view",
        }
    }
}

impl Record {
    /// Returns the name of the secret that gives the table its options.
    pub fn secret(&self) -> Option<&str> {
        match self {
            Record::Table(TableRecord {
                storage: Storage::External(External { options, .. }) | Storage::Connected(Connected { options, .. }),
                ..
            }) => options.get(super::SECRET).map(String::as_str),
            Record::Table(_) | Record::View(_) => None,
        }
    }
}

impl CatalogRecord {
    /// Returns the name of the secret that gives the catalog its options.
    pub fn secret(&self) -> Option<&str> {
        self.source.options.get(super::SECRET).map(String::as_str)
    }
}

impl TableRecord {
    /// Returns the columns in the files, and the columns from the folders' names.
    pub fn split_schema(&self) -> (SchemaRef, Vec<arrow::datatypes::FieldRef>) {
        let partitions = match &self.storage {
            Storage::External(external) => external.partitions,
            Storage::Managed(_) | Storage::Connected(_) => 0,
        };
        let all = self.schema.0.fields();
        let (in_files, from_folders) = all.split_at(all.len().saturating_sub(partitions));
        let schema = Schema::new_with_metadata(in_files.to_vec(), self.schema.0.metadata().clone());
        (Arc::new(schema), from_folders.to_vec())
    }

    pub fn managed(&self) -> Option<&Managed> {
        match &self.storage {
            Storage::Managed(managed) => Some(managed),
            Storage::External(_) | Storage::Connected(_) => None,
        }
    }

    pub fn managed_mut(&mut self) -> Option<&mut Managed> {
        match &mut self.storage {
            Storage::Managed(managed) => Some(managed),
            Storage::External(_) | Storage::Connected(_) => None,
        }
    }

    pub fn constraints(&self) -> Constraints {
        Constraints::new_unverified(self.constraints.iter().map(StoredConstraint::restore).collect())
    }
}

/// A constraint, with columns by their position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredConstraint {
    PrimaryKey(Vec<usize>),
    Unique(Vec<usize>),
}

impl StoredConstraint {
    pub fn of(constraints: &Constraints) -> Vec<Self> {
        let store = |constraint: &Constraint| match constraint {
            Constraint::PrimaryKey(columns) => Self::PrimaryKey(columns.clone()),
            Constraint::Unique(columns) => Self::Unique(columns.clone()),
        };
        constraints.iter().map(store).collect()
    }

    fn restore(&self) -> Constraint {
        match self {
            Self::PrimaryKey(columns) => Constraint::PrimaryKey(columns.clone()),
            Self::Unique(columns) => Constraint::Unique(columns.clone()),
        }
    }
}

/// A schema, stored in hexadecimal as an Arrow IPC stream without batches.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSchema(pub SchemaRef);

impl Serialize for StoredSchema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        let written = StreamWriter::try_new(&mut bytes, &self.0).and_then(|mut writer| writer.finish());
        written.map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(&bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }
}

impl<'de> Deserialize<'de> for StoredSchema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let text = String::deserialize(deserializer)?;
        let digits = text.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).map_err(D::Error::custom)?;
            u8::from_str_radix(pair, 16).map_err(D::Error::custom)
        });
        let bytes = digits.collect::<Result<Vec<u8>, _>>()?;
        let reader = StreamReader::try_new(bytes.as_slice(), None).map_err(D::Error::custom)?;
        Ok(Self(reader.schema()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field};

    #[test]
    fn a_record_survives_storage() {
        let dictionary = DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8));
        let schema = Schema::new(vec![
            Field::new("a", DataType::Utf8View, false),
            Field::new("b", DataType::new_list(DataType::Decimal128(20, 3), true), true),
            Field::new("month", dictionary, false),
        ]);
        let record = Record::Table(TableRecord {
            id: "1".into(),
            definition: Some("CREATE …".into()),
            schema: StoredSchema(Arc::new(schema)),
            constraints: vec![StoredConstraint::PrimaryKey(vec![0])],
            defaults: vec![("b".into(), "NULL".into())],
            lengths: vec![("a".into(), 3)],
            storage: Storage::External(External {
                locations: vec![Location { url: "s3://b/t/".into(), glob: Some("*.parquet".into()) }],
                format: "PARQUET".into(),
                options: BTreeMap::new(),
                sealed: None,
                extension: String::new(),
                partitions: 1,
                order: vec![vec![SortKey { expression: "a".into(), ascending: true, nulls_first: false }]],
            }),
        });
        let stored = serde_json::to_vec(&record).unwrap();
        assert_eq!(serde_json::from_slice::<Record>(&stored).unwrap(), record);
        let Record::Table(table) = record else { unreachable!() };
        let (in_files, from_folders) = table.split_schema();
        assert_eq!(in_files.fields().len(), 2);
        assert_eq!(from_folders[0].name(), "month");
    }
}

//! The connectors of a process, by name.

use super::copy_files::CopyFilesConnector;
use super::file_sink::FilesConnector;
use super::options::SECRET;
use super::programs::ProgramConnector;
use super::{Connector, OptionSpec, Options, TablePlace, TableSpec};
use crate::text_files::lines::LineFormat;
use datafusion::common::{Result, plan_datafusion_err, plan_err};
use datafusion::prelude::SessionConfig;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

/// Kinds of files; no connector may have such a name.
const FILES: [&str; 7] = ["PARQUET", "CSV", "JSON", "NDJSON", "ARROW", "AVRO", "TEXT"];

/// All connectors of a process, and the kinds of text files that it knows beside the engine's. Cheap to clone. A session carries one as an extension of its configuration.
#[derive(Clone, Default)]
pub struct Registry {
    connectors: Arc<BTreeMap<&'static str, Arc<dyn Connector>>>,
    formats: Arc<BTreeMap<&'static str, Arc<dyn LineFormat>>>,
}

impl Registry {
    /// Adds a connector.
    ///
    /// # Errors
    /// The name is taken or cannot be written after STORED AS, or an option's default is not of its type.
    pub fn with(self, connector: Arc<dyn Connector>) -> Result<Self> {
        let name = connector.name();
        self.check_name(name)?;
        for spec in connector.options() {
            let is_word = spec.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if spec.name == SECRET {
                return plan_err!("tables of all connectors have an option '{SECRET}': call that of {name} otherwise");
            }
            if !is_word || spec.name.is_empty() {
                return plan_err!(
                    "\"{}\" cannot be an option's name: expected lower case letters, digits and _",
                    spec.name
                );
            }
        }
        let defaults =
            connector.options().iter().filter_map(|spec| Some((spec.name.to_string(), spec.default?.to_string())));
        // Required options are given where a table is created.
        if connector.options().iter().all(|spec| !spec.is_required) {
            Options::parse(name, connector.options(), defaults, BTreeMap::new())?;
        }
        let mut connectors = Arc::unwrap_or_clone(self.connectors);
        connectors.insert(name, connector);
        Ok(Self { connectors: Arc::new(connectors), ..self })
    }

    /// Adds a kind of text files.
    ///
    /// # Errors
    /// The name is taken or cannot be written after STORED AS.
    pub fn with_format(self, format: Arc<dyn LineFormat>) -> Result<Self> {
        let name = format.name();
        self.check_name(name)?;
        let mut formats = Arc::unwrap_or_clone(self.formats);
        formats.insert(name, format);
        Ok(Self { formats: Arc::new(formats), ..self })
    }

    fn check_name(&self, name: &str) -> Result<()> {
        let is_word = name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        if !is_word {
            return plan_err!("\"{name}\" cannot stand after STORED AS: expected upper case letters, digits and _");
        }
        if FILES.contains(&name) || self.decoder(name).is_ok() || self.format(name).is_some() {
            return plan_err!("there is something of the name {name} already");
        }
        Ok(())
    }

    /// The registry of a session or of a task.
    pub fn of(config: &SessionConfig) -> Self {
        config.get_extension::<Self>().map(|registry| registry.as_ref().clone()).unwrap_or_default()
    }

    /// `config` for a session that knows these connectors.
    pub fn within(&self, config: SessionConfig) -> SessionConfig {
        config.with_extension(Arc::new(self.clone()))
    }

    /// The connector of this name, in upper or lower case.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Connector>> {
        self.connectors.get(name.to_ascii_uppercase().as_str())
    }

    /// Waits until all other systems were told to end what nobody waits for any more: see [`Connector::settle`].
    pub async fn settle(&self) {
        futures::future::join_all(self.connectors.values().map(|connector| connector.settle())).await;
    }

    /// The kind of text files of this name, in upper or lower case.
    pub fn format(&self, name: &str) -> Option<&Arc<dyn LineFormat>> {
        self.formats.get(name.to_ascii_uppercase().as_str())
    }

    pub(crate) fn formats(&self) -> impl Iterator<Item = &Arc<dyn LineFormat>> {
        self.formats.values()
    }

    /// The kind of text files of a plan.
    pub(super) fn require_format(&self, name: &str) -> Result<Arc<dyn LineFormat>> {
        match self.format(name) {
            Some(format) => Ok(Arc::clone(format)),
            None => plan_err!("{name} is no kind of files here: do all nodes run the same version?"),
        }
    }

    /// The connector of this name.
    ///
    /// # Errors
    /// There is no such connector; the message lists all connectors and the kinds of files.
    pub fn require(&self, name: &str) -> Result<&Arc<dyn Connector>> {
        self.get(name)
            .ok_or_else(|| plan_datafusion_err!("unknown kind of table '{name}': use {}", self.names_with_files()))
    }

    /// Like [`Registry::require`], also finds the engine's own connectors.
    pub(super) fn decoder(&self, name: &str) -> Result<&Arc<dyn Connector>> {
        static OURS: LazyLock<[Arc<dyn Connector>; 3]> =
            LazyLock::new(|| [Arc::new(CopyFilesConnector), Arc::new(FilesConnector), Arc::new(ProgramConnector)]);
        match OURS.iter().find(|ours| ours.name() == name) {
            Some(ours) => Ok(ours),
            None => self.require(name),
        }
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.connectors.keys().copied()
    }

    /// `PARQUET, CSV, … or LAST`.
    pub fn names_with_files(&self) -> String {
        let mut names = vec!["PARQUET", "CSV", "JSON", "ARROW", "AVRO"];
        names.extend(self.formats.keys());
        names.extend(self.names());
        let last = names.pop().unwrap_or_default();
        format!("{} or {last}", names.join(", "))
    }

    /// A table of a connector, with its options checked. `lent`: the options of the secret that the table names, if any.
    pub fn spec(
        &self,
        connector: &str,
        id: String,
        location: String,
        options: impl IntoIterator<Item = (String, String)>,
        lent: BTreeMap<String, String>,
    ) -> Result<TableSpec> {
        let connector = self.decoder(connector)?;
        let options = Options::parse(connector.name(), connector.options(), options, lent)?;
        Ok(TableSpec { connector: connector.name().to_string(), id, location, options })
    }

    /// A catalog of a connector, with its options checked: those of its tables that do not say which table is meant. `lent`: the options of the
    /// secret that the catalog names, if any.
    ///
    /// # Errors
    /// The connector is unknown or has no catalogs, or an option is wrong.
    pub fn catalog_spec(
        &self,
        connector: &str,
        id: String,
        location: String,
        options: impl IntoIterator<Item = (String, String)>,
        lent: BTreeMap<String, String>,
    ) -> Result<TableSpec> {
        let connector = self.require(connector)?;
        if !connector.has_catalogs() {
            return plan_err!(
                "{} has no catalogs: make its tables one by one, with CREATE EXTERNAL TABLE … STORED AS {0}",
                connector.name()
            );
        }
        let specs: Vec<OptionSpec> = connector.options().iter().filter(|spec| !spec.names_table).copied().collect();
        let options = options.into_iter().collect::<Vec<_>>();
        let of_table = |key: &str| {
            let of = connector.options().iter().find(|spec| spec.name.eq_ignore_ascii_case(key));
            of.is_some_and(|spec| spec.names_table)
        };
        if let Some((key, _)) = options.iter().find(|(key, _)| of_table(key)) {
            return plan_err!(
                "the option '{key}' says which table is meant, and a catalog has all of them: leave it out"
            );
        }
        let options = Options::parse(connector.name(), &specs, options, lent)?;
        Ok(TableSpec { connector: connector.name().to_string(), id, location, options })
    }

    /// A table of a catalog. `id`: that of the table; `catalog`: from [`Registry::catalog_spec`].
    pub fn table_spec(&self, catalog: &TableSpec, id: String, place: TablePlace) -> Result<TableSpec> {
        let options = catalog.options.given().clone().into_iter().chain(place.options);
        self.spec(&catalog.connector, id, place.location, options, catalog.options.lent().clone())
    }

    /// Whether an option is a secret of a connector. For an unknown connector every option may be one.
    pub fn is_secret(&self, connector: &str, option: &str) -> bool {
        let Some(connector) = self.get(connector) else { return true };
        connector.options().iter().any(|spec| spec.is_secret && spec.name == option)
    }

    /// Whether an option of this name is a secret of any connector.
    pub fn is_secret_anywhere(&self, option: &str) -> bool {
        self.connectors
            .values()
            .any(|connector| connector.options().iter().any(|spec| spec.is_secret && spec.name == option))
    }

    /// The secret values in a statement's options. For an unknown connector, the secrets of all connectors count.
    pub fn secrets<'a>(
        &self,
        connector: &str,
        options: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Vec<&'a str> {
        let specs = match self.get(connector) {
            Some(connector) => connector.options().to_vec(),
            None => self.connectors.values().flat_map(|connector| connector.options().to_vec()).collect(),
        };
        let is_secret = |key: &str| {
            let lower = key.to_lowercase();
            let name = lower.rsplit('.').next().unwrap_or_default();
            specs.iter().any(|spec| spec.is_secret && spec.name == name)
        };
        options.into_iter().filter(|(key, _)| is_secret(key)).map(|(_, value)| value.as_str()).collect()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).entries(self.formats.keys()).finish()
    }
}

/// Equality of names.
impl PartialEq for Registry {
    fn eq(&self, other: &Self) -> bool {
        self.names().eq(other.names()) && self.formats.keys().eq(other.formats.keys())
    }
}

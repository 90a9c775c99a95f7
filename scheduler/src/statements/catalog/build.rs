//! Builds DataFusion's tables from records, and records from statements.

use super::archived::{ARCHIVED, STORAGE_CLASS, Unreadable, is_s3, policy, with_storage_class};
use super::credentials::SECRET;
use super::data_files::{asks_for_hidden, only_data_but, session_of_data};
use super::listings::Listings;
use super::names::TableName;
use super::record::{
    External, Location, Managed, Record, SortKey, Storage, StoredConstraint, StoredSchema, TableRecord, ViewRecord,
};
use super::{present, suspect, types, with_queries};
use crate::clock::Ids;
use crate::errors::{QueryError, explain, explain_planning};
use crate::statements::erased::Erased;
use crate::statements::parse;
use crate::statements::planning::plan_parsed;
use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::catalog::{Session, TableProvider, TableProviderFactory};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{
    Constraints, DFSchema, DataFusionError, Result, TableReference, internal_err, plan_err, project_schema,
};
use datafusion::config::ConfigOptions;
use datafusion::datasource::ViewTable;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::listing::helpers::parse_partitions_for_path;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::datasource::listing_table_factory::ListingTableFactory;
use datafusion::execution::SessionState;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{
    CreateExternalTable, DdlStatement, Expr, LogicalPlan, SortExpr, TableProviderFilterPushDown, TableType,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::sql::parser::Statement;
use datafusion::sql::unparser::expr_to_sql;
use futures::TryStreamExt;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use url::Url;
use windlass_connectors::StoreRegistry;
use windlass_connectors::archive::{Archived, Policy};
use windlass_engine::coercion_rules;
use windlass_engine::connector::Registry;
use windlass_engine::extent::Limits;
use windlass_engine::failure::FileError;
use windlass_engine::session::session_config;
use windlass_engine::stores::{with_settings, without_settings};
use windlass_engine::text_files::csv::{HEADER_NAMES, renamed_columns};
use windlass_engine::{OwnFolder, Place, Planning, partitions, scan};

/// Prefix of options that configure the object store, not the file format.
pub(crate) const STORE_OPTIONS: &str = "aws.";

pub(crate) const COMPRESSION: &str = "format.compression";
/// Endings of file names, and the compression that each means.
const COMPRESSED: [(&str, &str); 4] = [("gz", "gzip"), ("bz2", "bzip2"), ("xz", "xz"), ("zst", "zstd")];

/// Whether a table of files with these options, by name, has settings of its own for its object store.
pub(super) fn has_settings<'a>(options: impl IntoIterator<Item = &'a String>) -> bool {
    options.into_iter().any(|name| name.starts_with(STORE_OPTIONS) || [SECRET, STORAGE_CLASS].contains(&name.as_str()))
}

/// Registers the object stores of a table if its options say how to reach them. `id`: of the table.
pub(super) fn configure_stores(
    stores: &StoreRegistry,
    id: &str,
    external: &External,
    options: &BTreeMap<String, String>,
) -> Result<(), QueryError> {
    for location in external.locations.iter().filter(|_| external.has_settings()) {
        let url =
            Url::parse(&location.url).map_err(|error| QueryError::Internal(format!("{}: {error}", location.url)))?;
        configure(stores, id, url, options)?;
    }
    Ok(())
}

/// Registers the object store of a place under the name of a table's settings. Returns its URL.
fn configure(
    stores: &StoreRegistry,
    id: &str,
    url: Url,
    options: &BTreeMap<String, String>,
) -> Result<Url, QueryError> {
    let options = with_storage_class(options, &url)?;
    if !is_s3(&url) {
        // It refuses the options of stores.
        stores.configure(&url, &options)?;
        return Ok(url);
    }
    let named = with_settings(url.as_str(), id);
    let named = Url::parse(&named).map_err(|error| QueryError::Internal(format!("{url}: {error}")))?;
    stores.configure(&named, &options)?;
    Ok(named)
}

pub(super) fn table_provider(state: &SessionState, record: &TableRecord) -> Result<Arc<dyn TableProvider>, QueryError> {
    Ok(Arc::new(FilesTable::new(state, record)?))
}

fn external_table(state: &SessionState, record: &TableRecord, external: &External) -> Result<ListingTable> {
    let (file_schema, partitions) = record.split_schema();
    let table_schema = DFSchema::try_from(Arc::clone(&record.schema.0))?;
    let order = external.order.iter().map(|keys| keys.iter().map(|key| sort_expr(state, key, &table_schema)).collect());
    let options = ListingOptions::new(file_format(state, &external.format, &external.options)?)
        .with_file_extension(&external.extension)
        .with_table_partition_cols(
            partitions.iter().map(|field| (field.name().clone(), field.data_type().clone())).collect(),
        )
        .with_file_sort_order(order.collect::<Result<Vec<Vec<SortExpr>>>>()?);
    let paths = external.locations.iter().map(|location| location_url(&record.id, external, location));
    listing_table(state, record, paths.collect::<Result<_>>()?, options, file_schema)
}

/// `id`: of the table.
fn location_url(id: &str, external: &External, location: &Location) -> Result<ListingTableUrl> {
    let place = Place::from_url(&location.url)?;
    let is_own = external.has_settings() && is_s3(place.store().as_ref());
    let url = if is_own { place.with_settings(id)?.listed()? } else { place.listed()? };
    match &location.glob {
        Some(glob) => url.with_glob(glob),
        None => Ok(url),
    }
}

fn listing_table(
    state: &SessionState,
    record: &TableRecord,
    paths: Vec<ListingTableUrl>,
    options: ListingOptions,
    file_schema: SchemaRef,
) -> Result<ListingTable> {
    // DataFusion's caches know a file by its path alone, and another store may have the same path.
    let of_store = |path: ListingTableUrl| {
        let store = TableReference::bare(path.object_store().as_str());
        path.with_table_ref(store)
    };
    let paths = paths.into_iter().map(of_store).collect();
    let config = ListingTableConfig::new_with_multi_paths(paths).with_listing_options(options).with_schema(file_schema);
    Ok(ListingTable::try_new(config)?
        .with_cache(state.runtime_env().cache_manager.get_file_statistic_cache())
        .with_definition(record.definition.clone())
        .with_constraints(record.constraints())
        .with_column_defaults(defaults(state, record)?))
}

pub(super) fn defaults(state: &SessionState, record: &TableRecord) -> Result<HashMap<String, Expr>> {
    let empty = DFSchema::empty();
    let parse = |(column, sql): &(String, String)| Ok((column.clone(), state.create_logical_expr(sql, &empty)?));
    record.defaults.iter().map(parse).collect()
}

fn sort_expr(state: &SessionState, key: &SortKey, schema: &DFSchema) -> Result<SortExpr> {
    Ok(state.create_logical_expr(&key.expression, schema)?.sort(key.ascending, key.nulls_first))
}

fn file_format(state: &SessionState, format: &str, options: &BTreeMap<String, String>) -> Result<Arc<dyn FileFormat>> {
    let Some(factory) = state.get_file_format_factory(&format.to_lowercase()) else {
        return plan_err!("unknown file format {format}: use PARQUET, CSV, JSON, ARROW or AVRO");
    };
    let options = options.iter().filter(|(key, _)| is_of_format(key));
    factory.create(state, &options.map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// Whether an option says how files are read, rather than which, and how they are reached.
fn is_of_format(option: &str) -> bool {
    !option.starts_with(STORE_OPTIONS) && ![SECRET, ARCHIVED, STORAGE_CLASS].contains(&option)
}

/// Refuses a name that is neither a file format nor a connector.
pub(crate) fn require_format(state: &SessionState, format: &str) -> Result<(), QueryError> {
    match state.table_factories().contains_key(&format.to_uppercase()) {
        true => Ok(()),
        false => Err(QueryError::Invalid(format!(
            "unknown file format '{format}': use {}",
            Registry::of(state.config()).names_with_files()
        ))),
    }
}

/// Returns the record for CREATE EXTERNAL TABLE. Columns and partitions are inferred here, once. `lent`: options of the secret that the
/// statement names.
pub async fn external_record(
    state: &SessionState,
    stores: &StoreRegistry,
    command: &CreateExternalTable,
    lent: &BTreeMap<String, String>,
    ids: &Ids,
) -> Result<TableRecord, QueryError> {
    if command.unbounded {
        return Err(QueryError::Unsupported("unbounded tables are not supported".to_string()));
    }
    require_format(state, &command.file_type)?;
    let mut options: BTreeMap<_, _> = command.options.clone().into_iter().collect();
    let id = ids.name();
    let mut command = command.clone();
    let mut locations = command.locations.iter().map(ListingTableUrl::parse).collect::<Result<Vec<_>>>()?;
    if let Some(name) = lent.keys().find(|name| !name.starts_with(STORE_OPTIONS)) {
        return Err(QueryError::Invalid(format!(
            "the secret has the option '{name}', which tables of files do not have: theirs begin with {STORE_OPTIONS}"
        )));
    }
    let mut of_stores = lent.clone();
    of_stores.extend(options.clone());
    if has_settings(options.keys()) {
        // What follows finds the store with the table's own settings by its URL.
        for (location, text) in locations.iter_mut().zip(&mut command.locations) {
            let url = configure(stores, &id, location.get_url().clone(), &of_stores)?;
            if url != *location.get_url() {
                *text = url.to_string();
                *location = ListingTableUrl::parse(&text)?;
            }
        }
    }
    let archived = policy(&options, locations.iter().map(ListingTableUrl::get_url))?;
    let left_out = match archived {
        Some(Policy::Skip) => Unreadable::listed(stores, &locations).await?,
        _ => Unreadable::default(),
    };
    let state = &session_of_data(state, &locations, left_out)?;
    if command.schema.fields().is_empty() {
        require_files(state, &locations).await?;
    }
    command.options.retain(|key, _| is_of_format(key));
    if let Some(compression) = compression_of_files(state, &command).await {
        options.insert(COMPRESSION.to_string(), compression.to_string());
        command.options.insert(COMPRESSION.to_string(), compression.to_string());
    }

    if let Some(names) = header_names(state, &command).await? {
        options.insert(HEADER_NAMES.to_string(), names.clone());
        command.options.insert(HEADER_NAMES.to_string(), names);
    }
    let folders = take_folder_columns(state, &mut command).await?;
    // The folders are known already, so DataFusion need not infer them.
    let mut looked_at = state.clone();
    looked_at.config_mut().options_mut().execution.listing_table_factory_infer_partitions = false;
    let built = match ListingTableFactory::new().create(&looked_at, &command).await {
        Ok(built) => built,
        Err(error) => return Err(explain(&named_file(state, &command, &options, error).await, "")),
    };
    let Some(table) = built.downcast_ref::<ListingTable>() else {
        return Err(QueryError::Internal("a table of files is not a listing table".to_string()));
    };
    if let Some(lines) = Registry::of(state.config()).format(&command.file_type) {
        lines.check_read(&table.schema())?;
    }
    let (paths, listing) = (table.table_paths(), table.options());
    let twice = folders.names.iter().find(|name| table.schema().field_with_name(name).is_ok());
    if let Some(column) = twice.filter(|_| command.file_type.eq_ignore_ascii_case("CSV")) {
        return Err(QueryError::Invalid(format!(
            "both the files of '{}' and the names of their folders have the column '{column}', and columns of CSV files are told by their \
             place: rename it in the header of the files, or leave out PARTITIONED BY",
            command.name.table()
        )));
    }
    if table.schema().fields().is_empty() {
        return Err(QueryError::Invalid(format!(
            "the columns of '{}' cannot be told from its files, which are empty: name them, or fill the files first",
            command.name.table()
        )));
    }
    let sql = |expr: &Expr| expr_to_sql(expr).map(|sql| sql.to_string());
    let mut defaults = Vec::new();
    for (column, default) in &command.column_defaults {
        defaults.push((column.clone(), sql(default)?));
    }
    defaults.sort();
    let mut order = Vec::new();
    for keys in &listing.file_sort_order {
        let keys = keys
            .iter()
            .map(|key| Ok(SortKey { expression: sql(&key.expr)?, ascending: key.asc, nulls_first: key.nulls_first }));
        order.push(keys.collect::<Result<Vec<_>>>()?);
    }
    let locations = paths.iter().map(|path| Location {
        url: without_settings(path.as_str()),
        glob: path.get_glob().as_ref().map(|glob| glob.as_str().to_string()),
    });
    Ok(TableRecord {
        id,
        definition: command.definition.clone(),
        schema: StoredSchema(types::read(&partitions::with_folder_columns(
            &table.schema(),
            &folders.declared,
            &folders.names,
        ))),
        constraints: StoredConstraint::of(&command.constraints),
        defaults,
        lengths: Vec::new(),
        storage: Storage::External(External {
            locations: locations.collect(),
            format: command.file_type.to_uppercase(),
            options,
            sealed: None,
            extension: listing.file_extension.clone(),
            partitions: folders.names.len(),
            order,
        }),
    })
}

/// The columns whose values are in the names of a table's folders.
struct FolderColumns {
    names: Vec<String>,
    /// All columns that were declared.
    declared: SchemaRef,
}

/// Removes the folder columns from `command`, because the files do not have them.
async fn take_folder_columns(
    state: &SessionState,
    command: &mut CreateExternalTable,
) -> Result<FolderColumns, QueryError> {
    let declared = Arc::clone(command.schema.inner());
    let named = std::mem::take(&mut command.table_partition_cols);
    let infers = state.config_options().execution.listing_table_factory_infer_partitions;
    let names = match named.is_empty() && (!declared.fields().is_empty() || !infers) {
        true => named,
        false => {
            let urls = command.locations.iter().map(ListingTableUrl::parse).collect::<Result<Vec<_>>>()?;
            partitions::folder_columns(state, &urls, &named).await?
        }
    };
    if declared.fields().is_empty() {
        return Ok(FolderColumns { names, declared });
    }
    let of_files = |index: &usize| !names.contains(declared.field(*index).name());
    let of_files: Vec<usize> = (0..declared.fields().len()).filter(of_files).collect();
    if of_files.is_empty() {
        return Err(QueryError::Invalid(format!(
            "all columns of '{}' are those of its folders: name a column of its files too",
            command.name.table()
        )));
    }
    command.schema = Arc::new(DFSchema::try_from(declared.project(&of_files).map_err(DataFusionError::from)?)?);
    Ok(FolderColumns { names, declared })
}

/// Returns the file names that INSERT would add and the table would not read. The location may be a pattern that does not match them.
pub(crate) fn unread_additions(state: &SessionState, id: &str, external: &External) -> Result<Option<String>> {
    let format = file_format(state, &external.format, &external.options)?;
    let extension = match format.compression_type() {
        Some(compression) => format.get_ext_with_compression(&compression)?,
        None => format.get_ext(),
    };
    let Some(location) = external.locations.first() else { return Ok(None) };
    let url = location_url(id, external, location)?;
    let is_read = url.contains(&url.prefix().clone().join(format!("a.{extension}")), true)
        && format!(".{extension}").ends_with(&external.extension);
    Ok((!is_read).then(|| format!("*.{extension}")))
}

/// Returns the current files of a table as paths in its store. INSERT OVERWRITE replaces them.
pub(crate) async fn existing_files(
    state: &SessionState,
    table: &TableRecord,
    external: &External,
) -> Result<Vec<String>, QueryError> {
    let (_, partitions) = table.split_schema();
    let mut files = Vec::new();
    for location in &external.locations {
        let url = location_url(&table.id, external, location)?;
        let state = session_of_data(state, std::slice::from_ref(&url), Unreadable::default())?;
        let store = state.runtime_env().object_store(&url)?;
        let listed: Vec<_> =
            url.list_all_files(&state, store.as_ref(), &external.extension).await?.try_collect().await?;
        for file in &listed {
            let columns = partitions.iter().map(|field| field.name().as_str());
            let values = parse_partitions_for_path(&url, &file.location, columns);
            // Files outside the folders of the partitions do not belong to the table.
            if values.is_some_and(|values| values.len() == partitions.len()) {
                files.push(file.location.to_string());
            }
        }
    }
    Ok(files)
}

/// Returns the names that the header of CSV files has for columns that the statement names differently.
async fn header_names(state: &SessionState, command: &CreateExternalTable) -> Result<Option<String>, QueryError> {
    if !command.file_type.eq_ignore_ascii_case("CSV") || command.schema.fields().is_empty() {
        return Ok(None);
    }
    let locations: Vec<_> = command.locations.iter().map(ListingTableUrl::parse).collect::<Result<_>>()?;
    let in_files = |name: &&String| !command.table_partition_cols.contains(name);
    let columns: Vec<String> = command.schema.fields().iter().map(|f| f.name()).filter(in_files).cloned().collect();
    let names = renamed_columns(state, &locations, &command.options, &columns).await;
    names.map_err(|error| explain(&error, ""))
}

/// Returns the compression of a file whose name ends in `ending`, after a dot.
pub(crate) fn compression_named(ending: &str) -> Option<&'static str> {
    let named = |(end, _): &&(&str, &str)| ending.eq_ignore_ascii_case(end);
    COMPRESSED.iter().find(named).map(|(_, compression)| *compression)
}

/// Whether files of a format are compressed as a whole, with the compression in their names.
pub(crate) fn is_compressible(connectors: &Registry, format: &str) -> bool {
    ["CSV", "JSON"].iter().any(|text| format.eq_ignore_ascii_case(text)) || connectors.format(format).is_some()
}

/// Returns the compression of text files when the statement does not give one. File names tell it; in a folder, the first file's name
/// does.
async fn compression_of_files(state: &SessionState, command: &CreateExternalTable) -> Option<&'static str> {
    let is_told = command.options.keys().any(|key| key.eq_ignore_ascii_case(COMPRESSION));
    if !is_compressible(&Registry::of(state.config()), &command.file_type) || is_told {
        return None;
    }
    for location in &command.locations {
        // A location that cannot be listed is reported later in the statement.
        let url = ListingTableUrl::parse(location).ok()?;
        let store = state.runtime_env().object_store(&url).ok()?;
        let mut files = url.list_all_files(state, store.as_ref(), "").await.ok()?;
        while let Some(file) = files.try_next().await.ok()? {
            let name = file.location.filename().unwrap_or_default();
            if file.size > 0 {
                let extension = name.rsplit_once('.')?.1;
                return compression_named(extension);
            }
        }
    }
    None
}

/// Whether an option of a table of files holds a key, a secret or a token of an object store.
pub(crate) fn is_secret(option: &str) -> bool {
    let name = option.to_lowercase();
    name.starts_with(STORE_OPTIONS) && ["key", "secret", "token", "password"].iter().any(|word| name.contains(word))
}

/// Refuses a pattern that matches no file, because it may be meant as a name.
async fn require_files(state: &SessionState, locations: &[ListingTableUrl]) -> Result<(), QueryError> {
    for location in locations {
        let Some(pattern) = location.get_glob() else { continue };
        let store = state.runtime_env().object_store(location)?;
        if location.list_all_files(state, store.as_ref(), "").await?.try_next().await?.is_some() {
            continue;
        }
        let folder = Place::from_url(location.as_str())?;
        let deep = match pattern.as_str().contains('/') {
            true => {
                "; a pattern looks into folders after SET datafusion.execution.listing_table_ignore_subdirectory = false"
            }
            false => "",
        };
        return Err(QueryError::NotFound(format!(
            "no files match the pattern {pattern} in {folder}: *, ? and [ make a path without a scheme a pattern; a name that has them is \
             written {folder}{pattern}, or in a pattern as [*], [?] and [[]{deep}"
        )));
    }
    Ok(())
}

async fn named_file(
    state: &SessionState,
    command: &CreateExternalTable,
    options: &BTreeMap<String, String>,
    error: DataFusionError,
) -> DataFusionError {
    let paths: Result<Vec<_>> = command.locations.iter().map(ListingTableUrl::parse).collect();
    match (paths, file_format(state, &command.file_type, options)) {
        (Ok(paths), Ok(format)) => suspect::named(error, state, format.as_ref(), &paths, "").await,
        _ => error,
    }
}

/// Options that change no meaning of a text.
const NOT_OF_MEANING: [&str; 2] = ["datafusion.sql_parser.collect_spans", "datafusion.sql_parser.recursion_limit"];

/// Returns the options with which a session reads statements, where they are not the defaults.
fn reading(options: &ConfigOptions) -> BTreeMap<String, String> {
    let of_parser = |options: &ConfigOptions| {
        let entries = options.entries().into_iter().filter(|entry| entry.key.starts_with("datafusion.sql_parser."));
        entries.filter_map(|entry| Some((entry.key, entry.value?))).collect::<BTreeMap<_, _>>()
    };
    let defaults = of_parser(session_config().options());
    let differs =
        |(key, value): &(String, String)| defaults.get(key) != Some(value) && !NOT_OF_MEANING.contains(&key.as_str());
    of_parser(options).into_iter().filter(differs).collect()
}

/// Returns the record for CREATE VIEW. `statement` is the parsed form of `definition`.
pub fn parse_view(
    state: &SessionState,
    definition: &str,
    statement: &Statement,
    ids: &Ids,
) -> Result<ViewRecord, QueryError> {
    let names = &state.config_options().catalog;
    let references = state.resolve_table_references(statement)?;
    let references = references.into_iter().map(|r| r.resolve(&names.default_catalog, &names.default_schema).into());
    Ok(ViewRecord {
        id: ids.name(),
        definition: definition.to_string(),
        reading: reading(state.config_options()),
        default_catalog: names.default_catalog.clone(),
        default_schema: names.default_schema.clone(),
        references: references.collect::<Vec<TableName>>(),
    })
}

pub(crate) async fn view_provider(
    state: &SessionState,
    view: &ViewRecord,
    limits: &Limits,
) -> Result<Arc<dyn TableProvider>, QueryError> {
    let mut state = state.clone();
    let options = state.config_mut().options_mut();
    options.catalog.default_catalog = view.default_catalog.clone();
    options.catalog.default_schema = view.default_schema.clone();
    options.sql_parser = session_config().options().sql_parser.clone();
    for (option, value) in &view.reading {
        options.set(option, value).map_err(|error| explain(&error, &view.definition))?;
    }
    let mut parsed = parse::parse(&state, &view.definition, *limits)?;
    let zoned = crate::statements::instants::zoned(&state, &view.definition);
    let planned = async {
        let zoned = with_queries(&zoned, &parsed.statement).await?;
        plan_parsed(&zoned, &mut parsed).await
    };
    let plan = match planned.await {
        Ok(plan) => plan,
        Err(error) => {
            let references = view.references.iter().map(TableName::reference);
            return Err(explain_planning(&zoned, references, &error, &view.definition, &[]).await);
        }
    };
    let LogicalPlan::Ddl(DdlStatement::CreateView(command)) = plan else {
        return Err(QueryError::Internal(format!("not the definition of a view: {}", view.definition)));
    };
    // A subplan that nested views share is coerced in each place where it occurs.
    limits.check(&command.input)?;
    // Inlined plans are coerced with the statement around them, but the columns of the view must have their types before that. Rules
    // that run before these check, with the statement, whether its subqueries can be computed.
    let mut plan = Arc::unwrap_or_clone(command.input);
    for rule in coercion_rules() {
        plan = rule.analyze(plan, state.config_options())?;
    }
    Ok(Arc::new(ViewTable::new(plan, Some(view.definition.clone()))))
}

impl Record {
    /// Returns a managed table without rows.
    pub fn managed(
        warehouse: &Place,
        name: &TableName,
        schema: SchemaRef,
        constraints: &Constraints,
        defaults: &[(String, Expr)],
        definition: Option<String>,
        ids: &Ids,
    ) -> Result<TableRecord, QueryError> {
        let mut stored = Vec::new();
        for (column, default) in defaults {
            stored.push((column.clone(), expr_to_sql(default)?.to_string()));
        }
        let readable: String = name.table.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect();
        Ok(TableRecord {
            definition,
            schema: StoredSchema(schema),
            constraints: StoredConstraint::of(constraints),
            defaults: stored,
            lengths: Vec::new(),
            storage: Storage::Managed(Managed {
                root: OwnFolder::new_in(warehouse, &readable)?,
                format: "PARQUET".to_string(),
                folders: Vec::new(),
                rows: 0,
            }),
            id: ids.name(),
        })
    }
}

/// A table of files: files that Windlass does not own, or files that it wrote.
#[derive(Debug)]
pub struct FilesTable {
    id: String,
    schema: SchemaRef,
    constraints: Constraints,
    defaults: Erased<HashMap<String, Expr>>,
    definition: Option<String>,
    /// The files that statements read. `None` before the first write.
    files: Option<Erased<ListingTable>>,
    /// Where a writing statement puts its files. `None` in a table that is only read.
    target: Option<Erased<ListingTable>>,
    /// The folders that statements read, if Windlass owns the files.
    managed: Option<Vec<OwnFolder>>,
    /// What becomes of archived files. `None`: nobody looks whether there are some.
    archived: Option<Policy>,
}

impl FilesTable {
    fn new(state: &SessionState, record: &TableRecord) -> Result<Self> {
        let (files, target) = match &record.storage {
            Storage::External(external) => {
                let files = Erased::new(external_table(state, record, external)?);
                (Some(files.clone()), Some(files))
            }
            Storage::Connected(of) => return internal_err!("a table of {} is not made of files", of.connector),
            Storage::Managed(managed) if managed.folders.is_empty() => (None, None),
            Storage::Managed(managed) => {
                (Some(Erased::new(managed_files(state, record, managed, &managed.folders)?)), None)
            }
        };
        Ok(Self {
            id: record.id.clone(),
            schema: files
                .as_ref()
                .map_or_else(|| Arc::clone(&record.schema.0), |files| partitions::table_schema(files)),
            constraints: record.constraints(),
            defaults: Erased::new(defaults(state, record)?),
            definition: record.definition.clone(),
            files,
            target,
            managed: record.managed().map(|managed| managed.folders.clone()),
            archived: match &record.storage {
                Storage::External(external) => external.options.get(ARCHIVED).and_then(|text| Policy::parse(text)),
                _ => None,
            },
        })
    }

    /// Returns the folders of a managed table that a plan reads, at its leaves or in subqueries. `None`: it does not read the table with
    /// this id. The files of other tables have no folders.
    pub fn read_by(plan: &LogicalPlan, id: &str) -> Result<Option<Vec<OwnFolder>>> {
        let mut read = None;
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node
                && let Ok(provider) = source_as_provider(&scan.source)
            {
                read = match provider.downcast_ref::<Self>().filter(|table| table.id == id) {
                    Some(table) => Some(table.managed.clone().unwrap_or_default()),
                    None => provider.get_logical_plan().map_or(Ok(None), |view| Self::read_by(&view, id))?,
                };
            }
            Ok(if read.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        Ok(read)
    }

    /// Returns the locations whose folders every scan lists completely.
    pub(super) fn listed_at_once(&self) -> &[ListingTableUrl] {
        match &self.files {
            Some(files)
                if self.archived.is_none()
                    && !has_folders(files)
                    && !files.table_paths().iter().any(asks_for_hidden) =>
            {
                files.table_paths()
            }
            _ => &[],
        }
    }

    async fn scan_files(
        &self,
        files: &ListingTable,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = match has_folders(files) {
            true => partitions::scan(files, session, projection, filters, limit).await,
            false => files.scan(session, projection, filters, limit).await,
        };
        scan::with_orders_that_hold(plan?)
    }

    /// Returns a managed table for a statement that writes into `folder`. Nothing reads the folder before the commit.
    pub fn write(state: &SessionState, record: &TableRecord, folder: &OwnFolder) -> Result<Self, QueryError> {
        let Storage::Managed(managed) = &record.storage else {
            return Err(QueryError::Internal("not a managed table".to_string()));
        };
        let mut table = Self::new(state, record)?;
        table.target = Some(Erased::new(managed_files(state, record, managed, std::slice::from_ref(folder))?));
        Ok(table)
    }
}

/// Whether names of folders hold values of columns.
fn has_folders(files: &ListingTable) -> bool {
    !files.options().table_partition_cols.is_empty()
}

fn managed_files(
    state: &SessionState,
    record: &TableRecord,
    managed: &Managed,
    folders: &[OwnFolder],
) -> Result<ListingTable> {
    let options = ListingOptions::new(file_format(state, &managed.format, &BTreeMap::new())?)
        .with_file_extension(format!(".{}", managed.format.to_lowercase()));
    let paths = folders.iter().map(|folder| folder.place().listed()).collect::<Result<Vec<_>>>()?;
    listing_table(state, record, paths, options, Arc::clone(&record.schema.0))
}

#[async_trait]
impl TableProvider for FilesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.constraints)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_table_definition(&self) -> Option<&str> {
        self.definition.as_deref()
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.defaults.get(column)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(files) = &self.files else {
            return Ok(Arc::new(EmptyExec::new(project_schema(&self.schema, projection)?)));
        };
        let listed = match self.listed_at_once().is_empty() {
            true => None,
            false => Listings::of(state).await,
        };
        let mut unreadable = match self.archived {
            Some(_) => Unreadable::of(state, files.table_paths()).await?,
            None => Unreadable::default(),
        };
        let mut left_out = Unreadable::default();
        if self.archived == Some(Policy::Skip) && !unreadable.is_empty() {
            unreadable.note(state);
            left_out = std::mem::take(&mut unreadable);
        }
        let runtime = listed.as_ref().unwrap_or(state.runtime_env());
        let planning = Planning::of(state).with_runtime(only_data_but(runtime, files.table_paths(), left_out)?);
        match self.scan_files(files, &planning, projection, filters, limit).await {
            Ok(plan) => {
                if let Some(policy) = self.archived.filter(|_| !unreadable.is_empty()) {
                    unreadable.refuse(state, policy, Some(&present::folders_read(&plan)?)).await?;
                }
                present::require(&planning, files.table_paths(), &plan, self.managed.is_some() && limit.is_none())
                    .await?;
                Ok(plan)
            }
            Err(error) if Archived::is_cause(&error) => {
                if let Some(policy) = self.archived {
                    unreadable.refuse(state, policy, None).await?;
                }
                Err(error)
            }
            Err(error) if !FileError::is_due(&error) => Err(error),
            Err(error) => {
                let listing = files.options();
                let (format, extension) = (listing.format.as_ref(), &listing.file_extension);
                Err(suspect::named(error, &planning, format, files.table_paths(), extension).await)
            }
        }
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        match &self.files {
            Some(files) => files.supports_filters_pushdown(filters),
            None => Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()]),
        }
    }

    async fn insert_into(
        &self,
        state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        op: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match &self.target {
            Some(files) if has_folders(files) => partitions::insert(files, state, input, op).await,
            Some(files) => files.insert_into(state, input, op).await,
            None => plan_err!("this table is planned for reading only"),
        }
    }
}

/// Refuses types that Parquet lacks, before anything runs. Types with a time zone, intervals and so on are allowed.
pub(crate) fn check_storable(schema: &SchemaRef) -> Result<(), QueryError> {
    for field in schema.fields() {
        if !storable(field.data_type()) {
            return Err(QueryError::Unsupported(format!(
                "column '{}' is of type {}, which cannot be stored in a table; cast it",
                field.name(),
                field.data_type()
            )));
        }
    }
    Ok(())
}

fn storable(data_type: &DataType) -> bool {
    use datafusion::arrow::datatypes::IntervalUnit;
    match data_type {
        DataType::Interval(IntervalUnit::MonthDayNano) | DataType::Union(..) | DataType::RunEndEncoded(..) => false,
        DataType::ListView(_) | DataType::LargeListView(_) => false,
        DataType::List(inner) | DataType::LargeList(inner) | DataType::FixedSizeList(inner, _) => {
            storable(inner.data_type())
        }
        DataType::Map(inner, _) => storable(inner.data_type()),
        DataType::Struct(fields) => !fields.is_empty() && fields.iter().all(|field| storable(field.data_type())),
        DataType::Dictionary(_, value) => storable(value),
        _ => true,
    }
}

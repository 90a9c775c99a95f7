//! The file format of STORED AS CSV.

use super::header::{names, renamed};
use super::infer::{has_header, header_of, sampled, schema};
use super::scan::CsvScan;
use super::write::CsvFilesSink;
use crate::file_formats::planned_sink;
use crate::text_files::place::Place;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::config::CsvOptions;
use datafusion::common::{GetExt, Result, Statistics, config_datafusion_err, internal_err};
use datafusion::datasource::file_format::csv::{CsvFormat, CsvFormatFactory, CsvSink};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::{FileFormat, FileFormatFactory};
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder, FileSinkConfig, FileSource};
use datafusion::datasource::sink::DataSinkExec;
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::LexRequirement;
use datafusion::physical_plan::ExecutionPlan;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore};
use std::collections::HashMap;
use std::sync::Arc;

/// The table option that holds the files' names of the table's columns, as a JSON array. Only [`renamed_columns`] sets it.
pub const HEADER_NAMES: &str = "windlass.header_names";

#[derive(Debug, Default)]
pub(crate) struct CsvFilesFactory;

impl GetExt for CsvFilesFactory {
    fn get_ext(&self) -> String {
        CsvFormatFactory::new().get_ext()
    }
}

impl FileFormatFactory for CsvFilesFactory {
    fn create(&self, state: &dyn Session, options: &HashMap<String, String>) -> Result<Arc<dyn FileFormat>> {
        Ok(Arc::new(CsvFiles::new(state, options)?))
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        Arc::new(CsvFiles::default())
    }
}

/// Reads with [`CsvScan`]. Plans writes as DataFusion does; executors carry them out with a writer of our own.
#[derive(Debug, Default)]
struct CsvFiles {
    options: CsvOptions,
    header_names: Vec<String>,
}

impl CsvFiles {
    fn new(state: &dyn Session, options: &HashMap<String, String>) -> Result<Self> {
        let mut options = options.clone();
        let header_names = options.remove(HEADER_NAMES);
        let header_names = header_names.as_deref().map(serde_json::from_str).transpose();
        let header_names: Option<Vec<String>> =
            header_names.map_err(|error| config_datafusion_err!("{HEADER_NAMES}: {error}"))?;
        let format = CsvFormatFactory::new().create(state, &options)?;
        let Some(format) = format.downcast_ref::<CsvFormat>() else {
            return internal_err!("the format of CSV files is not DataFusion's");
        };
        let mut options = format.options().clone();
        let catalog = &state.config_options().catalog;
        options.has_header.get_or_insert(catalog.has_header);
        options.newlines_in_values.get_or_insert(catalog.newlines_in_values);
        Ok(Self { options, header_names: header_names.unwrap_or_default() })
    }

    fn datafusion(&self) -> CsvFormat {
        CsvFormat::default().with_options(self.options.clone())
    }
}

#[async_trait]
impl FileFormat for CsvFiles {
    fn get_ext(&self) -> String {
        self.datafusion().get_ext()
    }

    fn get_ext_with_compression(&self, compression: &FileCompressionType) -> Result<String> {
        self.datafusion().get_ext_with_compression(compression)
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        self.datafusion().compression_type()
    }

    async fn infer_schema(
        &self,
        _: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        objects: &[ObjectMeta],
    ) -> Result<SchemaRef> {
        schema(&self.options, store, "", objects).await
    }

    async fn infer_stats(
        &self,
        _: &dyn Session,
        _: &Arc<dyn ObjectStore>,
        table_schema: SchemaRef,
        _: &ObjectMeta,
    ) -> Result<Statistics> {
        Ok(Statistics::new_unknown(&table_schema))
    }

    async fn create_physical_plan(&self, _: &dyn Session, config: FileScanConfig) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(scan) = config.file_source.downcast_ref::<CsvScan>() else {
            return internal_err!("a scan of CSV files is not ours");
        };
        let source = Arc::new(scan.with_options(self.options.clone()));
        let config = FileScanConfigBuilder::from(config)
            .with_file_compression_type(self.options.compression.into())
            .with_source(source)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    async fn create_writer_physical_plan(
        &self,
        input: Arc<dyn ExecutionPlan>,
        state: &dyn Session,
        config: FileSinkConfig,
        order: Option<LexRequirement>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut format = self.datafusion();
        // The escape character must itself be escaped.
        if self.options.escape.is_some() && self.options.double_quote.is_none() {
            format = format.with_options(CsvOptions { double_quote: Some(false), ..self.options.clone() });
        }
        let plan = format.create_writer_physical_plan(Arc::clone(&input), state, config.clone(), order.clone()).await?;
        let Some(plain) = planned_sink(&plan)?.sink().downcast_ref::<CsvSink>() else {
            return internal_err!("the sink of CSV files is not DataFusion's");
        };
        let options = plain.writer_options().clone();
        let sink = CsvFilesSink { config, options, comment: self.options.comment };
        Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), order)))
    }

    fn file_source(&self, table_schema: TableSchema) -> Arc<dyn FileSource> {
        Arc::new(CsvScan::new(table_schema, self.options.clone(), self.header_names.clone()))
    }
}

/// Maximum headers read when a table is created, and at a time.
const HEADERS: usize = 100;
const HEADERS_AT_ONCE: usize = 16;

/// Files that hold rows; only some of them if there are many.
async fn places(state: &dyn Session, location: &ListingTableUrl) -> Result<Vec<Place>> {
    let store = state.runtime_env().object_store(location)?;
    let files: Vec<ObjectMeta> = location.list_all_files(state, store.as_ref(), "").await?.try_collect().await?;
    let is_mark = |file: &ObjectMeta| file.location.filename().is_none_or(|name| name.starts_with(['_', '.']));
    let files: Vec<ObjectMeta> = files.into_iter().filter(|file| !is_mark(file)).collect();
    let url = location.object_store();
    Ok(sampled(&files, HEADERS).into_iter().map(|file| Place::new(&store, url.as_str(), file)).collect())
}

/// For a table of CSV files whose columns are declared under other names than in its files: the names in the files, as the value of [`HEADER_NAMES`]. `None`
/// when columns are found by their own names, or there is no header yet.
///
/// # Errors
/// The headers do not determine which column is which.
pub async fn renamed_columns(
    state: &dyn Session,
    locations: &[ListingTableUrl],
    options: &HashMap<String, String>,
    columns: &[String],
) -> Result<Option<String>> {
    let options = CsvFiles::new(state, options)?.options;
    if !has_header(&options) {
        return Ok(None);
    }
    let mut agreed: Option<(Place, Vec<String>)> = None;
    for location in locations {
        let places = places(state, location).await.unwrap_or_default();
        let options = &options;
        let headers =
            futures::stream::iter(places).map(|place| async move { (header_of(options, &place).await, place) });
        let mut headers = headers.buffered(HEADERS_AT_ONCE);
        while let Some((header, place)) = headers.next().await {
            // A file that cannot be read is an error of its reader.
            let Some(header) = header.ok().filter(|header| !header.is_empty()) else { continue };
            let renamed = renamed(columns, &names(header)).map_err(|reason| place.wrong(&reason))?;
            match (&agreed, renamed) {
                (_, None) => {}
                (None, Some(names)) => agreed = Some((place, names)),
                (Some((_, other)), Some(names)) if *other == names => {}
                (Some((other, _)), Some(_)) => {
                    let reason = format!(
                        "its header has other names than that of {}, and neither has the names of the table's columns: name the columns \
                         as the files do",
                        other.name
                    );
                    return Err(place.wrong(&reason));
                }
            }
        }
    }
    let renamed = agreed.map(|(_, names)| serde_json::to_string(&names));
    renamed.transpose().map_err(|error| config_datafusion_err!("{HEADER_NAMES}: {error}"))
}

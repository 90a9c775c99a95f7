//! Files of DynamoDB JSON, as DynamoDB's export to S3 writes them: read as a table, and written as an export.
//!
//! ```sql
//! COPY orders TO 's3://lake/export/' STORED AS DYNAMODB_JSON
//! CREATE EXTERNAL TABLE exported STORED AS DYNAMODB_JSON LOCATION 's3://lake/export/'
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | `json` | items as text |
//! | `scan` | reading files, each by one task |
//! | `sink` | writing an export: data files and manifests |

mod json;
mod scan;
mod sink;

use super::decode::is_known;
use super::read_again;
use super::sample::Sample;
use crate::StoreRegistry;
use async_trait::async_trait;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result, plan_datafusion_err, plan_err};
use datafusion::execution::object_store::{ObjectStoreRegistry, ObjectStoreUrl};
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use scan::{File, JsonScan};
use sink::JsonSink;
use std::collections::BTreeMap;
use std::sync::Arc;
use url::Url;
use windlass_engine::Place;
use windlass_engine::connector::{
    Connector, ConnectorTable, Encoded, OptionKind, OptionSpec, Scan, ScanRequest, Sink, SinkRequest, TableRequest,
    TableSpec, Target,
};

/// Tables STORED AS DYNAMODB_JSON.
#[derive(Debug)]
pub struct DynamoDbJson {
    stores: Arc<StoreRegistry>,
}

impl Default for DynamoDbJson {
    fn default() -> Self {
        Self { stores: StoreRegistry::new() }
    }
}

const fn aws(name: &'static str) -> OptionSpec {
    OptionSpec::new(name, OptionKind::Text, "See the options of buckets of S3.")
}

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("sample_rows", OptionKind::Integer, "Items that columns are found by, where none are declared.")
        .or("1000"),
    OptionSpec::new(
        "mismatch",
        OptionKind::Choice(&["error", "null"]),
        "What an attribute is that does not fit its column: an error, or NULL.",
    )
    .or("error"),
    OptionSpec::new(
        "compression",
        OptionKind::Choice(&["gzip", "none"]),
        "Of files that are written; those that are read say it by their names.",
    )
    .or("gzip"),
    aws("aws.access_key_id").secret(),
    aws("aws.secret_access_key").secret(),
    aws("aws.session_token").secret(),
    aws("aws.region"),
    aws("aws.endpoint"),
    aws("aws.allow_http"),
    aws("aws.virtual_hosted_style_request"),
    aws("aws.skip_signature"),
    aws("aws.request_payer"),
    aws("aws.role_arn"),
    aws("aws.external_id"),
    aws("aws.role_session_name"),
    aws("aws.endpoint_url_sts"),
    aws("aws.sse"),
    aws("aws.sse_kms_key_id").secret(),
    aws("aws.sse_customer_key").secret(),
    aws("aws.storage_class"),
];

/// The files of a table, and how they are reached.
#[derive(Clone, Debug)]
struct Files {
    place: Place,
    stores: Arc<StoreRegistry>,
}

impl DynamoDbJson {
    /// Finds the place of a table. On every node.
    fn files(&self, spec: &TableSpec) -> Result<Files> {
        let place = Place::parse(&spec.location)?;
        if place.local_path().is_some() && !spec.location.starts_with('/') && !spec.location.starts_with("file:") {
            return plan_err!("{}: a table of files of this kind has an absolute path", spec.location);
        }
        let of_store = OPTIONS.iter().filter(|option| option.name.starts_with("aws."));
        let given = |option: &OptionSpec| Some((option.name.to_string(), spec.options.text(option.name)?.to_string()));
        let options: BTreeMap<String, String> = of_store.filter_map(given).collect();
        let place = match options.is_empty() {
            true => place,
            false => {
                let of_table = match place.store().as_str().starts_with("s3") {
                    true => place.with_settings(&spec.id)?,
                    false => place,
                };
                let url = Url::parse(&of_table.url()).map_err(|error| DataFusionError::External(Box::new(error)))?;
                self.stores.configure(&url, &options)?;
                of_table
            }
        };
        Ok(Files { place, stores: Arc::clone(&self.stores) })
    }
}

impl Files {
    /// Returns the store. Only a task and a statement that runs reach the cluster's own files.
    fn store(&self, runtime: Option<&RuntimeEnv>) -> Result<Arc<dyn ObjectStore>> {
        let store: &ObjectStoreUrl = self.place.store();
        match (store.as_str().starts_with("wfs:"), runtime) {
            (false, _) => self.stores.get_store(store.as_ref()),
            (true, Some(runtime)) => runtime.object_store(store),
            (true, None) => plan_err!("{}: name the columns of a table of files in wfs://", self.place),
        }
    }

    /// Lists the data files, in their order.
    async fn list(&self, store: &dyn ObjectStore) -> Result<Vec<ObjectMeta>> {
        let path = self.place.path();
        let mut found: Vec<ObjectMeta> = match self.place.is_folder() {
            true => store.list(Some(path)).try_collect().await?,
            false => match store.head(path).await {
                Ok(file) => return Ok(vec![file]),
                Err(object_store::Error::NotFound { .. }) => store.list(Some(path)).try_collect().await?,
                Err(error) => return Err(error.into()),
            },
        };
        found.retain(|file| file.size > 0 && self.place.relative(&file.location).is_some_and(is_data));
        found.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(found)
    }
}

/// Whether a file below the folder of a table has items, rather than says something about others.
fn is_data(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_hidden = path.split('/').any(|name| name.starts_with(['_', '.']));
    let is_manifest = name.starts_with("manifest-");
    !is_hidden && !is_manifest && [".json", ".gz", ".zst", ".jsonl"].iter().any(|ending| name.ends_with(ending))
}

#[async_trait]
impl Connector for DynamoDbJson {
    fn name(&self) -> &'static str {
        "DYNAMODB_JSON"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn creates(&self) -> bool {
        true
    }

    async fn table(&self, request: TableRequest) -> Result<Arc<dyn ConnectorTable>> {
        let files = self.files(&request.table)?;
        let schema = match request.columns {
            Some(columns) if request.target == Target::Present => columns,
            Some(columns) => {
                Arc::new(Schema::new(columns.fields().iter().map(|field| read_again(field)).collect::<Vec<_>>()))
            }
            None => sampled(&files, &request.table).await?,
        };
        if let Some(field) = schema.fields().iter().find(|field| !is_known(field.data_type())) {
            return plan_err!(
                "the column {} is {}, for which DynamoDB has no type: use VARCHAR, a number, BOOLEAN, BINARY, a date or a time, or \
                 structs and lists of these",
                field.name(),
                field.data_type()
            );
        }
        Ok(Arc::new(JsonTable { spec: request.table, files, schema, target: request.target }))
    }

    fn decode_scan(&self, encoded: Encoded<'_>) -> Result<Arc<dyn Scan>> {
        let files = self.files(encoded.table)?;
        Ok(Arc::new(JsonScan::of(encoded.table, files, Arc::clone(encoded.schema), Vec::new())))
    }

    fn decode_sink(&self, encoded: Encoded<'_>) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(JsonSink::decode(self.files(encoded.table)?, encoded)?))
    }
}

/// Finds the columns by the first items of the first files.
async fn sampled(files: &Files, spec: &TableSpec) -> Result<SchemaRef> {
    let wanted = spec.options.integer("sample_rows").and_then(|rows| usize::try_from(rows).ok()).unwrap_or(1000).max(1);
    let store = files.store(None)?;
    let (mut sample, mut seen) = (Sample::default(), 0);
    for file in files.list(store.as_ref()).await? {
        let mut items = scan::items(Arc::clone(&store), files.place.store().as_str().to_string(), File::of(&file));
        while let Some(some) = items.try_next().await? {
            some.iter().take(wanted - seen).for_each(|item| sample.take(item));
            seen += some.len().min(wanted - seen);
            if seen >= wanted {
                return Ok(sample.columns());
            }
        }
    }
    match seen {
        0 => {
            Err(plan_datafusion_err!("{} has no items by which columns could be found: name the columns", files.place))
        }
        _ => Ok(sample.columns()),
    }
}

#[derive(Debug)]
struct JsonTable {
    spec: Arc<TableSpec>,
    files: Files,
    schema: SchemaRef,
    target: Target,
}

#[async_trait]
impl ConnectorTable for JsonTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    async fn scan(&self, request: ScanRequest<'_>) -> Result<Arc<dyn Scan>> {
        let store = self.files.store(Some(request.session.runtime_env().as_ref()))?;
        let found = self.files.list(store.as_ref()).await?;
        let splits = scan::splits(&found, request.tasks);
        Ok(Arc::new(JsonScan::of(&self.spec, self.files.clone(), request.schema, splits)))
    }

    async fn sink(&self, request: SinkRequest) -> Result<Arc<dyn Sink>> {
        if request.overwrite {
            return plan_err!("an export is not replaced: write to another folder, or remove the old one first");
        }
        if self.target == Target::New && !self.files.list(self.files.store(None)?.as_ref()).await?.is_empty() {
            return plan_err!("{} has files: use another folder, or COPY, which adds an export", self.files.place);
        }
        Ok(Arc::new(JsonSink::new(self.files.clone(), &self.spec, request)?))
    }
}

#[cfg(test)]
mod tests {
    use super::is_data;

    #[test]
    fn manifests_are_no_data() {
        for (path, is) in [
            ("AWSDynamoDB/01/data/a.json.gz", true),
            ("x.json", true),
            ("a/x.json.zst", true),
            ("AWSDynamoDB/01/manifest-files.json", false),
            ("AWSDynamoDB/01/manifest-summary.md5", false),
            ("AWSDynamoDB/01/_started", false),
            (".x.windlass-1/a.json.gz", false),
            ("x.parquet", false),
        ] {
            assert_eq!(is_data(path), is, "{path}");
        }
    }
}

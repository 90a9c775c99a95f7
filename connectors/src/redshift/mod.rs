//! Tables of Amazon Redshift: written all or nothing, by Parquet files in S3 and COPY. `docs/connectors.md` says it to users.
//!
//! ```sql
//! COPY orders TO 'redshift://loader@host:5439/shop' STORED AS REDSHIFT
//! OPTIONS (table 'public.orders', staging 's3://bucket/staging/', iam_role 'arn:aws:iam::…:role/…', password '…')
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | `settings` | where the warehouse and the staging folder are, and as whom they are reached |
//! | `warehouse`, `api` | a session: over PostgreSQL's protocol, or over the Data API |
//! | `relation`, `kinds` | what the warehouse says of a table; types |
//! | `target` | the statements of a write |
//! | `fit`, `files`, `staging` | rows as the target takes them; their Parquet files; the folder of these in S3 |
//! | `sink`, `publications` | the life of a write, and its last step |

mod api;
mod files;
mod fit;
mod kinds;
mod publications;
mod relation;
mod settings;
mod sink;
mod staging;
mod target;
mod warehouse;

use crate::postgres::wire::Canceller;
use crate::{aws, load};
use async_trait::async_trait;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{Result, internal_err, not_impl_err, plan_datafusion_err, plan_err};
use kinds::{Kind, Lengths};
use publications::Publications;
use relation::Name;
use settings::Settings;
use sink::{RedshiftSink, Writes};
use staging::{STORE_OPTIONS, Stores};
use std::sync::Arc;
use target::server_names;
use warehouse::Warehouse;
use windlass_engine::connector::{
    Connector, ConnectorTable, Encoded, OptionKind, OptionSpec, Scan, ScanRequest, Sink, SinkRequest, TableRequest,
    TableSpec, Target,
};

/// Tables STORED AS REDSHIFT.
#[derive(Clone, Debug, Default)]
pub struct Redshift {
    canceller: Canceller,
    stores: Stores,
    publications: Publications,
}

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("table", OptionKind::Text, "The table, as SQL writes its name: schema.table.")
        .required()
        .names_table(),
    OptionSpec::new("staging", OptionKind::Text, "A folder of S3 in which files wait for COPY: s3://bucket/folder/.")
        .required(),
    OptionSpec::new(
        "iam_role",
        OptionKind::Text,
        "ARN of a role of the warehouse that may read that folder, or default; else COPY gets the keys of the bucket.",
    ),
    OptionSpec::new("password", OptionKind::Text, "Of the user; else that of the password file.").secret(),
    OptionSpec::new(
        "sslmode",
        OptionKind::Choice(&["disable", "prefer", "require", "verify-ca", "verify-full"]),
        "How the connection is protected, as in libpq; prefer where nothing says otherwise.",
    ),
    OptionSpec::new("sslrootcert", OptionKind::Text, "File of root certificates in PEM on every node, or system."),
    OptionSpec::new(
        "connect_timeout",
        OptionKind::Integer,
        "Seconds that the warehouse may take to let us in; 10 by default.",
    ),
    OptionSpec::new(
        "statement_timeout",
        OptionKind::Integer,
        "Milliseconds that a statement of the warehouse may take; 0: any.",
    )
    .or("0"),
    load::MODE,
    OptionSpec::new("key", OptionKind::Text, "Columns by which upsert and merge find rows, with commas.").names_table(),
    load::LOAD,
    OptionSpec::new("varchar_length", OptionKind::Integer, "Bytes of the VARCHAR columns of a table that is created.")
        .or("65535"),
    OptionSpec::new("varbyte_length", OptionKind::Integer, "Bytes of the VARBYTE columns of a table that is created.")
        .or("64000"),
    OptionSpec::new("file_bytes", OptionKind::Integer, "Bytes of a staged file, about.").or("33554432"),
    OptionSpec::new("compression", OptionKind::Choice(&["snappy", "zstd", "none"]), "Compression of staged files.")
        .or("snappy"),
    OptionSpec::new("analyze", OptionKind::Boolean, "Whether the warehouse counts the target anew after a load.")
        .or("true"),
    OptionSpec::new(
        "via",
        OptionKind::Choice(&["wire", "data-api"]),
        "Whether statements go over PostgreSQL's protocol or over the Redshift Data API.",
    )
    .or("wire"),
    OptionSpec::new("cluster_identifier", OptionKind::Text, "Name of a cluster, for the Data API."),
    OptionSpec::new(
        "workgroup_name",
        OptionKind::Text,
        "Name of a workgroup of Redshift Serverless, for the Data API.",
    ),
    OptionSpec::new("db_user", OptionKind::Text, "User of the database, for the Data API; else that in the location."),
    OptionSpec::new(
        "secret_arn",
        OptionKind::Text,
        "ARN of a secret of AWS's Secrets Manager with user and password, for the Data API.",
    ),
    OptionSpec::new(
        "region",
        OptionKind::Text,
        "AWS's region; else that in the host's name, or of AWS's configuration.",
    ),
    aws::ENDPOINT,
    aws::ACCESS_KEY_ID,
    aws::SECRET_ACCESS_KEY,
    aws::SESSION_TOKEN,
    aws::PROFILE,
    aws::ROLE_ARN,
    aws::EXTERNAL_ID,
    STORE_OPTIONS[0],
    STORE_OPTIONS[1],
    STORE_OPTIONS[2],
    STORE_OPTIONS[3],
    STORE_OPTIONS[4],
    STORE_OPTIONS[5],
    STORE_OPTIONS[6],
    STORE_OPTIONS[7],
    STORE_OPTIONS[8],
];

impl Redshift {
    async fn warehouse(&self, table: &TableSpec) -> Result<Warehouse> {
        Warehouse::open(Settings::of(table)?.via().await?, &self.canceller).await
    }
}

#[async_trait]
impl Connector for Redshift {
    fn name(&self) -> &'static str {
        "REDSHIFT"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    async fn table(&self, request: TableRequest) -> Result<Arc<dyn ConnectorTable>> {
        let spec = request.table;
        Settings::of(&spec)?;
        load::check_name(&spec.options, request.target)?;
        let (schema, writes) = match (request.target, request.columns) {
            (Target::Present, Some(columns)) => (columns, Writes::Into),
            (Target::Present, None) => (self.found(&spec).await?, Writes::Into),
            (Target::New, Some(columns)) => (created(&spec, columns)?, Writes::New),
            (Target::Any, Some(columns)) => {
                let mut warehouse = self.warehouse(&spec).await?;
                let name = Name::resolved(name(&spec), &mut warehouse).await?;
                match name.is_there(&mut warehouse).await? {
                    // The sink makes of the rows what the target takes, and says which it does not.
                    true => (columns, Writes::Into),
                    false => (created(&spec, columns)?, Writes::New),
                }
            }
            (Target::New | Target::Any, None) => return internal_err!("a table is to be created without columns"),
        };
        Ok(Arc::new(RedshiftTable { redshift: self.clone(), spec, schema, writes }))
    }

    fn creates(&self) -> bool {
        true
    }

    fn decode_scan(&self, _: Encoded<'_>) -> Result<Arc<dyn Scan>> {
        not_read()
    }

    fn decode_sink(&self, encoded: Encoded<'_>) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(RedshiftSink::decode(self.clone(), encoded)?))
    }

    async fn settle(&self) {
        self.canceller.settle().await;
    }
}

impl Redshift {
    /// The columns of a table that is there.
    async fn found(&self, spec: &TableSpec) -> Result<SchemaRef> {
        let mut warehouse = self.warehouse(spec).await?;
        let table = Name::resolved(name(spec), &mut warehouse).await?;
        let columns = table.columns(&mut warehouse).await?;
        if columns.is_empty() {
            return plan_err!("Redshift has no table {}, or does not show it to this user", table.quoted());
        }
        let field =
            |column: &relation::ServerColumn| Ok(Field::new(&column.name, column.kind()?.natural(), !column.not_null));
        Ok(Arc::new(Schema::new(columns.iter().map(field).collect::<Result<Vec<_>>>()?)))
    }
}

/// The columns of a table that is created for rows of the columns `given`: they stay what they are.
fn created(spec: &TableSpec, given: SchemaRef) -> Result<SchemaRef> {
    server_names(&given)?;
    for field in given.fields() {
        let kind = Kind::created(field.data_type(), lengths(spec));
        kind.map_err(|why| plan_datafusion_err!("the column {} {why}", field.name()))?;
    }
    Ok(given)
}

fn name(spec: &TableSpec) -> &str {
    spec.options.text("table").unwrap_or_default()
}

fn lengths(spec: &TableSpec) -> Lengths {
    let number = |option: &str| spec.options.integer(option).and_then(|number| u32::try_from(number).ok());
    Lengths { varchar: number("varchar_length").unwrap_or(65_535), varbyte: number("varbyte_length").unwrap_or(64_000) }
}

fn not_read<T>() -> Result<T> {
    not_impl_err!(
        "tables stored as REDSHIFT are only written: have Redshift write the rows to S3, UNLOAD ('SELECT …') TO 's3://…' FORMAT PARQUET, and \
         read them with CREATE EXTERNAL TABLE … STORED AS PARQUET LOCATION 's3://…'"
    )
}

#[derive(Debug)]
struct RedshiftTable {
    redshift: Redshift,
    spec: Arc<TableSpec>,
    schema: SchemaRef,
    writes: Writes,
}

#[async_trait]
impl ConnectorTable for RedshiftTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    async fn scan(&self, _: ScanRequest<'_>) -> Result<Arc<dyn Scan>> {
        not_read()
    }

    fn has_defaults(&self) -> bool {
        true
    }

    async fn sink(&self, request: SinkRequest) -> Result<Arc<dyn Sink>> {
        let kept = (self.writes, self.schema.as_ref());
        Ok(Arc::new(RedshiftSink::new(self.redshift.clone(), Arc::clone(&self.spec), request, kept).await?))
    }
}

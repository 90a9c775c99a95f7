//! The encoding of logical plans, from a client's DataFrame to the primary.
//!
//! A client builds its plan on [`ClusterTable`]s, which know only a table's name and columns. The primary replaces them by the tables of its catalog.
//! Everything else is DataFusion's own encoding.

mod folded;

use crate::arrow_files::ArrowFilesFactory;
use crate::extent::Limits;
use crate::parquet_files::ParquetFilesFactory;
use crate::room::with_room;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, TableReference, internal_err, not_impl_err, plan_datafusion_err, plan_err};
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::FileFormatFactory;
use datafusion::datasource::file_format::arrow::ArrowFormatFactory;
use datafusion::datasource::file_format::parquet::ParquetFormatFactory;
use datafusion::execution::TaskContext;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::bytes::{
    logical_plan_from_bytes_with_extension_codec, logical_plan_to_bytes_with_extension_codec,
};
use datafusion_proto::logical_plan::{DefaultLogicalExtensionCodec, LogicalExtensionCodec};
use datafusion_proto::protobuf::LogicalPlanNode;
use folded::Part;
use parking_lot::Mutex;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A table of a cluster's catalog, as a client sees it.
#[derive(Clone, Debug)]
pub struct ClusterTable {
    /// The name with catalog and schema.
    pub reference: TableReference,
    pub schema: SchemaRef,
}

#[async_trait]
impl TableProvider for ClusterTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan_err!(
            "table {} lies on the cluster and cannot be read here: run the plan on the cluster's session",
            self.reference
        )
    }
}

/// A client's message: each part may refer to earlier ones; the last one is the whole plan.
#[derive(Clone, PartialEq, prost::Message)]
struct Parts {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    parts: Vec<Bytes>,
}

/// Encodes a plan over [`ClusterTable`]s, files and literal rows.
pub fn encode(plan: &LogicalPlan) -> Result<Bytes> {
    with_room(|| {
        let encode = |part: &LogicalPlan| {
            let bytes = logical_plan_to_bytes_with_extension_codec(part, &Codec::default())?;
            match LogicalPlanNode::decode(bytes.as_ref()) {
                Ok(_) => Ok(bytes),
                // A decoder refuses a freshly encoded plan only for its depth.
                Err(_) => plan_err!(
                    "an expression of the plan is nested too deeply to be sent to a cluster: make columns of its parts first, or send it \
                     as SQL"
                ),
            }
        };
        let parts = folded::parts(plan)?.iter().map(encode).collect::<Result<_>>()?;
        Ok(Parts { parts }.encode_to_vec().into())
    })
}

/// Decodes a plan over the tables of `state`'s catalog.
///
/// # Errors
///
/// The columns of a table are no longer those that the client saw, so that the plan may mean something else. Or the plan exceeds `limits`, which a client
/// need not know.
pub async fn decode(bytes: &[u8], state: &SessionState, limits: &Limits) -> Result<LogicalPlan> {
    let garbled = |error: prost::DecodeError| plan_datafusion_err!("the plan cannot be decoded: {error}");
    let Parts { parts } = Parts::decode(bytes).map_err(garbled)?;
    parts.iter().try_for_each(|part| limits.check_encoded(part))?;
    let context = state.task_ctx();
    // Catalogs are asynchronous and codecs are not: the first pass finds the names of the tables, the second puts the tables in.
    let mut codec = Codec::default();
    let plan = codec.whole(&parts, &context, limits)?;
    let seen = codec.seen.into_inner();
    if seen.is_empty() {
        return Ok(plan);
    }
    let mut tables = BTreeMap::new();
    for (name, client_schema) in seen {
        let reference = TableReference::parse_str(&name);
        let provider = match state.schema_for_ref(reference.clone())?.table(reference.table()).await? {
            Some(provider) => provider,
            None => return plan_err!("there is no table {name}"),
        };
        let same = provider.schema().fields().len() == client_schema.fields().len()
            && provider
                .schema()
                .fields()
                .iter()
                .zip(client_schema.fields())
                .all(|(here, there)| here.name() == there.name() && here.data_type() == there.data_type());
        if !same {
            return plan_err!("table {name} was changed after the plan was built on it: look the table up again");
        }
        tables.insert(name, provider);
    }
    // Views are plans too.
    Codec { tables, ..Codec::default() }.whole(&parts, &context, limits)
}

/// DataFusion's codec, extended by cluster tables, which are encoded by name.
#[derive(Debug, Default)]
struct Codec {
    /// The tables that a decoded plan reads, with the columns that the client saw.
    seen: Mutex<BTreeMap<String, SchemaRef>>,
    tables: BTreeMap<String, Arc<dyn TableProvider>>,
    /// Parts already decoded.
    parts: Vec<Arc<LogicalPlan>>,
}

impl Codec {
    fn whole(&mut self, parts: &[Bytes], context: &TaskContext, limits: &Limits) -> Result<LogicalPlan> {
        for part in parts {
            let part = logical_plan_from_bytes_with_extension_codec(part, context, self)?;
            let part = folded::whole(part)?;
            limits.check(&part)?;
            self.parts.push(Arc::new(part));
        }
        match self.parts.pop() {
            Some(whole) => Ok(Arc::unwrap_or_clone(whole)),
            None => plan_err!("the plan is empty"),
        }
    }
}

impl LogicalExtensionCodec for Codec {
    fn try_decode(&self, bytes: &[u8], _: &[LogicalPlan], _: &TaskContext) -> Result<Extension> {
        let number = <[u8; 8]>::try_from(bytes).map(|bytes| u64::from_le_bytes(bytes) as usize);
        match number.ok().and_then(|number| Some((number, self.parts.get(number)?))) {
            Some((number, part)) => Ok(Part::of(number, Arc::clone(part)).extension()),
            None => not_impl_err!("plans with operators of a client's own"),
        }
    }

    fn try_encode(&self, node: &Extension, bytes: &mut Vec<u8>) -> Result<()> {
        match node.node.as_any().downcast_ref::<Part>() {
            Some(part) => bytes.extend((part.number as u64).to_le_bytes()),
            None => {
                return not_impl_err!(
                    "operator {} is a client's own and cannot be sent to a cluster",
                    node.node.name()
                );
            }
        }
        Ok(())
    }

    fn try_decode_table_provider(
        &self,
        bytes: &[u8],
        _: &TableReference,
        schema: SchemaRef,
        _: &TaskContext,
    ) -> Result<Arc<dyn TableProvider>> {
        let Ok(name) = std::str::from_utf8(bytes) else {
            return internal_err!("the name of a table in a plan is not text");
        };
        if let Some(table) = self.tables.get(name) {
            return Ok(Arc::clone(table));
        }
        self.seen.lock().insert(name.to_owned(), Arc::clone(&schema));
        Ok(Arc::new(ClusterTable { reference: TableReference::parse_str(name), schema }))
    }

    fn try_encode_table_provider(
        &self,
        reference: &TableReference,
        provider: Arc<dyn TableProvider>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let Some(table) = provider.downcast_ref::<ClusterTable>() else {
            return not_impl_err!(
                "table {reference} lives in this process and cannot be sent to a cluster: write it to files that the cluster can read, \
                 or create it there with SQL"
            );
        };
        out.extend_from_slice(table.reference.to_quoted_string().as_bytes());
        Ok(())
    }

    fn try_decode_file_format(&self, bytes: &[u8], context: &TaskContext) -> Result<Arc<dyn FileFormatFactory>> {
        let format = DefaultLogicalExtensionCodec {}.try_decode_file_format(bytes, context)?;
        Ok(if format.is::<ArrowFormatFactory>() { Arc::new(ArrowFilesFactory) } else { format })
    }

    fn try_encode_file_format(&self, out: &mut Vec<u8>, format: Arc<dyn FileFormatFactory>) -> Result<()> {
        let format: Arc<dyn FileFormatFactory> = match &format {
            ours if ours.is::<ArrowFilesFactory>() => Arc::new(ArrowFormatFactory::new()),
            ours if ours.is::<ParquetFilesFactory>() => Arc::new(ParquetFormatFactory::new()),
            _ => format,
        };
        DefaultLogicalExtensionCodec {}.try_encode_file_format(out, format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::datasource::empty::EmptyTable;
    use datafusion::datasource::provider_as_source;
    use datafusion::logical_expr::{LogicalPlanBuilder, col, lit};
    use datafusion::prelude::SessionContext;

    fn columns(types: &[DataType]) -> SchemaRef {
        Arc::new(Schema::new(
            types.iter().enumerate().map(|(i, t)| Field::new(format!("c{i}"), t.clone(), true)).collect::<Vec<_>>(),
        ))
    }

    fn plan_of(schema: &SchemaRef) -> LogicalPlan {
        let reference = TableReference::full("datafusion", "public", "Flights 2013");
        let table = Arc::new(ClusterTable { reference, schema: Arc::clone(schema) });
        LogicalPlanBuilder::scan("f", provider_as_source(table), None)
            .and_then(|plan| plan.filter(col("f.c0").gt(lit(3_i64))))
            .and_then(|plan| plan.project([col("f.c1")]))
            .and_then(|plan| plan.build())
            .unwrap()
    }

    #[tokio::test]
    async fn a_plan_arrives_over_the_tables_of_the_catalog() {
        let schema = columns(&[DataType::Int64, DataType::Utf8]);
        let bytes = encode(&plan_of(&schema)).unwrap();
        let context = SessionContext::new();
        let name = TableReference::full("datafusion", "public", "Flights 2013");
        context.register_table(name, Arc::new(EmptyTable::new(schema))).unwrap();
        let plan = decode(&bytes, &context.state(), &Limits::default()).await.unwrap();
        assert_eq!(plan.display_indent().to_string(), "Projection: f.c1\n  Filter: f.c0 > Int64(3)\n    TableScan: f");
        let rows = context.execute_logical_plan(plan).await.unwrap().collect().await.unwrap();
        assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 0);
    }

    /// Whether a decoder with the usual limit accepts the bytes.
    fn is_shallow(bytes: &[u8]) -> bool {
        let parts = Parts::decode(bytes).unwrap().parts;
        parts.iter().all(|part| Limits { depth: 33, size: 0 }.check_encoded(part).is_ok())
    }

    #[tokio::test]
    async fn a_deep_plan_arrives_in_parts() {
        let schema = columns(&[DataType::Int64, DataType::Utf8]);
        let context = SessionContext::new();
        let name = TableReference::full("datafusion", "public", "Flights 2013");
        context.register_table(name, Arc::new(EmptyTable::new(Arc::clone(&schema)))).unwrap();
        for layers in [1, 5, 6, 7, 12, 500] {
            let layer = |plan: LogicalPlan, n: i64| {
                let plan = LogicalPlanBuilder::new(plan).filter(col("c1").not_eq(lit(n.to_string()))).unwrap();
                plan.alias(format!("t{n}")).unwrap().build().unwrap()
            };
            let plan = (0..layers).fold(plan_of(&schema), layer);
            let bytes = encode(&plan).unwrap();
            assert!(is_shallow(&bytes), "{layers} layers");
            let decoded = decode(&bytes, &context.state(), &Limits::default()).await.unwrap();
            assert_eq!(decoded.display_indent().to_string(), plan.display_indent().to_string());
            assert_eq!(decoded.schema(), plan.schema());
        }
    }

    #[tokio::test]
    async fn what_a_client_makes_up_is_refused() {
        let context = SessionContext::new();
        let refused = async |bytes: &[u8]| {
            let decoded = decode(bytes, &context.state(), &Limits::default()).await;
            decoded.expect_err("it is no plan").strip_backtrace()
        };
        assert!(refused(b"").await.contains("empty"));
        let nested = Parts { parts: vec![Bytes::from(vec![0x0b; 1_000_000])] }.encode_to_vec();
        let error = refused(&nested).await;
        assert!(error.contains("primary.depth_limit"), "{error}");
    }

    #[tokio::test]
    async fn a_table_that_changed_or_is_gone_is_an_error() {
        let bytes = encode(&plan_of(&columns(&[DataType::Int64, DataType::Utf8]))).unwrap();
        let context = SessionContext::new();
        let gone = decode(&bytes, &context.state(), &Limits::default()).await.unwrap_err().strip_backtrace();
        assert!(gone.contains("there is no table") && gone.contains("Flights 2013"), "{gone}");
        let name = TableReference::full("datafusion", "public", "Flights 2013");
        let other = columns(&[DataType::Int64, DataType::Int64]);
        context.register_table(name, Arc::new(EmptyTable::new(other))).unwrap();
        let changed = decode(&bytes, &context.state(), &Limits::default()).await.unwrap_err().strip_backtrace();
        assert!(changed.contains("was changed"), "{changed}");
    }
}

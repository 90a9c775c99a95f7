//! Encoding of scans and sinks in a stage's plan. Secrets travel beside it.

use super::{Encoded, PlannedSink, Registry, Scan, ScanExec, ScanGuard, SinkExec, Split, TableSpec};
use crate::schema::{decode_schema, encode_schema};
use bytes::Bytes;
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use prost::Message;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

#[derive(Clone, PartialEq, Message)]
struct TableNode {
    #[prost(string, tag = "1")]
    connector: String,
    #[prost(string, tag = "2")]
    id: String,
    #[prost(string, tag = "3")]
    location: String,
    /// Options that may be shown.
    #[prost(btree_map = "string, string", tag = "4")]
    options: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ScanNode {
    #[prost(message, required, tag = "1")]
    table: TableNode,
    #[prost(bytes = "vec", tag = "2")]
    schema: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    scan: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    partitions: Vec<PartitionNode>,
}

#[derive(Clone, PartialEq, Message)]
struct PartitionNode {
    #[prost(message, repeated, tag = "1")]
    splits: Vec<SplitNode>,
}

#[derive(Clone, PartialEq, Message)]
struct SplitNode {
    #[prost(uint64, optional, tag = "1")]
    bytes: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    rows: Option<u64>,
    #[prost(string, repeated, tag = "3")]
    hosts: Vec<String>,
    #[prost(uint64, tag = "4")]
    affinity: u64,
    #[prost(bytes = "bytes", tag = "5")]
    payload: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SinkNode {
    #[prost(message, required, tag = "1")]
    table: TableNode,
    #[prost(bytes = "vec", tag = "2")]
    schema: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    sink: Vec<u8>,
    #[prost(string, tag = "4")]
    write: String,
}

/// The secrets of one table. Its debug form has none of them.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(crate) struct TableSecrets {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(btree_map = "string, string", tag = "2")]
    values: BTreeMap<String, String>,
}

impl fmt::Debug for TableSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.values.keys().collect();
        f.debug_struct("TableSecrets").field("table", &self.id).field("options", &names).finish()
    }
}

/// Must be an extension of the task configuration with which plans are decoded.
#[derive(Debug)]
pub(crate) struct Secrets(pub Vec<TableSecrets>);

/// The secrets of the tables that `plan` reads and writes, sorted so that equal plans have equal bytes.
pub(crate) fn secrets_of(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<TableSecrets>> {
    let mut found = BTreeMap::new();
    plan.apply(|node| {
        let scanned = node.downcast_ref::<ScanExec>().map(ScanExec::table);
        let table = scanned.or_else(|| node.downcast_ref::<SinkExec>().map(|sink| &sink.write().table));
        if let Some(table) = table {
            let values = table.options.secrets();
            if !values.is_empty() {
                found.insert(table.id.clone(), values);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found.into_iter().map(|(id, values)| TableSecrets { id, values }).collect())
}

/// The guards that must live while `plan` runs.
pub(crate) fn guards_of(plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<ScanGuard>> {
    let mut found = Vec::new();
    plan.apply(|node| {
        found.extend(node.downcast_ref::<ScanExec>().and_then(|scan| scan.scan().guard()));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

impl TableSecrets {
    /// `config` for decoding plans that came with `secrets`.
    pub(crate) fn within(secrets: &[Self], config: SessionConfig) -> SessionConfig {
        config.with_extension(Arc::new(Secrets(secrets.to_vec())))
    }
}

impl TableNode {
    fn of(table: &TableSpec) -> Self {
        Self {
            connector: table.connector.clone(),
            id: table.id.clone(),
            location: table.location.clone(),
            options: table.options.shown(),
        }
    }

    fn table(self, registry: &Registry, secrets: BTreeMap<String, String>) -> Result<Arc<TableSpec>> {
        let Self { connector, id, location, options } = self;
        Ok(Arc::new(registry.spec(&connector, id, location, options, secrets)?))
    }

    /// The table's secrets, from those that came with the plan.
    fn secrets(&self, config: &SessionConfig) -> BTreeMap<String, String> {
        let Some(secrets) = config.get_extension::<Secrets>() else { return BTreeMap::new() };
        let of_table = secrets.0.iter().find(|secrets| secrets.id == self.id);
        of_table.map(|secrets| secrets.values.clone()).unwrap_or_default()
    }
}

impl ScanNode {
    pub(super) fn of(table: &TableSpec, scan: &dyn Scan, partitions: &[Vec<Split>]) -> Result<Self> {
        let node = |split: &Split| SplitNode {
            bytes: split.bytes,
            rows: split.rows,
            hosts: split.hosts.clone(),
            affinity: split.affinity,
            payload: split.payload.clone(),
        };
        let partition = |splits: &Vec<Split>| PartitionNode { splits: splits.iter().map(node).collect() };
        Ok(Self {
            table: TableNode::of(table),
            schema: encode_schema(&scan.schema())?,
            scan: scan.encode()?,
            partitions: partitions.iter().map(partition).collect(),
        })
    }

    pub(crate) fn decoded(self, config: &SessionConfig) -> Result<ScanExec> {
        let registry = Registry::of(config);
        let secrets = self.table.secrets(config);
        let (table, schema) = (self.table.table(&registry, secrets)?, decode_schema(&self.schema)?);
        let connector = registry.decoder(&table.connector)?;
        let scan = connector.decode_scan(Encoded { table: &table, schema: &schema, bytes: &self.scan })?;
        let split = |node: SplitNode| Split {
            bytes: node.bytes,
            rows: node.rows,
            hosts: node.hosts,
            affinity: node.affinity,
            payload: node.payload,
        };
        let partitions = self.partitions.into_iter().map(|node| node.splits.into_iter().map(split).collect());
        Ok(ScanExec::of(table, scan, partitions.collect()))
    }
}

impl SinkNode {
    pub(super) fn of(write: &PlannedSink) -> Result<Self> {
        Ok(Self {
            table: TableNode::of(&write.table),
            schema: encode_schema(&write.schema)?,
            sink: write.sink.encode()?,
            write: write.write.clone(),
        })
    }

    pub(crate) fn decoded(self, config: &SessionConfig) -> Result<PlannedSink> {
        let secrets = self.table.secrets(config);
        self.planned(&Registry::of(config), secrets)
    }

    pub(super) fn planned(self, registry: &Registry, secrets: BTreeMap<String, String>) -> Result<PlannedSink> {
        let (table, schema) = (self.table.table(registry, secrets)?, decode_schema(&self.schema)?);
        let connector = registry.decoder(&table.connector)?;
        let sink = connector.decode_sink(Encoded { table: &table, schema: &schema, bytes: &self.sink })?;
        Ok(PlannedSink { table, sink, schema, write: self.write })
    }
}

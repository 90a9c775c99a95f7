//! The contents of a stage's bytes: the plan, the partitioning of its output and the session's options.

use crate::codec::{Encoder, WindlassCodec};
use crate::connector::{SinkExec, TableSecrets, leaf, secrets_of};
use crate::folded::{Folder, Folds, Unfolder};
use crate::lost;
use crate::stores::{StoreConfig, Stores};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::PhysicalProtoConverterExtension;
use datafusion_proto::protobuf::{PhysicalExprNode, PhysicalPlanNode};
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;
use windlass_core::ids::PlanHash;

/// The form of a stage's output.
#[derive(Clone, Debug)]
pub(crate) enum OutputSpec {
    /// One bucket.
    Single,
    /// Buckets by the hash of these expressions.
    Hash(Vec<Arc<dyn PhysicalExpr>>, u32),
    /// One sorted run of sorted input, readable from any position: see [`crate::ops::range`].
    SortedRun,
    /// Batches in turn, only to balance load.
    RoundRobin(u32),
    /// One bucket; a small result travels with the report.
    Result { inline_bytes: u64 },
}

impl OutputSpec {
    pub(crate) fn buckets(&self) -> u32 {
        match self {
            OutputSpec::Single | OutputSpec::SortedRun | OutputSpec::Result { .. } => 1,
            OutputSpec::Hash(_, buckets) | OutputSpec::RoundRobin(buckets) => *buckets,
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Envelope {
    #[prost(message, required, tag = "1")]
    pub plan: PhysicalPlanNode,
    #[prost(message, repeated, tag = "2")]
    pub hash: Vec<PhysicalExprNode>,
    #[prost(uint32, tag = "3")]
    pub buckets: u32,
    /// Maximum bytes of a result that travels with the report. Present on the result stage only.
    #[prost(uint64, optional, tag = "4")]
    pub inline_bytes: Option<u64>,
    /// Session options that differ from the defaults, sorted by key so that equal stages have equal bytes.
    #[prost(btree_map = "string, string", tag = "5")]
    pub options: BTreeMap<String, String>,
    #[prost(bool, tag = "6")]
    pub sorted_run: bool,
    #[prost(message, repeated, tag = "7")]
    pub stores: Vec<StoreConfig>,
    /// See [`Folds`].
    #[prost(message, repeated, tag = "8")]
    pub folded_plans: Vec<PhysicalPlanNode>,
    #[prost(message, repeated, tag = "9")]
    pub folded_exprs: Vec<PhysicalExprNode>,
    /// Secrets of tables of connectors, whose scans and sinks in the plan hold none.
    #[prost(message, repeated, tag = "10")]
    pub secrets: Vec<TableSecrets>,
}

impl Envelope {
    pub(crate) fn new(
        plan: &Arc<dyn ExecutionPlan>,
        output: &OutputSpec,
        options: &BTreeMap<String, String>,
        stores: Option<&Stores>,
    ) -> Result<Self> {
        Self::folding(plan, output, options, stores, Folder::default())
    }

    /// Like [`Envelope::new`], with a chosen folding.
    pub(crate) fn folding(
        plan: &Arc<dyn ExecutionPlan>,
        output: &OutputSpec,
        options: &BTreeMap<String, String>,
        stores: Option<&Stores>,
        converter: Folder,
    ) -> Result<Self> {
        let encoder = Encoder { codec: &WindlassCodec, converter: &converter };
        let node = converter.execution_plan_to_proto(&lost::wrap(plan)?, &WindlassCodec)?;
        let hash = match output {
            OutputSpec::Hash(exprs, _) => exprs.iter().map(|expr| encoder.expr(expr)).collect::<Result<_>>()?,
            _ => vec![],
        };
        let inline_bytes = match output {
            OutputSpec::Result { inline_bytes } => Some(*inline_bytes),
            _ => None,
        };
        let Folds { plans: folded_plans, exprs: folded_exprs } = converter.into_folds();
        Ok(Self {
            plan: node,
            hash,
            buckets: output.buckets(),
            inline_bytes,
            options: options.clone(),
            sorted_run: matches!(output, OutputSpec::SortedRun),
            stores: stores_of(plan, stores)?,
            folded_plans,
            folded_exprs,
            secrets: secrets_of(plan)?,
        })
    }

    /// Returns a decoder for the plan and the expressions.
    pub(crate) fn unfolder(&self) -> Unfolder<'_> {
        Unfolder::new(&self.folded_plans, &self.folded_exprs)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        Message::decode(bytes).map_err(|e| internal_datafusion_err!("a stage cannot be decoded: {e}"))
    }
}

/// The stores with options that `plan` reads or writes, sorted so that equal plans have equal bytes.
fn stores_of(plan: &Arc<dyn ExecutionPlan>, known: Option<&Stores>) -> Result<Vec<StoreConfig>> {
    let Some(Stores(known)) = known else { return Ok(Vec::new()) };
    let mut found = BTreeMap::new();
    let mut add = |url: String| {
        if let Some(options) = known.options(&url) {
            found.insert(url, options);
        }
    };
    plan.apply(|node| {
        if let Some(sink) = node.downcast_ref::<SinkExec>() {
            sink.write().sink.stores().into_iter().for_each(&mut add);
        }
        leaf(node).map(|leaf| leaf.stores()).into_iter().flatten().for_each(&mut add);
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found.into_iter().map(|(url, options)| StoreConfig { url, options }).collect())
}

/// A 128-bit BLAKE3 hash of the bytes.
pub(crate) fn content_hash(bytes: &[u8]) -> PlanHash {
    let mut name = [0; 16];
    name.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    PlanHash(u128::from_le_bytes(name))
}

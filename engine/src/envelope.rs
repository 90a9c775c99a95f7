//! What a stage's bytes hold: the plan, how to partition its output, and the session's options.

use crate::codec::{Encoder, WindlassCodec};
use crate::lost;
use crate::stores::{StoreConfig, Stores, stores_of};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::{Result, internal_datafusion_err, internal_err};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Literal};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::to_proto::serialize_physical_expr_with_converter;
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalPlanNodeExt, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::{PhysicalExprNode, PhysicalPlanNode};
use prost::Message;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use windlass_core::ids::PlanHash;

/// How a stage leaves its output.
#[derive(Clone, Debug)]
pub(crate) enum OutputSpec {
    /// One bucket.
    Single,
    /// By the hash of these expressions.
    Hash(Vec<Arc<dyn PhysicalExpr>>, u32),
    /// Rows arrive sorted, and leave as one run that can be read from any place on: see [`crate::ops::range`].
    SortedRun,
    /// Batches in turn, for load only.
    RoundRobin(u32),
    /// One bucket, and small ones travel with the report.
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
    /// Present on the result stage.
    #[prost(uint64, optional, tag = "4")]
    pub inline_bytes: Option<u64>,
    /// Session options that differ from the defaults, sorted by key so that equal stages have equal bytes.
    #[prost(btree_map = "string, string", tag = "5")]
    pub options: BTreeMap<String, String>,
    #[prost(bool, tag = "6")]
    pub sorted_run: bool,
    #[prost(message, repeated, tag = "7")]
    pub stores: Vec<StoreConfig>,
}

impl Envelope {
    pub(crate) fn new(
        plan: &Arc<dyn ExecutionPlan>,
        output: &OutputSpec,
        options: &BTreeMap<String, String>,
        stores: Option<&Stores>,
    ) -> Result<Self> {
        let converter = Numbered::default();
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
        Ok(Self {
            plan: node,
            hash,
            buckets: output.buckets(),
            inline_bytes,
            options: options.clone(),
            sorted_run: matches!(output, OutputSpec::SortedRun),
            stores: stores_of(plan, stores)?,
        })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        Message::decode(bytes).map_err(|e| internal_datafusion_err!("a stage cannot be decoded: {e}"))
    }
}

/// Numbers expressions that are known by an identity, which are shared among operators, in the order of their appearance. DataFusion's
/// own numbers come from a counter of the process, and equal stages are to have equal bytes.
#[derive(Default)]
struct Numbered {
    numbers: RefCell<BTreeMap<u64, u64>>,
}

/// Far from what the counter of an executor's process hands out.
const FIRST_NUMBER: u64 = 1 << 63;

impl PhysicalProtoConverterExtension for Numbered {
    fn proto_to_execution_plan(
        &self,
        _: &PhysicalPlanNode,
        _: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        internal_err!("plans are not decoded with what numbers their expressions")
    }

    fn execution_plan_to_proto(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        codec: &dyn PhysicalExtensionCodec,
    ) -> Result<PhysicalPlanNode> {
        PhysicalPlanNode::try_from_physical_plan_with_converter(Arc::clone(plan), codec, self)
    }

    fn proto_to_physical_expr(
        &self,
        _: &PhysicalExprNode,
        _: &Schema,
        _: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        internal_err!("expressions are not decoded with what numbers them")
    }

    fn physical_expr_to_proto(
        &self,
        expr: &Arc<dyn PhysicalExpr>,
        codec: &dyn PhysicalExtensionCodec,
    ) -> Result<PhysicalExprNode> {
        let exact = half_as_cast(expr)?;
        let mut node = serialize_physical_expr_with_converter(exact.as_ref().unwrap_or(expr), codec, self)?;
        if let Some(identity) = &mut node.expr_id {
            let mut numbers = self.numbers.borrow_mut();
            let next = FIRST_NUMBER + numbers.len() as u64;
            *identity = *numbers.entry(*identity).or_insert(next);
        }
        Ok(node)
    }
}

/// DataFusion writes a literal of 16 bits as one of 32, which stays one. A cast back gives the same number.
fn half_as_cast(expr: &Arc<dyn PhysicalExpr>) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let Some(literal) = expr.downcast_ref::<Literal>().filter(|of| of.value().data_type() == DataType::Float16) else {
        return Ok(None);
    };
    let single = Arc::new(Literal::new(literal.value().cast_to(&DataType::Float32)?));
    Ok(Some(Arc::new(CastExpr::new(single, DataType::Float16, None))))
}

/// The name of these bytes: 128 bits of their BLAKE3 hash.
pub(crate) fn content_hash(bytes: &[u8]) -> PlanHash {
    let mut name = [0; 16];
    name.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    PlanHash(u128::from_le_bytes(name))
}

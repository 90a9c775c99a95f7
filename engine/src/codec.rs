//! Encoding of stage plans: DataFusion's protobuf encoding, extended by the operators that it lacks.

use crate::connector::{LostOfLeaf, ScanExec, ScanNode, SinkExec, SinkNode};
use crate::lost::{Lost, LostExec};
use crate::ops::{ExchangeReadExec, ForgetExec, ReadMode, RepeatExec};
use crate::schema::{decode_schema, encode_schema};
use crate::window::WindowFlags;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{
    Constraint, Constraints, Result, ScalarValue, internal_datafusion_err, internal_err, not_impl_err,
};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::equivalence::AcrossPartitions;
use datafusion::physical_expr::scalar_subquery::ScalarSubqueryExpr;
use datafusion::physical_expr::{ConstExpr, EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::sorts::partial_sort::PartialSortExec;
use datafusion::physical_plan::sorts::partitioned_topk::{PartitionedTopKExec, WindowFnKind};
use datafusion::physical_plan::work_table::WorkTableExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::{self, PhysicalExprNode};
use prost::Message;
use std::sync::Arc;

/// Encodes Windlass's operators, and those of DataFusion that have no encoding.
#[derive(Debug, Default)]
pub struct WindlassCodec;

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(oneof = "Operator", tags = "1, 3, 4, 5, 6, 7, 8, 9, 11, 13, 14, 15, 20, 21")]
    operator: Option<Operator>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Operator {
    #[prost(message, tag = "1")]
    ExchangeRead(ExchangeRead),
    #[prost(message, tag = "3")]
    RecursiveQuery(RecursiveQuery),
    #[prost(message, tag = "4")]
    WorkTable(WorkTable),
    #[prost(message, tag = "5")]
    PartialSort(PartialSort),
    #[prost(message, tag = "6")]
    Window(Window),
    #[prost(message, tag = "7")]
    PartitionedTopK(PartitionedTopK),
    #[prost(message, tag = "8")]
    Leaf(LeafNode),
    /// Sort orders of a generated series.
    #[prost(message, tag = "9")]
    Orderings(Orderings),
    /// Grouping sets without a column.
    #[prost(uint32, tag = "11")]
    EmptySets(u32),
    /// The number of a plan beside this one; see [`crate::folded`].
    #[prost(uint64, tag = "13")]
    Folded(u64),
    #[prost(message, tag = "14")]
    ConnectorScan(ScanNode),
    #[prost(message, tag = "15")]
    ConnectorSink(SinkNode),
    #[prost(message, tag = "20")]
    Repeat(Repeat),
    #[prost(message, tag = "21")]
    Forget(Forget),
}

/// The parts of a leaf that its encoding loses.
#[derive(Clone, PartialEq, Message)]
struct LeafNode {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(bytes = "vec", tag = "2")]
    bytes: Vec<u8>,
}

/// Nothing but its input.
#[derive(Clone, PartialEq, Message)]
struct Repeat {}

/// Nothing but its input.
#[derive(Clone, PartialEq, Message)]
struct Forget {}

/// One entry for each window expression of the input.
#[derive(Clone, PartialEq, Message)]
struct Window {
    #[prost(message, repeated, tag = "1")]
    flags: Vec<WindowFlags>,
}

#[derive(Clone, PartialEq, Message)]
struct ExchangeRead {
    #[prost(uint32, tag = "1")]
    stage: u32,
    #[prost(bool, tag = "2")]
    by_bucket: bool,
    #[prost(uint32, repeated, tag = "3")]
    parts: Vec<u32>,
    #[prost(bytes = "vec", tag = "4")]
    schema: Vec<u8>,
    /// Expressions of a hash partitioning; empty for an unknown partitioning.
    #[prost(message, repeated, tag = "5")]
    hash: Vec<PhysicalExprNode>,
    #[prost(message, repeated, tag = "6")]
    orderings: Vec<Ordering>,
    #[prost(message, repeated, tag = "7")]
    constants: Vec<Constant>,
    /// Classes of expressions that are equal in every row.
    #[prost(message, repeated, tag = "8")]
    equal: Vec<Expressions>,
    #[prost(message, optional, tag = "9")]
    merge: Option<Ordering>,
    #[prost(message, repeated, tag = "10")]
    keys: Vec<Key>,
    /// Number of ranges; 0 when no ranges are read.
    #[prost(uint32, tag = "11")]
    ranges: u32,
}

/// Columns whose combined values are unique.
#[derive(Clone, PartialEq, Message)]
struct Key {
    #[prost(uint64, repeated, tag = "1")]
    columns: Vec<u64>,
    #[prost(bool, tag = "2")]
    primary: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Ordering {
    #[prost(message, repeated, tag = "1")]
    keys: Vec<SortKey>,
}

#[derive(Clone, PartialEq, Message)]
struct Orderings {
    #[prost(message, repeated, tag = "1")]
    orderings: Vec<Ordering>,
}

#[derive(Clone, PartialEq, Message)]
struct SortKey {
    #[prost(message, required, tag = "1")]
    expr: PhysicalExprNode,
    #[prost(bool, tag = "2")]
    descending: bool,
    #[prost(bool, tag = "3")]
    nulls_first: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Constant {
    #[prost(message, required, tag = "1")]
    expr: PhysicalExprNode,
    /// Whether the value is the same in every partition.
    #[prost(bool, tag = "2")]
    uniform: bool,
    /// The value, if known.
    #[prost(message, optional, tag = "3")]
    value: Option<protobuf::ScalarValue>,
}

#[derive(Clone, PartialEq, Message)]
struct Expressions {
    #[prost(message, repeated, tag = "1")]
    exprs: Vec<PhysicalExprNode>,
}

#[derive(Clone, PartialEq, Message)]
struct RecursiveQuery {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "vec", tag = "2")]
    schema: Vec<u8>,
    #[prost(bool, tag = "3")]
    distinct: bool,
}

#[derive(Clone, PartialEq, Message)]
struct WorkTable {
    #[prost(string, tag = "1")]
    name: String,
    /// Schema of the whole table, before the projection.
    #[prost(bytes = "vec", tag = "2")]
    schema: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    projection: Option<Projection>,
}

#[derive(Clone, PartialEq, Message)]
struct Projection {
    #[prost(uint64, repeated, tag = "1")]
    columns: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSort {
    #[prost(message, required, tag = "1")]
    ordering: Ordering,
    #[prost(uint64, tag = "2")]
    common_prefix: u64,
    #[prost(bool, tag = "3")]
    preserve_partitioning: bool,
    #[prost(uint64, optional, tag = "4")]
    fetch: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct PartitionedTopK {
    #[prost(message, required, tag = "1")]
    ordering: Ordering,
    #[prost(uint64, tag = "2")]
    partition_prefix: u64,
    #[prost(uint64, tag = "3")]
    fetch: u64,
    /// Whether the function is rank() rather than row_number().
    #[prost(bool, tag = "4")]
    ties: bool,
}

/// Encodes an operator that stands for the plan of this number beside this one.
pub(crate) fn folded(number: u64) -> Vec<u8> {
    Node { operator: Some(Operator::Folded(number)) }.encode_to_vec()
}

/// Decodes the number of the plan that an operator stands for, if it stands for one.
pub(crate) fn number_of_folded(operator: &[u8]) -> Result<Option<u64>> {
    Ok(match Node::of(operator)?.operator {
        Some(Operator::Folded(number)) => Some(number),
        _ => None,
    })
}

impl Node {
    fn of(bytes: &[u8]) -> Result<Self> {
        Node::decode(bytes).map_err(|e| internal_datafusion_err!("an operator cannot be decoded: {e}"))
    }
}

impl PhysicalExtensionCodec for WindlassCodec {
    fn try_encode(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let encoder = Encoder { codec: self, converter };
        let operator = if let Some(read) = plan.downcast_ref::<ExchangeReadExec>() {
            Operator::ExchangeRead(encoder.exchange_read(read)?)
        } else if let Some(scan) = plan.downcast_ref::<ScanExec>() {
            Operator::ConnectorScan(scan.node()?)
        } else if let Some(sink) = plan.downcast_ref::<SinkExec>() {
            Operator::ConnectorSink(sink.node()?)
        } else if plan.is::<RepeatExec>() {
            Operator::Repeat(Repeat {})
        } else if plan.is::<ForgetExec>() {
            Operator::Forget(Forget {})
        } else if let Some(query) = plan.downcast_ref::<RecursiveQueryExec>() {
            Operator::RecursiveQuery(RecursiveQuery {
                name: query.name().to_string(),
                schema: encode_schema(&ExecutionPlan::schema(query))?,
                distinct: query.is_distinct(),
            })
        } else if let Some(table) = plan.downcast_ref::<WorkTableExec>() {
            Operator::WorkTable(work_table(table)?)
        } else if let Some(sort) = plan.downcast_ref::<PartialSortExec>() {
            Operator::PartialSort(PartialSort {
                ordering: encoder.ordering(sort.expr())?,
                common_prefix: sort.common_prefix_length() as u64,
                preserve_partitioning: sort.preserve_partitioning(),
                fetch: sort.fetch().map(|n| n as u64),
            })
        } else if let Some(LostExec { lost, .. }) = plan.downcast_ref::<LostExec>() {
            match lost {
                Lost::Window(flags) => Operator::Window(Window { flags: flags.clone() }),
                Lost::Leaf(LostOfLeaf { kind, bytes, .. }) => {
                    Operator::Leaf(LeafNode { kind: kind.clone(), bytes: bytes.clone() })
                }
                Lost::EmptySets(sets) => Operator::EmptySets(*sets),
                Lost::Orderings(orderings) => {
                    let orderings = orderings.iter().map(|ordering| encoder.ordering(ordering));
                    Operator::Orderings(Orderings { orderings: orderings.collect::<Result<_>>()? })
                }
            }
        } else if let Some(top) = plan.downcast_ref::<PartitionedTopKExec>() {
            Operator::PartitionedTopK(PartitionedTopK {
                ordering: encoder.ordering(top.expr())?,
                partition_prefix: top.partition_prefix_len() as u64,
                fetch: top.fetch() as u64,
                ties: top.fn_kind() == WindowFnKind::Rank,
            })
        } else {
            return not_impl_err!("{} cannot be sent to executors", plan.name());
        };
        Node { operator: Some(operator) }
            .encode(buf)
            .map_err(|e| internal_datafusion_err!("{} cannot be encoded: {e}", plan.name()))
    }

    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let node = Node::of(buf)?;
        let decode_context = PhysicalPlanDecodeContext::new(context, self);
        let decoder = Decoder { context: &decode_context, converter };
        let config = context.session_config();
        match node.operator {
            Some(Operator::ExchangeRead(node)) => decoder.exchange_read(node),
            Some(Operator::ConnectorScan(node)) => Ok(Arc::new(node.decoded(config)?)),
            Some(Operator::ConnectorSink(node)) => {
                Ok(Arc::new(SinkExec::new(input(inputs, 0)?, node.decoded(config)?)))
            }
            Some(Operator::Repeat(_)) => Ok(Arc::new(RepeatExec::try_new(input(inputs, 0)?)?)),
            Some(Operator::Forget(_)) => Ok(Arc::new(ForgetExec::new(input(inputs, 0)?))),
            Some(Operator::RecursiveQuery(node)) => Ok(Arc::new(RecursiveQueryExec::try_new(
                node.name,
                decode_schema(&node.schema)?,
                input(inputs, 0)?,
                input(inputs, 1)?,
                node.distinct,
            )?)),
            Some(Operator::WorkTable(node)) => {
                let mut schema = decode_schema(&node.schema)?;
                let projection: Option<Vec<usize>> =
                    node.projection.map(|p| p.columns.into_iter().map(|i| i as usize).collect());
                if let Some(projection) = &projection {
                    schema = schema_before(&schema, projection);
                }
                Ok(Arc::new(WorkTableExec::new(node.name, schema, projection)?))
            }
            Some(Operator::PartialSort(node)) => {
                let input = input(inputs, 0)?;
                let ordering = decoder.ordering(node.ordering, &input.schema())?;
                let sort = PartialSortExec::new(ordering, input, node.common_prefix as usize)
                    .with_preserve_partitioning(node.preserve_partitioning)
                    .with_fetch(node.fetch.map(|n| n as usize));
                Ok(Arc::new(sort))
            }
            Some(Operator::Window(node)) => Lost::Window(node.flags).restore(&input(inputs, 0)?, config),
            Some(Operator::Leaf(LeafNode { kind, bytes })) => {
                Lost::Leaf(LostOfLeaf { encodable: None, kind, bytes }).restore(&input(inputs, 0)?, config)
            }
            Some(Operator::EmptySets(sets)) => Lost::EmptySets(sets).restore(&input(inputs, 0)?, config),
            Some(Operator::Orderings(node)) => {
                let input = input(inputs, 0)?;
                let orderings = node.orderings.into_iter().map(|ordering| decoder.ordering(ordering, &input.schema()));
                Lost::Orderings(orderings.collect::<Result<_>>()?).restore(&input, config)
            }
            Some(Operator::PartitionedTopK(node)) => {
                let input = input(inputs, 0)?;
                let ordering = decoder.ordering(node.ordering, &input.schema())?;
                let kind = if node.ties { WindowFnKind::Rank } else { WindowFnKind::RowNumber };
                let (prefix, fetch) = (node.partition_prefix as usize, node.fetch as usize);
                Ok(Arc::new(PartitionedTopKExec::try_new(input, ordering, prefix, fetch, kind)?))
            }
            Some(Operator::Folded(_)) => internal_err!("a folded part of a plan was decoded without what unfolds it"),
            None => internal_err!("an operator of an unknown kind was received: do all nodes run the same version?"),
        }
    }
}

impl Key {
    fn of(constraint: &Constraint) -> Self {
        let (columns, primary) = match constraint {
            Constraint::PrimaryKey(columns) => (columns, true),
            Constraint::Unique(columns) => (columns, false),
        };
        Self { columns: columns.iter().map(|&column| column as u64).collect(), primary }
    }

    fn constraint(self) -> Constraint {
        let columns = self.columns.into_iter().map(|column| column as usize).collect();
        if self.primary { Constraint::PrimaryKey(columns) } else { Constraint::Unique(columns) }
    }
}

fn input(inputs: &[Arc<dyn ExecutionPlan>], index: usize) -> Result<Arc<dyn ExecutionPlan>> {
    inputs.get(index).cloned().ok_or_else(|| internal_datafusion_err!("an encoded operator lacks its input {index}"))
}

/// A work table shows its projection only in its debug form. A work table whose projection cannot be read there is refused: a lost projection would give
/// wrong answers.
fn work_table(table: &WorkTableExec) -> Result<WorkTable> {
    let debug = format!("{table:?}");
    let projection = debug.split_once("projection: ").and_then(|(_, rest)| {
        if rest.starts_with("None") {
            return Some(None);
        }
        let list = rest.strip_prefix("Some([")?.split_once("])")?.0;
        let columns = list.split(", ").filter(|c| !c.is_empty()).map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(Some(Projection { columns }))
    });
    let schema = WorkTableExec::schema(table);
    match projection {
        Some(projection) if projection.as_ref().is_none_or(|p| p.columns.len() == schema.fields().len()) => {
            Ok(WorkTable { name: table.name().to_string(), schema: encode_schema(&schema)?, projection })
        }
        _ => internal_err!("the projection of the recursive table {} cannot be told", table.name()),
    }
}

/// The schema before a work table's projection. Decoding needs it, but only the selected fields matter.
fn schema_before(projected: &Schema, projection: &[usize]) -> SchemaRef {
    let width = projection.iter().max().map_or(0, |last| last + 1);
    let unread = || Arc::new(Field::new("", DataType::Null, true));
    let mut fields: Vec<_> = std::iter::repeat_with(unread).take(width).collect();
    for (field, &column) in projected.fields().iter().zip(projection) {
        fields[column] = Arc::clone(field);
    }
    Arc::new(Schema::new_with_metadata(fields, projected.metadata().clone()))
}

/// Encodes expressions for operators of this crate and for the envelope of a stage's plan.
pub(crate) struct Encoder<'a> {
    pub codec: &'a dyn PhysicalExtensionCodec,
    pub converter: &'a dyn PhysicalProtoConverterExtension,
}

impl Encoder<'_> {
    pub(crate) fn expr(&self, expr: &Arc<dyn PhysicalExpr>) -> Result<PhysicalExprNode> {
        self.converter.physical_expr_to_proto(expr, self.codec)
    }

    fn exprs<'e>(&self, exprs: impl IntoIterator<Item = &'e Arc<dyn PhysicalExpr>>) -> Result<Vec<PhysicalExprNode>> {
        exprs.into_iter().map(|expr| self.expr(expr)).collect()
    }

    fn ordering(&self, ordering: &LexOrdering) -> Result<Ordering> {
        let keys = ordering
            .iter()
            .map(|key| {
                Ok(SortKey {
                    expr: self.expr(&key.expr)?,
                    descending: key.options.descending,
                    nulls_first: key.options.nulls_first,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Ordering { keys })
    }

    fn exchange_read(&self, read: &ExchangeReadExec) -> Result<ExchangeRead> {
        let equivalence = &read.properties().eq_properties;
        let hash = match &read.properties().partitioning {
            Partitioning::Hash(exprs, _) => self.exprs(exprs)?,
            _ => vec![],
        };
        // The result of a scalar subquery is unknown to the stages that it is not part of. But that a column equals it, and so is constant, is known.
        let constants = equivalence
            .constants()
            .iter()
            .filter(|constant| !refers_to_subquery(&constant.expr))
            .map(|constant| {
                let (uniform, value) = match &constant.across_partitions {
                    AcrossPartitions::Uniform(value) => (true, value.as_ref()),
                    AcrossPartitions::Heterogeneous => (false, None),
                };
                let value = value.map(protobuf::ScalarValue::try_from).transpose()?;
                Ok(Constant { expr: self.expr(&constant.expr)?, uniform, value })
            })
            .collect::<Result<_>>()?;
        let equal = equivalence
            .eq_group()
            .iter()
            .map(|class| class.iter().filter(|expr| !refers_to_subquery(expr)).collect::<Vec<_>>())
            .filter(|class| class.len() > 1)
            .map(|class| Ok(Expressions { exprs: self.exprs(class)? }))
            .collect::<Result<_>>()?;
        Ok(ExchangeRead {
            stage: read.stage(),
            by_bucket: read.mode() == ReadMode::Bucket,
            parts: read.parts().to_vec(),
            schema: encode_schema(&read.schema())?,
            hash,
            orderings: equivalence.oeq_class().iter().map(|o| self.ordering(o)).collect::<Result<_>>()?,
            constants,
            equal,
            merge: read.merge().map(|ordering| self.ordering(ordering)).transpose()?,
            keys: equivalence.constraints().iter().map(Key::of).collect(),
            ranges: match read.mode() {
                ReadMode::Range(ranges) => ranges,
                _ => 0,
            },
        })
    }
}

pub(crate) fn refers_to_subquery(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let found = expr.exists(|part| Ok(part.is::<ScalarSubqueryExpr>()));
    found.expect("the closure does not fail")
}

struct Decoder<'a> {
    context: &'a PhysicalPlanDecodeContext<'a>,
    converter: &'a dyn PhysicalProtoConverterExtension,
}

impl Decoder<'_> {
    fn expr(&self, node: &PhysicalExprNode, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
        self.converter.proto_to_physical_expr(node, schema, self.context)
    }

    fn exprs(&self, nodes: &[PhysicalExprNode], schema: &Schema) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        nodes.iter().map(|node| self.expr(node, schema)).collect()
    }

    fn ordering(&self, ordering: Ordering, schema: &Schema) -> Result<LexOrdering> {
        let keys = ordering
            .keys
            .iter()
            .map(|key| {
                let options = arrow::compute::SortOptions { descending: key.descending, nulls_first: key.nulls_first };
                Ok(PhysicalSortExpr { expr: self.expr(&key.expr, schema)?, options })
            })
            .collect::<Result<Vec<_>>>()?;
        LexOrdering::new(keys).ok_or_else(|| internal_datafusion_err!("an encoded ordering is empty"))
    }

    fn exchange_read(&self, node: ExchangeRead) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = decode_schema(&node.schema)?;
        let mut equivalence = EquivalenceProperties::new(Arc::clone(&schema));
        for class in &node.equal {
            let exprs = self.exprs(&class.exprs, &schema)?;
            for pair in exprs.windows(2) {
                equivalence.add_equal_conditions(Arc::clone(&pair[0]), Arc::clone(&pair[1]))?;
            }
        }
        let constants = node
            .constants
            .iter()
            .map(|constant| {
                let across = match constant.uniform {
                    true => AcrossPartitions::Uniform(constant.value.as_ref().map(ScalarValue::try_from).transpose()?),
                    false => AcrossPartitions::Heterogeneous,
                };
                Ok(ConstExpr::new(self.expr(&constant.expr, &schema)?, across))
            })
            .collect::<Result<Vec<_>>>()?;
        equivalence.add_constants(constants)?;
        let keys = node.keys.into_iter().map(Key::constraint).collect();
        equivalence = equivalence.with_constraints(Constraints::new_unverified(keys));
        for ordering in node.orderings {
            equivalence.add_ordering(self.ordering(ordering, &schema)?);
        }
        let partitioning = match node.hash.is_empty() {
            true => Partitioning::UnknownPartitioning(node.parts.len()),
            false => Partitioning::Hash(self.exprs(&node.hash, &schema)?, node.parts.len()),
        };
        let mode = match node.ranges {
            0 if node.by_bucket => ReadMode::Bucket,
            0 => ReadMode::Map,
            ranges => ReadMode::Range(ranges),
        };
        let merge = node.merge.map(|ordering| self.ordering(ordering, &schema)).transpose()?;
        Ok(Arc::new(ExchangeReadExec::new(node.stage, mode, node.parts, merge, partitioning, equivalence)))
    }
}

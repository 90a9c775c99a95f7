//! The leaf that reads a table of a connector.

use super::travel::ScanNode;
use super::{Scan, Split, TableSpec, TaskOfScan};
use crate::ops::of_no_input;
use datafusion::common::stats::Precision;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::{StreamExt, TryStreamExt, stream};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::sync::Arc;
use windlass_core::job::Preference;

/// Assumed bytes of a split of unknown size.
const SPLIT_BYTES: u64 = 16 << 20;
/// Assumed bytes of a row.
const ROW_BYTES: u64 = 64;

/// Reads some splits of a scan. A partition reads the splits of one task one by one.
#[derive(Clone, Debug)]
pub struct ScanExec {
    table: Arc<TableSpec>,
    scan: Arc<dyn Scan>,
    partitions: Vec<Vec<Split>>,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

impl ScanExec {
    /// All splits of `scan`, for at most `tasks` tasks.
    pub fn new(table: Arc<TableSpec>, scan: Arc<dyn Scan>, tasks: usize) -> Self {
        let splits = scan.splits();
        // Rows of several splits in a row have no common order.
        let most = if scan.ordering().is_some() { splits.len() } else { tasks };
        let partitions = dealt_out(splits, most);
        Self::of(table, scan, partitions)
    }

    pub(super) fn of(table: Arc<TableSpec>, scan: Arc<dyn Scan>, partitions: Vec<Vec<Split>>) -> Self {
        let mut equivalence = EquivalenceProperties::new(scan.schema());
        if let Some(ordering) = scan.ordering() {
            equivalence.add_ordering(ordering);
        }
        let partitioning = Partitioning::UnknownPartitioning(partitions.len());
        let properties =
            PlanProperties::new(equivalence, partitioning, EmissionType::Incremental, Boundedness::Bounded);
        Self { table, scan, partitions, metrics: ExecutionPlanMetricsSet::new(), properties: Arc::new(properties) }
    }

    /// The scan with these of its columns. `None`: all.
    pub(crate) fn projected(self, columns: Option<&Vec<usize>>) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.scan.schema();
        let Some(columns) = columns else { return Ok(Arc::new(self)) };
        let columns = columns.iter().map(|&at| {
            let name = schema.field(at).name();
            ProjectionExpr { expr: Arc::new(Column::new(name, at)), alias: name.clone() }
        });
        Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), Arc::new(self))?))
    }

    pub fn table(&self) -> &Arc<TableSpec> {
        &self.table
    }

    pub fn scan(&self) -> &Arc<dyn Scan> {
        &self.scan
    }

    /// The splits of each partition.
    pub fn partitions(&self) -> &[Vec<Split>] {
        &self.partitions
    }

    /// Bytes of all splits; splits of unknown size are estimated.
    pub fn bytes(&self) -> u64 {
        self.partitions.iter().flatten().map(Split::weight).sum()
    }

    /// Returns the scan with only the partitions `keep`, in that order.
    pub(crate) fn narrowed(&self, keep: &[usize]) -> Self {
        let partitions = keep.iter().map(|&at| self.partitions[at].clone()).collect();
        Self::of(Arc::clone(&self.table), Arc::clone(&self.scan), partitions)
    }

    /// The preferred place to read each partition; empty if no split has one.
    pub(crate) fn preferences(&self) -> Vec<Preference> {
        let wishes: Vec<Preference> = self.partitions.iter().map(|splits| preference(splits)).collect();
        if wishes.iter().all(|wish| *wish == Preference::default()) { Vec::new() } else { wishes }
    }

    pub(crate) fn node(&self) -> Result<ScanNode> {
        ScanNode::of(&self.table, self.scan.as_ref(), &self.partitions)
    }

    fn rows(&self, partition: Option<usize>) -> Precision<usize> {
        let splits: Vec<&Split> = match partition {
            Some(at) => self.partitions.get(at).into_iter().flatten().collect(),
            None => self.partitions.iter().flatten().collect(),
        };
        let rows: Option<u64> = splits.iter().map(|split| split.rows).sum();
        rows.and_then(|rows| usize::try_from(rows).ok()).map_or(Precision::Absent, Precision::Inexact)
    }
}

impl Split {
    /// Weight with which splits are distributed.
    fn weight(&self) -> u64 {
        self.bytes.or_else(|| Some(self.rows?.saturating_mul(ROW_BYTES))).unwrap_or(SPLIT_BYTES)
    }
}

/// Distributes splits into shares of about equal bytes, in the order of their first splits. No share is empty, unless there are no splits.
fn dealt_out(splits: Vec<Split>, most: usize) -> Vec<Vec<Split>> {
    let count = splits.len().clamp(1, most.max(1));
    let mut order: Vec<usize> = (0..splits.len()).collect();
    order.sort_by_key(|&at| (Reverse(splits[at].weight()), at));
    let mut least: BinaryHeap<Reverse<(u64, usize, usize)>> = (0..count).map(|share| Reverse((0, 0, share))).collect();
    let mut shares = vec![Vec::new(); count];
    for at in order {
        let Some(Reverse((bytes, splits_so_far, share))) = least.pop() else { break };
        least.push(Reverse((bytes + splits[at].weight(), splits_so_far + 1, share)));
        shares[share].push(at);
    }
    shares.iter_mut().for_each(|share| share.sort_unstable());
    shares.sort();
    shares.into_iter().map(|share| share.into_iter().map(|at| splits[at].clone()).collect()).collect()
}

fn preference(splits: &[Split]) -> Preference {
    let mut bytes_on: BTreeMap<&str, u64> = BTreeMap::new();
    for split in splits {
        for host in &split.hosts {
            *bytes_on.entry(host).or_default() += split.weight();
        }
    }
    let mut hosts: Vec<(&str, u64)> = bytes_on.into_iter().collect();
    hosts.sort_by_key(|&(host, bytes)| (Reverse(bytes), host));
    let hosts = hosts.into_iter().map(|(host, _)| host.to_string()).collect();
    let affinity = splits.first().map_or(0, |split| split.affinity);
    Preference { hosts, affinity, ..Preference::default() }
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let splits: usize = self.partitions.iter().map(Vec::len).sum();
        write!(f, "ScanExec: {}, splits={splits}", self.table.connector)?;
        let described = self.scan.describe();
        if described.is_empty() { Ok(()) } else { write!(f, ", {described}") }
    }
}

impl ExecutionPlan for ScanExec {
    fn name(&self) -> &str {
        "ScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    of_no_input!();

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let partition = args.partition();
        let whole = self.scan.statistics();
        let mut statistics = match (partition, whole) {
            (None, Some(whole)) => return Ok(Arc::new(whole)),
            (Some(_), Some(whole)) => whole.to_inexact(),
            (_, None) => Statistics::new_unknown(&self.schema()),
        };
        statistics.num_rows = self.rows(partition);
        statistics.total_byte_size = Precision::Absent;
        Ok(Arc::new(statistics))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(splits) = self.partitions.get(partition).cloned() else {
            return internal_err!("partition {partition} of a scan of {} was asked for", self.partitions.len());
        };
        let rows = MetricBuilder::new(&self.metrics).output_rows(partition);
        let task = TaskOfScan { context, metrics: self.metrics.clone(), partition };
        let scan = Arc::clone(&self.scan);
        let opened = stream::iter(splits).map(move |split| scan.open(&split, &task)).try_flatten();
        let counted = opened.inspect_ok(move |batch| rows.add(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), counted)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(bytes: Option<u64>, rows: Option<u64>, hosts: &[&str]) -> Split {
        Split { bytes, rows, hosts: hosts.iter().map(|host| host.to_string()).collect(), ..Split::default() }
    }

    #[test]
    fn splits_are_dealt_out_by_weight_and_keep_their_order() {
        let splits: Vec<Split> = (0..7).map(|n| split(Some(100 - n), None, &[])).collect();
        let shares = dealt_out(splits.clone(), 3);
        assert_eq!(shares.iter().map(Vec::len).sum::<usize>(), 7);
        assert!(shares.iter().all(|share| (2..=3).contains(&share.len())), "{shares:?}");
        assert!(shares.iter().all(|share| share.is_sorted_by_key(|split| Reverse(split.bytes))));
        assert_eq!(dealt_out(splits, 20).len(), 7);
        assert_eq!(dealt_out(vec![], 20), [vec![]], "a plan has a partition at least");
        // Splits without weight leave no share empty either.
        assert!(dealt_out(vec![split(Some(0), None, &[]); 4], 4).iter().all(|share| share.len() == 1));
    }

    #[test]
    fn a_task_wishes_for_the_host_that_has_most() {
        let splits = [split(Some(5), None, &["a", "b"]), split(Some(1), None, &["b"]), split(None, Some(1), &["c"])];
        assert_eq!(preference(&splits).hosts, ["c", "b", "a"]);
        assert_eq!(preference(&[split(None, None, &[])]), Preference::default());
    }
}

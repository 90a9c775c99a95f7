//! The leaves of plans: everything that planning, cutting, narrowing and encoding ask of them.
//!
//! | leaf | reads |
//! | --- | --- |
//! | [`ScanExec`] | tables of connectors, and files that are copied unchanged |
//! | DataFusion's scan of files | files, see [`super::files`]; DataFusion's encoding loses some of its options |
//! | DataFusion's scan of batches | rows inside the plan |

use super::{ScanExec, Split};
use crate::task;
use datafusion::common::{Result, internal_err};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::{DataSource, DataSourceExec};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use std::sync::Arc;
use windlass_core::job::{Once, Preference};

/// An operator that reads and has no input.
pub(crate) trait Leaf {
    /// Returns the leaf with only the partitions `keep`, in that order.
    fn narrowed(&self, keep: &[usize]) -> Result<Arc<dyn ExecutionPlan>>;

    /// Bytes that it reads, before projection and pruning.
    fn bytes(&self) -> u64;

    /// See [`super::Scan::is_read_once`].
    fn is_read_once(&self) -> bool {
        false
    }

    /// See [`super::Scan::once`].
    fn once(&self) -> Option<Once> {
        None
    }

    /// URLs of the object stores that it reads or writes. Their options travel with the plan.
    fn stores(&self) -> Vec<String> {
        Vec::new()
    }

    /// The preferred place to read each partition. Empty: no partition has a preference.
    fn preferences(&self) -> Vec<Preference> {
        Vec::new()
    }

    /// The parts of the cluster's own files that each partition reads. Empty: none.
    fn pieces(&self) -> Vec<Vec<task::Split>> {
        Vec::new()
    }

    /// The parts of the leaf that the encoding of plans loses.
    fn lost(&self) -> Result<Option<LostOfLeaf>> {
        Ok(None)
    }
}

/// The data from which [`restored`] restores a leaf.
#[derive(Clone, Debug)]
pub(crate) struct LostOfLeaf {
    /// The leaf to encode, if it is another one.
    pub encodable: Option<Arc<dyn ExecutionPlan>>,
    /// The kind of the leaf.
    pub kind: String,
    pub bytes: Vec<u8>,
}

/// `plan` as a leaf, if it is one that reads something.
pub(crate) fn leaf(plan: &Arc<dyn ExecutionPlan>) -> Option<&dyn Leaf> {
    if let Some(scan) = plan.downcast_ref::<ScanExec>() {
        return Some(scan);
    }
    let source = plan.downcast_ref::<DataSourceExec>()?.data_source();
    if let Some(files) = source.downcast_ref::<FileScanConfig>() {
        return Some(files);
    }
    source.downcast_ref::<MemorySourceConfig>().map(|batches| batches as &dyn Leaf)
}

/// Restores the lost parts of `plan`, a leaf, from these bytes.
pub(crate) fn restored(
    kind: &str,
    bytes: &[u8],
    plan: &Arc<dyn ExecutionPlan>,
    config: &SessionConfig,
) -> Result<Arc<dyn ExecutionPlan>> {
    match kind {
        super::files::KIND => super::files::restored(bytes, plan, config),
        kind => internal_err!(
            "a part of a scan of the unknown kind {kind} was received: do all nodes run the same version?"
        ),
    }
}

/// Bytes of the batches in `plan`, if it holds batches.
pub(crate) fn literal_bytes(plan: &Arc<dyn ExecutionPlan>) -> Option<u64> {
    let source = plan.downcast_ref::<DataSourceExec>()?.data_source();
    source.downcast_ref::<MemorySourceConfig>().map(Leaf::bytes)
}

impl Leaf for ScanExec {
    fn narrowed(&self, keep: &[usize]) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(ScanExec::narrowed(self, keep)))
    }

    fn bytes(&self) -> u64 {
        ScanExec::bytes(self)
    }

    fn is_read_once(&self) -> bool {
        self.scan().is_read_once()
    }

    fn once(&self) -> Option<Once> {
        self.scan().once()
    }

    fn stores(&self) -> Vec<String> {
        self.scan().stores()
    }

    fn preferences(&self) -> Vec<Preference> {
        ScanExec::preferences(self)
    }

    fn pieces(&self) -> Vec<Vec<task::Split>> {
        let of_task = |splits: &Vec<Split>| splits.iter().flat_map(|split| self.scan().pieces(split)).collect();
        let pieces: Vec<Vec<task::Split>> = self.partitions().iter().map(of_task).collect();
        if pieces.iter().all(Vec::is_empty) { Vec::new() } else { pieces }
    }
}

impl Leaf for MemorySourceConfig {
    fn narrowed(&self, keep: &[usize]) -> Result<Arc<dyn ExecutionPlan>> {
        let partitions: Vec<_> = keep.iter().map(|&i| self.partitions()[i].clone()).collect();
        let mut narrowed = MemorySourceConfig::try_new(&partitions, self.original_schema(), self.projection().clone())?
            .with_show_sizes(self.show_sizes())
            .with_limit(DataSource::fetch(self));
        if !self.sort_information().is_empty() {
            narrowed = narrowed.try_with_sort_information(self.sort_information().to_vec())?;
        }
        Ok(DataSourceExec::from_data_source(narrowed))
    }

    fn bytes(&self) -> u64 {
        self.partitions().iter().flatten().map(|batch| batch.get_array_memory_size() as u64).sum()
    }
}

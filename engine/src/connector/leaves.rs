//! The leaves of plans, whatever they read: all that planning, cutting, narrowing and encoding ask of them.
//!
//! | leaf | of |
//! | --- | --- |
//! | [`ScanExec`] | connectors, files that are copied as they are among them |
//! | DataFusion's scan of files | [`super::files`], whose encoding DataFusion has, and loses some of |
//! | DataFusion's scan of batches | plans that have rows in them |

use super::{ScanExec, Split};
use crate::task;
use datafusion::common::{Result, internal_err};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::{DataSource, DataSourceExec};
use datafusion::physical_plan::ExecutionPlan;
use std::sync::Arc;
use windlass_core::job::Preference;

/// What reads, and has no input.
pub(crate) trait Leaf {
    /// With only the partitions `keep`, in that order.
    fn narrowed(&self, keep: &[usize]) -> Result<Arc<dyn ExecutionPlan>>;

    /// That it reads, before projection and pruning.
    fn bytes(&self) -> u64;

    /// URLs in object stores that it reads or writes, whose options travel with the plan.
    fn stores(&self) -> Vec<String> {
        Vec::new()
    }

    /// For each partition where it is read best. Empty: no partition has a wish.
    fn preferences(&self) -> Vec<Preference> {
        Vec::new()
    }

    /// For each partition what it reads of the cluster's own files. Empty: nothing.
    fn pieces(&self) -> Vec<Vec<task::Split>> {
        Vec::new()
    }

    /// What the encoding of plans leaves out of it.
    fn lost(&self) -> Result<Option<LostOfLeaf>> {
        Ok(None)
    }
}

/// What [`restored`] puts back.
#[derive(Clone, Debug)]
pub(crate) struct LostOfLeaf {
    /// The leaf as it is encoded, where that is another one.
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

/// `plan`, a leaf that was encoded without these bytes.
pub(crate) fn restored(kind: &str, bytes: &[u8], plan: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    match kind {
        super::files::KIND => super::files::restored(bytes, plan),
        kind => internal_err!(
            "a part of a scan of the unknown kind {kind} was received: do all nodes run the same version?"
        ),
    }
}

/// Bytes of the batches that `plan` is, where they are part of it.
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

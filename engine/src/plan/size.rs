//! How much a plan reads.

use crate::ops::CopyFilesExec;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use std::sync::Arc;

/// Bytes of files and of batches that the scans of `plan` cover, before projection and pruning inside files.
pub(crate) fn scanned_bytes(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let mut bytes = 0;
    let walked = plan.apply(|node| {
        if let Some(scan) = node.downcast_ref::<DataSourceExec>() {
            bytes += scan_bytes(scan);
        }
        bytes += node.downcast_ref::<CopyFilesExec>().map_or(0, CopyFilesExec::bytes);
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(walked.is_ok(), "the closure does not fail");
    bytes
}

fn scan_bytes(scan: &DataSourceExec) -> u64 {
    if let Some(config) = scan.data_source().downcast_ref::<FileScanConfig>() {
        return config
            .file_groups
            .iter()
            .flat_map(|group| group.iter())
            .map(|file| match &file.range {
                Some(range) => (range.end - range.start).max(0) as u64,
                None => file.object_meta.size,
            })
            .sum();
    }
    if let Some(memory) = scan.data_source().downcast_ref::<MemorySourceConfig>() {
        return memory.partitions().iter().flatten().map(|batch| batch.get_array_memory_size() as u64).sum();
    }
    0
}

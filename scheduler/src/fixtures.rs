//! Made-up plans for tests.

use arrow::datatypes::Schema;
use bytes::Bytes;
use std::sync::Arc;
use windlass_core::ids::PlanHash;
use windlass_core::job::{Read, StageInput};
use windlass_engine::{ClusterShape, PlannedJob, PlannedStage};

/// Returns a chain of stages with these numbers of tasks. Each stage reads all of the one before it.
pub fn planned(tasks: &[u32]) -> PlannedJob {
    let stage = |(index, &tasks): (usize, &u32)| PlannedStage {
        hash: PlanHash(100 + index as u128),
        bytes: Bytes::from(format!("plan {index}")),
        display: "SortExec\n  DataSourceExec\n".into(),
        tasks,
        buckets: 1,
        inputs: index
            .checked_sub(1)
            .map(|input| StageInput { stage: input as u32, read: Read::All })
            .into_iter()
            .collect(),
        preferences: vec![],
        splits: Vec::new(),
        row_limit: None,
        once: None,
        planned: None,
    };
    let stages = tasks.iter().enumerate().map(stage).collect();
    PlannedJob {
        schema: Arc::new(Schema::empty()),
        stages,
        sink: None,
        guards: Vec::new(),
        holds_sides: false,
        shape: ClusterShape::ONE,
        light: false,
        constant: None,
    }
}

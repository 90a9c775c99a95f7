//! Chooses the sorts of a whole result that end in ranges of their key, rather than in one task that merges everything.

use super::certain::keys_are_certain;
use crate::ops::range::sort_fields;
use arrow::row::RowConverter;
use datafusion::common::Result;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};

/// Whether ranges pay for `merge`, and are certain to be the same when a run is lost and computed again: otherwise readers before and after would disagree
/// about the bounds, and rows would be lost or returned twice.
pub(super) fn pays(merge: &SortPreservingMergeExec, least_rows: usize) -> Result<bool> {
    if merge.fetch().is_some() {
        return Ok(false);
    }
    let rows = StatisticsContext::new().compute(merge.input().as_ref(), &StatisticsArgs::new())?.num_rows;
    let many = least_rows == 0 || rows.get_value().is_some_and(|rows| *rows >= least_rows);
    if !many || !RowConverter::supports_fields(&sort_fields(merge.expr(), &merge.schema())?) {
        return Ok(false);
    }
    keys_are_certain(merge.input(), merge.expr().iter().map(|key| &key.expr))
}

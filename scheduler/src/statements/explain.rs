//! EXPLAIN and EXPLAIN ANALYZE: DataFusion's plans, and the stages into which Windlass cuts them.

use super::catalog::Archives;
use super::run::StatementRun;
use super::{Execution, Rows, metadata};
use crate::driver::history::StageRecord;
use crate::errors::QueryError;
use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::logical_expr::{Analyze, Explain, LogicalPlan};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use windlass_engine::PlannedJob;

impl StatementRun<'_> {
    pub(super) async fn explain(self, mut explain: Explain) -> Result<Execution, QueryError> {
        if let LogicalPlan::Dml(dml) = explain.plan.as_ref() {
            explain.plan = Arc::new(self.insert_plan(dml.clone()).await?);
        }
        self.explain_planned(explain).await
    }

    /// Does the work of [`StatementRun::explain`] for a plan whose target is known.
    pub(super) async fn explain_planned(self, explain: Explain) -> Result<Execution, QueryError> {
        let inner = Arc::unwrap_or_clone(Arc::clone(&explain.plan));
        let with_stages = matches!(explain.explain_format.to_string().as_str(), "indent" | "tree");
        let archives = self.state.config().get_extension::<Archives>();
        let explained = self.run_here(&LogicalPlan::Explain(explain)).await?;
        if !with_stages || matches!(inner, LogicalPlan::Ddl(_) | LogicalPlan::Statement(_)) {
            return Ok(explained);
        }
        let stages = match metadata::reads_only_the_catalog(&inner) {
            true => "runs on the primary\n".to_string(),
            false => describe(&self.statements.inner.runner.plan(self.state, &inner, None).await?),
        };
        let Rows::Here(mut batches) = explained.rows else {
            return Err(QueryError::Internal("EXPLAIN ran elsewhere".to_string()));
        };
        batches.push(row(&explained.schema, "distributed_plan", &stages)?);
        let left_out = archives.map(|archives| archives.left_out()).unwrap_or_default();
        if !left_out.is_empty() {
            batches.push(row(&explained.schema, "archived_files", &format!("{}\n", left_out.join("\n")))?);
        }
        Ok(Execution::here(explained.schema, batches))
    }

    /// Runs the statement with its effects. Returns metrics in place of its rows. `manifest`: as of [`StatementRun::copy`].
    pub(super) async fn analyze(self, analyze: Analyze, manifest: bool) -> Result<Execution, QueryError> {
        let plan = Arc::unwrap_or_clone(analyze.input);
        let stages = match plan {
            LogicalPlan::Dml(dml) => self.insert_reporting(dml).await?.stages,
            plan @ LogicalPlan::Copy(_) => self.copy_reporting(plan, manifest).await?.stages,
            plan => match self.query(plan).await?.rows {
                Rows::Job(finished) => finished.stages.clone(),
                Rows::Here(_) => Vec::new(),
            },
        };
        analyzed(&stages)
    }
}

/// Returns the answer of EXPLAIN ANALYZE.
pub(super) fn analyzed(stages: &[Arc<StageRecord>]) -> Result<Execution, QueryError> {
    let text = match stages.is_empty() {
        true => "ran on the primary\n".to_string(),
        false => stages.iter().map(|stage| annotate(stage)).collect(),
    };
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("plan_type", DataType::Utf8, false),
        Field::new("plan", DataType::Utf8, false),
    ]));
    let batch = row(&schema, "Plan with Metrics", &text)?;
    Ok(Execution::here(schema, vec![batch]))
}

fn row(schema: &SchemaRef, kind: &str, text: &str) -> Result<RecordBatch, QueryError> {
    let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec![kind])), Arc::new(StringArray::from(vec![text]))];
    let columns = columns.into_iter().zip(schema.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() {
            return Ok(column);
        }
        datafusion::arrow::compute::cast(&column, field.data_type())
    });
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|e| QueryError::Internal(e.to_string()))?;
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|e| QueryError::Internal(e.to_string()))
}

/// Returns the stages of a job that has not run.
pub(super) fn describe(job: &PlannedJob) -> String {
    let mut text = String::new();
    for (index, stage) in job.stages.iter().enumerate() {
        let inputs: Vec<u32> = stage.inputs.iter().map(|input| input.stage).collect();
        // Writing to a string does not fail.
        let _ = write!(text, "Stage {index}{}: {}", reads(&inputs), plural(stage.tasks, "task"));
        if stage.buckets > 1 {
            let _ = write!(text, ", {}", plural(stage.buckets, "bucket"));
        }
        if let Some(rows) = stage.row_limit {
            let _ = write!(text, ", stops at {rows} rows");
        }
        text.push('\n');
        for line in stage.display.lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

/// Returns a stage that has run: each operator with its metrics, summed over the stage's tasks.
fn annotate(stage: &StageRecord) -> String {
    let mut text = format!(
        "Stage {}{}: {}, {}, {}, {} wall time, {} task time",
        stage.index,
        reads(&stage.inputs),
        plural(stage.tasks, "task"),
        rows(stage.rows),
        bytes(stage.bytes),
        duration(stage.elapsed),
        duration(stage.task_time)
    );
    if stage.failed_attempts > 0 {
        let _ = write!(text, ", {}", plural(stage.failed_attempts, "failed attempt"));
    }
    text.push('\n');
    for line in stage.plan_with_metrics().lines() {
        let _ = writeln!(text, "  {line}");
    }
    text
}

fn reads(inputs: &[u32]) -> String {
    if inputs.is_empty() {
        return String::new();
    }
    format!(" (reads {})", inputs.iter().map(u32::to_string).collect::<Vec<_>>().join(", "))
}

fn plural(n: u32, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

fn rows(n: u64) -> String {
    if n == 1 { "1 row".to_string() } else { format!("{n} rows") }
}

fn bytes(n: u64) -> String {
    match n {
        n if n < 1 << 10 => format!("{n} B"),
        n if n < 1 << 20 => format!("{:.1} KiB", n as f64 / 1024.0),
        n if n < 1 << 30 => format!("{:.1} MiB", n as f64 / 1048576.0),
        n => format!("{:.1} GiB", n as f64 / 1073741824.0),
    }
}

fn duration(time: Duration) -> String {
    match time.as_micros() {
        us if us < 1_000 => format!("{us} µs"),
        us if us < 1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        us => format!("{:.2} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn a_stage_that_ran_says_what_it_took() {
        let mut stage = StageRecord::new(1, &fixtures::planned(&[1, 2]).stages[1]);
        stage.plan = "SortExec: a\n  FilterExec: b, metrics=[output_rows=10]\n".into();
        (stage.failed_attempts, stage.rows, stage.bytes) = (1, 10, 2048);
        (stage.elapsed, stage.task_time) = (Duration::from_millis(3), Duration::from_millis(5));
        assert_eq!(
            annotate(&stage),
            "Stage 1 (reads 0): 2 tasks, 10 rows, 2.0 KiB, 3.0 ms wall time, 5.0 ms task time, 1 failed attempt\n  \
             SortExec: a\n    FilterExec: b, metrics=[output_rows=10]\n"
        );
    }
}

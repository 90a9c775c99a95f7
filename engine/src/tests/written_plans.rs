//! Tests that encode and decode the plans of the sqllogictest files' statements and run both forms: the plan that executors of a cluster decode answers like
//! the plan handed over in one process.

use super::round_trip::{decode, difference, planned};
use super::{SHAPE, context};
use crate::plan_job;
use crate::scan::prepare;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::Result;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionContext;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Functions whose results differ each time they run.
const CHANGING: [&str; 5] = ["random(", "uuid(", "now(", "current_", "array_agg("];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn written_statements_are_decoded_as_they_were_planned() {
    let mut compared = 0;
    let mut wrong = Vec::new();
    for file in files() {
        let folder = tempfile::tempdir().unwrap();
        let windlass = context(1 << 30);
        for sql in statements(&std::fs::read_to_string(&file).unwrap(), folder.path()) {
            // The primary's parser gives DataFusion's no number with an exponent, which would become a decimal of negative scale.
            let options = windlass.state_ref();
            options.write().config_mut().options_mut().sql_parser.parse_float_as_decimal = !has_exponent(&sql);
            // Statements that only the primary can plan, or that must fail, are left to other tests.
            let Ok(logical) = windlass.state().create_logical_plan(&sql).await else { continue };
            if changes_something(&logical) {
                if let Ok(changed) = windlass.execute_logical_plan(logical).await {
                    let _ = changed.collect().await;
                }
                continue;
            }
            match compare(&windlass, &sql, &logical).await {
                Ok(None) => compared += 1,
                Ok(Some(difference)) => wrong.push(format!("{}: {sql}\n{difference}", file.display())),
                // It cannot be planned, or fails as it should.
                Err(_) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {compared} statements\n{}", wrong.len(), wrong.join("\n\n"));
    assert!(compared > 350, "only {compared} statements were found");
}

async fn compare(windlass: &SessionContext, sql: &str, logical: &LogicalPlan) -> Result<Option<String>> {
    let job = plan_job(&windlass.state(), logical, SHAPE).await?;
    let [stage] = job.stages.as_slice() else { return Ok(Some("it was planned as several stages".to_string())) };
    let plan = &planned(stage).plan;
    let decoded = match decode(&stage.bytes) {
        Ok(decoded) => decoded,
        Err(error) => return Ok(Some(error.to_string())),
    };
    // A 16-bit literal is decoded as a cast of a 32-bit one: the same number.
    let shown_alike = !sql.contains("Float16");
    if let Some(difference) = difference(plan, &decoded).filter(|_| shown_alike) {
        return Ok(Some(difference));
    }
    if CHANGING.iter().any(|word| sql.to_lowercase().contains(word)) {
        return Ok(None);
    }
    let (handed, sent) = (rows(windlass, plan).await?, rows(windlass, &decoded).await);
    Ok(match sent {
        Ok(sent) if sent == handed => None,
        Ok(sent) => Some(format!("handed over: {handed:?}\nencoded: {sent:?}")),
        Err(error) => Some(format!("encoded: {error}")),
    })
}

fn has_exponent(sql: &str) -> bool {
    let is_one = |(at, _): (usize, &str)| {
        let after = sql[at + 1..].trim_start_matches(['+', '-']);
        sql[..at].ends_with(|c: char| c.is_ascii_digit() || c == '.') && after.starts_with(|c: char| c.is_ascii_digit())
    };
    sql.match_indices(['e', 'E']).any(is_one)
}

/// The rows as text, sorted.
async fn rows(windlass: &SessionContext, plan: &Arc<dyn ExecutionPlan>) -> Result<Vec<String>> {
    let footers = windlass.runtime_env().cache_manager.get_file_metadata_cache();
    let plan = prepare(Arc::clone(plan), None, &footers)?;
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in collect(plan, windlass.task_ctx()).await? {
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
        let types: Vec<_> = batch.columns().iter().map(|column| column.data_type().to_string()).collect();
        rows.extend((0..batch.num_rows()).map(|row| {
            let cells: Vec<_> = columns.iter().map(|column| column.value(row).to_string()).collect();
            format!("{cells:?} {types:?}")
        }));
    }
    rows.sort();
    Ok(rows)
}

fn changes_something(plan: &LogicalPlan) -> bool {
    use LogicalPlan::{Analyze, Copy, Ddl, DescribeTable, Dml, Explain, Statement};
    matches!(plan, Ddl(_) | Dml(_) | Copy(_) | Statement(_) | Explain(_) | Analyze(_) | DescribeTable(_))
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/slt");
    let folders = [folder.clone(), folder.join("windlass"), folder.join("right")];
    let mut files: Vec<PathBuf> = folders.iter().flat_map(|folder| super::round_trip::entries(folder)).collect();
    // One file has statements of several sessions with their own options.
    files.retain(|file| {
        file.extension().is_some_and(|extension| extension == "slt") && !file.ends_with("right/sessions.slt")
    });
    files
}

/// The text of every statement and query.
fn statements(file: &str, folder: &Path) -> Vec<String> {
    let data = super::round_trip::data().display().to_string();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").display().to_string();
    let mut statements = Vec::new();
    let mut sql: Option<Vec<&str>> = None;
    for line in file.lines().chain([""]) {
        let begins = line.starts_with("statement ") || line.starts_with("query ");
        match &mut sql {
            None if begins => sql = Some(Vec::new()),
            Some(lines) if line.is_empty() || line == "----" => {
                let text = lines.join("\n");
                let text = text.replace("${__TEST_DIR__}", &folder.display().to_string()).replace("${DATA}", &data);
                statements.push(text.replace("${WORKSPACE}", &workspace));
                sql = None;
            }
            Some(lines) => lines.push(line),
            None => {}
        }
    }
    statements
}

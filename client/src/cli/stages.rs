//! The stages of a job as text.

use super::output::printable;
use super::progress::count;
use crate::config::units::{ByteSize, Span};
use crate::jobs::{JobDetail, Stage};
use std::time::Duration;
use unicode_width::UnicodeWidthStr;

/// Formats stages, one line each, in the order in which they feed each other.
pub fn table(job: &JobDetail) -> String {
    let mut rows = vec![["stage", "reads", "operators", "tasks", "rows", "bytes", "time", "cpu"].map(str::to_owned)];
    for stage in &job.stage_details {
        rows.push(row(stage));
    }
    let mut out = format!("{} {}\n", job.summary.job, job.summary.state);
    out.push_str(&aligned(&rows, &[false, false, false, true, true, true, true, true]));
    out
}

fn row(stage: &Stage) -> [String; 8] {
    let reads = stage.inputs.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    let mut tasks = if stage.tasks_done == stage.tasks {
        stage.tasks.to_string()
    } else {
        format!("{}/{}", stage.tasks_done, stage.tasks)
    };
    if stage.failed_attempts > 0 {
        tasks.push_str(&format!(" (+{} failed)", stage.failed_attempts));
    }
    [
        stage.index.to_string(),
        if reads.is_empty() { "-".to_owned() } else { reads },
        operators(&stage.plan),
        tasks,
        count(stage.rows),
        ByteSize::human(stage.bytes),
        Span::human(stage.elapsed()),
        Span::human(Duration::from_micros(stage.task_us)),
    ]
}

/// Names of a plan's operators, from the writer to the readers, shortened to fit a line.
fn operators(plan: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for line in plan.lines() {
        let name = line.trim_start().split([':', ' ']).next().unwrap_or_default();
        let name = name.strip_suffix("Exec").unwrap_or(name);
        if !name.is_empty() && names.last() != Some(&name) {
            names.push(name);
        }
    }
    one_line(&names.join(" < "))
}

/// A text, shortened if necessary, for a column.
pub fn one_line(text: &str) -> String {
    const WIDEST: usize = 48;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.chars().count() > WIDEST {
        true => text.chars().take(WIDEST - 1).chain(['…']).collect(),
        false => text,
    }
}

/// Formats a count: "1 executor", "2 executors".
pub fn several(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// Formats columns two spaces apart; `right` selects the right-aligned ones.
pub fn aligned<const N: usize>(rows: &[[String; N]], right: &[bool; N]) -> String {
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(widths).zip(right) {
            let pad = " ".repeat(width - cell.width());
            let (before, after) = if *right { (pad.as_str(), "") } else { ("", pad.as_str()) };
            line.push_str("  ");
            line.push_str(before);
            line.push_str(cell);
            line.push_str(after);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::{Job, JobState};

    #[test]
    fn terminals_are_told_nothing() {
        let table = aligned(&[["a\x1b[31mred".to_owned(), "ä\u{85}".to_owned()]], &[false, false]);
        assert_eq!(table, "  a\\u{1b}[31mred  ä\\u{85}\n");
    }

    #[test]
    fn stages_are_listed_with_what_they_did() {
        let stage = |index, inputs, plan: &str| Stage {
            index,
            inputs,
            plan: plan.to_owned(),
            tasks: 4,
            tasks_done: 4,
            rows: 12_345,
            bytes: 2 << 20,
            elapsed_us: 15_000,
            task_us: 52_000,
            ..Stage::default()
        };
        let job = JobDetail {
            summary: Job { job: "job-000007".parse().unwrap(), state: JobState::Finished, ..Job::default() },
            stage_details: vec![
                stage(0, vec![], "ExchangeWriteExec: hash\n  AggregateExec: mode=Partial\n    DataSourceExec: x"),
                stage(1, vec![0], "AggregateExec: mode=Final\n  ExchangeReadExec: 0"),
            ],
            submission: None,
        };
        assert_eq!(
            table(&job),
            "\
job-000007 finished
  stage  reads  operators                               tasks    rows     bytes     time      cpu
  0      -      ExchangeWrite < Aggregate < DataSource      4  12,345  2.00 MiB  15.0 ms  52.0 ms
  1      0      Aggregate < ExchangeRead                    4  12,345  2.00 MiB  15.0 ms  52.0 ms
"
        );
    }
}

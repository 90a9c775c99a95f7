//! `windlass submit` and `windlass jobs`.

use super::arguments::{Jobs, JobsCommand, Submit};
use super::output::Format;
use super::progress::count;
use super::script::{self, Source};
use super::stages::{self, aligned, one_line};
use super::{Failure, Outcome, sql};
use crate::config::units::{ByteSize, Span};
use crate::jobs::{Job, JobDetail, JobId, JobState, Submission};
use crate::params::Params;
use crate::{Client, Session};
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use windlass_engine::programs::run_program_sql;

/// Where programs lie that were submitted, each in a folder of its own with what it prints.
const PROGRAMS: &str = "/system/programs/";
/// Maximum pause between two polls of a job.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub async fn submit(command: Submit) -> Outcome {
    if command.file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("py")) {
        return submit_program(command).await;
    }
    if !command.args.is_empty() {
        return Err(Failure::Usage("arguments after '--' are for programs, whose names end in .py".to_owned()));
    }
    let source = sql::read(&command.file)?;
    let name = command.name.unwrap_or_else(|| default_name(&source, &command.file));
    let text = source.text.clone();
    if script::parse(&[source], &Params::default())?.is_empty() {
        return Err(Failure::Usage(format!("{} has no statement", command.file.display())));
    }
    let session = Client::connect_with_token(&command.url, command.token).await?;
    let job = session.submit(&text, &name, &command.set).await?;
    super::print(&format!("{job}\n"))
}

/// Puts a program into the cluster's files, and submits it. Its output is kept beside it.
async fn submit_program(command: Submit) -> Outcome {
    let Some(name) = command.file.file_name().map(|name| name.to_string_lossy().into_owned()) else {
        return Err(Failure::Usage(format!("{} is no file", command.file.display())));
    };
    let session = Client::connect_with_token(&command.url, command.token).await?;
    let folder = format!("{PROGRAMS}{}", uuid::Uuid::new_v4());
    let program = format!("{folder}/{name}");
    super::fs::upload(&session, &command.file, &folder, &program).await?;
    let mut set = command.set;
    set.push(("windlass.program_log".to_owned(), format!("wfs://{folder}/output/")));
    let statement = run_program_sql(&format!("wfs://{program}"), &command.args);
    let job = session.submit(&statement, &command.name.unwrap_or(name), &set).await?;
    eprintln!("what it prints is in wfs://{folder}/output/: windlass fs cat '{folder}/output/*'");
    super::print(&format!("{job}\n"))
}

fn default_name(source: &Source, file: &Path) -> String {
    file.file_stem().map_or_else(|| source.name.clone(), |stem| stem.to_string_lossy().into_owned())
}

pub async fn run(command: Jobs) -> Outcome {
    let Some(url) = command.url else {
        return Err(Failure::Usage("jobs live on a cluster: name it with --url or WINDLASS_URL".to_owned()));
    };
    let session = Client::connect_with_token(&url, command.token).await?;
    let json = command.json;
    match command.command.unwrap_or(JobsCommand::List { limit: 20, all: false }) {
        JobsCommand::List { limit, all } => {
            let jobs = if all { session.all_jobs(limit).await? } else { session.jobs(limit).await? };
            if json { print_json(&jobs) } else { super::print(&list(&jobs)) }
        }
        JobsCommand::Show { job, plan } => {
            let detail = session.job(job).await?;
            if json {
                return print_json(&detail);
            }
            super::print(&show(&detail, plan))?;
            for part in detail.submission.iter().flat_map(|submission| &submission.jobs) {
                // A job that ended long ago has nothing to show.
                if let Ok(detail) = session.job(part.job).await {
                    super::print(&format!("\nstatement {}\n{}", part.statement, show(&detail, plan)))?;
                }
            }
            Ok(())
        }
        JobsCommand::Cancel { job } => {
            let state = session.cancel_job(job).await?;
            if json {
                return print_json(&serde_json::json!({"job": job, "state": state}));
            }
            super::print(&format!("{job} {state}\n"))
        }
        JobsCommand::Wait { job } => {
            let ended = wait(&session, job).await?;
            if json {
                print_json(&ended)?;
            } else {
                super::print(&format!("{job} {}\n", ended.state))?;
            }
            match ended.state {
                JobState::Finished => Ok(()),
                _ => Err(Failure::Failed(format!("{job}: {}", ended.error))),
            }
        }
        JobsCommand::Logs { job } => {
            let lines = session.job_logs(job).await?;
            if json {
                print_json(&lines)
            } else {
                super::print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>())?;
                match output_of(&session.job(job).await?.summary.statement) {
                    Some(folder) => super::fs::print_all(&session, &folder).await,
                    None => Ok(()),
                }
            }
        }
    }
}

/// Returns the folder of what a submitted program prints.
fn output_of(statement: &str) -> Option<String> {
    let (_, rest) = statement.split_once(&format!("'wfs://{PROGRAMS}"))?;
    let (id, _) = rest.split_once('/')?;
    uuid::Uuid::parse_str(id).ok().map(|id| format!("{PROGRAMS}{id}/output/"))
}

async fn wait(session: &Session, job: JobId) -> Result<Job, Failure> {
    let mut pause = Duration::from_millis(10);
    loop {
        let job = session.job(job).await?.summary;
        if job.has_ended() {
            return Ok(job);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

pub fn print_json<T: Serialize>(value: &T) -> Outcome {
    match serde_json::to_string_pretty(value) {
        Ok(text) => super::print(&format!("{text}\n")),
        Err(e) => Err(Failure::Failed(format!("cannot write the answer as {:?}: {e}", Format::Json))),
    }
}

fn list(jobs: &[Job]) -> String {
    if jobs.is_empty() {
        return "no jobs\n".to_owned();
    }
    let mut rows = vec![["job", "state", "name", "submitted", "took", "tasks", "rows", "bytes"].map(str::to_owned)];
    for job in jobs {
        rows.push([
            job.job.to_string(),
            job.state.to_string(),
            one_line(if job.name.is_empty() { &job.statement } else { &job.name }),
            ago(job.submitted_ms),
            took(job),
            format!("{}/{}", job.tasks_done, job.tasks),
            count(job.rows),
            ByteSize::human(job.bytes),
        ]);
    }
    aligned(&rows, &[false, false, false, false, true, true, true, true])
}

fn show(detail: &JobDetail, plan: bool) -> String {
    let job = &detail.summary;
    let mut out = match &detail.submission {
        None => stages::table(detail),
        Some(Submission { statements, statement, .. }) => {
            format!("{} {}: statement {statement} of {statements}\n", job.job, job.state)
        }
    };
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            out.push_str(&format!("{name:<10} {}\n", value.trim_end().replace('\n', "\n           ")));
        }
    };
    line("name", &one_line(&job.name));
    line("user", &job.user);
    line("part of", &job.part_of.map_or_else(String::new, |job| job.to_string()));
    line("submitted", &ago(job.submitted_ms));
    line("took", &took(job));
    line("statement", &job.statement);
    line("error", &job.error);
    for stage in detail.stage_details.iter().filter(|_| plan) {
        out.push_str(&format!("\nstage {}\n", stage.index));
        out.extend(stage.plan.lines().map(|operator| format!("  {operator}\n")));
    }
    out
}

fn took(job: &Job) -> String {
    match (job.submitted_ms, job.ended_ms) {
        (0, _) => "-".to_owned(),
        (from, 0) => Span::human(Duration::from_millis(now_ms().saturating_sub(from))),
        (from, to) => Span::human(Duration::from_millis(to.saturating_sub(from))),
    }
}

fn ago(then_ms: u64) -> String {
    match then_ms {
        0 => "-".to_owned(),
        then => format!("{} ago", Span::human(Duration::from_millis(now_ms().saturating_sub(then)))),
    }
}

fn now_ms() -> u64 {
    // With a clock before 1970, jobs appear as just submitted.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

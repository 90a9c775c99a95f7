//! Runs the scripts in `scenarios/`: events of a small cluster, and what the scheduling machine must answer to each.
//!
//! A script is a list of blocks: commands, a line `----`, the expected output, an empty line. `UPDATE_SCENARIOS=1 cargo test -p
//! windlass-core --test scenarios` writes the outputs that the machine gives; read them before they are committed.
//!
//! ```text
//! config locality_wait=30ms pool.etl=weight:3,min:2      before everything else
//! join e1 slots=2 host=a name=x kept=j1/0,j1/1          with outputs of these stages, from before it lost its leader
//! heartbeat e1 | gone e1 why | drain e1 | release j1 | cancel j1 why | status
//! submit j1 pool=etl user=ann priority=1 max_attempts=2 timeout=10s
//!   stage tasks=2 buckets=2 limit=10 hosts=a+b,c affinity=7,8
//!   stage tasks=2 reads=0:bucket,1:all
//! submit j1 light                                         does little: it may run beside full slots
//! submit j1 takeovers=1                                   as an earlier leader began it
//!   stage tasks=2 kept=0#0@e1:5:30,1#1@e2:0:0             finished then, with these outputs: where, rows, bytes
//! finish j1/0/0#0 j1/0/1#0 rows=5 bytes=10,20 [by=e2]     from the executor that got the attempt, unless by= names another
//! fail j1/0/0#0 io|oom|disk|user|defect|internal|cancelled|fetch(j1/0/0#0@e1) [by=e2]
//! moved e1 j1/0/0#0 j1/0/1#0 | unmoved e1 j1/0/0#0 why    what e1 was told to adopt
//! advance 6s [silent=e1,e2]                               members that are not silent send heartbeats every 2 s
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use windlass_core::event::{Command, Event, ExecutorSpec, Fact, Outcome, Output, Persist, Reply, Role};
use windlass_core::failure::TaskFailure;
use windlass_core::ids::{AttemptId, ExecutorId, JobId, PlanHash, StageId};
use windlass_core::job::{
    Earlier, FinishedOutput, FinishedStage, JobSpec, MapLocation, Once, Preference, Read, StageInput, StageSpec,
    Takeovers, Terms,
};
use windlass_core::scheduler::{ExecutorState, PoolConfig, PoolOrder, Scheduler, SchedulerConfig, SpeculationConfig};
use windlass_core::time::Instant;

#[test]
fn scenarios() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    let mut failed = Vec::new();
    for path in paths {
        let script = std::fs::read_to_string(&path).unwrap();
        let replayed = replay(&script);
        if std::env::var_os("UPDATE_SCENARIOS").is_some() {
            std::fs::write(&path, replayed).unwrap();
        } else if script != replayed {
            failed.push(format!("{}:\n{}", path.display(), first_difference(&script, &replayed)));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn first_difference(expected: &str, actual: &str) -> String {
    let line = expected.lines().zip(actual.lines()).take_while(|(e, a)| e == a).count();
    let excerpt = |text: &str| text.lines().skip(line).take(8).map(|l| format!("    {l}\n")).collect::<String>();
    format!("  from line {} on, expected\n{}  but got\n{}", line + 1, excerpt(expected), excerpt(actual))
}

/// The script with the outputs that the machine gives.
fn replay(script: &str) -> String {
    let mut text = String::new();
    let mut cluster = Cluster::default();
    let mut lines = script.lines().peekable();
    while let Some(line) = lines.next() {
        text.push_str(line);
        text.push('\n');
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let mut block = vec![line];
        while let Some(line) = lines.next_if(|line| *line != "----" && !line.is_empty()) {
            text.push_str(line);
            text.push('\n');
            block.push(line);
        }
        if lines.next_if_eq(&"----").is_some() {
            while lines.next_if(|line| !line.is_empty()).is_some() {}
        }
        let output = cluster.run(&block);
        writeln!(text, "----\n{}", if output.is_empty() { "(nothing)\n" } else { &output }.trim_end()).unwrap();
    }
    text
}

#[derive(Default)]
struct Cluster {
    config: SchedulerConfig,
    scheduler: Option<Scheduler>,
    now: Instant,
    /// Who got each attempt.
    executors: BTreeMap<AttemptId, ExecutorId>,
    log: String,
}

impl Cluster {
    fn run(&mut self, block: &[&str]) -> String {
        let mut lines = block.iter().peekable();
        while let Some(line) = lines.next() {
            let mut words = line.split_whitespace();
            let command = words.next().unwrap();
            let words: Vec<_> = words.collect();
            if command == "submit" {
                let mut stages = Vec::new();
                while let Some(line) = lines.next_if(|line| line.starts_with("  stage")) {
                    stages.push(line.split_whitespace().skip(1).collect());
                }
                self.submit(&words, stages);
            } else {
                self.command(command, &words);
            }
        }
        std::mem::take(&mut self.log)
    }

    fn command(&mut self, command: &str, words: &[&str]) {
        let first = words.first().copied().unwrap_or_default();
        let rest = || words[1..].join(" ");
        match command {
            "config" => self.configure(words),
            "join" => self.join(words),
            "heartbeat" => self.step(Event::Heartbeat { executor: executor(first) }),
            "gone" => self.step(Event::ExecutorGone { executor: executor(first), reason: rest() }),
            "drain" => self.step(Event::ExecutorDraining { executor: executor(first) }),
            "cancel" => self.step(Event::JobCancelled { job: job(first), reason: rest() }),
            "release" => self.step(Event::JobReleased { job: job(first) }),
            "finish" => {
                let rows = option(words, "rows").map_or(0, |rows| rows.parse().unwrap());
                let bytes = option(words, "bytes").map_or_else(Vec::new, |b| list(b, |b| b.parse().unwrap()));
                self.end(words, &Outcome::Finished { rows, bucket_bytes: bytes });
            }
            "fail" => {
                let kind = words.iter().find(|word| !word.contains("=") && !word.starts_with('j')).unwrap();
                self.end(words, &Outcome::Failed(failure(kind)));
            }
            "moved" => {
                let moved = words[1..].iter().map(|word| attempt(word)).collect();
                self.step(Event::OutputsMoved { executor: executor(first), moved, failed: vec![] });
            }
            "unmoved" => {
                let failed = vec![(attempt(words[1]), words[2..].join(" "))];
                self.step(Event::OutputsMoved { executor: executor(first), moved: vec![], failed });
            }
            "advance" => self.advance(words),
            "status" => self.status(),
            other => panic!("no such command: {other}"),
        }
    }

    fn configure(&mut self, words: &[&str]) {
        assert!(self.scheduler.is_none(), "config comes first");
        for (key, value) in words.iter().map(|word| word.split_once('=').unwrap()) {
            match key {
                "hand_back_after" => self.config.hand_back_after = duration(value),
                "speculate" => {
                    let [quantile, multiplier, after] = value.split(',').collect::<Vec<_>>()[..] else {
                        panic!("{value}")
                    };
                    let [quantile, multiplier] = [quantile, multiplier].map(|number| number.parse().unwrap());
                    self.config.speculation = Some(SpeculationConfig { quantile, multiplier, after: duration(after) });
                }
                "locality_wait" => self.config.locality_wait = duration(value),
                "exclude_after" => self.config.exclude_after = value.parse().unwrap(),
                "max_recomputes" => self.config.max_recomputes = value.parse().unwrap(),
                "max_uncounted_retries" => self.config.max_uncounted_retries = value.parse().unwrap(),
                "max_queued_jobs_per_user" => self.config.max_queued_jobs_per_user = Some(value.parse().unwrap()),
                "max_job_time" => self.config.max_job_time = Some(duration(value)),
                "max_queued_jobs" => self.config.max_queued_jobs = Some(value.parse().unwrap()),
                _ => {
                    let mut pool = PoolConfig::default();
                    for (key, value) in value.split(',').map(|part| part.split_once(':').unwrap()) {
                        match key {
                            "weight" => pool.weight = value.parse().unwrap(),
                            "min" => pool.min_share = value.parse().unwrap(),
                            "order" => pool.order = if value == "fifo" { PoolOrder::Fifo } else { PoolOrder::Fair },
                            other => panic!("no such pool setting: {other}"),
                        }
                    }
                    self.config.pools.insert(key.strip_prefix("pool.").unwrap().to_string(), pool);
                }
            }
        }
    }

    fn scheduler(&mut self) -> &mut Scheduler {
        self.scheduler.get_or_insert_with(|| Scheduler::new(self.config.clone()))
    }

    fn join(&mut self, words: &[&str]) {
        let id = executor(words[0]);
        let text = |key, default: &str| option(words, key).unwrap_or(default).to_string();
        self.step(Event::ExecutorJoined(ExecutorSpec {
            id,
            name: text("name", words[0]),
            host: text("host", words[0]),
            rack: "rack".to_string(),
            role: Role::Task,
            slots: text("slots", "1").parse().unwrap(),
            memory_bytes: text("memory", "100").parse().unwrap(),
            program_memory_bytes: text("program_memory", "1").parse().unwrap(),
            kept: option(words, "kept").map_or_else(Vec::new, |stages| list(stages, stage)),
        }));
    }

    fn submit(&mut self, words: &[&str], stages: Vec<Vec<&str>>) {
        let earlier = option(words, "takeovers").map(|takeovers| Earlier {
            takeovers: Takeovers(takeovers.parse().unwrap()),
            stages: (0..).zip(&stages).filter_map(|(stage, words)| kept_stage(stage, words)).collect(),
        });
        let stages = stages.iter().map(|words| stage_spec(words)).collect();
        self.step(Event::JobSubmitted(Arc::new(JobSpec {
            id: job(words[0]),
            stages,
            terms: Terms {
                pool: option(words, "pool").unwrap_or("default").to_string(),
                user: option(words, "user").unwrap_or("").to_string(),
                priority: option(words, "priority").map_or(0, |n| n.parse().unwrap()),
                max_attempts: option(words, "max_attempts").map_or(4, |n| n.parse().unwrap()),
                timeout: option(words, "timeout").map(duration),
                ..Terms::default()
            },
            light: words.contains(&"light"),
            statement: option(words, "statement").map(Into::into),
            earlier,
        })));
    }

    fn end(&mut self, words: &[&str], outcome: &Outcome) {
        let by = option(words, "by").map(executor);
        for attempt in words.iter().filter(|word| word.starts_with('j')).map(|word| attempt(word)) {
            let executor = by.unwrap_or_else(|| self.executors[&attempt]);
            self.step(Event::TaskEnded { executor, attempt, outcome: outcome.clone() });
        }
    }

    fn advance(&mut self, words: &[&str]) {
        let end = self.now + duration(words[0]);
        let silent = option(words, "silent").map_or_else(Vec::new, |names| list(names, executor));
        let mut heartbeat = self.now + Duration::from_secs(2);
        loop {
            let deadline = self.scheduler().next_deadline().filter(|&at| at < heartbeat);
            let next = deadline.unwrap_or(heartbeat);
            if next > end {
                break;
            }
            self.now = next;
            if deadline.is_some() {
                self.step(Event::Tick);
            } else {
                let members: Vec<_> = self.scheduler().executors().map(|e| e.spec.id).collect();
                for executor in members.into_iter().filter(|id| !silent.contains(id)) {
                    self.step(Event::Heartbeat { executor });
                }
                heartbeat = heartbeat + Duration::from_secs(2);
            }
        }
        self.now = end;
    }

    fn step(&mut self, event: Event) {
        let timed = matches!(event, Event::Tick);
        let now = self.now;
        let output = self.scheduler().step(now, event);
        if timed && output != Output::default() {
            writeln!(self.log, "at {} s:", now.0 as f64 / 1e6).unwrap();
        }
        self.write(output);
    }

    fn write(&mut self, output: Output) {
        for fact in output.facts {
            let line = match fact {
                Fact::ExecutorJoined { executor } => format!("joined {}", e(executor)),
                Fact::ExecutorExcluded { executor, failures } => {
                    format!("excluded {} after {failures} failures", e(executor))
                }
                Fact::ExecutorReadmitted { executor } => format!("readmitted {}", e(executor)),
                Fact::ExecutorLost { executor, reason } => format!("lost {}: {reason}", e(executor)),
                Fact::JobStarted { job } => format!("started j{}", job.0),
                Fact::JobEnded { job, error: None } => format!("ended j{}", job.0),
                Fact::JobEnded { job, error: Some(_) } => format!("ended j{} with an error", job.0),
                Fact::StageStarted { stage } => format!("started {}", s(stage)),
                Fact::StageFinished { stage, rows, bytes } => {
                    format!("finished {}: {rows} rows, {bytes} bytes", s(stage))
                }
                Fact::StageReopened { stage, partitions } => format!("reopened {}: {partitions:?}", s(stage)),
                // The launch says the same.
                Fact::TaskStarted { .. } => continue,
                Fact::TaskCommitted { attempt, executor, .. } => format!("committed {} on {}", a(attempt), e(executor)),
                Fact::TaskFailed { attempt, executor, failure } => {
                    format!("failed {} on {}: {}", a(attempt), e(executor), failure.kind())
                }
                Fact::TaskSpeculated { attempt, executor } => format!("speculates {} on {}", a(attempt), e(executor)),
                Fact::OutputTakenOver { output, executor, .. } => format!("took over {} on {}", a(output), e(executor)),
                Fact::StageTakenOver { stage, outputs, rows, bytes } => {
                    format!("{} has {outputs} outputs left: {rows} rows, {bytes} bytes", s(stage))
                }
                Fact::OutputMoved { output, from, to } => format!("moved {} from {} to {}", a(output), e(from), e(to)),
                Fact::OutputNotMoved { output, from, to, reason } => {
                    format!("{} stays on {}, not moved to {}: {reason}", a(output), e(from), e(to))
                }
                Fact::ReportFenced { attempt, executor } => format!("fenced {} of {}", a(attempt), e(executor)),
            };
            writeln!(self.log, "{line}").unwrap();
        }
        for persist in output.persist {
            let line = match persist {
                Persist::Stage { statement, stage } => format!("save {} for {statement}", s(stage)),
                Persist::Forget { statement, .. } => format!("forget {statement}"),
            };
            writeln!(self.log, "  store: {line}").unwrap();
        }
        for (executor, command) in output.send {
            let order = match command {
                Command::Launch(launch) => {
                    let task = |&(p, n): &(u32, u32)| launch.stage.task(p).attempt(n);
                    self.executors.extend(launch.attempts.iter().map(|a| (task(a), executor)));
                    let attempts: Vec<_> = launch.attempts.iter().map(|(p, n)| format!("{p}#{n}")).collect();
                    let inputs: String =
                        launch.inputs.iter().map(|input| format!(" <- [{}]", locations(input))).collect();
                    format!("launch {} {}{inputs}", s(launch.stage), attempts.join(" "))
                }
                Command::Cancel { attempts } => {
                    format!("cancel {}", attempts.into_iter().map(a).collect::<Vec<_>>().join(" "))
                }
                Command::DropOutputs { stages } => {
                    format!("drop {}", stages.into_iter().map(s).collect::<Vec<_>>().join(" "))
                }
                Command::AdoptOutputs { outputs, from } => {
                    format!("adopt {} from {}", outputs.into_iter().map(a).collect::<Vec<_>>().join(" "), e(from))
                }
                Command::Farewell => "farewell".to_string(),
            };
            writeln!(self.log, "  -> {}: {order}", e(executor)).unwrap();
        }
        for reply in output.reply {
            match reply {
                Reply::JobFinished { job, outputs } => {
                    writeln!(self.log, "  => j{} finished: [{}]", job.0, locations(&outputs)).unwrap();
                }
                Reply::JobFailed { job, error } => writeln!(self.log, "  => j{} failed: {error}", job.0).unwrap(),
            }
        }
    }

    fn status(&mut self) {
        let scheduler = self.scheduler.as_ref().unwrap();
        for executor in scheduler.executors() {
            let state = match executor.state {
                ExecutorState::Live => "live",
                ExecutorState::Draining { .. } => "draining",
                ExecutorState::Leaving => "leaving",
            };
            let (id, running, slots) = (e(executor.spec.id), executor.running, executor.spec.slots);
            writeln!(self.log, "{id} {state}: {running}/{slots} slots, {} outputs", executor.outputs).unwrap();
        }
        for stage in scheduler.jobs().flat_map(|job| job.stages) {
            let state = format!("{:?}", stage.state).to_lowercase();
            write!(self.log, "{} {state}: {} pending, {} running", s(stage.id), stage.pending, stage.running).unwrap();
            writeln!(self.log, ", {} committed, {} spared, {} lost", stage.committed, stage.spared, stage.lost)
                .unwrap();
        }
    }
}

fn stage_spec(words: &[&str]) -> StageSpec {
    let number = |key, default| option(words, key).map_or(default, |n| n.parse().unwrap());
    let hosts =
        option(words, "hosts").map_or_else(Vec::new, |h| list(h, |h| h.split('+').map(str::to_string).collect()));
    let affinity = option(words, "affinity").map_or_else(Vec::new, |a| list(a, |a| a.parse().unwrap()));
    let wishes = hosts.len().max(affinity.len());
    let preference = |i: usize| Preference {
        hosts: hosts.get(i).cloned().unwrap_or_default(),
        affinity: affinity.get(i).copied().unwrap_or_default(),
        executors: Vec::new(),
    };
    let input = |text: &str| {
        let (stage, read) = text.split_once(':').unwrap();
        let read = if read == "all" { Read::All } else { Read::Bucket };
        StageInput { stage: stage.parse().unwrap(), read }
    };
    StageSpec {
        plan: PlanHash(0),
        tasks: number("tasks", 1),
        buckets: number("buckets", 1),
        inputs: option(words, "reads").map_or_else(Vec::new, |reads| list(reads, input)),
        preferences: (0..wishes).map(preference).collect(),
        row_limit: option(words, "limit").map(|n| n.parse().unwrap()),
        once: words.contains(&"once").then(|| Once { memory_bytes: number("memory", 0).into() }),
    }
}

fn kept_stage(stage: u32, words: &[&str]) -> Option<FinishedStage> {
    let output = |text: &str| {
        let [location, rows, bytes] = text.split(':').collect::<Vec<_>>()[..] else { panic!("{text}") };
        let (name, holder) = location.split_once('@').unwrap();
        let (partition, attempt) = name.split_once('#').unwrap();
        let [partition, attempt] = [partition, attempt].map(|number| number.parse().unwrap());
        let location = MapLocation { partition, attempt, executor: executor(holder) };
        FinishedOutput { location, rows: rows.parse().unwrap(), bytes: bytes.parse().unwrap() }
    };
    Some(FinishedStage { stage, outputs: list(option(words, "kept")?, output) })
}

fn failure(kind: &str) -> TaskFailure {
    let message = "told by the script".to_string();
    match kind {
        "io" => TaskFailure::Io { message },
        "oom" => TaskFailure::OutOfMemory { message },
        "disk" => TaskFailure::DiskFull { message },
        "user" => TaskFailure::UserError { message: "division by zero".to_string() },
        "defect" => TaskFailure::Defect { message },
        "internal" => TaskFailure::Internal { message },
        "cancelled" => TaskFailure::Cancelled,
        fetch => {
            let (output, holder) = fetch.strip_prefix("fetch(").unwrap().trim_end_matches(')').split_once('@').unwrap();
            TaskFailure::FetchFailed { output: attempt(output), executor: executor(holder), message }
        }
    }
}

fn option<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn list<T>(text: &str, parse: impl Fn(&str) -> T) -> Vec<T> {
    text.split(',').map(parse).collect()
}

fn duration(text: &str) -> Duration {
    match text.strip_suffix("ms") {
        Some(ms) => Duration::from_millis(ms.parse().unwrap()),
        None => Duration::from_secs(text.strip_suffix('s').unwrap().parse().unwrap()),
    }
}

fn executor(name: &str) -> ExecutorId {
    ExecutorId(name.strip_prefix('e').unwrap().parse().unwrap())
}

fn job(name: &str) -> JobId {
    JobId(name.strip_prefix('j').unwrap().parse().unwrap())
}

fn stage(name: &str) -> StageId {
    let (of, index) = name.split_once('/').unwrap();
    job(of).stage(index.parse().unwrap())
}

fn attempt(name: &str) -> AttemptId {
    let (task, number) = name.split_once('#').unwrap();
    let mut parts = task.split('/');
    let mut next = || parts.next().unwrap();
    job(next()).stage(next().parse().unwrap()).task(next().parse().unwrap()).attempt(number.parse().unwrap())
}

fn e(id: ExecutorId) -> String {
    format!("e{}", id.0)
}

fn s(id: StageId) -> String {
    format!("j{}/{}", id.job.0, id.index)
}

fn a(id: AttemptId) -> String {
    format!("{}/{}#{}", s(id.stage()), id.task.partition, id.attempt)
}

fn locations(locations: &[MapLocation]) -> String {
    let location = |l: &MapLocation| format!("{}#{}@{}", l.partition, l.attempt, e(l.executor));
    locations.iter().map(location).collect::<Vec<_>>().join(" ")
}

//! Scheduling rate of one core: 1,000 executors of 8 slots, 200 jobs, and ten times as many tasks in the second run of each kind.
//!
//! A transition is a start or a commit of a task. Time is processor time, including the creation of events; memory is the growth of the process's resident set
//! from the empty machine to the last submitted job. The cost of a transition must not grow with the number of tasks. `make bench`, or `windlass-bench
//! scheduler`

use std::sync::Arc;
use std::time::Instant as Clock;
use windlass_core::event::{Command, Event, ExecutorSpec, Fact, Outcome, Output, Role};
use windlass_core::ids::{AttemptId, ExecutorId, JobId, PlanHash};
use windlass_core::job::{JobSpec, Preference, Read, StageInput, StageSpec, Terms};
use windlass_core::scheduler::{Scheduler, SchedulerConfig};
use windlass_core::time::Instant;

const EXECUTORS: u64 = 1_000;
const SLOTS: u32 = 8;
const JOBS: u64 = 200;

const CASE: &str = "WINDLASS_BENCH_CASE";
const WISHES: [(&str, Wish); 3] = [("none", Wish::None), ("affinity", Wish::Affinity), ("hosts", Wish::Hosts)];

/// Preferences of scan tasks.
#[derive(Clone, Copy, PartialEq)]
enum Wish {
    None,
    Affinity,
    Hosts,
}

pub fn run() {
    // Each measurement has its own process, because memory that was freed does not show when it is used again.
    if let Ok(case) = std::env::var(CASE) {
        let (wish, tasks) = case.split_once(' ').expect("set below");
        let wish = WISHES.into_iter().find(|(name, _)| *name == wish).expect("set below").1;
        let run = measure(tasks.parse().expect("set below"), wish);
        let ns = run.nanos as f64 / run.transitions as f64;
        println!("{case:<20} {:>14.0} {ns:>14.0} {:>12.0}", 1e9 / ns, run.bytes_per_task);
        return;
    }
    println!("{EXECUTORS} executors of {SLOTS} slots, {JOBS} jobs");
    println!("{:<20} {:>14} {:>14} {:>12}", "wishes, tasks", "transitions/s", "ns/transition", "bytes/task");
    let this = std::env::current_exe().expect("the path of this benchmark");
    for (name, _) in WISHES {
        for tasks in [20_000, 200_000] {
            let status =
                std::process::Command::new(&this).arg("scheduler").env(CASE, format!("{name} {tasks}")).status();
            assert!(status.is_ok_and(|status| status.success()), "{name} {tasks} failed");
        }
    }
}

struct Run {
    transitions: u64,
    nanos: u64,
    bytes_per_task: f64,
}

fn measure(tasks: u64, wish: Wish) -> Run {
    let mut scheduler = Scheduler::new(SchedulerConfig::default());
    let mut cluster = Cluster { running: Vec::with_capacity(tasks as usize), transitions: 0, finished: Vec::new() };
    let specs: Vec<_> = (0..JOBS).map(|id| Arc::new(job(id, (tasks / JOBS) as u32, wish))).collect();
    let mut output = Output::default();
    let mut now = Instant(0);
    for id in 0..EXECUTORS {
        scheduler.step_into(now, Event::ExecutorJoined(executor(id)), &mut output);
    }
    let before = resident_bytes();
    let clock = Clock::now();
    let started = processor_nanos();
    for spec in specs {
        scheduler.step_into(now, Event::JobSubmitted(spec), &mut output);
        cluster.take(&mut output);
    }
    let bytes_per_task = (resident_bytes() - before) as f64 / tasks as f64;

    let mut random = 1u64;
    while !cluster.running.is_empty() {
        now = Instant(clock.elapsed().as_micros() as u64);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (executor, attempt) = cluster.running.swap_remove((random >> 33) as usize % cluster.running.len());
        let outcome = Outcome::Finished { rows: 1_000, bucket_bytes: vec![4_096; 16] };
        scheduler.step_into(now, Event::TaskEnded { executor, attempt, outcome }, &mut output);
        cluster.take(&mut output);
        for job in std::mem::take(&mut cluster.finished) {
            scheduler.step_into(now, Event::JobReleased { job }, &mut output);
        }
        if scheduler.next_deadline().is_some_and(|at| at <= now) {
            // Executors without tasks send nothing but this.
            for id in 0..EXECUTORS {
                scheduler.step_into(now, Event::Heartbeat { executor: ExecutorId(id) }, &mut output);
            }
            scheduler.step_into(now, Event::Tick, &mut output);
            cluster.take(&mut output);
        }
    }
    let nanos = processor_nanos() - started;
    assert_eq!(cluster.transitions, 2 * tasks, "every task starts once and commits once");
    Run { transitions: cluster.transitions, nanos, bytes_per_task }
}

struct Cluster {
    running: Vec<(ExecutorId, AttemptId)>,
    transitions: u64,
    finished: Vec<JobId>,
}

impl Cluster {
    fn take(&mut self, output: &mut Output) {
        for (executor, command) in output.send.drain(..) {
            if let Command::Launch(launch) = command {
                let attempts = launch.attempts.iter().map(|&(p, a)| (executor, launch.stage.task(p).attempt(a)));
                self.running.extend(attempts);
            }
        }
        for fact in output.facts.drain(..) {
            match fact {
                Fact::TaskStarted { .. } | Fact::TaskCommitted { .. } => self.transitions += 1,
                Fact::JobEnded { job, .. } => self.finished.push(job),
                _ => {}
            }
        }
        output.reply.clear();
    }
}

/// A job of a scan, a shuffle and an aggregate: 60 %, 30 % and 10 % of the tasks.
fn job(id: u64, tasks: u32, wish: Wish) -> JobSpec {
    let (reducers, last) = (tasks * 3 / 10, tasks / 10);
    let scans = tasks - reducers - last;
    let preference = |p: u32| match wish {
        Wish::None => Preference::default(),
        Wish::Affinity => Preference { affinity: id << 32 | u64::from(p + 1), ..Preference::default() },
        Wish::Hosts => Preference {
            hosts: (0..3).map(|replica| host(u64::from(p) * 7 + id * 13 + replica * 101)).collect(),
            ..Preference::default()
        },
    };
    let stage = |tasks: u32, buckets: u32, inputs: Vec<StageInput>| StageSpec {
        plan: PlanHash(u128::from(id)),
        tasks,
        buckets,
        inputs,
        preferences: Vec::new(),
        row_limit: None,
        once: None,
    };
    let mut scan = stage(scans, reducers, Vec::new());
    if wish != Wish::None {
        scan.preferences = (0..scans).map(preference).collect();
    }
    let reduce = stage(reducers, last, vec![StageInput { stage: 0, read: Read::Bucket }]);
    let aggregate = stage(last, 1, vec![StageInput { stage: 1, read: Read::Bucket }]);
    let pool = format!("pool{}", id % 4);
    JobSpec {
        id: JobId(id),
        stages: vec![scan, reduce, aggregate],
        terms: Terms { pool, ..Terms::default() },
        light: false,
        statement: None,
        earlier: None,
    }
}

fn executor(id: u64) -> ExecutorSpec {
    ExecutorSpec {
        id: ExecutorId(id),
        name: format!("executor{id}"),
        host: host(id),
        rack: "rack".to_string(),
        role: Role::Task,
        slots: SLOTS,
        memory_bytes: 1 << 34,
        program_memory_bytes: 1 << 30,
        kept: Vec::new(),
    }
}

fn host(id: u64) -> String {
    format!("host{}", id % EXECUTORS)
}

fn resident_bytes() -> i64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: i64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * 4_096
}

/// Processor time of the only thread, so that other processes on the machine do not count.
fn processor_nanos() -> u64 {
    let schedstat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    schedstat.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default()
}

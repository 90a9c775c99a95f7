//! `windlass cluster`: a cluster of processes on this machine.

mod process;
pub mod provision;
mod state;

use super::arguments::{Add, Cluster, Decommission, Down, Status, Up, Url};
use super::jobs::print_json;
use super::serve::Ready;
use super::stages::{aligned, several};
use super::{Failure, Outcome};
use crate::cli::arguments::Role;
use crate::config::units::{ByteSize, Span};
use crate::config::{check, machine};
use crate::jobs::ClusterStatus;
use crate::{Client, Session};
use process::{Process, Started};
use state::{Executor, Primary, State};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Time limit for a cluster to come up. Normally it takes well under a second.
const UP_DEADLINE: Duration = Duration::from_secs(30);
/// Time for executors to leave in order, and then for the primary.
const DOWN_PATIENCE: Duration = Duration::from_secs(5);

pub async fn run(command: Cluster, config: Option<&Path>) -> Outcome {
    match command {
        Cluster::Up(command) => until_interrupted(up(command, config)).await,
        Cluster::Add(command) => until_interrupted(add(command)).await,
        Cluster::Down(command) => down(command).await,
        Cluster::Status(command) => status(command).await,
        Cluster::Url(command) => url(&command),
    }
}

/// Interval at which a command that waits for executors to leave checks.
const LOOK: Duration = Duration::from_millis(200);

/// Runs `windlass executor decommission`.
pub async fn decommission(command: Decommission) -> Outcome {
    let session = Client::connect_with_token(&command.url, command.token).await?;
    let mut leaving = Vec::new();
    for wanted in &command.executors {
        leaving.push((session.decommission(wanted).await?, wanted));
    }
    while !command.no_wait && !leaving.is_empty() {
        let there = session.status().await?.executors;
        let left = leaving.extract_if(.., |(id, _)| !there.iter().any(|executor| executor.id == *id));
        for (_, name) in left {
            super::print(&format!("{name} has left\n"))?;
        }
        tokio::time::sleep(LOOK).await;
    }
    leaving.iter().try_for_each(|(_, name)| super::print(&format!("{name} is leaving\n")))
}

/// Runs the work until Ctrl-C, which drops it and everything that it had started so far.
async fn until_interrupted(work: impl Future<Output = Outcome>) -> Outcome {
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|e| Failure::Failed(format!("cannot listen for Ctrl-C: {e}")))?;
    tokio::select! {
        outcome = work => outcome,
        _ = interrupt.recv() => Err(Failure::Interrupted),
    }
}

/// Starts a primary and executors. After a failure, [`Started`] ends the processes that were started.
async fn up(mut command: Up, config: Option<&Path>) -> Outcome {
    check_resources(command.slots.map(|slots| slots.0), command.memory)?;
    let dir = folder(&command.dir)?;
    let _lock = state::lock(&dir)?;
    if let Ok(state) = State::read(&dir) {
        if state.primaries().any(|primary| primary.is_alive()) {
            return Err(Failure::Failed(format!(
                "a cluster runs in {0} already, at {1}: start executors that have ended with 'windlass cluster add --dir {0}', stop it with \
                 'windlass cluster down --dir {0}', or choose another --dir",
                dir.display(),
                state.url
            )));
        }
        end_left(&state).await?;
        // Who knew the cluster finds it again.
        command.listen = command.listen.or_else(|| free(&state.url));
        command.rest = command.rest.or_else(|| free(&state.rest));
    }
    let executors = command.executors.0;
    let slots = command.slots.map_or_else(|| (machine::cores().0 / executors).max(1), |slots| slots.0);
    let memory = command.memory.unwrap_or_else(|| ByteSize(machine::memory().bytes() / u64::from(executors)));
    let config = config.map(absolute).transpose()?;
    let elastic = command.max_executors.map_or_else(Vec::new, |most| {
        let dir = dir.join("elastic").display().to_string();
        let flags = [
            ("--max-executors", most.to_string()),
            ("--executor-slots", slots.to_string()),
            ("--executor-memory", memory.to_string()),
            ("--executor-dir", dir),
        ];
        flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    });
    let primaries = start_primaries(&dir, &command, config.as_deref(), &elastic).await?;
    let url = primaries.iter().map(|(_, ready)| ready.url.as_str()).collect::<Vec<_>>().join(",");
    let plan = Plan { url: &url, config: config.as_deref(), slots, memory, role: Role::Core };
    let started = start_executors(&dir, 1..=executors as usize, &plan)?;
    let session = Client::connect(&url).await?;
    let (started, joined) = within(join(&session, started)).await?;
    let rest = session.status().await?.rest;
    let state = State {
        url,
        rest,
        primaries: primaries
            .iter()
            .map(|(primary, ready)| Primary {
                pid: primary.process.pid,
                rest: ready.rest.clone(),
                dir: primary.dir.clone(),
                started: primary.process.started.clone(),
            })
            .collect(),
        executors: joined,
        slots,
        memory_bytes: memory.bytes(),
        config,
    };
    state.write(&dir)?;
    primaries.into_iter().for_each(|(primary, _)| primary.keep());
    started.into_iter().for_each(Started::keep);
    report(&state, &dir, command.json)
}

/// The address in a URL, if nobody listens there.
fn free(url: &str) -> Option<String> {
    let (_, address) = url.split_once("://")?;
    TcpListener::bind(address).ok().map(|_| address.to_owned())
}

/// Ends executors whose primaries are gone: they wait for a primary that does not come back, and hold folders that the next ones need.
async fn end_left(state: &State) -> Outcome {
    let left: Vec<Process> = state.executors().filter(Process::is_alive).collect();
    if left.is_empty() {
        return Ok(());
    }
    eprintln!("the primary at {} is gone: its {} end first", state.url, several(left.len(), "executor"));
    process::end(&left, DOWN_PATIENCE).await.map(drop)
}

/// Checks the resources of executors before any process starts.
fn check_resources(slots: Option<u32>, memory: Option<ByteSize>) -> Outcome {
    slots.map_or(Ok(()), |slots| check::slots("--slots", slots)).map_err(Failure::Usage)?;
    memory
        .map_or(Ok(()), |memory| check::memory("--memory", memory.bytes(), machine::total_memory()))
        .map_err(Failure::Usage)
}

async fn add(command: Add) -> Outcome {
    check_resources(command.slots.map(|slots| slots.0), command.memory)?;
    let dir = absolute(&command.dir)?;
    let mut state = State::read(&dir)?;
    let _lock = state::lock(&dir)?;
    if !state.primaries().any(|primary| primary.is_alive()) {
        return Err(Failure::Unreachable(format!(
            "the primary of the cluster in {} is gone: start the cluster again with 'windlass cluster up --dir {}'",
            dir.display(),
            dir.display()
        )));
    }
    let numbers = state.numbers(command.executors.0 as usize);
    let plan = Plan {
        url: &state.url,
        config: state.config.as_deref(),
        slots: command.slots.map_or(state.slots, |slots| slots.0),
        memory: command.memory.unwrap_or(ByteSize(state.memory_bytes)),
        role: command.role,
    };
    let started = start_executors(&dir, numbers.into_iter(), &plan)?;
    let session = Client::connect(&state.url).await?;
    let (started, joined) = within(join(&session, started)).await?;
    state.executors.retain(|known| joined.iter().all(|joined| joined.name != known.name));
    state.executors.extend(joined);
    state.write(&dir)?;
    started.into_iter().for_each(Started::keep);
    report(&state, &dir, command.json)
}

async fn down(command: Down) -> Outcome {
    let dir = command.dir;
    let state = State::read(&dir)?;
    let _lock = state::lock(&dir)?;
    let executors: Vec<Process> = state.executors().collect();
    let primaries: Vec<Process> = state.primaries().collect();
    let count = executors.iter().chain(&primaries).filter(|process| process.is_alive()).count();
    // Executors end first, while the primary is there for their departure.
    let mut forced = process::end(&executors, DOWN_PATIENCE).await?;
    forced += process::end(&primaries, DOWN_PATIENCE).await?;
    State::remove(&dir)?;
    if command.json {
        return print_json(&serde_json::json!({"stopped": count, "forced": forced}));
    }
    let force = if forced > 0 { format!(", {forced} of them by force") } else { String::new() };
    super::print(&format!("stopped {count} processes{force}; catalog and logs stay in {}\n", dir.display()))
}

async fn status(command: Status) -> Outcome {
    let (url, state) = match (&command.dir, &command.url) {
        (Some(dir), _) => {
            let state = State::read(dir)?;
            if !state.primaries().any(|primary| primary.is_alive()) {
                return Err(Failure::Unreachable(format!(
                    "the primary of the cluster in {} has ended: see {}",
                    dir.display(),
                    state
                        .primaries
                        .first()
                        .map_or_else(|| dir.join("primary/log"), |primary| primary.dir.join("log"))
                        .display()
                )));
            }
            (state.url.clone(), Some(state))
        }
        (None, Some(url)) => (url.clone(), None),
        (None, None) => {
            let which =
                "which cluster? Name it with --url or WINDLASS_URL, or with --dir the folder of one that 'up' started";
            return Err(Failure::Usage(which.to_owned()));
        }
    };
    let session = Client::connect_with_token(&url, command.token).await?;
    let status = session.status().await?;
    if command.json {
        return print_json(&status);
    }
    let mut text = describe(&url, &status);
    for executor in state.iter().flat_map(|state| &state.executors) {
        let process = Process { pid: executor.pid, started: executor.started.clone() };
        if !process.is_alive() {
            text.push_str(&format!(
                "{} (process {}) has ended: see {}; 'windlass cluster add --dir {}' starts it again\n",
                executor.name,
                executor.pid,
                executor.dir.join("log").display(),
                command.dir.as_deref().unwrap_or(Path::new("")).display()
            ));
        }
    }
    super::print(&text)
}

fn url(command: &Url) -> Outcome {
    let state = State::read(&command.dir)?;
    let url = if command.rest { state.rest } else { state.url };
    match url.is_empty() {
        true => Err(Failure::Failed("this cluster serves no REST: see primary.rest in 'windlass config'".to_owned())),
        false => super::print(&format!("{url}\n")),
    }
}

/// Settings with which executors are started.
struct Plan<'a> {
    url: &'a str,
    config: Option<&'a Path>,
    slots: u32,
    memory: ByteSize,
    role: Role,
}

/// Returns the processes, their gRPC addresses, and the REST address of the first one.
async fn start_primaries(
    dir: &Path,
    command: &Up,
    config: Option<&Path>,
    elastic: &[String],
) -> Result<Vec<(Started, Ready)>, Failure> {
    let count = command.primaries.0;
    if count > 1 && command.etcd.is_empty() {
        return Err(Failure::Usage(format!(
            "{count} primaries need an etcd that decides who leads: name it with --etcd"
        )));
    }
    let mut started = Vec::new();
    for number in 1..=count {
        let name = if number == 1 { "primary".to_owned() } else { format!("primary-{number}") };
        let mut primary = start_primary(dir, &name, command, config, elastic)?;
        let ready = within(primary.ready()).await?;
        started.push((primary, ready));
    }
    Ok(started)
}

fn start_primary(
    dir: &Path,
    name: &str,
    command: &Up,
    config: Option<&Path>,
    elastic: &[String],
) -> Result<Started, Failure> {
    let home = dir.join(name);
    let ready = home.join("ready.json");
    // The file of an earlier process would be wrong.
    let _ = fs::remove_file(&ready);
    // Requested ports go to the first primary.
    let address =
        |asked: &Option<String>| asked.clone().filter(|_| name == "primary").unwrap_or("127.0.0.1:0".to_owned());
    let mut arguments = global(config);
    arguments.extend(
        [
            "primary",
            "--listen",
            &address(&command.listen),
            "--rest",
            &address(&command.rest),
            "--dir",
            &home.join("data").display().to_string(),
            "--ready-file",
            &ready.display().to_string(),
        ]
        .map(str::to_owned),
    );
    arguments.extend_from_slice(elastic);
    if !command.etcd.is_empty() {
        let warehouse = dir.join("warehouse");
        fs::create_dir_all(&warehouse)
            .map_err(|e| Failure::Failed(format!("cannot create the folder {}: {e}", warehouse.display())))?;
        // Clusters in different folders are different clusters, even when they share an etcd.
        let cluster = dir.display().to_string().replace('/', ":");
        let shared = ["--etcd", &command.etcd.join(","), "--cluster", &cluster, "--warehouse"].map(str::to_owned);
        arguments.extend(shared);
        arguments.push(warehouse.display().to_string());
    }
    process::start(&home, &arguments)
}

fn start_executors(dir: &Path, numbers: impl Iterator<Item = usize>, plan: &Plan<'_>) -> Result<Vec<Started>, Failure> {
    numbers
        .map(|number| {
            let name = format!("executor-{number}");
            let home = dir.join(&name);
            let mut arguments = global(plan.config);
            arguments.extend(
                [
                    "executor",
                    "--primary",
                    plan.url,
                    "--name",
                    &name,
                    "--role",
                    match plan.role {
                        Role::Core => "core",
                        Role::Task => "task",
                    },
                    "--listen",
                    "127.0.0.1:0",
                    "--slots",
                    &plan.slots.to_string(),
                    "--memory",
                    &plan.memory.to_string(),
                    "--dir",
                    &home.join("data").display().to_string(),
                ]
                .map(str::to_owned),
            );
            process::start(&home, &arguments)
        })
        .collect()
}

fn global(config: Option<&Path>) -> Vec<String> {
    config.map_or_else(Vec::new, |file| vec!["--config".to_owned(), file.display().to_string()])
}

/// Waits until the primary knows all of them, or one of them ends. The primary answers from memory, so frequent requests cost little.
async fn join(session: &Session, mut started: Vec<Started>) -> Result<(Vec<Started>, Vec<Executor>), Failure> {
    loop {
        let status = session.status().await?;
        let known = |process: &Process| status.executors.iter().find(|executor| executor.pid == process.pid);
        let joined: Vec<Executor> = started
            .iter()
            .filter_map(|started| {
                let executor = known(&started.process)?;
                Some(Executor {
                    id: executor.id.clone(),
                    name: executor.name.clone(),
                    pid: started.process.pid,
                    dir: started.dir.clone(),
                    started: started.process.started.clone(),
                })
            })
            .collect();
        if joined.len() == started.len() {
            return Ok((started, joined));
        }
        let anyone_ends = futures::future::select_all(started.iter_mut().map(|started| Box::pin(started.ended())));
        tokio::select! {
            (failure, _, _) = anyone_ends => return Err(failure),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    }
}

async fn within<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(UP_DEADLINE, work).await.unwrap_or_else(|_| {
        Err(Failure::Failed(format!(
            "the cluster was not complete after {} s: see the logs in its folder",
            UP_DEADLINE.as_secs()
        )))
    })
}

fn folder(dir: &Path) -> Result<PathBuf, Failure> {
    fs::create_dir_all(dir).map_err(|e| {
        Failure::Failed(format!("cannot create the folder {}: {e}; choose another with --dir", dir.display()))
    })?;
    absolute(dir)
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| Failure::Usage(format!("cannot tell where {} lies: {e}", path.display())))
}

fn report(state: &State, dir: &Path, json: bool) -> Outcome {
    if json {
        return print_json(state);
    }
    let dir = dir.display();
    let mut text = format!(
        "cluster at {}: {}, {}, each with {} and {}\n",
        state.url,
        match state.primaries.len() {
            1 => "1 primary".to_owned(),
            primaries => format!("{primaries} primaries"),
        },
        several(state.executors.len(), "executor"),
        several(state.slots as usize, "slot"),
        ByteSize::human(state.memory_bytes)
    );
    let mut rest: Vec<&str> = state.primaries.iter().map(|primary| primary.rest.as_str()).collect();
    rest.retain(|rest| !rest.is_empty());
    if !rest.is_empty() {
        text.push_str(&format!("REST at {}\n", rest.join(", ")));
    }
    text.push_str(&format!(
        "query it:  windlass sql --url {}\n           or export WINDLASS_URL=$(windlass cluster url --dir {dir})\nstop it:   windlass cluster down --dir {dir}\nlogs:      {dir}/*/log\n",
        state.url
    ));
    super::print(&text)
}

fn describe(url: &str, status: &ClusterStatus) -> String {
    let mut text = format!(
        "primary {url}: windlass {}, process {}, up {}, {} jobs running, {} queued\n",
        status.version,
        status.pid,
        Span::human(Duration::from_millis(status.uptime_ms)),
        status.jobs_running,
        status.jobs_queued
    );
    if !status.rest.is_empty() {
        text.push_str(&format!("REST {}\n", status.rest));
    }
    if status.executors.is_empty() {
        text.push_str("no executors: start one with 'windlass executor --primary URL' or 'windlass cluster add'\n");
        return text;
    }
    let mut rows = vec![
        ["executor", "name", "role", "state", "tasks", "memory", "exchange", "programs", "address", "pid"]
            .map(str::to_owned),
    ];
    for executor in &status.executors {
        rows.push([
            executor.id.clone(),
            executor.name.clone(),
            executor.role.clone(),
            executor.state.clone(),
            format!("{}/{}", executor.running_tasks, executor.slots),
            format!("{} of {}", ByteSize::human(executor.memory_used_bytes), ByteSize::human(executor.memory_bytes)),
            ByteSize::human(executor.exchange_memory_bytes + executor.exchange_disk_bytes),
            ByteSize::human(executor.program_memory_bytes),
            executor.address.clone(),
            executor.pid.to_string(),
        ]);
    }
    text.push_str(&aligned(&rows, &[false, false, false, false, true, true, true, true, false, true]));
    text
}

//! `windlass primary` and `windlass executor`: from configuration and flags to a process that serves until SIGTERM.

use super::arguments::{ExecutorFlags, PrimaryFlags};
use super::cluster::provision::Processes;
use super::{Failure, Outcome};
use crate::config::{Config, Elastic, LogFormat, machine};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::fs;
use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use windlass_core::elastic::ElasticConfig;
use windlass_engine::connector::Registry;
use windlass_executor::ExecutorConfig;
use windlass_scheduler::driver::elastic::Elasticity;
use windlass_scheduler::meta::Leader;
use windlass_scheduler::primary::member::Member;

/// Addresses that a primary announces once everything serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    pub url: String,
    /// Address of REST; empty when it is not served.
    pub rest: String,
    pub pid: u32,
}

pub fn primary(mut config: Config, flags: PrimaryFlags, file: Option<&Path>, connectors: &Registry) -> Outcome {
    let PrimaryFlags { listen, rest, dir, etcd, cluster, warehouse, ready_file, elastic } = flags;
    if warehouse.as_deref() == Some("") {
        return Err(Failure::Usage(
            "--warehouse: it is empty: name a folder, as a path or URL that every process reaches, or leave it out"
                .to_owned(),
        ));
    }
    set(&mut config.elastic.max_executors, elastic.max_executors);
    set(&mut config.elastic.min_executors, elastic.min_executors);
    set(&mut config.elastic.slots, elastic.executor_slots);
    set(&mut config.elastic.memory, elastic.executor_memory);
    set(&mut config.elastic.dir, elastic.executor_dir);
    set(&mut config.primary.listen, listen);
    set(&mut config.primary.rest, rest);
    set(&mut config.primary.dir, dir);
    set(&mut config.primary.etcd, etcd);
    set(&mut config.primary.cluster, cluster);
    set(&mut config.primary.warehouse, warehouse);
    start_logging(&config)?;
    // The seed differs by cluster, so that replicas are placed differently on each.
    let mut settings = config.primary(Uuid::new_v4().as_u64_pair().0).map_err(Failure::Usage)?;
    settings.statements.connectors = connectors.clone();
    let elastic = config.elastic().map_err(Failure::Usage)?;
    create_dir(&config.primary.dir)?;
    runtime(2)?.block_on(async {
        let mut member = Member::bind(settings).await.map_err(failed)?;
        let Leader { url, rest } = member.addresses().clone();
        if let Some(limits) = elastic {
            member.follow_load(elasticity(&config, limits, &url, file)?);
        }
        announce(&Ready { url, rest, pid: std::process::id() }, ready_file.as_deref())?;
        until_stopped(|shutdown| member.run(shutdown)).await
    })
}

pub fn executor(mut config: Config, flags: ExecutorFlags, connectors: &Registry) -> Outcome {
    let ExecutorFlags { primary, role, name, listen, advertise, rack, slots, memory, dir } = flags;
    set(&mut config.executor.primary, primary);
    set(&mut config.executor.role, role.map(Into::into));
    set(&mut config.executor.name, name);
    set(&mut config.executor.listen, listen);
    set(&mut config.executor.advertise, advertise);
    set(&mut config.executor.rack, rack);
    set(&mut config.executor.slots, slots);
    set(&mut config.executor.memory, memory);
    set(&mut config.executor.dir, dir);
    start_logging(&config)?;
    let settings = config.executor().map_err(Failure::Usage)?;
    let settings = ExecutorConfig { connectors: connectors.clone(), ..settings };
    create_dir(&config.executor.dir)?;
    runtime(2)?.block_on(until_stopped(|shutdown| windlass_executor::run(settings, shutdown)))
}

/// Elasticity of a primary at `url`: it starts executors as processes of this binary.
fn elasticity(config: &Config, limits: ElasticConfig, url: &str, file: Option<&Path>) -> Result<Elasticity, Failure> {
    let dir = &config.elastic.dir;
    create_dir(dir)?;
    let dir = std::path::absolute(dir).map_err(|e| failed(format!("{}: {e}", dir.display())))?;
    let arguments = arguments(config, url, file);
    Ok(Elasticity {
        config: limits,
        provisioner: Arc::new(Processes { dir, arguments, started: Mutex::default() }),
        prefix: "elastic-".to_owned(),
    })
}

/// Arguments for the executors that the primary at `url` starts.
pub(crate) fn arguments(config: &Config, url: &str, file: Option<&Path>) -> Vec<String> {
    // With several primaries, executors must find all of them.
    let primaries = if config.primary.etcd.is_empty() { url } else { &config.executor.primary };
    let file = file.map(|file| ["--config".to_owned(), file.display().to_string()]);
    let fixed = ["executor", "--primary", primaries, "--role", "task", "--listen", "127.0.0.1:0"].map(str::to_owned);
    let Elastic { slots, memory, .. } = &config.elastic;
    let sized = ["--slots".to_owned(), slots.to_string(), "--memory".to_owned(), memory.to_string()];
    file.into_iter().flatten().chain(fixed).chain(sized).collect()
}

fn set<T>(field: &mut T, flag: Option<T>) {
    if let Some(value) = flag {
        *field = value;
    }
}

fn create_dir(dir: &Path) -> Outcome {
    fs::create_dir_all(dir).map_err(|e| {
        Failure::Failed(format!("cannot create the folder {}: {e}; choose another with --dir", dir.display()))
    })
}

fn runtime(least: usize) -> Result<Runtime, Failure> {
    let threads = (machine::cores().0 as usize).max(least);
    Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|e| Failure::Failed(format!("cannot start the threads of this process: {e}")))
}

/// Runs `serve` until it ends. The first SIGTERM or Ctrl-C asks for an orderly end, a second one ends the process at once.
async fn until_stopped<F, E>(serve: impl FnOnce(CancellationToken) -> F) -> Outcome
where
    F: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let listen = |kind| signal(kind).map_err(|e| Failure::Failed(format!("cannot listen for signals: {e}")));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let shutdown = CancellationToken::new();
    let serving = serve(shutdown.clone());
    tokio::pin!(serving);
    loop {
        let signal = tokio::select! {
            served = &mut serving => return served.map_err(failed),
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "Ctrl-C",
        };
        if shutdown.is_cancelled() {
            return Err(Failure::Interrupted);
        }
        tracing::info!("{signal}: leaving");
        shutdown.cancel();
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(error.to_string())
}

/// Writes the addresses to a file that appears whole, and as one line to standard output when a program reads that.
fn announce(ready: &Ready, file: Option<&Path>) -> Outcome {
    let Ok(line) = serde_json::to_string(ready) else { return Ok(()) };
    let Some(file) = file else { return Ok(()) };
    let temporary = partial(file);
    fs::write(&temporary, &line)
        .and_then(|()| fs::rename(&temporary, file))
        .map_err(|e| Failure::Failed(format!("cannot write {}: {e}", file.display())))?;
    let mut out = io::stdout().lock();
    // The parent process may have stopped reading.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    Ok(())
}

fn partial(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

fn start_logging(config: &Config) -> Outcome {
    let directives = std::env::var("WINDLASS_LOG").unwrap_or_else(|_| config.log.level.clone());
    let filter = tracing_subscriber::EnvFilter::try_new(&directives).map_err(|e| {
        Failure::Usage(format!(
            "log.level: \"{directives}\" is not a level: {e}; write error, warn, info, debug or trace"
        ))
    })?;
    // A word alone that is no level would be taken for a module, and all others would be silent.
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let is_known =
        |part: &str| part.contains(['=', ':', '_', '[']) || levels.contains(&part.to_ascii_lowercase().as_str());
    if let Some(part) = directives.split(',').map(str::trim).find(|part| !part.is_empty() && !is_known(part)) {
        return Err(Failure::Usage(format!(
            "log.level: \"{part}\" is not a level: write error, warn, info, debug or trace, or a module's, as windlass_scheduler=debug"
        )));
    }
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(io::stderr().is_terminal()).with_writer(io::stderr);
    let started = match config.log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|e| Failure::Failed(format!("cannot start logging: {e}")))
}

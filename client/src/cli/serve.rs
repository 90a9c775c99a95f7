//! `windlass primary` and `windlass executor`: from configuration and flags to a process that serves until SIGTERM.

use super::arguments::{ExecutorFlags, PrimaryFlags};
use super::cluster::provision::Processes;
use super::{Failure, Outcome};
use crate::config::units::Auto;
use crate::config::{Compression, Config, LogFormat, Role, check, machine};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::fs;
use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use windlass_core::elastic::ElasticConfig;
use windlass_core::scheduler::{SchedulerConfig, SpeculationConfig};
use windlass_engine::connector::Registry;
use windlass_engine::extent::Limits;
use windlass_executor::ExecutorConfig;
use windlass_gateway::Gateway;
use windlass_scheduler::driver::DriverConfig;
use windlass_scheduler::driver::elastic::Elasticity;
use windlass_scheduler::meta::{EtcdConfig, Leader};
use windlass_scheduler::primary::PrimaryConfig;
use windlass_scheduler::primary::cluster::{ClusterConfig, RestConfig};
use windlass_scheduler::primary::member::Member;
use windlass_scheduler::statements::StatementConfig;

/// What a primary tells whoever started it, once everything serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    pub url: String,
    /// Empty when REST is not served.
    pub rest: String,
    pub pid: u32,
}

pub fn primary(mut config: Config, flags: PrimaryFlags, file: Option<&Path>, connectors: &Registry) -> Outcome {
    let PrimaryFlags { listen, rest, dir, etcd, cluster, warehouse, ready_file, elastic } = flags;
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
    let mut settings = primary_config(&config)?;
    settings.statements.connectors = connectors.clone();
    create_dir(&config.primary.dir)?;
    runtime(2)?.block_on(async {
        let mut member = Member::bind(settings).await.map_err(failed)?;
        let Leader { url, rest } = member.addresses().clone();
        if config.elastic.max_executors > 0 {
            member.follow_load(elasticity(&config, &url, file)?);
        }
        announce(&Ready { url, rest, pid: std::process::id() }, ready_file.as_deref())?;
        until_stopped(|shutdown| member.run(shutdown)).await
    })
}

pub fn executor(mut config: Config, flags: ExecutorFlags, connectors: &Registry) -> Outcome {
    let ExecutorFlags { primary, role, name, listen, advertise, rack, slots, memory, dir } = flags;
    set(&mut config.executor.primary, primary);
    set(&mut config.executor.role, role);
    set(&mut config.executor.name, name);
    set(&mut config.executor.listen, listen);
    set(&mut config.executor.advertise, advertise);
    set(&mut config.executor.rack, rack);
    set(&mut config.executor.slots, slots);
    set(&mut config.executor.memory, memory);
    set(&mut config.executor.dir, dir);
    start_logging(&config)?;
    let settings = ExecutorConfig { connectors: connectors.clone(), ..executor_config(&config)? };
    create_dir(&config.executor.dir)?;
    runtime(2)?.block_on(until_stopped(|shutdown| windlass_executor::run(settings, shutdown)))
}

/// Executors that a primary at `url` starts are processes of this binary.
fn elasticity(config: &Config, url: &str, file: Option<&Path>) -> Result<Elasticity, Failure> {
    let elastic = &config.elastic;
    create_dir(&elastic.dir)?;
    let dir = std::path::absolute(&elastic.dir).map_err(|e| failed(format!("{}: {e}", elastic.dir.display())))?;
    // Where there are several primaries, they are to find all of them.
    let primaries = if config.primary.etcd.is_empty() { url } else { &config.executor.primary };
    let mut arguments: Vec<String> =
        file.map_or_else(Vec::new, |file| vec!["--config".to_owned(), file.display().to_string()]);
    arguments
        .extend(["executor", "--primary", primaries, "--role", "task", "--listen", "127.0.0.1:0"].map(str::to_owned));
    arguments.extend([
        "--slots".to_owned(),
        elastic.slots.to_string(),
        "--memory".to_owned(),
        elastic.memory.to_string(),
    ]);
    Ok(Elasticity {
        config: ElasticConfig {
            min: elastic.min_executors,
            max: elastic.max_executors,
            slots: elastic.slots.0,
            backlog: elastic.backlog.duration(),
            idle: elastic.idle.duration(),
        },
        provisioner: Arc::new(Processes { dir, arguments, started: Mutex::default() }),
        prefix: "elastic-".to_owned(),
    })
}

fn set<T>(field: &mut T, flag: Option<T>) {
    if let Some(value) = flag {
        *field = value;
    }
}

fn primary_config(config: &Config) -> Result<ClusterConfig, Failure> {
    let primary = &config.primary;
    check::host("primary.advertise", &primary.advertise).map_err(Failure::Usage)?;
    check::warehouse("primary.warehouse", &primary.warehouse).map_err(Failure::Usage)?;
    if config.elastic.max_executors > 0 {
        check::memory("elastic.memory", config.elastic.memory.bytes()).map_err(Failure::Usage)?;
        check::slots("elastic.slots", config.elastic.slots.0).map_err(Failure::Usage)?;
    }
    let scheduler = SchedulerConfig {
        heartbeat_timeout: primary.executor_timeout.duration(),
        no_executor_timeout: primary.executor_wait.duration(),
        drain_deadline: primary.drain_timeout.duration(),
        exclusion: primary.exclusion.duration(),
        exclude_after: primary.exclude_after.0,
        speculation: primary.speculation.then(|| SpeculationConfig {
            quantile: primary.speculation_quantile.0,
            multiplier: (primary.speculation_multiplier * 100.0) as u32,
            after: primary.speculation_after.duration(),
        }),
        hand_back_after: primary.hand_back_after.duration(),
        save_stages_after: primary.save_stages_after.duration(),
        keep_unclaimed: primary.keep_unclaimed.duration(),
        max_queued_jobs: Some(primary.queued_jobs.0 as usize),
        max_queued_jobs_per_user: Some(primary.queued_jobs_per_user.0 as usize),
        max_job_time: Some(primary.statement_timeout.duration()).filter(|limit| !limit.is_zero()),
        pools: primary.pools.iter().map(|(name, pool)| (name.clone(), pool.into())).collect(),
        ..SchedulerConfig::default()
    };
    let driver = DriverConfig {
        scheduler,
        heartbeat: primary.heartbeat.duration(),
        history_jobs: primary.history.0 as usize,
        ..DriverConfig::default()
    };
    let listen = address("primary.listen", &primary.listen)?;
    let finish_timeout = primary.finish_timeout.duration();
    let settings = PrimaryConfig { listen, driver, finish_timeout, ..PrimaryConfig::default() };
    let mut cluster = ClusterConfig::new(settings, primary.dir.clone());
    if !primary.rest.is_empty() {
        let listen = address("primary.rest", &primary.rest)?;
        cluster.rest = Some(RestConfig { listen, faces: Arc::new(Gateway) });
    }
    if !primary.etcd.is_empty() {
        if primary.warehouse.is_empty() {
            return Err(Failure::Usage(
                "primary.warehouse is not set: primaries that take over from one another need one place for the tables that Windlass \
                 writes, a path or URL that every process reaches"
                    .to_owned(),
            ));
        }
        cluster.etcd = Some(EtcdConfig {
            endpoints: primary.etcd.clone(),
            cluster: primary.cluster.clone(),
            lease: primary.lease.duration(),
        });
    }
    cluster.files = config.files.settings();
    cluster.advertise = Some(primary.advertise.clone()).filter(|host| !host.is_empty());
    cluster.warehouse = Some(primary.warehouse.clone()).filter(|folder| !folder.is_empty());
    cluster.sessions.idle = primary.session_timeout.duration();
    cluster.sessions.options = config.query.session_options();
    let depth = primary.depth_limit.0 as usize;
    if depth > Limits::MOST_DEPTH {
        return Err(Failure::Usage(format!("primary.depth_limit: at most {} levels have room", Limits::MOST_DEPTH)));
    }
    cluster.statements = StatementConfig {
        max_statement_bytes: primary.statement_limit.bytes() as usize,
        limits: Limits { depth, size: primary.size_limit.0 as usize },
        planning_timeout: primary.planning_timeout.duration(),
        planning_memory: primary.planning_memory.unwrap_or_else(machine::planning_memory).bytes(),
        ..StatementConfig::default()
    };
    Ok(cluster)
}

/// Also what an embedded executor is made from.
pub fn executor_config(config: &Config) -> Result<ExecutorConfig, Failure> {
    let (executor, exchange) = (&config.executor, &config.exchange);
    let memory_bytes = executor.memory.unwrap_or_else(machine::memory).bytes();
    let slots = executor.slots.unwrap_or_else(machine::cores).0;
    if let Auto::Value(memory) = executor.memory {
        check::memory("executor.memory", memory.bytes()).map_err(Failure::Usage)?;
    }
    check::slots("executor.slots", slots).map_err(Failure::Usage)?;
    check::host("executor.advertise", &executor.advertise).map_err(Failure::Usage)?;
    check::name("executor.name", &executor.name).map_err(Failure::Usage)?;
    check::name("executor.rack", &executor.rack).map_err(Failure::Usage)?;
    let defaults = ExecutorConfig::default();
    Ok(ExecutorConfig {
        primaries: executor.primary.split(',').map(|primary| primary.trim().to_owned()).collect(),
        name: Some(executor.name.clone()).filter(|name| !name.is_empty()),
        role: match executor.role {
            Role::Core => windlass_core::event::Role::Core,
            Role::Task => windlass_core::event::Role::Task,
        },
        slots,
        memory_bytes,
        exchange_memory_bytes: match exchange.memory {
            Auto::Auto => None,
            Auto::Value(size) => Some(size.bytes()),
        },
        dir: executor.dir.clone(),
        exchange_disk_bytes: match exchange.disk {
            Auto::Auto => None,
            Auto::Value(size) => Some(size.bytes()),
        },
        compression: match exchange.compression {
            Compression::None => windlass_engine::exchange::Compression::None,
            Compression::Lz4 => windlass_engine::exchange::Compression::Lz4,
            Compression::Zstd => windlass_engine::exchange::Compression::Zstd,
        },
        spill_disk_bytes: executor.spill_disk.bytes(),
        block_dirs: executor.block_dirs.clone(),
        block_reserve_bytes: executor.block_reserve.bytes(),
        scrub_bytes_per_second: executor.scrub_rate.bytes(),
        repair_bytes_per_second: executor.repair_rate.bytes(),
        rack: executor.rack.clone(),
        listen: address("executor.listen", &executor.listen)?,
        advertise: Some(executor.advertise.clone()).filter(|host| !host.is_empty()),
        join_timeout: executor.join_timeout.duration(),
        leave_timeout: executor.leave_timeout.duration(),
        ..defaults
    })
}

/// address:port, with a name where an address would do.
fn address(setting: &str, text: &str) -> Result<SocketAddr, Failure> {
    text.to_socket_addrs().ok().and_then(|mut found| found.next()).ok_or_else(|| {
        Failure::Usage(format!(
            "{setting}: \"{text}\" is not an address to listen on: write ADDRESS:PORT, such as 0.0.0.0:7077"
        ))
    })
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

/// To a file that appears whole, and as one line on standard output when a program reads that.
fn announce(ready: &Ready, file: Option<&Path>) -> Outcome {
    let Ok(line) = serde_json::to_string(ready) else { return Ok(()) };
    let Some(file) = file else { return Ok(()) };
    let temporary = partial(file);
    fs::write(&temporary, &line)
        .and_then(|()| fs::rename(&temporary, file))
        .map_err(|e| Failure::Failed(format!("cannot write {}: {e}", file.display())))?;
    let mut out = io::stdout().lock();
    // Whoever started this process may have stopped reading.
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
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(io::stderr().is_terminal()).with_writer(io::stderr);
    let started = match config.log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|e| Failure::Failed(format!("cannot start logging: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_on_are_checked() {
        assert_eq!(address("x", "127.0.0.1:0").unwrap().port(), 0);
        assert!(address("x", "localhost:7077").is_ok());
        let Failure::Usage(message) = address("primary.listen", "7077").unwrap_err() else { panic!("a usage error") };
        assert!(message.contains("primary.listen") && message.contains("0.0.0.0:7077"), "{message}");
    }

    #[test]
    fn every_setting_of_an_executor_arrives() {
        let config = Config::default();
        let made = executor_config(&config).unwrap();
        assert_eq!(made.primaries, ["grpc://127.0.0.1:7077"]);
        assert_eq!(made.slots, machine::cores().0);
        assert!(made.memory_bytes > 0);
    }
}

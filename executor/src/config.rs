//! What an operator can set on an executor. Defaults live here and nowhere else.

use crate::blocks::BlockConfig;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use windlass_core::event::Role;
use windlass_engine::exchange::Compression;

#[derive(Clone, Debug, PartialEq)]
pub struct ExecutorConfig {
    /// Primaries to try in turn: host:port, with or without `grpc://` or `http://` before it. Default 127.0.0.1:7070.
    pub primaries: Vec<String>,
    /// Unique among the executors of a cluster: a second one of the name of one that lives is refused. Default: its address.
    pub name: Option<String>,
    /// Default core.
    pub role: Role,
    /// Tasks that run at a time. Default: the number of cores.
    pub slots: u32,
    /// For tasks and the exchange together. Default: 60 % of the machine's memory, or of the container's.
    pub memory_bytes: u64,
    /// Resident memory of the process beyond `memory_bytes` before load is shed: for what no pool counts. Default: a quarter of
    /// `memory_bytes`, at least 512 MiB.
    pub resident_allowance_bytes: Option<u64>,
    /// Of `memory_bytes`, what map outputs may hold before they go to files. Default: 64 MiB for each slot, at most three tenths.
    pub exchange_memory_bytes: Option<u64>,
    /// Scratch space: map outputs and spilled operators. For this executor alone. Default `windlass-executor` in the system's
    /// temporary folder.
    pub dir: PathBuf,
    /// Folders for replicas of files, one for each disk, of a core executor. Default: `blocks` in `dir`.
    pub block_dirs: Vec<PathBuf>,
    /// Bytes that each of their disks keeps free. Default 1 GiB.
    pub block_reserve_bytes: u64,
    /// Bytes a second that are read of replicas to find what is damaged; 0: not at all. Default 4 MiB.
    pub scrub_bytes_per_second: u64,
    /// Bytes a second that copies for repair may take; 0: any number. Default 64 MiB.
    pub repair_bytes_per_second: u64,
    /// Bytes that map outputs may take on disk. Default: what the disk has.
    pub exchange_disk_bytes: Option<u64>,
    /// Bytes that spilled operators may take on disk. Default 100 GiB.
    pub spill_disk_bytes: u64,
    /// Of map outputs in files and between executors. Default lz4.
    pub compression: Compression,
    /// Default: the machine's host name. Tasks run where their blocks are when both say the same host.
    pub host: String,
    pub rack: String,
    /// Where the Exchange and Flight services listen; port 0: any that is free. Default 0.0.0.0:0.
    pub listen: SocketAddr,
    /// host:port under which others reach `listen`. Default: the address of the interface that leads to the primary.
    pub advertise: Option<String>,
    /// How long to try to reach a primary at the start. Default 60 s. Once it was there, the executor waits for ever.
    pub join_timeout: Duration,
    /// How long to wait for the primary's farewell when asked to leave. Default 60 s.
    pub leave_timeout: Duration,
}

impl Default for ExecutorConfig {
    fn default() -> Self {
        ExecutorConfig {
            primaries: vec!["127.0.0.1:7070".into()],
            name: None,
            role: Role::Core,
            slots: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
            memory_bytes: available_memory() / 10 * 6,
            resident_allowance_bytes: None,
            exchange_memory_bytes: None,
            dir: std::env::temp_dir().join("windlass-executor"),
            block_dirs: Vec::new(),
            block_reserve_bytes: 1 << 30,
            scrub_bytes_per_second: 4 << 20,
            repair_bytes_per_second: 64 << 20,
            exchange_disk_bytes: None,
            spill_disk_bytes: 100 << 30,
            compression: Compression::default(),
            host: host_name(),
            rack: "default".into(),
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            advertise: None,
            join_timeout: Duration::from_secs(60),
            leave_timeout: Duration::from_secs(60),
        }
    }
}

impl ExecutorConfig {
    pub(crate) fn blocks(&self) -> BlockConfig {
        let dirs = match self.block_dirs.is_empty() {
            true => vec![self.dir.join("blocks")],
            false => self.block_dirs.clone(),
        };
        BlockConfig {
            dirs,
            host: self.host.clone(),
            rack: self.rack.clone(),
            reserve: self.block_reserve_bytes,
            scrub_rate: self.scrub_bytes_per_second,
            repair_rate: self.repair_bytes_per_second,
        }
    }

    /// What map outputs may hold in memory, in bytes. More makes nothing faster that was measured: a file that is read soon after
    /// it was written comes from the kernel's cache, compressed, and that memory is not taken from operators.
    pub(crate) fn exchange_memory(&self) -> u64 {
        let default = || (64 << 20) * u64::from(self.slots);
        self.exchange_memory_bytes.unwrap_or_else(|| default().min(self.memory_bytes / 10 * 3)).min(self.memory_bytes)
    }

    /// Resident memory of the process, in bytes, past which load is shed.
    pub(crate) fn resident_limit(&self) -> u64 {
        let allowance = self.resident_allowance_bytes.unwrap_or_else(|| (self.memory_bytes / 4).max(512 << 20));
        self.memory_bytes.saturating_add(allowance)
    }
}

/// Memory of the machine or of the container, whichever is less; 4 GiB when neither is known.
fn available_memory() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
    });
    let container = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse::<u64>().ok());
    machine.into_iter().chain(container).min().unwrap_or(4 << 30)
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".into(),
        name => name.into(),
    }
}

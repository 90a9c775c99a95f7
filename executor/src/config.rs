//! Settings of an executor: the sections `executor` and `exchange` of the configuration file, and their translation into [`ExecutorConfig`].

use crate::blocks::BlockConfig;
use crate::container::{self, Group};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use windlass_core::event;
use windlass_core::section;
use windlass_core::settings::check;
use windlass_core::settings::units::{Auto, ByteSize, Count, Span};
use windlass_engine::connector::Registry;
use windlass_engine::exchange;
use windlass_proto::address;

/// Bytes that a small process leaves for memory that no pool counts.
const UNCOUNTED: u64 = 512 << 20;
/// Share of a container's memory that stays free: a sixteenth, and at least 64 MiB, which may be taken between two readings.
const CONTAINER_MARGIN: u64 = 16;
const LEAST_MARGIN: u64 = 64 << 20;

section! {
    /// An executor: runs tasks.
    Executor {
        /// The primary to register with; where there are several, all of them: "grpc://a:7077,grpc://b:7077".
        primary: String = ExecutorConfig::default().primaries.join(",");
        /// Name in lists and logs, unique in the cluster; empty: the address.
        name: String = String::new();
        /// "core" also keeps replicas of files, "task" only computes.
        role: Role = Role::Core;
        /// Where exchange data and results are served: address:port. Port 0 takes a free one.
        listen: String = ExecutorConfig::default().listen.to_string();
        /// host:port under which others reach this executor; empty: the address of the interface that leads to the primary.
        advertise: String = String::new();
        /// The rack that this machine stands in, for placement.
        rack: String = ExecutorConfig::default().rack;
        /// Tasks that run at the same time. "auto": one for each core.
        slots: Auto<Count> = Auto::Auto;
        /// Memory for tasks, exchange data and programs together. "auto": three fifths of the memory of the machine or the container, or all but
        /// 512 MiB of a small one.
        memory: Auto<ByteSize> = Auto::Auto;
        /// Folder of this executor alone: exchange data and spilled rows, which go at the next start, and replicas of files, which stay.
        dir: PathBuf = ExecutorConfig::default().dir;
        /// Maximum bytes of spilled rows on disk.
        spill_disk: ByteSize = ByteSize(ExecutorConfig::default().spill_disk_bytes);
        /// Folders for replicas of files, one for each disk; empty: "blocks" in dir.
        block_dirs: Vec<PathBuf> = ExecutorConfig::default().block_dirs;
        /// Bytes that each of these disks keeps free.
        block_reserve: ByteSize = ByteSize(ExecutorConfig::default().block_reserve_bytes);
        /// Bytes of replicas that are read each second to find damage; "0B": none.
        scrub_rate: ByteSize = ByteSize(ExecutorConfig::default().scrub_bytes_per_second);
        /// Bytes each second that copies of replicas may take after executors were lost; "0B": no limit.
        repair_rate: ByteSize = ByteSize(ExecutorConfig::default().repair_bytes_per_second);
        /// Time to try to reach the primary at the start. Once it was there, the executor waits for it for ever.
        join_timeout: Span = Span(ExecutorConfig::default().join_timeout);
        /// Time that running tasks, and outputs that others still need, have after SIGTERM.
        leave_timeout: Span = Span(ExecutorConfig::default().leave_timeout);
        /// Whether programs of users run here: "yes", "no", or "auto", where only this machine reaches the executor and its primary. Programs are
        /// anybody's code, which runs with the rights of the executor.
        programs: Allowed = Allowed::Auto;
        /// The Python that runs them.
        python: String = ExecutorConfig::default().python;
        /// Maximum memory of one program with all of its processes. It is a part of memory, of which all programs together get no more than there is. "auto":
        /// the part of a slot.
        program_memory: Auto<ByteSize> = Auto::Auto;
        /// Bytes that one program may write into its folder, which is in dir.
        program_disk: ByteSize = ByteSize(ExecutorConfig::default().program_disk_bytes);
    }
}

section! {
    /// Data between stages.
    Exchange {
        /// Compression in files, and on the way from memory to other hosts: "lz4", "zstd" or "none".
        compression: Compression = Compression::Lz4;
        /// Bytes that an executor keeps in memory before they go to files. "auto": 64 MiB for each slot.
        memory: Auto<ByteSize> = Auto::Auto;
        /// Bytes that an executor keeps in files. "auto": as much as the disk holds.
        disk: Auto<ByteSize> = Auto::Auto;
    }
}

/// Whether an executor keeps replicas of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs tasks and keeps replicas of files.
    Core,
    /// Only runs tasks.
    Task,
}

/// Whether programs of users run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allowed {
    Auto,
    Yes,
    No,
}

/// Compression of data between stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    None,
    Lz4,
    Zstd,
}

impl Executor {
    /// Returns the configuration that an executor with these sections starts with.
    ///
    /// # Errors
    /// The setting that cannot work, and the remedy.
    pub fn settings(&self, exchange: &Exchange) -> Result<ExecutorConfig, String> {
        let defaults = ExecutorConfig::default();
        let given = |size: Auto<ByteSize>| match size {
            Auto::Auto => None,
            Auto::Value(size) => Some(size.bytes()),
        };
        if let Some(memory) = given(self.memory) {
            check::memory("executor.memory", memory, container::total_memory())?;
        }
        let slots = self.slots.unwrap_or_else(|| Count(defaults.slots)).0;
        check::slots("executor.slots", slots)?;
        check::host("executor.advertise", &self.advertise)?;
        check::name("executor.name", &self.name)?;
        check::name("executor.rack", &self.rack)?;
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Ok(ExecutorConfig {
            primaries: self.primary.split(',').map(|primary| primary.trim().to_owned()).collect(),
            name: text(&self.name),
            role: match self.role {
                Role::Core => event::Role::Core,
                Role::Task => event::Role::Task,
            },
            slots,
            memory_bytes: given(self.memory).unwrap_or(defaults.memory_bytes),
            exchange_memory_bytes: given(exchange.memory),
            dir: self.dir.clone(),
            exchange_disk_bytes: given(exchange.disk),
            compression: match exchange.compression {
                Compression::None => exchange::Compression::None,
                Compression::Lz4 => exchange::Compression::Lz4,
                Compression::Zstd => exchange::Compression::Zstd,
            },
            spill_disk_bytes: self.spill_disk.bytes(),
            block_dirs: self.block_dirs.clone(),
            block_reserve_bytes: self.block_reserve.bytes(),
            scrub_bytes_per_second: self.scrub_rate.bytes(),
            repair_bytes_per_second: self.repair_rate.bytes(),
            rack: self.rack.clone(),
            listen: address::listen("executor.listen", &self.listen)?,
            advertise: text(&self.advertise),
            join_timeout: self.join_timeout.duration(),
            leave_timeout: self.leave_timeout.duration(),
            programs: self.programs,
            python: self.python.clone(),
            program_memory_bytes: given(self.program_memory),
            program_disk_bytes: self.program_disk.bytes(),
            ..defaults
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct ExecutorConfig {
    /// Primaries to try in turn: host:port, with or without `grpc://` or `http://` before it. Default: the primary of this machine.
    pub primaries: Vec<String>,
    /// Name, unique among the executors of a cluster: a second executor with the name of a live one is refused. Default: its address.
    pub name: Option<String>,
    /// Role of the executor. Default: core.
    pub role: event::Role,
    /// Maximum tasks at a time. Default: the number of cores.
    pub slots: u32,
    /// Memory for tasks, the exchange and programs together, in bytes. Default: [`default_memory`].
    pub memory_bytes: u64,
    /// Resident memory of the process beyond `memory_bytes` before load is shed, for what no pool counts, in bytes. Default: a quarter of `memory_bytes`, at
    /// least 512 MiB. In a container, load is shed before the kernel kills, whatever this says.
    pub resident_allowance_bytes: Option<u64>,
    /// Part of `memory_bytes` that map outputs may hold before they go to files. Default: 64 MiB for each slot, at most three tenths.
    pub exchange_memory_bytes: Option<u64>,
    /// Scratch folder for map outputs and spilled operators, used by this executor alone. Default `windlass/executor` in the working folder.
    pub dir: PathBuf,
    /// Folders for replicas on a core executor, one for each disk. Default: `blocks` in `dir`.
    pub block_dirs: Vec<PathBuf>,
    /// Bytes that each of these disks keeps free. Default 1 GiB.
    pub block_reserve_bytes: u64,
    /// Bytes of replicas per second that the scrubber reads; 0 turns it off. Default 4 MiB.
    pub scrub_bytes_per_second: u64,
    /// Bytes per second that copies for repair may take; 0: no limit. Default 64 MiB.
    pub repair_bytes_per_second: u64,
    /// Maximum bytes of map outputs on disk. Default: the size of the disk.
    pub exchange_disk_bytes: Option<u64>,
    /// Maximum bytes of spilled operators on disk. Default 100 GiB.
    pub spill_disk_bytes: u64,
    /// Compression of map outputs in files and between executors. Default lz4.
    pub compression: exchange::Compression,
    /// Host name, by default the machine's. A task runs where its blocks are when both give the same host.
    pub host: String,
    pub rack: String,
    /// Listen address of the Exchange and Flight services; port 0: any free one. Default 127.0.0.1:0.
    pub listen: SocketAddr,
    /// host:port under which others reach `listen`. Default: the address of the interface that leads to the primary.
    pub advertise: Option<String>,
    /// Time to try to reach a primary at the start. Default 60 s. After the first contact the executor waits for ever.
    pub join_timeout: Duration,
    /// Time to wait for the primary's farewell when asked to leave. Default 60 s.
    pub leave_timeout: Duration,
    /// Kinds of tables beside files, equal to the primary's. Default: none.
    pub connectors: Registry,
    /// Whether programs of users run here. Default: where only this machine reaches the executor and its primaries.
    pub programs: Allowed,
    /// The Python that runs them. Default python3, as PATH finds it.
    pub python: String,
    /// Maximum bytes of memory of one program, a part of `memory_bytes`. Default: the part of a slot.
    pub program_memory_bytes: Option<u64>,
    /// Maximum bytes that one program writes into its folder. Default 10 GiB.
    pub program_disk_bytes: u64,
}

impl Default for ExecutorConfig {
    fn default() -> Self {
        ExecutorConfig {
            primaries: vec![format!("grpc://{}", address::PRIMARY)],
            name: None,
            role: event::Role::Core,
            slots: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
            memory_bytes: default_memory(),
            resident_allowance_bytes: None,
            exchange_memory_bytes: None,
            dir: PathBuf::from("windlass/executor"),
            block_dirs: Vec::new(),
            block_reserve_bytes: 1 << 30,
            scrub_bytes_per_second: 4 << 20,
            repair_bytes_per_second: 64 << 20,
            exchange_disk_bytes: None,
            spill_disk_bytes: 100 << 30,
            compression: exchange::Compression::default(),
            host: host_name(),
            rack: "default".into(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            advertise: None,
            join_timeout: Duration::from_secs(60),
            leave_timeout: Duration::from_secs(60),
            connectors: Registry::default(),
            programs: Allowed::Auto,
            python: "python3".to_string(),
            program_memory_bytes: None,
            program_disk_bytes: 10 << 30,
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

    /// Maximum bytes of map outputs in memory. More made nothing faster in measurements: a file that is read soon after it was written comes from the kernel's
    /// cache, compressed, and that memory is not taken from operators.
    pub(crate) fn exchange_memory(&self) -> u64 {
        let default = || (64 << 20) * u64::from(self.slots);
        self.exchange_memory_bytes.unwrap_or_else(|| default().min(self.memory_bytes / 10 * 3)).min(self.memory_bytes)
    }

    /// Maximum bytes of memory of one program.
    pub(crate) fn program_memory(&self) -> u64 {
        let part = self.memory_bytes / u64::from(self.slots.max(1));
        self.program_memory_bytes.unwrap_or(part).min(self.memory_bytes)
    }

    /// Whether programs may run, or why not.
    pub(crate) fn allows_programs(&self) -> Result<(), String> {
        let is_local = |primary: &String| {
            let host = primary.rsplit("://").next().unwrap_or(primary);
            let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
            host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        };
        let is_alone = self.listen.ip().is_loopback() && self.primaries.iter().all(is_local);
        match self.programs {
            Allowed::Yes => Ok(()),
            Allowed::Auto if is_alone => Ok(()),
            Allowed::Auto => Err("programs run by default only where this machine alone reaches the executor and its primary: programs = \"yes\" in the \
                 section executor allows them, to anybody who can send statements"
                .to_string()),
            Allowed::No => Err("programs are not allowed here (programs = \"no\" in the section executor)".to_string()),
        }
    }

    /// Resident memory of the process, in bytes, above which load is shed.
    pub(crate) fn resident_limit(&self, container: Option<&Group>) -> u64 {
        let allowance = self.resident_allowance_bytes.unwrap_or_else(|| (self.memory_bytes / 4).max(UNCOUNTED));
        let wanted = self.memory_bytes.saturating_add(allowance);
        container.map_or(wanted, |group| wanted.min(room_in(group.limit)))
    }
}

/// Default memory in bytes: three fifths of the memory of the machine or container. On a small one all but 512 MiB, because uncounted memory does not shrink
/// with the pool. At least a quarter.
pub fn default_memory() -> u64 {
    memory_of(container::total_memory())
}

/// Bytes of a container's `limit` that may be held before load is shed.
pub(crate) fn room_in(limit: u64) -> u64 {
    limit.saturating_sub((limit / CONTAINER_MARGIN).max(LEAST_MARGIN)).max(limit / 2)
}

fn memory_of(total: u64) -> u64 {
    (total / 5 * 3).min(total.saturating_sub(UNCOUNTED)).max(total / 4)
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".into(),
        name => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_default_stands_once() {
        let made = Executor::default().settings(&Exchange::default()).unwrap();
        assert_eq!(made, ExecutorConfig::default());
    }

    #[test]
    fn an_executor_leaves_room_for_what_no_pool_counts() {
        let shares = [(256, 64), (1_024, 512), (2_048, 1_228), (16_384, 9_830)];
        for (total, memory) in shares {
            assert_eq!(memory_of(total * MIB) / MIB, memory, "of {total} MiB");
        }
    }

    #[test]
    fn a_program_gets_a_part_of_the_memory() {
        let of = |given| ExecutorConfig {
            memory_bytes: 300,
            slots: 3,
            program_memory_bytes: given,
            ..ExecutorConfig::default()
        };
        let allowed = [None, Some(200), Some(500)].map(|given| of(given).program_memory());
        assert_eq!(allowed, [100, 200, 300]);
    }

    #[test]
    fn load_is_shed_before_a_container_is_full() {
        let of = |memory: u64| ExecutorConfig { memory_bytes: memory * MIB, ..ExecutorConfig::default() };
        assert_eq!(of(512).resident_limit(None), 1_024 * MIB);
        for (container, memory, limit) in [(1_024, 614, 960), (4_096, 2_457, 3_071), (100, 64, 50)] {
            assert_eq!(
                room_in(container * MIB).min(of(memory).resident_limit(None)) / MIB,
                limit,
                "in {container} MiB"
            );
        }
    }
}

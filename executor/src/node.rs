//! The parts of an executor: folders, memory, exchange store, runtimes.

use crate::blocks::BlockStore;
use crate::config::ExecutorConfig;
use crate::error::ExecutorError;
use crate::leader::Leader;
use crate::memory::{ExecutorMemory, resident_bytes};
use crate::programs::Host;
use crate::stages::{EngineStages, Stages};
use bytes::Bytes;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tokio::runtime::{Handle, Runtime};
use windlass_connectors::StoreRegistry;
use windlass_connectors::wfs::{Local, Primary, Wfs};
use windlass_core::event::Role;
use windlass_core::ids::ExecutorId;
use windlass_engine::exchange::{ExchangeStore, StoreConfig};
use windlass_engine::room::STACK_BYTES;
use windlass_engine::{Connections, Handover};
use windlass_proto::pass::KeyRing;
use windlass_proto::{v1, version};

/// An executor that is ready to join a primary. Cheap to clone; the last clone frees its threads.
#[derive(Clone)]
pub struct Executor {
    node: Arc<Node>,
}

#[derive(Clone)]
pub(crate) struct Node {
    pub config: ExecutorConfig,
    pub memory: Arc<ExecutorMemory>,
    pub store: Arc<ExchangeStore>,
    /// Replicas of files; `None` on a task executor.
    pub blocks: Option<BlockStore>,
    pub leader: Arc<Leader>,
    /// The key of the cluster, once it has joined one.
    pub keys: KeyRing,
    pub connections: Arc<Connections>,
    pub stages: Arc<dyn Stages>,
    pub programs: Arc<Host>,
    handover: Handover,
    stores: Arc<StoreRegistry>,
    runtime_env: Arc<RuntimeEnv>,
    cpu: Arc<CpuRuntime>,
    /// Identity of this process, whatever its name.
    instance: Bytes,
    beside: Arc<CpuRuntime>,
    /// Spare threads, started when first needed.
    spare: Arc<OnceLock<Option<CpuRuntime>>>,
    /// Lock that is held while the folder is used.
    _lock: Arc<File>,
}

impl Executor {
    /// Locks the folder, removes what an earlier process left in it, and starts the threads for tasks.
    ///
    /// To be called on the runtime that carries the network.
    pub fn open(config: ExecutorConfig) -> Result<Executor, ExecutorError> {
        if config.slots == 0 {
            return Err(ExecutorError::Config { setting: "--slots", reason: "an executor needs at least one".into() });
        }
        let dir = &config.dir;
        let lock = take_dir(dir)?;
        let unusable = |reason: String| ExecutorError::Stores { dir: dir.clone(), reason };
        let memory_bytes = usize::try_from(config.memory_bytes).unwrap_or(usize::MAX);
        let memory = ExecutorMemory::new(memory_bytes);
        windlass_engine::constants::bound_values(config.memory_bytes);
        let exchange_pool = memory.group("the exchange", 0);
        let spill = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![dir.join("spill")]))
            .with_max_temp_directory_size(config.spill_disk_bytes);
        let stores = StoreRegistry::new();
        let runtime_env = RuntimeEnvBuilder::new()
            .with_object_store_registry(stores.clone())
            // An embedded primary plans with this runtime too, and others may add files to the folders that it lists.
            .with_object_list_cache_limit(0)
            .with_memory_pool(memory.group("this process", 1))
            .with_disk_manager_builder(spill)
            .build_arc()
            .map_err(|error| unusable(error.to_string()))?;
        let exchange = StoreConfig {
            memory_budget: config.exchange_memory() as usize,
            compression: config.compression,
            disk_budget: config.exchange_disk_bytes,
            ..StoreConfig::new(dir.join("exchange"))
        };
        let store =
            ExchangeStore::open(exchange, exchange_pool.clone()).map_err(|error| unusable(error.to_string()))?;
        let cpu = Arc::new(CpuRuntime::start(config.slots, "windlass-cpu")?);
        let beside = Arc::new(CpuRuntime::start(BESIDE, "windlass-light")?);
        let keys = KeyRing::default();
        let connections = Connections::new(Handle::current(), exchange_pool, keys.clone());
        let blocks = match config.role {
            Role::Core => Some(BlockStore::open(config.blocks(), Handle::current(), keys.clone())?),
            Role::Task => None,
        };
        let leader = Arc::new(Leader::default());
        let local = blocks.clone().map(|blocks| Arc::new(blocks) as Arc<dyn Local>);
        stores.set_wfs(Wfs::new(leader.clone(), Handle::current(), local));
        let handover = Handover::default();
        let programs = Arc::new(Host::of(&config, memory.group("programs", 0)));
        let stages = Arc::new(EngineStages {
            runtime_env: runtime_env.clone(),
            store: store.clone(),
            object_stores: stores.clone(),
            handover: handover.clone(),
            connectors: config.connectors.clone(),
            programs: programs.clone(),
        });
        let instance = Bytes::copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        let _lock = Arc::new(lock);
        let node = Node {
            config,
            memory,
            store,
            blocks,
            leader,
            keys,
            connections,
            stages,
            programs,
            handover,
            stores,
            runtime_env,
            cpu,
            instance,
            beside,
            spare: Arc::default(),
            _lock,
        };
        Ok(Executor { node: Arc::new(node) })
    }

    /// Map outputs of this process. In embedded mode the primary reads results here.
    pub fn store(&self) -> &Arc<ExchangeStore> {
        &self.node.store
    }

    /// Plans that a primary of this process hands over.
    pub fn handover(&self) -> &Handover {
        &self.node.handover
    }

    /// The object stores that tasks reach.
    pub fn stores(&self) -> &Arc<StoreRegistry> {
        &self.node.stores
    }

    /// Sets the primary of this process as the source of files.
    pub fn files_of(&self, primary: Arc<dyn Primary>) {
        let local = self.node.blocks.clone().map(|blocks| Arc::new(blocks) as Arc<dyn Local>);
        self.node.stores.set_wfs(Wfs::new(primary, Handle::current(), local));
    }

    pub fn runtime_env(&self) -> &Arc<RuntimeEnv> {
        &self.node.runtime_env
    }

    /// Connections to other executors, for other readers of map outputs in this process.
    pub fn connections(&self) -> &Arc<Connections> {
        &self.node.connections
    }

    /// Runtime for CPU-bound work of this process.
    pub fn cpu(&self) -> &Handle {
        self.node.cpu()
    }

    /// Waits until what tasks have begun elsewhere has ended: queries of other systems, and programs.
    pub(crate) async fn settle(&self) {
        tokio::join!(self.node.config.connectors.settle(), self.node.programs.settle());
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }
}

impl Node {
    pub fn cpu(&self) -> &Handle {
        self.cpu.handle()
    }

    /// Runtime for a task that runs beside full slots, whose tasks may keep their threads busy for seconds.
    pub fn beside(&self) -> &Handle {
        self.beside.handle()
    }

    /// Runtime for a task whose slot's thread is still busy with a cancelled one. One thread for each slot.
    pub fn spare(&self) -> &Handle {
        let start = || match CpuRuntime::start(self.config.slots, "windlass-spare") {
            Ok(runtime) => Some(runtime),
            Err(error) => {
                tracing::warn!(%error, "no threads for tasks in the place of those that were cancelled");
                None
            }
        };
        self.spare.get_or_init(start).as_ref().map_or(self.beside(), CpuRuntime::handle)
    }

    #[cfg(test)]
    pub fn with_stages(&self, stages: Arc<dyn Stages>) -> Arc<Node> {
        Arc::new(Node { stages, ..self.clone() })
    }

    /// Builds the registration. `formerly`: ids under which the content of its exchange store was written.
    pub fn register(&self, address: &str, formerly: &[ExecutorId]) -> v1::Register {
        let config = &self.config;
        v1::Register {
            version: version::VERSION.into(),
            name: config.name.clone().unwrap_or_else(|| address.to_string()),
            host: config.host.clone(),
            rack: config.rack.clone(),
            role: v1::Role::from(config.role).into(),
            slots: config.slots,
            memory_bytes: config.memory_bytes,
            program_memory_bytes: config.program_memory(),
            address: address.into(),
            pid: std::process::id(),
            dir: config.dir.display().to_string(),
            formerly: formerly.iter().map(|id| id.0).collect(),
            kept: self.store.stages().into_iter().map(Into::into).collect(),
            instance: self.instance.clone(),
        }
    }

    pub fn heartbeat(&self, running_tasks: u32) -> v1::Heartbeat {
        let exchange = self.store.usage();
        let (file_local_bytes, file_remote_bytes) = self.stores.wfs().map_or((0, 0), |wfs| wfs.bytes_read());
        let program_memory_bytes = self.programs.held();
        let (block_bytes, block_free_bytes) = self.blocks.as_ref().map_or((0, 0), BlockStore::space);
        v1::Heartbeat {
            memory_used_bytes: self.memory.used() as u64,
            memory_resident_bytes: resident_bytes(),
            exchange_memory_bytes: exchange.memory_bytes as u64,
            exchange_disk_bytes: exchange.disk_bytes,
            program_memory_bytes,
            running_tasks,
            block_bytes,
            block_free_bytes,
            file_local_bytes,
            file_remote_bytes,
        }
    }
}

/// Creates and locks the folder, and empties its `spill` subfolder.
fn take_dir(dir: &Path) -> Result<File, ExecutorError> {
    let failed = |source| ExecutorError::Dir { dir: dir.to_path_buf(), source };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let lock = File::create(dir.join("lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(ExecutorError::DirTaken { dir: dir.to_path_buf() }),
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    let spill = dir.join("spill");
    match std::fs::remove_dir_all(&spill) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(failed(source)),
        _ => {}
    }
    std::fs::create_dir_all(&spill).map_err(failed)?;
    Ok(lock)
}

/// Number of threads for tasks beside those of the slots. Two, so that one long task does not hold up the next.
const BESIDE: u32 = 2;

/// Threads for tasks. Drop does not wait for tasks: whoever started them stops them.
struct CpuRuntime {
    runtime: Option<Runtime>,
}

impl CpuRuntime {
    fn start(threads: u32, name: &str) -> Result<Self, ExecutorError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads as usize)
            .thread_name(name)
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .map_err(ExecutorError::Threads)?;
        Ok(CpuRuntime { runtime: Some(runtime) })
    }

    fn handle(&self) -> &Handle {
        self.runtime.as_ref().map(Runtime::handle).expect("the runtime goes only when its owner is dropped")
    }
}

impl Drop for CpuRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // An ordinary drop may block, which is not allowed on an async thread.
            runtime.shutdown_background();
        }
    }
}

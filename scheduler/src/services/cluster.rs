//! The cluster: its executors, how many it wants, and what it has done.

use super::jobs::Jobs;
use super::runs::Runs;
use super::sessions::Sessions;
pub use crate::driver::Standing;
pub use crate::driver::history::Counts;
use crate::driver::{Driver, ExecutorEntry};
use crate::statements::catalog::Catalog;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;
use windlass_core::access::Principal;
use windlass_core::elastic::{Demand, ElasticConfig, Load};
use windlass_core::event::Role;
use windlass_core::ids::ExecutorId;
use windlass_proto::v1;

use super::jobs::JobState;

/// The cluster as a whole. Cheap to clone.
#[derive(Clone)]
pub struct ClusterView {
    driver: Driver,
    jobs: Jobs,
    /// Absent in tests of the layers below statements.
    above: Option<Above>,
    /// The URL of the REST interface. Empty: it is not served.
    rest_url: String,
    /// Limits on the number of executors, if it follows the load.
    limits: Option<ElasticConfig>,
    started: Instant,
}

#[derive(Clone)]
struct Above {
    sessions: Sessions,
    runs: Runs,
    catalog: Arc<Catalog>,
}

#[derive(Clone, Debug)]
pub struct ClusterStatus {
    pub version: &'static str,
    pub pid: u32,
    /// Time since the primary began to lead.
    pub uptime: Duration,
    /// The URL of the REST interface. Empty: it is not served.
    pub rest_url: String,
    pub executors: Vec<ExecutorView>,
    pub jobs: [(JobState, usize); JobState::ALL.len()],
    pub sessions: usize,
    /// Results that wait to be read.
    pub results: usize,
    /// Grows with each change of the catalog.
    pub catalog_version: u64,
    /// The number of executors that the cluster wants. `None`: the primary is stopping.
    pub wanted: Option<Wanted>,
}

/// The load of the cluster, and the executors that it wants for it.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub load: Load,
    pub demand: Demand,
    /// Limits on the number of executors, if it follows the load.
    pub limits: Option<ElasticConfig>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutorView {
    pub id: ExecutorId,
    pub name: String,
    /// host:port of its services.
    pub address: String,
    pub host: String,
    pub rack: String,
    pub role: Role,
    pub standing: Standing,
    pub pid: u32,
    pub dir: String,
    /// Tasks that it runs concurrently.
    pub slots: u32,
    /// Attempts that hold a slot.
    pub running: u32,
    /// Limit of its memory pool, bytes.
    pub memory_bytes: u64,
    /// Bytes reserved in the pool.
    pub memory_used_bytes: u64,
    /// Resident memory of the process without pages of files, bytes.
    pub memory_resident_bytes: u64,
    /// Bytes of map outputs in memory. `exchange_disk_bytes` counts those in files.
    pub exchange_memory_bytes: u64,
    pub exchange_disk_bytes: u64,
    /// Bytes of memory that programs hold; `memory_used_bytes` includes them.
    pub program_memory_bytes: u64,
    /// Bytes of replicas of files. `block_free_bytes` counts the room for more on its disks.
    pub block_bytes: u64,
    pub block_free_bytes: u64,
    /// Bytes of files read from its own replicas since it started. `file_remote_bytes` counts those from others' replicas.
    pub file_local_bytes: u64,
    pub file_remote_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DrainError {
    #[error("{0}; 'windlass cluster status' shows names and ids")]
    Unknown(String),
    #[error(
        "{name} is the last core executor, and holds {bytes} bytes of files that no other could take: add a core executor first, or end it \
         with SIGTERM, which leaves the files in its folder for its next start"
    )]
    LastHolder { name: String, bytes: u64 },
}

impl ClusterView {
    pub(crate) fn new(driver: Driver, rest_url: String) -> Self {
        let jobs = Jobs::new(driver.clone());
        ClusterView { driver, jobs, above: None, rest_url, limits: None, started: Instant::now() }
    }

    pub(crate) fn with(
        self,
        sessions: Sessions,
        runs: Runs,
        catalog: Arc<Catalog>,
        limits: Option<ElasticConfig>,
    ) -> Self {
        ClusterView { above: Some(Above { sessions, runs, catalog }), limits, ..self }
    }

    /// Returns the present state.
    pub async fn status(&self, by: &Principal) -> ClusterStatus {
        let above = self.above.as_ref();
        ClusterStatus {
            version: windlass_proto::version::VERSION,
            pid: std::process::id(),
            uptime: self.started.elapsed(),
            rest_url: self.rest_url.clone(),
            executors: self.executors(by).await,
            jobs: self.jobs.counts(by),
            sessions: above.map_or(0, |above| above.sessions.count(by)),
            results: above.map_or(0, |above| above.runs.results()),
            catalog_version: above.map_or(0, |above| above.catalog.version()),
            wanted: self.wanted().await,
        }
    }

    /// Returns the attached executors, by id.
    pub async fn executors(&self, _: &Principal) -> Vec<ExecutorView> {
        self.driver.executors().await.into_iter().map(view).collect()
    }

    /// Returns what has happened since this primary began to lead.
    pub fn counts(&self, _: &Principal) -> Counts {
        self.driver.history().counts()
    }

    /// Returns the wanted executors. Without configured limits it is the number that the load alone needs.
    async fn wanted(&self) -> Option<Wanted> {
        let load = self.driver.load().await?;
        let typical = load.executors.iter().map(|member| member.slots).max().unwrap_or(1);
        let demand = match &self.limits {
            Some(limits) => load.demand(limits.min, limits.max, limits.slots),
            None => load.demand(0, u32::MAX, typical),
        };
        Some(Wanted { load, demand, limits: self.limits.clone() })
    }

    /// Releases an executor, given by id or by name, after it has ended its tasks and handed over its data. Returns at once.
    ///
    /// # Errors
    /// No such executor, or it is the last that could hold its files.
    pub async fn drain(&self, by: &Principal, executor: &str) -> Result<ExecutorId, DrainError> {
        let id = self.driver.directory().find(executor).map_err(DrainError::Unknown)?;
        let mut core = self.executors(by).await;
        core.retain(|executor| executor.role == Role::Core);
        if let Some(at) = core.iter().position(|executor| executor.id == id) {
            let leaving = core.swap_remove(at);
            if leaving.block_bytes > 0 && !core.iter().any(|other| other.standing.stays()) {
                return Err(DrainError::LastHolder { name: leaving.name, bytes: leaving.block_bytes });
            }
        }
        self.driver.decommission(id);
        Ok(id)
    }
}

fn view(entry: ExecutorEntry) -> ExecutorView {
    let ExecutorEntry { id, register, heartbeat, state, running, beats: _ } = entry;
    ExecutorView {
        id,
        name: register.name,
        address: register.address,
        host: register.host,
        rack: register.rack,
        // An executor of an unknown role cannot register.
        role: v1::Role::try_from(register.role).map(Role::from).unwrap_or(Role::Task),
        standing: state,
        pid: register.pid,
        dir: register.dir,
        slots: register.slots,
        running,
        memory_bytes: register.memory_bytes,
        memory_used_bytes: heartbeat.memory_used_bytes,
        memory_resident_bytes: heartbeat.memory_resident_bytes,
        exchange_memory_bytes: heartbeat.exchange_memory_bytes,
        exchange_disk_bytes: heartbeat.exchange_disk_bytes,
        program_memory_bytes: heartbeat.program_memory_bytes,
        block_bytes: heartbeat.block_bytes,
        block_free_bytes: heartbeat.block_free_bytes,
        file_local_bytes: heartbeat.file_local_bytes,
        file_remote_bytes: heartbeat.file_remote_bytes,
    }
}

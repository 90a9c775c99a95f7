//! What an operator can tune about scheduling. Defaults live here and nowhere else.

use super::speculation::SpeculationConfig;
use std::collections::BTreeMap;
use std::time::Duration;

/// Settings of the scheduling machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// An executor that was not heard from for this long is lost. Default 6 s: three heartbeats of 2 s.
    pub heartbeat_timeout: Duration,
    /// How long a job waits when no executor is there, before it fails. Default 30 s.
    pub no_executor_timeout: Duration,
    /// How long a draining executor may stay because it runs tasks or holds outputs that are needed. Default 60 s.
    pub drain_deadline: Duration,
    /// How long tasks on a draining executor may go on before they are stopped and start again on others. Default 30 s.
    pub hand_back_after: Duration,
    /// How long the tasks of a stage hold out for a busy host that they prefer, counted from the first slot they decline
    /// (Zaharia et al., "Delay Scheduling", EuroSys 2010). Default 30 ms.
    pub locality_wait: Duration,
    /// How often one map output may be recomputed because readers could not fetch it, before the job fails. Default 8.
    pub max_recomputes: u32,
    /// How often one task may start again for reasons that are not its fault (its executor was lost, its inputs had moved)
    /// before the job fails: a task that kills its executors must not go through the whole cluster for ever. Default 64.
    pub max_uncounted_retries: u32,
    /// So many tasks of one stage may fail on one executor before it gets no more of them, while there are others. What a statement or
    /// a lack of memory is to blame for does not count. Default 2.
    pub exclude_from_stage_after: u32,
    /// So many tasks of any jobs may fail on one executor within `exclusion` before it gets no tasks at all for as long, while there
    /// are others. Default 6.
    pub exclude_after: u32,
    /// Default 60 s.
    pub exclusion: Duration,
    /// Which tasks start once more because they are slow. `None`: no task does.
    pub speculation: Option<SpeculationConfig>,
    /// Jobs that may wait for their first task, above which submissions are refused as busy. Default: no bound.
    pub max_queued_jobs: Option<usize>,
    /// The same for the jobs of one user. Default: no bound.
    pub max_queued_jobs_per_user: Option<usize>,
    /// Finished stages of jobs that run longer than this are saved for the next leader: what takes less is sooner computed again than
    /// written. Default 1 s.
    pub save_stages_after: Duration,
    /// How long outputs that an executor has kept since it lost its leader wait for their job to be submitted again. Default 60 s.
    pub keep_unclaimed: Duration,
    /// A job that asks for more time, or for no limit, gets this much. Default: no limit.
    pub max_job_time: Option<Duration>,
    /// Tasks in all stages of one job, above which it is refused as not valid. Default 1,000,000.
    pub max_tasks_per_job: u64,
    /// Fair pools by name. A job that names another pool gets one of that name with the defaults of `PoolConfig`.
    pub pools: BTreeMap<String, PoolConfig>,
    /// A defect to plant, so that the tests can prove that their checkers notice it.
    #[cfg(test)]
    pub(crate) defect: Option<super::simulation::Defect>,
}

/// What one pool is entitled to while it has work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Share of the slots relative to the other pools that have work, at least 1. Default 1.
    pub weight: u32,
    /// Slots that the pool gets before weights count. Default 0.
    pub min_share: u32,
    /// Which of the pool's jobs is served next. Default: fair.
    pub order: PoolOrder,
}

/// How the jobs of one pool share its slots. Jobs of higher priority always go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PoolOrder {
    /// All in equal parts.
    #[default]
    Fair,
    /// The first that was submitted takes what it can use.
    Fifo,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        SchedulerConfig {
            heartbeat_timeout: Duration::from_secs(6),
            no_executor_timeout: Duration::from_secs(30),
            drain_deadline: Duration::from_secs(60),
            hand_back_after: Duration::from_secs(30),
            locality_wait: Duration::from_millis(30),
            max_recomputes: 8,
            max_uncounted_retries: 64,
            exclude_from_stage_after: 2,
            exclude_after: 6,
            exclusion: Duration::from_secs(60),
            speculation: Some(SpeculationConfig::default()),
            max_queued_jobs: None,
            max_queued_jobs_per_user: None,
            save_stages_after: Duration::from_secs(1),
            keep_unclaimed: Duration::from_secs(60),
            max_job_time: None,
            max_tasks_per_job: 1_000_000,
            pools: BTreeMap::new(),
            #[cfg(test)]
            defect: None,
        }
    }
}

impl Default for PoolConfig {
    fn default() -> Self {
        PoolConfig { weight: 1, min_share: 0, order: PoolOrder::default() }
    }
}

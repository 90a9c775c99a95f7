//! Scheduling settings for operators. Defaults live here and nowhere else.

use super::speculation::SpeculationConfig;
use std::collections::BTreeMap;
use std::time::Duration;

/// Settings of the scheduling machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Silence after which an executor is lost. Default 6 s: three heartbeats of 2 s.
    pub heartbeat_timeout: Duration,
    /// Time that a job waits without any executor before it fails. Default 30 s.
    pub no_executor_timeout: Duration,
    /// Time that a draining executor may stay while it runs tasks or holds outputs that are needed. Default 60 s.
    pub drain_deadline: Duration,
    /// Time that tasks on a draining executor may go on before they are stopped and start again on others. Default 30 s.
    pub hand_back_after: Duration,
    /// Time that the tasks of a stage wait for a busy host that they prefer, counted from the first slot that they decline (Zaharia et al., "Delay Scheduling",
    /// EuroSys 2010). Default 30 ms.
    pub locality_wait: Duration,
    /// Recomputations of one map output that readers could not fetch, above which the job fails. Default 8.
    pub max_recomputes: u32,
    /// Retries of one task for reasons that are not its fault (its executor was lost, its inputs had moved), above which the job fails: a task that kills its
    /// executors must not go through the whole cluster for ever. Default 64.
    pub max_uncounted_retries: u32,
    /// Failed tasks of one stage on one executor, after which the executor gets no more of them while there are others. Failures caused by the statement or by
    /// lack of memory do not count. Default 2.
    pub exclude_from_stage_after: u32,
    /// Failed tasks of any jobs on one executor within `exclusion`, after which the executor gets no tasks at all for as long, while there are others. Default
    /// 6.
    pub exclude_after: u32,
    /// Period that counts failures for `exclude_after`, and length of the exclusion. Default 60 s.
    pub exclusion: Duration,
    /// Conditions under which a slow task starts a second time. `None`: no task does.
    pub speculation: Option<SpeculationConfig>,
    /// Maximum jobs that wait for their first task; further submissions are refused as busy. Default: no bound.
    pub max_queued_jobs: Option<usize>,
    /// Maximum jobs of one user that wait for their first task. Default: no bound.
    pub max_queued_jobs_per_user: Option<usize>,
    /// Age of a job from which its finished stages are saved for the next leader: a shorter job is computed again faster than saved. Default 1 s.
    pub save_stages_after: Duration,
    /// Time to keep outputs of an earlier leader's job until the job is submitted again. Default 60 s.
    pub keep_unclaimed: Duration,
    /// Maximum time of a job: a job that asks for more, or for no limit, gets this much. Default: no limit.
    pub max_job_time: Option<Duration>,
    /// Maximum tasks in all stages of one job; a larger job is refused as not valid. Default 1,000,000.
    pub max_tasks_per_job: u64,
    /// Fair pools by name. A job that names another pool gets a new pool of that name with the defaults of `PoolConfig`.
    pub pools: BTreeMap<String, PoolConfig>,
    /// A planted defect: tests prove that their checkers notice it.
    #[cfg(test)]
    pub(crate) defect: Option<super::simulation::Defect>,
}

/// The claims of one pool while it has work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Share of the slots relative to the other pools that have work, at least 1. Default 1.
    pub weight: u32,
    /// Slots that the pool gets before weights count. Default 0.
    pub min_share: u32,
    /// Order in which the pool's jobs are served. Default: fair.
    pub order: PoolOrder,
}

/// Ways to share a pool's slots among its jobs. Jobs of higher priority always go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PoolOrder {
    /// Equal parts for all jobs.
    #[default]
    Fair,
    /// First in, first out: the oldest job takes all it can use.
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

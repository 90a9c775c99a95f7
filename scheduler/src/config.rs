//! The settings of a primary: the sections `primary`, `elastic`, `files` and `query` of the configuration file. Defaults are defined by
//! the parts that use them, and shown here.

use crate::driver::DriverConfig;
use crate::files::Tickets;
use crate::meta::EtcdConfig;
use crate::primary::PrimaryConfig;
use crate::primary::leading::{ProcessConfig, RestConfig};
use crate::services::HttpFaces;
use crate::services::interactive::InteractiveConfig;
use crate::services::submissions::SubmissionsConfig;
use crate::statements::StatementConfig;
use crate::statements::sessions::{SessionConfig, check_option};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use url::Url;
use windlass_core::elastic::ElasticConfig;
use windlass_core::interactive;
use windlass_core::scheduler::{self, PoolConfig, SchedulerConfig, SpeculationConfig};
use windlass_core::section;
use windlass_core::settings::check;
use windlass_core::settings::units::{Auto, ByteSize, Count, Span};
use windlass_core::wfs::{MAX_REPLICATION, WfsConfig};
use windlass_engine::config::WindlassOptions;
use windlass_engine::extent::Limits;
use windlass_proto::address;

/// Shortest lease of a leader, as etcd grants it.
const LEAST_LEASE: Duration = Duration::from_secs(2);
/// Smallest block of a file.
const LEAST_BLOCK: ByteSize = ByteSize(4 << 10);
/// Shortest time of a ticket.
const LEAST_TICKET: Duration = Duration::from_secs(1);

section! {
    /// The primary: plans statements, schedules tasks, keeps the catalog.
    Primary {
        /// Where gRPC and Arrow Flight SQL are served: address:port. Port 0 takes a free one. Use 0.0.0.0 to serve other machines.
        listen: String = address::PRIMARY.to_owned();
        /// Where REST is served: address:port.
        rest: String = address::REST.to_owned();
        /// The metadata store (the catalog and the counter of jobs), unless it is an etcd.
        dir: PathBuf = PathBuf::from("windlass/primary");
        /// The etcd of a cluster with several primaries, one of which leads while the others stand by: the address of each member, such
        /// as ["http://10.0.0.1:2379"]. Empty: one primary, with its store in dir.
        etcd: Vec<String> = Vec::new();
        /// With etcd: the name of the cluster. Clusters with different names can share an etcd.
        cluster: String = "windlass".to_owned();
        /// With etcd: a leader that is silent for this long is replaced. Whole seconds, at least 2.
        lease: Span = Span::secs(3);
        /// The host under which others reach this primary; empty: the address that it listens on.
        advertise: String = String::new();
        /// Folder for the tables that Windlass writes, as a path or URL that every process reaches; empty: one in dir.
        warehouse: String = String::new();
        /// A session that nobody uses for this long is forgotten, with its temporary tables and its options.
        session_timeout: Span = Span(SessionConfig::default().idle);
        /// The longest statement that is accepted.
        statement_limit: ByteSize = ByteSize(StatementConfig::default().max_statement_bytes as u64);
        /// Maximum depth of a statement in operators and expressions: a chain of OR is as deep as it is long. At most 6,000, for which
        /// threads have room.
        depth_limit: Count = count(Limits::default().depth);
        /// Maximum number of operators and expressions of a statement. A view or common table expression that is named twice counts twice.
        size_limit: Count = count(Limits::default().size);
        /// A statement fails when planning it takes longer, not counting the time that it waits.
        planning_timeout: Span = Span(StatementConfig::default().planning_timeout);
        /// A statement fails when planning it takes more memory. "auto": a quarter of the memory of the machine or the container.
        planning_memory: Auto<ByteSize> = Auto::Auto;
        /// Time between two reports of an executor.
        heartbeat: Span = Span(DriverConfig::default().heartbeat);
        /// An executor that is silent for this long counts as lost.
        executor_timeout: Span = Span(SchedulerConfig::default().heartbeat_timeout);
        /// A job waits this long for a first executor before it fails.
        executor_wait: Span = Span(SchedulerConfig::default().no_executor_timeout);
        /// An executor gets no tasks for this long, while there are others, after exclude_after tasks have failed there within this time through
        /// no fault of their statement. After two failures in one stage it gets no more tasks of that stage.
        exclusion: Span = Span(SchedulerConfig::default().exclusion);
        /// See exclusion.
        exclude_after: Count = Count(SchedulerConfig::default().exclude_after);
        /// Whether a task that takes much longer than others of its stage starts once more, on a slot that nobody else wants.
        speculation: bool = SchedulerConfig::default().speculation.is_some();
        /// Percentage of the stage's tasks that must be done before a second copy of a slow one starts.
        speculation_quantile: Count = Count(SpeculationConfig::default().quantile);
        /// A task is slow when it has run for this many times the median of the tasks that are done.
        speculation_multiplier: f64 = f64::from(SpeculationConfig::default().multiplier) / 100.0;
        /// A task is slow when it has run for at least this long.
        speculation_after: Span = Span(SpeculationConfig::default().after);
        /// Tasks on a leaving executor may go on this long before they start again on others.
        hand_back_after: Span = Span(SchedulerConfig::default().hand_back_after);
        /// A leaving executor may stay this long while its outputs are needed.
        drain_timeout: Span = Span(SchedulerConfig::default().drain_deadline);
        /// Time that running jobs have to end after SIGTERM.
        finish_timeout: Span = Span(PrimaryConfig::default().finish_timeout);
        /// Finished stages of jobs that run longer than this are saved, so that the next primary that leads, or this one after its next
        /// start, goes on behind them.
        save_stages_after: Span = Span(SchedulerConfig::default().save_stages_after);
        /// Executors remove the outputs of a lost primary's jobs after this time, unless a job goes on with them.
        keep_unclaimed: Span = Span(SchedulerConfig::default().keep_unclaimed);
        /// Jobs that may wait for their first task. More are refused.
        queued_jobs: Count = count(DriverConfig::default().scheduler.max_queued_jobs.unwrap_or(usize::MAX));
        /// Jobs of one user that may wait for their first task. More are refused.
        queued_jobs_per_user: Count = Count(1_000);
        /// Submissions that have not ended. More are refused.
        submissions: Count = count(SubmissionsConfig::default().max);
        /// Submissions of one user that have not ended. More are refused.
        submissions_per_user: Count = count(SubmissionsConfig::default().max_per_user);
        /// Interactive sessions (Livy) that are known. More are refused.
        interactive_sessions: Count = count(InteractiveConfig::default().max_sessions);
        /// An interactive session that nobody uses for this long ends, unless it asks for another time.
        interactive_idle: Span = Span(InteractiveConfig::default().idle);
        /// Time that an interactive session stays known after its end.
        interactive_retention: Span = Span(InteractiveConfig::default().retention);
        /// Statements of an interactive session that have ended and stay known, and, again as many, those that wait.
        interactive_statements: Count = Count(InteractiveConfig::default().limits.kept as u32);
        /// Bytes of the texts and outputs of one interactive session. The oldest go first.
        interactive_bytes: ByteSize = ByteSize(InteractiveConfig::default().limits.bytes);
        /// Rows that an output keeps, unless its session asks for another number.
        output_rows: Count = Count(InteractiveConfig::default().rows as u32);
        /// Bytes of the rows that an output keeps.
        output_bytes: ByteSize = ByteSize(InteractiveConfig::default().row_bytes);
        /// A statement whose job takes longer fails, whatever its session asks for. "0s": no limit.
        statement_timeout: Span = Span(SchedulerConfig::default().max_job_time.unwrap_or_default());
        /// Fair pools: slots by weight among those that have work, after a minimum share of slots. Inside a pool jobs share its slots in
        /// equal parts ("fair"), or the first takes what it can use ("fifo"). Pools that are not named here have weight 1, no minimum share
        /// and are fair: { etl = { weight = 3, min_share = 2, order = "fifo" } }
        pools: BTreeMap<String, Pool> = BTreeMap::new();
        /// Ended jobs that are still listed.
        history: Count = count(DriverConfig::default().history_jobs);
    }
}

section! {
    /// Executors that the primary starts on its own machine, and lets go, with the load.
    Elastic {
        /// Maximum number of executors, including those that were started otherwise. 0: the primary starts none.
        max_executors: u32 = 0;
        /// Minimum number of executors.
        min_executors: u32 = 0;
        /// Slots of each one that is started.
        slots: Count = Count(1);
        /// Memory of each one that is started.
        memory: ByteSize = ByteSize::mib(1024);
        /// Folder in which each executor that is started gets a folder.
        dir: PathBuf = PathBuf::from("windlass/elastic");
        /// Time that tasks wait before executors are started for them.
        backlog: Span = Span::secs(1);
        /// Time that an executor is idle before it is let go.
        idle: Span = Span::secs(60);
    }
}

section! {
    /// wfs://, the files of the cluster, in blocks on its core executors.
    Files {
        /// Replicas of a file whose writer and folder ask for nothing else: 1 to 5.
        replication: Count = Count(WfsConfig::default().replication.into());
        /// Bytes in a block.
        block: ByteSize = ByteSize(WfsConfig::default().block_bytes);
        /// Replicas of each block that must be on disks before a file is complete, if the file wants and the cluster has as many.
        min_replicas: Count = Count(WfsConfig::default().min_replicas.into());
        /// A writer that is silent for this long loses the lease of its file, which is then removed.
        lease: Span = Span(WfsConfig::default().lease);
        /// Time that an executor may be away before its replicas are made again elsewhere. Blocks with one replica left do not wait.
        repair_after: Span = Span(WfsConfig::default().repair_after);
        /// Copies at a time to one executor, and from one.
        copies: Count = Count(WfsConfig::default().copies);
        /// Time for which a ticket of the primary lets a client read or write blocks. Clients that take longer get another ticket. It must be
        /// longer than the difference between the machines' clocks.
        ticket: Span = Span(Tickets::VALID);
        /// Time that the replicas of a removed file stay for its readers.
        grace: Span = Span(WfsConfig::default().grace);
        /// Time that files stay in the trash.
        trash: Span = Span(WfsConfig::default().trash);
        /// A file is cold this long after it was written: its blocks are cut into pieces if its folder has such a policy.
        code_after: Span = Span(WfsConfig::default().code_after);
    }
}

section! {
    /// Options that sessions start with. A client changes them for itself with SET.
    Query {
        /// A statement that scans less than this runs as one stage in one place. SET windlass.small_query_bytes
        small_query: ByteSize = ByteSize(WindlassOptions::default().small_query_bytes as u64);
        /// Tasks of a stage for each slot of the cluster. SET windlass.tasks_per_slot
        tasks_per_slot: Count = count(WindlassOptions::default().tasks_per_slot);
        /// The smaller side of a join up to this size goes to every task whole. SET windlass.broadcast_bytes
        broadcast: ByteSize = ByteSize(WindlassOptions::default().broadcast_bytes as u64);
        /// The smaller side of a join of unknown size goes to every task whole up to this number of rows. SET windlass.broadcast_rows
        broadcast_rows: Count = count(WindlassOptions::default().broadcast_rows);
        /// A sort of a whole result with this many rows or more, by estimate, ends in a task for each range of its key. SET
        /// windlass.range_sort_rows
        range_sort_rows: Count = count(WindlassOptions::default().range_sort_rows);
        /// A task's result up to this size travels with its report. SET windlass.inline_result_bytes
        inline_result: ByteSize = ByteSize(WindlassOptions::default().inline_result_bytes as u64);
        /// Failures of a task that fail its job. SET windlass.max_attempts
        attempts: Count = Count(WindlassOptions::default().max_attempts);
        /// The fair pool of jobs. SET windlass.pool
        pool: String = WindlassOptions::default().pool.clone();
        /// Inside their pool, jobs of higher priority go first. SET windlass.priority
        priority: i32 = WindlassOptions::default().priority;
        /// A statement whose job takes longer fails. "0s": no limit but the primary's. SET windlass.statement_timeout_ms
        statement_timeout: Span = Span::millis(WindlassOptions::default().statement_timeout_ms);
        /// Rows in a batch. SET datafusion.execution.batch_size
        batch_rows: Count = count(datafusion::config::ExecutionOptions::default().batch_size.get());
        /// Any other option by its name: { "datafusion.execution.time_zone" = "Europe/Berlin" }
        options: BTreeMap<String, String> = BTreeMap::new();
    }
}

/// The share of slots of a pool of jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    /// Weight relative to the other pools that have work.
    pub weight: Count,
    /// Slots that the pool gets before weights count.
    pub min_share: u32,
    pub order: PoolOrder,
}

/// How the jobs of one pool share its slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolOrder {
    #[default]
    Fair,
    Fifo,
}

impl Default for Pool {
    fn default() -> Self {
        let PoolConfig { weight, min_share, .. } = PoolConfig::default();
        Pool { weight: Count(weight), min_share, order: PoolOrder::default() }
    }
}

impl From<&Pool> for PoolConfig {
    fn from(pool: &Pool) -> Self {
        let order = match pool.order {
            PoolOrder::Fair => scheduler::PoolOrder::Fair,
            PoolOrder::Fifo => scheduler::PoolOrder::Fifo,
        };
        Self { weight: pool.weight.0, min_share: pool.min_share, order }
    }
}

/// Converts a default to the form of the file.
fn count(n: usize) -> Count {
    Count(u32::try_from(n).unwrap_or(u32::MAX))
}

impl Primary {
    /// Returns the settings of a primary in a cluster of processes. `seed`: see [`Files::settings`]; `machine_memory`: bytes that the
    /// machine or the container has; `faces`: the HTTP faces.
    ///
    /// # Errors
    /// The setting that cannot work, and how to fix it.
    pub fn cluster(
        &self,
        files: &Files,
        query: &Query,
        seed: u64,
        machine_memory: u64,
        faces: Arc<dyn HttpFaces>,
    ) -> Result<ProcessConfig, String> {
        check::host("primary.advertise", &self.advertise)?;
        self.check_times()?;
        files.check()?;
        let listen = address::listen("primary.listen", &self.listen)?;
        let finish_timeout = self.finish_timeout.duration();
        let settings = PrimaryConfig { listen, driver: self.driver(), finish_timeout, ..PrimaryConfig::default() };
        let mut cluster = ProcessConfig::new(settings, self.dir.clone());
        self.planning(&mut cluster, query, machine_memory)?;
        if !self.rest.is_empty() {
            cluster.rest = Some(RestConfig { listen: address::listen("primary.rest", &self.rest)?, faces });
        }
        if !self.etcd.is_empty() {
            if self.warehouse.is_empty() {
                return Err("primary.warehouse is not set: primaries that take over from one another need one place for the tables that \
                            Windlass writes, a path or URL that every process reaches"
                    .to_owned());
            }
            cluster.etcd = Some(EtcdConfig {
                endpoints: self.etcd.clone(),
                cluster: self.cluster.clone(),
                lease: self.lease.duration(),
            });
        }
        cluster.files = files.settings(seed);
        cluster.ticket = files.ticket.duration();
        cluster.advertise = Some(self.advertise.clone()).filter(|host| !host.is_empty());
        Ok(cluster)
    }

    /// Returns the settings of a primary in a cluster inside one process, with its store in `dir`. Only this section's settings for
    /// statements, sessions and jobs apply.
    ///
    /// # Errors
    /// The setting that cannot work, and how to fix it.
    pub fn embedded(&self, query: &Query, dir: PathBuf, machine_memory: u64) -> Result<ProcessConfig, String> {
        let settings = PrimaryConfig { driver: self.driver(), ..PrimaryConfig::default() };
        let mut cluster = ProcessConfig::new(settings, dir);
        self.planning(&mut cluster, query, machine_memory)?;
        Ok(cluster)
    }

    fn check_times(&self) -> Result<(), String> {
        let (heartbeat, silence) = (self.heartbeat.duration(), self.executor_timeout.duration());
        if heartbeat.is_zero() || heartbeat * 2 > silence {
            return Err(format!(
                "primary.executor_timeout: an executor that reports every {} (primary.heartbeat) would be lost between two reports; \
                 let it be at least twice as long",
                self.heartbeat
            ));
        }
        if !self.etcd.is_empty() && self.lease.duration() < LEAST_LEASE {
            return Err(format!("primary.lease: {} is too short, at least {}", self.lease, Span(LEAST_LEASE)));
        }
        Ok(())
    }

    fn planning(&self, cluster: &mut ProcessConfig, query: &Query, machine_memory: u64) -> Result<(), String> {
        warehouse("primary.warehouse", &self.warehouse)?;
        for (name, value) in &query.options {
            check_option(name, value).map_err(|error| format!("query.options: {error}"))?;
        }
        if self.speculation_quantile.0 > 100 {
            return Err(format!(
                "primary.speculation_quantile: {} is no percentage: at most 100",
                self.speculation_quantile
            ));
        }
        if !(self.speculation_multiplier >= 1.0 && self.speculation_multiplier <= 1e6) {
            return Err(format!(
                "primary.speculation_multiplier: {} is not between 1 and 1000000",
                self.speculation_multiplier
            ));
        }
        let depth = self.depth_limit.0 as usize;
        if depth > Limits::MOST_DEPTH {
            return Err(format!("primary.depth_limit: at most {} levels have room", Limits::MOST_DEPTH));
        }
        cluster.warehouse = Some(self.warehouse.clone()).filter(|folder| !folder.is_empty());
        cluster.sessions.idle = self.session_timeout.duration();
        cluster.sessions.options = query.session_options();
        cluster.submissions =
            SubmissionsConfig { max: self.submissions.0 as usize, max_per_user: self.submissions_per_user.0 as usize };
        let statements = self.interactive_statements.0 as usize;
        let bytes = self.interactive_bytes.bytes();
        if bytes < self.output_bytes.bytes() {
            return Err(format!(
                "primary.interactive_bytes: a session of {} has no room for an output of {} (primary.output_bytes)",
                self.interactive_bytes, self.output_bytes
            ));
        }
        cluster.interactive = InteractiveConfig {
            max_sessions: self.interactive_sessions.0 as usize,
            idle: self.interactive_idle.duration(),
            retention: self.interactive_retention.duration(),
            limits: interactive::Limits { kept: statements, waiting: statements, bytes },
            rows: u64::from(self.output_rows.0),
            row_bytes: self.output_bytes.bytes(),
            ..InteractiveConfig::default()
        };
        cluster.statements = StatementConfig {
            max_statement_bytes: self.statement_limit.bytes() as usize,
            limits: Limits { depth, size: self.size_limit.0 as usize },
            planning_timeout: self.planning_timeout.duration(),
            planning_memory: self.planning_memory.unwrap_or_else(|| ByteSize(machine_memory / 4)).bytes(),
            ..StatementConfig::default()
        };
        Ok(())
    }

    fn driver(&self) -> DriverConfig {
        let scheduler = SchedulerConfig {
            heartbeat_timeout: self.executor_timeout.duration(),
            no_executor_timeout: self.executor_wait.duration(),
            drain_deadline: self.drain_timeout.duration(),
            exclusion: self.exclusion.duration(),
            exclude_after: self.exclude_after.0,
            speculation: self.speculation.then(|| SpeculationConfig {
                quantile: self.speculation_quantile.0,
                multiplier: (self.speculation_multiplier * 100.0) as u32,
                after: self.speculation_after.duration(),
            }),
            hand_back_after: self.hand_back_after.duration(),
            save_stages_after: self.save_stages_after.duration(),
            keep_unclaimed: self.keep_unclaimed.duration(),
            max_queued_jobs: Some(self.queued_jobs.0 as usize),
            max_queued_jobs_per_user: Some(self.queued_jobs_per_user.0 as usize),
            max_job_time: Some(self.statement_timeout.duration()).filter(|limit| *limit > Duration::ZERO),
            pools: self.pools.iter().map(|(name, pool)| (name.clone(), pool.into())).collect(),
            ..SchedulerConfig::default()
        };
        DriverConfig {
            scheduler,
            heartbeat: self.heartbeat.duration(),
            history_jobs: self.history.0 as usize,
            ..DriverConfig::default()
        }
    }
}

impl Elastic {
    /// Returns the settings of elastic executors. `None`: the primary starts no executors. `machine_memory`: bytes that the machine or
    /// the container has.
    ///
    /// # Errors
    /// The setting that cannot work, and how to fix it.
    pub fn settings(&self, machine_memory: u64) -> Result<Option<ElasticConfig>, String> {
        let Elastic { max_executors: max, min_executors: min, .. } = *self;
        if min > max {
            return Err(format!(
                "elastic.min_executors: {min} is more than elastic.max_executors, which is {max}: see --min-executors and --max-executors"
            ));
        }
        if max == 0 {
            return Ok(None);
        }
        check::memory("elastic.memory", self.memory.bytes(), machine_memory)?;
        check::slots("elastic.slots", self.slots.0)?;
        let (backlog, idle) = (self.backlog.duration(), self.idle.duration());
        Ok(Some(ElasticConfig { min, max, slots: self.slots.0, backlog, idle }))
    }
}

impl Files {
    fn check(&self) -> Result<(), String> {
        for (setting, count) in [("replication", self.replication), ("min_replicas", self.min_replicas)] {
            if count.0 > MAX_REPLICATION.into() {
                return Err(format!(
                    "files.{setting}: {count} is more than the {MAX_REPLICATION} replicas that a file may have"
                ));
            }
        }
        if self.block.bytes() < LEAST_BLOCK.bytes() {
            return Err(format!("files.block: {} is too small, at least {LEAST_BLOCK}", self.block));
        }
        if self.ticket.duration() < LEAST_TICKET {
            return Err(format!("files.ticket: {} is too short, at least {}", self.ticket, Span(LEAST_TICKET)));
        }
        Ok(())
    }

    /// Returns the settings of the block store. `seed` makes the placement of replicas differ between clusters.
    pub fn settings(&self, seed: u64) -> WfsConfig {
        let small = |count: Count| u8::try_from(count.0).unwrap_or(u8::MAX);
        WfsConfig {
            replication: small(self.replication),
            block_bytes: self.block.bytes(),
            min_replicas: small(self.min_replicas),
            lease: self.lease.duration(),
            repair_after: self.repair_after.duration(),
            copies: self.copies.0,
            grace: self.grace.duration(),
            trash: self.trash.duration(),
            code_after: self.code_after.duration(),
            seed,
            ..WfsConfig::default()
        }
    }
}

impl Query {
    /// Returns the options of a session, by the names that SET takes.
    pub fn session_options(&self) -> Vec<(String, String)> {
        let own = [
            ("windlass.small_query_bytes", self.small_query.bytes().to_string()),
            ("windlass.tasks_per_slot", self.tasks_per_slot.to_string()),
            ("windlass.broadcast_bytes", self.broadcast.bytes().to_string()),
            ("windlass.broadcast_rows", self.broadcast_rows.to_string()),
            ("windlass.range_sort_rows", self.range_sort_rows.to_string()),
            ("windlass.inline_result_bytes", self.inline_result.bytes().to_string()),
            ("windlass.max_attempts", self.attempts.to_string()),
            ("windlass.pool", self.pool.clone()),
            ("windlass.priority", self.priority.to_string()),
            ("windlass.statement_timeout_ms", self.statement_timeout.duration().as_millis().to_string()),
            ("datafusion.execution.batch_size", self.batch_rows.to_string()),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        own.chain(self.options.iter().map(|(name, value)| (name.clone(), value.clone()))).collect()
    }
}

/// Checks a place for tables. Empty: the primary chooses one.
///
/// # Errors
/// The message begins with the name of the setting.
pub fn warehouse(setting: &str, text: &str) -> Result<(), String> {
    let Some((scheme, _)) = text.split_once("://") else { return Ok(()) };
    let (written, url) = (["s3", "s3a", "file", "wfs"].contains(&scheme), Url::parse(text));
    match (written, url) {
        (true, Ok(_)) => Ok(()),
        (true, Err(error)) => Err(format!("{setting}: \"{text}\" is not a URL: {error}")),
        (false, _) => Err(format!(
            "{setting}: tables cannot be written to {scheme}:// (\"{text}\"): use a path, file://, wfs:/// or s3://"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_for_tables_is_checked() {
        for (text, named) in [("foo://bar", "foo://"), ("http://host/x", "http://")] {
            let error = warehouse("--warehouse", text).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
        for text in ["s3://bucket/tables", "wfs:///tables", "/srv/tables", ""] {
            assert_eq!(warehouse("--warehouse", text), Ok(()));
        }
    }

    #[test]
    fn fewer_executors_at_most_than_at_least_are_refused() {
        let elastic = Elastic { max_executors: 1, min_executors: 5, ..Elastic::default() };
        let error = elastic.settings(64 << 30).unwrap_err();
        assert!(error.starts_with("elastic.min_executors: 5") && error.contains("--max-executors"), "{error}");
        assert_eq!(Elastic::default().settings(64 << 30), Ok(None));
    }
}

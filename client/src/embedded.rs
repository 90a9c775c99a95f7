//! A cluster inside this process: one primary and one executor, joined by channels, and a client that calls the primary's services. The client is that of
//! [`crate::remote`], with the same requests as over a network: there is one way to run a statement.

mod settings;
pub(crate) mod temporary;

use crate::Client;
use crate::backend::{Answer, Backend, Request, Rows, Table, TableFilter, Target};
use crate::error::{ClientError, Result};
use crate::jobs::{ClusterStatus, Job, JobDetail, JobId, JobState, Progress};
use crate::remote::{Remote, Services, Wire};
use crate::session::Session;
use async_trait::async_trait;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use temporary::Temporary;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use windlass_connectors::wfs::Wfs;
use windlass_engine::connector::Registry;
use windlass_executor::{Executor, LocalLink};
use windlass_scheduler::driver::results::ResultSource;
use windlass_scheduler::primary::leading::LeadingPrimary;

pub(crate) use settings::Settings;

/// Subfolder of the primary.
const PRIMARY: &str = "primary";
/// Time for tasks and connections to end when the session is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Resources of an embedded cluster.
#[derive(Clone, Debug, Default)]
pub struct EmbeddedOptions {
    /// Maximum tasks at the same time; absent: one for each core.
    pub slots: Option<u32>,
    /// Memory for tasks and exchange data, bytes; absent: three fifths of the machine's or the container's.
    pub memory: Option<u64>,
    /// Folder of the catalog: tables created here exist again the next time. Absent: a temporary folder, removed at the end.
    pub dir: Option<PathBuf>,
    /// Initial options of the session, as SET takes them.
    pub options: Vec<(String, String)>,
    /// Kinds of tables beside files.
    pub connectors: Registry,
}

impl Client {
    /// Starts a cluster inside this process, a primary and an executor, and opens a session with it. [`Session::close`] ends the cluster.
    pub async fn embedded(options: EmbeddedOptions) -> Result<Session> {
        Client::embedded_with(Settings::default(), options).await
    }

    /// Starts a cluster with the settings of a configuration file, over which `options` take precedence.
    pub(crate) async fn embedded_with(settings: Settings, options: EmbeddedOptions) -> Result<Session> {
        Ok(Session::new(Embedded::start(settings, options).await?))
    }
}

/// One primary and one executor, joined by channels.
pub(crate) struct Embedded {
    remote: Remote,
    here: Services,
    files: Wfs,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Temporary folder, until it is removed.
    temporary: Mutex<Option<Temporary>>,
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").finish_non_exhaustive()
    }
}

impl Embedded {
    pub(crate) async fn start(settings: Settings, options: EmbeddedOptions) -> Result<Embedded> {
        let failed = |error: String| ClientError::invalid(format!("the embedded cluster cannot start: {error}"));
        let (dir, temporary) = match &options.dir {
            Some(dir) => (dir.clone(), None),
            None => {
                let folder = Temporary::new().await;
                let folder = folder.map_err(|error| failed(format!("no temporary folder: {error}")))?;
                (folder.path().to_owned(), Some(folder))
            }
        };
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let mut config = settings.cluster(dir.join(PRIMARY)).map_err(ClientError::invalid)?;
        config.sessions.options.extend(options.options);
        config.statements.connectors = options.connectors.clone();
        let mut executor = settings.executor(dir.join("executor")).map_err(ClientError::invalid)?;
        executor.connectors = options.connectors;
        // Nobody reaches this cluster from outside.
        executor.primaries.clear();
        executor.slots = options.slots.unwrap_or(executor.slots);
        executor.memory_bytes = options.memory.unwrap_or(executor.memory_bytes);
        let mut files = None;
        let (executor_tasks, executor_stop) = (tasks.clone(), stop.clone());
        let LeadingPrimary { primary, .. } = LeadingPrimary::embedded(config, |driver, names| {
            std::fs::create_dir_all(&executor.dir).map_err(|e| format!("{}: {e}", executor.dir.display()))?;
            let executor = Executor::open(executor).map_err(|e| e.to_string())?;
            executor.files_of(names);
            let (to_primary, from_primary) = driver.attach_local(executor.handover());
            let results = ResultSource::embedded(
                driver.directory().clone(),
                executor.connections().clone(),
                executor.store().clone(),
            );
            files = executor.stores().wfs();
            let made = (results, executor.runtime_env().clone(), executor.stores().clone());
            executor_tasks.spawn(async move {
                executor.run_local(LocalLink { to_primary, from_primary }, executor_stop).await;
            });
            Ok::<_, String>(made)
        })
        .await
        .map_err(|error| failed(error.to_string()))?;

        let (services, serving) = primary.serve_here(stop.clone());
        tasks.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the embedded primary ended");
            }
        });
        let here = Services::new(services);
        let remote = Remote::over(Wire::Here(here.clone()), "embedded".to_owned(), None);
        let files = files.unwrap_or_else(|| remote.files());
        Ok(Embedded { remote, here, files, stop, tasks, temporary: Mutex::new(temporary) })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.here.stop();
        self.stop.cancel();
    }
}

#[async_trait]
impl Backend for Embedded {
    async fn execute(&self, request: Request) -> Result<Answer> {
        self.remote.execute(request).await
    }

    fn watch(&self, query: &str) -> BoxStream<'static, Result<Progress>> {
        self.remote.watch(query)
    }

    async fn tables(&self, filter: &TableFilter) -> Result<Vec<Table>> {
        self.remote.tables(filter).await
    }

    async fn load(&self, target: Target, rows: Rows) -> Result<u64> {
        self.remote.load(target, rows).await
    }

    async fn submit(&self, sql: &str, name: &str, options: &[(String, String)]) -> Result<JobId> {
        self.remote.submit(sql, name, options).await
    }

    async fn jobs(&self, limit: u32, internal: bool) -> Result<Vec<Job>> {
        self.remote.jobs(limit, internal).await
    }

    async fn job(&self, job: JobId) -> Result<JobDetail> {
        self.remote.job(job).await
    }

    async fn cancel(&self, job: JobId) -> Result<JobState> {
        self.remote.cancel(job).await
    }

    async fn job_logs(&self, job: JobId) -> Result<Vec<String>> {
        self.remote.job_logs(job).await
    }

    async fn status(&self) -> Result<ClusterStatus> {
        self.remote.status().await
    }

    async fn decommission(&self, _executor: &str) -> Result<String> {
        Err(ClientError::invalid("the executor of an embedded cluster leaves with its process".to_owned()))
    }

    fn files(&self) -> Wfs {
        self.files.clone()
    }

    async fn close(&self) -> Result<()> {
        self.remote.close().await?;
        self.here.stop();
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(CLOSE_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!("the embedded cluster did not end in time");
        }
        let temporary = self.temporary.lock().take();
        if let Some(folder) = temporary {
            folder.close().map_err(|error| ClientError::invalid(format!("the temporary folder stays: {error}")))?;
        }
        Ok(())
    }

    fn url(&self) -> &str {
        "embedded"
    }
}

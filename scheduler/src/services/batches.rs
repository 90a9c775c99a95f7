//! Batches: scripts of SQL and programs in files, which run as submissions and are known under numbers until they are deleted.
//!
//! ```text
//!   (created) ──stored──> starting ──submitted──> running ──> success, dead, killed ──(retention)──> forgotten
//! ```
//!
//! A batch has the id of its submission before it is submitted. A primary that finds a batch of which it does not know whether it was submitted looks for
//! the submission under that id, and for its end in the history, and submits the script if there is neither. So a script runs once.

use super::interactive::{Asked, InteractiveError, Key, options_of};
use super::jobs::{JobState, Jobs};
use super::submissions::{Script, Submissions};
use crate::errors::QueryError;
use crate::meta::keys::batches::{self as keys, Batch, End, How};
use crate::meta::{MetaStore, Transaction};
use crate::statements::Statements;
use datafusion::execution::object_store::ObjectStoreRegistry;
use futures::{StreamExt, TryStreamExt};
use object_store::{GetResult, ObjectMeta, ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_core::access::Principal;
use windlass_core::ids::JobId;
use windlass_engine::Place;
use windlass_engine::programs::run_program_sql;

/// Maximum batches that are known. The oldest that have ended make room.
const MOST: usize = 10_000;
/// Maximum bytes of a script.
const SCRIPT_BYTES: usize = 1 << 20;
/// Bytes of a program's output that its log shows. What was printed before stays in its files.
const OUTPUT_BYTES: u64 = 4 << 20;
/// Time to read it in.
const READ: Duration = Duration::from_secs(5);
/// Time that a batch stays known after its end.
const RETENTION: Duration = Duration::from_secs(24 * 3_600);

/// A batch to run.
#[derive(Clone, Debug, Default)]
pub struct NewBatch {
    /// Path or URL of the script.
    pub file: String,
    /// Values of `$1`, `$2`, … of its statements.
    pub args: Vec<String>,
    pub asked: Asked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchState {
    Starting,
    Running,
    Success,
    /// It failed.
    Dead,
    /// It was cancelled.
    Killed,
}

impl BatchState {
    pub const ALL: [BatchState; 5] =
        [BatchState::Starting, BatchState::Running, BatchState::Success, BatchState::Dead, BatchState::Killed];
}

#[derive(Clone, Debug)]
pub struct BatchView {
    pub id: u32,
    pub uid: String,
    pub name: Option<String>,
    pub owner: String,
    pub proxy_user: Option<String>,
    pub state: BatchState,
    pub log: Vec<String>,
}

/// The batches of a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Batches {
    shared: Arc<Shared>,
}

struct Shared {
    submissions: Submissions,
    jobs: Jobs,
    statements: Statements,
    store: Arc<dyn MetaStore>,
    stop: CancellationToken,
    known: Mutex<BTreeMap<u32, Arc<Live>>>,
    /// One batch is created at a time: it has the next number.
    next: tokio::sync::Mutex<u32>,
}

struct Live {
    id: u32,
    batch: Mutex<Batch>,
    /// Whether the submission was accepted, or the batch has ended.
    begun: watch::Sender<bool>,
    /// Whether the store has forgotten it. Locked while its record is written.
    is_forgotten: tokio::sync::Mutex<bool>,
}

impl Batches {
    pub(crate) fn new(submissions: Submissions, jobs: Jobs, statements: Statements, stop: CancellationToken) -> Self {
        let store = Arc::clone(statements.catalog().store());
        let (known, next) = (Mutex::default(), tokio::sync::Mutex::new(0));
        Batches { shared: Arc::new(Shared { submissions, jobs, statements, store, stop, known, next }) }
    }

    /// Continues the batches of earlier primaries. Call it after their submissions are continued.
    pub(crate) async fn resume(&self) -> Result<(), QueryError> {
        let store = self.shared.store.as_ref();
        let found = keys::all(store).await?;
        *self.shared.next.lock().await = keys::next(store).await?.max(found.keys().last().map_or(0, |id| id + 1));
        for (id, batch) in found {
            self.shared.know(id, batch);
        }
        Ok(())
    }

    /// Creates a batch. It is stored when this returns, and goes on under any primary.
    ///
    /// # Errors
    /// The script cannot be read, an option is wrong, or there are too many batches.
    pub async fn create(&self, by: &Principal, new: NewBatch) -> Result<BatchView, InteractiveError> {
        let (batches, by) = (self.clone(), by.clone());
        // A caller that leaves midway does not stop it midway.
        let created = self.shared.statements.tasks().spawn(async move { batches.create_whole(&by, new).await });
        created.await.unwrap_or_else(|error| Err(unavailable(error)))
    }

    async fn create_whole(&self, by: &Principal, mut new: NewBatch) -> Result<BatchView, InteractiveError> {
        let shared = &self.shared;
        let (uid, job) = shared.submissions.reserve();
        let work = shared.work(&mut new, &uid).await?;
        let mut next = shared.next.lock().await;
        // A client that did not hear of its first request must not run the script twice.
        if let Some(name) = &new.asked.name
            && shared.live(&Key::Name(name.clone())).is_ok()
        {
            return Err(InteractiveError::Invalid(format!("Duplicate session name: {name}")));
        }
        shared.make_room().await?;
        let Work { sql, parameters, options, log } = work;
        let batch = Batch {
            uid,
            job: job.0,
            name: new.asked.name,
            owner: by.name().to_string(),
            proxy_user: new.asked.proxy_user,
            file: new.file,
            sql,
            args: parameters,
            options,
            submitted: false,
            end: None,
            log,
        };
        let id = *next;
        let transaction = keys::put_next(keys::put(Transaction::default(), id, &batch), id + 1);
        shared.store.commit(transaction).await.map_err(unavailable)?;
        *next = id + 1;
        Ok(shared.view(&shared.know(id, batch)))
    }

    /// Returns the number of batches, and those from position `from` on, at most `size`, oldest first.
    pub fn list(&self, _: &Principal, from: usize, size: usize) -> (usize, Vec<BatchView>) {
        let (total, lives) = {
            let known = self.shared.known.lock();
            (known.len(), known.values().skip(from).take(size).cloned().collect::<Vec<_>>())
        };
        (total, lives.iter().map(|live| self.shared.view(live)).collect())
    }

    /// Returns the number of batches in each state.
    pub fn counts(&self, by: &Principal) -> [(BatchState, usize); BatchState::ALL.len()] {
        let lives: Vec<Arc<Live>> = self.shared.known.lock().values().cloned().collect();
        let mut counts = BatchState::ALL.map(|state| (state, 0));
        for live in lives {
            let state = {
                let batch = live.batch.lock();
                let job = batch.end.is_none().then(|| self.shared.jobs.show(by, JobId(batch.job))).flatten();
                state_of(&batch, job.as_ref().map(|detail| detail.job.state))
            };
            counts.iter_mut().filter(|(of, _)| *of == state).for_each(|(_, count)| *count += 1);
        }
        counts
    }

    pub fn find(&self, _: &Principal, key: &Key) -> Result<BatchView, InteractiveError> {
        let live = self.shared.live(key)?;
        Ok(self.shared.view(&live))
    }

    /// Returns a batch with all of its log: for a program, also what it has printed.
    pub async fn with_log(&self, _: &Principal, key: &Key) -> Result<BatchView, InteractiveError> {
        let live = self.shared.live(key)?;
        let batch = live.batch.lock().clone();
        let mut view = self.shared.view(&live);
        view.log.extend(self.shared.printed(&batch).await);
        Ok(view)
    }

    /// Cancels a batch that has not ended, and forgets it.
    pub async fn delete(&self, by: &Principal, key: &Key) -> Result<(), InteractiveError> {
        let shared = &self.shared;
        let live = shared.live(key)?;
        let mut begun = live.begun.subscribe();
        loop {
            let (job, has_ended) = {
                let batch = live.batch.lock();
                (JobId(batch.job), batch.end.is_some())
            };
            let cancelled = shared.jobs.cancel(by, job).await.map_err(unavailable)?;
            if has_ended || cancelled.is_some() || *begun.borrow() {
                break;
            }
            // It is not listed before it is submitted.
            tokio::select! {
                _ = begun.wait_for(|begun| *begun) => {}
                () = shared.jobs.listed(job) => {}
            }
        }
        shared.forget(&live).await
    }
}

/// What a batch submits.
struct Work {
    sql: String,
    parameters: Vec<String>,
    options: BTreeMap<String, String>,
    log: Vec<String>,
}

/// Whether a file is a program, rather than a script.
fn is_program(file: &str) -> bool {
    file.to_lowercase().ends_with(".py")
}

/// Returns the state of a batch whose job is in this state.
fn state_of(batch: &Batch, job: Option<JobState>) -> BatchState {
    match (&batch.end, job) {
        (Some(End { how: How::Finished, .. }), _) | (None, Some(JobState::Finished)) => BatchState::Success,
        (Some(End { how: How::Failed, .. }), _) | (None, Some(JobState::Failed)) => BatchState::Dead,
        (Some(End { how: How::Cancelled, .. }), _) | (None, Some(JobState::Cancelled)) => BatchState::Killed,
        (None, Some(JobState::Queued | JobState::Running)) => BatchState::Running,
        (None, None) => BatchState::Starting,
    }
}

/// The folder for what the program of a batch prints.
fn output_of(uid: &str) -> String {
    format!("wfs:///system/batches/{uid}/")
}

impl Shared {
    async fn work(&self, new: &mut NewBatch, uid: &str) -> Result<Work, InteractiveError> {
        if !is_program(&new.file) {
            let (set, mut log) = options_of(&new.asked)?;
            let sql = self.script(&new.file).await?;
            log.insert(0, format!("script {} of {} bytes", new.file, sql.len()));
            return Ok(Work { sql, parameters: new.args.clone(), options: set.into_iter().collect(), log });
        }
        // They mean something here.
        let files = [std::mem::take(&mut new.asked.files), std::mem::take(&mut new.asked.py_files)].concat();
        let (set, mut log) = options_of(&new.asked)?;
        for file in files.iter().chain([&new.file]) {
            self.opened(file).await?;
        }
        log.insert(0, format!("program {}", new.file));
        let mut options: BTreeMap<String, String> = set.into_iter().collect();
        options.insert("windlass.program_log".to_string(), output_of(uid));
        options.insert("windlass.program_files".to_string(), files.join(","));
        Ok(Work { sql: run_program_sql(&new.file, &new.args), parameters: Vec::new(), options, log })
    }

    /// Opens a file where statements read files.
    async fn opened(&self, file: &str) -> Result<GetResult, InteractiveError> {
        let invalid = |error: &dyn std::fmt::Display| InteractiveError::Invalid(format!("{file}: {error}"));
        let place = Place::parse(file).map_err(|error| invalid(&error.strip_backtrace()))?;
        let store = self.store(&place).map_err(|error| invalid(&error.strip_backtrace()))?;
        store.get(place.path()).await.map_err(|error| invalid(&error))
    }

    fn store(&self, place: &Place) -> datafusion::common::Result<Arc<dyn ObjectStore>> {
        self.statements.catalog().stores().get_store(place.store().as_ref())
    }

    /// The lines that the program of a batch has printed, without those that are long ago.
    async fn printed(&self, batch: &Batch) -> Vec<String> {
        if !is_program(&batch.file) {
            return Vec::new();
        }
        match tokio::time::timeout(READ, self.read_output(&output_of(&batch.uid))).await {
            Ok(Ok(text)) => text.lines().map(str::to_string).collect(),
            Ok(Err(error)) => vec![format!("what the program printed cannot be read: {error}")],
            Err(_) => vec![
                "what the program printed cannot be read now: executors with its replicas do not answer".to_string(),
            ],
        }
    }

    async fn read_output(&self, folder: &str) -> datafusion::common::Result<String> {
        let place = Place::parse(folder)?;
        let store = self.store(&place)?;
        let mut files: Vec<ObjectMeta> = store.list(Some(place.path())).try_collect().await?;
        files.sort_by(|a, b| b.location.cmp(&a.location));
        let mut before = 0;
        let newest = files.into_iter().take_while(|file| {
            before += file.size;
            before - file.size < OUTPUT_BYTES
        });
        let mut newest: Vec<ObjectMeta> = newest.collect();
        newest.reverse();
        let mut bytes = Vec::new();
        for file in newest {
            bytes.extend_from_slice(&store.get(&file.location).await?.bytes().await?);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Removes what the program of a batch has printed.
    async fn remove_output(&self, batch: &Batch) {
        let remove = async {
            let place = Place::parse(&output_of(&batch.uid))?;
            let store = self.store(&place)?;
            let files = store.list(Some(place.path())).map_ok(|file| file.location).boxed();
            store.delete_stream(files).try_collect::<Vec<_>>().await?;
            Ok::<_, datafusion::common::DataFusionError>(())
        };
        if is_program(&batch.file)
            && let Err(error) = remove.await
        {
            tracing::warn!(batch = batch.uid, %error, "what a program printed stays in wfs:///system/batches");
        }
    }

    /// Reads a script where statements read files.
    async fn script(&self, file: &str) -> Result<String, InteractiveError> {
        let invalid = |error: &dyn std::fmt::Display| InteractiveError::Invalid(format!("{file}: {error}"));
        if !file.to_lowercase().ends_with(".sql") {
            return Err(invalid(&"batches are scripts of SQL and programs of Python, whose names end in .sql and .py"));
        }
        let read = self.opened(file).await?;
        let (mut chunks, mut bytes) = (read.into_stream(), Vec::new());
        while let Some(chunk) = chunks.next().await {
            bytes.extend_from_slice(&chunk.map_err(|error| invalid(&error))?);
            if bytes.len() > SCRIPT_BYTES {
                return Err(invalid(&format_args!("a script has at most {SCRIPT_BYTES} bytes")));
            }
        }
        String::from_utf8(bytes).map_err(|_| invalid(&"the script is not text in UTF-8"))
    }

    fn live(&self, key: &Key) -> Result<Arc<Live>, InteractiveError> {
        let known = self.known.lock();
        let live = match key {
            Key::Id(id) => known.get(id),
            Key::Name(name) => known.values().find(|live| live.batch.lock().name.as_ref() == Some(name)),
        };
        live.cloned().ok_or_else(|| InteractiveError::NoSession(key.to_string()))
    }

    /// Makes a batch known, and goes on with it.
    fn know(self: &Arc<Self>, id: u32, batch: Batch) -> Arc<Live> {
        let begun = watch::Sender::new(batch.submitted || batch.end.is_some());
        let live = Arc::new(Live { id, batch: Mutex::new(batch), begun, is_forgotten: tokio::sync::Mutex::new(false) });
        self.known.lock().insert(id, Arc::clone(&live));
        let (shared, of_task) = (Arc::clone(self), Arc::clone(&live));
        self.statements.tasks().spawn(async move {
            let stop = shared.stop.clone();
            tokio::select! {
                () = stop.cancelled() => {}
                () = shared.run(&of_task) => {}
            }
        });
        live
    }

    /// Runs a batch to its end, and forgets it later.
    async fn run(&self, live: &Live) {
        let batch = live.batch.lock().clone();
        if batch.end.is_none() {
            let Some(end) = self.ended(live, &batch).await else { return };
            live.batch.lock().end = Some(end);
            live.begun.send_replace(true);
            self.put(live).await;
        }
        let ended_ms = live.batch.lock().end.as_ref().map_or(0, |end| end.at_ms);
        let past = self.statements.catalog().clock().wall_ms().saturating_sub(ended_ms);
        tokio::time::sleep(RETENTION.saturating_sub(Duration::from_millis(past))).await;
        if let Err(error) = self.forget(live).await {
            tracing::warn!(batch = live.id, %error, "a batch could not be forgotten; the next primary does");
        }
    }

    /// Waits for the end of a batch. `None`: the next primary goes on with it.
    async fn ended(&self, live: &Live, batch: &Batch) -> Option<End> {
        let by = Principal::user(batch.proxy_user.as_deref().unwrap_or(&batch.owner));
        let job = JobId(batch.job);
        let is_known = self.submissions.knows(&batch.uid) || self.jobs.show(&by, job).is_some();
        let mut refused = None;
        if !batch.submitted && !is_known {
            let script = Script {
                sql: batch.sql.clone(),
                name: batch.name.clone().unwrap_or_else(|| batch.file.clone()),
                options: batch.options.clone(),
                parameters: batch.args.clone(),
                ..Script::default()
            };
            refused = self.submissions.submit_as(&by, script, batch.uid.clone(), job).await.err();
        }
        if let Some(QueryError::NotLeading(_) | QueryError::OutcomeUnknown(_)) = refused {
            return None;
        }
        if !batch.submitted && refused.is_none() {
            {
                let mut batch = live.batch.lock();
                batch.submitted = true;
                batch.sql = String::new();
            }
            live.begun.send_replace(true);
            self.put(live).await;
        }
        let at_ms = self.statements.catalog().clock().wall_ms();
        let end = |how, error| Some(End { how, error, at_ms });
        if let Some(error) = refused {
            return end(How::Failed, Some(error.to_string()));
        }
        match self.jobs.ended(&by, job).await {
            Some(ended) => {
                let how = match ended.state {
                    JobState::Cancelled => How::Cancelled,
                    JobState::Failed => How::Failed,
                    JobState::Finished | JobState::Queued | JobState::Running => How::Finished,
                };
                end(how, ended.error)
            }
            None => end(How::Failed, Some("its end is not known any more".to_string())),
        }
    }

    /// Stores a batch as it is. If that fails, the next primary finds out what is missing.
    async fn put(&self, live: &Live) {
        let is_forgotten = live.is_forgotten.lock().await;
        if *is_forgotten {
            return;
        }
        let transaction = keys::put(Transaction::default(), live.id, &live.batch.lock());
        if let Err(error) = self.store.commit(transaction).await {
            tracing::info!(batch = live.id, %error, "the state of a batch could not be stored");
        }
    }

    async fn forget(&self, live: &Live) -> Result<(), InteractiveError> {
        let mut is_forgotten = live.is_forgotten.lock().await;
        self.store.commit(keys::delete(Transaction::default(), live.id)).await.map_err(unavailable)?;
        *is_forgotten = true;
        self.known.lock().remove(&live.id);
        let batch = live.batch.lock().clone();
        self.remove_output(&batch).await;
        Ok(())
    }

    async fn make_room(&self) -> Result<(), InteractiveError> {
        let oldest = {
            let known = self.known.lock();
            if known.len() < MOST {
                return Ok(());
            }
            known.values().find(|live| live.batch.lock().end.is_some()).cloned()
        };
        match oldest {
            Some(oldest) => self.forget(&oldest).await,
            None => Err(InteractiveError::TooMany(format!(
                "{MOST} batches have not ended: wait until some have, or delete some"
            ))),
        }
    }

    fn view(&self, live: &Live) -> BatchView {
        let batch = live.batch.lock().clone();
        let by = Principal::user(&batch.owner);
        let job = self.jobs.show(&by, JobId(batch.job)).map(|detail| detail.job);
        let state = state_of(&batch, job.as_ref().map(|job| job.state));
        let mut log = batch.log;
        match self.jobs.log(&by, JobId(batch.job)) {
            Some(lines) => log.extend(lines),
            None => log.extend(batch.end.and_then(|end| end.error).map(|error| format!("failed: {error}"))),
        }
        let Batch { uid, name, owner, proxy_user, .. } = batch;
        BatchView { id: live.id, uid, name, owner, proxy_user, state, log }
    }
}

fn unavailable(error: impl std::fmt::Display) -> InteractiveError {
    InteractiveError::Unavailable(error.to_string())
}

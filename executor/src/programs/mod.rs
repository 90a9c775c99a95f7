//! Programs of users: processes that a task starts, limits and ends.
//!
//! ```text
//!   task ──order──> supervisor ──> program and its children, in a folder of their own
//!    │ ended, limit met, cancelled, this process dies: the supervisor ends all of them, then the folder goes
//! ```
//!
//! The memory that programs hold is reserved in the executor's pool, so that operators spill sooner. All programs together are never allowed more than the executor
//! has: the scheduler counts what it places, and a program waits here for one that has not ended, as after a change of the primary, or of the same task.
//!
//! Running programs is running anybody's code: see [`crate::ExecutorConfig::programs`].

mod groups;
mod order;
mod output;
mod processes;
pub mod supervisor;

use crate::config::ExecutorConfig;
use crate::memory::GroupPool;
use async_trait::async_trait;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use futures::TryStreamExt;
use groups::{Group, Groups};
use object_store::{ObjectStore, ObjectStoreExt};
use order::{Order, Said, Verdict};
use output::{Folder, Output, last};
use rustix::process::{Pid, Signal};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use windlass_connectors::after_work::AfterWork;
use windlass_core::failure::TaskFailure;
use windlass_core::ids::JobId;
use windlass_engine::Place;
use windlass_engine::programs::{Ended, PYTHON_SESSION, Program, Programs};

/// The argument with which this project's binary becomes a supervisor.
pub const SUPERVISOR: &str = "supervise-program";
/// The Python process of an interactive session.
const KERNEL: &str = include_str!("kernel.py");
/// Its file in the folder. It hides no module: a name with a hyphen cannot be imported.
const KERNEL_FILE: &str = "windlass-session.py";
/// The file of what the running statement of a session has printed: see `kernel.py`.
const PRINTED: &str = ".windlass-printed";
/// Maximum bytes that a program prints.
const OUTPUT: u64 = 64 << 20;
/// Letters of its output that an error shows.
const SHOWN: usize = 2_000;

/// Programs on this executor.
#[derive(Debug)]
pub(crate) struct Host {
    /// Whether they may run, or why not.
    pub allowed: Result<(), String>,
    /// The binary that becomes the supervisor.
    pub binary: PathBuf,
    pub python: String,
    pub folder: PathBuf,
    /// Maximum bytes of memory, and of files, of one program.
    pub memory: u64,
    pub disk: u64,
    /// Where the memory that programs hold is reserved.
    pool: Arc<GroupPool>,
    /// Memory that no program may hold yet, in MiB.
    free: Arc<Semaphore>,
    /// Where their control groups are made; `None` where they have none. Looked for when the first program begins, as processes may have to move.
    groups: Arc<OnceLock<Option<Groups>>>,
    /// Where programs reach the cluster; absent in a process that nobody reaches.
    pub url: Option<String>,
    /// Supervisors that end their programs, and folders that go.
    pub leaving: AfterWork,
}

impl Host {
    /// Removes the folders and control groups that an earlier process has left.
    pub fn of(config: &ExecutorConfig, pool: Arc<GroupPool>) -> Self {
        let host = Host {
            allowed: config.allows_programs(),
            binary: binary(),
            python: config.python.clone(),
            folder: std::path::absolute(config.dir.join("programs")).unwrap_or_else(|_| config.dir.join("programs")),
            memory: config.program_memory(),
            disk: config.program_disk_bytes,
            pool,
            free: Arc::new(Semaphore::new(mebibytes(config.memory_bytes) as usize)),
            groups: Arc::default(),
            url: Some(config.primaries.join(",")).filter(|url| !url.is_empty()),
            leaving: AfterWork::default(),
        };
        for left in std::fs::read_dir(&host.folder).into_iter().flatten().flatten() {
            if let Err(error) = Groups::remove_left(&left.file_name()) {
                tracing::warn!(folder = %left.path().display(), %error, "the control group of an earlier program stays");
            }
        }
        match std::fs::remove_dir_all(&host.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(folder = %host.folder.display(), %error, "files of earlier programs stay");
            }
            _ => {}
        }
        host
    }

    /// Bytes of memory that programs hold.
    pub fn held(&self) -> u64 {
        self.pool.used() as u64
    }

    /// Waits until programs that were let go have ended, and their folders are gone.
    pub async fn settle(&self) {
        self.leaving.settle().await;
    }
}

/// A supervisor, whose program ends when this is dropped.
struct Supervised<'a> {
    host: &'a Host,
    /// Absent: it was let go.
    child: Option<Child>,
    alive: Option<ChildStdin>,
    folder: PathBuf,
    group: Option<Group>,
    /// Memory that the program holds, and that it may hold.
    held: MemoryReservation,
    allowed: Option<OwnedSemaphorePermit>,
}

impl Drop for Supervised<'_> {
    fn drop(&mut self) {
        drop(self.alive.take());
        let (child, folder) = (self.child.take(), std::mem::take(&mut self.folder));
        let (group, held, allowed) = (self.group.take(), self.held.take(), self.allowed.take());
        self.host.leaving.begin(async move {
            if let Some(mut child) = child {
                let _ = child.wait().await;
            }
            if let Some(group) = group {
                let name = group.folder().display().to_string();
                if let Ok(Err(error)) = tokio::task::spawn_blocking(move || group.remove()).await {
                    tracing::warn!(group = name, %error, "the control group of a program stays");
                }
            }
            drop((held, allowed));
            if let Err(error) = tokio::fs::remove_dir_all(&folder).await
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(folder = %folder.display(), %error, "the folder of a program stays");
            }
        });
    }
}

#[async_trait]
impl Programs for Host {
    async fn run(&self, program: Program, job: JobId, context: Arc<TaskContext>) -> Result<Ended> {
        if let Err(why) = &self.allowed {
            return exec_err!("{}: {why}", program.file);
        }
        let memory = if program.memory == 0 { self.memory } else { program.memory.min(self.memory) };
        let allowed = self.free.clone().acquire_many_owned(mebibytes(memory)).await;
        let allowed = Some(allowed.map_err(|error| exec_datafusion_err!("{}: {error}", program.file))?);
        let pool: Arc<dyn MemoryPool> = self.pool.clone();
        let held = MemoryConsumer::new(format!("program {}", program.file)).register(&pool);
        let id = uuid::Uuid::new_v4().to_string();
        let folder = self.folder.join(&id);
        let local = |source: std::io::Error| exec_datafusion_err!("the folder of a program: {source}");
        tokio::fs::create_dir_all(&folder).await.map_err(local)?;
        let mut supervised =
            Supervised { host: self, child: None, alive: None, folder: folder.clone(), group: None, held, allowed };
        let file = match program.file.as_str() {
            PYTHON_SESSION => {
                let file = folder.join(KERNEL_FILE);
                tokio::fs::write(&file, KERNEL).await.map_err(local)?;
                file
            }
            file => fetched(file, &folder, &context).await?,
        };
        let mut archives = Vec::new();
        for more in &program.files {
            let path = fetched(more, &folder, &context).await?;
            if path.extension().is_some_and(|ending| ending == "zip" || ending == "egg") {
                archives.push(path.display().to_string());
            }
        }
        if file.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("py")) {
            return exec_err!("{}: this version runs programs of Python alone, whose names end in .py", program.file);
        }
        let mut args = vec![file.display().to_string()];
        args.extend(program.args.iter().cloned());
        supervised.group = self.group_of(id, memory).await;
        let group = supervised.group.as_ref().map(|group| group.folder().to_path_buf());
        let mut env = self.environment(&folder, job);
        if !archives.is_empty() {
            // Python finds what is in them.
            env.insert("PYTHONPATH".to_string(), archives.join(":"));
        }
        let dir = folder.clone();
        let order = Order { program: self.python.clone(), args, dir, env, group, memory, disk: self.disk };
        let begun = Instant::now();
        let (verdict, output) = self.supervise(&mut supervised, &order, output_of(&program, &context)?).await?;
        let mut ended = output.end();
        if program.file == PYTHON_SESSION {
            // What its last statement printed lies in a file.
            let printed = tokio::fs::read(folder.join(PRINTED)).await.unwrap_or_default();
            ended.insert_str(0, &String::from_utf8_lossy(&printed));
        }
        let shown = || match ended.trim_end() {
            "" => "; it printed nothing".to_string(),
            text => format!("; its output ends:\n{}", last(text, SHOWN)),
        };
        let file = &program.file;
        match verdict {
            Verdict::Exited(0) => Ok(Ended { seconds: begun.elapsed().as_secs_f64(), output: ended }),
            Verdict::Exited(code) => exec_err!("the program {file} ended with exit code {code}{}", shown()),
            Verdict::Signalled(signal) => exec_err!("the program {file} was ended by signal {signal}{}", shown()),
            Verdict::NotStarted(why) => exec_err!("the program {file} did not start: {why}"),
            Verdict::Memory => exec_err!(
                "the program {file} was stopped: it wanted more than the {memory} bytes of memory that it may hold (SET windlass.program_memory_bytes, and the \
                 executor's program_memory){}",
                shown()
            ),
            Verdict::Disk(written) => exec_err!(
                "the program {file} was stopped: it had written {written} bytes, and the executor's program_disk allows {}{}",
                self.disk,
                shown()
            ),
            Verdict::Unwanted => Err(DataFusionError::External(Box::new(TaskFailure::Cancelled))),
        }
    }
}

impl Host {
    /// Makes the control group of a program, where there can be one.
    async fn group_of(&self, id: String, memory: u64) -> Option<Group> {
        let groups = self.groups.clone();
        let make = move || {
            let groups = groups.get_or_init(|| match Groups::prepare() {
                Ok(groups) => {
                    tracing::info!(?groups, "control groups limit programs");
                    Some(groups)
                }
                Err(why) => {
                    tracing::info!(
                        why,
                        "no control groups limit programs: their memory is looked at from time to time"
                    );
                    None
                }
            });
            let made = groups.as_ref()?.make(&id, memory);
            made.inspect_err(|error| tracing::warn!(%error, "a program gets no control group")).ok()
        };
        tokio::task::spawn_blocking(make).await.ok().flatten()
    }

    /// Nothing of this process's own environment, in which there may be secrets, except where programs are found.
    fn environment(&self, folder: &Path, job: JobId) -> BTreeMap<String, String> {
        let folder = folder.display().to_string();
        let mut env = BTreeMap::from([
            ("HOME".to_string(), folder.clone()),
            ("TMPDIR".to_string(), folder),
            ("LANG".to_string(), "C.UTF-8".to_string()),
            ("PYTHONUNBUFFERED".to_string(), "1".to_string()),
            ("WINDLASS_JOB".to_string(), job.to_string()),
        ]);
        env.extend(std::env::var("PATH").ok().map(|path| ("PATH".to_string(), path)));
        env.extend(self.url.clone().map(|url| ("WINDLASS_URL".to_string(), url)));
        env
    }

    /// Runs a program to its end. Returns how it ended, and its output.
    async fn supervise(
        &self,
        supervised: &mut Supervised<'_>,
        order: &Order,
        mut output: Output,
    ) -> Result<(Verdict, Output)> {
        let not_supervised = |what: &str, error: &dyn std::fmt::Display| {
            exec_datafusion_err!("a program could not be supervised: {what}: {error}")
        };
        let mut command = Command::new(&self.binary);
        command.arg(SUPERVISOR).env_clear().process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| not_supervised(&self.binary.display().to_string(), &error))?;
        let (input, printed, said) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        supervised.child = Some(child);
        let (Some(mut input), Some(mut printed), Some(said)) = (input, printed, said) else {
            return Err(not_supervised("its pipes", &"there are none"));
        };
        let mut line = serde_json::to_string(order).map_err(|error| not_supervised("its order", &error))?;
        line.push('\n');
        input.write_all(line.as_bytes()).await.map_err(|error| not_supervised("its order", &error))?;
        supervised.alive = Some(input);
        let mut piece = vec![0; 64 << 10];
        let mut said = BufReader::new(said).lines();
        let (mut prints, mut says, mut last_words) = (true, true, None);
        while prints || says {
            let due = output.due();
            tokio::select! {
                read = printed.read(&mut piece), if prints => {
                    match read.map_err(|error| not_supervised("its output", &error))? {
                        0 => prints = false,
                        bytes => output.add(&piece[..bytes]).await,
                    }
                }
                line = said.next_line(), if says => {
                    match line.map_err(|error| not_supervised("its end", &error))? {
                        None if matches!(last_words, Some(Ok(_))) => says = false,
                        // It was killed. Its program may go on, and hold the pipe for what it prints.
                        None => break,
                        Some(line) => match serde_json::from_str(&line) {
                            Ok(Said::Holds(bytes)) => supervised.held.resize(usize::try_from(bytes).unwrap_or(usize::MAX)),
                            Ok(Said::Ended(verdict)) => last_words = Some(Ok(verdict)),
                            Err(_) => last_words = Some(Err(line)),
                        },
                    }
                }
                () = tokio::time::sleep_until(due.unwrap_or_else(tokio::time::Instant::now)), if due.is_some() => {
                    output.write().await;
                }
            }
            if output.bytes > OUTPUT {
                output.write().await;
                return exec_err!(
                    "the program was stopped: it printed more than {OUTPUT} bytes; it may write to files instead. Its output ends:\n{}",
                    last(&output.end(), SHOWN)
                );
            }
        }
        output.write().await;
        if let Some(Ok(verdict)) = last_words {
            return Ok((verdict, output));
        }
        // Processes that have left its group end with their control group, if they have one.
        if let Some(pid) = supervised.child.as_ref().and_then(Child::id).and_then(|id| Pid::from_raw(id as i32)) {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        let said = last_words.and_then(Result::err).unwrap_or_else(|| "nothing: it was killed".to_string());
        Err(not_supervised("its end", &format_args!("it said {said}")))
    }
}

/// Whole MiB, so that the parts of a whole are no more than it.
fn mebibytes(bytes: u64) -> u32 {
    u32::try_from(bytes >> 20).unwrap_or(u32::MAX)
}

/// This project's binary: this process's own, or the one beside it, where another program embeds Windlass.
fn binary() -> PathBuf {
    const NAME: &str = "windlass";
    let own = std::env::current_exe().unwrap_or_default();
    if own.file_stem().is_some_and(|stem| stem == NAME) {
        return own;
    }
    let folders = own.ancestors().skip(1).take(2).map(|folder| folder.join(NAME));
    folders.into_iter().find(|binary| binary.is_file()).unwrap_or_else(|| PathBuf::from(NAME))
}

/// Copies a file into the folder.
async fn fetched(file: &str, folder: &Path, context: &TaskContext) -> Result<PathBuf> {
    let wrong = |error: &dyn std::fmt::Display| exec_datafusion_err!("{file}: {error}");
    let place = Place::parse(file).map_err(|error| wrong(&error.strip_backtrace()))?;
    let name = place.path().filename().ok_or_else(|| wrong(&"this names no file"))?.to_string();
    let store = context.runtime_env().object_store(place.store())?;
    let mut pieces = store.get(place.path()).await.map_err(|error| wrong(&error))?.into_stream();
    let path = folder.join(name);
    let mut copy = tokio::fs::File::create_new(&path).await.map_err(|error| wrong(&error))?;
    while let Some(piece) = pieces.try_next().await.map_err(|error| wrong(&error))? {
        copy.write_all(&piece).await.map_err(|error| wrong(&error))?;
    }
    copy.flush().await.map_err(|error| wrong(&error))?;
    Ok(path)
}

fn output_of(program: &Program, context: &TaskContext) -> Result<Output> {
    if program.log.is_empty() {
        return Ok(Output::new(None));
    }
    let place = Place::parse(&program.log)?;
    let store: Arc<dyn ObjectStore> = context.runtime_env().object_store(place.store())?;
    Ok(Output::new(Some(Folder { store, path: place.path().clone() })))
}

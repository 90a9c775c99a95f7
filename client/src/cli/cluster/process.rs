//! Processes on this machine: starts them in the background, tells them from later ones with the same number, ends them.

use super::super::Failure;
use super::super::serve::Ready;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A process, told apart from a later one with the same number by its start time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    /// Boot id and start time in clock ticks, as the kernel keeps them.
    pub started: String,
}

impl Process {
    /// Finds the process that has this number at present.
    pub fn of(pid: u32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The boot id is needed because process numbers and ticks start again with each boot.
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Some(Process { pid, started: format!("{} {}", boot.trim(), start_ticks(&stat)?) })
    }

    /// Whether the process runs. A zombie has ended, but while any of its threads runs, files are locked and ports taken.
    pub fn is_alive(&self) -> bool {
        let ends_not = |thread: fs::DirEntry| {
            fs::read_to_string(thread.path().join("stat")).is_ok_and(|stat| !matches!(state(&stat), Some('Z' | 'X')))
        };
        Process::of(self.pid).as_ref() == Some(self)
            && fs::read_dir(format!("/proc/{}/task", self.pid)).is_ok_and(|threads| threads.flatten().any(ends_not))
    }

    /// Sends the signal if the process still is the one that was started. False: it has ended.
    pub fn signal(&self, signal: Signal) -> Result<bool, Failure> {
        if !self.is_alive() {
            return Ok(false);
        }
        match kill(Pid::from_raw(self.pid as i32), signal) {
            Ok(()) => Ok(true),
            Err(nix::errno::Errno::ESRCH) => Ok(false),
            Err(e) => Err(Failure::Failed(format!("cannot send {signal} to process {}: {e}", self.pid))),
        }
    }
}

/// Start time: field 22 of /proc/PID/stat. Field 2, the name, may hold anything, so counting starts after its closing parenthesis.
fn start_ticks(stat: &str) -> Option<&str> {
    after_name(stat)?.nth(19)
}

/// Process state: field 3.
fn state(stat: &str) -> Option<char> {
    after_name(stat)?.next()?.chars().next()
}

fn after_name(stat: &str) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    Some(stat[stat.rfind(')')? + 1..].split_ascii_whitespace())
}

/// Asks the processes to end, waits, and kills those that are left at the deadline. Returns the number of killed processes.
pub async fn end(processes: &[Process], patience: Duration) -> Result<usize, Failure> {
    for process in processes {
        process.signal(Signal::SIGTERM)?;
    }
    if wait_for_end(processes, patience).await {
        return Ok(0);
    }
    let mut forced = 0;
    for process in processes {
        forced += usize::from(process.signal(Signal::SIGKILL)?);
    }
    wait_for_end(processes, Duration::from_secs(2)).await;
    Ok(forced)
}

/// Waits by polling /proc: the processes are not children, so the kernel does not report their end here.
async fn wait_for_end(processes: &[Process], patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    while processes.iter().any(Process::is_alive) {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}

/// A process that was just started. It is killed on drop, unless [`Started::keep`] was called.
#[derive(Debug)]
pub struct Started {
    pub process: Process,
    pub dir: PathBuf,
    child: Child,
    kept: bool,
}

/// Starts this binary again, in the background and in a new process group, with its log in `dir`.
pub fn start(dir: &Path, arguments: &[String]) -> Result<Started, Failure> {
    let failed = |doing: &str, e: io::Error| Failure::Failed(format!("cannot {doing}: {e}"));
    fs::create_dir_all(dir).map_err(|e| failed(&format!("create the folder {}", dir.display()), e))?;
    let log = File::options()
        .create(true)
        .append(true)
        .open(log_file(dir))
        .map_err(|e| failed(&format!("write {}", log_file(dir).display()), e))?;
    let binary = std::env::current_exe().map_err(|e| failed("find this program's own file", e))?;
    let mut command = Command::new(&binary);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        // Ctrl-C at the terminal is for the command that runs there, not for the cluster.
        .process_group(0)
        .env_remove("WINDLASS_URL")
        .env_remove("WINDLASS_CONFIG");
    let child = command.spawn().map_err(|e| failed(&format!("start {}", binary.display()), e))?;
    let process = child.id().and_then(Process::of).ok_or_else(|| Failure::Failed(died(dir)))?;
    Ok(Started { process, dir: dir.to_owned(), child, kept: false })
}

impl Started {
    /// Reads the line that a primary writes when everything serves. Fails when the process ends before.
    pub async fn ready(&mut self) -> Result<Ready, Failure> {
        let Some(out) = self.child.stdout.take() else { return Err(Failure::Failed(died(&self.dir))) };
        let line = BufReader::new(out)
            .lines()
            .next_line()
            .await
            .ok()
            .flatten()
            .ok_or_else(|| Failure::Failed(died(&self.dir)))?;
        serde_json::from_str(&line)
            .map_err(|e| Failure::Failed(format!("the primary announced itself with {line:?}: {e}")))
    }

    /// Returns only when the process has ended, with its last words.
    pub async fn ended(&mut self) -> Failure {
        // The process has ended, even if its exit code is not available.
        let _ = self.child.wait().await;
        Failure::Failed(died(&self.dir))
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Lets the process outlive this command: it belongs to a complete cluster.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if !self.kept {
            // It is a child, so its number cannot belong to another process yet. An error means that it has ended.
            let _ = self.child.start_kill();
        }
    }
}

fn log_file(dir: &Path) -> PathBuf {
    dir.join("log")
}

/// Explains why a process ended right after its start: the last line of its log.
fn died(dir: &Path) -> String {
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let log = fs::read_to_string(log_file(dir)).unwrap_or_default();
    let last = log.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let said = last.map_or("it said nothing", |line| line.strip_prefix("error: ").unwrap_or(line));
    format!("{name} ended right after its start: {said} (its log: {})", log_file(dir).display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_read_whatever_the_name_is() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 1";
        assert_eq!(start_ticks(stat), Some("987654"));
        assert_eq!(state(stat), Some('S'));
    }

    #[test]
    fn a_process_is_known_by_number_and_start() {
        let me = Process::of(std::process::id()).unwrap();
        assert!(me.is_alive());
        let impostor = Process { started: "another boot 1".to_owned(), ..me };
        assert!(!impostor.is_alive());
        assert!(!impostor.signal(Signal::SIGKILL).unwrap(), "a process that is not ours gets no signal");
    }

    #[tokio::test]
    async fn processes_end_politely_and_otherwise_by_force() {
        let spawn = |script: &str| {
            let child = std::process::Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
            let process = Process::of(child.id()).unwrap();
            (child, process)
        };
        let (mut polite, process) = spawn("sleep 60");
        assert_eq!(end(&[process], Duration::from_secs(5)).await.unwrap(), 0);
        polite.wait().unwrap();
        let (mut stubborn, process) = spawn("trap '' TERM; echo ready; while :; do sleep 0.05; done");
        // The trap is set once the process has written something.
        io::Read::read(stubborn.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        assert_eq!(end(&[process], Duration::from_millis(100)).await.unwrap(), 1);
        stubborn.wait().unwrap();
    }

    #[test]
    fn the_last_words_of_a_process_are_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(log_file(dir.path()), "starting\nerror: port 7077 on 127.0.0.1 is in use\n\n").unwrap();
        let text = died(dir.path());
        assert!(text.contains("port 7077 on 127.0.0.1 is in use") && text.contains("log"), "{text}");
    }
}

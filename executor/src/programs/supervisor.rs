//! The supervisor of one program: a process between an executor and the program, which ends all of the program's processes.
//!
//! ```text
//!   executor ──order, on standard input──> supervisor ──starts──> program ──> its children
//!      ^ <── what the program prints ─────────┼──────── the same pipe ────────────┘
//!      └ memory held, verdict: standard error ┘
//! ```
//!
//! Processes whose parents have ended become children of the supervisor (Linux: `PR_SET_CHILD_SUBREAPER`), also those in sessions of their own. So all of them
//! are found, and ended, when the program ends, exceeds a limit, or is not wanted any more: the executor holds the other end of the standard input, which
//! closes when it lets go of the program, and when it dies.
//!
//! The kernel limits the memory of a program that has a control group ([`super::groups`]). Without one, the supervisor looks at the memory of all processes
//! from time to time, and each process has a limit that keeps what it takes between two looks within bounds.

use super::groups::Group;
use super::order::{Order, Said, Verdict};
use super::processes::{self, descendants, signal_all};
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus};
use std::fs;
use std::io::{self, BufRead, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Interval of looks at memory and files. Walking through the files is not done more often than every tenth of the time that it takes.
const LOOK: Duration = Duration::from_millis(100);
/// Time that processes have to end by themselves after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// Wait between rounds of SIGKILL: a process that was born meanwhile is met in the next one.
const ROUND: Duration = Duration::from_millis(20);

/// Bytes that a process may have mapped for writing beside twice the memory of its program, if the program has no control group, and more bytes for each core.
/// Not all that is mapped is held: allocators map regions of up to 1 GiB, a list that grows is copied, and stacks of threads have 8 MiB each. Libraries for
/// numbers start several threads for each core.
const MAPPED: u64 = 2 << 30;
const MAPPED_BY_CORE: u64 = 4 * (8 << 20);
/// The kernel ends processes with this number first when the machine is out of memory.
const FIRST_TO_GO: &str = "1000";
/// Minimum change of the memory held that is told.
const TOLD: u64 = 1 << 20;

enum Heard {
    Ended(Pid, WaitStatus),
    Unwanted,
}

/// Reads an order from standard input and carries it out.
pub fn run() -> ExitCode {
    let verdict = supervise().unwrap_or_else(|error| Verdict::NotStarted(error.to_string()));
    say(&Said::Ended(verdict));
    ExitCode::SUCCESS
}

fn say(said: &Said) {
    // Nobody is left to tell if this fails.
    let _ = serde_json::to_string(said).map(|line| writeln!(io::stderr(), "{line}"));
}

fn supervise() -> io::Result<Verdict> {
    let mut input = io::stdin().lock();
    let mut line = String::new();
    input.read_line(&mut line)?;
    drop(input);
    let order: Order = serde_json::from_str(&line)?;
    let me = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(me))?;
    let bound = |resource, most: u64| {
        let most = rustix::process::getrlimit(resource).maximum.map_or(most, |given| given.min(most));
        rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
            .map_err(io::Error::from)
    };
    bound(Resource::Core, 0)?;
    // What is seen later than this would have filled the disk.
    bound(Resource::Fsize, order.disk.saturating_mul(2))?;
    let Order { program, args, dir, env, group, memory, disk } = order;
    let group = group.map(Group::at);
    if group.is_none() {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        bound(Resource::Data, memory.saturating_mul(2).saturating_add(MAPPED + cores * MAPPED_BY_CORE))?;
    }
    let printed = io::stdout().as_fd().try_clone_to_owned()?;
    let mut command = Command::new(&program);
    command.args(args).current_dir(&dir).env_clear().envs(env).stdin(Stdio::null()).stderr(Stdio::from(printed));
    let started = match &group {
        Some(group) => group.within(|| command.spawn()),
        None => Ok(command.spawn()),
    };
    let heard = listen();
    let child = match started {
        Ok(Ok(child)) => child,
        Ok(Err(error)) => return Ok(Verdict::NotStarted(format!("{program} cannot be started: {error}"))),
        Err(error) => {
            end_all(&heard, None, Duration::ZERO);
            return Ok(Verdict::NotStarted(format!("its control group cannot be used: {error}")));
        }
    };
    let main = Pid::from_child(&child);
    let _ = fs::write(format!("/proc/{}/oom_score_adj", main.as_raw_nonzero()), FIRST_TO_GO);
    let limits = Limits { group: group.as_ref(), memory, dir: &dir, disk };
    let verdict = watch(main, &heard, &limits);
    let patience = match verdict {
        // It had its time, or must not have any.
        Verdict::Unwanted => GRACE,
        _ => Duration::ZERO,
    };
    end_all(&heard, group.as_ref(), patience);
    if let Some(group) = group {
        // Its executor, or the next one, tries again.
        let _ = group.remove();
    }
    if verdict == Verdict::Unwanted {
        // Its executor may be gone.
        let _ = fs::remove_dir_all(&dir);
    }
    Ok(verdict)
}

struct Limits<'a> {
    group: Option<&'a Group>,
    memory: u64,
    dir: &'a Path,
    disk: u64,
}

impl Limits<'_> {
    /// Returns the bytes of memory that are held, and whether the limit is met.
    fn memory(&self) -> (u64, bool) {
        match self.group {
            Some(group) => (group.held(), group.met_limit()),
            None => {
                let held = processes::held(self.memory);
                (held, held > self.memory)
            }
        }
    }
}

/// Tells when processes end, and when the standard input does.
fn listen() -> Receiver<Heard> {
    let (tell, heard) = mpsc::channel();
    let ended = tell.clone();
    std::thread::spawn(move || {
        let _ = io::stdin().lock().read_to_end(&mut Vec::new());
        let _ = tell.send(Heard::Unwanted);
    });
    std::thread::spawn(move || {
        loop {
            match rustix::process::wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) if ended.send(Heard::Ended(pid, status)).is_err() => return,
                Ok(_) => {}
                // There is none at the moment.
                Err(_) => std::thread::sleep(ROUND),
            }
        }
    });
    heard
}

/// Waits until the program has ended, or has to.
fn watch(main: Pid, heard: &Receiver<Heard>, limits: &Limits) -> Verdict {
    let mut next_walk = Instant::now() + LOOK;
    let mut told = 0;
    loop {
        match heard.recv_timeout(LOOK) {
            Ok(Heard::Ended(pid, status)) if pid == main => {
                return match (status.exit_status(), status.terminating_signal()) {
                    (Some(0), _) => Verdict::Exited(0),
                    _ if limits.group.is_some_and(Group::met_limit) => Verdict::Memory,
                    (Some(code), _) => Verdict::Exited(code),
                    (None, signal) => Verdict::Signalled(signal.unwrap_or_default()),
                };
            }
            Ok(Heard::Unwanted) | Err(RecvTimeoutError::Disconnected) => return Verdict::Unwanted,
            Ok(Heard::Ended(..)) | Err(RecvTimeoutError::Timeout) => {}
        }
        let (held, is_limit_met) = limits.memory();
        if is_limit_met {
            return Verdict::Memory;
        }
        if held.abs_diff(told) >= TOLD {
            say(&Said::Holds(held));
            told = held;
        }
        let begun = Instant::now();
        if begun >= next_walk {
            let written = bytes_in(limits.dir);
            if written > limits.disk {
                return Verdict::Disk(written);
            }
            next_walk = begun + LOOK.max(begun.elapsed() * 10);
        }
    }
}

/// Ends all processes, and returns when none is left.
fn end_all(heard: &Receiver<Heard>, group: Option<&Group>, patience: Duration) {
    let until = Instant::now() + patience;
    if !patience.is_zero() {
        signal_all(Signal::TERM);
        while !descendants().is_empty() && Instant::now() < until {
            let _ = heard.recv_timeout(ROUND);
        }
    }
    while !descendants().is_empty() {
        group.into_iter().for_each(Group::kill);
        // A process that is stopped does not fork meanwhile.
        signal_all(Signal::STOP);
        signal_all(Signal::KILL);
        let _ = heard.recv_timeout(ROUND);
    }
}

/// Bytes of the files in a folder.
fn bytes_in(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(of) if of.is_dir() => bytes_in(&entry.path()),
        Ok(of) => of.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

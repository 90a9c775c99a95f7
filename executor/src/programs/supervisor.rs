//! The supervisor of one program: a process between an executor and the program, which ends all of the program's processes.
//!
//! ```text
//!   executor ──order, on standard input──> supervisor ──starts──> program ──> its children
//!      ^ <── what the program prints ─────────┼──────── the same pipe ────────────┘
//!      └──── verdict, on standard error ──────┘
//! ```
//!
//! Processes whose parents have ended become children of the supervisor (Linux: `PR_SET_CHILD_SUBREAPER`), also those in sessions of their own. So all of them
//! are found, and ended, when the program ends, exceeds a limit, or is not wanted any more: the executor holds the other end of the standard input, which
//! closes when it lets go of the program, and when it dies.

use super::order::{Order, Verdict};
use crate::memory::resident_bytes_of;
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus};
use std::collections::{BTreeMap, BTreeSet};
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

enum Heard {
    Ended(Pid, WaitStatus),
    Unwanted,
}

/// Reads an order from standard input and carries it out.
pub fn run() -> ExitCode {
    let verdict = supervise().unwrap_or_else(|error| Verdict::NotStarted(error.to_string()));
    // Nobody is left to tell if this fails.
    let _ = serde_json::to_string(&verdict).map(|line| writeln!(io::stderr(), "{line}"));
    ExitCode::SUCCESS
}

fn supervise() -> io::Result<Verdict> {
    let mut input = io::stdin().lock();
    let mut line = String::new();
    input.read_line(&mut line)?;
    drop(input);
    let order: Order = serde_json::from_str(&line)?;
    let me = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(me))?;
    let bound = |resource, most| {
        rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
            .map_err(io::Error::from)
    };
    bound(Resource::Core, 0)?;
    // What is seen later than this would have filled the disk.
    bound(Resource::Fsize, order.disk.saturating_mul(2))?;
    let Order { program, args, dir, env, memory, disk } = order;
    let printed = io::stdout().as_fd().try_clone_to_owned()?;
    let mut command = Command::new(&program);
    command.args(args).current_dir(&dir).env_clear().envs(env).stdin(Stdio::null()).stderr(Stdio::from(printed));
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ok(Verdict::NotStarted(format!("{program} cannot be started: {error}"))),
    };
    let main = Pid::from_child(&child);
    let heard = listen();
    let verdict = watch(main, &heard, &dir, memory, disk);
    let patience = match verdict {
        // It had its time, or must not have any.
        Verdict::Unwanted => GRACE,
        _ => Duration::ZERO,
    };
    end_all(&heard, patience);
    Ok(verdict)
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
fn watch(main: Pid, heard: &Receiver<Heard>, dir: &Path, memory: u64, disk: u64) -> Verdict {
    let mut next_walk = Instant::now() + LOOK;
    loop {
        match heard.recv_timeout(LOOK) {
            Ok(Heard::Ended(pid, status)) if pid == main => {
                return match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Verdict::Exited(code),
                    (None, signal) => Verdict::Signalled(signal.unwrap_or_default()),
                };
            }
            Ok(Heard::Unwanted) | Err(RecvTimeoutError::Disconnected) => return Verdict::Unwanted,
            Ok(Heard::Ended(..)) | Err(RecvTimeoutError::Timeout) => {}
        }
        let held = descendants().iter().map(resident_bytes_of).sum();
        if held > memory {
            return Verdict::Memory(held);
        }
        let begun = Instant::now();
        if begun >= next_walk {
            let written = bytes_in(dir);
            if written > disk {
                return Verdict::Disk(written);
            }
            next_walk = begun + LOOK.max(begun.elapsed() * 10);
        }
    }
}

/// Ends all processes, and returns when none is left.
fn end_all(heard: &Receiver<Heard>, patience: Duration) {
    let until = Instant::now() + patience;
    if !patience.is_zero() {
        signal_all(Signal::TERM);
        while !descendants().is_empty() && Instant::now() < until {
            let _ = heard.recv_timeout(ROUND);
        }
    }
    while !descendants().is_empty() {
        // A process that is stopped does not fork meanwhile.
        signal_all(Signal::STOP);
        signal_all(Signal::KILL);
        let _ = heard.recv_timeout(ROUND);
    }
}

fn signal_all(signal: Signal) {
    for pid in descendants() {
        // It may have ended in the meantime.
        let _ = Pid::from_raw(pid).map(|pid| rustix::process::kill_process(pid, signal));
    }
}

/// The processes below this one that have not ended.
fn descendants() -> BTreeSet<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name before it may have any letters.
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let mut fields = rest.split_whitespace();
        let (state, parent) = (fields.next(), fields.next().and_then(|parent| parent.parse().ok()));
        if let (Some(state), Some(parent)) = (state, parent)
            && state != "Z"
        {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = BTreeSet::new();
    let mut open = vec![rustix::process::getpid().as_raw_nonzero().get()];
    while let Some(parent) = open.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            if found.insert(child) {
                open.push(child);
            }
        }
    }
    found
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

//! The processes below this one: which they are, the memory that they hold, and signals to all of them.

use rustix::process::{Pid, Signal};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// The processes below this one that have not ended.
pub(super) fn descendants() -> BTreeSet<i32> {
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

pub(super) fn signal_all(signal: Signal) {
    for pid in descendants() {
        // It may have ended in the meantime.
        let _ = Pid::from_raw(pid).map(|pid| rustix::process::kill_process(pid, signal));
    }
}

/// Bytes of memory that the processes below this one hold together, without pages of files. Pages that several of them share count once where the sum would be
/// more than `limit` otherwise: to find them takes longer.
pub(super) fn held(limit: u64) -> u64 {
    let processes = descendants();
    let resident = processes.iter().map(resident).sum();
    if resident <= limit { resident } else { processes.iter().map(|pid| part(*pid)).sum() }
}

fn resident(pid: &i32) -> u64 {
    bytes_of(*pid, "status", ["RssAnon:", "RssShmem:"]).unwrap_or(0)
}

/// Bytes that a process holds, of shared pages its part.
fn part(pid: i32) -> u64 {
    bytes_of(pid, "smaps_rollup", ["Pss_Anon:", "Pss_Shmem:"]).unwrap_or_else(|| resident(&pid))
}

/// The sum of these lines of a file of `/proc`, each a number of KiB. `None` without any.
fn bytes_of(pid: i32, file: &str, names: [&str; 2]) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let of = |line: &str| {
        let number = names.iter().find_map(|name| line.strip_prefix(name))?.trim().strip_suffix(" kB")?;
        number.parse::<u64>().ok()
    };
    let found: Vec<u64> = text.lines().filter_map(of).collect();
    (!found.is_empty()).then(|| found.iter().sum::<u64>() << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_process_is_seen_in_both_ways() {
        let kept = vec![1_u8; 64 << 20];
        let own = std::process::id() as i32;
        let ways = [resident(&own), part(own)];
        assert!(ways.iter().all(|bytes| *bytes >= kept.len() as u64), "{ways:?}");
        assert!(ways[1] <= ways[0] + (1 << 20), "shared pages count once: {ways:?}");
        assert_eq!(bytes_of(own, "status", ["NoSuch:", "Line:"]), None);
    }
}

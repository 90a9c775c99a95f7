//! What "auto" stands for: the cores and the memory that this process may use, container limits respected.

use super::units::{ByteSize, Count};
use std::fs;
use std::thread;

/// Cores that this process may run on, at least one.
pub fn cores() -> Count {
    Count(thread::available_parallelism().map_or(1, |n| n.get() as u32))
}

/// Three fifths of the memory of the machine, or of the control group when that allows less: the rest is for what no pool counts.
pub fn memory() -> ByteSize {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| meminfo_total(&text));
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .into_iter()
        .find_map(|path| fs::read_to_string(path).ok())
        .and_then(|text| text.trim().parse::<u64>().ok());
    let total = match (machine, group) {
        (Some(machine), Some(group)) => machine.min(group),
        (Some(total), None) | (None, Some(total)) => total,
        (None, None) => 4 << 30,
    };
    ByteSize(total / 5 * 3)
}

fn meminfo_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_from_meminfo() {
        let text = "MemTotal:       24609340 kB\nMemFree:        18000000 kB\n";
        assert_eq!(meminfo_total(text), Some(24_609_340 * 1024));
        assert_eq!(meminfo_total("nothing"), None);
    }
}

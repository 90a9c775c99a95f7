//! The memory limit of this process: the machine's memory, or the limit of the narrowest control group around it.
//!
//! Version 2 of control groups is one tree, in which the limits of all ancestors apply too; version 1 has a tree for memory. A container often sees its own
//! group as the root of the tree.

use std::fs;
use std::path::{Path, PathBuf};

/// Mount point of control groups.
const ROOT: &str = "/sys/fs/cgroup";
/// Memory to assume, in bytes, when neither the machine nor a group tells.
const UNKNOWN: u64 = 4 << 30;

/// A control group that limits memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    folder: PathBuf,
    version: Version,
    /// Limit in bytes. Beyond it the kernel may kill a process of the group.
    pub limit: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    fn limit(self) -> &'static str {
        match self {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        }
    }

    fn held(self) -> &'static str {
        match self {
            Version::One => "memory.usage_in_bytes",
            Version::Two => "memory.current",
        }
    }

    /// Keys of `memory.stat` that count memory which the kernel takes back before it kills: pages of files.
    fn reclaimable(self) -> [&'static str; 2] {
        match self {
            Version::One => ["total_inactive_file", "total_active_file"],
            Version::Two => ["inactive_file", "active_file"],
        }
    }
}

/// Memory of the machine or limit of the narrowest group, whichever is less, in bytes.
pub fn total_memory() -> u64 {
    let group = Group::narrowest().map(|group| group.limit);
    machine_memory().into_iter().chain(group).min().unwrap_or(UNKNOWN)
}

fn machine_memory() -> Option<u64> {
    meminfo_total(&fs::read_to_string("/proc/meminfo").ok()?)
}

impl Group {
    /// The narrowest group around this process; `None` when none allows less than the machine has.
    pub fn narrowest() -> Option<Self> {
        let memberships = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let group = Self::narrowest_in(Path::new(ROOT), &memberships)?;
        machine_memory().is_none_or(|machine| group.limit < machine).then_some(group)
    }

    fn narrowest_in(root: &Path, memberships: &str) -> Option<Self> {
        let groups = memberships.lines().filter_map(|line| {
            let (_, line) = line.split_once(':')?;
            let (controllers, path) = line.split_once(':')?;
            match controllers {
                "" => Some((Version::Two, root.to_path_buf(), path)),
                of if of.split(',').any(|of| of == "memory") => Some((Version::One, root.join("memory"), path)),
                _ => None,
            }
        });
        // A container's own group, whatever its name outside.
        let root = (Version::Two, root.to_path_buf(), "/");
        let all = groups.chain([root]).flat_map(|(version, root, path)| {
            let path = Path::new(path.trim_start_matches('/')).to_path_buf();
            let ancestors: Vec<PathBuf> = path.ancestors().map(|ancestor| root.join(ancestor)).collect();
            ancestors.into_iter().filter_map(move |folder| {
                let limit = number(&fs::read_to_string(folder.join(version.limit())).ok()?)?;
                Some(Group { folder, version, limit })
            })
        });
        all.min_by_key(|group| group.limit)
    }

    /// The group of a program, whose folder this is.
    pub fn of_program(folder: PathBuf) -> Self {
        Group { folder, version: Version::Two, limit: 0 }
    }

    /// Bytes that the group's processes hold and the kernel cannot take back.
    pub fn held(&self) -> Option<u64> {
        let read = |name: &str| fs::read_to_string(self.folder.join(name)).ok();
        let held = number(&read(self.version.held())?)?;
        let stat = read("memory.stat").unwrap_or_default();
        let of_files = self.version.reclaimable().into_iter().filter_map(|name| stat_of(&stat, name)).sum();
        Some(held.saturating_sub(of_files))
    }
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The number in the line of that name, in a file such as `memory.stat`.
pub(crate) fn stat_of(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| number(line.strip_prefix(name)?.strip_prefix(' ')?))
}

fn meminfo_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(number(line.trim().strip_suffix("kB")?)? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn the_narrowest_group_of_all_around_the_process_counts() {
        let root = tempfile::tempdir().unwrap();
        let files = [
            ("system.slice/memory.max", "2147483648\n"),
            ("system.slice/memory.current", "1000\n"),
            ("system.slice/memory.stat", "anon 200\ninactive_file 300\nactive_file 100\n"),
            ("system.slice/windlass.service/memory.max", "max\n"),
        ];
        write(root.path(), &files);
        let group = Group::narrowest_in(root.path(), "0::/system.slice/windlass.service\n").unwrap();
        assert_eq!((group.limit, group.held()), (2 << 30, Some(600)));
    }

    #[test]
    fn a_container_that_sees_its_own_group_as_the_root_has_that_ones_limit() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &[("memory.max", "1073741824\n"), ("memory.current", "7\n")]);
        let group = Group::narrowest_in(root.path(), "0::/../../elsewhere\n").unwrap();
        assert_eq!((group.limit, group.held()), (1 << 30, Some(7)));
    }

    #[test]
    fn the_older_tree_for_memory_is_read_too() {
        let root = tempfile::tempdir().unwrap();
        let files = [
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/docker/a/memory.limit_in_bytes", "536870912\n"),
            ("memory/docker/a/memory.usage_in_bytes", "5000\n"),
            ("memory/docker/a/memory.stat", "inactive_file 1\ntotal_inactive_file 2000\ntotal_active_file 500\n"),
        ];
        write(root.path(), &files);
        let memberships = "4:cpu,cpuacct:/docker/a\n3:memory:/docker/a\n0::/\n";
        let group = Group::narrowest_in(root.path(), memberships).unwrap();
        assert_eq!((group.limit, group.held()), (512 << 20, Some(2500)));
    }

    #[test]
    fn without_limits_there_is_no_group() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &[("memory.max", "max\n")]);
        assert_eq!(Group::narrowest_in(root.path(), "0::/\n"), None);
    }

    #[test]
    fn the_total_is_read_from_meminfo() {
        let text = "MemTotal:       24609340 kB\nMemFree:        18000000 kB\n";
        assert_eq!(meminfo_total(text), Some(24_609_340 * 1024));
        assert_eq!(meminfo_total("nothing"), None);
    }
}

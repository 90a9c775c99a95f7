//! Control groups of programs: the kernel limits the memory of each program with all of its processes.
//!
//! ```text
//!   a delegated group, which has no processes of its own
//!     ├── the group of this process
//!     └── windlass-ID, one for each program
//! ```
//!
//! A group that has processes of its own cannot limit its children (cgroups(7), version 2). So the groups of programs lie beside this process's group, in a group that
//! was delegated: systemd has marked it (`Delegate=memory`), or it is the root that a container sees. Where this process is in the delegated group itself, all
//! processes of that group first move into a child of it.

use crate::container;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

/// Beginning of the names of programs' groups.
const NAME: &str = "windlass-";
/// Child into which the processes of a delegated group move.
const PROCESSES: &str = "processes";
/// Attribute by which systemd marks a delegated group, with the value "1".
const MARK: &str = "user.delegate";
/// Maximum processes and threads of a program, so that a program which starts more and more of them leaves some to its executor.
const MOST_PROCESSES: &str = "4096";
/// Time that ended processes have to leave a group before it is left to the next executor.
const PATIENCE: Duration = Duration::from_secs(10);
const ROUND: Duration = Duration::from_millis(20);

/// The group in which programs' groups are made.
#[derive(Debug)]
pub(super) struct Groups {
    parent: PathBuf,
}

impl Groups {
    /// Finds that group. May move processes into a child of it.
    ///
    /// # Errors
    /// The reason why programs have no groups here.
    pub fn prepare() -> Result<Self, String> {
        let tree = Tree::of_this_process().ok_or("there are no control groups of version 2")?;
        let parent = match tree.place(is_marked) {
            Some(Place::Beside(parent)) => parent,
            Some(Place::Within(own)) => {
                move_processes(&own).map_err(|error| format!("processes stay in {}: {error}", own.display()))?;
                own
            }
            None => return Err(format!("no group with the memory controller was delegated to {}", tree.own.display())),
        };
        let usable = || {
            put(&parent, "cgroup.subtree_control", "+memory")?;
            // Whoever moves a process may write here.
            OpenOptions::new().write(true).open(parent.join("cgroup.procs"))
        };
        usable().map_err(|error| format!("{} cannot be used: {error}", parent.display()))?;
        // Without it, the number of processes has no limit.
        let _ = put(&parent, "cgroup.subtree_control", "+pids");
        Ok(Self { parent })
    }

    /// Makes the group of a program. `memory`: maximum bytes.
    pub fn make(&self, id: &str, memory: u64) -> io::Result<Group> {
        let group = Group { folder: self.parent.join(format!("{NAME}{id}")) };
        fs::create_dir(&group.folder)?;
        let limited = || {
            put(&group.folder, "memory.max", &memory.to_string())?;
            match put(&group.folder, "memory.swap.max", "0") {
                // The machine cannot swap.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                done => done?,
            }
            match put(&group.folder, "pids.max", MOST_PROCESSES) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                done => done,
            }
        };
        match limited() {
            Ok(()) => Ok(group),
            Err(error) => {
                let _ = group.remove();
                Err(error)
            }
        }
    }

    /// Removes the group of a program of an earlier process, if there is one.
    pub fn remove_left(id: &OsStr) -> io::Result<()> {
        let Some(tree) = Tree::of_this_process() else { return Ok(()) };
        let mut name = NAME.to_string();
        name.push_str(&id.to_string_lossy());
        tree.own.parent().into_iter().chain([&*tree.own]).try_for_each(|parent| Group::at(parent.join(&name)).remove())
    }
}

/// The group of one program.
#[derive(Clone, Debug)]
pub(super) struct Group {
    folder: PathBuf,
}

impl Group {
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Calls `start` in the group: the processes that it starts have never been outside.
    pub fn within<T>(&self, start: impl FnOnce() -> T) -> io::Result<T> {
        const THIS_PROCESS: &str = "0";
        let own = Tree::of_this_process().ok_or(ErrorKind::NotFound)?.own;
        put(&self.folder, "cgroup.procs", THIS_PROCESS)?;
        let started = start();
        put(&own, "cgroup.procs", THIS_PROCESS)?;
        // From here on the kernel ends all processes of the group together.
        put(&self.folder, "memory.oom.group", "1")?;
        Ok(started)
    }

    /// Bytes of memory that its processes hold and the kernel cannot take back.
    pub fn held(&self) -> u64 {
        container::Group::of_program(self.folder.clone()).held().unwrap_or(0)
    }

    /// Whether the kernel has ended processes because the group would have exceeded its own limit.
    pub fn met_limit(&self) -> bool {
        let events = fs::read_to_string(self.folder.join("memory.events")).unwrap_or_default();
        let happened = |name: &str| container::stat_of(&events, name).is_some_and(|times| times > 0);
        happened("oom") && happened("oom_kill")
    }

    /// Ends all processes of the group. Linux can do that since 5.14.
    pub fn kill(&self) {
        let _ = put(&self.folder, "cgroup.kill", "1");
    }

    /// Ends what is left in the group, and removes it.
    pub fn remove(&self) -> io::Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            self.kill();
            match remove_with_children(&self.folder) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < until => {
                    std::thread::sleep(ROUND);
                }
                removed => return removed,
            }
        }
    }
}

/// The tree of groups as this process sees it.
#[derive(Debug, PartialEq, Eq)]
struct Tree {
    /// Where it is mounted.
    top: PathBuf,
    /// The group of this process.
    own: PathBuf,
}

/// Where programs' groups may be made.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// In the group above this process's own.
    Beside(PathBuf),
    /// In its own.
    Within(PathBuf),
}

impl Tree {
    fn of_this_process() -> Option<Self> {
        let read = |name| fs::read_to_string(format!("/proc/self/{name}")).ok();
        Self::of(&read("mountinfo")?, &read("cgroup")?)
    }

    /// Reads texts as in proc(5): the mounts, and the groups of a process.
    fn of(mounts: &str, groups: &str) -> Option<Self> {
        let group = Path::new(groups.lines().find_map(|line| line.strip_prefix("0::"))?);
        mounts.lines().find_map(|line| {
            let (mount, kind) = line.split_once(" - ")?;
            let mut fields = mount.split(' ').skip(3);
            let (root, top) = (fields.next()?, fields.next()?);
            let below = group.strip_prefix(root).ok()?;
            let is_inside = below.components().all(|part| matches!(part, Component::Normal(_)));
            (kind.starts_with("cgroup2 ") && is_inside)
                .then(|| Tree { top: top.into(), own: Path::new(top).join(below) })
        })
    }

    fn place(&self, is_marked: impl Fn(&Path) -> bool) -> Option<Place> {
        let may_have_groups = |folder: &Path| {
            // The root of all groups has no such file; the root that a container sees has it.
            let is_root_of_container = || folder == self.top && folder.join("cgroup.type").exists();
            let controllers = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
            controllers.split_whitespace().any(|of| of == "memory") && (is_marked(folder) || is_root_of_container())
        };
        let above = self.own.parent().filter(|above| above.starts_with(&self.top));
        match above.filter(|above| may_have_groups(above)) {
            Some(above) => Some(Place::Beside(above.to_path_buf())),
            None => may_have_groups(&self.own).then(|| Place::Within(self.own.clone())),
        }
    }
}

fn is_marked(group: &Path) -> bool {
    let mut value = [0; 8];
    rustix::fs::getxattr(group, MARK, &mut value[..]).is_ok_and(|bytes| &value[..bytes] == b"1")
}

/// Moves all processes of a group into a child of it.
fn move_processes(group: &Path) -> io::Result<()> {
    let child = group.join(PROCESSES);
    match fs::create_dir(&child) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    loop {
        let pids = fs::read_to_string(group.join("cgroup.procs"))?;
        if pids.is_empty() {
            return Ok(());
        }
        for pid in pids.lines() {
            match put(&child, "cgroup.procs", pid) {
                // It has ended.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {}
                moved => moved?,
            }
        }
    }
}

/// Writes a file of a group, which must exist.
fn put(group: &Path, file: &str, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(group.join(file))?.write_all(text.as_bytes())
}

/// The files of a group go with it. A program may have made groups in its own.
fn remove_with_children(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_with_children(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 0:5 / /dev rw - devtmpfs udev rw
31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
";

    /// A made-up tree. Groups whose name is followed by + have the memory controller.
    fn tree(own: &str, groups: &[&str]) -> (tempfile::TempDir, Tree) {
        let top = tempfile::tempdir().unwrap();
        for group in groups {
            let (name, controllers) =
                group.strip_suffix('+').map_or((*group, "pids\n"), |name| (name, "memory pids\n"));
            let folder = top.path().join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("cgroup.controllers"), controllers).unwrap();
        }
        let tree = Tree { top: top.path().to_path_buf(), own: top.path().join(own) };
        (top, tree)
    }

    /// Returns where groups may be made if `marked` was delegated by systemd, as the way and the name of the group.
    fn place(tree: &Tree, marked: &str) -> Option<(&'static str, String)> {
        let (way, group) = match tree.place(|folder| folder == tree.top.join(marked))? {
            Place::Beside(group) => ("beside", group),
            Place::Within(group) => ("within", group),
        };
        Some((way, group.strip_prefix(&tree.top).unwrap().display().to_string()))
    }

    #[test]
    fn the_group_of_this_process_is_found_below_the_mount() {
        let found = |groups: &str| Tree::of(MOUNTS, groups).map(|tree| tree.own.display().to_string());
        let service = "12:memory:/elsewhere\n0::/system.slice/windlass.service/main\n";
        assert_eq!(found(service).as_deref(), Some("/sys/fs/cgroup/system.slice/windlass.service/main"));
        assert_eq!(found("0::/\n").as_deref(), Some("/sys/fs/cgroup/"));
        // A process whose group lies outside of what its container sees.
        assert_eq!(found("0::/../other\n"), None);
        assert_eq!(found("4:memory:/a\n"), None);
        assert_eq!(Tree::of("31 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n", "0::/\n"), None);
    }

    #[test]
    fn a_mount_of_a_part_of_the_tree_shows_what_is_in_that_part() {
        let mounts = "50 40 0:28 /docker/a /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        let found = |groups: &str| Tree::of(mounts, groups).map(|tree| tree.own.display().to_string());
        assert_eq!(found("0::/docker/a/main\n").as_deref(), Some("/sys/fs/cgroup/main"));
        assert_eq!(found("0::/docker/b\n"), None);
    }

    #[test]
    fn groups_are_made_beside_the_process_where_the_group_above_was_delegated() {
        let (_top, tree) = tree("a.service/main", &["+", "a.service+", "a.service/main+"]);
        assert_eq!(place(&tree, "a.service"), Some(("beside", "a.service".to_string())));
        assert_eq!(place(&tree, "b.service"), None);
    }

    #[test]
    fn groups_are_made_in_the_own_group_if_only_that_was_delegated() {
        let (_top, tree) = tree("a.service", &["+", "a.service+"]);
        assert_eq!(place(&tree, "a.service"), Some(("within", "a.service".to_string())));
    }

    #[test]
    fn without_the_memory_controller_there_is_no_place() {
        let (_top, tree) = tree("a.service/main", &["+", "a.service", "a.service/main"]);
        assert_eq!(place(&tree, "a.service"), None);
    }

    #[test]
    fn the_root_of_a_container_may_have_groups_and_the_root_of_the_machine_may_not() {
        let (top, own) = tree("", &["+"]);
        let child = Tree { own: top.path().join(PROCESSES), top: top.path().to_path_buf() };
        assert_eq!(place(&own, "nothing"), None);
        fs::write(top.path().join("cgroup.type"), "domain\n").unwrap();
        assert_eq!(place(&own, "nothing"), Some(("within", String::new())));
        assert_eq!(place(&child, "nothing"), Some(("beside", String::new())));
    }
}

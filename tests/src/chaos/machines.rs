//! Machines: network namespaces on one bridge, and processes in them that can be killed, stopped, cut off and started again.

use crate::cluster::{run, succeed};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A separate network: 10.x.y.0/24. The tests are in it too, as .254.
pub(super) struct Network {
    name: String,
    subnet: String,
}

impl Network {
    /// Creates a network. The error is the reason why this process may not.
    pub fn create() -> Result<Self, String> {
        let pid = std::process::id();
        let network = Self { name: format!("wl{pid}"), subnet: format!("10.{}.{}", 200 + pid % 50, pid / 50 % 250) };
        let (hub, outside) = (network.hub(), network.outside());
        run(ip(&["netns", "add", &hub]))?;
        let steps: [&[&str]; 8] = [
            &["-n", &hub, "link", "set", "lo", "up"],
            &["-n", &hub, "link", "add", "br0", "type", "bridge"],
            &["-n", &hub, "link", "set", "br0", "up"],
            &["link", "add", &outside, "type", "veth", "peer", "name", "out", "netns", &hub],
            &["-n", &hub, "link", "set", "out", "master", "br0", "up"],
            &["addr", "add", &format!("{}.254/24", network.subnet), "dev", &outside],
            &["link", "set", &outside, "up"],
            &["-n", &hub, "addr", "add", &format!("{}.1/24", network.subnet), "dev", "br0"],
        ];
        for step in steps {
            run(ip(step))?;
        }
        Ok(network)
    }

    fn hub(&self) -> String {
        format!("{}hub", self.name)
    }

    fn outside(&self) -> String {
        format!("{}out", self.name)
    }

    /// A machine in the network that runs one program.
    pub fn machine(&self, number: usize, name: &str, dir: &Path, program: &Path, arguments: Vec<String>) -> Machine {
        let namespace = format!("{}h{number}", self.name);
        let port = format!("h{number}");
        let address = self.address(number);
        let hub = self.hub();
        succeed(ip(&["netns", "add", &namespace]));
        succeed(ip(&["-n", &namespace, "link", "set", "lo", "up"]));
        succeed(ip(&["-n", &hub, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &namespace]));
        succeed(ip(&["-n", &hub, "link", "set", &port, "master", "br0", "up"]));
        succeed(ip(&["-n", &namespace, "addr", "add", &format!("{address}/24"), "dev", "eth0"]));
        succeed(ip(&["-n", &namespace, "link", "set", "eth0", "up"]));
        Machine {
            name: name.to_owned(),
            address,
            namespace,
            hub,
            port,
            dir: dir.join(name),
            program: program.to_owned(),
            arguments,
            process: None,
            disks: Vec::new(),
            group: None,
        }
    }

    pub fn address(&self, number: usize) -> String {
        format!("{}.{}", self.subnet, 10 + number)
    }

    /// Address of the tests in the network.
    pub fn outer_address(&self) -> String {
        format!("{}.254", self.subnet)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The interfaces go with the last namespace.
        let _ = run(ip(&["link", "del", &self.outside()]));
        let _ = run(ip(&["netns", "del", &self.hub()]));
    }
}

pub(super) struct Machine {
    pub name: String,
    pub address: String,
    namespace: String,
    hub: String,
    port: String,
    dir: PathBuf,
    program: PathBuf,
    arguments: Vec<String>,
    process: Option<Child>,
    /// Folders where its disks are mounted.
    disks: Vec<PathBuf>,
    /// The control group of its process, whose memory can be limited.
    group: Option<PathBuf>,
}

/// Files of the memory limit of a control group, in its first and second version.
const LIMITS: [&str; 2] = ["memory.limit_in_bytes", "memory.max"];

/// The file that fills a disk.
const FILLER: &str = "filler";

impl Machine {
    /// Mounts a disk of this many bytes, in memory, at a folder of this machine.
    pub fn give_disk(&mut self, folder: &str, bytes: u64) {
        let at = self.dir.join(folder);
        std::fs::create_dir_all(&at).expect("a folder can be made");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "windlass-tests"]).arg(&at);
        succeed(mount);
        self.disks.push(at);
    }

    /// Fills a disk. Returns the number of bytes that it took.
    pub fn fill(&self, folder: &str) -> u64 {
        let mut file = File::create(self.dir.join(folder).join(FILLER)).expect("a file can be made");
        let (block, mut bytes) = (vec![0; 1 << 16], 0);
        while let Ok(written @ 1..) = file.write(&block) {
            bytes += written as u64;
        }
        bytes
    }

    pub fn make_room(&self, folder: &str) {
        // A process that was started since may have emptied its folder.
        let _ = std::fs::remove_file(self.dir.join(folder).join(FILLER));
    }

    /// Changes a byte of each file in a folder, at `offset` or at the file's end if it is shorter. Returns the number of files.
    pub fn damage(&self, folder: &str, offset: usize) -> usize {
        let Ok(entries) = std::fs::read_dir(self.dir.join(folder)) else { return 0 };
        entries.flatten().filter(|entry| damage(&entry.path(), offset).is_some()).count()
    }

    /// Puts its processes into a control group, if this process may make one.
    pub fn confine(&mut self) {
        let groups = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].map(Path::new);
        let made = groups.into_iter().find_map(|root| {
            let group = root.join(&self.namespace);
            let usable = std::fs::create_dir(&group).is_ok() && LIMITS.iter().any(|limit| group.join(limit).exists());
            usable.then_some(group)
        });
        self.group = made;
    }

    /// Limits its memory to slightly more than it uses. Returns the limit, or `None` where memory cannot be limited.
    pub fn limit_memory(&self) -> Option<u64> {
        let group = self.group.as_ref()?;
        let used = ["memory.usage_in_bytes", "memory.current"]
            .iter()
            .find_map(|name| std::fs::read_to_string(group.join(name)).ok());
        let limit = used?.trim().parse::<u64>().ok()? + (4 << 20);
        self.write_limit(&limit.to_string()).then_some(limit)
    }

    pub fn lift_limit(&self) {
        self.write_limit("-1");
        self.write_limit("max");
    }

    fn write_limit(&self, limit: &str) -> bool {
        let Some(group) = &self.group else { return false };
        LIMITS.iter().any(|name| std::fs::write(group.join(name), limit).is_ok())
    }

    pub fn has_ended(&mut self) -> bool {
        self.process.as_mut().is_none_or(|process| !matches!(process.try_wait(), Ok(None)))
    }

    pub fn start(&mut self) {
        std::fs::create_dir_all(&self.dir).expect("a folder can be made");
        let log = File::options().create(true).append(true).open(self.log()).expect("a log can be written");
        // `ip` becomes the program, and keeps its process id.
        let mut command = ip(&["netns", "exec", &self.namespace]);
        command.arg(&self.program).args(&self.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.env_remove("WINDLASS_URL").env_remove("WINDLASS_CONFIG");
        let process = command.spawn().expect("a process can be started");
        if let Some(group) = &self.group {
            std::fs::write(group.join("cgroup.procs"), process.id().to_string()).expect("it joins its group");
        }
        self.process = Some(process);
    }

    pub fn folder(&self) -> &Path {
        &self.dir
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Both fail only if it has ended.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    pub fn signal(&self, signal: &str) {
        if let Some(process) = &self.process {
            // It may have ended by itself; later checks notice that it is missing.
            let _ = Command::new("kill").args([signal, &process.id().to_string()]).output();
        }
    }

    /// Waits for a process that was asked to end.
    pub fn wait(&mut self) -> Option<std::process::ExitStatus> {
        self.process.take().and_then(|mut process| process.wait().ok())
    }

    /// Unplugs the machine's cable, or plugs it in.
    pub fn plug(&self, plugged: bool) {
        succeed(ip(&["-n", &self.hub, "link", "set", &self.port, if plugged { "up" } else { "down" }]));
    }

    /// Drops packets to one other machine, or stops dropping them.
    pub fn avoid(&self, other: &str, avoided: bool) {
        let change = if avoided { "add" } else { "del" };
        succeed(ip(&["-n", &self.namespace, "route", change, "blackhole", &format!("{other}/32")]));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
        let _ = run(ip(&["netns", "del", &self.namespace]));
        if let Some(group) = &self.group {
            let _ = std::fs::remove_dir(group);
        }
        for disk in &self.disks {
            let mut unmount = Command::new("umount");
            unmount.arg(disk);
            let _ = run(unmount);
        }
    }
}

/// Changes a byte of a file; `None` where the path is a folder, the file is empty, or it is gone.
fn damage(path: &Path, offset: usize) -> Option<()> {
    let file = File::options().read(true).write(true).open(path).ok()?;
    let at = offset as u64 % file.metadata().ok()?.len().max(1);
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).ok()?;
    file.write_all_at(&[!byte[0]], at).ok()
}

fn ip(arguments: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(arguments);
    command
}

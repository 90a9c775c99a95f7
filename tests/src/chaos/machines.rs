//! Machines: network namespaces on one bridge, and processes in them that can be killed, stopped, cut off and started again.

use crate::cluster::{run, succeed};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A network of its own: 10.x.y.0/24. The tests are in it too, as .254.
pub(super) struct Network {
    name: String,
    subnet: String,
}

impl Network {
    /// `None`, with the reason: this process may not make one.
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
        }
    }

    pub fn address(&self, number: usize) -> String {
        format!("{}.{}", self.subnet, 10 + number)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // With the last namespace its interfaces go.
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
    /// Where its disks are mounted.
    disks: Vec<PathBuf>,
}

/// The file that fills a disk.
const FILLER: &str = "filler";

impl Machine {
    /// A disk of so many bytes, in memory, at a folder of this machine.
    pub fn give_disk(&mut self, folder: &str, bytes: u64) {
        let at = self.dir.join(folder);
        std::fs::create_dir_all(&at).expect("a folder can be made");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "windlass-tests"]).arg(&at);
        succeed(mount);
        self.disks.push(at);
    }

    /// Leaves no room on a disk. How many bytes that took.
    pub fn fill(&self, folder: &str) -> u64 {
        let mut file = File::create(self.dir.join(folder).join(FILLER)).expect("a file can be made");
        let (block, mut bytes) = (vec![0; 1 << 16], 0);
        while let Ok(written @ 1..) = file.write(&block) {
            bytes += written as u64;
        }
        bytes
    }

    pub fn make_room(&self, folder: &str) {
        // A process that has started since has emptied its folder.
        let _ = std::fs::remove_file(self.dir.join(folder).join(FILLER));
    }

    /// Changes a byte of each file in a folder, at `offset` or as far in as the file goes. How many files there were.
    pub fn damage(&self, folder: &str, offset: usize) -> usize {
        let Ok(entries) = std::fs::read_dir(self.dir.join(folder)) else { return 0 };
        entries.flatten().filter(|entry| damage(&entry.path(), offset).is_some()).count()
    }

    pub fn start(&mut self) {
        std::fs::create_dir_all(&self.dir).expect("a folder can be made");
        let log = File::options().create(true).append(true).open(self.log()).expect("a log can be written");
        // `ip` becomes the program, and keeps its number.
        let mut command = ip(&["netns", "exec", &self.namespace]);
        command.arg(&self.program).args(&self.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.env_remove("WINDLASS_URL").env_remove("WINDLASS_CONFIG");
        self.process = Some(command.spawn().expect("a process can be started"));
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Both fail only where it has ended.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    pub fn signal(&self, signal: &str) {
        if let Some(process) = &self.process {
            // It may have ended by itself, which shows when it is missing.
            let _ = Command::new("kill").args([signal, &process.id().to_string()]).output();
        }
    }

    /// Waits for a process that was asked to end.
    pub fn wait(&mut self) -> Option<std::process::ExitStatus> {
        self.process.take().and_then(|mut process| process.wait().ok())
    }

    /// As a cable is pulled, and plugged in again.
    pub fn plug(&self, plugged: bool) {
        succeed(ip(&["-n", &self.hub, "link", "set", &self.port, if plugged { "up" } else { "down" }]));
    }

    /// Packets to one other machine get lost.
    pub fn avoid(&self, other: &str, avoided: bool) {
        let change = if avoided { "add" } else { "del" };
        succeed(ip(&["-n", &self.namespace, "route", change, "blackhole", &format!("{other}/32")]));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
        let _ = run(ip(&["netns", "del", &self.namespace]));
        for disk in &self.disks {
            let mut unmount = Command::new("umount");
            unmount.arg(disk);
            let _ = run(unmount);
        }
    }
}

/// `None` where the file is a folder, empty, or gone meanwhile.
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

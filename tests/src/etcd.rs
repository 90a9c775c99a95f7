//! A real etcd of one member, on free ports and in a separate folder.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use windlass_scheduler::meta::{EtcdConfig, EtcdStore};

pub(crate) struct Etcd {
    pub url: String,
    peers: String,
    dir: tempfile::TempDir,
    process: Option<Child>,
}

impl Etcd {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder can be made");
        // Both ports are held until both are known, so that they differ.
        let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("there are free ports"));
        let [url, peers] = ports.map(|port| format!("http://{}", port.local_addr().expect("it has an address")));
        let mut etcd = Self { url, peers, dir, process: None };
        etcd.start_again().await;
        etcd
    }

    /// Starts the member again with its data.
    pub async fn start_again(&mut self) {
        let log = std::fs::File::create(self.dir.path().join("log")).expect("a log can be written");
        let mut command = Command::new("etcd");
        command
            .args(["--data-dir", &self.dir.path().join("data").display().to_string()])
            .args(["--listen-client-urls", &self.url, "--advertise-client-urls", &self.url])
            .args(["--listen-peer-urls", &self.peers, "--initial-advertise-peer-urls", &self.peers])
            .args(["--initial-cluster", &format!("default={}", self.peers)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.process = Some(command.spawn().expect("etcd is installed: see deploy/build/setup.sh"));
        let patience = Instant::now() + Duration::from_secs(20);
        while let Err(error) = EtcdStore::connect(&self.config("probe")).await {
            assert!(Instant::now() < patience, "etcd does not come up: {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills the member, like a machine that loses power.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Both fail only if it has ended.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    pub fn config(&self, cluster: &str) -> EtcdConfig {
        EtcdConfig { endpoints: vec![self.url.clone()], cluster: cluster.to_owned(), lease: Duration::from_secs(2) }
    }

    /// Runs an operator's command.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.url]).args(arguments);
        crate::cluster::succeed(command)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

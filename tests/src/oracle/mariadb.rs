//! A MariaDB server of the test's own, in a temporary folder.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The user of the tables, who is not the one who looks after the server.
pub(crate) const USER: &str = "app";

pub(crate) struct MariaDb {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

/// The server, with little on disk and no hurry to get it there. As root it becomes a user who owns nothing.
fn command(data: &Path) -> Command {
    let mut command = Command::new("/usr/sbin/mariadbd");
    command.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
    // A server that starts removes what others have left in the folder of temporary files.
    command.arg(format!("--tmpdir={}", data.display()));
    command.args([
        "--innodb-log-file-size=16M",
        "--innodb-data-file-path=ibdata1:10M:autoextend",
        "--innodb-buffer-pool-size=64M",
    ]);
    command.args([
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-flush-method=nosync",
        "--innodb-doublewrite=0",
        "--sync-frm=0",
    ]);
    let root = std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    if root {
        command.arg("--user=nobody");
    }
    command
}

/// Makes the tables of the server itself, without those of its manual.
fn bootstrap(data: &Path) {
    std::fs::create_dir_all(data.join("mysql")).expect("a folder can be made");
    for at in [data, &data.join("mysql")] {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(at, open).expect("it can be opened to the server's user");
    }
    let mut script = "USE mysql;\nSET @auth_root_socket = NULL;\nSET @skip_auth_anonymous = 1;\n".to_string();
    for file in ["mysql_system_tables.sql", "mysql_system_tables_data.sql"] {
        let file = Path::new("/usr/share/mysql").join(file);
        let missing = |error| panic!("{}: {error}: run `make data`", file.display());
        script.push_str(&std::fs::read_to_string(&file).unwrap_or_else(missing));
    }
    let mut server = command(data);
    let piped = server.arg("--bootstrap").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut server = piped.spawn().expect("MariaDB is installed: run `make data`");
    let mut stdin = server.stdin.take().expect("it reads");
    std::io::Write::write_all(&mut stdin, script.as_bytes()).expect("it takes the script");
    drop(stdin);
    let ended = server.wait_with_output().expect("it ends");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

impl MariaDb {
    /// Has a database `shop`, all of which is the user's.
    pub fn start() -> Self {
        Self::with(&[], |_| {})
    }

    /// With these settings, and what `prepare` makes of its folder before it starts.
    pub fn with(settings: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::Builder::new().prefix("mariadb-").tempdir().expect("a folder can be made");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(folder.path(), open).expect("it can be opened to the server's user");
        let data = folder.path().join("data");
        bootstrap(&data);
        prepare(folder.path());
        let free = TcpListener::bind("127.0.0.1:0").expect("a port can be had");
        let port = free.local_addr().expect("it has an address").port();
        drop(free);
        let mut server = command(&data);
        server.args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--port", &port.to_string()]);
        server.arg(format!("--socket={}", folder.path().join("socket").display())).args(settings);
        let process = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the server starts");
        let server = Self { process, port, folder };
        let patience = Instant::now() + Duration::from_secs(60);
        while server.run("SELECT 1").is_err() {
            assert!(Instant::now() < patience, "MariaDB does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        let script = format!(
            "CREATE DATABASE shop CHARACTER SET utf8mb4; CREATE USER {USER}@'%'; GRANT ALL ON shop.* TO {USER}@'%'"
        );
        server.run(&script).expect("there is a database");
        server
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A folder that ends with the server.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What `mariadb` prints of a script, as the superuser in `shop`: a line for each row, with a `|` between columns.
    pub fn sql(&self, script: &str) -> Result<String, String> {
        self.run(&format!("USE shop; {script}"))
    }

    fn run(&self, script: &str) -> Result<String, String> {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "--user=root", "--batch", "--raw", "--skip-column-names"]);
        client.args(["--default-character-set=utf8mb4", "--init-command=SET time_zone = '+00:00', sql_mode = ''"]);
        client.arg(format!("--socket={}", self.folder.path().join("socket").display())).args(["-e", script]);
        Ok(crate::cluster::run(client)?.trim_end().replace('\t', "|"))
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        // Nobody reads the folder any more.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

//! Who is let in, over what, and that nobody sees with which password.

use super::*;
use crate::cluster::{run, succeed, windlass};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use windlass_scheduler::meta::{EmbeddedStore, MetaStore};

/// A server that wants passwords, and has TLS if `tls`.
fn guarded(tls: bool) -> MariaDb {
    let folder = tempfile::tempdir().expect("a folder can be made");
    certificates(folder.path());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let settings = [
        format!("--ssl-ca={}", at("ca.crt")),
        format!("--ssl-cert={}", at("server.crt")),
        format!("--ssl-key={}", at("server.key")),
    ];
    let settings: Vec<&str> = if tls { settings.iter().map(String::as_str).collect() } else { vec!["--skip-ssl"] };
    let server = MariaDb::with(&settings, |_| {});
    for name in ["ca.crt", "server.crt", "other.crt"] {
        std::fs::copy(folder.path().join(name), server.folder().join(name)).expect("it can be copied");
    }
    scripted(
        &server,
        &format!(
            "ALTER USER app@'%' IDENTIFIED BY '{SECRET}'; CREATE USER other@'%' IDENTIFIED BY 'pässwörd '; GRANT ALL ON shop.* TO other@'%'; \
             CREATE TABLE t (n int PRIMARY KEY); INSERT INTO t VALUES (1)"
        ),
    );
    server
}

/// An authority, and the certificate of `localhost` that it has signed.
fn certificates(at: &Path) {
    let script = "set -e; cd \"$0\"
        openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=ca -days 2
        openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost
        printf 'subjectAltName=DNS:localhost\\nbasicConstraints=CA:FALSE\\n' > ext
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -extfile ext -days 2 -out server.crt
        openssl req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.crt -subj /CN=other -days 2
        chmod 755 .; chmod 644 ca.crt other.crt server.crt server.key";
    let mut shell = Command::new("bash");
    shell.args(["-c", script]).arg(at);
    succeed(shell);
}

fn table(server: &MariaDb, name: &str, user: &str, more: &str) -> String {
    table_at(server, "127.0.0.1", name, user, more)
}

fn table_at(server: &MariaDb, host: &str, name: &str, user: &str, more: &str) -> String {
    let port = server.port();
    format!(
        "CREATE EXTERNAL TABLE {name} STORED AS MYSQL LOCATION 'mysql://{user}@{host}:{port}/shop' OPTIONS (table 't'{more})"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_and_certificates_let_in() {
    let server = &guarded(true);
    let session = embedded().await;
    for (user, password) in [("app", SECRET), ("other", "pässwörd ")] {
        done(&session, &[&table(server, user, user, &format!(", password '{password}'"))]).await;
        assert_eq!(answers(&session, &format!("SELECT n FROM {user}")).await, "1");
        refused(&session, &table(server, "x", user, ", password 'wrong'"), &["Access denied", user]).await;
        refused(&session, &table(server, "x", user, ""), &["Access denied", "no password was given"]).await;
    }
    let port = server.port();
    for (location, words) in [
        (format!("mysql://app:{SECRET}@127.0.0.1:{port}/shop"), "has a password"),
        (format!("mysql://127.0.0.1:{port}/shop"), "as which user"),
        (format!("mysql://app@127.0.0.1:{port}"), "names no database, and the table t neither"),
        (format!("mysql://app@127.0.0.1:{port}/nowhere"), "nowhere"),
        ("mysql://app@127.0.0.1:1/shop".to_string(), "cannot be reached"),
        ("mysql://app@no.such.host.invalid/shop".to_string(), "no.such.host.invalid"),
    ] {
        let create = format!(
            "CREATE EXTERNAL TABLE x STORED AS MYSQL LOCATION '{location}' OPTIONS (table 't', password '{SECRET}')"
        );
        refused(&session, &create, &[words]).await;
    }
    refused(&session, &table(server, "x", "app", ", sslmode 'maybe'"), &["verify-full"]).await;
    refused(&session, &table(server, "x", "app", ", auth 'iam'"), &["nobody else may see", "verify-full"]).await;
    let both = format!(", auth 'iam', sslmode 'require', password '{SECRET}'");
    refused(&session, &table(server, "x", "app", &both), &["takes the place of a password"]).await;
    scripted(server, "ALTER USER app@'%' REQUIRE SSL");
    let file = |name: &str| server.folder().join(name).display().to_string();
    let options = |mode: &str, root: &str| {
        let root = if root.is_empty() { String::new() } else { format!(", sslrootcert '{}'", file(root)) };
        format!(", password '{SECRET}', sslmode '{mode}'{root}")
    };
    for (number, (host, mode, root, expected)) in [
        ("127.0.0.1", "prefer", "", Ok(())),
        ("127.0.0.1", "require", "", Ok(())),
        ("127.0.0.1", "require", "ca.crt", Ok(())),
        ("127.0.0.1", "require", "other.crt", Err("certificate")),
        ("127.0.0.1", "verify-ca", "ca.crt", Ok(())),
        ("127.0.0.1", "verify-ca", "other.crt", Err("certificate")),
        ("127.0.0.1", "verify-ca", "none.crt", Err("cannot be read")),
        ("localhost", "verify-full", "ca.crt", Ok(())),
        ("127.0.0.1", "verify-full", "ca.crt", Err("certificate")),
        ("127.0.0.1", "disable", "", Err("Access denied")),
    ]
    .into_iter()
    .enumerate()
    {
        let create = table_at(server, host, &format!("t{number}"), "app", &options(mode, root));
        match expected {
            Ok(()) => {
                done(&session, &[&create]).await;
                assert_eq!(answers(&session, &format!("SELECT n FROM t{number}")).await, "1", "{mode} {root}");
            }
            Err(words) => drop(refused(&session, &create, &[words]).await),
        }
    }
    // A query that is dropped is ended over TLS too.
    scripted(server, "CREATE VIEW silent AS SELECT sleep(600) AS n");
    let silent = table(server, "silent", "app", &options("require", "")).replace("'t'", "'silent'");
    done(&session, &[&silent]).await;
    let running = format!("SELECT count(*) {SESSIONS} AND INFO LIKE '%silent%'");
    tokio::select! {
        answer = sql(&session, "SELECT * FROM silent") => panic!("it ended: {answer:?}"),
        () = until(server, &running, "1") => {}
    }
    until(server, &running, "0").await;
}

/// A marked password is where it has to be, and nowhere else. On a server without TLS, which sslmode may demand; with the client's own file and variable.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_the_password() {
    let server = &guarded(false);
    let dir = tempfile::tempdir().expect("a folder can be made");
    let at = dir.path().to_owned();
    let shown = at.display().to_string();
    let home = tempfile::tempdir().expect("a folder can be made");
    let file = home.path().join(".my.cnf");
    std::fs::write(&file, format!("[client]\nuser = app\npassword = '{SECRET}'\nport = {}\n", server.port()))
        .expect("it can be written");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("it can be closed");
    let up = ["cluster", "up", "--executors", "2", "--slots", "2", "--memory", "1GiB", "--dir", &shown, "--json"];
    let _down = Down(shown.clone());
    let mut up = windlass(&up);
    up.env("WINDLASS_LOG", "debug").env("HOME", home.path()).env("MYSQL_PWD", "pässwörd ");
    let described: serde_json::Value = serde_json::from_str(&succeed(up)).expect("the cluster is described");
    let session = Client::connect(described["url"].as_str().expect("it has an address")).await.expect("it answers");
    let create = table(server, "t", "app", &format!(", password '{SECRET}'"));
    done(&session, &[STAGES, &create, "INSERT INTO t SELECT n + 1 FROM t"]).await;
    let filed = "CREATE EXTERNAL TABLE filed STORED AS MYSQL LOCATION 'mysql://127.0.0.1/shop' OPTIONS (table 't')";
    done(&session, &[filed]).await;
    assert_eq!(answers(&session, "SELECT count(*) FROM filed").await, "2");
    std::fs::write(&file, format!("[client]\nport = {}\n", server.port())).expect("it can be written");
    done(&session, &[&filed.replace("filed", "other").replace("//", "//other@")]).await;
    assert_eq!(answers(&session, "SELECT count(*) FROM other").await, "2");
    refused(&session, &table(server, "x", "app", ", sslmode 'require'"), &["no TLS"]).await;
    let mut texts = vec![sql(&session, "EXPLAIN ANALYZE SELECT n FROM t WHERE n > 0").await.expect("it runs")];
    texts.push(sql(&session, "EXPLAIN INSERT INTO t SELECT n FROM t").await.expect("it is explained"));
    texts.push(sql(&session, "SHOW CREATE TABLE t").await.expect("it is shown"));
    scripted(server, &format!("ALTER USER app@'%' IDENTIFIED BY '{SECRET}2'"));
    texts.push(sql(&session, "SELECT n FROM t").await.expect_err("the password was changed"));
    scripted(server, &format!("ALTER USER app@'%' IDENTIFIED BY '{SECRET}'; ALTER TABLE t RENAME COLUMN n TO m"));
    texts.push(sql(&session, "SELECT n FROM t").await.expect_err("the column is gone"));
    for job in session.jobs(100).await.expect("jobs are listed") {
        let detail = session.job(job.job).await.expect("it is known");
        let logs = session.job_logs(job.job).await.unwrap_or_default();
        texts.push(format!("{job:?} {detail:?} {logs:?}"));
    }
    let homes: Vec<_> = std::fs::read_dir(&at).expect("the folder is there").flatten().collect();
    texts.extend(homes.iter().filter_map(|home| std::fs::read_to_string(home.path().join("log")).ok()));
    assert!(texts.len() > 8, "there is a history, and there are logs");
    for text in texts {
        assert!(!text.contains(SECRET), "{text}");
    }
    succeed(windlass(&["cluster", "down", "--dir", &shown]));
    let store = EmbeddedStore::open(&at.join("primary/data/meta.redb")).expect("the store can be read");
    for (key, entry) in store.range("").await.expect("all of it can be read") {
        let has_secret = entry.value.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
        assert!(!has_secret, "{key}: the catalog keeps it sealed");
    }
}

/// Takes a cluster down that may be down already.
struct Down(String);

impl Drop for Down {
    fn drop(&mut self) {
        let _ = run(windlass(&["cluster", "down", "--dir", &self.0]));
    }
}

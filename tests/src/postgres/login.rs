//! Logins: the server lets the right users in, over the right connections, and nobody sees a password.

use super::*;
use crate::cluster::{run, succeed, windlass};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use windlass_scheduler::meta::{EmbeddedStore, MetaStore};

/// A server that wants a password, of each kind for a user of its own, and has TLS if `tls`.
fn guarded(tls: bool) -> Postgres {
    let settings: &[&str] = if tls { &["ssl=on"] } else { &[] };
    let server = Postgres::with(settings, |cluster| {
        let rules = "host all postgres 127.0.0.1/32 trust\nhost all md5er 127.0.0.1/32 md5\nhost all plain 127.0.0.1/32 password\n\
            hostssl all app 127.0.0.1/32 scram-sha-256\n";
        let rules = if tls { rules.to_string() } else { rules.replace("hostssl", "host") };
        std::fs::write(cluster.join("pg_hba.conf"), rules).expect("the rules can be written");
        if tls {
            certificates(cluster);
        }
    });
    scripted(
        &server,
        &format!(
            "SET password_encryption = 'scram-sha-256'; CREATE ROLE app LOGIN PASSWORD '{SECRET}'; CREATE ROLE plain LOGIN PASSWORD 'pässwörd '; \
             SET password_encryption = 'md5'; CREATE ROLE md5er LOGIN PASSWORD '{SECRET}'; \
             CREATE TABLE t AS SELECT 1 AS n; GRANT SELECT ON t TO PUBLIC; GRANT CREATE ON SCHEMA public TO app; \
             GRANT INSERT ON t TO app"
        ),
    );
    server
}

/// An authority, and the certificate of `localhost` that it has signed.
fn certificates(at: &Path) {
    let script = "set -e; cd \"$0\"; umask 077
        openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=ca -days 2
        openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost
        printf 'subjectAltName=DNS:localhost\\nbasicConstraints=CA:FALSE\\n' > ext
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -extfile ext -days 2 -out server.crt
        openssl req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.crt -subj /CN=other -days 2
        if [ $(id -u) = 0 ]; then chown postgres: server.key server.crt; fi
        chmod 644 ca.crt other.crt";
    let mut shell = Command::new("bash");
    shell.args(["-c", script]).arg(at);
    succeed(shell);
}

fn table(server: &Postgres, name: &str, user: &str, more: &str) -> String {
    table_at(server, "127.0.0.1", name, user, more)
}

fn table_at(server: &Postgres, host: &str, name: &str, user: &str, more: &str) -> String {
    let port = server.port();
    format!(
        "CREATE EXTERNAL TABLE {name} STORED AS POSTGRES LOCATION 'postgresql://{user}@{host}:{port}/postgres' OPTIONS (table 't'{more})"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_of_each_kind_let_in() {
    let server = &guarded(false);
    let session = embedded().await;
    for (user, password) in [("app", SECRET), ("md5er", SECRET), ("plain", "pässwörd ")] {
        done(&session, &[&table(server, user, user, &format!(", password '{password}'"))]).await;
        assert_eq!(answers(&session, &format!("SELECT n FROM {user}")).await, "1");
        let wrong = table(server, "x", user, ", password 'wrong'");
        refused(&session, &wrong, &["password authentication failed", user]).await;
        refused(&session, &table(server, "x", user, ""), &["wants a password"]).await;
    }
    let port = server.port();
    for (location, words) in [
        (format!("postgresql://app:{SECRET}@127.0.0.1:{port}/postgres"), "has a password"),
        (format!("postgresql://127.0.0.1:{port}/postgres"), "as which user"),
        (format!("postgresql://postgres@127.0.0.1:{port}/nowhere"), "\"nowhere\" does not exist"),
        ("postgresql://postgres@127.0.0.1:1/postgres".to_string(), "cannot be reached"),
        ("postgresql://postgres@no.such.host.invalid/postgres".to_string(), "no.such.host.invalid"),
    ] {
        let create = format!("CREATE EXTERNAL TABLE x STORED AS POSTGRES LOCATION '{location}' OPTIONS (table 't')");
        refused(&session, &create, &[words]).await;
    }
    refused(&session, &table(server, "x", "app", ", sslmode 'require'"), &["no TLS"]).await;
    refused(&session, &table(server, "x", "app", ", sslmode 'maybe'"), &["verify-full"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_verified_as_sslmode_says() {
    let server = &guarded(true);
    let session = embedded().await;
    let file = |name: &str| server.folder().join("data/cluster").join(name).display().to_string();
    let password = format!(", password '{SECRET}'");
    let options = |mode: &str, root: &str| {
        let root = if root.is_empty() { String::new() } else { format!(", sslrootcert '{}'", file(root)) };
        format!("{password}, sslmode '{mode}'{root}")
    };
    let mut number = 0;
    for (host, mode, root, expected) in [
        ("127.0.0.1", "prefer", "", Ok(())),
        ("127.0.0.1", "require", "", Ok(())),
        ("127.0.0.1", "require", "other.crt", Err("certificate")),
        ("127.0.0.1", "verify-ca", "ca.crt", Ok(())),
        ("127.0.0.1", "verify-ca", "other.crt", Err("certificate")),
        ("127.0.0.1", "verify-ca", "server.crt", Ok(())),
        ("127.0.0.1", "verify-ca", "none.crt", Err("cannot be read")),
        ("localhost", "verify-full", "ca.crt", Ok(())),
        ("localhost", "verify-full", "server.crt", Ok(())),
        ("127.0.0.1", "verify-full", "ca.crt", Err("certificate")),
        ("127.0.0.1", "disable", "", Err("no encryption")),
    ] {
        number += 1;
        let create = table_at(server, host, &format!("t{number}"), "app", &options(mode, root));
        match expected {
            Ok(()) => {
                done(&session, &[&create]).await;
                assert_eq!(answers(&session, &format!("SELECT n FROM t{number}")).await, "1", "{mode} {root}");
            }
            Err(words) => drop(refused(&session, &create, &[words]).await),
        }
    }
    // The password counts for this server alone, where that is asked for.
    let bound = |name: &str, user: &str, mode: &str| {
        table(server, name, user, &format!("{}, channel_binding 'require'", options(mode, "")))
    };
    done(&session, &[&bound("bound", "app", "require")]).await;
    assert_eq!(answers(&session, "SELECT n FROM bound").await, "1");
    refused(&session, &bound("x", "md5er", "require"), &["channel binding"]).await;
    refused(&session, &bound("x", "md5er", "disable"), &["channel binding"]).await;
    // A query that is dropped is cancelled over TLS too.
    scripted(
        server,
        "CREATE VIEW silent AS SELECT 1 AS n FROM (SELECT pg_sleep(600)) s; GRANT SELECT ON silent TO app",
    );
    let silent = table(server, "silent", "app", &options("require", "")).replace("'t'", "'silent'");
    done(&session, &[&silent]).await;
    let running =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%silent%' AND application_name = 'windlass'";
    tokio::select! {
        answer = sql(&session, "SELECT * FROM silent") => panic!("it ended: {answer:?}"),
        () = until(server, running, "1") => {}
    }
    until(server, running, "0").await;
}

#[test]
fn service_and_password_files_serve() {
    let server = guarded(false);
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (services, passwords) = (folder.path().join("services"), folder.path().join("passwords"));
    let port = server.port();
    std::fs::write(&services, format!("[shop]\nhost=127.0.0.1\nport={port}\nuser=app\ndbname=postgres\n"))
        .expect("it can be written");
    std::fs::write(&passwords, format!("*:*:*:app:{SECRET}\n")).expect("it can be written");
    std::fs::set_permissions(&passwords, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
    let answer = |location: &str, more: &str, environment: &[(&str, &Path)]| {
        let create =
            format!("CREATE EXTERNAL TABLE t STORED AS POSTGRES LOCATION '{location}' OPTIONS (table 't'{more})");
        let mut command = windlass(&["sql", "--format", "csv", "-e", &create, "-e", "SELECT n + 41 FROM t"]);
        command.envs(environment.iter().map(|(name, value)| (name, value.as_os_str())));
        run(command)
    };
    let files = [("PGSERVICEFILE", services.as_path()), ("PGPASSFILE", passwords.as_path())];
    let by_option = answer("postgresql:///", ", service 'shop'", &files).expect("it answers");
    assert!(by_option.contains("42"), "{by_option}");
    let by_location = answer("postgresql:///?service=shop", "", &files).expect("it answers");
    assert!(by_location.contains("42"), "{by_location}");
    let by_environment =
        answer("postgresql:///", "", &[files[0], files[1], ("PGSERVICE", Path::new("shop"))]).expect("it answers");
    assert!(by_environment.contains("42"), "{by_environment}");
    let error = answer("postgresql:///", ", service 'none'", &files).expect_err("there is none");
    assert!(error.contains("has no [none]"), "{error}");
    let error = answer("postgresql:///?service=shop", "", &files[..1]).expect_err("there is no password");
    assert!(error.contains("wants a password"), "{error}");
}

/// Takes a cluster down that may be down already.
struct Down(String);

impl Drop for Down {
    fn drop(&mut self) {
        let _ = run(windlass(&["cluster", "down", "--dir", &self.0]));
    }
}

/// A marked password is where it has to be, and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_the_password() {
    let server = &guarded(false);
    let dir = tempfile::tempdir().expect("a folder can be made");
    let at = dir.path().to_owned();
    let shown = at.display().to_string();
    let up = ["cluster", "up", "--executors", "2", "--slots", "2", "--memory", "1GiB", "--dir", &shown, "--json"];
    let _down = Down(shown.clone());
    let mut up = windlass(&up);
    up.env("WINDLASS_LOG", "debug");
    let described: serde_json::Value = serde_json::from_str(&succeed(up)).expect("the cluster is described");
    let session = Client::connect(described["url"].as_str().expect("it has an address")).await.expect("it answers");
    let create = table(server, "t", "app", &format!(", password '{SECRET}'"));
    done(&session, &[STAGES, &create, "INSERT INTO t SELECT n + 1 FROM t"]).await;
    let mut texts = vec![sql(&session, "EXPLAIN ANALYZE SELECT n FROM t WHERE n > 0").await.expect("it runs")];
    texts.push(sql(&session, "EXPLAIN INSERT INTO t SELECT n FROM t").await.expect("it is explained"));
    texts.push(sql(&session, "SHOW CREATE TABLE t").await.expect("it is shown"));
    // What fails on executors, in the login too.
    scripted(server, &format!("ALTER ROLE app PASSWORD '{SECRET}2'"));
    texts.push(sql(&session, "SELECT n FROM t").await.expect_err("the password was changed"));
    scripted(server, &format!("ALTER ROLE app PASSWORD '{SECRET}'; ALTER TABLE t RENAME n TO m"));
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

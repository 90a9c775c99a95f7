//! As whom a table is asked, and that nobody sees with which secret.

use super::*;
use crate::cluster::{run, succeed, windlass};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use windlass_scheduler::meta::{EmbeddedStore, MetaStore};

fn people(server: &Server) {
    server.create(keyed("people", "id:S"));
    server.put("people", [json!({"id": {"S": "a"}, "n": {"N": "41"}})]);
}

/// One line each, which says what is wrong and how to mend it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_in_one_line() {
    let server = Server::dynalite();
    people(&server);
    let session = embedded().await;
    refused(
        &session,
        &create_of(&server, "x", "nothing", "", ""),
        &["table nothing", "does not exist", "check the region"],
    )
    .await;
    for (code, words) in [
        ("UnrecognizedClientException", &["does not accept the credentials", "access_key_id"][..]),
        ("InvalidSignatureException", &["does not accept the credentials"]),
        ("ExpiredTokenException", &["have expired", "role_arn"]),
        ("AccessDeniedException", &["is not allowed", "permission"]),
    ] {
        server.command(&json!({"fault": {"code": code, "count": 1}}));
        refused(&session, &create(&server, "people", "", ""), words).await;
    }
    let at = |location: &str, options: &str| {
        format!(
            "CREATE EXTERNAL TABLE x STORED AS DYNAMODB LOCATION '{location}' OPTIONS ({options}, retry_seconds '0')"
        )
    };
    let keys = format!("access_key_id 'key', secret_access_key '{SECRET}'");
    for (location, options, words) in [
        ("dynamodb://eu-central-1/people", format!("{keys}, endpoint 'http://127.0.0.1:1'"), "cannot be reached"),
        ("dynamodb://eu-central-1/people", format!("{keys}, endpoint '127.0.0.1'"), "no URL"),
        (
            "dynamodb://eu-central-1/people",
            format!("{keys}, endpoint 'http://a:{SECRET}@127.0.0.1:1'"),
            "has a password",
        ),
        ("dynamodb://eu-central-1/people", format!("{keys}, profile 'p'"), "leave out one of them"),
        ("dynamodb://eu-central-1/people", format!("secret_access_key '{SECRET}'"), "goes with an access_key_id"),
        ("dynamodb://eu-central-1/people", "access_key_id 'key'".to_string(), "goes with a secret_access_key"),
        ("dynamodb://eu-central-1/people", "external_id 'x'".to_string(), "goes with a role_arn"),
        ("dynamodb://eu-central-1/people", "profile 'no-such-profile'".to_string(), "the profile no-such-profile"),
        ("dynamodb://key:marked-secret-4711@eu-central-1/people", keys.clone(), "locations are shown"),
        ("dynamodb://eu-central-1", keys.clone(), "no table"),
    ] {
        refused(&session, &at(location, &options), &[words]).await;
    }
    for (status, words) in [("404 Not Found", "is it the right endpoint?"), ("502 Bad Gateway", "has a fault")] {
        let options = format!("{keys}, endpoint '{}'", another_server(status));
        let status = &status[..3];
        refused(&session, &at("dynamodb://eu-central-1/people", &options), &[words, status]).await;
    }
}

/// A server that is none of DynamoDB: it answers all requests of one connection with a page. Returns its URL.
fn another_server(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("it has an address"));
    std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("somebody connects");
        while connection.read(&mut [0; 65_536]).is_ok_and(|bytes| bytes > 0) {
            let page = format!("HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: 7\r\n\r\n<html/>");
            connection.write_all(page.as_bytes()).expect("it reads");
        }
    });
    url
}

/// The environment and AWS's files, of each process.
#[test]
fn the_environment_and_profiles_serve() {
    let server = Server::dynalite();
    people(&server);
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (config, credentials) = (folder.path().join("config"), folder.path().join("credentials"));
    std::fs::write(&config, "[profile shop]\nregion = eu-central-1\n").expect("it can be written");
    std::fs::write(&credentials, format!("[shop]\naws_access_key_id = key\naws_secret_access_key = {SECRET}\n"))
        .expect("it can be written");
    let answer = |region: &str, more: &str, environment: &[(&str, &Path)]| {
        let create = format!(
            "CREATE EXTERNAL TABLE t STORED AS DYNAMODB LOCATION 'dynamodb://{region}/people' OPTIONS (endpoint '{}'{more})",
            server.url()
        );
        let mut command = windlass(&["sql", "--format", "csv", "-e", &create, "-e", "SELECT n + 1 FROM t"]);
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION"] {
            command.env_remove(name);
        }
        command.env("AWS_EC2_METADATA_DISABLED", "true").env("HOME", folder.path());
        command.envs(environment.iter().map(|(name, value)| (name, value.as_os_str())));
        run(command)
    };
    let keys = [("AWS_ACCESS_KEY_ID", Path::new("key")), ("AWS_SECRET_ACCESS_KEY", Path::new(SECRET))];
    let files = [("AWS_CONFIG_FILE", config.as_path()), ("AWS_SHARED_CREDENTIALS_FILE", credentials.as_path())];
    for (region, more, environment) in [
        ("eu-central-1", "", &keys[..]),
        ("", ", profile 'shop'", &files),
        ("", "", &[files[0], files[1], ("AWS_PROFILE", Path::new("shop"))]),
        ("", "", &[keys[0], keys[1], ("AWS_REGION", Path::new("eu-central-1"))]),
    ] {
        let answer =
            answer(region, more, environment).unwrap_or_else(|error| panic!("{more} {environment:?}: {error}"));
        assert!(answer.contains("42"), "{answer}");
    }
    let error = answer("eu-central-1", "", &[]).expect_err("there are no credentials");
    assert!(error.contains("no credentials for AWS") && error.contains("set access_key_id"), "{error}");
    let error = answer("", "", &keys).expect_err("there is no region");
    assert!(error.contains("in which region") && error.contains("AWS_REGION"), "{error}");
}

/// A role is assumed with the credentials at hand, on every node.
#[tokio::test(flavor = "multi_thread")]
async fn roles_are_assumed() {
    let server = Server::moto();
    people(&server);
    let environment = [("AWS_ENDPOINT_URL_STS", server.url()), ("AWS_EC2_METADATA_DISABLED", "true")];
    let folder = tempfile::tempdir().expect("a folder can be made");
    let cluster = crate::cluster::Processes::shaped(folder, ["2", "2", "1GiB"], &environment);
    let session = cluster.session().await;
    let role = ", role_arn 'arn:aws:iam::123456789012:role/reader', external_id 'shop'";
    done(&session, &[STAGES, &create(&server, "people", "", role)]).await;
    assert_eq!(answers(&session, "SELECT n + 1 FROM people").await, "42");
}

/// Takes a cluster down that may be down already.
struct Down(String);

impl Drop for Down {
    fn drop(&mut self) {
        let _ = run(windlass(&["cluster", "down", "--dir", &self.0]));
    }
}

/// Marked secrets are where they have to be, and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_the_secrets() {
    let server = Server::dynalite();
    people(&server);
    let dir = tempfile::tempdir().expect("a folder can be made");
    let at = dir.path().to_owned();
    let shown = at.display().to_string();
    let _down = Down(shown.clone());
    let mut up =
        windlass(&["cluster", "up", "--executors", "2", "--slots", "2", "--memory", "1GiB", "--dir", &shown, "--json"]);
    // As loud as it can be: the libraries speak too.
    up.env("WINDLASS_LOG", "trace");
    let described: Value = serde_json::from_str(&succeed(up)).expect("the cluster is described");
    let session = Client::connect(described["url"].as_str().expect("it has an address")).await.expect("it answers");
    let keys = format!(
        "CREATE SECRET shop OPTIONS (access_key_id 'key', secret_access_key '{SECRET}', session_token '{TOKEN}')"
    );
    let lent = format!(
        "CREATE EXTERNAL TABLE lent STORED AS DYNAMODB LOCATION 'dynamodb://eu-central-1/people' OPTIONS (endpoint '{}', secret 'shop')",
        server.url()
    );
    let own = create(&server, "people", "", &format!(", session_token '{TOKEN}', transactions 'false'"));
    done(&session, &[STAGES, &keys, &lent, &own, "INSERT INTO people SELECT id || 'x', n FROM lent"]).await;
    let mut texts = vec![sql(&session, "EXPLAIN ANALYZE SELECT n FROM people WHERE n > 0").await.expect("it runs")];
    texts.push(sql(&session, "EXPLAIN INSERT INTO people SELECT id, n FROM lent").await.expect("it is explained"));
    texts.push(sql(&session, "SHOW CREATE TABLE people").await.expect("it is shown"));
    // What fails on executors, too.
    for code in ["UnrecognizedClientException", "AccessDeniedException"] {
        server.command(&json!({"fault": {"code": code, "count": 100, "targets": ["Scan"]}}));
        texts.push(sql(&session, "SELECT * FROM people").await.expect_err("it is refused"));
        server.command(&json!({"faults": false}));
    }
    for job in session.jobs(100).await.expect("jobs are listed") {
        let detail = session.job(job.job).await.expect("it is known");
        let logs = session.job_logs(job.job).await.unwrap_or_default();
        texts.push(format!("{job:?} {detail:?} {logs:?}"));
    }
    let homes: Vec<_> = std::fs::read_dir(&at).expect("the folder is there").flatten().collect();
    texts.extend(homes.iter().filter_map(|home| std::fs::read_to_string(home.path().join("log")).ok()));
    assert!(
        texts.len() > 8 && texts.iter().any(|text| text.contains("aws_smithy_runtime")),
        "there are logs, also of the library"
    );
    for text in &texts {
        let shown = [SECRET, TOKEN].iter().find_map(|secret| text.lines().find(|line| line.contains(secret)));
        assert!(shown.is_none(), "{shown:?}");
    }
    succeed(windlass(&["cluster", "down", "--dir", &shown]));
    let store = EmbeddedStore::open(&at.join("primary/data/meta.redb")).expect("the store can be read");
    for (key, entry) in store.range("").await.expect("all of it can be read") {
        let has = |secret: &str| entry.value.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!has(SECRET) && !has(TOKEN), "{key}: the catalog keeps them sealed");
    }
}

//! What tables, secrets and COPY say about a bucket, and whether it arrives there.

use super::*;
use serde_json::Value;

/// A key of the customer's own, marked to be found.
const CUSTOMER_KEY: &str = "bWFya2VkLWtleS1tYXJrZWQta2V5LW1hcmtlZC1rZXk=";

impl Server {
    fn requests(&mut self) -> Vec<Value> {
        let all: Value = serde_json::from_str(&self.ask("requests")).expect("it is JSON");
        all.as_array().expect("it is a list").clone()
    }

    fn options(&self, more: &str) -> String {
        format!(
            "options ('aws.endpoint' '{}', 'aws.allow_http' 'true', 'aws.region' 'us-east-1', 'aws.access_key_id' 'key', \
             'aws.secret_access_key' '{SECRET}'{more})",
            self.url
        )
    }
}

fn table(name: &str, folder: &str, options: &str) -> String {
    format!("create external table {name} (id bigint) stored as parquet location 's3://lake/{folder}/' {options}")
}

fn begins_upload(request: &Value) -> bool {
    request["method"] == "POST" && request["query"].as_str().is_some_and(|query| query.starts_with("uploads"))
}

/// Checks that there are requests of this kind, and that each has the header.
fn all_have(requests: &[Value], method: &str, of: &str, header: &str, value: &str) {
    let is_meant = |request: &&Value| {
        let text = |name: &str| request[name].as_str().unwrap_or_default();
        text("method") == method && format!("{}?{}", text("path"), text("query")).contains(of)
    };
    let meant: Vec<&Value> = requests.iter().filter(is_meant).collect();
    assert!(!meant.is_empty(), "no {method} {of}");
    for request in meant {
        assert_eq!(request["headers"][header], value, "{request}");
    }
}

fn nobody_shows(cluster: &Processes, secrets: &[&str], tables: &[&str]) {
    let mut shown = vec![cluster.sql(&["show all"]).unwrap()];
    for table in tables {
        for show in ["explain verbose select * from", "explain analyze select * from", "show create table"] {
            shown.push(cluster.sql(&[&format!("{show} {table}")]).unwrap());
        }
    }
    for log in ["primary/log", "executor-1/log", "executor-2/log"] {
        shown.push(std::fs::read_to_string(cluster.dir.path().join(log)).expect("there is a log"));
    }
    shown.push(run(windlass(&["jobs", "list", "--url", &cluster.url, "--json"])).unwrap());
    for text in shown {
        let line = secrets.iter().find_map(|secret| text.lines().find(|line| line.contains(secret)));
        assert!(!text.is_empty() && line.is_none(), "{line:?}");
    }
}

const INSERT: &str = "select value from generate_series(1, 1000)";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_encrypted_is_said_with_every_request() {
    let mut server = Server::start();
    let cluster = Processes::with("512MiB", &[]);
    let sql = |statements: &[&str]| cluster.sql(statements);
    let kms =
        server.options(", 'aws.sse' 'aws:kms', 'aws.sse_kms_key_id' 'alias/shop', 'aws.request_payer' 'requester'");
    sql(&[STAGES, &table("kms", "kms", &kms), &format!("insert into kms {INSERT}")]).unwrap();
    assert_eq!(sql(&[STAGES, "select count(*) as n from kms"]).unwrap(), "n\n1000\n");
    let asked = server.requests();
    all_have(&asked, "POST", "/lake/kms/", "x-amz-request-payer", "requester");
    let begun: Vec<Value> = asked.iter().filter(|request| begins_upload(request)).cloned().collect();
    all_have(&begun, "POST", "/lake/kms/", "x-amz-server-side-encryption", "aws:kms");
    all_have(&begun, "POST", "/lake/kms/", "x-amz-server-side-encryption-aws-kms-key-id", "alias/shop");
    all_have(&asked, "GET", "list-type=2", "x-amz-request-payer", "requester");

    // A key of the customer's own, with a storage class: the other way to begin an upload.
    for (name, class) in [("own", ""), ("cheap", ", 'aws.storage_class' 'standard_ia'")] {
        let own = server.options(&format!(", 'aws.sse_customer_key' '{CUSTOMER_KEY}'{class}"));
        sql(&[STAGES, &table(name, name, &own), &format!("insert into {name} {INSERT}")]).unwrap();
        assert_eq!(sql(&[STAGES, &format!("select sum(id) as s from {name}")]).unwrap(), "s\n500500\n");
        let asked = server.requests();
        let is_file = |request: &&Value| request["path"].as_str().is_some_and(|path| path.ends_with(".parquet"));
        let (begun, others): (Vec<Value>, Vec<Value>) = asked.iter().filter(is_file).cloned().partition(begins_upload);
        for (requests, method) in [(&begun, "POST"), (&others, "PUT"), (&others, "GET")] {
            all_have(requests, method, "/lake/", "x-amz-server-side-encryption-customer-key", CUSTOMER_KEY);
            all_have(requests, method, "/lake/", "x-amz-server-side-encryption-customer-algorithm", "AES256");
        }
    }
    assert_eq!((server.ask("classes own"), server.ask("classes cheap")), ("STANDARD".into(), "STANDARD_IA".into()));
    nobody_shows(&cluster, &[SECRET, CUSTOMER_KEY], &["kms", "own", "cheap"]);
    for (more, words) in [
        (", 'aws.sse' 'rot13'", &["'aws.sse'", "'rot13'", "aws:kms:dsse"][..]),
        (", 'aws.sse_customer_key' 'bWFya2Vk'", &["'aws.sse_customer_key'", "32 bytes"]),
        (", 'aws.request_payer' 'me'", &["'aws.request_payer'", "'requester'"]),
        (", 'aws.rolearn' 'x'", &["'aws.rolearn'", "aws.role_arn"]),
    ] {
        refused(sql(&[&table("no", "no", &server.options(more))]), words);
        let copy = format!("copy (select 1 as a) to 's3://lake/no/' stored as parquet {}", server.options(more));
        refused(sql(&[&copy]), words);
    }
    refused(sql(&["create external table no stored as parquet location 's3://key:hidden@lake/no/'"]), &["no password"]);
    cluster.at_rest().await;
}

/// Two tables over one folder, each with settings of its own.
#[tokio::test(flavor = "multi_thread")]
async fn tables_of_one_bucket_have_settings_of_their_own() {
    let mut server = Server::start();
    let cluster = server.cluster();
    let sql = |statements: &[&str]| cluster.sql(statements);
    let rows = format!("copy ({INSERT}) to 's3://public/open/' stored as parquet");
    sql(&[STAGES, &rows]).unwrap();
    let open = |name: &str, options: &str| {
        format!(
            "create external table {name} (value bigint) stored as parquet location 's3://public/open/a.parquet' {options}"
        )
    };
    sql(&[&rows.replace("open/'", "open/a.parquet'")]).unwrap();
    sql(&[
        &open("signed", &server.options("")),
        &open("open", "options ('aws.skip_signature' 'true')"),
        &open("usual", ""),
    ])
    .unwrap();
    for (name, is_signed) in [("signed", true), ("open", false), ("usual", true), ("open", false)] {
        server.requests();
        assert_eq!(sql(&[STAGES, &format!("select sum(value) as s from {name}")]).unwrap(), "s\n500500\n");
        let asked = server.requests();
        assert!(!asked.is_empty() && asked.iter().all(|request| request["signed"] == is_signed), "{name}: {asked:?}");
    }
    // Nor does COPY change what others reach.
    let unsigned =
        "copy (select 1 as value) to 's3://lake/private/' stored as parquet options ('aws.skip_signature' 'true')";
    refused(sql(&[unsigned]), &["403"]);
    assert_eq!(sql(&["copy (select 1 as value) to 's3://lake/private/' stored as parquet"]).unwrap(), "count\n1\n");
    sql(&["drop table open", &open("open", &server.options(""))]).unwrap();
    assert_eq!(sql(&["select sum(value) as s from open"]).unwrap(), "s\n500500\n");
    let explained = sql(&["explain verbose select * from signed"]).unwrap();
    assert!(!explained.contains('@'), "names of settings are not shown: {explained}");
    cluster.at_rest().await;
}

/// A role is assumed by every node, with what its owner wants to hear; what is for the role alone is read and written.
#[tokio::test(flavor = "multi_thread")]
async fn roles_are_assumed() {
    let mut server = Server::start();
    let cluster = Processes::with("512MiB", &[]);
    let sql = |statements: &[&str]| cluster.sql(statements);
    assert_eq!(server.ask("guard guarded/"), "ok");
    let plain = table("plain", "guarded", &server.options(""));
    refused(sql(&[&plain, &format!("insert into plain {INSERT}")]), &["This is for a role"]);
    let role = format!(
        ", 'aws.role_arn' 'arn:aws:iam::123456789012:role/writer', 'aws.external_id' 'shop', 'aws.role_session_name' 'night', \
         'aws.endpoint_url_sts' '{}'",
        server.url
    );
    server.requests();
    let named = table("named", "guarded", &server.options(&role));
    sql(&[STAGES, &named, &format!("insert into named {INSERT}")]).unwrap();
    assert_eq!(sql(&[STAGES, "select sum(id) as s from named"]).unwrap(), "s\n500500\n");
    // Names of a secret's options stand without quotes.
    let lent = server.options(&role).replace("'aws.", "aws.").replace("' '", " '");
    let lent = format!("create secret lender {lent}");
    sql(&[&lent, &table("lent", "guarded", "options (secret 'lender')")]).unwrap();
    assert_eq!(sql(&[STAGES, "select sum(id) as s from lent"]).unwrap(), "s\n500500\n");
    let copy = format!(
        "copy ({INSERT}) to 's3://lake/guarded/copied/' stored as parquet options (secret 'lender', storage_class 'GLACIER_IR')"
    );
    assert_eq!(sql(&[STAGES, &copy]).unwrap(), "count\n1000\n");
    assert_eq!(server.ask("classes guarded/copied/"), "GLACIER_IR");
    let asked = server.requests();
    let lenders = asked.iter().filter(|request| request["path"] == "/").count();
    assert!((1..=3).contains(&lenders), "each process asks once for the role, not {lenders} in all");
    refused(sql(&[&plain.replace("plain", "again"), "select sum(id) from again"]), &["This is for a role"]);
    let wrong = server.options(&role.replace(&server.url, "http://127.0.0.1:9"));
    refused(
        sql(&[&table("wrong", "guarded", &wrong), "select count(*) from wrong"]),
        &["the role arn:aws:iam::123456789012:role/writer cannot be assumed"],
    );
    nobody_shows(&cluster, &[SECRET], &["named", "lent"]);
    cluster.at_rest().await;
}

/// The options of a COPY outlive the primary that began it, sealed.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_with_options_whose_primary_died_leaves_nothing() {
    let mut server = Server::start();
    let mut cluster = Processes::with("512MiB", &[]);
    let copy = format!("{SLOW} {}", server.options(""));
    let session = cluster.session().await;
    let copy = tokio::spawn(async move { session.sql(&copy).await?.collect().await });
    server.until_uploads().await;
    crate::cluster::killed(cluster.primary().into());
    copy.abort();
    let dir = cluster.dir.path().display().to_string();
    let up =
        windlass(&["cluster", "up", "--executors", "2", "--slots", "2", "--memory", "512MiB", "--dir", &dir, "--json"]);
    let up: Value = serde_json::from_str(&succeed(up)).expect("the cluster is described");
    cluster.url = up["url"].as_str().expect("the cluster has an address").to_owned();
    assert_eq!(cluster.sql(&["select 1 as a"]).unwrap(), "a\n1\n");
    cluster.at_rest().await;
    let left = ["uploads", "objects slow/", "objects .slow"].map(|what| server.ask(what));
    assert_eq!(left, ["0", "0", "0"]);
}

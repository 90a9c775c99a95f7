//! An object store that speaks S3: a separate server, reached through the environment of the processes or the options of a table.

use crate::cluster::{Processes, python};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

pub(crate) struct Server {
    process: Child,
    url: String,
}

impl Server {
    pub(crate) fn start() -> Self {
        let mut command = python("s3_server.py", &[]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("the server starts");
        let mut url = String::new();
        let output = process.stdout.take().expect("its output is read");
        BufReader::new(output).read_line(&mut url).expect("it says where it serves");
        assert!(url.starts_with("http://"), "the server did not start");
        Self { process, url: url.trim().to_owned() }
    }
}

impl Server {
    /// A cluster whose environment names this server.
    pub(crate) fn cluster(&self) -> Processes {
        let environment = [
            ("AWS_ENDPOINT_URL", self.url.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_REGION", "us-east-1"),
        ];
        Processes::with("512MiB", &environment)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const SECRET: &str = "not-for-any-log";
const STAGES: &str = "set windlass.small_query_bytes = 0";
const COUNT: &str = "select part, count(*) as n, sum(id) as ids from lake group by part order by part";
const COUNTED: &str = "part,n,ids\n0,333,166833\n1,334,167167\n2,333,166500\n";

fn refused(result: Result<String, String>, words: &[&str]) {
    let error = result.expect_err("it worked");
    for word in words {
        assert!(error.contains(word), "{word:?} is missing in: {error}");
    }
    assert!(!error.contains("<Error>"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_says_how_to_reach_a_bucket() {
    let server = Server::start();
    let cluster = server.cluster();
    let sql = |statements: &[&str]| cluster.sql(statements);
    let copy = "copy (select value as id, value % 3 as part from generate_series(1, 1000)) to 's3://lake/out/' \
                stored as parquet partitioned by (part)";
    assert_eq!(sql(&[STAGES, copy]).unwrap(), "count\n1000\n");
    let lake = "create external table lake stored as parquet partitioned by (part) location 's3://lake/out/'";
    assert_eq!(sql(&[lake, STAGES, COUNT]).unwrap(), COUNTED);
    let count = "select count(*) as n from lake";
    assert_eq!(sql(&["insert into lake select 7, '9'", count]).unwrap(), "count\n1\nn\n1001\n");

    refused(sql(&["copy (select 1 as a) to 's3://nosuch/out/' stored as parquet"]), &["NoSuchBucket", "nosuch"]);
    refused(sql(&["create external table no stored as parquet location 's3://nosuch/a/'"]), &["NoSuchBucket"]);
    let missing = "create external table no stored as parquet location 's3://lake/no.parquet'";
    refused(sql(&[missing]), &["s3://lake/no.parquet"]);
    assert_eq!(sql(&[STAGES, count]).unwrap(), "n\n1001\n");
    cluster.at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_options_of_a_table_reach_executors_and_nobody_else() {
    let server = Server::start();
    let cluster = Processes::with("512MiB", &[]);
    let sql = |statements: &[&str]| cluster.sql(statements);
    let lake = format!(
        "create external table lake (id bigint, part varchar) stored as parquet partitioned by (part) location 's3://lake/out/' \
         options ('aws.endpoint' '{}', 'aws.allow_http' 'true', 'aws.region' 'us-east-1', 'aws.access_key_id' 'key', \
         'aws.secret_access_key' '{SECRET}')",
        server.url
    );
    let insert = "insert into lake select value, cast(value % 3 as varchar) from generate_series(1, 1000)";
    assert_eq!(sql(&[&lake, STAGES, insert, COUNT]).unwrap(), format!("count\n1000\n{COUNTED}"));
    assert_eq!(sql(&[COUNT]).unwrap(), COUNTED, "also without stages");

    for show in [
        "explain verbose select * from lake",
        "explain analyze select * from lake",
        "show create table lake",
        "show all",
    ] {
        let shown = sql(&[show]).unwrap();
        assert!(!shown.is_empty() && !shown.contains(SECRET), "{shown}");
    }
    for log in ["primary/log", "executor-1/log", "executor-2/log"] {
        let text = std::fs::read_to_string(cluster.dir.path().join(log)).expect("there is a log");
        assert!(!text.is_empty() && !text.contains(SECRET), "{log}");
    }
    cluster.at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_a_web_server_offers_are_tables() {
    let server = Server::start();
    let cluster = server.cluster();
    let sql = |statements: &[&str]| cluster.sql(statements);
    // Written over S3 and read by plain, unsigned requests.
    let rows = "select value as id, value % 3 as part from generate_series(1, 100000)";
    for (name, format) in [("rows.parquet", "parquet"), ("rows.csv", "csv options ('format.has_header' 'true')")] {
        sql(&[&format!("copy ({rows}) to 's3://public/{name}' stored as {format}")]).unwrap();
    }
    let web = format!("{}/public", server.url);
    let parquet = format!("create external table web stored as parquet location '{web}/rows.parquet'");
    let csv = format!(
        "create external table text stored as csv location '{web}/rows.csv' options ('format.has_header' 'true')"
    );
    let sums = "select (select sum(id) from web) as a, (select sum(id) from text) as b";
    assert_eq!(sql(&[&parquet, &csv, STAGES, sums]).unwrap(), "a,b\n5000050000,5000050000\n");
    let last = "select id from web where id > 99998 order by id";
    assert_eq!(sql(&[STAGES, last]).unwrap(), "id\n99999\n100000\n");

    let create = |location: &str| sql(&[&format!("create external table no stored as parquet location '{location}'")]);
    refused(create(&format!("{web}/no.parquet")), &["no.parquet", "there is no file", "each file has to be named"]);
    refused(create(&format!("{web}/")), &["/public", "each file has to be named"]);
    refused(create(&format!("{}/lake/private.parquet", server.url)), &["private.parquet", "403"]);
    refused(create("http://127.0.0.1:9/rows.parquet"), &["http://127.0.0.1:9/rows.parquet", "refused"]);
    cluster.at_rest().await;
}

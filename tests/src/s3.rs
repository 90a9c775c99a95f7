//! An object store that speaks S3: a separate server, reached through the environment of the processes or the options of a table.

mod load;
mod settings;

use crate::cluster::{Processes, python, run, succeed, windlass};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Stdio};

pub(crate) struct Server {
    process: Child,
    output: BufReader<ChildStdout>,
    url: String,
}

impl Server {
    pub(crate) fn start() -> Self {
        let mut command = python("s3_server.py", &[]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("the server starts");
        let mut url = String::new();
        let mut output = BufReader::new(process.stdout.take().expect("its output is read"));
        output.read_line(&mut url).expect("it says where it serves");
        assert!(url.starts_with("http://"), "the server did not start");
        Self { process, output, url: url.trim().to_owned() }
    }
}

impl Server {
    /// A cluster whose environment names this server.
    pub(crate) fn cluster(&self) -> Processes {
        Processes::with("512MiB", &self.environment())
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    fn environment(&self) -> [(&str, &str); 5] {
        [
            ("AWS_ENDPOINT_URL", self.url.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_REGION", "us-east-1"),
        ]
    }

    /// Asks for something that S3's protocol has not: see the server's script.
    pub(crate) fn ask(&mut self, request: &str) -> String {
        writeln!(self.process.stdin.as_ref().expect("it reads"), "{request}").expect("it reads");
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("it answers");
        answer.trim().to_owned()
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

fn refused(result: Result<String, String>, words: &[&str]) -> String {
    let error = result.expect_err("it worked");
    for word in words {
        assert!(error.contains(word), "{word:?} is missing in: {error}");
    }
    assert!(!error.contains("<Error>"), "{error}");
    error
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

/// Files of which some lie in an archive.
#[tokio::test(flavor = "multi_thread")]
async fn archived_files_are_explained_left_out_or_asked_for() {
    let mut server = Server::start();
    let cluster = server.cluster();
    let sql = |statements: &[&str]| cluster.sql(statements);
    let copy = "copy (select value as id, value % 3 as part from generate_series(1, 1000)) to 's3://lake/out/' \
                stored as parquet partitioned by (part)";
    let table = |name: &str, option: &str| {
        format!(
            "create external table {name} stored as parquet partitioned by (part) location 's3://lake/out/'{option}"
        )
    };
    sql(&[STAGES, copy, &table("lake", ""), &table("ready", " options (archived 'error')")]).unwrap();
    sql(&["copy (select value as id from generate_series(1, 10)) to 's3://lake/flat/a.csv'"]).unwrap();
    let flat = "create external table flat (id bigint) stored as csv location 's3://lake/flat/' \
                options ('format.has_header' 'true', archived 'restore')";
    assert_eq!(sql(&[flat, "select count(*) as n from flat"]).unwrap(), "n\n10\n");
    assert_eq!(sql(&[STAGES, &COUNT.replace("lake", "ready")]).unwrap(), COUNTED);

    let archived: usize = server.ask("archive out/part=1/ GLACIER").parse().unwrap();
    assert!(archived > 0);
    let why = ["archived as GLACIER", "out/part=1/", "3 to 5 hours (standard)", "windlass s3 restore s3://lake/out/"];
    for name in ["lake", "ready"] {
        let error = refused(sql(&[STAGES, &COUNT.replace("lake", name)]), &why);
        assert!(!error.contains("privileges"), "{error}");
    }
    refused(sql(&[&table("no", "")]), &why);
    // What a statement does not read need not be restored.
    for name in ["lake", "ready"] {
        let others = format!("select count(*) as n from {name} where part <> '1'");
        assert_eq!(sql(&[STAGES, &others]).unwrap(), "n\n666\n", "{name}");
    }
    let skipping = table("some", " options (archived 'skip')");
    let count = "select count(*) as n from some";
    assert_eq!(sql(&[&skipping, STAGES, count]).unwrap(), "n\n666\n");
    let explained = sql(&[&format!("explain {count}")]).unwrap();
    assert!(explained.contains(&format!("s3://lake/out/: {archived} archived objects of ")), "{explained}");
    refused(sql(&[&table("no", " options (archived 'maybe')")]), &["'maybe'", "error, skip or restore"]);
    let here = "create external table no (id int) stored as csv location '/tmp/none/' options (archived 'skip')";
    refused(sql(&[here]), &["'archived'", "only S3"]);

    assert_eq!(server.ask("archive flat/ DEEP_ARCHIVE"), "1");
    let asks = sql(&["select count(*) as n from flat"]);
    refused(asks, &["being restored for 7 days", "1 were asked for", "up to 12 hours"]);
    assert_eq!(sql(&["select count(*) as n from flat"]).unwrap(), "n\n10\n", "this server restores at once");

    let folder = tempfile::tempdir().expect("a folder can be made");
    let manifest = folder.path().join("manifest.csv").display().to_string();
    let restore = |arguments: &[&str]| {
        let mut command = windlass(&[&["s3", "restore"], arguments].concat());
        command.envs(server.environment());
        run(command)
    };
    refused(restore(&["s3://lake/flat/", "--tier", "expedited"]), &["flat/a.csv", "DEEP_ARCHIVE", "standard or bulk"]);
    refused(restore(&["/tmp"]), &["'/tmp'", "s3://bucket/folder/"]);
    refused(restore(&["s3://nosuch/a/"]), &["NoSuchBucket"]);
    assert!(restore(&["s3://lake/none/"]).unwrap().starts_with("0 objects of 0 bytes"));
    let arguments = ["s3://lake/out/", "--tier", "bulk", "--days", "2", "--manifest", &manifest];
    let first = restore(&arguments).unwrap();
    assert!(first.contains(&format!("{archived} asked for, 0 asked for before, 0 there already")), "{first}");
    let again = restore(&[&arguments[..], &["--wait"]].concat()).unwrap();
    assert!(again.contains(&format!("0 asked for, 0 asked for before, {archived} there already")), "{again}");
    let written = std::fs::read_to_string(&manifest).expect("it was written");
    assert_eq!(written.lines().count(), archived + 1, "{written}");
    assert!(
        written
            .lines()
            .nth(1)
            .is_some_and(|line| { line.starts_with("s3://lake/out/part=1/") && line.contains(",GLACIER,restored,20") })
    );
    assert_eq!(sql(&[STAGES, COUNT]).unwrap(), COUNTED);
    assert_eq!(sql(&[STAGES, &COUNT.replace("lake", "some")]).unwrap(), COUNTED);
    cluster.at_rest().await;
}

/// A restore takes its time, and may be asked for again meanwhile.
#[test]
fn a_restore_is_waited_for() {
    let mut server = Server::start();
    let cluster = server.cluster();
    cluster.sql(&["copy (select 1 as id) to 's3://lake/cold/a.parquet' stored as parquet"]).unwrap();
    assert_eq!((server.ask("archive cold/ GLACIER"), server.ask("slow 6")), ("1".to_owned(), "ok".to_owned()));
    let restore = |arguments: &[&str]| {
        let mut command = windlass(&[&["s3", "restore", "s3://lake/cold/a.parquet"], arguments].concat());
        command.envs(server.environment());
        run(command).unwrap()
    };
    let first = restore(&["--tier", "expedited"]);
    assert!(first.contains("1 asked for") && first.contains("they can be read in 1 to 5 minutes"), "{first}");
    let again = restore(&["--wait"]);
    assert!(again.contains("0 asked for, 1 asked for before") && !again.contains("they can be read"), "{again}");
    let create = "create external table cold stored as parquet location 's3://lake/cold/'";
    assert_eq!(cluster.sql(&[create, "select id from cold"]).unwrap(), "id\n1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_written_with_the_storage_class_of_their_table() {
    let mut server = Server::start();
    let cluster = server.cluster();
    let sql = |statements: &[&str]| cluster.sql(statements);
    let table = |name: &str, options: &str| {
        format!("create external table {name} (id bigint) stored as parquet location 's3://lake/{name} é/' {options}")
    };
    let insert = |name: &str| format!("insert into {name} select value from generate_series(1, 1000)");
    sql(&[STAGES, &table("cheap", "options (storage_class 'standard_ia')"), &insert("cheap")]).unwrap();
    sql(&[STAGES, &table("usual", ""), &insert("usual")]).unwrap();
    sql(&[STAGES, &table("cold", "options (storage_class 'GLACIER', archived 'skip')"), &insert("cold")]).unwrap();
    assert_eq!(server.ask("classes cheap"), "STANDARD_IA");
    assert_eq!(server.ask("classes usual"), "STANDARD");
    assert_eq!(server.ask("classes cold"), "GLACIER");
    assert_eq!(sql(&["select count(*) as n from cheap", "select count(*) as n from cold"]).unwrap(), "n\n1000\nn\n0\n");
    refused(sql(&[&table("no", "options (storage_class 'cold')")]), &["'cold'", "STANDARD_IA", "DEEP_ARCHIVE"]);
    let here =
        "create external table no (id int) stored as csv location '/tmp/none/' options (storage_class 'GLACIER')";
    refused(sql(&[here]), &["'storage_class'", "s3://bucket/"]);
    cluster.at_rest().await;
}

/// What is known of a file is not taken for another one: of another bucket, or that took its place within one second.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_one_name_size_and_time_are_told_apart() {
    let mut server = Server::start();
    let cluster = server.cluster();
    let copy =
        |n: u32, bucket: &str| format!("copy (select {n} as n) to 's3://{bucket}/twin/a.parquet' stored as parquet");
    let table = |name: &str, bucket: &str| {
        format!("create external table {name} (n bigint) stored as parquet location 's3://{bucket}/twin/a.parquet'")
    };
    let read = |name: &str| cluster.sql(&[&format!("select min(n) as low, max(n) as high from {name}")]).unwrap();
    cluster.sql(&[&copy(1, "lake"), &copy(2, "public")]).unwrap();
    server.ask("date twin/a.parquet");
    cluster.sql(&[&table("here", "lake"), &table("there", "public")]).unwrap();
    assert_eq!(read("here"), "low,high\n1,1\n");
    assert_eq!(read("there"), "low,high\n2,2\n");
    cluster.sql(&[&copy(3, "lake")]).unwrap();
    server.ask("date twin/a.parquet");
    assert_eq!(read("here"), "low,high\n3,3\n");
    assert_eq!(cluster.sql(&["select n from here"]).unwrap(), "n\n3\n");
    cluster.at_rest().await;
}

/// A manifest names the files of one COPY, wherever they are.
#[tokio::test(flavor = "multi_thread")]
async fn copy_writes_a_manifest() {
    let mut server = Server::start();
    let cluster = server.cluster();
    let sql = |statements: &[&str]| cluster.sql(statements);
    let local = tempfile::tempdir().expect("there is room");
    for folder in
        ["s3://lake/un loaded+é/".to_owned(), "wfs:///unloaded/".to_owned(), format!("{}/", local.path().display())]
    {
        let copy = |rows: u32| {
            format!(
                "copy (select value as n, value % 3 as part from generate_series(1, {rows})) to '{folder}' stored as parquet \
                 partitioned by (part) options (manifest true)"
            )
        };
        sql(&[&copy(10), STAGES, &copy(1000)]).unwrap();
        let manifest = format!(
            "create external table manifest (entries struct<url varchar, meta struct<content_length bigint>>[], \
             meta struct<content_length bigint, record_count bigint>) stored as json location '{folder}_manifest.json'"
        );
        let said = "select meta['record_count'] as n, meta['content_length'] > 0 as sized from manifest";
        assert_eq!(sql(&[&manifest, said]).unwrap(), "n,sized\n1000,true\n", "{folder}");
        let entries = sql(&["select entries from manifest"]).unwrap();
        let urls: Vec<&str> =
            entries.split("url: ").skip(1).map(|entry| entry.split(',').next().unwrap_or_default()).collect();
        assert!(urls.len() >= 3 && urls.iter().all(|url| url.ends_with(".parquet")), "{urls:?}");
        // It has the bytes of each file, also of one whose upload was not complete when the manifest was written.
        let each = "select e['url'] as url, e['meta']['content_length'] as bytes from (select unnest(entries) as e from manifest)";
        let said = sql(&[each]).unwrap();
        let in_bucket: serde_json::Value = serde_json::from_str(&server.ask("sizes un")).expect("it is JSON");
        for (url, bytes) in said.lines().skip(1).filter_map(|line| line.rsplit_once(',')) {
            let size = match url.strip_prefix("s3://lake/") {
                Some(key) => in_bucket[key].as_u64(),
                None if url.starts_with("wfs:") => continue,
                None => std::fs::metadata(url.trim_start_matches("file://")).ok().map(|file| file.len()),
            };
            assert_eq!(Some(bytes), size.map(|size| size.to_string()).as_deref(), "{url}");
        }
        // The files are those of the second COPY, and each can be read by its name.
        let rows: u32 = urls
            .iter()
            .map(|url| {
                let table = format!("create or replace external table one stored as parquet location '{url}'");
                let counted = sql(&[&table, "select count(*) as n from one"]).unwrap();
                counted.trim_start_matches("n\n").trim().parse::<u32>().unwrap()
            })
            .sum();
        assert_eq!(rows, 1000, "{folder}");
        let all = format!("create external table all_of stored as parquet location '{folder}'");
        assert_eq!(sql(&[&all, "select count(*) as n from all_of"]).unwrap(), "n\n1010\n");
        sql(&["drop table manifest", "drop table one", "drop table all_of"]).unwrap();
    }
    let no =
        |options: &str, to: &str| sql(&[&format!("copy (select 1 as n) to '{to}' stored as csv options ({options})")]);
    refused(no("manifest true", "s3://lake/a.csv"), &["'manifest' is for folders", "s3://lake/a.csv"]);
    refused(no("manifest 'often'", "s3://lake/a/"), &["'manifest' is true or false", "'often'"]);
    cluster.at_rest().await;
}

/// COPY reaches a bucket as its options say, or those of a secret.
#[tokio::test(flavor = "multi_thread")]
async fn copy_takes_credentials() {
    let server = Server::start();
    let cluster = Processes::with("512MiB", &[]);
    let sql = |statements: &[&str]| cluster.sql(statements);
    let keys = format!(
        "'aws.endpoint' '{}', 'aws.allow_http' 'true', 'aws.region' 'us-east-1', 'aws.access_key_id' 'key', 'aws.secret_access_key' '{SECRET}'",
        server.url
    );
    let rows = "copy (select value as n from generate_series(1, 100)) to 's3://lake/";
    assert_eq!(sql(&[STAGES, &format!("{rows}given/' stored as parquet options ({keys})")]).unwrap(), "count\n100\n");
    let secret = format!(
        "create secret lake options (aws.endpoint '{}', aws.allow_http 'true', aws.region 'us-east-1', aws.access_key_id 'key', \
         aws.secret_access_key '{SECRET}')",
        server.url
    );
    assert!(sql(&[&secret]).is_ok(), "{secret}");
    let lent = format!("{rows}lent/' stored as parquet options (secret 'lake')");
    assert_eq!(sql(&[STAGES, &lent]).unwrap(), "count\n100\n");
    refused(sql(&[&lent.replace("'lake'", "'none'")]), &["secret 'none' not found"]);
    for (name, of) in [("given", keys.as_str()), ("lent", "secret 'lake'")] {
        let table =
            format!("create external table {name} stored as parquet location 's3://lake/{name}/' options ({of})");
        assert_eq!(sql(&[&table, &format!("select count(*) as n from {name}")]).unwrap(), "n\n100\n");
    }
    let jobs = run(windlass(&["jobs", "list", "--url", &cluster.url, "--json"])).unwrap_or_default();
    assert!(!jobs.contains(SECRET), "{jobs}");
    cluster.at_rest().await;
}

const SLOW: &str = "copy (select value, repeat(md5(cast(value as varchar)), 9) as text from generate_series(1, 3000000)) to \
                    's3://lake/slow/' stored as parquet";

impl Server {
    /// Waits until files are being written.
    async fn until_uploads(&mut self) {
        while self.ask("uploads") == "0" {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// A reader sees no file of a write before it is published. What a lost attempt began to upload is aborted.
#[tokio::test(flavor = "multi_thread")]
async fn files_appear_when_their_write_is_published() {
    let mut server = Server::start();
    let cluster = server.cluster();
    let session = cluster.session().await;
    let copy = tokio::spawn(async move { session.sql(SLOW).await?.collect().await });
    server.until_uploads().await;
    assert_eq!(server.ask("objects slow/"), "0");
    cluster.kill_executor(0);
    let copied = copy.await.expect("it ends").expect("the other executor does it");
    assert_eq!(copied[0].num_rows(), 1);
    assert_ne!(server.ask("objects slow/"), "0");
    assert_eq!((server.ask("uploads"), server.ask("objects .slow")), ("0".to_owned(), "0".to_owned()));
    let read = "create external table slow stored as parquet location 's3://lake/slow/'";
    assert_eq!(cluster.sql(&[read, "select count(distinct value) as n from slow"]).unwrap(), "n\n3000000\n");
}

/// The next primary leaves neither objects nor uploads of a write that its predecessor did not end.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_primary_died_leaves_neither_objects_nor_uploads() {
    let mut server = Server::start();
    let mut cluster = server.cluster();
    let session = cluster.session().await;
    let copy = tokio::spawn(async move { session.sql(SLOW).await?.collect().await });
    server.until_uploads().await;
    crate::cluster::killed(cluster.primary().into());
    copy.abort();
    let dir = cluster.dir.path().display().to_string();
    let mut up =
        windlass(&["cluster", "up", "--executors", "2", "--slots", "2", "--memory", "512MiB", "--dir", &dir, "--json"]);
    up.envs(server.environment());
    let up: serde_json::Value = serde_json::from_str(&succeed(up)).expect("the cluster is described");
    cluster.url = up["url"].as_str().expect("the cluster has an address").to_owned();
    assert_eq!(cluster.sql(&["select 1 as a"]).unwrap(), "a\n1\n");
    cluster.at_rest().await;
    let left = ["uploads", "objects slow/", "objects .slow"].map(|what| server.ask(what));
    assert_eq!(left, ["0", "0", "0"]);
}

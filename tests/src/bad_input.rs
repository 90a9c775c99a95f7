//! Mistakes of users and failures around them: clear errors from every face, nothing half-written, and a cluster that goes on.

use crate::cluster::{Processes, binary, python, run, succeed, windlass};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use futures::StreamExt;
use parquet::arrow::ArrowWriter;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rows in each file.
const ROWS: usize = 20_000;
/// The wrong row, and its line: the header is the first line.
const WRONG: usize = 12_345;
const LINE: &str = "line 12347";

/// Statements of which the last one fails, and texts that its error must contain.
type Case = (Vec<String>, Vec<String>);

/// Options that use stages for everything, and split CSV files into parts, so that lines are counted across them.
const IN_PARTS: [&str; 2] =
    ["set windlass.small_query_bytes = 0", "set datafusion.optimizer.repartition_file_min_size = 1024"];

fn parquet(path: &Path, column: ArrayRef) {
    let batch = RecordBatch::try_from_iter([("id", column)]).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn csv(path: &Path, wrong: &str) {
    let row = |n: usize| if n == WRONG { wrong.to_owned() } else { format!("{n},n{}", n * 7919 % 1_000_003) };
    let rows: Vec<String> = (0..ROWS).map(row).collect();
    std::fs::write(path, format!("id,name\n{}\n", rows.join("\n"))).unwrap();
}

fn cut(from: &Path, to: &Path) {
    let bytes = std::fs::read(from).unwrap();
    std::fs::write(to, &bytes[..bytes.len() / 2]).unwrap();
}

fn make_files(at: &Path) {
    let file = |name: &str| at.join(name);
    let ids = || Arc::new(Int64Array::from_iter_values(0..ROWS as i64)) as ArrayRef;
    parquet(&file("good.parquet"), ids());
    cut(&file("good.parquet"), &file("cut.parquet"));
    std::fs::create_dir(file("mixed")).unwrap();
    parquet(&file("mixed/a.parquet"), ids());
    parquet(&file("mixed/b.parquet"), Arc::new(StringArray::from(vec!["x"])));
    std::fs::write(file("empty.parquet"), "").unwrap();
    csv(&file("typed.csv"), "oops,n");
    csv(&file("ragged.csv"), "1,2,3");
    csv(&file("good.csv"), "1,n");
    let mut gzip = Command::new("gzip");
    gzip.arg("--keep").arg(file("good.csv"));
    succeed(gzip);
    cut(&file("good.csv.gz"), &file("cut.csv.gz"));
}

/// Statements that read wrong files.
fn of_files(at: &Path) -> Vec<Case> {
    let path = |name: &str| at.join(name).display().to_string();
    let create = |name: &str, columns: &str, format: &str, options: &str| {
        let folder = if name.contains('.') { "" } else { "/" };
        let options = if options.is_empty() { String::new() } else { format!("options ({options})") };
        let location = path(name);
        format!(
            "create or replace external table bad {columns} stored as {format} location '{location}{folder}' {options}"
        )
    };
    let made = |name: &str, words: &[&str]| {
        let wanted = std::iter::once(path(name)).chain(words.iter().map(|word| (*word).to_owned()));
        (vec![create(name, "", "parquet", "")], wanted.collect())
    };
    let read = |name: &str, columns: &str, format: &str, options: &str, words: &[&str]| {
        let statements = vec![create(name, columns, format, options), "select count(*), sum(id) from bad".to_owned()];
        (statements, words.iter().map(|word| (*word).to_owned()).collect())
    };
    let below = |format: &str| {
        let copy = format!("copy (select 1 as a) to '{}/below/' stored as {format}", path("good.csv"));
        (vec![copy], vec!["good.csv/".to_owned(), "cannot be written".to_owned(), "Not a directory".to_owned()])
    };
    let (columns, header) = ("(id bigint, name varchar)", "has_header true");
    vec![
        below("csv"),
        below("parquet"),
        made("missing.parquet", &["there is no file"]),
        (vec![create("empty.parquet", "", "parquet", "")], vec!["which are empty".to_owned()]),
        made("cut.parquet", &["cannot read"]),
        made("mixed", &["are not those of the files before", "'id'"]),
        read("cut.parquet", "(id bigint)", "parquet", "", &["cannot read", &path("cut.parquet")]),
        read("mixed", "(id bigint)", "parquet", "", &[&path("mixed/b.parquet"), "'x'", "Int64"]),
        read("typed.csv", columns, "csv", header, &[&path("typed.csv"), "'oops'", "Int64", LINE]),
        read("ragged.csv", columns, "csv", header, &[&path("ragged.csv"), LINE, "expected 2 got more than 2"]),
        read(
            "cut.csv.gz",
            columns,
            "csv",
            "has_header true, compression gzip",
            &["cannot read", &path("cut.csv.gz"), "incomplete"],
        ),
    ]
}

/// Statements that are wrong themselves.
fn of_statements() -> Vec<Case> {
    let case = |sql: &str, words: &[&str]| {
        (vec![sql.to_owned()], words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    };
    vec![
        case("select 1,\n  frm x y", &["line 2, column 9", "2 |   frm x y\n  |         ^"]),
        case("select id from goood", &["'goood' not found; did you mean good?", "goood\n  |                ^"]),
        case("select idd from good", &["'idd' not found; did you mean id?", "good\n  |        ^"]),
        case("select 1 / (id - id) from good", &["Divide by zero"]),
    ]
}

fn check(face: &str, (statements, words): &Case, error: &str) {
    for word in words {
        assert!(error.contains(word), "{face}: {statements:?}: {word:?} is missing in: {error}");
    }
    assert!(!error.contains("internal error") && !error.contains("DataFusion"), "{face}: {statements:?}: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_face_says_what_is_wrong() {
    let at = tempfile::tempdir().unwrap();
    make_files(at.path());
    let cluster = Processes::with("512MiB", &[]);
    let good = at.path().join("good.parquet");
    cluster.sql(&[&format!("create external table good stored as parquet location '{}'", good.display())]).unwrap();
    let cases = [of_files(at.path()), of_statements()].concat();
    for case in &cases {
        for options in [&[][..], &IN_PARTS[..]] {
            let all: Vec<&str> = options.iter().copied().chain(case.0.iter().map(String::as_str)).collect();
            check("command line", case, &cluster.sql(&all).expect_err("the statement is wrong"));

            let session = cluster.session().await;
            let (last, before) = all.split_last().unwrap();
            for sql in before {
                session.sql(*sql).update().await.unwrap();
            }
            let outcome = async { session.sql(*last).await?.collect().await }.await;
            check("library", case, &outcome.expect_err("the statement is wrong").to_string());
        }
    }
    let file = at.path().join("cases.json");
    std::fs::write(&file, serde_json::to_string(&cases).unwrap()).unwrap();
    succeed(python("errors.py", &[&cluster.url, &file.display().to_string()]));
    assert_eq!(cluster.sql(&["select count(*) as n from good"]).unwrap(), "n\n20000\n");
    cluster.at_rest().await;
}

/// All files below the folder of managed tables.
fn warehouse(cluster: &Processes) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![cluster.dir.path().join("primary/data/warehouse")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

/// Whether the path lies in a hidden staging folder of Windlass.
fn is_staged(path: &Path) -> bool {
    path.components().any(|part| {
        let name = part.as_os_str().to_string_lossy();
        name.starts_with('.') && name.contains(".windlass-")
    })
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn tables(cluster: &Processes) -> String {
    let listed = "select table_name from information_schema.tables where table_schema = 'public' order by table_name";
    cluster.sql(&[listed]).expect("the cluster goes on")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_leaves_nothing() {
    let at = tempfile::tempdir().unwrap();
    let cluster = Processes::with("512MiB", &[]);
    let typed = at.path().join("typed.csv");
    csv(&typed, "oops,n");
    let bad = format!(
        "create external table bad (id bigint, name varchar) stored as csv location '{}' options (has_header true)",
        typed.display()
    );
    cluster.sql(&[&bad, "create table kept as select 1 as id, 'x' as name"]).unwrap();
    let before = (tables(&cluster), warehouse(&cluster));
    assert_eq!((before.0.as_str(), before.1.len()), ("table_name\nbad\nkept\n", 1));
    let copy = format!("copy bad to '{}/' stored as parquet", at.path().join("out").display());
    for write in ["create table half as select * from bad", "insert into kept select * from bad", &copy] {
        for options in [&[][..], &IN_PARTS[..]] {
            let all: Vec<&str> = options.iter().copied().chain([write]).collect();
            let error = cluster.sql(&all).expect_err("a row is wrong");
            assert!(error.contains(LINE), "{error}");
            let now = || (tables(&cluster), warehouse(&cluster), entries(at.path()));
            let visible = |paths: Vec<PathBuf>| paths.into_iter().filter(|path| !is_staged(path)).collect::<Vec<_>>();
            let (listed, kept, written) = now();
            assert_eq!((listed, visible(kept)), before, "{write}");
            assert_eq!(visible(written), std::slice::from_ref(&typed), "{write}");
            // Files that a thread of the file system wrote while its task was stopped are removed by the next upkeep.
            let patience = Instant::now() + Duration::from_secs(60);
            while now() != (before.0.clone(), before.1.clone(), vec![typed.clone()]) {
                assert!(Instant::now() < patience, "{write}: staged files stay: {:?}", now());
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    assert_eq!(cluster.sql(&["select count(*) as n from kept"]).unwrap(), "n\n1\n");
    cluster.at_rest().await;
}

/// A separate small file system, unmounted on drop.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf, megabytes: u32) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"]).arg(&at);
        succeed(mount);
        Self(at)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut unmount = Command::new("umount");
        unmount.arg("--lazy").arg(&self.0);
        let unmounted = run(unmount);
        assert!(unmounted.is_ok() || std::thread::panicking(), "{unmounted:?}");
    }
}

const MANY_SORTED: &str = "select md5(cast(value as varchar)) as m from generate_series(1, 1500000) order by m";

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_the_statement_and_not_the_executor() {
    let dir = tempfile::tempdir().unwrap();
    // The disks are unmounted before the folder is removed, and after the cluster has ended.
    let disks = [1, 2].map(|n| SmallDisk::mount(dir.path().join(format!("executor-{n}/data")), 8));
    let cluster = Processes::start_in(dir, "64MiB", &[]);
    let create = format!("create table half as {MANY_SORTED}");
    for statement in [MANY_SORTED, &create] {
        let error = cluster.sql(&[statement]).expect_err("the disk is full");
        assert!(error.contains("no space left on the executor's disk"), "{error}");
        assert_eq!(cluster.sql(&["select 1 as one"]).unwrap(), "one\n1\n");
    }
    assert_eq!((tables(&cluster).as_str(), warehouse(&cluster).len()), ("table_name\n", 0));
    cluster.at_rest().await;
    let few =
        "select count(*) as n from (select md5(cast(value as varchar)) as m from generate_series(1, 20000) order by m)";
    assert_eq!(cluster.sql(&["set windlass.small_query_bytes = 0", few]).unwrap(), "n\n20000\n");
    drop(disks);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_gone_fails_the_statement_and_not_the_executor() {
    let cluster = Processes::with("64MiB", &[]);
    for n in [1, 2] {
        std::fs::remove_dir_all(cluster.dir.path().join(format!("executor-{n}/data"))).unwrap();
    }
    let error = cluster.sql(&[MANY_SORTED]).expect_err("there is nowhere to spill to");
    assert!(error.contains("No such file or directory") && error.contains("executor-"), "{error}");
    assert_eq!(cluster.sql(&["select 1 as one"]).unwrap(), "one\n1\n");
    cluster.at_rest().await;
}

/// A process that ends with the test.
struct Beside(Child);

impl Drop for Beside {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        assert!(ended.is_ok() || std::thread::panicking(), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_does_not_see_a_file_says_so() {
    let cluster = Processes::of(["1", "1", "256MiB"]);
    let files = cluster.dir.path().join("files");
    std::fs::create_dir(&files).unwrap();
    for file in ["a", "b", "c", "d"] {
        parquet(&files.join(format!("{file}.parquet")), Arc::new(Int64Array::from(vec![1; 1_000])));
    }
    // An executor on a machine where the folder is empty.
    let hide_and_run = "mount -t tmpfs none \"$1\"; shift; exec \"$@\"";
    let mut executor = Command::new("unshare");
    executor.args(["--mount", "sh", "-c", hide_and_run, "sh"]).arg(&files).arg(binary());
    executor.args([
        "executor",
        "--primary",
        &cluster.url,
        "--slots",
        "1",
        "--memory",
        "256MiB",
        "--listen",
        "127.0.0.1:0",
    ]);
    executor.arg("--dir").arg(cluster.dir.path().join("hidden")).stdout(Stdio::null()).stderr(Stdio::null());
    let hidden = Beside(executor.spawn().unwrap());
    let session = cluster.session().await;
    let patience = Instant::now() + Duration::from_secs(20);
    while session.status().await.unwrap().executors.len() < 2 {
        assert!(Instant::now() < patience, "the second executor does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let at = files.display();
    session.sql(format!("create external table t stored as parquet location '{at}/'")).await.unwrap();
    session.set("windlass.small_query_bytes", "0").await.unwrap();
    let error = session.sql("select sum(id) as n from t").await.expect_err("a file is not seen").to_string();
    assert!(error.contains(&format!("{at}/")) && error.contains("the primary sees this file"), "{error}");
    assert!(error.contains("a shared file system"), "{error}");
    drop(hidden);
    cluster.at_rest().await;
}

/// Resident bytes of the largest of these processes.
fn resident(pids: &[u32]) -> u64 {
    let of = |pid: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
    };
    pids.iter().map(of).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_larger_than_memory_streams() {
    let cluster = Processes::with("256MiB", &[]);
    let session = cluster.session().await;
    let status = session.status().await.unwrap();
    let mut pids: Vec<u32> = status.executors.iter().map(|executor| executor.pid).collect();
    pids.push(status.pid);
    session.set("datafusion.execution.batch_size", "256").await.unwrap();
    // 1.5 GiB of rows: three times the memory of all executors.
    let wide = "select value, repeat(cast(value % 10 as varchar), 16384) as wide from generate_series(1, 98304)";
    let mut batches = session.sql(wide).await.unwrap();
    let (mut rows, mut bytes, mut peak) = (0, 0, 0);
    while let Some(batch) = batches.next().await {
        let batch = batch.unwrap();
        let pause = rows / 8_192 != (rows + batch.num_rows()) / 8_192;
        rows += batch.num_rows();
        bytes += batch.get_array_memory_size();
        if pause {
            // A slow reader: rows that it has not taken wait on a disk and not in memory.
            tokio::time::sleep(Duration::from_millis(20)).await;
            peak = peak.max(resident(&pids));
        }
    }
    assert_eq!(rows, 98_304);
    assert!(bytes as u64 > 3 << 29, "{bytes} bytes were read");
    assert!(peak > 0 && peak < 600 << 20, "a process took {} MiB", peak >> 20);
    assert_eq!(cluster.sql(&["select 1 as one"]).unwrap(), "one\n1\n");
    cluster.at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_is_too_long_is_refused() {
    let at = tempfile::tempdir().unwrap();
    let cluster = Processes::with("512MiB", &[]);
    let session = cluster.session().await;
    for (megabytes, words) in
        [(17, ["primary.statement_limit", "16777216"]), (65, ["shorten the statement", "in one message"])]
    {
        let statement = format!("select '{}' as long", "x".repeat(megabytes << 20));
        let file = at.path().join("long.sql");
        std::fs::write(&file, &statement).unwrap();
        let shown = run(windlass(&["sql", "--url", &cluster.url, "-f", &file.display().to_string()])).unwrap_err();
        let given = session.sql(statement).update().await.unwrap_err().to_string();
        for error in [shown, given] {
            let start: String = error.chars().take(500).collect();
            assert!(words.iter().all(|word| error.contains(word)) && error.len() < 2_000, "{start}");
        }
        assert_eq!(cluster.sql(&["select 1 as one"]).unwrap(), "one\n1\n");
    }
    cluster.at_rest().await;
}

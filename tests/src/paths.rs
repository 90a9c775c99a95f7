//! Paths with characters that have a meaning in URLs and patterns: written files lie at their target, and nothing beside it changes.

use crate::cluster::Processes;
use crate::files::shell::fs_command;
use crate::s3::Server;
use std::collections::BTreeMap;
use std::path::Path;

const STAGES: &str = "set windlass.small_query_bytes = 0";
const NAMES: [&str; 8] = ["r#1", "r?x=1", "a%20b", "g[1]", "h*i", "é ^{}|\\~<>&+", "k=a%2Fb", "#"];

/// Files below a place, with their content, by their relative paths.
fn files_in(cluster: &Processes, place: &str) -> BTreeMap<String, String> {
    let local = tempfile::tempdir().expect("a folder can be made");
    let to = format!("file://{}/", local.path().display());
    // For `fs` a path without a scheme is the cluster's.
    let place = if place.starts_with('/') { format!("file://{place}") } else { place.to_owned() };
    fs_command(cluster, &["distcp", "--overwrite", &place, &to]).unwrap_or_else(|e| panic!("{place}: {e}"));
    let mut found = BTreeMap::new();
    read_tree(local.path(), local.path(), &mut found);
    found
}

fn read_tree(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).expect("a folder is read") {
        let path = entry.expect("an entry is read").path();
        match path.is_dir() {
            true => read_tree(root, &path, found),
            false => {
                let name = path.strip_prefix(root).expect("it is below").display().to_string();
                found.insert(name, std::fs::read_to_string(&path).unwrap_or_default());
            }
        }
    }
}

/// Names that a wrong reading of one of `NAMES` would touch.
const BESIDE: [&str; 7] =
    ["r/keep.csv", "r/sub/keep.csv", "a b/keep.csv", "g1/keep.csv", "hi/keep.csv", "keep.csv", "k=a/b/keep.csv"];

fn writes_stay_where_they_were_sent(cluster: &Processes, base: &str) {
    let sql = |statements: &[&str]| cluster.sql(statements).unwrap_or_else(|e| panic!("{base}: {statements:?}: {e}"));
    for beside in BESIDE {
        sql(&[&format!("copy (select '{beside}' as x) to '{base}/{beside}' stored as csv")]);
    }
    let beside = files_in(cluster, &format!("{base}/"));
    assert_eq!(beside.len(), BESIDE.len());

    let mut expected: Vec<String> = Vec::new();
    for name in NAMES {
        let at = format!("{base}/{name}");
        let one = format!("copy (select 1 as x) to '{at}/one.csv' stored as csv options (has_header true)");
        assert_eq!(sql(&[&one]), "count\n1\n", "{name}");
        let many = format!("copy (select value as x from generate_series(1, 5000)) to '{at}/many/' stored as parquet");
        assert_eq!(sql(&[STAGES, &many]), "count\n5000\n", "{name}");
        let failing =
            format!("copy (select 1 / (value - 9) as x from generate_series(1, 10)) to '{at}/bad.csv' stored as csv");
        assert!(cluster.sql(&[&failing]).is_err(), "{name}");

        let table = format!("create external table t (x bigint) stored as parquet location '{at}/many/'");
        let file = format!(
            "create external table f (x bigint) stored as csv location '{at}/one.csv' options (has_header true)"
        );
        let rows = "select (select count(*) from t) as n, (select sum(x) from t) as s, (select sum(x) from f) as f";
        assert_eq!(sql(&[&table, &file, rows]), "n,s,f\n5000,12502500,1\n", "{name}");
        assert_eq!(sql(&["insert into t values (1), (2)", rows]), "count\n2\nn,s,f\n5002,12502503,1\n", "{name}");
        let over = "insert overwrite t select x from t where x = 7";
        assert_eq!(sql(&[over, rows]), "count\n1\nn,s,f\n1,7,1\n", "{name}");
        assert!(cluster.sql(&["insert overwrite t select 1 / (x - 7) from t"]).is_err(), "{name}");
        assert_eq!(sql(&[rows, "drop table t", "drop table f"]), "n,s,f\n1,7,1\n", "{name}");
        expected.extend([format!("{name}/many/"), format!("{name}/one.csv")]);
    }
    let mut found = files_in(cluster, &format!("{base}/"));
    for (path, text) in beside {
        assert_eq!(found.remove(&path), Some(text), "{base}: {path}");
    }
    let is_expected =
        |path: &str| expected.iter().any(|at| path == at || at.ends_with('/') && path.starts_with(at.as_str()));
    let others: Vec<&String> = found.keys().filter(|path| !is_expected(path)).collect();
    assert!(others.is_empty(), "{base}: {others:?}");
    assert_eq!(found.len(), expected.len(), "{base}: {:?}", found.keys());
}

/// Values that are encoded once in the names of folders.
const VALUES: [&str; 15] =
    ["a/b", "a b", "100%", "x=y", "é", "a%2Fb", "..", "a+b", "a:b", "q?#", "[1]*", "a\\b", ".", " ", "_hidden"];

fn values_come_back_out_of_the_names_of_folders(cluster: &Processes, base: &str) {
    let sql = |statements: &[&str]| cluster.sql(statements).unwrap_or_else(|e| panic!("{base}: {statements:?}: {e}"));
    let rows = |offset: usize| {
        let row = |(at, value): (usize, &&str)| format!("({}, '{value}', 'y-{value}')", at + offset);
        VALUES.iter().enumerate().map(row).collect::<Vec<_>>().join(", ")
    };
    let copy = |offset: usize| format!("(select * from (values {}) t(id, k, j))", rows(offset));
    let location = format!("{base}/values/");
    sql(&[STAGES, &format!("copy {} to '{location}' stored as parquet partitioned by (k, j)", copy(1))]);
    sql(&[&format!(
        "create external table v (id bigint, k varchar, j varchar) stored as parquet partitioned by (k, j) location '{location}'"
    )]);
    let whole = "select count(*) as n, count(distinct k) as k, sum(id) as s from v where j = 'y-' || k";
    assert_eq!(sql(&[whole]), "n,k,s\n15,15,120\n");
    assert_eq!(sql(&[STAGES, &format!("insert into v {}", copy(101)), whole]), "count\n15\nn,k,s\n30,15,1740\n");
    for (at, value) in VALUES.iter().enumerate() {
        let ids = format!("id\n{}\n{}\n", at + 1, at + 101);
        assert_eq!(sql(&[&format!("select id from v where k = '{value}' order by id")]), ids, "{value}");
        let other = format!("select id from v where j = 'y-{value}' and k in ('{value}', 'no') order by id");
        assert_eq!(sql(&[STAGES, &other]), ids, "{value}");
    }
    assert_eq!(
        sql(&[&format!("insert overwrite v {}", copy(1)), whole, "drop table v"]),
        "count\n15\nn,k,s\n15,15,120\n"
    );
    let left = files_in(cluster, &location);
    assert_eq!(left.len(), VALUES.len(), "{:?}", left.keys());
}

#[test]
fn targets_of_local_files() {
    let cluster = Processes::of(["2", "2", "512MiB"]);
    let folder = tempfile::tempdir().expect("a folder can be made");
    let at = folder.path().display().to_string();
    writes_stay_where_they_were_sent(&cluster, &format!("file://{at}/url"));
    writes_stay_where_they_were_sent(&cluster, &format!("{at}/path"));
    every_format_is_read_where_it_was_written(&cluster, &format!("{at}/path"));
    values_come_back_out_of_the_names_of_folders(&cluster, &at);
}

/// Tables without columns and options: the format is detected from the files.
fn every_format_is_read_where_it_was_written(cluster: &Processes, at: &str) {
    for (name, format) in [
        ("p/", "parquet"),
        ("a/", "arrow"),
        ("a.arrow", "arrow"),
        ("c/", "csv"),
        ("c.csv.gz", "csv"),
        ("j/", "json"),
        ("j.json.zst", "json"),
    ] {
        let location = format!("{at}/formats/{name}");
        let statements = [
            format!("copy (select value as a, 'x' as b from generate_series(1, 3)) to '{location}' stored as {format}"),
            format!("create external table format stored as {format} location '{location}'"),
            "select sum(a) as a, max(b) as b from format".to_owned(),
            "drop table format".to_owned(),
        ];
        let said =
            cluster.sql(&statements.each_ref().map(String::as_str)).unwrap_or_else(|e| panic!("{location}: {e}"));
        assert_eq!(said, "count\n3\na,b\n6,x\n", "{location}");
    }
}

#[test]
fn targets_among_the_files_of_the_cluster() {
    let cluster = Processes::of(["2", "2", "512MiB"]);
    writes_stay_where_they_were_sent(&cluster, "wfs:///d");
    every_format_is_read_where_it_was_written(&cluster, "wfs:///d");
    values_come_back_out_of_the_names_of_folders(&cluster, "wfs:///d");
    // In the root, which has no parent folder.
    let sql = |statements: &[&str]| cluster.sql(statements).unwrap_or_else(|e| panic!("{statements:?}: {e}"));
    sql(&[
        "copy (select 1 as x) to 'wfs:///a[1]/' stored as csv",
        "copy (select 1 as x) to 'wfs:///a#1.csv' stored as csv",
    ]);
    let found = files_in(&cluster, "wfs:///");
    let top = found.keys().filter(|path| !path.starts_with("d/"));
    assert_eq!(top.filter(|path| path.starts_with("a[1]/") || *path == "a#1.csv").count(), 2, "{:?}", found.keys());
}

#[test]
fn targets_in_buckets() {
    let server = Server::start();
    let cluster = server.cluster();
    writes_stay_where_they_were_sent(&cluster, "s3://lake/d");
    every_format_is_read_where_it_was_written(&cluster, "s3://lake/d");
    values_come_back_out_of_the_names_of_folders(&cluster, "s3://lake/d");
}

#[test]
fn files_of_the_cluster_are_called_by_their_names() {
    let cluster = Processes::of(["2", "1", "512MiB"]);
    let fs = |arguments: &[&str]| fs_command(&cluster, arguments).unwrap_or_else(|e| panic!("{arguments:?}: {e}"));
    let local = tempfile::tempdir().expect("a folder can be made");
    let file = local.path().join("file").display().to_string();
    std::fs::write(&file, "x").expect("it is written");
    let all = ["/d/r/keep", "/d/a b/keep", "/d/a1", "/d/a[1]", "/d/b*", "/d/bb", "/in/new", "/d/c{1,2}", "/d/c1"];
    all.iter().for_each(|path| _ = fs(&["put", &file, path]));

    // Copies that remove files without a source, beside folders whose names could be confused with these.
    for to in ["/d/r#1/", "/d/a%20b/", "wfs:///d/r?x=1/"] {
        assert!(fs(&["distcp", "--delete", "/in/", to]).starts_with("copied 1 file"), "{to}");
        assert!(fs(&["distcp", "--delete", "/in/", to]).starts_with("copied 0 files"), "{to}");
        assert_eq!(fs(&["cat", &format!("{to}new")]), "x");
    }
    // An existing name takes precedence over its meaning as a pattern.
    fs(&["rm", "/d/a[1]", "/d/b*", "/d/c{1,2}"]);
    let mut left: Vec<String> = files_in(&cluster, "wfs:///d/").into_keys().collect();
    left.sort();
    let kept = ["a b/keep", "a%20b/new", "a1", "bb", "c1", "r#1/new", "r/keep", "r?x=1/new"];
    assert_eq!(left, kept);
    fs(&["rm", "/d/a[1]", "/d/b*"]);
    assert!(!fs(&["ls", "/d"]).contains("/d/a1"), "and a pattern where there is none");
}

#[test]
fn a_folder_that_is_gone_is_no_empty_table() {
    let server = Server::start();
    let cluster = server.cluster();
    let sql = |statements: &[&str]| cluster.sql(statements).unwrap_or_else(|e| panic!("{statements:?}: {e}"));
    let gone = |table: &str| cluster.sql(&[&format!("select count(*) as n from {table}")]).expect_err("it is gone");
    let fs = |arguments: &[&str]| fs_command(&cluster, arguments).unwrap_or_else(|e| panic!("{arguments:?}: {e}"));
    let local = tempfile::tempdir().expect("a folder can be made");
    let here = local.path().join("t");
    for (table, location) in
        [("l", format!("{}/", here.display())), ("w", "wfs:///t/".into()), ("s", "s3://lake/t/".into())]
    {
        let create = format!("create external table {table} (x bigint) stored as parquet location '{location}'");
        let count = format!("select count(*) as n from {table}");
        // Before it is filled, filled, and emptied.
        assert_eq!(sql(&[&create, &count]), "n\n0\n", "{location}");
        assert_eq!(sql(&[&format!("insert into {table} values (1), (2)"), &count]), "count\n2\nn\n2\n", "{location}");
        let empty = format!("insert overwrite {table} select x from {table} where x > 5");
        assert_eq!(sql(&[&empty, &count]), "count\n0\nn\n0\n", "{location}");
        sql(&[&format!("insert into {table} values (1), (2)")]);
    }
    std::fs::remove_dir_all(&here).expect("it is removed");
    assert!(gone("l").contains("there is no folder at file://"), "{}", gone("l"));
    fs(&["rm", "-r", "--skip-trash", "/t"]);
    assert!(gone("w").contains("there is no folder at wfs:///t/"), "{}", gone("w"));
    assert!(cluster.sql(&["select x from w where x = 1 limit 1"]).is_err());

    // No file of a managed table may be missing, even if others exist.
    sql(&["create table m as select 1 as x", "insert into m values (2)"]);
    assert_eq!(sql(&["select count(*) as n from m"]), "n\n2\n");
    let warehouse = cluster.dir.path().join("primary/data/warehouse");
    let mut folders = Vec::new();
    for table in std::fs::read_dir(&warehouse).unwrap_or_else(|e| panic!("{}: {e}", warehouse.display())).flatten() {
        folders.extend(std::fs::read_dir(table.path()).expect("it is read").flatten().map(|entry| entry.path()));
    }
    assert_eq!(folders.len(), 2, "{folders:?}");
    std::fs::remove_dir_all(&folders[0]).expect("it is removed");
    assert!(gone("m").contains("somebody has removed them"), "{}", gone("m"));
}

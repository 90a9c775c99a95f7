//! Rows that the target of a load does not take: they are set aside up to a limit, each once, and the load is whole or not at all.

use super::write::{LEFT, primary_killed};
use super::*;
use crate::asking::{self, json_lines, rows_are_set_aside_from_the_command_line};
use crate::cluster::killed;
use std::path::Path;

/// `more`: further options, each after a comma.
fn copy(server: &MariaDb, query: &str, rejects: &Path, more: &str) -> String {
    format!(
        "COPY ({query}) TO '{}' STORED AS MYSQL OPTIONS (table 't', rejects '{}'{more})",
        location(server),
        rejects.display()
    )
}

const TARGET: &str = "CREATE TABLE p (id int PRIMARY KEY); INSERT INTO p VALUES (1);
    CREATE TABLE t (id int PRIMARY KEY, name varchar(3) NOT NULL, n smallint CHECK (n > 0), parent int, mood enum('sad', 'ok'), price decimal(4, 1),
    day date, FOREIGN KEY (parent) REFERENCES p (id)); INSERT INTO t (id, name) VALUES (90, 'old')";

/// 2,000 rows, twelve of which the target does not take: what each of them has is said by its id.
const ROWS: &str = "SELECT CASE value WHEN 70 THEN 71 WHEN 80 THEN 3000000000 ELSE value END AS id,
    CASE value WHEN 10 THEN NULL WHEN 20 THEN 'long' ELSE 'x' END AS name, CASE value WHEN 40 THEN 70000 WHEN 50 THEN -1 ELSE 1 END AS n,
    CASE value WHEN 60 THEN 99 ELSE 1 END AS parent, CASE value WHEN 100 THEN 'glad' ELSE 'ok' END AS mood,
    CAST(CASE value WHEN 110 THEN NULL WHEN 120 THEN 12345.67 ELSE 1.25 END AS DECIMAL(10, 2)) AS price,
    CASE value WHEN 130 THEN 'someday' WHEN 140 THEN '2024-02-30' ELSE '2024-02-29' END AS day FROM generate_series(1, 2000)";

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_set_aside_with_their_reasons() {
    let server = &MariaDb::start();
    let other = &MariaDb::with(&["--local-infile=OFF"], |_| {});
    for server in [server, other] {
        scripted(server, TARGET);
        let folder = tempfile::tempdir().expect("a folder can be made");
        let session = embedded().await;
        done(&session, &[STAGES]).await;
        let file = folder.path().join("few.json");
        let few = copy(server, ROWS, &file, ", max_rejects 11, load 'monday'");
        let words = ["does not take more than 11 rows", "max_rejects", "nothing was loaded", "few.json"];
        let error = refused(&session, &few, &words).await;
        assert!(error.contains("is NULL"), "a reason is named: {error}");
        assert_eq!(
            json_lines(&file).len(),
            12,
            "the file of a load that fails has the rows up to the limit and one more"
        );
        assert_eq!(scripted(server, "SELECT count(*) FROM t"), "1");
        assert_eq!(scripted(server, LEFT), "0");

        let folder = folder.path().join("rejects");
        let load = copy(server, ROWS, &folder, ", max_rejects 12, load 'monday'");
        assert_eq!(answers(&session, &load).await, "1988|12");
        let state = "SELECT count(*), count(DISTINCT id), sum(name = 'x'), sum(price = 1.3), min(day) FROM t";
        assert_eq!(scripted(server, state), "1989|1989|1988|1987|2024-02-29");
        assert_eq!(scripted(server, "SELECT `rows` FROM windlass_loads WHERE `load` = 'monday'"), "1988");
        assert_eq!(scripted(server, LEFT), "0");
        let lines = json_lines(&folder);
        let reason = |id: i64| {
            let of = lines.iter().find(|line| line["id"] == id).unwrap_or_else(|| panic!("{id}: {lines:?}"));
            of["reason"].as_str().expect("it has a reason").to_string()
        };
        for (id, words) in [
            (10, "the column name: it is NULL"),
            (20, "Data too long for column 'name'"),
            (40, "Out of range value for column 'n'"),
            (50, "CONSTRAINT"),
            (60, "a foreign key constraint fails"),
            (71, "Duplicate entry '71' for key 'PRIMARY'"),
            (3_000_000_000, "Out of range value for column 'id'"),
            (90, "Duplicate entry '90' for key 'PRIMARY'"),
            (100, "Data truncated for column 'mood'"),
            (120, "Out of range value for column 'price'"),
            (130, "Incorrect date value: 'someday'"),
            (140, "Incorrect date value: '2024-02-30'"),
        ] {
            assert!(reason(id).contains(words), "{id}: {}", reason(id));
        }
        assert_eq!(lines.len(), 12);
        let spoken = |line: &serde_json::Value| line["reason"].as_str().unwrap_or_default().to_string();
        assert!(
            lines.iter().all(|line| !spoken(line).contains("windlass") && !spoken(line).contains(" at row ")),
            "{lines:?}"
        );
        assert!(lines.iter().all(|line| line.as_object().expect("it is an object").len() == 8), "{lines:?}");
        // They are a table.
        let read = format!("CREATE EXTERNAL TABLE again STORED AS JSON LOCATION '{}/'", folder.display());
        done(&session, &[&read]).await;
        let again = "SELECT count(*), count(name), min(n), max(price) FROM again WHERE reason <> ''";
        assert_eq!(answers(&session, again).await, "12|11|-1|12345.7");
        refused(&session, &load, &["the load 'monday' is in"]).await;
        // What is taken leaves no file.
        let none = folder.join("none.json");
        assert_eq!(answers(&session, &copy(server, "SELECT 5000 AS id, 'x' AS name", &none, "")).await, "1|0");
        assert!(!none.exists());
        // A target that the load makes takes all that can be sent.
        let made = copy(server, "SELECT 1.5 AS a, X'00ff' AS b, CAST('NaN' AS DOUBLE) AS c", &none, ", max_rejects 1");
        assert_eq!(answers(&session, &made.replace("table 't'", "table 'made'")).await, "0|1");
        let line = serde_json::json!({"reason": "the column c: MySQL has no NaN", "a": 1.5, "b": "00ff", "c": "NaN"});
        assert_eq!(json_lines(&none), [line]);
        until(server, &format!("SELECT count(*) {SESSIONS}"), "0").await;
    }
}

/// Nothing is rounded, cut or taken for something else without a word: such a text is rejected.
#[tokio::test(flavor = "multi_thread")]
async fn texts_that_would_change_are_set_aside() {
    let server = &MariaDb::start();
    scripted(
        server,
        "CREATE TABLE t (id int PRIMARY KEY, n int, d date, at datetime, fine datetime(3), tm time, price decimal(5, 2))",
    );
    let folder = tempfile::tempdir().expect("a folder can be made");
    let session = embedded().await;
    done(&session, &[STAGES]).await;
    let rows = "SELECT * FROM (VALUES
        (1, '2.7', NULL, NULL, NULL, NULL, NULL), (2, NULL, '0000-00-00', NULL, NULL, NULL, NULL), (3, NULL, '2024-01-01 10:11:12', NULL, NULL, NULL, NULL),
        (4, NULL, NULL, '2024-01-01 00:00:00.9', NULL, NULL, NULL), (5, NULL, NULL, NULL, '2024-01-01 00:00:00.1234', NULL, NULL),
        (6, NULL, NULL, NULL, NULL, '25:00:00.9', NULL), (7, NULL, NULL, NULL, NULL, NULL, '1.999'), (8, NULL, NULL, 'never', NULL, NULL, NULL),
        (9, ' 5', '2024-02-29', '2024-01-01 00:00:00.0', '2024-01-01T00:00:00.123', '25:00:00', '1.99')) r(id, n, d, at, fine, tm, price)";
    let file = folder.path().join("texts.json");
    assert_eq!(
        answers(&session, &copy(server, rows, &file, ", max_rejects 8")).await,
        "1|8",
        "{}",
        scripted(server, "SELECT * FROM t")
    );
    let taken = "9|5|2024-02-29|2024-01-01 00:00:00|2024-01-01 00:00:00.123|25:00:00|1.99";
    assert_eq!(scripted(server, "SELECT * FROM t"), taken);
    let mut ids: Vec<i64> = json_lines(&file).iter().filter_map(|line| line["id"].as_i64()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7, 8]);
    // A place where nothing can be written is found out before the load.
    let nowhere = copy(server, "SELECT 50 AS id", Path::new("/proc/rejects/"), "");
    refused(&session, &nowhere, &["the rejects of the load cannot be written to", "/proc/rejects/"]).await;
    assert_eq!(scripted(server, "SELECT count(*) FROM t"), "1");
    // Digits that a new table would not keep are an error.
    let nanos = "SELECT timestamp '2024-01-01 00:00:00.999999999' AS at";
    let made = copy(server, nanos, &file, "").replace("table 't'", "table 'made'");
    refused(&session, &made, &["more than 0 rows", "fraction of more than the 6 digits"]).await;
}

/// Rows that are not even sent are rejected by loads that find rows by their key too, and many of them end a load early.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_sent_are_set_aside() {
    let server = &MariaDb::start();
    scripted(
        server,
        "CREATE TABLE t (id int PRIMARY KEY, f double NOT NULL, v blob); INSERT INTO t VALUES (1, 7, 'a')",
    );
    let folder = tempfile::tempdir().expect("a folder can be made");
    let session = embedded().await;
    done(&session, &[STAGES]).await;
    let rows = "SELECT CAST(value AS INT) AS id, CASE value % 10 WHEN 3 THEN CAST('NaN' AS DOUBLE) ELSE 0 END AS f, \
        X'00ff' AS v FROM generate_series(1, 1000)";
    for (mode, file) in [("upsert", "upsert.json"), ("merge", "merge.json"), ("replace", "replace.json")] {
        let file = folder.path().join(file);
        let load = copy(server, rows, &file, &format!(", max_rejects 100, mode '{mode}'"));
        assert_eq!(answers(&session, &load).await, "900|100", "{mode}");
        assert_eq!(scripted(server, "SELECT count(*), sum(f), min(hex(v)) FROM t"), "900|0|00FF", "{mode}");
        let all = json_lines(&file);
        assert_eq!(all.len(), 100);
        let first = all.iter().find(|line| line["id"] == 3).expect("it is there");
        assert_eq!(first["reason"], "the column f: MySQL has no NaN");
        assert_eq!((&first["f"], &first["v"]), (&serde_json::json!("NaN"), &serde_json::json!("00ff")));
    }
    scripted(server, "TRUNCATE t");
    let few = folder.path().join("few.json");
    let words = ["more than 5 rows", "MySQL has no NaN", "few.json"];
    refused(&session, &copy(server, rows, &few, ", max_rejects 5"), &words).await;
    assert!(json_lines(&few).len() > 5, "rows and reasons are kept");
    assert_eq!(scripted(server, "SELECT count(*) FROM t"), "0");
    assert_eq!(scripted(server, LEFT), "0");
    refused(&session, &copy(server, rows, &folder.path().join("none.json"), ""), &["more than 0 rows"]).await;
    refused(&session, &create(server, "e", "t", ", rejects 'x.json'"), &["'rejects' is of one load"]).await;
}

/// An executor that dies costs time: each row is in the target or in the file, once.
#[tokio::test(flavor = "multi_thread")]
async fn an_executor_dies_while_rows_are_set_aside() {
    let server = &MariaDb::start();
    scripted(
        server,
        "CREATE TABLE source (n int PRIMARY KEY, pad varchar(200), c int) AS SELECT seq AS n, IF(seq % 1000 = 7, NULL, repeat('x', 200)) AS pad,
         IF(seq % 2000 = 8, -1, 1) AS c FROM seq_1_to_40000; ANALYZE TABLE source;
         CREATE TABLE t (n int PRIMARY KEY, pad text NOT NULL, c int CHECK (c > 0))",
    );
    let folder = tempfile::tempdir().expect("a folder can be made");
    for (step, begun) in ["INFO LIKE 'LOAD DATA%'", "INFO LIKE 'COMMIT%'"].iter().enumerate() {
        let cluster = processes("3", &[]);
        let session = cluster.session().await;
        done(&session, &[STAGES, &create(server, "source", "source", ", snapshot 'locked'")]).await;
        let file = folder.path().join(format!("{step}.json"));
        let load = copy(server, "SELECT n, pad, c FROM source", &file, ", max_rejects 60");
        let begun = format!("SELECT count(*) > 0 {SESSIONS} AND {begun}");
        let (loaded, ()) = tokio::join!(rows(&session, &load), async {
            let patience = std::time::Instant::now() + Duration::from_secs(5);
            while scripted(server, &begun) != "1" && std::time::Instant::now() < patience {}
            killed(cluster.executors[step]);
        });
        assert_eq!(loaded.as_deref(), Ok("39940|60"), "step {step}");
        assert_eq!(scripted(server, "SELECT count(*) FROM t"), "39940", "step {step}");
        let mut ids: Vec<i64> = json_lines(&file).iter().filter_map(|line| line["n"].as_i64()).collect();
        ids.sort_unstable();
        let wanted: Vec<i64> = (1..=40000).filter(|n| n % 1000 == 7 || n % 2000 == 8).collect();
        assert_eq!(ids, wanted, "step {step}");
        until(server, LEFT, "0").await;
        scripted(server, "TRUNCATE t");
    }
}

/// A primary that dies: the rows and the file are there, or neither.
#[tokio::test(flavor = "multi_thread")]
async fn the_primary_dies_while_rows_are_set_aside() {
    let server = &MariaDb::start();
    let rows =
        "SELECT value AS id, CASE value WHEN 500 THEN 'long' ELSE 'x' END AS name FROM generate_series(1, 20000)";
    let folder = tempfile::tempdir().expect("a folder can be made");
    for (at, begun) in ["INFO LIKE 'INSERT INTO%`t`%'", "INFO LIKE 'UPDATE%windlass_loads%'", "INFO = 'COMMIT'"]
        .into_iter()
        .enumerate()
    {
        scripted(server, "CREATE OR REPLACE TABLE t (id bigint PRIMARY KEY, name varchar(3))");
        let file = folder.path().join(format!("{at}.json"));
        let load = copy(server, rows, &file, ", max_rejects 1");
        let (_cluster, _) = primary_killed(server, &[], &load, begun).await;
        let loads = scripted(server, "SELECT count(*) FROM windlass_loads WHERE state = 'loaded'");
        assert_eq!(scripted(server, "SELECT count(*) FROM t"), if loads == "1" { "19999" } else { "0" }, "{begun}");
        assert_eq!(file.exists(), loads == "1", "{begun}");
        if loads == "1" {
            assert_eq!(json_lines(&file).len(), 1, "{begun}");
        }
        scripted(server, "TRUNCATE windlass_loads");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loads_of_one_name_come_one_after_the_other() {
    let server = &MariaDb::start();
    scripted(server, "CREATE TABLE t (id int PRIMARY KEY, name varchar(3))");
    let query = "SELECT value AS id, 'x' AS name FROM generate_series(1, 3000)";
    let load = |name: &str, file: &Path| copy(server, query, file, &format!(", max_rejects 50, load '{name}'"));
    asking::loads_of_one_name_come_one_after_the_other(load, |query| scripted(server, query)).await;
}

#[test]
fn the_command_line_sets_rows_aside() {
    let server = &MariaDb::start();
    scripted(server, "CREATE TABLE zip (id varchar(9) PRIMARY KEY, amount decimal(6, 2))");
    rows_are_set_aside_from_the_command_line(&location(server), |query| scripted(server, query));
}

//! Rows that the target of a load does not take: they are set aside up to a limit, each once, and the load is whole or not at all.

use super::write::{LEFT, primary_killed};
use super::*;
use crate::asking::{self, json_lines, rows_are_set_aside_from_the_command_line};
use crate::cluster::killed;
use std::path::Path;

/// `more`: further options, each after a comma.
fn copy(server: &Postgres, query: &str, rejects: &Path, more: &str) -> String {
    format!(
        "COPY ({query}) TO '{}' STORED AS POSTGRES OPTIONS (table 't', rejects '{}'{more})",
        location(server),
        rejects.display()
    )
}

const TARGET: &str = "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE p (id int PRIMARY KEY); INSERT INTO p VALUES (1);
    CREATE TABLE t (id int PRIMARY KEY, name varchar(3) NOT NULL, n smallint CHECK (n > 0), parent int REFERENCES p DEFERRABLE INITIALLY DEFERRED,
    mood mood, price numeric(4, 1)); INSERT INTO t (id, name) VALUES (90, 'old')";

/// 2,000 rows, nine of which the target does not take: what each of them has is said by its id.
const ROWS: &str = "SELECT CASE value WHEN 70 THEN 71 WHEN 80 THEN 3000000000 ELSE value END AS id,
    CASE value WHEN 10 THEN NULL WHEN 20 THEN 'long' ELSE 'x' END AS name, CASE value WHEN 40 THEN 70000 WHEN 50 THEN -1 ELSE 1 END AS n,
    CASE value WHEN 60 THEN 99 ELSE 1 END AS parent, CASE value WHEN 100 THEN 'glad' ELSE 'ok' END AS mood,
    CASE value WHEN 110 THEN NULL ELSE 1.5 END AS price FROM generate_series(1, 2000)";

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_set_aside_with_their_reasons() {
    let server = &Postgres::start();
    scripted(server, TARGET);
    let folder = tempfile::tempdir().expect("a folder can be made");
    let session = embedded().await;
    done(&session, &[STAGES]).await;
    let file = folder.path().join("few.json");
    let few = copy(server, ROWS, &file, ", max_rejects 8, load 'monday'");
    let error =
        refused(&session, &few, &["does not take more than 8 rows", "max_rejects", "nothing was loaded", "few.json"])
            .await;
    assert!(error.contains("is NULL"), "a reason is named: {error}");
    assert_eq!(json_lines(&file).len(), 9, "the file of a load that fails has the rows up to the limit and one more");
    assert_eq!(scripted(server, "SELECT count(*) FROM t"), "1");
    assert_eq!(scripted(server, LEFT), "0");

    let folder = folder.path().join("rejects");
    let load = copy(server, ROWS, &folder, ", max_rejects 9, load 'monday'");
    assert_eq!(answers(&session, &load).await, "1991|9");
    assert_eq!(
        scripted(server, "SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE name = 'x') FROM t"),
        "1992|1992|1991"
    );
    assert_eq!(scripted(server, "SELECT rows FROM windlass_loads WHERE load = 'monday'"), "1991");
    assert_eq!(scripted(server, LEFT), "0");
    let lines = json_lines(&folder);
    let reason = |id: &str| {
        let of = lines.iter().find(|line| line["id"].as_str() == Some(id)).unwrap_or_else(|| panic!("{id}: {lines:?}"));
        of["reason"].as_str().expect("it has a reason").to_string()
    };
    for (id, words) in [
        ("10", "the column name: is NULL"),
        ("20", "value too long for type character varying(3)"),
        ("40", "\"70000\" is out of range for type smallint"),
        ("50", "violates check constraint \"t_n_check\""),
        ("60", "violates foreign key constraint"),
        ("71", "Key (id)=(71) already exists"),
        ("3000000000", "out of range for type integer"),
        ("90", "Key (id)=(90) already exists"),
        ("100", "invalid input value for enum mood: \"glad\""),
    ] {
        assert!(reason(id).contains(words), "{id}: {}", reason(id));
    }
    assert_eq!(lines.len(), 9);
    assert!(lines.iter().all(|line| !line["reason"].as_str().unwrap_or_default().contains("windlass")), "{lines:?}");
    let keys: Vec<&String> = lines[0].as_object().expect("it is an object").keys().collect();
    assert_eq!(keys.len(), 7, "all columns and the reason: {keys:?}");
    // They are a table.
    let read = format!("CREATE EXTERNAL TABLE again STORED AS JSON LOCATION '{}/'", folder.display());
    done(&session, &[&read]).await;
    assert_eq!(answers(&session, "SELECT count(*), count(name), min(n) FROM again WHERE reason <> ''").await, "9|8|-1");
    refused(&session, &load, &["the load 'monday' is in"]).await;
    // What is taken leaves no file.
    let none = folder.join("none.json");
    let good = "SELECT 5000 AS id, 'x' AS name";
    assert_eq!(answers(&session, &copy(server, good, &none, "")).await, "1|0");
    assert!(!none.exists());
}

/// Rows that are not even sent are rejected by loads that find rows by their key too, and many of them end a load early.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_sent_are_set_aside() {
    let server = &Postgres::start();
    scripted(
        server,
        "CREATE TABLE t (id int PRIMARY KEY, u uuid NOT NULL, f float8); INSERT INTO t VALUES (1, gen_random_uuid(), 0)",
    );
    let folder = tempfile::tempdir().expect("a folder can be made");
    let session = embedded().await;
    done(&session, &[STAGES]).await;
    let rows = "SELECT CAST(value AS INT) AS id, CASE value % 10 WHEN 3 THEN 'no' ELSE '00000000-0000-0000-0000-000000000000' END AS u, \
        CAST('NaN' AS DOUBLE) AS f FROM generate_series(1, 1000)";
    let file = folder.path().join("all.json");
    let load = copy(server, rows, &file, ", max_rejects 100, mode 'upsert'");
    assert_eq!(answers(&session, &load).await, "900|100");
    assert_eq!(scripted(server, "SELECT count(*), count(DISTINCT u) FROM t"), "900|1");
    let all = json_lines(&file);
    assert_eq!(all.len(), 100);
    let first = all.iter().find(|line| line["id"] == 3).expect("it is there");
    assert_eq!(first["reason"], "the column u: 'no' is no uuid");
    assert_eq!((&first["u"], &first["f"]), (&serde_json::json!("no"), &serde_json::json!("NaN")));
    let few = folder.path().join("few.json");
    refused(
        &session,
        &copy(server, rows, &few, ", max_rejects 5"),
        &["more than 5 rows", "'no' is no uuid", "few.json"],
    )
    .await;
    assert!(json_lines(&few).len() > 5, "rows and reasons are kept");
    assert_eq!(scripted(server, "SELECT count(*) FROM t"), "900");
    assert_eq!(scripted(server, LEFT), "0");
    let none = folder.path().join("none.json");
    refused(&session, &copy(server, rows, &none, ""), &["more than 0 rows"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_go_to_a_bucket_that_is_there() {
    let (server, store) = (&Postgres::start(), crate::s3::Server::start());
    scripted(server, TARGET);
    let cluster = store.cluster();
    let load = |place: &str| cluster.sql(&[&copy(server, ROWS, Path::new(place), ", max_rejects 9")]);
    let error = load("s3://nosuch/rejects/").expect_err("there is no such bucket");
    assert!(error.contains("the rejects of the load cannot be written to s3://nosuch/rejects/"), "{error}");
    assert_eq!(scripted(server, "SELECT count(*) FROM t"), "1");
    assert_eq!(load("s3://lake/rejects/").expect("it is loaded"), "count,rejected\n1991,9\n");
    let table = "create external table rejects stored as json location 's3://lake/rejects/'";
    assert_eq!(cluster.sql(&[table, "select count(reason) as n from rejects"]).expect("it is read"), "n\n9\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_options_are_refused() {
    let server = &Postgres::start();
    scripted(server, "CREATE TABLE t (id int, reason text)");
    let session = embedded().await;
    let place = Path::new("x.json");
    let one = "SELECT 1 AS id";
    let without =
        format!("COPY ({one}) TO '{}' STORED AS POSTGRES OPTIONS (table 't', max_rejects 5)", location(server));
    refused(&session, &without, &["'max_rejects' wants 'rejects'"]).await;
    refused(&session, &copy(server, one, place, ", max_rejects '-1'"), &["between 0 and 100000"]).await;
    refused(&session, &copy(server, one, Path::new("x.csv"), ""), &["lines of JSON", ".json"]).await;
    refused(&session, &copy(server, "SELECT 1 AS reason", place, ""), &["a column 'reason'"]).await;
    refused(&session, &create(server, "e", "t", ", rejects 'x.json'"), &["'rejects' is of one load"]).await;
    assert_eq!(scripted(server, "SELECT count(*) FROM t"), "0");
}

/// An executor that dies costs time: each row is in the target or in the file, once.
#[tokio::test(flavor = "multi_thread")]
async fn an_executor_dies_while_rows_are_set_aside() {
    let server = &Postgres::start();
    scripted(
        server,
        "CREATE TABLE source AS SELECT n, CASE WHEN n % 1000 = 7 THEN NULL ELSE repeat('x', 200) END AS pad,
         CASE WHEN n % 2000 = 8 THEN -1 ELSE 1 END AS c FROM generate_series(1, 60000) n; ANALYZE source;
         CREATE TABLE t (n int PRIMARY KEY, pad text NOT NULL, c int CHECK (c > 0))",
    );
    let folder = tempfile::tempdir().expect("a folder can be made");
    for step in 0..2 {
        let cluster = processes("3", &[]);
        let session = cluster.session().await;
        done(&session, &[STAGES, &create(server, "source", "source", "")]).await;
        let file = folder.path().join(format!("{step}.json"));
        let load = copy(server, "SELECT n, pad, c FROM source", &file, ", max_rejects 90");
        let begun = ["query LIKE 'COPY%FROM STDIN%'", "query LIKE 'COMMIT%'"][step];
        let begun =
            format!("SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'windlass' AND {begun}");
        let (loaded, ()) = tokio::join!(rows(&session, &load), async {
            let patience = std::time::Instant::now() + Duration::from_secs(5);
            while scripted(server, &begun) != "t" && std::time::Instant::now() < patience {}
            killed(cluster.executors[step]);
        });
        assert_eq!(loaded.as_deref(), Ok("59910|90"), "step {step}");
        assert_eq!(scripted(server, "SELECT count(*) FROM t"), "59910", "step {step}");
        let mut ids: Vec<i64> = json_lines(&file).iter().filter_map(|line| line["n"].as_i64()).collect();
        ids.sort_unstable();
        let mut wanted: Vec<i64> = (1..=60000).filter(|n| n % 1000 == 7 || n % 2000 == 8).collect();
        wanted.sort_unstable();
        assert_eq!(ids, wanted, "step {step}");
        until(server, LEFT, "0").await;
        scripted(server, "TRUNCATE t");
    }
}

/// A primary that dies: the rows and the file are there, or neither.
#[tokio::test(flavor = "multi_thread")]
async fn the_primary_dies_while_rows_are_set_aside() {
    let server = &Postgres::start();
    scripted(
        server,
        "CREATE TABLE t (id bigint PRIMARY KEY, name varchar(3)); CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END';
         CREATE TRIGGER slow AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION slowly()",
    );
    let rows = "SELECT value AS id, CASE value WHEN 500 THEN 'long' ELSE 'x' END AS name FROM generate_series(1, 1000)";
    let folder = tempfile::tempdir().expect("a folder can be made");
    for begun in ["query LIKE 'INSERT INTO%t%'", "query LIKE 'UPDATE%windlass_loads%'", "query = 'COMMIT'"] {
        let file = folder.path().join("rejects.json");
        let load = copy(server, rows, &file, ", max_rejects 1");
        let (_cluster, _) = primary_killed(server, &[], &load, begun).await;
        let loads = scripted(server, "SELECT count(*) FROM windlass_loads WHERE state = 'loaded'");
        let count = scripted(server, "SELECT count(*) FROM t");
        assert_eq!(count, if loads == "1" { "999" } else { "0" }, "{begun}");
        assert_eq!(file.exists(), loads == "1", "{begun}");
        if loads == "1" {
            assert_eq!(json_lines(&file).len(), 1, "{begun}");
            std::fs::remove_file(&file).expect("it can be removed");
        }
        scripted(server, "TRUNCATE t, windlass_loads");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loads_of_one_name_come_one_after_the_other() {
    let server = &Postgres::start();
    scripted(server, "CREATE TABLE t (id int PRIMARY KEY, name varchar(3))");
    let query = "SELECT value AS id, 'x' AS name FROM generate_series(1, 3000)";
    let load = |name: &str, file: &Path| copy(server, query, file, &format!(", max_rejects 50, load '{name}'"));
    asking::loads_of_one_name_come_one_after_the_other(load, |query| scripted(server, query)).await;
}

#[test]
fn the_command_line_sets_rows_aside() {
    let server = &Postgres::start();
    scripted(server, "CREATE TABLE zip (id text PRIMARY KEY, amount numeric(6, 2))");
    rows_are_set_aside_from_the_command_line(&location(server), |query| scripted(server, query));
}

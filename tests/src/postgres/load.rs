//! Loads: rows that are replaced, loads that have a name, and the command line.

use super::write::primary_killed;
use super::*;
use crate::cluster::{run, windlass};

fn copy(server: &Postgres, query: &str, table: &str, more: &str) -> String {
    format!("COPY ({query}) TO '{}' STORED AS POSTGRES OPTIONS (table '{table}'{more})", location(server))
}

/// What INSERT does not list gets the server's default.
#[tokio::test(flavor = "multi_thread")]
async fn columns_that_are_left_out_get_the_servers_defaults() {
    let server = &Postgres::start();
    scripted(server, "CREATE TABLE t (id serial PRIMARY KEY, x text DEFAULT 'usual', n numeric(10, 1) NOT NULL)");
    let session = embedded().await;
    done(&session, &[STAGES, &create(server, "t", "t", "")]).await;
    done(&session, &["INSERT INTO t (n, id) VALUES (1.5, 100)", "INSERT INTO t (n) SELECT 2.5"]).await;
    done(
        &session,
        &["INSERT INTO t VALUES (200, NULL, 3.5)", "PREPARE p AS INSERT INTO t (n) VALUES ($1)", "EXECUTE p(4.5)"],
    )
    .await;
    let rows = scripted(server, "SELECT id, coalesce(x, 'nothing'), n FROM t ORDER BY n");
    assert_eq!(rows, "100|usual|1.5\n1|usual|2.5\n200|nothing|3.5\n2|usual|4.5");
    refused(&session, "INSERT INTO t (x) VALUES ('a')", &["column", "\"n\""]).await;
    let catalog = format!("CREATE CATALOG c STORED AS POSTGRES LOCATION '{}'", location(server));
    done(&session, &[&catalog, "INSERT INTO c.public.t (n) VALUES (5.5)"]).await;
    assert_eq!(scripted(server, "SELECT x FROM t WHERE n = 5.5"), "usual");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_replaced_all_or_by_their_key() {
    let server = &Postgres::start();
    scripted(
        server,
        "CREATE TABLE t (id int PRIMARY KEY, v text, kept text DEFAULT 'kept'); INSERT INTO t SELECT n, 'old' FROM generate_series(1, 5000) n;
         CREATE TABLE free (id int, v text); CREATE TABLE pair (a int, b int, v text, UNIQUE (b, a))",
    );
    let session = embedded().await;
    done(
        &session,
        &[STAGES, "CREATE TABLE s AS SELECT CAST(value AS INT) AS id, 'new' AS v FROM generate_series(4001, 6000)"],
    )
    .await;
    let count = "SELECT count(*), count(*) FILTER (WHERE v = 'new'), count(kept) FROM t";
    done(&session, &[&copy(server, "SELECT * FROM s", "t", ", mode 'upsert'")]).await;
    assert_eq!(scripted(server, count), "6000|2000|6000");
    let twice = "SELECT * FROM s UNION ALL SELECT id, 'other' FROM s WHERE id = 5000";
    refused(&session, &copy(server, twice, "t", ", mode 'upsert'"), &["two rows of the load", "(id)"]).await;
    let empty = "SELECT CAST(NULL AS INT) AS id, 'x' AS v";
    refused(&session, &copy(server, empty, "t", ", mode 'upsert'"), &["null value in column \"id\""]).await;
    refused(&session, &copy(server, "SELECT * FROM s", "free", ", mode 'upsert'"), &["no primary key", "key"]).await;
    refused(&session, &copy(server, "SELECT * FROM s", "t", ", mode 'upsert', key 'w'"), &["'w'", "rows do not have"])
        .await;
    refused(&session, &copy(server, "SELECT * FROM s", "t", ", mode 'other'"), &["append, replace, upsert, merge"])
        .await;
    assert_eq!(scripted(server, count), "6000|2000|6000", "nothing of these");
    done(&session, &[&copy(server, "SELECT 1 AS a, 2 AS b, 'x' AS v", "pair", ", mode 'upsert', key 'a, b'")]).await;
    done(&session, &[&copy(server, "SELECT 1 AS a, 2 AS b, 'y' AS v", "pair", ", mode 'upsert', key 'a, b'")]).await;
    assert_eq!(scripted(server, "SELECT * FROM pair"), "1|2|y");
    // A target that is created gets the key.
    refused(&session, &copy(server, "SELECT * FROM s", "made", ", mode 'upsert'"), &["is told the key"]).await;
    for _ in 0..2 {
        done(&session, &[&copy(server, "SELECT * FROM s", "made", ", mode 'upsert', key 'id'")]).await;
    }
    assert_eq!(scripted(server, "SELECT count(*) FROM made"), "2000");

    done(&session, &[&copy(server, "SELECT * FROM s WHERE id > 5990", "t", ", mode 'replace'")]).await;
    assert_eq!(scripted(server, count), "10|10|10");
    done(&session, &[&create(server, "t", "t", ""), "INSERT OVERWRITE t SELECT 7, 'seven', NULL"]).await;
    assert_eq!(scripted(server, "SELECT * FROM t"), "7|seven|");
    refused(&session, "INSERT OVERWRITE t SELECT 1 / (id - 5000), v, v FROM s", &["zero"]).await;
    assert_eq!(scripted(server, "SELECT * FROM t"), "7|seven|", "they are replaced all or not at all");
    let left =
        "SELECT count(*) FROM pg_class WHERE relname LIKE 'windlass\\_%\\_%' AND relname NOT LIKE 'windlass_loads%'";
    assert_eq!(scripted(server, left), "0");
}

/// Upsert replaces whole rows and merge the columns of the load, with a unique index of the key or without one.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_merged_by_their_key() {
    let server = &Postgres::start();
    scripted(
        server,
        "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE t (id int PRIMARY KEY, n serial, v text, kept text DEFAULT 'usual', twice int GENERATED ALWAYS AS (id * 2) STORED);
         INSERT INTO t (id, v, kept) SELECT n, 'old', 'own' FROM generate_series(1, 10) n;
         CREATE TABLE child (id int REFERENCES t ON DELETE CASCADE); INSERT INTO child VALUES (5);
         CREATE TABLE many (a int, b text COLLATE blind, v text, w text); CREATE TABLE late (a int PRIMARY KEY DEFERRABLE, v text)",
    );
    let session = embedded().await;
    done(&session, &[STAGES]).await;
    let load = |query: &str, table: &str, more: &str| copy(server, query, table, &format!(", mode '{more}"));
    let rows = "SELECT count(*), sum(n), count(*) FILTER (WHERE v = 'new'), string_agg(DISTINCT kept, ' ') FROM t";
    let new = "SELECT CAST(value AS INT) AS id, 'new' AS v FROM generate_series(10, 11)";
    done(&session, &[&load(new, "t", "merge'")]).await;
    // The server counts up for rows that meet others, too: the eleventh has the number 12.
    assert_eq!(scripted(server, rows), "11|67|2|own usual");
    assert_eq!(scripted(server, "SELECT kept, n FROM t WHERE id = 10"), "own|10");
    let other = "SELECT CAST(value AS INT) AS id, 'new' AS v FROM generate_series(1, 10)";
    done(&session, &[&load(other, "t", "upsert'")]).await;
    assert_eq!(scripted(server, rows), "11|67|11|usual", "numbers that the server counts stay");
    assert_eq!(scripted(server, "SELECT count(*) FROM child"), "1", "a row that is updated is not deleted");
    // The index of the key is checked late, or there is none.
    done(
        &session,
        &[&load("SELECT 1 AS a, 'x' AS v", "late", "merge'"), &load("SELECT 1 AS a, 'y' AS v", "late", "upsert'")],
    )
    .await;
    assert_eq!(scripted(server, "SELECT * FROM late"), "1|y");
    scripted(
        server,
        "INSERT INTO many VALUES (1, 'x', 'old', 'w'), (1, 'x', 'old', 'w'), (NULL, 'x', 'old', 'w'), (2, 'y', 'old', 'w')",
    );
    let rows = "SELECT coalesce(a::text, '-'), b, v, coalesce(w, '-') FROM many ORDER BY 1, b COLLATE \"C\", 3";
    let new = "SELECT 1 AS a, 'X' AS b, 'new' AS v UNION ALL SELECT NULL, 'x', 'new' UNION ALL SELECT NULL, 'x', 'new' UNION ALL SELECT 3, 'z', 'new'";
    done(&session, &[&load(new, "many", "merge', key 'a, b'")]).await;
    let merged = "-|x|new|-\n-|x|new|-\n-|x|old|w\n1|x|new|w\n1|x|new|w\n2|y|old|w\n3|z|new|-";
    assert_eq!(scripted(server, rows), merged);
    done(&session, &[&load("SELECT 1 AS a, 'X' AS b", "many", "upsert', key 'a, b'")]).await;
    assert_eq!(scripted(server, "SELECT b, coalesce(v, '-'), coalesce(w, '-') FROM many WHERE a = 1"), "X|-|-");
    let twice = "SELECT 1 AS a, 'X' AS b, 'new' AS v UNION ALL SELECT 1, 'x', 'new'";
    for mode in ["upsert', key 'a, b'", "merge', key 'a, b'"] {
        refused(&session, &load(twice, "many", mode), &["two rows of the load have the same key (a, b) = (1, "]).await;
    }
    let same = "SELECT 1 AS id, 'x' AS v UNION ALL SELECT 1, 'y'";
    refused(&session, &load(same, "t", "merge'"), &["two rows of the load have the same key (id)"]).await;
    let left =
        "SELECT count(*) FROM pg_class WHERE relname LIKE 'windlass\\_%\\_%' AND relname NOT LIKE 'windlass_loads%'";
    assert_eq!(scripted(server, left), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_with_a_name_is_loaded_once() {
    let server = &Postgres::start();
    // As an earlier release made it.
    scripted(
        server,
        "CREATE TABLE windlass_loads (write text PRIMARY KEY, target text NOT NULL, state text NOT NULL, rows bigint,
         changed timestamptz NOT NULL DEFAULT now()); CREATE TABLE t (n bigint)",
    );
    let session = embedded().await;
    let load = copy(server, "SELECT value AS n FROM generate_series(1, 1000)", "t", ", load 'monday'");
    loaded_once(&session, &load, |query| scripted(server, query)).await;
    refused(&session, &create(server, "x", "t", ", load 'a'"), &["'load' names one load"]).await;
    let states = "SELECT count(*), min(state) FROM windlass_loads WHERE state <> 'loaded'";
    assert_eq!(scripted(server, states), "0|");
}

/// A primary that dies at any step: each row is there once, and none of those that were replaced.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_replace_others_are_there_once_though_the_primary_dies() {
    let server = &Postgres::start();
    let target = "DROP TABLE IF EXISTS target; CREATE TABLE target (n int, pad text, kept int DEFAULT 0); \
         INSERT INTO target SELECT n, 'old', 1 FROM generate_series(10001, 30000) n";
    scripted(
        server,
        "CREATE TABLE source AS SELECT n, repeat('x', 200) AS pad FROM generate_series(1, 20000) n; ANALYZE source",
    );
    scripted(server, target);
    let source = create(server, "source", "source", "");
    let state = "SELECT count(*), count(DISTINCT n), count(*) FILTER (WHERE pad <> 'old'), sum(kept) FROM target";
    let (before, replaced) = ("20000|20000|0|20000", "20000|20000|20000|0");
    let (upserted, merged) = ("30000|30000|20000|10000", "30000|30000|20000|20000");
    let load = |mode: &str| copy(server, "SELECT n, pad FROM source", "target", &format!(", mode {mode}, load 'once'"));
    for (mode, is_unique, after, begun) in [
        ("'replace'", false, replaced, "query LIKE 'DELETE FROM%target%'"),
        ("'merge'", true, merged, "query LIKE 'COPY%FROM STDIN%'"),
        ("'merge'", true, merged, "query LIKE 'INSERT INTO%ON CONFLICT%'"),
        ("'merge', key 'n'", false, merged, "query LIKE 'UPDATE%target% AS t SET%'"),
        ("'upsert', key 'n'", false, upserted, "query LIKE 'DELETE FROM%USING%'"),
        ("'upsert'", true, upserted, "query LIKE 'UPDATE%windlass_loads%'"),
        ("'merge'", true, merged, "query = 'COMMIT'"),
    ] {
        if is_unique {
            scripted(server, "ALTER TABLE target ADD PRIMARY KEY (n)");
        }
        let (_cluster, session) = primary_killed(server, &[&source], &load(mode), begun).await;
        let loads = scripted(server, "SELECT count(*) FROM windlass_loads WHERE state = 'loaded'");
        assert_eq!(
            scripted(server, state),
            if loads == "1" { after } else { before },
            "{mode}, {begun}: {loads} loads"
        );
        // Who does not know how it ended loads it again.
        let again = sql(&session, &load(mode)).await;
        assert_eq!(again.is_err(), loads == "1", "{mode}, {begun}: {again:?}");
        assert_eq!(scripted(server, state), after, "{mode}, {begun}");
        scripted(server, target);
        scripted(server, "TRUNCATE windlass_loads");
    }
}

/// The command line builds these statements, and guesses nothing about text.
#[test]
fn files_are_loaded_from_the_command_line() {
    let server = &Postgres::start();
    scripted(server, "CREATE TABLE zip (id text PRIMARY KEY, name varchar(3), amount numeric(20, 2))");
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("z.csv").display().to_string();
    std::fs::write(&file, "id,name,amount\n007,a,12345678901234567.89\n010,b,\n").expect("a file can be written");
    let (into, out) = (location(server), folder.path().join("out.csv").display().to_string());
    let copied = |arguments: &[&str]| run(windlass(&[&["copy"], arguments].concat()));
    let load = [&file, "--into", &into, "--table", "zip", "--mode", "upsert", "--load-id", "first"];
    let planned = copied(&[&load[..], &["--dry-run"]].concat()).expect("it is explained");
    assert!(planned.contains("SinkExec: POSTGRES, table=\"public\".\"zip\", mode=upsert, key=[id]"), "{planned}");
    assert_eq!(scripted(server, "SELECT count(*) FROM zip"), "0");
    copied(&load).expect("it is loaded");
    assert_eq!(scripted(server, "SELECT * FROM zip ORDER BY id"), "007|a|12345678901234567.89\n010|b|");
    assert!(copied(&load).expect_err("it is there").contains("the load 'first' is in"));
    copied(&["SELECT 1 + 1 AS n, 'x' AS c -- a comment", "--into", &into, "--table", "made"]).expect("it is loaded");
    assert_eq!(scripted(server, "SELECT * FROM made"), "2|x");
    copied(&["select 2 as n", "--into", &out]).expect("it is written");
    assert_eq!(std::fs::read_to_string(&out).expect("it is there"), "n\n2\n");
    let wrong = copied(&[&file, "--into", &into, "--table", "made"]).expect_err("it has other columns");
    assert!(wrong.contains("id"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_tables_and_keys_are_those_that_quotes_hold() {
    let server = &Postgres::start();
    scripted(server, r#"CREATE TABLE "we""ird" ("a,b" text PRIMARY KEY, n int)"#);
    let session = embedded().await;
    let catalog = format!("CREATE CATALOG c STORED AS POSTGRES LOCATION '{}'", location(server));
    done(&session, &[&catalog, r#"COPY (SELECT 'x' AS "a,b", 1 AS n) INTO c.public."we""ird""#]).await;
    let merge = |row: &str| format!(r#"COPY ({row}) INTO c.public."we""ird" OPTIONS (mode 'merge', key '"a,b"')"#);
    done(&session, &[&merge(r#"SELECT 'x' AS "a,b", 2 AS n UNION ALL SELECT 'y', 3"#)]).await;
    let merged = r#"SELECT "a,b", n FROM "we""ird" ORDER BY 1"#;
    assert_eq!(scripted(server, merged), "x|2\ny|3");
    refused(&session, &merge("SELECT 2 AS n"), &["column 'a,b'", "rows do not have"]).await;
}

/// Who interrupts a load whose rows are being published hears how it ends, and does not load them twice.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_that_comes_too_late_is_told_so() {
    let server = &Postgres::start();
    scripted(
        server,
        "CREATE TABLE target (n bigint); CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN PERFORM pg_sleep(1); RETURN NULL; END';
         CREATE TRIGGER slow AFTER INSERT ON target FOR EACH STATEMENT EXECUTE FUNCTION slowly()",
    );
    let load = copy(server, "SELECT value AS n FROM generate_series(1, 1000)", "target", "");
    let mut command = windlass(&["sql", "--format", "csv", "-e", &load, "-e", "SELECT 'next'"]);
    let command = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let process = command.spawn().expect("it starts");
    let moving =
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE 'INSERT INTO%target%' AND wait_event = 'PgSleep'";
    until(server, moving, "t").await;
    let mut kill = std::process::Command::new("kill");
    kill.args(["-INT", &process.id().to_string()]);
    crate::cluster::succeed(kill);
    let ended = process.wait_with_output().expect("it ends");
    let (printed, said) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(said.contains("being published") && said.contains("too late"), "{said}");
    assert_eq!((printed.as_ref(), ended.status.code()), ("count\n1000\n", Some(130)), "{said}");
    assert_eq!(scripted(server, "SELECT count(*) FROM target"), "1000");
}

/// A text that the server does not cast: the error names the column and the first such row, and nothing is loaded.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_does_not_fit_is_named_with_its_column_and_row() {
    let server = &Postgres::start();
    scripted(server, "CREATE TABLE target (id int, small smallint, day date)");
    let session = embedded().await;
    let of = |column: &str, wrong: &str, right: &str| {
        let value = format!("CASE WHEN value IN (4321, 70000) THEN '{wrong}' ELSE '{right}' END AS {column}");
        copy(server, &format!("SELECT value AS id, {value} FROM generate_series(1, 80000)"), "target", "")
    };
    refused(&session, &of("small", "x1000", "5"), &["\"x1000\"", "column \"small\" of the row (4321,x1000)"]).await;
    refused(&session, &of("day", "gestern", "2024-02-29"), &["column \"day\" of the row (4321,gestern)"]).await;
    assert_eq!(scripted(server, "SELECT count(*) FROM target"), "0");
}

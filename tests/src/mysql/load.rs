//! Loads: rows that are replaced or merged, loads that have a name, and the command line.

use super::write::{LEFT, primary_killed};
use super::*;
use crate::cluster::{killed, run, windlass};

fn copy(server: &MariaDb, query: &str, table: &str, more: &str) -> String {
    format!("COPY ({query}) TO '{}' STORED AS MYSQL OPTIONS (table '{table}'{more})", location(server))
}

/// What INSERT does not list gets the server's default.
#[tokio::test(flavor = "multi_thread")]
async fn columns_that_are_left_out_get_the_servers_defaults() {
    let server = &MariaDb::start();
    scripted(
        server,
        "CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY, x text DEFAULT 'usual', n decimal(10, 1) NOT NULL)",
    );
    let session = embedded().await;
    done(&session, &[STAGES, &create(server, "t", "t", "")]).await;
    done(&session, &["INSERT INTO t (n, id) VALUES (1.5, 100)", "INSERT INTO t (n) SELECT 2.5"]).await;
    done(&session, &["INSERT INTO t VALUES (200, NULL, 3.5)"]).await;
    let rows = scripted(server, "SELECT id, ifnull(x, 'nothing'), n FROM t ORDER BY n");
    assert_eq!(rows, "100|usual|1.5\n101|usual|2.5\n200|nothing|3.5");
    refused(&session, "INSERT INTO t (x) VALUES ('a')", &["'n'"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_replaced_all_or_by_their_key() {
    let server = &MariaDb::start();
    scripted(
        server,
        "CREATE TABLE t (id int PRIMARY KEY, v text, kept varchar(9) DEFAULT 'usual', twice int AS (id * 2) STORED);
         INSERT INTO t (id, v, kept) SELECT seq, 'old', 'own' FROM seq_1_to_5000;
         CREATE TABLE pair (n int AUTO_INCREMENT PRIMARY KEY, a int, b varchar(40), v text, w text, UNIQUE (b, a)); CREATE TABLE many (a int, b text, v text);
         CREATE TABLE child (id int, FOREIGN KEY (id) REFERENCES t (id) ON DELETE CASCADE); INSERT INTO child VALUES (4500)",
    );
    let session = embedded().await;
    done(
        &session,
        &[STAGES, "CREATE TABLE s AS SELECT CAST(value AS INT) AS id, 'new' AS v FROM generate_series(4001, 6000)"],
    )
    .await;
    let count = "SELECT count(*), sum(v = 'new'), sum(kept = 'own'), sum(kept = 'usual') FROM t";
    let upsert = |query: &str, table: &str, more: &str| copy(server, query, table, &format!(", mode 'upsert'{more}"));
    let merge = |query: &str, table: &str, more: &str| copy(server, query, table, &format!(", mode 'merge'{more}"));
    done(&session, &[&upsert("SELECT * FROM s", "t", "")]).await;
    assert_eq!(scripted(server, count), "6000|2000|4000|2000", "columns that the load lacks have their defaults");
    assert_eq!(scripted(server, "SELECT count(*) FROM child"), "1", "a row that is updated is not deleted");
    done(&session, &[&merge("SELECT id - 2000 AS id, v FROM s", "t", "")]).await;
    assert_eq!(scripted(server, count), "6000|4000|4000|2000", "columns that the load lacks are kept");
    done(&session, &[&merge("SELECT id FROM s WHERE id > 5990 UNION ALL SELECT 7000", "t", "")]).await;
    assert_eq!(scripted(server, count), "6001|4000|4000|2001");
    scripted(server, "DELETE FROM t WHERE id = 7000");
    let twice = "SELECT * FROM s UNION ALL SELECT id, 'other' FROM s WHERE id = 5000";
    for mode in ["upsert", "merge"] {
        let refused = async |query: &str, table: &str, more: &str, words: &[&str]| {
            refused(&session, &copy(server, query, table, &format!(", mode '{mode}'{more}")), words).await;
            assert_eq!(scripted(server, LEFT), "0", "{query}");
        };
        refused(twice, "t", "", &["two rows of the load have the same key (id) = (5000)"]).await;
        refused("SELECT CAST(NULL AS INT) AS id, 'x' AS v", "t", "", &["id"]).await;
        refused("SELECT 1 AS a", "many", "", &["no primary key", "key"]).await;
        refused("SELECT v FROM s", "t", "", &["the rows have no column id"]).await;
        refused("SELECT * FROM s", "t", ", key 'w'", &["'w'", "rows do not have"]).await;
        refused("SELECT * FROM s", "made", "", &["is told the key"]).await;
    }
    refused(&session, &copy(server, "SELECT * FROM s", "t", ", mode 'other'"), &["append, replace, upsert, merge"])
        .await;
    assert_eq!(scripted(server, count), "6000|4000|4000|2000", "nothing of these");

    // A unique key whose texts are equal without being the same.
    let of_pair = ", key 'a, b'";
    done(&session, &[&upsert("SELECT 1 AS a, 'x' AS b, 'first' AS v, 'w' AS w", "pair", of_pair)]).await;
    done(&session, &[&merge("SELECT 1 AS a, 'X' AS b, 'second' AS v", "pair", of_pair)]).await;
    assert_eq!(scripted(server, "SELECT * FROM pair"), "1|1|X|second|w");
    done(&session, &[&upsert("SELECT 1 AS a, 'x' AS b, 'third' AS v", "pair", of_pair)]).await;
    assert_eq!(scripted(server, "SELECT * FROM pair"), "1|1|x|third|NULL", "its number stays");
    let equal = "SELECT 1 AS a, 'x' AS b UNION ALL SELECT 1, 'X'";
    refused(&session, &merge(equal, "pair", of_pair), &["two rows of the load", "(a, b) = (1, "]).await;

    // Without a unique index, with keys that are there more than once, and with NULLs, which match nothing.
    let of_many = ", key 'a, b'";
    let rows = "SELECT a, b, v FROM many ORDER BY a, b, v";
    scripted(server, "INSERT INTO many VALUES (1, 'x', 'old'), (1, 'x', 'old'), (NULL, 'x', 'old'), (2, 'y', 'old')");
    let new = "SELECT 1 AS a, 'x' AS b, 'new' AS v UNION ALL SELECT NULL, 'x', 'new' UNION ALL SELECT NULL, 'x', 'new' UNION ALL SELECT 3, 'z', 'new'";
    done(&session, &[&merge(new, "many", of_many)]).await;
    let merged = "NULL|x|new\nNULL|x|new\nNULL|x|old\n1|x|new\n1|x|new\n2|y|old\n3|z|new";
    assert_eq!(scripted(server, rows), merged);
    done(&session, &[&upsert("SELECT 1 AS a, 'x' AS b", "many", of_many)]).await;
    assert_eq!(scripted(server, rows), merged.replace("1|x|new\n1|x|new", "1|x|NULL"));
    // A hundred thousand rows against as many, without any index: not each with each.
    scripted(server, "TRUNCATE many; INSERT INTO many SELECT seq, concat('key ', seq), 'old' FROM seq_1_to_100000");
    let large = "SELECT value AS a, 'key ' || value AS b, 'new' AS v FROM generate_series(50001, 150000)";
    done(&session, &[&merge(large, "many", of_many), &upsert(large, "many", of_many)]).await;
    assert_eq!(
        scripted(server, "SELECT count(*), sum(v = 'new'), count(DISTINCT a) FROM many"),
        "150000|100000|150000"
    );

    // A target that is created gets the key.
    let named = "SELECT id, v || id AS name FROM s";
    for mode in [upsert(named, "made", ", key 'name'"), merge(named, "made", ", key 'name'")] {
        done(&session, &[&mode]).await;
    }
    assert_eq!(scripted(server, "SELECT count(*), count(DISTINCT id) FROM made"), "2000|2000");
    let known =
        "SELECT COLUMN_NAME FROM information_schema.STATISTICS WHERE TABLE_NAME = 'made' AND INDEX_NAME = 'PRIMARY'";
    assert_eq!(scripted(server, known), "name");
    let plan = sql(&session, &format!("EXPLAIN {}", merge(named, "made", ""))).await.expect("it is explained");
    assert!(plan.contains("SinkExec: MYSQL, table=`shop`.`made`, mode=merge, key=[name]"), "{plan}");

    done(&session, &[&copy(server, "SELECT * FROM s WHERE id > 5990", "t", ", mode 'replace'")]).await;
    assert_eq!(scripted(server, count), "10|10|0|10");
    done(&session, &[&create(server, "t", "t", ""), "INSERT OVERWRITE t (id, v) SELECT 7, 'seven'"]).await;
    assert_eq!(scripted(server, "SELECT * FROM t"), "7|seven|usual|14");
    refused(&session, "INSERT OVERWRITE t (id, v) SELECT 1 / (id - 5000), v FROM s", &["zero"]).await;
    assert_eq!(scripted(server, "SELECT * FROM t"), "7|seven|usual|14", "they are replaced all or not at all");
    assert_eq!(scripted(server, LEFT), "0");
    until(server, &format!("SELECT count(*) {SESSIONS}"), "0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_with_a_name_is_loaded_once() {
    let server = &MariaDb::start();
    // As an earlier release made it.
    scripted(
        server,
        "CREATE TABLE windlass_loads (`write` varchar(64) CHARACTER SET ascii PRIMARY KEY, `target` text CHARACTER SET utf8mb4 NOT NULL,
         `state` varchar(16) CHARACTER SET ascii NOT NULL, `rows` bigint,
         `changed` timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP) ENGINE = InnoDB; CREATE TABLE t (n bigint)",
    );
    let session = embedded().await;
    let load = copy(server, "SELECT value AS n FROM generate_series(1, 1000)", "t", ", load 'monday'");
    loaded_once(&session, &load, |query| scripted(server, query)).await;
    refused(&session, &create(server, "x", "t", ", load 'a'"), &["'load' names one load"]).await;
    assert_eq!(scripted(server, "SELECT count(*) FROM windlass_loads WHERE state <> 'loaded'"), "0");
    assert_eq!(scripted(server, LEFT), "0");
}

/// Whoever dies at any step: each row is there once, and none of those that were replaced.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_replace_others_are_there_once_whoever_dies() {
    let server = &MariaDb::start();
    let target = "DROP TABLE IF EXISTS target; CREATE TABLE target (n int PRIMARY KEY, pad text, kept int DEFAULT 0) AS \
         SELECT seq AS n, 'old' AS pad, 1 AS kept FROM seq_10001_to_30000";
    scripted(
        server,
        "CREATE TABLE source (n int PRIMARY KEY, pad varchar(200)) AS SELECT seq AS n, repeat('x', 200) AS pad FROM seq_1_to_20000;
         ANALYZE TABLE source",
    );
    scripted(server, target);
    let source = create(server, "source", "source", ", snapshot 'locked'");
    let state = "SELECT count(*), count(DISTINCT n), sum(pad <> 'old'), sum(kept) FROM target";
    let (before, replaced) = ("20000|20000|0|20000", "20000|20000|20000|0");
    let (upserted, merged) = ("30000|30000|20000|10000", "30000|30000|20000|20000");
    let load =
        |mode: &str| copy(server, "SELECT n, pad FROM source", "target", &format!(", mode '{mode}', load 'once'"));
    for (mode, after, begun) in [
        ("replace", replaced, "INFO LIKE 'DELETE FROM%target%'"),
        ("upsert", upserted, "INFO LIKE 'UPDATE%AS t JOIN%'"),
        ("merge", merged, "INFO LIKE 'LOAD DATA%'"),
        ("merge", merged, "INFO LIKE 'UPDATE%AS t JOIN%'"),
        ("merge", merged, "INFO LIKE 'INSERT INTO%target%'"),
        ("merge", merged, "INFO LIKE 'UPDATE%windlass_loads%'"),
        ("merge", merged, "INFO = 'COMMIT'"),
    ] {
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
    for (at, (mode, after)) in [("replace", replaced), ("merge", merged), ("upsert", upserted)].into_iter().enumerate()
    {
        let cluster = processes("3", &[]);
        let session = cluster.session().await;
        done(&session, &[STAGES, &source]).await;
        let begun = format!("SELECT count(*) > 0 {SESSIONS} AND INFO LIKE 'LOAD DATA%'");
        let statement = load(mode);
        let (loaded, ()) = tokio::join!(sql(&session, &statement), async {
            let patience = std::time::Instant::now() + Duration::from_secs(5);
            while scripted(server, &begun) != "1" && std::time::Instant::now() < patience {}
            killed(cluster.executors[at]);
        });
        assert!(loaded.is_ok(), "{mode}: {loaded:?}");
        assert_eq!(scripted(server, state), after, "{mode}");
        until(server, LEFT, "0").await;
        scripted(server, target);
        scripted(server, "TRUNCATE windlass_loads");
    }
}

/// The command line builds these statements, and guesses nothing about text.
#[test]
fn files_are_loaded_from_the_command_line() {
    let server = &MariaDb::start();
    scripted(
        server,
        "CREATE TABLE zip (id varchar(5) PRIMARY KEY, name varchar(3), amount decimal(20, 2), kept int DEFAULT 1)",
    );
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("z.csv").display().to_string();
    std::fs::write(&file, "id,name,amount\n007,a,12345678901234567.89\n010,b,\n").expect("a file can be written");
    let into = location(server);
    let copied = |arguments: &[&str]| run(windlass(&[&["copy"], arguments].concat()));
    let load = [&file, "--into", &into, "--table", "zip", "--mode", "merge", "--load-id", "first"];
    let planned = copied(&[&load[..], &["--dry-run"]].concat()).expect("it is explained");
    assert!(planned.contains("SinkExec: MYSQL, table=`shop`.`zip`, mode=merge, key=[id]"), "{planned}");
    assert_eq!(scripted(server, "SELECT count(*) FROM zip"), "0");
    scripted(server, "INSERT INTO zip VALUES ('007', 'old', 0, 7)");
    copied(&load).expect("it is loaded");
    assert_eq!(scripted(server, "SELECT * FROM zip ORDER BY id"), "007|a|12345678901234567.89|7\n010|b|NULL|1");
    assert!(copied(&load).expect_err("it is there").contains("the load 'first' is in"));
    let wrong =
        copied(&[&file, "--into", &into, "--table", "zip", "--mode", "odd"]).expect_err("there is no such mode");
    assert!(wrong.contains("merge"), "{wrong}");
}

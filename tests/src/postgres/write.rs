//! Writing: each row once, whoever dies, or none.

use super::*;
use crate::asking;
use crate::cluster::killed;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

pub(super) const LEFT: &str =
    "SELECT count(*) FROM pg_class WHERE relname LIKE 'windlass\\_%\\_%' AND relname NOT LIKE 'windlass_loads%'";

/// What is written is what is read again, of every type.
#[tokio::test(flavor = "multi_thread")]
async fn every_type_is_written() {
    let server = &Postgres::start();
    let columns = "n int PRIMARY KEY, a_bool bool, a_int2 int2, a_int8 int8, a_oid oid, a_float4 float4, a_float8 float8, \
        a_numeric numeric(10, 3), a_wide numeric(60, 5), a_free numeric, a_text text, a_varchar varchar(5), a_char char(4), a_name name, \
        a_bytea bytea, a_date date, a_time time, a_timetz timetz, a_stamp timestamp, a_tz timestamptz, an_interval interval, a_uuid uuid, \
        a_json json, a_jsonb jsonb, a_mood mood, a_domain positive, ints int[], texts varchar(3)[], moods mood[], numbers numeric(5,1)[], \
        a_range int4range, an_inet inet, a_bit bit(3)";
    scripted(
        server,
        &format!(
            "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN positive AS numeric(6, 2) CHECK (value > 0);
             CREATE TABLE source ({columns}); CREATE TABLE target ({columns});
             INSERT INTO source VALUES (1, true, -32768, -9223372036854775808, 4294967295, 1.5, -1.7976931348623157e308, -9999999.999,
             -123456789012345678901234567890123456789012345678901.12345, 1234567890.0123456789, 'ü''\"\n', 'abcde', 'ab', 'a_name',
             '\\x00ff', '4713-01-01 BC', '23:59:59.999999', '10:00:00+02', '4713-01-01 00:00:00 BC', '2024-02-29 12:00:00+02',
             '1 year 2 mons -3 days 04:05:06.789', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '{{\"a\": 1}}', '{{\"b\":  2}}', 'ok', 1.25,
             '{{1,NULL,3}}', '{{a,\"b c\"}}', '{{sad,ok}}', '{{1.5,NULL}}', '[1,5)', '10.0.0.1/8', '101'),
             (2, false, 32767, 9223372036854775807, 0, 'NaN', 'Infinity', 9999999.999, 0, 0.0000000000, '', '', '', '', '', '9999-12-31', '00:00:00',
             '00:00:00-12', '9999-12-31 23:59:59.999999', '0001-01-01 00:00:00+00', '-178000000 years',
             '00000000-0000-0000-0000-000000000000', '1', 'null', 'sad', 9999.99, '{{}}', '{{}}', '{{}}', '{{}}', 'empty', '::1', '000'),
             (3, {})",
            vec!["NULL"; 32].join(", ")
        ),
    );
    let session = embedded().await;
    done(&session, &[STAGES, &create(server, "source", "source", ""), &create(server, "target", "target", "")]).await;
    done(&session, &["INSERT INTO target SELECT * FROM source"]).await;
    let differ = "SELECT count(*) FROM source s FULL JOIN target t USING (n) WHERE s::text IS DISTINCT FROM t::text";
    assert_eq!(scripted(server, differ), "0");
    assert_eq!(scripted(server, "SELECT count(*) FROM target"), "3");
    assert_eq!(scripted(server, LEFT), "0");
    assert_eq!(scripted(server, "SELECT count(*), sum(rows), min(state) FROM windlass_loads"), "1|3|loaded");
    // Beside columns that are not named, the server's defaults.
    scripted(
        server,
        "CREATE TABLE numbered (id serial PRIMARY KEY, name text NOT NULL, twice int GENERATED ALWAYS AS (length(name) * 2) STORED)",
    );
    let some = format!(
        "CREATE EXTERNAL TABLE numbered (name VARCHAR) STORED AS POSTGRES LOCATION '{}' OPTIONS (table 'numbered')",
        location(server)
    );
    done(&session, &[&some, "INSERT INTO numbered VALUES ('a'), ('bcd')"]).await;
    assert_eq!(scripted(server, "SELECT id, name, twice FROM numbered ORDER BY name").lines().count(), 2);
    done(&session, &[&create(server, "whole", "numbered", "")]).await;
    refused(&session, "INSERT INTO whole VALUES (1, 'x', 2)", &["column twice", "computed"]).await;
    done(
        &session,
        &[
            &create(server, "files", "source", ""),
            "CREATE TABLE kept AS SELECT n, a_text, a_numeric, a_tz, ints FROM files",
        ],
    )
    .await;
    assert_eq!(answers(&session, "SELECT count(*) FROM kept").await, "3");
}

/// What the server does not take fails the statement, which says why, and leaves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_leaves_nothing() {
    let server = &Postgres::start();
    scripted(
        server,
        "CREATE TABLE t (id int PRIMARY KEY, name varchar(3) NOT NULL, code uuid, amount numeric(4, 1) CHECK (amount < 50), net inet);
         INSERT INTO t VALUES (7, 'old', NULL, 1, NULL);
         CREATE TABLE other (id int REFERENCES t); CREATE VIEW v AS SELECT * FROM t;
         CREATE TABLE wide (name text, code text, amount numeric(10, 1), net text)",
    );
    let session = embedded().await;
    done(&session, &[STAGES]).await;
    for table in ["t", "other", "v"] {
        done(&session, &[&create(server, table, table, "")]).await;
    }
    let values = |values: &str| format!("INSERT INTO t VALUES (1, 'a', NULL, 1.0, NULL), {values}");
    for (statement, words) in [
        (values("(7, 'b', NULL, 1.0, NULL)"), &["duplicate key", "(id)=(7)"][..]),
        (values("(2, 'long', NULL, 1.0, NULL)"), &["too long", "column name", "line"]),
        (values("(2, NULL, NULL, 1.0, NULL)"), &["name"]),
        (values("(2, 'b', 'x', 1.0, NULL)"), &["column code", "'x' is no uuid", "row"]),
        (values("(2, 'b', NULL, 60.0, NULL)"), &["check constraint", "60"]),
        (values("(2, 'b', NULL, 1.0, 'here')"), &["inet", "here"]),
        ("INSERT INTO other VALUES (7), (8)".to_string(), &["foreign key", "(id)=(8)"]),
        ("INSERT INTO v VALUES (1, 'a', NULL, 1.0, NULL)".to_string(), &["is no table"]),
        ("INSERT INTO t SELECT 1 / (id - 7), 'a', NULL, 1.0, NULL FROM t".to_string(), &["zero"]),
    ] {
        refused(&session, &statement, words).await;
        assert_eq!(scripted(server, "SELECT count(*) FROM t"), "1", "{statement}");
        assert_eq!(scripted(server, LEFT), "0", "{statement}");
        assert_eq!(scripted(server, "SELECT count(*) FROM windlass_loads WHERE state <> 'loaded'"), "0", "{statement}");
    }
    done(&session, &[&values("(2, 'b', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 49.9, '::1')")]).await;
    assert_eq!(scripted(server, "SELECT count(*), sum(amount) FROM t"), "3|51.9");
    // Nobody is left behind in a transaction.
    until(server, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'windlass'", "0").await;
}

/// What the server refuses ends a load while most of its rows are still to come.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_heard_while_rows_are_sent() {
    let server = &Postgres::start();
    scripted(server, "CREATE TABLE t (name varchar(3))");
    let session = embedded().await;
    done(&session, &[STAGES, &create(server, "t", "t", "")]).await;
    let endless =
        "INSERT INTO t SELECT CASE WHEN value = 70000 THEN 'long' ELSE 'a' END FROM generate_series(1, 1000000000)";
    let words = ["too long", "column name", "line 70000", "SQLSTATE 22001"];
    tokio::time::timeout(Duration::from_secs(30), refused(&session, endless, &words)).await.expect("it ends at once");
    assert_eq!(scripted(server, LEFT), "0");
}

/// An executor that dies at any step costs time, and no row.
#[tokio::test(flavor = "multi_thread")]
async fn an_executor_dies_while_it_writes() {
    let server = &Postgres::start();
    scripted(
        server,
        "CREATE TABLE source AS SELECT n, repeat('x', 200) AS pad FROM generate_series(1, 60000) n; ANALYZE source;
         CREATE TABLE target (n int PRIMARY KEY, pad text)",
    );
    for step in 0..3 {
        let cluster = processes("3", &[]);
        let session = cluster.session().await;
        done(&session, &[STAGES, &create(server, "source", "source", ""), &create(server, "target", "target", "")])
            .await;
        let begun = ["query LIKE 'COPY%FROM STDIN%'", "query LIKE 'COPY%TO STDOUT%'", "query LIKE 'COMMIT%'"][step];
        let begun =
            format!("SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'windlass' AND {begun}");
        let (inserted, ()) = tokio::join!(sql(&session, "INSERT INTO target SELECT n, pad FROM source"), async {
            let patience = std::time::Instant::now() + Duration::from_secs(5);
            while scripted(server, &begun) != "t" && std::time::Instant::now() < patience {}
            killed(cluster.executors[step]);
        });
        assert!(inserted.as_ref().is_ok_and(|count| count.contains("60000")), "{inserted:?}");
        assert_eq!(scripted(server, "SELECT count(*), sum(n) FROM target"), "60000|1800030000", "step {step}");
        until(server, LEFT, "0").await;
        scripted(server, "TRUNCATE target");
    }
}

/// A cluster whose primary is killed as soon as a session of the server does what `begun` says, and that is started again.
pub(super) async fn primary_killed(
    server: &Postgres,
    tables: &[&str],
    statement: &str,
    begun: &str,
) -> (Processes, Session) {
    let seen = format!("SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'windlass' AND {begun}");
    let (cluster, session) = asking::primary_killed(tables, statement, || scripted(server, &seen) == "t").await;
    // It ends what the first one began, one way or the other.
    until(server, "SELECT count(*) FROM windlass_loads WHERE state = 'writing'", "0").await;
    until(server, LEFT, "0").await;
    (cluster, session)
}

/// A primary that dies at any step: all rows or none, and those that the statement's outcome says.
#[tokio::test(flavor = "multi_thread")]
async fn the_primary_dies_while_rows_are_written() {
    let server = &Postgres::start();
    scripted(
        server,
        "CREATE TABLE source AS SELECT n, repeat('x', 200) AS pad FROM generate_series(1, 40000) n; ANALYZE source;
         CREATE TABLE target (n int, pad text); CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END';
         CREATE TRIGGER slow AFTER INSERT ON target FOR EACH STATEMENT EXECUTE FUNCTION slowly()",
    );
    for begun in [
        "query LIKE 'COPY%FROM STDIN%'",
        "query LIKE 'INSERT INTO%target%'",
        "query LIKE 'UPDATE%windlass_loads%'",
        "query = 'COMMIT'",
    ] {
        let tables = [create(server, "source", "source", ""), create(server, "target", "target", "")];
        let insert = "INSERT INTO target SELECT n, pad FROM source";
        let (_cluster, session) = primary_killed(server, &[&tables[0], &tables[1]], insert, begun).await;
        let count = answers(&session, "SELECT count(*) FROM target").await;
        let loads = scripted(server, "SELECT count(*) FROM windlass_loads WHERE state = 'loaded'");
        assert_eq!(count, if loads == "1" { "40000" } else { "0" }, "{begun}: {loads} loads");
        done(&session, &["INSERT INTO target SELECT n, pad FROM source"]).await;
        let twice = scripted(server, "SELECT count(*) FROM target");
        assert_eq!(twice, if loads == "1" { "80000" } else { "40000" }, "{begun}");
        scripted(server, "TRUNCATE target, windlass_loads");
    }
}

/// Passes bytes on, until the COMMIT of a load: that is kept from the server, or its answer from Windlass, and nothing passes until `restarted`.
async fn pass(
    (client, server): (TcpStream, TcpStream),
    is_answered: bool,
    reached: Arc<Mutex<Option<oneshot::Sender<()>>>>,
    mut restarted: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let (mut asked, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut is_loaded = false;
    loop {
        tokio::select! {
            read = from_client.read(&mut asked) => {
                let piece = &asked[..read?];
                let has = |words: &[u8]| piece.windows(words.len()).any(|part| part == words);
                is_loaded |= has(b"SET state = 'loaded'");
                let is_last = is_loaded && has(b"COMMIT\0");
                let first = if is_last { reached.lock().expect("nobody panics with it").take() } else { None };
                if let Some(reached) = first {
                    if is_answered {
                        to_server.write_all(piece).await?;
                        assert!(from_server.read(&mut answered).await? > 0, "the load is committed");
                    }
                    reached.send(()).expect("it is waited for");
                    restarted.wait_for(|is| *is).await.expect("it restarts");
                    return Ok(());
                }
                match piece {
                    [] => return Ok(()),
                    piece => to_server.write_all(piece).await?,
                }
            }
            read = from_server.read(&mut answered) => match &answered[..read?] {
                [] => return Ok(()),
                piece => to_client.write_all(piece).await?,
            }
        }
    }
}

/// The server dies between the preparation of a load and its commit, or after the commit and before it has said so: each row is there once.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_dies_while_a_load_is_committed() {
    let mut server = Postgres::start();
    scripted(&server, "CREATE TABLE target (n bigint PRIMARY KEY)");
    for (step, is_answered) in [(1, false), (2, true)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port can be had");
        let (port, behind) = (listener.local_addr().expect("it has an address").port(), server.port());
        let (reached, at_commit) = oneshot::channel();
        let (restart, restarted) = watch::channel(false);
        let reached = Arc::new(Mutex::new(Some(reached)));
        let mut passing = JoinSet::new();
        passing.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", behind)).await else { continue };
                connections.spawn(pass((client, server), is_answered, Arc::clone(&reached), restarted.clone()));
            }
        });
        let session = embedded().await;
        let target = create(&server, "target", "target", "").replace(&behind.to_string(), &port.to_string());
        done(&session, &[STAGES, &target]).await;
        let insert = format!("INSERT INTO target SELECT value + {step} * 100000 FROM generate_series(1, 20000)");
        let (inserted, server_again) = tokio::join!(sql(&session, &insert), async {
            at_commit.await.expect("the load is prepared");
            let mut server = server;
            let server = tokio::task::spawn_blocking(move || {
                server.crash(&[]);
                server
            });
            let server = server.await.expect("it starts again");
            restart.send_replace(true);
            server
        });
        server = server_again;
        assert!(inserted.as_ref().is_ok_and(|count| count.contains("20000")), "{inserted:?}");
        let there = format!("SELECT count(*), count(DISTINCT n) FROM target WHERE n > {step} * 100000");
        assert_eq!(scripted(&server, &there), "20000|20000", "step {step}");
        assert_eq!(scripted(&server, "SELECT count(*), min(state) FROM windlass_loads"), format!("{step}|loaded"));
        until(&server, LEFT, "0").await;
    }
}

/// All attempts copy into one table, which gets the target's name: an executor or the primary dies at any step, and each row is there once or none is.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_while_a_table_is_created_leaves_each_row_once() {
    let server = &Postgres::start();
    let source =
        "CREATE TABLE source AS SELECT n, repeat('x', 200) AS pad FROM generate_series(1, 60000) n; ANALYZE source";
    scripted(server, source);
    let copy = format!(
        "COPY (SELECT n, pad FROM source) TO '{}' STORED AS POSTGRES OPTIONS (table 'public.fresh')",
        location(server)
    );
    for (step, begun) in ["COPY%FROM STDIN%", "COPY%TO STDOUT%", "INSERT INTO%_parts%"].into_iter().enumerate() {
        let cluster = processes("3", &[]);
        let session = cluster.session().await;
        done(&session, &[STAGES, &create(server, "source", "source", "")]).await;
        let seen = format!(
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'windlass' AND query LIKE '{begun}'"
        );
        let (copied, ()) = tokio::join!(sql(&session, &copy), async {
            let patience = std::time::Instant::now() + Duration::from_secs(5);
            while scripted(server, &seen) != "t" && std::time::Instant::now() < patience {}
            killed(cluster.executors[step]);
        });
        assert!(copied.as_ref().is_ok_and(|count| count.contains("60000")), "{begun}: {copied:?}");
        let there = "SELECT count(*), count(DISTINCT n), sum(n), max(length(pad)) FROM fresh";
        assert_eq!(scripted(server, there), "60000|60000|1800030000|200", "{begun}");
        until(server, LEFT, "0").await;
        scripted(server, "DROP TABLE fresh");
    }
    scripted(server, "TRUNCATE windlass_loads");
    for begun in ["COPY%FROM STDIN%", "INSERT INTO%_parts%", "ALTER TABLE%RENAME%", "UPDATE%windlass_loads%", "COMMIT"]
    {
        let begun = format!("query LIKE '{begun}'");
        let source = create(server, "source", "source", "");
        let (cluster, session) = primary_killed(server, &[&source], &copy, &begun).await;
        let loads = scripted(server, "SELECT count(*) FROM windlass_loads WHERE state = 'loaded'");
        let is_there = scripted(server, "SELECT to_regclass('public.fresh') IS NOT NULL");
        assert_eq!(is_there == "t", loads == "1", "{begun}: {loads} loads");
        if loads == "0" {
            done(&session, &[&copy]).await;
        }
        assert_eq!(scripted(server, "SELECT count(*), count(DISTINCT n) FROM fresh"), "60000|60000", "{begun}");
        drop(cluster);
        scripted(server, "DROP TABLE fresh; TRUNCATE windlass_loads");
    }
}

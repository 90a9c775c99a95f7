//! Reading: types, splits, snapshots, and what goes wrong in the middle.

use super::*;
use std::time::Duration;

/// One row of extremes for each type, as PostgreSQL writes them and as they are read.
#[tokio::test(flavor = "multi_thread")]
async fn every_type_is_read() {
    let server = &Postgres::start();
    scripted(
        server,
        "CREATE SCHEMA kinds;
         CREATE TYPE kinds.mood AS ENUM ('sad', 'ok');
         CREATE DOMAIN kinds.positive AS numeric(6, 2) CHECK (value > 0);
         CREATE DOMAIN kinds.very AS kinds.positive;
         CREATE TYPE kinds.pair AS (a int, b text);
         CREATE TABLE kinds.all_of (
            n int PRIMARY KEY, a_bool bool, a_int2 int2, a_int4 int4, a_int8 int8, a_oid oid, a_float4 float4, a_float8 float8,
            a_numeric numeric(10, 3), a_wide numeric(60, 5), a_free numeric, a_text text, a_varchar varchar(5), a_char char(4),
            a_name name, a_bytea bytea, a_date date, a_time time, a_timetz timetz, a_stamp timestamp, a_tz timestamptz,
            an_interval interval, a_uuid uuid, a_json json, a_jsonb jsonb, a_mood kinds.mood, a_domain kinds.very,
            ints int[], texts varchar(3)[], moods kinds.mood[], a_range int4range, an_inet inet, a_pair kinds.pair, a_bit bit(3));
         INSERT INTO kinds.all_of VALUES
            (1, true, -32768, -2147483648, -9223372036854775808, 4294967295, 1.5, -1.7976931348623157e308, -9999999.999,
             -123456789012345678901234567890123456789012345678901.12345, 1234567890.0123456789, 'ü''\"\n', 'abcde', 'ab', 'a_name',
             '\\x00ff', '4713-01-01 BC', '23:59:59.999999', '10:00:00+02', '4713-01-01 00:00:00 BC', '2024-02-29 12:00:00+02',
             '1 year 2 mons -3 days 04:05:06.789', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '{\"a\": 1}', '{\"b\":  2}', 'ok', 1.25,
             '{1,NULL,3}', '{a,\"b c\"}', '{sad,ok}', '[1,5)', '10.0.0.1/8', '(1,x)', '101'),
            (2, false, 32767, 2147483647, 9223372036854775807, 0, 'NaN', 'Infinity', 9999999.999, 0, 0, '', '', '', '', '',
             '9999-12-31', '00:00:00', '00:00:00-12', '9999-12-31 23:59:59.999999', '0001-01-01 00:00:00+00', '-178000000 years',
             '00000000-0000-0000-0000-000000000000', '1', 'null', 'sad', 9999.99, '{}', '{}', '{}', 'empty', '::1', '(,)', '000'),
            (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
             NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    );
    let session = embedded().await;
    done(&session, &[&create(server, "k", "kinds.all_of", "")]).await;
    let kinds = "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = 'k' \
        AND column_name IN ('n', 'a_numeric', 'a_wide', 'a_free', 'a_tz', 'a_domain', 'ints', 'a_range', 'an_interval') ORDER BY 1";
    let kinds = answers(&session, kinds).await;
    assert_eq!(
        kinds,
        "a_domain|Decimal128(6, 2)|YES\na_free|Decimal128(38, 10)|YES\na_numeric|Decimal128(10, 3)|YES\na_range|Utf8|YES\n\
         a_tz|Timestamp(µs, \"UTC\")|YES\na_wide|Decimal256(60, 5)|YES\nan_interval|Interval(MonthDayNano)|YES\n\
         ints|List(Int32)|YES\nn|Int32|NO"
    );
    // In the words that both have for them.
    let same = "a_bool, a_int2, a_int4, a_int8, a_oid, a_numeric, a_wide, a_free, a_varchar, a_char || '.', a_name, a_time, a_timetz, \
        a_uuid, a_json, a_jsonb, a_mood, a_domain, a_range, an_inet, a_pair, a_bit";
    let ours = answers(&session, &format!("SELECT {same} FROM k WHERE n = 1")).await;
    let theirs = "t|-32768|-2147483648|-9223372036854775808|4294967295|-9999999.999|\
        -123456789012345678901234567890123456789012345678901.12345|1234567890.0123456789|abcde|ab  .|a_name|23:59:59.999999|\
        10:00:00+02|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|{\"a\": 1}|{\"b\": 2}|ok|1.25|[1,5)|10.0.0.1/8|(1,x)|101";
    assert_eq!(ours.replacen("true", "t", 1), theirs);
    let texts = "SELECT a_text = 'ü''\"\n', encode(a_bytea, 'hex'), extract(year FROM a_stamp), a_date < date '0001-01-01', \
        a_tz = timestamptz '2024-02-29 10:00:00Z', an_interval = interval '1 year 2 months -3 days 4 hours 5 minutes 6.789 seconds', \
        ints[1], ints[2] IS NULL, texts[2], array_length(moods, 1), a_float4, a_float8 = -1.7976931348623157e308 FROM k WHERE n = 1";
    assert_eq!(answers(&session, texts).await, "true|00ff|-4712|true|true|true|1|true|b c|2|1.5|true");
    let second = "SELECT a_float4 = 'NaN'::real, a_float8 = 'Infinity'::double, a_text = '', a_stamp, a_tz, coalesce(array_length(ints, 1), 0), \
        a_jsonb, a_range FROM k WHERE n = 2";
    assert_eq!(
        answers(&session, second).await,
        "true|true|true|9999-12-31T23:59:59.999999|0001-01-01T00:00:00Z|0|null|empty"
    );
    let columns = answers(&session, "SELECT column_name FROM information_schema.columns WHERE table_name = 'k'").await;
    let nulls: Vec<String> =
        columns.lines().filter(|name| *name != "n").map(|name| format!("{name} IS NULL")).collect();
    let all = format!("SELECT count(*) FROM k WHERE n = 3 AND {}", nulls.join(" AND "));
    assert_eq!(answers(&session, &all).await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_value_here_is_an_error_that_names_it() {
    let server = &Postgres::start();
    scripted(
        server,
        "CREATE TABLE odd AS SELECT 1 AS n, 'NaN'::numeric(6, 2) AS nan, 1.23456789012::numeric AS long, 'infinity'::date AS day,
            '-infinity'::timestamp AS stamp, '24:00'::time AS time, '{{1,2},{3,4}}'::int[] AS matrix, 'x'::text AS \"Sp a\"\"ce\"",
    );
    let session = embedded().await;
    done(
        &session,
        &[&create(server, "odd", "odd", ""), &create(server, "texts", "odd", ", numeric 'text', infinity 'null'")],
    )
    .await;
    for (column, value) in [
        ("nan", "NaN"),
        ("long", "1.23456789012"),
        ("day", "infinity"),
        ("stamp", "infinity"),
        ("time", "24:00:00"),
        ("matrix", "2 dimensions"),
    ] {
        refused(&session, &format!("SELECT {column} FROM odd"), &[&format!("column {column} "), value]).await;
    }
    assert_eq!(
        answers(&session, "SELECT nan, long, day IS NULL, stamp IS NULL FROM texts").await,
        "NaN|1.23456789012|true|true"
    );
    assert_eq!(answers(&session, "SELECT count(*) FROM texts WHERE day IS NULL").await, "1");
    assert_eq!(answers(&session, "SELECT \"Sp a\"\"ce\" FROM odd").await, "x");
    let declared = format!(
        "CREATE EXTERNAL TABLE declared (day VARCHAR, n BIGINT, time VARCHAR, matrix VARCHAR, long DECIMAL(20, 11)) STORED AS POSTGRES \
         LOCATION '{}' OPTIONS (table 'odd')",
        location(server)
    );
    done(&session, &[&declared]).await;
    let answer = answers(&session, "SELECT day, time, matrix, long FROM declared").await;
    assert_eq!(answer, "infinity|24:00:00|{{1,2},{3,4}}|1.23456789012");
    refused(&session, "SELECT n FROM declared", &["column n is integer on the server", "Int64"]).await;
    refused(&session, &create(server, "none", "no_such", ""), &["no table no_such"]).await;
    refused(&session, &create(server, "few", "odd", ", connections '0'"), &["connections"]).await;
    scripted(server, "ALTER TABLE odd DROP COLUMN nan");
    refused(&session, "SELECT nan FROM odd", &["no column nan"]).await;
}

/// Partitions, children, views, a column to split by: each row once, whatever the splits.
#[tokio::test(flavor = "multi_thread")]
async fn splits_have_each_row_once() {
    let server = &Postgres::start();
    scripted(
        server,
        "CREATE SCHEMA cut;
         CREATE TABLE cut.heap AS SELECT n, n % 7 AS k, repeat('x', 50) AS pad FROM generate_series(1, 20000) n;
         CREATE TABLE cut.parts (n int, k int, pad text) PARTITION BY RANGE (n);
         CREATE TABLE cut.low PARTITION OF cut.parts FOR VALUES FROM (MINVALUE) TO (15000);
         CREATE TABLE cut.high PARTITION OF cut.parts FOR VALUES FROM (15000) TO (MAXVALUE) PARTITION BY LIST (k);
         CREATE TABLE cut.high_a PARTITION OF cut.high FOR VALUES IN (0, 1, 2);
         CREATE TABLE cut.high_b PARTITION OF cut.high DEFAULT;
         INSERT INTO cut.parts SELECT * FROM cut.heap;
         CREATE TABLE cut.parent AS SELECT * FROM cut.heap WHERE n <= 5000;
         CREATE TABLE cut.child () INHERITS (cut.parent);
         INSERT INTO cut.child SELECT * FROM cut.heap WHERE n > 5000;
         CREATE VIEW cut.seen AS SELECT * FROM cut.heap;
         CREATE MATERIALIZED VIEW cut.kept AS SELECT * FROM cut.heap;
         CREATE TABLE cut.nothing (n int, k int, pad text);
         CREATE UNLOGGED TABLE cut.deleted AS SELECT * FROM cut.heap;
         DELETE FROM cut.deleted WHERE n % 2 = 0;
         ALTER TABLE cut.parts ENABLE ROW LEVEL SECURITY;
         ANALYZE",
    );
    let session = embedded().await;
    done(&session, &[STAGES]).await;
    for (table, more, splits) in [
        ("heap", "", "splits=4"),
        ("heap", ", connections '3'", "splits=2"),
        ("heap", ", connections '1'", "splits=1"),
        ("heap", ", split_column 'n'", "splits=4"),
        ("parts", "", "splits=4"),
        ("parent", "", "splits=4"),
        ("seen", "", "splits=1"),
        ("seen", ", split_column 'k'", "splits=4"),
        ("kept", "", "splits=4"),
    ] {
        done(&session, &[&create(server, "t", &format!("cut.{table}"), more)]).await;
        let plan = sql(&session, "EXPLAIN SELECT n FROM t").await.expect("it is explained");
        assert!(plan.contains(splits), "{table}{more}: {plan}");
        let sums =
            answers(&session, "SELECT count(*), count(DISTINCT n), sum(n), sum(k), min(length(pad)) FROM t").await;
        assert_eq!(sums, "20000|20000|200010000|59998|50", "{table}{more}");
        assert_eq!(answers(&session, "SELECT count(*) FROM t").await, "20000", "{table}{more}");
        assert_eq!(answers(&session, "SELECT count(*) FROM (SELECT n FROM t LIMIT 77)").await, "77", "{table}{more}");
        assert_eq!(
            answers(&session, "SELECT count(*) FROM t a JOIN t b ON a.n = b.n + 1").await,
            "19999",
            "{table}{more}"
        );
        done(&session, &["DROP TABLE t"]).await;
    }
    for (table, count) in [("nothing", "0"), ("deleted", "10000")] {
        done(&session, &[&create(server, table, &format!("cut.{table}"), "")]).await;
        assert_eq!(answers(&session, &format!("SELECT count(*) FROM {table}")).await, count);
        assert_eq!(answers(&session, &format!("SELECT count(n) FROM {table}")).await, count);
    }
    done(&session, &[&create(server, "by_text", "cut.heap", ", split_column 'pad'")]).await;
    refused(&session, "SELECT * FROM by_text", &["split_column pad", "whole numbers"]).await;
    // Nobody holds a snapshot for longer than its statement.
    until(
        server,
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'windlass' AND state <> 'active'",
        "0",
    )
    .await;
}

/// All splits, and all scans of a statement, see one state.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_sees_one_snapshot() {
    let server = &Postgres::start();
    scripted(
        server,
        "CREATE TABLE accounts AS SELECT n, 100::int8 AS balance, repeat('x', 100) AS pad FROM generate_series(1, 3000) n;
         CREATE TABLE mirror AS SELECT 300000::int8 AS total",
    );
    let session = embedded().await;
    done(&session, &[STAGES, &create(server, "accounts", "accounts", ""), &create(server, "mirror", "mirror", "")])
        .await;
    let port = server.port();
    let writing = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let goes_on = std::sync::Arc::clone(&writing);
    // Money moves, comes and goes; the mirror always knows how much there is.
    let writer = std::thread::spawn(move || {
        let mut rounds = 0;
        while goes_on.load(std::sync::atomic::Ordering::Relaxed) {
            let script = format!(
                "BEGIN; UPDATE accounts SET balance = balance + (CASE WHEN n % 2 = 0 THEN 7 ELSE -7 END); \
                 UPDATE accounts SET balance = balance + 1 WHERE n = {}; UPDATE mirror SET total = total + 1; COMMIT",
                rounds % 3000 + 1
            );
            let mut psql = std::process::Command::new("psql");
            psql.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "postgres", "-X", "-q", "-c", &script]);
            crate::cluster::succeed(psql);
            rounds += 1;
        }
        rounds
    });
    for _ in 0..15 {
        let query = "SELECT (SELECT sum(balance) FROM accounts) - (SELECT total FROM mirror), \
            (SELECT count(*) FROM accounts a JOIN accounts b ON a.n = b.n AND a.balance = b.balance)";
        assert_eq!(answers(&session, query).await, "0|3000");
    }
    writing.store(false, std::sync::atomic::Ordering::Relaxed);
    assert!(writer.join().expect("the writer ends well") > 3);
}

/// Tables are swapped, rewritten, emptied and filled while their splits are read: each answer is about one of their states, or an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_changes_gives_one_state_or_an_error() {
    let server = &Postgres::start();
    scripted(
        server,
        "CREATE TABLE swapped AS SELECT n, 1 AS tag, repeat('x', 100) AS pad FROM generate_series(1, 6000) n;
         CREATE TABLE other AS SELECT n + 10000 AS n, 2 AS tag, repeat('y', 100) AS pad FROM generate_series(1, 6000) n;
         CREATE TABLE parts (n int8, tag int8, pad text) PARTITION BY RANGE (n);
         CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (3001);
         CREATE TABLE high PARTITION OF parts FOR VALUES FROM (3001) TO (10000);
         INSERT INTO parts SELECT n, 1, repeat('z', 100) FROM generate_series(1, 6000) n;
         CREATE VIEW seen AS SELECT * FROM parts",
    );
    let session = embedded().await;
    let tables = ["swapped", "parts", "seen"];
    for table in tables {
        let more = if table == "seen" { ", split_column 'n'" } else { "" };
        done(&session, &[STAGES, &create(server, table, table, more)]).await;
    }
    let (port, changing) = (server.port(), std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true)));
    let goes_on = std::sync::Arc::clone(&changing);
    let changes = std::thread::spawn(move || {
        let scripts = [
            "BEGIN; ALTER TABLE swapped RENAME TO third; ALTER TABLE other RENAME TO swapped; ALTER TABLE third RENAME TO other; COMMIT",
            "VACUUM FULL swapped",
            "BEGIN; TRUNCATE swapped; INSERT INTO swapped SELECT n, 3, 'w' FROM generate_series(1, 6000) n; COMMIT",
            "ALTER TABLE swapped ALTER n TYPE int8, ALTER tag TYPE int8 USING tag + 1; ALTER TABLE swapped ALTER n TYPE int4, ALTER tag TYPE int4",
            "BEGIN; TRUNCATE parts; INSERT INTO parts SELECT n, 4, 'v' FROM generate_series(1, 6000) n; COMMIT",
            "VACUUM FULL low",
        ];
        let mut done = 0;
        while goes_on.load(std::sync::atomic::Ordering::Relaxed) {
            let mut psql = std::process::Command::new("psql");
            psql.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "postgres", "-X", "-q"]);
            psql.args(["-v", "ON_ERROR_STOP=1", "-c", scripts[done % scripts.len()]]);
            crate::cluster::succeed(psql);
            done += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
        done
    });
    let (mut right, mut told) = (0, 0);
    for round in 0..60 {
        // One slot after the other, so that splits begin far apart.
        let table = tables[round % tables.len()];
        let query = format!(
            "SELECT count(*), count(DISTINCT n), count(DISTINCT tag), sum(length(regexp_replace(pad, '(.+)+q', ''))) > 0 FROM {table}"
        );
        match rows(&session, &query).await {
            Ok(answer) => {
                assert_eq!(answer, "6000|6000|1|true", "{table}");
                right += 1;
            }
            Err(error) => {
                let is_told = error.contains("run it again") || error.contains("have changed");
                assert!(is_told, "{table}: {error}");
                told += 1;
            }
        }
    }
    changing.store(false, std::sync::atomic::Ordering::Relaxed);
    assert!(changes.join().expect("the changes are made") > 6);
    assert!(right > 0, "no statement had an answer, and {told} had errors");
}

/// A connection that is ended in the middle costs a task, and no row.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_tried_again() {
    let server = &Postgres::start();
    scripted(
        server,
        "CREATE TABLE long AS SELECT n, repeat('x', 400) AS pad FROM generate_series(1, 60000) n; ANALYZE long",
    );
    let session = embedded().await;
    done(&session, &[STAGES, "SET windlass.max_attempts = 8", &create(server, "long", "long", "")]).await;
    let query = "SELECT count(*), count(DISTINCT n), sum(length(pad || cast(n AS varchar))) FROM long";
    let expected = scripted(server, "SELECT count(*), count(DISTINCT n), sum(length(pad || n)) FROM long");
    let mut killed = 0;
    while killed < 3 {
        let (answer, ended) = tokio::join!(rows(&session, query), async {
            let kill = "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE application_name = 'windlass' AND query LIKE 'COPY%' AND state = 'active' LIMIT 1) x";
            for _ in 0..50 {
                match scripted(server, kill).as_str() {
                    "0" => tokio::time::sleep(Duration::from_millis(2)).await,
                    _ => return 1,
                }
            }
            0
        });
        assert_eq!(answer.as_deref(), Ok(expected.as_str()));
        killed += ended;
    }
    // The one that holds the snapshot: the statement says so, if it notices at all.
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'windlass' AND state LIKE 'idle in%'";
    let (answer, ()) = tokio::join!(rows(&session, query), async {
        for _ in 0..20 {
            scripted(server, kill);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    match answer {
        Ok(answer) => assert_eq!(answer, expected),
        Err(error) => assert!(error.contains("snapshot") || error.contains("terminat"), "{error}"),
    }
}

/// A client that waits for its answer no longer ends the query on the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_statement_ends_on_the_server() {
    let server = &Postgres::start();
    scripted(
        server,
        "CREATE VIEW slow AS SELECT n, pg_sleep(0.2)::text AS s FROM generate_series(1, 1000) n;
         CREATE VIEW silent AS SELECT 1 AS n FROM (SELECT pg_sleep(600)) s",
    );
    let session = embedded().await;
    let running = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'windlass' AND state = 'active' AND query LIKE 'COPY%'";
    done(&session, &[&create(server, "slow", "slow", ""), &create(server, "silent", "silent", "")]).await;
    for table in ["slow", "silent"] {
        let query = format!("SELECT * FROM {table}");
        let statement = sql(&session, &query);
        tokio::select! {
            answer = statement => panic!("it ended: {answer:?}"),
            () = until(server, running, "1") => {}
        }
        until(server, running, "0").await;
    }
    done(&session, &[&create(server, "hasty", "silent", ", statement_timeout '300'")]).await;
    refused(&session, "SELECT * FROM hasty", &["statement timeout"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn executors_read_side_by_side() {
    let server = &Postgres::start();
    scripted(
        server,
        "CREATE TABLE wide AS SELECT n, n % 10 AS k, repeat('x', 50) AS pad FROM generate_series(1, 30000) n; ANALYZE wide",
    );
    let cluster = processes("2", &[]);
    let session = cluster.session().await;
    done(&session, &[STAGES, &create(server, "wide", "wide", "")]).await;
    let query = "SELECT k, count(*), sum(n) FROM wide WHERE n > 100 GROUP BY k ORDER BY k";
    assert_eq!(answers(&session, query).await, scripted(server, query));
    let plan =
        sql(&session, "EXPLAIN SELECT k FROM wide WHERE n > 100 AND pad LIKE 'x%'").await.expect("it is explained");
    assert!(plan.contains("ScanExec: POSTGRES, splits=4") && plan.contains(r#"WHERE ("n" > '100'"#), "{plan}");
}

/// Statements that read from one server wait for each other, as the bound on connections says.
#[tokio::test(flavor = "multi_thread")]
async fn statements_wait_for_connections() {
    let server = &Postgres::start();
    scripted(server, "CREATE VIEW slow AS SELECT n FROM (SELECT 1 AS n, pg_sleep(0.5)) s");
    let session = embedded().await;
    let bound = ", connections '2', max_connections '2'";
    done(&session, &[STAGES, &create(server, "slow", "slow", bound), &create(server, "other", "slow", bound)]).await;
    let reading = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'windlass' AND state = 'active' AND query LIKE 'COPY%'";
    let statements = async {
        let three = ["SELECT n FROM slow", "SELECT n FROM slow", "SELECT n FROM other"];
        futures::future::join_all(three.map(|query| answers(&session, query))).await
    };
    tokio::pin!(statements);
    let begun = std::time::Instant::now();
    let found = loop {
        tokio::select! {
            found = &mut statements => break found,
            () = tokio::time::sleep(Duration::from_millis(50)) => {
                let reading = scripted(server, reading);
                assert!(["0", "1"].contains(&reading.as_str()), "{reading} read at a time");
            }
        }
    };
    assert_eq!(found, ["1", "1", "1"]);
    assert!(begun.elapsed() >= Duration::from_millis(1500), "one after the other");
    // Of one statement the second table has what is left, and one connection at least.
    assert_eq!(answers(&session, "SELECT count(*) FROM slow JOIN other USING (n)").await, "1");
    refused(&session, &create(server, "no", "slow", ", max_connections '-1'"), &["'max_connections' is less than 0"])
        .await;
}

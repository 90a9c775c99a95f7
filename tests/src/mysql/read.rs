//! Reading: types, ranges, snapshots, and what goes wrong in the middle.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One row of extremes for each type, as the server writes them and as they are read.
#[tokio::test(flavor = "multi_thread")]
async fn every_type_is_read() {
    let server = &MariaDb::start();
    scripted(
        server,
        "CREATE TABLE all_of (
            n int PRIMARY KEY, a_bool boolean, a_tiny tinyint, a_utiny tinyint unsigned, a_small smallint, a_usmall smallint unsigned,
            a_medium mediumint, a_umedium mediumint unsigned, an_int int, a_uint int unsigned, a_big bigint, a_ubig bigint unsigned,
            a_flag bit(1), a_bit bit(64), a_year year, a_float float, a_double double, a_decimal decimal(10, 3), a_long decimal(38, 10),
            a_wide decimal(65, 30), a_date date, a_datetime datetime(6), a_stamp timestamp(6) NULL, a_time time(6), a_char char(4),
            a_varchar varchar(5), a_latin varchar(5) CHARACTER SET latin1, a_text longtext, an_enum enum('sad', 'it''s'), a_set set('a', 'b'),
            a_json json, a_binary binary(3), a_varbinary varbinary(3), a_blob longblob, a_point point, a_uuid uuid, an_inet inet6);
         INSERT INTO all_of VALUES
            (1, true, -128, 255, -32768, 65535, -8388608, 16777215, -2147483648, 4294967295, -9223372036854775808, 18446744073709551615,
             b'1', 18446744073709551615, 2155, 1.1, -1.7976931348623157e308, -9999999.999, 1234567890123456789012345678.0123456789,
             -12345678901234567890123456789012345.123456789012345678901234567891, '1000-01-01', '9999-12-31 23:59:59.999999',
             '2038-01-19 03:14:07.999999', '-838:59:59.000000', 'ab  ', 'abcde', 'é', 'ü''\"\\n\\\\', 'it''s', 'a,b', '{\"a\": 1}', x'00ff',
             x'00ff', x'', ST_GeomFromText('POINT(1 2)'), 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '::1'),
            (2, false, 127, 0, 32767, 0, 8388607, 0, 2147483647, 0, 9223372036854775807, 0, b'0', 5, 0, -3.4028235e38, 5e-324, 0, 0, 0,
             '9999-12-31', '1000-01-01 00:00:00', '1970-01-01 00:00:01', '00:00:00.5', '', '', '', '', '', '', 'null', '', '', '',
             ST_GeomFromText('POINT(0 0)'), '00000000-0000-0000-0000-000000000000', '::ffff:10.0.0.1');
         INSERT INTO all_of (n) VALUES (3)",
    );
    let session = embedded().await;
    done(&session, &[&create(server, "k", "all_of", "")]).await;
    let kinds =
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = 'k' ORDER BY 1";
    let kinds = answers(&session, kinds).await;
    for kind in [
        "n|Int32|NO",
        "a_bool|Boolean|YES",
        "a_tiny|Int8|YES",
        "a_utiny|UInt8|YES",
        "a_umedium|UInt32|YES",
        "a_ubig|UInt64|YES",
        "a_flag|Boolean|YES",
        "a_bit|UInt64|YES",
        "a_year|Int16|YES",
        "a_long|Decimal128(38, 10)|YES",
        "a_wide|Decimal256(65, 30)|YES",
        "a_datetime|Timestamp(µs)|YES",
        "a_stamp|Timestamp(µs, \"UTC\")|YES",
        "a_time|Interval(MonthDayNano)|YES",
        "a_json|Utf8|YES",
        "a_point|Binary|YES",
        "a_uuid|Utf8|YES",
    ] {
        assert!(kinds.lines().any(|line| line == kind), "{kind} is missing in\n{kinds}");
    }
    // In the words that both have for them.
    let same = "a_tiny, a_utiny, a_small, a_usmall, a_medium, a_umedium, an_int, a_uint, a_big, a_ubig, a_year, a_decimal, a_long, a_wide, \
        a_date, a_varchar, a_latin, an_enum, a_set, a_json, a_uuid, an_inet";
    for n in [1, 2] {
        let ours = answers(&session, &format!("SELECT {same} FROM k WHERE n = {n}")).await;
        let theirs = format!("SELECT {} FROM all_of WHERE n = {n}", same.replace("a_year", "a_year + 0"));
        assert_eq!(ours, scripted(server, &theirs));
    }
    let first = "SELECT a_bool, a_flag, a_bit, a_float, a_double = -1.7976931348623157e308, a_datetime, a_stamp, \
        a_time = interval '-838 hours -59 minutes -59 seconds', a_char || '.', a_text = 'ü''\"\n\\', encode(a_binary, 'hex'), \
        encode(a_varbinary, 'hex'), length(a_blob), encode(a_point, 'hex') FROM k WHERE n = 1";
    assert_eq!(
        answers(&session, first).await,
        "true|true|18446744073709551615|1.1|true|9999-12-31T23:59:59.999999|2038-01-19T03:14:07.999999Z|true|ab.|true|00ff00|00ff|0|\
         0101000000000000000000f03f0000000000000040"
    );
    let second = "SELECT a_bool, a_flag, a_bit, a_float = -3.4028235e38::real, a_double = 5e-324, a_datetime, a_stamp, \
        a_time = interval '500 milliseconds', a_text = '', an_enum = '', encode(a_binary, 'hex') FROM k WHERE n = 2";
    assert_eq!(
        answers(&session, second).await,
        "false|false|5|true|true|1000-01-01T00:00:00|1970-01-01T00:00:01Z|true|true|true|000000"
    );
    let columns = answers(&session, "SELECT column_name FROM information_schema.columns WHERE table_name = 'k'").await;
    let nulls: Vec<String> =
        columns.lines().filter(|name| *name != "n").map(|name| format!("{name} IS NULL")).collect();
    let all = format!("SELECT count(*) FROM k WHERE n = 3 AND {}", nulls.join(" AND "));
    assert_eq!(answers(&session, &all).await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_value_here_is_an_error_that_names_it() {
    let server = &MariaDb::start();
    scripted(
        server,
        "CREATE TABLE odd (n int, flag boolean NOT NULL, day date NOT NULL, at datetime, stamp timestamp NULL, time time, `Sp a``ce` text,
            bytes blob, long_ decimal(20, 11));
         INSERT INTO odd VALUES (1, 2, '0000-00-00', '2024-00-00 00:00:00', '0000-00-00 00:00:00', '25:00:00', 'x', 'y', 1.5)",
    );
    let session = embedded().await;
    let lenient = ", tinyint1 'integer', zero_dates 'null'";
    done(&session, &[&create(server, "odd", "odd", ""), &create(server, "nulls", "shop.odd", lenient)]).await;
    for (column, words) in [
        ("flag", ["has 2", "tinyint1 'integer'"]),
        ("day", ["'0000-00-00'", "zero_dates 'null'"]),
        ("at", ["'2024-00-00'", "zero_dates"]),
        ("stamp", ["'0000-00-00'", "VARCHAR"]),
    ] {
        refused(&session, &format!("SELECT {column} FROM odd"), &[&format!("column {column} "), words[0], words[1]])
            .await;
    }
    let nulls = "SELECT flag, day IS NULL, at IS NULL, stamp IS NULL, \"Sp a`ce\" FROM nulls WHERE day IS NULL";
    assert_eq!(answers(&session, nulls).await, "2|true|true|true|x");
    let columns = "(day VARCHAR, n BIGINT, time VARCHAR, flag SMALLINT, long_ DECIMAL(30, 12))";
    let declared = |columns: &str, name: &str| {
        format!(
            "CREATE EXTERNAL TABLE {name} {columns} STORED AS MYSQL LOCATION '{}' OPTIONS (table 'odd')",
            location(server)
        )
    };
    done(&session, &[&declared(columns, "declared"), &declared("(time TIME, bytes VARCHAR, n DATE)", "wrong")]).await;
    let answer =
        answers(&session, "SELECT day, n, time, flag, long_ FROM declared WHERE day = '0000-00-00' AND flag = 2").await;
    assert_eq!(answer, "0000-00-00|1|25:00:00|2|1.500000000000");
    refused(&session, "SELECT time FROM wrong", &["column time", "25:00:00", "no time of a day"]).await;
    refused(&session, "SELECT bytes FROM wrong", &["column bytes", "is blob on the server"]).await;
    refused(&session, "SELECT n FROM wrong", &["column n", "is int(11) on the server"]).await;
    refused(&session, &create(server, "none", "no_such", ""), &["no table no_such"]).await;
    refused(&session, &create(server, "none", "a.b.c", ""), &["a.b.c is no name of a table"]).await;
    refused(&session, &create(server, "few", "odd", ", connections '0'"), &["connections"]).await;
    scripted(server, "ALTER TABLE odd DROP COLUMN flag");
    refused(&session, "SELECT flag FROM odd", &["no column flag"]).await;
}

/// Integer keys of all widths, keys that are none, views, engines: each row once, whatever the ranges.
#[tokio::test(flavor = "multi_thread")]
async fn ranges_have_each_row_once() {
    let server = &MariaDb::start();
    scripted(
        server,
        "CREATE TABLE heap (n bigint PRIMARY KEY, k int, pad varchar(50)) AS SELECT seq AS n, seq % 7 AS k, repeat('x', 50) AS pad FROM seq_1_to_20000;
         CREATE TABLE huge (n bigint unsigned PRIMARY KEY, k int, pad varchar(50)) AS SELECT * FROM heap;
         UPDATE huge SET n = 18446744073709551615 WHERE n = 20000;
         CREATE TABLE named (n int, k int, pad varchar(50), name varchar(20) PRIMARY KEY) AS SELECT n, k, pad, concat('n', n) AS name FROM heap;
         CREATE TABLE parts (n int, k int, pad varchar(50), PRIMARY KEY (k, n)) PARTITION BY HASH (n) PARTITIONS 3 AS SELECT * FROM heap;
         CREATE TABLE old (n int PRIMARY KEY, k int, pad varchar(50)) ENGINE = Aria AS SELECT * FROM heap;
         CREATE TABLE nothing LIKE heap; CREATE VIEW seen AS SELECT * FROM heap;
         CREATE TABLE some_null (n int, k int) AS SELECT n, IF(k = 0, NULL, k) AS k FROM heap;
         ANALYZE TABLE heap, huge, named, parts, old, some_null",
    );
    let session = embedded().await;
    done(&session, &[STAGES]).await;
    for (table, more, shown) in [
        ("heap", "", "splits=1, connections=4"),
        ("heap", ", connections '4'", "splits=1, connections=2"),
        ("heap", ", connections '1'", "splits=1, sql"),
        ("heap", ", snapshot 'none'", "splits=4, sql"),
        ("heap", ", snapshot 'none', connections '3'", "splits=3, sql"),
        ("heap", ", snapshot 'locked'", "splits=4, sql"),
        ("heap", ", snapshot 'none', split_column 'k'", "splits=4, sql"),
        ("named", "", "splits=1, sql"),
        ("named", ", split_column 'n'", "splits=1, connections=4"),
        ("parts", "", "splits=1, connections=4"),
        ("old", "", "splits=1, sql"),
        ("old", ", snapshot 'locked'", "splits=4, sql"),
        ("seen", "", "splits=1, sql"),
        ("seen", ", split_column 'k'", "splits=1, connections=4"),
    ] {
        done(&session, &[&create(server, "t", table, more)]).await;
        let plan = sql(&session, "EXPLAIN SELECT n FROM t").await.expect("it is explained");
        assert!(plan.contains(shown), "{table}{more}: {plan}");
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
    for table in ["huge", "nothing", "some_null"] {
        let column = if table == "some_null" { ", split_column 'k'" } else { "" };
        done(&session, &[&create(server, table, table, column)]).await;
        let query = format!("SELECT count(*), count(n), coalesce(max(n), 0), coalesce(sum(k), 0) FROM {table}");
        assert_eq!(answers(&session, &query).await, scripted(server, &query));
    }
    done(&session, &[&create(server, "by_text", "heap", ", split_column 'pad'")]).await;
    refused(&session, "SELECT * FROM by_text", &["split_column pad", "whole numbers"]).await;
    // No session outlives its statement.
    until(server, &format!("SELECT count(*) {SESSIONS}"), "0").await;
}

/// Goes on until it is told to stop; returns how often it came through. It may be given up for a deadlock, as any transaction.
fn repeatedly(
    server: &MariaDb,
    script: impl Fn(u32) -> String + Send + 'static,
) -> (std::thread::JoinHandle<u32>, std::sync::Arc<AtomicBool>) {
    let goes_on = std::sync::Arc::new(AtomicBool::new(true));
    let (flag, socket) = (std::sync::Arc::clone(&goes_on), server.folder().join("socket"));
    let writer = std::thread::spawn(move || {
        let mut rounds = 0;
        while flag.load(Ordering::Relaxed) {
            let mut client = std::process::Command::new("mariadb");
            client.arg("--no-defaults").arg(format!("--socket={}", socket.display()));
            client.args(["--user=root", "shop", "-e", &script(rounds)]);
            match crate::cluster::run(client) {
                Ok(_) => rounds += 1,
                Err(error) => assert!(error.contains("ERROR 1213"), "{error}"),
            }
        }
        rounds
    });
    (writer, goes_on)
}

/// All ranges of a scan see one state while money moves between the rows; with `locked`, all scans of a statement do.
#[tokio::test(flavor = "multi_thread")]
async fn a_scan_sees_one_snapshot() {
    let server = &MariaDb::start();
    scripted(
        server,
        "CREATE TABLE accounts (n int PRIMARY KEY, balance bigint, pad varchar(100)) AS
            SELECT seq AS n, 100 AS balance, repeat('x', 100) AS pad FROM seq_1_to_3000;
         CREATE TABLE clock (n int PRIMARY KEY, ticks bigint) AS SELECT seq AS n, 0 AS ticks FROM seq_1_to_3000;
         CREATE TABLE mirror AS SELECT 0 AS ticks; ANALYZE TABLE accounts, clock",
    );
    let session = embedded().await;
    done(&session, &[STAGES]).await;
    for (name, table, mode) in [
        ("accounts", "accounts", "table"),
        ("loose", "accounts", "none"),
        ("clock", "clock", "locked"),
        ("mirror", "mirror", "locked"),
    ] {
        done(&session, &[&create(server, name, table, &format!(", snapshot '{mode}'"))]).await;
    }
    let (writer, goes_on) = repeatedly(server, |round| {
        format!(
            "BEGIN; UPDATE accounts SET balance = balance + IF(n % 2 = 0, 7, -7); DO SLEEP(0.005); \
             UPDATE accounts SET balance = balance + 7 WHERE n = {}; UPDATE accounts SET balance = balance - 7 WHERE n = {}; \
             UPDATE clock SET ticks = ticks + 1 WHERE n = {}; UPDATE mirror SET ticks = ticks + 1; COMMIT",
            round % 3000 + 1,
            (round * 7) % 3000 + 1,
            (round * 11) % 3000 + 1
        )
    });
    for round in 0..20 {
        let sums = answers(&session, "SELECT sum(balance), count(*) FROM accounts").await;
        assert_eq!(sums, "300000|3000", "round {round}");
        if round % 2 == 0 {
            let query = "SELECT (SELECT sum(ticks) FROM clock) - (SELECT sum(ticks) FROM mirror), \
                (SELECT count(*) FROM clock a JOIN clock b ON a.n = b.n AND a.ticks = b.ticks)";
            assert_eq!(answers(&session, query).await, "0|3000", "round {round}");
        }
    }
    goes_on.store(false, Ordering::Relaxed);
    assert!(writer.join().expect("the writer ends well") > 3);
    // Who may not lock reads the same, over one connection, and is told what is missing where it has to.
    scripted(server, "REVOKE ALL ON shop.* FROM app@'%'; GRANT SELECT ON shop.* TO app@'%'");
    assert_eq!(answers(&session, "SELECT count(*) FROM accounts").await, "3000");
    assert_eq!(answers(&session, "SELECT count(*) FROM loose").await, "3000");
    refused(&session, "SELECT count(*) FROM clock", &["LOCK TABLES", "snapshot 'table'"]).await;
}

/// A transaction that has written and goes on keeps the lock away, and no scan waits for it for long.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_goes_on_is_not_waited_for() {
    let server = &MariaDb::start();
    scripted(
        server,
        "CREATE TABLE t (n int PRIMARY KEY, k int) AS SELECT seq AS n, 1 AS k FROM seq_1_to_5000; ANALYZE TABLE t",
    );
    let session = embedded().await;
    done(&session, &[STAGES, &create(server, "t", "t", "")]).await;
    let (writer, goes_on) =
        repeatedly(server, |_| "BEGIN; UPDATE t SET k = k + 1 WHERE n = 1; DO SLEEP(4); ROLLBACK".to_string());
    until(server, "SELECT count(*) FROM information_schema.INNODB_TRX WHERE trx_rows_modified > 0", "1").await;
    let begun = std::time::Instant::now();
    assert_eq!(answers(&session, "SELECT count(*), sum(k) FROM t").await, "5000|5000");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    goes_on.store(false, Ordering::Relaxed);
    writer.join().expect("the writer ends well");
}

/// A table whose state one reader has is joined with one that several tasks read.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_read_once_is_joined_by_many_tasks() {
    let server = &MariaDb::start();
    scripted(
        server,
        "CREATE TABLE small (n int PRIMARY KEY, k int) AS SELECT seq AS n, seq % 7 AS k FROM seq_1_to_1000;
         CREATE TABLE big (n int PRIMARY KEY, k int) AS SELECT seq AS n, seq % 2000 AS k FROM seq_1_to_200000; ANALYZE TABLE small, big",
    );
    let session = embedded().await;
    let big = create(server, "big", "big", ", snapshot 'none'");
    done(&session, &[STAGES, &create(server, "small", "small", ""), &big]).await;
    for (query, answer) in [
        ("SELECT count(*) FROM big b JOIN small s ON s.n = b.k", "100000"),
        ("SELECT count(*) FROM big b LEFT JOIN small s ON s.n = b.k WHERE s.n IS NULL", "100000"),
        ("SELECT count(*) FROM big WHERE k IN (SELECT n FROM small)", "100000"),
        ("SELECT count(*) FROM big WHERE k NOT IN (SELECT n FROM small)", "100000"),
        ("SELECT count(*) FROM big b JOIN small s ON b.k < s.k WHERE b.n < 1000", "2145"),
        ("SELECT count(*) FROM small a JOIN small b ON a.n = b.n JOIN big c ON c.k = b.n", "100000"),
    ] {
        assert_eq!(answers(&session, query).await, answer, "{query}");
    }
}

/// A connection that is ended in the middle costs a task, and no row.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_tried_again() {
    let server = &MariaDb::start();
    scripted(
        server,
        "CREATE TABLE `long` (n int PRIMARY KEY, pad varchar(400)) AS SELECT seq AS n, repeat('x', 400) AS pad FROM seq_1_to_60000; ANALYZE TABLE `long`",
    );
    let session = embedded().await;
    done(&session, &[STAGES, "SET windlass.max_attempts = 8"]).await;
    for mode in ["table", "none", "locked"] {
        done(&session, &[&create(server, mode, "`long`", &format!(", snapshot '{mode}'"))]).await;
        let query =
            format!("SELECT count(*), count(DISTINCT n), sum(length(pad || cast(n AS varchar))) FROM \"{mode}\"");
        let expected = scripted(server, "SELECT count(*), count(DISTINCT n), sum(length(concat(pad, n))) FROM `long`");
        let mut killed = 0;
        while killed < 2 {
            let (answer, ended) = tokio::join!(rows(&session, &query), async {
                let reading = format!("SELECT ID {SESSIONS} AND INFO LIKE 'SELECT%pad%' LIMIT 1");
                for _ in 0..100 {
                    let id = scripted(server, &reading);
                    match id.is_empty() {
                        true => tokio::time::sleep(Duration::from_millis(1)).await,
                        false => return u32::from(server.sql(&format!("KILL {id}")).is_ok()),
                    }
                }
                0
            });
            assert_eq!(answer.as_deref(), Ok(expected.as_str()), "{mode}");
            killed += ended;
        }
    }
}

/// A scan that was read to its end is not read again in another state.
#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_dies_costs_no_consistency() {
    let server = &MariaDb::start();
    scripted(
        server,
        "CREATE TABLE wide (n int PRIMARY KEY, k int, pad varchar(50)) AS SELECT seq AS n, seq % 10 AS k, repeat('x', 50) AS pad FROM seq_1_to_30000;
         ANALYZE TABLE wide",
    );
    let cluster = processes("2", &[]);
    let session = cluster.session().await;
    done(
        &session,
        &[STAGES, &create(server, "wide", "wide", ""), &create(server, "loose", "wide", ", snapshot 'none'")],
    )
    .await;
    for table in ["wide", "loose"] {
        let query = format!("SELECT k, count(*), sum(n) FROM {table} WHERE n > 100 GROUP BY k ORDER BY k");
        assert_eq!(answers(&session, &query).await, scripted(server, &query.replace("loose", "wide")));
    }
    let plan =
        sql(&session, "EXPLAIN SELECT k FROM loose WHERE n > 100 AND pad LIKE 'x%'").await.expect("it is explained");
    assert!(plan.contains("ScanExec: MYSQL, splits=4") && plan.contains("WHERE (`n` > 100)"), "{plan}");
    // The primary's session holds the mark: without it nobody begins.
    let query = "SELECT sum(a.n) FROM wide a JOIN wide b ON a.n = b.n";
    let (answer, ()) = tokio::join!(rows(&session, query), async {
        let marks = format!("SELECT ID {SESSIONS} AND COMMAND = 'Sleep'");
        for _ in 0..30 {
            for id in scripted(server, &marks).lines() {
                let _ = server.sql(&format!("KILL {id}"));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    match answer {
        Ok(answer) => assert_eq!(answer, "450015000"),
        Err(error) => assert!(error.contains("would have to be read again") || error.contains("killed"), "{error}"),
    }
}

/// A client that waits for its answer no longer ends the query on the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_statement_ends_on_the_server() {
    let server = &MariaDb::start();
    scripted(
        server,
        "CREATE VIEW slow AS SELECT seq AS n, sleep(0.05) AS s FROM seq_1_to_10000; CREATE VIEW silent AS SELECT sleep(600) AS n",
    );
    let session = embedded().await;
    let running = format!("SELECT count(*) {SESSIONS} AND INFO LIKE 'SELECT `n`%'");
    done(&session, &[&create(server, "slow", "slow", ""), &create(server, "silent", "silent", "")]).await;
    for table in ["slow", "silent"] {
        let query = format!("SELECT * FROM {table}");
        let statement = sql(&session, &query);
        tokio::select! {
            answer = statement => panic!("it ended: {answer:?}"),
            () = until(server, &running, "1") => {}
        }
        until(server, &format!("SELECT count(*) {SESSIONS}"), "0").await;
    }
    done(&session, &[&create(server, "hasty", "slow", ", statement_timeout '300'")]).await;
    refused(&session, "SELECT s FROM hasty", &["max_statement_time"]).await;
}

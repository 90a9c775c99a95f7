//! Writing: each row once, whoever dies, or none.

use super::*;
use crate::asking;
use crate::cluster::killed;
use std::time::Duration;

pub(super) const LEFT: &str = "SELECT count(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'shop' AND TABLE_NAME LIKE 'windlass\\_%' \
    AND TABLE_NAME <> 'windlass_loads'";

/// What is written is what is read again, of every type, by LOAD DATA and by INSERT.
#[tokio::test(flavor = "multi_thread")]
async fn every_type_is_written() {
    let server = &MariaDb::start();
    let columns = "n int PRIMARY KEY, a_bool boolean, a_tiny tinyint, a_utiny tinyint unsigned, a_medium mediumint unsigned, a_big bigint, \
        a_ubig bigint unsigned, a_flag bit(1), a_bit bit(64), a_year year, a_float float, a_double double, a_decimal decimal(10, 3), \
        a_wide decimal(65, 30), a_date date, a_datetime datetime(6), a_short datetime(1), a_stamp timestamp(6) NULL, a_time time(6), a_char char(4), \
        a_varchar varchar(9), a_latin varchar(5) CHARACTER SET latin1, a_text longtext, an_enum enum('sad', 'it''s'), a_set set('a', 'b'), \
        a_json json, a_binary binary(3), a_blob longblob, a_point point, a_uuid uuid";
    scripted(
        server,
        &format!(
            "CREATE TABLE source ({columns}); CREATE TABLE target ({columns}); INSERT INTO source VALUES
            (1, true, -128, 255, 16777215, -9223372036854775808, 18446744073709551615, b'1', 18446744073709551615, 2155, 1.1,
             -1.7976931348623157e308, -9999999.999, -12345678901234567890123456789012345.123456789012345678901234567891, '1000-01-01',
             '9999-12-31 23:59:59.999999', '2024-02-29 12:00:00.5', '2038-01-19 03:14:07.999999', '-838:59:59.000000', 'ab', 'a\\tb\\\\N\\n\\0', 'é',
             'ü''\"\\n\\\\\\t\\r', 'it''s', 'a,b', '{{\"a\": \"\\\\n\"}}', x'00ff0a', x'5c4e0900270a', ST_GeomFromText('POINT(1 2)'),
             'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'),
            (2, false, 127, 0, 0, 0, 0, b'0', 5, 0, -3.4028235e38, 5e-324, 0, 0, '9999-12-31', '1000-01-01', '1000-01-01', '1970-01-01 00:00:01',
             '00:00:00.5', '', '\\\\N', '', 'NULL', 'sad', '', 'null', '', '', ST_GeomFromText('POINT(0 0)'), '00000000-0000-0000-0000-000000000000');
            INSERT INTO source (n) VALUES (3), (0)"
        ),
    );
    let session = embedded().await;
    done(&session, &[STAGES, &create(server, "source", "source", ""), &create(server, "target", "target", "")]).await;
    let names = scripted(
        server,
        "SELECT group_concat(COLUMN_NAME) FROM information_schema.COLUMNS WHERE TABLE_NAME = 'source' AND TABLE_SCHEMA = 'shop'",
    );
    let differs: Vec<String> =
        names.split(',').map(|name| format!("IF(s.{name} <=> t.{name}, '', '{name} ')")).collect();
    let differ = format!(
        "SELECT count(*), group_concat({} SEPARATOR '') FROM source s JOIN target t USING (n)",
        differs.join(", ")
    );
    for local_infile in ["ON", "OFF"] {
        scripted(server, &format!("SET GLOBAL local_infile = {local_infile}; DELETE FROM target"));
        done(&session, &["INSERT INTO target SELECT * FROM source"]).await;
        assert_eq!(scripted(server, &differ), "4", "{local_infile}");
        assert_eq!(scripted(server, LEFT), "0");
    }
    assert_eq!(scripted(server, "SELECT count(*), sum(`rows`), min(state) FROM windlass_loads"), "2|8|loaded");
    // Beside columns that are not named, the server's defaults.
    scripted(
        server,
        "CREATE TABLE numbered (id serial PRIMARY KEY, name varchar(9) NOT NULL, twice int AS (length(name) * 2) STORED)",
    );
    let some = format!(
        "CREATE EXTERNAL TABLE numbered (name VARCHAR) STORED AS MYSQL LOCATION '{}' OPTIONS (table 'numbered')",
        location(server)
    );
    done(&session, &[&some, "INSERT INTO numbered VALUES ('a'), ('bcd')"]).await;
    assert_eq!(scripted(server, "SELECT name, twice FROM numbered ORDER BY name"), "a|2\nbcd|6");
    done(&session, &[&create(server, "whole", "numbered", "")]).await;
    refused(&session, "INSERT INTO whole VALUES (1, 'x', 2)", &["column twice", "computed"]).await;
    done(&session, &["CREATE TABLE kept AS SELECT n, a_text, a_decimal, a_stamp FROM source"]).await;
    assert_eq!(answers(&session, "SELECT count(*) FROM kept").await, "4");
}

/// What the server does not take fails the statement, which says why, and leaves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_leaves_nothing() {
    let server = &MariaDb::start();
    scripted(
        server,
        "CREATE TABLE t (id int PRIMARY KEY, name varchar(3) NOT NULL, mood enum('ok'), amount decimal(4, 1) CHECK (amount < 50),
            at datetime, stamp timestamp NULL, latin varchar(5) CHARACTER SET latin1);
         INSERT INTO t VALUES (7, 'old', NULL, 1, NULL, NULL, NULL);
         CREATE TABLE other (id int, FOREIGN KEY (id) REFERENCES t (id)); CREATE VIEW v AS SELECT * FROM t;
         CREATE TABLE old (id int) ENGINE = MyISAM",
    );
    let session = embedded().await;
    done(&session, &[STAGES]).await;
    for table in ["t", "other", "v", "old"] {
        done(&session, &[&create(server, table, table, "")]).await;
    }
    let values = |values: &str| format!("INSERT INTO t VALUES (1, 'a', NULL, 1.0, NULL, NULL, NULL), {values}");
    for local_infile in ["ON", "OFF"] {
        scripted(server, &format!("SET GLOBAL local_infile = {local_infile}"));
        for (statement, words) in [
            (values("(7, 'b', NULL, 1.0, NULL, NULL, NULL)"), &["Duplicate entry '7'", "1062"][..]),
            (values("(2, 'long', NULL, 1.0, NULL, NULL, NULL)"), &["column 'name' at row"]),
            (values("(2, NULL, NULL, 1.0, NULL, NULL, NULL)"), &["name"]),
            (values("(2, 'b', 'bad', 1.0, NULL, NULL, NULL)"), &["'mood' at row"]),
            (values("(2, 'b', NULL, 60.0, NULL, NULL, NULL)"), &["CONSTRAINT", "amount"]),
            (values("(2, 'b', NULL, 1.0, '2024-01-01 00:00:00.5', NULL, NULL)"), &["column at", "row", "0 digits"]),
            (values("(2, 'b', NULL, 1.0, NULL, '1969-01-01 00:00:00Z', NULL)"), &["stamp", "at row 2"]),
            (values("(2, 'b', NULL, 1.0, NULL, NULL, 'я')"), &["latin", "at row"]),
            ("INSERT INTO other VALUES (7), (8)".to_string(), &["foreign key"]),
            ("INSERT INTO v VALUES (1, 'a', NULL, 1.0, NULL, NULL, NULL)".to_string(), &["is a view"]),
            ("INSERT INTO old VALUES (1)".to_string(), &["no transactions", "InnoDB"]),
            ("INSERT INTO t SELECT 1 / (id - 7), 'a', NULL, 1.0, NULL, NULL, NULL FROM t".to_string(), &["zero"]),
        ] {
            refused(&session, &statement, words).await;
            assert_eq!(scripted(server, "SELECT count(*) FROM t"), "1", "{statement}");
            assert_eq!(scripted(server, LEFT), "0", "{statement}");
            assert_eq!(
                scripted(server, "SELECT count(*) FROM windlass_loads WHERE state <> 'loaded'"),
                "0",
                "{statement}"
            );
        }
    }
    done(&session, &[&values("(2, 'b', 'ok', 49.9, '2024-01-01', '2024-01-01 00:00:00Z', 'é')")]).await;
    assert_eq!(scripted(server, "SELECT count(*), sum(amount) FROM t"), "3|51.9");
    // Staging tables of a load that nobody knows go with the next one.
    scripted(
        server,
        "CREATE TABLE windlass_0123456789abcdef0123456789abcdef_0_0 (a int); CREATE TABLE windlass_mine (a int)",
    );
    done(&session, &["INSERT INTO t VALUES (3, 'c', NULL, 1.0, NULL, NULL, NULL)"]).await;
    assert_eq!(scripted(server, LEFT), "1");
    scripted(server, "DROP TABLE windlass_mine");
    // Nobody is left behind in a transaction.
    until(server, &format!("SELECT count(*) {SESSIONS}"), "0").await;
}

/// CREATE EXTERNAL TABLE … AS and COPY … TO make the table that is missing, all of it or nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_makes_its_target() {
    let server = &MariaDb::start();
    scripted(
        server,
        "CREATE TABLE source (n bigint PRIMARY KEY) AS SELECT seq AS n FROM seq_1_to_3000; ANALYZE TABLE source",
    );
    let session = embedded().await;
    done(&session, &[STAGES, &create(server, "source", "source", ", snapshot 'none'")]).await;
    let query = "SELECT CAST(n AS int) AS n, n % 2 = 0 AS even, CAST(n AS decimal(20, 4)) / 8 AS d, 'é' || n AS s, CAST(n AS double) AS f, \
        timestamp '2024-01-01 00:00:00.123456' AS at, timestamptz '2024-01-01 00:00:00Z' AS tz, arrow_cast(n, 'UInt64') AS u, \
        arrow_cast('a' || n, 'Binary') AS bytes, date '2024-01-01' AS day, interval '90 minutes' AS span FROM source";
    let made = create(server, "made", "made", "");
    refused(&session, &format!("{made} AS SELECT 1 / (n - 2999) AS a FROM source"), &["zero"]).await;
    refused(
        &session,
        &format!("{made} AS SELECT make_array(n) AS a FROM source"),
        &["column a cannot be created", "VARCHAR"],
    )
    .await;
    refused(&session, &format!("{made} AS SELECT time '10:00:00' AS a FROM source"), &["column a", "INTERVAL"]).await;
    assert_eq!(scripted(server, "SHOW TABLES LIKE 'made'"), "");
    let plan = sql(&session, &format!("EXPLAIN {made} AS {query}")).await.expect("it is explained");
    assert!(plan.contains("SinkExec: MYSQL, table=`shop`.`made`"), "{plan}");
    done(&session, &[&format!("{made} AS {query}")]).await;
    // The server samples its pages, and counts by itself only after ten seconds.
    let counted = "SELECT n_rows BETWEEN 2500 AND 3500 FROM mysql.innodb_table_stats WHERE table_name = 'made'";
    assert_eq!(scripted(server, counted), "1", "the server has statistics of the new table");
    let sums = "SELECT count(*), sum(n), sum(u), min(s), max(s), max(day) FROM made";
    assert_eq!(answers(&session, sums).await.replace("T00:00:00", ""), scripted(server, sums));
    assert_eq!(answers(&session, "SELECT count(*) FROM made WHERE at = timestamp '2024-01-01 00:00:00.123456' AND even AND span = interval '90 minutes'").await, "1500");
    let kinds = "SELECT group_concat(DATA_TYPE ORDER BY ORDINAL_POSITION) FROM information_schema.COLUMNS WHERE TABLE_NAME = 'made'";
    assert_eq!(
        scripted(server, kinds),
        "int,tinyint,decimal,longtext,double,datetime,timestamp,bigint,longblob,date,time"
    );
    refused(&session, &format!("{} AS {query}", create(server, "again", "made", "")), &["a table made already"]).await;
    let to = |table: &str| format!("TO '{}' STORED AS MYSQL OPTIONS (table '{table}')", location(server));
    let copied =
        sql(&session, &format!("COPY (SELECT n + 3000 AS n, s FROM made) {}", to("made"))).await.expect("it is copied");
    assert!(copied.contains("3000"), "{copied}");
    assert_eq!(scripted(server, "SELECT count(DISTINCT n), count(even) FROM made"), "6000|3000");
    done(&session, &[&format!("COPY (SELECT n, s FROM made) {}", to("shop.copied"))]).await;
    assert_eq!(scripted(server, "SELECT count(*), sum(n) FROM copied"), "6000|18003000");
    refused(&session, &format!("COPY (SELECT n AS other FROM made) {}", to("made")), &["no column other"]).await;
    assert_eq!(scripted(server, LEFT), "0");
    until(server, &format!("SELECT count(*) {SESSIONS}"), "0").await;
}

/// A text is longer than the server's packets: LOAD DATA has it in several, and an INSERT says what to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_longer_than_a_packet() {
    let server = &MariaDb::start();
    scripted(server, "SET GLOBAL max_allowed_packet = 1048576; CREATE TABLE target (n int PRIMARY KEY, pad longtext)");
    let session = embedded().await;
    let insert = "INSERT INTO target SELECT 1, repeat('x', 3000000)";
    done(&session, &[&create(server, "target", "target", ""), insert]).await;
    let length = "SELECT length(pad) FROM target";
    assert_eq!((answers(&session, length).await.as_str(), scripted(server, length).as_str()), ("3000000", "3000000"));
    scripted(server, "SET GLOBAL local_infile = OFF");
    refused(&session, &insert.replace("1,", "2,"), &["max_allowed_packet", "1048576", "local_infile"]).await;
    done(&session, &["INSERT INTO target SELECT 3, repeat('x', 1000000)"]).await;
}

/// An executor that dies at any step costs time, and no row. It reads from ranges that are the same for every attempt.
#[tokio::test(flavor = "multi_thread")]
async fn an_executor_dies_while_it_writes() {
    let server = &MariaDb::start();
    scripted(
        server,
        "CREATE TABLE source (n int PRIMARY KEY, pad varchar(200)) AS SELECT seq AS n, repeat('x', 200) AS pad FROM seq_1_to_40000;
         ANALYZE TABLE source; CREATE TABLE target (n int PRIMARY KEY, pad text)",
    );
    for (step, begun) in ["INFO LIKE 'LOAD DATA%'", "INFO LIKE 'SELECT%pad%'", "INFO LIKE 'COMMIT%'"].iter().enumerate()
    {
        let cluster = processes("3", &[]);
        let session = cluster.session().await;
        let source = create(server, "source", "source", ", snapshot 'locked'");
        done(&session, &[STAGES, &source, &create(server, "target", "target", "")]).await;
        let begun = format!("SELECT count(*) > 0 {SESSIONS} AND {begun}");
        let (inserted, ()) = tokio::join!(sql(&session, "INSERT INTO target SELECT n, pad FROM source"), async {
            let patience = std::time::Instant::now() + Duration::from_secs(5);
            while scripted(server, &begun) != "1" && std::time::Instant::now() < patience {}
            killed(cluster.executors[step]);
        });
        assert!(inserted.as_ref().is_ok_and(|count| count.contains("40000")), "{inserted:?}");
        assert_eq!(scripted(server, "SELECT count(*), sum(n) FROM target"), "40000|800020000", "step {step}");
        until(server, LEFT, "0").await;
        scripted(server, "TRUNCATE target");
    }
}

/// A cluster whose primary is killed as soon as a session of the server does what `begun` says, and that is started again.
pub(super) async fn primary_killed(
    server: &MariaDb,
    tables: &[&str],
    statement: &str,
    begun: &str,
) -> (Processes, Session) {
    let seen = format!("SELECT count(*) > 0 {SESSIONS} AND {begun}");
    let (cluster, session) = asking::primary_killed(tables, statement, || scripted(server, &seen) == "1").await;
    // It ends what the first one began, one way or the other.
    until(server, "SELECT count(*) FROM windlass_loads WHERE state = 'writing'", "0").await;
    until(server, LEFT, "0").await;
    (cluster, session)
}

/// A primary that dies at any step: all rows or none, and those that the statement's outcome says.
#[tokio::test(flavor = "multi_thread")]
async fn the_primary_dies_while_rows_are_written() {
    let server = &MariaDb::start();
    scripted(
        server,
        "CREATE TABLE source (n int PRIMARY KEY, pad varchar(200)) AS SELECT seq AS n, repeat('x', 200) AS pad FROM seq_1_to_30000;
         ANALYZE TABLE source; CREATE TABLE target (n int, pad text)",
    );
    let tables = [create(server, "source", "source", ""), create(server, "target", "target", "")];
    let insert = "INSERT INTO target SELECT n, pad FROM source";
    for begun in [
        "INFO LIKE 'LOAD DATA%'",
        "INFO LIKE 'INSERT INTO%target%'",
        "INFO LIKE 'UPDATE%windlass_loads%'",
        "INFO = 'COMMIT'",
    ] {
        let (_cluster, session) = primary_killed(server, &[&tables[0], &tables[1]], insert, begun).await;
        let count = answers(&session, "SELECT count(*) FROM target").await;
        let loads = scripted(server, "SELECT count(*) FROM windlass_loads WHERE state = 'loaded'");
        assert_eq!(count, if loads == "1" { "30000" } else { "0" }, "{begun}: {loads} loads");
        done(&session, &[insert]).await;
        let twice = scripted(server, "SELECT count(*) FROM target");
        assert_eq!(twice, if loads == "1" { "60000" } else { "30000" }, "{begun}");
        scripted(server, "TRUNCATE target; TRUNCATE windlass_loads");
    }
    let made = format!("{} AS SELECT n, pad FROM source", create(server, "made", "made", ""));
    for begun in ["INFO LIKE 'INSERT INTO%_new%'", "INFO LIKE 'RENAME TABLE%'"] {
        let (_cluster, session) = primary_killed(server, &[&tables[0]], &made, begun).await;
        let loads = scripted(server, "SELECT count(*) FROM windlass_loads WHERE state = 'loaded'");
        match loads.as_str() {
            "1" => assert_eq!(answers(&session, "SELECT count(*) FROM made").await, "30000", "{begun}"),
            _ => {
                assert_eq!(scripted(server, "SHOW TABLES LIKE 'made'"), "", "{begun}");
                done(&session, &[&made]).await;
            }
        }
        assert_eq!(scripted(server, "SELECT count(*), sum(n) FROM made"), "30000|450015000", "{begun}");
        scripted(server, "DROP TABLE made; TRUNCATE windlass_loads");
    }
}

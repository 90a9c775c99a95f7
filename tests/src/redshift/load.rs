//! Loads that succeed, and those that are refused.

use super::*;
use crate::cluster::{run, windlass};

const TYPED: &str = "SELECT true AS a_bool, arrow_cast(-7, 'Int8') AS an_int8, arrow_cast(200, 'UInt8') AS a_uint8, \
    arrow_cast(40000, 'UInt16') AS a_uint16, CAST(-3 AS INT) AS an_int, arrow_cast(4000000000, 'UInt32') AS a_uint32, \
    CAST(9223372036854775807 AS BIGINT) AS a_bigint, arrow_cast(18446744073709551615, 'UInt64') AS a_uint64, \
    CAST(1.5 AS REAL) AS a_real, CAST(0.1 AS DOUBLE) AS a_double, CAST(12345.678 AS DECIMAL(12, 3)) AS a_decimal, \
    CAST('-12345678901234567890123456789012345678' AS DECIMAL(38, 0)) AS a_wide, 'tab\tü' AS \"A_Text\", NULL AS nothing, X'00ff5c' AS bytes, \
    DATE '2024-02-29' AS a_date, TIME '23:59:59.999999' AS a_time, TIMESTAMP '2024-02-29 12:00:00.123456' AS a_stamp, \
    arrow_cast('2024-02-29T12:00:00.5+02:00', 'Timestamp(Microsecond, Some(\"Europe/Berlin\"))') AS a_tz, \
    arrow_cast('word', 'Dictionary(Int32, Utf8)') AS a_word, make_array(1, NULL, 3) AS a_list, \
    named_struct('x', 1, 'y', make_array('a', 'b')) AS a_struct, map(['k'], [CAST(2.5 AS DOUBLE)]) AS a_map";

/// A table that is created has a column for each type, and the values.
#[tokio::test(flavor = "multi_thread")]
async fn every_type_is_created_and_loaded() {
    let server = &Server::start();
    let session = embedded().await;
    let lengths = ", varchar_length '100', varbyte_length '50'";
    done(&session, &[STAGES, &copy(server, TYPED, "typed", lengths)]).await;
    let kinds = "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute \
        WHERE attrelid = 'typed'::regclass AND attnum > 0";
    assert_eq!(
        server.scripted(kinds),
        "a_bool boolean, an_int8 smallint, a_uint8 smallint, a_uint16 integer, an_int integer, a_uint32 bigint, a_bigint bigint, \
         a_uint64 numeric(20,0), a_real real, a_double double precision, a_decimal numeric(12,3), a_wide numeric(38,0), \
         a_text character varying(100), nothing character varying(100), bytes varbyte, a_date date, a_time time without time zone, \
         a_stamp timestamp without time zone, a_tz timestamp with time zone, a_word character varying(100), a_list super, a_struct super, \
         a_map super"
    );
    let values = "t|-7|200|40000|-3|4000000000|9223372036854775807|18446744073709551615|1.5|0.1|12345.678|\
        -12345678901234567890123456789012345678|tab\tü||\\x00ff5c|2024-02-29|23:59:59.999999|2024-02-29 12:00:00.123456|\
        2024-02-29 10:00:00.5+00|word|[1, null, 3]|{\"x\": 1, \"y\": [\"a\", \"b\"]}|{\"k\": 2.5}";
    assert_eq!(server.scripted("SELECT * FROM typed"), values);
    // Rows are added, of types that become those of the columns.
    done(&session, &[&copy(server, TYPED, "typed", "")]).await;
    assert_eq!(server.scripted("SELECT count(*), count(DISTINCT typed::text) FROM typed"), "2|1");
    nothing_is_left(server, "both loads");
    assert_eq!(
        server.scripted("SELECT count(*), sum(rows), min(target) FROM windlass_loads"),
        "2|2|\"public\".\"typed\""
    );
    // The columns that COPY cannot read go through a table of their own, and no other.
    assert!(server.heard("CREATE TEMP TABLE").len() == 2 && !server.heard("ANALYZE").is_empty());

    // The same by statements that keep the table.
    let made = create(server, "made", "made", "");
    let rows = "SELECT value AS id, CASE WHEN value > 0 THEN 'x' END AS v FROM generate_series(1, 20000)";
    done(&session, &[&format!("{made} AS {rows}")]).await;
    done(&session, &["INSERT INTO made SELECT 0, NULL", "INSERT INTO made (id) VALUES (-1)"]).await;
    assert_eq!(server.scripted("SELECT count(*), sum(id), count(v) FROM made"), "20002|200009999|20000");
    done(&session, &["INSERT OVERWRITE made SELECT 7, 'seven'"]).await;
    assert_eq!(server.scripted("SELECT * FROM made"), "7|seven");
    refused(&session, &format!("{} AS SELECT 1 AS id", create(server, "again", "made", "")), &["has a table", "made"])
        .await;
    refused(&session, "SELECT * FROM made", &["only written", "UNLOAD", "STORED AS PARQUET"]).await;
    nothing_is_left(server, "all");
}

/// The columns of a target decide, wherever they stand; and nothing is lost on the way.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_with_other_types_gets_what_fits() {
    let server = &Server::start();
    server.scripted(
        "CREATE TABLE t (price numeric(6,2), id int NOT NULL, name varchar(4), at timestamptz, day date, free text DEFAULT 'usual', doc super,
         code char(2)); CREATE TABLE strict (id int, must int NOT NULL); CREATE TABLE odd (id int, place point)",
    );
    let session = embedded().await;
    let row = "SELECT '12.5' AS price, arrow_cast(5, 'Int64') AS id, 1234 AS name, '2024-03-01T12:00:00+02:00' AS at, \
        TIMESTAMP '2024-03-01 00:00:00' AS day, '{\"a\": 1}' AS doc, 'ab' AS code";
    done(&session, &[STAGES, &copy(server, row, "public.T", "")]).await;
    let loaded = "12.50|5|1234|2024-03-01 10:00:00+00|2024-03-01|usual|{\"a\": 1}|ab";
    assert_eq!(server.scripted("SELECT * FROM t"), loaded);
    done(&session, &[&create(server, "t", "t", ""), "INSERT INTO t (id, name) VALUES (6, 'six'), (7, NULL)"]).await;
    for (given, words) in [
        ("SELECT 1 AS id, '1.555' AS price", &["'1.555' of the column price in row 1", "numeric(6,2)"][..]),
        ("SELECT 1 AS id, 12345.5 AS price", &["'12345.5' of the column price"]),
        (
            "SELECT value + 2147483640 AS id FROM generate_series(1, 9)",
            &["'2147483648' of the column id in row 8", "integer"],
        ),
        ("SELECT 1 AS id, 'longer' AS name", &["column name in row 1 has 6 bytes", "varchar(4)"]),
        ("SELECT 1 AS id, 'äöü' AS name", &["has 6 bytes"]),
        ("SELECT CAST(NULL AS INT) AS id", &["column id is NULL in row 1"]),
        ("SELECT 1 AS id, TIMESTAMP '2024-03-01 00:00:01' AS day", &["column day", "none of date"]),
        ("SELECT 1 AS id, 'yesterday' AS at", &["'yesterday' of the column at"]),
        ("SELECT 1 AS id, '{' AS doc", &["column doc", "no JSON"]),
        ("SELECT 1 AS id, DATE '2024-01-01' AS price", &["column price is numeric(6,2)", "takes no Date32"]),
        ("SELECT 1 AS id, 2 AS other", &["has no column other"]),
        ("SELECT 1 AS id, 2 AS \"ID\"", &["appears twice"]),
        ("SELECT 1 AS name", &["column id", "NOT NULL and has no default"]),
    ] {
        refused(&session, &copy(server, given, "t", ""), words).await;
        nothing_is_left(server, given);
    }
    refused(&session, &copy(server, "SELECT 1 AS id", "strict", ""), &["column must", "no default"]).await;
    refused(&session, &copy(server, "SELECT 1 AS place", "odd", ""), &["column place is point", "not written"]).await;
    done(&session, &[&copy(server, "SELECT 1 AS id", "odd", "")]).await;
    assert_eq!(server.scripted("SELECT count(*) FROM t"), "3");
    for (given, words) in [
        ("SELECT INTERVAL '1 day' AS x", &["column x is INTERVAL", "VARCHAR"][..]),
        ("SELECT CAST('1' AS DECIMAL(50, 0)) AS x", &["column x is DECIMAL of 50 digits", "38"]),
        ("SELECT make_array(TIME '10:00:00') AS x", &["column x has Time64"]),
    ] {
        refused(&session, &copy(server, given, "new", ""), words).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_added_replaced_or_merged_by_their_key() {
    let server = &Server::start();
    server.scripted(
        "CREATE TABLE t (id int, part int, v text, kept text DEFAULT 'kept'); INSERT INTO t SELECT n, 0, 'old', 'mine' FROM generate_series(1, 5000) n",
    );
    let session = embedded().await;
    let rows = "SELECT CAST(value AS INT) AS id, CAST(0 AS INT) AS part, 'new' AS v FROM generate_series(4001, 6000)";
    done(&session, &[STAGES, &format!("CREATE TABLE s AS {rows}")]).await;
    let count = "SELECT count(*), count(*) FILTER (WHERE v = 'new'), count(*) FILTER (WHERE kept = 'mine') FROM t";
    let key = |mode: &str| format!(", mode '{mode}', key 'ID, part'");
    done(&session, &[&copy(server, "SELECT * FROM s", "t", &key("merge"))]).await;
    assert_eq!(server.scripted(count), "6000|2000|5000", "what the rows do not have is kept");
    done(&session, &[&copy(server, "SELECT * FROM s", "t", &key("upsert"))]).await;
    assert_eq!(server.scripted(count), "6000|2000|4000", "the rows are other ones");
    done(&session, &[&copy(server, "SELECT * FROM s LIMIT 10", "t", "")]).await;
    assert_eq!(server.scripted(count), "6010|2010|4000");
    for mode in ["upsert", "merge"] {
        let twice = "SELECT * FROM s UNION ALL SELECT * FROM s WHERE id = 5000";
        refused(&session, &copy(server, twice, "t", &key(mode)), &["two rows of the load", "(id, part)=(5000, 0)"])
            .await;
        let empty = "SELECT CAST(NULL AS INT) AS id, 0 AS part, 'x' AS v";
        refused(&session, &copy(server, empty, "t", &key(mode)), &["column id is NULL in row 1"]).await;
        let without = format!(", mode '{mode}'");
        refused(&session, &copy(server, "SELECT * FROM s", "t", &without), &[mode, "key"]).await;
        let wrong = format!("{without}, key 'w'");
        refused(&session, &copy(server, "SELECT * FROM s", "t", &wrong), &["'w'", "rows do not have"]).await;
    }
    refused(&session, &copy(server, "SELECT * FROM s", "t", ", mode 'other'"), &["append, replace, upsert, merge"])
        .await;
    assert_eq!(server.scripted(count), "6010|2010|4000", "nothing of these");
    for _ in 0..2 {
        done(&session, &[&copy(server, "SELECT * FROM s", "made", &key("upsert"))]).await;
    }
    assert_eq!(server.scripted("SELECT count(*) FROM made"), "2000");
    done(&session, &[&copy(server, "SELECT * FROM s WHERE id > 5990", "t", ", mode 'replace'")]).await;
    assert_eq!(server.scripted(count), "10|10|0");
    refused(&session, &copy(server, "SELECT 1 / (id - 5000) AS id FROM s", "t", ", mode 'replace'"), &["zero"]).await;
    done(&session, &[&copy(server, "SELECT * FROM s WHERE id < 0", "t", &key("merge"))]).await;
    assert_eq!(server.scripted(count), "10|10|0");
    nothing_is_left(server, "all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_with_a_name_is_loaded_once() {
    let server = &Server::start();
    let session = embedded().await;
    let load = copy(server, "SELECT value AS n FROM generate_series(1, 1000)", "t", ", load 'monday'");
    done(&session, &[STAGES]).await;
    // Several at a time: one of them is the load.
    let all = tokio::join!(sql(&session, &load), sql(&session, &load), sql(&session, &load));
    let loaded = [&all.0, &all.1, &all.2].into_iter().filter(|result| result.is_ok()).count();
    assert_eq!(loaded, 1, "{all:?}");
    for error in [all.0, all.1, all.2].into_iter().filter_map(Result::err) {
        assert!(error.contains("the load 'monday'") && error.contains("nothing was written"), "{error}");
    }
    refused(&session, &load, &["the load 'monday' is in", "already: 1000 rows", "nothing was written"]).await;
    assert_eq!(server.scripted("SELECT count(*) FROM t"), "1000");
    done(&session, &[&load.replace("monday", "tues''day"), &load.replace("table 't'", "table 'other'")]).await;
    assert_eq!(server.scripted("SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM other)"), "2000|1000");
    refused(&session, &create(server, "x", "t", ", load 'a'"), &["'load' names one load"]).await;
    refused(&session, &load.replace("monday", "a\\b"), &["'\\\\'", "no text for Redshift"]).await;
    nothing_is_left(server, "all");
}

/// What the warehouse refuses is told with the file, the column and the row that it notes.
#[tokio::test(flavor = "multi_thread")]
async fn the_warehouse_says_what_it_does_not_load() {
    let server = &Server::start();
    let session = embedded().await;
    done(&session, &[STAGES]).await;
    // A text that the server's COPY does not read.
    let odd = "SELECT value AS id, CASE WHEN value = 70 THEN arrow_cast(X'610062', 'Utf8') ELSE 'a' END AS v FROM generate_series(1, 100)";
    for more in [String::new(), over_api(server)] {
        let words = [
            "Redshift does not load the rows: invalid null byte",
            "column v",
            "row 70 of s3://lake/staging/",
            "parquet",
        ];
        refused(&session, &copy(server, odd, "t", &more), &words).await;
        nothing_is_left(server, "a refused row");
        let other = format!(", iam_role 'arn:aws:iam::1:role/other'{more}");
        refused(&session, &copy(server, "SELECT 1 AS a", "t", &other), &["Not authorized", "role/other"]).await;
        nothing_is_left(server, "a wrong role");
    }
    // The keys of the bucket in place of a role.
    let keys = |key: &str| copy(server, "SELECT 1 AS a", "t", ", iam_role ''").replace("'key'", &format!("'{key}'"));
    done(&session, &[&keys("key")]).await;
    let error = refused(&session, &keys("nokey"), &["AWS Access Key Id"]).await;
    assert!(!error.contains(BUCKET_SECRET), "{error}");
    assert_eq!(server.scripted("SELECT * FROM t"), "1");
    nothing_is_left(server, "all");
}

/// Files are as large as the table says, small ones first, as many as there are slices; and the way of compression is free.
#[tokio::test(flavor = "multi_thread")]
async fn files_have_the_size_that_slices_like() {
    let server = &Server::start();
    let session = embedded().await;
    done(&session, &[STAGES]).await;
    let rows = "SELECT value AS id, md5(CAST(value AS VARCHAR)) AS v FROM generate_series(1, 60000)";
    for (compression, load) in [("snappy", 1), ("zstd", 2), ("none", 3)] {
        let more = format!(", file_bytes '524288', compression '{compression}'");
        let mut held = server.hold(["", "FORMAT AS PARQUET"], false);
        let statement = copy(server, rows, "t", &more);
        let ((), copied) = tokio::join!(
            async {
                reached(&mut held).await;
                // The manifest, the mark, and files: of 64 KiB for each of four slices, and of 512 KiB.
                let files: usize = server.staged().parse().expect("a number");
                assert!((2 + 6..50).contains(&files), "{compression}: {files}");
                drop(held);
            },
            sql(&session, &statement)
        );
        assert!(copied.as_ref().is_err_and(|error| error.contains("lost")), "{copied:?}");
        nothing_is_left(server, "a session that was ended");
        done(&session, &[&statement]).await;
        assert_eq!(server.scripted("SELECT count(*), count(DISTINCT v) FROM t"), format!("{}|60000", load * 60000));
    }
    nothing_is_left(server, "all");
}

/// All of it over the Data API.
#[tokio::test(flavor = "multi_thread")]
async fn the_data_api_does_the_same() {
    let server = &Server::start();
    let session = embedded().await;
    let api = over_api(server);
    done(&session, &[STAGES, &copy(server, TYPED, "typed", &api), &copy(server, TYPED, "typed", &api)]).await;
    assert_eq!(server.scripted("SELECT count(*), count(DISTINCT typed::text) FROM typed"), "2|1");
    let rows = |value: &str| format!("SELECT value AS id, {value} AS v FROM generate_series(1, 500)");
    for value in ["'a'", "'b'"] {
        for mode in ["upsert", "merge"] {
            let more = format!("{api}, mode '{mode}', key 'id', load '{mode} {}'", value.trim_matches('\''));
            done(&session, &[&copy(server, &rows(value), "t", &more)]).await;
        }
    }
    assert_eq!(server.scripted("SELECT count(*), min(v), max(v) FROM t"), "500|b|b");
    let again = format!("{api}, mode 'merge', key 'id', load 'merge b'");
    refused(&session, &copy(server, &rows("'c'"), "t", &again), &["the load 'merge b' is in", "500 rows"]).await;
    done(&session, &[&create(server, "t", "t", &api), "INSERT OVERWRITE t SELECT 1, 'x'"]).await;
    assert_eq!(server.scripted("SELECT * FROM t"), "1|x");
    let none = copy(server, "SELECT 1 AS a", "n", &api).replace(api::CLUSTER, "none");
    refused(&session, &none, &["the Redshift Data API refuses", "doesn't exist"]).await;
    refused(
        &session,
        &copy(server, "SELECT 1 AS a", "n", ", via 'data-api'"),
        &["cluster_identifier", "workgroup_name"],
    )
    .await;
    refused(&session, &copy(server, "SELECT 1 AS a", "n", ", cluster_identifier 'c'"), &["via 'data-api'"]).await;
    nothing_is_left(server, "all");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_wrong_is_said() {
    let server = &Server::start();
    let session = embedded().await;
    let place = location(server);
    let load = |place: &str, options: &str| {
        format!("COPY (SELECT 1 AS a) TO '{place}' STORED AS REDSHIFT OPTIONS ({options})")
    };
    let all = "table 't', staging 's3://lake/staging/', iam_role 'default'";
    for (statement, words) in [
        (load(&place, "table 't'"), &["'staging'"][..]),
        (load(&place, "table 't', staging '/tmp/x', iam_role 'default'"), &["'/tmp/x'", "s3://bucket/folder/"]),
        (load(&place, "staging 's3://lake/staging/', iam_role 'default'"), &["'table'"]),
        (load(&place, "table 't', staging 's3://lake/staging/'"), &["'iam_role'", "aws_secret_access_key"]),
        (load(&place, &all.replace("'t'", "'a b'")), &["'a b' is no name of a table"]),
        (load(&place, &format!("{all}, file_bytes '1'")), &["'file_bytes' is 1", "65536"]),
        (load(&place, &format!("{all}, varchar_length '70000'")), &["'varchar_length'", "65535"]),
        (load("redshift://a:hunter2@h/d", all), &["has a password"]),
        (load("redshift://a@h", all), &["names no database"]),
        (load("redshift:///d", all), &["no host"]),
        (load("redshift://h/d", all), &["as which user"]),
        (load("postgresql://a@h/d", all), &["scheme postgresql", "redshift://"]),
        (load("redshift://a@127.0.0.1:1/d", all), &["cannot be reached"]),
    ] {
        let error = refused(&session, &statement, words).await;
        assert!(!error.contains("hunter2"), "{error}");
    }
    let missing = create(server, "x", "nosuch", "");
    refused(&session, &missing, &["no table \"public\".\"nosuch\""]).await;
}

/// The command line builds these statements.
#[test]
fn files_are_loaded_from_the_command_line() {
    let server = &Server::start();
    server.scripted("CREATE TABLE zip (id varchar(5), name varchar(3), amount numeric(20, 2))");
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("z.csv").display().to_string();
    std::fs::write(&file, "id,name,amount\n007,a,12345678901234567.89\n010,b,\n").expect("a file can be written");
    let s3 = &server.shared.s3;
    let options = [
        "staging=s3://lake/staging/".to_owned(),
        format!("iam_role={ROLE}"),
        format!("aws_endpoint={s3}"),
        "aws_allow_http=true".to_owned(),
        "aws_region=us-east-1".to_owned(),
        "aws_access_key_id=key".to_owned(),
        format!("aws_secret_access_key={BUCKET_SECRET}"),
    ];
    let into = location(server);
    let copied = |more: &[&str]| {
        let mut arguments = vec!["copy", &file, "--into", &into, "--table", "zip", "--mode", "merge", "--key", "id"];
        options.iter().for_each(|option| arguments.extend(["--option", option]));
        run(windlass(&[&arguments, more].concat()))
    };
    let planned = copied(&["--dry-run"]).expect("it is explained");
    let shown = "SinkExec: REDSHIFT, table=\"public\".\"zip\", mode=merge, key=[id], staging=s3://lake/staging/";
    assert!(planned.contains(shown) && !planned.contains(BUCKET_SECRET), "{planned}");
    assert_eq!(server.scripted("SELECT count(*) FROM zip"), "0");
    copied(&["--load-id", "first"]).expect("it is loaded");
    assert_eq!(server.scripted("SELECT * FROM zip ORDER BY id"), "007|a|12345678901234567.89\n010|b|");
    assert!(copied(&["--load-id", "first"]).expect_err("it is there").contains("the load 'first' is in"));
    nothing_is_left(server, "all");
}

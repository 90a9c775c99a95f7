//! Writing: each row once for its key, whoever dies; and what is promised where something fails.

use super::*;
use crate::cluster::{Processes, killed};
use std::time::{Duration, Instant};

fn processes(executors: &str) -> Processes {
    Processes::shaped(tempfile::tempdir().expect("a folder can be made"), [executors, "2", "1GiB"], &[])
}

/// What is written is what is read again, in transactions and in batches.
#[tokio::test(flavor = "multi_thread")]
async fn every_type_is_written() {
    let columns = "(id VARCHAR, at BIGINT, b BOOLEAN, i SMALLINT, d DECIMAL(38, 10), f DOUBLE, r REAL, s VARCHAR, x BYTEA, day DATE, \
        time TIME, stamp TIMESTAMP(6), zoned TIMESTAMP(6) WITH TIME ZONE, m STRUCT<x BIGINT, y VARCHAR>, l BIGINT[], deep STRUCT<a VARCHAR[]>)";
    let values = "VALUES ('a', 1, true, -32768, 9999999999999999999999999999.0123456789, 0.1, 1.5, 'it''s ü𝄞', X'00ff', date '2024-02-29', \
        time '23:59:59.5', timestamp '2024-02-29 12:00:00.000001', timestamptz '2024-02-29 12:00:00Z', \
        named_struct('x', 1, 'y', 'z'), [1, NULL, 3], named_struct('a', ['p', 'q'])), \
        ('a', 2, NULL, NULL, -1.5, -1e100, NULL, '', NULL, NULL, NULL, NULL, NULL, named_struct('x', NULL, 'y', 'only'), [], NULL)";
    for (server, more) in [(Server::moto(), ""), (Server::dynalite(), ", transactions 'false'")] {
        server.create(keyed("kinds", "id:S at:N"));
        let session = embedded().await;
        done(&session, &[STAGES, &create(&server, "kinds", columns, more)]).await;
        assert_eq!(answers(&session, &format!("INSERT INTO kinds {values}")).await, "2");
        let first = "SELECT b, i, d, f, r, s, encode(x, 'hex'), day, time, stamp, zoned, m['x'], m['y'], l, deep FROM kinds WHERE at = 1";
        assert_eq!(
            answers(&session, first).await,
            "true|-32768|9999999999999999999999999999.0123456789|0.1|1.5|it's ü𝄞|00ff|2024-02-29|23:59:59.500|\
             2024-02-29T12:00:00.000001|2024-02-29T12:00:00Z|1|z|[1, , 3]|{a: [p, q]}"
        );
        let second = "SELECT b IS NULL, d, f, s = '', m['x'] IS NULL, m['y'], array_length(l) IS NULL OR array_length(l) = 0, deep IS NULL \
            FROM kinds WHERE at = 2";
        assert_eq!(answers(&session, second).await, "true|-1.5000000000|-1e100|true|true|only|true|true");
        let stored = server.items("kinds");
        let one = stored.iter().find(|item| item["at"]["N"] == "2").expect("it is there");
        assert!(one.get("b").is_none() && one["m"]["M"].get("x").is_none(), "NULL is left out: {one}");
        // By key: the same again changes nothing, and another value replaces.
        assert_eq!(answers(&session, &format!("INSERT INTO kinds {values}")).await, "2");
        done(&session, &["INSERT INTO kinds (id, at, s) VALUES ('a', 2, 'new')"]).await;
        assert_eq!(answers(&session, "SELECT count(*), max(s) FROM kinds WHERE d IS NULL").await, "1|new");
        assert_eq!(answers(&session, "SELECT count(*) FROM kinds").await, "2");
    }
}

/// Many rows, of which some are throttled, not processed, and of equal keys.
#[tokio::test(flavor = "multi_thread")]
async fn batches_are_written_in_full() {
    let server = Server::dynalite();
    server.create(keyed("numbers", "id:N"));
    let session = embedded().await;
    done(&session, &[STAGES, &create_of(&server, "t", "numbers", "(id BIGINT, v BIGINT)", "")]).await;
    server.command(&json!({"unprocessed": 5}));
    server.fault("ThrottlingException", 400, 3, &["BatchWriteItem"]);
    server.fault("InternalServerError", 500, 2, &["BatchWriteItem"]);
    server.fault("reset", 0, 2, &["BatchWriteItem"]);
    assert_eq!(answers(&session, "INSERT INTO t SELECT value, value * 2 FROM generate_series(1, 2000)").await, "2000");
    assert_eq!(answers(&session, "SELECT count(*), sum(id), sum(v) FROM t").await, "2000|2001000|4002000");
    let batches = server.requests("BatchWriteItem");
    assert!(
        batches.iter().all(|batch| batch["RequestItems"]["numbers"].as_array().is_some_and(|items| items.len() <= 25))
    );
    // Of rows with one key, the last one of a task.
    let twice = "INSERT INTO t SELECT value % 30, value FROM (SELECT value FROM generate_series(1, 600) ORDER BY value LIMIT 600)";
    done(&session, &[twice]).await;
    assert_eq!(answers(&session, "SELECT count(*), min(v), max(v) FROM t WHERE id < 30").await, "30|571|600");
    server.fault("ThrottlingException", 400, 1_000_000, &["BatchWriteItem"]);
    done(&session, &[&create_of(&server, "hasty", "numbers", "(id BIGINT, v BIGINT)", ", retry_seconds '1'")]).await;
    let many = "INSERT INTO hasty SELECT value, 0 FROM generate_series(1, 200)";
    refused(&session, many, &["too many requests", "write_share"]).await;
}

/// A write takes its share of the capacity.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_takes_its_share() {
    let server = Server::dynalite();
    let mut table = keyed("numbers", "id:N");
    table["BillingMode"] = json!("PROVISIONED");
    table["ProvisionedThroughput"] = json!({"ReadCapacityUnits": 1000, "WriteCapacityUnits": 400});
    server.create(table);
    let session = embedded().await;
    done(&session, &[STAGES, &create_of(&server, "t", "numbers", "(id BIGINT)", ", write_share '0.5'")]).await;
    let since = Instant::now();
    done(
        &session,
        &["INSERT INTO t SELECT value FROM (SELECT value FROM generate_series(1, 200) ORDER BY value LIMIT 200)"],
    )
    .await;
    // One task of four writes 200 units at 50 a second, of which one second comes at once.
    let took = since.elapsed();
    assert!(took > Duration::from_millis(1_500) && took < Duration::from_secs(15), "{took:?}");
    assert_eq!(server.items("numbers").len(), 200);
}

/// A taken key is an error, which names it; what a transaction had is not there.
#[tokio::test(flavor = "multi_thread")]
async fn taken_keys_are_refused() {
    let server = Server::moto();
    server.create(keyed("numbers", "id:S at:N"));
    server.put("numbers", [json!({"id": {"S": "taken"}, "at": {"N": "1"}, "v": {"N": "5"}})]);
    let session = embedded().await;
    done(
        &session,
        &[STAGES, &create_of(&server, "t", "numbers", "(id VARCHAR, at BIGINT, v BIGINT)", ", write_mode 'insert'")],
    )
    .await;
    let insert = "INSERT INTO t VALUES ('free', 1, 1), ('taken', 1, 6), ('free', 2, 2)";
    refused(&session, insert, &["id = 'taken', at = 1", "the key is taken", "write_mode 'put'"]).await;
    refused(&session, "INSERT INTO t VALUES ('taken', 1, 6)", &["the key is taken"]).await;
    refused(&session, "INSERT INTO t VALUES ('twice', 1, 1), ('twice', 1, 2)", &["id = 'twice'", "the key is taken"])
        .await;
    assert_eq!(server.items("numbers").len(), 1, "all or nothing");
    // The very same item may be one of another attempt.
    assert_eq!(answers(&session, "INSERT INTO t VALUES ('free', 1, 1), ('taken', 1, 5), ('free', 1, 1)").await, "3");
    assert_eq!(server.items("numbers").len(), 2);
    let many = "INSERT INTO t SELECT 'many', value, value FROM generate_series(1, 300)";
    assert_eq!(answers(&session, many).await, "300");
    assert_eq!(answers(&session, many).await, "300");
    refused(&session, &many.replace("value, value", "value, 7"), &["id = 'many'", "the key is taken"]).await;
    // Of the numbers there is one that fits.
    assert_eq!(answers(&session, "SELECT count(*), sum(v) FROM t WHERE id = 'many'").await, "300|45150");
}

/// What DynamoDB does not take is said with its row, and how to mend it.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_named() {
    let server = Server::dynalite();
    server.create(keyed("numbers", "id:S at:N"));
    let session = embedded().await;
    let more = ", transactions 'false'";
    let columns = "(id VARCHAR, at BIGINT, f DOUBLE, s VARCHAR, d DECIMAL(76, 0))";
    done(&session, &[STAGES, &create_of(&server, "t", "numbers", columns, more)]).await;
    let values = |values: &str| format!("INSERT INTO t {values}");
    for (statement, words) in [
        (values("VALUES (NULL, 1, 1, '', 1)"), &["the key id is NULL"][..]),
        (values("VALUES ('', 1, 1, '', 1)"), &["the key id is empty"]),
        (values("SELECT repeat('x', 3000), 1, 1, '', 1"), &["the key id has 3000 bytes", "2048"]),
        (values("VALUES ('k', 1, 'NaN'::double, '', 1)"), &["id = 'k', at = 1", "column f is NaN"]),
        (values("VALUES ('k', 1, 1e200, '', 1)"), &["column f is 1e200", "38 digits"]),
        (
            values("SELECT 'k', 1, 1, '', 123456789012345678901234567890123456789012::decimal(76, 0)"),
            &["column d is", "38 digits"],
        ),
        (values("SELECT 'k', 1, 1, repeat('x', 500000), 1"), &["id = 'k', at = 1", "has 5000", "takes 409600"]),
        ("INSERT OVERWRITE t SELECT * FROM t".to_string(), &["not replaced as a whole", "INSERT INTO"]),
    ] {
        refused(&session, &statement, words).await;
        assert_eq!(server.items("numbers").len(), 0, "{statement}");
    }
    for (columns, words) in [
        ("(id VARCHAR, f DOUBLE)", "the key at: a column of that name is wanted"),
        ("(id VARCHAR, at VARCHAR)", "the column at is written as S"),
        ("(id BOOLEAN, at BIGINT)", "the key id: a column of that name is wanted"),
    ] {
        done(&session, &[&create_of(&server, "wrong", "numbers", columns, more)]).await;
        refused(&session, "INSERT INTO wrong SELECT * FROM wrong", &[words]).await;
        done(&session, &["DROP TABLE wrong"]).await;
    }
    done(&session, &[&create_of(&server, "plain", "numbers", columns, "")]).await;
    refused(
        &session,
        "INSERT INTO plain VALUES ('a', 1, 1, '', 1), ('a', 2, 1, '', 1)",
        &["no transactions", "transactions 'false'"],
    )
    .await;
    // One row needs none.
    assert_eq!(answers(&session, "INSERT INTO plain VALUES ('a', 1, 1, '', 1)").await, "1");
}

/// CREATE EXTERNAL TABLE … AS and COPY … TO create the table; a statement that fails leaves none that it has created.
#[tokio::test(flavor = "multi_thread")]
async fn writes_create_tables() {
    for (server, more) in [(Server::moto(), ""), (Server::dynalite(), ", transactions 'false'")] {
        let session = embedded().await;
        let keys = format!("{more}, partition_key 'id', sort_key 'at'");
        let create = |name: &str| create_of(&server, name, name, "", &keys);
        let query = "SELECT 'k' || (value % 7) AS id, value AS at, value / 2.0 AS half, date '2024-02-29' AS day FROM generate_series(1, 300)";
        done(&session, &[STAGES, &format!("{} AS {query}", create("made"))]).await;
        let sums = "SELECT count(*), count(DISTINCT id), sum(at), sum(half), min(day) FROM made";
        let summed = answers(&session, sums).await;
        assert!(summed.starts_with("300|7|45150|22575.0") && summed.ends_with("|2024-02-29"), "{summed}");
        let table = server.call("DescribeTable", json!({"TableName": "made"}));
        assert_eq!(table["Table"]["BillingModeSummary"]["BillingMode"], "PAY_PER_REQUEST");
        assert_eq!(
            table["Table"]["KeySchema"],
            json!([{"AttributeName": "id", "KeyType": "HASH"}, {"AttributeName": "at", "KeyType": "RANGE"}])
        );
        done(&session, &["INSERT INTO made VALUES ('new', 1, 2, date '2024-03-01')"]).await;
        assert_eq!(answers(&session, "SELECT count(*) FROM made WHERE id = 'new'").await, "1");
        done(&session, &["DROP TABLE made"]).await;
        refused(&session, &format!("{} AS {query}", create("made")), &["table made", "exists"]).await;
        assert_eq!(server.items("made").len(), 301, "the table that was there is untouched");
        // What fails has created it, and removes it; dynalite keeps no tags of a new table, by which it is known again.
        let failing = query.replace("value / 2.0", "1 / (value - 200)");
        refused(&session, &format!("{} AS {failing}", create("failed")), &["zero"]).await;
        let gone =
            || server.command(&json!({"call": "DescribeTable", "body": {"TableName": "failed"}}))["status"] == 400;
        let patience = Instant::now() + Duration::from_secs(20);
        while more.is_empty() && !gone() {
            assert!(Instant::now() < patience, "the table stays");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let copy = |rows: &str, keys: &str| {
            let options = create_of(&server, "copied", "copied", "", keys);
            let (_, to) = options.split_once("LOCATION").expect("it has a location");
            let (location, options) = to.split_once("OPTIONS").expect("it has options");
            format!("COPY ({rows}) TO {location} STORED AS DYNAMODB OPTIONS {options}")
        };
        refused(&session, &copy(query, more), &["partition_key"]).await;
        refused(&session, &copy(query, ", partition_key 'other'"), &["no column other"]).await;
        done(&session, &[&copy(query, &keys)]).await;
        done(&session, &[&copy(&query.replace("300", "310"), &keys)]).await;
        assert_eq!(server.items("copied").len(), 310, "the second one adds");
    }
}

/// Waits until `count` requests of this kind have come.
async fn until_asked(server: &Server, target: &str, count: usize) {
    let patience = Instant::now() + Duration::from_secs(20);
    let mut seen = 0;
    while seen < count {
        seen += server.requests(target).len();
        assert!(Instant::now() < patience, "{seen} requests");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An executor that dies while it reads or writes costs time, and no row.
#[tokio::test(flavor = "multi_thread")]
async fn an_executor_dies_while_it_writes() {
    let server = Server::dynalite();
    server.create(keyed("source", "id:N"));
    server.create(keyed("target", "id:N"));
    server.put("source", (0..2000).map(|n| json!({"id": {"N": n.to_string()}, "v": {"N": "1"}})));
    server.command(&json!({"delay": 5}));
    let cluster = processes("3");
    let session = cluster.session().await;
    done(
        &session,
        &[STAGES, &create(&server, "source", "", ""), &create(&server, "target", "(id BIGINT, v BIGINT)", "")],
    )
    .await;
    for (victim, target, count) in [(0, "Scan", 2), (1, "BatchWriteItem", 10)] {
        server.requests("");
        let (inserted, ()) = tokio::join!(sql(&session, "INSERT INTO target SELECT id, v FROM source"), async {
            until_asked(&server, target, count).await;
            killed(cluster.executors[victim]);
        });
        assert!(inserted.as_ref().is_ok_and(|count| count.contains("2000")), "{inserted:?}");
        assert_eq!(
            answers(&session, "SELECT count(*), count(DISTINCT id), sum(v) FROM target").await,
            "2000|2000|2000"
        );
    }
}

/// A primary that dies: some of the rows are there, each once, and the statement can be repeated.
#[tokio::test(flavor = "multi_thread")]
async fn the_primary_dies_while_rows_are_written() {
    let server = Server::dynalite();
    server.create(keyed("target", "id:N"));
    server.command(&json!({"delay": 20}));
    let dir = tempfile::tempdir().expect("a folder can be made");
    let at = dir.path().display().to_string();
    let cluster = Processes::shaped(dir, ["2", "2", "1GiB"], &[]);
    let session = cluster.session().await;
    done(&session, &[STAGES, &create(&server, "target", "(id BIGINT, v BIGINT)", "")]).await;
    let insert = "INSERT INTO target SELECT value, 1 FROM generate_series(1, 3000)";
    let under_way = tokio::spawn(async move { sql(&session, insert).await });
    until_asked(&server, "BatchWriteItem", 8).await;
    killed(cluster.primary().into());
    under_way.abort();
    let up = ["cluster", "up", "--executors", "2", "--slots", "2", "--memory", "1GiB", "--dir", &at, "--json"];
    let described = crate::cluster::succeed(crate::cluster::windlass(&up));
    let described: Value = serde_json::from_str(&described).expect("the cluster is described");
    let session = Client::connect(described["url"].as_str().expect("it has an address")).await.expect("it answers");
    server.command(&json!({"delay": 0}));
    let some: u64 = answers(&session, "SELECT count(*) FROM target").await.parse().expect("it is a number");
    assert!((1..=3000).contains(&some), "{some}");
    assert_eq!(answers(&session, insert).await, "3000");
    assert_eq!(answers(&session, "SELECT count(*), sum(id), sum(v) FROM target").await, "3000|4501500|3000");
}

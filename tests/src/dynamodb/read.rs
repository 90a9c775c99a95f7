//! Reading: types, segments, the rate, and what goes wrong in the middle.

use super::*;
use std::time::{Duration, Instant};

/// One item of each kind of value, and the columns that are found.
#[tokio::test(flavor = "multi_thread")]
async fn every_type_is_read() {
    for server in [Server::dynalite(), Server::moto()] {
        server.create(keyed("kinds", "id:S"));
        server.put(
            "kinds",
            [
                json!({"id": {"S": "a"}, "n": {"N": "-9223372036854775808"}, "big": {"N": "99999999999999999999999999999999999999"},
                    "d": {"N": "0.5"}, "tiny": {"N": "1E-100"}, "s": {"S": "it's \"ü\" 𝄞"}, "b": {"B": "AP8="}, "t": {"BOOL": true},
                    "m": {"M": {"x": {"N": "1"}, "in": {"M": {"y": {"S": "deep"}}}}}, "l": {"L": [{"N": "1"}, {"N": "2.5"}, {"NULL": true}]},
                    "ss": {"SS": ["p", "q"]}, "ns": {"NS": ["1", "2"]}, "bs": {"BS": ["AQ=="]}, "mixed": {"N": "5"}, "nothing": {"NULL": true},
                    "any": {"L": [{"N": "1"}, {"S": "x"}]}, "empty": {"M": {}}, "Upper Case": {"S": "u"}}),
                json!({"id": {"S": "b"}, "n": {"N": "9223372036854775807"}, "big": {"N": "-1"}, "d": {"N": "-1234567890.125"},
                    "tiny": {"N": "1E+50"}, "s": {"S": "other"}, "t": {"BOOL": false}, "m": {"M": {"x": {"NULL": true}, "more": {"BOOL": true}}},
                    "l": {"L": []}, "mixed": {"M": {"k": {"L": [{"S": "v"}, {"BOOL": true}, {"B": "AQ=="}]}}}}),
                json!({"id": {"S": "c"}}),
            ],
        );
        let session = embedded().await;
        done(&session, &[&create(&server, "kinds", "", "")]).await;
        let columns =
            "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = 'kinds'";
        assert_eq!(
            answers(&session, columns).await,
            "id|Utf8|NO\nUpper Case|Utf8|YES\nany|List(Utf8)|YES\nb|Binary|YES\nbig|Decimal128(38, 0)|YES\nbs|List(Binary)|YES\n\
             d|Decimal128(38, 3)|YES\nempty|Utf8|YES\n\
             l|List(Decimal128(38, 1))|YES\nm|Struct(\"in\": Struct(\"y\": Utf8), \"more\": Boolean, \"x\": Int64)|YES\nmixed|Utf8|YES\n\
             n|Int64|YES\nnothing|Utf8|YES\nns|List(Int64)|YES\ns|Utf8|YES\nss|List(Utf8)|YES\nt|Boolean|YES\ntiny|Utf8|YES"
        );
        let first = "SELECT n, big, d, s = 'it''s \"ü\" 𝄞', encode(b, 'hex'), t, m['x'], m['in']['y'], l[1], l[2], l[3] IS NULL, \
            array_length(ss), ns[1] + ns[2], encode(bs[1], 'hex'), mixed, nothing IS NULL, any, empty, \"Upper Case\", length(tiny) > 5 \
            FROM kinds WHERE id = 'a'";
        assert_eq!(
            answers(&session, first).await,
            "-9223372036854775808|99999999999999999999999999999999999999|0.500|true|00ff|true|1|deep|1.0|2.5|true|2|3|01|5|true|\
             [1, x]|{}|u|true"
        );
        let second = "SELECT n, big, d, t, m['x'] IS NULL, m['in'] IS NULL, m['more'], coalesce(array_length(l), 0), mixed, ss IS NULL \
            FROM kinds WHERE id = 'b'";
        assert_eq!(
            answers(&session, second).await,
            "9223372036854775807|-1|-1234567890.125|false|true|true|true|0|{\"k\":[\"v\",true,\"AQ==\"]}|true"
        );
        let third =
            "SELECT count(*) FROM kinds WHERE n IS NULL AND s IS NULL AND m IS NULL AND l IS NULL AND mixed IS NULL";
        assert_eq!(answers(&session, third).await, "1");
        let declared =
            "(id VARCHAR NOT NULL, n DECIMAL(38, 2), d DOUBLE, m VARCHAR, l VARCHAR, mixed VARCHAR, none BIGINT)";
        done(&session, &[&create_of(&server, "declared", "kinds", declared, "")]).await;
        assert_eq!(
            answers(&session, "SELECT n, d, m, l, mixed, none IS NULL FROM declared WHERE id = 'a'").await,
            "-9223372036854775808.00|0.5|{\"in\":{\"y\":\"deep\"},\"x\":1}|[1,2.5,null]|5|true"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_an_error_that_names_it() {
    let server = Server::dynalite();
    server.create(keyed("odd", "id:S at:N"));
    server.put(
        "odd",
        [json!({"id": {"S": "k"}, "at": {"N": "7"}, "v": {"N": "1.5"}, "w": {"S": "x"}, "huge": {"N": "1E100"},
        "m": {"M": {"x": {"S": "no"}}}, "day": {"S": "2024-02-29"}, "stamp": {"S": "2024-02-29T12:00:00.5"}})],
    );
    let session = embedded().await;
    let columns = "(id VARCHAR, at BIGINT, v BIGINT, w BIGINT, huge DECIMAL(38, 0), m STRUCT<x BIGINT>, day DATE, stamp TIMESTAMP(6))";
    done(&session, &[&create(&server, "odd", columns, "")]).await;
    for (column, words) in [
        ("v", &["attribute v is N 1.5", "Int64", "DECIMAL(38, s), DOUBLE or VARCHAR"][..]),
        ("w", &["attribute w is S 'x'", "VARCHAR"]),
        ("huge", &["attribute huge is N", "VARCHAR"]),
        ("m", &["attribute m.x is S 'no'"]),
    ] {
        refused(&session, &format!("SELECT {column} FROM odd"), words).await;
        refused(&session, &format!("SELECT {column} FROM odd"), &["item id = 'k', at = 7"]).await;
    }
    assert_eq!(answers(&session, "SELECT day, stamp FROM odd").await, "2024-02-29|2024-02-29T12:00:00.500");
    done(&session, &[&create_of(&server, "nulls", "odd", columns, ", mismatch 'null'")]).await;
    let nulls =
        "SELECT id, v IS NULL, w IS NULL, huge IS NULL, m['x'] IS NULL FROM nulls WHERE v IS NULL AND w IS NULL";
    assert_eq!(answers(&session, nulls).await, "k|true|true|true|true");
    done(&session, &[&create_of(&server, "strict", "odd", "(id VARCHAR NOT NULL, gone VARCHAR NOT NULL)", "")]).await;
    refused(&session, "SELECT * FROM strict", &["attribute gone is missing", "NOT NULL", "id = 'k'"]).await;
    for (columns, more, words) in [
        ("(id INTERVAL)", "", "no type"),
        ("", ", read_share '2'", "more than 0 and up to 1"),
        ("", ", segments '0'", "expected 1 to"),
        ("", ", sample_rows '-1'", "expected 1 to"),
        ("", ", session_token 'x', colour 'red'", "unknown option 'colour'"),
    ] {
        refused(&session, &create_of(&server, "wrong", "odd", columns, more), &[words]).await;
    }
}

fn numbered(count: usize) -> impl Iterator<Item = Value> {
    (0..count)
        .map(|n| json!({"id": {"N": n.to_string()}, "v": {"N": (n % 7).to_string()}, "pad": {"S": "x".repeat(200)}}))
}

const SUMS: &str = "SELECT count(*), count(DISTINCT id), sum(id), sum(v) FROM t";
const SUMMED: &str = "1000|1000|499500|2997";

/// Each item once, whatever the segments; limits, counts and projections ask for no more than they need.
#[tokio::test(flavor = "multi_thread")]
async fn segments_have_each_item_once() {
    let server = Server::dynalite();
    server.create(keyed("numbers", "id:N"));
    server.put("numbers", numbered(1000));
    let session = embedded().await;
    done(&session, &[STAGES]).await;
    for segments in [1, 3, 50] {
        done(&session, &[&create_of(&server, "t", "numbers", "", &format!(", segments '{segments}'"))]).await;
        server.requests("Scan");
        assert_eq!(answers(&session, SUMS).await, SUMMED);
        let scans = server.requests("Scan");
        let numbers: std::collections::BTreeSet<u64> =
            scans.iter().filter_map(|scan| scan["Segment"].as_u64()).collect();
        let expected = segments.min(4);
        assert_eq!(numbers, (0..expected).collect(), "as many segments as there are tasks, within the bound");
        assert!(scans.iter().all(|scan| scan["TotalSegments"] == expected && scan["ConsistentRead"] == false));
        assert!(scans.iter().all(|scan| scan["ProjectionExpression"].is_string()), "the text is not read");
        assert_eq!(answers(&session, "SELECT count(*) FROM t").await, "1000");
        assert!(server.requests("Scan").iter().all(|scan| scan["Select"] == "COUNT"));
        assert_eq!(answers(&session, "SELECT count(*) FROM (SELECT id FROM t LIMIT 10)").await, "10");
        let few = server.requests("Scan");
        assert!(few.len() == 1 && few[0]["Limit"] == 10, "{few:?}");
        done(&session, &["DROP TABLE t"]).await;
    }
    done(&session, &[&create_of(&server, "t", "numbers", "", ", consistent 'true'")]).await;
    assert_eq!(answers(&session, SUMS).await, SUMMED);
    assert!(server.requests("Scan").iter().skip(1).all(|scan| scan["ConsistentRead"] == true));
}

/// What is throttled, cut or refused for a while is asked for again, and not for ever.
#[tokio::test(flavor = "multi_thread")]
async fn faults_are_borne_for_a_while() {
    let server = Server::dynalite();
    server.create(keyed("numbers", "id:N"));
    server.put("numbers", numbered(1000));
    let session = embedded().await;
    done(
        &session,
        &[
            STAGES,
            &create_of(&server, "t", "numbers", "", ""),
            &create_of(&server, "hasty", "numbers", "", ", retry_seconds '1'"),
        ],
    )
    .await;
    for (code, status) in [
        ("ProvisionedThroughputExceededException", 400),
        ("ThrottlingException", 400),
        ("InternalServerError", 500),
        ("ServiceUnavailable", 503),
        ("reset", 0),
    ] {
        server.fault(code, status, 5, &["Scan"]);
        assert_eq!(answers(&session, SUMS).await, SUMMED, "{code}");
    }
    server.fault("ThrottlingException", 400, 1_000_000, &["Scan"]);
    refused(&session, &SUMS.replace(" t", " hasty"), &["too many requests for 1 seconds", "retry_seconds", "injected"])
        .await;
    server.command(&json!({"faults": false}));
    server.fault("AccessDeniedException", 400, 1_000_000, &["Scan"]);
    refused(&session, SUMS, &["is not allowed", "injected AccessDeniedException"]).await;
}

/// A scan takes its share of the capacity, and ends when nobody waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_scan_takes_its_share() {
    let server = Server::dynalite();
    let mut table = keyed("numbers", "id:N");
    table["BillingMode"] = json!("PROVISIONED");
    table["ProvisionedThroughput"] = json!({"ReadCapacityUnits": 20, "WriteCapacityUnits": 5});
    server.create(table);
    server.put("numbers", numbered(1000));
    let session = embedded().await;
    let columns = "(id BIGINT, v BIGINT, pad VARCHAR)";
    done(&session, &[STAGES, &create_of(&server, "t", "numbers", columns, ", read_share '0.5'")]).await;
    server.requests("Scan");
    let since = Instant::now();
    assert_eq!(answers(&session, SUMS).await, SUMMED);
    let took = since.elapsed();
    // 230 kB are 28 units; at 10 a second, with a second of them at once and one request of each task overdrawn.
    assert!(took > Duration::from_millis(1_200) && took < Duration::from_secs(20), "{took:?}");
    let scans = server.requests("Scan");
    assert!(scans.iter().all(|scan| scan["Limit"].as_u64().is_some_and(|limit| limit <= 400)), "{scans:?}");
    // At a trickle: it would take minutes.
    done(&session, &[&create_of(&server, "slow", "numbers", columns, ", read_share '0.01'")]).await;
    let asked = tokio::time::timeout(Duration::from_secs(1), sql(&session, "SELECT * FROM slow")).await;
    assert!(asked.is_err(), "{asked:?}");
    let patience = Instant::now() + Duration::from_secs(20);
    while session.status().await.expect("it has a state").jobs_running > 0 {
        assert!(Instant::now() < patience, "the statement does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.requests("Scan");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(server.requests("Scan").len(), 0, "nobody asks any more");
}

//! Exports to S3 and to local files, and imports of them.

use super::*;

const TYPES: &str = "(id VARCHAR, at BIGINT, d DECIMAL(38, 0), f DOUBLE, s VARCHAR, b BINARY, t BOOLEAN, l BIGINT[], m STRUCT<x BIGINT, y VARCHAR>)";

/// Options by which the lake in the same server is reached. The first one has no comma before it.
fn lake(server: &Server, more: &str) -> String {
    format!(
        "OPTIONS ('aws.endpoint' '{}', 'aws.allow_http' 'true', 'aws.region' 'us-east-1', 'aws.access_key_id' 'key', \
         'aws.secret_access_key' '{SECRET}'{more})",
        server.url()
    )
}

fn item(number: usize) -> Value {
    json!({"id": {"S": format!("it's \"ü\" {}", number % 7)}, "at": {"N": number.to_string()},
        "d": {"N": format!("{}{number:06}", "9".repeat(32))}, "f": {"N": "-1.5E-7"}, "s": {"S": "line\n\tü𝄞"}, "b": {"B": "AP8="},
        "t": {"BOOL": number % 2 == 0}, "l": {"L": [{"N": "1"}, {"NULL": true}, {"N": number.to_string()}]},
        "m": {"M": {"x": {"N": "7"}, "y": {"S": ""}}}})
}

/// Items, in an order of their own.
fn sorted(mut items: Vec<Value>) -> Vec<String> {
    items.sort_by_key(|item| item["at"]["N"].as_str().and_then(|at| at.parse::<u64>().ok()));
    items.iter().map(Value::to_string).collect()
}

/// A table goes to S3 and comes back, item by item; what the manifests say is so.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_exported_and_imported() {
    let server = Server::moto();
    server.command(&json!({"bucket": "lake"}));
    for table in ["shop", "back"] {
        server.create(keyed(table, "id:S at:N"));
    }
    server.put("shop", (0..500).map(item));
    let cluster =
        crate::cluster::Processes::shaped(tempfile::tempdir().expect("a folder can be made"), ["2", "2", "1GiB"], &[]);
    let session = cluster.session().await;
    done(&session, &[STAGES, &create(&server, "shop", TYPES, ""), &create(&server, "back", TYPES, "")]).await;
    let copy = format!("COPY shop TO 's3://lake/export/' STORED AS DYNAMODB_JSON {}", lake(&server, ""));
    assert_eq!(answers(&session, &copy).await, "500");
    let files = server.command(&json!({"files": "export/"}));
    let files: std::collections::BTreeMap<String, Value> = serde_json::from_value(files).expect("texts by key");
    let named = |ending: &str| {
        let found = files.iter().find(|(key, _)| key.ends_with(ending));
        found.unwrap_or_else(|| panic!("no {ending} in {:?}", files.keys())).1.clone()
    };
    let summary: Value = serde_json::from_str(named("manifest-summary.json")["text"].as_str().unwrap()).unwrap();
    assert_eq!((&summary["itemCount"], &summary["outputFormat"]), (&json!(500), &json!("DYNAMODB_JSON")));
    let manifest = &files[summary["manifestFilesS3Key"].as_str().expect("it names the other manifest")];
    assert_eq!(manifest["md5"], named("manifest-files.md5")["text"]);
    let mut items = Vec::new();
    for line in manifest["text"].as_str().unwrap().lines() {
        let line: Value = serde_json::from_str(line).expect("each line is JSON");
        let file = &files[line["dataFileS3Key"].as_str().expect("it names a file")];
        assert_eq!(line["md5Checksum"], file["md5"]);
        let lines: Vec<Value> =
            file["text"].as_str().unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(line["itemCount"], lines.len());
        items.extend(lines.into_iter().map(|mut line| line["Item"].take()));
    }
    let data = files.keys().filter(|key| key.contains("/data/")).count();
    assert_eq!(manifest["text"].as_str().unwrap().lines().count(), data, "no other file is there: {:?}", files.keys());
    assert_eq!(items.len(), 500);
    // With columns that are found.
    let create = format!(
        "CREATE EXTERNAL TABLE exported STORED AS DYNAMODB_JSON LOCATION 's3://lake/export/' {}",
        lake(&server, "")
    );
    done(&session, &[&create]).await;
    let columns = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'exported'";
    assert_eq!(
        answers(&session, columns).await,
        "at|Int64\nb|Binary\nd|Decimal128(38, 0)\nf|Decimal128(38, 8)\nid|Utf8\nl|List(Int64)\nm|Struct(\"x\": Int64, \"y\": Utf8)\ns|Utf8\nt|Boolean"
    );
    done(&session, &["INSERT INTO back SELECT id, at, d, f, s, b, t, l, m FROM exported"]).await;
    let numbers = |items: Vec<Value>| {
        sorted(items).join("\n").replace("\"-0.00000015\"", "\"-1.5E-7\"").replace("\"-1.5e-7\"", "\"-1.5E-7\"")
    };
    assert_eq!(numbers(server.items("back")), numbers(server.items("shop")));
    let explained = sql(&session, "EXPLAIN SELECT * FROM exported").await.unwrap();
    assert!(explained.contains("files of s3://lake/export/") && !explained.contains(SECRET), "{explained}");
    // A second export is beside the first one.
    assert_eq!(answers(&session, &copy).await, "500");
    assert_eq!(answers(&session, "SELECT count(*), count(DISTINCT at) FROM exported").await, "1000|500");
    refused(&session, "INSERT OVERWRITE exported SELECT * FROM exported", &["not replaced"]).await;
}

/// An export that the service itself has written.
#[tokio::test(flavor = "multi_thread")]
async fn exports_of_the_service_are_read() {
    let server = Server::moto();
    server.command(&json!({"bucket": "lake"}));
    server.create(keyed("shop", "id:S at:N"));
    server.put("shop", (0..100).map(item));
    let recovery = json!({"PointInTimeRecoveryEnabled": true});
    server.call("UpdateContinuousBackups", json!({"TableName": "shop", "PointInTimeRecoverySpecification": recovery}));
    let arn = server.call("DescribeTable", json!({"TableName": "shop"}))["Table"]["TableArn"].clone();
    let export = json!({"TableArn": arn, "S3Bucket": "lake", "S3Prefix": "theirs"});
    let export = server.call("ExportTableToPointInTime", export)["ExportDescription"]["ExportArn"].clone();
    let state =
        || server.call("DescribeExport", json!({"ExportArn": export}))["ExportDescription"]["ExportStatus"].to_string();
    crate::asking::until("the export", state, "\"COMPLETED\"", std::time::Duration::from_millis(20)).await;
    let session = embedded().await;
    let create = format!(
        "CREATE EXTERNAL TABLE theirs STORED AS DYNAMODB_JSON LOCATION 's3://lake/theirs/' {}",
        lake(&server, "")
    );
    done(&session, &[STAGES, &create]).await;
    assert_eq!(
        answers(&session, "SELECT count(*), sum(at), max(d), min(m['x']), count(DISTINCT id) FROM theirs").await,
        "100|4950|99999999999999999999999999999999000099|7|7"
    );
}

/// Files of any of the forms, in any folder; and what is wrong with one.
#[tokio::test(flavor = "multi_thread")]
async fn local_files_are_read_and_written() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let at = folder.path().display().to_string();
    let session = embedded().await;
    std::fs::create_dir_all(folder.path().join("in/deep")).unwrap();
    std::fs::write(folder.path().join("in/a.json"), "{\"id\":{\"S\":\"a\"},\"n\":{\"N\":\"1\"}}\n\n").unwrap();
    std::fs::write(
        folder.path().join("in/deep/b.json"),
        "{\"Item\":{\"id\":{\"S\":\"b\"},\"n\":{\"N\":\"2.5\"},\"ss\":{\"SS\":[\"x\",\"y\"]}}}",
    )
    .unwrap();
    std::fs::write(folder.path().join("in/manifest-files.json"), "{\"itemCount\":1}").unwrap();
    std::fs::write(folder.path().join("in/_started"), "").unwrap();
    let read = format!("CREATE EXTERNAL TABLE files STORED AS DYNAMODB_JSON LOCATION '{at}/in/'");
    done(&session, &[STAGES, &read]).await;
    assert_eq!(answers(&session, "SELECT id, n, ss FROM files ORDER BY id").await, "a|1.0|\nb|2.5|[x, y]");
    let copy = format!(
        "COPY (SELECT value AS id, repeat('x', 1000) AS s FROM generate_series(1, 20000)) TO '{at}/out/' STORED AS DYNAMODB_JSON"
    );
    assert_eq!(answers(&session, &copy).await, "20000");
    let plain = format!("COPY (SELECT 7 AS id) TO '{at}/plain/' STORED AS DYNAMODB_JSON OPTIONS (compression 'none')");
    assert_eq!(answers(&session, &plain).await, "1");
    for (name, columns, expected) in [("out", "", "20000|200010000"), ("plain", "(id BIGINT)", "1|7")] {
        let read = format!("CREATE EXTERNAL TABLE {name} {columns} STORED AS DYNAMODB_JSON LOCATION '{at}/{name}/'");
        done(&session, &[&read]).await;
        assert_eq!(answers(&session, &format!("SELECT count(*), sum(id) FROM {name}")).await, expected);
    }
    // A write that fails leaves nothing.
    let failing = copy.replace("value AS id", "1 / (value - 15000) AS id").replace("/out/", "/failed/");
    refused(&session, &failing, &["zero"]).await;
    let left = || {
        let found = std::process::Command::new("find").args([&format!("{at}/failed"), "-type", "f"]).output().unwrap();
        String::from_utf8_lossy(&found.stdout).into_owned()
    };
    crate::asking::until("files of a failed write", left, "", std::time::Duration::from_millis(50)).await;

    std::fs::write(folder.path().join("in/a.json"), "{\"id\":{\"S\":\"a\"}}\n{\"id\":1}\n").unwrap();
    refused(&session, "SELECT * FROM files", &["in/a.json", "line 2", "the attribute id has no type"]).await;
    std::fs::write(folder.path().join("in/a.json"), "{\"id\":{\"S\":\"a\"},\"n\":{\"S\":\"x\"}}\n").unwrap();
    refused(&session, "SELECT * FROM files", &["in/a.json", "the attribute n is S 'x'"]).await;
    for (location, options, words) in [
        (at.as_str(), "", &["no items by which columns"][..]),
        ("relative/", "", &["absolute path"]),
        (&at, "OPTIONS ('aws.region' 'eu')", &["'aws.region'", "s3://bucket/"]),
        ("s3://lake/x/", "OPTIONS ('aws.sse' 'rot13')", &["'aws.sse'", "aws:kms"]),
    ] {
        let at = if location == at { format!("{at}/none/") } else { location.to_string() };
        refused(
            &session,
            &format!("CREATE EXTERNAL TABLE no STORED AS DYNAMODB_JSON LOCATION '{at}' {options}"),
            words,
        )
        .await;
    }
}

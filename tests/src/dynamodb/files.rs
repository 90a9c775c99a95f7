//! Files of DynamoDB JSON: what the service exports to S3, and what it imports from there.

use super::*;
use crate::cluster::Processes;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// A cluster that reaches the buckets of this server, and a bucket.
fn with_bucket(server: &Server) -> Processes {
    assert_eq!(server.command(&json!({"bucket": "lake"}))["status"], 200);
    let environment = [
        ("AWS_ENDPOINT_URL", server.url()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_REGION", "eu-central-1"),
    ];
    Processes::with("512MiB", &environment)
}

/// Its text has neither quotes nor escapes, which the import of this server cuts off.
fn all_kinds(id: &str) -> Value {
    json!({"id": {"S": id}, "n": {"N": "-9223372036854775808"}, "big": {"N": "99999999999999999999999999999999999999"},
        "d": {"N": "0.125"}, "tiny": {"N": "1E-130"}, "s": {"S": "its ü 𝄞"}, "b": {"B": "AP8="}, "t": {"BOOL": true},
        "m": {"M": {"x": {"N": "1"}, "in": {"M": {"y": {"S": "deep"}}}}}, "l": {"L": [{"N": "1"}, {"N": "2.5"}, {"NULL": true}]},
        "ss": {"SS": ["p", "q"]}, "ns": {"NS": ["1", "2"]}, "bs": {"BS": ["AQ=="]}, "nothing": {"NULL": true}})
}

const KINDS: &str = "(id VARCHAR, n BIGINT, big DECIMAL(38, 0), d DECIMAL(38, 3), tiny VARCHAR, s VARCHAR, b BYTEA, t BOOLEAN, \
    m STRUCT<\"in\" STRUCT<y VARCHAR>, x BIGINT>, l DECIMAL(38, 1)[], ss VARCHAR[], ns BIGINT[], bs BYTEA[], nothing VARCHAR)";

/// Waits until an export or an import has ended. `description`: the name by which the service describes it.
fn ended(server: &Server, kind: &str, description: &str, started: &Value) -> Value {
    let (operation, arn) = (format!("Describe{kind}"), format!("{kind}Arn"));
    let ask = json!({&arn: started[description][&arn]});
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let answer = server.call(&operation, ask.clone());
        if answer[description][format!("{kind}Status")] != "IN_PROGRESS" {
            return answer[description].clone();
        }
        assert!(std::time::Instant::now() < patience, "{operation}: {answer}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// The server's own export is read, its own import takes what is written, and the items are the same in between.
#[tokio::test(flavor = "multi_thread")]
async fn exports_are_read_and_imports_take_what_is_written() {
    let server = Server::moto();
    let cluster = with_bucket(&server);
    server.create(keyed("kinds", "id:S"));
    server.put("kinds", (0..40).map(|number| all_kinds(&format!("{number:02}"))));
    let recovery =
        json!({"TableName": "kinds", "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": true}});
    server.call("UpdateContinuousBackups", recovery);
    let table = server.call("DescribeTable", json!({"TableName": "kinds"}))["Table"]["TableArn"].clone();
    let export = json!({"TableArn": table, "S3Bucket": "lake", "S3Prefix": "exports", "ExportFormat": "DYNAMODB_JSON"});
    let exported = server.call("ExportTableToPointInTime", export);
    assert_eq!(ended(&server, "Export", "ExportDescription", &exported)["ExportStatus"], "COMPLETED");

    // This server leaves .json out of the names of the files, so the columns are declared.
    let compressed = "OPTIONS (compression 'gzip')";
    let deep = "SET datafusion.execution.listing_table_ignore_subdirectory = false";
    let read = format!(
        "CREATE EXTERNAL TABLE exported {KINDS} STORED AS DYNAMODB_JSON LOCATION 's3://lake/exports/AWSDynamoDB/' {compressed}"
    );
    let sums = "SELECT count(*) AS n, count(distinct id) AS ids, min(n) AS least, max(big) AS big, min(m['in']['y']) AS y, \
        sum(l[2]) AS l, min(tiny) AS tiny, max(encode(bs[1], 'hex')) AS bs FROM exported";
    let summed = "n,ids,least,big,y,l,tiny,bs\n40,40,-9223372036854775808,99999999999999999999999999999999999999,deep,100.0,1E-130,01\n";
    assert_eq!(cluster.sql(&[deep, &read, STAGES, sums]).unwrap(), summed);

    let copy = "COPY exported TO 's3://lake/imports/' STORED AS DYNAMODB_JSON OPTIONS (compression 'gzip')";
    assert_eq!(cluster.sql(&[deep, STAGES, copy]).unwrap(), "count\n40\n");
    let import = json!({"S3BucketSource": {"S3Bucket": "lake", "S3KeyPrefix": "imports/"}, "InputFormat": "DYNAMODB_JSON",
        "InputCompressionType": "GZIP", "TableCreationParameters": keyed("copied", "id:S")});
    let imported = server.call("ImportTable", import);
    let imported = ended(&server, "Import", "ImportTableDescription", &imported);
    assert_eq!(
        (&imported["ImportStatus"], &imported["ImportedItemCount"]),
        (&json!("COMPLETED"), &json!(40)),
        "{imported}"
    );
    // Sets are lists, and NULL is left out.
    let mut item = all_kinds("07");
    item["ss"] = json!({"L": [{"S": "p"}, {"S": "q"}]});
    item["ns"] = json!({"L": [{"N": "1"}, {"N": "2"}]});
    item["bs"] = json!({"L": [{"B": "AQ=="}]});
    item["tiny"] = json!({"S": "1E-130"});
    item.as_object_mut().expect("it is an object").remove("nothing");
    let copied = server.items("copied");
    let found = copied.iter().find(|found| found["id"]["S"] == "07").expect("it is there");
    assert_eq!(without_zeros(found), item, "{found}");
    cluster.at_rest().await;
}

/// `0.125` for `0.1250`, in all numbers.
fn without_zeros(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| match value.as_str().filter(|text| name == "N" && text.contains('.')) {
                Some(text) => (name.clone(), json!(text.trim_end_matches('0').trim_end_matches('.'))),
                None => (name.clone(), without_zeros(value)),
            })
            .collect(),
        Value::Array(values) => values.iter().map(without_zeros).collect(),
        other => other.clone(),
    }
}

/// The statements of docs/connectors.md, on a table of the server.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_the_documentation_works() {
    let server = Server::moto();
    let cluster = with_bucket(&server);
    server.create(keyed("orders", "id:N"));
    server.put("orders", (0..50).map(|id| json!({"id": {"N": id.to_string()}, "price": {"N": format!("{id}.25")}})));
    let document = std::fs::read_to_string(crate::cluster::root().join("docs/connectors.md")).expect("it can be read");
    let (_, section) = document.split_once("\n### Exports and imports of S3\n").expect("it has the section");
    let (_, example) = section.split_once("```sql\n").expect("it has an example");
    let (example, _) = example.split_once("```").expect("the example ends");
    let statements: Vec<&str> = example.split(";\n").map(str::trim).filter(|text| !text.is_empty()).collect();
    let create = create(&server, "orders", "", "");
    let mut all = vec![create.as_str(), STAGES];
    all.extend(&statements);
    all.push("SELECT count(*) AS n, count(DISTINCT id) AS ids, sum(price) AS sum FROM exported");
    assert_eq!(
        cluster.sql(&all).unwrap(),
        "count\n50\ncount(*)\n50\ncount\n50\nn,ids,sum\n100,50,2475.00\n",
        "{statements:?}"
    );
    cluster.at_rest().await;
}

/// What is exported from a table and inserted into another one is the same, of every type that a column has.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_comes_back_from_files() {
    let server = Server::dynalite();
    server.create(keyed("first", "id:S"));
    server.create(keyed("second", "id:S"));
    let folder = tempfile::tempdir().expect("a folder can be made");
    let session = embedded().await;
    let columns = "(id VARCHAR, i SMALLINT, d DECIMAL(38, 10), f DOUBLE, r REAL, s VARCHAR, x BYTEA, day DATE, time TIME, \
        stamp TIMESTAMP(6), zoned TIMESTAMP(6) WITH TIME ZONE, m STRUCT<x BIGINT, y VARCHAR>, l BIGINT[], deep STRUCT<a VARCHAR[]>)";
    let values = "VALUES ('a', -32768, 9999999999999999999999999999.0123456789, 0.1, 1.5, 'it''s ü𝄞', X'00ff', date '2024-02-29', \
        time '23:59:59.5', timestamp '2024-02-29 12:00:00.000001', timestamptz '2024-02-29 12:00:00Z', \
        named_struct('x', 1, 'y', 'z'), [1, NULL, 3], named_struct('a', ['p', 'q'])), \
        ('b', NULL, -1.5, -1e100, NULL, '', NULL, NULL, NULL, NULL, NULL, named_struct('x', NULL, 'y', 'only'), [], NULL)";
    let create = |name: &str| create_of(&server, name, name, columns, ", transactions 'false'");
    done(&session, &[STAGES, &create("first"), &create("second")]).await;
    assert_eq!(answers(&session, &format!("INSERT INTO first {values}")).await, "2");
    let more = "INSERT INTO first (id, i, s) SELECT 'row ' || value, value % 100, repeat('x', value) FROM generate_series(1, 300)";
    assert_eq!(answers(&session, more).await, "300");
    for (ending, compression) in [("", "uncompressed"), ("gz", "gzip"), ("zst", "zstd")] {
        let files = folder.path().join(compression).display().to_string();
        let copy = format!("COPY first TO '{files}/' STORED AS DYNAMODB_JSON OPTIONS (compression '{compression}')");
        assert_eq!(answers(&session, &copy).await, "302");
        let names: Vec<_> = std::fs::read_dir(&files).unwrap().map(|entry| entry.unwrap().path()).collect();
        let is_named = |path: &std::path::PathBuf| {
            path.to_string_lossy().ends_with(format!(".json.{ending}").trim_end_matches('.'))
        };
        assert!(!names.is_empty() && names.iter().all(is_named), "{names:?}");
        let read =
            format!("CREATE OR REPLACE EXTERNAL TABLE files {columns} STORED AS DYNAMODB_JSON LOCATION '{files}/'");
        done(&session, &[&read]).await;
        for (one, other) in [("first", "files"), ("files", "first")] {
            let more = format!("SELECT count(*) FROM (SELECT * FROM {one} EXCEPT SELECT * FROM {other})");
            assert_eq!(answers(&session, &more).await, "0", "{one} and {other}, {compression}");
        }
        assert_eq!(answers(&session, "SELECT count(*) FROM files").await, "302");
    }
    assert_eq!(answers(&session, "INSERT INTO second SELECT * FROM files").await, "302");
    let sorted = |table: &str| {
        let mut items = server.items(table);
        items.sort_by_key(|item| item["id"]["S"].as_str().map(str::to_string));
        items
    };
    assert_eq!(sorted("first"), sorted("second"));
    // A file of one name, with the compression that it says.
    let file = folder.path().join("one.json.gz").display().to_string();
    done(&session, &[&format!("COPY (SELECT * FROM first WHERE id = 'a') TO '{file}' STORED AS DYNAMODB_JSON")]).await;
    done(&session, &[&format!("CREATE EXTERNAL TABLE one STORED AS DYNAMODB_JSON LOCATION '{file}'")]).await;
    assert_eq!(
        answers(&session, "SELECT d, i, m['x'] FROM one").await,
        "9999999999999999999999999999.0123456789|-32768|1"
    );
}

fn gzip(text: &str, file: &Path) {
    let output = std::fs::File::create(file).expect("a file can be made");
    let mut gzip = Command::new("gzip").arg("-c").stdin(Stdio::piped()).stdout(output).spawn().expect("gzip is there");
    gzip.stdin.take().expect("it reads").write_all(text.as_bytes()).expect("it reads");
    assert!(gzip.wait().expect("it ends").success());
}

/// A folder as the service leaves it, with its manifests: in the documentation's form, by hand.
#[tokio::test(flavor = "multi_thread")]
async fn a_documented_export_is_read() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let export = folder.path().join("AWSDynamoDB/01693685827463-2d8752fd");
    std::fs::create_dir_all(export.join("data")).expect("a folder can be made");
    let summary = r#"{"version":"2020-06-30","exportArn":"arn:aws:dynamodb:us-east-1:123456789012:table/ProductCatalog/export/01693685827463-2d8752fd",
        "startTime":"2020-11-04T07:28:34.028Z","s3Bucket":"ddb-productcatalog-export","billedSizeBytes":0,"itemCount":3,"outputFormat":"DYNAMODB_JSON"}"#;
    std::fs::write(export.join("manifest-summary.json"), summary).expect("it is written");
    std::fs::write(export.join("manifest-summary.md5"), "+BINPyfJiPLtkwYv0OAAAg==").expect("it is written");
    let data = r#"{"Item":{"Authors":{"SS":["Author1","Author2"]},"Dimensions":{"S":"8.5 x 11.0 x 1.5"},"ISBN":{"S":"333-3333333333"},"Id":{"N":"103"},"InPublication":{"BOOL":false},"PageCount":{"N":"600"},"Price":{"N":"2000"},"ProductCategory":{"S":"Book"},"Title":{"S":"Book 103 Title"}}}
{"Item":{"Authors":{"SS":["Author1"]},"Dimensions":{"S":"8.5 x 11.0 x 0.8"},"ISBN":{"S":"222-2222222222"},"Id":{"N":"102"},"InPublication":{"BOOL":true},"PageCount":{"N":"600"},"Price":{"N":"20.5"},"ProductCategory":{"S":"Book"},"Title":{"S":"Book 102 Title"}}}
"#;
    gzip(data, &export.join("data/asdl123dasas.json.gz"));
    gzip("", &export.join("data/empty0000000.json.gz"));
    let bicycle = r#"{"Item":{"BicycleType":{"S":"Road"},"Brand":{"S":"Brand-Company A"},"Color":{"L":[{"S":"Red"},{"S":"Black"}]},"Id":{"N":"201"},"Price":{"N":"100"}}}"#;
    gzip(bicycle, &export.join("data/zzzz23dasas.json.gz"));
    let session = embedded().await;
    let create = format!("CREATE EXTERNAL TABLE catalog STORED AS DYNAMODB_JSON LOCATION '{}/data/'", export.display());
    done(&session, &[STAGES, &create]).await;
    let columns = "SELECT column_name || ' ' || data_type FROM information_schema.columns WHERE table_name = 'catalog' ORDER BY 1 LIMIT 8";
    assert_eq!(
        answers(&session, columns).await,
        "Authors List(Utf8)\nBicycleType Utf8\nBrand Utf8\nColor List(Utf8)\nDimensions Utf8\nISBN Utf8\nId Int64\nInPublication Boolean"
    );
    let rows = "SELECT \"Id\", \"Price\", \"Authors\"[2], \"Color\"[1], \"InPublication\" FROM catalog ORDER BY 1";
    assert_eq!(answers(&session, rows).await, "102|20.5|||true\n103|2000.0|Author2||false\n201|100.0||Red|");
    assert_eq!(answers(&session, "SELECT count(*), sum(\"Price\") FROM catalog WHERE \"Id\" < 200").await, "2|2020.5");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("it is written");
        path.display().to_string()
    };
    let session = embedded().await;
    done(&session, &[STAGES]).await;
    let good = "{\"Item\":{\"id\":{\"N\":\"1\"}}}\n";
    let create = |name: &str, columns: &str, file: &str| {
        format!("CREATE EXTERNAL TABLE {name} {columns} STORED AS DYNAMODB_JSON LOCATION '{file}'")
    };
    let change = r#"{"Metadata":{"WriteTimestampMicros":{"N":"1680109764000000"}},"Keys":{"id":{"N":"1"}},"NewImage":{"id":{"N":"1"}}}"#;
    let changes = file("changes.json", &format!("{good}{change}\n"));
    refused(&session, &create("t", "", &changes), &["changes.json", "line 2", "incremental export", "STORED AS JSON"])
        .await;
    // Far behind what the columns are found by, and in another part of the file than its first.
    let many = good.repeat(600_000);
    let late = file("late.json", &format!("{many}{{\"Item\":{{\"id\":{{\"N\":\"1.5\"}}}}}}\n{good}"));
    done(&session, &[&create("late", "(id BIGINT)", &late)]).await;
    refused(
        &session,
        "SELECT sum(id) FROM late",
        &["late.json", "line 600001", "the attribute id is N 1.5", "declare the column"],
    )
    .await;
    let whole = file("whole.json", &many);
    done(&session, &["SET datafusion.optimizer.repartition_file_min_size = 1000", &create("whole", "", &whole)]).await;
    assert_eq!(answers(&session, "SELECT count(*), sum(id) FROM whole").await, "600000|600000");
    let plan = sql(&session, "EXPLAIN SELECT sum(id) FROM whole").await.unwrap();
    assert!(plan.contains("format=DYNAMODB_JSON") && plan.contains("whole.json:0.."), "{plan}");

    done(&session, &[&create("declared", "(id VARCHAR NOT NULL, v BIGINT)", &file("null.json", "{\"Item\":{}}"))])
        .await;
    refused(&session, "SELECT * FROM declared", &["null.json", "line 1", "id is missing or NULL", "NOT NULL"]).await;
    refused(&session, &create("x", "(id INTERVAL)", &whole), &["the column id is Interval", "DynamoDB has no type"])
        .await;
    let option = format!("{} OPTIONS (newline_delimited false)", create("x", "", &whole));
    refused(&session, &option, &["DYNAMODB_JSON files have a row on each line"]).await;
    let option = format!("{} OPTIONS (nonsense 1)", create("x", "", &whole));
    refused(&session, &option, &["nonsense"]).await;
    let to = |query: &str| format!("COPY ({query}) TO '{}/out/' STORED AS DYNAMODB_JSON", folder.path().display());
    refused(&session, &to("SELECT interval '1 day' AS i"), &["DynamoDB has no type"]).await;
    refused(&session, &to("SELECT CAST('NaN' AS DOUBLE) AS v"), &["the column v is NaN", "no number of DynamoDB"])
        .await;
    refused(&session, &to("SELECT 1e200 AS v"), &["the column v is", "38 digits"]).await;
    assert!(!folder.path().join("out").exists(), "a write that fails leaves nothing");
    refused(&session, "CREATE EXTERNAL TABLE x STORED AS DYNAMO_JSON LOCATION 'x/'", &["DYNAMODB_JSON"]).await;
}

//! A scan of a table of DynamoDB against boto3 with as many threads, in alternating rounds.
//!
//! The server is a thread of the bench that answers from memory with pages of a megabyte, as DynamoDB cuts them: it is faster than any server of DynamoDB's API
//! that can be had, so that clients are measured. Windlass makes columns of all attributes and counts their values. boto3 makes dictionaries, of which nothing
//! but the number is looked at.

use super::{Options, Runs, watched, windlass};
use crate::process::free_port;
use serde_json::{Value, json};
use std::process::Command;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of a page, about, as DynamoDB counts them.
const PAGE: usize = 1 << 20;
/// Items of the table at scale factor 1.
const ITEMS: f64 = 600_000.0;

const BOTO3: &str = "
import sys, boto3, concurrent.futures
from botocore.config import Config
endpoint, threads = sys.argv[1], int(sys.argv[2])
def read(segment):
    client = boto3.session.Session().client('dynamodb', endpoint_url=endpoint, region_name='eu-central-1',
        aws_access_key_id='key', aws_secret_access_key='secret', config=Config(max_pool_connections=threads))
    pages = client.get_paginator('scan').paginate(TableName='lineitem', Segment=segment, TotalSegments=threads)
    return sum(len(page['Items']) for page in pages)
with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    total = sum(pool.map(read, range(threads)))
assert total == int(sys.argv[3]), total
";

pub fn run(options: &Options) {
    let table = Arc::new(Table::new((ITEMS * options.scale) as usize));
    let (items, port) = (table.items, free_port());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("a table of DynamoDB: {items} items of {} bytes, {} pages", table.bytes / items, table.pages);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(serve(port, table));
    });
    let endpoint = format!("http://127.0.0.1:{port}");
    let create = format!(
        "CREATE EXTERNAL TABLE l STORED AS DYNAMODB LOCATION 'dynamodb://eu-central-1/lineitem' \
         OPTIONS (endpoint '{endpoint}', access_key_id 'key', secret_access_key 'secret')"
    );
    let counts: Vec<String> = NAMES.iter().map(|name| format!("count(\"{name}\")")).collect();
    let count = format!("SELECT CASE WHEN count(*) = {items} THEN 1 ELSE 1 / 0 END, {} FROM l", counts.join(", "));
    let (mut ours, mut theirs) = (Runs::default(), Runs::default());
    for _ in 0..options.rounds {
        ours.add(watched(windlass(&[create.clone(), count.clone()])));
        if let Some(python) = &options.boto3 {
            let mut command = Command::new(python);
            command.args(["-c", BOTO3, &endpoint, &threads.to_string(), &items.to_string()]);
            theirs.add(watched(command));
        }
    }
    let first = ("boto3", theirs.median());
    theirs.report(&format!("boto3, {threads} threads"), items as u64, first);
    ours.report("windlass", items as u64, first);
}

const NAMES: [&str; 10] = [
    "l_orderkey",
    "l_linenumber",
    "l_partkey",
    "l_quantity",
    "l_extendedprice",
    "l_discount",
    "l_returnflag",
    "l_shipdate",
    "l_shipmode",
    "l_comment",
];

/// The answers of the server.
struct Table {
    items: usize,
    bytes: usize,
    pages: usize,
    /// The items of a page: every page has the same ones.
    page: String,
    on_page: usize,
}

impl Table {
    fn new(wanted: usize) -> Self {
        let item = |n: usize| {
            let number = |n: usize| json!({"N": n.to_string()});
            let (flag, mode) = (["A", "N", "R"][n % 3], ["AIR", "MAIL", "RAIL", "SHIP"][n % 4]);
            json!({
                "l_orderkey": number(n / 4), "l_linenumber": number(n % 4), "l_partkey": number(n * 7919 % 200_000), "l_quantity": number(n % 50 + 1),
                "l_extendedprice": {"N": format!("{}.{:02}", n * 31 % 90_000, n % 100)}, "l_discount": {"N": format!("0.{:02}", n % 10)},
                "l_returnflag": {"S": flag}, "l_shipdate": {"S": format!("199{}-0{}-1{}", n % 8, n % 9 + 1, n % 10)},
                "l_shipmode": {"S": mode}, "l_comment": {"S": "carefully final deposits along the slow ideas"},
            })
        };
        // Names and values, without JSON's brackets.
        let sample = item(12_345);
        let bytes = sample.as_object().into_iter().flatten().map(|(name, value)| {
            name.len()
                + value
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(_, text)| text.as_str().map_or(0, str::len))
                    .sum::<usize>()
        });
        let bytes: usize = bytes.sum();
        let on_page = PAGE / bytes;
        let pages = wanted.div_ceil(on_page).max(1);
        let page: Vec<String> = (0..on_page).map(|n| item(n).to_string()).collect();
        Self { items: pages * on_page, bytes: pages * on_page * bytes, pages, page: page.join(","), on_page }
    }

    fn answer(&self, target: &str, request: &Value) -> String {
        match target {
            "DescribeTable" => json!({"Table": {
                "TableName": "lineitem", "TableStatus": "ACTIVE", "ItemCount": self.items, "TableSizeBytes": self.bytes,
                "TableArn": "arn:aws:dynamodb:eu-central-1:123456789012:table/lineitem",
                "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
                "ProvisionedThroughput": {"ReadCapacityUnits": 0, "WriteCapacityUnits": 0},
                "AttributeDefinitions": [
                    {"AttributeName": "l_orderkey", "AttributeType": "N"}, {"AttributeName": "l_linenumber", "AttributeType": "N"},
                ],
                "KeySchema": [{"AttributeName": "l_orderkey", "KeyType": "HASH"}, {"AttributeName": "l_linenumber", "KeyType": "RANGE"}],
            }})
            .to_string(),
            _ => self.scanned(request),
        }
    }

    /// A page of a segment; the last key is its number.
    fn scanned(&self, request: &Value) -> String {
        let number = |name: &str| request[name].as_u64().map(|number| number as usize);
        let (segment, segments) = (number("Segment").unwrap_or(0), number("TotalSegments").unwrap_or(1));
        let own = (segment + 1) * self.pages / segments - segment * self.pages / segments;
        let from =
            request["ExclusiveStartKey"]["l_orderkey"]["N"].as_str().and_then(|key| key.parse().ok()).unwrap_or(0);
        if from >= own {
            return json!({"Items": [], "Count": 0, "ScannedCount": 0}).to_string();
        }
        let last = match from + 1 < own {
            true => format!(
                "\"LastEvaluatedKey\":{{\"l_orderkey\":{{\"N\":\"{}\"}},\"l_linenumber\":{{\"N\":\"0\"}}}},",
                from + 1
            ),
            false => String::new(),
        };
        format!("{{{last}\"Count\":{0},\"ScannedCount\":{0},\"Items\":[{1}]}}", self.on_page, self.page)
    }
}

async fn serve(port: u16, table: Arc<Table>) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
    while let Ok((stream, _)) = listener.accept().await {
        let table = Arc::clone(&table);
        // A client that leaves has its answer.
        tokio::spawn(async move { answer(stream, &table).await });
    }
}

/// Answers the requests of one connection: HTTP/1.1, with a length.
async fn answer(stream: TcpStream, table: &Table) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut target, mut line) = (0, String::new(), String::new());
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let Some((name, value)) = line.trim_end().split_once(':') else {
                if line.trim_end().is_empty() {
                    break;
                }
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "x-amz-target" => target = value.rsplit('.').next().unwrap_or_default().trim().to_string(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let body = table.answer(&target, &serde_json::from_slice(&body).unwrap_or_default());
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
    }
}

//! Throughput of the exchange, in MiB of Arrow data per second: `make bench`, or `windlass-bench exchange`.
//!
//! One task writes batches of 8192 rows (two integers, a decimal, a short and a long string), split over some buckets like the hash exchange; then every bucket
//! is read. The split itself is not measured.

use arrow::array::{Decimal128Array, Int32Array, Int64Array, RecordBatch, StringViewArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::memory_pool::UnboundedMemoryPool;
use futures::{StreamExt, TryStreamExt};
use std::sync::Arc;
use std::time::Instant;
use windlass_core::ids::{AttemptId, JobId};
use windlass_engine::exchange::{BucketSel, Compression, ExchangeStore, FrameDecoder, StoreConfig};

const BATCHES: u32 = 128;
const ROWS: u32 = 8192;

pub fn run() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be built");
    println!("{:<24} {:>8} {:>10} {:>10} {:>10}", "MiB/s", "buckets", "write", "read", "fetch");
    for buckets in [1, 2, 8, 32, 200] {
        let (schema, pushed) = input(buckets);
        for (name, memory_budget, compression) in [
            ("memory", usize::MAX, Compression::Lz4),
            ("file, uncompressed", 0, Compression::None),
            ("file, lz4", 0, Compression::Lz4),
            ("file, zstd", 0, Compression::Zstd),
        ] {
            let dir = std::env::temp_dir().join(format!("windlass-exchange-{}", std::process::id()));
            let config = StoreConfig { memory_budget, compression, ..StoreConfig::new(&dir) };
            let store = ExchangeStore::open(config, Arc::new(UnboundedMemoryPool::default())).expect("the store opens");
            let rates = runtime.block_on(measure(&store, &schema, buckets, pushed.clone()));
            println!("{name:<24} {buckets:>8} {:>10.0} {:>10.0} {:>10.0}", rates[0], rates[1], rates[2]);
            drop(store);
            // The store's own threads may still be deleting files.
            let _ = std::fs::remove_dir_all(&dir);
        }
    }
}

async fn measure(
    store: &Arc<ExchangeStore>,
    schema: &SchemaRef,
    buckets: u32,
    pushed: Vec<(u32, RecordBatch)>,
) -> [f64; 3] {
    let output: AttemptId = JobId(1).stage(0).task(0).attempt(0);
    let start = Instant::now();
    let mut writer = store.writer(output, Arc::clone(schema), buckets);
    for (bucket, batch) in pushed {
        writer.push(bucket, batch).await.expect("push");
    }
    let summary = writer.finish().await.expect("finish");
    let written = start.elapsed();

    let start = Instant::now();
    let mut rows = 0;
    for bucket in 0..buckets {
        let mut batches = store.read(output, BucketSel::One(bucket)).expect("read");
        while let Some(batch) = batches.try_next().await.expect("read") {
            rows += batch.num_rows() as u64;
        }
    }
    assert_eq!(rows, summary.rows);
    let read = start.elapsed();

    let start = Instant::now();
    for bucket in 0..buckets {
        let requests = vec![(output, BucketSel::One(bucket))];
        let mut decoder = FrameDecoder::new(requests.clone());
        let mut chunks = std::pin::pin!(store.serve(requests, false));
        while let Some(chunk) = chunks.next().await {
            decoder.feed(chunk.expect("serve"));
            while let Some((_, batch)) = decoder.next_batch().expect("decode") {
                rows -= batch.num_rows() as u64;
            }
        }
        decoder.finish().expect("a whole stream");
    }
    assert_eq!(rows, 0);
    let fetched = start.elapsed();

    let mebibytes = summary.bucket_bytes.iter().sum::<u64>() as f64 / f64::from(1 << 20);
    [written, read, fetched].map(|time| mebibytes / time.as_secs_f64())
}

fn input(buckets: u32) -> (SchemaRef, Vec<(u32, RecordBatch)>) {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, false),
        Field::new("line", DataType::Int32, false),
        Field::new("price", DataType::Decimal128(15, 2), false),
        Field::new("flag", DataType::Utf8View, false),
        Field::new("comment", DataType::Utf8View, false),
    ]));
    let mut pushed = Vec::new();
    for batch in 0..BATCHES {
        let hash = |row: u32| (batch * ROWS + row).wrapping_mul(2_654_435_761);
        let comment = |row| format!("{:x} carefully final deposits {}", hash(row), hash(row) % 1000);
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values((0..ROWS).map(|row| i64::from(hash(row) >> 8)))),
            Arc::new(Int32Array::from_iter_values((0..ROWS).map(|row| row as i32 % 7))),
            Arc::new(
                Decimal128Array::from_iter_values((0..ROWS).map(|row| i128::from(hash(row) % 1_000_000)))
                    .with_precision_and_scale(15, 2)
                    .expect("values fit"),
            ),
            Arc::new(StringViewArray::from_iter_values((0..ROWS).map(|row| ["A", "N", "R"][row as usize % 3]))),
            Arc::new(StringViewArray::from_iter_values((0..ROWS).map(comment))),
        ];
        let whole = RecordBatch::try_new(Arc::clone(&schema), columns).expect("columns fit");
        let mut rows = vec![Vec::new(); buckets as usize];
        (0..ROWS).for_each(|row| rows[(hash(row) >> 7) as usize % buckets as usize].push(row));
        for (bucket, rows) in (0..).zip(rows) {
            pushed.push((bucket, take_record_batch(&whole, &UInt32Array::from(rows)).expect("indices fit")));
        }
    }
    (schema, pushed)
}

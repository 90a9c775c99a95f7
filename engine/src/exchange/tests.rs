//! Requirements on the exchange, tested in every tier.

mod damage;
mod limits;
mod round_trip;
mod samples;

use super::*;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use futures::{StreamExt, TryStreamExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use windlass_core::ids::{AttemptId, JobId};

type Result<T> = std::result::Result<T, ExchangeError>;

fn attempt(partition: u32) -> AttemptId {
    JobId(7).stage(3).task(partition).attempt(1)
}

/// A store in a directory of its own.
struct Fixture {
    dir: tempfile::TempDir,
    pool: Arc<dyn MemoryPool>,
    store: Arc<ExchangeStore>,
}

fn fixture(configure: impl FnOnce(&mut StoreConfig)) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1 << 30));
    let mut config = StoreConfig { io_threads: 2, ..StoreConfig::new(dir.path()) };
    configure(&mut config);
    let store = ExchangeStore::open(config, Arc::clone(&pool)).unwrap();
    Fixture { dir, pool, store }
}

impl Fixture {
    fn files(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    fn file(&self, extension: &str) -> PathBuf {
        let files = self.files();
        files.into_iter().find(|file| file.extension().is_some_and(|found| found == extension)).unwrap()
    }

    /// Asserts that nothing is left, in memory or on disk. I/O threads delete files, so that may take a moment.
    async fn assert_empty(&self) {
        for _ in 0..1000 {
            let usage = self.store.usage();
            if usage == Usage::default() && self.pool.reserved() == 0 && self.files().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("left over: {:?}, {} bytes in the pool, {:?}", self.store.usage(), self.pool.reserved(), self.files());
    }
}

async fn write(
    store: &Arc<ExchangeStore>,
    output: AttemptId,
    schema: &SchemaRef,
    buckets: u32,
    batches: impl IntoIterator<Item = (u32, RecordBatch)>,
) -> Result<MapOutputSummary> {
    let mut writer = store.writer(output, Arc::clone(schema), buckets);
    for (bucket, batch) in batches {
        writer.push(bucket, batch).await?;
    }
    writer.finish().await
}

async fn read(store: &Arc<ExchangeStore>, output: AttemptId, select: BucketSel) -> Result<Vec<RecordBatch>> {
    store.read(output, select)?.try_collect().await
}

async fn serve(store: &Arc<ExchangeStore>, requests: &[(AttemptId, BucketSel)]) -> Result<Vec<Bytes>> {
    store.serve(requests.to_vec(), false).try_collect().await
}

fn decode(
    requests: &[(AttemptId, BucketSel)],
    chunks: impl IntoIterator<Item = Bytes>,
) -> Result<Vec<(AttemptId, RecordBatch)>> {
    let mut decoder = FrameDecoder::new(requests.to_vec());
    let mut batches = Vec::new();
    for chunk in chunks {
        decoder.feed(chunk);
        while let Some(batch) = decoder.next_batch()? {
            batches.push(batch);
        }
    }
    decoder.finish()?;
    Ok(batches)
}

/// Reads as a reader on another executor does.
async fn fetch(store: &Arc<ExchangeStore>, output: AttemptId, select: BucketSel) -> Result<Vec<RecordBatch>> {
    let requests = [(output, select)];
    let batches = decode(&requests, serve(store, &requests).await?)?;
    let plain: Vec<Bytes> = store.serve(requests.to_vec(), true).try_collect().await?;
    assert_eq!(decode(&requests, plain)?, batches);
    assert!(batches.iter().all(|(from, _)| *from == output));
    Ok(batches.into_iter().map(|(_, batch)| batch).collect())
}

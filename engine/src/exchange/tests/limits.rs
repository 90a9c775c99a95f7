//! Tests of budgets, cancellation and removal: nothing waits for memory, and nothing is left behind.

use super::samples::{batch, rows, schema};
use super::*;
use arrow::datatypes::DataType;
use std::fs;

fn wide_batch(schema: &SchemaRef, seed: u8) -> RecordBatch {
    batch(schema, &vec![Some(seed); 4000])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_share_a_tiny_budget() {
    let schema = schema(&[DataType::Int64, DataType::Utf8View]);
    let fixture = fixture(|config| (config.memory_budget, config.block_bytes) = (300_000, 20_000));
    let mut tasks = tokio::task::JoinSet::new();
    for partition in 0..8u8 {
        let (store, schema) = (Arc::clone(&fixture.store), Arc::clone(&schema));
        tasks.spawn(async move {
            let pushed = (0..60u8).map(|n| (u32::from(n % 5), batch(&schema, &vec![Some(partition ^ n); 500])));
            let pushed: Vec<_> = pushed.collect();
            write(&store, attempt(partition.into()), &schema, 5, pushed.clone()).await.unwrap();
            for bucket in 0..5 {
                let expected = rows(pushed.iter().filter(|(other, _)| *other == bucket).map(|(_, batch)| batch));
                for read in [
                    read(&store, attempt(partition.into()), BucketSel::One(bucket)).await.unwrap(),
                    fetch(&store, attempt(partition.into()), BucketSel::One(bucket)).await.unwrap(),
                ] {
                    assert!(rows(&read) == expected, "bucket {bucket} of {partition}");
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let usage = fixture.store.usage();
    assert!(usage.outputs == 8 && usage.disk_bytes > 0 && usage.memory_bytes <= 300_000, "{usage:?}");
    fixture.store.remove_job(JobId(7));
    fixture.assert_empty().await;
}

#[tokio::test]
async fn the_pool_is_asked_too() {
    let dir = tempfile::tempdir().unwrap();
    let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(10_000));
    let store = ExchangeStore::open(StoreConfig::new(dir.path()), Arc::clone(&pool)).unwrap();
    let schema = schema(&[DataType::Int64]);
    write(&store, attempt(0), &schema, 1, [(0, wide_batch(&schema, 1))]).await.unwrap();
    assert!(store.usage().disk_bytes > 0);
    write(&store, attempt(1), &schema, 1, [(0, batch(&schema, &[Some(1)]))]).await.unwrap();
    assert_eq!(pool.reserved(), store.usage().memory_bytes);
    assert!(pool.reserved() > 0, "what fits is in memory");
    drop(store);
    assert_eq!(pool.reserved(), 0);
}

#[tokio::test]
async fn an_abandoned_writer_leaves_nothing() {
    let schema = schema(&[DataType::Int64]);
    for memory_budget in [1 << 30, 100_000, 0] {
        let fixture = fixture(|config| (config.memory_budget, config.block_bytes) = (memory_budget, 1000));
        let mut writer = fixture.store.writer(attempt(0), Arc::clone(&schema), 4);
        for n in 0..40u8 {
            writer.push(u32::from(n % 4), wide_batch(&schema, n)).await.unwrap();
        }
        assert!(fixture.store.read(attempt(0), BucketSel::All).is_err(), "not visible before it is finished");
        drop(writer);
        fixture.assert_empty().await;
    }
}

#[tokio::test]
async fn a_cancelled_push_or_finish_leaves_nothing() {
    let schema = schema(&[DataType::Int64]);
    for pushes in 0..12u8 {
        let fixture = fixture(|config| (config.memory_budget, config.block_bytes, config.io_threads) = (0, 1000, 1));
        let mut writer = fixture.store.writer(attempt(0), Arc::clone(&schema), 4);
        for n in 0..pushes {
            // Polled once and then dropped, whatever it waits for.
            let _ = futures::poll!(std::pin::pin!(writer.push(u32::from(n % 4), wide_batch(&schema, n))));
        }
        let _ = futures::poll!(std::pin::pin!(writer.finish()));
        // For the case that it finished at once.
        fixture.store.remove_attempt(attempt(0));
        fixture.assert_empty().await;
    }
}

#[tokio::test]
async fn what_an_earlier_process_left_is_removed_and_the_rest_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("exchange");
    fs::create_dir(&path).unwrap();
    for name in ["job-000001-0-0-0.wxdata", "job-000001-0-0-0.wxindex", "job-000001-0-0-0.3.wxtemp", "notes.txt"] {
        fs::write(path.join(name), "left").unwrap();
    }
    let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1 << 30));
    let _store = ExchangeStore::open(StoreConfig::new(&path), pool).unwrap();
    let left: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["notes.txt"]);
}

#[tokio::test]
async fn a_writer_that_failed_cannot_be_finished() {
    let schema = schema(&[DataType::Int64]);
    let fixture = fixture(|_| ());
    let mut writer = fixture.store.writer(attempt(0), Arc::clone(&schema), 1);
    writer.push(0, wide_batch(&schema, 1)).await.unwrap();
    assert!(writer.push(1, wide_batch(&schema, 1)).await.is_err());
    assert!(writer.finish().await.is_err());
    fixture.assert_empty().await;
}

#[tokio::test]
async fn a_full_disk_is_told_apart_and_cleaned_up() {
    let schema = schema(&[DataType::Int64]);
    for disk_budget in [0, 100, 1_000, 10_000, 30_000] {
        let fixture = fixture(|config| {
            (config.memory_budget, config.compression, config.block_bytes) = (0, Compression::None, 5_000);
            config.disk_budget = Some(disk_budget);
        });
        let pushed = (0..100u8).map(|n| (u32::from(n % 3), wide_batch(&schema, n)));
        let failed = write(&fixture.store, attempt(0), &schema, 3, pushed).await;
        assert!(matches!(failed, Err(ExchangeError::DiskFull { .. })), "{failed:?}");
        fixture.assert_empty().await;
    }
}

#[tokio::test]
async fn demotion_moves_outputs_whole_and_frees_their_memory() {
    let schema = schema(&[DataType::Int64, DataType::Utf8]);
    let fixture = fixture(|_| ());
    let pushed: Vec<_> = (0..6u8).map(|n| (u32::from(n % 3), wide_batch(&schema, n))).collect();
    for partition in 0..4 {
        write(&fixture.store, attempt(partition), &schema, 3, pushed.clone()).await.unwrap();
    }
    let before = fixture.store.usage().memory_bytes;
    let reading = fixture.store.read(attempt(0), BucketSel::All).unwrap();
    let freed = fixture.store.demote(before / 2).await.unwrap();
    assert!(freed >= before / 2);
    let expected = rows(&reading.try_collect::<Vec<_>>().await.unwrap());
    assert_eq!(fixture.store.usage().memory_bytes, before - freed);
    for partition in 0..4 {
        assert!(rows(&read(&fixture.store, attempt(partition), BucketSel::All).await.unwrap()) == expected);
    }
    assert_eq!(fixture.store.demote(usize::MAX).await.unwrap(), before - freed);
    assert_eq!(fixture.pool.reserved(), 0);
    fixture.store.remove(&[attempt(0).stage()]);
    fixture.assert_empty().await;
}

#[tokio::test]
async fn a_demotion_without_room_keeps_the_output_in_memory() {
    let schema = schema(&[DataType::Int64]);
    let fixture = fixture(|config| config.disk_budget = Some(10));
    write(&fixture.store, attempt(0), &schema, 1, [(0, wide_batch(&schema, 1))]).await.unwrap();
    assert!(matches!(fixture.store.demote(1).await, Err(ExchangeError::DiskFull { .. })));
    assert_eq!(read(&fixture.store, attempt(0), BucketSel::All).await.unwrap()[0].num_rows(), 4000);
    assert!(fixture.files().is_empty() && fixture.store.usage().memory_bytes > 0);
}

#[tokio::test]
async fn removal_takes_what_was_named_and_lets_readers_finish() {
    let schema = schema(&[DataType::Int64]);
    for memory_budget in [1 << 30, 0] {
        let fixture = fixture(|config| (config.memory_budget, config.block_bytes) = (memory_budget, 1000));
        let other = JobId(7).stage(4).task(0).attempt(0);
        for output in [attempt(0), attempt(1), other] {
            let pushed = (0..20u8).map(|n| (0, wide_batch(&schema, n)));
            write(&fixture.store, output, &schema, 1, pushed).await.unwrap();
        }
        let mut reading = fixture.store.read(attempt(0), BucketSel::All).unwrap();
        let first = reading.next().await.unwrap().unwrap().num_rows();
        fixture.store.remove_attempt(attempt(1));
        fixture.store.remove(&[JobId(7).stage(3)]);
        let missing = fixture.store.read(attempt(0), BucketSel::All);
        assert!(matches!(missing.err(), Some(ExchangeError::Missing { .. })));
        let rest: Vec<RecordBatch> = reading.try_collect().await.unwrap();
        assert_eq!(first + rest.iter().map(RecordBatch::num_rows).sum::<usize>(), 80_000);
        drop(rest);
        assert_eq!(fixture.store.usage().outputs, 1);
        fixture.store.remove_job(JobId(7));
        fixture.assert_empty().await;
    }
}

#[tokio::test]
async fn an_attempt_has_one_output() {
    let schema = schema(&[DataType::Int64]);
    for memory_budget in [1 << 30, 0] {
        let fixture = fixture(|config| config.memory_budget = memory_budget);
        write(&fixture.store, attempt(0), &schema, 1, [(0, batch(&schema, &[Some(1)]))]).await.unwrap();
        let second = write(&fixture.store, attempt(0), &schema, 1, [(0, batch(&schema, &[Some(2)]))]).await;
        assert!(matches!(second, Err(ExchangeError::Internal { .. })));
        let kept = read(&fixture.store, attempt(0), BucketSel::All).await.unwrap();
        assert_eq!(rows(&kept), ["1"]);
    }
}

#[tokio::test]
async fn errors_keep_their_type_inside_datafusion() {
    let error = datafusion::error::DataFusionError::from(ExchangeError::Missing { output: attempt(4) });
    let datafusion::error::DataFusionError::External(inner) = error else { panic!("{error}") };
    assert_eq!(inner.downcast_ref::<ExchangeError>().unwrap().output(), Some(attempt(4)));
}

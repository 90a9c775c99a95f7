//! Tests that readers get what writers push: every type, every tier, every way of reading.

use super::samples::{Seed, all_types, array, batch, rows, schema};
use super::*;
use arrow::array::{Array, RecordBatchOptions, StringViewArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use proptest::prelude::*;

const SEEDS: [Seed; 12] =
    [Some(1), None, Some(2), Some(3), Some(200), Some(0), None, Some(255), Some(9), Some(9), Some(17), None];

/// Both ways of reading, for each bucket and for all.
async fn assert_reads(store: &Arc<ExchangeStore>, output: AttemptId, schema: &SchemaRef, expected: &[Vec<String>]) {
    let buckets = (0..).zip(expected).map(|(bucket, rows)| (BucketSel::One(bucket), rows.clone()));
    for (select, expected) in buckets.chain([(BucketSel::All, expected.concat())]) {
        let local = read(store, output, select).await.unwrap();
        let remote = fetch(store, output, select).await.unwrap();
        for batches in [local, remote] {
            assert!(batches.iter().all(|batch| batch.schema_ref() == schema), "{select:?}");
            assert_eq!(rows(&batches), expected, "{select:?} of {schema}");
        }
    }
}

/// Writes the batches to a store that keeps them in memory and to one that keeps them in a file, and reads both.
async fn assert_round_trip(schema: &SchemaRef, buckets: u32, pushed: &[(u32, RecordBatch)], compression: Compression) {
    let expected: Vec<Vec<String>> = (0..buckets)
        .map(|bucket| rows(pushed.iter().filter(|(other, _)| *other == bucket).map(|(_, batch)| batch)))
        .collect();
    let mut summaries = Vec::new();
    for memory_budget in [1 << 30, 0] {
        let fixture = fixture(|config| (config.memory_budget, config.compression) = (memory_budget, compression));
        let summary = write(&fixture.store, attempt(0), schema, buckets, pushed.to_vec()).await.unwrap();
        if memory_budget == 0 {
            // Outputs that take no memory are still in memory.
            fixture.store.demote(usize::MAX).await.unwrap();
        }
        assert_eq!(fixture.files().is_empty(), memory_budget > 0);
        assert_reads(&fixture.store, attempt(0), schema, &expected).await;
        summaries.push(summary);
    }
    assert_eq!(summaries[0], summaries[1]);
    assert_eq!(summaries[0].rows as usize, expected.concat().len());
}

#[tokio::test]
async fn every_type_survives_every_tier() {
    for data_type in all_types() {
        let schema = schema(std::slice::from_ref(&data_type));
        let whole = batch(&schema, &SEEDS);
        let other = batch(&schema, &[Some(5), Some(77), None]);
        let pushed = [
            (0, whole.slice(3, 7)),
            (1, other.clone()),
            (0, other.slice(1, 0)),
            (0, other.slice(1, 2)),
            (2, whole.slice(1, 1)),
            (0, batch(&schema, &[])),
            (1, whole),
            (1, batch(&schema, &[None, None])),
        ];
        assert_round_trip(&schema, 4, &pushed, Compression::Lz4).await;
    }
}

#[tokio::test]
async fn every_type_survives_alone_in_its_block() {
    // A batch that is large enough is not copied into a block; it is encoded as a slice.
    for data_type in all_types() {
        let schema = schema(std::slice::from_ref(&data_type));
        let fixture = fixture(|config| (config.memory_budget, config.block_bytes) = (0, 1));
        let slice = batch(&schema, &SEEDS).slice(2, 8);
        write(&fixture.store, attempt(0), &schema, 1, [(0, slice.clone())]).await.unwrap();
        assert_reads(&fixture.store, attempt(0), &schema, &[rows([&slice])]).await;
    }
}

#[tokio::test]
async fn every_compression_is_read_back() {
    let types = all_types();
    let schema = schema(&types);
    let pushed = [(0, batch(&schema, &SEEDS)), (1, batch(&schema, &SEEDS[2..5]))];
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        assert_round_trip(&schema, 2, &pushed, compression).await;
    }
}

#[tokio::test]
async fn rows_without_columns_are_counted() {
    let schema: SchemaRef = Arc::new(Schema::empty());
    let empty = |rows| {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&schema), vec![], &options).unwrap()
    };
    assert_round_trip(&schema, 2, &[(0, empty(3)), (1, empty(20_000)), (0, empty(4))], Compression::Lz4).await;
}

#[tokio::test]
async fn an_output_without_rows_is_read_as_one() {
    let schema = schema(&[DataType::Int32]);
    assert_round_trip(&schema, 3, &[], Compression::Lz4).await;
    assert_round_trip(&schema, 0, &[], Compression::Lz4).await;
}

#[tokio::test]
async fn batches_are_taken_for_the_declared_schema() {
    let inner = |nullable| DataType::Struct(Fields::from(vec![Field::new("x", DataType::Int32, nullable)]));
    let list = |name: &str, nullable| DataType::List(Arc::new(Field::new(name, inner(nullable), true)));
    let declared: SchemaRef = Arc::new(
        Schema::new(vec![Field::new("a", DataType::Int32, false), Field::new("l", list("item", false), true)])
            .with_metadata([("k".to_owned(), "v".to_owned())].into()),
    );
    let actual: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("b", DataType::Int32, true),
        Field::new("l", list("element", true), true),
    ]));
    let column = array(actual.field(1).data_type(), &[Some(1), Some(2)]);
    let numbers = array(&DataType::Int32, &[Some(1), Some(2)]);
    let pushed = RecordBatch::try_new(Arc::clone(&actual), vec![numbers, column]).unwrap();
    assert_round_trip(&declared, 1, &[(0, pushed)], Compression::Lz4).await;

    let nulls = RecordBatch::try_new(
        Arc::clone(&actual),
        vec![array(&DataType::Int32, &[None]), array(actual.field(1).data_type(), &[None])],
    );
    let text = schema(&[DataType::Utf8, DataType::Utf8]);
    for wrong in [nulls.unwrap(), batch(&text, &[Some(1)]), batch(&schema(&[DataType::Int32]), &[Some(1)])] {
        let fixture = fixture(|_| ());
        let failed = write(&fixture.store, attempt(0), &declared, 1, [(0, wrong)]).await;
        assert!(matches!(failed, Err(ExchangeError::Mismatch { .. })), "{failed:?}");
        fixture.assert_empty().await;
    }
}

#[tokio::test]
async fn dictionaries_that_do_not_fit_one_key_type_stay_apart() {
    // 100 plus 100 distinct values: more than Int8 keys can count.
    let data_type = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8));
    let schema = schema(std::slice::from_ref(&data_type));
    let batch_of = |start: u32| {
        let values = arrow::array::StringArray::from_iter_values((start..start + 100).map(|value| value.to_string()));
        let keys = arrow::array::Int8Array::from_iter_values(0..100);
        let column = arrow::array::DictionaryArray::try_new(keys, Arc::new(values)).unwrap();
        RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(column)]).unwrap()
    };
    assert_round_trip(&schema, 1, &[(0, batch_of(0)), (0, batch_of(100))], Compression::Lz4).await;
}

#[tokio::test]
async fn a_stream_carries_many_outputs_of_both_tiers() {
    let schema = schema(&[DataType::Utf8View, DataType::Int64]);
    let fixture = fixture(|_| ());
    let mut expected = Vec::new();
    for partition in 0..20u8 {
        let pushed = batch(&schema, &vec![Some(partition); 3 + usize::from(partition)]);
        expected.extend(rows([&pushed]));
        write(&fixture.store, attempt(partition.into()), &schema, 2, [(1, pushed)]).await.unwrap();
        if partition == 9 {
            assert!(fixture.store.demote(usize::MAX).await.unwrap() > 0);
        }
    }
    let requests: Vec<_> = (0..20).map(|partition| (attempt(partition), BucketSel::One(1))).collect();
    let batches = decode(&requests, serve(&fixture.store, &requests).await.unwrap()).unwrap();
    assert!(batches.is_sorted_by_key(|(output, _)| *output));
    assert_eq!(rows(batches.iter().map(|(_, batch)| batch)), expected);
}

#[tokio::test]
async fn chunks_are_at_most_four_mebibytes() {
    let schema = schema(&[DataType::Utf8]);
    for memory_budget in [1 << 30, 0] {
        let fixture = fixture(|config| (config.memory_budget, config.compression) = (memory_budget, Compression::None));
        let large = arrow::array::StringArray::from(vec!["x".repeat(11 << 20), "y".repeat(100)]);
        let large = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(large)]).unwrap();
        write(&fixture.store, attempt(0), &schema, 1, [(0, large.clone())]).await.unwrap();
        let chunks = serve(&fixture.store, &[(attempt(0), BucketSel::All)]).await.unwrap();
        assert!(chunks.len() >= 3 && chunks.iter().all(|chunk| chunk.len() <= 4 << 20));
        assert_eq!(fetch(&fixture.store, attempt(0), BucketSel::All).await.unwrap().len(), 2, "one block for each row");
        assert_reads(&fixture.store, attempt(0), &schema, &[rows([&large])]).await;
    }
}

#[tokio::test]
async fn a_local_reader_gets_the_arrays_that_were_written() {
    let schema = schema(&[DataType::Int64]);
    let fixture = fixture(|_| ());
    let large = batch(&schema, &vec![Some(1); StoreConfig::BLOCK_ROWS]);
    write(&fixture.store, attempt(0), &schema, 1, [(0, large.clone())]).await.unwrap();
    let read = read(&fixture.store, attempt(0), BucketSel::One(0)).await.unwrap();
    assert!(read[0].column(0).to_data().ptr_eq(&large.column(0).to_data()));
}

#[tokio::test]
async fn small_batches_become_blocks() {
    let schema = schema(&[DataType::Int64, DataType::Utf8View]);
    let fixture = fixture(|_| ());
    let small = batch(&schema, &[Some(1); 256]);
    let pushed = (0..640).map(|n| (n % 2, small.clone()));
    write(&fixture.store, attempt(0), &schema, 2, pushed).await.unwrap();
    let blocks = read(&fixture.store, attempt(0), BucketSel::One(1)).await.unwrap();
    assert_eq!(blocks.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), vec![8192; 10]);
}

#[tokio::test]
async fn what_a_shuffle_shares_is_neither_kept_nor_counted_many_times() {
    // One large batch of strings, split over 32 buckets by index as the hash exchange does: every part refers to all strings.
    let schema = schema(&[DataType::Utf8View]);
    let fixture = fixture(|_| ());
    let strings =
        StringViewArray::from_iter_values((0..8192).map(|n| format!("a string of some forty bytes, number {n:04}")));
    let whole = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(strings)]).unwrap();
    let parts = (0..32).map(|bucket| {
        let indices = UInt32Array::from_iter_values((bucket..8192).step_by(32));
        (bucket, take_record_batch(&whole, &indices).unwrap())
    });
    write(&fixture.store, attempt(0), &schema, 32, parts).await.unwrap();
    let held = fixture.store.usage().memory_bytes;
    assert!(held < 2 * whole.get_array_memory_size(), "{held}");
}

#[tokio::test]
async fn slices_of_something_large_are_neither_kept_nor_counted_whole() {
    // The output of sorts and aggregates: consecutive slices of one huge batch.
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let list = DataType::List(Arc::new(Field::new("item", DataType::Utf8View, true)));
    let schema = schema(&[DataType::Int64, DataType::Utf8, DataType::Utf8View, dictionary, list]);
    let whole = batch(&schema, &(0..120_000).map(|n| (n % 11 > 0).then_some(n as u8)).collect::<Vec<_>>());
    let fixture = fixture(|_| ());
    let slices = (0..15).map(|n| (0, whole.slice(n * 8000, 8000)));
    write(&fixture.store, attempt(0), &schema, 1, slices).await.unwrap();
    let held = fixture.store.usage().memory_bytes;
    assert!(held < 2 * whole.get_array_memory_size(), "{held} of {}", whole.get_array_memory_size());
    assert_eq!(rows(&read(&fixture.store, attempt(0), BucketSel::All).await.unwrap()), rows([&whole]));
}

fn seeds() -> impl Strategy<Value = Vec<Seed>> {
    prop::collection::vec(prop::option::weighted(0.8, any::<u8>()), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any types, any batches, slices of them, buckets, budgets, block sizes, and chunks cut anywhere.
    #[test]
    fn anything_pushed_is_read_back(
        picks in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        pushes in prop::collection::vec((0u32..4, seeds(), any::<(u8, u8)>()), 0..24),
        memory_budget in prop::sample::select(vec![0, 2_000, 20_000, 1 << 30]),
        block_bytes in prop::sample::select(vec![1, 300, 5_000, 1 << 20]),
        cuts in prop::collection::vec(1usize..700, 1..20),
    ) {
        let all = all_types();
        let types: Vec<DataType> = picks.iter().map(|pick| pick.get(&all).clone()).collect();
        let schema = schema(&types);
        let pushed: Vec<(u32, RecordBatch)> = pushes
            .iter()
            .map(|(bucket, seeds, (start, len))| {
                let start = usize::from(*start) % (seeds.len() + 1);
                let len = usize::from(*len) % (seeds.len() - start + 1);
                (*bucket, batch(&schema, seeds).slice(start, len))
            })
            .collect();
        let expected: Vec<Vec<String>> = (0..4)
            .map(|bucket| rows(pushed.iter().filter(|(other, _)| *other == bucket).map(|(_, batch)| batch)))
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let fixture = fixture(|config| (config.memory_budget, config.block_bytes) = (memory_budget, block_bytes));
            let summary = write(&fixture.store, attempt(0), &schema, 4, pushed).await.unwrap();
            assert_eq!(summary.bucket_rows, expected.iter().map(|rows| rows.len() as u64).collect::<Vec<_>>());
            assert_reads(&fixture.store, attempt(0), &schema, &expected).await;

            let requests = [(attempt(0), BucketSel::All)];
            let mut stream = Bytes::from(serve(&fixture.store, &requests).await.unwrap().concat());
            let mut cuts = cuts.iter().cycle();
            let chunks = std::iter::from_fn(|| {
                (!stream.is_empty()).then(|| stream.split_to(stream.len().min(*cuts.next().unwrap())))
            });
            let batches = decode(&requests, chunks).unwrap();
            assert_eq!(rows(batches.iter().map(|(_, batch)| batch)), expected.concat());

            fixture.store.remove(&[attempt(0).stage()]);
            fixture.assert_empty().await;
        });
    }
}

//! Tests that a changed or missing byte is an error and never other data.

use super::samples::{batch, rows, schema};
use super::*;
use crate::checksum::crc32c;
use crate::exchange::format::{HEADER, Kind, write_plain_frame};
use arrow::datatypes::DataType;
use std::fs;

const REQUEST: (AttemptId, BucketSel) = (
    AttemptId {
        task: windlass_core::ids::TaskId {
            stage: windlass_core::ids::StageId { job: JobId(7), index: 3 },
            partition: 0,
        },
        attempt: 1,
    },
    BucketSel::All,
);

async fn small_file() -> Fixture {
    let fixture = fixture(|config| config.memory_budget = 0);
    let schema = schema(&[DataType::Int32, DataType::Utf8]);
    let pushed = [(0, batch(&schema, &[Some(1), None])), (1, batch(&schema, &[Some(2)]))];
    write(&fixture.store, REQUEST.0, &schema, 3, pushed).await.unwrap();
    fixture
}

fn assert_corrupt<T: std::fmt::Debug>(result: Result<T>, what: &str) {
    match result {
        Err(ExchangeError::Corrupt { output, .. }) => assert_eq!(output, REQUEST.0),
        other => panic!("{what}: {other:?}"),
    }
}

/// Asserts that all ways of reading find the file corrupt.
async fn assert_unreadable(fixture: &Fixture, what: &str) {
    assert_corrupt(read(&fixture.store, REQUEST.0, BucketSel::All).await, what);
    assert_corrupt(fetch(&fixture.store, REQUEST.0, BucketSel::All).await, what);
}

#[tokio::test]
async fn every_byte_of_the_files_is_checked() {
    let fixture = small_file().await;
    for extension in ["wxdata", "wxindex"] {
        let path = fixture.file(extension);
        let intact = fs::read(&path).unwrap();
        for position in 0..intact.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = intact.clone();
                damaged[position] ^= flip;
                fs::write(&path, &damaged).unwrap();
                assert_unreadable(&fixture, &format!("{extension} with byte {position} changed by {flip:#x}")).await;
            }
        }
        fs::write(&path, &intact).unwrap();
    }
    assert_eq!(read(&fixture.store, REQUEST.0, BucketSel::All).await.unwrap().len(), 2);
}

#[tokio::test]
async fn files_of_every_shorter_length_are_found_out() {
    let fixture = small_file().await;
    for extension in ["wxdata", "wxindex"] {
        let path = fixture.file(extension);
        let intact = fs::read(&path).unwrap();
        for len in 0..intact.len() {
            fs::write(&path, &intact[..len]).unwrap();
            assert_unreadable(&fixture, &format!("{extension} cut to {len} bytes")).await;
        }
        fs::write(&path, &intact).unwrap();
    }
}

#[tokio::test]
async fn damage_to_one_bucket_leaves_the_others_readable_or_corrupt() {
    let fixture = small_file().await;
    let intact = rows(&read(&fixture.store, REQUEST.0, BucketSel::One(1)).await.unwrap());
    for extension in ["wxdata", "wxindex"] {
        let path = fixture.file(extension);
        let bytes = fs::read(&path).unwrap();
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0x10;
            fs::write(&path, &damaged).unwrap();
            for result in [
                read(&fixture.store, REQUEST.0, BucketSel::One(1)).await,
                fetch(&fixture.store, REQUEST.0, BucketSel::One(1)).await,
            ] {
                match result {
                    Ok(batches) => assert_eq!(rows(&batches), intact),
                    damaged => assert_corrupt(damaged, extension),
                }
            }
        }
        fs::write(&path, &bytes).unwrap();
    }
}

#[tokio::test]
async fn deleted_files_are_missing() {
    for extension in ["wxdata", "wxindex"] {
        let fixture = small_file().await;
        fs::remove_file(fixture.file(extension)).unwrap();
        for result in [
            read(&fixture.store, REQUEST.0, BucketSel::All).await,
            fetch(&fixture.store, REQUEST.0, BucketSel::All).await,
        ] {
            assert!(matches!(result, Err(ExchangeError::Missing { output }) if output == REQUEST.0));
        }
    }
}

#[tokio::test]
async fn every_byte_of_a_stream_is_checked() {
    let fixture = small_file().await;
    let stream = serve(&fixture.store, &[REQUEST]).await.unwrap().concat();
    assert_eq!(decode(&[REQUEST], [Bytes::from(stream.clone())]).unwrap().len(), 2);
    for position in 0..stream.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = stream.clone();
            damaged[position] ^= flip;
            assert_corrupt(decode(&[REQUEST], [Bytes::from(damaged)]), &format!("byte {position}"));
        }
        let cut = Bytes::copy_from_slice(&stream[..position]);
        assert_corrupt(decode(&[REQUEST], [cut]), &format!("cut to {position} bytes"));
    }
    let longer = [stream.as_slice(), &[0]].concat();
    assert_corrupt(decode(&[REQUEST], [Bytes::from(longer)]), "a byte more");
}

#[tokio::test]
async fn a_stream_is_held_to_what_was_asked_for() {
    let fixture = small_file().await;
    let schema = schema(&[DataType::Int32, DataType::Utf8]);
    write(&fixture.store, attempt(5), &schema, 3, [(2, batch(&schema, &[Some(1)]))]).await.unwrap();
    let one = |bucket| (REQUEST.0, BucketSel::One(bucket));
    let asked_and_served = [
        (vec![REQUEST, (attempt(5), BucketSel::All)], vec![REQUEST]),
        (vec![REQUEST], vec![REQUEST, (attempt(5), BucketSel::All)]),
        (vec![REQUEST], vec![(attempt(5), BucketSel::All)]),
        (vec![one(1)], vec![one(0)]),
        (vec![one(1)], vec![REQUEST]),
        (vec![REQUEST], vec![one(1)]),
        (vec![REQUEST], vec![]),
    ];
    for (asked, served) in asked_and_served {
        let stream = serve(&fixture.store, &served).await.unwrap();
        let decoded = decode(&asked, stream);
        assert!(matches!(decoded, Err(ExchangeError::Corrupt { .. })), "{asked:?} {served:?}: {decoded:?}");
    }
}

#[test]
fn a_length_alone_allocates_nothing() {
    // A frame that claims a length of 2^64 bytes, with right sums.
    let mut stream = Vec::new();
    write_plain_frame(&mut stream, Kind::Output, 0, 0, b"");
    stream[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    let sum = crc32c(&stream[..HEADER - 4]);
    stream[28..32].copy_from_slice(&sum.to_le_bytes());
    assert_corrupt(decode(&[REQUEST], [Bytes::from(stream)]), "absurd length");
}

#[tokio::test]
async fn a_missing_output_is_named() {
    let fixture = small_file().await;
    let missing = attempt(9);
    let chunks: Vec<_> = fixture.store.serve(vec![REQUEST, (missing, BucketSel::All)], false).collect().await;
    assert!(matches!(chunks.last(), Some(Err(error)) if error.output() == Some(missing)));
    assert!(matches!(fixture.store.read(missing, BucketSel::All), Err(ExchangeError::Missing { .. })));
    assert!(matches!(fixture.store.read(REQUEST.0, BucketSel::One(3)), Err(ExchangeError::Internal { .. })));
}

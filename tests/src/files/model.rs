//! Random operations, which must give the same answers as object_store's store in memory.

use super::*;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Op {
    Put { path: String, size: usize, new: bool },
    Upload { path: String, parts: Vec<usize> },
    Get { path: String, range: Option<(u64, u64)> },
    Ranges { path: String, at: Vec<(u64, u64)> },
    Suffix { path: String, bytes: u64 },
    Delete(String),
    Rename { from: String, to: String, new: bool },
    Copy { from: String, to: String, new: bool },
    List(Option<String>),
    ListOne(Option<String>),
    ListFrom { prefix: Option<String>, offset: String },
}

/// Files and folders have different depths, as a name cannot be both on a file system.
fn file() -> impl Strategy<Value = String> {
    (folder(), prop_oneof![Just("f"), Just("g h"), Just("ü%23"), Just("f-1")])
        .prop_map(|(folder, name)| format!("{folder}/{name}"))
}

fn folder() -> impl Strategy<Value = String> {
    prop_oneof![Just("a"), Just("a/b"), Just("a/b/c"), Just("a-b"), Just("d e/ü")].prop_map(str::to_owned)
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0usize), 1..100usize, 65_530..65_545usize, 100_000..400_000usize, 1_048_570..1_050_000usize]
}

fn op() -> impl Strategy<Value = Op> {
    let range = || (0..1_100_000u64, 0..200_000u64);
    let maybe = |strategy: BoxedStrategy<String>| proptest::option::of(strategy);
    prop_oneof![
        4 => (file(), size(), any::<bool>()).prop_map(|(path, size, new)| Op::Put { path, size, new }),
        2 => (file(), proptest::collection::vec(size(), 0..5)).prop_map(|(path, parts)| Op::Upload { path, parts }),
        3 => (file(), proptest::option::of(range())).prop_map(|(path, range)| Op::Get { path, range }),
        2 => (file(), proptest::collection::vec(range(), 1..5)).prop_map(|(path, at)| Op::Ranges { path, at }),
        1 => (file(), 1..300_000u64).prop_map(|(path, bytes)| Op::Suffix { path, bytes }),
        2 => file().prop_map(Op::Delete),
        2 => (file(), file(), any::<bool>()).prop_map(|(from, to, new)| Op::Rename { from, to, new }),
        1 => (file(), file(), any::<bool>()).prop_map(|(from, to, new)| Op::Copy { from, to, new }),
        1 => maybe(folder().boxed()).prop_map(Op::List),
        1 => maybe(folder().boxed()).prop_map(Op::ListOne),
        1 => (maybe(folder().boxed()), file()).prop_map(|(prefix, offset)| Op::ListFrom { prefix, offset }),
    ]
}

/// The comparable part of an operation's answer: for an error only its kind.
async fn answer(store: &dyn ObjectStore, op: &Op, seed: u8) -> String {
    let text = |size: usize| Bytes::from((0..size).map(|at| (at / 3 + usize::from(seed)) as u8).collect::<Vec<u8>>());
    let path = |text: &str| Path::from(text);
    let metas = |mut metas: Vec<ObjectMeta>| {
        metas.sort_by(|a, b| a.location.cmp(&b.location));
        metas.into_iter().map(|meta| format!("{} {}", meta.location, meta.size)).collect::<Vec<_>>()
    };
    let outcome = async {
        Ok::<String, object_store::Error>(match op {
            Op::Put { path: at, size, new } => {
                let mode = if *new { PutMode::Create } else { PutMode::Overwrite };
                store.put_opts(&path(at), PutPayload::from(text(*size)), mode.into()).await?;
                "put".into()
            }
            Op::Upload { path: at, parts } => {
                let mut upload = store.put_multipart(&path(at)).await?;
                let writes: Vec<_> = parts.iter().map(|size| upload.put_part(text(*size).into())).collect();
                for write in writes {
                    write.await?;
                }
                upload.complete().await?;
                "uploaded".into()
            }
            Op::Get { path: at, range } => {
                let range = range.map(|(from, length)| GetRange::Bounded(from..from + length + 1));
                let options = object_store::GetOptions { range, ..Default::default() };
                let bytes = store.get_opts(&path(at), options).await?.bytes().await?;
                format!("{} {:08x}", bytes.len(), crc32c::crc32c(&bytes))
            }
            Op::Ranges { path: at, at: ranges } => {
                let ranges: Vec<_> = ranges.iter().map(|(from, length)| *from..from + length + 1).collect();
                let size = store.head(&path(at)).await?.size;
                // Some stores cut ranges beyond the end, others refuse them.
                let ranges: Vec<_> = ranges.into_iter().filter(|range| range.end <= size).collect();
                let found = store.get_ranges(&path(at), &ranges).await?;
                format!("{:?}", found.iter().map(|bytes| (bytes.len(), crc32c::crc32c(bytes))).collect::<Vec<_>>())
            }
            Op::Suffix { path: at, bytes } => {
                let options = object_store::GetOptions { range: Some(GetRange::Suffix(*bytes)), ..Default::default() };
                let bytes = store.get_opts(&path(at), options).await?.bytes().await?;
                format!("{} {:08x}", bytes.len(), crc32c::crc32c(&bytes))
            }
            Op::Delete(at) => {
                // Some stores report that there was nothing, others do not.
                let there = store.head(&path(at)).await.is_ok();
                if there {
                    store.delete(&path(at)).await?;
                }
                format!("deleted {there}")
            }
            Op::Rename { from, to, new } if from != to => {
                let there = store.head(&path(from)).await.is_ok();
                match (there, new) {
                    (false, _) => return Ok("nothing to rename".into()),
                    (true, true) => store.rename_if_not_exists(&path(from), &path(to)).await?,
                    (true, false) => store.rename(&path(from), &path(to)).await?,
                }
                "renamed".into()
            }
            Op::Rename { .. } => "to itself".into(),
            Op::Copy { from, to, new } => {
                if store.head(&path(from)).await.is_err() || from == to {
                    return Ok("nothing to copy".into());
                }
                match new {
                    true => store.copy_if_not_exists(&path(from), &path(to)).await?,
                    false => store.copy(&path(from), &path(to)).await?,
                }
                "copied".into()
            }
            Op::List(prefix) => {
                let prefix = prefix.as_deref().map(path);
                format!("{:?}", metas(store.list(prefix.as_ref()).try_collect().await?))
            }
            Op::ListFrom { prefix, offset } => {
                let prefix = prefix.as_deref().map(path);
                let listed = store.list_with_offset(prefix.as_ref(), &path(offset));
                format!("{:?}", metas(listed.try_collect().await?))
            }
            Op::ListOne(prefix) => {
                let prefix = prefix.as_deref().map(path);
                let mut listed = store.list_with_delimiter(prefix.as_ref()).await?;
                listed.common_prefixes.sort();
                format!("{:?} {:?}", listed.common_prefixes, metas(listed.objects))
            }
        })
    };
    match outcome.await {
        Ok(answer) => answer,
        Err(object_store::Error::NotFound { .. }) => "not found".into(),
        Err(object_store::Error::AlreadyExists { .. }) => "already exists".into(),
        Err(object_store::Error::Generic { .. }) => "refused".into(),
        Err(other) => format!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_as_a_store_in_memory_does() {
    let cluster = Processes::of(["3", "1", "512MiB"]);
    let session = cluster.session().await;
    let store = WfsStore::new(session.files());
    let runtime = tokio::runtime::Handle::current();
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let ran = tokio::task::block_in_place(|| {
        runner.run(&proptest::collection::vec(op(), 1..25), |ops| {
            runtime.block_on(async {
                let model = InMemory::new();
                for (at, op) in ops.iter().enumerate() {
                    let seed = at as u8;
                    let expected = answer(&model, op, seed).await;
                    let found = answer(&store, op, seed).await;
                    prop_assert_eq!(found, expected, "{:?}", op);
                }
                // The next case begins empty, and every byte must equal the model's.
                let mut left: BTreeMap<Path, u64> = BTreeMap::new();
                let all: Vec<ObjectMeta> = model.list(None).try_collect().await.unwrap();
                left.extend(all.into_iter().map(|meta| (meta.location, meta.size)));
                for path in left.keys() {
                    let found = store.get(path).await.unwrap().bytes().await.unwrap();
                    prop_assert_eq!(&found, &model.get(path).await.unwrap().bytes().await.unwrap());
                    store.delete(path).await.unwrap();
                }
                let rest: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
                prop_assert!(rest.is_empty(), "{:?}", rest);
                Ok(())
            })
        })
    });
    ran.unwrap();
}

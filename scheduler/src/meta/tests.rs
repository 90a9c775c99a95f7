//! What every metadata store must do.

use super::*;

async fn conforms(store: Arc<dyn MetaStore>) {
    assert_eq!(store.get("a").await.unwrap(), None);
    let put = |key: &str, value: &str| Transaction::default().put(key, value.as_bytes().to_vec());
    store.commit(put("a/1", "one").expect("a/1", Expectation::Absent)).await.unwrap();
    store.commit(put("a/2", "two")).await.unwrap();
    store.commit(put("b", "other")).await.unwrap();

    let one = store.get("a/1").await.unwrap().unwrap();
    assert_eq!(one.value.as_ref(), b"one");
    let keys: Vec<_> = store.range("a/").await.unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["a/1", "a/2"]);

    // A conflict writes nothing, not even the keys that nobody expected anything of.
    let conflict = put("a/1", "uno").put("c", "c".as_bytes().to_vec()).expect("a/2", Expectation::Absent);
    assert!(matches!(store.commit(conflict).await, Err(MetaError::Conflict { key }) if key == "a/2"));
    assert_eq!(store.get("a/1").await.unwrap().unwrap(), one);
    assert_eq!(store.get("c").await.unwrap(), None);

    store.commit(put("a/1", "uno").expect("a/1", Expectation::Revision(one.revision))).await.unwrap();
    let again = put("a/1", "eins").expect("a/1", Expectation::Revision(one.revision));
    assert!(matches!(store.commit(again).await, Err(MetaError::Conflict { .. })));

    store.commit(Transaction::default().delete("a/1")).await.unwrap();
    assert_eq!(store.get("a/1").await.unwrap(), None);
}

#[tokio::test]
async fn the_memory_store_conforms() {
    conforms(Arc::new(MemoryStore::default())).await;
}

#[tokio::test]
async fn the_embedded_store_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conforms(Arc::new(EmbeddedStore::open(&folder.path().join("meta.redb")).unwrap())).await;
}

#[tokio::test]
async fn a_second_primary_cannot_open_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.redb");
    let _first = EmbeddedStore::open(&path).unwrap();
    let error = EmbeddedStore::open(&path).unwrap_err().to_string();
    assert!(error.contains("another primary is using it"), "{error}");
}

#[tokio::test]
async fn a_counter_never_repeats_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.redb");
    let mut last = 0;
    for _ in 0..3 {
        let store: Arc<dyn MetaStore> = Arc::new(EmbeddedStore::open(&path).unwrap());
        let counter = Counter::new(store, "job");
        for _ in 0..300 {
            let number = counter.next().await.unwrap();
            assert!(number > last);
            last = number;
        }
    }
}

#[test]
fn names_survive_as_segments_of_keys() {
    for name in ["plain", "a/b", "100%", "%2F", "ü/%25"] {
        let escaped = segment(name);
        assert!(!escaped.contains('/'));
        assert_eq!(unsegment(&escaped), name);
    }
}

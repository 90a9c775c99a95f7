//! Tests that concern one store only. Tests of all stores are in tests/src/meta_stores.rs.

use super::*;

#[tokio::test]
async fn a_second_primary_cannot_open_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.redb");
    let _first = EmbeddedStore::open(&path).unwrap();
    let error = EmbeddedStore::open(&path).unwrap_err().to_string();
    assert!(error.contains("another primary is using it"), "{error}");
}

#[test]
fn names_survive_as_segments_of_keys() {
    for name in ["plain", "a/b", "100%", "%2F", "ü/%25"] {
        let escaped = segment(name);
        assert!(!escaped.contains('/'));
        assert_eq!(unsegment(&escaped), name);
    }
}

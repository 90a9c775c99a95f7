//! The keys in their stored form.

use super::*;
use crate::meta::{MemoryStore, Update};
use bytes::Bytes;
use windlass_core::ids::{JobId, PlanHash};
use windlass_core::job::Takeovers;
use windlass_core::wfs::{Changes, Counters};
use windlass_engine::ClusterShape;

fn updates() -> Vec<(Update, &'static str)> {
    let shape = ClusterShape { executors: 1, slots: 1, max_slots: 1 };
    let stage = stages::BegunStage { index: 3, lineage: PlanHash(1), outputs: Vec::new() };
    let record = windlass_core::writes::Record::<String> {
        staging: Vec::new(),
        unless_committed: Vec::new(),
        publication: None,
    };
    let outcome = outcomes::Outcome { affected: None, counted: false, at_ms: 0 };
    vec![
        (catalog::put_catalog("a/b"), "catalog/catalog/a%2Fb"),
        (catalog::put_schema("a", "b%"), "catalog/schema/a/b%25"),
        (catalog::put_table(["a", "b", "c/d"], &1), "catalog/table/a/b/c%2Fd"),
        (garbage::put(7, "x", String::new()), "garbage/0000000000000007-x"),
        (jobs::put(JobId(7), Bytes::new()), "job/00000000000000000007"),
        (outcomes::put("a/b", &outcome), "outcome/a%2Fb"),
        (sinks::put("w", &sinks::Entry::default()), "sink/w"),
        (stages::put("a/b", JobId(1), shape, &stage), "stage/a%2Fb/000003"),
        (stages::put_takeovers("a/b", Takeovers(1)), "stage/a%2Fb/takeovers"),
        (temporary::put("t", String::new()), "temporary/t"),
        (files::put_head(1, Counters::default()), "wfs/head"),
        (files::entry(7, &Changes::default(), Counters::default()), "wfs/log/0000000000000007"),
        (files::put_segment(7, &[]), "wfs/segment/0000000000000007"),
        (files::put_outcomes(7, &[]), "wfs/outcome/0000000000000007"),
        (maintenance::put(Default::default()), "wfs/maintenance"),
        (writes::put("i", &record), "write/i"),
    ]
}

/// A store of the previous release can be read: keys have not changed.
#[test]
fn keys_stay_what_they_are() {
    for (update, key) in updates() {
        assert_eq!(update.key.0, key);
    }
}

#[tokio::test]
async fn what_was_put_is_found() {
    let store = MemoryStore::default();
    for (update, _) in updates() {
        store.commit(Transaction::default().with(update)).await.unwrap();
    }
    store.commit(catalog::change(None, 5)).await.unwrap();
    assert_eq!(catalog::version(&store).await.unwrap().number, 5);
    assert_eq!(catalog::catalogs::<u8>(&store).await.unwrap(), [("a/b".to_string(), None)]);
    assert_eq!(catalog::schemas(&store).await.unwrap(), [("a".to_string(), "b%".to_string())]);
    let tables = catalog::tables::<u8>(&store).await.unwrap();
    assert_eq!(tables, [(["a", "b", "c/d"].map(str::to_string), 1)]);
    let going = garbage::all(&store).await.unwrap();
    assert_eq!((going.len(), going[0].due_ms), (1, 7));
    assert_eq!(jobs::all(&store).await.unwrap()[0].0, Some(JobId(7)));
    assert!(outcomes::find(&store, "a/b").await.unwrap().is_some());
    assert_eq!(sinks::all(&store).await.unwrap(), ["w"]);
    assert!(sinks::find(&store, "w").await.unwrap().is_some());
    assert_eq!(stages::find(&store, "a/b").await.unwrap().unwrap().takeovers, Takeovers(1));
    assert_eq!(stages::all(&store).await.unwrap()["a/b"].len(), 2);
    assert_eq!(temporary::all(&store).await.unwrap(), [("t".to_string(), String::new())]);
    assert_eq!(files::log(&store, 7).await.unwrap().len(), 1);
    assert!(files::log(&store, 6).await.is_err(), "an entry is missing");
    assert_eq!(writes::all(&store).await.unwrap()[0].0, "i");
}

#[tokio::test]
async fn a_change_of_a_catalog_that_has_changed_is_refused() {
    let store = MemoryStore::default();
    store.commit(catalog::change(None, 1)).await.unwrap();
    assert!(store.commit(catalog::change(None, 1)).await.is_err());
    let version = catalog::version(&store).await.unwrap();
    store.commit(catalog::change(version.revision, 2)).await.unwrap();
    assert!(store.commit(catalog::change(version.revision, 3)).await.is_err());
}

//! Requirements on every metadata store, tested on each: memory, redb, and a real etcd.

use crate::etcd::Etcd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use windlass_scheduler::meta::{
    EmbeddedStore, EtcdStore, Expectation, Leader, MemoryStore, MetaError, MetaStore, Reservation, Term, Transaction,
};

fn put(key: &str, value: &str) -> Transaction {
    Transaction::default().put(key, value.as_bytes().to_vec())
}

fn leader(name: &str) -> Leader {
    Leader { url: format!("grpc://{name}:1"), rest: String::new() }
}

/// Tests a store that is empty and has no leader.
async fn conforms(store: Arc<dyn MetaStore>) {
    assert_eq!(store.leader().await.unwrap(), None);
    let term = store.lead(&leader("a")).await.unwrap();
    assert!(!term.lost.is_cancelled());
    assert_eq!(store.leader().await.unwrap(), Some(leader("a")));

    assert_eq!(store.get("a").await.unwrap(), None);
    store.commit(put("a/1", "one").expect("a/1", Expectation::Absent)).await.unwrap();
    store.commit(put("a/2", "two")).await.unwrap();
    store.commit(put("b", "other")).await.unwrap();

    let one = store.get("a/1").await.unwrap().unwrap();
    assert_eq!(one.value.as_ref(), b"one");
    assert!(store.get("a/2").await.unwrap().unwrap().revision > one.revision);
    assert_eq!(keys(&store, "a/").await, ["a/1", "a/2"]);

    // A conflict writes nothing, not even keys without an expectation.
    let conflict = put("a/1", "uno").put("c", "c".as_bytes().to_vec()).expect("a/2", Expectation::Absent);
    assert!(matches!(store.commit(conflict).await, Err(MetaError::Conflict { key }) if key == "a/2"));
    assert_eq!(store.get("a/1").await.unwrap().unwrap(), one);
    assert_eq!(store.get("c").await.unwrap(), None);

    store.commit(put("a/1", "uno").expect("a/1", Expectation::Revision(one.revision))).await.unwrap();
    let again = put("a/1", "eins").expect("a/1", Expectation::Revision(one.revision));
    assert!(matches!(store.commit(again).await, Err(MetaError::Conflict { .. })));
    store.commit(Transaction::default().delete("a/1")).await.unwrap();
    assert_eq!(store.get("a/1").await.unwrap(), None);

    one_winner(&store).await;
    no_number_twice(&store).await;
    more_than_a_page(&store).await;

    store.resign().await;
    assert_eq!(store.leader().await.unwrap(), None);
    let next = store.lead(&leader("b")).await.unwrap();
    assert!(next.epoch > term.epoch);
    assert_eq!(store.leader().await.unwrap(), Some(leader("b")));
    assert_eq!(store.get("a/2").await.unwrap().unwrap().value.as_ref(), b"two");
}

async fn keys(store: &Arc<dyn MetaStore>, prefix: &str) -> Vec<String> {
    store.range(prefix).await.unwrap().into_iter().map(|(key, _)| key).collect()
}

/// One of many commits with the same expectation succeeds.
async fn one_winner(store: &Arc<dyn MetaStore>) {
    let commits = (0..16).map(|number| {
        let store = store.clone();
        let transaction = put("race", &number.to_string()).expect("race", Expectation::Absent);
        tokio::spawn(async move { store.commit(transaction).await })
    });
    let outcomes = futures::future::join_all(commits).await;
    let won = outcomes.into_iter().filter(|outcome| outcome.as_ref().unwrap().is_ok()).count();
    assert_eq!(won, 1);
}

async fn no_number_twice(store: &Arc<dyn MetaStore>) {
    let reservations = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { Reservation::new(store, "race").reserve().await.unwrap() })
    });
    let mut ranges: Vec<_> = futures::future::join_all(reservations).await.into_iter().map(|r| r.unwrap()).collect();
    ranges.sort_by_key(|range| range.start);
    assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start), "{ranges:?}");
}

async fn more_than_a_page(store: &Arc<dyn MetaStore>) {
    let names: Vec<String> = (0..600).map(|number| format!("many/{number:04}")).collect();
    for some in names.chunks(100) {
        let transaction = some.iter().fold(Transaction::default(), |all, key| all.put(key, vec![b'x'; 100]));
        store.commit(transaction).await.unwrap();
    }
    assert_eq!(keys(store, "many/").await, names);
}

#[tokio::test]
async fn memory_conforms() {
    conforms(Arc::new(MemoryStore::default())).await;
}

#[tokio::test]
async fn redb_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conforms(Arc::new(EmbeddedStore::open(&folder.path().join("meta.redb")).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_conforms() {
    let etcd = Etcd::start().await;
    conforms(Arc::new(EtcdStore::connect(&etcd.config("conforms")).await.unwrap())).await;
    // Another cluster has separate keys.
    let other: Arc<dyn MetaStore> = Arc::new(EtcdStore::connect(&etcd.config("other")).await.unwrap());
    assert_eq!(keys(&other, "").await, Vec::<String>::new());
}

async fn member(etcd: &Etcd) -> Arc<EtcdStore> {
    Arc::new(EtcdStore::connect(&etcd.config("members")).await.unwrap())
}

async fn refused(store: &EtcdStore) -> String {
    let error = store.commit(put("k", "from an earlier time")).await.unwrap_err();
    assert!(matches!(error, MetaError::NotLeading { .. }), "{error}");
    error.to_string()
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it happens soon")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_and_the_next_one_follows() {
    let etcd = Etcd::start().await;
    let (first, second) = (member(&etcd).await, member(&etcd).await);
    refused(&first).await;
    let term = first.lead(&leader("first")).await.unwrap();
    first.commit(put("k", "1")).await.unwrap();
    let waiting = {
        let second = second.clone();
        tokio::spawn(async move { second.lead(&leader("second")).await.unwrap() })
    };
    // The second does not lead while the first renews its lease, for longer than the lease.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!waiting.is_finished() && !term.lost.is_cancelled());
    assert!(refused(&second).await.contains("the leader is grpc://first:1"));

    let resigned = Instant::now();
    first.resign().await;
    let next: Term = soon(waiting).await.unwrap();
    println!("after a leader resigned the next one led in {} ms", resigned.elapsed().as_millis());
    assert!(next.epoch > term.epoch && term.lost.is_cancelled());
    second.commit(put("k", "2")).await.unwrap();
    assert!(refused(&first).await.contains("the leader is grpc://second:1"));
    assert_eq!(first.get("k").await.unwrap().unwrap().value.as_ref(), b"2");
}

/// This happens to a leader that was paused: it loses its lease before it notices.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_loses_the_lease_can_change_nothing() {
    let etcd = Etcd::start().await;
    let (first, second) = (member(&etcd).await, member(&etcd).await);
    let term = first.lead(&leader("first")).await.unwrap();
    first.commit(put("k", "1")).await.unwrap();
    let lease = etcd.ctl(&["lease", "list"]).lines().last().unwrap().to_owned();
    etcd.ctl(&["lease", "revoke", &lease]);
    let next = soon(second.lead(&leader("second"))).await.unwrap();
    assert!(next.epoch > term.epoch);
    refused(&first).await;
    assert_eq!(second.get("k").await.unwrap().unwrap().value.as_ref(), b"1");
    soon(term.lost.cancelled()).await;
    // Its old term is over; it can stand again.
    second.resign().await;
    assert!(soon(first.lead(&leader("first"))).await.unwrap().epoch > next.epoch);
    first.commit(put("k", "3")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_waits_for_an_etcd_that_is_away_for_a_moment() {
    let mut etcd = Etcd::start().await;
    let store = member(&etcd).await;
    let term = store.lead(&leader("first")).await.unwrap();
    store.commit(put("n", "0")).await.unwrap();
    etcd.kill();
    // During the outage no commit is reported as done.
    let committing = {
        let store = store.clone();
        tokio::spawn(async move { store.commit(put("n", "1")).await })
    };
    etcd.start_again().await;
    let committed = soon(committing).await.unwrap();
    let value = soon(async {
        loop {
            if let Ok(entry) = store.get("n").await {
                return entry.unwrap().value;
            }
        }
    })
    .await;
    match committed {
        Ok(()) => assert_eq!(value.as_ref(), b"1"),
        Err(error) => println!("the commit failed, and may have happened: {error}"),
    }
    // A restarted etcd renews the leases; if this one has expired, the term is over, and the next one can begin.
    if term.lost.is_cancelled() {
        assert!(soon(store.lead(&leader("first"))).await.unwrap().epoch > term.epoch);
    }
    store.commit(put("n", "2")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_takes_nothing_from_those_who_stand_by() {
    let etcd = Etcd::start().await;
    let (first, second) = (member(&etcd).await, member(&etcd).await);
    first.lead(&leader("first")).await.unwrap();
    let waiting = {
        let second = second.clone();
        tokio::spawn(async move { second.lead(&leader("second")).await.unwrap() })
    };
    for number in 0..200 {
        first.commit(put("k", &number.to_string())).await.unwrap();
    }
    let revision = first.get("k").await.unwrap().unwrap().revision;
    etcd.ctl(&["compact", &revision.to_string()]);
    first.resign().await;
    soon(waiting).await.unwrap();
    assert_eq!(second.get("k").await.unwrap().unwrap().value.as_ref(), b"199");
    second.commit(put("k", "200")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_etcd_does_not_take_is_said() {
    let etcd = Etcd::start().await;
    let store = member(&etcd).await;
    store.lead(&leader("first")).await.unwrap();
    let huge = Transaction::default().put("huge", vec![b'x'; 1_700_000]);
    let error = store.commit(huge).await.unwrap_err().to_string();
    assert!(error.contains("etcd at http://127.0.0.1") && error.contains("too large"), "{error}");
    let many = (0..500).fold(Transaction::default(), |all, number| all.put(format!("many/{number}"), Vec::new()));
    let error = store.commit(many).await.unwrap_err().to_string();
    assert!(error.contains("too many operations"), "{error}");
    assert_eq!(store.range("many/").await.unwrap(), []);
    store.commit(put("k", "1")).await.unwrap();

    let nowhere =
        windlass_scheduler::meta::EtcdConfig { endpoints: vec!["http://127.0.0.1:1".into()], ..etcd.config("x") };
    let started = Instant::now();
    let error = EtcdStore::connect(&nowhere).await.unwrap_err().to_string();
    assert!(error.contains("etcd at http://127.0.0.1:1") && error.contains("onnection refused"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

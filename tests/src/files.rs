//! `wfs://`: the object store's own suite, a model, and failures of executors, disks and primaries.

mod coded;
mod distcp;
pub(crate) mod faults;
mod last;
mod model;
pub(crate) mod shell;
mod text;
mod tickets;
mod twice;

use crate::cluster::Processes;
use object_store::integration::{
    copy_if_not_exists, copy_rename_nonexistent_object, get_nonexistent_object, get_opts,
    list_uses_directories_correctly, list_with_delimiter, list_with_offset_exclusivity, multipart_race_condition,
    put_get_delete_list, put_opts, rename_and_copy, stream_get,
};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use std::sync::Arc;
use std::time::Duration;
use windlass_client::wfs::{Wfs, WfsStore};
use windlass_client::{Client, EmbeddedOptions};
use windlass_engine::versions::Versions;

/// Runs the tests that object_store requires of every store.
async fn object_store_suite(files: &Wfs) {
    let store = WfsStore::new(files.clone());
    put_get_delete_list(&store).await;
    get_opts(&store).await;
    put_opts(&store, true).await;
    list_uses_directories_correctly(&store).await;
    list_with_delimiter(&store).await;
    list_with_offset_exclusivity(&store).await;
    rename_and_copy(&store).await;
    copy_if_not_exists(&store).await;
    copy_rename_nonexistent_object(&store).await;
    let nothing = get_nonexistent_object(&store, None).await.expect_err("there is none");
    assert!(matches!(nothing, object_store::Error::NotFound { .. }), "{nothing}");
    stream_get(&store).await;
    multipart_race_condition(&store, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_an_object_store_embedded() {
    let session = Client::embedded(EmbeddedOptions::default()).await.expect("an embedded cluster starts");
    object_store_suite(&session.files()).await;
    session.close().await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_an_object_store_on_a_cluster() {
    let cluster = Processes::of(["3", "1", "512MiB"]);
    object_store_suite(&cluster.session().await.files()).await;
}

/// This must hold even where blocks are not looked up for each read: a newer version is never mixed in. A task may begin after the file of its plan was
/// replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_scan_reads_the_version_that_was_listed() {
    let session = Client::embedded(EmbeddedOptions::default()).await.expect("an embedded cluster starts");
    let store = WfsStore::new(session.files());
    let at = Path::from("f");
    store.put(&at, "first one".into()).await.expect("it is written");
    let listed = store.head(&at).await.expect("it is there");
    store.put(&at, "second, longer".into()).await.expect("it is written again");
    let versions = Arc::new(Versions::default());
    versions.expect(&listed);
    let scan = WfsStore::of_scan(session.files(), versions);
    assert_eq!(scan.get(&at).await.expect("it is read").bytes().await.expect("all of it"), "first one");
    assert_eq!(scan.get_ranges(&at, &[6..9, 0..5]).await.expect("it is read"), ["one", "first"]);
    // A version that nobody remembers is an error, and never another version.
    let versions = Arc::new(Versions::default());
    versions.expect(&ObjectMeta { e_tag: Some("1".into()), ..listed });
    let scan = WfsStore::of_scan(session.files(), versions);
    let gone = scan.get_range(&at, 0..5).await.expect_err("it is another file");
    assert!(matches!(gone, object_store::Error::Precondition { .. }), "{gone}");
    assert!(gone.to_string().contains("run the statement again"), "{gone}");
    session.close().await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_reads_a_file_as_it_was_when_the_scan_came_to_it() {
    let session = Client::embedded(EmbeddedOptions::default()).await.expect("an embedded cluster starts");
    let (store, scan) = (WfsStore::new(session.files()), WfsStore::of_scan(session.files(), Arc::default()));
    let at = Path::from("f");
    store.put(&at, "first one".into()).await.expect("it is written");
    assert_eq!(scan.get_range(&at, 0..5).await.expect("it is read"), "first");
    store.put(&at, "second, longer".into()).await.expect("it is written again");
    assert_eq!(scan.get_ranges(&at, &[6..9, 0..5]).await.expect("it is read"), ["one", "first"]);
    let other = WfsStore::of_scan(session.files(), Arc::default());
    assert_eq!(other.get_range(&at, 8..14).await.expect("it is read"), "longer");
    // Beyond its known range the scan asks again.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mixed = scan.get_range(&at, 6..9).await.expect_err("it is another file");
    assert!(mixed.to_string().contains("written again"), "{mixed}");
    session.close().await.expect("it ends");
}

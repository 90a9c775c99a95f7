//! `wfs://`: the object store's own suite, a model, and what happens when executors, disks and primaries fail.

mod coded;
mod distcp;
pub(crate) mod faults;
mod model;
mod shell;

use crate::cluster::Processes;
use object_store::integration::{
    copy_if_not_exists, copy_rename_nonexistent_object, get_nonexistent_object, get_opts,
    list_uses_directories_correctly, list_with_delimiter, list_with_offset_exclusivity, multipart_race_condition,
    put_get_delete_list, put_opts, rename_and_copy, stream_get,
};
use windlass_client::wfs::{Wfs, WfsStore};
use windlass_client::{Client, EmbeddedOptions};

/// What object_store demands of every store.
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

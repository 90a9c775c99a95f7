//! Leaks: temporary things that remain after a run has settled.

use super::{EXECUTORS, PRIMARIES, World};
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use windlass_client::Session;
use windlass_client::wfs::WfsStore;
use windlass_scheduler::meta::{EtcdConfig, EtcdStore, MetaStore, under_way};

/// Time after which nothing temporary may remain: longer than leases of dead writers, and than the intervals of cleanups.
const PATIENCE: Duration = Duration::from_secs(120);

/// Counts what remains after the cleanups, by kind.
pub(super) async fn after_a_while(world: &World, session: &Session) -> BTreeMap<&'static str, usize> {
    let patience = Instant::now() + PATIENCE;
    loop {
        let leaked = count(world, session).await;
        let none = leaked.as_ref().is_ok_and(|leaked| leaked.values().all(|count| *count == 0));
        if none || Instant::now() > patience {
            return leaked.expect("what is left can be looked at");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn count(world: &World, session: &Session) -> Result<BTreeMap<&'static str, usize>, String> {
    let mut leaked = BTreeMap::new();
    let warehouse = world.dir.path().join("warehouse");
    leaked.insert("staged folders", below(&warehouse, &|path, folder| folder && path.contains(".windlass-")));
    let mut replicas = 0;
    let mut temporary = 0;
    for machine in &world.machines[1 + PRIMARIES..][..EXECUTORS] {
        let data = machine.folder().join("data");
        temporary += ["spill", "exchange"].iter().map(|of| below(&data.join(of), &|_, folder| !folder)).sum::<usize>();
        replicas += below(&data.join("blocks"), &|path, folder| !folder && path.contains("/replicas/"));
    }
    leaked.insert("temporary files of executors", temporary);

    // The files are not needed any more.
    let store = WfsStore::new(session.files());
    let files: Vec<_> = store.list(None).try_collect().await.map_err(|error| error.to_string())?;
    for file in files {
        store.delete(&file.location).await.map_err(|error| error.to_string())?;
    }
    let health = session.files().health("/", 0).await.map_err(|error| error.to_string())?;
    leaked.insert("blocks of removed files", health.blocks as usize);
    leaked.insert("replicas of removed files", replicas);

    let config =
        EtcdConfig { endpoints: vec![world.etcd.clone()], cluster: "chaos".to_owned(), lease: Duration::from_secs(2) };
    let etcd = EtcdStore::connect(&config).await.map_err(|error| error.to_string())?;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let entries = under_way(&etcd as &dyn MetaStore, now_ms).await.map_err(|error| error.to_string())?;
    leaked.extend(entries);
    Ok(leaked)
}

/// Counts files and folders at any depth that `wanted` accepts; its second argument says whether the path is a folder. Accepted folders are not searched.
fn below(root: &Path, wanted: &dyn Fn(&str, bool) -> bool) -> usize {
    let (mut found, mut folders) = (0, vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if wanted(&path.to_string_lossy(), path.is_dir()) {
                found += 1;
            } else if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

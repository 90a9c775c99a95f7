//! The last good bytes of a block: they stay and are read, even beside surplus, damaged or empty replicas.

use super::faults::{healthy, options, quick, text, until, verify, write};
use crate::cluster::{Processes, succeed, windlass};
use std::path::{Path, PathBuf};
use windlass_client::wfs::Wfs;

const BLOCK: u64 = 1 << 20;

fn replica(cluster: &Processes, executor: usize) -> PathBuf {
    let found = cluster.replicas(executor, ".block");
    assert_eq!(found.len(), 1, "executor {executor} has {found:?}");
    found.into_iter().next().expect("there is one")
}

fn empty(path: &Path) {
    std::fs::write(path, b"").expect("a replica can be emptied");
}

fn flip(path: &Path, at: usize) {
    let mut stored = std::fs::read(path).expect("the replica is there");
    stored[at] ^= 0x10;
    std::fs::write(path, stored).expect("a byte can be flipped");
}

fn command(cluster: &Processes, arguments: &[&str]) -> String {
    succeed(windlass(&[&["fs"], arguments, &["--url", &cluster.url]].concat()))
}

/// Has all replicas examined that are not known to be damaged.
fn look_at_all(cluster: &Processes) {
    let fsck = windlass(&["fs", "fsck", "--verify", "/f", "--url", &cluster.url]).output().expect("it runs");
    assert!(fsck.status.code().is_some_and(|code| code <= 1), "{fsck:?}");
}

async fn replicas_of(files: &Wfs, path: &str) -> usize {
    files.locate(path, 0..u64::MAX).await.expect("the file is there").blocks[0].holders.len()
}

/// Damage goes unnoticed, and then fewer replicas are wanted.
#[tokio::test(flavor = "multi_thread")]
async fn fewer_replicas_are_never_just_the_empty_ones() {
    let cluster = quick("3", "");
    let session = cluster.session().await;
    let files = session.files();
    for good in 0..3 {
        for wanted in ["1", "2"] {
            write(&files, "/f", good as u64, BLOCK, options(3)).await;
            (0..3).filter(|executor| *executor != good).for_each(|executor| empty(&replica(&cluster, executor)));
            command(&cluster, &["setrep", "-w", wanted, "/f"]);
            verify(&files, "/f", good as u64, BLOCK).await;
            command(&cluster, &["fsck", "--verify", "/f"]);
            healthy(&files).await;
            let wanted: usize = wanted.parse().expect("a number");
            until("as many as are wanted", async || replicas_of(&files, "/f").await == wanted).await;
            verify(&files, "/f", good as u64, BLOCK).await;
            command(&cluster, &["rm", "--skip-trash", "/f"]);
            until("nothing of it is left", async || {
                (0..3).all(|executor| cluster.replicas(executor, ".block").is_empty())
            })
            .await;
        }
    }
}

/// A nearly complete replica stays beside empty ones, whichever is found first.
#[tokio::test(flavor = "multi_thread")]
async fn the_best_of_what_is_left_stays() {
    let cluster = quick("3", "");
    let session = cluster.session().await;
    let files = session.files();
    for best in 0..3 {
        for no_sums in [false, true] {
            write(&files, "/f", 1, BLOCK, options(3)).await;
            let paths: Vec<PathBuf> = (0..3).map(|executor| replica(&cluster, executor)).collect();
            (0..3).filter(|executor| *executor != best).for_each(|executor| empty(&paths[executor]));
            match no_sums {
                true => std::fs::remove_file(paths[best].with_extension("sums")).expect("it can be removed"),
                false => flip(&paths[best], 500_000),
            }
            look_at_all(&cluster);
            until("all are found", async || files.health("/", 0).await.expect("a report").damaged == 1).await;
            assert_eq!(std::fs::metadata(&paths[best]).expect("it stays").len(), BLOCK);
            command(&cluster, &["rm", "--skip-trash", "/f"]);
            until("nothing of it is left", async || paths.iter().all(|path| !path.exists())).await;
        }
    }
}

/// Every 64 KiB is intact on some executor: the file is read from the intact parts.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_replicas_make_up_for_each_other() {
    let cluster = quick("3", "");
    let session = cluster.session().await;
    let files = session.files();
    write(&files, "/f", 1, BLOCK, options(3)).await;
    for executor in 0..3 {
        flip(&replica(&cluster, executor), 100 + executor * 300_000);
    }
    verify(&files, "/f", 1, BLOCK).await;
    look_at_all(&cluster);
    until("all are found", async || files.health("/", 0).await.expect("a report").damaged == 1).await;
    verify(&files, "/f", 1, BLOCK).await;
    let local = cluster.dir.path().join("saved");
    command(&cluster, &["get", "/f", &local.display().to_string()]);
    assert!(std::fs::read(&local).expect("it is saved") == text(1, 0, BLOCK as usize));
    // Bytes that are damaged everywhere give an error, never wrong bytes.
    (0..3).for_each(|executor| flip(&replica(&cluster, executor), 700_000));
    let got = windlass(&["fs", "cat", "/f", "--url", &cluster.url]).output().expect("it runs");
    assert!(!got.status.success() && text(1, 0, BLOCK as usize).starts_with(&got.stdout), "{:?}", got.status);
}

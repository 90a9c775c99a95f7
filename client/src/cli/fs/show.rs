//! Output about files and the cluster, for people and as JSON.

use super::paths::parse;
use super::{ASKED_EVERY, Failure, Outcome, Wfs, expand_all, walk};
use crate::cli::counted;
use crate::cli::jobs::print_json;
use crate::cli::stages::aligned;
use crate::config::units::ByteSize;
use serde_json::{Value, json};
use std::time::{Duration, UNIX_EPOCH};
use windlass_proto::v1;

/// Maximum troubled blocks to show.
const SHOWN: u32 = 1_000;

pub async fn ls(files: &Wfs, paths: &[String], recursive: bool, human: bool, as_json: bool) -> Outcome {
    let mut entries = Vec::new();
    for found in expand_all(files, paths).await? {
        match found.entry.folder().is_some() {
            true => entries.extend(walk(files, &found.entry.path, recursive).await?),
            false => entries.push(found.entry),
        }
    }
    if as_json {
        return print_json(&entries.iter().map(entry_json).collect::<Vec<_>>());
    }
    let rows: Vec<[String; 5]> = entries
        .iter()
        .map(|entry| {
            let (kind, replicas, bytes) = match &entry.detail {
                Some(v1::file_entry::Detail::File(file)) => ("-", kept_as(file), file.bytes),
                _ => ("d", "-".to_owned(), entry.folder().map_or(0, |folder| folder.bytes)),
            };
            [kind.to_owned(), replicas, size(bytes, human), time(entry.modified_ms), entry.path.clone()]
        })
        .collect();
    crate::cli::print(&aligned(&rows, &[false, true, true, false, false]))
}

pub async fn du(files: &Wfs, paths: &[String], summary: bool, human: bool) -> Outcome {
    let mut entries = Vec::new();
    for found in expand_all(files, paths).await? {
        match found.entry.folder().is_some() && !summary {
            true => entries.extend(walk(files, &found.entry.path, false).await?),
            false => entries.push(found.entry),
        }
    }
    let mut rows = vec![["bytes", "with replicas", "files", "folders", "path"].map(str::to_owned)];
    for entry in entries {
        let path = entry.path.clone();
        rows.push(match (&entry.detail, entry.folder()) {
            (Some(v1::file_entry::Detail::File(file)), _) => {
                let (bytes, all) = (size(file.bytes, human), size(file.replicated_bytes, human));
                [bytes, all, "1".into(), "0".into(), path]
            }
            (_, folder) => {
                let folder = folder.cloned().unwrap_or_default();
                let (bytes, all) = (size(folder.bytes, human), size(folder.replicated_bytes, human));
                [bytes, all, folder.files.to_string(), folder.folders.to_string(), path]
            }
        });
    }
    crate::cli::print(&aligned(&rows, &[true, true, true, true, false]))
}

pub async fn df(files: &Wfs, human: bool) -> Outcome {
    let health = files.health("/", 0).await?;
    let mut rows = vec![["executor", "used", "free", "use%"].map(str::to_owned)];
    let (mut all_used, mut all_free) = (0, 0);
    let row = |name: String, used: u64, free: u64| {
        let percent = (used * 100).checked_div(used + free).map_or("-".to_owned(), |percent| format!("{percent}%"));
        [name, size(used, human), size(free, human), percent]
    };
    for member in &health.members {
        all_used += member.used_bytes;
        all_free += known(member.free_bytes);
        rows.push(row(member.name.clone(), member.used_bytes, known(member.free_bytes)));
    }
    rows.push(row("in all".into(), all_used, all_free));
    crate::cli::print(&aligned(&rows, &[false, true, true, true]))
}

pub async fn stat(files: &Wfs, paths: &[String]) -> Outcome {
    let found = expand_all(files, paths).await?;
    print_json(&found.iter().map(|found| entry_json(&found.entry)).collect::<Vec<_>>())
}

pub async fn fsck(files: &Wfs, path: &str, as_json: bool) -> Outcome {
    let path = parse(path)?.as_str().to_owned();
    let entry = files.stat(&path).await?;
    let mut health = files.health(&path, SHOWN).await?;
    // A primary that has just started has not heard of every replica yet: missing ones may only be unreported.
    if health.settling && unreadable_of(&health) > 0 {
        eprintln!("the primary has just started: waiting for its executors to say what they hold");
        while health.settling && unreadable_of(&health) > 0 {
            tokio::time::sleep(ASKED_EVERY).await;
            health = files.health(&path, SHOWN).await?;
        }
    }
    let unreadable = unreadable_of(&health);
    let (count, bytes) = match entry.folder() {
        Some(folder) => (folder.files, folder.bytes),
        None => (1, entry.file_bytes().unwrap_or(0)),
    };
    if as_json {
        let troubled: Vec<Value> = health.troubled.iter().map(troubled_json).collect();
        print_json(
            &json!({ "path": path, "files": count, "bytes": bytes, "healthy": unreadable == 0, "troubled": troubled }),
        )?;
    } else {
        let mut out = String::new();
        for block in &health.troubled {
            let state = match (block.damaged, block.replicas) {
                (true, 0) => "damaged",
                (_, 0) => "missing",
                _ => "under-replicated",
            };
            out += &format!(
                "{}: block-{} is {state}, {} of {} replicas\n",
                block.path, block.block, block.replicas, block.wanted
            );
        }
        if health.settling {
            out += "the primary has just started, and waits for executors to say what they hold\n";
        }
        let verdict = if unreadable == 0 { "healthy" } else { "NOT healthy: some files cannot be read" };
        out += &format!("{path}: {}, {} in all, {verdict}\n", counted(count, "file"), ByteSize::human(bytes));
        crate::cli::print(&out)?;
    }
    match unreadable {
        0 => Ok(()),
        1 => Err(Failure::Failed(format!("a block under {path} has no replica that can be read"))),
        blocks => Err(Failure::Failed(format!("{blocks} blocks under {path} have no replica that can be read"))),
    }
}

/// Number of blocks in the report without a replica.
fn unreadable_of(health: &v1::HealthReply) -> usize {
    health.troubled.iter().filter(|block| block.replicas == 0).count()
}

pub async fn report(files: &Wfs, as_json: bool) -> Outcome {
    let health = files.health("/", 0).await?;
    if as_json {
        let members = health.members.iter().map(|member| {
            json!({
                "executor": format!("executor-{}", member.executor), "name": member.name, "address": member.address,
                "rack": member.rack, "draining": member.draining, "maintenance": member.maintenance, "replicas": member.replicas,
                "used_bytes": member.used_bytes, "free_bytes": known(member.free_bytes),
            })
        });
        return print_json(&json!({
            "entries": health.entries, "blocks": health.blocks, "under_replicated": health.under_replicated,
            "missing": health.missing, "surplus": health.surplus, "damaged": health.damaged,
            "copying": health.copying, "copied": health.copied, "pruned": health.pruned,
            "recoding": health.recoding, "to_recode": health.to_recode, "settling": health.settling,
            "balancing": health.balancing, "executors": members.collect::<Vec<_>>(),
        }));
    }
    let mut out = format!(
        "files and folders  {}\nblocks             {}\nunder-replicated   {}\nmissing            {}\ndamaged            {}\n\
         copies under way   {}\ncopies made        {}\n",
        health.entries,
        health.blocks,
        health.under_replicated,
        health.missing,
        health.damaged,
        health.copying,
        health.copied
    );
    if health.settling {
        out += "the primary has just started, and waits for executors to say what they hold\n";
    }
    if health.recoding + health.to_recode > 0 {
        out += &format!(
            "files that are being made as their folders' policies ask for: {}; that wait for it: {}\n",
            health.recoding, health.to_recode
        );
    }
    if health.balancing {
        out += "replicas move from fuller disks to emptier ones\n";
    }
    let mut rows = vec![["executor", "name", "rack", "state", "replicas", "used", "free"].map(str::to_owned)];
    for member in health.members {
        rows.push([
            format!("executor-{}", member.executor),
            member.name,
            member.rack,
            match (member.draining, member.maintenance) {
                (true, _) => "draining",
                (_, true) => "maintenance",
                _ => "live",
            }
            .to_owned(),
            member.replicas.to_string(),
            ByteSize::human(member.used_bytes),
            ByteSize::human(known(member.free_bytes)),
        ]);
    }
    out += &aligned(&rows, &[false, false, false, false, true, true, true]);
    crate::cli::print(&out)
}

/// Free space for display; not known before an executor's first heartbeat.
fn known(free: u64) -> u64 {
    if free == u64::MAX { 0 } else { free }
}

fn entry_json(entry: &v1::FileEntry) -> Value {
    let modified = time(entry.modified_ms);
    match (&entry.detail, entry.folder()) {
        (Some(v1::file_entry::Detail::File(file)), _) => json!({
            "path": entry.path, "type": "file", "id": entry.id, "modified": modified, "bytes": file.bytes,
            "replicated_bytes": file.replicated_bytes, "blocks": file.blocks, "replication": file.replication,
            "coding": (!file.coding.is_empty()).then_some(&file.coding),
        }),
        (_, folder) => {
            let folder = folder.cloned().unwrap_or_default();
            json!({
                "path": entry.path, "type": "folder", "id": entry.id, "modified": modified, "files": folder.files,
                "folders": folder.folders, "bytes": folder.bytes, "replicated_bytes": folder.replicated_bytes,
                "quota_files": folder.quota_files, "quota_bytes": folder.quota_bytes, "replication": folder.replication,
                "policy": folder.policy,
            })
        }
    }
}

/// Number of replicas of a file, or the code that cuts its blocks.
fn kept_as(file: &v1::FileDetail) -> String {
    if file.coding.is_empty() { file.replication.to_string() } else { file.coding.clone() }
}

fn troubled_json(block: &v1::TroubledBlock) -> Value {
    json!({
        "path": block.path, "block": block.block, "replicas": block.replicas, "wanted": block.wanted,
        "damaged": block.damaged,
    })
}

fn size(bytes: u64, human: bool) -> String {
    if human { ByteSize::human(bytes) } else { bytes.to_string() }
}

fn time(modified_ms: u64) -> String {
    let time: chrono::DateTime<chrono::Utc> = (UNIX_EPOCH + Duration::from_millis(modified_ms)).into();
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

//! `windlass fs`: the files of the cluster, with the habits of `hdfs dfs`.

mod distcp;
mod paths;
mod show;
mod transfer;

use super::arguments::{Fs, FsCommand, FsTarget, WriteTerms};
use super::embedding::Embedding;
use super::{Failure, Outcome, counted};
use crate::config::units::{ByteSize, Span};
use crate::embedded::EmbeddedOptions;
use crate::{Client, Session};
use distcp::Distcp;
use futures::TryStreamExt;
use paths::{Found, expand, parse};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use windlass_connectors::wfs::{self, Wfs, WfsError};
use windlass_core::wfs::{Coding, FsPath, TRASH};
use windlass_engine::checksum::crc32c_append;
use windlass_proto::v1;
use windlass_proto::v1::file_error::Kind;
use windlass_proto::v1::file_request::Ask;

/// Entries in one page of a list.
const PAGE: u32 = 5_000;

/// Interval of polls while a command waits.
const ASKED_EVERY: Duration = Duration::from_millis(100);
/// Time in which at least one of the requested replica reads must finish.
const READS_WITHIN: Duration = Duration::from_secs(60);

impl From<WfsError> for Failure {
    fn from(error: WfsError) -> Self {
        match &error {
            WfsError::Primary(_) => Failure::Unreachable(error.to_string()),
            _ => Failure::Failed(error.to_string()),
        }
    }
}

pub fn run(command: Fs, embedding: Embedding<'_>, runtime: &Runtime) -> Outcome {
    runtime.block_on(async {
        let session = open(command.target, embedding).await?;
        let files = session.files();
        let outcome = tokio::select! {
            outcome = execute(&session, &files, command.command) => outcome,
            _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        };
        // The request has succeeded or failed by this point; that outcome counts.
        let closed = session.close().await;
        outcome.and(closed.map_err(Failure::from))
    })
}

/// Copies a file of this machine into a new folder of the cluster.
pub(super) async fn upload(session: &Session, local: &Path, folder: &str, to: &str) -> Outcome {
    let files = session.files();
    files.act(Ask::Mkdir(v1::MkdirRequest { path: folder.to_owned(), parents: true })).await?;
    let terms = WriteTerms { replication: None, block_size: None };
    transfer::put_one(&files, local, to, &terms).await
}

/// Writes what the files of a folder hold, one after the other. Nothing if there is no such folder.
pub(super) async fn print_all(session: &Session, folder: &str) -> Outcome {
    let files = session.files();
    for found in expand(&files, &format!("{folder}*")).await.unwrap_or_default() {
        print_range(&files, &found.file()?.path, |bytes| 0..bytes).await?;
    }
    Ok(())
}

async fn open(target: FsTarget, embedding: Embedding<'_>) -> Result<Session, Failure> {
    match (target.url, target.dir) {
        (Some(url), _) => Ok(Client::connect_with_token(&url, target.token).await?),
        (None, Some(dir)) => embedding.open(EmbeddedOptions { dir: Some(dir), ..EmbeddedOptions::default() }).await,
        (None, None) => Err(Failure::Usage(
            "whose files? Name a cluster with --url or WINDLASS_URL, or the folder of an embedded one with --dir"
                .to_owned(),
        )),
    }
}

async fn execute(session: &Session, files: &Wfs, command: FsCommand) -> Outcome {
    match command {
        FsCommand::Distcp { from, to, overwrite, delete, no_verify, dry_run, verbose, no_progress } => {
            distcp::run(session, &Distcp { from, to, overwrite, delete, no_verify, dry_run, verbose, no_progress })
                .await
        }
        FsCommand::Ls { paths, recursive, human, json } => show::ls(files, &paths, recursive, human, json).await,
        FsCommand::Put { paths, transfer, terms } => transfer::put(files, &paths, &transfer, &terms).await,
        FsCommand::Get { paths, transfer } => transfer::get(files, &paths, &transfer).await,
        FsCommand::Cp { paths, transfer, terms } => transfer::cp(files, &paths, &transfer, &terms).await,
        FsCommand::Cat { paths } => {
            for found in expand_all(files, &paths).await? {
                print_range(files, &found.file()?.path, |bytes| 0..bytes).await?;
            }
            Ok(())
        }
        FsCommand::Head { path, bytes } => print_range(files, parse(&path)?.as_str(), |size| 0..bytes.min(size)).await,
        FsCommand::Tail { path, bytes } => {
            print_range(files, parse(&path)?.as_str(), |size| size.saturating_sub(bytes)..size).await
        }
        FsCommand::Mkdir { paths, parents } => {
            for path in &paths {
                let path = parse(path)?.as_str().to_owned();
                files.act(Ask::Mkdir(v1::MkdirRequest { path, parents })).await?;
            }
            Ok(())
        }
        FsCommand::Mv { paths, force } => mv(files, &paths, force).await,
        FsCommand::Rm { paths, recursive, force, skip_trash } => rm(files, &paths, recursive, force, skip_trash).await,
        FsCommand::Du { paths, summary, human } => show::du(files, &paths, summary, human).await,
        FsCommand::Df { human } => show::df(files, human).await,
        FsCommand::Stat { paths } => show::stat(files, &paths).await,
        FsCommand::Checksum { paths } => checksum(files, &paths).await,
        FsCommand::Setrep { replicas, paths, wait } => setrep(files, replicas, &paths, wait).await,
        FsCommand::Quota { path, files: count, bytes } => quota(files, &path, count, bytes).await,
        FsCommand::Policy { path, policy, wait } => set_policy(files, &path, policy.as_deref(), wait).await,
        FsCommand::Trash { empty } => trash(files, empty).await,
        FsCommand::Fsck { path, verify, json } => {
            if verify {
                read_all(files, parse(&path)?.as_str()).await?;
            }
            show::fsck(files, &path, json).await
        }
        FsCommand::Balance { threshold, stop, wait } => balance(files, threshold, stop, wait).await,
        FsCommand::Maintenance { executor, time, end } => {
            let seconds = (!end).then(|| time.duration().as_secs().max(1));
            files.act(Ask::Maintain(v1::MaintainRequest { executor: executor.clone(), seconds })).await?;
            super::print(&match end {
                true => format!("{executor} is an executor like the others again\n"),
                false => format!("{executor} may be away for {}\n", Span::human(time.duration())),
            })
        }
        FsCommand::Report { json } => show::report(files, json).await,
    }
}

/// Has executors read all their replicas of the files in `path`, and waits until they have.
async fn read_all(files: &Wfs, path: &str) -> Outcome {
    files.act(Ask::Verify(v1::PathRequest { path: path.to_owned() })).await?;
    let (mut least, mut since) = (u64::MAX, Instant::now());
    loop {
        let unread = files.health(path, 0).await?.unread;
        if unread == 0 {
            return Ok(());
        }
        if unread < least {
            (least, since) = (unread, Instant::now());
        } else if since.elapsed() > READS_WITHIN {
            return Err(Failure::Failed(format!(
                "executors were to read {} and have read none for {}: look at their logs, or ask again",
                counted(unread, "more replica"),
                Span::human(READS_WITHIN)
            )));
        }
        tokio::time::sleep(ASKED_EVERY).await;
    }
}

/// Expands the patterns. Each must match something.
async fn expand_all(files: &Wfs, patterns: &[String]) -> Result<Vec<Found>, Failure> {
    let mut all = Vec::new();
    for pattern in patterns {
        all.extend(expand(files, pattern).await?);
    }
    Ok(all)
}

/// All files in `folder`, at any depth, or its direct entries.
async fn walk(files: &Wfs, folder: &str, recursive: bool) -> Result<Vec<v1::FileEntry>, WfsError> {
    let mut all: Vec<v1::FileEntry> = Vec::new();
    loop {
        let after = all.last().map(|entry| entry.path.clone());
        let page = files.list(folder, recursive, after, PAGE).await?;
        let last = page.len() < PAGE as usize;
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

async fn print_range(files: &Wfs, path: &str, range: impl FnOnce(u64) -> std::ops::Range<u64>) -> Outcome {
    let located = files.locate(path, 0..u64::MAX).await?;
    let size = located.entry.as_ref().and_then(v1::FileEntry::file_bytes).unwrap_or(0);
    let mut bytes = wfs::read(files, located, range(size));
    while let Some(part) = bytes.try_next().await? {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(&part).and_then(|()| out.flush());
        written.map_err(|source| crate::error::ClientError::Io { doing: "write to standard output".into(), source })?;
    }
    Ok(())
}

async fn mv(files: &Wfs, paths: &[String], overwrite: bool) -> Outcome {
    let (sources, to) = split_last(paths)?;
    let sources = expand_all(files, sources).await?;
    let to = parse(to)?;
    let into = is_folder(files, &to).await?;
    if sources.len() > 1 && !into {
        return Err(Failure::Usage(format!("{to} is not a folder that several files could be moved into")));
    }
    for source in sources {
        let from = source.entry.path;
        let to = if into { join(to.as_str(), name_of(&from)) } else { to.as_str().to_owned() };
        files.act(Ask::Rename(v1::RenameRequest { from, to, overwrite, parents: false, prune: false })).await?;
    }
    Ok(())
}

async fn rm(files: &Wfs, paths: &[String], recursive: bool, force: bool, skip_trash: bool) -> Outcome {
    for pattern in paths {
        let found = match expand(files, pattern).await {
            Err(Failure::Failed(_)) if force => continue,
            found => found?,
        };
        for found in found {
            let path = found.entry.path;
            // Entries that are in the trash already are removed for good.
            let trash = !skip_trash && !FsPath::parse(&path).is_ok_and(|path| path.as_str().starts_with(TRASH));
            match files
                .entry_or_nothing(Ask::Delete(v1::DeleteRequest { path: path.clone(), recursive, trash, prune: false }))
                .await
            {
                Ok(Some(moved)) => super::print(&format!("moved {path} to {}\n", moved.path))?,
                Ok(None) => super::print(&format!("removed {path}\n"))?,
                Err(error) if force && error.kind() == Some(Kind::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

async fn checksum(files: &Wfs, paths: &[String]) -> Outcome {
    for found in expand_all(files, paths).await? {
        let entry = found.file()?;
        let located = files.locate(&entry.path, 0..u64::MAX).await?;
        let size = located.entry.as_ref().and_then(v1::FileEntry::file_bytes).unwrap_or(0);
        let read = wfs::read(files, located, 0..size);
        let sum = read.try_fold(0, |sum, part| async move { Ok(crc32c_append(sum, &part)) }).await?;
        super::print(&format!("CRC32C  {sum:08x}  {}\n", entry.path))?;
    }
    Ok(())
}

async fn setrep(files: &Wfs, replicas: u32, paths: &[String], wait: bool) -> Outcome {
    for found in expand_all(files, paths).await? {
        let path = found.entry.path.clone();
        let mut inside = Vec::new();
        if found.entry.folder().is_some() {
            inside = walk(files, &path, true).await?.into_iter().filter(|entry| entry.file_bytes().is_some()).collect();
        }
        let all = inside.into_iter().map(|entry| entry.path).chain([path.clone()]);
        for path in all {
            let request = v1::SetReplicationRequest { path, replication: replicas };
            files.entry(Ask::SetReplication(request)).await?;
        }
        while wait && !files.health(&path, 1).await?.troubled.is_empty() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        super::print(&format!("{path}: {}\n", super::counted(replicas.into(), "replica")))?;
    }
    Ok(())
}

async fn quota(files: &Wfs, path: &str, count: Option<String>, bytes: Option<String>) -> Outcome {
    let path = parse(path)?.as_str().to_owned();
    let entry = files.stat(&path).await?;
    let Some(folder) = entry.folder().cloned() else {
        return Err(Failure::Failed(format!("{path} is a file; quotas are for folders")));
    };
    let (mut of_files, mut of_bytes) = (folder.quota_files, folder.quota_bytes);
    if let Some(count) = &count {
        let wrong = |_| Failure::Usage(format!("--files: \"{count}\" is neither a number nor none"));
        of_files = if count == "none" { None } else { Some(count.parse().map_err(wrong)?) };
    }
    if let Some(bytes) = &bytes {
        of_bytes = match bytes.as_str() {
            "none" => None,
            size => Some(size.parse::<ByteSize>().map_err(|e| Failure::Usage(format!("--bytes: {e}")))?.bytes()),
        };
    }
    if count.is_some() || bytes.is_some() {
        files.act(Ask::SetQuota(v1::SetQuotaRequest { path: path.clone(), files: of_files, bytes: of_bytes })).await?;
    }
    let limit = |limit: Option<u64>| limit.map_or("none".to_owned(), |limit| limit.to_string());
    super::print(&format!(
        "{path}: files and folders {} of {}, bytes with replicas {} of {}\n",
        folder.files + folder.folders,
        limit(of_files),
        folder.replicated_bytes,
        limit(of_bytes)
    ))
}

async fn set_policy(files: &Wfs, path: &str, policy: Option<&str>, wait: bool) -> Outcome {
    let path = parse(path)?;
    if let Some(policy) = policy {
        let policy = (policy != "inherit").then(|| policy.to_owned());
        files.act(Ask::SetPolicy(v1::SetPolicyRequest { path: path.as_str().to_owned(), policy })).await?;
    }
    // A file shows how it is kept; a folder may inherit its policy.
    let (mut at, mut found) = (Some(path.clone()), None);
    while let (Some(path), None) = (&at, &found) {
        found = match files.stat(path.as_str()).await?.detail {
            Some(v1::file_entry::Detail::Folder(folder)) => folder.policy.map(|policy| (policy, path.clone())),
            _ => None,
        };
        at = path.parent();
    }
    let (wanted, of) = found.unwrap_or_else(|| ("replicate".to_owned(), FsPath::root()));
    let mut health = files.health(path.as_str(), 0).await?;
    let needed = Coding::parse(&wanted).map_or(1, |coding| usize::from(coding.pieces()));
    let staying = health.members.iter().filter(|member| !member.draining).count();
    if staying < needed {
        let reason = format!(
            "{path}: {wanted} takes {needed} executors, and {staying} are there; until then files stay as they are"
        );
        match wait {
            true => return Err(Failure::Failed(reason)),
            false => eprintln!("{reason}"),
        }
    }
    while wait && health.recoding + health.to_recode > 0 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        health = files.health(path.as_str(), 0).await?;
    }
    let entry = files.stat(path.as_str()).await?;
    let inside = match entry.folder() {
        Some(_) => walk(files, path.as_str(), true).await?,
        None => vec![entry],
    };
    let is_kept = |file: &v1::FileDetail| if file.coding.is_empty() { "replicate" } else { &file.coding } == wanted;
    let details = inside.iter().filter_map(|entry| match &entry.detail {
        Some(v1::file_entry::Detail::File(file)) => Some(file),
        _ => None,
    });
    let (kept, others): (Vec<_>, Vec<_>) = details.partition(|file| is_kept(file));
    let whose = if of == path { String::new() } else { format!(" as {of} has it") };
    super::print(&format!("{path}: {wanted}{whose}; files kept so: {}, others: {}\n", kept.len(), others.len()))
}

async fn balance(files: &Wfs, threshold: f64, stop: bool, wait: bool) -> Outcome {
    let per_mille = if stop { 0 } else { (threshold * 10.0).round() as u32 };
    if !stop && !(1..=1_000).contains(&per_mille) {
        return Err(Failure::Usage(format!("--threshold: {threshold} is not between 0.1 and 100 per cent")));
    }
    files.act(Ask::Balance(v1::BalanceRequest { per_mille })).await?;
    while wait && files.health("/", 0).await?.balancing {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    super::print(if stop {
        "stopped\n"
    } else if wait {
        "balanced\n"
    } else {
        "balancing; see 'windlass fs report'\n"
    })
}

async fn trash(files: &Wfs, empty: bool) -> Outcome {
    let entries = match walk(files, TRASH, !empty).await {
        Err(error) if error.kind() == Some(Kind::NotFound) => Vec::new(),
        entries => entries?,
    };
    for entry in entries {
        if empty {
            let path = entry.path;
            files.act(Ask::Delete(v1::DeleteRequest { path, recursive: true, trash: false, prune: false })).await?;
        } else if entry.file_bytes().is_some() {
            super::print(&format!("{}\n", entry.path))?;
        }
    }
    Ok(())
}

fn split_last(paths: &[String]) -> Result<(&[String], &String), Failure> {
    match paths.split_last() {
        Some((last, rest)) if !rest.is_empty() => Ok((rest, last)),
        _ => Err(Failure::Usage("name what is to be copied or moved, and where to".to_owned())),
    }
}

async fn is_folder(files: &Wfs, path: &FsPath) -> Result<bool, Failure> {
    match files.stat(path.as_str()).await {
        Ok(entry) => Ok(entry.folder().is_some()),
        Err(error) if error.kind() == Some(Kind::NotFound) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn join(folder: &str, name: &str) -> String {
    format!("{}/{name}", folder.trim_end_matches('/'))
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

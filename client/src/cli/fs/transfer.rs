//! Copies between local files and the cluster's, and inside the cluster, several at a time.

use super::paths::parse;
use super::{Failure, Outcome, Wfs, expand_all, is_folder, join, name_of, split_last, walk};
use crate::cli::arguments::{Transfer, WriteTerms};
use crate::cli::counted;
use crate::cli::local_file::{self, Target};
use crate::config::units::ByteSize;
use bytes::BytesMut;
use futures::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use windlass_connectors::wfs::{self, FileWriter, WriteOptions};
use windlass_proto::v1;
use windlass_proto::v1::file_error::Kind;

/// Bytes read from a local file at a time.
const READ_BYTES: usize = 1 << 20;

/// One file to copy.
struct Item {
    from: String,
    to: String,
    /// Length when it was listed: a file of the cluster may be replaced before it is read.
    bytes: u64,
}

pub async fn put(files: &Wfs, paths: &[String], transfer: &Transfer, terms: &WriteTerms) -> Outcome {
    let (sources, to) = split_last(paths)?;
    let to = parse(to)?;
    let into = is_folder(files, &to).await?;
    if sources == ["-"] {
        let mut input = tokio::io::stdin();
        let to = to.as_str();
        return write(files, &mut input, to, transfer.force, terms, &ProgressBar::hidden()).await.map(drop);
    }
    if sources.len() > 1 && !into {
        return Err(Failure::Usage(format!("{to} is not a folder that several files could be copied into")));
    }
    let mut items = Vec::new();
    for source in sources {
        let local = PathBuf::from(source);
        let name = local.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        let name = name.ok_or_else(|| Failure::Failed(format!("{source}: there is no such file or folder here")))?;
        let to = if into { join(to.as_str(), &name) } else { to.as_str().to_owned() };
        local_files(&local, &to, &mut items)?;
    }
    run(items, transfer, |item, bar| async move {
        let there = match transfer.resume {
            true => files.stat(&item.to).await.ok().and_then(|entry| entry.file_bytes()),
            false => None,
        };
        if there == Some(item.bytes) {
            bar.inc(item.bytes);
            return Ok(());
        }
        let mut local = tokio::fs::File::open(&item.from).await.map_err(|e| local_failed(&item.from, &e))?;
        write(files, &mut local, &item.to, transfer.force || transfer.resume, terms, &bar).await.map(drop)
    })
    .await
}

/// Copies a file that is not there yet, and says nothing.
pub async fn put_one(files: &Wfs, local: &Path, to: &str, terms: &WriteTerms) -> Outcome {
    let failed = |error: &std::io::Error| local_failed(&local.display().to_string(), error);
    let mut local = tokio::fs::File::open(local).await.map_err(|error| failed(&error))?;
    write(files, &mut local, to, false, terms, &ProgressBar::hidden()).await.map(drop)
}

/// Lists files below `local`, with their targets.
fn local_files(local: &Path, to: &str, items: &mut Vec<Item>) -> Outcome {
    let failed = |e: &std::io::Error| local_failed(&local.display().to_string(), e);
    let meta = std::fs::metadata(local).map_err(|e| failed(&e))?;
    if !meta.is_dir() {
        items.push(Item { from: local.display().to_string(), to: to.to_owned(), bytes: meta.len() });
        return Ok(());
    }
    let mut entries: Vec<_> = std::fs::read_dir(local).and_then(Iterator::collect).map_err(|e| failed(&e))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            return Err(Failure::Failed(format!("{}: its name is not Unicode", entry.path().display())));
        };
        local_files(&entry.path(), &join(to, name), items)?;
    }
    Ok(())
}

async fn write(
    files: &Wfs,
    from: &mut (impl AsyncRead + Unpin),
    to: &str,
    force: bool,
    terms: &WriteTerms,
    bar: &ProgressBar,
) -> Result<v1::FileEntry, Failure> {
    let options = options(force, terms);
    let mut writer = FileWriter::create(files, to, options).await.map_err(|error| may_be_forced(error, to))?;
    loop {
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        while buffer.len() < READ_BYTES {
            let read = from.read_buf(&mut buffer).await.map_err(|e| local_failed("the local file", &e))?;
            bar.inc(read as u64);
            if read == 0 {
                break;
            }
        }
        let last = buffer.len() < READ_BYTES;
        writer.write(buffer.freeze()).await?;
        if last {
            break;
        }
    }
    writer.finish().await.map_err(|error| may_be_forced(error, to))
}

fn options(force: bool, terms: &WriteTerms) -> WriteOptions {
    let (replication, block_bytes) = (terms.replication, terms.block_size.map(|size| size.bytes()));
    let mode = if force { WriteOptions::default().mode } else { WriteOptions::new_file().mode };
    WriteOptions { mode, replication, block_bytes }
}

fn may_be_forced(error: wfs::WfsError, to: &str) -> Failure {
    match error.kind() {
        Some(Kind::AlreadyExists) => Failure::Failed(format!("{to} exists already; -f writes it again")),
        _ => error.into(),
    }
}

pub async fn get(files: &Wfs, paths: &[String], transfer: &Transfer) -> Outcome {
    let (sources, to) = split_last(paths)?;
    let to = PathBuf::from(to);
    let sources = expand_all(files, sources).await?;
    let into = to.is_dir();
    if sources.len() > 1 && !into {
        return Err(Failure::Usage(format!(
            "{} is not a folder that several files could be copied into",
            to.display()
        )));
    }
    // Folders are created only below a copied folder, and not because a name was misspelt.
    if let Some(folder) = to.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        return Err(Failure::Failed(format!("there is no folder {}", folder.display())));
    }
    let mut items = Vec::new();
    for source in sources {
        let from = source.entry.path.clone();
        let to = if into { to.join(name_of(&from)) } else { to.clone() };
        cluster_files(files, &source.entry, &to.display().to_string(), &mut items).await?;
    }
    run(items, transfer, |item, bar| async move { fetch(files, &item, transfer, &bar).await }).await
}

/// Lists files below an entry, with their targets.
async fn cluster_files(files: &Wfs, entry: &v1::FileEntry, to: &str, items: &mut Vec<Item>) -> Outcome {
    if let Some(bytes) = entry.file_bytes() {
        items.push(Item { from: entry.path.clone(), to: to.to_owned(), bytes });
        return Ok(());
    }
    let prefix = entry.path.trim_end_matches('/').len() + 1;
    for inside in walk(files, &entry.path, true).await? {
        if let Some(bytes) = inside.file_bytes() {
            items.push(Item { to: join(to, &inside.path[prefix..]), from: inside.path, bytes });
        }
    }
    Ok(())
}

/// Writes the bytes beside the file, or beside the target of a link; the file appears when it is complete. Other kinds of targets, such as a FIFO, are written
/// directly.
async fn fetch(files: &Wfs, item: &Item, transfer: &Transfer, bar: &ProgressBar) -> Outcome {
    let to = PathBuf::from(&item.to);
    let failed = |e: &std::io::Error| local_failed(&item.to, e);
    let to = match local_file::target(&to).map_err(|e| failed(&e))? {
        Target::File(to) => to,
        Target::Straight => return fetch_into(files, item, &to, bar).await,
    };
    let there = tokio::fs::metadata(&to).await.ok();
    if let Some(there) = &there {
        if transfer.resume && there.len() == item.bytes {
            bar.inc(item.bytes);
            return Ok(());
        }
        if !transfer.force && !transfer.resume {
            return Err(Failure::Failed(format!("{} exists already; -f writes it again", item.to)));
        }
    }
    if let Some(folder) = to.parent() {
        tokio::fs::create_dir_all(folder).await.map_err(|e| failed(&e))?;
    }
    let (located, bytes) = locate(files, &item.from).await?;
    let id = located.entry.as_ref().map_or(0, |entry| entry.id);
    // A part of another version of the file is of no use.
    let (part, local) = local_file::beside(&to, &id.to_string(), "part", transfer.resume).map_err(|e| failed(&e))?;
    let mut local = tokio::fs::File::from_std(local);
    let begun = local.seek(std::io::SeekFrom::End(0)).await.map_err(|e| failed(&e))?.min(bytes);
    bar.inc(begun);
    let mut read = wfs::read(files, located, begun..bytes);
    while let Some(piece) = read.try_next().await? {
        local.write_all(&piece).await.map_err(|e| failed(&e))?;
        bar.inc(piece.len() as u64);
    }
    local.sync_all().await.map_err(|e| failed(&e))?;
    tokio::fs::rename(&part, &to).await.map_err(|e| failed(&e))
}

async fn fetch_into(files: &Wfs, item: &Item, to: &Path, bar: &ProgressBar) -> Outcome {
    let failed = |e: &std::io::Error| local_failed(&item.to, e);
    // Opening a FIFO waits for a reader.
    let path = to.to_path_buf();
    let opened = tokio::task::spawn_blocking(move || local_file::straight(&path)).await;
    let opened = opened.map_err(|e| Failure::Failed(format!("{}: {e}", item.to)))?;
    let mut local = tokio::fs::File::from_std(opened.map_err(|e| failed(&e))?);
    let (located, bytes) = locate(files, &item.from).await?;
    let mut read = wfs::read(files, located, 0..bytes);
    while let Some(piece) = read.try_next().await? {
        local.write_all(&piece).await.map_err(|e| failed(&e))?;
        bar.inc(piece.len() as u64);
    }
    local.flush().await.map_err(|e| failed(&e))
}

/// Locates one whole version of a file, and returns its length.
async fn locate(files: &Wfs, path: &str) -> Result<(v1::LocateReply, u64), Failure> {
    let located = files.locate(path, 0..u64::MAX).await?;
    let bytes = located.entry.as_ref().and_then(v1::FileEntry::file_bytes).unwrap_or(0);
    Ok((located, bytes))
}

pub async fn cp(files: &Wfs, paths: &[String], transfer: &Transfer, terms: &WriteTerms) -> Outcome {
    let (sources, to) = split_last(paths)?;
    let sources = expand_all(files, sources).await?;
    let to = parse(to)?;
    let into = is_folder(files, &to).await?;
    if sources.len() > 1 && !into {
        return Err(Failure::Usage(format!("{to} is not a folder that several files could be copied into")));
    }
    let mut items = Vec::new();
    for source in sources {
        let to = if into { join(to.as_str(), name_of(&source.entry.path)) } else { to.as_str().to_owned() };
        cluster_files(files, &source.entry, &to, &mut items).await?;
    }
    run(items, transfer, |item, bar| async move {
        if transfer.resume && files.stat(&item.to).await.ok().and_then(|entry| entry.file_bytes()) == Some(item.bytes) {
            bar.inc(item.bytes);
            return Ok(());
        }
        let (located, bytes) = locate(files, &item.from).await?;
        let options = options(transfer.force || transfer.resume, terms);
        let created = FileWriter::create(files, &item.to, options).await;
        let mut writer = created.map_err(|error| may_be_forced(error, &item.to))?;
        let mut read = wfs::read(files, located, 0..bytes);
        while let Some(piece) = read.try_next().await? {
            bar.inc(piece.len() as u64);
            writer.write(piece).await?;
        }
        writer.finish().await.map(drop).map_err(|error| may_be_forced(error, &item.to))
    })
    .await
}

/// Copies all items, several at a time. The first failure ends the whole run.
async fn run<F: Future<Output = Outcome>>(
    items: Vec<Item>,
    transfer: &Transfer,
    copy: impl Fn(Item, ProgressBar) -> F,
) -> Outcome {
    let bytes = items.iter().map(|item| item.bytes).sum();
    let count = items.len();
    let bar = bar(bytes, !transfer.no_progress && std::io::stderr().is_terminal());
    let copies = stream::iter(items).map(|item| copy(item, bar.clone())).buffer_unordered(transfer.jobs.max(1));
    let outcome = copies.try_collect::<Vec<()>>().await;
    bar.finish_and_clear();
    outcome?;
    crate::cli::print(&format!("{}, {}\n", counted(count as u64, "file"), ByteSize::human(bytes)))
}

fn bar(bytes: u64, show: bool) -> ProgressBar {
    if !show {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn local_failed(path: &str, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("{path}: {error}"))
}

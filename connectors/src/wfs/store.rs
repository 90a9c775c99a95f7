//! `wfs://` as an object store, for DataFusion and other users of that trait.
//!
//! A file's e-tag is its id: a file that is written again gets a new id, so a condition on it is exact. Folders are not objects: they appear as prefixes while
//! they hold files.

use super::{FileWriter, Wfs, WfsError, WriteOptions, read};
use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    RenameOptions, RenameTargetMode, Result, UploadPart,
};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use windlass_engine::versions::{Versions, replaced};
use windlass_proto::v1;
use windlass_proto::v1::create_request::{Mode, New, Overwrite};
use windlass_proto::v1::file_error::Kind;
use windlass_proto::v1::file_request::Ask;

const NAME: &str = "wfs";
/// Entries in one page of a list.
const PAGE: u32 = 2_000;
/// Ranges that are closer than this are read together, in bytes.
const GAP: u64 = 256 << 10;
/// Maximum ranges of one request that are read at a time, and maximum removals at a time.
const AT_A_TIME: usize = 8;
/// Bytes ahead of the read position whose location a scan asks for at once. It does not ask again soon: replicas move, and their holders leave.
const LOCATED_BYTES: u64 = 16 << 30;
const LOCATED_FOR: Duration = Duration::from_secs(5);
/// Maximum files whose locations a scan keeps.
const LOCATED_FILES: usize = 16;

#[derive(Clone, Debug)]
pub struct WfsStore {
    wfs: Wfs,
    scan: Option<Arc<Scan>>,
}

/// Knowledge of one scan about the files that it reads.
#[derive(Debug)]
struct Scan {
    /// Locations of the files that it read last.
    located: Mutex<VecDeque<Located>>,
    /// Ids of the files that were listed.
    versions: Arc<Versions>,
}

/// Location of a part of a file.
#[derive(Clone, Debug)]
struct Located {
    path: String,
    range: Range<u64>,
    at: Instant,
    reply: Arc<v1::LocateReply>,
}

impl WfsStore {
    pub fn new(wfs: Wfs) -> Self {
        WfsStore { wfs, scan: None }
    }

    /// Creates a store for one scan, which does not ask the primary for each read. A read returns the version in `versions`, or the version at the scan's first
    /// read of the file: a file that is rewritten meanwhile is never mixed with its old content.
    pub fn of_scan(wfs: Wfs, versions: Arc<Versions>) -> Self {
        let located = Mutex::default();
        WfsStore { wfs, scan: Some(Arc::new(Scan { located, versions })) }
    }

    /// Locates a version of a file; the version `file`, if it is given.
    async fn locate(&self, location: &Path, file: Option<u64>, range: Range<u64>) -> Result<Arc<v1::LocateReply>> {
        let path = absolute(location);
        let asked = |range| self.wfs.locate_version(&path, file, range);
        let failed = |error: WfsError| match (file, error.kind()) {
            (Some(_), Some(Kind::Changed | Kind::NotFound | Kind::IsFolder | Kind::NotFolder)) => {
                replaced(location, Error::Precondition { path: path.clone(), source: error.into() })
            }
            _ => failed(location, error),
        };
        let Some(scan) = &self.scan else { return asked(range).await.map(Arc::new).map_err(failed) };
        let located = &scan.located;
        let known = located.lock().iter().find(|known| known.path == path).cloned();
        if let Some(known) = &known
            && known.at.elapsed() < LOCATED_FOR
            && known.range.start <= range.start
            && range.end <= known.range.end
        {
            return Ok(Arc::clone(&known.reply));
        }
        let path = path.as_str();
        let range = range.start..range.end.max(range.start.saturating_add(LOCATED_BYTES));
        let reply = Arc::new(asked(range.clone()).await.map_err(failed)?);
        let id = |reply: &v1::LocateReply| reply.entry.as_ref().map(|entry| entry.id);
        if known.is_some_and(|known| id(&known.reply) != id(&reply)) {
            let reason = "it was written again while it was read".into();
            let unreadable = WfsError::Unreadable { path: path.into(), offset: range.start, reason };
            return Err(self::failed(location, unreadable));
        }
        let mut located = located.lock();
        located.retain(|known| known.path != path);
        located.truncate(LOCATED_FILES - 1);
        located.push_front(Located { path: path.into(), range, at: Instant::now(), reply: Arc::clone(&reply) });
        Ok(reply)
    }

    /// The id of the version that a scan expects.
    fn expected(&self, location: &Path) -> Option<u64> {
        self.scan.as_ref()?.versions.of(location).as_deref().and_then(file_of)
    }

    async fn write(&self, location: &Path, payload: PutPayload, mode: Mode) -> Result<v1::FileEntry> {
        let path = absolute(location);
        let written = async {
            let options = WriteOptions { mode, ..WriteOptions::default() };
            let mut writer = FileWriter::create(&self.wfs, &path, options).await?;
            for part in payload {
                writer.write(part).await?;
            }
            writer.finish().await
        };
        written.await.map_err(|error| failed(location, error))
    }
}

impl fmt::Display for WfsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wfs://")
    }
}

#[async_trait]
impl ObjectStore for WfsStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        refuse_attributes(&options.attributes)?;
        let mode = match options.mode {
            PutMode::Overwrite => Mode::Overwrite(Overwrite {}),
            PutMode::Create => Mode::New(New {}),
            PutMode::Update(version) => {
                let tag = version.e_tag.as_deref().and_then(file_of);
                // An id that no file has.
                Mode::Replace(tag.unwrap_or(0))
            }
        };
        let entry = self.write(location, payload, mode).await?;
        Ok(PutResult { e_tag: Some(entry.id.to_string()), version: None })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        refuse_attributes(&options.attributes)?;
        let writer = FileWriter::create(&self.wfs, &absolute(location), WriteOptions::default()).await;
        let writer = writer.map_err(|error| failed(location, error))?;
        Ok(Box::new(Upload::new(location.clone(), writer, &self.wfs)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        // A version is a file's id, like its e-tag.
        let unknown = |version: &String| Error::NotFound {
            path: absolute(location),
            source: format!("\"{version}\" is no version of a file of wfs://").into(),
        };
        let file = match &options.version {
            Some(version) => Some(file_of(version).ok_or_else(|| unknown(version))?),
            None => self.expected(location),
        };
        let wanted = match &options.range {
            _ if options.head => 0..0,
            Some(GetRange::Bounded(range)) => range.clone(),
            Some(GetRange::Offset(from)) => *from..u64::MAX,
            Some(GetRange::Suffix(_)) | None => 0..u64::MAX,
        };
        let located = self.locate(location, file, wanted).await?;
        let meta = meta(located.entry.as_ref()).ok_or_else(|| missing(location))?;
        let meta = ObjectMeta { location: location.clone(), ..meta };
        options.check_preconditions(&meta)?;
        let range = match options.range {
            Some(range) => {
                range.as_range(meta.size).map_err(|error| Error::Generic { store: NAME, source: error.into() })?
            }
            None => 0..meta.size,
        };
        let payload = match options.head {
            true => stream::empty().boxed(),
            false => {
                let at = location.clone();
                read(&self.wfs, part_of(&located, &range), range.clone())
                    .map_err(move |error| failed(&at, error))
                    .boxed()
            }
        };
        Ok(GetResult { payload: GetResultPayload::Stream(payload), meta, range, attributes: Attributes::default() })
    }

    /// Asks the primary once for all ranges.
    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let Some(start) = ranges.iter().map(|range| range.start).min() else { return Ok(Vec::new()) };
        let end = ranges.iter().map(|range| range.end).max().unwrap_or(start);
        let located = self.locate(location, self.expected(location), start..end).await?;
        let size = meta(located.entry.as_ref()).ok_or_else(|| missing(location))?.size;
        for range in ranges {
            // This reports an error in the range.
            let checked = GetRange::Bounded(range.clone()).as_range(size);
            let checked = checked.map_err(|error| Error::Generic { store: NAME, source: error.into() })?;
            if checked != *range {
                let reason = format!("{location} ends at byte {size}, and {range:?} was asked for");
                return Err(Error::Generic { store: NAME, source: reason.into() });
            }
        }
        let joined = join(ranges);
        let parts = stream::iter(joined.iter().cloned().map(|range| {
            let part = part_of(&located, &range);
            read(&self.wfs, part, range).try_collect::<Vec<Bytes>>()
        }));
        let parts: Vec<Vec<Bytes>> =
            parts.buffered(AT_A_TIME).try_collect().await.map_err(|error| failed(location, error))?;
        let wanted = |range: &Range<u64>| {
            let at = joined.partition_point(|part| part.start <= range.start) - 1;
            cut(&parts[at], range.start - joined[at].start..range.end - joined[at].start)
        };
        Ok(ranges.iter().map(wanted).collect())
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let wfs = self.wfs.clone();
        let deleted = locations.map(move |location| {
            let wfs = wfs.clone();
            async move {
                let location = location?;
                let entry = wfs.stat(&absolute(&location)).await.map_err(|error| failed(&location, error))?;
                meta(Some(&entry)).ok_or_else(|| missing(&location))?;
                let request =
                    v1::DeleteRequest { path: absolute(&location), recursive: false, trash: false, prune: true };
                wfs.act(Ask::Delete(request)).await.map_err(|error| failed(&location, error))?;
                Ok(location)
            }
        });
        deleted.buffered(AT_A_TIME).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_after(prefix, None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        // Object paths are ordered by their text, unlike folders: there "a-b" comes before "a/b", here behind it.
        let offset = offset.clone();
        self.list_after(prefix, None).try_filter(move |meta| futures::future::ready(meta.location > offset)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let folder = prefix.cloned().unwrap_or_default();
        let mut result = ListResult { common_prefixes: Vec::new(), objects: Vec::new() };
        let mut after = None;
        loop {
            let page = self.page(&folder, false, after).await?;
            let Some(last) = page.last() else { return Ok(result) };
            after = Some(last.path.clone());
            for entry in &page {
                match (meta(Some(entry)), entry.folder()) {
                    (Some(meta), _) => result.objects.push(meta),
                    (None, Some(folder)) if folder.files > 0 => result.common_prefixes.push(location(&entry.path)),
                    _ => {}
                }
            }
            if page.len() < PAGE as usize {
                return Ok(result);
            }
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let mode = match options.mode {
            CopyMode::Overwrite => Mode::Overwrite(Overwrite {}),
            CopyMode::Create => Mode::New(New {}),
        };
        let copied = async {
            let located = self.wfs.locate(&absolute(from), 0..u64::MAX).await?;
            let size = located.entry.as_ref().and_then(v1::FileEntry::file_bytes).unwrap_or(0);
            let options = WriteOptions { mode, ..WriteOptions::default() };
            let mut writer = FileWriter::create(&self.wfs, &absolute(to), options).await?;
            let mut bytes = read(&self.wfs, located, 0..size);
            while let Some(part) = bytes.try_next().await? {
                writer.write(part).await?;
            }
            writer.finish().await.map(drop)
        };
        copied.await.map_err(|error: WfsError| match error.kind() {
            Some(Kind::AlreadyExists) => failed(to, error),
            _ => failed(from, error),
        })
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let overwrite = matches!(options.target_mode, RenameTargetMode::Overwrite);
        let request =
            v1::RenameRequest { from: absolute(from), to: absolute(to), overwrite, parents: true, prune: true };
        self.wfs.act(Ask::Rename(request)).await.map_err(|error| match error.kind() {
            Some(Kind::AlreadyExists) => failed(to, error),
            _ => failed(from, error),
        })
    }
}

impl WfsStore {
    async fn page(&self, folder: &Path, recursive: bool, after: Option<String>) -> Result<Vec<v1::FileEntry>> {
        match self.wfs.list(&absolute(folder), recursive, after, PAGE).await {
            Ok(page) => Ok(page),
            // A prefix is a folder, and a missing folder holds nothing.
            Err(error) if matches!(error.kind(), Some(Kind::NotFound | Kind::NotFolder)) => Ok(Vec::new()),
            Err(error) => Err(failed(folder, error)),
        }
    }

    /// Files at any depth.
    fn list_after(&self, prefix: Option<&Path>, after: Option<String>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, folder) = (self.clone(), prefix.cloned().unwrap_or_default());
        let pages = stream::try_unfold(Some(after), move |next| {
            let (this, folder) = (this.clone(), folder.clone());
            async move {
                let Some(after) = next else { return Ok::<_, Error>(None) };
                let page = this.page(&folder, true, after).await?;
                let next = page.last().filter(|_| page.len() == PAGE as usize).map(|last| Some(last.path.clone()));
                let files: Vec<_> = page.iter().filter_map(|entry| meta(Some(entry))).map(Ok).collect();
                Ok(Some((stream::iter(files), next)))
            }
        });
        pages.try_flatten().boxed()
    }
}

/// An upload in parts: they go into the file in the order of arrival, whole blocks at a time.
struct Upload {
    location: Path,
    /// Queue of parts. Unbounded, because the uploader limits its parts in flight.
    parts: Option<mpsc::UnboundedSender<(PutPayload, oneshot::Sender<Result<()>>)>>,
    done: Option<oneshot::Receiver<std::result::Result<FileWriter, WfsError>>>,
}

impl Upload {
    fn new(location: Path, mut writer: FileWriter, wfs: &Wfs) -> Self {
        let (parts, mut incoming) = mpsc::unbounded_channel::<(PutPayload, oneshot::Sender<Result<()>>)>();
        let (finished, done) = oneshot::channel();
        let at = location.clone();
        // The task ends when the upload is completed, aborted or dropped, because `parts` is dropped then.
        wfs.io().spawn(async move {
            while let Some((payload, written)) = incoming.recv().await {
                let outcome = async {
                    for part in payload {
                        writer.write(part).await?;
                    }
                    Ok::<_, WfsError>(())
                };
                match outcome.await {
                    Ok(()) => _ = written.send(Ok(())),
                    Err(error) => {
                        let _ = written.send(Err(failed(&at, error.clone())));
                        let _ = finished.send(Err(error));
                        return;
                    }
                }
            }
            // Nobody receives it when the upload was dropped: then nothing is left of the file.
            let _ = finished.send(Ok(writer));
        });
        Upload { location, parts: Some(parts), done: Some(done) }
    }

    /// The writer, after all parts are written.
    async fn writer(&mut self) -> Result<FileWriter> {
        self.parts = None;
        let over = || Error::Generic { store: NAME, source: "the upload is over".into() };
        let done = self.done.take().ok_or_else(over)?;
        done.await.map_err(|_| over())?.map_err(|error| failed(&self.location, error))
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("location", &self.location).finish_non_exhaustive()
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let over = || Error::Generic { store: NAME, source: "the upload has failed or is over".into() };
        let (written, outcome) = oneshot::channel();
        // Queued at the call and not at the await, so that the order of calls is that of the parts.
        let queued = self.parts.as_ref().map(|parts| parts.send((data, written)).is_ok()).unwrap_or(false);
        async move {
            match queued {
                true => outcome.await.map_err(|_| over())?,
                false => Err(over()),
            }
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let entry = self.writer().await?.finish().await.map_err(|error| failed(&self.location, error))?;
        Ok(PutResult { e_tag: Some(entry.id.to_string()), version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        match self.writer().await {
            Ok(writer) => writer.abort().await.map_err(|error| failed(&self.location, error)),
            // The upload failed, and left nothing.
            Err(_) => Ok(()),
        }
    }
}

/// Merges ranges that lie near each other; the result is sorted.
fn join(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable_by_key(|range| (range.start, range.end));
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match joined.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(GAP) => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// The part of a location that is needed to read exactly this range.
fn part_of(located: &v1::LocateReply, range: &Range<u64>) -> v1::LocateReply {
    let wanted = |part: &&v1::LocatedBlock| part.offset < range.end && part.offset + part.bytes > range.start;
    v1::LocateReply { entry: located.entry.clone(), blocks: located.blocks.iter().filter(wanted).cloned().collect() }
}

/// A range of the concatenated `parts`. Copied only where it crosses from one part into another.
fn cut(parts: &[Bytes], range: Range<u64>) -> Bytes {
    let (mut start, end) = (range.start as usize, range.end as usize);
    let mut at = 0;
    let mut joined = Vec::new();
    for part in parts {
        let (from, to) = (start.saturating_sub(at), end.saturating_sub(at).min(part.len()));
        at += part.len();
        if from >= to {
            continue;
        }
        if joined.is_empty() && to - from == end - start {
            return part.slice(from..to);
        }
        joined.reserve_exact(end - start);
        joined.extend_from_slice(&part[from..to]);
        start = at;
    }
    joined.into()
}

/// The id of a file in an e-tag.
fn file_of(e_tag: &str) -> Option<u64> {
    e_tag.trim_matches('"').parse().ok()
}

fn absolute(location: &Path) -> String {
    format!("/{location}")
}

fn location(path: &str) -> Path {
    // Names that no object path can have are encoded.
    Path::parse(path).unwrap_or_else(|_| Path::from(path))
}

fn meta(entry: Option<&v1::FileEntry>) -> Option<ObjectMeta> {
    let entry = entry?;
    Some(ObjectMeta {
        location: location(&entry.path),
        last_modified: DateTime::<Utc>::from_timestamp_millis(entry.modified_ms as i64).unwrap_or_default(),
        size: entry.file_bytes()?,
        e_tag: Some(entry.id.to_string()),
        version: None,
    })
}

fn missing(location: &Path) -> Error {
    Error::NotFound { path: absolute(location), source: "it is a folder".into() }
}

fn failed(location: &Path, error: WfsError) -> Error {
    let path = absolute(location);
    match error.kind() {
        Some(Kind::NotFound | Kind::IsFolder | Kind::NotFolder) => Error::NotFound { path, source: error.into() },
        Some(Kind::AlreadyExists) => Error::AlreadyExists { path, source: error.into() },
        Some(Kind::Changed) => Error::Precondition { path, source: error.into() },
        _ => Error::Generic { store: NAME, source: error.into() },
    }
}

fn refuse_attributes(attributes: &Attributes) -> Result<()> {
    match attributes.is_empty() {
        true => Ok(()),
        false => Err(Error::NotImplemented { operation: "attributes of files".into(), implementer: "wfs://".into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_are_near_are_read_together() {
        let joined = join(&[10 << 20..11 << 20, 0..5, 7..9, 8..20]);
        assert_eq!(joined, [0..20, 10 << 20..11 << 20]);
    }

    #[test]
    fn a_range_is_cut_out_of_one_part_or_of_several() {
        let parts = [Bytes::from_static(b"abc"), Bytes::from_static(b"d"), Bytes::from_static(b"efgh")];
        let whole = b"abcdefgh";
        for start in 0..=whole.len() {
            for end in start..=whole.len() {
                assert_eq!(cut(&parts, start as u64..end as u64), whole[start..end], "{start}..{end}");
            }
        }
        assert_eq!(cut(&parts, 4..7).as_ptr(), parts[2].as_ptr(), "nothing is copied");
    }
}

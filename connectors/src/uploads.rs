//! Writes to S3 whose files appear under their final names when they are published, and not before.
//!
//! Attempts write into a staging folder, and publishing renames its files. S3 has no rename: it would copy every byte. So a file that is written to a staging
//! folder becomes a multipart upload to the path that it will be renamed to, and the upload is not completed. In the staging folder lies a *note* of it: a small
//! object that has the upload's id and its parts.
//!
//! ```text
//!   open ──> note of the path ──(upload is created, its parts come)──> note of the upload and its parts ──rename──> upload is completed, the note goes
//!                   │                                                             │
//!                   └───────────────────────────────────delete────────────────────┴───────> uploads are aborted, the note goes
//! ```
//!
//! The first note is written before the upload is created, so whoever removes a staging folder finds every upload: by its id, or among the unfinished ones of the
//! path. Each step may be repeated.

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::aws::AmazonS3;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result, UploadPart,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use windlass_engine::OwnFolder;

/// The content type of notes.
const NOTE: &str = "application/vnd.windlass.upload+json";
/// Notes read at a time when a folder is removed.
const AT_A_TIME: usize = 16;

/// A store with multipart uploads.
#[derive(Clone)]
pub(crate) struct UploadStore {
    inner: Arc<dyn ObjectStore>,
    uploads: Arc<dyn Uploads>,
}

/// The uploads of a store.
#[async_trait]
pub(crate) trait Uploads: MultipartStore {
    /// Whether [`Uploads::unfinished`] finds them.
    fn are_listed(&self) -> bool;

    /// The uploads to a path that are neither completed nor aborted.
    async fn unfinished(&self, path: &Path) -> Result<Vec<MultipartId>>;
}

/// An upload that is not completed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// The path that the upload will have.
    path: String,
    /// `None`: it is found among the unfinished ones.
    upload: Option<String>,
    /// Its parts and all their bytes. `None`: it is still being written.
    written: Option<Written>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    parts: Vec<String>,
    bytes: u64,
}

/// A store whose uploads cannot be listed: one that was created and not noted stays, without parts.
#[async_trait]
impl Uploads for AmazonS3 {
    fn are_listed(&self) -> bool {
        false
    }

    async fn unfinished(&self, _: &Path) -> Result<Vec<MultipartId>> {
        Ok(Vec::new())
    }
}

impl UploadStore {
    pub fn new(inner: Arc<dyn ObjectStore>, uploads: Arc<dyn Uploads>) -> Self {
        Self { inner, uploads }
    }

    async fn put_note(&self, at: &Path, note: &Note) -> Result<PutResult> {
        let text = serde_json::to_vec(note).map_err(|error| generic(error.to_string()))?;
        let attributes = Attributes::from_iter([(Attribute::ContentType, NOTE)]);
        self.inner.put_opts(at, text.into(), attributes.into()).await
    }

    /// Returns the note at a path. `None`: something else is there.
    async fn note(&self, at: &Path) -> Result<Option<(Note, ObjectMeta)>> {
        let found = self.inner.get(at).await?;
        if found.attributes.get(&Attribute::ContentType).is_none_or(|kind| kind.as_ref() != NOTE) {
            return Ok(None);
        }
        let meta = found.meta.clone();
        let note = serde_json::from_slice(&found.bytes().await?);
        Ok(Some((note.map_err(|error| generic(format!("{at} cannot be read: {error}")))?, meta)))
    }

    async fn begin(&self, staged: &Path, path: Path) -> Result<Upload> {
        let note = Note { path: path.to_string(), upload: None, written: None };
        if self.uploads.are_listed() {
            self.put_note(staged, &note).await?;
        }
        let upload = self.uploads.create_multipart(&path).await?;
        if !self.uploads.are_listed() {
            self.put_note(staged, &Note { upload: Some(upload.clone()), ..note }).await?;
        }
        let (store, staged) = (self.clone(), staged.clone());
        Ok(Upload { store, staged, path, upload, parts: Arc::default(), begun: 0, bytes: 0 })
    }

    /// Completes the upload of a note, and removes the note.
    async fn complete(&self, staged: &Path, note: Note, meta: ObjectMeta, to: &Path) -> Result<()> {
        let (Some(upload), Some(Written { parts, bytes })) = (note.upload, note.written) else {
            return Err(generic(format!("what was being written for {to} is not complete")));
        };
        let path = Path::parse(&note.path)?;
        let parts = parts.into_iter().map(|content_id| PartId { content_id }).collect();
        match self.uploads.complete_multipart(&path, &upload, parts).await {
            Ok(_) => {}
            // An earlier try may have completed it. An object from before the upload is another one.
            Err(missing @ Error::NotFound { .. }) => match self.inner.head(&path).await {
                Ok(there) if there.size == bytes && there.last_modified >= meta.last_modified => {}
                _ => return Err(missing),
            },
            Err(error) => return Err(error),
        }
        if path != *to {
            self.inner.copy(&path, to).await?;
            self.inner.delete(&path).await?;
        }
        self.inner.delete(staged).await
    }

    /// Aborts the upload of the note at a path, if one is there.
    async fn abort(&self, staged: &Path) -> Result<()> {
        let note = match self.note(staged).await {
            Ok(Some((note, _))) => note,
            Ok(None) | Err(Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let path = Path::parse(&note.path)?;
        let uploads = match note.upload {
            Some(upload) => vec![upload],
            None => self.uploads.unfinished(&path).await?,
        };
        for upload in uploads {
            match self.uploads.abort_multipart(&path, &upload).await {
                // It is completed or aborted already.
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn generic(message: String) -> Error {
    Error::Generic { store: "S3", source: message.into() }
}

impl fmt::Debug for UploadStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl fmt::Display for UploadStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner, f)
    }
}

#[async_trait]
impl ObjectStore for UploadStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let Some(path) = OwnFolder::renamed(location) else {
            return self.inner.put_opts(location, payload, options).await;
        };
        let mut upload = self.begin(location, path).await?;
        upload.put_part(payload).await?;
        upload.complete().await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        match OwnFolder::renamed(location) {
            Some(path) => Ok(Box::new(self.begin(location, path).await?)),
            None => self.inner.put_multipart_opts(location, options).await,
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let aborted = locations.map(move |location| {
            let this = this.clone();
            async move {
                let location = location?;
                if OwnFolder::renamed(&location).is_some() {
                    this.abort(&location).await?;
                }
                Ok(location)
            }
        });
        self.inner.delete_stream(aborted.buffered(AT_A_TIME).boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        if OwnFolder::renamed(from).is_some()
            && let Some((note, meta)) = self.note(from).await?
        {
            return self.complete(from, note, meta, to).await;
        }
        self.inner.rename_opts(from, to, options).await
    }
}

/// An upload in progress.
struct Upload {
    store: UploadStore,
    /// The path of its note.
    staged: Path,
    path: Path,
    upload: String,
    /// The parts that are there, by their numbers.
    parts: Arc<Mutex<Vec<(usize, PartId)>>>,
    /// Number of parts that were begun.
    begun: usize,
    bytes: u64,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({})", self.path)
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let number = self.begun;
        self.begun += 1;
        self.bytes += data.content_length() as u64;
        let (uploads, parts) = (Arc::clone(&self.store.uploads), Arc::clone(&self.parts));
        let (path, upload) = (self.path.clone(), self.upload.clone());
        let put = async move {
            let part = uploads.put_part(&path, &upload, number, data).await?;
            parts.lock().push((number, part));
            Ok(())
        };
        put.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        if self.begun == 0 {
            // An upload without parts cannot be completed.
            self.put_part(PutPayload::new()).await?;
        }
        let mut parts = std::mem::take(&mut *self.parts.lock());
        if parts.len() != self.begun {
            return Err(generic(format!("a part of {} is missing", self.path)));
        }
        parts.sort_by_key(|(number, _)| *number);
        let parts = parts.into_iter().map(|(_, part)| part.content_id).collect();
        let written = Some(Written { parts, bytes: self.bytes });
        let note = Note { path: self.path.to_string(), upload: Some(self.upload.clone()), written };
        self.store.put_note(&self.staged, &note).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.store.abort(&self.staged).await?;
        self.store.inner.delete(&self.staged).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    #[async_trait]
    impl Uploads for InMemory {
        fn are_listed(&self) -> bool {
            false
        }

        async fn unfinished(&self, _: &Path) -> Result<Vec<MultipartId>> {
            Ok(Vec::new())
        }
    }

    /// The memory store has both interfaces.
    fn store() -> (Arc<InMemory>, UploadStore) {
        let memory = Arc::new(InMemory::new());
        (Arc::clone(&memory), UploadStore::new(Arc::clone(&memory) as Arc<dyn ObjectStore>, memory))
    }

    fn staged(rest: &str) -> Path {
        Path::parse(format!("lake/.out.windlass-{}/0-1/{rest}", "0a".repeat(16))).unwrap()
    }

    async fn names(store: &InMemory) -> Vec<String> {
        let mut names: Vec<String> =
            store.list(None).map(|meta| meta.unwrap().location.to_string()).collect::<Vec<_>>().await;
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_file_appears_when_it_is_renamed() {
        let (memory, store) = store();
        let (from, to) = (staged("k=a%2Fb/x.csv"), Path::parse("lake/out/k=a%2Fb/x.csv").unwrap());
        let mut upload = store.put_multipart(&from).await.unwrap();
        upload.put_part("ab".into()).await.unwrap();
        upload.put_part("cd".into()).await.unwrap();
        let early = store.rename(&from, &to).await.unwrap_err().to_string();
        assert!(early.contains("is not complete"), "{early}");
        upload.complete().await.unwrap();
        assert_eq!(names(&memory).await, [from.to_string()], "only the note is there");
        store.rename(&from, &to).await.unwrap();
        assert_eq!(names(&memory).await, [to.to_string()]);
        assert_eq!(store.get(&to).await.unwrap().bytes().await.unwrap(), "abcd");
        assert!(matches!(store.rename(&from, &to).await, Err(Error::NotFound { .. })), "as of any other store");
    }

    #[tokio::test]
    async fn small_and_empty_files_are_uploads_too() {
        let (memory, store) = store();
        store.put(&staged("small"), "x".into()).await.unwrap();
        store.put_multipart(&staged("none")).await.unwrap().complete().await.unwrap();
        for name in ["small", "none"] {
            store.rename(&staged(name), &Path::from(format!("lake/out/{name}"))).await.unwrap();
        }
        assert_eq!(names(&memory).await, ["lake/out/none", "lake/out/small"]);
        assert_eq!(memory.head(&Path::from("lake/out/none")).await.unwrap().size, 0);
        // Another name than the staging folder stands for.
        store.put(&staged("other"), "y".into()).await.unwrap();
        store.rename(&staged("other"), &Path::from("elsewhere")).await.unwrap();
        assert_eq!(names(&memory).await, ["elsewhere", "lake/out/none", "lake/out/small"]);
    }

    #[tokio::test]
    async fn what_is_removed_before_it_is_renamed_never_appears() {
        let (memory, store) = store();
        let mut unfinished = store.put_multipart(&staged("a")).await.unwrap();
        unfinished.put_part("ab".into()).await.unwrap();
        store.put(&staged("b"), "b".into()).await.unwrap();
        store.put(&Path::from("lake/other"), "c".into()).await.unwrap();
        let (note, _) = store.note(&staged("b")).await.unwrap().unwrap();
        let all = Vec::from([staged("a"), staged("b"), Path::from("lake/other")].map(Ok));
        let gone = store.delete_stream(futures::stream::iter(all).boxed());
        assert_eq!(gone.filter(|gone| std::future::ready(gone.is_ok())).count().await, 3);
        assert!(names(&memory).await.is_empty());
        let late =
            store.uploads.complete_multipart(&Path::parse(&note.path).unwrap(), &note.upload.unwrap(), vec![]).await;
        assert!(late.is_err(), "the upload is gone");
        unfinished.put_part("cd".into()).await.unwrap_err();
    }
}

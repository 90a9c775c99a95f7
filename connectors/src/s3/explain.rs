//! An S3 store whose errors say that an object is archived, and which keeps objects in the storage classes that tables ask for.

use super::{Bucket, listing};
use crate::archive::{Archived, refusal};
use crate::uploads::Uploads;
use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::aws::AmazonS3;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Objects of a folder that an explanation looks at, about.
const LOOKED_AT: usize = 10_000;

#[derive(Debug)]
pub(crate) struct Explaining {
    store: AmazonS3,
    bucket: Arc<Bucket>,
    /// As URLs of the bucket begin.
    root: String,
    /// Whether keys are listed in their order, and from any of them on. S3 Express does neither.
    is_ordered: bool,
}

impl Explaining {
    pub fn new(store: AmazonS3, bucket: Arc<Bucket>, root: String) -> Self {
        let is_ordered = bucket.is_ordered();
        Self { store, bucket, root, is_ordered }
    }

    /// The error with which an object was not read. A refused one may be archived: the bucket is asked.
    async fn explained(&self, at: &Path, error: Error) -> Error {
        if !matches!(error, Error::PermissionDenied { .. }) {
            return error;
        }
        let folder = at.as_ref().rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_default();
        let mut objects = self.bucket.listed(&folder, LOOKED_AT).await.unwrap_or_default();
        objects.retain(|object| !object.state.is_readable());
        if !objects.iter().any(|object| object.key == at.as_ref()) {
            return error;
        }
        // The object itself first.
        objects.sort_by_key(|object| object.key != at.as_ref());
        let said = refusal(&objects, &format!("{}{folder}", self.root));
        Error::NotSupported { source: Box::new(Archived(said)) }
    }
}

impl fmt::Display for Explaining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl Uploads for Explaining {
    fn are_listed(&self) -> bool {
        true
    }

    async fn unfinished(&self, path: &Path) -> Result<Vec<MultipartId>> {
        let listed = self.bucket.unfinished_uploads(path.as_ref()).await;
        listed.map_err(|error| Error::Generic { store: "S3", source: error.into() })
    }
}

#[async_trait]
impl MultipartStore for Explaining {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        match &self.bucket.class {
            Some(class) => {
                let created = self.bucket.create_upload(path.as_ref(), class).await;
                created.map_err(|error| Error::Generic { store: "S3", source: error.into() })
            }
            None => self.store.create_multipart(path).await,
        }
    }

    async fn put_part(&self, path: &Path, id: &MultipartId, number: usize, data: PutPayload) -> Result<PartId> {
        self.store.put_part(path, id, number, data).await
    }

    async fn complete_multipart(&self, path: &Path, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        self.store.complete_multipart(path, id, parts).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        self.store.abort_multipart(path, id).await
    }
}

#[async_trait]
impl ObjectStore for Explaining {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.store.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        match self.store.get_opts(at, options).await {
            Err(error) => Err(self.explained(at, error).await),
            got => got,
        }
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        match self.store.get_ranges(at, ranges).await {
            Err(error) => Err(self.explained(at, error).await),
            got => got,
        }
    }

    fn delete_stream(&self, files: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(files)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.is_ordered {
            true => listing::list(Arc::new(self.store.clone()), prefix, None),
            false => self.store.list(prefix),
        }
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.is_ordered {
            true => listing::list(Arc::new(self.store.clone()), prefix, Some(offset)),
            false => self.store.list_with_offset(prefix, offset),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        if let Some(class) = &self.bucket.class
            && options.mode == CopyMode::Overwrite
        {
            let copied = self.bucket.copy(from.as_ref(), to.as_ref(), class).await;
            return match copied {
                Ok(()) => Ok(()),
                // Whether it was missing is what callers want to know.
                Err(error) => match self.store.head(from).await {
                    Err(missing @ Error::NotFound { .. }) => Err(missing),
                    _ => Err(Error::Generic { store: "S3", source: error.into() }),
                },
            };
        }
        match self.store.copy_opts(from, to, options).await {
            Err(error) => Err(self.explained(from, error).await),
            copied => copied,
        }
    }
}

//! Versions of files: all tasks of a statement read each file in the version that was listed, or fail.
//!
//! | store | how a version is requested | a file that was replaced |
//! | --- | --- | --- |
//! | `wfs://` | by the id of the file | is still read, as long as its replicas exist |
//! | `s3://`, `s3a://` | by the e-tag from the listing, with `If-Match` | is an error |
//! | local files, web servers | cannot be: the mark of a version differs between machines, or is missing | |

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// How a store is asked for a version of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// With the version in a request.
    ByVersion,
    /// With a condition on the e-tag.
    ByTag,
}

impl Told {
    /// `None`: it cannot be asked.
    pub fn of(store: &str) -> Option<Told> {
        match store.split(':').next() {
            Some("wfs") => Some(Told::ByVersion),
            Some("s3" | "s3a") => Some(Told::ByTag),
            _ => None,
        }
    }
}

/// The e-tags of listed files.
#[derive(Debug, Default)]
pub struct Versions(Mutex<HashMap<Path, String>>);

impl Versions {
    /// From here on only this version is read, if the listing had an e-tag and no version was expected before.
    pub fn expect(&self, listed: &ObjectMeta) {
        if let Some(e_tag) = &listed.e_tag {
            self.0.lock().entry(listed.location.clone()).or_insert_with(|| e_tag.clone());
        }
    }

    pub fn of(&self, location: &Path) -> Option<String> {
        self.0.lock().get(location).cloned()
    }
}

/// A store that reads the expected versions. Files that it lists become expected.
#[derive(Debug)]
pub struct Bound {
    inner: Arc<dyn ObjectStore>,
    told: Told,
    versions: Arc<Versions>,
}

impl Bound {
    pub fn new(inner: Arc<dyn ObjectStore>, told: Told, versions: Arc<Versions>) -> Self {
        Bound { inner, told, versions }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// Explains the store's refusal. The kind of error stays.
pub fn replaced(location: &Path, error: object_store::Error) -> object_store::Error {
    const MEANS: &str = "it was written again, or removed, after the statement had listed it; run the statement again";
    match error {
        object_store::Error::Precondition { .. } => {
            object_store::Error::Precondition { path: location.to_string(), source: MEANS.into() }
        }
        error => error,
    }
}

#[async_trait]
impl ObjectStore for Bound {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    // Reads of ranges come here too.
    async fn get_opts(&self, location: &Path, mut options: GetOptions) -> Result<GetResult> {
        let expected = self.versions.of(location);
        match self.told {
            Told::ByVersion => options.version = options.version.or_else(|| expected.clone()),
            Told::ByTag => options.if_match = options.if_match.or_else(|| expected.clone()),
        }
        let head = options.head;
        let result = self.inner.get_opts(location, options).await.map_err(|error| replaced(location, error))?;
        if head {
            self.versions.expect(&result.meta);
        }
        Ok(result)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let versions = Arc::clone(&self.versions);
        self.inner.list(prefix).inspect_ok(move |listed| versions.expect(listed)).boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let versions = Arc::clone(&self.versions);
        self.inner.list_with_offset(prefix, offset).inspect_ok(move |listed| versions.expect(listed)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let listed = self.inner.list_with_delimiter(prefix).await?;
        listed.objects.iter().for_each(|listed| self.versions.expect(listed));
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn what_was_listed_is_read_or_nothing() {
        let store = Arc::new(InMemory::new());
        let (one, other) = (Path::from("d/one"), Path::from("other"));
        for path in [&one, &other] {
            store.put(path, "first".into()).await.unwrap();
        }
        let bound = Bound::new(store.clone(), Told::ByTag, Arc::default());
        assert_eq!(bound.list(Some(&Path::from("d"))).try_collect::<Vec<_>>().await.unwrap().len(), 1);
        assert_eq!(bound.get_range(&one, 0..2).await.unwrap(), "fi");
        for path in [&one, &other] {
            store.put(path, "second".into()).await.unwrap();
        }
        for error in [bound.get(&one).await.map(drop), bound.get_ranges(&one, &[0..1, 2..3]).await.map(drop)] {
            let error = error.unwrap_err();
            assert!(matches!(error, object_store::Error::Precondition { .. }), "{error}");
            assert!(error.to_string().contains("run the statement again"), "{error}");
        }
        // It was looked up, not listed.
        assert_eq!(bound.head(&other).await.unwrap().size, 6);
        store.put(&other, "third".into()).await.unwrap();
        assert!(bound.get(&other).await.is_err());
    }

    #[test]
    fn stores_without_versions_are_let_be() {
        assert_eq!(Told::of("wfs:///"), Some(Told::ByVersion));
        assert_eq!(Told::of("s3://bucket/"), Some(Told::ByTag));
        assert_eq!((Told::of("file:///"), Told::of("https://host/")), (None, None));
    }
}

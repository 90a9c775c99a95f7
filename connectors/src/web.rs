//! Files of a web server: [`HttpStore`], with errors that explain the limits of such a server.

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::http::HttpStore;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fmt;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(crate) struct WebStore {
    inner: Arc<HttpStore>,
    /// Scheme, host and port.
    server: Arc<str>,
}

impl WebStore {
    pub fn new(inner: HttpStore, server: &str) -> Self {
        Self { inner: Arc::new(inner), server: server.into() }
    }

    /// Explains the error when a folder cannot be listed, or a file is missing: folders are listed by WebDAV, which few servers speak.
    async fn not_listed(&self, prefix: Option<Path>, error: Error) -> Error {
        let path = prefix.unwrap_or_default();
        match self.inner.head(&path).await {
            // The server answered with a page about the folder, or with nothing.
            Ok(_) | Err(Error::NotFound { .. }) => Error::NotFound {
                path: format!(
                    "{}/{path}; a web server without WebDAV lists no folders, so each file has to be named",
                    self.server
                ),
                source: Box::new(error),
            },
            Err(error) => error,
        }
    }
}

impl fmt::Display for WebStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for WebStore {
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

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        let listed = self.inner.list(prefix.as_ref());
        let explained = listed.or_else(move |error| {
            let (this, prefix) = (this.clone(), prefix.clone());
            async move { Err(this.not_listed(prefix, error).await) }
        });
        explained.boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        match self.inner.list_with_delimiter(prefix).await {
            Ok(listed) => Ok(listed),
            Err(error) => Err(self.not_listed(prefix.cloned(), error).await),
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

//! Object stores of writers, which remember why a write has failed, where DataFusion's writers of files say only that it has, and how many bytes were written.
//! In a bucket a staged file is an upload, whose size nobody can ask for.

use async_trait::async_trait;
use datafusion::common::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use futures::stream::BoxStream;
use futures::{FutureExt, TryFutureExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use url::Url;

/// A write while it is watched. Clones are of the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// The first failure.
    failure: Option<Error>,
    bytes: HashMap<Path, u64>,
}

impl Watch {
    /// Returns how many bytes were written to a path.
    pub fn bytes(&self, location: &Path) -> Option<u64> {
        self.0.lock().bytes.get(location).copied()
    }

    fn count(&self, location: &Path, bytes: usize) {
        *self.0.lock().bytes.entry(location.clone()).or_default() += bytes as u64;
    }

    /// Keeps the error, and returns one in its place.
    fn note(&self, location: &Path, error: Error) -> Error {
        let error = match error {
            Error::Generic { store, source } => {
                let location = location.to_string();
                Error::Generic { store, source: Box::new(Unwritten { location, source }) }
            }
            // The others name the path.
            error => error,
        };
        let text = error.to_string();
        self.0.lock().failure.get_or_insert(error);
        Error::Generic { store: "the target", source: text.into() }
    }

    /// Returns the cause of an error of a writer, or the error.
    pub fn explains(&self, error: DataFusionError) -> DataFusionError {
        self.0.lock().failure.take().map_or(error, |cause| DataFusionError::ObjectStore(Box::new(cause)))
    }

    /// The same context, with stores that remember.
    pub fn over(&self, context: &TaskContext) -> datafusion::common::Result<Arc<TaskContext>> {
        let runtime = context.runtime_env();
        let stores = Arc::new(Stores { stores: Arc::clone(&runtime.object_store_registry), watch: self.clone() });
        let runtime = RuntimeEnvBuilder::from_runtime_env(&runtime).with_object_store_registry(stores).build_arc()?;
        Ok(Arc::new(TaskContext::new(
            context.task_id(),
            context.session_id(),
            context.session_config().clone(),
            context.scalar_functions().clone(),
            context.higher_order_functions().clone(),
            context.aggregate_functions().clone(),
            context.window_functions().clone(),
            runtime,
        )))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{location} cannot be written: {source}")]
struct Unwritten {
    location: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

#[derive(Debug)]
struct Stores {
    stores: Arc<dyn ObjectStoreRegistry>,
    watch: Watch,
}

impl ObjectStoreRegistry for Stores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.stores.register_store(url, store)
    }

    fn get_store(&self, url: &Url) -> datafusion::common::Result<Arc<dyn ObjectStore>> {
        let store = self.stores.get_store(url)?;
        Ok(Arc::new(Watched { store, watch: self.watch.clone() }))
    }
}

#[derive(Debug)]
struct Watched {
    store: Arc<dyn ObjectStore>,
    watch: Watch,
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Watched {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.watch.count(location, payload.content_length());
        let put = self.store.put_opts(location, payload, options).await;
        put.map_err(|error| self.watch.note(location, error))
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.store.put_multipart_opts(location, options).await;
        let upload = upload.map_err(|error| self.watch.note(location, error))?;
        Ok(Box::new(WatchedUpload { upload, location: location.clone(), watch: self.watch.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.store.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.store.rename_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct WatchedUpload {
    upload: Box<dyn MultipartUpload>,
    location: Path,
    watch: Watch,
}

#[async_trait]
impl MultipartUpload for WatchedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (watch, location) = (self.watch.clone(), self.location.clone());
        watch.count(&location, data.content_length());
        self.upload.put_part(data).map_err(move |error| watch.note(&location, error)).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let completed = self.upload.complete().await;
        completed.map_err(|error| self.watch.note(&self.location, error))
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

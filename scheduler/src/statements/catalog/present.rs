//! Checks that the files of a table exist. DataFusion takes a location without files for an empty table, but a removed folder is not an
//! empty one.
//!
//! A folder on a disk or in `wfs://` exists until it is removed: CREATE EXTERNAL TABLE creates it. In other object stores folders are
//! parts of names, so a folder without files cannot be missing.

use crate::errors::QueryError;
use datafusion::catalog::Session;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, plan_err};
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use object_store::ObjectStoreExt;
use std::collections::HashSet;
use std::sync::Arc;
use windlass_connectors::StoreRegistry;
use windlass_connectors::wfs::WfsError;
use windlass_engine::Place;
use windlass_proto::v1;
use windlass_proto::v1::file_error::Kind;
use windlass_proto::v1::file_request::Ask;

/// Refuses `plan`, a scan of `paths`, if one of them is gone. `filled`: each path has files, and the scan reads all of them.
pub(super) async fn require(
    state: &dyn Session,
    paths: &[ListingTableUrl],
    plan: &Arc<dyn ExecutionPlan>,
    filled: bool,
) -> Result<()> {
    let read = folders_read(plan)?;
    for path in paths.iter().filter(|path| !read.contains(path.prefix().as_ref())) {
        if filled {
            return plan_err!("{path} has no files, and should have some of the table's: somebody has removed them");
        }
        let Ok(place) = Place::from_url(path.as_str()) else { continue };
        if !is_there(state, &place).await? {
            let kind = if place.is_folder() { "folder" } else { "file" };
            return plan_err!("there is no {kind} at {place}");
        }
    }
    Ok(())
}

/// Returns the paths of all files that are read, and of all folders around them.
pub(super) fn folders_read(plan: &Arc<dyn ExecutionPlan>) -> Result<HashSet<String>> {
    let mut read = HashSet::new();
    plan.apply(|node| {
        let scan = node.downcast_ref::<DataSourceExec>().and_then(|scan| scan.data_source().downcast_ref());
        let Some::<&FileScanConfig>(config) = scan else { return Ok(TreeNodeRecursion::Continue) };
        for file in config.file_groups.iter().flat_map(|group| group.iter()) {
            let mut path = file.object_meta.location.as_ref();
            while !read.contains(path) {
                read.insert(path.to_string());
                path = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(read)
}

async fn is_there(state: &dyn Session, place: &Place) -> Result<bool> {
    if let Some(path) = place.local_path() {
        return Ok(tokio::fs::try_exists(path).await.unwrap_or(true));
    }
    let is_wfs = place.store().as_str() == "wfs:///";
    if place.is_folder() && !is_wfs {
        return Ok(true);
    }
    match state.runtime_env().object_store(place.store())?.head(place.path()).await {
        Err(object_store::Error::NotFound { source, .. }) => {
            let kind = source.downcast_ref::<WfsError>().and_then(WfsError::kind);
            Ok(place.is_folder() && kind == Some(Kind::IsFolder))
        }
        // The reader reports other errors.
        _ => Ok(true),
    }
}

/// Creates the folder of a table that has no files yet, in stores that have folders.
pub(crate) async fn make(stores: &StoreRegistry, place: &Place) -> Result<(), QueryError> {
    if !place.is_folder() || place.path().is_root() {
        return Ok(());
    }
    if let Some(path) = place.local_path() {
        let made = tokio::fs::create_dir_all(&path).await;
        return made.map_err(|error| {
            QueryError::Invalid(format!(
                "{place}: there is no such folder on the primary, and it cannot be made: {error}"
            ))
        });
    }
    if let Some(wfs) = stores.wfs().filter(|_| place.store().as_str() == "wfs:///") {
        let request = v1::MkdirRequest { path: format!("/{}", place.path()), parents: true };
        wfs.act(Ask::Mkdir(request)).await.map_err(|error| QueryError::Invalid(format!("{place}: {error}")))?;
    }
    Ok(())
}

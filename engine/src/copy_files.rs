//! `copy_files(from, to)`: copies files from one place to another with the tasks of a query, which returns a row per file.
//!
//! A file that already exists with the same length and is not older is skipped, so that a copy that broke off can be started again and continues.

use crate::connector::copy_files::{COPY_FILES, CopyFiles, CopyFilesScan, CopyItem, CopyPart, copy_schema};
use crate::place::Place;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue, internal_err, plan_datafusion_err, plan_err};
use datafusion::datasource::TableType;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

/// Tasks of a copy for each task that can run at a time: a slot that is free early takes another one.
const TASKS_PER_PARTITION: usize = 4;

#[derive(Debug)]
pub(crate) struct CopyFilesFunction;

impl TableFunctionImpl for CopyFilesFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let words = args.exprs().iter().map(|expr| match expr {
            Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)), _) => Ok(text.clone()),
            other => plan_err!("{COPY_FILES}() takes literal strings, not {other}"),
        });
        let words: Vec<String> = words.collect::<Result<_>>()?;
        let (Some(from), Some(to)) = (words.first(), words.get(1)) else {
            return plan_err!(
                "{COPY_FILES}() wants where to copy from, and where to: {COPY_FILES}('s3://bucket/folder/', 'wfs:///folder/')"
            );
        };
        let mut table = CopyTable::new(Place::parse(from)?, Place::parse(to)?);
        for word in &words[2..] {
            match word.as_str() {
                "overwrite" => table.overwrite = true,
                "delete" => table.delete = true,
                "unverified" => table.unverified = true,
                "dry run" => table.dry = true,
                other => {
                    return plan_err!(
                        "'{other}' is no option of {COPY_FILES}(): there are 'overwrite', 'delete', 'unverified' and 'dry run'"
                    );
                }
            }
        }
        if table.from.holds(&table.to) || table.to.holds(&table.from) {
            return plan_err!("{from} and {to} lie in each other: what is copied would be copied again");
        }
        Ok(Arc::new(table))
    }
}

/// A copy of a file, or of a folder with everything in it.
#[derive(Debug)]
struct CopyTable {
    from: Place,
    to: Place,
    overwrite: bool,
    delete: bool,
    unverified: bool,
    dry: bool,
}

#[async_trait]
impl TableProvider for CopyTable {
    fn schema(&self) -> SchemaRef {
        copy_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let partitions = state.config().target_partitions().max(1) * TASKS_PER_PARTITION;
        let store = |place: &Place| state.runtime_env().object_store(place.store());
        let copy = self.plan(&*store(&self.from)?, &*store(&self.to)?, partitions).await?;
        CopyFilesScan::planned(copy).projected(projection)
    }
}

impl CopyTable {
    fn new(from: Place, to: Place) -> Self {
        Self { from, to, overwrite: false, delete: false, unverified: false, dry: false }
    }

    async fn plan(&self, from: &dyn ObjectStore, to: &dyn ObjectStore, partitions: usize) -> Result<CopyFiles> {
        let sources = self.sources(from).await?;
        let targets = sources.into_iter().map(|source| Ok((self.target(&source.location)?, source)));
        let targets: BTreeMap<Path, ObjectMeta> = targets.collect::<Result<_>>()?;
        let there = list(to, self.to.path()).await?;
        let mut there: BTreeMap<Path, ObjectMeta> =
            there.into_iter().map(|meta| (meta.location.clone(), meta)).collect();
        let (mut items, mut skipped, mut skipped_bytes) = (Vec::new(), 0, 0);
        for (target, source) in targets {
            let is_copied = there
                .remove(&target)
                .is_some_and(|there| there.size == source.size && there.last_modified >= source.last_modified);
            if is_copied && !self.overwrite {
                skipped += 1;
                skipped_bytes += source.size;
                continue;
            }
            items.push(CopyItem {
                from: Some(source.location.to_string()),
                to: target.to_string(),
                bytes: source.size,
                e_tag: source.e_tag,
                modified_ms: source.last_modified.timestamp_millis(),
            });
        }
        if self.delete {
            // The files that remain have no source.
            let removed = there.into_values().map(|meta| CopyItem {
                to: meta.location.to_string(),
                bytes: meta.size,
                ..CopyItem::default()
            });
            items.extend(removed);
        }
        let mut parts = share(items, partitions);
        parts[0].skipped = skipped;
        parts[0].skipped_bytes = skipped_bytes;
        Ok(CopyFiles {
            from: self.from.store().as_str().to_string(),
            to: self.to.store().as_str().to_string(),
            overwrite: self.overwrite,
            verify: !self.unverified,
            dry: self.dry,
            parts,
            files: 0,
        })
    }

    /// The files to copy. A place that is a file has just that one.
    async fn sources(&self, store: &dyn ObjectStore) -> Result<Vec<ObjectMeta>> {
        if self.is_file(store).await {
            return Ok(vec![store.head(self.from.path()).await?]);
        }
        let found = list(store, self.from.path()).await?;
        match found.is_empty() {
            true => {
                let advice = match self.from.path().as_ref().contains(['*', '?', '[']) {
                    true => format!("; {COPY_FILES}() takes folders and files, not patterns"),
                    false => String::new(),
                };
                Err(plan_datafusion_err!("there is nothing at {} to copy{advice}", self.from))
            }
            false => Ok(found),
        }
    }

    async fn is_file(&self, store: &dyn ObjectStore) -> bool {
        !self.from.is_folder() && store.head(self.from.path()).await.is_ok()
    }

    fn target(&self, source: &Path) -> Result<Path> {
        if source != self.from.path() {
            return match self.from.relative(source) {
                Some(inside) => Ok(self.to.file(inside)?.path().clone()),
                None => internal_err!("{source} was listed in {}", self.from),
            };
        }
        match (self.to.is_folder(), source.filename()) {
            (true, Some(name)) => Ok(self.to.file(name)?.path().clone()),
            (false, _) => Ok(self.to.path().clone()),
            (true, None) => plan_err!("{} is no name for the copy of a file", self.to),
        }
    }
}

/// Files at any depth. Markers of empty folders, which some tools leave in object stores, are no files.
async fn list(store: &dyn ObjectStore, prefix: &Path) -> Result<Vec<ObjectMeta>> {
    let is_file = |meta: &ObjectMeta| meta.size > 0 || meta.location != *prefix;
    match store.list(Some(prefix)).try_collect::<Vec<ObjectMeta>>().await {
        Ok(mut found) => {
            found.retain(is_file);
            Ok(found)
        }
        Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Divides files into shares of about equal bytes, largest files first; returns at least one share.
fn share(mut items: Vec<CopyItem>, most: usize) -> Vec<CopyPart> {
    // A small file costs about as much as this many bytes.
    const EACH: u64 = 256 << 10;
    let mut parts = vec![CopyPart::default(); items.len().clamp(1, most)];
    items.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.to.cmp(&b.to)));
    let mut least: BinaryHeap<Reverse<(u64, usize)>> = (0..parts.len()).map(|at| Reverse((0, at))).collect();
    for item in items {
        let Some(Reverse((bytes, at))) = least.pop() else { break };
        least.push(Reverse((bytes + item.bytes + EACH, at)));
        parts[at].items.push(item);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    fn table(from: &str, to: &str, options: &[&str]) -> CopyTable {
        let has = |option: &str| options.contains(&option);
        let table = CopyTable::new(Place::parse(from).unwrap(), Place::parse(to).unwrap());
        CopyTable { overwrite: has("overwrite"), delete: has("delete"), ..table }
    }

    async fn put(store: &InMemory, path: &str, bytes: usize) {
        store.put(&Path::from(path), vec![b'x'; bytes].into()).await.unwrap();
    }

    /// The planned actions: files to copy and their targets, files to remove, files to skip.
    async fn plan(
        table: &CopyTable,
        from: &InMemory,
        to: &InMemory,
    ) -> Result<(Vec<(String, String)>, Vec<String>, u64)> {
        let copy = table.plan(from, to, 3).await?;
        assert!(copy.parts.len() <= 3);
        let (mut copied, mut removed) = (Vec::new(), Vec::new());
        for item in copy.parts.iter().flat_map(|part| part.items.clone()) {
            match item.from {
                Some(from) => copied.push((from, item.to)),
                None => removed.push(item.to),
            }
        }
        copied.sort();
        removed.sort();
        Ok((copied, removed, copy.parts.iter().map(|part| part.skipped).sum()))
    }

    fn pair(from: &str, to: &str) -> (String, String) {
        (from.to_string(), to.to_string())
    }

    #[tokio::test]
    async fn folders_are_copied_below_folders_and_files_to_names() {
        let (from, to) = (InMemory::new(), InMemory::new());
        for (path, bytes) in [("in/a", 10), ("in/sub/b", 20), ("other", 5), ("in/sub/c d", 0)] {
            put(&from, path, bytes).await;
        }
        let all = [pair("in/a", "out/a"), pair("in/sub/b", "out/sub/b"), pair("in/sub/c d", "out/sub/c d")];
        for (source, target) in [("memory:///in/", "memory:///out/"), ("memory:///in", "memory:///out")] {
            assert_eq!(plan(&table(source, target, &[]), &from, &to).await.unwrap(), (all.to_vec(), vec![], 0));
        }
        let one = plan(&table("memory:///in/a", "memory:///out/", &[]), &from, &to).await.unwrap();
        assert_eq!(one.0, [pair("in/a", "out/a")]);
        let one = plan(&table("memory:///in/a", "memory:///out/z", &[]), &from, &to).await.unwrap();
        assert_eq!(one.0, [pair("in/a", "out/z")]);
        let nothing = plan(&table("memory:///nope/", "memory:///out/", &[]), &from, &to).await.unwrap_err();
        assert!(nothing.to_string().contains("there is nothing at memory:///nope/"), "{nothing}");
    }

    #[tokio::test]
    async fn what_is_there_is_passed_over_and_what_has_no_source_can_go() {
        let (from, to) = (InMemory::new(), InMemory::new());
        put(&from, "in/same", 10).await;
        put(&from, "in/longer", 20).await;
        put(&from, "in/missing", 1).await;
        put(&to, "out/same", 10).await;
        put(&to, "out/longer", 19).await;
        put(&to, "out/left", 7).await;
        let (copied, removed, skipped) =
            plan(&table("memory:///in/", "memory:///out/", &["delete"]), &from, &to).await.unwrap();
        assert_eq!(copied, [pair("in/longer", "out/longer"), pair("in/missing", "out/missing")]);
        assert_eq!((removed, skipped), (vec!["out/left".to_string()], 1));
        let (copied, removed, skipped) =
            plan(&table("memory:///in/", "memory:///out/", &["overwrite"]), &from, &to).await.unwrap();
        assert_eq!((copied.len(), removed.len(), skipped), (3, 0, 0));
        // Rewritten later with the same length.
        put(&from, "in/same", 10).await;
        assert_eq!(plan(&table("memory:///in/", "memory:///out/", &[]), &from, &to).await.unwrap().2, 0);
    }

    #[test]
    fn tasks_have_about_as_much_to_do() {
        let items = (0..100).map(|n| CopyItem { bytes: n << 20, to: n.to_string(), ..CopyItem::default() }).collect();
        let parts = share(items, 8);
        let bytes = parts.iter().map(|part| part.items.iter().map(|item| item.bytes).sum::<u64>());
        let (least, most) = (bytes.clone().min().unwrap(), bytes.max().unwrap());
        assert!(most - least <= 99 << 20 && parts.len() == 8, "{least} to {most}");
        assert_eq!(share(Vec::new(), 8).len(), 1);
    }
}

//! Writes into tables of connectors. Each is published once or abandoned, even if the primary dies midway.
//!
//! ```text
//!   begin ──> writing ──(job failed)──> abandoned
//!                │                       ▲
//!                │                       └──(it cannot be published)
//!                └─(job finished)──> prepared ──> publishing, with the tokens of all tasks ──> done
//! ```
//!
//! Each step is recorded in the metadata store before it happens, as with files ([`super::publish`]). At the start, and every few
//! seconds after that, writes in state `writing` that no statement has in progress are abandoned, and those in state `publishing` are
//! published again. The second publication changes nothing in a sink. So a write ends when the other system is back. The credentials in
//! an entry are sealed.

use super::catalog::{Catalog, Connected, Edit, Record, Storage, TableRecord, open_options, seal_options};
use crate::errors::QueryError;
use crate::meta::keys::sinks::{self as keys, Entry, Tokens};
use crate::meta::{MetaStore, Transaction};
use datafusion::common::Result as PlanResult;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use windlass_engine::connector::{PlannedSink, Rejected, SinkToken};

/// How long the other system may take to end a write of unknown progress.
const PATIENCE: Duration = Duration::from_secs(10);

/// Names of the writes that statements of this primary have in progress.
#[derive(Debug, Default)]
pub(super) struct Writes(Mutex<BTreeSet<String>>);

/// A write that has begun. After it is dropped, [`recover`] ends what remains of it.
pub(super) struct Sinking {
    catalog: Arc<Catalog>,
    planned: PlannedSink,
    entry: Entry,
}

impl Sinking {
    /// Records the write and prepares its sink.
    pub async fn begin(catalog: &Arc<Catalog>, planned: PlannedSink) -> Result<Self, QueryError> {
        let secrets = planned.table.options.secrets();
        let sealed = match secrets.is_empty() {
            true => String::new(),
            false => seal_options(catalog.sealer(), &planned.write, &secrets)?,
        };
        let entry = Entry { sink: planned.encode()?, table: planned.table.id.clone(), tokens: None, sealed };
        let begun = Self { catalog: Arc::clone(catalog), planned, entry };
        catalog.writes().0.lock().insert(begun.planned.write.clone());
        let remembered = keys::put(&begun.planned.write, &begun.entry);
        catalog.store().commit(Transaction::default().with(remembered)).await?;
        match begun.planned.sink.begin(catalog.runtime()).await {
            Ok(()) => Ok(begun),
            Err(error) => {
                begun.abandon().await;
                Err(error.into())
            }
        }
    }

    /// Publishes the rows that the tasks have written. `commit` commits these edits in a transaction of the catalog, and what else the
    /// statement changes there; it is told which rows were set aside. From then on the rows will be published, whoever leads.
    ///
    /// # Errors
    /// The outer error: nothing is visible, and the write must be abandoned. The inner error: it will be published, or may be.
    pub async fn publish(
        &self,
        staged: Vec<SinkToken>,
        commit: impl AsyncFnOnce(Vec<Edit>, Option<Rejected>) -> Result<(), QueryError>,
    ) -> Result<Result<(), QueryError>, QueryError> {
        let tokens: Vec<Vec<u8>> = staged.into_iter().map(|staged| staged.token).collect();
        self.planned.sink.prepare(&tokens, self.catalog.runtime()).await?;
        let rejected = self.planned.sink.rejected();
        let entry = Entry { tokens: Some(Tokens { tokens }), ..self.entry.clone() };
        match commit(vec![Edit::Meta(keys::put(&self.planned.write, &entry))], rejected).await {
            Ok(()) => {}
            Err(error @ QueryError::OutcomeUnknown(_)) => return Ok(Err(error)),
            Err(error) => return Err(error),
        }
        let tokens = entry.tokens.unwrap_or_default().tokens;
        Ok(match self.planned.sink.publish(&tokens, self.catalog.runtime()).await {
            Ok(()) => forget(self.catalog.store(), &self.planned.write).await,
            Err(error) => Err(QueryError::Internal(format!(
                "the rows were written, but could not be published: {}; this is tried again until it succeeds",
                QueryError::from(error)
            ))),
        })
    }

    /// Removes the written rows. A failed removal is retried later.
    pub async fn abandon(&self) {
        let abandoned = self.planned.sink.abandon(self.catalog.runtime()).await.map_err(QueryError::from);
        let forgotten = match abandoned {
            Ok(()) => forget(self.catalog.store(), &self.planned.write).await,
            error => error,
        };
        if let Err(error) = forgotten {
            let connector = &self.planned.table.connector;
            tracing::warn!(%connector, %error, "what a failed write has left could not be removed; it is tried again");
        }
    }
}

impl Drop for Sinking {
    fn drop(&mut self) {
        self.catalog.writes().0.lock().remove(&self.planned.write);
    }
}

async fn forget(store: &Arc<dyn MetaStore>, write: &str) -> Result<(), QueryError> {
    Ok(store.commit(Transaction::default().with(keys::delete(write))).await?)
}

/// Ends the writes that no statement has in progress: those of an earlier primary, and those that could not be ended before. Failures
/// are logged.
pub(super) async fn recover(catalog: &Catalog) -> Result<(), QueryError> {
    for write in keys::all(catalog.store().as_ref()).await? {
        if catalog.writes().0.lock().contains(&write) {
            continue;
        }
        let ended = async {
            // It may have ended meanwhile.
            let Some(entry) = keys::find(catalog.store().as_ref(), &write).await? else { return Ok(()) };
            let planned = PlannedSink::decode(&entry.sink, catalog.connectors(), secrets(catalog, &write, &entry)?)?;
            let sink = planned.sink;
            let ended: PlanResult<()> = match entry.tokens {
                Some(Tokens { tokens }) => sink.publish(&tokens, catalog.runtime()).await,
                None => sink.abandon(catalog.runtime()).await,
            };
            ended?;
            forget(catalog.store(), &write).await
        };
        match tokio::time::timeout(PATIENCE, ended).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%write, %error, "a write could not be ended; it is tried again");
            }
            Err(_) => {
                tracing::warn!(%write, "a write was not ended in time; it is tried again");
            }
        }
    }
    Ok(())
}

/// Returns the credentials of a write.
fn secrets(catalog: &Catalog, write: &str, entry: &Entry) -> Result<BTreeMap<String, String>, QueryError> {
    if !entry.sealed.is_empty() {
        return Ok(open_options(catalog.sealer(), write, &entry.sealed)?);
    }
    // An earlier release left them only in the catalog.
    let snapshot = catalog.snapshot();
    let held = snapshot.tables().find(|held| held.record.id() == entry.table);
    let Some(Record::Table(TableRecord { storage: Storage::Connected(of), .. })) = held.map(|held| &held.record) else {
        // The table was dropped meanwhile, or was temporary.
        return Ok(BTreeMap::new());
    };
    let Connected { connector, location, options, .. } = of;
    let spec =
        catalog.connectors().spec(connector, String::new(), location.clone(), options.clone(), BTreeMap::new())?;
    Ok(spec.options.secrets())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Ids};
    use crate::meta::{MemoryStore, Sealer};
    use crate::statements::catalog::CatalogConfig;
    use async_trait::async_trait;
    use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
    use datafusion::common::not_impl_err;
    use datafusion::execution::runtime_env::RuntimeEnv;
    use datafusion::execution::{SendableRecordBatchStream, TaskContext};
    use std::sync::LazyLock;
    use windlass_connectors::StoreRegistry;
    use windlass_engine::connector::{
        Attempt, Connector, ConnectorTable, Encoded, OptionKind, OptionSpec, Registry, Scan, Sink, TableRequest,
        Written,
    };

    /// A connector that records what happens to its writes.
    #[derive(Clone, Debug, Default)]
    struct Noting {
        notes: Arc<Mutex<Vec<String>>>,
        fails: Arc<Mutex<bool>>,
        refuses: Arc<Mutex<bool>>,
    }

    #[async_trait]
    impl Connector for Noting {
        fn name(&self) -> &'static str {
            "NOTING"
        }

        fn options(&self) -> &'static [OptionSpec] {
            const OPTIONS: &[OptionSpec] = &[OptionSpec::new("token", OptionKind::Text, "Opens it.").secret()];
            OPTIONS
        }

        async fn table(&self, _: TableRequest) -> PlanResult<Arc<dyn ConnectorTable>> {
            not_impl_err!("no table is made here")
        }

        fn decode_scan(&self, _: Encoded<'_>) -> PlanResult<Arc<dyn Scan>> {
            not_impl_err!("nothing is read here")
        }

        fn decode_sink(&self, encoded: Encoded<'_>) -> PlanResult<Arc<dyn Sink>> {
            assert_eq!((encoded.bytes, encoded.schema.field(0).name().as_str()), (&b"encoded"[..], "a"));
            Ok(Arc::new(self.clone()))
        }
    }

    #[async_trait]
    impl Sink for Noting {
        fn describe(&self) -> String {
            String::new()
        }

        fn encode(&self) -> PlanResult<Vec<u8>> {
            Ok(b"encoded".to_vec())
        }

        async fn begin(&self, _: &Arc<RuntimeEnv>) -> PlanResult<()> {
            self.note("begin".to_string())
        }

        async fn write(&self, _: Attempt, _: SendableRecordBatchStream, _: &Arc<TaskContext>) -> PlanResult<Written> {
            not_impl_err!("nothing is written here")
        }

        async fn prepare(&self, _: &[Vec<u8>], _: &Arc<RuntimeEnv>) -> PlanResult<()> {
            if *self.refuses.lock() { not_impl_err!("a key is taken") } else { Ok(()) }
        }

        async fn publish(&self, tokens: &[Vec<u8>], _: &Arc<RuntimeEnv>) -> PlanResult<()> {
            self.note(format!("publish {tokens:?}"))
        }

        async fn abandon(&self, _: &Arc<RuntimeEnv>) -> PlanResult<()> {
            self.note("abandon".to_string())
        }
    }

    /// All primaries of a cluster have one key.
    static SEALER: LazyLock<Sealer> = LazyLock::new(|| Sealer::ephemeral().unwrap());

    impl Noting {
        fn note(&self, what: String) -> PlanResult<()> {
            self.notes.lock().push(what);
            if *self.fails.lock() { not_impl_err!("the other side is away") } else { Ok(()) }
        }

        fn taken(&self) -> Vec<String> {
            std::mem::take(&mut self.notes.lock())
        }

        /// Opens the catalog as a starting primary does.
        async fn catalog(&self, store: &Arc<dyn MetaStore>) -> Arc<Catalog> {
            let warehouse = tempfile::tempdir().unwrap();
            let config = CatalogConfig {
                sealer: SEALER.clone(),
                store: Arc::clone(store),
                stores: StoreRegistry::new(),
                connectors: Registry::default().with(Arc::new(self.clone())).unwrap(),
                runtime: Arc::default(),
                warehouse: warehouse.path().display().to_string(),
                grace: Duration::ZERO,
                limits: Default::default(),
                clock: Clock::system(),
                ids: Ids::random(),
                tasks: Default::default(),
            };
            Catalog::open(config).await.unwrap()
        }

        fn planned(&self, catalog: &Catalog) -> PlannedSink {
            let options = [("token".to_string(), "marked".to_string())];
            let table =
                catalog.connectors().spec("NOTING", "7".into(), "there".into(), options, BTreeMap::new()).unwrap();
            let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
            PlannedSink { table: Arc::new(table), sink: Arc::new(self.clone()), schema, write: "w".into() }
        }
    }

    fn committing(catalog: &Arc<Catalog>) -> impl AsyncFnOnce(Vec<Edit>, Option<Rejected>) -> Result<(), QueryError> {
        async |edits, _| catalog.change(None, |_| Ok(edits)).await.map(|_| ())
    }

    fn tokens() -> Vec<SinkToken> {
        [vec![1], vec![2]].into_iter().map(|token| SinkToken { rows: 1, token }).collect()
    }

    #[tokio::test]
    async fn a_write_is_remembered_until_it_ends() {
        let (noting, store) = (Noting::default(), Arc::new(MemoryStore::default()) as Arc<dyn MetaStore>);
        let catalog = noting.catalog(&store).await;
        let begun = Sinking::begin(&catalog, noting.planned(&catalog)).await.unwrap();
        assert_eq!(keys::all(store.as_ref()).await.unwrap(), ["w"]);
        let entries = store.range("").await.unwrap();
        let marked = entries.iter().any(|(_, entry)| String::from_utf8_lossy(&entry.value).contains("marked"));
        assert!(!marked, "without its secrets");
        begun.publish(tokens(), committing(&catalog)).await.unwrap().unwrap();
        assert_eq!(noting.taken(), ["begin", "publish [[1], [2]]"]);
        assert!(keys::all(store.as_ref()).await.unwrap().is_empty());
        Sinking::begin(&catalog, noting.planned(&catalog)).await.unwrap().abandon().await;
        assert_eq!(noting.taken(), ["begin", "abandon"]);
        assert!(keys::all(store.as_ref()).await.unwrap().is_empty());
        // A write that cannot be published is never published.
        let begun = Sinking::begin(&catalog, noting.planned(&catalog)).await.unwrap();
        *noting.refuses.lock() = true;
        assert!(
            begun.publish(tokens(), committing(&catalog)).await.unwrap_err().to_string().contains("a key is taken")
        );
        assert!(noting.taken() == ["begin"], "the next primary would abandon it");
        begun.abandon().await;
        assert_eq!(noting.taken(), ["abandon"]);
        assert!(keys::all(store.as_ref()).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_next_primary_ends_what_the_last_one_began() {
        let (noting, store) = (Noting::default(), Arc::new(MemoryStore::default()) as Arc<dyn MetaStore>);
        let catalog = noting.catalog(&store).await;
        // The primary dies while tasks write.
        let dead = Sinking::begin(&catalog, noting.planned(&catalog)).await.unwrap();
        noting.catalog(&store).await;
        drop(dead);
        assert_eq!(noting.taken(), ["begin", "abandon"]);
        // The other system is away during the publication, and still at the next check.
        let begun = Sinking::begin(&catalog, noting.planned(&catalog)).await.unwrap();
        *noting.fails.lock() = true;
        let failed = begun.publish(tokens(), committing(&catalog)).await.unwrap().unwrap_err();
        assert!(failed.to_string().contains("tried again until it succeeds"), "{failed}");
        recover(&catalog).await.unwrap();
        assert_eq!(noting.taken(), ["begin", "publish [[1], [2]]"], "it is still under way");
        drop(begun);
        recover(&catalog).await.unwrap();
        assert_eq!(noting.taken(), ["publish [[1], [2]]"]);
        *noting.fails.lock() = false;
        noting.catalog(&store).await;
        assert_eq!(noting.taken(), ["publish [[1], [2]]"]);
        noting.catalog(&store).await;
        assert!(noting.taken().is_empty());
    }
}

//! Writes into tables of connectors, each of which is published once or abandoned, also when the primary dies in the middle of it.
//!
//! ```text
//!   begin ──> writing ──(job failed)──> abandoned
//!                │                       ▲
//!                │                       └──(it cannot be published)
//!                └─(job finished)──> prepared ──> publishing, with the tokens of all tasks ──> done
//! ```
//!
//! Each step is an entry of the metadata store before it happens, as with files ([`super::publish`]). On start, and every few seconds after that,
//! what was writing and is not under way is abandoned, and what was publishing is published again: to a sink the second time changes nothing. So a
//! write ends when the other side is there again. An entry has no secrets; they are those of the table, which the catalog has.

use super::catalog::{Catalog, Connected, Record, Storage};
use super::outcome::Effect;
use crate::errors::QueryError;
use crate::meta::{MetaStore, Transaction};
use datafusion::common::Result as PlanResult;
use parking_lot::Mutex;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use windlass_engine::connector::{PlannedSink, SinkToken};

const SINKS: &str = "sink/";
/// How long the other side may take to end a write of which nobody knows how far it came.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keys of the writes that statements of this primary have under way.
#[derive(Debug, Default)]
pub(super) struct Writes(Mutex<BTreeSet<String>>);

/// What the metadata store knows of a write.
#[derive(Clone, PartialEq, Message)]
struct Entry {
    /// See [`PlannedSink::encode`].
    #[prost(bytes = "vec", tag = "1")]
    sink: Vec<u8>,
    /// Id of the table's record.
    #[prost(string, tag = "2")]
    table: String,
    /// All tasks have ended, and these are what they left.
    #[prost(message, optional, tag = "3")]
    tokens: Option<Tokens>,
}

#[derive(Clone, PartialEq, Message)]
struct Tokens {
    #[prost(bytes = "vec", repeated, tag = "1")]
    tokens: Vec<Vec<u8>>,
}

/// A write that has begun. Once it is dropped, what of it is left is ended by [`recover`].
pub(super) struct Sinking {
    catalog: Arc<Catalog>,
    planned: PlannedSink,
    entry: Entry,
}

impl Sinking {
    /// Remembers the write, and makes what it needs.
    pub async fn begin(catalog: &Arc<Catalog>, planned: PlannedSink) -> Result<Self, QueryError> {
        let entry = Entry { sink: planned.encode()?, table: planned.table.id.clone(), tokens: None };
        let begun = Self { catalog: Arc::clone(catalog), planned, entry };
        catalog.writes().0.lock().insert(key(&begun.planned));
        let remembered = begun.entry.encode_to_vec();
        catalog.store().commit(Transaction::default().put(key(&begun.planned), remembered)).await?;
        match begun.planned.sink.begin(catalog.runtime()).await {
            Ok(()) => Ok(begun),
            Err(error) => {
                begun.abandon().await;
                Err(error.into())
            }
        }
    }

    /// Makes what the tasks have written the table's. From the first transaction on it happens, whoever leads.
    ///
    /// # Errors
    /// Of the first kind: nothing is to be seen, and the write is to be abandoned. Of the second: it will be published, or may be.
    pub async fn publish(
        &self,
        staged: Vec<SinkToken>,
        effect: Option<Effect>,
    ) -> Result<Result<(), QueryError>, QueryError> {
        let tokens: Vec<Vec<u8>> = staged.into_iter().map(|staged| staged.token).collect();
        self.planned.sink.prepare(&tokens, self.catalog.runtime()).await?;
        let entry = Entry { tokens: Some(Tokens { tokens }), ..self.entry.clone() };
        let mut publishing = Transaction::default().put(key(&self.planned), entry.encode_to_vec());
        if let Some((key, value)) = effect.map(|effect| effect.entry()) {
            publishing = publishing.put(key, value);
        }
        match self.catalog.store().commit(publishing).await.map_err(QueryError::from) {
            Ok(()) => {}
            Err(error @ QueryError::OutcomeUnknown(_)) => return Ok(Err(error)),
            Err(error) => return Err(error),
        }
        let tokens = entry.tokens.unwrap_or_default().tokens;
        Ok(match self.planned.sink.publish(&tokens, self.catalog.runtime()).await {
            Ok(()) => forget(self.catalog.store(), &key(&self.planned)).await,
            Err(error) => Err(QueryError::Internal(format!(
                "the rows were written, but could not be published: {}; this is tried again until it succeeds",
                QueryError::from(error)
            ))),
        })
    }

    /// Removes what was written. What cannot be removed is tried again.
    pub async fn abandon(&self) {
        let abandoned = self.planned.sink.abandon(self.catalog.runtime()).await.map_err(QueryError::from);
        let forgotten = match abandoned {
            Ok(()) => forget(self.catalog.store(), &key(&self.planned)).await,
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
        self.catalog.writes().0.lock().remove(&key(&self.planned));
    }
}

fn key(planned: &PlannedSink) -> String {
    format!("{SINKS}{}", planned.write)
}

async fn forget(store: &Arc<dyn MetaStore>, key: &str) -> Result<(), QueryError> {
    Ok(store.commit(Transaction::default().delete(key)).await?)
}

/// Ends the writes that no statement has under way: those of an earlier primary, and those that could not be ended. What still cannot is logged.
pub(super) async fn recover(catalog: &Catalog) -> Result<(), QueryError> {
    for (key, _) in catalog.store().range(SINKS).await? {
        if catalog.writes().0.lock().contains(&key) {
            continue;
        }
        // It may have ended since.
        let Some(entry) = catalog.store().get(&key).await? else { continue };
        let ended = async {
            let entry = Entry::decode(entry.value.as_ref()).map_err(|error| QueryError::Internal(error.to_string()))?;
            let planned = PlannedSink::decode(&entry.sink, catalog.connectors(), secrets(catalog, &entry.table))?;
            let sink = planned.sink;
            let ended: PlanResult<()> = match entry.tokens {
                Some(Tokens { tokens }) => sink.publish(&tokens, catalog.runtime()).await,
                None => sink.abandon(catalog.runtime()).await,
            };
            ended?;
            forget(catalog.store(), &key).await
        };
        match tokio::time::timeout(PATIENCE, ended).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(write = %key, %error, "a write could not be ended; it is tried again");
            }
            Err(_) => {
                tracing::warn!(write = %key, "a write was not ended in time; it is tried again");
            }
        }
    }
    Ok(())
}

/// All options of a table: those that are no secrets are what they were when the write began.
fn secrets(catalog: &Catalog, table: &str) -> BTreeMap<String, String> {
    let snapshot = catalog.snapshot();
    let held = snapshot.tables().find(|held| held.record.id() == table);
    match held.map(|held| &held.record) {
        Some(Record::Table(record)) => match &record.storage {
            Storage::Connected(Connected { options, .. }) => options.clone(),
            Storage::External(_) | Storage::Managed(_) => BTreeMap::new(),
        },
        // It was dropped since, or was a session's.
        _ => BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::MemoryStore;
    use crate::statements::catalog::CatalogConfig;
    use async_trait::async_trait;
    use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
    use datafusion::common::not_impl_err;
    use datafusion::execution::runtime_env::RuntimeEnv;
    use datafusion::execution::{SendableRecordBatchStream, TaskContext};
    use windlass_connectors::StoreRegistry;
    use windlass_engine::connector::{
        Attempt, Connector, ConnectorTable, Encoded, OptionKind, OptionSpec, Registry, Scan, Sink, TableRequest,
        Written,
    };

    /// Notes what becomes of its writes.
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

    impl Noting {
        fn note(&self, what: String) -> PlanResult<()> {
            self.notes.lock().push(what);
            if *self.fails.lock() { not_impl_err!("the other side is away") } else { Ok(()) }
        }

        fn taken(&self) -> Vec<String> {
            std::mem::take(&mut self.notes.lock())
        }

        /// As a primary begins.
        async fn catalog(&self, store: &Arc<dyn MetaStore>) -> Arc<Catalog> {
            let warehouse = tempfile::tempdir().unwrap();
            let config = CatalogConfig {
                store: Arc::clone(store),
                stores: StoreRegistry::new(),
                connectors: Registry::default().with(Arc::new(self.clone())).unwrap(),
                runtime: Arc::default(),
                warehouse: warehouse.path().display().to_string(),
                grace: Duration::ZERO,
                limits: Default::default(),
            };
            Catalog::open(config).await.unwrap()
        }

        fn planned(&self, catalog: &Catalog) -> PlannedSink {
            let options = [("token".to_string(), "marked".to_string())];
            let table = catalog.connectors().spec("NOTING", "7".into(), "there".into(), options).unwrap();
            let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
            PlannedSink { table: Arc::new(table), sink: Arc::new(self.clone()), schema, write: "w".into() }
        }
    }

    fn tokens() -> Vec<SinkToken> {
        [vec![1], vec![2]].into_iter().map(|token| SinkToken { rows: 1, token }).collect()
    }

    #[tokio::test]
    async fn a_write_is_remembered_until_it_ends() {
        let (noting, store) = (Noting::default(), Arc::new(MemoryStore::default()) as Arc<dyn MetaStore>);
        let catalog = noting.catalog(&store).await;
        let begun = Sinking::begin(&catalog, noting.planned(&catalog)).await.unwrap();
        let entries = store.range(SINKS).await.unwrap();
        assert_eq!(entries.len(), 1);
        assert!(!String::from_utf8_lossy(&entries[0].1.value).contains("marked"), "without its secrets");
        begun.publish(tokens(), None).await.unwrap().unwrap();
        assert_eq!(noting.taken(), ["begin", "publish [[1], [2]]"]);
        assert!(store.range(SINKS).await.unwrap().is_empty());
        Sinking::begin(&catalog, noting.planned(&catalog)).await.unwrap().abandon().await;
        assert_eq!(noting.taken(), ["begin", "abandon"]);
        // What cannot be published is never to be: the next primary would abandon it.
        let begun = Sinking::begin(&catalog, noting.planned(&catalog)).await.unwrap();
        *noting.refuses.lock() = true;
        assert!(begun.publish(tokens(), None).await.unwrap_err().to_string().contains("a key is taken"));
        assert_eq!(Entry::decode(store.range(SINKS).await.unwrap()[0].1.value.as_ref()).unwrap().tokens, None);
        begun.abandon().await;
        assert_eq!(noting.taken(), ["begin", "abandon"]);
        assert!(store.range(SINKS).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_next_primary_ends_what_the_last_one_began() {
        let (noting, store) = (Noting::default(), Arc::new(MemoryStore::default()) as Arc<dyn MetaStore>);
        let catalog = noting.catalog(&store).await;
        // It dies while tasks write.
        let dead = Sinking::begin(&catalog, noting.planned(&catalog)).await.unwrap();
        noting.catalog(&store).await;
        drop(dead);
        assert_eq!(noting.taken(), ["begin", "abandon"]);
        // The other side is away when it is published, and at the next look still.
        let begun = Sinking::begin(&catalog, noting.planned(&catalog)).await.unwrap();
        *noting.fails.lock() = true;
        let failed = begun.publish(tokens(), None).await.unwrap().unwrap_err();
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

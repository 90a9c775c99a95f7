//! Statements that write: INSERT INTO, INSERT OVERWRITE, COPY TO and CREATE TABLE AS. Tasks stage files; this module publishes them.

use super::kept::{as_kept, as_kept_in, for_json};
use super::outcome::Effect;
use super::publish::{Intent, add_manifest, publication_of};
use super::run::{StatementRun, shape_of};
use super::runner::{Finished, Started};
use super::sinks::Sinking;
use super::{Execution, Statements};
use crate::driver::history::{JobInfo, StageRecord};
use crate::errors::{QueryError, explain};
use crate::statements::catalog::{
    Catalog, Edit, External, FilesTable, Held, OnExists, Record, Storage, TableName, TableRecord, TempTables,
    existing_files, unread_additions,
};
use datafusion::arrow::datatypes::Schema;
use datafusion::catalog::default_table_source::provider_as_source;
use datafusion::common::{DataFusionError, TableReference};
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::SessionState;
use datafusion::logical_expr::dml::{CopyTo, InsertOp};
use datafusion::logical_expr::{DmlStatement, LogicalPlan, WriteOp};
use datafusion::parquet::arrow::ArrowWriter;
use object_store::ObjectStoreExt;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use windlass_core::ids::JobId;
use windlass_core::writes::Writers;
use windlass_engine::OwnFolder;
use windlass_engine::PlannedJob;
use windlass_engine::connector::{PlannedSink, Registry, Rejected, SinkToken, StagedFiles, WriteTarget};

/// How long a failed write waits for its attempts to end.
const NOTICE: Duration = Duration::from_secs(5);

/// A published write.
pub(super) struct Written {
    pub rows: u64,
    /// Rows that were set aside, if the target may reject some.
    pub rejected: Option<u64>,
    pub job: JobId,
    pub stages: Vec<Arc<StageRecord>>,
}

/// Where the files of a write end up.
#[derive(Clone)]
pub(super) enum Destination {
    Managed(ManagedWrite),
    /// Files that Windlass does not own, at the target that the plan names.
    Files {
        /// The files that the written ones replace.
        remove: Vec<String>,
        /// The table whose files are replaced, if the statement reads it.
        read: Option<Box<TableRecord>>,
        /// Whether a file that names them is written beside them.
        manifest: bool,
    },
    /// A table of a connector. The plan holds it. `None`: the catalog does not change.
    Connected(Option<NewTable>),
}

/// A table of a connector that the catalog gets when the rows are published.
#[derive(Clone)]
pub(super) struct NewTable {
    pub name: TableName,
    pub record: TableRecord,
    pub exists: OnExists,
    /// The session's temporary tables, if the table is temporary.
    pub temporary: Option<Arc<TempTables>>,
}

impl Destination {
    /// Returns the destination for another job of the same statement. Its folder is new, because the earlier job's files are still
    /// being removed.
    fn afresh(&self) -> Result<Self, QueryError> {
        Ok(match self {
            Self::Managed(write) => {
                Self::Managed(ManagedWrite { folder: fresh_folder(&write.record)?, ..write.clone() })
            }
            other @ (Self::Files { .. } | Self::Connected(_)) => other.clone(),
        })
    }

    /// Refuses to replace files of a table if a plan that was just made may read others. The plan listed them after `remove` was.
    async fn require_unchanged(&self, state: &SessionState) -> Result<(), QueryError> {
        let Self::Files { remove, read: Some(table), .. } = self else { return Ok(()) };
        let Storage::External(external) = &table.storage else { return Ok(()) };
        let now: BTreeSet<String> = existing_files(state, table, external).await?.into_iter().collect();
        match now.iter().eq(remove.iter().collect::<BTreeSet<_>>()) {
            true => Ok(()),
            false => Err(changed(&table.id)),
        }
    }
}

#[derive(Clone)]
pub(super) struct ManagedWrite {
    name: TableName,
    /// The record when the statement began.
    record: TableRecord,
    /// The folder that this statement fills.
    folder: OwnFolder,
    kind: Kind,
    /// The rows of the same table that the statement read, and will replace.
    read: Option<Read>,
    /// Whether other statements wait for this one with what they write to the table.
    is_alone: bool,
    /// The session's temporary tables, if the table is temporary.
    temporary: Option<Arc<TempTables>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Create(OnExists),
    Append,
    Overwrite,
}

/// What a statement read of the table that it replaces. What others add to the table meanwhile would be lost.
#[derive(Clone)]
struct Read {
    /// The table's id.
    table: String,
    folders: Vec<OwnFolder>,
}

impl Read {
    /// Returns what a plan reads of a table.
    fn by(plan: &LogicalPlan, table: &str) -> Result<Option<Self>, QueryError> {
        let folders = FilesTable::read_by(plan, table)?;
        Ok(folders.map(|folders| Self { table: table.to_string(), folders }))
    }

    /// Refuses to replace a table that has changed.
    fn check(&self, now: &Record) -> Result<(), QueryError> {
        match now {
            Record::Table(table)
                if table.id == self.table && table.managed().is_some_and(|managed| managed.folders == self.folders) =>
            {
                Ok(())
            }
            _ => Err(changed(&self.table)),
        }
    }
}

fn changed(table: &str) -> QueryError {
    QueryError::Changed {
        table: table.to_string(),
        message: "the table was changed while its rows were read to replace them; nothing was replaced: run the statement again".to_string(),
    }
}

impl StatementRun<'_> {
    pub(super) async fn insert(self, dml: DmlStatement) -> Result<Execution, QueryError> {
        let written = self.insert_reporting(dml).await?;
        Ok(Execution::count(written.rows, Some(written.job)))
    }

    pub(super) async fn insert_reporting(self, dml: DmlStatement) -> Result<Written, QueryError> {
        let (plan, destination) = self.planned_insert(dml).await?;
        self.write(plan, destination).await
    }

    /// Plans `dml`. The catalog's tables are only read by the plan.
    pub(super) async fn insert_plan(self, dml: DmlStatement) -> Result<LogicalPlan, QueryError> {
        Ok(self.planned_insert(dml).await?.0)
    }

    async fn planned_insert(self, dml: DmlStatement) -> Result<(LogicalPlan, Destination), QueryError> {
        let overwrite = match &dml.op {
            WriteOp::Insert(InsertOp::Append) => false,
            WriteOp::Insert(InsertOp::Overwrite) => true,
            op => {
                return Err(QueryError::Unsupported(format!(
                    "{} is not supported: tables are files, which are added (INSERT INTO) or replaced (INSERT OVERWRITE)",
                    op.name().to_uppercase()
                )));
            }
        };
        let name = self.session.resolve(dml.table_name.clone());
        let in_session = self.session.temporary().find(&name);
        let held = match in_session.clone() {
            Some(held) => Some(held),
            None => self.statements.inner.catalog.find(&name).await?,
        };
        let held = held.ok_or_else(|| QueryError::NotFound(format!("table '{}' not found", name.table)))?;
        let table = table_of(&held)?;
        match &table.storage {
            Storage::Managed(_) => {
                let write = ManagedWrite {
                    name,
                    record: table.clone(),
                    folder: fresh_folder(table)?,
                    kind: if overwrite { Kind::Overwrite } else { Kind::Append },
                    read: if overwrite { Read::by(&dml.input, &table.id)? } else { None },
                    is_alone: self.is_alone,
                    temporary: in_session.is_some().then(|| Arc::clone(self.session.temporary())),
                };
                let target = FilesTable::write(self.statements.inner.catalog.planner(), table, &write.folder)?;
                let plan = managed_plan(&write, target, dml.table_name, dml.input)?;
                Ok((plan, Destination::Managed(write)))
            }
            Storage::Connected(_) => {
                let connected = self.statements.inner.catalog.connected(table).await?;
                let connected = if overwrite { connected.overwriting() } else { connected };
                let names = if connected.has_defaults() { self.inserts } else { &[] };
                let input = as_kept_in(table, &name.table, names, dml.input)?;
                let (target, op) = (provider_as_source(Arc::new(connected)), WriteOp::Insert(InsertOp::Append));
                let plan = LogicalPlan::Dml(DmlStatement::new(dml.table_name, target, op, input));
                Ok((plan, Destination::Connected(None)))
            }
            Storage::External(external) => {
                require_writable(self.state, &name.table, &table.id, external)?;
                let remove = if overwrite { existing_files(self.state, table, external).await? } else { Vec::new() };
                let is_read = overwrite && FilesTable::read_by(&dml.input, &table.id)?.is_some();
                let op = WriteOp::Insert(InsertOp::Append);
                let input = as_kept(table, &name.table, dml.input)?;
                let input = if is_json(&external.format) { for_json(input)? } else { input };
                let plan = LogicalPlan::Dml(DmlStatement::new(dml.table_name, dml.target, op, input));
                Ok((
                    plan,
                    Destination::Files { remove, read: is_read.then(|| Box::new(table.clone())), manifest: false },
                ))
            }
        }
    }

    /// Runs COPY to files. `manifest`: whether it writes a manifest beside them.
    pub(super) async fn copy(self, plan: LogicalPlan, manifest: bool) -> Result<Execution, QueryError> {
        let written = self.copy_reporting(plan, manifest).await?;
        Ok(Execution::count(written.rows, Some(written.job)))
    }

    pub(super) async fn copy_reporting(self, plan: LogicalPlan, manifest: bool) -> Result<Written, QueryError> {
        let mut plan = plan;
        if let LogicalPlan::Copy(copy) = &mut plan {
            require_writable_format(self.state, &copy.file_type.get_ext())?;
            require_writable_options(&copy.options)?;
            require_writable_columns(&copy.file_type.get_ext(), copy.input.schema().inner())?;
            if is_json(&copy.file_type.get_ext()) {
                copy.input = for_json(Arc::clone(&copy.input))?;
            }
        }
        let empty = match &plan {
            LogicalPlan::Copy(copy) => empty_file(copy)?,
            _ => None,
        };
        let written = self.write(plan, Destination::Files { remove: Vec::new(), read: None, manifest }).await?;
        if let (0, Some((url, file))) = (written.rows, empty) {
            let store = self.state.runtime_env().object_store(&url)?;
            let path = url.prefix().clone().join("empty.parquet");
            store.put(&path, file.into()).await.map_err(DataFusionError::from)?;
        }
        Ok(written)
    }

    /// Creates a table from a query and registers it under its name.
    pub(super) async fn create_table_as(
        self,
        name: TableName,
        record: TableRecord,
        exists: OnExists,
        temporary: bool,
        input: Arc<LogicalPlan>,
    ) -> Result<Written, QueryError> {
        let replaced = match temporary {
            true => self.session.temporary().get(&name.table),
            false => self.statements.inner.catalog.find(&name).await?,
        };
        let write = ManagedWrite {
            folder: fresh_folder(&record)?,
            kind: Kind::Create(exists),
            read: match replaced {
                Some(held) => Read::by(&input, held.record.id())?,
                None => None,
            },
            is_alone: self.is_alone,
            temporary: temporary.then(|| Arc::clone(self.session.temporary())),
            name: name.clone(),
            record,
        };
        let target = FilesTable::write(self.statements.inner.catalog.planner(), &write.record, &write.folder)?;
        let plan = managed_plan(&write, target, name.reference(), input)?;
        self.write(plan, Destination::Managed(write)).await
    }

    pub(super) async fn write(self, plan: LogicalPlan, destination: Destination) -> Result<Written, QueryError> {
        let begun = self.begun().await?;
        let job = self
            .statements
            .inner
            .runner
            .plan(self.state, &plan, shape_of(&begun))
            .await
            .map_err(|e| explain(&e, self.sql))?;
        self.check_once(&job)?;
        destination.require_unchanged(self.state).await?;
        let second = self.job_info();
        let job_info = JobInfo { begun, ..second.clone() };
        // Input for a second job, which replaces one whose joins do not fit in memory.
        let again = job.holds_sides.then(|| (self.state.clone(), plan, second));
        // The write runs in a task of its own, so that it is published or cleaned up even if the caller leaves. The caller's departure
        // only asks it to give up.
        let cancelled = CancellationToken::new();
        let _cancel_on_drop = cancelled.clone().drop_guard();
        let (statements, told) = (self.statements.clone(), self.info.started.clone());
        let (effect, under_way) = (self.effect(), self.under_way().await);
        let writing = self.statements.on_planners(async move {
            let _under_way = under_way;
            let write = Write { statements: &statements, destination: &destination, effect, told, cancelled };
            match (write.once(job, job_info).await, again) {
                (Err(error @ QueryError::OutOfMemory(_)), Some((state, plan, info))) => {
                    let job = statements.plan_spilling(&state, &plan, error).await?;
                    destination.require_unchanged(&state).await?;
                    Write { destination: &destination.afresh()?, ..write }.once(job, info).await
                }
                (ended, _) => ended,
            }
        });
        let writing = self.statements.inner.tasks.spawn(writing);
        writing.await.map_err(|error| QueryError::Internal(format!("writing ended early: {error}")))?
    }
}

impl Statements {
    async fn publish(
        &self,
        intent: &mut Intent,
        target: &WriteTarget,
        destination: &Destination,
        finished: Finished,
        effect: Option<Effect>,
    ) -> Result<Written, QueryError> {
        let tokens = tokens_of(&finished)?;
        let rows = tokens.iter().map(|token| token.rows).sum();
        let staged = tokens.iter().map(|token| StagedFiles::decode(&token.token));
        let staged: Vec<StagedFiles> = staged.collect::<Result<_, _>>().map_err(QueryError::from)?;
        let counted = !matches!(destination, Destination::Managed(ManagedWrite { kind: Kind::Create(_), .. }));
        let effect = effect.map(|effect| effect.wrote(rows, counted));
        let journal = &self.inner.journal;
        match destination {
            Destination::Managed(write) => {
                let publication = publication_of(&staged, write.folder.place(), Vec::new())?;
                // The folders that this write adds to the table. The files of all tasks move into one.
                let folders = match publication.moves.is_empty() {
                    true => Vec::new(),
                    false => vec![write.folder.clone()],
                };
                let writers = self.stop_the_slower(&finished).await;
                let edits = journal.settle(intent, publication, writers).await?;
                let committed = self.commit(effect, edits, write, folders, rows).await;
                journal.committed(intent, committed).await?;
            }
            Destination::Files { remove, manifest, .. } => {
                let mut publication = publication_of(&staged, &target.target, remove.clone())?;
                if *manifest {
                    add_manifest(journal.runtime(), &mut publication, &staged, target, rows).await?;
                }
                let writers = self.stop_the_slower(&finished).await;
                journal.publish(intent, publication, writers, effect).await?;
            }
            Destination::Connected(_) => {
                return Err(QueryError::Internal("files were staged for a connector".to_string()));
            }
        }
        Ok(Written { rows, rejected: None, job: finished.job, stages: finished.stages })
    }

    /// Waits for attempts that another attempt of their task has beaten. Staged files are removed only after that.
    async fn stop_the_slower(&self, finished: &Finished) -> Writers {
        let quiet = tokio::time::timeout(NOTICE, self.inner.runner.quiet(finished.job)).await;
        Writers::of_finished(quiet.is_ok(), finished.stages.iter().all(|stage| stage.ran_once()))
    }

    /// Commits the one transaction that makes a managed write visible.
    async fn commit(
        &self,
        effect: Option<Effect>,
        mut edits: Vec<Edit>,
        write: &ManagedWrite,
        folders: Vec<OwnFolder>,
        rows: u64,
    ) -> Result<(), QueryError> {
        let catalog = &self.inner.catalog;
        let _turn = match write.is_alone {
            true => None,
            false => Some(self.inner.turns.shared(&write.record.id).await),
        };
        if let Some(temporary) = &write.temporary {
            let _changing = temporary.changing().await;
            let before = temporary.get(&write.name.table);
            if let (Some(read), Some(before)) = (&write.read, &before) {
                read.check(&before.record)?;
            }
            let (record, discarded) = next_record(write, before.as_ref(), folders, rows)?;
            edits.extend(catalog.note_temporary(&record));
            edits.extend(discarded.iter().map(|folder| catalog.discard_folder(folder, catalog.grace())));
            if let (Kind::Create(_), Some(replaced)) = (write.kind, &before) {
                edits.extend(catalog.discard_temporary(&replaced.record));
            }
            catalog.change(effect, |_| Ok(edits)).await?;
            temporary.put(write.name.clone(), record);
            return Ok(());
        }
        let may_replace = |now: &Record| write.read.as_ref().map_or(Ok(()), |read| read.check(now));
        if let Kind::Create(exists) = write.kind {
            let (record, _) = next_record(write, None, folders, rows)?;
            let created = catalog.create_with(effect, &write.name, record, exists, edits, may_replace).await?;
            return match created {
                true => Ok(()),
                // Another statement created the table first.
                false => Err(QueryError::AlreadyExists(format!("table '{}' already exists", write.name.table))),
            };
        }
        catalog
            .change(effect, |snapshot| {
                let before = snapshot.table(&write.name);
                before.map_or(Ok(()), |before| may_replace(&before.record))?;
                let (record, discarded) = next_record(write, before, folders, rows)?;
                edits.push(Edit::PutTable(write.name.clone(), record));
                edits.extend(discarded.iter().map(|folder| catalog.discard_folder(folder, catalog.grace())));
                Ok(edits)
            })
            .await?;
        Ok(())
    }
}

fn managed_plan(
    write: &ManagedWrite,
    target: FilesTable,
    table: TableReference,
    input: Arc<LogicalPlan>,
) -> Result<LogicalPlan, QueryError> {
    let input = as_kept(&write.record, &write.name.table, input)?;
    let source = provider_as_source(Arc::new(target));
    Ok(LogicalPlan::Dml(DmlStatement::new(table, source, WriteOp::Insert(InsertOp::Append), input)))
}

/// A write in progress.
struct Write<'a> {
    statements: &'a Statements,
    destination: &'a Destination,
    effect: Option<Effect>,
    /// Called with the job's id.
    told: Option<Started>,
    cancelled: CancellationToken,
}

impl Write<'_> {
    /// Runs a job, then publishes its staged files or removes them.
    async fn once(&self, job: PlannedJob, info: JobInfo) -> Result<Written, QueryError> {
        let Some(planned) = job.sink.clone() else {
            return Err(QueryError::Internal("the plan of a statement that writes does not say where to".to_string()));
        };
        let Some(target) = planned.sink.files() else { return self.once_connected(job, planned, info).await };
        let inner = &self.statements.inner;
        let folders = match self.destination {
            Destination::Managed(write) => vec![write.folder.clone()],
            Destination::Files { .. } | Destination::Connected(_) => Vec::new(),
        };
        let mut intent = inner.journal.begin(target.staging.clone(), folders).await?;
        let (job_id, finished) = self.ran(job, info).await;
        let ended = match finished {
            Ok(finished) => {
                let effect = self.effect.clone();
                self.statements.publish(&mut intent, &target, self.destination, finished, effect).await
            }
            Err(error) => Err(error),
        };
        match ended {
            Ok(written) => Ok(written),
            Err(error) if !intent.is_staging() => Err(error),
            Err(error) => {
                self.wait_for_attempts(job_id).await;
                Err(inner.journal.abandon(&mut intent, error).await)
            }
        }
    }
}

impl Write<'_> {
    /// Runs a job until it ends or the client leaves.
    async fn ran(&self, job: PlannedJob, info: JobInfo) -> (Option<JobId>, Result<Finished, QueryError>) {
        let job_id = Arc::new(OnceLock::new());
        let (noted, told) = (Arc::clone(&job_id), self.told.clone());
        let started: Started = Arc::new(move |id| {
            // A job starts once.
            let _ = noted.set(id);
            if let Some(told) = &told {
                told(id);
            }
        });
        let finished = tokio::select! {
            () = self.cancelled.cancelled() => Err(QueryError::Cancelled("the statement was cancelled".to_string())),
            finished = self.statements.inner.runner.run(job, info, Some(started)) => finished,
        };
        (job_id.get().copied(), finished)
    }

    /// Waits for attempts that outlive their job, because they could still stage files.
    async fn wait_for_attempts(&self, job: Option<JobId>) {
        if let Some(job) = job {
            let _ = tokio::time::timeout(NOTICE, self.statements.inner.runner.quiet(job)).await;
        }
    }

    /// Does the work of [`Write::once`] for a table of a connector.
    async fn once_connected(
        &self,
        job: PlannedJob,
        planned: PlannedSink,
        info: JobInfo,
    ) -> Result<Written, QueryError> {
        let sinking = Sinking::begin(&self.statements.inner.catalog, planned).await?;
        let (job_id, finished) = self.ran(job, info).await;
        let failed = match finished {
            Ok(finished) => match self.publish_connected(&sinking, finished).await {
                Ok(published) => return published,
                Err(error) => error,
            },
            Err(error) => error,
        };
        self.wait_for_attempts(job_id).await;
        sinking.abandon().await;
        Err(failed)
    }

    /// Publishes as [`Sinking::publish`] does.
    async fn publish_connected(
        &self,
        sinking: &Sinking,
        finished: Finished,
    ) -> Result<Result<Written, QueryError>, QueryError> {
        let staged = tokens_of(&finished)?;
        if staged.len() != finished.parts.len() {
            return Err(QueryError::Internal("a task that wrote did not say what".to_string()));
        }
        let staged_rows: u64 = staged.iter().map(|token| token.rows).sum();
        self.statements.stop_the_slower(&finished).await;
        let created = match self.destination {
            Destination::Connected(created) => created.as_ref(),
            Destination::Managed(_) | Destination::Files { .. } => None,
        };
        let catalog = &self.statements.inner.catalog;
        let (mut rows, mut rejected) = (staged_rows, None);
        let published = sinking.publish(staged, async |edits, aside: Option<Rejected>| {
            rows = staged_rows - aside.map_or(0, |aside| aside.written);
            rejected = aside.map(|aside| aside.rows);
            let effect = self.effect.clone().map(|effect| effect.wrote(rows, created.is_none()));
            match created {
                None => catalog.change(effect, |_| Ok(edits)).await.map(|_| ()),
                Some(table) => table.create(catalog, effect, edits).await,
            }
        });
        let published = published.await?;
        Ok(published.map(|()| Written { rows, rejected, job: finished.job, stages: finished.stages }))
    }
}

impl NewTable {
    /// Adds the table to the catalog, with further edits in the same transaction.
    async fn create(
        &self,
        catalog: &Arc<Catalog>,
        effect: Option<Effect>,
        mut edits: Vec<Edit>,
    ) -> Result<(), QueryError> {
        let Self { name, record, exists, temporary } = self;
        let record = Record::Table(record.clone());
        let Some(temporary) = temporary else {
            let created = catalog.create_with(effect, name, record, *exists, edits, |_| Ok(())).await?;
            // Another statement created the table first.
            let taken = || QueryError::AlreadyExists(format!("table '{}' already exists", name.table));
            return if created { Ok(()) } else { Err(taken()) };
        };
        let _changing = temporary.changing().await;
        edits.extend(catalog.note_temporary(&record));
        if let Some(replaced) = temporary.get(&name.table) {
            edits.extend(catalog.discard_temporary(&replaced.record));
        }
        catalog.change(effect, |_| Ok(edits)).await?;
        temporary.put(name.clone(), record);
        Ok(())
    }
}

/// Returns what the tasks of a job have written.
fn tokens_of(finished: &Finished) -> Result<Vec<SinkToken>, QueryError> {
    let staged = finished.parts.iter().filter_map(|part| part.staged.as_ref());
    Ok(staged.map(|bytes| SinkToken::of_report(bytes)).collect::<Result<_, _>>()?)
}

/// Returns the record after the write, and the folders that no longer belong to the table.
fn next_record(
    write: &ManagedWrite,
    before: Option<&Arc<Held>>,
    folders: Vec<OwnFolder>,
    rows: u64,
) -> Result<(Record, Vec<OwnFolder>), QueryError> {
    let mut table = match write.kind {
        Kind::Create(_) => write.record.clone(),
        Kind::Append | Kind::Overwrite => match before.map(|held| &held.record) {
            Some(Record::Table(table)) if table.id == write.record.id => table.clone(),
            _ => {
                return Err(QueryError::Invalid(format!(
                    "table '{}' was dropped or replaced while rows were written to it; nothing was inserted",
                    write.name.table
                )));
            }
        },
    };
    let mut discarded = Vec::new();
    if let Some(managed) = table.managed_mut() {
        if write.kind == Kind::Overwrite {
            discarded = std::mem::take(&mut managed.folders);
            managed.rows = 0;
        }
        managed.folders.extend(folders);
        managed.rows += rows;
    }
    Ok((Record::Table(table), discarded))
}

fn table_of(held: &Held) -> Result<&TableRecord, QueryError> {
    match &held.record {
        Record::Table(table) => Ok(table),
        Record::View(_) => {
            Err(QueryError::Invalid(format!("'{}' is a view, which cannot be written to", held.name.table)))
        }
    }
}

/// Refuses tables whose files cannot be added to. Files are added, never extended.
fn require_writable(state: &SessionState, table: &str, id: &str, external: &External) -> Result<(), QueryError> {
    require_writable_format(state, &external.format)?;
    require_writable_options(&external.options)?;
    let Some(location) = external.locations.first() else { return Ok(()) };
    if !location.url.ends_with('/') {
        return Err(QueryError::Invalid(format!(
            "table '{table}' is the file {}, which cannot be added to: make the table over a folder (a location that ends with /)",
            location.url
        )));
    }
    match unread_additions(state, id, external)? {
        None => Ok(()),
        Some(added) => Err(QueryError::Invalid(format!(
            "table '{table}' would not see what is added to it: it reads {}{}, and new files are called {added}: make the table over the \
             folder (a location that ends with /)",
            location.url,
            location.glob.as_deref().unwrap_or_default()
        ))),
    }
}

/// Returns the file for a folder of Parquet files when no rows were written. The file holds the schema.
fn empty_file(copy: &CopyTo) -> Result<Option<(ListingTableUrl, Vec<u8>)>, QueryError> {
    let url = ListingTableUrl::parse(&copy.output_url)?;
    if !copy.file_type.get_ext().eq_ignore_ascii_case("parquet")
        || !url.is_collection()
        || !copy.partition_by.is_empty()
    {
        return Ok(None);
    }
    let schema = Arc::clone(copy.input.schema().inner());
    let mut file = Vec::new();
    let writer = ArrowWriter::try_new(&mut file, schema, None).and_then(ArrowWriter::close);
    // A schema that Parquet cannot store is refused by the writer.
    Ok(writer.is_ok().then_some((url, file)))
}

fn is_json(format: &str) -> bool {
    ["json", "ndjson"].contains(&format.to_lowercase().as_str())
}

fn require_writable_format(state: &SessionState, format: &str) -> Result<(), QueryError> {
    match format.to_lowercase().as_str() {
        "parquet" | "csv" | "json" | "ndjson" | "arrow" => Ok(()),
        lines if Registry::of(state.config()).format(lines).is_some() => Ok(()),
        other => Err(QueryError::Unsupported(format!(
            "files of the format {} are only read: write PARQUET, CSV, JSON or ARROW",
            other.to_uppercase()
        ))),
    }
}

/// Refuses structs without fields, which Parquet cannot store.
fn require_writable_columns(format: &str, schema: &Schema) -> Result<(), QueryError> {
    let is_parquet = format.eq_ignore_ascii_case("parquet");
    match schema.fields().iter().find(|field| is_parquet && windlass_engine::has_fieldless(field.data_type())) {
        Some(field) => Err(QueryError::Unsupported(format!(
            "column '{}' is or holds a struct without fields, which Parquet cannot store: leave it out, or write JSON or ARROW",
            field.name()
        ))),
        None => Ok(()),
    }
}

/// Refuses options that DataFusion uses when it reads and ignores when it writes. A table with them could not read the files that
/// INSERT adds.
fn require_writable_options<'a>(options: impl IntoIterator<Item = (&'a String, &'a String)>) -> Result<(), QueryError> {
    for (key, value) in options {
        match key.to_lowercase().trim_start_matches("format.") {
            "newline_delimited" if value.eq_ignore_ascii_case("false") => {
                return Err(QueryError::Unsupported(
                    "JSON files that are one array (newline_delimited false) are only read: rows are written one on each line".to_string(),
                ));
            }
            "terminator" if !["\n", "\\n"].contains(&value.as_str()) => {
                return Err(QueryError::Unsupported(format!(
                    "CSV files whose rows end with '{value}' (terminator) are only read: rows are written one on each line"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

fn fresh_folder(table: &TableRecord) -> Result<OwnFolder, QueryError> {
    match table.managed() {
        Some(managed) => Ok(OwnFolder::new_in(managed.root.place(), "")?),
        None => Err(QueryError::Internal("a table over files of someone else has no folder of ours".to_string())),
    }
}

//! Rows of a load that its target does not take: they are set aside with their reasons, up to a limit, as lines of JSON in a file.
//!
//! ```json
//! {"reason":"the column n: 70000 is out of range","id":7,"n":"70000"}
//! ```

use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::arrow::json::LineDelimitedWriter;
use datafusion::arrow::json::writer::{LineDelimited, WriterBuilder};
use datafusion::common::cast::as_float64_array;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, plan_err};
use datafusion::execution::runtime_env::RuntimeEnv;
use object_store::buffered::BufWriter;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use windlass_engine::Place;
use windlass_engine::connector::{OptionKind, OptionSpec, Options, Target};

pub(crate) const REJECTS: OptionSpec = OptionSpec::new(
    "rejects",
    OptionKind::Text,
    "File that ends in .json, or folder, for the rows of a COPY that the target does not take, each with its reason.",
)
.names_table();
pub(crate) const MAX_REJECTS: OptionSpec =
    OptionSpec::new("max_rejects", OptionKind::Integer, "Most rows that a COPY sets aside before it fails.")
        .names_table();

/// Most rows that a load may set aside: one attempt keeps its own in memory.
const MOST: i64 = 100_000;
/// The column of the reasons.
pub(crate) const REASON: &str = "reason";
/// Reasons that an error names.
pub(crate) const NAMED: usize = 3;
/// Number of a staged row.
pub(crate) const ROW: &str = "windlass_row";
/// The end of the names of the tables beside staging tables, which have the lines of rows that were not sent.
pub(crate) const BESIDE: &str = "_no";
/// Lines that travel together.
pub(crate) const AT_ONCE: usize = 500;

/// What becomes of such rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rejects {
    /// The file.
    pub place: Place,
    /// Most of them before the load fails.
    pub most: u64,
}

impl Rejects {
    /// Returns what a load's options say. `None`: such a row fails the load. `write`: the id of the write, which names a file in a folder.
    ///
    /// # Errors
    /// They do not fit each other, or the rows have a column of the name that the reasons have.
    pub fn of(options: &Options, write: &str, rows: &Schema) -> Result<Option<Self>> {
        let most = options.integer(MAX_REJECTS.name);
        let Some(place) = options.text(REJECTS.name) else {
            return match most {
                Some(_) => {
                    plan_err!("the option 'max_rejects' wants 'rejects': a place for the rows that are set aside")
                }
                None => Ok(None),
            };
        };
        let most = most.unwrap_or(0);
        if !(0..=MOST).contains(&most) {
            return plan_err!("max_rejects is {most}: it is between 0 and {MOST}");
        }
        if rows.field_with_name(REASON).is_ok() {
            return plan_err!("the rows have a column '{REASON}', as the rejects have: rename it with AS");
        }
        let place = Place::parse(place)?;
        let place = match place.path().extension() {
            Some("json" | "jsonl" | "ndjson") if !place.is_folder() => place,
            None => place.as_folder().file(&format!("rejects-{write}.json"))?,
            _ if place.is_folder() => place.file(&format!("rejects-{write}.json"))?,
            Some(_) => {
                return plan_err!(
                    "the rejects are lines of JSON: name a file that ends in .json, or a folder, and not {place}"
                );
            }
        };
        Ok(Some(Self { place, most: most.unsigned_abs() }))
    }

    /// Looks whether the file can be written: an empty one comes and goes.
    ///
    /// # Errors
    /// It cannot.
    pub async fn check(&self, runtime: &RuntimeEnv) -> Result<()> {
        let store = runtime.object_store(self.place.store())?;
        let wrong =
            |error| exec_datafusion_err!("the rejects of the load cannot be written to {}: {error}", self.place);
        // What is there already stays until there are rejects.
        if store.head(self.place.path()).await.is_ok() {
            return Ok(());
        }
        store.put(self.place.path(), PutPayload::default()).await.map_err(wrong)?;
        store.delete(self.place.path()).await.map_err(wrong)
    }

    /// Begins the file.
    fn open(&self, runtime: &RuntimeEnv) -> Result<RejectsFile> {
        let store: Arc<dyn ObjectStore> = runtime.object_store(self.place.store())?;
        Ok(RejectsFile { file: BufWriter::new(store, self.place.path().clone()), place: self.place.to_string() })
    }

    /// Writes the file of what is in these tables, if there is something.
    pub async fn keep(&self, lines: &mut dyn Lines, tables: &[String], runtime: &RuntimeEnv) -> Result<()> {
        let mut file = None;
        for table in tables {
            let mut last = 0;
            loop {
                let page = lines.page(table, last).await?;
                let Some((n, _)) = page.last() else { break };
                last = *n;
                let file = match &mut file {
                    Some(file) => file,
                    None => file.insert(self.open(runtime)?),
                };
                for (_, line) in &page {
                    file.write(line).await?;
                }
            }
        }
        match file {
            Some(file) => file.close().await,
            None => Ok(()),
        }
    }

    /// Returns the text that EXPLAIN shows behind the target.
    pub fn shown(&self) -> String {
        format!(", rejects={}, max_rejects={}", self.place, self.most)
    }

    /// Says that a load has failed by more such rows than it may have.
    pub fn exceeded(&self, lines: &[String]) -> DataFusionError {
        let reasons: Vec<String> = lines.iter().take(NAMED).map(|line| reason_of(line)).collect();
        exec_datafusion_err!(
            "the target does not take more than {} rows of the load (max_rejects), so nothing was loaded; rows and reasons are in {}: {}",
            self.most,
            self.place,
            reasons.join("; ")
        )
    }
}

/// Tables of lines, numbered from 1 on.
#[async_trait]
pub(crate) trait Lines: Send {
    /// The next lines behind the number `after`, at most [`AT_ONCE`]. None: that was all.
    async fn page(&mut self, table: &str, after: u64) -> Result<Vec<(u64, String)>>;
}

/// The statements that put lines into a table. `literal`: a text as SQL writes it.
pub(crate) fn inserts(table: &str, lines: &[String], literal: fn(&str) -> String) -> impl Iterator<Item = String> {
    lines.chunks(AT_ONCE).map(move |lines| {
        let values: Vec<String> = lines.iter().map(|line| format!("({})", literal(line))).collect();
        format!("INSERT INTO {table} (line) VALUES {}", values.join(", "))
    })
}

/// The numbers and lines of rows that a server has sent.
pub(crate) fn numbered(rows: Vec<Vec<Option<String>>>) -> Vec<(u64, String)> {
    let line = |row: Vec<Option<String>>| match <[_; 2]>::try_from(row) {
        Ok([Some(n), Some(line)]) => Some((n.parse().ok()?, line)),
        _ => None,
    };
    rows.into_iter().filter_map(line).collect()
}

/// Of the tables of a write, whose names begin with `prefix`, those with the lines of one attempt of each task.
pub(crate) fn of_attempts(tables: Vec<String>, prefix: &str) -> Vec<String> {
    let mut tasks = BTreeSet::new();
    let is_first = |table: &String| {
        let rest = table.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(BESIDE));
        rest.and_then(|rest| rest.split('_').next()).is_some_and(|task| tasks.insert(task.to_string()))
    };
    tables.into_iter().filter(is_first).collect()
}

/// Numbered rows that are moved together, and in halves where the server refuses some of them.
pub(crate) struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// Rows from 1 to `last`.
    pub fn up_to(last: u64) -> Self {
        Self(Vec::from([Range { start: 1, end: last + 1 }]))
    }

    /// The rows that are to be moved next.
    pub fn next(&mut self) -> Option<Range<u64>> {
        self.0.pop().filter(|range| !range.is_empty())
    }

    /// Takes rows back that were refused. Returns the row if it is alone.
    pub fn refused(&mut self, Range { start, end }: Range<u64>) -> Option<u64> {
        if end - start <= 1 {
            return Some(start);
        }
        let middle = start + (end - start) / 2;
        self.0.extend([middle..end, start..middle]);
        None
    }
}

/// A file that is being written. It appears when it is closed.
struct RejectsFile {
    file: BufWriter,
    place: String,
}

impl RejectsFile {
    pub async fn write(&mut self, line: &str) -> Result<()> {
        let written = async {
            self.file.write_all(line.as_bytes()).await?;
            self.file.write_all(b"\n").await
        };
        written.await.map_err(|error| exec_datafusion_err!("{} cannot be written: {error}", self.place))
    }

    pub async fn close(mut self) -> Result<()> {
        let closed = self.file.shutdown().await;
        closed.map_err(|error| exec_datafusion_err!("{} cannot be written: {error}", self.place))
    }
}

/// Refuses the options for a table that stays.
///
/// # Errors
/// The table may get many loads.
pub(crate) fn check_target(options: &Options, target: Target) -> Result<()> {
    let given = [REJECTS.name, MAX_REJECTS.name].into_iter().find(|name| options.given().contains_key(*name));
    match given.filter(|_| target != Target::Any) {
        Some(name) => plan_err!("the option '{name}' is of one load, and a table may get many: it is for COPY … TO"),
        None => Ok(()),
    }
}

/// Returns a row and the reason why it is set aside, as a line without its end.
pub(crate) fn line(rows: &RecordBatch, row: usize, reason: &str) -> Result<String> {
    let one = rows.slice(row, 1);
    let columns = one.columns().iter().map(in_json).collect::<Result<Vec<_>>>()?;
    let schema = one.schema();
    let field = |(field, column): (&FieldRef, &ArrayRef)| Field::new(field.name(), column.data_type().clone(), true);
    let fields = schema.fields().iter().zip(&columns).map(field);
    let one = RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns)?;
    let mut json = Vec::new();
    let mut writer: LineDelimitedWriter<_> =
        WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut json);
    writer.write(&one)?;
    writer.finish()?;
    let row = String::from_utf8_lossy(&json);
    Ok(format!(
        "{{\"{REASON}\":{},{}",
        serde_json::Value::from(reason),
        row.strip_prefix('{').unwrap_or(&row).trim_end()
    ))
}

/// A column as JSON holds it: numbers that JSON has not are text.
fn in_json(column: &ArrayRef) -> Result<ArrayRef> {
    Ok(match column.data_type() {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let wide = cast(column, &DataType::Float64)?;
            let is_odd = as_float64_array(&wide)?.iter().flatten().any(|number: f64| !number.is_finite());
            if is_odd { cast(column, &DataType::Utf8)? } else { Arc::clone(column) }
        }
        DataType::Interval(_) | DataType::Duration(_) => cast(column, &DataType::Utf8)?,
        _ => Arc::clone(column),
    })
}

fn reason_of(line: &str) -> String {
    let parsed = serde_json::from_str::<serde_json::Value>(line).ok();
    let reason = parsed.as_ref().and_then(|line| line.get(REASON)?.as_str());
    reason.unwrap_or(line).to_string()
}

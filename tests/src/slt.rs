//! Runs the sqllogictest files under `tests/slt` against an engine.
//!
//! `tests/slt/*.slt` is plain SQL and must pass on DataFusion alone as on Windlass. `tests/slt/windlass/*.slt` covers features that only Windlass has.
//! `tests/slt/right/*.slt` holds right answers where DataFusion alone is wrong, over the files that `tests/data/right/*.py` write to `$DATA/right/`. Files may
//! use `$__TEST_DIR__`, a fresh folder for each file and engine, and `$DATA`, the generated test data. A file drops the tables that it creates, because on a
//! cluster the next file shares the catalog.
//!
//! `WINDLASS_SLT=complete cargo test -p windlass-tests slt` writes DataFusion's answers into the files, to be read before they are committed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use sqllogictest::{AsyncDB, ColumnType, DBOutput, Runner};

use crate::Engine;

/// Files that every engine must pass.
pub fn plain() -> Vec<PathBuf> {
    files("slt")
}

/// Files about features that only Windlass has, or has right.
pub fn windlass() -> Vec<PathBuf> {
    [files("slt/windlass"), files("slt/right")].concat()
}

/// Runs files one after the other. `connect` returns a connection for each file and for each further one that a file names.
///
/// # Panics
/// When a file fails, after all have run; the message lists the first failure of each.
pub async fn run<C, F>(files: &[PathBuf], connect: C)
where
    C: Fn() -> F,
    F: Future<Output = Arc<dyn Engine>>,
{
    assert!(!files.is_empty(), "no sqllogictest file");
    let complete = std::env::var("WINDLASS_SLT").is_ok_and(|value| value == "complete");
    let mut failures = Vec::new();
    for file in files {
        let mut runner = Runner::new(|| async { Ok(Connection { engine: connect().await }) });
        runner.with_column_validator(sqllogictest::strict_column_validator);
        runner.set_var("DATA".to_owned(), crate::data().display().to_string());
        runner.set_var("WORKSPACE".to_owned(), crate::workspace().display().to_string());
        if complete {
            let validate = sqllogictest::default_validator;
            let normalize = sqllogictest::default_normalizer;
            let columns = sqllogictest::strict_column_validator;
            runner.update_test_file(file, " ", validate, normalize, columns).await.expect("the file can be rewritten");
            failures.push(format!("{}: rewritten; read it", file.display()));
            continue;
        }
        let outcome = match runner.run_file_async(file).await {
            Ok(()) => runner.run_script_async(LEFT_BEHIND).await,
            failed => failed,
        };
        if let Err(error) = outcome {
            failures.push(format!("{}: {}", file.display(), error.display(false)));
        }
    }
    assert!(failures.is_empty(), "{} of {} files failed\n{}", failures.len(), files.len(), failures.join("\n"));
}

const LEFT_BEHIND: &str = "
query T
SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'
----
";

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("a folder can be listed").path());
    let mut files: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|kind| kind == "slt")).collect();
    files.sort();
    files
}

struct Connection {
    engine: Arc<dyn Engine>,
}

#[derive(Debug)]
struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

#[async_trait]
impl AsyncDB for Connection {
    type Error = Refused;
    type ColumnType = Kind;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<Kind>, Refused> {
        let (schema, batches) = self.engine.sql(sql).await.map_err(Refused)?;
        if schema.fields().is_empty() && batches.iter().all(|batch| batch.num_rows() == 0) {
            return Ok(DBOutput::StatementComplete(0));
        }
        let rows = rows(&schema, &batches).map_err(Refused)?;
        Ok(DBOutput::Rows { types: schema.fields().iter().map(|field| Kind::of(field.data_type())).collect(), rows })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        self.engine.name()
    }

    async fn sleep(duration: std::time::Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Letter of a column in the line that opens a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Boolean,
    Date,
    Integer,
    /// Floating point and decimal numbers.
    Number,
    Text,
    Timestamp,
    /// Lists, structs, intervals, binary and so on.
    Other,
}

impl Kind {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Boolean,
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Timestamp(_, _) => Self::Timestamp,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Dictionary(_, values) => Self::of(values),
            integer if integer.is_integer() => Self::Integer,
            number if number.is_numeric() => Self::Number,
            _ => Self::Other,
        }
    }
}

impl ColumnType for Kind {
    fn from_char(letter: char) -> Option<Self> {
        Some(match letter {
            'B' => Self::Boolean,
            'D' => Self::Date,
            'I' => Self::Integer,
            'R' => Self::Number,
            'T' => Self::Text,
            'P' => Self::Timestamp,
            '?' => Self::Other,
            _ => return None,
        })
    }

    fn to_char(&self) -> char {
        match self {
            Self::Boolean => 'B',
            Self::Date => 'D',
            Self::Integer => 'I',
            Self::Number => 'R',
            Self::Text => 'T',
            Self::Timestamp => 'P',
            Self::Other => '?',
        }
    }
}

fn rows(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<Vec<String>>, String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        if batch.num_columns() != schema.fields().len() {
            return Err(format!("a batch of {} columns in a result of {}", batch.num_columns(), schema.fields().len()));
        }
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        for at in 0..batch.num_rows() {
            let cell = |(column, formatter): (&Arc<dyn Array>, &ArrayFormatter)| match float(column.as_ref(), at) {
                Some(float) => float,
                None => text(&formatter.value(at).to_string()),
            };
            rows.push(batch.columns().iter().zip(&columns).map(cell).collect());
        }
    }
    Ok(rows)
}

/// A floating point number with twelve digits: the last ones of a sum depend on the order of addition.
fn float(column: &dyn Array, at: usize) -> Option<String> {
    let value = match column.data_type() {
        _ if column.is_null(at) => return None,
        DataType::Float64 => column.as_primitive::<Float64Type>().value(at),
        DataType::Float32 => return Some(column.as_primitive::<Float32Type>().value(at).to_string()),
        _ => return None,
    };
    let rounded: f64 = format!("{value:.11e}").parse().expect("a number that was just printed");
    // Zero has no sign here, as in SQL.
    Some(if rounded == 0.0 { "0".to_owned() } else { rounded.to_string() })
}

/// One line that is not empty, because lines and spaces separate the cells of a file.
fn text(value: &str) -> String {
    if value.is_empty() { "(empty)".to_owned() } else { value.replace('\n', "\\n") }
}

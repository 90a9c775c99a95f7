//! The sqllogictest files of DataFusion and SQLite, statement by statement: on DataFusion in this process and, over stock ADBC, on a cluster.
//!
//! The expected results in the files are ignored. Each statement runs on both, and Windlass must give DataFusion's answer, except for the statements listed
//! with reasons in `tests/data/oracle`. A statement that DataFusion refuses is not compared: its files use functions, tables and settings of its own test
//! program, and SQLite's use features of SQLite.

use super::known::Known;
use super::outside::Outside;
use super::values::{Row, Value, compare, rows};
use crate::cluster::Processes;
use crate::{Engine, SingleProcess};
use futures::FutureExt;
use regex::Regex;
use sqllogictest::{Condition, DefaultColumnType, Record};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// A statement and its place in a file.
struct Asked {
    line: u32,
    sql: String,
}

/// Folder of the crate datafusion-sqllogictest, which cargo fetches for `make data`.
fn package() -> PathBuf {
    let link = crate::data().with_file_name("datafusion-sqllogictest");
    assert!(link.is_dir(), "no {}: run `make data`", link.display());
    link
}

/// A set of files, and the way to read them.
struct Corpus {
    folder: PathBuf,
    files: Vec<PathBuf>,
    known: Known,
    statements: fn(&Path) -> Vec<Asked>,
    /// Replaces the paths in a statement by those of an engine: the package's folder, and a folder to write to.
    placed: fn(&str, &Path, &Path) -> String,
}

/// Files below `folder` with this ending.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder can be listed") {
            let path = entry.expect("a folder can be listed").path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|kind| kind == ending) => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

fn statements(file: &Path) -> Vec<Asked> {
    let runs = |conditions: &[Condition]| {
        conditions.iter().all(|condition| match condition {
            Condition::OnlyIf { label } => label == "DataFusion",
            Condition::SkipIf { label } => label != "DataFusion",
        })
    };
    let records = sqllogictest::parse_file::<DefaultColumnType>(file).expect("a file of DataFusion can be parsed");
    let mut asked = Vec::new();
    for record in records {
        match record {
            Record::Statement { loc, conditions, sql, .. } | Record::Query { loc, conditions, sql, .. }
                if runs(&conditions) =>
            {
                asked.push(Asked { line: loc.line(), sql });
            }
            Record::Halt { .. } => break,
            _ => {}
        }
    }
    asked
}

/// Tables that Windlass could not make, and everything that depends on them: those refused for a known reason, and those whose files are not part of the
/// package. A missing folder is an empty table to DataFusion, and an error to Windlass.
#[derive(Default)]
struct Absent(Vec<String>);

impl Absent {
    /// Whether a missing table explains why Windlass refuses a statement.
    fn explains(&mut self, sql: &str, error: &str) -> bool {
        let lacks = |table: &String| error.contains(&format!("'{table}' not found"));
        let explains = error.contains("there is no file or folder at") || self.0.iter().any(lacks);
        if explains {
            self.remember(sql);
        }
        explains
    }

    /// Remembers the table or view that a refused statement would have made.
    fn remember(&mut self, sql: &str) {
        let words: Vec<String> = sql.split_whitespace().take(8).map(str::to_lowercase).collect();
        let name = words.iter().position(|word| word == "table" || word == "view").map(|at| match words.get(at + 1) {
            Some(word) if word == "if" => words.get(at + 4),
            other => other,
        });
        if words.first().is_some_and(|word| word == "create")
            && let Some(name) = name.flatten()
        {
            let name = name.split('(').next().unwrap_or_default().trim_matches(['"', ';']);
            self.0.push(name.rsplit('.').next().unwrap_or_default().to_owned());
        }
    }
}

/// Replaces the paths by those of an engine.
fn placed(sql: &str, package: &Path, scratch: &Path) -> String {
    let scratch = scratch.display().to_string();
    let sql = sql.replace("test_files/scratch", &scratch).replace("$__TEST_DIR__", &scratch);
    let package = package.parent().expect("the files lie in a package");
    sql.replace("'test_files/", &format!("'{}/test_files/", package.display()))
        .replace("'data/", &format!("'{}/data/", package.display()))
}

/// Marks keys as not enforced, as Windlass requires; DataFusion does not enforce them either.
fn with_keys_not_enforced(sql: &str) -> String {
    static KEY: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?i)\b(primary\s+key|unique)\b(\s*\([^)]*\))?").expect("it is a pattern"));
    match sql.trim_start().to_lowercase().starts_with("create ") {
        true => KEY.replace_all(sql, "$0 NOT ENFORCED").into_owned(),
        false => sql.to_owned(),
    }
}

/// Drops everything: the next file shares the catalog.
async fn drop_all(engine: &dyn Engine) {
    let list = "select table_type, table_schema, table_name from information_schema.tables where table_schema <> 'information_schema'";
    let (_, batches) = engine.sql(list).await.expect("tables can be listed");
    for row in rows(&batches).expect("names can be shown") {
        let text = |at: usize| match &row[at] {
            Value::Exact(text) => text.clone(),
            other => panic!("not a name: {other:?}"),
        };
        let kind = if text(0) == "VIEW" { "view" } else { "table" };
        engine.sql(&format!("drop {kind} \"{}\".\"{}\"", text(1), text(2))).await.expect("it can be dropped");
    }
}

async fn alone(reference: &SingleProcess, sql: &str) -> Option<Vec<Row>> {
    let answered = AssertUnwindSafe(reference.sql(sql)).catch_unwind().await.ok()?.ok()?;
    rows(&answered.1).ok()
}

async fn run(Corpus { folder, files, known, statements, placed }: Corpus) {
    let cluster = Processes::start();
    let (mut compared, mut differ, mut excused, mut missing) = (0, Vec::new(), 0, 0);
    for file in files {
        let name = file.strip_prefix(&folder).expect("it lies there").display().to_string();
        let scratch = tempfile::tempdir().expect("a folder can be made");
        let (theirs, ours) = (scratch.path().join("a"), scratch.path().join("b"));
        for folder in [&theirs, &ours] {
            std::fs::create_dir(folder).expect("a folder can be made");
        }
        let reference = SingleProcess::new();
        let windlass = Outside::adbc(&cluster.url);
        let mut absent = Absent::default();
        for asked in statements(&file) {
            let expected = alone(&reference, &placed(&asked.sql, &folder, &theirs)).await;
            let actual = windlass.sql(&with_keys_not_enforced(&placed(&asked.sql, &folder, &ours))).await;
            let Some(expected) = expected else { continue };
            // Output about plans and about the engine itself differs between engines.
            let lower = asked.sql.trim_start().to_lowercase();
            if lower.starts_with("explain") || lower.contains("information_schema") || lower.starts_with("show ") {
                continue;
            }
            compared += 1;
            let wrong = match actual {
                Err(error) => Some(format!("an error: {error}")),
                // The reply to a statement that writes differs between engines.
                Ok(_) if ["insert", "copy", "create"].iter().any(|word| lower.starts_with(word)) => None,
                Ok((_, batches)) => rows(&batches).and_then(|actual| compare(&actual, &expected, false)).err(),
            };
            match wrong {
                Some(wrong) if absent.explains(&asked.sql, &wrong) => missing += 1,
                Some(_) if known.explains(&name, &asked.sql) => {
                    absent.remember(&asked.sql);
                    excused += 1;
                }
                Some(wrong) => differ.push(format!("{name}:{}: {wrong}\n{}", asked.line, asked.sql)),
                None => {}
            }
        }
        drop(windlass);
        drop_all(&Outside::adbc(&cluster.url)).await;
    }
    println!(
        "{compared} statements were compared; {excused} differ for known reasons, {missing} lack a table or its files"
    );
    assert!(compared > 100, "only {compared} statements were compared");
    assert!(differ.is_empty(), "{} of {compared} statements differ\n{}", differ.len(), differ.join("\n\n"));
}

/// Runs a part of the files, or with `ORACLES=all` all of them.
#[tokio::test(flavor = "multi_thread")]
async fn datafusions_own_files() {
    let folder = package();
    let files = files(&folder.join("test_files"), "slt").into_iter();
    let files = match super::whole() {
        true => files.collect(),
        false => files.skip(7).step_by(25).collect(),
    };
    run(Corpus { folder: folder.join("test_files"), files, known: Known::read("datafusion.tsv"), statements, placed })
        .await;
}

/// Interval at which statements that only read are asked: there are six million.
const EVERY: usize = 1000;

/// Statements of a SQLite file for engines such as PostgreSQL.
fn of_sqlite(file: &Path) -> Vec<Asked> {
    let text = std::fs::read_to_string(file).expect("a file of SQLite can be read").replace('\r', "");
    let (mut asked, mut read, mut line) = (Vec::new(), 0, 1);
    for record in text.split("\n\n") {
        let first = line;
        line += record.lines().count() as u32 + 1;
        let mut lines = record.lines().skip_while(|line| line.is_empty() || line.starts_with('#'));
        let mut runs = true;
        let kind = lines.by_ref().find_map(|line| {
            let mut words = line.split_whitespace();
            match (words.next()?, words.next()) {
                ("skipif", Some(engine)) => runs &= engine != "postgresql",
                ("onlyif", Some(engine)) => runs &= engine == "postgresql",
                (kind @ ("statement" | "query"), _) => return Some(kind),
                _ => runs = false,
            }
            None
        });
        let (Some(kind), true) = (kind, runs) else { continue };
        let sql = lines.take_while(|line| *line != "----").collect::<Vec<_>>().join("\n");
        if kind == "query" {
            read += 1;
            if read % EVERY != 1 {
                continue;
            }
        }
        match asked.last_mut() {
            Some(Asked { sql: before, .. }) if goes_on(before, &sql) => {
                let values = sql.find(VALUES).map_or("", |at| &sql[at + VALUES.len()..]);
                *before = format!("{before},{values}");
            }
            _ => asked.push(Asked { line: first, sql }),
        }
    }
    asked
}

const VALUES: &str = " VALUES";

/// Whether `sql` inserts into the same table as `before`: one INSERT of all rows writes one file.
fn goes_on(before: &str, sql: &str) -> bool {
    let into = |sql: &str| sql.split_once(VALUES).map(|(into, _)| into.to_owned());
    sql.starts_with("INSERT INTO ") && into(sql).is_some() && into(before) == into(sql)
}

/// Removes keys, which DataFusion does not enforce.
fn without_keys(sql: &str, _: &Path, _: &Path) -> String {
    match sql.trim_start().to_lowercase().starts_with("create table") {
        true => sql.replace(" PRIMARY KEY", "").replace(" UNIQUE", ""),
        false => sql.to_owned(),
    }
}

/// Uses the folder `test` of SQLite's sqllogictest, which no registry has: `make sqlite SQLITE_FILES=folder`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "its files come from SQLite's own repository: make sqlite"]
async fn sqlites_own_files() {
    let folder = PathBuf::from(std::env::var_os("SQLITE_FILES").expect("SQLITE_FILES is the folder of SQLite's files"));
    let files = files(&folder, "test");
    let known = Known::read("sqlite.tsv");
    run(Corpus { folder, files, known, statements: of_sqlite, placed: without_keys }).await;
}

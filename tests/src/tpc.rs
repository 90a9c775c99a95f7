//! TPC-H and TPC-DS: the tables, the queries and their required answers.
//!
//! Data and texts are generated (`tests/data/generate.py`, which also lists every text that differs from the generator's, with the reason). DataFusion runs all
//! 22 and all 99, and each returns rows; a suite fails when that is no longer so.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use tokio::sync::OnceCell;

use crate::answer::Answer;
use crate::{Engine, SingleProcess};

pub static TPCH: Suite = Suite { name: "TPC-H", folder: "tpch-sf0.05", queries: 22, answers: OnceCell::const_new() };
pub static TPCDS: Suite = Suite { name: "TPC-DS", folder: "tpcds-sf0.1", queries: 99, answers: OnceCell::const_new() };

pub struct Suite {
    name: &'static str,
    folder: &'static str,
    queries: usize,
    /// Answers of the reference, which runs each query once per test process, however many engines are compared with it.
    answers: OnceCell<BTreeMap<String, Answer>>,
}

impl Suite {
    /// Creates the tables, runs every query and compares. Returns the time of each query.
    ///
    /// # Panics
    /// When an answer is wrong or missing; the message lists all such answers.
    pub async fn run(&self, engine: &dyn Engine) -> BTreeMap<String, Duration> {
        let answers = self.answers.get_or_init(|| self.reference()).await;
        self.create_tables(engine).await;
        let mut wrong = Vec::new();
        let mut times = BTreeMap::new();
        for (name, query) in self.queries() {
            let start = Instant::now();
            let outcome = engine.sql(&query).await;
            times.insert(name.clone(), start.elapsed());
            if let Err(why) = outcome.and_then(|(schema, batches)| answers[&name].check(&schema, &batches)) {
                wrong.push(format!("{name}: {why}"));
            }
        }
        let count = format!("{} of {} {} queries are wrong on {}", wrong.len(), self.queries, self.name, engine.name());
        assert!(wrong.is_empty(), "{count}\n{}", wrong.join("\n"));
        times
    }

    /// Checks an answer to the query of this name.
    pub async fn check(&self, name: &str, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<(), String> {
        self.answers.get_or_init(|| self.reference()).await[name].check(schema, batches)
    }

    /// Runs the reference, unless it has run already.
    pub async fn answered(&self) {
        self.answers.get_or_init(|| self.reference()).await;
    }

    /// Creates tables over the generated Parquet files.
    pub async fn create_tables(&self, engine: &dyn Engine) {
        for folder in entries(&self.path().join("tables")) {
            let table = name_of(&folder);
            let statement = format!(
                "CREATE EXTERNAL TABLE IF NOT EXISTS {table} STORED AS PARQUET LOCATION '{}/'",
                folder.display()
            );
            if let Err(error) = engine.sql(&statement).await {
                panic!("{} cannot create {table}: {error}", engine.name());
            }
        }
    }

    /// Name (`q01`) and text of each query, in order.
    pub fn queries(&self) -> Vec<(String, String)> {
        let queries: Vec<(String, String)> = entries(&self.path().join("queries"))
            .into_iter()
            .map(|path| (name_of(&path), fs::read_to_string(&path).expect("a generated query can be read")))
            .collect();
        assert_eq!(
            queries.len(),
            self.queries,
            "{} has other queries than expected in {}",
            self.name,
            self.path().display()
        );
        queries
    }

    async fn reference(&self) -> BTreeMap<String, Answer> {
        let reference = SingleProcess::new();
        self.create_tables(&reference).await;
        let mut answers = BTreeMap::new();
        for (name, query) in self.queries() {
            match Answer::to(&query, reference.context()).await {
                Ok(answer) if answer.is_empty() => {
                    panic!("{} {name} returns no row: a comparison proves nothing", self.name)
                }
                Ok(answer) => answers.insert(name, answer),
                Err(error) => panic!("DataFusion cannot run {} {name}: {error}", self.name),
            };
        }
        answers
    }

    fn path(&self) -> PathBuf {
        crate::data().join(self.folder)
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let read = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}: run `make data`", folder.display()));
    let mut entries: Vec<PathBuf> = read.map(|entry| entry.expect("a folder can be listed").path()).collect();
    entries.sort();
    entries
}

fn name_of(path: &Path) -> String {
    path.file_stem().expect("an entry of a folder has a name").to_string_lossy().into_owned()
}

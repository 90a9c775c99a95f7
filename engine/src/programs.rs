//! `run_program(file, arguments…)`: a user's program as the one task of a statement, which returns a row when the program has ended.
//!
//! ```text
//!   run_program('wfs:///etl.py', 'a')  ──plan──> ProgramScan, one split ──task──> Programs::run ──> a row, or the program's failure
//! ```
//!
//! A program does more than compute rows, so its task begins only once ([`crate::connector::Scan::once`]). The executor that gets the task brings along [`Programs`]: what
//! starts, limits and ends processes.

pub use crate::connector::programs::{Ended, PYTHON_SESSION, Program, Programs, RUN_PROGRAM};
use crate::connector::programs::{ProgramScan, program_schema};
use crate::failure::message;
use crate::place::Place;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue, plan_datafusion_err, plan_err};
use datafusion::datasource::TableType;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct RunProgramFunction;

impl TableFunctionImpl for RunProgramFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let words = args.exprs().iter().map(|expr| match expr {
            Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_string),
            _ => None,
        });
        let words = words.collect::<Option<Vec<String>>>();
        let words = words.ok_or_else(|| plan_datafusion_err!("{RUN_PROGRAM}() takes literal strings"))?;
        let Some((file, args)) = words.split_first() else {
            return plan_err!("{RUN_PROGRAM}() wants a program: {RUN_PROGRAM}('wfs:///program.py', 'argument', …)");
        };
        Ok(Arc::new(ProgramTable { file: file.clone(), args: args.to_vec() }))
    }
}

/// A call in a statement.
#[derive(Debug)]
struct ProgramTable {
    file: String,
    args: Vec<String>,
}

#[async_trait]
impl TableProvider for ProgramTable {
    fn schema(&self) -> SchemaRef {
        program_schema()
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
        let options = crate::config::of(state.config());
        let files = options.program_files.split(',').map(str::trim).filter(|file| !file.is_empty());
        let program = Program {
            file: self.file.clone(),
            args: self.args.clone(),
            files: files.map(str::to_string).collect(),
            memory: options.program_memory_bytes as u64,
            log: options.program_log.clone(),
        };
        for file in program.places() {
            Place::parse(file).map_err(|error| plan_datafusion_err!("{file}: {}", message(&error)))?;
        }
        ProgramScan::planned(program).projected(projection)
    }
}

/// The call of a program as SQL, for faces that run programs.
pub fn run_program_sql(file: &str, args: &[String]) -> String {
    let words = std::iter::once(file).chain(args.iter().map(String::as_str));
    let words = words.map(|word| ScalarValue::from(word).to_string().replace('\'', "''"));
    let words: Vec<String> = words.map(|word| format!("'{word}'")).collect();
    format!("SELECT seconds, output FROM {RUN_PROGRAM}({})", words.join(", "))
}

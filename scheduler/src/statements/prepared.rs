//! Statements that clients prepare and run later.

use super::params::{ParameterNames, Parameters};
use crate::errors::QueryError;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Field, SchemaRef};
use parking_lot::Mutex;

/// The result and the parameters of a statement.
#[derive(Clone, Debug)]
pub struct Described {
    /// Without columns if the statement returns no rows.
    pub schema: SchemaRef,
    /// In the order in which values are bound to them.
    pub parameters: Vec<Field>,
    pub names: ParameterNames,
    /// Whether it runs as an update: INSERT, COPY, DDL and SET.
    pub is_update: bool,
}

/// A statement that a client has prepared. It is planned again for each execution, because tables change in between.
#[derive(Debug)]
pub struct PreparedHandle {
    pub sql: String,
    pub described: Described,
    /// Values that the client has bound to its parameters for the next execution.
    bound: Mutex<Vec<RecordBatch>>,
}

impl PreparedHandle {
    pub fn new(sql: String, described: Described) -> Self {
        Self { sql, described, bound: Mutex::default() }
    }

    pub fn bind(&self, batches: Vec<RecordBatch>) {
        *self.bound.lock() = batches;
    }

    /// Returns the bound rows: one set of values for each execution.
    pub fn parameters(&self) -> Result<Vec<Parameters>, QueryError> {
        self.described.rows(&self.bound.lock())
    }
}

impl Described {
    /// Returns the values for each execution. A statement without parameters runs once, whatever was bound.
    pub fn rows(&self, batches: &[RecordBatch]) -> Result<Vec<Parameters>, QueryError> {
        if self.names.is_empty() {
            return Ok(Vec::new());
        }
        let mut rows = Vec::new();
        for batch in batches {
            rows.extend(Parameters::rows(batch, &self.names)?);
        }
        Ok(rows)
    }
}

//! Text files of kinds that connectors know: each line is a row.
//!
//! A [`LineFormat`] knows lines alone. This module lists, splits, decompresses, reads and writes their files like those of CSV and JSON.

mod format;
mod infer;
mod scan;
mod write;

pub(crate) use format::LineFilesFactory;
pub(crate) use scan::LineScan;
pub(crate) use write::LineFilesSink;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::Result;
use std::fmt;

/// A kind of text files: the word after STORED AS. The primary and every executor have the same kinds.
pub trait LineFormat: fmt::Debug + Send + Sync {
    /// The word after STORED AS, in upper case.
    fn name(&self) -> &'static str;

    /// The ending of the names of its files, without a dot and before that of a compression.
    fn ending(&self) -> &'static str;

    /// Returns a sample without lines, which finds the columns of a table that declares none.
    fn sample(&self) -> Box<dyn LineSample>;

    /// # Errors
    /// Lines cannot be read as such columns.
    fn check_read(&self, columns: &Schema) -> Result<()>;

    /// # Errors
    /// Rows of such columns cannot be written.
    fn check_written(&self, columns: &Schema) -> Result<()>;

    /// Returns a row for each line, in their order, with these columns. Lines come without their ends; none is blank.
    ///
    /// # Errors
    /// The first line that is no row of such columns.
    fn read(&self, columns: &SchemaRef, lines: &[&[u8]]) -> Result<RecordBatch, WrongRow>;

    /// Appends a line for each row, with its end. No line holds another end.
    ///
    /// # Errors
    /// The column, the value and why no line can hold it.
    fn write(&self, rows: &RecordBatch, lines: &mut Vec<u8>) -> Result<(), String>;
}

/// The columns of some lines.
pub trait LineSample: Send {
    /// # Errors
    /// What is wrong with the line.
    fn take(&mut self, line: &[u8]) -> Result<(), String>;

    /// Returns the columns of all lines that were taken.
    fn columns(&self) -> SchemaRef;
}

/// An error in a row, counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongRow {
    pub row: usize,
    pub text: String,
}

/// Maximum bytes of a line. Longer ones are errors, so that a file without line ends does not fill the memory.
const LONGEST_LINE: usize = 64 << 20;

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

fn too_long() -> String {
    format!("the line has more than {} MiB", LONGEST_LINE >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, cast::AsArray};
    use arrow::datatypes::{DataType, Field, Int64Type};
    use std::str::from_utf8;
    use std::sync::Arc;

    /// Lines of one whole number each.
    #[derive(Debug)]
    pub(super) struct Numbers;

    struct NumbersSample;

    impl NumbersSample {
        fn number(line: &[u8]) -> Result<i64, String> {
            let text = from_utf8(line).map_err(|error| error.to_string())?.trim();
            text.parse().map_err(|_| format!("'{text}' is no number"))
        }
    }

    impl LineFormat for Numbers {
        fn name(&self) -> &'static str {
            "NUMBERS"
        }

        fn ending(&self) -> &'static str {
            "txt"
        }

        fn sample(&self) -> Box<dyn LineSample> {
            Box::new(NumbersSample)
        }

        fn check_read(&self, _: &Schema) -> Result<()> {
            Ok(())
        }

        fn check_written(&self, _: &Schema) -> Result<()> {
            Ok(())
        }

        fn read(&self, columns: &SchemaRef, lines: &[&[u8]]) -> Result<RecordBatch, WrongRow> {
            let number =
                |(row, line): (usize, &&[u8])| NumbersSample::number(line).map_err(|text| WrongRow { row, text });
            let numbers = lines.iter().enumerate().map(number).collect::<Result<Vec<_>, _>>()?;
            Ok(RecordBatch::try_new(Arc::clone(columns), vec![Arc::new(Int64Array::from(numbers))]).unwrap())
        }

        fn write(&self, rows: &RecordBatch, lines: &mut Vec<u8>) -> Result<(), String> {
            let numbers = rows.column(0).as_primitive::<Int64Type>();
            numbers.values().iter().for_each(|number| lines.extend(format!("{number}\n").bytes()));
            Ok(())
        }
    }

    impl LineSample for NumbersSample {
        fn take(&mut self, line: &[u8]) -> Result<(), String> {
            Self::number(line).map(|_| ())
        }

        fn columns(&self) -> SchemaRef {
            Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]))
        }
    }
}

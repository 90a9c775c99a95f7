//! One line for each value, like psql's `\x`, for rows that are too wide for the terminal.

use super::table::{NULL, printable};
use super::{DISPLAY, ResultWriter, with_offsets};
use crate::error::{ClientError, Result};
use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::util::display::ArrayFormatter;
use std::fmt::Write as _;
use std::io::Write;
use unicode_width::UnicodeWidthStr;

/// Minimum length of a record's rule.
const RULE: usize = 40;

pub(super) struct Expanded<'a> {
    out: &'a mut (dyn Write + Send),
    /// Column names, padded to the widest.
    names: Vec<String>,
    width: usize,
    rows: u64,
}

impl<'a> Expanded<'a> {
    pub(super) fn new(schema: &SchemaRef, out: &'a mut (dyn Write + Send)) -> Expanded<'a> {
        let names: Vec<String> =
            schema.fields().iter().map(|field| printable(field.name()).replace('\n', "\\n")).collect();
        let width = names.iter().map(|name| name.width()).max().unwrap_or(0);
        let padded = names.iter().map(|name| format!("{name}{:1$}", "", width - name.width()));
        Expanded { out, names: padded.collect(), width, rows: 0 }
    }
}

impl ResultWriter for Expanded<'_> {
    fn batch(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = batch.columns().iter().map(with_offsets).collect::<Result<Vec<_>, _>>()?;
        let formatters =
            columns.iter().map(|column| ArrayFormatter::try_new(column, &DISPLAY)).collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            self.rows += 1;
            let head = format!("-[ RECORD {} ]", self.rows);
            let mut text = format!("{head}{}\n", "-".repeat(RULE.max(self.width + 3).saturating_sub(head.len())));
            for ((column, formatter), name) in columns.iter().zip(&formatters).zip(&self.names) {
                let null = column.is_null(row) || column.data_type().is_null();
                let value = if null { NULL.to_owned() } else { printable(&formatter.value(row).try_to_string()?) };
                for (index, line) in value.split('\n').enumerate() {
                    // Writing to a String cannot fail.
                    let _ = match index {
                        0 => writeln!(text, "{name} | {line}"),
                        _ => writeln!(text, "{:1$} | {line}", "", self.width),
                    };
                }
            }
            self.out.write_all(text.as_bytes()).map_err(ClientError::io("write the result"))?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::samples::{batch, written};

    #[test]
    fn every_value_has_a_line_of_its_own() {
        let rule = |number: usize| format!("-[ RECORD {number} ]{}", "-".repeat(27));
        let expected = [
            &rule(1),
            "n     | 1",
            "text  | plain",
            "empty | ",
            "list  | [1, ]",
            "point | {x: 1.5}",
            "time  | 2013-01-01T00:26:40",
            &rule(2),
            "n     | NULL",
            "text  | a \"b\", c",
            "      | d",
            "empty | NULL",
        ];
        let text = written(Format::Expanded, &[batch().slice(0, 2)]);
        assert_eq!(text.lines().take(expected.len()).collect::<Vec<_>>(), expected);
        let text = written(Format::Expanded, &[batch(), batch()]);
        assert!(text.contains("-[ RECORD 6 ]"), "records are counted over batches: {text}");
    }
}

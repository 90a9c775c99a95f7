//! Tables for people.
//!
//! Widths come from the first [`SAMPLE_ROWS`] rows. Later rows are written as they arrive; a value wider than its column pushes its line out. Nothing is
//! shortened. A value of several lines (a plan, for example) takes several lines.

use super::{DISPLAY, ResultWriter, with_offsets};
use crate::error::{ClientError, Result};
use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::util::display::ArrayFormatter;
use std::fmt::Write as _;
use std::io::Write;
use unicode_width::UnicodeWidthStr;

const SAMPLE_ROWS: usize = 1000;
pub(super) const NULL: &str = "NULL";

pub(super) struct Table<'a> {
    out: &'a mut (dyn Write + Send),
    names: Vec<String>,
    /// Whether each column is right-aligned, as numbers are.
    right: Vec<bool>,
    sample: Vec<Vec<String>>,
    /// Widths, set when the head has been written.
    widths: Option<Vec<usize>>,
}

impl<'a> Table<'a> {
    pub(super) fn new(schema: &SchemaRef, out: &'a mut (dyn Write + Send)) -> Table<'a> {
        Table {
            out,
            names: schema.fields().iter().map(|field| printable(field.name())).collect(),
            right: schema.fields().iter().map(|field| field.data_type().is_numeric()).collect(),
            sample: Vec::new(),
            widths: None,
        }
    }

    fn head(&mut self) -> Result<()> {
        let mut widths: Vec<usize> = self.names.iter().map(|name| width(name)).collect();
        for row in &self.sample {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = (*widest).max(width(cell));
            }
        }
        let rule = rule(&widths);
        self.put(&rule)?;
        let names = std::mem::take(&mut self.names);
        // Names are left-aligned, whatever the column holds.
        let head = lines(&names, &widths, &vec![false; names.len()]);
        self.put(&head)?;
        self.put(&rule)?;
        for row in std::mem::take(&mut self.sample) {
            let text = lines(&row, &widths, &self.right);
            self.put(&text)?;
        }
        self.widths = Some(widths);
        Ok(())
    }

    fn put(&mut self, text: &str) -> Result<()> {
        self.out.write_all(text.as_bytes()).map_err(ClientError::io("write the result"))
    }
}

impl ResultWriter for Table<'_> {
    fn batch(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = batch.columns().iter().map(with_offsets).collect::<Result<Vec<_>, _>>()?;
        let formatters =
            columns.iter().map(|column| ArrayFormatter::try_new(column, &DISPLAY)).collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let mut cells = Vec::with_capacity(formatters.len());
            for (column, formatter) in columns.iter().zip(&formatters) {
                // Types that are NULL throughout keep no bitmap.
                let null = column.is_null(row) || column.data_type().is_null();
                cells.push(if null { NULL.to_owned() } else { printable(&formatter.value(row).try_to_string()?) });
            }
            match &self.widths {
                Some(widths) => {
                    let text = lines(&cells, widths, &self.right);
                    self.put(&text)?;
                }
                None => {
                    self.sample.push(cells);
                    if self.sample.len() == SAMPLE_ROWS {
                        self.head()?;
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if self.widths.is_none() {
            self.head()?;
        }
        let rule = rule(self.widths.as_deref().unwrap_or_default());
        self.put(&rule)
    }
}

fn rule(widths: &[usize]) -> String {
    let mut out = String::from("+");
    for width in widths {
        out.extend(std::iter::repeat_n('-', width + 2));
        out.push('+');
    }
    out.push('\n');
    out
}

/// Formats one row, with as many lines as its tallest cell.
fn lines(cells: &[String], widths: &[usize], right: &[bool]) -> String {
    let height = cells.iter().map(|cell| cell.split('\n').count()).max().unwrap_or(1);
    let mut out = String::new();
    for line in 0..height {
        out.push('|');
        for ((cell, width), right) in cells.iter().zip(widths).zip(right) {
            let text = cell.split('\n').nth(line).unwrap_or("");
            let pad = width.saturating_sub(UnicodeWidthStr::width(text));
            let (before, after) = if *right { (pad, 0) } else { (0, pad) };
            // Writing to a String cannot fail.
            let _ = write!(out, " {:before$}{text}{:after$} |", "", "");
        }
        out.push('\n');
    }
    out
}

fn width(cell: &str) -> usize {
    cell.split('\n').map(UnicodeWidthStr::width).max().unwrap_or(0)
}

/// Escapes control characters, which could move the cursor or worse. Line ends stay.
pub fn printable(text: &str) -> String {
    let text = text.trim_end_matches('\n');
    if !text.chars().any(|c| c.is_control() && c != '\n') {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::samples::{batch, written};
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use std::sync::Arc;

    #[test]
    fn a_table_shows_nulls_nested_values_and_several_lines() {
        let expected = "\
+------+----------+--------+-------+----------+---------------------+
| n    | text     | empty  | list  | point    | time                |
+------+----------+--------+-------+----------+---------------------+
|    1 | plain    |        | [1, ] | {x: 1.5} | 2013-01-01T00:26:40 |
| NULL | a \"b\", c | NULL   | NULL  | {x: }    | NULL                |
|      | d        |        |       |          |                     |
| -300 | NULL     | ünï 表 | []    | {x: 0.0} | 1970-01-01T00:00:00 |
+------+----------+--------+-------+----------+---------------------+
";
        assert_eq!(written(Format::Table, &[batch()]), expected);
    }

    #[test]
    fn rows_after_the_sample_are_written_as_they_come_and_whole() {
        let row = |text: &str| {
            let column: ArrayRef = Arc::new(StringArray::from(vec![text]));
            RecordBatch::try_from_iter([("c", column)]).unwrap()
        };
        let mut batches = vec![row("x"); SAMPLE_ROWS];
        batches.push(row("much wider than the sample"));
        let text = written(Format::Table, &batches);
        assert!(text.contains("\n| x |\n| much wider than the sample |\n+---+\n"), "{}", &text[text.len() - 80..]);
    }

    #[test]
    fn an_empty_result_shows_its_columns() {
        let column: ArrayRef = Arc::new(Int64Array::from(Vec::<i64>::new()));
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        assert_eq!(written(Format::Table, &[batch]), "+---+\n| n |\n+---+\n+---+\n");
    }

    #[test]
    fn control_characters_cannot_reach_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\tc\n"), "a\\u{1b}[2Jb\\tc");
    }
}

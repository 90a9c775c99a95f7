//! Writers of result sets: one for each format, all of them streaming, so that memory use does not grow with the result.

mod delimited;
mod expanded;
mod json;
mod parquet;
mod sink;
mod table;

pub use sink::Sink;
pub use table::printable;

use crate::error::Result;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::io::Write;
use std::sync::Arc;

/// Formats of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people. Widths come from the first thousand rows; a later, wider value pushes its line out, and nothing is cut off.
    Table,
    /// For people, one line for each value: for rows that are too wide.
    Expanded,
    /// With a header line. NULL is an empty field, an empty text is "".
    Csv,
    /// One array of objects for each result.
    Json,
    /// One object per line.
    Ndjson,
    /// One file for one result.
    Parquet,
}

/// Writes one result set.
pub trait ResultWriter {
    fn batch(&mut self, batch: &RecordBatch) -> Result<()>;
    /// Ends the rows: writes everything that was held back.
    fn finish(&mut self) -> Result<()>;
}

/// Creates a writer of `schema`'s rows to `out`.
pub fn writer<'a>(
    format: Format,
    schema: &SchemaRef,
    out: &'a mut (dyn Write + Send),
) -> Result<Box<dyn ResultWriter + 'a>> {
    Ok(match format {
        Format::Table => Box::new(table::Table::new(schema, out)),
        Format::Expanded => Box::new(expanded::Expanded::new(schema, out)),
        Format::Csv => Box::new(delimited::Csv::new(schema, out)?),
        Format::Json => Box::new(json::Json::array(schema, out)),
        Format::Ndjson => Box::new(json::Json::lines(schema, out)),
        Format::Parquet => Box::new(parquet::Parquet::new(schema, out)?),
    })
}

/// Text form of values, in every format that has no types of its own.
const DISPLAY: FormatOptions<'static> = FormatOptions::new().with_display_error(false);

/// Converts the columns that `is_text` selects to text, for formats that cannot hold their types.
struct Textified {
    columns: Vec<bool>,
    schema: SchemaRef,
}

impl Textified {
    fn new(schema: &SchemaRef, is_text: impl Fn(&DataType) -> bool) -> Textified {
        let columns: Vec<bool> = schema.fields().iter().map(|field| is_text(field.data_type())).collect();
        let fields: Vec<Field> = schema
            .fields()
            .iter()
            .zip(&columns)
            .map(
                |(field, text)| {
                    if *text { Field::new(field.name(), DataType::Utf8, true) } else { field.as_ref().clone() }
                },
            )
            .collect();
        Textified { columns, schema: Arc::new(Schema::new(fields)) }
    }

    fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let columns = batch
            .columns()
            .iter()
            .zip(&self.columns)
            .map(|(column, text)| if *text { as_text(column) } else { Ok(Arc::clone(column)) })
            .collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
    }
}

/// Converts instants to text with the whole offset of their zone, of which Arrow omits the seconds; leaves other values unchanged.
fn with_offsets(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    windlass_engine::instants_as_text(column).map_err(|error| ArrowError::ExternalError(Box::new(error)))
}

fn as_text(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let column = &with_offsets(column)?;
    let formatter = ArrayFormatter::try_new(column, &DISPLAY)?;
    let nulls = column.logical_nulls();
    let mut out = StringBuilder::with_capacity(column.len(), column.len() * 16);
    for row in 0..column.len() {
        if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            out.append_null();
        } else {
            out.append_value(formatter.value(row).try_to_string()?);
        }
    }
    Ok(Arc::new(out.finish()))
}

#[cfg(test)]
mod samples {
    //! A result with values that formats often get wrong.

    use super::*;
    use arrow::array::{Float64Array, Int64Array, ListArray, StringArray, StructArray, TimestampMillisecondArray};
    use arrow::datatypes::Int64Type;

    pub fn batch() -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(-300)]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("plain"), Some("a \"b\", c\nd"), None]));
        let empty: ArrayRef = Arc::new(StringArray::from(vec![Some(""), None, Some("ünï 表")]));
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ]));
        let point: ArrayRef = Arc::new(StructArray::from(vec![(
            Arc::new(Field::new("x", DataType::Float64, true)),
            Arc::new(Float64Array::from(vec![Some(1.5), None, Some(0.0)])) as ArrayRef,
        )]));
        let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![Some(1_357_000_000_000), None, Some(0)]));
        RecordBatch::try_from_iter_with_nullable(vec![
            ("n", numbers, true),
            ("text", texts, true),
            ("empty", empty, true),
            ("list", lists, true),
            ("point", point, true),
            ("time", times, true),
        ])
        .unwrap()
    }

    pub fn written(format: Format, batches: &[RecordBatch]) -> String {
        let mut out = Vec::new();
        let mut writer = writer(format, &batches[0].schema(), &mut out).unwrap();
        for batch in batches {
            writer.batch(batch).unwrap();
        }
        writer.finish().unwrap();
        drop(writer);
        String::from_utf8(out).unwrap()
    }
}

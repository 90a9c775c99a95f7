//! CSV after RFC 4180: NULL is an empty field and an empty text is `""`, so that the two can be told apart.

use super::{ResultWriter, Textified, as_text};
use crate::error::{ClientError, Result};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use std::io::Write;

pub(super) struct Csv<'a> {
    out: &'a mut (dyn Write + Send),
    text: Textified,
    line: String,
}

impl<'a> Csv<'a> {
    pub(super) fn new(schema: &SchemaRef, out: &'a mut (dyn Write + Send)) -> Result<Csv<'a>> {
        let mut csv = Csv { out, text: Textified::new(schema, |_| true), line: String::new() };
        for (index, field) in schema.fields().iter().enumerate() {
            csv.field(index, Some(field.name()));
        }
        csv.end_line()?;
        Ok(csv)
    }

    fn field(&mut self, index: usize, value: Option<&str>) {
        if index > 0 {
            self.line.push(',');
        }
        match value {
            None => {}
            Some(value) if value.is_empty() || value.contains([',', '"', '\n', '\r']) => {
                self.line.push('"');
                self.line.push_str(&value.replace('"', "\"\""));
                self.line.push('"');
            }
            Some(value) => self.line.push_str(value),
        }
    }

    fn end_line(&mut self) -> Result<()> {
        self.line.push('\n');
        self.out.write_all(self.line.as_bytes()).map_err(ClientError::io("write the result"))?;
        self.line.clear();
        Ok(())
    }
}

impl ResultWriter for Csv<'_> {
    fn batch(&mut self, batch: &RecordBatch) -> Result<()> {
        debug_assert!(self.text.columns.iter().all(|text| *text));
        let columns = batch.columns().iter().map(as_text).collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            for (index, column) in columns.iter().enumerate() {
                let column = column.as_string::<i32>();
                let value = (!column.is_null(row)).then(|| column.value(row));
                self.field(index, value);
            }
            self.end_line()?;
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
    fn null_and_empty_text_differ_and_quotes_are_doubled() {
        assert_eq!(
            written(Format::Csv, &[batch()]),
            "n,text,empty,list,point,time\n\
             1,plain,\"\",\"[1, ]\",{x: 1.5},2013-01-01T00:26:40\n\
             ,\"a \"\"b\"\", c\nd\",,,{x: },\n\
             -300,,ünï 表,[],{x: 0.0},1970-01-01T00:00:00\n"
        );
    }
}

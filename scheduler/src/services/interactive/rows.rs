//! Rows of an output in the form in which they are kept: the first rows of a result, within a number and a number of bytes, as an Arrow IPC stream.

use super::Cut;
use crate::errors::QueryError;
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use std::sync::Arc;

/// Rows of an output.
#[derive(Clone, Debug)]
pub struct Rows {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
}

/// Encodes the first rows of `batches`, and says what was cut.
pub(super) fn encode(
    schema: &SchemaRef,
    batches: &[RecordBatch],
    max_rows: u64,
    max_bytes: u64,
) -> Result<(Bytes, Option<Cut>), QueryError> {
    let all = plain(&concat_batches(schema, batches).map_err(broken)?).map_err(broken)?;
    let mut rows = all.num_rows().min(usize::try_from(max_rows).unwrap_or(usize::MAX));
    let mut cut = (rows < all.num_rows()).then_some(Cut::Rows(max_rows));
    loop {
        let encoded = stream(&all.slice(0, rows)).map_err(broken)?;
        if encoded.len() as u64 <= max_bytes || rows == 0 {
            return Ok((encoded, cut));
        }
        // The guess is exact if all rows are equally large; it gets smaller in any case.
        let fits = (rows as u128 * u128::from(max_bytes) / encoded.len() as u128) as usize;
        rows = fits.min(rows - 1);
        cut = Some(Cut::Bytes(max_bytes));
    }
}

/// Decodes rows that [`encode`] has encoded.
pub(super) fn decode(bytes: Bytes) -> Result<Rows, QueryError> {
    let reader = StreamReader::try_new(std::io::Cursor::new(bytes), None).map_err(broken)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(broken)?;
    Ok(Rows { schema, batches })
}

fn broken(error: ArrowError) -> QueryError {
    QueryError::Internal(format!("the rows of an output: {error}"))
}

/// Replaces view types, whose slices hold on to all of their bytes.
fn plain(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let without_view = |of: &DataType| match of {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        of => of.clone(),
    };
    let schema = batch.schema();
    let fields = schema.fields().iter();
    let fields = fields.map(|field| Field::clone(field).with_data_type(without_view(field.data_type())));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<Field>>()));
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast(column, field.data_type())).collect::<Result<Vec<_>, _>>()?;
    let options = datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema, columns, &options)
}

fn stream(batch: &RecordBatch) -> Result<Bytes, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(batch)?;
    writer.finish()?;
    Ok(writer.into_inner()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{Int64Array, StringViewArray};

    fn batch(rows: usize, width: usize) -> RecordBatch {
        let texts: StringViewArray = (0..rows).map(|_| Some("x".repeat(width))).collect();
        let numbers = Int64Array::from_iter_values(0..rows as i64);
        RecordBatch::try_from_iter([("t", Arc::new(texts) as _), ("n", Arc::new(numbers) as _)]).unwrap()
    }

    fn cut(batches: &[RecordBatch], rows: u64, bytes: u64) -> (usize, usize, Option<Cut>) {
        let schema = batches[0].schema();
        let (encoded, cut) = encode(&schema, batches, rows, bytes).unwrap();
        let decoded = decode(encoded.clone()).unwrap();
        let rows: usize = decoded.batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(decoded.schema.field(0).data_type(), &DataType::Utf8);
        (rows, encoded.len(), cut)
    }

    #[test]
    fn rows_are_cut_by_number_and_by_bytes() {
        let two = [batch(600, 10), batch(600, 10)];
        assert_eq!(cut(&two, 2_000, 1 << 20).0, 1_200);
        let (rows, _, what) = cut(&two, 1_000, 1 << 20);
        assert_eq!((rows, what), (1_000, Some(Cut::Rows(1_000))));
        let wide = [batch(1_000, 10_000)];
        let (rows, bytes, what) = cut(&wide, 2_000, 1 << 20);
        assert!((80..=104).contains(&rows) && bytes <= 1 << 20, "{rows} rows in {bytes} bytes");
        assert_eq!(what, Some(Cut::Bytes(1 << 20)));
        let (rows, bytes, _) = cut(&[batch(2, 1 << 21)], 10, 1 << 20);
        assert!(rows == 0 && bytes < 4_096, "{rows} rows in {bytes} bytes");
    }

    #[test]
    fn a_result_without_columns_keeps_its_number_of_rows() {
        let empty = RecordBatch::new_empty(Arc::new(Schema::empty()));
        let (encoded, cut) = encode(&empty.schema(), &[], 10, 1 << 20).unwrap();
        let decoded = decode(encoded).unwrap();
        assert_eq!((decoded.schema.fields().len(), decoded.batches[0].num_rows(), cut), (0, 0, None));
    }
}

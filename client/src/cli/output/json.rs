//! JSON, as one array of objects or as one object to a line. NULL is `null`; binary is hexadecimal; values without a JSON form, NaN and infinity among them,
//! are text.

use super::{DISPLAY, ResultWriter, Textified};
use crate::error::{ClientError, Result};
use arrow::array::{Array, AsArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, DataType, FieldRef, Float16Type, Float32Type, Float64Type, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{
    Encoder, EncoderFactory, EncoderOptions, JsonArray, LineDelimited, NullableEncoder, Writer, WriterBuilder,
};
use arrow::util::display::ArrayFormatter;
use std::fmt::Debug;
use std::io::Write;
use std::sync::Arc;

pub(super) struct Json<'a> {
    text: Textified,
    rows: u64,
    to: To<'a>,
}

enum To<'a> {
    Array(Writer<&'a mut (dyn Write + Send), JsonArray>),
    Lines(Writer<&'a mut (dyn Write + Send), LineDelimited>),
}

impl<'a> Json<'a> {
    pub(super) fn array(schema: &SchemaRef, out: &'a mut (dyn Write + Send)) -> Json<'a> {
        Json { text: Textified::new(schema, is_written_as_text), rows: 0, to: To::Array(builder().build(out)) }
    }

    pub(super) fn lines(schema: &SchemaRef, out: &'a mut (dyn Write + Send)) -> Json<'a> {
        Json { text: Textified::new(schema, is_written_as_text), rows: 0, to: To::Lines(builder().build(out)) }
    }
}

fn builder() -> WriterBuilder {
    WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(Own))
}

/// Encodes NaN and infinity, which Arrow writes as null, as text in PostgreSQL's form. Refuses dates and times that have no text, for which Arrow writes an error's.
#[derive(Debug)]
struct Own;

impl EncoderFactory for Own {
    fn make_default_encoder<'a>(
        &self,
        _: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let numbers: Option<Box<dyn Encoder + 'a>> = match array.data_type() {
            DataType::Float64 => numbers(array.as_primitive::<Float64Type>(), |value| value),
            DataType::Float32 => numbers(array.as_primitive::<Float32Type>(), f64::from),
            DataType::Float16 => numbers(array.as_primitive::<Float16Type>(), f64::from),
            kind if kind.is_temporal() => {
                let texts = ArrayFormatter::try_new(array, &DISPLAY)?;
                (0..array.len()).try_for_each(|row| texts.value(row).write(&mut Nowhere))?;
                None
            }
            _ => None,
        };
        Ok(numbers.map(|numbers| NullableEncoder::new(numbers, array.nulls().cloned())))
    }
}

struct Nowhere;

impl std::fmt::Write for Nowhere {
    fn write_str(&mut self, _: &str) -> std::fmt::Result {
        Ok(())
    }
}

/// Returns an encoder of `array`, if it has values that JSON numbers cannot express.
fn numbers<'a, T: ArrowPrimitiveType<Native: Debug>>(
    array: &'a PrimitiveArray<T>,
    wide: fn(T::Native) -> f64,
) -> Option<Box<dyn Encoder + 'a>> {
    array.values().iter().any(|value| !wide(*value).is_finite()).then(|| Box::new(Numbers { array, wide }) as _)
}

struct Numbers<'a, T: ArrowPrimitiveType> {
    array: &'a PrimitiveArray<T>,
    wide: fn(T::Native) -> f64,
}

impl<T: ArrowPrimitiveType<Native: Debug>> Encoder for Numbers<'_, T> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let value = self.array.value(row);
        let text = match (self.wide)(value) {
            wide if wide.is_nan() => "\"NaN\"".to_owned(),
            f64::INFINITY => "\"Infinity\"".to_owned(),
            f64::NEG_INFINITY => "\"-Infinity\"".to_owned(),
            // The digits of the type's own width.
            _ => format!("{value:?}"),
        };
        out.extend_from_slice(text.as_bytes());
    }
}

/// Whether a type is written as text: types that arrow's JSON writer refuses, and instants with a named zone, whose offset it truncates.
fn is_written_as_text(data_type: &DataType) -> bool {
    is_foreign(data_type) || matches!(data_type, DataType::Timestamp(_, Some(zone)) if !zone.starts_with(['+', '-']))
}

/// Whether arrow's JSON writer refuses the type, at any depth.
fn is_foreign(data_type: &DataType) -> bool {
    match data_type {
        DataType::Union(_, _) | DataType::Interval(_) => true,
        DataType::Map(entries, _) => match entries.data_type() {
            // Keys of objects are text.
            DataType::Struct(fields) => {
                let text = matches!(fields[0].data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
                !text || is_foreign(fields[1].data_type())
            }
            _ => true,
        },
        DataType::Struct(fields) => fields.iter().any(|field| is_foreign(field.data_type())),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => is_foreign(item.data_type()),
        DataType::Dictionary(_, values) => is_foreign(values),
        _ => false,
    }
}

fn failed(error: arrow::error::ArrowError) -> ClientError {
    match error {
        arrow::error::ArrowError::IoError(_, source) => {
            ClientError::Io { doing: "write the result".to_owned(), source }
        }
        other => other.into(),
    }
}

impl ResultWriter for Json<'_> {
    fn batch(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        let batch = self.text.apply(batch)?;
        match &mut self.to {
            To::Array(writer) => writer.write(&batch),
            To::Lines(writer) => writer.write(&batch),
        }
        .map_err(failed)
    }

    fn finish(&mut self) -> Result<()> {
        match &mut self.to {
            To::Array(writer) => {
                writer.finish().map_err(failed)?;
                writer.get_mut().write_all(b"\n").map_err(ClientError::io("write the result"))
            }
            To::Lines(writer) => writer.finish().map_err(failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::samples::{batch, written};
    use super::*;
    use arrow::array::{ArrayRef, Date32Array, Float32Array, Float64Array};

    #[test]
    fn both_forms_hold_the_same_objects() {
        let batches = [batch(), batch()];
        let array: Vec<serde_json::Value> = serde_json::from_str(&written(Format::Json, &batches)).unwrap();
        let lines: Vec<serde_json::Value> =
            written(Format::Ndjson, &batches).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(array, lines);
        assert_eq!(array.len(), 6);
        assert_eq!(
            array[0],
            serde_json::json!({"n": 1, "text": "plain", "empty": "", "list": [1, null], "point": {"x": 1.5}, "time": "2013-01-01T00:26:40"})
        );
        assert_eq!(array[1]["n"], serde_json::Value::Null);
        assert_eq!(array[1]["text"], "a \"b\", c\nd");
    }

    #[test]
    fn what_is_no_number_in_json_is_a_text() {
        let wide: ArrayRef = Arc::new(Float64Array::from(vec![Some(f64::NAN), None, Some(-1.5e300)]));
        let narrow: ArrayRef = Arc::new(Float32Array::from(vec![f32::INFINITY, f32::NEG_INFINITY, 0.1]));
        let batch = RecordBatch::try_from_iter([("a", wide), ("b", narrow)]).unwrap();
        let text = "{\"a\":\"NaN\",\"b\":\"Infinity\"}\n{\"a\":null,\"b\":\"-Infinity\"}\n{\"a\":-1.5e300,\"b\":0.1}\n";
        assert_eq!(written(Format::Ndjson, &[batch]), text);
    }

    #[test]
    fn a_date_without_a_text_is_no_text_of_an_error() {
        let far: ArrayRef = Arc::new(Date32Array::from(vec![Some(0), Some(2_145_042_905)]));
        let batch = RecordBatch::try_from_iter([("d", far)]).unwrap();
        let (mut out, schema) = (Vec::new(), batch.schema());
        let error = Json::lines(&schema, &mut out).batch(&batch).unwrap_err();
        assert!(error.to_string().contains("2145042905"), "{error}");
        assert!(!String::from_utf8_lossy(&out).contains("ERROR"), "{out:?}");
    }

    #[test]
    fn no_rows_are_an_empty_array() {
        assert_eq!(written(Format::Json, &[batch().slice(0, 0)]), "[]\n");
        assert_eq!(written(Format::Ndjson, &[batch().slice(0, 0)]), "");
    }
}

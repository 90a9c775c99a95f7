//! Files of DynamoDB JSON: what the service exports to S3 and imports from there, an item on each line.

use super::decode::{Decoder, check_known};
use super::encode::Rows;
use super::json::{item_of_line, write_line};
use super::sample::Sample;
use super::value::Item;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::Result;
use std::collections::HashSet;
use std::sync::Arc;
use windlass_engine::connector::{LineFormat, LineSample, WrongRow};

/// Files STORED AS DYNAMODB_JSON.
#[derive(Debug)]
pub struct DynamoDbJson;

impl LineFormat for DynamoDbJson {
    fn name(&self) -> &'static str {
        "DYNAMODB_JSON"
    }

    fn ending(&self) -> &'static str {
        "json"
    }

    fn sample(&self) -> Box<dyn LineSample> {
        Box::new(ItemSample::default())
    }

    fn check_read(&self, columns: &Schema) -> Result<()> {
        check_known(columns)
    }

    fn check_written(&self, columns: &Schema) -> Result<()> {
        Rows::of(&RecordBatch::new_empty(Arc::new(columns.clone())), &names(columns)).map(|_| ())
    }

    fn read(&self, columns: &SchemaRef, lines: &[&[u8]]) -> Result<RecordBatch, WrongRow> {
        let wanted: HashSet<&str> = columns.fields().iter().map(|field| field.name().as_str()).collect();
        let item =
            |(row, line): (usize, &&[u8])| item_of_line(line, Some(&wanted)).map_err(|text| WrongRow { row, text });
        let items = lines.iter().enumerate().map(item).collect::<Result<Vec<Item>, _>>()?;
        let decoder = Decoder { schema: Arc::clone(columns), misfits_are_null: false };
        decoder.batch(&items).map_err(|misfit| WrongRow { row: misfit.row, text: misfit.to_string() })
    }

    fn write(&self, rows: &RecordBatch, lines: &mut Vec<u8>) -> Result<(), String> {
        let names = names(rows.schema_ref());
        let encoded = Rows::of(rows, &names).map_err(|error| error.to_string())?;
        let mut line = String::new();
        for row in 0..encoded.count() {
            line.clear();
            write_line(&names, &encoded.item(row)?, &mut line);
            lines.extend_from_slice(line.as_bytes());
        }
        Ok(())
    }
}

fn names(columns: &Schema) -> Vec<String> {
    columns.fields().iter().map(|field| field.name().clone()).collect()
}

#[derive(Default)]
struct ItemSample(Sample);

impl LineSample for ItemSample {
    fn take(&mut self, line: &[u8]) -> Result<(), String> {
        self.0.take(&item_of_line(line, None)?);
        Ok(())
    }

    fn columns(&self) -> SchemaRef {
        Arc::new(Schema::new(self.0.columns()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{
        ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, ListArray, StringArray,
        StructArray,
    };
    use datafusion::arrow::datatypes::{DataType, Field, Int64Type};

    fn lines(text: &str) -> Vec<&[u8]> {
        text.lines().map(str::as_bytes).collect()
    }

    fn text(batch: &RecordBatch) -> String {
        let mut lines = Vec::new();
        DynamoDbJson.write(batch, &mut lines).unwrap();
        String::from_utf8(lines).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let decimals = Decimal128Array::from(vec![Some(10_i128.pow(38) - 1), Some(1 - 10_i128.pow(38)), None]);
        let inner: ArrayRef = Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)]));
        let fields = vec![Field::new("x", DataType::Int64, true)];
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(StringArray::from(vec![Some("a\n"), Some(""), None]))),
            ("d", Arc::new(decimals.with_precision_and_scale(38, 12).unwrap())),
            ("f", Arc::new(Float64Array::from(vec![Some(-1e-130), Some(9.9e125), Some(0.1)]))),
            ("t", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
            ("b", Arc::new(BinaryArray::from(vec![Some(&[0_u8, 255][..]), Some(&[]), None]))),
            ("m", Arc::new(StructArray::new(fields.into(), vec![inner], None))),
            (
                "l",
                Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([
                    Some(vec![Some(1), None]),
                    Some(vec![]),
                    None,
                ])),
            ),
        ];
        let columns = columns.into_iter().map(|(name, array)| (name, array, true));
        let written = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let text = text(&written);
        assert!(
            text.starts_with(r#"{"Item":{"id":{"S":"a\n"},"d":{"N":"99999999999999999999999999.999999999999"},"#),
            "{text}"
        );
        assert!(text.contains(r#""l":{"L":[{"N":"1"},{"NULL":true}]}"#), "{text}");
        assert_eq!(DynamoDbJson.read(written.schema_ref(), &lines(&text)).unwrap(), written);
        let mut sample = DynamoDbJson.sample();
        lines(&text).into_iter().for_each(|line| sample.take(line).unwrap());
        let kinds = sample.columns();
        let kinds: Vec<String> =
            kinds.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
        assert_eq!(kinds[..3], ["b Binary", "d Decimal128(38, 12)", "f Utf8"]);
    }

    #[test]
    fn a_line_that_does_not_fit_is_told() {
        let columns: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Utf8, false),
            Field::new("n", DataType::Int64, true),
        ]));
        let read = |text: &str| DynamoDbJson.read(&columns, &lines(text)).unwrap_err();
        let good = r#"{"Item":{"id":{"S":"a"},"n":{"N":"7"}}}"#;
        let wrong = read(&format!("{good}\n{{\"Item\":{{\"id\":{{\"S\":\"b\"}},\"n\":{{\"N\":\"1.5\"}}}}}}"));
        assert_eq!(wrong.row, 1);
        assert!(wrong.text.contains("the attribute n is N 1.5") && !wrong.text.contains("mismatch"), "{}", wrong.text);
        let wrong = read(&format!("{good}\n{good}\n{{\"Item\":{{}}}}"));
        assert!(wrong.row == 2 && wrong.text.contains("the attribute id is missing or NULL"), "{}", wrong.text);
        assert_eq!(read("{").row, 0);
        let batch =
            RecordBatch::try_from_iter([("v", Arc::new(Float64Array::from(vec![f64::NAN])) as ArrayRef)]).unwrap();
        let error = DynamoDbJson.write(&batch, &mut Vec::new()).unwrap_err();
        assert!(error.contains("the column v is NaN"), "{error}");
    }

    #[test]
    fn types_that_dynamodb_lacks_are_refused() {
        let of = |kind| Schema::new(vec![Field::new("v", kind, true)]);
        let interval = of(DataType::Duration(datafusion::arrow::datatypes::TimeUnit::Second));
        assert!(DynamoDbJson.check_read(&interval).is_err() && DynamoDbJson.check_written(&interval).is_err());
        assert!(DynamoDbJson.check_read(&of(DataType::Utf8View)).is_ok());
    }
}

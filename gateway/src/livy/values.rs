//! Rows as JSON, with the names of types and the forms of values of Spark.
//!
//! | type | value |
//! | --- | --- |
//! | whole numbers, decimals | a JSON number with all digits |
//! | floating point | a JSON number; `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | date | `"2013-01-31"` |
//! | timestamp | `"2013-01-31T12:00:00.123456Z"` for an instant, without the `Z` for one without a zone; no fraction if it is 0 |
//! | binary | Base64 |
//! | array, struct, map | an array; an object; an object whose keys are text |
//! | others | text |
//!
//! The text is built by hand, because a JSON library reads numbers with many digits as floating point.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    ArrowTimestampType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DecimalType, Field, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalUnit,
    Schema, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::temporal_conversions::{as_date, as_datetime};
use arrow::util::display::array_value_to_string;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt::Write;
use utoipa::ToSchema;

/// Columns, as Spark writes a schema.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StructType {
    r#type: Struct,
    fields: Vec<StructField>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Struct {
    Struct,
}

/// A column.
#[derive(Debug, Serialize, ToSchema)]
struct StructField {
    name: String,
    /// The name of a type of Spark, or an object for an array, a struct or a map.
    #[schema(example = "long")]
    r#type: Value,
    nullable: bool,
    metadata: Metadata,
}

/// Nothing.
#[derive(Debug, Serialize, ToSchema)]
struct Metadata {}

impl StructType {
    pub fn of(schema: &Schema) -> Self {
        StructType::with(schema.fields().iter().map(|field| field_of(field)).collect())
    }

    /// Returns the schema of the number of rows that a statement wrote, if it counts them.
    pub fn of_count(counts: bool) -> Self {
        let r#type = json!("decimal(20,0)");
        let field = StructField { name: "count".to_string(), r#type, nullable: false, metadata: Metadata {} };
        StructType::with(counts.then_some(field).into_iter().collect())
    }

    fn with(fields: Vec<StructField>) -> Self {
        StructType { r#type: Struct::Struct, fields }
    }
}

fn field_of(field: &Field) -> StructField {
    let (name, r#type) = (field.name().clone(), type_of(field.data_type()));
    StructField { name, r#type, nullable: field.is_nullable(), metadata: Metadata {} }
}

fn type_of(of: &DataType) -> Value {
    let name = match of {
        DataType::Null => "void",
        DataType::Boolean => "boolean",
        DataType::Int8 => "byte",
        DataType::Int16 | DataType::UInt8 => "short",
        DataType::Int32 | DataType::UInt16 => "integer",
        DataType::Int64 | DataType::UInt32 => "long",
        DataType::UInt64 => "decimal(20,0)",
        DataType::Float16 | DataType::Float32 => "float",
        DataType::Float64 => "double",
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => return json!(format!("decimal({precision},{scale})")),
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Timestamp(_, Some(_)) => "timestamp",
        DataType::Timestamp(_, None) => "timestamp_ntz",
        DataType::Interval(IntervalUnit::YearMonth) => "interval year to month",
        DataType::Interval(_) => "interval",
        DataType::Duration(_) => "interval day to second",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "binary",
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => {
            return json!({
                "type": "array", "elementType": type_of(item.data_type()), "containsNull": item.is_nullable(),
            });
        }
        DataType::Struct(fields) => {
            let fields: Vec<StructField> = fields.iter().map(|field| field_of(field)).collect();
            return json!(StructType::with(fields));
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                return json!({
                    "type": "map", "keyType": type_of(fields[0].data_type()),
                    "valueType": type_of(fields[1].data_type()), "valueContainsNull": fields[1].is_nullable(),
                });
            }
            _ => "string",
        },
        DataType::Dictionary(_, value) => return type_of(value),
        DataType::RunEndEncoded(_, values) => return type_of(values.data_type()),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string",
        DataType::Time32(_) | DataType::Time64(_) | DataType::Union(_, _) => "string",
    };
    json!(name)
}

/// Returns the name of a column's type in a table of `application/vnd.livy.table.v1+json`.
pub(super) fn table_type(of: &DataType) -> &'static str {
    match of {
        DataType::Null => "NULL_TYPE",
        DataType::Boolean => "BOOLEAN_TYPE",
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => "INT_TYPE",
        DataType::Int64 | DataType::UInt32 => "BIGINT_TYPE",
        DataType::UInt64 => "DECIMAL_TYPE",
        DataType::Float16 | DataType::Float32 | DataType::Float64 => "DOUBLE_TYPE",
        of if of.is_decimal() => "DECIMAL_TYPE",
        DataType::Date32 | DataType::Date64 => "DATE_TYPE",
        DataType::Timestamp(_, _) => "TIMESTAMP_TYPE",
        DataType::Struct(_) | DataType::Map(_, _) => "MAP_TYPE",
        of if of.is_list() => "ARRAY_TYPE",
        DataType::Dictionary(_, value) => table_type(value),
        _ => "STRING_TYPE",
    }
}

/// Writes rows as an array of arrays.
pub(super) fn rows(batches: &[RecordBatch]) -> String {
    let mut out = String::from("[");
    for_each_row(batches, |batch, row| {
        separate(&mut out);
        out.push('[');
        for column in batch.columns() {
            separate(&mut out);
            value(&mut out, column, row);
        }
        out.push(']');
    });
    out.push(']');
    out
}

/// Returns each row as an object without its NULLs, as Spark's `toJSON` does.
pub(super) fn objects(batches: &[RecordBatch]) -> Vec<String> {
    let mut objects = Vec::new();
    for_each_row(batches, |batch, row| {
        let mut out = String::from("{");
        for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            if !column.is_null(row) && column.data_type() != &DataType::Null {
                separate(&mut out);
                text(&mut out, field.name());
                out.push(':');
                value(&mut out, column, row);
            }
        }
        out.push('}');
        objects.push(out);
    });
    objects
}

fn for_each_row(batches: &[RecordBatch], mut each: impl FnMut(&RecordBatch, usize)) {
    for batch in batches {
        for row in 0..batch.num_rows() {
            each(batch, row);
        }
    }
}

/// Writes a comma, unless nothing comes before it.
fn separate(out: &mut String) {
    if !out.ends_with(['[', '{']) {
        out.push(',');
    }
}

fn text(out: &mut String, text: &str) {
    out.push_str(&Value::from(text).to_string());
}

fn number(out: &mut String, number: impl std::fmt::Display) {
    // Writing to a string does not fail.
    let _ = write!(out, "{number}");
}

fn float(out: &mut String, number: f64, shortest: impl FnOnce() -> String) {
    match number {
        number if number.is_finite() => out.push_str(&shortest()),
        number if number.is_nan() => out.push_str("\"NaN\""),
        number => out.push_str(if number > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" }),
    }
}

fn value(out: &mut String, array: &ArrayRef, row: usize) {
    if array.is_null(row) {
        return out.push_str("null");
    }
    match array.data_type() {
        DataType::Null => out.push_str("null"),
        DataType::Boolean => number(out, array.as_boolean().value(row)),
        DataType::Int8 => number(out, array.as_primitive::<Int8Type>().value(row)),
        DataType::Int16 => number(out, array.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => number(out, array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => number(out, array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => number(out, array.as_primitive::<UInt8Type>().value(row)),
        DataType::UInt16 => number(out, array.as_primitive::<UInt16Type>().value(row)),
        DataType::UInt32 => number(out, array.as_primitive::<UInt32Type>().value(row)),
        DataType::UInt64 => number(out, array.as_primitive::<UInt64Type>().value(row)),
        DataType::Float16 => {
            let value = array.as_primitive::<Float16Type>().value(row).to_f32();
            float(out, value.into(), || json!(value).to_string());
        }
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            // The digits of the narrow type, not those of its value as a wide one.
            float(out, value.into(), || format!("{value:?}"));
        }
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            float(out, value, || json!(value).to_string());
        }
        DataType::Decimal32(_, _) => decimal::<Decimal32Type>(out, array, row),
        DataType::Decimal64(_, _) => decimal::<Decimal64Type>(out, array, row),
        DataType::Decimal128(_, _) => decimal::<Decimal128Type>(out, array, row),
        DataType::Decimal256(_, _) => decimal::<Decimal256Type>(out, array, row),
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>().value(row);
            date(out, array, row, as_date::<Date32Type>(days.into()).map(|date| date.to_string()));
        }
        DataType::Date64 => {
            let at = array.as_primitive::<Date64Type>().value(row);
            date(out, array, row, as_date::<Date64Type>(at).map(|date| date.to_string()));
        }
        DataType::Timestamp(TimeUnit::Second, _) => timestamp::<TimestampSecondType>(out, array, row),
        DataType::Timestamp(TimeUnit::Millisecond, _) => timestamp::<TimestampMillisecondType>(out, array, row),
        DataType::Timestamp(TimeUnit::Microsecond, _) => timestamp::<TimestampMicrosecondType>(out, array, row),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => timestamp::<TimestampNanosecondType>(out, array, row),
        DataType::Binary => binary(out, array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => binary(out, array.as_binary::<i64>().value(row)),
        DataType::BinaryView => binary(out, array.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => binary(out, array.as_fixed_size_binary().value(row)),
        DataType::Utf8 => text(out, array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => text(out, array.as_string::<i64>().value(row)),
        DataType::Utf8View => text(out, array.as_string_view().value(row)),
        DataType::List(_) => list(out, &array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => list(out, &array.as_list::<i64>().value(row)),
        DataType::ListView(_) => list(out, &array.as_list_view::<i32>().value(row)),
        DataType::LargeListView(_) => list(out, &array.as_list_view::<i64>().value(row)),
        DataType::FixedSizeList(_, _) => list(out, &array.as_fixed_size_list().value(row)),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            out.push('{');
            for (field, column) in fields.iter().zip(columns) {
                separate(out);
                text(out, field.name());
                out.push(':');
                value(out, column, row);
            }
            out.push('}');
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            out.push('{');
            for entry in 0..entries.len() {
                separate(out);
                text(out, &shown(keys, entry));
                out.push(':');
                value(out, values, entry);
            }
            out.push('}');
        }
        DataType::Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            // A key that is not NULL lies inside the values.
            let key = dictionary.normalized_keys()[row];
            value(out, dictionary.values(), key);
        }
        DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Duration(_)
        | DataType::Interval(_)
        | DataType::Union(_, _)
        | DataType::RunEndEncoded(_, _) => text(out, &shown(array, row)),
    }
}

fn shown(array: &ArrayRef, row: usize) -> String {
    array_value_to_string(array, row).unwrap_or_else(|error| error.to_string())
}

fn decimal<T: DecimalType>(out: &mut String, array: &ArrayRef, row: usize) {
    out.push_str(&array.as_primitive::<T>().value_as_string(row));
}

/// Writes a date, which may be too far away for the calendar.
fn date(out: &mut String, array: &ArrayRef, row: usize, date: Option<String>) {
    text(out, &date.unwrap_or_else(|| shown(array, row)));
}

fn timestamp<T: ArrowTimestampType>(out: &mut String, array: &ArrayRef, row: usize) {
    let is_instant = matches!(array.data_type(), DataType::Timestamp(_, Some(_)));
    let at = as_datetime::<T>(array.as_primitive::<T>().value(row)).map(|at| {
        let nanos = at.and_utc().timestamp_subsec_nanos();
        let mut written = at.format("%Y-%m-%dT%H:%M:%S").to_string();
        if nanos > 0 {
            written.push_str(format!(".{nanos:09}").trim_end_matches('0'));
        }
        written.push_str(if is_instant { "Z" } else { "" });
        written
    });
    text(out, &at.unwrap_or_else(|| shown(array, row)));
}

fn binary(out: &mut String, bytes: &[u8]) {
    text(out, &STANDARD.encode(bytes));
}

fn list(out: &mut String, items: &ArrayRef) {
    out.push('[');
    for item in 0..items.len() {
        separate(out);
        value(out, items, item);
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array,
        Int64Array, ListArray, MapBuilder, NullArray, StringArray, StringBuilder, StructArray,
        TimestampMicrosecondArray, UInt64Array,
    };
    use arrow::datatypes::Int32Type;
    use std::sync::Arc;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn all() -> RecordBatch {
        let instant = 1_359_633_600_000_000;
        let micros = TimestampMicrosecondArray::from(vec![Some(instant), None, Some(instant + 120_000)]);
        let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for row in 0..3 {
            map.keys().append_value("k\"");
            map.values().append_option((row > 0).then_some("v"));
            map.append(true).unwrap();
        }
        let inner = Int64Array::from(vec![1, 2, 3]);
        let record =
            StructArray::from(vec![(Arc::new(Field::new("a", DataType::Int64, true)), Arc::new(inner) as ArrayRef)]);
        batch(vec![
            ("flag", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
            ("long", Arc::new(Int64Array::from(vec![i64::MIN, (1 << 53) + 1, i64::MAX]))),
            ("big", Arc::new(UInt64Array::from(vec![0, 1, u64::MAX]))),
            (
                "exact",
                Arc::new(
                    Decimal128Array::from(vec![1_234, -5, 99_999_999_999_999_999_999_999_999_999_999_999_999])
                        .with_precision_and_scale(38, 2)
                        .unwrap(),
                ),
            ),
            ("double", Arc::new(Float64Array::from(vec![0.1, f64::NAN, f64::NEG_INFINITY]))),
            ("float", Arc::new(Float32Array::from(vec![0.1, f32::INFINITY, 1e30]))),
            ("text", Arc::new(StringArray::from(vec![Some("a\"\n"), None, Some("ä😀\u{1}")]))),
            ("day", Arc::new(Date32Array::from(vec![0, 15_736, -1]))),
            ("at", Arc::new(micros.clone())),
            ("instant", Arc::new(micros.with_timezone("Europe/Berlin"))),
            ("bytes", Arc::new(BinaryArray::from(vec![&b"\x00\xff"[..], b"", b"abc"]))),
            (
                "list",
                Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([
                    Some(vec![Some(1), None]),
                    None,
                    Some(Vec::new()),
                ])),
            ),
            ("record", Arc::new(record)),
            ("map", Arc::new(map.finish())),
            ("word", Arc::new(DictionaryArray::<Int32Type>::from_iter([Some("x"), None, Some("x")]))),
            ("nothing", Arc::new(NullArray::new(3))),
        ])
    }

    #[test]
    fn values_have_all_their_digits() {
        let expected = concat!(
            r#"[[true,-9223372036854775808,0,12.34,0.1,0.1,"a\"\n","1970-01-01","2013-01-31T12:00:00","2013-01-31T12:00:00Z","#,
            r#""AP8=",[1,null],{"a":1},{"k\"":null},"x",null],"#,
            r#"[null,9007199254740993,1,-0.05,"NaN","Infinity",null,"2013-01-31",null,null,"",null,{"a":2},{"k\"":"v"},null,null],"#,
            r#"[false,9223372036854775807,18446744073709551615,999999999999999999999999999999999999.99,"-Infinity",1e30,"#,
            "\"ä😀\\u0001\",\"1969-12-31\",\"2013-01-31T12:00:00.12\",\"2013-01-31T12:00:00.12Z\",\"YWJj\",[],",
            r#"{"a":3},{"k\"":"v"},"x",null]]"#
        );
        let written = rows(&[all()]);
        assert_eq!(written, expected);
        serde_json::from_str::<Value>(&written).unwrap();
    }

    #[test]
    fn objects_leave_out_what_is_null() {
        let found = objects(&[batch(vec![
            ("a", Arc::new(Int64Array::from(vec![Some(1), None])) as ArrayRef),
            ("b\"", Arc::new(StringArray::from(vec![None::<&str>, None])) as ArrayRef),
        ])]);
        assert_eq!(found, [r#"{"a":1}"#, "{}"]);
    }

    #[test]
    fn types_have_the_names_of_spark() {
        let written = json!(StructType::of(&all().schema()));
        let fields = written["fields"].as_array().unwrap();
        let names: Vec<String> = fields.iter().map(|field| field["type"].to_string()).collect();
        let expected = [
            "\"boolean\"",
            "\"long\"",
            "\"decimal(20,0)\"",
            "\"decimal(38,2)\"",
            "\"double\"",
            "\"float\"",
            "\"string\"",
            "\"date\"",
            "\"timestamp_ntz\"",
            "\"timestamp\"",
            "\"binary\"",
        ];
        assert_eq!(names[..expected.len()], expected);
        assert_eq!(fields[11]["type"], json!({ "type": "array", "elementType": "long", "containsNull": true }));
        assert_eq!(fields[12]["type"]["fields"][0]["name"], "a");
        assert_eq!(fields[13]["type"]["keyType"], "string");
        assert_eq!((&fields[14]["type"], &fields[15]["type"]), (&json!("string"), &json!("void")));
        assert_eq!(fields[0]["nullable"], true);
    }
}

//! Exact integers in JSON files, and dates and times read as casts read text. Arrow's reader reads 1.5 as 1 into an integer column, and does not know seconds
//! of an offset. So it gets text columns for them, and the text is parsed here.

use crate::time::TimeReader;
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, FixedSizeListArray, GenericListArray, Int64Array, MapArray,
    OffsetSizeTrait, PrimitiveArray, StringArray, StructArray,
};
use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::*;
use std::sync::Arc;

/// A value that its column cannot hold, and its row.
#[derive(Debug, PartialEq)]
pub(super) struct NoInteger {
    pub row: usize,
    pub text: String,
}

/// `schema` with text in place of integers, dates and times, at any depth.
pub(super) fn read_as(fields: &Fields) -> Fields {
    fields.iter().map(|field| Arc::new(read_field_as(field))).collect()
}

fn read_field_as(field: &Field) -> Field {
    field.clone().with_data_type(read_type_as(field.data_type()))
}

fn read_type_as(data_type: &DataType) -> DataType {
    let inside = |field: &FieldRef| Arc::new(read_field_as(field));
    match data_type {
        other if other.is_integer() => DataType::Utf8,
        DataType::Date32 | DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..) => DataType::Utf8,
        DataType::List(field) => DataType::List(inside(field)),
        DataType::LargeList(field) => DataType::LargeList(inside(field)),
        DataType::FixedSizeList(field, length) => DataType::FixedSizeList(inside(field), *length),
        DataType::Struct(fields) => DataType::Struct(read_as(fields)),
        DataType::Map(field, sorted) => DataType::Map(inside(field), *sorted),
        other => other.clone(),
    }
}

/// Converts `array`, which was read with the types of [`read_as`], to the type of `field`.
pub(super) fn exactly(array: &ArrayRef, field: &Field) -> Result<ArrayRef, NoInteger> {
    if array.data_type() == field.data_type() {
        return Ok(Arc::clone(array));
    }
    Ok(match field.data_type() {
        DataType::Int8 => integers::<Int8Type>(array.as_string(), field)?,
        DataType::Int16 => integers::<Int16Type>(array.as_string(), field)?,
        DataType::Int32 => integers::<Int32Type>(array.as_string(), field)?,
        DataType::Int64 => integers::<Int64Type>(array.as_string(), field)?,
        DataType::UInt8 => integers::<UInt8Type>(array.as_string(), field)?,
        DataType::UInt16 => integers::<UInt16Type>(array.as_string(), field)?,
        DataType::UInt32 => integers::<UInt32Type>(array.as_string(), field)?,
        DataType::UInt64 => integers::<UInt64Type>(array.as_string(), field)?,
        DataType::Date32 | DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..) => {
            times(array.as_string(), field)?
        }
        DataType::List(inner) => list::<i32>(array.as_list(), inner)?,
        DataType::LargeList(inner) => list::<i64>(array.as_list(), inner)?,
        DataType::FixedSizeList(inner, length) => {
            let list = array.as_fixed_size_list();
            let per_row = usize::try_from(*length).unwrap_or_default().max(1);
            let values = exactly(list.values(), inner).map_err(|wrong| wrong.in_row(|value| value / per_row))?;
            Arc::new(FixedSizeListArray::new(Arc::clone(inner), *length, values, list.nulls().cloned()))
        }
        DataType::Struct(fields) => Arc::new(structs(array.as_struct(), fields)?),
        DataType::Map(entry, sorted) => {
            let map = array.as_map();
            let DataType::Struct(fields) = entry.data_type() else { return Ok(Arc::clone(array)) };
            let row = |value| row_of(map.offsets(), value);
            let entries = structs(map.entries(), fields).map_err(|wrong| wrong.in_row(row))?;
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Arc::new(MapArray::new(Arc::clone(entry), offsets, entries, nulls, *sorted))
        }
        _ => Arc::clone(array),
    })
}

impl NoInteger {
    fn in_row(self, row: impl Fn(usize) -> usize) -> Self {
        Self { row: row(self.row), ..self }
    }
}

fn row_of<O: OffsetSizeTrait>(offsets: &[O], value: usize) -> usize {
    offsets.partition_point(|offset| offset.as_usize() <= value).saturating_sub(1)
}

fn list<O: OffsetSizeTrait>(list: &GenericListArray<O>, inner: &FieldRef) -> Result<ArrayRef, NoInteger> {
    let values = exactly(list.values(), inner).map_err(|wrong| wrong.in_row(|value| row_of(list.offsets(), value)))?;
    let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
    Ok(Arc::new(GenericListArray::<O>::new(Arc::clone(inner), offsets, values, nulls)))
}

fn structs(array: &StructArray, fields: &Fields) -> Result<StructArray, NoInteger> {
    if fields.is_empty() {
        return Ok(array.clone());
    }
    let columns = array.columns().iter().zip(fields).map(|(column, field)| exactly(column, field));
    Ok(StructArray::new(fields.clone(), columns.collect::<Result<_, _>>()?, array.nulls().cloned()))
}

/// A number counts units of the type since 1970 or midnight.
fn times(texts: &StringArray, field: &Field) -> Result<ArrayRef, NoInteger> {
    let wanted = field.data_type();
    let wrong = |row: usize, value: &str, why: &str| {
        let text = format!("the field '{}' is {value}, which is no {wanted} ({why})", field.name());
        NoInteger { row, text }
    };
    let failed = |error: datafusion::common::DataFusionError| wrong(0, "of a type", &error.strip_backtrace());
    let Some(reader) = TimeReader::new(wanted).map_err(failed)? else { return Err(wrong(0, "no time", "")) };
    let number = |text: &str| text.parse::<i64>().ok().filter(|_| text.len() != 8 || *wanted != DataType::Date32);
    let read = texts.iter().enumerate().map(|(row, text)| {
        let Some(text) = text else { return Ok(None) };
        match number(text) {
            Some(number) => Ok(Some(number)),
            None => reader.read(text).map(Some).map_err(|error| wrong(row, text, &error.strip_backtrace())),
        }
    });
    let values = read.collect::<Result<Int64Array, _>>()?;
    reader.array(values).map_err(failed)
}

fn integers<T: ArrowPrimitiveType + Parser>(texts: &StringArray, field: &Field) -> Result<ArrayRef, NoInteger> {
    let mut values = PrimitiveArray::<T>::builder(texts.len());
    for (row, text) in texts.iter().enumerate() {
        let value = text.map(|text| T::parse(text).or_else(|| T::parse(&without_exponent(text)?)));
        match value {
            None => values.append_null(),
            Some(Some(value)) => values.append_value(value),
            Some(None) => {
                let (name, wanted, value) = (field.name(), field.data_type(), text.unwrap_or_default());
                let text = format!(
                    "the field '{name}' is {value}, which is no {wanted}: declare it as DOUBLE, DECIMAL or VARCHAR, or have more records \
                     looked at when the table is created (schema_infer_max_rec)"
                );
                return Err(NoInteger { row, text });
            }
        }
    }
    Ok(Arc::new(values.finish()))
}

/// The digits of an integer written in another form, such as 1.0 and 1e3.
fn without_exponent(number: &str) -> Option<String> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i32 = exponent.trim_start_matches('+').parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let zeros = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let digits = format!("{whole}{fraction}");
    match zeros {
        0..=40 => Some(digits + &"0".repeat(usize::try_from(zeros).ok()?)),
        -40..0 => {
            let kept = digits.len().checked_sub(usize::try_from(-zeros).ok()?)?;
            digits[kept..].bytes().all(|digit| digit == b'0').then(|| digits[..kept].to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::json::ReaderBuilder;

    fn read(data_type: DataType, json: &str) -> Result<ArrayRef, NoInteger> {
        let fields = Fields::from(vec![Field::new("v", data_type, true)]);
        let schema = Arc::new(Schema::new(read_as(&fields)));
        let mut reader = ReaderBuilder::new(schema).with_coerce_primitive(true).build(json.as_bytes()).unwrap();
        exactly(reader.next().unwrap().unwrap().column(0), &fields[0])
    }

    #[test]
    fn whole_numbers_are_read_and_others_refused() {
        let json = r#"{"v":1} {"v":"7"} {"v":1.0} {"v":-2e3} {"v":1200e-2} {"v":null} {}"#;
        let array = read(DataType::Int64, json).unwrap();
        let wanted = [Some(1), Some(7), Some(1), Some(-2000), Some(12), None, None];
        assert_eq!(array.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), wanted);
        for wrong in ["1.5", "9223372036854775808", "true", "\"x\"", "1e99", "15e-1", "\"\""] {
            assert_eq!(read(DataType::Int64, &format!("{{\"v\":2}} {{\"v\":{wrong}}}")).unwrap_err().row, 1, "{wrong}");
        }
    }

    #[test]
    fn numbers_inside_of_others_are_told_by_their_row() {
        let list = DataType::new_list(DataType::Struct(vec![Field::new("w", DataType::Int32, true)].into()), true);
        assert_eq!(read(list.clone(), r#"{"v":[{"w":1},{"w":2}]} {"v":null} {"v":[]}"#).unwrap().len(), 3);
        let wrong = read(list, r#"{"v":[{"w":1},{"w":2}]} {"v":[]} {"v":[null,{"w":0.5}]}"#).unwrap_err();
        assert_eq!(wrong.row, 2);
        assert!(wrong.text.contains("'w' is 0.5"), "{}", wrong.text);
    }
}

//! From rows to items: the opposite of `decode`.
//!
//! NULL is an attribute that is left out, and in a list NULL. Texts are S, also those that are JSON; lists are L.

use super::condition::decimal;
use super::decode::{is_text, is_written_out};
use super::number::Number;
use super::value::Item;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use datafusion::arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Decimal256Array, Float32Array, Float64Array,
    Int64Array, ListArray, RecordBatch, StringArray, StructArray, UInt64Array,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::cast::{
    as_binary_array, as_boolean_array, as_decimal128_array, as_decimal256_array, as_float32_array, as_float64_array,
    as_int64_array, as_list_array, as_string_array, as_struct_array, as_uint64_array,
};
use datafusion::common::{Result, not_impl_err};

/// A column, or a part of one.
enum Column {
    Null,
    Text(StringArray),
    Bytes(BinaryArray),
    Truth(BooleanArray),
    Integer(Int64Array),
    Unsigned(UInt64Array),
    Decimal(Decimal128Array, u8),
    Wide(Decimal256Array, u8),
    Float(Float32Array),
    Double(Float64Array),
    Struct(Vec<(String, Column)>, Option<NullBuffer>),
    List(OffsetBuffer<i32>, Box<Column>, Option<NullBuffer>),
}

/// The rows of a batch.
pub(super) struct Rows {
    columns: Vec<(String, Column)>,
    count: usize,
}

impl Rows {
    /// # Errors
    /// A column has no type in DynamoDB.
    pub fn of(batch: &RecordBatch, names: &[String]) -> Result<Self> {
        let column = |(name, array): (&String, &ArrayRef)| Ok((name.clone(), Column::of(array)?));
        let columns = names.iter().zip(batch.columns()).map(column).collect::<Result<_>>()?;
        Ok(Self { columns, count: batch.num_rows() })
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// # Errors
    /// The name of a column, and why its value is none of DynamoDB's.
    pub fn item(&self, row: usize) -> std::result::Result<Item, String> {
        attributes(&self.columns, row)
    }
}

fn attributes(columns: &[(String, Column)], row: usize) -> std::result::Result<Item, String> {
    let mut item = Item::with_capacity(columns.len());
    for (name, column) in columns {
        if let Some(value) = column.value(row).map_err(|why| format!("the column {name}{why}"))? {
            item.insert(name.clone(), value);
        }
    }
    Ok(item)
}

impl Column {
    fn of(array: &ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            kind if is_text(kind) || is_written_out(kind) => {
                Self::Text(as_string_array(&cast(array, &DataType::Utf8)?)?.clone())
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Self::Bytes(as_binary_array(&cast(array, &DataType::Binary)?)?.clone())
            }
            DataType::Boolean => Self::Truth(as_boolean_array(array)?.clone()),
            DataType::UInt64 => Self::Unsigned(as_uint64_array(array)?.clone()),
            kind if kind.is_integer() => Self::Integer(as_int64_array(&cast(array, &DataType::Int64)?)?.clone()),
            DataType::Decimal128(_, scale) if *scale >= 0 => {
                Self::Decimal(as_decimal128_array(array)?.clone(), *scale as u8)
            }
            DataType::Decimal256(_, scale) if *scale >= 0 => {
                Self::Wide(as_decimal256_array(array)?.clone(), *scale as u8)
            }
            DataType::Float32 => Self::Float(as_float32_array(array)?.clone()),
            DataType::Float64 => Self::Double(as_float64_array(array)?.clone()),
            DataType::Dictionary(_, kind) => Self::of(&cast(array, kind)?)?,
            DataType::Struct(_) => {
                let array: &StructArray = as_struct_array(array)?;
                let child = |(name, column): (&&str, &ArrayRef)| Ok((name.to_string(), Self::of(column)?));
                let names = array.column_names();
                let children = names.iter().zip(array.columns()).map(child).collect::<Result<_>>()?;
                Self::Struct(children, array.nulls().cloned())
            }
            DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
                Self::of(&cast(array, &DataType::List(field.clone()))?)?
            }
            DataType::List(_) => {
                let array: &ListArray = as_list_array(array)?;
                Self::List(array.offsets().clone(), Box::new(Self::of(array.values())?), array.nulls().cloned())
            }
            kind => return not_impl_err!("DynamoDB has no type for {kind}"),
        })
    }

    fn is_null(&self, row: usize) -> bool {
        let of = |nulls: Option<&NullBuffer>| nulls.is_some_and(|nulls| nulls.is_null(row));
        match self {
            Self::Null => true,
            Self::Text(array) => array.is_null(row),
            Self::Bytes(array) => array.is_null(row),
            Self::Truth(array) => array.is_null(row),
            Self::Integer(array) => array.is_null(row),
            Self::Unsigned(array) => array.is_null(row),
            Self::Decimal(array, _) => array.is_null(row),
            Self::Wide(array, _) => array.is_null(row),
            Self::Float(array) => array.is_null(row),
            Self::Double(array) => array.is_null(row),
            Self::Struct(_, nulls) | Self::List(_, _, nulls) => of(nulls.as_ref()),
        }
    }

    /// `None`: NULL. An error is the end of a sentence about the column.
    fn value(&self, row: usize) -> std::result::Result<Option<AttributeValue>, String> {
        if self.is_null(row) {
            return Ok(None);
        }
        let value = match self {
            Self::Null => return Ok(None),
            Self::Text(array) => AttributeValue::S(array.value(row).to_string()),
            Self::Bytes(array) => AttributeValue::B(Blob::new(array.value(row))),
            Self::Truth(array) => AttributeValue::Bool(array.value(row)),
            Self::Integer(array) => AttributeValue::N(array.value(row).to_string()),
            Self::Unsigned(array) => AttributeValue::N(array.value(row).to_string()),
            Self::Decimal(array, scale) => number(decimal(array.value(row), *scale))?,
            Self::Wide(array, scale) => number(format!("{}E-{scale}", array.value(row)))?,
            Self::Float(array) => number(format!("{:e}", array.value(row)))?,
            Self::Double(array) => number(format!("{:e}", array.value(row)))?,
            Self::Struct(fields, _) => AttributeValue::M(attributes(fields, row).map_err(|why| format!(": {why}"))?),
            Self::List(offsets, values, _) => {
                let range = offsets[row] as usize..offsets[row + 1] as usize;
                let element = |at: usize| Ok(values.value(at)?.unwrap_or(AttributeValue::Null(true)));
                AttributeValue::L(range.map(element).collect::<std::result::Result<_, String>>()?)
            }
        };
        Ok(Some(value))
    }
}

fn number(text: String) -> std::result::Result<AttributeValue, String> {
    match Number::parse(&text) {
        Some(number) if number.fits() => Ok(AttributeValue::N(text)),
        Some(_) => Err(format!(
            " is {text}: numbers of DynamoDB have up to 38 digits and are from 1E-130 to 9.9E+125; round it, or write it as VARCHAR"
        )),
        None => Err(format!(" is {text}, which is no number of DynamoDB: write NULL or VARCHAR")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode::Decoder;
    use super::*;
    use datafusion::arrow::array::Int32Array;
    use datafusion::arrow::datatypes::{Field, Float64Type, Int64Type, TimeUnit};
    use std::sync::Arc;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
    }

    fn items(batch: &RecordBatch) -> std::result::Result<Vec<Item>, String> {
        let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
        let rows = Rows::of(batch, &names).unwrap();
        (0..rows.count()).map(|row| rows.item(row)).collect()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let inner: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
        let fields = vec![Field::new("x", DataType::Int32, true)];
        let nulls = Some(NullBuffer::from(vec![true, false]));
        let decimals =
            Decimal128Array::from(vec![Some(10_i128.pow(38) - 1), Some(-5)]).with_precision_and_scale(38, 6).unwrap();
        let wide = Decimal128Array::from(vec![Some(12_345), None]).with_precision_and_scale(20, 2).unwrap();
        let wide = cast(&(Arc::new(wide) as ArrayRef), &DataType::Decimal256(50, 3)).unwrap();
        let written = batch(vec![
            ("id", Arc::new(StringArray::from(vec!["a", ""]))),
            ("i", Arc::new(Int64Array::from(vec![Some(i64::MIN), None]))),
            ("u", Arc::new(UInt64Array::from(vec![Some(u64::MAX), Some(0)]))),
            ("d", Arc::new(decimals)),
            ("w", wide),
            ("f", Arc::new(Float64Array::from(vec![Some(-0.1), Some(1e125)]))),
            ("b", Arc::new(BooleanArray::from(vec![Some(true), None]))),
            ("x", Arc::new(BinaryArray::from(vec![Some(&[0_u8, 255][..]), Some(&[])]))),
            (
                "t",
                cast(
                    &(Arc::new(Int64Array::from(vec![Some(1_500_000), None])) as ArrayRef),
                    &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
                )
                .unwrap(),
            ),
            ("s", Arc::new(StructArray::new(fields.into(), vec![inner], nulls))),
            ("l", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1), None]), None]))),
        ]);
        let items = items(&written).unwrap();
        assert!(!items[1].contains_key("i") && !items[1].contains_key("s") && items[0]["l"].is_l());
        let decoder = Decoder { schema: written.schema(), misfits_are_null: false };
        assert_eq!(decoder.batch(&items).unwrap(), written);
    }

    #[test]
    fn what_is_no_number_of_dynamodb_is_named() {
        for (value, words) in
            [(f64::NAN, "no number"), (f64::INFINITY, "no number"), (1e200, "38 digits"), (1e-200, "38 digits")]
        {
            let list = ListArray::from_iter_primitive::<Float64Type, _, _>(vec![Some(vec![Some(value)])]);
            for column in [Arc::new(Float64Array::from(vec![value])) as ArrayRef, Arc::new(list)] {
                let error = items(&batch(vec![("price", column)])).unwrap_err();
                assert!(error.contains("column price") && error.contains(words), "{error}");
            }
        }
    }
}

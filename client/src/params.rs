//! Values for the `$name` placeholders of a statement.

use crate::error::{ClientError, Result};
use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, NullArray, PrimitiveArray, RecordBatch,
    RecordBatchOptions, StringArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema, SchemaRef, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow::util::display::array_value_to_string;
use std::sync::Arc;

/// A value of a placeholder.
#[derive(Clone, Debug)]
pub enum Param {
    /// A value of a known type: an array with one element.
    Typed(ArrayRef),
    /// A value from a command line: the statement determines its type; if it does not, the value is read as a number, `true`, `false` or `null`, and otherwise
    /// as text. Quotes make it text.
    Text(String),
}

impl From<ArrayRef> for Param {
    fn from(value: ArrayRef) -> Self {
        Param::Typed(value)
    }
}

fn number<T: ArrowPrimitiveType>(value: Option<T::Native>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter([value]))
}

fn text(value: Option<&str>) -> ArrayRef {
    Arc::new(StringArray::from(vec![value]))
}

/// Converts from a value, and from an optional one, which is NULL when absent.
macro_rules! from_values {
    ($($type:ty => |$value:ident| $array:expr),* $(,)?) => {
        $(
            impl From<Option<$type>> for Param {
                fn from($value: Option<$type>) -> Self {
                    Param::Typed($array)
                }
            }

            impl From<$type> for Param {
                fn from(value: $type) -> Self {
                    Some(value).into()
                }
            }
        )*
    };
}

from_values! {
    i8 => |value| number::<Int8Type>(value),
    i16 => |value| number::<Int16Type>(value),
    i32 => |value| number::<Int32Type>(value),
    i64 => |value| number::<Int64Type>(value),
    u8 => |value| number::<UInt8Type>(value),
    u16 => |value| number::<UInt16Type>(value),
    u32 => |value| number::<UInt32Type>(value),
    u64 => |value| number::<UInt64Type>(value),
    f32 => |value| number::<Float32Type>(value),
    f64 => |value| number::<Float64Type>(value),
    bool => |value| Arc::new(BooleanArray::from(vec![value])),
    &str => |value| text(value),
    String => |value| text(value.as_deref()),
    &[u8] => |value| Arc::new(BinaryArray::from(vec![value])),
}

/// Named values, in the order given. Positional placeholders (`$1`) are named by their number.
#[derive(Clone, Debug, Default)]
pub struct Params(Vec<(String, Param)>);

impl Params {
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<Param>) {
        let name = name.into();
        let name = name.trim_start_matches('$').to_owned();
        let value = value.into();
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, name: &str) -> Option<&Param> {
        let name = name.trim_start_matches('$');
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Returns one row with a column for each of `placeholders`, in their order. Texts are of the placeholder's type, if it has one.
    pub(crate) fn bind(&self, placeholders: &SchemaRef) -> Result<RecordBatch> {
        let mut fields = Vec::with_capacity(placeholders.fields().len());
        let mut columns = Vec::with_capacity(placeholders.fields().len());
        for placeholder in placeholders.fields() {
            let name = placeholder.name().trim_start_matches('$');
            let value = self.get(name).ok_or_else(|| {
                ClientError::invalid(format!("placeholder ${name} has no value: give one with --param {name}=VALUE"))
            })?;
            let column = array_of(name, value, placeholder.data_type())?;
            fields.push(Field::new(placeholder.name(), column.data_type().clone(), true));
            columns.push(column);
        }
        if let Some(unused) = self
            .names()
            .find(|name| !placeholders.fields().iter().any(|field| field.name().trim_start_matches('$') == *name))
        {
            let known: Vec<String> = placeholders
                .fields()
                .iter()
                .map(|field| format!("${}", field.name().trim_start_matches('$')))
                .collect();
            return Err(ClientError::invalid(format!(
                "the statement has no placeholder ${unused}; it has: {}",
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            )));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
    }
}

fn array_of(name: &str, value: &Param, wanted: &DataType) -> Result<ArrayRef> {
    let wrong = |e: &dyn std::fmt::Display, shown: &str| {
        ClientError::invalid(format!("value {shown} of placeholder ${name} is no {wanted}: {e}"))
    };
    let array = match value {
        Param::Typed(array) => Arc::clone(array),
        Param::Text(text) if wanted.is_null() => guess(text),
        Param::Text(text) if text.eq_ignore_ascii_case("null") => Arc::new(NullArray::new(1)),
        Param::Text(written) => text(Some(unquoted(written).unwrap_or(written))),
    };
    if array.len() != 1 {
        return Err(ClientError::invalid(format!(
            "placeholder ${name} takes one value, and was given {}",
            array.len()
        )));
    }
    // A value that has a type keeps it: the cluster converts it where that does not change it. 1.5 beside an integer stays 1.5.
    if wanted.is_null() || array.data_type() == wanted || matches!(value, Param::Typed(_)) {
        return Ok(array);
    }
    // Not `safe`: a value that does not fit must be an error, not NULL.
    let strict = CastOptions { safe: false, ..Default::default() };
    cast_with_options(&array, wanted, &strict)
        .map_err(|e| wrong(&e, &array_value_to_string(&array, 0).unwrap_or_default()))
}

/// Parses a value when nothing determines its type.
fn guess(written: &str) -> ArrayRef {
    if let Some(inner) = unquoted(written) {
        return text(Some(inner));
    }
    if let Ok(value) = written.parse::<i64>() {
        return number::<Int64Type>(Some(value));
    }
    match written {
        "true" => Arc::new(BooleanArray::from(vec![true])),
        "false" => Arc::new(BooleanArray::from(vec![false])),
        "null" | "NULL" => Arc::new(NullArray::new(1)),
        // Words that Rust reads as floating point numbers (inf, nan) are text to a user.
        _ if written.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => {
            written.parse::<f64>().map_or_else(|_| text(Some(written)), |value| number::<Float64Type>(Some(value)))
        }
        _ => text(Some(written)),
    }
}

fn unquoted(text: &str) -> Option<&str> {
    text.strip_prefix('\'')?.strip_suffix('\'')
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Date32Type, Int64Type};

    fn placeholders(fields: &[(&str, DataType)]) -> SchemaRef {
        Arc::new(Schema::new(fields.iter().map(|(name, t)| Field::new(*name, t.clone(), true)).collect::<Vec<_>>()))
    }

    fn params(values: &[(&str, &str)]) -> Params {
        let mut params = Params::default();
        for (name, value) in values {
            params.set(*name, Param::Text((*value).to_owned()));
        }
        params
    }

    #[test]
    fn text_takes_the_type_that_the_statement_asks_for() {
        let schema = placeholders(&[("$day", DataType::Date32), ("$n", DataType::Int64)]);
        let row = params(&[("n", "17"), ("day", "2013-01-31")]).bind(&schema).unwrap();
        assert_eq!(row.schema().field(0).name(), "$day");
        assert_eq!(row.column(0).as_primitive::<Date32Type>().value(0), 15_736);
        assert_eq!(row.column(1).as_primitive::<Int64Type>().value(0), 17);
    }

    #[test]
    fn a_value_that_does_not_fit_is_an_error_and_not_null() {
        let schema = placeholders(&[("$n", DataType::Int32)]);
        let error = params(&[("n", "many")]).bind(&schema).unwrap_err().to_string();
        assert!(error.contains("$n") && error.contains("many") && error.contains("Int32"), "{error}");
    }

    #[test]
    fn without_a_type_a_value_is_what_it_looks_like() {
        let types: Vec<DataType> = ["1", "1.5", "true", "'1'", "abc", "inf", "null", "-3"]
            .iter()
            .map(|text| guess(text).data_type().clone())
            .collect();
        use DataType::{Boolean, Float64, Int64, Null, Utf8};
        assert_eq!(types, [Int64, Float64, Boolean, Utf8, Utf8, Utf8, Null, Int64]);
    }

    #[test]
    fn missing_and_superfluous_values_are_errors() {
        let schema = placeholders(&[("$a", DataType::Null)]);
        assert!(params(&[]).bind(&schema).unwrap_err().to_string().contains("--param a="));
        assert!(params(&[("a", "1"), ("b", "2")]).bind(&schema).unwrap_err().to_string().contains("no placeholder $b"));
    }

    #[test]
    fn null_is_null_whatever_the_type() {
        let schema = placeholders(&[("$a", DataType::Int32)]);
        assert!(params(&[("a", "null")]).bind(&schema).unwrap().column(0).is_null(0));
    }
}

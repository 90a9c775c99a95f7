//! Conversion of records to columns.

use super::records::Records;
use crate::text_files::place::WrongLine;
use crate::time::TimeReader;
use arrow::array::types::*;
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BinaryViewArray, BooleanArray, LargeBinaryArray,
    LargeStringArray, PrimitiveArray, StringArray, StringViewArray, new_null_array,
};
use arrow::compute::CastOptions;
use arrow::compute::kernels::cast::cast_with_options;
use arrow::compute::kernels::cast_utils::{Parser, parse_decimal};
use arrow::datatypes::{DataType, DecimalType, Field};
use datafusion::common::{Result, config_datafusion_err};
use regex::Regex;
use std::sync::Arc;

/// The values that mean NULL: an empty value without quotes, or what the options say.
#[derive(Clone, Debug, Default)]
pub(super) struct Nulls {
    /// The NULL value that writers write without quotes.
    value: Option<String>,
    regex: Option<Regex>,
}

impl Nulls {
    pub(super) fn new(value: Option<&str>, regex: Option<&str>) -> Result<Self> {
        let value = value.filter(|value| !value.is_empty()).map(str::to_string);
        let regex = regex.filter(|regex| !regex.is_empty()).map(Regex::new).transpose();
        let regex = regex.map_err(|error| config_datafusion_err!("null_regex is no regular expression: {error}"))?;
        Ok(Self { value, regex })
    }

    pub(super) fn is_null(&self, value: &str, quoted: bool, is_text: bool) -> bool {
        let told = match (&self.value, &self.regex) {
            (None, None) => !quoted && value.is_empty(),
            (null, regex) => {
                null.as_deref().is_some_and(|null| !quoted && value == null)
                    || regex.as_ref().is_some_and(|regex| regex.is_match(value))
            }
        };
        // An empty value is no number.
        told || (!is_text && value.is_empty())
    }
}

/// A column of the table from the `nth` kept field of each record; all NULL if the file has no such field.
pub(super) fn column(
    records: &Records,
    nth: Option<usize>,
    field: &Field,
    nulls: &Nulls,
) -> Result<ArrayRef, WrongLine> {
    let array = match nth {
        None => new_null_array(field.data_type(), records.len()),
        Some(nth) => Values { records, nth, field, nulls }.array()?,
    };
    if let (false, Some(null)) = (field.is_nullable(), (0..array.len()).find(|&record| array.is_null(record))) {
        let text = format!("column '{}' is NULL, and was declared NOT NULL", field.name());
        return Err(WrongLine { line: records.line(null), text });
    }
    Ok(array)
}

#[derive(Clone, Copy)]
struct Values<'a> {
    records: &'a Records,
    nth: usize,
    field: &'a Field,
    nulls: &'a Nulls,
}

impl<'a> Values<'a> {
    fn array(self) -> Result<ArrayRef, WrongLine> {
        use DataType::*;
        Ok(match self.field.data_type() {
            Utf8 => Arc::new(self.text().collect::<Result<StringArray, _>>()?),
            LargeUtf8 => Arc::new(self.text().collect::<Result<LargeStringArray, _>>()?),
            Utf8View => Arc::new(self.text().collect::<Result<StringViewArray, _>>()?),
            Binary => Arc::new(self.parsed(bytes)?.collect::<BinaryArray>()),
            LargeBinary => Arc::new(self.parsed(bytes)?.collect::<LargeBinaryArray>()),
            BinaryView => Arc::new(self.parsed(bytes)?.collect::<BinaryViewArray>()),
            Boolean => Arc::new(self.parsed(|text| boolean(text).ok_or_else(String::new))?.collect::<BooleanArray>()),
            Int8 => self.primitive::<Int8Type>()?,
            Int16 => self.primitive::<Int16Type>()?,
            Int32 => self.primitive::<Int32Type>()?,
            Int64 => self.primitive::<Int64Type>()?,
            UInt8 => self.primitive::<UInt8Type>()?,
            UInt16 => self.primitive::<UInt16Type>()?,
            UInt32 => self.primitive::<UInt32Type>()?,
            UInt64 => self.primitive::<UInt64Type>()?,
            Float16 => self.primitive::<Float16Type>()?,
            Float32 => self.primitive::<Float32Type>()?,
            Float64 => self.primitive::<Float64Type>()?,
            Date64 => self.primitive::<Date64Type>()?,
            Date32 | Time32(_) | Time64(_) | Timestamp(..) => self.time()?,
            Decimal32(precision, scale) => self.decimal::<Decimal32Type>(*precision, *scale)?,
            Decimal64(precision, scale) => self.decimal::<Decimal64Type>(*precision, *scale)?,
            Decimal128(precision, scale) => self.decimal::<Decimal128Type>(*precision, *scale)?,
            Decimal256(precision, scale) => self.decimal::<Decimal256Type>(*precision, *scale)?,
            _ => self.cast()?,
        })
    }

    fn is_text(self) -> bool {
        match self.field.data_type() {
            DataType::Dictionary(_, value) => value.is_string(),
            other => other.is_string(),
        }
    }

    fn text(self) -> impl Iterator<Item = Result<Option<&'a str>, WrongLine>> {
        let is_text = self.is_text();
        self.records.column(self.nth).map(move |value| {
            let (value, quoted) = value?;
            Ok((!self.nulls.is_null(value, quoted, is_text)).then_some(value))
        })
    }

    /// Parses each value.
    ///
    /// # Errors
    /// The first value that `parse` refuses, with its message.
    fn parsed<T>(self, parse: impl Fn(&str) -> Result<T, String>) -> Result<std::vec::IntoIter<Option<T>>, WrongLine> {
        let mut values = Vec::with_capacity(self.records.len());
        for (record, value) in self.text().enumerate() {
            values.push(match value? {
                None => None,
                Some(text) => Some(parse(text).map_err(|reason| self.wrong(record, text, &reason))?),
            });
        }
        Ok(values.into_iter())
    }

    fn wrong(self, record: usize, value: &str, reason: &str) -> WrongLine {
        let (column, wanted) = (self.field.name(), self.field.data_type());
        let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
        WrongLine {
            line: self.records.line(record),
            text: format!(
                "column '{column}': cannot parse '{value}' as {wanted}{reason}; declare the column as VARCHAR, or have more records looked \
                 at when the table is created (schema_infer_max_rec)"
            ),
        }
    }

    fn primitive<T: ArrowPrimitiveType + Parser>(self) -> Result<ArrayRef, WrongLine> {
        let values = self.parsed(|text| T::parse(text).ok_or_else(String::new))?;
        Ok(Arc::new(values.collect::<PrimitiveArray<T>>()))
    }

    fn decimal<T: DecimalType>(self, precision: u8, scale: i8) -> Result<ArrayRef, WrongLine> {
        let values = self.parsed(|text| parse_decimal::<T>(text, precision, scale).map_err(|e| e.to_string()))?;
        let array = values.collect::<PrimitiveArray<T>>().with_precision_and_scale(precision, scale);
        Ok(Arc::new(array.map_err(|error| self.wrong(0, "", &error.to_string()))?))
    }

    /// Dates and times, read as casts read text.
    fn time(self) -> Result<ArrayRef, WrongLine> {
        let of = self.field.data_type();
        let reader = TimeReader::new(of).map_err(|error| self.wrong(0, "", &error.to_string()))?;
        let Some(reader) = reader else { return self.cast() };
        let values = self.parsed(|text| reader.read(text).map_err(|error| error.strip_backtrace()))?;
        reader.array(values.collect()).map_err(|error| self.wrong(0, "", &error.to_string()))
    }

    /// Types that are rare in text files.
    fn cast(self) -> Result<ArrayRef, WrongLine> {
        let text = self.text().collect::<Result<StringArray, _>>()?;
        let strictly = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(&text, self.field.data_type(), &strictly).map_err(|error| {
            let wrong = (0..text.len())
                .find(|&record| cast_with_options(&text.slice(record, 1), self.field.data_type(), &strictly).is_err());
            let record = wrong.unwrap_or_default();
            let value = if text.is_empty() || text.is_null(record) { "" } else { text.value(record) };
            self.wrong(record, value, &error.to_string())
        })
    }
}

/// Bytes from hexadecimal digits after `\x`, as PostgreSQL writes them; otherwise the bytes of the text.
fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let Some(digits) = text.strip_prefix("\\x") else { return Ok(text.as_bytes().to_vec()) };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some((digit(high)? * 16 + digit(low)?) as u8),
        _ => None,
    };
    let bytes = digits.as_bytes().chunks(2).map(pair).collect::<Option<Vec<u8>>>();
    bytes.ok_or_else(|| "after \\x come two hexadecimal digits for each byte".to_string())
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

//! Casts from text to floating point numbers and to bytes.
//!
//! As in PostgreSQL, `'1e400'::float8` is out of range rather than infinity, and so is `'1e-400'`, rather than zero. `'\x00ff'::bytea` is two bytes: bytes
//! are written and read in this form. Any other text stands for its own bytes.

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use std::sync::{Arc, LazyLock};

static READ: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::from(Read { signature: Signature::any(2, Volatility::Immutable) })));

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![Arc::clone(&READ)]
}

/// Whether [`read`] reads values of the type.
pub(super) fn is_read(to: &DataType) -> bool {
    matches!(
        to,
        DataType::Float32 | DataType::Float64 | DataType::Binary | DataType::LargeBinary | DataType::BinaryView
    )
}

/// Reads a text as a value of `to`.
pub(super) fn read(text: Expr, to: &DataType) -> Result<Expr> {
    if let Expr::Literal(value, metadata) = &text
        && let Ok(read) = of_texts(&value.to_array()?, to)
    {
        return Ok(Expr::Literal(ScalarValue::try_from_array(&read, 0)?, metadata.clone()));
    }
    Ok(READ.call(vec![text, lit(ScalarValue::try_from(to)?)]))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Read {
    signature: Signature,
}

impl ScalarUDFImpl for Read {
    fn name(&self) -> &str {
        "windlass_read_text"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        // The name is that of the cast.
        Ok(args[0].schema_name().to_string())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[1].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let [text, to] = args.arg_fields else { return exec_err!("{} takes a text and a type", self.name()) };
        Ok(Arc::new(Field::new(self.name(), to.data_type().clone(), text.is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let to = args.return_field.data_type();
        Ok(match args.args.first() {
            Some(ColumnarValue::Scalar(text)) => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&of_texts(&text.to_array()?, to)?, 0)?)
            }
            Some(ColumnarValue::Array(texts)) => ColumnarValue::Array(of_texts(texts, to)?),
            None => return exec_err!("{} takes a text and a type", self.name()),
        })
    }
}

fn of_texts(texts: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if to.is_floating() { floats(texts, to) } else { bytes(texts, to) }
}

fn floats(texts: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let numbers = cast_with_options(texts, to, &strict)?;
    let values = cast(&numbers, &DataType::Float64)?;
    let values = values.as_primitive::<Float64Type>();
    let is_odd = |value: Option<f64>| value.is_some_and(|value| value == 0.0 || value.is_infinite());
    if !values.iter().any(is_odd) {
        return Ok(numbers);
    }
    let texts = cast(texts, &DataType::Utf8)?;
    for (text, value) in texts.as_string::<i32>().iter().zip(values.iter()) {
        let (Some(text), Some(value)) = (text, value) else { continue };
        if value.is_infinite() && text.contains(|letter: char| letter.is_ascii_digit())
            || value == 0.0 && mantissa(text).contains(|letter| matches!(letter, '1'..='9'))
        {
            let of = if *to == DataType::Float32 { "real" } else { "double precision" };
            return exec_err!("\"{text}\" is out of range for type {of}");
        }
    }
    Ok(numbers)
}

/// The number without its exponent.
fn mantissa(text: &str) -> &str {
    text.split(['e', 'E']).next().unwrap_or_default()
}

fn bytes(texts: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let texts = cast(texts, &DataType::Utf8)?;
    let texts = texts.as_string::<i32>();
    let mut read = BinaryBuilder::with_capacity(texts.len(), texts.values().len());
    for text in texts {
        match text.map(|text| (text, text.strip_prefix("\\x"))) {
            None => read.append_null(),
            Some((text, None)) => read.append_value(text),
            Some((_, Some(digits))) => read.append_value(of_hex(digits)?),
        }
    }
    Ok(cast(&read.finish(), to)?)
}

/// The bytes of pairs of hexadecimal digits. Blanks between pairs are ignored.
fn of_hex(digits: &str) -> Result<Vec<u8>> {
    let digit = |letter: char| match letter.to_digit(16) {
        Some(digit) => Ok(digit as u8),
        None => Err(exec_datafusion_err!("invalid hexadecimal digit: \"{letter}\"")),
    };
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    let mut letters = digits.chars();
    while let Some(high) = letters.next() {
        if high.is_ascii_whitespace() {
            continue;
        }
        let low =
            letters.next().ok_or_else(|| exec_datafusion_err!("invalid hexadecimal data: odd number of digits"))?;
        bytes.push(digit(high)? << 4 | digit(low)?);
    }
    Ok(bytes)
}

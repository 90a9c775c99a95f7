//! Checks of what a table promises of its columns (`varchar(3)`, `not null`) and of what a file format can hold (finite numbers and dates that have a text).

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowTemporalType, DataType, Date32Type, Date64Type, Field, FieldRef, Float64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampSecondType,
};
use arrow::temporal_conversions::as_datetime;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

static AT_MOST: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(AtMost::default().into()));
static NOT_NULL: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(NotNull::default().into()));

static IN_JSON: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(InJson::default().into()));

pub(crate) fn functions() -> [Arc<ScalarUDF>; 3] {
    [Arc::clone(&AT_MOST), Arc::clone(&NOT_NULL), Arc::clone(&IN_JSON)]
}

/// `value`, or an error that names `column` where it is or contains something without a form in JSON: NaN, infinity, a date that is too far away.
pub fn in_json(value: Expr, column: &str) -> Expr {
    IN_JSON.call(vec![value, lit(column)])
}

/// Whether the type is or contains dates and times, floating point numbers or decimals: an expression of decimals may become floating point where the two meet.
pub fn may_lack_json(of: &DataType) -> bool {
    match of {
        DataType::Struct(fields) => fields.iter().any(|field| may_lack_json(field.data_type())),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => may_lack_json(field.data_type()),
        DataType::Dictionary(_, values) => may_lack_json(values),
        of => of.is_floating() || of.is_decimal() || of.is_temporal(),
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct InJson {
    signature: Signature,
}

impl Default for InJson {
    fn default() -> Self {
        Self { signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for InJson {
    fn name(&self) -> &str {
        "windlass_in_json"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let of = &args.arg_fields[0];
        Ok(Arc::new(Field::new(self.name(), of.data_type().clone(), of.is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value, ColumnarValue::Scalar(column)] = args.args.as_slice() else {
            return exec_err!("{}() takes a value and the name of a column", self.name());
        };
        let Some(found) = without_json(&value.to_array(args.number_rows)?)? else { return Ok(value.clone()) };
        let column = column.try_as_str().flatten().unwrap_or_default();
        exec_err!("{found} in column '{column}' has no form in JSON: cast the column to text, or write another format")
    }
}

/// Returns what at any depth of the array has no form in JSON. Values below a NULL may be looked at too.
fn without_json(array: &ArrayRef) -> Result<Option<&'static str>> {
    const NO_NUMBER: &str = "NaN or infinity";
    const NO_TIME: &str = "a date or time beyond the year 262142";
    fn of<T: ArrowTemporalType<Native: Into<i64>>>(array: &ArrayRef) -> Option<&'static str> {
        let mut values = array.as_primitive::<T>().iter().flatten();
        values.any(|value| as_datetime::<T>(value.into()).is_none()).then_some(NO_TIME)
    }
    Ok(match array.data_type() {
        DataType::Struct(_) => {
            let found = array.as_struct().columns().iter().map(without_json).collect::<Result<Vec<_>>>()?;
            found.into_iter().flatten().next()
        }
        DataType::List(_) => without_json(array.as_list::<i32>().values())?,
        DataType::LargeList(_) => without_json(array.as_list::<i64>().values())?,
        DataType::FixedSizeList(..) => without_json(array.as_fixed_size_list().values())?,
        DataType::Map(..) => {
            let entries: ArrayRef = Arc::new(array.as_map().entries().clone());
            without_json(&entries)?
        }
        DataType::Dictionary(_, values) => without_json(&cast(array, values)?)?,
        DataType::Date32 => of::<Date32Type>(array),
        DataType::Date64 => of::<Date64Type>(array),
        DataType::Timestamp(TimeUnit::Second, _) => of::<TimestampSecondType>(array),
        DataType::Timestamp(TimeUnit::Millisecond, _) => of::<TimestampMillisecondType>(array),
        DataType::Timestamp(TimeUnit::Microsecond, _) => of::<TimestampMicrosecondType>(array),
        kind if kind.is_floating() => {
            let numbers = cast(array, &DataType::Float64)?;
            let mut numbers = numbers.as_primitive::<Float64Type>().iter().flatten();
            numbers.any(|number| !number.is_finite()).then_some(NO_NUMBER)
        }
        _ => None,
    })
}

/// `text`, or an error that names `column` where it has more than `length` characters. Blanks beyond them are removed, as the SQL standard requires.
pub fn at_most(text: Expr, length: u32, column: &str) -> Expr {
    AT_MOST.call(vec![text, lit(i64::from(length)), lit(column)])
}

/// `value`, or an error that names `column` of `table` where it is NULL.
pub fn not_null(value: Expr, column: &str, table: &str) -> Expr {
    NOT_NULL.call(vec![value, lit(column), lit(table)])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct NotNull {
    signature: Signature,
}

impl Default for NotNull {
    fn default() -> Self {
        Self { signature: Signature::any(3, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for NotNull {
    fn name(&self) -> &str {
        "windlass_not_null"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), args.arg_fields[0].data_type().clone(), false)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value, column, table] = args.args.as_slice() else {
            return exec_err!("{}() takes a value and the names of a column and its table", self.name());
        };
        let has_null = match value {
            ColumnarValue::Array(array) => array.logical_null_count() > 0,
            ColumnarValue::Scalar(scalar) => scalar.is_null() && args.number_rows > 0,
        };
        if !has_null {
            return Ok(value.clone());
        }
        match (column, table) {
            (ColumnarValue::Scalar(column), ColumnarValue::Scalar(table)) => {
                let (column, table) = (column.try_as_str().flatten(), table.try_as_str().flatten());
                exec_err!(
                    "NULL cannot be written to column '{}' of table '{}', which is NOT NULL",
                    column.unwrap_or_default(),
                    table.unwrap_or_default()
                )
            }
            _ => exec_err!("NULL cannot be written to a column that is NOT NULL"),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct AtMost {
    signature: Signature,
}

impl Default for AtMost {
    fn default() -> Self {
        Self { signature: Signature::any(3, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for AtMost {
    fn name(&self) -> &str {
        "windlass_at_most"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [texts, length, column] = args.args.as_slice() else {
            return exec_err!("{}() takes a text, a length and the name of a column", self.name());
        };
        let (ColumnarValue::Scalar(ScalarValue::Int64(Some(length))), ColumnarValue::Scalar(column)) = (length, column)
        else {
            return exec_err!("{}() takes a length and a name that are the same for all rows", self.name());
        };
        let column = column.try_as_str().flatten().unwrap_or_default();
        let length = usize::try_from(*length).unwrap_or(0);
        match texts {
            ColumnarValue::Array(array) => Ok(ColumnarValue::Array(checked(array, length, column)?)),
            ColumnarValue::Scalar(scalar) => {
                let array = checked(&scalar.to_array()?, length, column)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?))
            }
        }
    }
}

fn checked(array: &ArrayRef, length: usize, column: &str) -> Result<ArrayRef> {
    let plain = cast(array, &DataType::Utf8)?;
    let Some(texts) = plain.as_any().downcast_ref::<StringArray>() else { return exec_err!("not a text") };
    let fits = |text: Option<&str>| text.is_none_or(|text| text.len() <= length || text.chars().count() <= length);
    if texts.iter().all(fits) {
        return Ok(Arc::clone(array));
    }
    let cut = texts.iter().map(|text| text.map(|text| cut(text, length, column)).transpose());
    let cut: Vec<Option<Cow<'_, str>>> = cut.collect::<Result<_>>()?;
    Ok(cast(&StringArray::from_iter(cut), array.data_type())?)
}

fn cut<'a>(text: &'a str, length: usize, column: &str) -> Result<Cow<'a, str>> {
    let end = text.char_indices().nth(length).map_or(text.len(), |(at, _)| at);
    let (kept, rest) = text.split_at(end);
    if rest.chars().all(|c| c == ' ') {
        return Ok(Cow::Borrowed(kept));
    }
    exec_err!("value too long for column '{column}', which holds {length} characters: '{text}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_count_and_blanks_at_the_end_do_not() {
        let of = |texts: Vec<Option<&str>>| Arc::new(StringArray::from(texts)) as ArrayRef;
        let kept = checked(&of(vec![Some("añb"), Some("ab   "), None, Some("")]), 3, "c").unwrap();
        assert_eq!(&kept, &of(vec![Some("añb"), Some("ab "), None, Some("")]));
        let error = checked(&of(vec![Some("abcd")]), 3, "c").unwrap_err().to_string();
        assert!(error.contains("'c'") && error.contains("3 characters") && error.contains("'abcd'"), "{error}");
    }
}

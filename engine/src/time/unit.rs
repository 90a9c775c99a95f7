//! Values of timestamps in their units.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use chrono::{DateTime, NaiveDateTime};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::ColumnarValue;

pub(super) const NANOS_PER_SECOND: i128 = 1_000_000_000;
pub(super) const SECONDS_PER_DAY: i64 = 86_400;

pub(super) fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Date and time in UTC, or without a zone. `None`: outside the range of the calendar.
pub(super) fn naive_of(value: i64, unit: TimeUnit) -> Option<NaiveDateTime> {
    let per_second = per_second(unit);
    let nanos = value.rem_euclid(per_second) * (1_000_000_000 / per_second);
    DateTime::from_timestamp(value.div_euclid(per_second), nanos as u32).map(|time| time.naive_utc())
}

pub(super) fn nanos_of(time: NaiveDateTime) -> i128 {
    i128::from(time.and_utc().timestamp()) * NANOS_PER_SECOND + i128::from(time.and_utc().timestamp_subsec_nanos())
}

/// The value in `unit`, without finer digits. `None`: outside the range of the unit.
pub(super) fn in_unit(nanos: i128, unit: TimeUnit) -> Option<i64> {
    i64::try_from(nanos.div_euclid(NANOS_PER_SECOND / i128::from(per_second(unit)))).ok()
}

pub(super) fn value_of(time: NaiveDateTime, unit: TimeUnit) -> Result<i64> {
    in_unit(nanos_of(time), unit).ok_or_else(|| out_of_range(&time, unit))
}

pub(super) fn out_of_range(what: &dyn std::fmt::Display, unit: TimeUnit) -> datafusion::common::DataFusionError {
    let (unit, years, instead) = match unit {
        TimeUnit::Nanosecond => ("nanoseconds", "1677 to 2262", ": cast to TIMESTAMP(6), or use to_timestamp_micros()"),
        TimeUnit::Microsecond => ("microseconds", "-290307 to 294247", ""),
        TimeUnit::Millisecond | TimeUnit::Second => ("this unit", "-262143 to 262142", ""),
    };
    exec_datafusion_err!("{what} is no time of a timestamp in {unit}, which reach from {years}{instead}")
}

/// Applies `change` to the timestamps of `array` as numbers; returns an array of type `to`.
pub(super) fn map(array: &ArrayRef, to: &DataType, change: impl Fn(i64) -> Result<i64>) -> Result<ArrayRef> {
    let numbers = cast(array, &DataType::Int64)?;
    let changed: Int64Array = numbers.as_primitive::<Int64Type>().try_unary(change)?;
    Ok(cast(&changed, to)?)
}

/// Like [`map`], with NULL where `change` returns `None`.
pub(super) fn map_opt(array: &ArrayRef, to: &DataType, change: impl Fn(i64) -> Option<i64>) -> Result<ArrayRef> {
    let numbers = cast(array, &DataType::Int64)?;
    let changed: Int64Array = numbers.as_primitive::<Int64Type>().unary_opt(change);
    Ok(cast(&changed, to)?)
}

/// The same timestamps labelled with another zone: instants do not change.
pub(super) fn relabel(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    Ok(cast(&cast(array, &DataType::Int64)?, to)?)
}

/// Applies `function` to an array, or to a scalar as an array of one.
pub(super) fn on_array(
    value: &ColumnarValue,
    function: impl FnOnce(&ArrayRef) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    match value {
        ColumnarValue::Array(array) => Ok(ColumnarValue::Array(function(array)?)),
        ColumnarValue::Scalar(scalar) => {
            let one = function(&scalar.to_array()?)?;
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&one, 0)?))
        }
    }
}

pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// The texts of an array of any of the text types; `None` for NULL.
pub(super) fn texts(array: &dyn Array) -> Result<Vec<Option<&str>>> {
    Ok(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().iter().collect(),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().collect(),
        DataType::Utf8View => array.as_string_view().iter().collect(),
        other => return Err(exec_datafusion_err!("text was expected, not {other}")),
    })
}

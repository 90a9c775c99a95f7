//! Casts between local times and instants, which handle skipped and doubled hours. Casts from text to dates and times, as `read.rs` reads them, and from
//! instants to text. And casts to coarser units, which round as PostgreSQL does.
//!
//! Arrow fails or gives NULL for skipped hours, takes an instant's UTC digits for its local ones, and truncates what a unit cannot hold, such as the seconds
//! of an offset. DataFusion unwraps casts in comparisons and compares the time itself. [`super::rules`] replaces such casts by these functions.

use super::read;
use super::unit::{
    SECONDS_PER_DAY, in_unit, is_text, map, map_opt, naive_of, nanos_of, on_array, out_of_range, per_second, texts,
};
use super::zone::Zone;
use arrow::array::{Array, ArrayRef, AsArray, Date32Array, Int64Array, StringArray};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, TimeUnit};
use chrono::{NaiveDateTime, Offset, SecondsFormat, TimeZone};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::sync::{Arc, LazyLock};

static CAST: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(CastTime::new(false).into()));
static TRY_CAST: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(CastTime::new(true).into()));

pub(super) fn functions() -> [Arc<ScalarUDF>; 3] {
    let digits = Digits { signature: Signature::any(2, Volatility::Immutable) };
    [Arc::clone(&CAST), Arc::clone(&TRY_CAST), Arc::new(digits.into())]
}

/// Whether Arrow's cast between the types uses a time zone.
pub(super) fn asks_a_zone(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Timestamp(_, Some(zone)), DataType::Timestamp(_, None)) => !is_utc(zone),
        (DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64, DataType::Timestamp(_, Some(zone))) => {
            !is_utc(zone)
        }
        // Arrow writes no seconds of an offset; named zones once had such offsets.
        (DataType::Timestamp(_, Some(zone)), text) => is_text(text) && !is_utc(zone) && !zone.starts_with(['+', '-']),
        _ => false,
    }
}

/// Whether one type is text and the other a date or a time.
pub(super) fn reads_text(from: &DataType, to: &DataType) -> bool {
    let is_time = matches!(to, DataType::Timestamp(..) | DataType::Time32(_) | DataType::Time64(_) | DataType::Date32);
    is_time
        && match from {
            DataType::Dictionary(_, values) => is_text(values),
            from => is_text(from),
        }
}

/// Whether a cast between the types rounds.
pub(super) fn rounds(from: &DataType, to: &DataType) -> bool {
    let (unit, is_clock) = match to {
        DataType::Timestamp(unit, _) => (*unit, false),
        DataType::Time32(unit) | DataType::Time64(unit) => (*unit, true),
        _ => return false,
    };
    match from {
        DataType::Dictionary(_, values) => is_text(values) && rounds(values, to),
        DataType::Timestamp(from, _) => per_second(*from) > per_second(unit),
        DataType::Time32(from) | DataType::Time64(from) => is_clock && per_second(*from) > per_second(unit),
        text => is_text(text) && unit != TimeUnit::Nanosecond,
    }
}

/// Whether a date or a timestamp is cast to nanoseconds, which do not reach all years. This cast's error names the years that they reach.
pub(super) fn narrows(from: &DataType, to: &DataType) -> bool {
    matches!(to, DataType::Timestamp(TimeUnit::Nanosecond, _))
        && match from {
            DataType::Date32 | DataType::Date64 => true,
            DataType::Timestamp(unit, _) => *unit != TimeUnit::Nanosecond,
            _ => false,
        }
}

/// A text or time literal, cast at once as [`cast_expr`] would. `None`: it is no such literal, or the cast fails.
pub(super) fn cast_literal(value: &Expr, to: &DataType, or_null: bool) -> Option<Expr> {
    let Expr::Literal(value, _) = value else { return None };
    let array = cast_time(&value.to_array().ok()?, to, or_null).ok()?;
    ScalarValue::try_from_array(&array, 0).ok().map(lit)
}

pub(super) fn is_utc(zone: &str) -> bool {
    ["UTC", "+00:00", "Etc/UTC", "Z"].contains(&zone)
}

/// `value` as a value of type `to`. With `or_null`, a value that cannot be one becomes NULL.
pub(super) fn cast_expr(value: Expr, to: &DataType, or_null: bool) -> Expr {
    let function = if or_null { &TRY_CAST } else { &CAST };
    function.call(vec![value, lit(to.to_string())])
}

/// [`cast_expr`] in a physical plan.
pub(super) fn physical(
    value: Arc<dyn PhysicalExpr>,
    to: &DataType,
    schema: &Schema,
    options: Arc<ConfigOptions>,
) -> Result<Arc<dyn PhysicalExpr>> {
    let to: Arc<dyn PhysicalExpr> = Arc::new(Literal::new(ScalarValue::from(to.to_string())));
    Ok(Arc::new(ScalarFunctionExpr::try_new(Arc::clone(&CAST), vec![value, to], schema, options)?))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CastTime {
    or_null: bool,
    signature: Signature,
}

impl CastTime {
    fn new(or_null: bool) -> Self {
        Self { or_null, signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for CastTime {
    fn name(&self) -> &str {
        if self.or_null { "windlass_try_cast_time" } else { "windlass_cast_time" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the type depends on the second argument")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let to = args.scalar_arguments.get(1).copied().flatten().and_then(|to| to.try_as_str().flatten());
        let Some(to) = to else { return plan_err!("{}() takes a type as its second argument", self.name()) };
        let nullable = self.or_null || args.arg_fields[0].is_nullable();
        Ok(Arc::new(Field::new(self.name(), to.parse()?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        on_array(&args.args[0], |array| cast_time(array, args.return_field.data_type(), self.or_null))
    }
}

/// `windlass_time_digits(time, n)`: a time with n decimal places of a second, for types that Arrow lacks, such as TIME(2).
#[derive(Debug, PartialEq, Eq, Hash)]
struct Digits {
    signature: Signature,
}

impl ScalarUDFImpl for Digits {
    fn name(&self) -> &str {
        "windlass_time_digits"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let digits = match &args.args[1] {
            ColumnarValue::Scalar(ScalarValue::Int64(Some(digits @ 0..=9))) => *digits as u32,
            other => return internal_err!("{} takes a number of digits, not {other:?}", self.name()),
        };
        let per_to = 10_i64.pow(digits);
        on_array(&args.args[0], |times| match times.data_type() {
            DataType::Timestamp(unit, _) => map(times, times.data_type(), |value| {
                rounded(value, per_second(*unit), per_to).ok_or_else(|| out_of_range(&value, *unit))
            }),
            DataType::Time64(TimeUnit::Nanosecond) if digits <= 6 => map(times, times.data_type(), |nanos| {
                in_day(micros_of_text(nanos.into()) as i64 * 1_000, per_to)
                    .map(|value| value * (1_000_000_000 / per_to))
            }),
            _ => Ok(Arc::clone(times)),
        })
    }
}

/// Casts timestamps, dates or texts to timestamps of the zone in `to`, or of none, and to times of day.
pub(super) fn cast_time(array: &ArrayRef, to: &DataType, or_null: bool) -> Result<ArrayRef> {
    if let DataType::Dictionary(_, values) = array.data_type() {
        return cast_time(&cast(array, values)?, to, or_null);
    }
    let (unit, to_zone) = match to {
        DataType::Time32(unit) | DataType::Time64(unit) => return clock(array, *unit, to, or_null),
        DataType::Date32 => return dates(array, or_null),
        text if is_text(text) => return Ok(cast(&as_text(array)?, text)?),
        DataType::Timestamp(unit, zone) => (unit, zone),
        other => return internal_err!("{other} is no time"),
    };
    match array.data_type() {
        text if is_text(text) => {
            let zone = to_zone.as_deref().map(str::parse::<Zone>).transpose()?;
            Ok(cast(&parsed(array, or_null, |text| parse_instant(text, *unit, zone.as_ref()))?, to)?)
        }
        DataType::Date32 | DataType::Date64 => {
            let seconds = cast(array, &DataType::Timestamp(TimeUnit::Second, None))?;
            cast_time(&seconds, to, or_null)
        }
        DataType::Timestamp(from_unit, from_zone) => {
            let (from_unit, unit) = (*from_unit, *unit);
            let shift: Box<dyn Fn(i64) -> Option<i64>> = match (from_zone, to_zone) {
                (None, Some(zone)) => {
                    let zone: Zone = zone.parse()?;
                    Box::new(move |seconds| Some(-zone.offset_of(&naive_of(seconds, TimeUnit::Second)?)))
                }
                (Some(zone), None) => {
                    let zone: Zone = zone.parse()?;
                    Box::new(move |seconds| Some(zone.offset_at(&naive_of(seconds, TimeUnit::Second)?)))
                }
                _ => Box::new(|_| Some(0)),
            };
            let (per_from, per_to) = (per_second(from_unit), per_second(unit));
            let changed = |value: i64| {
                let value = rounded(value, per_from, per_to)?;
                let seconds = value.div_euclid(per_from);
                let rest = value.rem_euclid(per_from);
                // A part finer than a second is scaled by itself, which cannot overflow.
                let rest = if per_to >= per_from { rest * (per_to / per_from) } else { rest / (per_from / per_to) };
                seconds.checked_add(shift(seconds)?)?.checked_mul(per_to)?.checked_add(rest)
            };
            match or_null {
                true => map_opt(array, to, changed),
                false => map(array, to, |value| {
                    changed(value).ok_or_else(|| match naive_of(value, from_unit) {
                        Some(time) => out_of_range(&time, unit),
                        None => out_of_range(&value, unit),
                    })
                }),
            }
        }
        other => internal_err!("{other} is no time"),
    }
}

/// Seconds from 1970 to 2000, PostgreSQL's epoch.
const YEAR_2000: i64 = 946_684_800;

/// Converts `value` from units of which `per_second` make a second to units of which `per_to` do. Rounds to the nearest; a tie goes away from the year 2000.
/// `None`: out of range.
fn rounded(value: i64, per_second: i64, per_to: i64) -> Option<i64> {
    if per_to >= per_second {
        return Some(value);
    }
    let (step, from) = (i128::from(per_second / per_to), i128::from(YEAR_2000) * i128::from(per_second));
    let distance = i128::from(value) - from;
    let steps = (distance.abs() + step / 2) / step * distance.signum();
    i64::try_from(from + steps * step).ok()
}

/// Casts times of day.
fn clock(array: &ArrayRef, unit: TimeUnit, to: &DataType, or_null: bool) -> Result<ArrayRef> {
    let nanos: Int64Array = match array.data_type() {
        DataType::Timestamp(from, zone) => {
            let local = match zone {
                Some(_) => cast_time(array, &DataType::Timestamp(*from, None), or_null)?,
                None => Arc::clone(array),
            };
            let (day, to_nanos) = (per_second(*from) * SECONDS_PER_DAY, 1_000_000_000 / per_second(*from));
            let values = cast(&local, &DataType::Int64)?;
            values.as_primitive::<Int64Type>().unary(|value| value.rem_euclid(day) * to_nanos)
        }
        text if is_text(text) => return narrowed(parsed(array, or_null, |text| parse_clock(text, unit))?, to),
        _ => {
            let options = CastOptions { safe: or_null, ..CastOptions::default() };
            let times = cast_with_options(array, &DataType::Time64(TimeUnit::Nanosecond), &options)?;
            cast(&times, &DataType::Int64)?.as_primitive::<Int64Type>().clone()
        }
    };
    let values: Int64Array = match or_null {
        true => nanos.unary_opt(|nanos| in_day(nanos, per_second(unit)).ok()),
        false => nanos.try_unary(|nanos| in_day(nanos, per_second(unit)))?,
    };
    narrowed(values, to)
}

fn narrowed(values: Int64Array, to: &DataType) -> Result<ArrayRef> {
    let narrow = if matches!(to, DataType::Time32(_)) { cast(&values, &DataType::Int32)? } else { Arc::new(values) };
    Ok(cast(&narrow, to)?)
}

/// Days since 1970-01-01 from texts.
fn dates(array: &ArrayRef, or_null: bool) -> Result<ArrayRef> {
    let days = texts(array)?.into_iter().map(|text| match text.map(read::date) {
        Some(Err(_)) if or_null => Ok(None),
        day => day.transpose(),
    });
    Ok(Arc::new(days.collect::<Result<Date32Array>>()?))
}

/// Nanoseconds of a day in units of which `per_second` make a second, rounded half up.
fn in_day(nanos: i64, per_second: i64) -> Result<i64> {
    let step = 1_000_000_000 / per_second;
    let value = (nanos + step / 2) / step;
    match value < SECONDS_PER_DAY * per_second {
        true => Ok(value),
        false => Err(exec_datafusion_err!(
            "a time that near to midnight is 24:00:00 when it is rounded, which TIME does not hold: use date_trunc(), or TIME without digits"
        )),
    }
}

/// Nanoseconds written in a text, to the nearest microsecond, half to even, as PostgreSQL reads them.
fn micros_of_text(nanos: i128) -> i128 {
    let (micros, rest) = (nanos.div_euclid(1_000), nanos.rem_euclid(1_000));
    micros + i128::from(rest > 500 || rest == 500 && micros % 2 != 0)
}

/// Parses texts. With `or_null`, an invalid text becomes NULL.
fn parsed(array: &ArrayRef, or_null: bool, parse: impl Fn(&str) -> Result<i64>) -> Result<Int64Array> {
    let parse = |text: Option<&str>| match text.map(&parse) {
        Some(Err(_)) if or_null => Ok(None),
        parsed => parsed.transpose(),
    };
    texts(array)?.into_iter().map(parse).collect()
}

/// The instant that `text` names, in `zone` if the text names none. Without `zone`: the local time in the text.
pub(super) fn parse_instant(text: &str, unit: TimeUnit, zone: Option<&Zone>) -> Result<i64> {
    let time = read::in_zone(text, zone)?;
    let nanos = nanos_of(time);
    let value = match unit {
        TimeUnit::Nanosecond => in_unit(nanos, unit),
        coarser => i64::try_from(micros_of_text(nanos)).ok().and_then(|micros| {
            let rounded = rounded(micros, 1_000_000, per_second(coarser))?;
            in_unit(i128::from(rounded) * 1_000, coarser)
        }),
    };
    value.ok_or_else(|| {
        let reason = out_of_range(&time, unit);
        exec_datafusion_err!("'{text}': {}", reason.strip_backtrace())
    })
}

/// The time of day that `text` names. Units coarser than nanoseconds round, first to the microsecond.
pub(super) fn parse_clock(text: &str, unit: TimeUnit) -> Result<i64> {
    let nanos = read::clock(text)?;
    match unit {
        TimeUnit::Nanosecond => Ok(nanos),
        coarser => in_day(micros_of_text(nanos.into()) as i64 * 1_000, per_second(coarser)),
    }
}

/// Instants as text, with the offset of their zone at that time, to the second.
pub(super) fn as_text(array: &ArrayRef) -> Result<StringArray> {
    let DataType::Timestamp(unit, Some(zone)) = array.data_type() else {
        return internal_err!("{} is no instant", array.data_type());
    };
    let zone: Zone = zone.parse()?;
    let numbers = cast(array, &DataType::Int64)?;
    let texts = numbers.as_primitive::<Int64Type>().iter().map(|value| {
        let Some(value) = value else { return Ok(None) };
        let time = naive_of(value, *unit).ok_or_else(|| out_of_range(&value, *unit))?;
        Ok(Some(text_of(time, zone)))
    });
    texts.collect()
}

fn text_of(time: NaiveDateTime, zone: Zone) -> String {
    let offset = zone.offset_from_utc_datetime(&time).fix();
    let seconds = offset.local_minus_utc();
    let rest = seconds.unsigned_abs() % 60;
    if rest == 0 {
        return offset.from_utc_datetime(&time).to_rfc3339_opts(SecondsFormat::AutoSi, true);
    }
    let (local, minutes) = (offset.from_utc_datetime(&time).naive_local(), seconds.unsigned_abs() / 60);
    let sign = if seconds < 0 { '-' } else { '+' };
    format!("{local:?}{sign}{:02}:{:02}:{rest:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{StringArray, TimestampMicrosecondArray};
    use arrow::util::display::array_value_to_string;

    fn shown(array: &ArrayRef) -> Vec<String> {
        (0..array.len()).map(|row| array_value_to_string(array, row).unwrap()).collect()
    }

    #[test]
    fn local_times_become_instants_and_back() {
        let zoned = DataType::Timestamp(TimeUnit::Nanosecond, Some("America/New_York".into()));
        let local = DataType::Timestamp(TimeUnit::Microsecond, None);
        let texts: ArrayRef = Arc::new(StringArray::from(vec![
            Some("2024-03-10 02:30:00"),
            Some("2024-11-03 01:30:00"),
            Some("2024-05-05 05:05:05.123456"),
            Some("1969-12-31 23:59:59.999999"),
            None,
        ]));
        let naive = cast(&texts, &local).unwrap();
        for from in [&texts, &naive] {
            let instants = cast_time(from, &zoned, false).unwrap();
            assert_eq!(
                shown(&instants),
                [
                    "2024-03-10T03:30:00-04:00",
                    "2024-11-03T01:30:00-05:00",
                    "2024-05-05T05:05:05.123456-04:00",
                    "1969-12-31T23:59:59.999999-05:00",
                    ""
                ]
            );
            let back = cast_time(&instants, &local, false).unwrap();
            assert_eq!(shown(&back)[1..], shown(&naive)[1..]);
        }
    }

    #[test]
    fn what_has_no_value_is_an_error_or_null() {
        let far: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![253_402_214_400_000_000]));
        let zoned = DataType::Timestamp(TimeUnit::Nanosecond, Some("Asia/Tokyo".into()));
        let error = cast_time(&far, &zoned, false).unwrap_err().to_string();
        assert!(error.contains("9999-12-31") && error.contains("1677 to 2262"), "{error}");
        assert_eq!(cast_time(&far, &zoned, true).unwrap().null_count(), 1);
    }

    #[test]
    fn a_coarser_unit_rounds_away_from_the_year_2000() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![
            "2024-01-02 23:59:59.9999995",
            "2024-01-02 00:00:00.5",
            "1999-12-31 23:59:58.5",
            "2024-01-02 00:00:00.4999995",
            "1969-12-31 23:59:59.4",
        ]));
        let nanos = cast(&texts, &DataType::Timestamp(TimeUnit::Nanosecond, None)).unwrap();
        let seconds = DataType::Timestamp(TimeUnit::Second, None);
        let mut expected = [
            "2024-01-03T00:00:00",
            "2024-01-02T00:00:01",
            "1999-12-31T23:59:58",
            "2024-01-02T00:00:01",
            "1969-12-31T23:59:59",
        ];
        assert_eq!(shown(&cast_time(&texts, &seconds, false).unwrap()), expected);
        // A text is rounded to microseconds first.
        expected[3] = "2024-01-02T00:00:00";
        assert_eq!(shown(&cast_time(&nanos, &seconds, false).unwrap()), expected);
        let clock = DataType::Time32(TimeUnit::Second);
        assert!(cast_time(&nanos, &clock, false).unwrap_err().to_string().contains("24:00:00"));
        assert_eq!(shown(&cast_time(&nanos, &clock, true).unwrap())[..3], ["", "00:00:01", "23:59:59"]);
    }

    #[test]
    fn a_type_is_read_as_it_is_written() {
        for data_type in [DataType::Time32(TimeUnit::Second), DataType::Time64(TimeUnit::Microsecond)] {
            assert_eq!(data_type.to_string().parse::<DataType>().unwrap(), data_type);
        }
        for unit in [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
            for zone in [None, Some("America/New_York".into()), Some("+05:30".into())] {
                let data_type = DataType::Timestamp(unit, zone);
                assert_eq!(data_type.to_string().parse::<DataType>().unwrap(), data_type);
            }
        }
    }
}

//! Sums of an instant and an interval: months and days follow the calendar of the zone, also into hours that its clock skips or shows twice.

use super::read_interval::interval;
use super::unit::{naive_of, on_array, value_of};
use super::zone::Zone;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, IntervalMonthDayNanoArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit};
use chrono::{DateTime, Days, Months, TimeDelta, TimeZone};
use datafusion::common::{DFSchema, Result, ScalarValue, exec_datafusion_err, internal_err};
use datafusion::logical_expr::{
    BinaryExpr, Cast, ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use std::sync::{Arc, LazyLock};

static ADD: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(Shift::new(false).into()));
static SUBTRACT: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(Shift::new(true).into()));

pub(super) fn functions() -> [Arc<ScalarUDF>; 4] {
    [&*ADD, &*SUBTRACT, &*OF_TEXT, &*OF_TEXT_OR_NULL].map(Arc::clone)
}

pub(super) fn shift_expr(instant: Expr, interval: Expr, subtract: bool) -> Expr {
    let function = if subtract { &SUBTRACT } else { &ADD };
    function.call(vec![instant, interval])
}

/// Whether a date is added to an interval that may have hours, which a date cannot hold. An interval of whole days leaves a date, so that files can be
/// skipped by it.
pub(super) fn is_date_and_hours(sum: &BinaryExpr, schema: &DFSchema) -> bool {
    let is_date = |expr: &Expr| matches!(expr.get_type(schema), Ok(DataType::Date32));
    match sum.op {
        Operator::Plus => {
            is_date(&sum.left) && may_have_hours(&sum.right, schema)
                || is_date(&sum.right) && may_have_hours(&sum.left, schema)
        }
        Operator::Minus => is_date(&sum.left) && may_have_hours(&sum.right, schema),
        _ => false,
    }
}

fn may_have_hours(interval: &Expr, schema: &DFSchema) -> bool {
    match interval {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(of)), _) => of.nanoseconds != 0,
        Expr::Literal(ScalarValue::IntervalDayTime(Some(of)), _) => of.milliseconds != 0,
        Expr::Negative(of) => may_have_hours(of, schema),
        other => {
            matches!(other.get_type(schema), Ok(DataType::Interval(IntervalUnit::MonthDayNano | IntervalUnit::DayTime)))
        }
    }
}

/// The same sum, starting from the timestamp at which the date begins.
pub(super) fn of_timestamp(sum: BinaryExpr, schema: &DFSchema) -> Expr {
    let begins = |expr: Box<Expr>| match expr.get_type(schema) {
        Ok(DataType::Date32) => Box::new(Expr::Cast(Cast::new(expr, DataType::Timestamp(TimeUnit::Microsecond, None)))),
        _ => expr,
    };
    Expr::BinaryExpr(BinaryExpr::new(begins(sum.left), sum.op, begins(sum.right)))
}

static OF_TEXT: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(OfText::new(false).into()));
static OF_TEXT_OR_NULL: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(OfText::new(true).into()));

/// Text as an interval, as PostgreSQL reads it. With `or_null`, invalid text becomes NULL.
pub(super) fn of_text(text: Expr, or_null: bool) -> Expr {
    let function = if or_null { &OF_TEXT_OR_NULL } else { &OF_TEXT };
    function.call(vec![text])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OfText {
    or_null: bool,
    signature: Signature,
}

impl OfText {
    fn new(or_null: bool) -> Self {
        Self { or_null, signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for OfText {
    fn name(&self) -> &str {
        if self.or_null { "windlass_try_interval" } else { "windlass_interval" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Interval(IntervalUnit::MonthDayNano))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        on_array(&args.args[0], |texts| {
            let texts = cast(texts, &DataType::Utf8)?;
            let read = texts.as_string::<i32>().iter().map(|text| match text.map(interval) {
                Some(Err(_)) if self.or_null => Ok(None),
                read => read.transpose(),
            });
            Ok(Arc::new(read.collect::<Result<IntervalMonthDayNanoArray>>()?))
        })
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Shift {
    subtract: bool,
    signature: Signature,
}

impl Shift {
    fn new(subtract: bool) -> Self {
        Self { subtract, signature: Signature::any(2, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Shift {
    fn name(&self) -> &str {
        if self.subtract { "windlass_subtract_interval" } else { "windlass_add_interval" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        Ok(args[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let all_scalars = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let shifted = shift(&arrays[0], &arrays[1], self.subtract)?;
        Ok(match all_scalars {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&shifted, 0)?),
            false => ColumnarValue::Array(shifted),
        })
    }
}

fn shift(instants: &ArrayRef, intervals: &ArrayRef, subtract: bool) -> Result<ArrayRef> {
    let DataType::Timestamp(unit, zone) = instants.data_type() else {
        return internal_err!("{} is no timestamp", instants.data_type());
    };
    let (unit, zone) = (*unit, Zone::of(zone.as_deref())?);
    let intervals = cast(intervals, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
    let numbers = cast(instants, &DataType::Int64)?;
    let pairs = numbers.as_primitive::<Int64Type>().iter().zip(intervals.iter());
    let shifted: Int64Array = pairs
        .map(|(instant, interval)| match (instant, interval) {
            (Some(instant), Some(interval)) => one(instant, unit, zone, interval, subtract).map(Some),
            _ => Ok(None),
        })
        .collect::<Result<_>>()?;
    Ok(cast(&shifted, instants.data_type())?)
}

/// `instant` in `unit`, shifted by an interval.
pub(super) fn one(
    instant: i64,
    unit: TimeUnit,
    zone: Zone,
    interval: IntervalMonthDayNano,
    subtract: bool,
) -> Result<i64> {
    let out_of_range = || exec_datafusion_err!("a timestamp and the interval of {interval:?} are out of range");
    let time = naive_of(instant, unit).ok_or_else(out_of_range)?;
    let time = zone.from_utc_datetime(&time);
    let shifted = checked(time, interval, subtract).ok_or_else(out_of_range)?;
    value_of(shifted.naive_utc(), unit)
}

/// Months and days move the local time; units below a day move the instant. Without months and days, an instant in a repeated hour stays in it.
fn checked(time: DateTime<Zone>, interval: IntervalMonthDayNano, subtract: bool) -> Option<DateTime<Zone>> {
    let IntervalMonthDayNano { months, days, nanoseconds } = interval;
    let time = match (months < 0) == subtract {
        _ if months == 0 => time,
        true => time.checked_add_months(Months::new(months.unsigned_abs()))?,
        false => time.checked_sub_months(Months::new(months.unsigned_abs()))?,
    };
    let time = match (days < 0) == subtract {
        _ if days == 0 => time,
        true => time.checked_add_days(Days::new(u64::from(days.unsigned_abs())))?,
        false => time.checked_sub_days(Days::new(u64::from(days.unsigned_abs())))?,
    };
    let nanoseconds = TimeDelta::nanoseconds(nanoseconds);
    if subtract { time.checked_sub_signed(nanoseconds) } else { time.checked_add_signed(nanoseconds) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{IntervalMonthDayNanoArray, StringArray};
    use arrow::util::display::array_value_to_string;

    fn shifted(instant: &str, (months, days, nanoseconds): (i32, i32, i64), subtract: bool) -> String {
        let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("America/New_York".into()));
        let instants = cast(&StringArray::from(vec![instant]), &zoned).unwrap();
        let interval = IntervalMonthDayNano { months, days, nanoseconds };
        let intervals: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from(vec![interval]));
        array_value_to_string(&shift(&instants, &intervals, subtract).unwrap(), 0).unwrap()
    }

    #[test]
    fn days_and_months_go_by_the_clock_on_the_wall() {
        let hour = 3_600_000_000_000;
        assert_eq!(shifted("2024-03-09 02:30:00", (0, 1, 0), false), "2024-03-10T03:30:00-04:00");
        assert_eq!(shifted("2024-03-09 02:30:00", (0, 0, 24 * hour), false), "2024-03-10T03:30:00-04:00");
        assert_eq!(shifted("2024-03-09 12:00:00", (0, 1, 0), false), "2024-03-10T12:00:00-04:00");
        assert_eq!(shifted("2024-03-09 12:00:00", (0, 0, 24 * hour), false), "2024-03-10T13:00:00-04:00");
        assert_eq!(shifted("2024-10-03 01:30:00", (1, 0, 0), false), "2024-11-03T01:30:00-05:00");
        assert_eq!(shifted("2024-12-03 01:30:00", (1, 0, 0), true), "2024-11-03T01:30:00-05:00");
        assert_eq!(shifted("2024-01-31 00:00:00", (-1, -1, hour), true), "2024-02-29T23:00:00-05:00");
    }

    #[test]
    fn hours_go_by_the_instant() {
        let minute = 60_000_000_000;
        // The first 01:45 of that night.
        let first = "2024-11-03 05:45:00Z";
        assert_eq!(shifted(first, (0, 0, 0), false), "2024-11-03T01:45:00-04:00");
        assert_eq!(shifted(first, (0, 0, minute), false), "2024-11-03T01:46:00-04:00");
        assert_eq!(shifted(first, (0, 0, 60 * minute), true), "2024-11-03T00:45:00-04:00");
        assert_eq!(shifted(first, (0, 0, 60 * minute), false), "2024-11-03T01:45:00-05:00");
        assert_eq!(shifted(first, (0, 0, 24 * 60 * minute), false), "2024-11-04T00:45:00-05:00");
        assert_eq!(shifted(first, (0, 1, minute), false), "2024-11-04T01:46:00-05:00");
    }
}

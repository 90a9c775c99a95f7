//! Products of intervals and numbers as PostgreSQL computes them: a fraction of a month becomes days at 30 days a month, a fraction of a day becomes hours at
//! 24 hours a day. Also the seconds field of an interval with its fraction, which DataFusion drops, and the total seconds of an interval, with years of
//! 365.25 days.

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, FieldRef, Float64Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
    TimeUnit,
};
use arrow::error::ArrowError;
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;
use std::sync::{Arc, LazyLock};

const DAYS_PER_MONTH: f64 = 30.0;
const NANOSECONDS_PER_DAY: f64 = 86_400e9;
const NANOSECONDS_PER_MINUTE: i64 = 60_000_000_000;

static TIMES: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Scaled::function("interval_times", false));
static PER: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Scaled::function("interval_per", true));

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![Arc::clone(&TIMES), Arc::clone(&PER), Arc::clone(&MICROSECONDS), Arc::clone(&EPOCH)]
}

static MICROSECONDS: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(Microseconds { signature: Signature::any(1, Volatility::Immutable) }.into()));

static EPOCH: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(Epoch { signature: Signature::any(1, Volatility::Immutable) }.into()));

/// Seconds of an interval, with years of 365.25 days, months of 30 and days of 24 hours.
pub(super) fn epoch(interval: Expr) -> Expr {
    EPOCH.call(vec![interval])
}

/// Microseconds in the seconds field of an interval or a duration; the field is below 60 seconds.
pub(super) fn microseconds(interval: Expr) -> Expr {
    MICROSECONDS.call(vec![interval])
}

/// `interval` times a double, or divided by it.
pub(super) fn scale(interval: Expr, by: Expr, divided: bool) -> Expr {
    if divided { PER.call(vec![interval, by]) } else { TIMES.call(vec![interval, by]) }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Scaled {
    name: &'static str,
    divided: bool,
    signature: Signature,
}

impl Scaled {
    fn function(name: &'static str, divided: bool) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(Self { name, divided, signature: Signature::any(2, Volatility::Immutable) }))
    }

    fn of(&self, interval: IntervalMonthDayNano, by: f64) -> std::result::Result<IntervalMonthDayNano, ArrowError> {
        if self.divided && by == 0.0 {
            return Err(ArrowError::DivideByZero);
        }
        let scaled = |part: f64| if self.divided { part / by } else { part * by };
        let months = scaled(f64::from(interval.months));
        let days = scaled(f64::from(interval.days));
        // Days of the fraction of a month, rounded to the microsecond: otherwise 0.1 month would be 2 days and 23:59:59.999999.
        let from_months = ((months - months.trunc()) * DAYS_PER_MONTH * 1e6).round_ties_even() / 1e6;
        let rest = (days - days.trunc()) + (from_months - from_months.trunc());
        let rest = (rest * NANOSECONDS_PER_DAY / 1e3).round_ties_even() * 1e3;
        let nanoseconds = (scaled(interval.nanoseconds as f64) + rest).round_ties_even();
        let whole_days = days.trunc() + from_months.trunc();
        let fits = |part: f64, most: f64| part.is_finite() && part.abs() < most;
        match fits(months.trunc(), 2_147_483_648.0)
            && fits(whole_days, 2_147_483_648.0)
            && fits(nanoseconds, 9_223_372_036_854_775_808.0)
        {
            true => Ok(IntervalMonthDayNano::new(months.trunc() as i32, whole_days as i32, nanoseconds as i64)),
            false => Err(ArrowError::ArithmeticOverflow(format!(
                "an interval {} {by} is longer than intervals can be",
                if self.divided { "divided by" } else { "times" }
            ))),
        }
    }
}

impl ScalarUDFImpl for Scaled {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Interval(IntervalUnit::MonthDayNano))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name, self.return_type(&[])?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let [interval, by] = args.args.as_slice() else { return internal_err!("{} takes two arguments", self.name) };
        if let (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)) = (interval, by) {
            return apply(interval, by, |interval, by| {
                self.compute(&interval.get().0.slice(0, 1), &by.get().0.slice(0, 1))
            });
        }
        Ok(ColumnarValue::Array(self.compute(&interval.to_array(rows)?, &by.to_array(rows)?)?))
    }
}

impl Scaled {
    fn compute(&self, intervals: &ArrayRef, by: &ArrayRef) -> std::result::Result<ArrayRef, ArrowError> {
        let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
        let scaled: PrimitiveArray<IntervalMonthDayNanoType> =
            arrow::compute::try_binary(intervals, by.as_primitive::<Float64Type>(), |interval, by| {
                self.of(interval, by)
            })?;
        Ok(Arc::new(scaled))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Microseconds {
    signature: Signature,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Epoch {
    signature: Signature,
}

impl ScalarUDFImpl for Epoch {
    fn name(&self) -> &str {
        "interval_epoch"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), DataType::Float64, args.arg_fields[0].is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let intervals = args.args[0].to_array(args.number_rows)?;
        let intervals = cast(&intervals, &DataType::Interval(IntervalUnit::MonthDayNano))?;
        let seconds: Float64Array = intervals.as_primitive::<IntervalMonthDayNanoType>().unary(|interval| {
            let (years, months) = (i64::from(interval.months / 12), i64::from(interval.months % 12));
            let days = months * 30 + i64::from(interval.days);
            // A year has 31,557,600 seconds.
            let whole = i128::from(years * 31_557_600 + days * 86_400);
            (whole * 1_000_000_000 + i128::from(interval.nanoseconds)) as f64 / 1e9
        });
        Ok(ColumnarValue::Array(Arc::new(seconds)))
    }
}

impl ScalarUDFImpl for Microseconds {
    fn name(&self) -> &str {
        "interval_microseconds"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), DataType::Int64, args.arg_fields[0].is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let intervals = args.args[0].to_array(args.number_rows)?;
        if let DataType::Duration(unit) = intervals.data_type() {
            let per_second: i64 = match unit {
                TimeUnit::Second => 1,
                TimeUnit::Millisecond => 1_000,
                TimeUnit::Microsecond => 1_000_000,
                TimeUnit::Nanosecond => 1_000_000_000,
            };
            let durations = cast(&intervals, &DataType::Int64)?;
            let micros: Int64Array = durations.as_primitive::<Int64Type>().unary(|duration| {
                let nanos = duration % (60 * per_second) * (1_000_000_000 / per_second);
                nanos / 1_000
            });
            return Ok(ColumnarValue::Array(Arc::new(micros)));
        }
        let intervals = cast(&intervals, &DataType::Interval(IntervalUnit::MonthDayNano))?;
        let micros: Int64Array = intervals
            .as_primitive::<IntervalMonthDayNanoType>()
            .unary(|interval| interval.nanoseconds % NANOSECONDS_PER_MINUTE / 1_000);
        Ok(ColumnarValue::Array(Arc::new(micros)))
    }
}

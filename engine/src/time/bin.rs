//! `date_bin` over every year in the range of a timestamp's unit. DataFusion's returns NULL outside the range of nanoseconds.
//!
//! As in PostgreSQL, days have 24 hours here: bins are counted from the origin, whatever the clocks of a zone do.

use super::trunc::{coerced, keeps_order};
use super::unit::{NANOS_PER_SECOND, in_unit, is_text, map, naive_of, nanos_of, on_array, out_of_range, per_second};
use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use chrono::{Datelike, Months, NaiveDateTime};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err, plan_err};
use datafusion::functions::datetime::date_bin;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DateBin {
    /// Zone of text that names none.
    zone: Option<Arc<str>>,
    /// The function for times of day.
    datafusion: Arc<ScalarUDF>,
    signature: Signature,
}

impl DateBin {
    pub fn new(zone: Option<Arc<str>>) -> Self {
        Self { zone, datafusion: date_bin(), signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for DateBin {
    fn name(&self) -> &str {
        self.datafusion.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.datafusion.documentation()
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        Some(Self::new(super::session_zone(config)).into())
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let (stride, time, origin) = match types {
            [stride, time] => (stride, time, None),
            [stride, time, origin] => (stride, time, Some(origin)),
            _ => return plan_err!("date_bin() takes an interval, a timestamp and, if need be, an origin"),
        };
        let stride = match stride {
            DataType::Interval(IntervalUnit::MonthDayNano) => stride.clone(),
            DataType::Interval(_) | DataType::Null => DataType::Interval(IntervalUnit::MonthDayNano),
            text if is_text(text) => DataType::Interval(IntervalUnit::MonthDayNano),
            other => return plan_err!("date_bin() takes an interval first, not {other}"),
        };
        let time = coerced(time, &self.zone)?;
        let origin = origin.map(|origin| match (&time, origin) {
            (DataType::Timestamp(_, zone), DataType::Timestamp(unit, _)) => DataType::Timestamp(*unit, zone.clone()),
            (DataType::Timestamp(_, zone), _) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
            (time, _) => time.clone(),
        });
        Ok([stride, time].into_iter().chain(origin).collect())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[1].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let DataType::Timestamp(unit, _) = args.args[1].data_type() else {
            return self.datafusion.inner().invoke_with_args(args);
        };
        let stride = match &args.args[0] {
            ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(Some(stride))) => Stride::of(*stride)?,
            ColumnarValue::Scalar(scalar) if scalar.is_null() => return null_of(args.return_type()),
            _ => return exec_err!("the interval of date_bin() must be the same for all rows"),
        };
        let origin = match args.args.get(2) {
            None => 0,
            Some(ColumnarValue::Scalar(scalar)) if scalar.is_null() => return null_of(args.return_type()),
            Some(ColumnarValue::Scalar(scalar)) => instant(scalar)?,
            Some(ColumnarValue::Array(_)) => {
                return exec_err!("the origin of date_bin() must be the same for all rows");
            }
        };
        on_array(&args.args[1], |times| {
            map(times, times.data_type(), |value| {
                stride.bin(value, unit, origin).ok_or_else(|| match naive_of(value, unit) {
                    Some(time) => out_of_range(&format!("the bin of {time}"), unit),
                    None => out_of_range(&value, unit),
                })
            })
        })
    }

    fn output_ordering(&self, input: &[ExprProperties]) -> Result<SortProperties> {
        match input.get(2).map(|origin| origin.sort_properties) {
            None | Some(SortProperties::Singleton) => Ok(keeps_order(&input[0], &input[1])),
            Some(_) => Ok(SortProperties::Unordered),
        }
    }
}

fn null_of(data_type: &DataType) -> Result<ColumnarValue> {
    Ok(ColumnarValue::Scalar(ScalarValue::try_from(data_type)?))
}

/// Nanoseconds since 1970.
fn instant(scalar: &ScalarValue) -> Result<i128> {
    let (value, unit) = match scalar {
        ScalarValue::TimestampSecond(Some(value), _) => (*value, TimeUnit::Second),
        ScalarValue::TimestampMillisecond(Some(value), _) => (*value, TimeUnit::Millisecond),
        ScalarValue::TimestampMicrosecond(Some(value), _) => (*value, TimeUnit::Microsecond),
        ScalarValue::TimestampNanosecond(Some(value), _) => (*value, TimeUnit::Nanosecond),
        other => return exec_err!("the origin of date_bin() must be a timestamp, not {}", other.data_type()),
    };
    Ok(i128::from(value) * (NANOS_PER_SECOND / i128::from(per_second(unit))))
}

#[derive(Clone, Copy, Debug)]
enum Stride {
    Nanos(i128),
    Months(i32),
}

impl Stride {
    fn of(interval: IntervalMonthDayNano) -> Result<Self> {
        let IntervalMonthDayNano { months, days, nanoseconds } = interval;
        let nanos = i128::from(days) * 86_400 * NANOS_PER_SECOND + i128::from(nanoseconds);
        match (months, nanos) {
            (0, 1..) => Ok(Self::Nanos(nanos)),
            (1.., 0) => Ok(Self::Months(months)),
            (0, 0) => exec_err!("DATE_BIN stride must be non-zero"),
            (0, _) | (_, 0) => exec_err!("the interval of date_bin() must be more than zero"),
            _ => Err(exec_datafusion_err!(
                "DATE_BIN stride does not support combination of month, day and nanosecond intervals"
            )),
        }
    }

    fn bin(self, value: i64, unit: TimeUnit, origin: i128) -> Option<i64> {
        let scale = NANOS_PER_SECOND / i128::from(per_second(unit));
        let time = i128::from(value) * scale;
        match self {
            Self::Nanos(stride) => {
                let since = time - origin;
                let bin = match (i64::try_from(since), i64::try_from(stride)) {
                    (Ok(since), Ok(stride)) => i128::from(since.div_euclid(stride)) * i128::from(stride),
                    _ => since.div_euclid(stride) * stride,
                };
                in_unit(origin + bin, unit)
            }
            Self::Months(stride) => {
                let origin_at = at(origin)?;
                let time = naive_of(value, unit)?;
                let months = |time: &NaiveDateTime| i64::from(time.year()) * 12 + i64::from(time.month0());
                let whole = (months(&time) - months(&origin_at)).div_euclid(i64::from(stride)) * i64::from(stride);
                let bin = add_months(origin_at, whole)?;
                // Where the origin is later in its month than the time, the bin is the one before.
                let bin = if bin > time { add_months(origin_at, whole - i64::from(stride))? } else { bin };
                in_unit(nanos_of(bin), unit)
            }
        }
    }
}

fn at(nanos: i128) -> Option<NaiveDateTime> {
    let seconds = i64::try_from(nanos.div_euclid(NANOS_PER_SECOND)).ok()?;
    let rest = nanos.rem_euclid(NANOS_PER_SECOND) as u32;
    chrono::DateTime::from_timestamp(seconds, rest).map(|time| time.naive_utc())
}

fn add_months(time: NaiveDateTime, months: i64) -> Option<NaiveDateTime> {
    let count = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
    if months < 0 { time.checked_sub_months(count) } else { time.checked_add_months(count) }
}

#[cfg(test)]
mod tests {
    use super::super::unit::value_of;
    use super::*;

    fn binned(time: &str, unit: TimeUnit, stride: (i32, i32, i64), origin: &str) -> String {
        let (months, days, nanoseconds) = stride;
        let stride = Stride::of(IntervalMonthDayNano { months, days, nanoseconds }).unwrap();
        let value = value_of(time.parse().unwrap(), unit).unwrap();
        let origin = nanos_of(origin.parse().unwrap());
        naive_of(stride.bin(value, unit, origin).unwrap(), unit).unwrap().to_string()
    }

    #[test]
    fn bins_reach_as_far_as_their_unit() {
        let (micros, epoch) = (TimeUnit::Microsecond, "1970-01-01T00:00:00");
        assert_eq!(binned("9999-12-31T10:00:00", micros, (0, 1, 0), epoch), "9999-12-31 00:00:00");
        assert_eq!(binned("0001-01-01T10:00:00", micros, (0, 1, 0), epoch), "0001-01-01 00:00:00");
        assert_eq!(binned("9999-12-31T10:00:00", micros, (3, 0, 0), epoch), "9999-10-01 00:00:00");
        assert_eq!(binned("2024-02-20T10:00:00", micros, (0, 7, 0), "9999-12-31T01:00:00"), "2024-02-16 01:00:00");
        assert_eq!(
            binned("2024-02-20T10:00:00", TimeUnit::Second, (0, 0, 900_000_000_000), epoch),
            "2024-02-20 10:00:00"
        );
        assert_eq!(binned("2024-02-20T10:00:00", micros, (1, 0, 0), "2001-01-25T00:00:00"), "2024-01-25 00:00:00");
        assert_eq!(binned("1969-12-31T23:59:59", micros, (0, 0, 900_000_000_000), epoch), "1969-12-31 23:45:00");
    }

    #[test]
    fn a_stride_goes_forward() {
        assert!(Stride::of(IntervalMonthDayNano { months: 0, days: 0, nanoseconds: 0 }).is_err());
        assert!(Stride::of(IntervalMonthDayNano { months: 0, days: -1, nanoseconds: 0 }).is_err());
        assert!(Stride::of(IntervalMonthDayNano { months: 1, days: 1, nanoseconds: 0 }).is_err());
    }
}

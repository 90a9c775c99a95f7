//! `date_trunc` over every year in the range of a timestamp's unit, and by the days of its zone.
//!
//! DataFusion's converts to nanoseconds, which end in 2262, and returns both midnights of a day that begins twice.

use super::unit::{SECONDS_PER_DAY, is_text, map, naive_of, on_array, out_of_range, per_second};
use super::zone::Zone;
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use chrono::{Datelike, NaiveDate};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, exec_err, internal_err, plan_err};
use datafusion::functions::datetime::date_trunc;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, lit,
};
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

/// Days from the first day of the calendar's first year to 1970-01-01.
const EPOCH_DAY: i64 = 719_163;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DateTrunc {
    /// Zone of text that names none.
    zone: Option<Arc<str>>,
    /// The function for times of day.
    datafusion: Arc<ScalarUDF>,
    signature: Signature,
}

impl DateTrunc {
    pub fn new(zone: Option<Arc<str>>) -> Self {
        Self { zone, datafusion: date_trunc(), signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for DateTrunc {
    fn name(&self) -> &str {
        self.datafusion.name()
    }

    fn aliases(&self) -> &[String] {
        self.datafusion.aliases()
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

    /// Dates and texts become timestamps of a unit that reaches every year; finer digits are dropped.
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [precision, time] = types else {
            return plan_err!("date_trunc() takes a precision and a timestamp, as in date_trunc('month', t)");
        };
        if !is_text(precision) && !matches!(precision, DataType::Dictionary(_, values) if is_text(values)) {
            return plan_err!("date_trunc() takes the precision first, as in date_trunc('month', t), not {precision}");
        }
        let precision = if is_text(precision) { precision.clone() } else { DataType::Utf8 };
        Ok(vec![precision, coerced(time, &self.zone)?])
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("return_field_from_args is called instead")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let time = &args.arg_fields[1];
        Ok(Arc::new(Field::new(self.name(), time.data_type().clone(), time.is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let DataType::Timestamp(unit, zone) = args.args[1].data_type() else {
            return self.datafusion.inner().invoke_with_args(args);
        };
        let precision = match &args.args[0] {
            ColumnarValue::Scalar(scalar) => scalar.try_as_str().flatten(),
            ColumnarValue::Array(_) => None,
        };
        let Some(precision) = precision else {
            return exec_err!("the precision of date_trunc() must be a text that is the same for all rows");
        };
        let precision: Precision = precision.parse()?;
        let zone = zone.as_deref().map(Zone::from_str).transpose()?;
        on_array(&args.args[1], |times| {
            map(times, times.data_type(), |value| {
                truncate(value, unit, precision, zone).ok_or_else(|| match naive_of(value, unit) {
                    Some(time) => out_of_range(&format!("the start of the {precision:?} of {time}"), unit),
                    None => out_of_range(&value, unit),
                })
            })
        })
    }

    fn output_ordering(&self, input: &[ExprProperties]) -> Result<SortProperties> {
        self.datafusion.output_ordering(input)
    }
}

/// `time` truncated to microseconds.
pub(super) fn to_microseconds(time: Expr) -> Expr {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(DateTrunc::new(None).into()));
    FUNCTION.call(vec![lit("microsecond"), time])
}

/// The type in which `time` is truncated or put into bins.
pub(super) fn coerced(time: &DataType, zone: &Option<Arc<str>>) -> Result<DataType> {
    Ok(match time {
        DataType::Timestamp(..) | DataType::Time32(_) | DataType::Time64(_) => time.clone(),
        DataType::Null => DataType::Timestamp(TimeUnit::Nanosecond, None),
        DataType::Date32 | DataType::Date64 => DataType::Timestamp(TimeUnit::Microsecond, None),
        text if is_text(text) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Dictionary(_, values) => coerced(values, zone)?,
        other => return plan_err!("a timestamp, date or time was expected, not {other}: cast it"),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Precision {
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    Decade,
    Century,
    Millennium,
}

impl FromStr for Precision {
    type Err = datafusion::common::DataFusionError;

    fn from_str(precision: &str) -> Result<Self> {
        Ok(match precision.to_ascii_lowercase().as_str() {
            "microsecond" | "microseconds" => Self::Microsecond,
            "millisecond" | "milliseconds" => Self::Millisecond,
            "second" => Self::Second,
            "minute" => Self::Minute,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "week" => Self::Week,
            "month" => Self::Month,
            "quarter" => Self::Quarter,
            "year" => Self::Year,
            "decade" => Self::Decade,
            "century" => Self::Century,
            "millennium" => Self::Millennium,
            _ => {
                return exec_err!(
                    "Unsupported date_trunc granularity: '{precision}'. Supported values are: microsecond, millisecond, second, \
                     minute, hour, day, week, month, quarter, year, decade, century, millennium"
                );
            }
        })
    }
}

fn truncate(value: i64, unit: TimeUnit, precision: Precision, zone: Option<Zone>) -> Option<i64> {
    let Some(zone) = zone else { return truncate_local(value, unit, precision) };
    let per_second = per_second(unit);
    let offset = zone.offset_at(&naive_of(value, unit)?) * per_second;
    let local = truncate_local(value.checked_add(offset)?, unit, precision)?;
    match precision {
        // An hour that comes twice has two starts.
        _ if precision <= Precision::Hour => local.checked_sub(offset),
        _ => local.checked_sub(zone.offset_of(&naive_of(local, unit)?) * per_second),
    }
}

fn truncate_local(value: i64, unit: TimeUnit, precision: Precision) -> Option<i64> {
    let per_second = per_second(unit);
    let down_to = |step: i64| value.checked_sub(value.rem_euclid(step.max(1)));
    let per_day = per_second * SECONDS_PER_DAY;
    let start_of = |date: NaiveDate| (i64::from(date.num_days_from_ce()) - EPOCH_DAY).checked_mul(per_day);
    let date = || NaiveDate::from_num_days_from_ce_opt(i32::try_from(value.div_euclid(per_day) + EPOCH_DAY).ok()?);
    // The years of a decade begin with a 0, those of a century and of a millennium with a 1.
    let years = |step: i32, first: i32| {
        let year = date()?.year();
        start_of(NaiveDate::from_ymd_opt(year - (year - first).rem_euclid(step), 1, 1)?)
    };
    match precision {
        Precision::Microsecond => down_to(per_second / 1_000_000),
        Precision::Millisecond => down_to(per_second / 1_000),
        Precision::Second => down_to(per_second),
        Precision::Minute => down_to(per_second * 60),
        Precision::Hour => down_to(per_second * 3_600),
        Precision::Day => down_to(per_day),
        Precision::Week => {
            let day = value.div_euclid(per_day);
            // 1970-01-01 was a Thursday.
            (day - (day + 3).rem_euclid(7)).checked_mul(per_day)
        }
        Precision::Month => start_of(date()?.with_day(1)?),
        Precision::Quarter => start_of(date()?.with_day(1)?.with_month0(date()?.month0() / 3 * 3)?),
        Precision::Year => years(1, 0),
        Precision::Decade => years(10, 0),
        Precision::Century => years(100, 1),
        Precision::Millennium => years(1_000, 1),
    }
}

/// The order is kept if the step is the same for all rows.
pub(super) fn keeps_order(step: &ExprProperties, value: &ExprProperties) -> SortProperties {
    match step.sort_properties {
        SortProperties::Singleton => value.sort_properties,
        _ => SortProperties::Unordered,
    }
}

#[cfg(test)]
mod tests {
    use super::super::unit::value_of;
    use super::*;
    use chrono::NaiveDateTime;

    fn truncated(time: &str, unit: TimeUnit, precision: &str, zone: Option<&str>) -> String {
        let value = value_of(time.parse::<NaiveDateTime>().unwrap(), unit).unwrap();
        let zone = zone.map(|zone| zone.parse().unwrap());
        let start = truncate(value, unit, precision.parse().unwrap(), zone).unwrap();
        naive_of(start, unit).unwrap().to_string()
    }

    #[test]
    fn every_year_has_a_start() {
        use TimeUnit::{Microsecond, Second};
        for (precision, start) in [
            ("second", "9999-12-31 23:59:58"),
            ("hour", "9999-12-31 23:00:00"),
            ("day", "9999-12-31 00:00:00"),
            ("week", "9999-12-27 00:00:00"),
            ("month", "9999-12-01 00:00:00"),
            ("quarter", "9999-10-01 00:00:00"),
            ("year", "9999-01-01 00:00:00"),
            ("decade", "9990-01-01 00:00:00"),
            ("century", "9901-01-01 00:00:00"),
            ("millennium", "9001-01-01 00:00:00"),
        ] {
            assert_eq!(truncated("9999-12-31T23:59:58.5", Microsecond, precision, None), start, "{precision}");
            assert_eq!(truncated("9999-12-31T23:59:58", Second, precision, None), start, "{precision}");
        }
        assert_eq!(truncated("0001-03-01T00:00:01", Microsecond, "year", None), "0001-01-01 00:00:00");
        assert_eq!(
            truncated("1969-12-31T23:59:59.999999", Microsecond, "millisecond", None),
            "1969-12-31 23:59:59.999"
        );
        assert_eq!(truncated("2000-12-31T00:00:00", Microsecond, "century", None), "1901-01-01 00:00:00");
        // The year of the first instant in nanoseconds begins before their range.
        assert_eq!(truncate(i64::MIN, TimeUnit::Nanosecond, Precision::Year, None), None);
    }

    #[test]
    fn days_are_those_of_the_zone() {
        let new_york = Some("America/New_York");
        let micros = TimeUnit::Microsecond;
        assert_eq!(truncated("2024-01-16T04:30:00", micros, "day", new_york), "2024-01-15 05:00:00");
        assert_eq!(truncated("2024-07-16T03:30:00", micros, "month", new_york), "2024-07-01 04:00:00");
        // 01:30 comes twice on this day, and each hour has its own start.
        assert_eq!(truncated("2024-11-03T05:30:00", micros, "hour", new_york), "2024-11-03 05:00:00");
        assert_eq!(truncated("2024-11-03T06:30:00", micros, "hour", new_york), "2024-11-03 06:00:00");
        // A day has one start, even if midnight comes twice or is skipped.
        let havana = Some("America/Havana");
        let twice = truncated("2024-11-03T04:30:00", micros, "day", havana);
        assert_eq!(truncated("2024-11-03T20:00:00", micros, "day", havana), twice);
        assert_eq!(truncated("2024-03-10T20:00:00", micros, "day", havana), "2024-03-10 05:00:00");
    }
}

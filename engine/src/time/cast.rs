//! Casts between local times and instants, and between text and instants, which know skipped and doubled hours.
//!
//! Arrow fails on them, or gives NULL, and takes an instant's UTC digits for its local ones. [`super::rules`] puts these functions in
//! the place of such casts.

use super::unit::{in_unit, is_text, map, map_opt, naive_of, nanos_of, on_array, out_of_range, per_second, texts};
use super::zone::Zone;
use arrow::array::{ArrayRef, Int64Array};
use arrow::compute::cast;
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::{Result, exec_datafusion_err, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use std::sync::{Arc, LazyLock};

static CAST: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(CastTime::new(false).into()));
static TRY_CAST: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(CastTime::new(true).into()));

pub(super) fn functions() -> [Arc<ScalarUDF>; 2] {
    [Arc::clone(&CAST), Arc::clone(&TRY_CAST)]
}

/// Whether Arrow's cast of one into the other asks a time zone.
pub(super) fn asks_a_zone(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Timestamp(_, Some(zone)), DataType::Timestamp(_, None)) => !is_utc(zone),
        (DataType::Dictionary(_, values), to) => is_text(values) && asks_a_zone(values, to),
        (DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64, DataType::Timestamp(_, Some(zone))) => {
            !is_utc(zone)
        }
        (text, DataType::Timestamp(_, Some(zone))) => is_text(text) && !is_utc(zone),
        _ => false,
    }
}

pub(super) fn is_utc(zone: &str) -> bool {
    ["UTC", "+00:00", "Etc/UTC", "Z"].contains(&zone)
}

/// `value` as a value of type `to`. With `or_null`, what cannot be one is NULL.
pub(super) fn cast_expr(value: Expr, to: &DataType, or_null: bool) -> Expr {
    let function = if or_null { &TRY_CAST } else { &CAST };
    function.call(vec![value, lit(to.to_string())])
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

/// Casts timestamps, dates or texts to timestamps of the zone in `to`, or of none.
pub(super) fn cast_time(array: &ArrayRef, to: &DataType, or_null: bool) -> Result<ArrayRef> {
    let DataType::Timestamp(unit, to_zone) = to else { return internal_err!("{to} is no timestamp") };
    match array.data_type() {
        DataType::Dictionary(_, values) => cast_time(&cast(array, values)?, to, or_null),
        text if is_text(text) => of_text(array, *unit, Zone::of(to_zone.as_deref())?, to, or_null),
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
                let seconds = value.div_euclid(per_from);
                let rest = value.rem_euclid(per_from);
                // What is finer than a second is scaled by itself, which does not overflow.
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

fn of_text(array: &ArrayRef, unit: TimeUnit, zone: Zone, to: &DataType, or_null: bool) -> Result<ArrayRef> {
    let parse = |text: Option<&str>| match text.map(|text| parse_instant(text, unit, &zone)) {
        Some(Err(_)) if or_null => Ok(None),
        parsed => parsed.transpose(),
    };
    let parsed: Int64Array = texts(array)?.into_iter().map(parse).collect::<Result<_>>()?;
    Ok(cast(&parsed, to)?)
}

/// The instant that `text` names, in `zone` if it names no other.
pub(super) fn parse_instant(text: &str, unit: TimeUnit, zone: &Zone) -> Result<i64> {
    let time = string_to_datetime(zone, text)?.naive_utc();
    in_unit(nanos_of(time), unit).ok_or_else(|| {
        let reason = out_of_range(&time, unit);
        exec_datafusion_err!("'{text}': {}", reason.strip_backtrace())
    })
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
    fn a_type_is_read_as_it_is_written() {
        for unit in [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
            for zone in [None, Some("America/New_York".into()), Some("+05:30".into())] {
                let data_type = DataType::Timestamp(unit, zone);
                assert_eq!(data_type.to_string().parse::<DataType>().unwrap(), data_type);
            }
        }
    }
}

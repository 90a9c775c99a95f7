//! Time: the session's time zone, the hours that its clocks skip and show twice, and the years 1 to 9999 in every unit.
//!
//! ```text
//!   zone.rs      one instant for every local time
//!   unit.rs      timestamps as numbers of their unit
//!   at_zone.rs   AT TIME ZONE
//!   cast.rs      local times and texts to instants, and back
//!   interval.rs  instants and intervals
//!   trunc.rs     date_trunc        bin.rs  date_bin
//!   text.rs      to_timestamp and its kin, to_unixtime, from_unixtime, patterns of to_char and to_date
//!   pattern.rs   languages of patterns
//!   nanos.rs     times of any year beside those of nanoseconds
//!   compare.rs   comparisons of times, before DataFusion makes all of them nanoseconds
//!   rules.rs     what puts cast.rs and interval.rs into plans, and tables' columns into the session's zone
//! ```

mod at_zone;
mod bin;
mod cast;
mod compare;
mod interval;
mod nanos;
mod pattern;
mod rules;
mod text;
mod trunc;
mod unit;
mod zone;

use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::{DataType, TimeUnit};
use at_zone::AtTimeZone;
use bin::DateBin;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, ScalarValue};
use datafusion::functions::datetime;
use datafusion::logical_expr::ScalarUDF;
use pattern::Language;
pub(crate) use rules::{BeforeCoercion, ZonedCasts};
use std::sync::Arc;
use text::{FromUnixtime, ToTimestamp, ToUnixtime, WithPatterns};
use trunc::DateTrunc;
use zone::Zone;

/// Functions that take the place of DataFusion's of the same names, and those that rules put into plans.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let to_timestamp = |unit, own_name| ToTimestamp::new(unit, own_name, None).into();
    let mut functions: Vec<ScalarUDF> = vec![
        to_timestamp(TimeUnit::Nanosecond, false),
        to_timestamp(TimeUnit::Nanosecond, true),
        to_timestamp(TimeUnit::Microsecond, true),
        to_timestamp(TimeUnit::Millisecond, true),
        to_timestamp(TimeUnit::Second, true),
        ToUnixtime::new(None).into(),
        FromUnixtime::new(None).into(),
        DateTrunc::new(None).into(),
        DateBin::new(None).into(),
        AtTimeZone::new(None).into(),
        WithPatterns::new("to_char", Language::Postgres, datetime::to_char()).into(),
        WithPatterns::new("date_format", Language::Spark, datetime::to_char()).into(),
        WithPatterns::new("to_date", Language::Postgres, datetime::to_date()).into(),
        WithPatterns::new("to_time", Language::Postgres, datetime::to_time()).into(),
    ];
    let mut all: Vec<Arc<ScalarUDF>> = functions.drain(..).map(Arc::new).collect();
    all.extend(cast::functions());
    all.extend(interval::functions());
    all.push(nanos::function());
    all
}

/// `value` as one of another type, as a column of that takes it: 1.5 is 2 as an integer, and so is 2.5 as a floating point number. Times without
/// a zone are those of `zone`, the session's.
pub fn cast_value(value: &ScalarValue, to: &DataType, zone: Option<&str>) -> Result<ScalarValue> {
    let session = zone.unwrap_or("UTC");
    let of_session = |of: &DataType| match of {
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some(session.into())),
        other => other.clone(),
    };
    // An instant has the same value in every zone.
    let value = match value {
        ScalarValue::Decimal128(Some(_), digits, places) if *places > 0 && to.is_integer() => {
            value.cast_to(&DataType::Decimal128(*digits, 0))?
        }
        ScalarValue::Float64(Some(float)) if to.is_integer() => ScalarValue::Float64(Some(float.round_ties_even())),
        ScalarValue::Float32(Some(float)) if to.is_integer() => ScalarValue::Float32(Some(float.round_ties_even())),
        value => value.cast_to(&of_session(&value.data_type()))?,
    };
    let within = of_session(to);
    let cast = match cast::asks_a_zone(&value.data_type(), &within) {
        true => ScalarValue::try_from_array(&cast::cast_time(&value.to_array()?, &within, false)?, 0)?,
        false => value.cast_to(&within)?,
    };
    cast.cast_to(to)
}

/// Whether a written timestamp lies outside of what nanoseconds reach. `None`: it is none, or is finer than microseconds.
pub fn beyond_nanoseconds(text: &str) -> Option<bool> {
    let zone = Zone::of(None).ok()?;
    let nanos = unit::nanos_of(string_to_datetime(&zone, text).ok()?.naive_utc());
    (nanos % 1_000 == 0).then(|| unit::in_unit(nanos, TimeUnit::Nanosecond).is_none())
}

/// The session's time zone; `None` where none was set.
fn session_zone(config: &ConfigOptions) -> Option<Arc<str>> {
    config.execution.time_zone.as_deref().filter(|zone| !zone.is_empty()).map(Arc::from)
}

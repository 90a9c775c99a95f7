//! Time: the session's time zone, the hours that its clocks skip and repeat, and the years 1 to 9999 in every unit.
//!
//! ```text
//!   zone.rs      one instant for every local time; names of zones
//!   read.rs      texts of dates and times        read_interval.rs  of intervals
//!   unit.rs      timestamps as numbers of their unit
//!   at_zone.rs   AT TIME ZONE
//!   cast.rs      local times and texts to instants, and back
//!   interval.rs  instants and intervals
//!   series.rs    range and generate_series of instants
//!   trunc.rs     date_trunc        bin.rs  date_bin
//!   text.rs      to_timestamp and its variants, to_unixtime, from_unixtime, patterns of to_char and to_date
//!   pattern.rs   languages of patterns
//!   nanos.rs     comparisons of times of any year with nanoseconds
//!   compare.rs   comparisons of times, before DataFusion converts all to nanoseconds
//!   written.rs   coalesce with texts
//!   rules.rs     rules that put cast.rs and interval.rs into plans, and tables' columns into the session's zone
//! ```

mod at_zone;
mod bin;
mod cast;
mod compare;
mod interval;
mod nanos;
mod pattern;
mod read;
mod read_interval;
mod rules;
mod series;
mod text;
mod trunc;
mod unit;
mod written;
mod zone;

use arrow::array::{ArrayRef, Int64Array};
use arrow::compute::cast;
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::{DataType, Field, TimeUnit};
use at_zone::AtTimeZone;
use bin::DateBin;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, ScalarValue};
use datafusion::functions::datetime;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{Expr, ScalarUDF};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use pattern::Language;
pub use rules::within_nanoseconds;
pub(crate) use rules::{BeforeCoercion, ZonedCasts};
pub(crate) use series::table_functions;
use std::sync::Arc;
use text::{FromUnixtime, ToTimestamp, ToUnixtime, WithPatterns};
use trunc::DateTrunc;
use zone::Zone;
pub use zone::zone_name;

/// Functions that replace DataFusion's of the same names, and those that rules put into plans.
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
    all.extend(series::functions());
    all.push(written::function());
    all.push(nanos::function());
    all
}

/// Converts `value` to another type as a column of that type takes it: as an integer, 1.5 is 2, and so is 2.5 as a floating point number. Times without a
/// zone are in `zone`, the session's.
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
    let from = value.data_type();
    let cast = match cast::asks_a_zone(&from, &within) || cast::reads_text(&from, &within) {
        true => ScalarValue::try_from_array(&cast::cast_time(&value.to_array()?, &within, false)?, 0)?,
        false => value.cast_to(&within)?,
    };
    cast.cast_to(to)
}

/// Whether a written timestamp is outside the range of nanoseconds. `None`: it is no timestamp, or is finer than microseconds.
pub fn beyond_nanoseconds(text: &str) -> Option<bool> {
    let nanos = unit::nanos_of(read::written(text)?.local);
    (nanos % 1_000 == 0).then(|| unit::in_unit(nanos, TimeUnit::Nanosecond).is_none())
}

/// The type in which a column holds all values of these types of dates and timestamps, or of times of day. `None`: they all have this type already, or some
/// are neither.
pub(crate) fn meet(types: &[DataType]) -> Option<DataType> {
    let meets = compare::common(types).or_else(|| time_of_day(types))?;
    types.iter().any(|of| *of != meets && *of != DataType::Null).then_some(meets)
}

/// The type in which times of day of different units can be compared. `None`: they are of one type, or some are no times of day.
pub(crate) fn time_of_day(types: &[DataType]) -> Option<DataType> {
    let mut times = types.iter().filter(|of| **of != DataType::Null);
    let first = times.next()?;
    let differ =
        types.iter().all(|of| compare::is_time_of_day(of) || *of == DataType::Null) && times.any(|of| of != first);
    differ.then_some(compare::TIME_OF_DAY)
}

/// Casts `expr` from type `from` to `to`. Where `to` does not reach all years, the error names a type that does.
pub(crate) fn as_time(expr: Expr, from: &DataType, to: &DataType) -> Expr {
    match cast::narrows(from, to) {
        true => cast::cast_expr(expr, to, false),
        false => Expr::Cast(Cast::new(Box::new(expr), to.clone())),
    }
}

/// A written timestamp in a form that DataFusion's planner reads too, without a zone if its type has none. `None`: DataFusion already reads it, or it is no
/// timestamp.
pub fn timestamp_in_full(text: &str, keeps_zone: bool) -> Option<String> {
    let written = read::written(text)?;
    let is_read = string_to_datetime(&chrono::Utc, text).is_ok();
    if is_read && (keeps_zone || !written.has_zone()) {
        return None;
    }
    let utc = Zone::of(None).ok()?;
    let (time, mark) = match keeps_zone && written.has_zone() {
        true => (written.utc(&utc), "Z"),
        false => (written.local, ""),
    };
    Some(format!("{}{mark}", time.format("%Y-%m-%d %H:%M:%S%.f")))
}

/// A written interval as months, days and nanoseconds, which DataFusion reads. `None`: PostgreSQL does not read it as an interval.
pub fn interval_in_parts(text: &str) -> Option<String> {
    let of = read_interval::interval(text).ok()?;
    Some(format!("{} months {} days {} nanoseconds", of.months, of.days, of.nanoseconds))
}

/// Reads text of one date or time type as casts do. For text files.
pub(crate) struct TimeReader {
    of: DataType,
    zone: Option<Zone>,
}

impl TimeReader {
    /// `None`: the type is no date or time.
    pub fn new(of: &DataType) -> Result<Option<Self>> {
        let zone = match of {
            DataType::Timestamp(_, Some(zone)) => Some(zone.parse()?),
            DataType::Timestamp(_, None) | DataType::Date32 | DataType::Time32(_) | DataType::Time64(_) => None,
            _ => return Ok(None),
        };
        Ok(Some(Self { of: of.clone(), zone }))
    }

    /// Returns the value in the unit of the type.
    ///
    /// # Errors
    /// The text is no value of the type.
    pub fn read(&self, text: &str) -> Result<i64> {
        match &self.of {
            DataType::Timestamp(unit, _) => cast::parse_instant(text, *unit, self.zone.as_ref()),
            DataType::Time32(unit) | DataType::Time64(unit) => cast::parse_clock(text, *unit),
            _ => read::date(text).map(i64::from),
        }
    }

    /// An array of the type from values that were read.
    pub fn array(&self, values: Int64Array) -> Result<ArrayRef> {
        Ok(match &self.of {
            DataType::Date32 | DataType::Time32(_) => cast(&cast(&values, &DataType::Int32)?, &self.of)?,
            _ => cast(&values, &self.of)?,
        })
    }
}

/// Converts instants of named zones to text, for writers that drop the seconds of an offset. The columns `kept` stay.
pub(crate) fn with_offsets(
    input: Arc<dyn ExecutionPlan>,
    kept: &[(String, DataType)],
    options: Arc<ConfigOptions>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = input.schema();
    let is_text = |field: &Field| {
        cast::asks_a_zone(field.data_type(), &DataType::Utf8) && kept.iter().all(|(name, _)| name != field.name())
    };
    if !schema.fields().iter().any(|field| is_text(field)) {
        return Ok(input);
    }
    let columns = schema.fields().iter().enumerate().map(|(at, field)| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), at));
        let column = match is_text(field) {
            true => cast::physical(column, &DataType::Utf8, &schema, Arc::clone(&options))?,
            false => column,
        };
        Ok((column, field.name().clone()))
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(ProjectionExec::try_new(columns, input)?))
}

/// Whether the text of a timestamp names a zone. `None`: it is no timestamp.
pub(crate) fn names_zone(text: &str) -> Option<bool> {
    read::written(text).map(|written| written.has_zone())
}

/// Instants with a named zone as text, since their offset may have seconds; other arrays unchanged.
///
/// # Errors
/// The type names an unknown zone.
pub fn instants_as_text(array: &ArrayRef) -> Result<ArrayRef> {
    match array.data_type() {
        DataType::Timestamp(..) if cast::asks_a_zone(array.data_type(), &DataType::Utf8) => {
            Ok(Arc::new(cast::as_text(array)?))
        }
        _ => Ok(Arc::clone(array)),
    }
}

/// The session's time zone; `None` if none was set.
fn session_zone(config: &ConfigOptions) -> Option<Arc<str>> {
    config.execution.time_zone.as_deref().filter(|zone| !zone.is_empty()).map(Arc::from)
}

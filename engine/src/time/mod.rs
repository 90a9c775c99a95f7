//! Time: the session's time zone, the hours that its clocks skip and show twice, and the years 1 to 9999 in every unit.
//!
//! ```text
//!   zone.rs      one instant for every local time, names of zones
//!   read.rs      texts of dates and times        read_interval.rs  of intervals
//!   unit.rs      timestamps as numbers of their unit
//!   at_zone.rs   AT TIME ZONE
//!   cast.rs      local times and texts to instants, and back
//!   interval.rs  instants and intervals
//!   series.rs    range and generate_series of instants
//!   trunc.rs     date_trunc        bin.rs  date_bin
//!   text.rs      to_timestamp and its kin, to_unixtime, from_unixtime, patterns of to_char and to_date
//!   pattern.rs   languages of patterns
//!   nanos.rs     times of any year beside those of nanoseconds
//!   compare.rs   comparisons of times, before DataFusion makes all of them nanoseconds
//!   written.rs   coalesce beside texts
//!   rules.rs     what puts cast.rs and interval.rs into plans, and tables' columns into the session's zone
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
    all.extend(series::functions());
    all.push(written::function());
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
    let from = value.data_type();
    let cast = match cast::asks_a_zone(&from, &within) || cast::reads_text(&from, &within) {
        true => ScalarValue::try_from_array(&cast::cast_time(&value.to_array()?, &within, false)?, 0)?,
        false => value.cast_to(&within)?,
    };
    cast.cast_to(to)
}

/// Whether a written timestamp lies outside of what nanoseconds reach. `None`: it is none, or is finer than microseconds.
pub fn beyond_nanoseconds(text: &str) -> Option<bool> {
    let nanos = unit::nanos_of(read::written(text)?.local);
    (nanos % 1_000 == 0).then(|| unit::in_unit(nanos, TimeUnit::Nanosecond).is_none())
}

/// The type in which a column of dates and timestamps of these types has all of its values. `None`: they have one type, or not all of them are.
pub(crate) fn meet(types: &[DataType]) -> Option<DataType> {
    let meets = compare::common(types)?;
    types.iter().any(|of| *of != meets && *of != DataType::Null).then_some(meets)
}

/// `expr` of type `from` as one of type `to`, with an error that names a type for all years where `to` does not reach them.
pub(crate) fn as_time(expr: Expr, from: &DataType, to: &DataType) -> Expr {
    match cast::narrows(from, to) {
        true => cast::cast_expr(expr, to, false),
        false => Expr::Cast(Cast::new(Box::new(expr), to.clone())),
    }
}

/// A written timestamp as DataFusion's planner reads it too, without the zone that its type has none of. `None`: it is one already, or none at all.
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

/// A written interval, with months, days and nanoseconds as DataFusion reads them. `None`: PostgreSQL reads no interval in it.
pub fn interval_in_parts(text: &str) -> Option<String> {
    let of = read_interval::interval(text).ok()?;
    Some(format!("{} months {} days {} nanoseconds", of.months, of.days, of.nanoseconds))
}

/// Reads the texts of one type of dates or times, as casts do. For files of text.
pub(crate) struct TimeReader {
    of: DataType,
    zone: Option<Zone>,
}

impl TimeReader {
    /// `None`: the type is none of a date or a time.
    pub fn new(of: &DataType) -> Result<Option<Self>> {
        let zone = match of {
            DataType::Timestamp(_, Some(zone)) => Some(zone.parse()?),
            DataType::Timestamp(_, None) | DataType::Date32 | DataType::Time32(_) | DataType::Time64(_) => None,
            _ => return Ok(None),
        };
        Ok(Some(Self { of: of.clone(), zone }))
    }

    /// The value in the unit of the type.
    ///
    /// # Errors
    /// The text is none of its values.
    pub fn read(&self, text: &str) -> Result<i64> {
        match &self.of {
            DataType::Timestamp(unit, _) => cast::parse_instant(text, *unit, self.zone.as_ref()),
            DataType::Time32(unit) | DataType::Time64(unit) => cast::parse_clock(text, *unit),
            _ => read::date(text).map(i64::from),
        }
    }

    /// The values that were read as an array of the type.
    pub fn array(&self, values: Int64Array) -> Result<ArrayRef> {
        Ok(match &self.of {
            DataType::Date32 | DataType::Time32(_) => cast(&cast(&values, &DataType::Int32)?, &self.of)?,
            _ => cast(&values, &self.of)?,
        })
    }
}

/// Rows whose instants of named zones are text, for writers that leave out the seconds of an offset. The columns `kept` stay.
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

/// What the text of a timestamp names. `None`: it is none.
pub(crate) fn names_zone(text: &str) -> Option<bool> {
    read::written(text).map(|written| written.has_zone())
}

/// Instants with a named zone as text, whose offset may have seconds; other values as they are.
///
/// # Errors
/// A zone that is none.
pub fn instants_as_text(array: &ArrayRef) -> Result<ArrayRef> {
    match array.data_type() {
        DataType::Timestamp(..) if cast::asks_a_zone(array.data_type(), &DataType::Utf8) => {
            Ok(Arc::new(cast::as_text(array)?))
        }
        _ => Ok(Arc::clone(array)),
    }
}

/// The session's time zone; `None` where none was set.
fn session_zone(config: &ConfigOptions) -> Option<Arc<str>> {
    config.execution.time_zone.as_deref().filter(|zone| !zone.is_empty()).map(Arc::from)
}

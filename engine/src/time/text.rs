//! Conversions of text and numbers to timestamps of the session's time zone, and of times to text.
//!
//! DataFusion gives a column of text the zone's type without its offset, takes seconds since 1970 as local ones, and has no result for hours that a clock
//! skips or shows twice.

use super::cast::cast_time;
use super::pattern::{Language, strftime};
use super::unit::{in_unit, is_text, nanos_of, on_array, out_of_range, relabel, texts};
use super::zone::Zone;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, TimeUnit};
use chrono::format::{Parsed, StrftimeItems, parse};
use chrono::{NaiveDateTime, TimeZone};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err, plan_err};
use datafusion::functions::datetime;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use std::borrow::Cow;
use std::sync::Arc;

/// `to_timestamp` and the variants for other units.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ToTimestamp {
    unit: TimeUnit,
    zone: Option<Arc<str>>,
    /// The function without a zone: for numbers, which are instants.
    datafusion: Arc<ScalarUDF>,
}

impl ToTimestamp {
    pub fn new(unit: TimeUnit, own_name: bool, zone: Option<Arc<str>>) -> Self {
        let config = ConfigOptions::default();
        let datafusion = match unit {
            TimeUnit::Second => datetime::to_timestamp_seconds(&config),
            TimeUnit::Millisecond => datetime::to_timestamp_millis(&config),
            TimeUnit::Microsecond => datetime::to_timestamp_micros(&config),
            TimeUnit::Nanosecond if own_name => datetime::to_timestamp_nanos(&config),
            TimeUnit::Nanosecond => datetime::to_timestamp(&config),
        };
        Self { unit, zone, datafusion }
    }
}

impl ScalarUDFImpl for ToTimestamp {
    fn name(&self) -> &str {
        self.datafusion.name()
    }

    fn aliases(&self) -> &[String] {
        self.datafusion.aliases()
    }

    fn signature(&self) -> &Signature {
        self.datafusion.signature()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.datafusion.documentation()
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let (unit, zone) = (self.unit, super::session_zone(config));
        Some(Self { unit, zone, datafusion: Arc::clone(&self.datafusion) }.into())
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(self.unit, self.zone.clone()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let to = DataType::Timestamp(self.unit, self.zone.clone());
        match args.args.first().map(ColumnarValue::data_type) {
            Some(text) if is_text(&text) => parse_all(&args, &to),
            Some(DataType::Timestamp(..) | DataType::Date32 | DataType::Date64) if args.args.len() == 1 => {
                on_array(&args.args[0], |times| match times.data_type() {
                    DataType::Timestamp(unit, zone) if *unit == self.unit && zone.is_some() => relabel(times, &to),
                    _ => cast_time(times, &to, false),
                })
            }
            _ => {
                if let Some(number) = args.args.first() {
                    refuse_no_number(number, self.name())?;
                }
                let plain = DataType::Timestamp(self.unit, None);
                let return_field = Arc::new(Field::new(self.name(), plain, true));
                let instants = self.datafusion.invoke_with_args(ScalarFunctionArgs { return_field, ..args })?;
                on_array(&instants, |instants| relabel(instants, &to))
            }
        }
    }
}

/// NaN and infinity are no times.
fn refuse_no_number(value: &ColumnarValue, function: &str) -> Result<()> {
    if !value.data_type().is_floating() {
        return Ok(());
    }
    let numbers = match value {
        ColumnarValue::Array(array) => Arc::clone(array),
        ColumnarValue::Scalar(scalar) => scalar.to_array()?,
    };
    let numbers = cast(&numbers, &DataType::Float64)?;
    match numbers.as_primitive::<Float64Type>().iter().flatten().find(|number| !number.is_finite()) {
        Some(number) => exec_err!("{function}({number}): a timestamp is a finite number of seconds"),
        None => Ok(()),
    }
}

/// `to_unixtime`: seconds since 1970. Text and times without a zone are in the session's zone.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ToUnixtime {
    zone: Option<Arc<str>>,
    datafusion: Arc<ScalarUDF>,
}

impl ToUnixtime {
    pub fn new(zone: Option<Arc<str>>) -> Self {
        Self { zone, datafusion: datetime::to_unixtime() }
    }
}

impl ScalarUDFImpl for ToUnixtime {
    fn name(&self) -> &str {
        self.datafusion.name()
    }

    fn aliases(&self) -> &[String] {
        self.datafusion.aliases()
    }

    fn signature(&self) -> &Signature {
        self.datafusion.signature()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.datafusion.documentation()
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        Some(Self::new(super::session_zone(config)).into())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.datafusion.return_type(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let zone = self.zone.clone().or_else(|| Some("UTC".into()));
        let to = DataType::Timestamp(TimeUnit::Second, zone);
        let instants = match args.args.first().map(ColumnarValue::data_type) {
            Some(text) if is_text(&text) => parse_all(&args, &to)?,
            Some(DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64) if args.args.len() == 1 => {
                on_array(&args.args[0], |times| cast_time(times, &to, false))?
            }
            _ => return self.datafusion.inner().invoke_with_args(args),
        };
        on_array(&instants, |instants| Ok(cast(instants, &DataType::Int64)?))
    }
}

/// `from_unixtime`: with one argument, in the session's time zone.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct FromUnixtime {
    zone: Option<Arc<str>>,
    datafusion: Arc<ScalarUDF>,
}

impl FromUnixtime {
    pub fn new(zone: Option<Arc<str>>) -> Self {
        Self { zone, datafusion: datetime::from_unixtime() }
    }
}

impl ScalarUDFImpl for FromUnixtime {
    fn name(&self) -> &str {
        self.datafusion.name()
    }

    fn signature(&self) -> &Signature {
        self.datafusion.signature()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.datafusion.documentation()
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        Some(Self::new(super::session_zone(config)).into())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.datafusion.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match args.arg_fields.len() {
            1 => {
                let data_type = DataType::Timestamp(TimeUnit::Second, self.zone.clone());
                Ok(Arc::new(Field::new(self.name(), data_type, true)))
            }
            _ => self.datafusion.inner().return_field_from_args(args),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [seconds] => on_array(seconds, |seconds| Ok(cast(seconds, args.return_field.data_type())?)),
            _ => self.datafusion.inner().invoke_with_args(args),
        }
    }
}

/// A function of DataFusion that takes date patterns, extended to patterns of other languages.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct WithPatterns {
    name: &'static str,
    aliases: Vec<String>,
    language: Language,
    datafusion: Arc<ScalarUDF>,
}

impl WithPatterns {
    pub fn new(name: &'static str, language: Language, datafusion: Arc<ScalarUDF>) -> Self {
        Self { name, aliases: Vec::new(), language, datafusion }
    }
}

impl ScalarUDFImpl for WithPatterns {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        self.datafusion.signature()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.datafusion.documentation()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.datafusion.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.datafusion.inner().return_field_from_args(args)
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // Durations have two styles and no patterns.
        if !matches!(args.args.first().map(ColumnarValue::data_type), Some(DataType::Duration(_))) {
            for pattern in args.args.iter_mut().skip(1) {
                *pattern = translated(pattern, self.language)?;
            }
        }
        self.datafusion.inner().invoke_with_args(args)
    }
}

fn translated(pattern: &ColumnarValue, language: Language) -> Result<ColumnarValue> {
    match pattern {
        ColumnarValue::Scalar(scalar) => match scalar.try_as_str() {
            Some(Some(text)) => {
                Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(strftime(text, language)?.into_owned()))))
            }
            _ => Ok(pattern.clone()),
        },
        ColumnarValue::Array(array) if is_text(array.data_type()) => {
            let patterns = texts(array)?.into_iter().map(|text| text.map(|text| strftime(text, language)).transpose());
            let patterns: Vec<Option<Cow<'_, str>>> = patterns.collect::<Result<_>>()?;
            Ok(ColumnarValue::Array(Arc::new(StringArray::from_iter(patterns))))
        }
        ColumnarValue::Array(_) => Ok(pattern.clone()),
    }
}

/// The first argument's texts as instants. Further arguments are patterns; the first that fits is used.
fn parse_all(args: &ScalarFunctionArgs, to: &DataType) -> Result<ColumnarValue> {
    let DataType::Timestamp(unit, zone) = to else { return plan_err!("{to} is no timestamp") };
    let zone = Zone::of(zone.as_deref())?;
    let [text, patterns @ ..] = args.args.as_slice() else { return plan_err!("no text was given") };
    if patterns.is_empty() {
        return on_array(text, |array| cast_time(array, &DataType::Timestamp(*unit, Some(zone_name(to))), false))
            .and_then(|parsed| on_array(&parsed, |parsed| relabel(parsed, to)));
    }
    if let Some(other) = patterns.iter().map(ColumnarValue::data_type).find(|pattern| !is_text(pattern)) {
        return plan_err!("a pattern of a date must be text, not {other}");
    }
    let all_scalars = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
    let arrays = ColumnarValue::values_to_arrays(&args.args)?;
    let columns = arrays.iter().map(|array| texts(array)).collect::<Result<Vec<_>>>()?;
    let row = |row: usize| match columns[0][row] {
        Some(text) => parse_with(text, columns[1..].iter().filter_map(|patterns| patterns[row]), *unit, &zone),
        None => Ok(None),
    };
    let parsed: Int64Array = (0..columns[0].len()).map(row).collect::<Result<_>>()?;
    let parsed: ArrayRef = cast(&parsed, to)?;
    Ok(match all_scalars {
        true => ColumnarValue::Scalar(ScalarValue::try_from_array(&parsed, 0)?),
        false => ColumnarValue::Array(parsed),
    })
}

fn zone_name(to: &DataType) -> Arc<str> {
    match to {
        DataType::Timestamp(_, Some(zone)) => Arc::clone(zone),
        _ => "+00:00".into(),
    }
}

fn parse_with<'a>(
    text: &str,
    patterns: impl Iterator<Item = &'a str>,
    unit: TimeUnit,
    zone: &Zone,
) -> Result<Option<i64>> {
    let mut failed = None;
    for pattern in patterns {
        let pattern = strftime(pattern, Language::Postgres)?;
        match parse_one(text, &pattern, zone) {
            Ok(time) => {
                let value = in_unit(nanos_of(time), unit).ok_or_else(|| out_of_range(&time, unit))?;
                return Ok(Some(value));
            }
            Err(error) => {
                failed = Some(exec_datafusion_err!("'{text}' is no time of the pattern '{pattern}': {error}"))
            }
        }
    }
    // If all patterns are NULL, the result is NULL.
    failed.map_or(Ok(None), Err)
}

/// The result is in UTC. The name of a zone is read after a blank at the end, where chrono cannot read it.
fn parse_one(text: &str, pattern: &str, zone: &Zone) -> std::result::Result<NaiveDateTime, String> {
    let (mut text, mut pattern, mut zone) = (text, pattern, *zone);
    if let Some(without) = pattern.trim_end().strip_suffix(" %Z") {
        let (time, name) = text.trim_end().rsplit_once(' ').ok_or("it names no time zone at its end")?;
        zone = name.parse().map_err(|error: datafusion::common::DataFusionError| error.strip_backtrace())?;
        (text, pattern) = (time, without);
    } else if pattern.contains("%Z") {
        return Err("'%Z' is only understood at the end of the pattern, after a blank".to_string());
    }
    let mut parsed = Parsed::new();
    parse(&mut parsed, text, StrftimeItems::new(pattern)).map_err(|error| error.to_string())?;
    if parsed.offset().is_some() {
        return parsed.to_datetime().map(|time| time.naive_utc()).map_err(|error| error.to_string());
    }
    let time = parsed.to_naive_datetime_with_offset(0);
    let time = time.or_else(|_| parsed.to_naive_date().map(NaiveDateTime::from)).map_err(|error| error.to_string())?;
    if parsed.timestamp().is_some() {
        return Ok(time);
    }
    Ok(zone.from_local_datetime(&time).single().map_or(time, |time| time.naive_utc()))
}

#[cfg(test)]
mod tests {
    use super::super::cast::parse_instant;
    use super::*;

    fn parsed(text: &str, pattern: &str) -> String {
        let zone = "America/New_York".parse().unwrap();
        parse_one(text, pattern, &zone).map_or_else(|error| error, |time| time.to_string())
    }

    #[test]
    fn patterns_read_local_times_offsets_and_instants() {
        assert_eq!(parsed("10.03.2024 02:30", "%d.%m.%Y %H:%M"), "2024-03-10 07:30:00");
        assert_eq!(parsed("2024-01-15", "%Y-%m-%d"), "2024-01-15 05:00:00");
        assert_eq!(parsed("2024-01-15 12:00 +0200", "%Y-%m-%d %H:%M %z"), "2024-01-15 10:00:00");
        assert_eq!(parsed("2024-01-15 12:00 Asia/Tokyo", "%Y-%m-%d %H:%M %Z"), "2024-01-15 03:00:00");
        assert_eq!(parsed("1700000000", "%s"), "2023-11-14 22:13:20");
        assert!(parsed("2024", "%d.%m").contains("input"), "{}", parsed("2024", "%d.%m"));
    }

    #[test]
    fn text_is_an_instant() {
        let zone: Zone = "Europe/Zurich".parse().unwrap();
        assert_eq!(parse_instant("1970-01-01 02:00:01", TimeUnit::Second, Some(&zone)).unwrap(), 3_601);
    }
}

//! `x AT TIME ZONE z`: the local time of an instant in a zone, or the instant of a local time there.
//!
//! DataFusion turns both into an instant shown in `z`, so that `instant AT TIME ZONE z = timestamp '…'` compares instants.

use super::cast::cast_time;
use super::unit::{is_text, on_array};
use super::zone::Zone;
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct AtTimeZone {
    /// The session's zone, in which instants are shown.
    zone: Option<Arc<str>>,
    signature: Signature,
}

impl AtTimeZone {
    pub fn new(zone: Option<Arc<str>>) -> Self {
        Self { zone, signature: Signature::any(2, Volatility::Immutable) }
    }

    fn session(&self) -> Arc<str> {
        self.zone.clone().unwrap_or_else(|| Arc::from("UTC"))
    }

    /// The type to which `of` is cast first, and the type of the result.
    fn types(&self, of: &DataType) -> Result<(DataType, DataType)> {
        Ok(match of {
            DataType::Timestamp(unit, None) => (of.clone(), DataType::Timestamp(*unit, Some(self.session()))),
            DataType::Timestamp(unit, Some(_)) => (of.clone(), DataType::Timestamp(*unit, None)),
            DataType::Dictionary(_, values) => return self.types(values),
            // As in PostgreSQL, it is an instant in the session's zone.
            other if is_text(other) || matches!(other, DataType::Date32 | DataType::Date64 | DataType::Null) => {
                let micros = TimeUnit::Microsecond;
                (DataType::Timestamp(micros, Some(self.session())), DataType::Timestamp(micros, None))
            }
            other => return plan_err!("AT TIME ZONE takes a timestamp, not {other}"),
        })
    }
}

impl ScalarUDFImpl for AtTimeZone {
    fn name(&self) -> &str {
        "windlass_at_time_zone"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        Some(Self::new(super::session_zone(config)).into())
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the type depends on the argument's")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let zone = args.scalar_arguments.get(1).copied().flatten().and_then(|zone| zone.try_as_str().flatten());
        let Some(zone) = zone else {
            return plan_err!("AT TIME ZONE takes the name of a zone, as in AT TIME ZONE 'Europe/Berlin'");
        };
        zone.parse::<Zone>()?;
        let (_, to) = self.types(args.arg_fields[0].data_type())?;
        Ok(Arc::new(Field::new(self.name(), to, args.arg_fields[0].is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ColumnarValue::Scalar(zone) = &args.args[1] else {
            return plan_err!("AT TIME ZONE takes the name of a zone, the same for all rows");
        };
        let zone: Arc<str> = zone.try_as_str().flatten().unwrap_or("UTC").into();
        let to = args.return_field.data_type().clone();
        on_array(&args.args[0], |times| {
            let (from, _) = self.types(times.data_type())?;
            let times = match times.data_type() == &from {
                true => Arc::clone(times),
                false => as_instants(times, &from)?,
            };
            let DataType::Timestamp(unit, _) = &from else { return internal_err!("{from} is no timestamp") };
            cast_time(&cast_time(&times, &DataType::Timestamp(*unit, Some(zone)), false)?, &to, false)
        })
    }
}

fn as_instants(times: &arrow::array::ArrayRef, to: &DataType) -> Result<arrow::array::ArrayRef> {
    match times.data_type() {
        DataType::Null => Ok(arrow::array::new_null_array(to, times.len())),
        _ => cast_time(times, to, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, StringArray};
    use arrow::util::display::array_value_to_string;
    use datafusion::common::ScalarValue;

    fn at(time: &str, of: &DataType, zone: &str) -> String {
        let function = AtTimeZone::new(None);
        let text: ArrayRef = Arc::new(StringArray::from(vec![time]));
        let times = cast_time(&text, of, false).unwrap();
        let (_, to) = function.types(of).unwrap();
        let args = ScalarFunctionArgs {
            args: vec![ColumnarValue::Array(times), ColumnarValue::Scalar(ScalarValue::from(zone))],
            arg_fields: vec![],
            number_rows: 1,
            return_field: Arc::new(Field::new("at", to, true)),
            config_options: Arc::default(),
        };
        let at = function.invoke_with_args(args).unwrap().to_array(1).unwrap();
        array_value_to_string(&at, 0).unwrap()
    }

    #[test]
    fn an_instant_becomes_a_local_time_and_a_local_time_an_instant() {
        let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Arc::from));
        assert_eq!(at("2024-07-01 10:00:00Z", &micros(Some("UTC")), "America/New_York"), "2024-07-01T06:00:00");
        assert_eq!(at("2024-07-01 10:00:00", &micros(None), "America/New_York"), "2024-07-01T14:00:00Z");
        assert_eq!(at("9999-12-31 20:00:00Z", &micros(Some("UTC")), "-04:00"), "9999-12-31T16:00:00");
    }
}

//! `nanoseconds`: a time in nanoseconds; a time outside their range becomes the first or the last nanosecond. The result compares with times in nanoseconds
//! as the original does.

use super::unit::per_second;
use arrow::array::types::TimestampNanosecondType;
use arrow::array::{ArrayRef, AsArray, Int64Array, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, TimeUnit};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::{Arc, LazyLock};

static FUNCTION: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::from(Nanoseconds { signature: Signature::any(1, Volatility::Immutable) })));

pub(super) fn function() -> Arc<ScalarUDF> {
    Arc::clone(&FUNCTION)
}

/// A timestamp of any unit in nanoseconds.
pub(super) fn nanoseconds(time: Expr) -> Expr {
    FUNCTION.call(vec![time])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Nanoseconds {
    signature: Signature,
}

fn computed(times: &ArrayRef) -> Result<ArrayRef> {
    let DataType::Timestamp(unit, zone) = times.data_type() else {
        return exec_err!("nanoseconds() takes a timestamp, not {}", times.data_type());
    };
    let each = 1_000_000_000 / per_second(*unit);
    let numbers = cast(times, &DataType::Int64)?;
    let nanos: Int64Array = numbers.as_primitive::<Int64Type>().unary(|number| number.saturating_mul(each));
    let nanos: PrimitiveArray<TimestampNanosecondType> = nanos.reinterpret_cast();
    Ok(Arc::new(nanos.with_timezone_opt(zone.clone())))
}

impl ScalarUDFImpl for Nanoseconds {
    fn name(&self) -> &str {
        "windlass_nanoseconds"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match &types[0] {
            DataType::Timestamp(_, zone) => Ok(DataType::Timestamp(TimeUnit::Nanosecond, zone.clone())),
            other => plan_err!("nanoseconds() takes a timestamp, not {other}"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let time = &args.arg_fields[0];
        let of = self.return_type(&[time.data_type().clone()])?;
        Ok(Arc::new(Field::new(self.name(), of, time.is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(match &args.args[0] {
            ColumnarValue::Array(times) => ColumnarValue::Array(computed(times)?),
            ColumnarValue::Scalar(time) => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&computed(&time.to_array()?)?, 0)?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::TimestampMicrosecondArray;

    #[test]
    fn what_is_out_of_range_is_at_its_end() {
        let times: ArrayRef =
            Arc::new(TimestampMicrosecondArray::from(vec![Some(1), Some(i64::MIN), Some(i64::MAX), None]));
        let nanos = computed(&times).unwrap();
        let nanos: Vec<_> = nanos.as_primitive::<TimestampNanosecondType>().iter().collect();
        assert_eq!(nanos, [Some(1_000), Some(i64::MIN), Some(i64::MAX), None]);
    }
}

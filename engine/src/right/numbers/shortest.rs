//! Casts of floats to decimals with the digits that their type guarantees: 6 for REAL, 15 for double precision, as in PostgreSQL.
//!
//! Arrow multiplies the binary number, so that `0.1::real::numeric` is 0.1000000015 and `1.005::double::numeric(5, 2)` is 1.00.

use super::digits::Digits;
use arrow::array::{ArrayRef, AsArray, Decimal128Array, Decimal256Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type, i256};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use std::sync::{Arc, LazyLock};

/// Digits that a REAL and a double guarantee.
const OF_REAL: usize = 6;
const OF_DOUBLE: usize = 15;

static CAST: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Shortest::function("decimal_of_float", false));
static TRY_CAST: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Shortest::function("try_decimal_of_float", true));

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![Arc::clone(&CAST), Arc::clone(&TRY_CAST)]
}

/// A float as a decimal of type `to`. With `or_null`, a value that does not fit becomes NULL.
pub(super) fn as_decimal(float: Expr, to: &DataType, or_null: bool) -> Result<Expr> {
    let function = if or_null { &TRY_CAST } else { &CAST };
    Ok(function.call(vec![float, lit(ScalarValue::try_from(to)?)]))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Shortest {
    name: &'static str,
    or_null: bool,
    signature: Signature,
}

impl Shortest {
    fn function(name: &'static str, or_null: bool) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(Self { name, or_null, signature: Signature::any(2, Volatility::Immutable) }))
    }

    fn compute(&self, floats: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
        let Some(digits) = Digits::of(to) else { return internal_err!("{to} is no decimal") };
        let written: Vec<Option<(f64, String)>> = match floats.data_type() {
            DataType::Float32 => {
                let floats = floats.as_primitive::<Float32Type>().iter();
                floats.map(|float| float.map(|float| (f64::from(float), format!("{float:.*e}", OF_REAL - 1)))).collect()
            }
            DataType::Float64 => {
                let floats = floats.as_primitive::<Float64Type>().iter();
                floats.map(|float| float.map(|float| (float, format!("{float:.*e}", OF_DOUBLE - 1)))).collect()
            }
            DataType::Float16 => return self.compute(&cast(floats, &DataType::Float32)?, to),
            other => return internal_err!("{} takes floats, not {other}", self.name),
        };
        let values = written.into_iter().map(|written| {
            let Some((float, written)) = written else { return Ok(None) };
            match (scaled(&written, digits), self.or_null) {
                (None, false) => Err(exec_datafusion_err!("Cannot cast to {to}. Overflowing on {float:?}")),
                (value, _) => Ok(value),
            }
        });
        let values = values.collect::<Result<Vec<Option<i256>>>>()?;
        Ok(match to {
            DataType::Decimal256(..) => Arc::new(Decimal256Array::from(values).with_data_type(to.clone())),
            DataType::Decimal128(..) => {
                let values = values.into_iter().map(|value| value.and_then(|value| value.to_i128()));
                Arc::new(values.collect::<Decimal128Array>().with_data_type(to.clone()))
            }
            narrow => {
                let wide = DataType::Decimal128(digits.precision, digits.scale);
                cast(&self.compute(floats, &wide)?, narrow)?
            }
        })
    }
}

/// A number written as 1.2345e6, in units of the last decimal place, rounded half away from zero. `None`: it is no number, or has too many digits.
fn scaled(written: &str, to: Digits) -> Option<i256> {
    let (mantissa, exponent) = written.split_once('e')?;
    let fraction = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let mantissa: i64 = mantissa.replace('.', "").parse().ok()?;
    let shift = exponent.parse::<i32>().ok()? - i32::try_from(fraction).ok()? + i32::from(to.scale);
    if mantissa == 0 {
        return Some(i256::ZERO);
    }
    let value = match u32::try_from(shift) {
        Ok(shift) => i256::from_i128(i128::from(mantissa)).checked_mul(i256::from_i128(10).checked_pow(shift)?)?,
        Err(_) => {
            // The mantissa has fewer than 19 digits.
            let unit = 10_i128.checked_pow(shift.unsigned_abs()).unwrap_or(i128::MAX);
            let (whole, rest) = (i128::from(mantissa) / unit, i128::from(mantissa) % unit);
            let up = rest.unsigned_abs() >= unit.unsigned_abs() - rest.unsigned_abs();
            i256::from_i128(if up { whole + rest.signum() } else { whole })
        }
    };
    let bound = i256::from_i128(10).checked_pow(u32::from(to.precision)).unwrap_or(i256::MAX);
    (value.wrapping_abs() < bound).then_some(value)
}

impl ScalarUDFImpl for Shortest {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[1].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let [float, to] = args.arg_fields else { return internal_err!("{} takes a float and a type", self.name) };
        let nullable = self.or_null || float.is_nullable();
        Ok(Arc::new(Field::new(self.name, to.data_type().clone(), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let to = args.return_type();
        Ok(match &args.args[0] {
            ColumnarValue::Array(floats) => ColumnarValue::Array(self.compute(floats, to)?),
            ColumnarValue::Scalar(float) => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&self.compute(&float.to_array()?, to)?, 0)?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_float_is_the_decimal_of_its_sure_digits() {
        let to = |precision, scale| Digits { precision, scale, wide: false };
        let of = |float: f64, digits| scaled(&format!("{float:.*e}", OF_DOUBLE - 1), digits).map(|of| of.to_string());
        assert_eq!(of(0.1, to(38, 20)).unwrap(), "10000000000000000000");
        assert_eq!(of(1.005, to(5, 2)).unwrap(), "101");
        assert_eq!(of(-2.675, to(5, 2)).unwrap(), "-268");
        assert_eq!(of(9_007_199_254_740_993.0, to(20, 0)).unwrap(), "9007199254740990");
        assert_eq!(of(1e-300, to(5, 2)).unwrap(), "0");
        assert_eq!(of(-0.0, to(5, 2)).unwrap(), "0");
        assert_eq!(of(999.995, to(5, 2)), None);
        assert_eq!(of(1e300, to(38, 0)), None);
        assert_eq!(of(f64::NAN, to(38, 0)), None);
    }
}

//! Rounding of numbers to integers and to narrower types.

use super::digits::{Digits, is_plain_integer};
use super::{as_type, intervals, of, of_text, shortest};
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float32Array, Float64Array, PrimitiveArray};
use arrow::compute::cast as cast_array;
use arrow::datatypes::{
    ArrowPrimitiveType, DECIMAL128_MAX_PRECISION, DataType, Field, FieldRef, Float32Type, Float64Type,
};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue, exec_datafusion_err, internal_err, plan_err};
use datafusion::logical_expr::expr::{BinaryExpr, Cast, ScalarFunction};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, lit,
};
use std::sync::{Arc, LazyLock};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// A float without a fraction, half to even.
    HalfEven,
    /// A 32-bit float from a double; it is infinite only if the double is.
    Real,
    /// -1, 0 or 1; 0 for NaN.
    Sign,
    /// A decimal of the type of the second argument, which is NULL. A plain cast would not do: DataFusion assumes that it loses nothing, and compares its
    /// uncast argument with a literal.
    Decimal,
}

static HALF_EVEN: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Rounding::function("round_half_even", Kind::HalfEven));
static REAL: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Rounding::function("checked_real", Kind::Real));
static SIGN: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Rounding::function("sign", Kind::Sign));
static DECIMAL: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let signature = Signature::any(2, Volatility::Immutable);
    Arc::new(ScalarUDF::from(Rounding { name: "round_decimal", kind: Kind::Decimal, signature }))
});

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    [&HALF_EVEN, &REAL, &SIGN, &DECIMAL].into_iter().map(|function| Arc::clone(function)).collect()
}

/// A cast of `expr` as in PostgreSQL, or `expr` itself if DataFusion's cast is right.
pub(super) fn cast(expr: Expr, to: &DataType, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match (&expr, to) {
        (Expr::Literal(value, _), DataType::Float64) if value.data_type().is_decimal() => {
            return Ok(Transformed::yes(as_type(expr, to, schema)?));
        }
        (_, to) if of_text::is_read(to) && expr.get_type(schema).is_ok_and(|from| from.is_string()) => {
            return Ok(Transformed::yes(of_text::read(expr, to)?));
        }
        (_, DataType::Float32) if expr.get_type(schema).is_ok_and(|from| from == DataType::Float64) => {
            return Ok(Transformed::yes(REAL.call(vec![expr])));
        }
        (_, to) if to.is_decimal() && expr.get_type(schema).is_ok_and(|from| from.is_floating()) => {
            return Ok(Transformed::yes(shortest::as_decimal(expr, to, false)?));
        }
        (_, to) if Digits::of(to).is_some() && to.is_decimal() => {
            let from = expr.get_type(schema).ok();
            if let Some(whole) = from.as_ref().filter(|from| is_plain_integer(from)).and_then(Digits::of)
                && Digits::of(to).is_some_and(|to| to.scale < 0)
            {
                let whole = as_type(expr, &whole.data_type(false), schema)?;
                return Ok(Transformed::yes(as_decimal(whole, to, schema)?));
            }
            let from = from.filter(DataType::is_decimal).as_ref().and_then(Digits::of);
            if from.zip(Digits::of(to)).is_some_and(|(from, to)| to.scale < from.scale) {
                return Ok(Transformed::yes(as_decimal(expr, to, schema)?));
            }
        }
        _ => {}
    }
    let rounded = rounded(expr, to, schema)?;
    let cast = |expr| Expr::Cast(Cast::new(Box::new(expr), to.clone()));
    Ok(match rounded.transformed {
        true => rounded.update_data(cast),
        false => rounded,
    })
}

/// `expr` as a decimal with fewer decimal places.
fn as_decimal(expr: Expr, to: &DataType, schema: &DFSchema) -> Result<Expr> {
    match expr {
        Expr::Literal(..) => as_type(expr, to, schema),
        expr => Ok(DECIMAL.call(vec![expr, lit(ScalarValue::try_from(to)?)])),
    }
}

/// `expr` without a fraction, if it is cast to an integer.
pub(super) fn rounded(expr: Expr, to: &DataType, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if !to.is_integer() || is_half_even(&expr) {
        return Ok(Transformed::no(expr));
    }
    match expr.get_type(schema) {
        Ok(from) if from.is_floating() => Ok(Transformed::yes(HALF_EVEN.call(vec![expr]))),
        Ok(from) if from.is_decimal() => match whole(&from) {
            Some(whole) => Ok(Transformed::yes(as_decimal(expr, &whole, schema)?)),
            None => Ok(Transformed::no(expr)),
        },
        _ => Ok(Transformed::no(expr)),
    }
}

fn is_half_even(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.name() == HALF_EVEN.name())
}

/// The integer type that decimals are rounded to, if they have decimal places.
fn whole(of: &DataType) -> Option<DataType> {
    let digits = Digits::of(of).filter(|digits| digits.scale > 0)?;
    let precision = (digits.whole() + 1).clamp(1, 76) as u8;
    Some(Digits { precision, scale: 0, ..digits }.data_type(digits.wide))
}

/// Rewrites functions whose results differ from PostgreSQL's.
pub(super) fn call(call: ScalarFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let ScalarFunction { func, mut args } = call;
    let again = |func, args| Ok(Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args })));
    match (func.name(), args.as_slice()) {
        ("round" | "ceil" | "floor", [argument]) => {
            let from = argument.get_type(schema)?;
            if from.is_floating() && func.name() == "round" {
                return Ok(Transformed::yes(HALF_EVEN.call(args)));
            }
            let (Some(to), Some(digits)) = (whole(&from), Digits::of(&from)) else { return again(func, args) };
            if func.name() == "round" {
                return Ok(Transformed::yes(as_decimal(args.remove(0), &to, schema)?));
            }
            let precision = digits.precision.saturating_add(1);
            let roomy = Digits { precision, ..digits };
            let roomy = roomy.data_type(digits.wide || precision > DECIMAL128_MAX_PRECISION);
            if let Expr::Cast(Cast { expr, .. }) = argument
                && Digits::of(&expr.get_type(schema)?) == Some(Digits { precision: digits.precision - 1, ..digits })
            {
                return again(func, args);
            }
            let argument = as_type(args.remove(0), &roomy, schema)?;
            let call = Expr::ScalarFunction(ScalarFunction { func, args: vec![argument] });
            Ok(Transformed::yes(Expr::Cast(Cast::new(Box::new(call), to))))
        }
        // The type must not depend on whether the number of places is known at planning.
        ("round", [argument, _]) if is_plain_integer(&argument.get_type(schema)?) => {
            // Rounding up may add a digit.
            let from = argument.get_type(schema)?;
            let Some(digits) = Digits::of(&from) else { return again(func, args) };
            args[0] = as_type(args[0].clone(), &digits.data_type(false), schema)?;
            self::call(ScalarFunction { func, args }, schema)
        }
        ("round", [argument, places]) => {
            let from = argument.get_type(schema)?;
            let Some(digits) = Digits::of(&from).filter(|_| from.is_decimal()) else { return again(func, args) };
            let known = match places {
                Expr::Literal(places, _) => places.cast_to(&DataType::Int64).ok(),
                _ => None,
            };
            let scale = match known {
                Some(ScalarValue::Int64(Some(places))) => places.clamp(0, i64::from(digits.scale.max(0))) as i8,
                _ => digits.scale,
            };
            let precision = (digits.whole() + 1 + i16::from(scale)).clamp(1, 76) as u8;
            let wide = digits.wide || precision > DECIMAL128_MAX_PRECISION;
            let to = Digits { precision, scale, ..digits }.data_type(wide);
            let rounded = Expr::ScalarFunction(ScalarFunction { func, args });
            Ok(Transformed::yes(DECIMAL.call(vec![rounded, lit(ScalarValue::try_from(&to)?)])))
        }
        ("trunc", [argument]) => {
            let from = argument.get_type(schema)?;
            let Some(to) = whole(&from) else { return again(func, args) };
            let call = Expr::ScalarFunction(ScalarFunction { func, args });
            Ok(Transformed::yes(Expr::Cast(Cast::new(Box::new(call), to))))
        }
        ("date_part", [Expr::Literal(part, _), _]) => {
            let part = part.try_as_str().flatten().unwrap_or_default().to_lowercase();
            // In DataFusion a duration has no days; all its hours and minutes are in the hour and minute fields.
            let of_duration = match part.as_str() {
                "hour" | "hours" | "hr" | "hrs" => Some(24_i32),
                "minute" | "minutes" | "min" | "mins" => Some(60),
                _ => None,
            };
            if let (Some(most), Ok(DataType::Duration(_))) = (of_duration, args[1].get_type(schema)) {
                let all = Expr::ScalarFunction(ScalarFunction { func, args });
                let rest = BinaryExpr::new(Box::new(all), Operator::Modulo, Box::new(lit(most)));
                return Ok(Transformed::yes(Expr::BinaryExpr(rest)));
            }
            if part == "epoch" && matches!(args[1].get_type(schema), Ok(DataType::Interval(_))) {
                return Ok(Transformed::yes(intervals::epoch(args.remove(1))));
            }
            let is_interval = matches!(args[1].get_type(schema), Ok(DataType::Interval(_) | DataType::Duration(_)));
            let scale = match part.as_str() {
                "second" | "seconds" | "sec" | "secs" => 6,
                "millisecond" | "milliseconds" | "msec" | "msecs" | "ms" => 3,
                "microsecond" | "microseconds" | "usec" | "usecs" | "us" if is_interval => 0,
                _ => return again(func, args),
            };
            // Seconds include their fraction.
            let micros = match is_interval {
                true => intervals::microseconds(args.remove(1)),
                false => {
                    args[0] = lit("microsecond");
                    Expr::ScalarFunction(ScalarFunction { func, args })
                }
            };
            if scale == 0 {
                return Ok(Transformed::yes(micros));
            }
            let micros = Expr::Cast(Cast::new(Box::new(micros), DataType::Decimal128(10, 0)));
            let unit = lit(ScalarValue::Decimal128(Some(1), scale, scale as i8));
            let parts = BinaryExpr::new(Box::new(micros), Operator::Multiply, Box::new(unit));
            Ok(of(Expr::BinaryExpr(parts), true))
        }
        _ => again(func, args),
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Rounding {
    name: &'static str,
    kind: Kind,
    signature: Signature,
}

impl Rounding {
    fn function(name: &'static str, kind: Kind) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(Self { name, kind, signature: Signature::any(1, Volatility::Immutable) }))
    }

    fn compute(&self, values: &ArrayRef) -> Result<ArrayRef> {
        fn each<T: ArrowPrimitiveType>(values: &ArrayRef, of: impl Fn(T::Native) -> T::Native) -> ArrayRef {
            let rounded: PrimitiveArray<T> = values.as_primitive::<T>().unary(of);
            Arc::new(rounded)
        }
        Ok(match (self.kind, values.data_type()) {
            (Kind::HalfEven, DataType::Float64) => each::<Float64Type>(values, f64::round_ties_even),
            (Kind::HalfEven, DataType::Float32) => each::<Float32Type>(values, f32::round_ties_even),
            (Kind::HalfEven, _) => Arc::clone(values),
            (Kind::Real, DataType::Float64) => {
                let reals: Float32Array = values.as_primitive::<Float64Type>().try_unary(|double| {
                    let real = double as f32;
                    match (real.is_infinite() && !double.is_infinite()) || (real == 0.0 && double != 0.0) {
                        true => Err(exec_datafusion_err!("{double:e} is out of the range of REAL: use DOUBLE")),
                        false => Ok(real),
                    }
                })?;
                Arc::new(reals)
            }
            (Kind::Decimal, _) => return internal_err!("round_decimal takes a type"),
            (Kind::Real, other) => return internal_err!("checked_real takes doubles, not {other}"),
            (Kind::Sign, _) => {
                let doubles = cast_array(values, &DataType::Float64)?;
                let signs: Float64Array = doubles.as_primitive::<Float64Type>().unary(|double| match double {
                    0.0 => 0.0,
                    nan if nan.is_nan() => 0.0,
                    other => other.signum(),
                });
                match values.data_type().is_decimal() {
                    false => Arc::new(signs),
                    true => {
                        let signs: Decimal128Array = signs.unary(|sign| sign as i128);
                        Arc::new(signs.with_data_type(DataType::Decimal128(1, 0)))
                    }
                }
            }
        })
    }
}

impl ScalarUDFImpl for Rounding {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match (self.kind, &types[0]) {
            (Kind::HalfEven, of) => Ok(of.clone()),
            (Kind::Decimal, _) => Ok(types[1].clone()),
            (Kind::Real, _) => Ok(DataType::Float32),
            (Kind::Sign, of) if of.is_decimal() => Ok(DataType::Decimal128(1, 0)),
            (Kind::Sign, of) if of.is_numeric() || of.is_null() => Ok(DataType::Float64),
            (Kind::Sign, of) => plan_err!("sign() takes a number, not {of}"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let from = &args.arg_fields[0];
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let to = self.return_type(&types)?;
        Ok(Arc::new(Field::new(self.name, to, from.is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if self.kind == Kind::Decimal {
            return args.args[0].cast_to(args.return_type(), None);
        }
        Ok(match &args.args[0] {
            ColumnarValue::Array(values) => ColumnarValue::Array(self.compute(values)?),
            ColumnarValue::Scalar(value) => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&self.compute(&value.to_array()?)?, 0)?)
            }
        })
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        Ok(inputs[0].sort_properties)
    }
}

//! Quotients and products of decimals, rounded half away from zero.
//!
//! A quotient has at least 16 significant digits, as in PostgreSQL, as long as 38 digits (76 if an operand has more than 38) suffice. Otherwise the digits
//! before the point take precedence, down to 16 decimal places. Products and sums whose type would have more than 38 digits keep at least 16 of their decimal
//! places. A result with more digits than its type is an error.

use super::digits::Digits;
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Datum, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Decimal128Type, Decimal256Type, Field, FieldRef, i256,
};
use arrow::error::ArrowError;
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;
use std::sync::{Arc, LazyLock};

/// Decimal places that a result with too many digits keeps; also the significant digits of a quotient.
const KEPT: i16 = 16;

static DIVIDE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Rounded::function("decimal_divide", Operator::Divide));
static MULTIPLY: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Rounded::function("decimal_multiply", Operator::Multiply));

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![Arc::clone(&DIVIDE), Arc::clone(&MULTIPLY)]
}

pub(super) fn divide(left: Expr, right: Expr) -> Expr {
    DIVIDE.call(vec![left, right])
}

pub(super) fn multiply(left: Expr, right: Expr) -> Expr {
    MULTIPLY.call(vec![left, right])
}

/// Whether operands are stored in 256 bits.
pub(super) fn widths(a: Digits, b: Digits) -> bool {
    a.wide || b.wide
}

fn most(a: Digits, b: Digits) -> i16 {
    i16::from(if widths(a, b) { DECIMAL256_MAX_PRECISION } else { DECIMAL128_MAX_PRECISION })
}

/// A type with `whole` digits before the point and `scale` after it, cut to the digits that fit.
fn fitted(whole: i16, scale: i16, least: i16, a: Digits, b: Digits) -> Digits {
    let most = most(a, b);
    let scale = scale.min(most - whole).max(least).clamp(0, most);
    let precision = (whole.max(0) + scale).clamp(1, most);
    Digits { precision: precision as u8, scale: scale as i8, wide: widths(a, b) }
}

/// The digits of a quotient.
pub(super) fn quotient(a: Digits, b: Digits) -> Digits {
    let whole = a.whole() + i16::from(b.scale);
    let least = KEPT.max(i16::from(a.scale)).max(i16::from(b.scale));
    // The smallest non-zero dividend divided by the largest divisor.
    let wanted = KEPT + i16::from(a.scale) + (b.whole() - 1).max(0);
    fitted(whole, wanted, least, a, b)
}

/// The digits of a product, if they differ from DataFusion's.
pub(super) fn product(a: Digits, b: Digits) -> Option<Digits> {
    let (whole, scale) = (a.whole() + b.whole() + 1, i16::from(a.scale) + i16::from(b.scale));
    // Decimal places that exceed 38 digits by themselves get 76.
    let wider = Digits { wide: a.wide || scale > i16::from(DECIMAL128_MAX_PRECISION), ..a };
    let is_other = whole + scale > most(a, b) && scale > KEPT;
    is_other.then(|| fitted(whole, scale, KEPT, wider, b))
}

/// The digits of a sum or difference, if they differ from DataFusion's.
pub(super) fn sum(a: Digits, b: Digits) -> Option<Digits> {
    let (whole, scale) = (a.whole().max(b.whole()) + 1, i16::from(a.scale).max(i16::from(b.scale)));
    (whole + scale > most(a, b) && scale > KEPT).then(|| fitted(whole, scale, KEPT, a, b))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Rounded {
    name: &'static str,
    op: Operator,
    signature: Signature,
}

impl Rounded {
    fn function(name: &'static str, op: Operator) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(Self { name, op, signature: Signature::any(2, Volatility::Immutable) }))
    }

    fn result(&self, left: &DataType, right: &DataType) -> Result<Digits> {
        let (Some(a), Some(b)) = (Digits::of(left), Digits::of(right)) else {
            return internal_err!("{} takes decimals, not {left} and {right}", self.name);
        };
        match self.op {
            Operator::Divide => Ok(quotient(a, b)),
            _ => match product(a, b) {
                Some(product) => Ok(product),
                None => internal_err!("{} is of no use for {left} and {right}", self.name),
            },
        }
    }

    fn compute(&self, left: &dyn Datum, right: &dyn Datum) -> std::result::Result<ArrayRef, ArrowError> {
        let ((left, one_left), (right, one_right)) = (left.get(), right.get());
        let result = self
            .result(left.data_type(), right.data_type())
            .map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
        let scales = [left, right].map(|side| Digits::of(side.data_type()).map_or(0, |digits| digits.scale));
        let [s1, s2] = scales.map(i16::from);
        let scale = i16::from(result.scale);
        // Zeros appended to the dividend, or digits that a product loses.
        let shift = match self.op {
            Operator::Divide => scale - s1 + s2,
            _ => s1 + s2 - scale,
        };
        let shift = u32::try_from(shift).unwrap_or(0);
        let step = Step { op: self.op, shift, result };
        if !result.wide && shift <= u32::from(DECIMAL128_MAX_PRECISION) {
            let power = 10_i128.pow(shift);
            let (left, right) = (left.as_primitive::<Decimal128Type>(), right.as_primitive::<Decimal128Type>());
            let computed = each::<Decimal128Type, Decimal128Type>(left, one_left, right, one_right, |l, r| {
                step.narrow(l, r, power)
            })?;
            return Ok(Arc::new(computed.with_data_type(result.data_type(false))));
        }
        let wide =
            |side: &dyn Array, scale: i16| cast(side, &DataType::Decimal256(DECIMAL256_MAX_PRECISION, scale as i8));
        let (left, right) = (wide(left, s1)?, wide(right, s2)?);
        let (left, right) = (left.as_primitive::<Decimal256Type>(), right.as_primitive::<Decimal256Type>());
        if result.wide {
            let computed =
                each::<Decimal256Type, Decimal256Type>(left, one_left, right, one_right, |l, r| step.wide(l, r))?;
            return Ok(Arc::new(computed.with_data_type(result.data_type(true))));
        }
        let computed = each::<Decimal256Type, Decimal128Type>(left, one_left, right, one_right, |l, r| {
            step.wide(l, r)?.to_i128().ok_or_else(|| step.overflow())
        })?;
        Ok(Arc::new(computed.with_data_type(result.data_type(false))))
    }
}

/// The computation of one result.
#[derive(Clone, Copy)]
struct Step {
    op: Operator,
    shift: u32,
    result: Digits,
}

impl Step {
    fn narrow(self, l: i128, r: i128, power: i128) -> std::result::Result<i128, ArrowError> {
        let fraction = match self.op {
            Operator::Divide if r == 0 => return Err(ArrowError::DivideByZero),
            Operator::Divide => l.checked_mul(power).map(|dividend| (dividend, r)),
            _ => l.checked_mul(r).map(|product| (product, power)),
        };
        let Some((dividend, divisor)) = fraction else {
            let wide = self.wide(i256::from_i128(l), i256::from_i128(r))?;
            return wide.to_i128().ok_or_else(|| self.overflow());
        };
        let (quotient, rest) = (dividend / divisor, dividend % divisor);
        let up = rest.unsigned_abs() >= divisor.unsigned_abs() - rest.unsigned_abs();
        let rounded = if up { quotient + if (dividend < 0) == (divisor < 0) { 1 } else { -1 } } else { quotient };
        match rounded.unsigned_abs() < 10_u128.pow(u32::from(self.result.precision)) {
            true => Ok(rounded),
            false => Err(self.overflow()),
        }
    }

    fn wide(self, l: i256, r: i256) -> std::result::Result<i256, ArrowError> {
        let ten = i256::from_i128(10);
        let power = ten.checked_pow(self.shift);
        let (dividend, divisor) = match self.op {
            Operator::Divide if r == i256::ZERO => return Err(ArrowError::DivideByZero),
            Operator::Divide if l == i256::ZERO => return Ok(i256::ZERO),
            Operator::Divide => (power.and_then(|power| l.checked_mul(power)), Some(r)),
            _ => (l.checked_mul(r), power),
        };
        let (Some(dividend), Some(divisor)) = (dividend, divisor) else { return Err(self.overflow()) };
        let (quotient, rest) = (dividend.wrapping_div(divisor), dividend.wrapping_rem(divisor));
        let (rest, half) = (rest.wrapping_abs(), divisor.wrapping_abs());
        let up = rest >= half.wrapping_sub(rest);
        let away = if (dividend < i256::ZERO) == (divisor < i256::ZERO) { i256::ONE } else { i256::MINUS_ONE };
        let rounded = if up { quotient.wrapping_add(away) } else { quotient };
        let bound = ten.checked_pow(u32::from(self.result.precision)).unwrap_or(i256::MAX);
        match rounded.wrapping_abs() < bound {
            true => Ok(rounded),
            false => Err(self.overflow()),
        }
    }

    fn overflow(self) -> ArrowError {
        ArrowError::ArithmeticOverflow(format!(
            "a result of {} has more digits than its type DECIMAL({}, {}). Cast an operand to fewer decimal places or to DOUBLE",
            self.op, self.result.precision, self.result.scale
        ))
    }
}

/// Applies `compute` to each row in which neither side is NULL.
fn each<T: ArrowPrimitiveType, R: ArrowPrimitiveType>(
    left: &PrimitiveArray<T>,
    one_left: bool,
    right: &PrimitiveArray<T>,
    one_right: bool,
    compute: impl Fn(T::Native, T::Native) -> std::result::Result<R::Native, ArrowError>,
) -> std::result::Result<PrimitiveArray<R>, ArrowError> {
    match (one_left, one_right) {
        (true, true) | (false, false) => arrow::compute::try_binary(left, right, compute),
        (true, false) => match left.is_null(0) {
            true => Ok(PrimitiveArray::new_null(right.len())),
            false => right.try_unary(|r| compute(left.value(0), r)),
        },
        (false, true) => match right.is_null(0) {
            true => Ok(PrimitiveArray::new_null(left.len())),
            false => left.try_unary(|l| compute(l, right.value(0))),
        },
    }
}

impl ScalarUDFImpl for Rounded {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        Ok(format!("{} {} {}", args[0], self.op, args[1]))
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(format!("{} {} {}", args[0].schema_name(), self.op, args[1].schema_name()))
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [left, right] = types else { return internal_err!("{} takes two decimals", self.name) };
        let result = self.result(left, right)?;
        Ok(result.data_type(result.wide))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name, self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = args.args.as_slice() else { return internal_err!("{} takes two decimals", self.name) };
        apply(left, right, |left, right| self.compute(left, right))
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        let singleton = inputs.iter().all(|input| input.sort_properties == SortProperties::Singleton);
        Ok(if singleton { SortProperties::Singleton } else { SortProperties::Unordered })
    }
}

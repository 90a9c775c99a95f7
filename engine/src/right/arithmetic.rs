//! Arithmetic that does not wrap.
//!
//! DataFusion wraps when it adds, subtracts, multiplies and negates integers: `9223372036854775807 + 1` is the smallest BIGINT. It computes decimals in 128
//! or 256 bits and checks these, not the 38 or 76 digits of the type: a product may have 39 digits, which other engines and clients refuse to read.
//! DataFusion's own checked expressions are lost when plans are encoded.
//!
//! Here such operators become functions that fail when the result does not fit its type. Operators whose result always fits stay unchanged, such as those of
//! floats, and of decimals with few digits.

use crate::expressions::{KnownTypes, rewrite_expressions};
use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, AsArray, Datum};
use arrow::compute::kernels::numeric;
use arrow::datatypes::{
    ArrowNativeType, ArrowPrimitiveType, DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Decimal32Type,
    Decimal64Type, Decimal128Type, Decimal256Type, DecimalType, Field, FieldRef, Int8Type, Int16Type, Int32Type,
    Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, internal_err, plan_datafusion_err};
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::interval_arithmetic::{Interval, apply_operator};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_expr_common::datum::apply;
use std::fmt::{self, Write as _};
use std::sync::{Arc, LazyLock};

/// Replaces operators that wrap in DataFusion by functions that fail.
#[derive(Debug)]
pub(super) struct CheckedArithmetic;

impl AnalyzerRule for CheckedArithmetic {
    fn name(&self) -> &str {
        "checked_arithmetic"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let is_operator = |expr: &Expr| match expr {
            Expr::BinaryExpr(binary) => function(binary.op).is_some(),
            expr => matches!(expr, Expr::Negative(_)),
        };
        rewrite_expressions(plan, &|expr| expr.exists(|part| Ok(is_operator(part))), &|expr, schema| {
            let mut types = KnownTypes::new(schema);
            expr.transform_up(|expr| checked(&mut types, expr))
        })
    }
}

fn checked(types: &mut KnownTypes, expr: Expr) -> Result<Transformed<Expr>> {
    let mut type_of = types.of_parts(&expr)?;
    let (checked, known) = match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if function(op).is_some() => {
            let (l, r) = (type_of(&left), type_of(&right));
            let result = BinaryTypeCoercer::new(&l, &op, &r).get_result_type().ok();
            let expr = match function(op).filter(|_| may_leave(op, &l, &r)) {
                Some(function) if l.is_integer() => Transformed::yes(chained(function, *left, *right)),
                Some(function) => Transformed::yes(function.call(vec![*left, *right])),
                None => Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
            };
            (expr, result)
        }
        Expr::Negative(of) => {
            let known = type_of(&of);
            let expr = match known.is_integer() {
                true => Transformed::yes(NEGATE.call(vec![*of])),
                false => Transformed::no(Expr::Negative(of)),
            };
            (expr, Some(known))
        }
        expr => (Transformed::no(expr), None),
    };
    types.push(known);
    Ok(checked)
}

/// Makes a long sum one call, so that a plan is not nested as deeply as the sum is long.
fn chained(function: &Arc<ScalarUDF>, left: Expr, right: Expr) -> Expr {
    match left {
        Expr::ScalarFunction(mut call) if call.func.name() == function.name() => {
            call.args.push(right);
            Expr::ScalarFunction(call)
        }
        left => function.call(vec![left, right]),
    }
}

/// Whether a result may not fit its type.
fn may_leave(op: Operator, left: &DataType, right: &DataType) -> bool {
    if left.is_integer() && left == right {
        return matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply);
    }
    let (Some((p1, s1, most)), Some((p2, s2, _))) = (digits(left), digits(right)) else { return false };
    let (p1, s1, p2, s2, most) = (i16::from(p1), i16::from(s1), i16::from(p2), i16::from(s2), i16::from(most));
    let needed = match op {
        Operator::Plus | Operator::Minus => s1.max(s2) + (p1 - s1).max(p2 - s2) + 1,
        Operator::Multiply => p1 + p2 + 1,
        // The scale grows by four.
        Operator::Divide => p1 + s2 + 4,
        _ => 0,
    };
    needed > most
}

/// The precision and scale of a decimal type, and the maximum precision of such types.
fn digits(of: &DataType) -> Option<(u8, i8, u8)> {
    match of {
        DataType::Decimal32(p, s) => Some((*p, *s, Decimal32Type::MAX_PRECISION)),
        DataType::Decimal64(p, s) => Some((*p, *s, Decimal64Type::MAX_PRECISION)),
        DataType::Decimal128(p, s) => Some((*p, *s, DECIMAL128_MAX_PRECISION)),
        DataType::Decimal256(p, s) => Some((*p, *s, DECIMAL256_MAX_PRECISION)),
        _ => None,
    }
}

static ADD: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Checked::function("checked_add", Operator::Plus));
static SUBTRACT: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Checked::function("checked_subtract", Operator::Minus));
static MULTIPLY: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Checked::function("checked_multiply", Operator::Multiply));
static DIVIDE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Checked::function("checked_divide", Operator::Divide));
static NEGATE: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::from(Negate { signature: Signature::any(1, Volatility::Immutable) })));

/// The functions that plans call.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    [&ADD, &SUBTRACT, &MULTIPLY, &DIVIDE, &NEGATE].into_iter().map(|function| Arc::clone(function)).collect()
}

fn function(op: Operator) -> Option<&'static Arc<ScalarUDF>> {
    match op {
        Operator::Plus => Some(&ADD),
        Operator::Minus => Some(&SUBTRACT),
        Operator::Multiply => Some(&MULTIPLY),
        Operator::Divide => Some(&DIVIDE),
        _ => None,
    }
}

/// An operator over two decimals, or over two or more integers of one type from left to right.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    name: &'static str,
    op: Operator,
    signature: Signature,
}

impl Checked {
    fn function(name: &'static str, op: Operator) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(Self { name, op, signature: Signature::variadic_any(Volatility::Immutable) }))
    }

    /// Writes the expression in its original form. Nested operators are written into one text: a separate text for each would make the names of expressions
    /// take time that grows with the square of the depth.
    fn write(
        &self,
        args: &[Expr],
        out: &mut String,
        operand: &dyn Fn(&Expr, &mut String) -> fmt::Result,
    ) -> fmt::Result {
        for (number, arg) in args.iter().enumerate() {
            if number > 0 {
                write!(out, " {} ", self.op)?;
            }
            match arg {
                Expr::ScalarFunction(call) => match call.func.inner().downcast_ref::<Checked>() {
                    Some(checked) => checked.write(&call.args, out, operand)?,
                    None => operand(arg, out)?,
                },
                _ => operand(arg, out)?,
            }
        }
        Ok(())
    }

    fn compute(&self, left: &dyn Datum, right: &dyn Datum) -> std::result::Result<ArrayRef, ArrowError> {
        let computed = match self.op {
            Operator::Plus => numeric::add_wrapping(left, right),
            Operator::Minus => numeric::sub_wrapping(left, right),
            Operator::Multiply => numeric::mul_wrapping(left, right),
            _ => numeric::div(left, right),
        };
        let computed = computed.map_err(|error| self.explained(error, left, right))?;
        if computed.data_type().is_integer() && wrapped(self.op, left, right, &computed) {
            // A value that seems to have wrapped may belong to a row that is NULL.
            let checked = match self.op {
                Operator::Plus => numeric::add(left, right),
                Operator::Minus => numeric::sub(left, right),
                _ => numeric::mul(left, right),
            };
            return checked.map_err(|error| self.explained(error, left, right));
        }
        within_digits(&computed, self.op)?;
        Ok(computed)
    }

    fn explained(&self, error: ArrowError, left: &dyn Datum, right: &dyn Datum) -> ArrowError {
        let ArrowError::ArithmeticOverflow(why) = error else { return error };
        let (left, right) = (left.get().0.data_type(), right.get().0.data_type());
        ArrowError::ArithmeticOverflow(format!(
            "the result of {left} {} {right} is not of its type: {why}. Cast an operand to a wider type",
            self.op
        ))
    }
}

/// Whether a computed integer may have wrapped. One pass without branches: checking each value by itself takes several times as long.
fn wrapped(op: Operator, left: &dyn Datum, right: &dyn Datum, computed: &ArrayRef) -> bool {
    fn of<T>(op: Operator, left: &dyn Datum, right: &dyn Datum, computed: &ArrayRef) -> bool
    where
        T: ArrowPrimitiveType<Native: ArrowNativeTypeOp + Into<i128>>,
    {
        let zero = T::Native::ZERO;
        match op {
            Operator::Plus => any::<T>(left, right, computed, |l, r, sum| (sum < l) != (r < zero)),
            Operator::Minus => any::<T>(left, right, computed, |l, r, rest| (rest > l) != (r < zero)),
            // The product of two 64-bit numbers has 128 bits.
            _ => any::<T>(left, right, computed, |l, r, product| l.into().wrapping_mul(r.into()) != product.into()),
        }
    }
    match computed.data_type() {
        DataType::Int8 => of::<Int8Type>(op, left, right, computed),
        DataType::Int16 => of::<Int16Type>(op, left, right, computed),
        DataType::Int32 => of::<Int32Type>(op, left, right, computed),
        DataType::Int64 => of::<Int64Type>(op, left, right, computed),
        DataType::UInt8 => of::<UInt8Type>(op, left, right, computed),
        DataType::UInt16 => of::<UInt16Type>(op, left, right, computed),
        DataType::UInt32 => of::<UInt32Type>(op, left, right, computed),
        DataType::UInt64 => of::<UInt64Type>(op, left, right, computed),
        _ => true,
    }
}

/// Whether `is` is true for any row of operands and result.
fn any<T: ArrowPrimitiveType>(
    left: &dyn Datum,
    right: &dyn Datum,
    computed: &ArrayRef,
    is: impl Fn(T::Native, T::Native, T::Native) -> bool,
) -> bool {
    let ((left, one_left), (right, one_right)) = (left.get(), right.get());
    let (left, right) = (left.as_primitive::<T>().values(), right.as_primitive::<T>().values());
    let computed = computed.as_primitive::<T>().values().iter().copied();
    match (one_left, one_right) {
        (true, _) => {
            left.first().is_some_and(|&l| right.iter().zip(computed).fold(false, |any, (&r, c)| any | is(l, r, c)))
        }
        (false, true) => {
            right.first().is_some_and(|&r| left.iter().zip(computed).fold(false, |any, (&l, c)| any | is(l, r, c)))
        }
        (false, false) => {
            left.iter().zip(right.iter()).zip(computed).fold(false, |any, ((&l, &r), c)| any | is(l, r, c))
        }
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        let mut name = String::new();
        self.write(args, &mut name, &|operand, out| write!(out, "{operand}"))?;
        Ok(name)
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let mut name = String::new();
        self.write(args, &mut name, &|operand, out| write!(out, "{}", operand.schema_name()))?;
        Ok(name)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [of, ..] if of.is_integer() => Ok(of.clone()),
            [left, right] => BinaryTypeCoercer::new(left, &self.op, right).get_result_type(),
            _ => internal_err!("{} takes integers or two decimals", self.name),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name, self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut args = args.args.into_iter();
        let Some(mut result) = args.next() else { return internal_err!("{} takes numbers", self.name) };
        for right in args {
            result = apply(&result, &right, |left, right| self.compute(left, right))?;
        }
        Ok(result)
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        let Some((first, rest)) = input.split_first() else { return internal_err!("{} takes numbers", self.name) };
        rest.iter().try_fold((*first).clone(), |left, right| apply_operator(&self.op, &left, right))
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        let orders = inputs.iter().map(|input| input.sort_properties);
        let operator = |left: SortProperties, right: SortProperties| match self.op {
            Operator::Plus => left.add(&right),
            Operator::Minus => left.sub(&right),
            _ if left == SortProperties::Singleton && right == SortProperties::Singleton => SortProperties::Singleton,
            _ => SortProperties::Unordered,
        };
        Ok(orders.reduce(operator).unwrap_or(SortProperties::Unordered))
    }
}

/// Refuses decimals with more digits than their type has.
fn within_digits(values: &ArrayRef, op: Operator) -> std::result::Result<(), ArrowError> {
    fn check<T>(values: &ArrayRef, precision: u8, op: Operator) -> std::result::Result<(), ArrowError>
    where
        T: DecimalType<Native: ArrowNativeTypeOp>,
    {
        let values = values.as_primitive::<T>();
        let most = T::Native::usize_as(10).pow_checked(u32::from(precision))?.sub_checked(T::Native::ONE)?;
        let least = most.neg_checked()?;
        let outside = |value: T::Native| (value > most) | (value < least);
        if !values.values().iter().fold(false, |any, value| any | outside(*value)) {
            return Ok(());
        }
        // The value may belong to a row that is NULL.
        match values.iter().flatten().any(outside) {
            true => Err(ArrowError::ArithmeticOverflow(format!(
                "a result of {op} has more than the {precision} digits of its type {}. Cast an operand to fewer decimal places",
                values.data_type()
            ))),
            false => Ok(()),
        }
    }
    match values.data_type() {
        DataType::Decimal32(precision, _) => check::<Decimal32Type>(values, *precision, op),
        DataType::Decimal64(precision, _) => check::<Decimal64Type>(values, *precision, op),
        DataType::Decimal128(precision, _) => check::<Decimal128Type>(values, *precision, op),
        DataType::Decimal256(precision, _) => check::<Decimal256Type>(values, *precision, op),
        _ => Ok(()),
    }
}

/// The minus before an integer.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Negate {
    signature: Signature,
}

impl ScalarUDFImpl for Negate {
    fn name(&self) -> &str {
        "checked_negate"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        Ok(Expr::Negative(Box::new(args[0].clone())).to_string())
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(Expr::Negative(Box::new(args[0].clone())).schema_name().to_string())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let of = &args.arg_fields[0];
        Ok(Arc::new(Field::new(self.name(), of.data_type().clone(), of.is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let value = &args.args[0];
        let negated = negated(&value.to_array(1)?)?;
        match value {
            ColumnarValue::Array(_) => Ok(ColumnarValue::Array(negated)),
            ColumnarValue::Scalar(_) => {
                Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&negated, 0)?))
            }
        }
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        Ok(-inputs[0].sort_properties)
    }
}

fn negated(values: &ArrayRef) -> Result<ArrayRef> {
    fn of<T: ArrowPrimitiveType>(values: &ArrayRef, negate: impl Fn(T::Native) -> Option<T::Native>) -> Result<ArrayRef>
    where
        T::Native: std::fmt::Display,
    {
        let values = values.as_primitive::<T>();
        let negated = values.try_unary::<_, T, _>(|value| {
            negate(value).ok_or_else(|| {
                plan_datafusion_err!("-({value}) is not of its type {}: cast it to a wider one", values.data_type())
            })
        })?;
        Ok(Arc::new(negated))
    }
    match values.data_type() {
        DataType::Int8 => of::<Int8Type>(values, i8::checked_neg),
        DataType::Int16 => of::<Int16Type>(values, i16::checked_neg),
        DataType::Int32 => of::<Int32Type>(values, i32::checked_neg),
        DataType::Int64 => of::<Int64Type>(values, i64::checked_neg),
        DataType::UInt8 => of::<UInt8Type>(values, u8::checked_neg),
        DataType::UInt16 => of::<UInt16Type>(values, u16::checked_neg),
        DataType::UInt32 => of::<UInt32Type>(values, u32::checked_neg),
        DataType::UInt64 => of::<UInt64Type>(values, u64::checked_neg),
        other => internal_err!("checked_negate takes integers, not {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int8Array, Int64Array, PrimitiveArray, Scalar, UInt8Array};

    fn computed(op: Operator, left: &dyn Datum, right: &dyn Datum) -> std::result::Result<ArrayRef, ArrowError> {
        Checked { name: "", op, signature: Signature::any(2, Volatility::Immutable) }.compute(left, right)
    }

    /// Every pair of bytes, compared with numbers that are wide enough.
    fn bytes<T>(least: i128, most: i128)
    where
        T: ArrowPrimitiveType<Native: TryFrom<i128, Error: std::fmt::Debug> + Into<i128>>,
    {
        for op in [Operator::Plus, Operator::Minus, Operator::Multiply] {
            for l in least..=most {
                for r in least..=most {
                    let exact = match op {
                        Operator::Plus => l + r,
                        Operator::Minus => l - r,
                        _ => l * r,
                    };
                    let expected = (least..=most).contains(&exact).then_some(exact);
                    let of = |x: i128| PrimitiveArray::<T>::from_value(x.try_into().unwrap(), 1);
                    let (left, right) = (of(l), of(r));
                    for result in [
                        computed(op, &left, &right),
                        computed(op, &Scalar::new(&left), &right),
                        computed(op, &left, &Scalar::new(&right)),
                    ] {
                        let result = result.ok().map(|result| result.as_primitive::<T>().value(0).into());
                        assert_eq!(result, expected, "{l} {op} {r}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_pair_of_bytes_is_computed_or_refused() {
        bytes::<Int8Type>(-128, 127);
        bytes::<UInt8Type>(0, 255);
    }

    #[test]
    fn rows_that_are_null_do_not_overflow() {
        let left = Int64Array::new(vec![i64::MAX, 1].into(), Some(vec![false, true].into()));
        let sum = computed(Operator::Plus, &left, &Int64Array::from(vec![1, 2])).unwrap();
        assert_eq!(sum.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [None, Some(3)]);
        let product =
            computed(Operator::Multiply, &Scalar::new(Int8Array::from(vec![None])), &Int8Array::from(vec![100, 3]));
        assert_eq!(product.unwrap().null_count(), 2);
        assert!(computed(Operator::Minus, &UInt8Array::from(vec![1]), &UInt8Array::from(vec![2])).is_err());
    }
}

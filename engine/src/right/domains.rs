//! Functions of numbers that have no value for some of them.
//!
//! DataFusion returns NaN or infinity for `ln(0)`, `ln(-1)`, `asin(2)` and `power(-8, 0.333)`, and an error for `sqrt(-1)`. Here all of them are errors, as
//! in PostgreSQL. Arguments NaN and infinity keep their results.

use arrow::array::{AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, exec_err};
use datafusion::functions::math;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use std::sync::Arc;

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let of_some = [
        math::ln(),
        math::log(),
        math::log2(),
        math::log10(),
        math::asin(),
        math::acos(),
        math::acosh(),
        math::atanh(),
        math::power(),
    ];
    of_some.into_iter().map(|function| Arc::new(ScalarUDF::new_from_impl(OfSome(function)))).collect()
}

/// A function that is defined for some numbers only.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OfSome(Arc<ScalarUDF>);

impl OfSome {
    fn inner(&self) -> &dyn ScalarUDFImpl {
        self.0.inner().as_ref()
    }

    /// Checks the arguments.
    ///
    /// # Errors
    /// An argument for which the function has no value.
    fn check(&self, args: &[Float64Array]) -> Result<()> {
        let name = self.name();
        let any = |numbers: &Float64Array, is: &dyn Fn(f64) -> bool| numbers.iter().flatten().any(is);
        match (name, args) {
            ("ln" | "log" | "log2" | "log10", args) => {
                for numbers in args {
                    if any(numbers, &|of| of == 0.0) {
                        return exec_err!("cannot take logarithm of zero");
                    }
                    if any(numbers, &|of| of < 0.0) {
                        return exec_err!("cannot take logarithm of a negative number");
                    }
                }
            }
            ("asin" | "acos" | "atanh", [numbers]) if any(numbers, &|of| of.abs() > 1.0) => {
                return exec_err!("input is out of range: {name}() takes numbers from -1 to 1");
            }
            ("acosh", [numbers]) if any(numbers, &|of| of < 1.0) => {
                return exec_err!("input is out of range: acosh() takes numbers from 1 on");
            }
            ("power", [bases, exponents]) => {
                let is_complex = |(base, exponent): (Option<f64>, Option<f64>)| {
                    base.zip(exponent)
                        .is_some_and(|(base, exponent)| base < 0.0 && exponent.is_finite() && exponent.fract() != 0.0)
                };
                if bases.iter().zip(exponents).any(is_complex) {
                    return exec_err!("a negative number raised to a non-integer power yields a complex result");
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl ScalarUDFImpl for OfSome {
    fn name(&self) -> &str {
        self.inner().name()
    }

    fn aliases(&self) -> &[String] {
        self.inner().aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner().signature()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner().coerce_types(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner().return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner().return_field_from_args(args)
    }

    fn is_strict(&self) -> bool {
        self.inner().is_strict()
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner().simplify(args, info)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner().output_ordering(inputs)
    }

    fn evaluate_bounds(&self, inputs: &[&Interval]) -> Result<Interval> {
        self.inner().evaluate_bounds(inputs)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner().documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let numbers = args.args.iter().map(|arg| {
            let numbers = cast(&arg.to_array(args.number_rows)?, &DataType::Float64)?;
            Ok(numbers.as_primitive::<arrow::datatypes::Float64Type>().clone())
        });
        self.check(&numbers.collect::<Result<Vec<_>>>()?)?;
        self.inner().invoke_with_args(args)
    }
}

//! Constants that are much larger than their expression, such as `range(0, 300000000)` and `repeat('x', 1000000000)`.
//!
//! DataFusion computes constants while it plans. What a few letters of a statement can make large is computed by a task instead, in the
//! memory that tasks have: on a thread that plans, these functions refuse what would be larger than [`LIMIT`], whereupon the optimizer
//! leaves the expression as it is.

use crate::interrupt;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{ExprSchema, Result, ScalarValue, resources_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ExpressionPlacement, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, StructFieldMapping,
};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use std::sync::Arc;

/// Bytes of a constant that is computed where statements are planned.
const LIMIT: u64 = 1 << 20;

/// Puts [`Bounded`] functions into the place of those that can make much of little.
#[derive(Debug)]
pub(crate) struct BoundConstants;

impl OptimizerRule for BoundConstants {
    fn name(&self) -> &str {
        "bound_constants"
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        plan.transform_down_with_subqueries(|node| node.map_expressions(bound))
    }
}

/// The expression with bounded functions.
pub fn bound(expr: Expr) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| match expr {
        Expr::ScalarFunction(ScalarFunction { func, args })
            if expands(&func).is_some() && !func.inner().is::<Bounded>() =>
        {
            let func = Arc::new(ScalarUDF::new_from_impl(Bounded(func)));
            Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args })))
        }
        expr => Ok(Transformed::no(expr)),
    })
}

/// How the size of a function's value follows from its arguments.
#[derive(Clone, Copy)]
enum Expands {
    /// Numbers or times from one to another.
    Series,
    /// As many copies as the second argument says.
    Copies,
    /// As many letters or elements as this argument says.
    Length(usize),
    /// A text in each place of another.
    Replaces,
}

fn expands(function: &ScalarUDF) -> Option<Expands> {
    match function.name() {
        "range" | "generate_series" | "sequence" => Some(Expands::Series),
        "repeat" | "array_repeat" => Some(Expands::Copies),
        "lpad" | "rpad" | "array_resize" => Some(Expands::Length(1)),
        "space" => Some(Expands::Length(0)),
        "replace" | "regexp_replace" => Some(Expands::Replaces),
        _ => None,
    }
}

impl Expands {
    /// Bytes of the value, about.
    fn bytes(self, args: &[ColumnarValue]) -> u64 {
        let size = |index: usize| args.get(index).map_or(0, size_of);
        let number = |index: usize| args.get(index).map_or(0, whole);
        match self {
            Expands::Series => steps(args).saturating_mul(8),
            Expands::Copies => size(0).saturating_mul(number(1).max(1)),
            Expands::Length(index) => number(index).saturating_add(size(0)).saturating_mul(4),
            Expands::Replaces => size(0).saturating_mul(size(args.len().min(3).saturating_sub(1)).max(1)),
        }
    }
}

fn size_of(value: &ColumnarValue) -> u64 {
    match value {
        ColumnarValue::Scalar(scalar) => scalar.size() as u64,
        ColumnarValue::Array(array) => array.get_array_memory_size() as u64,
    }
}

/// 0 for what is not a number.
fn whole(value: &ColumnarValue) -> u64 {
    number(value).map_or(0, |number| number.max(0) as u64)
}

fn number(value: &ColumnarValue) -> Option<i64> {
    let scalar = match value {
        ColumnarValue::Scalar(scalar) => scalar.clone(),
        ColumnarValue::Array(array) if array.len() == 1 => ScalarValue::try_from_array(array, 0).ok()?,
        ColumnarValue::Array(_) => return None,
    };
    match scalar.cast_to(&DataType::Int64).ok()? {
        ScalarValue::Int64(number) => number,
        _ => None,
    }
}

/// Elements of a series; those of times go by days and months, and are taken for many.
fn steps(args: &[ColumnarValue]) -> u64 {
    let numbers: Option<Vec<i64>> = args.iter().map(number).collect();
    match numbers.as_deref() {
        Some([end]) => end.unsigned_abs(),
        Some([start, end]) => end.abs_diff(*start),
        Some([start, end, step]) => end.abs_diff(*start) / step.unsigned_abs().max(1),
        _ => u64::MAX,
    }
}

/// A function that computes no large value on a thread that plans.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded(Arc<ScalarUDF>);

impl Bounded {
    fn inner(&self) -> &dyn ScalarUDFImpl {
        self.0.inner().as_ref()
    }
}

// All that is asked of a function, so that it is planned as it would be without this.
#[warn(clippy::missing_trait_methods)]
impl ScalarUDFImpl for Bounded {
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let Some(expands) = expands(&self.0).filter(|_| interrupt::is_planning()) {
            let rows = args.number_rows.max(1) as u64;
            if expands.bytes(&args.args).saturating_mul(rows) > LIMIT {
                return resources_err!(
                    "{} makes a value of more than {} bytes, which is not computed where statements are planned, as rows of VALUES and \
                     queries of the catalog are: write SELECT in the place of VALUES",
                    self.name(),
                    LIMIT
                );
            }
        }
        self.inner().invoke_with_args(args)
    }

    fn name(&self) -> &str {
        self.inner().name()
    }

    fn aliases(&self) -> &[String] {
        self.inner().aliases()
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        #[expect(deprecated, reason = "whatever the function says of itself")]
        self.inner().display_name(args)
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner().schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner().signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner().return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner().return_field_from_args(args)
    }

    fn is_nullable(&self, args: &[Expr], schema: &dyn ExprSchema) -> bool {
        #[expect(deprecated, reason = "whatever the function says of itself")]
        self.inner().is_nullable(args, schema)
    }

    fn is_strict(&self) -> bool {
        self.inner().is_strict()
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let updated = self.inner().with_updated_config(config)?;
        Some(ScalarUDF::new_from_impl(Self(Arc::new(updated))))
    }

    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner().simplify(args, context)
    }

    fn preimage(&self, args: &[Expr], literal: &Expr, context: &SimplifyContext) -> Result<PreimageResult> {
        self.inner().preimage(args, literal, context)
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner().conditional_arguments(args)
    }

    fn short_circuits(&self) -> bool {
        self.inner().short_circuits()
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        self.inner().evaluate_bounds(input)
    }

    fn propagate_constraints(&self, interval: &Interval, inputs: &[&Interval]) -> Result<Option<Vec<Interval>>> {
        self.inner().propagate_constraints(interval, inputs)
    }

    fn struct_field_mapping(&self, literal_args: &[Option<ScalarValue>]) -> Option<StructFieldMapping> {
        self.inner().struct_field_mapping(literal_args)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner().output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner().preserves_lex_ordering(inputs)
    }

    fn strictly_order_preserving(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner().strictly_order_preserving(inputs)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner().coerce_types(arg_types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner().documentation()
    }

    fn placement(&self, args: &[ExpressionPlacement]) -> ExpressionPlacement {
        self.inner().placement(args)
    }
}

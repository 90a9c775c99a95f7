//! Casts that do not keep the order of their values, as from text to numbers or from a timestamp to the time of day.
//!
//! DataFusion casts the smallest and the largest value of a file and takes them for the bounds of what was cast: `max(s::int)` of '100' and '9'
//! is 9, and `t::time > '22:00'` skips files. Here such casts are of `windlass_value(x)`, of which no bounds and no order are known.
//!
//! A number is true if it is not zero: `x::boolean` becomes `x <> 0`.

use super::expressions::rewrite_expressions;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue, internal_err};
use datafusion::logical_expr::expr::{Cast, TryCast};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, lit,
};
use datafusion::optimizer::AnalyzerRule;
use std::sync::{Arc, LazyLock};

/// Comes after types are known, and casts that the statement does not write are there.
#[derive(Debug)]
pub(super) struct UnorderedCasts;

impl AnalyzerRule for UnorderedCasts {
    fn name(&self) -> &str {
        "windlass_unordered_casts"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        rewrite_expressions(plan, &|expr, schema| expr.transform_up(|expr| unordered(expr, schema)).data())
    }
}

fn unordered(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let (of, to) = match &expr {
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => (expr, field.data_type()),
        _ => return Ok(Transformed::no(expr)),
    };
    let is_value = |of: &Expr| matches!(of, Expr::ScalarFunction(call) if call.func.name() == VALUE.name());
    if matches!(**of, Expr::Literal(..)) || is_value(of) {
        return Ok(Transformed::no(expr));
    }
    let Ok(from) = of.get_type(schema) else { return Ok(Transformed::no(expr)) };
    if keeps_order(&from, to) {
        return Ok(Transformed::no(expr));
    }
    if *to == DataType::Boolean && from.is_numeric() {
        let zero = lit(ScalarValue::new_zero(&from)?);
        return Ok(Transformed::yes(of.as_ref().clone().not_eq(zero)));
    }
    Ok(Transformed::yes(match expr {
        Expr::Cast(Cast { expr, field }) => Expr::Cast(Cast { expr: Box::new(VALUE.call(vec![*expr])), field }),
        Expr::TryCast(TryCast { expr, field }) => {
            Expr::TryCast(TryCast { expr: Box::new(VALUE.call(vec![*expr])), field })
        }
        other => other,
    }))
}

/// Whether no larger value becomes a smaller one.
fn keeps_order(from: &DataType, to: &DataType) -> bool {
    use DataType::{Binary, BinaryView, Boolean, LargeBinary, LargeUtf8, Null, Time32, Time64, Utf8, Utf8View};
    let is_text = |of: &DataType| matches!(of, Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView);
    let is_clock = |of: &DataType| matches!(of, Time32(_) | Time64(_));
    match (from, to) {
        (from, to) if from == to => true,
        (DataType::Dictionary(_, from), to) => keeps_order(from, to),
        (from, DataType::Dictionary(_, to)) => keeps_order(from, to),
        (Null, _) => true,
        (from, to) if is_text(from) || is_text(to) => is_text(from) && is_text(to),
        (from, to) if is_clock(to) => is_clock(from) || from.is_integer(),
        (from, Boolean) => !from.is_numeric(),
        _ => true,
    }
}

static VALUE: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::from(Value { signature: Signature::any(1, Volatility::Immutable) })));

/// The function that plans name.
pub(super) fn function() -> Arc<ScalarUDF> {
    Arc::clone(&VALUE)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Value {
    signature: Signature,
}

impl ScalarUDFImpl for Value {
    fn name(&self) -> &str {
        "windlass_value"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args[0].schema_name().to_string())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(args.arg_fields[0].as_ref().clone().with_name(self.name())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.first() {
            Some(value) => Ok(value.clone()),
            None => internal_err!("windlass_value takes a value"),
        }
    }
}

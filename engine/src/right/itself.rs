//! Functions that return their first argument, where the planner must not see that.
//!
//! | function | why |
//! | --- | --- |
//! | `windlass_cast(value, name)` | until it is simplified, the expression has another name than one without its cast |
//! | `windlass_beside(column, other)` | a condition of a join refers to both sides, and so is computed for pairs of rows |
//! | `windlass_value(value)` | the planner knows no bounds and no order of a cast of it |

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::{Arc, LazyLock};

static CAST: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Itself::function("windlass_cast", 2, true));
static BESIDE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Itself::function("windlass_beside", 2, false));
static VALUE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Itself::function("windlass_value", 1, false));

/// The functions that plans call.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    [&CAST, &BESIDE, &VALUE].into_iter().map(|function| Arc::clone(function)).collect()
}

pub(super) fn beside(column: Expr, other: Expr) -> Expr {
    BESIDE.call(vec![column, other])
}

pub(super) fn is_beside(expr: &Expr) -> bool {
    is_call(expr, &BESIDE)
}

pub(super) fn value(of: Expr) -> Expr {
    VALUE.call(vec![of])
}

pub(super) fn is_value(expr: &Expr) -> bool {
    is_call(expr, &VALUE)
}

pub(super) fn is_call(expr: &Expr, function: &ScalarUDF) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.name() == function.name())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Itself {
    name: &'static str,
    /// Whether it only gives expressions a name, and is removed when they are simplified.
    is_name: bool,
    signature: Signature,
}

impl Itself {
    fn function(name: &'static str, arguments: usize, is_name: bool) -> Arc<ScalarUDF> {
        let signature = Signature::any(arguments, Volatility::Immutable);
        Arc::new(ScalarUDF::from(Self { name, is_name, signature }))
    }
}

impl ScalarUDFImpl for Itself {
    fn name(&self) -> &str {
        self.name
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let names: Vec<String> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        Ok(if self.is_name { format!("{}({})", self.name, names.join(",")) } else { names[0].clone() })
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(args.arg_fields[0].as_ref().clone().with_name(self.name)))
    }

    fn simplify(&self, mut args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(match self.is_name {
            true => ExprSimplifyResult::Simplified(args.swap_remove(0)),
            false => ExprSimplifyResult::Original(args),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.first() {
            Some(value) => Ok(value.clone()),
            None => internal_err!("{} takes a value", self.name),
        }
    }
}

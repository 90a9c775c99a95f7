//! `current_database()`, `current_catalog()` and `current_schema()`: the names with which the session completes those of tables.

use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use std::sync::Arc;

/// The functions that statements call.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let named = |name, is_schema| {
        let signature = Signature::nullary(Volatility::Stable);
        Arc::new(ScalarUDF::from(Here { name, is_schema, signature }))
    };
    vec![named("current_database", false), named("current_catalog", false), named("current_schema", true)]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Here {
    name: &'static str,
    is_schema: bool,
    signature: Signature,
}

impl ScalarUDFImpl for Here {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn simplify(&self, _: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let names = &info.config_options().catalog;
        let name = if self.is_schema { &names.default_schema } else { &names.default_catalog };
        Ok(ExprSimplifyResult::Simplified(lit(ScalarValue::Utf8(Some(name.clone())))))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("{} is known where a statement is planned", self.name)
    }
}

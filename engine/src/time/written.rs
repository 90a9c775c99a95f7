//! `coalesce` of dates, times, intervals and booleans beside texts, for which DataFusion's planner finds no type.

use super::unit::is_text;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, internal_err};
use datafusion::functions::core::coalesce;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use std::sync::Arc;

pub(super) fn function() -> Arc<ScalarUDF> {
    Arc::new(Coalesce(coalesce()).into())
}

/// DataFusion's function, with texts that take the type of the dates or times beside them.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Coalesce(Arc<ScalarUDF>);

impl ScalarUDFImpl for Coalesce {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.0.documentation()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let is_time = |of: &DataType| {
            matches!(
                of,
                DataType::Timestamp(..)
                    | DataType::Date32
                    | DataType::Time32(_)
                    | DataType::Time64(_)
                    | DataType::Interval(_)
                    | DataType::Boolean
            )
        };
        let only = types.iter().all(|of| is_time(of) || is_text(of) || of.is_null());
        match types.iter().find(|of| is_time(of)) {
            Some(time) if only => {
                let read = types.iter().map(|of| if is_text(of) { time.clone() } else { of.clone() });
                self.0.coerce_types(&read.collect::<Vec<_>>())
            }
            _ => self.0.coerce_types(types),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("return_field_from_args is called instead")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.0.inner().return_field_from_args(args)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.0.simplify(args, info)
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.0.inner().conditional_arguments(args)
    }

    fn short_circuits(&self) -> bool {
        self.0.inner().short_circuits()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.0.inner().invoke_with_args(args)
    }
}

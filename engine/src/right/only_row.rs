//! The function `only_row`: the value of a subquery that must not have more than one row.

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::{Result, exec_err, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::{Arc, LazyLock};

/// The function that plans call.
pub(super) fn function() -> Arc<ScalarUDF> {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> =
        LazyLock::new(|| Arc::new(ScalarUDF::from(OnlyRow { signature: Signature::any(2, Volatility::Immutable) })));
    Arc::clone(&FUNCTION)
}

/// `value` of the only row; an error if `count` says that there are more.
pub(super) fn only_row(value: Expr, count: Expr) -> Expr {
    function().call(vec![value, count])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OnlyRow {
    signature: Signature,
}

impl ScalarUDFImpl for OnlyRow {
    fn name(&self) -> &str {
        "only_row"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), args.arg_fields[0].data_type().clone(), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let [value, count] = args.args.as_slice() else { return internal_err!("only_row takes a value and a count") };
        let count = count.to_array(rows)?;
        let counts = count.as_primitive::<Int64Type>();
        match counts.iter().flatten().find(|count| *count > 1) {
            Some(count) => exec_err!(
                "a subquery that stands for a value has {count} rows: let it have one, with an aggregate or LIMIT 1, or use IN"
            ),
            None => Ok(value.clone()),
        }
    }
}

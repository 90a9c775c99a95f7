//! Functions of a list and an element, or of two lists, with numbers of different types.
//!
//! DataFusion finds no type for a list of doubles or integers and a decimal, such as the literal `0.5`. Here they have a type, as in any other expression.
//!
//! `array_remove` and `array_replace` affect all elements, as in PostgreSQL, not only the first match.

use super::arrays::without_nulls;
use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::execution::SessionStateDefaults;
use datafusion::functions_nested::{remove, replace};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TypeSignature, Volatility,
};
use std::sync::{Arc, LazyLock};

const FUNCTIONS: [&str; 17] = [
    "array_append",
    "array_concat",
    "array_except",
    "array_has",
    "array_has_all",
    "array_has_any",
    "array_intersect",
    "array_position",
    "array_positions",
    "array_prepend",
    "array_remove",
    "array_remove_all",
    "array_remove_n",
    "array_replace",
    "array_replace_all",
    "array_replace_n",
    "array_union",
];

static WRAPPED: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(|| {
    let functions = SessionStateDefaults::default_scalar_functions().into_iter();
    let functions = functions.filter(|function| FUNCTIONS.contains(&function.name()));
    functions.map(Elements::of).collect()
});

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    WRAPPED.clone()
}

/// The replacement for the function of this name, if there is one.
pub(super) fn function(name: &str) -> Option<Arc<ScalarUDF>> {
    WRAPPED.iter().find(|function| function.name() == name).cloned()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Elements {
    /// The function whose name and aliases it has.
    named: Arc<ScalarUDF>,
    does: Arc<ScalarUDF>,
    signature: Signature,
}

impl Elements {
    fn of(named: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
        let does = match named.name() {
            "array_remove" => remove::array_remove_all_udf(),
            "array_replace" => replace::array_replace_all_udf(),
            _ => Arc::clone(&named),
        };
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::from(Self { named, does, signature }))
    }

    /// The number of arguments that are lists or elements. The others are positions and counts.
    fn elements(&self) -> usize {
        match self.name() {
            "array_position" | "array_remove_n" => 2,
            "array_replace_n" => 3,
            _ => usize::MAX,
        }
    }
}

/// The types, with `by` in place of the number types for which `is_replaced` is true.
fn with_numbers(types: &[DataType], is_replaced: fn(&DataType) -> bool, by: &DataType) -> Vec<DataType> {
    types.iter().map(|of| with_number(of, is_replaced, by)).collect()
}

fn with_number(of: &DataType, is_replaced: fn(&DataType) -> bool, by: &DataType) -> DataType {
    let element = |field: &FieldRef| {
        let element = with_number(field.data_type(), is_replaced, by);
        Arc::new(Field::clone(field).with_data_type(element))
    };
    match of {
        DataType::List(field) => DataType::List(element(field)),
        DataType::LargeList(field) => DataType::LargeList(element(field)),
        DataType::FixedSizeList(field, length) => DataType::FixedSizeList(element(field), *length),
        number if is_replaced(number) => by.clone(),
        other => other.clone(),
    }
}

/// The common type, ignoring NULL.
fn meet(numbers: &[DataType]) -> Option<DataType> {
    let mut known = numbers.iter().filter(|of| !of.is_null());
    let first = known.next()?.clone();
    known.try_fold(first, |meet, of| if meet == *of { Some(meet) } else { comparison_coercion(&meet, of) })
}

/// The type of the innermost elements of nested lists; the type itself if it is no list.
fn innermost(of: &DataType) -> &DataType {
    match of {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            innermost(field.data_type())
        }
        other => other,
    }
}

impl ScalarUDFImpl for Elements {
    fn name(&self) -> &str {
        self.named.name()
    }

    fn aliases(&self) -> &[String] {
        self.named.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.named.documentation()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let (elements, rest) = types.split_at(self.elements().min(types.len()));
        let any = |is: fn(&DataType) -> bool| elements.iter().any(|of| is(innermost(of)));
        let numbers: Vec<DataType> = elements.iter().map(|of| innermost(of).clone()).collect();
        let mut types = match (any(DataType::is_decimal), any(DataType::is_floating)) {
            (true, true) => with_numbers(elements, DataType::is_decimal, &DataType::Float64),
            (true, false) => match meet(&numbers) {
                Some(meet) => with_numbers(elements, DataType::is_numeric, &meet),
                None => elements.to_vec(),
            },
            _ => elements.to_vec(),
        };
        types.extend_from_slice(rest);
        match self.does.signature().type_signature {
            TypeSignature::UserDefined => self.does.coerce_types(&types),
            _ => {
                let fields: Vec<FieldRef> = types.into_iter().map(|of| Arc::new(Field::new("", of, true))).collect();
                let coerced = fields_with_udf(&fields, self.does.as_ref())?;
                Ok(coerced.iter().map(|field| field.data_type().clone()).collect())
            }
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.does.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let field = self.does.inner().return_field_from_args(args)?;
        Ok(Arc::new(field.as_ref().clone().with_name(self.name())))
    }

    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.does.simplify(args, context)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.does.output_ordering(inputs)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let ("array_remove", [lists, ColumnarValue::Scalar(element)]) = (self.name(), args.args.as_slice())
            && element.is_null()
        {
            let lists = lists.to_array(args.number_rows)?;
            return Ok(ColumnarValue::Array(match lists.data_type() {
                DataType::List(_) => Arc::new(without_nulls(lists.as_list::<i32>())?),
                DataType::LargeList(field) => {
                    let small = cast(&lists, &DataType::List(Arc::clone(field)))?;
                    cast(&without_nulls(small.as_list())?, lists.data_type())?
                }
                _ => lists,
            }));
        }
        self.does.inner().invoke_with_args(args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_beside_doubles_is_one() {
        let doubles = DataType::new_list(DataType::Float64, true);
        let decimal = DataType::Decimal128(2, 1);
        for (name, args) in [
            ("array_append", vec![doubles.clone(), decimal.clone()]),
            ("array_prepend", vec![decimal.clone(), doubles.clone()]),
            ("array_position", vec![doubles.clone(), decimal.clone()]),
            ("array_concat", vec![doubles.clone(), DataType::new_list(decimal.clone(), true)]),
        ] {
            let coerced = function(name).unwrap().coerce_types(&args).unwrap();
            assert!(coerced.iter().all(|of| *innermost(of) == DataType::Float64), "{name}: {coerced:?}");
        }
        let names: Vec<_> = functions().iter().map(|function| function.name().to_string()).collect();
        assert_eq!(names.len(), FUNCTIONS.len(), "{names:?}");
    }
}

//! Functions of arrays that handle NULL.
//!
//! | function | result |
//! | --- | --- |
//! | `windlass_any(x, array, op)` | `x op ANY (array)`: unknown if no element makes it true and one leaves it unknown |
//! | `windlass_all(x, array, op)` | `x op ALL (array)` |
//! | `windlass_array(array)` | the array, and an empty one for NULL |
//! | `windlass_arrays(a, b, op)` | `a < b` and the like: NULL among the elements is above all others |
//! | `windlass_greatest_array`, `windlass_least_array` | `greatest()` and `least()` of arrays, in the same order |
//! | `array_length` | NULL for an empty array; `list_length` is 0 |

use super::comparable::{canonical_values, differs};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, ListArray, UInt32Array, UInt64Array, make_comparator,
    new_empty_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::kernels::cmp;
use arrow::compute::{SortOptions, cast, filter, interleave, nullif, take};
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::functions_nested::length;
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    lit,
};
use std::sync::{Arc, LazyLock};

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(Quantified { all: false, signature: Signature::user_defined(Volatility::Immutable) }.into()),
        Arc::new(Quantified { all: true, signature: Signature::user_defined(Volatility::Immutable) }.into()),
        Arc::new(OrEmpty { signature: Signature::any(1, Volatility::Immutable) }.into()),
        Arc::clone(&ORDERED),
        Arc::clone(&GREATEST),
        Arc::clone(&LEAST),
        Arc::new(Length { name: "array_length", of_empty: None, datafusion: length::array_length_udf() }.into()),
        Arc::new(Length { name: "list_length", of_empty: Some(0), datafusion: length::array_length_udf() }.into()),
    ]
}

static ORDERED: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(Ordered { signature: Signature::any(3, Volatility::Immutable) }.into()));

/// `left op right` of arrays.
pub(super) fn ordered(left: Expr, op: Operator, right: Expr) -> Expr {
    ORDERED.call(vec![left, right, lit(op.to_string())])
}

static GREATEST: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    Arc::new(Extreme { greatest: true, signature: Signature::variadic_any(Volatility::Immutable) }.into())
});
static LEAST: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    Arc::new(Extreme { greatest: false, signature: Signature::variadic_any(Volatility::Immutable) }.into())
});

/// The greatest or the least of arrays of one type.
pub(super) fn extreme(greatest: bool, arrays: Vec<Expr>) -> Expr {
    if greatest { GREATEST.call(arrays) } else { LEAST.call(arrays) }
}

/// Whether [`ordered`] compares values of these types.
pub(super) fn are_arrays(left: &DataType, right: &DataType) -> bool {
    left == right && matches!(left, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Quantified {
    all: bool,
    signature: Signature,
}

fn operator(text: &str) -> Result<Operator> {
    Ok(match text {
        "=" => Operator::Eq,
        "<>" | "!=" => Operator::NotEq,
        "<" => Operator::Lt,
        "<=" => Operator::LtEq,
        ">" => Operator::Gt,
        ">=" => Operator::GtEq,
        other => return plan_err!("{other} ANY and ALL of an array are not supported: use =, <>, <, <=, > or >="),
    })
}

impl ScalarUDFImpl for Quantified {
    fn name(&self) -> &str {
        if self.all { "windlass_all" } else { "windlass_any" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [value, array, _] = types else {
            return plan_err!("{} takes a value, an array and an operator", self.name());
        };
        let element = match array {
            DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => field.data_type(),
            DataType::Null => value,
            other => {
                return plan_err!("ANY and ALL take an array or a subquery in parentheses, and not a value of {other}");
            }
        };
        let (value, element) = BinaryTypeCoercer::new(value, &Operator::Eq, element).get_input_types()?;
        Ok(vec![value, DataType::List(Arc::new(Field::new_list_field(element, true))), DataType::Utf8])
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value, array, op] = args.args.as_slice() else {
            return exec_err!("{} takes a value, an array and an operator", self.name());
        };
        let ColumnarValue::Scalar(op) = op else { return exec_err!("the operator of {} is a constant", self.name()) };
        let op = operator(op.try_as_str().flatten().unwrap_or_default())?;
        let (values, arrays) = (value.to_array(args.number_rows)?, array.to_array(args.number_rows)?);
        Ok(ColumnarValue::Array(Arc::new(quantified(&values, arrays.as_list(), op, self.all)?)))
    }
}

/// Number of elements of each array. A NULL has none.
fn lengths(arrays: &ListArray) -> impl Iterator<Item = usize> {
    (0..arrays.len()).map(|row| if arrays.is_null(row) { 0 } else { arrays.value_length(row) as usize })
}

/// The elements of all arrays that are not NULL, in a row, and the row of each.
fn elements(arrays: &ListArray) -> Result<(ArrayRef, UInt32Array)> {
    let (mut places, mut rows) = (Vec::new(), Vec::new());
    for (row, length) in lengths(arrays).enumerate() {
        let start = arrays.value_offsets()[row] as u32;
        places.extend(start..start + length as u32);
        rows.extend(std::iter::repeat_n(row as u32, length));
    }
    Ok((take(arrays.values(), &UInt32Array::from(places), None)?, UInt32Array::from(rows)))
}

fn quantified(values: &ArrayRef, arrays: &ListArray, op: Operator, all: bool) -> Result<BooleanArray> {
    let (elements, rows) = elements(arrays)?;
    let values = take(values, &rows, None)?;
    let (values, elements) = match differs(elements.data_type()) {
        true => (canonical_values(&values)?, canonical_values(&elements)?),
        false => (values, elements),
    };
    let compared = match op {
        Operator::Eq => cmp::eq(&values, &elements),
        Operator::NotEq => cmp::neq(&values, &elements),
        Operator::Lt => cmp::lt(&values, &elements),
        Operator::LtEq => cmp::lt_eq(&values, &elements),
        Operator::Gt => cmp::gt(&values, &elements),
        _ => cmp::gt_eq(&values, &elements),
    }?;
    let mut results = BooleanBuilder::with_capacity(arrays.len());
    let mut at = 0;
    for (row, length) in lengths(arrays).enumerate() {
        let mut result = Some(all);
        for place in at..at + length {
            match compared.is_valid(place).then(|| compared.value(place)) {
                Some(decides) if decides != all => {
                    result = Some(!all);
                    break;
                }
                Some(_) => {}
                None => result = None,
            }
        }
        at += length;
        results.append_option(result.filter(|_| arrays.is_valid(row)));
    }
    Ok(results.finish())
}

/// Comparisons of arrays; NULL among their elements is above all others.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Ordered {
    signature: Signature,
}

impl ScalarUDFImpl for Ordered {
    fn name(&self) -> &str {
        "windlass_arrays"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right, op] = args.args.as_slice() else { return exec_err!("{} takes two arrays", self.name()) };
        let ColumnarValue::Scalar(op) = op else { return exec_err!("the operator of {} is a constant", self.name()) };
        let op = operator(op.try_as_str().flatten().unwrap_or_default())?;
        let (left, right) = (left.to_array(args.number_rows)?, right.to_array(args.number_rows)?);
        let (left, right) = (canonical_values(&left)?, canonical_values(&right)?);
        let nulls_last = SortOptions { descending: false, nulls_first: false };
        let compare = make_comparator(&left, &right, nulls_last)?;
        let holds = (0..args.number_rows).map(|row| {
            (left.is_valid(row) && right.is_valid(row)).then(|| {
                let order = compare(row, row);
                match op {
                    Operator::Eq => order.is_eq(),
                    Operator::NotEq => order.is_ne(),
                    Operator::Lt => order.is_lt(),
                    Operator::LtEq => order.is_le(),
                    Operator::Gt => order.is_gt(),
                    _ => order.is_ge(),
                }
            })
        });
        Ok(ColumnarValue::Array(Arc::new(holds.collect::<BooleanArray>())))
    }
}

/// The greatest or the least of several arrays, ignoring NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Extreme {
    greatest: bool,
    signature: Signature,
}

impl ScalarUDFImpl for Extreme {
    fn name(&self) -> &str {
        if self.greatest { "windlass_greatest_array" } else { "windlass_least_array" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = args.args.iter().map(|arg| arg.to_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        let Some((first, others)) = arrays.split_first() else { return exec_err!("{} takes arrays", self.name()) };
        let nulls_last = SortOptions { descending: false, nulls_first: false };
        let mut found = Arc::clone(first);
        for other in others {
            let (left, right) = (canonical_values(&found)?, canonical_values(other)?);
            let compare = make_comparator(&left, &right, nulls_last)?;
            let places: Vec<(usize, usize)> = (0..args.number_rows)
                .map(|row| {
                    let is_other = found.is_null(row)
                        || (other.is_valid(row)
                            && compare(row, row).is_lt() == self.greatest
                            && compare(row, row).is_ne());
                    (usize::from(is_other), row)
                })
                .collect();
            found = interleave(&[found.as_ref(), other.as_ref()], &places)?;
        }
        Ok(ColumnarValue::Array(found))
    }
}

/// The number of elements of an array.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Length {
    name: &'static str,
    /// The length of an empty array. `None`: NULL.
    of_empty: Option<u64>,
    datafusion: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Length {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        self.datafusion.signature()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.datafusion.documentation()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.datafusion.coerce_types(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.datafusion.return_type(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let lengths = self.datafusion.inner().invoke_with_args(args)?;
        if self.of_empty.is_some() {
            return Ok(lengths);
        }
        let of_array = |lengths: &ArrayRef| -> Result<ArrayRef> {
            let zero = UInt64Array::new_scalar(0);
            let lengths = cast(lengths, &DataType::UInt64)?;
            Ok(nullif(&lengths, &cmp::eq(&lengths, &zero)?)?)
        };
        Ok(match lengths {
            ColumnarValue::Array(lengths) => ColumnarValue::Array(of_array(&lengths)?),
            ColumnarValue::Scalar(length) => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&of_array(&length.to_array()?)?, 0)?)
            }
        })
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OrEmpty {
    signature: Signature,
}

impl ScalarUDFImpl for OrEmpty {
    fn name(&self) -> &str {
        "windlass_array"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = args.args[0].to_array(args.number_rows)?;
        let Some(lists) = arrays.as_list_opt::<i32>().filter(|lists| lists.null_count() > 0) else {
            return Ok(ColumnarValue::Array(arrays));
        };
        let DataType::List(field) = lists.data_type() else { return Ok(ColumnarValue::Array(arrays)) };
        let offsets = OffsetBuffer::from_lengths(lengths(lists));
        let (elements, _) = elements(lists)?;
        Ok(ColumnarValue::Array(Arc::new(ListArray::try_new(Arc::clone(field), offsets, elements, None)?)))
    }
}

/// The lists without their NULL elements.
pub(super) fn without_nulls(lists: &ListArray) -> Result<ListArray> {
    let DataType::List(field) = lists.data_type() else { return exec_err!("{} is no list", lists.data_type()) };
    let (elements, rows) = elements(lists)?;
    let known = arrow::compute::is_not_null(&elements)?;
    let mut kept = vec![0_usize; lists.len()];
    for (row, is_known) in rows.values().iter().zip(known.values().iter()) {
        kept[*row as usize] += usize::from(is_known);
    }
    let elements = if elements.is_empty() { new_empty_array(elements.data_type()) } else { filter(&elements, &known)? };
    let offsets = OffsetBuffer::from_lengths(kept);
    Ok(ListArray::try_new(Arc::clone(field), offsets, elements, lists.nulls().cloned())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use arrow::datatypes::Int64Type;

    #[test]
    fn a_null_among_the_elements_leaves_it_unknown() {
        let arrays = ListArray::from_iter_primitive::<Int64Type, _, _>([
            Some(vec![Some(1), None]),
            Some(vec![Some(3), None]),
            Some(vec![]),
            None,
            Some(vec![Some(1), Some(2)]),
        ]);
        let values: ArrayRef = Arc::new(Int64Array::from(vec![3; 5]));
        let of = |op, all| quantified(&values, &arrays, op, all).unwrap().iter().collect::<Vec<_>>();
        assert_eq!(of(Operator::Eq, false), [None, Some(true), Some(false), None, Some(false)]);
        assert_eq!(of(Operator::NotEq, true), [None, Some(false), Some(true), None, Some(true)]);
        assert_eq!(of(Operator::Gt, true), [None, Some(false), Some(true), None, Some(true)]);
        let without = without_nulls(&arrays).unwrap();
        assert_eq!(lengths(&without).collect::<Vec<_>>(), [1, 1, 0, 0, 2]);
    }
}

//! The function `comparable` converts values so that their bits decide equality and order. `quiet_nan` converts only NaN.
//!
//! Zero gets one sign and NaN one bit pattern. An interval becomes as many whole months of 30 days as possible, then as many whole days of 24 hours, as
//! PostgreSQL counts when it compares. Values inside structs, lists, maps and dictionaries are converted likewise; everything else stays.

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, FixedSizeListArray, GenericListArray, MapArray, OffsetSizeTrait,
    StructArray,
};
use arrow::datatypes::{
    DataType, Field, FieldRef, Float16Type, Float32Type, Float64Type, IntervalDayTime, IntervalDayTimeType,
    IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::{Arc, LazyLock};

const DAYS_PER_MONTH: i128 = 30;
const MILLISECONDS_PER_DAY: i64 = 24 * 60 * 60 * 1000;
const NANOSECONDS_PER_DAY: i128 = MILLISECONDS_PER_DAY as i128 * 1_000_000;

/// The conversions: `comparable`, and one that leaves zeros and intervals unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Of {
    All,
    NaN,
}

static COMPARABLE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Comparable::function("comparable", Of::All));
static QUIET_NAN: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Comparable::function("quiet_nan", Of::NaN));

/// The functions that plans call.
pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![Arc::clone(&COMPARABLE), Arc::clone(&QUIET_NAN)]
}

/// `of` in comparable form.
pub(super) fn comparable(of: Expr) -> Expr {
    COMPARABLE.call(vec![of])
}

/// `of` with one bit pattern for NaN.
pub(super) fn quiet(of: Expr) -> Expr {
    QUIET_NAN.call(vec![of])
}

/// Whether the type is a floating point number or contains one.
pub(super) fn holds_floats(of: &DataType) -> bool {
    holds(of, &DataType::is_floating)
}

/// Whether two values of the type may be equal but differ in bits.
pub(super) fn differs(of: &DataType) -> bool {
    holds(of, &|of| of.is_floating() || is_interval(of))
}

/// Whether the type is an interval of several parts or contains one.
pub(super) fn holds_intervals(of: &DataType) -> bool {
    holds(of, &is_interval)
}

fn is_interval(of: &DataType) -> bool {
    matches!(of, DataType::Interval(IntervalUnit::DayTime | IntervalUnit::MonthDayNano))
}

fn holds(of: &DataType, what: &dyn Fn(&DataType) -> bool) -> bool {
    match of {
        DataType::Struct(fields) => fields.iter().any(|field| holds(field.data_type(), what)),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => holds(field.data_type(), what),
        DataType::Dictionary(_, values) => holds(values, what),
        of => what(of),
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Comparable {
    name: &'static str,
    of: Of,
    signature: Signature,
}

impl Comparable {
    fn function(name: &'static str, of: Of) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(Self { name, of, signature: Signature::any(1, Volatility::Immutable) }))
    }
}

impl ScalarUDFImpl for Comparable {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let of = &args.arg_fields[0];
        Ok(Arc::new(Field::new(self.name(), of.data_type().clone(), of.is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(match &args.args[0] {
            ColumnarValue::Array(values) => ColumnarValue::Array(canonical(values, self.of)?),
            ColumnarValue::Scalar(value) => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&canonical(&value.to_array()?, self.of)?, 0)?)
            }
        })
    }
}

/// `values` in comparable form.
pub(super) fn canonical_values(values: &ArrayRef) -> Result<ArrayRef> {
    canonical(values, Of::All)
}

fn canonical(values: &ArrayRef, of: Of) -> Result<ArrayRef> {
    if !differs(values.data_type()) || of == Of::NaN && !holds_floats(values.data_type()) {
        return Ok(Arc::clone(values));
    }
    fn floats<T: ArrowPrimitiveType>(values: &ArrayRef, one: impl Fn(T::Native) -> T::Native) -> ArrayRef {
        Arc::new(values.as_primitive::<T>().unary::<_, T>(one))
    }
    Ok(match values.data_type() {
        DataType::Float16 => {
            type Half = <Float16Type as ArrowPrimitiveType>::Native;
            floats::<Float16Type>(values, |value| match value.is_nan() {
                true => Half::NAN,
                false if of == Of::All && value == Half::ZERO => Half::ZERO,
                false => value,
            })
        }
        DataType::Float32 => {
            // Adding 0.0 turns both zeros into the positive one.
            let zero = if of == Of::All { 0.0 } else { -0.0 };
            floats::<Float32Type>(values, |value| if value.is_nan() { f32::NAN } else { value + zero })
        }
        DataType::Float64 => {
            let zero = if of == Of::All { 0.0 } else { -0.0 };
            floats::<Float64Type>(values, |value| if value.is_nan() { f64::NAN } else { value + zero })
        }
        DataType::Interval(IntervalUnit::MonthDayNano) if of == Of::All => {
            let values = values.as_primitive::<IntervalMonthDayNanoType>();
            Arc::new(values.try_unary::<_, IntervalMonthDayNanoType, _>(months_first)?)
        }
        DataType::Interval(IntervalUnit::DayTime) if of == Of::All => {
            let values = values.as_primitive::<IntervalDayTimeType>();
            Arc::new(values.try_unary::<_, IntervalDayTimeType, _>(days_first)?)
        }
        DataType::Struct(fields) => {
            let values = values.as_struct();
            let columns = values.columns().iter().map(|column| canonical(column, of)).collect::<Result<Vec<_>>>()?;
            Arc::new(StructArray::try_new_with_length(fields.clone(), columns, values.nulls().cloned(), values.len())?)
        }
        DataType::List(field) => list::<i32>(values, field, of)?,
        DataType::LargeList(field) => list::<i64>(values, field, of)?,
        DataType::FixedSizeList(field, size) => {
            let values = values.as_fixed_size_list();
            let inside = canonical(values.values(), of)?;
            Arc::new(FixedSizeListArray::try_new(Arc::clone(field), *size, inside, values.nulls().cloned())?)
        }
        DataType::Map(field, sorted) => {
            let values = values.as_map();
            let entries: ArrayRef = Arc::new(values.entries().clone());
            let entries = canonical(&entries, of)?.as_struct().clone();
            Arc::new(MapArray::try_new(
                Arc::clone(field),
                values.offsets().clone(),
                entries,
                values.nulls().cloned(),
                *sorted,
            )?)
        }
        DataType::Dictionary(..) => {
            let values = values.as_any_dictionary();
            values.with_values(canonical(values.values(), of)?)
        }
        _ => Arc::clone(values),
    })
}

fn list<O: OffsetSizeTrait>(values: &ArrayRef, field: &FieldRef, of: Of) -> Result<ArrayRef> {
    let values = values.as_list::<O>();
    let inside = canonical(values.values(), of)?;
    let list =
        GenericListArray::<O>::try_new(Arc::clone(field), values.offsets().clone(), inside, values.nulls().cloned())?;
    Ok(Arc::new(list))
}

/// Gives all parts one sign, so that their order is that of the interval's length.
fn months_first(of: IntervalMonthDayNano) -> Result<IntervalMonthDayNano> {
    let days = i128::from(of.months) * DAYS_PER_MONTH + i128::from(of.days);
    let length = days * NANOSECONDS_PER_DAY + i128::from(of.nanoseconds);
    let days = length / NANOSECONDS_PER_DAY;
    let months = i32::try_from(days / DAYS_PER_MONTH).map_err(|_| {
        exec_datafusion_err!("the interval {of:?} is too long to be compared: it has more months than an integer holds")
    })?;
    // Both are remainders, the first of 30 days and the second of a day.
    Ok(IntervalMonthDayNano::new(months, (days % DAYS_PER_MONTH) as i32, (length % NANOSECONDS_PER_DAY) as i64))
}

fn days_first(of: IntervalDayTime) -> Result<IntervalDayTime> {
    let length = i64::from(of.days) * MILLISECONDS_PER_DAY + i64::from(of.milliseconds);
    let days = i32::try_from(length / MILLISECONDS_PER_DAY).map_err(|_| {
        exec_datafusion_err!("the interval {of:?} is too long to be compared: it has more days than an integer holds")
    })?;
    // The remainder of a day.
    Ok(IntervalDayTime::new(days, (length % MILLISECONDS_PER_DAY) as i32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, IntervalMonthDayNanoArray, ListArray};
    use std::f64::consts::PI;

    #[test]
    fn zero_has_one_sign_and_nan_one_pattern() {
        let odd = f64::from_bits(f64::NAN.to_bits() | 1 << 63);
        let values: ArrayRef = Arc::new(Float64Array::from(vec![Some(-0.0), Some(odd), None, Some(PI)]));
        let bits: Vec<_> = canonical(&values, Of::All)
            .unwrap()
            .as_primitive::<Float64Type>()
            .iter()
            .map(|x| x.map(f64::to_bits))
            .collect();
        assert_eq!(bits, [Some(0), Some(f64::NAN.to_bits()), None, Some(PI.to_bits())]);
        let bits: Vec<_> = canonical(&values, Of::NaN)
            .unwrap()
            .as_primitive::<Float64Type>()
            .iter()
            .map(|x| x.map(f64::to_bits))
            .collect();
        assert_eq!(bits, [Some((-0.0_f64).to_bits()), Some(f64::NAN.to_bits()), None, Some(PI.to_bits())]);
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>([Some([Some(-0.0)]), None]));
        let inside =
            canonical(&lists, Of::All).unwrap().as_list::<i32>().values().as_primitive::<Float64Type>().value(0);
        assert_eq!(inside.to_bits(), 0);
    }

    #[test]
    fn intervals_are_ordered_as_they_are_long() {
        let parts = [(0, 31, 0), (1, 0, 0), (0, 30, 0), (0, 0, 86_400_000_000_000), (0, 1, 0), (0, 1, -1), (1, -31, 0)];
        let values = parts.map(|(months, days, nanos)| IntervalMonthDayNano::new(months, days, nanos));
        let values: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from(values.to_vec()));
        let values = canonical(&values, Of::All).unwrap();
        let values = values.as_primitive::<IntervalMonthDayNanoType>().values();
        assert!(values[0] > values[1] && values[1] == values[2]);
        assert!(values[2] > values[3] && values[3] == values[4]);
        assert!(values[4] > values[5] && values[5] > values[6]);
        assert!(months_first(IntervalMonthDayNano::new(i32::MAX, i32::MAX, 0)).is_err());
    }
}

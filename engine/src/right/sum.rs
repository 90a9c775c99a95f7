//! Sums that do not wrap.
//!
//! DataFusion adds integers and decimals in the type of the result and lets them wrap: `sum` of 9223372036854775807 and 1 is the smallest BIGINT, and the sum
//! of a DECIMAL(38, 0) column may be any number. Checks in that type alone would not do: whether 9223372036854775807, 1 and -1 overflow on the way depends on
//! which task adds which rows.
//!
//! Here all tasks keep the sum in a type that no possible number of rows can overflow. It is an error at the end if the result does not fit its type.

mod average;
mod total;

use super::frames;
use arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, BooleanArray, Decimal128Array, PrimitiveArray,
};
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Decimal32Type, Decimal64Type, Decimal128Type,
    Decimal256Type, DecimalType, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType,
    DurationSecondType, Field, FieldRef, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit,
    IntervalYearMonthType, TimeUnit, UInt64Type, i256,
};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, internal_err};
use datafusion::functions_aggregate::sum::Sum as Wrapping;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, EmitTo, Expr, GroupsAccumulator, ReversedUDAF,
    ScalarUDF, SetMonotonicity, Signature,
};
use std::collections::HashMap;
use std::fmt::Debug;
use std::mem::{size_of, size_of_val};
use std::sync::{Arc, LazyLock};

/// Digits of a number of rows that no table reaches.
const ROWS: u8 = 13;

/// The functions that plans and executors call `sum` and `avg`.
pub(super) fn functions() -> Vec<Arc<AggregateUDF>> {
    vec![function(), average::function()]
}

/// The functions over sums that plans call.
pub(super) fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    vec![average::of_sum()]
}

pub(super) fn function() -> Arc<AggregateUDF> {
    static FUNCTION: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| Arc::new(AggregateUDF::from(Sum::default())));
    Arc::clone(&FUNCTION)
}

pub(super) fn sum(of: Expr) -> Expr {
    function().call(vec![of])
}

#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct Sum {
    /// Provides the signature, and adds in whatever type it is given.
    wrapping: Wrapping,
}

/// The type in which sums are kept.
#[derive(Clone, Debug, PartialEq)]
enum KeptAs {
    /// In the result's type, if adding does not wrap or is checked.
    AsIs,
    Wider(DataType),
}

impl KeptAs {
    fn of(input: &DataType) -> Self {
        match input {
            DataType::Int64 | DataType::UInt64 | DataType::Duration(_) => {
                Self::Wider(DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0))
            }
            DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) => {
                Self::Wider(DataType::Decimal128(DECIMAL128_MAX_PRECISION, *scale))
            }
            DataType::Decimal128(precision, scale) if precision + ROWS <= DECIMAL128_MAX_PRECISION => {
                Self::Wider(DataType::Decimal128(DECIMAL128_MAX_PRECISION, *scale))
            }
            DataType::Decimal128(_, scale) => Self::Wider(DataType::Decimal256(DECIMAL256_MAX_PRECISION, *scale)),
            DataType::Decimal256(precision, scale) if precision + ROWS <= DECIMAL256_MAX_PRECISION => {
                Self::Wider(DataType::Decimal256(DECIMAL256_MAX_PRECISION, *scale))
            }
            _ => Self::AsIs,
        }
    }
}

impl Sum {
    /// Arguments for DataFusion's accumulator in another type.
    fn in_type<'a>(args: &AccumulatorArgs<'a>, kept: &DataType) -> AccumulatorArgs<'a> {
        let return_field = Arc::new(args.return_field.as_ref().clone().with_data_type(kept.clone()));
        AccumulatorArgs {
            return_field,
            schema: args.schema,
            ignore_nulls: args.ignore_nulls,
            order_bys: args.order_bys,
            is_reversed: args.is_reversed,
            name: args.name,
            is_distinct: args.is_distinct,
            exprs: args.exprs,
            expr_fields: args.expr_fields,
        }
    }

    fn narrowed(&self, args: AccumulatorArgs, sliding: bool) -> Result<Box<dyn Accumulator>> {
        let result = args.return_field.data_type().clone();
        let input = args.expr_fields[0].data_type();
        match KeptAs::of(input) {
            KeptAs::Wider(kept) if !args.is_distinct && total::sums(input) => {
                Ok(total::accumulator(input, kept, result)?)
            }
            KeptAs::Wider(kept) => {
                let args = Self::in_type(&args, &kept);
                let sums = match (sliding, args.is_distinct) {
                    (true, true) => Box::new(SlidingDistinct::of(&kept)),
                    (true, false) => self.wrapping.create_sliding_accumulator(args)?,
                    (false, _) => self.wrapping.accumulator(args)?,
                };
                Ok(Box::new(Narrowed { sums, kept, result }))
            }
            KeptAs::AsIs => match checked(&result) {
                Some(sums) if !args.is_distinct => Ok(sums),
                _ if sliding && !args.is_distinct && result == DataType::Float64 => Ok(Box::new(frames::Sums::sum())),
                _ if sliding => self.wrapping.create_sliding_accumulator(args),
                _ => self.wrapping.accumulator(args),
            },
        }
    }
}

impl AggregateUDFImpl for Sum {
    fn name(&self) -> &str {
        self.wrapping.name()
    }

    fn signature(&self) -> &Signature {
        self.wrapping.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match &types[0] {
            DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
                Ok(DataType::Decimal128((precision + 10).min(DECIMAL128_MAX_PRECISION), *scale))
            }
            _ => self.wrapping.return_type(types),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.narrowed(args, false)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.narrowed(args, true)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let kept = match KeptAs::of(args.input_fields[0].data_type()) {
            KeptAs::Wider(kept) => kept,
            KeptAs::AsIs => args.return_field.data_type().clone(),
        };
        Ok(vec![Arc::new(match args.is_distinct {
            true => {
                Field::new_list(format_state_name(args.name, "sum distinct"), Field::new_list_field(kept, true), false)
            }
            false => Field::new(format_state_name(args.name, "sum"), kept, true),
        })])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        let result = args.return_field.data_type();
        let checked = KeptAs::of(args.expr_fields[0].data_type()) == KeptAs::AsIs && checked(result).is_some();
        !args.is_distinct && !checked
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let result = args.return_field.data_type().clone();
        let input = args.expr_fields[0].data_type();
        match KeptAs::of(input) {
            KeptAs::Wider(kept) if total::sums(input) => total::groups_accumulator(input, kept, result),
            KeptAs::Wider(kept) => {
                let sums = self.wrapping.create_groups_accumulator(Self::in_type(&args, &kept))?;
                Ok(Box::new(NarrowedGroups { sums, kept, result }))
            }
            KeptAs::AsIs => self.wrapping.create_groups_accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.wrapping.documentation()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.wrapping.set_monotonicity(data_type)
    }
}

/// Sums in a wide type, returned in the result's type.
#[derive(Debug)]
struct Narrowed {
    sums: Box<dyn Accumulator>,
    kept: DataType,
    result: DataType,
}

impl Accumulator for Narrowed {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.sums.update_batch(&[widened(&values[0], &self.kept)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.sums.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.sums.retract_batch(&[widened(&values[0], &self.kept)?])
    }

    fn supports_retract_batch(&self) -> bool {
        self.sums.supports_retract_batch()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.sums.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = self.sums.evaluate()?.to_array()?;
        ScalarValue::try_from_array(&narrowed(&sum, &self.result)?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sums.size()
    }
}

struct NarrowedGroups {
    sums: Box<dyn GroupsAccumulator>,
    kept: DataType,
    result: DataType,
}

impl GroupsAccumulator for NarrowedGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        count: usize,
    ) -> Result<()> {
        self.sums.update_batch(&[widened(&values[0], &self.kept)?], groups, filter, count)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], count: usize) -> Result<()> {
        self.sums.merge_batch(states, groups, count)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.sums.convert_to_state(&[widened(&values[0], &self.kept)?], filter)
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        self.sums.state(emit)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        narrowed(&self.sums.evaluate(emit)?, &self.result)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sums.size()
    }
}

/// `values` in the type in which sums are kept.
fn widened(values: &ArrayRef, kept: &DataType) -> Result<ArrayRef> {
    fn integers<T: ArrowPrimitiveType<Native: Into<i128>>>(values: &ArrayRef, kept: &DataType) -> ArrayRef {
        let wide: Decimal128Array = values.as_primitive::<T>().unary(Into::into);
        Arc::new(wide.with_data_type(kept.clone()))
    }
    Ok(match (values.data_type(), kept) {
        (DataType::Int64, _) => integers::<Int64Type>(values, kept),
        (DataType::UInt64, _) => integers::<UInt64Type>(values, kept),
        (DataType::Decimal32(..), _) => integers::<Decimal32Type>(values, kept),
        (DataType::Decimal64(..), _) => integers::<Decimal64Type>(values, kept),
        (DataType::Duration(TimeUnit::Second), _) => integers::<DurationSecondType>(values, kept),
        (DataType::Duration(TimeUnit::Millisecond), _) => integers::<DurationMillisecondType>(values, kept),
        (DataType::Duration(TimeUnit::Microsecond), _) => integers::<DurationMicrosecondType>(values, kept),
        (DataType::Duration(TimeUnit::Nanosecond), _) => integers::<DurationNanosecondType>(values, kept),
        (DataType::Decimal128(..), DataType::Decimal256(..)) => {
            let wide: PrimitiveArray<Decimal256Type> = values.as_primitive::<Decimal128Type>().unary(i256::from_i128);
            Arc::new(wide.with_data_type(kept.clone()))
        }
        _ => Arc::clone(values),
    })
}

/// `sums` in the type of the result; fails if one does not fit.
fn narrowed(sums: &ArrayRef, result: &DataType) -> Result<ArrayRef> {
    fn integers<T: ArrowPrimitiveType<Native: TryFrom<i128>>>(sums: &ArrayRef, result: &DataType) -> Result<ArrayRef> {
        let sums = sums.as_primitive::<Decimal128Type>();
        let narrow: PrimitiveArray<T> =
            sums.try_unary(|sum| T::Native::try_from(sum).map_err(|_| leaves(&sum, result, 0)))?;
        Ok(Arc::new(narrow.with_data_type(result.clone())))
    }
    match (sums.data_type(), result) {
        (_, DataType::Int64) => integers::<Int64Type>(sums, result),
        (_, DataType::UInt64) => integers::<UInt64Type>(sums, result),
        (_, DataType::Duration(TimeUnit::Second)) => integers::<DurationSecondType>(sums, result),
        (_, DataType::Duration(TimeUnit::Millisecond)) => integers::<DurationMillisecondType>(sums, result),
        (_, DataType::Duration(TimeUnit::Microsecond)) => integers::<DurationMicrosecondType>(sums, result),
        (_, DataType::Duration(TimeUnit::Nanosecond)) => integers::<DurationNanosecondType>(sums, result),
        (DataType::Decimal128(..), DataType::Decimal128(precision, scale)) => {
            fitting::<Decimal128Type>(sums, result, *precision, *scale)
        }
        (DataType::Decimal256(..), DataType::Decimal256(precision, scale)) => {
            fitting::<Decimal256Type>(sums, result, *precision, *scale)
        }
        (DataType::Decimal256(..), DataType::Decimal128(precision, scale)) => {
            let sums = sums.as_primitive::<Decimal256Type>();
            let narrow: Decimal128Array = sums.try_unary(|sum| {
                let narrow = sum.to_i128().filter(|sum| Decimal128Type::is_valid_decimal_precision(*sum, *precision));
                narrow.ok_or_else(|| leaves(&sum, result, *scale))
            })?;
            Ok(Arc::new(narrow.with_data_type(result.clone())))
        }
        (from, to) => internal_err!("a sum of {from} cannot be given as {to}"),
    }
}

fn fitting<T: DecimalType>(sums: &ArrayRef, result: &DataType, precision: u8, scale: i8) -> Result<ArrayRef>
where
    T::Native: std::fmt::Display,
{
    let sums = sums.as_primitive::<T>();
    let narrow: PrimitiveArray<T> = sums.try_unary(|sum| match T::is_valid_decimal_precision(sum, precision) {
        true => Ok(sum),
        false => Err(leaves(&sum, result, scale)),
    })?;
    Ok(Arc::new(narrow.with_data_type(result.clone())))
}

fn leaves(sum: &dyn std::fmt::Display, result: &DataType, scale: i8) -> datafusion::common::DataFusionError {
    let places = match scale {
        0 => String::new(),
        places => format!(" with {places} decimal places"),
    };
    exec_datafusion_err!(
        "the sum {sum}{places} is not within {result}, which sum() gives here: cast its argument to a wider type"
    )
}

/// Sums that fail on overflow, for types without a wider one.
fn checked(result: &DataType) -> Option<Box<dyn Accumulator>> {
    fn of<T>(result: &DataType) -> Option<Box<dyn Accumulator>>
    where
        T: ArrowPrimitiveType<Native: ArrowNativeTypeOp> + Debug,
    {
        Some(Box::new(Checked::<T> { sum: T::Native::ZERO, count: 0, result: result.clone() }))
    }
    match result {
        DataType::Decimal256(..) => of::<Decimal256Type>(result),
        DataType::Interval(IntervalUnit::YearMonth) => of::<IntervalYearMonthType>(result),
        DataType::Interval(IntervalUnit::DayTime) => of::<IntervalDayTimeType>(result),
        DataType::Interval(IntervalUnit::MonthDayNano) => of::<IntervalMonthDayNanoType>(result),
        _ => None,
    }
}

#[derive(Debug)]
struct Checked<T: ArrowPrimitiveType> {
    sum: T::Native,
    count: i64,
    result: DataType,
}

impl<T> Checked<T>
where
    T: ArrowPrimitiveType<Native: ArrowNativeTypeOp> + Debug,
{
    fn each(
        &mut self,
        values: &ArrayRef,
        add: impl Fn(T::Native, T::Native) -> arrow::error::Result<T::Native>,
    ) -> Result<i64> {
        let values = values.as_primitive::<T>();
        for value in values.iter().flatten() {
            self.sum = add(self.sum, value)?;
        }
        Ok((values.len() - values.null_count()) as i64)
    }
}

impl<T> Accumulator for Checked<T>
where
    T: ArrowPrimitiveType<Native: ArrowNativeTypeOp> + Debug,
{
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.count += self.each(&values[0], |sum, value| sum.add_checked(value))?;
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.count -= self.each(&values[0], |sum, value| sum.sub_checked(value))?;
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = (self.count != 0).then_some(self.sum);
        let sum: ArrayRef = Arc::new(PrimitiveArray::<T>::from_iter([sum]).with_data_type(self.result.clone()));
        match &self.result {
            DataType::Decimal256(precision, scale) => {
                ScalarValue::try_from_array(&fitting::<Decimal256Type>(&sum, &self.result, *precision, *scale)?, 0)
            }
            _ => ScalarValue::try_from_array(&sum, 0),
        }
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// The sum of the distinct values of a moving frame.
#[derive(Debug)]
struct SlidingDistinct {
    counts: HashMap<i256, u64>,
    sum: i256,
    kept: DataType,
}

impl SlidingDistinct {
    fn of(kept: &DataType) -> Self {
        Self { counts: HashMap::new(), sum: i256::ZERO, kept: kept.clone() }
    }

    fn each(&mut self, values: &ArrayRef, mut apply: impl FnMut(&mut Self, i256)) {
        match &self.kept {
            DataType::Decimal128(..) => {
                values
                    .as_primitive::<Decimal128Type>()
                    .iter()
                    .flatten()
                    .for_each(|value| apply(self, i256::from_i128(value)));
            }
            _ => values.as_primitive::<Decimal256Type>().iter().flatten().for_each(|value| apply(self, value)),
        }
    }
}

impl Accumulator for SlidingDistinct {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.each(&values[0], |this, value| {
            let count = this.counts.entry(value).or_insert(0);
            *count += 1;
            if *count == 1 {
                this.sum = this.sum.wrapping_add(value);
            }
        });
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.each(&values[0], |this, value| {
            if let Some(count) = this.counts.get_mut(&value) {
                *count -= 1;
                if *count == 0 {
                    this.counts.remove(&value);
                    this.sum = this.sum.wrapping_sub(value);
                }
            }
        });
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = (!self.counts.is_empty()).then_some(self.sum);
        Ok(match &self.kept {
            DataType::Decimal128(precision, scale) => {
                ScalarValue::Decimal128(sum.and_then(i256::to_i128), *precision, *scale)
            }
            DataType::Decimal256(precision, scale) => ScalarValue::Decimal256(sum, *precision, *scale),
            other => return internal_err!("a sum is kept as {other}"),
        })
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        internal_err!("the sum of a window was asked for its state")
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        internal_err!("the sum of a window was given another one's state")
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.counts.capacity() * size_of::<(i256, u64)>()
    }
}

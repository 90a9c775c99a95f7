//! Averages of integers and decimals that do not depend on the order of their rows.
//!
//! Averages of decimals have at least 16 decimal places and are rounded half away from zero. DataFusion's have four more places than the decimals, truncated,
//! and their sum may wrap.
//!
//! DataFusion adds integers as floating point numbers. Above 2^53 each is rounded, and large ones absorb small ones: the average of equally many
//! 9000000000000000000 and -9000000000000000000 depends on which task adds which rows. Here the sum is exact.

use super::KeptAs;
use super::frames::Sums as Frame;
use super::total::{Number, Sum, Sums, kept_sums};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Decimal32Type, Decimal64Type, Decimal128Type, Field, FieldRef, Int64Type,
    UInt64Type, i256,
};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, internal_err};
use datafusion::functions_aggregate::average::Avg as Rounding;
use datafusion::functions_aggregate::sum::Sum as Summed;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Documentation, EmitTo, GroupsAccumulator,
    ReturnFieldArgs, ReversedUDAF, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::mem::size_of_val;
use std::sync::{Arc, LazyLock};

/// The function that plans and executors call `avg`.
pub(crate) fn function() -> Arc<AggregateUDF> {
    static FUNCTION: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| Arc::new(AggregateUDF::from(Avg::default())));
    Arc::clone(&FUNCTION)
}

/// The function `windlass_average(sum, count, type)`: the average of values whose exact sum and number are known. `sum`: a decimal or a
/// BIGINT; `type`: the average's, as text.
pub(super) fn of_sum() -> Arc<ScalarUDF> {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> =
        LazyLock::new(|| Arc::new(ScalarUDF::from(OfSum { signature: Signature::any(3, Volatility::Immutable) })));
    Arc::clone(&FUNCTION)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OfSum {
    signature: Signature,
}

impl ScalarUDFImpl for OfSum {
    fn name(&self) -> &str {
        "windlass_average"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the type of windlass_average is its third argument")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let kind = args.scalar_arguments.get(2).copied().flatten();
        let kind = kind.and_then(|kind| kind.try_as_str().flatten()).and_then(|kind| kind.parse::<DataType>().ok());
        match kind {
            Some(kind) => Ok(Arc::new(Field::new(self.name(), kind, true))),
            None => internal_err!("windlass_average names no type"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args[..2])?;
        let sums = match arrays[0].data_type() {
            DataType::Decimal128(..) => Arc::clone(&arrays[0]),
            _ => cast(&arrays[0], &DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0))?,
        };
        let (sums, counts) = (sums.as_primitive::<Decimal128Type>(), arrays[1].as_primitive::<Int64Type>());
        let quotient = Quotient::of(sums.data_type(), args.return_field.data_type());
        let pair = |(sum, count): (Option<i128>, Option<i64>)| match (sum, count) {
            (Some(sum), Some(count)) => (i256::from_i128(sum), u64::try_from(count).unwrap_or(0)),
            _ => (i256::ZERO, 0),
        };
        Ok(ColumnarValue::Array(quotient.all(sums.iter().zip(counts.iter()).map(pair))?))
    }
}

#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct Avg {
    /// Averages everything but integers.
    rounding: Rounding,
    /// Provides the signature, which leaves integers unchanged.
    summed: Summed,
}

/// Minimum decimal places of an average of decimals.
const PLACES: i8 = 16;

/// Whether sums of the type are exact here.
fn is_exact(of: &[FieldRef]) -> bool {
    of.first().is_some_and(|of| is_integer(of.data_type()) || is_decimal(of.data_type()))
}

fn is_integer(of: &DataType) -> bool {
    matches!(of, DataType::Int64 | DataType::UInt64)
}

fn is_decimal(of: &DataType) -> bool {
    matches!(of, DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..))
}

/// The type of partial sums.
fn kept(of: &DataType) -> DataType {
    match KeptAs::of(of) {
        KeptAs::Wider(kept) => kept,
        KeptAs::AsIs => of.clone(),
    }
}

/// How an average is computed from a sum.
#[derive(Clone, Debug)]
enum Quotient {
    Float,
    /// A decimal of this precision and scale; the sum gets `zeros` zeros appended before the division.
    Decimal {
        precision: u8,
        scale: i8,
        zeros: u32,
    },
}

impl Quotient {
    fn of(input: &DataType, result: &DataType) -> Self {
        match (input, result) {
            (
                DataType::Decimal32(_, of) | DataType::Decimal64(_, of) | DataType::Decimal128(_, of),
                DataType::Decimal128(precision, scale),
            ) => Self::Decimal {
                precision: *precision,
                scale: *scale,
                zeros: u32::try_from(i16::from(*scale) - i16::from(*of)).unwrap_or(0),
            },
            _ => Self::Float,
        }
    }

    /// Averages from sums and their counts; NULL for a count of 0.
    fn all(&self, averages: impl Iterator<Item = (i256, u64)>) -> Result<ArrayRef> {
        match self {
            Self::Float => {
                let low = |sum: i256| sum.to_parts().0 as i128 as f64;
                let averages = averages.map(|(sum, count)| (count > 0).then(|| low(sum) / count as f64));
                Ok(Arc::new(Float64Array::from_iter(averages)))
            }
            Self::Decimal { precision, scale, zeros } => {
                let averages = averages.map(|(sum, count)| match count {
                    0 => Ok(None),
                    count => rounded(sum, count, *zeros, *precision).map(Some),
                });
                let averages = averages.collect::<Result<Decimal128Array>>()?;
                Ok(Arc::new(averages.with_data_type(DataType::Decimal128(*precision, *scale))))
            }
        }
    }
}

/// `sum` with `zeros` zeros appended, divided by `count`, rounded half away from zero.
fn rounded(sum: i256, count: u64, zeros: u32, precision: u8) -> Result<i128> {
    let leaves = || {
        exec_datafusion_err!(
            "an average has more than {precision} digits: cast the argument of avg() to fewer decimal places"
        )
    };
    let most = 10_u128.pow(u32::from(precision));
    let narrow = |rounded: i128| Some(rounded).filter(|rounded| rounded.unsigned_abs() < most);
    // Nearly all sums fit into 128 bits, where division is faster.
    if let Some(sum) = sum.to_i128().zip(10_i128.checked_pow(zeros)).and_then(|(sum, power)| sum.checked_mul(power)) {
        let count = i128::from(count);
        let (quotient, rest) = (sum / count, (sum % count).abs());
        let away = if rest >= count - rest { sum.signum() } else { 0 };
        return narrow(quotient + away).ok_or_else(leaves);
    }
    let count = i256::from_i128(i128::from(count));
    let power = i256::from_i128(10).checked_pow(zeros);
    let sum = power.and_then(|power| sum.checked_mul(power)).ok_or_else(leaves)?;
    let (quotient, rest) = (sum.wrapping_div(count), sum.wrapping_rem(count));
    let rest = rest.wrapping_abs();
    let away = if sum < i256::ZERO { i256::MINUS_ONE } else { i256::ONE };
    let rounded = if rest >= count.wrapping_sub(rest) { quotient.wrapping_add(away) } else { quotient };
    rounded.to_i128().and_then(narrow).ok_or_else(leaves)
}

impl Avg {
    fn exact(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let result = args.return_field.data_type().clone();
        if !args.is_distinct {
            fn of<T: Number>(input: &DataType, result: DataType) -> Box<dyn Accumulator> {
                let quotient = Quotient::of(input, &result);
                Box::new(Average { sum: Sum::<T>::new(kept(input), result), quotient })
            }
            let input = args.expr_fields[0].data_type();
            return Ok(match input {
                DataType::UInt64 => of::<UInt64Type>(input, result),
                DataType::Decimal32(..) => of::<Decimal32Type>(input, result),
                DataType::Decimal64(..) => of::<Decimal64Type>(input, result),
                DataType::Decimal128(..) => of::<Decimal128Type>(input, result),
                _ => of::<Int64Type>(input, result),
            });
        }
        if is_decimal(args.expr_fields[0].data_type()) {
            return self.rounding.accumulator(args);
        }
        let fields = [Arc::new(args.expr_fields[0].as_ref().clone().with_data_type(DataType::Float64))];
        let args = AccumulatorArgs {
            return_field: Arc::clone(&args.return_field),
            schema: args.schema,
            ignore_nulls: args.ignore_nulls,
            order_bys: args.order_bys,
            is_reversed: args.is_reversed,
            name: args.name,
            is_distinct: args.is_distinct,
            exprs: args.exprs,
            expr_fields: &fields,
        };
        Ok(Box::new(AsFloats(self.rounding.accumulator(args)?)))
    }
}

impl AggregateUDFImpl for Avg {
    fn name(&self) -> &str {
        self.rounding.name()
    }

    fn aliases(&self) -> &[String] {
        self.rounding.aliases()
    }

    fn signature(&self) -> &Signature {
        self.summed.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match &types[0] {
            DataType::Interval(_) => {
                datafusion::common::plan_err!("avg() of intervals: average their length in seconds")
            }
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale) => {
                let whole = (*precision as i8 - *scale).max(0);
                let most = DECIMAL128_MAX_PRECISION as i8;
                let places = PLACES.max(*scale);
                Ok(DataType::Decimal128((whole + places).min(most) as u8, places))
            }
            _ => self.rounding.return_type(types),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if is_exact(args.expr_fields) { self.exact(args) } else { self.rounding.accumulator(args) }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if is_exact(args.expr_fields) {
            return self.exact(args);
        }
        match args.expr_fields[0].data_type() {
            DataType::Float64 if !args.is_distinct => Ok(Box::new(Frame::average())),
            _ => self.rounding.create_sliding_accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if !is_exact(args.input_fields) || args.is_distinct {
            return self.rounding.state_fields(args);
        }
        let field = |name, of| Arc::new(Field::new(format_state_name(args.name, name), of, true));
        Ok(vec![field("count", DataType::UInt64), field("sum", kept(args.input_fields[0].data_type()))])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        if is_exact(args.expr_fields) { !args.is_distinct } else { self.rounding.groups_accumulator_supported(args) }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        fn of<T: Number>(input: &DataType, result: DataType) -> Box<dyn GroupsAccumulator> {
            let quotient = Quotient::of(input, &result);
            Box::new(Averages { sums: Sums::<T>::new(kept(input), result), counts: Vec::new(), quotient })
        }
        let (input, result) = (args.expr_fields[0].data_type(), args.return_field.data_type().clone());
        Ok(match input {
            DataType::Int64 => of::<Int64Type>(input, result),
            DataType::UInt64 => of::<UInt64Type>(input, result),
            DataType::Decimal32(..) => of::<Decimal32Type>(input, result),
            DataType::Decimal64(..) => of::<Decimal64Type>(input, result),
            DataType::Decimal128(..) => of::<Decimal128Type>(input, result),
            _ => return self.rounding.create_groups_accumulator(args),
        })
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.rounding.documentation()
    }
}

/// Passes integers as floating point numbers to another accumulator.
#[derive(Debug)]
struct AsFloats(Box<dyn Accumulator>);

impl Accumulator for AsFloats {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.update_batch(&[cast(&values[0], &DataType::Float64)?])
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.retract_batch(&[cast(&values[0], &DataType::Float64)?])
    }

    fn supports_retract_batch(&self) -> bool {
        self.0.supports_retract_batch()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.0.evaluate()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.size()
    }
}

#[derive(Debug)]
struct Average<T> {
    sum: Sum<T>,
    quotient: Quotient,
}

impl<T: Number> Accumulator for Average<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.sum.update_batch(values)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.sum.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let count = self.sum.count;
        self.sum.merge_batch(&states[1..])?;
        let counts = states[0].as_primitive::<UInt64Type>().iter().flatten();
        self.sum.count = count + counts.sum::<u64>() as i64;
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let count = ScalarValue::UInt64(Some(self.sum.count as u64));
        Ok([vec![count], self.sum.state()?].concat())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let count = u64::try_from(self.sum.count).unwrap_or(0);
        let average = self.quotient.all(std::iter::once((self.sum.total.wide(), count)))?;
        ScalarValue::try_from_array(&average, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

struct Averages<T> {
    sums: Sums<T>,
    counts: Vec<u64>,
    quotient: Quotient,
}

impl<T: Number> Averages<T> {
    fn emitted(&mut self, emit: EmitTo) -> Result<(Vec<u64>, ArrayRef)> {
        let sums = self.sums.state(emit)?.swap_remove(0);
        Ok((emit.take_needed(&mut self.counts), sums))
    }
}

impl<T: Number> GroupsAccumulator for Averages<T> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        count: usize,
    ) -> Result<()> {
        self.counts.resize(count, 0);
        let counts = &mut self.counts;
        self.sums.add(&values[0], groups, filter, count, |group| counts[group] += 1);
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], count: usize) -> Result<()> {
        self.sums.merge_batch(&states[1..], groups, count)?;
        self.counts.resize(count, 0);
        let counts = states[0].as_primitive::<UInt64Type>();
        groups.iter().zip(counts.iter()).for_each(|(group, count)| self.counts[*group] += count.unwrap_or(0));
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let sums = self.sums.convert_to_state(values, filter)?.swap_remove(0);
        let counts = UInt64Array::from_iter_values((0..sums.len()).map(|row| u64::from(sums.is_valid(row))));
        Ok(vec![Arc::new(counts), sums])
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let (counts, sums) = self.emitted(emit)?;
        Ok(vec![Arc::new(UInt64Array::from(counts)), sums])
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let (counts, sums) = self.emitted(emit)?;
        let mut totals = vec![i256::ZERO; counts.len()];
        kept_sums(&sums, |row, total| totals[row] = total.wide())?;
        self.quotient.all(totals.into_iter().zip(counts))
    }

    fn size(&self) -> usize {
        self.sums.size() + self.counts.capacity() * size_of::<u64>()
    }
}

//! Averages of integers that do not depend on the order of their rows.
//!
//! DataFusion adds integers as floating point numbers. Above 2^53 each of them is rounded, and large ones swallow small ones: the average of as many
//! 9000000000000000000 as -9000000000000000000 is some number, which depends on which task adds which. Here the sum is exact.

use super::frames::Sums as Frame;
use super::total::{Number, Sum, Sums, passing};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, PrimitiveArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Field, FieldRef, Int64Type, UInt64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::average::Avg as Rounding;
use datafusion::functions_aggregate::sum::Sum as Summed;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, EmitTo, GroupsAccumulator, ReversedUDAF, Signature,
};
use std::mem::size_of_val;
use std::sync::{Arc, LazyLock};

/// The function that plans and executors call `avg`.
pub(crate) fn function() -> Arc<AggregateUDF> {
    static FUNCTION: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| Arc::new(AggregateUDF::from(Avg::default())));
    Arc::clone(&FUNCTION)
}

#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct Avg {
    /// Averages all but integers.
    rounding: Rounding,
    /// Gives its signature, which leaves integers as they are.
    summed: Summed,
}

const KEPT: DataType = DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0);

fn is_integer(of: &[FieldRef]) -> bool {
    of.first().is_some_and(|of| matches!(of.data_type(), DataType::Int64 | DataType::UInt64))
}

impl Avg {
    fn exact(&self, args: &AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let result = args.return_field.data_type().clone();
        if !args.is_distinct {
            return Ok(match args.expr_fields[0].data_type() {
                DataType::UInt64 => Box::new(Average(Sum::<UInt64Type>::new(KEPT, result))),
                _ => Box::new(Average(Sum::<Int64Type>::new(KEPT, result))),
            });
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
            _ => self.rounding.return_type(types),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if is_integer(args.expr_fields) { self.exact(&args) } else { self.rounding.accumulator(args) }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if is_integer(args.expr_fields) {
            return self.exact(&args);
        }
        match args.expr_fields[0].data_type() {
            DataType::Float64 if !args.is_distinct => Ok(Box::new(Frame::average())),
            _ => self.rounding.create_sliding_accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if !is_integer(args.input_fields) || args.is_distinct {
            return self.rounding.state_fields(args);
        }
        let field = |name, of| Arc::new(Field::new(format_state_name(args.name, name), of, true));
        Ok(vec![field("count", DataType::UInt64), field("sum", KEPT)])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        if is_integer(args.expr_fields) { !args.is_distinct } else { self.rounding.groups_accumulator_supported(args) }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let result = args.return_field.data_type().clone();
        match args.expr_fields[0].data_type() {
            DataType::Int64 => {
                Ok(Box::new(Averages { sums: Sums::<Int64Type>::new(KEPT, result), counts: Vec::new() }))
            }
            DataType::UInt64 => {
                Ok(Box::new(Averages { sums: Sums::<UInt64Type>::new(KEPT, result), counts: Vec::new() }))
            }
            _ => self.rounding.create_groups_accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.rounding.documentation()
    }
}

/// Gives integers to what takes floating point numbers.
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
struct Average<T>(Sum<T>);

impl<T: Number> Accumulator for Average<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.update_batch(values)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let count = self.0.count;
        self.0.merge_batch(&states[1..])?;
        let counts = states[0].as_primitive::<UInt64Type>().iter().flatten();
        self.0.count = count + counts.sum::<u64>() as i64;
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let count = ScalarValue::UInt64(Some(self.0.count as u64));
        Ok([vec![count], self.0.state()?].concat())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let average = self.0.total.low as f64 / self.0.count as f64;
        Ok(ScalarValue::Float64((self.0.count > 0).then_some(average)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

struct Averages<T> {
    sums: Sums<T>,
    counts: Vec<u64>,
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
        self.sums.update_batch(values, groups, filter, count)?;
        self.counts.resize(count, 0);
        let counted = arrow::buffer::NullBuffer::union(values[0].nulls(), filter.map(passing).as_ref());
        match counted.filter(|counted| counted.null_count() > 0) {
            None => groups.iter().for_each(|group| self.counts[*group] += 1),
            Some(counted) => {
                groups.iter().zip(counted.iter()).for_each(|(group, counts)| self.counts[*group] += u64::from(counts));
            }
        }
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
        let sums: &PrimitiveArray<Decimal128Type> = sums.as_primitive();
        let averages =
            counts.into_iter().zip(sums.values()).map(|(count, sum)| (count > 0).then(|| *sum as f64 / count as f64));
        Ok(Arc::new(Float64Array::from_iter(averages)))
    }

    fn size(&self) -> usize {
        self.sums.size() + self.counts.capacity() * size_of::<u64>()
    }
}

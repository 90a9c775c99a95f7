//! Sums of numbers of at most 128 bits, with a count of the times that they wrap.

use super::narrowed;
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, BooleanBufferBuilder, Decimal128Array, Decimal256Array,
    PrimitiveArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{
    DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, Int64Type, TimeUnit, UInt64Type, i256,
};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use std::fmt::Debug;
use std::marker::PhantomData;
use std::mem::{size_of, size_of_val};
use std::sync::Arc;

/// Calls a function with the type of the added numbers.
macro_rules! with_input {
    ($input:expr, $function:ident($($argument:expr),*)) => {
        match $input {
            DataType::Int64 => $function::<Int64Type>($($argument),*),
            DataType::UInt64 => $function::<UInt64Type>($($argument),*),
            DataType::Decimal32(..) => $function::<Decimal32Type>($($argument),*),
            DataType::Decimal64(..) => $function::<Decimal64Type>($($argument),*),
            DataType::Decimal128(..) => $function::<Decimal128Type>($($argument),*),
            DataType::Duration(TimeUnit::Second) => $function::<DurationSecondType>($($argument),*),
            DataType::Duration(TimeUnit::Millisecond) => $function::<DurationMillisecondType>($($argument),*),
            DataType::Duration(TimeUnit::Microsecond) => $function::<DurationMicrosecondType>($($argument),*),
            DataType::Duration(TimeUnit::Nanosecond) => $function::<DurationNanosecondType>($($argument),*),
            other => internal_err!("{other} is not summed in 128 bits"),
        }
    };
}

/// Whether this module sums numbers of the type.
pub(super) fn sums(input: &DataType) -> bool {
    let decimal = matches!(input, DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..));
    decimal || matches!(input, DataType::Int64 | DataType::UInt64 | DataType::Duration(_))
}

pub(super) fn accumulator(input: &DataType, kept: DataType, result: DataType) -> Result<Box<dyn Accumulator>> {
    fn of<T: Number>(kept: DataType, result: DataType) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Sum::<T>::new(kept, result)))
    }
    with_input!(input, of(kept, result))
}

pub(super) fn groups_accumulator(
    input: &DataType,
    kept: DataType,
    result: DataType,
) -> Result<Box<dyn GroupsAccumulator>> {
    fn of<T: Number>(kept: DataType, result: DataType) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Sums::<T>::new(kept, result)))
    }
    with_input!(input, of(kept, result))
}

pub(super) trait Number: ArrowPrimitiveType<Native: Into<i128>> + Debug + Send + Sync {}

impl<T: ArrowPrimitiveType<Native: Into<i128>> + Debug + Send + Sync> Number for T {}

/// `low + wraps * 2^128`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Total {
    pub low: i128,
    wraps: i64,
}

impl Total {
    fn add(&mut self, value: i128) {
        let (low, wrapped) = self.low.overflowing_add(value);
        self.low = low;
        if wrapped {
            self.wraps += if value < 0 { -1 } else { 1 };
        }
    }

    fn subtract(&mut self, value: i128) {
        let (low, wrapped) = self.low.overflowing_sub(value);
        self.low = low;
        if wrapped {
            self.wraps += if value < 0 { 1 } else { -1 };
        }
    }

    fn add_total(&mut self, other: Self) {
        self.add(other.low);
        self.wraps += other.wraps;
    }

    pub fn wide(self) -> i256 {
        i256::from_parts(self.low as u128, (self.low >> 127) + i128::from(self.wraps))
    }

    /// Converts the sum of fewer than 2^63 numbers of 128 bits, whose wraps an i64 can count.
    fn of(wide: i256) -> Self {
        let (low, high) = wide.to_parts();
        let low = low as i128;
        Self { low, wraps: (high - (low >> 127)) as i64 }
    }
}

/// Calls `each` with the row and the value of every sum in the states of an earlier aggregate.
pub(super) fn kept_sums(states: &ArrayRef, mut each: impl FnMut(usize, Total)) -> Result<()> {
    match states.data_type() {
        DataType::Decimal128(..) => {
            let states = states.as_primitive::<Decimal128Type>();
            let known = (0..states.len()).filter(|row| states.is_valid(*row));
            known.for_each(|row| each(row, Total { low: states.value(row), wraps: 0 }));
        }
        DataType::Decimal256(..) => {
            let states = states.as_primitive::<Decimal256Type>();
            let known = (0..states.len()).filter(|row| states.is_valid(*row));
            known.for_each(|row| each(row, Total::of(states.value(row))));
        }
        other => return internal_err!("a sum is not kept as {other}"),
    }
    Ok(())
}

fn as_kept(totals: impl Iterator<Item = Total>, nulls: Option<NullBuffer>, kept: &DataType) -> ArrayRef {
    match kept {
        DataType::Decimal256(..) => {
            let sums: Vec<i256> = totals.map(Total::wide).collect();
            Arc::new(Decimal256Array::new(sums.into(), nulls).with_data_type(kept.clone()))
        }
        // States that may need more than 128 bits have more.
        _ => {
            let sums: Vec<i128> = totals.map(|total| total.low).collect();
            Arc::new(Decimal128Array::new(sums.into(), nulls).with_data_type(kept.clone()))
        }
    }
}

/// One sum, also over a moving frame.
#[derive(Debug)]
pub(super) struct Sum<T> {
    pub total: Total,
    /// Number of rows that are not NULL. Merged states count at least one for each sum.
    pub count: i64,
    kept: DataType,
    result: DataType,
    of: PhantomData<T>,
}

impl<T: Number> Sum<T> {
    pub fn new(kept: DataType, result: DataType) -> Self {
        Self { total: Total::default(), count: 0, kept, result, of: PhantomData }
    }

    fn each(&mut self, values: &ArrayRef, mut apply: impl FnMut(&mut Total, i128)) -> i64 {
        let values = values.as_primitive::<T>();
        let mut total = self.total;
        match values.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => values.values().iter().for_each(|value| apply(&mut total, (*value).into())),
            Some(_) => values.iter().flatten().for_each(|value| apply(&mut total, value.into())),
        }
        self.total = total;
        (values.len() - values.null_count()) as i64
    }

    fn kept(&self) -> ArrayRef {
        let nulls = (self.count == 0).then(|| NullBuffer::new_null(1));
        as_kept(std::iter::once(self.total), nulls, &self.kept)
    }
}

impl<T: Number> Accumulator for Sum<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.count += self.each(&values[0], Total::add);
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.count -= self.each(&values[0], Total::subtract);
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        kept_sums(&states[0], |_, sum| {
            self.total.add_total(sum);
            self.count += 1;
        })
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::try_from_array(&self.kept(), 0)?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&narrowed(&self.kept(), &self.result)?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// One sum per group.
#[derive(Debug)]
pub(super) struct Sums<T> {
    low: Vec<i128>,
    /// Empty until a sum wraps.
    wraps: Vec<i64>,
    seen: Seen,
    kept: DataType,
    result: DataType,
    of: PhantomData<T>,
}

impl<T: Number> Sums<T> {
    pub fn new(kept: DataType, result: DataType) -> Self {
        Self { low: Vec::new(), wraps: Vec::new(), seen: Seen::default(), kept, result, of: PhantomData }
    }

    #[cold]
    fn wrap(wraps: &mut Vec<i64>, groups: usize, group: usize, by: i64) {
        wraps.resize(groups, 0);
        wraps[group] += by;
    }

    /// Adds the values that count, and calls `also` with the group of each.
    pub fn add(
        &mut self,
        values: &ArrayRef,
        groups: &[usize],
        filter: Option<&BooleanArray>,
        count: usize,
        mut also: impl FnMut(usize),
    ) {
        self.low.resize(count, 0);
        let (low, wraps) = (&mut self.low, &mut self.wraps);
        self.seen.each(values.as_primitive::<T>(), groups, filter, count, |group, value| {
            let value: i128 = value.into();
            let (sum, wrapped) = low[group].overflowing_add(value);
            low[group] = sum;
            if wrapped {
                Self::wrap(wraps, count, group, if value < 0 { -1 } else { 1 });
            }
            also(group);
        });
        if !wraps.is_empty() {
            wraps.resize(count, 0);
        }
    }

    fn emitted(&mut self, emit: EmitTo) -> ArrayRef {
        let low = emit.take_needed(&mut self.low);
        let wraps = if self.wraps.is_empty() { Vec::new() } else { emit.take_needed(&mut self.wraps) };
        let nulls = self.seen.emitted(emit);
        let wraps = wraps.into_iter().chain(std::iter::repeat(0));
        let totals = low.into_iter().zip(wraps).map(|(low, wraps)| Total { low, wraps });
        as_kept(totals, nulls, &self.kept)
    }
}

impl<T: Number> GroupsAccumulator for Sums<T> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        count: usize,
    ) -> Result<()> {
        self.add(&values[0], groups, filter, count, |_| ());
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], count: usize) -> Result<()> {
        self.low.resize(count, 0);
        self.seen.states(&states[0], groups, count);
        let (low, wraps) = (&mut self.low, &mut self.wraps);
        kept_sums(&states[0], |row, sum| {
            let group = groups[row];
            let mut total = Total { low: low[group], wraps: 0 };
            total.add_total(sum);
            low[group] = total.low;
            if total.wraps != 0 {
                Self::wrap(wraps, count, group, total.wraps);
            }
        })?;
        if !wraps.is_empty() {
            wraps.resize(count, 0);
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = values[0].as_primitive::<T>();
        let nulls = NullBuffer::union(values.nulls(), filter.map(passing).as_ref());
        let totals = values.values().iter().map(|value| Total { low: (*value).into(), wraps: 0 });
        Ok(vec![as_kept(totals, nulls, &self.kept)])
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.emitted(emit)])
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        narrowed(&self.emitted(emit), &self.result)
    }

    fn size(&self) -> usize {
        self.low.capacity() * size_of::<i128>() + self.wraps.capacity() * size_of::<i64>() + self.seen.size()
    }
}

/// The groups that have had a value that is not NULL.
#[derive(Debug, Default)]
struct Seen {
    /// While there are no bits: the number of groups, from the first on, that have all had one.
    all: usize,
    bits: Option<BooleanBufferBuilder>,
}

impl Seen {
    fn bits(&mut self, count: usize) -> &mut BooleanBufferBuilder {
        let all = self.all;
        let bits = self.bits.get_or_insert_with(|| {
            let mut bits = BooleanBufferBuilder::new(count);
            bits.append_n(all, true);
            bits
        });
        if bits.len() < count {
            bits.append_n(count - bits.len(), false);
        }
        bits
    }

    /// Calls `add` with every value that counts and its group.
    fn each<T: ArrowPrimitiveType>(
        &mut self,
        values: &PrimitiveArray<T>,
        groups: &[usize],
        filter: Option<&BooleanArray>,
        count: usize,
        mut add: impl FnMut(usize, T::Native),
    ) {
        if self.bits.is_none() && filter.is_none() && values.null_count() == 0 {
            self.all = count;
            groups.iter().zip(values.values()).for_each(|(group, value)| add(*group, *value));
            return;
        }
        let bits = self.bits(count);
        let counts = NullBuffer::union(values.nulls(), filter.map(passing).as_ref());
        for (row, (group, value)) in groups.iter().zip(values.values()).enumerate() {
            if counts.as_ref().is_none_or(|counts| counts.is_valid(row)) {
                bits.set_bit(*group, true);
                add(*group, *value);
            }
        }
    }

    fn states(&mut self, states: &ArrayRef, groups: &[usize], count: usize) {
        if self.bits.is_none() && states.null_count() == 0 {
            self.all = count;
            return;
        }
        let bits = self.bits(count);
        groups
            .iter()
            .enumerate()
            .filter(|(row, _)| states.is_valid(*row))
            .for_each(|(_, group)| bits.set_bit(*group, true));
    }

    fn emitted(&mut self, emit: EmitTo) -> Option<NullBuffer> {
        let Some(bits) = &mut self.bits else {
            self.all = match emit {
                EmitTo::All => 0,
                EmitTo::First(count) => self.all.saturating_sub(count),
            };
            return None;
        };
        let all: BooleanBuffer = bits.finish();
        match emit {
            EmitTo::All => {
                (self.bits, self.all) = (None, 0);
                Some(NullBuffer::new(all))
            }
            EmitTo::First(count) => {
                bits.append_buffer(&all.slice(count, all.len() - count));
                Some(NullBuffer::new(all.slice(0, count)))
            }
        }
    }

    fn size(&self) -> usize {
        self.bits.as_ref().map_or(0, |bits| bits.capacity() / 8)
    }
}

/// The rows that pass a filter.
pub(super) fn passing(filter: &BooleanArray) -> NullBuffer {
    let passing = match filter.nulls() {
        None => filter.values().clone(),
        Some(known) => filter.values() & known.inner(),
    };
    NullBuffer::new(passing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;

    const LARGE: i128 = 99_999_999_999_999_999_999_999_999_999_999_999_999;

    fn decimals() -> (DataType, DataType) {
        (DataType::Decimal256(76, 0), DataType::Decimal128(38, 0))
    }

    fn rows(values: &[i128]) -> ArrayRef {
        Arc::new(Decimal128Array::from(values.to_vec()).with_precision_and_scale(38, 0).unwrap())
    }

    #[test]
    fn sums_may_leave_their_type_on_their_way_in_any_order_and_over_any_tasks() {
        let (kept, result) = decimals();
        let values = [LARGE, LARGE, LARGE, -LARGE, -LARGE, 5, -LARGE, LARGE - 5];
        for split in 0..=values.len() {
            let mut tasks = [&values[..split], &values[split..]].map(|values| {
                let mut sums = groups_accumulator(&result, kept.clone(), result.clone()).unwrap();
                for value in values {
                    sums.update_batch(&[rows(&[*value])], &[0], None, 1).unwrap();
                }
                sums.state(EmitTo::All).unwrap()
            });
            tasks.reverse();
            let mut sums = groups_accumulator(&result, kept.clone(), result.clone()).unwrap();
            let mut one = accumulator(&result, kept.clone(), result.clone()).unwrap();
            for task in tasks.iter().filter(|task| !task[0].is_empty()) {
                sums.merge_batch(task, &[0], 1).unwrap();
                one.merge_batch(task).unwrap();
            }
            assert_eq!(sums.evaluate(EmitTo::All).unwrap().as_primitive::<Decimal128Type>().value(0), LARGE);
            assert_eq!(one.evaluate().unwrap(), ScalarValue::Decimal128(Some(LARGE), 38, 0));
        }
        let mut one = accumulator(&result, kept, result.clone()).unwrap();
        one.update_batch(&[rows(&[LARGE, 1])]).unwrap();
        assert!(one.evaluate().unwrap_err().to_string().contains("is not within"));
        one.retract_batch(&[rows(&[1])]).unwrap();
        assert_eq!(one.evaluate().unwrap(), ScalarValue::Decimal128(Some(LARGE), 38, 0));
    }

    #[test]
    fn totals_are_the_same_when_they_come_back() {
        for (low, wraps) in [(0, 0), (-1, 0), (i128::MIN, 3), (i128::MAX, -3), (-7, -1), (7, i64::MAX / 2)] {
            let again = Total::of(Total { low, wraps }.wide());
            assert_eq!((again.low, again.wraps), (low, wraps));
        }
    }

    #[test]
    fn groups_without_a_value_are_null_and_may_be_emitted_in_parts() {
        let kept = DataType::Decimal128(38, 0);
        let mut sums = groups_accumulator(&DataType::Int64, kept, DataType::Int64).unwrap();
        let values = |values: Vec<Option<i64>>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
        sums.update_batch(&[values(vec![Some(1), Some(2)])], &[0, 1], None, 2).unwrap();
        let filter = BooleanArray::from(vec![Some(true), None, Some(true)]);
        sums.update_batch(&[values(vec![None, Some(9), Some(4)])], &[2, 3, 4], Some(&filter), 5).unwrap();
        let first = sums.evaluate(EmitTo::First(3)).unwrap();
        assert_eq!(first.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(1), Some(2), None]);
        sums.update_batch(&[values(vec![Some(i64::MAX), Some(7)])], &[1, 0], None, 3).unwrap();
        assert!(sums.evaluate(EmitTo::First(2)).is_err());
        let rest = sums.evaluate(EmitTo::All).unwrap();
        assert_eq!(rest.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [None]);
    }
}

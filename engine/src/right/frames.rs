//! Aggregates over moving frames that never subtract.
//!
//! DataFusion subtracts the rows that leave a frame. But a sum with a NaN or an infinity stays NaN, and a sum with a large number has lost small ones: 1e20 +
//! 1 - 1e20 is 0. Here the rows of a frame are kept in two stacks. Each entry holds the result of the rows from there to the boundary between the stacks. So
//! the result of a frame combines the two tops, and each row is moved once:
//!
//! ```text
//!   rows of the frame:   a     b     c   |   d    e
//!   kept:              a+b+c  b+c    c   |   d    e    d+e
//! ```
//!
//! This is the queue of two stacks of Tangwongsan, Hirzel and Schneider, "Low-latency sliding-window aggregation in worst-case constant time"
//! (DEBS 2017).

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{FieldRef, Float64Type, Schema};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDF};
use datafusion::physical_expr::PhysicalExpr;
use std::fmt::Debug;
use std::mem::{size_of, size_of_val};
use std::sync::Arc;

/// Combines the results of neighbouring rows.
trait Add<S> {
    fn add(&self, left: &S, right: &S) -> Result<S>;
}

#[derive(Debug)]
struct Frame<S> {
    /// Results from each row to the last of this stack; the first row is at the end.
    older: Vec<S>,
    newer: Vec<S>,
    /// Result of all rows in `newer`.
    together: Option<S>,
}

impl<S: Clone> Frame<S> {
    fn new() -> Self {
        Self { older: Vec::new(), newer: Vec::new(), together: None }
    }

    fn push(&mut self, row: S, of: &impl Add<S>) -> Result<()> {
        self.together = Some(match &self.together {
            Some(before) => of.add(before, &row)?,
            None => row.clone(),
        });
        self.newer.push(row);
        Ok(())
    }

    /// Drops the first `count` rows.
    fn pop(&mut self, count: usize, of: &impl Add<S>) -> Result<()> {
        for _ in 0..count {
            if self.older.is_empty() {
                self.together = None;
                for row in std::mem::take(&mut self.newer).into_iter().rev() {
                    let from_here = match self.older.last() {
                        Some(after) => of.add(&row, after)?,
                        None => row,
                    };
                    self.older.push(from_here);
                }
            }
            if self.older.pop().is_none() {
                return internal_err!("a row left a frame that it is not in");
            }
        }
        Ok(())
    }

    fn result(&self, of: &impl Add<S>) -> Result<Option<S>> {
        Ok(match (self.older.last(), &self.together) {
            (Some(older), Some(newer)) => Some(of.add(older, newer)?),
            (older, newer) => older.or(newer.as_ref()).cloned(),
        })
    }

    fn rows(&self) -> usize {
        self.older.len() + self.newer.len()
    }

    /// Bytes of its stacks.
    fn size(&self) -> usize {
        (self.older.capacity() + self.newer.capacity()) * size_of::<S>()
    }
}

/// The sum or the average of the floating point numbers of a frame.
#[derive(Debug)]
pub(super) struct Sums {
    frame: Frame<f64>,
    averages: bool,
}

impl Sums {
    pub fn sum() -> Self {
        Self { frame: Frame::new(), averages: false }
    }

    pub fn average() -> Self {
        Self { averages: true, ..Self::sum() }
    }
}

struct Plus;

impl Add<f64> for Plus {
    fn add(&self, left: &f64, right: &f64) -> Result<f64> {
        Ok(left + right)
    }
}

impl Accumulator for Sums {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values[0].as_primitive::<Float64Type>().iter().flatten().try_for_each(|value| self.frame.push(value, &Plus))
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.frame.pop(values[0].len() - values[0].null_count(), &Plus)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let divisor = if self.averages { self.frame.rows() as f64 } else { 1.0 };
        Ok(ScalarValue::Float64(self.frame.result(&Plus)?.map(|sum| sum / divisor)))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        internal_err!("a frame is not aggregated in parts")
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        internal_err!("a frame is not aggregated in parts")
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.frame.size()
    }
}

/// Any aggregate whose merged states equal the state of all rows.
#[derive(Debug)]
pub(super) struct States {
    frame: Frame<Vec<ScalarValue>>,
    of: Call,
}

impl States {
    pub fn of(function: &Arc<AggregateUDF>, args: &AccumulatorArgs) -> Self {
        let of = Call {
            function: Arc::clone(function),
            result: Arc::clone(&args.return_field),
            schema: args.schema.clone(),
            exprs: args.exprs.to_vec(),
            fields: args.expr_fields.to_vec(),
        };
        Self { frame: Frame::new(), of }
    }
}

/// A function and its arguments.
#[derive(Debug)]
struct Call {
    function: Arc<AggregateUDF>,
    result: FieldRef,
    schema: Schema,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    fields: Vec<FieldRef>,
}

impl Call {
    /// An accumulator without rows.
    fn empty(&self) -> Result<Box<dyn Accumulator>> {
        self.function.accumulator(AccumulatorArgs {
            return_field: Arc::clone(&self.result),
            schema: &self.schema,
            ignore_nulls: false,
            order_bys: &[],
            is_reversed: false,
            name: self.function.name(),
            is_distinct: false,
            exprs: &self.exprs,
            expr_fields: &self.fields,
        })
    }

    fn merged(&self, states: &[&Vec<ScalarValue>]) -> Result<Box<dyn Accumulator>> {
        let mut merged = self.empty()?;
        for state in states {
            let state = state.iter().map(ScalarValue::to_array).collect::<Result<Vec<_>>>()?;
            merged.merge_batch(&state)?;
        }
        Ok(merged)
    }
}

impl Add<Vec<ScalarValue>> for Call {
    fn add(&self, left: &Vec<ScalarValue>, right: &Vec<ScalarValue>) -> Result<Vec<ScalarValue>> {
        self.merged(&[left, right])?.state()
    }
}

impl Accumulator for States {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for row in 0..values[0].len() {
            let mut alone = self.of.empty()?;
            let values: Vec<ArrayRef> = values.iter().map(|values| values.slice(row, 1)).collect();
            alone.update_batch(&values)?;
            self.frame.push(alone.state()?, &self.of)?;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.frame.pop(values[0].len(), &self.of)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let states: Vec<_> = self.frame.older.last().into_iter().chain(&self.frame.together).collect();
        self.of.merged(&states)?.evaluate()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        internal_err!("a frame is not aggregated in parts")
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        internal_err!("a frame is not aggregated in parts")
    }

    fn size(&self) -> usize {
        // The parts of a state are numbers.
        let of_state = self.frame.together.as_ref().map_or(0, |state| state.capacity() * size_of::<ScalarValue>());
        size_of_val(self) + self.frame.size() + self.frame.rows() * of_state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Float64Array;

    #[test]
    fn a_frame_forgets_what_has_left_it() {
        let mut sums = Sums::sum();
        let rows = |rows: Vec<Option<f64>>| -> [ArrayRef; 1] { [Arc::new(Float64Array::from(rows))] };
        sums.update_batch(&rows(vec![Some(1e20), Some(1.0), None, Some(f64::NAN)])).unwrap();
        sums.retract_batch(&rows(vec![Some(1e20)])).unwrap();
        sums.update_batch(&rows(vec![Some(2.0), Some(4.0)])).unwrap();
        assert!(matches!(sums.evaluate().unwrap(), ScalarValue::Float64(Some(sum)) if sum.is_nan()));
        sums.retract_batch(&rows(vec![Some(1.0), None, Some(f64::NAN)])).unwrap();
        assert_eq!(sums.evaluate().unwrap(), ScalarValue::Float64(Some(6.0)));
        sums.retract_batch(&rows(vec![Some(2.0), Some(4.0)])).unwrap();
        assert_eq!(sums.evaluate().unwrap(), ScalarValue::Float64(None));
        assert!(sums.retract_batch(&rows(vec![Some(1.0)])).is_err());
    }
}

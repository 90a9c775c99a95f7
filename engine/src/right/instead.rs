//! Aggregate functions that replace DataFusion's because they add or compare floating point numbers differently.
//!
//! * max and min of groups start in DataFusion from the smallest and the largest finite number, which an infinity does not replace, and take whatever comes
//!   after a NaN. Here NaN is above all numbers, as in PostgreSQL.
//! * corr of groups adds squares in DataFusion, which cancel each other out where numbers are large compared with their differences, and its partial results
//!   differ from those of corr of all rows. Here both use the method that does not cancel.
//! * corr of a NaN or an infinity is NULL in DataFusion, and so is regr_r2 where all y are equal. Here they are NaN and 1, as in PostgreSQL.
//! * percentile_cont(0) and (1) become DataFusion's min and max. Here they become those of this file.
//! * variances, covariances, correlations and regressions over frames: see [`super::frames`]. bit_and, bit_or, bool_and, bool_or and string_agg cannot
//!   subtract, and DataFusion refuses them over moving frames.
//! * bool_and is also called every, as in the SQL standard.
//! * string_agg sorts its values itself, but asks for sorted input, so two of them with different orders are refused. Here it does not ask.

use super::frames::States;
use arrow::array::ArrayRef;
use arrow::datatypes::{ArrowPrimitiveType, DataType, FieldRef, Float16Type, Float32Type, Float64Type};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::execution::SessionStateDefaults;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams, WindowFunctionParams};
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Expr, GroupsAccumulator, LogicalPlan, Operator,
    ReversedUDAF, SetMonotonicity, Signature, StatisticsArgs,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::prim_op::PrimitiveGroupsAccumulator;
use std::sync::{Arc, LazyLock};

type Float16 = <Float16Type as ArrowPrimitiveType>::Native;

/// The difference from DataFusion's function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Otherwise {
    Max,
    Min,
    /// Groups have the same partial results as all rows.
    Correlation,
    Frames,
    /// Frames, and 1 where all y are equal.
    Determination,
    /// Frames, and any order of the input.
    Texts,
    /// Repeated values do not matter, so DISTINCT changes nothing.
    FramesOfAny,
    /// The fractions 0 and 1 become the min and max of this file.
    Percentile,
}

impl Otherwise {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "max" => Self::Max,
            "min" => Self::Min,
            "corr" => Self::Correlation,
            "var" | "var_pop" | "stddev" | "stddev_pop" | "covar_pop" | "covar_samp" => Self::Frames,
            "regr_r2" => Self::Determination,
            "bit_and" | "bit_or" | "bool_and" | "bool_or" => Self::FramesOfAny,
            "string_agg" => Self::Texts,
            "percentile_cont" => Self::Percentile,
            name if name.starts_with("regr_") => Self::Frames,
            _ => return None,
        })
    }
}

/// The functions, under the names of those that they replace.
pub(super) fn functions() -> Vec<Arc<AggregateUDF>> {
    static FUNCTIONS: LazyLock<Vec<Arc<AggregateUDF>>> = LazyLock::new(|| {
        let functions = SessionStateDefaults::default_aggregate_functions().into_iter().filter_map(|function| {
            let otherwise = Otherwise::of(function.name())?;
            Some(Instead::of(function, otherwise))
        });
        functions.collect()
    });
    FUNCTIONS.clone()
}

/// Replaces DataFusion's functions that its own rules insert, such as max() for `x > ALL (subquery)`.
#[derive(Debug)]
pub(crate) struct OurAggregates;

impl OptimizerRule for OurAggregates {
    fn name(&self) -> &str {
        "our_aggregates"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !matches!(plan, LogicalPlan::Aggregate(_)) {
            return Ok(Transformed::no(plan));
        }
        plan.map_expressions(|expr| {
            expr.transform_up(|expr| match expr {
                Expr::AggregateFunction(AggregateFunction { func, params })
                    if !func.inner().is::<Instead>() && Otherwise::of(func.name()).is_some() =>
                {
                    let ours = functions().into_iter().find(|ours| ours.name() == func.name());
                    let func = ours.unwrap_or(func);
                    Ok(Transformed::yes(Expr::AggregateFunction(AggregateFunction { func, params })))
                }
                expr => Ok(Transformed::no(expr)),
            })
        })
    }
}

/// The function that plans call `max`.
pub(super) fn max_function() -> Arc<AggregateUDF> {
    static FUNCTION: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| Instead::of(max_udaf(), Otherwise::Max));
    Arc::clone(&FUNCTION)
}

fn min_function() -> Arc<AggregateUDF> {
    static FUNCTION: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| Instead::of(min_udaf(), Otherwise::Min));
    Arc::clone(&FUNCTION)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Instead {
    function: Arc<AggregateUDF>,
    aliases: Vec<String>,
    otherwise: Otherwise,
}

impl Instead {
    fn of(function: Arc<AggregateUDF>, otherwise: Otherwise) -> Arc<AggregateUDF> {
        let mut aliases = function.aliases().to_vec();
        if function.name() == "bool_and" {
            aliases.push("every".to_string());
        }
        Arc::new(AggregateUDF::from(Self { function, aliases, otherwise }))
    }
}

impl AggregateUDFImpl for Instead {
    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.otherwise != Otherwise::Correlation && self.function.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let of = args.return_field.data_type();
        Ok(match (self.otherwise, of) {
            (Otherwise::Max, DataType::Float16) => max::<Float16Type>(of, Float16::NEG_INFINITY, Float16::is_nan),
            (Otherwise::Max, DataType::Float32) => max::<Float32Type>(of, f32::NEG_INFINITY, f32::is_nan),
            (Otherwise::Max, DataType::Float64) => max::<Float64Type>(of, f64::NEG_INFINITY, f64::is_nan),
            (Otherwise::Min, DataType::Float16) => min::<Float16Type>(of, Float16::NAN, Float16::is_nan),
            (Otherwise::Min, DataType::Float32) => min::<Float32Type>(of, f32::NAN, f32::is_nan),
            (Otherwise::Min, DataType::Float64) => min::<Float64Type>(of, f64::NAN, f64::is_nan),
            _ => self.function.create_groups_accumulator(args)?,
        })
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match self.otherwise {
            Otherwise::Frames | Otherwise::Texts | Otherwise::Correlation | Otherwise::Determination
                if !args.is_distinct =>
            {
                let function = match self.otherwise {
                    Otherwise::Frames | Otherwise::Texts => Arc::clone(&self.function),
                    otherwise => Instead::of(Arc::clone(&self.function), otherwise),
                };
                Ok(Box::new(States::of(&function, &args)))
            }
            Otherwise::FramesOfAny => Ok(Box::new(States::of(&self.function, &args))),
            _ => self.function.create_sliding_accumulator(args),
        }
    }

    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.function.schema_name(params)
    }

    fn human_display(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.function.human_display(params)
    }

    fn window_function_schema_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.function.window_function_schema_name(params)
    }

    fn display_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.function.display_name(params)
    }

    fn window_function_display_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.function.window_function_display_name(params)
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.function.return_type(types)
    }

    fn return_field(&self, fields: &[FieldRef]) -> Result<FieldRef> {
        self.function.return_field(fields)
    }

    fn is_nullable(&self) -> bool {
        self.function.is_nullable()
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let of = self.function.accumulator(args)?;
        Ok(match self.otherwise {
            Otherwise::Correlation | Otherwise::Determination => {
                Box::new(Related { of, determination: self.otherwise == Otherwise::Determination })
            }
            _ => of,
        })
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.function.state_fields(args)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        match self.otherwise {
            Otherwise::Texts => AggregateOrderSensitivity::SoftRequirement,
            _ => self.function.order_sensitivity(),
        }
    }

    /// None of these functions relies on the order of its input.
    fn with_beneficial_ordering(self: Arc<Self>, _: bool) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        Ok(Some(self))
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        let simplify = self.function.simplify()?;
        if self.otherwise != Otherwise::Percentile {
            return Some(simplify);
        }
        Some(Box::new(move |call, context| {
            Ok(match simplify(call, context)? {
                Expr::AggregateFunction(AggregateFunction { func, params }) => {
                    let func = match func.name() {
                        "max" => max_function(),
                        "min" => min_function(),
                        _ => func,
                    };
                    Expr::AggregateFunction(AggregateFunction { func, params })
                }
                simple => simple,
            })
        }))
    }

    fn simplify_expr_op_literal(
        &self,
        function: &AggregateFunction,
        arg: &Expr,
        op: Operator,
        literal: &Expr,
        arg_is_left: bool,
    ) -> Result<Option<Expr>> {
        self.function.simplify_expr_op_literal(function, arg, op, literal, arg_is_left)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        match self.function.reverse_udf() {
            ReversedUDAF::Reversed(function) => ReversedUDAF::Reversed(Self::of(function, self.otherwise)),
            other => other,
        }
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.function.coerce_types(types)
    }

    fn is_descending(&self) -> Option<bool> {
        self.function.is_descending()
    }

    fn value_from_stats(&self, statistics: &StatisticsArgs) -> Option<ScalarValue> {
        self.function.value_from_stats(statistics)
    }

    fn default_value(&self, of: &DataType) -> Result<ScalarValue> {
        self.function.default_value(of)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.function.supports_null_handling_clause()
    }

    fn supports_within_group_clause(&self) -> bool {
        self.function.supports_within_group_clause()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.function.documentation()
    }

    fn set_monotonicity(&self, of: &DataType) -> SetMonotonicity {
        self.function.inner().set_monotonicity(of)
    }
}

/// corr or regr_r2 of values for which DataFusion returns NULL.
#[derive(Debug)]
struct Related {
    of: Box<dyn Accumulator>,
    determination: bool,
}

impl Related {
    /// The sums of the squared distances from the average, for both arguments: the first and second of corr, x and y of regr_r2.
    fn squares(&mut self) -> Result<[f64; 2]> {
        let places = if self.determination { [3, 4] } else { [2, 4] };
        let state = self.of.state()?;
        let square = |place: usize| match state.get(place) {
            Some(ScalarValue::Float64(Some(square))) => Ok(*square),
            other => internal_err!("the state of an aggregate has {other:?} in the place of a sum of squares"),
        };
        Ok([square(places[0])?, square(places[1])?])
    }
}

impl Accumulator for Related {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.of.update_batch(values)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let [first, second] = self.squares()?;
        let other = match self.determination {
            true if first != 0.0 && second == 0.0 => 1.0,
            _ if (first.is_nan() && second != 0.0) || (second.is_nan() && first != 0.0) => f64::NAN,
            _ => return self.of.evaluate(),
        };
        Ok(ScalarValue::Float64(Some(other)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.of.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.of.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.of.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.of.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        self.of.supports_retract_batch()
    }
}

fn max<T: ArrowPrimitiveType + Send>(
    of: &DataType,
    least: T::Native,
    is_nan: fn(T::Native) -> bool,
) -> Box<dyn GroupsAccumulator>
where
    T::Native: PartialOrd,
{
    let take = move |max: &mut T::Native, value: T::Native| {
        if value > *max || is_nan(value) {
            *max = value;
        }
    };
    Box::new(PrimitiveGroupsAccumulator::<T, _>::new(of, take).with_starting_value(least))
}

/// Starts from NaN, which is above all numbers.
fn min<T: ArrowPrimitiveType + Send>(
    of: &DataType,
    greatest: T::Native,
    is_nan: fn(T::Native) -> bool,
) -> Box<dyn GroupsAccumulator>
where
    T::Native: PartialOrd,
{
    let take = move |min: &mut T::Native, value: T::Native| {
        if value < *min || is_nan(*min) {
            *min = value;
        }
    };
    Box::new(PrimitiveGroupsAccumulator::<T, _>::new(of, take).with_starting_value(greatest))
}

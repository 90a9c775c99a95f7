//! Bounds on values that are much larger than the call that makes them, such as `range(0, 300000000)` and `repeat('x', 1000000000)`.
//!
//! A few letters of a statement can make a value of any size, in one allocation that no operator's account knows of. So such functions compute the size of
//! their value from their arguments, and make no value larger
//!
//! - than [`LIMIT`] on a planning thread, where DataFusion computes constants: the optimizer leaves the expression unchanged, for a task;
//! - than the share that [`bound_values`] gives to a task;
//! - for a text, than [`LONGEST_TEXT`].

use crate::interrupt;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{cast, kernels::length::length};
use arrow::datatypes::{
    DataType, FieldRef, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use datafusion::common::{ExprSchema, Result, ScalarValue, exec_err, resources_err};
use datafusion::config::ConfigOptions;
use datafusion::execution::memory_pool::human_readable_size;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ExpressionPlacement, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, StructFieldMapping,
};
use regex::Regex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Maximum bytes of a constant that is computed during planning.
const LIMIT: u64 = 1 << 20;

/// Maximum bytes of a text made from a given length, as in PostgreSQL.
const LONGEST_TEXT: u64 = (1 << 30) - 1;

/// Divisor of the memory of all tasks: the largest part that the values of one call may take. The call's arguments and the consumers of its result need
/// memory too.
const PART: u64 = 4;

/// Maximum bytes that the values of one call, for all rows of a batch, may take in a task of this process.
static OF_TASKS: AtomicU64 = AtomicU64::new(u64::MAX);

/// Bounds values by the memory that tasks of this process share, in bytes. With several executors in a process the smallest memory counts.
pub fn bound_values(memory: u64) {
    OF_TASKS.fetch_min(memory / PART, Ordering::Relaxed);
}

/// The function, with a bound if a short call of it can make a large value.
pub(crate) fn bounded(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    match expands(&function) {
        Some(_) => Arc::new(ScalarUDF::new_from_impl(Bounded(function))),
        None => function,
    }
}

/// How the size of a function's value depends on its arguments.
#[derive(Clone, Copy)]
enum Expands {
    /// Numbers or times from the first argument to the second.
    Series,
    /// Copies of the first argument; the second is their number.
    Copies,
    /// Letters or elements; this argument is their number.
    Length(usize),
    /// A text in place of each occurrence of another.
    Replaces,
    /// A text in place of each match of a pattern.
    ReplacesMatches,
}

fn expands(function: &ScalarUDF) -> Option<Expands> {
    match function.name() {
        "range" | "generate_series" | "sequence" => Some(Expands::Series),
        "repeat" | "array_repeat" => Some(Expands::Copies),
        "lpad" | "rpad" | "array_resize" => Some(Expands::Length(1)),
        "space" => Some(Expands::Length(0)),
        "replace" => Some(Expands::Replaces),
        "regexp_replace" => Some(Expands::ReplacesMatches),
        _ => None,
    }
}

impl Expands {
    /// Approximate bytes of the values of all rows; more exact when they seem to exceed `limit`.
    fn bytes(self, args: &[ColumnarValue], rows: usize, limit: u64) -> u64 {
        let rows = rows_made(args, rows);
        let of = |index: usize, read: fn(&ColumnarValue) -> PerRow| args.get(index).map_or(PerRow::Same(0), read);
        let sum = |of_row: &dyn Fn(usize) -> u64| (0..rows).map(of_row).fold(0, u64::saturating_add);
        match self {
            Expands::Series => {
                let bounds: Vec<PerRow> = args.iter().map(numbers).collect();
                let unknown = |row| args.iter().any(|bound| is_null(bound, row));
                sum(&|row| if unknown(row) { 0 } else { steps(&bounds, row).saturating_mul(8) })
            }
            Expands::Copies => {
                let (sizes, copies) = (of(0, sizes), of(1, numbers));
                sum(&|row| positive(sizes.at(row)).saturating_mul(positive(copies.at(row))))
            }
            Expands::Length(index) => {
                let lengths = of(index, numbers);
                sum(&|row| positive(lengths.at(row)).saturating_mul(4))
            }
            Expands::Replaces | Expands::ReplacesMatches => {
                let (sizes, new) = (of(0, sizes), of(2, sizes));
                // An empty pattern matches before each letter and at the end.
                let most = sum(&|row| (positive(sizes.at(row)) + 1).saturating_mul(positive(new.at(row))));
                if most <= limit {
                    return most;
                }
                let places = places(args, self);
                sum(&|row| {
                    let places = places.as_ref().map_or(0, |places| places[row.min(places.len() - 1)]);
                    places.saturating_mul(positive(new.at(row))).saturating_add(positive(sizes.at(row)))
                })
            }
        }
    }
}

impl Expands {
    /// Letters of the longest text that a length or a number of copies makes.
    fn longest(self, args: &[ColumnarValue], rows: usize) -> u64 {
        let [text, number, ..] = args else { return 0 };
        let (sizes, numbers) = (sizes(text), numbers(number));
        let of_row = |row: usize| match self {
            Expands::Copies => positive(sizes.at(row)).saturating_mul(positive(numbers.at(row))),
            Expands::Length(_) => positive(numbers.at(row)),
            _ => 0,
        };
        (0..rows_made(args, rows)).map(of_row).max().unwrap_or(0)
    }
}

/// Number of rows for which values are made: 1 if all arguments are constants.
fn rows_made(args: &[ColumnarValue], rows: usize) -> usize {
    if args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) { 1 } else { rows }
}

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// One number per row.
enum PerRow {
    Same(i64),
    Each(Vec<i64>),
}

impl PerRow {
    fn at(&self, row: usize) -> i64 {
        match self {
            PerRow::Same(number) => *number,
            PerRow::Each(numbers) => numbers.get(row).copied().unwrap_or(0),
        }
    }
}

fn is_null(value: &ColumnarValue, row: usize) -> bool {
    match value {
        ColumnarValue::Scalar(scalar) => scalar.is_null(),
        ColumnarValue::Array(array) => array.is_null(row),
    }
}

fn positive(number: i64) -> u64 {
    number.max(0).unsigned_abs()
}

/// The numbers of an argument; intervals in microseconds. 0 for NULL and for other types.
fn numbers(value: &ColumnarValue) -> PerRow {
    let of = value.data_type();
    let numbers = |array: &ArrayRef| -> Result<Vec<i64>> {
        let array = match &of {
            DataType::Interval(_) => {
                let all = cast(array, &DataType::Interval(IntervalUnit::MonthDayNano))?;
                let micros = |value: IntervalMonthDayNano| {
                    (i64::from(value.months) * 30 + i64::from(value.days)) * MICROS_PER_DAY + value.nanoseconds / 1_000
                };
                let all = all.as_primitive::<IntervalMonthDayNanoType>();
                return Ok(all.iter().map(|value| value.map_or(0, micros)).collect());
            }
            of if of.is_numeric() => cast(array, &DataType::Int64)?,
            _ => cast(&cast(array, &DataType::Timestamp(TimeUnit::Microsecond, None))?, &DataType::Int64)?,
        };
        Ok(array.as_primitive::<Int64Type>().iter().map(Option::unwrap_or_default).collect())
    };
    match value {
        ColumnarValue::Scalar(scalar) => {
            let one = scalar.to_array().and_then(|array| numbers(&array));
            PerRow::Same(one.ok().and_then(|numbers| numbers.first().copied()).unwrap_or(0))
        }
        ColumnarValue::Array(array) => numbers(array).map_or(PerRow::Same(0), PerRow::Each),
    }
}

/// Bytes of an argument in each row: exact for texts, an average for others.
fn sizes(value: &ColumnarValue) -> PerRow {
    let whole = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
    match value {
        ColumnarValue::Scalar(scalar) => match scalar.try_as_str() {
            Some(text) => PerRow::Same(whole(text.map_or(0, str::len))),
            None => PerRow::Same(whole(scalar.size())),
        },
        ColumnarValue::Array(array) => match array.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => match length(array) {
                Ok(lengths) => numbers(&ColumnarValue::Array(lengths)),
                Err(_) => PerRow::Same(0),
            },
            _ => PerRow::Same(whole(array.get_array_memory_size() / array.len().max(1))),
        },
    }
}

/// Number of occurrences of the second argument in the first, for each row. `None` where the second is no constant.
fn places(args: &[ColumnarValue], how: Expands) -> Option<Vec<u64>> {
    let ColumnarValue::Scalar(old) = args.get(1)? else { return None };
    let old = old.try_as_str()??;
    let all = match args.get(3) {
        Some(ColumnarValue::Scalar(flags)) => flags.try_as_str()?.is_some_and(|flags| flags.contains('g')),
        _ => false,
    };
    let pattern = match how {
        Expands::ReplacesMatches => Some(Regex::new(old).ok()?),
        _ => None,
    };
    let count = |text: Option<&str>| match (text, &pattern) {
        (None, _) => 0,
        (Some(text), None) => text.matches(old).count() as u64,
        (Some(text), Some(pattern)) if all => pattern.find_iter(text).count() as u64,
        (Some(_), Some(_)) => 1,
    };
    match args.first()? {
        ColumnarValue::Scalar(text) => Some(vec![count(text.try_as_str()?)]),
        ColumnarValue::Array(texts) => match texts.data_type() {
            DataType::Utf8 => Some(texts.as_string::<i32>().iter().map(count).collect()),
            DataType::LargeUtf8 => Some(texts.as_string::<i64>().iter().map(count).collect()),
            DataType::Utf8View => Some(texts.as_string_view().iter().map(count).collect()),
            _ => None,
        },
    }
    .filter(|counts| !counts.is_empty())
}

/// Elements of a series in a row.
fn steps(bounds: &[PerRow], row: usize) -> u64 {
    let at = |index: usize| bounds[index].at(row);
    match bounds.len() {
        1 => at(0).unsigned_abs(),
        2 => at(1).abs_diff(at(0)),
        3 => at(1).abs_diff(at(0)) / at(2).unsigned_abs().max(1),
        _ => 0,
    }
}

/// A function that makes no value larger than its bound.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded(Arc<ScalarUDF>);

impl Bounded {
    fn inner(&self) -> &dyn ScalarUDFImpl {
        self.0.inner().as_ref()
    }
}

// Delegates everything asked of a function, so that it is planned as without the bound.
#[warn(clippy::missing_trait_methods)]
impl ScalarUDFImpl for Bounded {
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let planning = interrupt::is_planning();
        let limit = if planning { LIMIT } else { OF_TASKS.load(Ordering::Relaxed) };
        if let Some(expands) = expands(&self.0) {
            let bytes = expands.bytes(&args.args, args.number_rows, limit);
            if bytes > limit && planning {
                return resources_err!(
                    "{} makes a value of more than {} bytes, which is not computed where statements are planned, as rows of VALUES and \
                     queries of the catalog are: write SELECT in the place of VALUES",
                    self.name(),
                    LIMIT
                );
            }
            if bytes > LONGEST_TEXT && matches!(self.name(), "lpad" | "rpad" | "repeat") {
                let longest = expands.longest(&args.args, args.number_rows);
                if longest > LONGEST_TEXT {
                    return exec_err!(
                        "{}() would make a text of {longest} bytes, and a text has at most {LONGEST_TEXT}: ask for a shorter one",
                        self.name()
                    );
                }
            }
            if bytes > limit {
                return exec_err!(
                    "{} would make values of {} at once, and a task may make {}, a quarter of its executor's memory: \
                     give executors more of it (executor.memory), make less, or have batches of fewer rows \
                     (SET datafusion.execution.batch_size)",
                    self.name(),
                    human_readable_size(usize::try_from(bytes).unwrap_or(usize::MAX)),
                    human_readable_size(limit as usize)
                );
            }
        }
        self.inner().invoke_with_args(args)
    }

    fn name(&self) -> &str {
        self.inner().name()
    }

    fn aliases(&self) -> &[String] {
        self.inner().aliases()
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        #[expect(deprecated, reason = "whatever the function says of itself")]
        self.inner().display_name(args)
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner().schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner().signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner().return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner().return_field_from_args(args)
    }

    fn is_nullable(&self, args: &[Expr], schema: &dyn ExprSchema) -> bool {
        #[expect(deprecated, reason = "whatever the function says of itself")]
        self.inner().is_nullable(args, schema)
    }

    fn is_strict(&self) -> bool {
        self.inner().is_strict()
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let updated = self.inner().with_updated_config(config)?;
        Some(ScalarUDF::new_from_impl(Self(Arc::new(updated))))
    }

    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner().simplify(args, context)
    }

    fn preimage(&self, args: &[Expr], literal: &Expr, context: &SimplifyContext) -> Result<PreimageResult> {
        self.inner().preimage(args, literal, context)
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner().conditional_arguments(args)
    }

    fn short_circuits(&self) -> bool {
        self.inner().short_circuits()
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        self.inner().evaluate_bounds(input)
    }

    fn propagate_constraints(&self, interval: &Interval, inputs: &[&Interval]) -> Result<Option<Vec<Interval>>> {
        self.inner().propagate_constraints(interval, inputs)
    }

    fn struct_field_mapping(&self, literal_args: &[Option<ScalarValue>]) -> Option<StructFieldMapping> {
        self.inner().struct_field_mapping(literal_args)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner().output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner().preserves_lex_ordering(inputs)
    }

    fn strictly_order_preserving(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner().strictly_order_preserving(inputs)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner().coerce_types(arg_types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner().documentation()
    }

    fn placement(&self, args: &[ExpressionPlacement]) -> ExpressionPlacement {
        self.inner().placement(args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};

    fn text(value: &str) -> ColumnarValue {
        ColumnarValue::Scalar(ScalarValue::from(value))
    }

    fn number(value: i64) -> ColumnarValue {
        ColumnarValue::Scalar(ScalarValue::from(value))
    }

    #[test]
    fn sizes_are_summed_over_rows() {
        let texts = ColumnarValue::Array(Arc::new(StringArray::from(vec![Some("ab"), None, Some("c")])));
        let times = ColumnarValue::Array(Arc::new(Int64Array::from(vec![10, 1_000_000, -1])));
        assert_eq!(Expands::Copies.bytes(&[texts.clone(), times.clone()], 3, 0), 20);
        assert_eq!(Expands::Copies.bytes(&[texts.clone(), number(5)], 3, 0), 15);
        assert_eq!(Expands::Copies.bytes(&[text("abc"), number(5)], 8_192, 0), 15, "constants are computed once");
        assert_eq!(Expands::Series.bytes(&[number(0), times], 3, 0), 8 * 1_000_011);
        assert_eq!(Expands::Length(1).bytes(&[texts, number(100)], 3, 0), 1_200);
    }

    #[test]
    fn series_of_times_are_counted() {
        let day = |days| ColumnarValue::Scalar(ScalarValue::Date32(Some(days)));
        let step = ColumnarValue::Scalar(ScalarValue::new_interval_mdn(0, 0, 1_000_000_000));
        assert_eq!(Expands::Series.bytes(&[day(0), day(10), step], 1, 0), 8 * 864_000);
    }

    #[test]
    fn replacements_are_counted_when_many_would_be_too_large() {
        let texts = ColumnarValue::Array(Arc::new(StringArray::from(vec!["a.b.c"; 1_000])));
        let args = [texts, text("."), text("12345")];
        assert_eq!(Expands::Replaces.bytes(&args, 1_000, 30_000), 30_000, "that is the most");
        assert_eq!(Expands::Replaces.bytes(&args, 1_000, 29_999), 15_000);
        assert_eq!(Expands::ReplacesMatches.bytes(&args, 1_000, 0), 10_000, "the first only");
        let [of, old, new] = args;
        assert_eq!(Expands::ReplacesMatches.bytes(&[of, old, new, text("g")], 1_000, 0), 30_000);
    }
}

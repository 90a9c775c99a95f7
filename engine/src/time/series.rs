//! `range` and `generate_series` of instants whose steps have days or months.
//!
//! DataFusion ends the series at a step to an hour that the zone's clock skips or shows twice. Here each step is `instant + interval`.

use super::cast::{cast_time, is_utc};
use super::interval::one;
use super::zone::Zone;
use arrow::array::builder::{ListBuilder, TimestampNanosecondBuilder};
use arrow::array::types::{IntervalMonthDayNanoType, TimestampNanosecondType};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::catalog::{TableFunction, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::datasource::ViewTable;
use datafusion::functions_nested::range::{gen_series_udf, range_udf};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use std::sync::Arc;

pub(super) fn functions() -> [Arc<ScalarUDF>; 2] {
    [false, true].map(|includes_end| Arc::new(Series::new(includes_end).into()))
}

/// `functions`, with those that make series extended to instants.
pub(crate) fn table_functions(functions: Vec<Arc<TableFunction>>) -> Vec<Arc<TableFunction>> {
    let zoned = functions.into_iter().map(|function| {
        let includes_end = match function.name() {
            "generate_series" => true,
            "range" => false,
            _ => return function,
        };
        let name = function.name().to_string();
        Arc::new(TableFunction::new(name, Arc::new(SeriesTable { includes_end, datafusion: function })))
    });
    zoned.collect()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Series {
    includes_end: bool,
    datafusion: Arc<ScalarUDF>,
}

impl Series {
    fn new(includes_end: bool) -> Self {
        Self { includes_end, datafusion: if includes_end { gen_series_udf() } else { range_udf() } }
    }
}

impl ScalarUDFImpl for Series {
    fn name(&self) -> &str {
        self.datafusion.name()
    }

    fn aliases(&self) -> &[String] {
        self.datafusion.aliases()
    }

    fn signature(&self) -> &Signature {
        self.datafusion.signature()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.datafusion.documentation()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.datafusion.return_type(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let zone = args.args.first().and_then(|start| zone_of(&start.data_type()));
        let (Some(zone), [_, _, _]) = (zone, args.args.as_slice()) else {
            return self.datafusion.inner().invoke_with_args(in_nanoseconds(args)?);
        };
        let all_scalars = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let lists = series(&arrays, &zone, self.includes_end)?;
        Ok(match all_scalars {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&lists, 0)?),
            false => ColumnarValue::Array(lists),
        })
    }
}

/// Casts arguments to nanoseconds. DataFusion makes series of timestamps in nanoseconds, and NULL outside their range.
fn in_nanoseconds(mut args: ScalarFunctionArgs) -> Result<ScalarFunctionArgs> {
    for bound in args.args.iter_mut().take(2) {
        let to = match bound.data_type() {
            DataType::Timestamp(unit, zone) if unit != TimeUnit::Nanosecond => {
                DataType::Timestamp(TimeUnit::Nanosecond, zone)
            }
            _ => continue,
        };
        let array = cast_time(&bound.to_array(1)?, &to, false)?;
        *bound = match bound {
            ColumnarValue::Scalar(_) => ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?),
            ColumnarValue::Array(_) => ColumnarValue::Array(array),
        };
    }
    Ok(args)
}

/// The zone of a type of instants, if its clock may change.
fn zone_of(of: &DataType) -> Option<Arc<str>> {
    match of {
        DataType::Timestamp(_, Some(zone)) if !is_utc(zone) => Some(Arc::clone(zone)),
        _ => None,
    }
}

fn series(args: &[ArrayRef], zone: &Arc<str>, includes_end: bool) -> Result<ArrayRef> {
    let to = DataType::Timestamp(TimeUnit::Nanosecond, Some(Arc::clone(zone)));
    let nanos = |array: &ArrayRef| -> Result<ArrayRef> {
        Ok(match array.data_type() {
            of if *of == to => Arc::clone(array),
            DataType::Timestamp(..) => cast_time(array, &to, false)?,
            _ => cast(array, &to)?,
        })
    };
    let (starts, ends) = (nanos(&args[0])?, nanos(&args[1])?);
    let steps = cast(&args[2], &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let starts = starts.as_primitive::<TimestampNanosecondType>();
    let ends = ends.as_primitive::<TimestampNanosecondType>();
    let steps = steps.as_primitive::<IntervalMonthDayNanoType>();
    let parsed: Zone = zone.parse()?;
    let mut lists = ListBuilder::new(TimestampNanosecondBuilder::new().with_timezone(Arc::clone(zone)));
    for ((start, end), step) in starts.iter().zip(ends.iter()).zip(steps.iter()) {
        let (Some(start), Some(end), Some(step)) = (start, end, step) else {
            lists.append_null();
            continue;
        };
        let next = |from: i64| one(from, TimeUnit::Nanosecond, parsed, step, false);
        let ascends = match next(start)? {
            second if second == start => return exec_err!("a series takes a step that is not 0"),
            second => second > start,
        };
        let mut at = start;
        while if ascends { at < end } else { at > end } || includes_end && at == end {
            lists.values().append_value(at);
            at = match next(at)? {
                after if after > at || !ascends && after < at => after,
                _ => return exec_err!("a step of a series goes back"),
            };
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

#[derive(Debug)]
struct SeriesTable {
    includes_end: bool,
    datafusion: Arc<TableFunction>,
}

impl TableFunctionImpl for SeriesTable {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let is_calendar = |step: &Expr| match step {
            Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(step)), _) => step.months != 0 || step.days != 0,
            _ => false,
        };
        let of_instants = match args.exprs() {
            [Expr::Literal(start, _), _, step] => zone_of(&start.data_type()).is_some() && is_calendar(step),
            _ => false,
        };
        if !of_instants {
            return self.datafusion.function().call_with_args(args);
        }
        let function: Arc<ScalarUDF> = Arc::new(Series::new(self.includes_end).into());
        let list = function.call(args.exprs().to_vec()).alias("value");
        let plan = LogicalPlanBuilder::empty(true).project([list])?.unnest_column("value")?.build()?;
        Ok(Arc::new(ViewTable::new(plan, None)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{IntervalMonthDayNanoArray, StringArray};
    use arrow::datatypes::IntervalMonthDayNano;
    use arrow::util::display::array_value_to_string;

    fn of(start: &str, end: &str, step: (i32, i32, i64), includes_end: bool) -> String {
        let zone: Arc<str> = "America/New_York".into();
        let to = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::clone(&zone)));
        let instant =
            |text: &str| cast_time(&(Arc::new(StringArray::from(vec![text])) as ArrayRef), &to, false).unwrap();
        let step = IntervalMonthDayNano::new(step.0, step.1, step.2);
        let step: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from(vec![step]));
        match series(&[instant(start), instant(end), step], &zone, includes_end) {
            Ok(lists) => array_value_to_string(&lists, 0).unwrap(),
            Err(error) => error.strip_backtrace(),
        }
    }

    #[test]
    fn days_go_through_a_doubled_hour() {
        assert_eq!(
            of("2024-11-02 01:30", "2024-11-04 01:30", (0, 1, 0), true),
            "[2024-11-02T01:30:00-04:00, 2024-11-03T01:30:00-05:00, 2024-11-04T01:30:00-05:00]"
        );
        assert_eq!(
            of("2024-11-04 01:30", "2024-11-02 01:30", (0, -1, 0), false),
            "[2024-11-04T01:30:00-05:00, 2024-11-03T01:30:00-05:00]"
        );
        assert_eq!(of("2024-11-04 01:30", "2024-11-02 01:30", (0, 1, 0), true), "[]");
        assert!(of("2024-11-04 01:30", "2024-11-02 01:30", (0, 0, 0), true).contains("not 0"));
    }
}

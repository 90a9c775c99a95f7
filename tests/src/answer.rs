//! Decides whether a result is a right answer to a query.
//!
//! SQL leaves some things open: the order of rows without ORDER BY, the order of tied rows, and which of the tied rows a LIMIT keeps. So the reference runs the
//! query without its outermost LIMIT and with its sort keys beside each row, and the rows form groups of equal keys, in order. A result is right when the rows
//! at the positions of a group are rows of that group, each used once. That checks values, multiplicities, order and LIMIT together, and accepts everything
//! that SQL allows.
//!
//! Values are compared exactly, except floating point numbers, whose sums depend on the order of addition.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::{SortColumn, SortOptions, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::dataframe::DataFrame;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    Expr, FetchType, Limit, LogicalPlan, LogicalPlanBuilder, Projection, SkipType, SortExpr,
};
use datafusion::prelude::SessionContext;

/// Maximum difference of two equal floating point numbers, relative to the larger one (absolute below 1).
const DOUBLE_TOLERANCE: f64 = 1e-9;
const SINGLE_TOLERANCE: f64 = 1e-5;

/// Every right answer to a query.
#[derive(Debug)]
pub struct Answer {
    schema: SchemaRef,
    /// Rows without the outermost LIMIT and OFFSET, in the order of the keys.
    rows: Vec<Row>,
    /// Start of each group of equal keys in `rows`.
    groups: Vec<usize>,
    skip: usize,
    fetch: usize,
}

impl Answer {
    /// Asks DataFusion in this process for the answer.
    pub async fn to(query: &str, reference: &SessionContext) -> Result<Self> {
        let state = reference.state();
        let plan = state.create_logical_plan(query).await?;
        let schema = state.create_physical_plan(&plan).await?.schema();
        let Shape { unlimited, keys, skip, fetch } = Shape::of(plan)?;

        let batches = DataFrame::new(state, unlimited).collect().await?;
        let width = schema.fields().len();
        let batches = sorted(&batches, width, &keys)?;
        let all = rows(&batches, 0..width)?;
        let keys = rows(&batches, width..width + keys.len())?;
        let starts = |&at: &usize| at == 0 || !keys[at - 1].matches(&keys[at]);
        let groups = (0..all.len()).filter(starts).collect();
        Ok(Self { schema, rows: all, groups, skip, fetch })
    }

    /// Number of rows of a right answer.
    pub fn len(&self) -> usize {
        self.rows.len().saturating_sub(self.skip).min(self.fetch)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks a result; the error says what is wrong with it.
    pub fn check(&self, schema: &SchemaRef, batches: &[RecordBatch]) -> std::result::Result<(), String> {
        let columns = |schema: &SchemaRef| {
            schema
                .fields()
                .iter()
                .map(|f| format!("{} {}", f.name(), text_or(f.data_type())))
                .collect::<Vec<_>>()
                .join(", ")
        };
        if columns(schema) != columns(&self.schema) {
            return Err(format!("columns ({}) instead of ({})", columns(schema), columns(&self.schema)));
        }
        if let Some(batch) = batches.iter().find(|batch| columns(&batch.schema()) != columns(schema)) {
            return Err(format!("a batch of ({}) in a result of ({})", columns(&batch.schema()), columns(schema)));
        }
        let actual = rows(batches, 0..schema.fields().len()).map_err(|error| error.to_string())?;
        if actual.len() != self.len() {
            return Err(format!("{} rows instead of {}", actual.len(), self.len()));
        }
        let ends = self.groups.iter().skip(1).copied().chain([self.rows.len()]);
        for (start, end) in self.groups.iter().copied().zip(ends) {
            let place = |at: usize| at.saturating_sub(self.skip).min(actual.len());
            let mut group = Group::new(&self.rows[start..end]);
            for at in place(start)..place(end) {
                group.take(&actual[at]).map_err(|left| format!("row {}: {}\n{left}", at + 1, actual[at]))?;
            }
        }
        Ok(())
    }
}

/// Maps all kinds of text to one: columns in the names of folders are dictionaries to DataFusion, and plain text to Windlass. Beside long text a dictionary
/// becomes long text, and plain text does not.
fn text_or(kind: &DataType) -> DataType {
    match kind {
        DataType::Dictionary(_, values) => text_or(values),
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        other => other.clone(),
    }
}

/// The parts of a query: its rows with their sort keys as more columns, and the range that the outermost LIMIT keeps.
struct Shape {
    unlimited: LogicalPlan,
    /// The direction of each key.
    keys: Vec<SortOptions>,
    skip: usize,
    fetch: usize,
}

impl Shape {
    fn of(plan: LogicalPlan) -> Result<Self> {
        let (skip, fetch, plan) = match plan {
            LogicalPlan::Limit(limit) => {
                let (skip, fetch) = bounds(&limit)?;
                (skip, fetch, (*limit.input).clone())
            }
            plan => (0, usize::MAX, plan),
        };
        // Keys that are not selected lie below a projection that drops them.
        let (selected, sort) = match plan {
            LogicalPlan::Projection(Projection { expr, input, .. }) if matches!(*input, LogicalPlan::Sort(_)) => {
                (Some(expr), (*input).clone())
            }
            plan => (None, plan),
        };
        let LogicalPlan::Sort(ordering) = &sort else {
            return Ok(Self { unlimited: sort, keys: Vec::new(), skip, fetch });
        };
        let selected = selected.unwrap_or_else(|| sort.schema().columns().into_iter().map(Expr::Column).collect());
        let key = |(at, key): (usize, &SortExpr)| key.expr.clone().alias(format!("__key{at}"));
        let keys: Vec<Expr> = ordering.expr.iter().enumerate().map(key).collect();
        let direction = |key: &SortExpr| SortOptions { descending: !key.asc, nulls_first: key.nulls_first };
        let directions = ordering.expr.iter().map(direction).collect();
        let unlimited = LogicalPlanBuilder::from(sort.clone()).project(selected.into_iter().chain(keys))?.build()?;
        Ok(Self { unlimited, keys: directions, skip, fetch })
    }
}

/// The rows in the order of their keys, which follow `width` other columns. DataFusion leaves out sorts by columns that it takes for constant, as some on the
/// side of an outer join are not.
fn sorted(batches: &[RecordBatch], width: usize, keys: &[SortOptions]) -> Result<Vec<RecordBatch>> {
    let (Some(first), false) = (batches.first(), keys.is_empty()) else { return Ok(batches.to_vec()) };
    let all = concat_batches(&first.schema(), batches)?;
    let key = |(at, options): (usize, &SortOptions)| SortColumn {
        values: Arc::clone(all.column(width + at)),
        options: Some(*options),
    };
    let keys: Vec<SortColumn> = keys.iter().enumerate().map(key).collect();
    Ok(vec![take_record_batch(&all, &lexsort_to_indices(&keys, None)?)?])
}

fn bounds(limit: &Limit) -> Result<(usize, usize)> {
    let skip = match limit.get_skip_type()? {
        SkipType::Literal(skip) => skip,
        SkipType::UnsupportedExpr => return Err(DataFusionError::Plan("an OFFSET that is no number".into())),
    };
    let fetch = match limit.get_fetch_type()? {
        FetchType::Literal(fetch) => fetch.unwrap_or(usize::MAX),
        FetchType::UnsupportedExpr => return Err(DataFusionError::Plan("a LIMIT that is no number".into())),
    };
    Ok((skip, fetch))
}

/// A row, split into values that must be equal and values that must be close.
#[derive(Debug, Clone)]
struct Row {
    exact: String,
    floats: Vec<(f64, f64)>,
}

impl Row {
    fn matches(&self, other: &Self) -> bool {
        self.exact == other.exact && self.distance(other).is_some()
    }

    /// Total difference of the floating point numbers, or `None` when one differs too much.
    fn distance(&self, other: &Self) -> Option<f64> {
        let mut distance = 0.0;
        for (&(a, tolerance), &(b, _)) in self.floats.iter().zip(&other.floats) {
            // Infinities and NaN equal themselves and are close to nothing else.
            if a == b || (a.is_nan() && b.is_nan()) {
                continue;
            }
            let apart = (a - b).abs() / a.abs().max(b.abs()).max(1.0);
            if apart.is_nan() || apart > tolerance {
                return None;
            }
            distance += apart;
        }
        Some(distance)
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.exact)?;
        self.floats.iter().try_for_each(|(float, _)| write!(f, " | {float:?}"))
    }
}

/// Tied rows, each of which may be taken once.
struct Group<'a> {
    left: HashMap<&'a str, Vec<&'a Row>>,
}

impl<'a> Group<'a> {
    fn new(rows: &'a [Row]) -> Self {
        let mut left: HashMap<&str, Vec<&Row>> = HashMap::new();
        rows.iter().for_each(|row| left.entry(&row.exact).or_default().push(row));
        Self { left }
    }

    /// Takes the row nearest to this one. The error shows the rows that were left.
    fn take(&mut self, row: &Row) -> std::result::Result<(), String> {
        let like = self.left.get_mut(row.exact.as_str());
        let nearest = like.as_ref().and_then(|like| {
            let near = like.iter().enumerate().filter_map(|(at, candidate)| Some((at, candidate.distance(row)?)));
            near.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at)
        });
        if let (Some(like), Some(at)) = (like, nearest) {
            like.swap_remove(at);
            return Ok(());
        }
        let mut left: Vec<&Row> = self.left.values().flatten().copied().collect();
        left.sort_by_key(|candidate| (candidate.exact != row.exact, &candidate.exact));
        let mut message = format!("is none of the {} rows that may stand here", left.len());
        left.iter()
            .take(3)
            .for_each(|candidate| write!(message, "\n       {candidate}").expect("a string takes any text"));
        Err(message)
    }
}

fn rows(batches: &[RecordBatch], columns: std::ops::Range<usize>) -> std::result::Result<Vec<Row>, ArrowError> {
    let options = FormatOptions::default();
    let mut rows = Vec::new();
    for batch in batches {
        let first = rows.len();
        rows.resize(first + batch.num_rows(), Row { exact: String::new(), floats: Vec::new() });
        for column in &batch.columns()[columns.clone()] {
            let formatter = ArrayFormatter::try_new(column, &options)?;
            for (at, row) in rows[first..].iter_mut().enumerate() {
                row.exact.push_str(if row.exact.is_empty() { "" } else { " | " });
                if column.is_null(at) {
                    row.exact.push_str("NULL");
                } else if let Some(float) = float(column.as_ref(), at) {
                    row.exact.push('~');
                    row.floats.push(float);
                } else {
                    write!(row.exact, "{:?}", formatter.value(at).try_to_string()?).expect("a string takes any text");
                }
            }
        }
    }
    Ok(rows)
}

/// A floating point number and its tolerance; `None` for other types.
fn float(column: &dyn Array, at: usize) -> Option<(f64, f64)> {
    match column.data_type() {
        DataType::Float64 => Some((column.as_primitive::<Float64Type>().value(at), DOUBLE_TOLERANCE)),
        DataType::Float32 => Some((column.as_primitive::<Float32Type>().value(at).into(), SINGLE_TOLERANCE)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Engine, SingleProcess};

    const T: &str = "(VALUES (1, 'a', CAST('0.1' AS DOUBLE)), (2, 'b', 0.2), (2, 'c', 0.3), (2, 'c', 0.3), (3, NULL, NULL)) AS t(k, s, f)";

    /// Checks the result of `given` as an answer to `asked`.
    async fn answers(asked: &str, given: &str) -> Result<(), String> {
        let engine = SingleProcess::new();
        let asked = Answer::to(&asked.replace("FROM T", &format!("FROM {T}")), engine.context())
            .await
            .expect("the reference runs the query");
        let (schema, batches) =
            engine.sql(&given.replace("FROM T", &format!("FROM {T}"))).await.expect("the engine runs the query");
        asked.check(&schema, &batches)
    }

    #[tokio::test]
    async fn rows_may_come_in_any_order_when_none_is_asked_for() {
        answers("SELECT * FROM T", "SELECT * FROM T ORDER BY k DESC, s DESC").await.unwrap();
    }

    #[tokio::test]
    async fn rows_come_in_the_order_that_is_asked_for() {
        let wrong = answers("SELECT k FROM T ORDER BY k", "SELECT k FROM T ORDER BY k DESC").await.unwrap_err();
        assert!(wrong.starts_with("row 1: \"3\""), "{wrong}");
        answers("SELECT s FROM T ORDER BY k", "SELECT s FROM T ORDER BY k DESC").await.unwrap_err();
        answers("SELECT s FROM T ORDER BY k NULLS FIRST", "SELECT s FROM T ORDER BY k, s DESC").await.unwrap();
    }

    #[tokio::test]
    async fn a_limit_keeps_any_of_the_rows_that_tie_at_its_end() {
        let asked = "SELECT k, s FROM T ORDER BY k LIMIT 2";
        answers(asked, "SELECT k, s FROM T ORDER BY k, s LIMIT 2").await.unwrap();
        answers(asked, "SELECT k, s FROM T ORDER BY k, s DESC LIMIT 2").await.unwrap();
        answers(asked, "SELECT k, s FROM T ORDER BY k LIMIT 1").await.unwrap_err();
        answers(asked, "SELECT k, s FROM T WHERE k <> 2 ORDER BY k LIMIT 2").await.unwrap_err();
    }

    #[tokio::test]
    async fn an_offset_moves_the_window() {
        let asked = "SELECT k, s FROM T ORDER BY k LIMIT 2 OFFSET 1";
        answers(asked, "SELECT k, s FROM T WHERE k = 2 ORDER BY s LIMIT 2").await.unwrap();
        answers(asked, "SELECT k, s FROM T ORDER BY k LIMIT 2").await.unwrap_err();
    }

    #[tokio::test]
    async fn each_row_counts() {
        answers("SELECT * FROM T", "SELECT DISTINCT * FROM T").await.unwrap_err();
        let twice = "SELECT * FROM T WHERE s <> 'b' OR s IS NULL UNION ALL SELECT * FROM T WHERE s = 'a'";
        answers("SELECT * FROM T", twice).await.unwrap_err();
    }

    #[tokio::test]
    async fn values_and_types_are_exact_but_for_rounding() {
        answers("SELECT k, f FROM T", "SELECT k, f + CAST('1e-15' AS DOUBLE) AS f FROM T").await.unwrap();
        answers("SELECT k, f FROM T", "SELECT k, f + CAST('1e-6' AS DOUBLE) AS f FROM T").await.unwrap_err();
        answers("SELECT k, f FROM T", "SELECT k, coalesce(f, 0) AS f FROM T").await.unwrap_err();
        answers("SELECT s FROM T", "SELECT coalesce(s, 'NULL') AS s FROM T").await.unwrap_err();
        answers("SELECT k FROM T", "SELECT CAST(k AS INT) AS k FROM T").await.unwrap_err();
        answers("SELECT k FROM T", "SELECT k AS other FROM T").await.unwrap_err();
    }
}

//! Numbers as in PostgreSQL: literals with a point are decimals.
//!
//! DataFusion takes `0.1` for a floating point number, or with an option for a decimal, and its rules for decimals differ from PostgreSQL's:
//!
//! | where | DataFusion 55 | here |
//! | --- | --- | --- |
//! | a float beside a decimal | compared as DECIMAL(30, 15) | double precision |
//! | a quotient of decimals | four more decimal places than the dividend, truncated | 16 significant digits at least, rounded |
//! | products and sums of many decimal places | an error | fewer decimal places, so that the digits before the point fit |
//! | casts of floats to decimals | all digits of the binary number | its first 6 digits if it is a REAL, 15 if it is a double |
//! | casts to integers | truncated | rounded: decimals half away from zero, floats half to even |
//! | `round(float)` | half away from zero | half to even |
//! | a text literal beside a decimal | rounded to the decimal's places | a decimal of its own digits |
//! | `ceil`, `floor`, `round` of decimals | digits of the argument: 10 does not fit the type of 9.9 | whole numbers |
//!
//! The types of all columns are decided here, before DataFusion's coercion, so that the rest of a plan agrees.

mod align;
mod assign;
mod digits;
mod guard;
mod intervals;
mod literals;
mod of_text;
mod operators;
mod planner;
mod rounding;
mod shortest;

pub use assign::check_assigned;
pub(crate) use assign::{Assigned, targets_below};
pub(crate) use guard::{GuardedConditions, LeftToRight};
pub(crate) use planner::NumbersPlanner;

use crate::expressions::{KnownTypes, in_node};
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::expr::{
    Between, BinaryExpr, Case, Cast, InList, InSubquery, ScalarFunction, TryCast, WindowFunction,
};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Operator, ScalarUDF, lit};
use datafusion::optimizer::AnalyzerRule;
use digits::{Digits, is_float, is_plain_integer};
use std::cell::Cell;
use std::sync::Arc;

/// The functions that plans call.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    [
        operators::functions(),
        rounding::functions(),
        shortest::functions(),
        intervals::functions(),
        guard::functions(),
        of_text::functions(),
    ]
    .concat()
}

/// Gives numbers of different types in one expression their type in PostgreSQL.
#[derive(Debug)]
pub(crate) struct Numbers;

impl AnalyzerRule for Numbers {
    fn name(&self) -> &str {
        "windlass_numbers"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let types_changed = Cell::new(false);
        plan.transform_up_with_subqueries(|node| {
            let of_no_columns = DFSchema::empty();
            let aligned = align::inputs(node, &|expr| {
                let mut types = Types::new(&of_no_columns);
                expr.transform_up(|expr| types.rewrite(expr)).data()
            })?;
            types_changed.set(types_changed.get() | aligned.transformed);
            let node = in_node(aligned.data, &|expr| expr.exists(|part| Ok(concerns(part))), &|expr, schema| {
                let mut types = Types::new(schema);
                expr.transform_up(|expr| types.rewrite(expr))
            })?;
            types_changed.set(types_changed.get() | node.transformed);
            recomputed(node.data, &types_changed)
        })
        .data()
    }
}

fn recomputed(node: LogicalPlan, types_changed: &Cell<bool>) -> Result<Transformed<LogicalPlan>> {
    match types_changed.get() {
        true => Ok(Transformed::yes(node.recompute_schema()?)),
        false => Ok(Transformed::no(node)),
    }
}

/// Whether an expression may have to be rewritten.
fn concerns(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::BinaryExpr(_)
            | Expr::Between(_)
            | Expr::InList(_)
            | Expr::InSubquery(_)
            | Expr::Case(_)
            | Expr::Cast(_)
            | Expr::TryCast(_)
            | Expr::ScalarFunction(_)
            | Expr::WindowFunction(_)
    )
}

fn is_comparison(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

fn is_arithmetic(op: Operator) -> bool {
    matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo)
}

/// Functions whose arguments all have one type.
const OF_ONE_TYPE: [&str; 8] = ["coalesce", "nvl", "ifnull", "nvl2", "nullif", "greatest", "least", "make_array"];

struct Types<'a> {
    known: KnownTypes<'a>,
    schema: &'a DFSchema,
}

impl<'a> Types<'a> {
    fn new(schema: &'a DFSchema) -> Self {
        Self { known: KnownTypes::new(schema), schema }
    }

    fn rewrite(&mut self, expr: Expr) -> Result<Transformed<Expr>> {
        let mut type_of = self.known.of_parts(&expr)?;
        let (rewritten, known) = match expr {
            Expr::BinaryExpr(binary) if is_comparison(binary.op) || is_arithmetic(binary.op) => {
                let (l, r) = (type_of(&binary.left), type_of(&binary.right));
                of_literals(binary, l, r, self.schema)?
            }
            expr => (self.other(expr)?, None),
        };
        self.known.push(known);
        Ok(rewritten)
    }

    fn type_of(&self, expr: &Expr) -> DataType {
        expr.get_type(self.schema).unwrap_or(DataType::Null)
    }

    fn other(&self, expr: Expr) -> Result<Transformed<Expr>> {
        Ok(match expr {
            Expr::Between(Between { expr, negated, low, high }) => {
                let mut parts = vec![*expr, *low, *high];
                let changed = self.align(&mut parts, digits::meet)?;
                let [expr, low, high] = three(parts);
                of(Expr::Between(Between::new(Box::new(expr), negated, Box::new(low), Box::new(high))), changed)
            }
            Expr::InList(InList { expr, list, negated }) => {
                let is_truth = self.type_of(&expr) == DataType::Boolean;
                let mut parts = vec![*expr];
                parts.extend(list.into_iter().map(|part| if is_truth { planner::as_truth(part) } else { part }));
                let changed = self.align(&mut parts, digits::meet_in_column)?;
                let expr = parts.remove(0);
                // DataFusion forgets NULL where it makes one list of two.
                let is_null = |part: &Expr| matches!(part, Expr::Literal(value, _) if value.is_null());
                let (nulls, known): (Vec<Expr>, Vec<Expr>) = parts.into_iter().partition(is_null);
                let list = |list| Expr::InList(InList::new(Box::new(expr), list, negated));
                let unknown = lit(ScalarValue::Boolean(None));
                match (nulls.is_empty(), known.is_empty()) {
                    (true, _) => of(list(known), changed),
                    (_, true) => of(list(nulls), changed),
                    _ if negated => of(list(known).and(unknown), true),
                    _ => of(list(known).or(unknown), true),
                }
            }
            Expr::InSubquery(InSubquery { expr, mut subquery, negated }) => {
                let mut expr = *expr;
                let theirs = subquery.subquery.schema().field(0).data_type().clone();
                let decimal = literals::decimal(&expr).filter(|_| theirs.is_decimal());
                let written = decimal.is_some();
                if let Some(decimal) = decimal {
                    expr = lit(decimal);
                }
                let changed = written
                    | match digits::meet(&[self.type_of(&expr), theirs.clone()]) {
                        None => false,
                        Some(meets) => {
                            expr = as_type(expr, &meets, self.schema)?;
                            if theirs != meets {
                                subquery.subquery = Arc::new(align::cast_columns(
                                    Arc::unwrap_or_clone(subquery.subquery),
                                    &[Some(meets)],
                                )?);
                            }
                            true
                        }
                    };
                of(Expr::InSubquery(InSubquery::new(Box::new(expr), subquery, negated)), changed)
            }
            Expr::Case(case) => self.case(case)?,
            Expr::Cast(Cast { expr, field }) => match rounding::cast(*expr, field.data_type(), self.schema)? {
                Transformed { data, transformed: true, .. } => Transformed::yes(data),
                Transformed { data: expr, .. } => Transformed::no(Expr::Cast(Cast { expr: Box::new(expr), field })),
            },
            Expr::TryCast(TryCast { expr, field })
                if field.data_type().is_decimal() && self.type_of(&expr).is_floating() =>
            {
                Transformed::yes(shortest::as_decimal(*expr, field.data_type(), true)?)
            }
            Expr::TryCast(TryCast { expr, field }) => rounding::rounded(*expr, field.data_type(), self.schema)?
                .update_data(|expr| Expr::TryCast(TryCast { expr: Box::new(expr), field })),
            Expr::ScalarFunction(call) => self.call(call)?,
            Expr::WindowFunction(mut call) => {
                let WindowFunction { fun, params } = call.as_mut();
                let changed = match fun.name() {
                    "lag" | "lead" if params.args.len() == 3 => self.with_default(&mut params.args)?,
                    _ => params.args.len() > 1 && self.meet(&mut params.args, digits::meet_in_column)?,
                };
                of(Expr::WindowFunction(call), changed)
            }
            other => Transformed::no(other),
        })
    }

    fn case(&self, case: Case) -> Result<Transformed<Expr>> {
        let Case { expr, when_then_expr, else_expr } = case;
        let (mut whens, mut thens): (Vec<Expr>, Vec<Expr>) =
            when_then_expr.into_iter().map(|(when, then)| (*when, *then)).unzip();
        let has_base = expr.is_some();
        let mut changed = false;
        if let Some(base) = expr {
            whens.insert(0, *base);
            changed |= self.align(&mut whens, digits::meet)?;
        }
        let base = has_base.then(|| Box::new(whens.remove(0)));
        let has_else = else_expr.is_some();
        thens.extend(else_expr.map(|otherwise| *otherwise));
        changed |= self.align(&mut thens, digits::meet_in_column)?;
        let otherwise = if has_else { thens.pop().map(Box::new) } else { None };
        let pairs = whens.into_iter().zip(thens).map(|(when, then)| (Box::new(when), Box::new(then))).collect();
        let case = Case::new(base, pairs, otherwise);
        let may_fail = |branch: &Expr| guard::may_fail(branch, self.schema);
        let branches = || case.when_then_expr.iter().map(|(_, then)| then.as_ref()).chain(case.else_expr.as_deref());
        // The first WHEN is computed for all rows.
        let later = || case.when_then_expr.iter().skip(1).map(|(when, _)| when.as_ref()).chain(branches());
        let of_conditions = branches().all(|branch| matches!(self.type_of(branch), DataType::Boolean | DataType::Null));
        Ok(match of_conditions && later().any(may_fail) {
            true => Transformed::yes(guard::of_numbers(case)),
            false => of(Expr::Case(case), changed),
        })
    }

    fn call(&self, call: ScalarFunction) -> Result<Transformed<Expr>> {
        let ScalarFunction { func, mut args } = call;
        let name = func.name();
        if OF_ONE_TYPE.contains(&name) || name.starts_with("array_") {
            // The first argument of nvl2 is only tested for NULL.
            let from = usize::from(name == "nvl2");
            let mut rest = args.split_off(from.min(args.len()));
            let changed = match OF_ONE_TYPE.contains(&name) {
                true => self.align(&mut rest, digits::meet_in_column)?,
                false => self.meet(&mut rest, digits::meet_in_column)?,
            };
            args.extend(rest);
            return Ok(of(Expr::ScalarFunction(ScalarFunction { func, args }), changed));
        }
        if name == "mod" && args.len() == 2 {
            // The result is NULL for a divisor of zero, as in Spark.
            let (l, r) = (self.type_of(&args[0]), self.type_of(&args[1]));
            if l.is_numeric() && r.is_numeric() {
                let [left, right] = two(args);
                let binary = BinaryExpr::new(Box::new(left), Operator::Modulo, Box::new(right));
                return Ok(Transformed::yes(binary_expr(binary, &l, &r, self.schema)?.0.data));
            }
            return Ok(Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args })));
        }
        rounding::call(ScalarFunction { func, args }, self.schema)
    }

    /// Casts a value and its default to the type that both have as rows of one column.
    fn with_default(&self, args: &mut [Expr]) -> Result<bool> {
        let [value, _, default] = args else { return Ok(false) };
        let mut parts = [std::mem::take(value), std::mem::take(default)];
        let mut types = [self.type_of(&parts[0]), self.type_of(&parts[1])];
        let written = literals::beside_decimals(&mut parts, &mut types);
        let meets = digits::meet_in_column(&types).or_else(|| align::common(&types));
        let [mut first, mut second] = parts;
        if let Some(meets) = &meets {
            first = as_type(first, meets, self.schema)?;
            second = as_type(second, meets, self.schema)?;
        }
        (*value, *default) = (first, second);
        Ok(written || meets.is_some())
    }

    /// Gives all of `parts` one type if they are numbers for which DataFusion chooses another type than PostgreSQL. Texts written among decimals become
    /// decimals.
    fn align(&self, parts: &mut [Expr], meet: fn(&[DataType]) -> Option<DataType>) -> Result<bool> {
        let mut types: Vec<DataType> = parts.iter().map(|part| self.type_of(part)).collect();
        let written = literals::beside_decimals(parts, &mut types);
        Ok(self.meet_as(parts, types, meet)? | written)
    }

    /// Does the same without texts, which may not be numbers.
    fn meet(&self, parts: &mut [Expr], meet: fn(&[DataType]) -> Option<DataType>) -> Result<bool> {
        let types = parts.iter().map(|part| self.type_of(part)).collect();
        self.meet_as(parts, types, meet)
    }

    fn meet_as(
        &self,
        parts: &mut [Expr],
        types: Vec<DataType>,
        meet: fn(&[DataType]) -> Option<DataType>,
    ) -> Result<bool> {
        let Some(meets) = meet(&types) else { return Ok(false) };
        for (part, of) in parts.iter_mut().zip(types) {
            // DataFusion itself casts integers to double precision, and leaves unchanged those that are counts or positions.
            let is_cast = match meets {
                DataType::Float64 => of.is_decimal() || is_real(&of),
                _ if is_float(&meets) => of.is_decimal(),
                _ => of.is_numeric(),
            };
            if is_cast && of != meets {
                let expr = std::mem::replace(part, lit(ScalarValue::Null));
                *part = as_type(expr, &meets, self.schema)?;
            }
        }
        Ok(true)
    }
}

/// Rewrites an operator as [`binary_expr`] does, where one side may be a written text.
fn of_literals(
    binary: BinaryExpr,
    l: DataType,
    r: DataType,
    schema: &DFSchema,
) -> Result<(Transformed<Expr>, Option<DataType>)> {
    let (mut parts, mut types) = ([*binary.left, *binary.right], [l, r]);
    let written = literals::beside_decimals(&mut parts, &mut types);
    let ([left, right], [l, r]) = (parts, types);
    let binary = BinaryExpr::new(Box::new(left), binary.op, Box::new(right));
    let (mut expr, known) = binary_expr(binary, &l, &r, schema)?;
    expr.transformed |= written;
    Ok((expr, known))
}

/// Rewrites an operator; returns the expression and its type.
fn binary_expr(
    binary: BinaryExpr,
    l: &DataType,
    r: &DataType,
    schema: &DFSchema,
) -> Result<(Transformed<Expr>, Option<DataType>)> {
    let BinaryExpr { left, op, right } = binary;
    let (left, right) = (*left, *right);
    let plain = |left: Expr, right: Expr, l: &DataType, r: &DataType, changed| {
        let result = match is_comparison(op) {
            true => Some(DataType::Boolean),
            false => BinaryTypeCoercer::new(l, &op, r).get_result_type().ok(),
        };
        (of(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))), changed), result)
    };
    if [(l, r), (r, l)].into_iter().any(|(real, whole)| is_real(real) && is_plain_integer(whole)) {
        // A constant that is a REAL too is compared as one.
        if is_comparison(op) && (is_in_real(&left) || is_in_real(&right)) {
            return Ok(plain(left, right, l, r, false));
        }
        let double = DataType::Float64;
        let (left, right) = (as_type(left, &double, schema)?, as_type(right, &double, schema)?);
        return Ok(plain(left, right, &double, &double, true));
    }
    let is_decimal = l.is_decimal() || r.is_decimal();
    if !is_decimal {
        return Ok(plain(left, right, l, r, false));
    }
    if is_float(l) || is_float(r) {
        let double = DataType::Float64;
        let (left, l) = match l.is_decimal() {
            true => (as_type(left, &double, schema)?, &double),
            false => (left, l),
        };
        let (right, r) = match r.is_decimal() {
            true => (as_type(right, &double, schema)?, &double),
            false => (right, r),
        };
        return Ok(plain(left, right, l, r, true));
    }
    if is_comparison(op) {
        return Ok(match digits::meet(&[l.clone(), r.clone()]) {
            Some(meets) => {
                let (left, right) = (as_type(left, &meets, schema)?, as_type(right, &meets, schema)?);
                plain(left, right, &meets, &meets, true)
            }
            None => plain(left, right, l, r, false),
        });
    }
    let (Some(mut a), Some(mut b)) = (Digits::of(l), Digits::of(r)) else {
        return Ok(plain(left, right, l, r, false));
    };
    // A written integer has only its visible digits.
    let (left, left_changed) = narrow(left, l, &mut a);
    let (right, right_changed) = narrow(right, r, &mut b);
    let mut changed = left_changed | right_changed;
    let (mut left, mut right) = (left, right);
    if changed || op == Operator::Divide || op == Operator::Multiply || a.scale < 0 || b.scale < 0 {
        (a, b) = (a.without_negative_scale(), b.without_negative_scale());
    }
    let types = operators::widths(a, b);
    match op {
        Operator::Divide => {
            left = as_type(left, &a.data_type(types), schema)?;
            right = as_type(right, &b.data_type(types), schema)?;
            let result = operators::quotient(a, b).data_type(types);
            return Ok((Transformed::yes(operators::divide(left, right)), Some(result)));
        }
        Operator::Multiply if operators::product(a, b).is_some() => {
            left = as_type(left, &a.data_type(types), schema)?;
            right = as_type(right, &b.data_type(types), schema)?;
            let result = operators::product(a, b).map(|product| product.data_type(product.wide));
            return Ok((Transformed::yes(operators::multiply(left, right)), result));
        }
        Operator::Plus | Operator::Minus => {
            if let Some(sum) = operators::sum(a, b) {
                // The number of digits before the point stays.
                let scaled = |of: Digits| match of.scale > sum.scale {
                    true => Digits {
                        precision: (of.precision - of.scale as u8 + sum.scale as u8).max(1),
                        scale: sum.scale,
                        ..of
                    },
                    false => of,
                };
                (a, b) = (scaled(a), scaled(b));
                changed = true;
            }
        }
        _ => {}
    }
    if !changed {
        return Ok(plain(left, right, l, r, false));
    }
    let (l, r) = (a.data_type(types), b.data_type(types));
    left = as_type(left, &l, schema)?;
    right = as_type(right, &r, schema)?;
    Ok(plain(left, right, &l, &r, true))
}

fn is_real(of: &DataType) -> bool {
    matches!(of, DataType::Float16 | DataType::Float32)
}

/// Whether it is a whole number whose value a REAL holds.
fn is_in_real(expr: &Expr) -> bool {
    let Expr::Literal(value, _) = expr else { return false };
    value.data_type().is_integer()
        && value.to_string().parse().is_ok_and(|number: i128| (number as f32) as i128 == number)
}

/// Converts an integer literal beside a decimal to a decimal of its own digits.
fn narrow(expr: Expr, of: &DataType, digits: &mut Digits) -> (Expr, bool) {
    let Expr::Literal(value, metadata) = &expr else { return (expr, false) };
    if !is_plain_integer(of) || value.is_null() {
        return (expr, false);
    }
    let text = value.to_string();
    let Ok(number) = text.parse::<i128>() else { return (expr, false) };
    let precision = text.trim_start_matches('-').len() as u8;
    *digits = Digits { precision, scale: 0, wide: false };
    (Expr::Literal(ScalarValue::Decimal128(Some(number), precision, 0), metadata.clone()), true)
}

/// Casts `expr` to another number type; a literal at once.
fn as_type(expr: Expr, to: &DataType, schema: &DFSchema) -> Result<Expr> {
    if let Expr::Literal(value, metadata) = &expr {
        if is_float(to) && value.data_type().is_decimal() && !value.is_null() {
            // Parsing its text rounds only once.
            if let Ok(float) = digits::text(value)?.parse::<f64>() {
                let float = match to {
                    DataType::Float32 => ScalarValue::Float32(Some(float as f32)),
                    _ => ScalarValue::Float64(Some(float)),
                };
                return Ok(Expr::Literal(float, metadata.clone()));
            }
        }
        if let Ok(cast) = value.cast_to(to) {
            return Ok(Expr::Literal(cast, metadata.clone()));
        }
    }
    expr.cast_to(to, schema)
}

fn of(expr: Expr, changed: bool) -> Transformed<Expr> {
    if changed { Transformed::yes(expr) } else { Transformed::no(expr) }
}

fn two(parts: Vec<Expr>) -> [Expr; 2] {
    parts.try_into().unwrap_or_else(|_| unreachable!("there were two"))
}

fn three(parts: Vec<Expr>) -> [Expr; 3] {
    parts.try_into().unwrap_or_else(|_| unreachable!("there were three"))
}

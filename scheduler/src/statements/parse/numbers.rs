//! Rewrites number literals, because the planner takes each for an integer or a decimal.
//!
//! ```text
//!   1e10                         cast('1e10' as double precision)
//!   a decimal past 76 digits     the same
//!   9223372036854775808          a decimal, as in PostgreSQL, and not an unsigned integer
//!   2 ^ 3                        power(2, 3), but in dialects where ^ is XOR
//!   with recursive t as (select 1.5 union all ...)    the first rows leave room for more digits
//! ```

use super::dialect::call;
use super::walk::{everywhere, look_at, taken};
use datafusion::config::Dialect;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Query, SelectItem, SetExpr, UnaryOperator, Value, Visitor, VisitorMut,
};
use std::ops::ControlFlow;

/// Maximum digits of a decimal.
const DIGITS: usize = 76;
/// Maximum digits of a whole number that always fits into 64 bits.
const SHORT: usize = 18;
/// Suffix that makes the planner read a whole number as a decimal.
const WHOLE: &str = "e-0";
/// Digits and decimal places of a recursive query's column.
const RECURSIVE: (u64, i64) = (38, 16);

pub(super) fn rewrite(statement: &mut Statement, dialect: Dialect) {
    let is_power = !matches!(
        dialect,
        Dialect::MySQL | Dialect::MsSQL | Dialect::Hive | Dialect::BigQuery | Dialect::Databricks | Dialect::Spark
    );
    let is_power = is_power && look_at(statement, &mut Power).is_some();
    // No visit breaks off.
    let _: Option<()> = everywhere(statement, &mut Numbers { is_power });
}

/// Breaks off at the first `^`.
struct Power;

impl Visitor for Power {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::BinaryOp { op: BinaryOperator::BitwiseXor | BinaryOperator::PGExp, .. } => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

struct Numbers {
    is_power: bool,
}

impl VisitorMut for Numbers {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let Some(with) = query.with.as_mut().filter(|with| with.recursive) {
            for table in &mut with.cte_tables {
                if let SetExpr::SetOperation { left, .. } = table.query.body.as_mut() {
                    leave_room(left);
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.is_power && holds_power(expr) {
            let mut chain = Chain::default();
            chain.take(taken(expr));
            *expr = chain.tree();
        }
        // The minus of -2 ^ 2 binds more tightly than the power.
        if let Expr::UnaryOp { op: UnaryOperator::Minus, expr: of } = expr
            && self.is_power
            && matches!(**of, Expr::BinaryOp { op: BinaryOperator::BitwiseXor | BinaryOperator::PGExp, .. })
        {
            let mut power = taken(of);
            let base = base(&mut power);
            let number = taken(base);
            *base = Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(number) };
            *expr = power;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Value(value) => {
                if let Value::Number(number, _) = &mut value.value
                    && let Some(double) = written(number)
                {
                    *expr = double;
                }
            }
            // The smallest integer fits into 64 bits.
            Expr::UnaryOp { op: UnaryOperator::Minus, expr: of } => {
                if let Expr::Value(value) = of.as_mut()
                    && let Value::Number(number, _) = &mut value.value
                    && number.strip_suffix(WHOLE) == Some("9223372036854775808")
                {
                    number.truncate(number.len() - WHOLE.len());
                }
            }
            Expr::BinaryOp { op: BinaryOperator::BitwiseXor | BinaryOperator::PGExp, left, right } if self.is_power => {
                *expr = call("power", vec![taken(left), taken(right)]);
            }
            // A function of Spark that accepts only doubles.
            Expr::Function(Function { name, args: FunctionArguments::List(list), .. })
                if name.to_string().eq_ignore_ascii_case("rint") =>
            {
                for arg in &mut list.args {
                    if let FunctionArg::Unnamed(FunctionArgExpr::Expr(of)) = arg {
                        *of = double(taken(of));
                    }
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Returns the replacement for a number, or `None` if it stays a literal.
fn written(number: &mut String) -> Option<Expr> {
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    if number.contains(['e', 'E']) || digits > DIGITS {
        return Some(double(Expr::value(Value::SingleQuotedString(number.replace('_', "")))));
    }
    if digits > SHORT && !number.contains(['.', 'e', 'E']) {
        let plain = number.replace('_', "");
        if plain.parse::<i64>().is_err() && plain.parse::<u64>().is_ok() {
            *number = format!("{plain}{WHOLE}");
        }
    }
    None
}

/// Whether `^` is among the operators of an expression without parentheses.
fn holds_power(expr: &Expr) -> bool {
    let mut waiting = vec![expr];
    while let Some(expr) = waiting.pop() {
        match expr {
            Expr::BinaryOp { op: BinaryOperator::BitwiseXor | BinaryOperator::PGExp, .. } => return true,
            Expr::BinaryOp { left, op, right } if binds(op).is_some() => {
                waiting.extend([left.as_ref(), right.as_ref()])
            }
            _ => {}
        }
    }
    false
}

/// Returns the binding strength of arithmetic operators, as in PostgreSQL.
fn binds(op: &BinaryOperator) -> Option<u8> {
    match op {
        BinaryOperator::Plus | BinaryOperator::Minus => Some(1),
        BinaryOperator::Multiply | BinaryOperator::Divide | BinaryOperator::Modulo => Some(2),
        BinaryOperator::BitwiseXor | BinaryOperator::PGExp => Some(3),
        _ => None,
    }
}

/// Operands and the operators between them, in the order of the text.
#[derive(Default)]
struct Chain {
    operands: Vec<Expr>,
    operators: Vec<BinaryOperator>,
}

impl Chain {
    fn take(&mut self, expr: Expr) {
        match expr {
            Expr::BinaryOp { left, op, right } if binds(&op).is_some() => {
                self.take(*left);
                self.operators.push(op);
                self.take(*right);
            }
            expr => self.operands.push(expr),
        }
    }

    /// Builds a tree in which all operators associate to the left.
    fn tree(self) -> Expr {
        let mut operands = self.operands.into_iter();
        let mut done: Vec<Expr> = operands.next().into_iter().collect();
        let mut waiting: Vec<BinaryOperator> = Vec::new();
        for (op, operand) in self.operators.into_iter().zip(operands) {
            while let Some(before) = waiting.pop_if(|before| binds(before) >= binds(&op)) {
                join(&mut done, before);
            }
            waiting.push(op);
            done.push(operand);
        }
        while let Some(op) = waiting.pop() {
            join(&mut done, op);
        }
        done.pop().unwrap_or_else(|| Expr::value(Value::Null))
    }
}

fn join(done: &mut Vec<Expr>, op: BinaryOperator) {
    if let (Some(right), Some(left)) = (done.pop(), done.pop()) {
        done.push(Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) });
    }
}

/// Returns the number at the beginning of a chain of powers.
fn base(expr: &mut Expr) -> &mut Expr {
    match expr {
        Expr::BinaryOp { op: BinaryOperator::BitwiseXor | BinaryOperator::PGExp, left, .. } => base(left),
        expr => expr,
    }
}

/// Widens decimal literals in the first rows of a recursive query, because their types apply to all its rows.
fn leave_room(body: &mut SetExpr) {
    let SetExpr::Select(select) = body else { return };
    for item in &mut select.projection {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else { continue };
        let is_decimal = matches!(
            expr,
            Expr::Value(value) if matches!(&value.value, Value::Number(number, _) if number.contains('.') && !number.contains(['e', 'E']))
        );
        if is_decimal {
            let number = taken(expr);
            let data_type = DataType::Decimal(ExactNumberInfo::PrecisionAndScale(RECURSIVE.0, RECURSIVE.1));
            *expr = Expr::Cast { kind: CastKind::Cast, expr: Box::new(number), data_type, array: false, format: None };
        }
    }
}

fn double(of: Expr) -> Expr {
    let data_type = DataType::Double(ExactNumberInfo::None);
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(of), data_type, array: false, format: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::parser::DFParser;

    fn rewritten(sql: &str, dialect: Dialect) -> String {
        let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
        rewrite(&mut statement, dialect);
        statement.to_string()
    }

    #[test]
    fn numbers_are_written_for_the_planner() {
        for (sql, expected) in [
            ("select 1.5, 1, 1e10, -2E-3", "SELECT 1.5, 1, CAST('1e10' AS DOUBLE), -CAST('2E-3' AS DOUBLE)"),
            ("select 9223372036854775807, -9223372036854775808", "SELECT 9223372036854775807, -9223372036854775808"),
            ("select 9223372036854775808", "SELECT 9223372036854775808e-0"),
            ("select 2 ^ 3, -x ^ 2", "SELECT power(2, 3), power(-x, 2)"),
            ("select 2 * 3 ^ 2 + 1", "SELECT 2 * power(3, 2) + 1"),
            ("select 1 + 2 ^ 3 ^ 2 * 4 - 5", "SELECT 1 + power(power(2, 3), 2) * 4 - 5"),
            ("select (1 + 2) ^ 3", "SELECT power((1 + 2), 3)"),
            ("select rint(2.5)", "SELECT rint(CAST(2.5 AS DOUBLE))"),
            (
                "with recursive t as (select 1.0 as x union all select x * 1.5 from t) select x from t",
                "WITH RECURSIVE t AS (SELECT CAST(1.0 AS DECIMAL(38,16)) AS x UNION ALL SELECT x * 1.5 FROM t) SELECT x FROM t",
            ),
        ] {
            assert_eq!(rewritten(sql, Dialect::Generic), expected, "{sql}");
        }
        assert_eq!(rewritten("select 2 ^ 3", Dialect::MySQL), "SELECT 2 ^ 3");
    }
}

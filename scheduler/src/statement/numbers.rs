//! Numbers as they are written, for a planner that takes each of them for an integer or a decimal.
//!
//! ```text
//!   1e10                         cast('1e10' as double precision)
//!   a decimal past 76 digits     the same
//!   9223372036854775808          a decimal, as in PostgreSQL, and not an unsigned integer
//!   2 ^ 3                        power(2, 3), but in dialects where ^ is XOR
//!   with recursive t as (select 1.5 union all ...)    the first rows leave room for more digits
//! ```

use datafusion::config::Dialect;
use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, Ident, ObjectName, Query, SelectItem, SetExpr, UnaryOperator, Value,
    VisitMut, VisitorMut,
};
use std::ops::ControlFlow;

/// Digits that a decimal may have.
const DIGITS: usize = 76;
/// After which a whole number of this many letters may be none of 64 bits.
const SHORT: usize = 18;
/// Digits and decimal places of a recursive query's column.
const RECURSIVE: (u64, i64) = (38, 16);

pub(super) fn rewrite(statement: &mut Statement, dialect: Dialect) {
    let is_power = !matches!(
        dialect,
        Dialect::MySQL | Dialect::MsSQL | Dialect::Hive | Dialect::BigQuery | Dialect::Databricks | Dialect::Spark
    );
    let mut numbers = Numbers { is_power };
    // Nothing here breaks off.
    let _: ControlFlow<()> = match statement {
        Statement::Statement(statement) => statement.as_mut().visit(&mut numbers),
        Statement::Explain(explain) => return rewrite(&mut explain.statement, dialect),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => query.as_mut().visit(&mut numbers),
            CopyToSource::Relation(_) => return,
        },
        Statement::CreateExternalTable(_) | Statement::Reset(_) => return,
    };
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
        // The minus of -2 ^ 2 binds more tightly than the power.
        if let Expr::UnaryOp { op: UnaryOperator::Minus, expr: of } = expr
            && self.is_power
            && matches!(**of, Expr::BinaryOp { op: BinaryOperator::BitwiseXor | BinaryOperator::PGExp, .. })
        {
            let mut power = take(of);
            let base = base(&mut power);
            let number = take(base);
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
            // The least integer is one of 64 bits.
            Expr::UnaryOp { op: UnaryOperator::Minus, expr: of } => {
                if let Expr::Value(value) = of.as_mut()
                    && let Value::Number(number, _) = &mut value.value
                    && number == "9223372036854775808e0"
                {
                    number.truncate(number.len() - 2);
                }
            }
            Expr::BinaryOp { op: BinaryOperator::BitwiseXor | BinaryOperator::PGExp, left, right } if self.is_power => {
                *expr = call("power", [left, right].map(|side| take(side)));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// What a number is to be written as, if it is not to stay.
fn written(number: &mut String) -> Option<Expr> {
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    if number.contains(['e', 'E']) && !number.ends_with("e0") || digits > DIGITS {
        let text = Box::new(Expr::value(Value::SingleQuotedString(number.replace('_', ""))));
        let data_type = DataType::Double(ExactNumberInfo::None);
        return Some(Expr::Cast { kind: CastKind::Cast, expr: text, data_type, array: false, format: None });
    }
    if digits > SHORT && !number.contains(['.', 'e', 'E']) {
        let plain = number.replace('_', "");
        if plain.parse::<i64>().is_err() && plain.parse::<u64>().is_ok() {
            *number = format!("{plain}e0");
        }
    }
    None
}

/// The number that a chain of powers begins with.
fn base(expr: &mut Expr) -> &mut Expr {
    match expr {
        Expr::BinaryOp { op: BinaryOperator::BitwiseXor | BinaryOperator::PGExp, left, .. } => base(left),
        expr => expr,
    }
}

/// Decimals that are written in the first rows of a recursive query, whose types are those of all its rows.
fn leave_room(body: &mut SetExpr) {
    let SetExpr::Select(select) = body else { return };
    for item in &mut select.projection {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else { continue };
        let is_decimal = matches!(
            expr,
            Expr::Value(value) if matches!(&value.value, Value::Number(number, _) if number.contains('.') && !number.contains(['e', 'E']))
        );
        if is_decimal {
            let number = take(expr);
            let data_type = DataType::Decimal(ExactNumberInfo::PrecisionAndScale(RECURSIVE.0, RECURSIVE.1));
            *expr = Expr::Cast { kind: CastKind::Cast, expr: Box::new(number), data_type, array: false, format: None };
        }
    }
}

fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::value(Value::Null))
}

fn call(name: &str, args: [Expr; 2]) -> Expr {
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

//! Casts that are written as functions, and the names of their types.
//!
//! ```text
//!   date(x), text(x), int4(x), …             CAST(x AS DATE), …: names of types of one word, as in PostgreSQL
//!   INT(x), STRING(x), TIMESTAMP(x), …       the same, in sessions that speak Spark's SQL
//!   CHARACTER VARYING, CHAR VARYING          VARCHAR, in casts, columns and parameters; CHARACTER is CHAR
//!   BINARY, VARBINARY, BLOB                  BYTEA, in the same places
//! ```

use super::spark;
use super::walk::{everywhere, taken};
use datafusion::execution::SessionState;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    self, ArrayElemTypeDef, CastKind, DataType, ExactNumberInfo, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Ident, Select, SelectItem, TimezoneInfo, TypedString, VisitorMut,
};
use std::convert::Infallible;
use std::ops::ControlFlow;

/// Rewrites `statement` in place.
pub(super) fn rewrite(state: &SessionState, statement: &mut Statement) {
    in_definitions(statement);
    let _never = everywhere(statement, &mut Casts { is_spark: spark::is_spoken(state) });
}

struct Casts {
    is_spark: bool,
}

impl VisitorMut for Casts {
    type Break = Infallible;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr @ Expr::Function(_)) = item
                && let Expr::Function(function) = &*expr
                && self.type_of(function).is_some()
            {
                let alias = Ident::with_quote('"', expr.to_string());
                *item = SelectItem::ExprWithAlias { expr: taken(expr), alias };
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        match expr {
            Expr::Cast { data_type, .. } | Expr::TypedString(TypedString { data_type, .. }) => plain(data_type),
            Expr::Function(function) => {
                if let Some(data_type) = self.type_of(function)
                    && let Some(argument) = only_argument(function)
                {
                    let expr_of = Box::new(taken(argument));
                    *expr = Expr::Cast { kind: CastKind::Cast, expr: expr_of, data_type, array: false, format: None };
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Casts {
    /// Returns the type to which a function casts its argument.
    fn type_of(&self, function: &Function) -> Option<DataType> {
        let [name] = function.name.0.as_slice() else { return None };
        let name = name.as_ident().filter(|name| name.quote_style.is_none())?.value.to_lowercase();
        let FunctionArguments::List(list) = &function.args else { return None };
        let is_plain = function.over.is_none() && function.filter.is_none() && list.duplicate_treatment.is_none();
        let has_one = matches!(list.args.as_slice(), [FunctionArg::Unnamed(FunctionArgExpr::Expr(_))]);
        if !is_plain || !has_one {
            return None;
        }
        Some(match (name.as_str(), self.is_spark) {
            ("date", _) => DataType::Date,
            ("text", _) | ("string", true) => DataType::Varchar(None),
            ("bool", _) | ("boolean", true) => DataType::Boolean,
            ("int2", _) | ("smallint", true) => DataType::SmallInt(None),
            ("int4", _) | ("int", true) => DataType::Int(None),
            ("int8", _) | ("bigint", true) => DataType::BigInt(None),
            ("tinyint", true) => DataType::TinyInt(None),
            ("float4", _) | ("float", true) => DataType::Real,
            ("float8", _) | ("double", true) => DataType::Double(ExactNumberInfo::None),
            ("numeric", _) => DataType::Numeric(ExactNumberInfo::None),
            ("decimal", true) => DataType::Decimal(ExactNumberInfo::PrecisionAndScale(10, 0)),
            ("timestamptz", _) => DataType::Timestamp(None, TimezoneInfo::Tz),
            ("timestamp", true) => DataType::Timestamp(None, TimezoneInfo::None),
            ("bytea", _) | ("binary", true) => DataType::Bytea,
            _ => return None,
        })
    }
}

fn only_argument(function: &mut Function) -> Option<&mut Expr> {
    match &mut function.args {
        FunctionArguments::List(list) => match list.args.as_mut_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] => Some(argument),
            _ => None,
        },
        _ => None,
    }
}

/// Names the types of columns and parameters that a statement declares.
fn in_definitions(statement: &mut Statement) {
    match statement {
        Statement::Explain(explain) => in_definitions(&mut explain.statement),
        Statement::CreateExternalTable(create) => {
            create.columns.iter_mut().for_each(|column| plain(&mut column.data_type));
        }
        Statement::Statement(statement) => match statement.as_mut() {
            ast::Statement::CreateTable(create) => {
                create.columns.iter_mut().for_each(|column| plain(&mut column.data_type));
            }
            ast::Statement::Prepare { data_types, .. } => data_types.iter_mut().for_each(plain),
            _ => {}
        },
        Statement::CopyTo(_) | Statement::Reset(_) => {}
    }
}

/// Names a type as the planner knows it, also inside of arrays and structs.
fn plain(data_type: &mut DataType) {
    match data_type {
        DataType::CharacterVarying(length) | DataType::CharVarying(length) => {
            *data_type = DataType::Varchar(length.take());
        }
        DataType::Character(length) => *data_type = DataType::Char(length.take()),
        DataType::Binary(None) | DataType::Varbinary(None) | DataType::Blob(None) => *data_type = DataType::Bytea,
        DataType::Array(
            ArrayElemTypeDef::AngleBracket(of)
            | ArrayElemTypeDef::SquareBracket(of, _)
            | ArrayElemTypeDef::Parenthesis(of),
        ) => plain(of),
        DataType::Map(key, value) => {
            plain(key);
            plain(value);
        }
        DataType::Struct(fields, _) => fields.iter_mut().for_each(|field| plain(&mut field.field_type)),
        _ => {}
    }
}

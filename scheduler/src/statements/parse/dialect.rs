//! Rewrites forms that the parser understands and the planner does not into forms that it does.
//!
//! ```text
//!   from t                          select * from t
//!   t tablesample bernoulli (10)    (select * from t where random() < 0.1) t
//!   cast(x as varchar(3))           left(cast(x as varchar), 3)
//!   timestamp '9999-12-31'          as TIMESTAMP(6): nanoseconds end in 2262
//! ```

use super::walk::{everywhere, folded, taken};
use crate::errors::QueryError;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    self, CharacterLength, ColumnDef, ColumnOption, CreateTable, DataType, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName, Select, SelectFlavor, SelectItem,
    SetExpr, TableAlias, TableFactor, TableSample, TableSampleKind, TableSampleMethod, TableSampleUnit, TypedString,
    Value, VisitorMut, WildcardAdditionalOptions,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use std::ops::ControlFlow;
use windlass_engine::beyond_nanoseconds;

/// Rewrites `statement` in place.
pub(super) fn rewrite(statement: &mut Statement) -> Result<(), QueryError> {
    let mut times = Times::default();
    everywhere(statement, &mut times).map_or(Ok(()), Err)?;
    everywhere(statement, &mut Words { micros: times.any_is_far }).map_or(Ok(()), Err)
}

/// Returns the maximum characters of the columns of a new table: the n of VARCHAR(n) and CHAR(n).
pub(super) fn lengths(create: &CreateTable) -> Result<Vec<(String, u32)>, QueryError> {
    let mut lengths = Vec::new();
    for column in &create.columns {
        if let Some(length) = length(&column.data_type) {
            let name = folded(&column.name);
            let length = u32::try_from(length).map_err(|_| {
                QueryError::Invalid(format!(
                    "column '{name}' cannot hold {length} characters: use VARCHAR without a length"
                ))
            })?;
            lengths.push((name, length));
        }
    }
    Ok(lengths)
}

/// Returns the columns of a new table that are NOT NULL.
pub(super) fn not_null(create: &CreateTable) -> Vec<String> {
    let is_kept = |column: &&ColumnDef| column.options.iter().any(|kept| kept.option == ColumnOption::NotNull);
    create.columns.iter().filter(is_kept).map(|column| folded(&column.name)).collect()
}

/// Returns the length of a text type that has one.
fn length(data_type: &DataType) -> Option<u64> {
    match data_type {
        DataType::Varchar(Some(CharacterLength::IntegerLength { length, .. }))
        | DataType::Char(Some(CharacterLength::IntegerLength { length, .. })) => Some(*length),
        DataType::Char(None) => Some(1),
        _ => None,
    }
}

/// Returns the text of a timestamp literal, and its precision.
fn timestamp_text(expr: &mut Expr) -> Option<(&str, &mut Option<u64>)> {
    let (text, data_type) = match expr {
        Expr::TypedString(TypedString { data_type, value, .. }) => (&value.value, data_type),
        Expr::Cast { expr, data_type, .. } => match &**expr {
            Expr::Value(value) => (&value.value, data_type),
            _ => return None,
        },
        _ => return None,
    };
    match (text, data_type) {
        (Value::SingleQuotedString(text), DataType::Timestamp(precision, _)) => Some((text.as_str(), precision)),
        _ => None,
    }
}

#[derive(Default)]
struct Times {
    any_is_far: bool,
}

impl VisitorMut for Times {
    type Break = QueryError;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<QueryError> {
        if let Some((text, None)) = timestamp_text(expr) {
            self.any_is_far |= beyond_nanoseconds(text).is_some_and(|far| far);
        }
        ControlFlow::Continue(())
    }
}

struct Words {
    /// Whether the statement's timestamps are in microseconds, because not all of them fit nanoseconds.
    micros: bool,
}

impl VisitorMut for Words {
    type Break = QueryError;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<QueryError> {
        if select.flavor == SelectFlavor::FromFirstNoSelect {
            select.flavor = SelectFlavor::Standard;
            select.projection = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
        }
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) = item
                && let Expr::Cast { expr: inner, data_type, .. } = &expr
                && length(data_type).is_some()
            {
                let alias = named_after(inner);
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<QueryError> {
        match sampled(factor) {
            Ok(Some(sampled)) => *factor = sampled,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<QueryError> {
        if self.micros
            && let Some((text, precision @ None)) = timestamp_text(expr)
            && beyond_nanoseconds(text).is_some()
        {
            *precision = Some(6);
        }
        if let Expr::Cast { data_type, .. } = expr
            && let Some(length) = length(data_type)
        {
            // Trailing blanks of CHAR(n) are ignored in comparisons, lengths and concatenations.
            let is_padded = matches!(data_type, DataType::Char(_));
            *data_type = DataType::Varchar(None);
            let whole = taken(expr);
            *expr = call("left", vec![whole, number(length)]);
            if is_padded {
                *expr = call("rtrim", vec![taken(expr)]);
            }
        }
        ControlFlow::Continue(())
    }
}

/// Returns DataFusion's name of a cast.
fn named_after(expr: &Expr) -> Ident {
    match expr {
        Expr::Identifier(ident) => ident.clone(),
        Expr::CompoundIdentifier(parts) => parts.last().cloned().unwrap_or_else(|| Ident::new("left")),
        other => Ident::with_quote('"', other.to_string()),
    }
}

/// Returns a subquery over the rows of a sample, which replaces the table. `None`: all rows are wanted.
fn sampled(factor: &mut TableFactor) -> Result<Option<TableFactor>, QueryError> {
    let sample = match factor {
        TableFactor::Table { sample, .. } | TableFactor::Derived { sample, .. } => sample.take(),
        _ => None,
    };
    let Some(TableSampleKind::BeforeTableAlias(sample) | TableSampleKind::AfterTableAlias(sample)) = sample else {
        return Ok(None);
    };
    let alias = match factor {
        TableFactor::Table { name, alias, .. } => alias.take().or_else(|| alias_of(name)),
        TableFactor::Derived { alias, .. } => alias.take(),
        _ => None,
    };
    let rows = format!("SELECT * FROM t {}", clause(&sample)?);
    let mut parsed = Parser::parse_sql(&GenericDialect {}, &rows)
        .map_err(|error| QueryError::Internal(format!("a sample as a query: {error}")))?;
    let Some(ast::Statement::Query(mut query)) = parsed.pop() else {
        return Err(QueryError::Internal("a sample is no query".to_string()));
    };
    if let SetExpr::Select(select) = query.body.as_mut()
        && let Some(from) = select.from.first_mut()
    {
        from.relation = factor.clone();
    }
    Ok(Some(TableFactor::Derived { lateral: false, subquery: query, alias, sample: None }))
}

fn alias_of(name: &ObjectName) -> Option<TableAlias> {
    let ident = name.0.last()?.as_ident()?.clone();
    Some(TableAlias { explicit: true, name: ident, columns: Vec::new(), at: None })
}

/// Returns the clause that selects the rows of the sample: each by chance, or the first ones.
fn clause(sample: &TableSample) -> Result<String, QueryError> {
    let unsupported = |what: &str| {
        Err(QueryError::Unsupported(format!(
            "{what} of TABLESAMPLE is not supported: sample by BERNOULLI (percent), SYSTEM (percent) or (n ROWS)"
        )))
    };
    if sample.seed.is_some() {
        return unsupported("REPEATABLE");
    }
    if sample.bucket.is_some() || sample.offset.is_some() {
        return unsupported("a bucket");
    }
    let method = sample.name.unwrap_or(TableSampleMethod::Bernoulli);
    if !matches!(method, TableSampleMethod::Bernoulli | TableSampleMethod::System | TableSampleMethod::Row) {
        return unsupported("this method");
    }
    let Some(quantity) = &sample.quantity else { return unsupported("a sample without a size") };
    let number = match &quantity.value {
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) => number.parse::<f64>().ok(),
            _ => None,
        },
        _ => None,
    };
    match (number, &quantity.unit) {
        (Some(rows), Some(TableSampleUnit::Rows)) if rows.fract() == 0.0 && rows >= 0.0 => Ok(format!("LIMIT {rows}")),
        (Some(percent), None | Some(TableSampleUnit::Percent)) if (0.0..=100.0).contains(&percent) => {
            Ok(format!("WHERE random() < {}", percent / 100.0))
        }
        _ => Err(QueryError::Invalid(format!(
            "a sample of {quantity} cannot be taken: give a percentage from 0 to 100, as in TABLESAMPLE BERNOULLI (10)"
        ))),
    }
}

fn number(value: u64) -> Expr {
    Expr::Value(Value::Number(value.to_string(), false).into())
}

/// Returns the call `name(args)`.
pub(super) fn call(name: &str, args: Vec<Expr>) -> Expr {
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

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::parser::DFParser;

    fn rewritten(sql: &str) -> String {
        let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
        match rewrite(&mut statement) {
            Ok(()) => statement.to_string(),
            Err(error) => format!("{error}"),
        }
    }

    #[test]
    fn the_planner_is_told_in_its_own_words() {
        for (sql, expected) in [
            ("from t", "SELECT * FROM t"),
            ("from t limit 2", "SELECT * FROM t LIMIT 2"),
            (
                "select 1 from s.t tablesample bernoulli (10)",
                "SELECT 1 FROM (SELECT * FROM s.t WHERE random() < 0.1) AS t",
            ),
            (
                "select 1 from t as x tablesample system (50)",
                "SELECT 1 FROM (SELECT * FROM t WHERE random() < 0.5) AS x",
            ),
            ("select 1 from t tablesample (7 rows)", "SELECT 1 FROM (SELECT * FROM t LIMIT 7) AS t"),
            ("select a::varchar(3) from t", "SELECT left(a::VARCHAR, 3) AS a FROM t"),
            ("select upper(cast(t.a as char(2)))", "SELECT upper(rtrim(left(CAST(t.a AS VARCHAR), 2)))"),
            ("select timestamp '2024-01-01'", "SELECT TIMESTAMP '2024-01-01'"),
            (
                "select timestamp '9999-12-31', '2024-01-01'::timestamp",
                "SELECT TIMESTAMP(6) '9999-12-31', '2024-01-01'::TIMESTAMP(6)",
            ),
        ] {
            assert_eq!(rewritten(sql), expected, "{sql}");
        }
    }

    #[test]
    fn a_sample_that_cannot_be_taken_is_refused() {
        for sql in [
            "select 1 from t tablesample bernoulli (101)",
            "select 1 from t tablesample bernoulli (10) repeatable (5)",
            "select 1 from t tablesample (bucket 1 out of 4)",
        ] {
            assert!(rewritten(sql).contains("ample"), "{sql}: {}", rewritten(sql));
        }
    }
}

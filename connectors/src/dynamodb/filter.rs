//! Filters of a statement as conditions on items. An allow-list: what is here has the answer that Windlass gives.
//!
//! | columns | what is taken | why |
//! | --- | --- | --- |
//! | texts | comparisons, IN, LIKE of a beginning or a part | both compare bytes of UTF-8 |
//! | whole numbers, decimals | comparisons, IN | both are exact |
//! | DOUBLE, REAL | IS NULL | they round here, and do not there |
//! | BINARY, BOOLEAN | comparisons, IN | bytes; false is less |
//! | all others | IS NULL | |
//!
//! With `mismatch 'null'` a number that does not fit is NULL here and a number there: then no condition on numbers is taken.

use super::condition::{Condition, Literal, Test, Value, decimal};
use super::decode::is_text;
use crate::conditions::{column, value};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Like, Operator};
use datafusion::scalar::ScalarValue;

/// Values of an IN that are taken.
const MOST_VALUES: usize = 1_000;
/// Conditions inside of each other that are taken.
const MOST_DEPTH: usize = 20;

/// The columns that filters are about.
pub(super) struct Columns<'a> {
    pub schema: &'a Schema,
    pub misfits_are_null: bool,
}

/// `filter` as a condition that is fulfilled where it is TRUE. `None`: it is not taken.
pub(super) fn taken(filter: &Expr, columns: &Columns<'_>) -> Option<Condition> {
    columns.taken(filter, false).filter(|condition| condition.depth() <= MOST_DEPTH)
}

impl Columns<'_> {
    fn field(&self, name: &str) -> Option<&Field> {
        self.schema.field_with_name(name).ok()
    }

    /// `negated`: where it is FALSE.
    fn taken(&self, filter: &Expr, negated: bool) -> Option<Condition> {
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
                let parts = vec![self.taken(left, negated)?, self.taken(right, negated)?];
                let is_all = (*op == Operator::And) != negated;
                Some(if is_all { Condition::all(parts) } else { Condition::any(parts) })
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let (column, op, value) = match (value(left), value(right)) {
                    (None, Some(value)) => (left, *op, value),
                    (Some(value), None) => (right, op.swap()?, value),
                    _ => return None,
                };
                self.compared(column, test(op, negated)?, value)
            }
            Expr::Not(inner) => self.taken(inner, !negated),
            Expr::IsTrue(inner) if !negated => self.taken(inner, false),
            Expr::IsFalse(inner) if !negated => self.taken(inner, true),
            Expr::IsNull(inner) => self.null(inner, !negated),
            Expr::IsNotNull(inner) => self.null(inner, negated),
            Expr::Column(column) => {
                let field = self.field(&column.name)?;
                let value = Literal::Truth(!negated).into();
                (*field.data_type() == DataType::Boolean)
                    .then(|| Condition::leaf(Test::Equal, field.name(), vec![value]))
            }
            Expr::Between(Between { expr, negated: not, low, high }) => {
                let (low, high) = (value(low)?, value(high)?);
                let is_outside = *not != negated;
                let (from, to) =
                    if is_outside { (Test::Less, Test::Greater) } else { (Test::GreaterOrEqual, Test::LessOrEqual) };
                let parts = vec![self.compared(expr, from, low)?, self.compared(expr, to, high)?];
                Some(if is_outside { Condition::any(parts) } else { Condition::all(parts) })
            }
            Expr::InList(list) if !list.list.is_empty() && list.list.len() <= MOST_VALUES => {
                let test = if list.negated == negated { Test::OneOf } else { Test::NoneOf };
                let one = |item: &Expr| self.compared(&list.expr, test, value(item)?);
                let parts = list.list.iter().map(one).collect::<Option<Vec<_>>>()?;
                let column = parts.first()?.column.clone();
                Some(Condition::leaf(test, &column, parts.into_iter().flat_map(|part| part.values).collect()))
            }
            Expr::Like(Like { negated: not, expr, pattern, escape_char: None, case_insensitive: false }) => {
                let pattern = value(pattern)?.try_as_str().flatten()?;
                let field = self.field(column(expr)?.0).filter(|field| is_text(field.data_type()))?;
                if pattern.contains(['\\', '_']) {
                    return None;
                }
                let not = *not != negated;
                let (test, part) = match (pattern.strip_suffix('%'), pattern.strip_prefix('%')) {
                    (Some(part), None) if !part.contains('%') => {
                        (if not { Test::NotBegins } else { Test::Begins }, part)
                    }
                    (Some(_), Some(rest)) => {
                        let part = rest.strip_suffix('%').filter(|part| !part.contains('%'))?;
                        (if not { Test::NotContains } else { Test::Contains }, part)
                    }
                    _ => return None,
                };
                let value = Literal::Text(part.to_string()).into();
                (!part.is_empty()).then(|| Condition::leaf(test, field.name(), vec![value]))
            }
            _ => None,
        }
    }

    fn null(&self, expr: &Expr, is_null: bool) -> Option<Condition> {
        let Expr::Column(column) = expr else { return None };
        let field = self.field(&column.name)?;
        let kind = match field.data_type() {
            _ if !self.misfits_are_null => "",
            kind if is_text(kind) => "",
            DataType::Boolean => "BOOL",
            DataType::Binary => "B",
            _ => return None,
        };
        let test = if is_null { Test::Null } else { Test::NotNull };
        Some(Condition { kind: kind.to_string(), ..Condition::leaf(test, field.name(), vec![]) })
    }

    fn compared(&self, expr: &Expr, test: Test, value: &ScalarValue) -> Option<Condition> {
        let (name, cast) = column(expr)?;
        let field = self.field(name)?;
        let value = self.value(field.data_type(), cast, value)?;
        match value.literal {
            // DynamoDB does not order them.
            Some(Literal::Truth(truth)) => of_truth(test, field.name(), truth),
            _ => Some(Condition::leaf(test, field.name(), vec![value])),
        }
    }

    /// `value`, which a column of the type `kind`, perhaps cast, is compared with.
    fn value(&self, kind: &DataType, cast: Option<&DataType>, value: &ScalarValue) -> Option<Value> {
        let literal = if is_text(kind) {
            if cast.is_some_and(|cast| !is_text(cast)) {
                return None;
            }
            Literal::Text(value.try_as_str().flatten()?.to_string())
        } else if let Some((whole, scale)) = digits(kind) {
            let keeps = |cast: &DataType| digits(cast).is_some_and(|(of, at)| of >= whole && at >= scale);
            if self.misfits_are_null || cast.is_some_and(|cast| !keeps(cast)) {
                return None;
            }
            Literal::Number(number(value)?)
        } else {
            match (kind, value) {
                _ if cast.is_some() => return None,
                (DataType::Boolean, ScalarValue::Boolean(Some(value))) => Literal::Truth(*value),
                (DataType::Binary, ScalarValue::Binary(Some(bytes))) => Literal::Bytes(bytes.clone()),
                _ => return None,
            }
        };
        Some(literal.into())
    }
}

/// A comparison of truth values, of which false is the lesser, as the list of those that fulfil it.
fn of_truth(test: Test, column: &str, than: bool) -> Option<Condition> {
    let fits = |value: &bool| match test {
        Test::Equal => *value == than,
        Test::NotEqual => *value != than,
        Test::Less => !value & than,
        Test::LessOrEqual => *value <= than,
        Test::Greater => value & !than,
        Test::GreaterOrEqual => *value >= than,
        _ => false,
    };
    let values: Vec<Value> = [false, true].into_iter().filter(fits).map(|value| Literal::Truth(value).into()).collect();
    match (test, values.len()) {
        // One value of a list.
        (Test::OneOf | Test::NoneOf, _) => Some(Condition::leaf(test, column, vec![Literal::Truth(than).into()])),
        (_, 0) => None,
        (_, 1) => Some(Condition::leaf(Test::Equal, column, values)),
        _ => Some(Condition::leaf(Test::OneOf, column, values)),
    }
}

/// Digits before and behind the point of exact numbers. Signed integers alone: no cast of one changes a value.
fn digits(kind: &DataType) -> Option<(i16, i16)> {
    Some(match kind {
        DataType::Int8 => (3, 0),
        DataType::Int16 => (5, 0),
        DataType::Int32 => (10, 0),
        DataType::Int64 => (19, 0),
        DataType::Decimal128(precision, scale) if *scale >= 0 => {
            (i16::from(*precision) - i16::from(*scale), (*scale).into())
        }
        _ => return None,
    })
}

fn number(value: &ScalarValue) -> Option<String> {
    Some(match value {
        ScalarValue::Int8(Some(value)) => value.to_string(),
        ScalarValue::Int16(Some(value)) => value.to_string(),
        ScalarValue::Int32(Some(value)) => value.to_string(),
        ScalarValue::Int64(Some(value)) => value.to_string(),
        ScalarValue::Decimal128(Some(value), _, scale) => decimal(*value, u8::try_from(*scale).ok()?),
        _ => return None,
    })
}

fn test(op: Operator, negated: bool) -> Option<Test> {
    let op = if negated { op.negate()? } else { op };
    Some(match op {
        Operator::Eq => Test::Equal,
        Operator::NotEq => Test::NotEqual,
        Operator::Lt => Test::Less,
        Operator::LtEq => Test::LessOrEqual,
        Operator::Gt => Test::Greater,
        Operator::GtEq => Test::GreaterOrEqual,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::{col, lit};

    #[test]
    fn only_what_has_the_same_answer_is_taken() {
        let fields = [
            ("id", DataType::Int64),
            ("name", DataType::Utf8),
            ("price", DataType::Float64),
            ("amount", DataType::Decimal128(10, 2)),
            ("paid", DataType::Boolean),
            ("day", DataType::Date32),
        ];
        let schema = Schema::new(fields.map(|(name, kind)| Field::new(name, kind, true)).to_vec());
        let decimal = |value, scale| lit(ScalarValue::Decimal128(Some(value), 10, scale));
        for (filter, expected, if_null) in [
            (col("id").gt(lit(5_i64)), Some("id > 5"), None),
            (lit(5_i64).gt(col("id")), Some("id < 5"), None),
            (!(col("id").gt(lit(5_i64)).and(col("paid"))), Some("id <= 5 OR paid = false"), None),
            (col("name").eq(lit("it's")), Some("name = 'it''s'"), Some("name = 'it''s'")),
            (
                col("name").eq(lit("a")).or(col("name").eq(lit("b"))),
                Some("name IN ('a', 'b')"),
                Some("name IN ('a', 'b')"),
            ),
            (col("name").like(lit("a%")), Some("begins_with(name, 'a')"), Some("begins_with(name, 'a')")),
            (col("name").not_like(lit("%a%")), Some("NOT contains(name, 'a')"), Some("NOT contains(name, 'a')")),
            (col("name").like(lit("a_%")), None, None),
            (col("name").like(lit("%a")), None, None),
            (col("amount").lt_eq(decimal(-150, 2)), Some("amount <= -1.5"), None),
            (col("id").in_list(vec![lit(1_i64), lit(2_i64)], true), Some("id NOT IN (1, 2)"), None),
            (col("id").between(lit(1_i64), lit(9_i64)), Some("id >= 1 AND id <= 9"), None),
            (col("id").is_null(), Some("id IS NULL"), None),
            (col("day").is_not_null(), Some("day IS NOT NULL"), None),
            (col("paid").is_null(), Some("paid IS NULL"), Some("paid IS NULL")),
            (!col("paid"), Some("paid = false"), Some("paid = false")),
            (col("price").gt(lit(1.5)), None, None),
            (col("day").eq(lit(ScalarValue::Date32(Some(1)))), None, None),
            (col("id").eq(lit(ScalarValue::Int64(None))), None, None),
            ((col("id") + lit(1_i64)).gt(lit(1_i64)), None, None),
            (Expr::IsNotTrue(Box::new(col("paid"))), None, None),
            (col("paid").gt_eq(lit(true)), Some("paid = true"), Some("paid = true")),
            (col("paid").lt_eq(lit(true)), Some("paid IN (false, true)"), Some("paid IN (false, true)")),
            (col("paid").lt(lit(false)), None, None),
            (col("paid").not_eq(lit(true)), Some("paid = false"), Some("paid = false")),
        ] {
            for (misfits_are_null, expected) in [(false, expected), (true, if_null)] {
                let shown =
                    taken(&filter, &Columns { schema: &schema, misfits_are_null }).map(|taken| taken.to_string());
                assert_eq!(shown.as_deref(), expected, "{filter} {misfits_are_null}");
            }
        }
    }
}

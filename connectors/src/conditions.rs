//! Parts of the conditions that servers of databases are sent, which are the same for all of them.

use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::{Cast, Expr};
use datafusion::scalar::ScalarValue;

/// Values of an IN that are sent.
pub(crate) const MOST_VALUES: usize = 1_000;

pub(crate) fn not(negated: bool) -> &'static str {
    if negated { "NOT " } else { "" }
}

/// The value of a literal. NULL is none: comparisons with it are not sent.
pub(crate) fn value(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) if !value.is_null() => Some(value),
        _ => None,
    }
}

/// A column, and the type to which it is cast.
pub(crate) fn column(expr: &Expr) -> Option<(&str, Option<&DataType>)> {
    match expr {
        Expr::Column(column) => Some((&column.name, None)),
        Expr::Cast(Cast { expr, field }) => match expr.as_ref() {
            Expr::Column(column) => Some((&column.name, Some(field.data_type()))),
            _ => None,
        },
        _ => None,
    }
}

//! Texts written beside decimals: they become decimals of their own digits, as in PostgreSQL.
//!
//! DataFusion converts them to the decimal type beside them: `x = '1.504'` finds 1.50, and `'10' > 9.5` is an error.

use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Decimal256Type, DecimalType, i256,
};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, Projection};
use std::sync::Arc;

/// Maximum digits that an exponent may add.
const LONGEST: i32 = 100;

/// Converts the written texts among `parts` to decimals if one part is a decimal already. `types` are the types of the parts, and are updated.
pub(super) fn beside_decimals(parts: &mut [Expr], types: &mut [DataType]) -> bool {
    if !types.iter().any(DataType::is_decimal) {
        return false;
    }
    let mut changed = false;
    for (part, of) in parts.iter_mut().zip(types) {
        if let Some(decimal) = decimal(part) {
            *of = decimal.data_type();
            *part = Expr::Literal(decimal, None);
            changed = true;
        }
    }
    changed
}

/// Does the same for written texts in columns of a set operation.
pub(super) fn in_columns(inputs: &mut [Arc<LogicalPlan>]) -> bool {
    let width = inputs.iter().map(|input| input.schema().fields().len()).min().unwrap_or_default();
    let mut changed = false;
    for at in 0..width {
        if !inputs.iter().any(|input| input.schema().field(at).data_type().is_decimal()) {
            continue;
        }
        for input in inputs.iter_mut() {
            if let Some(written) = in_column(input, at) {
                *input = Arc::new(written);
                changed = true;
            }
        }
    }
    changed
}

/// `plan` with a decimal in place of the text in its column `at`. `None`: the column is no such text.
fn in_column(plan: &LogicalPlan, at: usize) -> Option<LogicalPlan> {
    match plan {
        LogicalPlan::Distinct(Distinct::All(input)) => {
            Some(LogicalPlan::Distinct(Distinct::All(Arc::new(in_column(input, at)?))))
        }
        LogicalPlan::Projection(of) => {
            let (relation, name) = of.expr[at].qualified_name();
            let decimal = decimal(&of.expr[at].clone().unalias())?;
            let mut columns = of.expr.clone();
            columns[at] = Expr::Literal(decimal, None).alias_qualified(relation, name);
            Projection::try_new(columns, Arc::clone(&of.input)).ok().map(LogicalPlan::Projection)
        }
        _ => None,
    }
}

/// The decimal that a written text stands for, if it is a decimal.
pub(super) fn decimal(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => of_text(text),
        _ => None,
    }
}

/// A decimal with the digits of `text`. `None`: it is no number, or has too many digits.
fn of_text(text: &str) -> Option<ScalarValue> {
    let text = text.trim();
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok().filter(|of| of.abs() <= LONGEST)?),
        None => (text, 0),
    };
    let digits = mantissa.strip_prefix(['-', '+']).unwrap_or(mantissa);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut scale = i32::try_from(fraction.len()).ok()? - exponent;
    while scale < 0 {
        digits.push('0');
        scale += 1;
    }
    let digits = digits.trim_start_matches('0');
    let precision = u8::try_from(digits.len().max(usize::try_from(scale).ok()?).max(1)).ok()?;
    let scale = i8::try_from(scale).ok()?;
    let signed = if mantissa.starts_with('-') { format!("-{digits}") } else { digits.to_string() };
    let signed = if digits.is_empty() { "0" } else { &signed };
    match precision {
        precision if precision <= DECIMAL128_MAX_PRECISION => {
            Some(ScalarValue::Decimal128(Some(signed.parse().ok()?), precision, scale))
        }
        precision if precision <= DECIMAL256_MAX_PRECISION => {
            let value: i256 = signed.parse().ok()?;
            Decimal256Type::validate_decimal_precision(value, precision, scale).ok()?;
            Some(ScalarValue::Decimal256(Some(value), precision, scale))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_a_decimal_of_its_own_digits() {
        for (text, value, precision, scale) in [
            ("1.504", 1504, 4, 3),
            (" +1.50 ", 150, 3, 2),
            ("-0.05", -5, 2, 2),
            (".5", 5, 1, 1),
            ("2.", 2, 1, 0),
            ("0", 0, 1, 0),
            ("-0.0", 0, 1, 1),
            ("1e3", 1000, 4, 0),
            ("12E-3", 12, 3, 3),
            ("007", 7, 1, 0),
        ] {
            assert_eq!(of_text(text), Some(ScalarValue::Decimal128(Some(value), precision, scale)), "{text}");
        }
        for text in ["", ".", "-", "abc", "1 2", "NaN", "1e", "1e1000", "--1", "0x10"] {
            assert_eq!(of_text(text), None, "{text}");
        }
        assert!(matches!(of_text(&"9".repeat(50)), Some(ScalarValue::Decimal256(Some(_), 50, 0))));
    }
}

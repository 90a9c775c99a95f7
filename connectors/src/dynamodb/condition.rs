//! Conditions on items: as DynamoDB's expressions, and computed here.
//!
//! A condition stands for "is TRUE": negations are at its leaves, so a missing attribute fulfils none but IS NULL. DynamoDB compares values of one type alone, and
//! says that values of different types differ; a guard by type makes it say what SQL says. A text column takes attributes of any type, as their texts; what DynamoDB
//! cannot decide about those it lets pass, and it is decided here.

use super::described::{KeyKind, Keys};
use super::number::Number;
use super::value::{Item, View};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use prost::{Enumeration, Message, Oneof};
use std::cmp::Ordering;
use std::fmt;

/// Characters and operators that an expression has at most: DynamoDB takes 4,096 bytes and 300.
const MOST_BYTES: usize = 4000;
const MOST_OPERATORS: usize = 280;
/// Values of one IN.
const MOST_OF_IN: usize = 100;

/// A value that attributes are compared with.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    #[prost(oneof = "Literal", tags = "1, 2, 3, 4")]
    pub literal: Option<Literal>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Literal {
    #[prost(string, tag = "1")]
    Text(String),
    /// Written as [`decimal`] does.
    #[prost(string, tag = "2")]
    Number(String),
    #[prost(bytes = "vec", tag = "3")]
    Bytes(Vec<u8>),
    #[prost(bool, tag = "4")]
    Truth(bool),
}

impl From<Literal> for Value {
    fn from(literal: Literal) -> Self {
        Self { literal: Some(literal) }
    }
}

impl Value {
    pub fn attribute(&self) -> AttributeValue {
        match &self.literal {
            Some(Literal::Text(text)) => AttributeValue::S(text.clone()),
            Some(Literal::Number(text)) => AttributeValue::N(text.clone()),
            Some(Literal::Bytes(bytes)) => AttributeValue::B(Blob::new(bytes.clone())),
            Some(Literal::Truth(value)) => AttributeValue::Bool(*value),
            None => AttributeValue::Null(true),
        }
    }

    /// As a key of this kind. `None`: no key is like it.
    pub fn is_key(&self, kind: KeyKind) -> bool {
        match (&self.literal, kind) {
            (Some(Literal::Text(text)), KeyKind::Text) => !text.is_empty(),
            (Some(Literal::Bytes(bytes)), KeyKind::Bytes) => !bytes.is_empty(),
            (Some(Literal::Number(_)), KeyKind::Number) => true,
            _ => false,
        }
    }

    /// DynamoDB has no expression with it.
    fn is_empty(&self) -> bool {
        match &self.literal {
            Some(Literal::Text(text)) => text.is_empty(),
            Some(Literal::Bytes(bytes)) => bytes.is_empty(),
            _ => false,
        }
    }

    fn kind(&self) -> &'static str {
        match &self.literal {
            Some(Literal::Text(_)) => "S",
            Some(Literal::Number(_)) => "N",
            Some(Literal::Bytes(_)) => "B",
            Some(Literal::Truth(_)) => "BOOL",
            None => "NULL",
        }
    }

    /// How an attribute compares with it. `None`: it is missing, or of another type.
    fn compared(&self, attribute: View<'_>) -> Option<Ordering> {
        match self.literal.as_ref()? {
            Literal::Text(text) => Some(attribute.text()?.as_bytes().cmp(text.as_bytes())),
            Literal::Number(text) => match attribute {
                View::Number(of) => Some(Number::parse(of)?.cmp(&Number::parse(text)?)),
                _ => None,
            },
            Literal::Bytes(bytes) => match attribute {
                View::Bytes(of) => Some(of.cmp(bytes)),
                _ => None,
            },
            Literal::Truth(value) => match attribute {
                View::Truth(of) => Some(of.cmp(value)),
                _ => None,
            },
        }
    }

    /// The order of two values of one kind.
    pub fn order(&self, other: &Self) -> Option<Ordering> {
        other.compared(View::of(&self.attribute()))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.literal {
            Some(Literal::Text(text)) => write!(f, "'{}'", text.replace('\'', "''")),
            Some(Literal::Number(text)) => f.write_str(text),
            Some(Literal::Bytes(bytes)) => {
                f.write_str("X'")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str("'")
            }
            Some(Literal::Truth(value)) => write!(f, "{value}"),
            None => f.write_str("NULL"),
        }
    }
}

/// `mantissa` times ten to the power of -`scale`, without an exponent: equal numbers have the same text.
pub(super) fn decimal(mantissa: i128, scale: u8) -> String {
    let scale = usize::from(scale);
    let digits = format!("{:0>width$}", mantissa.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let fraction = fraction.trim_end_matches('0');
    let sign = if mantissa < 0 { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub(super) enum Test {
    /// All parts.
    All = 0,
    /// At least one part.
    Any = 1,
    Equal = 2,
    NotEqual = 3,
    Less = 4,
    LessOrEqual = 5,
    Greater = 6,
    GreaterOrEqual = 7,
    OneOf = 8,
    NoneOf = 9,
    Null = 10,
    NotNull = 11,
    Begins = 12,
    NotBegins = 13,
    Contains = 14,
    NotContains = 15,
}

/// A condition that is true of an item, or not.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Condition {
    #[prost(enumeration = "Test", tag = "1")]
    pub test: i32,
    #[prost(string, tag = "2")]
    pub column: String,
    #[prost(message, repeated, tag = "3")]
    pub values: Vec<Value>,
    #[prost(message, repeated, tag = "4")]
    pub parts: Vec<Condition>,
    /// For NULL and NOT NULL: the type that attributes must have, else they are NULL.
    #[prost(string, tag = "5")]
    pub kind: String,
}

impl Condition {
    pub fn leaf(test: Test, column: &str, values: Vec<Value>) -> Self {
        Self { test: test.into(), column: column.to_string(), values, ..Self::default() }
    }

    pub fn all(parts: Vec<Self>) -> Self {
        Self::joined(Test::All, parts)
    }

    /// Equalities of one column are one test.
    pub fn any(parts: Vec<Self>) -> Self {
        let joined = Self::joined(Test::Any, parts);
        let is_equality = |part: &Self| matches!(part.test(), Test::Equal | Test::OneOf);
        match joined.parts.first() {
            Some(first)
                if joined.test() == Test::Any
                    && joined.parts.iter().all(|part| is_equality(part) && part.column == first.column) =>
            {
                let values = joined.parts.iter().flat_map(|part| part.values.iter().cloned()).collect();
                Self::leaf(Test::OneOf, &first.column, values)
            }
            _ => joined,
        }
    }

    fn joined(test: Test, parts: Vec<Self>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            if part.test() == test { flat.extend(part.parts) } else { flat.push(part) }
        }
        match flat.len() {
            1 => flat.remove(0),
            _ => Self { test: test.into(), parts: flat, ..Self::default() },
        }
    }

    /// The conditions that all have to be true.
    pub fn conjuncts(self) -> Vec<Self> {
        if self.test() == Test::All { self.parts } else { vec![self] }
    }

    pub fn columns(&self) -> Vec<&str> {
        match self.parts.is_empty() {
            true => vec![self.column.as_str()],
            false => self.parts.iter().flat_map(Self::columns).collect(),
        }
    }

    /// Nesting.
    pub fn depth(&self) -> usize {
        1 + self.parts.iter().map(Self::depth).max().unwrap_or(0)
    }

    /// Whether it is true of no item that lacks `column`.
    pub fn needs(&self, column: &str) -> bool {
        match self.test() {
            Test::All => self.parts.iter().any(|part| part.needs(column)),
            Test::Any => self.parts.iter().all(|part| part.needs(column)),
            Test::Null => false,
            _ => self.column == column,
        }
    }

    pub fn holds(&self, item: &Item) -> bool {
        let attribute = || View::attribute(item, &self.column);
        let compared = |fits: fn(Ordering) -> bool| {
            self.values.first().and_then(|value| value.compared(attribute())).is_some_and(fits)
        };
        let text =
            |fits: fn(&str, &str) -> bool| match (&self.values.first().map(|value| &value.literal), attribute().text())
            {
                (Some(Some(Literal::Text(part))), Some(text)) => fits(&text, part),
                _ => false,
            };
        let is_null = || match attribute() {
            View::Null => true,
            value => !self.kind.is_empty() && value.kind() != self.kind,
        };
        match self.test() {
            Test::All => self.parts.iter().all(|part| part.holds(item)),
            Test::Any => self.parts.iter().any(|part| part.holds(item)),
            Test::Equal => compared(Ordering::is_eq),
            Test::NotEqual => compared(Ordering::is_ne),
            Test::Less => compared(Ordering::is_lt),
            Test::LessOrEqual => compared(Ordering::is_le),
            Test::Greater => compared(Ordering::is_gt),
            Test::GreaterOrEqual => compared(Ordering::is_ge),
            Test::OneOf => self.values.iter().any(|value| value.compared(attribute()).is_some_and(Ordering::is_eq)),
            Test::NoneOf => self.values.iter().all(|value| value.compared(attribute()).is_some_and(Ordering::is_ne)),
            Test::Null => is_null(),
            Test::NotNull => !is_null(),
            Test::Begins => text(|text, part| text.starts_with(part)),
            Test::NotBegins => text(|text, part| !text.starts_with(part)),
            Test::Contains => text(|text, part| text.contains(part)),
            Test::NotContains => text(|text, part| !text.contains(part)),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, word: &str| {
            for (at, part) in self.parts.iter().enumerate() {
                if at > 0 {
                    write!(f, " {word} ")?;
                }
                if part.parts.is_empty() { write!(f, "{part}")? } else { write!(f, "({part})")? }
            }
            Ok(())
        };
        let column = &self.column;
        let value = || self.values.first().map(Value::to_string).unwrap_or_default();
        let values = || self.values.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
        match self.test() {
            Test::All => joined(f, "AND"),
            Test::Any => joined(f, "OR"),
            Test::Equal => write!(f, "{column} = {}", value()),
            Test::NotEqual => write!(f, "{column} <> {}", value()),
            Test::Less => write!(f, "{column} < {}", value()),
            Test::LessOrEqual => write!(f, "{column} <= {}", value()),
            Test::Greater => write!(f, "{column} > {}", value()),
            Test::GreaterOrEqual => write!(f, "{column} >= {}", value()),
            Test::OneOf => write!(f, "{column} IN ({})", values()),
            Test::NoneOf => write!(f, "{column} NOT IN ({})", values()),
            Test::Null => write!(f, "{column} IS NULL"),
            Test::NotNull => write!(f, "{column} IS NOT NULL"),
            Test::Begins => write!(f, "begins_with({column}, {})", value()),
            Test::NotBegins => write!(f, "NOT begins_with({column}, {})", value()),
            Test::Contains => write!(f, "contains({column}, {})", value()),
            Test::NotContains => write!(f, "NOT contains({column}, {})", value()),
        }
    }
}

/// An expression of DynamoDB with its placeholders: `#0` for a name, `:0` for a value.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Expression {
    #[prost(string, tag = "1")]
    pub text: String,
    #[prost(string, repeated, tag = "2")]
    pub names: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub values: Vec<Value>,
}

/// A part of an expression.
struct Part {
    text: String,
    /// It is joined of others, and wants parentheses among them. DynamoDB refuses those that are not needed.
    is_joined: bool,
    /// DynamoDB lets pass only what fulfils the condition.
    is_exact: bool,
    operators: usize,
}

impl Expression {
    pub fn name(&mut self, name: &str) -> String {
        let at = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_string());
            self.names.len() - 1
        });
        format!("#{at}")
    }

    pub fn value(&mut self, value: Value) -> String {
        let at = self.values.iter().position(|known| *known == value).unwrap_or_else(|| {
            self.values.push(value);
            self.values.len() - 1
        });
        format!(":{at}")
    }

    /// Puts conditions into one expression, as many as it can hold. Returns it with those that are to be computed here, wholly or also.
    ///
    /// `keys`: attributes of a certain type.
    pub fn of(conditions: &[Condition], keys: &Keys) -> (Self, Vec<Condition>) {
        let (mut expression, mut here, mut operators) = (Self::default(), Vec::new(), 0);
        for condition in conditions {
            let mut longer = expression.clone();
            let part = longer.part(condition, keys);
            let Some(part) = part else {
                here.push(condition.clone());
                continue;
            };
            let text = if part.is_joined && !(expression.text.is_empty() && conditions.len() == 1) {
                format!("({})", part.text)
            } else {
                part.text
            };
            longer.text = match expression.text.is_empty() {
                true => text,
                false => format!("{} AND {text}", expression.text),
            };
            operators += part.operators + 1;
            if longer.text.len() > MOST_BYTES || operators > MOST_OPERATORS {
                here.push(condition.clone());
                operators -= part.operators + 1;
                continue;
            }
            expression = longer;
            if !part.is_exact {
                here.push(condition.clone());
            }
        }
        (expression, here)
    }

    fn part(&mut self, condition: &Condition, keys: &Keys) -> Option<Part> {
        let test = condition.test();
        if let Test::All | Test::Any = test {
            let parts = condition.parts.iter().map(|part| self.part(part, keys)).collect::<Option<Vec<Part>>>()?;
            let wrapped = |part: &Part| if part.is_joined { format!("({})", part.text) } else { part.text.clone() };
            let word = if test == Test::All { " AND " } else { " OR " };
            return Some(Part {
                text: parts.iter().map(wrapped).collect::<Vec<_>>().join(word),
                is_joined: true,
                is_exact: parts.iter().all(|part| part.is_exact),
                operators: parts.iter().map(|part| part.operators + 1).sum(),
            });
        }
        if condition.values.iter().any(Value::is_empty) || condition.values.len() > MOST_OF_IN {
            return None;
        }
        let name = self.name(&condition.column);
        let is = |test: Test| test == condition.test();
        let simple = |text: String, operators: usize| Part { text, is_joined: false, is_exact: true, operators };
        let joined = |text: String, operators: usize| Part { text, is_joined: true, is_exact: true, operators };
        let typed = |this: &mut Self, kind: &str| {
            let kind = this.value(Literal::Text(kind.to_string()).into());
            format!("attribute_type({name}, {kind})")
        };
        let truth = |this: &mut Self, value: bool| format!("{name} = {}", this.value(Literal::Truth(value).into()));
        // Not all servers see that false is there, or has a type, or is in a list.
        let any_truth = |this: &mut Self| format!("{} OR {}", truth(this, true), truth(this, false));
        if is(Test::Null) || is(Test::NotNull) {
            return Some(match (condition.kind.as_str(), is(Test::Null)) {
                ("", true) => joined(format!("attribute_not_exists({name}) OR {}", typed(self, "NULL")), 3),
                ("", false) => joined(format!("attribute_exists({name}) AND NOT {}", typed(self, "NULL")), 4),
                ("BOOL", true) => simple(format!("NOT ({})", any_truth(self)), 4),
                ("BOOL", false) => joined(any_truth(self), 3),
                (kind, true) => simple(format!("NOT {}", typed(self, kind)), 2),
                (kind, false) => simple(typed(self, kind), 1),
            });
        }
        let kind = condition.values.first()?.kind();
        if let Some(Literal::Truth(first)) = condition.values.first()?.literal {
            let has_both = condition.values.iter().any(|value| *value != condition.values[0]);
            return match test {
                Test::Equal => Some(simple(truth(self, first), 1)),
                Test::NotEqual => Some(simple(truth(self, !first), 1)),
                Test::OneOf if has_both => Some(joined(any_truth(self), 3)),
                Test::OneOf => Some(simple(truth(self, first), 1)),
                Test::NoneOf if !has_both => Some(simple(truth(self, !first), 1)),
                _ => None,
            };
        }
        let is_certain = keys.find(&condition.column).is_some_and(|key| key.kind.name() == kind);
        let values: Vec<String> = condition.values.iter().map(|value| self.value(value.clone())).collect();
        let value = &values[0];
        let list = || values.join(", ");
        let (text, is_negative) = match test {
            Test::Equal => (format!("{name} = {value}"), false),
            Test::Less => (format!("{name} < {value}"), false),
            Test::LessOrEqual => (format!("{name} <= {value}"), false),
            Test::Greater => (format!("{name} > {value}"), false),
            Test::GreaterOrEqual => (format!("{name} >= {value}"), false),
            Test::OneOf => (format!("{name} IN ({})", list()), false),
            Test::Begins => (format!("begins_with({name}, {value})"), false),
            Test::Contains => (format!("contains({name}, {value})"), false),
            Test::NotEqual => (format!("{name} <> {value}"), true),
            Test::NoneOf => (format!("NOT {name} IN ({})", list()), true),
            Test::NotBegins => (format!("NOT begins_with({name}, {value})"), true),
            Test::NotContains => (format!("NOT contains({name}, {value})"), true),
            Test::All | Test::Any | Test::Null | Test::NotNull => return None,
        };
        let operators = 2 + values.len();
        Some(match (is_certain, kind, is_negative) {
            (true, ..) => simple(text, operators),
            // What is no text may be one as a text: it passes.
            (false, "S", false) => {
                let guard = typed(self, "S");
                let text = format!("{text} OR (attribute_exists({name}) AND NOT {guard})");
                Part { is_exact: false, ..joined(text, operators + 5) }
            }
            (false, "S", true) => {
                let text = format!("attribute_exists({name}) AND {text}");
                Part { is_exact: false, ..joined(text, operators + 2) }
            }
            (false, _, false) => simple(text, operators),
            (false, kind, true) => {
                let guard = typed(self, kind);
                joined(format!("{guard} AND {text}"), operators + 2)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::described::Key;
    use super::*;

    fn keys() -> Keys {
        Keys { partition: Key { name: "id".into(), kind: KeyKind::Text }, sort: None }
    }

    fn text(text: &str) -> Value {
        Literal::Text(text.into()).into()
    }

    fn number(text: &str) -> Value {
        Literal::Number(text.into()).into()
    }

    fn truth(value: bool) -> Value {
        Literal::Truth(value).into()
    }

    #[test]
    fn expressions_say_what_sql_says() {
        let leaf = Condition::leaf;
        for (condition, expected, is_exact) in [
            (leaf(Test::Equal, "id", vec![text("a")]), "#0 = :0", true),
            (leaf(Test::Less, "n", vec![number("5")]), "#0 < :0", true),
            (leaf(Test::NotEqual, "n", vec![number("5")]), "attribute_type(#0, :1) AND #0 <> :0", true),
            (
                leaf(Test::Equal, "s", vec![text("a")]),
                "#0 = :0 OR (attribute_exists(#0) AND NOT attribute_type(#0, :1))",
                false,
            ),
            (leaf(Test::NoneOf, "s", vec![text("a"), text("b")]), "attribute_exists(#0) AND NOT #0 IN (:0, :1)", false),
            (leaf(Test::OneOf, "b", vec![truth(true), truth(false)]), "#0 = :0 OR #0 = :1", true),
            (leaf(Test::NoneOf, "b", vec![truth(true)]), "#0 = :0", true),
            (leaf(Test::Null, "s", vec![]), "attribute_not_exists(#0) OR attribute_type(#0, :0)", true),
            (
                Condition::any(vec![
                    leaf(Test::Less, "n", vec![number("5")]),
                    Condition::all(vec![leaf(Test::Equal, "id", vec![text("a")]), leaf(Test::Null, "n", vec![])]),
                ]),
                "#0 < :0 OR (#1 = :1 AND (attribute_not_exists(#0) OR attribute_type(#0, :2)))",
                true,
            ),
        ] {
            let (expression, here) = Expression::of(std::slice::from_ref(&condition), &keys());
            assert_eq!((expression.text.as_str(), here.is_empty()), (expected, is_exact), "{condition}");
        }
        // What it cannot hold is computed here.
        let empty = leaf(Test::Equal, "s", vec![text("")]);
        assert_eq!(Expression::of(std::slice::from_ref(&empty), &keys()), (Expression::default(), vec![empty]));
        let many: Vec<Condition> =
            (0..500).map(|n| leaf(Test::NotEqual, &format!("n{n}"), vec![number("5")])).collect();
        let (expression, here) = Expression::of(&many, &keys());
        assert!(expression.text.len() <= 4096 && here.len() > 400 && here.len() < 500);
    }

    #[test]
    fn conditions_are_computed_here_too() {
        let item = Item::from([
            ("n".to_string(), AttributeValue::N("1.50".into())),
            ("s".to_string(), AttributeValue::S("abc".into())),
            ("five".to_string(), AttributeValue::N("5".into())),
            ("null".to_string(), AttributeValue::Null(true)),
        ]);
        let leaf = Condition::leaf;
        for (condition, expected) in [
            (leaf(Test::Equal, "n", vec![number("1.5")]), true),
            (leaf(Test::Less, "n", vec![number("1.49")]), false),
            (leaf(Test::NotEqual, "none", vec![number("1")]), false),
            (leaf(Test::NotEqual, "null", vec![number("1")]), false),
            (leaf(Test::NoneOf, "s", vec![text("a"), text("b")]), true),
            (leaf(Test::Equal, "five", vec![text("5")]), true),
            (leaf(Test::Equal, "s", vec![number("5")]), false),
            (leaf(Test::Begins, "s", vec![text("ab")]), true),
            (leaf(Test::NotContains, "s", vec![text("bc")]), false),
            (leaf(Test::NotContains, "none", vec![text("bc")]), false),
            (leaf(Test::Null, "null", vec![]), true),
            (Condition { kind: "BOOL".into(), ..leaf(Test::Null, "s", vec![]) }, true),
            (leaf(Test::NotNull, "s", vec![]), true),
        ] {
            assert_eq!(condition.holds(&item), expected, "{condition}");
        }
    }

    #[test]
    fn decimals_have_one_text() {
        for (mantissa, scale, text) in
            [(0, 2, "0"), (150, 2, "1.5"), (-5, 3, "-0.005"), (1200, 0, "1200"), (1200, 2, "12")]
        {
            assert_eq!(decimal(mantissa, scale), text);
        }
    }
}

//! The columns of a table that has none: of the attributes of some of its items.
//!
//! | attributes | column |
//! | --- | --- |
//! | S | VARCHAR |
//! | N, all whole and in 64 bits | BIGINT |
//! | N, all of which fit 38 digits around one point | DECIMAL(38, s), s: the most digits behind the point |
//! | N, others | VARCHAR |
//! | B, BOOL | BINARY, BOOLEAN |
//! | M | STRUCT of all fields |
//! | L, SS, NS, BS | a list of the common type of all elements |
//! | of several types, empty maps, only NULL | VARCHAR |

use super::described::{Described, Key, KeyKind};
use super::number::Number;
use super::value::{Item, View};
use aws_sdk_dynamodb::types::AttributeValue;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Fields of a map above which it is taken for a dictionary, whose names are data.
const MOST_FIELDS: usize = 256;
/// Attributes of a table above which the rest is left out.
const MOST_COLUMNS: usize = 4096;

/// What was seen of an attribute.
#[derive(Clone, Debug, Default, PartialEq)]
enum Seen {
    /// Nothing but NULL.
    #[default]
    Nothing,
    Text,
    Bytes,
    Truth,
    Numbers {
        /// All of them are whole and in 64 bits.
        are_integers: bool,
        /// Digits before and behind the point, at most.
        whole: u32,
        scale: u32,
    },
    Map(BTreeMap<String, Seen>),
    List(Box<Seen>),
    /// Of several types.
    Mixed,
}

impl Seen {
    fn of(value: View<'_>) -> Self {
        match value {
            View::Null => Self::Nothing,
            View::Text(_) => Self::Text,
            View::Bytes(_) => Self::Bytes,
            View::Truth(_) => Self::Truth,
            View::Number(text) => match Number::parse(text) {
                Some(number) => Self::Numbers {
                    are_integers: number.integer().is_some_and(|number| i64::try_from(number).is_ok()),
                    whole: number.whole_digits(),
                    scale: number.scale(),
                },
                None => Self::Mixed,
            },
            View::Map(map) if map.len() <= MOST_FIELDS => {
                Self::Map(map.iter().map(|(name, value)| (name.clone(), Self::of(View::of(value)))).collect())
            }
            View::Map(_) | View::Unknown => Self::Mixed,
            View::List(_) | View::Texts(_) | View::Numbers(_) | View::Blobs(_) => {
                let elements = value.elements().unwrap_or_default();
                Self::List(Box::new(elements.into_iter().map(Self::of).fold(Self::Nothing, Self::and)))
            }
        }
    }

    /// What both of them are.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, other) | (other, Self::Nothing) => other,
            (
                Self::Numbers { are_integers, whole, scale },
                Self::Numbers { are_integers: others, whole: other_whole, scale: other_scale },
            ) => Self::Numbers {
                are_integers: are_integers && others,
                whole: whole.max(other_whole),
                scale: scale.max(other_scale),
            },
            (Self::Map(mut fields), Self::Map(others)) => {
                for (name, other) in others {
                    let known = fields.remove(&name).unwrap_or_default();
                    fields.insert(name, known.and(other));
                }
                if fields.len() > MOST_FIELDS { Self::Mixed } else { Self::Map(fields) }
            }
            (Self::List(one), Self::List(other)) => Self::List(Box::new(one.and(*other))),
            (one, other) if one == other => one,
            _ => Self::Mixed,
        }
    }

    fn kind(&self) -> DataType {
        match self {
            Self::Bytes => DataType::Binary,
            Self::Truth => DataType::Boolean,
            Self::Numbers { are_integers: true, .. } => DataType::Int64,
            Self::Numbers { whole, scale, .. } if whole + scale <= 38 => DataType::Decimal128(38, *scale as i8),
            Self::Map(fields) if !fields.is_empty() => {
                let field = |(name, seen): (&String, &Seen)| Field::new(name, seen.kind(), true);
                DataType::Struct(fields.iter().map(field).collect())
            }
            Self::List(element) => DataType::List(Arc::new(Field::new_list_field(element.kind(), true))),
            _ => DataType::Utf8,
        }
    }
}

/// What is known of the attributes of some items.
#[derive(Debug, Default)]
pub(super) struct Sample(BTreeMap<String, Seen>);

impl Sample {
    pub fn take(&mut self, item: &Item) {
        let of = |(name, value): (&String, &AttributeValue)| (name.clone(), Seen::of(View::of(value)));
        for (name, seen) in item.iter().map(of) {
            if let Some(known) = self.0.get_mut(&name) {
                *known = std::mem::take(known).and(seen);
            } else if self.0.len() < MOST_COLUMNS {
                self.0.insert(name, seen);
            }
        }
    }

    /// All attributes by name.
    pub fn columns(&self) -> Vec<Field> {
        self.0.iter().map(|(name, seen)| Field::new(name, seen.kind(), true)).collect()
    }

    /// Keys are first, and never missing.
    pub fn schema(&self, table: &Described) -> SchemaRef {
        let key = |key: &Key| {
            let kind = match key.kind {
                KeyKind::Text => DataType::Utf8,
                KeyKind::Bytes => DataType::Binary,
                KeyKind::Number => self.0.get(&key.name).map_or(DataType::Int64, Seen::kind),
            };
            Field::new(&key.name, kind, false)
        };
        let others = self.columns().into_iter().filter(|field| table.keys.find(field.name()).is_none());
        Arc::new(Schema::new(table.keys.all().map(key).chain(others).collect::<Vec<_>>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(values: &[AttributeValue]) -> DataType {
        values.iter().map(|value| Seen::of(View::of(value))).fold(Seen::Nothing, Seen::and).kind()
    }

    fn n(text: &str) -> AttributeValue {
        AttributeValue::N(text.into())
    }

    #[test]
    fn types_have_all_that_was_seen() {
        let s = || AttributeValue::S("x".into());
        let null = || AttributeValue::Null(true);
        assert_eq!(kind(&[n("1"), null(), n("-9223372036854775808")]), DataType::Int64);
        assert_eq!(kind(&[n("1"), n("9223372036854775808")]), DataType::Decimal128(38, 0));
        assert_eq!(kind(&[n("1.25"), n("1000.5")]), DataType::Decimal128(38, 2));
        assert_eq!(kind(&[n("1E-20"), n("1E20")]), DataType::Utf8);
        assert_eq!(kind(&[n("1"), s()]), DataType::Utf8);
        assert_eq!(kind(&[null()]), DataType::Utf8);
        let list = |kind| DataType::List(Arc::new(Field::new_list_field(kind, true)));
        assert_eq!(
            kind(&[AttributeValue::L(vec![n("1")]), AttributeValue::Ns(vec!["1.5".into()])]),
            list(DataType::Decimal128(38, 1))
        );
        assert_eq!(kind(&[AttributeValue::L(vec![])]), list(DataType::Utf8));
        let map = |fields: &[(&str, AttributeValue)]| {
            AttributeValue::M(fields.iter().map(|(name, value)| (name.to_string(), value.clone())).collect())
        };
        let both = kind(&[map(&[("b", n("1"))]), map(&[("a", s()), ("b", null())])]);
        let fields = vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Int64, true)];
        assert_eq!(both, DataType::Struct(fields.into()));
        assert_eq!(kind(&[map(&[])]), DataType::Utf8);
        assert_eq!(kind(&[map(&[("a", n("1"))]), n("1")]), DataType::Utf8);
    }
}

//! Values of attributes: how they are looked at, and the text that stands for any of them.

use super::number::Number;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// The attributes of an item, by name.
pub(super) type Item = HashMap<String, AttributeValue>;

/// Most bytes of a value that a message shows.
const SHOWN: usize = 60;

/// A value, or an element of a set, which has no type of its own.
#[derive(Clone, Copy, Debug)]
pub(super) enum View<'a> {
    /// It is missing, or NULL.
    Null,
    Text(&'a str),
    Number(&'a str),
    Bytes(&'a [u8]),
    Truth(bool),
    Map(&'a Item),
    List(&'a [AttributeValue]),
    Texts(&'a [String]),
    Numbers(&'a [String]),
    Blobs(&'a [Blob]),
    /// Of a type that is newer than this program.
    Unknown,
}

impl<'a> View<'a> {
    pub fn of(value: &'a AttributeValue) -> Self {
        match value {
            AttributeValue::Null(_) => Self::Null,
            AttributeValue::S(text) => Self::Text(text),
            AttributeValue::N(text) => Self::Number(text),
            AttributeValue::B(bytes) => Self::Bytes(bytes.as_ref()),
            AttributeValue::Bool(value) => Self::Truth(*value),
            AttributeValue::M(map) => Self::Map(map),
            AttributeValue::L(list) => Self::List(list),
            AttributeValue::Ss(set) => Self::Texts(set),
            AttributeValue::Ns(set) => Self::Numbers(set),
            AttributeValue::Bs(set) => Self::Blobs(set),
            _ => Self::Unknown,
        }
    }

    pub fn attribute(item: &'a Item, name: &str) -> Self {
        item.get(name).map_or(Self::Null, Self::of)
    }

    /// The name of its type, as DynamoDB has it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "NULL",
            Self::Text(_) => "S",
            Self::Number(_) => "N",
            Self::Bytes(_) => "B",
            Self::Truth(_) => "BOOL",
            Self::Map(_) => "M",
            Self::List(_) => "L",
            Self::Texts(_) => "SS",
            Self::Numbers(_) => "NS",
            Self::Blobs(_) => "BS",
            Self::Unknown => "of an unknown type",
        }
    }

    pub fn elements(&self) -> Option<Vec<View<'a>>> {
        Some(match *self {
            Self::List(list) => list.iter().map(View::of).collect(),
            Self::Texts(set) => set.iter().map(|text| View::Text(text)).collect(),
            Self::Numbers(set) => set.iter().map(|text| View::Number(text)).collect(),
            Self::Blobs(set) => set.iter().map(|bytes| View::Bytes(bytes.as_ref())).collect(),
            _ => return None,
        })
    }

    /// The value of a text column: a text as it is, and all else as JSON without DynamoDB's types.
    pub fn text(&self) -> Option<Cow<'a, str>> {
        match *self {
            Self::Null | Self::Unknown => None,
            Self::Text(text) | Self::Number(text) => Some(Cow::Borrowed(text)),
            Self::Bytes(bytes) => Some(Cow::Owned(STANDARD.encode(bytes))),
            other => {
                let mut json = String::new();
                other.write_json(&mut json);
                Some(Cow::Owned(json))
            }
        }
    }

    fn write_json(&self, json: &mut String) {
        match *self {
            Self::Null | Self::Unknown => json.push_str("null"),
            Self::Text(text) => quote(text, json),
            Self::Number(text) => json.push_str(text),
            Self::Bytes(bytes) => quote(&STANDARD.encode(bytes), json),
            Self::Truth(value) => json.push_str(if value { "true" } else { "false" }),
            Self::Map(map) => {
                json.push('{');
                // The same text for the same map.
                for (at, (name, value)) in map.iter().collect::<BTreeMap<_, _>>().into_iter().enumerate() {
                    if at > 0 {
                        json.push(',');
                    }
                    quote(name, json);
                    json.push(':');
                    View::of(value).write_json(json);
                }
                json.push('}');
            }
            Self::List(_) | Self::Texts(_) | Self::Numbers(_) | Self::Blobs(_) => {
                json.push('[');
                for (at, element) in self.elements().unwrap_or_default().iter().enumerate() {
                    if at > 0 {
                        json.push(',');
                    }
                    element.write_json(json);
                }
                json.push(']');
            }
        }
    }

    /// As messages show it.
    pub fn shown(&self) -> String {
        let mut text = match self {
            Self::Text(text) => format!("'{text}'"),
            other => other.text().map_or_else(|| "NULL".to_string(), Cow::into_owned),
        };
        if text.len() > SHOWN {
            let end = (0..=SHOWN).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text.truncate(end);
            text.push('…');
        }
        text
    }
}

/// Appends a text of JSON.
pub(super) fn quote(text: &str, json: &mut String) {
    json.push('"');
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            control if control < ' ' => json.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => json.push(other),
        }
    }
    json.push('"');
}

/// `id = 'a', at = 5`: names an item in messages.
pub(super) fn shown_key<'a>(names: impl IntoIterator<Item = &'a String>, item: &Item) -> String {
    let part = |name: &'a String| format!("{name} = {}", View::attribute(item, name).shown());
    names.into_iter().map(part).collect::<Vec<_>>().join(", ")
}

/// Whether two values are the same; numbers are compared by value.
pub(super) fn same(one: &AttributeValue, other: &AttributeValue) -> bool {
    match (one, other) {
        (AttributeValue::N(one), AttributeValue::N(other)) => match (Number::parse(one), Number::parse(other)) {
            (Some(one), Some(other)) => one == other,
            _ => one == other,
        },
        (AttributeValue::L(one), AttributeValue::L(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (AttributeValue::M(one), AttributeValue::M(other)) => same_items(one, other),
        _ => one == other,
    }
}

/// Whether two items have the same attributes.
pub(super) fn same_items(one: &Item, other: &Item) -> bool {
    one.len() == other.len() && one.iter().all(|(name, value)| other.get(name).is_some_and(|other| same(value, other)))
}

/// Bytes of an item, as DynamoDB counts them.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html>
pub(super) fn item_bytes(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + bytes(value)).sum()
}

fn bytes(value: &AttributeValue) -> usize {
    let number = |text: &str| Number::parse(text).map_or(text.len(), |number| number.bytes());
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(text) => number(text),
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::Ss(set) => set.iter().map(String::len).sum(),
        AttributeValue::Ns(set) => set.iter().map(|text| number(text)).sum(),
        AttributeValue::Bs(set) => set.iter().map(|bytes| bytes.as_ref().len()).sum(),
        AttributeValue::L(list) => 3 + list.iter().map(|value| 1 + bytes(value)).sum::<usize>(),
        AttributeValue::M(map) => 3 + map.len() + item_bytes(map),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_value_has_a_text() {
        let map = AttributeValue::M(HashMap::from([
            ("b".to_string(), AttributeValue::L(vec![AttributeValue::N("1.5".into()), AttributeValue::Null(true)])),
            ("a".to_string(), AttributeValue::S("it's \"\\\u{1}\n".into())),
        ]));
        let text = |value: &AttributeValue| View::of(value).text().map(Cow::into_owned);
        assert_eq!(text(&map).as_deref(), Some(r#"{"a":"it's \"\\\u0001\n","b":[1.5,null]}"#));
        assert_eq!(text(&AttributeValue::S("a\"".into())).as_deref(), Some("a\""));
        assert_eq!(text(&AttributeValue::Bool(true)).as_deref(), Some("true"));
        assert_eq!(text(&AttributeValue::B(Blob::new([0, 255]))).as_deref(), Some("AP8="));
        assert_eq!(text(&AttributeValue::Ns(vec!["1".into(), "2".into()])).as_deref(), Some("[1,2]"));
        assert_eq!(text(&AttributeValue::Null(true)), None);
        assert!(View::Text(&"ä".repeat(100)).shown().len() < 70);
    }

    #[test]
    fn equal_numbers_are_the_same() {
        let list = |text: &str| AttributeValue::L(vec![AttributeValue::N(text.into())]);
        assert!(same(&list("1.50"), &list("15E-1")) && !same(&list("1"), &list("2")));
        assert!(!same(&AttributeValue::N("1".into()), &AttributeValue::S("1".into())));
    }
}

//! DynamoDB JSON: values with the names of their types, as the service's protocol, its exports and its imports have them.
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport.Output.html#S3DataExport.Output_Data>
//!
//! ```json
//! {"Item":{"id":{"S":"a"},"n":{"N":"1.5"},"b":{"B":"AP8="},"m":{"M":{"x":{"BOOL":true}}},"l":{"L":[{"NULL":true}]},"s":{"SS":["p","q"]}}}
//! ```

use super::number::Number;
use super::value::{Item, View, quote};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

/// The attributes to read of an item; others are passed over. None: all.
pub(super) type Wanted<'a> = Option<&'a HashSet<&'a str>>;

/// Reads the item of a line.
///
/// # Errors
/// What is wrong with the line, with the attribute at fault.
pub(super) fn item_of_line(line: &[u8], wanted: Wanted<'_>) -> Result<Item, String> {
    let mut reader = serde_json::Deserializer::from_slice(line);
    let item = LineSeed(wanted).deserialize(&mut reader).and_then(|item| reader.end().map(|()| item));
    item.map_err(|error| {
        let (text, column) = (error.to_string(), error.column());
        let text = text.strip_suffix(&format!(" at line {} column {column}", error.line())).unwrap_or(&text);
        if column > 0 { format!("{text} (at byte {column} of the line)") } else { text.to_string() }
    })
}

/// Appends an item as a line, its attributes in this order.
pub(super) fn write_line<'a>(names: impl IntoIterator<Item = &'a String>, item: &Item, line: &mut String) {
    line.push_str("{\"Item\":{");
    let present = names.into_iter().filter_map(|name| Some((name, item.get(name)?)));
    write_fields(present, line);
    line.push_str("}}\n");
}

fn write_fields<'a>(fields: impl Iterator<Item = (&'a String, &'a AttributeValue)>, json: &mut String) {
    for (at, (name, value)) in fields.enumerate() {
        if at > 0 {
            json.push(',');
        }
        quote(name, json);
        json.push(':');
        write_value(View::of(value), json);
    }
}

fn write_value(value: View<'_>, json: &mut String) {
    json.push_str("{\"");
    json.push_str(value.kind());
    json.push_str("\":");
    let write = |value: View<'_>, json: &mut String| match value {
        View::Text(text) | View::Number(text) => quote(text, json),
        View::Bytes(bytes) => quote(&STANDARD.encode(bytes), json),
        View::Truth(false) => json.push_str("false"),
        _ => json.push_str("true"),
    };
    match value {
        View::Map(map) => {
            json.push('{');
            // The same text for the same map.
            write_fields(map.iter().collect::<BTreeMap<_, _>>().into_iter(), json);
            json.push('}');
        }
        View::List(_) | View::Texts(_) | View::Numbers(_) | View::Blobs(_) => {
            json.push('[');
            for (at, element) in value.elements().unwrap_or_default().into_iter().enumerate() {
                if at > 0 {
                    json.push(',');
                }
                match value {
                    View::List(_) => write_value(element, json),
                    // Elements of sets have the type of their set.
                    _ => write(element, json),
                }
            }
            json.push(']');
        }
        value => write(value, json),
    }
    json.push('}');
}

/// The place of a value in an item.
#[derive(Clone, Copy)]
enum Path<'a> {
    Attribute(&'a str),
    Field(&'a Path<'a>, &'a str),
    Element(&'a Path<'a>),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attribute(name) => f.write_str(name),
            Self::Field(path, name) => write!(f, "{path}.{name}"),
            Self::Element(path) => write!(f, "{path}[]"),
        }
    }
}

/// A line: an object whose `Item` is an item.
struct LineSeed<'a>(Wanted<'a>);

impl<'de> DeserializeSeed<'de> for LineSeed<'_> {
    type Value = Item;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Item, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for LineSeed<'_> {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object {\"Item\":{…}}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
        let (mut item, mut others) = (None, Vec::new());
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            match key.as_ref() {
                "Item" if item.is_some() => return Err(A::Error::custom("it has two items")),
                "Item" => item = Some(map.next_value_seed(FieldsSeed { path: None, wanted: self.0 })?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    others.push(key.into_owned());
                }
            }
        }
        let is_change = |key: &String| ["Metadata", "Keys", "NewImage", "OldImage"].contains(&key.as_str());
        match item {
            Some(item) if others.is_empty() => Ok(item),
            Some(_) => Err(A::Error::custom(format!("beside its \"Item\" there is \"{}\"", others.join("\", \"")))),
            None if others.iter().any(is_change) => Err(A::Error::custom(
                "it is a change, of an incremental export, and not an item: read such files with STORED AS JSON, whose columns are \
                 Metadata, Keys, NewImage and OldImage",
            )),
            None => Err(A::Error::custom("it has no \"Item\": a line is {\"Item\":{\"name\":{\"S\":\"value\"}}}")),
        }
    }
}

/// Attributes of an item (without a path), or fields of a map.
struct FieldsSeed<'a> {
    path: Option<&'a Path<'a>>,
    wanted: Wanted<'a>,
}

impl<'de> DeserializeSeed<'de> for FieldsSeed<'_> {
    type Value = Item;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Item, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FieldsSeed<'_> {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path {
            Some(path) => write!(f, "an object of values for the attribute {path}"),
            None => f.write_str("an object of attributes"),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
        let mut item = Item::new();
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            if self.wanted.is_some_and(|wanted| !wanted.contains(name.as_ref())) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let path = self.path.map_or(Path::Attribute(&name), |path| Path::Field(path, &name));
            let value = map.next_value_seed(ValueSeed(&path))?;
            if item.contains_key(name.as_ref()) {
                return Err(A::Error::custom(format!("the attribute {path} is there twice")));
            }
            item.insert(name.into_owned(), value);
        }
        Ok(item)
    }
}

/// A value with the name of its type.
struct ValueSeed<'a>(&'a Path<'a>);

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = AttributeValue;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<AttributeValue, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = AttributeValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the type and the value of the attribute {}, such as {{\"S\":\"text\"}}", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AttributeValue, A::Error> {
        let path = self.0;
        let Some(kind) = map.next_key::<Cow<'_, str>>()? else {
            return Err(A::Error::custom(format!("the attribute {path} has no type")));
        };
        let value = match kind.as_ref() {
            "S" => AttributeValue::S(of(path, map.next_value())?),
            "N" => AttributeValue::N(number(path, of(path, map.next_value())?)?),
            "B" => AttributeValue::B(bytes(path, &of(path, map.next_value::<Cow<'_, str>>())?)?),
            "BOOL" => AttributeValue::Bool(of(path, map.next_value())?),
            "NULL" => AttributeValue::Null(of(path, map.next_value())?),
            "M" => AttributeValue::M(map.next_value_seed(FieldsSeed { path: Some(path), wanted: None })?),
            "L" => AttributeValue::L(map.next_value_seed(ListSeed(path))?),
            "SS" => AttributeValue::Ss(of(path, map.next_value())?),
            "NS" => {
                let all: Vec<String> = of(path, map.next_value())?;
                AttributeValue::Ns(all.into_iter().map(|text| number(path, text)).collect::<Result<_, _>>()?)
            }
            "BS" => {
                let all: Vec<String> = of(path, map.next_value())?;
                AttributeValue::Bs(all.iter().map(|text| bytes(path, text)).collect::<Result<_, _>>()?)
            }
            other => {
                return Err(A::Error::custom(format!(
                    "the attribute {path} is of the type \"{other}\", which is none of S, N, B, BOOL, NULL, M, L, SS, NS and BS"
                )));
            }
        };
        match map.next_key::<Cow<'_, str>>()? {
            None => Ok(value),
            Some(second) => Err(A::Error::custom(format!("the attribute {path} has two types, {kind} and {second}"))),
        }
    }
}

struct ListSeed<'a>(&'a Path<'a>);

impl<'de> DeserializeSeed<'de> for ListSeed<'_> {
    type Value = Vec<AttributeValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ListSeed<'_> {
    type Value = Vec<AttributeValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of values for the attribute {}", self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let (path, mut values) = (Path::Element(self.0), Vec::new());
        while let Some(value) = list.next_element_seed(ValueSeed(&path))? {
            values.push(value);
        }
        Ok(values)
    }
}

/// The error of a value with its attribute.
fn of<'de, T: Deserialize<'de>, E: Error>(path: &Path<'_>, value: Result<T, E>) -> Result<T, E> {
    value.map_err(|error| E::custom(format!("the attribute {path}: {error}")))
}

fn number<E: Error>(path: &Path<'_>, text: String) -> Result<String, E> {
    match Number::parse(&text) {
        Some(_) => Ok(text),
        None => Err(E::custom(format!("the attribute {path} is N '{text}', which is no number"))),
    }
}

fn bytes<E: Error>(path: &Path<'_>, text: &str) -> Result<Blob, E> {
    let bytes = STANDARD.decode(text);
    bytes.map(Blob::new).map_err(|error| E::custom(format!("the attribute {path} is B, and no base64: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn read(line: &str) -> Result<Item, String> {
        item_of_line(line.as_bytes(), None)
    }

    fn written(item: &Item) -> String {
        let names: Vec<String> = item.keys().cloned().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
        let mut line = String::new();
        write_line(&names, item, &mut line);
        line
    }

    #[test]
    fn every_type_is_read_and_written() {
        let n = |text: &str| AttributeValue::N(text.into());
        let item = Item::from([
            ("s".to_string(), AttributeValue::S("it's \"\\\u{1}\n𝄞".into())),
            ("empty".to_string(), AttributeValue::S(String::new())),
            ("n".to_string(), n("-99999999999999999999999999999999999999")),
            ("small".to_string(), n("1E-130")),
            ("b".to_string(), AttributeValue::B(Blob::new([0, 255, 254]))),
            ("t".to_string(), AttributeValue::Bool(false)),
            ("z".to_string(), AttributeValue::Null(true)),
            (
                "m".to_string(),
                AttributeValue::M(HashMap::from([
                    ("x".to_string(), AttributeValue::L(vec![n("1"), AttributeValue::M(HashMap::new())])),
                    ("a\"b".to_string(), AttributeValue::Bool(true)),
                ])),
            ),
            ("ss".to_string(), AttributeValue::Ss(vec!["p".into(), "q\"".into()])),
            ("ns".to_string(), AttributeValue::Ns(vec!["1".into(), "2.5".into()])),
            ("bs".to_string(), AttributeValue::Bs(vec![Blob::new([1]), Blob::new([])])),
        ]);
        let line = written(&item);
        assert_eq!(
            line,
            concat!(
                r#"{"Item":{"b":{"B":"AP/+"},"bs":{"BS":["AQ==",""]},"empty":{"S":""},"#,
                r#""m":{"M":{"a\"b":{"BOOL":true},"x":{"L":[{"N":"1"},{"M":{}}]}}},"#,
                r#""n":{"N":"-99999999999999999999999999999999999999"},"ns":{"NS":["1","2.5"]},"#,
                r#""s":{"S":"it's \"\\\u0001\n𝄞"},"small":{"N":"1E-130"},"ss":{"SS":["p","q\""]},"#,
                r#""t":{"BOOL":false},"z":{"NULL":true}}}"#,
                "\n"
            )
        );
        assert_eq!(read(&line).unwrap(), item);
        assert_eq!(read(r#" { "Item" : { } } "#).unwrap(), Item::new());
        assert_eq!(read(r#"{"Item":{"\u0061":{"\u0053":"\u00e4"}}}"#).unwrap()["a"], AttributeValue::S("ä".into()));
    }

    #[test]
    fn unwanted_attributes_are_passed_over() {
        let line = br#"{"Item":{"a":{"S":"x"},"b":{"Q":[1,{"c":null}]}}}"#;
        let item = item_of_line(line, Some(&HashSet::from(["a"]))).unwrap();
        assert_eq!(item.len(), 1);
        assert!(item_of_line(line, None).unwrap_err().contains("the attribute b is of the type \"Q\""));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_attribute() {
        for (line, words) in [
            ("x", "expected value"),
            ("[]", "expected an object {\"Item\":{…}}"),
            ("{}", "it has no \"Item\""),
            (r#"{"id":{"S":"a"}}"#, "it has no \"Item\""),
            (r#"{"Item":{}} x"#, "trailing characters"),
            (r#"{"Item":{},"Other":1}"#, "there is \"Other\""),
            (r#"{"Item":{},"Item":{}}"#, "two items"),
            (r#"{"Metadata":{},"Keys":{"id":{"S":"a"}},"NewImage":{}}"#, "incremental export"),
            (r#"{"Item":{"a":1}}"#, "the attribute a, such as"),
            (r#"{"Item":{"a":{}}}"#, "the attribute a has no type"),
            (r#"{"Item":{"a":{"S":1}}}"#, "the attribute a: invalid type: integer `1`, expected a string (at byte"),
            (r#"{"Item":{"a":{"N":1}}}"#, "the attribute a: invalid type"),
            (r#"{"Item":{"a":{"N":"x"}}}"#, "the attribute a is N 'x', which is no number"),
            (r#"{"Item":{"a":{"B":"?"}}}"#, "the attribute a is B, and no base64"),
            (r#"{"Item":{"a":{"NS":["1",""]}}}"#, "the attribute a is N '', which is no number"),
            (r#"{"Item":{"a":{"S":"x","N":"1"}}}"#, "two types, S and N"),
            (r#"{"Item":{"a":{"S":"x"},"a":{"S":"y"}}}"#, "the attribute a is there twice"),
            (r#"{"Item":{"a":{"M":{"b":{"L":[{"BOOL":"x"}]}}}}}"#, "the attribute a.b[]: invalid type: string"),
            (r#"{"Item":{"a":{"S":"x"#, "the attribute a: EOF while parsing a string"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(words) && !error.contains("at line"), "{line}: {error}");
        }
        let deep = format!(r#"{{"Item":{{"a":{}{{"S":"x"}}{}}}}}"#, r#"{"L":["#.repeat(99), "]}".repeat(99));
        assert!(read(&deep).unwrap_err().contains("recursion limit"));
    }
}

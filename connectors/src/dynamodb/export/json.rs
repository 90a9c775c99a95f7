//! DynamoDB JSON: `{"Item":{"id":{"S":"a"},"n":{"N":"1.5"}}}`, a line for each item. Numbers are texts there, so they are exact.

use super::super::value::Item;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// The types of attributes.
const KINDS: [&str; 10] = ["S", "N", "B", "BOOL", "NULL", "M", "L", "SS", "NS", "BS"];

/// Reads an item: a line of an export, or an item alone. `None`: the line is empty.
///
/// # Errors
/// What is wrong with the line.
pub(super) fn item(line: &[u8]) -> Result<Option<Item>, String> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let value: Value = serde_json::from_slice(line).map_err(|error| format!("it is no JSON: {error}"))?;
    let Value::Object(mut object) = value else { return Err("it is no JSON object".to_string()) };
    if ["Keys", "NewImage", "OldImage"].iter().any(|name| object.contains_key(*name)) && object.contains_key("Metadata")
    {
        return Err("it is a change of an incremental export: only full exports are read".to_string());
    }
    // An item may have an attribute of that name: then its value has a type.
    let is_line = object.len() == 1 && object.get("Item").is_some_and(|inner| !is_attribute(inner));
    if is_line && let Some(Value::Object(inner)) = object.remove("Item") {
        return attributes(inner).map(Some);
    }
    attributes(object).map(Some)
}

fn is_attribute(value: &Value) -> bool {
    let Value::Object(object) = value else { return true };
    let mut fields = object.iter();
    match (fields.next(), fields.next()) {
        // {"S": {…}} is an item with an attribute S, and {"S": "…"} is a text.
        (Some((kind, value)), None) if KINDS.contains(&kind.as_str()) => match kind.as_str() {
            "M" => value.as_object().is_some_and(|map| map.values().all(is_attribute)),
            _ => !value.is_object(),
        },
        _ => false,
    }
}

fn attributes(object: Map<String, Value>) -> Result<Item, String> {
    object
        .into_iter()
        .map(|(name, value)| match attribute(value) {
            Ok(value) => Ok((name, value)),
            Err(why) => Err(format!("the attribute {name} {why}")),
        })
        .collect()
}

fn attribute(value: Value) -> Result<AttributeValue, String> {
    let Value::Object(object) = value else {
        return Err("has no type: expected DynamoDB JSON, such as {\"S\":\"text\"}".to_string());
    };
    let mut fields = object.into_iter();
    let (Some((kind, value)), None) = (fields.next(), fields.next()) else {
        return Err("has no type, or several: expected DynamoDB JSON, such as {\"S\":\"text\"}".to_string());
    };
    let wrong = || format!("is no {kind}");
    Ok(match (kind.as_str(), value) {
        ("S", Value::String(text)) => AttributeValue::S(text),
        ("N", Value::String(text)) => AttributeValue::N(text),
        ("B", Value::String(text)) => AttributeValue::B(blob(&text).ok_or_else(wrong)?),
        ("BOOL", Value::Bool(value)) => AttributeValue::Bool(value),
        ("NULL", Value::Bool(value)) => AttributeValue::Null(value),
        ("M", Value::Object(map)) => AttributeValue::M(attributes(map)?),
        ("L", Value::Array(list)) => AttributeValue::L(list.into_iter().map(attribute).collect::<Result<_, _>>()?),
        ("SS", set) => AttributeValue::Ss(texts(set).ok_or_else(wrong)?),
        ("NS", set) => AttributeValue::Ns(texts(set).ok_or_else(wrong)?),
        ("BS", set) => {
            let set = texts(set).ok_or_else(wrong)?;
            AttributeValue::Bs(set.iter().map(|text| blob(text)).collect::<Option<_>>().ok_or_else(wrong)?)
        }
        (known, _) if KINDS.contains(&known) => return Err(wrong()),
        (other, _) => return Err(format!("is of the type {other}, which DynamoDB has not")),
    })
}

fn texts(set: Value) -> Option<Vec<String>> {
    let Value::Array(set) = set else { return None };
    let text = |value| if let Value::String(text) = value { Some(text) } else { None };
    set.into_iter().map(text).collect()
}

fn blob(text: &str) -> Option<Blob> {
    STANDARD.decode(text).ok().map(Blob::new)
}

/// Appends a line of an export.
///
/// # Errors
/// An attribute is of a type that is newer than this program.
pub(super) fn write_line(item: &Item, line: &mut Vec<u8>) -> Result<(), String> {
    let object = Value::Object(Map::from_iter([("Item".to_string(), written(item)?)]));
    serde_json::to_writer(&mut *line, &object).map_err(|error| error.to_string())?;
    line.push(b'\n');
    Ok(())
}

fn written(item: &Item) -> Result<Value, String> {
    let attribute = |(name, value): (&String, &AttributeValue)| Ok((name.clone(), typed(value)?));
    Ok(Value::Object(item.iter().map(attribute).collect::<Result<_, String>>()?))
}

fn typed(value: &AttributeValue) -> Result<Value, String> {
    let base64 = |bytes: &Blob| Value::String(STANDARD.encode(bytes.as_ref()));
    let (kind, value) = match value {
        AttributeValue::S(text) => ("S", text.as_str().into()),
        AttributeValue::N(text) => ("N", text.as_str().into()),
        AttributeValue::B(bytes) => ("B", base64(bytes)),
        AttributeValue::Bool(value) => ("BOOL", (*value).into()),
        AttributeValue::Null(value) => ("NULL", (*value).into()),
        AttributeValue::M(map) => ("M", written(map)?),
        AttributeValue::L(list) => ("L", Value::Array(list.iter().map(typed).collect::<Result<_, _>>()?)),
        AttributeValue::Ss(set) => ("SS", set.clone().into()),
        AttributeValue::Ns(set) => ("NS", set.clone().into()),
        AttributeValue::Bs(set) => ("BS", Value::Array(set.iter().map(base64).collect())),
        _ => return Err("an attribute is of a type that is newer than this program".to_string()),
    };
    Ok(Value::Object(Map::from_iter([(kind.to_string(), value)])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_survives_the_trip() {
        let line = r#"{"Item":{"b":{"B":"AP8="},"bs":{"BS":["AQ=="]},"l":{"L":[{"N":"1"},{"NULL":true},{"M":{}}]},"m":{"M":{"x":{"BOOL":false}}},"n":{"N":"99999999999999999999999999999999999999"},"ns":{"NS":["1","2.50"]},"s":{"S":"it's \"ü\" 𝄞\n"},"ss":{"SS":["p"]}}}"#;
        let read = item(line.as_bytes()).unwrap().unwrap();
        let mut again = Vec::new();
        write_line(&read, &mut again).unwrap();
        assert_eq!(item(&again).unwrap().unwrap(), read);
        // The item alone is the same.
        let bare = &line["{\"Item\":".len()..line.len() - 1];
        assert_eq!(item(bare.as_bytes()).unwrap().unwrap(), read);
        assert_eq!(read["n"], AttributeValue::N("9".repeat(38)));
        assert_eq!(item(b" \r").unwrap(), None);
    }

    #[test]
    fn an_attribute_may_be_called_item() {
        let text = item(br#"{"Item":{"S":"x"}}"#).unwrap().unwrap();
        assert_eq!(text["Item"], AttributeValue::S("x".into()));
        let line = item(br#"{"Item":{"S":{"S":"x"}}}"#).unwrap().unwrap();
        assert_eq!(line["S"], AttributeValue::S("x".into()));
        let map = item(br#"{"Item":{"M":{"M":{"a":{"S":"x"}}}}}"#).unwrap().unwrap();
        assert!(map.contains_key("M"), "{map:?}");
        assert!(item(br#"{"Item":{}}"#).unwrap().unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, words) in [
            ("[1]", "no JSON object"),
            ("{", "no JSON"),
            (r#"{"a":1}"#, "the attribute a has no type"),
            (r#"{"a":{"S":1}}"#, "the attribute a is no S"),
            (r#"{"a":{"B":"?"}}"#, "the attribute a is no B"),
            (r#"{"a":{"X":"1"}}"#, "the type X"),
            (r#"{"Metadata":{},"Keys":{},"NewImage":{}}"#, "incremental"),
        ] {
            let error = item(line.as_bytes()).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}

//! Inference of columns and their types from the first records of each file.

use super::array::rows_of_array;
use super::sample::{Conflict, Fault, Fields, Integers, Kind, Of, Parser};
use crate::text_files::csv::{FILES, sampled};
use crate::text_files::place::{Place, WrongLine};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::config::JsonOptions;
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore};
use std::sync::Arc;

/// Default number of records and maximum bytes of each file to look at: as many as DuckDB looks at.
const RECORDS: usize = 20_480;
const BYTES: usize = 16 << 20;
/// Maximum bytes of all files together.
const BYTES_OF_ALL: usize = 256 << 20;
const FILES_AT_ONCE: usize = 8;

/// The columns of all files, in the order of the files' paths and of the records.
pub(super) async fn schema(
    options: &JsonOptions,
    store: &Arc<dyn ObjectStore>,
    url: &str,
    files: &[ObjectMeta],
) -> Result<SchemaRef> {
    let files = sampled(files, FILES);
    let most = (BYTES_OF_ALL / files.len().max(1)).min(BYTES);
    let places: Vec<Place> = files.iter().map(|file| Place::new(store, url, file)).collect();
    let numbered: Vec<(usize, Place)> = places.iter().cloned().enumerate().collect();
    let kinds =
        futures::stream::iter(numbered).map(|(file, place)| async move { kind_of(options, &place, file, most).await });
    let mut kinds = kinds.buffered(FILES_AT_ONCE);
    let mut all = Kind { of: Of::Object(Fields::default()), seen: (0, 1) };
    while let Some(kind) = kinds.try_next().await? {
        all.merge(kind).map_err(|conflict| conflicting(&conflict, &places))?;
    }
    match all.of {
        Of::Object(fields) => Ok(Arc::new(Schema::new(columns(&fields)))),
        _ => Ok(Arc::new(Schema::empty())),
    }
}

fn conflicting(conflict: &Conflict, places: &[Place]) -> datafusion::common::DataFusionError {
    let (one, other) = (&conflict.one, &conflict.other);
    let first = places.get(one.seen.0).map_or("", |place| &place.name);
    let text = format!(
        "line {}: the field '{}' is {}, and {} in line {} of {first}: no type holds both, so name the columns of the table and leave the \
         field out",
        other.seen.1,
        conflict.place(),
        other.word(),
        one.word(),
        one.seen.1,
    );
    match places.get(other.seen.0) {
        Some(place) => place.wrong(&text),
        None => exec_datafusion_err!("{text}"),
    }
}

async fn kind_of(options: &JsonOptions, place: &Place, file: usize, most: usize) -> Result<Kind> {
    let (sample, is_whole) = sample(options, place, most).await.map_err(|error| place.failed(error))?;
    let records = options.schema_infer_max_rec.unwrap_or(RECORDS);
    let mut parser = Parser::new(&sample, file);
    let mut all = Kind { of: Of::Object(Fields::default()), seen: (file, 1) };
    for _ in 0..records {
        let read = parser.next().and_then(|kind| match kind {
            Some(kind) => match kind.of {
                Of::Object(_) => Ok(all.merge(kind).map(|()| true)?),
                _ => Err(Fault::Wrong { line: kind.seen.1, text: not_an_object(&kind) }),
            },
            None => Ok(false),
        });
        match read {
            Ok(true) => {}
            Ok(false) => break,
            Err(Fault::Ends) if !is_whole => break,
            Err(Fault::Ends) => {
                let wrong = WrongLine { line: parser.begun() - 1, text: "the file ends within a record".into() };
                return Err(place.wrong_at(&wrong).await);
            }
            Err(Fault::Wrong { line, text }) => {
                let wrong = WrongLine { line: line.saturating_sub(1), text: format!("not JSON: {text}") };
                return Err(place.wrong_at(&wrong).await);
            }
            Err(Fault::Conflict(conflict)) => {
                let mut places = vec![place.clone(); file];
                places.push(place.clone());
                return Err(conflicting(&conflict, &places));
            }
        }
    }
    Ok(all)
}

fn not_an_object(kind: &Kind) -> String {
    let more = match kind.of {
        Of::List(_) => ": a file that is one array of records is read with OPTIONS (newline_delimited false)",
        _ => "",
    };
    format!("a record is {}, and not an object{more}", kind.word())
}

/// The first bytes of a file as records in a row, and whether they are the whole file.
async fn sample(options: &JsonOptions, place: &Place, most: usize) -> Result<(Vec<u8>, bool)> {
    let mut bytes = place.head(FileCompressionType::from(options.compression));
    if !options.newline_delimited {
        bytes = rows_of_array(bytes);
    }
    let mut sample = Vec::new();
    while let Some(chunk) = bytes.try_next().await? {
        sample.extend_from_slice(&chunk);
        if sample.len() >= most {
            return Ok((sample, false));
        }
    }
    // A number ends only with the character after it.
    sample.push(b'\n');
    Ok((sample, true))
}

fn columns(fields: &Fields) -> Vec<Field> {
    fields.all.iter().map(|(name, kind)| Field::new(name, data_type(kind), true)).collect()
}

fn data_type(kind: &Kind) -> DataType {
    match &kind.of {
        Of::Boolean => DataType::Boolean,
        Of::Integer(integers) => integer(*integers),
        // Text is better for numbers that a double would change.
        Of::Number(integers) if integers.past_double => DataType::Utf8,
        Of::Number(_) => DataType::Float64,
        // A field that is always null could have any type; text can hold any scalar.
        Of::Null | Of::Text => DataType::Utf8,
        Of::List(values) => DataType::List(Arc::new(Field::new_list_field(data_type(values), true))),
        Of::Object(fields) => DataType::Struct(columns(fields).into()),
    }
}

fn integer(integers: Integers) -> DataType {
    match integers.digits {
        _ if !integers.past_64_bits => DataType::Int64,
        ..=20 => DataType::Decimal128(20, 0),
        21..=38 => DataType::Decimal128(38, 0),
        _ => DataType::Utf8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;
    use object_store::path::Path;

    async fn inferred(files: &[&str]) -> Result<String> {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        for (number, text) in files.iter().enumerate() {
            store.put(&Path::from(format!("{number}.json")), (*text).to_owned().into()).await.unwrap();
        }
        let mut listed: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
        listed.reverse();
        let schema = schema(&JsonOptions::default(), &store, "memory:///", &listed).await?;
        let columns = schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type()));
        Ok(columns.collect::<Vec<_>>().join(", "))
    }

    #[tokio::test]
    async fn types_hold_the_values_of_all_files() {
        let late = format!("{}{{\"v\": 1.5, \"extra\": null}}", "{\"v\": 1}\n".repeat(3_000));
        assert_eq!(inferred(&[&late]).await.unwrap(), "v Float64, extra Utf8");
        let large = "{\"a\": 9007199254740993, \"b\": 1}\n{\"a\": 18446744073709551615, \"b\": 123456789012345678901}";
        assert_eq!(inferred(&[large]).await.unwrap(), "a Decimal128(20, 0), b Decimal128(38, 0)");
        assert_eq!(inferred(&["{\"v\": 1}", "{\"v\": \"two\", \"w\": [1]}"]).await.unwrap(), "v Utf8, w List(Int64)");
    }

    #[tokio::test]
    async fn what_no_type_holds_is_told_with_both_places() {
        let error = inferred(&["{\"a\": {\"b\": 1}}", "{}\n{\"a\": {\"b\": []}}"]).await.unwrap_err().to_string();
        for word in ["0.json", "1.json", "line 2", "in line 1", "'a.b'", "an array", "a number"] {
            assert!(error.contains(word), "{word}: {error}");
        }
        let error = inferred(&["{}\n[{}]"]).await.unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("newline_delimited"), "{error}");
        let error = inferred(&["{}\n{\"a\": 1"]).await.unwrap_err().to_string();
        assert!(error.contains("0.json: line 2: the file ends within a record"), "{error}");
    }
}

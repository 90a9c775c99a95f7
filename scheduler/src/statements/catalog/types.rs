//! Column types of tables, without dictionaries that are too small for the rows of a table.
//!
//! A dictionary with a key of 8 or 16 bits has room for one batch, but not for the batches of several files and tasks together:
//! reading, joining and sorting them fails.

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use std::sync::Arc;

/// Returns the columns of a table that Windlass writes: dictionaries become their values.
pub(crate) fn written(schema: &SchemaRef) -> SchemaRef {
    changed(schema, |_| true)
}

/// Returns the columns of a table over other writers' files: dictionaries with small keys, such as those of partitions, become their
/// values.
pub(super) fn read(schema: &SchemaRef) -> SchemaRef {
    changed(schema, |key| matches!(key, DataType::Int8 | DataType::UInt8 | DataType::Int16 | DataType::UInt16))
}

fn changed(schema: &SchemaRef, unpack: impl Fn(&DataType) -> bool + Copy) -> SchemaRef {
    let fields: Vec<FieldRef> = schema.fields().iter().map(|field| field_of(field, unpack)).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn field_of(field: &FieldRef, unpack: impl Fn(&DataType) -> bool + Copy) -> FieldRef {
    let data_type = type_of(field.data_type(), unpack);
    if data_type == *field.data_type() {
        return Arc::clone(field);
    }
    Arc::new(Field::new(field.name(), data_type, field.is_nullable()).with_metadata(field.metadata().clone()))
}

fn type_of(data_type: &DataType, unpack: impl Fn(&DataType) -> bool + Copy) -> DataType {
    match data_type {
        DataType::Dictionary(key, values) if unpack(key) => type_of(values, unpack),
        DataType::List(item) => DataType::List(field_of(item, unpack)),
        DataType::LargeList(item) => DataType::LargeList(field_of(item, unpack)),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(field_of(item, unpack), *length),
        DataType::Map(entries, sorted) => DataType::Map(field_of(entries, unpack), *sorted),
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| field_of(field, unpack)).collect::<Fields>())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dictionaries_become_their_values() {
        let dictionary = |key| DataType::Dictionary(Box::new(key), Box::new(DataType::Utf8));
        let nested = DataType::Struct(vec![Field::new("x", dictionary(DataType::UInt8), true)].into());
        let schema: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("small", dictionary(DataType::UInt16), false),
            Field::new("large", dictionary(DataType::Int32), true),
            Field::new("list", DataType::new_list(nested, true), true),
        ]));
        let types = |schema: SchemaRef| schema.fields().iter().map(|f| f.data_type().to_string()).collect::<Vec<_>>();
        assert_eq!(types(written(&schema))[..2], ["Utf8", "Utf8"]);
        let read = types(read(&schema));
        assert_eq!((read[0].as_str(), read[1].as_str()), ("Utf8", "Dictionary(Int32, Utf8)"));
        assert!(!read[2].contains("Dictionary"), "{}", read[2]);
    }
}

//! From items to columns.
//!
//! | column | attribute |
//! | --- | --- |
//! | VARCHAR | S as it is; any other as JSON without DynamoDB's types |
//! | numbers | N, exactly, or an error; DOUBLE and REAL round |
//! | BINARY, BOOLEAN | B, BOOL |
//! | DATE, TIME, TIMESTAMP | S, as ISO 8601 writes it |
//! | STRUCT | M; what has no field is passed over |
//! | list | L, SS, NS, BS |
//!
//! A missing attribute and NULL are NULL. All else is an error, or NULL with `mismatch 'null'`.

use super::number::Number;
use super::value::{Item, View};
use datafusion::arrow::array::{
    Array, ArrayRef, BinaryBuilder, BooleanArray, Decimal128Array, Decimal256Array, Float64Array, Int64Array,
    ListArray, NullArray, RecordBatch, RecordBatchOptions, StringBuilder, StructArray, UInt64Array, new_null_array,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::common::{Result, plan_err};
use std::fmt;
use std::sync::Arc;

/// Whether attributes can be read as columns of this type, and written from them.
pub(super) fn is_known(kind: &DataType) -> bool {
    match kind {
        DataType::Struct(fields) => !fields.is_empty() && fields.iter().all(|field| is_known(field.data_type())),
        DataType::List(field) => is_known(field.data_type()),
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => *scale >= 0,
        DataType::Null
        | DataType::Boolean
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::Float32
        | DataType::Float64 => true,
        kind => kind.is_integer() || is_written_out(kind),
    }
}

/// Refuses columns of other types.
pub(super) fn check_known(columns: &Schema) -> Result<()> {
    match columns.fields().iter().find(|field| !is_known(field.data_type())) {
        Some(field) => plan_err!(
            "the column {} is {}, for which DynamoDB has no type: use VARCHAR, a number, BOOLEAN, BINARY, a date or a time, or structs and \
             lists of these",
            field.name(),
            field.data_type()
        ),
        None => Ok(()),
    }
}

/// Types whose values are texts of ISO 8601 in DynamoDB.
pub(super) fn is_written_out(kind: &DataType) -> bool {
    matches!(kind, DataType::Date32 | DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..))
}

pub(super) fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Makes batches of items.
#[derive(Clone, Debug)]
pub(super) struct Decoder {
    pub schema: SchemaRef,
    pub misfits_are_null: bool,
}

/// A value somewhere in an item.
#[derive(Clone, Copy)]
struct Cell<'a> {
    /// Position of its item.
    row: usize,
    value: View<'a>,
}

/// A value that its column does not take. Its display form begins with the attribute.
#[derive(Debug)]
pub(super) struct Misfit {
    /// Position of its item.
    pub row: usize,
    path: String,
    what: String,
    /// Whether it could be NULL instead.
    pub may_be_null: bool,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the attribute {} {}", self.path, self.what)
    }
}

impl Decoder {
    /// # Errors
    /// An attribute is of another type than its column, or a column that is NOT NULL is missing.
    pub fn batch(&self, items: &[Item]) -> Result<RecordBatch, Misfit> {
        let columns = self.schema.fields().iter().map(|field| self.column(field, items));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(items.len()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(|error| Misfit {
            row: 0,
            path: self.schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", "),
            what: format!("cannot be read: {error}"),
            may_be_null: false,
        })
    }

    fn column(&self, field: &FieldRef, items: &[Item]) -> Result<ArrayRef, Misfit> {
        let attributes = items.iter().map(|item| View::attribute(item, field.name()));
        let cells: Vec<Cell<'_>> = attributes.enumerate().map(|(row, value)| Cell { row, value }).collect();
        let array = self.array(field.data_type(), &cells, field.name())?;
        if !field.is_nullable()
            && let Some(row) = array.logical_nulls().and_then(|nulls| nulls.iter().position(|is_valid| !is_valid))
        {
            let (path, what) = (field.name().clone(), "is missing or NULL, and the column is NOT NULL".to_string());
            return Err(Misfit { row, path, what, may_be_null: false });
        }
        Ok(array)
    }

    /// The values of a simple column. `of`: `None` where a value does not fit.
    fn values<'a, T>(
        &self,
        kind: &DataType,
        cells: &[Cell<'a>],
        path: &str,
        of: impl Fn(View<'a>) -> Option<T>,
    ) -> Result<Vec<Option<T>>, Misfit> {
        let value = |cell: &Cell<'a>| match cell.value {
            View::Null => Ok(None),
            value => match of(value) {
                Some(value) => Ok(Some(value)),
                None if self.misfits_are_null => Ok(None),
                None => Err(misfit(cell, path, kind)),
            },
        };
        cells.iter().map(value).collect()
    }

    fn array(&self, kind: &DataType, cells: &[Cell<'_>], path: &str) -> Result<ArrayRef, Misfit> {
        let number = |value: View<'_>| match value {
            View::Number(text) => Number::parse(text),
            _ => None,
        };
        Ok(match kind {
            DataType::Null => {
                self.values(kind, cells, path, |_| None::<()>)?;
                Arc::new(NullArray::new(cells.len()))
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                let mut texts = StringBuilder::with_capacity(cells.len(), cells.len() * 16);
                self.values(kind, cells, path, |value| value.text())?
                    .into_iter()
                    .for_each(|text| texts.append_option(text));
                self.cast(Arc::new(texts.finish()), kind, cells, path)?
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
                let mut values = BinaryBuilder::new();
                let bytes = |value| if let View::Bytes(bytes) = value { Some(bytes) } else { None };
                self.values(kind, cells, path, bytes)?.into_iter().for_each(|bytes| values.append_option(bytes));
                self.cast(Arc::new(values.finish()), kind, cells, path)?
            }
            DataType::Boolean => {
                let truth = |value| if let View::Truth(truth) = value { Some(truth) } else { None };
                Arc::new(BooleanArray::from(self.values(kind, cells, path, truth)?))
            }
            DataType::UInt64 => {
                let integer = |value| number(value)?.integer().and_then(|number| u64::try_from(number).ok());
                Arc::new(UInt64Array::from(self.values(kind, cells, path, integer)?))
            }
            kind if kind.is_integer() => {
                let integer = |value| number(value)?.integer().and_then(|number| i64::try_from(number).ok());
                let wide: ArrayRef = Arc::new(Int64Array::from(self.values(kind, cells, path, integer)?));
                self.cast(wide, kind, cells, path)?
            }
            DataType::Float32 | DataType::Float64 => {
                let float = |value| if let View::Number(text) = value { text.parse::<f64>().ok() } else { None };
                let wide: ArrayRef = Arc::new(Float64Array::from(self.values(kind, cells, path, float)?));
                self.cast(wide, kind, cells, path)?
            }
            DataType::Decimal128(precision, scale) => {
                let most = 10_u128.pow((*precision).into());
                let fits = |value: &i128| value.unsigned_abs() < most;
                let decimal = |value| number(value)?.scaled(*scale).filter(fits);
                let values = Decimal128Array::from(self.values(kind, cells, path, decimal)?);
                Arc::new(values.with_data_type(kind.clone()))
            }
            DataType::Decimal256(precision, scale) => {
                let fits = |value: &datafusion::arrow::datatypes::i256| {
                    value.to_string().trim_start_matches('-').len() <= usize::from(*precision)
                };
                let decimal = |value| number(value)?.scaled_wide(*scale).filter(fits);
                let values = Decimal256Array::from(self.values(kind, cells, path, decimal)?);
                Arc::new(values.with_data_type(kind.clone()))
            }
            kind if is_written_out(kind) => {
                let text = |value| if let View::Text(text) = value { Some(text) } else { None };
                let mut texts = StringBuilder::new();
                self.values(kind, cells, path, text)?.into_iter().for_each(|text| texts.append_option(text));
                self.cast(Arc::new(texts.finish()), kind, cells, path)?
            }
            DataType::Struct(fields) => {
                let map = |value| if let View::Map(map) = value { Some(map) } else { None };
                let maps = self.values(kind, cells, path, map)?;
                let child = |field: &FieldRef| {
                    let mut inner = Vec::with_capacity(cells.len());
                    for (cell, map) in cells.iter().zip(&maps) {
                        let value = map.map_or(View::Null, |map| View::attribute(map, field.name()));
                        inner.push(Cell { row: cell.row, value });
                    }
                    self.array(field.data_type(), &inner, &format!("{path}.{}", field.name()))
                };
                let children = fields.iter().map(child).collect::<Result<Vec<_>, _>>()?;
                let nulls = NullBuffer::from(maps.iter().map(Option::is_some).collect::<Vec<_>>());
                Arc::new(StructArray::new(fields.clone(), children, Some(nulls)))
            }
            DataType::List(field) => {
                let lists = self.values(kind, cells, path, |value| value.elements())?;
                let mut inner = Vec::new();
                let mut lengths = Vec::with_capacity(lists.len());
                for (cell, list) in cells.iter().zip(&lists) {
                    let elements = list.as_deref().unwrap_or_default();
                    lengths.push(elements.len());
                    inner.extend(elements.iter().map(|value| Cell { row: cell.row, value: *value }));
                }
                let values = self.array(field.data_type(), &inner, &format!("{path}[]"))?;
                let nulls = NullBuffer::from(lists.iter().map(Option::is_some).collect::<Vec<_>>());
                Arc::new(ListArray::new(Arc::clone(field), OffsetBuffer::from_lengths(lengths), values, Some(nulls)))
            }
            // A table of such a column is refused when it is created.
            kind => new_null_array(kind, cells.len()),
        })
    }

    /// The same values in a type that has fewer; what is lost does not fit.
    fn cast(&self, values: ArrayRef, kind: &DataType, cells: &[Cell<'_>], path: &str) -> Result<ArrayRef, Misfit> {
        if values.data_type() == kind {
            return Ok(values);
        }
        let options = CastOptions { safe: true, ..CastOptions::default() };
        let failed = |row: usize, what: String| Misfit { row, path: path.to_string(), what, may_be_null: false };
        let first = || cells.first().map_or(0, |cell| cell.row);
        let cast = cast_with_options(&values, kind, &options);
        let cast = cast.map_err(|error| failed(first(), format!("cannot be read: {error}")))?;
        let lost = (0..values.len()).find(|at| values.is_valid(*at) && cast.is_null(*at));
        match lost {
            Some(at) if !self.misfits_are_null => Err(misfit(&cells[at], path, kind)),
            _ => Ok(cast),
        }
    }
}

fn misfit(cell: &Cell<'_>, path: &str, kind: &DataType) -> Misfit {
    let (of, shown) = (cell.value.kind(), cell.value.shown());
    let declare = match cell.value {
        View::Number(_) if kind.is_numeric() => "DECIMAL(38, s), DOUBLE or VARCHAR",
        View::Number(_) => "BIGINT, DECIMAL(38, s), DOUBLE or VARCHAR",
        View::Bytes(_) => "BINARY or VARCHAR",
        View::Truth(_) => "BOOLEAN or VARCHAR",
        View::Map(_) => "STRUCT or VARCHAR, which is its JSON",
        _ => "VARCHAR, which takes any type",
    };
    let what = format!("is {of} {shown}, which does not fit the column's type {kind}: declare the column {declare}");
    Misfit { row: cell.row, path: path.to_string(), what, may_be_null: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::types::AttributeValue;
    use datafusion::arrow::datatypes::{Field, TimeUnit};
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use std::collections::HashMap;

    fn decoder(fields: Vec<Field>, misfits_are_null: bool) -> Decoder {
        Decoder { schema: Arc::new(Schema::new(fields)), misfits_are_null }
    }

    fn item(attributes: &[(&str, AttributeValue)]) -> Item {
        attributes.iter().map(|(name, value)| (name.to_string(), value.clone())).collect()
    }

    fn n(text: &str) -> AttributeValue {
        AttributeValue::N(text.into())
    }

    fn s(text: &str) -> AttributeValue {
        AttributeValue::S(text.into())
    }

    #[test]
    fn nested_values_are_read() {
        let inner = DataType::Struct(
            vec![Field::new("x", DataType::Int32, true), Field::new("y", DataType::Utf8, true)].into(),
        );
        let fields = vec![
            Field::new("id", DataType::Int64, false),
            Field::new("m", inner, true),
            Field::new("l", DataType::List(Arc::new(Field::new_list_field(DataType::Decimal128(5, 1), true))), true),
            Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, None), true),
            Field::new("v", DataType::Utf8, true),
        ];
        let map = AttributeValue::M(HashMap::from([("x".to_string(), n("7")), ("z".to_string(), n("1"))]));
        let items = [
            item(&[
                ("id", n("1")),
                ("m", map),
                ("l", AttributeValue::Ns(vec!["1.5".into()])),
                ("t", s("2024-02-29T01:02:03.5")),
            ]),
            item(&[("id", n("2")), ("l", AttributeValue::L(vec![n("2"), AttributeValue::Null(true)])), ("v", n("5"))]),
        ];
        let batch = decoder(fields, false).batch(&items).unwrap();
        let table = pretty_format_batches(&[batch]).unwrap().to_string();
        let lines: Vec<&str> = table.lines().skip(3).take(2).collect();
        assert!(
            lines[0].contains("{x: 7, y: }") && lines[0].contains("[1.5]") && lines[0].contains("01:02:03.500"),
            "{table}"
        );
        assert!(lines[1].contains("[2.0, ]") && lines[1].contains("| 5 "), "{table}");
    }

    #[test]
    fn a_misfit_is_named() {
        for (kind, value, words) in [
            (DataType::Int64, n("1.5"), "the attribute v is N 1.5"),
            (DataType::Int16, n("40000"), "N 40000"),
            (DataType::Int64, s("x"), "S 'x'"),
            (DataType::Decimal128(38, 2), n("1E100"), "N 1E100"),
            (DataType::Boolean, n("1"), "N 1"),
            (DataType::Date32, s("soon"), "S 'soon'"),
            (DataType::Binary, s("x"), "S 'x'"),
        ] {
            let items =
                [item(&[("id", n("1")), ("v", AttributeValue::Null(true))]), item(&[("id", n("2")), ("v", value)])];
            let fields = || vec![Field::new("id", DataType::Int64, false), Field::new("v", kind.clone(), true)];
            let misfit = decoder(fields(), false).batch(&items).unwrap_err();
            let error = misfit.to_string();
            assert!(error.contains(words) && misfit.row == 1 && error.contains("declare"), "{error}");
            let batch = decoder(fields(), true).batch(&items).unwrap();
            assert_eq!(batch.column(1).null_count(), 2, "{kind}");
        }
        let missing = decoder(vec![Field::new("v", DataType::Utf8, false)], false).batch(&[item(&[("id", n("3"))])]);
        assert!(missing.unwrap_err().to_string().contains("NOT NULL"));
    }
}

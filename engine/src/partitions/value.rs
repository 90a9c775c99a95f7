//! Values in folder names.

use arrow::array::{Array, ArrayRef, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::cast::as_string_array;
use datafusion::common::{Result, ScalarValue, exec_err, not_impl_err, plan_err};
use datafusion::datasource::listing::ListingTableUrl;
use object_store::path::{Path, PathPart};

/// The name that stands for NULL.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The names of a column's values in folder names. NULL stays NULL.
pub(super) fn texts(column: &str, values: &ArrayRef) -> Result<StringArray> {
    let has_text = |data_type: &DataType| {
        data_type.is_string() || (data_type.is_primitive() && !is_span(data_type)) || *data_type == DataType::Boolean
    };
    let values = match values.data_type() {
        DataType::Null => return Ok(StringArray::new_null(values.len())),
        DataType::Dictionary(_, of) => cast(values, of)?,
        _ => ArrayRef::clone(values),
    };
    let values = match values.data_type() {
        // The text of the other types ends with a time of day.
        DataType::Date64 => cast(&values, &DataType::Date32)?,
        has if has_text(has) => values,
        other => return not_impl_err!("column '{column}' of type {other} cannot be in the names of folders; cast it"),
    };
    let texts = as_string_array(&cast(&values, &DataType::Utf8)?)?.clone();
    if texts.iter().any(|text| text == Some(NULL)) {
        return exec_err!("column '{column}' has the value '{NULL}', which in the name of a folder stands for NULL");
    }
    Ok(texts)
}

fn is_span(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Duration(_) | DataType::Interval(_))
}

fn cast(values: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    Ok(cast_with_options(values, to, &CastOptions { safe: false, ..CastOptions::default() })?)
}

/// The name of a value's folder.
pub(super) fn folder(column: &str, text: Option<&str>) -> PathPart<'static> {
    PathPart::from(format!("{column}={}", text.unwrap_or(NULL)))
}

/// The values in the names of `folders` below a table's folder, one for each of the first of `columns`. `None`: a folder is hidden, and its contents must not
/// be read.
pub(super) fn values(folders: &[&str], columns: &[FieldRef]) -> Result<Option<Vec<ScalarValue>>, NoValue> {
    if folders.iter().any(|name| is_hidden(name)) {
        return Ok(None);
    }
    let mut values = Vec::with_capacity(folders.len());
    for (name, column) in folders.iter().zip(columns) {
        let Some((key, text)) = name.split_once('=') else { return Err(NoValue::NoKey(column.name().clone())) };
        // Hive does not distinguish upper and lower case.
        if !decoded(key).eq_ignore_ascii_case(column.name()) {
            return Err(NoValue::NoKey(column.name().clone()));
        }
        values.push(value(&decoded(text), column.data_type()).map_err(|why| NoValue::Unreadable {
            folder: (*name).to_string(),
            data_type: column.data_type().clone(),
            why,
        })?);
    }
    Ok(Some(values))
}

fn value(text: &str, data_type: &DataType) -> Result<ScalarValue, String> {
    if text == NULL {
        return ScalarValue::try_new_null(data_type).map_err(|error| error.strip_backtrace());
    }
    ScalarValue::try_from_string(text.to_string(), data_type).map_err(|error| error.strip_backtrace())
}

/// Hadoop's hidden names: `_temporary`, `.staging`, but not `_k=5`.
pub(super) fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || (name.starts_with('_') && !name.contains('='))
}

/// The reason why a folder has no value.
pub(super) enum NoValue {
    /// The folder does not name this column.
    NoKey(String),
    Unreadable {
        folder: String,
        data_type: DataType,
        why: String,
    },
}

/// The values of a file of the table at `url`. `None`: the file does not belong to the table.
pub(super) fn values_of_file(
    url: &ListingTableUrl,
    file: &Path,
    columns: &[FieldRef],
) -> Result<Option<Vec<ScalarValue>>> {
    let segments: Vec<&str> = url.strip_prefix(file).map(Iterator::collect).unwrap_or_default();
    let Some((name, folders)) = segments.split_last() else { return Ok(None) };
    if is_hidden(name) {
        return Ok(None);
    }
    match values(folders, columns) {
        Ok(Some(values)) if values.len() < columns.len() => outside(url, file, columns[values.len()].name()),
        Ok(values) => Ok(values),
        Err(NoValue::NoKey(column)) => outside(url, file, &column),
        Err(NoValue::Unreadable { folder, data_type, why }) => plan_err!(
            "the folder '{folder}' below {url} does not give a value of type {data_type}: {why}. Rename it, or make the table with the \
             column as VARCHAR"
        ),
    }
}

fn outside<T>(url: &ListingTableUrl, file: &Path, column: &str) -> Result<T> {
    plan_err!(
        "the file /{file} lies in no folder '{column}=…' below {url}, so its rows have no value of the column '{column}': move it into one, \
         or elsewhere"
    )
}

/// Decodes percent-encoding. The name stays unchanged if the result is not valid text.
pub(super) fn decoded(name: &str) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = name.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            // Two digits make a byte.
            (b'%', Some(high), Some(low)) => {
                plain.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(plain).unwrap_or_else(|_| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Date32Array, Float64Array, Int64Array};
    use arrow::datatypes::Field;
    use std::sync::Arc;

    fn read(folders: &[&str], types: &[DataType]) -> Option<Vec<ScalarValue>> {
        let field = |(at, data_type): (usize, &DataType)| Arc::new(Field::new(["k", "l"][at], data_type.clone(), true));
        values(folders, &types.iter().enumerate().map(field).collect::<Vec<_>>()).ok().flatten()
    }

    #[test]
    fn a_value_is_what_counts_and_not_how_it_is_spelt() {
        assert_eq!(read(&["k=07"], &[DataType::Int32]), Some(vec![ScalarValue::Int32(Some(7))]));
        assert_eq!(read(&["K=True"], &[DataType::Boolean]), Some(vec![ScalarValue::Boolean(Some(true))]));
        assert_eq!(
            read(&["k=1.50", "l=a%2Fb"], &[DataType::Decimal128(5, 1), DataType::Utf8]),
            Some(vec![ScalarValue::Decimal128(Some(15), 5, 1), ScalarValue::from("a/b")])
        );
        assert_eq!(read(&["k=abc"], &[DataType::Int32]), None);
        assert_eq!(read(&["j=7"], &[DataType::Int32]), None);
        assert_eq!(read(&["k="], &[DataType::Utf8]), Some(vec![ScalarValue::from("")]));
    }

    #[test]
    fn null_is_null_of_every_type() {
        for data_type in [DataType::Int64, DataType::Utf8, DataType::Date32, DataType::Boolean, DataType::Float64] {
            let null = ScalarValue::try_new_null(&data_type).unwrap();
            assert_eq!(read(&["k=__HIVE_DEFAULT_PARTITION__"], &[data_type]), Some(vec![null]));
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let columns: [ArrayRef; 4] = [
            Arc::new(Int64Array::from(vec![Some(-1), None, Some(0)])),
            Arc::new(StringArray::from(vec![Some("a/b %é"), None, Some("")])),
            Arc::new(Date32Array::from(vec![Some(0), None, Some(-1)])),
            Arc::new(Float64Array::from(vec![Some(1.5), None, Some(f64::NAN)])),
        ];
        for column in columns {
            for (row, text) in texts("k", &column).unwrap().iter().enumerate() {
                let folder = folder("k", text);
                let value = read(&[folder.as_ref()], &[column.data_type().clone()]).unwrap();
                assert_eq!(value[0], ScalarValue::try_from_array(&column, row).unwrap(), "{folder:?}");
            }
        }
    }

    #[test]
    fn the_name_of_null_is_no_value() {
        let column: ArrayRef = Arc::new(StringArray::from(vec![NULL]));
        assert!(texts("k", &column).is_err());
    }
}

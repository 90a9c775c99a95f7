//! Tables that a write creates: what the server calls the types of their columns, and what they are read as again.

use super::types::{ServerType, Wire, decimal_of};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, Schema, SchemaRef, TimeUnit};
use datafusion::common::{Result, plan_datafusion_err, plan_err};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Bytes of a name, at most. The server cuts off what is longer.
pub(super) const LONGEST_NAME: usize = 63;

/// The type of a column that is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Created {
    /// As SQL writes it.
    pub kind: String,
    pub wire: Wire,
    /// The type that its values are read as again, and that they have when they are written.
    pub read: DataType,
}

impl Created {
    fn new(kind: &str, wire: Wire, read: DataType) -> Self {
        Self { kind: kind.to_string(), wire, read }
    }

    /// The column for values of a type.
    ///
    /// # Errors
    /// The server has no such type. The text goes on behind the name of the column.
    pub fn of(given: &DataType) -> Result<Self, String> {
        let kept = given.clone();
        Ok(match given {
            DataType::Boolean => Self::new("boolean", Wire::Bool, kept),
            DataType::Int8 | DataType::UInt8 | DataType::Int16 => Self::new("smallint", Wire::Int2, DataType::Int16),
            DataType::UInt16 | DataType::Int32 => Self::new("integer", Wire::Int4, DataType::Int32),
            DataType::UInt32 | DataType::Int64 => Self::new("bigint", Wire::Int8, DataType::Int64),
            DataType::UInt64 => Self::numeric(20, 0),
            DataType::Float16 | DataType::Float32 => Self::new("real", Wire::Float4, DataType::Float32),
            DataType::Float64 => Self::new("double precision", Wire::Float8, kept),
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale) => Self::numeric(*precision, *scale),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::new("text", Wire::Text, kept),
            DataType::Null => Self::new("text", Wire::Text, DataType::Utf8),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Self::new("bytea", Wire::Bytea, kept),
            DataType::FixedSizeBinary(_) => Self::new("bytea", Wire::Bytea, DataType::Binary),
            DataType::Date32 | DataType::Date64 => Self::new("date", Wire::Date, DataType::Date32),
            DataType::Time32(unit) | DataType::Time64(unit) => {
                Self::new("time", Wire::Time, DataType::Time64(fine(unit)))
            }
            DataType::Timestamp(unit, None) => {
                Self::new("timestamp", Wire::Timestamp, DataType::Timestamp(fine(unit), None))
            }
            DataType::Timestamp(unit, zone) => {
                Self::new("timestamptz", Wire::TimestampTz, DataType::Timestamp(fine(unit), zone.clone()))
            }
            DataType::Interval(_) | DataType::Duration(_) => {
                Self::new("interval", Wire::Interval, DataType::Interval(IntervalUnit::MonthDayNano))
            }
            DataType::Dictionary(_, values) => Self::of(values)?,
            DataType::RunEndEncoded(_, values) => Self::of(values.data_type())?,
            DataType::List(element)
            | DataType::LargeList(element)
            | DataType::ListView(element)
            | DataType::LargeListView(element)
            | DataType::FixedSizeList(element, _) => Self::array(element)?,
            DataType::Struct(_) => {
                return Err(
                    "is a struct, which PostgreSQL keeps in no column: select its fields, as in s['a'] AS a".into()
                );
            }
            DataType::Map(..) => {
                return Err(
                    "is a map, which PostgreSQL keeps in no column: select its values, as in m['a'] AS a".into()
                );
            }
            DataType::Union(..) => return Err("is a union, which PostgreSQL keeps in no column: cast it".into()),
        })
    }

    fn numeric(precision: u8, scale: i8) -> Self {
        // Digits before the point, where the last ones are zeros.
        let precision = precision.saturating_add(scale.min(0).unsigned_abs());
        let scale = scale.max(0);
        Self::new(&format!("numeric({precision},{scale})"), Wire::Numeric, decimal_of(precision, scale))
    }

    fn array(element: &FieldRef) -> Result<Self, String> {
        let of = Self::of(element.data_type()).map_err(|_| {
            format!("is a list of {}, which PostgreSQL keeps in no column: unnest it", element.data_type())
        })?;
        if matches!(of.wire, Wire::Array(_)) {
            return Err(
                "is a list of lists, whose lengths may differ, which PostgreSQL's arrays do not have: unnest it".into(),
            );
        }
        let item = Arc::new(Field::new_list_field(of.read, true));
        Ok(Self { kind: format!("{}[]", of.kind), wire: Wire::Array(Box::new(of.wire)), read: DataType::List(item) })
    }
}

/// The finer unit, of those that the server's values are read in.
fn fine(unit: &TimeUnit) -> TimeUnit {
    match unit {
        TimeUnit::Nanosecond => TimeUnit::Nanosecond,
        _ => TimeUnit::Microsecond,
    }
}

/// The columns of a table that is created for rows of the columns `given`.
///
/// # Errors
/// One is of a type that the server does not have, or two have one name, or one a name that the server would cut off.
pub(super) fn columns(given: &Schema) -> Result<SchemaRef> {
    let mut seen = BTreeSet::new();
    let column = |field: &FieldRef| {
        let name = field.name();
        if !seen.insert(name.clone()) {
            return plan_err!("the column {name} appears twice: name it with AS");
        }
        if name.len() > LONGEST_NAME {
            return plan_err!(
                "the name of the column {name} has {} bytes, of which PostgreSQL keeps {LONGEST_NAME}: give it a shorter one with AS",
                name.len()
            );
        }
        let created = Created::of(field.data_type()).map_err(|why| plan_datafusion_err!("the column {name} {why}"))?;
        Ok(Field::new(name, created.read, field.is_nullable()))
    };
    Ok(Arc::new(Schema::new(given.fields().iter().map(column).collect::<Result<Vec<_>>>()?)))
}

/// The type that a column of the server has for values of the type `given`: as they are, where it takes them. `is_lenient`: whole numbers that may be too
/// large for it are texts, which the server casts.
pub(super) fn added(known: &ServerType, given: &DataType, is_lenient: bool) -> DataType {
    match Created::of(given) {
        Ok(created) if known.written_as(&created.read).is_ok() => created.read,
        _ => match known.natural(Default::default()) {
            natural if is_lenient && natural.is_integer() && given.is_integer() => DataType::Utf8,
            natural => natural,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_column_or_a_reason() {
        let list = |of: DataType| DataType::List(Arc::new(Field::new("item", of, false)));
        for (given, kind) in [
            (DataType::UInt8, "smallint"),
            (DataType::Int8, "smallint"),
            (DataType::UInt16, "integer"),
            (DataType::UInt32, "bigint"),
            (DataType::UInt64, "numeric(20,0)"),
            (DataType::Float16, "real"),
            (DataType::Decimal32(9, 2), "numeric(9,2)"),
            (DataType::Decimal128(38, 38), "numeric(38,38)"),
            (DataType::Decimal256(76, 10), "numeric(76,10)"),
            (DataType::Decimal128(5, -3), "numeric(8,0)"),
            (DataType::Utf8View, "text"),
            (DataType::Null, "text"),
            (DataType::FixedSizeBinary(16), "bytea"),
            (DataType::Date64, "date"),
            (DataType::Time32(TimeUnit::Second), "time"),
            (DataType::Timestamp(TimeUnit::Second, None), "timestamp"),
            (DataType::Timestamp(TimeUnit::Nanosecond, Some("Europe/Berlin".into())), "timestamptz"),
            (DataType::Duration(TimeUnit::Millisecond), "interval"),
            (DataType::Interval(IntervalUnit::YearMonth), "interval"),
            (DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8)), "text"),
            (list(DataType::UInt64), "numeric(20,0)[]"),
            (DataType::LargeList(Arc::new(Field::new("item", DataType::Utf8View, true))), "text[]"),
        ] {
            let created = Created::of(&given).unwrap();
            assert_eq!(created.kind, kind);
            // What is read again would be created alike.
            assert_eq!(Created::of(&created.read).unwrap(), created, "{given}");
        }
        let entries = Field::new("entries", DataType::Struct(Default::default()), false);
        for (given, words) in [
            (list(list(DataType::Int32)), "list of lists"),
            (DataType::Struct(Default::default()), "is a struct"),
            (DataType::Map(Arc::new(entries), false), "is a map"),
            (list(DataType::Struct(Default::default())), "is a list of"),
        ] {
            let schema = Schema::new(vec![Field::new("odd", given, true)]);
            let error = columns(&schema).unwrap_err().to_string();
            assert!(error.contains("the column odd") && error.contains(words), "{error}");
        }
        let long = Schema::new(vec![Field::new("ü".repeat(32), DataType::Int8, true)]);
        assert!(columns(&long).unwrap_err().to_string().contains("64 bytes"));
    }
}

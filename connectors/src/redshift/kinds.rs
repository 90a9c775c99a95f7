//! Types of Redshift: of columns that a write creates, and of those that are there; and what the files that COPY reads have for them.
//!
//! COPY of Parquet reads no times of day and no instants with a zone. They come as text and as TIMESTAMP in UTC into a table of their own, and from there,
//! converted, into the staging table.
//! <https://docs.aws.amazon.com/redshift/latest/dg/copy-usage_notes-copy-from-columnar.html>

use datafusion::arrow::compute::can_cast_types;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use std::fmt;
use std::sync::Arc;

/// Bytes of the longest VARCHAR.
const LONGEST_TEXT: u32 = 65_535;
/// Digits of a DECIMAL, at most.
const MOST_DIGITS: u8 = 38;

/// The type of a column of Redshift. Its display form is that of SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    Smallint,
    Integer,
    Bigint,
    Real,
    Double,
    Decimal(u8, u8),
    /// Of so many bytes, as all lengths are.
    Char(u32),
    Varchar(u32),
    Varbyte(u32),
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Super,
}

/// Lengths of the columns of a table that a write creates, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths {
    pub varchar: u32,
    pub varbyte: u32,
}

/// How the values of a column reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// Their type in the files.
    pub file: DataType,
    /// The type of the column that COPY fills, where it is another one, and the expression that converts it, with `{}` for the column.
    pub raw: Option<(Kind, &'static str)>,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("boolean"),
            Self::Smallint => f.write_str("smallint"),
            Self::Integer => f.write_str("integer"),
            Self::Bigint => f.write_str("bigint"),
            Self::Real => f.write_str("real"),
            Self::Double => f.write_str("double precision"),
            Self::Decimal(precision, scale) => write!(f, "numeric({precision},{scale})"),
            Self::Char(length) => write!(f, "char({length})"),
            Self::Varchar(length) => write!(f, "varchar({length})"),
            Self::Varbyte(length) => write!(f, "varbyte({length})"),
            Self::Date => f.write_str("date"),
            Self::Time => f.write_str("time"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::TimestampTz => f.write_str("timestamptz"),
            Self::Super => f.write_str("super"),
        }
    }
}

impl Kind {
    /// Parses a type as SQL and the catalogs of Redshift write it. `None`: nothing is written into columns of it.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_lowercase();
        let (name, arguments) = match text.split_once('(') {
            // timestamp(6) without time zone
            Some((name, rest)) => {
                let (arguments, behind) = rest.split_once(')')?;
                (format!("{}{behind}", name.trim_end()), arguments.to_string())
            }
            None => (text.clone(), String::new()),
        };
        let mut numbers = arguments.split(',').map(|number| number.trim().parse::<u32>().ok());
        let first = numbers.next().flatten();
        let second = numbers.next().flatten();
        Some(match name.as_str() {
            "boolean" | "bool" => Self::Boolean,
            "smallint" | "int2" => Self::Smallint,
            "integer" | "int4" | "int" => Self::Integer,
            "bigint" | "int8" => Self::Bigint,
            "real" | "float4" => Self::Real,
            "double precision" | "float8" => Self::Double,
            "numeric" | "decimal" => {
                let precision = u8::try_from(first.unwrap_or(18)).ok().filter(|digits| *digits <= MOST_DIGITS)?;
                Self::Decimal(precision, u8::try_from(second.unwrap_or(0)).ok().filter(|scale| *scale <= precision)?)
            }
            "character" | "char" | "bpchar" => Self::Char(first.unwrap_or(1)),
            "character varying" | "varchar" => Self::Varchar(first.unwrap_or(256)),
            "text" => Self::Varchar(256),
            "binary varying" | "varbyte" | "varbinary" => Self::Varbyte(first.unwrap_or(64_000)),
            "date" => Self::Date,
            "time" | "time without time zone" => Self::Time,
            "timestamp" | "timestamp without time zone" => Self::Timestamp,
            "timestamptz" | "timestamp with time zone" => Self::TimestampTz,
            "super" => Self::Super,
            _ => return None,
        })
    }

    /// The column of a new table for values of a type.
    ///
    /// # Errors
    /// Redshift has no such type. The text goes on behind the name of the column.
    pub fn created(given: &DataType, lengths: Lengths) -> Result<Self, String> {
        let decimal = |precision: u8, scale: i8| {
            // Digits before the point, where the last ones are zeros.
            let precision = precision.saturating_add(scale.min(0).unsigned_abs());
            match precision <= MOST_DIGITS {
                true => Ok(Self::Decimal(precision, scale.max(0).unsigned_abs())),
                false => Err(format!(
                    "is DECIMAL of {precision} digits, of which Redshift keeps {MOST_DIGITS}: cast it to a smaller one or to VARCHAR"
                )),
            }
        };
        Ok(match given {
            DataType::Boolean => Self::Boolean,
            DataType::Int8 | DataType::UInt8 | DataType::Int16 => Self::Smallint,
            DataType::UInt16 | DataType::Int32 => Self::Integer,
            DataType::UInt32 | DataType::Int64 => Self::Bigint,
            DataType::UInt64 => Self::Decimal(20, 0),
            DataType::Float16 | DataType::Float32 => Self::Real,
            DataType::Float64 => Self::Double,
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale) => decimal(*precision, *scale)?,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
                Self::Varchar(lengths.varchar)
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Self::Varbyte(lengths.varbyte)
            }
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Time32(_) | DataType::Time64(_) => Self::Time,
            DataType::Timestamp(_, None) => Self::Timestamp,
            DataType::Timestamp(..) => Self::TimestampTz,
            DataType::Dictionary(_, values) => Self::created(values, lengths)?,
            DataType::RunEndEncoded(_, values) => Self::created(values.data_type(), lengths)?,
            nested if nested.is_nested() => {
                inside(nested)?;
                Self::Super
            }
            DataType::Interval(_) | DataType::Duration(_) => {
                return Err(
                    "is INTERVAL, which COPY of Redshift does not read: cast it to VARCHAR or to a number".into()
                );
            }
            other => return Err(format!("is {other}, which Redshift keeps in no column: cast it")),
        })
    }

    /// The type of rows that nobody declares.
    pub fn natural(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Smallint => DataType::Int16,
            Self::Integer => DataType::Int32,
            Self::Bigint => DataType::Int64,
            Self::Real => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Decimal(precision, scale) => DataType::Decimal128(precision, scale.cast_signed()),
            Self::Char(_) | Self::Varchar(_) | Self::Super => DataType::Utf8,
            Self::Varbyte(_) => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    /// How values of a type get into a column of this one.
    ///
    /// # Errors
    /// They do not. The text goes on behind the name of the column.
    pub fn way(self, given: &DataType) -> Result<Way, String> {
        let file = match self {
            Self::Super if given.is_nested() => inside(plain(given))?,
            Self::Time => DataType::Utf8,
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, None),
            other => other.natural(),
        };
        let raw = match self {
            Self::Time => Some((Self::Varchar(32), "CAST({} AS time)")),
            Self::TimestampTz => Some((Self::Timestamp, "({} AT TIME ZONE 'UTC')")),
            Self::Super if !given.is_nested() => Some((Self::Varchar(LONGEST_TEXT), "JSON_PARSE({})")),
            _ => None,
        };
        let (from, to) = (Class::of(given), Class::of(&self.natural()));
        let fits = match (from, self) {
            (Class::Null, _) | (Class::Text | Class::Nested, Self::Super) => true,
            (_, Self::Super) | (Class::Nested | Class::Other, _) => false,
            (from, _) if from == to => true,
            (Class::Text, _) => to != Class::Bytes,
            (Class::Date, _) => matches!(to, Class::Stamp | Class::Text),
            (Class::Stamp, _) => matches!(to, Class::Date | Class::Text),
            (from, _) => to == Class::Text && from != Class::Bytes,
        };
        match fits && (from == Class::Null || can_cast_types(plain(given), &file)) {
            true => Ok(Way { file, raw }),
            false => Err(format!("is {self} in Redshift, and takes no {given}: cast it")),
        }
    }
}

/// Kinds of values that become each other without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Null,
    Boolean,
    Number,
    Text,
    Bytes,
    Date,
    Time,
    Stamp,
    Nested,
    Other,
}

impl Class {
    fn of(kind: &DataType) -> Self {
        match plain(kind) {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Boolean,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Self::Bytes
            }
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Time32(_) | DataType::Time64(_) => Self::Time,
            DataType::Timestamp(..) => Self::Stamp,
            kind if kind.is_numeric() => Self::Number,
            DataType::Union(..) => Self::Other,
            kind if kind.is_nested() => Self::Nested,
            _ => Self::Other,
        }
    }
}

/// The type of the values of a column that has each of them once.
pub(super) fn plain(kind: &DataType) -> &DataType {
    match kind {
        DataType::Dictionary(_, values) => plain(values),
        DataType::RunEndEncoded(_, values) => plain(values.data_type()),
        other => other,
    }
}

/// The type that a nested one has in the files, for SUPER.
///
/// # Errors
/// It has a part that JSON has not. The text goes on behind the name of the column.
fn inside(nested: &DataType) -> Result<DataType, String> {
    let field = |field: &FieldRef| -> Result<FieldRef, String> {
        let of = inside(plain(field.data_type()))?;
        Ok(Arc::new(Field::new(field.name(), of, field.is_nullable())))
    };
    Ok(match nested {
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::ListView(element)
        | DataType::LargeListView(element)
        | DataType::FixedSizeList(element, _) => DataType::List(field(element)?),
        DataType::Struct(fields) if !fields.is_empty() => {
            DataType::Struct(fields.iter().map(field).collect::<Result<Fields, String>>()?)
        }
        DataType::Map(entries, sorted) => DataType::Map(field(entries)?, *sorted),
        DataType::Boolean => DataType::Boolean,
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => DataType::Int16,
        DataType::UInt16 | DataType::Int32 => DataType::Int32,
        DataType::UInt32 | DataType::Int64 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 | DataType::Float32 => DataType::Float32,
        DataType::Float64 => DataType::Float64,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
            if *scale >= 0 =>
        {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Date32 | DataType::Date64 => DataType::Date32,
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        other => {
            return Err(format!("has {other} inside, which Redshift's SUPER does not have: cast it to VARCHAR"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: Lengths = Lengths { varchar: 300, varbyte: 400 };

    #[test]
    fn every_type_has_a_column_or_a_reason() {
        let list = |of: DataType| DataType::List(Arc::new(Field::new("item", of, true)));
        for (given, kind) in [
            (DataType::Boolean, "boolean"),
            (DataType::UInt8, "smallint"),
            (DataType::UInt16, "integer"),
            (DataType::UInt32, "bigint"),
            (DataType::UInt64, "numeric(20,0)"),
            (DataType::Float16, "real"),
            (DataType::Decimal128(5, -3), "numeric(8,0)"),
            (DataType::Decimal256(38, 2), "numeric(38,2)"),
            (DataType::Utf8View, "varchar(300)"),
            (DataType::Null, "varchar(300)"),
            (DataType::FixedSizeBinary(16), "varbyte(400)"),
            (DataType::Date64, "date"),
            (DataType::Time32(TimeUnit::Second), "time"),
            (DataType::Timestamp(TimeUnit::Nanosecond, None), "timestamp"),
            (DataType::Timestamp(TimeUnit::Second, Some("Europe/Berlin".into())), "timestamptz"),
            (DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8)), "varchar(300)"),
            (list(DataType::UInt64), "super"),
            (DataType::Struct(Fields::from(vec![Field::new("a", list(DataType::Utf8View), true)])), "super"),
        ] {
            let created = Kind::created(&given, LENGTHS).unwrap();
            assert_eq!(created.to_string(), kind);
            assert_eq!(Kind::parse(kind), Some(created));
            created.way(&given).unwrap();
        }
        for (given, words) in [
            (DataType::Decimal256(76, 10), "76 digits"),
            (DataType::Duration(TimeUnit::Second), "INTERVAL"),
            (list(DataType::Time64(TimeUnit::Nanosecond)), "has Time64"),
            (DataType::Struct(Fields::empty()), "inside"),
        ] {
            let why = Kind::created(&given, LENGTHS).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn types_are_read_as_the_catalogs_write_them() {
        for (text, kind) in [
            ("character varying(256)", Kind::Varchar(256)),
            ("numeric(12,2)", Kind::Decimal(12, 2)),
            ("timestamp without time zone", Kind::Timestamp),
            ("timestamp(6) with time zone", Kind::TimestampTz),
            ("binary varying(10)", Kind::Varbyte(10)),
            ("CHAR(3)", Kind::Char(3)),
        ] {
            assert_eq!(Kind::parse(text), Some(kind), "{text}");
        }
        for text in ["geometry", "hllsketch", "interval year to month", "numeric(50,2)", "time with time zone"] {
            assert_eq!(Kind::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_column_takes_what_becomes_it_without_a_word() {
        let takes = |kind: Kind, given: DataType| kind.way(&given).is_ok();
        assert!(takes(Kind::Integer, DataType::Utf8) && takes(Kind::Varchar(5), DataType::Int64));
        assert!(takes(Kind::Date, DataType::Timestamp(TimeUnit::Second, None)) && takes(Kind::Super, DataType::Utf8));
        assert!(!takes(Kind::Integer, DataType::Date32) && !takes(Kind::Boolean, DataType::Int32));
        assert!(!takes(Kind::Varbyte(5), DataType::Utf8) && !takes(Kind::Super, DataType::Int32));
        let why = Kind::Integer.way(&DataType::Date32).unwrap_err();
        assert!(why.contains("is integer in Redshift, and takes no Date32"), "{why}");
    }
}

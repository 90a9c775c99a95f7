//! Types of MySQL, the types of columns that they are read as, and the types of columns that are created.

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, IntervalUnit, TimeUnit};
use datafusion::arrow;
use std::fmt;

/// Time zone of instants.
const UTC: &str = "UTC";
/// Digits of a DECIMAL of the server.
const DIGITS: u8 = 65;
/// Letters or bytes of a column that an index of a staging table has.
const PREFIX: u32 = 32;

/// What the values of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// TINYINT(1), whose values are 0 and 1.
    Bool,
    /// Whole numbers.
    Int,
    /// Whole numbers of four digits, of which texts of fewer ones mean others.
    Year,
    /// Bits, the first one the highest.
    Bit,
    Float,
    Double,
    Decimal,
    Date,
    DateTime,
    Timestamp,
    /// Signed, of up to 839 hours.
    Time,
    Text,
    /// Text that the server stores in another form.
    Json,
    Bytes,
    Geometry,
    /// Text: the server's cast of the value.
    AsText,
}

const NAMES: [(&str, Wire); 16] = [
    ("bool", Wire::Bool),
    ("int", Wire::Int),
    ("year", Wire::Year),
    ("bit", Wire::Bit),
    ("float", Wire::Float),
    ("double", Wire::Double),
    ("decimal", Wire::Decimal),
    ("date", Wire::Date),
    ("datetime", Wire::DateTime),
    ("timestamp", Wire::Timestamp),
    ("time", Wire::Time),
    ("text", Wire::Text),
    ("json", Wire::Json),
    ("bytes", Wire::Bytes),
    ("geometry", Wire::Geometry),
    ("as text", Wire::AsText),
];

/// Reads back with [`Wire::parse`].
impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(_, named)| named == self).map_or("", |(name, _)| name))
    }
}

impl Wire {
    pub fn parse(text: &str) -> Option<Self> {
        NAMES.iter().find(|(name, _)| *name == text).map(|(_, wire)| *wire)
    }

    pub fn is_temporal(self) -> bool {
        matches!(self, Self::Date | Self::DateTime | Self::Timestamp)
    }
}

/// A column's type on the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerType {
    /// Its name in lower case, without lengths: `int`, `decimal`.
    pub data: String,
    /// As SQL writes it: `int(10) unsigned`, `enum('a','b')`.
    pub full: String,
    pub precision: Option<u32>,
    pub scale: Option<u32>,
    /// Digits of a second's fraction.
    pub fraction: Option<u32>,
    pub charset: Option<String>,
    pub collation: Option<String>,
}

/// Choices of a table, where there is more than one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Choices {
    /// TINYINT(1) is a number.
    pub tinyint1_as_integer: bool,
    /// Dates without a day, a month or a year are NULL, rather than errors.
    pub zero_dates_as_null: bool,
}

pub(super) fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8)
}

fn is_bytes(kind: &DataType) -> bool {
    matches!(kind, DataType::Binary | DataType::BinaryView | DataType::LargeBinary)
}

/// It holds microseconds.
fn is_fine(unit: &TimeUnit) -> bool {
    matches!(unit, TimeUnit::Microsecond | TimeUnit::Nanosecond)
}

impl ServerType {
    fn is_unsigned(&self) -> bool {
        self.full.to_ascii_lowercase().contains("unsigned")
    }

    pub fn wire(&self, choices: Choices) -> Wire {
        let full = self.full.to_ascii_lowercase();
        match self.data.as_str() {
            "tinyint" if full == "tinyint(1)" && !choices.tinyint1_as_integer => Wire::Bool,
            "tinyint" | "smallint" | "mediumint" | "int" | "integer" | "bigint" => Wire::Int,
            "year" => Wire::Year,
            "bit" => Wire::Bit,
            "float" => Wire::Float,
            "double" => Wire::Double,
            "decimal" => Wire::Decimal,
            "date" => Wire::Date,
            "datetime" => Wire::DateTime,
            "timestamp" => Wire::Timestamp,
            "time" => Wire::Time,
            "json" => Wire::Json,
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" | "set" => Wire::Text,
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" | "vector" => Wire::Bytes,
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon"
            | "geometrycollection" | "geomcollection" => Wire::Geometry,
            _ => Wire::AsText,
        }
    }

    /// Returns the type of a column that nobody declares.
    pub fn natural(&self, choices: Choices) -> DataType {
        let unsigned = self.is_unsigned();
        match self.wire(choices) {
            Wire::Bool => DataType::Boolean,
            Wire::Int => match (self.data.as_str(), unsigned) {
                ("tinyint", false) => DataType::Int8,
                ("tinyint", true) => DataType::UInt8,
                ("smallint", false) => DataType::Int16,
                ("smallint", true) => DataType::UInt16,
                ("bigint", false) => DataType::Int64,
                ("bigint", true) => DataType::UInt64,
                (_, false) => DataType::Int32,
                (_, true) => DataType::UInt32,
            },
            Wire::Year => DataType::Int16,
            Wire::Bit if self.precision == Some(1) => DataType::Boolean,
            Wire::Bit => DataType::UInt64,
            Wire::Float => DataType::Float32,
            Wire::Double => DataType::Float64,
            Wire::Decimal => {
                let digits = self.precision.and_then(|digits| u8::try_from(digits).ok()).unwrap_or(10);
                let scale = self.scale.and_then(|scale| i8::try_from(scale).ok()).unwrap_or(0);
                if digits <= 38 { DataType::Decimal128(digits, scale) } else { DataType::Decimal256(digits, scale) }
            }
            Wire::Date => DataType::Date32,
            Wire::DateTime => DataType::Timestamp(TimeUnit::Microsecond, None),
            Wire::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            Wire::Time => DataType::Interval(IntervalUnit::MonthDayNano),
            Wire::Bytes | Wire::Geometry => DataType::Binary,
            Wire::Text | Wire::Json | Wire::AsText => DataType::Utf8,
        }
    }

    /// Whether values can be read and written as `wanted`, a type that a statement declares.
    fn fits(&self, wire: Wire, wanted: &DataType) -> bool {
        match (wire, wanted) {
            (Wire::Text | Wire::Json | Wire::AsText, wanted) => is_text(wanted),
            (Wire::Int | Wire::Year | Wire::Bit, wanted) if wanted.is_integer() => true,
            (Wire::Decimal, DataType::Decimal128(..) | DataType::Decimal256(..)) => true,
            (Wire::Bytes | Wire::Geometry, wanted) => is_bytes(wanted),
            (Wire::DateTime, DataType::Timestamp(unit, None)) => is_fine(unit),
            (Wire::Timestamp, DataType::Timestamp(unit, Some(_))) => is_fine(unit),
            (Wire::Time, DataType::Time64(unit)) => is_fine(unit),
            (_, wanted) => self.natural(Choices::default()) == *wanted,
        }
    }

    fn carried(&self, wanted: &DataType, choices: Choices) -> Option<Wire> {
        let wire = self.wire(choices);
        // A TINYINT(1) that is declared as a number is one.
        let number = (wire == Wire::Bool && wanted.is_integer()).then_some(Wire::Int);
        let flag = (self.full.eq_ignore_ascii_case("tinyint(1)") && *wanted == DataType::Boolean).then_some(Wire::Bool);
        number.or(flag).or_else(|| self.fits(wire, wanted).then_some(wire))
    }

    /// How values come that are to be read as `wanted`, and the expression of SQL that is read; `column` is its quoted name.
    ///
    /// # Errors
    /// They cannot be read so.
    pub fn read_as(&self, wanted: &DataType, choices: Choices, column: &str) -> Result<(Wire, String), String> {
        match self.carried(wanted, choices) {
            Some(Wire::AsText) => Ok((Wire::AsText, format!("CAST({column} AS CHAR)"))),
            Some(Wire::Geometry) => Ok((Wire::Geometry, format!("ST_AsBinary({column})"))),
            Some(wire) => Ok((wire, column.to_string())),
            None if is_text(wanted) => match self.wire(choices) {
                Wire::Bytes => Err(format!("is {} on the server, which is not read as text", self.full)),
                Wire::Geometry => Ok((Wire::AsText, format!("ST_AsText({column})"))),
                Wire::Bit => Ok((Wire::AsText, format!("CAST({column} + 0 AS CHAR)"))),
                _ => Ok((Wire::AsText, format!("CAST({column} AS CHAR)"))),
            },
            None => Err(format!("is {} on the server, which is not read as {wanted}", self.full)),
        }
    }

    /// What conditions are about: the values of `expression`, which [`ServerType::read_as`] gave.
    pub fn compared(&self, expression: &str) -> String {
        match self.data.as_str() {
            "bit" | "year" if !expression.starts_with("CAST(") => format!("({expression} + 0)"),
            _ => expression.to_string(),
        }
    }

    /// How values are written that are of the type `given`. What is text is for the server to understand.
    ///
    /// # Errors
    /// They cannot be written so.
    pub fn written_as(&self, given: &DataType) -> Result<Wire, String> {
        match self.carried(given, Choices::default()) {
            Some(wire) => Ok(wire),
            None if is_text(given)
                && !matches!(self.wire(Choices::default()), Wire::Bytes | Wire::Geometry | Wire::Bit) =>
            {
                Ok(Wire::AsText)
            }
            None => Err(format!("is {} on the server, which does not take {given}", self.full)),
        }
    }

    /// The type of a column for values of the type `given`, some of which it may not take: what Windlass converts it into is as wide as can be.
    pub fn lenient(&self, given: &DataType) -> DataType {
        let natural = self.natural(Choices::default());
        match (&natural, given) {
            (DataType::Decimal128(_, scale), given) if given.is_decimal() => {
                DataType::Decimal128(DECIMAL128_MAX_PRECISION, *scale)
            }
            (_, given) if self.written_as(given).is_ok() => given.clone(),
            _ => natural,
        }
    }

    /// What stands behind the column's name in an index: nothing, or how much of its beginning. `None`: it is in no index.
    pub fn indexed(&self) -> Option<&'static str> {
        match self.data.as_str() {
            "json" | "vector" => None,
            "char" | "varchar" | "binary" | "varbinary" if self.length() <= PREFIX => Some(""),
            "char" | "varchar" | "binary" | "varbinary" => Some("(32)"),
            data if data.ends_with("text") || data.ends_with("blob") => Some("(32)"),
            _ if self.wire(Choices::default()) == Wire::Geometry => None,
            _ => Some(""),
        }
    }

    /// Letters or bytes that a text may have, as the parentheses behind its type say.
    pub fn length(&self) -> u32 {
        self.full.split(['(', ')']).nth(1).and_then(|length| length.parse().ok()).unwrap_or(u32::MAX)
    }

    /// The type as SQL writes it where a table with such a column is made.
    pub fn definition(&self) -> String {
        let charset = self.charset.as_ref().map(|charset| format!(" CHARACTER SET {charset}")).unwrap_or_default();
        let collation = self.collation.as_ref().map(|name| format!(" COLLATE {name}")).unwrap_or_default();
        format!("{}{charset}{collation}", self.full)
    }
}

/// A type of microseconds, or that of nanoseconds if such values are written: those that would lose digits are errors, and not rounded on their way.
pub(super) fn with_nanoseconds(natural: DataType, written: &DataType) -> DataType {
    match (&natural, written) {
        (DataType::Timestamp(TimeUnit::Microsecond, zone), DataType::Timestamp(TimeUnit::Nanosecond, _)) => {
            DataType::Timestamp(TimeUnit::Nanosecond, zone.clone())
        }
        _ => natural,
    }
}

/// The type of a column that is created for values of `kind`, which later reads give as its natural type.
///
/// # Errors
/// The server has no type for them.
pub(super) fn created(kind: &DataType) -> Result<ServerType, String> {
    let plain = |data: &str, full: &str| ServerType { data: data.into(), full: full.into(), ..ServerType::default() };
    let decimal = |digits: u8, scale: i8| match u32::try_from(scale) {
        Ok(places) if digits <= DIGITS && places <= 38 => Ok(ServerType {
            precision: Some(digits.into()),
            scale: Some(places),
            ..plain("decimal", &format!("decimal({digits},{scale})"))
        }),
        _ => Err(format!("DECIMAL({digits}, {scale}) is more than MySQL has: 65 digits, 38 of them behind the point")),
    };
    let fine = |data: &str| ServerType { fraction: Some(6), ..plain(data, &format!("{data}(6)")) };
    Ok(match kind {
        DataType::Boolean => plain("tinyint", "tinyint(1)"),
        DataType::Int8 => plain("tinyint", "tinyint(4)"),
        DataType::Int16 => plain("smallint", "smallint"),
        DataType::Int32 => plain("int", "int"),
        DataType::Int64 => plain("bigint", "bigint"),
        DataType::UInt8 => plain("tinyint", "tinyint(3) unsigned"),
        DataType::UInt16 => plain("smallint", "smallint unsigned"),
        DataType::UInt32 => plain("int", "int unsigned"),
        DataType::UInt64 => plain("bigint", "bigint unsigned"),
        DataType::Float16 | DataType::Float32 => plain("float", "float"),
        DataType::Float64 => plain("double", "double"),
        DataType::Decimal32(digits, scale)
        | DataType::Decimal64(digits, scale)
        | DataType::Decimal128(digits, scale)
        | DataType::Decimal256(digits, scale) => decimal(*digits, *scale)?,
        DataType::Date32 | DataType::Date64 => plain("date", "date"),
        DataType::Timestamp(_, None) => fine("datetime"),
        DataType::Timestamp(_, Some(_)) => fine("timestamp"),
        DataType::Interval(_) => fine("time"),
        DataType::Time32(_) | DataType::Time64(_) => {
            return Err("TIME of MySQL is read as an interval: cast the column to INTERVAL or to VARCHAR".to_string());
        }
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => {
            ServerType { charset: Some("utf8mb4".into()), ..plain("longtext", "longtext") }
        }
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
            plain("longblob", "longblob")
        }
        DataType::Dictionary(_, value) => created(value)?,
        other => return Err(format!("MySQL has no type for {other}: cast the column to VARCHAR")),
    })
}

/// Like [`created`], for a column of a primary key, which texts and bytes of any length cannot be. Texts differ where their bytes do.
///
/// # Errors
/// The server has no type for them.
pub(super) fn created_as_key(kind: &DataType) -> Result<ServerType, String> {
    let created = created(kind)?;
    let short = |data: &str| ServerType { data: data.into(), full: format!("{data}(255)"), ..created.clone() };
    Ok(match created.data.as_str() {
        "longtext" => ServerType { collation: Some("utf8mb4_bin".into()), ..short("varchar") },
        "longblob" => short("varbinary"),
        _ => created,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(data: &str, full: &str) -> ServerType {
        ServerType { data: data.into(), full: full.into(), ..ServerType::default() }
    }

    #[test]
    fn wires_have_names() {
        for (name, wire) in NAMES {
            assert_eq!((Wire::parse(name), wire.to_string().as_str()), (Some(wire), name));
        }
    }

    #[test]
    fn what_is_created_is_read_as_the_same() {
        for kind in [
            DataType::Boolean,
            DataType::Int8,
            DataType::UInt64,
            DataType::Float32,
            DataType::Decimal128(38, 10),
            DataType::Decimal256(65, 38),
            DataType::Date32,
            DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            DataType::Interval(IntervalUnit::MonthDayNano),
            DataType::Utf8,
            DataType::Binary,
        ] {
            let made = created(&kind).unwrap();
            assert_eq!(made.natural(Choices::default()), kind);
            assert!(made.written_as(&kind).is_ok(), "{kind}");
        }
        assert!(created(&DataType::Decimal256(70, 2)).unwrap_err().contains("65 digits"));
        assert!(created(&DataType::Time64(TimeUnit::Microsecond)).unwrap_err().contains("INTERVAL"));
    }

    #[test]
    fn keys_have_an_index() {
        let text = created_as_key(&DataType::Utf8).unwrap();
        assert_eq!(text.definition(), "varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin");
        assert_eq!((text.natural(Choices::default()), text.indexed()), (DataType::Utf8, Some("(32)")));
        assert_eq!(created_as_key(&DataType::Int64).unwrap().indexed(), Some(""));
        assert_eq!(server("char", "char(32)").indexed(), Some(""));
        assert_eq!(server("mediumblob", "mediumblob").indexed(), Some("(32)"));
        assert_eq!(server("point", "point").indexed(), None);
    }

    #[test]
    fn a_flag_may_be_a_number() {
        let flag = server("tinyint", "tinyint(1)");
        assert_eq!(flag.natural(Choices::default()), DataType::Boolean);
        assert_eq!(flag.natural(Choices { tinyint1_as_integer: true, ..Choices::default() }), DataType::Int8);
        assert_eq!(flag.read_as(&DataType::Int32, Choices::default(), "`a`").unwrap().0, Wire::Int);
        assert_eq!(server("tinyint", "tinyint(4)").natural(Choices::default()), DataType::Int8);
        assert_eq!(server("bigint", "bigint(20) unsigned").natural(Choices::default()), DataType::UInt64);
        let blob = server("blob", "blob");
        assert!(blob.read_as(&DataType::Utf8, Choices::default(), "`a`").unwrap_err().contains("blob"));
    }
}

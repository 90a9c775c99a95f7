//! Types of PostgreSQL, the types of columns that they are read as, and how their values travel.

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Field, IntervalUnit, TimeUnit};
use datafusion::arrow;
use std::fmt;
use std::sync::Arc;

/// Type of a NUMERIC without a precision: that of Windlass's own NUMERIC.
const NUMERIC: DataType = DataType::Decimal128(38, 10);
/// Time zone of instants.
const UTC: &str = "UTC";

/// How the values of a column travel in binary COPY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    Bytea,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
    Uuid,
    /// As it is: text, varchar, json.
    Text,
    /// text whose trailing blanks count: char(n), whose other casts lose them.
    Char,
    Jsonb,
    /// Text: the server's cast of the value.
    AsText,
    Array(Box<Wire>),
}

/// A column's type on the server, without its domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerType {
    pub oid: u32,
    /// -1: none.
    pub modifier: i32,
    /// Type of the elements of an array.
    pub element: Option<u32>,
    /// As SQL writes it, domains included.
    pub name: String,
}

/// Choices of a table, where there is more than one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Choices {
    /// All numbers of NUMERIC are read as text.
    pub numeric_as_text: bool,
    /// Infinite dates and timestamps are NULL, rather than errors.
    pub infinity_as_null: bool,
}

const NAMES: [(&str, Wire); 19] = [
    ("bool", Wire::Bool),
    ("int2", Wire::Int2),
    ("int4", Wire::Int4),
    ("int8", Wire::Int8),
    ("oid", Wire::Oid),
    ("float4", Wire::Float4),
    ("float8", Wire::Float8),
    ("numeric", Wire::Numeric),
    ("bytea", Wire::Bytea),
    ("date", Wire::Date),
    ("time", Wire::Time),
    ("timestamp", Wire::Timestamp),
    ("timestamptz", Wire::TimestampTz),
    ("interval", Wire::Interval),
    ("uuid", Wire::Uuid),
    ("text", Wire::Text),
    ("char", Wire::Char),
    ("jsonb", Wire::Jsonb),
    ("as text", Wire::AsText),
];

/// Reads back with [`Wire::parse`].
impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Array(element) => write!(f, "[{element}"),
            wire => f.write_str(NAMES.iter().find(|(_, named)| named == wire).map_or("", |(name, _)| name)),
        }
    }
}

impl Wire {
    /// Whether the server is to cast it from text.
    pub fn is_cast(&self) -> bool {
        match self {
            Self::Array(element) => element.is_cast(),
            wire => *wire == Self::AsText,
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix('[') {
            Some(element) => Some(Self::Array(Box::new(Self::parse(element)?))),
            None => NAMES.iter().find(|(name, _)| *name == text).map(|(_, wire)| wire.clone()),
        }
    }

    /// Returns the base type of a number, which is the same on every server.
    fn of(oid: u32) -> Self {
        match oid {
            16 => Self::Bool,
            17 => Self::Bytea,
            20 => Self::Int8,
            21 => Self::Int2,
            23 => Self::Int4,
            25 | 114 | 1043 => Self::Text,
            26 => Self::Oid,
            700 => Self::Float4,
            701 => Self::Float8,
            1042 => Self::Char,
            1082 => Self::Date,
            1083 => Self::Time,
            1114 => Self::Timestamp,
            1184 => Self::TimestampTz,
            1186 => Self::Interval,
            1700 => Self::Numeric,
            2950 => Self::Uuid,
            3802 => Self::Jsonb,
            _ => Self::AsText,
        }
    }

    /// The expression that is read of a column; `column` is one.
    pub fn read(&self, column: &str) -> String {
        match self {
            Self::AsText => format!("{column}::pg_catalog.text"),
            Self::Array(element) if **element == Self::AsText => format!("{column}::pg_catalog.text[]"),
            _ => column.to_string(),
        }
    }

    /// The same value as text, in the words in which Windlass has it.
    pub fn text(&self, column: &str) -> String {
        match self {
            Self::Char => format!("pg_catalog.textin(pg_catalog.bpcharout({column}))"),
            _ => format!("{column}::pg_catalog.text"),
        }
    }

    /// The type that a column of this kind is read as.
    fn natural(&self, modifier: i32) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int2 => DataType::Int16,
            Self::Int4 => DataType::Int32,
            Self::Int8 | Self::Oid => DataType::Int64,
            Self::Float4 => DataType::Float32,
            Self::Float8 => DataType::Float64,
            Self::Numeric => decimal(modifier),
            Self::Bytea => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            Self::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            Self::Uuid | Self::Text | Self::Char | Self::Jsonb | Self::AsText => DataType::Utf8,
            Self::Array(element) => DataType::List(Arc::new(Field::new_list_field(element.natural(modifier), true))),
        }
    }

    /// Whether values can be read as `wanted`, a type that a statement declares.
    fn fits(&self, wanted: &DataType) -> bool {
        match (self, wanted) {
            (Self::Uuid | Self::Text | Self::Char | Self::Jsonb | Self::AsText, wanted) => is_text(wanted),
            (Self::Numeric, DataType::Decimal128(..) | DataType::Decimal256(..)) => true,
            (Self::Bytea, DataType::Binary | DataType::BinaryView | DataType::LargeBinary) => true,
            (Self::Timestamp, DataType::Timestamp(unit, None)) => is_fine(unit),
            (Self::TimestampTz, DataType::Timestamp(unit, Some(_))) => is_fine(unit),
            (Self::Time, DataType::Time64(unit)) => is_fine(unit),
            (Self::Array(element), DataType::List(field)) => element.fits(field.data_type()),
            (wire, wanted) => wire.natural(-1) == *wanted,
        }
    }
}

pub(super) fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8)
}

/// It holds microseconds.
fn is_fine(unit: &TimeUnit) -> bool {
    matches!(unit, TimeUnit::Microsecond | TimeUnit::Nanosecond)
}

/// Returns the type of a NUMERIC by its modifier, `((precision << 16) | scale) + 4`, in which the scale has 11 bits and a sign.
fn decimal(modifier: i32) -> DataType {
    if modifier < 4 {
        return NUMERIC;
    }
    let (precision, scale) = (((modifier - 4) >> 16) & 0xffff, ((((modifier - 4) & 0x7ff) ^ 1024) - 1024));
    // Digits before and behind the point that values may have.
    let digits = (precision - scale.min(0)).max(scale);
    match (u8::try_from(digits), i8::try_from(scale.max(0))) {
        (Ok(digits), Ok(scale)) if digits <= DECIMAL256_MAX_PRECISION => decimal_of(digits, scale),
        _ => NUMERIC,
    }
}

/// `precision`: at most that of 256 bits.
pub(super) fn decimal_of(precision: u8, scale: i8) -> DataType {
    match precision <= DECIMAL128_MAX_PRECISION {
        true => DataType::Decimal128(precision, scale),
        false => DataType::Decimal256(precision.min(DECIMAL256_MAX_PRECISION), scale),
    }
}

impl ServerType {
    fn wire(&self, choices: Choices) -> Wire {
        let chosen = |oid| match Wire::of(oid) {
            Wire::Numeric if choices.numeric_as_text => Wire::AsText,
            wire => wire,
        };
        match self.element {
            Some(element) => Wire::Array(Box::new(chosen(element))),
            None => chosen(self.oid),
        }
    }

    /// Returns the type of a column that nobody declares.
    pub fn natural(&self, choices: Choices) -> DataType {
        self.wire(choices).natural(self.modifier)
    }

    /// How values come that are to be read as `wanted`.
    ///
    /// # Errors
    /// They cannot be read so.
    pub fn read_as(&self, wanted: &DataType, choices: Choices) -> Result<Wire, String> {
        let wire = self.wire(choices);
        match () {
            () if wire.fits(wanted) => Ok(wire),
            () if is_text(wanted) => Ok(Wire::AsText),
            () => Err(format!("is {} on the server, which is not read as {wanted}", self.name)),
        }
    }

    /// How values are written that are of the type `given`, and whether the server is to cast them from text.
    ///
    /// # Errors
    /// They cannot be written so.
    pub fn written_as(&self, given: &DataType) -> Result<Wire, String> {
        let wire = self.wire(Choices::default());
        match () {
            () if wire.fits(given) => Ok(wire),
            () if is_text(given) => Ok(Wire::AsText),
            () => Err(format!("is {} on the server, which does not take {given}", self.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numerics_have_the_precision_of_their_modifier() {
        let modifier = |precision: i32, scale: i32| ((precision << 16) | (scale & 0x7ff)) + 4;
        for (precision, scale, expected) in [
            (10, 2, DataType::Decimal128(10, 2)),
            (38, 38, DataType::Decimal128(38, 38)),
            (50, 5, DataType::Decimal256(50, 5)),
            (3, 5, DataType::Decimal128(5, 5)),
            (2, -3, DataType::Decimal128(5, 0)),
            (1000, 0, NUMERIC),
        ] {
            assert_eq!(decimal(modifier(precision, scale)), expected, "numeric({precision}, {scale})");
        }
        assert_eq!(decimal(-1), NUMERIC);
    }

    #[test]
    fn wires_have_names() {
        for (name, wire) in NAMES {
            assert_eq!(Wire::parse(name), Some(wire.clone()));
            assert_eq!(Wire::parse(&format!("[{wire}")), Some(Wire::Array(Box::new(wire))));
        }
    }
}

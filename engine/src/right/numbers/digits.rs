//! Numbers of digits of number types.

use arrow::array::AsArray;
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Decimal32Type, Decimal64Type, Decimal128Type,
    Decimal256Type,
};
use datafusion::common::{Result, ScalarValue, internal_err};

/// Digits of a decimal, or of an integer as a decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digits {
    pub precision: u8,
    pub scale: i8,
    /// Whether the value is stored in 256 bits.
    pub wide: bool,
}

impl Digits {
    /// `None` for types other than decimals and integers.
    pub fn of(of: &DataType) -> Option<Self> {
        let (precision, scale) = match of {
            DataType::Decimal32(p, s) | DataType::Decimal64(p, s) | DataType::Decimal128(p, s) => (*p, *s),
            DataType::Decimal256(p, s) => return Some(Self { precision: *p, scale: *s, wide: true }),
            DataType::Int8 | DataType::UInt8 => (3, 0),
            DataType::Int16 | DataType::UInt16 => (5, 0),
            DataType::Int32 | DataType::UInt32 => (10, 0),
            DataType::Int64 => (19, 0),
            DataType::UInt64 => (20, 0),
            _ => return None,
        };
        Some(Self { precision, scale, wide: false })
    }

    /// Digits before the point.
    pub fn whole(self) -> i16 {
        i16::from(self.precision) - i16::from(self.scale)
    }

    pub fn without_negative_scale(self) -> Self {
        match u8::try_from(-i16::from(self.scale)) {
            Ok(zeros) if zeros > 0 => {
                let precision = self.precision.saturating_add(zeros);
                Self {
                    precision: precision.min(DECIMAL256_MAX_PRECISION),
                    scale: 0,
                    wide: self.wide || precision > DECIMAL128_MAX_PRECISION,
                }
            }
            _ => self,
        }
    }

    /// The type in 128 bits, or in 256 if `wide`.
    pub fn data_type(self, wide: bool) -> DataType {
        match wide {
            true => DataType::Decimal256(self.precision, self.scale),
            false => DataType::Decimal128(self.precision.min(DECIMAL128_MAX_PRECISION), self.scale),
        }
    }
}

pub(super) fn is_float(of: &DataType) -> bool {
    of.is_floating()
}

pub(super) fn is_plain_integer(of: &DataType) -> bool {
    of.is_integer()
}

/// The type in which numbers of these types are compared and put into one column, if DataFusion would choose one that does not hold all of their values:
/// double precision if there are floats and decimals, or REALs and whole numbers; a 256-bit decimal if 38 digits are too few.
pub(super) fn meet(types: &[DataType]) -> Option<DataType> {
    let element = |of: &DataType| match of {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            field.data_type().clone()
        }
        of => of.clone(),
    };
    let mut whole = 0;
    let mut scale = 0;
    let (mut decimals, mut floats, mut plain) = (false, false, true);
    let (mut wholes, mut doubles) = (false, false);
    for of in types.iter().filter(|of| **of != DataType::Null) {
        let of = element(of);
        decimals |= of.is_decimal();
        floats |= is_float(&of);
        doubles |= of == DataType::Float64;
        wholes |= is_plain_integer(&of);
        match Digits::of(&of) {
            Some(digits) => {
                whole = whole.max(digits.whole());
                scale = scale.max(i16::from(digits.scale));
            }
            None if is_float(&of) => {}
            None => plain = false,
        }
    }
    // Lists and texts are handled elsewhere.
    if !plain {
        return None;
    }
    if !decimals {
        return (floats && wholes && !doubles).then_some(DataType::Float64);
    }
    if floats {
        return Some(DataType::Float64);
    }
    if whole + scale <= i16::from(DECIMAL128_MAX_PRECISION) {
        return None;
    }
    if types.iter().any(|of| element(of) != *of) {
        return None;
    }
    // If all types have 256 bits already, DataFusion chooses well.
    match (u8::try_from(whole + scale), i8::try_from(scale)) {
        (Ok(precision), Ok(scale)) if precision <= DECIMAL256_MAX_PRECISION => {
            let meets = DataType::Decimal256(precision, scale);
            (!types.iter().all(|of| *of == meets)).then_some(meets)
        }
        _ => Some(DataType::Float64),
    }
}

/// Like [`meet`], for numbers of one column, such as those of VALUES, CASE and UNION: decimals beside REAL become REAL.
pub(super) fn meet_in_column(types: &[DataType]) -> Option<DataType> {
    let meets = meet(types)?;
    let floats = || types.iter().filter(|of| is_float(of));
    let is_real = floats().next().is_some() && floats().all(|of| *of == DataType::Float32);
    Some(if meets == DataType::Float64 && is_real { DataType::Float32 } else { meets })
}

/// A decimal as it is written.
pub(super) fn text(value: &ScalarValue) -> Result<String> {
    let array = value.to_array()?;
    Ok(match array.data_type() {
        DataType::Decimal32(..) => array.as_primitive::<Decimal32Type>().value_as_string(0),
        DataType::Decimal64(..) => array.as_primitive::<Decimal64Type>().value_as_string(0),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value_as_string(0),
        DataType::Decimal256(..) => array.as_primitive::<Decimal256Type>().value_as_string(0),
        other => return internal_err!("{other} is not a decimal"),
    })
}

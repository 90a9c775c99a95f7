//! Numbers of DynamoDB: decimals of up to 38 digits, from 1E-130 to 9.9E+125, which travel as text.
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html#HowItWorks.DataTypes.Number>

use datafusion::arrow::datatypes::i256;

/// Digits that a number has at most.
pub(super) const MOST_DIGITS: usize = 38;

/// A number, `digits` times ten to the power of `exponent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Number {
    is_negative: bool,
    /// Without a zero at either end; 0 is the empty text.
    digits: String,
    exponent: i32,
}

impl Number {
    pub fn parse(text: &str) -> Option<Self> {
        let (is_negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits = [whole, fraction].concat();
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let mut exponent = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        let kept = digits.trim_end_matches('0').len();
        exponent = exponent.checked_add(i32::try_from(digits.len() - kept).ok()?)?;
        digits.truncate(kept);
        let digits = digits.trim_start_matches('0').to_string();
        if digits.is_empty() {
            return Some(Self { is_negative: false, digits, exponent: 0 });
        }
        Some(Self { is_negative, digits, exponent })
    }

    /// Whether DynamoDB has a number for it.
    pub fn fits(&self) -> bool {
        let magnitude = i64::from(self.exponent) + self.digits.len() as i64 - 1;
        self.digits.is_empty() || (self.digits.len() <= MOST_DIGITS && (-130..=125).contains(&magnitude))
    }

    /// Digits behind the point.
    pub fn scale(&self) -> u32 {
        u32::try_from(-i64::from(self.exponent)).unwrap_or(0)
    }

    /// Digits before the point.
    pub fn whole_digits(&self) -> u32 {
        u32::try_from(i64::from(self.exponent) + self.digits.len() as i64).unwrap_or(0)
    }

    /// Bytes that DynamoDB counts for it, about.
    pub fn bytes(&self) -> usize {
        self.digits.len().div_ceil(2) + 1 + usize::from(self.is_negative)
    }

    pub fn integer(&self) -> Option<i128> {
        self.scaled(0)
    }

    /// The number times ten to the power of `scale`, if that is whole and has so many digits.
    pub fn scaled(&self, scale: i8) -> Option<i128> {
        let zeros = u32::try_from(self.exponent.checked_add(scale.into())?).ok()?;
        if self.digits.is_empty() {
            return Some(0);
        }
        let digits = self.digits.parse::<i128>().ok()?;
        let scaled = digits.checked_mul(10_i128.checked_pow(zeros)?)?;
        Some(if self.is_negative { -scaled } else { scaled })
    }

    /// As [`Number::scaled`], in 256 bits.
    pub fn scaled_wide(&self, scale: i8) -> Option<i256> {
        let zeros = u32::try_from(self.exponent.checked_add(scale.into())?).ok()?;
        if self.digits.is_empty() {
            return Some(i256::ZERO);
        }
        let digits = i256::from_i128(self.digits.parse::<i128>().ok()?);
        let scaled = digits.checked_mul(i256::from_i128(10).checked_pow(zeros)?)?;
        Some(if self.is_negative { scaled.checked_neg()? } else { scaled })
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let sign = |number: &Self| match (number.digits.is_empty(), number.is_negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        let magnitude = |number: &Self| i64::from(number.exponent) + number.digits.len() as i64;
        // Digits after an equal magnitude compare like text: a shorter one that begins the longer one is less.
        let absolute = || magnitude(self).cmp(&magnitude(other)).then_with(|| self.digits.cmp(&other.digits));
        sign(self).cmp(&sign(other)).then_with(|| match sign(self) {
            0 => std::cmp::Ordering::Equal,
            1 => absolute(),
            _ => absolute().reverse(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        Number::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn numbers_are_exact() {
        for (text, scale, expected) in [
            ("0", 0, Some(0)),
            ("-0.00", 3, Some(0)),
            ("-12.50", 1, Some(-125)),
            ("-12.50", 0, None),
            ("1.5E3", 0, Some(1500)),
            ("15e-1", 1, Some(15)),
            ("0.00012", 5, Some(12)),
            ("99999999999999999999999999999999999999", 0, Some(10_i128.pow(38) - 1)),
            ("1E125", 0, None),
        ] {
            assert_eq!(number(text).scaled(scale), expected, "{text}");
        }
        assert_eq!(number("1E70").scaled_wide(2), i256::from_i128(10).checked_pow(72));
        assert_eq!((number("120.50").scale(), number("120.50").whole_digits()), (1, 3));
        assert_eq!((number("1E-130").scale(), number("1E-130").whole_digits()), (130, 0));
        assert_eq!(number("1.50"), number("15e-1"));
        for text in ["", "-", "1.2.3", "NaN", "1e", "0x1", "٣"] {
            assert!(Number::parse(text).is_none(), "{text}");
        }
        assert!(number("9.9E125").fits() && !number("1E126").fits() && !number("1E-131").fits());
        assert!(!number("123456789012345678901234567890123456789").fits());
    }

    #[test]
    fn numbers_are_ordered_by_value() {
        let ordered =
            ["-1E20", "-12", "-1.25", "-1.2", "-0.001", "0", "0.001", "1", "1.2", "1.25", "9", "10", "12", "1E20"];
        for (at, one) in ordered.iter().enumerate() {
            for (other_at, other) in ordered.iter().enumerate() {
                assert_eq!(number(one).cmp(&number(other)), at.cmp(&other_at), "{one} {other}");
            }
        }
    }
}

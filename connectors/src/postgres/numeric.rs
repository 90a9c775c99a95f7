//! NUMERIC as it travels: digits to the base of 10,000, the place of the first one, a sign, and how many decimal places are shown.

use arrow::datatypes::i256;
use datafusion::arrow;

const BASE: i32 = 10_000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xc000;
const INFINITE: u16 = 0xd000;
const MINUS_INFINITE: u16 = 0xf000;

/// A number as it was received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numeric<'a> {
    /// Power of the base that the first digit counts.
    weight: i32,
    sign: u16,
    /// Decimal places.
    scale: u16,
    /// Two bytes each.
    digits: &'a [u8],
}

impl<'a> Numeric<'a> {
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (head, digits) = bytes.split_first_chunk::<8>()?;
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let of = Self { weight: i32::from(word(2) as i16), sign: word(4), scale: word(6), digits };
        (digits.len() == 2 * usize::from(word(0))).then_some(of)
    }

    pub fn is_finite(&self) -> bool {
        matches!(self.sign, 0 | NEGATIVE)
    }

    fn digits(&self) -> impl Iterator<Item = u16> {
        self.digits.chunks_exact(2).map(|digit| u16::from_be_bytes([digit[0], digit[1]]))
    }

    /// As SQL shows it.
    pub fn text(&self) -> String {
        match self.sign {
            NAN => return "NaN".to_string(),
            INFINITE => return "Infinity".to_string(),
            MINUS_INFINITE => return "-Infinity".to_string(),
            _ => {}
        }
        let digit = |power: i32| match usize::try_from(self.weight - power) {
            Ok(at) => self.digits().nth(at).unwrap_or(0),
            Err(_) => 0,
        };
        let mut text = if self.sign == NEGATIVE { "-".to_string() } else { String::new() };
        let whole: String = (0..=self.weight.max(0)).rev().map(|power| format!("{:04}", digit(power))).collect();
        match whole.trim_start_matches('0') {
            "" => text.push('0'),
            whole => text.push_str(whole),
        }
        if self.scale > 0 {
            let places = i32::from(self.scale.div_ceil(4));
            let fraction: String = (1..=places).map(|place| format!("{:04}", digit(-place))).collect();
            text.push('.');
            text.push_str(&fraction[..self.scale.into()]);
        }
        text
    }
}

macro_rules! scaled {
    ($name:ident, $number:ty, $from:expr, $ten:expr) => {
        /// The number times ten to the power of `scale`. `None`: it is no whole number then, is no number, or is too large.
        pub(super) fn $name(numeric: &Numeric<'_>, scale: i8) -> Option<$number> {
            if !numeric.is_finite() {
                return None;
            }
            let from = $from;
            let power = |exponent: i32| -> Option<$number> {
                let ten: $number = $ten;
                ten.checked_pow(u32::try_from(exponent).ok()?)
            };
            let mut number: $number = from(0);
            // Decimal places of `number` to the left of where the point is to be.
            let mut left = 0;
            for (at, digit) in numeric.digits().enumerate() {
                let digit = i32::from(digit);
                left = 4 * (numeric.weight - at as i32) + i32::from(scale);
                if left >= 0 {
                    number = number.checked_mul(from(BASE))?.checked_add(from(digit))?;
                    continue;
                }
                let (kept, unit) = match left {
                    -3..0 => (4 + left, 10_i32.pow(left.unsigned_abs())),
                    _ => (0, BASE),
                };
                if digit % unit != 0 {
                    return None;
                }
                number = number.checked_mul(power(kept)?)?.checked_add(from(digit / unit))?;
                left = 0;
            }
            if left > 0 {
                number = if number == from(0) { number } else { number.checked_mul(power(left)?)? };
            }
            Some(if numeric.sign == NEGATIVE { number.checked_neg()? } else { number })
        }
    };
}

scaled!(scaled_128, i128, |digit: i32| i128::from(digit), 10);
scaled!(scaled_256, i256, |digit: i32| i256::from_i128(i128::from(digit)), i256::from_i128(10));

/// A number as it is sent: of `digits`, a whole number in decimal without a sign, of which `scale` are behind the point.
pub(super) fn sent(is_negative: bool, digits: &str, scale: i8, into: &mut Vec<u8>) {
    let scale = usize::from(scale.max(0).unsigned_abs());
    let (whole, fraction) = match digits.len().checked_sub(scale) {
        Some(at) => (digits[..at].to_string(), digits[at..].to_string()),
        None => (String::new(), format!("{digits:0>scale$}")),
    };
    let whole = format!("{}{whole}", "0".repeat((4 - whole.len() % 4) % 4));
    let padded = format!("{fraction}{}", "0".repeat((4 - fraction.len() % 4) % 4));
    let all = format!("{whole}{padded}");
    let mut groups: Vec<u16> = all
        .as_bytes()
        .chunks(4)
        .map(|group| group.iter().fold(0, |sum, digit| 10 * sum + u16::from(digit - b'0')))
        .collect();
    let mut weight = (whole.len() / 4) as i16 - 1;
    let leading = groups.iter().take_while(|group| **group == 0).count();
    groups.drain(..leading);
    weight -= leading as i16;
    while groups.last() == Some(&0) {
        groups.pop();
    }
    if groups.is_empty() {
        weight = 0;
    }
    into.extend_from_slice(&(groups.len() as u16).to_be_bytes());
    into.extend_from_slice(&weight.to_be_bytes());
    let sign = if is_negative && !groups.is_empty() { NEGATIVE } else { 0 };
    into.extend_from_slice(&sign.to_be_bytes());
    into.extend_from_slice(&(scale as u16).to_be_bytes());
    groups.iter().for_each(|group| into.extend_from_slice(&group.to_be_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(weight: i16, sign: u16, scale: u16, digits: &[u16]) -> Vec<u8> {
        let words = [&[digits.len() as u16, weight as u16, sign, scale], digits].concat();
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn numbers_are_read_exactly_or_not_at_all() {
        for (weight, sign, scale, digits, as_text, at_three) in [
            (0, 0, 0, &[][..], "0", Some(0)),
            (0, 0, 2, &[12, 3400][..], "12.34", Some(12_340)),
            (1, NEGATIVE, 0, &[1], "-10000", Some(-10_000_000)),
            (-1, 0, 4, &[1], "0.0001", None),
            (-1, 0, 3, &[120], "0.012", Some(12)),
            (-2, 0, 8, &[1], "0.00000001", None),
            (2, 0, 1, &[123, 4567, 8901, 5000], "12345678901.5", Some(12_345_678_901_500)),
            (0, NAN, 0, &[], "NaN", None),
            (0, MINUS_INFINITE, 0, &[], "-Infinity", None),
        ] {
            let bytes = bytes(weight, sign, scale, digits);
            let numeric = Numeric::read(&bytes).unwrap();
            assert_eq!(numeric.text(), as_text);
            assert_eq!(scaled_128(&numeric, 3), at_three, "{as_text}");
            assert_eq!(scaled_256(&numeric, 3), at_three.map(i256::from_i128), "{as_text}");
        }
        let large = bytes(30, 0, 0, &[1]);
        assert_eq!(scaled_128(&Numeric::read(&large).unwrap(), 0), None);
    }

    #[test]
    fn what_is_sent_is_read_again() {
        for number in [0_i128, 1, -1, 9999, 10_000, -123_456_789, 10_i128.pow(37), -(10_i128.pow(38) - 1), 50_000] {
            for scale in [0, 1, 3, 4, 10, 38] {
                let mut bytes = Vec::new();
                sent(number < 0, &number.unsigned_abs().to_string(), scale, &mut bytes);
                assert_eq!(scaled_128(&Numeric::read(&bytes).unwrap(), scale), Some(number), "{number} {scale}");
            }
        }
    }
}

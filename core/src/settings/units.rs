//! Values with units: sizes such as "1GiB", durations such as "2s", and "auto".

use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes.
///
/// Written as a number with an optional unit: `B`, `KB` `MB` `GB` `TB` (powers of 1000), `KiB` `MiB` `GiB` `TiB` or `K` `M` `G` `T` (powers of 1024). Case does
/// not matter, and a fraction is allowed: `1.5GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A span of time, written with units: `250ms`, `2s`, `5m`, `1h30m`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A value, or `"auto"`: derived from the machine at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auto<T> {
    Auto,
    Value(T),
}

const BINARY_UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl ByteSize {
    pub const fn mib(n: u64) -> ByteSize {
        ByteSize(n << 20)
    }

    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Formats for people: three significant digits, `1.21 GiB`.
    pub fn human(bytes: u64) -> String {
        for (unit, factor) in BINARY_UNITS {
            if factor > 1 && bytes >= factor {
                let value = bytes as f64 / factor as f64;
                let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
                return format!("{value:.decimals$} {unit}");
            }
        }
        format!("{bytes} B")
    }
}

impl FromStr for ByteSize {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("\"{text}\" is not a size: write a number and a unit, such as \"512MiB\" or \"1.5GiB\"");
        let text_trimmed = text.trim();
        let split = text_trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text_trimmed.len());
        let (number, unit) = text_trimmed.split_at(split);
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            _ => return Err(wrong()),
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(factor).map(ByteSize).ok_or_else(wrong);
        }
        let value: f64 = number.parse().map_err(|_| wrong())?;
        let bytes = value * factor as f64;
        if !bytes.is_finite() || bytes < 0.0 || bytes >= u64::MAX as f64 {
            return Err(wrong());
        }
        Ok(ByteSize(bytes.round() as u64))
    }
}

/// Uses the largest unit that loses nothing, so that the printed value reads back equal.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = BINARY_UNITS
            .into_iter()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor))
            .unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl Span {
    pub const fn secs(n: u64) -> Span {
        Span(Duration::from_secs(n))
    }

    pub const fn millis(n: u64) -> Span {
        Span(Duration::from_millis(n))
    }

    pub const fn duration(self) -> Duration {
        self.0
    }

    /// Formats for people: `3.2 ms`, `1.45 s`, `2m 03s`.
    pub fn human(duration: Duration) -> String {
        let seconds = duration.as_secs_f64();
        if seconds < 0.001 {
            format!("{} µs", duration.as_micros())
        } else if seconds < 0.1 {
            format!("{:.1} ms", seconds * 1e3)
        } else if seconds < 1.0 {
            format!("{:.0} ms", seconds * 1e3)
        } else if seconds < 60.0 {
            format!("{seconds:.2} s")
        } else if seconds < 3600.0 {
            format!("{}m {:02}s", duration.as_secs() / 60, duration.as_secs() % 60)
        } else {
            format!("{}h {:02}m", duration.as_secs() / 3600, duration.as_secs() % 3600 / 60)
        }
    }
}

const TIME_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            format!("\"{text}\" is not a duration: write numbers with units, such as \"500ms\", \"2s\" or \"1h30m\"")
        };
        let mut rest = text.trim();
        let mut millis: u64 = 0;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            let unit = &rest[..letters];
            let (_, factor) = TIME_UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
            millis = number.checked_mul(factor).and_then(|part| millis.checked_add(part)).ok_or_else(wrong)?;
            rest = rest[letters..].trim_start();
        }
        Ok(Span(Duration::from_millis(millis)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = self.0.as_millis() as u64;
        if millis == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in TIME_UNITS {
            if millis >= factor {
                write!(f, "{}{unit}", millis / factor)?;
                millis %= factor;
            }
        }
        Ok(())
    }
}

impl<T> Auto<T> {
    pub fn unwrap_or_else(self, otherwise: impl FnOnce() -> T) -> T {
        match self {
            Auto::Auto => otherwise(),
            Auto::Value(value) => value,
        }
    }
}

impl<T: FromStr<Err = String>> FromStr for Auto<T> {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Auto::Auto),
            _ => text.parse().map(Auto::Value).map_err(|e: String| format!("{e}, or \"auto\"")),
        }
    }
}

impl<T: fmt::Display> fmt::Display for Auto<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Auto::Auto => f.write_str("auto"),
            Auto::Value(value) => value.fmt(f),
        }
    }
}

/// A count that is at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u32);

impl FromStr for Count {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<u32>() {
            Ok(n) if n > 0 => Ok(Count(n)),
            _ => Err(format!("\"{text}\" is not a count: write a whole number of at least 1")),
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads a value from a TOML string, or from a bare number written where a string would do.
struct TextOrNumber;

impl de::Visitor<'_> for TextOrNumber {
    type Value = String;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a whole number")
    }
    fn visit_str<E: de::Error>(self, v: &str) -> Result<String, E> {
        Ok(v.to_owned())
    }
    fn visit_i64<E: de::Error>(self, v: i64) -> Result<String, E> {
        Ok(v.to_string())
    }
    fn visit_u64<E: de::Error>(self, v: u64) -> Result<String, E> {
        Ok(v.to_string())
    }
}

macro_rules! text_serde {
    ($($type:ty),+) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(TextOrNumber)?.parse().map_err(de::Error::custom)
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )+};
}

text_serde!(ByteSize, Span, Auto<ByteSize>, Auto<Count>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrNumber)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_with_units_of_both_kinds() {
        let cases = [
            ("0", 0),
            ("17", 17),
            ("1KiB", 1024),
            ("1kb", 1000),
            ("64 MiB", 64 << 20),
            ("2g", 2 << 30),
            ("1.5GiB", 3 << 29),
            ("1TB", 1_000_000_000_000),
        ];
        for (text, bytes) in cases {
            assert_eq!(text.parse::<ByteSize>(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "MiB", "-1", "1.2.3", "1XB", "99999999TiB", "one"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text} must be refused");
        }
    }

    #[test]
    fn what_is_printed_reads_back_equal() {
        for bytes in [0, 1, 1023, 1024, 1025, 64 << 20, 3 << 29, u64::MAX] {
            assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
        }
        for millis in [0, 1, 999, 1000, 1500, 60_000, 5_400_000, 86_400_000, 90_061_001] {
            assert_eq!(Span::millis(millis).to_string().parse(), Ok(Span::millis(millis)));
        }
    }

    #[test]
    fn durations_read_with_units_only() {
        assert_eq!("1h30m".parse(), Ok(Span::secs(5400)));
        assert_eq!("250ms".parse(), Ok(Span::millis(250)));
        assert_eq!("1m 30s".parse(), Ok(Span::secs(90)));
        for text in ["", "5", "s", "1 week", "5x", "-2s"] {
            assert!(text.parse::<Span>().is_err(), "{text} must be refused");
        }
    }

    #[test]
    fn human_sizes_keep_three_digits() {
        assert_eq!(ByteSize::human(999), "999 B");
        assert_eq!(ByteSize::human(1536), "1.50 KiB");
        assert_eq!(ByteSize::human(12 << 20), "12.0 MiB");
        assert_eq!(ByteSize::human(250 << 30), "250 GiB");
        assert_eq!(Span::human(Duration::from_micros(12_340)), "12.3 ms");
        assert_eq!(Span::human(Duration::from_secs(123)), "2m 03s");
    }
}

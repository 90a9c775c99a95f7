//! Reads intervals from text as PostgreSQL does (`DecodeInterval` and `DecodeISO8601Interval` in its datetime.c).
//!
//! ```text
//!   1 year 2 mons 3 days 04:05:06     3 4:05:06     1-2     1d2h     1.5 days ago     P1Y2M3DT4H5M6S
//! ```
//!
//! A fraction of a year becomes months, a fraction of a month becomes days at 30 days a month, a fraction of a day becomes hours. Intervals hold nanoseconds
//! here, so digits of a second past the sixth are kept.

use arrow::datatypes::IntervalMonthDayNano;
use datafusion::common::{Result, exec_datafusion_err};

/// # Errors
/// The part of the text that does not belong to an interval, or that leaves its range.
pub(super) fn interval(text: &str) -> Result<IntervalMonthDayNano> {
    let read = if text.trim_start().starts_with(['P', 'p']) { iso(text.trim()) } else { words(text) };
    read.map_err(|why| exec_datafusion_err!("'{text}' is no interval: {why}"))
}

type Read<T> = std::result::Result<T, String>;

const SECOND: i128 = 1_000_000_000;
const DAY: i128 = 86_400 * SECOND;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Unit {
    /// Months per unit.
    Months(i128),
    Month,
    /// Days per unit.
    Days(i128),
    /// Nanoseconds per unit.
    Nanos(i128),
}

/// Unit of a word and the bit of that unit. No unit may come twice.
fn unit(word: &str) -> Option<(Unit, u32)> {
    let lower = word.to_ascii_lowercase();
    Some(match lower.as_str() {
        "mil" | "mils" | "millennium" | "millennia" => (Unit::Months(12_000), 0),
        "c" | "cent" | "century" | "centuries" => (Unit::Months(1_200), 1),
        "dec" | "decs" | "decade" | "decades" => (Unit::Months(120), 2),
        "y" | "yr" | "yrs" | "year" | "years" => (Unit::Months(12), 3),
        "mon" | "mons" | "month" | "months" => (Unit::Month, MONTH),
        "w" | "week" | "weeks" => (Unit::Days(7), 5),
        "d" | "day" | "days" => (Unit::Days(1), DAY_BIT),
        "h" | "hr" | "hrs" | "hour" | "hours" => (Unit::Nanos(3_600 * SECOND), HOUR),
        "m" | "min" | "mins" | "minute" | "minutes" => (Unit::Nanos(60 * SECOND), MINUTE),
        "s" | "sec" | "secs" | "second" | "seconds" => (Unit::Nanos(SECOND), SECONDS),
        "ms" | "msec" | "msecs" | "msecond" | "mseconds" | "millisecond" | "milliseconds" => {
            (Unit::Nanos(1_000_000), 10)
        }
        "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecond" | "microseconds" => (Unit::Nanos(1_000), 11),
        "ns" | "nanosecond" | "nanoseconds" => (Unit::Nanos(1), 12),
        _ => return None,
    })
}

const MONTH: u32 = 4;
const DAY_BIT: u32 = 6;
const HOUR: u32 = 7;
const MINUTE: u32 = 8;
const SECONDS: u32 = 9;

/// A decimal number: value and fraction.
#[derive(Clone, Copy)]
struct Number {
    value: i128,
    /// One unit in the last place.
    one: i128,
}

impl Number {
    fn read(text: &str, negative: bool) -> Read<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let are_digits = whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
        if !are_digits || whole.len() + fraction.len() == 0 || whole.len() > 19 {
            return Err(format!("'{text}' is no number in it"));
        }
        // Digits past the 15th are below a nanosecond.
        let fraction = &fraction[..fraction.len().min(15)];
        let value = format!("{whole}{fraction}").parse::<i128>().map_err(|_| format!("'{text}' is out of range"))?;
        Ok(Self { value: if negative { -value } else { value }, one: 10_i128.pow(fraction.len() as u32) })
    }

    /// Multiplies by `each`: the whole part, and the remaining fraction.
    fn times(self, each: i128) -> (i128, Self) {
        let (whole, rest) = (self.value / self.one, self.value % self.one * each);
        (whole * each + rest / self.one, Self { value: rest % self.one, ..self })
    }

    /// Multiplies by `each`, rounded to the nearest integer, half to even.
    fn nearest(self, each: i128) -> i128 {
        let (whole, rest) = self.times(each);
        let twice = rest.value.abs() * 2;
        let up = twice > self.one || twice == self.one && whole % 2 != 0;
        whole + if up { rest.value.signum() } else { 0 }
    }
}

#[derive(Default)]
struct Sum {
    months: i128,
    days: i128,
    nanos: i128,
    /// Bits of the units that have come.
    seen: u32,
}

impl Sum {
    fn add(&mut self, number: Number, unit: Unit) {
        let day = |sum: &mut Self, of_days: (i128, Number)| {
            sum.days += of_days.0;
            sum.nanos += of_days.1.nearest(DAY);
        };
        match unit {
            Unit::Months(each) => self.months += number.nearest(each),
            Unit::Month => {
                let (months, rest) = number.times(1);
                self.months += months;
                day(self, rest.times(30));
            }
            Unit::Days(each) => day(self, number.times(each)),
            Unit::Nanos(each) => self.nanos += number.nearest(each),
        }
    }

    fn once(&mut self, bits: u32, word: &str) -> Read<()> {
        match self.seen & bits {
            0 => {
                self.seen |= bits;
                Ok(())
            }
            _ => Err(format!("'{word}' names a part that it has already")),
        }
    }

    fn done(self, negated: bool) -> Read<IntervalMonthDayNano> {
        if self.seen == 0 {
            return Err("it has no number with a unit, as '1 day' or '04:05:06'".to_string());
        }
        let sign = if negated { -1 } else { 1 };
        let out_of_range = |_| "it is out of range".to_string();
        Ok(IntervalMonthDayNano::new(
            i32::try_from(sign * self.months).map_err(out_of_range)?,
            i32::try_from(sign * self.days).map_err(out_of_range)?,
            i64::try_from(sign * self.nanos).map_err(out_of_range)?,
        ))
    }
}

enum Token<'a> {
    /// `1`, `-1.5`: the number without its sign, and whether the sign is a minus.
    Number(&'a str, bool),
    /// `4:05:06`.
    Clock(&'a str, bool),
    /// `1-2`: years and months.
    Years(&'a str, bool),
    Word(&'a str),
}

fn tokens(text: &str) -> Read<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    // A comma separates, as a blank does.
    let is_blank = |letter: char| letter.is_whitespace() || letter == ',';
    let mut rest = text.trim_start_matches(is_blank);
    while let Some(first) = rest.chars().next() {
        let length;
        if first == '@' {
            length = 1;
        } else if first.is_ascii_alphabetic() {
            length = rest.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(rest.len());
            tokens.push(Token::Word(&rest[..length]));
        } else if first.is_ascii_digit() || matches!(first, '+' | '-' | '.') {
            let unsigned = rest.trim_start_matches(['+', '-']).trim_start();
            if rest.len() - rest.trim_start_matches(['+', '-']).len() > 1 {
                return Err(format!("'{rest}' begins with two signs"));
            }
            let end = unsigned.find(|letter: char| !(letter.is_ascii_digit() || matches!(letter, '.' | ':' | '-')));
            let token = &unsigned[..end.unwrap_or(unsigned.len())];
            let negative = first == '-';
            length = rest.len() - unsigned.len() + token.len();
            tokens.push(match () {
                () if token.contains(':') => Token::Clock(token, negative),
                () if token.contains('-') => Token::Years(token, negative),
                () => Token::Number(token, negative),
            });
        } else {
            return Err(format!("'{rest}' is no part of one"));
        }
        rest = rest[length..].trim_start_matches(is_blank);
    }
    Ok(tokens)
}

fn words(text: &str) -> Read<IntervalMonthDayNano> {
    let mut tokens = tokens(text)?;
    let negated = matches!(tokens.last(), Some(Token::Word(word)) if word.eq_ignore_ascii_case("ago"));
    if negated {
        tokens.pop();
    }
    let mut sum = Sum::default();
    let are_hours = |next: Option<&Token<'_>>, word: Option<&Token<'_>>| match (next, word) {
        (Some(Token::Clock(..)), _) => true,
        (Some(Token::Number(..)), Some(Token::Word(word))) => unit(word).is_some_and(|(_, bit)| bit == HOUR),
        _ => false,
    };
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            Token::Word(word) => return Err(format!("'{word}' comes without a number")),
            Token::Clock(clock, negative) => {
                sum.once(1 << HOUR | 1 << MINUTE | 1 << SECONDS, clock)?;
                sum.nanos += of_clock(clock)? * if *negative { -1 } else { 1 };
            }
            Token::Years(years, negative) => {
                sum.once(1 << MONTH, years)?;
                let (years, months) = years.split_once('-').unwrap_or((years, ""));
                let months = if months.is_empty() { "0" } else { months };
                let (years, months) = (Number::read(years, *negative)?, Number::read(months, *negative)?);
                if years.one > 1 || months.one > 1 || months.value.abs() > 11 {
                    return Err("years and months are written 1-2, with up to 11 months".to_string());
                }
                sum.months += years.value * 12 + months.value;
            }
            Token::Number(number, negative) => {
                let read = Number::read(number, *negative)?;
                let (unit, bit) = match tokens.get(at) {
                    Some(Token::Word(word)) => {
                        at += 1;
                        unit(word).ok_or_else(|| format!("'{word}' is no unit"))?
                    }
                    // Days come before hours; seconds come at the end.
                    next if are_hours(next, tokens.get(at + 1)) => (Unit::Days(1), DAY_BIT),
                    None => (Unit::Nanos(SECOND), SECONDS),
                    Some(_) => return Err(format!("{number} has no unit")),
                };
                sum.once(1 << bit, number)?;
                sum.add(read, unit);
            }
        }
    }
    sum.done(negated)
}

/// Nanoseconds in `4:05`, `4:05:06.5`, and in `4:05.5`, which has minutes and seconds.
fn of_clock(clock: &str) -> Read<i128> {
    let out_of_range = || format!("'{clock}' is no time");
    let parts: Vec<&str> = clock.split(':').collect();
    let (hours, minutes, seconds) = match parts.as_slice() {
        [minutes, seconds] if seconds.contains('.') => ("0", *minutes, *seconds),
        [hours, minutes] => (*hours, *minutes, "0"),
        [hours, minutes, seconds] => (*hours, *minutes, *seconds),
        _ => return Err(out_of_range()),
    };
    let read = |text: &str| Number::read(text, false);
    let (hours, minutes, seconds) = (read(hours)?, read(minutes)?, read(seconds)?);
    let is_whole = hours.one == 1 && minutes.one == 1;
    if !is_whole || minutes.value > 59 || seconds.value > 60 * seconds.one {
        return Err(out_of_range());
    }
    Ok((hours.value * 60 + minutes.value) * 60 * SECOND + seconds.nearest(SECOND))
}

/// Reads the ISO form: `P1Y2M3DT4H5M6S`.
fn iso(text: &str) -> Read<IntervalMonthDayNano> {
    let mut sum = Sum::default();
    let (mut rest, mut in_time) = (&text[1..], false);
    while !rest.is_empty() {
        if let Some(time) = rest.strip_prefix(['T', 't']) {
            if in_time {
                return Err("it has two T".to_string());
            }
            (rest, in_time) = (time, true);
            continue;
        }
        let unsigned = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        let end = unsigned.find(|letter: char| !(letter.is_ascii_digit() || letter == '.')).unwrap_or(unsigned.len());
        let number = Number::read(&unsigned[..end], rest.starts_with('-'))?;
        let letter = unsigned[end..].chars().next().ok_or("its last number has no unit")?;
        let (unit, bit) = match (letter.to_ascii_uppercase(), in_time) {
            ('Y', false) => (Unit::Months(12), 3),
            ('M', false) => (Unit::Month, MONTH),
            ('W', false) => (Unit::Days(7), 5),
            ('D', false) => (Unit::Days(1), DAY_BIT),
            ('H', true) => (Unit::Nanos(3_600 * SECOND), HOUR),
            ('M', true) => (Unit::Nanos(60 * SECOND), MINUTE),
            ('S', true) => (Unit::Nanos(SECOND), SECONDS),
            _ => return Err(format!("'{letter}' is no unit there")),
        };
        sum.once(1 << bit, &unsigned[..end])?;
        sum.add(number, unit);
        rest = &unsigned[end + letter.len_utf8()..];
    }
    sum.done(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(i32, i32, i64)> {
        let read = interval(text).ok()?;
        // Milliseconds.
        Some((read.months, read.days, read.nanoseconds / 1_000_000))
    }

    fn at(hours: i64, minutes: i64, seconds: i64) -> i64 {
        ((hours * 60 + minutes) * 60 + seconds) * 1_000
    }

    /// The expected values are PostgreSQL 15's.
    #[test]
    fn intervals_are_read_as_postgres_reads_them() {
        for (text, expected) in [
            ("3 4:05:06", (0, 3, at(4, 5, 6))),
            ("1 month 2 days 03:04:05.6", (1, 2, at(3, 4, 5) + 600)),
            ("1-2", (14, 0, 0)),
            ("1-", (12, 0, 0)),
            ("-1-2 +3 -4:05:06", (-14, 3, -at(4, 5, 6))),
            ("1-2 3", (14, 0, 3_000)),
            ("1.5", (0, 0, 1_500)),
            ("1 day 2", (0, 1, 2_000)),
            ("100:00:00", (0, 0, at(100, 0, 0))),
            ("1 day -02:00", (0, 1, -at(2, 0, 0))),
            ("1 day 02:00 ago", (0, -1, -at(2, 0, 0))),
            ("@ 1 day", (0, 1, 0)),
            ("- 1 day", (0, -1, 0)),
            ("P1Y2M3DT4H5M6.5S", (14, 3, at(4, 5, 6) + 500)),
            ("P-1Y", (-12, 0, 0)),
            ("P1.5D", (0, 1, at(12, 0, 0))),
            ("1.25 months", (1, 7, at(12, 0, 0))),
            ("0.125 years", (2, 0, 0)),
            ("1.5 weeks", (0, 10, at(12, 0, 0))),
            ("1d 2h3m", (0, 1, at(2, 3, 0))),
            (".5 days", (0, 0, at(12, 0, 0))),
            ("5. days", (0, 5, 0)),
            ("1 millennium 2 decades", (12_240, 0, 0)),
            ("1 day, 2 hours", (0, 1, at(2, 0, 0))),
            ("4:05:60", (0, 0, at(4, 6, 0))),
            ("04:05.5", (0, 0, at(0, 4, 5) + 500)),
            ("1 year -2 months", (10, 0, 0)),
            ("1.5 years 1.5 months", (19, 15, 0)),
            ("-1.5 months", (-1, -15, 0)),
            ("1 second 5 ms", (0, 0, 1_005)),
            ("2 y 3 mon", (27, 0, 0)),
            ("1.5 2 h", (0, 1, at(14, 0, 0))),
            ("1-2 3 years", (50, 0, 0)),
        ] {
            assert_eq!(read(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_postgres_refuses_is_refused() {
        for text in [
            "1 2",
            "2 1 day",
            "1 day 2 days",
            "1 day 02:00 3 hours",
            "1 day 3 min 02:00",
            "1 fortnight",
            "day",
            "",
            "1e3 days",
            "1-13",
            "1-2 3 mon",
            "1 2 min",
            "4:60",
            "4:05:61",
            "1 quarter",
            "1.5-2",
            "1 2-3",
            "ago",
            "P",
            "P1H",
            "1 day 2 years and more",
            "99999999999 days",
            "9999999999999999999.999999999999999 hours",
            "99999999999999999999 hours",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}

//! Reads dates, times of day and timestamps from text as PostgreSQL does (`DecodeDateTime` in its datetime.c).
//!
//! ```text
//!   2024-02-01   2024-2-1   2024/02/01   20240201                 a date
//!   10:00   1:2:3   10:00:00.5   100000   1000                    a time after a blank or a T
//!   AM   PM   AD                                                  after the time, in upper or lower case
//!   Z   +02   +0230   +02:30:15   EST   Europe/Berlin             a zone after the time or the date, in upper or lower case
//! ```
//!
//! Arrow requires seconds, drops the seconds of an offset, and takes a number for a time in its unit. Years have four digits or more here.

use super::zone::{Zone, named};
use chrono::{NaiveDate, NaiveDateTime, TimeDelta};
use datafusion::common::{Result, exec_datafusion_err};

const NANOS_PER_DAY: i64 = 86_400_000_000_000;

/// A date and a time as written, and their zone.
pub(super) struct Written {
    /// Date and time as the text shows them.
    pub local: NaiveDateTime,
    zone: Option<Place>,
    has_time: bool,
}

/// A zone or an offset.
#[derive(Clone, Copy)]
enum Place {
    /// Seconds to subtract from the time for UTC.
    Offset(i64),
    Zone(Zone),
}

impl Written {
    /// The time in UTC; `zone` applies where the text names none.
    pub fn utc(&self, zone: &Zone) -> NaiveDateTime {
        let offset = match self.zone {
            Some(Place::Offset(offset)) => offset,
            Some(Place::Zone(zone)) => zone.offset_of(&self.local),
            None => zone.offset_of(&self.local),
        };
        self.local.checked_sub_signed(TimeDelta::seconds(offset)).unwrap_or(self.local)
    }

    /// Whether the text names a zone or an offset.
    pub fn has_zone(&self) -> bool {
        self.zone.is_some()
    }
}

/// Reads a date, optionally with a time and a zone.
///
/// # Errors
/// The part of the text that does not belong to a timestamp or is out of range.
pub(super) fn timestamp(text: &str) -> Result<Written> {
    datetime(text).map_err(|why| exec_datafusion_err!("'{text}' is no timestamp: {why}"))
}

/// Reads as [`timestamp`] does. `None`: the text is no timestamp.
pub(super) fn written(text: &str) -> Option<Written> {
    datetime(text).ok()
}

/// The local time of a text, or its instant in UTC if `zone` is given.
pub(super) fn in_zone(text: &str, zone: Option<&Zone>) -> Result<NaiveDateTime> {
    let written = timestamp(text)?;
    Ok(zone.map_or(written.local, |zone| written.utc(zone)))
}

/// Days since 1970-01-01. A time and a zone after the date are ignored.
///
/// # Errors
/// All errors of [`timestamp`].
pub(super) fn date(text: &str) -> Result<i32> {
    let day = datetime(text).map_err(|why| exec_datafusion_err!("'{text}' is no date: {why}"))?;
    let since = day.local.date().signed_duration_since(NaiveDate::default()).num_days();
    i32::try_from(since).map_err(|_| exec_datafusion_err!("'{text}' is a date out of range"))
}

/// Nanoseconds since midnight. A date before the time and a zone after it are ignored.
///
/// # Errors
/// All errors of [`timestamp`]; 24:00:00, which the time type cannot hold.
pub(super) fn clock(text: &str) -> Result<i64> {
    time_of_day(text).map_err(|why| exec_datafusion_err!("'{text}' is no time of a day: {why}"))
}

fn time_of_day(text: &str) -> std::result::Result<i64, String> {
    let trimmed = text.trim();
    let alone = time(trimmed).and_then(behind).and_then(|(nanos, zone)| match zone {
        Some(Place::Zone(_)) => Err("a zone whose clock changes needs a date".to_string()),
        _ => Ok(nanos),
    });
    let nanos = match alone {
        Ok(nanos) => nanos,
        Err(why) => match datetime(trimmed) {
            Ok(written) if written.has_time => {
                written.local.signed_duration_since(written.local.date().into()).num_nanoseconds().unwrap_or_default()
            }
            _ => return Err(why),
        },
    };
    match nanos < NANOS_PER_DAY {
        true => Ok(nanos),
        false => Err("24:00:00 is the end of a day, which TIME does not hold".to_string()),
    }
}

fn datetime(text: &str) -> std::result::Result<Written, String> {
    let trimmed = text.trim();
    let (day, rest) = day(trimmed)?;
    let after = rest.trim_start();
    let begins_time = |rest: &str| rest.as_bytes().first().is_some_and(u8::is_ascii_digit);
    let of_time = match after.strip_prefix(['T', 't']) {
        Some(time) if begins_time(time) => Some(time),
        _ if begins_time(after) && after.len() < rest.len() => Some(after),
        _ => None,
    };
    let (nanos, zone) = match of_time {
        Some(text) => behind(time(text)?)?,
        None if after.len() == rest.len() && !rest.is_empty() && !rest.starts_with(['Z', 'z', '+']) => {
            return Err(format!("'{rest}' follows the date"));
        }
        None => behind(Clock { nanos: 0, rest })?,
    };
    let midnight = NaiveDateTime::from(day);
    let local = midnight.checked_add_signed(TimeDelta::nanoseconds(nanos)).ok_or("it is out of range")?;
    Ok(Written { local, zone, has_time: of_time.is_some() })
}

/// The date at the start of `text`, and the rest.
fn day(text: &str) -> std::result::Result<(NaiveDate, &str), String> {
    let no_date = || "it begins with no date as 2024-12-31".to_string();
    let signed = text.starts_with(['+', '-']);
    let (year, rest) = digits(&text[usize::from(signed)..]);
    let out_of_range = || "there is no such day".to_string();
    let separator = rest.as_bytes().first().copied().filter(|byte| matches!(byte, b'-' | b'/' | b'.'));
    let Some(separator) = separator else {
        // A date without separators has eight digits.
        if signed || year.len() != 8 {
            return Err(no_date());
        }
        let part = |from: usize, to: usize| year[from..to].parse::<u32>().map_err(|_| no_date());
        let day = NaiveDate::from_ymd_opt(part(0, 4)? as i32, part(4, 6)?, part(6, 8)?);
        return Ok((day.ok_or_else(out_of_range)?, rest));
    };
    if year.len() < 4 || year.len() > 6 {
        return Err(no_date());
    }
    let (month, rest) = digits(&rest[1..]);
    let Some(rest) = rest.strip_prefix(char::from(separator)) else { return Err(no_date()) };
    let (day, rest) = digits(rest);
    if !(1..=2).contains(&month.len()) || !(1..=2).contains(&day.len()) {
        return Err(no_date());
    }
    let number = |digits: &str| digits.parse::<u32>().map_err(|_| no_date());
    let year = number(year)? as i32 * if text.starts_with('-') { -1 } else { 1 };
    let day = NaiveDate::from_ymd_opt(year, number(month)?, number(day)?).ok_or_else(out_of_range)?;
    Ok((day, rest))
}

/// Nanoseconds since midnight, and the rest of the text.
struct Clock<'a> {
    nanos: i64,
    rest: &'a str,
}

/// The time at the start of `text`.
fn time(text: &str) -> std::result::Result<Clock<'_>, String> {
    let (first, rest) = digits(text);
    let (hour, minute, second, rest) = match (first.len(), rest.strip_prefix(':')) {
        (1 | 2, Some(rest)) => {
            let (minute, rest) = two_digits(rest, "minutes")?;
            match rest.strip_prefix(':') {
                Some(rest) => {
                    let (second, rest) = two_digits(rest, "seconds")?;
                    (first, minute, second, rest)
                }
                None => (first, minute, "0", rest),
            }
        }
        (4, None) => (&first[..2], &first[2..], "0", rest),
        (6, None) => (&first[..2], &first[2..4], &first[4..], rest),
        _ => return Err("it has no time as 10:00 or 10:00:00".to_string()),
    };
    let has_fraction = rest.starts_with('.');
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    // The text consists of digits.
    let number = |digits: &str| digits.parse::<i64>().unwrap_or_default();
    let (hour, minute, second) = (number(hour), number(minute), number(second));
    let nanos = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanos = nanos.fold(0, |nanos, digit| nanos * 10 + i64::from(digit - b'0'));
    let seconds = (hour * 60 + minute) * 60 + second;
    let is_whole = nanos == 0 && !has_fraction;
    let is_clock = hour <= 24 && minute < 60 && (second < 60 || second == 60 && is_whole) && seconds <= 86_400;
    if !is_clock || seconds == 86_400 && nanos > 0 {
        return Err("there is no such time of a day".to_string());
    }
    Ok(Clock { nanos: seconds * 1_000_000_000 + nanos, rest })
}

fn two_digits<'a>(text: &'a str, what: &str) -> std::result::Result<(&'a str, &'a str), String> {
    let (digits, rest) = digits(text);
    match digits.len() {
        1 | 2 => Ok((digits, rest)),
        _ => Err(format!("{what} have two digits")),
    }
}

/// Reads AM, PM and a zone after a time: the nanoseconds of the day, and the zone.
fn behind(clock: Clock<'_>) -> std::result::Result<(i64, Option<Place>), String> {
    const HALF_DAY: i64 = NANOS_PER_DAY / 2;
    let (mut nanos, mut rest, mut zone, mut half, mut era) = (clock.nanos, clock.rest.trim_start(), None, None, false);
    while !rest.is_empty() {
        let letters = rest.len() - rest.trim_start_matches(|letter: char| letter.is_ascii_alphabetic()).len();
        let (word, after) = rest.split_at(letters);
        let is_apart = !after.starts_with(|next: char| next.is_ascii_digit() || next == '/' || next == '_');
        let is_word = |of: &str| is_apart && word.eq_ignore_ascii_case(of);
        if (is_word("AM") || is_word("PM")) && half.is_none() {
            half = Some(is_word("PM"));
            rest = after.trim_start();
        } else if is_word("AD") && !era {
            era = true;
            rest = after.trim_start();
        } else if zone.is_none() {
            let (read, after) = place(rest)?;
            zone = Some(read);
            rest = after.trim_start();
        } else {
            return Err(format!("'{rest}' follows it"));
        }
    }
    if let Some(afternoon) = half {
        // Between noon and one o'clock the hour is 12.
        let is_twelve = (HALF_DAY..HALF_DAY + NANOS_PER_DAY / 24).contains(&nanos);
        nanos = match afternoon {
            _ if nanos >= HALF_DAY && !is_twelve => return Err("with AM and PM hours go up to 12".to_string()),
            false if is_twelve => nanos - HALF_DAY,
            true if !is_twelve => nanos + HALF_DAY,
            _ => nanos,
        };
    }
    Ok((nanos, zone))
}

/// Zones of a fixed offset, and the hours that they are ahead of UTC, as PostgreSQL abbreviates them.
const ABBREVIATIONS: [(&str, i64); 21] = [
    ("Z", 0),
    ("UTC", 0),
    ("GMT", 0),
    ("UT", 0),
    ("ZULU", 0),
    ("WET", 0),
    ("BST", 1),
    ("CET", 1),
    ("MET", 1),
    ("CEST", 2),
    ("EET", 2),
    ("EEST", 3),
    ("MSK", 3),
    ("EST", -5),
    ("EDT", -4),
    ("CST", -6),
    ("CDT", -5),
    ("MST", -7),
    ("MDT", -6),
    ("PST", -8),
    ("PDT", -7),
];

/// The zone at the start of `text`, and the rest.
fn place(text: &str) -> std::result::Result<(Place, &str), String> {
    if text.starts_with(['+', '-']) {
        return offset(text);
    }
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if let Some((_, hours)) = ABBREVIATIONS.iter().find(|(short, _)| name.eq_ignore_ascii_case(short)) {
        return Ok((Place::Offset(hours * 3_600), rest));
    }
    match named(name) {
        Some(zone) => Ok((Place::Zone(zone), rest)),
        None => Err(format!("'{name}' is no time zone")),
    }
}

/// `+2`, `+02`, `+0230`, `+02:30`, `+02:30:15`.
fn offset(text: &str) -> std::result::Result<(Place, &str), String> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (hours, mut rest) = digits(&text[1..]);
    let (hours, minutes) = match hours.len() {
        1 | 2 => (hours, ""),
        3 | 4 => hours.split_at(hours.len() - 2),
        _ => return Err(format!("'{text}' is no offset as +02 or +02:30")),
    };
    let mut parts = [hours, minutes, ""];
    if minutes.is_empty() {
        for part in &mut parts[1..] {
            let Some(next) = rest.strip_prefix(':') else { break };
            (*part, rest) = two_digits(next, "minutes and seconds of an offset")?;
        }
    }
    let [hours, minutes, seconds] = parts.map(|part| part.parse::<i64>().unwrap_or_default());
    if hours > 15 || minutes > 59 || seconds > 59 {
        return Err(format!("the offset '{text}' is out of range"));
    }
    Ok((Place::Offset(sign * ((hours * 60 + minutes) * 60 + seconds)), rest))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> String {
        let zone = "America/New_York".parse().unwrap();
        match datetime(text) {
            Ok(written) => written.utc(&zone).to_string(),
            Err(_) => "refused".to_string(),
        }
    }

    fn local(text: &str) -> String {
        datetime(text).map_or_else(|_| "refused".to_string(), |written| written.local.to_string())
    }

    /// The expected values are PostgreSQL 15's.
    #[test]
    fn timestamps_are_read_as_postgres_reads_them() {
        for (text, expected) in [
            ("2024-01-01 10:00:00 PM", "2024-01-01 22:00:00"),
            ("2024-01-01 12:30 AM", "2024-01-01 00:30:00"),
            ("2024-01-01 10:00pm", "2024-01-01 22:00:00"),
            ("2024-01-01 10", "refused"),
            ("2024-01-01 1000", "2024-01-01 10:00:00"),
            ("2024-01-01T100000", "2024-01-01 10:00:00"),
            ("20240101T100000", "2024-01-01 10:00:00"),
            ("20240101 1000", "2024-01-01 10:00:00"),
            ("2024-01-01 10:00:00 2", "refused"),
            ("2024-01-01 10:00:00 foo", "refused"),
            ("2024-1-5 1:2:3", "2024-01-05 01:02:03"),
            ("2024/1/5 1:2", "2024-01-05 01:02:00"),
            ("24-01-05", "refused"),
            ("  2024-01-05  10:00  ", "2024-01-05 10:00:00"),
            ("2024-01-05T", "refused"),
            ("2024-01-01 24:00", "2024-01-02 00:00:00"),
            ("2024-01-01 23:59:60", "2024-01-02 00:00:00"),
            ("2024-01-01 10:00:00.", "2024-01-01 10:00:00"),
            ("2024-01-01 10:00:00,5", "refused"),
            ("2024-01-01 10:61", "refused"),
            ("2024-02-30", "refused"),
            ("2024-01-01 10:00 AD", "2024-01-01 10:00:00"),
            ("2024-01-01 AM", "2024-01-01 00:00:00"),
            ("2024-01-01 10:00 AM AM", "refused"),
            ("2024-01-01 13:00 PM", "refused"),
            ("2024-01-01 0:00 AM", "2024-01-01 00:00:00"),
            ("", "refused"),
            ("10:00", "refused"),
            ("2024-01-01-10:00", "refused"),
            ("2024-01-01t10:00", "2024-01-01 10:00:00"),
            ("2024-01-01 10:00 +02", "2024-01-01 10:00:00"),
            ("0001-01-01", "0001-01-01 00:00:00"),
            ("2024-01-01 10:00:00.123456789", "2024-01-01 10:00:00.123456789"),
        ] {
            assert_eq!(local(text), expected, "{text}");
        }
    }

    #[test]
    fn zones_are_read_as_postgres_reads_them() {
        for (text, expected) in [
            ("2024-01-01 10:00:00 +2", "2024-01-01 08:00:00"),
            ("2024-01-01 10:00:00 +0230", "2024-01-01 07:30:00"),
            ("2024-01-01 10:00:00+02:30:15", "2024-01-01 07:29:45"),
            ("2024-01-01 10:00:00 europe/BERLIN", "2024-01-01 09:00:00"),
            ("2024-01-01 10:00 PM +02", "2024-01-01 20:00:00"),
            ("2024-01-01 10:00 +02 PM", "2024-01-01 20:00:00"),
            ("2024-01-01 10:00:00 EST", "2024-01-01 15:00:00"),
            ("2024-07-01 10:00:00 CET", "2024-07-01 09:00:00"),
            ("2024-07-01 10:00:00z", "2024-07-01 10:00:00"),
            ("2024-07-01 10:00 EST5EDT", "2024-07-01 14:00:00"),
            ("2024-01-05Z", "2024-01-05 00:00:00"),
            ("2024-01-05+02", "2024-01-04 22:00:00"),
            ("2024-01-05 +02", "2024-01-04 22:00:00"),
            ("2024-01-05 Europe/Berlin", "2024-01-04 23:00:00"),
            ("2024-01-01 10:00 -16", "refused"),
            ("2024-01-01 10:00 -15:59", "2024-01-02 01:59:00"),
            ("2024-01-01 10:00 +2:3", "2024-01-01 07:57:00"),
            ("2024-01-01 10:00 +12345", "refused"),
            ("2024-01-01 10:00 +123", "2024-01-01 08:37:00"),
            ("2024-01-01 10:00", "2024-01-01 15:00:00"),
            ("2024-03-10 02:30", "2024-03-10 07:30:00"),
        ] {
            assert_eq!(utc(text), expected, "{text}");
        }
    }

    #[test]
    fn times_of_a_day_are_read_as_postgres_reads_them() {
        let read = |text| time_of_day(text).map_or(-1, |nanos| nanos / 1_000_000);
        let at = |hour: i64, minute: i64, second: i64| ((hour * 60 + minute) * 60 + second) * 1_000;
        for (text, expected) in [
            ("040506", at(4, 5, 6)),
            ("0405", at(4, 5, 0)),
            ("5", -1),
            ("10", -1),
            ("040506.5", at(4, 5, 6) + 500),
            ("4:5", at(4, 5, 0)),
            ("4:05:6", at(4, 5, 6)),
            ("10:00:60", at(10, 1, 0)),
            ("24:00", -1),
            ("0:30 PM", at(12, 30, 0)),
            ("13:00 PM", -1),
            ("12:00AM", 0),
            ("04:05:06 PST", at(4, 5, 6)),
            ("04:05:06-08", at(4, 5, 6)),
            ("04:05:06 Europe/Berlin", -1),
            ("2024-01-01 04:05:06", at(4, 5, 6)),
            ("2024-01-01 04:05:06 Europe/Berlin", at(4, 5, 6)),
            ("2024-01-01", -1),
            ("04:05:06 foo", -1),
            ("04:05:06 2", -1),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn the_date_of_a_text_is_the_one_that_is_written() {
        assert_eq!(date("1970-01-02 23:00-05").unwrap(), 1);
        assert_eq!(date("+10000-01-01").unwrap(), 2_932_897);
        assert!(date("2024-01-05 foo").unwrap_err().to_string().contains("'foo' is no time zone"));
    }
}

//! Three languages of date patterns: strftime's (`%Y-%m-%d`), PostgreSQL's (`YYYY-MM-DD`) and Spark's (`yyyy-MM-dd`).
//!
//! DataFusion understands strftime's and returns any other pattern as text. Here the letters of a pattern show its language, and it is translated. A pattern
//! that has no translation is refused.

use datafusion::common::{Result, exec_err};
use std::borrow::Cow;
use std::fmt::Write;

/// The language of a pattern whose letters do not show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Language {
    /// The language of `to_char`, `to_date` and `to_timestamp`.
    Postgres,
    /// The language of `date_format`.
    Spark,
}

/// Translates `pattern` to strftime's language.
pub(super) fn strftime(pattern: &str, or: Language) -> Result<Cow<'_, str>> {
    let has_letters = pattern.chars().any(|c| c.is_ascii_alphabetic());
    if pattern.contains('%') || !has_letters {
        return Ok(Cow::Borrowed(pattern));
    }
    let translated = match language(pattern, or) {
        Language::Postgres => translate(pattern, '"', postgres_word),
        Language::Spark => translate(pattern, '\'', spark_word),
    };
    match translated {
        Ok(translated) => Ok(Cow::Owned(translated)),
        Err(word) => exec_err!(
            "the date pattern '{pattern}' is not understood at '{word}': patterns are those of strftime ('%Y-%m-%d %H:%M:%S'), \
             PostgreSQL ('YYYY-MM-DD HH24:MI:SS') or Spark ('yyyy-MM-dd HH:mm:ss')"
        ),
    }
}

/// Spark has minutes after hours (`HH:mm`), fractions (`SSS`), quoted text and names of weekdays (`EEE`). PostgreSQL has `MI`, `HH24` and capital years, days
/// and seconds, which Spark lacks or uses for other things.
fn language(pattern: &str, or: Language) -> Language {
    let upper = pattern.to_ascii_uppercase();
    let letters: String = pattern.chars().filter(char::is_ascii_alphanumeric).collect();
    if upper.contains("HH24") || upper.contains("HH12") || upper.contains("MI") || pattern.contains('"') {
        return Language::Postgres;
    }
    let spark = ["HHmm", "hhmm", "Hmm", "hmm", "mmss", "SSS", "EEE"].iter().any(|word| letters.contains(word));
    if spark || pattern.contains('\'') {
        return Language::Spark;
    }
    match or {
        Language::Spark if pattern.contains(['Y', 'D']) => Language::Postgres,
        or => or,
    }
}

/// Finds the word at the start of a text: its length, and its strftime form.
type Word = fn(&str) -> Option<(usize, &'static str)>;

/// Translates word by word. The error is the text that is no word.
fn translate(pattern: &str, quote: char, word: Word) -> std::result::Result<String, String> {
    let mut translated = String::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        if first == quote {
            rest = quoted(rest, quote, &mut translated).ok_or_else(|| rest.to_string())?;
        } else if first.is_ascii_alphabetic() {
            let (length, strftime) =
                word(rest).ok_or_else(|| rest.chars().take_while(char::is_ascii_alphanumeric).collect::<String>())?;
            translated.push_str(strftime);
            rest = &rest[length..];
        } else {
            // Writing to a String does not fail.
            let _ = translated.write_char(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    Ok(translated)
}

/// Appends the quoted text at the start of `rest`, in which two quotes stand for one; returns the rest.
fn quoted<'a>(rest: &'a str, quote: char, text: &mut String) -> Option<&'a str> {
    let mut inside = &rest[1..];
    if let Some(after) = inside.strip_prefix(quote) {
        text.push(quote);
        return Some(after);
    }
    loop {
        let end = inside.find(quote)?;
        text.push_str(&inside[..end]);
        let after = &inside[end + 1..];
        match after.strip_prefix(quote) {
            Some(more) => {
                text.push(quote);
                inside = more;
            }
            None => return Some(after),
        }
    }
}

/// Longer words come before words that are prefixes of them. Names of days and months that PostgreSQL pads with blanks are left out.
const POSTGRES: [(&str, &str); 29] = [
    ("FMYYYY", "%-Y"),
    ("FMMM", "%-m"),
    ("FMDDD", "%-j"),
    ("FMDD", "%-d"),
    ("FMHH24", "%-H"),
    ("FMHH12", "%-I"),
    ("FMHH", "%-I"),
    ("FMMI", "%-M"),
    ("FMSS", "%-S"),
    ("YYYY", "%Y"),
    ("IYYY", "%G"),
    ("YY", "%y"),
    ("MM", "%m"),
    ("MI", "%M"),
    ("MS", "%3f"),
    ("US", "%6f"),
    ("DDD", "%j"),
    ("DD", "%d"),
    ("ID", "%u"),
    ("IW", "%V"),
    ("HH24", "%H"),
    ("HH12", "%I"),
    ("HH", "%I"),
    ("SS", "%S"),
    ("FF3", "%3f"),
    ("FF6", "%6f"),
    ("TZH:TZM", "%:z"),
    ("CC", "%C"),
    ("Q", "%q"),
];

/// Words whose case matters.
const POSTGRES_NAMES: [(&str, &str); 10] = [
    ("FMMonth", "%B"),
    ("FMDay", "%A"),
    ("Mon", "%b"),
    ("Dy", "%a"),
    ("AM", "%p"),
    ("PM", "%p"),
    ("am", "%P"),
    ("pm", "%P"),
    ("TZ", "%Z"),
    // For example in 2024-01-31T12:00:00.
    ("T", "T"),
];

fn postgres_word(rest: &str) -> Option<(usize, &'static str)> {
    let numeric =
        POSTGRES.iter().find(|(word, _)| rest.get(..word.len()).is_some_and(|r| r.eq_ignore_ascii_case(word)));
    let found = numeric.or_else(|| POSTGRES_NAMES.iter().find(|(word, _)| rest.starts_with(word)));
    let (word, strftime) = found?;
    let after = &rest[word.len()..];
    // Rejects ordinals (1ST, 2ND), even where a T before a time was meant ('DDTHH24'), and names that begin with a shorter word.
    let ordinal = !word.eq_ignore_ascii_case("T") && after.get(..2).is_some_and(|s| s.eq_ignore_ascii_case("TH"));
    let name =
        ["Month", "MONTH", "month", "MON", "mon", "DAY", "Day", "day", "DY", "dy"].iter().any(|n| rest.starts_with(n));
    match name || ordinal {
        true => None,
        false => Some((word.len(), strftime)),
    }
}

fn spark_word(rest: &str) -> Option<(usize, &'static str)> {
    let letter = rest.chars().next()?;
    let length = rest.chars().take_while(|c| *c == letter).count();
    let strftime = match (letter, length) {
        ('y' | 'u', 1 | 4) => "%Y",
        ('y' | 'u', 2) => "%y",
        ('M' | 'L', 1) => "%-m",
        ('M' | 'L', 2) => "%m",
        ('M' | 'L', 3) => "%b",
        ('M' | 'L', 4) => "%B",
        ('d', 1) => "%-d",
        ('d', 2) => "%d",
        ('D', 1) => "%-j",
        ('D', 3) => "%j",
        ('E', 1..=3) => "%a",
        ('E', 4) => "%A",
        ('H', 1) => "%-H",
        ('H', 2) => "%H",
        ('h', 1) => "%-I",
        ('h', 2) => "%I",
        ('m', 1) => "%-M",
        ('m', 2) => "%M",
        ('s', 1) => "%-S",
        ('s', 2) => "%S",
        ('S', 3) => "%3f",
        ('S', 6) => "%6f",
        ('S', 9) => "%9f",
        ('a', 1) => "%p",
        ('q' | 'Q', 1) => "%q",
        ('z', 1..=3) => "%Z",
        ('Z', 1..=3) => "%z",
        ('x', 3) => "%:z",
        _ => return None,
    };
    Some((length, strftime))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pattern: &str, or: Language) -> String {
        strftime(pattern, or).map_or_else(|error| error.strip_backtrace(), Cow::into_owned)
    }

    #[test]
    fn letters_tell_the_language() {
        use Language::{Postgres, Spark};
        for (pattern, or, expected) in [
            ("%Y-%m-%d", Postgres, "%Y-%m-%d"),
            ("YYYY-MM-DD", Postgres, "%Y-%m-%d"),
            ("yyyy-mm-dd", Postgres, "%Y-%m-%d"),
            ("yyyy-MM-dd", Postgres, "%Y-%m-%d"),
            ("yyyy-MM-dd", Spark, "%Y-%m-%d"),
            ("YYYY-MM-DD", Spark, "%Y-%m-%d"),
            ("yyyy-MM-dd HH:mm:ss", Postgres, "%Y-%m-%d %H:%M:%S"),
            ("yyyy-MM-dd'T'HH:mm:ss.SSS", Postgres, "%Y-%m-%dT%H:%M:%S.%3f"),
            ("YYYY-MM-DD HH24:MI:SS.US", Postgres, "%Y-%m-%d %H:%M:%S.%6f"),
            ("yyyy-mm-dd hh24:mi:ss", Spark, "%Y-%m-%d %H:%M:%S"),
            ("YYYY-MM-DD\"T\"HH24:MI:SS", Postgres, "%Y-%m-%dT%H:%M:%S"),
            ("FMDD. FMMonth YYYY, Dy", Postgres, "%-d. %B %Y, %a"),
            ("HH12:MI AM", Postgres, "%I:%M %p"),
            ("YYYY-\"Q\"Q", Postgres, "%Y-Q%q"),
            ("d.M.yy", Spark, "%-d.%-m.%y"),
            ("EEEE, d MMMM", Spark, "%A, %-d %B"),
            ("h 'o''clock' a", Spark, "%-I o'clock %p"),
            ("--", Postgres, "--"),
        ] {
            assert_eq!(of(pattern, or), expected, "{pattern}");
        }
    }

    #[test]
    fn what_has_no_translation_is_refused_by_name() {
        use Language::{Postgres, Spark};
        for (pattern, or, word) in [
            ("YYYY-MM-DDTHH24:MI:SS", Postgres, "'DDTHH24'"),
            ("Month YYYY", Postgres, "'Month'"),
            ("YYYY-WW", Postgres, "'WW'"),
            ("hello", Postgres, "'hello'"),
            ("hello", Spark, "'ello'"),
            ("yyyy-ww", Spark, "'ww'"),
            ("yyyy 'at", Spark, "''at'"),
        ] {
            let refused = of(pattern, or);
            assert!(refused.contains(&format!("at {word}")), "{pattern}: {refused}");
        }
    }
}

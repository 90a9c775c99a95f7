//! The types of JSON values: a parser that keeps no values, only the digits of numbers, which decide a column's type.

use std::collections::HashMap;

/// The kind of all values at one place of the records.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Kind {
    pub of: Of,
    /// The record that gave it this kind: the number of the file, and the line, from 1.
    pub seen: (usize, u64),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Of {
    /// Only null.
    #[default]
    Null,
    Boolean,
    /// Integers without exponent.
    Integer(Integers),
    /// Numbers of which some are no [`Of::Integer`], and the integers among them.
    Number(Integers),
    Text,
    List(Box<Kind>),
    Object(Fields),
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Integers {
    /// Number of digits of the longest one.
    pub digits: usize,
    pub past_64_bits: bool,
    /// Whether some value cannot be represented by a double.
    pub past_double: bool,
}

/// Fields in the order in which they first occurred.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fields {
    pub all: Vec<(String, Kind)>,
    /// Empty while there are few fields.
    index: HashMap<String, usize>,
}

/// Up to this many fields are searched linearly.
const FEW: usize = 16;

/// Two values at one place that no type can both hold.
#[derive(Debug, PartialEq)]
pub(super) struct Conflict {
    /// Names from the record to the place.
    pub path: Vec<String>,
    pub one: Kind,
    pub other: Kind,
}

impl Kind {
    pub(super) fn word(&self) -> &'static str {
        match &self.of {
            Of::Null => "null",
            Of::Boolean => "a boolean",
            Of::Integer(_) | Of::Number(_) => "a number",
            Of::Text => "a string",
            Of::List(_) => "an array",
            Of::Object(_) => "an object",
        }
    }

    fn is_scalar(&self) -> bool {
        !matches!(self.of, Of::List(_) | Of::Object(_))
    }

    pub(super) fn merge(&mut self, other: Kind) -> Result<(), Conflict> {
        let merged = match (std::mem::take(&mut self.of), other.of) {
            (mine, Of::Null) => mine,
            (Of::Null, theirs) => {
                self.seen = other.seen;
                theirs
            }
            (Of::Boolean, Of::Boolean) => Of::Boolean,
            (Of::Integer(a), Of::Integer(b)) => Of::Integer(a.and(b)),
            (Of::Integer(a) | Of::Number(a), Of::Integer(b) | Of::Number(b)) => Of::Number(a.and(b)),
            (Of::List(mut mine), Of::List(theirs)) => {
                mine.merge(*theirs).map_err(|conflict| conflict.inside("[]"))?;
                Of::List(mine)
            }
            (Of::Object(mut mine), Of::Object(theirs)) => {
                for (name, kind) in theirs.all {
                    mine.add(name, kind)?;
                }
                Of::Object(mine)
            }
            (mine, theirs) => {
                let one = Kind { of: mine, seen: self.seen };
                let other = Kind { of: theirs, seen: other.seen };
                if !one.is_scalar() || !other.is_scalar() {
                    return Err(Conflict { path: Vec::new(), one, other });
                }
                Of::Text
            }
        };
        self.of = merged;
        Ok(())
    }
}

impl Integers {
    fn and(self, other: Self) -> Self {
        Self {
            digits: self.digits.max(other.digits),
            past_64_bits: self.past_64_bits || other.past_64_bits,
            past_double: self.past_double || other.past_double,
        }
    }

    fn of(text: &str) -> Self {
        const EXACT: i64 = 1 << 53;
        let digits = text.trim_start_matches('-').trim_start_matches('0').len();
        match text.parse::<i64>() {
            Ok(number) => Self { digits, past_64_bits: false, past_double: !(-EXACT..=EXACT).contains(&number) },
            Err(_) => Self { digits, past_64_bits: true, past_double: true },
        }
    }
}

impl Fields {
    fn add(&mut self, name: String, kind: Kind) -> Result<(), Conflict> {
        match self.find(&name) {
            Some(field) => self.all[field].1.merge(kind).map_err(|conflict| conflict.inside(&name)),
            None => {
                self.all.push((name, kind));
                let indexed = self.index.len();
                if self.all.len() > FEW {
                    let names = self.all.iter().enumerate().skip(indexed);
                    self.index.extend(names.map(|(field, (name, _))| (name.clone(), field)));
                }
                Ok(())
            }
        }
    }

    fn find(&self, name: &str) -> Option<usize> {
        match self.index.is_empty() {
            true => self.all.iter().position(|(known, _)| known == name),
            false => self.index.get(name).copied(),
        }
    }
}

impl Conflict {
    fn inside(mut self, name: &str) -> Self {
        self.path.insert(0, name.to_string());
        self
    }

    pub(super) fn place(&self) -> String {
        self.path.join(".").replace(".[]", "[]")
    }
}

/// An error in the text, or its end within a value.
#[derive(Debug, PartialEq)]
pub(super) enum Fault {
    Ends,
    Wrong { line: u64, text: String },
    Conflict(Conflict),
}

impl From<Conflict> for Fault {
    fn from(conflict: Conflict) -> Self {
        Fault::Conflict(conflict)
    }
}

/// Maximum nesting of values.
const DEPTH: usize = 100;

/// Reads the values of a text one by one.
pub(super) struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    file: usize,
    /// Current line, from 1.
    line: u64,
    /// The line in which the last value of [`Parser::next`] begins.
    begun: u64,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a [u8], file: usize) -> Self {
        Self { text, at: 0, file, line: 1, begun: 1 }
    }

    /// Reads the next value; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Kind>, Fault> {
        match self.peek() {
            Err(Fault::Ends) => Ok(None),
            Err(fault) => Err(fault),
            Ok(_) => {
                self.begun = self.line;
                self.value(0).map(Some)
            }
        }
    }

    /// The line, from 1, in which the last value read begins.
    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    fn peek(&mut self) -> Result<u8, Fault> {
        while let Some(byte) = self.text.get(self.at) {
            if !byte.is_ascii_whitespace() {
                return Ok(*byte);
            }
            self.line += u64::from(*byte == b'\n');
            self.at += 1;
        }
        Err(Fault::Ends)
    }

    fn wrong<T>(&self, text: impl Into<String>) -> Result<T, Fault> {
        Err(Fault::Wrong { line: self.line, text: text.into() })
    }

    fn value(&mut self, depth: usize) -> Result<Kind, Fault> {
        let seen = (self.file, self.line);
        if depth > DEPTH {
            return self.wrong(format!("values lie in each other more than {DEPTH} deep"));
        }
        let of = match self.peek()? {
            b'{' => Of::Object(self.object(depth)?),
            b'[' => Of::List(Box::new(self.list(depth)?)),
            b'"' => {
                self.string()?;
                Of::Text
            }
            b't' => self.word(b"true", Of::Boolean)?,
            b'f' => self.word(b"false", Of::Boolean)?,
            b'n' => self.word(b"null", Of::Null)?,
            b'-' | b'0'..=b'9' => self.number()?,
            byte => return self.wrong(format!("'{}' begins no JSON value", char::from(byte))),
        };
        Ok(Kind { of, seen })
    }

    fn word(&mut self, word: &[u8], of: Of) -> Result<Of, Fault> {
        let found = &self.text[self.at..self.text.len().min(self.at + word.len())];
        if found == word {
            self.at += word.len();
            return Ok(of);
        }
        if word.starts_with(found) { Err(Fault::Ends) } else { self.wrong("a word that JSON does not have") }
    }

    fn number(&mut self) -> Result<Of, Fault> {
        let rest = &self.text[self.at..];
        let length = rest.iter().position(|byte| !b"+-.eE0123456789".contains(byte)).ok_or(Fault::Ends)?;
        let number = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.at += length;
        if number.bytes().any(|byte| b".eE".contains(&byte)) {
            return Ok(Of::Number(Integers::default()));
        }
        Ok(Of::Integer(Integers::of(&number)))
    }

    fn string(&mut self) -> Result<String, Fault> {
        self.at += 1;
        let begin = self.at;
        let mut escaped = false;
        while let Some(&byte) = self.text.get(self.at) {
            self.at += 1;
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => return self.unescaped(&self.text[begin..self.at - 1]),
                b'\n' => return self.wrong("a string does not end in its line"),
                _ => {}
            }
        }
        Err(Fault::Ends)
    }

    fn unescaped(&self, string: &[u8]) -> Result<String, Fault> {
        if !string.contains(&b'\\') {
            return Ok(String::from_utf8_lossy(string).into_owned());
        }
        let quoted = [b"\"", string, b"\""].concat();
        serde_json::from_slice(&quoted).or_else(|error| self.wrong(format!("a string is wrong: {error}")))
    }

    fn list(&mut self, depth: usize) -> Result<Kind, Fault> {
        self.at += 1;
        let mut kind = Kind { of: Of::Null, seen: (self.file, self.line) };
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(kind);
        }
        loop {
            let value = self.value(depth + 1)?;
            kind.merge(value).map_err(|conflict| conflict.inside("[]"))?;
            if self.ends(b']')? {
                return Ok(kind);
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Fields, Fault> {
        self.at += 1;
        let mut fields = Fields::default();
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(fields);
        }
        loop {
            if self.peek()? != b'"' {
                return self.wrong("a field has no name in quotes");
            }
            let name = self.string()?;
            if self.peek()? != b':' {
                return self.wrong(format!("there is no ':' behind the name '{name}'"));
            }
            self.at += 1;
            let value = self.value(depth + 1)?;
            fields.add(name, value)?;
            if self.ends(b'}')? {
                return Ok(fields);
            }
        }
    }

    /// Whether the end follows, rather than another element.
    fn ends(&mut self, end: u8) -> Result<bool, Fault> {
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            _ if byte == end => Ok(true),
            b',' => Ok(false),
            _ => self.wrong(format!("'{}' stands where ',' or '{}' is wanted", char::from(byte), char::from(end))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Result<Kind, Fault> {
        let mut parser = Parser::new(text.as_bytes(), 0);
        let mut all = Kind::default();
        while let Some(kind) = parser.next()? {
            all.merge(kind)?;
        }
        Ok(all)
    }

    fn of(text: &str) -> Of {
        kind(&format!("{text}\n")).unwrap().of
    }

    #[test]
    fn numbers_keep_what_decides_about_their_type() {
        assert_eq!(of("1"), Of::Integer(Integers { digits: 1, past_64_bits: false, past_double: false }));
        assert_eq!(of("-0012 null"), Of::Integer(Integers { digits: 2, past_64_bits: false, past_double: false }));
        let large = Integers { digits: 16, past_64_bits: false, past_double: true };
        assert_eq!(of("9007199254740993"), Of::Integer(large));
        assert_eq!(of("1.5 9007199254740993"), Of::Number(large));
        let larger = Integers { digits: 20, past_64_bits: true, past_double: true };
        assert_eq!(of("1 18446744073709551615"), Of::Integer(larger));
    }

    #[test]
    fn scalars_mix_as_text_and_others_conflict() {
        assert_eq!(of("1 \"two\" true"), Of::Text);
        let Of::Object(fields) = of(r#"{"a": 1, "b\u0061": []} {"c": {"d": [1, "x"]}, "a": null}"#) else { panic!() };
        let names: Vec<&str> = fields.all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "ba", "c"]);
        let Err(Fault::Conflict(conflict)) = kind("{\"a\": [{\"b\": 1}]}\n{\"a\": [{\"b\": [2]}]}\n") else { panic!() };
        assert_eq!((conflict.place().as_str(), conflict.one.seen.1, conflict.other.seen.1), ("a[].b", 1, 2));
    }

    #[test]
    fn what_is_no_json_is_told_by_its_line() {
        for (text, line) in [("{}\n{a}", 2), ("[1 2]", 1), ("{}\n\n{\"a\":\n nul}", 4), ("{\"a\" 1}", 1), ("\"\n\"", 1)]
        {
            match kind(text) {
                Err(Fault::Wrong { line: told, .. }) => assert_eq!(told, line, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert_eq!(kind("{\"a\": [1"), Err(Fault::Ends));
        assert_eq!(kind("tru"), Err(Fault::Ends));
        assert!(matches!(kind(&"[".repeat(1_000)), Err(Fault::Wrong { .. })));
    }
}

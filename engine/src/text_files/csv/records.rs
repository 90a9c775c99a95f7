//! Splitting of bytes into records.

use super::dialect::{Byte, Dialect, State};
use crate::text_files::place::WrongLine;

/// Reads records from bytes that come in pieces, and holds them until they are taken.
pub(super) struct RecordReader {
    dialect: Dialect,
    /// Whether a byte may be more than part of a value: outside of quotes, and inside.
    special: Box<[bool; 256]>,
    special_in_quotes: Box<[bool; 256]>,
    shape: Shape,
    state: State,
    /// Index of the current field in its record.
    field: usize,
    quoted: bool,
    /// Number of lines before the current line, and before the current record.
    line: u64,
    record_line: u64,
    /// The first field of the current record.
    record_start: usize,
    held: Records,
}

/// The fields of records, and the wanted ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    /// Number of fields of a record; `None` for any number.
    pub fields: Option<usize>,
    /// Whether records may end early.
    pub may_be_shorter: bool,
    /// Whether each field is kept. Fields beyond the end of the list are kept.
    pub kept: Vec<bool>,
}

/// The kept fields of any number of records.
#[derive(Debug, Default)]
pub(super) struct Records {
    bytes: Vec<u8>,
    fields: Vec<Field>,
    /// The first field of each record, and its line.
    starts: Vec<(usize, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    end: usize,
    quoted: bool,
}

impl Shape {
    fn keeps(&self, field: usize) -> bool {
        self.kept.get(field).copied().unwrap_or(true)
    }
}

impl RecordReader {
    /// A reader whose first byte is the first of a record.
    pub(super) fn new(dialect: Dialect, shape: Shape) -> Self {
        let mut special = Box::new([false; 256]);
        let mut special_in_quotes = Box::new([false; 256]);
        for byte in 0..=255u8 {
            special[usize::from(byte)] = byte == dialect.delimiter || byte == b'\n' || dialect.ends_record(byte);
            special_in_quotes[usize::from(byte)] =
                byte == dialect.quote || dialect.escape == Some(byte) || byte == b'\n';
        }
        Self {
            dialect,
            special,
            special_in_quotes,
            shape,
            state: State::RecordStart,
            field: 0,
            quoted: false,
            line: 0,
            record_line: 0,
            record_start: 0,
            held: Records::default(),
        }
    }

    /// Reads until `most` records are held or `input` is used up. Returns the bytes used.
    pub(super) fn read(&mut self, input: &[u8], most: usize) -> Result<usize, WrongLine> {
        let mut at = 0;
        while at < input.len() && self.held.len() < most {
            at += self.values(&input[at..])?;
            let Some(&byte) = input.get(at) else { break };
            at += 1;
            self.byte(byte)?;
        }
        Ok(at)
    }

    /// Reads the start of `input` as far as it is simple: values, their quotes and delimiters. [`Dialect::step`] reads the rest, and would read these bytes
    /// the same way.
    fn values(&mut self, input: &[u8]) -> Result<usize, WrongLine> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.state {
                State::FieldStart if byte == self.dialect.quote => {
                    self.quoted = true;
                    self.state = State::Quoted;
                    at += 1;
                }
                State::FieldStart | State::Field | State::QuoteInQuoted if byte == self.dialect.delimiter => {
                    self.end_field()?;
                    self.state = State::FieldStart;
                    at += 1;
                }
                State::FieldStart | State::Field => {
                    let end = at + run(&input[at..], &self.special);
                    if end == at {
                        break;
                    }
                    self.keep(&input[at..end]);
                    self.state = State::Field;
                    at = end;
                }
                State::Quoted if byte == self.dialect.quote => {
                    self.state = State::QuoteInQuoted;
                    at += 1;
                }
                State::Quoted => {
                    let end = at + run(&input[at..], &self.special_in_quotes);
                    if end == at {
                        break;
                    }
                    self.keep(&input[at..end]);
                    at = end;
                }
                State::QuoteInQuoted if byte == self.dialect.quote => {
                    self.keep(&[byte]);
                    self.state = State::Quoted;
                    at += 1;
                }
                _ => break,
            }
        }
        Ok(at)
    }

    fn keep(&mut self, value: &[u8]) {
        if self.shape.keeps(self.field) {
            self.held.bytes.extend_from_slice(value);
        }
    }

    fn byte(&mut self, byte: u8) -> Result<(), WrongLine> {
        if self.state.is_between_records() {
            self.record_line = self.line;
        }
        let (state, is) = self.dialect.step(self.state, byte);
        self.state = state;
        match is {
            Byte::Value if self.shape.keeps(self.field) => self.held.bytes.push(byte),
            Byte::OpensQuotes => self.quoted = true,
            Byte::EndsField => self.end_field()?,
            Byte::EndsRecord => {
                self.end_field()?;
                self.end_record()?;
            }
            // In records of one field, an empty line is NULL, as in PostgreSQL and DuckDB; in records of several fields it is ignored.
            Byte::EndsBlank if self.shape.fields == Some(1) => {
                self.end_field()?;
                self.end_record()?;
            }
            _ => {}
        }
        self.line += u64::from(byte == b'\n');
        Ok(())
    }

    /// Ends the input. The last record may lack the line end, but must not end inside quotes.
    pub(super) fn finish(&mut self) -> Result<(), WrongLine> {
        if self.state.is_in_quotes() {
            return Err(
                self.wrong("a quoted value begins here, or behind it, and the file ends before its quotes do".into())
            );
        }
        if !self.state.is_between_records() && self.state != State::Comment {
            self.end_field()?;
            self.end_record()?;
        }
        self.state = State::RecordStart;
        Ok(())
    }

    /// Sets the shape of the following records.
    pub(super) fn expect(&mut self, shape: Shape) {
        self.shape = shape;
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn held(&self) -> &Records {
        &self.held
    }

    /// Takes the records. They must be whole, as they are when the requested number is held or the input has ended.
    pub(super) fn take(&mut self) -> Records {
        let capacity = (self.held.bytes.len(), self.held.fields.len(), self.held.starts.len());
        let next = Records {
            bytes: Vec::with_capacity(capacity.0),
            fields: Vec::with_capacity(capacity.1),
            starts: Vec::with_capacity(capacity.2),
        };
        std::mem::replace(&mut self.held, next)
    }

    fn end_field(&mut self) -> Result<(), WrongLine> {
        if self.field == 0 {
            self.record_start = self.held.fields.len();
        }
        if self.shape.fields.is_some_and(|fields| self.field >= fields) {
            return Err(self.wrong_number());
        }
        if self.shape.keeps(self.field) {
            self.held.fields.push(Field { end: self.held.bytes.len(), quoted: self.quoted });
        }
        self.field += 1;
        self.quoted = false;
        Ok(())
    }

    fn end_record(&mut self) -> Result<(), WrongLine> {
        if let Some(fields) = self.shape.fields {
            if self.field < fields && !self.shape.may_be_shorter {
                return Err(self.wrong_number());
            }
            while self.field < fields {
                self.end_field()?;
            }
        }
        self.held.starts.push((self.record_start, self.record_line));
        self.field = 0;
        Ok(())
    }

    fn wrong_number(&self) -> WrongLine {
        let (expected, more) = (self.shape.fields.unwrap_or_default(), "more than ");
        let (more, got) = if self.field >= expected { (more, expected) } else { ("", self.field) };
        self.wrong(format!("the record has the wrong number of fields, expected {expected} got {more}{got}"))
    }

    fn wrong(&self, text: String) -> WrongLine {
        WrongLine { line: self.record_line, text }
    }
}

/// Number of bytes at the start of `input` that are not special.
fn run(input: &[u8], special: &[bool; 256]) -> usize {
    input.iter().position(|&byte| special[usize::from(byte)]).unwrap_or(input.len())
}

impl Records {
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Number of lines before the record.
    pub(super) fn line(&self, record: usize) -> u64 {
        self.starts.get(record).map_or(0, |(_, line)| *line)
    }

    /// The kept fields of a record, and whether each was in quotes.
    pub(super) fn record(&self, record: usize) -> impl Iterator<Item = (&[u8], bool)> {
        let begin = self.starts[record].0;
        let end = self.starts.get(record + 1).map_or(self.fields.len(), |(begin, _)| *begin);
        (begin..end).map(|field| self.field(field))
    }

    fn field(&self, field: usize) -> (&[u8], bool) {
        let begin = field.checked_sub(1).map_or(0, |before| self.fields[before].end);
        (&self.bytes[begin..self.fields[field].end], self.fields[field].quoted)
    }

    /// The values of the `nth` kept field of each record; all records must have the same number of fields.
    ///
    /// # Errors
    /// The record whose value is not UTF-8.
    pub(super) fn column(&self, nth: usize) -> impl Iterator<Item = Result<(&str, bool), WrongLine>> {
        (0..self.len()).map(move |record| {
            let (value, quoted) = self.field(self.starts[record].0 + nth);
            match std::str::from_utf8(value) {
                Ok(value) => Ok((value, quoted)),
                Err(_) => Err(WrongLine {
                    line: self.line(record),
                    text: format!("a value is not text in UTF-8: '{}'", String::from_utf8_lossy(value)),
                }),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::dialect::COMMAS;
    use super::*;

    fn read(dialect: Dialect, shape: &Shape, text: &str, piece: usize) -> Result<Vec<Vec<String>>, WrongLine> {
        let mut reader = RecordReader::new(dialect, shape.clone());
        for piece in text.as_bytes().chunks(piece) {
            assert_eq!(reader.read(piece, usize::MAX)?, piece.len());
        }
        reader.finish()?;
        let records = reader.take();
        let text = |(value, quoted): (&[u8], bool)| {
            let value = String::from_utf8_lossy(value).into_owned();
            if quoted { format!("'{value}'") } else { value }
        };
        Ok((0..records.len()).map(|record| records.record(record).map(text).collect()).collect())
    }

    #[track_caller]
    fn is(dialect: Dialect, shape: &Shape, text: &str, wanted: &[&[&str]]) {
        for piece in 1..text.len() + 2 {
            assert_eq!(read(dialect, shape, text, piece).unwrap(), wanted, "in pieces of {piece}");
        }
    }

    #[test]
    fn records_are_those_of_the_csv_crate() {
        let any = Shape::default();
        is(COMMAS, &any, "a,b\nc,d\n", &[&["a", "b"], &["c", "d"]]);
        is(COMMAS, &any, "a,\"b\nc\"\r\n\r\nd,\"\"\"\"", &[&["a", "'b\nc'"], &["d", "'\"'"]]);
        is(COMMAS, &any, "5\" pipe,\"x\"y\n,\n", &[&["5\" pipe", "'xy'"], &["", ""]]);
        is(Dialect { comment: Some(b'#'), ..COMMAS }, &any, "#a\nb\n#c", &[&["b"]]);
        is(Dialect { escape: Some(b'\\'), ..COMMAS }, &any, "\"a\\\"b\",\\c\n", &[&["'a\"b'", "\\c"]]);
        is(Dialect { terminator: Some(b';'), ..COMMAS }, &any, "a;b\n,c;", &[&["a"], &["b\n", "c"]]);
    }

    #[test]
    fn fields_are_kept_counted_and_added() {
        let two = Shape { fields: Some(2), may_be_shorter: false, kept: vec![false, true] };
        is(COMMAS, &two, "a,b\nc,d\n", &[&["b"], &["d"]]);
        assert_eq!(read(COMMAS, &two, "a,b\n\nc\n", 9).unwrap_err().line, 2);
        assert!(read(COMMAS, &two, "a,b,c\n", 9).unwrap_err().text.contains("expected 2 got more than 2"));
        is(COMMAS, &Shape { may_be_shorter: true, ..two.clone() }, "a\nc,d\n", &[&[""], &["d"]]);
        let one = Shape { fields: Some(1), ..Shape::default() };
        is(COMMAS, &one, "a\n\n\"\"\n", &[&["a"], &[""], &["''"]]);
        assert_eq!(read(COMMAS, &one, "a\n\"b\nc", 9).unwrap_err().line, 1);
    }
}

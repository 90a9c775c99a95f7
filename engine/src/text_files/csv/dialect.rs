//! An automaton that splits bytes into records of fields.
//!
//! It equals that of the csv-core crate, so that files mean the same as in DataFusion: a quote opens a quoted field only at the field's start, a doubled
//! quote inside is a quote, and text after a closing quote belongs to the field.
//!
//! ```text
//! RecordStart ──(comment)──▶ Comment ──(\n)──▶ RecordStart
//!      └──▶ FieldStart ──(other)──▶ Field ──(delimiter)──▶ FieldStart
//!                └──(quote)──▶ Quoted ◀──(quote)──▶ QuoteInQuoted ──(other)──▶ Field
//!                              Quoted ◀──(escape, any)──▶ Escaped
//! ```
//! The end of a row leads from FieldStart, Field and QuoteInQuoted to RecordStart, by way of CarriageReturn when it is `\r`.

use datafusion::common::config::CsvOptions;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    pub delimiter: u8,
    pub quote: u8,
    pub escape: Option<u8>,
    /// The byte that begins comment lines, which are no records.
    pub comment: Option<u8>,
    /// The byte that ends a record. If not given, `\n`, `\r` and both together end one.
    pub terminator: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    RecordStart,
    FieldStart,
    Field,
    Quoted,
    Escaped,
    /// After a quote in a quoted field: its end, or the first of two quotes.
    QuoteInQuoted,
    Comment,
    CarriageReturn,
}

/// The role of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Byte {
    /// Part of a field's value.
    Value,
    /// Opens, closes or escapes, or belongs to a comment or to the end of the record before.
    Mark,
    OpensQuotes,
    EndsField,
    EndsRecord,
    /// Ends a line without a record.
    EndsBlank,
}

impl Dialect {
    pub(super) fn of(options: &CsvOptions) -> Self {
        Self {
            delimiter: options.delimiter,
            quote: options.quote,
            escape: options.escape,
            comment: options.comment,
            terminator: options.terminator,
        }
    }

    pub(super) fn ends_record(&self, byte: u8) -> bool {
        match self.terminator {
            Some(terminator) => byte == terminator,
            None => byte == b'\n' || byte == b'\r',
        }
    }

    pub(super) fn step(&self, state: State, byte: u8) -> (State, Byte) {
        match state {
            State::CarriageReturn if byte == b'\n' => (State::RecordStart, Byte::Mark),
            State::RecordStart | State::CarriageReturn => {
                if self.ends_record(byte) {
                    (self.behind_record(byte), Byte::EndsBlank)
                } else if self.comment == Some(byte) {
                    (State::Comment, Byte::Mark)
                } else {
                    self.step(State::FieldStart, byte)
                }
            }
            State::FieldStart if byte == self.quote => (State::Quoted, Byte::OpensQuotes),
            State::Quoted if byte == self.quote => (State::QuoteInQuoted, Byte::Mark),
            State::Quoted if self.escape == Some(byte) => (State::Escaped, Byte::Mark),
            State::QuoteInQuoted if byte == self.quote => (State::Quoted, Byte::Value),
            State::Quoted | State::Escaped => (State::Quoted, Byte::Value),
            State::FieldStart | State::Field | State::QuoteInQuoted => {
                if byte == self.delimiter {
                    (State::FieldStart, Byte::EndsField)
                } else if self.ends_record(byte) {
                    (self.behind_record(byte), Byte::EndsRecord)
                } else {
                    (State::Field, Byte::Value)
                }
            }
            State::Comment if byte == b'\n' => (State::RecordStart, Byte::Mark),
            State::Comment => (State::Comment, Byte::Mark),
        }
    }

    fn behind_record(&self, byte: u8) -> State {
        if self.terminator.is_none() && byte == b'\r' { State::CarriageReturn } else { State::RecordStart }
    }

    /// The states in which an unknown byte of a file may be read.
    pub(super) fn states(&self) -> Vec<State> {
        use State::*;
        let mut states = vec![RecordStart, FieldStart, Field, Quoted, QuoteInQuoted];
        states.extend(self.escape.map(|_| Escaped));
        states.extend(self.comment.map(|_| Comment));
        states.extend(self.terminator.is_none().then_some(CarriageReturn));
        states
    }
}

impl State {
    /// Whether a file may end here, or a part of one.
    pub(super) fn is_between_records(self) -> bool {
        matches!(self, State::RecordStart | State::CarriageReturn)
    }

    pub(super) fn is_in_quotes(self) -> bool {
        matches!(self, State::Quoted | State::Escaped)
    }
}

#[cfg(test)]
pub(super) const COMMAS: Dialect =
    Dialect { delimiter: b',', quote: b'"', escape: None, comment: None, terminator: None };

//! Finds where the records of a part of a file begin.
//!
//! A part may begin anywhere, even inside quotes. So the bytes at its edge are read in all states at once ([`Dialect::states`]): most quoted values make all
//! states converge, and the rest is certain. In a stretch without quotes two states remain, inside and outside of quotes; then the edge is taken to be
//! outside. That guess is checked: the reader of each part ends where the next part's records begin, and must be between two records there. The first part
//! begins with the file, so if all parts pass, all guesses were right.

use super::dialect::{Byte, Dialect, State};
use crate::text_files::bytes::range_of_file;
use datafusion::common::Result;
use object_store::ObjectStore;
use object_store::path::Path;

/// Maximum bytes read at an edge to find out whether it lies inside quotes; and bytes read first.
pub(super) const LOOKED_AT: u64 = 256 << 10;
const LOOKED_AT_FIRST: u64 = 16 << 10;

/// The position of the first record that begins at byte `at` or after it: the end of the file if there is none.
///
/// The later of two edges never has the earlier record, unless one of them was guessed.
pub(super) async fn first_record(
    store: &dyn ObjectStore,
    location: &Path,
    size: u64,
    at: u64,
    dialect: Dialect,
) -> Result<u64> {
    if at == 0 || at >= size {
        return Ok(at.min(size));
    }
    let mut edge = Edge::new(dialect, at);
    let mut looked_at = LOOKED_AT_FIRST;
    while edge.at < size {
        let end = (edge.at + looked_at).min(size);
        let bytes = range_of_file(store, location, edge.at..end).await?;
        if let Some(start) = edge.look(&bytes) {
            return Ok(start);
        }
        looked_at = LOOKED_AT - LOOKED_AT_FIRST;
    }
    Ok(edge.start_in_file_that_ends())
}

struct Edge {
    dialect: Dialect,
    from: u64,
    /// Position of the next byte.
    at: u64,
    /// All states in which it may be read.
    states: Vec<State>,
    /// The guesses that the edge lies outside of quotes, and inside.
    outside: Guess,
    inside: Guess,
}

/// The state of the next byte, and the first record that begins after the edge.
struct Guess {
    state: State,
    first: Option<u64>,
}

impl Guess {
    fn new(state: State) -> Self {
        Self { state, first: None }
    }
}

impl Edge {
    /// An edge at byte `from`. A record that begins there follows one that ends with the byte before.
    fn new(dialect: Dialect, from: u64) -> Self {
        let (outside, inside) = (Guess::new(State::Field), Guess::new(State::Quoted));
        Self { dialect, from, at: from - 1, states: dialect.states(), outside, inside }
    }

    fn look(&mut self, bytes: &[u8]) -> Option<u64> {
        for &byte in bytes {
            if let [state] = self.states[..]
                && self.begins_record(state, byte)
            {
                return Some(self.at);
            }
            self.step(byte);
        }
        self.outside.first.filter(|_| !self.is_certain() && self.at >= self.from - 1 + LOOKED_AT)
    }

    fn step(&mut self, byte: u8) {
        let begins = [&self.outside, &self.inside].map(|guess| self.begins_record(guess.state, byte));
        for (guess, begins) in [&mut self.outside, &mut self.inside].into_iter().zip(begins) {
            if begins && guess.first.is_none() {
                guess.first = Some(self.at);
            }
            guess.state = self.dialect.step(guess.state, byte).0;
        }
        for state in &mut self.states {
            *state = self.dialect.step(*state, byte).0;
        }
        let mut different = 0;
        for next in 0..self.states.len() {
            if !self.states[..different].contains(&self.states[next]) {
                self.states[different] = self.states[next];
                different += 1;
            }
        }
        self.states.truncate(different);
        self.at += 1;
    }

    fn is_certain(&self) -> bool {
        self.states.len() == 1
    }

    /// Whether a record, rather than a blank line, begins with `byte` in this state.
    fn begins_record(&self, state: State, byte: u8) -> bool {
        let between = state == State::RecordStart || (state == State::CarriageReturn && byte != b'\n');
        between && self.at >= self.from && self.dialect.step(state, byte).1 != Byte::EndsBlank
    }

    /// The first record, for an edge whose file ends: no value may be open at the end.
    fn start_in_file_that_ends(&self) -> u64 {
        let guess = if self.outside.state.is_in_quotes() { &self.inside } else { &self.outside };
        guess.first.filter(|_| !self.is_certain()).unwrap_or(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::dialect::COMMAS;
    use super::*;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    async fn starts(text: &str, dialect: Dialect) -> Vec<u64> {
        let (store, location) = (InMemory::new(), Path::from("a.csv"));
        store.put(&location, text.to_owned().into()).await.unwrap();
        let size = text.len() as u64;
        let mut starts = Vec::new();
        for at in 0..=size {
            starts.push(first_record(&store, &location, size, at, dialect).await.unwrap());
        }
        starts
    }

    #[tokio::test]
    async fn a_record_belongs_to_the_part_that_it_begins_in() {
        assert_eq!(starts("ab\ncd\n", COMMAS).await, [0, 3, 3, 3, 6, 6, 6]);
        assert_eq!(starts("a\r\nb\rc", COMMAS).await, [0, 3, 3, 3, 5, 5, 6]);
    }

    #[tokio::test]
    async fn an_edge_inside_quotes_is_none_of_a_record() {
        let text = "1,\"a\n1,b\n1,c\"\n".repeat(20);
        let starts = starts(&text, COMMAS).await;
        for (at, start) in starts.iter().enumerate() {
            assert_eq!(start % 14, 0, "byte {at}");
            assert!(*start >= at as u64);
        }
        assert!(starts.is_sorted());
        // The end of one quoted value suffices.
        assert_eq!(starts[20], 28);
    }

    #[tokio::test]
    async fn what_cannot_be_told_is_outside() {
        let text = format!("a\n\"{}\"\n", "line\n".repeat(120_000));
        let (store, location) = (InMemory::new(), Path::from("a.csv"));
        let size = text.len() as u64;
        store.put(&location, text.into()).await.unwrap();
        assert_eq!(first_record(&store, &location, size, 20_000, COMMAS).await.unwrap(), 20_003);
        assert_eq!(first_record(&store, &location, size, size - 20_000, COMMAS).await.unwrap(), size);
    }
}

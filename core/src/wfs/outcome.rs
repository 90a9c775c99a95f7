//! Requests that happen once although they are sent twice.
//!
//! A client that loses its connection cannot know whether what it asked for happened, and asks again, maybe the next primary. It gives each
//! request that changes something a name. What was done under a name is kept, and is durable with the change itself, for longer than
//! clients ask again: whoever asks once more is answered from there. A request that failed has changed nothing, and is tried again.

use super::{Entry, FsError, Namespace, Now, Output};
use crate::time::Instant;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How long outcomes are kept, and how many at most: of more than so many requests in that time, the oldest are forgotten.
const KEPT: Duration = Duration::from_secs(300);
const MOST: usize = 100_000;

/// What a request that changes something is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    Entry(Entry),
}

/// What was done under a name, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// In the order in which they happened.
    pub number: u64,
    /// That its client gave it: no other request has it.
    pub name: u128,
    pub answer: Answer,
}

#[derive(Debug, Default)]
pub(super) struct Outcomes {
    by_name: BTreeMap<u128, Answer>,
    /// In the order of their numbers, which is that in which they are forgotten.
    kept: VecDeque<Kept>,
    next_number: u64,
}

#[derive(Debug)]
struct Kept {
    number: u64,
    name: u128,
    until: Instant,
}

impl Outcomes {
    pub fn find(&self, name: u128) -> Option<Answer> {
        self.by_name.get(&name).cloned()
    }

    fn keep(&mut self, now: Instant, outcome: Outcome) {
        let Outcome { number, name, answer } = outcome;
        self.next_number = self.next_number.max(number + 1);
        self.kept.push_back(Kept { number, name, until: now + KEPT });
        self.by_name.insert(name, answer);
        while self.kept.len() > MOST {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some(Kept { name, .. }) = self.kept.pop_front() {
            self.by_name.remove(&name);
        }
    }

    pub fn expire(&mut self, now: Instant) {
        while self.kept.front().is_some_and(|kept| kept.until <= now) {
            self.forget_first();
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        // Nothing hangs on the minute: many go together.
        self.kept.front().map(|kept| kept.until + KEPT / 10)
    }
}

impl Namespace {
    /// Does what a request asks for, unless that was done under its name before.
    ///
    /// # Errors
    /// Those of `act`. Nothing has changed then, and nothing is remembered.
    pub fn once(
        &mut self,
        now: Now,
        name: Option<u128>,
        out: &mut Output,
        act: impl FnOnce(&mut Namespace, &mut Output) -> Result<Answer, FsError>,
    ) -> Result<Answer, FsError> {
        if let Some(answer) = name.and_then(|name| self.outcomes.find(name)) {
            return Ok(answer);
        }
        let answer = act(self, out)?;
        if let Some(name) = name {
            self.remember(now, name, answer.clone(), out);
        }
        Ok(answer)
    }

    pub(super) fn remember(&mut self, now: Now, name: u128, answer: Answer, out: &mut Output) {
        let outcome = Outcome { number: self.outcomes.next_number, name, answer };
        self.outcomes.keep(now.at, outcome.clone());
        out.changes.outcomes.push(outcome);
    }

    /// What was done under an earlier primary, the oldest first.
    pub fn recall(&mut self, now: Now, outcomes: impl IntoIterator<Item = Outcome>) {
        outcomes.into_iter().for_each(|outcome| self.outcomes.keep(now.at, outcome));
    }

    /// The outcomes with numbers in this range that are still kept.
    pub fn outcomes(&self, numbers: std::ops::Range<u64>) -> Vec<Outcome> {
        let kept = &self.outcomes.kept;
        let first = kept.partition_point(|kept| kept.number < numbers.start);
        let those = kept.range(first..).take_while(|kept| kept.number < numbers.end);
        let outcome = |kept: &Kept| {
            let answer = self.outcomes.find(kept.name)?;
            Some(Outcome { number: kept.number, name: kept.name, answer })
        };
        those.filter_map(outcome).collect()
    }
}

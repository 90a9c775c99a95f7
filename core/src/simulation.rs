//! Common driver of all simulations: runs many worlds to their end, checks that required situations occur, and plants defects that the checkers must notice.
//!
//! A failing run names its seed and its steps: `SEED=… STEPS=… cargo test … -- NAME` repeats that run.

use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use std::collections::BTreeMap;
use std::fmt::Debug;

/// What a checker says: the violation that it has seen.
pub(crate) type Verdict = Result<(), String>;

pub(crate) fn check(holds: bool, violation: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(violation()) }
}

/// A world that is a function of its seed.
pub(crate) trait Simulation: Sized {
    type Defect: Copy + Debug;
    /// Steps of runs that look for situations and defects; other runs have any number up to a quarter more.
    const STEPS: u32;
    /// Number of runs of [`holds`]: `make sim SEEDS=…`.
    const RUNS: u32 = 2000;

    /// Runs a world from its beginning to its end.
    ///
    /// # Errors
    /// The violation that the checkers have seen.
    fn run(seed: u64, steps: u32, defect: Option<Self::Defect>) -> Result<Self, String>;

    /// How often each situation occurred.
    fn seen(&self) -> &BTreeMap<&'static str, u64>;
}

/// Asserts that the checkers find no violation in any run.
pub(crate) fn holds<S: Simulation>() {
    if let Some(seed) = number("SEED") {
        expect::<S>(seed, number("STEPS").map_or(S::STEPS, |steps| steps as u32));
        return;
    }
    let cases = number("SEEDS").map_or(S::RUNS, |seeds| seeds as u32);
    // The seed is all there is to persist.
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&(any::<u64>(), 1..=S::STEPS * 5 / 4), |(seed, steps)| {
        S::run(seed, steps, None).map(drop).map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(violation, (seed, steps))) => panic!("seed {seed}, {steps} steps: {violation}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

/// Asserts that a seed always gives the same run, as far as `digest` tells.
pub(crate) fn repeats<S: Simulation, D: PartialEq + Debug>(digest: impl Fn(S) -> D) {
    for seed in 0..10 {
        let run = || digest(expect::<S>(seed, S::STEPS));
        assert_eq!(run(), run(), "seed {seed}");
    }
}

/// Asserts that each of these situations occurs more than once: a simulation proves nothing about situations that do not occur.
pub(crate) fn situations_occur<S: Simulation>(situations: &[&str]) {
    let mut seen = BTreeMap::<&'static str, u64>::new();
    for seed in 0..200 {
        for (&what, &times) in expect::<S>(seed, S::STEPS).seen() {
            *seen.entry(what).or_default() += times;
        }
    }
    for &situation in situations {
        assert!(seen.get(situation).is_some_and(|&times| times >= 20), "too rare: {situation}, in {seen:?}");
    }
}

/// Asserts that the checkers notice each of these defects, with these words.
pub(crate) fn defects_are_noticed<S: Simulation>(defects: &[(S::Defect, &str)]) {
    for &(defect, complaint) in defects {
        // A defect has several consequences; chance decides which one a seed meets first, and some need many coincidences.
        let mut others = Vec::new();
        let found = (0..2_000).filter_map(|seed| S::run(seed, S::STEPS, Some(defect)).err()).any(|found| {
            let is_it = found.contains(complaint);
            others.push(found);
            is_it
        });
        assert!(found, "{defect:?} was noticed as: {others:?}");
    }
}

fn expect<S: Simulation>(seed: u64, steps: u32) -> S {
    S::run(seed, steps, None).unwrap_or_else(|violation| panic!("seed {seed}, {steps} steps: {violation}"))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

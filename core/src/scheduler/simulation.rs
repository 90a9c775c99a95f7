//! The machine under random faults: model executors run what is launched, and a checker that shares no code with the machine watches.
//!
//! Executors die with or without notice, fall silent and come back, drain, restart under their name; leaders die or do not notice their successor, and the next
//! one goes on with some of the jobs; reports are late, doubled or made up; jobs are cancelled and released at any time; tasks fail in every way. Then the
//! faults stop, and every job has to end. A failing run names its seed.

mod checker;
mod world;

use super::{SchedulerConfig, SpeculationConfig};
use crate::simulation::{Simulation, defects_are_noticed, holds, repeats, situations_occur};
use std::collections::BTreeMap;
use std::time::Duration;
use world::World;

/// A defect planted in the machine, to prove that the checker notices it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// A finished attempt is committed although another attempt of its task is live.
    CommitZombies,
    /// The slot of a cancelled attempt is free before its executor says so.
    FreeSlotsEarly,
    /// The outputs of a lost executor are still handed to readers.
    ForgetLostOutputs,
    /// Released results stay where they are.
    LeakResults,
    /// A repeated report of a committed output removes that output.
    RemoveRepeated,
    /// Attempts that a row limit makes superfluous are not told to stop.
    ForgetSuperfluous,
    /// A straggler starts a copy although some of its inputs were lost since its first start.
    CopyWithoutInputs,
    /// A leaving executor is let go while it holds outputs that are needed.
    FarewellBeforeMoved,
    /// An output counts as moved to any executor that claims it.
    TrustAdopters,
    /// Outputs that an executor adopts after they are not wanted stay there.
    LeakAdoptions,
    /// Outputs kept for a job that nobody goes on with stay on their executors.
    LeakUnclaimed,
    /// Outputs of an earlier leader's time count although their executor has not come back.
    TakeOverLost,
    /// A job that an earlier leader began reuses the names of its attempts.
    RepeatAttempts,
    /// Saved stages of a job stay in the store after it has ended.
    LeakSaved,
    /// The store accepts writes of a former leader.
    TrustFormer,
    /// A task that may begin only once begins again.
    RunTwice,
    /// Programs are promised memory that others were promised.
    ForgetMemory,
    /// An executor keeps an output that arrives after it was told to stop fetching, and does not report it.
    KeepUnwanted,
}

impl Simulation for World {
    type Defect = Defect;
    const STEPS: u32 = 400;

    fn run(seed: u64, steps: u32, defect: Option<Defect>) -> Result<Self, String> {
        let config = SchedulerConfig {
            max_recomputes: 3,
            max_uncounted_retries: 10,
            exclude_after: 2,
            hand_back_after: Duration::from_secs(3),
            speculation: Some(SpeculationConfig { quantile: 1, multiplier: 100, after: Duration::from_millis(30) }),
            defect,
            ..SchedulerConfig::default()
        };
        let mut world = World::new(seed, config);
        world.faulty(steps)?;
        world.quiet()?;
        Ok(world)
    }

    fn seen(&self) -> &BTreeMap<&'static str, u64> {
        self.occurred()
    }
}

#[test]
fn invariants_hold_under_faults() {
    holds::<World>();
}

#[test]
fn a_seed_always_gives_the_same_run() {
    repeats(|world: World| world.digest);
}

#[test]
fn every_situation_occurs() {
    situations_occur::<World>(&[
        "beside full slots",
        "program beside full slots",
        "memory full before places",
        "cancelled attempt finished",
        "commit",
        "copy committed",
        "copy stopped",
        "ended in vain",
        "executor came back",
        "excluded",
        "farewell",
        "fetch failed",
        "handed back",
        "job failed",
        "job finished",
        "leader changed",
        "lost with attempts",
        "lost while adopting",
        "lost with outputs",
        "output moved",
        "output not moved",
        "result moved",
        "reopened",
        "reopened at takeover",
        "report fenced",
        "row limit",
        "saved again",
        "saved",
        "speculated",
        "taken over",
        "timed out",
        "two leaders",
    ]);
}

#[test]
fn the_checker_notices_planted_defects() {
    defects_are_noticed::<World>(&[
        (Defect::CommitZombies, "is not live"),
        (Defect::FreeSlotsEarly, "no free slot"),
        (Defect::ForgetLostOutputs, "inputs"),
        (Defect::LeakResults, "still holds"),
        (Defect::RemoveRepeated, "is needed"),
        (Defect::ForgetSuperfluous, "still runs"),
        (Defect::CopyWithoutInputs, "are not complete"),
        (Defect::FarewellBeforeMoved, "which is needed"),
        (Defect::TrustAdopters, "was not to adopt"),
        (Defect::LeakAdoptions, "still holds"),
        (Defect::LeakUnclaimed, "still holds"),
        (Defect::TakeOverLost, "is no member"),
        (Defect::RepeatAttempts, "was launched twice"),
        (Defect::LeakSaved, "is still saved"),
        (Defect::TrustFormer, "under two leaders"),
        (Defect::RunTwice, "begins again"),
        (Defect::ForgetMemory, "more memory"),
        (Defect::KeepUnwanted, "still holds"),
    ]);
}

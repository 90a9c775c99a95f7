//! On which executors replicas go: never two on one, spread over racks, near the writer first, away from full disks.

use super::replicas::{Member, Replicas};
use crate::dice::Dice;
use crate::ids::ExecutorId;
use std::collections::BTreeSet;

/// Place of a writer, near which the first replica goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Near {
    /// The executor that the writer runs on.
    pub executor: Option<ExecutorId>,
    pub host: String,
    pub rack: String,
}

/// Up to `count` executors for replicas beside those on `held`. `reserve`: bytes that must be free.
pub(super) fn choose(
    replicas: &Replicas,
    dice: &mut Dice,
    near: &Near,
    held: &[ExecutorId],
    excluded: &BTreeSet<ExecutorId>,
    reserve: u64,
    count: usize,
) -> Vec<ExecutorId> {
    let mut chosen: Vec<&Member> = held.iter().filter_map(|id| replicas.member(*id)).collect();
    let before = chosen.len();
    let takes = |member: &&Member| {
        let is_staying = !member.draining && member.maintenance.is_none();
        is_staying && member.free > reserve && !excluded.contains(&member.id) && !held.contains(&member.id)
    };
    let mut candidates: Vec<&Member> = replicas.members.values().filter(takes).collect();
    while chosen.len() - before < count && !candidates.is_empty() {
        let racks: BTreeSet<&str> = chosen.iter().map(|member| member.rack.as_str()).collect();
        let best = candidates.iter().map(|member| rank(member, &chosen, &racks, near)).min();
        let best: Vec<usize> =
            (0..candidates.len()).filter(|at| Some(rank(candidates[*at], &chosen, &racks, near)) == best).collect();
        // Takes the one with more room of two at random: fills evenly without sending everything to the emptiest.
        let [one, other] = [dice.roll(), dice.roll()].map(|roll| best[(roll % best.len() as u64) as usize]);
        let at = if candidates[other].free > candidates[one].free { other } else { one };
        chosen.push(candidates.swap_remove(at));
    }
    chosen.into_iter().skip(before).map(|member| member.id).collect()
}

/// Less is better: on the writer's executor or host for the first replica; on another rack for the second; on a rack that is there
/// already for the third, so that a write crosses between racks once; on the rack with the fewest for more; on another host than any
/// replica, where there is one.
fn rank(member: &Member, chosen: &[&Member], racks: &BTreeSet<&str>, near: &Near) -> (bool, u8, u8) {
    let shares_host = chosen.iter().any(|other| other.host == member.host);
    let nearness = match () {
        () if near.executor == Some(member.id) => 0,
        () if !near.host.is_empty() && near.host == member.host => 1,
        () if !near.rack.is_empty() && near.rack == member.rack => 2,
        () => 3,
    };
    let known_rack = racks.contains(member.rack.as_str());
    match chosen.len() {
        0 => (false, nearness, 0),
        // All replicas on one rack: the next one on another.
        _ if racks.len() == 1 => (shares_host, u8::from(known_rack), 0),
        2 => (shares_host, u8::from(!known_rack), 0),
        // As evenly as there are racks.
        _ => (shares_host, chosen.iter().filter(|other| other.rack == member.rack).count() as u8, 0),
    }
}

/// Which of these replicas goes when there are too many: of two on one host or rack one, then that on the fullest disk.
pub(super) fn surplus(replicas: &Replicas, holders: &[ExecutorId]) -> Option<ExecutorId> {
    let members: Vec<&Member> = holders.iter().filter_map(|id| replicas.member(*id)).filter(|m| !m.draining).collect();
    let crowd = |member: &Member| {
        let same = |by: fn(&Member) -> &str| members.iter().filter(|other| by(other) == by(member)).count();
        (same(|m| &m.host), same(|m| &m.rack))
    };
    let key = |member: &&&Member| (crowd(member), member.fullness(), std::cmp::Reverse(member.free), member.id);
    members.iter().max_by_key(key).map(|member| member.id)
}

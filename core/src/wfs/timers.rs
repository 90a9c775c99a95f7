//! What the namespace does because time has passed: one deadline for all of it.

use super::{Namespace, Now, Output};
use crate::time::Instant;

impl Namespace {
    pub fn next_deadline(&self) -> Option<Instant> {
        let expiry = self.leases.next_deadline();
        let decay = (!self.graves.is_empty()).then(Instant::default);
        let leaving = self.departed.next_deadline();
        let recoding = if self.upkeep.is_settling() { None } else { self.recoder.next_deadline() };
        let maintenance = self.replicas.members.values().filter_map(|member| member.maintenance).min();
        let upkeep = self.upkeep.next_deadline(&self.replicas);
        let outcomes = self.outcomes.next_deadline();
        let due = [expiry, decay, leaving, self.trash_due, recoding, maintenance, upkeep, outcomes];
        due.into_iter().flatten().min()
    }

    /// The deadline has come.
    pub fn tick(&mut self, now: Now, out: &mut Output) {
        self.end_leases(now, out);
        if self.trash_due.is_some_and(|at| at <= now.at) {
            self.expire_trash(now, out);
        }
        self.decay(now, out);
        self.end_maintenance(now);
        self.outcomes.expire(now.at);
        self.departed.go(now.at, out);
        self.repair(now, out);
    }
}

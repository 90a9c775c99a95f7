//! The primary, what it makes durable, and the one that follows it.

use super::*;

impl World {
    /// One operation, made durable. `None`: the primary died before it was, and whoever asked hears nothing.
    pub(super) fn operate<T>(&mut self, operation: impl FnOnce(&mut Namespace, Now, &mut Output) -> T) -> Option<T> {
        self.operate_at_risk(300, operation)
    }

    /// What a client asks for, without a name of its own.
    pub(super) fn ask(&mut self, ask: Ask) -> Option<Result<Reply, FsError>> {
        self.operate(|names, now, out| names.step(now, Request { name: None, ask }, out))
    }

    /// The primary dies in one of so many.
    pub(super) fn operate_at_risk<T>(
        &mut self,
        risk: u64,
        operation: impl FnOnce(&mut Namespace, Now, &mut Output) -> T,
    ) -> Option<T> {
        let mut out = Output::default();
        let now = self.told_now();
        let result = operation(&mut self.names, now, &mut out);
        if self.defect == Some(Defect::GoingCounts) {
            self.names.upkeep.going.clear();
        }
        if self.defect == Some(Defect::QuotaForgotten) {
            out.changes.put.iter_mut().for_each(without_quota);
        }
        let dies = self.roll(risk) == 0 && !self.is_quiet;
        if dies {
            let lost = self.roll(2) == 0;
            self.note(format!("primary dies, last change lost: {lost}"));
            self.see(if lost { "change lost" } else { "answer lost" });
            if !lost {
                self.stored.apply(out, self.names.counters());
            }
            self.restart();
            return if self.defect == Some(Defect::ToldEarly) { Some(result) } else { None };
        }
        let orders = self.stored.apply(out, self.names.counters());
        self.send(orders, false);
        Some(result)
    }

    /// The same for the primary that was followed: what it would make durable is refused, and it sees that its time is over.
    pub(super) fn operate_old(&mut self, operation: impl FnOnce(&mut Namespace, Now, &mut Output)) {
        let (now, mut out) = (self.told_now(), Output::default());
        let Some(old) = &mut self.old else { return };
        operation(old, now, &mut out);
        match out.changes.is_empty() {
            true => self.send(out.orders, true),
            false => {
                self.see("former primary refused");
                self.end_old();
            }
        }
    }

    /// The time, as primaries are told.
    fn told_now(&self) -> Now {
        let stands = self.defect == Some(Defect::ClockStands);
        Now { wall_ms: if stands { 1 } else { self.now.wall_ms }, ..self.now }
    }

    pub(super) fn end_old(&mut self) {
        self.note("the former primary stops".into());
        for at in 0..self.executors.len() {
            if self.executors[at].to_old {
                self.detach(at);
            }
        }
        self.old = None;
    }

    fn send(&mut self, orders: Vec<(ExecutorId, Order)>, by_old: bool) {
        let makes = |order: &Order| matches!(order, Order::Copy { .. } | Order::Rebuild { .. } | Order::Recode { .. });
        self.copies += orders.iter().filter(|(_, order)| makes(order)).count() as u64;
        for (name, order) in orders {
            let skipped = match self.defect {
                Some(Defect::NoRepair) => makes(&order),
                Some(Defect::OrdersLost) => !makes(&order),
                _ => false,
            };
            let mut executors = self.executors.iter_mut();
            let executor = executors.find(|executor| executor.name == Some(name) && executor.to_old == by_old);
            if let Some(executor) = executor.filter(|_| !skipped) {
                executor.orders.push_back(order);
            }
        }
    }

    pub(super) fn restart(&mut self) {
        if self.defect == Some(Defect::NumbersAgain) {
            self.stored.counters.next_block = self.stored.counters.next_block.saturating_sub(2).max(1);
        }
        self.end_old();
        let next = self.stored.load(self.names.config().clone(), self.now);
        let before = std::mem::replace(&mut self.names, next);
        // Some of its executors have not heard of the new one either.
        let lives_on = self.roll(3) == 0;
        self.old = lives_on.then_some(before);
        for at in 0..self.executors.len() {
            match lives_on && self.roll(2) == 0 {
                true => self.executors[at].to_old = self.executors[at].name.is_some(),
                false => self.detach(at),
            }
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self) {
        if self.names.next_deadline().is_some_and(|due| due <= self.now.at) {
            let _ = self.operate(|names, now, out| names.tick(now, out));
        }
        if self.old.as_ref().and_then(Namespace::next_deadline).is_some_and(|due| due <= self.now.at) {
            self.operate_old(|names, now, out| names.tick(now, out));
        }
    }
}

fn without_quota(record: &mut Record) {
    if let Kind::Folder(terms) = &mut record.kind {
        terms.quota = Quota::default();
    }
}

//! Executors: what is on their disks, what they say of it, what they are told, and how they fail.

use super::*;

impl World {
    /// Its stream breaks: what was on the way is lost.
    pub(super) fn detach(&mut self, at: usize) {
        let executor = &mut self.executors[at];
        executor.said.clear();
        executor.orders.clear();
        let by_old = std::mem::take(&mut executor.to_old);
        match executor.name.take() {
            Some(name) if by_old => self.operate_old(|names, now, out| names.hear(now, name, Said::Lost, out)),
            Some(name) => _ = self.operate(|names, now, out| names.hear(now, name, Said::Lost, out)),
            None => {}
        }
    }

    pub(super) fn attach(&mut self, at: usize) {
        if self.executors[at].to_old && self.roll(4) == 0 {
            self.detach(at);
        }
        if self.executors[at].name.is_some() || !self.executors[at].up {
            return;
        }
        let name = ExecutorId(self.next_name);
        self.next_name += 1;
        let rack = if at < 3 { "near" } else { "far" };
        let joined = Said::Joined { host: format!("host {at}"), rack: rack.to_string(), away: None };
        self.names.hear(self.now, name, joined, &mut Output::default());
        let executor = &mut self.executors[at];
        executor.name = Some(name);
        let held = executor.disk.iter().filter(|(_, replica)| !replica.found);
        let held = held.map(|(id, replica)| Block { id: *id, bytes: replica.bytes });
        executor.said.push_back(Says::All(held.collect()));
        let found = executor.disk.iter().filter(|(_, replica)| replica.found).map(|(id, _)| Says::Bad(*id));
        executor.said.extend(found);
        self.measure(at);
    }

    /// An executor says how full its disk is.
    pub(super) fn measure(&mut self, at: usize) {
        let used = self.executors[at].disk.values().map(|replica| replica.bytes).sum();
        self.executors[at].said.push_back(Says::Space { used });
    }

    pub(super) fn at(&self, name: ExecutorId) -> Option<usize> {
        self.executors.iter().position(|executor| executor.name == Some(name))
    }

    pub(super) fn hear(&mut self, at: usize) {
        let (Some(name), Some(said)) = (self.executors[at].name, self.executors[at].said.pop_front()) else { return };
        self.note(format!("executor {at} said {said:?}"));
        let report = |report: Report| Said::Report(report);
        let said = match said {
            Says::All(held) => {
                let all = BlockId(0)..=BlockId(u64::MAX);
                report(Report { range: Some(all), held, ..Report::default() })
            }
            Says::Added(block) => report(Report { held: vec![block], ..Report::default() }),
            Says::Bad(block) => report(Report { bad: vec![block], ..Report::default() }),
            Says::Gone(block) => report(Report { gone: vec![block], ..Report::default() }),
            Says::Verified(block, reading) => report(Report { verified: vec![(block, reading)], ..Report::default() }),
            Says::NotCopied(block) => report(Report { not_copied: vec![block], ..Report::default() }),
            Says::Space { used } => Said::Space { used, free: DISK_BYTES.saturating_sub(used) },
        };
        let tell = move |names: &mut Namespace, now: Now, out: &mut Output| names.hear(now, name, said, out);
        match self.executors[at].to_old {
            true => self.operate_old(tell),
            false => _ = self.operate(tell),
        }
    }

    pub(super) fn obey(&mut self, at: usize) {
        if !self.executors[at].up {
            return;
        }
        let Some(order) = self.next_order(at) else { return };
        self.note(format!("executor {at} obeys {order:?}"));
        match order {
            Order::Delete(block) => self.delete(at, block),
            Order::Salvage { block, last } => self.salvage(at, block, last),
            Order::Verify { replica, reading } => self.verify(at, replica, reading),
            Order::Copy { block, from } => {
                let replica = from.iter().find_map(|name| self.read(*name, block.id, block.bytes));
                self.keep(at, block, replica);
            }
            Order::Rebuild(CodedPiece { coding, piece, first, piece_bytes: bytes, holders }) => {
                let others = holders.iter().filter_map(|Holder { executor, piece }| {
                    Some((*piece, self.read(*executor, replicas::replica(first, *piece), bytes)?))
                });
                let too_few = self.defect == Some(Defect::RebuiltFromTooFew);
                let enough = usize::from(coding.data() - u8::from(too_few));
                let others: BTreeMap<u8, OnDisk> = others.take(enough).collect();
                let content = others.values().next().map(|replica| replica.content);
                let content = content.filter(|_| others.len() >= enough);
                // Of fewer something else comes out, and no checksum tells.
                let wrong = u128::from(others.len() < usize::from(coding.data())) << 64;
                let content = content.map(|content| Content { writer: content.writer | wrong, ..content });
                let piece_of = Some((coding, piece));
                let made = content.map(|content| OnDisk::new(bytes, content, piece_of, false));
                if made.is_some() {
                    self.see("piece rebuilt");
                }
                self.keep(at, Block { id: replicas::replica(first, piece), bytes }, made);
            }
            Order::Recode { old, new, coding, targets } => self.cut_up(at, &old, new, coding, &targets),
        }
    }

    /// Replicas are removed at once. What takes time overtakes one another, and is overtaken by that.
    fn next_order(&mut self, at: usize) -> Option<Order> {
        let orders = &self.executors[at].orders;
        let removal = orders.iter().position(|order| matches!(order, Order::Delete(_)));
        let within = removal.map_or(orders.len(), |removal| removal + 1) as u64;
        let which = if self.roll(3) == 0 { self.roll(within.max(1)) as usize } else { 0 };
        self.executors[at].orders.remove(which)
    }

    fn delete(&mut self, at: usize, block: BlockId) {
        let executor = &mut self.executors[at];
        executor.disk.remove(&block);
        executor.said.push_back(Says::Gone(block));
    }

    /// What an executor reads from another one.
    fn read(&self, name: ExecutorId, replica: BlockId, bytes: u64) -> Option<OnDisk> {
        let source = self.executors.get(self.at(name)?)?;
        let found = source.disk.get(&replica).copied();
        found.filter(|replica| source.up && !replica.damaged && replica.bytes == bytes)
    }

    pub(super) fn keep(&mut self, at: usize, block: Block, replica: Option<OnDisk>) {
        let executor = &mut self.executors[at];
        match replica {
            Some(replica) => {
                executor.disk.insert(block.id, replica);
                executor.said.push_back(Says::Added(block));
            }
            None => executor.said.push_back(Says::NotCopied(block.id)),
        }
    }

    fn cut_up(&mut self, at: usize, old: &[Located], new: Block, coding: Option<Coding>, targets: &[ExecutorId]) {
        let Located { block, holders, coded, .. } = &old[0];
        let (read, enough): (BTreeMap<u8, OnDisk>, u8) = match coded {
            None => {
                let whole = holders.iter().find_map(|name| self.read(*name, block.id, block.bytes));
                (whole.map(|replica| (0, replica)).into_iter().collect(), 1)
            }
            Some(CodedPiece { coding, first, piece_bytes, holders, .. }) => {
                let pieces = holders.iter().filter_map(|Holder { executor, piece }| {
                    Some((*piece, self.read(*executor, replicas::replica(*first, *piece), *piece_bytes)?))
                });
                (pieces.collect(), coding.data())
            }
        };
        let content = read.values().next().map(|replica| replica.content);
        let Some(content) = content.filter(|_| read.len() >= usize::from(enough)) else {
            return self.executors[at].said.push_back(Says::NotCopied(new.id));
        };
        let breaks_off = if self.roll(5) == 0 { self.roll(targets.len() as u64) as usize } else { targets.len() };
        let mut failed = breaks_off < targets.len();
        for (place, name) in targets.iter().enumerate().take(breaks_off) {
            let Some(target) = self.at(*name).filter(|at| self.executors[*at].up) else {
                failed = true;
                continue;
            };
            let piece = coding.map(|coding| (coding, place as u8));
            let block = Block {
                id: replicas::replica(new.id, piece.map_or(0, |(_, piece)| piece)),
                bytes: coding.map_or(new.bytes, |coding| coding.piece_bytes(new.bytes)),
            };
            let lied = self.defect == Some(Defect::CodedEarly) && place > 0;
            let replica = OnDisk::new(block.bytes, content, piece, lied);
            self.keep(target, block, Some(replica));
        }
        if failed {
            self.executors[at].said.push_back(Says::NotCopied(new.id));
        }
    }

    /// An executor reads a replica of its own.
    pub(super) fn look(&mut self, at: usize, block: BlockId) {
        let executor = &mut self.executors[at];
        if let Some(replica) = executor.disk.get_mut(&block).filter(|replica| replica.damaged && !replica.found) {
            replica.found = true;
            executor.said.push_back(Says::Bad(block));
        }
    }

    /// The same, as it was told.
    fn verify(&mut self, at: usize, block: BlockId, reading: u64) {
        let not_read = self.defect == Some(Defect::NotRead);
        let reading = if self.defect == Some(Defect::GoingCounts) { u64::MAX } else { reading };
        let executor = &mut self.executors[at];
        match executor.disk.get(&block) {
            None => executor.said.push_back(Says::Gone(block)),
            Some(replica) if replica.found => executor.said.push_back(Says::Bad(block)),
            Some(replica) if replica.damaged && !not_read => self.look(at, block),
            Some(_) => executor.said.push_back(Says::Verified(block, reading)),
        }
    }

    /// Makes a replica as long as it is to be, if its first bytes are right.
    fn salvage(&mut self, at: usize, block: Block, last: bool) {
        let garbage = self.defect == Some(Defect::LongerIsGarbage);
        let Some(replica) = self.executors[at].disk.get_mut(&block.id) else { return };
        let fits = !replica.damaged && replica.bytes >= block.bytes && !(garbage && replica.bytes > block.bytes);
        if fits {
            replica.bytes = block.bytes;
            if replica.piece.is_none() {
                replica.content.bytes = replica.content.bytes.min(block.bytes);
            }
            self.executors[at].said.push_back(Says::Added(block));
        } else if !last || garbage {
            self.delete(at, block.id);
        } else if !std::mem::replace(&mut replica.found, true) {
            self.executors[at].said.push_back(Says::Bad(block.id));
        }
    }

    /// Whether all that was promised can be had without an executor, from replicas that others have, that files have, and that nobody was
    /// told to remove.
    fn can_spare(&self, at: usize) -> bool {
        let wanted: BTreeSet<BlockId> = self.stored.records.values().flat_map(replicas_of).collect();
        let going = |executor: &Executor, id: &BlockId| {
            executor.orders.iter().any(|order| matches!(order, Order::Delete(gone) if gone == id))
        };
        let others = self.executors.iter().enumerate().filter(|(other, _)| *other != at);
        let others = others.map(|(_, executor)| {
            let stays = |(id, _): &(&BlockId, &OnDisk)| wanted.contains(id) && !going(executor, id);
            let disk = executor.disk.iter().filter(stays).map(|(id, replica)| (*id, *replica)).collect();
            let (said, orders) = Default::default();
            Executor { name: None, to_old: false, up: true, disk, said, orders }
        });
        let others: Vec<Executor> = others.collect();
        let in_trash = self.trashed.values().map(|trashed| &trashed.promise);
        let promised = self.promised.values().chain(in_trash).flat_map(|promise| promise.0.iter().copied());
        let open = self.writes.iter().flat_map(|write| contents(write.writer, &write.blocks));
        promised.chain(open).all(|content| self.is_on(content, others.iter()))
    }

    /// Whether others may be about to go because this replica was read.
    fn is_relied_on(&self, replica: BlockId) -> bool {
        let relies = |names: &Namespace| {
            names.replicas.block_of(replica).is_some_and(|(block, _)| names.upkeep.vouching.is_relied_on(block))
        };
        relies(&self.names) || self.old.as_ref().is_some_and(relies)
    }

    pub(super) fn fault(&mut self) {
        let at = self.roll(EXECUTORS) as usize;
        match self.roll(14) {
            0..=3 => self.detach(at),
            4..=6 => self.go_down(at),
            // No replica is lost by that, however many there are of it.
            10 | 12 | 13 => {
                self.note(format!("replicas of executor {at} become longer"));
                let more = 1 + self.roll(100);
                self.executors[at].disk.values_mut().for_each(|replica| replica.bytes += more);
                self.go_down(at);
            }
            11 if self.can_spare(at) => {
                self.note(format!("replicas of executor {at} become shorter"));
                let left = self.roll(2);
                for replica in self.executors[at].disk.values_mut() {
                    (replica.bytes, replica.damaged) = (replica.bytes / 2 * left, true);
                }
                self.go_down(at);
            }
            7 if self.can_spare(at) => {
                self.note(format!("the disk of executor {at} is lost"));
                self.executors[at].disk.clear();
                self.detach(at);
            }
            8 if self.can_spare(at) => {
                let count = self.executors[at].disk.len() as u64;
                let which = self.roll(count.max(1)) as usize;
                let which = self.executors[at].disk.keys().nth(which).copied();
                if let Some(which) = which.filter(|which| !self.is_relied_on(*which)) {
                    self.note(format!("{which} on executor {at} is damaged"));
                    self.executors[at].disk.entry(which).and_modify(|replica| replica.damaged = true);
                }
            }
            _ => {
                self.note("primary dies".into());
                self.restart();
            }
        }
    }

    /// What its process knew of its replicas is forgotten.
    fn go_down(&mut self, at: usize) {
        self.note(format!("executor {at} goes down"));
        self.executors[at].up = false;
        self.executors[at].disk.values_mut().for_each(|replica| replica.found = false);
        self.detach(at);
    }
}

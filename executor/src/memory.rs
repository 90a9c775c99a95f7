//! The executor's memory: one pool, shared by the launched groups of tasks.
//!
//! DataFusion's `GreedyMemoryPool` lets the first operator take everything, so the next one fails instead of spilling; its `FairSpillPool` divides the memory
//! by the number of operators that can spill, so a lone sort spills beside unused memory. Here running tasks share the memory that the exchange does not hold.
//! A task's operators that cannot spill take their memory from its share first; the rest is divided among those that can. An operator that can spill
//!
//! - is sure of a part of the last eighth of the pool, into which no other may grow;
//! - gets its part of its task's share as long as there is memory at all, and so gets its first request, however large: an operator that holds nothing has
//!   nothing to spill;
//! - borrows beyond that while a quarter of the pool stays free; for a sort both limits are halved, because its merge takes the other half.
//!
//! Memory cannot be taken back from an operator, so borrowing is bounded. A borrower that is refused spills everything, and from then on holds no more than its
//! part if others have come. Operators that cannot spill are served first come, first served, up to the last eighth: spilling makes room for them. Merges of
//! spilled runs are among these. They use any extra memory to read more runs at a time, and can do with less: beyond their part of a half, and beyond what
//! their sort has held, they leave a half to operators that cannot do with less, such as those that merge or write their output. When the resident memory of
//! the process comes close to its limit, operators that can spill keep half of their part. An aggregate that has spilled merges its runs and groups them again
//! under one name, and cannot spill a second time: it leaves the last eighth to these second tables of groups, its own and others'.

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, human_readable_size,
};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::Arc;

/// Divisors of the pool: the part that operators that can spill are sure of together, and the part that borrowers leave free.
const SURE: usize = 8;
const UNBORROWED: usize = 4;
/// Divisor of the pool: the part that merges of sorts share. They hold more only while as much is free.
const MERGES: usize = 2;
/// DataFusion's names of sorts and their merges; the number of the partition follows.
const SORTING: &str = "ExternalSorter";
const MERGING: &str = "ExternalSorterMerge";
/// DataFusion's names of aggregates that merge their spilled runs and group them again.
const GROUPING: [&str; 4] = [
    "FinalHashAggregateStream",
    "OrderedFinalAggregateStream",
    "SingleHashAggregateStream",
    "GroupedHashAggregateStream",
];
/// Maximum consumers that a refusal names, largest first.
const NAMED: usize = 4;

/// The memory of one executor process, in bytes.
#[derive(Debug)]
pub(crate) struct ExecutorMemory {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    /// Whether the process holds almost as much as it may, whatever its operators have reserved.
    tight: bool,
    next: u64,
    groups: BTreeMap<u64, Group>,
}

#[derive(Debug)]
struct Group {
    name: String,
    /// Number of tasks in the group. Zero: memory of no task, without a share.
    tasks: usize,
    /// Consumers by DataFusion's number.
    consumers: BTreeMap<usize, Consumer>,
}

#[derive(Debug)]
struct Consumer {
    name: String,
    can_spill: bool,
    bytes: usize,
    /// Maximum bytes that it has held.
    peak: usize,
}

impl ExecutorMemory {
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(ExecutorMemory { limit, state: Mutex::default() })
    }

    /// Creates a pool for `tasks` tasks that run together; 0 for memory of no task.
    pub fn group(self: &Arc<Self>, name: impl Into<String>, tasks: usize) -> Arc<GroupPool> {
        let mut state = self.state.lock();
        state.next += 1;
        let id = state.next;
        state.groups.insert(id, Group { name: name.into(), tasks, consumers: BTreeMap::new() });
        Arc::new(GroupPool { memory: Arc::clone(self), id })
    }

    pub fn used(&self) -> usize {
        self.state.lock().used
    }

    /// Sets whether operators must spill because of memory that nobody has reserved.
    pub fn press(&self, tight: bool) {
        self.state.lock().tight = tight;
    }
}

impl State {
    /// Maximum bytes of the whole pool when a consumer of `group` would hold `wanted` bytes. A consumer may have several reservations; the asking one would
    /// then hold `reserved` bytes.
    fn ceiling(&self, limit: usize, group: &Group, id: usize, wanted: usize, reserved: usize) -> usize {
        let first = group.held(id) == 0;
        let of_tasks = || self.groups.values().filter(|group| group.tasks > 0);
        let spillers = of_tasks().map(Group::spillers).sum::<usize>();
        let sure = limit / SURE / spillers.max(1);
        let can_spill = group.consumers.get(&id).is_some_and(|consumer| consumer.can_spill);
        if can_spill && group.tasks > 0 && wanted <= sure {
            return limit;
        }
        let others = of_tasks().flat_map(|group| &group.consumers).filter(|(other, of)| of.can_spill && **other != id);
        let promised: usize = others.map(|(_, consumer)| sure.saturating_sub(consumer.bytes)).sum();
        let unpromised = limit.saturating_sub(promised);
        if let Some(held) = group.merges_spilled_runs(id) {
            let merges = of_tasks().flat_map(|group| group.consumers.values()).filter(|of| of.merges()).count();
            let part = limit / MERGES / merges.max(1);
            let is_due = reserved <= part || first || wanted <= held;
            return if is_due { unpromised } else { unpromised.min(limit - limit / MERGES) };
        }
        if !can_spill {
            return unpromised;
        }
        let groups = group.consumers.get(&id).is_some_and(Consumer::groups);
        // An aggregate's merge holds memory beside that of its table.
        if groups && wanted > reserved {
            return unpromised;
        }
        // A merge of a sort's data takes about as much again, and is asked for when the sort is full.
        let sorts = group.consumers.get(&id).is_some_and(|consumer| consumer.name.starts_with(SORTING));
        let (part, borrowed) = match sorts {
            true => (self.part(limit, group) / 2, limit / 2),
            false => (self.part(limit, group), limit - limit / UNBORROWED),
        };
        if self.tight && wanted > (part / 2).max(sure) {
            return 0;
        }
        match wanted <= part || first {
            true if groups => unpromised.min(limit - limit / SURE),
            true => unpromised,
            false => unpromised.min(borrowed),
        }
    }

    /// Bytes that one of the group's operators that can spill may hold without borrowing.
    fn part(&self, limit: usize, group: &Group) -> usize {
        let (mut outside, mut tasks) = (0, 0);
        for group in self.groups.values() {
            match group.tasks {
                0 => outside += group.used(),
                _ if group.consumers.is_empty() => {}
                count => tasks += count,
            }
        }
        let share = limit.saturating_sub(outside) / tasks.max(1) * group.tasks;
        let fixed: usize = group.consumers.values().filter(|of| !of.can_spill).map(|of| of.bytes).sum();
        share.saturating_sub(fixed) / group.spillers().max(1)
    }

    fn resize(&mut self, group: u64, consumer: &MemoryConsumer, change: impl Fn(usize) -> usize) {
        self.used = change(self.used);
        if let Some(consumer) = self.groups.get_mut(&group).and_then(|group| group.consumers.get_mut(&consumer.id())) {
            consumer.bytes = change(consumer.bytes);
            consumer.peak = consumer.peak.max(consumer.bytes);
        }
    }
}

impl Consumer {
    /// Whether it merges what a sort has in memory or has spilled.
    fn merges(&self) -> bool {
        self.name.starts_with(MERGING)
    }

    fn groups(&self) -> bool {
        GROUPING.iter().any(|name| self.name.starts_with(name))
    }
}

impl Group {
    /// Bytes that its sort has held, if it may be a merge of spilled runs. While a sort holds memory, its merge reads from that. A sort releases that memory
    /// before its merge reserves it, so a merge may always hold as much.
    fn merges_spilled_runs(&self, id: usize) -> Option<usize> {
        let partition = self.consumers.get(&id)?.name.strip_prefix(MERGING)?;
        let is_its_sort = |of: &&Consumer| of.name.strip_prefix(SORTING) == Some(partition);
        let sorts = || self.consumers.values().filter(is_its_sort);
        sorts().all(|sort| sort.bytes == 0).then(|| sorts().map(|sort| sort.peak).max().unwrap_or(0))
    }

    /// Bytes that a consumer holds.
    fn held(&self, id: usize) -> usize {
        self.consumers.get(&id).map_or(0, |consumer| consumer.bytes)
    }

    fn spillers(&self) -> usize {
        self.consumers.values().filter(|consumer| consumer.can_spill).count()
    }

    fn used(&self) -> usize {
        self.consumers.values().map(|consumer| consumer.bytes).sum()
    }
}

/// The pool of tasks that run together, or of memory of no task.
#[derive(Debug)]
pub(crate) struct GroupPool {
    memory: Arc<ExecutorMemory>,
    id: u64,
}

impl GroupPool {
    /// Bytes that its consumers hold.
    pub fn used(&self) -> usize {
        self.memory.state.lock().groups.get(&self.id).map_or(0, Group::used)
    }
}

impl Drop for GroupPool {
    fn drop(&mut self) {
        // No reservation is left: each of them holds the pool.
        self.memory.state.lock().groups.remove(&self.id);
    }
}

impl MemoryPool for GroupPool {
    fn name(&self) -> &str {
        "executor"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        let made = Consumer { name: consumer.name().to_string(), can_spill: consumer.can_spill(), bytes: 0, peak: 0 };
        if let Some(group) = self.memory.state.lock().groups.get_mut(&self.id) {
            group.consumers.insert(consumer.id(), made);
        }
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        if let Some(group) = self.memory.state.lock().groups.get_mut(&self.id) {
            group.consumers.remove(&consumer.id());
        }
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.memory.state.lock().resize(self.id, reservation.consumer(), |bytes| bytes.saturating_add(additional));
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.memory.state.lock().resize(self.id, reservation.consumer(), |bytes| bytes.saturating_sub(shrink));
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let (limit, consumer) = (self.memory.limit, reservation.consumer());
        let mut state = self.memory.state.lock();
        let Some(group) = state.groups.get(&self.id) else { return Ok(()) };
        let held = group.held(consumer.id());
        let reserved = reservation.size().saturating_add(additional);
        let ceiling = state.ceiling(limit, group, consumer.id(), held.saturating_add(additional), reserved);
        if state.used.saturating_add(additional) <= ceiling {
            state.resize(self.id, consumer, |bytes| bytes + additional);
            return Ok(());
        }
        let free = ceiling.saturating_sub(state.used);
        Err(refused(&state, limit, consumer.name(), held, additional, free))
    }

    fn reserved(&self) -> usize {
        self.memory.used()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.memory.limit)
    }
}

fn refused(state: &State, limit: usize, name: &str, held: usize, wanted: usize, free: usize) -> DataFusionError {
    let mut largest: Vec<(&Group, &Consumer)> =
        state.groups.values().flat_map(|group| group.consumers.values().map(move |of| (group, of))).collect();
    largest.retain(|(_, consumer)| consumer.bytes > 0);
    largest.sort_by_key(|(_, consumer)| std::cmp::Reverse(consumer.bytes));
    let mut text = format!(
        "{name} asked for {} beside the {} it has, and {} of the executor's {} were free for it",
        human_readable_size(wanted),
        human_readable_size(held),
        human_readable_size(free),
        human_readable_size(limit)
    );
    for (index, (group, consumer)) in largest.into_iter().take(NAMED).enumerate() {
        let before = if index == 0 { "; most is held by" } else { "," };
        // Writing to a string does not fail.
        let _ = write!(text, "{before} {} of {} ({})", consumer.name, group.name, human_readable_size(consumer.bytes));
    }
    text.push_str("; give executors more memory or fewer slots (--memory, --slots), or cut the statement into more tasks (SET windlass.tasks_per_slot)");
    DataFusionError::ResourcesExhausted(text)
}

impl fmt::Display for GroupPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (used, limit) = (human_readable_size(self.reserved()), human_readable_size(self.memory.limit));
        write!(f, "{}(used: {used}, limit: {limit})", self.name())
    }
}

/// Resident memory of this process in bytes, without pages of files: the system drops those when it needs room, and how many of the program's own pages are
/// resident depends on who has read them. 0 where the system does not tell.
pub(crate) fn resident_bytes() -> u64 {
    // Pages have 4 KiB on every release target that has /proc.
    const PAGE: u64 = 4 << 10;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = statm.split_whitespace().map(|pages| pages.parse::<u64>().unwrap_or(0));
    let (resident, of_files) = (pages.nth(1).unwrap_or(0), pages.next().unwrap_or(0));
    resident.saturating_sub(of_files) * PAGE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(pool: &Arc<GroupPool>, name: &str, can_spill: bool) -> MemoryReservation {
        let pool: Arc<dyn MemoryPool> = pool.clone();
        MemoryConsumer::new(name).with_can_spill(can_spill).register(&pool)
    }

    fn spiller(pool: &Arc<GroupPool>) -> MemoryReservation {
        consumer(pool, "sort", true)
    }

    #[test]
    fn a_lone_spiller_has_all_and_idle_ones_take_only_what_they_are_sure_of() {
        let task = ExecutorMemory::new(800).group("task", 1);
        let busy = spiller(&task);
        busy.try_grow(800).unwrap();
        busy.free();
        let _idle: Vec<_> = (0..9).map(|_| spiller(&task)).collect();
        busy.try_grow(600).unwrap();
        assert!(busy.try_grow(1).is_err(), "a quarter stays free of borrowers");
    }

    #[test]
    fn every_spiller_gets_its_sure_part_whatever_others_borrow() {
        let memory = ExecutorMemory::new(800);
        let (first, second) = (memory.group("first", 1), memory.group("second", 1));
        let borrower = spiller(&first);
        let late: Vec<_> = (0..4).map(|_| spiller(&second)).collect();
        borrower.try_grow(600).unwrap();
        let table = consumer(&second, "hash join", false);
        assert!(table.try_grow(121).is_err(), "four spillers are sure of 20 bytes each");
        table.try_grow(120).unwrap();
        for spiller in &late {
            spiller.try_grow(20).unwrap();
        }
        assert!(late[0].try_grow(1).is_err());
        assert_eq!(memory.used(), 800);
    }

    #[test]
    fn spillers_keep_half_of_their_part_while_the_process_is_short_of_memory() {
        let memory = ExecutorMemory::new(800);
        let task = memory.group("task", 1);
        let (one, other) = (spiller(&task), consumer(&task, "hash join", false));
        one.try_grow(400).unwrap();
        memory.press(true);
        assert!(one.try_grow(1).is_err(), "what is beyond half of its part is to go to files");
        other.try_grow(100).expect("what cannot spill is for the watchdog to judge");
        memory.press(false);
        one.try_grow(100).unwrap();
    }

    #[test]
    fn merges_leave_room_for_what_cannot_do_with_less() {
        let task = ExecutorMemory::new(1_600).group("task", 1);
        let merge = || consumer(&task, "ExternalSorterMerge[0]", false);
        let (first, second) = (merge(), merge());
        first.try_grow(800).unwrap();
        assert!(first.try_grow(1).is_err(), "a half is for others");
        second.try_grow(200).expect("less than its part of a half");
    }

    #[test]
    fn who_holds_nothing_is_given_its_first_batch() {
        let task = ExecutorMemory::new(1_600).group("task", 1);
        let sorts: Vec<_> = (0..4).map(|number| consumer(&task, &format!("ExternalSorter[{number}]"), true)).collect();
        sorts[0].try_grow(600).unwrap();
        sorts[1].try_grow(600).expect("more than its part, and the first");
        assert!(sorts[1].try_grow(100).is_err(), "it can spill now");
        assert!(sorts[2].try_grow(400).is_err(), "what others are sure of is theirs");
    }

    #[test]
    fn an_aggregate_that_merges_its_runs_has_room_to_group_them_again() {
        let task = ExecutorMemory::new(1_600).group("task", 2);
        let aggregate = |partition: usize| consumer(&task, &format!("FinalHashAggregateStream[{partition}]"), true);
        let (first, second) = (aggregate(0), aggregate(1));
        let (first_table, second_table) = (first.new_empty(), second.new_empty());
        first.try_grow(1_200).expect("it borrows while a quarter is free");
        second.try_grow(200).unwrap();
        assert!(second.try_grow(1).is_err(), "the last eighth is for tables");
        first_table.try_grow(150).expect("it cannot spill");
        second_table.try_grow(50).expect("it cannot spill either");
    }

    #[test]
    fn tasks_have_equal_shares_less_what_cannot_spill() {
        let memory = ExecutorMemory::new(800);
        let exchange = consumer(&memory.group("exchange", 0), "exchange", true);
        exchange.try_grow(200).unwrap();
        let (one, two) = (memory.group("one", 1), memory.group("two", 2));
        let (table, sort, other) = (consumer(&one, "hash join", false), spiller(&one), spiller(&two));
        table.try_grow(50).unwrap();
        // The first group's share is a third of 600 bytes, of which 50 are taken.
        let state = memory.state.lock();
        let parts: Vec<usize> = state.groups.values().map(|group| state.part(800, group)).collect();
        assert_eq!(parts, [0, 150, 400]);
        drop((state, sort, other));
    }

    #[test]
    fn a_refusal_names_who_asked_for_how_much_and_who_has_it() {
        let memory = ExecutorMemory::new(64 << 20);
        let task = memory.group("stage job-1.0", 1);
        let (table, other) = (consumer(&task, "HashJoinInput", false), consumer(&task, "NestedLoop", false));
        table.try_grow(60 << 20).unwrap();
        let message = other.try_grow(10 << 20).unwrap_err().to_string();
        for part in
            ["NestedLoop asked for 10.0 MB", "4.0 MB of the executor's 64.0 MB", "HashJoinInput of stage", "--memory"]
        {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
    }

    #[test]
    fn what_was_held_comes_back_with_the_group() {
        let memory = ExecutorMemory::new(100);
        let task = memory.group("task", 1);
        let (one, mut two) = (spiller(&task), spiller(&task));
        one.try_grow(10).unwrap();
        two.try_grow(5).unwrap();
        let split = (one.split(4), two.take());
        assert_eq!((task.used(), memory.used()), (15, 15));
        drop((one, two, split));
        assert_eq!(task.used(), 0);
        drop(task);
        assert!(memory.state.lock().groups.is_empty());
    }
}

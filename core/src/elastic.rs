//! Decides how many executors a cluster needs: a pure machine that looks at the load and says which executors to start and which to let go.
//!
//! ```text
//! tasks wait ──for `backlog`──> start what they need, up to `max`
//! an executor is idle ──for `idle`──> let it go, down to `min` and to what the others cannot do
//! ```

use crate::ids::ExecutorId;
use crate::time::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElasticConfig {
    /// Minimum executors in all, those that others started included.
    pub min: u32,
    pub max: u32,
    /// Slots of each executor that is started.
    pub slots: u32,
    /// Time that tasks wait before executors are started for them.
    pub backlog: Duration,
    /// Time that an executor runs nothing before it is let go.
    pub idle: Duration,
}

/// The cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Tasks that could start if there were slots.
    pub pending: u64,
    /// Attempts that hold a slot in the whole cluster.
    pub running: u64,
    /// Executors by id, without those that are leaving.
    pub executors: Vec<Member>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: ExecutorId,
    pub name: String,
    pub slots: u32,
    /// Attempts that hold a slot on this executor.
    pub running: u64,
}

/// The slots and executors that the cluster needs, and the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Running tasks plus tasks that could run.
    pub slots: u64,
    pub executors: u32,
    pub reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Tasks wait for slots.
    Pending,
    /// Exactly what the running tasks need.
    Running,
    /// Fewer executors would do, but `min` forbids it.
    Minimum,
    /// More executors would help, but `max` forbids it.
    Maximum,
    /// Nothing runs and nothing waits.
    Idle,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Pending => "pending",
            Reason::Running => "running",
            Reason::Minimum => "minimum",
            Reason::Maximum => "maximum",
            Reason::Idle => "idle",
        }
    }
}

/// Executors to start and to let go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub demand: Demand,
    /// Executors to start.
    pub start: u32,
    /// Executors to let go.
    pub retire: Vec<ExecutorId>,
}

impl Load {
    /// Returns the demand in executors of `slots` slots each.
    pub fn demand(&self, min: u32, max: u32, slots: u32) -> Demand {
        let wanted = self.pending + self.running;
        let executors = u32::try_from(wanted.div_ceil(u64::from(slots.max(1)))).unwrap_or(u32::MAX);
        let reason = match () {
            () if executors > max => Reason::Maximum,
            () if self.pending > 0 => Reason::Pending,
            () if executors < min => Reason::Minimum,
            () if self.running > 0 => Reason::Running,
            () => Reason::Idle,
        };
        Demand { slots: wanted, executors: executors.clamp(min.min(max), max), reason }
    }
}

#[derive(Debug)]
pub struct Elastic {
    config: ElasticConfig,
    /// When tasks began to wait.
    waiting: Option<Instant>,
    /// When each idle executor became idle.
    idle: BTreeMap<ExecutorId, Instant>,
}

impl Elastic {
    pub fn new(config: ElasticConfig) -> Self {
        Elastic { config, waiting: None, idle: BTreeMap::new() }
    }

    /// Decides from the load. `starting` counts executors that were started and have not joined; `may_go` says which executors may be let go.
    pub fn look(&mut self, now: Instant, load: &Load, starting: u32, may_go: impl Fn(&Member) -> bool) -> Decision {
        let ElasticConfig { min, max, slots, backlog, idle } = self.config;
        let demand = load.demand(min, max, slots);
        let there = u32::try_from(load.executors.len()).unwrap_or(u32::MAX).saturating_add(starting);

        self.waiting = (load.pending > 0).then(|| self.waiting.unwrap_or(now));
        let waited = self.waiting.is_some_and(|since| now.since(since) >= backlog);
        let wanted = if waited { demand.executors } else { min };
        let start = wanted.min(max).saturating_sub(there);

        let before = std::mem::take(&mut self.idle);
        let resting = load.executors.iter().filter(|member| member.running == 0);
        self.idle = resting.map(|member| (member.id, before.get(&member.id).copied().unwrap_or(now))).collect();
        let surplus = there.saturating_sub(demand.executors.max(min)) as usize;
        let mut retire: Vec<(Instant, ExecutorId)> = Vec::new();
        if load.pending == 0 {
            let may_go = load.executors.iter().filter(|member| may_go(member));
            let rested = may_go.filter_map(|member| Some((*self.idle.get(&member.id)?, member.id)));
            retire.extend(rested.filter(|(since, _)| now.since(*since) >= idle));
        }
        retire.sort_unstable();
        Decision { demand, start, retire: retire.into_iter().take(surplus).map(|(_, id)| id).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(pending: u64, running: &[u64]) -> Load {
        let member = |(id, &running): (u64, &u64)| Member {
            id: ExecutorId(id),
            name: format!("executor {id}"),
            slots: 2,
            running,
        };
        Load { pending, running: running.iter().sum(), executors: (1..).zip(running).map(member).collect() }
    }

    fn elastic(min: u32, max: u32) -> Elastic {
        let (backlog, idle) = (Duration::from_secs(1), Duration::from_secs(10));
        Elastic::new(ElasticConfig { min, max, slots: 2, backlog, idle })
    }

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000)
    }

    #[test]
    fn tasks_that_wait_get_executors_up_to_the_maximum_and_not_twice() {
        let mut elastic = elastic(1, 4);
        let mut look = |now, load: &Load, starting| elastic.look(at(now), load, starting, |_| true);
        assert_eq!(look(0, &load(5, &[2]), 0).start, 0, "it has just begun to wait");
        let decision = look(1, &load(5, &[2]), 0);
        assert_eq!((decision.start, decision.demand.slots, decision.demand.reason), (3, 7, Reason::Pending));
        assert_eq!(look(2, &load(5, &[2]), 3).start, 0, "they are on their way");
        assert_eq!(look(3, &load(100, &[2]), 1).start, 2, "one of them did not come");
        assert_eq!(look(3, &load(100, &[2, 2, 2, 2]), 0).demand.reason, Reason::Maximum);
    }

    #[test]
    fn idle_executors_go_down_to_the_minimum_longest_idle_first() {
        let mut elastic = elastic(1, 4);
        let mut look = |now, load: &Load| elastic.look(at(now), load, 0, |member| member.id != ExecutorId(1));
        assert!(look(0, &load(0, &[0, 1, 0, 0])).retire.is_empty());
        assert!(look(9, &load(0, &[0, 0, 0, 1])).retire.is_empty(), "not idle for long enough");
        // The first executor may not go, the second has been idle since 9 s, the fourth has worked since.
        assert_eq!(look(10, &load(0, &[0, 0, 0, 0])).retire, [ExecutorId(3)]);
        assert_eq!(look(19, &load(0, &[0, 0, 0, 0])).retire, [ExecutorId(3), ExecutorId(2)]);
        let decision = look(30, &load(0, &[0, 0, 0, 0]));
        assert_eq!(decision.retire, [ExecutorId(3), ExecutorId(2), ExecutorId(4)]);
        assert_eq!((decision.demand.executors, decision.demand.reason), (1, Reason::Minimum));
        assert!(look(31, &load(1, &[0, 0, 0, 0])).retire.is_empty(), "a task waits");
    }

    #[test]
    fn the_minimum_is_there_without_any_load() {
        let mut elastic = elastic(2, 4);
        assert_eq!(elastic.look(at(0), &load(0, &[]), 0, |_| true).start, 2);
        assert_eq!(elastic.look(at(0), &load(0, &[0]), 1, |_| true).start, 0);
    }

    #[test]
    fn what_others_still_do_keeps_as_many() {
        let mut elastic = elastic(0, 4);
        elastic.look(at(0), &load(0, &[2, 2, 0, 0]), 0, |_| true);
        let decision = elastic.look(at(60), &load(0, &[2, 2, 0, 0]), 0, |_| true);
        assert_eq!((decision.retire.len(), decision.demand.reason), (2, Reason::Running));
        let idle = elastic.look(at(61), &load(0, &[0, 0]), 0, |_| true).demand;
        assert_eq!((idle.slots, idle.executors, idle.reason), (0, 0, Reason::Idle));
    }
}

//! The tasks of a stage that wait for a slot, by partition and, where the stage names hosts, by host.

use crate::job::StageSpec;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(super) struct Pending {
    all: BTreeSet<u32>,
    /// Index by host, only for stages that name hosts.
    local: Option<Box<Local>>,
}

#[derive(Debug, Default)]
struct Local {
    /// Tasks by preferred host; a task stands with each host that it prefers.
    by_host: BTreeMap<String, BTreeSet<u32>>,
    anywhere: BTreeSet<u32>,
}

impl Pending {
    pub fn new(spec: &StageSpec) -> Self {
        let mut pending = Pending { all: BTreeSet::new(), local: None };
        if spec.preferences.iter().any(|p| !p.hosts.is_empty()) {
            pending.local = Some(Box::default());
        }
        if pending.local.is_none() {
            pending.all = (0..spec.tasks).collect();
        } else {
            (0..spec.tasks).for_each(|partition| pending.insert(partition, spec));
        }
        pending
    }

    pub fn insert(&mut self, partition: u32, spec: &StageSpec) {
        self.all.insert(partition);
        let Some(local) = &mut self.local else { return };
        let hosts = hosts(spec, partition);
        if hosts.is_empty() {
            local.anywhere.insert(partition);
        }
        for host in hosts {
            match local.by_host.get_mut(host) {
                Some(waiting) => waiting.insert(partition),
                None => local.by_host.entry(host.clone()).or_default().insert(partition),
            };
        }
    }

    pub fn remove(&mut self, partition: u32, spec: &StageSpec) {
        self.all.remove(&partition);
        let Some(local) = &mut self.local else { return };
        local.anywhere.remove(&partition);
        for host in hosts(spec, partition) {
            if let Some(waiting) = local.by_host.get_mut(host) {
                waiting.remove(&partition);
                if waiting.is_empty() {
                    local.by_host.remove(host);
                }
            }
        }
    }

    /// Empties the queue and returns its tasks.
    pub fn take(&mut self) -> BTreeSet<u32> {
        if let Some(local) = &mut self.local {
            **local = Local::default();
        }
        std::mem::take(&mut self.all)
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.all.iter().copied()
    }

    /// Whether the stage names hosts.
    pub fn names_hosts(&self) -> bool {
        self.local.is_some()
    }

    /// Tasks without a preferred host, in a stage that names hosts.
    pub fn anywhere(&self) -> impl Iterator<Item = u32> {
        self.local.iter().flat_map(|local| local.anywhere.iter().copied())
    }

    /// The hosts that pending tasks prefer.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.local.iter().flat_map(|local| local.by_host.keys().map(String::as_str))
    }

    pub fn host_count(&self) -> usize {
        self.local.as_ref().map_or(0, |local| local.by_host.len())
    }

    /// Tasks that prefer `host`.
    pub fn on(&self, host: &str) -> impl Iterator<Item = u32> {
        self.local.iter().filter_map(|local| local.by_host.get(host)).flatten().copied()
    }
}

fn hosts(spec: &StageSpec, partition: u32) -> &[String] {
    spec.preferences.get(partition as usize).map_or(&[], |p| &p.hosts)
}

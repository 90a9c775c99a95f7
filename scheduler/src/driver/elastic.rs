//! Executors that follow the load. This reports the load to [`Elastic`] and carries out its decisions.

use crate::driver::Driver;
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use windlass_core::elastic::{Elastic, ElasticConfig, Member};
use windlass_core::time::Instant;

/// Interval between checks of the load.
const EVERY: Duration = Duration::from_millis(500);
/// How long no executor is started after one that ended before it joined.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// Starts executors, on this machine or on others. They register on their own, and end when the primary releases them.
#[async_trait]
pub trait Provisioner: fmt::Debug + Send + Sync + 'static {
    /// Starts an executor that registers under `name`.
    async fn start(&self, name: &str) -> Result<(), String>;

    /// Returns the names of the executors that it has started and that have not ended.
    async fn running(&self) -> BTreeSet<String>;

    /// Ends all of them, because the primary is stopping.
    async fn end(&self);
}

/// How a cluster follows its load.
#[derive(Clone, Debug)]
pub struct Elasticity {
    pub config: ElasticConfig,
    pub provisioner: Arc<dyn Provisioner>,
    /// Prefix of the names of its executors. Any leader releases executors with this prefix.
    pub prefix: String,
}

impl Elasticity {
    /// Runs until `stop` is cancelled.
    pub(crate) async fn run(self, driver: Driver, stop: CancellationToken) {
        let origin = std::time::Instant::now();
        let mut machine = Elastic::new(self.config.clone());
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut number = 0u64;
        // Executors that were started and have not joined yet.
        let mut awaited = BTreeSet::new();
        let mut not_before = origin;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = every.tick() => {}
            }
            let Some(load) = driver.load().await else { break };
            let running = self.provisioner.running().await;
            awaited.retain(|name: &String| !load.executors.iter().any(|member| member.name == *name));
            let failed: Vec<String> = awaited.extract_if(.., |name| !running.contains(name)).collect();
            if !failed.is_empty() {
                tracing::warn!(executors = failed.join(", "), "ended before they had joined: see their logs");
                not_before = std::time::Instant::now() + AFTER_FAILURE;
            }
            let now = Instant(origin.elapsed().as_micros() as u64);
            let ours = |member: &Member| member.name.starts_with(&self.prefix);
            let decision = machine.look(now, &load, awaited.len() as u32, ours);
            let (demand, reason) = (decision.demand, decision.demand.reason.as_str());
            if std::time::Instant::now() >= not_before {
                for _ in 0..decision.start {
                    number += 1;
                    let name = format!("{}{}-{number}", self.prefix, std::process::id());
                    tracing::info!(name, slots = demand.slots, reason, "starting an executor");
                    match self.provisioner.start(&name).await {
                        Ok(()) => _ = awaited.insert(name),
                        Err(error) => {
                            tracing::warn!(name, error, "an executor could not be started");
                            not_before = std::time::Instant::now() + AFTER_FAILURE;
                            break;
                        }
                    }
                }
            }
            for executor in decision.retire {
                tracing::info!(%executor, slots = demand.slots, reason, "letting an executor go");
                driver.drain(executor).await;
            }
        }
        self.provisioner.end().await;
    }
}

//! Metrics: in the text format of Prometheus, and in the form that Livy has them, which is that of Dropwizard's metrics.

use crate::livy::{BatchState, SessionState, StatementState, Unavailable};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use windlass_core::access::Principal;
use windlass_scheduler::services::Services;
use windlass_scheduler::services::cluster::{ExecutorView, Wanted};

pub(crate) fn routes() -> OpenApiRouter<Services> {
    OpenApiRouter::default().routes(routes!(exposition)).routes(routes!(dropwizard)).routes(routes!(ping))
}

/// Returns metrics for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "about", operation_id = "metrics",
    responses(
        (
            status = 200, description = "Metrics in Prometheus' text format 0.0.4.", body = String, content_type = "text/plain; version=0.0.4",
            example = "windlass_interactive_sessions{state=\"idle\"} 3",
        ),
        Unavailable,
    )
)]
async fn exposition(State(services): State<Services>, Extension(by): Extension<Principal>) -> Response {
    let text = Families::of(&services, &by).await.exposition();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// Returns the same metrics as JSON, where Livy has its own. A label's value follows the name after a dot.
#[utoipa::path(
    get, path = "/metrics/metrics", tag = "about", operation_id = "metrics_as_json",
    responses((status = 200, description = "Metrics.", body = Dropwizard), Unavailable)
)]
async fn dropwizard(State(services): State<Services>, Extension(by): Extension<Principal>) -> Json<Dropwizard> {
    Json(Families::of(&services, &by).await.dropwizard())
}

/// Answers while the primary leads, where Livy does.
#[utoipa::path(
    get, path = "/metrics/ping", tag = "about",
    responses((status = 200, description = "It leads.", body = String, content_type = "text/plain", example = "pong"), Unavailable)
)]
async fn ping() -> &'static str {
    "pong\n"
}

/// Metrics as Dropwizard's servlet writes them.
#[derive(Debug, Serialize, ToSchema)]
struct Dropwizard {
    /// Version of the form.
    #[schema(example = "4.0.0")]
    version: &'static str,
    #[schema(example = json!({ "windlass_interactive_sessions.idle": { "value": 3.0 } }))]
    gauges: BTreeMap<String, Gauge>,
    #[schema(example = json!({ "windlass_tasks_committed_total": { "count": 12 } }))]
    counters: BTreeMap<String, Counter>,
    histograms: Nothing,
    meters: Nothing,
    timers: Nothing,
}

#[derive(Debug, Serialize, ToSchema)]
struct Gauge {
    value: f64,
}

#[derive(Debug, Serialize, ToSchema)]
struct Counter {
    count: u64,
}

/// Nothing is measured in this way.
#[derive(Debug, Serialize, ToSchema)]
struct Nothing {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gauge,
    /// Counts since this primary began to lead.
    Counter,
}

/// A metric, with a value for each value of its label.
struct Family {
    kind: Kind,
    name: &'static str,
    help: &'static str,
    /// Absent: there is one value.
    label: Option<&'static str>,
    values: Vec<(String, f64)>,
}

#[derive(Default)]
struct Families(Vec<Family>);

impl Families {
    async fn of(services: &Services, by: &Principal) -> Self {
        let mut all = Families::default();
        all.add_cluster(services, by).await;
        all.add_livy(services, by);
        all.add_files(services, by).await;
        all
    }

    async fn add_cluster(&mut self, services: &Services, by: &Principal) {
        let status = services.cluster.status(by).await;
        let executors = &status.executors;
        self.one("windlass_uptime_seconds", "Since the primary began to serve.", status.uptime.as_secs_f64());
        self.one("windlass_executors", "Executors that are attached.", executors.len() as f64);
        let slots: u64 = executors.iter().map(|executor| u64::from(executor.slots)).sum();
        self.one("windlass_slots", "Task slots of all executors.", slots as f64);
        if let Some(Wanted { load, demand, .. }) = &status.wanted {
            let wanted = [(demand.reason.as_str(), demand.slots as f64)];
            self.each("windlass_wanted_slots", "Slots that the cluster wants, and why.", "reason", wanted);
            self.one("windlass_wanted_executors", "The same in executors, within limits.", f64::from(demand.executors));
            self.one("windlass_pending_tasks", "Tasks that could start if there were slots.", load.pending as f64);
        }
        let counts = services.cluster.counts(by);
        let failed = counts.failed.iter().map(|(kind, n)| (kind.to_string(), *n as f64)).collect();
        self.0.push(Family {
            kind: Kind::Counter,
            name: "windlass_task_failures_total",
            help: "Attempts that failed or were stopped, by kind.",
            label: Some("kind"),
            values: failed,
        });
        for (name, help, value) in [
            ("windlass_tasks_committed_total", "Tasks that have ended well.", counts.committed),
            (
                "windlass_tasks_recomputed_total",
                "Tasks that ran again because their outputs were lost.",
                counts.recomputed,
            ),
            ("windlass_tasks_speculated_total", "Second attempts of slow tasks.", counts.speculated),
            (
                "windlass_outputs_taken_over_total",
                "Outputs of earlier leaders' time that jobs went on with.",
                counts.taken_over,
            ),
            ("windlass_outputs_moved_total", "Outputs that moved off executors that left.", counts.moved),
            ("windlass_executors_lost_total", "Executors that left or were lost.", counts.executors_lost),
        ] {
            let values = vec![(String::new(), value as f64)];
            self.0.push(Family { kind: Kind::Counter, name, help, label: None, values });
        }
        let jobs = status.jobs.iter().map(|(state, jobs)| (state.as_str(), *jobs as f64));
        self.each("windlass_jobs", "Jobs that the history knows, by state.", "state", jobs);
        self.one("windlass_sessions", "Client sessions.", status.sessions as f64);
        self.one("windlass_results_kept", "Results that wait to be read.", status.results as f64);
        self.one("windlass_catalog_version", "Grows with each change of the catalog.", status.catalog_version as f64);
        let mut of_executors = |name, help, value: &dyn Fn(&ExecutorView) -> f64| {
            self.each(name, help, "executor", executors.iter().map(|executor| (executor.id, value(executor))));
        };
        of_executors("windlass_executor_slots", "Tasks that the executor runs at a time.", &|e| f64::from(e.slots));
        of_executors("windlass_executor_running_tasks", "Attempts that run, programs among them.", &|e| {
            f64::from(e.running)
        });
        for (name, help, value) in BYTES_OF_EXECUTORS {
            of_executors(name, help, &|executor| value(executor) as f64);
        }
    }

    fn add_livy(&mut self, services: &Services, by: &Principal) {
        let counts = services.interactive.counts(by);
        let sessions = counts.sessions.map(|(state, n)| (SessionState::from(state), n as f64));
        self.each("windlass_interactive_sessions", "Livy's sessions that are known, by state.", "state", sessions);
        let statements = counts.statements.map(|(state, n)| (StatementState::from(state), n as f64));
        self.each("windlass_statements", "Statements that these sessions keep, by state.", "state", statements);
        let batches = services.batches.counts(by).map(|(state, n)| (BatchState::from(state), n as f64));
        self.each("windlass_batches", "Batches that are known, by state.", "state", batches);
    }

    async fn add_files(&mut self, services: &Services, by: &Principal) {
        let Ok(health) = services.files.health(by).await else { return };
        for (name, help, value) in [
            ("windlass_files", "Files and folders.", health.entries),
            ("windlass_blocks", "Blocks of files.", health.blocks),
            ("windlass_blocks_under_replicated", "Blocks with fewer replicas than they want.", health.under_replicated),
            ("windlass_blocks_missing", "Blocks without a replica.", health.missing),
            ("windlass_blocks_copying", "Copies for repair that are under way.", health.copying),
        ] {
            self.one(name, help, value as f64);
        }
    }

    fn one(&mut self, name: &'static str, help: &'static str, value: f64) {
        let values = vec![(String::new(), value)];
        self.0.push(Family { kind: Kind::Gauge, name, help, label: None, values });
    }

    fn each<V: std::fmt::Display>(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: impl IntoIterator<Item = (V, f64)>,
    ) {
        let values = values.into_iter().map(|(of, value)| (of.to_string(), value)).collect();
        self.0.push(Family { kind: Kind::Gauge, name, help, label: Some(label), values });
    }

    fn exposition(&self) -> String {
        let mut text = String::new();
        for Family { kind, name, help, label, values } in &self.0 {
            let kind = match kind {
                Kind::Gauge => "gauge",
                Kind::Counter => "counter",
            };
            // Writing to a string does not fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (of, value) in values {
                let _ = match label {
                    Some(label) => writeln!(text, "{name}{{{label}=\"{of}\"}} {value}"),
                    None => writeln!(text, "{name} {value}"),
                };
            }
        }
        text
    }

    fn dropwizard(self) -> Dropwizard {
        let (mut gauges, mut counters) = (BTreeMap::new(), BTreeMap::new());
        for Family { kind, name, label, values, .. } in self.0 {
            for (of, value) in values {
                let name = if label.is_some() { format!("{name}.{of}") } else { name.to_string() };
                match kind {
                    Kind::Gauge => drop(gauges.insert(name, Gauge { value })),
                    Kind::Counter => drop(counters.insert(name, Counter { count: value as u64 })),
                }
            }
        }
        let (histograms, meters, timers) = (Nothing {}, Nothing {}, Nothing {});
        Dropwizard { version: "4.0.0", gauges, counters, histograms, meters, timers }
    }
}

const BYTES_OF_EXECUTORS: [(&str, &str, fn(&ExecutorView) -> u64); 10] = [
    ("windlass_executor_memory_bytes", "Limit of the memory pool.", |e| e.memory_bytes),
    ("windlass_executor_memory_used_bytes", "Reserved in the memory pool.", |e| e.memory_used_bytes),
    ("windlass_executor_memory_resident_bytes", "Resident memory of the process without pages of files.", |e| {
        e.memory_resident_bytes
    }),
    ("windlass_executor_exchange_memory_bytes", "Map outputs in memory.", |e| e.exchange_memory_bytes),
    ("windlass_executor_exchange_disk_bytes", "Map outputs in files.", |e| e.exchange_disk_bytes),
    ("windlass_executor_program_memory_bytes", "Memory that programs hold, reserved in the pool.", |e| {
        e.program_memory_bytes
    }),
    ("windlass_executor_block_bytes", "Replicas of files.", |e| e.block_bytes),
    ("windlass_executor_block_free_bytes", "What the disks have left for more.", |e| e.block_free_bytes),
    ("windlass_executor_file_local_bytes", "Read of files since it started, from its own replicas.", |e| {
        e.file_local_bytes
    }),
    ("windlass_executor_file_remote_bytes", "The same, from replicas of others.", |e| e.file_remote_bytes),
];

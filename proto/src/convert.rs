//! Conversions between core types and wire types. Every conversion to the wire succeeds; conversions from the wire are checked, once, here.

use crate::v1;
use bytes::Bytes;
use std::sync::Arc;
use thiserror::Error;
use windlass_core::event::{ExecutorSpec, Launch, Outcome, Role};
use windlass_core::failure::TaskFailure;
use windlass_core::ids::{AttemptId, ExecutorId, JobId, PlanHash, StageId};
use windlass_core::job::MapLocation;

/// The error for a message that no Windlass of this version would send.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    #[error("message {message} came without its field {field}")]
    Missing { message: &'static str, field: &'static str },
    #[error("message {message} holds {value} in field {field}, which this version does not know")]
    Unknown { message: &'static str, field: &'static str, value: i32 },
    #[error("a plan hash has 16 bytes, not {0}")]
    PlanHash(usize),
}

fn missing(message: &'static str, field: &'static str) -> WireError {
    WireError::Missing { message, field }
}

// ---- identifiers

impl From<StageId> for v1::StageId {
    fn from(id: StageId) -> Self {
        v1::StageId { job: id.job.0, stage: id.index }
    }
}

impl From<v1::StageId> for StageId {
    fn from(id: v1::StageId) -> Self {
        JobId(id.job).stage(id.stage)
    }
}

impl From<AttemptId> for v1::AttemptId {
    fn from(id: AttemptId) -> Self {
        v1::AttemptId { job: id.job().0, stage: id.stage().index, partition: id.task.partition, attempt: id.attempt }
    }
}

impl From<v1::AttemptId> for AttemptId {
    fn from(id: v1::AttemptId) -> Self {
        JobId(id.job).stage(id.stage).task(id.partition).attempt(id.attempt)
    }
}

/// 16 bytes, most significant first, as `Display` prints them.
pub fn plan_hash_to_wire(hash: PlanHash) -> Bytes {
    Bytes::copy_from_slice(&hash.0.to_be_bytes())
}

pub fn plan_hash_from_wire(bytes: &[u8]) -> Result<PlanHash, WireError> {
    let bytes = <[u8; 16]>::try_from(bytes).map_err(|_| WireError::PlanHash(bytes.len()))?;
    Ok(PlanHash(u128::from_be_bytes(bytes)))
}

// ---- executors

impl From<Role> for v1::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Core => v1::Role::Core,
            Role::Task => v1::Role::Task,
        }
    }
}

impl From<v1::Role> for Role {
    fn from(role: v1::Role) -> Self {
        match role {
            v1::Role::Core => Role::Core,
            v1::Role::Task => Role::Task,
        }
    }
}

/// Builds an executor's description from its registration, under the id that the primary gave it.
pub fn executor_spec(id: ExecutorId, register: &v1::Register) -> Result<ExecutorSpec, WireError> {
    let role = v1::Role::try_from(register.role).map_err(|_| WireError::Unknown {
        message: "Register",
        field: "role",
        value: register.role,
    })?;
    Ok(ExecutorSpec {
        id,
        name: register.name.clone(),
        host: register.host.clone(),
        rack: register.rack.clone(),
        role: role.into(),
        slots: register.slots,
        memory_bytes: register.memory_bytes,
        program_memory_bytes: register.program_memory_bytes,
        kept: register.kept.iter().copied().map(StageId::from).collect(),
    })
}

// ---- failures and outcomes

impl From<TaskFailure> for v1::TaskFailure {
    fn from(failure: TaskFailure) -> Self {
        use v1::task_failure::Kind;
        let plain =
            |kind: Kind, message: String| v1::TaskFailure { kind: kind.into(), message, ..v1::TaskFailure::default() };
        match failure {
            TaskFailure::FetchFailed { output, executor, message } => v1::TaskFailure {
                output: Some(output.into()),
                executor: executor.0,
                ..plain(Kind::FetchFailed, message)
            },
            TaskFailure::ExecutorLost { executor } => {
                v1::TaskFailure { executor: executor.0, ..plain(Kind::ExecutorLost, String::new()) }
            }
            TaskFailure::OutOfMemory { message } => plain(Kind::OutOfMemory, message),
            TaskFailure::Io { message } => plain(Kind::Io, message),
            TaskFailure::DiskFull { message } => plain(Kind::DiskFull, message),
            TaskFailure::UserError { message } => plain(Kind::UserError, message),
            TaskFailure::FileMissing { path, message } => v1::TaskFailure { path, ..plain(Kind::FileMissing, message) },
            TaskFailure::Cancelled => plain(Kind::Cancelled, String::new()),
            TaskFailure::Defect { message } => plain(Kind::Defect, message),
            TaskFailure::Internal { message } => plain(Kind::Internal, message),
        }
    }
}

impl TryFrom<v1::TaskFailure> for TaskFailure {
    type Error = WireError;

    fn try_from(wire: v1::TaskFailure) -> Result<Self, WireError> {
        use v1::task_failure::Kind;
        let kind = Kind::try_from(wire.kind).map_err(|_| WireError::Unknown {
            message: "TaskFailure",
            field: "kind",
            value: wire.kind,
        })?;
        let message = wire.message;
        Ok(match kind {
            Kind::FetchFailed => TaskFailure::FetchFailed {
                output: wire.output.ok_or(missing("TaskFailure", "output"))?.into(),
                executor: ExecutorId(wire.executor),
                message,
            },
            Kind::ExecutorLost => TaskFailure::ExecutorLost { executor: ExecutorId(wire.executor) },
            Kind::OutOfMemory => TaskFailure::OutOfMemory { message },
            Kind::Io => TaskFailure::Io { message },
            Kind::DiskFull => TaskFailure::DiskFull { message },
            Kind::UserError => TaskFailure::UserError { message },
            Kind::FileMissing => TaskFailure::FileMissing { path: wire.path, message },
            Kind::Cancelled => TaskFailure::Cancelled,
            Kind::Defect => TaskFailure::Defect { message },
            Kind::Internal => TaskFailure::Internal { message },
        })
    }
}

/// The end of one attempt: the part for the scheduling machine, and the parts for the driver and the history.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskReport {
    pub attempt: AttemptId,
    pub outcome: Outcome,
    /// A small result, as an Arrow IPC stream.
    pub inline_result: Option<Bytes>,
    pub staged: Option<Bytes>,
    pub elapsed_us: u64,
    pub metrics: Vec<v1::OperatorMetrics>,
}

impl From<TaskReport> for v1::TaskEnded {
    fn from(report: TaskReport) -> Self {
        use v1::task_ended::Outcome as Wire;
        let outcome = match report.outcome {
            Outcome::Finished { rows, bucket_bytes } => Wire::Finished(v1::TaskFinished {
                rows,
                bucket_bytes,
                inline_result: report.inline_result,
                staged: report.staged,
            }),
            Outcome::Failed(failure) => Wire::Failed(failure.into()),
        };
        v1::TaskEnded {
            attempt: Some(report.attempt.into()),
            outcome: Some(outcome),
            elapsed_us: report.elapsed_us,
            metrics: report.metrics,
        }
    }
}

impl TryFrom<v1::TaskEnded> for TaskReport {
    type Error = WireError;

    fn try_from(wire: v1::TaskEnded) -> Result<Self, WireError> {
        use v1::task_ended::Outcome as Wire;
        let attempt = wire.attempt.ok_or(missing("TaskEnded", "attempt"))?.into();
        let (outcome, inline_result, staged) = match wire.outcome.ok_or(missing("TaskEnded", "outcome"))? {
            Wire::Finished(done) => {
                let outcome = Outcome::Finished { rows: done.rows, bucket_bytes: done.bucket_bytes };
                (outcome, done.inline_result, done.staged)
            }
            Wire::Failed(failure) => (Outcome::Failed(failure.try_into()?), None, None),
        };
        Ok(TaskReport { attempt, outcome, inline_result, staged, elapsed_us: wire.elapsed_us, metrics: wire.metrics })
    }
}

// ---- launches

impl From<MapLocation> for v1::MapLocation {
    fn from(at: MapLocation) -> Self {
        v1::MapLocation { partition: at.partition, attempt: at.attempt, executor: at.executor.0 }
    }
}

impl From<v1::MapLocation> for MapLocation {
    fn from(at: v1::MapLocation) -> Self {
        MapLocation { partition: at.partition, attempt: at.attempt, executor: ExecutorId(at.executor) }
    }
}

/// A launch as the executor reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchOrder {
    pub stage: StageId,
    pub plan: PlanHash,
    /// The encoded plan, the first time that this executor needs it.
    pub plan_bytes: Option<Bytes>,
    /// Pairs of partition and attempt, sorted by partition.
    pub attempts: Vec<(u32, u32)>,
    /// Pairs of producing stage and its map outputs, in the order of the stage's inputs.
    pub inputs: Vec<(u32, Vec<MapLocation>)>,
    /// Addresses (host:port) of the executors that `inputs` name.
    pub executors: Vec<(ExecutorId, String)>,
    /// Whether the attempts hold no slots.
    pub once: bool,
}

/// Encodes the core's launch with the driver's additions: `input_stages` are the producers' indexes in the order of `launch.inputs`.
pub fn launch_to_wire(
    launch: &Launch,
    input_stages: &[u32],
    plan_bytes: Option<Bytes>,
    executors: Vec<(ExecutorId, String)>,
) -> v1::Launch {
    debug_assert_eq!(launch.inputs.len(), input_stages.len());
    let inputs = input_stages.iter().zip(launch.inputs.iter()).map(|(&stage, maps): (_, &Arc<[MapLocation]>)| {
        v1::InputLocations { stage, maps: maps.iter().map(|&at| at.into()).collect() }
    });
    v1::Launch {
        stage: Some(launch.stage.into()),
        plan_hash: plan_hash_to_wire(launch.plan),
        plan: plan_bytes,
        attempts: launch
            .attempts
            .iter()
            .map(|&(partition, attempt)| v1::LaunchedAttempt { partition, attempt })
            .collect(),
        inputs: inputs.collect(),
        executors: executors
            .into_iter()
            .map(|(executor, address)| v1::ExecutorAddress { executor: executor.0, address })
            .collect(),
        once: launch.once,
    }
}

impl TryFrom<v1::Launch> for LaunchOrder {
    type Error = WireError;

    fn try_from(wire: v1::Launch) -> Result<Self, WireError> {
        Ok(LaunchOrder {
            stage: wire.stage.ok_or(missing("Launch", "stage"))?.into(),
            plan: plan_hash_from_wire(&wire.plan_hash)?,
            plan_bytes: wire.plan,
            attempts: wire.attempts.into_iter().map(|a| (a.partition, a.attempt)).collect(),
            inputs: wire
                .inputs
                .into_iter()
                .map(|input| (input.stage, input.maps.into_iter().map(MapLocation::from).collect()))
                .collect(),
            executors: wire.executors.into_iter().map(|e| (ExecutorId(e.executor), e.address)).collect(),
            once: wire.once,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt() -> AttemptId {
        JobId(7).stage(2).task(3).attempt(1)
    }

    /// One failure of each kind: the match makes a new kind fail to compile until it is listed.
    fn every_failure() -> Vec<TaskFailure> {
        let message = || "why".to_string();
        let all = vec![
            TaskFailure::FetchFailed { output: attempt(), executor: ExecutorId(9), message: message() },
            TaskFailure::ExecutorLost { executor: ExecutorId(9) },
            TaskFailure::OutOfMemory { message: message() },
            TaskFailure::Io { message: message() },
            TaskFailure::DiskFull { message: message() },
            TaskFailure::UserError { message: message() },
            TaskFailure::FileMissing { path: "/d/x".to_string(), message: message() },
            TaskFailure::Cancelled,
            TaskFailure::Defect { message: message() },
            TaskFailure::Internal { message: message() },
        ];
        for failure in &all {
            match failure {
                TaskFailure::FetchFailed { .. }
                | TaskFailure::ExecutorLost { .. }
                | TaskFailure::OutOfMemory { .. }
                | TaskFailure::Io { .. }
                | TaskFailure::DiskFull { .. }
                | TaskFailure::UserError { .. }
                | TaskFailure::FileMissing { .. }
                | TaskFailure::Cancelled
                | TaskFailure::Defect { .. }
                | TaskFailure::Internal { .. } => {}
            }
        }
        all
    }

    #[test]
    fn every_failure_survives_the_wire() {
        for failure in every_failure() {
            assert_eq!(TaskFailure::try_from(v1::TaskFailure::from(failure.clone())), Ok(failure));
        }
    }

    #[test]
    fn reports_survive_the_wire() {
        let finished = Outcome::Finished { rows: 5, bucket_bytes: vec![1, 0, 9] };
        let outcomes = every_failure().into_iter().map(Outcome::Failed).chain([finished]);
        for outcome in outcomes {
            let done = matches!(outcome, Outcome::Finished { .. });
            let report = TaskReport {
                attempt: attempt(),
                outcome,
                inline_result: done.then(|| Bytes::from_static(b"rows")),
                staged: done.then(|| Bytes::from_static(b"files")),
                elapsed_us: 12,
                metrics: vec![v1::OperatorMetrics {
                    operator: 1,
                    values: vec![v1::Metric { name: "output_rows".into(), value: 5 }],
                }],
            };
            assert_eq!(TaskReport::try_from(v1::TaskEnded::from(report.clone())), Ok(report));
        }
    }

    #[test]
    fn launches_survive_the_wire() {
        let at = |partition, executor| MapLocation { partition, attempt: 0, executor: ExecutorId(executor) };
        let maps: Vec<Arc<[MapLocation]>> = vec![vec![at(0, 1), at(1, 2)].into(), vec![at(0, 2)].into()];
        let launch = Launch {
            stage: JobId(7).stage(2),
            plan: PlanHash(u128::MAX - 5),
            once: true,
            attempts: vec![(0, 0), (4, 2)],
            inputs: maps.into(),
        };
        let addresses = vec![(ExecutorId(1), "a:1".to_string()), (ExecutorId(2), "b:2".to_string())];
        let wire = launch_to_wire(&launch, &[0, 1], Some(Bytes::from_static(b"plan")), addresses.clone());
        let order = LaunchOrder::try_from(wire).unwrap();
        assert_eq!((order.stage, order.plan), (launch.stage, launch.plan));
        assert_eq!(order.attempts, launch.attempts);
        assert_eq!(order.inputs, vec![(0, vec![at(0, 1), at(1, 2)]), (1, vec![at(0, 2)])]);
        assert_eq!(order.plan_bytes.as_deref(), Some(&b"plan"[..]));
        assert_eq!(order.executors, addresses);
        assert!(order.once);
    }

    #[test]
    fn malformed_messages_are_refused_by_name() {
        let no_outcome = v1::TaskEnded { attempt: Some(attempt().into()), ..Default::default() };
        assert_eq!(TaskReport::try_from(no_outcome), Err(missing("TaskEnded", "outcome")));
        let unknown = v1::TaskFailure { kind: 99, ..Default::default() };
        assert!(matches!(TaskFailure::try_from(unknown), Err(WireError::Unknown { value: 99, .. })));
        assert_eq!(plan_hash_from_wire(b"short"), Err(WireError::PlanHash(5)));
        let register = v1::Register { role: 5, ..Default::default() };
        assert!(matches!(executor_spec(ExecutorId(1), &register), Err(WireError::Unknown { value: 5, .. })));
    }

    #[test]
    fn registrations_become_executors() {
        for role in [Role::Core, Role::Task] {
            let register = v1::Register {
                name: "n".into(),
                host: "h".into(),
                rack: "r".into(),
                role: v1::Role::from(role).into(),
                slots: 3,
                memory_bytes: 4,
                program_memory_bytes: 2,
                ..Default::default()
            };
            let spec = executor_spec(ExecutorId(8), &register).unwrap();
            assert_eq!((spec.id, spec.role, spec.slots), (ExecutorId(8), role, 3));
            assert_eq!((spec.memory_bytes, spec.program_memory_bytes), (4, 2));
        }
    }
}

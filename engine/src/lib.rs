//! All DataFusion glue that scheduler and executor share: sessions, distributed planning, exchange operators and their codecs.

mod aggregates;
mod arrow_files;
mod checks;
pub mod checksum;
mod codec;
pub mod config;
pub mod connector;
pub mod constants;
mod copy_files;
mod envelope;
pub mod exchange;
pub mod exchange_source;
pub mod extent;
pub mod failure;
mod folded;
mod handover;
mod held;
pub mod interrupt;
pub mod logical;
mod lost;
mod messages;
pub mod ops;
mod parquet_files;
pub mod partitions;
pub mod place;
pub mod plan;
mod planning;
pub mod remote;
mod restrict;
mod right;
pub mod room;
mod run;
pub mod scan;
pub mod session;
pub mod stage;
pub mod stores;
#[cfg(test)]
mod tests;
pub mod text_files;
mod time;
pub mod versions;
mod window;

pub use checks::{at_most, finite, may_hold_nan, not_null};
pub use copy_files::COPY_FILES;
pub use exchange_source::ExchangeSource;
pub use handover::{Handover, Planned};
pub use messages::messages;
pub use ops::interruptible;
pub use place::{OwnFolder, Place, Source};
pub use plan::{ClusterShape, has_fieldless, plan_job, spilling};
pub use planning::Planning;
pub use remote::{AddressBook, Connections, Local, RemoteExchange};
pub use run::{StageInstance, StagePlan, decode_batches, encode_batches};
pub use stage::{
    InputLocations, OperatorMetrics, PlannedJob, PlannedStage, Split, TaskInputs, TaskSummary, WriteTarget,
};
pub use time::{
    beyond_nanoseconds, cast_value, instants_as_text, interval_in_parts, timestamp_in_full, within_nanoseconds,
    zone_name,
};

//! DataFusion code that scheduler and executor share: sessions, distributed planning, exchange operators and their codecs.
//!
//! The modules, lowest layer first. Each imports only from earlier ones:
//!
//! | layer | modules |
//! | --- | --- |
//! | bounds and tools | `checksum`, `room`, `held`, `messages`, `config`, `planning`, `interrupt`, `constants`, `extent`, `checks`, `expressions`, `schema`, `window`, `versions`, `stores` |
//! | map outputs | `exchange_source`, `task`, `exchange`, `remote` |
//! | errors and places | `failure`, `place` |
//! | formats of files | `file_formats`, `arrow_files`, `parquet_files`, `time`, `text_files`, `partitions`, `scan` |
//! | operators | `ops`, `connector`, `copy_files`, `programs` |
//! | right answers | `logical`, `right`, `aggregates`, `session` |
//! | plans on their way | `restrict`, `lost`, `codec`, `folded`, `envelope` |
//! | stages | `stage`, `handover`, `plan`, `run` |

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
mod exchange_source;
mod expressions;
pub mod extent;
pub mod failure;
mod file_formats;
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
mod place;
mod plan;
mod planning;
pub mod programs;
pub mod remote;
mod restrict;
mod right;
pub mod room;
mod run;
pub mod scan;
mod schema;
pub mod session;
pub mod stage;
pub mod stores;
mod task;
#[cfg(test)]
mod tests;
pub mod text_files;
mod time;
pub mod versions;
mod window;

pub use checks::{at_most, in_json, may_lack_json, not_null};
pub use connector::copy_files::COPY_FILES;
pub use exchange_source::ExchangeSource;
pub use handover::Handover;
pub use messages::messages;
pub use ops::interruptible;
pub use parquet_files::footers_of;
pub use place::{OwnFolder, Place, Source};
pub use plan::{has_fieldless, plan_job, spilling};
pub use planning::Planning;
pub use remote::{AddressBook, Connections, Local, RemoteExchange};
pub use right::coercion_rules;
pub use right::numbers::check_assigned;
pub use run::{StageInstance, StagePlan, decode_batches, encode_batches};
pub use stage::{ClusterShape, Planned, PlannedJob, PlannedStage};
pub use task::{InputLocations, OperatorMetrics, Split, TaskInputs, TaskSummary};
pub use time::{
    beyond_nanoseconds, cast_value, instants_as_text, interval_in_parts, timestamp_in_full, within_nanoseconds,
    zone_name,
};

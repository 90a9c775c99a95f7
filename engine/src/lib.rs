//! All DataFusion glue that scheduler and executor share: sessions, distributed planning, exchange operators and their codecs.

pub mod exchange_source;
pub mod logical;
pub mod stage;

pub use exchange_source::ExchangeSource;
pub use stage::{InputLocations, OperatorMetrics, PlannedJob, PlannedStage, TaskInputs, TaskSummary};

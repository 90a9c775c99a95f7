//! All DataFusion glue that scheduler and executor share: sessions, distributed planning, exchange operators and their codecs.

mod codec;
pub mod config;
pub mod exchange_source;
pub mod failure;
pub mod logical;
pub mod ops;
pub mod remote;
pub mod session;
pub mod stage;

pub use exchange_source::ExchangeSource;
pub use remote::{AddressBook, Connections, Local, RemoteExchange};
pub use stage::{InputLocations, OperatorMetrics, PlannedJob, PlannedStage, TaskInputs, TaskSummary};

//! Pure logic of Windlass: identifiers, failures, cluster membership, placement, jobs and stages, submissions, interactive sessions, writes, files and blocks.
//!
//! Nothing here knows tokio, protobuf, DataFusion, files, sockets or a clock. Time and randomness come in as arguments and
//! every map is ordered, so a run is a function of its inputs: scenario tests and the simulation drive the same machines as production.
//!
//! The modules, lowest first. Each imports only from those before it:
//!
//! | layer | modules |
//! | --- | --- |
//! | words | `ids`, `time`, `dice`, `access`, `settings`, `failure`, `job`, `event` |
//! | machines | `elastic`, `submissions`, `streams`, `interactive`, `writes`, `wfs`, `worker`, `scheduler` |

pub mod access;
mod dice;
pub mod elastic;
pub mod event;
pub mod failure;
pub mod ids;
pub mod interactive;
pub mod job;
pub mod scheduler;
pub mod settings;
#[cfg(test)]
mod simulation;
pub mod streams;
pub mod submissions;
pub mod time;
pub mod wfs;
pub mod worker;
pub mod writes;

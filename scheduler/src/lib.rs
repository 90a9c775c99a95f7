//! The primary: the shell around the scheduling machine of `windlass-core`, and the services that clients and executors talk to.

pub mod admin;
pub mod dispatch;
pub mod driver;
#[cfg(test)]
mod fixtures;
pub mod history;
pub mod primary;
pub mod results;

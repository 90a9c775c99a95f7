//! The primary: the shell around the scheduling machine of `windlass-core`, and the faces that it shows to clients and executors.

pub mod admin;
pub mod driver;
pub mod errors;
mod files;
#[cfg(test)]
mod fixtures;
pub mod flight;
pub mod meta;
mod nearest;
pub mod primary;
pub mod services;
pub mod statements;

//! The primary: the shell around the scheduling machine of `windlass-core`, and the faces that it shows to clients and executors.

pub mod admin;
pub mod catalog;
pub mod cluster;
pub mod dispatch;
pub mod driver;
pub mod elastic;
mod erased;
pub mod errors;
mod files;
#[cfg(test)]
mod fixtures;
pub mod flight;
mod garbage;
pub mod history;
pub mod member;
pub mod meta;
mod nearest;
mod planners;
pub mod primary;
mod rest;
pub mod results;
mod saved;
pub mod session;
mod standby;
pub mod statement;
mod submissions;
mod webhdfs;

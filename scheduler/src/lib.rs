//! The primary: the shell of the scheduling machine in `windlass-core`, and the faces for clients and executors.
//!
//! The modules, lowest first. Each imports from those before it and from none behind it:
//!
//! | layer | modules |
//! | --- | --- |
//! | what lasts | `clock`, `nearest`, `meta`, `errors` |
//! | machines with a shell | `files`, `driver` |
//! | what users ask for | `statements`, `services` |
//! | faces | `flight`, `admin` |
//! | processes | `primary`, `config` |

pub mod admin;
pub mod clock;
pub mod config;
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

//! Locations of data outside of the engine: object stores by URL, the files of the cluster itself, and databases.
//!
//! The modules, lowest first. Each imports only from those before it:
//!
//! | layer | modules |
//! | --- | --- |
//! | stores | `uploads`, `web`, `wfs` |
//! | all of them | `store` |
//! | tables of databases | `postgres` |

#[cfg(feature = "postgres")]
pub mod postgres;
pub mod store;
mod uploads;
mod web;
pub mod wfs;

pub use store::StoreRegistry;

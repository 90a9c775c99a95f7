//! Locations of data outside of the engine: object stores by URL, the files of the cluster itself, and databases.
//!
//! The modules, lowest first. Each imports only from those before it:
//!
//! | layer | modules |
//! | --- | --- |
//! | tools | `after_work` |
//! | services of AWS | `aws` |
//! | stores | `uploads`, `web`, `wfs`, `archive`, `s3` |
//! | all of them | `store` |
//! | tables of databases | `rds`, `server`, `load`, `rejects`, `conditions`, `fragments`, `mysql`, `postgres`, `dynamodb`, `redshift` |

pub mod after_work;
pub mod archive;
#[cfg(feature = "aws")]
mod aws;
#[cfg(any(feature = "dynamodb", feature = "mysql", feature = "postgres"))]
mod conditions;
#[cfg(feature = "dynamodb")]
pub mod dynamodb;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod fragments;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod load;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(all(feature = "aws", any(feature = "mysql", feature = "postgres")))]
mod rds;
#[cfg(feature = "redshift")]
pub mod redshift;
#[cfg(feature = "postgres")]
mod rejects;
mod s3;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod server;
pub mod store;
mod uploads;
mod web;
pub mod wfs;

pub use store::StoreRegistry;

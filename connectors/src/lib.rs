//! Locations of data outside of the engine: object stores by URL, the files of the cluster itself, and databases.
//!
//! The modules, lowest first. Each imports only from those before it:
//!
//! | layer | modules |
//! | --- | --- |
//! | stores | `web`, `wfs` |
//! | all of them | `store` |
//! | services of AWS | `aws` |
//! | tables of databases | `postgres`, `dynamodb` |

#[cfg(feature = "aws")]
mod aws;
#[cfg(feature = "dynamodb")]
pub mod dynamodb;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod store;
mod web;
pub mod wfs;

pub use store::StoreRegistry;

//! Where data lies outside of Windlass: object stores by URL, the files of the cluster itself, and databases.

#[cfg(feature = "postgres")]
pub mod postgres;
pub mod store;
mod web;
pub mod wfs;

pub use store::StoreRegistry;

//! Where data lies outside of Windlass: object stores by URL, and the files of the cluster itself.

pub mod store;
mod web;
pub mod wfs;

pub use store::StoreRegistry;

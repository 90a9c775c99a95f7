//! Where data lies outside of Windlass: object stores by URL.

pub mod store;
mod web;

pub use store::StoreRegistry;

//! Where data lies outside of Windlass: object stores by URL.

pub mod store;

pub use store::StoreRegistry;

//! Where data lies outside of Windlass: object stores by URL, and the files of the cluster itself.
//!
//! The modules, lowest first. Each imports from those before it and from none behind it:
//!
//! | layer | modules |
//! | --- | --- |
//! | stores | `web`, `wfs` |
//! | all of them | `store` |

pub mod store;
mod web;
pub mod wfs;

pub use store::StoreRegistry;

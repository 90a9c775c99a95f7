//! The Rust client of Windlass.
//!
//! ```no_run
//! use windlass_client::{Client, Result};
//!
//! # async fn f() -> Result<()> {
//! let session = Client::connect("grpc://127.0.0.1:7077").await?;
//! let rows = session.sql("select origin, count(*) from flights group by origin").await?.collect().await?;
//! # Ok(()) }
//! ```
//!
//! - [`Client::connect`] opens a [`Session`] with a cluster, [`Client::embedded`] starts a cluster inside the process. Both behave the same.
//! - [`Session::sql`] makes a [`Statement`]; awaiting it gives a [`ResultStream`], a `Stream` of record batches with backpressure. [`Statement::handle`] gives
//!   progress and cancellation while it runs.
//! - [`Session::context`] and [`Session::table`] are the DataFusion DataFrame API; plans run on the cluster.
//! - [`Session::files`] reads and writes the files of the cluster, `wfs://`.
//! - [`Session::submit`], [`Session::jobs`], [`Session::job`] and their like manage jobs.
//!
//! `client/examples/quickstart.rs` is a complete program.
//!
//! With `default-features = false` this is a remote client that needs Arrow and gRPC, and no query engine:
//!
//! | feature | adds |
//! | --- | --- |
//! | `dataframe` | `Session::context`, `Session::table` and `Session::dataframe`, with DataFusion |
//! | `files` | `Session::files` |
//! | `embedded` | `Client::embedded`: a primary and an executor inside the process |
//! | `cli` | the `windlass` command |
//!
//! The modules, lowest first. Each imports only from those before it:
//!
//! | layer | modules |
//! | --- | --- |
//! | words | `nearest`, `error`, `jobs`, `params` |
//! | a cluster | `backend`, `handle`, `remote`, `result` |
//! | for programs | `statement`, `session`, `client`, `dataframe`, `embedded` |
//! | the command | `config`, `cli` |

mod backend;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod client;
#[cfg(feature = "cli")]
pub mod config;
#[cfg(feature = "dataframe")]
mod dataframe;
#[cfg(feature = "embedded")]
mod embedded;
mod error;
mod handle;
pub mod jobs;
#[cfg(feature = "cli")]
mod nearest;
mod params;
mod remote;
mod result;
mod session;
mod statement;

/// Kinds of tables beside files: [`EmbeddedOptions::connectors`], and `cli::main_with` for processes.
#[cfg(feature = "embedded")]
pub use windlass_engine::connector;

/// Returns the kinds of tables beside files that Windlass includes: those of the `windlass` command.
///
/// # Errors
/// Two of them have the same name.
#[cfg(feature = "embedded")]
pub fn connectors() -> std::result::Result<connector::Registry, Box<dyn std::error::Error + Send + Sync>> {
    let registry = connector::Registry::default();
    #[cfg(feature = "postgres")]
    let registry = registry.with(std::sync::Arc::new(windlass_connectors::postgres::Postgres::default()))?;
    #[cfg(feature = "mysql")]
    let registry = registry.with(std::sync::Arc::new(windlass_connectors::mysql::Mysql::default()))?;
    #[cfg(feature = "dynamodb")]
    let registry = registry
        .with(std::sync::Arc::new(windlass_connectors::dynamodb::DynamoDb::default()))?
        .with_format(std::sync::Arc::new(windlass_connectors::dynamodb::DynamoDbJson))?;
    #[cfg(feature = "redshift")]
    let registry = registry.with(std::sync::Arc::new(windlass_connectors::redshift::Redshift::default()))?;
    Ok(registry)
}

/// Files of the cluster: [`Session::files`].
#[cfg(feature = "files")]
pub use windlass_connectors::wfs;

pub use backend::{Table, TableFilter};
pub use client::Client;
#[cfg(feature = "embedded")]
pub use embedded::EmbeddedOptions;
pub use error::{ClientError, ErrorKind, Result};
pub use handle::QueryHandle;
pub use jobs::{JobId, JobState, StageState};
pub use params::{Param, Params};
pub use result::ResultStream;
pub use session::Session;
pub use statement::Statement;

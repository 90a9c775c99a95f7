//! The primary's services. The faces (Flight SQL, gRPC, REST, WebHDFS) translate to and from them, and know nothing below them.
//!
//! | service | what it is about |
//! | --- | --- |
//! | [`runs`] | statements: start, watch, cancel, read rows |
//! | [`sessions`] | sessions of clients, and statements prepared in them |
//! | [`loads`] | streams of batches that become rows of a table |
//! | [`submissions`] | scripts that run without their client |
//! | [`interactive`] | sessions whose statements and results outlive a primary |
//! | [`batches`] | scripts in files, under numbers of their own |
//! | [`jobs`] | ended and running jobs of the cluster |
//! | [`catalog`] | catalogs, schemas and tables |
//! | [`cluster`] | executors, and how many are wanted |
//! | [`files`] | files of `wfs://` |
//!
//! The first argument of each method is the [`Principal`](windlass_core::access::Principal) on whose behalf it is called. Methods
//! return plain types with enums for states.

pub mod batches;
pub mod catalog;
pub mod cluster;
pub mod files;
pub mod interactive;
pub mod jobs;
mod leaders;
pub mod loads;
pub mod runs;
pub mod sessions;
pub mod submissions;

pub use leaders::{Leaders, standby_message};

use futures::future::BoxFuture;
use std::{fmt, io};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// All services of a primary. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    pub runs: runs::Runs,
    pub sessions: sessions::Sessions,
    pub loads: loads::Loads,
    pub submissions: submissions::Submissions,
    pub interactive: interactive::Interactive,
    pub batches: batches::Batches,
    pub jobs: jobs::Jobs,
    pub catalog: catalog::Catalog,
    pub cluster: cluster::ClusterView,
    pub files: files::Files,
}

/// The HTTP faces of a primary, which live above this crate.
pub trait HttpFaces: fmt::Debug + Send + Sync + 'static {
    /// Serves a primary that leads, until `stop` is cancelled.
    fn serve(&self, services: Services, listener: TcpListener, stop: CancellationToken) -> BoxFuture<'static, ()>;

    /// Tells clients of a standby who leads, until `stop` is cancelled.
    fn stand_by(
        &self,
        leaders: Leaders,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> BoxFuture<'static, io::Result<()>>;
}

//! What the primary offers, whoever asks and in whatever language: the faces (Flight SQL, gRPC, REST, WebHDFS) translate to these services
//! and back, and know nothing below them.
//!
//! | service | what it is about |
//! | --- | --- |
//! | [`runs`] | statements: started, watched, cancelled, their rows read |
//! | [`sessions`] | clients' sessions, and what is prepared in them |
//! | [`loads`] | streams of batches that become rows of a table |
//! | [`submissions`] | scripts of statements that nobody waits for |
//! | [`jobs`] | what ran and what runs on the cluster |
//! | [`catalog`] | which catalogs, schemas and tables there are |
//! | [`cluster`] | executors, and how many are wanted |
//! | [`files`] | files of `wfs://` |
//!
//! The first argument of each method is the [`Principal`](windlass_core::access::Principal) on whose behalf it is called; what they return are
//! plain types with enums for states.

pub mod catalog;
pub mod cluster;
pub mod files;
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
    pub jobs: jobs::Jobs,
    pub catalog: catalog::Catalog,
    pub cluster: cluster::ClusterView,
    pub files: files::Files,
}

/// The HTTP faces of a primary, which live above this crate.
pub trait HttpFaces: fmt::Debug + Send + Sync + 'static {
    /// Serves a primary that leads, until `stop` is cancelled.
    fn serve(&self, services: Services, listener: TcpListener, stop: CancellationToken) -> BoxFuture<'static, ()>;

    /// Tells who asks a primary that stands by who leads, until `stop` is cancelled.
    fn stand_by(
        &self,
        leaders: Leaders,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> BoxFuture<'static, io::Result<()>>;
}

//! The primary: the shell around the scheduling machine of `windlass-core`, and the faces that it shows to clients.

pub mod admin;
pub mod catalog;
pub mod dispatch;
pub mod driver;
pub mod errors;
#[cfg(test)]
mod fixtures;
pub mod history;
pub mod meta;
mod nearest;
pub mod primary;
pub mod results;
pub mod session;
pub mod statement;

use catalog::Catalog;
use session::{Session, Versions};

/// What plans of a session depend on, as of now.
pub(crate) fn session_versions(session: &Session, catalog: &Catalog) -> Versions {
    Versions {
        catalog: catalog.version(),
        options: session.options_version(),
        temporary: session.temporary().version(),
    }
}

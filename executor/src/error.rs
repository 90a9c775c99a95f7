//! Errors that keep an executor from running.

use std::net::SocketAddr;
use std::path::PathBuf;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum ExecutorError {
    #[error("{setting} is not usable: {reason}")]
    Config { setting: &'static str, reason: String },
    #[error("cannot write to the executor's folder {}: {source}; choose another one with --dir", dir.display())]
    Dir { dir: PathBuf, source: std::io::Error },
    #[error("another executor uses the folder {}: give each one a --dir of its own", dir.display())]
    DirTaken { dir: PathBuf },
    #[error("cannot open the executor's stores under {}: {reason}", dir.display())]
    Stores { dir: PathBuf, reason: String },
    #[error("cannot start threads for tasks: {0}")]
    Threads(std::io::Error),
    #[error("port {} on {} is in use: stop what listens there, or choose another with --listen (port 0 takes a free one)", address.port(), address.ip())]
    AddressInUse { address: SocketAddr },
    #[error("cannot listen on {address}: {source}; see --listen")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("serving on {address} failed: {reason}")]
    Serve { address: String, reason: String },
    #[error(
        "no primary at {primaries} within {waited_s} s: {reason}; start one with 'windlass primary', or name another with --primary"
    )]
    Unreachable { primaries: String, waited_s: u64, reason: String },
    #[error("the primary at {primary} refused this executor: {reason}")]
    Refused { primary: String, reason: String },
}

//! Errors between a client and its cluster.

use arrow::error::ArrowError;
use std::io;
use std::time::Duration;
use tonic::{Code, ConnectError, Status, TimeoutExpired};
use windlass_proto::{LEADER_HEADER, errors, v1};

pub type Result<T, E = ClientError> = std::result::Result<T, E>;

/// Kind of an error, for a program that has to decide how to react. `windlass` derives its exit code from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The text is not SQL.
    Syntax,
    /// The statement or its data is at fault.
    Invalid,
    /// No session option has this name.
    UnknownOption,
    /// A table, column, schema, session, result or prepared statement does not exist.
    NotFound,
    AlreadyExists,
    Unsupported,
    Cancelled,
    /// The time limit was exceeded.
    TimedOut,
    /// Tasks did not fit into the memory of an executor.
    OutOfMemory,
    /// The disk is too small, or a limit was exceeded.
    Exhausted,
    /// Too many jobs wait already.
    Busy,
    /// The primary does not lead, and no leader was found. Nothing was changed.
    NotLeading,
    /// The outcome could not be found out: the effect may have happened.
    OutcomeUnknown,
    /// No executor or primary can run it at present.
    Unavailable,
    /// The requester lacks the permission.
    Denied,
    /// The result was lost with the executor that held it.
    ResultLost,
    /// A defect, or a failing disk or network, on the cluster.
    Internal,
    /// No job has this name.
    UnknownJob,
    /// An argument of the caller is wrong: an address, a parameter, an option.
    Usage,
    /// Nobody answers at the address.
    Unreachable,
    /// Client and cluster are different releases, or the peer is no cluster.
    Version,
    /// Nothing was run: the temporary tables of the session were lost with the previous primary.
    SessionLost,
    /// The result came in a form that this client cannot read.
    Decode,
    /// A local file could not be read or written.
    Io,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No cluster could be reached.
    #[error("cannot reach a cluster at {url}: {reason}; {advice}")]
    Unreachable { url: String, reason: String, advice: String },

    /// Client and cluster are different releases.
    #[error("cannot work with the cluster at {url}: {reason}")]
    Version { url: String, reason: String },

    /// The statement or the request was refused, or failed. The message is the cluster's: what is wrong, where, and the remedy.
    #[error("{message}")]
    Statement { kind: ErrorKind, message: String },

    /// The statement was cancelled.
    #[error("the statement was cancelled")]
    Cancelled,

    /// The connection broke during an operation. The cluster cancels a statement whose client is gone.
    #[error("lost the connection to {peer} while {doing}: {reason}; {}", advice(*sent))]
    Disconnected {
        peer: String,
        doing: String,
        reason: String,
        /// Whether the cluster may have received the request. False: nothing was sent.
        sent: bool,
    },

    /// A primary answered that it does not lead, and that nothing was changed.
    #[error("{message}")]
    StandsBy { message: String, leader: Option<String> },

    /// Another primary leads since the last statement, and it does not know this session.
    #[error(
        "the cluster's primary has changed to {leader}, and this session's temporary tables and prepared statements went with the old \
         one; nothing was run: make them again and go on"
    )]
    SessionLost { leader: String },

    /// The statement had ended, and its result was lost with the executor that held it: the statement has to run again.
    #[error("{message}")]
    ResultLost { message: String },

    /// An argument of the caller is wrong: an address, a parameter, an option.
    #[error("{0}")]
    Invalid(String),

    /// No job has this name.
    #[error("{0}")]
    UnknownJob(String),

    /// The result came in a form that this client cannot read.
    #[error("cannot decode the result: {0}")]
    Decode(#[from] ArrowError),

    /// A local file failed: in an embedded cluster's folder, or an output.
    #[error("cannot {doing}: {source}")]
    Io { doing: String, source: io::Error },
}

/// What to do after a lost connection.
fn advice(sent: bool) -> &'static str {
    match sent {
        true => "the cluster may have done it: look at 'windlass jobs list' before you run it again",
        false => "nothing was sent: run it again, or look at 'windlass cluster status'",
    }
}

impl ClientError {
    /// Kind of the error, which decides how a program goes on.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ClientError::Unreachable { .. } => ErrorKind::Unreachable,
            ClientError::Version { .. } => ErrorKind::Version,
            ClientError::Statement { kind, .. } => *kind,
            ClientError::Cancelled => ErrorKind::Cancelled,
            ClientError::Disconnected { sent: true, .. } => ErrorKind::OutcomeUnknown,
            ClientError::Disconnected { sent: false, .. } => ErrorKind::Unreachable,
            ClientError::StandsBy { .. } => ErrorKind::NotLeading,
            ClientError::SessionLost { .. } => ErrorKind::SessionLost,
            ClientError::ResultLost { .. } => ErrorKind::ResultLost,
            ClientError::Invalid(_) => ErrorKind::Usage,
            ClientError::UnknownJob(_) => ErrorKind::UnknownJob,
            ClientError::Decode(_) => ErrorKind::Decode,
            ClientError::Io { .. } => ErrorKind::Io,
        }
    }

    /// Whether the same call may succeed later and is safe to repeat, whatever it does: it had no effect.
    ///
    /// [`ErrorKind::ResultLost`] is not retryable: the statement had ended. A query may be run again, but not an INSERT.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind(), ErrorKind::Busy | ErrorKind::NotLeading | ErrorKind::Unavailable | ErrorKind::Unreachable)
    }

    /// Builds the error for malformed data from the cluster.
    pub(crate) fn garbled(message: impl Into<String>) -> ClientError {
        ClientError::Statement { kind: ErrorKind::Internal, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> ClientError {
        ClientError::Invalid(message.into())
    }

    #[cfg(feature = "cli")]
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> ClientError {
        let doing = doing.into();
        move |source| ClientError::Io { doing, source }
    }

    /// Translates a status for the caller; `doing` continues "while …".
    pub(crate) fn from_status(status: &Status, peer: &str, doing: &str) -> ClientError {
        let message = status.message().to_owned();
        match kind_of(status) {
            // A connection that breaks before the answer cancels the request.
            None if is_broken(status) => ClientError::Disconnected {
                peer: peer.to_owned(),
                doing: doing.to_owned(),
                reason: root_cause(status),
                sent: errors::cause::<ConnectError>(status).is_none(),
            },
            // A message larger than one side accepts gets this code. No server of Windlass answers with it itself.
            None if matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted) => ClientError::Statement {
                kind: ErrorKind::Exhausted,
                message: format!(
                    "cannot finish {doing}: it is larger than {peer} accepts in one message ({message}); shorten the statement, or load \
                     literal data from a file"
                ),
            },
            // A server that does not know the service sends no message; a refused statement has one.
            None if status.code() == Code::Unimplemented && message.is_empty() => ClientError::Version {
                url: peer.to_owned(),
                reason: format!("{doing} is not something that it knows: is it a windlass primary of this release?"),
            },
            Some(ErrorKind::Cancelled) => ClientError::Cancelled,
            Some(ErrorKind::ResultLost) => ClientError::ResultLost { message },
            // The primary cannot find out whether the statement happened.
            Some(ErrorKind::OutcomeUnknown) => ClientError::Disconnected {
                peer: peer.to_owned(),
                doing: doing.to_owned(),
                reason: message,
                sent: true,
            },
            Some(ErrorKind::NotLeading) => {
                let leader = status.metadata().get(LEADER_HEADER).and_then(|leader| leader.to_str().ok());
                ClientError::StandsBy { message, leader: leader.filter(|leader| !leader.is_empty()).map(str::to_owned) }
            }
            kind => {
                let kind = kind.unwrap_or(ErrorKind::Internal);
                let message = if message.is_empty() { format!("{doing} failed: {:?}", status.code()) } else { message };
                ClientError::Statement { kind, message }
            }
        }
    }

    /// Builds the error. `resolves`: whether the host of `url` has an address.
    pub(crate) fn unreachable(
        url: &str,
        error: &(dyn std::error::Error + 'static),
        waited: Duration,
        resolves: bool,
    ) -> ClientError {
        let advice = match errors::cause::<io::Error>(error).map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => {
                "nothing listens there: start one with 'windlass cluster up', or correct --url".to_owned()
            }
            Some(io::ErrorKind::TimedOut) => timed_out(waited),
            _ if errors::cause::<TimeoutExpired>(error).is_some() => timed_out(waited),
            _ if !resolves => "the host name does not resolve: correct --url".to_owned(),
            _ => "correct --url, or look at the primary's log".to_owned(),
        };
        ClientError::Unreachable { url: url.to_owned(), reason: deepest(error), advice }
    }
}

fn timed_out(waited: Duration) -> String {
    format!("nobody answered within {} s: check the address and the firewall between here and there", waited.as_secs())
}

/// Kind that the cluster gave an error, or that its code implies when it gave none. `None`: the status was made on this side of the connection, or by a server
/// that is not Windlass.
fn kind_of(status: &Status) -> Option<ErrorKind> {
    use v1::ErrorKind as Wire;
    if is_transport(status) {
        return None;
    }
    Some(match errors::kind(status) {
        Some(Wire::Syntax) => ErrorKind::Syntax,
        Some(Wire::Invalid) => ErrorKind::Invalid,
        Some(Wire::UnknownOption) => ErrorKind::UnknownOption,
        Some(Wire::NotFound) => ErrorKind::NotFound,
        Some(Wire::AlreadyExists) => ErrorKind::AlreadyExists,
        Some(Wire::Unsupported) => ErrorKind::Unsupported,
        Some(Wire::Cancelled) => ErrorKind::Cancelled,
        Some(Wire::TimedOut) => ErrorKind::TimedOut,
        Some(Wire::OutOfMemory) => ErrorKind::OutOfMemory,
        Some(Wire::Exhausted) => ErrorKind::Exhausted,
        Some(Wire::Busy) => ErrorKind::Busy,
        Some(Wire::NotLeading) => ErrorKind::NotLeading,
        Some(Wire::OutcomeUnknown) => ErrorKind::OutcomeUnknown,
        Some(Wire::Unavailable) => ErrorKind::Unavailable,
        Some(Wire::Denied) => ErrorKind::Denied,
        Some(Wire::ResultLost) => ErrorKind::ResultLost,
        Some(Wire::Internal | Wire::Unknown) => ErrorKind::Internal,
        None => match status.code() {
            Code::InvalidArgument | Code::FailedPrecondition => ErrorKind::Invalid,
            Code::NotFound => ErrorKind::NotFound,
            Code::AlreadyExists => ErrorKind::AlreadyExists,
            Code::Unimplemented if !status.message().is_empty() => ErrorKind::Unsupported,
            Code::Cancelled => ErrorKind::Cancelled,
            Code::DeadlineExceeded => ErrorKind::TimedOut,
            Code::Aborted => ErrorKind::OutcomeUnknown,
            Code::PermissionDenied => ErrorKind::Denied,
            Code::DataLoss => ErrorKind::ResultLost,
            Code::Unavailable if status.metadata().contains_key(LEADER_HEADER) => ErrorKind::NotLeading,
            Code::Unavailable => ErrorKind::Unavailable,
            Code::OutOfRange | Code::ResourceExhausted | Code::Unimplemented => return None,
            _ => ErrorKind::Internal,
        },
    })
}

/// Whether the connection broke, as opposed to a request that could not be sent over it.
fn is_broken(status: &Status) -> bool {
    is_transport(status)
        && matches!(status.code(), Code::Cancelled | Code::Unavailable | Code::Unknown | Code::Internal)
}

/// Whether tonic made the status itself, for a broken connection: then it has a source, which a server's status lacks.
pub(crate) fn is_transport(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

pub(crate) fn root_cause(status: &Status) -> String {
    std::error::Error::source(status).map_or_else(|| status.message().to_owned(), deepest)
}

fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_message_comes_through_as_it_is() {
        let status = Status::invalid_argument("there is no table \"flihgts\"; did you mean \"flights\"?");
        let error = ClientError::from_status(&status, "grpc://x", "running the statement");
        assert_eq!(error.to_string(), "there is no table \"flihgts\"; did you mean \"flights\"?");
    }

    #[test]
    fn what_sql_cannot_do_yet_is_told_from_a_server_of_another_kind() {
        let unknown = ClientError::from_status(&Status::unimplemented(""), "grpc://x", "running the statement");
        assert!(unknown.to_string().contains("is it a windlass primary"), "{unknown}");
        let status = Status::unimplemented("this subquery is not supported");
        let error = ClientError::from_status(&status, "grpc://x", "running the statement");
        assert_eq!(error.to_string(), "this subquery is not supported");
    }

    #[test]
    fn the_kind_that_a_cluster_gives_an_error_is_the_clients() {
        let busy = errors::status(Code::ResourceExhausted, "too many jobs wait".to_owned(), v1::ErrorKind::Busy);
        let error = ClientError::from_status(&busy, "grpc://x", "running the statement");
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Busy, true));
        let option = errors::status(Code::InvalidArgument, "unknown option".to_owned(), v1::ErrorKind::UnknownOption);
        let error = ClientError::from_status(&option, "grpc://x", "running the statement");
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::UnknownOption, false));
        let standby = errors::status(Code::Unavailable, "I do not lead".to_owned(), v1::ErrorKind::NotLeading);
        let error = ClientError::from_status(&standby, "grpc://x", "running the statement");
        assert!(matches!(error, ClientError::StandsBy { leader: None, .. }), "{error:?}");
    }

    #[test]
    fn a_message_that_is_too_large_is_told_from_a_limit_of_the_cluster() {
        let large =
            ClientError::from_status(&Status::out_of_range("found 9 bytes"), "grpc://x", "running the statement");
        assert!(large.to_string().contains("larger than grpc://x accepts in one message"), "{large}");
        let limit = errors::status(Code::ResourceExhausted, "the disk is full".to_owned(), v1::ErrorKind::Exhausted);
        let error = ClientError::from_status(&limit, "grpc://x", "running the statement");
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Exhausted, "the disk is full"));
    }

    #[test]
    fn a_refused_connection_says_what_to_do() {
        let error = io::Error::new(io::ErrorKind::ConnectionRefused, "Connection refused (os error 111)");
        let text = ClientError::unreachable("grpc://127.0.0.1:1", &error, Duration::from_secs(3), true).to_string();
        assert!(text.contains("grpc://127.0.0.1:1") && text.contains("windlass cluster up"), "{text}");
    }
}

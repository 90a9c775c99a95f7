//! What can go wrong between a client and its cluster.

use arrow::error::ArrowError;
use std::io;
use std::time::Duration;
use tonic::{Code, Status};
use windlass_proto::LEADER_HEADER;

pub type Result<T, E = ClientError> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No cluster could be talked to.
    #[error("cannot reach a cluster at {url}: {reason}; {advice}")]
    Unreachable { url: String, reason: String, advice: String },

    /// Client and cluster are different releases.
    #[error("cannot work with the cluster at {url}: {reason}")]
    Version { url: String, reason: String },

    /// The statement was refused, or failed. The message is the cluster's: what is wrong, where, and how to mend it.
    #[error("{message}")]
    Statement { message: String },

    /// The statement was cancelled.
    #[error("the statement was cancelled")]
    Cancelled,

    /// The connection broke while something was being done. The cluster cancels a statement whose client is gone.
    #[error(
        "lost the connection to {peer} while {doing}: {reason}; run it again, or look at 'windlass cluster status'"
    )]
    Disconnected {
        peer: String,
        doing: String,
        reason: String,
        /// The cluster may have received what was sent. False: nothing was.
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

    /// The statement had ended, and its result went with the executor that held it: the statement has to run again.
    #[error("{message}")]
    ResultLost { message: String },

    /// What the caller gave is wrong: an address, a parameter, an option.
    #[error("{0}")]
    Invalid(String),

    /// No job of this name.
    #[error("{0}")]
    UnknownJob(String),

    /// The result came in a form that this client cannot read.
    #[error("cannot decode the result: {0}")]
    Decode(#[from] ArrowError),

    /// Local files: an embedded cluster's folder, or an output.
    #[error("cannot {doing}: {source}")]
    Io { doing: String, source: io::Error },
}

impl ClientError {
    pub(crate) fn statement(message: impl Into<String>) -> ClientError {
        ClientError::Statement { message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> ClientError {
        ClientError::Invalid(message.into())
    }

    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> ClientError {
        let doing = doing.into();
        move |source| ClientError::Io { doing, source }
    }

    /// What a status means to the one who called: `doing` continues "while …".
    pub(crate) fn from_status(status: &Status, peer: &str, doing: &str) -> ClientError {
        let message = status.message().to_owned();
        match status.code() {
            Code::Cancelled if !is_transport(status) => ClientError::Cancelled,
            Code::DataLoss => ClientError::ResultLost { message },
            // A connection that breaks before an answer comes cancels the request.
            Code::Cancelled | Code::Unavailable | Code::Unknown | Code::Internal if is_transport(status) => {
                ClientError::Disconnected {
                    peer: peer.to_owned(),
                    doing: doing.to_owned(),
                    reason: root_cause(status),
                    sent: !failed_to_connect(status),
                }
            }
            // The primary cannot find out whether the statement happened.
            Code::Aborted => ClientError::Disconnected {
                peer: peer.to_owned(),
                doing: doing.to_owned(),
                reason: message,
                sent: true,
            },
            Code::Unavailable if status.metadata().contains_key(LEADER_HEADER) => {
                let leader = status.metadata().get(LEADER_HEADER).and_then(|leader| leader.to_str().ok());
                ClientError::StandsBy { message, leader: leader.filter(|leader| !leader.is_empty()).map(str::to_owned) }
            }
            // What tonic says of a message that is larger than one side accepts.
            Code::OutOfRange | Code::ResourceExhausted if message.contains("message length too large") => {
                ClientError::Statement {
                    message: format!(
                        "cannot finish {doing}: it is larger than {peer} accepts in one message ({message}); shorten the statement, or load literal data from a file"
                    ),
                }
            }
            // What answers requests that no service knows says nothing; what a statement asks for in vain has words.
            Code::Unimplemented if message.is_empty() => ClientError::Version {
                url: peer.to_owned(),
                reason: format!("{doing} is not something that it knows: is it a windlass primary of this release?"),
            },
            _ if message.is_empty() => {
                ClientError::Statement { message: format!("{doing} failed: {:?}", status.code()) }
            }
            _ => ClientError::Statement { message },
        }
    }

    pub(crate) fn unreachable(url: &str, error: &(dyn std::error::Error + 'static), waited: Duration) -> ClientError {
        let reason = deepest(error);
        let advice = if reason.contains("refused") {
            "nothing listens there: start one with 'windlass cluster up', or correct --url".to_owned()
        } else if reason.contains("lookup") || reason.contains("resolve") {
            "the host name does not resolve: correct --url".to_owned()
        } else if reason.contains("deadline") || reason.contains("timed out") {
            format!(
                "nobody answered within {} s: check the address and the firewall between here and there",
                waited.as_secs()
            )
        } else {
            "correct --url, or look at the primary's log".to_owned()
        };
        ClientError::Unreachable { url: url.to_owned(), reason, advice }
    }
}

/// Statuses that tonic makes itself, of a broken connection, carry the cause; those that a server sent do not.
pub(crate) fn is_transport(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// A channel that has lost its connection makes a new one with the next call; when that fails, the call was not sent.
fn failed_to_connect(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        // The type is private to tonic; its words are "tcp connect error" and those of a time-out while connecting.
        if error.to_string().contains("connect error") {
            return true;
        }
        source = error.source();
    }
    false
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
    fn a_refused_connection_says_what_to_do() {
        let error = io::Error::new(io::ErrorKind::ConnectionRefused, "Connection refused (os error 111)");
        let text = ClientError::unreachable("grpc://127.0.0.1:1", &error, Duration::from_secs(3)).to_string();
        assert!(text.contains("grpc://127.0.0.1:1") && text.contains("windlass cluster up"), "{text}");
    }
}

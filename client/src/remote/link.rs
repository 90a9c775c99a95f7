//! Which primary leads. Of several addresses one is that of the leader; the others refuse, answer who it is, or are silent.

use super::connection::{self, CONNECT_TIMEOUT, Identity};
use super::fetch::Fetcher;
use super::wire::Wire;
use crate::error::{ClientError, Result};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use windlass_proto::flight::flight_service_client::FlightServiceClient;
use windlass_proto::v1::ClusterStatusRequest;
use windlass_proto::v1::admin_client::AdminClient;
#[cfg(feature = "files")]
use windlass_proto::v1::files_client::FilesClient;

/// How long a cluster may be without a leader before its clients give up. A lease of the default length ends well within it.
const LEADERLESS: Duration = Duration::from_secs(20);
/// Between two rounds through all addresses.
pub(super) const PAUSE: Duration = Duration::from_millis(50);
/// How often the first question is asked whose connection breaks. Whoever refuses connections is asked once.
const FIRST_TRIES: usize = 4;

/// A connection to the primary that leads.
pub(super) struct Link {
    pub url: String,
    pub identity: Arc<Identity>,
    pub fetcher: Arc<Fetcher>,
    wire: Wire,
}

impl Link {
    pub fn new(wire: Wire, url: String, identity: &Arc<Identity>) -> Link {
        let fetcher = Arc::new(Fetcher::new(wire.clone(), url.clone(), Arc::clone(identity)));
        Link { url, identity: Arc::clone(identity), fetcher, wire }
    }

    pub fn flight(&self) -> FlightServiceClient<Wire> {
        FlightServiceClient::new(self.wire.clone()).max_decoding_message_size(usize::MAX)
    }

    #[cfg(feature = "files")]
    pub fn files(&self) -> FilesClient<Wire> {
        FilesClient::new(self.wire.clone()).max_decoding_message_size(usize::MAX)
    }

    pub fn admin(&self) -> AdminClient<Wire> {
        AdminClient::new(self.wire.clone()).max_decoding_message_size(usize::MAX)
    }
}

/// The addresses in a cluster's URL: `grpc://a:1,grpc://b:1`.
pub(super) fn members(url: &str) -> Vec<String> {
    url.split(',').map(|member| member.trim().to_owned()).collect()
}

/// Whether a primary of the cluster has answered before.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Known {
    Yes,
    /// With one address there is one try: it may be wrong.
    No,
}

/// Connects to the one that leads, or to whom it names as leader. One that died may be started again, and of several another one may
/// take its place: there are as many tries as it takes until one of them leads.
pub(super) async fn find(members: &[String], identity: &Arc<Identity>, known: Known) -> Result<Link> {
    for member in members {
        // What is no address at all does not become one by waiting.
        connection::endpoint(member, CONNECT_TIMEOUT)?;
    }
    let until = Instant::now() + LEADERLESS;
    loop {
        // All at once: one that hangs holds nobody up.
        let mut probes: FuturesUnordered<_> = members.iter().map(|member| follow(member, identity)).collect();
        let mut complaints = Vec::new();
        while let Some(outcome) = probes.next().await {
            match outcome {
                Ok(link) => return Ok(link),
                Err(error) => complaints.push(error),
            }
        }
        // What matters most to whoever asked: another release, then that nobody leads, then what cannot be reached.
        let rank = |error: &ClientError| match error {
            ClientError::Version { .. } => 0,
            ClientError::StandsBy { .. } => 1,
            _ => 2,
        };
        let complaint = complaints.into_iter().min_by_key(rank);
        let complaint = complaint.unwrap_or_else(|| ClientError::invalid("no address of a cluster is given"));
        let passes = match rank(&complaint) {
            0 => false,
            1 => true,
            _ => members.len() > 1 || known == Known::Yes,
        };
        if !passes || Instant::now() >= until {
            return Err(complaint);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The member if it leads, or whom it names.
async fn follow(member: &str, identity: &Arc<Identity>) -> Result<Link> {
    match probe(member, identity).await {
        Err(ClientError::StandsBy { leader: Some(leader), .. }) => probe(&leader, identity).await,
        outcome => outcome,
    }
}

/// Makes sure that a primary of a matching release answers, and that it leads.
async fn probe(url: &str, identity: &Arc<Identity>) -> Result<Link> {
    let mut tried = 1;
    loop {
        match ask_first(url, identity).await {
            Err(First::Broken(_)) if tried < FIRST_TRIES => tried += 1,
            Ok(link) => return Ok(link),
            Err(First::Broken(error) | First::Failed(error)) => return Err(error),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Why a primary has not answered the first question.
enum First {
    /// The connection was there, and broke.
    Broken(ClientError),
    Failed(ClientError),
}

impl From<ClientError> for First {
    fn from(error: ClientError) -> Self {
        First::Failed(error)
    }
}

async fn ask_first(url: &str, identity: &Arc<Identity>) -> std::result::Result<Link, First> {
    let wire = connection::connect(url, CONNECT_TIMEOUT).await?;
    let link = Link::new(wire, url.to_owned(), identity);
    let request = identity.request(ClusterStatusRequest {}, None);
    let asked = tokio::time::timeout(CONNECT_TIMEOUT, link.admin().cluster_status(request)).await.map_err(|_| {
        let reason = format!("it does not answer within {} s", CONNECT_TIMEOUT.as_secs());
        ClientError::Disconnected { peer: url.to_owned(), doing: "connecting".to_owned(), reason, sent: true }
    })?;
    let status = asked.map_err(|status| {
        if let Some(reason) = windlass_proto::errors::not_grpc(&status) {
            return First::Failed(ClientError::Version { url: url.to_owned(), reason });
        }
        match ClientError::from_status(&status, url, "asking for the cluster's state") {
            error @ ClientError::Disconnected { .. } => First::Broken(error),
            error => First::Failed(error),
        }
    })?;
    windlass_proto::version::check("the cluster", &status.into_inner().version)
        .map_err(|reason| ClientError::Version { url: url.to_owned(), reason })?;
    Ok(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_name_several_primaries() {
        assert_eq!(members("grpc://a:1, grpc://b:2"), ["grpc://a:1", "grpc://b:2"]);
        assert_eq!(members("a:1"), ["a:1"]);
    }
}

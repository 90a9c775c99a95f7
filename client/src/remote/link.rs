//! Finds the primary that leads. With several addresses, one is the leader's; the others refuse, name the leader, or are silent.

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

/// Time that a cluster may be without a leader before its clients give up. A lease of the default length ends well within it.
const LEADERLESS: Duration = Duration::from_secs(20);
/// Pause between two rounds over all addresses.
pub(super) const PAUSE: Duration = Duration::from_millis(50);
/// Maximum tries of the first request when the connection breaks. An address that refuses connections is tried once.
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

/// Splits the addresses in a cluster's URL: `grpc://a:1,grpc://b:1`.
pub(super) fn members(url: &str) -> Vec<String> {
    url.split(',').map(|member| member.trim().to_owned()).collect()
}

/// Whether a primary of the cluster has answered before.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Known {
    Yes,
    /// With one address there is one try, because the address may be wrong.
    No,
}

/// Connects to the leader, directly or as another primary names it. A dead primary may be restarted, and one of several may take its place, so the search is
/// repeated until one leads or the time is over.
pub(super) async fn find(members: &[String], identity: &Arc<Identity>, known: Known) -> Result<Link> {
    for member in members {
        // An invalid address does not become valid by waiting.
        connection::endpoint(member, CONNECT_TIMEOUT)?;
    }
    let until = Instant::now() + LEADERLESS;
    loop {
        // All at once, so that a hanging primary delays nobody.
        let mut probes: FuturesUnordered<_> = members.iter().map(|member| follow(member, identity)).collect();
        let mut complaints = Vec::new();
        while let Some(outcome) = probes.next().await {
            match outcome {
                Ok(link) => return Ok(link),
                Err(error) => complaints.push(error),
            }
        }
        // The most useful error comes first: another release, then that nobody leads, then an unreachable address.
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

/// Connects to the member if it leads, or to the leader that it names.
async fn follow(member: &str, identity: &Arc<Identity>) -> Result<Link> {
    match probe(member, identity).await {
        Err(ClientError::StandsBy { leader: Some(leader), .. }) => probe(&leader, identity).await,
        outcome => outcome,
    }
}

/// Checks that a primary of a matching release answers, and that it leads.
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

/// Reason why a primary has not answered the first request.
enum First {
    /// The connection was made, and broke.
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

//! Connection to the leading primary, for tasks that ask about files.

use async_trait::async_trait;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status};
use windlass_connectors::wfs::Primary;
use windlass_proto::v1;
use windlass_proto::v1::files_client::FilesClient;

/// Time that a task waits for a primary. A standby leads well within it.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

/// The connection of the dispatch stream, while it is open.
#[derive(Debug)]
pub(crate) struct Leader(watch::Sender<Option<Channel>>);

impl Default for Leader {
    fn default() -> Self {
        Leader(watch::Sender::new(None))
    }
}

impl Leader {
    pub fn set(&self, channel: Option<Channel>) {
        self.0.send_replace(channel);
    }
}

#[async_trait]
impl Primary for Leader {
    async fn ask(&self, request: v1::FileRequest) -> Result<v1::FileReply, Status> {
        let until = Instant::now() + PATIENCE;
        let mut current = self.0.subscribe();
        loop {
            let found = tokio::time::timeout_at(until, current.wait_for(Option::is_some)).await.is_ok();
            let channel = current.borrow_and_update().clone().filter(|_| found);
            let Some(channel) = channel else {
                let waited = PATIENCE.as_secs();
                return Err(Status::unavailable(format!("this executor is not attached to a primary, for {waited} s")));
            };
            match FilesClient::new(channel).max_decoding_message_size(usize::MAX).ask(request.clone()).await {
                Ok(reply) => return Ok(reply.into_inner()),
                // A repeated request happens only once, even if the first one arrived.
                Err(status) if matches!(status.code(), Code::Unavailable | Code::Unknown) && Instant::now() < until => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(status) => return Err(status),
            }
        }
    }
}

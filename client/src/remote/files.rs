//! The files of the cluster, over the connection of a session.

use super::link::Link;
use super::{Again, Remote};
use crate::error::ClientError;
use async_trait::async_trait;
use std::sync::Arc;
use tonic::Status;
use windlass_connectors::wfs::{BlockNode, Local, Primary, Wfs};
use windlass_proto::v1;

pub(super) fn of(remote: &Remote) -> Wfs {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let here = Here(v1::Near { executor: 0, host, rack: String::new() });
    Wfs::new(Arc::new(remote.clone()), tokio::runtime::Handle::current(), Some(Arc::new(here)))
}

#[async_trait]
impl Primary for Remote {
    async fn ask(&self, request: v1::FileRequest) -> std::result::Result<v1::FileReply, Status> {
        let call = |link: Arc<Link>| {
            let request = self.identity.request(request.clone(), None);
            async move {
                let answer = link.files().ask(request).await;
                let answer =
                    answer.map_err(|status| ClientError::from_status(&status, &link.url, "asking about files"));
                Ok(answer?.into_inner())
            }
        };
        // The cluster makes every request happen once.
        self.call(Again::Harmless, call).await.map_err(|error| Status::unavailable(error.to_string()))
    }
}

/// A process without replicas.
#[derive(Debug)]
struct Here(v1::Near);

impl Local for Here {
    fn near(&self) -> v1::Near {
        self.0.clone()
    }

    fn node(&self, _executor: u64) -> Option<Arc<dyn BlockNode>> {
        None
    }
}

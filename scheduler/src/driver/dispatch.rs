//! The Dispatch service: executors that attach over the network.

use crate::driver::{AttachError, Driver, Ended};
use futures::stream::{BoxStream, StreamExt};
use futures::{Stream, future, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use windlass_proto::v1;
use windlass_proto::v1::dispatch_server::Dispatch;
use windlass_proto::v1::executor_message::Message as FromExecutor;

pub struct DispatchService {
    driver: Driver,
}

impl DispatchService {
    pub fn new(driver: Driver) -> Self {
        DispatchService { driver }
    }
}

#[tonic::async_trait]
impl Dispatch for DispatchService {
    type AttachStream = BoxStream<'static, Result<v1::PrimaryMessage, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::ExecutorMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut inbound = request.into_inner();
        let Some(v1::ExecutorMessage { message: Some(FromExecutor::Register(register)) }) = inbound.message().await?
        else {
            return Err(Status::invalid_argument("the first message of an executor must be its registration"));
        };
        let (orders, outbound) = mpsc::channel(self.driver.orders());
        let attachment = self.driver.attach(register, orders).await.map_err(|error| match error {
            AttachError::Refused(_) => Status::failed_precondition(error.to_string()),
            AttachError::Stopping => Status::unavailable(error.to_string()),
        })?;
        let orders = orders_then_reason(outbound, attachment.ended());
        self.driver.tasks().spawn(attachment.serve(inbound));
        Ok(Response::new(orders.boxed()))
    }
}

/// Returns the orders, and after the last one the reason for the end.
fn orders_then_reason(
    outbound: mpsc::Receiver<v1::PrimaryMessage>,
    ended: Ended,
) -> impl Stream<Item = Result<v1::PrimaryMessage, Status>> {
    let reason = stream::once(async move { ended.reason().map(|reason| Err(Status::aborted(reason))) });
    ReceiverStream::new(outbound).map(Ok).chain(reason.filter_map(future::ready))
}

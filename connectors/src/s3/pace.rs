//! How many requests to a bucket are under way in this process: fewer while the store says that it is too much.
//!
//! The number is halved when the store throttles, once for all requests that were sent before it said so, and grows by one with each success, as in
//! RFC 5681. A request counts until its answer begins: a reader may leave the rest of it where it is for as long as it likes.

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Requests under way while nothing is wrong.
const MOST: usize = 256;
/// Too many requests, and a server that cannot serve them.
const THROTTLED: [u16; 2] = [429, 503];

/// The requests to one bucket.
#[derive(Debug)]
pub(crate) struct Pace(Mutex<State>);

#[derive(Debug)]
struct State {
    limit: usize,
    running: usize,
    /// How often the limit was halved.
    cuts: u64,
    waiting: VecDeque<oneshot::Sender<Permit>>,
}

/// A request under way.
#[derive(Debug)]
struct Permit {
    /// `None`: it was never used.
    pace: Option<Arc<Pace>>,
    /// How often the pace had been cut when the request began.
    cuts: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self(Mutex::new(State { limit: MOST, running: 0, cuts: 0, waiting: VecDeque::new() }))
    }
}

impl Pace {
    async fn begin(self: &Arc<Self>) -> Permit {
        let waiting = {
            let mut state = self.0.lock();
            if state.running < state.limit && state.waiting.is_empty() {
                state.running += 1;
                return Permit { pace: Some(Arc::clone(self)), cuts: state.cuts };
            }
            let (sender, waiting) = oneshot::channel();
            state.waiting.push_back(sender);
            waiting
        };
        // The sender is in the list until it has sent.
        waiting.await.expect("each that waits has its turn")
    }

    /// Gives those that wait the room that there is.
    fn admit(self: &Arc<Self>) {
        loop {
            let (sender, permit) = {
                let mut state = self.0.lock();
                if state.running >= state.limit {
                    return;
                }
                let Some(sender) = state.waiting.pop_front() else { return };
                state.running += 1;
                (sender, Permit { pace: Some(Arc::clone(self)), cuts: state.cuts })
            };
            if let Err(mut unused) = sender.send(permit) {
                // Nobody waits there any more: the next one has it.
                unused.pace = None;
                self.0.lock().running -= 1;
            }
        }
    }
}

impl Permit {
    fn end(self, is_throttled: bool, is_success: bool) {
        let Some(pace) = &self.pace else { return };
        let mut state = pace.0.lock();
        if is_throttled && self.cuts == state.cuts {
            state.limit = (state.limit / 2).max(1);
            state.cuts += 1;
        } else if is_success {
            state.limit = (state.limit + 1).min(MOST);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(pace) = &self.pace {
            pace.0.lock().running -= 1;
            pace.admit();
        }
    }
}

/// Makes clients whose requests keep the pace of a bucket.
#[derive(Debug)]
pub(crate) struct Paced(pub Arc<Pace>);

impl HttpConnector for Paced {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(PacedClient { client, pace: Arc::clone(&self.0) }))
    }
}

#[derive(Debug)]
struct PacedClient {
    client: HttpClient,
    pace: Arc<Pace>,
}

#[async_trait]
impl HttpService for PacedClient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let is_deletion = request.uri().query() == Some("delete");
        let permit = self.pace.begin().await;
        let answer = self.client.execute(request).await;
        let status = answer.as_ref().map(|answer| answer.status()).ok();
        let is_throttled = status.is_some_and(|status| THROTTLED.contains(&status.as_u16()));
        permit.end(is_throttled, status.is_some_and(|status| status.is_success()));
        // The crate sends no POST again whose answer was lost. That of a deletion of keys may be: they are gone then.
        match answer {
            Err(error) if is_deletion => Err(HttpError::new(HttpErrorKind::Request, error)),
            answer => answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_limit_is_halved_once_for_a_crowd_and_grows_by_one() {
        let pace = Arc::new(Pace::default());
        let limit = || pace.0.lock().limit;
        let mut crowd = Vec::new();
        for _ in 0..MOST {
            crowd.push(pace.begin().await);
        }
        let late = tokio::spawn({
            let pace = Arc::clone(&pace);
            async move { pace.begin().await }
        });
        crowd.into_iter().for_each(|permit| permit.end(true, false));
        assert_eq!(limit(), MOST / 2);
        late.await.unwrap().end(true, false);
        assert_eq!(limit(), MOST / 2 / 2, "it began after that");
        pace.begin().await.end(false, true);
        pace.begin().await.end(false, false);
        assert_eq!(limit(), MOST / 4 + 1);
        for _ in 0..20 {
            pace.begin().await.end(true, false);
        }
        assert_eq!(limit(), 1, "one goes on");
        for _ in 0..2 * MOST {
            pace.begin().await.end(false, true);
        }
        assert_eq!((limit(), pace.0.lock().running), (MOST, 0));
    }

    #[tokio::test]
    async fn who_leaves_the_line_takes_no_place() {
        let pace = Arc::new(Pace::default());
        pace.0.lock().limit = 1;
        let first = pace.begin().await;
        let mut gone = Box::pin(pace.begin());
        assert!(futures::poll!(&mut gone).is_pending());
        let next = tokio::spawn({
            let pace = Arc::clone(&pace);
            async move { pace.begin().await }
        });
        tokio::task::yield_now().await;
        drop(gone);
        drop(first);
        drop(next.await.unwrap());
        assert_eq!(pace.0.lock().running, 0);
    }
}

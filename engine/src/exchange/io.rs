//! The I/O threads: the only place where the exchange uses disks, compresses or computes checksums.

use super::ExchangeError;
use futures::Stream;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads over one queue. Writers and streams have at most two jobs each in it, which bounds it. Jobs never wait for other jobs, so there
/// is no deadlock. A dropped pool finishes the queued jobs; nobody waits for that.
pub(super) struct IoPool {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl IoPool {
    pub(super) fn start(threads: usize) -> std::io::Result<Self> {
        let pool = IoPool { shared: Arc::default() };
        for index in 0..threads.max(1) {
            let shared = Arc::clone(&pool.shared);
            std::thread::Builder::new().name(format!("exchange-io-{index}")).spawn(move || shared.work())?;
        }
        Ok(pool)
    }

    /// Runs `job` even if nobody waits for the result, but not if the future is dropped before the job starts.
    pub(super) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
        let (sender, receiver) = oneshot::channel();
        self.detach(move || {
            if !sender.is_closed() {
                // A receiver that was dropped meanwhile does not want the result: it is dropped here.
                let _ = sender.send(job());
            }
        });
        Answer(receiver)
    }

    /// Runs `job` at some time and reports to nobody.
    pub(super) fn detach(&self, job: impl FnOnce() + Send + 'static) {
        self.shared.queue.lock().jobs.push_back(Box::new(job));
        self.shared.changed.notify_one();
    }
}

impl Drop for IoPool {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        while let Some(job) = self.next() {
            // The panic hook has printed the panic. The job's sender is gone, which tells the waiting receiver.
            let _ = catch_unwind(AssertUnwindSafe(job));
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            self.changed.wait(&mut queue);
        }
    }
}

/// The result of a job. An error means that the job panicked.
pub(super) struct Answer<T>(oneshot::Receiver<T>);

impl<T> Future for Answer<T> {
    type Output = Result<T, ExchangeError>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(cx).map_err(|_| ExchangeError::Internal {
            detail: "an I/O thread panicked; its message is in this executor's log".to_owned(),
        })
    }
}

/// A source that is read step by step on the I/O threads.
pub(super) trait Cursor: Send + 'static {
    type Item: Send + 'static;

    /// The next few items, about one chunk; `None` at the end.
    fn step(&mut self) -> Result<Option<Vec<Self::Item>>, ExchangeError>;
}

/// The items of `cursor`. From the first poll on, one step runs ahead of the consumer, so at most two are buffered.
pub(super) fn stream<C: Cursor>(
    io: Arc<IoPool>,
    cursor: C,
) -> impl Stream<Item = Result<C::Item, ExchangeError>> + Send + use<C> {
    let advance = move |mut cursor: C| {
        io.run(move || {
            let step = cursor.step();
            (cursor, step)
        })
    };
    let start = (Some(cursor), None, Vec::new().into_iter());
    futures::stream::unfold(start, move |(mut idle, mut running, mut items)| {
        let advance = advance.clone();
        async move {
            loop {
                if let Some(item) = Iterator::next(&mut items) {
                    return Some((Ok(item), (idle, running, items)));
                }
                let step = match (idle.take(), running.take()) {
                    (Some(cursor), _) => advance(cursor),
                    (None, Some(step)) => step,
                    (None, None) => return None,
                };
                match step.await {
                    Ok((cursor, Ok(Some(more)))) => {
                        items = more.into_iter();
                        running = Some(advance(cursor));
                    }
                    Ok((_, Ok(None))) => return None,
                    Ok((_, Err(error))) | Err(error) => {
                        return Some((Err(error), (None, None, Vec::new().into_iter())));
                    }
                }
            }
        }
    })
}

//! Threads that plan.
//!
//! The syntax tree, plans and expressions of a statement take time to walk, rewrite, encode and free in proportion to their size, by
//! functions that recurse as deep as they are nested. None of that may happen on threads that serve connections, heartbeats and the
//! scheduling machine. So a statement is a future that is polled on threads of its own with large stacks.
//!
//! ```text
//!   run ──> queue ──> a thread polls it ──ready──> freed there; whoever waits is answered
//!             ^              │pending
//!             └──── woken ───┘
//!   dropped while it waits or is polled: freed on such a thread, after what it is in the midst of
//! ```
//!
//! A busy thread delays no other statement: more threads are started when needed, up to [`MAX_THREADS`]. Timers, sockets and tasks that
//! a statement starts run on the caller's runtime.

use crate::errors::QueryError;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::{Condvar, Mutex};
use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use windlass_engine::interrupt::{self, Work};
use windlass_engine::room::{STACK_BYTES, with_room};

/// Maximum statements that compute here at the same time. Statements that wait for their jobs do not count.
const MAX_THREADS: usize = 64;
/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(10);
/// Age at which a thread is replaced, to give back the memory of its stack.
const SERVES: Duration = Duration::from_secs(60);
/// Interval between checks for work that has computed too long.
const LOOKS: Duration = Duration::from_millis(200);

/// The pool of planning threads. Cheap to clone.
#[derive(Clone)]
pub struct Planners {
    pool: Arc<Pool>,
    /// Maximum bytes that each piece of work may hold.
    memory: u64,
}

/// The work ended early, for this reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished(pub String);

impl From<Unfinished> for QueryError {
    fn from(Unfinished(reason): Unfinished) -> Self {
        QueryError::Internal(reason)
    }
}

#[derive(Default)]
struct Pool {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Arc<Task>>,
    threads: usize,
    idle: usize,
}

struct Task {
    pool: Arc<Pool>,
    runtime: Handle,
    progress: Mutex<Progress>,
    /// Running code looks at this from time to time.
    work: Arc<Work>,
    /// Absent while it is polled, and after its end.
    future: Mutex<Option<BoxFuture<'static, ()>>>,
}

#[derive(Default)]
struct Progress {
    stage: Stage,
    /// Time spent in polls, without the present one, which began at `polled`.
    computed: Duration,
    polled: Option<Instant>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Waiting,
    Queued,
    Polled,
    /// Woken during a poll.
    Woken,
    Over,
}

impl Planners {
    /// Creates planners. Each piece of work may hold `memory` bytes. [`u64::MAX`]: no limit.
    pub fn new(memory: u64) -> Self {
        Self { pool: Arc::default(), memory }
    }

    /// Runs `work` to its end on the planning threads. Dropping the future drops the work there too.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Unfinished> {
        let never = |_: Duration| None::<std::convert::Infallible>;
        match self.run_unless(work, never).await? {
            Ok(done) => Ok(done),
            Err(impossible) => match impossible {},
        }
    }

    /// Runs `work` as [`Planners::run`] does, until `enough` returns a reason to stop. It is called a few times a second with the time
    /// that the work has computed.
    pub async fn run_unless<T: Send + 'static, E>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
        enough: impl Fn(Duration) -> Option<E>,
    ) -> Result<Result<T, E>, Unfinished> {
        let (sender, receiver) = oneshot::channel();
        let future = async move {
            let done = AssertUnwindSafe(work).catch_unwind().await;
            // The caller may have left.
            let _ = sender.send(done);
        };
        let task = Task::start(&self.pool, Work::new(self.memory), future.boxed());
        let abandon_on_drop = Abandon(task);
        let too_much = async {
            loop {
                tokio::time::sleep(LOOKS).await;
                if let Some(error) = enough(abandon_on_drop.0.progress.lock().computed()) {
                    return error;
                }
            }
        };
        let received = tokio::select! {
            biased;
            received = receiver => received,
            error = too_much => return Ok(Err(error)),
        };
        match received {
            Ok(Ok(done)) => Ok(Ok(done)),
            Ok(Err(panic)) => Err(Unfinished(format!("planning panicked: {}", said(&*panic)))),
            Err(_) => Err(Unfinished("no thread could be started to plan on".to_string())),
        }
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

struct Abandon(Arc<Task>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.work.give_up();
        Arc::clone(&self.0).wake();
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let mut progress = self.progress.lock();
        match progress.stage {
            Stage::Waiting => progress.stage = Stage::Queued,
            Stage::Polled => {
                progress.stage = Stage::Woken;
                return;
            }
            Stage::Queued | Stage::Woken | Stage::Over => return,
        }
        drop(progress);
        let pool = Arc::clone(&self.pool);
        pool.push(self);
    }
}

impl Progress {
    fn computed(&self) -> Duration {
        self.computed + self.polled.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl Task {
    fn start(pool: &Arc<Pool>, work: Work, future: BoxFuture<'static, ()>) -> Arc<Self> {
        let task = Arc::new(Self {
            pool: Arc::clone(pool),
            runtime: Handle::current(),
            progress: Mutex::default(),
            work: Arc::new(work),
            future: Mutex::new(Some(future)),
        });
        Arc::clone(&task).wake();
        task
    }

    fn poll(self: Arc<Self>) {
        let Some(mut future) = self.future.lock().take() else { return };
        let _runtime = self.runtime.enter();
        let waker = Waker::from(Arc::clone(&self));
        loop {
            {
                let mut progress = self.progress.lock();
                if self.work.is_given_up() {
                    progress.stage = Stage::Over;
                    break;
                }
                progress.stage = Stage::Polled;
                progress.polled = Some(Instant::now());
            }
            let mut poll = || future.as_mut().poll(&mut Context::from_waker(&waker));
            let polled = interrupt::planning(&self.work, &mut poll);
            let mut progress = self.progress.lock();
            progress.computed = progress.computed();
            progress.polled = None;
            if polled == Poll::Ready(()) {
                progress.stage = Stage::Over;
                break;
            }
            if progress.stage == Stage::Polled {
                // This comes before any wake-up.
                *self.future.lock() = Some(future);
                progress.stage = Stage::Waiting;
                return;
            }
        }
        // It is dropped here, inside the runtime.
        drop(future);
    }

    /// Ends a task that cannot be polled.
    fn give_up(&self) {
        self.progress.lock().stage = Stage::Over;
        let future = self.future.lock().take();
        with_room(|| drop(future));
    }
}

impl Pool {
    fn push(self: Arc<Self>, task: Arc<Task>) {
        let mut state = self.state.lock();
        state.queue.push_back(task);
        if state.idle >= state.queue.len() || state.threads >= MAX_THREADS {
            self.work.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        self.start_thread();
    }

    fn start_thread(self: Arc<Self>) {
        let pool = Arc::clone(&self);
        let builder = std::thread::Builder::new().name("windlass-plan".to_string()).stack_size(STACK_BYTES);
        let Err(error) = builder.spawn(move || pool.serve()) else { return };
        let mut state = self.state.lock();
        state.threads -= 1;
        if state.threads > 0 {
            return;
        }
        tracing::error!(%error, "no thread could be started to plan on");
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        queue.iter().for_each(|task| task.give_up());
    }

    fn serve(self: Arc<Self>) {
        let began = Instant::now();
        while let Some(task) = self.next() {
            // Only a destructor that panics gets here.
            let _ = catch_unwind(AssertUnwindSafe(|| task.poll()));
            if began.elapsed() >= SERVES {
                break;
            }
        }
        let mut state = self.state.lock();
        state.threads -= 1;
        if state.queue.len() > state.idle {
            state.threads += 1;
            drop(state);
            self.start_thread();
        }
    }

    /// Waits for work. `None`: none came for a while.
    fn next(&self) -> Option<Arc<Task>> {
        let mut state = self.state.lock();
        loop {
            if let Some(task) = state.queue.pop_front() {
                return Some(task);
            }
            state.idle += 1;
            let waited = self.work.wait_for(&mut state, IDLE);
            state.idle -= 1;
            if waited.timed_out() && state.queue.is_empty() {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::sync::Notify;

    /// Recurses too deep for the stack of an ordinary thread.
    fn deep(depth: u32) -> u64 {
        let frame = std::hint::black_box([u64::from(depth); 32]);
        if depth == 0 { 0 } else { 1 + deep(depth - 1) + frame[31] - u64::from(depth) }
    }

    #[tokio::test]
    async fn there_is_room_to_recurse() {
        let planners = Planners::new(u64::MAX);
        assert_eq!(planners.run(async { deep(100_000) }).await, Ok(100_000));
    }

    #[tokio::test]
    async fn work_may_wait_for_what_happens_elsewhere() {
        let (planners, there) = (Planners::new(u64::MAX), Arc::new(Notify::new()));
        let waits = {
            let there = Arc::clone(&there);
            async move {
                for _ in 0..100 {
                    there.notified().await;
                    tokio::time::sleep(Duration::from_micros(10)).await;
                    tokio::task::yield_now().await;
                }
                tokio::spawn(async { 7 }).await.unwrap()
            }
        };
        let notify = async {
            loop {
                there.notify_one();
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            done = planners.run(waits) => assert_eq!(done, Ok(7)),
            () = notify => {}
        }
    }

    #[tokio::test]
    async fn what_computes_for_long_keeps_nobody() {
        let (planners, stop) = (Planners::new(u64::MAX), Arc::new(AtomicBool::new(false)));
        let busy = (0..8).map(|_| {
            let (planners, stop) = (planners.clone(), Arc::clone(&stop));
            let spin = async move {
                while !stop.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
            };
            tokio::spawn(async move { planners.run(spin).await })
        });
        let busy: Vec<_> = busy.collect();
        tokio::task::yield_now().await;
        for n in 0..100 {
            assert_eq!(planners.run(async move { n }).await, Ok(n));
        }
        stop.store(true, Ordering::Relaxed);
        for task in busy {
            assert_eq!(task.await.unwrap(), Ok(()));
        }
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_dropped() {
        struct Held(Option<oneshot::Sender<String>>);
        impl Drop for Held {
            fn drop(&mut self) {
                let name = std::thread::current().name().unwrap_or_default().to_string();
                let _ = self.0.take().map(|sender| sender.send(name));
            }
        }
        let planners = Planners::new(u64::MAX);
        let (sender, dropped) = oneshot::channel();
        let held = Held(Some(sender));
        let waits = async move {
            let _held = held;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            _ = planners.run(waits) => panic!("it never ends"),
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
        }
        assert_eq!(dropped.await.unwrap(), "windlass-plan");
    }

    #[tokio::test]
    async fn what_computes_for_too_long_is_given_up() {
        let planners = Planners::new(u64::MAX);
        let (sender, stopped) = oneshot::channel::<()>();
        let spin = async move {
            let _sender = sender;
            let until = Instant::now() + Duration::from_secs(1);
            while Instant::now() < until {
                std::thread::yield_now();
            }
            std::future::pending::<()>().await;
        };
        let enough = |computed: Duration| (computed > Duration::from_millis(300)).then_some(computed);
        assert!(planners.run_unless(spin, enough).await.unwrap().is_err());
        // The running poll continues to its next pause.
        assert!(stopped.await.is_err());
        let waits = async { tokio::time::sleep(Duration::from_millis(700)).await };
        assert_eq!(planners.run_unless(waits, enough).await, Ok(Ok(())), "waiting is not computing");
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let planners = Planners::new(u64::MAX);
        let panicked = planners.run(async { panic!("at {}", 7) }).await;
        assert_eq!(panicked, Err::<(), _>(Unfinished("planning panicked: at 7".to_string())));
        assert_eq!(planners.run(async { 1 }).await, Ok(1));
    }
}

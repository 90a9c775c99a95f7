//! Python processes of interactive sessions, their *kernels*.
//!
//! ```text
//!   Python (of a session) ──runs the program──> executor ──starts──> kernel
//!      │                                                               │ connects, with a key that serves once
//!      └──orders──> Kernels ──a stream, while both sides live──────────┤
//!      <──result────── by the secret that the stream began with ───────┘
//!
//!   kernel:  (first statement) ──> starting ──> connected ──(the stream or the program ends)──> gone ──(next statement)──> starting …
//! ```
//!
//! A kernel is a program like others ([`windlass_engine::programs`]): the scheduler picks its executor, and the executor's limits hold. It lives as long as its
//! [`Kernel`] here: dropping that cancels the program, whose supervisor ends all of its processes.

use super::Shared;
use super::done::Done;
use crate::errors::QueryError;
use crate::meta::keys::interactive::Output;
use crate::services::runs::{Ask, Attached};
use crate::statements::Info;
use crate::statements::sessions::Session;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use windlass_core::job::Retention;
use windlass_engine::programs::{PYTHON_SESSION, run_program_sql};

/// Time that a statement has to end after it was interrupted. Then its process is ended.
const INTERRUPTED: Duration = Duration::from_secs(2);
/// Time after the end of a kernel's connection in which its program's end, which says why, is expected.
const END: Duration = Duration::from_secs(5);
/// Orders that a kernel has not read. It gets two for each statement at most.
const ORDERS: usize = 16;

/// What a kernel is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The first order. `secret`: what its results are sent with. `session`: the session that its SQL runs in. `limit`: maximum bytes of an output.
    Begin {
        secret: String,
        session: String,
        limit: u64,
    },
    Run {
        statement: u32,
        code: String,
    },
    Interrupt {
        statement: u32,
    },
}

/// How a statement of Python ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PythonResult {
    /// `forms`: a JSON object of the forms of its output, by their media types.
    Done { forms: Bytes },
    /// `printed`: what it printed before.
    Failed { name: String, message: String, traceback: Vec<String>, printed: String },
}

/// Why a kernel was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KernelError {
    #[error("there is no such process, or its session has ended")]
    NotKnown,
    #[error("the key is wrong, or has served already")]
    Denied,
    #[error("no such statement of it runs")]
    NotRunning,
}

/// The kernels of all sessions, by name. Cheap to clone.
#[derive(Clone, Default)]
pub struct Kernels {
    known: Arc<Mutex<BTreeMap<String, Arc<Known>>>>,
}

struct Known {
    /// Until it has served.
    key: Mutex<Option<String>>,
    secret: String,
    /// Until a kernel has connected.
    orders: Mutex<Option<mpsc::Receiver<Order>>>,
    connection: watch::Sender<Connection>,
    /// The statement that runs, and who waits for it.
    running: Mutex<Option<(u32, oneshot::Sender<PythonResult>)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    Expected,
    Open,
    Closed,
}

/// The orders of a connected kernel. Dropping them ends its connection.
pub struct Orders {
    orders: mpsc::Receiver<Order>,
    known: Arc<Known>,
}

impl Orders {
    /// Waits for the next order. `None`: nobody wants the kernel any more.
    pub async fn next(&mut self) -> Option<Order> {
        self.orders.recv().await
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        self.known.connection.send_replace(Connection::Closed);
    }
}

impl Kernels {
    /// Connects a kernel, whose key serves once.
    pub fn connect(&self, name: &str, key: &str) -> Result<Orders, KernelError> {
        let known = self.find(name)?;
        {
            let mut expected = known.key.lock();
            if expected.as_deref() != Some(key) {
                return Err(KernelError::Denied);
            }
            *expected = None;
        }
        let orders = known.orders.lock().take().ok_or(KernelError::Denied)?;
        known.connection.send_replace(Connection::Open);
        Ok(Orders { orders, known })
    }

    /// Takes the result of the running statement.
    pub fn ended(&self, name: &str, secret: &str, statement: u32, result: PythonResult) -> Result<(), KernelError> {
        let known = self.find(name)?;
        if known.secret != secret {
            return Err(KernelError::Denied);
        }
        let waits = known.running.lock().take_if(|(running, _)| *running == statement);
        let (_, waits) = waits.ok_or(KernelError::NotRunning)?;
        waits.send(result).map_err(|_| KernelError::NotRunning)
    }

    fn find(&self, name: &str) -> Result<Arc<Known>, KernelError> {
        self.known.lock().get(name).cloned().ok_or(KernelError::NotKnown)
    }
}

/// The kernel of one session.
struct Kernel {
    name: String,
    kernels: Kernels,
    known: Arc<Known>,
    orders: mpsc::Sender<Order>,
    /// The program.
    run: Attached,
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.kernels.known.lock().remove(&self.name);
    }
}

impl Kernel {
    /// Has an executor start a kernel, and returns it when it is connected.
    ///
    /// # Errors
    /// Why it does not run.
    async fn start(shared: &Shared, session: &Arc<Session>) -> Result<Self, QueryError> {
        let name = shared.ids.name();
        let secret = || {
            shared.ids.secret().iter().fold(String::new(), |mut all, byte| {
                // Writing to a text does not fail.
                let _ = write!(all, "{byte:02x}");
                all
            })
        };
        let (key, secret) = (secret(), secret());
        let (orders, received) = mpsc::channel(ORDERS);
        let begin =
            Order::Begin { secret: secret.clone(), session: session.id.clone(), limit: shared.config.row_bytes };
        // The channel is empty.
        let _ = orders.try_send(begin);
        let known = Arc::new(Known {
            key: Mutex::new(Some(key.clone())),
            secret,
            orders: Mutex::new(Some(received)),
            connection: watch::Sender::new(Connection::Expected),
            running: Mutex::default(),
        });
        shared.kernels.known.lock().insert(name.clone(), Arc::clone(&known));
        let sql = run_program_sql(PYTHON_SESSION, &[shared.rest_url.clone(), name.clone(), key]);
        let info = Info { name: "Python of a session".to_string(), retention: Retention::Internal, ..Info::default() };
        let own = own_session(shared, session, &name)?;
        let run = shared.runs.attach(&session.user, &own, Ask::sql(sql), info, None);
        let kernel = Kernel { name, kernels: shared.kernels.clone(), known, orders, run };
        let mut connection = kernel.known.connection.subscribe();
        tokio::select! {
            // The sender lives as long as the kernel.
            _ = connection.wait_for(|connection| *connection != Connection::Expected) => Ok(()),
            ended = kernel.run.ended() => Err(ended.err().unwrap_or_else(|| {
                QueryError::Internal("its program has ended before it was connected".to_string())
            })),
        }?;
        Ok(kernel)
    }

    /// Waits until the kernel is gone, and returns why.
    async fn gone(&self) -> String {
        let ended = async { self.run.ended().await.map_or_else(|error| error.to_string(), |_| "it has ended".into()) };
        tokio::pin!(ended);
        let mut connection = self.known.connection.subscribe();
        tokio::select! {
            biased;
            why = &mut ended => return why,
            _ = connection.wait_for(|connection| *connection == Connection::Closed) => {}
        }
        tokio::time::timeout(END, ended).await.unwrap_or_else(|_| "its connection to the primary broke".to_string())
    }

    async fn run(&self, statement: u32, code: String, stop: &CancellationToken) -> Ran {
        let (tell, mut told) = oneshot::channel();
        *self.known.running.lock() = Some((statement, tell));
        // A kernel that does not read its orders does not answer either.
        let _ = self.orders.try_send(Order::Run { statement, code });
        let gone = self.gone();
        tokio::pin!(gone);
        tokio::select! {
            biased;
            Ok(result) = &mut told => return Ran::Ended(result),
            why = &mut gone => return Ran::Gone(why),
            () = stop.cancelled() => {}
        }
        let _ = self.orders.try_send(Order::Interrupt { statement });
        tokio::select! {
            biased;
            Ok(result) = &mut told => match result {
                PythonResult::Failed { name, printed, .. } if name == "KeyboardInterrupt" => Ran::Interrupted { printed },
                result => Ran::Ended(result),
            },
            why = &mut gone => Ran::Gone(why),
            () = tokio::time::sleep(INTERRUPTED) => Ran::Deaf,
        }
    }
}

/// How a kernel ran a statement.
enum Ran {
    Ended(PythonResult),
    /// It was stopped, and the names of the session stay.
    Interrupted {
        printed: String,
    },
    /// It was to stop, and did not.
    Deaf,
    Gone(String),
}

/// Returns the session in which the program runs: with the options of `session`, but no time limit, because it lives as long as that.
fn own_session(shared: &Shared, session: &Session, name: &str) -> Result<Arc<Session>, QueryError> {
    let own = Session::new(format!("python-{name}"), session.user.clone(), shared.statements.catalog());
    for (option, value) in windlass_engine::config::entries(session.state().config()) {
        own.set_option(&option, &value)?;
    }
    own.set_option("windlass.statement_timeout_ms", "0")?;
    Ok(own)
}

/// The Python of one session: its kernel, once there is one.
pub(super) struct Python {
    shared: Arc<Shared>,
    state: tokio::sync::Mutex<State>,
}

enum State {
    /// There is no kernel, and nothing was lost.
    None,
    Runs(Kernel),
    /// The names are lost for this reason, and no statement has said so.
    Lost(String),
}

impl Python {
    /// `lost`: why the names of an earlier process are gone, if no statement has said so.
    pub fn new(shared: &Arc<Shared>, lost: Option<String>) -> Arc<Self> {
        let state = lost.map_or(State::None, State::Lost);
        Arc::new(Python { shared: Arc::clone(shared), state: tokio::sync::Mutex::new(state) })
    }

    /// Whether there are names that go with a process, or whose loss was not told.
    pub fn has_names(&self) -> bool {
        // It is held while a statement runs.
        self.state.try_lock().map_or(true, |state| !matches!(*state, State::None))
    }

    /// Ends the process, if no statement runs.
    pub fn end(&self) {
        if let Ok(mut state) = self.state.try_lock() {
            *state = State::None;
        }
    }

    /// Runs a statement. The session's first one starts the process.
    pub async fn run(&self, session: &Arc<Session>, statement: u32, code: String, stop: CancellationToken) -> Done {
        let mut state = self.state.lock().await;
        if self.shared.statements.gate().is_closed() {
            return Done::NotBegun;
        }
        if let Some(why) = state.lost().await {
            *state = State::None;
            return gone(format!(
                "the Python process of this session has ended: {why}. Its names are gone and this statement did not run; the next one of Python starts a \
                 new process"
            ));
        }
        if matches!(*state, State::None) {
            let started = tokio::select! {
                biased;
                () = stop.cancelled() => return Done::stopped("the statement was cancelled", None),
                started = Kernel::start(&self.shared, session) => started,
            };
            match started {
                Ok(kernel) => *state = State::Runs(kernel),
                Err(QueryError::NotLeading(_)) => return Done::NotBegun,
                Err(error) => {
                    return Done::of(Output::failed(
                        "PythonNotStarted",
                        format!("the Python process of this session does not run: {error}"),
                    ));
                }
            }
        }
        let State::Runs(kernel) = &*state else { return Done::NotBegun };
        let ran = kernel.run(statement, code, &stop).await;
        if matches!(ran, Ran::Gone(_) | Ran::Deaf) {
            *state = State::None;
        }
        match ran {
            Ran::Ended(PythonResult::Done { forms }) => Done::with(Output::Forms, forms),
            Ran::Ended(PythonResult::Failed { name, message, traceback, printed }) => {
                Done::of(Output::Failed { name, message, traceback, printed })
            }
            Ran::Interrupted { printed } => Done::stopped_after(printed),
            Ran::Deaf => {
                let log = format!(
                    "statement {statement} did not end within {} s of its cancellation: the Python process of this session was ended, and its names are gone",
                    INTERRUPTED.as_secs()
                );
                Done::stopped(log.clone(), Some(log))
            }
            Ran::Gone(why) => gone(format!(
                "the Python process of this session has ended while the statement ran, and how far that came is not known: {why}. Its names are gone; the next \
                 statement of Python starts a new process"
            )),
        }
    }
}

impl State {
    /// Returns why names are lost, if no statement has said so.
    async fn lost(&self) -> Option<String> {
        match self {
            State::None => None,
            State::Lost(why) => Some(why.clone()),
            State::Runs(kernel) => {
                let is_closed = *kernel.known.connection.borrow() == Connection::Closed;
                tokio::select! {
                    biased;
                    why = kernel.gone() => Some(why),
                    () = std::future::ready(()), if !is_closed => None,
                }
            }
        }
    }
}

/// The process is gone.
fn gone(message: String) -> Done {
    let output = Output::failed("PythonEnded", message.clone());
    Done::Output { output, content: None, stopped: false, log: Some(message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(kernels: &Kernels) -> (mpsc::Sender<Order>, oneshot::Receiver<PythonResult>) {
        let ((orders, received), (tell, told)) = (mpsc::channel(ORDERS), oneshot::channel());
        let known = Known {
            key: Mutex::new(Some("key".into())),
            secret: "secret".into(),
            orders: Mutex::new(Some(received)),
            connection: watch::Sender::new(Connection::Expected),
            running: Mutex::new(Some((3, tell))),
        };
        kernels.known.lock().insert("k".into(), Arc::new(known));
        (orders, told)
    }

    #[tokio::test]
    async fn a_key_serves_once_and_a_result_needs_the_secret() {
        let kernels = Kernels::default();
        let (orders, told) = known(&kernels);
        let refused = |name: &str, key: &str| kernels.connect(name, key).map(drop).unwrap_err();
        assert_eq!(refused("other", "key"), KernelError::NotKnown);
        assert_eq!(refused("k", "secret"), KernelError::Denied);
        let mut connected = kernels.connect("k", "key").unwrap();
        assert_eq!(refused("k", "key"), KernelError::Denied);
        let order = Order::Interrupt { statement: 3 };
        orders.send(order.clone()).await.unwrap();
        assert_eq!(connected.next().await, Some(order));

        let result = PythonResult::Done { forms: Bytes::from("{}") };
        let ended = |secret: &str, statement| kernels.ended("k", secret, statement, result.clone());
        assert_eq!(ended("key", 3), Err(KernelError::Denied));
        assert_eq!(ended("secret", 2), Err(KernelError::NotRunning));
        assert_eq!(ended("secret", 3), Ok(()));
        assert_eq!(ended("secret", 3), Err(KernelError::NotRunning));
        assert_eq!(told.await.unwrap(), result);

        let connection = kernels.find("k").unwrap().connection.subscribe();
        assert_eq!(*connection.borrow(), Connection::Open);
        drop(connected);
        assert_eq!(*connection.borrow(), Connection::Closed);
        drop(orders);
    }

    #[tokio::test]
    async fn a_kernel_that_nobody_wants_gets_no_more_orders() {
        let kernels = Kernels::default();
        let (orders, _told) = known(&kernels);
        let mut connected = kernels.connect("k", "key").unwrap();
        drop(orders);
        assert_eq!(connected.next().await, None);
    }
}

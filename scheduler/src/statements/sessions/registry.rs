//! Assigns requests to sessions, and ends sessions.
//!
//! A request is identified by the first of these that it carries: the id of a session that it joins, the session cookie, the bearer token, the connection. The first reply
//! of a session carries the cookie, so a client that keeps cookies may return over any connection.
//!
//! ```text
//!   new ──> used ──> idle ──(idle timeout)──> gone
//!             │
//!             └─(its connection ended, and nothing else ever named it)──(grace)──> gone
//! ```
//!
//! There is no user database. Authentication belongs to another layer; without it any user and password get a token.

use super::Session;
use crate::errors::QueryError;
use crate::statements::catalog::{Catalog, Edit};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use windlass_core::access::Principal;

/// The cookie of the Flight SQL specification.
pub const SESSION_COOKIE: &str = "arrow_flight_session_id";

#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// How long a session may be unused before it ends. Default 30 min.
    pub idle: Duration,
    /// How long the session of a connection outlives the connection. Default 10 s.
    pub grace: Duration,
    /// Maximum concurrent sessions. Default 10,000.
    pub max_sessions: usize,
    /// Options with which every session begins, as SET takes them. Default: none.
    pub options: Vec<(String, String)>,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(30 * 60),
            grace: Duration::from_secs(10),
            max_sessions: 10_000,
            options: Vec::new(),
        }
    }
}

/// Information in a request about its sender.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The session that it joins, which no request begins.
    pub joins: Option<String>,
    pub cookie: Option<String>,
    pub token: Option<String>,
    pub connection: Option<u64>,
}

#[derive(Debug)]
pub struct Registry {
    config: SessionConfig,
    catalog: Arc<Catalog>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    by_id: BTreeMap<String, Known>,
    by_token: BTreeMap<String, String>,
    by_connection: BTreeMap<u64, String>,
    /// Open connections of clients.
    connections: BTreeSet<u64>,
}

#[derive(Debug)]
struct Known {
    session: Arc<Session>,
    last_used: Instant,
    /// Whether a cookie or token has named the session, so that it does not end with its connection.
    portable: bool,
    connection: Option<u64>,
    token: Option<String>,
    connection_ended: Option<Instant>,
}

impl Registry {
    pub fn new(config: SessionConfig, catalog: Arc<Catalog>) -> Arc<Self> {
        Arc::new(Self { config, catalog, state: Mutex::default() })
    }

    /// Returns the session of a request, and begins one if necessary. The flag says that the session is new to the client, so that the
    /// reply sets the cookie.
    pub fn find_or_begin(&self, by: &Principal, caller: &Caller) -> Result<(Arc<Session>, bool), QueryError> {
        self.find_or_begin_at(by, caller, self.catalog.clock().now())
    }

    fn find_or_begin_at(
        &self,
        by: &Principal,
        caller: &Caller,
        now: Instant,
    ) -> Result<(Arc<Session>, bool), QueryError> {
        if let Some(id) = &caller.joins {
            let ended = || {
                QueryError::NotFound(format!(
                    "there is no session {id}: it has ended, or another primary leads since it was joined"
                ))
            };
            return self.find(id).map(|session| (session, false)).ok_or_else(ended);
        }
        let mut state = self.state.lock();
        if let Some(session) = state.find(caller, now) {
            return Ok((session, false));
        }
        if state.by_id.len() >= self.config.max_sessions {
            return Err(QueryError::Exhausted(format!(
                "there are {} sessions already; close some, or wait until idle ones expire",
                state.by_id.len()
            )));
        }
        // A cookie of an ended session gets a new session with a new cookie.
        let id = self.catalog.ids().name();
        let session = Session::new(id.clone(), by.clone(), &self.catalog);
        for (name, value) in &self.config.options {
            session.set_option(name, value)?;
        }
        if let Some(token) = &caller.token {
            state.by_token.insert(token.clone(), id.clone());
        }
        if let Some(connection) = caller.connection.filter(|_| caller.token.is_none()) {
            state.by_connection.insert(connection, id.clone());
        }
        let known = Known {
            session: Arc::clone(&session),
            last_used: now,
            portable: caller.token.is_some() || caller.connection.is_none(),
            connection: caller.connection,
            token: caller.token.clone(),
            connection_ended: None,
        };
        state.by_id.insert(id, known);
        Ok((session, true))
    }

    /// Returns the session with this id and marks it as used.
    pub fn find(&self, id: &str) -> Option<Arc<Session>> {
        let mut state = self.state.lock();
        let known = state.by_id.get_mut(id)?;
        known.last_used = self.catalog.clock().now();
        Some(Arc::clone(&known.session))
    }

    /// Maps each session and its idle time with `view`.
    pub fn list<T>(&self, view: impl Fn(&Arc<Session>, Duration) -> T) -> Vec<T> {
        let (state, now) = (self.state.lock(), self.catalog.clock().now());
        let idle = |known: &Known| now.saturating_duration_since(known.last_used);
        state.by_id.values().map(|known| view(&known.session, idle(known))).collect()
    }

    /// Returns a token for a client that authenticates. Its session begins with its first request.
    pub fn issue_token(&self) -> String {
        self.catalog.ids().name()
    }

    pub fn len(&self) -> usize {
        self.state.lock().by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends a session on its client's request. False: no such session.
    pub async fn close(&self, id: &str) -> bool {
        let known = self.state.lock().remove(id);
        match known {
            Some(known) => {
                self.discard(vec![known.session]).await;
                true
            }
            None => false,
        }
    }

    pub(super) fn connection_began(&self, connection: u64) {
        self.state.lock().connections.insert(connection);
    }

    /// Whether a client still has this connection.
    pub fn is_connected(&self, connection: u64) -> bool {
        self.state.lock().connections.contains(&connection)
    }

    pub(super) fn connection_ended(&self, connection: u64) {
        let mut state = self.state.lock();
        state.connections.remove(&connection);
        if let Some(id) = state.by_connection.remove(&connection)
            && let Some(known) = state.by_id.get_mut(&id)
        {
            known.connection_ended = Some(self.catalog.clock().now());
        }
    }

    /// Ends the sessions that have expired and returns their number. Call it every few seconds.
    pub async fn expire(&self) -> usize {
        self.expire_at(self.catalog.clock().now()).await
    }

    async fn expire_at(&self, now: Instant) -> usize {
        let ended: Vec<Arc<Session>> = {
            let mut state = self.state.lock();
            let over = |known: &Known| {
                let abandoned = |ended: Instant| !known.portable && now.duration_since(ended) >= self.config.grace;
                now.duration_since(known.last_used) >= self.config.idle || known.connection_ended.is_some_and(abandoned)
            };
            // A running statement holds its session too.
            let idle = |known: &Known| Arc::strong_count(&known.session) == 1;
            let ids: Vec<_> =
                state.by_id.iter().filter(|(_, known)| over(known) && idle(known)).map(|(id, _)| id.clone()).collect();
            ids.iter().filter_map(|id| state.remove(id)).map(|known| known.session).collect()
        };
        let count = ended.len();
        self.discard(ended).await;
        count
    }

    /// Discards sessions, with the files of their temporary tables.
    async fn discard(&self, sessions: Vec<Arc<Session>>) {
        let tables = sessions.iter().flat_map(|session| session.temporary().drain());
        let edits: Vec<Edit> = tables.flat_map(|held| self.catalog.discard_temporary(&held.record)).collect();
        if !edits.is_empty()
            && let Err(error) = self.catalog.change(None, |_| Ok(edits)).await
        {
            tracing::warn!(%error, "the files of ended sessions stay until the primary starts again");
        }
    }
}

impl State {
    fn find(&mut self, caller: &Caller, now: Instant) -> Option<Arc<Session>> {
        let by_cookie = caller.cookie.as_ref().filter(|id| self.by_id.contains_key(*id)).cloned();
        let portable = by_cookie.is_some() || caller.token.is_some();
        let id = by_cookie
            .or_else(|| caller.token.as_ref().and_then(|token| self.by_token.get(token).cloned()))
            .or_else(|| {
                let connection = caller.connection.filter(|_| caller.token.is_none())?;
                self.by_connection.get(&connection).cloned()
            })?;
        let known = self.by_id.get_mut(&id)?;
        known.last_used = now;
        known.portable |= portable;
        Some(Arc::clone(&known.session))
    }

    fn remove(&mut self, id: &str) -> Option<Known> {
        let known = self.by_id.remove(id)?;
        if let Some(connection) = known.connection
            && self.by_connection.get(&connection).is_some_and(|of| of == id)
        {
            self.by_connection.remove(&connection);
        }
        if let Some(token) = &known.token {
            self.by_token.remove(token);
        }
        Some(known)
    }
}

#[cfg(test)]
impl Registry {
    pub(super) fn find_or_begin_for_test(&self, caller: &Caller, now: Instant) -> (Arc<Session>, bool) {
        self.find_or_begin_at(&Principal::anonymous(), caller, now).unwrap()
    }

    pub(super) async fn expire_for_test(&self, now: Instant) -> usize {
        self.expire_at(now).await
    }
}

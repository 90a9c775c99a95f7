//! Client sessions: options, temporary tables, prepared statements.

mod connection;
mod plans;
mod registry;
#[cfg(test)]
mod tests;

pub use connection::{Connection, Tracked, incoming};
pub use registry::{Caller, Registry, SESSION_COOKIE, SessionConfig};

use crate::clock::Ids;
use crate::errors::{QueryError, of_option};
use crate::statements::catalog::{Archives, Catalog, Listings, SessionCatalogs, TableName, TempTables};
use crate::statements::erased::Erased;
use crate::statements::prepared::PreparedHandle;
use datafusion::common::TableReference;
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use parking_lot::Mutex;
use plans::PlanCache;
pub(crate) use plans::Versions;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use windlass_core::access::Principal;
use windlass_engine::session::{session_config, session_state, update_functions};
use windlass_engine::stores::{StoreOptions, Stores};

/// Maximum prepared statements of one session.
const MAX_PREPARED: usize = 1_000;

/// One client's view of the cluster.
pub struct Session {
    pub id: String,
    pub user: Principal,
    context: Erased<SessionContext>,
    temporary: Arc<TempTables>,
    options_version: AtomicU64,
    /// Statements prepared with SQL's PREPARE.
    prepared: Mutex<BTreeMap<String, Erased<Statement>>>,
    pub(crate) plans: Mutex<PlanCache>,
    /// Statements that a client prepared through Flight SQL, by the handle that it received.
    handles: Mutex<BTreeMap<String, Arc<PreparedHandle>>>,
    ids: Ids,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.id).field("user", &self.user).finish()
    }
}

impl Session {
    pub fn new(id: String, user: Principal, catalog: &Arc<Catalog>) -> Arc<Self> {
        let temporary = Arc::new(TempTables::default());
        let catalogs = Arc::new(SessionCatalogs::new(Arc::clone(catalog), Some(Arc::clone(&temporary))));
        let stores: Arc<dyn StoreOptions> = catalog.stores().clone();
        let archives = Archives::new(Arc::clone(catalog.stores()));
        let config = catalog.connectors().within(session_config()).with_extension(Arc::new(Stores(stores)));
        let config = config.with_extension(Arc::new(archives));
        let state = session_state(config, Arc::clone(catalog.runtime()), Some(catalogs));
        let context = SessionContext::new_with_state(state);
        temporary.attach(context.state_weak_ref());
        let session = Self {
            id,
            user,
            context: Erased::new(context),
            temporary,
            options_version: AtomicU64::new(0),
            prepared: Mutex::default(),
            plans: Mutex::default(),
            handles: Mutex::default(),
            ids: catalog.ids().clone(),
        };
        session.options_changed();
        Arc::new(session)
    }

    /// Returns the state for planning one statement.
    pub fn state(&self) -> SessionState {
        let mut state = self.context.state();
        state.config_mut().set_extension(Arc::new(Listings::default()));
        if let Some(archives) = state.config().get_extension::<Archives>() {
            state.config_mut().set_extension(Arc::new(archives.fresh()));
        }
        state
    }

    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    pub fn temporary(&self) -> &Arc<TempTables> {
        &self.temporary
    }

    /// Returns the time limit of its statements.
    pub(crate) fn statement_timeout(&self) -> Option<Duration> {
        let state = self.context.state_ref();
        let timeout = windlass_engine::config::of(state.read().config()).statement_timeout_ms;
        (timeout > 0).then(|| Duration::from_millis(timeout))
    }

    /// Returns a version that grows with every SET and RESET.
    pub fn options_version(&self) -> u64 {
        self.options_version.load(Ordering::Acquire)
    }

    /// Increments the version. Call it after options change.
    pub fn options_changed(&self) {
        let state = self.context.state_ref();
        let state = state.read();
        let names = &state.config_options().catalog;
        self.temporary.move_to(&names.default_catalog, &names.default_schema);
        self.options_version.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns the full name that `reference` means in this session.
    pub fn resolve(&self, reference: impl Into<TableReference>) -> TableName {
        let state = self.context.state_ref();
        let state = state.read();
        let names = &state.config_options().catalog;
        reference.into().resolve(&names.default_catalog, &names.default_schema).into()
    }

    /// Sets an option, as SET does.
    pub fn set_option(&self, name: &str, value: &str) -> Result<(), QueryError> {
        refuse_runtime_option(name)?;
        let value = &option_value(name, value)?;
        let state = self.context.state_ref();
        let mut state = state.write();
        if let Err(error) = state.config_mut().options_mut().set(name, value) {
            return Err(of_option(&state, name, Some(value), &error));
        }
        update_functions(&mut state)?;
        drop(state);
        self.options_changed();
        Ok(())
    }

    /// Stores a client's prepared statement under a unique name.
    ///
    /// # Errors
    /// The session has too many.
    pub(crate) fn keep_handle(&self, handle: PreparedHandle) -> Result<(String, Arc<PreparedHandle>), QueryError> {
        let mut handles = self.handles.lock();
        if handles.len() >= MAX_PREPARED {
            return Err(QueryError::Exhausted(format!(
                "the session has {MAX_PREPARED} prepared statements; close some"
            )));
        }
        let (id, handle) = (self.ids.name(), Arc::new(handle));
        handles.insert(id.clone(), Arc::clone(&handle));
        Ok((id, handle))
    }

    /// Returns a client's prepared statement.
    pub(crate) fn handle(&self, id: &str) -> Result<Arc<PreparedHandle>, QueryError> {
        self.handles.lock().get(id).cloned().ok_or_else(|| {
            QueryError::NotFound(
                "the prepared statement was closed, or is of another session: prepare it again".to_string(),
            )
        })
    }

    pub(crate) fn close_handle(&self, id: &str) {
        self.handles.lock().remove(id);
    }

    pub fn store_prepared(&self, name: &str, statement: Statement) -> Result<(), QueryError> {
        let mut prepared = self.prepared.lock();
        if prepared.contains_key(name) {
            return Err(QueryError::AlreadyExists(format!("prepared statement '{name}' already exists")));
        }
        prepared.insert(name.to_string(), Erased::new(statement));
        Ok(())
    }

    pub fn prepared(&self, name: &str) -> Result<Statement, QueryError> {
        let not_found = || QueryError::NotFound(format!("prepared statement '{name}' not found"));
        self.prepared.lock().get(name).map(|statement| Statement::clone(statement)).ok_or_else(not_found)
    }

    pub fn remove_prepared(&self, name: &str) -> Result<(), QueryError> {
        let not_found = || QueryError::NotFound(format!("prepared statement '{name}' not found"));
        self.prepared.lock().remove(name).map(|_| ()).ok_or_else(not_found)
    }
}

/// Returns `value` of the option `name` in its stored form: a time zone has its name in the time zone database.
///
/// # Errors
/// No such time zone.
pub(crate) fn option_value(name: &str, value: &str) -> Result<String, QueryError> {
    if name != "datafusion.execution.time_zone" || value.is_empty() {
        return Ok(value.to_string());
    }
    windlass_engine::zone_name(value).ok_or_else(|| {
        QueryError::Invalid(format!(
            "there is no time zone '{value}': name one of the time zone database, as 'Europe/Berlin', or an offset, as '+02:00'"
        ))
    })
}

/// Checks an option with which every session is to begin.
///
/// # Errors
/// There is no such option, or it cannot have this value.
pub(crate) fn check_option(name: &str, value: &str) -> Result<(), QueryError> {
    refuse_runtime_option(name)?;
    let value = option_value(name, value)?;
    let mut config = session_config();
    config.options_mut().set(name, &value).map_err(|error| QueryError::Invalid(error.strip_backtrace()))
}

/// Refuses options that belong to the process, which a session may not change.
pub(crate) fn refuse_runtime_option(name: &str) -> Result<(), QueryError> {
    if name.starts_with("datafusion.runtime.") {
        return Err(QueryError::Unsupported(format!(
            "'{name}' belongs to each process, not to a session: set memory and disk in the configuration of the executors"
        )));
    }
    Ok(())
}

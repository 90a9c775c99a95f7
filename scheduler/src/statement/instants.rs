//! TIMESTAMP WITH TIME ZONE in sessions without a time zone.

use datafusion::execution::SessionState;
use std::borrow::Cow;

/// The zone of a session that has none.
const ZONE: &str = "UTC";

/// What `sql` is planned with: DataFusion takes TIMESTAMP WITH TIME ZONE for a timestamp without a zone if the session has none. Here it is one of
/// UTC.
pub(crate) fn zoned<'a>(state: &'a SessionState, sql: &str) -> Cow<'a, SessionState> {
    let has_zone = state.config_options().execution.time_zone.as_ref().is_some_and(|zone| !zone.is_empty());
    if has_zone || !names_instants(sql) {
        return Cow::Borrowed(state);
    }
    let mut state = state.clone();
    state.config_mut().options_mut().execution.time_zone = Some(ZONE.to_string());
    Cow::Owned(state)
}

/// Whether the type may be named in a text.
fn names_instants(sql: &str) -> bool {
    let sql = sql.to_ascii_lowercase();
    ["zone", "timestamptz"].iter().any(|word| sql.contains(word))
}

//! TIMESTAMP WITH TIME ZONE in sessions without a time zone.

use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Word};
use std::borrow::Cow;

/// The time zone of a session that has none.
const ZONE: &str = "UTC";

/// Returns the state to plan `sql` with. In a session without a time zone, DataFusion reads TIMESTAMP WITH TIME ZONE as a timestamp
/// without one. Here it is a timestamp in UTC.
pub(crate) fn zoned<'a>(state: &'a SessionState, sql: &str) -> Cow<'a, SessionState> {
    let has_zone = state.config_options().execution.time_zone.as_ref().is_some_and(|zone| !zone.is_empty());
    // Most texts do not contain the words, not even in quotes.
    if has_zone || !may_name_instants(sql) || !names_instants(sql) {
        return Cow::Borrowed(state);
    }
    let mut state = state.clone();
    state.config_mut().options_mut().execution.time_zone = Some(ZONE.to_string());
    Cow::Owned(state)
}

fn may_name_instants(sql: &str) -> bool {
    let sql = sql.to_ascii_lowercase();
    ["zone", "timestamptz"].iter().any(|word| sql.contains(word))
}

/// Whether a text may contain the type, or AT TIME ZONE.
fn names_instants(sql: &str) -> bool {
    let is = |word: &Word| {
        word.quote_style.is_none() && ["zone", "timestamptz"].iter().any(|name| word.value.eq_ignore_ascii_case(name))
    };
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize().unwrap_or_default();
    tokens.iter().any(|token| matches!(token, Token::Word(word) if is(word)))
}

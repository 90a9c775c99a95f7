//! What a statement leaves in its session, by its words: for those who give another session the same.

/// What a statement leaves in its session for later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEffect {
    Nothing,
    /// An option, which another session can be given by the same statement.
    Option,
    /// More than that, as far as one can tell.
    Things,
}

/// What `sql` leaves in its session. What cannot be told by its words counts as [`SessionEffect::Things`].
pub fn session_effect(sql: &str) -> SessionEffect {
    let first = words(sql).next().unwrap_or_default();
    if ["SET", "RESET"].iter().any(|of| of.eq_ignore_ascii_case(first)) {
        return SessionEffect::Option;
    }
    match mentions(sql, &["SET", "RESET", "PREPARE", "TEMP", "TEMPORARY"]) {
        true => SessionEffect::Things,
        false => SessionEffect::Nothing,
    }
}

fn words(sql: &str) -> impl Iterator<Item = &str> {
    sql.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Also in comments and literals, which the caller has to put up with.
fn mentions(sql: &str, list: &[&str]) -> bool {
    words(sql).any(|word| list.iter().any(|of| of.eq_ignore_ascii_case(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_statements_leave_in_their_session_is_known() {
        for (sql, left) in [
            ("set x = 1", SessionEffect::Option),
            (" RESET a.b;", SessionEffect::Option),
            ("create temporary table t as select 1", SessionEffect::Things),
            ("PREPARE p AS SELECT 1", SessionEffect::Things),
            ("/* that */ set x = 1", SessionEffect::Things),
            ("select offset_of from settings", SessionEffect::Nothing),
            ("insert into t values (1)", SessionEffect::Nothing),
        ] {
            assert_eq!(session_effect(sql), left, "{sql}");
        }
    }
}

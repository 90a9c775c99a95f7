//! The effect of a statement on its session, judged by its words: for code that restores it in another session.

/// Effect of a statement on later ones in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEffect {
    Nothing,
    /// Sets an option, which the same statement can set in another session.
    Option,
    /// May create things in the session.
    Things,
}

/// Effect of `sql` on its session. An effect that its words do not show counts as [`SessionEffect::Things`].
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

/// Whether a listed word occurs in `sql`, even in comments and literals, which the caller has to accept.
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

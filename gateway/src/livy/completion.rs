//! How a word of SQL may go on: words of the language, and tables that the session sees.

use windlass_core::access::Principal;
use windlass_scheduler::services::Services;
use windlass_scheduler::services::interactive::{Kind, SessionView};

const WORDS: [&str; 50] = [
    "ALTER",
    "AND",
    "AS",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COPY",
    "CREATE",
    "CROSS",
    "DELETE",
    "DESCRIBE",
    "DISTINCT",
    "DROP",
    "ELSE",
    "END",
    "EXISTS",
    "EXPLAIN",
    "EXTERNAL",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "IN",
    "INNER",
    "INSERT",
    "INTO",
    "IS",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "RIGHT",
    "SELECT",
    "SET",
    "SHOW",
    "TABLE",
    "UNION",
    "VALUES",
    "WHERE",
    "WITH",
];

/// Maximum candidates.
const MOST: usize = 100;

/// Returns what the word before the cursor may become. `cursor`: a number of characters. In code of other kinds SQL stands in texts.
pub(super) async fn candidates(
    services: &Services,
    by: &Principal,
    view: &SessionView,
    kind: Kind,
    (code, cursor): (&str, usize),
) -> Vec<String> {
    if !matches!(kind, Kind::Sql | Kind::Shared) && !is_in_text(code, cursor) {
        return Vec::new();
    }
    let Some(word) = word_before(code, cursor) else { return Vec::new() };
    let session = view.session.as_ref().and_then(|id| services.sessions.find(by, id));
    let tables = match session {
        Some(session) => services.catalog.tables(by, &session, None, false).await.unwrap_or_default(),
        None => Vec::new(),
    };
    let is_own = |schema: &str| schema != "information_schema";
    let names = tables.into_iter().filter(|table| is_own(&table.schema)).map(|table| table.name);
    going_on(&word, names)
}

/// Whether a text of Python, Scala or R has begun before the cursor and has not ended.
fn is_in_text(code: &str, cursor: usize) -> bool {
    let (mut quote, mut is_escaped) = (None, false);
    for letter in code.chars().take(cursor) {
        match (quote, letter) {
            _ if is_escaped => is_escaped = false,
            (Some(_), '\\') => is_escaped = true,
            (Some(begun), letter) if begun == letter => quote = None,
            (None, '"' | '\'') => quote = Some(letter),
            _ => {}
        }
    }
    quote.is_some()
}

fn word_before(code: &str, cursor: usize) -> Option<String> {
    let before: Vec<char> = code.chars().take(cursor).collect();
    let length = before.iter().rev().take_while(|c| c.is_alphanumeric() || **c == '_').count();
    (length > 0).then(|| before[before.len() - length..].iter().collect())
}

fn going_on(word: &str, names: impl Iterator<Item = String>) -> Vec<String> {
    let is_beginning = |of: &str| of.to_lowercase().starts_with(&word.to_lowercase());
    let is_lower = word.chars().all(|c| !c.is_uppercase());
    let words = WORDS.iter().map(|word| if is_lower { word.to_lowercase() } else { (*word).to_string() });
    let mut found: Vec<String> = names.chain(words).filter(|name| is_beginning(name)).collect();
    found.sort();
    found.dedup();
    found.truncate(MOST);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_tables_are_candidates() {
        let names = || ["orders".to_string(), "Öl".to_string()].into_iter();
        assert_eq!(going_on("or", names()), ["or", "order", "orders"]);
        assert_eq!(going_on("OR", names()), ["OR", "ORDER", "orders"]);
        assert_eq!(going_on("ö", names()), ["Öl"]);
        assert_eq!(word_before("select * from ör", 16).as_deref(), Some("ör"));
        assert_eq!(word_before("select * from or where", 16).as_deref(), Some("or"));
        assert_eq!(word_before("select ", 7), None);
        assert_eq!(word_before("sel", 99).as_deref(), Some("sel"));
    }

    #[test]
    fn sql_in_other_languages_is_in_texts() {
        for (code, is_sql) in [
            ("import os\nos.pa", false),
            ("spark.sql('select or", true),
            ("spark.sql(\"\"\"select 'a\\' or", true),
            ("f('a') + ", false),
            ("\"it's\" + x", false),
        ] {
            assert_eq!(is_in_text(code, code.chars().count()), is_sql, "{code}");
        }
    }
}

//! Completion at the prompt: keywords, tables, columns, and the prompt's own commands.

use super::splitter;
use crate::backend::Table;
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};
use std::collections::BTreeSet;

/// Answers rustyline while a statement is typed.
#[derive(Default)]
pub struct Assistant {
    tables: Vec<Table>,
}

impl Assistant {
    /// Takes the present catalog, with columns.
    pub fn know(&mut self, tables: Vec<Table>) {
        self.tables = tables;
    }

    /// Start of the word at the cursor, and its possible completions.
    fn candidates(&self, line: &str, pos: usize) -> (usize, Vec<String>) {
        let typed = &line[..pos];
        let start = typed
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '\\'))
            .map_or(0, |at| at + typed[at..].chars().next().map_or(1, char::len_utf8));
        let (before, word) = typed.split_at(start);
        if word.starts_with('\\') {
            return (start, matching(COMMANDS.iter().copied(), word));
        }
        if let Some(qualifier) = before.strip_suffix('.').map(last_word) {
            return (start, matching(self.qualified(qualifier, line), word));
        }
        let previous = last_word(before.trim_end());
        let wants_table = ["from", "join", "into", "table", "describe", "update", "overwrite", "view", "\\d"];
        if wants_table.iter().any(|keyword| previous.eq_ignore_ascii_case(keyword)) {
            return (start, matching(self.tables.iter().map(|table| table.name.as_str()), word));
        }
        if word.is_empty() {
            return (start, Vec::new());
        }
        let mut found = matching(self.columns_in(line), word);
        found.extend(matching(self.tables.iter().map(|table| table.name.as_str()), word));
        let upper = word.chars().all(|c| !c.is_lowercase());
        let keywords = matching(KEYWORDS.iter().copied(), word);
        found.extend(keywords.into_iter().map(|keyword| if upper { keyword.to_uppercase() } else { keyword }));
        (start, found)
    }

    /// Completions after `qualifier.`: columns of a table, of the table behind an alias, or tables of a schema.
    fn qualified<'a>(&'a self, qualifier: &str, line: &str) -> Vec<&'a str> {
        let of = |name: &str| -> Vec<&'a str> {
            self.tables.iter().filter(|table| table.name.eq_ignore_ascii_case(name)).flat_map(columns).collect()
        };
        let found = std::iter::once(qualifier).chain(before(line, qualifier)).map(of).find(|found| !found.is_empty());
        found.unwrap_or_else(|| {
            let in_schema = self.tables.iter().filter(|table| table.schema.eq_ignore_ascii_case(qualifier));
            in_schema.map(|table| table.name.as_str()).collect()
        })
    }

    /// Columns of the tables that the statement mentions, or of all tables when it mentions none.
    fn columns_in(&self, line: &str) -> Vec<&str> {
        let words: BTreeSet<String> = words(line).map(str::to_lowercase).collect();
        let mentioned: Vec<&Table> =
            self.tables.iter().filter(|table| words.contains(&table.name.to_lowercase())).collect();
        match mentioned.is_empty() {
            true => self.tables.iter().flat_map(columns).collect(),
            false => mentioned.into_iter().flat_map(columns).collect(),
        }
    }
}

fn columns(table: &Table) -> impl Iterator<Item = &str> {
    table.columns.iter().flat_map(|schema| schema.fields().iter().map(|field| field.name().as_str()))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

fn last_word(text: &str) -> &str {
    let start = text.rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '\\'));
    text.get(start.map_or(0, |at| at + 1)..).unwrap_or_default()
}

/// Words before each mention of `alias`; one of them is the aliased table: `flights f`, `flights as f`.
fn before<'a>(line: &'a str, alias: &str) -> Vec<&'a str> {
    let words: Vec<&str> = words(line).collect();
    let mentions = (1..words.len()).filter(|at| words[*at].eq_ignore_ascii_case(alias));
    mentions
        .map(|at| if at > 1 && words[at - 1].eq_ignore_ascii_case("as") { words[at - 2] } else { words[at - 1] })
        .collect()
}

/// Candidates with the prefix, sorted, each once.
fn matching<'a>(candidates: impl IntoIterator<Item = &'a str>, prefix: &str) -> Vec<String> {
    let prefix = prefix.to_lowercase();
    let found: BTreeSet<&str> =
        candidates.into_iter().filter(|candidate| candidate.to_lowercase().starts_with(&prefix)).collect();
    found.into_iter().map(quoted_if_needed).collect()
}

/// Quotes a name that SQL would read differently.
fn quoted_if_needed(name: &str) -> String {
    let plain = name.starts_with('\\')
        || (!name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit()));
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, found) = self.candidates(line, pos);
        let pairs = found.into_iter().map(|text| Pair { display: text.clone(), replacement: text }).collect();
        Ok((start, pairs))
    }
}

impl Validator for Assistant {
    /// Accepts Enter when the last statement has its semicolon, or when the input is a command of the prompt.
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        Ok(if is_complete(context.input()) { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

pub fn is_complete(input: &str) -> bool {
    let word = input.trim();
    // As in psql: alone on a line, without a semicolon.
    let is_command = ["quit", "exit", "help"].iter().any(|command| word.eq_ignore_ascii_case(command));
    word.is_empty() || is_command || input.trim_start().starts_with('\\') || splitter::split(input).1.is_none()
}

impl Hinter for Assistant {
    type Hint = String;
}

impl Highlighter for Assistant {}
impl Helper for Assistant {}

const COMMANDS: [&str; 10] = ["\\?", "\\d", "\\dt", "\\format", "\\i", "\\o", "\\q", "\\stats", "\\timing", "\\x"];

const KEYWORDS: [&str; 96] = [
    "all",
    "analyze",
    "and",
    "anti",
    "any",
    "as",
    "asc",
    "between",
    "by",
    "case",
    "cast",
    "columns",
    "copy",
    "create",
    "cross",
    "cube",
    "current",
    "date",
    "delete",
    "desc",
    "describe",
    "distinct",
    "drop",
    "else",
    "end",
    "escape",
    "except",
    "exists",
    "explain",
    "external",
    "extract",
    "false",
    "fetch",
    "filter",
    "first",
    "following",
    "format",
    "from",
    "full",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "inner",
    "insert",
    "intersect",
    "interval",
    "into",
    "is",
    "join",
    "last",
    "lateral",
    "left",
    "like",
    "limit",
    "location",
    "natural",
    "not",
    "null",
    "nulls",
    "offset",
    "on",
    "options",
    "or",
    "order",
    "outer",
    "over",
    "overwrite",
    "partition",
    "partitioned",
    "preceding",
    "qualify",
    "range",
    "recursive",
    "replace",
    "reset",
    "right",
    "rollup",
    "rows",
    "select",
    "semi",
    "set",
    "sets",
    "show",
    "stored",
    "table",
    "tables",
    "temporary",
    "then",
    "true",
    "unbounded",
    "union",
    "unnest",
    "values",
    "view",
];

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field, Schema};
    use std::sync::Arc;

    fn assistant() -> Assistant {
        let table = |name: &str, columns: &[&str]| Table {
            catalog: "windlass".to_owned(),
            schema: "public".to_owned(),
            name: name.to_owned(),
            kind: "BASE TABLE".to_owned(),
            columns: Some(Arc::new(Schema::new(
                columns.iter().map(|column| Field::new(*column, DataType::Int64, true)).collect::<Vec<_>>(),
            ))),
        };
        let mut assistant = Assistant::default();
        assistant.know(vec![table("flights", &["dest", "dep_delay"]), table("airlines", &["carrier", "Name"])]);
        assistant
    }

    fn complete(line: &str) -> Vec<String> {
        assistant().candidates(line, line.len()).1
    }

    #[test]
    fn tables_follow_from_and_columns_follow_select() {
        assert_eq!(complete("select * from "), ["airlines", "flights"]);
        assert_eq!(complete("select * from fl"), ["flights"]);
        assert_eq!(complete("select de"), ["dep_delay", "dest", "delete", "desc", "describe"]);
    }

    #[test]
    fn a_dot_asks_for_columns_of_the_table_or_the_alias() {
        assert_eq!(complete("select flights."), ["dep_delay", "dest"]);
        assert_eq!(complete("select a.c from airlines a where a."), ["\"Name\"", "carrier"]);
        assert_eq!(complete("select * from public."), ["airlines", "flights"]);
    }

    #[test]
    fn keywords_keep_the_case_that_is_typed() {
        assert_eq!(complete("SEL"), ["SELECT"]);
        assert_eq!(complete("sel"), ["select"]);
        assert_eq!(complete("\\t"), ["\\timing"]);
    }

    #[test]
    fn enter_waits_for_the_semicolon() {
        assert!(!is_complete("select 1"));
        assert!(!is_complete("select ';'"));
        assert!(!is_complete("select 1; select 2"));
        assert!(is_complete("select 1;"));
        assert!(is_complete("\\d flights"));
        assert!(is_complete("quit") && is_complete("help") && !is_complete("quit it"));
        assert!(is_complete("  "));
    }
}

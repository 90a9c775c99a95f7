//! Loads into databases: what becomes of the rows that a target has already, and the columns by which rows are found.

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, plan_err};
use windlass_engine::connector::{OptionKind, OptionSpec, Options, Target};

/// The rows that a target has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
pub(crate) enum Mode {
    /// They stay.
    Append = 0,
    /// They go.
    Replace = 1,
    /// A row with the key of a new row is replaced as a whole: columns that the load lacks get their defaults.
    Upsert = 2,
    /// A row with the key of a new row gets its values, and keeps the columns that the load lacks.
    Merge = 3,
}

pub(crate) const MODE: OptionSpec = OptionSpec::new(
    "mode",
    OptionKind::Choice(&["append", "replace", "upsert", "merge"]),
    "What becomes of rows that the target has: they stay, all go, or those with the keys of new rows are replaced as wholes (upsert) or \
     get the values of the new rows (merge).",
)
.or("append");
pub(crate) const KEY: OptionSpec = OptionSpec::new(
    "key",
    OptionKind::Text,
    "Columns by which upsert and merge find rows, with commas; else the target's primary key.",
)
.names_table();
pub(crate) const LOAD: OptionSpec =
    OptionSpec::new("load", OptionKind::Text, "Name of a COPY's load, which is never loaded twice.").names_table();

/// Rows of a load after which the server counts the table anew.
pub(crate) const ANALYZED: u64 = 10_000;

impl Mode {
    pub fn of(options: &Options) -> Self {
        match options.text("mode").map(str::to_lowercase).as_deref() {
            Some("replace") => Self::Replace,
            Some("upsert") => Self::Upsert,
            Some("merge") => Self::Merge,
            _ => Self::Append,
        }
    }

    /// Whether rows are found by a key.
    pub fn has_key(self) -> bool {
        matches!(self, Self::Upsert | Self::Merge)
    }

    /// As the option says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Replace => "replace",
            Self::Upsert => "upsert",
            Self::Merge => "merge",
        }
    }

    /// Returns the text that EXPLAIN shows behind the target.
    pub fn shown(self, key: &[String]) -> String {
        match (self, self.word()) {
            (Self::Append, _) => String::new(),
            (Self::Replace, word) => format!(", mode={word}"),
            (Self::Upsert | Self::Merge, word) => format!(", mode={word}, key=[{}]", key.join(", ")),
        }
    }
}

/// Returns the columns of the option `key`. Empty: there is no such option.
///
/// # Errors
/// The rows have no such column.
pub(crate) fn key(options: &Options, rows: &SchemaRef) -> Result<Vec<String>> {
    let Some(text) = options.text(KEY.name) else { return Ok(Vec::new()) };
    let column = |Name { text, is_quoted }: Name| {
        let folded = if is_quoted { text.clone() } else { text.to_lowercase() };
        match rows.field_with_name(&folded).or_else(|_| rows.field_with_name(&text)) {
            Ok(field) => Ok(field.name().clone()),
            Err(_) => plan_err!("the key has the column '{text}', which the rows do not have"),
        }
    };
    names(text).into_iter().map(column).collect()
}

/// A column of a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// Without its quotes.
    pub text: String,
    pub is_quoted: bool,
}

/// Names with commas between them, each of which may be quoted as in SQL.
pub(crate) fn names(text: &str) -> Vec<Name> {
    let mut parts = vec![String::new()];
    let mut is_open = false;
    for character in text.chars() {
        is_open ^= character == '"';
        match (parts.last_mut(), character) {
            (Some(_), ',') if !is_open => parts.push(String::new()),
            (Some(part), character) => part.push(character),
            (None, _) => {}
        }
    }
    let name = |part: String| {
        let part = part.trim();
        match part.strip_prefix('"').and_then(|part| part.strip_suffix('"')) {
            Some(quoted) => Name { text: quoted.replace("\"\"", "\""), is_quoted: true },
            None => Name { text: part.to_string(), is_quoted: false },
        }
    };
    parts.into_iter().map(name).collect()
}

/// Returns the key of a load: `given`, or else `primary`, the primary key of `table`.
///
/// # Errors
/// There is none, or the rows lack one of its columns.
pub(crate) fn key_of(
    given: Vec<String>,
    primary: Option<Vec<String>>,
    table: &str,
    rows: &SchemaRef,
) -> Result<Vec<String>> {
    let key = match (given.is_empty(), primary) {
        (false, _) => given,
        (true, Some(primary)) => primary,
        (true, None) => {
            return plan_err!(
                "{table} has no primary key by which rows could be found: name the columns with OPTIONS (key '…')"
            );
        }
    };
    match key.iter().find(|column| rows.field_with_name(column).is_err()) {
        Some(missing) => plan_err!("the rows have no column {missing}, which is part of the key of {table}"),
        None => Ok(key),
    }
}

/// Returns the key of a load that creates its target.
///
/// # Errors
/// There is none.
pub(crate) fn key_of_new(mode: Mode, given: Vec<String>) -> Result<Vec<String>> {
    match (mode.has_key(), given.is_empty()) {
        (false, _) => Ok(Vec::new()),
        (true, false) => Ok(given),
        (true, true) => {
            plan_err!("a load that finds rows by a key and creates its table is told the key: use OPTIONS (key '…')")
        }
    }
}

/// Says that two new rows have one key. `values`: those of its columns, if they are known.
pub(crate) fn twins(key: &[String], values: &[String]) -> String {
    let values = if values.is_empty() { String::new() } else { format!(" = ({})", values.join(", ")) };
    format!("two rows of the load have the same key ({}){values}: which one is to stay?", key.join(", "))
}

/// Refuses the name of a load for a table that stays.
///
/// # Errors
/// The table may get many loads.
pub(crate) fn check_name(options: &Options, target: Target) -> Result<()> {
    if options.text(LOAD.name).is_some() && target != Target::Any {
        return plan_err!("the option 'load' names one load, and a table may get many: it is for COPY … TO");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_have_commas_and_quotes() {
        let name = |text: &str, is_quoted| Name { text: text.to_string(), is_quoted };
        assert_eq!(names("a, B"), [name("a", false), name("B", false)]);
        assert_eq!(names(r#" "a,b" ,"c""d""#), [name("a,b", true), name("c\"d", true)]);
        assert_eq!(names(""), [name("", false)]);
    }
}

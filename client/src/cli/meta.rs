//! Commands of the prompt that are not SQL: they start with a backslash and fill one line.

use super::output::Format;
use crate::nearest::nearest;
use clap::ValueEnum;
use std::path::PathBuf;

#[derive(Debug, PartialEq, Eq)]
pub enum Meta {
    Help,
    Quit,
    /// `\dt`: tables; `\d NAME`: columns.
    Tables,
    Columns(String),
    /// Switches timing; `None` toggles it.
    Timing(Option<bool>),
    Stats(Option<bool>),
    Format(Format),
    /// Switches output with one line for each value; `None` toggles it.
    Expanded(Option<bool>),
    /// Sets the output file; `None` returns to the terminal.
    Output(Option<PathBuf>),
    Include(PathBuf),
}

pub const HELP: &str =
    "  statements end with a semicolon and may take several lines; Ctrl-C drops what is typed, or cancels what runs
  \\d              tables and views            \\d NAME     columns of one
  \\dt             the same as \\d              \\i FILE     run the statements of a file
  \\x [on|off]     one line for each value     \\o [FILE]   results to a file; without FILE, back to here
  \\timing [on|off]                            \\stats [on|off]  the stages that ran, after each statement
  \\format table|expanded|csv|json|ndjson|parquet
  \\? help         \\q quit
";

const NAMES: [&str; 12] =
    ["\\?", "\\help", "\\q", "\\quit", "\\d", "\\dt", "\\x", "\\timing", "\\stats", "\\format", "\\o", "\\i"];

/// Parses a line that starts with a backslash.
pub fn parse(line: &str) -> Result<Meta, String> {
    let line = line.trim().trim_end_matches(';').trim_end();
    let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let argument = argument.trim();
    let needs = |what: &str| format!("{name} needs {what}: see \\?");
    match (name, argument) {
        ("\\?" | "\\h" | "\\help", _) => Ok(Meta::Help),
        ("\\q" | "\\quit" | "\\exit", _) => Ok(Meta::Quit),
        ("\\d" | "\\dt", "") => Ok(Meta::Tables),
        ("\\d" | "\\dt", table) => Ok(Meta::Columns(table.to_owned())),
        ("\\timing", state) => switch(state).map(Meta::Timing).ok_or_else(|| needs("on or off")),
        ("\\stats", state) => switch(state).map(Meta::Stats).ok_or_else(|| needs("on or off")),
        ("\\x", state) => switch(state).map(Meta::Expanded).ok_or_else(|| needs("on or off")),
        ("\\format", format) => Format::from_str(format, true)
            .map(Meta::Format)
            .map_err(|_| needs("one of table, expanded, csv, json, ndjson, parquet")),
        ("\\o", "") => Ok(Meta::Output(None)),
        ("\\o", file) => Ok(Meta::Output(Some(file.into()))),
        ("\\i", "") => Err(needs("a file")),
        ("\\i", file) => Ok(Meta::Include(file.into())),
        _ => Err(match nearest(name, NAMES) {
            Some(known) => format!("there is no command {name}; did you mean {known}?"),
            None => format!("there is no command {name}: see \\?"),
        }),
    }
}

fn switch(text: &str) -> Option<Option<bool>> {
    match text {
        "" => Some(None),
        "on" => Some(Some(true)),
        "off" => Some(Some(false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_with_their_arguments() {
        assert_eq!(parse("\\q"), Ok(Meta::Quit));
        assert_eq!(parse("\\d  flights ;"), Ok(Meta::Columns("flights".to_owned())));
        assert_eq!(parse("\\dt"), Ok(Meta::Tables));
        assert_eq!(parse("\\timing"), Ok(Meta::Timing(None)));
        assert_eq!(parse("\\timing off"), Ok(Meta::Timing(Some(false))));
        assert_eq!(parse("\\format CSV"), Ok(Meta::Format(Format::Csv)));
        assert_eq!(parse("\\x"), Ok(Meta::Expanded(None)));
        assert_eq!(parse("\\x on"), Ok(Meta::Expanded(Some(true))));
        assert_eq!(parse("\\i a b.sql"), Ok(Meta::Include("a b.sql".into())));
    }

    #[test]
    fn a_slip_gets_a_suggestion() {
        assert!(parse("\\timin").unwrap_err().contains("\\timing"));
        assert!(parse("\\timing maybe").unwrap_err().contains("on or off"));
        assert!(parse("\\whatever").unwrap_err().contains("\\?"));
    }
}

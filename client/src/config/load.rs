//! Reading a configuration file, with errors that name the file, the line, the key and the nearest key that exists.

use super::Config;
use crate::nearest::nearest;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Reason why a configuration file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {}: {source}; name another with --config or print one with 'windlass config'", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{}:{line}:{column}: {problem}", path.display())]
    Invalid { path: PathBuf, line: usize, column: usize, problem: Problem },
}

/// An error at one place of the file.
#[derive(Debug)]
pub struct Problem {
    /// `section.key`, if known.
    key: Option<String>,
    message: String,
    suggestion: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(name) => write!(f, "; did you mean \"{name}\"?"),
            None => Ok(()),
        }
    }
}

pub(super) fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    parse(path, &text)
}

pub(super) fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start).min(text.len());
        let (line, column) = position(text, offset);
        ConfigError::Invalid { path: path.to_owned(), line, column, problem: explain(text, offset, error.message()) }
    })
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    (line, String::from_utf8_lossy(&before[start..]).chars().count() + 1)
}

fn explain(text: &str, offset: usize, message: &str) -> Problem {
    let unknown = ["unknown field `", "unknown variant `"].iter().find_map(|prefix| {
        let rest = message.strip_prefix(prefix)?;
        let (name, expected) = rest.split_once('`')?;
        Some((*prefix, name, quoted(expected)))
    });
    let key = key_at(text, offset);
    match unknown {
        Some((prefix, name, known)) => {
            let suggestion = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
            let message = if prefix.contains("field") {
                format!("there is no setting \"{name}\" here; there are: {}", known.join(", "))
            } else {
                format!("\"{name}\" is not one of: {}", known.join(", "))
            };
            Problem { key: key.filter(|_| prefix.contains("variant")), message, suggestion }
        }
        None => Problem { key, message: message.trim_end().replace('\n', "; "), suggestion: None },
    }
}

/// Returns the names between backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Returns `section.key` of the line at `offset`.
fn key_at(text: &str, offset: usize) -> Option<String> {
    let end = text[offset..].find('\n').map_or(text.len(), |at| offset + at);
    let mut lines = text[..end].lines().rev();
    let key = lines.next()?.split_once('=')?.0.trim();
    let section = lines.find_map(|line| line.trim().strip_prefix('[')?.strip_suffix(']'));
    Some(section.map_or_else(|| key.to_owned(), |section| format!("{}.{key}", section.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::units::{Auto, Count};

    fn error(text: &str) -> String {
        parse(Path::new("windlass.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn a_file_may_leave_out_what_it_does_not_change() {
        let config = parse(Path::new("x"), "[executor]\nslots = 3\n").unwrap();
        assert_eq!(config.executor.slots, Auto::Value(Count(3)));
        assert_eq!(config.primary, Config::default().primary);
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_one() {
        let error = error("[executor]\nslots = 2\nmemroy = \"1GiB\"\n");
        assert!(error.starts_with("windlass.toml:3:1: there is no setting \"memroy\" here"), "{error}");
        assert!(error.ends_with("did you mean \"memory\"?"), "{error}");
    }

    #[test]
    fn an_unknown_section_is_refused_with_the_nearest_one() {
        let error = error("[primry]\nlisten = \"x\"\n");
        assert!(error.starts_with("windlass.toml:1:"), "{error}");
        assert!(error.ends_with("did you mean \"primary\"?"), "{error}");
    }

    #[test]
    fn a_wrong_value_names_line_and_key_and_says_how_to_write_it() {
        let error = error("[primary]\n\n[executor]\nmemory = \"1 apple\"\n");
        assert!(error.starts_with("windlass.toml:4:"), "{error}");
        assert!(error.contains("executor.memory: ") && error.contains("\"512MiB\""), "{error}");
    }

    #[test]
    fn a_wrong_choice_lists_the_choices() {
        let error = error("[exchange]\ncompression = \"lz5\"\n");
        assert!(error.contains("exchange.compression: \"lz5\" is not one of: none, lz4, zstd"), "{error}");
        assert!(error.ends_with("did you mean \"lz4\"?"), "{error}");
    }

    #[test]
    fn broken_toml_names_the_line() {
        assert!(error("[primary]\nlisten = \n").starts_with("windlass.toml:2:"));
    }

    #[test]
    fn a_missing_file_says_what_to_do() {
        let error = Config::load(Some(Path::new("/nowhere/windlass.toml"))).unwrap_err().to_string();
        assert!(error.contains("/nowhere/windlass.toml") && error.contains("windlass config"), "{error}");
    }
}

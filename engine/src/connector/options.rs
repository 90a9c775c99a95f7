//! Options of tables: named, typed and documented; some are secret.

use datafusion::common::{Result, plan_err};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The text shown in place of a secret.
pub(super) const HIDDEN: &str = "***";
/// The option of all connectors' tables that names a secret.
pub(super) const SECRET: &str = "secret";
/// The prefix that DataFusion's planner puts before names without a point.
const PREFIX: &str = "format.";

/// An option of a connector's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionSpec {
    /// Name in lower case.
    pub name: &'static str,
    pub kind: OptionKind,
    /// Default value. `None`: no default.
    pub default: Option<&'static str>,
    pub is_required: bool,
    /// Whether the value is secret: it is never shown, logged or put into a plan.
    pub is_secret: bool,
    /// Whether it says which table is meant, rather than how tables are reached and read. A catalog does not have it.
    pub names_table: bool,
    /// A sentence for the user, with units.
    pub doc: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionKind {
    Text,
    /// -2^63 to 2^63 - 1.
    Integer,
    Boolean,
    /// One of these words, in upper or lower case.
    Choice(&'static [&'static str]),
}

impl OptionSpec {
    pub const fn new(name: &'static str, kind: OptionKind, doc: &'static str) -> Self {
        Self { name, kind, default: None, is_required: false, is_secret: false, names_table: false, doc }
    }

    pub const fn or(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    pub const fn required(self) -> Self {
        Self { is_required: true, ..self }
    }

    pub const fn secret(self) -> Self {
        Self { is_secret: true, ..self }
    }

    pub const fn names_table(self) -> Self {
        Self { names_table: true, ..self }
    }

    fn check(&self, connector: &str, value: &str) -> Result<()> {
        let expected = match self.kind {
            OptionKind::Text => return Ok(()),
            OptionKind::Integer if value.parse::<i64>().is_ok() => return Ok(()),
            OptionKind::Integer => "a whole number".to_string(),
            OptionKind::Boolean if boolean(value).is_some() => return Ok(()),
            OptionKind::Boolean => "true or false".to_string(),
            OptionKind::Choice(words) if words.iter().any(|word| word.eq_ignore_ascii_case(value)) => return Ok(()),
            OptionKind::Choice(words) => format!("one of {}", words.join(", ")),
        };
        let shown = if self.is_secret { HIDDEN } else { value };
        plan_err!("the option '{}' of {connector} is '{shown}': expected {expected}", self.name)
    }
}

/// The checked options of a table. Neither its debug nor its display form has secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Options given in the statement.
    given: BTreeMap<String, String>,
    /// Options of the secret that the table names. Options given in the statement take precedence.
    lent: BTreeMap<String, String>,
    defaults: BTreeMap<String, String>,
    secret: BTreeSet<String>,
    /// Those that say which table is meant.
    naming: BTreeSet<String>,
}

impl Options {
    /// `lent`: the options of the secret that the table names.
    ///
    /// # Errors
    /// An option is unknown, has a wrong type or is missing. No message has the value of a secret.
    pub(super) fn parse(
        connector: &str,
        specs: &[OptionSpec],
        given: impl IntoIterator<Item = (String, String)>,
        lent: BTreeMap<String, String>,
    ) -> Result<Self> {
        let mut options = Self::default();
        for (name, value) in lent {
            let Some(spec) = specs.iter().find(|spec| spec.name == name) else {
                return plan_err!("the secret has the option '{name}', which tables stored as {connector} do not have");
            };
            OptionSpec { is_secret: true, ..*spec }.check(connector, &value)?;
            options.secret.insert(name.clone());
            options.lent.insert(name, value);
        }
        for (key, value) in given {
            let lower = key.to_lowercase();
            let name = lower.strip_prefix(PREFIX).unwrap_or(&lower);
            if name == SECRET {
                options.given.insert(name.to_string(), value);
                continue;
            }
            let Some(spec) = specs.iter().find(|spec| spec.name == name) else {
                let known: Vec<&str> = specs.iter().map(|spec| spec.name).collect();
                return match known.is_empty() {
                    true => plan_err!("unknown option '{name}': tables stored as {connector} have none"),
                    false => plan_err!(
                        "unknown option '{name}': tables stored as {connector} have the options {}",
                        known.join(", ")
                    ),
                };
            };
            spec.check(connector, &value)?;
            options.given.insert(spec.name.to_string(), value);
        }
        for spec in specs {
            if let Some(default) = spec.default {
                options.defaults.insert(spec.name.to_string(), default.to_string());
            }
            if spec.names_table {
                options.naming.insert(spec.name.to_string());
            }
            if spec.is_secret {
                options.secret.insert(spec.name.to_string());
            }
            if spec.is_required && options.text(spec.name).is_none() {
                return plan_err!("tables stored as {connector} want the option '{}': {}", spec.name, spec.doc);
            }
        }
        Ok(options)
    }

    /// The value of an option, or its default.
    pub fn text(&self, name: &str) -> Option<&str> {
        let set = self.given.get(name).or_else(|| self.lent.get(name));
        set.or_else(|| self.defaults.get(name)).map(String::as_str)
    }

    /// The value of an [`OptionKind::Integer`] option, or its default.
    pub fn integer(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    /// The value of an [`OptionKind::Boolean`] option, or its default.
    pub fn boolean(&self, name: &str) -> Option<bool> {
        boolean(self.text(name)?)
    }

    /// Options given in the statement, including secrets.
    pub fn given(&self) -> &BTreeMap<String, String> {
        &self.given
    }

    /// Whether tables with these options are reached and read in the same way: those that say which table is meant may differ.
    pub fn reach_same(&self, other: &Self) -> bool {
        let of = |options: &Self| {
            let mut given = options.given.clone();
            given.retain(|name, _| !options.naming.contains(name));
            given
        };
        of(self) == of(other) && self.lent == other.lent
    }

    /// The options of the secret that the statement names.
    pub(super) fn lent(&self) -> &BTreeMap<String, String> {
        &self.lent
    }

    /// Options given in the statement that may be shown.
    pub fn shown(&self) -> BTreeMap<String, String> {
        let mut shown = self.given.clone();
        shown.retain(|name, _| !self.secret.contains(name));
        shown
    }

    /// Options given in the statement or by the table's secret that must not be shown.
    pub fn secrets(&self) -> BTreeMap<String, String> {
        let mut secrets = self.lent.clone();
        secrets.extend(self.given.clone());
        secrets.retain(|name, _| self.secret.contains(name));
        secrets
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in self.given.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            let value = if self.secret.contains(name) { HIDDEN } else { value };
            write!(f, "{comma}{name}={value}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Options({self})")
    }
}

fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: &[OptionSpec] = &[
        OptionSpec::new("rows", OptionKind::Integer, "How many.").required(),
        OptionSpec::new("mode", OptionKind::Choice(&["fast", "slow"]), "How.").or("fast"),
        OptionSpec::new("token", OptionKind::Integer, "Who.").secret(),
    ];

    fn parse(given: &[(&str, &str)]) -> Result<Options> {
        lent(given, &[])
    }

    fn lent(given: &[(&str, &str)], lent: &[(&str, &str)]) -> Result<Options> {
        let owned = |(key, value): &(&str, &str)| (key.to_string(), value.to_string());
        Options::parse("X", SPECS, given.iter().map(owned), lent.iter().map(owned).collect())
    }

    #[test]
    fn options_are_typed_and_have_defaults() {
        let options = parse(&[("format.ROWS", "12")]).unwrap();
        assert_eq!(
            (options.integer("rows"), options.text("mode"), options.text("token")),
            (Some(12), Some("fast"), None)
        );
        assert_eq!(options.given().len(), 1);
        for (given, words) in [
            (&[("rows", "1"), ("colour", "red")][..], "have the options rows, mode, token"),
            (&[("rows", "many")], "'many': expected a whole number"),
            (&[("rows", "1"), ("mode", "odd")], "one of fast, slow"),
            (&[], "want the option 'rows': How many."),
        ] {
            let error = parse(given).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn secrets_are_in_no_text() {
        let options = parse(&[("rows", "1"), ("token", "4711")]).unwrap();
        let error = parse(&[("rows", "1"), ("token", "hunter2")]).unwrap_err();
        for text in [options.to_string(), format!("{options:?}"), error.to_string(), format!("{:?}", options.shown())] {
            assert!(!text.contains("4711") && !text.contains("hunter2"), "{text}");
        }
        assert_eq!(options.secrets().get("token").map(String::as_str), Some("4711"));
    }

    #[test]
    fn all_that_a_secret_has_is_secret() {
        let options = lent(&[("secret", "mine"), ("mode", "slow")], &[("rows", "12"), ("mode", "fast")]).unwrap();
        assert_eq!((options.integer("rows"), options.text("mode")), (Some(12), Some("slow")));
        assert_eq!(options.shown(), BTreeMap::from([("secret".to_string(), "mine".to_string())]));
        assert_eq!(options.secrets().get("rows").map(String::as_str), Some("12"));
        assert!(!format!("{options:?}").contains("12"), "{options:?}");
        let error = lent(&[("secret", "mine")], &[("rows", "hunter2")]).unwrap_err().to_string();
        assert!(!error.contains("hunter2") && error.contains("rows"), "{error}");
        let error = lent(&[("secret", "mine")], &[("colour", "crimson")]).unwrap_err().to_string();
        assert!(error.contains("'colour'") && !error.contains("crimson"), "{error}");
    }
}

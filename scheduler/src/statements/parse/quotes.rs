//! How SQL that Windlass itself writes names things in the dialect of a session.

use super::spark;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect, dialect_from_str};

/// The quotes of names and texts.
pub(crate) struct Quotes {
    name: char,
    /// Whether a backslash escapes the next letter of a text.
    has_escapes: bool,
}

impl Quotes {
    pub(crate) fn of(state: &SessionState) -> Self {
        let name = state.config_options().sql_parser.dialect.to_string();
        Self::of_dialect(dialect_from_str(name).unwrap_or_else(|| Box::new(GenericDialect {})).as_ref())
    }

    fn of_dialect(dialect: &dyn Dialect) -> Self {
        Self {
            // Where these are quotes of texts, names have others.
            name: if dialect.is_delimited_identifier_start('"') { '"' } else { '`' },
            has_escapes: dialect.supports_string_literal_backslash_escape() || spark::tokens_of(dialect).is_some(),
        }
    }

    pub(crate) fn name(&self, name: &str) -> String {
        let (quote, twice) = (self.name, format!("{0}{0}", self.name));
        format!("{quote}{}{quote}", name.replace(quote, &twice))
    }

    pub(crate) fn text(&self, text: &str) -> String {
        let text = if self.has_escapes { text.replace('\\', "\\\\") } else { text.to_string() };
        format!("'{}'", text.replace('\'', "''"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokens;
    use super::*;
    use datafusion::sql::sqlparser::tokenizer::{Token, Word};

    #[test]
    fn each_dialect_reads_what_is_quoted() {
        for dialect in ["generic", "postgresql", "duckdb", "spark", "databricks", "mysql", "bigquery", "hive"] {
            let dialect = dialect_from_str(dialect).unwrap();
            let quotes = Quotes::of_dialect(dialect.as_ref());
            let (name, text) = ("a`b\"c d", "it's \\n \"so\" `here`");
            let sql = format!("{} {}", quotes.name(name), quotes.text(text));
            let read = tokens(dialect.as_ref(), &sql).unwrap();
            let read: Vec<Token> = read.into_iter().map(|token| token.token).collect();
            assert!(
                matches!(&read[..], [Token::Word(Word { value, quote_style: Some(_), .. }), _, Token::SingleQuotedString(read)]
                    if value == name && read == text),
                "{dialect:?}: {sql}: {read:?}"
            );
        }
    }
}

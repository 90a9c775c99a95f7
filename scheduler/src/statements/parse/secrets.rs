//! `CREATE [OR REPLACE] SECRET [IF NOT EXISTS] name OPTIONS (key 'value', …)`, `DROP SECRET [IF EXISTS] name` and `SHOW SECRETS`.
//!
//! The parser knows DuckDB's form of CREATE SECRET. This module parses the form with OPTIONS. No error shows the text of such a
//! statement.

use super::{catalogs, target};
use crate::errors::QueryError;
use crate::statements::catalog::{OnExists, is_store_secret};
use datafusion::execution::SessionState;
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::{self, Ident, SecretOption};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Whitespace};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use windlass_engine::connector::{Registry, masked_options};

const USAGE: &str = "write CREATE SECRET name OPTIONS (key 'value', key 'value')";

#[derive(Clone, Debug)]
pub(in crate::statements) enum SecretStatement {
    Create { name: String, exists: OnExists, options: Credentials },
    Drop { name: String, if_exists: bool },
    Show,
}

/// Options of a secret. Their debug form omits the values.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::statements) struct Credentials(pub BTreeMap<String, String>);

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Returns a text as errors of syntax may show it. Empty: not at all, for it may contain a CREATE SECRET or a CREATE CATALOG.
pub(super) fn masked(state: &SessionState, sql: &str) -> String {
    if may_be_in(sql) || catalogs::may_be_in(sql) {
        return String::new();
    }
    let sql = &without_passwords(sql);
    if !sql.to_ascii_lowercase().contains("options") {
        return sql.to_string();
    }
    without_secrets(&Registry::of(state.config()), sql)
}

/// The text with stars in place of what options that are secrets have.
fn without_secrets(connectors: &Registry, text: &str) -> String {
    masked_options(text, |option| is_store_secret(option) || connectors.is_secret_anywhere(option))
}

/// Whether a text may contain a CREATE SECRET. Such a text is not shown.
pub(in crate::statements) fn may_be_in(sql: &str) -> bool {
    let lower = sql.to_ascii_lowercase();
    lower.contains("create") && lower.contains("secret")
}

/// Parses CREATE SECRET … OPTIONS, if it comes next.
pub(super) fn next(parser: &mut DFParser<'_>) -> Result<Option<Statement>, QueryError> {
    let parser = &mut parser.parser;
    let or_replace = parser.parse_keywords(&[Keyword::CREATE, Keyword::OR, Keyword::REPLACE, Keyword::SECRET]);
    if !or_replace && !parser.parse_keywords(&[Keyword::CREATE, Keyword::SECRET]) {
        return Ok(None);
    }
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = word(parser, "a name", &expected)?;
    if !parser.parse_keyword(Keyword::OPTIONS) {
        return Err(expected(parser, "OPTIONS"));
    }
    let options = options(parser, &expected)?;
    Ok(Some(Statement::Statement(Box::new(ast::Statement::CreateSecret {
        or_replace,
        temporary: None,
        if_not_exists,
        name: Some(name),
        storage_specifier: None,
        secret_type: Ident::new("options"),
        options,
    }))))
}

/// Parses `(key 'value', …)`. `expected`: the error that something else is not there.
pub(super) fn options(parser: &mut Parser<'_>, expected: &Expected) -> Result<Vec<SecretOption>, QueryError> {
    if !parser.consume_token(&Token::LParen) {
        return Err(expected(parser, "'('"));
    }
    let mut options = Vec::new();
    loop {
        let mut key = word(parser, "the name of an option", expected)?;
        while parser.consume_token(&Token::Period) {
            let part = word(parser, "the name of an option", expected)?;
            key = Ident::new(format!("{}.{}", key.value, part.value));
        }
        options.push(SecretOption { key, value: Ident::with_quote('\'', value(parser, expected)?) });
        let comma = parser.consume_token(&Token::Comma);
        if parser.consume_token(&Token::RParen) {
            return Ok(options);
        }
        if !comma {
            return Err(expected(parser, "',' or ')'"));
        }
    }
}

/// Parses the value of an option: a text, or a number or a truth value, as the options of other statements may be.
fn value(parser: &mut Parser<'_>, expected: &Expected) -> Result<String, QueryError> {
    match &parser.peek_token_ref().token {
        Token::Number(number, _) => {
            let number = number.clone();
            parser.next_token();
            Ok(number)
        }
        Token::Word(word) if matches!(word.keyword, Keyword::TRUE | Keyword::FALSE) => {
            let value = word.value.to_lowercase();
            parser.next_token();
            Ok(value)
        }
        _ => text(parser, expected),
    }
}

/// Parses a literal text.
pub(super) fn text(parser: &mut Parser<'_>, expected: &Expected) -> Result<String, QueryError> {
    match parser.next_token().token {
        Token::SingleQuotedString(value) => Ok(value),
        Token::DollarQuotedString(text) => Ok(text.value),
        _ => {
            parser.prev_token();
            Err(expected(parser, "a text in single quotes"))
        }
    }
}

/// Whether a text or a comment in a script has credentials in it: in a location, or as a statement for later.
pub(super) fn shows_credentials(token: &Token) -> bool {
    match token {
        Token::SingleQuotedString(text)
        | Token::EscapedStringLiteral(text)
        | Token::NationalStringLiteral(text)
        | Token::UnicodeStringLiteral(text) => has_password(text) || creates_secret(text),
        Token::DollarQuotedString(text) => has_password(&text.value) || creates_secret(&text.value),
        // In a line of Python it is a text.
        Token::Word(word) if word.quote_style.is_some() => has_password(&word.value) || creates_secret(&word.value),
        Token::Whitespace(Whitespace::SingleLineComment { comment: text, .. } | Whitespace::MultiLineComment(text)) => {
            has_password(text) || creates_secret(text)
        }
        _ => false,
    }
}

/// Whether a text has the words of CREATE SECRET.
fn creates_secret(text: &str) -> bool {
    let lower = text.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect();
    words.iter().enumerate().any(|(at, word)| {
        let rest = &words[at + 1..];
        *word == "create" && (rest.starts_with(&["secret"]) || rest.starts_with(&["or", "replace", "secret"]))
    })
}

/// Whether a text that is kept and shown has credentials in it. It need not be a statement.
pub(in crate::statements) fn are_in(connectors: &Registry, text: &str) -> bool {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, text).tokenize() else {
        return has_password(text) || may_be_in(text);
    };
    creates_secret(text) || tokens.iter().any(shows_credentials) || without_secrets(connectors, text) != text
}

/// Where the password stands in the authority of a URL, `user:password@host`.
fn password_in(authority: &str) -> Option<Range<usize>> {
    let at = authority.rfind('@')?;
    Some(authority[..at].find(':')? + 1..at)
}

/// The text with a star for each letter of a password in a URL.
fn without_passwords(text: &str) -> String {
    let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let end = after.find(|c: char| matches!(c, '/' | '?' | '#' | '\'') || c.is_whitespace()).unwrap_or(after.len());
        let to = password_in(&after[..end]).map_or(0, |Range { start, end }| {
            shown.push_str(&after[..start]);
            shown.extend(after[start..end].chars().map(|_| '*'));
            end
        });
        rest = &after[to..];
    }
    shown + rest
}

/// Whether a location in a text has a password: `scheme://user:password@host`, `…?password=…`, `host=… password=…`.
fn has_password(text: &str) -> bool {
    let in_url = text.split("://").skip(1).any(|rest| {
        let authority =
            rest.split(|c: char| matches!(c, '/' | '?' | '#') || c.is_whitespace()).next().unwrap_or_default();
        password_in(authority).is_some_and(|password| !password.is_empty())
    });
    let lower = text.to_lowercase();
    let is_place = lower.contains("://") || lower.contains("host=") || lower.contains("host =");
    let named = lower.split("password").skip(1).any(|rest| {
        rest.trim_start()
            .strip_prefix('=')
            .is_some_and(|value| value.trim_start().starts_with(|c: char| !matches!(c, '&' | ' ')))
    });
    in_url || is_place && named
}

/// Whether the text of a statement contains credentials.
pub(super) fn has_credentials(statement: &Statement, connectors: &Registry) -> bool {
    let is_secret = |kind: &str, option: &str| match connectors.get(kind) {
        Some(_) => connectors.is_secret(kind, &option.to_lowercase()) || is_store_secret(option),
        None => is_store_secret(option),
    };
    match statement {
        Statement::Statement(sql) => catalogs::has_credentials(sql, connectors).unwrap_or_else(|| match sql.as_ref() {
            ast::Statement::CreateSecret { .. } => true,
            ast::Statement::Set(ast::Set::SingleAssignment { variable, .. }) => is_store_secret(&variable.to_string()),
            _ => false,
        }),
        Statement::CreateExternalTable(create) => {
            create.options.iter().any(|(option, _)| is_secret(&create.file_type, option))
        }
        Statement::CopyTo(copy) if target::names_table(copy) => {
            copy.options.iter().any(|(option, _)| connectors.is_secret_anywhere(&option.to_lowercase()))
        }
        Statement::CopyTo(copy) => {
            let kind = copy.stored_as.as_deref().unwrap_or_default();
            copy.options.iter().any(|(option, _)| is_secret(kind, option))
        }
        Statement::Explain(explain) => has_credentials(&explain.statement, connectors),
        Statement::Reset(_) => false,
    }
}

/// Returns the statement, if it is about secrets.
pub(super) fn of(statement: &ast::Statement) -> Result<Option<SecretStatement>, QueryError> {
    match statement {
        ast::Statement::CreateSecret {
            or_replace,
            if_not_exists,
            name,
            storage_specifier,
            secret_type,
            options,
            ..
        } => {
            let is_ours = storage_specifier.is_none() && secret_type.value == "options";
            let Some(name) = name.as_ref().filter(|_| is_ours) else {
                return Err(QueryError::Syntax(format!("a secret has a name and OPTIONS: {USAGE}")));
            };
            let mut values = BTreeMap::new();
            for SecretOption { key, value } in options {
                let name = key.value.to_lowercase();
                if values.insert(name, value.value.clone()).is_some() {
                    return Err(QueryError::Invalid(format!("the option '{}' is there twice", key.value)));
                }
            }
            let exists = OnExists::of(*if_not_exists, *or_replace)?;
            Ok(Some(SecretStatement::Create { name: folded(name), exists, options: Credentials(values) }))
        }
        ast::Statement::DropSecret { if_exists, name, .. } => {
            Ok(Some(SecretStatement::Drop { name: folded(name), if_exists: *if_exists }))
        }
        ast::Statement::ShowVariable { variable } => match variable.as_slice() {
            [word] if word.value.eq_ignore_ascii_case("secrets") => Ok(Some(SecretStatement::Show)),
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

pub(super) fn folded(name: &Ident) -> String {
    match name.quote_style {
        None => name.value.to_lowercase(),
        Some(_) => name.value.clone(),
    }
}

/// Makes an error of what should come next.
pub(super) type Expected = dyn Fn(&Parser<'_>, &str) -> QueryError;

pub(super) fn word(parser: &mut Parser<'_>, what: &str, expected: &Expected) -> Result<Ident, QueryError> {
    match parser.next_token().token {
        Token::Word(word) => Ok(word.into_ident(datafusion::sql::sqlparser::tokenizer::Span::empty())),
        _ => {
            parser.prev_token();
            Err(expected(parser, what))
        }
    }
}

/// Returns an error that omits the unexpected token, because it may be a secret.
fn expected(parser: &Parser<'_>, what: &str) -> QueryError {
    unexpected(parser, "CREATE SECRET", what, USAGE)
}

/// Returns an error in a `statement` that omits the unexpected token, because it may be a secret.
pub(super) fn unexpected(parser: &Parser<'_>, statement: &str, what: &str, usage: &str) -> QueryError {
    let at = parser.peek_token().span.start;
    let place = match at.line {
        0 => "at its end".to_string(),
        line => format!("at line {line}, column {}", at.column),
    };
    QueryError::Syntax(format!("syntax error in {statement} {place}: expected {what}; {usage}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_locations_are_not_shown() {
        assert_eq!(
            without_passwords("copy t to 'mysql://app:hunter2@db/x' or 's3://k:é@b' and 'http://h/a:b@c'"),
            "copy t to 'mysql://app:*******@db/x' or 's3://k:*@b' and 'http://h/a:b@c'"
        );
    }

    #[test]
    fn passwords_are_found_in_locations() {
        for text in [
            "postgresql://app:hunter2@db/shop",
            "s3://key:secret@lake/a",
            "see https://me:hunter2@host/x and others",
            "postgresql://db/shop?sslmode=require&password=hunter2",
            "host=db user=app Password = hunter2",
        ] {
            assert!(has_password(text), "{text}");
        }
        for text in [
            "postgresql://app@db:5432/shop",
            "http://host/a:b@c",
            "forgot password=hunter2",
            "mail: a:b@c.d",
            "postgresql://db/shop?password=&x=1",
            "s3://lake/password",
        ] {
            assert!(!has_password(text), "{text}");
        }
    }
}

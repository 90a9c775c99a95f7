//! `CREATE [OR REPLACE] CATALOG [IF NOT EXISTS] name [STORED AS kind LOCATION '…' [OPTIONS (key 'value', …)]]`, `DROP CATALOG [IF EXISTS] name [CASCADE]` and
//! `SHOW CATALOGS`.
//!
//! The parser knows none of these forms but the last one. No error shows the text of such a statement, which may have a password.

use super::secrets::{Credentials, folded, options, text, unexpected, word};
use crate::errors::QueryError;
use crate::statements::catalog::OnExists;
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::{self, Ident, SecretOption};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use std::collections::BTreeMap;
use windlass_engine::connector::Registry;

const CREATE_USAGE: &str = "write CREATE CATALOG name STORED AS kind LOCATION 'place' OPTIONS (key 'value')";
const DROP_USAGE: &str = "write DROP CATALOG name";
/// The kinds of secrets, which do not exist, in whose form these statements pass through the syntax tree. The parser makes none of a word with a blank.
const CREATE: &str = "create catalog";
const DROP: &str = "drop catalog";

#[derive(Clone, Debug)]
pub(in crate::statements) enum CatalogStatement {
    /// Without a source, it is one of Windlass's own.
    Create {
        name: String,
        exists: OnExists,
        source: Option<CatalogSource>,
    },
    Drop {
        name: String,
        if_exists: bool,
        cascade: bool,
    },
    Show,
}

/// The other system whose tables a catalog has.
#[derive(Clone, Debug)]
pub(in crate::statements) struct CatalogSource {
    /// The word after STORED AS.
    pub connector: String,
    pub location: String,
    pub options: Credentials,
}

/// Whether a text may contain a CREATE CATALOG. Such a text is not shown.
pub(in crate::statements) fn may_be_in(sql: &str) -> bool {
    let lower = sql.to_ascii_lowercase();
    lower.contains("create") && lower.contains("catalog")
}

fn expected(parser: &Parser<'_>, what: &str) -> QueryError {
    unexpected(parser, "CREATE CATALOG", what, CREATE_USAGE)
}

/// Parses CREATE CATALOG or DROP CATALOG, if one comes next.
pub(super) fn next(parser: &mut DFParser<'_>) -> Result<Option<Statement>, QueryError> {
    let parser = &mut parser.parser;
    if parser.parse_keywords(&[Keyword::DROP, Keyword::CATALOG]) {
        return dropped(parser).map(Some);
    }
    let or_replace = parser.parse_keywords(&[Keyword::CREATE, Keyword::OR, Keyword::REPLACE, Keyword::CATALOG]);
    if !or_replace && !parser.parse_keywords(&[Keyword::CREATE, Keyword::CATALOG]) {
        return Ok(None);
    }
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = word(parser, "a name", &expected)?;
    let (mut kind, mut all) = (None, Vec::new());
    if parser.parse_keyword(Keyword::STORED) {
        if !parser.parse_keyword(Keyword::AS) {
            return Err(expected(parser, "AS"));
        }
        kind = Some(word(parser, "a kind of tables", &expected)?);
        if !parser.parse_keyword(Keyword::LOCATION) {
            return Err(expected(parser, "LOCATION"));
        }
        let location = Ident::with_quote('\'', text(parser, &expected)?);
        all.push(SecretOption { key: Ident::new("location"), value: location });
        if parser.parse_keyword(Keyword::OPTIONS) {
            all.extend(options(parser, &expected)?);
        }
    }
    Ok(Some(Statement::Statement(Box::new(ast::Statement::CreateSecret {
        or_replace,
        temporary: None,
        if_not_exists,
        name: Some(name),
        storage_specifier: kind,
        secret_type: Ident::new(CREATE),
        options: all,
    }))))
}

fn dropped(parser: &mut Parser<'_>) -> Result<Statement, QueryError> {
    let expected = |parser: &Parser<'_>, what: &str| unexpected(parser, "DROP CATALOG", what, DROP_USAGE);
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    let name = word(parser, "a name", &expected)?;
    let cascade = parser.parse_keyword(Keyword::CASCADE);
    if !cascade {
        let _default = parser.parse_keyword(Keyword::RESTRICT);
    }
    Ok(Statement::Statement(Box::new(ast::Statement::CreateSecret {
        or_replace: cascade,
        temporary: None,
        if_not_exists: if_exists,
        name: Some(name),
        storage_specifier: None,
        secret_type: Ident::new(DROP),
        options: Vec::new(),
    })))
}

/// Whether the text of a statement about catalogs contains credentials. `None`: it is about something else.
pub(super) fn has_credentials(statement: &ast::Statement, connectors: &Registry) -> Option<bool> {
    let ast::Statement::CreateSecret { secret_type, storage_specifier, options, .. } = statement else { return None };
    match secret_type.value.as_str() {
        CREATE => {
            let kind = storage_specifier.as_ref().map_or("", |kind| &kind.value);
            let mut given = options.iter().skip(1).map(|option| option.key.value.to_lowercase());
            Some(given.any(|option| option != "secret" && connectors.is_secret(kind, &option)))
        }
        DROP => Some(false),
        _ => None,
    }
}

/// Returns the statement, if it is about catalogs.
pub(super) fn of(statement: &ast::Statement) -> Result<Option<CatalogStatement>, QueryError> {
    let ast::Statement::CreateSecret {
        or_replace,
        if_not_exists,
        name: Some(name),
        storage_specifier,
        secret_type,
        options,
        ..
    } = statement
    else {
        return Ok(matches!(statement, ast::Statement::ShowCatalogs { .. }).then_some(CatalogStatement::Show));
    };
    let name = folded(name);
    match secret_type.value.as_str() {
        DROP => Ok(Some(CatalogStatement::Drop { name, if_exists: *if_not_exists, cascade: *or_replace })),
        CREATE => {
            let exists = OnExists::of(*if_not_exists, *or_replace)?;
            let source = match (storage_specifier, options.split_first()) {
                (Some(kind), Some((location, options))) => {
                    let mut values = BTreeMap::new();
                    for SecretOption { key, value } in options {
                        if values.insert(key.value.to_lowercase(), value.value.clone()).is_some() {
                            return Err(QueryError::Invalid(format!("the option '{}' is there twice", key.value)));
                        }
                    }
                    let location = location.value.value.clone();
                    Some(CatalogSource { connector: kind.value.clone(), location, options: Credentials(values) })
                }
                _ => None,
            };
            Ok(Some(CatalogStatement::Create { name, exists, source }))
        }
        _ => Ok(None),
    }
}

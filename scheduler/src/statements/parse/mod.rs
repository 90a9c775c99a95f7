//! Parses text to one statement, with the parts that DataFusion's planner does not pass on.

pub(super) mod apart;
mod balance;
mod casts;
pub(super) mod catalogs;
mod columns;
mod depth;
mod dialect;
mod forms;
mod ignored;
pub(super) mod inserted;
mod lists;
mod merged;
mod numbers;
mod precedence;
pub(crate) mod quotes;
mod rewrite;
mod rows;
pub(super) mod secrets;
mod shared;
mod spark;
pub(super) mod target;
pub(super) mod walk;
mod windows;

use super::params::{ParameterNames, number_placeholders};
use super::places;
use crate::errors::{QueryError, explain};
use balance::balance;
use catalogs::CatalogStatement;
use datafusion::common::{DataFusionError, TableReference};
use datafusion::execution::SessionState;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{self, AlterTableOperation, Ident, ObjectName, RenameTableNameKind};
use datafusion::sql::sqlparser::dialect::{Dialect, dialect_from_str};
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use rewrite::rewrite;
use secrets::SecretStatement;
use std::collections::BTreeMap;
use std::str::CharIndices;
use target::{CopyOptions, Text, WriteTo};
use windlass_engine::connector::Registry;
use windlass_engine::extent::Limits;

/// A parsed statement, ready for planning.
#[derive(Clone, Debug)]
pub(super) struct Parsed {
    pub statement: Statement,
    /// Whether it is CREATE TEMPORARY TABLE, which the planner does not know.
    pub temporary: bool,
    /// The names of ALTER TABLE a RENAME TO b, which the planner does not know either.
    pub rename: Option<(TableReference, TableReference)>,
    /// CREATE, DROP and SHOW of secrets.
    pub secret: Option<SecretStatement>,
    /// CREATE, DROP and SHOW of catalogs.
    pub catalog: Option<CatalogStatement>,
    /// The table of a connector to which the rows of the query go. The statement is that query.
    pub write_to: Option<WriteTo>,
    /// Columns that an INSERT lists. Empty: all.
    pub inserts: Vec<String>,
    /// The place to which COPY writes files, and the options by which its store is reached.
    pub store: Option<(String, BTreeMap<String, String>)>,
    /// The catalog and the schema whose tables SHOW lists.
    pub listed: Option<(String, String)>,
    /// Whether COPY writes a manifest.
    pub manifest: bool,
    /// Values in the text that are credentials.
    pub credentials: Vec<String>,
    /// The table or view that the statement makes.
    pub makes: Option<TableReference>,
    /// Whether it is SELECT, VALUES or WITH.
    pub is_query: bool,
    /// Columns of CREATE TABLE with a maximum length in characters.
    pub lengths: Vec<(String, u32)>,
    /// Columns of CREATE TABLE that are NOT NULL.
    pub not_null: Vec<String>,
    pub names: ParameterNames,
}

/// Returns the one statement of `sql`.
pub(super) fn parse(state: &SessionState, sql: &str, limits: Limits) -> Result<Parsed, QueryError> {
    let mut statements = statements(state, sql, limits)?;
    let statement = match statements.len() {
        0 => return Err(QueryError::Invalid("there is no statement in the text".to_string())),
        1 => statements.swap_remove(0),
        several => {
            return Err(QueryError::Unsupported(format!(
                "the text holds {several} statements, and one is executed at a time: send them one by one"
            )));
        }
    };
    for statement in [Some(&statement.statement), statement.query.as_ref()].into_iter().flatten() {
        shared::check(statement, limits)?;
    }
    classify(state, statement)
}

/// Returns all statements of `sql`.
fn statements(state: &SessionState, sql: &str, limits: Limits) -> Result<Vec<Text>, QueryError> {
    let options = &state.config_options().sql_parser;
    let dialect = dialect_from_str(options.dialect.to_string())
        .ok_or_else(|| QueryError::Invalid(format!("unknown SQL dialect '{}'", options.dialect)))?;
    check_depth(dialect.as_ref(), sql, limits)?;
    let wrong = |error: DataFusionError| explain(&error, &secrets::masked(state, sql));
    let mut tokens = tokens(dialect.as_ref(), sql).map_err(wrong)?;
    if target::may_have_tables(sql) {
        target::name_tables(&mut tokens);
    }
    let before_queries = if target::may_be_in(sql) { target::part(&mut tokens) } else { Vec::new() };
    let parser = DFParserBuilder::new(tokens)
        .with_dialect(dialect.as_ref())
        .with_recursion_limit(options.recursion_limit.get())
        .build();
    let mut parser = parser.map_err(wrong)?;
    let mut parsed: Vec<Text> = Vec::new();
    loop {
        let is_as = before_queries.contains(&parser.parser.peek_token_ref().span.start);
        let delimited = parser.parser.consume_token(&Token::SemiColon);
        if let (true, Some(last)) = (is_as, parsed.last_mut()) {
            let query = parser.parser.parse_query().map_err(|error| wrong(error.into()))?;
            last.query = Some(Statement::Statement(Box::new(ast::Statement::Query(query))));
            continue;
        }
        while parser.parser.consume_token(&Token::SemiColon) {}
        if parser.parser.peek_token() == Token::EOF {
            break;
        }
        if !delimited && !parsed.is_empty() {
            let is_hidden = secrets::masked(state, sql).is_empty();
            let found = if is_hidden { String::new() } else { format!(", found: {}", parser.parser.peek_token_ref()) };
            let expected = format!("Expected: end of statement{found}{}", parser.parser.peek_token_ref().span.start);
            return Err(wrong(ParserError::ParserError(expected).into()));
        }
        let mut listed = None;
        let mut ours = secrets::next(&mut parser)?;
        if ours.is_none() {
            ours = catalogs::next(&mut parser)?;
        }
        if ours.is_none() {
            ours = spark::next(state, &mut parser, &mut listed)?;
        }
        let statement = match ours {
            Some(statement) => statement,
            None => parser.parse_statement().map_err(wrong)?,
        };
        let mut text = Text { statement, query: None, listed };
        spark::rewrite(state, &mut text.statement);
        parsed.push(text);
    }
    // This runs before long chains become trees, so it runs only when it is needed.
    if sql.to_ascii_lowercase().contains("distinct") {
        let all = parsed.iter_mut().flat_map(|text| [Some(&mut text.statement), text.query.as_mut()]);
        all.flatten().for_each(precedence::regroup);
    }
    Ok(parsed)
}

/// Refuses a text that is too deep, before it is parsed.
pub(crate) fn check_depth(dialect: &dyn Dialect, sql: &str, limits: Limits) -> Result<(), QueryError> {
    // Each level takes at least one letter.
    let may_be_deep = sql.len() > limits.depth;
    let has_types = sql.bytes().filter(|letter| matches!(letter, b'<' | b'[')).nth(depth::TYPE_DEPTH).is_some();
    if !may_be_deep && !has_types {
        return Ok(());
    }
    match Tokenizer::new(dialect, sql).tokenize() {
        Ok(tokens) => {
            depth::check_types(&tokens)?;
            if may_be_deep { depth::check(&tokens, limits) } else { Ok(()) }
        }
        // The parser has a better message.
        Err(_) => Ok(()),
    }
}

/// Returns the texts of the statements of `sql`, without the semicolons between them.
pub(super) fn split(state: &SessionState, sql: &str, limits: Limits) -> Result<Vec<String>, QueryError> {
    let connectors = Registry::of(state.config());
    let dialect = dialect_from_str(state.config_options().sql_parser.dialect.to_string());
    let dialect = dialect.ok_or_else(|| QueryError::Invalid("unknown SQL dialect".to_string()))?;
    let tokens = tokens(dialect.as_ref(), sql).map_err(|error| explain(&error, &secrets::masked(state, sql)))?;
    if tokens.iter().any(|token| secrets::shows_credentials(&token.token)) {
        return Err(shown_credentials("a submission"));
    }
    let semicolons = tokens.iter().filter(|token| token.token == Token::SemiColon).map(|token| token.span.start);
    let (mut at, mut start, mut texts) = (Cursor::new(sql), 0, Vec::new());
    let mut begins = Location { line: 1, column: 1 };
    for end in semicolons.map(Some).chain([None]) {
        let to = end.map_or(sql.len(), |end| at.offset(end));
        let text = &sql[start..to];
        // Each statement is parsed by itself: trees of all together would take far more memory than the text.
        let parsed = statements(state, text, limits).or_else(|_| {
            let before = "\n".repeat(begins.line.saturating_sub(1) as usize)
                + &" ".repeat(begins.column.saturating_sub(1) as usize);
            statements(state, &(before + text), limits)
        })?;
        if parsed.iter().any(|text| secrets::has_credentials(&text.statement, &connectors)) {
            return Err(shown_credentials("a submission"));
        }
        if !parsed.is_empty() {
            texts.push(text.trim().to_string());
        }
        if let Some(end) = end {
            start = (to + 1).min(sql.len());
            begins = Location { column: end.column + 1, ..end };
        }
    }
    Ok(texts)
}

/// Refuses a text that is to be kept and shown, if it has credentials in it. `what`: whose text it is.
pub(super) fn refuse_credentials(connectors: &Registry, text: &str, what: &str) -> Result<(), QueryError> {
    if secrets::are_in(connectors, text) { Err(shown_credentials(what)) } else { Ok(()) }
}

fn shown_credentials(what: &str) -> QueryError {
    QueryError::Unsupported(format!(
        "credentials cannot be part of {what}, whose text is kept and shown, also in locations and comments: run CREATE SECRET by itself, with \
         'windlass sql', and name the secret with OPTIONS (secret 'name')"
    ))
}

/// Finds byte offsets of places in a text, from the first one on.
struct Cursor<'a> {
    rest: CharIndices<'a>,
    here: Location,
}

impl<'a> Cursor<'a> {
    fn new(sql: &'a str) -> Self {
        Self { rest: sql.char_indices(), here: Location { line: 1, column: 1 } }
    }

    /// Returns the byte offset of a line and a column, which count from 1 and are not before the last ones. The column is in characters.
    fn offset(&mut self, to: Location) -> usize {
        while self.here < to {
            match self.rest.next() {
                Some((_, '\n')) => self.here = Location { line: self.here.line + 1, column: 1 },
                Some(_) => self.here.column += 1,
                None => break,
            }
        }
        self.rest.offset()
    }
}

fn tokens(dialect: &dyn Dialect, sql: &str) -> Result<Vec<TokenWithSpan>, DataFusionError> {
    let escapes = spark::tokens_of(dialect);
    let dialect = escapes.as_ref().map_or(dialect, |escapes| escapes as &dyn Dialect);
    let tokens = Tokenizer::new(dialect, sql).tokenize_with_location();
    tokens.map(ends_of_types).map(columns::name_columns).map_err(|error| ParserError::from(error).into())
}

/// Puts two `>` in place of a `>>` before `[`. The parser would make `struct<a struct<b int>>[]` a struct of a list, not a list.
fn ends_of_types(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|token| token.token == Token::ShiftRight) {
        return tokens;
    }
    let ends = |at: usize, token: &TokenWithSpan| {
        let mut after = tokens[at + 1..].iter().map(|token| &token.token);
        token.token == Token::ShiftRight
            && after.find(|token| !matches!(token, Token::Whitespace(_))) == Some(&Token::LBracket)
    };
    let mut parted = Vec::with_capacity(tokens.len());
    for (at, token) in tokens.iter().enumerate() {
        if ends(at, token) {
            parted.extend([TokenWithSpan::new(Token::Gt, token.span), TokenWithSpan::new(Token::Gt, token.span)]);
        } else {
            parted.push(token.clone());
        }
    }
    parted
}

fn classify(state: &SessionState, mut text: Text) -> Result<Parsed, QueryError> {
    let connectors = Registry::of(state.config());
    let (made, listed) = (made(state, &text.statement), text.listed.take());
    let credentials = target::credentials(&connectors, &text.statement);
    let CopyOptions { store, manifest } = target::copy_options(&connectors, &mut text.statement)?;
    let (mut statement, write_to) = target::taken(state, text)?;
    balance(&mut statement);
    places::put_in(&connectors, &mut statement)?;
    let store = target::copied_to(&statement).map(str::to_string).zip(Some(store).filter(|all| !all.is_empty()));
    let inserts = inserted(state, &statement);
    name_in_full(state, &mut statement);
    casts::rewrite(state, &mut statement);
    lists::rewrite(&mut statement);
    windows::write_out(&mut statement)?;
    merged::write_out(&mut statement)?;
    forms::rewrite(state, &mut statement)?;
    dialect::rewrite(&mut statement)?;
    rewrite(&mut statement);
    inserted::rewrite(&mut statement)?;
    numbers::rewrite(&mut statement, state.config_options().sql_parser.dialect);
    ignored::refuse(state, &statement)?;
    let names = number_placeholders(&mut statement)?;
    let (lengths, not_null) = Default::default();
    let (rename, secret, catalog) = (None, None, None);
    let mut parsed = Parsed {
        statement,
        temporary: false,
        rename,
        secret,
        catalog,
        write_to,
        inserts,
        store,
        listed,
        manifest,
        credentials,
        makes: made,
        is_query: false,
        lengths,
        not_null,
        names,
    };
    let Statement::Statement(sql) = &mut parsed.statement else { return Ok(parsed) };
    parsed.catalog = catalogs::of(sql)?;
    if parsed.catalog.is_some() {
        parsed.statement = nothing(state)?;
        return Ok(parsed);
    }
    parsed.secret = secrets::of(sql)?;
    if parsed.secret.is_some() {
        parsed.statement = nothing(state)?;
        return Ok(parsed);
    }
    match sql.as_mut() {
        ast::Statement::Query(_) => parsed.is_query = parsed.write_to.is_none(),
        ast::Statement::StartTransaction { .. }
        | ast::Statement::Commit { .. }
        | ast::Statement::Rollback { .. }
        | ast::Statement::Savepoint { .. }
        | ast::Statement::ReleaseSavepoint { .. } => return Err(super::no_transactions()),
        // EXECUTE supplies its parameters.
        ast::Statement::Prepare { .. } => parsed.names = ParameterNames::default(),
        ast::Statement::CreateTable(create) => {
            parsed.temporary = std::mem::take(&mut create.temporary);
            parsed.lengths = dialect::lengths(create)?;
            parsed.not_null = dialect::not_null(create);
        }
        ast::Statement::AlterTable(alter) => {
            let to = match alter.operations.as_slice() {
                [AlterTableOperation::RenameTable { table_name }] => match table_name {
                    RenameTableNameKind::To(name) | RenameTableNameKind::As(name) => name.clone(),
                },
                _ => {
                    return Err(QueryError::Unsupported(
                        "of ALTER TABLE only 'ALTER TABLE name RENAME TO name' is supported".to_string(),
                    ));
                }
            };
            parsed.rename = Some((reference(state, &alter.name), reference(state, &to)));
            parsed.statement = nothing(state)?;
        }
        _ => {}
    }
    Ok(parsed)
}

/// Returns the table or view that a statement makes.
fn made(state: &SessionState, statement: &Statement) -> Option<TableReference> {
    match statement {
        Statement::CreateExternalTable(create) => Some(reference(state, &create.name)),
        Statement::Statement(sql) => match sql.as_ref() {
            ast::Statement::CreateTable(create) => Some(reference(state, &create.name)),
            ast::Statement::CreateView(create) => Some(reference(state, &create.name)),
            _ => None,
        },
        Statement::Explain(explain) => made(state, &explain.statement),
        Statement::CopyTo(_) | Statement::Reset(_) => None,
    }
}

/// Returns the columns that an INSERT lists, also one that is prepared.
pub(super) fn inserted(state: &SessionState, statement: &Statement) -> Vec<String> {
    let listed = |sql: &ast::Statement| match sql {
        ast::Statement::Insert(insert) => {
            insert.columns.iter().map(|name| reference(state, name).table().to_string()).collect()
        }
        _ => Vec::new(),
    };
    match statement {
        Statement::Explain(explain) => inserted(state, &explain.statement),
        Statement::Statement(sql) => match sql.as_ref() {
            ast::Statement::Prepare { statement, .. } => listed(statement),
            sql => listed(sql),
        },
        _ => Vec::new(),
    }
}

/// Returns a statement with an empty plan, in place of one that the planner does not know.
fn nothing(state: &SessionState) -> Result<Statement, QueryError> {
    Ok(statements(state, "SELECT 1", Limits::default())?.swap_remove(0).statement)
}

/// Names the table of SHOW COLUMNS and SHOW CREATE TABLE in full. The planner would show all tables of its name.
fn name_in_full(state: &SessionState, statement: &mut Statement) {
    let Statement::Statement(sql) = statement else { return };
    let name = match sql.as_mut() {
        ast::Statement::ShowColumns { show_options, .. } => {
            show_options.show_in.as_mut().and_then(|of| of.parent_name.as_mut())
        }
        ast::Statement::ShowCreate { obj_name, .. } => Some(obj_name),
        _ => None,
    };
    let Some(name) = name.filter(|name| name.0.len() <= 3) else { return };
    let defaults = &state.config_options().catalog;
    let full = reference(state, name).resolve(&defaults.default_catalog, &defaults.default_schema);
    let parts = [full.catalog, full.schema, full.table];
    *name = ObjectName::from(parts.map(|part| Ident::with_quote('"', part.to_string())).to_vec());
}

fn reference(state: &SessionState, name: &ObjectName) -> TableReference {
    let normalize = state.config_options().sql_parser.enable_ident_normalization;
    let parts: Vec<String> = name
        .0
        .iter()
        .filter_map(|part| part.as_ident())
        .map(|ident| match ident.quote_style {
            None if normalize => ident.value.to_lowercase(),
            _ => ident.value.clone(),
        })
        .collect();
    match parts.as_slice() {
        [catalog, schema, table] => TableReference::full(catalog.as_str(), schema.as_str(), table.as_str()),
        [schema, table] => TableReference::partial(schema.as_str(), table.as_str()),
        _ => TableReference::bare(parts.last().cloned().unwrap_or_default()),
    }
}

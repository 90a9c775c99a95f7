//! `CREATE EXTERNAL TABLE … AS query`, and `COPY … TO` and `COPY … INTO` a table of a connector: a query, and the table that its rows go to.
//!
//! DataFusion's parser knows no query after CREATE EXTERNAL TABLE. It is given a semicolon in place of the AS before it, and so parses
//! two statements, which this module joins. Nor does it know COPY … INTO a table: it is given TO and a text that has the name.

use crate::errors::QueryError;
use crate::statements::catalog::{CLASS_OF_STORE, SECRET, STORE_OPTIONS, is_store_secret};
use datafusion::common::TableReference;
use datafusion::execution::SessionState;
use datafusion::sql::parser::{CopyToSource, CopyToStatement, CreateExternalTable, Statement};
use datafusion::sql::sqlparser::ast::{self, Value};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Whitespace};
use std::collections::BTreeMap;
use windlass_engine::connector::Registry;
use windlass_engine::extent::Limits;

/// The option of COPY for the storage class of its files.
const STORAGE_CLASS: &str = "storage_class";
/// The option of COPY for a file that names all files that it wrote.
const MANIFEST: &str = "manifest";

/// The option of COPY for the place of rows that a table does not take.
const REJECTS: &str = "rejects";

/// A statement as the parser gives it, and the query that follows its AS.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub statement: Statement,
    pub query: Option<Statement>,
    /// The catalog and the schema whose tables SHOW lists.
    pub listed: Option<(String, String)>,
}

/// The table of a connector to which a query's rows go.
#[derive(Clone)]
pub(in crate::statements) enum WriteTo {
    /// CREATE EXTERNAL TABLE … AS.
    New(Box<CreateExternalTable>),
    /// COPY … TO.
    Place(PlaceOfTable),
    /// COPY … INTO: a table that the catalog knows, or one in the catalog of another system.
    Table { name: TableReference, options: BTreeMap<String, String> },
}

/// Kind, location and options of a table that the catalog does not know.
#[derive(Clone)]
pub(in crate::statements) struct PlaceOfTable {
    pub connector: String,
    pub location: String,
    pub options: BTreeMap<String, String>,
}

impl WriteTo {
    /// Whether rows that the table does not take are set aside.
    pub fn may_reject(&self) -> bool {
        matches!(self, Self::Place(place) if place.options.contains_key(REJECTS))
    }
}

/// Without the options, which may be secret.
impl std::fmt::Debug for WriteTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WriteTo::New(create) => write!(f, "{} at {}", create.file_type, create.locations.join(", ")),
            WriteTo::Place(place) => write!(f, "{} at {}", place.connector, place.location),
            WriteTo::Table { name, .. } => write!(f, "{name}"),
        }
    }
}

/// Whether a text may hold such a CREATE EXTERNAL TABLE.
pub(super) fn may_be_in(sql: &str) -> bool {
    sql.to_ascii_lowercase().contains("external")
}

/// Puts a semicolon in place of each AS before the query of a CREATE EXTERNAL TABLE. Returns where.
pub(super) fn part(tokens: &mut [TokenWithSpan]) -> Vec<Location> {
    let mut places = Vec::new();
    let mut words: Vec<Keyword> = Vec::new();
    let (mut depth, mut is_parted) = (0u32, false);
    for token in tokens {
        match &token.token {
            Token::Whitespace(_) => continue,
            Token::SemiColon => {
                words.clear();
                (depth, is_parted) = (0, false);
                continue;
            }
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        let keyword = match &token.token {
            Token::Word(word) if depth == 0 => word.keyword,
            _ => Keyword::NoKeyword,
        };
        let is_as = keyword == Keyword::AS && words.last() != Some(&Keyword::STORED);
        if is_as && !is_parted && creates_external(&words) {
            places.push(token.span.start);
            token.token = Token::SemiColon;
            is_parted = true;
        }
        words.push(keyword);
    }
    places
}

/// Begins the target of a COPY that is the name of a table.
const TABLE: &str = "table:";

/// Whether a text may hold COPY … INTO.
pub(super) fn may_have_tables(sql: &str) -> bool {
    let sql = sql.to_ascii_lowercase();
    sql.contains("copy") && sql.contains("into")
}

/// Puts `TO 'table:name'` in place of `INTO name` in each COPY.
pub(super) fn name_tables(tokens: &mut [TokenWithSpan]) {
    let is_space = |token: &TokenWithSpan| matches!(token.token, Token::Whitespace(_));
    let mut words: Vec<Keyword> = Vec::new();
    let (mut depth, mut at) = (0u32, 0);
    while at < tokens.len() {
        let keyword = match &tokens[at].token {
            Token::Whitespace(_) => {
                at += 1;
                continue;
            }
            Token::Word(word) if depth == 0 => word.keyword,
            _ => Keyword::NoKeyword,
        };
        match &tokens[at].token {
            Token::SemiColon => words.clear(),
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
        if keyword != Keyword::INTO || !copies(&words) {
            if tokens[at - 1].token != Token::SemiColon {
                words.push(keyword);
            }
            continue;
        }
        words.clear();
        let into = at - 1;
        let first = at + tokens[at..].iter().take_while(|token| is_space(token)).count();
        let of_name = |token: &&TokenWithSpan| matches!(token.token, Token::Word(_) | Token::Period);
        let name: String = tokens[first..].iter().take_while(of_name).map(|token| written(&token.token)).collect();
        at = first + tokens[first..].iter().take_while(of_name).count();
        // The parser says what is missing.
        if at > first {
            tokens[into].token = Token::make_keyword("TO");
            tokens[first].token = Token::SingleQuotedString(format!("{TABLE}{name}"));
            tokens[first + 1..at].iter_mut().for_each(|token| token.token = Token::Whitespace(Whitespace::Space));
        }
    }
}

/// A part of a name as it is written. The token itself forgets which quotes within it were doubled.
fn written(token: &Token) -> String {
    match token {
        Token::Word(word) if word.quote_style.is_some() => format!("\"{}\"", word.value.replace('"', "\"\"")),
        token => token.to_string(),
    }
}

/// Whether a statement that begins with `words` is COPY, or explains one.
fn copies(words: &[Keyword]) -> bool {
    let mut words = words.iter();
    words.find(|word| !matches!(word, Keyword::EXPLAIN | Keyword::ANALYZE | Keyword::VERBOSE)) == Some(&Keyword::COPY)
}

/// Whether a statement that begins with `words` is CREATE EXTERNAL TABLE, or explains one.
fn creates_external(words: &[Keyword]) -> bool {
    let mut words = words.iter().skip_while(|word| {
        matches!(word, Keyword::EXPLAIN | Keyword::ANALYZE | Keyword::VERBOSE | Keyword::CREATE | Keyword::OR)
            || matches!(word, Keyword::REPLACE | Keyword::UNBOUNDED)
    });
    words.next() == Some(&Keyword::EXTERNAL)
}

/// Splits a statement that writes a query's rows into a table of a connector into the query and that table.
pub(super) fn taken(state: &SessionState, text: Text) -> Result<(Statement, Option<WriteTo>), QueryError> {
    let connectors = Registry::of(state.config());
    match (text.statement, text.query) {
        (Statement::Explain(mut explain), query) => {
            let (inner, target) = taken(state, Text { statement: *explain.statement, query, listed: None })?;
            explain.statement = Box::new(inner);
            Ok((Statement::Explain(explain), target))
        }
        (Statement::CreateExternalTable(create), Some(query)) => {
            if connectors.get(&create.file_type).is_none() {
                return Err(QueryError::Unsupported(format!(
                    "CREATE EXTERNAL TABLE … AS is not for files: write them with COPY (query) TO 'folder/' STORED AS {}, and then create the \
                     table over that folder; or use CREATE TABLE {} AS, whose files Windlass keeps",
                    create.file_type.to_uppercase(),
                    create.name
                )));
            }
            if !create.columns.is_empty() {
                return Err(QueryError::Unsupported(
                    "the columns of CREATE EXTERNAL TABLE … AS are those of the query: leave the list of columns out, and use CAST and AS in \
                     the query"
                        .to_string(),
                ));
            }
            Ok((query, Some(WriteTo::New(Box::new(create)))))
        }
        (Statement::CopyTo(copy), None) if names_table(&copy) => {
            if let Some(kind) = &copy.stored_as {
                return Err(QueryError::Invalid(format!(
                    "STORED AS {kind} is for COPY … TO: the table after INTO has its kind already"
                )));
            }
            let name = TableReference::from(copy.target.trim_start_matches(TABLE));
            let options = options_of("tables of other systems", &copy)?;
            Ok((query_of(state, copy.source)?, Some(WriteTo::Table { name, options })))
        }
        (Statement::CopyTo(copy), None) => match copy.stored_as.as_deref().and_then(|kind| connectors.get(kind)) {
            Some(connector) => {
                let place = place_of(connector.name(), &copy)?;
                Ok((query_of(state, copy.source)?, Some(WriteTo::Place(place))))
            }
            None => Ok((Statement::CopyTo(copy), None)),
        },
        (statement, None) => Ok((statement, None)),
        (_, Some(_)) => Err(QueryError::Internal("a query follows a statement that takes none".to_string())),
    }
}

/// Options of COPY to files that DataFusion does not know.
#[derive(Default)]
pub(super) struct CopyOptions {
    /// How the files' store is reached.
    pub store: BTreeMap<String, String>,
    /// Whether a manifest is written beside the files.
    pub manifest: bool,
}

/// Takes the options out of a COPY to files that DataFusion does not know.
pub(super) fn copy_options(connectors: &Registry, statement: &mut Statement) -> Result<CopyOptions, QueryError> {
    let copy = match statement {
        Statement::Explain(explain) => return copy_options(connectors, &mut explain.statement),
        Statement::CopyTo(copy) if !is_for_connector(connectors, copy) => copy,
        _ => return Ok(CopyOptions::default()),
    };
    let mut options = BTreeMap::new();
    let mut manifest = None;
    for (key, value) in std::mem::take(&mut copy.options) {
        let name = key.to_lowercase();
        match text_of(&value) {
            Some(text) if name == SECRET || name == STORAGE_CLASS || name.starts_with(STORE_OPTIONS) => {
                let name = if name == STORAGE_CLASS { CLASS_OF_STORE.to_string() } else { name };
                if options.insert(name, text).is_some() {
                    return Err(QueryError::Invalid(format!("the option '{key}' is there twice")));
                }
            }
            Some(text) if name == MANIFEST => match text.to_lowercase().parse() {
                Ok(wanted) if manifest.is_none() => manifest = Some(wanted),
                Ok(_) => return Err(QueryError::Invalid(format!("the option '{key}' is there twice"))),
                Err(_) => {
                    return Err(QueryError::Invalid(format!("the option '{key}' is true or false, not '{text}'")));
                }
            },
            _ => copy.options.push((key, value)),
        }
    }
    let manifest = manifest.unwrap_or_default();
    if manifest && !copy.target.ends_with('/') {
        return Err(QueryError::Invalid(format!(
            "the option '{MANIFEST}' is for folders, and '{}' is a file: end the target with /",
            copy.target
        )));
    }
    Ok(CopyOptions { store: options, manifest })
}

/// Whether the target of a COPY is the name of a table.
pub(super) fn names_table(copy: &CopyToStatement) -> bool {
    copy.target.starts_with(TABLE)
}

fn is_for_connector(connectors: &Registry, copy: &CopyToStatement) -> bool {
    names_table(copy) || copy.stored_as.as_deref().is_some_and(|kind| connectors.get(kind).is_some())
}

/// Returns the place to which COPY writes files.
pub(super) fn copied_to(statement: &Statement) -> Option<&str> {
    match statement {
        Statement::CopyTo(copy) => Some(&copy.target),
        Statement::Explain(explain) => copied_to(&explain.statement),
        _ => None,
    }
}

/// Returns the values of a statement's options that are credentials.
pub(super) fn credentials(connectors: &Registry, statement: &Statement) -> Vec<String> {
    let mut is_known = false;
    let (kind, options) = match statement {
        Statement::CreateExternalTable(create) => (create.file_type.as_str(), &create.options),
        Statement::CopyTo(copy) => {
            is_known = names_table(copy);
            (copy.stored_as.as_deref().unwrap_or_default(), &copy.options)
        }
        Statement::Explain(explain) => return credentials(connectors, &explain.statement),
        Statement::Statement(_) | Statement::Reset(_) => return Vec::new(),
    };
    let text = |(key, value): &(String, Value)| Some((key.clone(), text_of(value)?));
    let options: BTreeMap<String, String> = options.iter().filter_map(text).collect();
    match connectors.get(kind) {
        None if !is_known => {
            options.into_iter().filter(|(key, _)| is_store_secret(key)).map(|(_, value)| value).collect()
        }
        // Without a kind, the secrets of all kinds.
        _ => connectors.secrets(kind, &options).into_iter().map(str::to_string).collect(),
    }
}

fn place_of(connector: &str, copy: &CopyToStatement) -> Result<PlaceOfTable, QueryError> {
    let options = options_of(&format!("tables stored as {connector}"), copy)?;
    Ok(PlaceOfTable { connector: connector.to_string(), location: copy.target.clone(), options })
}

/// Returns the options of a COPY into one of `tables`.
fn options_of(tables: &str, copy: &CopyToStatement) -> Result<BTreeMap<String, String>, QueryError> {
    if !copy.partitioned_by.is_empty() {
        return Err(QueryError::Unsupported(format!(
            "PARTITIONED BY is for files, and {tables} are none: leave it out"
        )));
    }
    let mut options = BTreeMap::new();
    for (key, value) in &copy.options {
        let Some(value) = text_of(value) else {
            return Err(QueryError::Invalid(format!("the option '{key}' is neither a text nor a number")));
        };
        if options.insert(key.to_lowercase(), value).is_some() {
            return Err(QueryError::Invalid(format!("the option '{key}' is there twice")));
        }
    }
    Ok(options)
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Number(number, _) => Some(number.clone()),
        Value::Boolean(value) => Some(value.to_string()),
        Value::DollarQuotedString(text) => Some(text.value.clone()),
        Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) | Value::EscapedStringLiteral(text) => {
            Some(text.clone())
        }
        _ => None,
    }
}

/// Returns the query whose rows COPY writes.
fn query_of(state: &SessionState, source: CopyToSource) -> Result<Statement, QueryError> {
    match source {
        CopyToSource::Query(query) => Ok(Statement::Statement(Box::new(ast::Statement::Query(query)))),
        CopyToSource::Relation(name) => {
            let mut all = super::statements(state, "SELECT * FROM t", Limits::default())?.swap_remove(0).statement;
            // The name keeps its place in the text, to which errors point.
            if let Statement::Statement(query) = &mut all
                && let ast::Statement::Query(query) = query.as_mut()
                && let ast::SetExpr::Select(select) = query.body.as_mut()
                && let Some(ast::TableFactor::Table { name: read, .. }) =
                    select.from.first_mut().map(|from| &mut from.relation)
            {
                *read = name;
            }
            Ok(all)
        }
    }
}

//! Errors of statements for their authors. Each has one message that says what went wrong, where, and how to fix it, and one kind that
//! every face (gRPC, REST) maps to its own codes.

use crate::meta::{MetaError, SealError};
use crate::nearest::nearest;
use datafusion::catalog::information_schema::INFORMATION_SCHEMA;
use datafusion::common::{Column, DataFusionError, SchemaError, Span, TableReference};
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::parser::ParserError;
use thiserror::Error;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Status};
use windlass_core::event::JobError;
use windlass_core::failure::TaskFailure;
use windlass_proto::v1::ErrorKind;
use windlass_proto::{LEADER_HEADER, errors};

/// Maximum bytes of a message. gRPC sends it in a header, and clients limit the size of headers.
const MAX_STATUS_MESSAGE: usize = 3_072;

/// Why a statement has no result.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QueryError {
    /// The text is not SQL. The message shows the line with a caret.
    #[error("{0}")]
    Syntax(String),
    /// The statement or its data is at fault.
    #[error("{0}")]
    Invalid(String),
    /// A file that the statement reads does not exist. `path` is in the form of its store.
    #[error("{message}")]
    FileMissing { path: String, message: String },
    /// No option has that name.
    #[error("{0}")]
    UnknownOption(String),
    /// A table, column, schema, session, result or prepared statement does not exist.
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    AlreadyExists(String),
    #[error("{0}")]
    Unsupported(String),
    #[error("{0}")]
    Cancelled(String),
    /// It exceeded its time limit.
    #[error("{0}")]
    TimedOut(String),
    /// Tasks did not fit into the memory of an executor.
    #[error("{0}")]
    OutOfMemory(String),
    /// The disk was full, or a limit was exceeded.
    #[error("{0}")]
    Exhausted(String),
    /// Too many jobs are waiting.
    #[error("{0}")]
    Busy(String),
    /// This primary does not lead, or not for much longer. Nothing was changed, so another primary can run the statement.
    #[error("{0}")]
    NotLeading(String),
    /// It could not be determined whether the effect is durable.
    #[error("{0}")]
    OutcomeUnknown(String),
    /// A table that the statement reads and replaces has changed since it was read. Nothing was changed. `table` is its id.
    #[error("{message}")]
    Changed { table: String, message: String },
    /// No process can run it at this time.
    #[error("{0}")]
    Unavailable(String),
    /// The caller lacks the right.
    #[error("{0}")]
    Denied(String),
    /// A finished result was lost with the executor that held it.
    #[error("{0}")]
    Lost(String),
    /// A defect, or a failing disk or network.
    #[error("{0}")]
    Internal(String),
}

impl QueryError {
    /// Returns the kind that clients receive beside the message.
    pub fn kind(&self) -> ErrorKind {
        match self {
            QueryError::Syntax(_) => ErrorKind::Syntax,
            QueryError::Invalid(_) | QueryError::FileMissing { .. } => ErrorKind::Invalid,
            QueryError::UnknownOption(_) => ErrorKind::UnknownOption,
            QueryError::NotFound(_) => ErrorKind::NotFound,
            QueryError::AlreadyExists(_) => ErrorKind::AlreadyExists,
            QueryError::Unsupported(_) => ErrorKind::Unsupported,
            QueryError::Cancelled(_) => ErrorKind::Cancelled,
            QueryError::TimedOut(_) => ErrorKind::TimedOut,
            QueryError::OutOfMemory(_) => ErrorKind::OutOfMemory,
            QueryError::Exhausted(_) => ErrorKind::Exhausted,
            QueryError::Busy(_) => ErrorKind::Busy,
            QueryError::NotLeading(_) => ErrorKind::NotLeading,
            QueryError::OutcomeUnknown(_) => ErrorKind::OutcomeUnknown,
            QueryError::Changed { .. } | QueryError::Unavailable(_) => ErrorKind::Unavailable,
            QueryError::Denied(_) => ErrorKind::Denied,
            QueryError::Lost(_) => ErrorKind::ResultLost,
            QueryError::Internal(_) => ErrorKind::Internal,
        }
    }
}

impl From<QueryError> for Status {
    fn from(error: QueryError) -> Self {
        let kind = error.kind();
        let code = match kind {
            ErrorKind::Syntax | ErrorKind::Invalid | ErrorKind::UnknownOption => Code::InvalidArgument,
            ErrorKind::NotFound => Code::NotFound,
            ErrorKind::AlreadyExists => Code::AlreadyExists,
            ErrorKind::Unsupported => Code::Unimplemented,
            ErrorKind::Cancelled => Code::Cancelled,
            ErrorKind::TimedOut => Code::DeadlineExceeded,
            ErrorKind::OutOfMemory | ErrorKind::Exhausted | ErrorKind::Busy => Code::ResourceExhausted,
            ErrorKind::NotLeading | ErrorKind::Unavailable => Code::Unavailable,
            ErrorKind::OutcomeUnknown => Code::Aborted,
            ErrorKind::Denied => Code::PermissionDenied,
            ErrorKind::ResultLost => Code::DataLoss,
            ErrorKind::Internal | ErrorKind::Unknown => Code::Internal,
        };
        let mut status = errors::status(code, shorten(error.to_string()), kind);
        if kind == ErrorKind::NotLeading {
            status.metadata_mut().insert(LEADER_HEADER, AsciiMetadataValue::from_static(""));
        }
        status
    }
}

fn shorten(mut message: String) -> String {
    if message.len() > MAX_STATUS_MESSAGE {
        let end = (0..=MAX_STATUS_MESSAGE).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

impl From<MetaError> for QueryError {
    fn from(error: MetaError) -> Self {
        match error {
            MetaError::Conflict { .. } => QueryError::Invalid(error.to_string()),
            MetaError::Unknown { .. } => QueryError::OutcomeUnknown(error.to_string()),
            MetaError::NotLeading { .. } => QueryError::NotLeading(error.to_string()),
            MetaError::Store { .. } | MetaError::Corrupt { .. } => QueryError::Internal(error.to_string()),
        }
    }
}

impl From<SealError> for QueryError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::NoKey => QueryError::Unsupported(error.to_string()),
            other => QueryError::Internal(other.to_string()),
        }
    }
}

impl From<JobError> for QueryError {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Task { failure, attempts, .. } => match failure {
                TaskFailure::UserError { message } => QueryError::Invalid(clean(&message)),
                TaskFailure::FileMissing { path, message } => {
                    QueryError::FileMissing { path, message: clean(&message) }
                }
                TaskFailure::Cancelled => QueryError::Cancelled("the statement was cancelled".to_string()),
                failure @ TaskFailure::OutOfMemory { .. } => {
                    QueryError::OutOfMemory(format!("{failure} (after {attempts} attempts)"))
                }
                failure @ TaskFailure::DiskFull { .. } => {
                    QueryError::Exhausted(format!("{failure} (after {attempts} attempts)"))
                }
                failure @ TaskFailure::Defect { .. } => QueryError::Internal(failure.to_string()),
                failure => QueryError::Internal(format!("{failure} (after {attempts} attempts)")),
            },
            JobError::Cancelled { reason } => QueryError::Cancelled(format!("the statement was cancelled: {reason}")),
            JobError::Stopping => QueryError::NotLeading(error.to_string()),
            JobError::NoExecutors { .. } => QueryError::Unavailable(error.to_string()),
            JobError::Busy { .. } | JobError::UserBusy { .. } => QueryError::Busy(error.to_string()),
            JobError::TimedOut { .. } => QueryError::TimedOut(error.to_string()),
            JobError::Invalid { reason } => QueryError::Invalid(reason),
            JobError::Once { .. } => QueryError::Lost(error.to_string()),
            JobError::InputLost { .. } | JobError::TooManyRetries { .. } => QueryError::Internal(error.to_string()),
        }
    }
}

/// Converts an error without its statement: the message says what went wrong, but not where.
impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        explain(&error, "")
    }
}

/// A missing table that a statement names.
struct Missing<'a> {
    /// Its name, without catalog and schema.
    table: String,
    /// The message about its catalog or schema, if that is missing too.
    place: Option<String>,
    /// Names of tables that exist.
    known: &'a [String],
}

/// Translates `error` for the author of `sql`.
pub fn explain(error: &DataFusionError, sql: &str) -> QueryError {
    explain_missing(error, sql, None)
}

/// Translates an error of planning for the author of `sql`, which is empty when its text is not at hand. `references`: the tables that the
/// statement names; `known`: names that would have been found.
pub(crate) async fn explain_planning(
    state: &SessionState,
    references: impl IntoIterator<Item = TableReference>,
    error: &DataFusionError,
    sql: &str,
    known: &[String],
) -> QueryError {
    let missing = missing_table(state, references, error, sql).await;
    let missing =
        missing.map(|name| Missing { place: missing_place(state, &name), table: name.table().to_string(), known });
    explain_missing(error, sql, missing)
}

/// As [`explain`], of a statement that names a table that does not exist.
fn explain_missing(error: &DataFusionError, sql: &str, missing: Option<Missing<'_>>) -> QueryError {
    if let DataFusionError::External(inner) = root(error)
        && let Some(known) = inner.downcast_ref::<QueryError>()
    {
        return known.clone();
    }
    if let Some(task) = task_failure(error) {
        return JobError::Task {
            attempt: windlass_core::ids::JobId(0).stage(0).task(0).attempt(0),
            attempts: 1,
            failure: task,
        }
        .into();
    }
    let place =
        error.diagnostic().and_then(|d| d.span).map(|span| (span.start.line as usize, span.start.column as usize));
    let at = |message: String| match place {
        Some((line, column)) if !sql.is_empty() => point(&message, sql, line, column),
        _ => message,
    };
    match root(error) {
        DataFusionError::SQL(parser, _) => syntax(parser, sql),
        DataFusionError::SchemaError(schema, _) => schema_error(schema, at),
        DataFusionError::Plan(message) => match missing {
            Some(Missing { table, .. }) if table.contains('/') => {
                let advice = "files become a table with CREATE EXTERNAL TABLE name STORED AS format LOCATION 'path'";
                QueryError::NotFound(at(format!("table '{table}' not found; {advice}")))
            }
            Some(Missing { place: Some(place), .. }) => QueryError::NotFound(at(place)),
            Some(Missing { table, known, .. }) => {
                let nearest = nearest(&table, known.iter().map(String::as_str)).map(quoted);
                QueryError::NotFound(at(with_suggestion(format!("table '{table}' not found"), nearest.as_deref())))
            }
            None => QueryError::Invalid(at(clean(message))),
        },
        DataFusionError::NotImplemented(message) if message.contains("OuterReferenceColumn") => {
            let what = "a subquery that uses columns of the query around it is not supported in this place";
            QueryError::Unsupported(at(format!("{what}: write it as a join")))
        }
        DataFusionError::NotImplemented(message) => QueryError::Unsupported(at(without_tree(&clean(message)))),
        DataFusionError::ResourcesExhausted(message) => QueryError::Exhausted(clean(message)),
        DataFusionError::Internal(_) | DataFusionError::ExecutionJoin(_) => {
            QueryError::Internal(clean(&error.strip_backtrace()))
        }
        DataFusionError::IoError(_) => QueryError::Internal(clean(&error.strip_backtrace())),
        DataFusionError::ObjectStore(inner) => store_error(inner),
        root => QueryError::Invalid(at(clean(&root.strip_backtrace()))),
    }
}

/// Returns the message about an unsupported feature, without the parser's tree, and as a sentence if it is a single word.
fn without_tree(message: &str) -> String {
    let is_tree = ["quote_style: ", "span: Span(", "Some("].iter().any(|part| message.contains(part));
    let end = message.find(['{', '(']).filter(|_| is_tree).unwrap_or(message.len());
    let what = message[..end].trim_end_matches([' ', ':']);
    let what = what.replace("ast node in sqltorel: ", "").replace("ast node ", "");
    let is_word = !what.contains(char::is_lowercase);
    if is_word || is_tree && !what.contains("upport") { format!("{what} is not supported") } else { what }
}

/// Returns the name of a table among `references` that is not there, and that the planner points at if it points at anything in
/// `sql`, which is empty when its text is not at hand.
async fn missing_table(
    state: &SessionState,
    references: impl IntoIterator<Item = TableReference>,
    error: &DataFusionError,
    sql: &str,
) -> Option<TableReference> {
    let mut missing = Vec::new();
    for name in references {
        let found = match state.schema_for_ref(name.clone()) {
            Ok(schema) => schema.table(name.table()).await,
            Err(_) => Ok(None),
        };
        if matches!(found, Ok(None)) && !state.table_functions().contains_key(name.table()) {
            missing.push(name);
        }
    }
    match error.diagnostic().and_then(|found| found.span) {
        Some(span) if !sql.is_empty() => {
            let written = written_at(sql, &span).unwrap_or_default();
            missing.into_iter().find(|name| written.contains(name.table()))
        }
        _ => missing.into_iter().next(),
    }
}

/// Returns the message about the catalog or the schema of `name`, if it does not exist.
fn missing_place(state: &SessionState, name: &TableReference) -> Option<String> {
    let defaults = &state.config_options().catalog;
    let name = name.clone().resolve(&defaults.default_catalog, &defaults.default_schema);
    let not_found = |what: &str, name: &str, known: Vec<String>| {
        let nearest = nearest(name, known.iter().map(String::as_str));
        with_suggestion(format!("{what} '{name}' not found"), nearest)
    };
    let catalogs = state.catalog_list();
    let Some(catalog) = catalogs.catalog(&name.catalog) else {
        return Some(not_found("catalog", &name.catalog, catalogs.catalog_names()));
    };
    let is_missing = catalog.schema(&name.schema).is_none() && *name.schema != *INFORMATION_SCHEMA;
    is_missing.then(|| not_found("schema", &name.schema, catalog.schema_names()))
}

/// Returns the text of `sql` at `span`, which is on one line.
fn written_at<'a>(sql: &'a str, span: &Span) -> Option<&'a str> {
    let line = sql.lines().nth((span.start.line as usize).checked_sub(1)?)?;
    let offset =
        |column: u64| line.char_indices().nth(column.saturating_sub(1) as usize).map_or(line.len(), |(at, _)| at);
    line.get(offset(span.start.column)..offset(span.end.column))
}

fn schema_error(error: &SchemaError, at: impl Fn(String) -> String) -> QueryError {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let mut names: Vec<&str> = valid_fields.iter().map(Column::name).collect();
            names.sort_unstable();
            names.dedup();
            let message = format!("column '{}' not found", field.flat_name());
            let message = match nearest(field.name(), names.iter().copied()) {
                Some(name) => with_suggestion(message, Some(&quoted(name))),
                None if names.is_empty() => message,
                None => format!("{message}; there are: {}", listed(&names)),
            };
            QueryError::NotFound(at(message))
        }
        error => QueryError::Invalid(at(clean(&error.to_string()))),
    }
}

fn store_error(error: &object_store::Error) -> QueryError {
    match error {
        object_store::Error::NotFound { path, .. } => QueryError::NotFound(format!("there is no file at {path}")),
        error => {
            let (text, cause) = (error.to_string(), first_cause(error).to_string());
            let cause = if text.contains(&cause) { String::new() } else { format!(": {cause}") };
            QueryError::Invalid(format!("the files cannot be read: {}{cause}", without_xml(&text)))
        }
    }
}

fn first_cause(error: &dyn std::error::Error) -> &dyn std::error::Error {
    error.source().map_or(error, first_cause)
}

/// Returns the failure of a task inside a DataFusion error.
fn task_failure(error: &DataFusionError) -> Option<TaskFailure> {
    match root(error) {
        DataFusionError::External(inner) => inner.downcast_ref::<TaskFailure>().cloned(),
        _ => None,
    }
}

/// Returns the error inside DataFusion's wrappers.
fn root(error: &DataFusionError) -> &DataFusionError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => root(inner),
        DataFusionError::Shared(inner) => root(inner),
        DataFusionError::External(inner) => match inner.downcast_ref::<DataFusionError>() {
            Some(inner) => root(inner),
            None => error,
        },
        DataFusionError::Collection(errors) => errors.first().map_or(error, root),
        error => error,
    }
}

/// Replaces the XML document that an object store answers with by its code and message.
fn without_xml(message: &str) -> String {
    let element = |name: &str| {
        let (_, rest) = message.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(text, _)| text.trim())
    };
    match (message.split_once(" - Server returned"), element("Code"), element("Message")) {
        (Some((tried, _)), Some(code), Some(said)) => format!("{tried}: {code}: {said}"),
        _ => message.to_string(),
    }
}

/// Returns a name as it must be written in SQL.
fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Returns the error for an option that could not be set to `value`, or reset.
pub(crate) fn of_option(state: &SessionState, name: &str, value: Option<&str>, error: &DataFusionError) -> QueryError {
    let known: Vec<String> = state.config_options().entries().into_iter().map(|entry| entry.key).collect();
    if !known.iter().any(|key| key == name) {
        let nearest = nearest(name, known.iter().map(String::as_str));
        return QueryError::UnknownOption(with_suggestion(format!("unknown option '{name}'"), nearest));
    }
    let explained = explain(error, "");
    match value {
        Some(value) => QueryError::Invalid(format!("option '{name}' cannot be '{value}': {explained}")),
        None => explained,
    }
}

pub(crate) fn with_suggestion(message: String, suggestion: Option<&str>) -> String {
    match suggestion {
        Some(name) => format!("{message}; did you mean {name}?"),
        None => message,
    }
}

fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 10;
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

/// Removes the parts of the message that are about DataFusion rather than the statement.
fn clean(message: &str) -> String {
    const PREFIXES: [&str; 14] = [
        "DataFusion error: ",
        "Internal error: ",
        "Error during planning: ",
        "Execution error: ",
        "External error: ",
        "Arrow error: ",
        "Parquet error: ",
        "Schema error: ",
        "SQL error: ",
        "Object Store error: ",
        "IO error: ",
        "Invalid or Unsupported Configuration: ",
        "This feature is not implemented: ",
        "Optimizer rule 'optimize_projections' failed\ncaused by\n",
    ];
    // DataFusion asks for a report when it suspects its own defect. The author of a statement should not send one.
    let message =
        message.split("\nThis issue was likely caused by a bug in DataFusion's code").next().unwrap_or_default();
    let mut text = message.trim();
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        text = rest.trim_start();
    }
    let answer = without_xml(text);
    let text = answer.as_str();
    // "type_coercion\ncaused by\nError during planning: …": the author can fix the last cause.
    if let Some((_, cause)) = text.rsplit_once("\ncaused by\n") {
        return clean(cause);
    }
    text.to_string()
}

fn syntax(error: &ParserError, sql: &str) -> QueryError {
    let message = match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        ParserError::RecursionLimitExceeded => {
            return QueryError::Syntax(
                "the statement nests too deeply; simplify it, or raise datafusion.sql_parser.recursion_limit"
                    .to_string(),
            );
        }
    };
    let (message, place) = split_location(message);
    let message = format!("syntax error: {}{}", &message[..1].to_lowercase(), &message[1.min(message.len())..]);
    let (line, column) = place.unwrap_or_else(|| end_of(sql));
    QueryError::Syntax(point(&message, sql, line, column))
}

/// Splits off the ` at Line: 1, Column: 8` that the parser appends.
fn split_location(message: &str) -> (&str, Option<(usize, usize)>) {
    let parsed = message.rsplit_once(" at Line: ").and_then(|(text, location)| {
        let (line, column) = location.split_once(", Column: ")?;
        Some((text, (line.trim().parse().ok()?, column.trim().parse().ok()?)))
    });
    match parsed {
        Some((text, place)) if place.0 > 0 => (if text.is_empty() { "not understood" } else { text }, Some(place)),
        Some((text, _)) if !text.is_empty() => (text, None),
        _ => (if message.is_empty() { "not understood" } else { message }, None),
    }
}

fn end_of(sql: &str) -> (usize, usize) {
    let text = sql.trim_end();
    let last = text.lines().last().unwrap_or_default();
    (text.lines().count().max(1), last.chars().count() + 1)
}

/// Returns `message`, and below it the line of `sql` with a caret under the column. Both count from 1, columns in characters.
pub fn point(message: &str, sql: &str, line: usize, column: usize) -> String {
    const WIDTH: usize = 120;
    let Some(text) = sql.lines().nth(line.saturating_sub(1)) else {
        return format!("{message} (line {line}, column {column})");
    };
    // A line too long for a screen is cut to the part around the column.
    let skip = if column > WIDTH { column - WIDTH / 2 } else { 0 };
    let shown: String = text.chars().skip(skip).take(WIDTH).collect();
    let caret: String =
        shown.chars().take(column.saturating_sub(1 + skip)).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let margin = line.to_string();
    let gutter = " ".repeat(margin.len());
    format!("{message} (line {line}, column {column})\n{gutter} |\n{margin} | {shown}\n{gutter} | {caret}^")
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::SessionContext;

    async fn error_of(sql: &str) -> QueryError {
        let context = SessionContext::new();
        context.sql("create table flights (origin varchar, dep_delay int, \"Tail\" varchar)").await.unwrap();
        let error = context.sql(sql).await.unwrap_err();
        explain(&error, sql)
    }

    #[tokio::test]
    async fn a_syntax_error_points_at_its_line_and_column() {
        let error = error_of("select origin\n  frm flights where").await;
        let QueryError::Syntax(text) = &error else { panic!("{error:?}") };
        assert!(text.contains("line 2, column 7"), "{text}");
        assert!(text.contains("2 |   frm flights where\n  |       ^"), "{text}");
        assert!(!text.contains("SQL error") && !text.contains("ParserError"), "{text}");
    }

    #[tokio::test]
    async fn an_unfinished_statement_points_behind_its_end() {
        let QueryError::Syntax(text) = error_of("select (1 + 2").await else { panic!() };
        assert!(text.contains("line 1, column 14"), "{text}");
        assert!(text.ends_with("1 | select (1 + 2\n  |              ^"), "{text}");
    }

    #[tokio::test]
    async fn unknown_columns_come_with_the_nearest_name() {
        let QueryError::NotFound(text) = error_of("select orign from flights").await else { panic!() };
        assert!(text.starts_with("column 'orign' not found; did you mean origin?"), "{text}");
        let QueryError::NotFound(text) = error_of("select tail from flights").await else { panic!() };
        assert!(text.starts_with("column 'tail' not found; did you mean \"Tail\"?"), "{text}");
        let QueryError::NotFound(text) = error_of("select colour from flights").await else { panic!() };
        assert!(text.starts_with("column 'colour' not found; there are: Tail, dep_delay, origin"), "{text}");
    }

    #[tokio::test]
    async fn planning_errors_are_one_message() {
        let error = error_of("select sum(dep_delay) over (order by), nosuch(1) from flights").await;
        assert!(!error.to_string().contains("DataFusion error"), "{error}");
        let QueryError::Invalid(text) = error_of("select flor(1.5)").await else { panic!() };
        assert!(!text.contains("Error during planning"), "{text}");
        assert!(text.contains("floor"), "{text}");
    }

    #[test]
    fn what_an_object_store_answers_is_readable() {
        let answer = "Error performing GET http://s3/b?list-type=2 in 5ms - Server returned non-2xx status code: 404 Not Found: \
                      <?xml version=\"1.0\"?>\n<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message>\
                      <RequestId>8J</RequestId></Error>";
        assert_eq!(
            clean(answer),
            "Error performing GET http://s3/b?list-type=2 in 5ms: NoSuchBucket: The specified bucket does not exist"
        );
    }

    #[test]
    fn a_caret_stands_under_its_character() {
        assert_eq!(point("m", "\tä b", 1, 4), "m (line 1, column 4)\n  |\n1 | \tä b\n  | \t  ^");
        assert_eq!(point("m", "one", 3, 1), "m (line 3, column 1)");
        let long = format!("{}x{}", "a".repeat(500), "b".repeat(500));
        let text = point("m", &long, 1, 501);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[2].chars().nth(lines[3].chars().count() - 1), Some('x'));
    }

    #[test]
    fn what_failed_in_a_task_keeps_its_kind() {
        let failed = |failure| JobError::Task {
            attempt: windlass_core::ids::JobId(1).stage(0).task(0).attempt(3),
            attempts: 4,
            failure,
        };
        let user =
            QueryError::from(failed(TaskFailure::UserError { message: "Arrow error: Csv error: line 7".into() }));
        assert_eq!(user, QueryError::Invalid("Csv error: line 7".into()));
        let memory = QueryError::from(failed(TaskFailure::OutOfMemory { message: "sort".into() }));
        assert_eq!(memory.kind(), ErrorKind::OutOfMemory);
        let status = Status::from(memory);
        assert_eq!((status.code(), errors::kind(&status)), (Code::ResourceExhausted, Some(ErrorKind::OutOfMemory)));
        let status = Status::from(QueryError::Internal("ü".repeat(5000)));
        assert!(status.message().len() < MAX_STATUS_MESSAGE + 8);
    }
}

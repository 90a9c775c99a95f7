//! Statements and words of Spark, in sessions whose dialect is `spark` or `databricks`.
//!
//! ```text
//!   'O\'Hara', "text"                        a backslash escapes the next letter; double quotes are for texts
//!   CREATE DATABASE d, DROP DATABASE d       CREATE SCHEMA d, DROP SCHEMA d
//!   SHOW DATABASES LIKE 'p*'                 schemas of the session's catalog
//!   SHOW TABLES IN d LIKE 'p*'               as SHOW TABLES, for one schema
//!   SHOW TABLE EXTENDED IN d LIKE 'p*'       a row for each table, with a text that describes it
//!   DESCRIBE TABLE EXTENDED t                columns in the types of Spark, and facts about the table
//! ```
//!
//! SHOW and DESCRIBE become queries over information_schema. A pattern has `*` for any letters and `|` between alternatives.

use super::walk::{everywhere, folded};
use crate::errors::QueryError;
use datafusion::config::Dialect as SqlDialect;
use datafusion::execution::SessionState;
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::{self, Expr, Ident, ObjectType, SchemaName, Value, VisitorMut};
use datafusion::sql::sqlparser::dialect::{DatabricksDialect, Dialect, GenericDialect, SparkSqlDialect};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use std::any::TypeId;
use std::convert::Infallible;
use std::ops::ControlFlow;

/// A type of information_schema in the words of Spark. Nested types keep their words.
const TYPE: &str = "CASE
    WHEN data_type IN ('Utf8', 'LargeUtf8', 'Utf8View') THEN 'string'
    WHEN data_type = 'Int8' THEN 'tinyint'
    WHEN data_type IN ('Int16', 'UInt8') THEN 'smallint'
    WHEN data_type IN ('Int32', 'UInt16') THEN 'int'
    WHEN data_type IN ('Int64', 'UInt32') THEN 'bigint'
    WHEN data_type = 'UInt64' THEN 'decimal(20,0)'
    WHEN data_type IN ('Float16', 'Float32') THEN 'float'
    WHEN data_type = 'Float64' THEN 'double'
    WHEN data_type = 'Boolean' THEN 'boolean'
    WHEN data_type IN ('Date32', 'Date64') THEN 'date'
    WHEN data_type IN ('Binary', 'LargeBinary', 'BinaryView') OR data_type LIKE 'FixedSizeBinary%' THEN 'binary'
    WHEN data_type LIKE 'Timestamp(%,%' THEN 'timestamp'
    WHEN data_type LIKE 'Timestamp(%' THEN 'timestamp_ntz'
    WHEN data_type LIKE 'Decimal%' THEN concat('decimal', replace(substr(data_type, strpos(data_type, '(')), ' ', ''))
    ELSE data_type END";

/// The kind of a table in the words of Spark.
const KIND: &str = "CASE table_type WHEN 'VIEW' THEN 'VIEW' WHEN 'LOCAL TEMPORARY' THEN 'TEMPORARY' ELSE 'MANAGED' END";

/// Whether the session speaks Spark's SQL.
pub(super) fn is_spoken(state: &SessionState) -> bool {
    matches!(state.config_options().sql_parser.dialect, SqlDialect::Spark | SqlDialect::Databricks)
}

/// Parses a statement of Spark, if one comes next and the session speaks Spark's SQL. `listed` gets the schema whose tables it lists.
pub(super) fn next(
    state: &SessionState,
    parser: &mut DFParser<'_>,
    listed: &mut Option<(String, String)>,
) -> Result<Option<Statement>, QueryError> {
    if !is_spoken(state) {
        return Ok(None);
    }
    let parser = &mut parser.parser;
    if parser.parse_keywords(&[Keyword::SHOW, Keyword::DATABASES])
        || parser.parse_keywords(&[Keyword::SHOW, Keyword::SCHEMAS])
    {
        return schemas(state, parser).map(Some);
    }
    if parser.parse_keywords(&[Keyword::SHOW, Keyword::TABLE, Keyword::EXTENDED]) {
        return tables_extended(state, parser, listed).map(Some);
    }
    if parser.parse_keywords(&[Keyword::SHOW, Keyword::TABLES, Keyword::IN])
        || parser.parse_keywords(&[Keyword::SHOW, Keyword::TABLES, Keyword::FROM])
    {
        return tables(state, parser, listed).map(Some);
    }
    let described = [Keyword::DESCRIBE, Keyword::DESC].into_iter().any(|describe| {
        [Keyword::EXTENDED, Keyword::FORMATTED].into_iter().any(|how| {
            parser.parse_keywords(&[describe, Keyword::TABLE, how]) || parser.parse_keywords(&[describe, how])
        })
    });
    if described { table(state, parser, listed).map(Some) } else { Ok(None) }
}

fn schemas(state: &SessionState, parser: &mut Parser<'_>) -> Result<Statement, QueryError> {
    let pattern = pattern(parser, "schema_name")?;
    let catalog = literal(&state.config_options().catalog.default_catalog);
    query(&format!(
        "SELECT schema_name AS namespace FROM information_schema.schemata WHERE catalog_name = {catalog} AND {pattern} ORDER BY 1"
    ))
}

fn tables(
    state: &SessionState,
    parser: &mut Parser<'_>,
    listed: &mut Option<(String, String)>,
) -> Result<Statement, QueryError> {
    let of_schema = schema(state, parser, listed)?;
    let pattern = pattern(parser, "table_name")?;
    query(&format!(
        "SELECT table_catalog, table_schema, table_name, table_type FROM information_schema.tables WHERE {of_schema} AND {pattern} ORDER BY 3"
    ))
}

fn tables_extended(
    state: &SessionState,
    parser: &mut Parser<'_>,
    listed: &mut Option<(String, String)>,
) -> Result<Statement, QueryError> {
    if parser.parse_one_of_keywords(&[Keyword::IN, Keyword::FROM]).is_none() {
        return Err(expected(parser, "IN and a schema"));
    }
    let of_schema = schema(state, parser, listed)?;
    let pattern = pattern(parser, "table_name")?;
    query(&format!(
        "SELECT table_schema AS namespace, table_name AS \"tableName\", table_type = 'LOCAL TEMPORARY' AS \"isTemporary\",
            concat('Catalog: ', table_catalog, '\nDatabase: ', table_schema, '\nTable: ', table_name, '\nType: ', {KIND},
                '\nSchema: root\n', columns) AS information
        FROM information_schema.tables
        LEFT JOIN (
            SELECT table_schema AS of_schema, table_name AS of_table,
                string_agg(concat(' |-- ', column_name, ': ', {TYPE}, ' (nullable = ',
                    CASE is_nullable WHEN 'YES' THEN 'true' ELSE 'false' END, ')\n'), '' ORDER BY ordinal_position) AS columns
            FROM information_schema.columns WHERE {of_schema} AND {pattern} GROUP BY 1, 2
        ) AS described ON of_schema = table_schema AND of_table = table_name
        WHERE {of_schema} AND {pattern} ORDER BY 2"
    ))
}

fn table(
    state: &SessionState,
    parser: &mut Parser<'_>,
    listed: &mut Option<(String, String)>,
) -> Result<Statement, QueryError> {
    let parts = name(parser)?;
    let defaults = &state.config_options().catalog;
    let (catalog, schema, table) = match parts.as_slice() {
        [table] => (&defaults.default_catalog, &defaults.default_schema, table),
        [schema, table] => (&defaults.default_catalog, schema, table),
        [catalog, schema, table] => (catalog, schema, table),
        _ => return Err(expected(parser, "the name of a table")),
    };
    *listed = Some((catalog.clone(), schema.clone()));
    let quoted: Vec<String> = parts.iter().map(|part| Ident::with_quote('"', part).to_string()).collect();
    let of_table = format!(
        "table_catalog = {} AND table_schema = {} AND table_name = {}",
        literal(catalog),
        literal(schema),
        literal(table)
    );
    let fact = |at: u32, name: &str, value: &str| {
        format!("UNION ALL SELECT {at}, {}, {value}, '' FROM information_schema.tables WHERE {of_table}", literal(name))
    };
    // The last part has no rows. It is the error if there is no such table.
    query(&format!(
        "SELECT col_name, data_type, comment FROM (
            SELECT ordinal_position AS at, column_name AS col_name, {TYPE} AS data_type, CAST(NULL AS VARCHAR) AS comment
            FROM information_schema.columns WHERE {of_table}
            {} {} {} {} {} {}
            UNION ALL SELECT 0, '', '', '' FROM {} WHERE false
        ) AS described ORDER BY at",
        fact(1_000_000, "", "''"),
        fact(1_000_001, "# Detailed Table Information", "''"),
        fact(1_000_002, "Catalog", "table_catalog"),
        fact(1_000_003, "Database", "table_schema"),
        fact(1_000_004, "Table", "table_name"),
        fact(1_000_005, "Type", KIND),
        quoted.join(".")
    ))
}

/// Parses the name of a schema, which `listed` gets. Returns the condition that a table is in it.
fn schema(
    state: &SessionState,
    parser: &mut Parser<'_>,
    listed: &mut Option<(String, String)>,
) -> Result<String, QueryError> {
    let parts = name(parser)?;
    let (catalog, schema) = match parts.as_slice() {
        [schema] => (&state.config_options().catalog.default_catalog, schema),
        [catalog, schema] => (catalog, schema),
        _ => return Err(expected(parser, "the name of a schema")),
    };
    *listed = Some((catalog.clone(), schema.clone()));
    Ok(format!("table_catalog = {} AND table_schema = {}", literal(catalog), literal(schema)))
}

fn name(parser: &mut Parser<'_>) -> Result<Vec<String>, QueryError> {
    let name = parser.parse_object_name(false).map_err(|_| expected(parser, "a name"))?;
    Ok(name.0.iter().filter_map(|part| part.as_ident()).map(folded).collect())
}

/// Parses `LIKE 'pattern'`, where the word may be missing. Returns the condition that `column` matches; without a pattern, all does.
fn pattern(parser: &mut Parser<'_>, column: &str) -> Result<String, QueryError> {
    let is_like = parser.parse_keyword(Keyword::LIKE);
    let written = match &parser.peek_token_ref().token {
        Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) => text.clone(),
        _ if is_like => return Err(expected(parser, "a pattern in quotes, such as 'sales*'")),
        _ => return Ok("true".to_string()),
    };
    parser.next_token();
    let alternatives: Vec<String> = written.split('|').map(|one| one.trim().to_lowercase()).collect();
    let conditions = alternatives.iter().map(|one| {
        let escaped = one.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_").replace('*', "%");
        format!("lower({column}) LIKE {} ESCAPE '\\'", literal(&escaped))
    });
    Ok(format!("({})", conditions.collect::<Vec<_>>().join(" OR ")))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Parses a query that nobody wrote: its places are none of the statement's.
fn query(sql: &str) -> Result<Statement, QueryError> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().map_err(ParserError::from);
    let parsed = tokens.and_then(|tokens| Parser::new(&GenericDialect {}).with_tokens(tokens).parse_statements());
    let mut parsed = parsed.map_err(|error| QueryError::Internal(format!("a query over the catalog: {error}")))?;
    match parsed.pop() {
        Some(statement) => Ok(Statement::Statement(Box::new(statement))),
        None => Err(QueryError::Internal("a query over the catalog is empty".to_string())),
    }
}

fn expected(parser: &Parser<'_>, what: &str) -> QueryError {
    let found = parser.peek_token_ref();
    let at = found.span.start;
    QueryError::Invalid(format!(
        "syntax error: expected: {what}, found: {found} (line {}, column {})",
        at.line, at.column
    ))
}

/// Rewrites the words of Spark in `statement`, if the session speaks Spark's SQL.
pub(super) fn rewrite(state: &SessionState, statement: &mut Statement) {
    if !is_spoken(state) {
        return;
    }
    let _never = everywhere(statement, &mut Words);
    let Statement::Statement(statement) = statement else { return };
    if let Some(created) = created_schema(statement) {
        **statement = created;
    }
    if let ast::Statement::Drop { object_type: object_type @ ObjectType::Database, .. } = statement.as_mut() {
        *object_type = ObjectType::Schema;
    }
}

/// Returns CREATE SCHEMA for CREATE DATABASE. A statement with further clauses stays what it is, and is refused.
fn created_schema(statement: &ast::Statement) -> Option<ast::Statement> {
    let ast::Statement::CreateDatabase { db_name, if_not_exists, .. } = statement else { return None };
    let exists = if *if_not_exists { "IF NOT EXISTS " } else { "" };
    (statement.to_string() == format!("CREATE DATABASE {exists}{db_name}")).then(|| ast::Statement::CreateSchema {
        schema_name: SchemaName::Simple(db_name.clone()),
        if_not_exists: *if_not_exists,
        with: None,
        options: None,
        default_collate_spec: None,
        clone: None,
    })
}

struct Words;

impl VisitorMut for Words {
    type Break = Infallible;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        if let Expr::Value(value) = expr
            && let Value::DoubleQuotedString(text) = &mut value.value
        {
            value.value = Value::SingleQuotedString(std::mem::take(text));
        }
        ControlFlow::Continue(())
    }
}

/// Returns how the text of a dialect is cut into tokens, where that is not as the dialect itself says: in texts of Spark, `\'` is a quote.
pub(super) fn tokens_of(dialect: &dyn Dialect) -> Option<Escapes> {
    let of = dialect.dialect();
    [TypeId::of::<SparkSqlDialect>(), TypeId::of::<DatabricksDialect>()].contains(&of).then_some(Escapes)
}

/// Spark's words, with texts in which a backslash escapes the next letter.
#[derive(Debug)]
pub(super) struct Escapes;

impl Dialect for Escapes {
    fn dialect(&self) -> TypeId {
        TypeId::of::<SparkSqlDialect>()
    }

    fn is_delimited_identifier_start(&self, letter: char) -> bool {
        SparkSqlDialect.is_delimited_identifier_start(letter)
    }

    fn is_identifier_start(&self, letter: char) -> bool {
        SparkSqlDialect.is_identifier_start(letter)
    }

    fn is_identifier_part(&self, letter: char) -> bool {
        SparkSqlDialect.is_identifier_part(letter)
    }

    fn supports_nested_comments(&self) -> bool {
        SparkSqlDialect.supports_nested_comments()
    }

    fn supports_string_literal_backslash_escape(&self) -> bool {
        true
    }

    /// Patterns keep `\%` and `\_`.
    fn ignores_wildcard_escapes(&self) -> bool {
        true
    }
}

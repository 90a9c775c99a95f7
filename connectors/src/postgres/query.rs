//! Tables whose rows are those of a query.
//!
//! The text stands in parentheses inside the statements that are sent, and may not break out of them, into another statement or another target of COPY. The server
//! itself says first that it is one query: a text that its parser takes for one has no parenthesis, quote or comment that ends outside of it, but for a comment
//! of one line.

use super::error::{PostgresError, Result};
use super::relation::{Relation, ServerColumn, columns_of};
use super::types::ServerType;
use super::wire::{Connection, literal, quoted};

/// The view, visible to nobody else, by whose columns the server tells those of a query.
const VIEW: &str = "windlass_query";

/// The query as a table after FROM.
pub(super) fn as_table(query: &str) -> String {
    format!("({query}\n) AS query")
}

/// Without a semicolon at its end.
fn trimmed(query: &str) -> &str {
    query.trim_end_matches(|c: char| c.is_whitespace() || c == ';')
}

/// Refuses a text that is not one query that reads. `connection` is in a transaction that only reads.
async fn check(connection: &mut Connection, query: &str) -> Result<()> {
    // It opens a cursor, and reads no row.
    let check =
        format!("SELECT pg_catalog.length(pg_catalog.query_to_xmlschema({}, false, false, '')::text)", literal(query));
    connection.look(&check).await.map(|_| ())
}

fn of(query: &str, columns: Vec<ServerColumn>) -> Relation {
    Relation {
        schema: String::new(),
        name: "the query".to_string(),
        columns,
        rows: None,
        bytes: 0,
        blocks: None,
        is_table: false,
        query: Some(query.to_string()),
    }
}

/// Finds out the columns of a query, without running it.
///
/// # Errors
/// It is no query that reads, or two columns have one name.
pub(super) async fn described(connection: &mut Connection, query: &str) -> Result<Relation> {
    let query = trimmed(query);
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    check(connection, query).await?;
    connection.execute("ROLLBACK").await?;
    connection.execute("BEGIN").await?;
    match connection.execute(&format!("CREATE TEMPORARY VIEW {VIEW} AS {query}\n")).await {
        Ok(_) => {
            let found =
                connection.execute(&format!("SELECT 'pg_temp.{VIEW}'::pg_catalog.regclass::pg_catalog.oid")).await?;
            let oid = found.into_iter().flatten().flatten().next().unwrap_or_default();
            let columns = columns_of(connection, &format!("= {oid}")).await?.remove(&oid).unwrap_or_default();
            connection.execute("ROLLBACK").await?;
            if columns.is_empty() {
                return Err(PostgresError::Value("the query has no columns".to_string()));
            }
            Ok(of(query, columns))
        }
        // A standby makes no views, and not every user may: then the length and precision of types are not known.
        Err(error) if matches!(error.code(), Some("25006" | "42501")) => {
            connection.execute("ROLLBACK").await?;
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            let names = names(connection, query).await?;
            let columns = typed(connection, query, &names).await?;
            connection.execute("ROLLBACK").await?;
            Ok(of(query, columns))
        }
        Err(error) => Err(error),
    }
}

/// The columns `names` of a query, as far as the types of their values go. `connection` is in a transaction that only reads.
///
/// # Errors
/// It is no query that reads, or has no such columns.
pub(super) async fn found(connection: &mut Connection, query: &str, names: &[String]) -> Result<Relation> {
    let query = trimmed(query);
    check(connection, query).await?;
    let columns = typed(connection, query, names).await?;
    Ok(of(query, columns))
}

/// The names of all columns.
async fn names(connection: &mut Connection, query: &str) -> Result<Vec<String>> {
    let sql = format!("COPY (SELECT * FROM {} LIMIT 0) TO STDOUT (FORMAT csv, HEADER)", as_table(query));
    connection.copy_out(&sql).await?;
    let mut header = Vec::new();
    while let Some(piece) = connection.next_row().await? {
        header.extend_from_slice(&piece);
    }
    let header = String::from_utf8_lossy(&header).into_owned();
    Ok(of_header(header.strip_suffix('\n').unwrap_or(&header)))
}

/// The fields of a line of CSV.
fn of_header(line: &str) -> Vec<String> {
    let (mut fields, mut is_quoted, mut letters) = (vec![String::new()], false, line.chars().peekable());
    while let Some(letter) = letters.next() {
        match letter {
            '"' if is_quoted && letters.peek() == Some(&'"') => {
                fields.last_mut().into_iter().for_each(|field| field.push('"'));
                letters.next();
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(String::new()),
            letter => fields.last_mut().into_iter().for_each(|field| field.push(letter)),
        }
    }
    fields
}

async fn typed(connection: &mut Connection, query: &str, names: &[String]) -> Result<Vec<ServerColumn>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let kind = |name: &String| format!("pg_catalog.pg_typeof(q.{})::pg_catalog.oid", quoted(name));
    let kinds: Vec<String> = names.iter().map(kind).collect();
    // One row of NULLs, of the query's types.
    let sql = format!(
        "SELECT {} FROM (SELECT 1) AS one LEFT JOIN (SELECT * FROM {} LIMIT 0) AS q ON true",
        kinds.join(", "),
        as_table(query)
    );
    let oids: Vec<String> = connection.execute(&sql).await?.into_iter().flatten().flatten().collect();
    // Domains are followed to what they are made of.
    let sql = format!(
        "WITH RECURSIVE kinds AS ( \
         SELECT u.n, u.kind, u.kind AS named, -1 AS modifier \
         FROM pg_catalog.unnest(ARRAY[{}]::pg_catalog.oid[]) WITH ORDINALITY AS u(kind, n) \
         UNION ALL \
         SELECT k.n, t.typbasetype, k.named, t.typtypmod FROM kinds k JOIN pg_catalog.pg_type t ON t.oid = k.kind AND t.typtype = 'd') \
         SELECT k.kind, k.modifier, CASE WHEN t.typcategory = 'A' AND t.typlen = -1 AND t.typelem <> 0 THEN t.typelem END, \
         pg_catalog.format_type(k.named, NULL) \
         FROM kinds k JOIN pg_catalog.pg_type t ON t.oid = k.kind AND t.typtype <> 'd' ORDER BY k.n",
        oids.join(", ")
    );
    let rows = connection.execute(&sql).await?;
    let column = |(name, row): (&String, &Vec<Option<String>>)| {
        let text = |at: usize| row.get(at).and_then(Option::as_deref);
        let element = text(2).and_then(|element| element.parse().ok());
        let (oid, modifier) = (text(0)?.parse().ok()?, text(1)?.parse().ok()?);
        let kind = ServerType { oid, modifier, element, name: text(3)?.to_string() };
        Some(ServerColumn { name: name.clone(), kind, not_null: false, is_deterministic: false, is_generated: false })
    };
    let columns: Option<Vec<ServerColumn>> = names.iter().zip(&rows).map(column).collect();
    match columns {
        Some(columns) if columns.len() == names.len() => Ok(columns),
        _ => Err(PostgresError::Value("what the server says of the query's columns is not understood".to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_a_header() {
        assert_eq!(of_header("a,\"b,c\",\"d\"\"e\",?column?"), ["a", "b,c", "d\"e", "?column?"]);
        assert_eq!(trimmed("SELECT 1 ;\n; "), "SELECT 1");
    }
}

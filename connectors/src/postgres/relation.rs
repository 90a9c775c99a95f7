//! What a server's catalogs say of a table.

use super::create::LONGEST_NAME;
use super::error::{PostgresError, Result};
use super::query;
use super::types::{Choices, ServerType};
use super::wire::{Connection, literal, quoted};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use std::collections::HashMap;
use std::sync::Arc;

/// A table, view or the like of a server.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    pub schema: String,
    pub name: String,
    pub columns: Vec<ServerColumn>,
    /// About; absent: nobody counted them.
    pub rows: Option<u64>,
    pub bytes: u64,
    /// Blocks of it and of each of its partitions. Absent: its rows have no places, as those of a view.
    pub blocks: Option<Vec<u64>>,
    pub is_table: bool,
    /// The query whose rows it is, in place of a name.
    pub query: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct ServerColumn {
    pub name: String,
    pub kind: ServerType,
    pub not_null: bool,
    /// It has texts that can be compared, and equal ones are the same bytes.
    pub is_deterministic: bool,
    /// The server computes it.
    pub is_generated: bool,
}

impl Relation {
    /// Asks for a table by its name, which is written as in SQL.
    ///
    /// # Errors
    /// There is none of this name, or it has no columns.
    pub async fn find(connection: &mut Connection, table: &str) -> Result<Self> {
        let unknown =
            || PostgresError::Value(format!("PostgreSQL has no table {table}, or does not show it to this user"));
        let found = format!(
            "SELECT c.oid, n.nspname, c.relname, c.relkind, \
             c.oid = pg_catalog.to_regclass(pg_catalog.format('%I.%I', n.nspname, c.relname)) FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = pg_catalog.to_regclass({})",
            literal(table)
        );
        let rows = connection.execute(&found).await?;
        let row = rows.first().ok_or_else(unknown)?;
        let [Some(oid), Some(schema), Some(name), Some(kind), is_named_so] = row.as_slice() else {
            return Err(unknown());
        };
        // It has another name than in the snapshot of the transaction.
        if is_named_so.as_deref() != Some("t") {
            return Err(changed_meanwhile(table));
        }
        if !["r", "p", "v", "m", "f"].contains(&kind.as_str()) {
            return Err(PostgresError::Value(format!("{table} is neither a table nor a view of PostgreSQL")));
        }
        let columns = columns(connection, oid).await?;
        // The whole tree: partitions, and tables that inherit.
        let tree = format!(
            "WITH RECURSIVE tree AS (SELECT {oid}::pg_catalog.oid AS oid UNION \
             SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree t ON t.oid = i.inhparent) \
             SELECT c.relkind, c.relkind IN ('r', 'm') AND coalesce(a.amname, '') <> 'heap', c.reltuples, \
             CASE WHEN c.relkind IN ('r', 'm') THEN pg_catalog.pg_relation_size(c.oid) END, \
             pg_catalog.current_setting('block_size') \
             FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam"
        );
        let (mut rows, mut bytes, mut blocks) = (Some(0.0), 0, Some(Vec::new()));
        for member in connection.execute(&tree).await? {
            let text = |at: usize| member.get(at).and_then(Option::as_deref).unwrap_or_default();
            let kind = text(0);
            // Those of a partitioned table itself are nobody's.
            if kind == "p" {
                continue;
            }
            let counted: f64 = text(2).parse().unwrap_or(-1.0);
            rows = rows.filter(|_| counted >= 0.0).map(|rows| rows + counted);
            let (size, block): (u64, u64) = (text(3).parse().unwrap_or(0), text(4).parse().unwrap_or(8192));
            bytes += size;
            match (kind, text(1)) {
                ("r" | "m", "f") => blocks.iter_mut().for_each(|blocks| blocks.push(size.div_ceil(block.max(1)))),
                _ => blocks = None,
            }
        }
        let is_view = kind == "v";
        Ok(Self {
            schema: schema.clone(),
            name: name.clone(),
            columns,
            // The server counts nothing of a view.
            rows: rows.filter(|_| !is_view).map(|rows| rows as u64),
            bytes,
            // Ranges of places are found quickly since version 14.
            blocks: blocks.filter(|_| connection.version >= 14),
            is_table: ["r", "p"].contains(&kind.as_str()),
            query: None,
        })
    }

    /// The columns that nobody declares.
    pub fn schema(&self, choices: Choices) -> SchemaRef {
        schema(&self.columns, choices)
    }

    /// Its name for SQL.
    pub fn quoted(&self) -> String {
        match &self.query {
            Some(query) => query::as_table(query),
            None => format!("{}.{}", quoted(&self.schema), quoted(&self.name)),
        }
    }

    pub fn column(&self, name: &str) -> Option<&ServerColumn> {
        self.columns.iter().find(|column| column.name == name)
    }
}

pub(super) fn changed_meanwhile(table: &str) -> PostgresError {
    PostgresError::Value(format!(
        "{table} of PostgreSQL was created, renamed, rewritten or emptied while the statement ran: run it again"
    ))
}

/// The columns that nobody declares.
pub(super) fn schema(columns: &[ServerColumn], choices: Choices) -> SchemaRef {
    let field = |column: &ServerColumn| Field::new(&column.name, column.kind.natural(choices), !column.not_null);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// Whether the server has a table, view or the like of a name, which is written as in SQL.
pub(super) async fn is_there(connection: &mut Connection, table: &str) -> Result<bool> {
    let found = connection.execute(&format!("SELECT pg_catalog.to_regclass({})", literal(table))).await?;
    Ok(found.into_iter().flatten().flatten().next().is_some())
}

/// The name of a table that is yet to be created, which is written as in SQL. Returns its schema and its own name.
///
/// # Errors
/// It is taken, or cannot be one, or the schema is not there.
pub(super) async fn free(connection: &mut Connection, table: &str) -> Result<(String, String)> {
    let parsed = format!(
        "SELECT p[pg_catalog.cardinality(p)], pg_catalog.cardinality(p), \
         CASE pg_catalog.cardinality(p) WHEN 1 THEN pg_catalog.current_schema() ELSE p[pg_catalog.cardinality(p) - 1] END, \
         pg_catalog.cardinality(p) < 3 OR p[1] = pg_catalog.current_database() \
         FROM (SELECT pg_catalog.parse_ident({}) AS p) AS parsed",
        literal(table)
    );
    let rows = connection.execute(&parsed).await?;
    let row: Vec<Option<&str>> = rows.iter().flatten().map(Option::as_deref).collect();
    let wrong =
        |why: &str| Err(PostgresError::Value(format!("the table {table} cannot be created in PostgreSQL: {why}")));
    let (name, schema) = match row.as_slice() {
        [_, _, None, _] => return wrong("no schema is on the search path of this user: write schema.table"),
        [Some(name), Some("1" | "2" | "3"), Some(schema), Some("t")] => (name.to_string(), schema.to_string()),
        [_, Some("3"), ..] => return wrong("its name has another database in front: write schema.table"),
        _ => return wrong("its name has too many parts: write schema.table"),
    };
    if name.len() > LONGEST_NAME {
        return wrong(&format!("its name has {} bytes, of which the server keeps {LONGEST_NAME}", name.len()));
    }
    let qualified = format!("{}.{}", quoted(&schema), quoted(&name));
    let known = format!("SELECT pg_catalog.to_regnamespace({})", literal(&quoted(&schema)));
    if connection.execute(&known).await?.into_iter().flatten().flatten().next().is_none() {
        return wrong(&format!("there is no schema {schema}: create it on the server"));
    }
    if is_there(connection, &qualified).await? || is_there(connection, table).await? {
        return Err(PostgresError::Value(format!(
            "PostgreSQL has a table {table} already: INSERT INTO adds rows to it, or drop it there"
        )));
    }
    Ok((schema, name))
}

/// What the server has counted of a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Counted {
    /// Values that differ, or, where it is negative, their part of all rows.
    pub distinct: f64,
    /// The part of the rows without a value.
    pub nulls: f64,
    /// Bytes of a value.
    pub width: f64,
}

/// What the server has counted of the columns of a table, by their names: of those that it has analysed and this user may read.
pub(super) async fn counted(connection: &mut Connection, relation: &Relation) -> Result<HashMap<String, Counted>> {
    // Rows of partitions and of tables that inherit come behind, and count.
    let sql = format!(
        "SELECT attname, n_distinct, null_frac, avg_width FROM pg_catalog.pg_stats WHERE schemaname = {} AND tablename = {} ORDER BY inherited",
        literal(&relation.schema),
        literal(&relation.name)
    );
    let mut found = HashMap::new();
    for row in connection.execute(&sql).await? {
        let number = |at: usize| row.get(at)?.as_ref()?.parse::<f64>().ok();
        if let (Some(Some(name)), Some(distinct), Some(nulls), Some(width)) =
            (row.first(), number(1), number(2), number(3))
        {
            found.insert(name.clone(), Counted { distinct, nulls, width });
        }
    }
    Ok(found)
}

async fn columns(connection: &mut Connection, oid: &str) -> Result<Vec<ServerColumn>> {
    match columns_of(connection, &format!("= {oid}")).await?.remove(oid) {
        Some(columns) => Ok(columns),
        None => Err(PostgresError::Value("the table has no columns".to_string())),
    }
}

/// The columns of the relations whose oid fulfils a condition, in their order, by that oid.
pub(super) async fn columns_of(
    connection: &mut Connection,
    condition: &str,
) -> Result<HashMap<String, Vec<ServerColumn>>> {
    // Since version 18 a column may have a NOT NULL that nobody has checked.
    let unchecked = match connection.version >= 18 {
        true => {
            "OR EXISTS (SELECT 1 FROM pg_catalog.pg_constraint u WHERE u.conrelid = a.attrelid AND u.contype = 'n' AND NOT u.convalidated \
             AND u.conkey[1] = a.attnum)"
        }
        false => "",
    };
    // Domains are followed to what they are made of; the innermost modifier counts. NOT NULL holds neither for rows of foreign tables, which are elsewhere,
    // nor for those of tables that inherit.
    let sql = format!(
        "WITH RECURSIVE kinds AS ( \
         SELECT a.attrelid, a.attnum, a.atttypid AS kind, a.atttypmod AS modifier FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid {condition} AND a.attnum > 0 AND NOT a.attisdropped \
         UNION ALL \
         SELECT k.attrelid, k.attnum, t.typbasetype, CASE WHEN t.typtypmod >= 0 THEN t.typtypmod ELSE k.modifier END \
         FROM kinds k JOIN pg_catalog.pg_type t ON t.oid = k.kind AND t.typtype = 'd') \
         SELECT a.attname, k.kind, k.modifier, \
         CASE WHEN t.typcategory = 'A' AND t.typlen = -1 AND t.typelem <> 0 THEN t.typelem END, \
         pg_catalog.format_type(a.atttypid, a.atttypmod), \
         a.attnotnull AND NOT (r.relkind = 'f' OR (r.relkind = 'r' AND r.relhassubclass) {unchecked}), \
         coalesce(c.collisdeterministic, false), a.attgenerated <> '', a.attrelid \
         FROM kinds k JOIN pg_catalog.pg_type t ON t.oid = k.kind AND t.typtype <> 'd' \
         JOIN pg_catalog.pg_class r ON r.oid = k.attrelid \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = k.attrelid AND a.attnum = k.attnum \
         LEFT JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation \
         ORDER BY a.attrelid, a.attnum"
    );
    let rows = connection.execute(&sql).await?;
    let column = |row: &Vec<Option<String>>| {
        let text = |at: usize| row.get(at).and_then(Option::as_deref);
        let column = ServerColumn {
            name: text(0)?.to_string(),
            kind: ServerType {
                oid: text(1)?.parse().ok()?,
                modifier: text(2)?.parse().ok()?,
                element: text(3).and_then(|element| element.parse().ok()),
                name: text(4)?.to_string(),
            },
            not_null: text(5)? == "t",
            is_deterministic: text(6)? == "t",
            is_generated: text(7)? == "t",
        };
        Some((text(8)?.to_string(), column))
    };
    let mut found: HashMap<String, Vec<ServerColumn>> = HashMap::new();
    for row in &rows {
        let not_understood =
            || PostgresError::Value("what the catalogs say of a table's columns is not understood".to_string());
        let (relation, column) = column(row).ok_or_else(not_understood)?;
        found.entry(relation).or_default().push(column);
    }
    Ok(found)
}

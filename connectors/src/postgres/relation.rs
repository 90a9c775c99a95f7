//! What a server's catalogs say of a table.

use super::error::{PostgresError, Result};
use super::types::ServerType;
use super::wire::{Connection, literal, quoted};

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
}

#[derive(Clone, Debug)]
pub(super) struct ServerColumn {
    pub name: String,
    pub kind: ServerType,
    pub not_null: bool,
    /// Equal texts are the same bytes.
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
            "SELECT c.oid, n.nspname, c.relname, c.relkind FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = pg_catalog.to_regclass({})",
            literal(table)
        );
        let rows = connection.execute(&found).await?;
        let row = rows.first().ok_or_else(unknown)?;
        let [Some(oid), Some(schema), Some(name), Some(kind)] = row.as_slice() else { return Err(unknown()) };
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
            // Of a view nothing is counted.
            rows: rows.filter(|_| !is_view).map(|rows| rows as u64),
            bytes,
            // Ranges of places are found quickly since version 14.
            blocks: blocks.filter(|_| connection.version >= 14),
            is_table: ["r", "p"].contains(&kind.as_str()),
        })
    }

    /// Its name for SQL.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    pub fn column(&self, name: &str) -> Option<&ServerColumn> {
        self.columns.iter().find(|column| column.name == name)
    }
}

async fn columns(connection: &mut Connection, oid: &str) -> Result<Vec<ServerColumn>> {
    // Domains are followed to what they are made of; the innermost modifier counts.
    let sql = format!(
        "WITH RECURSIVE kinds AS ( \
         SELECT a.attnum, a.atttypid AS kind, a.atttypmod AS modifier FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped \
         UNION ALL \
         SELECT k.attnum, t.typbasetype, CASE WHEN t.typtypmod >= 0 THEN t.typtypmod ELSE k.modifier END \
         FROM kinds k JOIN pg_catalog.pg_type t ON t.oid = k.kind AND t.typtype = 'd') \
         SELECT a.attname, k.kind, k.modifier, \
         CASE WHEN t.typcategory = 'A' AND t.typlen = -1 AND t.typelem <> 0 THEN t.typelem END, \
         pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, coalesce(c.collisdeterministic, true), \
         a.attgenerated <> '' \
         FROM kinds k JOIN pg_catalog.pg_type t ON t.oid = k.kind AND t.typtype <> 'd' \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = {oid} AND a.attnum = k.attnum \
         LEFT JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation \
         ORDER BY a.attnum"
    );
    let rows = connection.execute(&sql).await?;
    let column = |row: &Vec<Option<String>>| {
        let text = |at: usize| row.get(at).and_then(Option::as_deref);
        Some(ServerColumn {
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
        })
    };
    let found: Option<Vec<ServerColumn>> = rows.iter().map(column).collect();
    match found {
        Some(columns) if !columns.is_empty() => Ok(columns),
        Some(_) => Err(PostgresError::Value("the table has no columns".to_string())),
        None => Err(PostgresError::Value("what the catalogs say of the table's columns is not understood".to_string())),
    }
}

//! What a warehouse says of a table.

use super::kinds::Kind;
use super::warehouse::{Warehouse, literal, quoted};
use datafusion::common::{Result, plan_datafusion_err, plan_err};

/// Bytes of a name, at most.
pub(super) const LONGEST_NAME: usize = 127;

/// The name of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub schema: String,
    pub table: String,
}

/// A column of a table that is there.
#[derive(Clone, Debug)]
pub(super) struct ServerColumn {
    pub name: String,
    /// As the catalogs write it.
    pub kind: String,
    pub not_null: bool,
    pub has_default: bool,
}

impl ServerColumn {
    /// # Errors
    /// Nothing is written into columns of its type.
    pub fn kind(&self) -> Result<Kind> {
        let kind = Kind::parse(&self.kind);
        kind.ok_or_else(|| {
            plan_datafusion_err!(
                "the column {} is {} in Redshift, which is not written: leave it out of the columns",
                self.name,
                self.kind
            )
        })
    }
}

impl Name {
    /// Parses a name as SQL writes it. Redshift has names in lower case. Without a schema it is that of the session.
    ///
    /// # Errors
    /// It is no name of a table.
    pub async fn resolved(text: &str, warehouse: &mut Warehouse) -> Result<Self> {
        let mut parts = parts(text)?;
        let (Some(table), schema, None) = (parts.pop(), parts.pop(), parts.pop()) else {
            return plan_err!("'{text}' is no name of a table: expected schema.table");
        };
        let schema = match schema {
            Some(schema) => schema,
            None => {
                let found = warehouse.query("SELECT current_schema()").await?;
                let found = found.into_iter().flatten().flatten().next();
                found.ok_or_else(|| plan_datafusion_err!("'{text}' has no schema: write schema.table"))?
            }
        };
        if let Some(long) = [&schema, &table].into_iter().find(|name| name.len() > LONGEST_NAME) {
            return plan_err!("the name {long} has {} bytes, of which Redshift keeps {LONGEST_NAME}", long.len());
        }
        Ok(Self { schema, table })
    }

    pub fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.table))
    }

    /// Whether there is a table, view or the like of this name.
    pub async fn is_there(&self, warehouse: &mut Warehouse) -> Result<bool> {
        let sql = format!(
            "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = {} AND c.relname = {}",
            literal(&self.schema)?,
            literal(&self.table)?
        );
        Ok(!warehouse.query(&sql).await?.is_empty())
    }

    /// The columns of the table, in their order. Empty: there is no table of this name.
    pub async fn columns(&self, warehouse: &mut Warehouse) -> Result<Vec<ServerColumn>> {
        let sql = format!(
            "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, a.atthasdef \
             FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = {} AND c.relname = {} AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            literal(&self.schema)?,
            literal(&self.table)?
        );
        let column = |row: Vec<Option<String>>| match <[_; 4]>::try_from(row) {
            Ok([Some(name), Some(kind), Some(not_null), Some(has_default)]) => Ok(ServerColumn {
                name: name.trim_end().to_string(),
                kind,
                not_null: not_null.starts_with('t'),
                has_default: has_default.starts_with('t'),
            }),
            _ => plan_err!("what Redshift says of the columns of {} is not understood", self.quoted()),
        };
        warehouse.query(&sql).await?.into_iter().map(column).collect()
    }
}

/// The parts of a name between points, in lower case.
fn parts(text: &str) -> Result<Vec<String>> {
    let (mut parts, mut rest) = (Vec::new(), text.trim());
    let wrong = || plan_datafusion_err!("'{text}' is no name of a table: expected schema.table");
    loop {
        let (part, behind) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let mut name = String::new();
                let mut characters = quoted.char_indices();
                let end = loop {
                    match characters.next().ok_or_else(wrong)? {
                        (at, '"') if quoted[at + 1..].starts_with('"') => {
                            characters.next();
                            name.push('"');
                        }
                        (at, '"') => break at,
                        (_, other) => name.push(other),
                    }
                };
                (name, &quoted[end + 1..])
            }
            None => {
                let end = rest.find('.').unwrap_or(rest.len());
                let name = rest[..end].trim();
                let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '#');
                match name.chars().all(is_plain) {
                    true => (name.to_string(), &rest[end..]),
                    false => return Err(wrong()),
                }
            }
        };
        if part.is_empty() {
            return Err(wrong());
        }
        parts.push(part.to_lowercase());
        match behind.trim_start() {
            "" => return Ok(parts),
            behind => rest = behind.strip_prefix('.').ok_or_else(wrong)?.trim_start(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_sql_writes_them() {
        for (text, expected) in [
            ("Orders", &["orders"][..]),
            ("public.orders", &["public", "orders"]),
            ("\"My Shop\".\"a\"\"b.c\"", &["my shop", "a\"b.c"]),
            ("a . b", &["a", "b"]),
        ] {
            assert_eq!(parts(text).unwrap(), expected, "{text}");
        }
        for text in ["", "a.", "a b", "\"a", "a;b", "\"a\"b"] {
            assert!(parts(text).is_err(), "{text}");
        }
    }
}

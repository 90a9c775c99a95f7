//! Loads that replace rows, and loads that have a name, so that none of them is loaded twice.

use super::error::{PostgresError, Refusal};
use super::relation::Relation;
use super::wire::{Connection, literal, quoted};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, plan_datafusion_err, plan_err};
use windlass_engine::connector::Options;

/// The rows that a target has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
pub(super) enum Mode {
    /// They stay.
    Append = 0,
    /// They go.
    Replace = 1,
    /// Those with the keys of new rows go.
    Upsert = 2,
}

impl Mode {
    pub fn of(options: &Options) -> Self {
        match options.text("mode").map(str::to_lowercase).as_deref() {
            Some("replace") => Self::Replace,
            Some("upsert") => Self::Upsert,
            _ => Self::Append,
        }
    }
}

/// Returns the columns of the option `key`. Empty: there is no such option.
///
/// # Errors
/// The rows have no such column.
pub(super) fn key(options: &Options, rows: &SchemaRef) -> Result<Vec<String>> {
    let Some(text) = options.text("key") else { return Ok(Vec::new()) };
    let column = |name: &str| {
        let name = name.trim();
        let is_quoted = name.len() > 1 && name.starts_with('"') && name.ends_with('"');
        let exact = if is_quoted { name[1..name.len() - 1].replace("\"\"", "\"") } else { name.to_lowercase() };
        match rows.field_with_name(&exact).or_else(|_| rows.field_with_name(name)) {
            Ok(field) => Ok(field.name().clone()),
            Err(_) => plan_err!("the key has the column '{name}', which the rows do not have"),
        }
    };
    text.split(',').map(column).collect()
}

/// Returns the key of a table by which rows are replaced: `given`, or its primary key.
///
/// # Errors
/// No unique index of the table has exactly these columns, or the rows lack one of them.
pub(super) async fn key_of(
    connection: &mut Connection,
    relation: &Relation,
    given: Vec<String>,
    rows: &SchemaRef,
) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT i.indexrelid, i.indisprimary, a.attname FROM pg_catalog.pg_index i \
         CROSS JOIN pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY k(number, at) \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number \
         WHERE i.indrelid = {}::pg_catalog.regclass AND k.at <= i.indnkeyatts AND i.indisunique AND i.indisvalid AND i.indimmediate \
         AND i.indpred IS NULL AND i.indexprs IS NULL ORDER BY i.indexrelid, k.at",
        literal(&relation.quoted())
    );
    let mut keys: Vec<(String, bool, Vec<String>)> = Vec::new();
    for row in connection.execute(&sql).await? {
        let [Some(index), Some(is_primary), Some(column)] = <[_; 3]>::try_from(row).unwrap_or_default() else {
            continue;
        };
        match keys.last_mut().filter(|(last, ..)| *last == index) {
            Some((.., columns)) => columns.push(column),
            None => keys.push((index, is_primary == "t", vec![column])),
        }
    }
    let table = relation.quoted();
    let key = match given.is_empty() {
        true => {
            let primary = keys.into_iter().find(|(_, is_primary, _)| *is_primary);
            let (.., columns) = primary.ok_or_else(|| {
                plan_datafusion_err!("{table} has no primary key by which rows could be replaced: name a unique one with OPTIONS (key '…')")
            })?;
            columns
        }
        false => {
            let sorted = |columns: &[String]| {
                let mut sorted = columns.to_vec();
                sorted.sort();
                sorted
            };
            if !keys.iter().any(|(.., columns)| sorted(columns) == sorted(&given)) {
                let known: Vec<String> = keys.iter().map(|(.., columns)| format!("({})", columns.join(", "))).collect();
                let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
                return plan_err!(
                    "no unique index of {table} has exactly the columns ({}), by which rows are to be replaced; there are: {known}",
                    given.join(", ")
                );
            }
            given
        }
    };
    match key.iter().find(|column| rows.field_with_name(column).is_err()) {
        Some(missing) => plan_err!("the rows have no column {missing}, which is part of the key of {table}"),
        None => Ok(key),
    }
}

/// The error of an upsert: two rows of one key.
pub(super) fn explained(error: PostgresError, key: &[String]) -> PostgresError {
    match error {
        PostgresError::Refused(refusal) if refusal.code == "21000" => {
            let message = format!("two rows of the load have the same key ({}): which one is to stay?", key.join(", "));
            PostgresError::Refused(Box::new(Refusal { message, detail: None, hint: None, ..*refusal }))
        }
        other => other,
    }
}

/// Makes the table of loads ready for loads that have names.
pub(super) async fn know_names(connection: &mut Connection, schema: &str, table: &str) -> Result<()> {
    let (of, index) = (format!("{}.{}", quoted(schema), quoted(table)), format!("{table}_load"));
    let known =
        format!("SELECT pg_catalog.to_regclass({})", literal(&format!("{}.{}", quoted(schema), quoted(&index))));
    if connection.execute(&known).await?.into_iter().flatten().flatten().next().is_some() {
        return Ok(());
    }
    // An earlier release made the table without the column.
    connection.execute(&format!("ALTER TABLE {of} ADD COLUMN IF NOT EXISTS load text")).await?;
    let create = format!(
        "CREATE UNIQUE INDEX IF NOT EXISTS {} ON {of} (target, load) WHERE state = 'loaded' AND load IS NOT NULL",
        quoted(&index)
    );
    match connection.execute(&create).await {
        // Somebody else makes it at the same time: it is there.
        Err(error) if matches!(error.code(), Some("23505" | "42P07")) => Ok(()),
        created => created.map(|_| ()).map_err(Into::into),
    }
}

/// Refuses a load whose name is in the target already.
pub(super) async fn refuse_twice(connection: &mut Connection, loads: &str, target: &str, load: &str) -> Result<()> {
    let found = format!(
        "SELECT rows, changed FROM {loads} WHERE target = {} AND load = {} AND state = 'loaded'",
        literal(target),
        literal(load)
    );
    match connection.execute(&found).await?.into_iter().next().as_deref() {
        Some([Some(rows), Some(at)]) => {
            plan_err!("the load '{load}' is in {target} already: {rows} rows, at {at}; nothing was written")
        }
        _ => Ok(()),
    }
}

//! Loads that replace rows, and loads that have a name, so that none of them is loaded twice.

use super::error::{PostgresError, Refusal, Result as PostgresResult};
use super::relation::Relation;
use super::wire::{Connection, literal, quoted};
use crate::load::{self, Mode};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, exec_err, plan_err};

/// A unique index, about all rows and about columns rather than expressions.
struct Unique {
    columns: Vec<String>,
    is_primary: bool,
    /// It is checked at once, and finds no NULL equal to another: ON CONFLICT can use it as a key.
    serves: bool,
}

/// Returns the unique indexes of a table, whose name is quoted.
async fn unique(connection: &mut Connection, table: &str) -> PostgresResult<Vec<Unique>> {
    let nulls = if connection.version >= 15 { "AND NOT i.indnullsnotdistinct" } else { "" };
    let sql = format!(
        "SELECT i.indexrelid, i.indisprimary, i.indimmediate {nulls}, a.attname FROM pg_catalog.pg_index i \
         CROSS JOIN pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY k(number, at) \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number \
         WHERE i.indrelid = {}::pg_catalog.regclass AND k.at <= i.indnkeyatts AND i.indisunique AND i.indisvalid \
         AND i.indpred IS NULL AND i.indexprs IS NULL ORDER BY i.indexrelid, k.at",
        literal(table)
    );
    let mut keys: Vec<(String, Unique)> = Vec::new();
    for row in connection.execute(&sql).await? {
        let [Some(index), Some(is_primary), Some(serves), Some(column)] = <[_; 4]>::try_from(row).unwrap_or_default()
        else {
            continue;
        };
        match keys.last_mut().filter(|(last, _)| *last == index) {
            Some((_, key)) => key.columns.push(column),
            None => {
                let (is_primary, serves) = (is_primary == "t", serves == "t");
                keys.push((index, Unique { columns: vec![column], is_primary, serves }));
            }
        }
    }
    Ok(keys.into_iter().map(|(_, key)| key).collect())
}

/// Returns the key of a table by which rows are found: `given`, or its primary key.
///
/// # Errors
/// There is none, or the rows lack one of its columns.
pub(super) async fn key_of(
    connection: &mut Connection,
    relation: &Relation,
    given: Vec<String>,
    rows: &SchemaRef,
) -> Result<Vec<String>> {
    let table = relation.quoted();
    let primary = match given.is_empty() {
        true => unique(connection, &table).await?.into_iter().find(|key| key.is_primary),
        false => None,
    };
    load::key_of(given, primary.map(|key| key.columns), &table, rows)
}

/// How rows of a target with the keys of new rows are found.
pub(super) struct Keyed<'a> {
    pub mode: Mode,
    /// The target, quoted.
    pub table: &'a str,
    pub columns: Vec<String>,
    pub key: &'a [String],
    /// The name, quoted, of a table that the transaction may make.
    pub gathered: &'a str,
}

impl Keyed<'_> {
    /// Moves the rows of the queries `selects` into the target, in the transaction that is open. Rows whose key has a NULL match none.
    ///
    /// # Errors
    /// Two of them have one key, or the server refuses them.
    pub async fn moved(&self, connection: &mut Connection, selects: &[String]) -> Result<()> {
        let Self { table, key, .. } = self;
        let all = selects.join(" UNION ALL ");
        if all.is_empty() {
            return Ok(());
        }
        let sorted = |columns: &[String]| {
            let mut sorted = columns.to_vec();
            sorted.sort();
            sorted
        };
        let known = unique(connection, table).await?;
        if !known.iter().any(|unique| unique.serves && sorted(&unique.columns) == sorted(key)) {
            return self.gathered(connection, &all).await;
        }
        // In one statement the server refuses two rows of one key, wherever they are staged.
        let mut set: Vec<String> = self.others().iter().map(|name| format!("{name} = EXCLUDED.{name}")).collect();
        if self.mode == Mode::Upsert {
            set.extend(self.defaults(connection).await?);
        }
        let does = if set.is_empty() { "NOTHING".to_string() } else { format!("UPDATE SET {}", set.join(", ")) };
        let names = quoted_all(&self.columns);
        let sql = format!("INSERT INTO {table} ({names}) {all} ON CONFLICT ({}) DO {does}", quoted_all(key));
        connection.execute(&sql).await.map(|_| ()).map_err(|error| explained(error, key).into())
    }

    /// Without a unique index: no writer of the target gets between the search and the insertion.
    async fn gathered(&self, connection: &mut Connection, all: &str) -> Result<()> {
        let Self { table, key, gathered, .. } = self;
        let names = quoted_all(&self.columns);
        connection.execute(&format!("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")).await?;
        // It has the target's types and collations.
        connection.execute(&format!("CREATE TABLE {gathered} AS SELECT {names} FROM {table} WITH NO DATA")).await?;
        connection.execute(&format!("INSERT INTO {gathered} ({names}) {all}")).await?;
        let keys: Vec<String> = key.iter().map(|name| quoted(name)).collect();
        let present: Vec<String> = keys.iter().map(|name| format!("{name} IS NOT NULL")).collect();
        let twins = format!(
            "SELECT {0} FROM {gathered} WHERE {1} GROUP BY {0} HAVING pg_catalog.count(*) > 1 LIMIT 1",
            keys.join(", "),
            present.join(" AND ")
        );
        if let Some(values) = connection.execute(&twins).await?.into_iter().next() {
            let values: Vec<String> = values.into_iter().map(Option::unwrap_or_default).collect();
            return exec_err!("{}", load::twins(key, &values));
        }
        connection.execute(&format!("ANALYZE {gathered}")).await?;
        let same: Vec<String> = keys.iter().map(|name| format!("t.{name} = n.{name}")).collect();
        let same = same.join(" AND ");
        let insert = format!("INSERT INTO {table} ({names}) SELECT {names} FROM {gathered} AS n");
        match self.mode {
            Mode::Merge => {
                let set: Vec<String> = self.others().iter().map(|name| format!("{name} = n.{name}")).collect();
                if !set.is_empty() {
                    let update =
                        format!("UPDATE {table} AS t SET {} FROM {gathered} AS n WHERE {same}", set.join(", "));
                    connection.execute(&update).await?;
                }
                let missing = format!("{insert} WHERE NOT EXISTS (SELECT 1 FROM {table} AS t WHERE {same})");
                connection.execute(&missing).await?;
            }
            _ => {
                connection.execute(&format!("DELETE FROM {table} AS t USING {gathered} AS n WHERE {same}")).await?;
                connection.execute(&insert).await?;
            }
        }
        connection.execute(&format!("DROP TABLE {gathered}")).await?;
        Ok(())
    }

    /// The columns of the load that are not of the key, quoted.
    fn others(&self) -> Vec<String> {
        self.columns.iter().filter(|name| !self.key.contains(name)).map(|name| quoted(name)).collect()
    }

    /// The columns that the load lacks get their defaults, but for the numbers that the server counts.
    async fn defaults(&self, connection: &mut Connection) -> Result<Vec<String>> {
        let sql = format!(
            "SELECT a.attname FROM pg_catalog.pg_attribute a \
             LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
             WHERE a.attrelid = {}::pg_catalog.regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.attidentity = '' \
             AND coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '') NOT LIKE 'nextval(%' ORDER BY a.attnum",
            literal(self.table)
        );
        let all = connection.execute(&sql).await?.into_iter().flatten().flatten();
        Ok(all.filter(|name| !self.columns.contains(name)).map(|name| format!("{} = DEFAULT", quoted(&name))).collect())
    }
}

pub(super) fn quoted_all(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

/// The error of an upsert: two rows of one key.
fn explained(error: PostgresError, key: &[String]) -> PostgresError {
    match error {
        PostgresError::Refused(refusal) if refusal.code == "21000" => {
            let message = load::twins(key, &[]);
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

/// Waits for loads of the same name that are about to be committed, until the end of the transaction of `connection`.
///
/// # Errors
/// The load is in the target already. Its rows would be taken for ones that the target does not take.
pub(super) async fn take_turn(connection: &mut Connection, loads: &str, target: &str, load: &str) -> Result<()> {
    if load.is_empty() {
        return Ok(());
    }
    let name = literal(&format!("{target}\n{load}"));
    let lock = "pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('windlass_loads'), pg_catalog.hashtext";
    connection.execute(&format!("SELECT {lock}({name}))")).await?;
    refuse_twice(connection, loads, target, load).await
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

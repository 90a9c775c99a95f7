//! Rows that the target does not take. They travel through tables beside the staging tables, so that they count exactly where the staged rows do.
//!
//! ```text
//!   attempt    windlass_WRITE_ATTEMPT_no   the rows that cannot be sent, in the transaction of the staging table
//!   prepare    windlass_WRITE_no           those of the attempts that count, and staged rows that the server refuses: in the transaction that moves the others
//!   publish    the file                    the lines of windlass_WRITE_no, as often as it is tried; then all of the tables go
//! ```
//!
//! Staging tables are lenient: they have neither lengths nor constraints. So what the server refuses it refuses where rows are moved. A range of rows that is
//! refused is moved in halves, until the rows at fault are alone.

use super::error::{PostgresError, Result as PostgresResult};
use super::sink::{PostgresSink, Staged};
use super::types::Wire;
use super::wire::{Connection, literal};
use crate::rejects::{AT_ONCE, BESIDE, Lines, NAMED, REASON, ROW, Ranges, Rejects, inserts, numbered, of_attempts};
use async_trait::async_trait;
use datafusion::common::{Result, exec_err, internal_err};
use datafusion::execution::runtime_env::RuntimeEnv;

/// The savepoint before a range of rows.
const PART: &str = "windlass_part";

/// How values are staged so that the server looks at them only where they are moved.
pub(super) fn lenient(wire: Wire) -> Wire {
    match wire {
        Wire::Jsonb => Wire::AsText,
        Wire::Array(element) => Wire::Array(Box::new(lenient(*element))),
        wire => wire,
    }
}

/// Puts lines into a new table.
pub(super) async fn put(connection: &mut Connection, table: &str, lines: &[String]) -> PostgresResult<()> {
    connection.execute(&create(table)).await?;
    for insert in inserts(table, lines, literal) {
        connection.execute(&insert).await?;
    }
    Ok(())
}

fn create(table: &str) -> String {
    format!("CREATE TABLE {table} (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, line text NOT NULL)")
}

/// Rows on their way into the target, some of which it may not take.
pub(super) struct Aside<'a> {
    pub sink: &'a PostgresSink,
    pub rejects: &'a Rejects,
    pub runtime: &'a RuntimeEnv,
    /// Rows that were set aside.
    pub count: u64,
}

impl Aside<'_> {
    /// Takes over the lines of the attempts that count, in the transaction that moves rows.
    pub async fn begin(&mut self, connection: &mut Connection, staged: &[Staged]) -> Result<()> {
        let all = self.sink.target.in_schema(&self.sink.target.aside());
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE").await?;
        connection.execute(&create(&all)).await?;
        for Staged { table, rejected, .. } in staged.iter().filter(|staged| staged.rejected > 0) {
            let lines = self.sink.target.in_schema(&format!("{table}{BESIDE}"));
            connection.execute(&format!("INSERT INTO {all} (line) SELECT line FROM {lines} ORDER BY n")).await?;
            self.count += rejected;
        }
        self.check(connection).await
    }

    /// Moves the rows of a staging table, of which an attempt has written `rows`, with `insert`, a statement without a condition. Returns how many were set
    /// aside.
    pub async fn move_table(
        &mut self,
        connection: &mut Connection,
        table: &str,
        (insert, rows): (&str, u64),
    ) -> Result<u64> {
        let of = self.sink.target.in_schema(table);
        let known = format!("SELECT pg_catalog.count(*), coalesce(pg_catalog.max({ROW}), 0) FROM {of}");
        let known = connection.execute(&known).await?.into_iter().flatten().flatten();
        let known: Vec<u64> = known.filter_map(|number| number.parse().ok()).collect();
        let [count, last] = known[..] else { return internal_err!("PostgreSQL does not count the rows of {of}") };
        if count != rows {
            return exec_err!("{of} has {count} of the {rows} rows that were staged: run the statement again");
        }
        let (before, mut is_indexed) = (self.count, false);
        let mut ranges = Ranges::up_to(last);
        while let Some(range) = ranges.next() {
            let (from, to) = (range.start, range.end);
            connection.execute(&format!("SAVEPOINT {PART}")).await?;
            let moved = connection.execute(&format!("{insert} WHERE {ROW} >= {from} AND {ROW} < {to}")).await;
            let refused = match moved {
                Err(PostgresError::Refused(refusal)) if refusal.is_about_rows() => {
                    connection.execute(&format!("ROLLBACK TO SAVEPOINT {PART}")).await?;
                    Some(refusal)
                }
                moved => {
                    moved.map_err(|error| self.sink.of_target(table, error))?;
                    None
                }
            };
            connection.execute(&format!("RELEASE SAVEPOINT {PART}")).await?;
            let Some(refusal) = refused else { continue };
            let Some(row) = ranges.refused(range) else {
                if !is_indexed {
                    connection.execute(&format!("CREATE INDEX ON {of} ({ROW})")).await?;
                    is_indexed = true;
                }
                continue;
            };
            self.refuse(connection, table, row, &refusal.reason().replace(table, &self.sink.target.name)).await?;
        }
        Ok(self.count - before)
    }

    /// Sets one row of a staging table aside.
    async fn refuse(&mut self, connection: &mut Connection, table: &str, row: u64, reason: &str) -> Result<()> {
        let target = &self.sink.target;
        let (all, of) = (target.in_schema(&target.aside()), target.in_schema(table));
        let begin = literal(&format!("{{\"{REASON}\":{},", serde_json::Value::from(reason)));
        let sql = format!(
            "INSERT INTO {all} (line) SELECT {begin} || pg_catalog.substr(pg_catalog.row_to_json(r)::pg_catalog.text, 2) \
             FROM (SELECT {} FROM {of} WHERE {ROW} = {row}) AS r",
            target.names()
        );
        connection.execute(&sql).await?;
        self.count += 1;
        self.check(connection).await
    }

    /// # Errors
    /// There are too many. The file has them: the transaction forgets them.
    async fn check(&self, connection: &mut Connection) -> Result<()> {
        if self.count <= self.rejects.most {
            return Ok(());
        }
        let target = &self.sink.target;
        let all = target.in_schema(&target.aside());
        let first = connection.execute(&format!("SELECT line FROM {all} ORDER BY n LIMIT {NAMED}")).await?;
        let first: Vec<String> = first.into_iter().flatten().flatten().collect();
        self.rejects.keep(connection, &[all], self.runtime).await?;
        Err(self.rejects.exceeded(&first))
    }
}

#[async_trait]
impl Lines for Connection {
    async fn page(&mut self, table: &str, after: u64) -> Result<Vec<(u64, String)>> {
        let page = format!("SELECT n, line FROM {table} WHERE n > {after} ORDER BY n LIMIT {AT_ONCE}");
        Ok(numbered(self.execute(&page).await?))
    }
}

impl PostgresSink {
    /// Writes the file of a load that is there. Once its table is gone, that was done.
    pub(super) async fn publish_rejects(&self, connection: &mut Connection, runtime: &RuntimeEnv) -> Result<()> {
        let Some(rejects) = self.target.rejects()? else { return Ok(()) };
        let table = self.target.in_schema(&self.target.aside());
        let known = format!("SELECT pg_catalog.to_regclass({})", literal(&table));
        if connection.execute(&known).await?.into_iter().flatten().flatten().next().is_none() {
            return Ok(());
        }
        rejects.keep(connection, &[table], runtime).await
    }

    /// Writes the file of a load that has failed because an attempt found too many rows that cannot be sent.
    pub(super) async fn keep_failed(&self, connection: &mut Connection, runtime: &RuntimeEnv) -> Result<()> {
        let Some(rejects) = self.target.rejects()? else { return Ok(()) };
        let tables = of_attempts(self.staged_tables(connection).await?, &self.target.prefix());
        let tables: Vec<String> = tables.iter().map(|table| self.target.in_schema(table)).collect();
        let mut count = 0;
        for table in &tables {
            let lines = connection.execute(&format!("SELECT pg_catalog.count(*) FROM {table}")).await?;
            let lines = lines.into_iter().flatten().flatten().next();
            count += lines.and_then(|lines| lines.parse().ok()).unwrap_or(0_u64);
        }
        match count > rejects.most {
            true => rejects.keep(connection, &tables, runtime).await,
            false => Ok(()),
        }
    }
}

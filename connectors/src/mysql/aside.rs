//! Rows that the target does not take. They travel through tables beside the staging tables, so that they count exactly where the staged rows do.
//!
//! ```text
//!   attempt    windlass_WRITE_ATTEMPT_no   the rows that cannot be sent, in the transaction of the staging table
//!   prepare    windlass_WRITE_no           those of the attempts that count, and staged rows that the server refuses: in the transaction that moves the others
//!   publish    the file                    the lines of windlass_WRITE_no, as often as it is tried; then all of the tables go
//! ```
//!
//! Staging tables are lenient: their columns are as wide as the rows' types. So what the server refuses it refuses where rows are moved. A range of rows that
//! is refused is moved in halves, until the rows at fault are alone.

use super::error::{MysqlError, Result as MysqlResult};
use super::publish::Moving;
use super::sink::MysqlSink;
use super::target::{MARK, Staged};
use super::types::Wire;
use super::wire::{Connection, literal, quoted};
use crate::rejects::{AT_ONCE, BESIDE, Lines, NAMED, REASON, ROW, Ranges, Rejects, inserts, numbered, of_attempts};
use async_trait::async_trait;
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::execution::runtime_env::RuntimeEnv;

/// The savepoint before a range of rows.
const PART: &str = "windlass_part";

/// The statement that makes a table of lines.
pub(super) fn create(table: &str) -> String {
    format!(
        "CREATE TABLE {table} (n bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY, line longtext CHARACTER SET utf8mb4 NOT NULL) ENGINE = InnoDB"
    )
}

/// Puts lines into their table.
pub(super) async fn put(connection: &mut Connection, table: &str, lines: &[String]) -> MysqlResult<()> {
    for insert in inserts(table, lines, literal) {
        connection.execute(&insert).await?;
    }
    Ok(())
}

#[async_trait]
impl Lines for Connection {
    async fn page(&mut self, table: &str, after: u64) -> Result<Vec<(u64, String)>> {
        // It locks, and so sees what this transaction would commit.
        let page =
            format!("SELECT n, line FROM {table} WHERE n > {after} ORDER BY n LIMIT {AT_ONCE} LOCK IN SHARE MODE");
        Ok(numbered(self.rows(&page).await?))
    }
}

/// Rows on their way into the target, some of which it may not take.
pub(super) struct Aside<'a> {
    pub sink: &'a MysqlSink,
    pub rejects: &'a Rejects,
    pub runtime: &'a RuntimeEnv,
    /// Rows that were set aside.
    pub count: u64,
}

impl Aside<'_> {
    fn all(&self) -> String {
        self.sink.load.in_database(&self.sink.load.aside_name())
    }

    /// Takes over the lines of the attempts that count, in the transaction that moves rows.
    pub async fn begin(&mut self, connection: &mut Connection, staged: &[Staged]) -> Result<(), Moving> {
        let all = self.all();
        for Staged { table, rejected, .. } in staged.iter().filter(|staged| staged.rejected > 0) {
            let lines = self.sink.load.in_database(&format!("{table}{BESIDE}"));
            connection.execute(&format!("INSERT INTO {all} (line) SELECT line FROM {lines} ORDER BY n")).await?;
            self.count += rejected;
        }
        self.check(connection).await
    }

    /// Moves the rows of a staging table with `insert`, a statement without a condition. Returns how many were moved, and how many were set aside.
    pub async fn move_table(
        &mut self,
        connection: &mut Connection,
        (table, insert): (&str, &str),
    ) -> Result<(u64, u64), Moving> {
        let (of, before) = (self.sink.load.in_database(table), self.count);
        // It locks, and so does not choose a state in which later statements would look.
        let last = connection.value(&format!("SELECT MAX({ROW}) FROM {of} LOCK IN SHARE MODE")).await?;
        let mut ranges = Ranges::up_to(last.and_then(|last| last.parse().ok()).unwrap_or(0));
        let mut moved = 0;
        while let Some(range) = ranges.next() {
            connection.execute(&format!("SAVEPOINT {PART}")).await?;
            let insert = format!("{insert} WHERE {ROW} >= {} AND {ROW} < {}", range.start, range.end);
            let inserted = match connection.execute(&insert).await {
                // What it would change it warns of.
                Ok(rows) if connection.warnings() == 0 => Ok(rows),
                Ok(rows) => complaint(connection).await?.map_or(Ok(rows), |(_, reason)| Err(without_row(&reason))),
                Err(error) => match error.about_rows() {
                    Some(reason) => Err(reason),
                    None => return Err(Moving::Refused(self.sink.of_target(table, error))),
                },
            };
            let reason = match inserted {
                Ok(rows) => {
                    connection.execute(&format!("RELEASE SAVEPOINT {PART}")).await?;
                    moved += rows;
                    continue;
                }
                Err(reason) => reason,
            };
            connection.execute(&format!("ROLLBACK TO SAVEPOINT {PART}")).await?;
            if let Some(row) = ranges.refused(range) {
                let reason = reason.replace(table, &self.sink.load.name).replace(MARK, "");
                self.refuse(connection, (table, row), &reason).await?;
            }
        }
        Ok((moved, self.count - before))
    }

    /// Sets one row of a staging table aside.
    async fn refuse(
        &mut self,
        connection: &mut Connection,
        (table, row): (&str, u64),
        reason: &str,
    ) -> Result<(), Moving> {
        let load = &self.sink.load;
        let columns = load.columns().map_err(Moving::Failed)?;
        let shown: Vec<String> = columns.iter().map(|column| shown(&quoted(&column.name), column.wire)).collect();
        let of = load.in_database(table);
        let sql = format!("SELECT {} FROM {of} WHERE {ROW} = {row} LOCK IN SHARE MODE", shown.join(", "));
        let Some(values) = connection.rows(&sql).await?.into_iter().next() else {
            return Err(Moving::Failed(exec_datafusion_err!("a row of {of} is gone: run the statement again")));
        };
        let mut line = format!("{{\"{REASON}\":{}", serde_json::Value::from(reason));
        for (column, value) in columns.iter().zip(values) {
            let name = serde_json::Value::from(column.name.as_str());
            line.push_str(&format!(",{name}:{}", in_json(column.wire, value)));
        }
        line.push('}');
        put(connection, &self.all(), &[line]).await?;
        self.count += 1;
        self.check(connection).await
    }

    /// # Errors
    /// There are too many. The file has them: the transaction forgets them.
    async fn check(&self, connection: &mut Connection) -> Result<(), Moving> {
        if self.count <= self.rejects.most {
            return Ok(());
        }
        let all = self.all();
        let first = connection.page(&all, 0).await.map_err(Moving::Failed)?;
        let first: Vec<String> = first.into_iter().take(NAMED).map(|(_, line)| line).collect();
        self.rejects.keep(connection, &[all], self.runtime).await.map_err(Moving::Failed)?;
        Err(Moving::Failed(self.rejects.exceeded(&first)))
    }
}

/// A message without the number of the row in its statement.
fn without_row(message: &str) -> String {
    match message.rsplit_once(" at row ") {
        Some((reason, row)) if row.bytes().all(|byte| byte.is_ascii_digit()) => reason.to_string(),
        _ => message.to_string(),
    }
}

/// An expression for the text of a staged value.
fn shown(column: &str, wire: Wire) -> String {
    match wire {
        Wire::Bytes | Wire::Geometry => format!("LOWER(HEX({column}))"),
        Wire::DateTime | Wire::Timestamp => format!("REPLACE({column}, ' ', 'T')"),
        _ => column.to_string(),
    }
}

fn in_json(wire: Wire, value: Option<String>) -> String {
    match (value, wire) {
        (None, _) => "null".to_string(),
        (Some(value), Wire::Bool) => if value == "0" { "false" } else { "true" }.to_string(),
        (Some(value), Wire::Int | Wire::Year | Wire::Bit | Wire::Float | Wire::Double | Wire::Decimal) => value,
        (Some(value), _) => serde_json::Value::from(value).to_string(),
    }
}

/// The number and the text of the first warning of the last statement: the server warns where it changes a value.
pub(super) async fn complaint(connection: &mut Connection) -> MysqlResult<Option<(String, String)>> {
    let first = connection.rows("SHOW WARNINGS LIMIT 1").await?.into_iter().next();
    Ok(match first.map(<[_; 3]>::try_from) {
        Some(Ok([_, Some(code), Some(message)])) => Some((code, message)),
        _ => None,
    })
}

impl MysqlSink {
    /// Writes the file of a load that is there. Once its table is gone, that was done.
    pub(super) async fn publish_rejects(&self, connection: &mut Connection, runtime: &RuntimeEnv) -> Result<()> {
        let Some(rejects) = self.load.rejects()? else { return Ok(()) };
        match self.is_there(connection, &self.load.aside_name()).await? {
            true => rejects.keep(connection, &[self.load.in_database(&self.load.aside_name())], runtime).await,
            false => Ok(()),
        }
    }

    /// Writes the file of a load that has failed because an attempt found too many rows that cannot be sent.
    pub(super) async fn keep_failed(&self, connection: &mut Connection, runtime: &RuntimeEnv) -> Result<()> {
        let Some(rejects) = self.load.rejects()? else { return Ok(()) };
        let (prefix, mut filled, mut count) = (self.load.prefix(), Vec::new(), 0);
        for table in self.tables(connection, &prefix).await?.into_iter().filter(|table| table.ends_with(BESIDE)) {
            let lines = format!("SELECT COUNT(*) FROM {}", self.load.in_database(&table));
            let lines = connection.value(&lines).await?.and_then(|lines| lines.parse().ok()).unwrap_or(0_u64);
            // An attempt that has not ended has none.
            if lines > 0 {
                count += lines;
                filled.push(table);
            }
        }
        let tables = of_attempts(filled, &prefix);
        let tables: Vec<String> = tables.iter().map(|table| self.load.in_database(table)).collect();
        match count > rejects.most {
            true => rejects.keep(connection, &tables, runtime).await,
            false => Ok(()),
        }
    }
}

impl MysqlError {
    /// What is wrong with a row, if another row may be taken.
    /// <https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html>
    fn about_rows(&self) -> Option<String> {
        let Self::Refused { code, state, message } = self else { return None };
        // Data exceptions, violations of constraints, and what triggers raise; a value that is cut, one that is no value of its column, and a CHECK.
        let is = matches!(state.get(..2), Some("22" | "23" | "45")) || matches!(code, 1265 | 1366 | 3819);
        is.then(|| without_row(message))
    }
}

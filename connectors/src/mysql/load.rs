//! Loads that find rows of their target by a key, and loads that have a name, so that none of them is loaded twice.
//!
//! ```text
//!   upsert, no unique index     DELETE the rows of the target that a staged row has the key of; INSERT all staged rows
//!   else                        UPDATE them, and mark the staged rows that met one; INSERT those that did not
//! ```
//!
//! Both sides of a comparison have the target's type and collation, so that the server finds the rows equal that its own indexes would. InnoDB locks the rows
//! and gaps that it searches until the transaction ends, so no writer gets between the search and the insertion.

use super::error::{MysqlError, Result as MysqlResult};
use super::keys::{Key, keys_of};
use super::publish::WAIT;
use super::relation::Relation;
use super::sink::MysqlSink;
use super::target::{LOADS, Load, MET, Staged, quoted_all};
use super::types::Wire;
use super::wire::{Connection, literal, quoted};
use crate::load::{self, Mode};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, exec_err, plan_err};

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
    let known = keys_of(connection, &relation.database, &relation.name).await?;
    let primary = known.into_iter().find(|key| key.is_primary).map(|key| key.columns);
    // Names of columns have no case on the server.
    let in_rows = |name: String| {
        let same = rows.fields().iter().find(|field| field.name().to_lowercase() == name.to_lowercase());
        same.map_or(name, |field| field.name().clone())
    };
    let primary = primary.map(|columns| columns.into_iter().map(in_rows).collect());
    load::key_of(given, primary, &relation.quoted(), rows)
}

/// How the rows of the target change before staged rows go into it, in the transaction that moves them.
pub(super) enum Before {
    /// They stay.
    Nothing,
    /// All of them go.
    Empty,
    /// Those with the keys of a staging table's rows go.
    Delete,
    /// Those with the keys of a staging table's rows are set so.
    Update { set: Vec<String> },
}

impl Before {
    /// Asks what the target is like. It is asked outside of the transaction, which would see an older state.
    pub async fn of(connection: &mut Connection, load: &Load) -> Result<Self> {
        let mode = load.mode();
        match mode {
            _ if load.creates => return Ok(Self::Nothing),
            Mode::Append => return Ok(Self::Nothing),
            Mode::Replace => return Ok(Self::Empty),
            Mode::Upsert | Mode::Merge => {}
        }
        let same = |key: &Key| {
            let is_in = |all: &[String], name: &String| all.iter().any(|of| of.to_lowercase() == name.to_lowercase());
            key.columns.len() == load.key.len() && load.key.iter().all(|name| is_in(&key.columns, name))
        };
        let is_unique = keys_of(connection, &load.database, &load.name).await?.iter().any(same);
        if mode == Mode::Upsert && !is_unique {
            return Ok(Self::Delete);
        }
        let mut set: Vec<String> = Vec::new();
        for column in &load.columns {
            // Texts may be equal and not the same.
            if !load.key.contains(&column.name) || Wire::parse(&column.wire) == Some(Wire::Text) {
                set.push(format!("t.{0} = s.{0}", quoted(&column.name)));
            }
        }
        if mode == Mode::Upsert {
            let relation = Relation::find(connection, &load.qualified(), None).await?;
            let others = relation.columns.iter().filter(|column| load.column(&column.name).is_none());
            let others = others.filter(|column| !column.is_generated && !column.is_numbered);
            set.extend(others.map(|column| format!("t.{} = DEFAULT", quoted(&column.name))));
        }
        set.push(format!("s.{} = true", quoted(MET)));
        Ok(Self::Update { set })
    }

    /// Changes the rows that a staging table's rows replace.
    async fn change(&self, connection: &mut Connection, load: &Load, staged: &str) -> MysqlResult<()> {
        let same: Vec<String> = load.key.iter().map(|name| format!("t.{0} = s.{0}", quoted(name))).collect();
        let joined = format!("{} AS t JOIN {staged} AS s ON {}", load.qualified(), same.join(" AND "));
        let sql = match self {
            Self::Nothing | Self::Empty => return Ok(()),
            Self::Delete => format!("DELETE t FROM {joined}"),
            Self::Update { set } => format!("UPDATE {joined} SET {}", set.join(", ")),
        };
        connection.execute(&sql).await.map(|_| ())
    }
}

impl MysqlSink {
    /// Refuses rows of one key, wherever they are staged, and lets the server count the staged ones. Both are outside of the transaction that moves them.
    pub(super) async fn check_keys(&self, connection: &mut Connection, staged: &[Staged]) -> Result<()> {
        let load = &self.load;
        if load.key.is_empty() || staged.is_empty() {
            return Ok(());
        }
        let key = quoted_all(&load.key);
        let present: Vec<String> = load.key.iter().map(|name| format!("{} IS NOT NULL", quoted(name))).collect();
        let select = |staged: &Staged| {
            format!("SELECT {key} FROM {} WHERE {}", load.in_database(&staged.table), present.join(" AND "))
        };
        let all = staged.iter().map(select).collect::<Vec<_>>().join(" UNION ALL ");
        let twins = format!("SELECT {key} FROM ({all}) AS staged GROUP BY {key} HAVING COUNT(*) > 1 LIMIT 1");
        if let Some(values) = connection.rows(&twins).await?.into_iter().next() {
            let values: Vec<String> = values.into_iter().map(Option::unwrap_or_default).collect();
            return exec_err!("{}", load::twins(&load.key, &values));
        }
        for Staged { table, .. } in staged {
            connection.rows(&format!("ANALYZE TABLE {}", load.in_database(table))).await?;
        }
        Ok(())
    }

    /// Moves the rows of a staging table, in the transaction that is open. Returns how many there were.
    pub(super) async fn move_table(
        &self,
        connection: &mut Connection,
        before: &Before,
        (into, table): (&str, &str),
    ) -> MysqlResult<u64> {
        let (load, names) = (&self.load, self.load.names());
        let staged = load.in_database(table);
        before.change(connection, load, &staged).await.map_err(|error| self.of_target(table, error))?;
        let insert = format!("INSERT INTO {into} ({names}) SELECT {names} FROM {staged}");
        let Before::Update { .. } = before else {
            return connection.execute(&insert).await.map_err(|error| self.of_target(table, error));
        };
        let met = quoted(MET);
        let inserted = connection.execute(&format!("{insert} WHERE NOT {met}")).await;
        let inserted = inserted.map_err(|error| self.of_target(table, error))?;
        // It locks, and so does not choose a state in which later statements would look.
        let count = format!("SELECT COUNT(*) FROM {staged} WHERE {met} LOCK IN SHARE MODE");
        let found: Option<u64> = connection.value(&count).await?.and_then(|count| count.parse().ok());
        Ok(inserted + found.unwrap_or(0))
    }

    /// Makes the table of loads ready for loads that have names, and refuses one whose name is in the target already.
    pub(super) async fn check_name(&self, connection: &mut Connection) -> Result<()> {
        let load = &self.load;
        if load.load.is_empty() {
            return Ok(());
        }
        let known = format!(
            "SELECT 1 FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} AND COLUMN_NAME = 'once'",
            literal(&load.database),
            literal(LOADS)
        );
        if connection.value(&known).await?.is_none() {
            // An earlier release made the table without the columns.
            let add = format!(
                "ALTER TABLE {} ADD COLUMN `load` text CHARACTER SET utf8mb4, ADD COLUMN `once` char(40) CHARACTER SET ascii UNIQUE",
                load.loads()
            );
            match connection.execute(&add).await {
                // Somebody else adds them at the same time: they are there.
                Err(error) if error.code() == Some(1060) => {}
                added => drop(added?),
            }
        }
        self.refuse_twice(connection).await
    }

    /// Waits for loads of the same name that are about to be committed, until the session of `connection` ends.
    ///
    /// # Errors
    /// The load is in the target already. Its rows would be taken for ones that the target does not take.
    pub(super) async fn take_turn(&self, connection: &mut Connection) -> Result<()> {
        if self.load.load.is_empty() {
            return Ok(());
        }
        // Without the lock the load goes on: its name can be noted only once.
        let lock = format!("SELECT GET_LOCK(CONCAT('windlass_', {}), {WAIT})", self.load.once());
        connection.value(&lock).await?;
        self.refuse_twice(connection).await
    }

    /// # Errors
    /// The load is in the target already.
    async fn refuse_twice(&self, connection: &mut Connection) -> Result<()> {
        let load = &self.load;
        let found = format!("SELECT `rows`, `changed` FROM {} WHERE `once` = {}", load.loads(), load.once());
        match connection.rows(&found).await?.into_iter().next().as_deref() {
            Some([Some(rows), Some(at)]) => {
                plan_err!(
                    "the load '{}' is in {} already: {rows} rows, at {at}; nothing was written",
                    load.load,
                    load.qualified()
                )
            }
            _ => Ok(()),
        }
    }

    /// Explains why a load was not noted. `connection` is in the transaction that moved it.
    pub(super) async fn not_noted(&self, connection: &mut Connection, error: MysqlError) -> Result<MysqlError> {
        // Another load of this name was faster.
        if error.code() == Some(1062) && !self.load.load.is_empty() {
            connection.execute("ROLLBACK").await?;
            self.refuse_twice(connection).await?;
        }
        Ok(error)
    }
}

impl Load {
    /// An expression that no other load of the target has: of which target it is, and under which name.
    fn once(&self) -> String {
        format!("SHA1({})", literal(&format!("{}\n{}", self.qualified(), self.load)))
    }

    /// Assignments that give the load's row its name.
    pub(super) fn named(&self) -> String {
        match self.load.is_empty() {
            true => String::new(),
            false => format!(", `load` = {}, `once` = {}", literal(&self.load), self.once()),
        }
    }
}

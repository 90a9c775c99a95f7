//! The target of a write as every node knows it, and the statements that a write sends to the warehouse.

use super::fit::Column;
use super::kinds::{Kind, Way};
use super::relation::{LONGEST_NAME, Name};
use super::warehouse::{literal, quoted};
use crate::load::{Mode, names};
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::{Result, internal_datafusion_err, plan_datafusion_err, plan_err};
use prost::Message;
use std::collections::BTreeSet;
use windlass_engine::connector::Options;

/// Names the loads of a schema, each once.
const LOADS: &str = "windlass_loads";

/// One write's target.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Target {
    /// Given to no other write.
    #[prost(string, tag = "1")]
    pub write: String,
    #[prost(string, tag = "2")]
    pub schema: String,
    #[prost(string, tag = "3")]
    pub table: String,
    /// In the order of the rows.
    #[prost(message, repeated, tag = "4")]
    pub columns: Vec<TargetColumn>,
    /// Whether the write creates it.
    #[prost(bool, tag = "5")]
    pub is_new: bool,
    #[prost(enumeration = "Mode", tag = "6")]
    pub mode: i32,
    /// Columns by which rows are replaced, by the server's names.
    #[prost(string, repeated, tag = "7")]
    pub key: Vec<String>,
    /// The user's name of the load. Empty: it has none.
    #[prost(string, tag = "8")]
    pub load: String,
    /// Slices of the warehouse, which read files side by side. Zero: unknown.
    #[prost(uint32, tag = "9")]
    pub slices: u32,
    /// When the write was planned, in UTC: what begins it is the same text whoever sends it.
    #[prost(string, tag = "10")]
    pub planned: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TargetColumn {
    /// Name of the column of the rows.
    #[prost(string, tag = "1")]
    pub given: String,
    /// Name of the server's column.
    #[prost(string, tag = "2")]
    pub name: String,
    /// As SQL writes its type.
    #[prost(string, tag = "3")]
    pub kind: String,
    #[prost(bool, tag = "4")]
    pub not_null: bool,
}

impl TargetColumn {
    pub fn kind(&self) -> Result<Kind> {
        Kind::parse(&self.kind).ok_or_else(|| internal_datafusion_err!("'{}' is no type of Redshift", self.kind))
    }
}

/// The names that the server has for columns.
///
/// # Errors
/// Two would have one name, or one a name that the server does not keep.
pub(super) fn server_names(given: &Schema) -> Result<Vec<String>> {
    let mut seen = BTreeSet::new();
    let name = |given: &str| {
        let name = given.to_lowercase();
        if name.len() > LONGEST_NAME {
            return plan_err!(
                "the name of the column {given} has {} bytes, of which Redshift keeps {LONGEST_NAME}: give it a shorter one with AS",
                name.len()
            );
        }
        match seen.insert(name.clone()) {
            true => Ok(name),
            false => {
                plan_err!("the column {given} appears twice, as Redshift has names in lower case: name it with AS")
            }
        }
    };
    given.fields().iter().map(|field| field.name().as_str()).map(name).collect()
}

/// Returns the columns of the option `key`, by the server's names.
///
/// # Errors
/// There is no such option, or the rows have no such column.
pub(super) fn key(options: &Options, mode: Mode, columns: &[TargetColumn]) -> Result<Vec<String>> {
    if !mode.has_key() {
        return Ok(Vec::new());
    }
    let Some(text) = options.text("key").filter(|text| !text.trim().is_empty()) else {
        return plan_err!(
            "the mode '{}' wants the columns by which rows are replaced: use OPTIONS (key '…')",
            mode.word()
        );
    };
    let column = |name: crate::load::Name| {
        let (text, lower) = (&name.text, name.text.to_lowercase());
        let found = columns.iter().find(|column| column.name.to_lowercase() == lower);
        found
            .map(|column| column.name.clone())
            .ok_or_else(|| plan_datafusion_err!("the key has the column '{text}', which the rows do not have"))
    };
    names(text).into_iter().map(column).collect()
}

impl Target {
    fn name(&self) -> Name {
        Name { schema: self.schema.clone(), table: self.table.clone() }
    }

    pub fn qualified(&self) -> String {
        self.name().quoted()
    }

    pub fn loads(&self) -> Name {
        Name { schema: self.schema.clone(), table: LOADS.to_string() }
    }

    /// The table in which the rows of the write wait.
    pub fn staging(&self) -> Name {
        Name { schema: self.schema.clone(), table: format!("windlass_{}", self.write) }
    }

    /// The temporary table that COPY fills, where values are converted behind it.
    fn raw(&self) -> String {
        quoted(&format!("windlass_raw_{}", self.write))
    }

    fn names(&self) -> String {
        self.columns.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(", ")
    }

    pub fn columns(&self) -> Result<Vec<Column>> {
        let column = |column: &TargetColumn| {
            Ok(Column { name: column.given.clone(), kind: column.kind()?, not_null: column.not_null })
        };
        self.columns.iter().map(column).collect()
    }

    pub fn is_named(&self) -> bool {
        !self.load.is_empty()
    }

    /// Creates the table of loads.
    pub fn creates_loads(&self) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {} (\"write\" varchar(64) NOT NULL, target varchar(600) NOT NULL, state varchar(16) NOT NULL, \
             \"rows\" bigint, changed timestamp NOT NULL, load varchar(1024))",
            self.loads().quoted()
        )
    }

    /// Notes the write, and makes its staging table. The first statement waits for all others that change the loads, before anything is read.
    pub fn begins(&self) -> Result<Vec<String>> {
        let loads = self.loads().quoted();
        let (write, target) = (literal(&self.write)?, literal(&self.qualified())?);
        let mut statements = vec![format!("LOCK TABLE {loads}")];
        let mut load = "NULL".to_string();
        if self.is_named() {
            load = literal(&self.load)?;
            // There is no other way to end a transaction in the middle.
            statements.push(format!(
                "SELECT 1 / CASE WHEN count(*) = 0 THEN 1 ELSE 0 END FROM {loads} WHERE target = {target} AND load = {load}"
            ));
        }
        statements.push(format!(
            "INSERT INTO {loads} (\"write\", target, state, changed, load) VALUES ({write}, {target}, 'writing', {}, {load})",
            literal(&self.planned)?
        ));
        statements.push(format!("CREATE TABLE {} ({})", self.staging().quoted(), self.definitions()?));
        Ok(statements)
    }

    fn definitions(&self) -> Result<String> {
        let column = |column: &TargetColumn| {
            let not_null = if column.not_null { " NOT NULL" } else { "" };
            Ok(format!("{} {}{not_null}", quoted(&column.name), column.kind()?))
        };
        Ok(self.columns.iter().map(column).collect::<Result<Vec<_>>>()?.join(", "))
    }

    /// Asks whether this load, or another one of the name, is there: its state, rows and time.
    pub fn asks_for_load(&self) -> Result<String> {
        let (write, target) = (literal(&self.write)?, literal(&self.qualified())?);
        Ok(format!(
            "SELECT state, \"rows\", changed FROM {} WHERE target = {target} AND load = {} AND \"write\" <> {write}",
            self.loads().quoted(),
            literal(&self.load)?
        ))
    }

    /// Asks whether the write is there.
    pub fn asks_for_write(&self) -> Result<String> {
        let loads = self.loads().quoted();
        Ok(format!("SELECT 1 FROM {loads} WHERE \"write\" = {} AND state = 'loaded'", literal(&self.write)?))
    }

    /// Fills the staging table from the files of a manifest. `ways`: of the columns. `reader`: as whom COPY reads.
    ///
    /// The first statement takes the lock of the staging table, so that who drops it waits, or was before.
    pub fn copies(&self, manifest: &str, ways: &[Way], reader: &str) -> Result<Vec<String>> {
        let staging = self.staging().quoted();
        let is_nested = ways.iter().any(|way| way.file.is_nested());
        let copy = |into: &str| {
            let nested = if is_nested { " SERIALIZETOJSON" } else { "" };
            format!("COPY {into} FROM '{manifest}' {reader} FORMAT AS PARQUET{nested} MANIFEST")
        };
        let mut statements = vec![format!("DELETE FROM {staging}")];
        if ways.iter().all(|way| way.raw.is_none()) {
            statements.push(copy(&staging));
            return Ok(statements);
        }
        let (mut definitions, mut converted) = (Vec::new(), Vec::new());
        for (column, way) in self.columns.iter().zip(ways) {
            let (name, kind) = (quoted(&column.name), way.raw.map_or(column.kind()?, |(kind, _)| kind));
            definitions.push(format!("{name} {kind}"));
            converted.push(way.raw.map_or(name.clone(), |(_, how)| how.replacen("{}", &name, 1)));
        }
        let (raw, names, converted) = (self.raw(), self.names(), converted.join(", "));
        statements.push(format!("CREATE TEMP TABLE {raw} ({})", definitions.join(", ")));
        statements.push(copy(&raw));
        statements.push(format!("INSERT INTO {staging} ({names}) SELECT {converted} FROM {raw}"));
        statements.push(format!("DROP TABLE {raw}"));
        Ok(statements)
    }

    /// Asks for a key that two staged rows have.
    pub fn asks_for_twins(&self) -> Option<String> {
        if self.key.is_empty() {
            return None;
        }
        let key = self.key.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let staging = self.staging().quoted();
        Some(format!("SELECT {key}, count(*) FROM {staging} GROUP BY {key} HAVING count(*) > 1 LIMIT 1"))
    }

    /// Moves the staged rows into the target, notes that they are there, and drops the staging table: so this happens once.
    pub fn publishes(&self, rows: u64, now: &str) -> Result<Vec<String>> {
        let (loads, target, staging) = (self.loads().quoted(), self.qualified(), self.staging());
        let mut statements = vec![format!("LOCK TABLE {loads}")];
        let (from, names) = (staging.quoted(), self.names());
        // Two tables are told apart by their own names.
        let same_key = |of: &str| {
            let of_key = |name: &String| format!("{of}.{0} = {1}.{0}", quoted(name), quoted(&staging.table));
            self.key.iter().map(of_key).collect::<Vec<_>>().join(" AND ")
        };
        let own = quoted(&self.table);
        match (self.is_new, self.mode()) {
            // It has their very columns.
            (true, _) => statements.push(format!("ALTER TABLE {from} RENAME TO {own}")),
            (false, mode) => {
                let mut missing = String::new();
                match mode {
                    Mode::Append => {}
                    // TRUNCATE would commit the transaction.
                    Mode::Replace => statements.push(format!("DELETE FROM {target}")),
                    Mode::Upsert => {
                        statements.push(format!("DELETE FROM {target} USING {from} WHERE {}", same_key(&own)))
                    }
                    Mode::Merge => {
                        let others = self.columns.iter().filter(|column| !self.key.contains(&column.name));
                        let set = |column: &TargetColumn| {
                            format!("{0} = {1}.{0}", quoted(&column.name), quoted(&staging.table))
                        };
                        let set: Vec<String> = others.map(set).collect();
                        if !set.is_empty() {
                            let set = set.join(", ");
                            statements.push(format!("UPDATE {target} SET {set} FROM {from} WHERE {}", same_key(&own)));
                        }
                        missing = format!(" WHERE NOT EXISTS (SELECT 1 FROM {target} WHERE {})", same_key(&own));
                    }
                }
                statements.push(format!("INSERT INTO {target} ({names}) SELECT {names} FROM {from}{missing}"));
                statements.push(format!("DROP TABLE {from}"));
            }
        }
        statements.push(format!(
            "UPDATE {loads} SET state = 'loaded', \"rows\" = {rows}, changed = {} WHERE \"write\" = {}",
            literal(now)?,
            literal(&self.write)?
        ));
        Ok(statements)
    }

    /// Forgets the write and its staging table. What was to begin the write, and may still be under way, is waited for.
    pub fn abandons(&self) -> Result<Vec<String>> {
        let (write, loads) = (literal(&self.write)?, self.loads().quoted());
        Ok(vec![
            format!("LOCK TABLE {loads}"),
            format!("DROP TABLE IF EXISTS {}", self.staging().quoted()),
            format!("DELETE FROM {loads} WHERE \"write\" = {write} AND state = 'writing'"),
        ])
    }

    /// The ways of the columns of rows.
    pub fn ways(&self, rows: &Schema) -> Result<Vec<Way>> {
        let way = |(column, kind): (&TargetColumn, &DataType)| {
            let way = column.kind()?.way(kind);
            way.map_err(|why| plan_datafusion_err!("the column {} {why}", column.given))
        };
        self.columns.iter().zip(rows.fields().iter().map(|field| field.data_type())).map(way).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::{Field, TimeUnit};

    fn target(mode: Mode, is_new: bool) -> Target {
        let column = |name: &str, kind: &str| TargetColumn {
            given: name.to_uppercase(),
            name: name.to_string(),
            kind: kind.to_string(),
            not_null: name == "id",
        };
        Target {
            write: "w".to_string(),
            schema: "s".to_string(),
            table: "t".to_string(),
            columns: vec![column("id", "bigint"), column("at", "timestamptz")],
            is_new,
            mode: mode.into(),
            key: if mode.has_key() { vec!["id".to_string()] } else { Vec::new() },
            load: "l'1".to_string(),
            slices: 0,
            planned: "now".to_string(),
        }
    }

    #[test]
    fn a_write_is_these_statements() {
        let moved = |mode, is_new| {
            let all = target(mode, is_new).publishes(3, "now").unwrap();
            assert_eq!(all.first().unwrap(), r#"LOCK TABLE "s"."windlass_loads""#);
            let last =
                r#"UPDATE "s"."windlass_loads" SET state = 'loaded', "rows" = 3, changed = 'now' WHERE "write" = 'w'"#;
            assert_eq!(all.last().unwrap(), last);
            all[1..all.len() - 1].to_vec()
        };
        let drop = r#"DROP TABLE "s"."windlass_w""#;
        let insert = r#"INSERT INTO "s"."t" ("id", "at") SELECT "id", "at" FROM "s"."windlass_w""#;
        assert_eq!(moved(Mode::Append, false), [insert, drop]);
        assert_eq!(moved(Mode::Replace, false), [r#"DELETE FROM "s"."t""#, insert, drop]);
        let upsert = r#"DELETE FROM "s"."t" USING "s"."windlass_w" WHERE "t"."id" = "windlass_w"."id""#;
        assert_eq!(moved(Mode::Upsert, false), [upsert, insert, drop]);
        let update =
            r#"UPDATE "s"."t" SET "at" = "windlass_w"."at" FROM "s"."windlass_w" WHERE "t"."id" = "windlass_w"."id""#;
        let missing =
            format!(r#"{insert} WHERE NOT EXISTS (SELECT 1 FROM "s"."t" WHERE "t"."id" = "windlass_w"."id")"#);
        assert_eq!(moved(Mode::Merge, false), [update, missing.as_str(), drop]);
        assert_eq!(moved(Mode::Append, true), [r#"ALTER TABLE "s"."windlass_w" RENAME TO "t""#]);
        let begins = target(Mode::Append, true).begins().unwrap();
        assert!(begins[1].contains("CASE WHEN count(*) = 0") && begins[1].contains("'l''1'"), "{}", begins[1]);
        assert_eq!(begins[3], r#"CREATE TABLE "s"."windlass_w" ("id" bigint NOT NULL, "at" timestamptz)"#);
    }

    #[test]
    fn values_that_copy_does_not_read_are_converted_behind_it() {
        let stamp = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        let rows = Schema::new(vec![Field::new("ID", DataType::Int64, false), Field::new("AT", stamp, true)]);
        let target = target(Mode::Append, false);
        let statements = target.copies("s3://b/manifest", &target.ways(&rows).unwrap(), "IAM_ROLE default").unwrap();
        assert_eq!(
            statements,
            [
                r#"DELETE FROM "s"."windlass_w""#,
                r#"CREATE TEMP TABLE "windlass_raw_w" ("id" bigint, "at" timestamp)"#,
                r#"COPY "windlass_raw_w" FROM 's3://b/manifest' IAM_ROLE default FORMAT AS PARQUET MANIFEST"#,
                r#"INSERT INTO "s"."windlass_w" ("id", "at") SELECT "id", ("at" AT TIME ZONE 'UTC') FROM "windlass_raw_w""#,
                r#"DROP TABLE "windlass_raw_w""#,
            ]
        );
    }

    #[test]
    fn names_differ_in_lower_case() {
        let schema = |names: &[&str]| {
            Schema::new(names.iter().map(|name| Field::new(*name, DataType::Int8, true)).collect::<Vec<_>>())
        };
        assert_eq!(server_names(&schema(&["Id", "b"])).unwrap(), ["id", "b"]);
        assert!(server_names(&schema(&["Id", "id"])).unwrap_err().to_string().contains("appears twice"));
    }
}

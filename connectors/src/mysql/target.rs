//! What a write does to its target: the part that every node knows, and the statements that it makes.

use super::encode::Column;
use super::relation::{Relation, qualified};
use super::types::{Wire, created};
use super::wire::{literal, quoted};
use datafusion::arrow::datatypes::Field;
use datafusion::common::{Result, internal_datafusion_err, plan_datafusion_err, plan_err};
use prost::Message;
use std::sync::Arc;
use windlass_engine::connector::SinkRequest;

/// Names the loads of a database, each once.
pub(super) const LOADS: &str = "windlass_loads";
/// The beginning of the names of all tables that loads make.
pub(super) const PREFIX: &str = "windlass_";
/// The row's number in a staging table: some servers want a primary key.
const ROW: &str = "windlass_row";

/// A sink as every node knows it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Load {
    /// Given to no other write.
    #[prost(string, tag = "1")]
    pub write: String,
    #[prost(string, tag = "2")]
    pub database: String,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(message, repeated, tag = "4")]
    pub columns: Vec<LoadColumn>,
    /// Whether it makes the target.
    #[prost(bool, tag = "5")]
    pub creates: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LoadColumn {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub wire: String,
    /// As SQL writes its type.
    #[prost(string, tag = "3")]
    pub kind: String,
    #[prost(bool, tag = "4")]
    pub not_null: bool,
    /// Digits of a second's fraction.
    #[prost(uint32, tag = "5")]
    pub fraction: u32,
}

/// The staging table that an attempt left.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Staged {
    #[prost(string, tag = "1")]
    pub table: String,
    #[prost(uint64, tag = "2")]
    pub rows: u64,
}

impl Load {
    pub fn qualified(&self) -> String {
        self.in_database(&self.name)
    }

    pub fn in_database(&self, table: &str) -> String {
        format!("{}.{}", quoted(&self.database), quoted(table))
    }

    pub fn loads(&self) -> String {
        self.in_database(LOADS)
    }

    /// All tables that the write makes begin so.
    pub fn prefix(&self) -> String {
        format!("{PREFIX}{}_", self.write)
    }

    /// The new target until it is published.
    pub fn new_name(&self) -> String {
        format!("{}new", self.prefix())
    }

    pub fn columns(&self) -> Result<Vec<Column>> {
        let column = |column: &LoadColumn| {
            let wire = Wire::parse(&column.wire);
            let wire = wire.ok_or_else(|| internal_datafusion_err!("'{}' is no type of MySQL", column.wire))?;
            let LoadColumn { name, not_null, fraction, .. } = column.clone();
            Ok(Column { name, wire, not_null, fraction })
        };
        self.columns.iter().map(column).collect()
    }

    pub fn names(&self) -> String {
        self.columns.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(", ")
    }

    pub fn definitions(&self) -> String {
        let column = |column: &LoadColumn| {
            let null = if column.not_null { "NOT NULL" } else { "NULL" };
            format!("{} {} {null}", quoted(&column.name), column.kind)
        };
        self.columns.iter().map(column).collect::<Vec<_>>().join(", ")
    }

    pub fn staging(&self, table: &str) -> String {
        format!(
            "CREATE TABLE {} ({}, {} bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY) ENGINE = InnoDB",
            self.in_database(table),
            self.definitions(),
            quoted(ROW)
        )
    }

    pub fn loading(&self, table: &str, columns: &[Column]) -> String {
        let (mut fields, mut made) = (Vec::new(), Vec::new());
        for (at, column) in columns.iter().enumerate() {
            let variable = format!("@windlass_{at}");
            match column.expression(&variable) {
                Some(expression) => {
                    made.push(format!("{} = {expression}", quoted(&column.name)));
                    fields.push(variable);
                }
                None => fields.push(quoted(&column.name)),
            }
        }
        let made = if made.is_empty() { String::new() } else { format!(" SET {}", made.join(", ")) };
        format!(
            "LOAD DATA LOCAL INFILE 'windlass' INTO TABLE {} CHARACTER SET utf8mb4 \
             FIELDS TERMINATED BY '\\t' ENCLOSED BY '' ESCAPED BY '\\\\' LINES STARTING BY '' TERMINATED BY '\\n' ({}){made}",
            self.in_database(table),
            fields.join(", ")
        )
    }

    /// An expression: the name of the lock of who makes this target.
    pub fn lock_name(&self) -> String {
        format!("CONCAT('{PREFIX}', SHA1({}))", literal(&self.qualified()))
    }
}

pub(super) fn into_present(relation: &Relation, name: &str, request: SinkRequest) -> Result<Load> {
    if relation.is_view {
        return plan_err!("{name} of MySQL is a view, so nothing is inserted into it");
    }
    if !relation.is_transactional {
        return plan_err!(
            "the engine of {name} of MySQL has no transactions, so rows cannot be written all or nothing: use InnoDB"
        );
    }
    let column = |field: &Arc<Field>| {
        let known = relation.column(field.name());
        let known = known.ok_or_else(|| plan_datafusion_err!("{name} of MySQL has no column {}", field.name()))?;
        if known.is_generated {
            return plan_err!(
                "the column {} of MySQL is computed by the server: leave it out of the table's columns",
                field.name()
            );
        }
        let wire = known.kind.written_as(field.data_type());
        let wire = wire.map_err(|why| plan_datafusion_err!("the column {} of MySQL {why}", field.name()))?;
        Ok(LoadColumn {
            name: known.name.clone(),
            wire: wire.to_string(),
            kind: known.kind.definition(),
            not_null: known.not_null,
            fraction: known.kind.fraction.unwrap_or(0),
        })
    };
    let columns = request.schema.fields().iter().map(column).collect::<Result<_>>()?;
    let (database, name) = (relation.database.clone(), relation.name.clone());
    Ok(Load { write: request.write, database, name, columns, creates: false })
}

pub(super) fn into_new(name: &str, database: &str, request: SinkRequest) -> Result<Load> {
    let (database, name) = qualified(name, database)?;
    let column = |field: &Arc<Field>| {
        let made = created(field.data_type()).and_then(|kind| Ok((kind.written_as(field.data_type())?, kind)));
        let (wire, kind) =
            made.map_err(|why| plan_datafusion_err!("the column {} cannot be created: {why}", field.name()))?;
        Ok(LoadColumn {
            name: field.name().clone(),
            wire: wire.to_string(),
            kind: kind.definition(),
            not_null: false,
            fraction: kind.fraction.unwrap_or(0),
        })
    };
    let columns = request.schema.fields().iter().map(column).collect::<Result<_>>()?;
    Ok(Load { write: request.write, database, name, columns, creates: true })
}

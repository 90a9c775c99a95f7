//! What a write does to its target: the part that every node knows, and the statements that it makes.

use super::encode::Column;
use super::relation::{Relation, qualified};
use super::types::{ServerType, Wire, created, created_as_key};
use super::wire::{literal, quoted};
use crate::load::Mode;
use crate::rejects::{ROW, Rejects};
use datafusion::arrow::datatypes::Field;
use datafusion::common::{Result, internal_datafusion_err, plan_datafusion_err, plan_err};
use prost::Message;
use std::sync::Arc;
use windlass_engine::Place;
use windlass_engine::connector::SinkRequest;

/// Names the loads of a database, each once.
pub(super) const LOADS: &str = "windlass_loads";
/// The beginning of the names of all tables that loads make.
pub(super) const PREFIX: &str = "windlass_";
/// Whether a row of a staging table has met one of the target with its key.
pub(super) const MET: &str = "windlass_met";

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
    #[prost(enumeration = "Mode", tag = "6")]
    pub mode: i32,
    /// Columns by which rows are found.
    #[prost(string, repeated, tag = "7")]
    pub key: Vec<String>,
    /// The user's name of the load. Empty: it has none.
    #[prost(string, tag = "8")]
    pub load: String,
    /// URL of the file for rows that the target does not take. Empty: such a row fails the load.
    #[prost(string, tag = "9")]
    pub rejects: String,
    #[prost(uint64, tag = "10")]
    pub max_rejects: u64,
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
    /// As an index has it, if it is part of the key: the whole column or its beginning.
    #[prost(string, tag = "6")]
    pub indexed: String,
    /// The type that it has in staging tables which take what the target may not take. Empty: its own.
    #[prost(string, tag = "7")]
    pub staged: String,
}

/// The staging table that an attempt left.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Staged {
    #[prost(string, tag = "1")]
    pub table: String,
    #[prost(uint64, tag = "2")]
    pub rows: u64,
    /// Rows that were set aside.
    #[prost(uint64, tag = "3")]
    pub rejected: u64,
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

    /// The table of rows that are set aside.
    pub fn aside_name(&self) -> String {
        format!("{}no", self.prefix())
    }

    /// Whether rows that the target does not take are set aside.
    pub fn sets_aside(&self) -> bool {
        !self.rejects.is_empty()
    }

    /// `None`: a row that the target does not take fails the load.
    pub fn rejects(&self) -> Result<Option<Rejects>> {
        match self.sets_aside() {
            true => Ok(Some(Rejects { place: Place::from_url(&self.rejects)?, most: self.max_rejects })),
            false => Ok(None),
        }
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
        let column = |column: &LoadColumn| definition(column, &column.kind);
        self.columns.iter().map(column).collect::<Vec<_>>().join(", ")
    }

    pub fn staging(&self, table: &str) -> String {
        let parts: Vec<&str> = self.key.iter().filter_map(|name| Some(self.column(name)?.indexed.as_str())).collect();
        let key = match parts.is_empty() {
            true => String::new(),
            false => format!(", {} bool NOT NULL DEFAULT false, KEY ({})", quoted(MET), parts.join(", ")),
        };
        let column = |column: &LoadColumn| match column.staged.is_empty() {
            true => definition(column, &column.kind),
            false => definition(column, &column.staged),
        };
        let columns = self.columns.iter().map(column).collect::<Vec<_>>().join(", ");
        // Some servers want a primary key.
        format!(
            "CREATE TABLE {} ({columns}, {} bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY{key}) ENGINE = InnoDB",
            self.in_database(table),
            quoted(ROW)
        )
    }

    /// The new target, under another name.
    pub fn creation(&self) -> String {
        let key = match self.key.is_empty() {
            true => String::new(),
            false => format!(", PRIMARY KEY ({})", quoted_all(&self.key)),
        };
        let (new, columns) = (self.in_database(&self.new_name()), self.definitions());
        format!("CREATE TABLE {new} ({columns}{key}) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4")
    }

    /// The columns of a lenient staging table as the target wants them.
    pub fn moved(&self) -> String {
        let column =
            |column: &LoadColumn| match column.staged.is_empty() || Wire::parse(&column.wire) != Some(Wire::AsText) {
                true => quoted(&column.name),
                false => guarded(&quoted(&column.name), &column.kind, column.fraction),
            };
        self.columns.iter().map(column).collect::<Vec<_>>().join(", ")
    }

    pub fn column(&self, name: &str) -> Option<&LoadColumn> {
        self.columns.iter().find(|column| column.name == name)
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

/// The end of a staged text that is to be refused.
pub(super) const MARK: char = '\u{241e}';

/// An expression for a staged text that goes into a column of another kind. The server would round some of them, cut them, or take them for others, without a
/// word: such a text gets a mark, with which it is refused.
fn guarded(text: &str, kind: &str, fraction: u32) -> String {
    let data: String = kind.chars().take_while(char::is_ascii_alphabetic).collect();
    let keeps = |full: &str, own: &str| format!("CAST({text} AS {full}(6)) = CAST(CAST({text} AS {full}(6)) AS {own})");
    let is_kept = match data.as_str() {
        "tinyint" | "smallint" | "mediumint" | "int" | "integer" | "bigint" | "year" => {
            format!("{text} REGEXP '^ *[-+]?[0-9]+ *$'")
        }
        "date" => {
            format!("{text} REGEXP '^[0-9]{{1,4}}-[0-9]{{1,2}}-[0-9]{{1,2}}$' AND {text} NOT REGEXP '^0+-0+-0+$'")
        }
        "datetime" | "timestamp" => {
            format!("{} AND {text} NOT REGEXP '^0+-0+-0+'", keeps("DATETIME", &format!("DATETIME({fraction})")))
        }
        "time" => keeps("TIME", &format!("TIME({fraction})")),
        _ => return text.to_string(),
    };
    format!("IF({text} IS NULL OR ({is_kept}), {text}, CONCAT({text}, '{MARK}'))")
}

fn definition(column: &LoadColumn, kind: &str) -> String {
    let null = if column.not_null { "NOT NULL" } else { "NULL" };
    format!("{} {kind} {null}", quoted(&column.name))
}

pub(super) fn quoted_all(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

/// The rows that a load finds in its target, what it is called, and what becomes of rows that the target does not take.
pub(super) struct Way {
    pub mode: Mode,
    pub key: Vec<String>,
    pub load: String,
    pub rejects: Option<Rejects>,
}

impl Way {
    /// Whether staging tables take what the target may not take. Where keys are compared they have the target's types.
    fn is_lenient(&self) -> bool {
        self.rejects.is_some() && self.key.is_empty()
    }
}

fn load(request: SinkRequest, (database, name): (String, String), columns: Vec<LoadColumn>, way: Way) -> Load {
    let Way { mode, key, load, rejects } = way;
    let (mode, max_rejects) = (mode.into(), rejects.as_ref().map_or(0, |rejects| rejects.most));
    let rejects = rejects.map(|rejects| rejects.place.url()).unwrap_or_default();
    Load { write: request.write, database, name, columns, creates: false, mode, key, load, rejects, max_rejects }
}

pub(super) fn into_present(relation: &Relation, name: &str, request: SinkRequest, way: Way) -> Result<Load> {
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
        let column = made(known.name.clone(), &known.kind, wire, known.not_null, way.key.contains(field.name()))?;
        let staged = match way.is_lenient() && wire != Wire::Geometry {
            true => created(field.data_type()).map(|kind| kind.definition()).unwrap_or_default(),
            false => String::new(),
        };
        Ok(LoadColumn { staged, ..column })
    };
    let columns = request.schema.fields().iter().map(column).collect::<Result<_>>()?;
    // The names of the columns are the server's, in its upper and lower case.
    let on_server = |name: &String| relation.column(name).map_or_else(|| name.clone(), |known| known.name.clone());
    let way = Way { key: way.key.iter().map(on_server).collect(), ..way };
    Ok(load(request, (relation.database.clone(), relation.name.clone()), columns, way))
}

pub(super) fn into_new(name: &str, database: Option<&str>, request: SinkRequest, way: Way) -> Result<Load> {
    let place = qualified(name, database)?;
    let column = |field: &Arc<Field>| {
        let is_key = way.key.contains(field.name());
        let kind = if is_key { created_as_key(field.data_type()) } else { created(field.data_type()) };
        let found = kind.and_then(|kind| Ok((kind.written_as(field.data_type())?, kind)));
        let (wire, kind) =
            found.map_err(|why| plan_datafusion_err!("the column {} cannot be created: {why}", field.name()))?;
        made(field.name().clone(), &kind, wire, is_key, is_key)
    };
    let columns = request.schema.fields().iter().map(column).collect::<Result<_>>()?;
    Ok(Load { creates: true, ..load(request, place, columns, way) })
}

fn made(name: String, kind: &ServerType, wire: Wire, not_null: bool, is_key: bool) -> Result<LoadColumn> {
    let indexed = match (is_key, kind.indexed()) {
        (false, _) => String::new(),
        (true, Some(length)) => format!("{}{length}", quoted(&name)),
        (true, None) => return plan_err!("the column {name} of MySQL is {}, which is no key", kind.full),
    };
    let (wire, fraction) = (wire.to_string(), kind.fraction.unwrap_or(0));
    Ok(LoadColumn { name, wire, kind: kind.definition(), not_null, fraction, indexed, staged: String::new() })
}

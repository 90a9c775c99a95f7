//! Fragments as one query of a server: what its dialects of SQL have in common. Whether the server's answer is that of Windlass, a dialect says column by column.
//!
//! Tables stand in the query as subqueries whose columns have names of their own, so nothing is told by where it comes from.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::JoinType;
use std::collections::HashMap;
use windlass_engine::connector::{ColumnId, Fragment, FragmentOutput, FragmentTable, Part, SortKey, Source};

/// An expression of SQL, and how its values travel.
pub(crate) type Expression<Wire> = (String, Wire);

/// The SQL of one kind of server, about the tables of one fragment.
pub(crate) trait Dialect {
    /// Its text is how it travels in a plan.
    type Wire: ToString;
    /// What is known of a column, and its name in the query.
    type Column;

    /// The column at the position `at` of a table. `None`: it is not there, or is not read so.
    fn column(&self, table: usize, name: String, at: usize) -> Option<Self::Column>;

    /// The table as a subquery, with `columns` of these positions. `None`: not all of its filters are sent.
    fn table(&self, table: usize, of: &FragmentTable, columns: &[(usize, &Self::Column)]) -> Option<String>;

    /// What is read of a column.
    fn read(&self, column: &Self::Column) -> Expression<Self::Wire>;

    /// The key of a group. `None`: the server puts values into other groups than Windlass.
    fn key(&self, column: &Self::Column) -> Option<Expression<Self::Wire>>;

    /// The key of a group where groups are made. `at`: its place among the columns that are read, counted from 1.
    fn grouped(&self, _: &Self::Column, at: usize) -> String {
        at.to_string()
    }

    /// An aggregate, which is read as `kind`. `column`: its argument, if it has one.
    fn aggregate(&self, part: &Part, column: Option<&Self::Column>, kind: &DataType) -> Option<Expression<Self::Wire>>;

    /// A key of an order.
    fn ordered(&self, column: &Self::Column, key: &SortKey) -> Option<String>;

    /// An order of values that lets no two of them be equal.
    fn tie(&self, column: &Self::Column) -> String;

    /// A condition.
    fn equal(&self, left: &Self::Column, right: &Self::Column) -> Option<String>;

    fn joins(&self, _: JoinType) -> bool {
        true
    }
}

/// The parts of a query.
#[derive(Debug, Default)]
pub(crate) struct Text {
    pub select: String,
    /// How the columns travel.
    pub wires: Vec<String>,
    pub from: String,
    pub group_by: Vec<String>,
    pub order_by: Vec<String>,
    pub limit: Option<u64>,
}

/// A query that computes all of a fragment. `None`: for some rows the server's answer would be another one, or is not read.
pub(crate) fn text<D: Dialect>(fragment: &Fragment, dialect: &D) -> Option<Text> {
    let mut columns = HashMap::new();
    for (at, table) in fragment.source.tables().into_iter().enumerate() {
        for (id, position) in &table.columns {
            columns.insert(*id, dialect.column(at, format!("c{id}"), *position)?);
        }
    }
    let mut texts = Texts { dialect, columns: &columns, next: 0 };
    let from = texts.source(&fragment.source)?;
    let of = |id: &ColumnId| columns.get(id);
    let (mut text, mut select) = (Text { from, ..Text::default() }, Vec::new());
    match &fragment.output {
        FragmentOutput::Rows { columns: ids, first } => {
            let outputs = ids.iter().map(of).collect::<Option<Vec<_>>>()?;
            select.extend(outputs.iter().map(|column| dialect.read(column)));
            if let Some(first) = first {
                for key in &first.keys {
                    text.order_by.push(dialect.ordered(of(&key.column)?, key)?);
                }
                // Rows that are equal in all of this are the same rows: a split that is read again has the same ones.
                text.order_by.extend(outputs.iter().map(|column| dialect.tie(column)));
                text.limit = Some(first.rows as u64);
            }
        }
        FragmentOutput::Groups { keys, parts } => {
            for (at, key) in keys.iter().enumerate() {
                select.push(dialect.key(of(key)?)?);
                text.group_by.push(dialect.grouped(of(key)?, at + 1));
            }
            for (part, field) in parts.iter().zip(fragment.schema.fields().iter().skip(keys.len())) {
                let column = match part {
                    Part::Rows => None,
                    Part::Values(id) | Part::Min(id) | Part::Max(id) | Part::Sum(id) => Some(of(id)?),
                };
                select.push(dialect.aggregate(part, column, field.data_type())?);
            }
        }
    }
    let (select, wires): (Vec<String>, Vec<String>) =
        select.into_iter().map(|(expression, wire)| (expression, wire.to_string())).unzip();
    Some(Text { select: select.join(", "), wires, ..text })
}

/// A table with some of its columns and rows, as a subquery.
pub(crate) fn subquery(mut select: Vec<String>, from: &str, conditions: &[String]) -> String {
    if select.is_empty() {
        select.push("1 AS one".to_string());
    }
    let conditions = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    format!("(SELECT {} FROM {from}{conditions})", select.join(", "))
}

struct Texts<'a, D: Dialect> {
    dialect: &'a D,
    columns: &'a HashMap<ColumnId, D::Column>,
    /// The number of the next table.
    next: usize,
}

impl<D: Dialect> Texts<'_, D> {
    /// What stands after FROM.
    fn source(&mut self, source: &Source) -> Option<String> {
        let join = match source {
            Source::Table(table) => {
                let at = self.next;
                self.next += 1;
                let column = |(id, position): &(ColumnId, usize)| Some((*position, self.columns.get(id)?));
                let columns = table.columns.iter().map(column).collect::<Option<Vec<_>>>()?;
                return Some(format!("{} AS t{at}", self.dialect.table(at, table, &columns)?));
            }
            Source::Join(join) => join,
        };
        if !self.dialect.joins(join.kind) {
            return None;
        }
        let first = self.next;
        let (left, right) = (self.source(&join.left)?, self.source(&join.right)?);
        let pair = |(left, right): &(ColumnId, ColumnId)| {
            self.dialect.equal(self.columns.get(left)?, self.columns.get(right)?)
        };
        let on = join.on.iter().map(pair).collect::<Option<Vec<_>>>()?.join(" AND ");
        let joined = |words: &str| Some(format!("({left} {words} {right} ON {on})"));
        let those = |of: &str, that: &str, not: &str| {
            Some(format!("(SELECT * FROM {of} WHERE {not}EXISTS (SELECT 1 FROM {that} WHERE {on})) AS s{first}"))
        };
        match join.kind {
            JoinType::Inner => joined("JOIN"),
            JoinType::Left => joined("LEFT JOIN"),
            JoinType::Right => joined("RIGHT JOIN"),
            JoinType::Full => joined("FULL JOIN"),
            JoinType::LeftSemi => those(&left, &right, ""),
            JoinType::LeftAnti => those(&left, &right, "NOT "),
            JoinType::RightSemi => those(&right, &left, ""),
            JoinType::RightAnti => those(&right, &left, "NOT "),
            _ => None,
        }
    }
}

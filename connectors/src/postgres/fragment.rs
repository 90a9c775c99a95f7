//! Joins, groups and first rows that the server computes: a fragment as one query. An allow-list, as [`super::filter`] is one.
//!
//! | what | where it is sent | why |
//! | --- | --- | --- |
//! | joins, groups | of numbers without a sign of zero, dates, times, instants, texts, UUIDs | equal there is equal here; texts are compared with COLLATE "C" |
//! | least and greatest values, orders | of the same, texts in UTF-8 | the same total order, and NULL where the statement puts it |
//! | sums | of whole numbers, and decimals | exact, in a type that holds them all |
//!
//! Tables stand in the query as subqueries whose columns have names of their own, so nothing is told by where it comes from. One of them, whose rows come out once or
//! go into one group, is cut into splits by places: the condition of a split is on its `ctid`.

use super::filter::{self, Columns};
use super::relation::Relation;
use super::scan::{Planned, PostgresScan, Query, by_places, split_count};
use super::types::{Wire, is_text};
use super::wire::{Connection, quoted};
use super::{Declared, Found, PostgresTable, choices, expected};
use crate::server;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{JoinType, Result};
use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use windlass_engine::connector::{
    ColumnId, Fragment, FragmentOutput, FragmentRequest, FragmentTable, Part, Scan, SortKey, Source, Split,
};

impl PostgresTable {
    /// Returns the scan of a fragment whose first table this is, if the server computes it.
    pub(super) async fn computed(&self, request: FragmentRequest<'_>) -> Result<Option<Arc<dyn Scan>>> {
        let fragment = request.fragment;
        let Some(tables) =
            fragment.source.tables().into_iter().map(|table| self.beside(table)).collect::<Option<Vec<_>>>()
        else {
            return Ok(None);
        };
        let presumed: Vec<Declared<'_>> = tables.iter().map(|(_, table)| Declared(table)).collect();
        let leaves = tables.iter().zip(&presumed);
        let leaves = leaves.map(|((table, _), columns)| Leaf { table, columns, relation: None, is_utf8: true });
        let leaves: Vec<Leaf<'_>> = leaves.collect();
        if query(fragment, &leaves, None).is_none() {
            return Ok(None);
        }
        let settings = self.settings().await?;
        let held = self.snapshots.of(&settings, request.session);
        let connections = self.connections(&settings, &held).await?;
        let snapshot = held.snapshot(&settings, &self.canceller).await?;
        let mut connection = snapshot.connection().await;
        let mut relations = Vec::new();
        for (_, table) in &tables {
            relations.push(table.relation(&mut connection).await?);
        }
        let is_utf8 = connection.is_utf8;
        let found = tables.iter().zip(&relations).map(|((_, table), relation)| Found { table, relation, is_utf8 });
        let found: Vec<Found<'_>> = found.collect();
        let leaves = tables.iter().zip(&found).map(|((table, _), found)| Leaf {
            table,
            columns: found,
            relation: Some(found.relation),
            is_utf8,
        });
        let leaves: Vec<Leaf<'_>> = leaves.collect();
        let blocks = |relation: &Relation| relation.blocks.as_ref().map(|blocks| blocks.iter().sum());
        let blocks: Vec<Option<u64>> = relations.iter().map(blocks).collect();
        let cut = cut(&fragment.source, &blocks);
        let Some(query) = query(fragment, &leaves, cut) else { return Ok(None) };
        let query = Query { snapshot: snapshot.id().to_string(), ..query };
        let expected_of_all = expected(&mut connection, &query.sql("")).await?;
        if let FragmentOutput::Rows { first: None, .. } = fragment.output
            && !is_smaller(&mut connection, expected_of_all, &leaves).await?
        {
            return Ok(None);
        }
        for (of, table) in &tables {
            table.check_keys(&mut connection, of.keys.as_ref()).await?;
        }
        drop(connection);
        let whole = || vec![Split::default()];
        let splits = cut.and_then(|at| relations.get(at)).map_or_else(whole, |relation| {
            let least = self.number("split_bytes");
            by_places(relation, split_count(Some(relation.bytes), least, request.tasks, connections))
        });
        // The rows of the table are not those of the fragment.
        let splits = splits.into_iter().map(|split| Split { rows: None, ..split }).collect();
        let rows = expected_of_all.map(|(rows, _)| rows);
        let planned = Some(Planned { splits, rows, counted: HashMap::new(), held: held.clone() });
        let (table, schema, canceller) = (Arc::clone(&self.spec), Arc::clone(&fragment.schema), self.canceller.clone());
        Ok(Some(Arc::new(PostgresScan { table, schema, query, canceller, planned })))
    }

    /// A table that the server has beside this one, reached and read in the same way.
    fn beside<'a>(&self, table: &'a FragmentTable) -> Option<(&'a FragmentTable, &'a PostgresTable)> {
        let other = (table.table.as_ref() as &dyn Any).downcast_ref::<PostgresTable>()?;
        let is_beside = other.spec.location == self.spec.location && other.spec.options.reach_same(&self.spec.options);
        (is_beside && server::pushes_down(&other.spec)).then_some((table, other))
    }
}

/// Whether the server sends less for a join than for its tables, as far as it knows.
async fn is_smaller(connection: &mut Connection, joined: Option<(u64, u64)>, leaves: &[Leaf<'_>]) -> Result<bool> {
    let bytes = |(rows, width): (u64, u64)| rows.saturating_mul(width);
    let mut apart = 0_u64;
    for leaf in leaves {
        let Some(sql) = leaf.text(&leaf.columns_by_id(), false) else { return Ok(false) };
        let Some(of_leaf) = expected(connection, &sql).await? else { return Ok(false) };
        apart = apart.saturating_add(bytes(of_leaf));
    }
    Ok(joined.is_some_and(|joined| bytes(joined) <= apart))
}

/// A table of a fragment.
struct Leaf<'a> {
    table: &'a FragmentTable,
    /// What conditions may be about.
    columns: &'a dyn Columns,
    /// Once the server has been asked.
    relation: Option<&'a Relation>,
    is_utf8: bool,
}

/// A column of a leaf, under its name in the query.
struct Column {
    name: String,
    kind: DataType,
    wire: Wire,
    /// Its NULLs are those of the server.
    is_exact: bool,
    is_deterministic: bool,
    is_utf8: bool,
}

/// A query that computes all of a fragment in one split. The leaf `cut`, if any, can be cut by its `ctid`.
///
/// `None`: for some rows the server's answer would be another one, or is not read.
fn query(fragment: &Fragment, leaves: &[Leaf<'_>], cut: Option<usize>) -> Option<Query> {
    let columns: HashMap<ColumnId, Column> = leaves.iter().flat_map(Leaf::columns_by_id).collect();
    let mut texts = Texts { leaves, columns: &columns, cut, next: 0 };
    let from = texts.source(&fragment.source)?;
    let of = |id: &ColumnId| columns.get(id);
    let (mut select, mut group_by, mut order_by, mut limit) = (Vec::new(), Vec::new(), Vec::new(), None);
    match &fragment.output {
        FragmentOutput::Rows { columns: ids, first } => {
            let outputs = ids.iter().map(of).collect::<Option<Vec<_>>>()?;
            select.extend(outputs.iter().map(|column| (column.wire.read(&column.name), column.wire.clone())));
            if let Some(first) = first {
                for key in &first.keys {
                    order_by.push(ordered(of(&key.column)?, key)?);
                }
                // Rows that are equal in all of this are the same rows: a split that is read again has the same ones.
                order_by.extend(outputs.iter().map(|column| column.tie()));
                limit = Some(first.rows as u64);
            }
        }
        FragmentOutput::Groups { keys, parts } => {
            for (at, key) in keys.iter().enumerate() {
                select.push(of(key)?.key()?);
                group_by.push((at + 1).to_string());
            }
            for (part, field) in parts.iter().zip(fragment.schema.fields().iter().skip(keys.len())) {
                select.push(aggregate(part, &of, field.data_type())?);
            }
        }
    }
    let (select, wires): (Vec<String>, Vec<Wire>) = select.into_iter().unzip();
    let select = select.join(", ");
    let wires = wires.iter().map(Wire::to_string).collect();
    Some(Query { select, from, limit, wires, group_by, order_by, ..Query::default() })
}

/// The leaf whose rows come out at most once each, and are not missed where there is no match: its parts have the parts of the answer. `blocks`: how large each leaf
/// is, if it has places.
fn cut(source: &Source, blocks: &[Option<u64>]) -> Option<usize> {
    fn of(source: &Source, blocks: &[Option<u64>], next: &mut usize) -> Option<usize> {
        match source {
            Source::Table(_) => {
                let at = *next;
                *next += 1;
                blocks.get(at).copied().flatten().map(|_| at)
            }
            Source::Join(join) => {
                let (left, right) = (of(&join.left, blocks, next), of(&join.right, blocks, next));
                match join.kind {
                    JoinType::Inner => left.into_iter().chain(right).max_by_key(|at| blocks[*at]),
                    JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti => left,
                    JoinType::Right | JoinType::RightSemi | JoinType::RightAnti => right,
                    _ => None,
                }
            }
        }
    }
    of(source, blocks, &mut 0)
}

impl Leaf<'_> {
    /// Those that are read, and understood.
    fn columns_by_id(&self) -> HashMap<ColumnId, Column> {
        let columns = self.table.columns.iter();
        columns.filter_map(|(id, at)| Some((*id, self.column(*id, *at)?))).collect()
    }

    fn column(&self, id: ColumnId, at: usize) -> Option<Column> {
        let schema = self.table.table.schema();
        let field = schema.fields().get(at)?;
        let known = self.columns.column(field.name());
        let wire = match self.relation {
            Some(relation) => {
                let choices = choices(&self.table.spec);
                relation.column(field.name())?.kind.read_as(field.data_type(), choices).ok()?
            }
            None => Wire::Text,
        };
        Some(Column {
            name: quoted(&format!("c{id}")),
            kind: field.data_type().clone(),
            wire,
            is_exact: known.is_some(),
            is_deterministic: known.is_some_and(|known| known.is_deterministic),
            is_utf8: self.is_utf8,
        })
    }

    /// As a table after FROM, with the columns `names`.
    fn text(&self, names: &HashMap<ColumnId, Column>, is_cut: bool) -> Option<String> {
        let schema = self.table.table.schema();
        let column = |(id, at): &(ColumnId, usize)| {
            Some(format!("{} AS {}", quoted(schema.fields().get(*at)?.name()), names.get(id)?.name))
        };
        let mut select = self.table.columns.iter().map(column).collect::<Option<Vec<_>>>()?;
        if is_cut {
            select.push("ctid AS ctid".to_string());
        }
        if select.is_empty() {
            select.push("1 AS one".to_string());
        }
        let from = self.relation.map(Relation::quoted).unwrap_or_default();
        let conditions = self.table.filters.iter().map(|filter| filter::sent(filter, self.columns));
        let conditions = conditions.collect::<Option<Vec<_>>>()?;
        let conditions =
            if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        Some(format!("(SELECT {} FROM {from}{conditions})", select.join(", ")))
    }
}

struct Texts<'a> {
    leaves: &'a [Leaf<'a>],
    columns: &'a HashMap<ColumnId, Column>,
    cut: Option<usize>,
    /// The number of the next leaf.
    next: usize,
}

impl Texts<'_> {
    /// What stands after FROM.
    fn source(&mut self, source: &Source) -> Option<String> {
        let join = match source {
            Source::Table(_) => {
                let at = self.next;
                self.next += 1;
                let text = self.leaves.get(at)?.text(self.columns, self.cut == Some(at))?;
                return Some(format!("{text} AS t{at}"));
            }
            Source::Join(join) => join,
        };
        let first = self.next;
        let (left, right) = (self.source(&join.left)?, self.source(&join.right)?);
        let pair = |(left, right): &(ColumnId, ColumnId)| equal(self.columns.get(left)?, self.columns.get(right)?);
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

/// Whether equal values and their order are the same on both sides.
fn is_plain(kind: &DataType) -> bool {
    use DataType::{Boolean, Date32, Decimal128, Decimal256, Int16, Int32, Int64, Time64, Timestamp};
    matches!(
        kind,
        Boolean | Int16 | Int32 | Int64 | Date32 | Time64(_) | Timestamp(..) | Decimal128(..) | Decimal256(..)
    )
}

impl Column {
    /// The value as a text whose order and equality are those of its bytes.
    fn text(&self) -> Option<String> {
        let has_words = matches!(self.wire, Wire::Text | Wire::Char | Wire::Uuid | Wire::AsText);
        (is_text(&self.kind) && has_words && self.is_exact && self.is_utf8)
            .then(|| format!("{} COLLATE \"C\"", self.wire.text(&self.name)))
    }

    fn plain(&self) -> Option<String> {
        (is_plain(&self.kind) && self.is_exact).then(|| match self.wire {
            Wire::Oid => format!("{}::pg_catalog.int8", self.name),
            _ => self.name.clone(),
        })
    }

    /// Of a group, and how it travels.
    fn key(&self) -> Option<(String, Wire)> {
        match self.wire {
            // As it is, so that the server may find an index.
            Wire::Text if self.is_deterministic && self.text().is_some() => Some((self.name.clone(), Wire::Text)),
            _ => self.value(),
        }
    }

    /// A value that can be ordered, and how it travels.
    fn value(&self) -> Option<(String, Wire)> {
        let plain = || {
            let wire = if self.wire == Wire::Oid { Wire::Int8 } else { self.wire.clone() };
            Some((self.plain()?, wire))
        };
        self.text().map(|text| (text, Wire::Text)).or_else(plain)
    }

    /// An order of values that lets no two of them be equal.
    fn tie(&self) -> String {
        self.plain().unwrap_or_else(|| format!("{}::pg_catalog.text COLLATE \"C\"", self.name))
    }
}

fn equal(left: &Column, right: &Column) -> Option<String> {
    if let (Wire::Uuid, Wire::Uuid, Some(_), Some(_)) = (&left.wire, &right.wire, left.text(), right.text()) {
        return Some(format!("{} = {}", left.name, right.name));
    }
    let (of_left, of_right) = match (left.text(), right.text()) {
        (Some(left), Some(right)) => (left, right),
        (None, None) if left.kind == right.kind => (left.plain()?, right.plain()?),
        _ => return None,
    };
    Some(format!("{of_left} = {of_right}"))
}

fn ordered(column: &Column, key: &SortKey) -> Option<String> {
    let (value, _) = column.value()?;
    let direction = if key.descending { "DESC" } else { "ASC" };
    let nulls = if key.nulls_first { "FIRST" } else { "LAST" };
    Some(format!("{value} {direction} NULLS {nulls}"))
}

/// An aggregate as text, and how it travels. `kind`: what it is read as.
fn aggregate<'a>(part: &Part, of: &dyn Fn(&ColumnId) -> Option<&'a Column>, kind: &DataType) -> Option<(String, Wire)> {
    let least = |name: &str, id: &ColumnId| {
        let column = of(id).filter(|column| column.kind != DataType::Boolean)?;
        let (value, wire) = column.value()?;
        Some((format!("pg_catalog.{name}({value})"), wire))
    };
    match part {
        Part::Rows => Some(("pg_catalog.count(*)".to_string(), Wire::Int8)),
        Part::Values(id) => {
            let column = of(id).filter(|column| column.is_exact)?;
            Some((format!("pg_catalog.count({})", column.name), Wire::Int8))
        }
        Part::Min(id) => least("min", id),
        Part::Max(id) => least("max", id),
        Part::Sum(id) => {
            let wire = if *kind == DataType::Int64 { Wire::Int8 } else { Wire::Numeric };
            Some((format!("pg_catalog.sum({})", of(id)?.plain()?), wire))
        }
    }
}

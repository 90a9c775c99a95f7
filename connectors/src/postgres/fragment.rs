//! Joins, groups and first rows that the server computes: a fragment as one query. An allow-list, as [`super::filter`] is one.
//!
//! | what | where it is sent | why |
//! | --- | --- | --- |
//! | joins, groups | of numbers without a sign of zero, dates, times, instants, texts, UUIDs | equal there is equal here; texts are compared with COLLATE "C" |
//! | least and greatest values, orders | of the same, texts in UTF-8 | the same total order, and NULL where the statement puts it |
//! | sums, averages | of whole numbers, and decimals | exact sums, in a type that holds them all, and counts |
//!
//! One of the tables, whose rows come out once or go into one group, is cut into splits by places: the condition of a split is on its `ctid`.

use super::filter::{self, Columns};
use super::relation::Relation;
use super::scan::{Planned, PostgresScan, Query, by_places, split_count};
use super::types::{Wire, is_text};
use super::wire::{Connection, quoted};
use super::{Declared, Found, PostgresTable, choices, expected};
use crate::fragments::{self, Dialect, Expression};
use crate::server;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{JoinType, Result};
use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use windlass_engine::connector::{
    Fragment, FragmentOutput, FragmentRequest, FragmentTable, Part, Scan, SortKey, Source, Split,
};

impl PostgresTable {
    /// Returns the scan of a fragment whose first table this is, if the server computes it.
    pub(super) async fn computed(&self, request: FragmentRequest<'_>) -> Result<Option<Arc<dyn Scan>>> {
        let fragment = request.fragment;
        let tables = fragment.source.tables().into_iter().map(|table| self.beside(table)).collect::<Option<Vec<_>>>();
        let Some(tables) = tables else { return Ok(None) };
        let presumed: Vec<Declared<'_>> = tables.iter().map(|(_, table)| Declared(table)).collect();
        let leaves = tables.iter().zip(&presumed);
        let leaves = leaves.map(|((table, _), columns)| Leaf { table, columns, relation: None, is_utf8: true });
        if (Leaves { all: leaves.collect(), cut: None }).query(fragment).is_none() {
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
        let blocks = |relation: &Relation| relation.blocks.as_ref().map(|blocks| blocks.iter().sum());
        let blocks: Vec<Option<u64>> = relations.iter().map(blocks).collect();
        let cut = cut(&fragment.source, &blocks);
        let leaves = Leaves { all: leaves.collect(), cut };
        let Some(query) = leaves.query(fragment) else { return Ok(None) };
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
async fn is_smaller(connection: &mut Connection, joined: Option<(u64, u64)>, leaves: &Leaves<'_>) -> Result<bool> {
    let bytes = |(rows, width): (u64, u64)| rows.saturating_mul(width);
    let mut apart = 0_u64;
    for leaf in &leaves.all {
        let Some(sql) = leaf.apart() else { return Ok(false) };
        let Some(of_leaf) = expected(connection, &sql).await? else { return Ok(false) };
        apart = apart.saturating_add(bytes(of_leaf));
    }
    Ok(joined.is_some_and(|joined| bytes(joined) <= apart))
}

/// The table whose rows come out at most once each, and are not missed where there is no match: its parts have the parts of the answer. `blocks`: how large each
/// table is, if it has places.
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

/// A table of a fragment.
struct Leaf<'a> {
    table: &'a FragmentTable,
    /// What conditions may be about.
    columns: &'a dyn Columns,
    /// Once the server has been asked.
    relation: Option<&'a Relation>,
    is_utf8: bool,
}

/// All of them, and the one that is cut.
struct Leaves<'a> {
    all: Vec<Leaf<'a>>,
    cut: Option<usize>,
}

/// A column of a leaf.
struct Column {
    /// In the query, quoted.
    name: String,
    /// In the leaf, quoted.
    own: String,
    kind: DataType,
    wire: Wire,
    /// Its NULLs are those of the server.
    is_exact: bool,
    is_deterministic: bool,
    is_utf8: bool,
}

impl Leaf<'_> {
    fn column(&self, name: &str, at: usize) -> Option<Column> {
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
            name: quoted(name),
            own: quoted(field.name()),
            kind: field.data_type().clone(),
            wire,
            is_exact: known.is_some(),
            is_deterministic: known.is_some_and(|known| known.is_deterministic),
            is_utf8: self.is_utf8,
        })
    }

    fn text(&self, select: Vec<String>) -> Option<String> {
        let from = self.relation.map(Relation::quoted).unwrap_or_default();
        let conditions = self.table.filters.iter().map(|filter| filter::sent(filter, self.columns));
        Some(fragments::subquery(select, &from, &conditions.collect::<Option<Vec<_>>>()?))
    }

    /// The query by which it would be read alone.
    fn apart(&self) -> Option<String> {
        let column = |(_, at): &(usize, usize)| Some(self.column("", *at)?.own);
        let all = self.text(self.table.columns.iter().map(column).collect::<Option<Vec<_>>>()?)?;
        Some(format!("SELECT * FROM {all} AS t"))
    }
}

impl Leaves<'_> {
    fn query(&self, fragment: &Fragment) -> Option<Query> {
        let fragments::Text { select, wires, from, group_by, order_by, limit } = fragments::text(fragment, self)?;
        Some(Query { select, from, limit, wires, group_by, order_by, ..Query::default() })
    }
}

impl Dialect for Leaves<'_> {
    type Wire = Wire;
    type Column = Column;

    fn column(&self, table: usize, name: String, at: usize) -> Option<Column> {
        self.all.get(table)?.column(&name, at)
    }

    fn table(&self, table: usize, _: &FragmentTable, columns: &[(usize, &Column)]) -> Option<String> {
        let mut select: Vec<String> =
            columns.iter().map(|(_, column)| format!("{} AS {}", column.own, column.name)).collect();
        if self.cut == Some(table) {
            select.push("ctid AS ctid".to_string());
        }
        self.all.get(table)?.text(select)
    }

    fn read(&self, column: &Column) -> Expression<Wire> {
        (column.wire.read(&column.name), column.wire.clone())
    }

    fn key(&self, column: &Column) -> Option<Expression<Wire>> {
        match column.wire {
            // As it is, so that the server may find an index.
            Wire::Text if column.is_deterministic && column.text().is_some() => Some((column.name.clone(), Wire::Text)),
            _ => column.value(),
        }
    }

    fn aggregate(&self, part: &Part, column: Option<&Column>, kind: &DataType) -> Option<Expression<Wire>> {
        let least = |name: &str| {
            let (value, wire) = column.filter(|column| column.kind != DataType::Boolean)?.value()?;
            Some((format!("pg_catalog.{name}({value})"), wire))
        };
        match part {
            Part::Rows => Some(("pg_catalog.count(*)".to_string(), Wire::Int8)),
            Part::Values(_) => {
                let column = column.filter(|column| column.is_exact)?;
                Some((format!("pg_catalog.count({})", column.name), Wire::Int8))
            }
            Part::Min(_) => least("min"),
            Part::Max(_) => least("max"),
            Part::Sum(_) => {
                let wire = if *kind == DataType::Int64 { Wire::Int8 } else { Wire::Numeric };
                Some((format!("pg_catalog.sum({})", column?.plain()?), wire))
            }
        }
    }

    fn ordered(&self, column: &Column, key: &SortKey) -> Option<String> {
        let (value, _) = column.value()?;
        let direction = if key.descending { "DESC" } else { "ASC" };
        let nulls = if key.nulls_first { "FIRST" } else { "LAST" };
        Some(format!("{value} {direction} NULLS {nulls}"))
    }

    fn tie(&self, column: &Column) -> String {
        column.plain().unwrap_or_else(|| format!("{}::pg_catalog.text COLLATE \"C\"", column.name))
    }

    fn equal(&self, left: &Column, right: &Column) -> Option<String> {
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

    /// A value that can be ordered, and how it travels.
    fn value(&self) -> Option<Expression<Wire>> {
        let plain = || {
            let wire = if self.wire == Wire::Oid { Wire::Int8 } else { self.wire.clone() };
            Some((self.plain()?, wire))
        };
        self.text().map(|text| (text, Wire::Text)).or_else(plain)
    }
}

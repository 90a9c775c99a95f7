//! Joins, groups and first rows that the server computes: a fragment as one query on one connection, which sees one state of all of its tables. An
//! allow-list, as [`super::filter`] is one: texts are compared as bytes of UTF-8, and floating point numbers, times, bits and years not at all.
//!
//! The server computes a join only where groups or first rows are made of it: what it says of the size of joins is not to be relied on. A server without hash
//! joins, such as MariaDB, compares each row with each where no index serves: there, each join must have one.

use super::filter::{self, Columns};
use super::relation::Relation;
use super::scan::{Cut, MysqlScan, Planned, Query};
use super::snapshot::{Guard, Mode};
use super::types::{Wire, is_text};
use super::wire::{Connection, quoted};
use super::{Declared, Found, MysqlTable, choices, mode};
use crate::fragments::{self, Dialect, Expression};
use crate::server;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{JoinType, Result};
use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use windlass_engine::connector::{
    ColumnId, Fragment, FragmentOutput, FragmentRequest, FragmentTable, Part, Scan, SortKey, Source,
};

/// Letters of a text that have no more than 1024 bytes.
const SORTABLE: u32 = 256;

impl MysqlTable {
    /// Returns the scan of a fragment whose first table this is, if the server computes it.
    pub(super) async fn computed(&self, request: FragmentRequest<'_>) -> Result<Option<Arc<dyn Scan>>> {
        let fragment = request.fragment;
        if let FragmentOutput::Rows { first: None, .. } = fragment.output {
            return Ok(None);
        }
        let tables = fragment.source.tables().into_iter().map(|table| self.beside(table)).collect::<Option<Vec<_>>>();
        let Some(tables) = tables else { return Ok(None) };
        let presumed: Vec<Declared<'_>> = tables.iter().map(|(_, table)| Declared(table)).collect();
        let leaves = tables.iter().zip(&presumed);
        let leaves = leaves.map(|((table, _), columns)| Leaf { table, columns, relation: None });
        if Leaves(leaves.collect()).query(fragment).is_none() {
            return Ok(None);
        }
        let settings = self.settings().await?;
        let mut connection = Connection::open(&settings, &self.killer).await?;
        let mut relations = Vec::new();
        for (_, table) in &tables {
            relations.push(table.relation(&mut connection).await?);
        }
        let found = tables.iter().zip(&relations).map(|((_, table), relation)| Found { table, relation });
        let found: Vec<Found<'_>> = found.collect();
        let leaves = tables.iter().zip(&found);
        let leaves = leaves.map(|((table, _), found)| Leaf { table, columns: found, relation: Some(found.relation) });
        let query = {
            let leaves = Leaves(leaves.collect());
            let is_fast = connection.hashes_joins || leaves.have_indexes(&fragment.source);
            is_fast.then(|| leaves.query(fragment)).flatten()
        };
        let Some(query) = query else { return Ok(None) };
        let guard = match mode(&self.spec) {
            Mode::None => None,
            Mode::Table => Some(Arc::new(Guard::marked(connection).await?)),
            Mode::Locked => {
                drop(connection);
                let locked = self.statements.of(&settings, request.session);
                for relation in &relations {
                    let connection = Connection::open(&settings, &self.killer).await?;
                    locked.add(connection, relation.quoted()).await?;
                }
                Some(Arc::new(Guard::Locked(locked)))
            }
        };
        let relied = tables.iter().zip(&relations);
        let relied = relied.filter_map(|((of, table), relation)| table.relied(relation, of.keys.as_ref()));
        let mark = guard.as_ref().map(|guard| guard.name().to_string()).unwrap_or_default();
        let query = Query { relied: relied.collect(), mark, ..query };
        let bytes = relations.iter().filter_map(|relation| relation.bytes).sum();
        let planned =
            Some(Planned { cut: Cut::whole(), rows: None, bytes: Some(bytes), distinct: HashMap::new(), guard });
        let (table, schema, killer) = (Arc::clone(&self.spec), Arc::clone(&fragment.schema), self.killer.clone());
        Ok(Some(Arc::new(MysqlScan { table, schema, query, killer, planned })))
    }

    /// A table that the server has beside this one, reached and read in the same way.
    fn beside<'a>(&self, table: &'a FragmentTable) -> Option<(&'a FragmentTable, &'a MysqlTable)> {
        let other = (table.table.as_ref() as &dyn Any).downcast_ref::<MysqlTable>()?;
        let is_beside = other.spec.location == self.spec.location && other.spec.options.reach_same(&self.spec.options);
        (is_beside && server::pushes_down(&other.spec)).then_some((table, other))
    }
}

/// A table of a fragment.
struct Leaf<'a> {
    table: &'a FragmentTable,
    /// What conditions may be about.
    columns: &'a dyn Columns,
    /// Once the server has been asked.
    relation: Option<&'a Relation>,
}

struct Leaves<'a>(Vec<Leaf<'a>>);

/// A column of a leaf.
struct Column {
    /// In the query, quoted.
    name: String,
    /// In the leaf: an expression.
    own: String,
    kind: DataType,
    wire: Wire,
    /// Its values are bytes of UTF-8 in the query.
    is_text: bool,
    /// It can be compared, and its NULLs are those of the server.
    is_exact: bool,
    /// The server sorts by all of it, rather than by its first bytes (`max_sort_length`, 1024 bytes).
    is_sortable: bool,
}

impl Leaves<'_> {
    /// Whether an index of the table that is looked up serves each join.
    fn have_indexes(&self, source: &Source) -> bool {
        let Source::Join(join) = source else { return true };
        let left = join.on.iter().any(|(left, _)| self.begins_index(left));
        let right = join.on.iter().any(|(_, right)| self.begins_index(right));
        let serves = match join.kind {
            JoinType::Inner => left || right,
            JoinType::Right | JoinType::RightSemi | JoinType::RightAnti => left,
            _ => right,
        };
        serves && self.have_indexes(&join.left) && self.have_indexes(&join.right)
    }

    /// Whether an index begins with this column, which is not text: that is compared as bytes, for which there is no index.
    fn begins_index(&self, id: &ColumnId) -> bool {
        self.0.iter().any(|leaf| {
            let at = leaf.table.columns.iter().find(|(of, _)| of == id).map(|(_, at)| *at);
            let schema = leaf.table.table.schema();
            let Some(field) = at.and_then(|at| schema.fields().get(at)) else { return false };
            let column = leaf.relation.and_then(|relation| Some((relation, relation.column(field.name())?)));
            !is_text(field.data_type()) && column.is_some_and(|(of, column)| of.indexed.contains(&column.name))
        })
    }

    fn query(&self, fragment: &Fragment) -> Option<Query> {
        let fragments::Text { select, wires, from, group_by, order_by, limit } = fragments::text(fragment, self)?;
        Some(Query { select, from, limit, wires, group_by, order_by, ..Query::default() })
    }
}

impl Dialect for Leaves<'_> {
    type Wire = Wire;
    type Column = Column;

    fn column(&self, table: usize, name: String, at: usize) -> Option<Column> {
        let leaf = self.0.get(table)?;
        let schema = leaf.table.table.schema();
        let field = schema.fields().get(at)?;
        let kind = field.data_type().clone();
        let mut is_sortable = true;
        let (wire, own) = match leaf.relation {
            Some(relation) => {
                let known = relation.column(field.name())?;
                is_sortable = !is_text(&kind) || known.kind.length() <= SORTABLE;
                known.kind.read_as(&kind, choices(&leaf.table.spec), &quoted(&known.name)).ok()?
            }
            None => (if is_text(&kind) { Wire::Text } else { Wire::Int }, quoted(field.name())),
        };
        let is_text = is_text(&kind) && matches!(wire, Wire::Text | Wire::AsText);
        let is_plain = is_plain(&kind) && !matches!(wire, Wire::Bit | Wire::Year);
        let is_exact = leaf.columns.column(field.name()).is_some() && (is_text || is_plain);
        let own = if is_text { format!("CAST(CONVERT({own} USING utf8mb4) AS BINARY)") } else { own };
        Some(Column { name: quoted(&name), own, kind, wire, is_text, is_exact, is_sortable })
    }

    fn table(&self, table: usize, of: &FragmentTable, columns: &[(usize, &Column)]) -> Option<String> {
        let leaf = self.0.get(table)?;
        let select = columns.iter().map(|(_, column)| format!("{} AS {}", column.own, column.name)).collect();
        let conditions = of.filters.iter().map(|filter| filter::sent(filter, leaf.columns));
        let from = leaf.relation.map(Relation::quoted).unwrap_or_default();
        Some(fragments::subquery(select, &from, &conditions.collect::<Option<Vec<_>>>()?))
    }

    fn read(&self, column: &Column) -> Expression<Wire> {
        column.read(&column.name)
    }

    fn key(&self, column: &Column) -> Option<Expression<Wire>> {
        column.is_exact.then(|| column.read(&column.name))
    }

    /// Texts that are read are compared by some collation, and bytes as bytes.
    fn grouped(&self, column: &Column, _: usize) -> String {
        column.name.clone()
    }

    fn aggregate(&self, part: &Part, column: Option<&Column>, kind: &DataType) -> Option<Expression<Wire>> {
        let column = column.filter(|column| column.is_exact);
        let least = |name: &str| {
            let column = column.filter(|column| column.kind != DataType::Boolean)?;
            Some(column.read(&format!("{name}({})", column.name)))
        };
        match part {
            Part::Rows => Some(("COUNT(*)".to_string(), Wire::Int)),
            Part::Values(_) => Some((format!("COUNT({})", column?.name), Wire::Int)),
            Part::Min(_) => least("MIN"),
            Part::Max(_) => least("MAX"),
            Part::Sum(_) => {
                let sum = format!("SUM({})", column.filter(|column| !column.is_text)?.name);
                Some(match kind {
                    DataType::Int64 => (format!("CAST({sum} AS SIGNED)"), Wire::Int),
                    _ => (sum, Wire::Decimal),
                })
            }
        }
    }

    fn ordered(&self, column: &Column, key: &SortKey) -> Option<String> {
        let direction = if key.descending { "DESC" } else { "ASC" };
        let nulls = if key.nulls_first { "IS NOT NULL" } else { "IS NULL" };
        (column.is_exact && column.is_sortable).then(|| format!("{0} {nulls}, {0} {direction}", column.name))
    }

    fn tie(&self, column: &Column) -> String {
        column.name.clone()
    }

    fn equal(&self, left: &Column, right: &Column) -> Option<String> {
        let is_same = (left.is_text && right.is_text) || left.kind == right.kind;
        (is_same && left.is_exact && right.is_exact).then(|| format!("{} = {}", left.name, right.name))
    }

    fn joins(&self, kind: JoinType) -> bool {
        kind != JoinType::Full
    }
}

/// Whether equal values and their order are the same on both sides.
fn is_plain(kind: &DataType) -> bool {
    use DataType::{Boolean, Date32, Decimal128, Decimal256, Timestamp};
    kind.is_integer() || matches!(kind, Boolean | Date32 | Timestamp(..) | Decimal128(..) | Decimal256(..))
}

impl Column {
    /// What is read of an expression that has the column's values.
    fn read(&self, expression: &str) -> Expression<Wire> {
        match self.is_text {
            true => (format!("CONVERT({expression} USING utf8mb4)"), Wire::Text),
            false => (expression.to_string(), self.wire),
        }
    }
}

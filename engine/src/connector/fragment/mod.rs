//! Parts of a statement that another system computes in place of Windlass: joins of its tables, groups, and the first rows of an order.
//!
//! ```text
//!   Sort, 10 rows               Sort, 10 rows                       Aggregate: by k, count(*)      Aggregate: by k, the parts together
//!     Join                        Projection: the names before        TableScan t                    TableScan: k and counts of each split
//!       TableScan a       ──>       TableScan of the fragment
//!       TableScan b
//! ```
//!
//! The plan is optimized before, so filters and columns are in the scans already. A fragment keeps its splits: each has the groups, or the first rows, of its part of
//! the rows, and what is above puts them together. The largest fragment is offered first, to the connector of its tables, which takes it only if its answer
//! is that of Windlass; then the smaller ones in it.

mod find;

use super::{ConnectorTable, Scan, ScanExec, TableSpec};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Constraints, JoinType, Result, internal_err};
use datafusion::datasource::TableType;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use find::{Candidate, Functions};
use std::sync::Arc;

/// A column of a fragment: its number among those of all its tables.
pub type ColumnId = usize;

/// A query over tables of one connector: `SELECT columns FROM source ORDER BY first LIMIT`, or `SELECT keys, parts FROM source GROUP BY keys`.
#[derive(Clone, Debug)]
pub struct Fragment {
    pub source: Source,
    pub output: FragmentOutput,
    /// The columns of its rows.
    pub schema: SchemaRef,
}

#[derive(Clone, Debug)]
pub enum FragmentOutput {
    /// Rows of the source. `first`: only the first ones in this order are wanted; it is enough if each split has its own first ones.
    Rows { columns: Vec<ColumnId>, first: Option<First> },
    /// A row for each group, or one row if there are no keys: the keys, then the parts. A group may have a row in each split.
    Groups { keys: Vec<ColumnId>, parts: Vec<Part> },
}

/// The first rows of an order.
#[derive(Clone, Debug)]
pub struct First {
    pub keys: Vec<SortKey>,
    pub rows: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortKey {
    pub column: ColumnId,
    pub descending: bool,
    pub nulls_first: bool,
}

/// An aggregate of the rows of a group in one split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The number of rows.
    Rows,
    /// The number of values that are not NULL.
    Values(ColumnId),
    Min(ColumnId),
    Max(ColumnId),
    /// The exact sum, in the type that the fragment's schema has for it; NULL without values.
    Sum(ColumnId),
}

/// Tables, and their joins.
#[derive(Clone, Debug)]
pub enum Source {
    Table(FragmentTable),
    Join(Box<FragmentJoin>),
}

/// A scan of a table.
#[derive(Clone)]
pub struct FragmentTable {
    pub spec: Arc<TableSpec>,
    pub table: Arc<dyn ConnectorTable>,
    /// As [`super::ScanRequest::keys`].
    pub keys: Option<Constraints>,
    /// The columns that are read, and their positions in the table.
    pub columns: Vec<(ColumnId, usize)>,
    /// Filters over columns of the table, all of which its [`ConnectorTable::pushdown`] takes as exact.
    pub filters: Vec<Expr>,
}

impl std::fmt::Debug for FragmentTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FragmentTable")
            .field("spec", &self.spec)
            .field("columns", &self.columns)
            .finish_non_exhaustive()
    }
}

/// A join by equal columns, which NULL never is.
#[derive(Clone, Debug)]
pub struct FragmentJoin {
    pub kind: JoinType,
    pub left: Source,
    pub right: Source,
    pub on: Vec<(ColumnId, ColumnId)>,
}

impl Source {
    /// All tables, from left to right.
    pub fn tables(&self) -> Vec<&FragmentTable> {
        match self {
            Self::Table(table) => vec![table],
            Self::Join(join) => [join.left.tables(), join.right.tables()].concat(),
        }
    }
}

/// The request for a scan of a fragment.
pub struct FragmentRequest<'a> {
    pub session: &'a dyn Session,
    pub fragment: &'a Fragment,
    /// Number of tasks that can read at a time.
    pub tasks: usize,
}

/// `plan` with fragments in place of what connectors compute of it. `tasks`: how many can read at a time.
pub(crate) async fn computed_elsewhere(plan: LogicalPlan, session: &dyn Session, tasks: usize) -> Result<LogicalPlan> {
    if !find::concerns(&plan)? {
        return Ok(plan);
    }
    let (sum, average) = (session.aggregate_functions().get("sum"), session.scalar_functions().get("windlass_average"));
    let (Some(sum), Some(average)) = (sum.cloned(), average.cloned()) else { return Ok(plan) };
    let functions = Functions { sum, average };
    let (mut plan, mut refused) = (plan, 0);
    while let Some(candidate) = nth(&plan, refused)? {
        let scan = match candidate.fragment.source.tables().first() {
            Some(first) => {
                let request = FragmentRequest { session, fragment: &candidate.fragment, tasks };
                let scan = first.table.scan_fragment(request).await?;
                scan.map(|scan| (Arc::clone(&first.spec), scan))
            }
            None => None,
        };
        let Some((spec, scan)) = scan else {
            refused += 1;
            continue;
        };
        if scan.schema().fields() != candidate.fragment.schema.fields() {
            return internal_err!("a scan of {} has other columns than its fragment", spec.connector);
        }
        let provider = Arc::new(Computed { spec, scan });
        let mut instead = Some(candidate.replaced(provider, &functions)?);
        let mut seen = 0;
        let replaced = plan.transform_down_with_subqueries(|node| {
            if instead.is_none() || !find::is_candidate(&node)? {
                return Ok(Transformed::no(node));
            }
            seen += 1;
            match (seen > refused).then(|| instead.take()).flatten() {
                Some(instead) => Ok(Transformed::new(instead, true, TreeNodeRecursion::Jump)),
                None => Ok(Transformed::no(node)),
            }
        });
        plan = replaced?.data;
    }
    Ok(plan)
}

/// Returns a candidate, counted from the root.
fn nth(plan: &LogicalPlan, nth: usize) -> Result<Option<Candidate>> {
    let (mut found, mut seen) = (None, 0);
    plan.apply_with_subqueries(|node| {
        let Some(candidate) = find::candidate(node)? else { return Ok(TreeNodeRecursion::Continue) };
        seen += 1;
        if seen > nth {
            found = Some(candidate);
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// A fragment that its connector has planned, in the form with which DataFusion plans.
#[derive(Debug)]
struct Computed {
    spec: Arc<TableSpec>,
    scan: Arc<dyn Scan>,
}

#[async_trait]
impl TableProvider for Computed {
    fn schema(&self) -> SchemaRef {
        self.scan.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if projection.is_some() {
            return internal_err!("a fragment has the columns that are wanted of it");
        }
        let tasks = session.config().target_partitions().max(1);
        Ok(Arc::new(ScanExec::new(Arc::clone(&self.spec), Arc::clone(&self.scan), tasks)))
    }
}

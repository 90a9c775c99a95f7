//! Limits on the depth and the size of a plan.
//!
//! The code that plans and runs a statement recurses once per level. It also rewrites, encodes and frees each operator and expression, those of a common
//! table expression once for each place that names it. So a plan is measured before anything else looks at it, without recursion, and shared parts are
//! measured once. A client's plan is measured even before it is decoded.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, Subquery};
use std::collections::HashMap;

/// Limits of the plans that a primary accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum nesting of operators and expressions.
    pub depth: usize,
    /// Maximum operators and expressions in all.
    pub size: usize,
}

impl Limits {
    /// Maximum depth that the stacks of threads have room for: a level takes up to 33 KiB of stack in a build without optimisation.
    pub const MOST_DEPTH: usize = 6_000;
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: Self::MOST_DEPTH, size: 1_000_000 }
    }
}

/// Depth and size of a plan or an expression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Extent {
    depth: usize,
    size: usize,
}

impl Extent {
    /// Adds another extent below this one.
    fn above(self, below: Extent) -> Self {
        Self { depth: self.depth.max(below.depth.saturating_add(1)), size: self.size.saturating_add(below.size) }
    }
}

impl Limits {
    /// Checks a plan.
    ///
    /// # Errors
    /// Names the limit that `plan` exceeds.
    pub fn check(&self, plan: &LogicalPlan) -> Result<()> {
        Measure { limits: *self, known: HashMap::new() }.plan(plan, 0).map(|_| ())
    }

    /// The error message for a statement that is too deep.
    pub fn too_deep(&self) -> String {
        format!(
            "the statement is nested more than {} levels deep, which primary.depth_limit does not allow: write long chains of OR and of \
             UNION ALL as IN or as a join with VALUES, and keep what is built of many layers in a table",
            self.depth
        )
    }

    /// The error message for a statement that is too large.
    pub fn too_large(&self) -> String {
        format!(
            "the statement has more than {} operators and expressions, which primary.size_limit does not allow: load literal rows and long \
             lists from a file, and keep what several parts of it share in a table",
            self.size
        )
    }

    /// Checks encoded bytes before they are decoded.
    ///
    /// # Errors
    /// The messages in `bytes` are nested more deeply than those of a plan of [`Limits::depth`].
    pub fn check_encoded(&self, bytes: &[u8]) -> Result<()> {
        match nests_deeper(bytes, self.depth.saturating_mul(MESSAGES)) {
            true => Err(DataFusionError::ResourcesExhausted(self.too_deep())),
            false => Ok(()),
        }
    }
}

/// Nested protobuf messages per level of a plan.
const MESSAGES: usize = 3;

struct Measure {
    limits: Limits,
    /// Extents of the plans already met, by address.
    known: HashMap<*const LogicalPlan, Extent>,
}

/// A plan of which some inputs are already measured.
struct Begun<'a> {
    plan: &'a LogicalPlan,
    inputs: Vec<&'a LogicalPlan>,
    extent: Extent,
}

impl Measure {
    /// `above`: levels above `plan`. Recurses for subqueries only.
    fn plan(&mut self, plan: &LogicalPlan, above: usize) -> Result<Extent> {
        let mut path: Vec<Begun> = vec![self.begin(plan, above)?];
        loop {
            let level = above + path.len();
            // The path is never empty: the loop returns when the outermost plan is measured.
            let Some(last) = path.last_mut() else { return Ok(Extent::default()) };
            if let Some(input) = last.inputs.pop() {
                match self.known.get(&std::ptr::from_ref(input)) {
                    Some(extent) => last.extent = last.extent.above(*extent),
                    None => path.push(self.begin(input, level)?),
                }
                continue;
            }
            let Some(Begun { plan, extent, .. }) = path.pop() else { return Ok(Extent::default()) };
            self.check(extent, above + path.len())?;
            self.known.insert(std::ptr::from_ref(plan), extent);
            match path.last_mut() {
                Some(parent) => parent.extent = parent.extent.above(extent),
                None => return Ok(extent),
            }
        }
    }

    /// Begins a plan: measures its expressions, and keeps its inputs for later.
    fn begin<'a>(&mut self, plan: &'a LogicalPlan, above: usize) -> Result<Begun<'a>> {
        let mut extent = Extent { depth: 1, size: 1 };
        self.check(extent, above)?;
        plan.apply_expressions(|expr| {
            extent = extent.above(self.expression(expr, above + 1)?);
            self.check(extent, above)?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(Begun { plan, inputs: plan.inputs(), extent })
    }

    fn expression(&mut self, expr: &Expr, above: usize) -> Result<Extent> {
        let mut extent = Extent::default();
        let mut waiting = vec![(expr, 1)];
        while let Some((expr, depth)) = waiting.pop() {
            extent = Extent { depth: extent.depth.max(depth), size: extent.size.saturating_add(1) };
            self.check(extent, above)?;
            if let Some(subquery) = subquery_of(expr) {
                let below = self.plan(&subquery.subquery, above + depth)?;
                extent = Extent { depth: extent.depth.max(depth + below.depth), size: extent.size + below.size };
            }
            expr.apply_children(|child| {
                waiting.push((child, depth + 1));
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(extent)
    }

    fn check(&self, extent: Extent, above: usize) -> Result<()> {
        let Limits { depth, size } = self.limits;
        if above.saturating_add(extent.depth) > depth {
            return Err(DataFusionError::ResourcesExhausted(self.limits.too_deep()));
        }
        if extent.size > size {
            return Err(DataFusionError::ResourcesExhausted(self.limits.too_large()));
        }
        Ok(())
    }
}

fn subquery_of(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::Exists(exists) => Some(&exists.subquery),
        Expr::InSubquery(within) => Some(&within.subquery),
        Expr::SetComparison(comparison) => Some(&comparison.subquery),
        Expr::ScalarSubquery(subquery) => Some(subquery),
        _ => None,
    }
}

/// Whether a protobuf decoder that does not know the fields might recurse more than `limit` deep on `bytes`: each field with a length may be a message. A
/// field that is not one is soon found out.
fn nests_deeper(bytes: &[u8], limit: usize) -> bool {
    let mut reading = vec![Message { end: bytes.len(), groups: 0 }];
    let (mut at, mut depth) = (0, 1);
    while let Some(message) = reading.last_mut() {
        if at >= message.end {
            // Groups end at the latest with the message around them.
            depth -= 1 + message.groups;
            reading.pop();
            continue;
        }
        let mut field = Field { bytes: &bytes[..message.end], at };
        match field.next() {
            Some(Wire::Skipped) => {}
            Some(Wire::Bytes(length)) => {
                depth += 1;
                reading.push(Message { end: field.at + length, groups: 0 });
            }
            Some(Wire::GroupStarts) => (depth, message.groups) = (depth + 1, message.groups + 1),
            Some(Wire::GroupEnds) if message.groups > 0 => (depth, message.groups) = (depth - 1, message.groups - 1),
            // It was not a message.
            Some(Wire::GroupEnds) | None => field.at = message.end,
        }
        at = field.at;
        if depth > limit {
            return true;
        }
    }
    false
}

/// A message that is being read.
struct Message {
    end: usize,
    /// Number of groups that have begun in it and not ended.
    groups: usize,
}

enum Wire {
    Skipped,
    /// This many bytes follow.
    Bytes(usize),
    GroupStarts,
    GroupEnds,
}

struct Field<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Field<'_> {
    fn next(&mut self) -> Option<Wire> {
        let tag = self.number()?;
        let left = self.bytes.len();
        match tag & 7 {
            0 => self.number().map(|_| Wire::Skipped),
            1 => self.skip(8, left),
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                (length <= left - self.at).then_some(Wire::Bytes(length))
            }
            3 => Some(Wire::GroupStarts),
            4 => Some(Wire::GroupEnds),
            5 => self.skip(4, left),
            _ => None,
        }
    }

    fn skip(&mut self, length: usize, end: usize) -> Option<Wire> {
        self.at = self.at.checked_add(length).filter(|at| *at <= end)?;
        Some(Wire::Skipped)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::{LogicalPlanBuilder, col, lit};
    use std::sync::Arc;

    fn limits(depth: usize, size: usize) -> Limits {
        Limits { depth, size }
    }

    fn values() -> LogicalPlanBuilder {
        LogicalPlanBuilder::values(vec![vec![lit(1_i64)]]).unwrap()
    }

    #[test]
    fn expressions_count_for_depth_and_size() {
        let sum = (0..100).fold(col("column1"), |sum, n| sum + lit(n));
        let plan = values().filter(sum.gt(lit(1))).unwrap().build().unwrap();
        // A filter over values with a literal, and a comparison over 100 sums of a column and numbers.
        assert!(limits(103, 206).check(&plan).is_ok());
        let deep = limits(102, 206).check(&plan).unwrap_err().to_string();
        assert!(deep.contains("more than 102 levels") && deep.contains("primary.depth_limit"), "{deep}");
        let large = limits(103, 205).check(&plan).unwrap_err().to_string();
        assert!(large.contains("more than 205") && large.contains("primary.size_limit"), "{large}");
    }

    #[test]
    fn what_is_shared_counts_in_each_place_and_is_looked_at_once() {
        let mut plan = Arc::new(values().build().unwrap());
        for _ in 0..60 {
            let twice = LogicalPlanBuilder::new_from_arc(Arc::clone(&plan));
            plan = Arc::new(twice.alias("a").unwrap().cross_join(other(&plan)).unwrap().build().unwrap());
        }
        let large = limits(1_000, 1_000_000_000).check(&plan).unwrap_err().to_string();
        assert!(large.contains("primary.size_limit"), "{large}");
    }

    /// The same input behind a projection of no columns.
    fn other(plan: &Arc<LogicalPlan>) -> LogicalPlan {
        let none: Vec<Expr> = Vec::new();
        LogicalPlanBuilder::new_from_arc(Arc::clone(plan)).project(none).unwrap().build().unwrap()
    }

    #[test]
    fn subqueries_are_below_their_expressions() {
        let inner = (0..50).fold(col("column1"), |sum, n| sum + lit(n));
        let inner = Arc::new(values().project([inner]).unwrap().build().unwrap());
        let outer = values().filter(datafusion::logical_expr::exists(inner)).unwrap().build().unwrap();
        // A filter, EXISTS, a projection, and 50 sums of a column and numbers.
        assert!(limits(54, 1_000).check(&outer).is_ok());
        assert!(limits(53, 1_000).check(&outer).is_err());
    }

    #[test]
    fn encoded_nesting_is_seen_without_recursion() {
        let nested = |depth: usize| {
            (0..depth).fold(Vec::new(), |inner: Vec<u8>, _| {
                let mut outer = vec![0x0a];
                prost::encoding::encode_varint(inner.len() as u64, &mut outer);
                outer.extend(inner);
                outer
            })
        };
        assert!(!nests_deeper(&nested(100), 101));
        assert!(nests_deeper(&nested(102), 101));
        let groups = [vec![0x0b; 1_000_000], vec![0x0c; 1_000_000]].concat();
        assert!(nests_deeper(&groups, 10_000));
        assert!(!nests_deeper(&groups, 1_000_001));
        let text = [vec![0x0a, 100], vec![b';'; 100], vec![0x10, 7]].concat();
        assert!(!nests_deeper(&text, 102), "a text looks like groups at most as often as it has letters");
        // A number that does not end, a length beyond the end, an unknown wire type.
        for garbage in [vec![0xff; 30], vec![0x0a, 9, 1], vec![0x0f]] {
            assert!(!nests_deeper(&garbage, 10));
        }
    }
}

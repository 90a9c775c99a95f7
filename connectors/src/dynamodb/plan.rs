//! How a statement reads a table: by a scan in segments, or by queries of the table's or an index's keys.
//!
//! An index has only the items that have its keys. So it is read only where the conditions need them all, and where it has every attribute that is wanted.

use super::condition::{Condition, Expression, Test, Value};
use super::described::{Described, Index, Key, Keys};
use prost::{Message, Oneof};
use std::cmp::Ordering;

/// Queries above which a scan is cheaper.
const MOST_QUERIES: usize = 256;
/// Names of a projection above which all attributes are asked for: DynamoDB takes 4,096 bytes.
const MOST_PROJECTED: usize = 600;

/// What all splits of a scan ask for.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Ask {
    #[prost(string, optional, tag = "1")]
    pub index: Option<String>,
    #[prost(bool, tag = "2")]
    pub consistent: bool,
    /// A FilterExpression, with the names and values of it and of the projection.
    #[prost(message, required, tag = "3")]
    pub filter: Expression,
    /// A ProjectionExpression.
    #[prost(string, tag = "4")]
    pub projection: String,
    /// Conditions that are computed here.
    #[prost(message, repeated, tag = "5")]
    pub here: Vec<Condition>,
    #[prost(uint64, optional, tag = "6")]
    pub limit: Option<u64>,
    /// Key attributes of the table, which name items.
    #[prost(string, repeated, tag = "7")]
    pub keys: Vec<String>,
    /// Capacity units a second of each split; 0: any number.
    #[prost(double, tag = "8")]
    pub units: f64,
    /// Rows are only counted.
    #[prost(bool, tag = "9")]
    pub counts: bool,
    /// For EXPLAIN.
    #[prost(string, tag = "10")]
    pub shown: String,
}

/// What one split reads.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Piece {
    #[prost(oneof = "Of", tags = "1, 2")]
    pub of: Option<Of>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Of {
    #[prost(message, tag = "1")]
    Segment(Segment),
    /// The KeyConditionExpression of a query.
    #[prost(message, tag = "2")]
    Query(Expression),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Segment {
    #[prost(uint32, tag = "1")]
    pub number: u32,
    #[prost(uint32, tag = "2")]
    pub of: u32,
}

/// What is to be read.
pub(super) struct Wanted<'a> {
    /// The columns that the statement wants.
    pub columns: Vec<String>,
    pub conditions: Vec<Condition>,
    pub limit: Option<u64>,
    pub consistent: bool,
    pub table: &'a Described,
}

/// How it is read.
pub(super) struct Way {
    pub ask: Ask,
    /// Absent: in segments.
    pub queries: Option<Vec<Expression>>,
    /// Capacity units a second of the table or the index that is read; 0: paid by the request.
    pub read_units: i64,
}

impl Wanted<'_> {
    pub fn way(self) -> Way {
        let indexes = self.table.indexes.iter().filter(|index| self.serves(index));
        let candidates =
            std::iter::once((None, &self.table.keys)).chain(indexes.map(|index| (Some(index), &index.keys)));
        let looked_up = candidates.filter_map(|(index, keys)| Some((index, keys, self.lookup(keys)?)));
        // The one that narrows most, and of these the table before its indexes.
        let near = |index: &Option<&Index>| index.map_or(2, |index| u32::from(!index.is_global));
        let best = looked_up.max_by_key(|(index, _, lookup)| (lookup.rank, near(index)));
        match best {
            Some((index, keys, lookup)) => self.queried(index, keys, &lookup),
            None => self.scanned(),
        }
    }

    /// Whether an index has all items and attributes that are wanted.
    fn serves(&self, index: &Index) -> bool {
        let is_key = |name: &str| index.keys.find(name).is_some() || self.table.keys.find(name).is_some();
        let has = |column: &str| match &index.attributes {
            None => true,
            Some(attributes) => is_key(column) || attributes.iter().any(|name| name == column),
        };
        let needs = |key: &Key| self.conditions.iter().any(|condition| condition.needs(&key.name));
        let of_conditions = self.conditions.iter().flat_map(Condition::columns);
        index.keys.all().all(needs)
            && !(index.is_global && self.consistent)
            && self.columns.iter().map(String::as_str).chain(of_conditions).all(has)
    }

    fn lookup(&self, keys: &Keys) -> Option<Lookup> {
        let (at, partitions) = self.values_of(&keys.partition)?;
        let mut lookup = Lookup { partitions, sorts: vec![Sort::Any], rank: 1, done: vec![at] };
        if let Some(sort) = &keys.sort {
            self.narrow(sort, &mut lookup);
        }
        (lookup.partitions.len() * lookup.sorts.len() <= MOST_QUERIES).then_some(lookup)
    }

    /// Values of which a key has to have one, with the condition that says so.
    fn values_of(&self, key: &Key) -> Option<(usize, Vec<Value>)> {
        let of = |(at, condition): (usize, &Condition)| {
            let is_equality = matches!(condition.test(), Test::Equal | Test::OneOf);
            if !is_equality || condition.column != key.name {
                return None;
            }
            let mut values: Vec<Value> = Vec::new();
            for value in &condition.values {
                if !value.is_key(key.kind) {
                    return None;
                }
                if !values.contains(value) {
                    values.push(value.clone());
                }
            }
            Some((at, values))
        };
        self.conditions.iter().enumerate().filter_map(of).min_by_key(|(_, values)| values.len())
    }

    /// Adds what the conditions say of the sort key.
    fn narrow(&self, key: &Key, lookup: &mut Lookup) {
        if let Some((at, values)) = self.values_of(key) {
            lookup.sorts = values.into_iter().map(Sort::Equal).collect();
            lookup.rank = 4;
            lookup.done.push(at);
            return;
        }
        let (mut low, mut high): (Option<Bound<'_>>, Option<Bound<'_>>) = (None, None);
        for (at, condition) in self.conditions.iter().enumerate().filter(|(_, condition)| condition.column == key.name)
        {
            let Some(value) = condition.values.first().filter(|value| value.is_key(key.kind)) else { continue };
            let is_tighter = |known: &Option<Bound<'_>>, wanted: Ordering| {
                known.as_ref().is_none_or(|known| value.order(known.value) == Some(wanted))
            };
            match condition.test() {
                Test::Begins => {
                    lookup.sorts = vec![Sort::Begins(value.clone())];
                    lookup.rank = 3;
                    lookup.done.push(at);
                    return;
                }
                test @ (Test::Greater | Test::GreaterOrEqual) if is_tighter(&low, Ordering::Greater) => {
                    low = Some(Bound { at, value, test });
                }
                test @ (Test::Less | Test::LessOrEqual) if is_tighter(&high, Ordering::Less) => {
                    high = Some(Bound { at, value, test });
                }
                _ => {}
            }
        }
        match (low, high) {
            (None, None) => {}
            (Some(low), Some(high)) => {
                // BETWEEN has both ends; an end that is not wanted is left out here.
                let ends = [&low, &high]
                    .into_iter()
                    .filter(|end| matches!(end.test, Test::GreaterOrEqual | Test::LessOrEqual));
                lookup.done.extend(ends.map(|end| end.at));
                let is_empty = low.value.order(high.value) == Some(Ordering::Greater);
                lookup.sorts =
                    if is_empty { vec![] } else { vec![Sort::Between(low.value.clone(), high.value.clone())] };
                lookup.rank = 3;
            }
            (Some(end), None) | (None, Some(end)) => {
                lookup.done.push(end.at);
                lookup.sorts = vec![Sort::Than(end.test, end.value.clone())];
                lookup.rank = 2;
            }
        }
    }

    fn queried(&self, index: Option<&Index>, keys: &Keys, lookup: &Lookup) -> Way {
        let is_key = |name: &str| keys.find(name).is_some() || self.table.keys.find(name).is_some();
        let rest = self.conditions.iter().enumerate().filter(|(at, _)| !lookup.done.contains(at));
        // DynamoDB does not filter by the keys of a query.
        let (here, there): (Vec<Condition>, Vec<Condition>) = rest
            .map(|(_, condition)| condition.clone())
            .partition(|condition| condition.columns().into_iter().any(is_key));
        let done: Vec<String> = lookup.done.iter().map(|at| self.conditions[*at].to_string()).collect();
        let of = index.map(|index| format!(" of index {}", index.name)).unwrap_or_default();
        let queries = lookup.expressions(keys);
        let shown = format!("queries={}{of}, key=({})", queries.len(), done.join(" AND "));
        let ask = self.ask(index, &there, here, shown);
        let read_units = index.map_or(self.table.read_units, |index| index.read_units);
        Way { ask, queries: Some(queries), read_units }
    }

    fn scanned(&self) -> Way {
        let ask = self.ask(None, &self.conditions, Vec::new(), "scan".to_string());
        Way { ask, queries: None, read_units: self.table.read_units }
    }

    /// `there`: conditions that DynamoDB filters by, as far as it can. `here`: those that are computed here.
    fn ask(&self, index: Option<&Index>, there: &[Condition], mut here: Vec<Condition>, mut shown: String) -> Ask {
        let (mut filter, more) = Expression::of(there, &self.table.keys);
        let there: Vec<&Condition> = there.iter().filter(|condition| !more.contains(condition)).collect();
        here.extend(more);
        let counts = self.columns.is_empty() && here.is_empty();
        let keys = self.table.keys.names();
        let mut attributes: Vec<&str> = keys.iter().map(String::as_str).collect();
        for column in self.columns.iter().map(String::as_str).chain(here.iter().flat_map(Condition::columns)) {
            if !attributes.contains(&column) {
                attributes.push(column);
            }
        }
        let projection = match counts || attributes.len() > MOST_PROJECTED {
            true => String::new(),
            false => attributes.iter().map(|name| filter.name(name)).collect::<Vec<_>>().join(", "),
        };
        if counts {
            shown.push_str(", select=COUNT");
        }
        for (name, conditions) in [("filter", there), ("checked", here.iter().collect())] {
            if !conditions.is_empty() {
                let is_alone = conditions.len() == 1;
                let text = |condition: &&Condition| match condition.parts.is_empty() || is_alone {
                    true => condition.to_string(),
                    false => format!("({condition})"),
                };
                let texts: Vec<String> = conditions.iter().map(text).collect();
                shown.push_str(&format!(", {name}=({})", texts.join(" AND ")));
            }
        }
        if let Some(limit) = self.limit {
            shown.push_str(&format!(", limit={limit}"));
        }
        let (index, consistent, limit) = (index.map(|index| index.name.clone()), self.consistent, self.limit);
        Ask { index, consistent, filter, projection, here, limit, keys, units: 0.0, counts, shown }
    }
}

/// One end of a range.
struct Bound<'a> {
    /// Position of its condition.
    at: usize,
    value: &'a Value,
    test: Test,
}

/// What the conditions say of keys.
struct Lookup {
    partitions: Vec<Value>,
    /// Of each partition. Empty: no item fits.
    sorts: Vec<Sort>,
    /// Higher where it narrows more.
    rank: u32,
    /// Conditions that are fulfilled by it.
    done: Vec<usize>,
}

enum Sort {
    Any,
    Equal(Value),
    Than(Test, Value),
    Between(Value, Value),
    Begins(Value),
}

impl Lookup {
    fn expressions(&self, keys: &Keys) -> Vec<Expression> {
        let mut expressions = Vec::new();
        for partition in &self.partitions {
            for sort in &self.sorts {
                let mut expression = Expression::default();
                let (name, value) = (expression.name(&keys.partition.name), expression.value(partition.clone()));
                expression.text = format!("{name} = {value}");
                if let Some(key) = &keys.sort {
                    expression.sorted(&key.name, sort);
                }
                expressions.push(expression);
            }
        }
        expressions
    }
}

impl Expression {
    fn sorted(&mut self, key: &str, sort: &Sort) {
        if matches!(sort, Sort::Any) {
            return;
        }
        let name = self.name(key);
        let mut value = |value: &Value| self.value(value.clone());
        let text = match sort {
            Sort::Any => return,
            Sort::Equal(of) => format!("{name} = {}", value(of)),
            Sort::Than(Test::Less, of) => format!("{name} < {}", value(of)),
            Sort::Than(Test::LessOrEqual, of) => format!("{name} <= {}", value(of)),
            Sort::Than(Test::Greater, of) => format!("{name} > {}", value(of)),
            Sort::Than(_, of) => format!("{name} >= {}", value(of)),
            Sort::Between(low, high) => format!("{name} BETWEEN {} AND {}", value(low), value(high)),
            Sort::Begins(of) => format!("begins_with({name}, {})", value(of)),
        };
        self.text = format!("{} AND {text}", self.text);
    }
}

#[cfg(test)]
mod tests {
    use super::super::condition::Literal;
    use super::super::described::KeyKind;
    use super::*;

    fn key(name: &str, kind: KeyKind) -> Key {
        Key { name: name.into(), kind }
    }

    fn index(name: &str, partition: &str, sort: Option<&str>, attributes: Option<&[&str]>) -> Index {
        let keys = Keys { partition: key(partition, KeyKind::Text), sort: sort.map(|sort| key(sort, KeyKind::Number)) };
        let attributes = attributes.map(|names| names.iter().map(|name| name.to_string()).collect());
        Index { name: name.into(), keys, is_global: true, attributes, read_units: 7 }
    }

    fn table() -> Described {
        Described {
            keys: Keys { partition: key("id", KeyKind::Text), sort: Some(key("at", KeyKind::Number)) },
            indexes: vec![
                index("by_customer", "customer", None, None),
                index("by_status", "status", Some("at"), Some(&[])),
                index("by_day", "day", Some("total"), Some(&["city"])),
            ],
            bytes: 0,
            items: 0,
            read_units: 100,
            write_units: 0,
            is_active: true,
        }
    }

    fn equal(column: &str, value: &str) -> Condition {
        Condition::leaf(Test::Equal, column, vec![Literal::Text(value.into()).into()])
    }

    fn number(column: &str, test: Test, value: &str) -> Condition {
        Condition::leaf(test, column, vec![Literal::Number(value.into()).into()])
    }

    fn way(columns: &[&str], conditions: Vec<Condition>) -> Way {
        let columns = columns.iter().map(|name| name.to_string()).collect();
        Wanted { columns, conditions, limit: None, consistent: false, table: &table() }.way()
    }

    #[test]
    fn keys_become_queries() {
        use Test::{Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        for (columns, conditions, shown, key) in [
            (&["id"][..], vec![equal("id", "a")], "queries=1, key=(id = 'a')", "#0 = :0"),
            (
                &["id"],
                vec![equal("id", "a"), number("at", GreaterOrEqual, "5"), number("at", LessOrEqual, "7")],
                "queries=1, key=(id = 'a' AND at >= 5 AND at <= 7)",
                "#0 = :0 AND #1 BETWEEN :1 AND :2",
            ),
            (
                &["id"],
                vec![equal("id", "a"), number("at", Greater, "5"), number("at", Less, "7")],
                "queries=1, key=(id = 'a'), checked=(at > 5 AND at < 7)",
                "#0 = :0 AND #1 BETWEEN :1 AND :2",
            ),
            (
                &["id"],
                vec![equal("id", "a"), number("at", NotEqual, "5"), number("total", Less, "7")],
                "queries=1, key=(id = 'a'), filter=(total < 7), checked=(at <> 5)",
                "#0 = :0",
            ),
            (
                &["id", "city"],
                vec![equal("customer", "a")],
                "queries=1 of index by_customer, key=(customer = 'a')",
                "#0 = :0",
            ),
            (
                &["id"],
                vec![equal("status", "a"), number("at", Greater, "5")],
                "queries=1 of index by_status, key=(status = 'a' AND at > 5)",
                "#0 = :0 AND #1 > :1",
            ),
            (
                &["city"],
                vec![equal("day", "a"), number("total", LessOrEqual, "5")],
                "queries=1 of index by_day, key=(day = 'a' AND total <= 5)",
                "#0 = :0 AND #1 <= :1",
            ),
        ] {
            let way = way(columns, conditions);
            assert_eq!(way.ask.shown, shown);
            assert_eq!(way.queries.unwrap()[0].text, key, "{shown}");
        }
        let ids = ["a", "b", "a"].map(|id| Literal::Text(id.into()).into()).to_vec();
        let sorts = ["1", "2"].map(|at| Literal::Number(at.into()).into()).to_vec();
        let both = vec![Condition::leaf(Test::OneOf, "id", ids), Condition::leaf(Test::OneOf, "at", sorts)];
        assert_eq!(way(&["id"], both).queries.unwrap().len(), 4);
        let none = vec![equal("id", "a"), number("at", Greater, "7"), number("at", Less, "5")];
        assert!(way(&["id"], none).queries.unwrap().is_empty());
    }

    #[test]
    fn other_conditions_are_scanned() {
        for (columns, conditions) in [
            (&["id"][..], vec![]),
            (&["id"], vec![number("at", Test::Equal, "5")]),
            (&["id"], vec![equal("id", "")]),
            (&["id"], vec![number("id", Test::Equal, "5")]),
            (&["id"], vec![Condition::leaf(Test::Begins, "id", vec![Literal::Text("a".into()).into()])]),
            // The key of the index is needed by no condition, so the index may lack items.
            (&["id"], vec![equal("status", "a")]),
            // The index does not have the city.
            (&["city"], vec![equal("status", "a"), number("at", Test::Greater, "5")]),
            (&["id"], vec![equal("status", "a"), number("at", Test::Greater, "5"), equal("city", "x")]),
        ] {
            let way = way(columns, conditions);
            assert!(way.queries.is_none() && way.ask.shown.starts_with("scan"), "{}", way.ask.shown);
        }
        let counted = way(&[], vec![number("total", Test::Greater, "5")]);
        assert_eq!(
            (counted.ask.shown.as_str(), counted.ask.projection.as_str()),
            ("scan, select=COUNT, filter=(total > 5)", "")
        );
        let checked = way(&[], vec![equal("city", "x")]);
        assert!(!checked.ask.counts && checked.ask.shown.ends_with("checked=(city = 'x')"), "{}", checked.ask.shown);
        let (columns, conditions) = (vec!["id".to_string()], vec![equal("customer", "a")]);
        let consistent = Wanted { columns, conditions, limit: None, consistent: true, table: &table() };
        assert!(consistent.way().queries.is_none());
    }
}

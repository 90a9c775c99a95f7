//! Random queries, each of which must give DataFusion's own answer.
//!
//! Where DataFusion alone is wrong, it gets an equivalent query: [`Author::for_datafusion`].
//!
//! A query is a function of its seed, and so are its options. It has one right answer except for the order of tied rows: aggregates and windows that depend on
//! an order get one over all columns, and floating point numbers are chosen so that their sums are exact. `QUERIES=5000` asks more, `QUERIES_FROM=17` begins at
//! another seed than 0.

use crate::answer::Answer;
use crate::{Engine, SingleProcess};
use fastrand::Rng;
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use std::path::Path;

/// Names and types of the columns of all tables.
const COLUMNS: [(&str, Type); 9] = [
    ("k", Type::Int),
    ("n", Type::Int),
    ("s", Type::Text),
    ("d", Type::Date),
    ("m", Type::Decimal),
    ("f", Type::Float),
    ("b", Type::Bool),
    ("l", Type::Shown),
    ("o", Type::Shown),
];
/// Tables, with the number of rows in each of their files.
const TABLES: [(&str, &[u32]); 7] = [
    ("many", &[70, 1, 90, 39]),
    ("few", &[11, 14]),
    ("skewed", &[60, 60]),
    ("one", &[1]),
    ("none", &[0]),
    ("folders", &[50, 30]),
    ("sorted", &[40, 25, 1]),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Int,
    Text,
    Date,
    Decimal,
    Float,
    Bool,
    /// For output only, not for computation: lists, and numbers whose last digits depend on the order of rows.
    Shown,
}

const COMPUTED: [Type; 6] = [Type::Int, Type::Text, Type::Date, Type::Decimal, Type::Float, Type::Bool];

/// A column in scope, by its name in expressions.
type Column = (String, Type);

/// Writer of random queries.
pub(crate) struct Author {
    rng: Rng,
    /// Names of tables, and columns that all of them have.
    tables: Vec<&'static str>,
    columns: &'static [(&'static str, Type)],
    /// Whether every query has one right answer, in one order if it has any, even for an engine that breaks ties differently.
    determined: bool,
    aliases: u32,
    /// Names and columns of the common table expressions of the query.
    shared: Vec<(String, Vec<Type>)>,
    /// Whether queries that DataFusion alone answers wrongly are written in an equivalent form.
    spelled_out: bool,
}

/// Fills a folder for each table.
async fn write_tables(reference: &SingleProcess, folder: &Path) {
    for (table, files) in TABLES {
        let mut first = 1;
        for (file, rows) in files.iter().enumerate() {
            let distinct = if table == "skewed" { 3 } else { 23 };
            let (sorted, to, partitioned) = match table {
                "folders" => ("", String::new(), "partitioned by (s)"),
                "sorted" => ("order by n nulls last, k", format!("{file}.parquet"), ""),
                _ => ("", format!("{file}.parquet"), ""),
            };
            let copy = format!(
                "copy (select
                    cast(nullif(v * 7919 % {distinct}, 5) as int) as k,
                    nullif(v * 104729 % 1000 - 300, 7) as n,
                    nullif(substr(md5(cast(v % 41 as varchar)), 1, cast(1 + v % 4 as bigint)), 'c') as s,
                    date '2013-01-01' + cast(cast(v * 31 % 400 as varchar) || ' days' as interval) as d,
                    cast(nullif(v * 613 % 900, 3) as decimal(12, 2)) / 4 as m,
                    nullif(cast(v * 433 % 64 as double), 9) / 4 as f,
                    nullif(v % 3, 2) = 1 as b,
                    case when v % 5 > 0 then [v % 7, null, v % 2] end as l,
                    named_struct('x', nullif(v % 9, 4), 'y', cast(v % 13 as varchar)) as o
                from (select value as v from generate_series({first}, {})) {sorted})
                to '{}/{table}/{to}' stored as parquet {partitioned}",
                first + rows - 1,
                folder.display()
            );
            reference.sql(&copy).await.expect("a table can be written");
            first += rows;
        }
    }
}

async fn create_tables(engine: &dyn Engine, folder: &Path) {
    for (table, _) in TABLES {
        let location = folder.join(table);
        let declared = match table {
            "folders" => "partitioned by (s)",
            "sorted" => "with order (n asc nulls last, k asc nulls last)",
            _ => "",
        };
        let create =
            format!("create external table {table} stored as parquet {declared} location '{}/'", location.display());
        engine.sql(&create).await.expect("a table can be made");
    }
}

impl Author {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            tables: TABLES.iter().map(|(table, _)| *table).collect(),
            columns: &COLUMNS,
            determined: false,
            aliases: 0,
            shared: Vec::new(),
            spelled_out: false,
        }
    }

    /// Writes queries over tables that lack the last two columns, for engines other than DataFusion.
    #[cfg(test)]
    pub(crate) fn of_tables(seed: u64, tables: &[&'static str]) -> Self {
        Self { tables: tables.to_vec(), columns: &COLUMNS[..7], determined: true, ..Self::new(seed) }
    }

    /// Writes the same queries in the form for DataFusion alone.
    fn for_datafusion(self) -> Self {
        Self { spelled_out: true, ..self }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.u32(0..100) < percent
    }

    fn one_of<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.rng.usize(0..of.len())].clone()
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("t{}", self.aliases)
    }

    /// Writes a whole query.
    pub(crate) fn statement(&mut self) -> String {
        let mut with = Vec::new();
        while self.chance(20) {
            let (query, types) = self.query(2, None);
            let name = format!("shared{}", self.shared.len());
            with.push(format!("{name} as ({query})"));
            self.shared.push((name, types));
        }
        let (mut query, types) = self.query(3, None);
        if !with.is_empty() {
            query = format!("with {} {query}", with.join(", "));
        }
        if self.chance(60) {
            let keys = (0..types.len()).filter(|at| types[*at] != Type::Shown).map(|at| (at + 1).to_string());
            let mut keys: Vec<String> = keys.collect();
            self.rng.shuffle(&mut keys);
            let kept = self.rng.usize(1..4);
            if !self.determined {
                keys.truncate(kept);
            } else if keys.len() < types.len() {
                return query;
            }
            if !keys.is_empty() {
                let keys: Vec<String> = keys.into_iter().map(|key| self.ordered(key)).collect();
                query += &format!(" order by {}", keys.join(", "));
                if self.chance(50) {
                    query += &format!(" limit {}", self.rng.u32(0..30));
                    if self.chance(40) {
                        query += &format!(" offset {}", self.rng.u32(0..12));
                    }
                }
            }
        } else if self.chance(15) && !self.determined {
            query += &format!(" limit {}", self.rng.u32(0..30));
        }
        query
    }

    fn ordered(&mut self, key: String) -> String {
        let direction = self.one_of(&["", " desc", " asc nulls first", " desc nulls last"]);
        format!("{key}{direction}")
    }

    /// Writes a query; returns it with the types of its columns, which are called c0, c1 and so on.
    fn query(&mut self, depth: u32, types: Option<&[Type]>) -> (String, Vec<Type>) {
        if depth > 0 && self.chance(15) {
            let (left, types) = self.query(depth - 1, types);
            if !types.contains(&Type::Shown) {
                let (right, _) = self.query(depth - 1, Some(&types));
                let how = ["union all", "union", "intersect", "except", "intersect all", "except all"];
                let how = self.one_of(&how);
                return (self.set_operation(&left, how, &right, types.len()), types);
            }
            return (left, types);
        }
        let (from, scope) = self.relation(depth);
        let mut rest = String::new();
        if self.chance(55) {
            rest += &format!(" where {}", self.predicate(&scope, depth));
        }
        if types.is_none() && self.chance(40) {
            return self.grouped(&from, &rest, &scope);
        }
        let shows = scope.iter().any(|(_, kind)| *kind == Type::Shown);
        let wanted: Vec<Type> = match types {
            Some(types) => types.to_vec(),
            None => (0..self.rng.usize(1..5)).map(|_| self.one_of(&COMPUTED)).collect(),
        };
        let mut selected: Vec<Column> =
            wanted.iter().map(|kind| (self.expression(&scope, *kind, depth), *kind)).collect();
        if types.is_none() && scope.iter().any(|(_, kind)| *kind != Type::Shown) && self.chance(25) {
            for _ in 0..self.rng.usize(1..3) {
                let window = self.window(&scope);
                selected.push(window);
            }
        } else if types.is_none() && shows && self.chance(50) {
            selected.extend(scope.iter().find(|(_, kind)| *kind == Type::Shown).cloned());
        }
        let types: Vec<Type> = selected.iter().map(|(_, kind)| *kind).collect();
        let distinct = if self.chance(12) && !types.contains(&Type::Shown) { "distinct " } else { "" };
        let list = list(&selected);
        let mut query = format!("select {distinct}{list} from {from}{rest}");
        if depth < 3 && self.chance(15) && !types.contains(&Type::Shown) {
            let keys: Vec<String> = (1..=types.len()).map(|at| self.ordered(at.to_string())).collect();
            query += &format!(" order by {} limit {}", keys.join(", "), self.rng.u32(1..40));
        }
        (query, types)
    }

    /// Writes a set operation. Numbers the copies of a row where ALL would not count them.
    fn set_operation(&self, left: &str, how: &str, right: &str, columns: usize) -> String {
        match how.strip_suffix(" all").filter(|how| self.spelled_out && *how != "union") {
            None => format!("({left}) {how} ({right})"),
            Some(how) => {
                let columns: Vec<String> = (0..columns).map(|at| format!("c{at}")).collect();
                let columns = columns.join(", ");
                let number = |query| {
                    format!(
                        "select *, row_number() over (partition by {columns}) as copy from ({query}) as side({columns})"
                    )
                };
                format!("select {columns} from (({}) {how} ({})) as numbered", number(left), number(right))
            }
        }
    }

    fn grouped(&mut self, from: &str, rest: &str, scope: &[Column]) -> (String, Vec<Type>) {
        let mut keys: Vec<Column> = Vec::new();
        for _ in 0..self.rng.usize(0..4) {
            let kind = self.one_of(&[Type::Int, Type::Text, Type::Date, Type::Bool]);
            let key = (self.simple(scope, kind), kind);
            if scope.iter().any(|(name, _)| *name == key.0) && !keys.contains(&key) {
                keys.push(key);
            }
        }
        let mut aggregates: Vec<Column> = (0..self.rng.usize(1..4)).map(|_| self.aggregate(scope)).collect();
        let names: Vec<&str> = keys.iter().map(|(name, _)| name.as_str()).collect();
        let by = match (names.len(), self.rng.u32(0..10)) {
            (0, _) => String::new(),
            (1.., 0) => format!(" group by rollup ({})", names.join(", ")),
            (1.., 1) => format!(" group by cube ({})", names.join(", ")),
            (2.., 2) => format!(" group by grouping sets (({}), ({}), ())", names.join(", "), names[0]),
            _ => format!(" group by {}", names.join(", ")),
        };
        let having = match self.rng.u32(0..10) {
            0 | 1 => format!(" having count(*) > {}", self.rng.u32(0..6)),
            2 => format!(" having {} is not null", self.aggregate(scope).0),
            _ => String::new(),
        };
        let mut selected = keys;
        selected.append(&mut aggregates);
        let types = selected.iter().map(|(_, kind)| *kind).collect();
        (format!("select {} from {from}{rest}{by}{having}", list(&selected)), types)
    }

    fn aggregate(&mut self, scope: &[Column]) -> Column {
        let int = self.simple(scope, Type::Int);
        let kind = self.one_of(&COMPUTED[..5]);
        let any = self.simple(scope, kind);
        let (call, kind) = match self.rng.u32(0..24) {
            0 | 1 => ("count(*)".to_string(), Type::Int),
            2 => (format!("count({any})"), Type::Int),
            3 | 4 => (format!("count(distinct {any})"), Type::Int),
            5 | 6 => (format!("sum({int})"), Type::Int),
            7 => (format!("sum(distinct {int})"), Type::Int),
            8 | 9 => (format!("min({any})"), kind),
            10 | 11 => (format!("max({any})"), kind),
            12 => (format!("avg({int})"), Type::Shown),
            13 => (format!("sum({})", self.simple(scope, Type::Decimal)), Type::Decimal),
            14 => (format!("sum({})", self.simple(scope, Type::Float)), Type::Float),
            15 => (format!("stddev({})", self.simple(scope, Type::Float)), Type::Shown),
            16 => (format!("bool_or({})", self.simple(scope, Type::Bool)), Type::Bool),
            17 => {
                let text = self.simple(scope, Type::Text);
                (format!("string_agg({text}, ',' order by {text})"), Type::Text)
            }
            18 => (format!("array_agg({int} order by {int} desc nulls last)"), Type::Shown),
            19 => (format!("median({int})"), Type::Int),
            20 => (format!("array_agg(distinct {int} order by {int})"), Type::Shown),
            21 => (format!("bit_xor({int})"), Type::Int),
            22 => (format!("corr({int}, {})", self.simple(scope, Type::Float)), Type::Shown),
            _ => (format!("first_value({any} order by {any} desc nulls last)"), kind),
        };
        if self.chance(15) {
            let only = self.comparison(scope);
            return (format!("{call} filter (where {only})"), kind);
        }
        (call, kind)
    }

    /// Writes a window function whose value depends only on the rows: rows that tie in its order are equal.
    fn window(&mut self, scope: &[Column]) -> Column {
        let computed = scope.iter().filter(|(_, kind)| *kind != Type::Shown);
        let mut order: Vec<String> = computed.map(|(name, _)| name.clone()).collect();
        self.rng.shuffle(&mut order);
        let total: Vec<String> = order.iter().map(|name| self.ordered(name.clone())).collect();
        let total = total.join(", ");
        let partition = match self.chance(60) {
            true => {
                let kind = self.one_of(&[Type::Int, Type::Text, Type::Bool]);
                format!("partition by {} ", self.simple(scope, kind))
            }
            false => String::new(),
        };
        let int = self.simple(scope, Type::Int);
        let kind = self.one_of(&COMPUTED);
        let any = self.simple(scope, kind);
        let rows = format!("rows between {} preceding and {} following", self.rng.u32(0..4), self.rng.u32(0..4));
        let (text, kind) = match self.rng.u32(0..12) {
            0 => (format!("row_number() over ({partition}order by {total})"), Type::Int),
            1 => (format!("rank() over ({partition}order by {any})"), Type::Int),
            2 => (format!("dense_rank() over ({partition}order by {any} desc)"), Type::Int),
            3 => (format!("lag({any}, {}) over ({partition}order by {total})", self.rng.u32(1..4)), kind),
            4 => (format!("lead({any}) over ({partition}order by {total})"), kind),
            5 => (format!("sum({int}) over ({partition}order by {any})"), Type::Int),
            6 => (format!("sum({int}) over ({partition}order by {total} {rows})"), Type::Int),
            7 => (format!("count({any}) over ({partition})"), Type::Int),
            8 => (format!("first_value({any}) over ({partition}order by {total})"), kind),
            9 => (format!("last_value({any}) over ({partition}order by {total} {rows})"), kind),
            10 => (format!("ntile({}) over ({partition}order by {total})", self.rng.u32(1..6)), Type::Int),
            _ => (format!("max({any}) over ({partition}order by {total} {rows})"), kind),
        };
        (text, kind)
    }

    /// Writes a relation; returns it with its columns.
    fn relation(&mut self, depth: u32) -> (String, Vec<Column>) {
        if depth > 0 && self.chance(45) {
            return self.join(depth);
        }
        let alias = self.alias();
        let named = |types: &[Type]| -> Vec<Column> {
            types.iter().enumerate().map(|(at, kind)| (format!("{alias}.c{at}"), *kind)).collect()
        };
        match self.rng.u32(0..100) {
            0..25 if depth > 0 => {
                let (query, types) = self.query(depth - 1, None);
                (format!("({query}) as {alias}"), named(&types))
            }
            25..40 if !self.shared.is_empty() => {
                let (name, types) = self.shared[self.rng.usize(0..self.shared.len())].clone();
                (format!("{name} as {alias}"), named(&types))
            }
            40..44 => {
                let to = self.rng.u32(1..40);
                let series = format!("(select value as c0 from generate_series(1, {to})) as {alias}");
                (series, named(&[Type::Int]))
            }
            44..46 => {
                let steps =
                    "select 1 as c0, 'a' as c1 union all select c0 + 2, concat(c1, 'b') from steps where c0 < 12";
                let steps = format!("(with recursive steps as ({steps}) select c0, c1 from steps) as {alias}");
                (steps, named(&[Type::Int, Type::Text]))
            }
            46..48 => {
                let rows = "(1, 'a'), (2, null), (null, 'b'), (4, 'a')";
                (format!("(values {rows}) as {alias}(c0, c1)"), named(&[Type::Int, Type::Text]))
            }
            48..51 => {
                let unnested =
                    format!("(select k as c0, unnest([n, k, null]) as c1, s as c2 from {}) as {alias}", self.tables[1]);
                (unnested, named(&[Type::Int, Type::Int, Type::Text]))
            }
            _ => {
                let table = self.tables[self.rng.usize(0..self.tables.len())];
                let columns = self.columns.iter().map(|(name, kind)| (format!("{alias}.{name}"), *kind)).collect();
                (format!("{table} as {alias}"), columns)
            }
        }
    }

    fn join(&mut self, depth: u32) -> (String, Vec<Column>) {
        let (left, left_scope) = self.relation(depth - 1);
        let (right, right_scope) = self.relation(depth - 1);
        let kinds = [
            "join",
            "join",
            "join",
            "left join",
            "left join",
            "right join",
            "full join",
            "left semi join",
            "left anti join",
            "right semi join",
            "right anti join",
        ];
        let how = self.one_of(&kinds);
        let pair = self.pair(&left_scope, &right_scope);
        let both: Vec<Column> = left_scope.iter().chain(&right_scope).cloned().collect();
        let on = match pair {
            Some((a, b)) => {
                let equal = if self.chance(6) { "is not distinct from" } else { "=" };
                // Parentheses, because the operand of DISTINCT FROM would extend too far.
                let mut on = format!("({a} {equal} {b})");
                if self.chance(25) {
                    on += &format!(" and {}", self.comparison(&both));
                }
                if self.chance(10)
                    && let Some((a, b)) = self.pair(&left_scope, &right_scope)
                {
                    on += &format!(" and {a} <> {b}");
                }
                on
            }
            None => self.comparison(&both),
        };
        let scope = match how {
            "left semi join" | "left anti join" => left_scope,
            "right semi join" | "right anti join" => right_scope,
            _ => both,
        };
        let right = if right.contains(" on ") { format!("({right})") } else { right };
        (format!("{left} {how} {right} on {on}"), scope)
    }

    /// Columns of one type, one from each side.
    fn pair(&mut self, left: &[Column], right: &[Column]) -> Option<(String, String)> {
        let mut pairs = Vec::new();
        for (a, kind) in left.iter().filter(|(_, kind)| !matches!(kind, Type::Shown | Type::Bool)) {
            let of_kind = right.iter().filter(|(_, other)| other == kind);
            pairs.extend(of_kind.map(|(b, _)| (a.clone(), b.clone())));
        }
        (!pairs.is_empty()).then(|| self.one_of(&pairs))
    }

    /// Writes a truth value over the columns.
    fn predicate(&mut self, scope: &[Column], depth: u32) -> String {
        match self.rng.u32(0..20) {
            0 | 1 => format!("({} and {})", self.predicate(scope, depth), self.comparison(scope)),
            2 | 3 => format!("({} or {})", self.comparison(scope), self.comparison(scope)),
            4 => format!("not ({})", self.comparison(scope)),
            5..=8 if depth > 0 => self.subquery(scope, depth),
            9 if depth > 0 => format!("({} or {})", self.comparison(scope), self.subquery(scope, depth)),
            _ => self.comparison(scope),
        }
    }

    fn comparison(&mut self, scope: &[Column]) -> String {
        let kind = self.one_of(&COMPUTED);
        let one = self.simple(scope, kind);
        match (self.rng.u32(0..10), kind) {
            (0, _) => format!("{one} is null"),
            (1, _) => format!("{one} is not null"),
            (2, Type::Text) => format!("{one} like '%{}%'", self.rng.char('0'..='9')),
            (_, Type::Bool) => one,
            (3, _) => format!("{one} in ({}, {})", self.literal(kind), self.literal(kind)),
            (4, _) => format!("{one} not in ({}, {})", self.literal(kind), self.literal(kind)),
            (5, _) => format!("{one} between {} and {}", self.literal(kind), self.literal(kind)),
            (roll, _) => {
                let than = self.one_of(&["=", "<>", "<", "<=", ">", ">="]);
                let other = if roll < 8 { self.literal(kind) } else { self.simple(scope, kind) };
                format!("{one} {than} {other}")
            }
        }
    }

    fn subquery(&mut self, scope: &[Column], depth: u32) -> String {
        let (from, inner) = self.relation(depth.min(2) - 1);
        let only = if self.chance(40) { format!(" where {}", self.comparison(&inner)) } else { String::new() };
        let and = if only.is_empty() { " where" } else { " and" };
        match (self.rng.u32(0..4), self.pair(scope, &inner)) {
            (0, Some((a, b))) => {
                let exists = self.one_of(&["exists", "not exists"]);
                format!("{exists} (select 1 from {from}{only}{and} {a} = {b})")
            }
            (1, Some((a, b))) => {
                let within = self.one_of(&["in", "not in"]);
                if within == "not in" && self.spelled_out {
                    let none = format!("not exists (select 1 from {from}{only})");
                    let known = format!("not exists (select 1 from {from}{only}{and} {b} is null)");
                    let other = format!("not exists (select 1 from {from}{only}{and} {a} = {b})");
                    return format!("({none} or {a} is not null and {known} and {other})");
                }
                format!("{a} {within} (select {b} from {from}{only})")
            }
            (2, Some((a, b))) => {
                let than = self.one_of(&["<", ">=", "="]);
                format!("{a} {than} (select max({b}) from {from}{only})")
            }
            (3, Some((a, b))) => {
                let count = self.rng.u32(0..4);
                format!("{count} < (select count(*) from {from}{only}{and} {a} = {b})")
            }
            _ => format!("exists (select 1 from {from}{only})"),
        }
    }

    /// Writes a value of this type from the columns.
    fn expression(&mut self, scope: &[Column], kind: Type, depth: u32) -> String {
        let one = self.simple(scope, kind);
        match (self.rng.u32(0..24), kind) {
            (0, _) => format!("coalesce({one}, {})", self.literal(kind)),
            (1, _) => {
                let when = self.comparison(scope);
                format!("case when {when} then {one} else {} end", self.simple(scope, kind))
            }
            (2, _) => format!("nullif({one}, {})", self.literal(kind)),
            (3, Type::Int) => format!("{one} % {}", self.rng.u32(2..9)),
            (4, Type::Int) => format!("{one} + {}", self.simple(scope, kind)),
            (5, Type::Int) => format!("cast(length({}) as bigint)", self.simple(scope, Type::Text)),
            (6, Type::Int) => format!("cast(extract(month from {}) as bigint)", self.simple(scope, Type::Date)),
            (7, Type::Int) if depth > 0 => {
                let (from, inner) = self.relation(0);
                match self.pair(scope, &inner) {
                    Some((a, b)) => format!("(select count(*) from {from} where {a} = {b})"),
                    None => format!("(select count(*) from {from})"),
                }
            }
            (3, Type::Text) => format!("upper({one})"),
            (4, Type::Text) => format!("substr({one}, 1, 1)"),
            (5, Type::Text) => format!("concat({one}, '-', {})", self.simple(scope, kind)),
            (6, Type::Text) => format!("cast({} as varchar)", self.simple(scope, Type::Int)),
            (3, Type::Date) => format!("cast(date_trunc('month', {one}) as date)"),
            (3, Type::Decimal | Type::Float) => format!("abs({one})"),
            (4, Type::Decimal | Type::Float) => format!("{one} + {}", self.simple(scope, kind)),
            (3..=5, Type::Bool) => format!("({})", self.comparison(scope)),
            _ => one,
        }
    }

    /// A column of this type, or a literal when there is none.
    fn simple(&mut self, scope: &[Column], kind: Type) -> String {
        let of_kind: Vec<&Column> = scope.iter().filter(|(_, other)| *other == kind).collect();
        match of_kind.is_empty() {
            true => self.literal(kind),
            false => self.one_of(&of_kind).0.clone(),
        }
    }

    fn literal(&mut self, kind: Type) -> String {
        match kind {
            Type::Int => self.rng.i32(-3..30).to_string(),
            Type::Text => format!("'{}'", self.one_of(&["", "c", "e4", "70", "a87f"])),
            Type::Date => format!("date '2013-{:02}-{:02}'", self.rng.u32(1..13), self.rng.u32(1..29)),
            Type::Decimal => format!("cast({}.25 as decimal(12, 2))", self.rng.u32(0..200)),
            Type::Float => format!("cast({}.5 as double)", self.rng.u32(0..16)),
            Type::Bool => self.one_of(&["true", "false", "cast(null as boolean)"]).to_string(),
            Type::Shown => "null".to_string(),
        }
    }
}

fn list(selected: &[Column]) -> String {
    let named = selected.iter().enumerate().map(|(at, (text, _))| format!("{text} as c{at}"));
    named.collect::<Vec<_>>().join(", ")
}

/// Options under which small tables are treated like large ones, in all combinations.
pub(crate) fn options(seed: u64) -> Vec<String> {
    let mut rng = Rng::with_seed(seed);
    let mut set = |option: &str, values: &[&str]| format!("set {option} = {}", values[rng.usize(0..values.len())]);
    vec![
        set("windlass.small_query_bytes", &["0", "0", "0", "8388608"]),
        set("windlass.tasks_per_slot", &["1", "2", "3"]),
        set("windlass.broadcast_bytes", &["0", "8388608"]),
        set("windlass.broadcast_rows", &["0", "262144"]),
        set("windlass.broadcast_from_bytes", &["0", "402653184"]),
        set("windlass.semi_join_from_bytes", &["0", "67108864"]),
        set("windlass.range_sort_rows", &["0", "262144"]),
        set("windlass.inline_result_bytes", &["0", "1048576"]),
        set("datafusion.optimizer.repartition_file_min_size", &["1", "10485760"]),
        set("datafusion.optimizer.prefer_hash_join", &["true", "true", "false"]),
        set("datafusion.execution.batch_size", &["8192", "8192", "5"]),
        set("datafusion.execution.parquet.pushdown_filters", &["false", "true"]),
        set("datafusion.optimizer.prefer_existing_sort", &["false", "true"]),
        set("datafusion.optimizer.preserve_file_partitions", &["0", "0", "1"]),
        set("datafusion.optimizer.enable_dynamic_filter_pushdown", &["true", "true", "false"]),
    ]
}

/// Returns DataFusion's answer, or an error when it panics.
async fn or_panic<T>(answer: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| Err("DataFusion panics".to_string()))
}

/// Error of DataFusion alone with the options and as many partitions as a cluster may have; such an error is not a fault of Windlass.
async fn fails_alone(query: &str, answer: &Answer, options: &[String], folder: &Path) -> Option<String> {
    for partitions in [1, 4, 8, 12] {
        let alone = SingleProcess::with_partitions(partitions);
        create_tables(&alone, folder).await;
        // Windlass does not repartition rows between stages only to spread them.
        let spread = "set datafusion.optimizer.enable_round_robin_repartition = false".to_string();
        let single = "datafusion.optimizer.hash_join_single_partition_threshold";
        let alike = |option: &String| {
            let option = option.replace("windlass.broadcast_bytes", single);
            option.replace("windlass.broadcast_rows", &format!("{single}_rows"))
        };
        // Without options that the planner ignores.
        let heeded =
            |option: &String| option.starts_with("set datafusion.") && !option.contains("preserve_file_partitions");
        let options = options.iter().map(alike).filter(heeded);
        for option in options.chain([spread]) {
            alone.sql(&option).await.expect("the option can be set");
        }
        let answered = or_panic(alone.sql(query)).await;
        if let Err(error) = answered.and_then(|(schema, batches)| answer.check(&schema, &batches)) {
            return Some(error);
        }
    }
    None
}

/// Runs queries on `engine` and compares the answers.
///
/// # Panics
/// When an answer is wrong; the message lists all wrong ones. When DataFusion refuses so many queries that little is compared.
pub async fn run(engine: &dyn Engine) {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => default,
    };
    let (from, count) = (number("QUERIES_FROM", 0), number("QUERIES", 150));
    let folder = tempfile::tempdir().expect("a folder can be made");
    let reference = SingleProcess::new();
    write_tables(&reference, folder.path()).await;
    create_tables(&reference, folder.path()).await;
    create_tables(engine, folder.path()).await;
    let (mut wrong, mut compared, mut refused) = (Vec::new(), 0, Vec::new());
    for seed in from..from + count {
        let query = Author::new(seed).statement();
        let alike = Author::new(seed).for_datafusion().statement();
        let answer = async { Answer::to(&alike, reference.context()).await.map_err(|error| error.strip_backtrace()) };
        let answer = match or_panic(answer).await {
            Ok(answer) => answer,
            Err(error) => {
                refused.push(format!("seed {seed}: {error}\n{alike}"));
                continue;
            }
        };
        let options = options(seed);
        for option in &options {
            engine.sql(option).await.expect("the option can be set");
        }
        let mut outcome = engine.sql(&query).await;
        // EXPLAIN ANALYZE must work for a query that runs.
        if seed % 10 == 0
            && outcome.is_ok()
            && let Err(why) = engine.sql(&format!("explain analyze {query}")).await
        {
            outcome = Err(format!("EXPLAIN ANALYZE: {why}"));
        }
        if let Err(why) = outcome.and_then(|(schema, batches)| answer.check(&schema, &batches)) {
            if let Some(error) = fails_alone(&alike, &answer, &options, folder.path()).await {
                refused.push(format!("seed {seed}: {error}\n{query}"));
                continue;
            }
            let options = options.join("; ");
            wrong.push(format!("seed {seed}: {why}\n{options};\n{query};"));
        }
        compared += 1;
    }
    for (table, _) in TABLES {
        engine.sql(&format!("drop table {table}")).await.expect("a table can be dropped");
    }
    if std::env::var_os("QUERIES").is_some() {
        println!("{}", refused.join("\n"));
    }
    let summary = format!("{} of {compared} answers of {} are wrong", wrong.len(), engine.name());
    assert!(wrong.is_empty(), "{summary}\n{}", wrong.join("\n\n"));
    assert!(
        compared * 10 >= count * 9,
        "DataFusion refuses {} of {count} queries:\n{}",
        refused.len(),
        refused.join("\n")
    );
}

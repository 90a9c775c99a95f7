//! Statements that are deep, long or wide, and their limits. A script makes each of them, like those of code generators.

use crate::Engine;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// A statement with one value, and that value or a text of its error.
struct Case {
    name: String,
    sql: String,
    wanted: Result<String, &'static str>,
}

fn gives(name: impl Into<String>, sql: impl Into<String>, value: impl ToString) -> Case {
    Case { name: name.into(), sql: sql.into(), wanted: Ok(value.to_string()) }
}

fn refused(name: &str, sql: impl Into<String>, words: &'static str) -> Case {
    Case { name: name.to_owned(), sql: sql.into(), wanted: Err(words) }
}

const DEPTH: &str = "primary.depth_limit";
const SIZE: &str = "primary.size_limit";

/// Tables that the cases read: 1,000 numbers, and four.
const TABLES: [&str; 2] = [
    "create table numbers as select value as v, 'x' || value as s from generate_series(1, 1000)",
    "create table four as select value as v from generate_series(1, 4)",
];

/// Runs all of them on an engine without other tables.
///
/// # Panics
/// When an answer is wrong; the message lists all wrong ones.
pub async fn run(engine: &dyn Engine) {
    let views = views(60);
    for sql in TABLES.into_iter().chain(views.iter().map(String::as_str)) {
        engine.sql(sql).await.unwrap_or_else(|error| panic!("{}: {sql}: {error}", engine.name()));
    }
    let mut wrong = Vec::new();
    for Case { name, sql, wanted } in cases() {
        let began = std::time::Instant::now();
        let answer = value(engine, &sql).await;
        println!("{}: {name}: {} ms", engine.name(), began.elapsed().as_millis());
        let right = match (&wanted, &answer) {
            (Ok(wanted), Ok(answer)) => wanted == answer,
            (Err(words), Err(error)) => error.contains(words),
            _ => false,
        };
        if !right {
            wrong.push(format!("{name}: {answer:?} in the place of {wanted:?}"));
        }
    }
    for number in (0..views.len()).rev() {
        engine.sql(&format!("drop view layer{number}")).await.expect("a view can be dropped");
    }
    for table in ["numbers", "four"] {
        engine.sql(&format!("drop table {table}")).await.expect("a table can be dropped");
    }
    assert!(wrong.is_empty(), "{}: {} answers are wrong:\n{}", engine.name(), wrong.len(), wrong.join("\n"));
}

async fn value(engine: &dyn Engine, sql: &str) -> Result<String, String> {
    let (_, batches) = engine.sql(sql).await?;
    let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
    let Some(batch) = batches.iter().find(|batch| batch.num_rows() == 1).filter(|_| rows == 1) else {
        return Ok(format!("{rows} rows"));
    };
    let options = FormatOptions::new();
    let column = ArrayFormatter::try_new(batch.column(0).as_ref(), &options).map_err(|error| error.to_string())?;
    Ok(column.value(0).to_string())
}

/// Views over views.
fn views(count: usize) -> Vec<String> {
    let layer = |number: usize| match number {
        0 => "create view layer0 as select v, v as x from numbers where v > 0".to_owned(),
        n => format!("create view layer{n} as select v, x + 1 as x from layer{} where v > {n}", n - 1),
    };
    (0..count).map(layer).collect()
}

fn repeated(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect()
}

fn listed(count: usize, between: &str, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(between)
}

/// Common table expressions, each over the previous one, and a query of the last.
fn layers(count: usize, first: &str, next: impl Fn(usize) -> String, query: &str) -> String {
    let named = |number: usize| match number {
        0 => format!("c0 as ({first})"),
        n => format!("c{n} as ({})", next(n)),
    };
    format!("with {} {query} from c{}", listed(count, ", ", named), count - 1)
}

fn cases() -> Vec<Case> {
    let mut cases = expressions();
    cases.extend(operators());
    cases.extend(limits());
    cases
}

fn expressions() -> Vec<Case> {
    let sum = |operators: usize| {
        let chain = repeated(operators / 2, |_| " + v - v".to_owned());
        gives(format!("{operators} operators"), format!("select sum(v{chain}) from numbers"), 500_500)
    };
    let cases = repeated(40, |n| format!("case when v = {n} then {n} else ")) + "-1" + &" end".repeat(40);
    let pairs = listed(5_000, " or ", |n| format!("v = {n} and s <> 'a{n}'"));
    let columns = listed(4_000, ", ", |n| format!("v + {n} as c{n}"));
    vec![
        sum(60),
        sum(100),
        sum(300),
        sum(2_000),
        gives("3,000 terms", format!("select {}", listed(3_000, " + ", |_| "1".to_owned())), 3_000),
        gives("40 nested CASEs", format!("select sum({cases}) from numbers"), 780 - 961),
        gives("5,000 pairs", format!("select count(*) from numbers where {pairs}"), 1_000),
        gives(
            "a list of 60,000 numbers",
            format!("select count(*) from numbers where v in ({})", listed(60_000, ", ", |n| (2 * n).to_string())),
            500,
        ),
        gives(
            "a list of 5,000 texts",
            format!("select count(*) from numbers where s in ({})", listed(5_000, ", ", |n| format!("'x{}'", 2 * n))),
            500,
        ),
        gives("4,000 columns", format!("select c3999 - c0 from (select {columns} from numbers) where c7 = 8"), 3_999),
        gives("a large constant", "select length(repeat('x', 20000000))", 20_000_000),
        gives("a large list", "select array_length(range(0, 3000000))", 3_000_000),
    ]
}

fn operators() -> Vec<Case> {
    let union = |count: usize| {
        let branches = listed(count, " union all ", |n| format!("select {n} as n"));
        gives(format!("{count} branches"), format!("select count(*) from ({branches})"), count)
    };
    let groups = |count: usize| {
        let next = |n: usize| format!("select v, sum(v) as s{n} from c{} group by v having sum(v) > 1", n - 1);
        gives(
            format!("{count} aggregates upon each other"),
            layers(count, "select v from numbers", next, "select count(*)"),
            999,
        )
    };
    let joins = |count: usize, kind: &str, on: &str, rows: usize| {
        let joined =
            repeated(count, |n| format!(" {kind} four t{} on {}", n + 1, on.replace('#', &(n + 1).to_string())));
        gives(format!("{count} times {kind}"), format!("select count(*) from four t0{joined}"), rows)
    };
    let ranks = |n: usize| format!("select v, row_number() over (order by r desc) as r from c{}", n - 1);
    let differences = listed(100, " except ", |n| format!("select v + {n} from numbers"));
    vec![
        union(300),
        union(590),
        union(3_000),
        groups(40),
        groups(63),
        groups(100),
        joins(130, "left join", "t#.v = t0.v + #", 4),
        joins(180, "join", "t#.v = t0.v", 4),
        gives("40 windows", layers(40, "select v, v as r from numbers", ranks, "select sum(r)"), 500_500),
        gives("100 EXCEPTs", format!("select count(*) from ({differences})"), 1),
        gives("60 views", "select sum(x) - sum(v) from layer59", 59 * 941),
    ]
}

fn limits() -> Vec<Case> {
    let doubled = layers(40, "select v from four", |n| format!("select a.v from c{0} a, c{0} b", n - 1), "select 1");
    vec![
        refused("20,000 terms", format!("select {}", listed(20_000, " + ", |_| "1".to_owned())), DEPTH),
        refused("30,000 branches", listed(30_000, " union all ", |_| "select 1".to_owned()), DEPTH),
        refused("20,000 ORs", format!("select 1 where {}", listed(20_000, " or ", |n| format!("1 = {n}"))), DEPTH),
        refused("11,000 joins", format!("select 1 from four{}", " join four on true".repeat(11_000)), DEPTH),
        refused("40 inputs that are doubled", doubled, SIZE),
        refused(
            "a type of 3,000 levels",
            format!("select cast(null as {}int{})", "array<".repeat(3_000), ">".repeat(3_000)),
            "more than 50 levels deep",
        ),
        refused("1,100,000 rows", format!("values {}", listed(1_100_000, ",", |n| format!("({n})"))), SIZE),
        refused(
            "a large constant in VALUES",
            "select length(column1) from (values (repeat('x', 20000000)))",
            "write SELECT in the place of VALUES",
        ),
    ]
}

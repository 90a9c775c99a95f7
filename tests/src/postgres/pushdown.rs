//! Conditions that the server computes have the answers that Windlass gives.

use super::*;
use crate::asking::PATTERNS;
use fastrand::Rng;

/// What is generated for each column, and which literals conditions compare it with.
pub(super) const COLUMNS: [(&str, &str, &[&str]); 17] = [
    ("b", "bool", &["true", "false"]),
    ("i2", "int2", &["0", "-1", "7", "32767", "-32768"]),
    ("i4", "int4", &["0", "-1", "7", "2147483647", "-2147483648"]),
    ("i8", "int8", &["0", "-1", "7", "9223372036854775807", "-9223372036854775808"]),
    ("f4", "float4", &["0", "1.5", "-2.25", "'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "3.4e38"]),
    ("f8", "float8", &["0", "1.5", "-2.25", "'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "1e300"]),
    ("d", "numeric(10,2)", &["0", "1.50", "-2.25", "99999999.99", "-99999999.99"]),
    ("s", "text", TEXTS),
    ("v", "varchar(10)", TEXTS),
    ("c", "char(4)", &["''", "'a'", "'a '", "'B'", "'é'", "'abcd'", "'~'"]),
    ("ci", "text COLLATE ci", TEXTS),
    ("e", "mood", &["'sad'", "'ok'", "'Happy'"]),
    // No operator of the server compares it.
    ("js", "json", &["'{}'", "'[1]'", "'\"a\"'", "'{ }'"]),
    (
        "u",
        "uuid",
        &[
            "'00000000-0000-0000-0000-000000000000'",
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
            "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
        ],
    ),
    ("day", "date", &["'2024-02-29'", "'1970-01-01'", "'9999-12-31'", "'0001-01-01'"]),
    (
        "ts",
        "timestamp",
        &[
            "'2024-02-29 12:00:00.000001'",
            "'1969-12-31 23:59:59.999999'",
            "'9999-12-31 00:00:00'",
            "'0001-01-01 00:00:00'",
        ],
    ),
    (
        "tz",
        "timestamptz",
        &["'2024-02-29 12:00:00.5+00'", "'1969-12-31 23:59:59.999999+00'", "'2024-03-31 01:30:00+00'"],
    ),
];
const TEXTS: &[&str] = &[
    "''", "'a'", "'A'", "'b'", "'ab'", "'a b'", "'é'", "'e'", "'z'", "'Z'", "'_'", "'%'", "'ß'", "'a'' b'", "'𝄞'",
    "'a '",
];

/// As Windlass writes the literal of a column.
pub(super) fn literal(kind: &str, value: &str) -> String {
    match kind {
        "float4" => format!("{value}::real"),
        "float8" => format!("{value}::double"),
        "date" => format!("date {value}"),
        "timestamp" => format!("timestamp {value}"),
        "timestamptz" => format!("timestamptz {value}"),
        _ => value.to_string(),
    }
}

pub(super) fn condition(random: &mut Rng, depth: u32) -> String {
    if depth > 0 && random.u32(..3) > 0 {
        let op = if random.bool() { "AND" } else { "OR" };
        let both = format!("({} {op} {})", condition(random, depth - 1), condition(random, depth - 1));
        return if random.u32(..4) == 0 { format!("(NOT {both})") } else { both };
    }
    let (name, kind, values) = COLUMNS[random.usize(..COLUMNS.len())];
    let mut value = || literal(kind, values[random.usize(..values.len())]);
    let (one, two, three) = (value(), value(), value());
    let is_text = ["text", "varchar(10)", "char(4)", "text COLLATE ci", "mood"].contains(&kind);
    let not = if random.bool() { "NOT " } else { "" };
    match random.u32(..10) {
        0 => format!("{name} IS {not}NULL"),
        1 => format!("{name} {not}IN ({one}, {two}, {three})"),
        2 => format!("{name} {not}BETWEEN {one} AND {two}"),
        3 if is_text => format!("{name} {not}LIKE {}", PATTERNS[random.usize(..PATTERNS.len())]),
        4 if kind == "bool" => format!("{not}{name}"),
        5 if kind == "bool" => format!("{name} IS {not}TRUE"),
        n => {
            let op = ["=", "<>", "<", "<=", ">", ">="][random.usize(..6)];
            if n % 2 == 0 { format!("{name} {op} {one}") } else { format!("{one} {op} {name}") }
        }
    }
}

pub(super) fn table(random: &mut Rng, encoding: &str) -> String {
    let columns: Vec<String> = COLUMNS.iter().map(|(name, kind, _)| format!("{name} {kind}")).collect();
    let is_there = |value: &str| encoding == "UTF8" || !value.contains('𝄞');
    let row = |n: u32, random: &mut Rng| {
        let values = COLUMNS.iter().map(|(_, _, values)| {
            if random.u32(..6) == 0 {
                return "NULL".to_string();
            }
            let value = values[random.usize(..values.len())];
            if is_there(value) { value.to_string() } else { "'x'".to_string() }
        });
        format!("({n}, {})", values.collect::<Vec<_>>().join(", "))
    };
    let rows: Vec<String> = (0..400).map(|n| row(n, random)).collect();
    format!("CREATE TABLE random (n int, {}); INSERT INTO random VALUES {}", columns.join(", "), rows.join(", "))
}

/// The same random conditions with and without push-down. `QUERIES` of them, from the seed `QUERIES_FROM` on.
#[tokio::test(flavor = "multi_thread")]
async fn random_conditions_have_the_same_rows_pushed_down_or_not() {
    let number =
        |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (from, count) = (number("QUERIES_FROM", 0), number("QUERIES", 150));
    // A collation of its own for everything, and texts in another encoding than ours.
    for encoding in ["UTF8", "LATIN1"] {
        let server = &Postgres::start();
        scripted(server, &format!("CREATE DATABASE shop TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"));
        let random_table = table(&mut Rng::with_seed(from), encoding);
        let prepare = format!(
            "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
             CREATE TYPE mood AS ENUM ('sad', 'ok', 'Happy'); {random_table}; ANALYZE"
        );
        // Collations of ICU are there for UTF-8 and some others.
        in_database(server, "shop", &prepare);
        let session = embedded().await;
        let location = format!("postgresql://postgres@127.0.0.1:{}/shop", server.port());
        for (name, pushdown) in [("pushed", "on"), ("kept", "off")] {
            let create = format!(
                "CREATE EXTERNAL TABLE {name} STORED AS POSTGRES LOCATION '{location}' OPTIONS (table 'random', pushdown '{pushdown}')"
            );
            done(&session, &[&create]).await;
        }
        let (mut pushed, mut some) = (0, 0);
        for seed in from..from + count {
            let condition = condition(&mut Rng::with_seed(seed), 2);
            let ours = rows(&session, &format!("SELECT n FROM kept WHERE {condition} ORDER BY n")).await;
            let theirs = rows(&session, &format!("SELECT n FROM pushed WHERE {condition} ORDER BY n")).await;
            match (&ours, &theirs) {
                (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "seed {seed}, {encoding}: {condition}"),
                (Err(_), Err(_)) => {}
                _ => panic!("seed {seed}, {encoding}: {condition}: {ours:?} and {theirs:?}"),
            }
            some += usize::from(ours.is_ok_and(|rows| !rows.is_empty()));
            if seed % 10 == 0 {
                let plan =
                    sql(&session, &format!("EXPLAIN SELECT n FROM pushed WHERE {condition}")).await.unwrap_or_default();
                pushed += usize::from(plan.contains("WHERE"));
            }
        }
        // Conditions are sent, and find rows: else nothing is tried here.
        assert!(some as u64 > count / 3, "{some} of {count} find rows");
        assert!(pushed as u64 > count / 40, "{pushed} of {} are sent", count / 10);
    }
}

pub(super) fn in_database(server: &Postgres, database: &str, script: &str) {
    let mut psql = std::process::Command::new("psql");
    psql.args(["-h", "127.0.0.1", "-p", &server.port().to_string(), "-U", "postgres", "-d", database, "-X", "-q"]);
    psql.args(["-v", "ON_ERROR_STOP=1", "-c", script]).env("PGCLIENTENCODING", "UTF8");
    crate::cluster::succeed(psql);
}

/// EXPLAIN shows what is sent, and what is not stays above.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_is_shown() {
    let server = &Postgres::start();
    scripted(
        server,
        "CREATE TABLE orders (id int8 PRIMARY KEY, name text, price float8, code char(3), at timestamptz, amount numeric(10,2), few int2,
         less int4);
         INSERT INTO orders SELECT n, 'n' || n, n, 'a', now(), n, n, n FROM generate_series(1, 1000) n; ANALYZE orders",
    );
    let session = embedded().await;
    done(&session, &[&create(server, "o", "orders", "")]).await;
    for (query, sent, kept) in [
        (
            "SELECT id FROM o WHERE id > 5",
            r#"sql=SELECT "id" FROM "public"."orders" WHERE ("id" > '5'::pg_catalog.int8)"#,
            "",
        ),
        ("SELECT id FROM o WHERE name = 'n5'", r#"WHERE ("name" = 'n5')"#, ""),
        ("SELECT id FROM o WHERE name < 'n5'", r#"COLLATE "C" < 'n5')"#, ""),
        ("SELECT id FROM o WHERE amount >= 2.5", r#"("amount" >= '250e-2'::pg_catalog.numeric)"#, ""),
        ("SELECT id FROM o WHERE price > 0", r#"SELECT "id", "price" FROM "public"."orders""#, "FilterExec"),
        ("SELECT id FROM o WHERE upper(name) = 'N5' AND id < 9", r#"WHERE ("id" < '9'"#, "FilterExec"),
        ("SELECT id FROM o WHERE id > 5 LIMIT 3", "LIMIT 3", ""),
        ("SELECT count(*) FROM o WHERE id > 5", "SELECT pg_catalog.count(*) FROM", ""),
        ("SELECT avg(less), sum(less + 0), max(less) FROM o", r#"SELECT "less" FROM "public"."orders""#, ""),
        (
            "SELECT few, avg(less), sum(less), avg(amount) FROM o GROUP BY few",
            r#"SELECT "c1", pg_catalog.sum("c2"), pg_catalog.count("c2"), pg_catalog.sum("c2"), pg_catalog.sum("c0"), pg_catalog.count("c0")"#,
            "",
        ),
    ] {
        let plan = sql(&session, &format!("EXPLAIN {query}")).await.unwrap_or_else(|error| panic!("{query}: {error}"));
        let shown: String = plan.lines().map(|line| line.trim_matches(['|', ' '])).collect();
        assert!(shown.contains(sent), "{query}: {plan}");
        assert_eq!(plan.contains("FilterExec"), !kept.is_empty(), "{query}: {plan}");
    }
    let average =
        "SELECT avg(few), avg(less), avg(id), avg(amount), sum(few), sum(less), sum(id) FROM o WHERE id > 999";
    assert_eq!(answers(&session, average).await, "1000.0|1000.0|1000.0|1000.0000000000000000|1000|1000|1000");
    let none = "SELECT avg(few), avg(amount), sum(less), count(few) FROM o WHERE id > 1000";
    assert_eq!(answers(&session, none).await, "|||0");
    let (some, all) = (
        "SELECT count(*) FROM o WHERE id > 5 AND name LIKE 'n1%' AND at < now()",
        "SELECT count(*) FROM orders WHERE id > 5 AND name LIKE 'n1%'",
    );
    assert_eq!(answers(&session, some).await, scripted(server, all));
}

//! Conditions that the server computes have the answers that Windlass gives.

use super::*;
use crate::asking::PATTERNS;
use fastrand::Rng;

/// What is generated for each column, and which literals conditions compare it with.
pub(super) const COLUMNS: [(&str, &str, &[&str]); 20] = [
    ("b", "boolean", &["true", "false"]),
    ("i1", "tinyint", &["0", "-1", "7", "127", "-128"]),
    ("i2", "smallint unsigned", &["0", "1", "7", "65535"]),
    ("i4", "int", &["0", "-1", "7", "2147483647", "-2147483648"]),
    ("i8", "bigint", &["0", "-1", "7", "9223372036854775807", "-9223372036854775808"]),
    ("u8", "bigint unsigned", &["0", "1", "7", "9223372036854775808", "18446744073709551615"]),
    ("y", "year", &["0", "1901", "1970", "2005", "2155"]),
    ("f4", "float", &["0", "1.5", "-2.25", "-0.0", "3.25e38", "1.1"]),
    ("f8", "double", &["0", "1.5", "-2.25", "-0.0", "1e300", "1.1"]),
    ("d", "decimal(10,2)", &["0", "1.50", "-2.25", "99999999.99", "-99999999.99"]),
    ("w", "decimal(40,2)", &["0", "1.50", "-2.25"]),
    ("s", "text", TEXTS),
    ("v", "varchar(10) COLLATE utf8mb4_unicode_ci", TEXTS),
    ("bin", "varchar(10) COLLATE utf8mb4_bin", TEXTS),
    ("c", "char(4) CHARACTER SET latin1", &["''", "'a'", "'a '", "'B'", "'é'", "'abcd'", "'~'", "'e'"]),
    ("e", "enum('sad', 'ok', 'Happy', '')", &["'sad'", "'ok'", "'Happy'", "''", "'happy'"]),
    ("j", "uuid", &["'00000000-0000-0000-0000-000000000000'", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"]),
    ("day", "date", &["'2024-02-29'", "'1970-01-01'", "'9999-12-31'", "'1000-01-01'"]),
    (
        "ts",
        "datetime(6)",
        &[
            "'2024-02-29 12:00:00.000001'",
            "'1969-12-31 23:59:59.999999'",
            "'9999-12-31 00:00:00'",
            "'1000-01-01 00:00:00'",
        ],
    ),
    ("tz", "timestamp(6) NULL", &["'2024-02-29 12:00:00.5'", "'1975-12-31 23:59:59.999999'", "'2037-03-31 01:30:00'"]),
];
const TEXTS: &[&str] = &[
    "''", "'a'", "'A'", "'b'", "'ab'", "'a b'", "'é'", "'e'", "'z'", "'Z'", "'_'", "'%'", "'ß'", "'ss'", "'a'' b'",
    "'𝄞'", "'a '", "'\\'", "'a\t'",
];

/// As Windlass writes the literal of a column.
fn literal(kind: &str, value: &str) -> String {
    match kind.split(['(', ' ']).next().unwrap_or_default() {
        "float" => format!("{value}::real"),
        "double" => format!("{value}::double"),
        "date" => format!("date {value}"),
        "datetime" => format!("timestamp {value}"),
        "timestamp" => format!("timestamptz {}+00'", value.trim_end_matches('\'')),
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
    let is_text = values[0].starts_with('\'') && ["s", "v", "bin", "c", "e", "j"].contains(&name);
    let not = if random.bool() { "NOT " } else { "" };
    match random.u32(..10) {
        0 => format!("{name} IS {not}NULL"),
        1 => format!("{name} {not}IN ({one}, {two}, {three})"),
        2 => format!("{name} {not}BETWEEN {one} AND {two}"),
        3 if is_text => format!("{name} {not}LIKE {}", PATTERNS[random.usize(..PATTERNS.len())]),
        4 if kind == "boolean" => format!("{not}{name}"),
        5 if kind == "boolean" => format!("{name} IS {not}TRUE"),
        n => {
            let op = ["=", "<>", "<", "<=", ">", ">="][random.usize(..6)];
            if n % 2 == 0 { format!("{name} {op} {one}") } else { format!("{one} {op} {name}") }
        }
    }
}

pub(super) fn table(random: &mut Rng) -> String {
    let columns: Vec<String> = COLUMNS.iter().map(|(name, kind, _)| format!("{name} {kind}")).collect();
    let row = |n: u32, random: &mut Rng| {
        let values = COLUMNS.iter().map(|(_, _, values)| {
            if random.u32(..6) == 0 {
                return "NULL".to_string();
            }
            values[random.usize(..values.len())].replace('\\', "\\\\")
        });
        format!("({n}, {})", values.collect::<Vec<_>>().join(", "))
    };
    let rows: Vec<String> = (0..400).map(|n| row(n, random)).collect();
    format!(
        "CREATE TABLE random (n int PRIMARY KEY, {}); INSERT INTO random VALUES {}; ALTER TABLE random ADD INDEX (v), ADD INDEX (s(5)), \
         ADD INDEX (day), ADD INDEX (tz), ADD INDEX (u8), ADD INDEX (i4), ADD INDEX (i8), ADD INDEX (d), ADD INDEX (ts)",
        columns.join(", "),
        rows.join(", ")
    )
}

/// The same random conditions with and without push-down. `QUERIES` of them, from the seed `QUERIES_FROM` on.
#[tokio::test(flavor = "multi_thread")]
async fn random_conditions_have_the_same_rows_pushed_down_or_not() {
    let number =
        |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (from, count) = (number("QUERIES_FROM", 0), number("QUERIES", 200));
    let server = &MariaDb::start();
    scripted(server, &format!("{}; ANALYZE TABLE random", table(&mut Rng::with_seed(from))));
    let session = embedded().await;
    for (name, pushdown) in [("pushed", "on"), ("kept", "off")] {
        let create = create(server, name, "random", &format!(", snapshot 'none', pushdown '{pushdown}'"));
        done(&session, &[&create]).await;
    }
    let (mut pushed, mut some) = (0, 0);
    for seed in from..from + count {
        let condition = condition(&mut Rng::with_seed(seed), 2);
        let ours = rows(&session, &format!("SELECT n FROM kept WHERE {condition} ORDER BY n")).await;
        let theirs = rows(&session, &format!("SELECT n FROM pushed WHERE {condition} ORDER BY n")).await;
        match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "seed {seed}: {condition}"),
            (Err(_), Err(_)) => {}
            _ => panic!("seed {seed}: {condition}: {ours:?} and {theirs:?}"),
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

/// EXPLAIN shows what is sent, and what is not stays above.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_is_shown() {
    let server = &MariaDb::start();
    scripted(
        server,
        "CREATE TABLE orders (id bigint PRIMARY KEY, name varchar(20), price double, at timestamp NOT NULL, amount decimal(10,2), KEY (name)) AS
            SELECT seq AS id, concat('n', seq) AS name, seq AS price, now() AS at, seq AS amount FROM seq_1_to_1000; ANALYZE TABLE orders",
    );
    let session = embedded().await;
    done(&session, &[&create(server, "o", "orders", "")]).await;
    for (query, sent, kept) in [
        ("SELECT id FROM o WHERE id > 5", "sql=SELECT `id` FROM `shop`.`orders` WHERE (`id` > 5)", false),
        (
            "SELECT id FROM o WHERE name = 'n5'",
            "WHERE (`name` = 'n5' AND CAST(CONVERT(`name` USING utf8mb4) AS BINARY) = X'6e35')",
            false,
        ),
        ("SELECT id FROM o WHERE name < 'n5'", "CAST(CONVERT(`name` USING utf8mb4) AS BINARY) < X'6e35'", false),
        ("SELECT id FROM o WHERE amount >= 2.5", "(`amount` >= 2.50)", false),
        ("SELECT id FROM o WHERE price > 0", "SELECT `id`, `price` FROM `shop`.`orders`", true),
        ("SELECT id FROM o WHERE upper(name) = 'N5' AND id < 9", "WHERE (`id` < 9)", true),
        ("SELECT id FROM o WHERE id > 5 LIMIT 3", "LIMIT 3", false),
        ("SELECT count(*) FROM o WHERE id > 5", "SELECT COUNT(*) FROM", false),
    ] {
        let plan = sql(&session, &format!("EXPLAIN {query}")).await.unwrap_or_else(|error| panic!("{query}: {error}"));
        let shown: String = plan.lines().map(|line| line.trim_matches(['|', ' '])).collect();
        assert!(shown.contains(sent), "{query}: {plan}");
        assert_eq!(plan.contains("FilterExec"), kept, "{query}: {plan}");
    }
    let some = "SELECT count(*) FROM o WHERE id > 5 AND name LIKE 'n1%' AND at < now() + interval '1 day'";
    let all = "SELECT count(*) FROM orders WHERE id > 5 AND name LIKE 'n1%'";
    assert_eq!(answers(&session, some).await, scripted(server, all));
}

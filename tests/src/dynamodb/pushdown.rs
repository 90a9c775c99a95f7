//! Conditions that DynamoDB computes, and keys that become queries, have the answers that Windlass gives.

use super::*;
use fastrand::Rng;

/// A table with two indexes: one of customers, which some items do not have, and one of statuses and numbers that has nothing but keys.
fn orders() -> Value {
    let mut table = keyed("orders", "id:S at:N");
    let key = |partition: &str, sort: Option<&str>| {
        let sort = sort.map(|sort| json!({"AttributeName": sort, "KeyType": "RANGE"}));
        let keys: Vec<Value> =
            std::iter::once(json!({"AttributeName": partition, "KeyType": "HASH"})).chain(sort).collect();
        json!(keys)
    };
    table["AttributeDefinitions"] = json!([
        {"AttributeName": "id", "AttributeType": "S"}, {"AttributeName": "at", "AttributeType": "N"},
        {"AttributeName": "customer", "AttributeType": "S"}, {"AttributeName": "status", "AttributeType": "S"},
        {"AttributeName": "n", "AttributeType": "N"}, {"AttributeName": "k", "AttributeType": "S"}
    ]);
    table["GlobalSecondaryIndexes"] = json!([
        {"IndexName": "by_customer", "KeySchema": key("customer", None), "Projection": {"ProjectionType": "ALL"}},
        {"IndexName": "by_status", "KeySchema": key("status", Some("n")), "Projection": {"ProjectionType": "KEYS_ONLY"}}
    ]);
    table["LocalSecondaryIndexes"] =
        json!([{"IndexName": "by_key", "KeySchema": key("id", Some("k")), "Projection": {"ProjectionType": "ALL"}}]);
    table
}

/// EXPLAIN shows what is asked for, and it is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_is_shown() {
    for (server, is_dynalite) in [(Server::dynalite(), true), (Server::moto(), false)] {
        server.create(orders());
        let item = |n: usize| {
            let mut item = json!({"id": {"S": format!("o{}", n % 50)}, "at": {"N": n.to_string()}, "status": {"S": "open"},
                "n": {"N": (n % 10).to_string()}, "price": {"N": format!("{n}.5")}, "name": {"S": format!("name {n}")}});
            if n.is_multiple_of(2) {
                item["customer"] = json!({"S": format!("c{}", n % 4)});
            }
            item
        };
        server.put("orders", (0..200).map(item));
        let session = embedded().await;
        let both = [create(&server, "orders", "", ""), create_of(&server, "kept", "orders", "", ", pushdown 'off'")];
        done(&session, &[&both[0], &both[1]]).await;
        for (query, shown, target) in [
            ("SELECT at FROM orders WHERE id = 'o1'", "queries=1, key=(id = 'o1')", "Query"),
            ("SELECT at FROM orders WHERE id = 'o1' AND at > 51", "key=(id = 'o1' AND at > 51)", "Query"),
            (
                "SELECT at FROM orders WHERE id = 'o1' AND at BETWEEN 51 AND 101",
                "key=(id = 'o1' AND at >= 51 AND at <= 101)",
                "Query",
            ),
            ("SELECT at FROM orders WHERE id IN ('o1', 'o2', 'o3', 'o4', 'none')", "queries=5, key=(id IN (", "Query"),
            ("SELECT at FROM orders WHERE id = 'o1' AND price > 60", "key=(id = 'o1'), filter=(price > 60)", "Query"),
            ("SELECT at FROM orders WHERE id = 'o1' AND at <> 51", "key=(id = 'o1'), checked=(at <> 51)", "Query"),
            (
                "SELECT name FROM orders WHERE customer = 'c2'",
                "queries=1 of index by_customer, key=(customer = 'c2')",
                "Query",
            ),
            (
                "SELECT count(*) FROM orders WHERE customer = 'c2'",
                "of index by_customer, key=(customer = 'c2'), select=COUNT",
                "Query",
            ),
            (
                "SELECT id FROM orders WHERE status = 'open' AND n = 3",
                "of index by_status, key=(status = 'open' AND n = 3)",
                "Query",
            ),
            ("SELECT id FROM orders WHERE status = 'open'", "scan, checked=(status = 'open')", "Scan"),
            (
                "SELECT name FROM orders WHERE status = 'open' AND n = 3",
                "scan, filter=(n = 3), checked=(status = 'open')",
                "Scan",
            ),
            ("SELECT count(*) FROM orders WHERE price < 20", "scan, select=COUNT, filter=(price < 20)", "Scan"),
            (
                "SELECT count(*) FROM orders WHERE customer IS NULL",
                "scan, select=COUNT, filter=(customer IS NULL)",
                "Scan",
            ),
            ("SELECT id FROM orders WHERE name LIKE 'name 1%'", "checked=(begins_with(name, 'name 1'))", "Scan"),
            ("SELECT id FROM orders WHERE id = ''", "scan, checked=(id = '')", "Scan"),
        ] {
            let plan =
                sql(&session, &format!("EXPLAIN {query}")).await.unwrap_or_else(|error| panic!("{query}: {error}"));
            let plan: String = plan.lines().map(|line| line.trim_matches(['|', ' '])).collect();
            assert!(plan.contains(shown), "{query}: {plan}");
            assert!(!plan.contains("FilterExec"), "{query}: {plan}");
            if is_dynalite {
                server.requests("");
            }
            let sorted = |answer: String| {
                let mut lines: Vec<String> = answer.lines().map(str::to_string).collect();
                lines.sort();
                lines
            };
            let pushed = sorted(answers(&session, query).await);
            if is_dynalite {
                assert!(!server.requests(target).is_empty(), "{query}");
            }
            assert_eq!(pushed, sorted(answers(&session, &query.replace("orders", "kept")).await), "{query}");
        }
        // A range that nothing is in asks for nothing.
        assert_eq!(answers(&session, "SELECT count(*) FROM orders WHERE id = 'o1' AND at > 9 AND at < 5").await, "0");
        let few = "SELECT count(*) FROM (SELECT id FROM orders WHERE n = 3 LIMIT 7)";
        assert_eq!(answers(&session, few).await, "7");
    }
}

/// Columns, and literals that they are compared with. What is generated for an attribute is of these, of another type, NULL or missing.
const COLUMNS: [(&str, &[&str]); 10] = [
    ("id", &["'a'", "'b'", "'ab'", "''", "'é'"]),
    ("at", &["0", "-1", "1", "5", "9223372036854775807"]),
    ("customer", &["'a'", "'A'", "'z'", "'ab'"]),
    ("status", &["'open'", "'done'", "''"]),
    ("n", &["0", "1", "-1", "7"]),
    ("k", &["'a'", "'ab'", "'b'", "'𝄞'"]),
    ("d", &["0", "1.5", "-2.25", "99999999.99", "1.51"]),
    ("s", &["''", "'a'", "'A'", "'ab'", "'a b'", "'é'", "'z'", "'%'", "'𝄞'", "'5'", "'true'", "'[1]'"]),
    ("t", &["true", "false"]),
    ("x", &["X'00'", "X'ff'", "X'00ff'", "X''"]),
];
const PATTERNS: [&str; 9] =
    ["'a%'", "'%b%'", "'%'", "'a_%'", "'é%'", "'%a'", "'_'", "'!a%' ESCAPE '!'", "'a!%%' ESCAPE '!'"];

fn condition(random: &mut Rng, depth: u32) -> String {
    if depth > 0 && random.u32(..4) > 0 {
        let op = if random.u32(..3) > 0 { "AND" } else { "OR" };
        let both = format!("({} {op} {})", condition(random, depth - 1), condition(random, depth - 1));
        return if random.u32(..4) == 0 { format!("(NOT {both})") } else { both };
    }
    let (name, values) = COLUMNS[random.usize(..COLUMNS.len())];
    let mut value = || values[random.usize(..values.len())].to_string();
    let (one, two, three, four) = (value(), value(), value(), value());
    let not = if random.u32(..3) == 0 { "NOT " } else { "" };
    match random.u32(..12) {
        0 => format!("{name} IS {not}NULL"),
        1 => format!("{name} {not}IN ({one}, {two}, {three}, {four})"),
        2 if name != "t" => format!("{name} {not}BETWEEN {one} AND {two}"),
        3 if one.starts_with('\'') => format!("{name} {not}LIKE {}", PATTERNS[random.usize(..PATTERNS.len())]),
        4 if name == "t" => format!("{not}{name}"),
        5 if name == "t" => format!("{name} IS {not}TRUE"),
        6..9 => format!("{name} = {one}"),
        n => {
            let op = ["=", "<>", "<", "<=", ">", ">="][random.usize(..6)];
            if n % 2 == 0 { format!("{name} {op} {one}") } else { format!("{one} {op} {name}") }
        }
    }
}

/// A key's or a partition's equality beside other conditions, so that most of them are queries.
fn with_keys(random: &mut Rng) -> String {
    let rest = condition(random, 2);
    match random.u32(..6) {
        0 => format!("id = 'a' AND {rest}"),
        1 => format!("id IN ('a', 'b', 'ab', 'é') AND at >= {} AND {rest}", random.i32(-2..3)),
        2 => format!("customer = 'a' AND {rest}"),
        3 => format!("status = 'open' AND n > {} AND {rest}", random.i32(-2..3)),
        4 => format!("id = 'a' AND k LIKE 'a%' AND {rest}"),
        _ => rest,
    }
}

fn attribute(column: &str, literal: &str) -> Value {
    let text = literal.trim_matches('\'');
    match column {
        "at" | "n" | "d" => json!({"N": literal}),
        "t" => json!({"BOOL": literal == "true"}),
        "x" => {
            let bytes: &str = match literal {
                "X'00'" => "AA==",
                "X'ff'" => "/w==",
                "X'00ff'" => "AP8=",
                _ => "AQ==",
            };
            json!({"B": bytes})
        }
        _ => json!({"S": text}),
    }
}

fn item(row: usize, random: &mut Rng, mismatches: bool) -> Value {
    let mut item = json!({"line": {"N": row.to_string()}});
    for (column, values) in COLUMNS {
        let filled: Vec<&str> = values.iter().copied().filter(|value| !["''", "X''"].contains(value)).collect();
        let literal = filled[random.usize(..filled.len())];
        let is_key = ["id", "at", "customer", "status", "n", "k"].contains(&column);
        item[column] = match random.u32(..8) {
            0 | 1 if !["id", "at"].contains(&column) => continue,
            2 if !is_key => json!({"NULL": true}),
            3 if column == "s" => {
                [json!({"N": "5"}), json!({"BOOL": true}), json!({"L": [{"N": "1"}]}), json!({"SS": ["a"]})]
                    [random.usize(..4)]
                .clone()
            }
            3 if mismatches && !is_key => json!({"M": {}}),
            4 if mismatches && column == "d" => json!({"N": "1.511"}),
            _ => attribute(column, literal),
        };
    }
    item["at"] = json!({"N": row.to_string()});
    if random.u32(..2) == 0 {
        item["at"] = json!({"N": random.i32(-2..9).to_string()});
    }
    item
}

/// The same random conditions with and without push-down. `QUERIES` of them, from the seed `QUERIES_FROM` on.
#[tokio::test(flavor = "multi_thread")]
async fn random_conditions_have_the_same_rows_pushed_down_or_not() {
    let number =
        |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (from, count) = (number("QUERIES_FROM", 0), number("QUERIES", 80));
    let columns = "(id VARCHAR NOT NULL, at BIGINT NOT NULL, customer VARCHAR, status VARCHAR, n BIGINT, k VARCHAR, d DECIMAL(12, 2), \
        s VARCHAR, t BOOLEAN, x BYTEA, line BIGINT)";
    for mismatch in ["error", "null"] {
        let server = Server::dynalite();
        server.create(orders());
        let mut random = Rng::with_seed(from);
        let mut keys = std::collections::HashSet::new();
        let items = (0..400).map(|row| item(row, &mut random, mismatch == "null"));
        let items: Vec<Value> =
            items.filter(|item| keys.insert((item["id"].to_string(), item["at"].to_string()))).collect();
        server.put("orders", items);
        let session = embedded().await;
        for (name, pushdown) in [("pushed", "on"), ("kept", "off")] {
            let more = format!(", pushdown '{pushdown}', mismatch '{mismatch}'");
            done(&session, &[&create_of(&server, name, "orders", columns, &more)]).await;
        }
        server.requests("");
        let (mut some, mut filtered, mut queried) = (0, 0, 0);
        for seed in from..from + count {
            let random = &mut Rng::with_seed(seed);
            let condition = with_keys(random);
            let wanted = if random.bool() { "id, at" } else { "line, s, d, x" };
            let query = |table: &str| format!("SELECT {wanted} FROM {table} WHERE {condition} ORDER BY 1, 2, 3, 4");
            let query =
                |table: &str| if wanted == "id, at" { query(table).replace(", 3, 4", "") } else { query(table) };
            let ours = rows(&session, &query("kept")).await;
            server.requests("");
            let theirs = rows(&session, &query("pushed")).await;
            match (&ours, &theirs) {
                (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "seed {seed}, {mismatch}: {condition}"),
                // As a literal that fits no column.
                (Err(_), Err(theirs)) => assert!(!theirs.contains("ValidationException"), "{condition}: {theirs}"),
                _ => panic!("seed {seed}, {mismatch}: {condition}: {ours:?} and {theirs:?}"),
            }
            some += u64::from(ours.is_ok_and(|rows| !rows.is_empty()));
            let requests = server.command(&json!({"requests": true}));
            let requests = requests.as_array().expect("it is a list");
            filtered += u64::from(requests.iter().any(|request| request["body"]["FilterExpression"].is_string()));
            queried += u64::from(requests.iter().any(|request| request["target"] == "Query"));
        }
        // Conditions are sent, and find rows: else nothing is tried here.
        assert!(some > count / 4, "{some} of {count} find rows");
        assert!(
            filtered > count / 4 && queried > count / 5,
            "{filtered} are filtered and {queried} queried, of {count}"
        );
    }
}

//! Catalogs: all tables of a server, or of one of its databases, as they are there.

use super::*;
use std::time::Instant;

fn catalog(server: &MariaDb, name: &str, more: &str) -> String {
    format!("CREATE CATALOG {name} STORED AS MYSQL LOCATION '{}' OPTIONS (split_rows '500'{more})", location(server))
}

/// Of all databases.
fn whole(server: &MariaDb, name: &str, more: &str) -> String {
    catalog(server, name, more).replace("/shop'", "'")
}

/// Longer than an answer serves.
async fn later() {
    tokio::time::sleep(Duration::from_millis(3_200)).await;
}

fn listed(catalog: &str) -> String {
    format!(
        "SELECT string_agg(table_schema || '.' || table_name || CASE WHEN table_type = 'VIEW' THEN '*' ELSE '' END, ' ' \
         ORDER BY table_schema, table_name) FROM information_schema.tables WHERE table_catalog = '{catalog}' \
         AND table_schema <> 'information_schema'"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_databases_of_a_server_are_schemas() {
    let server = &MariaDb::start();
    scripted(
        server,
        "CREATE DATABASE `Odd base`; CREATE DATABASE hidden; CREATE TABLE hidden.t (n int); CREATE DATABASE empty;
         GRANT ALL ON `Odd base`.* TO app@'%'; GRANT ALL ON empty.* TO app@'%'; GRANT SELECT ON mysql.time_zone TO app@'%';
         CREATE TABLE orders (id int PRIMARY KEY, customer bigint NOT NULL, total decimal(10, 2), at datetime, state enum('sad', 'ok'),
            secret_ int INVISIBLE);
         INSERT INTO orders (id, customer, total, at, state) SELECT seq, seq % 100, seq / 4.0, '2024-02-29', 'ok' FROM seq_1_to_5000; ANALYZE TABLE orders;
         CREATE TABLE `Odd base`.`Customers` (id bigint PRIMARY KEY, `Name` text) AS SELECT seq AS id, concat('c', seq) AS `Name` FROM seq_0_to_99;
         CREATE TABLE `Odd base`.customers (other int); CREATE VIEW large AS SELECT id, total FROM orders WHERE total > 1000;
         CREATE TABLE parts (n int PRIMARY KEY) PARTITION BY HASH (n) PARTITIONS 3; CREATE SEQUENCE counted;
         CREATE USER reader@'%'; GRANT SELECT ON shop.orders TO reader@'%'",
    );
    let session = embedded().await;
    done(
        &session,
        &[
            STAGES,
            &whole(server, "shops", ""),
            &catalog(server, "one", ""),
            "CREATE TABLE files AS SELECT 7 AS id UNION ALL SELECT 8",
        ],
    )
    .await;
    let query = "SELECT count(*), sum(o.total), min(c.\"Name\") FROM shops.shop.orders o JOIN shops.\"Odd base\".\"Customers\" c \
         ON o.customer = c.id WHERE o.id <= 1000 AND o.state = 'ok'";
    assert_eq!(answers(&session, query).await, "1000|125125.00|c0");
    assert_eq!(answers(&session, "SELECT sum(o.id) FROM one.shop.orders o JOIN files USING (id)").await, "15");
    assert_eq!(answers(&session, "SELECT count(*) FROM shops.shop.large").await, "1000");
    let types = "SELECT string_agg(column_name || ' ' || data_type || ' ' || is_nullable, ', ' ORDER BY ordinal_position) \
         FROM information_schema.columns WHERE table_catalog = 'shops' AND table_name = 'orders'";
    assert_eq!(
        answers(&session, types).await,
        "id Int32 NO, customer Int64 NO, total Decimal128(10, 2) YES, at Timestamp(µs) YES, state Utf8 YES"
    );
    // Schemas without tables are there as well, and those of the server itself are not listed.
    let tables = "Odd base.Customers Odd base.customers shop.large* shop.orders shop.parts";
    assert_eq!(answers(&session, &listed("shops")).await, tables);
    assert_eq!(answers(&session, &listed("one")).await, "shop.large* shop.orders shop.parts");
    assert_eq!(answers(&session, "SELECT count(*) FROM shops.mysql.time_zone").await, "0");
    refused(&session, "SELECT * FROM one.\"Odd base\".\"Customers\"", &["not found"]).await;
    // Another user sees less.
    let as_reader = whole(server, "read", "").replace("app@", "reader@");
    done(&session, &[&as_reader]).await;
    assert_eq!(answers(&session, &listed("read")).await, "shop.orders");
    refused(&session, "SELECT * FROM read.hidden.t", &["not found"]).await;
    // Case counts, and is said.
    assert_eq!(answers(&session, "SELECT count(*) FROM shops.\"Odd base\".customers").await, "0");
    refused(&session, "SELECT * FROM shops.shop.\"Orders\"", &["not found; did you mean orders?"]).await;
    // Plans of a text are not kept, and neither are those of views.
    done(&session, &["CREATE VIEW v AS SELECT * FROM shops.shop.orders", "CREATE VIEW w AS SELECT * FROM v"]).await;
    let star = "SELECT * FROM w WHERE id = 1";
    let before = answers(&session, star).await;
    assert_eq!((before.matches('|').count(), answers(&session, star).await), (4, before));
    scripted(
        server,
        "ALTER TABLE orders ADD more int DEFAULT 7; ALTER TABLE orders DROP at; DROP TABLE parts; CREATE TABLE fresh (n int)",
    );
    assert_eq!(answers(&session, "SELECT count(*) FROM shops.shop.fresh").await, "0", "it is asked for at once");
    later().await;
    assert!(answers(&session, star).await.ends_with("|7"), "a column has come");
    refused(&session, "SELECT * FROM shops.shop.parts", &["'parts' not found"]).await;
    refused(&session, "SELECT at FROM w", &["at"]).await;
    // Rows are written.
    done(&session, &["INSERT INTO shops.shop.fresh SELECT id FROM shops.shop.orders WHERE id <= 10"]).await;
    done(&session, &["INSERT INTO shops.\"Odd base\".\"Customers\" (id) VALUES (1000)"]).await;
    assert_eq!(scripted(server, "SELECT count(*), sum(n) FROM fresh"), "10|55");
    assert_eq!(scripted(server, "SELECT count(*) FROM `Odd base`.`Customers` WHERE `Name` IS NULL"), "1");
    refused(&session, "INSERT INTO shops.shop.orders (id, customer) VALUES (1, 1)", &["Duplicate entry"]).await;
    refused(&session, "INSERT INTO shops.shop.large VALUES (1, 1)", &["is a view"]).await;
    refused(&session, "CREATE TABLE shops.shop.t (a int)", &["in catalog 'shops', which shows what is in MYSQL"]).await;
    done(&session, &["CREATE TABLE shops.shop.made AS SELECT 1 AS a", "COPY (SELECT 2 AS a) INTO shops.shop.made"])
        .await;
    assert_eq!(scripted(server, "SELECT count(*), sum(a) FROM shop.made"), "2|3");
    refused(&session, "CREATE TABLE shops.shop.made AS SELECT 1 AS a", &["table 'made' already exists"]).await;
    done(&session, &["DROP VIEW w", "DROP VIEW v", "DROP CATALOG shops"]).await;
    refused(&session, query, &["not found"]).await;
    until(server, &format!("SELECT count(*) {SESSIONS}"), "0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_is_refused_for_a_reason() {
    let server = &MariaDb::start();
    scripted(
        server,
        &format!(
            "CREATE TABLE t AS SELECT 1 AS n; CREATE USER locked@'%' IDENTIFIED BY '{SECRET}'; GRANT ALL ON shop.* TO locked@'%'"
        ),
    );
    let session = embedded().await;
    let locked = |more: &str| catalog(server, "shop", more).replace("app@", "locked@");
    for (statement, words) in [
        (locked(", password 'wrong'"), &["the catalog 'shop' cannot be read", "Access denied"][..]),
        (locked(", secret 'mine'"), &["secret 'mine' not found"]),
        (locked(", table 't'"), &["'table'", "leave it out"]),
        (locked(", query 'SELECT 1'"), &["'query'", "leave it out"]),
        (locked(", split_column 'n'"), &["'split_column'", "leave it out"]),
        (locked(", connections '0'"), &["'connections' is less than 1"]),
        (locked(", colour 'red'"), &["unknown option 'colour'", "password"]),
        (catalog(server, "shop", "").replace("app@", &format!("app:{SECRET}@")), &["has a password"]),
        (catalog(server, "shop", "").replace("/shop'", "/nowhere'"), &["nowhere"]),
        ("CREATE CATALOG shop STORED AS MYSQL".to_string(), &["expected LOCATION"]),
    ] {
        refused(&session, &statement, words).await;
    }
    done(&session, &[&format!("CREATE SECRET mine OPTIONS (password '{SECRET}')"), &locked(", secret 'mine'")]).await;
    assert_eq!(answers(&session, "SELECT n FROM shop.shop.t").await, "1");
    done(&session, &[&locked(&format!(", password '{SECRET}'")).replace("CREATE", "CREATE OR REPLACE")]).await;
    assert_eq!(answers(&session, "SELECT n FROM shop.shop.t").await, "1");
    let shown = sql(&session, "SHOW CATALOGS").await.expect("they are listed");
    assert!(shown.contains("password '***'") && !shown.contains(SECRET), "{shown}");
    // A table of its own needs a database too.
    let nowhere = create(server, "x", "t", "").replace("/shop'", "'");
    refused(&session, &nowhere, &["names no database", "database.table"]).await;
    done(&session, &[&create(server, "x", "shop.t", "").replace("/shop'", "'")]).await;
}

/// A server that stops is the matter of its own catalog.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_keeps_nobody() {
    let (server, other) = (MariaDb::start(), MariaDb::start());
    scripted(&server, "CREATE TABLE t AS SELECT 1 AS n");
    scripted(&other, "CREATE TABLE t AS SELECT 2 AS n");
    let session = embedded().await;
    done(&session, &[&catalog(&server, "gone", ""), &catalog(&other, "here", "")]).await;
    drop(server);
    later().await;
    let began = Instant::now();
    refused(&session, "SELECT * FROM gone.shop.t", &["the catalog 'gone' cannot be read", "app@127.0.0.1"]).await;
    let listed = "SELECT table_catalog || '.' || table_name FROM information_schema.tables WHERE table_schema = 'shop'";
    assert_eq!(answers(&session, listed).await, "here.t");
    assert_eq!(answers(&session, "SELECT n FROM here.shop.t").await, "2");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    done(&session, &["DROP CATALOG gone"]).await;
}

/// Keys of the server serve plans while it enforces them, on every row that is read.
#[tokio::test(flavor = "multi_thread")]
async fn keys_hold_or_are_not_relied_on() {
    let server = &MariaDb::start();
    scripted(
        server,
        "CREATE TABLE good (a int, b varchar(9), c int, PRIMARY KEY (a, b)); CREATE TABLE part (a varchar(9), c int, UNIQUE (a(3)));
         CREATE TABLE floats (a double PRIMARY KEY, c int); CREATE TABLE moods (a enum('x', 'y') PRIMARY KEY, c int);
         CREATE TABLE old (a int PRIMARY KEY, c int) ENGINE = MyISAM; CREATE VIEW seen AS SELECT * FROM good; CREATE TABLE going (a int PRIMARY KEY, c int);
         CREATE TABLE named (a uuid PRIMARY KEY, c int); CREATE TABLE often (a int, c int, KEY (a));
         INSERT INTO good VALUES (1, 'x', 5), (1, 'y', 6); INSERT INTO going VALUES (1, 5); INSERT INTO named VALUES (uuid(), 5)",
    );
    let session = embedded().await;
    done(&session, &[STAGES, &catalog(server, "c", ""), &catalog(server, "n", ", snapshot 'none'")]).await;
    let by_key = |table: &str, key: &str| format!("SELECT {key}, c FROM c.shop.{table} GROUP BY {key} ORDER BY 1, 2");
    assert_eq!(answers(&session, &by_key("good", "a, b")).await, "1|x|5\n1|y|6");
    assert_eq!(answers(&session, &by_key("going", "a")).await, "1|5");
    assert!(answers(&session, &by_key("named", "a")).await.ends_with("|5"));
    for (table, key) in
        [("good", "a"), ("part", "a"), ("floats", "a"), ("moods", "a"), ("old", "a"), ("seen", "a"), ("often", "a")]
    {
        refused(&session, &by_key(table, key), &["c", "GROUP BY"]).await;
    }
    // Splits that see a state each may have a row twice.
    refused(&session, &by_key("good", "a, b").replace("c.shop", "n.shop"), &["c", "GROUP BY"]).await;
    // The key goes, and with it what a plan of a moment ago relied on.
    scripted(server, "ALTER TABLE going DROP PRIMARY KEY; INSERT INTO going VALUES (1, 6)");
    // Which of them depends on how long ago the server was asked.
    let error = sql(&session, &by_key("going", "a")).await.expect_err("the key is gone");
    assert!(error.contains("the keys of shop.going have changed") || error.contains("GROUP BY"), "{error}");
    later().await;
    refused(&session, &by_key("going", "a"), &["c", "GROUP BY"]).await;
    assert_eq!(answers(&session, "SELECT count(DISTINCT a), count(*) FROM c.shop.going").await, "1|2");
}

/// How many values differ decides which side of a join is kept in memory.
#[tokio::test(flavor = "multi_thread")]
async fn distinct_values_serve_the_order_of_joins() {
    let server = &MariaDb::start();
    // Two tables of a few thousand rows that have only ten keys: joined, they are half a million rows.
    let tables = |key: &str| {
        format!(
            "DROP TABLE IF EXISTS visits, sales, customers; CREATE TABLE visits (shop int, visitor int{key}) AS \
             SELECT seq % 10 AS shop, seq AS visitor FROM seq_1_to_2000;
             CREATE TABLE sales (shop int, customer int{key}) AS SELECT seq % 10 AS shop, seq % 5000 AS customer FROM seq_1_to_2500;
             CREATE TABLE customers (customer int, name varchar(9)) AS SELECT seq AS customer, concat('c', seq) AS name FROM seq_1_to_5000;
             ANALYZE TABLE visits, sales, customers"
        )
    };
    scripted(server, &tables(", KEY (shop)"));
    let session = embedded().await;
    done(&session, &[&catalog(server, "c", ""), "SET datafusion.optimizer.prefer_hash_join = true"]).await;
    let query = "SELECT count(*) FROM c.shop.visits v JOIN c.shop.sales s ON v.shop = s.shop \
         JOIN c.shop.customers u ON s.customer = u.customer";
    // The scans, in the order in which the plan has them: what is kept in memory comes first.
    let order = async || -> Vec<String> {
        let plan = sql(&session, &format!("EXPLAIN {query}")).await.expect("it is explained");
        println!("{plan}");
        let scans = plan.split("FROM `shop`.`").skip(1).filter_map(|rest| rest.split('`').next());
        let mut scans: Vec<String> = scans.map(str::to_string).collect();
        scans.dedup();
        scans
    };
    let known = order().await;
    assert_eq!(answers(&session, query).await, "500000");
    scripted(server, &tables(""));
    later().await;
    let unknown = order().await;
    assert_eq!(known.first().map(String::as_str), Some("customers"), "{known:?}, and without counts {unknown:?}");
    assert_ne!(known, unknown);
    assert_eq!(answers(&session, query).await, "500000");
}

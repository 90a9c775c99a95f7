//! Catalogs: all tables of a database, as they are there.

use super::*;
use std::time::{Duration, Instant};

fn catalog(server: &Postgres, name: &str, more: &str) -> String {
    format!(
        "CREATE CATALOG {name} STORED AS POSTGRES LOCATION '{}' OPTIONS (split_bytes '8192'{more})",
        location(server)
    )
}

/// Longer than an answer serves.
async fn later() {
    tokio::time::sleep(Duration::from_millis(3_200)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_a_catalog() {
    let server = &Postgres::start();
    scripted(
        server,
        "CREATE SCHEMA \"Odd schema\"; CREATE SCHEMA hidden; CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE hidden.t (n int);
         CREATE TABLE orders (id int PRIMARY KEY, customer bigint NOT NULL, total numeric(10, 2), at timestamptz, state mood, tags text[]);
         INSERT INTO orders SELECT n, n % 100, n / 4.0, '2024-02-29Z', 'ok', ARRAY['a'] FROM generate_series(1, 5000) n; ANALYZE orders;
         CREATE TABLE \"Odd schema\".\"Customers\" (id bigint PRIMARY KEY, \"Name\" text);
         INSERT INTO \"Odd schema\".\"Customers\" SELECT n, 'c' || n FROM generate_series(0, 99) n;
         CREATE VIEW large AS SELECT id, total FROM orders WHERE total > 1000; CREATE MATERIALIZED VIEW sums AS SELECT sum(total) AS total FROM orders;
         CREATE TABLE parts (n int, t text) PARTITION BY RANGE (n); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
         CREATE TABLE nothing (); CREATE ROLE reader LOGIN; REVOKE ALL ON SCHEMA hidden FROM PUBLIC; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
    );
    let session = embedded().await;
    done(&session, &[STAGES, &catalog(server, "shop", ""), "CREATE TABLE files AS SELECT 7 AS id UNION ALL SELECT 8"])
        .await;
    let query = "SELECT count(*), sum(o.total), min(c.\"Name\") FROM shop.public.orders o JOIN shop.\"Odd schema\".\"Customers\" c \
         ON o.customer = c.id WHERE o.id <= 1000 AND o.state = 'ok'";
    assert_eq!(answers(&session, query).await, "1000|125125.00|c0");
    assert_eq!(answers(&session, "SELECT sum(o.id) FROM shop.public.orders o JOIN files USING (id)").await, "15");
    assert_eq!(answers(&session, "SELECT count(*) FROM shop.public.large").await, "1000");
    assert_eq!(answers(&session, "SELECT total FROM shop.public.sums").await, "3125625.0000000000");
    let types = "SELECT string_agg(column_name || ' ' || data_type || ' ' || is_nullable, ', ' ORDER BY ordinal_position) \
         FROM information_schema.columns WHERE table_catalog = 'shop' AND table_name = 'orders'";
    let types = answers(&session, types).await;
    assert!(types.starts_with("id Int32 NO, customer Int64 NO, total Decimal128(10, 2) YES, at Timestamp"), "{types}");
    let listed = |catalog: &str| {
        format!(
            "SELECT string_agg(table_schema || '.' || table_name || CASE WHEN table_type = 'VIEW' THEN '*' ELSE '' END, ' ' \
             ORDER BY table_schema, table_name) FROM information_schema.tables WHERE table_catalog = '{catalog}' \
             AND table_schema <> 'information_schema'"
        )
    };
    assert_eq!(
        answers(&session, &listed("shop")).await,
        "Odd schema.Customers hidden.t public.large* public.nothing public.orders public.parts public.parts_1 public.sums*"
    );
    assert_eq!(answers(&session, "SELECT relkind FROM shop.pg_catalog.pg_class WHERE relname = 'orders'").await, "r");
    // Another user sees less.
    let as_reader = catalog(server, "read", "").replace("postgres@", "reader@");
    done(&session, &[&as_reader]).await;
    let seen = answers(&session, &listed("read")).await;
    assert_eq!(seen, "public.large* public.nothing public.orders public.parts public.parts_1 public.sums*");
    refused(&session, "SELECT * FROM read.hidden.t", &["table 't' not found"]).await;
    // Case counts, and is said.
    refused(&session, "SELECT * FROM shop.\"Odd schema\".customers", &["not found; did you mean \"Customers\"?"]).await;
    refused(&session, "SELECT * FROM shop.public.order", &["not found; did you mean orders?"]).await;
    // Plans of a text are not kept, and neither are those of views.
    done(&session, &["CREATE VIEW v AS SELECT * FROM shop.public.orders", "CREATE VIEW w AS SELECT * FROM v"]).await;
    let star = "SELECT * FROM w WHERE id = 1";
    let before = answers(&session, star).await;
    assert_eq!((before.matches('|').count(), answers(&session, star).await), (5, before));
    scripted(
        server,
        "ALTER TABLE orders ADD more int DEFAULT 7; ALTER TABLE orders DROP tags; DROP TABLE parts; CREATE TABLE fresh (n int)",
    );
    assert_eq!(answers(&session, "SELECT count(*) FROM shop.public.fresh").await, "0", "it is asked for at once");
    later().await;
    assert!(answers(&session, star).await.ends_with("|7"), "a column has come");
    refused(&session, "SELECT * FROM shop.public.parts", &["'parts' not found"]).await;
    refused(&session, "SELECT tags FROM w", &["tags"]).await;
    // Rows are written.
    done(&session, &["INSERT INTO shop.public.fresh SELECT id FROM shop.public.orders WHERE id <= 10"]).await;
    done(&session, &["INSERT INTO shop.\"Odd schema\".\"Customers\" (id) VALUES (1000)"]).await;
    assert_eq!(scripted(server, "SELECT count(*), sum(n) FROM fresh"), "10|55");
    assert_eq!(scripted(server, "SELECT count(*) FROM \"Odd schema\".\"Customers\" WHERE \"Name\" IS NULL"), "1");
    refused(&session, "INSERT INTO shop.public.orders (id, customer) VALUES (1, 1)", &["duplicate key"]).await;
    refused(&session, "INSERT INTO shop.public.large VALUES (1, 1)", &["is no table"]).await;
    // Tables are made and loaded.
    done(&session, &["CREATE TABLE shop.public.made AS SELECT id, customer FROM shop.public.orders WHERE id <= 3"])
        .await;
    let made = "SELECT string_agg(id || ':' || customer, ' ' ORDER BY id) FROM made";
    assert_eq!(scripted(server, made), "1:1 2:2 3:3");
    done(&session, &["CREATE TABLE IF NOT EXISTS shop.public.made AS SELECT 9 AS id"]).await;
    refused(&session, "CREATE TABLE shop.public.made AS SELECT 9 AS id", &["table 'made' already exists"]).await;
    let other = ["CREATE TABLE shop.public.t (a int)", "CREATE OR REPLACE TABLE shop.public.made AS SELECT 1 AS a"];
    for statement in other {
        refused(&session, statement, &["in catalog 'shop', which shows what is in POSTGRES"]).await;
    }
    let load = "COPY (SELECT 3 AS id, 30 AS customer UNION ALL SELECT 4, 40) INTO shop.public.made OPTIONS (mode 'merge', key 'id')";
    let explained = answers(&session, &format!("EXPLAIN {load}")).await;
    assert!(explained.contains("table=\"public\".\"made\", mode=merge, key=[id]"), "{explained}");
    done(&session, &[load, "copy files into shop.public.\"From files\""]).await;
    assert_eq!(scripted(server, made), "1:1 2:2 3:30 4:40");
    assert_eq!(scripted(server, "SELECT sum(id) FROM \"From files\""), "15");
    let table =
        format!("CREATE EXTERNAL TABLE kept STORED AS POSTGRES LOCATION '{}' OPTIONS (table 'made')", location(server));
    done(&session, &[&table, "COPY (SELECT 5 AS id, 50 AS customer) INTO kept OPTIONS (mode 'replace')"]).await;
    assert_eq!(scripted(server, "SELECT id, customer FROM made"), "5|50");
    for (statement, words) in [
        ("COPY files INTO files", "'files' is made of files: use INSERT INTO files SELECT"),
        ("COPY files INTO none", "table 'none' not found"),
        ("COPY files INTO kept OPTIONS (table 'x')", "'table' is an option of the table 'kept' itself"),
        ("COPY files INTO kept STORED AS POSTGRES", "STORED AS POSTGRES is for COPY … TO"),
        ("COPY files INTO shop.public.large", "is no table"),
    ] {
        refused(&session, statement, &[words]).await;
    }
    done(&session, &["DROP TABLE kept"]).await;
    done(&session, &["DROP VIEW w", "DROP VIEW v", "DROP CATALOG shop"]).await;
    refused(&session, query, &["not found"]).await;
    until(server, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'windlass'", "0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_is_refused_for_a_reason() {
    let md5 = |data: &std::path::Path| {
        std::fs::write(
            data.join("pg_hba.conf"),
            "host all locked 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n",
        )
        .expect("a file can be written");
    };
    let server = &Postgres::with(&[], md5);
    scripted(
        server,
        &format!("CREATE TABLE t AS SELECT 1 AS n; CREATE ROLE locked SUPERUSER LOGIN PASSWORD '{SECRET}'"),
    );
    let session = embedded().await;
    let locked = |more: &str| catalog(server, "shop", more).replace("postgres@", "locked@");
    for (statement, words) in [
        (locked(", password 'wrong'"), &["the catalog 'shop' cannot be read", "password authentication failed"][..]),
        (locked(", secret 'mine'"), &["secret 'mine' not found"]),
        (locked(", table 't'"), &["'table'", "leave it out"]),
        (locked(", split_column 'n'"), &["'split_column'", "leave it out"]),
        (locked(", connections '0'"), &["'connections' is less than 1"]),
        (locked(", colour 'red'"), &["unknown option 'colour'", "password"]),
        (catalog(server, "shop", "").replace("postgres@", &format!("postgres:{SECRET}@")), &["has a password"]),
        (catalog(server, "shop", "").replace("/postgres'", "/nowhere'"), &["\"nowhere\" does not exist"]),
        ("CREATE CATALOG shop STORED AS POSTGRES".to_string(), &["expected LOCATION"]),
        ("CREATE CATALOG shop STORED AS MONGO LOCATION 'x'".to_string(), &["use PARQUET", "POSTGRES"]),
    ] {
        refused(&session, &statement, words).await;
    }
    done(&session, &[&format!("CREATE SECRET mine OPTIONS (password '{SECRET}')"), &locked(", secret 'mine'")]).await;
    assert_eq!(answers(&session, "SELECT n FROM shop.public.t").await, "1");
    done(&session, &[&locked(&format!(", password '{SECRET}'")).replace("CREATE", "CREATE OR REPLACE")]).await;
    assert_eq!(answers(&session, "SELECT n FROM shop.public.t").await, "1");
    let shown = sql(&session, "SHOW CATALOGS").await.expect("they are listed");
    assert!(shown.contains("password '***'") && !shown.contains(SECRET), "{shown}");
}

/// A server that stops is the matter of its own catalog.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_keeps_nobody() {
    let (server, other) = (Postgres::start(), Postgres::start());
    scripted(&server, "CREATE TABLE t AS SELECT 1 AS n");
    scripted(&other, "CREATE TABLE t AS SELECT 2 AS n");
    let session = embedded().await;
    done(&session, &[&catalog(&server, "gone", ""), &catalog(&other, "here", "")]).await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port can be had");
    let port = silent.local_addr().expect("it has an address").port();
    let mute = format!(
        "CREATE CATALOG mute STORED AS POSTGRES LOCATION 'postgresql://a@127.0.0.1:{port}/b' OPTIONS (connect_timeout '2')"
    );
    refused(&session, &mute, &["the catalog 'mute' cannot be read", "did not answer within 2 s"]).await;
    drop(server);
    later().await;
    let began = Instant::now();
    refused(&session, "SELECT * FROM gone.public.t", &["the catalog 'gone' cannot be read", "postgres@127.0.0.1"])
        .await;
    refused(&session, "SELECT * FROM gone.public.t a, gone.public.u b, here.public.t", &["the catalog 'gone'"]).await;
    let listed =
        "SELECT table_catalog || '.' || table_name FROM information_schema.tables WHERE table_schema = 'public'";
    assert_eq!(answers(&session, listed).await, "here.t");
    assert_eq!(answers(&session, "SELECT n FROM here.public.t").await, "2");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    done(&session, &["DROP CATALOG gone"]).await;
}

/// Lists of many tables ask once, and a statement asks for what it names.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_ten_thousand_tables_is_listed_quickly() {
    let server =
        &Postgres::with(&["max_locks_per_transaction=2000", "log_statement=all", "logging_collector=off"], |_| {});
    scripted(
        server,
        "DO $$ BEGIN FOR n IN 1..10000 LOOP EXECUTE format('CREATE TABLE many_%s (a int, b text, c numeric(10, 2))', n);
         IF n % 1000 = 0 THEN COMMIT; END IF; END LOOP; END $$",
    );
    let session = embedded().await;
    done(&session, &[&catalog(server, "shop", "")]).await;
    let began = Instant::now();
    let listed =
        "SELECT count(*) FROM information_schema.tables WHERE table_catalog = 'shop' AND table_schema = 'public'";
    assert_eq!(answers(&session, listed).await, "10000");
    let named = began.elapsed();
    let columns =
        "SELECT count(*) FROM information_schema.columns WHERE table_catalog = 'shop' AND table_schema = 'public'";
    assert_eq!(answers(&session, columns).await, "30000");
    let with_columns = began.elapsed() - named;
    let read = Instant::now();
    assert_eq!(answers(&session, "SELECT count(*) FROM shop.public.many_777").await, "0");
    println!("10,000 tables: names in {named:?}, columns in {with_columns:?}; one read in {:?}", read.elapsed());
    assert!(named < Duration::from_secs(5) && with_columns < Duration::from_secs(30), "{named:?}, {with_columns:?}");
}

/// Keys of the server serve plans while it enforces them, on every row that is read.
#[tokio::test(flavor = "multi_thread")]
async fn keys_hold_or_are_not_relied_on() {
    let server = &Postgres::start();
    scripted(
        server,
        "CREATE TABLE good (a int, b text, c int, PRIMARY KEY (a, b)); CREATE TABLE partial (a int, c int); CREATE TABLE parent (a int PRIMARY KEY, c int);
         CREATE UNIQUE INDEX ON partial (a) WHERE c > 0; CREATE TABLE child () INHERITS (parent); CREATE TABLE late (a int PRIMARY KEY DEFERRABLE, c int);
         CREATE TABLE computed (a int, c int); CREATE UNIQUE INDEX ON computed (abs(a)); CREATE TABLE floats (a float8 PRIMARY KEY, c int);
         CREATE TABLE parts (a int PRIMARY KEY, c int) PARTITION BY RANGE (a); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
         CREATE VIEW seen AS SELECT * FROM parts; CREATE TABLE going (a int PRIMARY KEY, c int);
         INSERT INTO good VALUES (1, 'x', 5), (1, 'y', 6); INSERT INTO parts VALUES (1, 5), (2, 5); INSERT INTO going VALUES (1, 5);
         INSERT INTO parent VALUES (1, 5); INSERT INTO child VALUES (1, 6); INSERT INTO partial VALUES (1, 0), (1, -1)",
    );
    let session = embedded().await;
    done(&session, &[STAGES, &catalog(server, "shop", "")]).await;
    let by_key =
        |table: &str, key: &str| format!("SELECT {key}, c FROM shop.public.{table} GROUP BY {key} ORDER BY 1, 2");
    assert_eq!(answers(&session, &by_key("good", "a, b")).await, "1|x|5\n1|y|6");
    assert_eq!(answers(&session, &by_key("parts", "a")).await, "1|5\n2|5");
    assert_eq!(answers(&session, &by_key("going", "a")).await, "1|5");
    for (table, key) in [
        ("good", "a"),
        ("partial", "a"),
        ("parent", "a"),
        ("late", "a"),
        ("computed", "a"),
        ("floats", "a"),
        ("seen", "a"),
    ] {
        refused(&session, &by_key(table, key), &["c", "GROUP BY"]).await;
    }
    // The key goes, and with it what a plan of a moment ago relied on.
    scripted(server, "ALTER TABLE going DROP CONSTRAINT going_pkey; INSERT INTO going VALUES (1, 6)");
    // Which of them depends on how long ago the server was asked.
    let error = sql(&session, &by_key("going", "a")).await.expect_err("the key is gone");
    assert!(error.contains("the keys of \"public\".\"going\" have changed") || error.contains("GROUP BY"), "{error}");
    later().await;
    refused(&session, &by_key("going", "a"), &["c", "GROUP BY"]).await;
    assert_eq!(answers(&session, "SELECT count(DISTINCT a), count(*) FROM shop.public.going").await, "1|2");
}

/// How many values differ decides which side of a join is kept in memory.
#[tokio::test(flavor = "multi_thread")]
async fn distinct_values_serve_the_order_of_joins() {
    let server = &Postgres::start();
    // Two tables of a few thousand rows that have only ten keys: joined, they are half a million rows.
    scripted(
        server,
        "CREATE TABLE visits AS SELECT n % 10 AS shop, n AS visitor FROM generate_series(1, 2000) n;
         CREATE TABLE sales AS SELECT n % 10 AS shop, n % 5000 AS customer FROM generate_series(1, 2500) n;
         CREATE TABLE customers AS SELECT n AS customer, 'c' || n AS name FROM generate_series(1, 5000) n; ANALYZE",
    );
    let session = embedded().await;
    done(&session, &[&catalog(server, "shop", ""), "SET datafusion.optimizer.prefer_hash_join = true"]).await;
    let query = "SELECT count(*) FROM shop.public.visits v JOIN shop.public.sales s ON v.shop = s.shop \
         JOIN shop.public.customers c ON s.customer = c.customer";
    // The scans, in the order in which the plan has them: what is kept in memory comes first.
    let order = async || -> Vec<String> {
        let plan = sql(&session, &format!("EXPLAIN {query}")).await.expect("it is explained");
        println!("{plan}");
        let scans = plan.split("FROM \"public\".\"").skip(1).filter_map(|rest| rest.split('"').next());
        let mut scans: Vec<String> = scans.map(str::to_string).collect();
        scans.dedup();
        scans
    };
    let known = order().await;
    assert_eq!(answers(&session, query).await, "500000");
    scripted(
        server,
        "DELETE FROM pg_statistic WHERE starelid IN ('visits'::regclass, 'sales'::regclass, 'customers'::regclass)",
    );
    let unknown = order().await;
    assert_eq!(known.first().map(String::as_str), Some("customers"), "{known:?}, and without counts {unknown:?}");
    assert_ne!(known, unknown);
    assert_eq!(answers(&session, query).await, "500000");
}

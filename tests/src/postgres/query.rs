//! The function `postgres_query`, and tables whose rows are those of a query.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_query_of_the_server_is_a_table() {
    let server = &Postgres::start();
    scripted(
        server,
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN price AS numeric(6, 2);
         CREATE TABLE t AS SELECT n, (n / 4.0)::price AS p, 'ok'::mood AS m, ARRAY[n, NULL] AS ns, 'x' || n AS \"Odd, \"\"name\"\"\", now() AS at
         FROM generate_series(1, 1000) n; CREATE SEQUENCE counted; CREATE ROLE reader LOGIN; GRANT SELECT ON t TO reader;
         REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC; CREATE TABLE secret_rows (n int)",
    );
    let session = embedded().await;
    let at = location(server);
    let catalog = format!("CREATE CATALOG shop STORED AS POSTGRES LOCATION '{at}'");
    done(
        &session,
        &[
            STAGES,
            &catalog,
            &catalog.replace("shop", "read").replace("postgres@", "reader@"),
            "CREATE TABLE files AS SELECT 3 AS n",
        ],
    )
    .await;
    let of = |query: &str| format!("postgres_query('shop', '{}')", query.replace('\'', "''"));
    let sum = "SELECT m, sum(p) AS total, count(*) FROM t GROUP BY m";
    assert_eq!(answers(&session, &format!("SELECT * FROM {}", of(sum))).await, "ok|125125.0000000000|1000");
    // Filters and columns are pushed into it, and it is joined, in one snapshot.
    let filtered = format!("SELECT count(*) FROM {} q JOIN files USING (n) WHERE q.n < 10", of("SELECT n, p FROM t;"));
    assert_eq!(answers(&session, &filtered).await, "1");
    let plan =
        sql(&session, &format!("EXPLAIN SELECT n FROM {} q WHERE n > 990", of("SELECT n,\n p FROM t -- a comment")))
            .await;
    let plan = plan.expect("it is explained");
    assert!(
        plan.contains("AS query WHERE") && plan.contains("SELECT \"n\" FROM (SELECT n,") && plan.contains("splits=1"),
        "{plan}"
    );
    let twice = format!(
        "SELECT count(*) FROM {} a JOIN {} b USING (n)",
        of("SELECT n FROM t"),
        of("SELECT n FROM t WHERE n > 10")
    );
    assert_eq!(answers(&session, &twice).await, "990");
    let direct = format!("SELECT sum(n) FROM POSTGRES_QUERY('{at}', $$SELECT n FROM t WHERE m = 'ok'$$)");
    assert_eq!(answers(&session, &direct).await, "500500");
    // Types are the server's, also where no view can be made to tell them, but for the precision.
    let types = |place: &str| {
        format!(
            "SELECT arrow_typeof(n), arrow_typeof(p), arrow_typeof(m), arrow_typeof(ns), arrow_typeof(\"Odd, \"\"name\"\"\") \
             FROM postgres_query('{place}', 'SELECT * FROM t') LIMIT 1"
        )
    };
    assert!(answers(&session, &types("shop")).await.starts_with("Int32|Decimal128(6, 2)|Utf8|List"));
    assert!(answers(&session, &types("read")).await.starts_with("Int32|Decimal128(6, 2)|Utf8|List"));
    let sums = "SELECT sum(p) FROM postgres_query('read', 'SELECT sum(p) AS p, count(*) FROM t')";
    assert_eq!(answers(&session, sums).await, "125125.0000000000");
    // Views and prepared statements plan it anew, and a table keeps it.
    done(&session, &[&format!("CREATE VIEW v AS SELECT * FROM {}", of("SELECT n, p FROM t WHERE n <= 20"))]).await;
    assert_eq!(answers(&session, "SELECT count(*), sum(p) FROM v").await, "20|52.50");
    done(&session, &[&format!("PREPARE q AS SELECT count(*) FROM {} q WHERE n > $1", of("SELECT n FROM t"))]).await;
    assert_eq!(answers(&session, "EXECUTE q(900)").await, "100");
    let kept = format!(
        "CREATE EXTERNAL TABLE kept STORED AS POSTGRES LOCATION '{at}' OPTIONS (query 'SELECT n FROM t WHERE n > 5', split_column 'n')"
    );
    done(&session, &[&kept]).await;
    assert_eq!(answers(&session, "SELECT count(*), min(n) FROM kept").await, "995|6");
    refused(&session, "INSERT INTO kept VALUES (1)", &["only read"]).await;
    // It is one query, that reads: nothing gets out of its place.
    for (query, words) in [
        ("SELECT nonsense FROM t", &["postgres_query(): PostgreSQL", "\"nonsense\" does not exist"][..]),
        ("SELECT 1 AS a, 2 AS a", &["\"a\" specified more than once"]),
        ("DELETE FROM t RETURNING n", &["not allowed"]),
        ("WITH d AS (DELETE FROM t RETURNING n) SELECT * FROM d", &["not allowed"]),
        ("SELECT 1 AS a; DROP TABLE t", &["multi-query"]),
        ("SELECT 1 AS a; COMMIT; DROP TABLE t", &["multi-query"]),
        ("SELECT 1 AS a) AS q; DROP TABLE t; --", &["syntax error"]),
        ("SELECT 1 AS a) AS q) TO PROGRAM 'touch /tmp/windlass-broken-out' --", &["syntax error"]),
        ("SELECT 1 AS a /* open", &["unterminated"]),
        ("SELECT n FROM t FOR UPDATE", &["FOR UPDATE"]),
        ("SHOW server_version", &["not allowed"]),
        ("", &[""]),
    ] {
        refused(&session, &format!("SELECT * FROM {}", of(query)), words).await;
    }
    assert_eq!(scripted(server, "SELECT count(*) FROM t"), "1000");
    refused(&session, &format!("SELECT * FROM {}", of("SELECT nextval('counted') AS n")), &["read-only"]).await;
    refused(&session, "SELECT * FROM postgres_query('read', 'SELECT * FROM secret_rows')", &["permission denied"])
        .await;
    for (call, words) in [
        ("postgres_query('shop')", &["two literal texts"][..]),
        ("postgres_query('shop', 1)", &["two literal texts"]),
        ("postgres_query('shop', 'SELECT ' || '1')", &["two literal texts"]),
        ("postgres_query('shap', 'SELECT 1')", &["no catalog 'shap' of POSTGRES", "did you mean shop?"]),
        (&format!("postgres_query('postgresql://postgres:{SECRET}@127.0.0.1/x', 'SELECT 1')"), &["has a password"]),
        ("mysql_query('shop', 'SELECT 1')", &["mysql_query"]),
    ] {
        refused(&session, &format!("SELECT * FROM {call}"), words).await;
    }
    until(server, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'windlass'", "0").await;
}

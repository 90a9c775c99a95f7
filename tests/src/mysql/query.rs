//! The function `mysql_query`, and tables whose rows are those of a query.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_query_of_the_server_is_a_table() {
    let server = &MariaDb::start();
    scripted(
        server,
        "CREATE TABLE t (n int PRIMARY KEY, p decimal(6, 2), m enum('sad', 'ok'), flag boolean, `Odd, ``name\"` varchar(9) CHARACTER SET latin1, at timestamp(6) NULL,
            day date NOT NULL, b blob, u bigint unsigned, f float, t time, j json, y year, bits bit(9), place point);
         INSERT INTO t SELECT seq, seq / 4.0, 'ok', true, concat('é', seq), '2024-02-29 12:00:00', '2024-02-29', x'00ff', 18446744073709551615, 1.5, '-01:00:00',
            '{}', 2024, 257, ST_GeomFromText('POINT(1 2)') FROM seq_1_to_1000;
         CREATE TABLE calls (n int);
         CREATE USER reader@'%'; GRANT SELECT ON shop.t TO reader@'%'; CREATE TABLE secret_rows (n int)",
    );
    // A client sends it as one statement.
    scripted(
        server,
        "\nDELIMITER //\nCREATE FUNCTION writes() RETURNS int BEGIN INSERT INTO calls VALUES (1); RETURN 1; END //\nDELIMITER ;\n",
    );
    let session = embedded().await;
    let at = location(server);
    let catalog = format!("CREATE CATALOG shop STORED AS MYSQL LOCATION '{at}'");
    done(
        &session,
        &[
            STAGES,
            &catalog,
            &catalog.replace("CATALOG shop", "CATALOG read").replace("app@", "reader@"),
            &catalog.replace("CATALOG shop", "CATALOG whole").replace("/shop'", "'"),
            "CREATE TABLE files AS SELECT 3 AS n",
        ],
    )
    .await;
    let of = |query: &str| format!("mysql_query('shop', '{}')", query.replace('\'', "''"));
    let sum = "SELECT m, sum(p) AS total, count(*) AS c FROM t GROUP BY m";
    assert_eq!(answers(&session, &format!("SELECT * FROM {}", of(sum))).await, "ok|125125.00|1000");
    assert_eq!(answers(&session, "SELECT n FROM mysql_query('whole', 'SELECT max(n) AS n FROM shop.t')").await, "1000");
    // Filters, columns and limits are pushed into it, and it is joined.
    let filtered = format!("SELECT count(*) FROM {} q JOIN files USING (n) WHERE q.n < 10", of("SELECT n, p FROM t;"));
    assert_eq!(answers(&session, &filtered).await, "1");
    let plan = format!("EXPLAIN SELECT n FROM {} q WHERE n > 990 LIMIT 5", of("SELECT n,\n p FROM t -- a comment"));
    let plan = sql(&session, &plan).await.expect("it is explained");
    assert!(
        plan.contains("SELECT `n` FROM (SELECT n,") && plan.contains("AS `query` WHERE (`n` > 990) LIMIT 5"),
        "{plan}"
    );
    assert!(plan.contains("splits=1"), "{plan}");
    let commented = format!("SELECT count(*) FROM {} q WHERE n > 990", of("SELECT n FROM t -- a comment"));
    assert_eq!(answers(&session, &commented).await, "10");
    let limited = format!("SELECT count(*) FROM (SELECT n FROM {} LIMIT 7)", of("SELECT n FROM t ORDER BY n LIMIT 9"));
    assert_eq!(answers(&session, &limited).await, "7");
    let twice = format!(
        "SELECT count(*) FROM {} a JOIN {} b USING (n)",
        of("SELECT n FROM t"),
        of("SELECT n FROM t WHERE n > 10")
    );
    assert_eq!(answers(&session, &twice).await, "990");
    let direct = format!("SELECT sum(n) FROM MYSQL_QUERY('{at}', $$SELECT n FROM t WHERE m = 'ok'$$)");
    assert_eq!(answers(&session, &direct).await, "500500");
    // Types are those of the table, and so are values and conditions.
    done(&session, &[&create(server, "t", "t", "")]).await;
    let all = of("SELECT * FROM t");
    for (column, condition) in [
        ("n", "n = 5"),
        ("p", "p > 249.5"),
        ("m", "m = 'ok' AND n = 1"),
        ("flag", "flag AND n < 3"),
        ("\"Odd, `name\"\"\"", "\"Odd, `name\"\"\" = 'é77'"),
        ("at", "at > '2024-01-01T00:00:00Z' AND n = 1"),
        ("day", "day IS NULL OR day = DATE '2024-02-29' AND n < 3"),
        ("encode(b, 'hex')", "b IS NOT NULL AND n = 1"),
        ("u", "u = 18446744073709551615 AND n = 1"),
        ("f", "f > 1 AND n = 1"),
        ("t", "n = 1"),
        ("j", "j = '{}' AND n = 1"),
        ("y", "y = 2024 AND n = 1"),
        ("bits", "bits = 257 AND n = 1"),
        ("encode(place, 'hex')", "n = 1"),
    ] {
        let from = |table: &str| {
            format!("SELECT {column}, arrow_typeof({column}) FROM {table} q WHERE {condition} ORDER BY 1")
        };
        let (expected, found) = (answers(&session, &from("t")).await, answers(&session, &from(&all)).await);
        assert!(!expected.is_empty(), "{condition}");
        assert_eq!(found, expected, "{column}");
    }
    // Views and prepared statements plan it anew, and a table keeps it.
    done(&session, &[&format!("CREATE VIEW v AS SELECT * FROM {}", of("SELECT n, p FROM t WHERE n <= 20"))]).await;
    assert_eq!(answers(&session, "SELECT count(*), sum(p) FROM v").await, "20|52.50");
    done(&session, &[&format!("PREPARE q AS SELECT count(*) FROM {} q WHERE n > $1", of("SELECT n FROM t"))]).await;
    assert_eq!(answers(&session, "EXECUTE q(900)").await, "100");
    let kept = format!(
        "CREATE EXTERNAL TABLE kept STORED AS MYSQL LOCATION '{at}' OPTIONS (query 'SELECT n FROM t WHERE n > 5', split_column 'n', snapshot 'none')"
    );
    done(&session, &[&kept]).await;
    assert_eq!(answers(&session, "SELECT count(*), min(n), sum(n) FROM kept").await, "995|6|500485");
    let plan = sql(&session, "EXPLAIN SELECT n FROM kept").await.expect("it is explained");
    assert!(plan.contains("splits=4"), "{plan}");
    refused(&session, "INSERT INTO kept VALUES (1)", &["only read"]).await;
    let locked = kept.replace("kept", "locked").replace("'none'", "'locked'");
    refused(&session, &locked, &["snapshot 'locked' locks tables", "'none'"]).await;
    let both = create(server, "both", "t", ", query 'SELECT 1'");
    refused(&session, &both, &["leave out 'table' or 'query'"]).await;
    refused(&session, &both.replace("table 't', ", "").replace(", query 'SELECT 1'", ""), &["want the option 'table'"])
        .await;
    // It is one query, that reads: nothing gets out of its place.
    for (query, words) in [
        ("SELECT nonsense FROM t", &["mysql_query(): MySQL", "nonsense"][..]),
        ("SELECT 1 AS a, 2 AS a", &["Duplicate column name 'a'"]),
        ("DELETE FROM t RETURNING n", &["mysql_query()"]),
        ("INSERT INTO t (n) VALUES (0)", &["no rows"]),
        ("SELECT 1 AS a; DROP TABLE t", &["syntax"]),
        ("SELECT 1 AS a; COMMIT; DROP TABLE t", &["syntax"]),
        ("SELECT 1 AS a) AS q; DROP TABLE t; --", &["syntax"]),
        ("SELECT 1 AS a /*! ) AS q; DROP TABLE t */", &["syntax"]),
        ("SELECT n FROM t INTO OUTFILE '/tmp/windlass-broken-out'", &[""]),
        ("SHOW TABLES", &["mysql_query()"]),
        ("", &[""]),
    ] {
        refused(&session, &format!("SELECT * FROM {}", of(query)), words).await;
    }
    assert!(sql(&session, &format!("SELECT * FROM {}", of("SELECT 1 AS a /* open"))).await.is_err());
    refused(&session, &format!("SELECT * FROM {}", of("SELECT writes() AS n")), &["READ ONLY"]).await;
    assert_eq!(scripted(server, "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM calls)"), "1000|0");
    refused(&session, "SELECT * FROM mysql_query('read', 'SELECT * FROM secret_rows')", &["denied"]).await;
    for (call, words) in [
        ("mysql_query('shop')", &["two literal texts"][..]),
        ("mysql_query('shop', 'SELECT ' || '1')", &["two literal texts"]),
        ("mysql_query('shap', 'SELECT 1')", &["no catalog 'shap' of MYSQL", "did you mean shop?"]),
        (&format!("mysql_query('mysql://app:{SECRET}@127.0.0.1/x', 'SELECT 1')"), &["has a password"]),
        ("postgres_query('shop', 'SELECT 1')", &["shop"]),
    ] {
        refused(&session, &format!("SELECT * FROM {call}"), words).await;
    }
    until(server, &format!("SELECT count(*) {SESSIONS}"), "0").await;
}

/// The server ends a query whose process was interrupted before the process ends.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_process_leaves_no_query() {
    let server = &MariaDb::start();
    scripted(server, "CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2)");
    let query = format!("SELECT * FROM mysql_query('{}', 'SELECT n, SLEEP(100) AS s FROM t')", location(server));
    let sleeps = format!("SELECT count(*) {SESSIONS} AND INFO LIKE '%SLEEP(100)%'");
    for signal in ["-INT", "-TERM"] {
        let mut command = crate::cluster::windlass(&["sql", "-e", &query]);
        let mut process = command.stdout(std::process::Stdio::null()).spawn().expect("it starts");
        until(server, &sleeps, "1").await;
        let mut kill = std::process::Command::new("kill");
        kill.args([signal, &process.id().to_string()]);
        crate::cluster::succeed(kill);
        let status = process.wait().expect("it ends");
        assert!(!status.success(), "{signal}: {status}");
        until(server, &sleeps, "0").await;
    }
}

//! The connector of this suite through the whole life of a table: embedded and in processes, with kills and restarts.

use super::Generated;
use crate::asking::{SECRET, STAGES, done, embedded_with, refused, sql};
use crate::cluster::{beside, run, succeed};
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use windlass_client::connector::Registry;
use windlass_client::{Client, Session};
use windlass_scheduler::meta::{EmbeddedStore, MetaStore};

/// A locked folder that the table opens.
struct Shared(tempfile::TempDir);

impl Shared {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        std::fs::write(folder.path().join("lock"), SECRET).expect("a file can be written");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Builds the statement that creates the table. `more`: more options.
    fn table(&self, name: &str, more: &str) -> String {
        format!(
            "CREATE EXTERNAL TABLE {name} STORED AS GENERATED LOCATION '{}' OPTIONS (token '{SECRET}'{more})",
            self.path().display()
        )
    }

    fn names(&self, ending: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path()).expect("the folder is there").flatten().map(|entry| entry.path());
        entries.filter(|path| path.to_string_lossy().ends_with(ending)).collect()
    }
}

fn connectors() -> Registry {
    Registry::default().with(Arc::new(Generated)).expect("the name is free")
}

async fn embedded() -> Session {
    embedded_with(connectors()).await
}

async fn number(session: &Session, query: &str) -> i64 {
    let result = session.sql(query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    let batches = result.collect().await.unwrap_or_else(|error| panic!("{query}: {error}"));
    let batch = batches.iter().find(|batch| batch.num_rows() > 0).expect("there is a row");
    batch.column(0).as_primitive::<Int64Type>().value(0)
}

/// Uses a table in every way, in one session.
async fn statements(session: &Session) {
    let shared = Shared::new();
    let create = shared.table("g", ", rows '10000', splits '7', seed '3'");
    done(session, &[STAGES, &create]).await;
    assert_eq!(number(session, "SELECT count(*) FROM g").await, 10_000);
    assert_eq!(number(session, "SELECT sum(id) FROM g WHERE id >= 9000 AND id < 9500").await, 4_624_750);
    assert_eq!(number(session, "SELECT count(*) FROM g a JOIN g b ON a.id = b.id + 1").await, 9_999);
    assert_eq!(number(session, "SELECT id FROM g ORDER BY id DESC LIMIT 1").await, 9_999);
    let other = shared.table("other", ", rows '10000', splits '2', seed '3'");
    done(session, &[&other]).await;
    let same = "SELECT count(*) FROM (SELECT * FROM g EXCEPT SELECT * FROM other)";
    assert_eq!(number(session, same).await, 0, "rows do not depend on splits");

    let plan = sql(session, "EXPLAIN SELECT key FROM g WHERE id >= 9000").await.expect("it is explained");
    assert!(plan.contains("ScanExec: GENERATED, splits=1, rows=10000, from=9000, columns=[0, 1]"), "{plan}");
    let analysed = sql(session, "EXPLAIN ANALYZE SELECT key FROM g").await.expect("it runs");
    assert!(analysed.contains("output_rows=10000"), "{analysed}");
    let shown = sql(session, "SHOW CREATE TABLE g").await.expect("it is shown");
    assert!(shown.contains("token '***'"), "{shown}");
    let columns = sql(session, "SELECT column_name FROM information_schema.columns WHERE table_name = 'g'").await;
    assert!(columns.as_ref().is_ok_and(|columns| columns.contains("name")), "{columns:?}");

    done(session, &["INSERT INTO g SELECT id + 100000, NULL, 'new' FROM g WHERE id >= 9000"]).await;
    assert_eq!(number(session, "SELECT count(*) FROM g").await, 11_000);
    assert_eq!(number(session, "SELECT count(*) FROM g WHERE name = 'new' AND key IS NULL").await, 1_000);
    done(session, &["INSERT INTO g VALUES (1, 2, 'it''s')"]).await;
    assert_eq!(number(session, "SELECT count(*) FROM g WHERE name = 'it''s'").await, 1);
    assert_eq!(shared.names(".manifest").len(), 2);
    let written = sql(session, "EXPLAIN INSERT INTO g SELECT * FROM other").await.expect("it is explained");
    assert!(written.contains("SinkExec: GENERATED, folder="), "{written}");
    for text in [plan, analysed, shown, written] {
        assert!(!text.contains(SECRET), "{text}");
    }

    done(session, &["CREATE TABLE kept AS SELECT * FROM g"]).await;
    assert_eq!(number(session, "SELECT count(*) FROM kept").await, 11_001);
    done(session, &["CREATE VIEW v AS SELECT id FROM g WHERE key IS NULL"]).await;
    assert_eq!(number(session, "SELECT count(*) FROM v").await, 1_000);

    refused(session, "INSERT INTO g SELECT 1 / (id - 9999), 1, '' FROM other", &["zero"]).await;
    assert_eq!(shared.names(".rows").len(), manifest_lines(&shared), "nothing is left of a write that failed");
    refused(session, "INSERT OVERWRITE g SELECT * FROM other", &["not replaced"]).await;
    refused(session, &shared.table("h", ", colour 'red'"), &["unknown option 'colour'", "rows, splits, seed"]).await;
    refused(session, &shared.table("h", ", rows 'many'"), &["whole number"]).await;
    refused(session, &shared.table("g", ""), &["already exists"]).await;
    let elsewhere = "CREATE EXTERNAL TABLE h STORED AS GENERATED LOCATION 'relative'";
    refused(session, elsewhere, &["absolute path"]).await;
    refused(session, "CREATE EXTERNAL TABLE h STORED AS MONGO LOCATION '/x'", &["use PARQUET", "or GENERATED"]).await;
    let wrong = format!("CREATE EXTERNAL TABLE shut STORED AS GENERATED LOCATION '{}'", shared.path().display());
    done(session, &[&wrong]).await;
    refused(session, "SELECT * FROM shut", &["locked"]).await;
    done(session, &["DROP TABLE shut", "DROP TABLE g", "DROP TABLE IF EXISTS g"]).await;
    refused(session, "SELECT * FROM g", &["not found"]).await;
}

/// Tables that a write creates: CREATE EXTERNAL TABLE … AS, and COPY … TO.
async fn targets(session: &Session) {
    let (shared, made) = (Shared::new(), Shared::new());
    done(session, &[STAGES, &shared.table("source", ", rows '10000', splits '7'")]).await;
    let create = made.table("made", "");
    let query = "SELECT CAST(id AS INT) AS id, key, name FROM source WHERE id % 2 = 0";
    refused(session, &format!("{create} AS SELECT id, key FROM source"), &["columns id BIGINT"]).await;
    refused(session, &format!("{create} AS SELECT id, key, 1 / (id - 9) AS name FROM source"), &["zero"]).await;
    refused(session, "SELECT * FROM made", &["not found"]).await;
    assert!(made.names(".rows").is_empty() && made.names(".manifest").is_empty(), "nothing is left");
    let plan = sql(session, &format!("EXPLAIN {create} AS {query}")).await.expect("it is explained");
    assert!(plan.contains("SinkExec: GENERATED, folder=") && !plan.contains(SECRET), "{plan}");
    refused(session, "SELECT * FROM made", &["not found"]).await;

    done(session, &[&format!("{create} AS {query}")]).await;
    assert_eq!(number(session, "SELECT count(*) FROM made").await, 5_000);
    assert_eq!(number(session, "SELECT sum(id) FROM made").await, 24_995_000);
    let shown = sql(session, "SHOW CREATE TABLE made").await.expect("it is shown");
    assert!(shown.contains("token '***'") && shown.contains("AS SELECT"), "{shown}");
    refused(session, &format!("{create} AS {query}"), &["already exists"]).await;
    let again = create.replace("EXTERNAL TABLE made", "EXTERNAL TABLE again");
    refused(session, &format!("{again} AS {query}"), &["there is a generated table in"]).await;
    let kept = create.replace("EXTERNAL TABLE made", "EXTERNAL TABLE IF NOT EXISTS made");
    done(session, &[&format!("{kept} AS {query}")]).await;
    assert_eq!(number(session, "SELECT count(*) FROM made").await, 5_000);

    let (at, token) = (made.path().display(), format!("OPTIONS (token '{SECRET}')"));
    let copy = format!("COPY (SELECT id + 1 AS id, key, name FROM made) TO '{at}' STORED AS GENERATED {token}");
    let plan = sql(session, &format!("EXPLAIN {copy}")).await.expect("it is explained");
    assert!(plan.contains("SinkExec: GENERATED, folder=") && !plan.contains(SECRET), "{plan}");
    let copied = sql(session, &copy).await.expect("it is copied");
    assert!(copied.contains("5000"), "{copied}");
    assert_eq!(number(session, "SELECT count(DISTINCT id) FROM made").await, 10_000);
    let analysed = format!("EXPLAIN ANALYZE COPY source TO '{at}/new' STORED AS generated {token}");
    let analysed = sql(session, &analysed).await.expect("it runs");
    assert!(analysed.contains("output_rows") && !analysed.contains(SECRET), "{analysed}");
    let new = format!("CREATE EXTERNAL TABLE new STORED AS GENERATED LOCATION '{at}/new' {token}");
    done(session, &[&new]).await;
    assert_eq!(number(session, "SELECT count(*) FROM new").await, 10_000);
    let temporary =
        format!("CREATE EXTERNAL TEMPORARY TABLE passing STORED AS GENERATED LOCATION '{at}/passing' {token}");
    done(session, &[&format!("{temporary} AS WITH few AS (SELECT * FROM source LIMIT 7) SELECT * FROM few")]).await;
    assert_eq!(number(session, "SELECT count(*) FROM passing").await, 7);

    refused(session, &format!("COPY nothing TO '{at}' STORED AS GENERATED {token}"), &["nothing"]).await;
    refused(session, &format!("COPY source TO '{at}' STORED AS GENERATED OPTIONS (colour 'red')"), &["colour"]).await;
    let parted = format!("COPY source TO '{at}' STORED AS GENERATED PARTITIONED BY (key) {token}");
    refused(session, &parted, &["PARTITIONED BY is for files"]).await;
    let locked = format!("COPY source TO '{at}' STORED AS GENERATED");
    refused(session, &locked, &["is locked"]).await;
    let columns = create.replace("TABLE made", "TABLE typed (id INT)");
    refused(session, &format!("{columns} AS {query}"), &["leave the list of columns out"]).await;
    let files = format!("CREATE EXTERNAL TABLE files STORED AS PARQUET LOCATION '{at}/files/' AS SELECT 1 AS a");
    refused(session, &files, &["is not for files", "COPY (query) TO"]).await;
    refused(session, &format!("{} AS", create.replace("made", "ended")), &["syntax error"]).await;
    refused(session, &format!("{} AS DROP TABLE made", create.replace("made", "ended")), &["syntax error"]).await;
    for job in session.jobs(100).await.expect("jobs are listed") {
        assert!(!format!("{job:?}").contains(SECRET), "{job:?}");
    }
}

/// Number of files that manifests list.
fn manifest_lines(shared: &Shared) -> usize {
    let manifests = shared.names(".manifest");
    let lines = |path: &PathBuf| std::fs::read_to_string(path).expect("it can be read").lines().count();
    manifests.iter().map(lines).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_statements() {
    let session = embedded().await;
    statements(&session).await;
    targets(&session).await;
}

/// Processes of a binary that has the connector, in a folder that outlives them.
struct Cluster {
    dir: PathBuf,
    url: String,
    executors: Vec<u64>,
    primary: u64,
}

impl Cluster {
    fn up(dir: &Path, executors: &str) -> Self {
        let at = dir.display().to_string();
        let up =
            ["cluster", "up", "--executors", executors, "--slots", "2", "--memory", "1GiB", "--dir", &at, "--json"];
        let mut command = command(&up);
        command.env("WINDLASS_LOG", "debug");
        let described: serde_json::Value = serde_json::from_str(&succeed(command)).expect("the cluster is described");
        let pids = |of: &str| {
            let of = described[of].as_array().expect("there are some").iter();
            of.map(|process| process["pid"].as_u64().expect("each has a pid")).collect::<Vec<u64>>()
        };
        let url = described["url"].as_str().expect("it has an address").to_owned();
        Self { dir: dir.to_owned(), url, executors: pids("executors"), primary: pids("primaries")[0] }
    }

    async fn session(&self) -> Session {
        Client::connect(&self.url).await.expect("the cluster answers")
    }

    async fn until_jobs_run(&self) {
        let session = self.session().await;
        loop {
            let status = session.status().await.expect("it has a state");
            if status.executors.iter().filter(|executor| executor.running_tasks > 0).count() > 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn down(&self) {
        succeed(command(&["cluster", "down", "--dir", &self.dir.display().to_string()]));
    }

    fn logs(&self) -> String {
        let homes = std::fs::read_dir(&self.dir).expect("the folder is there").flatten();
        let logs = homes.map(|home| std::fs::read_to_string(home.path().join("log")).unwrap_or_default());
        logs.collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The cluster may be down already.
        let _ = run(command(&["cluster", "down", "--dir", &self.dir.display().to_string()]));
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(beside("windlass-with-generated"));
    command.args(arguments).env_remove("WINDLASS_URL").env_remove("WINDLASS_CONFIG");
    command
}

/// Kills a process and returns when it has ended: the signal alone does not wait.
fn kill(pid: u64) {
    let mut kill = Command::new("kill");
    kill.args(["-9", &pid.to_string()]);
    succeed(kill);
    let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let is_dead = |stat: String| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X']));
    let lives =
        || threads().any(|thread| std::fs::read_to_string(thread.path().join("stat")).is_ok_and(|of| !is_dead(of)));
    let patience = std::time::Instant::now() + Duration::from_secs(20);
    while lives() {
        assert!(std::time::Instant::now() < patience, "process {pid} lives on");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_in_processes() {
    let dir = tempfile::tempdir().expect("a folder can be made");
    let cluster = Cluster::up(dir.path(), "2");
    let session = cluster.session().await;
    statements(&session).await;
    targets(&session).await;
    cluster.down();
}

/// Queries and writes go on with the remaining executors, and every row exists once.
#[tokio::test(flavor = "multi_thread")]
async fn an_executor_dies() {
    let (dir, shared) = (tempfile::tempdir().expect("a folder can be made"), Shared::new());
    let cluster = Cluster::up(dir.path(), "3");
    let session = cluster.session().await;
    let slow = shared.table("slow", ", rows '30000', splits '6', pace '150'");
    done(&session, &[STAGES, &slow]).await;
    let (counted, ()) = tokio::join!(number(&session, "SELECT sum(id) FROM slow"), async {
        cluster.until_jobs_run().await;
        kill(cluster.executors[0]);
    });
    assert_eq!(counted, 449_985_000);
    let insert = "INSERT INTO slow SELECT id + 1000000, key, name FROM slow";
    let (inserted, ()) = tokio::join!(sql(&session, insert), async {
        cluster.until_jobs_run().await;
        kill(cluster.executors[1]);
    });
    assert!(inserted.as_ref().is_ok_and(|count| count.contains("30000")), "{inserted:?}");
    assert_eq!(number(&session, "SELECT count(*) FROM slow").await, 60_000);
    assert_eq!(number(&session, "SELECT count(DISTINCT id) FROM slow").await, 60_000);
    cluster.down();
}

/// A secret is created, used by tables, changed and dropped.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_lend_their_options() {
    let shared = Shared::new();
    let session = embedded().await;
    let table = format!(
        "CREATE EXTERNAL TABLE g STORED AS GENERATED LOCATION '{}' OPTIONS (secret 'mine', rows '10')",
        shared.path().display()
    );
    refused(&session, &table, &["secret 'mine' not found"]).await;
    done(&session, &["CREATE SECRET Mine OPTIONS (token 'wrong')", &table]).await;
    refused(&session, "SELECT count(*) FROM g", &["locked"]).await;
    refused(&session, "CREATE SECRET mine OPTIONS (token 'x')", &["already exists", "OR REPLACE"]).await;
    done(&session, &["CREATE SECRET IF NOT EXISTS mine OPTIONS (token 'x')"]).await;
    refused(&session, "SELECT count(*) FROM g", &["locked"]).await;
    let right = format!("CREATE OR REPLACE SECRET mine OPTIONS (token '{SECRET}')");
    done(&session, &[STAGES, &right]).await;
    assert_eq!(number(&session, "SELECT count(*) FROM g").await, 10);
    done(&session, &["INSERT INTO g VALUES (77, 0, 'new')"]).await;
    assert_eq!(number(&session, "SELECT count(*) FROM g").await, 11);
    refused(&session, "DROP SECRET mine", &["is named by table 'g'"]).await;
    refused(&session, "DROP SECRET yours", &["secret 'yours' not found"]).await;
    refused(&session, "CREATE SECRET other OPTIONS (secret 'mine')", &["cannot name another"]).await;
    done(&session, &["CREATE SECRET odd OPTIONS (colour 'red')", "DROP SECRET IF EXISTS yours"]).await;
    refused(&session, &table.replace("TABLE g", "TABLE h").replace("mine", "odd"), &["'colour'"]).await;
    let listed = sql(&session, "SHOW SECRETS").await.expect("secrets are listed");
    assert!(listed.contains("mine") && listed.contains("token") && !listed.contains(SECRET), "{listed}");
    let shown = sql(&session, "SHOW CREATE TABLE g").await.expect("it is shown");
    assert!(shown.contains("secret 'mine'"), "{shown}");
    done(&session, &["DROP TABLE g", "DROP SECRET mine", "DROP SECRET odd"]).await;
    assert!(!sql(&session, "SHOW SECRETS").await.expect("secrets are listed").contains("mine"));
}

/// Folders are tables while they are there.
struct Made(tempfile::TempDir);

impl Made {
    fn new(tables: &[&str]) -> Self {
        let made = Self(tempfile::tempdir().expect("a folder can be made"));
        tables.iter().for_each(|table| made.put(table));
        made
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("catalog")
    }

    /// `table`: `schema/table`.
    fn put(&self, table: &str) {
        let folder = self.path().join(table);
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        std::fs::write(folder.join("lock"), SECRET).expect("a file can be written");
    }

    fn create(&self, more: &str) -> String {
        format!("CREATE CATALOG made STORED AS GENERATED LOCATION '{}' OPTIONS ({more})", self.path().display())
    }
}

const LISTED: &str = "SELECT count(*) FROM information_schema.tables WHERE table_catalog = 'made' AND table_schema <> 'information_schema'";

/// A catalog: its tables are those that are there, and nothing is kept of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_has_the_tables_that_are_there() {
    let made = Made::new(&["public/orders", "public/Odd name", "other/orders", "empty"]);
    let session = embedded().await;
    let options = format!("token '{SECRET}', rows '1000'");
    done(&session, &[STAGES, &made.create(&options), "CREATE CATALOG plain", "CREATE SCHEMA plain.s"]).await;
    assert_eq!(number(&session, "SELECT count(*) FROM made.public.orders WHERE id >= 900").await, 100);
    let join = "SELECT count(*) FROM made.public.\"Odd name\" a JOIN made.other.orders b USING (id)";
    assert_eq!(number(&session, join).await, 1000);
    assert_eq!(number(&session, LISTED).await, 3);
    let columns = "SELECT count(*) FROM information_schema.columns WHERE table_catalog = 'made' AND table_schema <> 'information_schema'";
    assert_eq!(number(&session, columns).await, 9);
    let schemas = "SELECT count(*) FROM information_schema.schemata WHERE catalog_name = 'made'";
    assert_eq!(number(&session, schemas).await, 3);
    let described = sql(&session, "DESCRIBE made.public.orders").await.expect("it is described");
    assert!(described.contains("key") && described.contains("name"), "{described}");
    // A table that is made meanwhile is there at once, and one that is dropped is not for long.
    refused(&session, "SELECT * FROM made.public.late", &["table 'late' not found"]).await;
    refused(&session, "SELECT * FROM made.public.odd_name", &["did you mean \"Odd name\""]).await;
    refused(&session, "SELECT * FROM made.nowhere.orders", &["'orders' not found"]).await;
    refused(&session, "SELECT * FROM maid.public.orders", &["not found"]).await;
    made.put("public/late");
    assert_eq!(number(&session, "SELECT count(*) FROM made.public.late").await, 1000);
    std::fs::remove_dir_all(made.path().join("public/late")).expect("it can be removed");
    tokio::time::sleep(Duration::from_secs(4)).await;
    refused(&session, "SELECT * FROM made.public.late", &["table 'late' not found"]).await;
    assert_eq!(number(&session, LISTED).await, 3);
    // Rows are written as into any table of the connector.
    done(&session, &["INSERT INTO made.public.orders SELECT id + 5000, key, name FROM made.other.orders"]).await;
    assert_eq!(number(&session, "SELECT count(*) FROM made.public.orders").await, 2000);
    done(&session, &["CREATE TABLE made.public.copied AS SELECT * FROM made.other.orders"]).await;
    done(&session, &["COPY (SELECT * FROM made.other.orders) INTO made.public.copied"]).await;
    assert_eq!(number(&session, "SELECT count(*) FROM made.public.copied").await, 3000);
    done(&session, &["CREATE VIEW v AS SELECT * FROM made.public.orders", "CREATE TABLE kept AS SELECT * FROM v"])
        .await;
    assert_eq!(number(&session, "SELECT count(*) FROM v JOIN kept USING (id)").await, 2000);
    for statement in [
        "CREATE TABLE made.public.t (a INT)",
        "CREATE TEMPORARY TABLE made.public.t AS SELECT 1 AS a",
        "CREATE VIEW made.public.w AS SELECT 1 AS a",
        "CREATE EXTERNAL TABLE made.public.t STORED AS GENERATED LOCATION '/tmp/x'",
        "CREATE SCHEMA made.s",
        "DROP SCHEMA made.public CASCADE",
        "DROP TABLE made.public.orders",
        "DROP TABLE IF EXISTS made.public.orders",
        "ALTER TABLE made.public.orders RENAME TO x",
        "ALTER TABLE kept RENAME TO made.public.kept",
    ] {
        refused(&session, statement, &["in catalog 'made', which shows what is in GENERATED"]).await;
    }
    let shown = sql(&session, "SHOW CATALOGS").await.expect("catalogs are listed");
    assert!(shown.contains("| made ") && shown.contains("GENERATED") && shown.contains("| plain "), "{shown}");
    assert!(shown.contains("token '***'") && !shown.contains(SECRET), "{shown}");
    refused(&session, &made.create(&options), &["catalog 'made' already exists"]).await;
    done(&session, &[&made.create(&options).replace("CATALOG made", "CATALOG IF NOT EXISTS made")]).await;
    // Other options count from the next statement on.
    done(&session, &[&made.create(&format!("token '{SECRET}', rows '10'")).replace("CREATE", "CREATE OR REPLACE")])
        .await;
    assert_eq!(number(&session, "SELECT count(*) FROM made.other.orders").await, 10);
    refused(&session, "CREATE OR REPLACE CATALOG plain STORED AS GENERATED LOCATION '/tmp'", &["Windlass's own"]).await;
    refused(&session, &made.create("colour 'red'").replace("made", "m"), &["unknown option 'colour'"]).await;
    refused(&session, "CREATE CATALOG m STORED AS GENERATED LOCATION 'relative'", &["absolute path"]).await;
    refused(&session, "CREATE CATALOG m STORED AS PARQUET LOCATION '/tmp'", &["PARQUET"]).await;
    refused(&session, "CREATE CATALOG m STORED AS GENERATED LOCATION '/no/such/folder'", &["'m' cannot be read"]).await;
    refused(&session, "DROP CATALOG windlass", &["stays"]).await;
    refused(&session, "DROP CATALOG mad", &["catalog 'mad' not found; did you mean made?"]).await;
    done(&session, &["CREATE TABLE plain.s.t AS SELECT 1 AS a"]).await;
    refused(&session, "DROP CATALOG plain", &["still holds 1", "CASCADE"]).await;
    done(&session, &["DROP CATALOG plain CASCADE", "DROP CATALOG IF EXISTS plain", "DROP CATALOG made"]).await;
    refused(&session, "SELECT * FROM made.public.orders", &["not found"]).await;
    refused(&session, "SELECT * FROM v", &["not found"]).await;
    assert_eq!(number(&session, LISTED).await, 0);
}

/// A catalog whose system is away fails its own statements, and nobody else's.
#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_is_away_is_listed_without_tables() {
    let made = Made::new(&["public/orders"]);
    let session = embedded().await;
    done(&session, &[&made.create(&format!("token '{SECRET}', rows '10'")), "CREATE TABLE t AS SELECT 1 AS a"]).await;
    assert_eq!(number(&session, LISTED).await, 1);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let away = made.path().with_file_name("away");
    std::fs::rename(made.path(), &away).expect("it can be moved");
    std::fs::rename(made.0.path(), made.0.path().with_extension("gone")).expect("it can be moved");
    refused(&session, "SELECT * FROM made.public.orders", &["the catalog 'made' cannot be read"]).await;
    assert_eq!(number(&session, LISTED).await, 0);
    assert_eq!(number(&session, "SELECT count(*) FROM information_schema.columns WHERE table_name = 't'").await, 1);
    std::fs::rename(made.0.path().with_extension("gone"), made.0.path()).expect("it can be moved");
    std::fs::rename(&away, made.path()).expect("it can be moved");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(number(&session, "SELECT count(*) FROM made.public.orders").await, 10);
}

/// Created tables exist again, an unfinished write does not, and no secret appears where it does not belong.
#[tokio::test(flavor = "multi_thread")]
async fn the_primary_starts_again() {
    let (dir, shared) = (tempfile::tempdir().expect("a folder can be made"), Shared::new());
    let cluster = Cluster::up(dir.path(), "2");
    let session = cluster.session().await;
    let slow = shared.table("slow", ", rows '20000', splits '4', pace '200'");
    let secret = format!("CREATE SECRET mine OPTIONS (token '{SECRET}')");
    let lent = format!(
        "CREATE EXTERNAL TABLE lent STORED AS GENERATED LOCATION '{}' OPTIONS (secret 'mine', rows '10')",
        shared.path().display()
    );
    let made = Made::new(&["public/orders"]);
    let catalog = made.create(&format!("token '{SECRET}', rows '20'"));
    let of_secret = made.create("secret 'mine', rows '30'").replace("CATALOG made", "CATALOG lent_made");
    done(&session, &[STAGES, &slow, "INSERT INTO slow VALUES (-1, 0, 'first')", &secret, &lent, &catalog, &of_secret])
        .await;
    done(
        &session,
        &["CREATE VIEW of_made AS SELECT a.id FROM made.public.orders a JOIN lent_made.public.orders b USING (id)"],
    )
    .await;
    refused(&session, "DROP SECRET mine", &["is named by"]).await;
    let insert = tokio::spawn(async move { sql(&session, "INSERT INTO slow SELECT id, key, name FROM slow").await });
    cluster.until_jobs_run().await;
    while shared.names(".rows").len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    kill(cluster.primary);
    insert.abort();
    let cluster = Cluster::up(dir.path(), "2");
    let session = cluster.session().await;
    assert_eq!(number(&session, "SELECT count(*) FROM slow").await, 20_001);
    assert_eq!(shared.names(".manifest").len(), 1);
    assert_eq!(shared.names(".rows").len(), 1, "what was being written is gone");
    done(&session, &["INSERT INTO slow VALUES (-2, 0, 'second')"]).await;
    assert_eq!(number(&session, "SELECT count(*) FROM slow WHERE id < 0").await, 2);
    assert_eq!(number(&session, "SELECT count(*) FROM lent WHERE id >= 0").await, 10);
    assert_eq!(number(&session, "SELECT count(*) FROM of_made").await, 20);
    done(&session, &["INSERT INTO made.public.orders VALUES (100, 1, 'new')"]).await;
    assert_eq!(number(&session, "SELECT count(*) FROM lent_made.public.orders").await, 31);
    texts_of_catalogs(&session).await;
    let mut texts = vec![sql(&session, "SHOW SECRETS").await.expect("secrets are listed")];
    for mistake in [
        format!("CREATE SECRET OPTIONS (token '{SECRET}')"),
        format!("CREATE SECRET bad OPTIONS (token '{SECRET}' '{SECRET}')"),
        format!("CREATE SECRET bad OPTIONS (token {SECRET})"),
        format!("CREATE SECRET bad OPTIONS (token '{SECRET}"),
        format!("CREATE SECRET bad (token '{SECRET}')"),
        format!("CREATE SECRET bad OPTIONS (token '{SECRET}') '{SECRET}'"),
        format!("EXPLAIN CREATE SECRET bad OPTIONS (token '{SECRET}')"),
        format!("CREATE CATALOG bad STORED AS GENERATED LOCATION '/tmp' OPTIONS (token '{SECRET}' '{SECRET}')"),
        format!("CREATE CATALOG bad STORED AS GENERATED LOCATION '/tmp' OPTIONS (token {SECRET})"),
        format!("CREATE CATALOG bad STORED AS GENERATED OPTIONS (token '{SECRET}')"),
        format!("CREATE CATALOG bad STORED AS GENERATED LOCATION '/tmp' OPTIONS (rows '{SECRET}', token '{SECRET}"),
        format!("CREATE CATALOG bad OPTIONS (token '{SECRET}')"),
        format!("EXPLAIN CREATE CATALOG bad STORED AS GENERATED LOCATION '/tmp' OPTIONS (token '{SECRET}')"),
        secret,
    ] {
        texts.push(sql(&session, &mistake).await.expect_err(&mistake));
    }
    for script in [
        shared.table("kept", ""),
        catalog.replace("made", "kept"),
        "SELECT 1; CREATE SECRET kept OPTIONS (token 'x')".to_string(),
    ] {
        let refused = session.submit(&script, "", &[]).await.expect_err(&script).to_string();
        assert!(refused.contains("CREATE SECRET"), "{refused}");
        texts.push(refused);
    }
    done(&session, &["EXPLAIN ANALYZE INSERT INTO slow VALUES (-3, 0, 'third')"]).await;
    texts.push(cluster.logs());
    for job in session.jobs(100).await.expect("jobs are listed") {
        let detail = session.job(job.job).await.expect("it is known");
        let logs = session.job_logs(job.job).await.unwrap_or_default();
        texts.push(format!("{job:?} {detail:?} {logs:?}"));
    }
    assert!(texts.len() > 12, "there is a history");
    cluster.down();
    for text in texts {
        assert!(!text.contains(SECRET), "{text}");
    }
    let store = EmbeddedStore::open(&dir.path().join("primary/data/meta.redb")).expect("the store can be read");
    let (mut entries, mut sealed) = (0, 0);
    for (key, entry) in store.range("").await.expect("all of it can be read") {
        let has = |text: &str| entry.value.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(!has(SECRET), "{key}");
        (entries, sealed) = (entries + 1, sealed + usize::from(has("sealed")));
    }
    assert!(entries > 5 && sealed == 3, "{entries} entries, {sealed} of them sealed");
}

async fn texts_of_catalogs(session: &Session) {
    for statement in
        ["SHOW CATALOGS", "EXPLAIN SELECT * FROM made.public.orders", "EXPLAIN ANALYZE SELECT * FROM of_made"]
    {
        let text = sql(session, statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        assert!(!text.contains(SECRET), "{text}");
    }
}

/// The quotes in docs/extending.md are code of this connector.
#[test]
fn the_documentation_quotes_what_is_there() {
    let read = |path: &str| std::fs::read_to_string(crate::workspace().join(path)).expect("it can be read");
    let sources = [
        "connector/mod.rs",
        "connector/scan.rs",
        "connector/folder.rs",
        "connector/catalog.rs",
        "bin/windlass-with-generated.rs",
    ];
    let without_indent = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let code = sources.map(|source| without_indent(&read(&format!("tests/src/{source}")))).join("\n");
    let document = read("docs/extending.md");
    let quotes: Vec<&str> = document.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(quotes.len(), 6);
    for quote in quotes {
        assert!(code.contains(without_indent(quote).trim()), "docs/extending.md quotes what is not there:\n{quote}");
    }
}

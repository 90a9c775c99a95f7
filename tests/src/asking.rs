//! Statements in one session, and what tests expect of them.

use crate::cluster::{Processes, killed, run, succeed, windlass};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use windlass_client::connector::Registry;
use windlass_client::{Client, EmbeddedOptions, Session};

/// Statements are cut into stages, however little they read.
pub const STAGES: &str = "SET windlass.small_query_bytes = 0";
/// A password, which is to be seen nowhere.
pub const SECRET: &str = "marked-secret-4711";

/// Starts an embedded cluster of four slots with the connectors of the client.
pub async fn embedded() -> Session {
    embedded_with(windlass_client::connectors().expect("their names differ")).await
}

pub async fn embedded_with(connectors: Registry) -> Session {
    let options = EmbeddedOptions { slots: Some(4), connectors, ..EmbeddedOptions::default() };
    Client::embedded(options).await.expect("an embedded cluster starts")
}

/// Returns the result as a table of text.
pub async fn sql(session: &Session, sql: &str) -> Result<String, String> {
    let result = session.sql(sql).await.map_err(|error| error.to_string())?;
    let batches = result.collect().await.map_err(|error| error.to_string())?;
    Ok(arrow::util::pretty::pretty_format_batches(&batches).map_err(|error| error.to_string())?.to_string())
}

/// Returns the rows, a line each, with a `|` between columns, as `psql` prints them.
pub async fn rows(session: &Session, query: &str) -> Result<String, String> {
    let table = sql(session, query).await?;
    // Behind the names, which may have several lines, and before the last line.
    let rows = table
        .lines()
        .skip(1)
        .skip_while(|line| !line.starts_with('+'))
        .skip(1)
        .take_while(|line| !line.starts_with('+'));
    let row = |line: &str| {
        let cells = line.trim_matches('|').split('|').map(str::trim);
        cells.collect::<Vec<_>>().join("|")
    };
    Ok(rows.map(row).collect::<Vec<_>>().join("\n"))
}

pub async fn done(session: &Session, statements: &[&str]) {
    for statement in statements {
        sql(session, statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

pub async fn answers(session: &Session, query: &str) -> String {
    rows(session, query).await.unwrap_or_else(|error| panic!("{query}: {error}"))
}

/// Expects an error that has these words and shows no [`SECRET`]. Returns it.
pub async fn refused(session: &Session, statement: &str, words: &[&str]) -> String {
    let error = sql(session, statement).await.expect_err(statement);
    for word in words {
        assert!(error.contains(word), "{word:?} is missing in: {error}");
    }
    assert!(!error.contains(SECRET), "{error}");
    error
}

/// Asks `what` of a server, at every `pause`, until this is the answer.
pub async fn until(what: &str, ask: impl Fn() -> String, answer: &str, pause: Duration) {
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        let found = ask();
        if found == answer {
            return;
        }
        assert!(Instant::now() < patience, "{what}: {found}, and not {answer}");
        tokio::time::sleep(pause).await;
    }
}

/// Asserts that `load`, a COPY of 1,000 rows into an empty table `t` under the name 'monday', is loaded once, and other names and targets beside it. `answer`
/// asks the server.
pub async fn loaded_once(session: &Session, load: &str, answer: impl Fn(&str) -> String) {
    done(session, &[STAGES]).await;
    // Several at a time: one of them is the load.
    let both = tokio::join!(sql(session, load), sql(session, load), sql(session, load));
    let loaded = [&both.0, &both.1, &both.2].into_iter().filter(|result| result.is_ok()).count();
    assert_eq!(loaded, 1, "{both:?}");
    let words = ["the load 'monday' is in", "already: 1000 rows", "nothing was written"];
    refused(session, load, &words).await;
    for error in [both.0, both.1, both.2].into_iter().filter_map(Result::err) {
        assert!(error.contains(words[0]), "{error}");
    }
    assert_eq!(answer("SELECT count(*) FROM t"), "1000");
    done(session, &[&load.replace("monday", "tues'day".replace('\'', "''").as_str())]).await;
    done(session, &[&load.replace("table 't'", "table 'other'")]).await;
    assert_eq!(answer("SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM other)"), "2000|1000");
}

/// The lines of JSON of a file, or of the one file of a folder.
pub fn json_lines(place: &Path) -> Vec<serde_json::Value> {
    let files: Vec<PathBuf> = match place.is_dir() {
        true => std::fs::read_dir(place).expect("it can be listed").map(|entry| entry.unwrap().path()).collect(),
        false => vec![place.to_path_buf()],
    };
    assert_eq!(files.len(), 1, "{files:?}");
    let text = std::fs::read_to_string(&files[0]).expect("it can be read");
    text.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect()
}

/// A cluster whose primary is killed as soon as `has_begun` says that a statement has come so far, and that is started again.
pub async fn primary_killed(tables: &[&str], statement: &str, has_begun: impl Fn() -> bool) -> (Processes, Session) {
    let dir = tempfile::tempdir().expect("a folder can be made");
    let at = dir.path().display().to_string();
    let cluster = Processes::shaped(dir, ["2", "2", "1GiB"], &[]);
    let session = cluster.session().await;
    done(&session, &[STAGES]).await;
    done(&session, tables).await;
    let statement = statement.to_string();
    let running = tokio::spawn(async move { sql(&session, &statement).await });
    let patience = Instant::now() + Duration::from_secs(20);
    while !has_begun() && Instant::now() < patience && !running.is_finished() {}
    killed(cluster.primary().into());
    running.abort();
    let up = ["cluster", "up", "--executors", "2", "--slots", "2", "--memory", "1GiB", "--dir", &at, "--json"];
    let described: serde_json::Value = serde_json::from_str(&succeed(windlass(&up))).expect("the cluster is described");
    let addresses = [&described["url"], &described["rest"]].map(|address| address.as_str().expect("it has an address"));
    assert_eq!(addresses, [&cluster.url, &cluster.rest], "who knew the cluster finds it again");
    let session = Client::connect(&cluster.url).await.expect("the cluster answers");
    (cluster, session)
}

/// Loads a file into the table `zip` of a server at `location`, which takes one of its rows. `answer` asks the server.
pub fn rows_are_set_aside_from_the_command_line(location: &str, answer: impl Fn(&str) -> String) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("z.csv").display().to_string();
    std::fs::write(&file, "id,amount\n1,10.25\n2,ten\n3,12345.6\n").expect("a file can be written");
    let rejects = folder.path().join("rejects.json");
    let place = rejects.display().to_string();
    let load = ["copy", &file, "--into", location, "--table", "zip", "--rejects", &place, "--max-rejects", "2"];
    let printed = run(windlass(&load)).expect("it is loaded");
    assert!(printed.contains("| count | rejected |") && printed.contains("|     1 |        2 |"), "{printed}");
    assert_eq!(answer("SELECT * FROM zip"), "1|10.25");
    let lines = json_lines(&rejects);
    assert_eq!((&lines[0]["amount"], &lines[1]["amount"]), (&serde_json::json!("ten"), &serde_json::json!("12345.6")));
}

/// Patterns of LIKE that conditions are made of.
pub const PATTERNS: [&str; 11] = [
    "'a%'",
    "'%b'",
    "'_'",
    "'%'",
    "''",
    "'A_%'",
    "'é%'",
    "'% %'",
    "'!a%' ESCAPE '!'",
    "'%!_%' ESCAPE '!'",
    "'a\\%' ESCAPE ''",
];

/// Loads twice at a time under one name, into the table `t` of a server: the second load hears that the first was faster, and takes its rows for none that the
/// target refuses. `load`: COPY of 3,000 rows with a name, and a file for rows that are set aside. `answer` asks the server.
pub async fn loads_of_one_name_come_one_after_the_other(
    load: impl Fn(&str, &Path) -> String,
    answer: impl Fn(&str) -> String,
) {
    let (session, other) = (embedded().await, embedded().await);
    let folder = tempfile::tempdir().expect("a folder can be made");
    for name in ["monday", "tuesday", "wednesday"] {
        let load = |file: &str| load(name, &folder.path().join(file));
        let (first, second) = (load("first.json"), load("second.json"));
        let ended = tokio::join!(rows(&session, &first), rows(&other, &second));
        let (loaded, told) = match ended {
            (Ok(loaded), Err(told)) | (Err(told), Ok(loaded)) => (loaded, told),
            both => panic!("{name}: {both:?}"),
        };
        assert_eq!(loaded, "3000|0", "{name}");
        assert!(told.contains(&format!("the load '{name}' is in")) && told.contains("already"), "{name}: {told}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 0, "{name}: nothing is set aside");
        assert_eq!(answer("SELECT count(*) FROM t"), "3000", "{name}");
        answer("DELETE FROM t");
    }
}

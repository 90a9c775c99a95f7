//! Tests that the reference file, the defaults and the settings of the processes agree.

use super::*;
use toml::{Table, Value};

const SECTIONS: [&str; 7] = ["primary", "executor", "elastic", "files", "exchange", "query", "log"];

fn parse(text: &str) -> Result<Config, ConfigError> {
    load::parse(Path::new("reference"), text)
}

#[test]
fn the_reference_reads_back_as_the_defaults() {
    assert_eq!(parse(&Config::reference()).unwrap(), Config::default());
}

#[test]
fn the_reference_names_every_section_and_documents_every_key() {
    let reference = Config::reference();
    for section in SECTIONS {
        assert!(reference.contains(&format!("\n[{section}]\n")), "{section} is missing");
    }
    let lines: Vec<&str> = reference.lines().collect();
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| line.contains(" = ")) {
        assert!(lines[index - 1].starts_with("# ") || line.starts_with('#'), "{line} has no documentation");
    }
}

#[test]
fn the_file_under_deploy_is_the_reference() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/windlass.toml");
    let file = std::fs::read_to_string(path).unwrap_or_default();
    assert!(file == Config::reference(), "write it again: windlass config > deploy/windlass.toml");
}

/// Settings of the processes as text: a key that changes nothing in it has no effect.
fn arrived(config: &Config) -> Result<String, String> {
    Ok(format!(
        "{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}",
        config.primary(0)?,
        config.elastic()?,
        crate::cli::serve::arguments(config, "grpc://primary:1", None),
        config.elastic.dir,
        config.executor()?,
        config.log
    ))
}

/// Configuration of a cluster in which every setting has a meaning.
fn base() -> Table {
    let mut base: Table = Config::reference().parse().unwrap();
    let mut set = |section: &str, key: &str, value: Value| {
        base[section].as_table_mut().unwrap().insert(key.to_owned(), value).unwrap();
    };
    set("primary", "etcd", Value::Array(vec![Value::from("http://etcd:2379")]));
    set("primary", "warehouse", Value::from("s3://bucket/tables"));
    set("elastic", "max_executors", Value::from(9));
    base
}

/// Values of every type that a key can have, none of them a default.
fn others() -> Vec<Value> {
    let table = |key: &str, value: Value| Value::Table(Table::from_iter([(key.to_owned(), value)]));
    let texts = ["77MiB", "77s", "777ms", "127.0.0.1:777", "task", "zstd", "json", "no", "other"];
    let plain = [Value::from(4), Value::from(7), Value::from(2.5), Value::from(false), Value::from(true)];
    let nested = [
        Value::Array(vec![Value::from("http://other:1")]),
        table("etl", table("weight", Value::from(3))),
        table("datafusion.execution.time_zone", Value::from("Europe/Berlin")),
    ];
    texts.into_iter().map(Value::from).chain(plain).chain(nested).collect()
}

#[test]
fn every_key_of_the_reference_arrives() {
    let base = base();
    let config = parse(&base.to_string()).unwrap();
    let before = arrived(&config).unwrap();
    let mut keys = 0;
    for (section, values) in &base {
        for key in values.as_table().unwrap().keys() {
            let changed = others().into_iter().find_map(|value| {
                let mut file = base.clone();
                file[section].as_table_mut().unwrap().insert(key.clone(), value);
                let changed = parse(&file.to_string()).ok().filter(|changed| *changed != config)?;
                arrived(&changed).ok()
            });
            let changed = changed.unwrap_or_else(|| panic!("no value of this test fits {section}.{key}: add one"));
            assert!(changed != before, "{section}.{key} arrives nowhere");
            keys += 1;
        }
    }
    assert!(keys > 70, "there are {keys} keys");
}

#[test]
fn what_has_no_meaning_in_one_process_is_named() {
    let file =
        "[primary]\nlisten = \"0.0.0.0:1\"\nsize_limit = 9\n[executor]\nslots = 2\n[elastic]\nmax_executors = 4\n";
    assert_eq!(Config::without_meaning_embedded(file), ["primary.listen", "elastic.max_executors"]);
    // Each of them is an existing key.
    let all = Config::without_meaning_embedded(&Config::reference());
    assert_eq!(all.len(), embedded::WITHOUT_MEANING.iter().map(|(_, keys)| keys.len()).sum::<usize>(), "{all:?}");
}

#[test]
fn what_a_file_says_holds_in_one_process() {
    let file = "[primary]\nsize_limit = 9\nqueued_jobs = 3\n[executor]\nslots = 2\nmemory = \"64MiB\"\n[query]\nbatch_rows = 7\n";
    let config = parse(file).unwrap();
    let settings = config.embedded();
    let cluster = settings.cluster("x".into()).unwrap();
    assert_eq!(cluster.statements.limits.size, 9);
    assert_eq!(cluster.primary.driver.scheduler.max_queued_jobs, Some(3));
    assert!(cluster.sessions.options.contains(&("datafusion.execution.batch_size".to_owned(), "7".to_owned())));
    let executor = settings.executor("y".into()).unwrap();
    assert_eq!((executor.slots, executor.memory_bytes, executor.dir), (2, 64 << 20, "y".into()));
}

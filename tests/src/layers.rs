//! Dependency rules, checked by reading the imports of the code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn sources(path: &str) -> Vec<(PathBuf, String)> {
    let found = sources_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path));
    assert!(!found.is_empty(), "there is no source in {path}");
    found
}

/// Sources of a file or of all files in a folder, without comments and tests.
fn sources_of(root: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut paths = vec![root.to_path_buf()];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(std::fs::read_dir(&path).expect("a folder can be listed").map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|kind| kind == "rs")
            && path.file_stem().is_some_and(|name| name != "tests")
        {
            let text = std::fs::read_to_string(&path).expect("a source can be read");
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
            found.push((path, lines.collect::<Vec<_>>().join("\n")));
        }
    }
    found
}

fn none_names(paths: &[&str], forbidden: &[&str]) {
    for (file, code) in paths.iter().flat_map(|path| sources(path)) {
        for name in forbidden {
            assert!(!code.contains(name), "{} names {name}", file.display());
        }
    }
}

/// Flight SQL, gRPC Admin, REST and WebHDFS translate to the services, and use nothing below them.
#[test]
fn faces_know_services_alone() {
    let faces = ["scheduler/src/flight", "scheduler/src/admin.rs", "gateway/src"];
    none_names(&faces, &["::driver", "::history", "::meta::", "::saved", "Kept", "ExecutorEntry", "JobRecord"]);
    none_names(&["gateway/src"], &["::statements", "windlass_proto::v1", "windlass_engine"]);
}

/// Every server starts in one place, and so does every connection to one.
#[test]
fn there_is_one_door() {
    let all =
        ["core", "engine", "connectors", "scheduler", "gateway", "executor", "client"].map(|at| format!("{at}/src"));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    none_names(&all, &["Server::builder", "axum::serve", " Endpoint::", "(Endpoint::", "TcpStream::connect"]);
}

/// Results of the services are not made for one face.
#[test]
fn services_know_no_face() {
    none_names(&["scheduler/src/services"], &["serde_json", "crate::flight", "arrow_flight", "axum", "tonic"]);
}

/// The driver and the layers below it know nothing of statements, and the catalog nothing of sessions.
#[test]
fn what_is_below_knows_nothing_of_what_is_above() {
    none_names(&["scheduler/src/driver"], &["crate::statements", "crate::services", "crate::flight", "crate::primary"]);
    none_names(&["scheduler/src/meta"], &["crate::driver", "crate::statements", "crate::services", "crate::files"]);
    none_names(&["scheduler/src/statements/catalog"], &["::sessions", "crate::flight", "crate::services"]);
    none_names(&["scheduler/src/statements"], &["crate::flight", "crate::services", "crate::primary"]);
}

/// Only the file of its prefix builds and reads a key of the metadata store.
#[test]
fn each_prefix_of_the_metadata_store_has_one_file() {
    let keys = sources("scheduler/src/meta/keys");
    let prefixes: Vec<&str> = keys
        .iter()
        .flat_map(|(_, code)| code.lines())
        .filter_map(|line| line.strip_prefix("const ")?.split_once(": &str = \"")?.1.strip_suffix("\";"))
        .filter(|text| text.contains('/') && !text.starts_with('/'))
        .collect();
    assert!(prefixes.len() >= 18, "{prefixes:?}");
    for (file, code) in sources("scheduler/src").iter().filter(|(file, _)| !file.iter().any(|part| part == "keys")) {
        for prefix in &prefixes {
            let root = prefix.split('/').next().unwrap_or_default();
            assert!(!code.contains(&format!("\"{root}/")), "{} names keys under {root}/", file.display());
        }
    }
    // No file names the prefix of another.
    let mut all = prefixes.clone();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), prefixes.len(), "a prefix has two files: {prefixes:?}");
}

const CRATES: [&str; 8] = ["core", "engine", "connectors", "proto", "executor", "scheduler", "gateway", "client"];

/// The modules of each crate import from those that its `lib.rs` lists before them.
#[test]
fn imports_run_down() {
    for name in CRATES {
        let modules = Modules::of(name);
        assert_eq!(modules.arrows_up(&modules.lowest_first), [""; 0], "{name}/src/lib.rs lists its modules otherwise");
    }
    // The check notices imports: in reverse order, they run up.
    let engine = Modules::of("engine");
    let highest_first: Vec<String> = engine.lowest_first.iter().rev().cloned().collect();
    assert!(engine.arrows_up(&highest_first).len() > 100);
}

/// Modules of a crate as its `lib.rs` lists them.
struct Modules {
    root: PathBuf,
    lowest_first: Vec<String>,
    /// Module of each name that `lib.rs` exports.
    given_out: BTreeMap<String, String>,
}

impl Modules {
    fn of(name: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src");
        let lib = std::fs::read_to_string(root.join("lib.rs")).expect("a crate has a lib.rs");
        let (docs, code): (Vec<&str>, Vec<&str>) = lib.lines().partition(|line| line.starts_with("//!"));
        let rows = docs.into_iter().skip_while(|line| !line.starts_with("//! | layer |"));
        let lowest_first: Vec<String> =
            rows.flat_map(|row| row.split('`').skip(1).step_by(2)).map(String::from).collect();
        let code = code.join("\n").replace("#[cfg(test)]\nmod ", "").replace("pub mod ", "mod ");
        let declared = code.split("\nmod ").skip(1).filter_map(|rest| rest.lines().next()?.strip_suffix(';'));
        let mut declared: Vec<String> = declared.map(String::from).collect();
        let mut listed = lowest_first.clone();
        declared.sort();
        listed.sort();
        assert_eq!(listed, declared, "{name}/src/lib.rs lists all of its modules, and each of them once");
        let mut given_out = BTreeMap::new();
        for statement in code.split("pub use ").skip(1).filter_map(|rest| rest.split(';').next()) {
            let mut names = words(statement);
            if let Some(module) = names.next().filter(|module| listed.iter().any(|listed| listed == module)) {
                given_out.extend(names.map(|name| (name.to_string(), module.to_string())));
            }
        }
        Self { root, lowest_first, given_out }
    }

    /// Imports that do not follow `order`, each as the file and the module.
    fn arrows_up(&self, order: &[String]) -> Vec<String> {
        let place = |module: &str| order.iter().position(|other| other == module);
        let mut up = Vec::new();
        for module in order {
            let (file, folder) = (self.root.join(format!("{module}.rs")), self.root.join(module));
            let found = [file, folder].into_iter().filter(|path| path.exists()).flat_map(|path| sources_of(&path));
            for (path, code) in found {
                let within = path.strip_prefix(&self.root).expect("it was found there");
                if within.components().any(|part| part.as_os_str() == "tests") {
                    continue;
                }
                let depth = within.components().count() - usize::from(within.ends_with("mod.rs"));
                for name in from_root(&code, depth) {
                    let target = self.given_out.get(&name).unwrap_or(&name);
                    if place(target) > place(module) {
                        up.push(format!("{} -> {target}", within.display()));
                    }
                }
            }
        }
        up
    }
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Names that code in a module at this depth imports from the root of its crate.
fn from_root(code: &str, depth: usize) -> Vec<String> {
    let supers = "super::".repeat(depth);
    let mut names = Vec::new();
    for root in ["crate::", supers.as_str()] {
        for (at, _) in code.match_indices(root) {
            let (before, after) = (&code[..at], &code[at + root.len()..]);
            let is_part = before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            if is_part || after.starts_with("super::") {
                continue;
            }
            let Some(group) = after.strip_prefix('{') else {
                names.extend(words(after).next().map(String::from));
                continue;
            };
            // The first word of each part between commas outside of inner braces.
            let (mut inner, mut first) = (0, true);
            for part in group.split_inclusive(['{', '}', ',']) {
                if first && inner == 0 {
                    names.extend(words(part).next().map(String::from));
                }
                first = inner == 0 && part.ends_with(',');
                match part.chars().last() {
                    Some('{') => inner += 1,
                    Some('}') if inner == 0 => break,
                    Some('}') => inner -= 1,
                    _ => {}
                }
            }
        }
    }
    names
}

/// A task belongs to a set or a tracker, or to an owner that waits for it and ends with it.
#[test]
fn no_task_is_without_an_owner() {
    const ALL: [&str; 8] = ["core", "engine", "connectors", "proto", "scheduler", "gateway", "executor", "client"];
    for (file, code) in ALL.iter().flat_map(|of| sources(&format!("{of}/src"))) {
        // Independent of line breaks.
        let code: String = code.split_whitespace().collect();
        let owned = code.replace("AbortOnDropHandle::new(tokio::spawn(", "");
        for spawn in ["tokio::spawn(", "task::spawn(", "Handle::current().spawn(", "spawn_local("] {
            assert!(!owned.contains(spawn), "{} has a bare {spawn}...)", file.display());
        }
    }
}

/// Only the assembly of the primary provides time and names.
#[test]
fn clocks_and_names_are_handed_down() {
    for (file, code) in sources("scheduler/src").iter().filter(|(file, _)| !file.ends_with("scheduler/src/clock.rs")) {
        for source in ["SystemTime::now", "Uuid::new_v4", "Utc::now", "wall_ms() -> u64"] {
            assert!(!code.contains(source), "{} has a {source} of its own", file.display());
        }
    }
}

/// The tests that ARCHITECTURE.md names hold what it says, so they exist.
#[test]
fn the_architecture_names_tests_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).expect("it can be read");
    let named = regex::Regex::new(r"`([\w/.]+\.rs)::(\w+)`").expect("it is a pattern");
    let mut count = 0;
    for name in named.captures_iter(&text) {
        let (file, test) = (&name[1], &name[2]);
        let code = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(code.contains(&format!("fn {test}(")), "{file} has no {test}");
        count += 1;
    }
    assert!(count > 100, "{count} tests are named");
}

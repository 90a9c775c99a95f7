//! What may know what: the imports of the code, read.

use std::path::{Path, PathBuf};

/// The sources of a file or of all files in a folder, without comments and tests.
fn sources(path: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    let mut found = Vec::new();
    let mut paths = vec![root.clone()];
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
    assert!(!found.is_empty(), "there is no source in {}", root.display());
    found
}

fn none_names(paths: &[&str], forbidden: &[&str]) {
    for (file, code) in paths.iter().flat_map(|path| sources(path)) {
        for name in forbidden {
            assert!(!code.contains(name), "{} names {name}", file.display());
        }
    }
}

/// Flight SQL, gRPC Admin, REST and WebHDFS translate to the services, and reach for nothing below them.
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

/// What the services give is not made for one face.
#[test]
fn services_know_no_face() {
    none_names(&["scheduler/src/services"], &["serde_json", "crate::flight", "arrow_flight", "axum", "tonic"]);
}

/// The driver and what lies below it know nothing of statements, and the catalog nothing of sessions.
#[test]
fn what_is_below_knows_nothing_of_what_is_above() {
    none_names(&["scheduler/src/driver"], &["crate::statements", "crate::services", "crate::flight", "crate::primary"]);
    none_names(&["scheduler/src/meta"], &["crate::driver", "crate::statements", "crate::services", "crate::files"]);
    none_names(&["scheduler/src/statements/catalog"], &["::sessions", "crate::flight", "crate::services"]);
    none_names(&["scheduler/src/statements"], &["crate::flight", "crate::services", "crate::primary"]);
}

/// A key of the metadata store is built and read by the file of its prefix alone.
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
    // Nor does a file name the prefix of another.
    let mut all = prefixes.clone();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), prefixes.len(), "a prefix has two files: {prefixes:?}");
}

//! The client library without its features stays a small remote client.

use std::collections::BTreeSet;
use std::process::Command;

/// Crates that a remote client must not need: the parts of a cluster, the query engine, stores and servers.
const UNWANTED: [&str; 17] = [
    "windlass-scheduler",
    "windlass-executor",
    "windlass-engine",
    "windlass-connectors",
    "datafusion",
    "datafusion-proto",
    "datafusion-common",
    "parquet",
    "object_store",
    "redb",
    "etcd-client",
    "axum",
    "clap",
    "rustyline",
    "indicatif",
    "url",
    "arrow-flight",
];

/// Maximum number of crates, the client included.
const MOST: usize = 125;

/// Names of all crates that the client library is linked with.
fn crates(features: &[&str]) -> BTreeSet<String> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["tree", "--offline", "--locked", "--manifest-path", manifest, "--package", "windlass-client"]);
    command.args(["--edges", "normal", "--prefix", "none", "--format", "{p}"]).args(features);
    let output = command.output().expect("cargo can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("names are text");
    tree.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn a_remote_client_is_small() {
    let small = crates(&["--no-default-features"]);
    let back: Vec<_> = UNWANTED.into_iter().filter(|name| small.contains(*name)).collect();
    assert!(
        back.is_empty(),
        "the client library needs {back:?} again: see 'cargo tree -p windlass-client --no-default-features -i NAME'"
    );
    assert!(small.contains("windlass-proto") && small.contains("arrow"), "{small:?}");
    assert!(small.len() <= MOST, "{} crates: {small:?}", small.len());
    // The list is meaningful: the full client has all of them.
    let whole = crates(&[]);
    let unknown: Vec<_> = UNWANTED.into_iter().filter(|name| !whole.contains(*name)).collect();
    assert!(unknown.is_empty(), "nothing needs {unknown:?}: correct the list");
}

//! Clients of Livy that others wrote, unchanged.

use crate::cluster::{Processes, cache, root, succeed};
use std::process::Command;

fn python(script: &str) -> Command {
    let python = cache().join("livy/bin/python");
    assert!(python.is_file(), "{} is missing: run 'make data' first", python.display());
    let mut command = Command::new(python);
    command.arg(root().join("tests/python").join(script));
    command
}

#[test]
fn clients_of_python_work() {
    let cluster = Processes::start();
    let mut clients = python("livy_clients.py");
    clients.arg(&cluster.rest);
    let printed = succeed(clients);
    assert_eq!(printed.matches(": ok").count(), 3, "{printed}");
}

#[test]
fn the_client_of_node_works() {
    let cluster = Processes::start();
    let folder = cache().join("livy-client");
    assert!(folder.is_dir(), "{} is missing: run 'make data' first", folder.display());
    let (_, port) = cluster.rest.rsplit_once(':').expect("an address has a port");
    let mut client = Command::new("node");
    client.arg(root().join("tests/node/livy_client.js")).arg(&folder).arg(port);
    succeed(client);
}

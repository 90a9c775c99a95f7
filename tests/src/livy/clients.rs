//! Clients of Livy that others wrote, unchanged.

use super::python::Pythonic;
use crate::cluster::{Processes, cache, python_of, root, succeed};
use std::process::Command;

fn python(script: &str) -> Command {
    python_of("livy", script)
}

#[test]
fn clients_of_python_work() {
    let cluster = Processes::start();
    let mut clients = python("livy_clients.py");
    clients.arg(&cluster.rest);
    let printed = succeed(clients);
    assert_eq!(printed.matches(": ok").count(), 4, "{printed}");
}

/// sparkmagic in kernels of Python, Scala and R.
#[test]
fn notebooks_work() {
    let tried = Pythonic::new();
    let mut notebooks = python("livy_notebook.py");
    notebooks.arg(&tried.cluster.rest);
    assert_eq!(succeed(notebooks), "notebooks: ok\n");
}

/// Airflow's operator, its sensor, and the operator that waits in Airflow's triggerer.
#[test]
fn airflow_works() {
    let (cluster, folder) = (Processes::start(), tempfile::tempdir().expect("a folder can be made"));
    let mut dags = python_of("airflow", "livy_airflow.py");
    dags.arg(&cluster.rest).arg(folder.path());
    assert_eq!(succeed(dags), "airflow: ok\n");
    let table = cluster.sql(&["select sum(n) as n from from_airflow"]).expect("its batches have run");
    assert_eq!(table, "n\n15\n");
}

/// The commands of docs/livy.md, run as written.
#[test]
fn the_commands_of_the_documentation_work() {
    let cluster = Processes::start();
    let text = std::fs::read_to_string(root().join("docs/livy.md")).expect("it can be read");
    let commands = text.split("```bash\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it has commands");
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("set -euo pipefail\n{commands}")]);
    shell.env("REST", &cluster.rest).env("DIR", cluster.dir.path());
    let printed = succeed(shell);
    for wanted in [
        "\"state\":\"idle\"",
        "\"data\":[[15]]",
        "submitted: 2 statements",
        "\"data\":[[7]]",
        "deleted",
        "\"text/plain\":\"30\"",
    ] {
        assert!(printed.contains(wanted), "{wanted} is missing in\n{printed}");
    }
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

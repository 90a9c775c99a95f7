//! Python through the stock ADBC driver, and the example program of the client library.

use crate::cluster::{Processes, binary, python, succeed};
use std::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn stock_adbc() {
    let cluster = Processes::start();
    succeed(python("adbc.py", &[&cluster.url]));
    cluster.at_rest().await;
}

#[test]
fn the_example_of_the_client_library() {
    let cluster = Processes::start();
    let mut command = Command::new(binary().with_file_name("examples").join("quickstart"));
    command.arg(&cluster.url);
    let printed = succeed(command);
    assert!(printed.contains("20 readings are large") && printed.contains("| sensor |"), "{printed}");
}

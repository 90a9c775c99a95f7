//! The `windlass` command with one more kind of table: an example of a user's own binary.

use std::process::ExitCode;
use std::sync::Arc;
use windlass_client::cli;
use windlass_client::connector::Registry;
use windlass_tests::connector::Generated;

fn main() -> ExitCode {
    match Registry::default().with(Arc::new(Generated)) {
        Ok(connectors) => cli::main_with(connectors),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

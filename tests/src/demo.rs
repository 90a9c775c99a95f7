//! The job that `make demo` runs, for any engine.

use std::path::Path;

use arrow::util::pretty::pretty_format_batches;

use crate::Engine;

/// Runs demo/demo.sql with its output under `out`; returns the tables that its queries print.
///
/// # Panics
/// When a statement fails.
pub async fn run(engine: &dyn Engine, out: &Path) -> Vec<String> {
    let workspace = crate::workspace();
    let job = std::fs::read_to_string(workspace.join("demo/demo.sql")).expect("the demo can be read");
    let job = job.replace("@DATA@", &workspace.join("data/nycflights13").display().to_string());
    let job = job.replace("@OUT@", &out.display().to_string());
    let mut tables = Vec::new();
    // Inside texts and comments the job has no semicolon at a line end, so it can be split there.
    for statement in job.split(";\n").filter(|statement| !statement.trim().is_empty()) {
        match engine.sql(statement).await {
            Ok((schema, _)) if schema.fields().is_empty() => {}
            Ok((_, batches)) => tables.push(pretty_format_batches(&batches).expect("rows can be printed").to_string()),
            Err(error) => panic!("{}: {error}\n{statement}", engine.name()),
        }
    }
    tables
}

#[cfg(test)]
mod tests {
    use crate::cluster::{binary, succeed};
    use std::process::Command;

    /// It checks by itself that all flights are loaded back.
    #[test]
    fn the_second_part_runs() {
        let out = tempfile::tempdir().expect("a folder can be made");
        let mut script = Command::new(crate::workspace().join("demo/outside.sh"));
        script.arg(binary()).arg(out.path());
        let printed = succeed(script);
        assert!(printed.contains("SkyWest Airlines Inc."), "{printed}");
        assert!(printed.contains("185 |  336776 |          9430"), "{printed}");
    }
}

//! The tour of README.md, run as written.

use crate::cluster::{binary, python, root};
use std::path::Path;
use std::process::{Command, Stdio};

/// The commands of all code blocks of the section.
fn commands(readme: &str) -> String {
    let (_, tour) = readme.split_once("\n## A tour\n").expect("README.md has a tour");
    let tour = tour.split("\n## ").next().unwrap_or_default();
    let blocks: Vec<&str> = tour.split("\n```").skip(1).step_by(2).collect();
    assert!(blocks.len() > 5 && blocks.iter().all(|block| block.starts_with("bash\n")), "{blocks:?}");
    blocks.iter().map(|block| format!("{}\n", block.trim_start_matches("bash\n"))).collect()
}

#[test]
fn every_command_works() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README.md can be read");
    let temporary = tempfile::tempdir().expect("a folder can be made");
    // The cluster ends with a tour that stops half-way.
    let prelude = "set -euo pipefail
        leave() { [ ! -e \"${tour:-}/cluster/cluster.json\" ] || windlass cluster down --dir \"$tour/cluster\"; }
        trap leave EXIT";
    let script = format!("{prelude}\n{}", commands(&readme));
    let python = python("adbc.py", &[]);
    let folders = [&binary(), Path::new(python.get_program())].map(|path| path.parent().expect("a folder").to_owned());
    let old = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(folders.into_iter().chain(std::env::split_paths(&old))).expect("folders");
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(root())
        .env("PATH", path)
        .env("TMPDIR", temporary.path())
        .env_remove("WINDLASS_URL")
        .env_remove("WINDLASS_CONFIG")
        .stdin(Stdio::null())
        .output()
        .expect("bash runs");
    let (printed, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the tour stops.\n{printed}\n{complained}");
    for wanted in [
        "\"answer\":42",
        "1 primary, 2 executors",
        "| EWR    |  120835 |",
        "|   11728 |",
        "month=12",
        "Stage 1",
        "finished",
        "| ORD  | 17283 |",
        "\"executors\":[",
        "# TYPE",
        "[{'carrier': 'EV', 'n': ",
        "stopped 3 processes",
    ] {
        assert!(printed.contains(wanted), "{wanted:?} is missing in\n{printed}\n{complained}");
    }
    // The stages that ran are printed beside the rows.
    assert!(complained.contains("stage"), "{complained}");
}

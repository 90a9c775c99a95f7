//! The Python package: its own tests under pytest, its types under mypy. `make test` builds its native module beside the command.

use crate::cluster::{binary, cache, succeed};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package as a wheel would install it, in a folder of its own.
pub(crate) struct Installed {
    folder: tempfile::TempDir,
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../client/python")
}

impl Installed {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let package = folder.path().join("windlass");
        std::fs::create_dir(&package).expect("a folder can be made");
        for entry in std::fs::read_dir(sources().join("windlass")).expect("the package is there") {
            let file = entry.expect("the folder can be read").path();
            if file.is_file() {
                std::fs::copy(&file, package.join(file.file_name().expect("a file has a name"))).expect("it is copied");
            }
        }
        let native = binary().with_file_name("libwindlass_native.so");
        std::fs::copy(&native, package.join("_native.abi3.so"))
            .unwrap_or_else(|error| panic!("{}: {error}: 'make test' builds it", native.display()));
        Installed { folder }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn python(&self, module: &str) -> Command {
        let mut command = Command::new(cache().join("python-package/bin/python"));
        command.args(["-m", module]).current_dir(self.folder.path());
        command.env("PYTHONPATH", self.folder.path()).env("WINDLASS_BINARY", binary()).env_remove("WINDLASS_URL");
        command
    }
}

#[test]
fn python_runs_statements_loads_rows_and_watches_jobs() {
    let installed = Installed::new();
    let mut command = installed.python("pytest");
    command.args(["-q", "-p", "no:cacheprovider"]).arg(sources().join("tests"));
    // It says on standard output what failed.
    let output = command.output().expect("Python starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains(" passed"), "{said}");
}

#[test]
fn the_types_of_the_package_hold() {
    let installed = Installed::new();
    let mut command = installed.python("mypy");
    command.arg("--config-file").arg(sources().join("pyproject.toml")).args(["-p", "windlass"]);
    assert!(succeed(command).contains("Success"), "mypy found something");
}

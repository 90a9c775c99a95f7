//! The Python package: its own tests under pytest, its types under mypy. `make test` builds its native module beside the command.

use crate::cluster::{Processes, binary, cache, succeed};
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
            let path = entry.expect("the folder can be read").path();
            let copy = package.join(path.file_name().expect("a file has a name"));
            match path.is_dir() {
                // The command that a wheel carries, if one was built here.
                true if path.ends_with("bin") => {}
                true => copy_folder(&path, &copy),
                false => drop(std::fs::copy(&path, &copy).expect("it is copied")),
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
        let mut command = self.program("python-package", "python");
        command.args(["-m", module]);
        command
    }

    /// Builds a command for a program of an environment, which finds the package.
    pub fn program(&self, environment: &str, name: &str) -> Command {
        let program = cache().join(environment).join("bin").join(name);
        assert!(program.is_file(), "{} is missing: run 'make data' first", program.display());
        let mut command = Command::new(program);
        command.current_dir(self.folder.path());
        command.env("PYTHONPATH", self.folder.path()).env("WINDLASS_BINARY", binary()).env_remove("WINDLASS_URL");
        command
    }
}

#[test]
fn python_runs_statements_loads_rows_and_watches_jobs() {
    let installed = Installed::new();
    let mut command = installed.python("pytest");
    command.args(["-q", "-p", "no:cacheprovider"]).arg(sources().join("tests"));
    passes(command);
}

/// SQLAlchemy's own tests of dialects.
#[test]
fn sqlalchemys_own_tests_pass() {
    let (installed, cluster) = (Installed::new(), Processes::start());
    cluster.sql(&["create schema test_schema"]).expect("a schema can be made");
    let tests = installed.folder.path().join("dialect_tests");
    copy_folder(&sources().join("dialect_tests"), &tests);
    let mut command = installed.python("pytest");
    let url = cluster.url.replace("grpc://", "windlass://");
    command.current_dir(&tests).args(["-q", "-p", "no:cacheprovider", "-W", "ignore", "--dburi", &format!("{url}/")]);
    command.arg("test_suite.py");
    passes(command);
}

/// Runs pytest, which says on standard output what failed.
pub(crate) fn passes(mut command: Command) {
    let output = command.output().expect("Python starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains(" passed"), "{said}");
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder can be made");
    for entry in std::fs::read_dir(from).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        let copy = to.join(path.file_name().expect("a file has a name"));
        match path.is_dir() {
            true => copy_folder(&path, &copy),
            false => drop(std::fs::copy(&path, &copy).expect("it is copied")),
        }
    }
}

#[test]
fn the_types_of_the_package_hold() {
    let installed = Installed::new();
    let mut command = installed.python("mypy");
    command.arg("--config-file").arg(sources().join("pyproject.toml")).args(["-p", "windlass"]);
    assert!(succeed(command).contains("Success"), "mypy found something");
}

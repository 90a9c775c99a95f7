//! Tests that cannot run here say so: in their output, and in the closing lines of `make test`.

use std::fs::File;
use std::io::Write;

/// The file that a run of all tests collects them in.
const FILE: &str = "WINDLASS_SKIPPED";

/// Notes that the test of this thread does not run, and why not. To be called on the thread that the test was started on.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    let line = format!("{}: {why}\n", thread.name().unwrap_or("a test"));
    eprint!("skipped: {line}");
    let Some(path) = std::env::var_os(FILE) else { return };
    // One write, so that lines of tests that run at the same time stay whole.
    let noted =
        File::options().create(true).append(true).open(path).and_then(|mut file| file.write_all(line.as_bytes()));
    noted.expect("what was skipped can be noted");
}

//! Tests that cannot run here report it: in their output, and in the closing lines of `make test`.

use std::fs::File;
use std::io::Write;

/// Variable that names the file in which a run of all tests collects them.
const FILE: &str = "WINDLASS_SKIPPED";

/// Notes that the test of this thread does not run, with the reason. To be called on the thread that the test was started on.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    let line = format!("{}: {why}\n", thread.name().unwrap_or("a test"));
    eprint!("skipped: {line}");
    let Some(path) = std::env::var_os(FILE) else { return };
    // One write, so that lines of concurrent tests stay whole.
    let noted =
        File::options().create(true).append(true).open(path).and_then(|mut file| file.write_all(line.as_bytes()));
    noted.expect("what was skipped can be noted");
}

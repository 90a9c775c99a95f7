//! The prompt on a real terminal.

use crate::cluster::{binary, python, succeed};

#[test]
fn a_person_types_and_pastes() {
    let home = tempfile::tempdir().expect("a folder can be made");
    let (windlass, home) = (binary().display().to_string(), home.path().display().to_string());
    assert_eq!(succeed(python("prompt.py", &[&windlass, &home])).trim(), "ok");
}

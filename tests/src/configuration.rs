//! Effects of a configuration file and of flags on the `windlass` command.

use crate::cluster::windlass;
use std::process::Output;

/// Runs the command and returns its standard output, its standard error and its exit code.
fn ran(arguments: &[&str]) -> (String, String, Option<i32>) {
    let Output { status, stdout, stderr } = windlass(arguments).output().expect("the command can be run");
    let text = |bytes| String::from_utf8(bytes).expect("it writes text");
    (text(stdout), text(stderr), status.code())
}

#[test]
fn a_file_holds_for_a_cluster_inside_the_process() {
    let folder = tempfile::tempdir().expect("there is room");
    let file = folder.path().join("windlass.toml").display().to_string();
    let settings =
        "[primary]\nlisten = \"0.0.0.0:1\"\nsize_limit = 30\n[executor]\nslots = 1\n[query]\nbatch_rows = 7\n";
    std::fs::write(&file, settings).expect("the file can be written");
    let sql = |statement| ran(&["--config", &file, "sql", "--format", "csv", "-e", statement]);

    let (rows, said, code) = sql("show datafusion.execution.batch_size");
    assert_eq!((rows.as_str(), code), ("name,value\ndatafusion.execution.batch_size,7\n", Some(0)), "{said}");
    assert!(said.contains("have no meaning: primary.listen\n"), "{said}");
    // The size limit of the file applies.
    let long = format!("select {}", ["1"; 40].join(" + "));
    let (_, said, code) = sql(&long);
    assert!(code == Some(1) && said.contains("30"), "{code:?} {said}");
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    for (arguments, named) in [
        (&["primary", "--warehouse", ""][..], "--warehouse"),
        (&["primary", "--max-executors", "1", "--min-executors", "5"], "--min-executors"),
        (&["jobs", "--url", "grpc://127.0.0.1:1", "show", "nonsense"], "nonsense"),
    ] {
        let (_, said, code) = ran(arguments);
        assert!(code == Some(2) && said.contains(named), "{arguments:?}: {code:?} {said}");
    }
}

#[test]
fn exit_codes_come_from_the_kind_of_the_error() {
    let code = |arguments: &[&str]| ran(arguments).2;
    assert_eq!(code(&["sql", "-e", "select 1"]), Some(0));
    assert_eq!(code(&["sql", "-e", "selec 1"]), Some(1));
    assert_eq!(code(&["sql", "--url", "nonsense://x:1", "-e", "select 1"]), Some(2));
    assert_eq!(code(&["sql", "--url", "grpc://127.0.0.1:1", "-e", "select 1"]), Some(3));
}

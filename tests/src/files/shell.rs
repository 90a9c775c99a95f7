//! `windlass fs`, as people use it.

use crate::cluster::{Processes, python, run, succeed, windlass};
use std::fs;

pub(crate) fn fs_command(cluster: &Processes, arguments: &[&str]) -> Result<String, String> {
    let mut command = windlass(&[&["fs"], arguments].concat());
    command.env("WINDLASS_URL", &cluster.url);
    run(command)
}

#[test]
fn files_go_there_and_back_and_around() {
    let cluster = Processes::of(["3", "1", "512MiB"]);
    let fs = |arguments: &[&str]| fs_command(&cluster, arguments).unwrap_or_else(|e| panic!("{arguments:?}: {e}"));
    let refused = |arguments: &[&str]| fs_command(&cluster, arguments).expect_err("it is refused");
    let local = tempfile::tempdir().unwrap();
    let at = |name: &str| local.path().join(name).display().to_string();
    fs::create_dir_all(local.path().join("tree/deep er")).unwrap();
    let large: Vec<u8> = (0..5_000_000u32).map(|n| (n * 31 / 7) as u8).collect();
    fs::write(at("tree/large.bin"), &large).unwrap();
    fs::write(at("tree/deep er/ü #1.txt"), "one\n").unwrap();
    fs::write(at("tree/deep er/empty"), "").unwrap();

    // The first put creates the folder; the next one copies into it, because it exists.
    assert!(fs(&["put", &at("tree"), "/a/tree"]).starts_with("3 files, "));
    assert!(refused(&["put", &at("tree"), "wfs:///a"]).contains("-f"));
    fs(&["put", "-f", "--block-size", "1MiB", "--replication", "2", &at("tree"), "wfs:///a"]);
    let listed = fs(&["ls", "-R", "/a"]);
    assert_eq!(listed.lines().count(), 5, "{listed}");
    assert_eq!(fs(&["cat", "/a/tree/*/? #1.txt", "/a/tree/{deep er,nothing}/*.txt"]), "one\none\n");
    assert_eq!(fs(&["head", "-c", "3", "/a/tree/deep er/ü #1.txt"]), "one");
    let stat: serde_json::Value = serde_json::from_str(&fs(&["stat", "/a/tree/large.bin"])).unwrap();
    assert_eq!(
        (&stat[0]["bytes"], &stat[0]["blocks"], &stat[0]["replication"]),
        (&5_000_000.into(), &5.into(), &2.into())
    );
    fs(&["get", "/a/tree", &at("back")]);
    assert_eq!(fs::read(at("back/large.bin")).unwrap(), large);
    assert_eq!(fs::read(at("back/deep er/ü #1.txt")).unwrap(), b"one\n");
    assert_eq!(fs::read(at("back/deep er/empty")).unwrap(), b"");
    let sum = format!("CRC32C  {:08x}  /a/tree/large.bin\n", crc32c::crc32c(&large));
    assert_eq!(fs(&["checksum", "/a/tree/large.bin"]), sum);

    // An incomplete copy is continued.
    let id = &stat[0]["id"];
    let id = id.as_u64().unwrap();
    fs::remove_file(at("back/large.bin")).unwrap();
    fs::write(at(&format!("back/large.bin.{id}.part")), &large[..1_234_567]).unwrap();
    fs(&["get", "--resume", "/a/tree/large.bin", &at("back/large.bin")]);
    assert_eq!(fs::read(at("back/large.bin")).unwrap(), large);

    fs(&["cp", "/a/tree/large.bin", "/a/copy.bin"]);
    fs(&["mkdir", "-p", "/b/c"]);
    fs(&["mv", "/a/copy.bin", "/a/tree/deep er", "/b/c"]);
    assert_eq!(fs(&["checksum", "/b/c/copy.bin"]), sum.replace("/a/tree/large.bin", "/b/c/copy.bin"));
    assert_eq!(fs(&["cat", "/b/c/deep er/ü #1.txt"]), "one\n");
    let usage = fs(&["du", "-s", "/b"]);
    assert!(usage.contains("5000004") && usage.contains(" 3 "), "{usage}");

    // Mistakes of users.
    assert!(refused(&["cat", "/nope"]).contains("no file or folder /nope"));
    assert!(refused(&["cat", "/b"]).contains("/b is a folder"));
    assert!(refused(&["ls", "/b/nothing*"]).contains("nothing matches"));
    assert!(refused(&["put", &at("tree/large.bin"), "/b/c/copy.bin"]).contains("-f"));
    assert!(refused(&["put", &at("tree/large.bin"), "/b/c/copy.bin/x"]).contains("/b/c/copy.bin is a file"));
    assert!(refused(&["put", "/no such file", "/b"]).contains("no such file or folder here"));
    assert!(refused(&["mkdir", "/x/y"]).contains("no file or folder /x"));
    assert!(refused(&["mv", "/b", "/b/c/d"]).contains("into itself"));
    assert!(refused(&["rm", "/b"]).contains("-r"));
    assert!(refused(&["ls", "wfs://host/x"]).contains("wfs:///host/x"));
    assert!(refused(&["setrep", "9", "/b/c/copy.bin"]).contains("from 1 to 5"));

    // More replicas than executors can be requested but not made; a quota is enforced.
    fs(&["setrep", "5", "/b/c/copy.bin"]);
    let check = fs(&["fsck"]);
    assert!(
        check.contains("/b/c/copy.bin") && check.contains("3 of 5 replicas") && check.contains("healthy"),
        "{check}"
    );
    fs(&["setrep", "-w", "1", "/b/c/copy.bin"]);
    assert!(!fs(&["fsck", "/b"]).contains("of 5"));
    fs(&["quota", "/b", "--bytes", "16MiB"]);
    let full = refused(&["put", &at("tree/large.bin"), "/b/c/again.bin"]);
    assert!(full.contains("quota of /b") && full.contains("16777216"), "{full}");
    assert!(refused(&["stat", "/b/c/again.bin"]).contains("no file"));

    // A removed file can be restored; a file removed from the trash is gone.
    let moved = fs(&["rm", "-r", "/b"]);
    let trashed = moved.trim().rsplit(' ').next().unwrap().to_string();
    assert!(refused(&["ls", "/b"]).contains("no file or folder"));
    fs(&["mv", &trashed, "/b"]);
    fs(&["checksum", "/b/c/copy.bin"]);
    fs(&["rm", "-r", "/b"]);
    fs(&["rm", "-r", "-f", "/nothing"]);
    fs(&["trash", "--empty"]);
    assert_eq!(fs(&["trash"]), "");
    fs(&["rm", "-r", "--skip-trash", "/a"]);
    let report: serde_json::Value = serde_json::from_str(&fs(&["report", "--json"])).unwrap();
    assert_eq!(report["blocks"], 0);
}

#[test]
fn scans_say_how_much_they_read_on_their_own_executors() {
    let cluster = Processes::of(["3", "1", "512MiB"]);
    let local = tempfile::tempdir().unwrap();
    let csv = local.path().join("t.csv");
    let rows: String = (0..100_000).map(|row| format!("{row},{}\n", row % 7)).collect();
    fs::write(&csv, format!("a,b\n{rows}")).unwrap();
    // With blocks on each executor, and on one of them.
    for (replication, folder) in [("3", "everywhere"), ("1", "once")] {
        let path = format!("/{folder}/t.csv");
        fs_command(&cluster, &["put", "--replication", replication, &csv.display().to_string(), &path]).unwrap();
        let table = format!(
            "CREATE EXTERNAL TABLE {folder} STORED AS CSV LOCATION 'wfs:///{folder}/' OPTIONS ('format.has_header' 'true')"
        );
        cluster.sql(&[&table]).unwrap();
        let parquet = format!("{folder}_parquet");
        fs_command(&cluster, &["mkdir", &format!("/{parquet}")]).unwrap();
        fs_command(&cluster, &["setrep", replication, &format!("/{parquet}")]).unwrap();
        let copy = format!("COPY {folder} TO 'wfs:///{parquet}/t.parquet' STORED AS PARQUET");
        let table = format!("CREATE EXTERNAL TABLE {parquet} STORED AS PARQUET LOCATION 'wfs:///{parquet}/'");
        cluster.sql(&[&copy, &table]).unwrap();
        for table in [folder, &parquet] {
            let analyze = format!("EXPLAIN ANALYZE SELECT b, sum(a) FROM {table} GROUP BY b");
            let said = cluster.sql(&["SET windlass.small_query_bytes = 0", &analyze]).unwrap();
            assert!(said.contains("local_bytes=") && said.contains("remote_bytes="), "{said}");
            assert!(said.contains("local=100.0%") || replication == "1" && said.contains("local="), "{said}");
        }
    }
}

#[test]
fn stock_webhdfs_clients_read_write_and_list() {
    let cluster = Processes::of(["3", "1", "512MiB"]);
    let described = std::fs::read_to_string(cluster.dir.path().join("cluster.json")).unwrap();
    let described: serde_json::Value = serde_json::from_str(&described).unwrap();
    assert_eq!(succeed(python("webhdfs.py", &[described["rest"].as_str().unwrap()])), "ok\n");
}

#[test]
fn an_embedded_cluster_keeps_its_files_in_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("cluster").display().to_string();
    let fs = |arguments: &[&str]| succeed(windlass(&[&["fs", "--dir", &at], arguments].concat()));
    let csv = dir.path().join("t.csv");
    fs::write(&csv, "a,b\n1,x\n2,y\n").unwrap();
    fs(&["put", &csv.display().to_string(), "/in/t.csv"]);
    let sql = "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'wfs:///in/' OPTIONS ('format.has_header' 'true'); \
               COPY (SELECT b, sum(a) AS s FROM t GROUP BY b ORDER BY b) TO 'wfs:///out/sums.csv' STORED AS CSV";
    succeed(windlass(&["sql", "--dir", &at, "-e", sql]));
    assert!(!fs(&["fsck"]).contains("under-replicated"));
    let written = fs(&["cat", "/out/sums.csv"]);
    assert_eq!(written, "b,s\nx,1\ny,2\n");
    assert!(run(windlass(&["fs", "ls"])).expect_err("whose files?").contains("--url"));
}

//! CSV and JSON files of several blocks, read in parts by executors that hold some of them.

use super::faults::options;
use crate::cluster::Processes;
use std::path::Path;
use windlass_client::wfs::{FileWriter, Wfs, WriteOptions};

/// Options that split files at every byte, for many parts.
const IN_PARTS: [&str; 2] =
    ["set windlass.small_query_bytes = 0", "set datafusion.optimizer.repartition_file_min_size = 1"];

async fn put(files: &Wfs, path: &str, bytes: Vec<u8>) {
    let options = WriteOptions { block_bytes: Some(1 << 20), ..options(1) };
    let mut writer = FileWriter::create(files, path, options).await.expect("a file begins");
    writer.write(bytes.into()).await.expect("bytes are taken");
    writer.finish().await.expect("the file is complete");
}

/// Records of three lines, whose inner lines look like records.
fn records() -> Vec<u8> {
    let record = |n: u32| format!("{n},\"a\n{n},b\n{n},c\"\n");
    let records: String = (0..120_000).map(record).collect();
    format!("id,t\n{records}").into_bytes()
}

/// Each slot reads another part of the file; the number of slots decides the cuts.
#[tokio::test(flavor = "multi_thread")]
async fn records_of_several_lines_lie_across_blocks() {
    for shape in [["1", "1", "512MiB"], ["3", "1", "512MiB"], ["2", "4", "512MiB"]] {
        let cluster = Processes::of(shape);
        let files = cluster.session().await.files();
        put(&files, "/t/lines/a.csv", records()).await;
        let csv = "stored as csv location 'wfs:///t/lines/' options (has_header true)";
        let create = format!("create external table lines {csv}");
        let declared = format!("create external table declared (id bigint, t varchar) {csv}");
        cluster.sql(&[&create, &declared]).expect("tables are made");
        for table in ["lines", "declared"] {
            let sum = format!("select count(*) as n, sum(id) as s, count(distinct t) as d from {table}");
            let sums = |options: &[&str]| cluster.sql(&[options, &[&sum]].concat()).expect("the sums are there");
            assert_eq!(sums(&[]), "n,s,d\n120000,7199940000,120000\n", "{shape:?} {table}");
            assert_eq!(sums(&IN_PARTS), "n,s,d\n120000,7199940000,120000\n", "{shape:?} {table} in parts");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_members_of_compressed_files_are_read() {
    let cluster = Processes::of(["2", "1", "512MiB"]);
    let files = cluster.session().await.files();
    for kind in ["gz", "bz2", "xz", "zst"] {
        let name = format!("members_{kind}/a.csv.{kind}");
        let local = crate::data().join("right/text").join(&name);
        put(&files, &format!("/t/{name}"), std::fs::read(Path::new(&local)).expect("the file was generated")).await;
        let create = format!(
            "create external table t_{kind} stored as csv location 'wfs:///t/members_{kind}/' options (has_header true)"
        );
        let sum = format!("select count(*) as n, sum(id) as s, count(distinct t) as d from t_{kind}");
        let sums = cluster.sql(&[&create, &sum]).unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!(sums, "n,s,d\n2000,1999000,2000\n", "{kind}");
    }
}

/// Errors name file and line, wherever their part begins.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_names_the_file_and_the_line() {
    let cluster = Processes::of(["2", "2", "512MiB"]);
    let files = cluster.session().await.files();
    let csv: String =
        (0..200_000).map(|n| if n == 150_000 { "x,y\n".into() } else { format!("{n},\"y\nz\"\n") }).collect();
    put(&files, "/t/wrong.csv", format!("id,t\n{csv}").into_bytes()).await;
    let json: String = (0..200_000)
        .map(|n| if n == 150_000 { "{\"id\":1.5}\n".into() } else { format!("{{\"id\":{n}}}\n") })
        .collect();
    put(&files, "/t/wrong.json", json.into_bytes()).await;
    for (kind, options, line) in [("csv", "options (has_header true)", "line 300002:"), ("json", "", "line 150001:")] {
        let file = format!("wfs:///t/wrong.{kind}");
        let create =
            format!("create or replace external table wrong (id bigint) stored as {kind} location '{file}' {options}");
        let create = create.replace("(id bigint) stored as csv", "(id bigint, t varchar) stored as csv");
        for options in [&[][..], &IN_PARTS[..]] {
            let error =
                cluster.sql(&[options, &[&create, "select sum(id) from wrong"]].concat()).expect_err("a row is wrong");
            assert!(error.contains(&file) && error.contains(line), "{error}");
        }
    }
}

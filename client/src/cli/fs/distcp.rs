//! `windlass fs distcp`: copies by the cluster itself, between `wfs://`, object stores and the executors' local files.

use super::Failure;
use crate::cli::run::with_progress;
use crate::cli::{counted, print};
use crate::config::units::ByteSize;
use crate::session::Session;
use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::UInt64Type;
use futures::TryStreamExt;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use windlass_engine::COPY_FILES;

pub struct Distcp {
    pub from: String,
    pub to: String,
    pub overwrite: bool,
    pub delete: bool,
    pub no_verify: bool,
    pub dry_run: bool,
    pub verbose: bool,
    pub no_progress: bool,
}

/// Numbers of files and bytes.
type Counts = BTreeMap<String, (u64, u64)>;

pub async fn run(session: &Session, copy: &Distcp) -> Result<(), Failure> {
    let options = [
        (copy.overwrite, "overwrite"),
        (copy.delete, "delete"),
        (copy.no_verify, "unverified"),
        (copy.dry_run, "dry run"),
    ];
    let options = options.into_iter().filter(|(wanted, _)| *wanted).map(|(_, option)| option.to_owned());
    let words: Vec<String> =
        [url(&copy.from), url(&copy.to)].into_iter().chain(options).map(|word| quoted(&word)).collect();
    let sql = format!("SELECT action, path, files, bytes, crc32c FROM {COPY_FILES}({})", words.join(", "));
    let show = !copy.no_progress && std::io::stderr().is_terminal();
    let mut rows = with_progress(session.sql(sql), show).await?;
    let mut counts = Counts::new();
    while let Some(batch) = rows.try_next().await? {
        let [actions, paths, sums] = [0, 1, 4].map(|column| batch.column(column).as_string::<i32>());
        let [files, bytes] = [2, 3].map(|column| batch.column(column).as_primitive::<UInt64Type>());
        for row in 0..batch.num_rows() {
            let count = counts.entry(actions.value(row).to_owned()).or_default();
            count.0 += files.value(row);
            count.1 += bytes.value(row);
            if (copy.verbose || copy.dry_run) && paths.is_valid(row) {
                let sum = if sums.is_valid(row) { format!("  CRC32C {}", sums.value(row)) } else { String::new() };
                print(&format!(
                    "{} {}  {}{sum}\n",
                    actions.value(row),
                    paths.value(row),
                    ByteSize::human(bytes.value(row))
                ))?;
            }
        }
    }
    let said = |action: &str| {
        let (files, bytes) = counts.get(action).copied().unwrap_or_default();
        format!("{action} {}, {}", counted(files, "file"), ByteSize::human(bytes))
    };
    let actions: &[&str] =
        if copy.dry_run { &["would copy", "would remove", "skipped"] } else { &["copied", "removed", "skipped"] };
    let shown = actions.iter().filter(|action| **action == actions[0] || counts.contains_key(**action));
    print(&format!("{}\n", shown.map(|action| said(action)).collect::<Vec<_>>().join("; ")))
}

/// Resolves a place: paths without a scheme are the cluster's, as everywhere in `windlass fs`.
fn url(place: &str) -> String {
    match place.contains("://") {
        true => place.to_owned(),
        false => format!("wfs:///{}", place.trim_start_matches('/')),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

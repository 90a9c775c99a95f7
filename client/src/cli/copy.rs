//! `windlass copy`: builds the statements of a load or an export, which `windlass sql` runs.

use super::Failure;
use super::arguments::{Copy, Mode, Sql};
use super::output::Format;
use std::path::Path;

/// The name of the table over the files that are read.
const SOURCE: &str = "copied";

/// Returns the command that does the work.
///
/// # Errors
/// The arguments do not fit each other.
pub(super) fn statements(command: Copy) -> Result<Sql, Failure> {
    let mut execute = Vec::new();
    let source = match files(&command.source) {
        Some(place) => {
            let is_text = kind(&command.into).is_some() && !command.guess_types;
            execute.push(external(place, command.from_format.as_deref(), is_text)?);
            SOURCE.to_string()
        }
        None if is_query(&command.source) => format!("(\n{}\n)", command.source.trim().trim_end_matches(';')),
        None => command.source.clone(),
    };
    let to = target(&command)?;
    let explain = if command.dry_run { "EXPLAIN " } else { "" };
    execute.push(format!("{explain}COPY {source} TO {to}"));
    Ok(Sql {
        target: command.target,
        execute,
        file: Vec::new(),
        format: Format::Table,
        output: None,
        params: Vec::new(),
        set: command.set,
        stats: false,
        timing: false,
        no_progress: command.no_progress,
    })
}

/// Returns what stands behind TO.
fn target(command: &Copy) -> Result<String, Failure> {
    let kind = kind(&command.into);
    let mut options: Vec<(&str, String)> = Vec::new();
    options.extend(command.secret.clone().map(|secret| ("secret", secret)));
    let of_database = [
        ("table", command.table.clone()),
        ("mode", command.mode.map(|mode| word(mode).to_string())),
        ("key", command.key.clone()),
        ("load", command.load_id.clone()),
        ("rejects", command.rejects.clone()),
        ("max_rejects", command.max_rejects.map(|most| most.to_string())),
    ];
    for (name, value) in of_database {
        let Some(value) = value else { continue };
        if kind.is_none() {
            let flag = if name == "load" { "load-id".to_string() } else { name.replace('_', "-") };
            return Err(Failure::Usage(format!("--{flag} is for databases, and '{}' is none", command.into)));
        }
        options.push((name, value));
    }
    options.extend(command.options.iter().map(|(key, value)| (key.as_str(), value.clone())));
    let format = match kind {
        Some(kind) if command.format.is_some() => {
            return Err(Failure::Usage(format!("--format is for files, and {kind} has none: leave it out")));
        }
        Some(kind) => format!(" STORED AS {kind}"),
        None => match &command.format {
            Some(format) => format!(" STORED AS {}", format.to_uppercase()),
            None if has_ending(&command.into) => String::new(),
            None => " STORED AS PARQUET".to_string(),
        },
    };
    let options = options.iter().map(|(key, value)| format!("{} {}", literal(key), literal(value)));
    let options = options.collect::<Vec<_>>().join(", ");
    let options = if options.is_empty() { String::new() } else { format!(" OPTIONS ({options})") };
    Ok(format!("{}{format}{options}", literal(&command.into)))
}

/// Returns the connector of a database.
fn kind(place: &str) -> Option<&'static str> {
    match place.split_once("://") {
        Some(("postgresql" | "postgres", _)) => Some("POSTGRES"),
        Some(("mysql" | "mariadb", _)) => Some("MYSQL"),
        Some(("dynamodb", _)) => Some("DYNAMODB"),
        Some(("redshift", _)) => Some("REDSHIFT"),
        _ => None,
    }
}

/// Returns the statement that makes a table over files. `is_text`: columns of CSV files are text.
fn external(place: &str, format: Option<&str>, is_text: bool) -> Result<String, Failure> {
    let by_name = || {
        let name = place.rsplit('/').next().unwrap_or_default();
        let endings: Vec<String> = name.split('.').skip(1).map(str::to_lowercase).collect();
        endings.iter().rev().find_map(|ending| match ending.as_str() {
            "parquet" | "csv" | "json" | "arrow" | "avro" => Some(ending.to_uppercase()),
            "ndjson" | "jsonl" => Some("JSON".to_string()),
            "tsv" => Some("CSV".to_string()),
            _ => None,
        })
    };
    let Some(format) = format.map(str::to_uppercase).or_else(by_name) else {
        return Err(Failure::Usage(format!(
            "the name of '{place}' does not say the format of its files: use --from-format parquet, csv, json, arrow or avro"
        )));
    };
    let options = match (format.as_str(), is_text) {
        ("CSV", true) => " OPTIONS ('format.has_header' 'true', 'format.schema_infer_max_rec' '0')",
        ("CSV", false) => " OPTIONS ('format.has_header' 'true')",
        _ => "",
    };
    Ok(format!("CREATE EXTERNAL TEMPORARY TABLE {SOURCE} STORED AS {format} LOCATION {}{options}", literal(place)))
}

fn is_query(source: &str) -> bool {
    source.trim().contains(char::is_whitespace) || source.trim_start().starts_with('(')
}

/// Returns the source, if it is the place of files rather than a query or the name of a table.
fn files(source: &str) -> Option<&str> {
    let is_place = source.contains("://") || source.contains('/') || has_ending(source);
    let first = source.split_whitespace().next().unwrap_or_default().to_lowercase();
    let is_sql = source.contains(char::is_whitespace)
        && ["select", "with", "values", "from", "--", "/*"].iter().any(|word| first.starts_with(word));
    (is_place && !is_sql && !source.trim_start().starts_with('(')).then_some(source)
}

/// Whether a place ends in the name of a file.
fn has_ending(place: &str) -> bool {
    let known = ["parquet", "csv", "tsv", "json", "ndjson", "jsonl", "arrow", "avro", "gz", "bz2", "xz", "zst"];
    let ending = Path::new(place).extension().and_then(|ending| ending.to_str());
    !place.ends_with('/') && ending.is_some_and(|ending| known.contains(&ending.to_lowercase().as_str()))
}

fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Append => "append",
        Mode::Replace => "replace",
        Mode::Upsert => "upsert",
        Mode::Merge => "merge",
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::super::arguments::{Arguments, Command};
    use super::*;
    use clap::Parser;

    fn built(arguments: &[&str]) -> Result<Vec<String>, String> {
        let all = ["windlass", "copy"].iter().chain(arguments);
        let Command::Copy(command) = Arguments::try_parse_from(all).map_err(|error| error.to_string())?.command else {
            return Err("another command".to_string());
        };
        statements(command).map(|sql| sql.execute).map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn a_load_is_a_copy_statement() {
        let into = "postgresql://app@db/shop";
        assert_eq!(
            built(&["SELECT * FROM orders;", "--into", into, "--table", "o's", "--mode", "upsert", "--key", "id"])
                .unwrap(),
            [
                "COPY (\nSELECT * FROM orders\n) TO 'postgresql://app@db/shop' STORED AS POSTGRES OPTIONS ('table' 'o''s', 'mode' 'upsert', 'key' 'id')"
            ]
        );
        assert_eq!(
            built(&["orders", "--into", "mysql://app@db/shop", "--table", "o", "--mode", "merge"]).unwrap(),
            ["COPY orders TO 'mysql://app@db/shop' STORED AS MYSQL OPTIONS ('table' 'o', 'mode' 'merge')"]
        );
        assert_eq!(
            built(&["orders", "--into", into, "--secret", "s", "--load-id", "7", "--dry-run"]).unwrap(),
            ["EXPLAIN COPY orders TO 'postgresql://app@db/shop' STORED AS POSTGRES OPTIONS ('secret' 's', 'load' '7')"]
        );
    }

    #[test]
    fn a_warehouse_is_told_where_to_stage() {
        let into = "redshift://loader@host/shop";
        let staging = "staging=s3://lake/staging/";
        assert_eq!(
            built(&["orders", "--into", into, "--mode", "merge", "--key", "id", "--option", staging]).unwrap(),
            [
                "COPY orders TO 'redshift://loader@host/shop' STORED AS REDSHIFT OPTIONS ('mode' 'merge', 'key' 'id', 'staging' 's3://lake/staging/')"
            ]
        );
    }

    #[test]
    fn files_are_read_and_written() {
        assert_eq!(
            built(&["in/a b.csv.gz", "--into", "s3://lake/out/"]).unwrap(),
            [
                "CREATE EXTERNAL TEMPORARY TABLE copied STORED AS CSV LOCATION 'in/a b.csv.gz' OPTIONS ('format.has_header' 'true')",
                "COPY copied TO 's3://lake/out/' STORED AS PARQUET"
            ]
        );
        assert_eq!(built(&["select 1/2", "--into", "x.csv"]).unwrap(), ["COPY (\nselect 1/2\n) TO 'x.csv'"]);
        let text = &built(&["z.csv", "--into", "mysql://h/d", "--table", "t"]).unwrap()[0];
        assert!(text.contains("'format.schema_infer_max_rec' '0'"), "{text}");
        assert!(built(&["in/", "--into", "x/"]).unwrap_err().contains("--from-format"));
        assert!(built(&["t", "--into", "x/", "--table", "y"]).unwrap_err().contains("--table is for databases"));
        assert!(
            built(&["t", "--into", "mysql://h/d", "--format", "csv"]).unwrap_err().contains("--format is for files")
        );
    }
}

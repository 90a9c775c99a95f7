//! Arguments of `windlass copy`.

use super::{Target, parse_pair};
use clap::{Args, ValueEnum};

/// Rows go from executors to the target side by side, all or none of them.
#[derive(Debug, Args)]
pub struct Copy {
    #[command(flatten)]
    pub target: Target,
    /// A query, a table, or files: a path or URL with a '/', or a name such as flights.parquet.
    pub source: String,
    /// A database (postgresql://USER@HOST/DATABASE, mysql://…, dynamodb://REGION/TABLE, redshift://…), or files (s3://BUCKET/FOLDER/, wfs:///FOLDER/, a path).
    #[arg(long, value_name = "PLACE")]
    pub into: String,
    /// Table of the database; it is made if it is missing.
    #[arg(long, value_name = "NAME")]
    pub table: Option<String>,
    /// Secret that has the target's credentials, from CREATE SECRET.
    #[arg(long, value_name = "NAME")]
    pub secret: Option<String>,
    /// What becomes of rows that the target has already (PostgreSQL, MySQL, Redshift).
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// Columns by which upsert and merge find rows, with commas [default: the target's primary key].
    #[arg(long, value_name = "COLUMNS", requires = "mode")]
    pub key: Option<String>,
    /// Name of the load: a load that is in the target already is not loaded again (PostgreSQL, MySQL, Redshift).
    #[arg(long, value_name = "ID")]
    pub load_id: Option<String>,
    /// File that ends in .json, or folder, for rows that the target does not take, each with its reason.
    #[arg(long, value_name = "PLACE")]
    pub rejects: Option<String>,
    /// Most rows that are set aside before the load fails [default: 0].
    #[arg(long, value_name = "ROWS", requires = "rejects")]
    pub max_rejects: Option<u64>,
    /// Format of the files that are read [default: by their names].
    #[arg(long, value_name = "FORMAT")]
    pub from_format: Option<String>,
    /// Guess the types of CSV files that go into a database. Otherwise their columns are text, which the target converts to its types, and which a new target keeps.
    #[arg(long)]
    pub guess_types: bool,
    /// Format of the files that are written [default: by the name of the file, else parquet].
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Option of the target, as in OPTIONS (key 'value'); may be given several times.
    #[arg(long = "option", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub options: Vec<(String, String)>,
    /// Option of the session, as SET does; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub set: Vec<(String, String)>,
    /// Check the target, its columns, keys and types, and show the plan: nothing is read from the source, and nothing is written.
    #[arg(long)]
    pub dry_run: bool,
    /// Show no progress bar.
    #[arg(long)]
    pub no_progress: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Mode {
    /// They stay.
    Append,
    /// All rows of the target are replaced.
    Replace,
    /// Those with the keys of new rows are replaced as wholes: columns that the load lacks get their defaults.
    Upsert,
    /// Those with the keys of new rows get their values, and keep the columns that the load lacks.
    Merge,
}

//! Answers of other engines to the same statements.
//!
//! - [`corpus`]: the sqllogictest files of DataFusion and SQLite, on DataFusion and over stock ADBC on a cluster;
//! - [`awkward`]: random queries over tables in awkward files, on two versions of DuckDB, which holds the rows in memory;
//! - [`statements`]: arithmetic, time, sets, subqueries and so on, statement by statement, on PostgreSQL and DuckDB.
//!
//! `make test` asks a part, `make oracles` everything. Accepted differences are listed with the reason under `tests/data/oracle`.

pub(crate) mod awkward;
mod corpus;
mod known;
pub(crate) mod mariadb;
mod outside;
pub(crate) mod postgres;
pub(crate) mod statements;
mod values;

/// Whether everything is asked, and not only a part.
pub(crate) fn whole() -> bool {
    std::env::var("ORACLES").is_ok_and(|value| value == "all")
}

/// First seed and number of seeds, unless `QUERIES_FROM` and `QUERIES` set them.
fn seeds(from: u64, count: u64) -> (u64, u64) {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => default,
    };
    (number("QUERIES_FROM", from), number("QUERIES", count))
}

//! Accepted differences and their reasons: `tests/data/oracle/*.tsv`.

use crate::cluster::root;

/// Scope (the beginning of a file's name; * for all), a fragment of the statement, the engine that is right, and the reason.
pub(super) struct Known(Vec<(String, String)>);

impl Known {
    pub fn read(file: &str) -> Self {
        let path = root().join("tests/data/oracle").join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let row = |line: &str| match line.split('\t').collect::<Vec<_>>()[..] {
            [place, fragment, reason] if !reason.trim().is_empty() => (place.to_owned(), fragment.to_lowercase()),
            _ => panic!("a place, a fragment and a reason are wanted, with tabs between them: {line}"),
        };
        Self(lines.map(row).collect())
    }

    pub fn explains(&self, place: &str, sql: &str) -> bool {
        let flat = sql.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        let explains = |(of, fragment): &(String, String)| {
            (of == "*" || place.starts_with(of.as_str())) && flat.contains(fragment.as_str())
        };
        self.0.iter().any(explains)
    }
}

//! The part of a configuration file that applies to a cluster inside this process.

use super::Config;
use crate::embedded::Settings;

/// Keys without meaning where one process is the whole cluster: nothing listens, no executor joins, and there is one executor.
pub(super) const WITHOUT_MEANING: [(&str, &[&str]); 5] = [
    (
        "primary",
        &[
            "listen",
            "rest",
            "dir",
            "etcd",
            "cluster",
            "lease",
            "advertise",
            "heartbeat",
            "executor_timeout",
            "executor_wait",
            "exclusion",
            "exclude_after",
            "hand_back_after",
            "drain_timeout",
            "finish_timeout",
            "save_stages_after",
            "keep_unclaimed",
            "interactive_sessions",
            "interactive_idle",
            "interactive_retention",
            "interactive_statements",
            "interactive_bytes",
            "output_rows",
            "output_bytes",
        ],
    ),
    (
        "executor",
        &[
            "primary",
            "name",
            "role",
            "listen",
            "advertise",
            "rack",
            "dir",
            "block_dirs",
            "join_timeout",
            "leave_timeout",
        ],
    ),
    ("elastic", &["max_executors", "min_executors", "slots", "memory", "dir", "backlog", "idle"]),
    ("files", &["replication", "min_replicas", "repair_after", "copies", "code_after"]),
    ("log", &["level", "format"]),
];

impl Config {
    /// Returns the settings that apply to a cluster inside this process.
    pub(crate) fn embedded(self) -> Settings {
        let Config { primary, executor, files, exchange, query, .. } = self;
        Settings { primary, executor, files, exchange, query }
    }

    /// Lists the keys in a configuration file that have no meaning in a cluster inside this process, as `section.key`.
    pub(crate) fn without_meaning_embedded(file: &str) -> Vec<String> {
        let Ok(file) = file.parse::<toml::Table>() else { return Vec::new() };
        let set = |section: &str, key: &str| file.get(section).and_then(|section| section.get(key)).is_some();
        WITHOUT_MEANING
            .into_iter()
            .flat_map(|(section, keys)| keys.iter().map(move |key| (section, *key)))
            .filter(|(section, key)| set(section, key))
            .map(|(section, key)| format!("{section}.{key}"))
            .collect()
    }
}

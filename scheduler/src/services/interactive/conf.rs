//! Options of a session, from what its client asked for in Spark's words.

use super::{Asked, Kind};

/// Options of Spark that mean the same as one of a session here. Those with a unit are converted.
const SAME: [(&str, &str, As); 4] = [
    ("spark.sql.session.timeZone", "datafusion.execution.time_zone", As::Is),
    ("spark.sql.autoBroadcastJoinThreshold", "windlass.broadcast_bytes", As::Bytes),
    ("spark.task.maxFailures", "windlass.max_attempts", As::Is),
    ("spark.scheduler.pool", "windlass.pool", As::Is),
];

/// Names of the option that limits the rows of an output.
pub const ROWS: [&str; 2] = ["livy.rsc.sql.num-rows", "spark.livy.sql.max-result"];

/// Spark's name for the memory of the process in which Python runs.
const DRIVER_MEMORY: &str = "spark.driver.memory";

/// Prefixes of this cluster's own options.
const OWN: [&str; 2] = ["windlass.", "datafusion."];

#[derive(Clone, Copy)]
enum As {
    Is,
    /// A size such as `10MB`; -1 is none.
    Bytes,
}

/// What a session begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// Options, as SET takes them.
    pub set: Vec<(String, String)>,
    /// Maximum rows of an output.
    pub rows: Option<u64>,
    /// What was ignored, each in a line for the session's log.
    pub log: Vec<String>,
}

impl Options {
    /// Returns the options for a session.
    ///
    /// # Errors
    /// A value cannot be read.
    pub fn of(asked: &Asked) -> Result<Options, String> {
        let mut options = Options::default();
        let mut ignored: Vec<&str> = Vec::new();
        for (name, value) in &asked.conf {
            if OWN.iter().any(|own| name.starts_with(own)) {
                options.set.push((name.clone(), value.clone()));
            } else if ROWS.contains(&name.as_str()) {
                let rows = value.parse().map_err(|_| format!("{name}: \"{value}\" is not a number of rows"))?;
                options.rows = Some(rows);
            } else if let Some((_, own, form)) = SAME.iter().find(|(spark, ..)| spark == name) {
                let value = match form {
                    As::Is => value.clone(),
                    As::Bytes => bytes(value).ok_or_else(|| format!("{name}: \"{value}\" is not a size"))?.to_string(),
                };
                options.log.push(format!("{name} is {own} here"));
                options.set.push(((*own).to_string(), value));
            } else if name == DRIVER_MEMORY && runs_python(asked) {
                options.memory_of_python(name, value)?;
            } else {
                ignored.push(name);
            }
        }
        if runs_python(asked) {
            if let Some(memory) = &asked.driver_memory {
                options.memory_of_python("driverMemory", memory)?;
            }
            options.files_of_python(asked)?;
        }
        if let Some(queue) = &asked.queue {
            options.log.push("queue is windlass.pool here".to_string());
            options.set.push(("windlass.pool".to_string(), queue.clone()));
        }
        ignored.extend(ignored_fields(asked));
        let line = |name: &str| format!("{name} is ignored: {}", why(name));
        options.log.extend(ignored.into_iter().map(line));
        Ok(options)
    }

    fn memory_of_python(&mut self, name: &str, value: &str) -> Result<(), String> {
        let memory =
            bytes(value).filter(|bytes| *bytes > 0).ok_or_else(|| format!("{name}: \"{value}\" is not a size"))?;
        self.log.push(format!("{name} is windlass.program_memory_bytes here, which limits the Python of this session"));
        self.set.push(("windlass.program_memory_bytes".to_string(), memory.to_string()));
        Ok(())
    }

    fn files_of_python(&mut self, asked: &Asked) -> Result<(), String> {
        let files: Vec<&str> = asked.py_files.iter().chain(&asked.files).map(String::as_str).collect();
        if let Some(file) = files.iter().find(|file| file.contains(',')) {
            return Err(format!("\"{file}\": the name of a file beside a program has no comma"));
        }
        if !files.is_empty() {
            self.set.push(("windlass.program_files".to_string(), files.join(",")));
        }
        Ok(())
    }
}

/// Whether statements of it may be Python.
fn runs_python(asked: &Asked) -> bool {
    matches!(asked.kind, Kind::PySpark | Kind::Shared)
}

fn ignored_fields(asked: &Asked) -> Vec<&'static str> {
    let python = runs_python(asked);
    let fields = [
        ("driverMemory", asked.driver_memory.is_some() && !python),
        ("driverCores", asked.driver_cores.is_some()),
        ("executorMemory", asked.executor_memory.is_some()),
        ("executorCores", asked.executor_cores.is_some()),
        ("numExecutors", asked.num_executors.is_some()),
        ("jars", !asked.jars.is_empty()),
        ("pyFiles", !asked.py_files.is_empty() && !python),
        ("files", !asked.files.is_empty() && !python),
        ("archives", !asked.archives.is_empty()),
    ];
    fields.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name).collect()
}

fn why(name: &str) -> &'static str {
    match name {
        "jars" | "archives" => "this version runs SQL and Python alone",
        "pyFiles" | "files" => "they are for Python, in sessions of kind pyspark and shared and in batches",
        "spark.sql.shuffle.partitions" => {
            "a stage has a task for each slot of the cluster, see windlass.tasks_per_slot"
        }
        "driverMemory" | "driverCores" | "executorMemory" | "executorCores" | "numExecutors" => ALL_SHARE,
        _ if name.starts_with("spark.driver.") || name.starts_with("spark.executor.") => ALL_SHARE,
        _ if name.starts_with("spark.dynamicAllocation.") => ALL_SHARE,
        _ => "it means nothing here",
    }
}

const ALL_SHARE: &str = "sessions share the executors of the cluster";

/// Parses a size as Spark writes it: a number of bytes, or one with a unit. -1 is 0.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_lowercase();
    if text.starts_with('-') {
        return text.parse::<i64>().ok().map(|_| 0);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        "t" | "tb" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(conf: &[(&str, &str)]) -> Asked {
        let conf = conf.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Asked { conf, ..Asked::default() }
    }

    #[test]
    fn options_that_mean_something_are_set_and_others_named() {
        let mut asked = asked(&[
            ("spark.sql.session.timeZone", "Europe/Berlin"),
            ("spark.sql.autoBroadcastJoinThreshold", "10MB"),
            ("spark.sql.shuffle.partitions", "200"),
            ("spark.executor.memory", "4g"),
            ("spark.ui.enabled", "false"),
            ("windlass.priority", "3"),
            ("livy.rsc.sql.num-rows", "50"),
        ]);
        asked.queue = Some("nightly".to_string());
        asked.num_executors = Some(4);
        asked.jars = vec!["a.jar".to_string()];
        let options = Options::of(&asked).unwrap();
        let set: Vec<(&str, &str)> = options.set.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected = [
            ("windlass.broadcast_bytes", "10485760"),
            ("datafusion.execution.time_zone", "Europe/Berlin"),
            ("windlass.priority", "3"),
            ("windlass.pool", "nightly"),
        ];
        assert_eq!(set, expected);
        assert_eq!(options.rows, Some(50));
        for ignored in
            ["spark.sql.shuffle.partitions", "spark.executor.memory", "spark.ui.enabled", "numExecutors", "jars"]
        {
            let line = options.log.iter().find(|line| line.starts_with(ignored)).unwrap();
            assert!(line.contains("is ignored: "), "{line}");
        }
        assert!(!options.log.iter().any(|line| line.starts_with("windlass.priority")), "{:?}", options.log);
    }

    #[test]
    fn python_has_memory_and_files() {
        let of = |kind| Asked {
            kind,
            driver_memory: Some("1g".to_string()),
            py_files: vec!["a.py".to_string()],
            files: vec!["b.csv".to_string()],
            ..asked(&[("spark.driver.memory", "512m")])
        };
        let options = Options::of(&of(Kind::PySpark)).unwrap();
        let last = |name: &str| options.set.iter().rfind(|(of, _)| of == name).map(|(_, value)| value.as_str());
        assert_eq!(last("windlass.program_memory_bytes"), Some("1073741824"));
        assert_eq!(last("windlass.program_files"), Some("a.py,b.csv"));
        assert!(!options.log.iter().any(|line| line.contains("is ignored")), "{:?}", options.log);
        let sql = Options::of(&of(Kind::Sql)).unwrap();
        assert!(sql.set.is_empty() && sql.log.len() == 4, "{sql:?}");
        let wrong = Asked { driver_memory: Some("much".to_string()), ..Asked::default() };
        assert!(Options::of(&wrong).unwrap_err().contains("much"));
        let wrong = Asked { files: vec!["a,b".to_string()], ..Asked::default() };
        assert!(Options::of(&wrong).unwrap_err().contains("a,b"));
    }

    #[test]
    fn sizes_are_read_as_spark_does() {
        for (text, expected) in [
            ("10485760", Some(10 << 20)),
            ("10MB", Some(10 << 20)),
            (" 1g ", Some(1 << 30)),
            ("-1", Some(0)),
            ("ten", None),
            ("99999999999t", None),
            ("", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
        assert!(Options::of(&asked(&[("livy.rsc.sql.num-rows", "many")])).unwrap_err().contains("many"));
    }
}

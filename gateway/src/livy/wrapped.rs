//! SQL inside lines of Python, Scala or R, as notebooks send it: recognised without running the line. Other Python runs in the session's Python process.
//!
//! Forms of sparkmagic 0.23, where `N` stands for a name and `R` for one of `.take(n)`, `.collect()`, with `.sample(False, f)` before it or not:
//!
//! | kind | code |
//! | --- | --- |
//! | pyspark | `import sys` and `for N in spark.sql(u"""…""").toJSON(…)R: print(N)` |
//! | spark | `spark.sql("""…""").toJSON R.foreach(println)` |
//! | sparkr | `for (N in (jsonlite:::toJSON(take(sql("…"),n)))) {cat(N)}` |
//! | each | `spark`, `sqlContext`: whether there is a session |
//!
//! Plain calls of `spark.sql("…").show()` and `.collect()`, and of `collect(sql("…"))` in R, are recognised too, because people write them by hand.

use windlass_scheduler::services::interactive::{Kind, Shape, Work};

/// Rows that `show` prints if it is not told otherwise.
const SHOWN: u64 = 20;

/// Returns what the code of a statement of this kind does.
pub(super) fn work_of(kind: Kind, code: &str) -> Work {
    let found = match kind {
        Kind::Sql | Kind::Shared => return Work::Sql { text: None, rows: None, shape: Shape::Table },
        Kind::PySpark => python(code),
        Kind::Spark => scala(code),
        Kind::SparkR => r(code).or_else(|| plain(Reader(code))).or_else(|| plain_r(Reader(code))),
    };
    found.or_else(|| says(kind, code)).unwrap_or_else(|| other(kind))
}

/// Returns what is done with code that is no SQL.
fn other(kind: Kind) -> Work {
    let language = match kind {
        Kind::PySpark => return Work::Python,
        Kind::Spark => "Scala",
        Kind::SparkR => "R",
        Kind::Sql | Kind::Shared => "such",
    };
    let message = format!(
        "this version of Windlass runs SQL and Python, and no {language} programs: send the statement with \"kind\": \"sql\" or \"pyspark\", use %%sql in \
         a notebook, or spark.sql(\"\"\"…\"\"\")"
    );
    Work::Refuse { message }
}

/// Answers whether there is a session, which notebooks ask when they begin.
fn says(kind: Kind, code: &str) -> Option<Work> {
    let text = match (code.trim(), kind) {
        ("", _) => String::new(),
        ("spark", Kind::PySpark) => "<windlass.Session as SparkSession>".to_string(),
        ("spark", Kind::Spark) => "res0: org.apache.spark.sql.SparkSession = windlass.Session".to_string(),
        ("spark", Kind::SparkR) => "Java ref type org.apache.spark.sql.SparkSession".to_string(),
        _ => return None,
    };
    Some(Work::Say { text })
}

/// A place in code that is read from left to right.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    /// Skips white space, then `words` if they come next.
    fn eat(&mut self, words: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(words)?;
        Some(())
    }

    /// Like [`Reader::eat`] for words that may be absent.
    fn may_eat(&mut self, words: &str) -> bool {
        let mut ahead = *self;
        let found = ahead.eat(words).is_some();
        if found {
            *self = ahead;
        }
        found
    }

    fn name(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start();
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        self.0 = rest;
        (!name.is_empty()).then_some(name)
    }

    fn number(&mut self) -> Option<u64> {
        let text = self.0.trim_start();
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number = text[..end].parse().ok()?;
        self.0 = &text[end..];
        Some(number)
    }

    fn fraction(&mut self) -> Option<f64> {
        let text = self.0.trim_start();
        let end = text.find(|c: char| !c.is_ascii_digit() && !"+-.eE".contains(c)).unwrap_or(text.len());
        let fraction: f64 = text[..end].parse().ok()?;
        self.0 = &text[end..];
        (0.0..=1.0).contains(&fraction).then_some(fraction)
    }

    /// Skips to behind the bracket that closes one already read. Strings inside must have none.
    fn skip_call(&mut self) -> Option<()> {
        let mut depth = 1;
        for (at, c) in self.0.char_indices() {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                self.0 = &self.0[at + 1..];
                return Some(());
            }
        }
        None
    }

    /// Reads a string in three quotes, whose text ends where `after` follows its quotes for the last time.
    ///
    /// Notebooks put the text between the quotes as it is, whatever it has inside.
    fn tripled(&mut self, after: &str) -> Option<&'a str> {
        let text = self.0.trim_start().strip_prefix("\"\"\"")?;
        let end = text.rfind(&format!("\"\"\"{after}"))?;
        self.0 = &text[end + 3..];
        Some(&text[..end])
    }

    /// Reads a string in one pair of quotes, with backslashes before quotes inside.
    fn quoted(&mut self) -> Option<String> {
        let text = self.0.trim_start();
        let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (mut read, mut chars) = (String::new(), text[1..].char_indices());
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next()?.1 {
                    'n' => read.push('\n'),
                    't' => read.push('\t'),
                    c if matches!(c, '"' | '\'' | '\\') => read.push(c),
                    _ => return None,
                },
                c if c == quote => {
                    self.0 = &text[1 + at + 1..];
                    return Some(read);
                }
                c => read.push(c),
            }
        }
        None
    }

    /// Reads a string of either form.
    fn string(&mut self, after: &str) -> Option<String> {
        match self.0.trim_start().starts_with("\"\"\"") {
            true => self.tripled(after).map(str::to_string),
            false => self.quoted(),
        }
    }

    fn session(&mut self) -> Option<()> {
        matches!(self.name()?, "spark" | "sqlContext").then_some(())
    }

    fn end(&mut self) -> Option<()> {
        self.may_eat(";");
        self.0.trim().is_empty().then_some(())
    }

    /// Reads `.sample(false, f)`, if it comes next.
    fn sample(&mut self) -> Option<Option<f64>> {
        if !self.may_eat(".sample(") {
            return Some(None);
        }
        if !self.may_eat("False") {
            self.eat("false")?;
        }
        self.eat(",")?;
        let fraction = self.fraction()?;
        self.eat(")")?;
        Some(Some(fraction))
    }

    /// Reads `.take(n)` or `.collect()`, which Scala writes without brackets too. `None` inside: all rows.
    fn rows(&mut self) -> Option<u64> {
        if self.may_eat(".take(") {
            let rows = self.number()?;
            self.eat(")")?;
            return Some(rows);
        }
        self.eat(".collect")?;
        self.may_eat("()");
        Some(u64::MAX)
    }
}

fn sql(text: &str, sample: Option<f64>, rows: Option<u64>, shape: Shape) -> Work {
    let text = match sample {
        Some(fraction) => {
            let query = text.trim().trim_end_matches(';');
            format!("SELECT * FROM (\n{query}\n) AS sampled WHERE random() < {fraction}")
        }
        None => text.trim().to_string(),
    };
    Work::Sql { text: Some(text), rows, shape }
}

fn python(code: &str) -> Option<Work> {
    let mut read = Reader(code);
    if read.may_eat("import sys") {
        read.may_eat(";");
    }
    if !read.may_eat("for ") {
        return plain(read);
    }
    let name = read.name()?;
    read.eat("in ")?;
    read.session()?;
    read.eat(".sql(")?;
    read.may_eat("u");
    let text = read.string(")")?;
    read.eat(")")?;
    read.eat(".toJSON(")?;
    read.skip_call()?;
    let sample = read.sample()?;
    let rows = read.rows()?;
    read.eat(":")?;
    read.eat("print(")?;
    (read.name()? == name).then_some(())?;
    read.eat(")")?;
    read.end()?;
    Some(sql(&text, sample, Some(rows), Shape::Lines))
}

fn scala(code: &str) -> Option<Work> {
    let mut read = Reader(code);
    let mut ahead = read;
    ahead.session()?;
    ahead.eat(".sql(")?;
    let text = ahead.string(")")?;
    ahead.eat(")")?;
    if !ahead.may_eat(".toJSON") {
        return plain(read);
    }
    read = ahead;
    let sample = read.sample()?;
    let rows = read.rows()?;
    read.eat(".foreach(println)")?;
    read.end()?;
    Some(sql(&text, sample, Some(rows), Shape::Lines))
}

/// Reads `spark.sql("…")`, alone or with `.show()` or `.collect()`.
fn plain(mut read: Reader<'_>) -> Option<Work> {
    read.session()?;
    read.eat(".sql(")?;
    read.may_eat("u");
    let text = read.string(")")?;
    read.eat(")")?;
    let rows = match read.may_eat(".show(") {
        true if read.may_eat(")") => Some(SHOWN),
        true => {
            let rows = read.number()?;
            read.skip_call()?;
            Some(rows)
        }
        false if read.may_eat(".collect") => {
            read.may_eat("()");
            None
        }
        false => None,
    };
    read.end()?;
    Some(sql(&text, None, rows, Shape::Table))
}

/// Reads `sql("…")`, alone or in `collect(…)`, `head(…)` or `showDF(…)`.
fn plain_r(mut read: Reader<'_>) -> Option<Work> {
    let rows = [("collect(", None), ("showDF(", Some(SHOWN)), ("head(", Some(6))];
    let around = rows.into_iter().find(|(words, _)| read.may_eat(words));
    read.eat("sql(")?;
    let text = read.string(")")?;
    read.eat(")")?;
    if around.is_some() {
        read.eat(")")?;
    }
    read.end()?;
    Some(sql(&text, None, around.and_then(|(_, rows)| rows), Shape::Table))
}

fn r(code: &str) -> Option<Work> {
    let mut read = Reader(code);
    read.eat("for")?;
    read.eat("(")?;
    let name = read.name()?;
    read.eat("in")?;
    read.eat("(")?;
    read.eat("jsonlite::")?;
    read.may_eat(":");
    read.eat("toJSON(")?;
    let takes = read.may_eat("take(");
    if !takes {
        read.eat("collect(")?;
    }
    let samples = read.may_eat("sample(");
    read.eat("sql(")?;
    if read.may_eat("sqlContext") {
        read.eat(",")?;
    }
    // The text is put between the quotes as it is. It ends at the last quote before what follows it.
    let text = read.0.trim_start().strip_prefix('"')?;
    let end = text.rfind("\")")?;
    let (text, rest) = text.split_at(end);
    read.0 = &rest[1..];
    read.eat(")")?;
    let mut sample = None;
    if samples {
        read.eat(",")?;
        read.eat("FALSE")?;
        read.eat(",")?;
        sample = Some(read.fraction()?);
        read.eat(")")?;
    }
    let mut rows = u64::MAX;
    if takes {
        read.eat(",")?;
        rows = read.number()?;
    }
    for words in [")", ")", ")", ")", "{cat("] {
        read.eat(words)?;
    }
    (read.name()? == name).then_some(())?;
    read.eat(")")?;
    read.eat("}")?;
    read.end()?;
    Some(sql(text, sample, Some(rows), Shape::Array))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(kind: Kind, code: &str) -> (String, Option<u64>, Shape) {
        match work_of(kind, code) {
            Work::Sql { text, rows, shape } => (text.unwrap_or_default(), rows, shape),
            other => panic!("{code}: {other:?}"),
        }
    }

    fn is_refused(kind: Kind, code: &str) {
        assert!(matches!(work_of(kind, code), Work::Refuse { .. }), "{code}");
    }

    /// The code that sparkmagic 0.23 sends for `%%sql`.
    #[test]
    fn sql_of_notebooks_is_found() {
        let tail = ".toJSON(use_unicode=(sys.version_info.major > 2))";
        let python = |query: &str, rows: &str| {
            format!(
                "import sys\nfor yQeKOYBsFgLWWGWZJu3y in spark.sql(u\"\"\"{query} \"\"\"){tail}{rows}: print(yQeKOYBsFgLWWGWZJu3y)"
            )
        };
        for query in [
            "select 1",
            "select 'it''s \"quoted\"', \"a b\"",
            "select \"\"\"a\"\"\" from t",
            "select ')'\n, '\"\"\").toJSON().take(3): print(x)'",
            "select 'ä€😀'",
        ] {
            let expected = (query.to_string(), Some(2_500), Shape::Lines);
            assert_eq!(found(Kind::PySpark, &python(query, ".take(2500)")), expected);
            let code = format!("spark.sql(\"\"\"{query}\"\"\").toJSON.take(2500).foreach(println)");
            assert_eq!(found(Kind::Spark, &code), expected);
            let code = format!("for (N in (jsonlite:::toJSON(take(sql(\"{query}\"),2500)))) {{cat(N)}}");
            assert_eq!(found(Kind::SparkR, &code), (query.to_string(), Some(2_500), Shape::Array));
        }
        assert_eq!(found(Kind::PySpark, &python("select 1", ".collect()")).1, Some(u64::MAX));
        assert_eq!(
            found(Kind::Spark, "sqlContext.sql(\"\"\"select 1\"\"\").toJSON.collect.foreach(println)").1,
            Some(u64::MAX)
        );
        let code = "for (N in (jsonlite:::toJSON(collect(sql(sqlContext, \"select 1\"))))) {cat(N)}";
        assert_eq!(found(Kind::SparkR, code), ("select 1".to_string(), Some(u64::MAX), Shape::Array));
    }

    #[test]
    fn samples_become_conditions() {
        let expected = "SELECT * FROM (\nselect a from t\n) AS sampled WHERE random() < 0.1";
        let code = "import sys\nfor x in spark.sql(u\"\"\"select a from t; \"\"\").toJSON(use_unicode=True).sample(False, 0.1).take(5): print(x)";
        assert_eq!(found(Kind::PySpark, code), (expected.to_string(), Some(5), Shape::Lines));
        let code = "spark.sql(\"\"\"select a from t\"\"\").toJSON.sample(false, 0.1).take(5).foreach(println)";
        assert_eq!(found(Kind::Spark, code).0, expected);
        let code = "for (x in (jsonlite:::toJSON(take(sample(sql(\"select a from t\"), FALSE, 0.1),5)))) {cat(x)}";
        assert_eq!(found(Kind::SparkR, code), (expected.to_string(), Some(5), Shape::Array));
    }

    #[test]
    fn plain_calls_are_found() {
        for (code, rows) in [
            ("spark.sql(\"select 1\")", None),
            (" spark.sql('select 1').collect();", None),
            ("spark.sql(\"\"\"select 1\"\"\").show()", Some(20)),
            ("spark.sql(\"select 1\").show(5, truncate=False)", Some(5)),
        ] {
            assert_eq!(found(Kind::PySpark, code), ("select 1".to_string(), rows, Shape::Table), "{code}");
        }
        for (code, rows) in [
            ("spark.sql(\"select 1\")", None),
            ("sql('select 1')", None),
            ("collect(sql(\"\"\"select 1\"\"\"))", None),
            ("head(sql(\"select 1\"));", Some(6)),
        ] {
            assert_eq!(found(Kind::SparkR, code), ("select 1".to_string(), rows, Shape::Table), "{code}");
        }
    }

    #[test]
    fn other_code_is_python_or_refused() {
        for code in [
            "print(1)",
            "spark.sql(\"select 1\").toPandas()",
            "spark.sql(query)",
            "spark.sql(\"select 1\"); print(2)",
            "for x in spark.sql(\"select 1\").toJSON().take(5): print(y)",
            "for x in spark.sql(u\"\"\"select 1\"\"\").toJSON().take(5): print(x)\nprint(2)",
            "import os",
            "spark.sql(\"unclosed",
        ] {
            assert_eq!(work_of(Kind::PySpark, code), Work::Python, "{code}");
        }
        is_refused(Kind::Spark, "val x = 1");
        is_refused(Kind::SparkR, "library(SparkR)");
        let Work::Refuse { message } = work_of(Kind::SparkR, "print(1)") else { panic!() };
        assert!(message.contains("no R programs"), "{message}");
    }

    #[test]
    fn a_notebook_learns_that_there_is_a_session() {
        for kind in [Kind::PySpark, Kind::Spark, Kind::SparkR] {
            assert!(matches!(work_of(kind, "spark"), Work::Say { text } if text.contains("Session")));
        }
        assert_eq!(work_of(Kind::Sql, "spark"), Work::Sql { text: None, rows: None, shape: Shape::Table });
    }
}

//! Runs statements one after the other, until the first failure.

use super::run::Runner;
use super::splitter::{self, Open};
use super::{Failure, Outcome};
use crate::params::Params;

/// A source of statements.
pub struct Source {
    /// Name of the source in errors.
    pub name: String,
    pub text: String,
}

/// A statement that is ready to run.
#[derive(Debug)]
pub struct Step {
    /// `file:line` for errors. Line breaks of the statement count from there.
    place: String,
    sql: String,
    params: Params,
}

/// Splits the sources into statements and binds the parameters that each names.
///
/// Fails before anything runs if no statement names a parameter, or a placeholder has no value.
pub fn parse(sources: &[Source], params: &Params) -> Result<Vec<Step>, Failure> {
    let mut steps = Vec::new();
    let mut used: Vec<&str> = Vec::new();
    for source in sources {
        let (pieces, open) = splitter::split(&source.text);
        if let Some(Open::Quote { what, line }) = open {
            return Err(Failure::Usage(format!("{}:{line}: {what}", source.name)));
        }
        for piece in pieces {
            let place = format!("{}:{}", source.name, piece.line);
            if piece.text.starts_with('\\') {
                return Err(Failure::Usage(format!(
                    "{place}: commands that begin with a backslash are for the prompt; in scripts, SHOW TABLES lists tables and DESCRIBE \
                     NAME tells the columns of one"
                )));
            }
            let mut own = Params::default();
            for name in &piece.placeholders {
                match params.get(name) {
                    Some(value) => own.set(*name, value.clone()),
                    // A statement that prepares another keeps its placeholders.
                    None if starts_with_word(piece.text, "prepare") => {}
                    None => {
                        return Err(Failure::Usage(format!(
                            "{place}: placeholder ${name} has no value: give one with --param {name}=VALUE"
                        )));
                    }
                }
                used.push(name);
            }
            steps.push(Step { place, sql: piece.text.to_owned(), params: own });
        }
    }
    if let Some(name) = params.names().find(|name| !sources.is_empty() && !used.contains(name)) {
        return Err(Failure::Usage(format!("no statement has the placeholder ${name} that --param {name}=… is for")));
    }
    Ok(steps)
}

pub async fn run(runner: &mut Runner, steps: Vec<Step>) -> Outcome {
    for step in steps {
        runner.statement(&step.sql, step.params).await.map_err(|failure| match failure {
            Failure::Failed(message) => Failure::Failed(format!("{}: {message}", step.place)),
            Failure::Usage(message) => Failure::Usage(format!("{}: {message}", step.place)),
            other => other,
        })?;
    }
    Ok(())
}

pub fn starts_with_word(text: &str, word: &str) -> bool {
    let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    text[..end].eq_ignore_ascii_case(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Param;

    fn sources(texts: &[&str]) -> Vec<Source> {
        texts.iter().map(|text| Source { name: "x.sql".to_owned(), text: (*text).to_owned() }).collect()
    }

    fn params(names: &[&str]) -> Params {
        let mut params = Params::default();
        for name in names {
            params.set(*name, Param::Text("1".to_owned()));
        }
        params
    }

    fn usage(result: Result<Vec<Step>, Failure>) -> String {
        match result {
            Err(Failure::Usage(message)) => message,
            other => panic!("expected a usage error, got {other:?}"),
        }
    }

    #[test]
    fn each_statement_gets_the_parameters_that_it_names() {
        let steps = parse(&sources(&["select $a; select 1;\nselect $b, $a"]), &params(&["a", "b"])).unwrap();
        let names: Vec<Vec<&str>> = steps.iter().map(|step| step.params.names().collect()).collect();
        assert_eq!(names, [vec!["a"], vec![], vec!["b", "a"]]);
        assert_eq!(steps[2].place, "x.sql:2");
    }

    #[test]
    fn parameters_must_fit_before_anything_runs() {
        assert!(
            usage(parse(&sources(&["select 1;\nselect $a"]), &params(&[])))
                .starts_with("x.sql:2: placeholder $a has no value")
        );
        assert!(usage(parse(&sources(&["select 1"]), &params(&["a"]))).contains("no statement has the placeholder $a"));
    }

    #[test]
    fn commands_of_the_prompt_are_not_for_scripts() {
        let error = usage(parse(&sources(&["select 1;\n\\d flights"]), &params(&[])));
        assert!(error.starts_with("x.sql:2: ") && error.contains("DESCRIBE"), "{error}");
    }

    #[test]
    fn an_open_quote_is_told_with_its_line() {
        let error = usage(parse(&sources(&["select 1;\n\nselect 'a"]), &params(&[])));
        assert!(error.starts_with("x.sql:3: the text that starts here has no end"), "{error}");
    }
}

//! `windlass sql`: a prompt, or a script.

use super::arguments::{Demo, Sql, Target};
use super::embedding::Embedding;
use super::output::{Format, Sink};
use super::run::{Manner, Runner};
use super::script::{self, Source};
use super::{Failure, Outcome, repl};
use crate::config::{check, machine};
use crate::embedded::EmbeddedOptions;
use crate::params::Params;
use crate::{Client, Session};
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::runtime::Runtime;

pub fn run(command: Sql, embedding: Embedding<'_>, runtime: &Runtime) -> Outcome {
    let interactive = command.execute.is_empty() && command.file.is_empty() && io::stdin().is_terminal();
    // Errors that need no cluster are reported before one is started.
    let scripts = if interactive { Vec::new() } else { sources(&command)? };
    let parsed = script::parse(&scripts, &command.params())?;
    let sink = match &command.output {
        Some(path) => Sink::file(path, command.format)?,
        None => Sink::stdout(command.format)?,
    };
    let manner = Manner {
        stats: command.stats,
        timing: command.timing || interactive,
        progress: !command.no_progress,
        footer: interactive,
    };
    let session = runtime.block_on(async {
        let session = open(&command.target, embedding).await?;
        for (key, value) in &command.set {
            session.set(key, value).await?;
        }
        Ok::<_, Failure>(session)
    })?;
    let mut runner = runtime.block_on(async { Runner::new(session.clone(), sink, manner) })?;
    let outcome =
        if interactive { repl::run(&mut runner, runtime) } else { runtime.block_on(script::run(&mut runner, parsed)) };
    let sink = runner.sink;
    runtime.block_on(close(session));
    outcome?;
    Ok(sink.publish()?)
}

/// Runs the demonstration: the statements of a file, with the stages that ran for each.
pub fn demo(command: Demo, embedding: Embedding<'_>, runtime: &Runtime) -> Outcome {
    let file = match command.file {
        Some(file) => file,
        None => find_demo().ok_or_else(|| {
            Failure::Usage("there is no demo/demo.sql in this folder or above the binary: run it in the source tree, or name one with --file".to_owned())
        })?,
    };
    let out = command.out.unwrap_or_else(|| std::env::temp_dir().join(format!("windlass-demo-{}", std::process::id())));
    let data =
        absolute(&file)?.parent().and_then(Path::parent).map(|root| root.join("data/nycflights13")).unwrap_or_default();
    let job = read(&file)?;
    let text = job
        .text
        .replace("@DATA@", &data.display().to_string())
        .replace("@OUT@", &absolute(&out)?.display().to_string());
    let steps = script::parse(&[Source { name: job.name, text }], &Params::default())?;
    let session = runtime.block_on(open(&command.target, embedding))?;
    let manner = Manner { stats: true, timing: true, progress: true, footer: true };
    let mut runner = runtime.block_on(async { Runner::new(session.clone(), Sink::stdout(Format::Table)?, manner) })?;
    let outcome = runtime.block_on(script::run(&mut runner, steps));
    runtime.block_on(close(session));
    outcome?;
    super::print(&format!("\nwhat the job wrote lies under {}\n", out.display()))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| Failure::Usage(format!("cannot tell where {} lies: {e}", path.display())))
}

fn find_demo() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    let binary = std::env::current_exe().ok()?;
    // target/release/windlass lies three folders below the sources.
    let roots = std::iter::once(here.as_path()).chain(binary.ancestors().skip(1).take(3));
    roots.map(|root| root.join("demo/demo.sql")).find(|file| file.is_file())
}

async fn open(target: &Target, embedding: Embedding<'_>) -> Result<Session, Failure> {
    let Some(url) = &target.url else {
        let slots = target.slots.map_or(Ok(()), |slots| check::slots("--slots", slots.0));
        slots.map_err(Failure::Usage)?;
        let memory =
            target.memory.map_or(Ok(()), |memory| check::memory("--memory", memory.bytes(), machine::total_memory()));
        memory.map_err(Failure::Usage)?;
        let options = EmbeddedOptions {
            slots: target.slots.map(|slots| slots.0),
            memory: target.memory.map(|memory| memory.bytes()),
            dir: target.dir.clone(),
            options: Vec::new(),
            connectors: embedding.connectors.clone(),
        };
        return embedding.open(options).await;
    };
    let embedded_only =
        [("--slots", target.slots.is_some()), ("--memory", target.memory.is_some()), ("--dir", target.dir.is_some())];
    if let Some((flag, _)) = embedded_only.into_iter().find(|(_, given)| *given) {
        return Err(Failure::Usage(format!(
            "{flag} is for a cluster inside this process, and --url {url} names one elsewhere: leave one out"
        )));
    }
    Ok(Client::connect_with_token(url, target.token.clone()).await?)
}

/// Closes the session within a second: a session that is not closed expires.
async fn close(session: Session) {
    if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(1), session.close()).await {
        tracing::debug!(%error, "the session stays open until it expires");
    }
}

fn sources(command: &Sql) -> Result<Vec<Source>, Failure> {
    let mut sources: Vec<Source> =
        command.execute.iter().map(|text| Source { name: "-e".to_owned(), text: text.clone() }).collect();
    for path in &command.file {
        sources.push(read(path)?);
    }
    if sources.is_empty() {
        sources.push(read(Path::new("-"))?);
    }
    Ok(sources)
}

/// Reads a file, or standard input for "-".
pub fn read(path: &Path) -> Result<Source, Failure> {
    if path == Path::new("-") {
        let mut text = String::new();
        io::stdin()
            .read_to_string(&mut text)
            .map_err(|e| Failure::Usage(format!("cannot read statements from standard input: {e}")))?;
        return Ok(Source { name: "standard input".to_owned(), text });
    }
    let bytes = std::fs::read(path)
        .map_err(|e| Failure::Usage(format!("cannot read statements from {}: {e}", path.display())))?;
    let mut text = String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        Failure::Usage(format!("{}:{line}: the file is not UTF-8 text: convert it", path.display()))
    })?;
    // Editors of Windows begin files with a byte order mark.
    let mark = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    text.drain(..mark);
    Ok(Source { name: path.display().to_string(), text })
}

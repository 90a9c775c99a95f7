//! The prompt.

use super::complete::Assistant;
use super::meta::{self, Meta};
use super::output::{Format, Sink};
use super::run::Runner;
use super::script::{self, starts_with_word};
use super::stages::several;
use super::{Failure, Outcome, splitter, sql};
use crate::backend::{Table, TableFilter};
use crate::params::Params;
use crate::session::Session;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::Runtime;

const PROMPT: &str = "windlass> ";
/// Time limit for reading the catalog: a prompt must not wait for it.
const CATALOG_WAIT: Duration = Duration::from_secs(2);

pub fn run(runner: &mut Runner, runtime: &Runtime) -> Outcome {
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .history_ignore_space(true)
        .auto_add_history(true)
        .bracketed_paste(true)
        .build();
    let broken = |e: ReadlineError| Failure::Failed(format!("cannot read from the terminal: {e}"));
    let mut editor: Editor<Assistant, FileHistory> = Editor::with_config(config).map_err(broken)?;
    editor.set_helper(Some(Assistant::default()));
    let mut history = history_file();
    if let Some(file) = &history {
        // The first time there is no history.
        let _ = editor.load_history(file);
    }
    greet(&runner.session, runtime)?;
    let mut prompt = Prompt { runner, runtime, stale: true };
    loop {
        if prompt.stale
            && let Some(assistant) = editor.helper_mut()
        {
            assistant.know(prompt.catalog());
            prompt.stale = false;
        }
        let line = editor.readline(PROMPT);
        // Saved at once: the history survives a closed terminal, and concurrent prompts share it.
        if let Some(file) = &history
            && line.is_ok()
            && let Err(error) = editor.append_history(file)
        {
            eprintln!("warning: cannot keep the history in {}: {error}", file.display());
            history = None;
        }
        match line {
            Ok(input) if input.trim().is_empty() => {}
            Ok(input) => match prompt.input(&input) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(Failure::OutputClosed) => break Err(Failure::OutputClosed),
                Err(Failure::Interrupted) if super::leaving::is_asked() => return Err(Failure::Interrupted),
                Err(Failure::Interrupted) => eprintln!("cancelled"),
                Err(Failure::Failed(message) | Failure::Usage(message) | Failure::Unreachable(message)) => {
                    eprintln!("error: {message}");
                }
            },
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break Ok(()),
            Err(error) => break Err(broken(error)),
        }
    }
}

fn greet(session: &Session, runtime: &Runtime) -> Outcome {
    let status = runtime.block_on(session.status())?;
    let slots: u32 = status.executors.iter().map(|executor| executor.slots).sum();
    let place = match session.url() {
        "embedded" => format!("embedded, {}", several(slots as usize, "slot")),
        url => {
            let executors = several(status.executors.len(), "executor");
            format!("{url}, {executors}, {}", several(slots as usize, "slot"))
        }
    };
    super::print(&format!("windlass {} ({place})\ntype \\? for help\n", status.version))
}

struct Prompt<'a> {
    runner: &'a mut Runner,
    runtime: &'a Runtime,
    /// Whether a statement may have changed the catalog since it was last read.
    stale: bool,
}

impl Prompt<'_> {
    /// Handles one input. False: the user wants to leave.
    fn input(&mut self, input: &str) -> Result<bool, Failure> {
        if input.trim_start().starts_with('\\') {
            return self.command(meta::parse(input).map_err(Failure::Usage)?);
        }
        for piece in splitter::split(input).0 {
            if ["create", "drop", "alter", "use", "set", "refresh"]
                .iter()
                .any(|word| starts_with_word(piece.text, word))
            {
                self.stale = true;
            }
            if starts_with_word(piece.text, "quit") || starts_with_word(piece.text, "exit") {
                return Ok(false);
            }
            if piece.text.eq_ignore_ascii_case("help") {
                return self.command(Meta::Help);
            }
            if let Some(name) = piece.placeholders.first()
                && !starts_with_word(piece.text, "prepare")
            {
                return Err(Failure::Usage(format!(
                    "placeholder ${name} has no value: use 'windlass sql --param {name}=VALUE'"
                )));
            }
            self.runtime.block_on(self.runner.statement(piece.text, Params::default()))?;
        }
        Ok(true)
    }

    fn command(&mut self, command: Meta) -> Result<bool, Failure> {
        match command {
            Meta::Quit => return Ok(false),
            Meta::Help => super::print(meta::HELP)?,
            Meta::Tables => {
                let tables = self.runtime.block_on(self.runner.session.tables(TableFilter::default()))?;
                super::print(&list(&tables))?;
            }
            Meta::Columns(name) => super::print(&self.describe(&name)?)?,
            Meta::Timing(state) => {
                let on = state.unwrap_or(!self.runner.manner.timing);
                self.runner.manner.timing = on;
                super::print(&format!("timing is {}\n", if on { "on" } else { "off" }))?;
            }
            Meta::Stats(state) => {
                let on = state.unwrap_or(!self.runner.manner.stats);
                self.runner.manner.stats = on;
                super::print(&format!("stages are {}\n", if on { "shown" } else { "not shown" }))?;
            }
            Meta::Expanded(state) => {
                let on = state.unwrap_or(self.runner.sink.format() != Format::Expanded);
                self.runner.sink.set_format(if on { Format::Expanded } else { Format::Table })?;
                super::print(&format!("expanded display is {}\n", if on { "on" } else { "off" }))?;
            }
            Meta::Format(format) => self.redirect(Sink::stdout(format)?)?,
            Meta::Output(path) => {
                let format = self.runner.sink.format();
                let sink = match path {
                    Some(path) => Sink::file(&path, format)?,
                    None => Sink::stdout(if format == Format::Parquet { Format::Table } else { format })?,
                };
                self.redirect(sink)?;
            }
            Meta::Include(path) => {
                let source = sql::read(&path)?;
                let steps = script::parse(&[source], &Params::default())?;
                self.stale = true;
                self.runtime.block_on(script::run(self.runner, steps))?;
            }
        }
        Ok(true)
    }

    /// Redirects results. The output to the old place is complete.
    fn redirect(&mut self, sink: Sink) -> Outcome {
        let old = std::mem::replace(&mut self.runner.sink, sink);
        Ok(old.publish()?)
    }

    fn describe(&self, name: &str) -> Result<String, Failure> {
        let parts: Vec<&str> = name.split('.').map(|part| part.trim_matches('"')).collect();
        let (schema, table) = match parts.as_slice() {
            [table] => (None, *table),
            [.., schema, table] => (Some((*schema).to_owned()), *table),
            [] => (None, name),
        };
        let filter = TableFilter { schema, name: Some(table.to_owned()), with_columns: true, ..TableFilter::default() };
        let found = self.runtime.block_on(self.runner.session.tables(filter))?;
        if found.is_empty() {
            let all = self.runtime.block_on(self.runner.session.tables(TableFilter::default()))?;
            let near = crate::nearest::nearest(table, all.iter().map(|table| table.name.as_str()));
            let hint = near.map_or_else(|| "see \\d".to_owned(), |near| format!("did you mean \"{near}\"?"));
            return Err(Failure::Usage(format!("there is no table \"{name}\"; {hint}")));
        }
        Ok(found.iter().map(columns).collect())
    }

    fn catalog(&self) -> Vec<Table> {
        let filter = TableFilter { with_columns: true, ..TableFilter::default() };
        let tables = async { tokio::time::timeout(CATALOG_WAIT, self.runner.session.tables(filter)).await };
        match self.runtime.block_on(tables) {
            Ok(Ok(tables)) => tables,
            // Without a catalog there are fewer completions, and nothing else is lost.
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }
}

fn list(tables: &[Table]) -> String {
    if tables.is_empty() {
        return "no tables yet: CREATE EXTERNAL TABLE name STORED AS PARQUET LOCATION 'path';\n".to_owned();
    }
    let mut rows = vec![["catalog", "schema", "name", "type"].map(str::to_owned)];
    rows.extend(
        tables
            .iter()
            .map(|table| [table.catalog.clone(), table.schema.clone(), table.name.clone(), table.kind.to_lowercase()]),
    );
    super::stages::aligned(&rows, &[false; 4])
}

fn columns(table: &Table) -> String {
    let mut out = format!("{} {}.{}.{}\n", table.kind.to_lowercase(), table.catalog, table.schema, table.name);
    let mut rows = vec![["column", "type", "nulls"].map(str::to_owned)];
    for field in table.columns.iter().flat_map(|schema| schema.fields().iter()) {
        let nulls = if field.is_nullable() { "yes" } else { "no" };
        rows.push([field.name().clone(), field.data_type().to_string(), nulls.to_owned()]);
    }
    // Writing to a String cannot fail.
    let _ = write!(out, "{}", super::stages::aligned(&rows, &[false; 3]));
    out
}

/// Path of the history: WINDLASS_HISTORY, or windlass/history in the user's state folder.
fn history_file() -> Option<PathBuf> {
    if let Some(file) = std::env::var_os("WINDLASS_HISTORY") {
        return Some(file.into()).filter(|file: &PathBuf| !file.as_os_str().is_empty());
    }
    let state = match std::env::var_os("XDG_STATE_HOME").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".local/state"),
    };
    let folder = state.join("windlass");
    // Without the folder there is no history; the prompt still works.
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}

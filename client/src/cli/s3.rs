//! `windlass s3`: what S3 has, and SQL has not.

use super::arguments::{Restore, S3};
use super::{Failure, Outcome, counted, print};
use futures::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use url::Url;
use windlass_connectors::StoreRegistry;
use windlass_connectors::archive::{AT_A_TIME, Archive, ArchivedObject, Bytes, State, Tier, pause};
use windlass_engine::Place;

pub(super) async fn run(command: S3) -> Outcome {
    let S3::Restore(command) = command;
    restore(command).await
}

async fn restore(command: Restore) -> Outcome {
    let usage = |what: String| Failure::Usage(what);
    let url = Url::parse(&command.url)
        .map_err(|_| usage(format!("'{}' is not a URL like s3://bucket/folder/", command.url)))?;
    let archive = StoreRegistry::new().archive(&url).map_err(|error| usage(error.to_string()))?;
    let place = Target::of(&url)?;
    let tier = Tier::from(command.tier);
    let found = place.archived(archive.as_ref()).await?;
    if let Some(object) = found.iter().find(|object| object.class.patience(tier).is_none()) {
        return Err(usage(format!(
            "{} of class {} is not restored by tier {}: use standard or bulk",
            place.url(object),
            object.class.name(),
            tier.name()
        )));
    }
    let bytes = Bytes(found.iter().map(|object| object.bytes).sum());
    let progress = Progress::new(!command.no_progress, found.len(), "asked for");
    let asked = stream::iter(&found).map(|object| {
        let (archive, progress) = (&archive, &progress);
        async move {
            // Somebody waits for it already.
            if object.state != State::Restoring {
                archive.restore(&object.key, tier, command.days).await.map_err(|error| failed(&error))?;
            }
            progress.step();
            Ok::<_, Failure>(())
        }
    });
    let mut asked = asked.buffer_unordered(AT_A_TIME);
    let mut failures = Vec::new();
    while let Some(asked) = asked.next().await {
        failures.extend(asked.err());
    }
    drop(asked);
    progress.end();
    let before = |state: fn(State) -> bool| found.iter().filter(|object| state(object.state)).count() as u64;
    let begun = before(|state| state == State::Archived).saturating_sub(failures.len() as u64);
    let (under_way, there) = (before(|state| state == State::Restoring), before(State::is_readable));
    print(&format!(
        "{} of {bytes} in the archive: {begun} asked for, {under_way} asked for before, {there} there already\n",
        counted(found.len() as u64, "object"),
    ))?;
    if let Some(failure) = failures.into_iter().next() {
        return Err(failure);
    }
    let found = match command.wait {
        true => wait(&archive, &place, tier, !command.no_progress).await?,
        false => place.archived(archive.as_ref()).await?,
    };
    if let Some(file) = &command.manifest {
        write(file, &place, &found)?;
    }
    let waiting = found.iter().any(|object| !object.state.is_readable());
    match tier.patience(&found).filter(|_| waiting) {
        Some(patience) => print(&format!("they can be read in {patience}\n")),
        None => Ok(()),
    }
}

/// Returns the objects when all of them can be read.
async fn wait(
    archive: &Arc<dyn Archive>,
    place: &Target,
    tier: Tier,
    shows: bool,
) -> Result<Vec<ArchivedObject>, Failure> {
    let (mut progress, begun) = (None, Instant::now());
    loop {
        let found = place.archived(archive.as_ref()).await?;
        let there = found.iter().filter(|object| object.state.is_readable()).count();
        let bar = progress.get_or_insert_with(|| Progress::new(shows, found.len(), "can be read"));
        bar.at(there);
        if there == found.len() {
            bar.end();
            return Ok(found);
        }
        tokio::time::sleep(pause(tier, begun.elapsed())).await;
    }
}

/// An object, or a folder.
struct Target {
    bucket: String,
    key: String,
}

impl Target {
    fn of(url: &Url) -> Result<Self, Failure> {
        let place = Place::from_url(url.as_str()).map_err(|error| Failure::Usage(error.to_string()))?;
        let slash = if place.is_folder() && !place.path().is_root() { "/" } else { "" };
        let bucket = url.host_str().unwrap_or_default().to_string();
        Ok(Self { bucket, key: format!("{}{slash}", place.path()) })
    }

    async fn archived(&self, archive: &dyn Archive) -> Result<Vec<ArchivedObject>, Failure> {
        let mut found = archive.archived(&self.key).await.map_err(|error| failed(&error))?;
        if !self.key.is_empty() && !self.key.ends_with('/') {
            // A name is an object or a folder, and not the beginning of other names.
            let folder = format!("{}/", self.key);
            found.retain(|object| object.key == self.key || object.key.starts_with(&folder));
        }
        Ok(found)
    }

    fn url(&self, object: &ArchivedObject) -> String {
        format!("s3://{}/{}", self.bucket, object.key)
    }
}

fn failed(error: &datafusion::common::DataFusionError) -> Failure {
    Failure::Failed(error.strip_backtrace().trim_start_matches("Execution error: ").to_string())
}

fn write(file: &Path, place: &Target, objects: &[ArchivedObject]) -> Outcome {
    let quoted = |text: &str| match text.contains(['"', ',', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_string(),
    };
    let mut text = String::from("url,bytes,class,state,until\n");
    for object in objects {
        let (state, until) = match object.state {
            State::Archived => ("archived", String::new()),
            State::Restoring => ("restoring", String::new()),
            State::Restored(until) => ("restored", until.map(|until| until.to_rfc3339()).unwrap_or_default()),
        };
        let (url, bytes, class) = (quoted(&place.url(object)), object.bytes, object.class.name());
        text.push_str(&format!("{url},{bytes},{class},{state},{until}\n"));
    }
    std::fs::write(file, text)
        .map_err(|error| Failure::Failed(format!("the manifest {} cannot be written: {error}", file.display())))
}

/// A line on standard error, if somebody looks.
struct Progress(Option<ProgressBar>);

impl Progress {
    fn new(shows: bool, objects: usize, what: &str) -> Self {
        if !shows || !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let style =
            ProgressStyle::with_template(&format!("{{pos}} of {{len}} objects {what} {{wide_bar}} {{elapsed}}"));
        let bar = ProgressBar::new(objects as u64);
        Self(Some(match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }))
    }

    fn step(&self) {
        self.0.iter().for_each(|bar| bar.inc(1));
    }

    fn at(&self, objects: usize) {
        self.0.iter().for_each(|bar| bar.set_position(objects as u64));
    }

    fn end(&self) {
        self.0.iter().for_each(ProgressBar::finish_and_clear);
    }
}

//! Objects that lie in an archive of their store, and cannot be read before they are restored.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use datafusion::common::Result;
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// A bucket whose objects may be archived.
#[async_trait]
pub trait Archive: fmt::Debug + Send + Sync {
    /// Returns the objects whose keys begin with `prefix` and which are archived, also those that are restored at present, in the order of their keys.
    async fn archived(&self, prefix: &str) -> Result<Vec<ArchivedObject>>;

    /// Asks for a copy of an object that can be read for `days`.
    async fn restore(&self, key: &str, tier: Tier, days: u32) -> Result<Asked>;
}

/// Storage classes that an object can be written with.
pub const STORAGE_CLASSES: [&str; 8] = [
    "STANDARD",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER_IR",
    "GLACIER",
    "DEEP_ARCHIVE",
    "REDUCED_REDUNDANCY",
];

/// An object of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedObject {
    pub key: String,
    pub bytes: u64,
    pub class: Class,
    pub state: State,
}

/// Storage classes of objects that cannot be read as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Glacier Flexible Retrieval.
    Glacier,
    DeepArchive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Archived,
    /// A copy was asked for.
    Restoring,
    /// There is a copy until this instant, as far as it is said.
    Restored(Option<DateTime<Utc>>),
}

/// How fast objects are restored, and at what price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    Bulk,
    Standard,
    Expedited,
}

/// The answer to a request to restore an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Or there is a copy already, which stays for longer.
    Begun,
    /// Somebody has asked before.
    UnderWay,
}

/// What a table does with files that are archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// A statement that reads one is refused before it runs.
    Error,
    /// They are left out.
    Skip,
    /// They are asked for, and the statement is refused.
    Restore,
}

/// Days for which a table has its files restored.
pub const DAYS: u32 = 7;
/// Keys that a message names.
const NAMED: usize = 3;

impl Policy {
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "error" => Some(Self::Error),
            "skip" => Some(Self::Skip),
            "restore" => Some(Self::Restore),
            _ => None,
        }
    }
}

impl Class {
    /// The name in S3's protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::Glacier => "GLACIER",
            Self::DeepArchive => "DEEP_ARCHIVE",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Glacier, Self::DeepArchive].into_iter().find(|class| class.name() == name)
    }

    /// How long a restore takes, as S3's documentation says. `None`: there is no such tier.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects-retrieval-options.html>
    pub fn patience(self, tier: Tier) -> Option<&'static str> {
        match (self, tier) {
            (Self::Glacier, Tier::Expedited) => Some("1 to 5 minutes"),
            (Self::Glacier, Tier::Standard) => Some("3 to 5 hours"),
            (Self::Glacier, Tier::Bulk) => Some("5 to 12 hours"),
            (Self::DeepArchive, Tier::Expedited) => None,
            (Self::DeepArchive, Tier::Standard) => Some("up to 12 hours"),
            (Self::DeepArchive, Tier::Bulk) => Some("up to 48 hours"),
        }
    }
}

impl Tier {
    pub const ALL: [Self; 3] = [Self::Expedited, Self::Standard, Self::Bulk];

    pub fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Standard => "standard",
            Self::Expedited => "expedited",
        }
    }

    /// How long it is until all of these are there.
    pub fn patience(self, objects: &[ArchivedObject]) -> Option<&'static str> {
        objects.iter().map(|object| object.class).max()?.patience(self)
    }
}

impl State {
    pub fn is_readable(self) -> bool {
        matches!(self, Self::Restored(_))
    }
}

/// Shows how many objects there are, of how many bytes, and the first keys: `2 objects of 3.4 MiB (a.parquet, b.parquet)`.
pub struct Shown<'a>(pub &'a [ArchivedObject]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.iter().map(|object| object.bytes).sum();
        let s = if self.0.len() == 1 { "" } else { "s" };
        let keys: Vec<&str> = self.0.iter().take(NAMED).map(|object| object.key.as_str()).collect();
        let more = if self.0.len() > NAMED { ", …" } else { "" };
        write!(f, "{} object{s} of {} ({}{more})", self.0.len(), Bytes(bytes), keys.join(", "))
    }
}

/// Shows bytes in a unit that people read.
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1024 {
            return write!(f, "{} bytes", self.0);
        }
        let mut size = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while size >= 1024.0 && unit + 1 < UNITS.len() {
            size /= 1024.0;
            unit += 1;
        }
        write!(f, "{size:.1} {}", UNITS[unit])
    }
}

/// The reason why an object was not read: it is archived.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Archived(pub String);

impl Archived {
    /// Whether it is the reason of `error`.
    pub fn is_cause(error: &(dyn Error + 'static)) -> bool {
        std::iter::successors(Some(error), |&error| error.source()).any(|cause| cause.is::<Self>())
    }
}

/// Says why objects cannot be read, and how to mend it. `place`: a URL below which they are.
pub fn refusal(objects: &[ArchivedObject], place: &str) -> String {
    let restoring = objects.iter().filter(|object| object.state == State::Restoring).count();
    let tier = |tier: Tier| Some(format!("{} ({})", tier.patience(objects)?, tier.name()));
    let patience = Tier::ALL.into_iter().filter_map(tier).collect::<Vec<_>>().join(", ");
    let under_way = match restoring {
        0 => String::new(),
        some if some == objects.len() => "; they are being restored already".to_string(),
        some => format!("; {some} of them are being restored already"),
    };
    format!(
        "{} cannot be read: archived as {}{under_way}. A restore takes {patience}: windlass s3 restore {place}. \
         OPTIONS (archived 'skip') reads a table without them, and 'restore' asks for them",
        Shown(objects),
        classes(objects)
    )
}

fn classes(objects: &[ArchivedObject]) -> String {
    let mut classes: Vec<Class> = objects.iter().map(|object| object.class).collect();
    classes.sort();
    classes.dedup();
    classes.into_iter().map(Class::name).collect::<Vec<_>>().join(" and ")
}

/// Asks for all of these that can be neither read nor are asked for. Returns how many were asked for.
///
/// # Errors
/// The store refuses one.
pub async fn restore_all(archive: &dyn Archive, objects: &[ArchivedObject], tier: Tier, days: u32) -> Result<usize> {
    use futures::{StreamExt, TryStreamExt};
    let wanted = objects.iter().filter(|object| object.state == State::Archived);
    let asked: Vec<_> = wanted.map(|object| archive.restore(&object.key, tier, days)).collect();
    futures::stream::iter(asked).buffer_unordered(AT_A_TIME).try_fold(0, async |count, _| Ok(count + 1)).await
}

/// Requests to a store at a time.
pub const AT_A_TIME: usize = 32;

/// How long to wait before it is looked again whether objects are restored: some seconds at first, then as the tier has it.
pub fn pause(tier: Tier, waited: Duration) -> Duration {
    let most = match tier {
        Tier::Expedited => Duration::from_secs(15),
        Tier::Standard | Tier::Bulk => Duration::from_secs(300),
    };
    waited.clamp(Duration::from_secs(1), most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str, bytes: u64, class: Class, state: State) -> ArchivedObject {
        ArchivedObject { key: key.to_string(), bytes, class, state }
    }

    #[test]
    fn a_refusal_says_what_is_archived_and_for_how_long() {
        let deep = object("t/a.parquet", 5 << 20, Class::DeepArchive, State::Restoring);
        let one = refusal(std::slice::from_ref(&deep), "s3://lake/t/");
        assert!(one.contains("1 object of 5.0 MiB (t/a.parquet) cannot be read: archived as DEEP_ARCHIVE"), "{one}");
        assert!(one.contains("already. A restore takes up to 12 hours (standard), up to 48 hours (bulk)"), "{one}");
        let many: Vec<_> =
            (0..5).map(|n| object(&format!("t/{n}"), 100, Class::Glacier, State::Archived)).chain([deep]).collect();
        let many = refusal(&many, "s3://lake/t/");
        assert!(many.contains("6 objects of 5.0 MiB (t/0, t/1, t/2, …)"), "{many}");
        assert!(many.contains("GLACIER and DEEP_ARCHIVE; 1 of them are being restored"), "{many}");
        let quick = refusal(&[object("x", 7, Class::Glacier, State::Archived)], "s3://lake/x");
        assert!(quick.contains("7 bytes") && quick.contains("1 to 5 minutes (expedited), 3 to 5 hours (standard)"));
    }
}

//! The life of one write: its files become visible exactly once, even when leaders die during it.
//!
//! ```text
//!             record is stored          job finished               record says it         all moved          replaced files gone
//! beginning ──────────────────> staging ──(others' folder)──> deciding ─────────> moving ──────────> replacing ──────────┐
//!                                │  │                             │ refused         │ failed            │ failed          v
//!                                │  └──(a table's own folder)──> settling ──> committing ──ok──> clearing ──> ending ──> over
//!                                │ job failed                      │ failed         │ refused        ^
//!                                v                                 v                v                │
//!                             abandoning <────────────────────────────────────────────   (staged files are removed)
//!
//! A write whose commit has an unknown outcome, or whose leader has a successor, stays as it is: nothing is moved or removed from then on. The next leader
//! finds the record: a record with a publication goes on at moving, any other at abandoning.
//! ```
//!
//! The shell persists, then sends, then replies, and reports the outcome to the machine with the next event. One event is answered before the next; a step that
//! fails may have been done in part, and every step may be repeated.
//!
//! Invariants, each held by `simulation`:
//! - Files of a published write are all in place, once; readers find new files before the replaced ones go.
//! - Nothing of an abandoned write becomes visible.
//! - Staged files do not stay for ever, even when attempts that were cut off write until the last of [`STRAGGLERS`].
//! - Only staged files, the folder of an uncommitted write, and files replaced by a published write are removed.

#[cfg(test)]
mod simulation;

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// Times after which staged folders are removed again. An ended attempt may have left a half-written file to a thread of the file system, which cannot be
/// stopped; an executor that was cut off or stopped goes on with its attempts when it comes back; and on an overloaded disk seconds are not enough.
pub const STRAGGLERS: [Duration; 5] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(300),
    Duration::from_secs(3_600),
    Duration::from_secs(24 * 3_600),
];
/// Delay of the second removal of folders of a write that a catalog transaction commits: the first is immediate, but a leader may die before it.
pub const AT_ONCE: Duration = Duration::from_secs(1);

/// Record of a write in the metadata store until the write is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record<F> {
    /// Folders that are removed in any case. Empty when they are not known any more.
    pub staging: Vec<F>,
    /// Folders that are removed unless the write is committed.
    pub unless_committed: Vec<F>,
    /// Present once the write must be published, under any leader.
    pub publication: Option<Publication>,
}

/// Files to move and to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// URL of the object store.
    pub store: String,
    /// Paths in the store: from, to. A file that is missing at its old path and present at its new one counts as moved.
    pub moves: Vec<(String, String)>,
    /// The manifest, which names the files of `moves` and is moved after them, in the same way.
    #[serde(default)]
    pub manifest: Option<(String, String)>,
    /// Files that the new ones replace. A missing one counts as removed.
    pub removes: Vec<String>,
}

/// How the files of a write become visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visible {
    /// By a move into a folder that anybody may read.
    ByMoving,
    /// By a transaction of the catalog: the files go to a folder of [`Record::unless_committed`], which is unknown before.
    ByCatalog,
}

/// Whether files may still be staged for a write whose job has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    Gone,
    MayStage,
}

impl Writers {
    /// `quiet`: all attempts of the job have reported their ends. `ran_once`: each of its tasks had one attempt, so none was cut off.
    pub fn of_finished(quiet: bool, ran_once: bool) -> Self {
        if quiet && ran_once { Writers::Gone } else { Writers::MayStage }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<F> {
    /// The statement begins to write, or this leader takes over a write that had begun.
    Begun,
    /// Outcome of [`Output::persist`].
    Persisted(Said),
    /// The job failed or was cancelled, or its staged files cannot be published.
    JobFailed,
    JobFinished {
        publication: Publication,
        visible: Visible,
        writers: Writers,
    },
    /// Outcome of [`Effect::Move`].
    Moved(Moved),
    /// Outcome of [`Effect::RemoveReplaced`]: whether all of them are gone.
    ReplacedRemoved(bool),
    /// Outcome of [`Effect::RemoveFolders`]: the folders that are left.
    FoldersRemoved {
        left: Vec<F>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// All files are in place.
    All,
    /// Some files could not be moved.
    NotAll,
    /// Some files are neither at their old paths nor at their new ones, and their old folders can be read: another write has replaced them since they were
    /// moved, or someone has removed them.
    Missing,
}

/// Answer of the metadata store to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Done,
    /// Nothing was changed.
    Refused,
    /// Nothing was changed, because another primary leads.
    NotLeading,
    /// The outcome cannot be found out.
    Unknown,
}

/// Work that a step asks the shell to do. At most one of `persist` and `send` is present; when none is, `reply` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output<F> {
    pub persist: Option<Persist<F>>,
    pub send: Option<Effect<F>>,
    pub reply: Option<Reply>,
    pub facts: Vec<Fact>,
}

/// One transaction of the metadata store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist<F> {
    pub changes: Vec<Change<F>>,
    pub with: With,
}

/// Other content of the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    Nothing,
    /// The outcome of the statement, for a client that sends it again: this transaction makes it durable.
    Outcome,
    /// The outcome, and the edits of the catalog that make the write visible.
    Catalog,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<F> {
    /// Store this record of the write.
    Put(Record<F>),
    /// Remove the record of the write.
    Forget,
    /// The leader at that time removes the folder after this delay, and retries until it succeeds.
    RemoveLater { folder: F, after: Duration },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<F> {
    /// Move the files, in any order.
    Move(Publication),
    /// Remove the files of its `removes`.
    RemoveReplaced(Publication),
    RemoveFolders(Vec<F>),
}

/// State of the write when the machine has nothing more to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Files may be staged.
    Staging,
    /// All its files are visible.
    Published,
    /// None of its files is or becomes visible.
    Abandoned,
    /// The record could not be written, and nothing may be staged.
    NotBegun,
    /// The next leader moves the remaining files.
    Unfinished,
    /// The next leader finds out the state and ends the write.
    Left,
}

/// Observations for logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The folders of an earlier leader's write are not known: nothing is moved or removed.
    GivenUp,
    /// Files of an earlier leader's write are neither staged nor in place: a later write has replaced them, or they are lost.
    FilesMissing,
    /// The write has ended, and its record stays until the next leader.
    RecordStays,
    /// This many folders could not be removed, and are removed later.
    FoldersLeft(usize),
}

/// One write. See the module for its states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write<F> {
    record: Record<F>,
    state: State,
    writers: Writers,
    /// Whether an earlier leader began it.
    was_found: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Waits for `Begun` as a new write.
    New,
    /// Waits for `Begun` as a write of an earlier leader.
    Found,
    Beginning,
    Staging,
    /// Stores the list of files to move.
    Deciding,
    Moving,
    Replacing,
    /// Moves files to a folder that is not visible yet.
    Settling,
    Committing,
    /// Removes folders; then the record is removed, and the write ends with this reply.
    Clearing(Reply),
    Ending(Reply),
    Over(Reply),
}

impl Publication {
    /// Creates a publication whose moves replace `replaced`, except for names that the new files take.
    pub fn new(store: String, moves: Vec<(String, String)>, replaced: Vec<String>) -> Self {
        let new: BTreeSet<&String> = moves.iter().map(|(_, to)| to).collect();
        let removes = replaced.into_iter().filter(|path| !new.contains(path)).collect();
        Publication { store, moves, manifest: None, removes }
    }
}

impl<F> Record<F> {
    /// Maps the folders with `known`. The write is given up if no staging folder is known.
    pub fn filter_map<G>(self, mut known: impl FnMut(F) -> Option<G>) -> Record<G> {
        let mut each = |folders: Vec<F>| folders.into_iter().filter_map(&mut known).collect();
        let (staging, unless_committed) = (each(self.staging), each(self.unless_committed));
        Record { staging, unless_committed, publication: self.publication }
    }
}

impl<F: Clone + PartialEq> Write<F> {
    /// Creates a write that stages to `staging`; `unless_committed` are folders that a transaction of the catalog makes visible.
    pub fn new(staging: Vec<F>, unless_committed: Vec<F>) -> Self {
        let record = Record { staging, unless_committed, publication: None };
        Write { record, state: State::New, writers: Writers::MayStage, was_found: false }
    }

    /// Creates a write from the record of an earlier leader.
    pub fn found(record: Record<F>) -> Self {
        Write { record, state: State::Found, writers: Writers::MayStage, was_found: true }
    }

    /// Folders in which files are staged.
    pub fn staging(&self) -> &[F] {
        &self.record.staging
    }

    /// Whether nothing has been decided about the staged files.
    pub fn is_staging(&self) -> bool {
        self.state == State::Staging
    }

    /// Takes one event and returns its consequences. An event that does not answer the last output changes nothing; the answer is the state of the write.
    pub fn step(&mut self, event: Event<F>) -> Output<F> {
        match (self.state.clone(), event) {
            (State::New, Event::Begun) => {
                self.state = State::Beginning;
                persist(vec![Change::Put(self.record.clone())], With::Nothing)
            }
            (State::Beginning, Event::Persisted(Said::Done)) => self.stand(State::Staging, Reply::Staging),
            // If the record was stored after all, the next leader finds nothing staged for it.
            (State::Beginning, Event::Persisted(_)) => self.over(Reply::NotBegun),

            (State::Found, Event::Begun) => self.follow(),
            (State::Staging, Event::JobFailed) => self.abandon(),
            (State::Staging, Event::JobFinished { publication, visible, writers }) => {
                self.writers = writers;
                match visible {
                    Visible::ByMoving => {
                        self.record.publication = Some(publication);
                        self.state = State::Deciding;
                        persist(vec![Change::Put(self.record.clone())], With::Outcome)
                    }
                    Visible::ByCatalog if publication.moves.is_empty() => self.commit(),
                    Visible::ByCatalog => {
                        self.state = State::Settling;
                        send(Effect::Move(publication))
                    }
                }
            }
            (State::Settling, Event::Moved(Moved::All)) => self.commit(),
            (State::Settling, Event::Moved(_)) => self.abandon(),
            (State::Committing, Event::Persisted(Said::Done)) => {
                // Later removals are part of the commit.
                self.record.unless_committed.clear();
                self.clear(Reply::Published)
            }
            (State::Deciding, Event::Persisted(Said::Done)) => self.move_files(),
            (State::Deciding | State::Committing, Event::Persisted(Said::Refused)) => {
                self.record.publication = None;
                self.writers = Writers::MayStage;
                self.abandon()
            }
            // Files that may be visible must stay, and the next leader may be moving the staged ones.
            (State::Deciding | State::Committing, Event::Persisted(Said::Unknown | Said::NotLeading)) => {
                self.over(Reply::Left)
            }

            (State::Moving, Event::Moved(Moved::All)) => self.remove_replaced(),
            (State::Replacing, Event::ReplacedRemoved(true)) => self.clear(Reply::Published),
            // The write was published and replaced before its leader died, so it is over.
            (State::Moving, Event::Moved(Moved::Missing)) if self.was_found => {
                let mut output = self.remove_replaced();
                output.facts.push(Fact::FilesMissing);
                output
            }
            (State::Moving, Event::Moved(_)) | (State::Replacing, Event::ReplacedRemoved(false)) => {
                self.over(Reply::Unfinished)
            }
            (State::Clearing(ended), Event::FoldersRemoved { left }) => self.end(ended, left),
            (State::Ending(ended), Event::Persisted(said)) => self.ended(ended, said),
            (State::Staging, _) => reply(Reply::Staging),
            (State::Over(ended), _) => reply(ended),
            _ => reply(Reply::Left),
        }
    }

    fn follow(&mut self) -> Output<F> {
        // The staging folders are not known, so the files to move are not either.
        if self.record.staging.is_empty() {
            self.state = State::Ending(Reply::Abandoned);
            let mut output = persist(vec![Change::Forget], With::Nothing);
            output.facts.push(Fact::GivenUp);
            return output;
        }
        match self.record.publication {
            Some(_) => self.move_files(),
            None => self.abandon(),
        }
    }

    fn abandon(&mut self) -> Output<F> {
        self.writers = Writers::MayStage;
        self.clear(Reply::Abandoned)
    }

    fn commit(&mut self) -> Output<F> {
        self.state = State::Committing;
        let times: &[Duration] = if self.writers == Writers::MayStage { &STRAGGLERS } else { &[] };
        let mut changes = vec![Change::Forget];
        for folder in &self.record.staging {
            let later = |&after: &Duration| Change::RemoveLater { folder: folder.clone(), after };
            changes.extend([AT_ONCE].iter().chain(times).map(later));
        }
        persist(changes, With::Catalog)
    }

    fn move_files(&mut self) -> Output<F> {
        self.state = State::Moving;
        send(Effect::Move(self.record.publication.clone().unwrap_or_default()))
    }

    /// Readers may see both the new and the old files for a while, but never neither.
    fn remove_replaced(&mut self) -> Output<F> {
        let publication = self.record.publication.clone().unwrap_or_default();
        if publication.removes.is_empty() {
            return self.clear(Reply::Published);
        }
        self.state = State::Replacing;
        send(Effect::RemoveReplaced(publication))
    }

    fn clear(&mut self, ended: Reply) -> Output<F> {
        let mut folders = self.record.staging.clone();
        if ended == Reply::Abandoned {
            folders.extend(self.record.unless_committed.iter().cloned());
        }
        self.state = State::Clearing(ended);
        send(Effect::RemoveFolders(folders))
    }

    fn end(&mut self, ended: Reply, left: Vec<F>) -> Output<F> {
        let facts: Vec<Fact> = left.first().map(|_| Fact::FoldersLeft(left.len())).into_iter().collect();
        let was_committed = ended == Reply::Published && self.record.publication.is_none();
        let mut output = match was_committed {
            // The record is already forgotten, and the folders are removed later.
            true => self.over(ended),
            false => {
                let mut folders = self.record.staging.clone();
                if ended == Reply::Abandoned {
                    folders.extend(self.record.unless_committed.iter().cloned());
                }
                let mut changes = vec![Change::Forget];
                let later = |folder: F, after| Change::RemoveLater { folder, after };
                changes.extend(left.into_iter().map(|folder| later(folder, Duration::ZERO)));
                if self.writers == Writers::MayStage {
                    let again = |folder: &F| STRAGGLERS.map(|after| later(folder.clone(), after));
                    changes.extend(folders.iter().flat_map(again));
                }
                self.state = State::Ending(ended);
                persist(changes, With::Nothing)
            }
        };
        output.facts.extend(facts);
        output
    }

    fn ended(&mut self, ended: Reply, said: Said) -> Output<F> {
        match (ended, said) {
            (_, Said::Done) => self.over(ended),
            // The next leader has removed the staged files, which may be why the job failed.
            (Reply::Abandoned, Said::NotLeading) => self.over(Reply::Left),
            _ => {
                let mut output = self.over(ended);
                output.facts.push(Fact::RecordStays);
                output
            }
        }
    }

    fn over(&mut self, ended: Reply) -> Output<F> {
        self.stand(State::Over(ended), ended)
    }

    fn stand(&mut self, state: State, ended: Reply) -> Output<F> {
        self.state = state;
        reply(ended)
    }
}

fn persist<F>(changes: Vec<Change<F>>, with: With) -> Output<F> {
    Output { persist: Some(Persist { changes, with }), send: None, reply: None, facts: Vec::new() }
}

fn send<F>(effect: Effect<F>) -> Output<F> {
    Output { persist: None, send: Some(effect), reply: None, facts: Vec::new() }
}

fn reply<F>(reply: Reply) -> Output<F> {
    Output { persist: None, send: None, reply: Some(reply), facts: Vec::new() }
}

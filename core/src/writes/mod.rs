//! The life of one write: its files become visible once, also when leaders die in the middle of it.
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
//! A commit whose outcome is unknown, or of a leader that is followed, leaves the write as it is: nothing is moved or removed from then on.
//! The leader that follows finds the record: one that says what to move goes on at moving, any other at abandoning.
//! ```
//!
//! The shell persists, then sends, then replies, and tells the machine what became of it with the next event. One event is answered before
//! the next; a step that fails may have been done in part, and every step may be repeated.
//!
//! Invariants, each held by `simulation`:
//! - Files of a published write are all at their places, once; readers find new files before the replaced ones go.
//! - Nothing of an abandoned write becomes visible.
//! - Nothing staged stays for ever, also when attempts that were cut off write until the last of [`STRAGGLERS`].
//! - Nothing is removed but staged files, the folder of a write that is not committed, and files that a published write replaces.

#[cfg(test)]
mod simulation;

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// Staged folders are removed again after each of these times. An attempt that has ended may have left a file half written to a thread of the
/// file system, which cannot be called back; an executor that was cut off or stopped goes on with its attempts when it comes back; and on
/// a disk that has more to do than it can, seconds are not enough.
pub const STRAGGLERS: [Duration; 5] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(300),
    Duration::from_secs(3_600),
    Duration::from_secs(24 * 3_600),
];
/// Folders of a write that a catalog transaction commits are removed at once, and again after this time, for a leader that dies before.
pub const AT_ONCE: Duration = Duration::from_secs(1);

/// What the metadata store keeps of a write until it is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record<F> {
    /// Folders that are removed in any case. Empty when they cannot be told any more.
    pub staging: Vec<F>,
    /// Folders that are removed unless the write is committed.
    pub unless_committed: Vec<F>,
    /// Present once the write is to be published, whoever leads.
    pub publication: Option<Publication>,
}

/// What is to happen, file by file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// The object store's URL.
    pub store: String,
    /// Paths in the store: from, to. A file that is not at its old path and is at its new one counts as moved.
    pub moves: Vec<(String, String)>,
    /// Files that the new ones replace. One that is not there counts as removed.
    pub removes: Vec<String>,
}

/// Who makes the files of a write visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visible {
    /// Moving them: they go to a folder that anybody may read.
    ByMoving,
    /// A transaction of the catalog: they go to a folder of [`Record::unless_committed`], which nobody knows before.
    ByCatalog,
}

/// Whether files may still be staged for a write whose job has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    Gone,
    MayStage,
}

impl Writers {
    /// `quiet`: the job's attempts have all reported their ends. `ran_once`: each of its tasks had one attempt, so none was cut off.
    pub fn of_finished(quiet: bool, ran_once: bool) -> Self {
        if quiet && ran_once { Writers::Gone } else { Writers::MayStage }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<F> {
    /// The statement begins to write, or a leader follows one that had begun.
    Begun,
    /// What became of [`Output::persist`].
    Persisted(Said),
    /// The job failed or was cancelled, or what it staged cannot be published.
    JobFailed,
    JobFinished {
        publication: Publication,
        visible: Visible,
        writers: Writers,
    },
    /// What became of [`Effect::Move`].
    Moved(Moved),
    /// What became of [`Effect::RemoveReplaced`]: whether none of them is left.
    ReplacedRemoved(bool),
    /// What became of [`Effect::RemoveFolders`]: the folders that are left.
    FoldersRemoved {
        left: Vec<F>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// All files are where they belong.
    All,
    /// Some could not be moved.
    NotAll,
    /// Some are neither at their old places nor at their new ones, and the folders that they were in can be read: another write has replaced
    /// them since they were moved, or someone has removed them.
    Missing,
}

/// What the metadata store said to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Done,
    /// Nothing was changed.
    Refused,
    /// Nothing was changed, and this primary is followed by another one.
    NotLeading,
    /// Whether it was done cannot be found out.
    Unknown,
}

/// What a step asks the shell to do. At most one of `persist` and `send` is there; when none is, `reply` is.
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

/// What else belongs into the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    Nothing,
    /// What the statement did, for a client that sends it again: with this transaction it is durable.
    Outcome,
    /// The same, and the edits of the catalog that make the write visible.
    Catalog,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<F> {
    /// The record of the write is this one.
    Put(Record<F>),
    /// The write has no record any more.
    Forget,
    /// Whoever leads then removes the folder after this time, again and again until it can be removed.
    RemoveLater { folder: F, after: Duration },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<F> {
    /// In any order.
    Move(Publication),
    /// Its `removes`.
    RemoveReplaced(Publication),
    RemoveFolders(Vec<F>),
}

/// Where the write stands when the machine has nothing more to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Files may be staged.
    Staging,
    /// Its files are visible, all of them.
    Published,
    /// Nothing of it is or becomes visible.
    Abandoned,
    /// The record could not be written, and nothing may be staged.
    NotBegun,
    /// The leader that follows publishes what is still to be moved.
    Unfinished,
    /// The leader that follows finds out what it is and ends it.
    Left,
}

/// What happened, for logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The folders of an earlier leader's write cannot be told: nothing is moved or removed.
    GivenUp,
    /// Files of an earlier leader's write are neither staged nor at their places: a later write has replaced them, or they are lost.
    FilesMissing,
    /// The write has ended, and its record stays until a leader follows.
    RecordStays,
    /// Folders could not be removed, and are removed later.
    FoldersLeft(usize),
}

/// One write. See the module for its states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write<F> {
    record: Record<F>,
    state: State,
    writers: Writers,
    /// An earlier leader began it.
    was_found: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// `Begun` is to come.
    New,
    /// The same of a write of an earlier leader.
    Found,
    Beginning,
    Staging,
    /// What is to be moved is about to be durable.
    Deciding,
    Moving,
    Replacing,
    /// Files move to a folder that nobody knows.
    Settling,
    Committing,
    /// Folders are being removed; then the record is forgotten, and the write has ended as the reply says.
    Clearing(Reply),
    Ending(Reply),
    Over(Reply),
}

impl Publication {
    /// Moves that replace `replaced`, but for those whose names the new files take.
    pub fn new(store: String, moves: Vec<(String, String)>, replaced: Vec<String>) -> Self {
        let new: BTreeSet<&String> = moves.iter().map(|(_, to)| to).collect();
        let removes = replaced.into_iter().filter(|path| !new.contains(path)).collect();
        Publication { store, moves, removes }
    }
}

impl<F> Record<F> {
    /// With the folders that `known` can tell. Without any that was staged to, the write is given up.
    pub fn filter_map<G>(self, mut known: impl FnMut(F) -> Option<G>) -> Record<G> {
        let mut each = |folders: Vec<F>| folders.into_iter().filter_map(&mut known).collect();
        let (staging, unless_committed) = (each(self.staging), each(self.unless_committed));
        Record { staging, unless_committed, publication: self.publication }
    }
}

impl<F: Clone + PartialEq> Write<F> {
    /// A write that stages to `staging`; `unless_committed` are folders that a transaction of the catalog shows.
    pub fn new(staging: Vec<F>, unless_committed: Vec<F>) -> Self {
        let record = Record { staging, unless_committed, publication: None };
        Write { record, state: State::New, writers: Writers::MayStage, was_found: false }
    }

    /// A write whose record an earlier leader left.
    pub fn found(record: Record<F>) -> Self {
        Write { record, state: State::Found, writers: Writers::MayStage, was_found: true }
    }

    /// The folders that files are staged to.
    pub fn staging(&self) -> &[F] {
        &self.record.staging
    }

    /// Nothing has been decided about what was staged.
    pub fn is_staging(&self) -> bool {
        self.state == State::Staging
    }

    /// Takes one event and says what follows from it. An event that does not answer the last output changes nothing and is answered with
    /// where the write stands.
    pub fn step(&mut self, event: Event<F>) -> Output<F> {
        match (self.state.clone(), event) {
            (State::New, Event::Begun) => {
                self.state = State::Beginning;
                persist(vec![Change::Put(self.record.clone())], With::Nothing)
            }
            (State::Beginning, Event::Persisted(Said::Done)) => self.stand(State::Staging, Reply::Staging),
            // If the record is there all the same, the leader that follows finds nothing that was staged for it.
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
            // What may be visible must stay, and a leader that follows may be moving what is staged.
            (State::Deciding | State::Committing, Event::Persisted(Said::Unknown | Said::NotLeading)) => {
                self.over(Reply::Left)
            }

            (State::Moving, Event::Moved(Moved::All)) => self.remove_replaced(),
            (State::Replacing, Event::ReplacedRemoved(true)) => self.clear(Reply::Published),
            // What was published and replaced before its leader died is over.
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
        // Where it was staged cannot be told, so nor can what of it is to be moved.
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

    /// A reader may see both the new and the old in between, but never neither.
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
            // By then its record was forgotten, and its folders are removed later.
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
            // The leader that follows has removed what was staged, which may be why the job failed.
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

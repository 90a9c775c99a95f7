//! What has to hold, read from disks, from what is stored and from what clients were told: never from what the namespace believes.

use super::*;

impl World {
    /// Whether what was written can be had from these executors.
    pub(super) fn is_on<'a>(&self, content: Content, executors: impl Iterator<Item = &'a Executor>) -> bool {
        let mut pieces: BTreeMap<(BlockId, Coding), BTreeSet<u8>> = BTreeMap::new();
        for (id, replica) in executors.flat_map(|executor| executor.disk.iter()) {
            match replica.piece {
                _ if replica.damaged || replica.content != content => {}
                None => return true,
                Some((coding, piece)) => {
                    let first = BlockId(id.0 - u64::from(piece));
                    pieces.entry((first, coding)).or_default().insert(piece);
                }
            }
        }
        pieces.iter().any(|((_, coding), pieces)| pieces.len() >= usize::from(coding.data()))
    }

    /// What was promised is on some disk.
    pub(super) fn check_always(&mut self) {
        for (path, promise) in &self.promised {
            for &content in &promise.0 {
                if !self.is_on(content, self.executors.iter()) {
                    self.fail(&format!("{content:?} of {path} is on no disk any more"));
                }
            }
        }
        self.check_trash();
        self.check_quotas();
    }

    fn policy_around(&self, path: &FsPath) -> Option<Policy> {
        let mut around = path.parent();
        while let Some(folder) = around {
            if let Detail::Folder { policy: Some(policy), .. } = self.names.stat(&folder).unwrap().detail {
                return Some(policy);
            }
            around = folder.parent();
        }
        None
    }

    /// Paths of all that is stored and can be found.
    fn stored_paths(&self) -> BTreeMap<String, &Record> {
        let path = |record: &Record| {
            let (mut path, mut at) = (format!("/{}", record.name), record.parent);
            while at != FileId::ROOT {
                let around = self.stored.records.get(&at)?;
                path = format!("/{}{path}", around.name);
                at = around.parent;
            }
            Some(path)
        };
        let all = self.stored.records.values();
        let found = all.filter(|record| !record.name.is_empty());
        found.filter_map(|record| Some((path(record)?, record))).collect()
    }

    /// What is in the trash is there for as long as was said, but for the minute in which it came, and not much longer.
    pub(super) fn check_trash(&mut self) {
        if self.trashed.is_empty() {
            return;
        }
        let paths = self.stored_paths();
        let keep_ms = self.names.config().trash.as_millis() as u64;
        let mut purged = Vec::new();
        for (path, Trashed { since_ms, promise }) in &self.trashed {
            let over_ms = since_ms + keep_ms;
            if paths.contains_key(path.as_str()) {
                // It is looked for ten times in that time, by whoever is the primary then.
                if self.now.wall_ms > over_ms + keep_ms / 10 + 5_000 {
                    self.fail(&format!("{path} stays in the trash since {since_ms} ms"));
                }
            } else if self.now.wall_ms + 60_000 < over_ms {
                self.fail(&format!("{path} is gone from the trash, where it was since {since_ms} ms"));
            } else {
                purged.push(path.clone());
                continue;
            }
            if let Some(lost) = promise.0.iter().find(|content| !self.is_on(**content, self.executors.iter())) {
                self.fail(&format!("{lost:?} of {path} is on no disk any more"));
            }
        }
        for path in purged {
            self.trashed.remove(&path);
            self.see("purged");
        }
    }

    /// A folder that holds as much as it may gets nothing more.
    fn check_quotas(&mut self) {
        if self.quotas.is_empty() {
            return;
        }
        let paths = self.stored_paths();
        let mut held = BTreeMap::new();
        for (folder, quota) in &self.quotas {
            let within = format!("{folder}/");
            let inside = paths.iter().filter(|(path, _)| path.starts_with(&within));
            let holds = Held { of: inside.map(|(_, record)| (record.id, held_by(record, None))).collect() };
            if let Some(before) = self.held.get(folder) {
                let (entries, bytes) = (holds.of.len() as u64, holds.bytes());
                if bytes > before.bytes() && quota.bytes.is_some_and(|limit| bytes > limit) {
                    self.fail(&format!("{folder} holds {bytes} bytes, and may hold {quota:?}"));
                }
                if entries > before.of.len() as u64 && quota.files.is_some_and(|limit| entries > limit) {
                    self.fail(&format!("{folder} holds {entries} files and folders, and may hold {quota:?}"));
                }
            }
            held.insert(folder.clone(), holds);
        }
        self.held = held;
    }

    /// Whether no quota around a file stands against keeping it in this way.
    fn has_room_as(&self, entry: &Entry, kept: Option<Coding>) -> bool {
        let record = &self.stored.records[&entry.id];
        let more = held_by(record, Some(kept)).saturating_sub(held_by(record, None));
        let around = self.held.iter().filter(|(folder, _)| entry.path.is_in(folder));
        let mut limits = around.filter_map(|(folder, held)| Some((held.bytes(), self.quotas[folder].bytes?)));
        more == 0 || limits.all(|(held, limit)| held + more <= limit)
    }

    /// Files that would be kept in another way if quotas let them.
    pub(super) fn without_room(&self) -> usize {
        let files = self.names.list(&FsPath::root(), true, None, usize::MAX).unwrap().into_iter();
        let refused = files.filter(|entry| match entry.detail {
            Detail::File { coding, .. } => {
                let wanted = self.wanted_coding(entry);
                coding != wanted && !self.has_room_as(entry, wanted)
            }
            Detail::Folder { .. } => false,
        });
        refused.count()
    }

    fn wanted_coding(&self, entry: &Entry) -> Option<Coding> {
        let Detail::File { bytes, coding, .. } = entry.detail else { return None };
        let worth_it = coding.is_some() || bytes >= CODED_FROM_BYTES;
        self.policy_around(&entry.path).and_then(Policy::coding).filter(|_| worth_it)
    }

    pub(super) fn check_at_rest(&self) {
        let files = self.names.list(&FsPath::root(), true, None, usize::MAX).unwrap();
        for entry in files {
            let Detail::File { coding, .. } = entry.detail else { continue };
            let wanted = self.wanted_coding(&entry);
            if coding != wanted && self.has_room_as(&entry, wanted) {
                self.fail(&format!("{} is kept as {coding:?} and not as {wanted:?}", entry.path));
            }
            let found = self.readable_contents(&entry.path);
            let is_promise = |promise: &Promise| promise.0 == found;
            if !self.promised.get(&entry.path).is_some_and(is_promise) {
                self.fail(&format!("{} is not what was promised, or was removed: {found:?}", entry.path));
            }
        }
        for path in self.promised.keys() {
            if self.names.stat(path).is_err() {
                self.fail(&format!("{path} is gone"));
            }
        }
        for folder in &self.folders {
            if !self.names.stat(folder).is_ok_and(|entry| matches!(entry.detail, Detail::Folder { .. })) {
                self.fail(&format!("the folder {folder} is gone"));
            }
        }
        // Nothing is left on disks that no file has.
        let wanted: BTreeSet<BlockId> = self.stored.records.values().flat_map(replicas_of).collect();
        for executor in &self.executors {
            if let Some(leak) = executor.disk.keys().find(|block| !wanted.contains(block)) {
                self.fail(&format!("{leak} is still on a disk"));
            }
            if let Some((damaged, _)) = executor.disk.iter().find(|(_, replica)| replica.damaged) {
                self.fail(&format!("a damaged replica of {damaged} is still on a disk"));
            }
        }
        let bound = 60 + 40 * STEPS as u64;
        if self.copies > bound {
            self.fail(&format!("{} copies were ordered", self.copies));
        }
    }

    /// What readers get of a file, whichever replica they take, block by block. All replicas are there.
    pub(super) fn readable_contents(&self, path: &FsPath) -> Vec<Content> {
        let Detail::File { replication, .. } = self.names.stat(path).unwrap().detail else { return Vec::new() };
        let (_, located) = self.names.locate(path, 0..u64::MAX, &Near::default()).unwrap();
        let mut contents: Vec<Content> = Vec::new();
        for Located { block, holders, coded, .. } in &located {
            let (first, replicas, wanted) = match coded {
                None => {
                    let whole = holders.iter().map(|name| (*name, block.id, block.bytes, None));
                    (block.id, whole.collect::<Vec<_>>(), usize::from(replication))
                }
                Some(coded) => {
                    let all = coded.holders.iter().map(|Holder { executor, piece }| {
                        let piece_of = Some((coded.coding, *piece));
                        (*executor, replicas::replica(coded.first, *piece), coded.piece_bytes, piece_of)
                    });
                    (coded.first, all.collect(), usize::from(coded.coding.pieces()))
                }
            };
            let executors: BTreeSet<ExecutorId> = replicas.iter().map(|(name, ..)| *name).collect();
            let pieces: BTreeSet<Option<u8>> =
                replicas.iter().map(|(.., piece)| piece.map(|(_, piece)| piece)).collect();
            if executors.len() != wanted || (coded.is_some() && pieces.len() != wanted) {
                self.fail(&format!("{first} of {path} has replicas {replicas:?}"));
            }
            let found = replicas.iter().map(|(name, id, bytes, piece)| {
                let replica = self.at(*name).and_then(|at| self.executors[at].disk.get(id));
                let intact = |r: &&OnDisk| r.bytes == *bytes && r.piece == *piece && !r.damaged;
                replica.filter(intact).map(|replica| replica.content)
            });
            let found: BTreeSet<Option<Content>> = found.collect();
            match found.first() {
                Some(Some(content)) if found.len() == 1 => {
                    if coded.as_ref().is_none_or(|coded| coded.piece == 0) {
                        contents.push(*content);
                    }
                }
                _ => self.fail(&format!("replicas of {first} of {path} differ: {found:?}")),
            }
        }
        contents
    }

    pub(super) fn fail(&self, what: &str) -> ! {
        let trace = self.trace.iter().rev().take(100).rev().cloned().collect::<Vec<_>>().join("\n");
        panic!("seed {}: {what}\n{trace}", self.seed);
    }
}

impl Held {
    fn bytes(&self) -> u64 {
        self.of.values().sum()
    }
}

/// Bytes of all replicas that a file is to have, or would have if it were kept in this way.
fn held_by(record: &Record, kept: Option<Option<Coding>>) -> u64 {
    let Kind::File(file) = &record.kind else { return 0 };
    let of_block = |block: &Block| match kept.unwrap_or(file.coding) {
        Some(coding) => coding.piece_bytes(block.bytes) * u64::from(coding.pieces()),
        None => block.bytes * u64::from(file.replication),
    };
    file.blocks.iter().map(of_block).sum()
}

pub(super) fn contents(writer: u128, blocks: &[Block]) -> impl Iterator<Item = Content> {
    blocks.iter().map(move |block| Content { writer, block: block.id, bytes: block.bytes })
}

pub(super) fn replicas_of(record: &Record) -> Vec<BlockId> {
    match &record.kind {
        Kind::File(file) => {
            let pieces = file.coding.map_or(1, Coding::pieces);
            let all = |block: &Block| (0..pieces).map(|piece| replicas::replica(block.id, piece)).collect::<Vec<_>>();
            file.blocks.iter().flat_map(all).collect()
        }
        Kind::Writing(file) => file.sealed.iter().map(|block| block.id).chain(file.open).collect(),
        Kind::Folder(_) => Vec::new(),
    }
}

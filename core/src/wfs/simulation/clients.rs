//! Clients: writers, those who want something to happen once, and whoever runs the cluster.

use super::*;

impl World {
    pub(super) fn begin_write(&mut self) {
        let path = self.some_path();
        // One writer of a path at a time, so that what it has to have is clear.
        if self.writes.iter().any(|write| write.path == path) {
            return;
        }
        let writer = self.next_writer;
        self.next_writer += 1;
        let (left, appends) = (self.roll(4), self.roll(4) == 0);
        let there = self.names.stat(&path).ok().filter(|_| appends);
        let mode = there.map_or(CreateMode::Overwrite, |entry| CreateMode::Append(entry.id));
        let (blocks, last) = (Vec::new(), Last::Nothing);
        self.writes.push(Write { path, writer, file: None, blocks, last, left, mode, held_until: None });
    }

    /// Where a file may be: in a folder, or in a folder of a folder.
    fn some_path(&mut self) -> FsPath {
        let (top, name) = (self.roll(3), self.roll(6));
        let path = match self.roll(6) {
            0 => format!("/{top}/n{}/{name}", self.roll(2)),
            _ => format!("/{top}/{name}"),
        };
        FsPath::parse(&path).unwrap()
    }

    /// A file that is there.
    fn some_file(&mut self) -> Option<FsPath> {
        let which = self.roll(self.promised.len().max(1) as u64) as usize;
        self.promised.keys().nth(which).cloned()
    }

    pub(super) fn go_on(&mut self, at: usize) {
        let mut write = self.writes.swap_remove(at);
        let (writer, path) = (write.writer, write.path.clone());
        let Some(file) = write.file else {
            let mode = write.mode;
            let create = Create { path, mode, replication: Some(3), block_bytes: None, writer };
            match self.ask(Ask::Create(create)) {
                Some(Ok(Reply::Created(created))) => {
                    write.file = Some(created.file);
                    self.is_held(&mut write);
                }
                Some(Ok(other)) => self.fail(&format!("whoever creates a file is answered {other:?}")),
                Some(Err(error)) => return self.refused(&write, &error),
                // Asked again.
                None => {}
            }
            return self.writes.push(write);
        };
        if write.left > 0 {
            let (index, last) = (write.blocks.len(), write.last.clone());
            let add = AddBlock { file, index, last, near: Near::default(), excluded: BTreeSet::new() };
            match self.ask(Ask::AddBlock(add)) {
                Some(Ok(Reply::Allocated(allocated))) => {
                    self.is_held(&mut write);
                    self.write_block(&mut write, allocated);
                }
                Some(Ok(other)) => self.fail(&format!("whoever adds a block is answered {other:?}")),
                Some(Err(FsError::NoTargets { .. })) | None => {}
                Some(Err(error)) => return self.refused(&write, &error),
            }
            return self.writes.push(write);
        }
        self.complete(write, file);
    }

    pub(super) fn complete(&mut self, write: Write, file: FileId) {
        let (writer, path, last) = (write.writer, write.path.clone(), write.last.clone());
        let before = self.outcome(writer).is_some();
        let completed = self.ask(Ask::Complete { file, writer, last });
        if matches!(completed, Some(Ok(_))) && self.outcome(writer).is_none() {
            self.fail(&format!("writer {writer} was told that {path} is complete, which is not durable"));
        }
        if !before && (self.outcome(writer).is_some() || matches!(completed, Some(Ok(_)))) {
            self.note(format!("{path} is {:?} of writer {writer}", write.blocks));
            let before = self.promised.remove(&path).filter(|_| matches!(write.mode, CreateMode::Append(_)));
            let all = before.unwrap_or_default().0.into_iter().chain(contents(writer, &write.blocks));
            self.promised.insert(path, Promise(all.collect()));
        }
        match completed {
            Some(Ok(_)) => {}
            Some(Err(error)) if before => self.fail(&format!("a file that was complete is not: {error}")),
            // It asks again.
            Some(Err(FsError::NotDurable { .. })) | None => self.writes.push(write),
            Some(Err(error)) => self.refused(&write, &error),
        }
    }

    /// A writer was told that its lease goes on.
    fn is_held(&self, write: &mut Write) {
        write.held_until = Some(self.now.at + self.names.config().lease);
    }

    /// A writer was told that it cannot go on, and gives up.
    fn refused(&mut self, write: &Write, error: &FsError) {
        match error {
            FsError::NotWriting { .. } => {
                let is_held = write.held_until.is_some_and(|until| self.now.at < until);
                if is_held && self.outcome(write.writer).is_none() {
                    self.fail(&format!("the lease of writer {} ended before its time", write.writer));
                }
                self.see("lease over");
            }
            FsError::QuotaExceeded { .. } => self.see("write beyond a quota"),
            _ => {}
        }
    }

    /// A writer says that it lives, that it gives up, or nothing any more.
    pub(super) fn hold_or_give_up(&mut self, at: usize) {
        let mut write = self.writes.swap_remove(at);
        let (Some(file), writer) = (write.file, write.writer) else { return self.writes.push(write) };
        match self.roll(8) {
            0 => {
                let abandoned = self.ask(Ask::Abandon { file, writer });
                let stays = |record: &Record| matches!(&record.kind, Kind::Writing(one) if one.writer == writer);
                if abandoned.is_some() && self.stored.records.values().any(stays) {
                    self.fail(&format!("writer {writer} gave up, and what it wrote stays"));
                }
                self.see("abandoned");
            }
            1 => self.see("silent writer"),
            _ => {
                let renewed = match self.defect {
                    Some(Defect::RenewedInVain) => Some(Ok(Reply::Done)),
                    _ => self.ask(Ask::Renew { file, writer }),
                };
                match renewed {
                    Some(Ok(_)) => {
                        self.see("renewed");
                        self.is_held(&mut write);
                    }
                    Some(Err(error)) if self.outcome(writer).is_none() => return self.refused(&write, &error),
                    // It hears that when it asks for the end once more.
                    Some(Err(_)) | None => {}
                }
                self.writes.push(write);
            }
        }
    }

    /// What was done under this name, as it is durable, whoever was told of it.
    pub(super) fn outcome(&self, name: u128) -> Option<&Answer> {
        let outcome = self.stored.outcomes.iter().find(|outcome| outcome.name == name);
        outcome.map(|outcome| &outcome.answer)
    }

    /// The bytes go to the executors; some of them may die on the way.
    fn write_block(&mut self, write: &mut Write, allocated: Allocated) {
        let first = *self.given.entry(allocated.block).or_insert(write.writer);
        if first != write.writer {
            self.fail(&format!("{} was given to writer {first} and again to writer {}", allocated.block, write.writer));
        }
        // Some files are large enough to be cut up.
        let length = (100 + self.roll(1_000)) << 12;
        let fails = self.roll(6) == 0;
        let kept = if fails { self.roll(length) } else { length };
        let mut durable = Vec::new();
        for (link, name) in allocated.targets.iter().enumerate() {
            let Some(at) = self.at(*name).filter(|at| self.executors[*at].up) else { continue };
            let lost = fails && link == 0;
            // Whoever loses its writer may have more than the others, and say so; or as much, but torn.
            let torn = lost && self.roll(3) == 0;
            let bytes = if lost && !torn { length } else { kept };
            if bytes == 0 || (lost && self.roll(2) == 0) {
                continue;
            }
            let content = Content { writer: write.writer, block: allocated.block, bytes };
            let replica = OnDisk::new(bytes, content, None, torn);
            let executor = &mut self.executors[at];
            executor.disk.insert(allocated.block, replica);
            executor.said.push_back(Says::Added(Block { id: allocated.block, bytes }));
            if !lost {
                durable.push(*name);
            }
        }
        self.note(format!("{allocated:?} of {} is durable with {kept} bytes on {durable:?}", write.path));
        write.last = match durable.is_empty() || kept == 0 {
            true => Last::Dropped(allocated.block),
            false => {
                let block = Block { id: allocated.block, bytes: kept };
                write.blocks.push(block);
                write.left -= 1;
                Last::Sealed { block, durable }
            }
        };
    }

    /// A client wants something to happen to a file or folder.
    pub(super) fn begin_errand(&mut self) {
        let ask = match self.roll(12) {
            0..=5 => self.wish_for_file(),
            6 | 7 => self.wish_to_restore(),
            8 => Some(Ask::Mkdir { path: self.some_folder(), parents: self.roll(2) == 0 }),
            9 => {
                let which = self.roll(3) as usize;
                let path = self.folders.iter().nth(which).cloned();
                path.map(|path| Ask::Delete { path, recursive: false, trash: false, prune: false })
            }
            _ => Some(self.wish_for_quota()),
        };
        let Some(ask) = ask else { return };
        let name = (1 << 64) + self.next_writer;
        self.next_writer += 1;
        self.errands.push(Errand { ask, name });
        self.go_on_with_errand(self.errands.len() - 1);
    }

    /// A file is to be removed, to go to the trash, or to be elsewhere.
    fn wish_for_file(&mut self) -> Option<Ask> {
        let path = self.some_file()?;
        if self.writes.iter().any(|write| write.path == path) {
            return None;
        }
        match self.roll(3) {
            0 => self.wish_to_move(path),
            way => Some(Ask::Delete { path, recursive: false, trash: way == 1, prune: false }),
        }
    }

    fn wish_to_move(&mut self, from: FsPath) -> Option<Ask> {
        let to = self.some_path();
        let is_free = to != from && !self.writes.iter().any(|write| write.path == to);
        is_free.then_some(Ask::Rename { from, to, overwrite: false, parents: true, prune: false })
    }

    fn wish_to_restore(&mut self) -> Option<Ask> {
        let from = self.trashed.keys().nth(self.dice.roll() as usize % self.trashed.len().max(1)).cloned()?;
        self.wish_to_move(from)
    }

    /// A folder that nothing is in.
    fn some_folder(&mut self) -> FsPath {
        let (top, name) = (self.roll(4), self.roll(3));
        FsPath::parse(&format!("/{top}/f{name}")).unwrap()
    }

    fn wish_for_quota(&mut self) -> Ask {
        let folders = ["/0", "/1", "/2", "/0/n0", "/1/n1"];
        let path = FsPath::parse(folders[self.roll(5) as usize]).unwrap();
        let files = (self.roll(2) == 0).then_some(2 + self.roll(8));
        let bytes = (self.roll(2) == 0).then_some((1 + self.roll(60)) << 20);
        Ask::SetQuota { path, quota: Quota { files, bytes } }
    }

    pub(super) fn go_on_with_errand(&mut self, at: usize) {
        let Errand { ask, name } = self.errands.swap_remove(at);
        let before = self.outcome(name).is_some();
        let defect = self.defect;
        let asked = ask.clone();
        // Mostly nothing comes of it: what is done once more has to be seen nonetheless.
        let answered = self.operate_at_risk(30, |names, now, out| {
            let name = (defect != Some(Defect::DoneTwice) || !before).then_some(name);
            names.step(now, Request { name, ask: asked }, out)
        });
        self.note(format!("{ask:?}: {answered:?}, and happened before: {before}"));
        let told = match &answered {
            Some(Ok(Reply::Entry(entry))) => Some(Answer::Entry(entry.clone())),
            Some(Ok(_)) => Some(Answer::Done),
            _ => None,
        };
        if told.is_some() && self.outcome(name).is_none() {
            self.fail(&format!("a client was told of {ask:?}, which is not durable"));
        }
        if let Some(answer) = self.outcome(name).cloned().or(told).filter(|_| !before) {
            self.has_happened(&ask, answer);
        }
        match answered {
            Some(Err(error)) if before => self.fail(&format!("{ask:?} has happened, and is said to fail: {error}")),
            Some(Err(FsError::QuotaExceeded { .. })) => self.see("change beyond a quota"),
            Some(_) => {}
            None => self.errands.push(Errand { ask, name }),
        }
    }

    fn has_happened(&mut self, ask: &Ask, answer: Answer) {
        match (ask, answer) {
            (Ask::Rename { from, to, .. }, _) => {
                let restored = self.trashed.remove(from).map(|trashed| trashed.promise);
                self.see(if restored.is_some() { "restored" } else { "moved" });
                let promise = restored.or_else(|| self.promised.remove(from));
                promise.into_iter().for_each(|promise| _ = self.promised.insert(to.clone(), promise));
            }
            (Ask::Delete { path, trash: true, .. }, Answer::Entry(entry)) => {
                self.see("trashed");
                if let Some(promise) = self.promised.remove(path) {
                    self.trashed.insert(entry.path, Trashed { since_ms: self.now.wall_ms, promise });
                }
            }
            (Ask::Delete { path, .. }, _) => {
                self.promised.remove(path);
                if self.folders.remove(path) {
                    self.see("folder removed");
                }
            }
            (Ask::Mkdir { path, .. }, _) => {
                self.see("folder made");
                self.folders.insert(path.clone());
            }
            (Ask::SetQuota { path, quota }, _) => {
                self.see("quota set");
                self.quotas.insert(path.clone(), *quota);
                self.held.remove(path);
            }
            _ => {}
        }
    }

    /// A folder wants its files kept in another way.
    pub(super) fn ask_for_policy(&mut self) {
        let path = FsPath::parse(&format!("/{}", self.roll(3))).unwrap();
        let policy = [None, Some(Policy::Replicate), Some(Policy::Code(CODING)), Some(Policy::Code(CODING))];
        let policy = policy[self.roll(4) as usize];
        let set = self.ask(Ask::SetPolicy { path: path.clone(), policy }).map(|set| set.is_ok());
        self.note(format!("{path} is to be kept as {policy:?}: {set:?}"));
    }

    /// A file is to have more replicas, or fewer.
    pub(super) fn set_replication(&mut self) {
        let Some(path) = self.some_file() else { return };
        let replication = [1, 1, 2, 3][self.roll(4) as usize];
        let set = self.ask(Ask::SetReplication { path: path.clone(), replication }).map(|set| set.is_ok());
        self.note(format!("{path} is to have {replication} replicas: {set:?}"));
    }

    /// Whoever runs the cluster has replicas moved or read, or has an executor away for a while.
    pub(super) fn run_the_cluster(&mut self) {
        let at = self.roll(EXECUTORS) as usize;
        let ask = match (self.roll(6), self.executors[at].name) {
            (0, _) => Ask::Balance { per_mille: self.roll(3) },
            (1, _) => match self.some_file() {
                Some(path) => Ask::Verify { path },
                None => return,
            },
            (2, _) => Ask::Maintain(Maintain::GivenUp),
            (3, Some(executor)) => {
                let which = self.roll(4) as usize;
                let block = self.executors[at].disk.keys().nth(which).copied();
                Ask::Suspect { executor, block: block.unwrap_or(BlockId(1)) }
            }
            (way, Some(executor)) => {
                let time = (way == 4).then(|| Duration::from_secs(5));
                Ask::Maintain(Maintain::Member { executor, time })
            }
            (_, None) => return,
        };
        self.note(format!("{ask:?}"));
        let what = match ask {
            Ask::Balance { .. } => "balanced",
            Ask::Maintain(_) => "maintained",
            _ => "read again",
        };
        if self.ask(ask).is_some() {
            self.see(what);
        }
    }
}

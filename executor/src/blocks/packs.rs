//! Small replicas, many to a file: a replica of a kilobyte takes a kilobyte, and many are made durable together.
//!
//! ```text
//!   DIR/packs/N-SALT.pack     entries, one after the other, each from a multiple of 8 on:
//!
//!   byte  0   "wpk1"
//!         4   CRC32C of the 16 bytes that follow and the salt     all numbers are little-endian
//!         8   number of the replica, 8 bytes
//!        16   its length, 65,536 at most; u32::MAX: it was removed
//!        20   CRC32C of its bytes
//!        24   its bytes
//! ```
//!
//! The later of two entries for one replica counts: the one in the pack with the higher number. An incomplete entry, left when the process or the machine
//! died, was never acknowledged. A damaged entry is skipped, and the primary hears that the replica is missing. The salt keeps bytes inside an entry from being
//! taken for an entry. A removal may be forgotten when the machine dies or its pack is rewritten: the primary then orders it again.

use super::disk::sync_folder;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use windlass_core::ids::BlockId;
use windlass_core::wfs::Block;
use windlass_engine::checksum::crc32c;

/// Longest replica that is kept here: the range of one checksum.
pub(super) const PACKED_BYTES: u64 = 64 << 10;
/// Length above which a pack gets no more entries.
const PACK_BYTES: u64 = 64 << 20;
const MAGIC: [u8; 4] = *b"wpk1";
const HEADER: usize = 24;
const REMOVED: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Packs {
    dir: PathBuf,
    state: Mutex<State>,
    synced: Condvar,
}

#[derive(Debug, Default)]
struct State {
    index: BTreeMap<BlockId, Place>,
    packs: BTreeMap<u32, Pack>,
    active: Option<Active>,
    /// Files that were written and not synced since.
    unsynced: Vec<Arc<File>>,
    /// Packs without an entry that counts, to be removed when the entries that replaced theirs are durable.
    superseded: Vec<PathBuf>,
    /// Number of replicas written, and number of those that are durable.
    written: u64,
    durable: u64,
    /// Whether somebody syncs entries, on behalf of all who wait.
    syncing: bool,
    /// Error of a failed sync: the disk may have lost data.
    failed: Option<String>,
}

/// The pack for the next entry.
#[derive(Clone, Debug)]
struct Active {
    number: u32,
    salt: u32,
    file: Arc<File>,
}

/// Location of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    pack: u32,
    /// Offset of its bytes, after the header.
    at: u32,
    bytes: u32,
    crc: u32,
}

#[derive(Debug)]
struct Pack {
    path: PathBuf,
    bytes: u64,
    /// Bytes of entries that count.
    live: u64,
}

/// A replica as it was written, with its checksum at that time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packed {
    pub data: Vec<u8>,
    pub crc: u32,
}

impl Packed {
    pub fn is_whole(&self) -> bool {
        crc32c(&self.data) == self.crc
    }
}

struct Header {
    id: BlockId,
    bytes: u32,
    crc: u32,
}

impl Header {
    fn encode(&self, salt: u32) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[8..16].copy_from_slice(&self.id.0.to_le_bytes());
        header[16..20].copy_from_slice(&self.bytes.to_le_bytes());
        header[20..].copy_from_slice(&self.crc.to_le_bytes());
        header[4..8].copy_from_slice(&salt.to_le_bytes());
        let crc = crc32c(&header[4..]);
        header[..4].copy_from_slice(&MAGIC);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        header
    }

    fn decode(header: &[u8; HEADER], salt: u32) -> Option<Header> {
        let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (low, high) = (u64::from(number(8)), u64::from(number(12)));
        let decoded = Header { id: BlockId(high << 32 | low), bytes: number(16), crc: number(20) };
        let fits = decoded.bytes == REMOVED || u64::from(decoded.bytes) <= PACKED_BYTES;
        (fits && *header == decoded.encode(salt)).then_some(decoded)
    }

    /// Bytes of the entry, with the padding behind it.
    fn entry_bytes(&self) -> u64 {
        let data = if self.bytes == REMOVED { 0 } else { self.bytes as usize };
        (HEADER + data).next_multiple_of(8) as u64
    }
}

impl Packs {
    pub fn open(dir: &Path) -> io::Result<Packs> {
        std::fs::create_dir_all(dir)?;
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            numbers.extend(named(&path).map(|(number, salt)| (number, salt, path)));
        }
        numbers.sort_unstable();
        let packs = Packs { dir: dir.to_path_buf(), state: Mutex::default(), synced: Condvar::new() };
        let mut state = packs.state.lock();
        for (number, salt, path) in numbers {
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            state.packs.insert(number, Pack { path, bytes: 0, live: 0 });
            let end = state.read(number, salt, &file)?;
            // Entries behind an incomplete one would be hard to find.
            file.set_len(end)?;
            state.packs.entry(number).and_modify(|pack| pack.bytes = end);
            state.active = (end < PACK_BYTES).then(|| Active { number, salt, file: Arc::new(file) });
        }
        let active = state.active_number();
        let dead = state.packs.extract_if(.., |number, pack| pack.live == 0 && active != Some(*number));
        for (_, pack) in dead.collect::<Vec<_>>() {
            std::fs::remove_file(pack.path)?;
        }
        drop(state);
        Ok(packs)
    }

    pub fn blocks(&self) -> Vec<Block> {
        let state = self.state.lock();
        state.index.iter().map(|(&id, place)| Block { id, bytes: place.bytes.into() }).collect()
    }

    /// Stores a replica and replaces an earlier one. Durable when this returns.
    pub fn put(&self, id: BlockId, data: &[u8], crc: u32) -> io::Result<()> {
        let mut state = self.state.lock();
        self.append(&mut state, &Header { id, bytes: data.len() as u32, crc }, data)?;
        self.sync(state)
    }

    /// Removes a replica and returns whether it was here.
    pub fn remove(&self, id: BlockId) -> bool {
        let mut state = self.state.lock();
        if !state.index.contains_key(&id) {
            return false;
        }
        if let Err(error) = self.append(&mut state, &Header { id, bytes: REMOVED, crc: 0 }, &[]) {
            tracing::debug!(block = %id, %error, "that a replica was removed could not be written; it is back after the next start");
        }
        if let Some(place) = state.index.remove(&id) {
            state.dead(place);
        }
        true
    }

    /// Reads a replica; `None` when it is not here.
    pub fn read(&self, id: BlockId) -> io::Result<Option<Packed>> {
        loop {
            let Some((place, path)) = self.state.lock().find(id) else { return Ok(None) };
            let is_there = || self.state.lock().find(id).is_some_and(|(now, _)| now == place);
            let file = match File::open(path) {
                // It has moved to another pack meanwhile, or was removed.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !is_there() => continue,
                Err(error) => {
                    if error.kind() == io::ErrorKind::NotFound {
                        self.state.lock().lose(place.pack);
                    }
                    return Err(error);
                }
                Ok(file) => file,
            };
            let mut data = vec![0; place.bytes as usize];
            file.read_exact_at(&mut data, place.at.into())?;
            return Ok(Some(Packed { data, crc: place.crc }));
        }
    }

    /// Rewrites packs that consist mostly of removed replicas, without those.
    pub fn compact(&self) -> io::Result<()> {
        loop {
            let (path, moving) = {
                let state = self.state.lock();
                let active = state.active_number();
                let sparse = |(number, pack): &(&u32, &Pack)| active != Some(**number) && pack.live < pack.bytes / 2;
                let Some((&number, pack)) = state.packs.iter().find(sparse) else { return Ok(()) };
                let here = state.index.iter().filter(|(_, place)| place.pack == number);
                (pack.path.clone(), here.map(|(&id, &place)| (id, place)).collect::<Vec<_>>())
            };
            let file = File::open(&path)?;
            for (id, place) in moving {
                let mut data = vec![0; place.bytes as usize];
                file.read_exact_at(&mut data, place.at.into())?;
                let mut state = self.state.lock();
                // A damaged replica stays damaged: its old checksum moves with it.
                if state.index.get(&id) == Some(&place) {
                    self.append(&mut state, &Header { id, bytes: place.bytes, crc: place.crc }, &data)?;
                }
            }
            // The pack is superseded once the last of them has moved.
            self.sync(self.state.lock())?;
        }
    }

    /// Writes an entry and makes it count.
    fn append(&self, state: &mut State, header: &Header, data: &[u8]) -> io::Result<()> {
        if let Some(reason) = &state.failed {
            return Err(io::Error::other(reason.clone()));
        }
        let (Active { number, salt, file }, at) = self.active(state)?;
        let mut entry = Vec::with_capacity(header.entry_bytes() as usize);
        entry.extend_from_slice(&header.encode(salt));
        entry.extend_from_slice(data);
        entry.resize(header.entry_bytes() as usize, 0);
        // The next entry overwrites a failed one.
        file.write_all_at(&entry, at)?;
        if !state.unsynced.iter().any(|unsynced| Arc::ptr_eq(unsynced, &file)) {
            state.unsynced.push(file);
        }
        state.packs.entry(number).and_modify(|pack| pack.bytes += header.entry_bytes());
        if header.bytes != REMOVED {
            state.written += 1;
            if let Some(before) = state.count(number, at, header) {
                state.dead(before);
            }
        }
        Ok(())
    }

    /// The pack for the next entry, and the offset in it.
    fn active(&self, state: &mut State) -> io::Result<(Active, u64)> {
        if let Some(active) = &state.active
            && let Some(pack) = state.packs.get(&active.number).filter(|pack| pack.bytes < PACK_BYTES)
        {
            return Ok((active.clone(), pack.bytes));
        }
        let number = state.packs.last_key_value().map_or(0, |(last, _)| last + 1);
        let salt = uuid::Uuid::new_v4().as_u128() as u32;
        let path = self.dir.join(format!("{number:08}-{salt:08x}.pack"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        sync_folder(&self.dir)?;
        let active = Active { number, salt, file: Arc::new(file) };
        let before = state.active.replace(active.clone());
        state.packs.insert(number, Pack { path, bytes: 0, live: 0 });
        if let Some(before) = before {
            state.drop_if_dead(before.number);
        }
        Ok((active, 0))
    }

    /// Returns when all earlier writes are durable. One waiter syncs for all.
    fn sync(&self, mut state: MutexGuard<'_, State>) -> io::Result<()> {
        let until = state.written;
        loop {
            if let Some(reason) = &state.failed {
                return Err(io::Error::other(reason.clone()));
            }
            if state.durable >= until {
                return Ok(());
            }
            if state.syncing {
                self.synced.wait(&mut state);
                continue;
            }
            state.syncing = true;
            let (files, written) = (std::mem::take(&mut state.unsynced), state.written);
            let superseded = std::mem::take(&mut state.superseded);
            let synced = MutexGuard::unlocked(&mut state, || files.iter().try_for_each(|file| file.sync_data()));
            state.syncing = false;
            match synced {
                Ok(()) => {
                    state.durable = written;
                    // A file that cannot be removed now is removed at the next start.
                    superseded.iter().for_each(|path| _ = std::fs::remove_file(path));
                }
                Err(error) => state.failed = Some(error.to_string()),
            }
            self.synced.notify_all();
        }
    }
}

/// Number and salt in the name of a pack.
fn named(path: &Path) -> Option<(u32, u32)> {
    let (number, salt) = path.file_name()?.to_str()?.strip_suffix(".pack")?.split_once('-')?;
    Some((number.parse().ok()?, u32::from_str_radix(salt, 16).ok()?))
}

impl Place {
    fn entry_bytes(&self) -> u64 {
        Header { id: BlockId(0), bytes: self.bytes, crc: self.crc }.entry_bytes()
    }
}

impl State {
    fn active_number(&self) -> Option<u32> {
        self.active.as_ref().map(|active| active.number)
    }

    fn find(&self, id: BlockId) -> Option<(Place, PathBuf)> {
        let place = *self.index.get(&id)?;
        Some((place, self.packs.get(&place.pack)?.path.clone()))
    }

    /// Notes that the entry there does not count any more.
    fn dead(&mut self, place: Place) {
        if let Some(pack) = self.packs.get_mut(&place.pack) {
            pack.live -= place.entry_bytes();
            self.drop_if_dead(place.pack);
        }
    }

    fn drop_if_dead(&mut self, number: u32) {
        if self.active_number() != Some(number)
            && let Some(pack) = self.packs.remove(&number)
        {
            match pack.live {
                // A file that cannot be removed now is removed at the next start.
                0 if self.durable == self.written => _ = std::fs::remove_file(&pack.path),
                0 => self.superseded.push(pack.path),
                _ => _ = self.packs.insert(number, pack),
            }
        }
    }

    /// Notes that the file of a pack was removed: its entries are gone, and nothing more may be written to it.
    fn lose(&mut self, number: u32) {
        self.packs.remove(&number);
        self.index.retain(|_, place| place.pack != number);
        self.active.take_if(|active| active.number == number);
    }

    /// Makes this entry count for its replica, and returns the place of the entry that counted before.
    fn count(&mut self, pack: u32, at: u64, header: &Header) -> Option<Place> {
        let place = Place { pack, at: at as u32 + HEADER as u32, bytes: header.bytes, crc: header.crc };
        self.packs.entry(pack).and_modify(|pack| pack.live += place.entry_bytes());
        self.index.insert(header.id, place)
    }

    /// Reads the entries of a pack. Returns the end of the last complete one.
    fn read(&mut self, number: u32, salt: u32, file: &File) -> io::Result<u64> {
        let length = file.metadata()?.len();
        let (mut at, mut end, mut passed) = (0, 0, 0);
        while at + HEADER as u64 <= length {
            let mut header = [0; HEADER];
            file.read_exact_at(&mut header, at)?;
            let Some(header) = Header::decode(&header, salt).filter(|header| at + header.entry_bytes() <= length)
            else {
                passed += 8;
                at += 8;
                continue;
            };
            let before = match header.bytes {
                REMOVED => self.index.remove(&header.id),
                _ => self.count(number, at, &header),
            };
            if let Some(before) = before {
                self.packs.entry(before.pack).and_modify(|pack| pack.live -= before.entry_bytes());
            }
            at += header.entry_bytes();
            end = at;
        }
        if passed > 0 {
            tracing::warn!(
                pack = number,
                bytes = passed,
                "a pack of small replicas has bytes that are no whole entries"
            );
        }
        Ok(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(id: u64, length: usize) -> Vec<u8> {
        (0..length).map(|at| (at as u64 * 7 + id) as u8).collect()
    }

    fn put(packs: &Packs, id: u64, length: usize) {
        let data = text(id, length);
        packs.put(BlockId(id), &data, crc32c(&data)).unwrap();
    }

    fn has(packs: &Packs, id: u64, length: usize) {
        let packed = packs.read(BlockId(id)).unwrap().unwrap_or_else(|| panic!("{id} is not there"));
        assert_eq!(packed, Packed { crc: crc32c(&text(id, length)), data: text(id, length) });
    }

    fn files(dir: &Path) -> usize {
        std::fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn what_was_put_is_there_at_the_next_start_and_what_was_removed_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let packs = Packs::open(dir.path()).unwrap();
        for (id, length) in [(1, 0), (2, 1), (3, 1_024), (4, 65_536), (5, 100)] {
            put(&packs, id, length);
            has(&packs, id, length);
        }
        assert!(packs.remove(BlockId(2)));
        assert!(!packs.remove(BlockId(2)));
        // Replaces it by a shorter one.
        packs.put(BlockId(5), &text(5, 70), crc32c(&text(5, 70))).unwrap();
        for _ in 0..2 {
            let packs = Packs::open(dir.path()).unwrap();
            let lengths: Vec<_> = packs.blocks().iter().map(|block| (block.id.0, block.bytes)).collect();
            assert_eq!(lengths, [(1, 0), (3, 1_024), (4, 65_536), (5, 70)]);
            lengths.iter().for_each(|(id, length)| has(&packs, *id, *length as usize));
            assert_eq!(packs.read(BlockId(2)).unwrap(), None);
        }
        assert_eq!(files(dir.path()), 1, "the next start goes on with the last pack");
    }

    /// Cut off or changed anywhere: all other entries remain, and none appears that was never written.
    #[test]
    fn a_torn_or_damaged_entry_takes_no_other_one_along() {
        let dir = tempfile::tempdir().unwrap();
        let packs = Packs::open(dir.path()).unwrap();
        (1..=3).for_each(|id| put(&packs, id, 50));
        drop(packs);
        let path = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(whole.len(), 3 * 80);
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let packs = Packs::open(dir.path()).unwrap();
            let there = length as u64 / 80;
            assert_eq!(packs.blocks().len() as u64, there, "of {length} bytes");
            // The next entry does not lie behind the torn one.
            put(&packs, 9, 10);
            let packs = Packs::open(dir.path()).unwrap();
            (1..=there).for_each(|id| has(&packs, id, 50));
            has(&packs, 9, 10);
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            let packs = Packs::open(dir.path()).unwrap();
            let of = at as u64 / 80 + 1;
            (1..=3).filter(|id| *id != of).for_each(|id| has(&packs, id, 50));
            if let Some(packed) = packs.read(BlockId(of)).unwrap() {
                let is_right = packed.data == text(of, 50);
                assert_eq!(crc32c(&packed.data) == packed.crc, is_right, "byte {at} was changed");
            }
        }
    }

    #[test]
    fn packs_of_removed_replicas_go_and_sparse_ones_are_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let packs = Packs::open(dir.path()).unwrap();
        let in_a_pack = PACK_BYTES / 65_560 + 1;
        (0..3 * in_a_pack).for_each(|id| put(&packs, id, 65_536));
        assert_eq!(files(dir.path()), 3);
        // Removes all of the first pack and most of the second.
        (0..2 * in_a_pack - 10).for_each(|id| assert!(packs.remove(BlockId(id))));
        assert_eq!(files(dir.path()), 3, "removals have begun a new one, and the first is gone");
        packs.compact().unwrap();
        assert_eq!(files(dir.path()), 2);
        let packs = Packs::open(dir.path()).unwrap();
        assert_eq!(packs.blocks().len() as u64, in_a_pack + 10);
        (2 * in_a_pack - 10..3 * in_a_pack).for_each(|id| has(&packs, id, 65_536));
    }

    #[test]
    fn a_pack_stays_until_what_took_its_place_is_durable() {
        let dir = tempfile::tempdir().unwrap();
        let packs = Packs::open(dir.path()).unwrap();
        put(&packs, 1, 100);
        let mut state = packs.state.lock();
        state.active = None;
        let data = text(1, 50);
        let header = Header { id: BlockId(1), bytes: 50, crc: crc32c(&data) };
        packs.append(&mut state, &header, &data).unwrap();
        assert_eq!(files(dir.path()), 2);
        packs.sync(state).unwrap();
        assert_eq!(files(dir.path()), 1);
        has(&packs, 1, 50);
    }

    #[test]
    fn many_are_made_durable_together_and_each_is_when_it_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let packs = Packs::open(dir.path()).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let packs = &packs;
                scope.spawn(move || {
                    for id in thread * 100..thread * 100 + 100 {
                        put(packs, id, 500);
                        has(packs, id, 500);
                        assert!(id % 3 > 0 || packs.remove(BlockId(id)));
                    }
                });
            }
        });
        let state = packs.state.lock();
        assert_eq!((state.durable <= state.written, state.syncing), (true, false));
        drop(state);
        let packs = Packs::open(dir.path()).unwrap();
        let left = (0..800).filter(|id| id % 3 > 0);
        assert_eq!(packs.blocks().len(), left.clone().count());
        left.for_each(|id| has(&packs, id, 500));
    }
}

//! Conversions of files and blocks between wire and core.

use crate::v1;
use crate::v1::file_error::Kind;
use bytes::Bytes;
use std::ops::Range;
use windlass_core::ids::{BlockId, ExecutorId, FileId};
use windlass_core::wfs::{
    Allocated, Answer, Block, CodedPiece, Coding, Create, CreateMode, Created, Detail, Entry, FsError, FsPath, Holder,
    Last, Located, Near, Policy, Quota, Usage,
};

impl From<FsError> for v1::FileError {
    fn from(error: FsError) -> Self {
        let kind = match &error {
            FsError::InvalidPath { .. } | FsError::Invalid { .. } => Kind::Invalid,
            FsError::NotFound { .. } => Kind::NotFound,
            FsError::AlreadyExists { .. } => Kind::AlreadyExists,
            FsError::Changed { .. } => Kind::Changed,
            FsError::IsFolder { .. } => Kind::IsFolder,
            FsError::NotFolder { .. } => Kind::NotFolder,
            FsError::NotEmpty { .. } => Kind::NotEmpty,
            FsError::QuotaExceeded { .. } => Kind::QuotaExceeded,
            FsError::NotWriting { .. } => Kind::NotWriting,
            FsError::NoTargets { .. } => Kind::NoTargets,
            FsError::NotDurable { .. } => Kind::NotDurable,
        };
        v1::FileError { kind: kind.into(), message: error.to_string() }
    }
}

impl From<Entry> for v1::FileEntry {
    fn from(entry: Entry) -> Self {
        let detail = match entry.detail {
            Detail::File { bytes, replicated_bytes, blocks, replication, coding } => {
                v1::file_entry::Detail::File(v1::FileDetail {
                    bytes,
                    blocks: blocks as u32,
                    replication: replication.into(),
                    coding: code(coding),
                    replicated_bytes,
                })
            }
            Detail::Folder { usage, quota, replication, policy } => v1::file_entry::Detail::Folder(v1::FolderDetail {
                files: usage.files,
                folders: usage.folders,
                bytes: usage.bytes,
                replicated_bytes: usage.replicated_bytes,
                quota_files: quota.files,
                quota_bytes: quota.bytes,
                replication: replication.map(u32::from),
                policy: policy.map(|policy| policy.name().into()),
            }),
        };
        let path = entry.path.as_str().into();
        v1::FileEntry { path, id: entry.id.0, modified_ms: entry.modified_ms, detail: Some(detail) }
    }
}

/// Decodes the core's entry from a [`v1::FileEntry`].
pub fn entry(entry: v1::FileEntry) -> Result<Entry, FsError> {
    let detail = match entry.detail {
        Some(v1::file_entry::Detail::File(file)) => Detail::File {
            bytes: file.bytes,
            replicated_bytes: file.replicated_bytes,
            blocks: file.blocks as usize,
            replication: replication(file.replication)?,
            coding: coding(&file.coding)?,
        },
        Some(v1::file_entry::Detail::Folder(folder)) => Detail::Folder {
            usage: Usage {
                files: folder.files,
                folders: folder.folders,
                bytes: folder.bytes,
                replicated_bytes: folder.replicated_bytes,
            },
            quota: Quota { files: folder.quota_files, bytes: folder.quota_bytes },
            replication: folder.replication.map(replication).transpose()?,
            policy: folder.policy.as_deref().map(policy).transpose()?,
        },
        None => return Err(FsError::Invalid { reason: "an entry is neither a file nor a folder".into() }),
    };
    let id = FileId(entry.id);
    Ok(Entry { path: path(&entry.path)?, id, modified_ms: entry.modified_ms, detail })
}

impl From<Answer> for v1::file_reply::Reply {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Done => v1::file_reply::Reply::Done(v1::file_reply::Done {}),
            Answer::Entry(entry) => v1::file_reply::Reply::Entry(entry.into()),
        }
    }
}

impl v1::LocatedBlock {
    /// Numbers of the replicas that it can be read from: its own, or those of all pieces that it can be computed from.
    pub fn replicas(&self) -> Range<u64> {
        match &self.coded {
            None => self.block..self.block.saturating_add(1),
            Some(coded) => coded.replicas(),
        }
    }
}

impl v1::CodedPiece {
    /// Numbers of all pieces; only the piece itself, when the code is one of another release.
    pub fn replicas(&self) -> Range<u64> {
        let (first, count) = match Coding::parse(&self.coding) {
            Some(coding) => (self.first, coding.pieces().into()),
            None => (self.first.saturating_add(self.piece.into()), 1),
        };
        first..first.saturating_add(count)
    }
}

impl v1::FileEntry {
    /// Bytes of a file; `None` for a folder.
    pub fn file_bytes(&self) -> Option<u64> {
        match &self.detail {
            Some(v1::file_entry::Detail::File(file)) => Some(file.bytes),
            _ => None,
        }
    }

    pub fn folder(&self) -> Option<&v1::FolderDetail> {
        match &self.detail {
            Some(v1::file_entry::Detail::Folder(folder)) => Some(folder),
            _ => None,
        }
    }
}

impl From<Created> for v1::CreateReply {
    fn from(created: Created) -> Self {
        let Created { file, block_bytes, replication } = created;
        v1::CreateReply { file: file.0, block_bytes, replication: replication.into() }
    }
}

impl From<v1::Near> for Near {
    fn from(near: v1::Near) -> Self {
        let executor = (near.executor != 0).then_some(ExecutorId(near.executor));
        Near { executor, host: near.host, rack: near.rack }
    }
}

/// Parses a path of a client.
pub fn path(text: &str) -> Result<FsPath, FsError> {
    FsPath::parse(text)
}

/// Decodes the name of a request: 16 bytes; `None` for any other length.
pub fn name(bytes: &[u8]) -> Option<u128> {
    bytes.try_into().ok().map(u128::from_be_bytes)
}

/// Decodes the id of a writer: 16 bytes. Other lengths give a number that no real writer has.
pub fn writer(bytes: &[u8]) -> u128 {
    bytes.iter().take(16).fold(0, |number, byte| (number << 8) | u128::from(*byte))
}

pub fn create(request: v1::CreateRequest) -> Result<Create, FsError> {
    use v1::create_request::Mode;
    let mode = match request.mode {
        None | Some(Mode::Overwrite(_)) => CreateMode::Overwrite,
        Some(Mode::New(_)) => CreateMode::New,
        Some(Mode::Replace(file)) => CreateMode::Replace(FileId(file)),
        Some(Mode::Append(file)) => CreateMode::Append(FileId(file)),
    };
    let replication = request.replication.map(replication).transpose()?;
    let (path, writer) = (path(&request.path)?, writer(&request.writer));
    Ok(Create { path, mode, replication, block_bytes: request.block_bytes, writer })
}

pub fn replication(wanted: u32) -> Result<u8, FsError> {
    u8::try_from(wanted).map_err(|_| FsError::Invalid { reason: format!("a file cannot have {wanted} replicas") })
}

pub fn last(last: Option<v1::LastBlock>) -> Last {
    match last.and_then(|last| last.last) {
        None => Last::Nothing,
        Some(v1::last_block::Last::Dropped(block)) => Last::Dropped(BlockId(block)),
        Some(v1::last_block::Last::Sealed(sealed)) => Last::Sealed {
            block: Block { id: BlockId(sealed.block), bytes: sealed.bytes },
            durable: sealed.durable.into_iter().map(ExecutorId).collect(),
        },
    }
}

/// Encodes a coding for the wire: empty for none.
pub fn code(coding: Option<Coding>) -> String {
    coding.map_or("", Coding::name).into()
}

/// Decodes the text of [`code`].
pub fn coding(name: &str) -> Result<Option<Coding>, FsError> {
    if name.is_empty() {
        return Ok(None);
    }
    let unknown = || FsError::Invalid { reason: format!("\"{name}\" is a code that this release does not know") };
    Coding::parse(name).map(Some).ok_or_else(unknown)
}

pub fn policy(name: &str) -> Result<Policy, FsError> {
    Policy::parse(name).ok_or_else(|| {
        let codes = Coding::ALL.map(Coding::name).join(", ");
        FsError::Invalid { reason: format!("\"{name}\" is no policy: there are replicate, {codes}") }
    })
}

/// Encodes locations, without tickets. `address` looks up an executor; executors that are gone are left out.
pub fn located(located: Located, address: &impl Fn(ExecutorId) -> Option<v1::BlockHolder>) -> v1::LocatedBlock {
    let Located { block, offset, holders, coded } = located;
    let holders = holders.into_iter().filter_map(address).collect();
    let coded = coded.map(|piece| coded_piece(piece, address));
    v1::LocatedBlock { block: block.id.0, bytes: block.bytes, offset, holders, coded, ticket: Bytes::new() }
}

pub fn coded_piece(piece: CodedPiece, address: &impl Fn(ExecutorId) -> Option<v1::BlockHolder>) -> v1::CodedPiece {
    let holder = |held: Holder| Some(v1::BlockHolder { piece: held.piece.into(), ..address(held.executor)? });
    v1::CodedPiece {
        coding: piece.coding.name().into(),
        piece: piece.piece.into(),
        first: piece.first.0,
        piece_bytes: piece.piece_bytes,
        holders: piece.holders.into_iter().filter_map(holder).collect(),
    }
}

pub fn quota(request: &v1::SetQuotaRequest) -> Quota {
    Quota { files: request.files, bytes: request.bytes }
}

/// Encodes an allocation, without a ticket. `holder` looks up an executor; executors that are gone are left out.
pub fn allocated(allocated: Allocated, holder: impl Fn(ExecutorId) -> Option<v1::BlockHolder>) -> v1::AddBlockReply {
    let Allocated { block, targets } = allocated;
    let targets = targets.into_iter().filter_map(holder).collect();
    v1::AddBlockReply { block: block.0, targets, ticket: Bytes::new() }
}

/// The replicas in a report.
pub fn reported(report: &v1::BlockReport) -> Vec<Block> {
    let pairs = report.blocks.iter().zip(&report.bytes);
    pairs.map(|(id, bytes)| Block { id: BlockId(*id), bytes: *bytes }).collect()
}

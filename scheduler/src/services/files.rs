//! Files of `wfs://`, for faces other than its own protocol.

use super::cluster::ClusterView;
use crate::clock::Ids;
use crate::files::Tickets;
use thiserror::Error;
use windlass_connectors::wfs::{Wfs, WfsError};
use windlass_core::access::Principal;
use windlass_core::event::Role;
use windlass_core::wfs::FsPath;
pub use windlass_proto::ticket::Access;
use windlass_proto::v1;
use windlass_proto::v1::file_error::Kind;
use windlass_proto::v1::file_request::Ask;

/// Entries in one request.
const PAGE: u32 = 1_000;

/// Files and folders of the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Files {
    wfs: Wfs,
    cluster: ClusterView,
    tickets: Tickets,
    ids: Ids,
}

/// A file or a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryView {
    /// Stays the same when the file is renamed.
    pub id: u64,
    pub path: String,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub modified_ms: u64,
    pub kind: EntryKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    File {
        bytes: u64,
        /// Wanted replicas of each block.
        replication: u32,
        /// Bytes of all replicas.
        replicated_bytes: u64,
    },
    /// The totals of a folder at any depth, and its limits.
    Folder {
        files: u64,
        folders: u64,
        bytes: u64,
        replicated_bytes: u64,
        quota_files: Option<u64>,
        quota_bytes: Option<u64>,
    },
}

/// The state of the blocks of all files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HealthView {
    /// Number of files and folders.
    pub entries: u64,
    pub blocks: u64,
    /// Blocks with fewer replicas than they want.
    pub under_replicated: u64,
    /// Blocks without a replica.
    pub missing: u64,
    /// Copies for repair in progress.
    pub copying: u64,
}

/// Why an operation on files failed.
#[derive(Clone, Debug, Error)]
pub enum FilesError {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    AlreadyExists(String),
    #[error("{0}")]
    IsFolder(String),
    #[error("{0}")]
    NotFolder(String),
    #[error("{0}")]
    NotEmpty(String),
    #[error("{0}")]
    QuotaExceeded(String),
    /// The request is invalid.
    #[error("{0}")]
    Invalid(String),
    /// Refused for another reason, such as safe mode.
    #[error("{0}")]
    Refused(String),
    /// The request may be retried.
    #[error("{0}")]
    Unavailable(String),
}

impl From<WfsError> for FilesError {
    fn from(error: WfsError) -> Self {
        let message = error.to_string();
        match error.kind() {
            Some(Kind::NotFound) => FilesError::NotFound(message),
            Some(Kind::AlreadyExists) => FilesError::AlreadyExists(message),
            Some(Kind::IsFolder) => FilesError::IsFolder(message),
            Some(Kind::NotFolder) => FilesError::NotFolder(message),
            Some(Kind::NotEmpty) => FilesError::NotEmpty(message),
            Some(Kind::QuotaExceeded) => FilesError::QuotaExceeded(message),
            Some(Kind::Invalid) => FilesError::Invalid(message),
            Some(_) => FilesError::Refused(message),
            None => FilesError::Unavailable(message),
        }
    }
}

impl EntryView {
    pub fn is_folder(&self) -> bool {
        matches!(self.kind, EntryKind::Folder { .. })
    }

    /// Returns the last part of its path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

impl Files {
    pub(crate) fn new(wfs: Wfs, cluster: ClusterView, tickets: Tickets, ids: Ids) -> Self {
        Files { wfs, cluster, tickets, ids }
    }

    pub async fn stat(&self, _: &Principal, path: &FsPath) -> Result<EntryView, FilesError> {
        Ok(view(self.wfs.stat(path.as_str()).await?))
    }

    /// Returns the entries of a folder in the order of names: at most `limit` after the one named `after`.
    pub async fn list(
        &self,
        _: &Principal,
        path: &FsPath,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<EntryView>, FilesError> {
        let root = path.as_str().trim_end_matches('/');
        let mut after = after.map(|after| format!("{root}/{}", after.trim_start_matches('/')));
        let mut all = Vec::new();
        while all.len() < limit {
            let wanted = PAGE.min((limit - all.len()) as u32);
            let page = self.wfs.list(path.as_str(), false, after, wanted).await?;
            let is_last = page.len() < wanted as usize;
            after = page.last().map(|entry| entry.path.clone());
            all.extend(page.into_iter().map(view));
            if is_last {
                break;
            }
        }
        Ok(all)
    }

    /// Creates a folder and its parents.
    pub async fn make_folder(&self, _: &Principal, path: &FsPath) -> Result<(), FilesError> {
        let ask = Ask::Mkdir(v1::MkdirRequest { path: path.as_str().into(), parents: true });
        Ok(self.wfs.act(ask).await?)
    }

    /// Renames a file or folder. Never replaces one.
    pub async fn rename(&self, _: &Principal, from: &FsPath, to: &FsPath) -> Result<(), FilesError> {
        let (from, to) = (from.as_str().into(), to.as_str().into());
        let ask = Ask::Rename(v1::RenameRequest { from, to, overwrite: false, parents: false, prune: false });
        Ok(self.wfs.act(ask).await?)
    }

    /// Removes a file or folder at once. A folder that is not empty needs `recursive`.
    pub async fn remove(&self, _: &Principal, path: &FsPath, recursive: bool) -> Result<(), FilesError> {
        let ask = Ask::Delete(v1::DeleteRequest { path: path.as_str().into(), recursive, trash: false, prune: false });
        Ok(self.wfs.act(ask).await?)
    }

    /// Sets the wanted number of replicas of each block of a file.
    pub async fn set_replication(&self, _: &Principal, path: &FsPath, replication: u32) -> Result<(), FilesError> {
        let ask = Ask::SetReplication(v1::SetReplicationRequest { path: path.as_str().into(), replication });
        Ok(self.wfs.act(ask).await?)
    }

    /// Returns the bytes of a file, and host:port of an executor that has the byte at `offset`, if any does.
    pub async fn locate(&self, _: &Principal, path: &FsPath, offset: u64) -> Result<(u64, Option<String>), FilesError> {
        let located = self.wfs.locate(path.as_str(), offset..offset.saturating_add(1)).await?;
        let bytes = located.entry.as_ref().and_then(v1::FileEntry::file_bytes).unwrap_or(0);
        let holder = located.blocks.into_iter().flat_map(|block| block.holders).next().map(|holder| holder.address);
        Ok((bytes, holder))
    }

    /// Returns host:port of a core executor that is not about to leave. `None`: there is none.
    pub async fn any_holder(&self, by: &Principal) -> Option<String> {
        let mut all = self.cluster.executors(by).await;
        all.retain(|executor| executor.role == Role::Core && executor.standing.stays());
        let turn = self.ids.number() as usize;
        all.get(turn % all.len().max(1)).map(|executor| executor.address.clone())
    }

    /// Returns the ticket that an executor requires in the URL of a request for the bytes of this file. It expires.
    pub fn ticket(&self, by: &Principal, access: Access, path: &FsPath) -> String {
        self.tickets.of_file(access, path, by)
    }

    /// Returns the state of the blocks of all files.
    pub async fn health(&self, _: &Principal) -> Result<HealthView, FilesError> {
        let health = self.wfs.health("/", 0).await?;
        Ok(HealthView {
            entries: health.entries,
            blocks: health.blocks,
            under_replicated: health.under_replicated,
            missing: health.missing,
            copying: health.copying,
        })
    }
}

fn view(entry: v1::FileEntry) -> EntryView {
    let kind = match (&entry.detail, entry.folder()) {
        (Some(v1::file_entry::Detail::File(file)), _) => EntryKind::File {
            bytes: file.bytes,
            replication: file.replication,
            replicated_bytes: file.replicated_bytes,
        },
        (_, folder) => {
            let folder = folder.cloned().unwrap_or_default();
            EntryKind::Folder {
                files: folder.files,
                folders: folder.folders,
                bytes: folder.bytes,
                replicated_bytes: folder.replicated_bytes,
                quota_files: folder.quota_files,
                quota_bytes: folder.quota_bytes,
            }
        }
    };
    EntryView { id: entry.id, path: entry.path, modified_ms: entry.modified_ms, kind }
}

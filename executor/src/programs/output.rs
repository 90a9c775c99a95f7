//! What a program prints: its end, and all of it in files of a folder.

use bytes::{Bytes, BytesMut};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of the end that are returned.
const END: usize = 64 << 10;
/// Bytes of a file of the folder, and the time after which a smaller one is written.
const FILE: usize = 256 << 10;
const SOON: Duration = Duration::from_secs(1);

/// A folder of files `000000.log`, `000001.log`, …, which together are the output.
pub(super) struct Folder {
    pub store: Arc<dyn ObjectStore>,
    pub path: Path,
}

pub(super) struct Output {
    folder: Option<Folder>,
    /// The end of all that was printed.
    end: BytesMut,
    waiting: BytesMut,
    /// Time at which `waiting` is written.
    due: Option<Instant>,
    files: u32,
    /// Bytes printed.
    pub bytes: u64,
}

impl Output {
    pub fn new(folder: Option<Folder>) -> Self {
        Self { folder, end: BytesMut::new(), waiting: BytesMut::new(), due: None, files: 0, bytes: 0 }
    }

    /// Time at which [`Output::write`] has to be called.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    pub async fn add(&mut self, printed: &[u8]) {
        self.bytes += printed.len() as u64;
        self.end.extend_from_slice(printed);
        if self.end.len() > 2 * END {
            let rest = self.end.split_off(self.end.len() - END);
            self.end = rest;
        }
        if self.folder.is_some() {
            self.waiting.extend_from_slice(printed);
            self.due.get_or_insert_with(|| Instant::now() + SOON);
            if self.waiting.len() >= FILE {
                self.write().await;
            }
        }
    }

    /// Writes what waits. Output that cannot be kept does not end a program.
    pub async fn write(&mut self) {
        self.due = None;
        let Some(folder) = self.folder.as_ref().filter(|_| !self.waiting.is_empty()) else { return };
        let name = folder.path.clone().join(format!("{:06}.log", self.files));
        let bytes: Bytes = self.waiting.split().freeze();
        match folder.store.put(&name, PutPayload::from_bytes(bytes)).await {
            Ok(_) => self.files += 1,
            Err(error) => {
                tracing::warn!(%error, "the output of a program is not kept");
                self.folder = None;
            }
        }
    }

    /// The end of the output, from the beginning of a line on if it is cut.
    pub fn end(&self) -> String {
        let text = String::from_utf8_lossy(&self.end);
        let end = last(&text, END);
        match end.len() < text.len() {
            true => end.split_once('\n').map_or(end, |(_, lines)| lines).to_string(),
            false => end.to_string(),
        }
    }
}

/// At most so many bytes of the end of a text.
pub(super) fn last(text: &str, bytes: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(bytes))..]
}

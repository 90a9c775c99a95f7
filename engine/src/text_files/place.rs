//! Positions of errors in text files.

use super::bytes::{ByteStream, decompressed, head_of, range_of_file, without_mark};
use crate::failure::{FileError, file_name};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use std::sync::Arc;

/// A file to read, or a part of one, for its error messages.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub store: Arc<dyn ObjectStore>,
    pub location: Path,
    pub size: u64,
    /// Name for people: a local path, or a URL.
    pub name: String,
    /// Position at which the part of the file begins.
    pub start: u64,
}

/// An error in a line, counted from 0 at the start of the part.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WrongLine {
    pub line: u64,
    pub text: String,
}

impl Place {
    pub(crate) fn new(store: &Arc<dyn ObjectStore>, url: &str, file: &ObjectMeta) -> Self {
        Self {
            store: Arc::clone(store),
            location: file.location.clone(),
            size: file.size,
            name: file_name(url, &file.location),
            start: 0,
        }
    }

    /// The first bytes of the file, read as far as the stream is polled.
    pub(crate) fn head(&self, compression: FileCompressionType) -> ByteStream {
        without_mark(decompressed(head_of(&self.store, &self.location, self.size), compression))
    }

    /// The position of the first line that begins at byte `at` or after it, in a file whose values hold no line ends.
    pub(crate) async fn line_at(&self, at: u64) -> Result<u64> {
        if at == 0 {
            return Ok(0);
        }
        let mut next = at - 1;
        while next < self.size {
            let end = (next + LOOKED_AT).min(self.size);
            let bytes = range_of_file(self.store.as_ref(), &self.location, next..end).await;
            let bytes = bytes.map_err(|error| self.failed(error))?;
            if let Some(line_end) = bytes.iter().position(|&byte| byte == b'\n') {
                return Ok(next + line_end as u64 + 1);
            }
            next = end;
        }
        Ok(self.size)
    }

    pub(crate) fn at(&self, start: u64) -> Self {
        Self { start, ..self.clone() }
    }

    pub(crate) fn failed(&self, error: DataFusionError) -> DataFusionError {
        FileError::of(&self.name, error)
    }

    /// An error about the file as a whole.
    pub(crate) fn wrong(&self, text: &str) -> DataFusionError {
        FileError::of(&self.name, DataFusionError::Execution(text.to_string()))
    }

    /// The error with the line as an editor counts it, from 1.
    pub(crate) async fn wrong_at(&self, wrong: &WrongLine) -> DataFusionError {
        match self.lines_before().await {
            Ok(before) => self.wrong(&format!("line {}: {}", before + wrong.line + 1, wrong.text)),
            // A line counted from the start of the part is better than none.
            Err(_) => self.wrong(&format!("line {} behind byte {}: {}", wrong.line + 1, self.start, wrong.text)),
        }
    }

    async fn lines_before(&self) -> Result<u64> {
        let (mut lines, mut at) = (0, 0);
        while at < self.start {
            let end = (at + COUNTED_AT_ONCE).min(self.start);
            let bytes = range_of_file(self.store.as_ref(), &self.location, at..end).await?;
            lines += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
            at = end;
        }
        Ok(lines)
    }
}

/// Bytes read at a time to find the end of a line, and to count lines.
const LOOKED_AT: u64 = 32 << 10;
const COUNTED_AT_ONCE: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn lines_are_counted_as_editors_do() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let location = Path::from("a.csv");
        store.put(&location, "one\ntwo\nthree\n".into()).await.unwrap();
        let place = Place::new(&store, "memory:///", &store.head(&location).await.unwrap());
        for (start, line, said) in [(0, 0, "line 1: bad"), (4, 0, "line 2: bad"), (8, 3, "line 6: bad")] {
            let error = place.at(start).wrong_at(&WrongLine { line, text: "bad".into() }).await.to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}

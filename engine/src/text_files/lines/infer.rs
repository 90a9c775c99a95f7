//! The columns of files of lines, from the first lines of each file.

use super::{LONGEST_LINE, LineFormat, is_blank, too_long};
use crate::text_files::csv::{FILES, sampled};
use crate::text_files::place::{Place, WrongLine};
use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::common::config::JsonOptions;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore};
use std::sync::Arc;

/// Default number of lines and maximum bytes of each file to look at.
const LINES: usize = 20_480;
const BYTES: usize = 16 << 20;
/// Maximum bytes of all files together.
const BYTES_OF_ALL: usize = 256 << 20;
const FILES_AT_ONCE: usize = 8;

pub(super) async fn columns(
    format: &dyn LineFormat,
    options: &JsonOptions,
    store: &Arc<dyn ObjectStore>,
    files: &[ObjectMeta],
) -> Result<SchemaRef> {
    let files = sampled(files, FILES);
    let most = (BYTES_OF_ALL / files.len().max(1)).min(BYTES);
    let compression = FileCompressionType::from(options.compression);
    let places: Vec<Place> = files.iter().map(|file| Place::new(store, "", file)).collect();
    let heads = futures::stream::iter(places).map(|place| async move {
        let head = Head::read(&place, compression, most).await.map_err(|error| place.failed(error))?;
        Ok::<_, datafusion::common::DataFusionError>((place, head))
    });
    let mut heads = heads.buffered(FILES_AT_ONCE);
    let mut sample = format.sample();
    while let Some((place, head)) = heads.try_next().await? {
        let lines = head.lines().enumerate().filter(|(_, line)| !is_blank(line));
        for (line, text) in lines.take(options.schema_infer_max_rec.unwrap_or(LINES)) {
            let taken = if text.len() > LONGEST_LINE { Err(too_long()) } else { sample.take(text) };
            if let Err(text) = taken {
                return Err(place.wrong_at(&WrongLine { line: line as u64, text }).await);
            }
        }
    }
    Ok(sample.columns())
}

/// The first bytes of a file.
struct Head {
    bytes: Vec<u8>,
    is_whole: bool,
}

impl Head {
    /// At least the first line, unless it is too long.
    async fn read(place: &Place, compression: FileCompressionType, most: usize) -> Result<Self> {
        let mut stream = place.head(compression);
        let (mut bytes, mut has_line) = (Vec::new(), false);
        while let Some(chunk) = stream.try_next().await? {
            has_line |= chunk.contains(&b'\n');
            bytes.extend_from_slice(&chunk);
            if (has_line && bytes.len() >= most) || bytes.len() > LONGEST_LINE {
                // A line that is too long counts as one.
                return Ok(Self { bytes, is_whole: !has_line });
            }
        }
        Ok(Self { bytes, is_whole: true })
    }

    /// All lines that are there to their ends.
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let last = self.bytes.iter().rposition(|&byte| byte == b'\n').unwrap_or(0);
        let end = if self.is_whole { self.bytes.len() } else { last };
        self.bytes[..end].split(|&byte| byte == b'\n')
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Numbers;
    use super::*;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;
    use object_store::path::Path;

    async fn found(files: &[&str]) -> Result<SchemaRef> {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        for (number, text) in files.iter().enumerate() {
            store.put(&Path::from(format!("{number}.txt")), (*text).to_owned().into()).await.unwrap();
        }
        let listed: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
        columns(&Numbers, &JsonOptions::default(), &store, &listed).await
    }

    #[tokio::test]
    async fn a_wrong_line_is_named() {
        assert_eq!(found(&["1\n2", "\n\n"]).await.unwrap().field(0).name(), "n");
        let error = found(&["1\n2\n", "1\r\n\nx\n"]).await.unwrap_err().to_string();
        assert!(error.contains("1.txt: line 3: 'x' is no number"), "{error}");
        let error = found(&[&"1".repeat(LONGEST_LINE + 1)]).await.unwrap_err().to_string();
        assert!(error.contains("0.txt: line 1: the line has more than 64 MiB"), "{error}");
    }
}

//! The bytes of files, decompressed.

use async_compression::tokio::bufread::{BzDecoder, GzipDecoder, XzDecoder, ZstdDecoder};
use bytes::Bytes;
use datafusion::common::parsers::CompressionTypeVariant;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResultPayload, ObjectStore};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use tokio_util::io::{ReaderStream, StreamReader};

pub(crate) type ByteStream = BoxStream<'static, Result<Bytes>>;

/// Bytes read from a local file at a time.
const READ_AT_ONCE: u64 = 512 << 10;
/// Bytes of a decompressed chunk.
const DECOMPRESSED_AT_ONCE: usize = 256 << 10;

/// The bytes of a file in `range`, or all of them.
pub(crate) async fn bytes_of(
    store: &dyn ObjectStore,
    location: &Path,
    range: Option<Range<u64>>,
) -> Result<ByteStream> {
    let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
    let result = store.get_opts(location, options).await?;
    let range = result.range.clone();
    Ok(match result.payload {
        GetResultPayload::File(file, _) => local(file, range).boxed(),
        GetResultPayload::Stream(stream) => stream.map_err(DataFusionError::from).boxed(),
    })
}

/// Reads on blocking threads.
fn local(file: File, range: Range<u64>) -> impl Stream<Item = Result<Bytes>> + Send {
    futures::stream::try_unfold((file, range), |(mut file, range)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let read = tokio::task::spawn_blocking(move || {
            let length = READ_AT_ONCE.min(range.end - range.start);
            file.seek(SeekFrom::Start(range.start))?;
            let mut bytes = Vec::with_capacity(length as usize);
            let read = Read::by_ref(&mut file).take(length).read_to_end(&mut bytes)? as u64;
            Ok::<_, std::io::Error>((bytes, file, range.start + read..range.end))
        });
        let (bytes, file, rest) = read.await.map_err(|error| exec_datafusion_err!("a read was stopped: {error}"))??;
        // A file that has become shorter ends at its new end.
        Ok((!bytes.is_empty()).then(|| (Bytes::from(bytes), (file, rest))))
    })
}

/// The bytes of a part of a file, in one piece.
pub(crate) async fn range_of_file(store: &dyn ObjectStore, location: &Path, range: Range<u64>) -> Result<Bytes> {
    if range.is_empty() {
        return Ok(Bytes::new());
    }
    let ranges = store.get_ranges(location, std::slice::from_ref(&range)).await?;
    ranges.into_iter().next().ok_or_else(|| exec_datafusion_err!("a store gave no bytes for bytes {range:?}"))
}

/// The first bytes of a file, in growing windows, as long as the stream is polled.
pub(crate) fn head_of(store: &Arc<dyn ObjectStore>, location: &Path, size: u64) -> ByteStream {
    let (store, location) = (Arc::clone(store), location.clone());
    let windows = futures::stream::try_unfold((0, FIRST_WINDOW), move |(at, length)| {
        let (store, location) = (Arc::clone(&store), location.clone());
        async move {
            let end = size.min(at + length);
            let bytes = range_of_file(store.as_ref(), &location, at..end).await?;
            Ok::<_, DataFusionError>((at < end).then_some((bytes, (end, (length * 4).min(LAST_WINDOW)))))
        }
    });
    windows.boxed()
}

const FIRST_WINDOW: u64 = 64 << 10;
const LAST_WINDOW: u64 = 4 << 20;

/// Decompresses. A compressed file may consist of several, as `cat a.gz b.gz` makes it; all are read.
pub(crate) fn decompressed(bytes: ByteStream, compression: FileCompressionType) -> ByteStream {
    macro_rules! through {
        ($decoder:ident) => {{
            let mut decoder = $decoder::new(StreamReader::new(bytes.map_err(std::io::Error::other)));
            decoder.multiple_members(true);
            ReaderStream::with_capacity(decoder, DECOMPRESSED_AT_ONCE).map_err(cause).boxed()
        }};
    }
    match compression.get_variant() {
        CompressionTypeVariant::UNCOMPRESSED => bytes,
        CompressionTypeVariant::GZIP => through!(GzipDecoder),
        CompressionTypeVariant::BZIP2 => through!(BzDecoder),
        CompressionTypeVariant::XZ => through!(XzDecoder),
        CompressionTypeVariant::ZSTD => through!(ZstdDecoder),
    }
}

/// The store's error, without the wrapping in which it passed the decoder.
fn cause(error: std::io::Error) -> DataFusionError {
    match error.downcast::<DataFusionError>() {
        Ok(error) => error,
        Err(error) => exec_datafusion_err!("its compressed bytes are incomplete or damaged: {error}"),
    }
}

/// `bytes` without the byte order mark that some editors put before UTF-8.
pub(crate) fn without_mark(bytes: ByteStream) -> ByteStream {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    let cut = |(mut bytes, mut head): (ByteStream, Option<Vec<u8>>)| async move {
        while let Some(begun) = &mut head {
            match bytes.try_next().await? {
                Some(more) => begun.extend_from_slice(&more),
                None if begun.is_empty() => return Ok(None),
                None => return Ok(head.take().map(|begun| (Bytes::from(begun), (bytes, None)))),
            }
            if begun.len() >= MARK.len() {
                let whole = Bytes::from(head.take().unwrap_or_default());
                let rest = if whole.starts_with(MARK) { whole.slice(MARK.len()..) } else { whole };
                return Ok(Some((rest, (bytes, None))));
            }
        }
        Ok(bytes.try_next().await?.map(|more| (more, (bytes, None))))
    };
    futures::stream::try_unfold((bytes, Some(Vec::new())), cut).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_mark_goes_and_other_bytes_stay() {
        for (text, wanted) in [
            (&b"\xef\xbb\xbfab"[..], &b"ab"[..]),
            (b"ab", b"ab"),
            (b"", b""),
            (b"\xef\xbb", b"\xef\xbb"),
            (b"a\xef\xbb\xbfb", b"a\xef\xbb\xbfb"),
        ] {
            for chunk in 1..4 {
                let chunks: Vec<_> = text.chunks(chunk).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
                let read: Vec<Bytes> = without_mark(futures::stream::iter(chunks).boxed()).try_collect().await.unwrap();
                assert_eq!(read.concat(), wanted);
            }
        }
    }
}

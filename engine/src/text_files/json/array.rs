//! Conversion of a file that is one array of records to records in a row.

use crate::text_files::bytes::ByteStream;
use bytes::Bytes;
use datafusion::common::{DataFusionError, Result, exec_err};
use futures::{StreamExt, TryStreamExt};

/// The records of the array in `bytes`, with spaces in place of the text between them: line numbers do not change.
pub(super) fn rows_of_array(bytes: ByteStream) -> ByteStream {
    let rows = futures::stream::try_unfold((bytes, Array::default()), |(mut bytes, mut array)| async move {
        match bytes.try_next().await? {
            Some(chunk) => {
                let rows = chunk.iter().map(|byte| array.next(*byte)).collect::<Result<Vec<u8>>>()?;
                Ok::<_, DataFusionError>(Some((Bytes::from(rows), (bytes, array))))
            }
            None if array.is_complete() => Ok(None),
            None => exec_err!("the file ends within its array"),
        }
    });
    rows.boxed()
}

#[derive(Default)]
struct Array {
    begun: bool,
    ended: bool,
    /// Nesting depth of objects and arrays inside the array.
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Array {
    fn is_complete(&self) -> bool {
        self.ended || !self.begun
    }

    fn next(&mut self, byte: u8) -> Result<u8> {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return Ok(byte);
        }
        if byte.is_ascii_whitespace() {
            return Ok(byte);
        }
        if self.ended {
            return exec_err!("something follows the array that the file is to be");
        }
        if !self.begun {
            self.begun = byte == b'[';
            return if self.begun {
                Ok(b' ')
            } else {
                exec_err!("the file is not one array: it does not begin with '['")
            };
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b']' if self.depth == 0 => {
                self.ended = true;
                return Ok(b' ');
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b',' if self.depth == 0 => return Ok(b' '),
            _ => {}
        }
        Ok(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn rows(text: &str) -> Result<String> {
        let chunks: Vec<_> = text.as_bytes().chunks(3).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let rows: Vec<Bytes> = rows_of_array(futures::stream::iter(chunks).boxed()).try_collect().await?;
        Ok(String::from_utf8(rows.concat()).unwrap())
    }

    #[tokio::test]
    async fn an_array_is_its_records() {
        assert_eq!(
            rows("[{\"a\": [1,\n2]},{\"b\": \"],\\\"[\"} ]\n").await.unwrap(),
            " {\"a\": [1,\n2]} {\"b\": \"],\\\"[\"}  \n"
        );
        assert_eq!(rows("").await.unwrap(), "");
        for wrong in ["{}", "[{}", "[] {}"] {
            assert!(rows(wrong).await.is_err(), "{wrong}");
        }
    }
}

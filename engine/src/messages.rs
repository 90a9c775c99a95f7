//! Encoding of rows as messages of Arrow's IPC, with exactly the schema that was announced for them.
//!
//! arrow-flight's encoder changes schemas on the way: it declares List for LargeList, so that clients refuse the stream or misread it.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow_ipc::writer::{DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use futures::{Stream, StreamExt, TryStreamExt, stream};

/// Approximate bytes of a message. Many gRPC clients accept at most 4 MiB.
const MESSAGE_BYTES: usize = 2 << 20;

/// The schema's message and those of the batches. Dictionaries stay dictionaries; one that differs from the last is sent again.
pub fn messages<E: From<ArrowError>>(
    schema: SchemaRef,
    batches: impl Stream<Item = Result<RecordBatch, E>>,
) -> impl Stream<Item = Result<EncodedData, E>> {
    let options = IpcWriteOptions::default();
    let generator = IpcDataGenerator::default();
    let mut dictionaries = DictionaryTracker::new(false);
    let mut context = IpcWriteContext::default();
    let first = generator.schema_to_bytes_with_dictionary_tracker(&schema, &mut dictionaries, &options);
    let rest = batches.map(move |batch| {
        let mut messages = Vec::new();
        for part in parts(batch?) {
            let (dictionary, rows) = generator.encode(&part, &mut dictionaries, &options, &mut context)?;
            messages.extend(dictionary);
            messages.push(rows);
        }
        Ok::<_, E>(stream::iter(messages.into_iter().map(Ok::<_, E>)))
    });
    stream::once(futures::future::ready(Ok(first))).chain(rest.try_flatten())
}

/// Slices of about [`MESSAGE_BYTES`].
fn parts(batch: RecordBatch) -> Vec<RecordBatch> {
    let bytes: usize = batch.columns().iter().map(|column| column.get_buffer_memory_size()).sum();
    let rows = (batch.num_rows() / bytes.div_ceil(MESSAGE_BYTES).max(1)).max(1);
    let starts = (0..batch.num_rows()).step_by(rows);
    starts.map(|start| batch.slice(start, rows.min(batch.num_rows() - start))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        Array, ArrayRef, DictionaryArray, Int32Array, LargeListArray, ListArray, RunArray, StringArray, StructArray,
        UInt8Array,
    };
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::{Field, Fields, Int32Type, Schema, UInt8Type};
    use arrow_ipc::reader::StreamReader;
    use arrow_ipc::writer::write_message;
    use std::sync::Arc;

    fn dictionary(values: &[&str]) -> ArrayRef {
        let keys = UInt8Array::from_iter_values(0..values.len() as u8);
        Arc::new(DictionaryArray::<UInt8Type>::new(keys, Arc::new(StringArray::from(values.to_vec()))))
    }

    fn batch(words: &[&str]) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(0..words.len() as i32));
        let item = |array: &ArrayRef| Arc::new(Field::new("item", array.data_type().clone(), true));
        let large =
            LargeListArray::new(item(&numbers), OffsetBuffer::from_lengths(vec![1; words.len()]), numbers, None);
        let words_of = dictionary(words);
        let nested = ListArray::new(item(&words_of), OffsetBuffer::from_lengths(vec![1; words.len()]), words_of, None);
        let inner = Fields::from(vec![Field::new("w", dictionary(words).data_type().clone(), true)]);
        let fields = StructArray::new(inner, vec![dictionary(words)], None);
        let runs =
            RunArray::<Int32Type>::try_new(&Int32Array::from(vec![words.len() as i32]), &StringArray::from(vec!["r"]));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("large", Arc::new(large)),
            ("word", dictionary(words)),
            ("nested", Arc::new(nested)),
            ("fields", Arc::new(fields)),
            ("runs", Arc::new(runs.unwrap())),
        ];
        let fields: Vec<Field> =
            columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
        let schema = Schema::new(fields).with_metadata([("of".to_string(), "us".to_string())].into());
        RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, column)| column).collect()).unwrap()
    }

    #[tokio::test]
    async fn what_arrives_has_the_announced_schema() {
        let batches = [batch(&["a", "b", "c"]), batch(&["c", "d"])];
        let sent = stream::iter(batches.clone().map(Ok::<_, ArrowError>));
        let messages: Vec<EncodedData> = messages(batches[0].schema(), sent).try_collect().await.unwrap();
        let mut bytes = Vec::new();
        for message in messages {
            write_message(&mut bytes, message, &IpcWriteOptions::default()).unwrap();
        }
        let reader = StreamReader::try_new(bytes.as_slice(), None).unwrap();
        assert_eq!(reader.schema(), batches[0].schema());
        let received: Vec<RecordBatch> = reader.collect::<Result<_, _>>().unwrap();
        assert_eq!(received, batches);
    }

    #[test]
    fn long_batches_go_in_parts() {
        let column: ArrayRef = Arc::new(Int32Array::from_iter_values(0..3_000_000));
        let batch = RecordBatch::try_from_iter([("a", column)]).unwrap();
        let parts = parts(batch);
        assert_eq!(parts.iter().map(RecordBatch::num_rows).sum::<usize>(), 3_000_000);
        assert!(parts.len() >= 6, "{}", parts.len());
    }
}

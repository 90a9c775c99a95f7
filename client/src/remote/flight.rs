//! Conversions between Arrow Flight messages and Arrow: Flight SQL commands, schemas, and rows.

use crate::error::{ClientError, Result};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::convert::{fb_to_schema, try_schema_from_ipc_buffer};
use arrow::ipc::reader::{read_dictionary, read_record_batch};
use arrow::ipc::writer::{DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow::ipc::{MessageHeader, root_as_message};
use prost::Message;
use std::collections::HashMap;
use std::sync::Arc;
use windlass_proto::flight::flight_descriptor::DescriptorType;
use windlass_proto::flight::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    Any, CommandGetTables, CommandPreparedStatementQuery, CommandStatementIngest, CommandStatementQuery,
    DoPutPreparedStatementResult, FlightData, FlightDescriptor,
};

/// A message of Flight SQL, which travels inside an [`Any`].
pub(super) trait SqlMessage: Message + Default {
    const NAME: &'static str;

    fn type_url() -> String {
        format!("type.googleapis.com/arrow.flight.protocol.sql.{}", Self::NAME)
    }

    fn packed(&self) -> Any {
        Any { type_url: Self::type_url(), value: self.encode_to_vec().into() }
    }
}

macro_rules! sql_messages {
    ($($message:ident),*) => {
        $(impl SqlMessage for $message {
            const NAME: &'static str = stringify!($message);
        })*
    };
}

sql_messages!(
    ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult,
    CommandGetTables,
    CommandPreparedStatementQuery,
    CommandStatementIngest,
    CommandStatementQuery,
    DoPutPreparedStatementResult
);

/// Unpacks the message in `body`. `None`: it is of another kind.
pub(super) fn unpack<T: SqlMessage>(body: &[u8]) -> Result<Option<T>> {
    let garbled = |e: prost::DecodeError| ClientError::garbled(format!("the cluster's answer cannot be read: {e}"));
    let any = Any::decode(body).map_err(garbled)?;
    if any.type_url != T::type_url() {
        return Ok(None);
    }
    T::decode(any.value).map(Some).map_err(garbled)
}

pub(super) fn descriptor(command: &Any) -> FlightDescriptor {
    FlightDescriptor { r#type: DescriptorType::Cmd.into(), cmd: command.encode_to_vec().into() }
}

/// Reads the schema in an encapsulated IPC message. An empty message has no columns.
pub(super) fn schema(message: &[u8]) -> Result<SchemaRef> {
    match message.is_empty() {
        true => Ok(Arc::new(Schema::empty())),
        false => Ok(Arc::new(try_schema_from_ipc_buffer(message)?)),
    }
}

/// Assembles the messages of one stream into record batches.
#[derive(Default)]
pub(super) struct Decoder {
    schema: Option<SchemaRef>,
    dictionaries: HashMap<i64, ArrayRef>,
}

impl Decoder {
    /// Returns the batch that `data` completes. `None`: it is a schema, a dictionary, or only metadata.
    pub fn decode(&mut self, data: FlightData) -> Result<Option<RecordBatch>, ArrowError> {
        if data.data_header.is_empty() {
            return Ok(None);
        }
        let message = root_as_message(&data.data_header)
            .map_err(|e| ArrowError::IpcError(format!("a message is none of Arrow IPC: {e}")))?;
        let (version, kind) = (message.version(), message.header_type());
        if let Some(schema) = message.header_as_schema() {
            self.schema = Some(Arc::new(fb_to_schema(schema)));
            return Ok(None);
        }
        if kind == MessageHeader::NONE {
            return Ok(None);
        }
        let schema =
            self.schema.as_ref().ok_or_else(|| ArrowError::IpcError("rows came before their schema".to_owned()))?;
        let body = Buffer::from(data.data_body);
        if let Some(batch) = message.header_as_record_batch() {
            let batch = read_record_batch(&body, batch, Arc::clone(schema), &self.dictionaries, None, &version)?;
            return Ok(Some(batch));
        }
        match message.header_as_dictionary_batch() {
            Some(batch) => read_dictionary(&body, batch, schema, &mut self.dictionaries, &version)?,
            None => return Err(ArrowError::IpcError(format!("messages of type {kind:?} are not supported"))),
        }
        Ok(None)
    }
}

/// Encodes record batches as the messages of one stream.
pub(super) struct Encoder {
    generator: IpcDataGenerator,
    options: IpcWriteOptions,
    dictionaries: DictionaryTracker,
    context: IpcWriteContext,
}

impl Default for Encoder {
    fn default() -> Self {
        let (generator, options, context) = Default::default();
        Encoder { generator, options, dictionaries: DictionaryTracker::new(false), context }
    }
}

impl Encoder {
    /// Returns the first message, which carries `descriptor`.
    pub fn schema(&mut self, schema: &Schema, descriptor: FlightDescriptor) -> FlightData {
        let (dictionaries, options) = (&mut self.dictionaries, &self.options);
        let schema = self.generator.schema_to_bytes_with_dictionary_tracker(schema, dictionaries, options);
        FlightData { flight_descriptor: Some(descriptor), ..message(schema) }
    }

    pub fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<FlightData>, ArrowError> {
        let (dictionaries, options, context) = (&mut self.dictionaries, &self.options, &mut self.context);
        let (values, rows) = self.generator.encode(batch, dictionaries, options, context)?;
        Ok(values.into_iter().chain([rows]).map(message).collect())
    }
}

fn message(encoded: EncodedData) -> FlightData {
    let (data_header, data_body) = (encoded.ipc_message.into(), encoded.arrow_data.into());
    FlightData { data_header, data_body, ..FlightData::default() }
}

/// Encodes one batch as the messages of a stream, the first of which carries `descriptor`.
pub(super) fn encode(batch: &RecordBatch, descriptor: FlightDescriptor) -> Result<Vec<FlightData>, ArrowError> {
    let mut encoder = Encoder::default();
    let schema = encoder.schema(batch.schema_ref(), descriptor);
    Ok(std::iter::once(schema).chain(encoder.rows(batch)?).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{DictionaryArray, Int64Array, RecordBatchOptions, StringArray};
    use arrow::datatypes::Int32Type;

    fn round_trip(batch: &RecordBatch) -> Vec<RecordBatch> {
        let messages = encode(batch, FlightDescriptor::default()).unwrap();
        let mut decoder = Decoder::default();
        messages.into_iter().filter_map(|message| decoder.decode(message).unwrap()).collect()
    }

    #[test]
    fn rows_survive_the_trip() {
        let words: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
        let batch = RecordBatch::try_from_iter([
            ("n", Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])) as ArrayRef),
            ("s", Arc::new(StringArray::from(vec!["x", "", "z"]))),
            ("d", Arc::new(words)),
        ])
        .unwrap();
        assert_eq!(round_trip(&batch), [batch]);
    }

    #[test]
    fn rows_without_columns_are_counted() {
        let options = RecordBatchOptions::new().with_row_count(Some(5));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options).unwrap();
        assert_eq!(round_trip(&batch)[0].num_rows(), 5);
    }

    #[test]
    fn what_is_no_stream_is_an_error() {
        let garbled = FlightData { data_header: vec![7; 40].into(), ..FlightData::default() };
        assert!(Decoder::default().decode(garbled).is_err());
        let batch = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
        let rows = encode(&batch, FlightDescriptor::default()).unwrap().pop().unwrap();
        assert!(Decoder::default().decode(rows).is_err());
    }
}

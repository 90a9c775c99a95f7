//! Encoding of the columns of rows as the schema message of Arrow's IPC format.

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{Result, internal_datafusion_err};
use std::sync::Arc;

pub(crate) fn encode_schema(schema: &Schema) -> Result<Vec<u8>> {
    let options = arrow_ipc::writer::IpcWriteOptions::default();
    let data = arrow_ipc::writer::IpcDataGenerator::default();
    let mut tracker = arrow_ipc::writer::DictionaryTracker::new(false);
    Ok(data.schema_to_bytes_with_dictionary_tracker(schema, &mut tracker, &options).ipc_message)
}

pub(crate) fn decode_schema(bytes: &[u8]) -> Result<SchemaRef> {
    let message =
        arrow_ipc::root_as_message(bytes).map_err(|e| internal_datafusion_err!("a schema cannot be decoded: {e}"))?;
    let schema = message
        .header_as_schema()
        .ok_or_else(|| internal_datafusion_err!("a schema cannot be decoded: it is another message"))?;
    Ok(Arc::new(arrow_ipc::convert::fb_to_schema(schema)))
}

//! Preparation of pushed batches: they are conformed to the declared schema, made to own their data, and combined into blocks.
//!
//! A batch that a shuffle pushes is often a view into something larger: a slice, strings that point into the buffers of a scan, a dictionary that all buckets
//! share. Kept unchanged, it would pin many times its own data, and the store would account for, compress and send all that. So columns that pin much more
//! than they use are copied.

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, GenericByteViewArray, RecordBatch, RecordBatchOptions, make_array,
};
use arrow::compute::{concat, concat_batches};
use arrow::datatypes::{ArrowNativeType, ByteViewType, DataType, SchemaRef};
use arrow::error::ArrowError;
use std::mem::discriminant;
use std::sync::Arc;

/// Bytes that columns may pin beyond twice what they use before they are copied.
const SLACK: usize = 4 << 10;

/// `batch` with exactly `schema`. It may differ in metadata, in nullability and in names inside nested types.
pub(super) fn conform(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if Arc::ptr_eq(batch.schema_ref(), schema) {
        let fields = schema.fields().iter().zip(batch.columns());
        return match fields.into_iter().find(|(field, column)| !field.is_nullable() && column.null_count() > 0) {
            None => Ok(batch),
            Some((field, _)) => Err(ArrowError::InvalidArgumentError(format!(
                "column \"{}\" is declared to have no nulls, and has some",
                field.name()
            ))),
        };
    }
    let rows = batch.num_rows();
    let (_, mut columns, _) = batch.into_parts();
    for (column, field) in columns.iter_mut().zip(schema.fields()) {
        if column.data_type() != field.data_type() {
            *column = make_array(relabel(column.to_data(), field.data_type())?);
        }
    }
    RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &RecordBatchOptions::new().with_row_count(Some(rows)),
    )
}

/// The same data under a type that differs only in the fields of nested types: in their names, metadata and nullability.
fn relabel(data: ArrayData, to: &DataType) -> Result<ArrayData, ArrowError> {
    let from = data.data_type();
    if from == to {
        return Ok(data);
    }
    let alike = match (from, to) {
        (DataType::FixedSizeList(_, from), DataType::FixedSizeList(_, to)) => from == to,
        (DataType::Dictionary(from, _), DataType::Dictionary(to, _)) => from == to,
        (DataType::Union(from, from_mode), DataType::Union(to, to_mode)) => {
            from_mode == to_mode && from.iter().map(|(id, _)| id).eq(to.iter().map(|(id, _)| id))
        }
        _ => discriminant(from) == discriminant(to),
    };
    let inner = children(to);
    if !alike || inner.is_empty() || inner.len() != data.child_data().len() {
        return Err(ArrowError::InvalidArgumentError(format!("a column is {from} instead of {to}")));
    }
    let children = data.child_data().iter().cloned().zip(inner).map(|(child, to)| relabel(child, to));
    let children = children.collect::<Result<Vec<_>, _>>()?;
    data.into_builder().data_type(to.clone()).child_data(children).build()
}

/// The types directly inside `data_type`, in the order of `ArrayData::child_data`.
fn children(data_type: &DataType) -> Vec<&DataType> {
    match data_type {
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => vec![field.data_type()],
        DataType::Struct(fields) => fields.iter().map(|field| field.data_type()).collect(),
        DataType::Union(fields, _) => fields.iter().map(|(_, field)| field.data_type()).collect(),
        DataType::RunEndEncoded(run_ends, values) => vec![run_ends.data_type(), values.data_type()],
        DataType::Dictionary(_, values) => vec![values],
        _ => vec![],
    }
}

/// Whether `data_type` or a type inside it is one that `wanted` accepts.
fn any_type(data_type: &DataType, wanted: fn(&DataType) -> bool) -> bool {
    wanted(data_type) || children(data_type).into_iter().any(|inner| any_type(inner, wanted))
}

fn is_view(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8View | DataType::BinaryView)
}

/// Copies the columns of a pushed batch that pin much more than they use. Also returns the bytes of the batch, with its dictionaries counted as if `buckets`
/// batches shared them, as when a batch is split over buckets.
pub(crate) fn trim(batch: RecordBatch, buckets: usize) -> Result<(RecordBatch, usize), ArrowError> {
    let mut weight = 0;
    let mut copies: Vec<(usize, ArrayRef)> = Vec::new();
    for (index, column) in batch.columns().iter().enumerate() {
        let used = used_bytes(column, buckets);
        weight += used;
        let shared = any_type(column.data_type(), |data_type| matches!(data_type, DataType::Dictionary(..)));
        if !shared && pinned_bytes(column) > 2 * used + SLACK {
            copies.push((index, copy(column)?));
        }
    }
    Ok((replace(batch, copies)?, weight))
}

/// Combines the batches of one bucket, in order, into one block that has only its own data.
pub(super) fn seal(schema: &SchemaRef, mut batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, ArrowError> {
    if batches.len() > 1 {
        match concat_batches(schema, &batches) {
            Ok(block) => batches = vec![block],
            // Together, dictionaries may have more values than their keys can count. The batches then stay separate.
            Err(ArrowError::DictionaryKeyOverflowError | ArrowError::OffsetOverflowError(_)) => {}
            Err(error) => return Err(error),
        }
    }
    batches.into_iter().map(tidy).collect()
}

/// Gives a block its strings in few buffers and only the dictionary values that it uses, so that it pins nothing else.
fn tidy(block: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let used = |array: &dyn Array| used_bytes(array, 1);
    let mut copies: Vec<(usize, ArrayRef)> = Vec::new();
    for (index, column) in block.columns().iter().enumerate() {
        let (fragments, pinned, used) = match column.data_type() {
            DataType::Utf8View => (column.as_string_view().data_buffers().len(), pinned_bytes(column), used(column)),
            DataType::BinaryView => (column.as_binary_view().data_buffers().len(), pinned_bytes(column), used(column)),
            DataType::Dictionary(..) if has_idle_values(column) => {
                copies.push((index, shrink_dictionary(column)?));
                continue;
            }
            DataType::Dictionary(..) => {
                let keys = column.as_any_dictionary().keys();
                (0, pinned_bytes(keys), used(keys))
            }
            _ => (0, pinned_bytes(column), used(column)),
        };
        // Dense strings in a few buffers are as good as in one, so a batch that is already dense is not copied.
        if fragments > 4 || pinned > 2 * used + SLACK {
            copies.push((index, copy(column)?));
        }
    }
    replace(block, copies)
}

/// `batch` as the IPC encoder needs it. The encoder cuts most arrays to the slice that they show. But it writes the buffers of views and dictionaries whole,
/// does not cut unions inside lists, and makes an invalid run from run ends without rows.
pub(super) fn exact(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let mut copies: Vec<(usize, ArrayRef)> = Vec::new();
    for (index, column) in batch.columns().iter().enumerate() {
        let wasteful = match column.data_type() {
            DataType::Utf8View => is_sparse(column.as_string_view()),
            DataType::BinaryView => is_sparse(column.as_binary_view()),
            DataType::Dictionary(..) if has_idle_values(column) => {
                copies.push((index, shrink_dictionary(column)?));
                false
            }
            DataType::Dictionary(..) | DataType::RunEndEncoded(..) => false,
            other => any_type(other, |inner| {
                is_view(inner) || matches!(inner, DataType::Union(..) | DataType::RunEndEncoded(..))
            }),
        };
        if wasteful {
            copies.push((index, copy(column)?));
        }
    }
    replace(batch.clone(), copies)
}

/// Whether the buffers of views hold unused bytes of more than a quarter of the used ones.
fn is_sparse<T: ByteViewType>(array: &GenericByteViewArray<T>) -> bool {
    let buffers: usize = array.data_buffers().iter().map(|buffer| buffer.len()).sum();
    buffers > array.total_buffer_bytes_used() * 5 / 4
}

fn replace(batch: RecordBatch, copies: Vec<(usize, ArrayRef)>) -> Result<RecordBatch, ArrowError> {
    if copies.is_empty() {
        return Ok(batch);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let (schema, mut columns, _) = batch.into_parts();
    copies.into_iter().for_each(|(index, copy)| columns[index] = copy);
    RecordBatch::try_new_with_options(schema, columns, &options)
}

/// `array` in buffers of its own.
fn copy(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match array.data_type() {
        DataType::Utf8View => return Ok(Arc::new(array.as_string_view().gc())),
        DataType::BinaryView => return Ok(Arc::new(array.as_binary_view().gc())),
        _ => {}
    }
    // `concat` of one array makes a slice, of two a copy.
    let copied = concat(&[array, &array.slice(0, 0)])?;
    if any_type(array.data_type(), is_view) { Ok(make_array(copy_views(copied.to_data())?)) } else { Ok(copied) }
}

/// `concat` keeps views inside nested types unchanged, so they are copied here.
fn copy_views(data: ArrayData) -> Result<ArrayData, ArrowError> {
    if is_view(data.data_type()) {
        return Ok(copy(&make_array(data))?.to_data());
    }
    if !any_type(data.data_type(), is_view) {
        return Ok(data);
    }
    let children = data.child_data().iter().cloned().map(copy_views).collect::<Result<Vec<_>, _>>()?;
    data.into_builder().child_data(children).build()
}

/// Whether a dictionary certainly has values that no row refers to.
fn has_idle_values(column: &ArrayRef) -> bool {
    column.as_any_dictionary().values().len() > column.len()
}

fn shrink_dictionary(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    arrow_select::dictionary::garbage_collect_any_dictionary(column.as_any_dictionary())
}

/// Bytes of uncompressed Arrow data in the rows of `batch`, without spare capacity, padding and the bookkeeping of arrays.
pub(super) fn data_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| used_bytes(column, 1)).sum()
}

fn pinned_bytes(array: &dyn Array) -> usize {
    array.get_buffer_memory_size()
}

/// Bytes that a block keeps from being freed.
pub(super) fn held_bytes(block: &RecordBatch) -> usize {
    block.get_array_memory_size()
}

fn used_bytes(array: &dyn Array, sharers: usize) -> usize {
    let validity = array.nulls().map_or(0, |nulls| nulls.len().div_ceil(8));
    validity + used_values(array, sharers)
}

fn used_values(array: &dyn Array, sharers: usize) -> usize {
    let len = array.len();
    match array.data_type() {
        DataType::Null => 0,
        DataType::Boolean => len.div_ceil(8),
        DataType::Utf8 => used_text(array.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => used_text(array.as_string::<i64>().value_offsets()),
        DataType::Binary => used_text(array.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => used_text(array.as_binary::<i64>().value_offsets()),
        DataType::Utf8View => 16 * len + array.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => 16 * len + array.as_binary_view().total_buffer_bytes_used(),
        DataType::FixedSizeBinary(width) => len * *width as usize,
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            used_list(list.value_offsets(), list.values(), sharers)
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            used_list(list.value_offsets(), list.values(), sharers)
        }
        DataType::Map(..) => {
            let map = array.as_map();
            used_list(map.value_offsets(), map.entries(), sharers)
        }
        DataType::FixedSizeList(..) => used_bytes(array.as_fixed_size_list().values(), sharers),
        DataType::Struct(_) => array.as_struct().columns().iter().map(|column| used_bytes(column, sharers)).sum(),
        DataType::Dictionary(key, _) => {
            let values = used_bytes(array.as_any_dictionary().values(), 1);
            len * key.primitive_width().unwrap_or(0) + values / sharers.max(1)
        }
        other => match other.primitive_width() {
            Some(width) => len * width,
            None => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_buffer_memory_size()),
        },
    }
}

fn used_list<O: ArrowNativeType>(offsets: &[O], values: &dyn Array, sharers: usize) -> usize {
    let span = span(offsets);
    size_of_val(offsets) + used_bytes(&values.slice(span.start, span.len()), sharers)
}

/// Offsets and the bytes that they span.
fn used_text<O: ArrowNativeType>(offsets: &[O]) -> usize {
    size_of_val(offsets) + span(offsets).len()
}

/// The range from the first offset to the last. An empty array may have no offsets.
fn span<O: ArrowNativeType>(offsets: &[O]) -> std::ops::Range<usize> {
    match offsets {
        [first, .., last] => first.as_usize()..last.as_usize(),
        _ => 0..0,
    }
}

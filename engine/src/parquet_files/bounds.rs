//! What the metadata of a Parquet file says of its rows, as far as no row can contradict it.
//!
//! Bounds decide which row groups are read at all, and answer `min` and `max`, so they have to hold. But writers leave NaN out of them,
//! which is above every number here as in PostgreSQL; some leave null counts out, which is not the same as none; and old ones compared
//! bytes as if they had a sign (Parquet's specification, parquet.thrift, on `Statistics` and `ColumnOrder`). What is doubtful is taken out
//! of the metadata where it enters, so that whoever prunes, aggregates or sorts by it later need not ask.

use datafusion::parquet::basic::{LogicalType, SortOrder, Type};
use datafusion::parquet::data_type::{AsBytes, FixedLenByteArray};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, ParquetMetaData, ParquetMetaDataBuilder, RowGroupMetaData,
};
use datafusion::parquet::file::page_index::column_index::ColumnIndexMetaData;
use datafusion::parquet::file::statistics::{Statistics, ValueStatistics};
use datafusion::parquet::schema::types::ColumnDescriptor;
use std::sync::Arc;

/// `metadata` without what its rows may contradict. The very same, where there is nothing of the kind.
pub(crate) fn believed(metadata: Arc<ParquetMetaData>) -> Result<Arc<ParquetMetaData>, ParquetError> {
    let writer = Writer::of(metadata.file_metadata());
    let mut chunks = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
    if chunks.all(|chunk| writer.verdict(chunk) == Verdict::Holds) && !indexes_floats(&metadata) {
        return Ok(metadata);
    }
    let mut mended = ParquetMetaDataBuilder::new_from_metadata(Arc::unwrap_or_clone(metadata));
    let mut row_groups = Vec::new();
    for row_group in mended.take_row_groups() {
        let mut row_group = row_group.into_builder();
        let chunks = row_group.take_columns().into_iter().map(|chunk| writer.mend(chunk));
        let chunks = chunks.collect::<Result<_, _>>()?;
        row_groups.push(row_group.set_column_metadata(chunks).build()?);
    }
    let mut indexes = mended.take_column_index();
    for (row_group, indexes) in row_groups.iter().zip(indexes.iter_mut().flatten()) {
        for (chunk, index) in row_group.columns().iter().zip(indexes) {
            if is_float(chunk.column_descr()) {
                *index = ColumnIndexMetaData::NONE;
            }
        }
    }
    Ok(Arc::new(mended.set_row_groups(row_groups).set_column_index(indexes).build()))
}

/// Whether bounds of single pages are loaded for floating point numbers. A page's upper bound cannot be left out.
fn indexes_floats(metadata: &ParquetMetaData) -> bool {
    let Some(indexes) = metadata.column_index() else { return false };
    let mut all = metadata.row_groups().iter().zip(indexes);
    all.any(|(row_group, indexes)| {
        let mut chunks = row_group.columns().iter().zip(indexes);
        chunks.any(|(chunk, index)| is_float(chunk.column_descr()) && *index != ColumnIndexMetaData::NONE)
    })
}

/// What becomes of the statistics of a column in a row group.
#[derive(PartialEq)]
enum Verdict {
    Holds,
    /// There is nothing in them that holds.
    Unknown,
    Rather(Statistics),
}

/// What is known of the program that wrote a file.
struct Writer {
    /// It leaves a null count of zero out.
    omits_zero: bool,
}

impl Writer {
    fn of(file: &FileMetaData) -> Self {
        let version = file.created_by().and_then(|by| by.strip_prefix("parquet-rs version "));
        let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
        // Since 53 it writes zeros.
        Self { omits_zero: major.is_some_and(|major| major < 53) }
    }

    fn verdict(&self, chunk: &ColumnChunkMetaData) -> Verdict {
        let column = chunk.column_descr();
        if is_float(column) && (chunk.bloom_filter_offset().is_some() || chunk.column_index_offset().is_some()) {
            return self.statistics(chunk).map_or(Verdict::Unknown, Verdict::Rather);
        }
        let Some(stated) = chunk.statistics() else { return Verdict::Holds };
        match self.statistics(chunk) {
            None => Verdict::Unknown,
            // By their bytes: zeros of either sign are equal, and NaN is not.
            Some(held)
                if held.min_bytes_opt() == stated.min_bytes_opt() && held.max_bytes_opt() == stated.max_bytes_opt() =>
            {
                Verdict::Holds
            }
            Some(held) => Verdict::Rather(held),
        }
    }

    /// As far as they hold.
    fn statistics(&self, chunk: &ColumnChunkMetaData) -> Option<Statistics> {
        let stated = chunk.statistics()?;
        let nulls = self.null_count(chunk, stated)?;
        let column = chunk.column_descr();
        Some(match stated {
            Statistics::Float(of) => Statistics::Float(least(of, nulls, |n| n.is_nan(), |n| *n == 0.0, -0.0)),
            Statistics::Double(of) => Statistics::Double(least(of, nulls, |n| n.is_nan(), |n| *n == 0.0, -0.0)),
            Statistics::FixedLenByteArray(of) if is_float(column) => {
                let magnitude = |n: &FixedLenByteArray| u16::from_le_bytes([n.as_bytes()[0], n.as_bytes()[1]]) & 0x7fff;
                let negative_zero = FixedLenByteArray::from(vec![0, 0x80]);
                let is_nan = |n: &FixedLenByteArray| n.as_bytes().len() != 2 || magnitude(n) > 0x7c00;
                Statistics::FixedLenByteArray(least(of, nulls, is_nan, |n| magnitude(n) == 0, negative_zero))
            }
            stated if is_ordered(column, stated) => stated.clone(),
            stated => without_bounds(stated, nulls),
        })
    }

    /// `None`: unknown. `Some(None)`: none, which was left out.
    fn null_count(&self, chunk: &ColumnChunkMetaData, stated: &Statistics) -> Option<Option<u64>> {
        match stated.null_count_opt() {
            Some(nulls) => i64::try_from(nulls).is_ok_and(|nulls| nulls <= chunk.num_values()).then_some(Some(nulls)),
            None => (self.omits_zero || chunk.column_descr().max_def_level() == 0).then_some(None),
        }
    }

    fn mend(&self, chunk: ColumnChunkMetaData) -> Result<ColumnChunkMetaData, ParquetError> {
        let is_float = is_float(chunk.column_descr());
        let verdict = self.verdict(&chunk);
        if verdict == Verdict::Holds {
            return Ok(chunk);
        }
        let mut mended = chunk.into_builder().clear_statistics();
        if let Verdict::Rather(statistics) = verdict {
            mended = mended.set_statistics(statistics);
        }
        if is_float {
            // A filter of hashes knows one zero from the other, and each NaN from the others.
            mended = mended.set_bloom_filter_offset(None).set_bloom_filter_length(None);
            mended = mended.set_column_index_offset(None).set_column_index_length(None);
        }
        mended.build()
    }
}

pub(super) fn is_float(column: &ColumnDescriptor) -> bool {
    matches!(column.physical_type(), Type::FLOAT | Type::DOUBLE)
        || column.logical_type_ref() == Some(&LogicalType::Float16)
}

/// The lower bound alone: NaN may be among the values, above it. It may be either zero.
fn least<T: Clone>(
    of: &ValueStatistics<T>,
    nulls: Option<u64>,
    is_nan: impl Fn(&T) -> bool,
    is_zero: impl Fn(&T) -> bool,
    negative_zero: T,
) -> ValueStatistics<T> {
    let number = of.min_opt().filter(|min| !is_nan(min));
    let min = number.map(|min| if is_zero(min) { negative_zero } else { min.clone() });
    ValueStatistics::new(min, None, None, nulls, false)
}

/// Whether its bounds were found in the order in which values are compared.
fn is_ordered(column: &ColumnDescriptor, stated: &Statistics) -> bool {
    let by_sign = match stated {
        Statistics::Int32(of) => Some(of.min_opt() <= of.max_opt() || of.max_opt().is_none()),
        Statistics::Int64(of) => Some(of.min_opt() <= of.max_opt() || of.max_opt().is_none()),
        Statistics::Boolean(_) => Some(true),
        _ => None,
    };
    let old = stated.is_min_max_deprecated();
    match (column.sort_order(), by_sign) {
        (SortOrder::UNDEFINED, _) => false,
        (SortOrder::SIGNED, Some(ordered)) => ordered,
        (SortOrder::UNSIGNED, Some(_)) if column.physical_type() == Type::BOOLEAN => true,
        // Old writers compared all bytes as if they had a sign.
        _ => !old,
    }
}

fn without_bounds(stated: &Statistics, nulls: Option<u64>) -> Statistics {
    match stated {
        Statistics::Boolean(_) => Statistics::boolean(None, None, None, nulls, false),
        Statistics::Int32(_) => Statistics::int32(None, None, None, nulls, false),
        Statistics::Int64(_) => Statistics::int64(None, None, None, nulls, false),
        Statistics::Int96(_) => Statistics::int96(None, None, None, nulls, false),
        Statistics::Float(_) => Statistics::float(None, None, None, nulls, false),
        Statistics::Double(_) => Statistics::double(None, None, None, nulls, false),
        Statistics::ByteArray(_) => Statistics::byte_array(None, None, None, nulls, false),
        Statistics::FixedLenByteArray(_) => Statistics::fixed_len_byte_array(None, None, None, nulls, false),
    }
}

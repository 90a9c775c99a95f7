//! The trustworthy part of a Parquet file's metadata: the statements that no row can contradict.
//!
//! Bounds decide which row groups are read at all, and answer `min` and `max`, so they must hold. But writers leave NaN out of them, which sorts above every
//! number here, as in PostgreSQL. Some omit null counts, which does not mean zero. Old ones compared bytes as signed (Parquet's specification,
//! parquet.thrift, on `Statistics` and `ColumnOrder`). Doubtful statements are removed where metadata enters, so that pruning, aggregates and sorts can trust
//! the rest.

use datafusion::parquet::basic::{LogicalType, SortOrder, Type};
use datafusion::parquet::data_type::{AsBytes, FixedLenByteArray};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, ParquetMetaData, ParquetMetaDataBuilder, RowGroupMetaData,
};
use datafusion::parquet::file::page_index::column_index::ColumnIndexMetaData;
use datafusion::parquet::file::statistics::{Statistics, ValueStatistics};
use datafusion::parquet::schema::types::ColumnDescriptor;
use std::collections::BTreeSet;
use std::sync::Arc;

/// `metadata` without the statements that its rows may contradict; unchanged if there are none. For columns in `numbers`, rows with NaN do not matter.
pub(crate) fn believed(
    metadata: Arc<ParquetMetaData>,
    numbers: &BTreeSet<String>,
) -> Result<Arc<ParquetMetaData>, ParquetError> {
    let writer = Writer::of(metadata.file_metadata(), numbers);
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

/// Whether page bounds of floating point columns are loaded. A page's upper bound alone cannot be removed.
fn indexes_floats(metadata: &ParquetMetaData) -> bool {
    let Some(indexes) = metadata.column_index() else { return false };
    let mut all = metadata.row_groups().iter().zip(indexes);
    all.any(|(row_group, indexes)| {
        let mut chunks = row_group.columns().iter().zip(indexes);
        chunks.any(|(chunk, index)| is_float(chunk.column_descr()) && *index != ColumnIndexMetaData::NONE)
    })
}

/// The decision on a column's statistics in a row group.
#[derive(PartialEq)]
enum Verdict {
    Holds,
    /// Nothing in them can be trusted.
    Unknown,
    Rather(Statistics),
}

/// Known habits of the program that wrote a file.
struct Writer<'a> {
    /// Whether it omits a null count of zero.
    omits_zero: bool,
    numbers: &'a BTreeSet<String>,
}

impl<'a> Writer<'a> {
    fn of(file: &FileMetaData, numbers: &'a BTreeSet<String>) -> Self {
        let version = file.created_by().and_then(|by| by.strip_prefix("parquet-rs version "));
        let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
        // It writes zeros since version 53.
        Self { omits_zero: major.is_some_and(|major| major < 53), numbers }
    }

    fn verdict(&self, chunk: &ColumnChunkMetaData) -> Verdict {
        let column = chunk.column_descr();
        if is_float(column) && (chunk.bloom_filter_offset().is_some() || chunk.column_index_offset().is_some()) {
            return self.statistics(chunk).map_or(Verdict::Unknown, Verdict::Rather);
        }
        let Some(stated) = chunk.statistics() else { return Verdict::Holds };
        match self.statistics(chunk) {
            None => Verdict::Unknown,
            // Compared by bytes: as numbers, zeros of either sign are equal and NaN is not equal to itself.
            Some(held) if same_bytes(&held, stated) && held.null_count_opt() == stated.null_count_opt() => {
                Verdict::Holds
            }
            Some(held) => Verdict::Rather(held),
        }
    }

    /// Whether no value that matters is NaN, for a column that may be NULL.
    fn is_number(&self, column: &ColumnDescriptor) -> bool {
        let is_top = column.path().parts().len() == 1;
        is_top && column.max_def_level() > 0 && self.numbers.contains(column.name())
    }

    /// The statistics that can be trusted.
    fn statistics(&self, chunk: &ColumnChunkMetaData) -> Option<Statistics> {
        let stated = chunk.statistics()?;
        let nulls = self.null_count(chunk, stated)?;
        let column = chunk.column_descr();
        // A row group that is said to match as a whole may still have NaN, so its null count is removed.
        let (has_most, nulls) = if self.is_number(column) { (true, None) } else { (false, nulls) };
        Some(match stated {
            Statistics::Float(of) => {
                Statistics::Float(of_numbers(of, nulls, has_most, |n| n.is_nan(), |n| *n == 0.0, [-0.0, 0.0]))
            }
            Statistics::Double(of) => {
                Statistics::Double(of_numbers(of, nulls, has_most, |n| n.is_nan(), |n| *n == 0.0, [-0.0, 0.0]))
            }
            Statistics::FixedLenByteArray(of) if is_float(column) => {
                let magnitude = |n: &FixedLenByteArray| match n.as_bytes() {
                    [low, high] => u16::from_le_bytes([*low, *high]) & 0x7fff,
                    _ => u16::MAX,
                };
                let zeros = [FixedLenByteArray::from(vec![0, 0x80]), FixedLenByteArray::from(vec![0, 0])];
                let (is_nan, is_zero) = (|n: &_| magnitude(n) > 0x7c00, |n: &_| magnitude(n) == 0);
                Statistics::FixedLenByteArray(of_numbers(of, nulls, has_most, is_nan, is_zero, zeros))
            }
            stated if is_ordered(column, stated) => stated.clone(),
            stated => without_bounds(stated, nulls),
        })
    }

    /// `None`: unknown. `Some(None)`: zero, and omitted.
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
            // A Bloom filter distinguishes the two zeros, and NaNs from each other.
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

/// The lower bound, and the upper one if `has_most`; without it NaN may be among the values, above the bound. Zero stands for both zeros.
fn of_numbers<T: Clone>(
    of: &ValueStatistics<T>,
    nulls: Option<u64>,
    has_most: bool,
    is_nan: impl Fn(&T) -> bool,
    is_zero: impl Fn(&T) -> bool,
    [negative_zero, zero]: [T; 2],
) -> ValueStatistics<T> {
    let either = |bound: &T, zero: T| if is_zero(bound) { zero } else { bound.clone() };
    let is_nan = |bound: Option<&T>| bound.is_some_and(&is_nan);
    if is_nan(of.min_opt()) || (has_most && is_nan(of.max_opt())) {
        return ValueStatistics::new(None, None, None, nulls, false);
    }
    let min = of.min_opt().map(|min| either(min, negative_zero));
    let max = of.max_opt().filter(|_| has_most).map(|max| either(max, zero));
    ValueStatistics::new(min, max, None, nulls, false)
}

fn same_bytes(one: &Statistics, other: &Statistics) -> bool {
    one.min_bytes_opt() == other.min_bytes_opt() && one.max_bytes_opt() == other.max_bytes_opt()
}

/// Whether its bounds were computed in the order in which values are compared.
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
        // Old writers compared all bytes as signed.
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

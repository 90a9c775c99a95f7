//! Facts about a whole file from its metadata, for planning: statistics of its columns and the sort order of its rows.

use super::bounds::is_float;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Result, ScalarValue, Statistics};
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use datafusion::parquet::arrow::parquet_to_arrow_schema;
use datafusion::parquet::file::metadata::{ParquetMetaData, RowGroupMetaData, SortingColumn};
use datafusion::parquet::file::statistics::Statistics as ChunkStatistics;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

/// Statistics of the columns of `schema`, the table's. A value is exact only if every row group states it in the table's type. `metadata` is the
/// [believed](super::bounds::believed) part of the `written` metadata.
pub(super) fn statistics(
    metadata: &ParquetMetaData,
    written: &ParquetMetaData,
    schema: &SchemaRef,
) -> Result<Statistics> {
    let mut statistics = DFParquetMetadata::statistics_from_parquet_metadata(metadata, schema)?;
    let columns = metadata.file_metadata().schema_descr().columns();
    let flat = columns.iter().enumerate().filter(|(_, column)| column.path().parts().len() == 1);
    let flat: HashMap<&str, usize> = flat.map(|(index, column)| (column.name(), index)).collect();
    for (field, of) in schema.fields().iter().zip(&mut statistics.column_statistics) {
        let in_file = flat.get(field.name().as_str()).map(|&index| InFile { metadata, index });
        correct(of, value_type(field.data_type()), in_file);
    }
    if schema.fields().iter().any(|field| value_type(field.data_type()).is_floating()) {
        let stated = DFParquetMetadata::statistics_from_parquet_metadata(written, schema)?;
        guess_the_largest(&mut statistics, stated, schema);
    }
    Ok(statistics)
}

/// Adds the stated maximum of floating point columns as an inexact value. It may be wrong, since there may be NaN, but serves to estimate how many rows a
/// filter leaves.
fn guess_the_largest(statistics: &mut Statistics, stated: Statistics, schema: &Schema) {
    let columns = statistics.column_statistics.iter_mut().zip(stated.column_statistics);
    for (field, (of, stated)) in schema.fields().iter().zip(columns) {
        let data_type = value_type(field.data_type());
        let fits = |most: &ScalarValue| !most.is_null() && most.data_type() == *data_type;
        // The encoding of plans has no 16-bit numbers.
        let is_float = matches!(data_type, DataType::Float32 | DataType::Float64);
        if is_float && of.min_value != Precision::Absent && stated.max_value.get_value().is_some_and(fits) {
            of.max_value = stated.max_value.to_inexact();
        }
    }
}

/// A column of a file that is not nested.
struct InFile<'a> {
    metadata: &'a ParquetMetaData,
    index: usize,
}

impl InFile<'_> {
    /// Rows and statistics of the column in each row group that has rows.
    fn row_groups(&self) -> impl Iterator<Item = (u64, Option<&ChunkStatistics>)> {
        let groups = self.metadata.row_groups().iter().filter(|group| group.num_rows() > 0);
        groups.map(|group| (group.num_rows().unsigned_abs(), group.column(self.index).statistics()))
    }

    /// Whether every row group has the bound or holds only NULL.
    fn all_have(&self, bound: impl Fn(&ChunkStatistics) -> bool) -> bool {
        let mut groups = self.row_groups();
        groups.all(|(rows, of)| of.is_some_and(|of| bound(of) || of.null_count_opt() == Some(rows)))
    }

    /// An omitted count means zero in believed metadata.
    fn null_count(&self) -> Precision<usize> {
        let counts = self.row_groups().map(|(_, of)| of.map(|of| of.null_count_opt().unwrap_or(0)));
        let sum: Option<u64> = counts.sum();
        sum.and_then(|sum| usize::try_from(sum).ok()).map_or(Precision::Absent, Precision::Exact)
    }
}

fn correct(of: &mut ColumnStatistics, data_type: &DataType, in_file: Option<InFile<'_>>) {
    let whole = |bound: &mut Precision<ScalarValue>, covered: bool| {
        // Bounds that were not understood have another type than the table's, or are NULL.
        let meant = |value: &ScalarValue| !value.is_null() && value.data_type() == *data_type;
        if !covered || !bound.get_value().is_some_and(meant) {
            *bound = Precision::Absent;
        }
    };
    let covered = |bound: fn(&ChunkStatistics) -> bool| in_file.as_ref().is_some_and(|column| column.all_have(bound));
    whole(&mut of.min_value, covered(|of| of.min_bytes_opt().is_some()));
    whole(&mut of.max_value, covered(|of| of.max_bytes_opt().is_some()));
    if *data_type == DataType::Float16 {
        // Statistics travel with plans, whose encoding has no 16-bit numbers.
        of.min_value = Precision::Absent;
    }
    if data_type.is_floating() {
        of.max_value = Precision::Absent;
        // A zero stands for both zeros.
        if of.min_value.get_value().is_some_and(is_zero) {
            of.min_value = std::mem::take(&mut of.min_value).to_inexact();
        }
    }
    // Writers guess the count, or write 0.
    of.distinct_count = match of.distinct_count {
        Precision::Exact(0) | Precision::Inexact(0) => Precision::Absent,
        count => count.to_inexact(),
    };
    if let Some(column) = in_file {
        of.null_count = column.null_count();
    }
}

fn is_zero(number: &ScalarValue) -> bool {
    matches!(number.cast_to(&DataType::Float64), Ok(ScalarValue::Float64(Some(0.0))))
}

fn value_type(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}

/// The sort order of the rows of a whole file, as far as `schema`, the table's, has the columns. A writer states the order within each row group; the bounds
/// must show that the row groups follow each other.
pub(super) fn ordering(metadata: &ParquetMetaData, schema: &Schema) -> Result<Option<LexOrdering>> {
    let groups: Vec<_> = metadata.row_groups().iter().filter(|group| group.num_rows() > 0).collect();
    let Some(sorted) = groups.first().and_then(|group| group.sorting_columns()).filter(|sorted| !sorted.is_empty())
    else {
        return Ok(None);
    };
    if groups.iter().any(|group| group.sorting_columns() != Some(sorted)) {
        return Ok(None);
    }
    let file = metadata.file_metadata();
    let in_file = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())?;
    let key = |by: &SortingColumn| -> Option<PhysicalSortExpr> {
        let column = file.schema_descr().columns().get(usize::try_from(by.column_idx).ok()?)?;
        let flat = column.path().parts().len() == 1;
        let index = schema.index_of(column.name()).ok().filter(|_| flat && !is_float(column))?;
        let stored = in_file.field_with_name(column.name()).ok()?;
        let options = arrow::compute::SortOptions { descending: by.descending, nulls_first: by.nulls_first };
        is_ordered_alike(stored.data_type(), schema.field(index).data_type())
            .then(|| PhysicalSortExpr::new(Arc::new(Column::new(column.name(), index)), options))
    };
    let mut keys: Vec<_> = sorted.iter().map_while(key).collect();
    if let ([_, _, ..], Some(first)) = (groups.as_slice(), keys.first()) {
        let converter = StatisticsConverter::try_new(column_name(first), &in_file, file.schema_descr())?;
        match follow(&groups, &converter, first.options.descending)? {
            Follow::Apart => {}
            Follow::Touching => keys.truncate(1),
            Follow::Unknown => keys.clear(),
        }
    }
    Ok(LexOrdering::new(keys))
}

fn column_name(key: &PhysicalSortExpr) -> &str {
    key.expr.downcast_ref::<Column>().map_or("", Column::name)
}

/// Whether values of both types compare in the same way.
fn is_ordered_alike(stored: &DataType, read: &DataType) -> bool {
    let (stored, read) = (value_type(stored), value_type(read));
    stored == read || (stored.is_string() && read.is_string()) || (stored.is_binary() && read.is_binary())
}

/// How consecutive row groups of a file relate in a column.
enum Follow {
    Apart,
    /// Some values may be in more than one row group.
    Touching,
    Unknown,
}

fn follow(groups: &[&RowGroupMetaData], converter: &StatisticsConverter<'_>, descending: bool) -> Result<Follow> {
    let groups = || groups.iter().copied();
    let (least, most) = (converter.row_group_mins(groups())?, converter.row_group_maxes(groups())?);
    let nulls = converter.row_group_null_counts(groups())?;
    if nulls.iter().any(|count| count != Some(0)) {
        return Ok(Follow::Unknown);
    }
    let mut follow = Follow::Apart;
    for next in 1..least.len() {
        let (before, after) = match descending {
            false => (ScalarValue::try_from_array(&most, next - 1)?, ScalarValue::try_from_array(&least, next)?),
            true => (ScalarValue::try_from_array(&most, next)?, ScalarValue::try_from_array(&least, next - 1)?),
        };
        match before.partial_cmp(&after).filter(|_| !before.is_null() && !after.is_null()) {
            Some(Ordering::Less) => {}
            Some(Ordering::Equal) => follow = Follow::Touching,
            Some(Ordering::Greater) | None => return Ok(Follow::Unknown),
        }
    }
    Ok(follow)
}

use super::bounds;
use super::statistics::{ordering, statistics};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::common::ScalarValue;
use datafusion::common::stats::Precision;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::data_type::ByteArray;
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::{
    FileMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataBuilder, ParquetMetaDataReader, SortingColumn,
};
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::parquet::file::statistics::{Statistics, ValueStatistics};
use std::collections::BTreeSet;
use std::sync::Arc;

fn believed(metadata: Arc<ParquetMetaData>) -> Result<Arc<ParquetMetaData>, ParquetError> {
    bounds::believed(metadata, &BTreeSet::new())
}

/// A file with the columns `i`, `s` and `x`, and a row group for each of `groups`.
fn written(groups: &[(Vec<Option<i64>>, Vec<f64>)], by: Option<SortingColumn>) -> (Arc<ParquetMetaData>, SchemaRef) {
    let batch = |(numbers, floats): &(Vec<Option<i64>>, Vec<f64>)| {
        let texts = numbers.iter().map(|number| number.map(|number| format!("{number:03}")));
        let columns: [(&str, ArrayRef); 3] = [
            ("i", Arc::new(Int64Array::from(numbers.clone()))),
            ("s", Arc::new(StringArray::from_iter(texts))),
            ("x", Arc::new(Float64Array::from(floats.clone()))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    };
    let schema = batch(&groups[0]).schema();
    let properties =
        WriterProperties::builder().set_sorting_columns(by.map(|by| vec![by])).set_bloom_filter_enabled(true);
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, Arc::clone(&schema), Some(properties.build())).unwrap();
    for group in groups {
        writer.write(&batch(group)).unwrap();
        writer.flush().unwrap();
    }
    writer.close().unwrap();
    let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
    (Arc::new(reader.parse_and_finish(&Bytes::from(file)).unwrap()), schema)
}

/// `metadata` as another writer would have written it, with these statistics for column `index` of the first row group.
fn as_written_by(
    metadata: &Arc<ParquetMetaData>,
    writer: &str,
    index: usize,
    said: Option<Statistics>,
) -> Arc<ParquetMetaData> {
    let of = metadata.file_metadata();
    let of = FileMetaData::new(
        of.version(),
        of.num_rows(),
        Some(writer.to_string()),
        of.key_value_metadata().cloned(),
        of.schema_descr_ptr(),
        of.column_orders().cloned(),
    );
    let mut built = ParquetMetaDataBuilder::new(of);
    for (group, row_group) in metadata.row_groups().iter().enumerate() {
        let mut row_group = row_group.clone().into_builder();
        let mut columns = row_group.take_columns();
        if group == 0 {
            let mut column = columns.remove(index).into_builder().clear_statistics();
            if let Some(said) = &said {
                column = column.set_statistics(said.clone());
            }
            columns.insert(index, column.build().unwrap());
        }
        built = built.add_row_group(row_group.set_column_metadata(columns).build().unwrap());
    }
    Arc::new(built.build())
}

fn of(metadata: &ParquetMetaData, column: usize) -> Option<&Statistics> {
    metadata.row_group(0).column(column).statistics()
}

/// The believed statistics of a column other than `x`, which is always doubted.
fn believed_of(metadata: &Arc<ParquetMetaData>, column: usize) -> Option<Statistics> {
    of(&believed(Arc::clone(metadata)).unwrap(), column).cloned()
}

#[test]
fn a_floating_point_column_has_no_upper_bound() {
    let (metadata, schema) = written(&[(vec![Some(1), Some(2)], vec![1.0, f64::NAN])], None);
    let held = believed(Arc::clone(&metadata)).unwrap();
    let Some(Statistics::Double(x)) = of(&held, 2) else { panic!("{:?}", of(&held, 2)) };
    assert_eq!((x.min_opt(), x.max_opt(), x.null_count_opt()), (Some(&1.0), None, Some(0)));
    let chunk = held.row_group(0).column(2);
    assert_eq!((chunk.bloom_filter_offset(), chunk.column_index_offset()), (None, None));
    assert!(held.row_group(0).column(0).bloom_filter_offset().is_some());
    // Believed metadata is believed again, unchanged.
    assert!(Arc::ptr_eq(&believed(Arc::clone(&held)).unwrap(), &held));
    let x = &statistics(&held, &held, &schema).unwrap().column_statistics[2];
    assert_eq!(x.min_value, Precision::Exact(ScalarValue::from(1.0)));
    assert_eq!(x.max_value, Precision::Absent);
    let x = &statistics(&held, &metadata, &schema).unwrap().column_statistics[2];
    assert_eq!(x.max_value, Precision::Inexact(ScalarValue::from(1.0)));
}

#[test]
fn a_bound_of_zero_is_that_of_both_zeros() {
    let (metadata, schema) = written(&[(vec![None], vec![0.0])], None);
    let said = ValueStatistics::new(Some(0.0), Some(0.0), None, Some(0), false);
    let metadata = as_written_by(&metadata, "someone", 2, Some(Statistics::Double(said)));
    let held = believed(metadata).unwrap();
    let Some(Statistics::Double(x)) = of(&held, 2) else { panic!("{:?}", of(&held, 2)) };
    assert!(x.min_opt().is_some_and(|min| *min == 0.0 && min.is_sign_negative()));
    let x = &statistics(&held, &held, &schema).unwrap().column_statistics[2];
    assert_eq!(x.min_value.is_exact(), Some(false));
}

#[test]
fn a_count_that_is_left_out_is_not_zero() {
    let (metadata, _) = written(&[(vec![Some(1), None], vec![1.0, 2.0])], None);
    let said = Some(Statistics::int64(Some(1), Some(1), None, None, false));
    assert_eq!(believed_of(&as_written_by(&metadata, "someone", 0, said.clone()), 0), None);
    // For this writer it is zero.
    let old = as_written_by(&metadata, "parquet-rs version 50.0.0", 0, said.clone());
    assert_eq!(believed_of(&old, 0), said);
    let new = as_written_by(&metadata, "parquet-rs version 59.3.2", 0, said);
    assert_eq!(believed_of(&new, 0), None);
    // More nulls than values.
    let said = Some(Statistics::int64(Some(1), Some(1), None, Some(3), false));
    assert_eq!(believed_of(&as_written_by(&metadata, "someone", 0, said), 0), None);
}

#[test]
fn bounds_in_another_order_are_none() {
    let (metadata, _) = written(&[(vec![Some(1), None], vec![1.0, 2.0])], None);
    let text = |text: &str| Some(ByteArray::from(text));
    let said = Statistics::ByteArray(ValueStatistics::new(text("é"), text("z"), None, Some(1), true));
    let held = believed_of(&as_written_by(&metadata, "old", 1, Some(said)), 1).unwrap();
    assert_eq!((held.min_bytes_opt(), held.max_bytes_opt(), held.null_count_opt()), (None, None, Some(1)));
    let said = Statistics::int64(Some(7), Some(1), None, Some(1), false);
    let held = believed_of(&as_written_by(&metadata, "wrong", 0, Some(said)), 0).unwrap();
    assert_eq!((held.min_bytes_opt(), held.null_count_opt()), (None, Some(1)));
    // Old writers too compared signed numbers as signed.
    let said = Some(Statistics::int64(Some(-7), Some(1), None, Some(1), true));
    assert_eq!(believed_of(&as_written_by(&metadata, "old", 0, said.clone()), 0), said);
}

#[test]
fn what_one_row_group_does_not_say_is_not_known_of_the_file() {
    let groups = [(vec![Some(1), Some(9)], vec![1.0, 2.0]), (vec![Some(2), Some(3)], vec![3.0, 4.0])];
    let (metadata, schema) = written(&groups, None);
    let all = statistics(&believed(Arc::clone(&metadata)).unwrap(), &metadata, &schema).unwrap();
    assert_eq!(all.column_statistics[0].max_value, Precision::Exact(ScalarValue::from(9_i64)));
    assert_eq!(all.column_statistics[0].null_count, Precision::Exact(0));
    let some = as_written_by(&metadata, "someone", 0, None);
    let some = statistics(&believed(Arc::clone(&some)).unwrap(), &some, &schema).unwrap();
    let i = &some.column_statistics[0];
    assert_eq!(
        (&i.min_value, &i.max_value, &i.null_count),
        (&Precision::Absent, &Precision::Absent, &Precision::Absent)
    );
    assert_eq!(some.num_rows, Precision::Exact(4));
}

#[test]
fn bounds_of_another_type_are_not_the_tables() {
    use arrow::datatypes::{DataType, Field, Schema};
    let (metadata, _) = written(&[(vec![Some(9), Some(10)], vec![1.0, 2.0])], None);
    let fields =
        [("i", DataType::Int32), ("s", DataType::Int64), ("x", DataType::Decimal128(9, 2)), ("y", DataType::Int64)];
    let fields: Vec<_> = fields.map(|(name, data_type)| Field::new(name, data_type, true)).into();
    let of = statistics(&believed(Arc::clone(&metadata)).unwrap(), &metadata, &Arc::new(Schema::new(fields))).unwrap();
    for column in &of.column_statistics {
        assert_eq!((&column.min_value, &column.max_value), (&Precision::Absent, &Precision::Absent));
    }
    // A column that the file lacks is NULL.
    assert_eq!(of.column_statistics[3].null_count, Precision::Exact(2));
}

#[test]
fn a_file_is_sorted_where_its_row_groups_follow_each_other() {
    let numbers = |values: [i64; 2]| (values.map(Some).to_vec(), vec![0.0; 2]);
    let by = |column_idx, descending| Some(SortingColumn { column_idx, descending, nulls_first: false });
    let sorted = |groups: &[_], by| {
        let (metadata, schema) = written(groups, by);
        ordering(&believed(metadata).unwrap(), &schema).unwrap().is_some()
    };
    assert!(sorted(&[numbers([3, 1])], by(0, true)));
    assert!(sorted(&[numbers([1, 2]), numbers([2, 3])], by(0, false)));
    assert!(sorted(&[numbers([4, 3]), numbers([2, 1])], by(0, true)));
    assert!(!sorted(&[numbers([3, 4]), numbers([1, 2])], by(0, false)));
    assert!(!sorted(&[numbers([1, 2]), (vec![Some(3), None], vec![0.0; 2]), numbers([4, 5])], by(0, false)));
    // Writers disagree on the position of NaN.
    assert!(!sorted(&[numbers([1, 2])], by(2, false)));
    assert!(!sorted(&[numbers([1, 2])], None));
}

#[test]
fn numbers_have_an_upper_bound_where_no_row_counts_that_is_nan() {
    let (metadata, _) = written(&[(vec![Some(1), Some(2), None], vec![1.0, f64::NAN, 0.0])], None);
    let held = bounds::believed(metadata, &BTreeSet::from(["x".to_string()])).unwrap();
    let Some(Statistics::Double(x)) = of(&held, 2) else { panic!("{:?}", of(&held, 2)) };
    assert_eq!((x.min_opt(), x.max_opt(), x.null_count_opt()), (Some(&0.0), Some(&1.0), None));
    assert!(x.min_opt().is_some_and(|min| min.is_sign_negative()));
}

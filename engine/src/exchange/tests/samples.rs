//! Arrays of every Arrow type, made from seeds.

use arrow::array::{
    Array, ArrayData, ArrayRef, BinaryArray, BinaryViewArray, BooleanArray, FixedSizeBinaryArray, LargeBinaryArray,
    LargeStringArray, NullArray, RecordBatch, RecordBatchOptions, StringArray, StringViewArray, UnionArray, make_array,
};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Field, FieldRef, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit, UnionFields, UnionMode,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::sync::Arc;

/// A value in a row; `None` is a null wherever the type has nulls.
pub type Seed = Option<u8>;

fn field(name: &str, data_type: DataType) -> FieldRef {
    Arc::new(Field::new(name, data_type, true))
}

fn map_of(value: DataType) -> DataType {
    let entry = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry), false)), false)
}

fn dictionary(key: DataType, value: DataType) -> DataType {
    DataType::Dictionary(Box::new(key), Box::new(value))
}

fn union(mode: UnionMode) -> DataType {
    let fields = vec![field("int", DataType::Int32), field("text", DataType::Utf8)];
    DataType::Union(UnionFields::try_new([3, 7], fields).unwrap(), mode)
}

/// Every type of Arrow, and nestings that encoders are known to handle badly.
pub fn all_types() -> Vec<DataType> {
    use DataType::*;
    use TimeUnit::*;
    let item = |data_type| field("item", data_type);
    let run_ends = |data_type| Arc::new(Field::new("run_ends", data_type, false));
    let mut types = vec![
        Null,
        Boolean,
        Int8,
        Int16,
        Int32,
        Int64,
        UInt8,
        UInt16,
        UInt32,
        UInt64,
        Float16,
        Float32,
        Float64,
        Date32,
        Date64,
        Time32(Second),
        Time32(Millisecond),
        Time64(Microsecond),
        Time64(Nanosecond),
        Interval(IntervalUnit::YearMonth),
        Interval(IntervalUnit::DayTime),
        Interval(IntervalUnit::MonthDayNano),
        Decimal32(7, 2),
        Decimal64(15, 3),
        Decimal128(30, 5),
        Decimal256(60, -2),
        Utf8,
        LargeUtf8,
        Utf8View,
        Binary,
        LargeBinary,
        BinaryView,
        FixedSizeBinary(3),
        FixedSizeBinary(0),
        List(item(Int32)),
        LargeList(item(Utf8)),
        ListView(item(Int16)),
        LargeListView(item(Utf8)),
        FixedSizeList(item(Int64), 2),
        FixedSizeList(item(Utf8View), 3),
        Struct(Fields::from(vec![field("a", Int32), field("b", Utf8View), field("c", Boolean)])),
        Struct(Fields::empty()),
        map_of(Int64),
        map_of(List(item(Utf8View))),
        union(UnionMode::Dense),
        union(UnionMode::Sparse),
        dictionary(Int8, Utf8),
        dictionary(Int16, LargeBinary),
        dictionary(Int32, Decimal128(20, 2)),
        dictionary(Int64, Utf8View),
        dictionary(UInt8, Int64),
        dictionary(UInt16, Utf8),
        dictionary(UInt32, Utf8),
        dictionary(UInt64, Utf8),
        RunEndEncoded(run_ends(Int16), field("values", Utf8)),
        RunEndEncoded(run_ends(Int32), field("values", Int64)),
        RunEndEncoded(run_ends(Int64), field("values", Boolean)),
        List(item(Utf8View)),
        List(item(BinaryView)),
        List(item(List(item(Boolean)))),
        List(item(Null)),
        List(item(dictionary(Int32, Utf8))),
        List(item(union(UnionMode::Dense))),
        List(item(union(UnionMode::Sparse))),
        List(item(RunEndEncoded(run_ends(Int32), field("values", Utf8)))),
        List(item(map_of(Int32))),
        Struct(Fields::from(vec![
            field("d", dictionary(Int32, Utf8)),
            field("e", Struct(Fields::from(vec![field("f", dictionary(Int16, Utf8)), field("g", List(item(Utf8)))]))),
            field("h", union(UnionMode::Dense)),
            field("i", RunEndEncoded(run_ends(Int32), field("values", Int32))),
        ])),
        map_of(dictionary(Int32, Utf8)),
        FixedSizeList(item(dictionary(Int32, Utf8)), 2),
        FixedSizeList(item(List(item(Int8))), 2),
        dictionary(Int32, List(item(Int32))),
        dictionary(Int32, Struct(Fields::from(vec![field("a", Utf8View)]))),
    ];
    for unit in [Second, Millisecond, Microsecond, Nanosecond] {
        types.extend([Timestamp(unit, None), Timestamp(unit, Some("+01:30".into())), Duration(unit)]);
    }
    types
}

/// An array of `data_type`, one row for each seed.
pub fn array(data_type: &DataType, seeds: &[Seed]) -> ArrayRef {
    let nulls = || NullBuffer::from(seeds.iter().map(Option::is_some).collect::<Vec<_>>());
    let nested = |lens: &dyn Fn(u8) -> usize| -> Vec<Seed> {
        let inner = |seed: u8| {
            (0..lens(seed)).map(move |i| (!(seed as usize + i).is_multiple_of(5)).then_some(seed / 2 + i as u8))
        };
        seeds.iter().flat_map(|seed| seed.map(inner)).flatten().collect()
    };
    let list = |wide: bool, child: ArrayData| {
        let mut ends = vec![0u64];
        seeds.iter().for_each(|seed| ends.push(ends.last().unwrap() + seed.map_or(0, list_len) as u64));
        let builder = ArrayData::builder(data_type.clone()).len(seeds.len()).nulls(Some(nulls())).add_child_data(child);
        let (offsets, sizes) =
            (&ends[..ends.len() - 1], seeds.iter().map(|seed| seed.map_or(0, list_len) as u64).collect::<Vec<_>>());
        let builder = match data_type {
            DataType::ListView(_) | DataType::LargeListView(_) => {
                builder.add_buffer(integers(wide, offsets)).add_buffer(integers(wide, &sizes))
            }
            _ => builder.add_buffer(integers(wide, &ends)),
        };
        make_array(builder.build().unwrap())
    };
    match data_type {
        DataType::Null => Arc::new(NullArray::new(seeds.len())),
        DataType::Boolean => {
            Arc::new(seeds.iter().map(|seed| seed.map(|seed| seed % 2 == 1)).collect::<BooleanArray>())
        }
        DataType::Utf8 => Arc::new(seeds.iter().map(|seed| seed.map(text)).collect::<StringArray>()),
        DataType::LargeUtf8 => Arc::new(seeds.iter().map(|seed| seed.map(text)).collect::<LargeStringArray>()),
        DataType::Utf8View => Arc::new(seeds.iter().map(|seed| seed.map(text)).collect::<StringViewArray>()),
        DataType::Binary => Arc::new(seeds.iter().map(|seed| seed.map(text)).collect::<BinaryArray>()),
        DataType::LargeBinary => Arc::new(seeds.iter().map(|seed| seed.map(text)).collect::<LargeBinaryArray>()),
        DataType::BinaryView => Arc::new(seeds.iter().map(|seed| seed.map(text)).collect::<BinaryViewArray>()),
        DataType::FixedSizeBinary(width) => {
            let values: Vec<u8> = seeds.iter().flat_map(|seed| vec![seed.unwrap_or(0); *width as usize]).collect();
            Arc::new(
                FixedSizeBinaryArray::try_new_with_len(*width, Buffer::from(values), Some(nulls()), seeds.len())
                    .unwrap(),
            )
        }
        DataType::List(item) | DataType::ListView(item) => {
            list(false, array(item.data_type(), &nested(&list_len)).to_data())
        }
        DataType::LargeList(item) | DataType::LargeListView(item) => {
            list(true, array(item.data_type(), &nested(&list_len)).to_data())
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(fields) = entries.data_type() else { unreachable!() };
            let inner = nested(&list_len);
            let keys: Vec<Seed> = inner.iter().map(|seed| Some(seed.unwrap_or(9))).collect();
            let children = [array(fields[0].data_type(), &keys), array(fields[1].data_type(), &inner)];
            let entries = ArrayData::builder(entries.data_type().clone()).len(inner.len());
            list(false, entries.child_data(children.iter().map(|child| child.to_data()).collect()).build().unwrap())
        }
        DataType::FixedSizeList(item, width) => {
            let inner: Vec<Seed> = seeds.iter().flat_map(|seed| vec![*seed; *width as usize]).collect();
            let builder = ArrayData::builder(data_type.clone()).len(seeds.len()).nulls(Some(nulls()));
            make_array(builder.add_child_data(array(item.data_type(), &inner).to_data()).build().unwrap())
        }
        DataType::Struct(fields) => {
            let children = fields.iter().map(|field| array(field.data_type(), seeds).to_data()).collect();
            let builder = ArrayData::builder(data_type.clone()).len(seeds.len()).nulls(Some(nulls()));
            make_array(builder.child_data(children).build().unwrap())
        }
        DataType::Union(fields, mode) => {
            let ids: Vec<i8> = seeds.iter().map(|seed| if seed.unwrap_or(0) % 2 == 0 { 3 } else { 7 }).collect();
            let of = |id: i8| -> Vec<Seed> {
                let dense = *mode == UnionMode::Dense;
                seeds.iter().zip(&ids).filter(|(_, other)| !dense || **other == id).map(|(seed, _)| *seed).collect()
            };
            let children = fields.iter().map(|(id, field)| array(field.data_type(), &of(id))).collect();
            let mut counts = [0, 0];
            let offsets = ids.iter().map(|id| {
                let count = &mut counts[usize::from(*id == 7)];
                *count += 1;
                *count - 1
            });
            let offsets = (*mode == UnionMode::Dense).then(|| offsets.collect::<ScalarBuffer<i32>>());
            Arc::new(UnionArray::try_new(fields.clone(), ids.into(), offsets, children).unwrap())
        }
        DataType::Dictionary(key, values) => {
            // Values that depend on the seeds, so that batches have different dictionaries.
            let base = seeds.iter().flatten().max().copied().unwrap_or(0) % 7;
            let distinct: Vec<Seed> = (0..8).map(|value| Some(value * 16 + base)).collect();
            let keys: Vec<u64> = seeds.iter().map(|seed| u64::from(seed.unwrap_or(0) % 8)).collect();
            let builder = ArrayData::builder(data_type.clone()).len(seeds.len()).nulls(Some(nulls()));
            let builder = builder.add_buffer(fixed(key.primitive_width().unwrap(), &keys));
            make_array(builder.add_child_data(array(values, &distinct).to_data()).build().unwrap())
        }
        DataType::RunEndEncoded(run_ends, values) => {
            // Runs of up to three rows.
            let ends: Vec<u64> =
                (1..=seeds.len() as u64).filter(|end| end % 3 == 0 || *end == seeds.len() as u64).collect();
            let distinct: Vec<Seed> = ends.iter().map(|end| seeds[*end as usize - 1]).collect();
            let width = run_ends.data_type().primitive_width().unwrap();
            let run_ends =
                ArrayData::builder(run_ends.data_type().clone()).len(ends.len()).add_buffer(fixed(width, &ends));
            let children = vec![run_ends.build().unwrap(), array(values.data_type(), &distinct).to_data()];
            make_array(ArrayData::builder(data_type.clone()).len(seeds.len()).child_data(children).build().unwrap())
        }
        primitive => {
            let values: Vec<u64> = seeds.iter().map(|seed| u64::from(seed.unwrap_or(0))).collect();
            let builder = ArrayData::builder(primitive.clone()).len(seeds.len()).nulls(Some(nulls()));
            make_array(builder.add_buffer(fixed(primitive.primitive_width().unwrap(), &values)).build().unwrap())
        }
    }
}

fn list_len(seed: u8) -> usize {
    usize::from(seed % 4)
}

/// Short and long strings, since views keep short ones in place.
fn text(seed: u8) -> String {
    if seed.is_multiple_of(3) { format!("t{seed}") } else { format!("a text of more than twelve bytes, {seed}") }
}

fn integers(wide: bool, values: &[u64]) -> Buffer {
    fixed(if wide { 8 } else { 4 }, values)
}

/// Little-endian integers of `width` bytes.
fn fixed(width: usize, values: &[u64]) -> Buffer {
    let bytes = values.iter().flat_map(|value| (0..width).map(move |i| if i < 8 { value.to_le_bytes()[i] } else { 0 }));
    // Aligned for every type, which a vector of bytes is not.
    Buffer::from_slice_ref(bytes.collect::<Vec<u8>>())
}

/// A schema of these types, with metadata on it and on its fields.
pub fn schema(types: &[DataType]) -> SchemaRef {
    let field = |(index, data_type): (usize, &DataType)| {
        let metadata = [("unit".to_owned(), format!("u{index}"))].into();
        Field::new(format!("c{index}"), data_type.clone(), true).with_metadata(metadata)
    };
    let fields: Vec<Field> = types.iter().enumerate().map(field).collect();
    Arc::new(Schema::new_with_metadata(fields, [("origin".to_owned(), "samples".to_owned())].into()))
}

pub fn batch(schema: &SchemaRef, seeds: &[Seed]) -> RecordBatch {
    let columns = schema.fields().iter().map(|field| array(field.data_type(), seeds)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(seeds.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).unwrap()
}

/// Rows as text. They must be equal however rows are divided into batches and arrays are laid out.
pub fn rows<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> Vec<String> {
    let options = FormatOptions::new().with_null("∅");
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap());
        let columns: Vec<_> = columns.collect();
        rows.extend(
            (0..batch.num_rows())
                .map(|row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" | ")),
        );
    }
    rows
}

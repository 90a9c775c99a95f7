//! Tables that a write creates, through the sink itself: no statement and no cluster is between.

use super::*;
use arrow::array::{
    ArrayRef, BinaryViewArray, BooleanArray, Date32Array, Date64Array, Decimal128Array, Decimal256Array,
    DictionaryArray, DurationSecondArray, FixedSizeBinaryArray, Float16Array, Float32Array, Float64Array, Int8Array,
    Int64Array, IntervalMonthDayNanoArray, LargeStringArray, ListArray, NullArray, RecordBatch, StringArray,
    StringViewArray, Time32SecondArray, Time64NanosecondArray, TimestampMicrosecondArray, TimestampNanosecondArray,
    TimestampSecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, Float16Type, Int32Type, IntervalMonthDayNano, Schema, SchemaRef, UInt16Type, UInt64Type, i256,
};
use datafusion::execution::TaskContext;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use std::collections::BTreeMap;
use std::sync::Arc;
use windlass_client::connector::{
    Attempt, ConnectorTable, Encoded, Registry, Sink, SinkRequest, TableRequest, TableSpec, Target,
};

/// One write into a table of a server.
struct Write {
    registry: Registry,
    spec: Arc<TableSpec>,
    table: Arc<dyn ConnectorTable>,
    sink: Arc<dyn Sink>,
}

impl Write {
    async fn begin(server: &Postgres, name: &str, columns: &SchemaRef, target: Target) -> Result<Self, String> {
        let registry = windlass_client::connectors().expect("their names differ");
        let options = [("table".to_string(), name.to_string())];
        let spec = registry.spec("POSTGRES", "7".to_string(), location(server), options, BTreeMap::new());
        let spec = Arc::new(spec.expect("the options are known"));
        let connector = registry.require("POSTGRES").expect("it is there");
        assert!(connector.creates());
        let request = TableRequest { table: Arc::clone(&spec), columns: Some(Arc::clone(columns)), target };
        let text = |error: datafusion::common::DataFusionError| error.to_string();
        let table = connector.table(request).await.map_err(text)?;
        let write = format!("{:016x}", fastrand::u64(..));
        let request = SinkRequest { write, schema: table.schema(), overwrite: false };
        let sink = table.sink(request).await.map_err(text)?;
        sink.begin(&Arc::default()).await.map_err(text)?;
        Ok(Self { registry, spec, table, sink })
    }

    /// The token of a task that writes `rows`, which are cast as a statement casts them.
    async fn task(&self, number: u32, rows: &RecordBatch) -> Result<Vec<u8>, String> {
        let schema = self.table.schema();
        let pairs = rows.columns().iter().zip(schema.fields());
        let columns = pairs.map(|(column, field)| cast(column, field.data_type()).expect("it can be cast"));
        let rows = RecordBatch::try_new(Arc::clone(&schema), columns.collect()).expect("they are of one length");
        let rows = RecordBatchStreamAdapter::new(schema, futures::stream::iter([Ok(rows)]));
        let attempt = Attempt { partition: number, number: 0 };
        let written = self.sink.write(attempt, Box::pin(rows), &Arc::new(TaskContext::default())).await;
        written.map(|written| written.token).map_err(|error| error.to_string())
    }

    /// Writes `rows`, each batch by a task, all or nothing.
    async fn rows(&self, rows: &[RecordBatch]) -> Result<(), String> {
        let runtime = &Arc::new(RuntimeEnv::default());
        let written = async {
            let mut tokens = Vec::new();
            for (number, rows) in rows.iter().enumerate() {
                tokens.push(self.task(number as u32, rows).await?);
            }
            self.sink.prepare(&tokens, runtime).await.map_err(|error| error.to_string())?;
            Ok(tokens)
        };
        match written.await {
            Ok(tokens) => self.sink.publish(&tokens, runtime).await.map_err(|error| error.to_string()),
            Err(error) => {
                self.sink.abandon(runtime).await.expect("nothing is left");
                Err(error)
            }
        }
    }

    /// The sink of the next primary.
    fn again(&self) -> Arc<dyn Sink> {
        let bytes = self.sink.encode().expect("it can be encoded");
        let encoded = Encoded { table: &self.spec, schema: &self.table.schema(), bytes: &bytes };
        let connector = self.registry.require("POSTGRES").expect("it is there");
        connector.decode_sink(encoded).expect("it can be decoded")
    }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .expect("they are of one length")
}

const COLUMNS: &str = "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN '!' ELSE '' END, \
     ', ' ORDER BY attnum) FROM pg_attribute WHERE attnum > 0 AND attrelid = ";
const LEFT: &str =
    "SELECT count(*) FROM pg_class WHERE relname LIKE 'windlass\\_%\\_%' AND relname NOT LIKE 'windlass_loads%'";

#[tokio::test(flavor = "multi_thread")]
async fn every_type_is_created() {
    let server = &Postgres::start();
    let list =
        ListArray::from_iter_primitive::<UInt64Type, _, _>([Some(vec![Some(u64::MAX), None]), Some(vec![]), None]);
    let words: DictionaryArray<UInt16Type> = [Some("a"), Some(""), None].into_iter().collect();
    let half = half(1.5);
    let rows = batch(vec![
        ("a_bool", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        ("an_int8", Arc::new(Int8Array::from(vec![Some(i8::MIN), Some(i8::MAX), None]))),
        ("a_uint8", Arc::new(UInt8Array::from(vec![Some(u8::MAX), Some(0), None]))),
        ("a_uint16", Arc::new(UInt16Array::from(vec![Some(u16::MAX), Some(0), None]))),
        ("a_uint32", Arc::new(UInt32Array::from(vec![Some(u32::MAX), Some(0), None]))),
        ("an_int64", Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None]))),
        ("a_uint64", Arc::new(UInt64Array::from(vec![Some(u64::MAX), Some(0), None]))),
        ("a_half", Arc::new(half)),
        ("a_real", Arc::new(Float32Array::from(vec![Some(f32::NAN), Some(-0.5), None]))),
        ("a_double", Arc::new(Float64Array::from(vec![Some(f64::INFINITY), Some(f64::MIN), None]))),
        ("a_decimal", Arc::new(decimal(10_i128.pow(38) - 1, 38, 5))),
        ("a_wide", Arc::new(wide())),
        ("a_text", Arc::new(StringViewArray::from(vec![Some("ü\n'"), Some(""), None]))),
        ("a_large", Arc::new(LargeStringArray::from(vec![Some("x"), Some("\\N"), None]))),
        ("a_binary", Arc::new(BinaryViewArray::from(vec![Some(&[0_u8, 255][..]), Some(&[]), None]))),
        ("a_fixed", Arc::new(fixed())),
        ("a_date", Arc::new(Date32Array::from(vec![Some(0), Some(2_932_896), None]))),
        ("a_date64", Arc::new(Date64Array::from(vec![Some(86_400_000), Some(0), None]))),
        ("a_time", Arc::new(Time32SecondArray::from(vec![Some(86_399), Some(0), None]))),
        ("a_nano_time", Arc::new(Time64NanosecondArray::from(vec![Some(86_399_999_999_000), Some(1_000), None]))),
        ("seconds", Arc::new(TimestampSecondArray::from(vec![Some(253_402_300_799), Some(-62_135_596_800), None]))),
        ("nanos", Arc::new(TimestampNanosecondArray::from(vec![Some(1_000), Some(-1_000), None]))),
        (
            "an_instant",
            Arc::new(TimestampMicrosecondArray::from(vec![Some(1), Some(-1), None]).with_timezone("Europe/Berlin")),
        ),
        (
            "an_interval",
            Arc::new(IntervalMonthDayNanoArray::from(vec![
                Some(IntervalMonthDayNano::new(14, -3, 5_000)),
                Some(IntervalMonthDayNano::new(0, 0, 0)),
                None,
            ])),
        ),
        ("a_duration", Arc::new(DurationSecondArray::from(vec![Some(90), Some(-1), None]))),
        ("nothing", Arc::new(NullArray::new(3))),
        ("words", Arc::new(words)),
        ("numbers", Arc::new(list)),
        ("Odd \"name\"", Arc::new(StringArray::from(vec![Some("1"), Some("2"), Some("3")]))),
    ]);
    // The last column has no NULL, and says so.
    let mut fields: Vec<Field> = rows.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    let last = fields.pop().expect("there are some").with_nullable(false);
    fields.push(last);
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let write = Write::begin(server, "created", &schema, Target::New).await.expect("it begins");
    assert_eq!(write.sink.describe(), "table=\"public\".\"created\", new");
    assert!(server.psql("SELECT 1 FROM created").is_err(), "it is not there before it is published");
    write.rows(std::slice::from_ref(&rows)).await.expect("it is written");
    assert_eq!(
        scripted(server, &format!("{COLUMNS} 'created'::regclass")),
        "a_bool boolean, an_int8 smallint, a_uint8 smallint, a_uint16 integer, a_uint32 bigint, an_int64 bigint, a_uint64 numeric(20,0), \
         a_half real, a_real real, a_double double precision, a_decimal numeric(38,5), a_wide numeric(76,0), a_text text, a_large text, \
         a_binary bytea, a_fixed bytea, a_date date, a_date64 date, a_time time without time zone, a_nano_time time without time zone, \
         seconds timestamp without time zone, nanos timestamp without time zone, an_instant timestamp with time zone, an_interval interval, \
         a_duration interval, nothing text, words text, numbers numeric(20,0)[], Odd \"name\" text!"
    );
    assert_eq!(scripted(server, LEFT), "0");
    assert_eq!(scripted(server, "SELECT reltuples FROM pg_class WHERE relname = 'created'"), "3", "it was analysed");
    let texts = |row: usize| {
        format!(
            "SELECT concat_ws(' ', a_bool, an_int8, a_uint8, a_uint16, a_uint32, an_int64, a_uint64, a_half, a_real, a_double, a_decimal, \
             length(a_wide::text), a_large, a_binary, a_fixed, a_date, a_date64, a_time, a_nano_time, seconds, nanos, an_instant, \
             an_interval, a_duration, words, numbers) FROM created WHERE \"Odd \"\"name\"\"\" = '{row}'"
        )
    };
    assert_eq!(
        scripted(server, &texts(1)),
        "t -128 255 65535 4294967295 -9223372036854775808 18446744073709551615 1.5 NaN Infinity \
         999999999999999999999999999999999.99999 76 x \\x00ff \\x0102 1970-01-01 1970-01-02 23:59:59 23:59:59.999999 9999-12-31 23:59:59 \
         1970-01-01 00:00:00.000001 1970-01-01 00:00:00.000001+00 1 year 2 mons -3 days +00:00:00.000005 00:01:30 a \
         {18446744073709551615,NULL}"
    );
    assert_eq!(
        scripted(server, &texts(2)),
        "f 127 0 0 0 9223372036854775807 0 -0.5 -0.5 -1.7976931348623157e+308 0.00000 77 \\N \\x \\x0304 9999-12-31 1970-01-01 00:00:00 \
         00:00:00.000001 0001-01-01 00:00:00 1969-12-31 23:59:59.999999 1969-12-31 23:59:59.999999+00 00:00:00 -00:00:01  {}"
    );
    assert_eq!(scripted(server, &texts(3)), "");
    // As it is read again, by its declared columns and by the server's.
    let again =
        TableRequest { table: Arc::clone(&write.spec), columns: Some(write.table.schema()), target: Target::Present };
    let again = write.registry.require("POSTGRES").expect("it is there").table(again).await.expect("it can be read");
    assert_eq!(again.schema(), write.table.schema());
    let session = embedded().await;
    done(&session, &[&create(server, "created", "created", "")]).await;
    assert_eq!(
        answers(&session, "SELECT count(*), max(a_uint64), max(nanos), min(a_text) FROM created").await,
        "3|18446744073709551615|1970-01-01T00:00:00.000001|"
    );
}

fn fixed() -> FixedSizeBinaryArray {
    let values = [Some([1_u8, 2]), Some([3, 4]), None];
    FixedSizeBinaryArray::try_from_sparse_iter_with_size(values.into_iter(), 2).expect("they are of one length")
}

fn half(first: f32) -> Float16Array {
    let value = |value: f32| {
        let halves = cast(&Float32Array::from(vec![value]), &DataType::Float16).expect("it can be cast");
        arrow::array::AsArray::as_primitive::<Float16Type>(&halves).value(0)
    };
    Float16Array::from_iter([Some(value(first)), Some(value(-0.5)), None])
}

fn decimal(first: i128, precision: u8, scale: i8) -> Decimal128Array {
    let numbers = Decimal128Array::from(vec![Some(first), Some(0), None]);
    numbers.with_precision_and_scale(precision, scale).expect("it fits")
}

fn wide() -> Decimal256Array {
    let number = i256::from_string(&"9".repeat(76)).expect("it is a number");
    let numbers = Decimal256Array::from(vec![Some(number), Some(-number), None]);
    numbers.with_precision_and_scale(76, 0).expect("it fits")
}

fn numbers(values: Vec<i32>) -> RecordBatch {
    batch(vec![("n", Arc::new(arrow::array::PrimitiveArray::<Int32Type>::from(values)) as ArrayRef)])
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_taken_once() {
    let server = &Postgres::start();
    scripted(server, "CREATE SCHEMA \"Odd schema\"; CREATE TABLE taken (n int); CREATE VIEW seen AS SELECT 1 AS n");
    let rows = numbers(vec![1, 2, 3]);
    let schema = rows.schema();
    for (name, words) in [
        ("taken", "already"),
        ("public.seen", "already"),
        ("nowhere.t", "there is no schema nowhere"),
        ("other.public.t", "another database"),
        ("a.b.c.d", "too many parts"),
        ("\"a", "\"a"),
        (&"x".repeat(64), "64 bytes"),
    ] {
        let error = Write::begin(server, name, &schema, Target::New).await.err().unwrap_or_else(|| panic!("{name}"));
        assert!(error.contains(words), "{name}: {error}");
    }
    // Two tasks, and a name that is to be quoted.
    let write = Write::begin(server, "postgres.\"Odd schema\".\"Or\"\"ders\"", &schema, Target::New).await;
    write.expect("it begins").rows(&[rows.clone(), numbers(vec![4])]).await.expect("it is written");
    assert_eq!(scripted(server, "SELECT sum(n) FROM \"Odd schema\".\"Or\"\"ders\""), "10");
    // Somebody is faster: the write leaves nothing.
    let write = Write::begin(server, "Raced", &schema, Target::New).await.expect("it begins");
    scripted(server, "CREATE TABLE raced (n text)");
    let error = write.rows(std::slice::from_ref(&rows)).await.expect_err("it is taken");
    assert!(error.contains("has a table \"public\".\"raced\" by now"), "{error}");
    assert_eq!(scripted(server, "SELECT count(*) FROM raced"), "0");
    assert_eq!(scripted(server, LEFT), "0");
    assert_eq!(scripted(server, "SELECT count(*) FROM windlass_loads"), "0");
}

/// The primary dies after the write was recorded as done: the next one publishes it, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_created_once() {
    let server = &Postgres::start();
    let rows = numbers(vec![1, 2, 3]);
    let runtime = &Arc::new(RuntimeEnv::default());
    let write = Write::begin(server, "t", &rows.schema(), Target::New).await.expect("it begins");
    let tokens = vec![write.task(0, &rows).await.expect("it is written")];
    write.sink.prepare(&tokens, runtime).await.expect("it can be published");
    assert!(server.psql("SELECT 1 FROM t").is_err(), "it is not there before it is published");
    let next = write.again();
    drop(write);
    for _ in 0..2 {
        next.publish(&tokens, runtime).await.expect("it is published");
        assert_eq!(scripted(server, "SELECT count(*), sum(n) FROM t"), "3|6");
    }
    assert_eq!(scripted(server, LEFT), "0");
    until(server, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'windlass'", "0").await;
}

/// What the server would round is an error that names column and row, and whatever is there takes more rows.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_added_and_lose_nothing() {
    let server = &Postgres::start();
    let at = |nanos: i64| -> RecordBatch {
        batch(vec![
            ("n", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
            ("at", Arc::new(TimestampNanosecondArray::from(vec![1_000, nanos]))),
        ])
    };
    let schema = at(0).schema();
    for (rows, is_there) in [(1_001, false), (2_000, false), (3_001, true), (4_000, true)] {
        let write = Write::begin(server, "moments", &schema, Target::Any).await.expect("it begins");
        assert_eq!(write.sink.describe().contains("new"), !is_there);
        let written = write.rows(&[at(rows)]).await;
        match rows % 1000 {
            0 => written.expect("it is written"),
            _ => {
                let error = written.expect_err("it loses digits");
                assert!(error.contains("column at") && error.contains("row 2") && error.contains("(1 "), "{error}");
            }
        }
    }
    assert_eq!(scripted(server, "SELECT count(*), max(at) FROM moments"), "4|1970-01-01 00:00:00.000004");
    // Into columns of other types, which the server casts or the statement.
    scripted(
        server,
        "CREATE TABLE there (id serial, at timestamptz, n numeric(4, 1)); CREATE VIEW seen AS SELECT * FROM there",
    );
    let write = Write::begin(server, "there", &schema, Target::Any).await.expect("it begins");
    assert_eq!(write.table.schema().field(0).data_type(), &DataType::Decimal128(4, 1));
    write.rows(&[at(5_000)]).await.expect("it is written");
    assert_eq!(scripted(server, "SELECT id, n, at FROM there WHERE n = 2"), "2|2.0|1970-01-01 00:00:00.000005+00");
    scripted(server, "CREATE TABLE fewer (n int)");
    for (name, words) in [("fewer", "no column at"), ("seen", "is no table")] {
        let error = Write::begin(server, name, &schema, Target::Any).await.err().unwrap_or_else(|| panic!("{name}"));
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(scripted(server, LEFT), "0");
    assert_eq!(write_count(server), "3");
}

fn write_count(server: &Postgres) -> String {
    scripted(server, "SELECT count(*) FROM windlass_loads WHERE state = 'loaded'")
}

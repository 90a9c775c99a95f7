//! Rows become what the columns of a target take, exactly, or an error names the column and the row.

use super::kinds::{Kind, Way, plain};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use datafusion::arrow::compute::kernels::cmp::distinct;
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, plan_datafusion_err};
use serde::de::IgnoredAny;
use std::sync::Arc;

/// Characters of a value that an error shows, at most.
const SHOWN: usize = 60;
/// Casts give NULL for what does not fit.
const CASTS: CastOptions<'static> = CastOptions { safe: true, format_options: FormatOptions::new() };

/// A column of the target.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// The name that the rows have for it.
    pub name: String,
    pub kind: Kind,
    pub not_null: bool,
}

/// Makes rows of one schema fit.
pub(super) struct Fitter {
    columns: Vec<(Column, Way)>,
    files: SchemaRef,
    /// Rows before the next one.
    rows: usize,
}

impl Fitter {
    /// # Errors
    /// A column takes nothing of the type that the rows have.
    pub fn new(columns: Vec<Column>, rows: &Schema) -> Result<Self> {
        let way = |(column, field): (Column, &Arc<Field>)| {
            let way = column.kind.way(field.data_type());
            let way = way.map_err(|why| plan_datafusion_err!("the column {} {why}", column.name))?;
            Ok((column, way))
        };
        let columns: Vec<(Column, Way)> = columns.into_iter().zip(rows.fields()).map(way).collect::<Result<_>>()?;
        let field = |(column, way): &(Column, Way)| Field::new(&column.name, way.file.clone(), true);
        let files = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        Ok(Self { columns, files, rows: 0 })
    }

    /// The columns of the files.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.files)
    }

    /// # Errors
    /// A value does not fit.
    pub fn fitted(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.columns.iter().zip(batch.columns());
        let fitted = columns.map(|((column, way), given)| self.column(column, way, given));
        let fitted = RecordBatch::try_new(self.schema(), fitted.collect::<Result<_>>()?)?;
        self.rows += batch.num_rows();
        Ok(fitted)
    }

    fn column(&self, column: &Column, way: &Way, given: &ArrayRef) -> Result<ArrayRef> {
        let given = cast_with_options(given, plain(given.data_type()), &CASTS)?;
        if column.not_null
            && let Some(nulls) = given.logical_nulls()
            && let Some(row) = (0..given.len()).find(|row| nulls.is_null(*row))
        {
            return Err(exec_datafusion_err!("the column {} is NULL in row {}", column.name, self.rows + row + 1));
        }
        let wrong = |row: usize, why: &str| self.wrong(column, &given, row, why);
        let kind = column.kind;
        if let (Kind::Super, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) = (kind, given.data_type()) {
            let texts = cast_with_options(&given, &DataType::Utf8, &CASTS)?;
            let texts = texts.as_string::<i32>();
            let is_json = |text: &str| serde_json::from_str::<IgnoredAny>(text).is_ok();
            if let Some(row) = (0..texts.len()).find(|row| texts.is_valid(*row) && !is_json(texts.value(*row))) {
                return Err(wrong(row, "is no JSON, which a column of SUPER takes"));
            }
        }
        if given.data_type() == &DataType::Null {
            return Ok(new_null_array(&way.file, given.len()));
        }
        // Through the type of the column itself, where the files have another one for it.
        let natural = match kind {
            Kind::Super => way.file.clone(),
            kind => kind.natural(),
        };
        let exact = exactly(&given, &natural)?
            .map_err(|row| wrong(row, &format!("is none of {kind} that the column takes without loss")))?;
        let fitted = match kind {
            Kind::Time => cast_with_options(&exact, &way.file, &CASTS)?,
            // The same instants, without their zone.
            Kind::TimestampTz => {
                let instants = exact.as_primitive::<TimestampMicrosecondType>();
                Arc::new(instants.clone().with_timezone_opt(None::<Arc<str>>))
            }
            _ => exact,
        };
        match too_long(&fitted, kind) {
            Some((row, why)) => Err(wrong(row, &why)),
            None => Ok(fitted),
        }
    }

    fn wrong(&self, column: &Column, given: &ArrayRef, row: usize, why: &str) -> DataFusionError {
        let shown = ArrayFormatter::try_new(given, &FormatOptions::new()).map(|shown| shown.value(row).to_string());
        let shown = shown.unwrap_or_default();
        let cut: String = shown.chars().take(SHOWN).collect();
        let more = if cut.len() < shown.len() { "…" } else { "" };
        exec_datafusion_err!(
            "the value '{cut}{more}' of the column {} in row {} {why}",
            column.name,
            self.rows + row + 1
        )
    }
}

/// Values as another type has them. The inner error is the first row whose value it does not have.
fn exactly(given: &ArrayRef, to: &DataType) -> Result<std::result::Result<ArrayRef, usize>> {
    let from = given.data_type();
    if from == to {
        return Ok(Ok(Arc::clone(given)));
    }
    let cast = match (from, to) {
        // Texts have digits that a cast would drop.
        (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, DataType::Decimal128(..)) => {
            let wide = cast_with_options(given, &DataType::Decimal256(76, 38), &CASTS)?;
            if let Some(row) = (0..given.len()).find(|row| given.is_valid(*row) && wide.is_null(*row)) {
                return Ok(Err(row));
            }
            return exactly(&wide, to);
        }
        (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, DataType::Timestamp(..) | DataType::Time64(_)) => {
            let texts = cast_with_options(given, &DataType::Utf8, &CASTS)?;
            let texts = texts.as_string::<i32>();
            if let Some(row) = (0..texts.len()).find(|row| texts.is_valid(*row) && is_finer(texts.value(*row))) {
                return Ok(Err(row));
            }
            cast_with_options(given, to, &CASTS)?
        }
        // Instants without a zone are those of UTC.
        (DataType::Timestamp(_, None), DataType::Timestamp(unit, Some(_))) => {
            let without = match exactly(given, &DataType::Timestamp(*unit, None))? {
                Ok(without) => without,
                Err(row) => return Ok(Err(row)),
            };
            let instants = without.as_primitive::<TimestampMicrosecondType>();
            return Ok(Ok(Arc::new(instants.clone().with_timezone_opt(Some("UTC")))));
        }
        (DataType::Timestamp(_, Some(_)), DataType::Timestamp(unit, None)) => {
            let zoned = match exactly(given, &DataType::Timestamp(*unit, Some("UTC".into())))? {
                Ok(zoned) => zoned,
                Err(row) => return Ok(Err(row)),
            };
            let instants = zoned.as_primitive::<TimestampMicrosecondType>();
            return Ok(Ok(Arc::new(instants.clone().with_timezone_opt(None::<Arc<str>>))));
        }
        _ => cast_with_options(given, to, &CASTS)?,
    };
    if let Some(row) = (0..given.len()).find(|row| given.is_valid(*row) && cast.is_null(*row)) {
        return Ok(Err(row));
    }
    if is_lossless(from, to) {
        return Ok(Ok(cast));
    }
    let back = cast_with_options(&cast, from, &CASTS)?;
    if from.is_nested() {
        let differs = |row: &usize| back.slice(*row, 1).to_data() != given.slice(*row, 1).to_data();
        let is_same = back.to_data() == given.to_data();
        return Ok(match is_same {
            true => Ok(cast),
            false => (0..given.len()).find(differs).map_or(Ok(cast), Err),
        });
    }
    let changed = distinct(&back, given)?;
    Ok(match changed.values().set_indices().next() {
        Some(row) => Err(row),
        None => Ok(cast),
    })
}

/// Whether the seconds of a time have digits behind those of microseconds.
fn is_finer(text: &str) -> bool {
    let digits = text.split_once('.').map_or("", |(_, behind)| behind).bytes().take_while(u8::is_ascii_digit);
    digits.skip(6).any(|digit| digit != b'0')
}

/// Whether no value of one type is another one after a cast that gives a value: also where the loss is what the type is about.
fn is_lossless(from: &DataType, to: &DataType) -> bool {
    let is_text = |kind: &DataType| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let is_bytes = |kind: &DataType| {
        matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
    };
    match (from, to) {
        // A number with binary digits is the nearest one of any that has fewer.
        (from, DataType::Float32) if from.is_floating() => true,
        (_, to) if is_text(to) => true,
        // Texts of numbers, dates and the like have many forms; what is read is checked by reading.
        (from, DataType::Timestamp(TimeUnit::Microsecond, _) | DataType::Time64(TimeUnit::Microsecond)) => {
            is_text(from)
        }
        (from, _) if is_text(from) => true,
        (from, to) => is_bytes(from) && is_bytes(to),
    }
}

/// The first value with more bytes than its column keeps.
fn too_long(fitted: &ArrayRef, kind: Kind) -> Option<(usize, String)> {
    match kind {
        Kind::Char(most) | Kind::Varchar(most) => {
            let texts = fitted.as_string::<i32>();
            let row = (0..texts.len()).find(|row| texts.is_valid(*row) && texts.value(*row).len() > most as usize);
            if let Some(row) = row {
                return Some((row, format!("has {} bytes, and the column is {kind}", texts.value(row).len())));
            }
            let is_odd = |row: &usize| texts.is_valid(*row) && !texts.value(*row).is_ascii();
            let row = matches!(kind, Kind::Char(_)).then(|| (0..texts.len()).find(is_odd)).flatten()?;
            Some((row, format!("has characters of several bytes, and the column is {kind}, which has none")))
        }
        Kind::Varbyte(most) => {
            let values = fitted.as_binary::<i32>();
            let row =
                (0..values.len()).find(|row| values.is_valid(*row) && values.value(*row).len() > most as usize)?;
            Some((row, format!("has {} bytes, and the column is {kind}", values.value(row).len())))
        }
        // Redshift reads it from a VARCHAR.
        Kind::Super if fitted.data_type() == &DataType::Utf8 => too_long(fitted, Kind::Varchar(65_535)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{
        Decimal128Array, Float64Array, Int64Array, ListArray, StringArray, Time64NanosecondArray,
        TimestampNanosecondArray, UInt64Array,
    };
    use datafusion::arrow::datatypes::UInt64Type;
    use datafusion::arrow::util::pretty::pretty_format_batches;

    fn fit(kind: Kind, not_null: bool, given: ArrayRef) -> std::result::Result<String, String> {
        let schema = Arc::new(Schema::new(vec![Field::new("c", given.data_type().clone(), true)]));
        let column = Column { name: "c".to_string(), kind, not_null };
        let mut fitter = Fitter::new(vec![column], &schema).map_err(|error| error.to_string())?;
        let batch = RecordBatch::try_new(schema, vec![given]).unwrap();
        // Rows are counted over batches.
        fitter.rows = 10;
        let fitted = fitter.fitted(&batch).map_err(|error| error.to_string())?;
        let shown = pretty_format_batches(&[fitted]).unwrap().to_string();
        Ok(shown
            .lines()
            .skip(3)
            .filter(|line| line.starts_with('|'))
            .map(|line| line.trim_matches(['|', ' ']))
            .collect::<Vec<_>>()
            .join(","))
    }

    fn texts(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    #[test]
    fn values_are_those_of_their_columns() {
        for (kind, given, fitted) in [
            (Kind::Integer, texts(&["7", "-1"]), "7,-1"),
            (Kind::Decimal(6, 2), texts(&["1.5", "1234.560"]), "1.50,1234.56"),
            (Kind::Decimal(20, 0), Arc::new(UInt64Array::from(vec![u64::MAX])), "18446744073709551615"),
            (
                Kind::Decimal(5, 1),
                Arc::new(Decimal128Array::from(vec![1250]).with_precision_and_scale(9, 2).unwrap()),
                "12.5",
            ),
            (Kind::Real, Arc::new(Float64Array::from(vec![0.1])), "0.1"),
            (Kind::Time, Arc::new(Time64NanosecondArray::from(vec![3_661_000_005_000])), "01:01:01.000005"),
            (
                Kind::TimestampTz,
                Arc::new(TimestampNanosecondArray::from(vec![1_000]).with_timezone("Asia/Tokyo")),
                "1970-01-01T00:00:00.000001",
            ),
            (Kind::TimestampTz, texts(&["2024-03-01T12:00:00+02:00"]), "2024-03-01T10:00:00"),
            (
                Kind::Timestamp,
                Arc::new(TimestampNanosecondArray::from(vec![0]).with_timezone("+05:00")),
                "1970-01-01T00:00:00",
            ),
            (Kind::Varchar(3), Arc::new(Int64Array::from(vec![123])), "123"),
            (Kind::Super, texts(&["{\"a\": [1]}"]), "{\"a\": [1]}"),
            (
                Kind::Super,
                Arc::new(ListArray::from_iter_primitive::<UInt64Type, _, _>(vec![Some(vec![Some(1), None])])),
                "[1, ]",
            ),
        ] {
            assert_eq!(fit(kind, true, given).as_deref(), Ok(fitted), "{kind}");
        }
        assert_eq!(fit(Kind::Time, false, new_null_array(&DataType::Null, 1)).as_deref(), Ok(""));
    }

    #[test]
    fn what_would_be_lost_is_named_with_its_column_and_row() {
        for (kind, given, words) in [
            (
                Kind::Smallint,
                Arc::new(Int64Array::from(vec![1, 40_000])) as ArrayRef,
                "'40000' of the column c in row 12",
            ),
            (Kind::Integer, texts(&["1", "2", "x"]), "'x' of the column c in row 13 is none of integer"),
            (Kind::Decimal(6, 2), texts(&["1.505"]), "'1.505'"),
            (Kind::Decimal(3, 1), Arc::new(Float64Array::from(vec![1.25])), "'1.25'"),
            (Kind::Timestamp, Arc::new(TimestampNanosecondArray::from(vec![1])), "1970-01-01T00:00:00.000000001"),
            (Kind::TimestampTz, Arc::new(TimestampNanosecondArray::from(vec![1]).with_timezone("UTC")), "row 11"),
            (Kind::Time, Arc::new(Time64NanosecondArray::from(vec![1])), "row 11"),
            (Kind::Timestamp, texts(&["2024-01-01 00:00:00.1234560", "2024-01-01 00:00:00.1234561"]), "row 12"),
            (Kind::Date, Arc::new(TimestampNanosecondArray::from(vec![1_000_000_000])), "is none of date"),
            (Kind::Varchar(3), texts(&["abc", "üü"]), "row 12 has 4 bytes, and the column is varchar(3)"),
            (Kind::Char(3), texts(&["ü"]), "several bytes"),
            (Kind::Super, texts(&["{"]), "is no JSON"),
        ] {
            let why = fit(kind, false, given).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
        assert!(fit(Kind::Bigint, true, new_null_array(&DataType::Null, 1)).unwrap_err().contains("NULL in row 11"));
        let empty = Arc::new(Int64Array::from(vec![Some(1), None]));
        assert!(fit(Kind::Bigint, true, empty).unwrap_err().contains("the column c is NULL in row 12"));
    }
}

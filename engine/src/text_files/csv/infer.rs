//! Inference of columns and their types from the first records of each file.

use super::dialect::Dialect;
use super::header::{field_of, names as unique};
use super::records::{RecordReader, Shape};
use super::values::Nulls;
use crate::text_files::bytes::ByteStream;
use crate::text_files::place::Place;
use crate::time::names_zone;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::config::CsvOptions;
use datafusion::common::{DataFusionError, Result, config_datafusion_err, plan_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore};
use std::sync::Arc;

/// Default number of records of each file to look at.
const RECORDS: usize = 1_000;
/// Maximum files to look at. Of more files, evenly spread ones are taken.
pub(in crate::text_files) const FILES: usize = 1_000;
const FILES_AT_ONCE: usize = 16;

/// The columns of all files: those of the first one, then the extra ones of the others, whatever order the files are listed in.
pub(super) async fn schema(
    options: &CsvOptions,
    store: &Arc<dyn ObjectStore>,
    url: &str,
    files: &[ObjectMeta],
) -> Result<SchemaRef> {
    let places: Vec<Place> = sampled(files, FILES).into_iter().map(|file| Place::new(store, url, file)).collect();
    let sampled = futures::stream::iter(places).map(|place| async move {
        let columns = columns_of(options, &place).await?;
        Ok::<_, DataFusionError>((place, columns))
    });
    let mut sampled = sampled.buffered(FILES_AT_ONCE);
    let mut all: Vec<(String, DataType)> = Vec::new();
    let mut first: Option<Place> = None;
    while let Some((place, columns)) = sampled.try_next().await? {
        if columns.is_empty() {
            continue;
        }
        match &first {
            Some(first) if !has_header(options) && columns.len() != all.len() && !may_be_shorter(options) => {
                return plan_err!(
                    "{} has {} columns and {} has {}: name the columns of the table, or say that rows may end early (truncated_rows)",
                    first.name,
                    all.len(),
                    place.name,
                    columns.len()
                );
            }
            Some(_) => {}
            None => first = Some(place),
        }
        merge(&mut all, columns);
    }
    let text = options.schema_infer_max_rec == Some(0);
    let fields = all.into_iter().map(|(name, data_type)| {
        // A column of NULLs could have any type; text can hold everything.
        let data_type = if text || data_type == DataType::Null { DataType::Utf8 } else { data_type };
        Field::new(name, data_type, true)
    });
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

pub(super) fn has_header(options: &CsvOptions) -> bool {
    options.has_header.unwrap_or(true)
}

pub(super) fn may_be_shorter(options: &CsvOptions) -> bool {
    options.truncated_rows.unwrap_or(false)
}

/// At most `most` files, in the order of their paths, so that the order of a store's listing does not matter.
pub(in crate::text_files) fn sampled(files: &[ObjectMeta], most: usize) -> Vec<&ObjectMeta> {
    let mut files: Vec<&ObjectMeta> = files.iter().filter(|file| file.size > 0).collect();
    files.sort_by(|a, b| a.location.cmp(&b.location));
    let step = files.len().div_ceil(most).max(1);
    files.into_iter().step_by(step).collect()
}

fn merge(all: &mut Vec<(String, DataType)>, columns: Vec<(String, DataType)>) {
    let known: Vec<String> = all.iter().map(|(name, _)| name.clone()).collect();
    for (name, data_type) in columns {
        match field_of(&name, &known) {
            Some(field) => all[field].1 = common(&all[field].1, &data_type),
            None => all.push((name, data_type)),
        }
    }
}

/// The type that holds values of both, text if necessary.
fn common(a: &DataType, b: &DataType) -> DataType {
    use DataType::*;
    match (a, b) {
        _ if a == b => a.clone(),
        (Null, other) | (other, Null) => other.clone(),
        (Int64, Float64) | (Float64, Int64) => Float64,
        (Date32, Timestamp(unit, None)) | (Timestamp(unit, None), Date32) => Timestamp(*unit, None),
        (Timestamp(a, of_a), Timestamp(b, of_b)) if of_a == of_b => Timestamp(finer(*a, *b), of_a.clone()),
        _ => Utf8,
    }
}

fn finer(a: TimeUnit, b: TimeUnit) -> TimeUnit {
    use TimeUnit::*;
    [Nanosecond, Microsecond, Millisecond].into_iter().find(|unit| *unit == a || *unit == b).unwrap_or(Second)
}

async fn columns_of(options: &CsvOptions, place: &Place) -> Result<Vec<(String, DataType)>> {
    let mut bytes = place.head(FileCompressionType::from(options.compression));
    let head = Head::read(options, &mut bytes, place).await?;
    if head.records == 0 {
        return Ok(head.names.into_iter().map(|name| (name, DataType::Null)).collect());
    }
    let format = format(options)?;
    let (schema, _) = format
        .infer_schema(head.sample.as_slice(), Some(head.records))
        .map_err(|error| place.failed(DataFusionError::from(error)))?;
    let mut types: Vec<DataType> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
    if types.iter().any(|data_type| matches!(data_type, DataType::Timestamp(..))) {
        head.tell_instants(options, &mut types)?;
    }
    Ok(head.names.into_iter().zip(types.into_iter().chain(std::iter::repeat(DataType::Null))).collect())
}

fn format(options: &CsvOptions) -> Result<Format> {
    let mut format = Format::default()
        .with_header(false)
        .with_delimiter(options.delimiter)
        .with_quote(options.quote)
        .with_truncated_rows(true);
    if let Some(escape) = options.escape {
        format = format.with_escape(escape);
    }
    if let Some(comment) = options.comment {
        format = format.with_comment(comment);
    }
    if let Some(terminator) = options.terminator {
        format = format.with_terminator(terminator);
    }
    let null = options.null_value.as_deref().filter(|null| !null.is_empty()).map(regex::escape);
    let nulls: Vec<String> = options.null_regex.iter().cloned().chain(null.map(|null| format!("^{null}$"))).collect();
    if !nulls.is_empty() {
        let regex = regex::Regex::new(&format!("^$|{}", nulls.join("|")));
        format = format.with_null_regex(regex.map_err(|error| config_datafusion_err!("null_regex: {error}"))?);
    }
    Ok(format)
}

/// The start of a file.
struct Head {
    names: Vec<String>,
    /// The bytes of the first records after the header, and their number.
    sample: Vec<u8>,
    records: usize,
}

impl Head {
    /// Makes timestamps that all name a zone instants. A column in which only some do, or with a value that is no timestamp, becomes text.
    fn tell_instants(&self, options: &CsvOptions, types: &mut [DataType]) -> Result<()> {
        let nulls = Nulls::new(options.null_value.as_deref(), options.null_regex.as_deref())?;
        let mut reader = RecordReader::new(Dialect::of(options), Shape { may_be_shorter: true, ..Shape::default() });
        // It has been read before, so it cannot fail.
        let read = reader.read(&self.sample, usize::MAX).and_then(|_| reader.finish());
        let records = reader.take();
        let mut zones: Vec<(bool, bool)> = vec![(false, false); types.len()];
        for record in 0..if read.is_ok() { records.len() } else { 0 } {
            for ((value, quoted), zone) in records.record(record).zip(&mut zones) {
                let text = String::from_utf8_lossy(value);
                if nulls.is_null(&text, quoted, false) {
                    continue;
                }
                match names_zone(&text) {
                    Some(true) => zone.0 = true,
                    Some(false) => zone.1 = true,
                    None => *zone = (true, true),
                }
            }
        }
        for (data_type, zone) in types.iter_mut().zip(zones) {
            if let DataType::Timestamp(unit, None) = data_type {
                *data_type = match zone {
                    (true, true) => DataType::Utf8,
                    (true, false) => DataType::Timestamp(*unit, Some("UTC".into())),
                    (false, _) => DataType::Timestamp(*unit, None),
                };
            }
        }
        Ok(())
    }

    async fn read(options: &CsvOptions, bytes: &mut ByteStream, place: &Place) -> Result<Self> {
        let wanted = options.schema_infer_max_rec.unwrap_or(RECORDS).max(1);
        let shape = Shape { may_be_shorter: true, ..Shape::default() };
        let mut reader = RecordReader::new(Dialect::of(options), shape);
        let mut names = if has_header(options) { None } else { Some(Vec::new()) };
        let (mut sample, mut records, mut width) = (Vec::new(), 0, 0);
        while records < wanted || names.is_none() {
            let Some(chunk) = bytes.try_next().await.map_err(|error| place.failed(error))? else {
                if let Err(wrong) = reader.finish() {
                    return Err(place.wrong_at(&wrong).await);
                }
                take(&mut reader, &mut names, &mut records, &mut width);
                break;
            };
            let mut rest = &chunk[..];
            while !rest.is_empty() && (records < wanted || names.is_none()) {
                let was_header = names.is_none();
                let used = match reader.read(rest, 1) {
                    Ok(used) => used,
                    Err(wrong) => return Err(place.wrong_at(&wrong).await),
                };
                if !was_header {
                    sample.extend_from_slice(&rest[..used]);
                }
                rest = &rest[used..];
                take(&mut reader, &mut names, &mut records, &mut width);
            }
        }
        let mut names = unique(names.unwrap_or_default());
        for column in names.len()..if has_header(options) { 0 } else { width } {
            names.push(format!("column_{}", column + 1));
        }
        Ok(Self { names, sample, records })
    }
}

/// Counts the record just read, or takes it as the header.
fn take(reader: &mut RecordReader, names: &mut Option<Vec<String>>, records: &mut usize, width: &mut usize) {
    if reader.held().len() == 0 {
        return;
    }
    let read = reader.take();
    for record in 0..read.len() {
        match names {
            None => *names = Some(texts(read.record(record))),
            Some(_) => {
                *records += 1;
                *width = (*width).max(read.record(record).count());
            }
        }
    }
}

pub(super) fn texts<'a>(record: impl Iterator<Item = (&'a [u8], bool)>) -> Vec<String> {
    record.map(|(value, _)| String::from_utf8_lossy(value).into_owned()).collect()
}

/// The header of the file at `place`: no names when the file is empty.
pub(super) async fn header_of(options: &CsvOptions, place: &Place) -> Result<Vec<String>> {
    let mut bytes = place.head(FileCompressionType::from(options.compression));
    let one = CsvOptions { schema_infer_max_rec: Some(1), ..options.clone() };
    Ok(Head::read(&one, &mut bytes, place).await?.names)
}

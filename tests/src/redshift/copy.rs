//! COPY of Parquet files by a manifest, as far as Redshift's documentation says what it does: each file has the bytes that the manifest says, columns are matched by
//! their places and have the very types of the table's, lengths are in bytes, and what is refused is in `stl_load_errors`.

use super::server::{Backend, ROLE, Shared};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::json::LineDelimitedWriter;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::io;
use std::sync::Arc;

/// As whom the files are read.
pub(super) enum Reader {
    Role(String),
    Keys(String, String),
}

/// Why rows are not loaded.
#[derive(Default)]
struct Wrong {
    file: String,
    row: usize,
    column: String,
    kind: String,
    why: String,
}

/// The outer error: a connection has ended. Else the rows that were loaded or an error for the client, and the state of its transaction.
pub(super) async fn carried_out(
    backend: &mut Backend,
    shared: &Arc<Shared>,
    table: &str,
    manifest: &str,
    reader: Reader,
    is_serialized: bool,
) -> io::Result<(Result<usize, String>, u8)> {
    let refused = match reader {
        Reader::Role(role) if role != ROLE => Some(format!("Not authorized to get credentials of role {role}")),
        Reader::Keys(key, secret) if (key.as_str(), secret.as_str()) != ("key", super::server::BUCKET_SECRET) => {
            Some("S3ServiceException: The AWS Access Key Id you provided does not exist in our records".to_owned())
        }
        _ => None,
    };
    if let Some(why) = refused {
        return Ok((Err(why), backend.ask("SELECT 1 / 0").await?.state));
    }
    let columns = backend
        .ask(&format!(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 \
             AND NOT attisdropped ORDER BY attnum"
        ))
        .await?;
    if let Some((why, _)) = columns.error {
        return Ok((Err(why), columns.state));
    }
    let columns: Vec<(String, String)> =
        columns.rows.into_iter().filter_map(|row| <[_; 2]>::try_from(row).ok()).filter_map(|[a, b]| a.zip(b)).collect();
    let files = match read(shared, manifest, &columns, is_serialized).await {
        Ok(files) => files,
        Err(wrong) => {
            let state = backend.ask("SELECT 1 / 0").await?.state;
            return Ok((Err(noted(shared, backend.pid, table, wrong)), state));
        }
    };
    if let Some(refused) = backend.copy_in(&format!("COPY {table} FROM STDIN")).await? {
        return Ok((Err(refused.error.map(|(why, _)| why).unwrap_or_default()), refused.state));
    }
    let mut rows = 0;
    for (_, lines) in &files {
        rows += lines.len();
        backend.send(b'd', lines.concat().as_bytes()).await?;
    }
    backend.send(b'c', &[]).await?;
    let answered = backend.answered(|_| true).await?;
    let Some((why, context)) = answered.error else { return Ok((Ok(rows), answered.state)) };
    // COPY t, line 3, column name: "x"
    let behind = |words: &str| context.split(words).nth(1).unwrap_or_default().to_owned();
    let line: usize = behind("line ").chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0);
    let column: String = behind("column ").chars().take_while(|c| *c != ':').collect();
    let (mut row, mut file) = (line, String::new());
    for (of, lines) in &files {
        file.clone_from(of);
        if row <= lines.len() {
            break;
        }
        row -= lines.len();
    }
    let kind = columns.iter().find(|(name, _)| *name == column).map(|(_, kind)| kind.clone()).unwrap_or_default();
    Ok((Err(noted(shared, backend.pid, table, Wrong { file, row, column, kind, why })), answered.state))
}

/// Notes why rows were not loaded. Returns what the client is told.
fn noted(shared: &Shared, session: i32, table: &str, wrong: Wrong) -> String {
    let text = |text: &str, most: usize| {
        let text: String = text.chars().take(most).collect();
        format!("'{}'", text.replace('\'', "''"))
    };
    let Wrong { file, row, column, kind, why } = wrong;
    let insert = format!(
        "INSERT INTO stl_load_errors (session, filename, line_number, colname, type, err_reason) VALUES ({session}, {}, {row}, {}, {}, {})",
        text(&file, 256),
        text(&column, 127),
        text(&kind, 10),
        text(&why, 100)
    );
    shared.postgres.psql(&insert).unwrap_or_else(|error| panic!("{error}"));
    format!("Load into table {table} failed.  Check 'stl_load_errors' system table for details.")
}

/// The lines of all files of a manifest, in the form of COPY … FROM STDIN.
async fn read(
    shared: &Shared,
    manifest: &str,
    columns: &[(String, String)],
    is_serialized: bool,
) -> Result<Vec<(String, Vec<String>)>, Wrong> {
    let wrong = |file: &str, why: String| Wrong { file: file.to_owned(), why, ..Wrong::default() };
    let fetched = async |url: &str| {
        let (bucket, key) = url.strip_prefix("s3://").and_then(|rest| rest.split_once('/')).unwrap_or_default();
        let store = AmazonS3Builder::new().with_endpoint(&shared.s3).with_allow_http(true).with_bucket_name(bucket);
        let store = store.with_region("us-east-1").with_access_key_id("key").with_secret_access_key("secret").build();
        let store: Arc<dyn ObjectStore> = Arc::new(store.map_err(|error| wrong(url, error.to_string()))?);
        let found = store.get(&Path::parse(key).map_err(|error| wrong(url, error.to_string()))?).await;
        let found = found.map_err(|error| wrong(url, format!("the S3 object cannot be read: {error}")))?;
        found.bytes().await.map_err(|error| wrong(url, error.to_string()))
    };
    let text = fetched(manifest).await?;
    let parsed: serde_json::Value =
        serde_json::from_slice(&text).map_err(|error| wrong(manifest, error.to_string()))?;
    let mut files = Vec::new();
    for entry in parsed["entries"].as_array().into_iter().flatten() {
        let url = entry["url"].as_str().unwrap_or_default();
        let bytes = fetched(url).await?;
        let Some(length) = entry["meta"]["content_length"].as_u64() else {
            return Err(wrong(url, "the manifest does not contain meta.content_length".to_owned()));
        };
        if length != bytes.len() as u64 {
            return Err(wrong(url, format!("the file has {} bytes and not {length}", bytes.len())));
        }
        let opened = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(ParquetRecordBatchReaderBuilder::build);
        let mut lines = Vec::new();
        for batch in opened.map_err(|error| wrong(url, error.to_string()))? {
            let batch = batch.map_err(|error| wrong(url, error.to_string()))?;
            if batch.num_columns() != columns.len() {
                let why = format!("the file has {} columns and the table {}", batch.num_columns(), columns.len());
                return Err(wrong(url, why));
            }
            let mut texts = Vec::new();
            for ((name, kind), values) in columns.iter().zip(batch.columns()) {
                let at = |row: usize, why: String| Wrong {
                    file: url.to_owned(),
                    row: if row == 0 { 0 } else { lines.len() + row },
                    column: name.clone(),
                    kind: kind.clone(),
                    why,
                };
                if !is_of(kind, values.data_type(), is_serialized) {
                    let why = format!("the file has an incompatible Parquet schema for column: {}", values.data_type());
                    return Err(at(0, why));
                }
                let most = kind.split(['(', ')']).nth(1).and_then(|most| most.parse().ok()).unwrap_or(usize::MAX);
                let of_column = column(values);
                if kind.starts_with("character")
                    && let Some(row) =
                        of_column.iter().position(|text| text.as_ref().is_some_and(|text| text.len() > most))
                {
                    return Err(at(
                        row + 1,
                        "the length of the data is longer than the length defined in the table".to_owned(),
                    ));
                }
                if let Some(row) =
                    of_column.iter().position(|text| text.as_ref().is_some_and(|text| text.contains('\0')))
                {
                    return Err(at(row + 1, "invalid null byte".to_owned()));
                }
                texts.push(of_column);
            }
            for row in 0..batch.num_rows() {
                let values = texts.iter().map(|column| match &column[row] {
                    Some(text) => escaped(text),
                    None => "\\N".to_owned(),
                });
                lines.push(format!("{}\n", values.collect::<Vec<_>>().join("\t")));
            }
        }
        files.push((url.to_owned(), lines));
    }
    Ok(files)
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

/// Whether COPY reads values of a type of a file into a column.
fn is_of(column: &str, file: &DataType, is_serialized: bool) -> bool {
    let (name, arguments) = column.split_once('(').unwrap_or((column, ""));
    match (name, file) {
        ("boolean", DataType::Boolean)
        | ("smallint", DataType::Int16)
        | ("integer", DataType::Int32)
        | ("bigint", DataType::Int64)
        | ("real", DataType::Float32)
        | ("double precision", DataType::Float64)
        | ("character varying" | "character", DataType::Utf8)
        | ("varbyte", DataType::Binary)
        | ("date", DataType::Date32)
        | ("timestamp without time zone", DataType::Timestamp(..)) => true,
        ("numeric", DataType::Decimal128(precision, scale)) => arguments == format!("{precision},{scale})"),
        ("super", nested) => nested.is_nested() && is_serialized,
        _ => false,
    }
}

/// The texts of a column.
fn column(values: &ArrayRef) -> Vec<Option<String>> {
    let valid = |row: usize| values.is_valid(row);
    if values.data_type().is_nested() {
        let schema = Arc::new(Schema::new(vec![Field::new("v", values.data_type().clone(), true)]));
        let batch = RecordBatch::try_new(schema, vec![Arc::clone(values)]).expect("it has one column");
        let mut writer = LineDelimitedWriter::new(Vec::new());
        writer.write(&batch).expect("it is JSON");
        writer.finish().expect("it is JSON");
        let text = String::from_utf8(writer.into_inner()).expect("it is UTF-8");
        let value = |line: &str| {
            let parsed: serde_json::Value = serde_json::from_str(line).expect("it is JSON");
            parsed.get("v").map(ToString::to_string)
        };
        return text.lines().map(value).collect();
    }
    if let Some(bytes) = values.as_binary_opt::<i32>() {
        let hex = |value: &[u8]| value.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        return (0..bytes.len()).map(|row| valid(row).then(|| format!("\\x{}", hex(bytes.value(row))))).collect();
    }
    let options = FormatOptions::new();
    let shown = ArrayFormatter::try_new(values, &options).expect("it can be shown");
    (0..values.len()).map(|row| valid(row).then(|| shown.value(row).to_string())).collect()
}

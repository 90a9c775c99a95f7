//! WebHDFS, as a DataNode serves it: the bytes of files. The primary sends clients here.

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use futures::TryStreamExt;
use std::collections::HashMap;
use windlass_connectors::wfs::{self, FileWriter, Wfs, WfsError, WriteOptions};
use windlass_proto::v1::FileEntry;
use windlass_proto::v1::file_error::Kind;

type Parameters = HashMap<String, String>;

pub(crate) fn routes(wfs: Wfs) -> Router {
    Router::new().route("/webhdfs/v1/{*path}", any(answer)).with_state(wfs)
}

async fn answer(
    State(wfs): State<Wfs>,
    method: Method,
    Path(path): Path<String>,
    Query(parameters): Query<Parameters>,
    body: Body,
) -> Response {
    let path = format!("/{}", path.trim_matches('/'));
    let operation = parameters.get("op").map(|op| op.to_ascii_uppercase()).unwrap_or_default();
    let answered = match (method.as_str(), operation.as_str()) {
        ("GET", "OPEN") => open(&wfs, &path, &parameters).await,
        ("PUT", "CREATE") => create(&wfs, &path, &parameters, body).await,
        _ => {
            let message = "executors serve OPEN and CREATE; ask the primary for anything else".to_string();
            return refuse(StatusCode::BAD_REQUEST, "IllegalArgumentException", &message);
        }
    };
    answered.unwrap_or_else(|error| {
        let (status, exception) = match error.kind() {
            Some(Kind::NotFound) => (StatusCode::NOT_FOUND, "FileNotFoundException"),
            Some(Kind::AlreadyExists | Kind::IsFolder) => (StatusCode::FORBIDDEN, "FileAlreadyExistsException"),
            Some(Kind::QuotaExceeded) => (StatusCode::FORBIDDEN, "QuotaExceededException"),
            Some(Kind::Invalid) => (StatusCode::BAD_REQUEST, "IllegalArgumentException"),
            _ => (StatusCode::FORBIDDEN, "IOException"),
        };
        refuse(status, exception, &error.to_string())
    })
}

fn refuse(status: StatusCode, exception: &str, message: &str) -> Response {
    let exception = serde_json::json!({ "exception": exception, "javaClassName": exception, "message": message });
    (status, Json(serde_json::json!({ "RemoteException": exception }))).into_response()
}

async fn open(wfs: &Wfs, path: &str, parameters: &Parameters) -> Result<Response, WfsError> {
    let number = |name: &str| parameters.get(name).and_then(|text| text.parse::<u64>().ok());
    let located = wfs.locate(path, 0..u64::MAX).await?;
    let size = located.entry.as_ref().and_then(FileEntry::file_bytes).unwrap_or(0);
    let start = number("offset").unwrap_or(0).min(size);
    let end = number("length").map_or(size, |length| start.saturating_add(length).min(size));
    let bytes = wfs::read(wfs, located, start..end);
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_string()),
        (header::CONTENT_LENGTH, (end - start).to_string()),
    ];
    Ok((headers, Body::from_stream(bytes)).into_response())
}

async fn create(wfs: &Wfs, path: &str, parameters: &Parameters, body: Body) -> Result<Response, WfsError> {
    let number = |name: &str| parameters.get(name).and_then(|text| text.parse::<u64>().ok());
    let overwrite = parameters.get("overwrite").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let options = if overwrite { WriteOptions::default() } else { WriteOptions::new_file() };
    let replication = number("replication").and_then(|replication| replication.try_into().ok());
    let options = WriteOptions { replication, block_bytes: number("blocksize"), ..options };
    let mut writer = FileWriter::create(wfs, path, options).await?;
    let mut bytes = body.into_data_stream();
    loop {
        match bytes.try_next().await {
            Ok(Some(part)) => writer.write(part).await?,
            Ok(None) => break,
            // Dropped, nothing is left of the file.
            Err(error) => {
                let reason = format!("its bytes did not all come: {error}");
                return Err(WfsError::Unwritable { path: path.into(), reason });
            }
        }
    }
    writer.finish().await?;
    let location = format!("wfs://{path}");
    let location = header::HeaderValue::from_str(&location).unwrap_or(header::HeaderValue::from_static("wfs:///"));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)]).into_response())
}

//! The DataNode side of WebHDFS: the bytes of files. The primary sends clients here, with a ticket in the URL for their request.

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use futures::TryStreamExt;
use std::collections::HashMap;
use windlass_connectors::wfs::hadoop::{Parameters, TICKET, file_url};
use windlass_connectors::wfs::{self, FileWriter, Wfs, WfsError, WriteOptions};
use windlass_core::wfs::FsPath;
use windlass_proto::pass::KeyRing;
use windlass_proto::ticket::{Access, TicketError};
use windlass_proto::v1::FileEntry;
use windlass_proto::v1::file_error::Kind;

pub(crate) fn routes(wfs: Wfs, keys: KeyRing) -> Router {
    Router::new().route("/webhdfs/v1/{*path}", any(answer)).with_state((wfs, keys))
}

enum Refusal {
    /// The error in the request.
    Illegal(String),
    Files(WfsError),
    Ticket(TicketError),
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Refusal::Illegal(reason)
    }
}

impl From<WfsError> for Refusal {
    fn from(error: WfsError) -> Self {
        Refusal::Files(error)
    }
}

impl From<TicketError> for Refusal {
    fn from(error: TicketError) -> Self {
        Refusal::Ticket(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        const ILLEGAL: (StatusCode, &str) = (StatusCode::BAD_REQUEST, "java.lang.IllegalArgumentException");
        let ((status, class), message) = match self {
            Refusal::Illegal(reason) => (ILLEGAL, reason),
            Refusal::Ticket(error) => {
                let kind = match error {
                    TicketError::NoKey => (StatusCode::SERVICE_UNAVAILABLE, "org.apache.hadoop.ipc.RetriableException"),
                    TicketError::Missing { .. } | TicketError::Wrong { .. } | TicketError::Expired { .. } => {
                        (StatusCode::FORBIDDEN, "org.apache.hadoop.security.AccessControlException")
                    }
                };
                (kind, error.to_string())
            }
            Refusal::Files(error) => {
                let kind = match error.kind() {
                    Some(Kind::NotFound | Kind::IsFolder) => (StatusCode::NOT_FOUND, "java.io.FileNotFoundException"),
                    Some(Kind::AlreadyExists) => {
                        (StatusCode::FORBIDDEN, "org.apache.hadoop.fs.FileAlreadyExistsException")
                    }
                    Some(Kind::QuotaExceeded) => (StatusCode::FORBIDDEN, "org.apache.hadoop.fs.QuotaExceededException"),
                    Some(Kind::Invalid) => ILLEGAL,
                    _ => (StatusCode::FORBIDDEN, "java.io.IOException"),
                };
                (kind, error.to_string())
            }
        };
        let name = class.rsplit('.').next().unwrap_or(class);
        let exception = serde_json::json!({ "exception": name, "javaClassName": class, "message": message });
        (status, Json(serde_json::json!({ "RemoteException": exception }))).into_response()
    }
}

async fn answer(
    State((wfs, keys)): State<(Wfs, KeyRing)>,
    method: Method,
    Path(path): Path<String>,
    Query(parameters): Query<HashMap<String, String>>,
    body: Body,
) -> Response {
    let parameters = Parameters::new(parameters);
    let answered = match FsPath::parse(&path) {
        Err(error) => Err(error.to_string().into()),
        Ok(path) => obey(&wfs, &keys, method, &path, &parameters, body).await,
    };
    answered.unwrap_or_else(IntoResponse::into_response)
}

async fn obey(
    wfs: &Wfs,
    keys: &KeyRing,
    method: Method,
    path: &FsPath,
    parameters: &Parameters,
    body: Body,
) -> Result<Response, Refusal> {
    let operation = parameters.operation();
    let access = match (method.as_str(), operation.as_str()) {
        ("GET", "OPEN") => Access::Read,
        ("PUT", "CREATE") | ("POST", "APPEND") => Access::Write,
        _ => {
            let reason = "executors serve OPEN, CREATE and APPEND; ask the primary for anything else";
            return Err(reason.to_string().into());
        }
    };
    keys.check_file_ticket(parameters.text(TICKET).unwrap_or_default(), access, path)?;
    match operation.as_str() {
        "OPEN" => open(wfs, path.as_str(), parameters).await,
        "CREATE" => create(wfs, path, parameters, body).await,
        _ => append(wfs, path.as_str(), parameters, body).await,
    }
}

async fn open(wfs: &Wfs, path: &str, parameters: &Parameters) -> Result<Response, Refusal> {
    let (offset, length): (Option<u64>, Option<u64>) = (parameters.number("offset")?, parameters.number("length")?);
    let located = wfs.locate(path, 0..u64::MAX).await?;
    let size = located.entry.as_ref().and_then(FileEntry::file_bytes).unwrap_or(0);
    let start = offset.unwrap_or(0).min(size);
    let end = length.map_or(size, |length| start.saturating_add(length).min(size));
    let bytes = wfs::read(wfs, located, start..end);
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_string()),
        (header::CONTENT_LENGTH, (end - start).to_string()),
    ];
    Ok((headers, Body::from_stream(bytes)).into_response())
}

async fn create(wfs: &Wfs, path: &FsPath, parameters: &Parameters, body: Body) -> Result<Response, Refusal> {
    let options = if parameters.flag("overwrite")? { WriteOptions::default() } else { WriteOptions::new_file() };
    let (replication, block_bytes) = (parameters.replication()?, parameters.number("blocksize")?);
    let options = WriteOptions { replication, block_bytes, ..options };
    write(FileWriter::create(wfs, path.as_str(), options).await?, path.as_str(), body).await?;
    let location = header::HeaderValue::from_str(&file_url(path));
    let location = location.unwrap_or(header::HeaderValue::from_static("wfs:///"));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)]).into_response())
}

/// Appends to a file. The data becomes visible when all of it is durable, behind the content at the start of the append.
async fn append(wfs: &Wfs, path: &str, parameters: &Parameters, body: Body) -> Result<Response, Refusal> {
    let block_bytes = parameters.number("blocksize")?;
    let options = WriteOptions { block_bytes, ..WriteOptions::append_to(wfs.stat(path).await?.id) };
    write(FileWriter::create(wfs, path, options).await?, path, body).await?;
    Ok(StatusCode::OK.into_response())
}

async fn write(mut writer: FileWriter, path: &str, body: Body) -> Result<(), WfsError> {
    let mut bytes = body.into_data_stream();
    loop {
        match bytes.try_next().await {
            Ok(Some(part)) => writer.write(part).await?,
            Ok(None) => break,
            // Drop leaves nothing of it.
            Err(error) => {
                let reason = format!("its bytes did not all come: {error}");
                return Err(WfsError::Unwritable { path: path.into(), reason });
            }
        }
    }
    writer.finish().await.map(drop)
}

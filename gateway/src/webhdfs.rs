//! WebHDFS: the files of `wfs://` for clients that speak Hadoop's REST protocol (hadoop.apache.org, "WebHDFS REST API").
//!
//! | method | operations |
//! | --- | --- |
//! | `GET` | `GETFILESTATUS`, `LISTSTATUS`, `LISTSTATUS_BATCH`, `GETCONTENTSUMMARY`, `GETHOMEDIRECTORY`, `OPEN` |
//! | `PUT` | `MKDIRS`, `RENAME`, `SETREPLICATION`, `CREATE` |
//! | `POST` | `APPEND` |
//! | `DELETE` | `DELETE` |
//!
//! Executors send and receive the bytes: the answer to `OPEN`, `CREATE` and `APPEND` is an address, as in HDFS. Attributes that are not
//! stored are refused rather than silently dropped: owners and permissions, because there are no users yet, and times.
//!
//! Requests have no names here, unlike others (`core/src/wfs/outcome.rs`). A retry after a lost answer is a new request.

use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Extension, Json, Router};
use serde_json::{Value, json};
use std::collections::HashMap;
use windlass_connectors::wfs::hadoop::Parameters;
use windlass_core::access::Principal;
use windlass_core::wfs::FsPath;
use windlass_scheduler::services::files::{Access, EntryKind, EntryView, Files, FilesError};

/// Entries in one page of `LISTSTATUS_BATCH`.
const PAGE: usize = 1_000;
/// The permissions of every file and, in `FOLDER_PERMISSION`, of every folder.
const FILE_PERMISSION: &str = "644";
const FOLDER_PERMISSION: &str = "755";
/// The block size of a folder, and of files whose blocks have no other size.
const BLOCK_BYTES: u64 = 128 << 20;

struct Asked {
    files: Files,
    by: Principal,
}

/// HDFS's answer to a request that fails.
struct Refusal {
    status: StatusCode,
    exception: &'static str,
    message: String,
}

impl Refusal {
    fn unsupported(message: &str) -> Refusal {
        let exception = "UnsupportedOperationException";
        Refusal { status: StatusCode::BAD_REQUEST, exception, message: message.into() }
    }
}

/// Converts a message about a malformed request.
impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Refusal { status: StatusCode::BAD_REQUEST, exception: "IllegalArgumentException", message }
    }
}

impl From<FilesError> for Refusal {
    fn from(error: FilesError) -> Self {
        let (status, exception) = match &error {
            FilesError::NotFound(_) => (StatusCode::NOT_FOUND, "FileNotFoundException"),
            FilesError::AlreadyExists(_) | FilesError::IsFolder(_) => {
                (StatusCode::FORBIDDEN, "FileAlreadyExistsException")
            }
            FilesError::NotFolder(_) => (StatusCode::FORBIDDEN, "ParentNotDirectoryException"),
            FilesError::NotEmpty(_) => (StatusCode::FORBIDDEN, "PathIsNotEmptyDirectoryException"),
            FilesError::QuotaExceeded(_) => (StatusCode::FORBIDDEN, "QuotaExceededException"),
            FilesError::Invalid(_) => (StatusCode::BAD_REQUEST, "IllegalArgumentException"),
            FilesError::Refused(_) => (StatusCode::FORBIDDEN, "IOException"),
            FilesError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "RetriableException"),
        };
        Refusal { status, exception, message: error.to_string() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let package = match self.exception {
            "FileNotFoundException" | "IOException" => "java.io",
            "IllegalArgumentException" | "UnsupportedOperationException" => "java.lang",
            _ => "org.apache.hadoop.fs",
        };
        let exception = json!({
            "exception": self.exception, "javaClassName": format!("{package}.{}", self.exception), "message": self.message,
        });
        (self.status, Json(json!({ "RemoteException": exception }))).into_response()
    }
}

pub(crate) fn routes(files: Files) -> Router {
    let root = |state, by, method, query| answer(state, by, method, Path(String::new()), query);
    Router::new()
        .route("/webhdfs/v1", any(root))
        .route("/webhdfs/v1/", any(root))
        .route("/webhdfs/v1/{*path}", any(answer))
        .with_state(files)
}

async fn answer(
    State(files): State<Files>,
    Extension(by): Extension<Principal>,
    method: Method,
    Path(path): Path<String>,
    Query(parameters): Query<HashMap<String, String>>,
) -> Response {
    let parameters = Parameters::new(parameters);
    let asked = Asked { files, by };
    let answered = match FsPath::parse(&path) {
        Ok(path) => asked.answer(method.as_str(), &path, &parameters).await,
        Err(error) => Err(error.to_string().into()),
    };
    answered.unwrap_or_else(IntoResponse::into_response)
}

impl Asked {
    async fn answer(&self, method: &str, path: &FsPath, parameters: &Parameters) -> Result<Response, Refusal> {
        match (method, parameters.operation().as_str()) {
            ("GET", "GETFILESTATUS") => self.status(path).await,
            ("GET", "LISTSTATUS") => self.list(path).await,
            ("GET", "LISTSTATUS_BATCH") => self.list_batch(path, parameters.text("startafter")).await,
            ("GET", "GETCONTENTSUMMARY") => self.summary(path).await,
            ("GET", "GETHOMEDIRECTORY") => Ok(Json(json!({ "Path": "/" })).into_response()),
            ("GET", "OPEN") => self.open(path, parameters).await,
            ("PUT", "MKDIRS") => {
                of_permission(parameters, FOLDER_PERMISSION)?;
                self.files.make_folder(&self.by, path).await?;
                Ok(done(true))
            }
            ("PUT", "RENAME") => self.rename(path, parameters).await,
            ("PUT", "SETREPLICATION") => self.set_replication(path, parameters).await,
            ("PUT", "CREATE") => {
                of_permission(parameters, FILE_PERMISSION)?;
                self.create(path, parameters).await
            }
            ("POST", "APPEND") => self.append(path, parameters).await,
            ("DELETE", "DELETE") => self.delete(path, parameters).await,
            ("PUT", "SETPERMISSION" | "SETOWNER") => {
                Err(Refusal::unsupported("wfs:// keeps no owners and permissions: there are no users yet"))
            }
            ("PUT", "SETTIMES") => Err(Refusal::unsupported("the time of a file of wfs:// is that of its last write")),
            (_, "CONCAT" | "TRUNCATE") => {
                Err(Refusal::unsupported("files of wfs:// are written once and appended to: write the file again"))
            }
            (method, operation) => Err(format!("{method} has no operation \"{operation}\" here").into()),
        }
    }

    async fn status(&self, path: &FsPath) -> Result<Response, Refusal> {
        let entry = self.files.stat(&self.by, path).await?;
        Ok(Json(json!({ "FileStatus": file_status(&entry, "") })).into_response())
    }

    async fn list(&self, path: &FsPath) -> Result<Response, Refusal> {
        let entry = self.files.stat(&self.by, path).await?;
        let statuses: Vec<Value> = match entry.is_folder() {
            false => vec![file_status(&entry, "")],
            true => {
                let held = self.files.list(&self.by, path, None, usize::MAX).await?;
                held.iter().map(|entry| file_status(entry, entry.name())).collect()
            }
        };
        Ok(Json(json!({ "FileStatuses": { "FileStatus": statuses } })).into_response())
    }

    async fn list_batch(&self, path: &FsPath, after: Option<&str>) -> Result<Response, Refusal> {
        let held = match self.files.stat(&self.by, path).await?.kind {
            EntryKind::Folder { files, folders, .. } => files + folders,
            EntryKind::File { .. } => 0,
        };
        let page = self.files.list(&self.by, path, after, PAGE).await?;
        let statuses: Vec<Value> = page.iter().map(|entry| file_status(entry, entry.name())).collect();
        // This is an upper bound. HDFS returns how many are left, and clients ask as long as some are.
        let remaining = if page.len() < PAGE { 0 } else { held.saturating_sub(page.len() as u64) };
        let listing = json!({
            "partialListing": { "FileStatuses": { "FileStatus": statuses } }, "remainingEntries": remaining,
        });
        Ok(Json(json!({ "DirectoryListing": listing })).into_response())
    }

    async fn summary(&self, path: &FsPath) -> Result<Response, Refusal> {
        let limit = |limit: Option<u64>| limit.map_or(json!(-1), |limit| json!(limit));
        let summary = match self.files.stat(&self.by, path).await?.kind {
            EntryKind::File { bytes, replicated_bytes, .. } => json!({
                "directoryCount": 0, "fileCount": 1, "length": bytes, "quota": -1, "spaceQuota": -1,
                "spaceConsumed": replicated_bytes,
            }),
            EntryKind::Folder { files, folders, bytes, replicated_bytes, quota_files, quota_bytes } => json!({
                "directoryCount": folders + 1, "fileCount": files, "length": bytes,
                "quota": limit(quota_files), "spaceQuota": limit(quota_bytes), "spaceConsumed": replicated_bytes,
            }),
        };
        Ok(Json(json!({ "ContentSummary": summary })).into_response())
    }

    /// Renames as Hadoop's FileSystem contract says: false, not an error, if something is in the way or missing; moves into an existing
    /// folder; true if there is nothing to do.
    async fn rename(&self, from: &FsPath, parameters: &Parameters) -> Result<Response, Refusal> {
        let mut to = parameters.destination()?;
        if self.files.stat(&self.by, &to).await.is_ok_and(|entry| entry.is_folder()) {
            let into = format!("{}/{}", to.as_str().trim_end_matches('/'), from.name().unwrap_or_default());
            to = FsPath::parse(&into).map_err(|error| error.to_string())?;
        }
        match self.files.rename(&self.by, from, &to).await {
            Ok(()) => Ok(done(true)),
            Err(
                FilesError::NotFound(_)
                | FilesError::AlreadyExists(_)
                | FilesError::IsFolder(_)
                | FilesError::NotFolder(_)
                | FilesError::Invalid(_),
            ) => Ok(done(false)),
            Err(error) => Err(error.into()),
        }
    }

    async fn set_replication(&self, path: &FsPath, parameters: &Parameters) -> Result<Response, Refusal> {
        let replication = parameters.replication()?.unwrap_or(3);
        if self.files.stat(&self.by, path).await?.is_folder() {
            return Ok(done(false));
        }
        self.files.set_replication(&self.by, path, replication).await?;
        Ok(done(true))
    }

    async fn delete(&self, path: &FsPath, parameters: &Parameters) -> Result<Response, Refusal> {
        match self.files.remove(&self.by, path, parameters.flag("recursive")?).await {
            Ok(()) => Ok(done(true)),
            Err(FilesError::NotFound(_)) => Ok(done(false)),
            Err(error) => Err(error.into()),
        }
    }

    async fn open(&self, path: &FsPath, parameters: &Parameters) -> Result<Response, Refusal> {
        let offset: u64 = parameters.number("offset")?.unwrap_or(0);
        parameters.number::<u64>("length")?;
        let located = self.files.locate(&self.by, path, offset).await;
        let (size, holder) = located.map_err(|error| not_a_file(path, error))?;
        if offset > size {
            return Err(format!("{path} ends at byte {size}, and byte {offset} was asked for").into());
        }
        self.redirect(Access::Read, path, parameters, holder).await
    }

    /// Checks everything that it can before the client sends the bytes.
    async fn create(&self, path: &FsPath, parameters: &Parameters) -> Result<Response, Refusal> {
        parameters.replication()?;
        parameters.number::<u64>("blocksize")?;
        let overwrite = parameters.flag("overwrite")?;
        match self.files.stat(&self.by, path).await {
            Ok(entry) if entry.is_folder() || !overwrite => {
                return Err(Refusal {
                    status: StatusCode::FORBIDDEN,
                    exception: "FileAlreadyExistsException",
                    message: format!("{path} exists already"),
                });
            }
            Ok(_) => {}
            Err(FilesError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        self.redirect(Access::Write, path, parameters, None).await
    }

    async fn append(&self, path: &FsPath, parameters: &Parameters) -> Result<Response, Refusal> {
        match self.files.stat(&self.by, path).await?.is_folder() {
            false => self.redirect(Access::Write, path, parameters, None).await,
            true => Err(is_a_folder(path)),
        }
    }

    /// Redirects to `holder`, or else to any executor, with the ticket that it requires.
    async fn redirect(
        &self,
        access: Access,
        path: &FsPath,
        parameters: &Parameters,
        holder: Option<String>,
    ) -> Result<Response, Refusal> {
        let address = match holder {
            Some(holder) => Some(holder),
            None => self.files.any_holder(&self.by).await,
        };
        let retriable = |message: String| Refusal {
            status: StatusCode::SERVICE_UNAVAILABLE,
            exception: "RetriableException",
            message,
        };
        let address = address.ok_or_else(|| retriable("no core executor is attached".into()))?;
        let ticket = self.files.ticket(&self.by, access, path);
        let location = parameters.redirect(&address, path, &ticket);
        let location = location.map_err(retriable)?.to_string();
        if parameters.flag("noredirect")? {
            return Ok(Json(json!({ "Location": location })).into_response());
        }
        Ok((StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response())
    }
}

fn is_a_folder(path: &FsPath) -> Refusal {
    let message = format!("{path} is a folder, and not a file");
    Refusal { status: StatusCode::NOT_FOUND, exception: "FileNotFoundException", message }
}

fn not_a_file(path: &FsPath, error: FilesError) -> Refusal {
    match error {
        FilesError::IsFolder(_) => is_a_folder(path),
        error => error.into(),
    }
}

fn done(done: bool) -> Response {
    Json(json!({ "boolean": done })).into_response()
}

/// Accepts only the permissions that files have, because others are not stored. Hadoop's clients ask for these unless they are
/// configured otherwise.
fn of_permission(parameters: &Parameters, kept: &str) -> Result<(), Refusal> {
    match parameters.text("permission") {
        Some(asked) if asked.trim_start_matches('0') != kept => Err(Refusal::unsupported(&format!(
            "wfs:// keeps no permissions, and has {kept} here: leave out permission={asked}"
        ))),
        _ => Ok(()),
    }
}

fn file_status(entry: &EntryView, suffix: &str) -> Value {
    let (kind, length, replication, children, permission) = match entry.kind {
        EntryKind::File { bytes, replication, .. } => ("FILE", bytes, replication, 0, FILE_PERMISSION),
        EntryKind::Folder { files, folders, .. } => ("DIRECTORY", 0, 0, files + folders, FOLDER_PERMISSION),
    };
    json!({
        "accessTime": entry.modified_ms, "blockSize": if kind == "FILE" { BLOCK_BYTES } else { 0 },
        "childrenNum": children, "fileId": entry.id, "group": "windlass", "length": length,
        "modificationTime": entry.modified_ms, "owner": "windlass", "pathSuffix": suffix, "permission": permission,
        "replication": replication, "storagePolicy": 0, "type": kind,
    })
}

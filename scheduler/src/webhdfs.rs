//! WebHDFS: the files of `wfs://` for clients that speak Hadoop's REST protocol (hadoop.apache.org, "WebHDFS REST API").
//!
//! | method | operations |
//! | --- | --- |
//! | `GET` | `GETFILESTATUS`, `LISTSTATUS`, `LISTSTATUS_BATCH`, `GETCONTENTSUMMARY`, `GETHOMEDIRECTORY`, `OPEN` |
//! | `PUT` | `MKDIRS`, `RENAME`, `SETREPLICATION`, `CREATE` |
//! | `POST` | `APPEND` |
//! | `DELETE` | `DELETE` |
//!
//! Bytes come from executors and go there: `OPEN`, `CREATE` and `APPEND` are answered with where, as HDFS does it. What is not kept is
//! refused rather than said to be done: owners and permissions, for there are no users yet, and times.
//!
//! Requests have no names here, as others have (`core/src/wfs/outcome.rs`): a client that asks again after a lost answer asks anew.

use crate::driver::{Driver, ExecutorEntry, Standing};
use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use windlass_connectors::wfs::hadoop::Parameters;
use windlass_connectors::wfs::{Wfs, WfsError};
use windlass_core::wfs::FsPath;
use windlass_proto::v1;
use windlass_proto::v1::file_error::Kind;
use windlass_proto::v1::file_request::Ask;

/// Entries in one page of `LISTSTATUS_BATCH`, and that are asked for at a time.
const PAGE: u32 = 1_000;
/// What every file and every folder has.
const FILE_PERMISSION: &str = "644";
const FOLDER_PERMISSION: &str = "755";
/// Of a folder, and of files whose blocks were given no other size.
const BLOCK_BYTES: u64 = 128 << 20;

struct Service {
    wfs: Wfs,
    driver: Driver,
}

/// An answer of HDFS to what cannot be done.
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

/// What is wrong with a request.
impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Refusal { status: StatusCode::BAD_REQUEST, exception: "IllegalArgumentException", message }
    }
}

impl From<WfsError> for Refusal {
    fn from(error: WfsError) -> Self {
        let (status, exception) = match error.kind() {
            Some(Kind::NotFound) => (StatusCode::NOT_FOUND, "FileNotFoundException"),
            Some(Kind::AlreadyExists | Kind::IsFolder) => (StatusCode::FORBIDDEN, "FileAlreadyExistsException"),
            Some(Kind::NotFolder) => (StatusCode::FORBIDDEN, "ParentNotDirectoryException"),
            Some(Kind::NotEmpty) => (StatusCode::FORBIDDEN, "PathIsNotEmptyDirectoryException"),
            Some(Kind::QuotaExceeded) => (StatusCode::FORBIDDEN, "QuotaExceededException"),
            Some(Kind::Invalid) => (StatusCode::BAD_REQUEST, "IllegalArgumentException"),
            Some(_) => (StatusCode::FORBIDDEN, "IOException"),
            None => (StatusCode::SERVICE_UNAVAILABLE, "RetriableException"),
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

pub(crate) fn routes(wfs: Wfs, driver: Driver) -> Router {
    let root = |state, method, query| answer(state, method, Path(String::new()), query);
    Router::new()
        .route("/webhdfs/v1", any(root))
        .route("/webhdfs/v1/", any(root))
        .route("/webhdfs/v1/{*path}", any(answer))
        .with_state(Arc::new(Service { wfs, driver }))
}

async fn answer(
    State(service): State<Arc<Service>>,
    method: Method,
    Path(path): Path<String>,
    Query(parameters): Query<HashMap<String, String>>,
) -> Response {
    let parameters = Parameters::new(parameters);
    let answered = match FsPath::parse(&path) {
        Ok(path) => service.answer(method.as_str(), &path, &parameters).await,
        Err(error) => Err(error.to_string().into()),
    };
    answered.unwrap_or_else(IntoResponse::into_response)
}

impl Service {
    async fn answer(&self, method: &str, path: &FsPath, parameters: &Parameters) -> Result<Response, Refusal> {
        let at = path.as_str();
        match (method, parameters.operation().as_str()) {
            ("GET", "GETFILESTATUS") => self.status(at).await,
            ("GET", "LISTSTATUS") => self.list(at).await,
            ("GET", "LISTSTATUS_BATCH") => self.list_batch(at, parameters.text("startafter")).await,
            ("GET", "GETCONTENTSUMMARY") => self.summary(at).await,
            ("GET", "GETHOMEDIRECTORY") => Ok(Json(json!({ "Path": "/" })).into_response()),
            ("GET", "OPEN") => self.open(path, parameters).await,
            ("PUT", "MKDIRS") => {
                of_permission(parameters, FOLDER_PERMISSION)?;
                let ask = Ask::Mkdir(v1::MkdirRequest { path: at.into(), parents: true });
                self.act(ask).await
            }
            ("PUT", "RENAME") => self.rename(path, parameters).await,
            ("PUT", "SETREPLICATION") => self.set_replication(at, parameters).await,
            ("PUT", "CREATE") => {
                of_permission(parameters, FILE_PERMISSION)?;
                self.create(path, parameters).await
            }
            ("POST", "APPEND") => self.append(path, parameters).await,
            ("DELETE", "DELETE") => self.delete(at, parameters).await,
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

    async fn status(&self, path: &str) -> Result<Response, Refusal> {
        let entry = self.wfs.stat(path).await?;
        Ok(Json(json!({ "FileStatus": file_status(&entry, "") })).into_response())
    }

    async fn list(&self, path: &str) -> Result<Response, Refusal> {
        let entry = self.wfs.stat(path).await?;
        let mut statuses = Vec::new();
        if entry.file_bytes().is_some() {
            statuses.push(file_status(&entry, ""));
        } else {
            let mut after = None;
            loop {
                let page = self.wfs.list(path, false, after, PAGE).await?;
                statuses.extend(page.iter().map(|entry| file_status(entry, name(&entry.path))));
                match page.last().filter(|_| page.len() == PAGE as usize) {
                    Some(last) => after = Some(last.path.clone()),
                    None => break,
                }
            }
        }
        Ok(Json(json!({ "FileStatuses": { "FileStatus": statuses } })).into_response())
    }

    async fn list_batch(&self, path: &str, after: Option<&str>) -> Result<Response, Refusal> {
        let after = after.map(|after| format!("{}/{}", path.trim_end_matches('/'), after.trim_start_matches('/')));
        let held = self.wfs.stat(path).await?.folder().map_or(0, |folder| folder.files + folder.folders);
        let page = self.wfs.list(path, false, after, PAGE).await?;
        let statuses: Vec<Value> = page.iter().map(|entry| file_status(entry, name(&entry.path))).collect();
        // At most so many: HDFS says how many are left, and clients ask for as long as there are some.
        let remaining = if page.len() < PAGE as usize { 0 } else { held.saturating_sub(page.len() as u64) };
        let listing = json!({
            "partialListing": { "FileStatuses": { "FileStatus": statuses } }, "remainingEntries": remaining,
        });
        Ok(Json(json!({ "DirectoryListing": listing })).into_response())
    }

    async fn summary(&self, path: &str) -> Result<Response, Refusal> {
        let entry = self.wfs.stat(path).await?;
        let limit = |limit: Option<u64>| limit.map_or(json!(-1), |limit| json!(limit));
        let summary = match (&entry.detail, entry.folder()) {
            (Some(v1::file_entry::Detail::File(file)), _) => json!({
                "directoryCount": 0, "fileCount": 1, "length": file.bytes, "quota": -1, "spaceQuota": -1,
                "spaceConsumed": file.replicated_bytes,
            }),
            (_, folder) => {
                let folder = folder.cloned().unwrap_or_default();
                json!({
                    "directoryCount": folder.folders + 1, "fileCount": folder.files, "length": folder.bytes,
                    "quota": limit(folder.quota_files), "spaceQuota": limit(folder.quota_bytes),
                    "spaceConsumed": folder.replicated_bytes,
                })
            }
        };
        Ok(Json(json!({ "ContentSummary": summary })).into_response())
    }

    async fn act(&self, ask: Ask) -> Result<Response, Refusal> {
        self.wfs.act(ask).await?;
        Ok(Json(json!({ "boolean": true })).into_response())
    }

    /// As the contract of Hadoop's FileSystem has it: no, rather than an error, where something is in the way or missing; into a folder
    /// that is there; and yes where nothing is to be done.
    async fn rename(&self, from: &FsPath, parameters: &Parameters) -> Result<Response, Refusal> {
        let mut to = parameters.destination()?.as_str().to_string();
        if self.wfs.stat(&to).await.is_ok_and(|entry| entry.folder().is_some()) {
            to = format!("{}/{}", to.trim_end_matches('/'), from.name().unwrap_or_default());
        }
        let from = from.as_str().to_string();
        let ask = Ask::Rename(v1::RenameRequest { from, to, overwrite: false, parents: false, prune: false });
        let renamed = match self.wfs.act(ask).await {
            Ok(()) => true,
            Err(error) => match error.kind() {
                Some(Kind::NotFound | Kind::AlreadyExists | Kind::IsFolder | Kind::NotFolder | Kind::Invalid) => false,
                _ => return Err(error.into()),
            },
        };
        Ok(Json(json!({ "boolean": renamed })).into_response())
    }

    async fn set_replication(&self, path: &str, parameters: &Parameters) -> Result<Response, Refusal> {
        let replication = parameters.replication()?.unwrap_or(3);
        if self.wfs.stat(path).await?.folder().is_some() {
            return Ok(Json(json!({ "boolean": false })).into_response());
        }
        self.act(Ask::SetReplication(v1::SetReplicationRequest { path: path.into(), replication })).await
    }

    async fn delete(&self, path: &str, parameters: &Parameters) -> Result<Response, Refusal> {
        let recursive = parameters.flag("recursive")?;
        let ask = Ask::Delete(v1::DeleteRequest { path: path.into(), recursive, trash: false, prune: false });
        match self.wfs.act(ask).await {
            Ok(()) => Ok(Json(json!({ "boolean": true })).into_response()),
            Err(error) if error.kind() == Some(Kind::NotFound) => Ok(Json(json!({ "boolean": false })).into_response()),
            Err(error) => Err(error.into()),
        }
    }

    async fn open(&self, path: &FsPath, parameters: &Parameters) -> Result<Response, Refusal> {
        let offset: u64 = parameters.number("offset")?.unwrap_or(0);
        parameters.number::<u64>("length")?;
        let located = self.wfs.locate(path.as_str(), offset..offset.saturating_add(1)).await;
        let located = located.map_err(|error| not_a_file(path, error))?;
        let size = located.entry.as_ref().and_then(v1::FileEntry::file_bytes).unwrap_or(0);
        if offset > size {
            return Err(format!("{path} ends at byte {size}, and byte {offset} was asked for").into());
        }
        let holder = located.blocks.into_iter().flat_map(|block| block.holders).next().map(|holder| holder.address);
        self.redirect(path, parameters, holder).await
    }

    /// Whatever can be known to be wrong is said before the bytes are sent.
    async fn create(&self, path: &FsPath, parameters: &Parameters) -> Result<Response, Refusal> {
        parameters.replication()?;
        parameters.number::<u64>("blocksize")?;
        let overwrite = parameters.flag("overwrite")?;
        match self.wfs.stat(path.as_str()).await {
            Ok(entry) if entry.folder().is_some() || !overwrite => {
                return Err(Refusal {
                    status: StatusCode::FORBIDDEN,
                    exception: "FileAlreadyExistsException",
                    message: format!("{path} exists already"),
                });
            }
            Ok(_) => {}
            Err(error) if error.kind() == Some(Kind::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        self.redirect(path, parameters, None).await
    }

    async fn append(&self, path: &FsPath, parameters: &Parameters) -> Result<Response, Refusal> {
        match self.wfs.stat(path.as_str()).await?.folder() {
            None => self.redirect(path, parameters, None).await,
            Some(_) => Err(is_a_folder(path)),
        }
    }

    /// To `holder`, or else to any executor.
    async fn redirect(
        &self,
        path: &FsPath,
        parameters: &Parameters,
        holder: Option<String>,
    ) -> Result<Response, Refusal> {
        let address = match holder {
            Some(holder) => Some(holder),
            None => {
                let stays = |entry: &ExecutorEntry| !matches!(entry.state, Standing::Draining | Standing::Leaving);
                let is_core = |entry: &ExecutorEntry| entry.register.role == i32::from(v1::Role::Core);
                let mut all = self.driver.executors().await;
                all.retain(|entry| is_core(entry) && stays(entry));
                let turn = uuid::Uuid::new_v4().as_u64_pair().0 as usize;
                all.get(turn % all.len().max(1)).map(|entry| entry.register.address.clone())
            }
        };
        let retriable = |message: String| Refusal {
            status: StatusCode::SERVICE_UNAVAILABLE,
            exception: "RetriableException",
            message,
        };
        let address = address.ok_or_else(|| retriable("no core executor is attached".into()))?;
        let location = parameters.redirect(&address, path).map_err(retriable)?.to_string();
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

fn not_a_file(path: &FsPath, error: WfsError) -> Refusal {
    match error.kind() {
        Some(Kind::IsFolder) => is_a_folder(path),
        _ => error.into(),
    }
}

/// What is asked for is what there is: other permissions are not kept, so nobody is told that they are. Hadoop's clients ask for these unless
/// they are told otherwise.
fn of_permission(parameters: &Parameters, kept: &str) -> Result<(), Refusal> {
    match parameters.text("permission") {
        Some(asked) if asked.trim_start_matches('0') != kept => Err(Refusal::unsupported(&format!(
            "wfs:// keeps no permissions, and has {kept} here: leave out permission={asked}"
        ))),
        _ => Ok(()),
    }
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

fn file_status(entry: &v1::FileEntry, suffix: &str) -> Value {
    let (kind, length, replication, children, permission) = match (&entry.detail, entry.folder()) {
        (Some(v1::file_entry::Detail::File(file)), _) => ("FILE", file.bytes, file.replication, 0, FILE_PERMISSION),
        (_, folder) => ("DIRECTORY", 0, 0, folder.map_or(0, |folder| folder.files + folder.folders), FOLDER_PERMISSION),
    };
    json!({
        "accessTime": entry.modified_ms, "blockSize": if kind == "FILE" { BLOCK_BYTES } else { 0 },
        "childrenNum": children, "fileId": entry.id, "group": "windlass", "length": length,
        "modificationTime": entry.modified_ms, "owner": "windlass", "pathSuffix": suffix, "permission": permission,
        "replication": replication, "storagePolicy": 0, "type": kind,
    })
}

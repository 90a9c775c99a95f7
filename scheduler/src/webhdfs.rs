//! WebHDFS: the files of `wfs://` for clients that speak Hadoop's REST protocol (hadoop.apache.org, "WebHDFS REST API").
//!
//! | method | operations |
//! | --- | --- |
//! | `GET` | `GETFILESTATUS`, `LISTSTATUS`, `LISTSTATUS_BATCH`, `GETCONTENTSUMMARY`, `GETHOMEDIRECTORY`, `OPEN` |
//! | `PUT` | `MKDIRS`, `RENAME`, `SETREPLICATION`, `CREATE`; `SETPERMISSION`, `SETOWNER` and `SETTIMES` do nothing: there are no users yet |
//! | `DELETE` | `DELETE` |
//!
//! Bytes come from executors and go there: `OPEN` and `CREATE` are answered with where, as HDFS does it. Files are written once, so `APPEND`,
//! `CONCAT` and `TRUNCATE` are refused.

use crate::driver::{Driver, ExecutorEntry};
use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use url::Url;
use windlass_connectors::wfs::{Wfs, WfsError};
use windlass_proto::v1;
use windlass_proto::v1::file_error::Kind;
use windlass_proto::v1::file_request::Ask;

/// Entries in one page of `LISTSTATUS_BATCH`, and that are asked for at a time.
const PAGE: u32 = 1_000;
/// Of a folder, and of files whose blocks were given no other size.
const BLOCK_BYTES: u64 = 128 << 20;

struct Service {
    wfs: Wfs,
    driver: Driver,
}

type Parameters = HashMap<String, String>;

/// An answer of HDFS to what cannot be done.
struct Refusal {
    status: StatusCode,
    exception: &'static str,
    message: String,
}

impl Refusal {
    fn illegal(message: impl Into<String>) -> Refusal {
        Refusal { status: StatusCode::BAD_REQUEST, exception: "IllegalArgumentException", message: message.into() }
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
            "IllegalArgumentException" => "java.lang",
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
    Query(parameters): Query<Parameters>,
) -> Response {
    let path = format!("/{}", path.trim_matches('/'));
    let operation = parameters.get("op").map(|op| op.to_ascii_uppercase()).unwrap_or_default();
    let answered = match (method.as_str(), operation.as_str()) {
        ("GET", "GETFILESTATUS") => service.status(&path).await,
        ("GET", "LISTSTATUS") => service.list(&path).await,
        ("GET", "LISTSTATUS_BATCH") => service.list_batch(&path, parameters.get("startAfter")).await,
        ("GET", "GETCONTENTSUMMARY") => service.summary(&path).await,
        ("GET", "GETHOMEDIRECTORY") => Ok(Json(json!({ "Path": "/" })).into_response()),
        ("GET", "OPEN") => service.open(&path, &parameters).await,
        ("PUT", "MKDIRS") => {
            let ask = Ask::Mkdir(v1::MkdirRequest { path, parents: true });
            service.act(ask).await
        }
        ("PUT", "RENAME") => service.rename(path, &parameters).await,
        ("PUT", "SETREPLICATION") => service.set_replication(path, &parameters).await,
        ("PUT", "SETPERMISSION" | "SETOWNER" | "SETTIMES") => {
            service.wfs.stat(&path).await.map(|_| StatusCode::OK.into_response()).map_err(Refusal::from)
        }
        ("PUT", "CREATE") => service.create(&path, &parameters).await,
        ("DELETE", "DELETE") => service.delete(path, &parameters).await,
        (_, "APPEND" | "CONCAT" | "TRUNCATE") => Err(Refusal {
            status: StatusCode::FORBIDDEN,
            exception: "UnsupportedOperationException",
            message: "files of wfs:// are written once: write the file again".into(),
        }),
        (method, operation) => Err(Refusal::illegal(format!("{method} has no operation \"{operation}\" here"))),
    };
    answered.unwrap_or_else(IntoResponse::into_response)
}

impl Service {
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

    async fn list_batch(&self, path: &str, after: Option<&String>) -> Result<Response, Refusal> {
        let after = after.filter(|after| !after.is_empty());
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

    /// HDFS answers no, rather than with an error, where something is in the way; and moves into a folder that is there.
    async fn rename(&self, from: String, parameters: &Parameters) -> Result<Response, Refusal> {
        let to = parameters.get("destination").ok_or_else(|| Refusal::illegal("RENAME needs a destination"))?;
        let mut to = to.trim_end_matches('/').to_string();
        if self.wfs.stat(&to).await.is_ok_and(|entry| entry.folder().is_some()) {
            to = format!("{to}/{}", name(&from));
        }
        let ask = Ask::Rename(v1::RenameRequest { from, to, overwrite: false, parents: false, prune: false });
        match self.wfs.act(ask).await {
            Ok(()) => Ok(Json(json!({ "boolean": true })).into_response()),
            Err(error) if error.kind().is_some_and(|kind| kind != Kind::QuotaExceeded) => {
                Ok(Json(json!({ "boolean": false })).into_response())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn set_replication(&self, path: String, parameters: &Parameters) -> Result<Response, Refusal> {
        let replication = number(parameters, "replication")?.unwrap_or(3) as u32;
        if self.wfs.stat(&path).await?.folder().is_some() {
            return Ok(Json(json!({ "boolean": false })).into_response());
        }
        self.act(Ask::SetReplication(v1::SetReplicationRequest { path, replication })).await
    }

    async fn delete(&self, path: String, parameters: &Parameters) -> Result<Response, Refusal> {
        let recursive = parameters.get("recursive").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let ask = Ask::Delete(v1::DeleteRequest { path, recursive, trash: false, prune: false });
        match self.wfs.act(ask).await {
            Ok(()) => Ok(Json(json!({ "boolean": true })).into_response()),
            Err(error) if error.kind() == Some(Kind::NotFound) => Ok(Json(json!({ "boolean": false })).into_response()),
            Err(error) => Err(error.into()),
        }
    }

    async fn open(&self, path: &str, parameters: &Parameters) -> Result<Response, Refusal> {
        let offset = number(parameters, "offset")?.unwrap_or(0);
        let located = self.wfs.locate(path, offset..offset.saturating_add(1)).await?;
        let size = located.entry.as_ref().and_then(v1::FileEntry::file_bytes).unwrap_or(0);
        if offset > size {
            return Err(Refusal::illegal(format!("{path} ends at byte {size}, and byte {offset} was asked for")));
        }
        let holder = located.blocks.into_iter().flat_map(|block| block.holders).next().map(|holder| holder.address);
        self.redirect(path, parameters, holder)
    }

    async fn create(&self, path: &str, parameters: &Parameters) -> Result<Response, Refusal> {
        let overwrite = parameters.get("overwrite").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        match self.wfs.stat(path).await {
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
        self.redirect(path, parameters, None)
    }

    /// To `holder`, or else to any executor.
    fn redirect(&self, path: &str, parameters: &Parameters, holder: Option<String>) -> Result<Response, Refusal> {
        let any = || {
            let executors = self.driver.directory().entries();
            let live = |entry: &ExecutorEntry| entry.state == "live";
            let core = |entry: &&ExecutorEntry| entry.register.role == i32::from(v1::Role::Core) && live(entry);
            let all: Vec<&ExecutorEntry> = executors.iter().filter(core).collect();
            let turn = uuid::Uuid::new_v4().as_u64_pair().0 as usize;
            all.get(turn % all.len().max(1)).map(|entry| entry.register.address.clone())
        };
        let retriable = |message: String| Refusal {
            status: StatusCode::SERVICE_UNAVAILABLE,
            exception: "RetriableException",
            message,
        };
        let address = holder.or_else(any).ok_or_else(|| retriable("no core executor is attached".into()))?;
        let mut url = Url::parse(&format!("http://{address}")).map_err(|error| retriable(error.to_string()))?;
        url.set_path(&format!("/webhdfs/v1{path}"));
        let kept = parameters.iter().filter(|(name, _)| *name != "noredirect");
        url.query_pairs_mut().extend_pairs(kept);
        let location = url.to_string();
        if parameters.get("noredirect").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(Json(json!({ "Location": location })).into_response());
        }
        Ok((StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response())
    }
}

fn number(parameters: &Parameters, name: &str) -> Result<Option<u64>, Refusal> {
    let wrong = |text: &String| Refusal::illegal(format!("{name} is a number, and not \"{text}\""));
    parameters.get(name).map(|text| text.parse().map_err(|_| wrong(text))).transpose()
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

fn file_status(entry: &v1::FileEntry, suffix: &str) -> Value {
    let (kind, length, replication, children, permission) = match (&entry.detail, entry.folder()) {
        (Some(v1::file_entry::Detail::File(file)), _) => ("FILE", file.bytes, file.replication, 0, "644"),
        (_, folder) => ("DIRECTORY", 0, 0, folder.map_or(0, |folder| folder.files + folder.folders), "755"),
    };
    json!({
        "accessTime": entry.modified_ms, "blockSize": if kind == "FILE" { BLOCK_BYTES } else { 0 },
        "childrenNum": children, "fileId": entry.id, "group": "windlass", "length": length,
        "modificationTime": entry.modified_ms, "owner": "windlass", "pathSuffix": suffix, "permission": permission,
        "replication": replication, "storagePolicy": 0, "type": kind,
    })
}

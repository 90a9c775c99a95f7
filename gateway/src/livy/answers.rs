//! Sessions, statements and their outputs as Livy writes them.

use super::values::{self, StructType};
use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use axum::http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use utoipa::openapi::schema::{AdditionalProperties, AnyOfBuilder};
use utoipa::openapi::{ObjectBuilder, Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use windlass_scheduler::services::interactive::{self as service, OutputView, ROWS_OPTIONS, Rows, Shape};

/// The form of a table that `%table` of Livy puts out.
const TABLE: &str = "application/vnd.livy.table.v1+json";
const TEXT: &str = "text/plain";

/// Forms of an output that a request accepts besides JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Forms {
    text: bool,
    table: bool,
}

impl Forms {
    pub fn of(headers: &HeaderMap) -> Forms {
        let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut forms = Forms::default();
        for form in accepted.flat_map(|value| value.split(',')) {
            let form = form.split(';').next().unwrap_or_default().trim();
            forms.text |= form.eq_ignore_ascii_case(TEXT);
            forms.table |= form.eq_ignore_ascii_case(TABLE);
        }
        forms
    }
}

/// Language of code. `spark` is Scala; in a `shared` session each statement names its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Sql,
    #[serde(alias = "scala")]
    Spark,
    #[serde(alias = "python")]
    PySpark,
    #[serde(alias = "r")]
    SparkR,
    Shared,
}

impl From<service::Kind> for Kind {
    fn from(kind: service::Kind) -> Self {
        match kind {
            service::Kind::Sql => Kind::Sql,
            service::Kind::Spark => Kind::Spark,
            service::Kind::PySpark => Kind::PySpark,
            service::Kind::SparkR => Kind::SparkR,
            service::Kind::Shared => Kind::Shared,
        }
    }
}

impl From<Kind> for service::Kind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Sql => service::Kind::Sql,
            Kind::Spark => service::Kind::Spark,
            Kind::PySpark => service::Kind::PySpark,
            Kind::SparkR => service::Kind::SparkR,
            Kind::Shared => service::Kind::Shared,
        }
    }
}

/// `idle` and `busy` sessions are open. A session that has ended is `error` (it could not be opened), `dead` (somebody stopped it) or `killed` (a time limit
/// ended it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SessionState {
    Starting,
    Idle,
    Busy,
    ShuttingDown,
    Error,
    Dead,
    Killed,
}

impl From<service::SessionState> for SessionState {
    fn from(state: service::SessionState) -> Self {
        match state {
            service::SessionState::Starting => SessionState::Starting,
            service::SessionState::Idle => SessionState::Idle,
            service::SessionState::Busy => SessionState::Busy,
            service::SessionState::ShuttingDown => SessionState::ShuttingDown,
            service::SessionState::Error => SessionState::Error,
            service::SessionState::Dead => SessionState::Dead,
            service::SessionState::Killed => SessionState::Killed,
        }
    }
}

/// `available`, `error` and `cancelled` statements have ended. The output of an `available` one says whether its code succeeded; one that is lost with its
/// primary is `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StatementState {
    Waiting,
    Running,
    Cancelling,
    Available,
    Error,
    Cancelled,
}

impl From<service::StatementState> for StatementState {
    fn from(state: service::StatementState) -> Self {
        match state {
            service::StatementState::Waiting => StatementState::Waiting,
            service::StatementState::Running => StatementState::Running,
            service::StatementState::Cancelling => StatementState::Cancelling,
            service::StatementState::Available => StatementState::Available,
            service::StatementState::Error => StatementState::Error,
            service::StatementState::Cancelled => StatementState::Cancelled,
        }
    }
}

/// Writes the name of a state as JSON has it.
pub(super) fn named(state: impl Serialize, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    state.serialize(f)
}

impl std::fmt::Display for SessionState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        named(self, f)
    }
}

impl std::fmt::Display for StatementState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        named(self, f)
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Version {
    /// The version of Livy whose calls these are.
    #[schema(example = "0.8.0-incubating")]
    pub version: &'static str,
    pub user: &'static str,
    #[schema(example = "windlass-0.1.0")]
    pub revision: &'static str,
    pub branch: &'static str,
    pub date: &'static str,
    pub url: &'static str,
}

/// What was done, or why a request fails.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Message {
    pub msg: String,
}

/// Addresses of pages about an application. There are none.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AppInfo {
    #[schema(required)]
    driver_log_url: Option<String>,
    #[schema(required)]
    spark_ui_url: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Session {
    pub id: u32,
    #[schema(required)]
    name: Option<String>,
    /// Unique among all sessions that ever were.
    app_id: String,
    /// User that created it, if the request named one.
    #[schema(required)]
    owner: Option<String>,
    /// User for whom it acts.
    #[schema(required)]
    proxy_user: Option<String>,
    state: SessionState,
    kind: Kind,
    app_info: AppInfo,
    /// The last 10 lines of its log, oldest first.
    log: Vec<String>,
    /// Life of the session, as it was asked for.
    #[schema(required, example = "10h")]
    ttl: Option<String>,
    /// Time without use after which it ends, as it was asked for.
    #[schema(required, example = "30m")]
    idle_timeout: Option<String>,
    /// Seconds without a request after which it ends. 0: no limit.
    heartbeat_timeout_in_second: u32,
    /// Options, as they were asked for.
    conf: BTreeMap<String, String>,
    #[schema(required)]
    queue: Option<String>,
    /// As it was asked for, as are the others below.
    #[schema(required)]
    driver_memory: Option<String>,
    driver_cores: u32,
    #[schema(required)]
    executor_memory: Option<String>,
    executor_cores: u32,
    num_executors: u32,
    jars: Vec<String>,
    py_files: Vec<String>,
    files: Vec<String>,
    archives: Vec<String>,
}

impl From<service::SessionView> for Session {
    fn from(view: service::SessionView) -> Self {
        let asked = view.asked.as_ref().clone();
        Session {
            id: view.id,
            name: asked.name,
            app_id: view.uid,
            owner: Some(view.owner).filter(|user| !user.is_empty()),
            proxy_user: asked.proxy_user,
            state: view.state.into(),
            kind: asked.kind.into(),
            app_info: AppInfo::default(),
            log: view.log,
            ttl: asked.ttl,
            idle_timeout: asked.idle_timeout,
            heartbeat_timeout_in_second: asked.heartbeat_timeout_s,
            conf: asked.conf,
            queue: asked.queue,
            driver_memory: asked.driver_memory,
            driver_cores: asked.driver_cores.unwrap_or(0),
            executor_memory: asked.executor_memory,
            executor_cores: asked.executor_cores.unwrap_or(0),
            num_executors: asked.num_executors.unwrap_or(0),
            jars: asked.jars,
            py_files: asked.py_files,
            files: asked.files,
            archives: asked.archives,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionList {
    /// Position of the first one, from 0.
    pub from: usize,
    /// Number of all sessions.
    pub total: usize,
    pub sessions: Vec<Session>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StateOfSession {
    pub id: u32,
    pub state: SessionState,
}

/// Lines of a log.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Log {
    /// The session or the batch.
    pub id: u32,
    /// Position of the first line, from 0.
    pub from: usize,
    /// Number of all lines.
    pub total: usize,
    pub log: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Candidates {
    pub candidates: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Statement {
    /// Number in its session, from 0.
    pub id: u32,
    pub code: String,
    pub state: StatementState,
    /// Absent until it has ended.
    #[schema(required)]
    pub output: Option<Output>,
    /// Share of its tasks that have ended.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub progress: f64,
    /// Milliseconds since 1970-01-01T00:00:00Z; 0 before it began.
    pub started: u64,
    /// The same of its end.
    pub completed: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StatementList {
    /// Number of all statements that are kept.
    pub total_statements: usize,
    pub statements: Vec<Statement>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub(super) enum Output {
    Ok {
        /// The statement's number.
        execution_count: u32,
        data: OutputData,
    },
    Error {
        /// The statement's number.
        execution_count: u32,
        /// Kind of the error.
        #[schema(example = "Error")]
        ename: String,
        /// What was wrong, and how to mend it.
        evalue: String,
        traceback: Vec<String>,
        /// What the code printed before, as text.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        data: Option<Data>,
    },
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum OutputData {
    Sql(Data),
    /// What code of Python put out, by media types.
    Python(Box<RawValue>),
}

// Not derived, because that says that an output has exactly one of the two forms: the text of either has both.
impl PartialSchema for OutputData {
    fn schema() -> RefOr<Schema> {
        let python =
            ObjectBuilder::new().additional_properties(Some(AdditionalProperties::FreeForm(true))).description(Some(
                "Of code of Python, by media types: text, and any JSON, a table or an image, which its magics make.",
            ));
        AnyOfBuilder::new().item(Ref::from_schema_name(Data::name())).item(python).into()
    }
}

impl ToSchema for OutputData {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Data::name().into_owned(), Data::schema()));
        Data::schemas(schemas);
    }
}

/// An output in one form or more. A statement of SQL has the first one, and the others if the request accepts them; SQL inside code of other languages has text.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Data {
    #[serde(rename = "application/json", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    json: Option<Table>,
    #[serde(rename = "application/vnd.livy.table.v1+json", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    table: Option<LivyTable>,
    #[serde(rename = "text/plain", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    text: Option<String>,
}

/// Rows of a result.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Table {
    schema: StructType,
    /// A list for each row, with a value for each column. Numbers have all their digits.
    #[schema(value_type = Vec<Vec<Value>>)]
    data: Box<RawValue>,
    /// Present if there were more rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cut: Option<Cut>,
}

/// The limit that left rows out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "by", rename_all = "lowercase")]
pub(super) enum Cut {
    Rows {
        limit: u64,
        /// Option of `conf` that moves the limit.
        #[schema(example = "livy.rsc.sql.num-rows")]
        option: &'static str,
    },
    Bytes {
        limit: u64,
    },
}

impl From<service::Cut> for Cut {
    fn from(cut: service::Cut) -> Self {
        match cut {
            service::Cut::Rows(limit) => Cut::Rows { limit, option: ROWS_OPTIONS[0] },
            service::Cut::Bytes(limit) => Cut::Bytes { limit },
        }
    }
}

/// Rows with the names of Livy's types.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LivyTable {
    headers: Vec<Header>,
    /// A list for each row, with a value for each column.
    #[schema(value_type = Vec<Vec<Value>>)]
    data: Box<RawValue>,
}

/// A column.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Header {
    name: String,
    #[schema(example = "BIGINT_TYPE")]
    r#type: &'static str,
}

impl Statement {
    /// Writes a statement, with an output in the forms that are asked for.
    pub fn of(view: service::StatementView, forms: Forms) -> Self {
        Statement {
            output: view.output.map(|output| output_of(view.id, output, forms)),
            id: view.id,
            code: view.code,
            state: view.state.into(),
            progress: view.progress,
            started: view.started_ms,
            completed: view.completed_ms,
        }
    }
}

fn output_of(execution_count: u32, output: OutputView, forms: Forms) -> Output {
    let data = match output {
        OutputView::Failed { name, message, traceback, printed } => {
            // Livy drops what was printed.
            let data = Some(said(printed)).filter(|data| data.text.as_ref().is_some_and(|text| !text.is_empty()));
            return Output::Error { execution_count, ename: name, evalue: message, traceback, data };
        }
        OutputView::Forms(forms) => return Output::Ok { execution_count, data: OutputData::Python(written(forms)) },
        OutputView::Text(text) => said(text),
        OutputView::Wrote { rows } => wrote(rows),
        OutputView::Rows { rows, cut, shape } => match shape {
            Shape::Table => table(&rows, cut, forms),
            Shape::Lines => said(values::objects(&rows.batches).join("\n")),
            Shape::Array => said(format!("[{}]", values::objects(&rows.batches).join(","))),
        },
    };
    Output::Ok { execution_count, data: OutputData::Sql(data) }
}

fn said(text: String) -> Data {
    Data { text: Some(text), ..Data::default() }
}

/// Writes the answer of a statement that wrote so many rows, if it counts them.
fn wrote(rows: Option<u64>) -> Data {
    let data = rows.map_or_else(|| "[]".to_string(), |rows| format!("[[{rows}]]"));
    let table = Table { schema: StructType::of_count(rows.is_some()), data: written(data), cut: None };
    Data { json: Some(table), ..Data::default() }
}

fn table(rows: &Rows, cut: Option<service::Cut>, forms: Forms) -> Data {
    // A statement without a result has no columns.
    let batches: &[RecordBatch] = if rows.schema.fields().is_empty() { &[] } else { &rows.batches };
    let data = written(values::rows(batches));
    let headers = || {
        let fields = rows.schema.fields().iter();
        fields
            .map(|field| Header { name: field.name().clone(), r#type: values::table_type(field.data_type()) })
            .collect()
    };
    let text = || pretty_format_batches(batches).map_or_else(|error| error.to_string(), |text| text.to_string());
    Data {
        table: forms.table.then(|| LivyTable { headers: headers(), data: data.clone() }),
        text: forms.text.then(text),
        json: Some(Table { schema: StructType::of(&rows.schema), data, cut: cut.map(Cut::from) }),
    }
}

/// Takes over JSON that is written already, because its numbers have more digits than a JSON library keeps.
fn written(json: String) -> Box<RawValue> {
    RawValue::from_string(json).unwrap_or_else(|error| {
        tracing::error!(%error, "rows were not written as JSON");
        RawValue::NULL.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use serde_json::{Value, json};
    use service::StatementView;
    use std::sync::Arc;

    fn statement(view: StatementView, forms: Forms) -> String {
        serde_json::to_string(&Statement::of(view, forms)).unwrap()
    }

    fn view(output: Option<OutputView>) -> StatementView {
        StatementView {
            id: 3,
            code: "select \"n\"".to_string(),
            kind: service::Kind::Sql,
            state: service::StatementState::Available,
            output,
            progress: 1.0,
            started_ms: 5,
            completed_ms: 7,
        }
    }

    fn rows(shape: Shape, cut: Option<service::Cut>) -> OutputView {
        let numbers = Arc::new(Int64Array::from(vec![Some(9_007_199_254_740_993), None])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
        OutputView::Rows { rows: Rows { schema: batch.schema(), batches: vec![batch] }, cut, shape }
    }

    #[test]
    fn statements_are_written_as_livy_does() {
        let all = Forms { text: true, table: true };
        let written = statement(view(Some(rows(Shape::Table, Some(service::Cut::Rows(2))))), all);
        let read: Value = serde_json::from_str(&written).unwrap();
        assert_eq!((&read["id"], &read["state"], &read["progress"]), (&json!(3), &json!("available"), &json!(1.0)));
        assert_eq!(
            (&read["code"], &read["started"], &read["completed"]),
            (&json!("select \"n\""), &json!(5), &json!(7))
        );
        let data = &read["output"]["data"];
        let fields = json!([{ "name": "n", "type": "long", "nullable": true, "metadata": {} }]);
        let expected = json!({
            "schema": { "type": "struct", "fields": fields }, "data": [[9_007_199_254_740_993_i64], [null]],
            "cut": { "by": "rows", "limit": 2, "option": "livy.rsc.sql.num-rows" },
        });
        assert_eq!(data["application/json"], expected);
        let headers = json!([{ "name": "n", "type": "BIGINT_TYPE" }]);
        assert_eq!(data[TABLE], json!({ "headers": headers, "data": [[9_007_199_254_740_993_i64], [null]] }));
        assert!(data[TEXT].as_str().unwrap().contains("| 9007199254740993 |"), "{data}");
        assert_eq!(serde_json::from_str::<Value>(&statement(view(None), all)).unwrap()["output"], Value::Null);
    }

    #[test]
    fn rows_have_the_form_that_their_code_asks_for() {
        let text = |shape| {
            let written = statement(view(Some(rows(shape, None))), Forms::default());
            let read: Value = serde_json::from_str(&written).unwrap();
            read["output"]["data"][TEXT].as_str().unwrap().to_string()
        };
        assert_eq!(text(Shape::Lines), "{\"n\":9007199254740993}\n{}");
        assert_eq!(text(Shape::Array), "[{\"n\":9007199254740993},{}]");
    }

    #[test]
    fn errors_and_counts_are_outputs() {
        let output = |output| {
            let written = statement(view(Some(output)), Forms::default());
            serde_json::from_str::<Value>(&written).unwrap()["output"].clone()
        };
        let failed = |traceback: &[&str], printed: &str| OutputView::Failed {
            name: "Error".to_string(),
            message: "no \"t\"".to_string(),
            traceback: traceback.iter().map(|line| line.to_string()).collect(),
            printed: printed.to_string(),
        };
        let mut expected = json!({
            "status": "error", "execution_count": 3, "ename": "Error", "evalue": "no \"t\"", "traceback": [],
        });
        assert_eq!(output(failed(&[], "")), expected);
        expected["traceback"] = json!(["line 1\n"]);
        expected["data"] = json!({ "text/plain": "before" });
        assert_eq!(output(failed(&["line 1\n"], "before")), expected);
        let forms = r#"{"application/json":123456789012345678901234567890}"#;
        let written = statement(view(Some(OutputView::Forms(forms.to_string()))), Forms::default());
        assert!(written.contains(&format!("\"data\":{forms}")), "{written}");
        assert_eq!(output(OutputView::Wrote { rows: Some(4) })["data"]["application/json"]["data"], json!([[4]]));
        assert_eq!(output(OutputView::Wrote { rows: None })["data"]["application/json"]["data"], json!([]));
    }

    #[test]
    fn forms_are_those_that_a_request_names() {
        let of = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            Forms::of(&headers)
        };
        assert_eq!(of("*/*"), Forms::default());
        assert_eq!(of("application/json, text/plain, */*"), Forms { text: true, table: false });
        assert_eq!(of("application/vnd.livy.table.v1+json;q=0.5"), Forms { text: false, table: true });
    }
}

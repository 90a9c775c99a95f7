//! Sessions, statements and their outputs as Livy writes them.

use super::values;
use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use axum::http::{HeaderMap, header};
use serde_json::{Value, json};
use windlass_scheduler::services::interactive::{
    Cut, Kind, OutputView, ROWS_OPTIONS, Rows, SessionState, SessionView, Shape, StatementState, StatementView,
};

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

pub(super) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Sql => "sql",
        Kind::Spark => "spark",
        Kind::PySpark => "pyspark",
        Kind::SparkR => "sparkr",
        Kind::Shared => "shared",
    }
}

pub(super) fn state_name(state: SessionState) -> &'static str {
    match state {
        SessionState::Starting => "starting",
        SessionState::Idle => "idle",
        SessionState::Busy => "busy",
        SessionState::ShuttingDown => "shutting_down",
        SessionState::Error => "error",
        SessionState::Dead => "dead",
        SessionState::Killed => "killed",
    }
}

fn statement_state_name(state: StatementState) -> &'static str {
    match state {
        StatementState::Waiting => "waiting",
        StatementState::Running => "running",
        StatementState::Cancelling => "cancelling",
        StatementState::Available => "available",
        StatementState::Error => "error",
        StatementState::Cancelled => "cancelled",
    }
}

pub(super) fn session(view: &SessionView) -> Value {
    let asked = &view.asked;
    json!({
        "id": view.id,
        "name": asked.name,
        "appId": view.uid,
        "owner": named(&view.owner),
        "proxyUser": asked.proxy_user,
        "state": state_name(view.state),
        "kind": kind_name(asked.kind),
        "appInfo": { "driverLogUrl": null, "sparkUiUrl": null },
        "log": view.log,
        "ttl": asked.ttl,
        "idleTimeout": asked.idle_timeout,
        "driverMemory": asked.driver_memory,
        "driverCores": asked.driver_cores.unwrap_or(0),
        "executorMemory": asked.executor_memory,
        "executorCores": asked.executor_cores.unwrap_or(0),
        "conf": asked.conf,
        "archives": asked.archives,
        "files": asked.files,
        "heartbeatTimeoutInSecond": asked.heartbeat_timeout_s,
        "jars": asked.jars,
        "numExecutors": asked.num_executors.unwrap_or(0),
        "pyFiles": asked.py_files,
        "queue": asked.queue,
    })
}

pub(super) fn named(user: &str) -> Option<&str> {
    Some(user).filter(|user| !user.is_empty())
}

/// Writes a statement. Its output holds numbers that a JSON library would not keep.
pub(super) fn statement(view: &StatementView, forms: Forms) -> String {
    let output = view.output.as_ref().map_or_else(|| "null".to_string(), |output| output_of(view.id, output, forms));
    format!(
        r#"{{"id":{},"code":{},"state":"{}","output":{output},"progress":{:?},"started":{},"completed":{}}}"#,
        view.id,
        Value::from(view.code.as_str()),
        statement_state_name(view.state),
        view.progress,
        view.started_ms,
        view.completed_ms,
    )
}

fn output_of(id: u32, output: &OutputView, forms: Forms) -> String {
    let data = match output {
        OutputView::Failed { name, message, traceback, printed } => {
            let mut failed = json!({
                "status": "error", "execution_count": id, "ename": name, "evalue": message, "traceback": traceback,
            });
            // Livy drops it.
            if !printed.is_empty() {
                failed["data"] = json!({ TEXT: printed });
            }
            return failed.to_string();
        }
        OutputView::Forms(forms) => return format!(r#"{{"status":"ok","execution_count":{id},"data":{forms}}}"#),
        OutputView::Text(text) => form(TEXT, &Value::from(text.as_str()).to_string()),
        OutputView::Wrote { rows } => wrote(*rows),
        OutputView::Rows { rows, cut, shape } => match shape {
            Shape::Table => table(rows, *cut, forms),
            Shape::Lines => form(TEXT, &Value::from(values::objects(&rows.batches).join("\n")).to_string()),
            Shape::Array => {
                let array = format!("[{}]", values::objects(&rows.batches).join(","));
                form(TEXT, &Value::from(array).to_string())
            }
        },
    };
    format!(r#"{{"status":"ok","execution_count":{id},"data":{{{data}}}}}"#)
}

fn form(name: &str, json: &str) -> String {
    format!("\"{name}\":{json}")
}

/// Writes the answer of a statement that wrote so many rows, if it counts them.
fn wrote(rows: Option<u64>) -> String {
    let fields = rows.map(|_| json!({ "name": "count", "type": "decimal(20,0)", "nullable": false, "metadata": {} }));
    let data: Vec<[u64; 1]> = rows.into_iter().map(|rows| [rows]).collect();
    let schema = json!({ "type": "struct", "fields": fields.into_iter().collect::<Vec<_>>() });
    form("application/json", &json!({ "schema": schema, "data": data }).to_string())
}

fn table(rows: &Rows, cut: Option<Cut>, forms: Forms) -> String {
    let schema = values::schema(&rows.schema);
    // A statement without a result has no columns.
    let batches: &[RecordBatch] = if rows.schema.fields().is_empty() { &[] } else { &rows.batches };
    let data = values::rows(batches);
    let cut = cut.map(|cut| format!(",\"cut\":{}", told(cut))).unwrap_or_default();
    let mut all = vec![form("application/json", &format!(r#"{{"schema":{schema},"data":{data}{cut}}}"#))];
    if forms.table {
        let header = |field: &std::sync::Arc<arrow::datatypes::Field>| json!({ "name": field.name(), "type": values::table_type(field.data_type()) });
        let headers: Vec<Value> = rows.schema.fields().iter().map(header).collect();
        all.push(form(TABLE, &format!(r#"{{"headers":{},"data":{data}}}"#, Value::Array(headers))));
    }
    if forms.text {
        let text = pretty_format_batches(batches).map_or_else(|error| error.to_string(), |text| text.to_string());
        all.push(form(TEXT, &Value::from(text).to_string()));
    }
    all.join(",")
}

/// Says which limit left rows out, and how to move it.
fn told(cut: Cut) -> Value {
    match cut {
        Cut::Rows(limit) => json!({ "by": "rows", "limit": limit, "option": ROWS_OPTIONS[0] }),
        Cut::Bytes(limit) => json!({ "by": "bytes", "limit": limit }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use std::sync::Arc;

    fn view(output: Option<OutputView>) -> StatementView {
        StatementView {
            id: 3,
            code: "select \"n\"".to_string(),
            kind: Kind::Sql,
            state: StatementState::Available,
            output,
            progress: 1.0,
            started_ms: 5,
            completed_ms: 7,
        }
    }

    fn rows(shape: Shape, cut: Option<Cut>) -> OutputView {
        let numbers = Arc::new(Int64Array::from(vec![Some(9_007_199_254_740_993), None])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
        OutputView::Rows { rows: Rows { schema: batch.schema(), batches: vec![batch] }, cut, shape }
    }

    #[test]
    fn statements_are_written_as_livy_does() {
        let all = Forms { text: true, table: true };
        let written = statement(&view(Some(rows(Shape::Table, Some(Cut::Rows(2))))), all);
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
        assert_eq!(serde_json::from_str::<Value>(&statement(&view(None), all)).unwrap()["output"], Value::Null);
    }

    #[test]
    fn rows_have_the_form_that_their_code_asks_for() {
        let text = |shape| {
            let written = statement(&view(Some(rows(shape, None))), Forms::default());
            let read: Value = serde_json::from_str(&written).unwrap();
            read["output"]["data"][TEXT].as_str().unwrap().to_string()
        };
        assert_eq!(text(Shape::Lines), "{\"n\":9007199254740993}\n{}");
        assert_eq!(text(Shape::Array), "[{\"n\":9007199254740993},{}]");
    }

    #[test]
    fn errors_and_counts_are_outputs() {
        let output = |output| {
            let written = statement(&view(Some(output)), Forms::default());
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
        let written = statement(&view(Some(OutputView::Forms(forms.to_string()))), Forms::default());
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

//! Running a statement over Flight SQL.
//!
//! Without parameters: `CommandStatementQuery`, whatever the statement does (a `CREATE TABLE` answers with no columns, an `INSERT` with a count). With
//! parameters: prepare, bind one row, run, close. A logical plan: the message `windlass.v1.PlanStatement` instead.

use super::flight::{self, SqlMessage, unpack};
use super::link::Link;
use crate::backend::{Answer, Body, Delivery, Request};
use crate::error::{ClientError, Result};
use crate::jobs::job_of;
use crate::params::Params;
use bytes::Bytes;
use futures::{StreamExt, stream};
use prost::Message;
use std::sync::Arc;
use windlass_proto::PLAN_STATEMENT_TYPE_URL;
use windlass_proto::flight::{
    Action, ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult, Any, CommandPreparedStatementQuery, CommandStatementQuery,
    DoPutPreparedStatementResult, FlightData, FlightInfo, Result as ActionResult,
};
use windlass_proto::v1::PlanStatement;

const RUNNING: &str = "running the statement";

pub(super) async fn execute(link: &Link, request: Request) -> Result<Answer> {
    let (query, delivery) = (request.query.as_str(), request.delivery);
    let info = match request.body {
        Body::Sql(sql) if request.params.is_empty() => {
            let command = CommandStatementQuery { query: sql };
            flight_info(link, command.packed(), query, delivery).await?
        }
        Body::Sql(sql) => prepared(link, sql, &request.params, query, delivery).await?,
        Body::Plan(plan) => {
            let value = PlanStatement { logical_plan: plan }.encode_to_vec().into();
            flight_info(link, Any { type_url: PLAN_STATEMENT_TYPE_URL.to_owned(), value }, query, delivery).await?
        }
    };
    let schema = flight::schema(&info.schema)?;
    let job = job_of(&String::from_utf8_lossy(&info.app_metadata))?;
    let batches = link.fetcher.read(info.endpoint, Arc::clone(&schema));
    Ok(Answer { schema, batches, job })
}

/// Runs the first half of a statement: the cluster executes it and returns the location of its rows.
pub(super) async fn flight_info(link: &Link, command: Any, query: &str, delivery: Delivery) -> Result<FlightInfo> {
    let descriptor = flight::descriptor(&command);
    let query = Some(query).filter(|query| !query.is_empty());
    let request = link.identity.statement(descriptor, query, delivery);
    let answer = link
        .flight()
        .get_flight_info(request)
        .await
        .map_err(|status| ClientError::from_status(&status, &link.url, RUNNING))?;
    link.identity.learn(&answer);
    Ok(answer.into_inner())
}

async fn prepared(link: &Link, sql: String, params: &Params, query: &str, delivery: Delivery) -> Result<FlightInfo> {
    let create = ActionCreatePreparedStatementRequest { query: sql };
    let answer = action(link, "CreatePreparedStatement", create.packed()).await?;
    let missing = || ClientError::garbled("the cluster prepared the statement and named no handle");
    let created: ActionCreatePreparedStatementResult =
        unpack(&answer.ok_or_else(missing)?.body)?.ok_or_else(missing)?;
    let mut handle = created.prepared_statement_handle;
    let placeholders = flight::schema(&created.parameter_schema)?;
    let ran = async {
        let row = params.bind(&placeholders)?;
        let command = CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() };
        let messages = flight::encode(&row, flight::descriptor(&command.packed()))?;
        if let Some(renamed) = bind(link, messages).await? {
            handle = renamed;
        }
        let command = CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() };
        flight_info(link, command.packed(), query, delivery).await
    }
    .await;
    // The result has its own tickets; a failure to close says nothing about the statement.
    let close = ActionClosePreparedStatementRequest { prepared_statement_handle: handle };
    if let Err(error) = action(link, "ClosePreparedStatement", close.packed()).await {
        tracing::debug!(%error, "the prepared statement stays open until its session ends");
    }
    ran
}

/// Sends the row of parameters. A server may answer with a new handle for the bound statement.
async fn bind(link: &Link, messages: Vec<FlightData>) -> Result<Option<Bytes>> {
    let failed = |status| ClientError::from_status(&status, &link.url, "binding parameters");
    let request = link.identity.request(stream::iter(messages), None);
    let answer = link.flight().do_put(request).await.map_err(failed)?;
    link.identity.learn(&answer);
    let mut results = answer.into_inner();
    let mut handle = None;
    while let Some(result) = results.next().await {
        let metadata = result.map_err(failed)?.app_metadata;
        if !metadata.is_empty()
            && let Ok(bound) = DoPutPreparedStatementResult::decode(metadata)
        {
            handle = bound.prepared_statement_handle.or(handle);
        }
    }
    Ok(handle)
}

async fn action(link: &Link, name: &str, body: Any) -> Result<Option<ActionResult>> {
    let failed = |status| ClientError::from_status(&status, &link.url, "preparing the statement");
    let request = link.identity.request(Action { r#type: name.to_owned(), body: body.encode_to_vec().into() }, None);
    let answer = link.flight().do_action(request).await.map_err(failed)?;
    link.identity.learn(&answer);
    let mut results = answer.into_inner();
    let first = results.message().await.map_err(failed)?;
    // Reads to the end, where an error would appear.
    while results.message().await.map_err(failed)?.is_some() {}
    Ok(first)
}

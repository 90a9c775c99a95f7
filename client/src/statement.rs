//! A statement on its way from a session to its rows.

use crate::backend::{Answer, Backend, Body, Delivery, Request};
use crate::error::Result;
use crate::handle::QueryHandle;
use crate::params::{Param, Params};
use crate::result::ResultStream;
use futures::future::BoxFuture;
use std::future::IntoFuture;
use std::sync::Arc;
use uuid::Uuid;

/// A statement that has not run yet.
#[must_use = "a statement runs when it is awaited"]
pub struct Statement {
    backend: Arc<dyn Backend>,
    body: Body,
    params: Params,
    query: String,
}

impl Statement {
    pub(crate) fn new(backend: Arc<dyn Backend>, body: Body) -> Statement {
        Statement { backend, body, params: Params::default(), query: Uuid::new_v4().to_string() }
    }

    /// Sets the value of the placeholder `$name`.
    pub fn param(mut self, name: &str, value: impl Into<Param>) -> Statement {
        self.params.set(name, value);
        self
    }

    pub fn params(mut self, params: Params) -> Statement {
        self.params = params;
        self
    }

    /// Returns a handle to watch and cancel the statement from elsewhere while it runs.
    pub fn handle(&self) -> QueryHandle {
        QueryHandle::new(Arc::clone(&self.backend), self.query.clone())
    }

    /// Runs the statement to its end. Rows are read as the stream is polled. Dropping the future cancels the statement.
    pub async fn execute(self) -> Result<ResultStream> {
        let handle = self.handle();
        let request = Request { query: self.query, body: self.body, params: self.params, delivery: Delivery::Once };
        let Answer { schema, batches, job } = self.backend.execute(request).await?;
        Ok(ResultStream::new(schema, batches, job, handle))
    }

    /// Runs the statement for its effect; returns the number of rows that it wrote, for statements that count them.
    pub async fn update(self) -> Result<u64> {
        self.execute().await?.into_count().await
    }
}

impl IntoFuture for Statement {
    type Output = Result<ResultStream>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.execute())
    }
}

//! The rows of one attempt go into a staging table: as lines of LOAD DATA, or as rows of INSERT.

use super::encode::{Encoder, Form};
use super::sink::MysqlSink;
use super::wire::Connection;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err};
use datafusion::execution::SendableRecordBatchStream;
use futures::{TryStreamExt, stream};
use tokio::sync::mpsc;

impl MysqlSink {
    /// Loads rows into a staging table, in the transaction that is open. Returns their number.
    pub(super) async fn stage(
        &self,
        connection: &mut Connection,
        staging: &str,
        rows: SendableRecordBatchStream,
    ) -> Result<u64> {
        match connection.takes_files {
            true => self.stage_lines(connection, staging, rows).await,
            // It is slower, and needs nothing of the server.
            false => self.stage_rows(connection, staging, rows).await,
        }
    }

    async fn stage_lines(
        &self,
        connection: &mut Connection,
        staging: &str,
        mut rows: SendableRecordBatchStream,
    ) -> Result<u64> {
        let columns = self.load.columns()?;
        let sql = self.load.loading(staging, &columns);
        let mut encoder = Encoder::new(columns, Form::Lines);
        let (sender, mut receiver) = mpsc::channel(1);
        let loading = async {
            let pieces = stream::poll_fn(move |context| receiver.poll_recv(context));
            let loaded = connection.load(&sql, pieces).await;
            loaded.map_err(|error| match error.code() {
                Some(1148 | 3948 | 4166) => exec_datafusion_err!(
                    "{error}: MySQL takes no LOAD DATA LOCAL: set local_infile = ON, or OFF so that rows are inserted instead"
                ),
                _ => self.of_target(staging, error).into(),
            })
        };
        let feeding = async {
            while let Some(batch) = rows.try_next().await? {
                let batch = encoder.prepared(&batch)?;
                let mut from = 0;
                while from < batch.rows {
                    from = encoder.take(&batch, from)?;
                    // Who does not listen any more says why.
                    if encoder.is_full() && sender.send(Ok(encoder.piece().into())).await.is_err() {
                        return Ok(());
                    }
                }
            }
            if !encoder.is_empty() {
                let _ = sender.send(Ok(encoder.piece().into())).await;
            }
            drop(sender);
            Ok::<_, DataFusionError>(())
        };
        // If one of them fails, the other one is dropped, and with it the connection.
        let ((loaded, warnings), ()) = futures::future::try_join(loading, feeding).await?;
        let sent = encoder.rows();
        if warnings > 0 || loaded != sent {
            self.complain(connection, staging, "").await?;
            return exec_err!("MySQL has loaded {loaded} of {sent} rows into {}", self.load.qualified());
        }
        Ok(sent)
    }

    async fn stage_rows(
        &self,
        connection: &mut Connection,
        staging: &str,
        mut rows: SendableRecordBatchStream,
    ) -> Result<u64> {
        let mut encoder = Encoder::new(self.load.columns()?, Form::Rows);
        let insert = format!("INSERT INTO {} ({}) VALUES ", self.load.in_database(staging), self.load.names());
        let mut done = 0;
        loop {
            let batch = rows.try_next().await?;
            let batch = batch.as_ref().map(|batch| encoder.prepared(batch)).transpose()?;
            let mut from = 0;
            loop {
                if let Some(batch) = &batch {
                    from = encoder.take(batch, from)?;
                }
                if encoder.is_full() || (batch.is_none() && !encoder.is_empty()) {
                    // Values are escaped, so that they are UTF-8 as they were.
                    let values = String::from_utf8_lossy(&encoder.piece()).into_owned();
                    let inserted = connection.execute(&format!("{insert}{values}")).await;
                    inserted.map_err(|error| self.of_target(staging, error))?;
                    if connection.warnings() > 0 {
                        self.complain(connection, staging, &format!(", behind row {done}")).await?;
                    }
                    done = encoder.rows();
                }
                if batch.as_ref().is_none_or(|batch| from >= batch.rows) {
                    break;
                }
            }
            if batch.is_none() {
                return Ok(encoder.rows());
            }
        }
    }

    /// The first warning of the last statement, as an error: with LOCAL, the server warns where it would refuse, and changes the value.
    async fn complain(&self, connection: &mut Connection, staging: &str, place: &str) -> Result<()> {
        let warnings = connection.rows("SHOW WARNINGS LIMIT 1").await?;
        let Some([_, code, Some(message)]) = warnings.first().map(Vec::as_slice) else { return Ok(()) };
        let code = code.as_deref().unwrap_or_default();
        exec_err!("MySQL: {}{place} (warning {code})", message.replace(staging, &self.load.name))
    }
}

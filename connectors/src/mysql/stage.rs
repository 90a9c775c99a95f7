//! The rows of one attempt go into a staging table: as lines of LOAD DATA, or as rows of INSERT.

use super::aside::complaint;
use super::encode::{Encoder, Form};
use super::sink::MysqlSink;
use super::wire::Connection;
use crate::rejects;
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, exec_err};
use datafusion::execution::SendableRecordBatchStream;
use futures::{TryStreamExt, stream};
use std::io;
use tokio::sync::mpsc::{self, Sender, error::SendError};

/// Bytes of a packet, at most: less than the least `max_allowed_packet` that servers come with.
const PACKET: usize = 512 << 10;

impl MysqlSink {
    fn encoder(&self, form: Form) -> Result<Encoder> {
        let encoder = Encoder::new(self.load.columns()?, form);
        Ok(if self.load.sets_aside() { encoder.setting_aside() } else { encoder })
    }

    /// Takes over the rows of a batch that cannot be sent. False: they are too many, and the load has failed.
    fn set_aside(&self, encoder: &mut Encoder, batch: &RecordBatch, aside: &mut Vec<String>) -> Result<bool> {
        for (row, reason) in encoder.passed_over() {
            aside.push(rejects::line(batch, row, &reason)?);
            if aside.len() as u64 > self.load.max_rejects {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Loads rows into a staging table, in the transaction that is open. Returns their number, and the lines of those that were set aside.
    pub(super) async fn stage(
        &self,
        connection: &mut Connection,
        staging: &str,
        rows: SendableRecordBatchStream,
    ) -> Result<(u64, Vec<String>)> {
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
    ) -> Result<(u64, Vec<String>)> {
        let sql = self.load.loading(staging, &self.load.columns()?);
        let (mut encoder, mut aside) = (self.encoder(Form::Lines)?, Vec::new());
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
                let prepared = encoder.prepared(&batch)?;
                let mut from = 0;
                while from < prepared.rows {
                    from = encoder.take(&prepared, from)?;
                    // Who does not listen any more says why.
                    if encoder.is_full() && send(&sender, encoder.piece()).await.is_err() {
                        return Ok(());
                    }
                }
                if !self.set_aside(&mut encoder, &batch, &mut aside)? {
                    break;
                }
            }
            if !encoder.is_empty() {
                let _ = send(&sender, encoder.piece()).await;
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
        Ok((sent, aside))
    }

    async fn stage_rows(
        &self,
        connection: &mut Connection,
        staging: &str,
        mut rows: SendableRecordBatchStream,
    ) -> Result<(u64, Vec<String>)> {
        let (mut encoder, mut aside) = (self.encoder(Form::Rows)?, Vec::new());
        let insert = format!("INSERT INTO {} ({}) VALUES ", self.load.in_database(staging), self.load.names());
        let mut done = 0;
        loop {
            let batch = rows.try_next().await?;
            let prepared = batch.as_ref().map(|batch| encoder.prepared(batch)).transpose()?;
            let (mut from, mut is_last) = (0, batch.is_none());
            loop {
                if let Some(prepared) = &prepared {
                    from = encoder.take(prepared, from)?;
                }
                if let Some(batch) = &batch {
                    is_last = !self.set_aside(&mut encoder, batch, &mut aside)?;
                }
                if encoder.is_full() || (is_last && !encoder.is_empty()) {
                    // Values are escaped, so that they are UTF-8 as they were.
                    let values = String::from_utf8_lossy(&encoder.piece()).into_owned();
                    let statement = format!("{insert}{values}");
                    if statement.len() >= connection.max_statement {
                        return exec_err!(
                            "an INSERT of {} bytes, behind row {done}, is more than the max_allowed_packet of MySQL, {}: raise that, or set local_infile = ON, \
                             with which texts have any length",
                            statement.len(),
                            connection.max_statement
                        );
                    }
                    let inserted = connection.execute(&statement).await;
                    inserted.map_err(|error| self.of_target(staging, error))?;
                    if connection.warnings() > 0 {
                        self.complain(connection, staging, &format!(", behind row {done}")).await?;
                    }
                    done = encoder.rows();
                }
                if is_last || prepared.as_ref().is_none_or(|prepared| from >= prepared.rows) {
                    break;
                }
            }
            if is_last {
                return Ok((encoder.rows(), aside));
            }
        }
    }

    /// The first warning of the last statement, as an error: with LOCAL, the server warns where it would refuse, and changes the value.
    async fn complain(&self, connection: &mut Connection, staging: &str, place: &str) -> Result<()> {
        match complaint(connection).await? {
            Some((code, message)) => {
                exec_err!("MySQL: {}{place} (warning {code})", message.replace(staging, &self.load.name))
            }
            None => Ok(()),
        }
    }
}

/// Sends a piece, which has any length, in packets that every server takes.
async fn send(packets: &Sender<io::Result<Bytes>>, piece: Vec<u8>) -> Result<(), SendError<io::Result<Bytes>>> {
    let mut rest = Bytes::from(piece);
    while !rest.is_empty() {
        packets.send(Ok(rest.split_to(rest.len().min(PACKET)))).await?;
    }
    Ok(())
}

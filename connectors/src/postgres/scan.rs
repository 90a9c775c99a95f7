//! Reading: what one statement reads of a table, in splits that executors copy out.

use super::decode::Decoder;
use super::error::PostgresError;
use super::relation::{Counted, Relation};
use super::settings::Location;
use super::snapshot::{Held, Snapshot};
use super::types::Wire;
use super::wire::{Canceller, Connection, quoted};
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Result, Statistics, exec_datafusion_err, internal_datafusion_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{Stream, TryStreamExt, stream};
use prost::Message;
use std::collections::HashMap;
use std::sync::Arc;
use windlass_engine::connector::{Encoded, Scan, ScanGuard, Split, TableSpec, TaskOfScan};

/// Bytes of a batch, about, as they were received.
const BATCH_BYTES: usize = 4 << 20;

/// The statement that each split sends, and how its answer is read.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Query {
    /// The text after SELECT.
    #[prost(string, tag = "1")]
    pub select: String,
    /// The text after FROM.
    #[prost(string, tag = "2")]
    pub from: String,
    /// Conditions that all rows fulfil.
    #[prost(string, repeated, tag = "3")]
    pub conditions: Vec<String>,
    #[prost(uint64, optional, tag = "4")]
    pub limit: Option<u64>,
    /// How the columns travel.
    #[prost(string, repeated, tag = "5")]
    pub wires: Vec<String>,
    /// The snapshot that all splits see.
    #[prost(string, tag = "6")]
    pub snapshot: String,
    #[prost(string, repeated, tag = "7")]
    pub group_by: Vec<String>,
    #[prost(string, repeated, tag = "8")]
    pub order_by: Vec<String>,
}

impl Query {
    /// `split`: a condition, or nothing.
    pub fn sql(&self, split: &str) -> String {
        let mut sql = format!("SELECT {} FROM {}", self.select, self.from);
        let split = Some(split).filter(|split| !split.is_empty());
        let conditions: Vec<&str> = self.conditions.iter().map(String::as_str).chain(split).collect();
        if !conditions.is_empty() {
            sql.push_str(&format!(" WHERE {}", conditions.join(" AND ")));
        }
        if !self.group_by.is_empty() {
            sql.push_str(&format!(" GROUP BY {}", self.group_by.join(", ")));
        }
        if !self.order_by.is_empty() {
            sql.push_str(&format!(" ORDER BY {}", self.order_by.join(", ")));
        }
        if let Some(limit) = self.limit {
            sql.push_str(&format!(" LIMIT {limit}"));
        }
        sql
    }

    /// Rows that are only counted.
    fn counts(&self) -> bool {
        self.wires.is_empty()
    }
}

/// One statement's scan of a table.
#[derive(Debug)]
pub(super) struct PostgresScan {
    pub table: Arc<TableSpec>,
    pub schema: SchemaRef,
    pub query: Query,
    pub canceller: Canceller,
    /// On the primary.
    pub planned: Option<Planned>,
}

/// The part of a scan that only the primary knows.
#[derive(Debug)]
pub(super) struct Planned {
    pub splits: Vec<Split>,
    /// About.
    pub rows: Option<u64>,
    /// What the server has counted of its columns.
    pub counted: HashMap<String, Counted>,
    pub held: Held,
}

/// Estimates of `rows` rows.
fn estimates(schema: &SchemaRef, rows: u64, counted: &HashMap<String, Counted>) -> Statistics {
    let unknown = Statistics::new_unknown(schema);
    let about = |number: f64| Precision::Inexact(number.round().clamp(0.0, rows as f64) as usize);
    let (all, mut width) = (rows as f64, Some(0.0));
    let columns = schema.fields().iter().map(|field| {
        let Some(of) = counted.get(field.name()) else {
            width = None;
            return ColumnStatistics::new_unknown();
        };
        width = width.map(|width| width + of.width);
        let distinct = if of.distinct < 0.0 { -of.distinct * all } else { of.distinct };
        let column = ColumnStatistics::new_unknown().with_null_count(about(of.nulls * all));
        // 0: nobody knows.
        if distinct > 0.0 { column.with_distinct_count(about(distinct.max(1.0))) } else { column }
    });
    let column_statistics = columns.collect();
    let total_byte_size = width.map_or(Precision::Absent, |width| Precision::Inexact((width * all) as usize));
    Statistics { column_statistics, total_byte_size, ..unknown.with_num_rows(Precision::Inexact(rows as usize)) }
}

impl PostgresScan {
    pub fn decode(encoded: Encoded<'_>, canceller: Canceller) -> Result<Self> {
        let query = Query::decode(encoded.bytes);
        let query = query.map_err(|error| internal_datafusion_err!("a scan cannot be decoded: {error}"))?;
        let (table, schema) = (Arc::clone(encoded.table), Arc::clone(encoded.schema));
        Ok(Self { table, schema, query, canceller, planned: None })
    }
}

impl Scan for PostgresScan {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn splits(&self) -> Vec<Split> {
        self.planned.as_ref().map(|planned| planned.splits.clone()).unwrap_or_default()
    }

    fn statistics(&self) -> Option<Statistics> {
        let planned = self.planned.as_ref()?;
        Some(estimates(&self.schema, planned.rows?, &planned.counted))
    }

    fn guard(&self) -> Option<ScanGuard> {
        self.planned.as_ref().map(|planned| Arc::new(planned.held.clone()) as ScanGuard)
    }

    fn describe(&self) -> String {
        // A query of the user's may have several lines.
        format!("sql={}", self.query.sql("").replace('\n', " "))
    }

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(self.query.encode_to_vec())
    }

    fn open(&self, split: &Split, task: &TaskOfScan) -> Result<SendableRecordBatchStream> {
        let condition = String::from_utf8_lossy(&split.payload).into_owned();
        let rows = task.context.session_config().batch_size();
        let infinity_as_null = super::choices(&self.table).infinity_as_null;
        let wire = |name: &String| Wire::parse(name).ok_or_else(|| internal_datafusion_err!("'{name}' is no type"));
        let wires = self.query.wires.iter().map(wire).collect::<Result<Vec<Wire>>>()?;
        let opening = Opening {
            table: Arc::clone(&self.table),
            schema: Arc::clone(&self.schema),
            query: self.query.clone(),
            canceller: self.canceller.clone(),
            condition,
            rows,
        };
        let batches: std::pin::Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>> = if self.query.counts() {
            Box::pin(stream::once(opening.count()).map_ok(stream::iter).try_flatten())
        } else {
            let decoder = Decoder::new(&self.schema, &wires, infinity_as_null)?;
            let copied = stream::once(opening.copy(decoder)).map_ok(Copying::batches).try_flatten();
            Box::pin(copied)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}

/// A split that is to be read.
struct Opening {
    table: Arc<TableSpec>,
    schema: SchemaRef,
    query: Query,
    canceller: Canceller,
    condition: String,
    /// Maximum rows of a batch.
    rows: usize,
}

impl Opening {
    async fn connection(&self) -> Result<Connection> {
        let settings = Arc::new(Location::parse(&self.table.location)?.settings(&self.table).await?);
        let mut connection = Connection::open(&settings, &self.canceller).await?;
        match Snapshot::import(&mut connection, &self.query.snapshot).await {
            Ok(()) => {
                if self.query.limit.is_some() && self.query.order_by.is_empty() {
                    // The first rows are the same ones when the split is read again: in the order of their places, from the first place.
                    let as_they_lie =
                        "SET LOCAL max_parallel_workers_per_gather TO 0; SET LOCAL synchronize_seqscans TO off";
                    connection.execute(as_they_lie).await?;
                }
                Snapshot::require_as_seen(&mut connection, &self.query.sql(&self.condition)).await?;
                Ok(connection)
            }
            // Which of them depends on the version.
            Err(PostgresError::Refused(refusal)) if ["22023", "42704"].contains(&refusal.code.as_str()) => {
                Err(exec_datafusion_err!(
                    "{}: the snapshot that the statement reads is gone: the connection that held it was ended ({})",
                    settings.server(),
                    refusal.message
                ))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Batches without columns.
    async fn count(self) -> Result<Vec<Result<RecordBatch>>> {
        let mut connection = self.connection().await?;
        let sql = match self.query.limit {
            None => self.query.sql(&self.condition),
            Some(_) => format!(
                "SELECT pg_catalog.count(*) FROM ({}) AS rows",
                Query { select: String::new(), ..self.query.clone() }.sql(&self.condition)
            ),
        };
        let rows = connection.execute(&sql).await?;
        let rows = rows.into_iter().flatten().flatten().next().and_then(|rows| rows.parse::<usize>().ok());
        let rows = rows.ok_or_else(|| exec_datafusion_err!("PostgreSQL does not say how many rows there are"))?;
        let batch = |rows: usize| {
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), vec![], &options)?)
        };
        let most = self.rows.max(1);
        Ok((0..rows).step_by(most).map(|start| batch(most.min(rows - start))).collect())
    }

    async fn copy(self, decoder: Decoder) -> Result<Copying> {
        let mut connection = self.connection().await?;
        let sql = self.query.sql(&self.condition);
        connection.copy_out(&format!("COPY ({sql}) TO STDOUT (FORMAT binary)")).await?;
        Ok(Copying { connection, decoder, rows: self.rows })
    }
}

/// A split that is being read.
struct Copying {
    connection: Connection,
    decoder: Decoder,
    rows: usize,
}

impl Copying {
    fn batches(self) -> impl Stream<Item = Result<RecordBatch>> {
        stream::try_unfold(Some(self), |copying| async move {
            let Some(mut copying) = copying else { return Ok(None) };
            let is_over = copying.fill().await?;
            if copying.decoder.rows() == 0 {
                return Ok(None);
            }
            let batch = copying.decoder.batch()?;
            Ok(Some((batch, (!is_over).then_some(copying))))
        })
    }

    /// Takes rows for one batch. True: these were the last.
    async fn fill(&mut self) -> Result<bool> {
        while self.decoder.rows() < self.rows && self.decoder.bytes() < BATCH_BYTES {
            match self.connection.next_row().await? {
                Some(piece) => self.decoder.take(&piece)?,
                None => {
                    self.decoder.end()?;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// How many splits a table has: one for each task and connection, and fewer where they would have fewer than `least` bytes.
pub(super) fn split_count(bytes: Option<u64>, least: u64, tasks: usize, connections: usize) -> usize {
    // One connection holds the snapshot.
    let most = tasks.min(connections.saturating_sub(1)).max(1);
    let by_bytes = bytes.and_then(|bytes| usize::try_from(bytes.div_ceil(least.max(1))).ok());
    by_bytes.unwrap_or(most).clamp(1, most)
}

/// Ranges of places, of about as many blocks of all partitions together. Those of a partition begin with 0, so one condition on the whole
/// tree cuts each of them. The last range has no end: what was written since belongs to it.
pub(super) fn by_places(relation: &Relation, count: usize) -> Vec<Split> {
    let blocks = relation.blocks.as_deref().unwrap_or_default();
    let before = |block: u64| -> u64 { blocks.iter().map(|size| size.min(&block)).sum() };
    let (all, longest) = (before(u64::MAX), blocks.iter().copied().max().unwrap_or(0));
    // The first block below which there are so many.
    let at = |wanted: u64| {
        let (mut low, mut high) = (0, longest);
        while low < high {
            let middle = low + (high - low) / 2;
            if before(middle) < wanted { low = middle + 1 } else { high = middle }
        }
        low
    };
    let mut bounds: Vec<u64> = (1..count as u64).map(|n| at(all * n / count as u64)).collect();
    bounds.retain(|bound| (1..longest).contains(bound));
    bounds.dedup();
    let starts = std::iter::once(None).chain(bounds.iter().copied().map(Some));
    let ends = bounds.iter().copied().map(Some).chain(std::iter::once(None));
    let place = |block: u64| format!("'({block},0)'::pg_catalog.tid");
    let split = |(start, end): (Option<u64>, Option<u64>)| {
        let from = start.map(|block| format!("ctid >= {}", place(block)));
        let to = end.map(|block| format!("ctid < {}", place(block)));
        let condition = [from, to].into_iter().flatten().collect::<Vec<_>>().join(" AND ");
        let blocks = before(end.unwrap_or(u64::MAX)) - before(start.unwrap_or(0));
        // A table without blocks has one split.
        if all == 0 { weighed(relation, condition, 1, 1) } else { weighed(relation, condition, blocks, all) }
    };
    starts.zip(ends).map(split).collect()
}

/// Ranges of a column of whole numbers, from its least value to its greatest.
pub(super) fn by_column(relation: &Relation, column: &str, least: i64, greatest: i64, count: usize) -> Vec<Split> {
    let column = quoted(column);
    let width = i128::from(greatest) - i128::from(least) + 1;
    let mut bounds: Vec<i128> = (1..count as i128).map(|n| i128::from(least) + width * n / count as i128).collect();
    bounds.retain(|bound| *bound > i128::from(least));
    bounds.dedup();
    let split = |at: usize| {
        let from = at.checked_sub(1).map(|before| format!("{column} >= '{}'", bounds[before]));
        let to = bounds.get(at).map(|bound| format!("{column} < '{bound}'"));
        let condition = [from, to].into_iter().flatten().collect::<Vec<_>>().join(" AND ");
        // A row without a value is in the first.
        let condition = match at {
            0 if !bounds.is_empty() => format!("({condition} OR {column} IS NULL)"),
            _ => condition,
        };
        weighed(relation, condition, 1, bounds.len() as u64 + 1)
    };
    (0..=bounds.len()).map(split).collect()
}

fn weighed(relation: &Relation, condition: String, part: u64, of: u64) -> Split {
    let share = |all: u64| (u128::from(all) * u128::from(part) / u128::from(of.max(1))) as u64;
    Split {
        bytes: relation.blocks.as_ref().map(|_| share(relation.bytes)),
        rows: relation.rows.map(share),
        payload: condition.into(),
        ..Split::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::{DataType, Field, Schema};

    fn relation(blocks: &[u64]) -> Relation {
        Relation {
            schema: "s".into(),
            name: "t".into(),
            columns: vec![],
            rows: Some(1000),
            bytes: blocks.iter().sum::<u64>() * 8192,
            blocks: Some(blocks.to_vec()),
            is_table: true,
            query: None,
        }
    }

    #[test]
    fn ranges_of_places_follow_each_other() {
        let conditions = |blocks: &[u64], count: usize| -> Vec<String> {
            let splits = by_places(&relation(blocks), count);
            assert!(splits.iter().map(|split| split.rows.unwrap()).sum::<u64>() >= 998);
            splits.iter().map(|split| String::from_utf8_lossy(&split.payload).into_owned()).collect()
        };
        assert_eq!(conditions(&[10], 1), [""]);
        assert_eq!(conditions(&[10], 2), ["ctid < '(5,0)'::pg_catalog.tid", "ctid >= '(5,0)'::pg_catalog.tid"]);
        // Half of the blocks of all partitions lie below 60 of each.
        assert!(conditions(&[100, 60, 20], 2)[0].contains("(35,0)"), "{:?}", conditions(&[100, 60, 20], 2));
        assert_eq!(conditions(&[2], 9).len(), 2);
        assert_eq!(conditions(&[], 4), [""]);
        assert_eq!(conditions(&[0], 4), [""]);
    }

    #[test]
    fn ranges_of_a_column_have_all_values() {
        let splits = by_column(&relation(&[1]), "id", i64::MIN, i64::MAX, 3);
        let conditions: Vec<_> = splits.iter().map(|split| String::from_utf8_lossy(&split.payload)).collect();
        assert_eq!(conditions.len(), 3);
        assert_eq!(conditions[0], r#"("id" < '-3074457345618258603' OR "id" IS NULL)"#);
        assert_eq!(conditions[2], r#""id" >= '3074457345618258602'"#);
        assert_eq!(by_column(&relation(&[1]), "id", 5, 5, 4).len(), 1);
    }

    #[test]
    fn what_the_server_counted_is_an_estimate() {
        let field = |name: &str| Field::new(name, DataType::Int32, true);
        let schema: SchemaRef = Arc::new(Schema::new(vec![field("few"), field("all"), field("unknown")]));
        let of = |distinct: f64, nulls: f64| Counted { distinct, nulls, width: 4.0 };
        let mut counted = HashMap::from([("few".to_string(), of(7.0, 0.5)), ("all".to_string(), of(-1.0, 0.0))]);
        let known = estimates(&schema, 100, &counted);
        assert_eq!((known.num_rows, known.total_byte_size), (Precision::Inexact(100), Precision::Absent));
        let distinct = |statistics: &Statistics| -> Vec<Precision<usize>> {
            statistics.column_statistics.iter().map(|column| column.distinct_count).collect()
        };
        assert_eq!(distinct(&known), [Precision::Inexact(7), Precision::Inexact(100), Precision::Absent]);
        assert_eq!(known.column_statistics[0].null_count, Precision::Inexact(50));
        counted.insert("unknown".to_string(), of(0.0, 0.0));
        let few = estimates(&schema, 3, &counted);
        assert_eq!(distinct(&few), [Precision::Inexact(3), Precision::Inexact(3), Precision::Absent]);
        assert_eq!(few.total_byte_size, Precision::Inexact(36));
    }

    #[test]
    fn connections_bound_splits() {
        assert_eq!(split_count(Some(1 << 30), 8 << 20, 16, 8), 7);
        assert_eq!(split_count(Some(1 << 30), 8 << 20, 4, 8), 4);
        assert_eq!(split_count(Some(1 << 20), 8 << 20, 16, 8), 1);
        assert_eq!(split_count(Some(1 << 20), 0, 16, 8), 7);
        assert_eq!(split_count(None, 8 << 20, 16, 8), 7);
        assert_eq!(split_count(Some(0), 8 << 20, 16, 1), 1);
    }
}

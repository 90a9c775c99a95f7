//! Reading: each connection has a transaction of its own and reads ranges of the key, one after the other, as a stream of the binary protocol.

use super::decode::Decoder;
use super::keys::Relied;
use super::settings::{Location, Settings};
use super::snapshot::{self, Guard, Mode};
use super::types::Wire;
use super::wire::{Connection, Killer, quoted};
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Result, Statistics, exec_datafusion_err, internal_datafusion_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::future::try_join_all;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use prost::Message;
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use windlass_engine::connector::{Encoded, Scan, ScanGuard, Split, TableSpec, TaskOfScan};

/// Bytes of a batch, about, as they were received.
const BATCH_BYTES: usize = 4 << 20;
/// Ranges for each connection that reads in `table`: whoever has read a small one reads another.
const RANGES_EACH: usize = 4;

/// The statement that each range sends, and how its answer is read.
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
    /// What the values of the columns are.
    #[prost(string, repeated, tag = "5")]
    pub wires: Vec<String>,
    /// The name of the primary's lock that must be held; empty: none.
    #[prost(string, tag = "6")]
    pub mark: String,
    /// The keys that must hold of the state that is read.
    #[prost(message, repeated, tag = "7")]
    pub relied: Vec<Relied>,
    #[prost(string, repeated, tag = "8")]
    pub group_by: Vec<String>,
    #[prost(string, repeated, tag = "9")]
    pub order_by: Vec<String>,
}

/// The part of a table that one task reads.
#[derive(Clone, PartialEq, Message)]
struct Part {
    /// A condition for each range, or an empty one.
    #[prost(string, repeated, tag = "1")]
    ranges: Vec<String>,
    /// Connections that read them side by side.
    #[prost(uint32, tag = "2")]
    readers: u32,
}

impl Query {
    /// `range`: a condition, or nothing.
    pub fn sql(&self, range: &str) -> String {
        let mut sql = format!("SELECT {} FROM {}", self.select, self.from);
        let range = Some(range).filter(|range| !range.is_empty());
        let conditions: Vec<&str> = self.conditions.iter().map(String::as_str).chain(range).collect();
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

    fn counting(&self, range: &str) -> String {
        match self.limit {
            None => self.sql(range),
            Some(_) => {
                format!("SELECT COUNT(*) FROM ({}) AS r", Self { select: "1".into(), ..self.clone() }.sql(range))
            }
        }
    }
}

/// One statement's scan of a table.
#[derive(Debug)]
pub(super) struct MysqlScan {
    pub table: Arc<TableSpec>,
    pub schema: SchemaRef,
    pub query: Query,
    pub killer: Killer,
    /// On the primary.
    pub planned: Option<Planned>,
}

/// The part of a scan that only the primary knows.
#[derive(Debug)]
pub(super) struct Planned {
    pub cut: Cut,
    /// About.
    pub rows: Option<u64>,
    pub bytes: Option<u64>,
    /// About how many values differ in columns.
    pub distinct: HashMap<String, u64>,
    pub guard: Option<Arc<Guard>>,
}

/// How a table is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// The ranges of each task.
    pub tasks: Vec<Vec<String>>,
    /// Connections of each task.
    pub readers: usize,
}

/// Estimates of `rows` rows.
fn estimates(schema: &SchemaRef, rows: u64, distinct: &HashMap<String, u64>) -> Statistics {
    let about = |number: u64| Precision::Inexact(usize::try_from(number).unwrap_or(usize::MAX));
    let column = |field: &FieldRef| match distinct.get(field.name()) {
        Some(differ) => ColumnStatistics::new_unknown().with_distinct_count(about((*differ).min(rows).max(1))),
        None => ColumnStatistics::new_unknown(),
    };
    let column_statistics = schema.fields().iter().map(column).collect();
    Statistics { column_statistics, ..Statistics::new_unknown(schema).with_num_rows(about(rows)) }
}

impl MysqlScan {
    pub fn decode(encoded: Encoded<'_>, killer: Killer) -> Result<Self> {
        let query = Query::decode(encoded.bytes);
        let query = query.map_err(|error| internal_datafusion_err!("a scan cannot be decoded: {error}"))?;
        let (table, schema) = (Arc::clone(encoded.table), Arc::clone(encoded.schema));
        Ok(Self { table, schema, query, killer, planned: None })
    }
}

impl Scan for MysqlScan {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn splits(&self) -> Vec<Split> {
        let Some(planned) = &self.planned else { return Vec::new() };
        let count = planned.cut.tasks.len().max(1) as u64;
        let split = |ranges: &Vec<String>| Split {
            bytes: planned.bytes.map(|bytes| bytes / count),
            rows: planned.rows.map(|rows| rows / count),
            payload: Part { ranges: ranges.clone(), readers: planned.cut.readers as u32 }.encode_to_vec().into(),
            ..Split::default()
        };
        planned.cut.tasks.iter().map(split).collect()
    }

    fn statistics(&self) -> Option<Statistics> {
        let planned = self.planned.as_ref()?;
        Some(estimates(&self.schema, planned.rows?, &planned.distinct))
    }

    /// A state that no other session can join.
    fn is_read_once(&self) -> bool {
        super::mode(&self.table) == Mode::Table
    }

    fn guard(&self) -> Option<ScanGuard> {
        let guard = self.planned.as_ref()?.guard.as_ref()?;
        Some(Arc::clone(guard) as ScanGuard)
    }

    fn describe(&self) -> String {
        let readers = self.planned.as_ref().map_or(1, |planned| planned.cut.readers);
        let readers = if readers > 1 { format!("connections={readers}, ") } else { String::new() };
        // A query of the user's may have several lines.
        format!("{readers}sql={}", self.query.sql("").replace('\n', " "))
    }

    fn encode(&self) -> Result<Vec<u8>> {
        Ok(self.query.encode_to_vec())
    }

    fn open(&self, split: &Split, task: &TaskOfScan) -> Result<SendableRecordBatchStream> {
        let part = Part::decode(split.payload.clone());
        let part = part.map_err(|error| internal_datafusion_err!("a split cannot be decoded: {error}"))?;
        let wire = |name: &String| Wire::parse(name).ok_or_else(|| internal_datafusion_err!("'{name}' is no type"));
        let opening = Opening {
            table: Arc::clone(&self.table),
            schema: Arc::clone(&self.schema),
            query: self.query.clone(),
            wires: self.query.wires.iter().map(wire).collect::<Result<_>>()?,
            killer: self.killer.clone(),
            ranges: Arc::new(Mutex::new(part.ranges.into())),
            readers: part.readers.max(1) as usize,
            rows: task.context.session_config().batch_size().max(1),
        };
        let batches = stream::once(opening.batches()).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}

/// Ranges that nobody has begun to read.
type Ranges = Arc<Mutex<VecDeque<String>>>;

type Batches = Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>;

/// A split that is to be read.
struct Opening {
    table: Arc<TableSpec>,
    schema: SchemaRef,
    query: Query,
    wires: Vec<Wire>,
    killer: Killer,
    ranges: Ranges,
    readers: usize,
    /// Maximum rows of a batch.
    rows: usize,
}

impl Opening {
    async fn batches(self) -> Result<Batches> {
        let mode = super::mode(&self.table);
        let settings = Arc::new(Location::parse(&self.table.location)?.settings(&self.table).await?);
        let mut first = Connection::open(&settings, &self.killer).await?;
        if mode == Mode::Table {
            snapshot::check(&mut first, &self.query.mark, mode).await?;
            if self.readers > 1
                && let Some(readers) = self.together(&mut first, &settings).await?
            {
                self.check_keys(&mut first).await?;
                return Ok(gathered(readers, first, self.query.mark));
            }
        }
        snapshot::begin(&mut first).await?;
        self.check_keys(&mut first).await?;
        if mode == Mode::Locked {
            // If the lock is held, it was when the transaction began.
            snapshot::check(&mut first, &self.query.mark, mode).await?;
        }
        let mark = (mode == Mode::Table).then(|| self.query.mark.clone());
        Ok(alone(self.reader(first)?, mark))
    }

    /// Behind the beginning of the state that is read.
    async fn check_keys(&self, connection: &mut Connection) -> Result<()> {
        for relied in &self.query.relied {
            relied.check(connection).await?;
        }
        Ok(())
    }

    /// Connections that see the same state.
    async fn together(&self, control: &mut Connection, settings: &Arc<Settings>) -> Result<Option<Vec<Reader>>> {
        let opened = (0..self.readers).map(|_| Connection::open(settings, &self.killer));
        let mut connections = try_join_all(opened).await?;
        match snapshot::begin_together(control, &self.query.from, &mut connections).await? {
            true => Ok(Some(connections.into_iter().map(|connection| self.reader(connection)).collect::<Result<_>>()?)),
            false => Ok(None),
        }
    }

    fn reader(&self, connection: Connection) -> Result<Reader> {
        let zero_dates_as_null = super::choices(&self.table).zero_dates_as_null;
        Ok(Reader {
            connection,
            query: self.query.clone(),
            schema: Arc::clone(&self.schema),
            ranges: Arc::clone(&self.ranges),
            decoder: Decoder::new(&self.schema, &self.wires, zero_dates_as_null)?,
            rows: self.rows,
            is_reading: false,
            counted: 0,
        })
    }
}

/// One connection that reads ranges.
struct Reader {
    connection: Connection,
    query: Query,
    schema: SchemaRef,
    ranges: Ranges,
    decoder: Decoder,
    rows: usize,
    /// A query has rows left.
    is_reading: bool,
    /// Rows that were counted and not passed on yet.
    counted: usize,
}

impl Reader {
    async fn batch(&mut self) -> Result<Option<RecordBatch>> {
        if self.query.counts() {
            return self.count().await;
        }
        loop {
            if !self.is_reading {
                let Some(range) = self.ranges.lock().pop_front() else { break };
                self.connection.begin(&self.query.sql(&range)).await?;
                self.is_reading = true;
            }
            while self.decoder.rows() < self.rows && self.decoder.bytes() < BATCH_BYTES {
                match self.connection.next().await? {
                    Some(row) => self.decoder.take(row)?,
                    None => {
                        self.is_reading = false;
                        break;
                    }
                }
            }
            if self.is_reading {
                return self.decoder.batch().map(Some);
            }
        }
        if self.decoder.rows() > 0 { self.decoder.batch().map(Some) } else { Ok(None) }
    }

    /// Batches without columns.
    async fn count(&mut self) -> Result<Option<RecordBatch>> {
        while self.counted == 0 {
            let Some(range) = self.ranges.lock().pop_front() else { return Ok(None) };
            let rows = self.connection.value(&self.query.counting(&range)).await?;
            let rows = rows.and_then(|rows| rows.parse().ok());
            self.counted = rows.ok_or_else(|| exec_datafusion_err!("MySQL does not say how many rows there are"))?;
        }
        let rows = self.counted.min(self.rows);
        self.counted -= rows;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(&self.schema), vec![], &options)?))
    }
}

fn alone(reader: Reader, mark: Option<String>) -> Batches {
    Box::pin(stream::try_unfold((reader, mark), |(mut reader, mark)| async move {
        if let Some(batch) = reader.batch().await? {
            return Ok(Some((batch, (reader, mark))));
        }
        if let Some(mark) = mark {
            snapshot::end(&mut reader.connection, &mark).await?;
        }
        Ok(None)
    }))
}

/// Readers side by side. `control`: a connection that waits for their end.
fn gathered(readers: Vec<Reader>, control: Connection, mark: String) -> Batches {
    struct Gathered {
        /// They end with it.
        tasks: JoinSet<()>,
        batches: mpsc::Receiver<Result<RecordBatch>>,
        control: Connection,
        mark: String,
    }
    let begun = stream::once(async move {
        let mut tasks = JoinSet::new();
        let (sender, batches) = mpsc::channel(1);
        for mut reader in readers {
            let sender = sender.clone();
            tasks.spawn(async move {
                loop {
                    let batch = reader.batch().await.transpose();
                    let Some(batch) = batch else { return };
                    let is_over = batch.is_err();
                    if sender.send(batch).await.is_err() || is_over {
                        return;
                    }
                }
            });
        }
        Gathered { tasks, batches, control, mark }
    });
    let batches = begun.flat_map(|gathered| {
        stream::try_unfold(gathered, |mut gathered| async move {
            if let Some(batch) = gathered.batches.recv().await {
                return batch.map(|batch| Some((batch, gathered)));
            }
            while let Some(ended) = gathered.tasks.join_next().await {
                ended.map_err(|error| internal_datafusion_err!("a reader of MySQL ended early: {error}"))?;
            }
            snapshot::end(&mut gathered.control, &gathered.mark).await?;
            Ok(None)
        })
    });
    Box::pin(batches)
}

/// A column of whole numbers, and its least and greatest value.
pub(super) struct Key {
    pub column: String,
    pub least: i128,
    pub greatest: i128,
    /// Rows may have no value.
    pub is_nullable: bool,
}

/// How much of everything a scan may have.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// Rows of a range, at least.
    pub split_rows: u64,
    /// Connections of the scan, that of its mark among them.
    pub connections: usize,
    pub tasks: usize,
}

impl Bounds {
    /// How many may read side by side. `rows`: about; absent: nobody counted them.
    pub fn side_by_side(&self, mode: Mode, rows: Option<u64>) -> usize {
        let most = match mode {
            // One holds the mark, and one waits for the end.
            Mode::Table => self.tasks.min(self.connections.saturating_sub(2)),
            Mode::Locked => self.tasks.min(self.connections.saturating_sub(1)),
            Mode::None => self.tasks.min(self.connections),
        };
        most.min(self.by_rows(rows)).max(1)
    }

    fn by_rows(&self, rows: Option<u64>) -> usize {
        let ranges = |rows: u64| usize::try_from(rows.div_ceil(self.split_rows.max(1))).unwrap_or(usize::MAX).max(1);
        rows.map_or(usize::MAX, ranges)
    }
}

impl Cut {
    pub fn whole() -> Self {
        Self { tasks: vec![vec![String::new()]], readers: 1 }
    }

    /// `rows`: about; absent: nobody counted them.
    pub fn by(key: &Key, mode: Mode, rows: Option<u64>, bounds: Bounds) -> Self {
        let side_by_side = bounds.side_by_side(mode, rows);
        if side_by_side == 1 {
            return Self::whole();
        }
        match mode {
            Mode::Table => {
                let ranges = ranges(key, (side_by_side * RANGES_EACH).min(bounds.by_rows(rows)));
                Self { readers: side_by_side.min(ranges.len()), tasks: vec![ranges] }
            }
            _ => Self { tasks: ranges(key, side_by_side).into_iter().map(|range| vec![range]).collect(), readers: 1 },
        }
    }
}

/// Conditions of which each row fulfils one.
fn ranges(key: &Key, count: usize) -> Vec<String> {
    let column = quoted(&key.column);
    let width = key.greatest - key.least + 1;
    let mut bounds: Vec<i128> = (1..count as i128).map(|n| key.least + width * n / count as i128).collect();
    bounds.retain(|bound| *bound > key.least);
    bounds.dedup();
    let range = |at: usize| {
        let from = at.checked_sub(1).map(|before| format!("{column} >= {}", bounds[before]));
        let to = bounds.get(at).map(|bound| format!("{column} < {bound}"));
        let condition = [from, to].into_iter().flatten().collect::<Vec<_>>().join(" AND ");
        // A row without a value is in the first.
        match at {
            0 if !bounds.is_empty() && key.is_nullable => format!("({condition} OR {column} IS NULL)"),
            _ => condition,
        }
    };
    (0..=bounds.len()).map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(least: i128, greatest: i128, is_nullable: bool) -> Key {
        Key { column: "id".into(), least, greatest, is_nullable }
    }

    #[test]
    fn ranges_follow_each_other() {
        let all = ranges(&key(i128::from(i64::MIN), i128::from(u64::MAX), true), 3);
        assert_eq!(all.len(), 3);
        assert!(all[0].starts_with("(`id` < ") && all[0].ends_with(" OR `id` IS NULL)"), "{all:?}");
        assert!(all[1].starts_with("`id` >= ") && all[2].starts_with("`id` >= "), "{all:?}");
        assert_eq!(ranges(&key(5, 5, false), 4), [""]);
        assert_eq!(ranges(&key(1, 10, false), 2), ["`id` < 6", "`id` >= 6"]);
    }

    #[test]
    fn what_the_server_counted_is_an_estimate() {
        use datafusion::arrow::datatypes::{DataType, Field, Schema};
        let field = |name: &str| Field::new(name, DataType::Int32, true);
        let schema: SchemaRef = Arc::new(Schema::new(vec![field("few"), field("many"), field("unknown")]));
        let counted = HashMap::from([("few".to_string(), 0), ("many".to_string(), 1000)]);
        let known = estimates(&schema, 100, &counted);
        assert_eq!(known.num_rows, Precision::Inexact(100));
        let distinct: Vec<_> = known.column_statistics.iter().map(|column| column.distinct_count).collect();
        assert_eq!(distinct, [Precision::Inexact(1), Precision::Inexact(100), Precision::Absent]);
    }

    #[test]
    fn connections_bound_who_reads() {
        let bounds = Bounds { split_rows: 100, connections: 8, tasks: 4 };
        let of = |mode, rows, bounds| Cut::by(&key(1, 1_000_000, false), mode, rows, bounds);
        let table = of(Mode::Table, Some(1_000_000), bounds);
        assert_eq!((table.tasks.len(), table.tasks[0].len(), table.readers), (1, 16, 4));
        assert_eq!(of(Mode::Locked, Some(1_000_000), bounds).tasks.len(), 4);
        assert_eq!(of(Mode::None, None, Bounds { connections: 3, ..bounds }).tasks.len(), 3);
        assert_eq!(of(Mode::Table, Some(90), bounds), Cut::whole());
        assert_eq!(of(Mode::Table, None, Bounds { connections: 3, ..bounds }), Cut::whole());
    }
}

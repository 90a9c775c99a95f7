//! Writers of files, and their encodings. DataFusion's encoding loses some of their options; these travel beside it.

use super::Registry;
use super::written::Watch;
use crate::arrow_files::ArrowSink;
use crate::file_formats::{planned_sink, unused_session};
use crate::partitions::Folders;
use crate::place::Place;
use crate::text_files::csv::CsvFilesSink;
use crate::text_files::lines::LineFilesSink;
use arrow::csv::WriterBuilder;
use arrow::datatypes::Schema;
use datafusion::common::config::TableParquetOptions;
use datafusion::common::file_options::csv_writer::CsvWriterOptions;
use datafusion::common::file_options::json_writer::JsonWriterOptions;
use datafusion::common::{GetExt, Result, internal_datafusion_err, internal_err, plan_err};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::json::JsonSink;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::physical_plan::FileSinkConfig;
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexRequirement, PhysicalSortRequirement};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion_proto::physical_plan::{AsExecutionPlan, DefaultPhysicalExtensionCodec};
use datafusion_proto::protobuf::physical_plan_node::PhysicalPlanType;
use datafusion_proto::protobuf::{self, PhysicalPlanNode};
use std::sync::Arc;

/// A writer: the format with its options, the schema, the partition columns and the final path.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct FileWriter {
    #[prost(oneof = "Format", tags = "1, 2")]
    format: Option<Format>,
    #[prost(uint32, optional, tag = "3")]
    compression_level: Option<u32>,
    /// Time formats of CSV files.
    #[prost(message, optional, tag = "4")]
    times: Option<TimeFormats>,
    /// The byte that begins comments in CSV files.
    #[prost(uint32, optional, tag = "5")]
    comment: Option<u32>,
    /// The kind of lines, of files of a kind that a connector knows. The format is then that of JSON lines.
    #[prost(string, optional, tag = "6")]
    lines: Option<String>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Format {
    /// DataFusion's sink over no input.
    #[prost(message, tag = "1")]
    DataFusion(PhysicalPlanNode),
    #[prost(message, tag = "2")]
    Arrow(protobuf::FileSinkConfig),
}

/// Formats of dates and times. DataFusion decodes an absent format as the empty one, which writes nothing.
#[derive(Clone, PartialEq, prost::Message)]
struct TimeFormats {
    #[prost(string, optional, tag = "1")]
    date: Option<String>,
    #[prost(string, optional, tag = "2")]
    datetime: Option<String>,
    #[prost(string, optional, tag = "3")]
    timestamp: Option<String>,
    #[prost(string, optional, tag = "4")]
    timestamp_tz: Option<String>,
    #[prost(string, optional, tag = "5")]
    time: Option<String>,
}

impl FileWriter {
    pub(super) fn of(sink: &DataSinkExec) -> Result<Self> {
        if let Some(arrow) = sink.sink().downcast_ref::<ArrowSink>() {
            let format = Some(Format::Arrow((&arrow.config).try_into()?));
            return Ok(Self { format, ..Self::default() });
        }
        let empty = Arc::new(EmptyExec::new(sink.input().schema()));
        let csv = sink.sink().downcast_ref::<CsvFilesSink>();
        let lines = sink.sink().downcast_ref::<LineFilesSink>();
        let order = || sink.sort_order().clone();
        let template: Arc<dyn ExecutionPlan> = match (csv, lines) {
            (Some(csv), _) => Arc::new(DataSinkExec::new(empty, Arc::new(csv.plain()), order())),
            (_, Some(lines)) => Arc::new(DataSinkExec::new(empty, Arc::new(lines.plain()), order())),
            (None, None) => Arc::new(sink.clone())
                .replace_children(vec![empty], ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))?,
        };
        let codec = DefaultPhysicalExtensionCodec {};
        let node = PhysicalPlanNode::try_from_physical_plan(template, &codec)?;
        let mut encoded = Self { format: Some(Format::DataFusion(node)), ..Self::default() };
        encoded.config()?;
        if let Some(CsvFilesSink { options, comment, .. }) = csv {
            encoded.comment = comment.map(u32::from);
            encoded.name_compression(options.compression.into())?;
            encoded.compression_level = options.compression_level;
            encoded.times = Some(TimeFormats::of(&options.writer_options));
        }
        let json = sink.sink().downcast_ref::<JsonSink>().map(JsonSink::writer_options);
        if let Some(options) = json.or(lines.map(|lines| &lines.options)) {
            encoded.name_compression(options.compression.into())?;
            encoded.compression_level = options.compression_level;
        }
        encoded.lines = lines.map(|lines| lines.format.name().to_string());
        Ok(encoded)
    }

    /// DataFusion names the files of INSERT without their compression. A table whose files are named with it would not read them.
    fn name_compression(&mut self, compression: FileCompressionType) -> Result<()> {
        let (config, ending) = (self.config()?, compression.get_ext());
        if !config.file_extension.ends_with(&ending) {
            config.file_extension.push_str(&ending);
        }
        Ok(())
    }

    /// The part that names the target.
    pub(super) fn config(&mut self) -> Result<&mut protobuf::FileSinkConfig> {
        let node = match &mut self.format {
            Some(Format::Arrow(config)) => return Ok(config),
            Some(Format::DataFusion(node)) => node.physical_plan_type.as_mut(),
            None => None,
        };
        let config = match node {
            Some(PhysicalPlanType::ParquetSink(sink)) => sink.sink.as_mut().and_then(|sink| sink.config.as_mut()),
            Some(PhysicalPlanType::CsvSink(sink)) => sink.sink.as_mut().and_then(|sink| sink.config.as_mut()),
            Some(PhysicalPlanType::JsonSink(sink)) => sink.sink.as_mut().and_then(|sink| sink.config.as_mut()),
            _ => return plan_err!("only Parquet, CSV, JSON and Arrow files can be written: choose one with STORED AS"),
        };
        config.ok_or_else(|| internal_datafusion_err!("an encoded sink has no configuration"))
    }

    /// The folder or the single file to write. A name without an extension is that of a folder, unless the statement says otherwise.
    pub(super) fn target(&self) -> Result<Place> {
        let mut sink = self.clone();
        let config = sink.config()?;
        let Some(path) = config.table_paths.first() else { return internal_err!("an encoded sink has no target") };
        let place = Place::from_url(path)?;
        let has_ending = || place.path().extension().is_some();
        let is_file = config.table_partition_cols.is_empty()
            && match config.file_output_mode() {
                protobuf::FileOutputMode::SingleFile => true,
                protobuf::FileOutputMode::Directory => false,
                protobuf::FileOutputMode::Automatic => !place.is_folder() && has_ending(),
            };
        Ok(if is_file { place.as_file() } else { place.as_folder() })
    }

    /// The sink with `folder` as its target: the same file name in it when the target is a single file.
    pub(super) fn at(mut self, folder: &Place) -> Result<Self> {
        let target = self.target()?;
        let name = target.path().filename().filter(|_| !target.is_folder());
        let (place, mode) = match name {
            Some(name) => (folder.file(name)?, protobuf::FileOutputMode::SingleFile),
            None => (folder.clone(), protobuf::FileOutputMode::Directory),
        };
        let config = self.config()?;
        config.table_paths = vec![place.url()];
        config.set_file_output_mode(mode);
        config.file_groups.clear();
        Ok(self)
    }

    /// Writes `rows` and counts them.
    pub(super) async fn write_all(
        &self,
        rows: SendableRecordBatchStream,
        context: &Arc<TaskContext>,
        watch: &Watch,
    ) -> Result<u64> {
        let written = self.write_watched(rows, &watch.over(context)?).await;
        written.map_err(|error| watch.explains(error))
    }

    async fn write_watched(&self, rows: SendableRecordBatchStream, context: &Arc<TaskContext>) -> Result<u64> {
        let config = self.clone().config()?.clone();
        if config.table_partition_cols.is_empty() {
            return self.write_files(rows, context).await;
        }
        let columns = config.table_partition_cols.iter().map(|column| column.name.clone()).collect();
        let folders = Folders { columns, kept: config.keep_partition_by_columns };
        let in_files = folders.in_files(&rows.schema());
        let sink = self.clone().in_folders(&in_files)?;
        let write = |folder: String, rows| {
            let (sink, context) = (sink.clone(), Arc::clone(context));
            async move { sink.below(&folder)?.write_files(rows, &context).await }
        };
        folders.write(rows, write).await
    }

    /// The sink for the files of one partition folder; `in_files` are the columns in the files.
    fn in_folders(mut self, in_files: &Schema) -> Result<Self> {
        let config = self.config()?;
        config.table_partition_cols.clear();
        config.output_schema = Some(in_files.try_into()?);
        Ok(self)
    }

    /// The sink below the target, in `folder`.
    fn below(mut self, folder: &str) -> Result<Self> {
        for target in &mut self.config()?.table_paths {
            *target = format!("{}/{folder}", target.trim_end_matches('/'));
        }
        Ok(self)
    }

    async fn write_files(&self, rows: SendableRecordBatchStream, context: &Arc<TaskContext>) -> Result<u64> {
        let node = match &self.format {
            Some(Format::Arrow(config)) => {
                return ArrowSink::new(config.try_into()?).await?.write_all(rows, context).await;
            }
            Some(Format::DataFusion(node)) => node,
            None => return internal_err!("an encoded sink has no format"),
        };
        let config = FileSinkConfig::try_from(&*self.clone().config()?)?;
        match &node.physical_plan_type {
            Some(PhysicalPlanType::CsvSink(csv)) => {
                let options = csv.sink.as_ref().and_then(|sink| sink.writer_options.as_ref());
                let mut options = CsvWriterOptions::try_from(options.ok_or_else(no_options)?)?;
                options.writer_options = self.times.clone().unwrap_or_default().restore(&options.writer_options);
                options.compression_level = self.compression_level;
                let comment = self.comment.and_then(|comment| u8::try_from(comment).ok());
                DataSink::write_all(&CsvFilesSink { config, options, comment }, rows, context).await
            }
            Some(PhysicalPlanType::JsonSink(json)) => {
                let options = json.sink.as_ref().and_then(|sink| sink.writer_options.as_ref());
                let mut options = JsonWriterOptions::try_from(options.ok_or_else(no_options)?)?;
                options.compression_level = self.compression_level;
                let Some(lines) = &self.lines else {
                    return DataSink::write_all(&JsonSink::new(config, options), rows, context).await;
                };
                let format = Registry::of(context.session_config()).require_format(lines)?;
                DataSink::write_all(&LineFilesSink { config, options, format }, rows, context).await
            }
            Some(PhysicalPlanType::ParquetSink(parquet)) => {
                let options = parquet.sink.as_ref().and_then(|sink| sink.parquet_options.as_ref());
                let options = TableParquetOptions::try_from(options.ok_or_else(no_options)?)?;
                // The format notes the sort order in the files; a decoded sink would not.
                let decoded = node.try_into_physical_plan(context, &DefaultPhysicalExtensionCodec {})?;
                let decoded = planned_sink(&decoded)?;
                let input = Arc::clone(decoded.input());
                let order = decoded.sort_order().as_ref().and_then(|order| order_in(order, config.output_schema()));
                let format = ParquetFormat::default().with_options(options);
                let plan = format.create_writer_physical_plan(input, unused_session(), config, order).await?;
                planned_sink(&plan)?.sink().write_all(rows, context).await
            }
            _ => internal_err!("an encoded sink is of an unknown kind"),
        }
    }
}

/// `order` for rows of `schema`. The schema may lack columns that have one value in all its rows.
fn order_in(order: &LexRequirement, schema: &Schema) -> Option<LexRequirement> {
    let column = |key: &PhysicalSortRequirement| key.expr.downcast_ref::<Column>().map(Column::name).map(String::from);
    let keys = order.iter().map_while(|key| Some((column(key)?, key.options)));
    let keys = keys.filter_map(|(name, options)| {
        let index = schema.index_of(&name).ok()?;
        Some(PhysicalSortRequirement::new(Arc::new(Column::new(&name, index)), options))
    });
    LexRequirement::new(keys)
}

fn no_options() -> datafusion::common::DataFusionError {
    internal_datafusion_err!("an encoded sink has no options")
}

impl TimeFormats {
    fn of(writer: &WriterBuilder) -> Self {
        Self {
            date: writer.date_format().map(String::from),
            datetime: writer.datetime_format().map(String::from),
            timestamp: writer.timestamp_format().map(String::from),
            timestamp_tz: writer.timestamp_tz_format().map(String::from),
            time: writer.time_format().map(String::from),
        }
    }

    /// `decoded` with these formats. A builder never forgets a format, so this makes a new one.
    fn restore(self, decoded: &WriterBuilder) -> WriterBuilder {
        let mut writer = WriterBuilder::new()
            .with_header(decoded.header())
            .with_delimiter(decoded.delimiter())
            .with_quote(decoded.quote())
            .with_escape(decoded.escape())
            .with_double_quote(decoded.double_quote())
            .with_null(decoded.null().to_string())
            .with_quote_style(decoded.quote_style())
            .with_ignore_leading_whitespace(decoded.ignore_leading_whitespace())
            .with_ignore_trailing_whitespace(decoded.ignore_trailing_whitespace());
        if let Some(format) = self.date {
            writer = writer.with_date_format(format);
        }
        if let Some(format) = self.datetime {
            writer = writer.with_datetime_format(format);
        }
        if let Some(format) = self.timestamp {
            writer = writer.with_timestamp_format(format);
        }
        if let Some(format) = self.timestamp_tz {
            writer = writer.with_timestamp_tz_format(format);
        }
        if let Some(format) = self.time {
            writer = writer.with_time_format(format);
        }
        writer
    }
}

//! Events as files: Parquet, Arrow or NDJSON.

use crate::QueryError;
use crate::text::{push_hex, push_instant, push_json_string, push_number};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int16Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, BinaryArray, ListArray, StringViewArray};
use arrow_array::{Int16Array, Int64Array, TimestampMicrosecondArray};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use arrow_schema::{ArrowError, DataType};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use std::io::{BufWriter, Write};
use telltale_schema::EventBatch;
use telltale_schema::columns::{Column, schema};
use telltale_schema::compact::compact;

/// Rows of a Parquet row group at most: what a reader decodes at once, and what the writer holds
/// (compressed) before it is written.
const ROW_GROUP_ROWS: usize = 128 * 1024;
/// Encoded bytes of a Parquet row group at most, for events that are long.
const ROW_GROUP_BYTES: usize = 32 << 20;
/// Bytes of NDJSON that are collected before they are written.
const LINES_BYTES: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// One event a line: absent columns left out, ids as hex, times as RFC 3339.
    Ndjson,
    Parquet,
    /// Arrow IPC with a footer, for a file that is opened at random.
    ArrowFile,
    /// Arrow IPC as a stream, for a pipe.
    ArrowStream,
}

/// Writes batches of events in one format.
///
/// Errors: those of the destination as [`QueryError::Write`]; without [`ExportWriter::finish`] a
/// Parquet or Arrow file is not complete.
pub struct ExportWriter<W: Write + Send> {
    encoder: Encoder<W>,
}

enum Encoder<W: Write + Send> {
    Ndjson { out: W, lines: Vec<u8> },
    Parquet(Box<ArrowWriter<BufWriter<W>>>),
    ArrowFile(Box<FileWriter<BufWriter<W>>>),
    ArrowStream(Box<StreamWriter<BufWriter<W>>>),
}

impl<W: Write + Send> ExportWriter<W> {
    pub fn new(format: ExportFormat, out: W) -> Result<Self, QueryError> {
        let encoder = match format {
            ExportFormat::Ndjson => Encoder::Ndjson { out, lines: Vec::new() },
            ExportFormat::Parquet => {
                let properties = Some(parquet_properties().build());
                let writer = ArrowWriter::try_new(BufWriter::new(out), schema(), properties);
                Encoder::Parquet(Box::new(writer.map_err(QueryError::from_parquet)?))
            }
            ExportFormat::ArrowFile => {
                let options = ipc_options().map_err(arrow)?;
                let out = BufWriter::new(out);
                let writer = FileWriter::try_new_with_options(out, &schema(), options);
                Encoder::ArrowFile(Box::new(writer.map_err(arrow)?))
            }
            ExportFormat::ArrowStream => {
                let options = ipc_options().map_err(arrow)?;
                let out = BufWriter::new(out);
                let writer = StreamWriter::try_new_with_options(out, &schema(), options);
                Encoder::ArrowStream(Box::new(writer.map_err(arrow)?))
            }
        };
        Ok(Self { encoder })
    }

    pub fn write(&mut self, batch: &EventBatch) -> Result<(), QueryError> {
        if batch.is_empty() {
            return Ok(());
        }
        match &mut self.encoder {
            Encoder::Ndjson { out, lines } => {
                let columns = Values::of(batch);
                for row in batch.rows() {
                    push_line(lines, &columns, row);
                    if lines.len() >= LINES_BYTES {
                        out.write_all(lines).map_err(QueryError::Write)?;
                        lines.clear();
                    }
                }
                Ok(())
            }
            // Parquet's encoders copy the values themselves.
            Encoder::Parquet(writer) => {
                writer.write(batch.record_batch()).map_err(QueryError::from_parquet)
            }
            Encoder::ArrowFile(writer) => {
                writer.write(&compact(batch.record_batch())).map_err(arrow)
            }
            Encoder::ArrowStream(writer) => {
                writer.write(&compact(batch.record_batch())).map_err(arrow)
            }
        }
    }

    /// Completes the file, flushes it and gives the destination back.
    pub fn finish(self) -> Result<W, QueryError> {
        let buffered = match self.encoder {
            Encoder::Ndjson { mut out, lines } => {
                out.write_all(&lines).and_then(|()| out.flush()).map_err(QueryError::Write)?;
                return Ok(out);
            }
            Encoder::Parquet(writer) => writer.into_inner().map_err(QueryError::from_parquet)?,
            // Both write their end and flush.
            Encoder::ArrowFile(writer) => writer.into_inner().map_err(arrow)?,
            Encoder::ArrowStream(writer) => writer.into_inner().map_err(arrow)?,
        };
        let mut out = buffered.into_inner().map_err(|e| QueryError::Write(e.into_error()))?;
        out.flush().map_err(QueryError::Write)?;
        Ok(out)
    }
}

fn arrow(error: ArrowError) -> QueryError {
    QueryError::from_arrow("Arrow", error)
}

fn ipc_options() -> Result<IpcWriteOptions, ArrowError> {
    IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD))
}

/// Statistics on every column that somebody filters by, which nobody does by the least and greatest
/// id or record. Those repeat nothing either, so a dictionary of them would only be thrown away
/// again; times are nearly sorted.
pub(crate) fn parquet_properties() -> WriterPropertiesBuilder {
    let path = |column: Column| ColumnPath::from(column.name());
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .set_created_by(concat!("telltale ", env!("CARGO_PKG_VERSION")).to_owned())
        // Ids are hashes: nothing repeats in them.
        .set_column_compression(path(Column::EventId), Compression::UNCOMPRESSED)
        .set_column_statistics_enabled(path(Column::EventId), EnabledStatistics::None)
        .set_column_statistics_enabled(path(Column::Raw), EnabledStatistics::None)
        .set_column_dictionary_enabled(path(Column::EventId), false)
        .set_column_dictionary_enabled(path(Column::Raw), false)
        .set_column_dictionary_enabled(path(Column::EventTime), false)
        .set_column_encoding(path(Column::EventTime), Encoding::DELTA_BINARY_PACKED)
}

/// One column of a batch, by how its values are written.
enum Values<'a> {
    Id(&'a BinaryArray),
    Instant(&'a TimestampMicrosecondArray),
    Text(&'a StringViewArray),
    Short(&'a Int16Array),
    Long(&'a Int64Array),
    Links(&'a ListArray, &'a StringViewArray),
}

impl<'a> Values<'a> {
    fn of(batch: &'a EventBatch) -> Vec<(&'static str, Self)> {
        let typed = |column: &Column| {
            let array = batch.record_batch().column(*column as usize);
            let values = match column.data_type() {
                DataType::Binary => Self::Id(array.as_binary()),
                DataType::Timestamp(..) => {
                    Self::Instant(array.as_primitive::<TimestampMicrosecondType>())
                }
                DataType::Int16 => Self::Short(array.as_primitive::<Int16Type>()),
                DataType::Int64 => Self::Long(array.as_primitive::<Int64Type>()),
                DataType::List(_) => {
                    let list = array.as_list::<i32>();
                    Self::Links(list, list.values().as_string_view())
                }
                _ => Self::Text(array.as_string_view()),
            };
            (column.name(), values)
        };
        Column::ALL.iter().map(typed).collect()
    }

    fn array(&self) -> &dyn Array {
        match self {
            Self::Id(array) => *array,
            Self::Instant(array) => *array,
            Self::Text(array) => *array,
            Self::Short(array) => *array,
            Self::Long(array) => *array,
            Self::Links(array, _) => *array,
        }
    }

    fn push(&self, out: &mut Vec<u8>, row: usize) {
        match self {
            Self::Id(array) => {
                out.push(b'"');
                push_hex(out, array.value(row));
                out.push(b'"');
            }
            Self::Instant(array) => {
                out.push(b'"');
                push_instant(out, array.value(row));
                out.push(b'"');
            }
            Self::Text(array) => push_json_string(out, array.value(row)),
            Self::Short(array) => push_number(out, array.value(row).into()),
            Self::Long(array) => push_number(out, array.value(row)),
            Self::Links(list, links) => {
                let offsets = list.value_offsets();
                let mut separator = b'[';
                for link in offsets[row] as usize..offsets[row + 1] as usize {
                    out.push(separator);
                    push_json_string(out, links.value(link));
                    separator = b',';
                }
                if separator == b'[' {
                    out.push(b'[');
                }
                out.push(b']');
            }
        }
    }
}

/// Appends one event and a line feed, in the form in which [`telltale_schema::Event`] serializes.
fn push_line(out: &mut Vec<u8>, columns: &[(&'static str, Values<'_>)], row: usize) {
    let mut separator = b'{';
    for (name, values) in columns {
        if values.array().is_null(row) {
            continue;
        }
        out.extend_from_slice(&[separator, b'"']);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        values.push(out, row);
        separator = b',';
    }
    out.extend_from_slice(b"}\n");
}

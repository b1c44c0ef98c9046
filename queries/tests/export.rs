//! Events as files: what is written reads back as the same events.

mod common;

use arrow_array::RecordBatch;
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_select::concat::concat_batches;
use common::{batch_of, read_events, synthetic};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs::File;
use std::io::{Cursor, Write};
use std::path::Path;
use telltale_queries::{ExportFormat, ExportWriter};
use telltale_schema::columns::schema;
use telltale_schema::{Event, EventBatch};

fn export(format: ExportFormat, batches: &[EventBatch]) -> Vec<u8> {
    let mut writer = ExportWriter::new(format, Vec::new()).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.finish().unwrap()
}

fn parquet_reader(bytes: &[u8]) -> ParquetRecordBatchReaderBuilder<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    ParquetRecordBatchReaderBuilder::try_new(file).unwrap()
}

fn batches() -> Vec<EventBatch> {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/export.jsonl");
    vec![
        batch_of(&read_events(&fixture)),
        synthetic("aws_cloudtrail", 700, 0),
        batch_of(&[]),
        synthetic("gcp_audit", 300, 700),
    ]
}

fn together<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> RecordBatch {
    concat_batches(&schema(), batches).unwrap()
}

fn check(read: Vec<RecordBatch>) {
    let batches = batches();
    let expected = together(batches.iter().map(EventBatch::record_batch));
    assert_eq!(together(&read), expected);
    for batch in read {
        EventBatch::try_from(batch).unwrap();
    }
}

#[test]
fn parquet_reads_back_with_the_same_columns_and_statistics() {
    let bytes = export(ExportFormat::Parquet, &batches());
    let reader = parquet_reader(&bytes);
    let groups = reader.metadata().row_groups();
    assert_eq!(groups.len(), 1);
    for column in groups[0].columns() {
        // Nobody looks for the least id or record.
        let is_sought = !matches!(column.column_path().string().as_str(), "event_id" | "raw");
        assert_eq!(column.statistics().is_some(), is_sought, "{}", column.column_path());
    }
    check(reader.build().unwrap().map(Result::unwrap).collect());
}

#[test]
fn arrow_reads_back_and_holds_no_payload_behind_its_views() {
    let bytes = export(ExportFormat::ArrowFile, &batches());
    let payloads = 1000 * 700;
    assert!(bytes.len() < payloads / 2, "{} bytes", bytes.len());
    let reader = FileReader::try_new(Cursor::new(&bytes), None).unwrap();
    check(reader.map(Result::unwrap).collect());
    let bytes = export(ExportFormat::ArrowStream, &batches());
    let reader = StreamReader::try_new(Cursor::new(&bytes), None).unwrap();
    check(reader.map(Result::unwrap).collect());
}

#[test]
fn ndjson_is_the_text_form_of_events() {
    let text = String::from_utf8(export(ExportFormat::Ndjson, &batches())).unwrap();
    let mut lines = text.lines();
    for batch in batches() {
        for row in batch.rows() {
            let chain: Vec<&str> = batch.chain(row).collect();
            let event = Event { delegation_chain: &chain, ..batch.event(row) };
            assert_eq!(lines.next(), Some(serde_json::to_string(&event).unwrap().as_str()));
        }
    }
    assert_eq!(lines.next(), None);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/export.jsonl");
    assert!(text.starts_with(&std::fs::read_to_string(fixture).unwrap()), "{text:.2000}");
}

#[test]
fn without_events_a_file_is_whole_and_empty() {
    assert_eq!(export(ExportFormat::Ndjson, &[]), b"");
    let bytes = export(ExportFormat::Parquet, &[]);
    let reader = parquet_reader(&bytes);
    assert_eq!(reader.schema().as_ref(), schema().as_ref());
    assert_eq!(reader.build().unwrap().count(), 0);
    let bytes = export(ExportFormat::ArrowFile, &[]);
    assert_eq!(FileReader::try_new(Cursor::new(&bytes), None).unwrap().count(), 0);
}

#[test]
fn full_disk_is_an_error_of_the_destination() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    for format in [
        ExportFormat::Ndjson,
        ExportFormat::Parquet,
        ExportFormat::ArrowFile,
        ExportFormat::ArrowStream,
    ] {
        let written = ExportWriter::new(format, Full).and_then(|mut writer| {
            writer.write(&synthetic("aws_cloudtrail", 3000, 0))?;
            writer.finish().map(drop)
        });
        assert_eq!(written.unwrap_err().to_string(), "cannot write the output", "{format:?}");
    }
}

//! What is appended is in the table once, in order, and a table of an older version goes on.

mod common;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, RecordBatch};
use common::{batch_of, read_events, synthetic};
use deltalake_core::DeltaTable;
use deltalake_core::kernel::StructType;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use telltale_queries::lake::{EVENT_PARTITIONS, LakeTable, threads};
use telltale_queries::objects::Options;
use telltale_schema::EventBatch;
use telltale_schema::columns::{Column, schema};

fn open(folder: &Path) -> LakeTable {
    let place = folder.display().to_string();
    LakeTable::open(&place, &Options::new(), &EVENT_PARTITIONS, threads().unwrap()).unwrap()
}

/// How often each id is there.
type Ids = BTreeMap<Vec<u8>, usize>;

fn count(ids: &mut Ids, batch: &EventBatch) {
    let column = batch.record_batch().column(Column::EventId as usize);
    for id in column.as_binary::<i32>().iter().flatten() {
        *ids.entry(id.to_vec()).or_default() += 1;
    }
}

fn ids(table: &LakeTable) -> Ids {
    let mut ids = Ids::new();
    let take = |batch: EventBatch| {
        count(&mut ids, &batch);
        true
    };
    table.events(take).unwrap();
    ids
}

/// Events of several logs, in no order: two thirds of one day, the others of many.
fn batches() -> Vec<EventBatch> {
    let read =
        read_events(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/query.jsonl")));
    let of_one_log = read.chunk_by(|a, b| a.get("log") == b.get("log"));
    let mut batches: Vec<_> = of_one_log.map(batch_of).collect();
    batches.push(synthetic("aws_cloudtrail", 20_000, 0));
    batches.insert(0, synthetic("kubernetes_audit", 9_000, 50_000));
    batches
}

fn plain(batches: Vec<EventBatch>) -> Vec<RecordBatch> {
    batches.into_iter().map(EventBatch::into_record_batch).collect()
}

fn parquet_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true if path.ends_with("_delta_log") => {}
            true => found.extend(parquet_files(&path)),
            false => found.push(path),
        }
    }
    found
}

#[test]
fn what_is_appended_is_there_once_sorted_by_principal_and_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = open(folder.path());
    let batches = batches();
    let mut expected = Ids::new();
    batches.iter().for_each(|batch| count(&mut expected, batch));
    table.append(plain(batches), 7).unwrap();
    assert_eq!(open(folder.path()).flushed().unwrap(), 7);
    assert!(ids(&open(folder.path())) == expected, "each row is there as often as it was appended");
    let files = parquet_files(folder.path());
    assert!(files.len() > 2, "days and logs have files of their own: {files:?}");
    for file in files {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&file).unwrap()).unwrap();
        let mut last = None;
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            let names = batch.column_by_name("principal_id").unwrap().as_string_view();
            let times = batch.column_by_name("event_time").unwrap();
            let times = times.as_primitive::<TimestampMicrosecondType>();
            for row in 0..batch.num_rows() {
                let name = names.is_valid(row).then(|| names.value(row).to_owned());
                let place = Some((name, times.is_valid(row).then(|| times.value(row))));
                assert!(last <= place, "{}: {last:?} before {place:?}", file.display());
                last = place;
            }
        }
    }
}

#[test]
fn what_is_written_piece_by_piece_is_one_commit_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = open(folder.path());
    let pieces = [0, 9_000, 18_000];
    let write = |table: &mut LakeTable| {
        let mut files = None;
        for first in pieces {
            let rows = plain(vec![synthetic("okta_system_log", 9_000, first)]);
            table.write(&mut files, rows).unwrap();
        }
        files.unwrap()
    };
    let given_up = write(&mut table);
    table.abort(given_up);
    assert_eq!((ids(&open(folder.path())).len(), open(folder.path()).flushed().unwrap()), (0, 0));
    let files = write(&mut table);
    assert_eq!(ids(&open(folder.path())).len(), 0, "nobody knows of it before it is committed");
    table.commit(files, 3).unwrap();
    assert_eq!(open(folder.path()).flushed().unwrap(), 3);
    let mut expected = Ids::new();
    for first in pieces {
        count(&mut expected, &synthetic("okta_system_log", 9_000, first));
    }
    assert!(ids(&open(folder.path())) == expected);
    let days = std::fs::read_dir(folder.path()).unwrap().count() - 1;
    assert_eq!(parquet_files(folder.path()).len(), days, "a file for each day, not for each piece");
}

#[test]
fn days_that_are_deleted_meanwhile_are_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = open(folder.path());
    table.append(plain(vec![synthetic("aws_cloudtrail", 100, 0)]), 1).unwrap();
    let mut other = open(folder.path());
    assert!(other.forget(&[], Some(4_102_444_800_000_000)).unwrap() > 0);
    table.append(plain(vec![synthetic("okta_system_log", 50, 0)]), 2).unwrap();
    assert_eq!(table.flushed().unwrap(), 2);
    let left = ids(&table);
    assert_eq!((left.len(), left.values().max()), (50, Some(&1)));
}

#[test]
fn what_a_killed_process_left_behind_goes() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = open(folder.path());
    table.append(plain(vec![synthetic("okta_system_log", 500, 0)]), 1).unwrap();
    let rows = ids(&table);
    let of_table = parquet_files(folder.path());
    let beside = |name: &str, age: u64| {
        let path = of_table[0].with_file_name(name);
        let file = File::create(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        path
    };
    let unfinished = beside("part-1.parquet#12", 0);
    let [old, new] =
        [("part-2.parquet", 3700), ("part-3.parquet", 3500)].map(|(n, a)| beside(n, a));
    table.clear_unfinished().unwrap();
    assert!(!unfinished.exists() && old.exists() && new.exists());
    table.maintain(Duration::ZERO).unwrap();
    assert!(old.exists() && new.exists(), "it may be of a commit that is under way");
    table.maintain(Duration::from_secs(3600)).unwrap();
    assert!(!old.exists() && new.exists());
    assert!(of_table.iter().all(|file| file.exists()) && ids(&open(folder.path())) == rows);
}

#[test]
fn a_table_of_a_version_without_a_column_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    let whole: StructType = schema().as_ref().try_into_kernel().unwrap();
    let day = deltalake_core::kernel::StructField::nullable(
        "day",
        deltalake_core::kernel::DataType::DATE,
    );
    let older = whole.fields().filter(|field| field.name() != "change_id").cloned().chain([day]);
    let place = deltalake_core::ensure_table_uri(folder.path().display().to_string()).unwrap();
    threads().unwrap().block_on(async {
        let table = DeltaTable::try_from_url(place).await.unwrap();
        let create = table.create().with_columns(older);
        create.with_partition_columns(EVENT_PARTITIONS).await.unwrap();
    });
    let mut table = open(folder.path());
    for (entry, first) in [(1, 0), (2, 500)] {
        table.append(plain(vec![synthetic("okta_system_log", 500, first)]), entry).unwrap();
    }
    assert_eq!(ids(&open(folder.path())).len(), 1000);
    assert_eq!(open(folder.path()).flushed().unwrap(), 2);
}

//! The lake: a Delta table for each kind of row, in a folder or an object store.
//!
//! A commit carries the number of the last journal entry in it as an application transaction, in
//! the same commit as the files, so that an entry is in the table once, however often the attempt is
//! made. Spark, Trino, DuckDB and Polars read the tables as they are.
//!
//! `order` rows of events in the order in which they are kept · `durable` a folder whose files are on
//! disk once they are written.

mod durable;
mod order;

use crate::QueryError;
use crate::export::parquet_properties;
use crate::objects::{self, Options};
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, RecordBatch, new_null_array};
use arrow_schema::SchemaRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::prelude::{Expr, SessionConfig, SessionContext, col, lit};
use datafusion::scalar::ScalarValue;
use deltalake_core::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::transaction::{
    CommitBuilder, CommitProperties, FinalizedCommit, TransactionError,
};
use deltalake_core::kernel::{Action, Add, PrimitiveType, StructType, Transaction};
use deltalake_core::logstore::{
    LogStore, LogStoreFactory, ObjectStoreFactory, ObjectStoreRef, StorageConfig, default_logstore,
    logstore_factories, object_store_factories,
};
use deltalake_core::operations::optimize::OptimizeType;
use deltalake_core::operations::vacuum::VacuumMode;
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::table::config::{TablePropertiesExt, TableProperty};
use deltalake_core::{DeltaResult, DeltaTable, DeltaTableError, ensure_table_uri};
use durable::{Durable, is_unfinished};
use futures::StreamExt;
use object_store::path::Path;
use order::{Ordered, SLICE_ROWS, Slice, schema_with_day};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::io;
use std::num::NonZeroU64;
use std::sync::{Arc, Once};
use std::time::Duration;
use telltale_schema::columns::{Column, schema};
use telltale_schema::time::{DAY, UNKNOWN, format_instant};
use telltale_schema::{EventBatch, EventId, Micros};
use tokio::runtime::Runtime;
use url::Url;

/// Whose transaction carries the journal's numbers.
const APPLICATION: &str = "telltale";
/// Bytes of a file that compaction aims at.
const FILE_BYTES: u64 = 128 << 20;

/// How old a file has to be that no commit knows of, before it counts as left behind by a process
/// that was killed: one that is being written is in no commit either.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);

/// Threads that wait for files at once.
const BLOCKING_THREADS: usize = 16;

/// The partition columns of a table of events.
pub const EVENT_PARTITIONS: [&str; 2] = ["day", "log"];

/// Columns of which a file of events has a range of its own. In others it spans what there is, and
/// nobody who reads the table can leave it out by that.
const EVENT_RANGES: [Column; 4] =
    [Column::EventTime, Column::ReceivedAt, Column::Tenant, Column::PrincipalId];

/// Text of which a row group has a range of its own, because rows are kept in its order or nearly so.
/// Of other text a range spans what there is, and every value would have to be compared for it.
const RANGED_TEXT: [Column; 3] = [Column::Tenant, Column::PrincipalId, Column::CredentialId];

/// One Delta table.
pub struct LakeTable {
    table: DeltaTable,
    partitions: &'static [&'static str],
    threads: Arc<Runtime>,
}

/// Files of a table that are being written, of which nobody knows before they are committed.
pub struct Files(DeltaWriter);

/// A table as it was when it was opened, for a query.
#[derive(Clone, Debug)]
pub struct LakeSnapshot {
    pub(crate) provider: Arc<dyn TableProvider>,
}

/// Threads that tables share for their reading and writing.
pub fn threads() -> Result<Arc<Runtime>, QueryError> {
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        // Files are read and written on threads of their own, each of which keeps memory that it has
        // freed: a few are enough, and an idle one ends. One may wait for another.
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(Duration::from_secs(1))
        .thread_name("lake")
        .enable_all()
        .build();
    threads.map(Arc::new).map_err(QueryError::Threads)
}

impl LakeTable {
    /// Opens the table at a folder or URL, which need not be there yet. `options` are those of the
    /// object store, where it is one.
    ///
    /// Errors: a place that cannot be reached, or holds something else.
    pub fn open(
        place: &str,
        options: &Options,
        partitions: &'static [&'static str],
        threads: Arc<Runtime>,
    ) -> Result<Self, QueryError> {
        register();
        if place.contains("://") {
            // Whatever is wrong with the URL is said in our words.
            objects::open(place, options)?;
        }
        let url = ensure_table_uri(place).map_err(lake)?;
        let options = options.clone().into_iter().collect();
        let opened = DeltaTable::try_from_url_with_storage_options(url, options);
        let table = threads.block_on(opened).map_err(lake)?;
        Ok(Self { table, partitions, threads })
    }

    /// Takes note of what is in the table: a commit may be there whose answer was lost.
    pub fn refresh(&mut self) -> Result<(), QueryError> {
        match self.threads.block_on(self.table.update_state()) {
            // Nothing was written to it yet.
            Err(DeltaTableError::NotATable(_)) => Ok(()),
            result => result.map_err(lake),
        }
    }

    /// Deletes what a process that was killed had not written to its end, where the table is a
    /// folder; an object store shows nobody what is not complete. To be called while nobody writes.
    ///
    /// Errors: a folder that cannot be read or a file that cannot be deleted.
    pub fn clear_unfinished(&self) -> io::Result<()> {
        let folder = self.table.log_store().root_url().to_file_path();
        folder.map_or(Ok(()), |folder| clear_unfinished(&folder))
    }

    /// Number of the last journal entry in the table; 0 for none.
    pub fn flushed(&self) -> Result<u64, QueryError> {
        let Ok(snapshot) = self.table.snapshot() else { return Ok(0) };
        let log = self.table.log_store();
        let version = self
            .threads
            .block_on(snapshot.transaction_version(log.as_ref(), APPLICATION))
            .map_err(lake)?;
        Ok(version.and_then(|version| u64::try_from(version).ok()).unwrap_or_default())
    }

    /// Adds rows in one commit that says that the table holds everything up to `entry`.
    ///
    /// Shape: batches of one schema; with partitions, those of events.
    /// Errors: the place cannot be written; nothing of it is in the table then.
    pub fn append(&mut self, batches: Vec<RecordBatch>, entry: u64) -> Result<(), QueryError> {
        let mut files = None;
        self.write(&mut files, batches)?;
        match files {
            Some(files) => self.commit(files, entry),
            None => Ok(()),
        }
    }

    /// Adds rows to `files`, begun if need be, which are in the table once they are committed. Rows
    /// of one call are in order among themselves. Returns in how many partitions they are.
    ///
    /// Shape and errors: as for [`LakeTable::append`]; what was written before is gone as well then.
    pub fn write(
        &mut self,
        files: &mut Option<Files>,
        batches: Vec<RecordBatch>,
    ) -> Result<usize, QueryError> {
        let Some(schema) = batches.first().map(RecordBatch::schema) else { return Ok(0) };
        let threads = Arc::clone(&self.threads);
        threads.block_on(async {
            let is_partitioned = !self.partitions.is_empty();
            let schema = if is_partitioned { schema_with_day() } else { schema };
            let mut writer = self.begun(files, &schema).await?;
            let written = async {
                if !is_partitioned {
                    for batch in &batches {
                        writer.write(batch).await.map_err(lake)?;
                    }
                    return Ok(1);
                }
                let ordered = Ordered::of(batches);
                for slice in ordered.slices() {
                    write_slice(&mut writer, slice?).await.map_err(lake)?;
                }
                Ok(ordered.partitions())
            };
            let written = written.await;
            match written {
                Ok(_) => *files = Some(Files(writer)),
                // What may be left of the files is in no table: nobody reads it.
                Err(_) => drop(writer.abort().await),
            }
            written
        })
    }

    /// What goes on with `files`, or begins them.
    async fn begun(
        &mut self,
        files: &mut Option<Files>,
        schema: &SchemaRef,
    ) -> Result<DeltaWriter, QueryError> {
        match files.take() {
            Some(Files(writer)) => Ok(writer),
            None => {
                self.make(schema).await.map_err(lake)?;
                self.writer(schema)
            }
        }
    }

    /// Ends `files`, and puts them into the table in one commit that says that it holds everything
    /// up to `entry`.
    ///
    /// Errors: as for [`LakeTable::append`].
    pub fn commit(&mut self, files: Files, entry: u64) -> Result<(), QueryError> {
        let threads = Arc::clone(&self.threads);
        threads.block_on(async {
            let files = files.0.close().await.map_err(lake)?;
            let mut committed = self.put(&files, entry).await;
            if let Err(DeltaTableError::Transaction {
                source: TransactionError::CommitConflict(_),
            }) = committed
            {
                // Days were deleted since the table was last looked at; rows that are added do not
                // depend on any that were there.
                self.table.update_state().await.map_err(lake)?;
                committed = self.put(&files, entry).await;
            }
            self.table.state = Some(committed.map_err(lake)?.snapshot());
            Ok(())
        })
    }

    /// One attempt at a commit of files on the table as it was last looked at.
    async fn put(&self, files: &[Add], entry: u64) -> DeltaResult<FinalizedCommit> {
        let version = i64::try_from(entry).unwrap_or(i64::MAX);
        let properties = CommitProperties::default()
            .with_application_transaction(Transaction::new(APPLICATION, version));
        let names = self.partitions.iter().map(ToString::to_string).collect::<Vec<_>>();
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: (!names.is_empty()).then_some(names),
            predicate: None,
        };
        CommitBuilder::from(properties)
            .with_actions(files.iter().cloned().map(Action::Add).collect())
            .build(Some(self.table.snapshot()?), self.table.log_store(), operation)
            .await
    }

    /// Gives up files that are not to be committed.
    pub fn abort(&self, files: Files) {
        // What may be left of them is in no table: nobody reads it.
        let _ = self.threads.block_on(files.0.abort());
    }

    /// Makes the table where there is none, and adds columns that it does not have yet.
    async fn make(&mut self, schema: &SchemaRef) -> Result<(), DeltaTableError> {
        let wanted: StructType = schema.as_ref().try_into_kernel()?;
        let Ok(snapshot) = self.table.snapshot() else {
            let create = self.table.create().with_columns(wanted.fields().cloned());
            let property = TableProperty::DataSkippingStatsColumns.as_ref();
            let judged = self.judged().map(|columns| (property, Some(columns.join(","))));
            self.table = create
                .with_partition_columns(self.partitions.iter().copied())
                .with_configuration(judged)
                .await?;
            return Ok(());
        };
        let known = snapshot.schema();
        let missing: Vec<_> =
            wanted.fields().filter(|field| known.field(field.name()).is_none()).cloned().collect();
        if !missing.is_empty() {
            self.table = self.table.clone().add_columns().with_fields(missing).await?;
        }
        Ok(())
    }

    fn writer(&self, schema: &SchemaRef) -> Result<DeltaWriter, QueryError> {
        let names = self.partitions.iter().map(ToString::to_string).collect();
        let indexed = self.table.snapshot().map_err(lake)?.table_config().num_indexed_cols();
        let properties = Some(properties());
        let rows = Some(SLICE_ROWS);
        let judged = self.judged();
        let config =
            WriterConfig::new(Arc::clone(schema), names, properties, None, rows, indexed, judged);
        Ok(DeltaWriter::new(self.table.object_store(), config))
    }

    /// The columns by whose range a whole file can be left out; `None` for all.
    fn judged(&self) -> Option<Vec<String>> {
        let of_events = !self.partitions.is_empty();
        of_events.then(|| EVENT_RANGES.map(|column| column.name().to_owned()).to_vec())
    }

    /// Merges small files, and removes files that no reader has needed for `kept`: those that were
    /// merged, and, where that is an hour or more, those that a killed process left behind.
    ///
    /// Errors: as for [`LakeTable::append`]; the rows are the same in any case.
    pub fn maintain(&mut self, kept: Duration) -> Result<(), QueryError> {
        if self.table.version().is_none() {
            return Ok(());
        }
        let size = NonZeroU64::new(FILE_BYTES).unwrap_or(NonZeroU64::MIN);
        let optimize = self
            .table
            .clone()
            .optimize()
            .with_type(OptimizeType::Compact)
            .with_target_size(size)
            .with_max_concurrent_tasks(1)
            .with_writer_properties(properties());
        (self.table, _) = self.threads.block_on(optimize.into_future()).map_err(lake)?;
        let mode = if kept < LEFT_BEHIND { VacuumMode::Lite } else { VacuumMode::Full };
        let kept = chrono::Duration::from_std(kept).unwrap_or(chrono::Duration::MAX);
        let vacuum = self
            .table
            .clone()
            .vacuum()
            .with_mode(mode)
            .with_retention_period(kept)
            .with_enforce_retention_duration(false);
        (self.table, _) = self.threads.block_on(vacuum.into_future()).map_err(lake)?;
        Ok(())
    }

    /// Deletes days of events that are over before `kept_since`, by their log; `others` is for logs
    /// that are not in it. Partitions go as a whole, so that nothing is read or written anew; their
    /// files stay as long as [`LakeTable::maintain`] says.
    ///
    /// Returns how many files were in them.
    /// Errors: as for [`LakeTable::append`].
    pub fn forget(
        &mut self,
        kept_since: &[(String, Micros)],
        others: Option<Micros>,
    ) -> Result<usize, QueryError> {
        let is_over = |since: &Micros| {
            let day = i32::try_from(since.div_euclid(DAY)).unwrap_or(i32::MIN);
            col("day").lt(lit(ScalarValue::Date32(Some(day))))
        };
        let own = kept_since.iter().map(|(log, since)| col("log").eq(lit(log)).and(is_over(since)));
        let named: Vec<_> = kept_since.iter().map(|(log, _)| lit(log)).collect();
        let rest = others.map(|since| match named.is_empty() {
            true => is_over(&since),
            false => col("log").in_list(named, true).and(is_over(&since)),
        });
        let Some(over) = own.chain(rest).reduce(Expr::or) else { return Ok(0) };
        if self.table.version().is_none() {
            return Ok(0);
        }
        let delete = self.table.clone().delete().with_predicate(over);
        let (table, metrics) = self.threads.block_on(delete.into_future()).map_err(lake)?;
        self.table = table;
        Ok(metrics.num_removed_files)
    }

    /// Hands id, time and time of receipt of the events to `take` that happened at or after
    /// `event_since`, or were received at or after `received_since`.
    pub fn recent(
        &self,
        event_since: Micros,
        received_since: Micros,
        mut take: impl FnMut(EventId, Micros, Micros),
    ) -> Result<(), QueryError> {
        let Some(LakeSnapshot { provider }) = self.snapshot()? else { return Ok(()) };
        let instant = |at| lit(ScalarValue::TimestampMicrosecond(Some(at), Some("UTC".into())));
        let session =
            SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        let rows = session
            .read_table(provider)
            .and_then(|rows| {
                rows.filter(
                    col("received_at")
                        .gt_eq(instant(received_since))
                        .or(col("event_time").gt_eq(instant(event_since))),
                )
            })
            .and_then(|rows| rows.select_columns(&["event_id", "event_time", "received_at"]))
            .map_err(engine)?;
        self.threads.block_on(async {
            let mut batches = rows.execute_stream().await.map_err(engine)?;
            while let Some(batch) = batches.next().await {
                let batch = batch.map_err(engine)?;
                let ids = datafusion::arrow::compute::cast(batch.column(0), &DataType::Binary);
                let ids = ids.map_err(|cause| QueryError::Engine(cause.to_string()))?;
                let ids = ids.as_binary::<i32>();
                let [times, received] =
                    [1, 2].map(|at| batch.column(at).as_primitive::<TimestampMicrosecondType>());
                for row in 0..batch.num_rows() {
                    let id = EventId(ids.value(row).try_into().unwrap_or_default());
                    let time = if times.is_valid(row) { times.value(row) } else { UNKNOWN };
                    take(id, time, received.value(row));
                }
            }
            Ok(())
        })
    }

    /// Hands every event to `take`, in no order and without `raw`, until that has enough.
    ///
    /// Errors: as for [`LakeTable::open`]; a table that is none of events.
    pub fn events(&self, mut take: impl FnMut(EventBatch) -> bool) -> Result<(), QueryError> {
        let Some(LakeSnapshot { provider }) = self.snapshot()? else { return Ok(()) };
        let session =
            SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        let kept = Column::ALL.iter().filter(|column| **column != Column::Raw);
        let names: Vec<_> = kept.map(|column| column.name()).collect();
        let rows = session.read_table(provider).and_then(|rows| rows.select_columns(&names));
        let rows = rows.map_err(engine)?;
        self.threads.block_on(async {
            let mut batches = rows.execute_stream().await.map_err(engine)?;
            while let Some(batch) = batches.next().await {
                if !take(as_events(&batch.map_err(engine)?)?) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// The table as it is now; `None` while nothing was written to it.
    pub fn snapshot(&self) -> Result<Option<LakeSnapshot>, QueryError> {
        if self.table.version().is_none() {
            return Ok(None);
        }
        let provider =
            self.threads.block_on(self.table.table_provider().into_future()).map_err(engine)?;
        Ok(Some(LakeSnapshot { provider }))
    }
}

/// How files are written.
fn properties() -> WriterProperties {
    let is_unranged = |column: &&Column| {
        column.data_type() == DataType::Utf8View && !RANGED_TEXT.contains(column)
    };
    let unranged = Column::ALL.iter().filter(is_unranged);
    let properties = unranged.fold(parquet_properties(), |properties, column| {
        let path = ColumnPath::from(column.name());
        properties.set_column_statistics_enabled(path, EnabledStatistics::None)
    });
    properties.build()
}

/// Writes rows of one partition, which need not be looked for among them then.
async fn write_slice(writer: &mut DeltaWriter, slice: Slice) -> Result<(), DeltaTableError> {
    let day = format_instant(Micros::from(slice.day) * DAY);
    let day = PrimitiveType::Date.parse_scalar(day.split('T').next().unwrap_or_default());
    let log = PrimitiveType::String.parse_scalar(&slice.log);
    match (day, log) {
        (Ok(day), Ok(log)) => {
            let values = EVENT_PARTITIONS.iter().map(ToString::to_string).zip([day, log]).collect();
            writer.write_partition(slice.rows, &values).await
        }
        // A day that is not written with four digits for the year.
        _ => writer.write(&slice.rows).await,
    }
}

/// Deletes the files in a folder, and in those below it, that were begun and not finished.
fn clear_unfinished(folder: &std::path::Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            clear_unfinished(&entry.path())?;
            continue;
        }
        if entry.file_name().to_str().is_some_and(is_unfinished) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Opens folders and object stores for Delta. A commit is put only where no other has its number,
/// which these stores see to by themselves.
struct Stores;

impl ObjectStoreFactory for Stores {
    fn parse_url_opts(
        &self,
        url: &Url,
        config: &StorageConfig,
    ) -> DeltaResult<(ObjectStoreRef, Path)> {
        if url.scheme() == FOLDER {
            return Ok((Arc::new(Durable::new()), Path::from_url_path(url.path())?));
        }
        let options = config.raw.clone().into_iter().collect();
        objects::open(url.as_str(), &options)
            .map_err(|cause| DeltaTableError::Generic(cause.to_string()))
    }
}

impl LogStoreFactory for Stores {
    fn with_options(
        &self,
        prefixed_store: ObjectStoreRef,
        root_store: ObjectStoreRef,
        location: &Url,
        options: &StorageConfig,
    ) -> DeltaResult<Arc<dyn LogStore>> {
        Ok(default_logstore(prefixed_store, root_store, location, options))
    }
}

/// The scheme of the URL of a folder.
const FOLDER: &str = "file";

/// Makes folders and object stores known to Delta.
fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for scheme in objects::SCHEMES.into_iter().chain([FOLDER]) {
            let scheme = Url::parse(&format!("{scheme}://")).expect("a scheme makes a URL");
            object_store_factories().insert(scheme.clone(), Arc::new(Stores));
            logstore_factories().insert(scheme, Arc::new(Stores));
        }
    });
}

/// Rows without `raw` as events; Parquet may give text in another layout.
fn as_events(rows: &RecordBatch) -> Result<EventBatch, QueryError> {
    let failed = |cause: String| QueryError::Engine(cause);
    let columns = Column::ALL.iter().map(|column| match rows.column_by_name(column.name()) {
        Some(values) => datafusion::arrow::compute::cast(values, &column.data_type()),
        None => Ok(new_null_array(&column.data_type(), rows.num_rows())),
    });
    let columns = columns.collect::<Result<_, _>>().map_err(|cause| failed(cause.to_string()))?;
    let batch = RecordBatch::try_new(schema(), columns).map_err(|c| failed(c.to_string()))?;
    EventBatch::try_from(batch).map_err(|cause| failed(cause.to_string()))
}

fn lake(cause: DeltaTableError) -> QueryError {
    QueryError::Lake(cause.to_string())
}

fn engine(cause: datafusion::error::DataFusionError) -> QueryError {
    QueryError::Engine(cause.to_string())
}

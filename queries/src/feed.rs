//! How batches that are pushed from outside reach a plan: cut to the columns that it reads, made
//! even in size, and through bounded channels.

use crate::QueryError;
use crate::engine::{BATCH_ROWS, Plan};
use arrow_array::cast::AsArray;
use arrow_array::{RecordBatch, StringViewArray};
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, SchemaRef};
use arrow_select::coalesce::BatchCoalescer;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::{StreamExt, stream};
use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use telltale_schema::columns::{Column, schema};
use telltale_schema::compact::{compact, compact_lists};
use telltale_schema::{EventBatch, Kind};
use tempfile::NamedTempFile;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Batches that wait in front of each scan.
const WAITING_BATCHES: usize = 2;

/// The table `events` while a query is planned: every scan of it becomes a tap.
#[derive(Debug, Default)]
pub(crate) struct EventsTable {
    taps: Mutex<Vec<Tap>>,
    spool: Spool,
}

/// Events of one query in a temporary file, once they are all there.
type Spool = Arc<OnceLock<NamedTempFile>>;

/// The pushing end of one scan. It is closed when the scan wants nothing more.
#[derive(Debug)]
pub(crate) struct Tap {
    /// Columns that the scan reads, as indices into the schema of `events`.
    columns: Vec<usize>,
    /// Kinds of events that the scan's filters may let pass.
    kinds: Vec<Kind>,
    sender: Sender<RecordBatch>,
    spool: Spool,
}

impl EventsTable {
    pub(crate) fn take_taps(&self) -> Vec<Tap> {
        std::mem::take(&mut self.taps.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl TableProvider for EventsTable {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// The plan filters by itself. A tap only notes what cannot pass.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let columns = projection.cloned().unwrap_or_else(|| (0..Column::ALL.len()).collect());
        let schema = Arc::new(schema().project(&columns)?);
        let (sender, receiver) = channel(WAITING_BATCHES);
        let scan = Scan {
            schema: Arc::clone(&schema),
            receiver: Mutex::new(Some(receiver)),
            spool: Arc::clone(&self.spool),
        };
        let kinds = kinds_that_pass(session, filters)?;
        let tap = Tap { columns, kinds, sender, spool: Arc::clone(&self.spool) };
        self.taps.lock().unwrap_or_else(PoisonError::into_inner).push(tap);
        let partitions: Vec<Arc<dyn PartitionStream>> = vec![Arc::new(scan)];
        let plan = StreamingTableExec::try_new(schema, partitions, None, [], false, limit)?;
        Ok(Arc::new(plan))
    }
}

/// The kinds of events that may pass `filters`: those that read nothing but `kind` are tried on
/// each of them.
fn kinds_that_pass(session: &dyn Session, filters: &[Expr]) -> DataFusionResult<Vec<Kind>> {
    let schema = projected(&[Column::Kind as usize]);
    let named = DFSchema::try_from(Arc::clone(&schema))?;
    let mut kinds = Kind::ALL.to_vec();
    for filter in filters {
        let columns = filter.column_refs();
        if columns.len() != 1 || columns.iter().any(|c| c.name != Column::Kind.name()) {
            continue;
        }
        let names = StringViewArray::from_iter_values(kinds.iter().map(|kind| kind.as_str()));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(names)])?;
        let filter = session.create_physical_expr(filter.clone(), &named)?;
        let passes = filter.evaluate(&batch)?.into_array(kinds.len())?;
        let mut passes = passes.as_boolean().iter();
        kinds.retain(|_| passes.next().flatten() == Some(true));
    }
    Ok(kinds)
}

/// The receiving end of a tap.
#[derive(Debug)]
struct Scan {
    schema: SchemaRef,
    /// Taken by the first run; there is no second one without a spool.
    receiver: Mutex<Option<Receiver<RecordBatch>>>,
    spool: Spool,
}

impl PartitionStream for Scan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let batches = if let Some(spool) = self.spool.get() {
            match read_spool(spool, Arc::clone(&schema)) {
                Ok(batches) => batches.left_stream(),
                Err(error) => return failed(schema, error),
            }
        } else {
            let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(receiver) = receiver else {
                let message = "`events` is read again after it has passed".to_owned();
                return failed(schema, DataFusionError::Execution(message));
            };
            stream::unfold(receiver, |mut receiver| async move {
                receiver.recv().await.map(|batch| (Ok(batch), receiver))
            })
            .right_stream()
        };
        Box::pin(RecordBatchStreamAdapter::new(schema, batches))
    }
}

fn failed(schema: SchemaRef, error: DataFusionError) -> SendableRecordBatchStream {
    Box::pin(RecordBatchStreamAdapter::new(schema, stream::iter([Err(error)])))
}

/// The batches of a spool, cut to the columns of `schema`.
fn read_spool(
    spool: &NamedTempFile,
    schema: SchemaRef,
) -> DataFusionResult<stream::Iter<impl Iterator<Item = DataFusionResult<RecordBatch>> + use<>>> {
    let reader = FileReader::try_new(BufReader::new(spool.reopen()?), None)?;
    let spooled = reader.schema();
    let columns: Vec<usize> =
        schema.fields().iter().map(|f| spooled.index_of(f.name())).collect::<Result<_, _>>()?;
    Ok(stream::iter(reader.map(move |batch| Ok(batch?.project(&columns)?))))
}

/// Where events enter the taps of some plans.
pub(crate) struct Feed {
    /// Columns that any tap reads, as indices into the schema of `events`.
    columns: Vec<usize>,
    /// Kinds of events that any tap may let pass.
    kinds: Vec<Kind>,
    /// Copies text out of the payloads behind it where most of a payload is not asked for, so that
    /// no plan keeps payloads alive.
    coalescer: BatchCoalescer,
    outlet: Outlet,
}

enum Outlet {
    /// Each tap with its columns as indices into those of the feed.
    Taps(Vec<(Vec<usize>, Sender<RecordBatch>)>),
    File {
        writer: Box<FileWriter<BufWriter<File>>>,
        file: NamedTempFile,
        spool: Spool,
    },
}

impl Feed {
    /// A feed for plans that run while events are pushed.
    pub(crate) fn streaming<'a>(plans: impl Iterator<Item = &'a mut Plan>) -> Self {
        let taps: Vec<Tap> = plans.flat_map(|plan| std::mem::take(&mut plan.taps)).collect();
        let (columns, kinds) = (union_of_columns(&taps), union_of_kinds(&taps));
        let within = |tap: &Tap| -> Vec<usize> {
            let place = |column| columns.binary_search(column).expect("columns hold every tap's");
            tap.columns.iter().map(place).collect()
        };
        let outlet = taps.into_iter().map(|tap| (within(&tap), tap.sender)).collect();
        Self::new(columns, kinds, Outlet::Taps(outlet))
    }

    /// A feed for a plan that reads events more than once and so runs after the last is pushed.
    pub(crate) fn spooling(plan: &mut Plan) -> Result<Self, QueryError> {
        let taps = std::mem::take(&mut plan.taps);
        let (columns, kinds) = (union_of_columns(&taps), union_of_kinds(&taps));
        let spool = taps.first().map(|tap| Arc::clone(&tap.spool)).unwrap_or_default();
        let file = NamedTempFile::new().map_err(QueryError::Spool)?;
        let writer = file.reopen().map_err(QueryError::Spool)?;
        let schema = projected(&columns);
        let writer = FileWriter::try_new_buffered(writer, &schema).map_err(spool_error)?;
        Ok(Self::new(columns, kinds, Outlet::File { writer: Box::new(writer), file, spool }))
    }

    fn new(columns: Vec<usize>, kinds: Vec<Kind>, outlet: Outlet) -> Self {
        let coalescer = BatchCoalescer::new(projected(&columns), BATCH_ROWS);
        Self { columns, kinds, coalescer, outlet }
    }

    /// The columns that any tap reads.
    pub(crate) fn columns(&self) -> impl Iterator<Item = Column> + '_ {
        self.columns.iter().map(|column| Column::ALL[*column])
    }

    /// The kinds of events that any plan may count.
    pub(crate) fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// Whether no plan wants more events: each has failed, or has its `LIMIT`.
    pub(crate) fn is_satisfied(&self) -> bool {
        match &self.outlet {
            Outlet::Taps(taps) => taps.iter().all(|(_, tap)| tap.is_closed()),
            Outlet::File { .. } => false,
        }
    }

    /// Hands a batch on; waits while a plan is behind. Not to be called from async code.
    pub(crate) fn push(&mut self, batch: &EventBatch) -> Result<(), QueryError> {
        if self.is_satisfied() {
            return Ok(());
        }
        let cut = batch.record_batch().project(&self.columns).map_err(engine_error)?;
        self.coalescer.push_batch(compact_lists(&cut)).map_err(engine_error)?;
        self.drain()
    }

    /// Hands on what is left and closes the taps.
    pub(crate) fn finish(mut self) -> Result<(), QueryError> {
        self.coalescer.finish_buffered_batch().map_err(engine_error)?;
        self.drain()?;
        if let Outlet::File { mut writer, file, spool } = self.outlet {
            writer.finish().map_err(spool_error)?;
            // Nobody else sets it: a spool belongs to one feed.
            let _ = spool.set(file);
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<(), QueryError> {
        while let Some(batch) = self.coalescer.next_completed_batch() {
            match &mut self.outlet {
                Outlet::Taps(taps) => {
                    for (columns, tap) in taps {
                        let batch = batch.project(columns).map_err(engine_error)?;
                        // A closed tap has what it wants, or its plan failed and says so at the end.
                        let _ = tap.blocking_send(batch);
                    }
                }
                Outlet::File { writer, .. } => {
                    writer.write(&compact(&batch)).map_err(spool_error)?;
                }
            }
        }
        Ok(())
    }
}

/// Sorted columns of all taps; at least one, because batches without columns cannot be coalesced.
fn union_of_columns(taps: &[Tap]) -> Vec<usize> {
    let mut columns: Vec<usize> = taps.iter().flat_map(|tap| tap.columns.clone()).collect();
    if columns.is_empty() {
        columns.push(Column::EventTime as usize);
    }
    columns.sort_unstable();
    columns.dedup();
    columns
}

fn union_of_kinds(taps: &[Tap]) -> Vec<Kind> {
    let wanted = |kind: &Kind| taps.iter().any(|tap| tap.kinds.contains(kind));
    Kind::ALL.iter().copied().filter(wanted).collect()
}

fn projected(columns: &[usize]) -> SchemaRef {
    Arc::new(schema().project(columns).expect("columns are those of the schema"))
}

fn engine_error(error: ArrowError) -> QueryError {
    QueryError::Engine(error.to_string())
}

fn spool_error(error: ArrowError) -> QueryError {
    QueryError::Spool(match error {
        ArrowError::IoError(_, cause) => cause,
        other => io::Error::other(other),
    })
}

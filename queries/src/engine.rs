//! DataFusion behind SLIs and queries: threads, a memory limit, and plans over streamed events.

use crate::QueryError;
use crate::feed::{EventsTable, Tap};
use crate::lake::LakeSnapshot;
use arrow_array::RecordBatch;
use arrow_schema::Schema;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::Statement as Sql;
use futures::StreamExt;
use std::ops::Range;
use std::sync::Arc;
use telltale_schema::Micros;
use telltale_schema::columns::schema;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Rows of the batches that plans work on.
pub(crate) const BATCH_ROWS: usize = 8192;

/// Threads and memory that plans share. Dropping it abandons whatever still runs, without waiting.
pub(crate) struct Engine {
    /// `None` only while it is dropped.
    threads: Option<Runtime>,
    resources: Arc<RuntimeEnv>,
    limit_bytes: usize,
}

/// A plan that is ready to run, and how many times it reads `events`.
pub(crate) struct Plan {
    root: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    pub(crate) taps: Vec<Tap>,
    /// Whether `events` is read more than once, so that a stream that passes once is not enough.
    pub(crate) rereads: bool,
}

/// What a query may read beside the events that are pushed.
#[derive(Default)]
pub struct Tables {
    /// Events of the lake; those that are pushed come after them.
    pub events: Option<LakeSnapshot>,
    pub others: Vec<Table>,
}

/// A table of a data folder.
pub struct Table {
    pub name: &'static str,
    /// Its rows that are not in the lake.
    pub rows: RecordBatch,
    pub lake: Option<LakeSnapshot>,
    /// The column that names what a row is about, where only the row of the last `entry` counts.
    pub latest_of: Option<&'static str>,
}

impl Tables {
    async fn register(
        self,
        session: &SessionContext,
        pushed: Arc<EventsTable>,
    ) -> Result<(), DataFusionError> {
        match self.events {
            None => {
                session.register_table("events", pushed)?;
            }
            Some(lake) => {
                let columns = list(&schema());
                session.register_table("events_lake", lake.provider)?;
                session.register_table("events_journal", pushed)?;
                let all = format!(
                    "SELECT {columns} FROM events_lake UNION ALL SELECT {columns} FROM events_journal"
                );
                session.register_table("events", session.sql(&all).await?.into_view())?;
            }
        }
        for Table { name, rows, lake, latest_of } in self.others {
            let columns = list(&rows.schema());
            let mut all = format!("SELECT {columns} FROM {name}_journal");
            let of_journal = format!("{name}_journal");
            session.register_batch(&of_journal, rows)?;
            if let Some(lake) = lake {
                session.register_table(format!("{name}_lake"), lake.provider)?;
                all = format!("SELECT {columns} FROM {name}_lake UNION ALL {all}");
            }
            if let Some(id) = latest_of {
                all = format!(
                    "SELECT {columns} FROM (SELECT *, row_number() OVER (PARTITION BY {id} ORDER BY entry DESC) AS place FROM ({all})) WHERE place = 1"
                );
            }
            session.register_table(name, session.sql(&all).await?.into_view())?;
        }
        Ok(())
    }
}

fn list(schema: &Schema) -> String {
    let names: Vec<String> =
        schema.fields().iter().map(|field| format!("\"{}\"", field.name())).collect();
    names.join(", ")
}

impl Engine {
    /// Operators that outgrow `limit_bytes` together go to temporary files where they can.
    pub(crate) fn start(threads: usize, limit_bytes: usize) -> Result<Self, QueryError> {
        let resources = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(limit_bytes)))
            .with_disk_manager_builder(
                DiskManagerBuilder::default().with_mode(DiskManagerMode::OsTmpDirectory),
            )
            .build_arc()
            .map_err(|e| QueryError::from_engine(e, limit_bytes))?;
        let threads = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("telltale-query")
            // Tables may lie in an object store.
            .enable_all()
            .build()
            .map_err(QueryError::Threads)?;
        Ok(Self { threads: Some(threads), resources, limit_bytes })
    }

    fn threads(&self) -> &Runtime {
        self.threads.as_ref().expect("threads are there until the engine is dropped")
    }

    /// Plans one query over `events` and the `tables` beside it. One partition everywhere: rows stay in the order in which
    /// they are pushed, and reading the logs costs far more than the query.
    pub(crate) fn plan(
        &self,
        sql: &str,
        window: Option<Range<Micros>>,
        tables: Tables,
    ) -> Result<Plan, QueryError> {
        let table = Arc::new(EventsTable::default());
        let config = SessionConfig::new()
            .with_target_partitions(1)
            .with_batch_size(BATCH_ROWS)
            // What a sort keeps aside for merging what it wrote; 10 MB unless told.
            .with_sort_spill_reservation_bytes(self.limit_bytes / 64);
        let session = SessionContext::new_with_config_rt(config, Arc::clone(&self.resources));
        let others: Vec<&str> = tables.others.iter().map(|table| table.name).collect();
        let planned = self.threads().block_on(async {
            only_reads(sql)?;
            tables.register(&session, Arc::clone(&table)).await?;
            let options = SQLOptions::new()
                .with_allow_ddl(false)
                .with_allow_dml(false)
                .with_allow_statements(false);
            let mut frame = session.sql_with_options(sql, options).await?;
            if let Some(window) = window {
                let instant = |at| ScalarValue::TimestampMicrosecond(Some(at), Some("UTC".into()));
                frame = frame.with_param_values(vec![
                    ("window_start", instant(window.start)),
                    ("window_end", instant(window.end)),
                ])?;
            }
            let context = Arc::new(frame.task_ctx());
            Ok((frame.create_physical_plan().await?, context))
        });
        let (root, context) = planned.map_err(|e| self.error(e).beside(&others))?;
        let taps = table.take_taps();
        let rereads = taps.len() > 1 || repeats(&root);
        Ok(Plan { root, context, taps, rereads })
    }

    /// Runs a plan on the threads and gives each result batch to `consume`, in order.
    pub(crate) fn run<C: Consume>(&self, plan: Plan, mut consume: C) -> Running<C::Output> {
        let limit_bytes = self.limit_bytes;
        self.threads().spawn(async move {
            let error = |e| QueryError::from_engine(e, limit_bytes);
            let mut batches = execute_stream(plan.root, plan.context).map_err(error)?;
            consume.schema(&batches.schema())?;
            while let Some(batch) = batches.next().await {
                consume.batch(&batch.map_err(error)?)?;
            }
            consume.finish()
        })
    }

    /// Waits for a plan to end, which it does once its taps are closed.
    pub(crate) fn wait<T>(&self, running: Running<T>) -> Result<T, QueryError> {
        match self.threads().block_on(running) {
            Ok(result) => result,
            Err(cause) => Err(QueryError::Engine(format!("the query was stopped: {cause}"))),
        }
    }

    fn error(&self, error: DataFusionError) -> QueryError {
        match error {
            DataFusionError::External(cause) => match cause.downcast::<QueryError>() {
                Ok(own) => *own,
                Err(cause) => QueryError::Engine(cause.to_string()),
            },
            other => QueryError::from_engine(other, self.limit_bytes),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

pub(crate) type Running<T> = JoinHandle<Result<T, QueryError>>;

/// Where the batches of a result go.
pub(crate) trait Consume: Send + 'static {
    type Output: Send + 'static;
    fn schema(&mut self, schema: &arrow_schema::SchemaRef) -> Result<(), QueryError>;
    fn batch(&mut self, batch: &arrow_array::RecordBatch) -> Result<(), QueryError>;
    fn finish(self) -> Result<Self::Output, QueryError>;
}

/// Refuses statements that are no query by name. What hides deeper (`SELECT … INTO`,
/// `EXPLAIN COPY`) is refused when the plan is verified.
fn only_reads(sql: &str) -> Result<(), DataFusionError> {
    let refuse = |statement: &str| {
        let statement = statement.to_owned();
        Err(DataFusionError::External(Box::new(QueryError::NotAQuery { statement })))
    };
    let statements = DFParser::parse_sql(sql)?;
    match statements.len() {
        0 => return refuse("an empty statement"),
        1 => {}
        _ => return refuse("more than one statement"),
    }
    match &statements[0] {
        Statement::Statement(statement) => match statement.as_ref() {
            Sql::Query(_) | Sql::Explain { .. } | Sql::ExplainTable { .. } => Ok(()),
            other => refuse(other.to_string().split_whitespace().next().unwrap_or("this")),
        },
        Statement::Explain(_) => Ok(()),
        Statement::CopyTo(_) => refuse("COPY"),
        Statement::CreateExternalTable(_) => refuse("CREATE EXTERNAL TABLE"),
        Statement::Reset(_) => refuse("RESET"),
    }
}

/// Whether a part of the plan runs more than once.
fn repeats(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.name() == "RecursiveQueryExec" || plan.children().into_iter().any(repeats)
}

//! One SQL query over events that are pushed, its result written while they are.

use crate::QueryError;
use crate::engine::{Engine, Plan, Running, Tables};
use crate::feed::Feed;
use crate::output::{OutputFormat, ResultWriter};
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use telltale_schema::EventBatch;

/// Memory for groups, sorts and joins; what does not fit goes to temporary files where it can.
const MEMORY_BYTES: usize = 256 << 20;

/// A query over batches that are pushed from any thread.
///
/// Results are written as they come, so neither events nor results are held as a whole. A query
/// that reads `events` more than once (a self-join, a union) keeps the columns that it needs in a
/// temporary file and runs in [`QueryStream::finish`].
/// Dropping it before that abandons the query without waiting for it.
pub struct QueryStream {
    feed: Mutex<Feed>,
    stage: Stage,
    // Last, so that the feed is closed before the threads go.
    engine: Engine,
}

enum Stage {
    Running(Running<u64>),
    /// The lock is for sharing the stream between threads that push; nobody waits for it.
    AfterTheLastEvent(Box<Mutex<(Plan, ResultWriter)>>),
}

impl QueryStream {
    /// Plans `sql` and starts it; its result goes to `out`.
    ///
    /// Errors: whatever is no query over `events`; nothing has been written then.
    pub fn start(
        sql: &str,
        format: OutputFormat,
        out: Box<dyn Write + Send>,
    ) -> Result<Self, QueryError> {
        Self::start_over(sql, format, out, Tables::default())
    }

    /// The same over the tables of a data folder; what is pushed are the events that are not in
    /// the lake.
    pub fn start_over(
        sql: &str,
        format: OutputFormat,
        out: Box<dyn Write + Send>,
        tables: Tables,
    ) -> Result<Self, QueryError> {
        let engine = Engine::start(1, MEMORY_BYTES)?;
        let mut plan = engine.plan(sql, None, tables)?;
        let writer = ResultWriter::new(format, out);
        let (feed, stage) = if plan.rereads {
            (
                Feed::spooling(&mut plan)?,
                Stage::AfterTheLastEvent(Box::new(Mutex::new((plan, writer)))),
            )
        } else {
            let feed = Feed::streaming(std::iter::once(&mut plan));
            (feed, Stage::Running(engine.run(plan, writer)))
        };
        Ok(Self { feed: Mutex::new(feed), stage, engine })
    }

    /// Adds a batch; waits while the query or its reader is behind. Not to be called from async
    /// code.
    pub fn push(&self, batch: &EventBatch) -> Result<(), QueryError> {
        self.feed.lock().unwrap_or_else(PoisonError::into_inner).push(batch)
    }

    /// Whether the query wants nothing more: it has its `LIMIT`, or it failed and
    /// [`QueryStream::finish`] says why.
    pub fn is_satisfied(&self) -> bool {
        self.feed.lock().unwrap_or_else(PoisonError::into_inner).is_satisfied()
    }

    /// Writes the rest of the result and flushes it. Returns the number of its rows.
    pub fn finish(self) -> Result<u64, QueryError> {
        self.feed.into_inner().unwrap_or_else(PoisonError::into_inner).finish()?;
        let running = match self.stage {
            Stage::Running(running) => running,
            Stage::AfterTheLastEvent(query) => {
                let (plan, writer) = query.into_inner().unwrap_or_else(PoisonError::into_inner);
                self.engine.run(plan, writer)
            }
        };
        self.engine.wait(running)
    }
}

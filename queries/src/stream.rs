//! All SLIs over a stream of batches, in one pass and in bounded memory.

use crate::engine::{Consume, Engine, Running, Tables};
use crate::feed::Feed;
use crate::lake::LakeSnapshot;
use crate::{Objective, QueryError, Sli};
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use datafusion::arrow::compute::cast;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use telltale_schema::columns::Column;
use telltale_schema::time::format_instant;
use telltale_schema::{EventBatch, Kind, Micros};

/// How SLIs are computed.
#[derive(Clone, Debug)]
pub struct SliSettings {
    /// Threads that run the queries, beside those that push. Default 1.
    pub threads: usize,
    /// Memory for groups and sorts, all SLIs together; some of what does not fit goes to temporary
    /// files. Default 64 MB, enough for some 100 000 error codes.
    pub memory_bytes: usize,
    /// Events of which times count, half-open. Default `None`: all of them, as for an archive.
    pub window: Option<Range<Micros>>,
}

impl Default for SliSettings {
    fn default() -> Self {
        Self { threads: 1, memory_bytes: 64 << 20, window: None }
    }
}

/// An SLI's numbers over one window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SliResult {
    pub name: String,
    pub unit: String,
    pub objective: Option<Objective>,
    /// The window asked for; else from the first event to a microsecond after the last. `None`
    /// where there was no event.
    #[serde(serialize_with = "instant")]
    pub window_start: Option<Micros>,
    #[serde(serialize_with = "instant")]
    pub window_end: Option<Micros>,
    /// In the order of the query; empty where nothing was measured.
    pub rows: Vec<SliRow>,
    /// Why there is no number although there was something to measure: a log with labels without
    /// end does not fit into the memory, and must not be in the way of the other SLIs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One number and what it is of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SliRow {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
    /// Whether the value keeps to the objective; `None` where there is none.
    pub met: Option<bool>,
}

/// Computes SLIs over batches that are pushed from any thread.
///
/// The numbers do not depend on the order of events or on how they are cut into batches.
/// Dropping it before [`SliStream::finish`] abandons the queries without waiting for them.
pub struct SliStream {
    intake: Mutex<Intake>,
    queries: Vec<(Sli, Running<Vec<SliRow>>)>,
    window: Option<Range<Micros>>,
    // Last, so that the feed is closed before the threads go.
    engine: Engine,
}

struct Intake {
    feed: Feed,
    /// The smallest and the largest event time so far.
    seen: Option<(Micros, Micros)>,
}

impl Intake {
    fn see(&mut self, from: Micros, to: Micros) {
        let (first, last) = self.seen.unwrap_or((from, to));
        self.seen = Some((first.min(from), last.max(to)));
    }
}

impl SliStream {
    /// Starts `slis` over everything that will be pushed, on one thread.
    pub fn start(slis: &[Sli]) -> Result<Self, QueryError> {
        Self::with_settings(slis, &SliSettings::default())
    }

    /// Errors: an SLI whose query does not plan, reads `events` twice or has other columns than
    /// its head says.
    pub fn with_settings(slis: &[Sli], settings: &SliSettings) -> Result<Self, QueryError> {
        Self::over(slis, settings, None)
    }

    /// The same over the events of a lake and those that are pushed, which are not in it.
    pub fn over(
        slis: &[Sli],
        settings: &SliSettings,
        lake: Option<LakeSnapshot>,
    ) -> Result<Self, QueryError> {
        let engine = Engine::start(settings.threads, settings.memory_bytes)?;
        // An archive's first and last event are not known before its end, so all of time is asked.
        let window = settings.window.clone().unwrap_or(Micros::MIN..Micros::MAX);
        let mut plans = Vec::new();
        for sli in slis {
            let tables = Tables { events: lake.clone(), others: Vec::new() };
            let plan = engine
                .plan(&sli.sql, Some(window.clone()), tables)
                .map_err(|error| error.of_sli(&sli.name))?;
            if plan.rereads {
                let problem = "the query reads `events` more than once".to_owned();
                return Err(QueryError::BadSli { sli: sli.name.clone(), problem });
            }
            plans.push(plan);
        }
        let feed = Feed::streaming(plans.iter_mut());
        let queries = slis.iter().zip(plans).map(|(sli, plan)| {
            let rows = Rows { sli: sli.clone(), rows: Vec::new() };
            (sli.clone(), engine.run(plan, rows))
        });
        let queries = queries.collect();
        let intake = Mutex::new(Intake { feed, seen: None });
        Ok(Self { intake, queries, window: settings.window.clone(), engine })
    }

    /// The columns that the queries read; others may be null in what is pushed.
    pub fn columns(&self) -> Vec<Column> {
        let intake = self.intake.lock().unwrap_or_else(PoisonError::into_inner);
        intake.feed.columns().collect()
    }

    /// The kinds of events that the queries count; others may be left out of what is pushed, if
    /// [`SliStream::cover`] is told from when to when there were any.
    pub fn kinds(&self) -> Vec<Kind> {
        let intake = self.intake.lock().unwrap_or_else(PoisonError::into_inner);
        intake.feed.kinds().to_vec()
    }

    /// Says that there were events from `first` to `last`, whichever are pushed.
    pub fn cover(&self, first: Micros, last: Micros) {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner).see(first, last);
    }

    /// Adds a batch; waits while the queries are behind. Not to be called from async code.
    pub fn push(&self, batch: &EventBatch) -> Result<(), QueryError> {
        let times = batch.record_batch().column(Column::EventTime as usize);
        let times = times.as_primitive::<arrow_array::types::TimestampMicrosecondType>();
        let mut intake = self.intake.lock().unwrap_or_else(PoisonError::into_inner);
        for at in times.iter().flatten() {
            intake.see(at, at);
        }
        intake.feed.push(batch)
    }

    /// The results, in the order of the SLIs.
    pub fn finish(self) -> Result<Vec<SliResult>, QueryError> {
        let Intake { feed, seen } =
            self.intake.into_inner().unwrap_or_else(PoisonError::into_inner);
        feed.finish()?;
        let window = match (self.window, seen) {
            (Some(asked), _) => Some(asked),
            (None, Some((first, last))) => Some(first..last.saturating_add(1)),
            (None, None) => None,
        };
        let mut results = Vec::new();
        for (sli, running) in self.queries {
            let (rows, problem) = match self.engine.wait(running) {
                Ok(rows) => (rows, None),
                Err(error @ QueryError::OutOfMemory { .. }) => {
                    (Vec::new(), Some(error.to_string()))
                }
                Err(error) => return Err(error.of_sli(&sli.name)),
            };
            results.push(SliResult {
                name: sli.name,
                unit: sli.unit,
                objective: sli.objective,
                window_start: window.as_ref().map(|w| w.start),
                window_end: window.as_ref().map(|w| w.end),
                rows,
                problem,
            });
        }
        Ok(results)
    }
}

/// Most rows that one SLI may have: labels are few and bounded, so more is a fault of its query.
const MAX_ROWS: usize = 10_000;

/// Collects the rows of one SLI.
struct Rows {
    sli: Sli,
    rows: Vec<SliRow>,
}

impl Rows {
    fn bad(&self, problem: String) -> QueryError {
        QueryError::BadSli { sli: self.sli.name.clone(), problem }
    }
}

impl Consume for Rows {
    type Output = Vec<SliRow>;

    fn schema(&mut self, schema: &SchemaRef) -> Result<(), QueryError> {
        let found: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        let labels = self.sli.labels.iter().map(String::as_str);
        let expected: Vec<&str> = labels.chain(["value"]).collect();
        if found == expected {
            return Ok(());
        }
        let (found, expected) = (found.join(", "), expected.join(", "));
        Err(self.bad(format!("the query's columns are `{found}`, its head says `{expected}`")))
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        if self.rows.len() + batch.num_rows() > MAX_ROWS {
            return Err(self.bad(format!("more than {MAX_ROWS} rows; labels must be bounded")));
        }
        let columns = batch.num_columns();
        let as_type = |column: usize, data_type| {
            let array = cast(batch.column(column), data_type);
            array.map_err(|error| self.bad(error.to_string()))
        };
        let values = as_type(columns - 1, &DataType::Float64)?;
        let values = values.as_primitive::<Float64Type>();
        let labels = (0..columns - 1).map(|column| as_type(column, &DataType::Utf8View));
        let labels = labels.collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            // Nothing measured is no number.
            if values.is_null(row) || !values.value(row).is_finite() {
                continue;
            }
            let value = values.value(row);
            let named =
                self.sli.labels.iter().zip(&labels).filter(|(_, array)| array.is_valid(row));
            let labels = named
                .map(|(name, array)| (name.clone(), array.as_string_view().value(row).to_owned()))
                .collect();
            let met = self.sli.objective.map(|objective| objective.is_met(value));
            self.rows.push(SliRow { labels, value, met });
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<SliRow>, QueryError> {
        Ok(self.rows)
    }
}

/// RFC 3339 in UTC with microseconds, or null.
fn instant<S: serde::Serializer>(at: &Option<Micros>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(format_instant).serialize(serializer)
}

//! Rows of events in the order in which the lake keeps them: by partition, principal and time.

use crate::QueryError;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, Date32Array, RecordBatch, StringViewArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::interleave::interleave;
use rustc_hash::FxHashMap;
use std::sync::{Arc, LazyLock};
use telltale_schema::Micros;
use telltale_schema::columns::{Column, schema};
use telltale_schema::time::DAY;

/// Rows that are written at once.
pub(super) const SLICE_ROWS: usize = 8192;

/// Events with the day that they belong to, which is that of their receipt where they have no time.
pub(super) fn schema_with_day() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let mut fields = schema().fields().to_vec();
        fields.push(Arc::new(Field::new("day", DataType::Date32, true)));
        Arc::new(Schema::new(fields))
    });
    Arc::clone(&SCHEMA)
}

/// Where a row belongs and where it is; sorts as the lake does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    partition: u32,
    /// Rank of the principal among those of all rows; 0 for none.
    principal: u32,
    time: Micros,
    batch: u32,
    row: u32,
}

/// Rows of several batches in order, none of them copied yet.
pub(super) struct Ordered {
    batches: Vec<RecordBatch>,
    places: Vec<Place>,
    /// The day of each partition.
    days: Vec<i32>,
}

/// Rows of one partition.
pub(super) struct Slice {
    /// Days since 1970.
    pub(super) day: i32,
    pub(super) log: String,
    /// [`schema_with_day`].
    pub(super) rows: RecordBatch,
}

impl Ordered {
    /// Shape: batches of events, [`schema`].
    pub(super) fn of(batches: Vec<RecordBatch>) -> Self {
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        let mut places: Vec<Place> = Vec::with_capacity(rows);
        let (mut partitions, mut days) = (FxHashMap::default(), Vec::new());
        let mut principals: FxHashMap<&str, u32> = FxHashMap::default();
        for (number, batch) in (0..).zip(&batches) {
            let [times, received] =
                [Column::EventTime, Column::ReceivedAt].map(|it| instants(batch, it));
            let [logs, ids] = [Column::Log, Column::PrincipalId].map(|column| texts(batch, column));
            // Neighbours are mostly of one partition.
            let mut last = None;
            for row in 0..batch.num_rows() {
                let at = if times.is_valid(row) { times } else { received }.value(row);
                let key = (logs.value(row), at.div_euclid(DAY));
                let partition = match last {
                    Some((known, partition)) if known == key => partition,
                    _ => *partitions.entry(key).or_insert_with(|| {
                        days.push(i32::try_from(key.1).unwrap_or_default());
                        days.len() as u32 - 1
                    }),
                };
                last = Some((key, partition));
                let principal = if ids.is_valid(row) {
                    let next = principals.len() as u32 + 1;
                    *principals.entry(ids.value(row)).or_insert(next)
                } else {
                    0
                };
                let time = if times.is_valid(row) { times.value(row) } else { Micros::MIN };
                places.push(Place { partition, principal, time, batch: number, row: row as u32 });
            }
        }
        let mut by_name: Vec<_> = principals.into_iter().collect();
        by_name.sort_unstable();
        let mut ranks = vec![0; by_name.len() + 1];
        for (rank, (_, principal)) in (1..).zip(by_name) {
            ranks[principal as usize] = rank;
        }
        for place in &mut places {
            place.principal = ranks[place.principal as usize];
        }
        places.sort_unstable();
        Self { batches, places, days }
    }

    /// How many partitions the rows are in.
    pub(super) fn partitions(&self) -> usize {
        self.days.len()
    }

    /// Rows in order, whose text lies where it lay.
    pub(super) fn slices(&self) -> impl Iterator<Item = Result<Slice, QueryError>> {
        let partitions = self.places.chunk_by(|a, b| a.partition == b.partition);
        partitions.flat_map(|rows| rows.chunks(SLICE_ROWS)).map(|rows| self.slice(rows))
    }

    /// Shape: at least one row.
    fn slice(&self, rows: &[Place]) -> Result<Slice, QueryError> {
        let failed = |cause| QueryError::from_arrow("Arrow", cause);
        let at: Vec<_> = rows.iter().map(|it| (it.batch as usize, it.row as usize)).collect();
        let mut columns = Vec::with_capacity(Column::ALL.len() + 1);
        for column in 0..Column::ALL.len() {
            let values: Vec<_> =
                self.batches.iter().map(|batch| batch.column(column).as_ref()).collect();
            columns.push(interleave(&values, &at).map_err(failed)?);
        }
        let Place { partition, batch, row, .. } = rows[0];
        let day = self.days[partition as usize];
        let log = texts(&self.batches[batch as usize], Column::Log).value(row as usize).to_owned();
        columns.push(Arc::new(Date32Array::from(vec![day; rows.len()])));
        let rows = RecordBatch::try_new(schema_with_day(), columns).map_err(failed)?;
        Ok(Slice { day, log, rows })
    }
}

fn instants(batch: &RecordBatch, column: Column) -> &TimestampMicrosecondArray {
    batch.column(column as usize).as_primitive::<TimestampMicrosecondType>()
}

fn texts(batch: &RecordBatch, column: Column) -> &StringViewArray {
    batch.column(column as usize).as_string_view()
}

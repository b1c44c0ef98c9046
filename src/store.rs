//! A data folder as it is, whether its service runs or not: events, findings and dead letters.

use crate::journal::disk::{Disk, Folder};
use crate::journal::{DeadLetter, Entry, FindingRow, JournalError, Ledger, Reader};
use crate::service::journal_folder;
use anyhow::{Context, Result, bail};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use telltale_schema::{EventBatch, Micros};

/// What a data folder holds beside its events.
#[derive(Default)]
pub struct Summary {
    /// What became of everything, by source and partition.
    pub totals: BTreeMap<(String, String), Ledger>,
    /// The latest of each finding.
    pub findings: BTreeMap<String, FindingRow>,
    /// Each with when it was received.
    pub dead_letters: Vec<(Micros, DeadLetter)>,
    pub entries: u64,
    /// Events that are there, counted one by one.
    pub events: u64,
    /// Dead letters that are there, by source and partition.
    pub dead: BTreeMap<(String, String), u64>,
}

/// A data folder to read from.
pub struct Store {
    disk: Arc<dyn Disk>,
}

impl Store {
    /// Errors: a folder that is none of a service.
    pub fn open(data: &Path) -> Result<Self> {
        let folder = journal_folder(data);
        if !folder.is_dir() {
            bail!(
                "`{}` is no data folder: it has no `journal`; `telltale run --data` makes one",
                data.display()
            );
        }
        Ok(Self { disk: Arc::new(Folder::existing(folder)) })
    }

    /// Entries from the first on.
    pub fn reader(&self) -> Result<Reader, JournalError> {
        Reader::open(Arc::clone(&self.disk), 1)
    }

    /// Everything but the events.
    pub fn summary(&self) -> Result<Summary> {
        let mut summary = Summary::default();
        let mut reader = self.reader()?;
        while let Some((number, body)) = reader.next_entry()? {
            let entry = Entry::decode(number, body)?;
            summary.entries += 1;
            summary.events += entry.events.iter().map(|batch| batch.len() as u64).sum::<u64>();
            for ledger in &entry.head.ledger {
                let key = (ledger.source.clone(), ledger.partition.clone());
                summary.totals.entry(key).or_default().add(ledger);
            }
            for letter in entry.head.dead_letters {
                let key = (letter.source.clone(), letter.partition.clone());
                *summary.dead.entry(key).or_default() += 1;
                summary.dead_letters.push((entry.head.received_at, letter));
            }
            for row in entry.head.findings {
                summary.findings.insert(row.finding_id.clone(), row);
            }
        }
        Ok(summary)
    }

    /// Hands every batch of events to `take`, in the order in which they were stored, until that
    /// has enough.
    pub fn events(&self, mut take: impl FnMut(EventBatch) -> bool) -> Result<()> {
        let mut reader = self.reader()?;
        while let Some((number, body)) = reader.next_entry()? {
            for batch in Entry::decode(number, body)?.events {
                if !take(batch) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// A table, column by column.
fn table(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch> {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
        .context("columns have one length")
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.map(|text| text.filter(|text| !text.is_empty())).collect::<StringViewArray>())
}

fn instants(values: impl Iterator<Item = Micros>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
}

fn numbers(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values.map(|n| i64::try_from(n).unwrap_or(i64::MAX))))
}

impl Summary {
    /// The table `findings`, one row each.
    pub fn findings_table(&self) -> Result<RecordBatch> {
        let rows = || self.findings.values();
        table(vec![
            ("finding_id", texts(rows().map(|row| Some(row.finding_id.as_str())))),
            ("detector", texts(rows().map(|row| Some(row.detector.as_str())))),
            ("severity", texts(rows().map(|row| Some(row.severity.as_str())))),
            ("log", texts(rows().map(|row| Some(row.log.as_str())))),
            ("tenant", texts(rows().map(|row| row.tenant.as_deref()))),
            ("principal_id", texts(rows().map(|row| Some(row.principal_id.as_str())))),
            ("principal_kind", texts(rows().map(|row| Some(row.principal_kind.as_str())))),
            ("credential_id", texts(rows().map(|row| row.credential_id.as_deref()))),
            ("raised_at", instants(rows().map(|row| row.raised_at))),
            ("first_seen", instants(rows().map(|row| row.first_seen))),
            ("last_seen", instants(rows().map(|row| row.last_seen))),
            ("event_count", numbers(rows().map(|row| row.event_count))),
            ("title", texts(rows().map(|row| Some(row.title.as_str())))),
            ("evidence", texts(rows().map(|row| Some(row.evidence.as_str())))),
            ("ocsf", texts(rows().map(|row| Some(row.ocsf.as_str())))),
        ])
    }

    /// The table `dead_letters`, one row each, in the order in which they came.
    pub fn dead_letters_table(&self) -> Result<RecordBatch> {
        let rows = || self.dead_letters.iter();
        let text = |of: fn(&DeadLetter) -> &str| texts(rows().map(|(_, letter)| Some(of(letter))));
        table(vec![
            ("received_at", instants(rows().map(|(at, _)| *at))),
            ("source", text(|letter| &letter.source)),
            ("partition", text(|letter| &letter.partition)),
            ("position", numbers(rows().map(|(_, letter)| letter.position))),
            ("parser", text(|letter| &letter.parser)),
            ("reason", text(|letter| &letter.reason)),
            ("text", text(|letter| &letter.text)),
        ])
    }
}

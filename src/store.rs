//! A data folder as it is, whether its service runs or not: journal and lake as one.

use crate::journal::disk::Folder;
use crate::journal::tables::{self, Numbered};
use crate::journal::{DeadLetter, Entry, Ledger, Reader, check_tail};
use crate::service::lake::Lake;
use crate::service::{journal_folder, snapshot};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use telltale_queries::lake::LakeSnapshot;
use telltale_queries::{Table, Tables};
use telltale_schema::{EventBatch, Finding};

/// A data folder to read from.
pub struct Store {
    data: PathBuf,
}

/// A data folder at one instant.
pub struct View {
    heads: Reader,
    events: Reader,
    lake: Option<Lake>,
    /// Number of the last entry of each table that is in the lake.
    events_flushed: u64,
    findings_flushed: u64,
    dead_letters_flushed: u64,
}

/// What the journal holds beside its events.
#[derive(Default)]
pub struct Rows {
    pub findings: Vec<Numbered<Finding>>,
    pub dead_letters: Vec<Numbered<DeadLetter>>,
}

/// What became of everything that was received.
#[derive(Default)]
pub struct Accounts {
    /// By source and partition.
    pub totals: BTreeMap<(String, String), Ledger>,
    pub entries: u64,
    /// Records that are neither stored, nor a repeat, nor a dead letter, by the accounts; and those
    /// that the accounts say are there and are not.
    pub residue: u64,
}

impl Store {
    /// Errors: a folder that is none of a service.
    pub fn open(data: &Path) -> Result<Self> {
        let journal = journal_folder(data);
        match std::fs::metadata(&journal) {
            Ok(found) if found.is_dir() => Ok(Self { data: data.to_owned() }),
            Err(cause) if cause.kind() != ErrorKind::NotFound => {
                Err(cause).with_context(|| format!("cannot look into `{}`", journal.display()))
            }
            _ => bail!(
                "`{}` is no data folder: it has no `journal`; `telltale run --data` makes one",
                data.display()
            ),
        }
    }

    fn disk(&self) -> Folder {
        Folder::existing(journal_folder(&self.data))
    }

    /// The journal from its first entry on.
    ///
    /// Errors: damage in its last segment, which would end it for a reader.
    pub fn journal(&self) -> Result<Reader> {
        let disk = self.disk();
        check_tail(&disk)?;
        Ok(Reader::open(&disk, 1)?)
    }

    /// What is there now.
    pub fn view(&self) -> Result<View> {
        // Opened before the lake is looked at: what a running service moves there meanwhile is in
        // both, and passed over here.
        let (mut heads, mut events) = (self.journal()?, Reader::open(&self.disk(), 1)?);
        let lake = Lake::open_existing(&self.data)?;
        let [events_flushed, findings_flushed, dead_letters_flushed] = match &lake {
            Some(lake) => lake.flushed()?,
            None => [0; 3],
        };
        events.pass_over(events_flushed);
        heads.pass_over(findings_flushed.min(dead_letters_flushed));
        Ok(View { heads, events, lake, events_flushed, findings_flushed, dead_letters_flushed })
    }

    /// What became of everything.
    pub fn accounts(&self) -> Result<Accounts> {
        // Opened before the snapshot is read, behind which segments are dropped.
        let mut reader = self.journal()?;
        let mut accounts = match snapshot::read(&self.data)? {
            Some((snapshot, _)) => {
                let totals = snapshot
                    .totals
                    .into_iter()
                    .map(|l| ((l.source.clone(), l.partition.clone()), l));
                let totals = totals.collect();
                Accounts { totals, entries: snapshot.entry, residue: 0 }
            }
            None => Accounts::default(),
        };
        reader.pass_over(accounts.entries);
        while let Some((number, body)) = reader.next_entry()? {
            let entry = Entry::decode(number, body)?;
            accounts.entries += 1;
            let events: u64 = entry.events.iter().map(|batch| batch.len() as u64).sum();
            let stored: u64 = entry.head.ledger.iter().map(|ledger| ledger.stored).sum();
            let dead: u64 = entry.head.ledger.iter().map(|ledger| ledger.dead_letter).sum();
            // What the accounts say against what is there.
            accounts.residue += stored.abs_diff(events);
            accounts.residue += dead.abs_diff(entry.head.rejected());
            for ledger in &entry.head.ledger {
                let key = (ledger.source.clone(), ledger.partition.clone());
                accounts.totals.entry(key).or_default().add(ledger);
            }
        }
        accounts.residue +=
            accounts.totals.values().map(|l| l.residue().unsigned_abs()).sum::<u64>();
        Ok(accounts)
    }
}

impl View {
    /// Findings and dead letters that are not in the lake.
    pub fn rows(&mut self) -> Result<Rows> {
        let mut rows = Rows::default();
        while let Some((entry, body)) = self.heads.next_entry()? {
            let head = Entry::decode_head(entry, &body)?;
            let received_at = head.received_at;
            if entry > self.findings_flushed {
                let findings = head.findings.into_iter();
                rows.findings.extend(findings.map(|row| Numbered { entry, received_at, row }));
            }
            if entry > self.dead_letters_flushed {
                let letters = head.dead_letters.into_iter();
                rows.dead_letters.extend(letters.map(|row| Numbered { entry, received_at, row }));
            }
        }
        Ok(rows)
    }

    /// Hands every batch of events that is not in the lake to `take`, in the order in which they
    /// were stored, until that has enough.
    pub fn events(&mut self, mut take: impl FnMut(EventBatch) -> bool) -> Result<()> {
        while let Some((entry, body)) = self.events.next_entry()? {
            if entry > self.events_flushed
                && !Entry::decode(entry, body)?.events.into_iter().all(&mut take)
            {
                break;
            }
        }
        Ok(())
    }

    /// The events of the lake; `None` where there are none yet.
    pub fn lake_events(&self) -> Result<Option<LakeSnapshot>> {
        let events = self.lake.as_ref().map(|lake| lake.events.snapshot()).transpose();
        Ok(events.context("the lake cannot be read")?.flatten())
    }

    /// The tables of the lake; `rows` are those of the journal.
    pub fn tables(&self, rows: &Rows) -> Result<Tables> {
        let [events, findings, dead_letters] = match &self.lake {
            Some(lake) => lake.snapshots().context("the lake cannot be read")?,
            None => [None, None, None],
        };
        let findings = Table {
            name: "findings",
            rows: tables::findings(&rows.findings),
            lake: findings,
            latest_of: Some("finding_id"),
        };
        let dead_letters = Table {
            name: "dead_letters",
            rows: tables::dead_letters(&rows.dead_letters),
            lake: dead_letters,
            latest_of: None,
        };
        Ok(Tables { events, others: vec![findings, dead_letters] })
    }
}

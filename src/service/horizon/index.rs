//! Which ids lie in which files, itself in a file: a start reads the lake only for the ids that were
//! in memory.

use super::runs::{Files, IdFile, Run, remove_others};
use super::{Horizon, PARTS};
use crate::service::kept::{self, Kind};
use serde::{Deserialize, Serialize};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use telltale_schema::Micros;
use tracing::{info, warn};

const KIND: Kind = Kind { magic: *b"ttid", format: 1 };

/// What is in the files.
#[derive(Serialize, Deserialize)]
struct Index {
    /// How far back a slot is remembered.
    span: Micros,
    newest_event: Micros,
    newest_received: Micros,
    /// What is in no file was received from then on.
    since: Micros,
    /// Number of the last journal entry that the lake had.
    in_lake: u64,
    /// When each slot was last added to.
    slots: Vec<(i64, Micros)>,
    runs: Vec<Place>,
}

/// Where some ids of a part of a slot lie.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Place {
    slot: i64,
    part: usize,
    file: u64,
    start: u64,
    ids: u64,
}

/// An index that may not be on disk yet, nor the files.
pub struct Waiting {
    index: Index,
    files: BTreeMap<u64, Arc<IdFile>>,
    folder: PathBuf,
}

fn path(folder: &Path) -> PathBuf {
    folder.join("index")
}

impl Waiting {
    pub(super) fn of(horizon: &Horizon, since: Micros) -> Self {
        let mut files = BTreeMap::new();
        let mut runs = Vec::new();
        for (slot, held) in &horizon.slots {
            for (part, run) in (0..)
                .zip(&held.parts)
                .flat_map(|(at, part)| part.runs.iter().map(move |run| (at, run)))
            {
                let Run { start, ids, .. } = *run;
                let file = run.file.number;
                files.entry(file).or_insert_with(|| Arc::clone(&run.file));
                runs.push(Place { slot: *slot, part, file, start, ids });
            }
        }
        let Horizon { span, newest_event, newest_received, .. } = *horizon;
        let slots = horizon.slots.iter().map(|(at, slot)| (*at, slot.touched)).collect();
        let folder = horizon.files.folder.clone();
        let index = Index { span, newest_event, newest_received, since, in_lake: 0, slots, runs };
        Self { index, files, folder }
    }

    /// Puts the files on disk, then the index in the place of the old one, and removes files that it
    /// does not name. `in_lake` is the number of the last journal entry in the lake.
    ///
    /// Errors: those of the disk; the old one is still there then, and the files that it names.
    pub fn settle(mut self, in_lake: u64) -> io::Result<()> {
        self.index.in_lake = in_lake;
        for file in self.files.values() {
            file.file.sync_data()?;
        }
        kept::write(&path(&self.folder), &KIND, &self.index)?;
        let last = self.files.keys().next_back().copied().unwrap_or_default();
        remove_others(&self.folder, &self.files.into_keys().collect(), last)
    }
}

impl Horizon {
    /// Takes up the files of an earlier run of the program, whose lake has everything up to entry
    /// `in_lake`. What was received at the time that is returned, or later, may be missing.
    ///
    /// `None`: there are none, or they are not to be used; nothing is known then.
    pub fn load(&mut self, in_lake: u64) -> Option<Micros> {
        let since = match kept::read::<Index>(&path(&self.files.folder), &KIND) {
            Ok(None) => None,
            Ok(Some((index, _))) if index.in_lake > in_lake => {
                warn!("the lake has lost what it had; only what it has is known as stored");
                None
            }
            Ok(Some((index, _))) if index.span < self.span => {
                info!("`duplicate_horizon` is longer than it was; what is stored is read from the lake");
                None
            }
            Ok(Some((index, _))) => self.take(&index).map_err(|cause| {
                warn!(%cause, "the ids of stored events are not all in their files; they are read from the lake");
            }).ok(),
            Err(cause) => {
                warn!(%cause, "which events are stored is read from the lake");
                None
            }
        };
        if since.is_none() {
            self.begin();
        }
        since
    }

    /// Begins without files, and removes those of an earlier run of the program.
    pub fn begin(&mut self) {
        self.slots.clear();
        self.unsaid.since = None;
        let folder = std::mem::take(&mut self.files.folder);
        // What cannot be removed is written over; without its index nobody reads it.
        let _ = std::fs::remove_file(path(&folder));
        let _ = remove_others(&folder, &BTreeSet::new(), u64::MAX);
        self.files = Files::new(folder);
    }

    fn take(&mut self, index: &Index) -> io::Result<Micros> {
        let mut files = BTreeMap::new();
        for (at, touched) in &index.slots {
            self.slots.entry(*at).or_default().touched = *touched;
        }
        for Place { slot, part, file, start, ids } in index.runs.iter().copied() {
            if let Entry::Vacant(new) = files.entry(file) {
                new.insert(self.files.open(file)?);
            }
            let slot = self.slots.entry(slot).or_default();
            slot.parts[part % PARTS].runs.push(Run::open(Arc::clone(&files[&file]), start, ids)?);
        }
        remove_others(&self.files.folder, &files.into_keys().collect(), u64::MAX)?;
        self.newest_event = index.newest_event;
        self.newest_received = index.newest_received;
        // The newest are looked into first, and for most.
        let mut slots: Vec<_> = self.slots.values_mut().collect();
        slots.sort_unstable_by_key(|slot| std::cmp::Reverse(slot.touched));
        let mut bytes = 0;
        for run in slots.into_iter().flat_map(|slot| slot.runs_mut()) {
            let filter = run.filter()?;
            bytes += filter.num_bits() / 8;
            if bytes > self.filter_bytes {
                break;
            }
            run.filter = Some(filter);
        }
        self.unsaid.since = Some(index.since);
        Ok(index.since)
    }
}

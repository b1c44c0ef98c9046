//! Sorted ids in files, and the filters in memory that say of most ids that they are not there.

use super::{ID, PARTS};
use fastbloom::BloomFilter;
use rustc_hash::FxHashSet;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use telltale_schema::time::HOUR;
use telltale_schema::{EventId, Micros};

/// Ids that a filter takes for one of its own, though they are not. A part of a busy slot has many
/// runs, each with a filter.
const FALSE_POSITIVES: f64 = 0.002;

/// One file of ids.
pub struct IdFile {
    pub number: u64,
    pub file: File,
}

/// The folder of the files. There is one for each hour, so that there are few.
pub struct Files {
    pub folder: PathBuf,
    /// The file that is written to, and the hour of receipt that it was begun in.
    current: Option<(i64, Arc<IdFile>)>,
    /// Of the next file.
    number: u64,
}

impl Files {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, current: None, number: 0 }
    }

    /// The file to write to at `now`.
    pub fn at(&mut self, now: Micros) -> io::Result<Arc<IdFile>> {
        let hour = now.div_euclid(HOUR);
        match &self.current {
            Some((begun, file)) if *begun == hour => Ok(Arc::clone(file)),
            _ => {
                std::fs::create_dir_all(&self.folder)?;
                let number = self.number;
                let file = File::options()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .open(path(&self.folder, number))?;
                self.number += 1;
                let file = Arc::new(IdFile { number, file });
                self.current = Some((hour, Arc::clone(&file)));
                Ok(file)
            }
        }
    }

    /// Opens a file of an earlier run; further ones get greater numbers.
    pub fn open(&mut self, number: u64) -> io::Result<Arc<IdFile>> {
        let file = File::open(path(&self.folder, number))?;
        self.number = self.number.max(number + 1);
        Ok(Arc::new(IdFile { number, file }))
    }
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.ids"))
}

/// Removes files up to number `last` that are not among those `kept`.
pub fn remove_others(folder: &Path, kept: &BTreeSet<u64>, last: u64) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        if path.extension().is_some_and(|ending| ending == "ids")
            && number.is_some_and(|number| number <= last && !kept.contains(&number))
        {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Sorted ids in a file.
pub struct Run {
    pub file: Arc<IdFile>,
    /// Ids before them in the file.
    pub start: u64,
    pub ids: u64,
    pub filter: Option<BloomFilter>,
}

impl Run {
    pub fn write(file: &Arc<IdFile>, ids: &FxHashSet<EventId>) -> io::Result<Self> {
        let mut sorted: Vec<EventId> = ids.iter().copied().collect();
        sorted.sort_unstable();
        // What an attempt that failed left behind is written over, up to a whole id.
        let mut end = &file.file;
        let start = end.seek(SeekFrom::End(0))?.div_ceil(ID);
        end.seek(SeekFrom::Start(start * ID))?;
        let mut filter = filter_for(sorted.len());
        let mut out = BufWriter::new(end);
        for id in &sorted {
            filter.insert_hash(spread(*id));
            out.write_all(&id.0)?;
        }
        out.flush()?;
        let ids = sorted.len() as u64;
        Ok(Self { file: Arc::clone(file), start, ids, filter: Some(filter) })
    }

    /// The ids of an earlier run of the program.
    ///
    /// Errors: the file is shorter than that.
    pub fn open(file: Arc<IdFile>, start: u64, ids: u64) -> io::Result<Self> {
        let end = start.checked_add(ids).and_then(|end| end.checked_mul(ID));
        if end.is_none_or(|end| file.file.metadata().map_or(0, |file| file.len()) < end) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Self { file, start, ids, filter: None })
    }

    /// Reads the ids for a filter.
    pub fn filter(&self) -> io::Result<BloomFilter> {
        let mut filter = filter_for(self.ids as usize);
        let mut file = &self.file.file;
        file.seek(SeekFrom::Start(self.start * ID))?;
        let mut ids = BufReader::with_capacity(1 << 20, file.take(self.ids * ID));
        let mut id = EventId::default();
        for _ in 0..self.ids {
            ids.read_exact(&mut id.0)?;
            filter.insert_hash(spread(id));
        }
        Ok(filter)
    }

    pub fn holds(&self, id: EventId) -> io::Result<bool> {
        match &self.filter {
            Some(filter) if !filter.contains_hash(spread(id)) => Ok(false),
            _ => self.find(id),
        }
    }

    /// Ids of one part lie evenly between its first and its last possible one: the first look is
    /// close.
    fn find(&self, id: EventId) -> io::Result<bool> {
        let [first, second, third, fourth, fifth, ..] = id.0;
        let within = u64::from_be_bytes([0, 0, 0, first, second, third, fourth, fifth])
            % ((1 << 40) / PARTS as u64);
        let (mut low, mut high) = (0, self.ids);
        let mut guess = ((u128::from(within) * u128::from(self.ids) * PARTS as u128) >> 40) as u64;
        let mut reach = 64;
        while low < high {
            // An ever wider window around the guess, then halves of it.
            let at = guess.clamp(low, high - 1);
            let mut found = EventId::default();
            self.file.file.read_exact_at(&mut found.0, (self.start + at) * ID)?;
            match found.cmp(&id) {
                std::cmp::Ordering::Equal => return Ok(true),
                std::cmp::Ordering::Less => {
                    low = at + 1;
                    guess = if high - low > reach { low + reach } else { low + (high - low) / 2 };
                }
                std::cmp::Ordering::Greater => {
                    high = at;
                    guess = if high - low > reach { high - reach } else { low + (high - low) / 2 };
                }
            }
            reach = (reach * 2).min(self.ids);
        }
        Ok(false)
    }
}

/// The bytes of an id that its place in a run does not depend on.
fn spread(id: EventId) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = id.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn filter_for(ids: usize) -> BloomFilter {
    BloomFilter::with_false_pos(FALSE_POSITIVES).expected_items(ids)
}

//! Files that are written, rotated, truncated and compressed while they are read.
//!
//! One thread lists what there is, and reads on where a file has grown. A file is known by its
//! device and inode while it is there, and by its beginning ([`fingerprint`]) in the journal: under
//! another name, as a copy, or compressed it goes on where it was. A file that was renamed or
//! deleted is read to its end, through the handle that is still open.
//!
//! Lines are handed over as they end. Documents (an array, a wrapper, an object over several lines)
//! and compressed files are read when they are complete, or were left alone for so long that nobody
//! is at them. Of objects one behind another one may be torn: the next line that begins as an object
//! does begins the next. In doubt a file is read again: what it repeats is told by the events' ids, and
//! for records without one by the beginning of the file and the byte at which they lie.

mod content;
mod fingerprint;
mod identity;
mod listing;
mod reading;
#[cfg(test)]
mod tests;
mod tracked;

use super::SourceError;
use super::delivery::Take;
use crate::parsers::{self, Parser};
use content::{At, Encoding};
use fingerprint::Rows;
use listing::{FileId, Paths};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tracing::{debug, info, warn};
use tracked::Tracked;

/// What the source is called.
pub const SOURCE: &str = "files";

/// Bytes that are handed over at once, up to a line's end.
const BLOCK: usize = 2 << 20;
/// Files that are held open.
const MAX_OPEN: usize = 256;
/// How long is read what a listing found, before files that are held open have their turn.
const TURN: Duration = Duration::from_secs(1);
/// Of the time, at most one part in so many goes into listing.
const LISTING_SHARE: u32 = 20;
/// How long is waited before a file is tried again that could not be read.
const RETRY_FILE: Duration = Duration::from_secs(10);

/// What to read.
#[derive(Clone, Debug)]
pub struct Tail {
    /// Folders, files and globs.
    pub paths: Vec<String>,
    /// Globs of what is left out.
    pub exclude: Vec<String>,
    /// The parser of every record; where there is none each record says it.
    pub parser: Option<String>,
    pub poll_interval: Duration,
    /// Whether files that are there at the very first start are passed over.
    pub from_end: bool,
    /// Bytes of the longest record.
    pub record_bytes: usize,
    /// Bytes of the longest document.
    pub document_bytes: usize,
}

impl Tail {
    /// Errors: a path or an exclude that is no glob.
    pub fn check(&self) -> Result<(), SourceError> {
        Paths::new(&self.paths, &self.exclude).map(|_| ())
    }

    /// Whether a file at this path would be read, also where it is not there yet.
    pub fn would_read(&self, path: &Path) -> bool {
        let paths = Paths::new(&self.paths, &self.exclude);
        paths.is_ok_and(|paths| paths.would_list(path))
    }
}

/// How long something has to be left alone.
#[derive(Clone, Copy)]
struct Patience {
    /// A compressed file or a document, before it is read.
    settle: Duration,
    /// What is incomplete, before it is taken as it is.
    give_up: Duration,
    /// A line of text without an end.
    line: Duration,
    /// A file that was deleted or renamed out of sight, before it is let go.
    linger: Duration,
}

const PATIENCE: Patience = Patience {
    settle: Duration::from_secs(1),
    give_up: Duration::from_secs(10),
    line: Duration::from_secs(60),
    linger: Duration::from_secs(60),
};

/// Reads files as they grow.
pub struct TailSource {
    tail: Tail,
    paths: Paths,
    parser: Option<&'static dyn Parser>,
    take: Arc<dyn Take>,
    patience: Patience,
    rows: Rows,
    files: HashMap<FileId, Tracked>,
    /// Those of them that are held open.
    open: BTreeSet<FileId>,
    /// Those that are still to be looked at since the last listing.
    queue: VecDeque<FileId>,
    /// Number of the last listing.
    listing: u64,
    next_listing: Instant,
    /// Whether nothing was ever read.
    is_first: bool,
    /// What cannot be listed, with why: said once.
    said: HashMap<PathBuf, String>,
}

/// Why reading a file ends.
enum Trouble {
    Read(io::Error),
    /// It is no longer what it was a moment ago.
    Changed,
    /// The service stops.
    Stopped,
}

impl From<io::Error> for Trouble {
    fn from(cause: io::Error) -> Self {
        Self::Read(cause)
    }
}

/// How bytes of a file are cut.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Lines,
    Document,
}

/// Where a file is read from, and whether anybody wants it to end.
struct Opened<'f> {
    id: FileId,
    file: &'f File,
    encoding: Encoding,
    runtime: &'f Handle,
    stop: &'f AtomicBool,
}

impl TailSource {
    /// Takes up where the journal ends.
    ///
    /// Errors: a path that is no glob, a parser that there is not.
    pub fn open(tail: Tail, take: Arc<dyn Take>) -> Result<Self, String> {
        let paths = Paths::new(&tail.paths, &tail.exclude).map_err(|cause| cause.to_string())?;
        let parser = match &tail.parser {
            Some(name) => {
                Some(parsers::by_name(name).ok_or_else(|| format!("unknown parser `{name}`"))?)
            }
            None => None,
        };
        let rows = Rows::new(take.positions(SOURCE));
        Ok(Self {
            tail,
            paths,
            parser,
            take,
            patience: PATIENCE,
            is_first: rows.is_empty(),
            rows,
            files: HashMap::new(),
            open: BTreeSet::new(),
            queue: VecDeque::new(),
            listing: 0,
            next_listing: Instant::now(),
            said: HashMap::new(),
        })
    }

    /// Reads until `stop` is set. Called on a thread of its own.
    pub fn run(mut self, runtime: &Handle, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) && self.poll(runtime, stop) {
            let until = Instant::now() + self.tail.poll_interval;
            while self.queue.is_empty() && !stop.load(Ordering::Relaxed) {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                std::thread::park_timeout(left.min(Duration::from_millis(100)));
            }
        }
    }

    /// Reads what there is to read, for a while; whether the service goes on.
    fn poll(&mut self, runtime: &Handle, stop: &AtomicBool) -> bool {
        let began = Instant::now();
        if self.queue.is_empty() && began >= self.next_listing {
            self.queue = self.list().into();
            let pause = self.tail.poll_interval.max(began.elapsed() * LISTING_SHARE);
            self.next_listing = Instant::now() + pause;
        } else {
            for id in self.grown() {
                if stop.load(Ordering::Relaxed) || !self.visit(id, runtime, stop) {
                    return false;
                }
            }
        }
        // Thousands of new files do not keep others waiting that grow.
        let until = Instant::now() + TURN;
        while let Some(id) = self.queue.pop_front() {
            if stop.load(Ordering::Relaxed) || !self.visit(id, runtime, stop) {
                return false;
            }
            if Instant::now() >= until {
                break;
            }
        }
        true
    }

    /// Lists everything and says what is to be looked at, the oldest first.
    fn list(&mut self) -> Vec<FileId> {
        let listing = self.paths.list();
        self.listing += 1;
        for (path, why) in &listing.troubles {
            if self.said.get(path) != Some(why) {
                self.take.failed(SOURCE);
                warn!(path = %path.display(), why, "cannot be listed; it is tried again");
            }
        }
        self.said = listing.troubles.into_iter().collect();
        let mut due = Vec::new();
        for seen in listing.files {
            let new = || Tracked::new(&seen, 0);
            let file = self.files.entry(seen.id).or_insert_with(new);
            if file.listing == self.listing {
                continue;
            }
            if file.listing == 0 {
                file.from_end = self.tail.from_end && self.is_first && self.listing == 1;
            }
            (file.listing, file.gone) = (self.listing, None);
            if file.path != seen.path {
                file.path = seen.path;
                file.is_renamed = true;
            }
            let retries = file.retry_at.is_none_or(|at| at <= Instant::now());
            if (file.note(seen.size, seen.modified) || file.waits) && retries {
                due.push((file.modified, file.path.clone(), seen.id));
            }
        }
        let last = self.listing;
        self.files.retain(|_, file| {
            if file.listing != last {
                file.gone.get_or_insert_with(Instant::now);
                if file.handle.is_none() && file.waits {
                    warn!(path = %file.path.display(), "is gone before it was read to its end");
                }
            }
            file.gone.is_none() || file.handle.is_some()
        });
        due.sort();
        // First what is gone: its copy under another name then has nothing new.
        let is_gone = |id: &&FileId| self.files.get(id).is_some_and(|file| file.gone.is_some());
        let gone = self.open.iter().filter(is_gone).copied();
        gone.chain(due.into_iter().map(|(_, _, id)| id)).collect()
    }

    /// Of the files that are held open, those that may have something new.
    fn grown(&mut self) -> Vec<FileId> {
        let files = &mut self.files;
        let may_have = |id: &&FileId| {
            files.get_mut(id).is_some_and(|file| {
                let metadata = file.handle.as_ref().and_then(|handle| handle.metadata().ok());
                let is_new = metadata.is_none_or(|m| file.note(m.len(), listing::modified(&m)));
                is_new || file.waits || file.gone.is_some()
            })
        };
        self.open.iter().filter(may_have).copied().collect()
    }

    /// Reads one file on; whether the service goes on.
    fn visit(&mut self, id: FileId, runtime: &Handle, stop: &AtomicBool) -> bool {
        // Out of the way, so that others can be compared with it.
        let Some(mut file) = self.files.remove(&id) else { return true };
        self.open.remove(&id);
        let outcome = self.look(id, &mut file, runtime, stop);
        let goes_on = !matches!(outcome, Err(Trouble::Stopped));
        match outcome {
            Ok(()) => {
                file.retry_at = None;
                if file.said.take().is_some() {
                    info!(path = %file.path.display(), "can be read again");
                }
            }
            Err(Trouble::Read(cause)) if cause.kind() == io::ErrorKind::NotFound => {
                (file.handle, file.waits) = (None, true);
            }
            Err(Trouble::Read(cause)) => {
                (file.handle, file.waits) = (None, true);
                file.retry_at = Some(Instant::now() + RETRY_FILE);
                self.take.failed(SOURCE);
                let why = cause.to_string();
                if file.said.as_ref() != Some(&why) {
                    warn!(path = %file.path.display(), why, "cannot be read; it is tried again");
                    file.said = Some(why);
                }
            }
            Err(Trouble::Changed | Trouble::Stopped) => file.waits = true,
        }
        let is_over = file.gone.is_some_and(|since| since.elapsed() >= self.patience.linger)
            && file.is_left_alone(self.patience.give_up);
        if file.gone.is_some() && (file.handle.is_none() || is_over) {
            debug!(path = %file.path.display(), position = file.position, "is let go");
            return goes_on;
        }
        if file.handle.is_some() {
            self.open.insert(id);
        }
        self.files.insert(id, file);
        if self.open.len() > MAX_OPEN {
            let of = |id: &&FileId| self.files.get(id).map(|file| file.modified);
            if let Some(oldest) = self.open.iter().min_by_key(of).copied() {
                self.open.remove(&oldest);
                if let Some(file) = self.files.get_mut(&oldest) {
                    file.handle = None;
                }
            }
        }
        goes_on
    }

    fn look(
        &mut self,
        id: FileId,
        file: &mut Tracked,
        runtime: &Handle,
        stop: &AtomicBool,
    ) -> Result<(), Trouble> {
        let handle = match file.handle.take() {
            Some(handle) => handle,
            None => File::open(&file.path)?,
        };
        let metadata = handle.metadata()?;
        if listing::id_of(&metadata) != id {
            return Err(Trouble::Changed);
        }
        file.note(metadata.len(), listing::modified(&metadata));
        file.waits = false;
        let mut magic = [0; 4];
        let read = At { file: &handle, at: 0 }.read(&mut magic)?;
        let outcome = match content::encoding(&magic[..read]) {
            _ if file.size == 0 => {
                if file.position > 0 {
                    file.begin();
                    file.is_distinct = true;
                }
                Ok(())
            }
            None => {
                file.waits = true;
                Ok(())
            }
            Some(encoding) => {
                let opened = Opened { id, file: &handle, encoding, runtime, stop };
                match encoding {
                    Encoding::Plain => self.plain(file, &opened),
                    _ if !file.is_left_alone(self.patience.settle) => {
                        file.waits = true;
                        Ok(())
                    }
                    _ => self.compressed(file, &opened),
                }
            }
        };
        // What is compressed is not written on; what is gone can be had in no other way.
        if file.gone.is_some() || magic_is_plain(&magic[..read]) {
            file.handle = Some(handle);
        }
        outcome
    }
}

fn magic_is_plain(magic: &[u8]) -> bool {
    content::encoding(magic) == Some(Encoding::Plain)
}

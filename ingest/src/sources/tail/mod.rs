//! Files that are written, rotated, truncated and compressed while they are read.
//!
//! One thread lists what there is, and reads on where a file has grown. A file is known by its
//! device and inode while it is there, and by its beginning ([`fingerprint`]) in the journal: under
//! another name, as a copy, or compressed it goes on where it was. A file that was renamed or
//! deleted is read to its end, through the handle that is still open.
//!
//! Lines are handed over as they end. Documents (an array, a wrapper, an object over several lines)
//! and compressed files are read when they are complete, or were left alone for so long that nobody
//! is at them. In doubt a file is read again: what it repeats is told by the events' ids, and for
//! records without one by the beginning of the file and the byte at which they lie.

mod content;
mod fingerprint;
mod listing;
#[cfg(test)]
mod tests;

use super::SourceError;
use super::delivery::{Delivery, Piece, Refusal, Take};
use crate::parsers::{self, Parser};
use content::{At, Encoding, Format, HEAD};
use fingerprint::{FULL, Fingerprint, LONGEST, Rows};
use listing::{FileId, Paths, Seen};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::Handle;
use tracing::{debug, error, info, warn};

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
/// How long is waited before what was refused is handed over again.
const RETRY: Duration = Duration::from_millis(250);
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

/// A file that is there, or was a moment ago.
struct Tracked {
    path: PathBuf,
    /// The name under which it is known in the journal.
    name: Arc<str>,
    handle: Option<File>,
    /// As it was last seen, and since when.
    size: u64,
    modified: SystemTime,
    since: Instant,
    /// The listing that last had it, and since when none has.
    listing: u64,
    gone: Option<Instant>,
    /// Whether it got another name, after which little is written to it.
    is_renamed: bool,
    /// Whether it is passed over as far as it goes now.
    from_end: bool,
    format: Option<Format>,
    /// Its first bytes, at most [`FULL`] of those that were read.
    start: Option<Fingerprint>,
    /// By what the journal knows it; `None` before anything of it was stored.
    print: Option<Fingerprint>,
    position: u64,
    /// Whether it is another than the one that the journal knows by the same beginning.
    is_distinct: bool,
    /// Passing over the rest of a line that is too long.
    is_skipping: bool,
    /// Whether something is left that time alone may change.
    waits: bool,
    retry_at: Option<Instant>,
    /// Why it cannot be read, and whether its damage was said: once each.
    said: Option<String>,
    damage_said: bool,
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

impl Tracked {
    fn new(seen: &Seen, listing: u64) -> Self {
        Self {
            name: name_of(&seen.path),
            path: seen.path.clone(),
            handle: None,
            size: seen.size,
            modified: seen.modified,
            since: Instant::now(),
            listing,
            gone: None,
            is_renamed: false,
            from_end: false,
            format: None,
            start: None,
            print: None,
            position: 0,
            is_distinct: false,
            is_skipping: false,
            waits: true,
            retry_at: None,
            said: None,
            damage_said: false,
        }
    }

    /// Whether it is another than when it was last seen.
    fn note(&mut self, size: u64, modified: SystemTime) -> bool {
        let changed = (size, modified) != (self.size, self.modified);
        if changed {
            (self.size, self.modified, self.since) = (size, modified, Instant::now());
            self.damage_said = false;
        }
        changed
    }

    /// Whether nobody wrote to it for so long, by its own time or by ours.
    fn is_left_alone(&self, span: Duration) -> bool {
        let by_its_own = SystemTime::now().duration_since(self.modified);
        self.since.elapsed() >= span || by_its_own.is_ok_and(|age| age >= span)
    }

    /// Whether what is written to it comes to an end.
    fn is_rotated(&self) -> bool {
        self.gone.is_some() || self.is_renamed
    }

    /// It is a new file from its first byte on.
    fn begin(&mut self) {
        self.name = name_of(&self.path);
        (self.start, self.print, self.format) = (None, None, None);
        self.position = 0;
        (self.is_distinct, self.is_skipping, self.is_renamed) = (false, false, false);
    }
}

/// The name of a file, as a partition may have it.
fn name_of(path: &Path) -> Arc<str> {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    name.replace(|c: char| c.is_control(), "?").into()
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

    fn plain(&mut self, file: &mut Tracked, opened: &Opened<'_>) -> Result<(), Trouble> {
        let is_truncated = file.size < file.position;
        if is_truncated || !self.is_still(file, opened)? {
            info!(path = %file.path.display(), position = file.position, "was truncated or written anew");
            file.begin();
            // Its beginning may be what it was, but it is not as long.
            file.is_distinct = is_truncated;
        }
        if file.print.is_none() {
            let head = content::beginning(opened.file, opened.encoding, HEAD)?;
            let whole = file.is_left_alone(self.patience.settle);
            file.format = content::format(&head, whole);
            // A line that was cut looks like the first of several.
            if file.format == Some(Format::Values)
                && !content::is_enclosed(&head)
                && content::complete(&head) == 0
                && head.len() < HEAD
                && !file.is_left_alone(self.patience.give_up)
            {
                file.format = None;
            }
            if file.format.is_none() || !self.identify(file, opened)? {
                file.waits = true;
                return Ok(());
            }
        }
        if file.from_end && file.print.is_none() {
            let end = match file.format {
                Some(Format::Lines) => line_end(opened.file, file.size)?,
                _ => file.size,
            };
            return self.hand_over(file, opened, None, end);
        }
        match self.format(file, opened)? {
            Format::Foreign => self.foreign(file, opened),
            Format::Lines => {
                let reader = Box::new(At { file: opened.file, at: file.position });
                self.lines(file, opened, reader)
            }
            Format::Values => self.values(file, opened),
        }
    }

    fn compressed(&mut self, file: &mut Tracked, opened: &Opened<'_>) -> Result<(), Trouble> {
        if !self.is_still(file, opened)? {
            file.begin();
        }
        if file.print.is_none() {
            let head = content::beginning(opened.file, opened.encoding, HEAD)?;
            if head.is_empty() {
                return self.damaged(file, "holds nothing yet");
            }
            file.format = content::format(&head, true);
            if !self.identify(file, opened)? {
                file.waits = true;
                return Ok(());
            }
        }
        let format = self.format(file, opened)?;
        if format == Format::Foreign {
            return self.foreign(file, opened);
        }
        // How long it is: of lines, whether it is as long as what was read of them.
        let passes_all = format == Format::Values || file.from_end && file.print.is_none();
        let wanted = if passes_all { u64::MAX } else { file.position };
        let mut reader = content::open(opened.file, opened.encoding)?;
        let (passed, is_whole) = match pass(&mut reader, wanted) {
            Ok(passed) => (passed, true),
            Err((passed, cause)) => {
                if !file.is_left_alone(self.patience.give_up) {
                    file.waits = true;
                    return Ok(());
                }
                self.damaged(file, &cause.to_string())?;
                (passed, false)
            }
        };
        if passed < file.position {
            if is_whole {
                file.begin();
                file.is_distinct = true;
                file.waits = true;
            }
            return Ok(());
        }
        if file.from_end && file.print.is_none() {
            return self.hand_over(file, opened, None, passed);
        }
        if format == Format::Lines {
            return self.lines(file, opened, reader);
        }
        if passed > file.position {
            // Compressed as it is: the intake bounds what comes out of it.
            let mut bytes = Vec::new();
            let mut plain = At { file: opened.file, at: 0 };
            content::fill(&mut plain, &mut bytes, self.tail.document_bytes)?;
            return self.hand_over(file, opened, Some((bytes, Cut::Document)), passed);
        }
        Ok(())
    }

    /// Says once that what is compressed is damaged, when nobody is at it any more.
    fn damaged(&self, file: &mut Tracked, cause: &str) -> Result<(), Trouble> {
        if !file.is_left_alone(self.patience.give_up) {
            file.waits = true;
        } else if !std::mem::replace(&mut file.damage_said, true) {
            let path = file.path.display();
            warn!(%path, cause, "cannot be decompressed to its end; what was read before it is kept");
        }
        Ok(())
    }

    /// How the file is read, which is seen from its beginning.
    fn format(&self, file: &mut Tracked, opened: &Opened<'_>) -> Result<Format, Trouble> {
        if file.format.is_none() {
            let head = content::beginning(opened.file, opened.encoding, HEAD)?;
            file.format = content::format(&head, true);
        }
        Ok(file.format.unwrap_or(Format::Lines))
    }

    /// Whether a file begins as it did.
    fn is_still(&self, file: &Tracked, opened: &Opened<'_>) -> Result<bool, Trouble> {
        let Some(start) = file.start else { return Ok(true) };
        let head = content::beginning(opened.file, opened.encoding, start.len())?;
        Ok(start.is_of(&head))
    }

    /// Finds out whether the journal knows a file by its beginning; not where one has to wait to
    /// tell.
    fn identify(&mut self, file: &mut Tracked, opened: &Opened<'_>) -> Result<bool, Trouble> {
        if file.is_distinct {
            return Ok(true);
        }
        let bytes = self.rows.longest().max(FULL);
        let head = content::beginning(opened.file, opened.encoding, bytes)?;
        let Some((print, row)) = self.rows.find(&head) else { return Ok(true) };
        if opened.encoding == Encoding::Plain && file.size < row.position {
            // A copy that is being made, or another file that begins so.
            let is_other = file.is_left_alone(self.patience.give_up);
            file.is_distinct = is_other;
            return Ok(is_other);
        }
        let position = row.position;
        let holder = row.holder.filter(|holder| *holder != opened.id);
        let holder = holder.and_then(|holder| self.files.get(&holder));
        let is_held = match holder.filter(|holder| holder.print == Some(print)) {
            Some(holder) => {
                // Two files at the same time: one is the copy of the other, or only begins so.
                let compared = usize::try_from(position).unwrap_or(LONGEST).min(LONGEST);
                let other = beginning_of(holder, compared).unwrap_or_default();
                let is_there = other.len() == compared && print.is_of(&other);
                let own = content::beginning(opened.file, opened.encoding, compared)?;
                if is_there && own != other {
                    file.is_distinct = true;
                    return Ok(true);
                }
                is_there
            }
            None => false,
        };
        (file.name, file.position) = (Arc::clone(&row.name), position);
        let start = usize::try_from(position).unwrap_or(FULL).min(FULL).min(head.len());
        file.start = Some(Fingerprint::of(&head[..start]));
        file.print = Some(print);
        if !is_held {
            self.rows.hold(print, opened.id);
        }
        debug!(path = %file.path.display(), name = %file.name, position, "reads on");
        Ok(true)
    }

    /// Hands over whole lines from `file.position` on, which is where `reader` is.
    fn lines(
        &mut self,
        file: &mut Tracked,
        opened: &Opened<'_>,
        mut reader: Box<dyn Read + '_>,
    ) -> Result<(), Trouble> {
        let (mut held, mut wanted) = (Vec::new(), BLOCK);
        let longest = self.tail.record_bytes.saturating_add(1);
        let damage = loop {
            let (ended, damage) = match content::fill(&mut reader, &mut held, wanted) {
                Ok(ended) => (ended, None),
                Err(cause) if opened.encoding == Encoding::Plain => return Err(cause.into()),
                Err(cause) => (true, Some(cause)),
            };
            if file.is_skipping {
                let end = memchr::memchr(b'\n', &held);
                let passed = end.map_or(held.len(), |end| end + 1);
                held.drain(..passed);
                file.position += passed as u64;
                file.is_skipping = end.is_none();
            }
            // A writer that did not notice that its file was truncated leaves a hole.
            let hole = held.iter().take_while(|byte| **byte == 0).count();
            held.drain(..hole);
            file.position += hole as u64;
            if let Some(end) = memchr::memrchr(b'\n', &held) {
                let rest = held.split_off(end + 1);
                let block = std::mem::replace(&mut held, rest);
                self.hand_over_lines(file, opened, block)?;
                wanted = BLOCK;
            } else if held.len() >= longest {
                // Longer than any record may be, so it becomes a dead letter.
                let rest = held.split_off(longest);
                self.hand_over_lines(file, opened, std::mem::replace(&mut held, rest))?;
                file.is_skipping = true;
                continue;
            } else {
                wanted = (held.len() * 2).clamp(BLOCK, longest.max(BLOCK));
            }
            if ended {
                break damage;
            }
        };
        if let Some(cause) = &damage {
            self.damaged(file, &cause.to_string())?;
        }
        if held.trim_ascii().is_empty() {
            return Ok(());
        }
        if self.is_last_line(file, opened, &held, damage.is_some()) {
            return self.hand_over_lines(file, opened, held);
        }
        // What is compressed and cut off changes before there is more of it.
        file.waits |= opened.encoding == Encoding::Plain;
        Ok(())
    }

    /// Whether a line without an end is taken as it is.
    fn is_last_line(
        &self,
        file: &Tracked,
        opened: &Opened<'_>,
        line: &[u8],
        is_damaged: bool,
    ) -> bool {
        if opened.encoding != Encoding::Plain {
            return !is_damaged;
        }
        let Patience { settle, give_up, line: patience, .. } = self.patience;
        if file.is_rotated() {
            file.is_left_alone(give_up)
        } else if content::is_json(line) {
            // The rest of an object comes, whenever a buffer is written.
            file.is_left_alone(settle) && content::is_closed_json(line)
        } else {
            file.is_left_alone(patience)
        }
    }

    /// Hands over JSON values from `file.position` on, as far as they are complete.
    fn values(&mut self, file: &mut Tracked, opened: &Opened<'_>) -> Result<(), Trouble> {
        let mut reader = At { file: opened.file, at: file.position };
        let mut bytes = Vec::new();
        content::fill(&mut reader, &mut bytes, HEAD)?;
        if content::is_enclosed(&bytes) && !file.is_left_alone(self.patience.settle) {
            file.waits = true;
            return Ok(());
        }
        loop {
            let longest = self.tail.document_bytes.saturating_add(1);
            content::fill(&mut reader, &mut bytes, longest)?;
            let complete = content::complete(&bytes);
            let rest = bytes.split_off(complete);
            let end = file.position + complete as u64;
            if bytes.trim_ascii().is_empty() {
                file.position = end;
            } else {
                self.hand_over(file, opened, Some((bytes, Cut::Document)), end)?;
            }
            bytes = rest;
            if complete == 0 || bytes.trim_ascii().is_empty() {
                break;
            }
        }
        if bytes.trim_ascii().is_empty() {
            return Ok(());
        }
        let bound = match content::is_enclosed(&bytes) {
            true => self.tail.document_bytes,
            false => self.tail.record_bytes,
        };
        let is_too_long = bytes.len() > bound;
        if is_too_long || file.is_left_alone(self.patience.give_up) {
            // The intake says what is wrong with it.
            let end = file.size.max(file.position + bytes.len() as u64);
            return self.hand_over(file, opened, Some((bytes, Cut::Document)), end);
        }
        file.waits = true;
        Ok(())
    }

    /// Hands over the beginning of what is no text, once: it becomes a dead letter.
    fn foreign(&mut self, file: &mut Tracked, opened: &Opened<'_>) -> Result<(), Trouble> {
        if file.print.is_some() {
            return Ok(());
        }
        let head = content::beginning(opened.file, opened.encoding, HEAD)?;
        let end = head.len() as u64;
        self.hand_over(file, opened, Some((head, Cut::Document)), end)
    }

    fn hand_over_lines(
        &mut self,
        file: &mut Tracked,
        opened: &Opened<'_>,
        block: Vec<u8>,
    ) -> Result<(), Trouble> {
        let end = file.position + block.len() as u64;
        if block.trim_ascii().is_empty() {
            file.position = end;
            return Ok(());
        }
        self.hand_over(file, opened, Some((block, Cut::Lines)), end)
    }

    /// Stores what lies between `file.position` and `end`, and goes on there.
    fn hand_over(
        &mut self,
        file: &mut Tracked,
        opened: &Opened<'_>,
        bytes: Option<(Vec<u8>, Cut)>,
        end: u64,
    ) -> Result<(), Trouble> {
        if opened.stop.load(Ordering::Relaxed) {
            return Err(Trouble::Stopped);
        }
        let covered = usize::try_from(end).unwrap_or(FULL).min(FULL);
        // After the bytes were read: they are of the file that begins so.
        let head = content::beginning(opened.file, opened.encoding, covered)?;
        if head.len() < covered || file.start.is_some_and(|start| !start.is_of(&head)) {
            return Err(Trouble::Changed);
        }
        if file.position == 0
            && let Some((bytes, Cut::Lines)) = &bytes
            && !bytes.starts_with(&head[..bytes.len().min(covered)])
        {
            return Err(Trouble::Changed);
        }
        let start = Fingerprint::of(&head);
        let print = self.print(file, opened, start, end)?;
        let from = file.position;
        let pieces = bytes.map(|(bytes, cut)| Piece {
            parser: self.parser,
            origin: match cut {
                Cut::Lines => format!("files:{:016x}", start.hash()).into(),
                Cut::Document => format!("files:{:016x}:{from}", start.hash()).into(),
            },
            bytes: bytes.into(),
            are_lines: cut == Cut::Lines,
            offsets: if cut == Cut::Lines { [from].into() } else { Arc::default() },
        });
        let delivery = Delivery {
            source: SOURCE.into(),
            partition: print.partition(&file.name).into(),
            pieces: pieces.into_iter().collect(),
            position: Some(end),
        };
        opened.runtime.block_on(self.store(delivery, opened.stop))?;
        (file.start, file.print) = (Some(start), Some(print));
        (file.position, file.from_end) = (end, false);
        self.rows.note(print, Arc::clone(&file.name), end, Some(opened.id));
        Ok(())
    }

    /// By what a file is known once it is read up to `end`.
    fn print(
        &self,
        file: &Tracked,
        opened: &Opened<'_>,
        start: Fingerprint,
        end: u64,
    ) -> io::Result<Fingerprint> {
        match file.print {
            Some(print) if print.len() >= FULL => return Ok(print),
            _ => {}
        }
        let is_free = self.rows.get(start).is_none_or(|row| row.position == end);
        if start.len() < FULL || is_free {
            return Ok(start);
        }
        // Another file begins so, and was read elsewhere.
        let covered = usize::try_from(end).unwrap_or(LONGEST).min(LONGEST);
        let longer = content::beginning(opened.file, opened.encoding, covered)?;
        Ok(Fingerprint::of(&longer))
    }

    /// Returns once it is stored.
    ///
    /// Errors: the service stops before it could be.
    async fn store(&self, delivery: Delivery, stop: &AtomicBool) -> Result<(), Trouble> {
        let mut said = false;
        loop {
            match self.take.take(delivery.clone()).await {
                Ok(_) => return Ok(()),
                Err(Refusal::Closed) => return Err(Trouble::Stopped),
                Err(Refusal::Oversized(cause)) => {
                    error!(cause, partition = %delivery.partition, "is passed over");
                    return Ok(());
                }
                Err(cause) => {
                    if !std::mem::replace(&mut said, true) {
                        warn!(%cause, partition = %delivery.partition, "waits");
                    }
                    if stop.load(Ordering::Relaxed) {
                        return Err(Trouble::Stopped);
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

fn magic_is_plain(magic: &[u8]) -> bool {
    content::encoding(magic) == Some(Encoding::Plain)
}

/// The first bytes of a file that is tracked.
fn beginning_of(file: &Tracked, bytes: usize) -> io::Result<Vec<u8>> {
    let opened;
    let handle = match &file.handle {
        Some(handle) => handle,
        None => {
            opened = File::open(&file.path)?;
            &opened
        }
    };
    let mut magic = [0; 4];
    let read = At { file: handle, at: 0 }.read(&mut magic)?;
    let encoding = content::encoding(&magic[..read]).unwrap_or(Encoding::Plain);
    content::beginning(handle, encoding, bytes)
}

/// Reads over so many bytes; fewer where the content ends before.
///
/// Errors: those of reading, with how far it came.
fn pass(reader: &mut dyn Read, bytes: u64) -> Result<u64, (u64, io::Error)> {
    let (mut passed, mut buffer) = (0, vec![0; HEAD]);
    while passed < bytes {
        let most = usize::try_from(bytes - passed).unwrap_or(HEAD).min(HEAD);
        match reader.read(&mut buffer[..most]) {
            Ok(0) => break,
            Ok(read) => passed += read as u64,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err((passed, cause)),
        }
    }
    Ok(passed)
}

/// Where the last line of a file ends, or the file itself where it has no line that is not longer
/// than any may be.
fn line_end(file: &File, size: u64) -> io::Result<u64> {
    let from = size.saturating_sub(LONGEST as u64);
    let mut tail = Vec::new();
    content::fill(&mut At { file, at: from }, &mut tail, LONGEST)?;
    Ok(memchr::memrchr(b'\n', &tail).map_or(size, |end| from + end as u64 + 1))
}

//! The journal: one append-only sequence of entries, on disk before anybody is told that they are.
//!
//! A segment is a file of frames, named after the number of its first entry. A frame is an entry
//! with its number and a checksum. [`Journal::append`] writes a group of entries and returns when
//! all of them are on disk; when that fails, none of them counts. A group begins where a block of
//! the disk does, and zeros fill its last one: no block with something that was acknowledged is ever
//! written again.
//!
//! After a crash the last segment may end in the middle of a group that nobody was told of: that
//! tail is cut. Damage before it is no torn tail: it is an error, because what it hides was promised
//! to somebody. The two are told apart by `durable` in every frame, the number of the last entry
//! that was on disk when the frame was written.
//!
//! `disk` the folder · `entry` what a frame holds · `encoded` its events as bytes · `reader` entries
//! in their order · `tables` findings and dead letters as tables.

pub mod disk;
pub mod encoded;
pub mod entry;
pub mod reader;
#[cfg(test)]
pub(crate) mod simulation;
pub mod tables;

pub use entry::{DeadLetter, Entry, Ledger};
pub use reader::Reader;

use disk::{BLOCK, Disk, DiskFile, base_of, segment_name};
use std::io::{self, Read};
use std::sync::Arc;
use thiserror::Error;
use xxhash_rust::xxh3::Xxh3;

/// Why a journal cannot be read or written.
#[derive(Debug, Error)]
pub enum JournalError {
    #[error("cannot {doing} the journal segment `{segment}`")]
    Io {
        doing: &'static str,
        segment: String,
        #[source]
        cause: io::Error,
    },
    #[error(
        "the journal segment `{segment}` is damaged at byte {offset}, where entry {number} belongs; entries behind it were acknowledged. Restore the file from a copy, or move it and all later ones away to go on without them"
    )]
    Damaged { segment: String, offset: u64, number: u64 },
    #[error(
        "the journal segment `{segment}` was written by another version of telltale; this one reads format {FORMAT}"
    )]
    Format { segment: String },
    #[error("an entry of {bytes} bytes is too long for the journal")]
    TooLong { bytes: usize },
    #[error("entry {number} of the journal cannot be read: {cause}")]
    Entry { number: u64, cause: String },
}

impl JournalError {
    /// Whether the disk is full, which room cures.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { cause, .. } if matches!(
            cause.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        ))
    }
}

const SEGMENT_MAGIC: [u8; 8] = *b"telltale";
const FORMAT: u32 = 5;
/// Magic, format, [`GAP`] or zeros, number of the first entry; zeros fill the block.
const SEGMENT_HEAD: usize = 24;
/// In the head of a segment before which entries are missing that nobody has any more.
const GAP: [u8; 4] = *b"gap ";
/// Where the first frame of a segment begins.
const FRAMES_AT: usize = BLOCK;
const FRAME_MAGIC: u32 = 0x4c4a_5454;
/// Magic, length of the body, number, durable, length of the padding, four bytes kept free, checksum.
const FRAME_HEAD: usize = 40;
/// No entry is longer, and none is written that is: nobody could read it.
pub const MAX_ENTRY_BYTES: usize = 1 << 30;

/// An entry as bytes, in parts: what is written for it, and what lies ready.
pub type Body<'e> = Vec<&'e [u8]>;

/// Bytes of an entry.
pub fn len_of(body: &[&[u8]]) -> usize {
    body.iter().map(|part| part.len()).sum()
}

const ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Bytes from `len` to the end of its last block.
fn padding_of(len: usize) -> usize {
    len.next_multiple_of(BLOCK) - len
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    /// Of the body.
    len: usize,
    number: u64,
    /// The number of the last entry that was on disk when this was written.
    durable: u64,
    /// Zeros behind the body: the last frame of a group has them.
    padding: usize,
    checksum: u64,
}

impl Frame {
    fn of(body: &[&[u8]], number: u64, durable: u64, padding: usize) -> Self {
        let mut frame = Self { len: len_of(body), number, durable, padding, checksum: 0 };
        frame.checksum = frame.checksum_of(body);
        frame
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&FRAME_MAGIC.to_le_bytes());
        out.extend_from_slice(&(self.len as u32).to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.durable.to_le_bytes());
        out.extend_from_slice(&(self.padding as u64).to_le_bytes());
        out.extend_from_slice(&self.checksum.to_le_bytes());
    }

    /// `None` where no frame begins.
    fn read(head: &[u8; FRAME_HEAD]) -> Option<Self> {
        let word =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let (len, padding) = (word(4) as usize, usize::try_from(long(24)).ok()?);
        (word(0) == FRAME_MAGIC && len <= MAX_ENTRY_BYTES && padding < BLOCK).then(|| Self {
            len,
            number: long(8),
            durable: long(16),
            padding,
            checksum: long(32),
        })
    }

    fn matches(&self, body: &[u8]) -> bool {
        body.len() == self.len && self.checksum_of(&[body]) == self.checksum
    }

    fn checksum_of(&self, body: &[&[u8]]) -> u64 {
        let mut hash = Xxh3::new();
        for value in [self.number, self.durable, self.padding as u64] {
            hash.update(&value.to_le_bytes());
        }
        body.iter().for_each(|part| hash.update(part));
        hash.digest()
    }

    /// Bytes of the file that it takes.
    fn on_disk(&self) -> usize {
        FRAME_HEAD + self.len + self.padding
    }
}

fn segment_head(base: u64, is_behind_gap: bool) -> [u8; SEGMENT_HEAD] {
    let mut head = [0; SEGMENT_HEAD];
    head[..8].copy_from_slice(&SEGMENT_MAGIC);
    head[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    if is_behind_gap {
        head[12..16].copy_from_slice(&GAP);
    }
    head[16..].copy_from_slice(&base.to_le_bytes());
    head
}

/// What opening a journal found to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Number of the last entry; 0 where there is none.
    pub last: u64,
    /// A tail that nobody was told of, cut: the segment and how many bytes.
    pub cut: Option<(String, u64)>,
}

/// The writing end of a journal. There is one for a folder.
pub struct Journal {
    disk: Arc<dyn Disk>,
    segment: Option<Segment>,
    /// Number of the next entry, from 1.
    next: u64,
    /// Whether entries before that one are missing for good.
    is_behind_gap: bool,
    segment_bytes: u64,
}

struct Segment {
    name: String,
    file: Box<dyn DiskFile>,
    /// Bytes that are on disk for certain.
    len: u64,
}

impl Journal {
    /// Opens the journal of a folder and cuts a torn tail off.
    ///
    /// Errors: what cannot be read, and damage that is no torn tail.
    pub fn open(disk: Arc<dyn Disk>, segment_bytes: u64) -> Result<(Self, Recovery), JournalError> {
        let mut recovery = Recovery::default();
        let names = disk.list().map_err(|cause| io_error("list", "", cause))?;
        let mut journal =
            Self { disk, segment: None, next: 1, is_behind_gap: false, segment_bytes };
        let mut segments: Vec<_> =
            names.into_iter().filter_map(|name| Some((base_of(&name)?, name))).collect();
        while let Some((base, last)) = segments.pop() {
            let bytes = journal.read_whole(&last)?;
            let (end, next) = sound_part(&bytes, base)
                .ok_or_else(|| JournalError::Format { segment: last.clone() })?;
            if end < bytes.len() {
                if hides_acknowledged(&bytes[end..], next) {
                    let offset = end as u64;
                    return Err(JournalError::Damaged { segment: last, offset, number: next });
                }
                recovery.cut = Some((last.clone(), (bytes.len() - end) as u64));
            }
            if end == 0 {
                // Not even its head was on disk, so nothing in it was acknowledged; the one before
                // is the last.
                journal.disk.remove(&last).map_err(|cause| io_error("remove", &last, cause))?;
                continue;
            }
            let mut file =
                journal.disk.append(&last).map_err(|cause| io_error("open", &last, cause))?;
            if end < bytes.len() {
                file.truncate(end as u64).map_err(|cause| io_error("cut", &last, cause))?;
            }
            // What a process that was killed had written may not be on disk yet; it counts from
            // here on.
            file.sync().map_err(|cause| io_error("sync", &last, cause))?;
            // Where only the beginning of a group was there, the segment ends within a block, and
            // what comes next begins one of its own.
            journal.segment =
                (padding_of(end) == 0).then(|| Segment { name: last, file, len: end as u64 });
            journal.next = next;
            journal.is_behind_gap = next == base && bytes[12..16] == GAP;
            recovery.last = next - 1;
            break;
        }
        Ok((journal, recovery))
    }

    fn read_whole(&self, name: &str) -> Result<Vec<u8>, JournalError> {
        let mut bytes = Vec::new();
        let mut read = || {
            self.disk.read(name)?.read_to_end(&mut bytes)?;
            let (read, size) = (bytes.len(), self.disk.size(name)?);
            // What is missing would be taken for a torn tail and cut.
            if (read as u64) < size {
                let cause = format!("it has {size} bytes, of which the disk gave {read}");
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, cause));
            }
            Ok(())
        };
        read().map_err(|cause| io_error("read", name, cause))?;
        Ok(bytes)
    }

    /// The number that the next entry gets.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Numbers what comes next higher than `last`, which somebody knows an entry by already: files of
    /// this journal were moved away. What comes next says so.
    pub fn go_on_after(&mut self, last: u64) {
        if self.next <= last {
            self.next = last + 1;
            self.segment = None;
            self.is_behind_gap = true;
        }
    }

    /// Writes entries and returns the number of the first when all of them are on disk.
    ///
    /// Errors: none of them counts then, and the next call starts afresh.
    pub fn append<'e>(
        &mut self,
        entries: impl IntoIterator<Item = Body<'e>>,
    ) -> Result<u64, JournalError> {
        let first = self.next;
        let bodies: Vec<Body<'e>> = entries.into_iter().collect();
        self.write(&bodies)?;
        self.next += bodies.len() as u64;
        self.is_behind_gap &= bodies.is_empty();
        Ok(first)
    }

    fn write(&mut self, bodies: &[Body<'_>]) -> Result<(), JournalError> {
        let longest = bodies.iter().map(|body| len_of(body)).max().unwrap_or_default();
        if longest > MAX_ENTRY_BYTES {
            return Err(JournalError::TooLong { bytes: longest });
        }
        if self.segment.as_ref().is_some_and(|segment| segment.len >= self.segment_bytes) {
            self.segment = None;
        }
        let mut segment = match self.segment.take() {
            Some(segment) => segment,
            None => self.begin_segment()?,
        };
        let len = bodies.iter().map(|body| FRAME_HEAD + len_of(body)).sum();
        let padding = padding_of(len);
        let frames = (1..).zip((self.next..).zip(bodies)).map(|(nth, (number, body))| {
            let padding = if nth == bodies.len() { padding } else { 0 };
            let mut head = Vec::with_capacity(FRAME_HEAD);
            Frame::of(body, number, self.next - 1, padding).write(&mut head);
            head
        });
        let heads: Vec<_> = frames.collect();
        let frames = heads.iter().zip(bodies);
        let mut parts: Vec<&[u8]> = frames
            .flat_map(|(head, body)| std::iter::once(head.as_slice()).chain(body.iter().copied()))
            .collect();
        parts.push(&ZEROS[..padding]);
        if let Err(cause) = segment.file.write(&parts) {
            // Where the rest of a frame cannot be cut off, the next group begins a segment of its
            // own, whose number says that this one ends before it.
            let name = segment.name.clone();
            if segment.file.truncate(segment.len).is_ok() {
                self.segment = Some(segment);
            }
            return Err(io_error("write", &name, cause));
        }
        if let Err(cause) = segment.file.sync() {
            // After a failed sync nobody knows what is on disk: the file is left alone.
            let _ = segment.file.truncate(segment.len);
            return Err(io_error("sync", &segment.name, cause));
        }
        segment.len += (len + padding) as u64;
        self.segment = Some(segment);
        Ok(())
    }

    fn begin_segment(&self) -> Result<Segment, JournalError> {
        let name = segment_name(self.next);
        let mut file = self.disk.create(&name).map_err(|cause| io_error("create", &name, cause))?;
        let head = [&segment_head(self.next, self.is_behind_gap)[..], &ZEROS[SEGMENT_HEAD..]];
        let begun = file.write(&head).and_then(|()| file.sync());
        begun.map_err(|cause| {
            let _ = self.disk.remove(&name);
            io_error("begin", &name, cause)
        })?;
        Ok(Segment { name, file, len: FRAMES_AT as u64 })
    }
}

/// Looks whether the last segment, which may still be written, hides entries that were acknowledged
/// behind one that cannot be read.
///
/// Errors: that it does, and what cannot be read.
pub fn check_tail(disk: &dyn Disk) -> Result<(), JournalError> {
    let Some(found) = damage_in_tail(disk)? else { return Ok(()) };
    // What is written while it is read may be seen in part, and what follows it as a whole: then it
    // is whole the next time.
    if damage_in_tail(disk)?.as_ref() != Some(&found) {
        return Ok(());
    }
    let (segment, offset, number) = found;
    Err(JournalError::Damaged { segment, offset, number })
}

/// Segment, byte and number of the entry in the last segment that cannot be read though it was
/// acknowledged.
fn damage_in_tail(disk: &dyn Disk) -> Result<Option<(String, u64, u64)>, JournalError> {
    let names = disk.list().map_err(|cause| io_error("list", "", cause))?;
    let last = names.into_iter().filter_map(|name| Some((base_of(&name)?, name))).max();
    let Some((base, segment)) = last else { return Ok(None) };
    let mut bytes = Vec::new();
    match disk.read(&segment).and_then(|mut file| file.read_to_end(&mut bytes)) {
        // It was dropped meanwhile, for newer ones.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|cause| io_error("read", &segment, cause))?,
    };
    let Some((end, number)) = sound_part(&bytes, base) else { return Ok(None) };
    let hides = hides_acknowledged(&bytes[end..], number);
    Ok(hides.then_some((segment, end as u64, number)))
}

/// Removes segments that hold nothing after entry `last`; the newest stays in any case.
pub fn drop_segments(disk: &dyn Disk, last: u64) -> Result<usize, JournalError> {
    let names = disk.list().map_err(|cause| io_error("list", "", cause))?;
    let bases: Vec<_> = names.iter().filter_map(|name| Some((base_of(name)?, name))).collect();
    let mut dropped = 0;
    for pair in bases.windows(2) {
        if pair[1].0 > last.saturating_add(1) {
            break;
        }
        disk.remove(pair[0].1).map_err(|cause| io_error("remove", pair[0].1, cause))?;
        dropped += 1;
    }
    Ok(dropped)
}

fn io_error(doing: &'static str, segment: &str, cause: io::Error) -> JournalError {
    JournalError::Io { doing, segment: segment.to_owned(), cause }
}

/// How many bytes of a segment are whole frames in order, and the number that comes next; `None`
/// for a segment of another format.
fn sound_part(bytes: &[u8], base: u64) -> Option<(usize, u64)> {
    let heads = [false, true].map(|is_behind_gap| segment_head(base, is_behind_gap));
    if !heads.iter().any(|head| bytes.starts_with(head)) || bytes.len() < FRAMES_AT {
        let is_other = bytes.len() >= SEGMENT_HEAD
            && bytes.starts_with(&SEGMENT_MAGIC)
            && bytes[8..12] != heads[0][8..12]
            && heads.iter().any(|head| bytes[12..SEGMENT_HEAD] == head[12..]);
        return (!is_other).then_some((0, base));
    }
    let (mut at, mut next) = (FRAMES_AT, base);
    while let Some(len) = frame_at(&bytes[at..], |frame| frame.number == next) {
        at += len;
        next += 1;
    }
    Some((at, next))
}

/// Bytes of the whole frame at the beginning of `bytes`, if it is one that is wanted.
fn frame_at(bytes: &[u8], wanted: impl Fn(&Frame) -> bool) -> Option<usize> {
    let frame = Frame::read(bytes.first_chunk()?)?;
    let body = bytes.get(..frame.on_disk())?.get(FRAME_HEAD..FRAME_HEAD + frame.len)?;
    (wanted(&frame) && frame.matches(body)).then_some(frame.on_disk())
}

/// Whether a frame in `bytes` was written when entry `number` was on disk already.
fn hides_acknowledged(bytes: &[u8], number: u64) -> bool {
    memchr::memmem::find_iter(bytes, &FRAME_MAGIC.to_le_bytes())
        .any(|at| frame_at(&bytes[at..], |frame| frame.durable >= number).is_some())
}

//! The entries of a journal in their order, whether somebody writes it at the time or not.

use super::disk::{Disk, base_of};
use super::{
    FORMAT, FRAME_HEAD, FRAMES_AT, Frame, GAP, JournalError, SEGMENT_HEAD, SEGMENT_MAGIC, io_error,
};
use std::collections::VecDeque;
use std::io::{self, BufRead};

/// Reads entries one after another.
///
/// The segment that is the last when reading begins may still be written: it ends with its last
/// whole frame.
pub struct Reader {
    /// In order, those that are still to be read.
    segments: VecDeque<Unread>,
    current: Option<Current>,
    /// Entries before this one are passed over.
    from: u64,
}

/// A segment that is open: it may be dropped from the folder and is read all the same.
struct Unread {
    base: u64,
    name: String,
    file: Box<dyn BufRead + Send>,
}

struct Current {
    name: String,
    file: Box<dyn BufRead + Send>,
    offset: u64,
    next: u64,
    /// The number at which the next segment begins; `None` for the last.
    end: Option<u64>,
}

impl Reader {
    /// Reads from entry `from` on, or from the first that is still there.
    pub fn open(disk: &dyn Disk, from: u64) -> Result<Self, JournalError> {
        // Segments may be dropped between listing and opening them.
        for _ in 0..10 {
            match Self::try_open(disk, from) {
                Err(JournalError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {}
                outcome => return outcome,
            }
        }
        Self::try_open(disk, from)
    }

    fn try_open(disk: &dyn Disk, from: u64) -> Result<Self, JournalError> {
        let names = disk.list().map_err(|cause| io_error("list", "", cause))?;
        let mut bases: Vec<_> =
            names.into_iter().filter_map(|name| Some((base_of(&name)?, name))).collect();
        let first = bases.partition_point(|(base, _)| *base <= from).saturating_sub(1);
        bases.drain(..first);
        let mut segments = VecDeque::with_capacity(bases.len());
        for (base, name) in bases {
            let file = disk.read(&name).map_err(|cause| io_error("read", &name, cause))?;
            segments.push_back(Unread { base, name, file });
        }
        Ok(Self { segments, current: None, from })
    }

    /// Passes over everything up to entry `last`.
    pub fn pass_over(&mut self, last: u64) {
        self.from = self.from.max(last.saturating_add(1));
        let from = self.from;
        while self.current.is_none() && self.segments.get(1).is_some_and(|s| s.base <= from) {
            self.segments.pop_front();
        }
    }

    /// The next entry's number and bytes; `None` at the end.
    pub fn next_entry(&mut self) -> Result<Option<(u64, Vec<u8>)>, JournalError> {
        loop {
            let Some(current) = &mut self.current else {
                match self.open_next()? {
                    Some(current) => self.current = Some(current),
                    None => return Ok(None),
                }
                continue;
            };
            if current.end == Some(current.next) {
                self.current = None;
                continue;
            }
            match current.read_frame()? {
                Some((number, _)) if number < self.from => {}
                Some(entry) => return Ok(Some(entry)),
                None => match current.end {
                    None => return Ok(None),
                    Some(end)
                        if current.next < end && !begins_behind_gap(self.segments.front_mut())? =>
                    {
                        return Err(JournalError::Damaged {
                            segment: current.name.clone(),
                            offset: current.offset,
                            number: current.next,
                        });
                    }
                    Some(_) => self.current = None,
                },
            }
        }
    }

    fn open_next(&mut self) -> Result<Option<Current>, JournalError> {
        let Some(Unread { base, name, mut file }) = self.segments.pop_front() else {
            return Ok(None);
        };
        let mut head = [0; FRAMES_AT];
        let is_last = self.segments.is_empty();
        let filled = fill(&mut file, &mut head).map_err(|cause| io_error("read", &name, cause))?;
        let is_segment = filled >= SEGMENT_HEAD && head.starts_with(&SEGMENT_MAGIC);
        if is_segment && head[8..12] != FORMAT.to_le_bytes() {
            return Err(JournalError::Format { segment: name });
        }
        if !is_segment || filled < head.len() {
            return match is_last {
                true => Ok(None),
                false => Err(JournalError::Damaged { segment: name, offset: 0, number: base }),
            };
        }
        let end = self.segments.front().map(|next| next.base);
        Ok(Some(Current { name, file, offset: FRAMES_AT as u64, next: base, end }))
    }
}

/// Whether the next segment says that what is missing before it is missing for good.
fn begins_behind_gap(next: Option<&mut Unread>) -> Result<bool, JournalError> {
    let Some(Unread { name, file, .. }) = next else { return Ok(false) };
    let head = file.fill_buf().map_err(|cause| io_error("read", name, cause))?;
    Ok(head.starts_with(&SEGMENT_MAGIC) && head.get(12..16) == Some(&GAP))
}

impl Current {
    /// `None` where no whole frame with the next number follows.
    fn read_frame(&mut self) -> Result<Option<(u64, Vec<u8>)>, JournalError> {
        let failed = |name: &str, cause| io_error("read", name, cause);
        let mut head = [0; FRAME_HEAD];
        let filled = fill(&mut self.file, &mut head).map_err(|c| failed(&self.name, c))?;
        let Some(frame) = (filled == FRAME_HEAD).then(|| Frame::read(&head)).flatten() else {
            return Ok(None);
        };
        // The length is not believed before the bytes are there: memory grows with what is read.
        let mut body = Vec::with_capacity(frame.len.min(1 << 20));
        take(&mut self.file, frame.len, |part| body.extend_from_slice(part))
            .map_err(|c| failed(&self.name, c))?;
        if frame.number != self.next || !frame.matches(&body) {
            return Ok(None);
        }
        let skipped = take(&mut self.file, frame.padding, |_| ());
        if skipped.map_err(|c| failed(&self.name, c))? < frame.padding {
            return Ok(None);
        }
        self.next += 1;
        self.offset += frame.on_disk() as u64;
        Ok(Some((frame.number, body)))
    }
}

/// Reads until the buffer is full or the file ends; how many bytes there were.
fn fill(file: &mut impl BufRead, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    take(file, buffer.len(), |part| {
        buffer[filled..filled + part.len()].copy_from_slice(part);
        filled += part.len();
    })
}

/// Hands on so many bytes, or those up to the end of the file; how many there were.
fn take(file: &mut impl BufRead, bytes: usize, mut each: impl FnMut(&[u8])) -> io::Result<usize> {
    let mut taken = 0;
    while taken < bytes {
        let part = match file.fill_buf() {
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
            part => part?,
        };
        if part.is_empty() {
            break;
        }
        let len = part.len().min(bytes - taken);
        each(&part[..len]);
        file.consume(len);
        taken += len;
    }
    Ok(taken)
}

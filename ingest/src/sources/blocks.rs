//! One stream of bytes, cut into blocks between two records.
//!
//! `beginning` how to read it, as its first records say.

mod beginning;

pub use beginning::Plan;
pub(super) use beginning::packed;

use crate::container::{Found, Framing, Walk, holds_several};
use crate::json::Marks;
use crate::parsers::Parser;
use crate::payload::{Block, Rejects, too_long};
use beginning::{Beginning, Search, unrecognised};
use bytes::Bytes;
use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bounds on what is held of one stream.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a block; a longer record makes a longer block.
    pub block_bytes: usize,
    /// Bytes of one record; a longer one is rejected and passed over.
    pub record_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { block_bytes: 256 << 10, record_bytes: 16 << 20 }
    }
}

/// Bytes in memory that are taken as one block at most.
const WHOLE_BYTES: usize = 4 << 20;

/// Bytes of what is compressed that are read at once.
const BUFFER: usize = 256 << 10;

/// Bytes that are read before the framing is decided.
const SNIFF_BYTES: usize = 64 << 10;

/// Reads a stream block by block.
pub struct BlockReader {
    origin: Arc<str>,
    reader: Box<dyn Read + Send>,
    limits: Limits,
    forced: Option<&'static dyn Parser>,
    /// Whether it is an audit log even where no parser recognises its beginning.
    trusted: bool,
    /// How records lie in it, where that is known beforehand.
    framing: Option<Framing>,
    /// Read and not yet handed over.
    rest: Vec<u8>,
    /// What was read, without its compression.
    content_bytes: usize,
    /// What is read of it at most.
    most_bytes: usize,
    state: State,
    walk: Walk,
    position: u64,
    /// Of lines that have positions of their own, those of all of them; else empty.
    positions: Arc<[u64]>,
    /// Whether what is held is too little to go on.
    is_short: bool,
    /// Where in a value that is too long what was read ends.
    within: Within,
    /// Bytes that were held at the last silence of the stream.
    silent_at: usize,
    /// Set once the beginning was looked at.
    begun: Option<(Framing, Plan)>,
    /// Whether its lines are JSON objects, as far as the beginning says.
    of_objects: bool,
    /// Set while no parser has recognised anything of what was read.
    search: Option<Search>,
    /// Why the stream could not be read to its end.
    broken: Option<String>,
}

/// A place in a JSON value.
#[derive(Default)]
struct Within {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

#[derive(PartialEq, Eq)]
enum State {
    Reading,
    /// Passing over the rest of a line or value that is too long.
    Skipping,
    /// The stream has ended, `rest` has not.
    Ended,
    Done,
}

/// Counts the bytes that pass.
struct Counted<R> {
    inner: R,
    bytes: Arc<AtomicU64>,
}

/// Whether bytes are gzip or zstd.
pub(super) fn is_compressed(bytes: &[u8]) -> bool {
    matches!(bytes, [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..])
}

impl Within {
    /// Goes on over the bytes that follow; behind the value where it ends among them.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                _ if std::mem::take(&mut self.is_escaped) => continue,
                b'\\' => self.is_escaped = self.in_string,
                b'"' => self.in_string = !self.in_string,
                b'{' | b'[' if !self.in_string => self.depth += 1,
                b'}' | b']' if !self.in_string => self.depth = self.depth.saturating_sub(1),
                _ => continue,
            }
            if self.depth == 0 && !self.in_string {
                return Some(at + 1);
            }
        }
        None
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl BlockReader {
    /// Reads `stream`, which may be gzip or zstd, adding what was read of it to `bytes`. A stream
    /// that gives `WouldBlock` after a while without bytes has what came before it handed over.
    ///
    /// Errors: those of reading its first bytes.
    pub fn new(
        origin: &str,
        stream: impl Read + Send + 'static,
        forced: Option<&'static dyn Parser>,
        limits: Limits,
        bytes: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let mut stream = Counted { inner: stream, bytes };
        let mut head = Vec::new();
        stream.by_ref().take(4).read_to_end(&mut head)?;
        let kind: [u8; 4] = std::array::from_fn(|at| head.get(at).copied().unwrap_or_default());
        let stream = io::Cursor::new(head).chain(stream);
        let reader: Box<dyn Read + Send> = match kind {
            [0x1f, 0x8b, _, _] => Box::new(flate2::bufread::MultiGzDecoder::new(
                BufReader::with_capacity(BUFFER, stream),
            )),
            [0x28, 0xb5, 0x2f, 0xfd] => {
                Box::new(zstd::Decoder::with_buffer(BufReader::with_capacity(BUFFER, stream))?)
            }
            // Blocks are large: what is plain is read straight into them.
            _ => Box::new(stream),
        };
        Ok(Self {
            origin: origin.into(),
            reader,
            limits,
            forced,
            trusted: false,
            framing: None,
            rest: Vec::new(),
            content_bytes: 0,
            most_bytes: usize::MAX,
            state: State::Reading,
            walk: Walk::default(),
            position: 1,
            positions: Arc::default(),
            is_short: false,
            within: Within::default(),
            silent_at: 0,
            begun: None,
            of_objects: false,
            search: None,
            broken: None,
        })
    }

    /// Reads what lies in memory, which may be gzip or zstd. What is plain and not too long is one
    /// block, and not copied where nobody else holds it.
    ///
    /// Errors: as for [`BlockReader::new`].
    pub fn of_bytes(
        origin: &str,
        content: Bytes,
        forced: Option<&'static dyn Parser>,
        limits: Limits,
    ) -> io::Result<Self> {
        let limits = match !is_compressed(&content) && content.len() <= WHOLE_BYTES {
            true => Limits { block_bytes: limits.block_bytes.max(content.len()), ..limits },
            false => {
                return Self::new(origin, io::Cursor::new(content), forced, limits, Arc::default());
            }
        };
        let reader = Self::new(origin, io::empty(), forced, limits, Arc::default())?;
        let content_bytes = content.len();
        Ok(Self { rest: content.into(), content_bytes, state: State::Ended, ..reader })
    }

    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Takes the stream for audit logs whatever its beginning looks like: where no parser is named,
    /// each record is recognised or rejected by itself.
    pub fn trusting(mut self) -> Self {
        self.trusted = true;
        self
    }

    /// Reads so many bytes of what is not compressed any more, and nothing of what has more.
    pub fn at_most(mut self, bytes: usize) -> Self {
        self.most_bytes = bytes;
        self
    }

    /// Whether the stream had more than [`BlockReader::at_most`] allows, at which it ended. Lines that
    /// were passed over count.
    pub fn is_over(&self) -> bool {
        self.content_bytes > self.most_bytes
    }

    /// Takes each line for a record, whatever lines look like.
    pub fn of_lines(mut self) -> Self {
        self.framing = Some(Framing::Lines);
        self
    }

    /// The same for lines that have positions of their own, in their order.
    pub fn of_lines_with(mut self, positions: Arc<[u64]>) -> Self {
        self.positions = positions;
        self.of_lines()
    }

    /// The same for lines whose positions are the bytes at which they begin, `first` that of the
    /// first.
    pub fn of_lines_at(mut self, first: u64) -> Self {
        self.framing = Some(Framing::LinesAt);
        self.position = first;
        self
    }

    /// Goes on behind so many bytes and lines.
    fn pass(&mut self, bytes: usize, lines: usize) {
        let counted = if self.framing == Some(Framing::LinesAt) { bytes } else { lines };
        self.position += counted as u64;
    }

    /// The next block and how to read it; `None` at the end, or where no parser knows the stream.
    ///
    /// Errors: what cannot be read (a gzip that was cut, a line too long) goes to `rejects`, and
    /// what was read before it is handed over.
    pub fn next_block(&mut self, rejects: &mut Rejects) -> Option<(Block, Plan)> {
        loop {
            if self.state == State::Done {
                if let Some(Search { head, .. }) = self.search.take() {
                    unrecognised(&head, rejects);
                }
                return None;
            }
            self.fill(rejects);
            if self.is_over() {
                self.state = State::Done;
                return None;
            }
            match self.begin(rejects) {
                Beginning::Known => {}
                Beginning::TooShort => {
                    self.is_short = true;
                    continue;
                }
                Beginning::Foreign => {
                    self.state = State::Done;
                    return None;
                }
            }
            let (framing, plan) = self.begun?;
            let ended = self.state == State::Ended;
            let block = match framing {
                Framing::Lines | Framing::LinesAt => self.cut_lines(ended, rejects),
                Framing::Values => self.cut_values(ended, rejects),
            };
            self.is_short = block.is_none();
            if ended && self.rest.is_empty() {
                self.state = State::Done;
            }
            let Some(block) = block else { continue };
            if self.search.is_none() {
                return Some((block, plan));
            }
            if let Some(plan) = self.find(&block, rejects) {
                return Some((block, plan));
            }
        }
    }

    /// Why the stream could not be read to its end, where that is so.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Reads until a block is full, the stream ends or, with whole lines at hand, is silent.
    fn fill(&mut self, rejects: &mut Rejects) {
        // A record that did not fit doubles what is read, so that no byte is looked at often; what
        // lies behind it is handed over before more is read.
        let wanted = match self.rest.len() {
            0 if self.begun.is_none() => self.limits.block_bytes.max(SNIFF_BYTES),
            held if self.is_short => (held * 2).max(self.limits.block_bytes),
            _ => self.limits.block_bytes,
        };
        while self.rest.len() < wanted && self.state != State::Ended && !self.is_over() {
            match self.read_up_to(wanted) {
                Ok(()) => {
                    let ended = self.rest.len() < wanted;
                    if self.state == State::Skipping {
                        self.skip();
                    }
                    if ended {
                        self.state = State::Ended;
                    }
                }
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                    if self.state == State::Skipping {
                        self.skip();
                    }
                    let grown = std::mem::replace(&mut self.silent_at, self.rest.len());
                    if self.rest.len() != grown && self.rest.contains(&b'\n') {
                        return;
                    }
                }
                Err(cause) => {
                    let what = match cause.kind() {
                        io::ErrorKind::UnexpectedEof => {
                            "the compressed file ends too early, it was cut off".to_owned()
                        }
                        _ => format!("reading stops here: {cause}"),
                    };
                    rejects.remark(format_args!("{what}; what was read before it is kept"));
                    self.broken = Some(what);
                    self.state = State::Ended;
                }
            }
        }
    }

    /// Reads until so many bytes are held or the stream ends.
    fn read_up_to(&mut self, wanted: usize) -> io::Result<()> {
        let before = self.rest.len();
        let mut held = before;
        self.rest.resize(wanted, 0);
        let result = loop {
            if held == wanted {
                break Ok(());
            }
            match self.reader.read(&mut self.rest[held..]) {
                Ok(0) => break Ok(()),
                Ok(read) => held += read,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => break Err(cause),
            }
        };
        self.content_bytes = self.content_bytes.saturating_add(held - before);
        self.rest.truncate(held);
        result
    }

    fn skip(&mut self) {
        match self.begun {
            Some((Framing::Values, _)) => self.skip_value(),
            _ => self.skip_line(),
        }
    }

    fn skip_value(&mut self) {
        match self.within.end(&self.rest) {
            Some(end) => {
                self.rest.drain(..end);
                self.state = State::Reading;
            }
            None => self.rest.clear(),
        }
    }

    fn skip_line(&mut self) {
        match memchr::memchr(b'\n', &self.rest) {
            Some(end) => {
                self.rest.drain(..=end);
                self.pass(end + 1, 1);
                self.state = State::Reading;
            }
            None => {
                self.pass(self.rest.len(), 0);
                self.rest.clear();
            }
        }
    }

    fn block(&mut self, end: usize, framing: Framing, walk: Walk, records: u64) -> Option<Block> {
        if end == 0 {
            return None;
        }
        let mut rest = Vec::with_capacity(self.limits.block_bytes);
        rest.extend_from_slice(&self.rest[end..]);
        self.rest.truncate(end);
        let first_position = self.position;
        self.position += records;
        Some(Block {
            origin: Arc::clone(&self.origin),
            bytes: std::mem::replace(&mut self.rest, rest),
            framing,
            walk,
            first_position,
            positions: Arc::clone(&self.positions),
        })
    }

    fn cut_lines(&mut self, ended: bool, rejects: &mut Rejects) -> Option<Block> {
        if self.of_objects && opens_over_lines(&self.rest) == Some(true) {
            // From here on the file is not one record a line.
            self.begun = self.begun.map(|(_, plan)| (Framing::Values, plan));
            return self.cut_values(ended, rejects);
        }
        let window = self.rest.len().min(self.limits.block_bytes);
        let newline = memchr::memrchr(b'\n', &self.rest[..window])
            .or_else(|| Some(window + memchr::memchr(b'\n', &self.rest[window..])?));
        let end = match newline {
            _ if ended && window == self.rest.len() => window,
            Some(newline) => newline + 1,
            None if ended => self.rest.len(),
            None => 0,
        };
        let line_is_too_long = end > self.limits.record_bytes && end > window
            || end == 0 && self.rest.len() > self.limits.record_bytes;
        let drained = if end == 0 { self.rest.len() } else { end };
        let is_several = line_is_too_long && holds_several(&self.rest[..drained]);
        if is_several && self.framing.is_none() {
            // A sender that puts nothing between records: none of them need be long.
            self.begun = self.begun.map(|(_, plan)| (Framing::Values, plan));
            return self.cut_values(ended, rejects);
        }
        if line_is_too_long && !(is_several && end > 0) {
            self.too_long(rejects);
            self.rest.drain(..drained);
            self.pass(drained, usize::from(end > 0));
            if end == 0 {
                self.state = State::Skipping;
            }
            return None;
        }
        if self.framing == Some(Framing::LinesAt) {
            return self.block(end, Framing::LinesAt, Walk::default(), end as u64);
        }
        let mut lines = 0;
        for newline in memchr::memchr_iter(b'\n', &self.rest[..end]) {
            lines += 1;
            if self.of_objects && opens_over_lines(&self.rest[newline + 1..]) != Some(false) {
                return self.block(newline + 1, Framing::Lines, Walk::default(), lines);
            }
        }
        self.block(end, Framing::Lines, Walk::default(), lines)
    }

    fn cut_values(&mut self, ended: bool, rejects: &mut Rejects) -> Option<Block> {
        let walk = self.walk.clone();
        let marks = Marks::of(&self.rest);
        let (mut at, mut end, mut records) = (0, 0, 0);
        let (mut ahead, mut cut) = (walk.clone(), 0);
        while end < self.limits.block_bytes {
            let found = ahead.next(&marks, &self.rest, &mut at);
            if let Found::Cut(start) = found {
                if ended {
                    end = self.rest.len();
                }
                cut = start;
                break;
            }
            (end, self.walk) = (at, ahead.clone());
            records += 1;
            if found == Found::End {
                break;
            }
        }
        if end == 0 && self.rest.len() > self.limits.record_bytes {
            self.rest.drain(..cut);
            self.walk = ahead;
            if self.rest.len() > self.limits.record_bytes {
                self.too_long(rejects);
                self.position += 1;
                (self.state, self.within) = (State::Skipping, Within::default());
                self.skip_value();
            }
            return None;
        }
        self.block(end, Framing::Values, walk, records)
    }

    fn too_long(&mut self, rejects: &mut Rejects) {
        let cause = too_long(self.limits.record_bytes);
        let line = usize::try_from(self.position).unwrap_or(usize::MAX).wrapping_sub(1);
        let position = self.positions.get(line).copied().unwrap_or(self.position);
        match self.begun {
            Some(_) => rejects.push(position, cause),
            None => rejects.remark(cause),
        }
    }
}

/// Whether the first line is nothing but the bracket of an object whose members stand on the lines
/// behind it, and no record that was cut off; `None` where the bytes end before one can tell.
fn opens_over_lines(lines: &[u8]) -> Option<bool> {
    let [b'{', b'\n' | b'\r', members @ ..] = lines else { return Some(false) };
    members.trim_ascii_start().first().map(|first| *first == b'"')
}

#[cfg(test)]
mod tests;

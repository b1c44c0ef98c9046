//! One stream of bytes, cut into blocks between two records.

use crate::container::{Found, Framing, Walk, has_record, holds_several, sniff};
use crate::envelope::Opener;
use crate::json::Marks;
use crate::parsers::{self, Parser};
use crate::payload::{Block, Payload, Rejects, too_long};
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

/// How the records of a stream are to be read, seen from its beginning.
#[derive(Clone, Copy)]
pub struct Plan {
    /// The parser of every record; `None` where records of several logs are mixed.
    pub parser: Option<&'static dyn Parser>,
    /// Whether somebody named that parser, so that records are no other log's.
    pub named: bool,
    /// Whether records lie in an exporter's envelope.
    pub envelope: bool,
    /// Bytes of one record; a longer one is rejected.
    pub record_bytes: usize,
}

/// Why there is no plan.
struct Unrecognised {
    /// Whether not even the first record is complete.
    cut: bool,
    /// Whether further records would not be looked at.
    enough: bool,
}

/// Records at the beginning of a stream that are looked at to recognise it.
const SAMPLE_RECORDS: usize = 300;
/// The same for lines of text, of which few may be audit records.
const SAMPLE_LINES: usize = 20_000;
/// Bytes at the beginning of a stream that are looked at to recognise it.
const SAMPLE_BYTES: usize = 1 << 20;

/// Bytes of a stream of which nothing is known that are looked through for a record of some log.
const SEARCH_BYTES: usize = 64 << 20;

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

/// A stream whose beginning is for no parser: other records may come first.
struct Search {
    /// How it begins.
    head: String,
    /// What was looked through.
    bytes: usize,
    records: u64,
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

/// What the beginning of a stream says.
enum Beginning {
    /// How to read it.
    Known,
    /// Nothing yet: more of it is looked at.
    TooShort,
    /// Nothing here is for any parser, which was said.
    Foreign,
}

/// Counts the bytes that pass.
struct Counted<R> {
    inner: R,
    bytes: Arc<AtomicU64>,
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
        let is_plain = !matches!(*content, [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..]);
        let limits = match is_plain && content.len() <= WHOLE_BYTES {
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

    /// How to go on from a block on, where a parser recognises something in it.
    fn find(&mut self, block: &Block, rejects: &mut Rejects) -> Option<Plan> {
        let (framing, walk) = (block.framing, block.walk.clone());
        if let Ok(plan) = self.plan(&block.bytes, framing, walk.clone(), false, usize::MAX) {
            if let Some(Search { records: before @ 1.., .. }) = self.search.take() {
                rejects.count_all(1, "no parser recognises the record", before);
            }
            self.begun = self.begun.map(|(framing, _)| (framing, plan));
            return Some(plan);
        }
        let mut junk = Rejects::default();
        let records = sample(&block.bytes, framing, walk, &mut junk).len() as u64 + junk.total();
        if let Some(search) = &mut self.search {
            search.records += records;
            search.bytes += block.bytes.len();
            if search.bytes > SEARCH_BYTES {
                self.state = State::Done;
            }
        }
        None
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

    /// Looks at the beginning, once.
    fn begin(&mut self, rejects: &mut Rejects) -> Beginning {
        if self.begun.is_some() {
            return Beginning::Known;
        }
        if self.rest.starts_with(&[0xef, 0xbb, 0xbf]) {
            self.rest.drain(..3);
            self.pass(3, 0);
        }
        if self.rest.trim_ascii().is_empty() {
            // White space before the first record says nothing, but is not held at any length.
            self.pass(self.rest.len(), memchr::memchr_iter(b'\n', &self.rest).count());
            self.rest.clear();
            return match self.state {
                State::Ended => Beginning::Foreign,
                _ => Beginning::TooShort,
            };
        }
        // Of lines that are messages, the first says nothing of the others; nor does it where somebody
        // sends records and one line of them is something else.
        if self.framing.is_none()
            && let Some(what) = foreign(&self.rest)
            && !(self.trusted && has_record(&self.rest))
        {
            rejects.remark(what);
            return Beginning::Foreign;
        }
        let ended = self.state == State::Ended;
        let framing = self.framing.unwrap_or_else(|| sniff(&self.rest, ended));
        // What comes in many short streams is not looked at twice: a record that its parser refuses
        // is taken out of its envelope then.
        let plan = if self.trusted {
            Ok(self.plan_of(self.forced, false))
        } else {
            self.plan(&self.rest, framing, Walk::default(), ended, SAMPLE_RECORDS)
        };
        match plan {
            Ok(plan) => {
                self.begun = Some((framing, plan));
                self.of_objects =
                    self.framing.is_none() && self.rest.trim_ascii_start().starts_with(b"{");
                Beginning::Known
            }
            Err(Unrecognised { cut: true, .. }) if !ended => {
                if self.rest.len() <= self.limits.record_bytes {
                    return Beginning::TooShort;
                }
                self.too_long(rejects);
                Beginning::Foreign
            }
            Err(Unrecognised { enough: false, .. }) if !ended => Beginning::TooShort,
            Err(Unrecognised { enough, .. }) => {
                let head: String = String::from_utf8_lossy(&self.rest[..self.rest.len().min(200)])
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(40)
                    .collect();
                if ended && !enough {
                    unrecognised(&head, rejects);
                    return Beginning::Foreign;
                }
                let plan = self.plan_of(None, false);
                self.begun = Some((framing, plan));
                self.search = Some(Search { head, bytes: 0, records: 0 });
                Beginning::Known
            }
        }
    }

    /// How to read the stream that goes on with `head`, of which so many objects are looked at, and ends
    /// with it where it is `whole`.
    ///
    /// Errors: no parser recognises a record.
    fn plan(
        &self,
        head: &[u8],
        framing: Framing,
        walk: Walk,
        whole: bool,
        most: usize,
    ) -> Result<Plan, Unrecognised> {
        let sample = sample(head, framing, walk, &mut Rejects::default());
        let known = |record: &str| -> Option<&'static dyn Parser> {
            match self.forced {
                Some(parser) => parser.recognises(record).then_some(parser),
                None => parsers::recognise(record),
            }
        };
        let (mut found, mut enveloped): (Vec<&'static dyn Parser>, bool) = (Vec::new(), false);
        let mut opener = Opener::new(None);
        let (mut objects, mut enough) = (0, head.len() >= SAMPLE_BYTES);
        for (seen, (_, record)) in sample.records().enumerate() {
            objects += usize::from(record.starts_with('{'));
            if objects > most || seen >= SAMPLE_LINES.max(most) {
                enough = true;
                break;
            }
            if let Some(parser) = known(record) {
                found.push(parser);
                continue;
            }
            let before = found.len();
            opener.open(record, &mut |text| found.extend(known(text)));
            enveloped |= found.len() > before;
        }
        let mixed = found.iter().any(|parser| parser.name() != found[0].name());
        let of = |parser, envelope| self.plan_of(parser, envelope);
        match (found.first(), self.forced) {
            (_, Some(parser)) => Ok(of(Some(parser), enveloped)),
            (Some(_), None) if mixed => Ok(of(None, enveloped)),
            (Some(parser), None) => Ok(of(Some(*parser), enveloped)),
            (None, None) => {
                let first = cut_record(head, framing);
                // One record that was cut, and nothing else: say that, rather than nothing.
                let text = first.and_then(|start| std::str::from_utf8(&head[start..]).ok());
                match text.and_then(parsers::recognise) {
                    Some(parser) if whole => Ok(of(Some(parser), false)),
                    _ => Err(Unrecognised { cut: first.is_some(), enough }),
                }
            }
        }
    }

    fn plan_of(&self, parser: Option<&'static dyn Parser>, envelope: bool) -> Plan {
        let record_bytes = self.limits.record_bytes;
        Plan { parser, named: self.forced.is_some(), envelope, record_bytes }
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

/// Says that a stream is for no parser.
fn unrecognised(head: &str, rejects: &mut Rejects) {
    rejects.remark(format_args!(
        "no parser recognises the content, which begins with `{head}…`; name its parser with `--log` if it is an audit log"
    ));
}

/// Whether the first line is nothing but the bracket of an object whose members stand on the lines
/// behind it, and no record that was cut off; `None` where the bytes end before one can tell.
fn opens_over_lines(lines: &[u8]) -> Option<bool> {
    let [b'{', b'\n' | b'\r', members @ ..] = lines else { return Some(false) };
    members.trim_ascii_start().first().map(|first| *first == b'"')
}

/// What kind of file it is that holds no text.
fn foreign(head: &[u8]) -> Option<&'static str> {
    let binary = || head[..head.len().min(8192)].contains(&0);
    packed(head).or_else(|| binary().then_some("a binary file, no parser reads it"))
}

/// The same, where the first bytes are those of a format that has a name.
pub(super) fn packed(head: &[u8]) -> Option<&'static str> {
    match head {
        [b'P', b'K', 3 | 5, 4 | 6, ..] => Some("a zip archive; unpack it first"),
        [b'B', b'Z', b'h', ..] => {
            Some("compressed with bzip2; decompress it first (gzip and zstd are read as they are)")
        }
        [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            Some("compressed with xz; decompress it first (gzip and zstd are read as they are)")
        }
        [b'P', b'A', b'R', b'1', ..] => {
            Some("a Parquet file, not an audit log as its system writes it")
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16 text; convert it to UTF-8 first"),
        _ => None,
    }
}

/// The records of a part of a stream, to be looked at.
fn sample(bytes: &[u8], framing: Framing, walk: Walk, rejects: &mut Rejects) -> Payload {
    let (origin, bytes) = (Arc::from(""), bytes.to_vec());
    let positions = Arc::default();
    let block = Block { origin, bytes, framing, walk, first_position: 1, positions };
    Payload::unredacted(block, rejects)
}

/// Where the first record begins when its end is missing.
fn cut_record(head: &[u8], framing: Framing) -> Option<usize> {
    match framing {
        Framing::Lines | Framing::LinesAt => {
            let start = head.len() - head.trim_ascii_start().len();
            (memchr::memchr(b'\n', &head[start..]).is_none()).then_some(start)
        }
        Framing::Values => match Walk::default().next(&Marks::of(head), head, &mut 0) {
            Found::Cut(start) => Some(start),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const RECORD: &str = r#"{"eventVersion":"1.08","userIdentity":{"type":"IAMUser"},"eventSource":"s3.amazonaws.com","eventName":"ListBuckets","n":0}"#;

    /// Records, rejects and remarks of a stream read in blocks of `block_bytes`.
    fn read(bytes: &[u8], block_bytes: usize) -> (Vec<(u64, String)>, Vec<String>) {
        let limits = Limits { block_bytes, record_bytes: 4096 };
        let bytes = io::Cursor::new(bytes.to_vec());
        all_of(BlockReader::new("x", bytes, None, limits, Arc::default()).unwrap())
    }

    fn all_of(mut reader: BlockReader) -> (Vec<(u64, String)>, Vec<String>) {
        let (mut rejects, mut records) = (Rejects::default(), vec![]);
        while let Some((block, _)) = reader.next_block(&mut rejects) {
            let payload = Payload::unredacted(block, &mut rejects);
            records.extend(payload.records().map(|(at, text)| (at, text.to_owned())));
        }
        let said = rejects.into_sorted();
        (
            records,
            said.into_iter().map(|r| format!("{}×{}: {}", r.count, r.position, r.reason)).collect(),
        )
    }

    fn numbered(count: usize) -> Vec<String> {
        (0..count).map(|n| RECORD.replace("\"n\":0", &format!("\"n\":{n}"))).collect()
    }

    #[test]
    fn records_and_positions_do_not_depend_on_the_size_of_blocks() {
        let records = numbered(50);
        let pretty: Vec<String> = records
            .iter()
            .map(|r| {
                serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(r).unwrap())
                    .unwrap()
            })
            .collect();
        for text in [
            records.join("\n"),
            format!("{}\r\n\r\n", records.join("\r\n")),
            format!("[{}]", records.join(",\n")),
            format!("{{\"Records\":[{}]}}", records.join(",")),
            pretty.join("\n"),
        ] {
            let whole = read(text.as_bytes(), 1 << 20);
            assert_eq!((whole.0.len(), whole.1.len()), (50, 0), "{text:.80}");
            for block_bytes in [64, 200, 1000] {
                assert_eq!(read(text.as_bytes(), block_bytes), whole, "{text:.80}");
            }
        }
    }

    #[test]
    fn a_record_too_long_is_passed_over_and_the_next_is_read() {
        let mut records = numbered(5);
        records[2] = format!("{}{}", records[2], " ".repeat(10_000))
            .replace("ListBuckets", &"x".repeat(9000));
        let (kept, said) = read(records.join("\n").as_bytes(), 600);
        assert_eq!(kept.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 2, 4, 5]);
        assert_eq!(said, ["1×3: the record is longer than 4096 bytes"]);
    }

    #[test]
    fn a_value_too_long_is_passed_over_and_the_next_is_read() {
        let mut records = numbered(5);
        let odd = r#"\\\"}{]["#.repeat(20_000);
        records[2] = records[2].replace("ListBuckets", &odd).replace(",\"n\"", ",\"m\":[{}],\"n\"");
        for text in [
            format!("[{}]", records.join(",\n")),
            format!("{{\"Records\":[{}]}}", records.join(",")),
            records.join("\n\n").replace("{\"eventVersion\"", "{\n\"eventVersion\""),
            records.concat(),
        ] {
            let (kept, said) = read(text.as_bytes(), 600);
            assert_eq!(kept.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 2, 4, 5]);
            assert_eq!(said, ["1×3: the record is longer than 4096 bytes"], "{text:.99}");
        }
        let blank = " ".repeat(65_400);
        let apart = format!("[{}]", numbered(3).join(&format!(",{blank}")));
        assert_eq!(read(apart.as_bytes(), 600).0.len(), 3);
        let endless = format!("[{},{}", numbered(1)[0], &records[2][..100_000]);
        let (kept, said) = read(endless.as_bytes(), 600);
        assert_eq!((kept.len(), said.len()), (1, 1), "{said:?}");
    }

    #[test]
    fn behind_a_long_record_no_more_is_held_than_before_it() {
        let limits = Limits { block_bytes: 1000, record_bytes: 1 << 20 };
        let mut records = numbered(10_000);
        records[20] = records[20].replace("ListBuckets", &"x".repeat(100_000));
        for text in [records.join("\n"), format!("[{}]", records.join(",")), records.concat()] {
            let read = Arc::new(AtomicU64::new(0));
            let stream = io::Cursor::new(text.into_bytes());
            let reader = BlockReader::new("x", stream, None, limits, Arc::clone(&read)).unwrap();
            let (mut reader, mut handed, mut count) = (reader.trusting(), 0, 0);
            while let Some((block, _)) = reader.next_block(&mut Rejects::default()) {
                handed += block.bytes.len() as u64;
                assert!(read.load(Ordering::Relaxed) - handed < 400_000);
                count += Payload::unredacted(block, &mut Rejects::default()).len();
            }
            assert_eq!(count, 10_000);
        }
    }

    #[test]
    fn a_line_of_many_records_is_longer_than_one_may_be() {
        let records = numbered(200);
        let (first, others) = (&records[0], records[1..].concat());
        for end in ["", "\n"] {
            let (kept, said) = read(format!("{first}\n{others}{end}").as_bytes(), 600);
            assert_eq!(kept.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>(), records);
            assert_eq!((kept.last().map(|(at, _)| *at), said), (Some(200), vec![]));
        }
    }

    #[test]
    fn a_gzip_that_was_cut_gives_what_it_holds() {
        let mut gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        for (n, record) in numbered(2000).iter().enumerate() {
            writeln!(gzip, "{record} {}", n * 7919 % 1000).unwrap();
        }
        let bytes = gzip.finish().unwrap();
        let (kept, said) = read(&bytes[..bytes.len() / 2], 4096);
        assert!(kept.len() > 100);
        assert!(said.iter().any(|s| s.contains("ends too early")), "{said:?}");
    }

    #[test]
    fn what_comes_behind_many_records_of_others_is_read() {
        let other = r#"{"level":"info","message":"nothing for anybody"}"#;
        let others = SAMPLE_RECORDS + 500;
        let lines = format!("{}{}", format!("{other}\n").repeat(others), numbered(20).join("\n"));
        let array = format!("[{}]", lines.replace('\n', ",\n"));
        for text in [lines, array] {
            for block_bytes in [1000, 1 << 20] {
                let (kept, said) = read(text.as_bytes(), block_bytes);
                let own = kept.iter().filter(|(_, text)| text.starts_with("{\"event"));
                assert_eq!(
                    own.map(|(at, _)| *at).collect::<Vec<_>>(),
                    (801..=820).collect::<Vec<_>>()
                );
                // Those of the block that the first one is in are handed over with it.
                let before = kept.len() - 20;
                let passed: u64 =
                    said.iter().map(|s| s.split('×').next().unwrap().parse::<u64>().unwrap()).sum();
                assert_eq!(before as u64 + passed, others as u64, "{said:?}");
            }
        }
        let nobodys = read(format!("{other}\n").repeat(50_000).as_bytes(), 1 << 20);
        assert_eq!((nobodys.0.len(), nobodys.1.len()), (0, 1));
        assert!(nobodys.1[0].starts_with("0×0: no parser recognises"), "{:?}", nobodys.1);
    }

    #[test]
    fn what_is_no_log_is_one_remark() {
        for (bytes, part) in [
            (b"hello world\nthis is a README\n".as_slice(), "no parser recognises"),
            (b"PK\x03\x04....", "zip"),
            (&[0u8; 100], "binary"),
            (b"\xff\xfeh\0e\0", "UTF-16"),
            ("[".repeat(10_000).as_bytes(), "no parser recognises"),
            (format!("{{\"x\":\"{}", "y".repeat(100_000)).as_bytes(), ""),
        ] {
            let (kept, said) = read(bytes, 4096);
            assert_eq!((kept.len(), said.len()), (0, 1), "{said:?}");
            assert!(said[0].starts_with("0×0: ") && said[0].contains(part), "{said:?}");
        }
        assert_eq!(read(b"", 4096), (vec![], vec![]));
    }

    #[test]
    fn what_is_passed_over_counts_for_the_limit() {
        let limits = Limits { block_bytes: 1000, record_bytes: 4096 };
        let line = format!("{RECORD}\n");
        let over = |bytes: &[u8], most: usize| {
            let content = zstd::encode_all(bytes, 1).unwrap();
            [content, bytes.to_vec()].map(|content| {
                let reader = BlockReader::of_bytes("x", content.into(), None, limits).unwrap();
                let (mut reader, mut rejects) =
                    (reader.trusting().at_most(most), Rejects::default());
                while reader.next_block(&mut rejects).is_some() {}
                reader.is_over()
            })
        };
        let newlines = "\n".repeat(1 << 20);
        let long = format!("{line}{}", "x".repeat(1 << 20));
        for text in [&newlines, &long, &long[line.len()..], &line.repeat(10_000)] {
            assert_eq!(over(text.as_bytes(), text.len() - 1), [true; 2], "{text:.99}");
            assert_eq!(over(text.as_bytes(), text.len()), [false; 2], "{text:.99}");
        }
    }

    #[test]
    fn of_what_is_sent_one_line_that_is_no_text_harms_no_other() {
        let limits = Limits::default();
        let sent = |bytes: Vec<u8>| {
            all_of(BlockReader::of_bytes("x", bytes.into(), None, limits).unwrap().trusting())
        };
        let records = numbered(3).join("\n");
        for first in [b"a\0b".as_slice(), b"PAR1 is a line", b"BZh", b"PK\x03\x04", b"\xff\xfeh\0"]
        {
            let (kept, said) = sent([first, b"\n", records.as_bytes()].concat());
            // What is UTF-8 is rejected by whoever asks for its parser.
            let own = kept.iter().filter(|(_, text)| text.starts_with('{')).map(|(at, _)| *at);
            assert_eq!(own.collect::<Vec<_>>(), [2, 3, 4], "{said:?}");
            assert_eq!(kept.len() + said.len(), 4, "{said:?}");
            let array = [first, b"\n[", records.replace('\n', ",").as_bytes(), b"]\n"].concat();
            assert_eq!(sent(array).0.iter().filter(|(_, text)| text.starts_with('{')).count(), 3);
            // Nothing of it is a record.
            let (kept, said) = sent([first, b"\nmore\n{\n}\0}"].concat());
            assert_eq!((kept.len(), said.len()), (0, 1), "{said:?}");
            let (kept, said) = read(&[first, b"\n", records.as_bytes()].concat(), 4096);
            assert_eq!((kept.len(), said.len()), (0, 1), "{said:?}");
        }
        let (kept, said) = sent(records.replace("\"n\":1", "\"n\":\"\0\"").into_bytes());
        assert_eq!((kept.len(), said.len()), (3, 0));
    }
}

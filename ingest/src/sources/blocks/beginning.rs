//! What the beginning of a stream says: how it is framed, and which parser its records are for.

use super::{BlockReader, State};
use crate::container::{Found, Framing, Walk, has_record, sniff};
use crate::envelope::Opener;
use crate::json::Marks;
use crate::parsers::{self, Parser};
use crate::payload::{Block, Payload, Rejects};
use std::sync::Arc;

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
    /// Records that were looked at, and what is none.
    records: u64,
}

/// Records at the beginning of a stream that are looked at to recognise it.
pub(super) const SAMPLE_RECORDS: usize = 300;
/// The same for lines of text, of which few may be audit records.
const SAMPLE_LINES: usize = 20_000;
/// Bytes at the beginning of a stream that are looked at to recognise it.
const SAMPLE_BYTES: usize = 1 << 20;

/// Bytes of a stream of which nothing is known that are looked through for a record of some log.
const SEARCH_BYTES: usize = 64 << 20;

/// A stream whose beginning is for no parser: other records may come first.
pub(super) struct Search {
    /// How it begins.
    pub(super) head: String,
    /// What was looked through.
    bytes: usize,
    records: u64,
}

/// What the beginning of a stream says.
pub(super) enum Beginning {
    /// How to read it.
    Known,
    /// Nothing yet: more of it is looked at.
    TooShort,
    /// Nothing here is for any parser, which was said.
    Foreign,
}

impl BlockReader {
    /// Looks at the beginning, once.
    pub(super) fn begin(&mut self, rejects: &mut Rejects) -> Beginning {
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
        let mut junk = Rejects::default();
        let sample = sample(head, framing, walk, &mut junk);
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
                    _ => {
                        let records = sample.len() as u64 + junk.total();
                        Err(Unrecognised { cut: first.is_some(), enough, records })
                    }
                }
            }
        }
    }

    fn plan_of(&self, parser: Option<&'static dyn Parser>, envelope: bool) -> Plan {
        let record_bytes = self.limits.record_bytes;
        Plan { parser, named: self.forced.is_some(), envelope, record_bytes }
    }

    /// How to go on from a block on, where a parser recognises something in it.
    pub(super) fn find(&mut self, block: &Block, rejects: &mut Rejects) -> Option<Plan> {
        let (framing, walk) = (block.framing, block.walk.clone());
        let records = match self.plan(&block.bytes, framing, walk, false, usize::MAX) {
            Ok(plan) => {
                if let Some(Search { records: before @ 1.., .. }) = self.search.take() {
                    rejects.count_all(1, "no parser recognises the record", before);
                }
                self.begun = self.begun.map(|(framing, _)| (framing, plan));
                return Some(plan);
            }
            Err(Unrecognised { records, .. }) => records,
        };
        if let Some(search) = &mut self.search {
            search.records += records;
            search.bytes += block.bytes.len();
            if search.bytes > SEARCH_BYTES {
                self.state = State::Done;
            }
        }
        None
    }
}

/// Says that a stream is for no parser.
pub(super) fn unrecognised(head: &str, rejects: &mut Rejects) {
    rejects.remark(format_args!(
        "no parser recognises the content, which begins with `{head}…`; name its parser with `--log` if it is an audit log"
    ));
}

/// What kind of file it is that holds no text.
fn foreign(head: &[u8]) -> Option<&'static str> {
    let binary = || head[..head.len().min(8192)].contains(&0);
    packed(head).or_else(|| binary().then_some("a binary file, no parser reads it"))
}

/// The same, where the first bytes are those of a format that has a name.
pub(in crate::sources) fn packed(head: &[u8]) -> Option<&'static str> {
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

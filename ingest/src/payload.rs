//! Bytes of a source as records: what a parser is handed.

use crate::container::{Found, Framing, Walk, holds_several, pieces};
use crate::envelope::Opener;
use crate::json;
use crate::redact::Redactor;
use arrow_buffer::Buffer;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

/// A piece of a source, cut between two records.
#[derive(Debug)]
pub struct Block {
    /// Where it comes from: a file's path, `-` for standard input.
    pub origin: Arc<str>,
    pub bytes: Vec<u8>,
    pub framing: Framing,
    /// State of the walk at the first byte, for a long file of [`Framing::Values`].
    pub walk: Walk,
    /// Number of the first line or record, counted from 1; its byte for [`Framing::LinesAt`].
    pub first_position: u64,
    /// Of lines that have positions of their own, those of all lines of the source; else empty.
    pub positions: Arc<[u64]>,
}

/// Records of one block: valid UTF-8, secrets redacted, wrappers taken off.
pub struct Payload {
    origin: Arc<str>,
    buffer: Buffer,
    spans: Vec<Span>,
}

/// Where a record lies in the buffer of its payload, and its position in the source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    start: usize,
    end: usize,
    pub position: u64,
}

/// A record that its parser refused, before anybody else has looked at it.
#[derive(Debug)]
pub(crate) struct Refused {
    pub span: Span,
    /// `None` where it is passed over unless it is somebody else's.
    pub cause: Option<Arc<str>>,
}

/// Records that lie in no source as they are.
#[derive(Default)]
struct Made {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl Made {
    fn push(&mut self, text: &str, position: u64) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text.as_bytes());
        self.spans.push(Span { start, end: self.bytes.len(), position });
        self.bytes.push(b'\n');
    }

    fn payload(self, origin: &Arc<str>) -> Payload {
        let buffer = Buffer::from_vec(self.bytes);
        Payload { origin: Arc::clone(origin), buffer, spans: self.spans }
    }
}

impl Payload {
    /// Redacts a block and finds its records.
    ///
    /// Errors: what is no text, or no record, goes to `rejects` with its position.
    pub fn new(mut block: Block, redactor: &Redactor, rejects: &mut Rejects) -> Self {
        // A fingerprint is rarely as long as the secret that it stands for.
        let positions = positions(&block);
        redactor.redact_in_place(&mut block.bytes);
        Self::found(block, &positions, rejects)
    }

    /// Finds the records of a block as it is: to recognise it, not to make events of it.
    pub fn unredacted(block: Block, rejects: &mut Rejects) -> Self {
        let positions = positions(&block);
        Self::found(block, &positions, rejects)
    }

    fn found(block: Block, positions: &[u64], rejects: &mut Rejects) -> Self {
        let bytes = block.bytes;
        let mut spans = Vec::with_capacity(bytes.len() / 900 + 4);
        match block.framing {
            Framing::Lines if positions.is_empty() => {
                lines(&bytes, block.first_position.., &mut spans, rejects);
            }
            Framing::Lines | Framing::LinesAt => {
                lines(&bytes, positions.iter().copied(), &mut spans, rejects);
            }
            Framing::Values => {
                let mut position = block.first_position;
                values(&bytes, 0, block.walk, &mut position, true, &mut spans, rejects);
            }
        }
        if simdutf8::basic::from_utf8(&bytes).is_err() {
            spans.retain(|span| match simdutf8::compat::from_utf8(&bytes[span.start..span.end]) {
                Ok(_) => true,
                Err(cause) => {
                    let at = cause.valid_up_to();
                    let cause = format_args!("not UTF-8 from byte {at} on");
                    rejects.push_text(span.position, cause, &bytes[span.start..span.end]);
                    false
                }
            });
        }
        Self { origin: block.origin, buffer: Buffer::from_vec(bytes), spans }
    }

    /// Rejects records that are longer than so many bytes, as they are once redacted. Of one that
    /// holds several values each is looked at.
    pub(crate) fn reject_longer(&mut self, most: usize, rejects: &mut Rejects) {
        if self.spans.iter().all(|span| span.end - span.start <= most) {
            return;
        }
        let bytes = self.buffer.as_slice();
        let mut kept = Vec::with_capacity(self.spans.len());
        let mut keep = |span: Span| match span.end - span.start <= most {
            true => kept.push(span),
            false => {
                rejects.push_text(span.position, too_long(most), &bytes[span.start..span.end]);
            }
        };
        for span in std::mem::take(&mut self.spans) {
            let Span { start, end, position } = span;
            match end - start > most && holds_several(&bytes[start..end]) {
                true => pieces(&bytes[start..end], |at| {
                    keep(Span { start: start + at.start, end: start + at.end, position });
                }),
                false => keep(span),
            }
        }
        self.spans = kept;
    }

    /// Where the block came from.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The bytes that the records lie in, for [`telltale_schema::EventBuilder::new`].
    pub fn buffer(&self) -> Buffer {
        self.buffer.clone()
    }

    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Position (line or record number in the source, from 1) and text of every record.
    pub fn records(&self) -> impl Iterator<Item = (u64, &str)> {
        self.spans.iter().map(|span| (span.position, self.text(*span)))
    }

    /// Where the records lie, for [`Payload::text`] and [`Payload::of`].
    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The record at one of this payload's spans.
    pub(crate) fn text(&self, span: Span) -> &str {
        let record = &self.buffer.as_slice()[span.start..span.end];
        // SAFETY: `Payload::found` keeps only spans whose bytes it has found to be UTF-8, and
        // nothing changes a `Buffer`.
        unsafe { std::str::from_utf8_unchecked(record) }
    }

    /// Says that the record of that number, counted from 0, is no event: rejected, unless it is
    /// another log's or lies in an exporter's envelope.
    pub fn refuse(&self, number: usize, cause: impl Display, rejects: &mut Rejects) {
        let span = self.spans[number];
        let Some(refused) = &mut rejects.refused else {
            return rejects.push_text(span.position, cause, self.text(span).as_bytes());
        };
        let cause = cut_reason(cause.to_string());
        // As a rule it is the same for many.
        let last = refused.last().and_then(|last| last.cause.as_ref());
        let cause = match last.filter(|last| ***last == *cause) {
            Some(last) => Arc::clone(last),
            None => cause.into(),
        };
        refused.push(Refused { span, cause: Some(cause) });
    }

    /// The same of a record that is passed over where it is nobody's.
    pub fn pass_over(&self, number: usize, rejects: &mut Rejects) {
        if let Some(refused) = &mut rejects.refused {
            refused.push(Refused { span: self.spans[number], cause: None });
        }
    }

    /// The same records, each replaced by what lies in it: an exporter's envelope taken off.
    /// Records in which nothing lies stay as they are.
    pub(crate) fn unwrapped(&self, opener: &mut Opener<'_>) -> Self {
        let mut made = Made::default();
        for (position, record) in self.records() {
            if !opener.open(record, &mut |text| made.push(text, position)) {
                made.push(record, position);
            }
        }
        made.payload(&self.origin)
    }

    /// What lies in records that were refused, and those in which nothing lies.
    pub(crate) fn opened(
        &self,
        refused: Vec<Refused>,
        opener: &mut Opener<'_>,
    ) -> (Self, Vec<Refused>) {
        let mut made = Made::default();
        let others = refused.into_iter().filter(|Refused { span, .. }| {
            !opener.open(self.text(*span), &mut |text| made.push(text, span.position))
        });
        let others = others.collect();
        (made.payload(&self.origin), others)
    }

    /// The records at some of this payload's spans, over the same bytes.
    pub(crate) fn of(&self, spans: impl Iterator<Item = Span>) -> Self {
        Self {
            origin: Arc::clone(&self.origin),
            buffer: self.buffer.clone(),
            spans: spans.collect(),
        }
    }
}

/// The position of each line of a block, where that is not its number.
fn positions(block: &Block) -> Vec<u64> {
    match block.framing {
        Framing::LinesAt => {
            let behind = memchr::memchr_iter(b'\n', &block.bytes).map(|end| end as u64 + 1);
            std::iter::once(0).chain(behind).map(|at| block.first_position + at).collect()
        }
        Framing::Lines => {
            let before =
                usize::try_from(block.first_position).unwrap_or_default().saturating_sub(1);
            block.positions.iter().skip(before).copied().collect()
        }
        Framing::Values => Vec::new(),
    }
}

fn lines(
    bytes: &[u8],
    positions: impl Iterator<Item = u64>,
    spans: &mut Vec<Span>,
    rejects: &mut Rejects,
) {
    let mut start = 0;
    let ends = memchr::memchr_iter(b'\n', bytes).chain(std::iter::once(bytes.len()));
    for (position, end) in positions.zip(ends) {
        let line = &bytes[start.min(end)..end];
        let from = start + line.len() - line.trim_ascii_start().len();
        let to = from + line.trim_ascii().len();
        if from < to {
            // An array or a wrapper on one line, as Firehose and `jq -c` write them.
            let array = bytes[from] == b'[' && matches!(bytes.get(from + 1), Some(b'{' | b'['));
            if array || (bytes[from] == b'{' && crate::container::is_wrapper(&bytes[from..to])) {
                let mut same = position;
                values(&bytes[from..to], from, Walk::default(), &mut same, false, spans, rejects);
            } else {
                spans.push(Span { start: from, end: to, position });
            }
        }
        start = end + 1;
    }
}

/// Walks JSON values; `count` lets every record have a position of its own.
fn values(
    bytes: &[u8],
    offset: usize,
    mut walk: Walk,
    position: &mut u64,
    count: bool,
    spans: &mut Vec<Span>,
    rejects: &mut Rejects,
) {
    let marks = json::Marks::of(bytes);
    let mut at = 0;
    loop {
        let before = at;
        match walk.next(&marks, bytes, &mut at) {
            Found::Record(start, end) => {
                spans.push(Span { start: offset + start, end: offset + end, position: *position });
            }
            Found::Junk(why) => rejects.push_text(*position, why, &bytes[before..at]),
            Found::Cut(start) => {
                let cause = "the record is cut off: its end is missing";
                rejects.push_text(*position, cause, &bytes[start..]);
                return;
            }
            Found::End => return,
        }
        *position += u64::from(count);
    }
}

/// What a source said that is no event, with why: bounded, however much of it there is.
#[derive(Debug, Default)]
pub struct Rejects {
    by_reason: BTreeMap<String, Reject>,
    total: u64,
    /// Every reject by itself, for whoever keeps them.
    singles: Option<Vec<Single>>,
    /// Rejects that there were more of than [`Rejects::MAX_SINGLES`].
    left_out: u64,
    /// What was refused, while it may still turn out to be a record.
    refused: Option<Vec<Refused>>,
}

/// One rejected record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Single {
    /// As in [`Reject`].
    pub position: u64,
    pub reason: String,
    /// What it was, at most [`Single::MAX_BYTES`]; `None` where nobody knows.
    pub text: Option<String>,
}

impl Single {
    pub const MAX_BYTES: usize = 64 << 10;

    fn cut(bytes: &[u8]) -> String {
        String::from_utf8_lossy(&bytes[..bytes.len().min(Self::MAX_BYTES)]).into_owned()
    }
}

/// One reason for rejection within one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Line or record number of the first one, from 1; 0 where it concerns the whole source.
    pub position: u64,
    pub reason: String,
    /// Records rejected for it.
    pub count: u64,
}

impl Rejects {
    /// Different reasons that are kept apart; what comes later is counted as `other reasons`.
    const MAX_REASONS: usize = 50;
    /// Single rejects that are kept; of what comes later only the number is.
    pub const MAX_SINGLES: usize = 100_000;

    /// Rejects that can be asked for every single one: [`Rejects::take_singles`].
    pub fn keeping_singles() -> Self {
        Self { singles: Some(Vec::new()), ..Self::default() }
    }

    /// Rejects one record.
    pub fn push(&mut self, position: u64, cause: impl Display) {
        self.push_single(position, cause, None);
    }

    /// Rejects one record whose text, secrets redacted, is at hand.
    pub fn push_text(&mut self, position: u64, cause: impl Display, text: &[u8]) {
        self.push_single(position, cause, Some(text));
    }

    fn push_single(&mut self, position: u64, cause: impl Display, text: Option<&[u8]>) {
        let reason = cut_reason(cause.to_string());
        match &mut self.singles {
            Some(singles) if singles.len() >= Self::MAX_SINGLES => self.left_out += 1,
            Some(singles) => {
                let text = text.map(Single::cut);
                singles.push(Single { position, reason: reason.clone(), text });
            }
            None => {}
        }
        self.add(Reject { position, reason, count: 1 });
    }

    /// What is refused while `parse` runs, which is no reject yet.
    pub(crate) fn refused_by(&mut self, parse: impl FnOnce(&mut Self)) -> Vec<Refused> {
        self.refused = Some(Vec::new());
        parse(self);
        self.refused.take().unwrap_or_default()
    }

    /// Every single reject since the last call, remarks aside, in the order in which they came.
    pub fn take_singles(&mut self) -> Vec<Single> {
        self.singles.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// How many single rejects were not kept since the last call.
    pub fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }

    /// Says something about the source as a whole, which counts no record.
    pub fn remark(&mut self, cause: impl Display) {
        let reason = cut_reason(cause.to_string());
        self.add(Reject { position: 0, reason, count: 0 });
    }

    fn add(&mut self, mut reject: Reject) {
        self.total += reject.count;
        if self.by_reason.len() >= Self::MAX_REASONS && !self.by_reason.contains_key(&reject.reason)
        {
            reject.reason = "other reasons".to_owned();
        }
        let entry = self.by_reason.entry(reject.reason.clone());
        entry
            .and_modify(|known| {
                known.count += reject.count;
                known.position = known.position.min(reject.position);
            })
            .or_insert(reject);
    }

    /// Says of a source as a whole that it is rejected, which counts one record.
    pub fn count(&mut self, position: u64, cause: impl Display) {
        self.count_all(position, cause, 1);
    }

    /// The same of so many records, of which `position` is that of the first.
    pub(crate) fn count_all(&mut self, position: u64, cause: impl Display, count: u64) {
        self.add(Reject { position, reason: cut_reason(cause.to_string()), count });
    }

    /// What was said about the source as a whole.
    pub fn remarks(&self) -> impl Iterator<Item = &Reject> {
        self.by_reason.values().filter(|reject| reject.count == 0)
    }

    /// Everything but that.
    pub fn without_remarks(mut self) -> Self {
        self.by_reason.retain(|_, reject| reject.count > 0);
        self
    }

    /// Takes in what another block of the same source was rejected for.
    pub fn merge(&mut self, other: Rejects) {
        for (_, reject) in other.by_reason {
            self.add(reject);
        }
    }

    /// Records rejected.
    pub fn total(&self) -> u64 {
        self.total
    }

    pub fn is_empty(&self) -> bool {
        self.by_reason.is_empty()
    }

    /// In order of the first position, then the reason.
    pub fn into_sorted(self) -> Vec<Reject> {
        let mut all: Vec<_> = self.by_reason.into_values().collect();
        all.sort_by(|a, b| (a.position, &a.reason).cmp(&(b.position, &b.reason)));
        all
    }
}

/// Why a record is rejected that has more bytes.
pub(crate) fn too_long(record_bytes: usize) -> String {
    match record_bytes >> 20 {
        0 => format!("the record is longer than {record_bytes} bytes"),
        limit => format!("the record is longer than {limit} MiB"),
    }
}

/// A reason may quote the record, but not at any length.
const MAX_REASON_CHARS: usize = 300;

fn cut_reason(mut reason: String) -> String {
    if let Some((cut, _)) = reason.char_indices().nth(MAX_REASON_CHARS) {
        reason.truncate(cut);
        reason.push('…');
    }
    reason
}

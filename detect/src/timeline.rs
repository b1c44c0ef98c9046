//! The events of an archive, compact and in order of time, for detectors and SLIs to run over.
//!
//! Files overlap in time, so nothing can be scored before everything was read. What is kept of an
//! event is about 100 bytes: text is interned, and what neither detectors nor SLIs read is left
//! out. Repeats of an event (same `event_id`) are one; when their contents differ, the smallest is
//! kept, so that the outcome does not depend on the order of files.

use crate::baseline::text_key;
use crate::observation::{Keys, Observation};
use hashbrown::HashTable;
use telltale_schema::columns::Column;
use telltale_schema::time::UNKNOWN;
use telltale_schema::{Event, EventId, Events, Kind, Micros, Outcome, PrincipalKind};

/// The text columns that are kept, in the order of a row's codes: what detectors and SLIs read.
const TEXT: [Column; 14] = [
    Column::Log,
    Column::Tenant,
    Column::Operation,
    Column::Service,
    Column::ErrorCode,
    Column::PrincipalId,
    Column::PrincipalName,
    Column::TargetId,
    Column::CredentialId,
    Column::IssuedCredentialId,
    Column::SessionId,
    Column::SourceIp,
    Column::UserAgent,
    Column::Resource,
];

/// Whether a timeline knows a column of its events.
pub fn keeps(column: Column) -> bool {
    TEXT.contains(&column)
        || matches!(
            column,
            Column::EventId
                | Column::EventTime
                | Column::Kind
                | Column::Outcome
                | Column::PrincipalKind
        )
}

/// A string's number; 0 is null.
type Code = u32;

/// One event without its text.
#[derive(Clone, Debug)]
struct Row {
    event_time: Micros,
    event_id: EventId,
    codes: [Code; TEXT.len()],
    kind: Kind,
    outcome: Outcome,
    principal_kind: PrincipalKind,
    /// It has no time of its own: none at all, or the time when it was read.
    untimed: bool,
}

/// What is kept of some events: made on the thread that parsed them, merged by whoever holds the
/// timeline.
///
/// It remembers its strings and what the timeline calls them from one merge to the next, so it is
/// merged into one timeline only.
#[derive(Default)]
pub struct Digest {
    rows: Vec<Row>,
    strings: Strings,
    /// The last code of each column.
    last: [Code; TEXT.len()],
    /// The timeline's codes of the strings that it knows.
    translated: Vec<Code>,
}

/// Strings that a digest remembers beyond a merge: what fits into a processor's own memory.
const REMEMBERED_STRINGS: usize = 16_384;

impl Digest {
    /// A digest with room for so many events.
    pub fn with_capacity(events: usize) -> Self {
        Self { rows: Vec::with_capacity(events), ..Self::default() }
    }

    /// Takes events that were read at `received_at`.
    pub fn read_at(&mut self, received_at: Micros) -> impl Events + use<'_> {
        Adder { digest: self, received_at }
    }

    /// Events in it.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// Takes out of events what detectors and SLIs look at.
struct Adder<'d> {
    digest: &'d mut Digest,
    received_at: Micros,
}

impl Events for Adder<'_> {
    fn push(&mut self, event: &Event<'_>) {
        let Digest { rows, strings, last, .. } = &mut *self.digest;
        let mut codes = [0; TEXT.len()];
        for ((code, last), text) in codes.iter_mut().zip(last).zip(texts(event)) {
            let Some(text) = text.filter(|text| !text.is_empty()) else { continue };
            // Neighbours often agree in a column: one comparison instead of a look-up.
            if strings.text(*last) != Some(text) {
                *last = strings.code(text, text_key(Some(text)));
            }
            *code = *last;
        }
        rows.push(Row {
            event_time: event.event_time,
            event_id: event.event_id,
            codes,
            kind: event.kind,
            outcome: event.outcome,
            principal_kind: event.principal_kind,
            untimed: event.event_time == UNKNOWN || event.event_time == self.received_at,
        });
    }

    fn received_at(&self) -> Micros {
        self.received_at
    }
}

fn texts<'a>(event: &Event<'a>) -> [Option<&'a str>; TEXT.len()] {
    [
        Some(event.log),
        event.tenant,
        event.operation,
        event.service,
        event.error_code,
        event.principal_id,
        event.principal_name,
        event.target_id,
        event.credential_id,
        event.issued_credential_id,
        event.session_id,
        event.source_ip,
        event.user_agent,
        event.resource,
    ]
}

/// Every text once, one after another; code `n` is the `n`-th, from 1.
#[derive(Default)]
struct Strings {
    text: Vec<Vec<u8>>,
    places: Vec<Place>,
    codes: HashTable<Code>,
}

/// Where a text lies, and its key.
#[derive(Clone, Copy)]
struct Place {
    key: u64,
    piece: u32,
    start: u32,
    len: u32,
}

impl Strings {
    /// Bytes of one piece of the arena, so that it grows without being copied.
    const PIECE: usize = 1 << 20;

    /// The code of a text, whose key is `key`.
    #[inline]
    fn code(&mut self, text: &str, key: u64) -> Code {
        let place = |code: Code| &self.places[code as usize - 1];
        let same = |code: &Code| {
            let known = place(*code);
            known.key == key && self.bytes(known) == text.as_bytes()
        };
        if let Some(code) = self.codes.find(key, same) {
            return *code;
        }
        let code = self.append(text, key);
        let places = &self.places;
        self.codes.insert_unique(key, code, |code| places[*code as usize - 1].key);
        code
    }

    /// Forgets every text, but keeps some room for the next ones.
    fn clear(&mut self) {
        self.text.truncate(1);
        self.text.iter_mut().for_each(Vec::clear);
        self.places.clear();
        self.codes.clear();
    }

    fn append(&mut self, text: &str, key: u64) -> Code {
        let full = self.text.last().is_none_or(|piece| piece.len() + text.len() > piece.capacity());
        if full {
            self.text.push(Vec::with_capacity(Self::PIECE.max(text.len())));
        }
        let piece = self.text.len() - 1;
        let start = self.text[piece].len();
        self.text[piece].extend_from_slice(text.as_bytes());
        let (piece, start, len) = (piece as u32, start as u32, text.len() as u32);
        self.places.push(Place { key, piece, start, len });
        self.places.len() as Code
    }

    fn bytes(&self, place: &Place) -> &[u8] {
        &self.text[place.piece as usize][place.start as usize..][..place.len as usize]
    }

    /// The text of a code and its key.
    #[inline]
    fn get(&self, code: Code) -> (Option<&str>, u64) {
        let Some(at) = (code as usize).checked_sub(1) else { return (None, 0) };
        let place = &self.places[at];
        // SAFETY: `append` is the only one to write and writes whole `&str`s, whose places these are.
        let text = unsafe { std::str::from_utf8_unchecked(self.bytes(place)) };
        (Some(text), place.key)
    }

    #[inline]
    fn text(&self, code: Code) -> Option<&str> {
        self.get(code).0
    }
}

/// Every event of an archive once.
#[derive(Default)]
pub struct Timeline {
    rows: Rows,
    strings: Strings,
    /// By the first half of an event's id, the row.
    by_id: HashTable<(u64, u32)>,
    duplicates: u64,
    /// The rows in order of time, once they are sorted.
    order: Vec<u32>,
}

/// Rows in pieces, so that they grow without being copied.
#[derive(Default)]
struct Rows {
    pieces: Vec<Vec<Row>>,
    len: usize,
}

impl Rows {
    /// Rows of a piece, as a power of two.
    const PIECE: u32 = 14;

    fn push(&mut self, row: Row) {
        if self.len.is_multiple_of(1 << Self::PIECE) {
            self.pieces.push(Vec::with_capacity(1 << Self::PIECE));
        }
        self.pieces[self.len >> Self::PIECE].push(row);
        self.len += 1;
    }

    #[inline]
    fn get(&self, at: u32) -> &Row {
        &self.pieces[(at >> Self::PIECE) as usize][(at & ((1 << Self::PIECE) - 1)) as usize]
    }

    fn get_mut(&mut self, at: u32) -> &mut Row {
        &mut self.pieces[(at >> Self::PIECE) as usize][(at & ((1 << Self::PIECE) - 1)) as usize]
    }
}

/// Rows that are fetched before their turn: by then they are there.
const AHEAD: usize = 4;

/// Lets the processor fetch a row from memory while others are worked on.
#[inline]
fn fetch(row: &Row) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let row: *const i8 = std::ptr::from_ref(row).cast();
        // SAFETY: both places lie within the row, and nothing is read.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(row);
            _mm_prefetch::<_MM_HINT_T0>(row.add(size_of::<Row>() - 1));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}

impl Timeline {
    /// A timeline for about so many events: their ids find room without being put anew.
    pub fn expecting(events: usize) -> Self {
        Self { by_id: HashTable::with_capacity(events), ..Self::default() }
    }

    /// Takes the events out of a digest; its own strings get the timeline's codes.
    pub fn merge(&mut self, digest: &mut Digest) {
        let translated = &mut digest.translated;
        if translated.is_empty() {
            translated.push(0);
        }
        for code in translated.len() as Code..=digest.strings.places.len() as Code {
            let (text, key) = digest.strings.get(code);
            translated.push(self.strings.code(text.unwrap_or_default(), key));
        }
        self.by_id.reserve(digest.rows.len(), |(half, _)| *half);
        for mut row in digest.rows.drain(..) {
            row.codes = row.codes.map(|code| translated[code as usize]);
            self.add(row);
        }
        if translated.len() > REMEMBERED_STRINGS {
            translated.clear();
            digest.strings.clear();
            digest.last = Default::default();
        }
        self.order = Vec::new();
    }

    fn add(&mut self, row: Row) {
        // An event id is a hash already.
        let half = u64::from_le_bytes(row.event_id.0[..8].try_into().unwrap_or_default());
        let rows = &self.rows;
        let same =
            |(known, at): &(u64, u32)| *known == half && rows.get(*at).event_id == row.event_id;
        match self.by_id.find(half, same) {
            None => {
                self.by_id.insert_unique(half, (half, rows.len as u32), |(half, _)| *half);
                self.rows.push(row);
            }
            Some((_, known)) => {
                self.duplicates += 1;
                let known = *known;
                if self.content(&row) < self.content(self.rows.get(known)) {
                    *self.rows.get_mut(known) = row;
                }
            }
        }
    }

    /// What two copies of an event are compared by: text, not codes, which depend on the order.
    fn content(&self, row: &Row) -> impl Ord + use<'_> {
        let text: Vec<_> = row.codes.iter().map(|code| self.strings.text(*code)).collect();
        (row.event_time, row.kind, row.outcome, row.principal_kind, text)
    }

    /// Events, each once.
    pub fn len(&self) -> usize {
        self.rows.len
    }

    pub fn is_empty(&self) -> bool {
        self.rows.len == 0
    }

    /// Repeats that were left out.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Events without a time of their own, which have the time when they were read.
    pub fn untimed(&self) -> u64 {
        self.rows.pieces.iter().flatten().filter(|row| row.untimed).count() as u64
    }

    /// Puts the events in order of time, then id, on so many threads.
    pub fn sort(&mut self, threads: usize) {
        let rows = &self.rows;
        let mut order: Vec<(Micros, u64, u32)> = (0..rows.len as u32)
            .map(|at| {
                let row = rows.get(at);
                let half = u64::from_be_bytes(row.event_id.0[..8].try_into().unwrap_or_default());
                (row.event_time, half, at)
            })
            .collect();
        let compare = |a: &(Micros, u64, u32), b: &(Micros, u64, u32)| {
            (a.0, a.1)
                .cmp(&(b.0, b.1))
                .then_with(|| rows.get(a.2).event_id.cmp(&rows.get(b.2).event_id))
        };
        let mut parts = order.chunks_mut(rows.len.div_ceil(threads.max(1)).max(1));
        let own = parts.next();
        std::thread::scope(|scope| {
            parts.for_each(|part| drop(scope.spawn(|| part.sort_unstable_by(compare))));
            own.into_iter().for_each(|part| part.sort_unstable_by(compare));
        });
        if threads > 1 {
            // Merges them: this finds what is in order already.
            order.sort_by(compare);
        }
        self.order = order.into_iter().map(|(.., at)| at).collect();
        self.by_id = HashTable::new();
        self.strings.codes = HashTable::new();
    }

    /// The events in their order, with the text that detectors read, and without those that have no
    /// time of their own: when they were read says nothing about when they happened.
    pub fn observations(&self) -> impl Iterator<Item = Observation<'_>> {
        self.timed().map(|row| self.observation(row))
    }

    /// Those of them that are of some kinds; of text only some columns are known.
    pub fn select<'t>(
        &'t self,
        kinds: &'t [Kind],
        columns: &[Column],
    ) -> impl Iterator<Item = Event<'t>> {
        let wanted: [bool; TEXT.len()] = TEXT.map(|column| columns.contains(&column));
        self.timed()
            .filter(|row| kinds.contains(&row.kind))
            .map(move |row| self.event(row, |slot| wanted[slot], |_, _| {}))
    }

    /// The times of the first and the last event that has one.
    pub fn span(&self) -> Option<(Micros, Micros)> {
        let mut times = self.timed().map(|row| row.event_time);
        let first = times.next()?;
        Some((first, times.next_back().unwrap_or(first)))
    }

    fn timed(&self) -> impl DoubleEndedIterator<Item = &Row> {
        debug_assert_eq!(self.order.len(), self.rows.len, "a timeline is sorted before it is read");
        let row = |(place, at): (usize, &u32)| {
            if let Some(ahead) = self.order.get(place + AHEAD) {
                fetch(self.rows.get(*ahead));
            }
            self.rows.get(*at)
        };
        self.order.iter().enumerate().map(row).filter(|row| !row.untimed)
    }

    #[inline]
    fn observation(&self, row: &Row) -> Observation<'_> {
        let mut keys = [0; TEXT.len()];
        // No detector reads error codes.
        let event =
            self.event(row, |slot| TEXT[slot] != Column::ErrorCode, |slot, key| keys[slot] = key);
        let keys = Keys {
            log: keys[0],
            tenant: keys[1],
            operation: keys[2],
            service: keys[3],
            principal: keys[5],
            credential: keys[8],
            session: keys[10],
            source_ip: keys[11],
            user_agent: keys[12],
        };
        Observation { event, keys }
    }

    /// A row with the text that is `wanted`, by slot; `note` is told the key of each.
    #[inline(always)]
    fn event(
        &self,
        row: &Row,
        wanted: impl Fn(usize) -> bool,
        mut note: impl FnMut(usize, u64),
    ) -> Event<'_> {
        let mut text = |slot: usize| {
            let (text, key) =
                if wanted(slot) { self.strings.get(row.codes[slot]) } else { (None, 0) };
            note(slot, key);
            text
        };
        Event {
            event_id: row.event_id,
            tenant: text(1),
            kind: row.kind,
            operation: text(2),
            service: text(3),
            outcome: row.outcome,
            error_code: text(4),
            principal_id: text(5),
            principal_kind: row.principal_kind,
            principal_name: text(6),
            target_id: text(7),
            credential_id: text(8),
            issued_credential_id: text(9),
            session_id: text(10),
            source_ip: text(11),
            user_agent: text(12),
            resource: text(13),
            ..Event::new(text(0).unwrap_or_default(), row.event_time)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A few events, ids and principals repeating.
    fn add(digest: &mut Digest, events: &[(u8, i64, u8)]) {
        let mut into = digest.read_at(0);
        for (id, time, principal) in events {
            into.push(&Event {
                event_id: EventId([*id; 16]),
                principal_id: Some(&format!("arn:aws:iam::111122223333:user/{principal}")),
                ..Event::new("aws_cloudtrail", *time)
            });
        }
    }

    fn digest(events: &[(u8, i64, u8)]) -> Digest {
        let mut digest = Digest::default();
        add(&mut digest, events);
        digest
    }

    fn told(timeline: &mut Timeline, threads: usize) -> Vec<(EventId, i64, String)> {
        timeline.sort(threads);
        timeline
            .observations()
            .map(|seen| seen.event)
            .map(|e| (e.event_id, e.event_time, e.principal_id.unwrap().to_owned()))
            .collect()
    }

    proptest! {
        #[test]
        fn order_and_batches_do_not_matter(
            events in prop::collection::vec((0u8..30, 1i64..5, 0u8..3), 1..60),
            cut in 1usize..60,
            shuffle in prop::collection::vec(any::<u32>(), 60),
            threads in 0usize..5,
        ) {
            let mut whole = Timeline::default();
            whole.merge(&mut digest(&events));
            let mut mixed: Vec<_> = events.iter().zip(&shuffle).collect();
            mixed.sort_by_key(|(_, key)| **key);
            let mixed: Vec<_> = mixed.into_iter().map(|(event, _)| *event).collect();
            let (mut pieces, mut shared) = (Timeline::default(), Digest::default());
            for piece in mixed.chunks(cut) {
                add(&mut shared, piece);
                pieces.merge(&mut shared);
            }
            prop_assert_eq!(whole.duplicates(), pieces.duplicates());
            prop_assert_eq!(whole.len() as u64 + whole.duplicates(), events.len() as u64);
            let told_whole = told(&mut whole, 1);
            prop_assert!(told_whole.windows(2).all(|pair| (pair[0].1, pair[0].0) < (pair[1].1, pair[1].0)));
            prop_assert_eq!(told_whole, told(&mut pieces, threads));
        }
    }
}

//! The events of an archive, compact and in order of time, for detectors and SLIs to run over.
//!
//! Files overlap in time, so nothing can be scored before everything was read. What is kept of an
//! event is about 120 bytes: text is interned, `raw` and the chain are left out. Repeats of an
//! event (same `event_id`) are one; when their contents differ, the smallest is kept, so that the
//! outcome does not depend on the order of files.

use hashbrown::HashTable;
use rustc_hash::{FxBuildHasher, FxHashMap};
use std::hash::BuildHasher;
use telltale_schema::columns::Column;
use telltale_schema::{Event, EventBatch, EventId, Kind, Micros, Outcome, PrincipalKind};

/// The text columns that are kept, in the order of a row's codes.
const TEXT: [Column; 19] = [
    Column::Log,
    Column::Tenant,
    Column::Operation,
    Column::Service,
    Column::ErrorCode,
    Column::PrincipalId,
    Column::PrincipalName,
    Column::TargetId,
    Column::CredentialId,
    Column::CredentialKind,
    Column::IssuedCredentialId,
    Column::SessionId,
    Column::SourceIp,
    Column::SourceCountry,
    Column::UserAgent,
    Column::Resource,
    Column::Region,
    Column::InstanceId,
    Column::ChangeId,
];

/// A string's number; 0 is null.
type Code = u32;

/// One event without its text.
#[derive(Clone, Debug)]
struct Row {
    event_time: Micros,
    event_id: EventId,
    codes: [Code; TEXT.len()],
    /// `i16::MIN` and `i64::MIN` stand for null.
    status_code: i16,
    kind: Kind,
    outcome: Outcome,
    principal_kind: PrincipalKind,
    /// It has the time when it was read.
    untimed: bool,
    latency_us: i64,
    credential_issued_at: Micros,
}

/// What is kept of one batch: made on the thread that parsed it, merged by whoever holds the
/// timeline.
pub struct Digest {
    rows: Vec<Row>,
    strings: Strings,
}

impl Digest {
    /// Takes out of a batch what detectors and SLIs look at.
    pub fn of(batch: &EventBatch) -> Self {
        let mut digest =
            Self { rows: Vec::with_capacity(batch.len()), strings: Strings::default() };
        let mut codes: FxHashMap<&str, Code> = FxHashMap::default();
        // Neighbours often agree in a column: one comparison instead of a look-up.
        let mut last: [(&str, Code); TEXT.len()] = [("", 0); TEXT.len()];
        for row in batch.rows() {
            let event = batch.event(row);
            let mut row = Row {
                event_time: event.event_time,
                event_id: event.event_id,
                codes: [0; TEXT.len()],
                status_code: event.status_code.unwrap_or(i16::MIN),
                kind: event.kind,
                outcome: event.outcome,
                principal_kind: event.principal_kind,
                untimed: event.event_time == event.received_at,
                latency_us: event.latency_us.unwrap_or(i64::MIN),
                credential_issued_at: event.credential_issued_at.unwrap_or(i64::MIN),
            };
            for (slot, text) in texts(&event).into_iter().enumerate() {
                let Some(text) = text else { continue };
                if last[slot].0 != text {
                    let code = *codes.entry(text).or_insert_with(|| digest.strings.append(text));
                    last[slot] = (text, code);
                }
                row.codes[slot] = last[slot].1;
            }
            digest.rows.push(row);
        }
        digest
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
        event.credential_kind,
        event.issued_credential_id,
        event.session_id,
        event.source_ip,
        event.source_country,
        event.user_agent,
        event.resource,
        event.region,
        event.instance_id,
        event.change_id,
    ]
}

/// Strings one after another; code `n` is the `n`-th, from 1.
#[derive(Default)]
struct Strings {
    text: Vec<Vec<u8>>,
    places: Vec<(u32, u32, u32)>,
}

impl Strings {
    /// Bytes of one piece of the arena, so that it grows without being copied.
    const PIECE: usize = 1 << 20;

    fn append(&mut self, text: &str) -> Code {
        let full = self.text.last().is_none_or(|piece| piece.len() + text.len() > piece.capacity());
        if full {
            // A digest's first piece is small: most batches hold few different strings.
            let bytes = if self.text.is_empty() { 16 << 10 } else { Self::PIECE };
            self.text.push(Vec::with_capacity(bytes.max(text.len())));
        }
        let piece = self.text.len() - 1;
        let start = self.text[piece].len();
        self.text[piece].extend_from_slice(text.as_bytes());
        self.places.push((piece as u32, start as u32, text.len() as u32));
        self.places.len() as Code
    }

    #[inline]
    fn get(&self, code: Code) -> Option<&str> {
        let (piece, start, len) = *self.places.get((code as usize).checked_sub(1)?)?;
        let bytes = &self.text[piece as usize][start as usize..start as usize + len as usize];
        // SAFETY: `append` is the only one to write and writes whole `&str`s, whose places these are.
        Some(unsafe { std::str::from_utf8_unchecked(bytes) })
    }
}

/// Every event of an archive once.
#[derive(Default)]
pub struct Timeline {
    rows: Vec<Row>,
    strings: Strings,
    codes: HashTable<Code>,
    by_id: HashTable<u32>,
    duplicates: u64,
    sorted: bool,
}

impl Timeline {
    /// Adds a batch's digest; its own strings get the timeline's codes.
    pub fn merge(&mut self, digest: Digest) {
        let hash = |text: &str| FxBuildHasher.hash_one(text);
        let mut translated: Vec<Code> = Vec::with_capacity(digest.strings.places.len() + 1);
        translated.push(0);
        for code in 1..=digest.strings.places.len() as Code {
            let text = digest.strings.get(code).unwrap_or_default();
            let known =
                self.codes.find(hash(text), |c| self.strings.get(*c) == Some(text)).copied();
            translated.push(known.unwrap_or_else(|| {
                let code = self.strings.append(text);
                let strings = &self.strings;
                self.codes
                    .insert_unique(hash(text), code, |c| hash(strings.get(*c).unwrap_or_default()));
                code
            }));
        }
        for mut row in digest.rows {
            row.codes = row.codes.map(|code| translated[code as usize]);
            self.add(row);
        }
        self.sorted = false;
    }

    fn add(&mut self, row: Row) {
        // An event id is a hash already.
        let hash = |id: EventId| u64::from_le_bytes(id.0[..8].try_into().unwrap_or_default());
        let at = self.rows.len() as u32;
        let rows = &self.rows;
        let entry = self.by_id.entry(
            hash(row.event_id),
            |other| rows[*other as usize].event_id == row.event_id,
            |other| hash(rows[*other as usize].event_id),
        );
        match entry {
            hashbrown::hash_table::Entry::Vacant(vacant) => {
                vacant.insert(at);
                self.rows.push(row);
            }
            hashbrown::hash_table::Entry::Occupied(known) => {
                self.duplicates += 1;
                let known = *known.get() as usize;
                if self.content(&row) < self.content(&self.rows[known]) {
                    self.rows[known] = row;
                }
            }
        }
    }

    /// What two copies of an event are compared by: text, not codes, which depend on the order.
    fn content(&self, row: &Row) -> impl Ord + use<'_> {
        let text: Vec<_> = row.codes.iter().map(|code| self.strings.get(*code)).collect();
        (
            row.event_time,
            row.kind,
            row.outcome,
            row.principal_kind,
            row.status_code,
            row.latency_us,
            row.credential_issued_at,
            text,
        )
    }

    /// Events, each once.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Repeats that were left out.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Events without a time of their own, which have the time when they were read.
    pub fn untimed(&self) -> u64 {
        self.rows.iter().filter(|row| row.untimed).count() as u64
    }

    /// Puts the events in order of time, then id.
    pub fn sort(&mut self) {
        if self.sorted {
            return;
        }
        let rows = &self.rows;
        let mut order: Vec<(Micros, u64, u32)> = (0..rows.len() as u32)
            .map(|at| {
                let row = &rows[at as usize];
                let id = u64::from_be_bytes(row.event_id.0[..8].try_into().unwrap_or_default());
                (row.event_time, id, at)
            })
            .collect();
        order.sort_unstable_by(|a, b| {
            (a.0, a.1)
                .cmp(&(b.0, b.1))
                .then_with(|| rows[a.2 as usize].event_id.cmp(&rows[b.2 as usize].event_id))
        });
        self.by_id = HashTable::new();
        self.codes = HashTable::new();
        self.rows = permute(std::mem::take(&mut self.rows), order.into_iter().map(|o| o.2));
        self.sorted = true;
    }

    /// The events in their order, without `raw`. `received_at` is the event time of those that have
    /// no time of their own, and 0 for others.
    pub fn events(&self) -> impl Iterator<Item = Event<'_>> {
        debug_assert!(self.sorted, "a timeline is sorted before it is read");
        self.rows.iter().map(|row| self.event(row))
    }

    #[inline]
    fn event(&self, row: &Row) -> Event<'_> {
        let text = |slot: usize| self.strings.get(row.codes[slot]);
        Event {
            event_id: row.event_id,
            tenant: text(1),
            kind: row.kind,
            operation: text(2),
            service: text(3),
            outcome: row.outcome,
            status_code: (row.status_code != i16::MIN).then_some(row.status_code),
            error_code: text(4),
            principal_id: text(5),
            principal_kind: row.principal_kind,
            principal_name: text(6),
            target_id: text(7),
            credential_id: text(8),
            credential_kind: text(9),
            credential_issued_at: (row.credential_issued_at != i64::MIN)
                .then_some(row.credential_issued_at),
            issued_credential_id: text(10),
            session_id: text(11),
            source_ip: text(12),
            source_country: text(13),
            user_agent: text(14),
            resource: text(15),
            region: text(16),
            instance_id: text(17),
            change_id: text(18),
            received_at: if row.untimed { row.event_time } else { 0 },
            latency_us: (row.latency_us != i64::MIN).then_some(row.latency_us),
            ..Event::new(text(0).unwrap_or_default(), row.event_time)
        }
    }
}

/// `rows` in the order that `order` gives, in place: one row at a time moves along its cycle.
fn permute(mut rows: Vec<Row>, order: impl Iterator<Item = u32>) -> Vec<Row> {
    let mut order: Vec<u32> = order.collect();
    for start in 0..order.len() {
        let mut at = start;
        while order[at] as usize != start && order[at] != u32::MAX {
            let next = order[at] as usize;
            rows.swap(at, next);
            order[at] = u32::MAX;
            at = next;
        }
        order[at] = u32::MAX;
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use telltale_schema::EventBuilder;

    /// A few events, ids and principals repeating.
    fn batch(events: &[(u8, i64, u8)]) -> EventBatch {
        let mut builder = EventBuilder::new("aws_cloudtrail", Default::default(), 0);
        for (id, time, principal) in events {
            builder.push(&Event {
                event_id: EventId([*id; 16]),
                principal_id: Some(&format!("arn:aws:iam::111122223333:user/{principal}")),
                ..Event::new("aws_cloudtrail", *time)
            });
        }
        builder.finish()
    }

    fn told(timeline: &mut Timeline) -> Vec<(EventId, i64, String)> {
        timeline.sort();
        timeline
            .events()
            .map(|e| (e.event_id, e.event_time, e.principal_id.unwrap().to_owned()))
            .collect()
    }

    proptest! {
        #[test]
        fn order_and_batches_do_not_matter(
            events in prop::collection::vec((0u8..30, 1i64..5, 0u8..3), 1..60),
            cut in 1usize..60,
            shuffle in prop::collection::vec(any::<u32>(), 60),
        ) {
            let mut whole = Timeline::default();
            whole.merge(Digest::of(&batch(&events)));
            let mut mixed: Vec<_> = events.iter().zip(&shuffle).collect();
            mixed.sort_by_key(|(_, key)| **key);
            let mixed: Vec<_> = mixed.into_iter().map(|(event, _)| *event).collect();
            let mut pieces = Timeline::default();
            for piece in mixed.chunks(cut) {
                pieces.merge(Digest::of(&batch(piece)));
            }
            prop_assert_eq!(whole.duplicates(), pieces.duplicates());
            prop_assert_eq!(whole.len() as u64 + whole.duplicates(), events.len() as u64);
            let told_whole = told(&mut whole);
            prop_assert!(told_whole.windows(2).all(|pair| (pair[0].1, pair[0].0) < (pair[1].1, pair[1].0)));
            prop_assert_eq!(told_whole, told(&mut pieces));
        }
    }
}

//! Rows to a batch without copying text: a value that lies in the payload becomes a view into it.

use crate::EventBatch;
use crate::columns::{self, list_item};
use crate::event::{Event, Events, Kind, Outcome, PrincipalKind};
use crate::time::{Micros, UNKNOWN};
use arrow_array::{
    ArrayRef, BinaryArray, Int16Array, Int64Array, ListArray, RecordBatch, StringViewArray,
    TimestampMicrosecondArray,
};
use arrow_buffer::{
    BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, OffsetBufferBuilder, ScalarBuffer,
};
use std::sync::Arc;

/// Text up to this length lies in its view (Arrow's Utf8View).
const INLINE_BYTES: usize = 12;
/// Index of each data buffer in the views of a batch.
const CONSTANTS: u32 = 0;
const PAYLOAD: u32 = 1;
const SIDE: u32 = 2;

/// Collects events of one log out of one payload.
///
/// Shape: text that is a slice of the payload is not copied; any other text longer than twelve
/// bytes goes to a side buffer. The payload stays alive as long as the batch does.
/// Errors: none; a payload and a side buffer are bounded to 2 GiB each by whoever frames payloads.
pub struct EventBuilder {
    log: String,
    payload: Buffer,
    side: Vec<u8>,
    constants: Constants,
    rows: usize,
    received_at: Micros,
    event_id: Vec<u8>,
    event_time: Vec<i64>,
    received: Vec<i64>,
    status_code: Vec<i16>,
    numbers: [Vec<i64>; NUMBER_COLUMNS],
    chain_offsets: OffsetBufferBuilder<i32>,
    chain_items: Vec<u128>,
    text: [Vec<u128>; TEXT_COLUMNS],
    /// Of each row, a bit for each column that may be null: set where there is a value.
    present: Vec<u32>,
}

/// The text columns in the order of the schema, as slots of `EventBuilder::text`.
const TEXT_COLUMNS: usize = 23;
/// The same for `EventBuilder::numbers`: issued at, expires at, ASN, latency, sequence.
const NUMBER_COLUMNS: usize = 5;

/// Bits of `EventBuilder::present` behind those of the text columns.
const NUMBERS: usize = TEXT_COLUMNS;
const STATUS: usize = NUMBERS + NUMBER_COLUMNS;
const CHAIN: usize = STATUS + 1;
const TIME: usize = CHAIN + 1;

fn text_array(
    views: Vec<u128>,
    nulls: Option<NullBuffer>,
    buffers: &Arc<[Buffer]>,
) -> StringViewArray {
    // SAFETY: every view was made by `inline_view` or `buffer_view` from a `&str`, so it is UTF-8
    // on character boundaries, and points into the buffer that held that text, which is at that
    // index of `buffers` and was not changed since (side buffers only grow).
    unsafe { StringViewArray::new_unchecked(ScalarBuffer::from(views), Arc::clone(buffers), nulls) }
}

/// Views of the words that stand in every row, made once for a batch.
struct Constants {
    buffer: Vec<u8>,
    log: u128,
    kind: [u128; Kind::ALL.len()],
    outcome: [u128; Outcome::ALL.len()],
    principal_kind: [u128; PrincipalKind::ALL.len()],
}

impl Constants {
    fn new(log: &str) -> Self {
        let mut buffer = Vec::new();
        let mut view = |text: &str| {
            if text.len() <= INLINE_BYTES {
                return inline_view(text.as_bytes());
            }
            let offset = buffer.len();
            buffer.extend_from_slice(text.as_bytes());
            buffer_view(text.as_bytes(), CONSTANTS, offset)
        };
        Self {
            log: view(log),
            kind: std::array::from_fn(|i| view(Kind::ALL[i].as_str())),
            outcome: std::array::from_fn(|i| view(Outcome::ALL[i].as_str())),
            principal_kind: std::array::from_fn(|i| view(PrincipalKind::ALL[i].as_str())),
            buffer,
        }
    }
}

/// The view of up to twelve bytes: length, then the bytes.
#[inline]
fn inline_view(bytes: &[u8]) -> u128 {
    let mut view = [0u8; 16];
    view[..4].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
    view[4..4 + bytes.len()].copy_from_slice(bytes);
    u128::from_le_bytes(view)
}

/// The view of longer text: length, first four bytes, buffer, offset.
#[inline]
fn buffer_view(bytes: &[u8], buffer: u32, offset: usize) -> u128 {
    let prefix = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    (bytes.len() as u128)
        | (u128::from(prefix) << 32)
        | (u128::from(buffer) << 64)
        | ((offset as u128) << 96)
}

impl EventBuilder {
    /// A builder for events of `log` whose text lies in `payload`, read at `received_at`.
    pub fn new(log: &str, payload: Buffer, received_at: Micros) -> Self {
        // A record below this size is rare, so the columns seldom grow.
        let rows = payload.len() / 800 + 8;
        Self {
            log: log.to_owned(),
            side: Vec::new(),
            constants: Constants::new(log),
            rows: 0,
            received_at,
            event_id: Vec::with_capacity(rows * 16),
            event_time: Vec::with_capacity(rows),
            received: Vec::with_capacity(rows),
            status_code: Vec::with_capacity(rows),
            numbers: std::array::from_fn(|_| Vec::with_capacity(rows)),
            chain_offsets: OffsetBufferBuilder::new(rows),
            chain_items: Vec::new(),
            text: std::array::from_fn(|_| Vec::with_capacity(rows)),
            present: Vec::with_capacity(rows),
            payload,
        }
    }

    /// Events so far.
    pub fn len(&self) -> usize {
        self.rows
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Appends one event. `received_at` is the builder's own; empty text becomes null.
    pub fn push(&mut self, event: &Event<'_>) {
        self.event_id.extend_from_slice(&event.event_id.0);
        let is_timed = event.event_time != UNKNOWN;
        self.event_time.push(if is_timed { event.event_time } else { 0 });
        self.received.push(self.received_at);
        self.status_code.push(event.status_code.unwrap_or_default());
        let mut present = u32::from(event.status_code.is_some()) << STATUS;
        present |= u32::from(is_timed) << TIME;

        let numbers = [
            event.credential_issued_at,
            event.credential_expires_at,
            event.source_asn,
            event.latency_us,
            event.sequence,
        ];
        for (slot, (column, number)) in self.numbers.iter_mut().zip(numbers).enumerate() {
            column.push(number.unwrap_or_default());
            present |= u32::from(number.is_some()) << (NUMBERS + slot);
        }

        let mut place = Placer::new(&self.payload, &mut self.side);
        self.chain_offsets.push_length(event.delegation_chain.len());
        present |= u32::from(!event.delegation_chain.is_empty()) << CHAIN;
        for link in event.delegation_chain {
            self.chain_items.push(place.view(link));
        }

        let constants = &self.constants;
        // A batch is of one log as a rule; an archive put back together is of several.
        let log = if event.log == self.log { constants.log } else { place.view(event.log) };
        let mut text = |slot: usize, value: Option<&str>| match value {
            Some(text) if !text.is_empty() => {
                present |= 1 << slot;
                place.view(text)
            }
            _ => 0,
        };
        let views = [
            log,
            text(1, event.tenant),
            constants.kind[event.kind as usize],
            text(3, event.operation),
            text(4, event.service),
            constants.outcome[event.outcome as usize],
            text(6, event.error_code),
            text(7, event.principal_id),
            constants.principal_kind[event.principal_kind as usize],
            text(9, event.principal_name),
            text(10, event.target_id),
            text(11, event.credential_id),
            text(12, event.credential_kind),
            text(13, event.issued_credential_id),
            text(14, event.session_id),
            text(15, event.source_ip),
            text(16, event.source_country),
            text(17, event.user_agent),
            text(18, event.resource),
            text(19, event.region),
            text(20, event.instance_id),
            text(21, event.change_id),
            text(22, event.raw),
        ];
        // What every row has.
        present |= 1 | 1 << 2 | 1 << 5 | 1 << 8;
        for (column, view) in self.text.iter_mut().zip(views) {
            column.push(view);
        }
        self.present.push(present);
        self.rows += 1;
    }

    /// The batch of everything pushed.
    pub fn finish(self) -> EventBatch {
        let buffers: Arc<[Buffer]> =
            [Buffer::from_vec(self.constants.buffer), self.payload, Buffer::from_vec(self.side)]
                .into();
        // Bits that are set, or clear, in every row.
        let all = self.present.iter().fold(u32::MAX, |all, row| all & row);
        let present = &self.present;
        let nulls = |bit: usize| -> Option<NullBuffer> {
            let is_there = |row: usize| present[row] >> bit & 1 == 1;
            (all >> bit & 1 == 0)
                .then(|| NullBuffer::new(BooleanBuffer::collect_bool(present.len(), is_there)))
        };
        let instants = |values: Vec<i64>, nulls| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::new(values.into(), nulls).with_timezone("UTC"))
        };
        let longs = |values: Vec<i64>, nulls| -> ArrayRef {
            Arc::new(Int64Array::new(values.into(), nulls))
        };
        let event_id = BinaryArray::new(
            OffsetBuffer::from_repeated_length(16, self.rows),
            Buffer::from_vec(self.event_id),
            None,
        );
        let chain = ListArray::new(
            list_item(),
            self.chain_offsets.finish(),
            Arc::new(text_array(self.chain_items, None, &buffers)),
            nulls(CHAIN),
        );
        let mut text = self.text.into_iter().enumerate().map(|(slot, views)| -> ArrayRef {
            Arc::new(text_array(views, nulls(slot), &buffers))
        });
        let mut next = || text.next().expect("there is a slot for every text column");
        let [issued_at, expires_at, asn, latency, sequence] = self.numbers;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(event_id),
            instants(self.event_time, nulls(TIME)),
            instants(self.received, None),
            next(), // log
            next(), // tenant
            next(), // kind
            next(), // operation
            next(), // service
            next(), // outcome
            Arc::new(Int16Array::new(self.status_code.into(), nulls(STATUS))),
            next(), // error_code
            next(), // principal_id
            next(), // principal_kind
            next(), // principal_name
            next(), // target_id
            Arc::new(chain),
            next(), // credential_id
            next(), // credential_kind
            instants(issued_at, nulls(NUMBERS)),
            instants(expires_at, nulls(NUMBERS + 1)),
            next(), // issued_credential_id
            next(), // session_id
            next(), // source_ip
            longs(asn, nulls(NUMBERS + 2)),
            next(), // source_country
            next(), // user_agent
            next(), // resource
            next(), // region
            next(), // instance_id
            longs(latency, nulls(NUMBERS + 3)),
            next(), // change_id
            longs(sequence, nulls(NUMBERS + 4)),
            next(), // raw
        ];
        let batch = RecordBatch::try_new(columns::schema(), columns)
            .expect("columns have the length and type of the schema");
        EventBatch::from_own(batch)
    }
}

impl Events for EventBuilder {
    fn push(&mut self, event: &Event<'_>) {
        self.push(event);
    }

    fn received_at(&self) -> Micros {
        self.received_at
    }
}

/// Makes the view of a text: into the payload where it lies there, else into the side buffer.
struct Placer<'a> {
    payload: &'a [u8],
    side: &'a mut Vec<u8>,
}

impl<'a> Placer<'a> {
    #[inline]
    fn new(payload: &'a [u8], side: &'a mut Vec<u8>) -> Self {
        Self { payload, side }
    }

    #[inline]
    fn view(&mut self, text: &str) -> u128 {
        let bytes = text.as_bytes();
        // Addresses are compared as numbers: a slice of the payload lies between its ends, and
        // nothing else that is alive does.
        let offset = (bytes.as_ptr() as usize).wrapping_sub(self.payload.as_ptr() as usize);
        if bytes.len() <= INLINE_BYTES {
            // Sixteen bytes at once, of which those behind the text are cut off.
            return match self.payload.get(offset..).and_then(|rest| rest.first_chunk()) {
                Some(chunk) => {
                    let text = u128::from_le_bytes(*chunk) & !(u128::MAX << (8 * bytes.len()));
                    text << 32 | bytes.len() as u128
                }
                None => inline_view(bytes),
            };
        }
        if offset < self.payload.len() {
            return buffer_view(bytes, PAYLOAD, offset);
        }
        let offset = self.side.len();
        self.side.extend_from_slice(bytes);
        buffer_view(bytes, SIDE, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::Column;
    use crate::event::EventId;
    use arrow_array::Array;

    #[test]
    fn text_of_the_payload_is_not_copied_and_other_text_is_kept() {
        let payload = Buffer::from(b"an operation name and a principal of some length".as_slice());
        let text = std::str::from_utf8(payload.as_slice()).unwrap().to_owned();
        let inside = std::str::from_utf8(&payload.as_slice()[..17]).unwrap();
        assert_eq!(inside, &text[..17]);
        let copy = payload.clone();
        let mut builder = EventBuilder::new("aws_cloudtrail", payload, 5);
        let chain = ["first caller in the chain", "second"];
        builder.push(&Event {
            event_id: EventId([7; 16]),
            operation: Some(std::str::from_utf8(&copy.as_slice()[..17]).unwrap()),
            principal_id: Some("arn:aws:iam::123456789012:user/somebody"),
            tenant: Some(""),
            status_code: Some(403),
            delegation_chain: &chain,
            outcome: Outcome::Denied,
            ..Event::new("aws_cloudtrail", 42)
        });
        builder.push(&Event::new("aws_cloudtrail", 43));
        builder.push(&Event::new("aws_cloudtrail", UNKNOWN));
        assert_eq!(builder.side.len(), 39 + 25, "only what is not in the payload is copied");
        let batch = builder.finish();
        let rows: Vec<_> = batch.rows().collect();
        let first = batch.event(rows[0]);
        assert_eq!(first.operation, Some("an operation name"));
        assert_eq!(first.principal_id, Some("arn:aws:iam::123456789012:user/somebody"));
        assert_eq!((first.tenant, first.status_code), (None, Some(403)));
        assert_eq!((first.log, first.outcome), ("aws_cloudtrail", Outcome::Denied));
        let links: Vec<_> = batch.chain(rows[0]).collect();
        assert_eq!(links, chain);
        assert_eq!(batch.event(rows[1]).event_time, 43);
        assert_eq!(batch.chain(rows[1]).count(), 0);
        assert_eq!(batch.event(rows[2]).event_time, UNKNOWN);
        assert_eq!(batch.record_batch().column(Column::EventTime as usize).null_count(), 1);
    }
}

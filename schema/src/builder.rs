//! Rows to a batch without copying text: a value that lies in the payload becomes a view into it.

use crate::EventBatch;
use crate::columns::{self, list_item};
use crate::event::{Event, Kind, Outcome, PrincipalKind};
use crate::time::Micros;
use arrow_array::{
    ArrayRef, BinaryArray, Int16Array, Int64Array, ListArray, RecordBatch, StringViewArray,
    TimestampMicrosecondArray,
};
use arrow_buffer::{
    Buffer, NullBuffer, NullBufferBuilder, OffsetBuffer, OffsetBufferBuilder, ScalarBuffer,
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
    status_code: Numbers<i16>,
    credential_issued_at: Numbers<i64>,
    credential_expires_at: Numbers<i64>,
    source_asn: Numbers<i64>,
    latency_us: Numbers<i64>,
    sequence: Numbers<i64>,
    chain_offsets: OffsetBufferBuilder<i32>,
    chain_items: Views,
    chain_nulls: NullBufferBuilder,
    text: [Views; TEXT_COLUMNS],
}

/// The text columns in the order of the schema, as slots of `EventBuilder::text`.
const TEXT_COLUMNS: usize = 23;

/// Views of one text column and which of them are there.
struct Views {
    views: Vec<u128>,
    nulls: NullBufferBuilder,
}

impl Views {
    fn with_capacity(rows: usize) -> Self {
        Self { views: Vec::with_capacity(rows), nulls: NullBufferBuilder::new(rows) }
    }

    #[inline]
    fn push(&mut self, view: u128) {
        self.views.push(view);
        self.nulls.append_non_null();
    }

    #[inline]
    fn push_null(&mut self) {
        self.views.push(0);
        self.nulls.append_null();
    }

    fn finish(mut self, buffers: &Arc<[Buffer]>) -> StringViewArray {
        let nulls = self.nulls.finish();
        // SAFETY: every view was made by `inline_view` or `buffer_view` from a `&str`, so it is
        // UTF-8 on character boundaries, and points into the buffer that held that text, which
        // is at that index of `buffers` and was not changed since (side buffers only grow).
        unsafe {
            StringViewArray::new_unchecked(
                ScalarBuffer::from(self.views),
                Arc::clone(buffers),
                nulls,
            )
        }
    }
}

/// Values of one nullable number column.
struct Numbers<T> {
    values: Vec<T>,
    nulls: NullBufferBuilder,
}

impl<T: Default> Numbers<T> {
    fn with_capacity(rows: usize) -> Self {
        Self { values: Vec::with_capacity(rows), nulls: NullBufferBuilder::new(rows) }
    }

    #[inline]
    fn push(&mut self, value: Option<T>) {
        self.nulls.append(value.is_some());
        self.values.push(value.unwrap_or_default());
    }

    fn finish(mut self) -> (Vec<T>, Option<NullBuffer>) {
        (self.values, self.nulls.finish())
    }
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
            status_code: Numbers::with_capacity(rows),
            credential_issued_at: Numbers::with_capacity(rows),
            credential_expires_at: Numbers::with_capacity(rows),
            source_asn: Numbers::with_capacity(rows),
            latency_us: Numbers::with_capacity(rows),
            sequence: Numbers::with_capacity(rows),
            chain_offsets: OffsetBufferBuilder::new(rows),
            chain_items: Views::with_capacity(8),
            chain_nulls: NullBufferBuilder::new(rows),
            text: std::array::from_fn(|_| Views::with_capacity(rows)),
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

    /// When this payload was read; the event time of logs that carry none.
    pub fn received_at(&self) -> Micros {
        self.received_at
    }

    /// Appends one event. `received_at` is the builder's own; empty text becomes null.
    #[inline]
    pub fn push(&mut self, event: &Event<'_>) {
        self.event_id.extend_from_slice(&event.event_id.0);
        self.event_time.push(event.event_time);
        self.received.push(self.received_at);
        self.status_code.push(event.status_code);
        self.credential_issued_at.push(event.credential_issued_at);
        self.credential_expires_at.push(event.credential_expires_at);
        self.source_asn.push(event.source_asn);
        self.latency_us.push(event.latency_us);
        self.sequence.push(event.sequence);

        let mut place = Placer::new(&self.payload, &mut self.side);
        self.chain_offsets.push_length(event.delegation_chain.len());
        self.chain_nulls.append(!event.delegation_chain.is_empty());
        for link in event.delegation_chain {
            self.chain_items.push(place.view(link));
        }

        let constants = &self.constants;
        // A batch is of one log as a rule; an archive put back together is of several.
        let log = if event.log == self.log { constants.log } else { place.view(event.log) };
        self.text[0].push(log);
        self.text[2].push(constants.kind[event.kind as usize]);
        self.text[5].push(constants.outcome[event.outcome as usize]);
        self.text[8].push(constants.principal_kind[event.principal_kind as usize]);
        let optional = [
            (1, event.tenant),
            (3, event.operation),
            (4, event.service),
            (6, event.error_code),
            (7, event.principal_id),
            (9, event.principal_name),
            (10, event.target_id),
            (11, event.credential_id),
            (12, event.credential_kind),
            (13, event.issued_credential_id),
            (14, event.session_id),
            (15, event.source_ip),
            (16, event.source_country),
            (17, event.user_agent),
            (18, event.resource),
            (19, event.region),
            (20, event.instance_id),
            (21, event.change_id),
            (22, event.raw),
        ];
        for (slot, value) in optional {
            match value {
                Some(text) if !text.is_empty() => self.text[slot].push(place.view(text)),
                _ => self.text[slot].push_null(),
            }
        }
        self.rows += 1;
    }

    /// The batch of everything pushed.
    pub fn finish(self) -> EventBatch {
        let buffers: Arc<[Buffer]> =
            [Buffer::from_vec(self.constants.buffer), self.payload, Buffer::from_vec(self.side)]
                .into();
        let micros = |numbers: Numbers<i64>| -> ArrayRef {
            let (values, nulls) = numbers.finish();
            Arc::new(TimestampMicrosecondArray::new(values.into(), nulls).with_timezone("UTC"))
        };
        let longs = |numbers: Numbers<i64>| -> ArrayRef {
            let (values, nulls) = numbers.finish();
            Arc::new(Int64Array::new(values.into(), nulls))
        };
        let instants = |values: Vec<i64>| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::new(values.into(), None).with_timezone("UTC"))
        };
        let event_id = BinaryArray::new(
            OffsetBuffer::from_repeated_length(16, self.rows),
            Buffer::from_vec(self.event_id),
            None,
        );
        let mut chain_nulls = self.chain_nulls;
        let chain = ListArray::new(
            list_item(),
            self.chain_offsets.finish(),
            Arc::new(self.chain_items.finish(&buffers)),
            chain_nulls.finish(),
        );
        let (status, status_nulls) = self.status_code.finish();
        let mut text =
            self.text.into_iter().map(|views| Arc::new(views.finish(&buffers)) as ArrayRef);
        let mut next = || text.next().expect("there is a slot for every text column");
        let columns: Vec<ArrayRef> = vec![
            Arc::new(event_id),
            instants(self.event_time),
            instants(self.received),
            next(), // log
            next(), // tenant
            next(), // kind
            next(), // operation
            next(), // service
            next(), // outcome
            Arc::new(Int16Array::new(status.into(), status_nulls)),
            next(), // error_code
            next(), // principal_id
            next(), // principal_kind
            next(), // principal_name
            next(), // target_id
            Arc::new(chain),
            next(), // credential_id
            next(), // credential_kind
            micros(self.credential_issued_at),
            micros(self.credential_expires_at),
            next(), // issued_credential_id
            next(), // session_id
            next(), // source_ip
            longs(self.source_asn),
            next(), // source_country
            next(), // user_agent
            next(), // resource
            next(), // region
            next(), // instance_id
            longs(self.latency_us),
            next(), // change_id
            longs(self.sequence),
            next(), // raw
        ];
        let batch = RecordBatch::try_new(columns::schema(), columns)
            .expect("columns have the length and type of the schema");
        EventBatch::from_own(batch)
    }
}

/// Makes the view of a text: into the payload where it lies there, else into the side buffer.
struct Placer<'a> {
    start: usize,
    len: usize,
    side: &'a mut Vec<u8>,
}

impl<'a> Placer<'a> {
    #[inline]
    fn new(payload: &Buffer, side: &'a mut Vec<u8>) -> Self {
        Self { start: payload.as_ptr() as usize, len: payload.len(), side }
    }

    #[inline]
    fn view(&mut self, text: &str) -> u128 {
        let bytes = text.as_bytes();
        if bytes.len() <= INLINE_BYTES {
            return inline_view(bytes);
        }
        // Addresses are compared as numbers: a slice of the payload lies between its ends, and
        // nothing else that is alive does.
        let offset = (bytes.as_ptr() as usize).wrapping_sub(self.start);
        if offset < self.len {
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
    use crate::event::EventId;

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
    }
}

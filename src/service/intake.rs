//! A delivery to what the journal can take: parsed, secrets out, encoded. Runs on any thread.

use crate::journal::entry::{self, DeadLetter, Ledger};
use rustc_hash::FxHashMap;
use std::io::Cursor;
use std::sync::Arc;
use telltale_ingest::reading::read_block;
use telltale_ingest::redact::Redactor;
use telltale_ingest::sources::{BlockReader, Delivery, Limits, Piece, Refusal};
use telltale_ingest::{Reject, Rejects};
use telltale_schema::{EventBatch, Micros};

/// How deliveries are read.
pub struct Intake {
    pub redactor: Redactor,
    pub limits: Limits,
    /// Bytes of a delivery once decompressed.
    pub delivery_bytes: usize,
}

/// A delivery, ready for the journal.
pub struct Prepared {
    /// `stored` and `duplicate` are not known yet, but for repeats within the delivery.
    pub ledger: Ledger,
    pub received_at: Micros,
    pub events: Arc<[EventBatch]>,
    /// `events` as they go into the journal.
    pub encoded: Vec<u8>,
    pub dead_letters: Vec<DeadLetter>,
    /// Why records were rejected, and how many for each reason.
    pub rejects: Vec<Reject>,
}

impl Intake {
    /// Reads a delivery at `received_at`.
    ///
    /// Errors: a delivery that is larger than any may be; what is wrong with a record becomes a
    /// dead letter.
    pub fn prepare(&self, delivery: Delivery, received_at: Micros) -> Result<Prepared, Refusal> {
        let mut parsed = Parsed::default();
        for piece in delivery.pieces {
            self.read(&delivery.source, &delivery.partition, piece, received_at, &mut parsed)?;
        }
        let read: usize = parsed.events.iter().map(EventBatch::len).sum();
        let events = once(parsed.events);
        let kept: usize = events.iter().map(EventBatch::len).sum();
        let ledger = Ledger {
            source: delivery.source.to_string(),
            partition: delivery.partition.to_string(),
            position: delivery.position,
            received: read as u64 + parsed.records_rejected,
            stored: 0,
            duplicate: (read - kept) as u64,
            dead_letter: parsed.dead_letters.len() as u64,
        };
        Ok(Prepared {
            ledger,
            received_at,
            encoded: entry::encode_events(&events),
            events: events.into(),
            dead_letters: parsed.dead_letters,
            rejects: parsed.rejects.into_sorted(),
        })
    }

    fn oversized(&self) -> Refusal {
        let limit = self.delivery_bytes >> 20;
        Refusal::Oversized(format!(
            "it has more than {limit} MiB once decompressed; send it in parts"
        ))
    }

    fn read(
        &self,
        source: &str,
        partition: &str,
        piece: Piece,
        received_at: Micros,
        parsed: &mut Parsed,
    ) -> Result<(), Refusal> {
        let Piece { parser, origin, bytes, offsets, are_lines } = piece;
        let name = parser.map_or(String::new(), |parser| parser.name().to_owned());
        let letter = |position: u64, reason: String, text: String| DeadLetter {
            source: source.to_owned(),
            partition: partition.to_owned(),
            position,
            parser: name.clone(),
            reason,
            text,
        };
        // Shown where a piece as a whole is no log.
        let head = bytes.slice(..bytes.len().min(DeadLetter::MAX_BYTES));
        let mut rejects = Rejects::keeping_singles();
        let reader =
            BlockReader::new(&origin, Cursor::new(bytes), parser, self.limits, Arc::default());
        let mut held = 0;
        match reader {
            Ok(reader) => {
                let mut reader = reader.trusting();
                if are_lines {
                    reader = reader.of_lines();
                }
                while let Some((block, plan)) = reader.next_block(&mut rejects) {
                    held += block.bytes.len();
                    if held > self.delivery_bytes {
                        return Err(self.oversized());
                    }
                    let (redactor, events) = (&self.redactor, &mut parsed.events);
                    read_block(block, plan, redactor, received_at, &mut rejects, |_, batch| {
                        events.push(batch);
                    });
                }
            }
            Err(cause) => rejects.remark(format_args!("cannot be read: {cause}")),
        }
        for single in rejects.take_singles() {
            // A line is a message, else the piece is one, or it is no message at all.
            let line = usize::try_from(single.position).unwrap_or(usize::MAX).wrapping_sub(1);
            let of_piece = offsets.first().copied().unwrap_or(single.position);
            let position = offsets.get(line).copied().unwrap_or(of_piece);
            let text = single.text.unwrap_or_default();
            parsed.dead_letters.push(letter(position, single.reason, text));
            parsed.records_rejected += 1;
        }
        for remark in rejects.remarks() {
            let text = self.redactor.redact(&head);
            let text = String::from_utf8_lossy(text.as_deref().unwrap_or(&head)).into_owned();
            let position = offsets.first().copied().unwrap_or_default();
            parsed.dead_letters.push(letter(position, remark.reason.clone(), text));
            parsed.records_rejected += 1;
            parsed.rejects.count(remark.position, &remark.reason);
        }
        parsed.rejects.merge(rejects.without_remarks());
        Ok(())
    }
}

#[derive(Default)]
struct Parsed {
    events: Vec<EventBatch>,
    dead_letters: Vec<DeadLetter>,
    records_rejected: u64,
    rejects: Rejects,
}

/// The batches without events that a later one repeats: an exporter's later copy is the more
/// complete one.
fn once(batches: Vec<EventBatch>) -> Vec<EventBatch> {
    let mut last = FxHashMap::default();
    let mut events = 0;
    for (at, batch) in batches.iter().enumerate() {
        for row in batch.rows() {
            last.insert(batch.event_id(row), (at, row));
        }
        events += batch.len();
    }
    if last.len() == events {
        return batches;
    }
    let kept = batches.into_iter().enumerate().map(|(at, batch)| {
        let keep: Vec<bool> =
            batch.rows().map(|row| last[&batch.event_id(row)] == (at, row)).collect();
        batch.filter(&keep)
    });
    kept.filter(|batch| !batch.is_empty()).collect()
}

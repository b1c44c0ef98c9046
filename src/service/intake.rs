//! A delivery to what the journal can take: parsed, secrets out, encoded. Runs on any thread.

use crate::journal::encoded::Encoded;
use crate::journal::entry::{DeadLetter, Ledger};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use telltale_ingest::reading::read_block;
use telltale_ingest::redact::Redactor;
use telltale_ingest::sources::{BlockReader, Delivery, Limits, Piece, Refusal, Rejected};
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
    pub encoded: Encoded,
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
            let (source, partition) = (&delivery.source, &delivery.partition);
            let before = (parsed.events.len(), parsed.dead_letters.len(), parsed.records_rejected);
            let position = piece.offsets.first().copied().unwrap_or_default();
            match self.read(source, partition, piece, received_at, &mut parsed) {
                Ok(()) => {}
                // A sender of a body can send it in parts; a message is what it is.
                Err(cause) if delivery.position.is_none() => return Err(cause),
                Err(cause) => {
                    parsed.events.truncate(before.0);
                    parsed.dead_letters.truncate(before.1);
                    parsed.records_rejected = before.2 + 1;
                    parsed.rejects.count(position, &cause);
                    parsed.dead_letters.push(DeadLetter {
                        source: source.to_string(),
                        partition: partition.to_string(),
                        position,
                        reason: cause.to_string(),
                        ..DeadLetter::default()
                    });
                }
            }
        }
        for Rejected { position, reason, head } in delivery.rejected {
            let text = self.redactor.redact(&head);
            let text = String::from_utf8_lossy(text.as_deref().unwrap_or(&head)).into_owned();
            parsed.records_rejected += 1;
            parsed.rejects.count(position, &reason);
            parsed.dead_letters.push(DeadLetter {
                source: delivery.source.to_string(),
                partition: delivery.partition.to_string(),
                position,
                reason,
                text,
                ..DeadLetter::default()
            });
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
            encoded: Encoded::of(&events),
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
        let head = bytes[..bytes.len().min(DeadLetter::MAX_BYTES)].to_vec();
        let mut rejects = Rejects::keeping_singles();
        let reader = BlockReader::of_bytes(&origin, bytes, parser, self.limits);
        let mut held = 0;
        match reader {
            Ok(reader) => {
                let mut reader = reader.trusting();
                if are_lines {
                    reader = match *offsets {
                        [first] => reader.of_lines_at(first),
                        _ => reader.of_lines(),
                    };
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
            let position = match *offsets {
                [_] if are_lines => single.position,
                [first, ..] => offsets.get(line).copied().unwrap_or(first),
                [] => single.position,
            };
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
    let events = batches.iter().map(EventBatch::len).sum();
    let mut last = FxHashMap::with_capacity_and_hasher(events, Default::default());
    for (at, batch) in batches.iter().enumerate() {
        for row in batch.rows() {
            last.insert(batch.event_id(row), (at, row));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use telltale_ingest::redact::Key;

    const RECORD: &str = r#"{"eventVersion":"1.08","userIdentity":{"type":"IAMUser","arn":"arn:aws:iam::111122223333:user/ci"},"eventTime":"2026-03-01T00:00:00Z","eventSource":"s3.amazonaws.com","eventName":"ListBuckets","awsRegion":"eu-west-1","eventID":"1"}"#;

    fn intake() -> Intake {
        Intake {
            redactor: Redactor::new(&Key::from_bytes([1; 32])),
            limits: Limits::default(),
            delivery_bytes: 1 << 20,
        }
    }

    fn prepare(
        pieces: Vec<(Vec<u8>, Vec<u64>)>,
        position: Option<u64>,
    ) -> Result<Prepared, Refusal> {
        let pieces = pieces.into_iter().map(|(bytes, offsets)| Piece {
            parser: None,
            origin: "test".into(),
            are_lines: true,
            bytes: bytes.into(),
            offsets: offsets.into(),
        });
        let (source, partition) = ("kafka".into(), "audit/0".into());
        let pieces = pieces.collect();
        let delivery = Delivery { source, partition, pieces, rejected: Vec::new(), position };
        intake().prepare(delivery, 1)
    }

    fn places(prepared: &Prepared) -> Vec<(u64, &str)> {
        prepared.dead_letters.iter().map(|l| (l.position, l.text.as_str())).collect()
    }

    #[test]
    fn a_bad_message_is_a_dead_letter_at_its_offset_and_harms_no_other() {
        let lines = format!("{RECORD}\n{{\"x\":\nno json\n{}\n", RECORD.replace("\"1\"", "\"2\""));
        let prepared = prepare(vec![(lines.into_bytes(), vec![7, 8, 12, 13])], Some(14)).unwrap();
        assert_eq!(places(&prepared), [(8, "{\"x\":"), (12, "no json")]);
        let ledger = &prepared.ledger;
        assert_eq!((ledger.received, ledger.dead_letter, ledger.position), (4, 2, Some(14)));
        assert_eq!(prepared.events.iter().map(EventBatch::len).sum::<usize>(), 2);
    }

    #[test]
    fn a_first_message_that_looks_like_a_file_harms_no_other() {
        for first in ["PAR1", "BZh", "PK\u{3}\u{4}", "a\0b"] {
            let lines = format!("{first}\n{RECORD}\n");
            let prepared = prepare(vec![(lines.into_bytes(), vec![1, 2])], Some(3)).unwrap();
            assert_eq!(places(&prepared), [(1, first)]);
            assert_eq!(prepared.events.iter().map(EventBatch::len).sum::<usize>(), 1);
        }
    }

    #[test]
    fn what_a_source_rejects_is_a_dead_letter_without_secrets() {
        let head = "x Authorization: Bearer ya29.A0ARrdaM-abcdefghijklmnopqrstuvwxyz0123456789";
        let rejected = Rejected { position: 4, reason: "torn".into(), head: head.into() };
        let (source, partition) = ("syslog".into(), "here".into());
        let pieces = Vec::new();
        let rejected = vec![rejected];
        let delivery = Delivery { source, partition, pieces, rejected, position: None };
        let prepared = intake().prepare(delivery, 1).unwrap();
        assert_eq!((prepared.ledger.received, prepared.ledger.dead_letter), (1, 1));
        let letter = &prepared.dead_letters[0];
        assert_eq!((letter.position, letter.reason.as_str()), (4, "torn"));
        assert!(
            letter.text.starts_with("x ") && !letter.text.contains("abcdefghijkl"),
            "{letter:?}"
        );
    }

    #[test]
    fn a_message_that_is_a_bomb_is_a_dead_letter_a_body_that_is_one_is_refused() {
        let padded = format!("{RECORD}{}\n", " ".repeat(1 << 20));
        let bomb = zstd::encode_all(padded.repeat(3).as_bytes(), 3).unwrap();
        let good = (RECORD.as_bytes().to_vec(), vec![1]);
        let pieces = vec![good.clone(), (bomb, vec![2])];
        let prepared = prepare(pieces.clone(), Some(3)).unwrap();
        assert_eq!(places(&prepared), [(2, "")]);
        assert_eq!(prepared.events.iter().map(EventBatch::len).sum::<usize>(), 1);
        assert_eq!(prepared.ledger.received, 2);
        assert!(matches!(prepare(pieces, None), Err(Refusal::Oversized(_))));
        assert!(prepare(vec![good], None).is_ok());
    }

    #[test]
    fn secrets_are_in_no_dead_letter() {
        let text = "Authorization: Bearer ya29.A0ARrdaM-abcdefghijklmnopqrstuvwxyz0123456789";
        let prepared = prepare(vec![(text.as_bytes().to_vec(), vec![1])], Some(2)).unwrap();
        assert_eq!(prepared.dead_letters.len(), 1);
        assert!(
            !prepared.dead_letters[0].text.contains("abcdefghijkl"),
            "{prepared:?}",
            prepared = prepared.dead_letters[0]
        );
    }
}

//! A delivery to what the journal can take: parsed, secrets out, encoded. Runs on any thread.

use crate::journal::MAX_ENTRY_BYTES;
use crate::journal::encoded::Encoded;
use crate::journal::entry::{DeadLetter, Ledger};
use rustc_hash::FxHashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use telltale_ingest::parsers::Parser;
use telltale_ingest::reading::read_block;
use telltale_ingest::redact::Redactor;
use telltale_ingest::sources::{Delivery, Limits, Piece, Refusal, Rejected};
use telltale_ingest::{Reject, Rejects};
use telltale_schema::{EventBatch, Micros};
use tracing::error;

/// Why a record that a parser panicked on is a dead letter.
const PANICKED: &str = "a parser panicked on it, which is a fault of telltale";

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
    /// Rejected records without a dead letter of their own.
    pub left_out: u64,
    /// Why records were rejected, and how many for each reason.
    pub rejects: Vec<Reject>,
}

impl Intake {
    /// Reads a delivery at `received_at`.
    ///
    /// Errors: a delivery that is larger than any may be, a body whose compression is cut or broken;
    /// what is wrong with a record becomes a dead letter.
    pub fn prepare(&self, delivery: Delivery, received_at: Micros) -> Result<Prepared, Refusal> {
        let mut parsed = Parsed {
            source: &delivery.source,
            partition: &delivery.partition,
            received_at,
            is_sent_again: delivery.position.is_none(),
            ..Parsed::default()
        };
        for piece in delivery.pieces {
            let before = parsed.mark();
            let position = piece.position();
            match self.read_soundly(piece, &mut parsed) {
                Ok(()) => {}
                // A sender of a body can send it in parts; a message is what it is.
                Err(cause) if parsed.is_sent_again => return Err(cause),
                Err(cause) => {
                    parsed.take_back_to(before);
                    parsed.rejects.count(position, &cause);
                    parsed.reject(position, None, cause.to_string(), String::new());
                }
            }
        }
        for Rejected { position, reason, head } in delivery.rejected {
            parsed.rejects.count(position, &reason);
            parsed.reject(position, None, reason, self.shown(&head));
        }
        if parsed.left_out > 0 {
            let reason =
                format!("{} more records were rejected; they are counted alone", parsed.left_out);
            parsed.letter(0, None, reason, String::new());
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
            dead_letter: parsed.records_rejected,
        };
        Ok(Prepared {
            ledger,
            received_at,
            encoded: Encoded::of(&events),
            events: events.into(),
            dead_letters: parsed.dead_letters,
            left_out: parsed.left_out,
            rejects: parsed.rejects.into_sorted(),
        })
    }

    fn oversized(&self) -> Refusal {
        let limit = self.delivery_bytes >> 20;
        Refusal::Oversized(format!(
            "it has more than {limit} MiB once decompressed; send it in parts"
        ))
    }

    /// Bytes as a dead letter has them.
    fn shown(&self, bytes: &[u8]) -> String {
        String::from_utf8_lossy(self.redactor.redact(bytes).as_deref().unwrap_or(bytes))
            .into_owned()
    }

    /// Reads a piece. What a parser panics on, which is a fault of telltale, becomes a dead letter, and
    /// no other message does.
    ///
    /// Errors: as for [`Intake::prepare`].
    fn read_soundly(&self, piece: Piece, parsed: &mut Parsed<'_>) -> Result<(), Refusal> {
        let before = parsed.mark();
        let (position, parser) = (piece.position(), piece.parser);
        // Of messages on lines each can be read by itself; bytes that nobody else holds are not
        // copied where they are read.
        let lines = (piece.are_lines && piece.offsets.len() > 1).then(|| piece.clone());
        // Shown where a piece as a whole is no log.
        let head = piece.bytes[..piece.bytes.len().min(DeadLetter::MAX_BYTES)].to_vec();
        let read = AssertUnwindSafe(|| self.read(piece, &head, parsed));
        if let Ok(outcome) = catch_unwind(read) {
            return outcome;
        }
        parsed.take_back_to(before);
        if let Some(piece) = lines {
            let lines = piece.bytes.split(|byte| *byte == b'\n').zip(piece.offsets.iter());
            for (line, offset) in lines {
                let (bytes, offsets) = (piece.bytes.slice_ref(line), [*offset].into());
                self.read_soundly(Piece { bytes, offsets, ..piece.clone() }, parsed)?;
            }
            return Ok(());
        }
        let Parsed { source, partition, .. } = *parsed;
        error!(
            source,
            partition,
            "a parser panicked, which is a fault of telltale; what it read is a dead letter"
        );
        parsed.rejects.count(position, PANICKED);
        parsed.reject(position, parser, PANICKED.to_owned(), self.shown(&head));
        Ok(())
    }

    /// Reads a piece that begins with `head`.
    fn read(&self, piece: Piece, head: &[u8], parsed: &mut Parsed<'_>) -> Result<(), Refusal> {
        let (first, parser) = (piece.position(), piece.parser);
        let (are_lines, offsets) = (piece.are_lines, Arc::clone(&piece.offsets));
        let received_at = parsed.received_at;
        let mut rejects = Rejects::keeping_singles();
        let (mut held, mut rows) = (0, 0);
        // What has no place in its source is a body, whose sender has it still.
        let is_body = parsed.is_sent_again && offsets.is_empty();
        match piece.into_reader(self.limits) {
            Ok(reader) => {
                let mut reader = reader.at_most(self.delivery_bytes);
                while let Some((block, plan)) = reader.next_block(&mut rejects) {
                    held += block.bytes.len();
                    let (redactor, events) = (&self.redactor, &mut parsed.events);
                    read_block(block, plan, redactor, received_at, &mut rejects, |_, batch| {
                        rows += batch.len();
                        events.push(batch);
                    });
                    if held + rows * Encoded::ROW_BYTES > MAX_ENTRY_BYTES {
                        let why = "it has too many records; send it in parts";
                        return Err(Refusal::Oversized(why.to_owned()));
                    }
                }
                if reader.is_over() {
                    return Err(self.oversized());
                }
                if let (true, Some(why)) = (is_body, reader.broken()) {
                    return Err(Refusal::Malformed(format!("{why}; nothing of it is stored")));
                }
            }
            Err(cause) if is_body => {
                let why = format!("the body cannot be read: {cause}; nothing of it is stored");
                return Err(Refusal::Malformed(why));
            }
            Err(cause) => rejects.remark(format_args!("cannot be read: {cause}")),
        }
        for single in rejects.take_singles() {
            // A record is a message, else the piece is one, or it is no message at all.
            let record = usize::try_from(single.position).unwrap_or(usize::MAX).wrapping_sub(1);
            let position = match *offsets {
                [first, ..] if !are_lines => offsets.get(record).copied().unwrap_or(first),
                _ => single.position,
            };
            parsed.reject(position, parser, single.reason, single.text.unwrap_or_default());
        }
        let left_out = rejects.take_left_out();
        parsed.left_out += left_out;
        parsed.records_rejected += left_out;
        for remark in rejects.remarks() {
            parsed.reject(first, parser, remark.reason.clone(), self.shown(head));
            parsed.rejects.count(remark.position, &remark.reason);
        }
        parsed.rejects.merge(rejects.without_remarks());
        Ok(())
    }
}

/// What a delivery has become so far.
#[derive(Default)]
struct Parsed<'d> {
    source: &'d str,
    partition: &'d str,
    received_at: Micros,
    events: Vec<EventBatch>,
    dead_letters: Vec<DeadLetter>,
    records_rejected: u64,
    /// Of those, how many have no dead letter.
    left_out: u64,
    rejects: Rejects,
    /// Whether the sender of what is refused has it still.
    is_sent_again: bool,
}

/// Where something parsed begins.
#[derive(Clone, Copy)]
struct Mark {
    events: usize,
    dead_letters: usize,
    records_rejected: u64,
    left_out: u64,
}

impl Parsed<'_> {
    /// Adds a record that is no event.
    fn reject(&mut self, position: u64, parser: Option<&dyn Parser>, reason: String, text: String) {
        self.records_rejected += 1;
        self.letter(position, parser, reason, text);
    }

    fn letter(&mut self, position: u64, parser: Option<&dyn Parser>, reason: String, text: String) {
        self.dead_letters.push(DeadLetter {
            source: self.source.to_owned(),
            partition: self.partition.to_owned(),
            position,
            parser: parser.map_or(String::new(), |parser| parser.name().to_owned()),
            reason,
            text,
        });
    }

    fn mark(&self) -> Mark {
        let (events, dead_letters) = (self.events.len(), self.dead_letters.len());
        let Self { records_rejected, left_out, .. } = *self;
        Mark { events, dead_letters, records_rejected, left_out }
    }

    /// Forgets what was parsed since; reasons stay.
    fn take_back_to(&mut self, mark: Mark) {
        self.events.truncate(mark.events);
        self.dead_letters.truncate(mark.dead_letters);
        (self.records_rejected, self.left_out) = (mark.records_rejected, mark.left_out);
    }
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
    use telltale_ingest::Payload;
    use telltale_ingest::redact::Key;
    use telltale_schema::{Event, EventId, Events};

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
    fn a_body_of_nothing_but_what_is_passed_over_is_no_smaller() {
        for text in ["\n".repeat(3 << 20), "x".repeat(3 << 20)] {
            for bytes in [zstd::encode_all(text.as_bytes(), 3).unwrap(), text.into_bytes()] {
                let prepared = prepare(vec![(bytes, vec![1])], None);
                assert!(matches!(prepared, Err(Refusal::Oversized(_))));
            }
        }
    }

    #[test]
    fn a_body_that_is_cut_or_broken_is_refused_a_message_that_is_keeps_what_was_read() {
        let lines: String =
            (0..3000).map(|n| RECORD.replace("\"1\"", &format!("\"{n}\"")) + "\n").collect();
        let zstd = zstd::encode_all(lines.as_bytes(), 3).unwrap();
        let mut gzip = flate2::read::GzEncoder::new(lines.as_bytes(), Default::default());
        let mut whole = Vec::new();
        std::io::Read::read_to_end(&mut gzip, &mut whole).unwrap();
        let mut wrong = whole.clone();
        let at = wrong.len() - 6;
        wrong[at] ^= 0xff;
        for bytes in [&whole[..whole.len() / 2], &zstd[..zstd.len() / 2], &wrong] {
            let body = vec![(bytes.to_vec(), Vec::new())];
            assert!(matches!(prepare(body, None), Err(Refusal::Malformed(_))));
            let message = vec![(bytes.to_vec(), vec![1])];
            assert!(prepare(message, Some(2)).unwrap().ledger.dead_letter > 0);
        }
        let read = prepare(vec![(whole, Vec::new())], None).unwrap();
        assert_eq!((read.ledger.received, read.ledger.dead_letter), (3000, 0));
    }

    #[test]
    fn a_record_of_many_on_a_line_is_a_dead_letter_by_itself() {
        let line = format!("[{}]\n", vec![r#"{"x":1}"#; 20_000].join(","));
        let prepared = prepare(vec![(line.into_bytes(), vec![5])], None).unwrap();
        assert_eq!(prepared.dead_letters.len(), 20_000);
        assert_eq!(prepared.ledger.dead_letter, 20_000);
        assert!(prepared.dead_letters.iter().all(|l| (l.position, &*l.text) == (5, r#"{"x":1}"#)));
    }

    #[test]
    fn of_rejects_without_end_the_first_are_kept_and_all_are_counted() {
        let lines = "x\n".repeat(Rejects::MAX_SINGLES + 1_000);
        let prepared = prepare(vec![(lines.into_bytes(), vec![1])], None).unwrap();
        assert_eq!(prepared.dead_letters.len(), Rejects::MAX_SINGLES + 1);
        let last = prepared.dead_letters.last().unwrap();
        assert!(last.reason.starts_with("1000 more records"), "{last:?}");
        let ledger = &prepared.ledger;
        assert_eq!((ledger.received, ledger.dead_letter), (101_000, 101_000));
    }

    /// Panics on what it does not like.
    struct Fragile;

    impl Parser for Fragile {
        fn name(&self) -> &'static str {
            "fragile"
        }

        fn help(&self) -> &'static str {
            ""
        }

        fn source(&self) -> &'static str {
            ""
        }

        fn recognises(&self, _: &str) -> bool {
            true
        }

        fn parse(&self, payload: &Payload, events: &mut dyn Events, _: &mut Rejects) {
            for (number, record) in payload.records() {
                assert!(!record.contains("poison"), "what the test is about");
                events.push(&Event {
                    event_id: EventId([number as u8; 16]),
                    ..Event::new("fragile", 1)
                });
            }
        }
    }

    #[test]
    fn a_message_that_a_parser_panics_on_is_a_dead_letter_and_harms_no_other() {
        let piece = Piece {
            parser: Some(&Fragile),
            origin: "test".into(),
            are_lines: true,
            bytes: "{}\n{\"poison\":1}\n{}\n".into(),
            offsets: [7, 8, 9].into(),
        };
        let (source, partition) = ("kafka".into(), "audit/0".into());
        let (pieces, rejected) = (vec![piece], Vec::new());
        let delivery = Delivery { source, partition, pieces, rejected, position: Some(10) };
        let prepared = intake().prepare(delivery, 1).unwrap();
        assert_eq!(places(&prepared), [(8, "{\"poison\":1}")]);
        assert_eq!((prepared.ledger.received, prepared.ledger.dead_letter), (3, 1));
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

//! What a frame of the journal holds: what one delivery of a source became, or what detectors say.

use super::JournalError;
use super::encoded;
use arrow_buffer::Buffer;
use serde::{Deserialize, Serialize};
use telltale_schema::{EventBatch, Finding, Micros};

/// Where events begin in a body, so that their columns are read where they lie.
const ALIGNMENT: usize = 64;

/// One entry, all of which counts or nothing.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    pub head: Head,
    pub events: Vec<EventBatch>,
}

/// Everything of an entry but its events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// When it was written.
    pub received_at: Micros,
    /// What became of what a source handed over; empty for an entry of findings.
    pub ledger: Vec<Ledger>,
    pub dead_letters: Vec<DeadLetter>,
    /// Records that were rejected and of which nothing but this number is kept.
    pub left_out: u64,
    pub findings: Vec<Finding>,
    /// Of each batch, the lengths of what its text lies in.
    pub texts: Vec<Vec<u64>>,
}

/// What became of the records of one source and partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    pub source: String,
    pub partition: String,
    /// Where the source goes on: its next offset or byte. `None` where it has no positions.
    pub position: Option<u64>,
    pub received: u64,
    pub stored: u64,
    pub duplicate: u64,
    pub dead_letter: u64,
}

/// A record that is no event, with why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub source: String,
    pub partition: String,
    /// Offset, line or record number; 0 where it concerns a delivery as a whole.
    pub position: u64,
    /// The parser that refused it; empty where none recognised it.
    pub parser: String,
    pub reason: String,
    /// What it was, secrets redacted, at most [`DeadLetter::MAX_BYTES`] of it.
    pub text: String,
}

impl DeadLetter {
    pub const MAX_BYTES: usize = 64 << 10;
}

impl Head {
    /// Rejected records, by what is there of them.
    pub fn rejected(&self) -> u64 {
        // One more letter says that there were others.
        let letters = self.dead_letters.len() as u64;
        letters - u64::from(self.left_out > 0).min(letters) + self.left_out
    }

    /// The body of a frame up to the events: length of the head, the head, room up to where events
    /// begin.
    pub fn encode(&self) -> Vec<u8> {
        let head = postcard::to_stdvec(self).expect("a head can be written to memory");
        let events_at = (4 + head.len()).next_multiple_of(ALIGNMENT);
        let mut body = Vec::with_capacity(events_at);
        body.extend_from_slice(&(head.len() as u32).to_le_bytes());
        body.extend_from_slice(&head);
        body.resize(events_at, 0);
        body
    }

    /// The head of a body and where its events begin.
    fn decode(number: u64, body: &[u8]) -> Result<(Self, usize), JournalError> {
        let failed = |cause: String| JournalError::Entry { number, cause };
        let len = body.first_chunk().map(|len| u32::from_le_bytes(*len) as usize);
        let head = len
            .and_then(|len| body.get(4..4usize.checked_add(len)?))
            .ok_or_else(|| failed("it is too short".to_owned()))?;
        let decoded = postcard::from_bytes(head).map_err(|cause| failed(cause.to_string()))?;
        Ok((decoded, (4 + head.len()).next_multiple_of(ALIGNMENT).min(body.len())))
    }
}

impl Entry {
    /// Reads the body of a frame, all of it.
    pub fn decode(number: u64, body: Vec<u8>) -> Result<Self, JournalError> {
        let (head, at) = Head::decode(number, &body)?;
        let events = encoded::decode(Buffer::from_vec(body).slice(at), &head.texts)
            .map_err(|cause| JournalError::Entry { number, cause })?;
        Ok(Self { head, events })
    }

    /// Reads the head alone.
    pub fn decode_head(number: u64, body: &[u8]) -> Result<Head, JournalError> {
        Ok(Head::decode(number, body)?.0)
    }
}

impl Ledger {
    /// Takes in what became of later records of the same source and partition.
    pub fn add(&mut self, later: &Self) {
        if self.source.is_empty() {
            self.source.clone_from(&later.source);
            self.partition.clone_from(&later.partition);
        }
        self.position = later.position.max(self.position);
        self.received += later.received;
        self.stored += later.stored;
        self.duplicate += later.duplicate;
        self.dead_letter += later.dead_letter;
    }

    /// Records of which nobody knows what became of them: zero, or something is lost or invented.
    pub fn residue(&self) -> i64 {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        signed(self.received)
            .wrapping_sub(signed(self.stored))
            .wrapping_sub(signed(self.duplicate))
            .wrapping_sub(signed(self.dead_letter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::simulation::Dice;

    #[test]
    fn mangled_heads_never_panic_and_what_is_read_can_be_written() {
        let ledger = Ledger {
            source: "http".to_owned(),
            position: Some(1 << 40),
            received: 300,
            ..Ledger::default()
        };
        let letter = DeadLetter {
            reason: "`eventName` is missing".to_owned(),
            text: "é".repeat(100),
            ..DeadLetter::default()
        };
        let head = Head {
            received_at: -1,
            ledger: vec![ledger; 3],
            dead_letters: vec![letter; 2],
            left_out: 0,
            findings: Vec::new(),
            texts: vec![vec![1, 1 << 50], Vec::new()],
        };
        let whole = head.encode();
        let mut dice = Dice(3);
        let mut read = 0;
        for _ in 0..5000 {
            if let Ok(head) = Entry::decode_head(1, &dice.mangled(&whole)) {
                assert_eq!(Entry::decode_head(1, &head.encode()).unwrap(), head);
                read += 1;
            }
        }
        assert!(read > 100, "{read} heads were read");
    }
}

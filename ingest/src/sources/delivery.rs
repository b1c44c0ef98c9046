//! What a streaming source hands over at once, and what it is told.

use super::blocks::{BlockReader, Limits};
use crate::parsers::Parser;
use crate::payload::{Reject, Single};
use async_trait::async_trait;
use bytes::Bytes;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tracing::{debug, warn};

/// Bytes of one source and partition, all of which are stored or none. Cheap to clone, so that a
/// source can hand it over again.
#[derive(Clone)]
pub struct Delivery {
    /// What the source is called: `http`, `kafka`, `files`.
    pub source: Arc<str>,
    /// What has an order of its own within it: a topic's partition, a file; empty where there is
    /// nothing of the kind.
    pub partition: Arc<str>,
    pub pieces: Vec<Piece>,
    /// What the source itself knows to be no event.
    pub rejected: Vec<Rejected>,
    /// Where the source goes on once this is stored: the next offset or byte.
    pub position: Option<u64>,
}

/// Bytes that are framed by themselves: a body, or messages one on a line.
#[derive(Clone)]
pub struct Piece {
    /// The parser of every record; `None` where each record says itself which log it is of.
    pub parser: Option<&'static dyn Parser>,
    /// With a record's position, tells it from every other, for records that have neither id nor time.
    pub origin: Arc<str>,
    /// Plain, gzip or zstd.
    pub bytes: Bytes,
    /// Whether each line is a record, whatever it looks like.
    pub are_lines: bool,
    /// Offset of the record on each line, where lines are messages; of the first alone, where lines
    /// lie one behind another and a line's offset is that of its first byte; empty where a record's
    /// position is its number.
    pub offsets: Arc<[u64]>,
}

impl Piece {
    /// The position of its first record; 0 where those are their numbers.
    pub fn position(&self) -> u64 {
        self.offsets.first().copied().unwrap_or_default()
    }

    /// Reads its records: positions of lines are those of `offsets`.
    ///
    /// Errors: as for [`BlockReader::new`].
    pub fn into_reader(self, limits: Limits) -> io::Result<BlockReader> {
        let reader = BlockReader::of_bytes(&self.origin, self.bytes, self.parser, limits)?;
        let reader = reader.trusting();
        Ok(match *self.offsets {
            _ if !self.are_lines => reader,
            [first] => reader.of_lines_at(first),
            _ => reader.of_lines_with(self.offsets),
        })
    }
}

/// What a source could not make a message of. It becomes a dead letter.
#[derive(Clone, Debug)]
pub struct Rejected {
    pub position: u64,
    pub reason: String,
    /// Its beginning, or all of it.
    pub head: Bytes,
}

impl Delivery {
    /// Bytes of all pieces, and of what is rejected.
    pub fn len(&self) -> usize {
        let pieces = self.pieces.iter().map(|piece| piece.bytes.len());
        pieces.chain(self.rejected.iter().map(|rejected| rejected.head.len())).sum()
    }

    /// Rejects all pieces, each with its beginning.
    pub fn reject_all(&mut self, why: &str) {
        for piece in self.pieces.drain(..) {
            let head = piece.bytes.slice(..piece.bytes.len().min(Single::MAX_BYTES));
            let (position, reason) = (piece.position(), why.to_owned());
            self.rejected.push(Rejected { position, reason, head });
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What became of a delivery. All of it is on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    pub received: u64,
    pub stored: u64,
    pub duplicate: u64,
    pub rejected: u64,
    /// Why records were rejected, and how many for each reason.
    pub rejects: Vec<Reject>,
}

/// Why nothing of a delivery was stored.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// It will not be taken at any time.
    #[error("{0}")]
    Oversized(String),
    /// Nobody could read it, now or later.
    #[error("{0}")]
    Malformed(String),
    #[error("too much is under way")]
    Busy,
    #[error("the disk of the data folder is full")]
    Full,
    #[error("the journal cannot be written")]
    Broken,
    #[error("the service is starting or stopping")]
    Closed,
}

/// How long is waited before what was refused is handed over again.
const RETRY: Duration = Duration::from_millis(250);

/// Hands a delivery over until it is stored. What would not be taken at any time becomes dead letters.
///
/// Errors: the refusal of which `ends` says that nothing is tried after it.
pub async fn store(
    take: &dyn Take,
    mut delivery: Delivery,
    mut ends: impl FnMut(&Refusal) -> bool,
) -> Result<Receipt, Refusal> {
    let mut said = false;
    loop {
        let cause = match take.take(delivery.clone()).await {
            Ok(receipt) => return Ok(receipt),
            Err(cause) => cause,
        };
        if let Refusal::Oversized(why) | Refusal::Malformed(why) = &cause
            && !delivery.pieces.is_empty()
        {
            delivery.reject_all(why);
            continue;
        }
        if ends(&cause) {
            return Err(cause);
        }
        let Delivery { source, partition, .. } = &delivery;
        match &cause {
            // It begins or ends, which is no trouble.
            Refusal::Closed => debug!(%cause, %source, %partition, "waits"),
            _ if !std::mem::replace(&mut said, true) => warn!(%cause, %source, %partition, "waits"),
            _ => {}
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Where sources hand deliveries over.
#[async_trait]
pub trait Take: Send + Sync + 'static {
    /// Returns when everything of a delivery is on disk, or nothing of it is.
    async fn take(&self, delivery: Delivery) -> Result<Receipt, Refusal>;

    /// Where a partition goes on: the `position` of the last delivery of it that was stored.
    fn position(&self, source: &str, partition: &str) -> Option<u64>;

    /// The same for every partition of a source, for one that has to find out which it has before
    /// it.
    fn positions(&self, _source: &str) -> Vec<(String, u64)> {
        Vec::new()
    }

    /// A source could not be read, which is counted; it says by itself what the matter is.
    fn failed(&self, _source: &str) {}
}

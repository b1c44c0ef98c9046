//! Standard input, read until it ends: records one on a line, or documents; plain, gzip or zstd.
//!
//! What has come is handed over when there is a block of it, or when no more came for a moment. The
//! same input again, after a kill for example, is the same records again.

use super::blocks::{BlockReader, Limits};
use super::delivery::{Delivery, Piece, Receipt, Refusal, Rejected, Take, store};
use crate::parsers::Parser;
use crate::payload::{Block, Payload, Rejects};
use bytes::Bytes;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;
use tokio::runtime::Handle;
use tracing::{error, info, warn};

/// What the source is called.
const SOURCE: &str = "stdin";
/// Bytes that are handed over at once.
const BLOCK_BYTES: usize = 1 << 20;
/// Bytes that are read at once, and how many of such reads wait.
const CHUNK_BYTES: usize = 64 << 10;
const WAITING: usize = 4;
/// After how long a silence what has come is handed over.
const LULL: Duration = Duration::from_millis(200);

/// How standard input is read.
pub struct Stdin {
    pub take: Arc<dyn Take>,
    /// The parser of every record; `None` where each says itself which log it is of.
    pub parser: Option<&'static dyn Parser>,
    pub limits: Limits,
    pub stop: Arc<AtomicBool>,
}

impl Stdin {
    /// Reads `input` until it ends or `stop` is set; what was read is stored when it returns.
    pub fn run(self, input: impl Read + Send + 'static, runtime: &Handle) {
        let chunks = Chunks::of(input, Arc::clone(&self.stop));
        let block_bytes = self.limits.block_bytes.max(BLOCK_BYTES);
        let limits = Limits { block_bytes, ..self.limits };
        let mut reader = match BlockReader::new(SOURCE, chunks, self.parser, limits, Arc::default())
        {
            Ok(reader) => reader.trusting(),
            Err(_) if self.stop.load(Ordering::Relaxed) => return,
            Err(cause) => {
                self.take.failed(SOURCE);
                error!(%cause, "standard input cannot be read");
                return;
            }
        };
        let (mut rejects, mut total) = (Rejects::keeping_singles(), Receipt::default());
        while let Some((block, _)) = reader.next_block(&mut rejects) {
            let delivery = self.delivery(block, &mut rejects);
            if !self.hand_over(delivery, runtime, &mut total) {
                return;
            }
        }
        let mut last = nothing();
        last.rejected = rejected(&mut rejects);
        for remark in rejects.remarks() {
            warn!("standard input: {}", remark.reason);
            let (reason, head) = (remark.reason.clone(), Bytes::new());
            last.rejected.push(Rejected { position: remark.position, reason, head });
        }
        if !last.rejected.is_empty() && !self.hand_over(last, runtime, &mut total) {
            return;
        }
        let Receipt { received, stored, duplicate, rejected, .. } = total;
        info!(received, stored, duplicate, rejected, "standard input is read");
    }

    fn delivery(&self, block: Block, rejects: &mut Rejects) -> Delivery {
        // The same bytes at the same place are the same records.
        let origin = format!("{SOURCE}:{}:{}", block.first_position, blake3::hash(&block.bytes));
        let payload = Payload::unredacted(block, rejects);
        let mut delivery = nothing();
        for are_lines in [true, false] {
            let (mut bytes, mut positions) = (Vec::new(), Vec::new());
            let is_line = |record: &str| memchr::memchr(b'\n', record.as_bytes()).is_none();
            for (position, record) in payload.records().filter(|(_, r)| is_line(r) == are_lines) {
                bytes.extend_from_slice(record.as_bytes());
                bytes.push(b'\n');
                positions.push(position);
            }
            if !bytes.is_empty() {
                delivery.pieces.push(Piece {
                    parser: self.parser,
                    origin: format!("{origin}:{are_lines}").into(),
                    bytes: bytes.into(),
                    are_lines,
                    offsets: positions.into(),
                });
            }
        }
        delivery.rejected = rejected(rejects);
        delivery
    }

    /// Whether it is stored; not, when the service stops before it could be.
    fn hand_over(&self, delivery: Delivery, runtime: &Handle, total: &mut Receipt) -> bool {
        let bytes = delivery.len();
        let ends = |_: &Refusal| self.stop.load(Ordering::Relaxed);
        match runtime.block_on(store(self.take.as_ref(), delivery, ends)) {
            Ok(receipt) => {
                total.received += receipt.received;
                total.stored += receipt.stored;
                total.duplicate += receipt.duplicate;
                total.rejected += receipt.rejected;
                true
            }
            Err(cause) => {
                error!(%cause, bytes, "what was read of standard input cannot be stored");
                false
            }
        }
    }
}

fn nothing() -> Delivery {
    Delivery {
        source: SOURCE.into(),
        partition: Arc::default(),
        pieces: Vec::new(),
        rejected: Vec::new(),
        position: None,
    }
}

/// What was rejected since the last call.
fn rejected(rejects: &mut Rejects) -> Vec<Rejected> {
    let singles = rejects.take_singles().into_iter();
    let rejected = singles.map(|single| Rejected {
        position: single.position,
        reason: single.reason,
        head: single.text.unwrap_or_default().into(),
    });
    rejected.collect()
}

/// A stream that says when nothing comes (`WouldBlock`) and ends when the service stops. It is read
/// on a thread of its own, which nothing can wake from a read and the process does not wait for.
struct Chunks {
    chunks: Receiver<io::Result<Vec<u8>>>,
    held: io::Cursor<Vec<u8>>,
    /// Bytes so far. A silence before the first few says nothing: they tell the compression.
    bytes: usize,
    stop: Arc<AtomicBool>,
}

impl Chunks {
    fn of(mut input: impl Read + Send + 'static, stop: Arc<AtomicBool>) -> Self {
        let (sender, chunks) = sync_channel(WAITING);
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let mut chunk = vec![0; CHUNK_BYTES];
                let read = match input.read(&mut chunk) {
                    Ok(0) => return,
                    Ok(read) => {
                        chunk.truncate(read);
                        Ok(chunk)
                    }
                    Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
                    Err(cause) => Err(cause),
                };
                let is_end = read.is_err();
                if sender.send(read).is_err() || is_end {
                    return;
                }
            }
        });
        Self { chunks, held: io::Cursor::default(), bytes: 0, stop }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.held.read(buffer)?;
            if read > 0 {
                self.bytes += read;
                return Ok(read);
            }
            let is_stopped = self.stop.load(Ordering::Relaxed);
            let patience = if is_stopped { Duration::ZERO } else { LULL };
            match self.chunks.recv_timeout(patience) {
                Ok(chunk) => self.held = io::Cursor::new(chunk?),
                Err(RecvTimeoutError::Disconnected) if !is_stopped => return Ok(0),
                Err(_) if is_stopped => {
                    return Err(io::Error::other("the service was stopped before the end"));
                }
                Err(_) if self.bytes >= 4 => {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc::Sender;

    /// Keeps what it is handed.
    #[derive(Default)]
    struct Kept(Mutex<Vec<Delivery>>);

    #[async_trait::async_trait]
    impl Take for Kept {
        async fn take(&self, delivery: Delivery) -> Result<Receipt, Refusal> {
            self.0.lock().unwrap().push(delivery);
            Ok(Receipt::default())
        }

        fn position(&self, _: &str, _: &str) -> Option<u64> {
            None
        }
    }

    impl Kept {
        fn texts(&self) -> Vec<String> {
            let all = self.0.lock().unwrap();
            let pieces = all.iter().flat_map(|delivery| &delivery.pieces);
            pieces.map(|piece| String::from_utf8(piece.bytes.to_vec()).unwrap()).collect()
        }

        fn rejected(&self) -> Vec<(u64, String)> {
            let all = self.0.lock().unwrap();
            let rejected = all.iter().flat_map(|delivery| &delivery.rejected);
            rejected.map(|one| (one.position, one.reason.clone())).collect()
        }
    }

    /// A stream that somebody writes to.
    struct Pipe(Receiver<Vec<u8>>);

    impl Read for Pipe {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Ok(bytes) = self.0.recv() else { return Ok(0) };
            buffer[..bytes.len()].copy_from_slice(&bytes);
            Ok(bytes.len())
        }
    }

    struct Running {
        kept: Arc<Kept>,
        pipe: Option<Sender<Vec<u8>>>,
        stop: Arc<AtomicBool>,
        thread: std::thread::JoinHandle<()>,
    }

    fn start() -> Running {
        let (kept, stop) = (Arc::new(Kept::default()), Arc::<AtomicBool>::default());
        let (take, limits) = (Arc::clone(&kept) as Arc<dyn Take>, Limits::default());
        let stdin = Stdin { take, parser: None, limits, stop: Arc::clone(&stop) };
        let (pipe, input) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            stdin.run(Pipe(input), runtime.handle());
        });
        Running { kept, pipe: Some(pipe), stop, thread }
    }

    impl Running {
        fn write(&self, text: &str) {
            self.pipe.as_ref().unwrap().send(text.as_bytes().to_vec()).unwrap();
        }

        fn wait_for(&self, count: usize) {
            while self.kept.texts().len() < count {
                std::thread::park_timeout(Duration::from_millis(2));
            }
        }

        fn end(mut self) -> Arc<Kept> {
            self.pipe = None;
            self.thread.join().unwrap();
            self.kept
        }
    }

    #[test]
    fn lines_are_handed_over_when_nothing_more_comes_and_a_cut_one_waits() {
        let running = start();
        running.write("{\"a\":1}\n{\"a\":2}\n{\"a\"");
        running.wait_for(1);
        assert_eq!(running.kept.texts(), ["{\"a\":1}\n{\"a\":2}\n"]);
        running.write(":3}\nno");
        running.wait_for(2);
        let kept = running.end();
        assert_eq!(kept.texts()[1..], ["{\"a\":3}\n".to_owned(), "no\n".to_owned()]);
        assert!(kept.rejected().is_empty());
    }

    #[test]
    fn documents_are_cut_into_their_records() {
        let running = start();
        running.write("{\"Records\":[{\"a\":1},\n{\"a\":\n2}");
        running.write("]}");
        assert_eq!(running.end().texts(), ["{\"a\":1}\n", "{\"a\":\n2}\n"]);
    }

    #[test]
    fn the_same_input_again_has_the_same_origins() {
        let origins = |text: &str| -> Vec<Arc<str>> {
            let running = start();
            text.as_bytes().chunks(50_000).for_each(|chunk| {
                running.pipe.as_ref().unwrap().send(chunk.to_vec()).unwrap();
            });
            let kept = running.end();
            let all = kept.0.lock().unwrap();
            all.iter()
                .flat_map(|delivery| &delivery.pieces)
                .map(|p| Arc::clone(&p.origin))
                .collect()
        };
        let text = "the same line\n".repeat(200_000);
        let first = origins(&text);
        assert_eq!(first.len(), 3);
        assert!(first[0] != first[1] && first[1] != first[2]);
        assert_eq!(origins(&text), first);
    }

    #[test]
    fn a_stop_in_the_middle_is_said() {
        let running = start();
        running.write("{\"a\":1}\n{\"a\":2}\n");
        running.wait_for(1);
        running.write("{\"a\":3}\n{\"a\"");
        running.stop.store(true, Ordering::Relaxed);
        running.write("unread");
        let Running { kept, thread, .. } = running;
        thread.join().unwrap();
        let rejected = kept.rejected();
        assert!(rejected[0].1.contains("the service was stopped before the end"), "{rejected:?}");
    }

    #[test]
    fn what_is_no_text_is_said_once() {
        let running = start();
        running.write("PK\u{3}\u{4}rubbish");
        let kept = running.end();
        assert!(kept.texts().is_empty());
        assert_eq!(kept.rejected(), [(0, "a zip archive; unpack it first".to_owned())]);
    }
}

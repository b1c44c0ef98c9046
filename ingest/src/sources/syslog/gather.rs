//! Messages of all connections, gathered for a moment and handed over together.

use super::Syslog;
use super::frame::Frame;
use super::header;
use crate::parsers::Parser;
use crate::payload::Single;
use crate::sources::delivery::{Delivery, Refusal, Rejected, store};
use crate::sources::messages::Messages;
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};
use tracing::error;

/// What the source is called.
const SOURCE: &str = "syslog";

/// How long messages are gathered once the first has come.
const GATHER: Duration = Duration::from_millis(5);
/// Bytes after which is gathered no more.
const GATHER_BYTES: usize = 1 << 20;
/// How long that goes on once the service stops.
const LAST_TRIES: Duration = Duration::from_secs(4);

/// Hands over what connections read.
pub struct Gatherer {
    syslog: Syslog,
    stop: watch::Receiver<bool>,
    /// Tells this run of the service from every other.
    run: u128,
    /// Messages so far.
    count: u64,
}

/// Messages that are handed over together.
#[derive(Default)]
struct Gathered {
    bytes: usize,
    messages: Messages,
    rejected: Vec<Rejected>,
}

impl Gatherer {
    pub fn new(syslog: Syslog, stop: watch::Receiver<bool>) -> Self {
        let run = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        Self { syslog, stop, run, count: 0 }
    }

    /// Runs until no connection is left and everything is handed over.
    pub async fn run(mut self, mut waiting: mpsc::Receiver<Vec<Frame>>) {
        while let Some(frames) = waiting.recv().await {
            let (mut gathered, first) = (Gathered::default(), self.count + 1);
            self.add(frames, &mut gathered);
            let until = Instant::now() + GATHER;
            while gathered.bytes < GATHER_BYTES
                && let Ok(Some(frames)) = timeout_at(until, waiting.recv()).await
            {
                self.add(frames, &mut gathered);
            }
            let delivery = self.delivery(gathered, first);
            self.hand_over(delivery).await;
        }
    }

    fn add(&mut self, frames: Vec<Frame>, gathered: &mut Gathered) {
        for frame in frames {
            self.count += 1;
            let number = self.count;
            let mut reject = |head: &Bytes, reason: String| {
                let head = Bytes::copy_from_slice(&head[..head.len().min(Single::MAX_BYTES)]);
                gathered.bytes += head.len();
                gathered.rejected.push(Rejected { position: number, reason, head });
            };
            let bytes = match frame {
                Frame::Message(bytes) => bytes,
                Frame::Broken(head, why) => {
                    reject(&head, why.into_owned());
                    continue;
                }
            };
            let read = match simdutf8::compat::from_utf8(&bytes) {
                Ok(text) => header::read(text).map_err(ToOwned::to_owned),
                Err(cause) => Err(format!("not UTF-8 from byte {} on", cause.valid_up_to())),
            };
            match read {
                Ok(message) => gathered.message(message.text, self.parser_of(message.app), number),
                Err(why) => reject(&bytes, why),
            }
        }
    }

    fn parser_of(&self, app: Option<&str>) -> Option<&'static dyn Parser> {
        let of_app = app.and_then(|app| self.syslog.parsers.get(app).copied());
        of_app.or(self.syslog.parser)
    }

    fn delivery(&self, gathered: Gathered, first: u64) -> Delivery {
        let partition = Arc::clone(&self.syslog.partition);
        // Nothing in syslog says that a message is sent again: two that are equal, and have neither
        // id nor time, are two. The same delivery handed over again is the same.
        let pieces = gathered
            .messages
            .into_pieces(|number, _| format!("{SOURCE}:{partition}:{}:{first}:{number}", self.run));
        let rejected = gathered.rejected;
        Delivery { source: SOURCE.into(), partition, pieces, rejected, position: None }
    }

    /// Tries until it is stored or the time of a service that stops is over.
    async fn hand_over(&self, delivery: Delivery) {
        let (bytes, mut last) = (delivery.len(), None);
        let ends = |_: &Refusal| {
            let now = Instant::now();
            *self.stop.borrow() && now >= *last.get_or_insert(now + LAST_TRIES)
        };
        if let Err(cause) = store(self.syslog.take.as_ref(), delivery, ends).await {
            error!(%cause, bytes, "syslog messages that were read cannot be stored and are lost");
        }
    }
}

impl Gathered {
    fn message(&mut self, text: &str, parser: Option<&'static dyn Parser>, number: u64) {
        self.bytes += text.len();
        match text.contains('\n') {
            true => self.messages.other(parser, text.as_bytes(), number),
            false => self.messages.line(parser, text.as_bytes(), number),
        }
    }
}

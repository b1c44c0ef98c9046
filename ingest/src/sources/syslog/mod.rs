//! Syslog over TCP, with TLS or without: RFC 5424 and RFC 3164 messages, counted or one on a line (RFC 6587).
//!
//! `frame` a stream into messages · `header` off with what stands before a message · `gather`
//! messages of all connections into deliveries
//!
//! A connection is read, cut and handed to the one task that gathers. Nobody is told what is stored:
//! syslog has no word for it. While a delivery is refused nothing is read, so that senders wait; when
//! the service stops, what the kernel holds is read and all of it is stored.

pub mod frame;
mod gather;
pub mod header;

use super::delivery::Take;
use super::tls::Incoming;
use crate::parsers::Parser;
use frame::{Frame, Framer};
use gather::Gatherer;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

/// Reads of connections that wait to be gathered.
const WAITING: usize = 16;
/// Bytes beyond which a message that is still coming needs one of few places.
const LONG: usize = 64 << 10;
/// Bytes of all messages that are that long, together; at least four may come at once.
const LONG_TOGETHER: usize = 64 << 20;
/// How long such a message waits for its place, and how long its sender may be silent within it.
const LONG_WAIT: Duration = Duration::from_secs(10);
const LONG_SILENCE: Duration = Duration::from_secs(60);
/// A service that stops reads on until nothing came for so long, and for so long altogether.
const LULL: Duration = Duration::from_millis(50);
const LAST_READS: Duration = Duration::from_secs(1);

/// How syslog is taken.
pub struct Syslog {
    pub take: Arc<dyn Take>,
    /// What the accounts call the listener: its address.
    pub partition: Arc<str>,
    /// The parser of the messages of an application.
    pub parsers: BTreeMap<String, &'static dyn Parser>,
    /// The parser of all others; `None` where their content says it.
    pub parser: Option<&'static dyn Parser>,
    /// Connections at once; others wait.
    pub connections: usize,
    /// Bytes of the longest message.
    pub message_bytes: usize,
}

/// What one connection reads with.
struct Connection {
    framer: Framer,
    /// Places for long messages.
    long: Arc<Semaphore>,
    place: Option<OwnedSemaphorePermit>,
    stop: watch::Receiver<bool>,
    /// When the last reads are over, once the service stops.
    last: Option<Instant>,
}

/// Why a connection ends.
enum End {
    Closed,
    /// It broke, or the service stops.
    Cut,
}

impl Syslog {
    /// Serves until `stop` says so and everything that was read is stored.
    pub async fn serve(self, mut incoming: Incoming, stop: watch::Receiver<bool>) {
        let (frames, waiting) = mpsc::channel(WAITING);
        let allowed = Arc::new(Semaphore::new(self.connections));
        let places = (LONG_TOGETHER / self.message_bytes.max(1)).max(4);
        let long = Arc::new(Semaphore::new(places));
        let limit = self.message_bytes;
        let gathering = tokio::spawn(Gatherer::new(self, stop.clone()).run(waiting));
        let (mut said, mut stopping) = (false, stop.clone());
        loop {
            let next = async {
                let permit = permit(&allowed, &mut said).await;
                (permit, incoming.next().await)
            };
            // Who has connected before the service stops is heard.
            let next = tokio::select! {
                next = next => Some(next),
                () = stopped_for(&mut stopping, LULL) => None,
            };
            let Some((permit, (stream, peer))) = next else { break };
            let connection = Connection {
                framer: Framer::new(limit),
                long: Arc::clone(&long),
                place: None,
                stop: stop.clone(),
                last: None,
            };
            let frames = frames.clone();
            tokio::spawn(async move {
                debug!(%peer, "syslog connects");
                connection.read(stream, &frames).await;
                debug!(%peer, "syslog disconnects");
                drop(permit);
            });
        }
        // Ends when the last connection has handed over what it read.
        drop(frames);
        let _ = gathering.await;
    }
}

/// Resolves so long after the service has begun to stop.
async fn stopped_for(stop: &mut watch::Receiver<bool>, time: Duration) {
    let _ = stop.wait_for(|stop| *stop).await;
    tokio::time::sleep(time).await;
}

/// A place for one more connection.
async fn permit(allowed: &Arc<Semaphore>, said: &mut bool) -> Option<OwnedSemaphorePermit> {
    let all_taken = allowed.available_permits() == 0;
    if all_taken && !std::mem::replace(said, true) {
        warn!("as many syslog connections are open as `connections` allows; others wait");
    }
    Arc::clone(allowed).acquire_owned().await.ok()
}

impl Connection {
    /// Reads until the connection ends or the service stops.
    async fn read(mut self, mut stream: impl AsyncRead + Unpin, to: &mpsc::Sender<Vec<Frame>>) {
        loop {
            let end = self.more(&mut stream).await;
            let mut frames: Vec<Frame> = std::iter::from_fn(|| self.framer.next_frame()).collect();
            match end {
                None => frames.extend(self.make_room().await),
                Some(End::Closed) => frames.extend(self.framer.end(true)),
                Some(End::Cut) => frames.extend(self.framer.end(false)),
            }
            // Waits here while nothing can be stored, and reads nothing meanwhile.
            if !frames.is_empty() && to.send(frames).await.is_err() || end.is_some() {
                return;
            }
        }
    }

    /// Waits for bytes.
    async fn more(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Option<End> {
        let patience = if self.place.is_some() { LONG_SILENCE } else { Duration::MAX };
        let reading = stream.read_buf(self.framer.room());
        let read = match self.last {
            None => tokio::select! {
                biased;
                _ = self.stop.wait_for(|stop| *stop) => {
                    self.last = Some(Instant::now() + LAST_READS);
                    return None;
                }
                read = timeout(patience, reading) => read,
            },
            Some(last) if Instant::now() >= last => return Some(End::Cut),
            Some(_) => timeout(LULL, reading).await,
        };
        match read {
            Ok(Ok(0)) => Some(End::Closed),
            Ok(Ok(bytes)) => {
                self.framer.came(bytes);
                None
            }
            Ok(Err(cause)) if cause.kind() == io::ErrorKind::Interrupted => None,
            // Too long silent.
            Ok(Err(_)) | Err(_) => Some(End::Cut),
        }
    }

    /// Sees to it that a long message has its place, or gives it up.
    async fn make_room(&mut self) -> Option<Frame> {
        if self.framer.held_bytes() <= LONG {
            self.place = None;
        } else if self.place.is_none() {
            let place = timeout(LONG_WAIT, Arc::clone(&self.long).acquire_owned()).await;
            match place {
                Ok(Ok(place)) => self.place = Some(place),
                _ => return Some(self.framer.give_up("too many long messages came at once")),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parsers;
    use crate::sources::{Delivery, Receipt, Refusal};
    use std::net::SocketAddr;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    /// Keeps what it is handed, after it has refused so many times.
    #[derive(Default)]
    struct Kept {
        refusals: AtomicUsize,
        deliveries: Mutex<Vec<Delivery>>,
    }

    #[async_trait::async_trait]
    impl Take for Kept {
        async fn take(&self, delivery: Delivery) -> Result<Receipt, Refusal> {
            let refuse = |left: usize| left.checked_sub(1);
            if self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, refuse).is_ok() {
                return Err(Refusal::Busy);
            }
            self.deliveries.lock().unwrap().push(delivery);
            Ok(Receipt::default())
        }

        fn position(&self, _: &str, _: &str) -> Option<u64> {
            None
        }
    }

    impl Kept {
        /// Lines with the name of their parser, in the order of their numbers.
        fn lines(&self) -> Vec<(u64, String, String)> {
            let mut lines = Vec::new();
            for piece in self.deliveries.lock().unwrap().iter().flat_map(|d| &d.pieces) {
                let text = String::from_utf8(piece.bytes.to_vec()).unwrap();
                let name = piece.parser.map_or("", |parser| parser.name()).to_owned();
                match piece.are_lines {
                    true => lines.extend(
                        text.lines()
                            .zip(piece.offsets.iter())
                            .map(|(line, at)| (*at, name.clone(), line.to_owned())),
                    ),
                    false => lines.push((piece.offsets[0], name, text)),
                }
            }
            lines.sort();
            lines
        }

        fn rejected(&self) -> Vec<(String, usize)> {
            let all = self.deliveries.lock().unwrap();
            let rejected = all.iter().flat_map(|delivery| &delivery.rejected);
            rejected.map(|one| (one.reason.clone(), one.head.len())).collect()
        }
    }

    struct Running {
        kept: Arc<Kept>,
        address: SocketAddr,
        stop: watch::Sender<bool>,
        serving: tokio::task::JoinHandle<()>,
    }

    async fn start(refusals: usize, connections: usize) -> Running {
        let kept = Arc::new(Kept { refusals: refusals.into(), ..Kept::default() });
        let vault = parsers::by_name("hashicorp_vault_audit").unwrap();
        let syslog = Syslog {
            take: Arc::clone(&kept) as Arc<dyn Take>,
            partition: "here".into(),
            parsers: [("vault".to_owned(), vault)].into(),
            parser: None,
            connections,
            message_bytes: 1 << 20,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let incoming = Incoming::new(listener, None).unwrap();
        let address = incoming.address();
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(syslog.serve(incoming, stopped));
        Running { kept, address, stop, serving }
    }

    impl Running {
        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        async fn end(self) -> Arc<Kept> {
            self.stop.send_replace(true);
            self.serving.await.unwrap();
            self.kept
        }
    }

    /// Waits until it is so; panics where it never is.
    async fn until(is_so: impl Fn() -> bool) {
        let waiting = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(Duration::from_secs(30), waiting).await.expect("it becomes so");
    }

    #[tokio::test]
    async fn what_was_sent_is_stored_when_it_stops() {
        let running = start(2, 8).await;
        let mut one = running.connect().await;
        one.write_all(b"<1>1 - h vault - - - {\"a\":1}\n<1>1 - h other - - - b\n").await.unwrap();
        one.write_all(b"<1>1 - h a\n18 <1>{\n\"pretty\": 1\n}").await.unwrap();
        let mut two = running.connect().await;
        two.write_all(b"<1>\xff\n<1>1 - h a - - - c\nhalf a li").await.unwrap();
        let kept = running.end().await;
        let mut lines: Vec<_> = kept.lines().into_iter().map(|(_, p, text)| (p, text)).collect();
        lines.sort();
        let line = |parser: &str, text: &str| (parser.to_owned(), text.to_owned());
        assert_eq!(
            lines,
            [
                line("", "b"),
                line("", "c"),
                line("", "{\n\"pretty\": 1\n}"),
                line("hashicorp_vault_audit", "{\"a\":1}"),
            ]
        );
        let mut rejected = kept.rejected();
        rejected.sort();
        assert_eq!(
            rejected,
            [
                ("not UTF-8 from byte 3 on".to_owned(), 4),
                ("the connection ended within the message".to_owned(), 9),
                ("the header of RFC 5424 ends too early".to_owned(), 10),
            ]
        );
        drop((one, two));
    }

    #[tokio::test]
    async fn a_long_message_is_whole_and_one_too_long_is_a_dead_letter() {
        let running = start(0, 8).await;
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(900_000));
        let too_long = "y".repeat(3 << 20);
        let text = format!("<1>1 - - - - - - {long}\n<1>{too_long}\n<1>last\n");
        let mut one = running.connect().await;
        one.write_all(text.as_bytes()).await.unwrap();
        one.shutdown().await.unwrap();
        let kept = running.end().await;
        let texts: Vec<String> = kept.lines().into_iter().map(|(_, _, text)| text).collect();
        assert_eq!(texts, [long, "last".to_owned()]);
        let reason = "the message is longer than 1048576 bytes".to_owned();
        assert_eq!(kept.rejected(), [(reason, 64 << 10)]);
    }

    #[tokio::test]
    async fn equal_lines_are_told_apart_and_a_delivery_refused_is_the_same_again() {
        let running = start(3, 8).await;
        let mut one = running.connect().await;
        one.write_all(b"<1>same\n<1>same\n").await.unwrap();
        until(|| !running.kept.deliveries.lock().unwrap().is_empty()).await;
        one.write_all(b"<1>same\n").await.unwrap();
        let kept = running.end().await;
        let deliveries = kept.deliveries.lock().unwrap();
        let origins: Vec<&str> =
            deliveries.iter().flat_map(|d| &d.pieces).map(|piece| &*piece.origin).collect();
        assert_eq!(origins.len(), 2);
        assert_ne!(origins[0], origins[1]);
        drop(deliveries);
        assert_eq!(kept.lines().iter().map(|(at, _, _)| *at).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[tokio::test]
    async fn one_connection_more_than_allowed_waits_for_its_turn() {
        let running = start(0, 1).await;
        let mut one = running.connect().await;
        one.write_all(b"<1>first\n").await.unwrap();
        let mut two = running.connect().await;
        two.write_all(b"<1>second\n").await.unwrap();
        until(|| !running.kept.lines().is_empty()).await;
        drop(one);
        until(|| running.kept.lines().len() == 2).await;
        let kept = running.end().await;
        assert_eq!(kept.lines()[1].2, "second");
    }
}

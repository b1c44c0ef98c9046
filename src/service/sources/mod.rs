//! The sources of the configuration, started and ended: one file for each kind.
//!
//! A kind is a variant of [`Source`] with its settings, a file here that starts it, and the source
//! itself in `telltale_ingest::sources`, which knows nothing of the configuration.

mod files;
mod http;
mod kafka;
mod objects;
mod otlp_grpc;
mod stdin;
mod syslog;

pub use files::tail_of;
pub use kafka::kafka_of;
pub use objects::objects_of;

use super::Service;
use super::gate::Entrance;
use crate::config::{Config, HttpSource, OtlpSource, Source};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use telltale_ingest::sources::Take;
use telltale_ingest::sources::tls::{self, Incoming, TlsAcceptor, TlsFiles};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

/// How long open requests may take once the service stops.
const DRAIN: Duration = Duration::from_secs(5);

/// What may change of a source that listens.
#[derive(Default)]
struct Live {
    tokens: Option<watch::Sender<Arc<[String]>>>,
    /// The other value: what is offered by ALPN.
    tls: Option<(watch::Sender<TlsAcceptor>, &'static [&'static str])>,
}

/// What a reload puts into a source.
pub struct Renewal {
    place: usize,
    tokens: Option<Arc<[String]>>,
    tls: Option<TlsAcceptor>,
}

/// What reads and listens.
pub struct Sources {
    service: Arc<Service>,
    take: Arc<dyn Take>,
    /// Turns true when the service stops; the flag says the same to threads.
    stop: watch::Receiver<bool>,
    stopped: Arc<AtomicBool>,
    servers: Vec<tokio::task::JoinHandle<()>>,
    /// What a reload changes of a source, by its place in the configuration.
    live: BTreeMap<usize, Live>,
    /// Says that standard input has ended.
    stdin_over: Option<tokio::sync::oneshot::Receiver<()>>,
    /// Threads, by the name of their source.
    readers: Vec<(&'static str, std::thread::JoinHandle<()>)>,
}

impl Sources {
    pub fn new(service: &Arc<Service>, stop: watch::Receiver<bool>) -> Self {
        let take: Arc<dyn Take> = Arc::new(Entrance(Arc::clone(&service.gate)));
        let stopped = Arc::default();
        let service = Arc::clone(service);
        let (servers, readers) = (Vec::new(), Vec::new());
        let live = BTreeMap::new();
        Self { service, take, stop, stopped, servers, live, stdin_over: None, readers }
    }

    /// Starts what others connect to. It refuses whatever comes until the service is ready.
    pub async fn listen(&mut self, config: &Config) -> Result<()> {
        for (place, source) in config.source.iter().enumerate() {
            let tls = source.tls()?;
            let live = match source {
                Source::Http(settings) => {
                    self.listen_http(settings, tls, config.service.delivery_bytes).await?
                }
                Source::OtlpGrpc(settings) => self.listen_otlp_grpc(settings, tls).await?,
                Source::Syslog(settings) => {
                    self.listen_syslog(settings, tls, config.scan.record_bytes).await?
                }
                Source::Files(_) | Source::Kafka(_) | Source::Objects(_) | Source::Stdin(_) => {
                    continue;
                }
            };
            self.live.insert(place, live);
        }
        Ok(())
    }

    /// Reads tokens and certificates again; nothing is changed before [`Sources::renew`].
    ///
    /// Errors: a file that cannot be read or is not what it should be.
    pub fn read_again(&self, config: &Config) -> Result<Vec<Renewal>> {
        let mut renewals = Vec::new();
        for (place, source) in config.source.iter().enumerate() {
            let Some(live) = self.live.get(&place) else { continue };
            let tokens = match source {
                Source::Http(HttpSource { tokens_file, .. })
                | Source::OtlpGrpc(OtlpSource { tokens_file, .. }) => {
                    Some(tokens(tokens_file.as_deref())?)
                }
                _ => None,
            };
            let tls = match (source.tls()?, &live.tls) {
                (Some(files), Some((_, protocols))) => Some(tls::acceptor(&files, protocols)?),
                _ => None,
            };
            renewals.push(Renewal { place, tokens, tls });
        }
        Ok(renewals)
    }

    /// Puts in what was read: it counts for every request and connection that is new.
    pub fn renew(&self, renewals: Vec<Renewal>) {
        for Renewal { place, tokens, tls } in renewals {
            let Some(live) = self.live.get(&place) else { continue };
            if let (Some(tokens), Some(own)) = (tokens, &live.tokens) {
                own.send_replace(tokens);
            }
            if let (Some(tls), Some((own, _))) = (tls, &live.tls) {
                own.send_replace(tls);
            }
        }
    }

    /// Starts what goes and reads, once it is known how far it came.
    pub fn read(&mut self, config: &Config) -> Result<()> {
        for source in &config.source {
            match source {
                Source::Files(settings) => self.read_files(settings, config)?,
                Source::Kafka(settings) => self.read_kafka(settings)?,
                Source::Objects(settings) => {
                    self.read_objects(settings, config.scan.limits())?;
                }
                Source::Stdin(settings) => self.read_stdin(settings, config.scan.limits())?,
                Source::Http(_) | Source::OtlpGrpc(_) | Source::Syslog(_) => {}
            }
        }
        Ok(())
    }

    /// Ends all of them; returns when what they had taken is settled or their time is over.
    pub async fn end(self) {
        self.stopped.store(true, Ordering::Relaxed);
        // All of them were told at the same time.
        let until = Instant::now() + DRAIN;
        let mut are_cut_off = false;
        for server in self.servers {
            are_cut_off |= timeout_at(until, server).await.is_err();
        }
        if are_cut_off {
            warn!("requests that were still open are cut off");
        }
        let readers = self.readers;
        let joined = tokio::task::spawn_blocking(move || {
            for (name, reader) in readers {
                if reader.join().is_err() {
                    error!("the source `{name}` panicked, which is a fault of telltale");
                }
            }
        });
        let _ = joined.await;
    }

    /// Runs `read` on a thread of its own, which returns soon after the flag is set.
    fn on_thread(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Arc<AtomicBool>) + Send + 'static,
    ) -> Result<()> {
        let stopped = Arc::clone(&self.stopped);
        let thread = std::thread::Builder::new().name(name.to_owned());
        let reader = thread.spawn(move || read(&stopped)).context("cannot start a thread")?;
        self.readers.push((name, reader));
        Ok(())
    }
}

/// Resolves when the service stops.
async fn stopping(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Listens; with TLS where there are files for it, which offers `protocols`.
async fn bind(
    address: &str,
    tls: Option<TlsFiles>,
    protocols: &'static [&'static str],
) -> Result<(Incoming, Live)> {
    let tls = tls.map(|files| tls::acceptor(&files, protocols)).transpose()?;
    let (sender, receiver) = tls.map(watch::channel).unzip();
    let live = Live { tokens: None, tls: sender.map(|sender| (sender, protocols)) };
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("cannot listen on `{address}`"))?;
    let incoming = Incoming::new(listener, receiver).context("a socket has an address")?;
    Ok((incoming, live))
}

/// The tokens of a file, one on a line; none where there is no file.
pub fn tokens(path: Option<&Path>) -> Result<Arc<[String]>> {
    let Some(path) = path else { return Ok(Arc::default()) };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the tokens in `{}`", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let tokens: Vec<String> = lines.map(str::to_owned).collect();
    anyhow::ensure!(!tokens.is_empty(), "`{}` holds no token", path.display());
    Ok(tokens.into())
}

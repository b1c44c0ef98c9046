//! Connections of whatever listens: plain, or over TLS, where senders may have to show a certificate.
//!
//! Handshakes are made beside one another and have a time limit, so that nobody who connects and says
//! nothing keeps others waiting.

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;
pub use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at once; who comes later waits.
const HANDSHAKES: usize = 256;
/// Connections that wait to be served once they have shaken hands.
const WAITING: usize = 16;
/// How long is waited after an `accept` that failed: sockets may be free then.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Where a listener's certificate lies, as PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate, and those between it and its root.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Roots, of one of which a client has to show a certificate.
    pub client_ca: Option<PathBuf>,
}

/// Why TLS cannot be had.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("`{path}` cannot be read as PEM: {cause}")]
    File { path: PathBuf, cause: pem::Error },
    #[error("`{0}` holds no certificate")]
    Empty(PathBuf),
    #[error("the certificate `{cert}` and the key `{key}`: {cause}")]
    Pair { cert: PathBuf, key: PathBuf, cause: rustls::Error },
    #[error("the certificates of clients, `{path}`: {cause}")]
    ClientCa { path: PathBuf, cause: String },
}

/// What makes TLS of a connection. `protocols` are those that are offered by ALPN.
pub fn acceptor(files: &TlsFiles, protocols: &[&str]) -> Result<TlsAcceptor, TlsError> {
    let TlsFiles { cert, key, client_ca } = files;
    let certs = certificates(cert)?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|cause| TlsError::File { path: key.clone(), cause })?;
    // Two providers are in the program, of which rustls would choose neither by itself.
    let provider = Arc::new(ring::default_provider());
    let pair = |cause| TlsError::Pair { cert: cert.clone(), key: key.clone(), cause };
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(pair)?;
    let config = match client_ca {
        None => config.with_no_client_auth(),
        Some(path) => config.with_client_cert_verifier(verifier(path, provider)?),
    };
    let mut config = config.with_single_cert(certs, private).map_err(pair)?;
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file = |cause| TlsError::File { path: path.to_owned(), cause };
    let certs = CertificateDer::pem_file_iter(path).map_err(file)?;
    let certs: Vec<_> = certs.collect::<Result<_, _>>().map_err(file)?;
    match certs.is_empty() {
        true => Err(TlsError::Empty(path.to_owned())),
        false => Ok(certs),
    }
}

fn verifier(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let client_ca = |cause: String| TlsError::ClientCa { path: path.to_owned(), cause };
    let mut roots = RootCertStore::empty();
    for root in certificates(path)? {
        roots.add(root).map_err(|cause| client_ca(cause.to_string()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map_err(|cause| client_ca(cause.to_string()))
}

/// Connections, ready to be served.
pub struct Incoming {
    arrivals: Arrivals,
    address: SocketAddr,
    /// One for each connection that may be open, where they are bounded.
    places: Option<Arc<Semaphore>>,
    /// Whether it was said that all of them are taken.
    said: bool,
}

enum Arrivals {
    Plain(TcpListener),
    Tls(mpsc::Receiver<(Box<TlsStream<TcpStream>>, SocketAddr)>),
}

impl Incoming {
    /// What `tls` holds counts for every new connection.
    ///
    /// Errors: a socket without an address.
    pub fn new(
        listener: TcpListener,
        tls: Option<watch::Receiver<TlsAcceptor>>,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let arrivals = match tls {
            None => Arrivals::Plain(listener),
            Some(acceptor) => {
                let (ready, connections) = mpsc::channel(WAITING);
                tokio::spawn(shake_hands(listener, acceptor, ready));
                Arrivals::Tls(connections)
            }
        };
        Ok(Self { arrivals, address, places: None, said: false })
    }

    /// Lets so many connections be open at once; others wait.
    pub fn at_most(mut self, connections: usize) -> Self {
        let places = connections.clamp(1, Semaphore::MAX_PERMITS);
        self.places = Some(Arc::new(Semaphore::new(places)));
        self
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next one, which may be dropped while it is waited for.
    pub async fn next(&mut self) -> (Connection, SocketAddr) {
        let place = self.place().await;
        let (stream, peer) = match &mut self.arrivals {
            Arrivals::Plain(listener) => {
                let (stream, peer) = accept(listener).await;
                (Stream::Plain(stream), peer)
            }
            Arrivals::Tls(connections) => match connections.recv().await {
                Some((stream, peer)) => (Stream::Tls(stream), peer),
                // The task that sends ends only with this receiver.
                None => std::future::pending().await,
            },
        };
        (Connection { stream, _place: place }, peer)
    }

    /// A place for one more connection, where they are bounded.
    async fn place(&mut self) -> Option<OwnedSemaphorePermit> {
        let places = Arc::clone(self.places.as_ref()?);
        if places.available_permits() == 0 && !std::mem::replace(&mut self.said, true) {
            let address = self.address;
            warn!(%address, "as many are open as `connections` allows; others wait");
        }
        places.acquire_owned().await.ok()
    }

    /// All of them, as tonic wants them.
    pub fn into_stream(self) -> impl futures::Stream<Item = io::Result<Connection>> {
        futures::stream::unfold(self, |mut incoming| async {
            let (connection, _) = incoming.next().await;
            Some((Ok(connection), incoming))
        })
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // A peer that vanished without a word is let go some day.
                let _ = socket2::SockRef::from(&stream).set_keepalive(true);
                return (stream, peer);
            }
            // It went away before it was looked at.
            Err(cause) if cause.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(cause) => {
                warn!(%cause, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Runs until nobody takes connections any more.
async fn shake_hands(
    listener: TcpListener,
    acceptor: watch::Receiver<TlsAcceptor>,
    ready: mpsc::Sender<(Box<TlsStream<TcpStream>>, SocketAddr)>,
) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, accept(&listener).await)
        };
        let (place, (stream, peer)) = tokio::select! {
            next = next => next,
            () = ready.closed() => return,
        };
        let (acceptor, ready) = (acceptor.borrow().clone(), ready.clone());
        tokio::spawn(async move {
            match timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let _ = ready.send((Box::new(stream), peer)).await;
                }
                // Scanners and senders without TLS are no reason to fill the log.
                Ok(Err(cause)) => debug!(%peer, %cause, "a TLS handshake failed"),
                Err(_) => debug!(%peer, "a TLS handshake took too long"),
            }
            drop(place);
        });
    }
}

/// One connection.
pub struct Connection {
    stream: Stream,
    /// Free again once it ends.
    _place: Option<OwnedSemaphorePermit>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Calls `$poll` on whichever stream it is.
macro_rules! of_either {
    ($self:ident.$poll:ident($($argument:expr),*)) => {
        match &mut $self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).$poll($($argument),*),
            Stream::Tls(stream) => Pin::new(stream).$poll($($argument),*),
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        of_either!(self.poll_read(context, buffer))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        of_either!(self.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        of_either!(self.poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_either!(self.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_either!(self.poll_shutdown(context))
    }
}

impl tonic::transport::server::Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn files() -> (tempfile::TempDir, TlsFiles) {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (folder, TlsFiles { cert, key, client_ca: None })
    }

    #[tokio::test]
    async fn who_says_nothing_or_speaks_no_tls_keeps_nobody_waiting() {
        let (_folder, files) = files();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let acceptor = acceptor(&files, &[]).unwrap();
        let (_files, acceptor) = watch::channel(acceptor);
        let mut incoming = Incoming::new(listener, Some(acceptor)).unwrap();
        let address = incoming.address();
        let _silent = TcpStream::connect(address).await.unwrap();
        let mut plain = TcpStream::connect(address).await.unwrap();
        plain.write_all(b"<13>this is no TLS, which is seen at once\n").await.unwrap();
        // It is told so and the connection is closed.
        let mut alert = Vec::new();
        let _ = plain.read_to_end(&mut alert).await;
        let mut roots = RootCertStore::empty();
        roots.add(certificates(&files.cert).unwrap().remove(0)).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let sending = tokio::spawn(async move {
            let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
            let mut stream = connector.connect(name, stream).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let (mut connection, _) = incoming.next().await;
        let mut said = String::new();
        connection.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "hello");
        sending.await.unwrap();
    }

    #[test]
    fn what_is_wrong_with_the_files_is_named() {
        let (folder, files) = files();
        let said = |files: &TlsFiles| acceptor(files, &[]).err().unwrap().to_string();
        let swapped = TlsFiles { cert: files.key.clone(), ..files.clone() };
        assert!(said(&swapped).ends_with("key.pem` holds no certificate"), "{}", said(&swapped));
        let missing = TlsFiles { key: folder.path().join("none.pem"), ..files.clone() };
        assert!(said(&missing).contains("none.pem` cannot be read as PEM"), "{}", said(&missing));
        let other = self::files();
        let foreign = TlsFiles { key: other.1.key.clone(), ..files.clone() };
        assert!(said(&foreign).starts_with("the certificate `"), "{}", said(&foreign));
        let client_ca = Some(files.key.clone());
        assert!(said(&TlsFiles { client_ca, ..files }).contains("holds no certificate"));
    }
}

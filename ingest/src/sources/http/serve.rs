//! The server: connections are bounded in number, and a sender that says nothing is let go.

use crate::sources::tls::Incoming;
use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::debug;

/// How long the head of a request may take, and how long a connection may be silent between two.
pub const HEAD: Duration = Duration::from_secs(30);

/// Serves `router` until `stop` is done and what was begun before it is answered. A head may take as
/// long as `head` says.
pub async fn serve(
    mut incoming: Incoming,
    router: Router,
    head: Duration,
    stop: impl Future<Output = ()>,
) {
    // What looks at the beginning of a connection for HTTP/2 has no timeout: there is none.
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(head);
    let builder = Arc::new(builder);
    let (stopping, stopped) = watch::channel(());
    let mut stop = pin!(stop);
    loop {
        let (connection, peer) = tokio::select! {
            next = incoming.next() => next,
            () = &mut stop => break,
        };
        let service = TowerToHyperService::new(router.clone());
        let (builder, mut stopped) = (Arc::clone(&builder), stopped.clone());
        tokio::spawn(async move {
            let serving = builder.serve_connection(TokioIo::new(connection), service);
            let mut serving = pin!(serving);
            let outcome = tokio::select! {
                outcome = serving.as_mut() => outcome,
                _ = stopped.changed() => {
                    serving.as_mut().graceful_shutdown();
                    serving.await
                }
            };
            if let Err(cause) = outcome {
                debug!(%peer, %cause, "a connection broke");
            }
            drop(stopped);
        });
    }
    drop((incoming, stopped));
    // Nobody listens any more where there is no connection.
    let _ = stopping.send(());
    stopping.closed().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn who_says_nothing_is_let_go_and_others_come_in_their_turn() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let incoming = Incoming::new(listener, None).unwrap().at_most(2);
        let address = incoming.address();
        let router = Router::new().route("/", get(|| async { "hello" }));
        let (stop, stopped) = oneshot::channel::<()>();
        let head = Duration::from_millis(500);
        let serving = tokio::spawn(serve(incoming, router, head, async {
            let _ = stopped.await;
        }));
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut half = TcpStream::connect(address).await.unwrap();
        half.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
        // There are two places, and both of them are taken.
        let mut third = TcpStream::connect(address).await.unwrap();
        for _ in 0..2 {
            third.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let mut answer = [0; 15];
            third.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200 OK");
            let mut rest = Vec::new();
            while !rest.ends_with(b"hello") {
                assert!(third.read_buf(&mut rest).await.unwrap() > 0);
            }
        }
        let mut said = Vec::new();
        silent.read_to_end(&mut said).await.unwrap();
        half.read_to_end(&mut said).await.unwrap();
        stop.send(()).unwrap();
        serving.await.unwrap();
        assert_eq!(third.read(&mut [0; 1]).await.unwrap(), 0);
    }
}

//! Bodies that are posted: `POST /v1/logs/{parser}`, and the paths of what senders already speak.
//!
//! A body is NDJSON, an array or the parser's own container, plain, gzip or zstd. The answer says
//! what became of its records and comes when they are on disk. A body that stops half way is not
//! stored at all.
//!
//! `serve` the server · `body` how one is taken in · `native` our own path · `splunk` HTTP Event
//! Collector · `elastic` `_bulk` · `otlp` OTLP/HTTP

mod body;
mod elastic;
mod native;
mod otlp;
mod serve;
mod splunk;

pub use serve::{HEAD, serve};

use super::Room;
use super::delivery::{Delivery, Piece, Receipt, Refusal, Take};
use crate::parsers::Parser;
use crate::redact::decode_base64;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use body::Posted;
use bytes::Bytes;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_128;

/// What the source is called.
const SOURCE: &str = "http";

/// How bodies are taken.
#[derive(Clone)]
pub struct Http {
    pub take: Arc<dyn Take>,
    /// Bytes of a body as it is sent.
    pub body_bytes: usize,
    /// Bytes of a body once decompressed, for the paths that look into it.
    pub plain_bytes: usize,
    /// What all bodies have together.
    pub room: Room,
    /// The tokens of which a sender has to show one; anybody may send where there is none.
    /// They may change meanwhile.
    pub tokens: watch::Receiver<Arc<[String]>>,
}

/// The paths that senders post to.
pub fn routes(http: Http) -> Router {
    let http = Arc::new(http);
    Router::new()
        .merge(native::routes())
        .merge(splunk::routes())
        .merge(elastic::routes())
        .merge(otlp::routes())
        .route_layer(middleware::from_fn_with_state(Arc::clone(&http), admit))
        .merge(splunk::open_routes())
        .with_state(http)
}

/// Lets a request pass that shows a token, where one is asked for.
async fn admit(State(http): State<Arc<Http>>, request: Request, next: Next) -> Response {
    let tokens = Arc::clone(&http.tokens.borrow());
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
    if is_admitted(&tokens, shown) {
        return next.run(request).await;
    }
    let mut response = failed(StatusCode::UNAUTHORIZED, "send `Authorization: Bearer TOKEN`");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Whether what a sender shows as `Authorization` holds one of the tokens, or none is asked for.
pub(super) fn is_admitted(tokens: &[String], authorization: Option<&str>) -> bool {
    if tokens.is_empty() {
        return true;
    }
    let Some((scheme, shown)) = authorization.and_then(|text| text.split_once(' ')) else {
        return false;
    };
    let (scheme, shown) = (scheme.to_ascii_lowercase(), shown.trim());
    // Where a sender can be told no more than a user or an id, the token stands behind it.
    let behind_id = || {
        let decoded = String::from_utf8(decode_base64(shown.as_bytes())).ok();
        let token = decoded.as_deref().and_then(|pair| pair.split_once(':'));
        token.is_some_and(|(_, token)| is_one_of(tokens, token))
    };
    match scheme.as_str() {
        "bearer" | "splunk" => is_one_of(tokens, shown),
        "apikey" => is_one_of(tokens, shown) || behind_id(),
        "basic" => behind_id(),
        _ => false,
    }
}

/// Hashes are compared, so that the time it takes says nothing of the token.
fn is_one_of(tokens: &[String], shown: &str) -> bool {
    let shown = blake3::hash(shown.as_bytes());
    tokens.iter().fold(false, |known, own| known | (blake3::hash(own.as_bytes()) == shown))
}

impl Http {
    /// Hands a body over; `partition` is what the accounts call its path.
    async fn deliver(
        &self,
        partition: &str,
        parser: Option<&'static dyn Parser>,
        are_lines: bool,
        bytes: Bytes,
    ) -> Result<Receipt, Refusal> {
        let piece = Piece {
            parser,
            // The same body again is the same records again.
            origin: format!("http:{:032x}", xxh3_128(&bytes)).into(),
            bytes,
            are_lines,
            offsets: Arc::default(),
        };
        let pieces = vec![piece];
        let (source, partition) = (SOURCE.into(), partition.into());
        let rejected = Vec::new();
        self.take.take(Delivery { source, partition, pieces, rejected, position: None }).await
    }
}

/// The status of a refusal, and after how many seconds a sender tries again.
fn status(refusal: &Refusal) -> (StatusCode, Option<&'static str>) {
    match refusal {
        Refusal::Oversized(_) => (StatusCode::PAYLOAD_TOO_LARGE, None),
        Refusal::Malformed(_) => (StatusCode::BAD_REQUEST, None),
        Refusal::Busy => (StatusCode::TOO_MANY_REQUESTS, Some("1")),
        Refusal::Full => (StatusCode::INSUFFICIENT_STORAGE, Some("30")),
        Refusal::Broken => (StatusCode::SERVICE_UNAVAILABLE, Some("10")),
        Refusal::Closed => (StatusCode::SERVICE_UNAVAILABLE, Some("2")),
    }
}

fn refused(refusal: &Refusal) -> Response {
    let (status, seconds) = status(refusal);
    with_retry(failed(status, &refusal.to_string()), seconds)
}

fn with_retry(mut response: Response, seconds: Option<&'static str>) -> Response {
    if let Some(seconds) = seconds {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
    }
    response
}

fn failed(status: StatusCode, error: &str) -> Response {
    (status, axum::Json(json!({ "error": error }))).into_response()
}

/// Does what takes long beside the threads that serve.
///
/// Errors: what the sender is told where it panicked.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Response> {
    tokio::task::spawn_blocking(work).await.map_err(|cause| {
        failed(StatusCode::INTERNAL_SERVER_ERROR, &format!("the body cannot be read: {cause}"))
    })
}

#[cfg(test)]
mod tests;

//! Bodies that are posted: `POST /v1/logs/{parser}`, and the paths of what senders already speak.
//!
//! A body is NDJSON, an array or the parser's own container, plain, gzip or zstd. The answer says
//! what became of its records and comes when they are on disk. A body that stops half way is not
//! stored at all.
//!
//! `native` our own path · `splunk` HTTP Event Collector · `elastic` `_bulk` · `otlp` OTLP/HTTP

mod elastic;
mod native;
mod otlp;
mod splunk;

use super::delivery::{Delivery, Piece, Receipt, Refusal, Take};
use crate::parsers::Parser;
use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::json;
use std::io::Read;
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
        .with_state(http)
}

/// Lets a request pass that shows a token, where one is asked for.
async fn admit(State(http): State<Arc<Http>>, request: Request, next: Next) -> Response {
    let tokens = Arc::clone(&http.tokens.borrow());
    if tokens.is_empty() || is_known(&tokens, request.headers()) {
        return next.run(request).await;
    }
    let mut response = failed(StatusCode::UNAUTHORIZED, "send `Authorization: Bearer TOKEN`");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

fn is_known(tokens: &[String], headers: &HeaderMap) -> bool {
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = shown.and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        ["bearer", "splunk", "apikey"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
            .then_some(token.trim())
    });
    token.is_some_and(|token| is_one_of(tokens, token))
}

/// Hashes are compared, so that the time it takes says nothing of the token.
pub(super) fn is_one_of(tokens: &[String], shown: &str) -> bool {
    let shown = blake3::hash(shown.as_bytes());
    tokens.iter().fold(false, |known, own| known | (blake3::hash(own.as_bytes()) == shown))
}

/// A whole body as it was sent.
struct Posted(Bytes);

impl FromRequest<Arc<Http>> for Posted {
    type Rejection = Response;

    async fn from_request(request: Request, http: &Arc<Http>) -> Result<Self, Response> {
        let headers = request.headers();
        let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str());
        if let Some(encoding) = encoding
            && !matches!(encoding, Ok("gzip" | "x-gzip" | "zstd" | "identity" | ""))
        {
            let hint = "the body may be plain, gzip or zstd";
            return Err(failed(StatusCode::UNSUPPORTED_MEDIA_TYPE, hint));
        }
        let too_large = || {
            let limit = http.body_bytes >> 20;
            let hint = format!("a body may have {limit} MiB; send it in parts");
            failed(StatusCode::PAYLOAD_TOO_LARGE, &hint)
        };
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        if announced.and_then(|len| len.parse::<usize>().ok()).is_some_and(|n| n > http.body_bytes)
        {
            return Err(too_large());
        }
        read(request.into_body(), http.body_bytes).await.map(Self).map_err(
            |is_long| match is_long {
                true => too_large(),
                false => failed(
                    StatusCode::BAD_REQUEST,
                    "the body ends too early; nothing of it is stored",
                ),
            },
        )
    }
}

/// The whole body, or whether it was too long.
async fn read(body: Body, limit: usize) -> Result<Bytes, bool> {
    axum::body::to_bytes(body, limit).await.map_err(|cause| {
        let mut cause: Option<&dyn std::error::Error> = Some(&cause);
        let mut causes = std::iter::from_fn(|| {
            let this = cause?;
            cause = this.source();
            Some(this)
        });
        // The limit's own error type is not public; its text is.
        causes.any(|cause| cause.to_string().contains("length limit"))
    })
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

    /// The body without its compression.
    ///
    /// Errors: what the sender is told.
    fn plain(&self, bytes: &Bytes) -> Result<Bytes, (StatusCode, String)> {
        let mut plain = Vec::new();
        let limit = self.plain_bytes as u64 + 1;
        let read = match bytes.as_ref() {
            [0x1f, 0x8b, ..] => flate2::bufread::MultiGzDecoder::new(bytes.as_ref())
                .take(limit)
                .read_to_end(&mut plain),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => zstd::Decoder::with_buffer(bytes.as_ref())
                .and_then(|decoder| decoder.take(limit).read_to_end(&mut plain)),
            _ => return Ok(bytes.clone()),
        };
        match read {
            Ok(read) if read as u64 == limit => Err((
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is too long once decompressed; send it in parts".to_owned(),
            )),
            Ok(_) => Ok(plain.into()),
            Err(cause) => {
                let hint = format!("the body cannot be decompressed: {cause}");
                Err((StatusCode::BAD_REQUEST, hint))
            }
        }
    }
}

/// The status of a refusal, and after how many seconds a sender tries again.
fn status(refusal: &Refusal) -> (StatusCode, Option<&'static str>) {
    match refusal {
        Refusal::Oversized(_) => (StatusCode::PAYLOAD_TOO_LARGE, None),
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

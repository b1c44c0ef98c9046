//! A body on its way in: bounded in size, in time, and in the memory of all of them together.

use super::{Http, aside, failed, refused, with_retry};
use crate::sources::blocks::{is_compressed, packed};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

/// How long a sender may be silent within a body.
const PAUSE: Duration = Duration::from_secs(30);
/// How long a body may take.
const LONGEST: Duration = Duration::from_secs(300);

/// A whole body as it was sent.
pub(super) struct Posted {
    pub bytes: Bytes,
    /// Its share of the memory for all of them, to be kept as long as the bytes are.
    pub room: OwnedSemaphorePermit,
}

impl FromRequest<Arc<Http>> for Posted {
    type Rejection = Response;

    async fn from_request(request: Request, http: &Arc<Http>) -> Result<Self, Response> {
        let headers = request.headers();
        if let Some(hint) = unreadable(headers) {
            return Err(failed(StatusCode::UNSUPPORTED_MEDIA_TYPE, hint));
        }
        let too_large = || {
            let limit = http.body_bytes >> 20;
            let hint = format!("a body may have {limit} MiB; send it in parts");
            failed(StatusCode::PAYLOAD_TOO_LARGE, &hint)
        };
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let announced = announced.and_then(|len| len.parse::<usize>().ok()).unwrap_or_default();
        if announced > http.body_bytes {
            return Err(too_large());
        }
        // Memory is taken as bytes come, not as they are announced.
        let mut room = http.room.take(0).await.map_err(|cause| refused(&cause))?;
        let (mut bytes, mut parts) = (BytesMut::new(), request.into_body().into_data_stream());
        let until = Instant::now() + LONGEST;
        loop {
            let part = match timeout_at(until.min(Instant::now() + PAUSE), parts.next()).await {
                Ok(Some(Ok(part))) => part,
                Ok(None) => return Ok(Self { bytes: bytes.freeze(), room }),
                Ok(Some(Err(_))) => {
                    let hint = "the body ends too early; nothing of it is stored";
                    return Err(failed(StatusCode::BAD_REQUEST, hint));
                }
                Err(_) => {
                    let hint = "the body comes too slowly; nothing of it is stored";
                    return Err(failed(StatusCode::REQUEST_TIMEOUT, hint));
                }
            };
            let len = bytes.len() + part.len();
            if len > http.body_bytes {
                return Err(too_large());
            }
            http.room.grow(&mut room, len).await.map_err(|cause| refused(&cause))?;
            if bytes.is_empty() {
                bytes.reserve(announced.max(len));
            }
            bytes.extend_from_slice(&part);
        }
    }
}

impl Posted {
    /// The answer to a file of a kind that no parser reads; `None` for any other body.
    pub(super) fn refusal(&self) -> Option<Response> {
        let hint = format!("the body is {}", packed(&self.bytes)?);
        Some(failed(StatusCode::UNSUPPORTED_MEDIA_TYPE, &hint))
    }

    /// Whether it is compressed in a way that is read.
    pub(super) fn is_compressed(&self) -> bool {
        is_compressed(&self.bytes)
    }

    /// The body without its compression.
    ///
    /// Errors: what the sender is told.
    pub(super) async fn plain(self, http: &Http) -> Result<Self, Response> {
        if !self.is_compressed() {
            return Ok(self);
        }
        let Self { bytes, mut room } = self;
        let limit = http.plain_bytes;
        let opened = aside(move || open(&bytes, limit)).await?;
        let bytes = opened.map_err(|(status, hint)| with_retry(failed(status, &hint), None))?;
        http.room.grow(&mut room, bytes.len()).await.map_err(|cause| refused(&cause))?;
        Ok(Self { bytes, room })
    }
}

/// What a sender is told whose body nobody could read, as its headers say.
fn unreadable(headers: &HeaderMap) -> Option<&'static str> {
    let of = |name| headers.get(name).map(|value: &HeaderValue| value.as_bytes().trim_ascii());
    let codings: [&[u8]; 5] = [b"gzip", b"x-gzip", b"zstd", b"identity", b""];
    if let Some(coding) = of(header::CONTENT_ENCODING)
        && !codings.iter().any(|known| coding.eq_ignore_ascii_case(known))
    {
        return Some("the body may be plain, gzip or zstd");
    }
    let kind = of(header::CONTENT_TYPE)?;
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
    let packed: [&[u8]; 3] =
        [b"application/msgpack", b"application/x-msgpack", b"application/vnd.msgpack"];
    packed.iter().any(|known| kind.eq_ignore_ascii_case(known)).then_some(
        "MessagePack is not read; have JSON lines sent, in Fluent Bit with `format json_lines`",
    )
}

/// Takes gzip or zstd off.
fn open(bytes: &[u8], limit: usize) -> Result<Bytes, (StatusCode, String)> {
    let mut plain = Vec::new();
    let most = limit as u64 + 1;
    let read = match bytes {
        [0x1f, 0x8b, ..] => {
            flate2::bufread::MultiGzDecoder::new(bytes).take(most).read_to_end(&mut plain)
        }
        _ => zstd::Decoder::with_buffer(bytes)
            .and_then(|decoder| decoder.take(most).read_to_end(&mut plain)),
    };
    match read {
        Ok(read) if read > limit => Err((
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

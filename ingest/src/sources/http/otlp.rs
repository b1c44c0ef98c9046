//! OTLP/HTTP: `POST /v1/logs`, as protobuf or as JSON. What records become is in `sources::otlp`.

use super::{Http, Posted, aside, failed, status, with_retry};
use crate::sources::Receipt;
use crate::sources::otlp::{Unread, delivery, told};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use prost::Message;
use serde_json::{Value, json};
use std::sync::Arc;

pub fn routes() -> Router<Arc<Http>> {
    Router::new().route("/v1/logs", post(logs))
}

async fn logs(State(http): State<Arc<Http>>, headers: HeaderMap, posted: Posted) -> Response {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    let is_json = kind.trim().eq_ignore_ascii_case("application/json");
    let plain = match posted.plain(&http).await {
        Ok(plain) => plain,
        Err(response) => return response,
    };
    let bytes = plain.bytes.clone();
    let delivery = match aside(move || delivery("http", &bytes, is_json)).await {
        Ok(Ok(delivery)) => delivery,
        Ok(Err(cause)) => {
            let status = match cause {
                Unread::Malformed(_) => StatusCode::BAD_REQUEST,
                Unread::TooMany => StatusCode::PAYLOAD_TOO_LARGE,
            };
            return failed(status, &cause.to_string());
        }
        Err(response) => return response,
    };
    match http.take.take(delivery).await {
        Ok(receipt) if is_json => axum::Json(told_as_json(&receipt)).into_response(),
        Ok(receipt) => {
            let body = told(&receipt).encode_to_vec();
            ([(header::CONTENT_TYPE, "application/x-protobuf")], body).into_response()
        }
        Err(refusal) => {
            let (status, seconds) = status(&refusal);
            // 507 is none of the answers after which a sender of OTLP tries again.
            let status = match status {
                StatusCode::INSUFFICIENT_STORAGE => StatusCode::SERVICE_UNAVAILABLE,
                other => other,
            };
            with_retry(failed(status, &refusal.to_string()), seconds)
        }
    }
}

/// What a sender is told, as protobuf is spelled in JSON: numbers of 64 bits are text.
fn told_as_json(receipt: &Receipt) -> Value {
    match told(receipt).partial_success {
        Some(partial) => json!({ "partialSuccess": {
            "rejectedLogRecords": partial.rejected_log_records.to_string(),
            "errorMessage": partial.error_message,
        } }),
        None => json!({}),
    }
}

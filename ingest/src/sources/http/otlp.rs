//! OTLP/HTTP: `POST /v1/logs`, as protobuf or as JSON. What records become is in `sources::otlp`.

use super::{Http, Posted, failed, status, with_retry};
use crate::sources::otlp::{delivery, told};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message;
use std::sync::Arc;

pub fn routes() -> Router<Arc<Http>> {
    Router::new().route("/v1/logs", post(logs))
}

async fn logs(State(http): State<Arc<Http>>, headers: HeaderMap, posted: Posted) -> Response {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_json = kind.is_some_and(|kind| kind.starts_with("application/json"));
    let plain = match posted.plain(&http).await {
        Ok(plain) => plain,
        Err(response) => return response,
    };
    let request = match is_json {
        true => serde_json::from_slice(&plain.bytes).map_err(|cause| cause.to_string()),
        false => {
            ExportLogsServiceRequest::decode(plain.bytes.clone()).map_err(|cause| cause.to_string())
        }
    };
    let request = match request {
        Ok(request) => request,
        Err(cause) => {
            let hint = format!("no OTLP logs: {cause}; raw logs go to /v1/logs/PARSER");
            return failed(StatusCode::BAD_REQUEST, &hint);
        }
    };
    match http.take.take(delivery("http", request)).await {
        Ok(receipt) if is_json => axum::Json(told(&receipt)).into_response(),
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

//! `POST /v1/logs/{parser}`: our own path. `auto` leaves it to each record which log it is of.
//!
//! Okta looks whether the receiver of an event hook is its owner's: it asks with GET, and the answer has
//! what it sent. <https://developer.okta.com/docs/concepts/event-hooks/>

use super::{Http, Posted, failed, refused};
use crate::parsers::{self, PARSERS};
use crate::sources::Receipt;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use std::sync::Arc;

const CHALLENGE: &str = "x-okta-verification-challenge";

pub fn routes() -> Router<Arc<Http>> {
    Router::new().route("/v1/logs/{parser}", post(logs).get(verify))
}

async fn logs(
    State(http): State<Arc<Http>>,
    Path(name): Path<String>,
    posted: Result<Posted, Response>,
) -> Response {
    let parser = match (name.as_str(), parsers::by_name(&name)) {
        ("auto", _) => None,
        (_, Some(parser)) => Some(parser),
        (_, None) => {
            let names: Vec<_> = PARSERS.iter().map(|parser| parser.name()).collect();
            let hint =
                format!("unknown parser `{name}`; there are {} and `auto`", names.join(", "));
            return failed(StatusCode::NOT_FOUND, &hint);
        }
    };
    let posted = match posted {
        Ok(posted) => posted,
        Err(response) => return response,
    };
    if let Some(refusal) = posted.refusal() {
        return refusal;
    }
    let Posted { bytes, room: _room } = posted;
    match http.deliver(&name, parser, false, bytes).await {
        Ok(receipt) => axum::Json(told(&receipt)).into_response(),
        Err(refusal) => refused(&refusal),
    }
}

async fn verify(headers: HeaderMap) -> Response {
    match headers.get(CHALLENGE).and_then(|value| value.to_str().ok()) {
        Some(challenge) => axum::Json(json!({ "verification": challenge })).into_response(),
        None => failed(StatusCode::METHOD_NOT_ALLOWED, "logs are posted here"),
    }
}

/// `{"received","stored","duplicate","rejected","rejects":[…]}`
fn told(receipt: &Receipt) -> Value {
    let rejects: Vec<Value> = receipt
        .rejects
        .iter()
        .map(|r| json!({ "position": r.position, "reason": r.reason, "count": r.count }))
        .collect();
    json!({
        "received": receipt.received,
        "stored": receipt.stored,
        "duplicate": receipt.duplicate,
        "rejected": receipt.rejected,
        "rejects": rejects,
    })
}

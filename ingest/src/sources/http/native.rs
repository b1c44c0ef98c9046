//! `POST /v1/logs/{parser}`: our own path. `auto` leaves it to each record which log it is of.

use super::{Http, Posted, failed, refused};
use crate::parsers::{self, PARSERS};
use crate::sources::Receipt;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use std::sync::Arc;

pub fn routes() -> Router<Arc<Http>> {
    Router::new().route("/v1/logs/{parser}", post(logs))
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
    match http.deliver(&name, parser, false, posted.bytes.clone()).await {
        Ok(receipt) => axum::Json(told(&receipt)).into_response(),
        Err(refusal) => refused(&refusal),
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

//! Splunk's HTTP Event Collector, as Vector, Fluent Bit, Okta's log streaming and Splunk's own
//! clients speak it: `/services/collector/event` with events in envelopes, `…/raw` with records as
//! they are, whose `sourcetype` may name a parser. The token is the service's own.
//! <https://docs.splunk.com/Documentation/Splunk/latest/RESTREF/RESTinput>

use super::{Http, Posted, status, with_retry};
use crate::parsers;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// What the accounts call these paths.
const PARTITION: &str = "splunk_hec";

pub fn routes() -> Router<Arc<Http>> {
    Router::new()
        .route("/services/collector", post(events))
        .route("/services/collector/event", post(events))
        .route("/services/collector/event/1.0", post(events))
        .route("/services/collector/raw", post(raw))
        .route("/services/collector/raw/1.0", post(raw))
        .route("/services/collector/health", get(health))
        .route("/services/collector/health/1.0", get(health))
}

#[derive(Deserialize)]
struct Metadata {
    sourcetype: Option<String>,
}

async fn health() -> Response {
    answer(StatusCode::OK, 17, "HEC is healthy")
}

async fn events(State(http): State<Arc<Http>>, posted: Posted) -> Response {
    if posted.bytes.is_empty() {
        return answer(StatusCode::BAD_REQUEST, 5, "No data");
    }
    told(http.deliver(PARTITION, None, false, posted.bytes.clone()).await)
}

async fn raw(
    State(http): State<Arc<Http>>,
    Query(Metadata { sourcetype }): Query<Metadata>,
    posted: Posted,
) -> Response {
    if posted.bytes.is_empty() {
        return answer(StatusCode::BAD_REQUEST, 5, "No data");
    }
    let parser = sourcetype.as_deref().and_then(parsers::by_name);
    told(http.deliver(PARTITION, parser, false, posted.bytes.clone()).await)
}

fn told(outcome: Result<crate::sources::Receipt, crate::sources::Refusal>) -> Response {
    match outcome {
        // What was rejected is kept as a dead letter: sending it again would not help.
        Ok(_) => answer(StatusCode::OK, 0, "Success"),
        Err(refusal) => {
            let (status, seconds) = status(&refusal);
            with_retry(answer(status, 9, &format!("Server is busy: {refusal}")), seconds)
        }
    }
}

fn answer(status: StatusCode, code: u32, text: &str) -> Response {
    (status, axum::Json(json!({ "text": text, "code": code }))).into_response()
}

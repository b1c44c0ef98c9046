//! Splunk's HTTP Event Collector, as Vector, Fluent Bit, Okta's log streaming and Splunk's own
//! clients speak it: `/services/collector/event` with events in envelopes, `…/raw` with records as
//! they are, whose `sourcetype` may name a parser. The token is the service's own.
//! <https://docs.splunk.com/Documentation/Splunk/latest/RESTREF/RESTinput>

use super::{Http, Posted, aside, status, with_retry};
use crate::container::{Found, Walk};
use crate::json::Marks;
use crate::parsers;
use crate::sources::{Receipt, Refusal};
use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// What the accounts call these paths.
const PARTITION: &str = "splunk_hec";

/// Bytes of a body of which one record is enough to take it for events.
const BEGINNING: usize = 64 << 10;

pub fn routes() -> Router<Arc<Http>> {
    // Docker's driver asks with OPTIONS whether somebody is there.
    let events = || -> MethodRouter<Arc<Http>> { post(events).options(health) };
    Router::new()
        .route("/services/collector", events())
        .route("/services/collector/", events())
        .route("/services/collector/event", events())
        .route("/services/collector/event/1.0", events())
        .route("/services/collector/raw", post(raw))
        .route("/services/collector/raw/1.0", post(raw))
}

/// What balancers ask, which have no token.
pub fn open_routes() -> Router<Arc<Http>> {
    Router::new()
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

/// The answer to a body in which there can be no event.
fn refusal(posted: &Posted) -> Option<Response> {
    let is_empty = posted.bytes.trim_ascii().is_empty();
    posted.refusal().or_else(|| is_empty.then(|| answer(StatusCode::BAD_REQUEST, 5, "No data")))
}

async fn events(State(http): State<Arc<Http>>, posted: Posted) -> Response {
    if let Some(refusal) = refusal(&posted) {
        return refusal;
    }
    if !posted.is_compressed() && !has_object(&posted.bytes[..posted.bytes.len().min(BEGINNING)]) {
        let bytes = posted.bytes.clone();
        match aside(move || has_object(&bytes)).await {
            Ok(true) => {}
            Ok(false) => return answer(StatusCode::BAD_REQUEST, 6, "Invalid data format"),
            Err(response) => return response,
        }
    }
    let Posted { bytes, room: _room } = posted;
    told(http.deliver(PARTITION, None, false, bytes).await)
}

/// Whether a body that begins as JSON has an object that is whole. One of text may have records of text.
fn has_object(body: &[u8]) -> bool {
    let is_whole = |bytes: &[u8]| {
        let (marks, mut walk, mut at) = (Marks::of(bytes), Walk::default(), 0);
        loop {
            match walk.next(&marks, bytes, &mut at) {
                Found::Record(..) => return true,
                Found::Junk(_) => {}
                Found::Cut(_) | Found::End => return false,
            }
        }
    };
    let mut begins = body.iter().filter(|byte| !byte.is_ascii_whitespace());
    let is_json = match begins.next() {
        Some(b'{') => true,
        Some(b'[') => matches!(begins.next(), None | Some(b'{' | b'[' | b'"')),
        _ => false,
    };
    !is_json || is_whole(body) || body.split(|byte| *byte == b'\n').skip(1).any(is_whole)
}

async fn raw(
    State(http): State<Arc<Http>>,
    Query(Metadata { sourcetype }): Query<Metadata>,
    posted: Posted,
) -> Response {
    if let Some(refusal) = refusal(&posted) {
        return refusal;
    }
    let parser = sourcetype.as_deref().and_then(parsers::by_name);
    let Posted { bytes, room: _room } = posted;
    told(http.deliver(PARTITION, parser, false, bytes).await)
}

fn told(outcome: Result<Receipt, Refusal>) -> Response {
    match outcome {
        // What was rejected is kept as a dead letter: sending it again would not help.
        Ok(_) => answer(StatusCode::OK, 0, "Success"),
        Err(Refusal::Malformed(why)) => answer(StatusCode::BAD_REQUEST, 6, &why),
        Err(refusal) => {
            let (status, seconds) = status(&refusal);
            with_retry(answer(status, 9, &format!("Server is busy: {refusal}")), seconds)
        }
    }
}

fn answer(status: StatusCode, code: u32, text: &str) -> Response {
    (status, axum::Json(json!({ "text": text, "code": code }))).into_response()
}

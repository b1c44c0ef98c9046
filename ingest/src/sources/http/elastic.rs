//! Elasticsearch's `_bulk`, as Logstash, Fluent Bit, Vector and rsyslog speak it. A document is a
//! record, or holds one as `message`, `event.original` and the like.
//! <https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk>

use super::{Http, Posted, failed, status, with_retry};
use crate::container::bulk_action;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;

/// What the accounts call these paths.
const PARTITION: &str = "elastic_bulk";
/// The version that senders are told: one whose `_bulk` all of them speak.
const VERSION: &str = "8.17.0";

pub fn routes() -> Router<Arc<Http>> {
    Router::new()
        .route("/", get(hello))
        .route("/_bulk", post(bulk).put(bulk))
        .route("/{index}/_bulk", post(bulk).put(bulk))
        .route("/_cluster/health", get(health))
}

async fn hello() -> Response {
    answer(json!({
        "name": "telltale",
        "cluster_name": "telltale",
        "version": { "number": VERSION, "build_flavor": "default" },
        "tagline": "You Know, for Search",
    }))
}

async fn health() -> Response {
    answer(json!({ "cluster_name": "telltale", "status": "green", "timed_out": false }))
}

async fn bulk(State(http): State<Arc<Http>>, Posted(bytes): Posted) -> Response {
    let plain = match http.plain(&bytes) {
        Ok(plain) => plain,
        Err((status, hint)) => return failed(status, &hint),
    };
    let (documents, items) = documents(&plain);
    match http.deliver(PARTITION, None, true, documents).await {
        // What was rejected is kept as a dead letter: sending it again would not help.
        Ok(_) => answer(json!({ "took": 0, "errors": false, "items": items })),
        Err(refusal) => {
            let (status, seconds) = status(&refusal);
            let cause =
                json!({ "type": "es_rejected_execution_exception", "reason": refusal.to_string() });
            let body = json!({ "error": cause, "status": status.as_u16() });
            with_retry((status, axum::Json(body)).into_response(), seconds)
        }
    }
}

/// The documents of a body, one on a line, and what is answered for each.
fn documents(body: &[u8]) -> (Bytes, Vec<Value>) {
    let (mut documents, mut items) = (Vec::with_capacity(body.len()), Vec::new());
    let mut lines =
        body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|l| !l.is_empty());
    while let Some(line) = lines.next() {
        let action = std::str::from_utf8(line).ok().and_then(bulk_action);
        let document = match action {
            Some(_) => lines.next().unwrap_or_default(),
            // A line that is no action is taken for a document, so that nothing is lost.
            None => line,
        };
        if document.is_empty() {
            continue;
        }
        documents.extend_from_slice(document);
        documents.push(b'\n');
        let done = json!({ "_index": "telltale", "_id": items.len().to_string(), "status": 201, "result": "created" });
        items.push(json!({ action.unwrap_or("create"): done }));
    }
    (documents.into(), items)
}

/// Elastic's own clients want to see its name.
fn answer(body: Value) -> Response {
    let mut response = axum::Json(body).into_response();
    let name = HeaderName::from_static("x-elastic-product");
    response.headers_mut().insert(name, HeaderValue::from_static("Elasticsearch"));
    response
}

//! Elasticsearch's `_bulk`, as Logstash, Filebeat, Fluent Bit, Vector and rsyslog speak it. A document is
//! a record, or holds one as `message`, `event.original` and the like.
//! <https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk>
//!
//! Before they send, some of them ask for the licence and set up templates, policies and pipelines: they
//! are told that it is done.

use super::{Http, Posted, aside, failed, status, with_retry};
use crate::container::bulk_action;
use crate::sources::Refusal;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use bytes::Bytes;
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::Arc;

/// What the accounts call these paths.
const PARTITION: &str = "elastic_bulk";
/// The version that senders are told: one whose `_bulk` all of them speak.
const VERSION: &str = "8.17.0";
/// Documents of a body; each is answered.
const MAX_DOCUMENTS: usize = 100_000;

pub fn routes() -> Router<Arc<Http>> {
    Router::new()
        .route("/", get(hello))
        .route("/_bulk", post(bulk).put(bulk))
        .route("/{index}/_bulk", post(bulk).put(bulk))
        .route("/{index}/_doc/_bulk", post(bulk).put(bulk))
        .route("/{index}/_doc", post(document))
        .route("/_cluster/health", get(health))
        .route("/_license", get(license))
        .route("/_component_template/{name}", any(acknowledged))
        .route("/_data_stream/{name}", any(acknowledged))
        .route("/_ilm/policy/{name}", any(acknowledged))
        .route("/_index_template/{name}", any(acknowledged))
        .route("/_ingest/pipeline/{name}", any(acknowledged))
        .route("/_template/{name}", any(acknowledged))
}

async fn hello() -> Response {
    answer(json!({
        "name": "telltale",
        "cluster_name": "telltale",
        "cluster_uuid": "telltale",
        "version": {
            "number": VERSION,
            "build_flavor": "default",
            "build_type": "tar",
            "build_hash": "0000000000000000000000000000000000000000",
            "build_date": "2024-12-11T12:08:05.663969764Z",
            "build_snapshot": false,
            "lucene_version": "9.12.0",
            "minimum_wire_compatibility_version": "7.17.0",
            "minimum_index_compatibility_version": "7.0.0",
        },
        "tagline": "You Know, for Search",
    }))
}

/// Logstash does not send without one.
async fn license() -> Response {
    answer(json!({ "license": { "status": "active", "type": "basic", "uid": "telltale" } }))
}

/// What is set up is there already, as far as senders are concerned.
async fn acknowledged() -> Response {
    answer(json!({ "acknowledged": true }))
}

async fn health() -> Response {
    answer(json!({ "cluster_name": "telltale", "status": "green", "timed_out": false }))
}

async fn bulk(State(http): State<Arc<Http>>, posted: Posted) -> Response {
    let plain = match posted.plain(&http).await {
        Ok(plain) => plain,
        Err(response) => return response,
    };
    let Posted { bytes, room: _room } = plain;
    let (documents, actions) = match aside(move || documents(&bytes)).await {
        Ok(Some(documents)) => documents,
        Ok(None) => {
            let hint = format!("a body may have {MAX_DOCUMENTS} documents; send it in parts");
            return failed(StatusCode::PAYLOAD_TOO_LARGE, &hint);
        }
        Err(response) => return response,
    };
    if actions.is_empty() {
        return error(StatusCode::BAD_REQUEST, "parse_exception", "request body is required");
    }
    match http.deliver(PARTITION, None, true, documents).await {
        // What was rejected is kept as a dead letter: sending it again would not help.
        Ok(_) => named(created(&actions)),
        Err(refusal) => refused(&refusal),
    }
}

/// One document.
async fn document(State(http): State<Arc<Http>>, posted: Posted) -> Response {
    if posted.bytes.trim_ascii().is_empty() {
        return error(StatusCode::BAD_REQUEST, "parse_exception", "request body is required");
    }
    let Posted { bytes, room: _room } = posted;
    match http.deliver(PARTITION, None, false, bytes).await {
        Ok(_) => {
            let body = json!({
                "_index": "telltale", "_id": "0", "_version": 1, "result": "created",
                "_shards": { "total": 1, "successful": 1, "failed": 0 },
            });
            named((StatusCode::CREATED, axum::Json(body)).into_response())
        }
        Err(refusal) => refused(&refusal),
    }
}

fn refused(refusal: &Refusal) -> Response {
    let (status, seconds) = status(refusal);
    let kind = match refusal {
        Refusal::Malformed(_) => "parse_exception",
        _ => "es_rejected_execution_exception",
    };
    with_retry(error(status, kind, &refusal.to_string()), seconds)
}

fn error(status: StatusCode, kind: &str, reason: &str) -> Response {
    let cause = json!({ "type": kind, "reason": reason });
    let body = json!({ "error": cause, "status": status.as_u16() });
    named((status, axum::Json(body)).into_response())
}

/// The documents of a body, one on a line, and every action of it; `None` where there are
/// too many.
fn documents(body: &[u8]) -> Option<(Bytes, Vec<&'static str>)> {
    let (mut documents, mut actions) = (Vec::with_capacity(body.len()), Vec::new());
    let mut lines =
        body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|l| !l.is_empty());
    while let Some(line) = lines.next() {
        let action = std::str::from_utf8(line).ok().and_then(bulk_action);
        let document = match action {
            // It has no document, and nothing is deleted here.
            Some("delete") => b"".as_slice(),
            Some(_) => lines.next().unwrap_or_default(),
            // A line that is no action is taken for a document, so that nothing is lost.
            None => line,
        };
        if document.is_empty() && action != Some("delete") {
            continue;
        }
        if actions.len() == MAX_DOCUMENTS {
            return None;
        }
        if !document.is_empty() {
            documents.extend_from_slice(document);
            documents.push(b'\n');
        }
        actions.push(action.unwrap_or("create"));
    }
    Some((documents.into(), actions))
}

/// The answer that every document was taken. As text: a body may have very many.
fn created(actions: &[&str]) -> Response {
    let mut body = String::from(r#"{"took":0,"errors":false,"items":["#);
    for (number, action) in actions.iter().enumerate() {
        let separator = if number == 0 { "" } else { "," };
        let (status, result) = match *action {
            "delete" => (200, "noop"),
            _ => (201, "created"),
        };
        // Writing to a `String` does not fail.
        let _ = write!(
            body,
            r#"{separator}{{"{action}":{{"_index":"telltale","_id":"{number}","status":{status},"result":"{result}"}}}}"#
        );
    }
    body.push_str("]}");
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn answer(body: Value) -> Response {
    named(axum::Json(body).into_response())
}

/// Elastic's own clients want to see its name.
fn named(mut response: Response) -> Response {
    let name = HeaderName::from_static("x-elastic-product");
    response.headers_mut().insert(name, HeaderValue::from_static("Elasticsearch"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_a_bounded_number_of_documents() {
        let (of_two, actions) = documents(b"{\"index\":{}}\n{\"a\":1}\n\n{\"b\":2}\n").unwrap();
        assert_eq!(of_two, "{\"a\":1}\n{\"b\":2}\n");
        assert_eq!(actions, ["index", "create"]);
        let (none, actions) =
            documents(b"{\"delete\":{\"_id\":\"1\"}}\n{\"index\":{}}\n{\"a\":1}\n").unwrap();
        assert_eq!((none.as_ref(), actions), (b"{\"a\":1}\n".as_slice(), vec!["delete", "index"]));
        assert!(documents("x\n".repeat(MAX_DOCUMENTS).as_bytes()).is_some());
        assert!(documents("x\n".repeat(MAX_DOCUMENTS + 1).as_bytes()).is_none());
    }
}

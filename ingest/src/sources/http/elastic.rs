//! Elasticsearch's `_bulk`, as Logstash, Fluent Bit, Vector and rsyslog speak it. A document is a
//! record, or holds one as `message`, `event.original` and the like.
//! <https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk>

use super::{Http, Posted, failed, status, with_retry};
use crate::container::bulk_action;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
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

async fn bulk(State(http): State<Arc<Http>>, posted: Posted) -> Response {
    let plain = match posted.plain(&http).await {
        Ok(plain) => plain,
        Err(response) => return response,
    };
    let Some((documents, actions)) = documents(&plain.bytes) else {
        let hint = format!("a body may have {MAX_DOCUMENTS} documents; send it in parts");
        return failed(StatusCode::PAYLOAD_TOO_LARGE, &hint);
    };
    match http.deliver(PARTITION, None, true, documents).await {
        // What was rejected is kept as a dead letter: sending it again would not help.
        Ok(_) => named(created(&actions)),
        Err(refusal) => {
            let (status, seconds) = status(&refusal);
            let cause =
                json!({ "type": "es_rejected_execution_exception", "reason": refusal.to_string() });
            let body = json!({ "error": cause, "status": status.as_u16() });
            with_retry((status, axum::Json(body)).into_response(), seconds)
        }
    }
}

/// The documents of a body, one on a line, and what was to be done with each; `None` where there are
/// too many.
fn documents(body: &[u8]) -> Option<(Bytes, Vec<&'static str>)> {
    let (mut documents, mut actions) = (Vec::with_capacity(body.len()), Vec::new());
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
        if actions.len() == MAX_DOCUMENTS {
            return None;
        }
        documents.extend_from_slice(document);
        documents.push(b'\n');
        actions.push(action.unwrap_or("create"));
    }
    Some((documents.into(), actions))
}

/// The answer that every document was taken. As text: a body may have very many.
fn created(actions: &[&str]) -> Response {
    let mut body = String::from(r#"{"took":0,"errors":false,"items":["#);
    for (number, action) in actions.iter().enumerate() {
        let separator = if number == 0 { "" } else { "," };
        // Writing to a `String` does not fail.
        let _ = write!(
            body,
            r#"{separator}{{"{action}":{{"_index":"telltale","_id":"{number}","status":201,"result":"created"}}}}"#
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
        assert!(documents("x\n".repeat(MAX_DOCUMENTS).as_bytes()).is_some());
        assert!(documents("x\n".repeat(MAX_DOCUMENTS + 1).as_bytes()).is_none());
    }
}

//! The HTTP server: bodies in, and what the service says of itself.

use super::Service;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use std::sync::Arc;

/// `/healthz`, `/readyz` and `/metrics`.
pub fn routes(service: Arc<Service>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(service)
}

/// 200 once recovery is over, for as long as deliveries are let in and judged.
async fn ready(State(service): State<Arc<Service>>) -> impl IntoResponse {
    if !service.gate.is_open() {
        (StatusCode::SERVICE_UNAVAILABLE, "the journal is being read or was ended\n")
    } else if service.stats.detectors_running.get() == 0 {
        (StatusCode::SERVICE_UNAVAILABLE, "the detectors panicked; restart the service\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

async fn metrics(State(service): State<Arc<Service>>) -> impl IntoResponse {
    // Files are looked at.
    let text = tokio::task::spawn_blocking(move || service.metrics()).await.unwrap_or_default();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

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

/// 200 once recovery is over and deliveries are let in.
async fn ready(State(service): State<Arc<Service>>) -> impl IntoResponse {
    match service.gate.is_open() {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the journal is being read\n"),
    }
}

async fn metrics(State(service): State<Arc<Service>>) -> impl IntoResponse {
    // Files are looked at.
    let text = tokio::task::spawn_blocking(move || service.metrics()).await.unwrap_or_default();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

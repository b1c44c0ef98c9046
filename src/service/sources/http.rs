//! Bodies over HTTP, and what the service says of itself.

use super::{Sources, bind, stopping, tokens};
use crate::config::HttpSource;
use crate::service::server;
use anyhow::{Context, Result};
use std::sync::Arc;
use telltale_ingest::sources::http::{self, Http};
use tracing::{error, info};

impl Sources {
    pub(super) async fn listen_http(
        &mut self,
        settings: &HttpSource,
        plain_bytes: usize,
    ) -> Result<()> {
        let tokens = tokens(settings.tokens_file.as_deref())?;
        let take = Arc::clone(&self.take);
        let http = Http { take, body_bytes: settings.body_bytes, plain_bytes, tokens };
        let router = http::routes(http).merge(server::routes(Arc::clone(&self.service)));
        let listener = bind(&settings.listen).await?;
        let address = listener.local_addr().context("a socket has an address")?;
        info!(%address, "takes bodies over HTTP");
        let stop = stopping(self.stop.clone());
        self.servers.push(tokio::spawn(async move {
            let serving = axum::serve(listener, router).with_graceful_shutdown(stop);
            if let Err(cause) = serving.await {
                error!(%cause, "the HTTP server ended");
            }
        }));
        Ok(())
    }
}

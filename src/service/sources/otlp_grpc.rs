//! OTLP logs over gRPC.

use super::{Sources, bind, stopping, tokens};
use crate::config::OtlpSource;
use anyhow::{Context, Result};
use std::sync::Arc;
use telltale_ingest::sources::otlp::Otlp;
use tracing::{error, info};

impl Sources {
    pub(super) async fn listen_otlp_grpc(&mut self, settings: &OtlpSource) -> Result<()> {
        let tokens = tokens(settings.tokens_file.as_deref())?;
        let otlp = Otlp { take: Arc::clone(&self.take), tokens, body_bytes: settings.body_bytes };
        let listener = bind(&settings.listen).await?;
        let address = listener.local_addr().context("a socket has an address")?;
        info!(%address, "takes OTLP over gRPC");
        let stop = stopping(self.stop.clone());
        self.servers.push(tokio::spawn(async move {
            if let Err(cause) = otlp.serve(listener, stop).await {
                error!(%cause, "the gRPC server ended");
            }
        }));
        Ok(())
    }
}

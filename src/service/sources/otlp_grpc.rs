//! OTLP logs over gRPC.

use super::{Live, Sources, bind, stopping, tokens};
use crate::config::OtlpSource;
use anyhow::Result;
use std::sync::Arc;
use telltale_ingest::sources::otlp::Otlp;
use telltale_ingest::sources::tls::TlsFiles;
use tokio::sync::watch;
use tracing::{error, info};

impl Sources {
    pub(super) async fn listen_otlp_grpc(
        &mut self,
        settings: &OtlpSource,
        tls: Option<TlsFiles>,
    ) -> Result<Live> {
        let (own, tokens) = watch::channel(tokens(settings.tokens_file.as_deref())?);
        let otlp = Otlp { take: Arc::clone(&self.take), tokens, body_bytes: settings.body_bytes };
        let is_tls = tls.is_some();
        // Clients of gRPC insist on being offered HTTP/2.
        let (incoming, live) = bind(&settings.listen, tls, &["h2"]).await?;
        let incoming = incoming.at_most(settings.connections);
        info!(address = %incoming.address(), tls = is_tls, "takes OTLP over gRPC");
        let stop = stopping(self.stop.clone());
        self.servers.push(tokio::spawn(async move {
            if let Err(cause) = otlp.serve(incoming, stop).await {
                error!(%cause, "the gRPC server ended");
            }
        }));
        Ok(Live { tokens: Some(own), ..live })
    }
}

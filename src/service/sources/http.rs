//! Bodies over HTTP, and what the service says of itself.

use super::{Live, Sources, bind, stopping, tokens};
use crate::config::HttpSource;
use crate::service::server;
use anyhow::Result;
use std::sync::Arc;
use telltale_ingest::sources::Room;
use telltale_ingest::sources::http::{self, Http};
use telltale_ingest::sources::tls::TlsFiles;
use tokio::sync::watch;
use tracing::info;

/// Bodies of the greatest length that there is memory for at once.
const BODIES: usize = 2;

impl Sources {
    pub(super) async fn listen_http(
        &mut self,
        settings: &HttpSource,
        tls: Option<TlsFiles>,
        plain_bytes: usize,
    ) -> Result<Live> {
        let (own, tokens) = watch::channel(tokens(settings.tokens_file.as_deref())?);
        let take = Arc::clone(&self.take);
        let body_bytes = settings.body_bytes;
        let room = Room::of(BODIES * body_bytes);
        let http = Http { take, body_bytes, plain_bytes, room, tokens };
        let router = http::routes(http).merge(server::routes(Arc::clone(&self.service)));
        let is_tls = tls.is_some();
        let (incoming, live) = bind(&settings.listen, tls, &["http/1.1"]).await?;
        let incoming = incoming.at_most(settings.connections);
        info!(address = %incoming.address(), tls = is_tls, "takes bodies over HTTP");
        let stop = stopping(self.stop.clone());
        self.servers.push(tokio::spawn(http::serve(incoming, router, http::HEAD, stop)));
        Ok(Live { tokens: Some(own), ..live })
    }
}

//! Syslog over TCP.

use super::{Live, Sources, bind};
use crate::commands::parser;
use crate::config::SyslogSource;
use anyhow::Result;
use std::sync::Arc;
use telltale_ingest::sources::syslog::Syslog;
use telltale_ingest::sources::tls::TlsFiles;
use tracing::info;

impl Sources {
    /// `record_bytes`: what a message may have unless the source says it.
    pub(super) async fn listen_syslog(
        &mut self,
        settings: &SyslogSource,
        tls: Option<TlsFiles>,
        record_bytes: usize,
    ) -> Result<Live> {
        let of_apps = settings.parsers.iter();
        let syslog = Syslog {
            take: Arc::clone(&self.take),
            // One for all senders: their addresses would be ever more, and are kept for ever.
            partition: settings.listen.as_str().into(),
            parsers: of_apps
                .map(|(app, name)| Ok((app.clone(), parser(name)?)))
                .collect::<Result<_>>()?,
            parser: settings.parser.as_deref().map(parser).transpose()?,
            connections: settings.connections,
            message_bytes: settings.message_bytes.unwrap_or(record_bytes),
        };
        let is_tls = tls.is_some();
        let (incoming, live) = bind(&settings.listen, tls, &[]).await?;
        info!(address = %incoming.address(), tls = is_tls, "takes syslog over TCP");
        self.servers.push(tokio::spawn(syslog.serve(incoming, self.stop.clone())));
        Ok(live)
    }
}

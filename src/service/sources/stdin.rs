//! Standard input.

use super::Sources;
use crate::commands::parser;
use crate::config::{Config, Source, StdinSource};
use anyhow::Result;
use std::sync::Arc;
use telltale_ingest::sources::Limits;
use telltale_ingest::sources::stdin::Stdin;
use tokio::sync::oneshot;
use tracing::info;

impl Sources {
    pub(super) fn read_stdin(&mut self, settings: &StdinSource, limits: Limits) -> Result<()> {
        let parser = settings.parser.as_deref().map(parser);
        let (take, stop) = (Arc::clone(&self.take), Arc::clone(&self.stopped));
        let stdin = Stdin { take, parser: parser.transpose()?, limits, stop };
        let runtime = tokio::runtime::Handle::current();
        let (over, is_over) = oneshot::channel();
        self.stdin_over = Some(is_over);
        info!("reads standard input");
        self.on_thread("stdin", move |_| {
            stdin.run(std::io::stdin(), &runtime);
            let _ = over.send(());
        })
    }

    /// Resolves when nothing can come any more: standard input was all there is, and has ended.
    pub fn over(&mut self, config: &Config) -> impl Future<Output = ()> + use<> {
        let is_all = config.source.iter().all(|source| matches!(source, Source::Stdin(_)));
        let over = self.stdin_over.take().filter(|_| is_all);
        async move {
            match over {
                // It may also have panicked, which is said elsewhere.
                Some(over) => drop(over.await),
                None => std::future::pending().await,
            }
        }
    }
}

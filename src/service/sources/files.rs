//! Files that are written while they are read.

use super::Sources;
use crate::config::{Config, FilesSource, ReadFrom};
use anyhow::Result;
use std::sync::Arc;
use telltale_ingest::sources::tail::{Tail, TailSource};
use tracing::info;

/// What the source is told of its settings, and of those of the service.
pub fn tail_of(settings: &FilesSource, config: &Config) -> Tail {
    let FilesSource { paths, exclude, parser, poll_interval, read_from } = settings.clone();
    Tail {
        paths,
        exclude,
        parser,
        poll_interval,
        from_end: read_from == ReadFrom::End,
        record_bytes: config.scan.record_bytes,
        document_bytes: config.service.delivery_bytes,
    }
}

impl Sources {
    pub(super) fn read_files(&mut self, settings: &FilesSource, config: &Config) -> Result<()> {
        let tail = tail_of(settings, config);
        let paths = tail.paths.join(" ");
        let source = TailSource::open(tail, Arc::clone(&self.take))
            .map_err(|cause| anyhow::anyhow!("the source `files` of `{paths}`: {cause}"))?;
        info!(paths, "reads files");
        let runtime = tokio::runtime::Handle::current();
        self.on_thread("files", move |stop| source.run(&runtime, stop))
    }
}

//! Objects of an object store.

use super::Sources;
use crate::commands::parser;
use crate::config::ObjectsSource;
use anyhow::{Context, Result, bail};
use std::sync::Arc;
use telltale_ingest::sources::Limits;
use telltale_ingest::sources::objects::{self, Objects, SOURCE};
use telltale_queries::objects as stores;
use tracing::info;

/// What the source is told of its settings. Connects to nothing yet.
pub fn objects_of(settings: &ObjectsSource, limits: Limits) -> Result<Objects> {
    let ObjectsSource { url, options, layout, parser: name, poll_interval, lookback, since } =
        settings;
    let (store, prefix) = stores::open(url, options)?;
    let name =
        name.as_deref().map(parser).transpose().context("the parser of the source `objects`")?;
    let since = match since {
        Some(day) => match objects::day(day) {
            Some(since) => Some(since),
            None => bail!(
                "`since = \"{day}\"` of the source `objects` is no day; write it as `2026-03-01`"
            ),
        },
        None => None,
    };
    let bucket = url.split('/').take(3).collect::<Vec<_>>().join("/");
    Ok(Objects {
        store,
        prefix,
        name: bucket,
        layout: *layout,
        parser: name,
        poll_interval: *poll_interval,
        lookback: *lookback,
        since,
        limits,
    })
}

impl Sources {
    pub(super) fn read_objects(&mut self, settings: &ObjectsSource, limits: Limits) -> Result<()> {
        let source = objects_of(settings, limits)?;
        let take = Arc::clone(&self.take);
        info!(url = settings.url, "reads objects");
        let runtime = tokio::runtime::Handle::current();
        self.on_thread(SOURCE, move |stop| source.run(take.as_ref(), &runtime, stop))
    }
}
